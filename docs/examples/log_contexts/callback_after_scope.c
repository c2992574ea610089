/* A block that is left before its work has ended, which goes on in callbacks. */
#include "log_contexts.h"

static weft_deferred *do_request_handling(void)
{
    weft_log_debug("handling");
    return some_io();
}

static weft_result cb(weft_result result, void *unused)
{
    (void)unused;
    weft_log_debug("finished");
    return result;
}

static weft_deferred *handle_request(const char *request_id)
{
    weft_auto(weft_context_unref) weft_context *request_context = weft_context_new(request_id);
    weft_deferred *d = NULL;

    weft_preserve_context(request_context) {
        d = do_request_handling();
        weft_deferred_add_callback(d, cb, NULL);
    }
    return d;
}

void callback_after_scope(void)
{
    weft_deferred *first = handle_request("request-1"), *second = handle_request("request-2");

    weft_log_info("both are under way");
    finish(first);
    finish(second);
}

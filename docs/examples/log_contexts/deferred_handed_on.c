/* Stuff after other stuff, by callbacks, of a function that does not care for contexts. */
#include "log_contexts.h"

static weft_deferred *do_some_stuff(void)
{
    weft_log_debug("some stuff");
    return some_io();
}

static weft_result do_some_more_stuff(weft_result result, void *unused)
{
    (void)unused;
    weft_log_debug("some more stuff");
    return result;
}

static weft_deferred *handle_request(void)
{
    weft_deferred *r = do_some_stuff();

    weft_deferred_add_callback(r, do_some_more_stuff, NULL);
    return r;
}

void deferred_handed_on(void)
{
    weft_auto(weft_context_unref) weft_context *request_context = weft_context_new("request-1");
    weft_deferred *r = NULL;

    weft_preserve_context(request_context)
        r = handle_request();
    weft_log_info("the caller goes on");
    finish(r);
}

/* One wait after the other: nothing to think of. */
#include "log_contexts.h"

static weft_deferred *do_some_stuff(void)
{
    return some_io();
}

static weft_deferred *do_some_more_stuff(void)
{
    return some_io();
}

static weft_result handle_request(void *unused)
{
    (void)unused;
    WEFT_TRY(weft_await(do_some_stuff()));
    weft_log_debug("some stuff is done");
    WEFT_TRY(weft_await(do_some_more_stuff()));
    weft_log_debug("some more stuff is done");
    return weft_ok(NULL);
}

static weft_deferred *start(const char *request_id)
{
    weft_auto(weft_context_unref) weft_context *request_context = weft_context_new(request_id);
    weft_deferred *request = NULL;

    weft_preserve_context(request_context)
        request = weft_spawn(handle_request, NULL);
    return request;
}

void two_waits(void)
{
    weft_deferred *first = start("request-1"), *second = start("request-2");

    weft_log_info("both are under way");
    finish(first);
    finish(second);
}

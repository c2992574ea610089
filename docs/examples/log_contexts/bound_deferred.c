/* A deferred whose callbacks run in the context of the call that returned it, also when they are added elsewhere. */
#include "log_contexts.h"

static weft_deferred *do_some_io(void)
{
    return some_io();
}

static weft_deferred *do_some_stuff(void)
{
    weft_deferred *deferred = do_some_io();
    weft_deferred *pcd = weft_deferred_new_bound(weft_context_current(), NULL, NULL);

    weft_deferred_forward(deferred, pcd);
    return pcd;
}

static weft_result do_some_more_stuff(weft_result result, void *unused)
{
    (void)unused;
    weft_log_debug("some more stuff");
    return result;
}

void bound_deferred(void)
{
    weft_auto(weft_context_unref) weft_context *request_context = weft_context_new("request-1");
    weft_deferred *r = NULL;

    weft_preserve_context(request_context)
        r = do_some_stuff();
    weft_deferred_add_callback(r, do_some_more_stuff, NULL); /* in no context, and yet the request's */
    weft_log_info("the caller goes on");
    finish(r);
}

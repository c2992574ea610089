/* Waiting for what one gets: at once, later, or leaving it to the caller. */
#include "log_contexts.h"

static weft_deferred *do_some_stuff(void)
{
    return some_io();
}

static weft_deferred *more_stuff(void)
{
    return some_io();
}

static weft_result fun(void *unused)
{
    weft_deferred *d;

    (void)unused;
    weft_log_debug("starting");
    WEFT_TRY(weft_await(do_some_stuff())); /* just like this */
    d = more_stuff();
    return weft_await(d); /* also fine, of course */
}

static weft_deferred *fun_without_fiber(void)
{
    weft_log_debug("just a wrapper really");
    return do_some_stuff(); /* this is ok too: the caller will wait for it anyway */
}

static weft_result careless_fun(void *unused)
{
    weft_deferred *d = do_some_stuff();

    (void)unused;
    weft_log_debug("ploughing on regardless");
    WEFT_TRY(weft_await(d));
    weft_log_debug("and waiting in the end");
    return weft_ok(NULL);
}

static weft_result handle_request(void *request_id)
{
    weft_with_context(request_context, weft_context_new(request_id)) {
        WEFT_TRY(fun(NULL));
        WEFT_TRY(weft_await(fun_without_fiber()));
        WEFT_TRY(careless_fun(NULL));
        weft_log_debug("finished");
    }
    return weft_ok(NULL);
}

void always_wait(void)
{
    weft_deferred *request = weft_spawn(handle_request, (void *)"request-1");

    weft_log_info("the caller goes on");
    finish(request);
}

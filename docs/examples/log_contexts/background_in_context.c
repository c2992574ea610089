/* Run in the background, in the request's context. */
#include "log_contexts.h"

static weft_result background_operation(void *unused)
{
    (void)unused;
    WEFT_TRY(weft_await(some_io()));
    weft_log_debug("Completed first step");
    WEFT_TRY(weft_await(some_io()));
    weft_log_debug("Completed second step");
    return weft_ok(NULL);
}

static weft_result do_request_handling(void)
{
    WEFT_TRY(weft_await(some_io())); /* the foreground operation */
    weft_deferred_unref(weft_run_in_background(background_operation, NULL));
    /* this will be logged against the request context */
    weft_log_debug("Request handling complete");
    return weft_ok(NULL);
}

static weft_result handle_request(void *request_id)
{
    weft_with_context(request_context, weft_context_new(request_id))
        WEFT_TRY(do_request_handling());
    return weft_ok(NULL);
}

void background_in_context(void)
{
    finish(weft_spawn(handle_request, (void *)"request-1"));
    weft_log_info("the request has ended");
    finish_all();
}

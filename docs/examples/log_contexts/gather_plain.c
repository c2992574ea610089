/* Two operations, gathered by code that knows nothing of contexts. */
#include "log_contexts.h"

static weft_result operate(void *name)
{
    WEFT_TRY(weft_await(some_io()));
    weft_log_debug("%s has ended", (const char *)name);
    return weft_ok(NULL);
}

static weft_deferred *operation1(void)
{
    return weft_spawn(operate, (void *)"operation 1");
}

static weft_deferred *operation2(void)
{
    return weft_spawn(operate, (void *)"operation 2");
}

static weft_result do_request_handling(void)
{
    weft_deferred *d1 = operation1();
    weft_deferred *d2 = operation2();
    weft_deferred *d3 = weft_gather_results(((weft_deferred *[]){d1, d2}), 2, 0);
    weft_auto(weft_results_free) weft_results *result = WEFT_TRY(weft_await(d3));

    weft_log_debug("%zu results", result->count);
    return weft_ok(NULL);
}

static weft_result handle_request(void *request_id)
{
    weft_with_context(request_context, weft_context_new(request_id))
        WEFT_TRY(do_request_handling());
    return weft_ok(NULL);
}

void gather_plain(void)
{
    finish(weft_spawn(handle_request, (void *)"request-1"));
}

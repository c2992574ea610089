/* Two operations of nobody's, gathered. */
#include "log_contexts.h"

static weft_result operate(void *name)
{
    WEFT_TRY(weft_await(some_io()));
    weft_log_debug("%s has ended", (const char *)name);
    return weft_ok(NULL);
}

static weft_result do_request_handling(void)
{
    weft_auto(weft_results_free) weft_results *result = NULL;
    weft_deferred *operations[2] = {NULL};

    weft_preserve_context(NULL) {
        operations[0] = weft_spawn(operate, (void *)"operation 1");
        operations[1] = weft_spawn(operate, (void *)"operation 2");
    }
    result = WEFT_TRY(weft_await(weft_gather_results(operations, 2, 0)));
    weft_log_debug("%zu results", result->count);
    return weft_ok(NULL);
}

static weft_result handle_request(void *request_id)
{
    weft_with_context(request_context, weft_context_new(request_id))
        WEFT_TRY(do_request_handling());
    return weft_ok(NULL);
}

void gather_without_context(void)
{
    finish(weft_spawn(handle_request, (void *)"request-1"));
}

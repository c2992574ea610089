/* Two operations in the context of the request, gathered in none. */
#include "log_contexts.h"

static weft_result operate(void *name)
{
    WEFT_TRY(weft_await(some_io()));
    weft_log_debug("%s has ended", (const char *)name);
    return weft_ok(NULL);
}

WEFT_PRESERVE_FN(preserved_operation, operate)

static weft_result do_request_handling(void)
{
    weft_deferred *operations[] = {
        preserved_operation((void *)"operation 1"),
        preserved_operation((void *)"operation 2"),
    };
    weft_auto(weft_results_free) weft_results *result = NULL;

    weft_preserve_context(NULL)
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

void gather_in_context(void)
{
    finish(weft_spawn(handle_request, (void *)"request-1"));
}

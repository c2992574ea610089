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

    return weft_await(weft_gather_results(((weft_deferred *[]){d1, d2}), 2, 0));
}

static weft_result handle_request(void *request_id)
{
    weft_with_context(request_context, weft_context_new(request_id)) {
        WEFT_TRY(do_request_handling());
        weft_log_debug("all has been gathered");
    }
    return weft_ok(NULL);
}

void gather_plain(void)
{
    finish(weft_spawn(handle_request, (void *)"request-1"));
}

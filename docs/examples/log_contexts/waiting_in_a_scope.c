/* A request that waits inside its block, and one that need not. */
#include "log_contexts.h"

struct request {
    const char *id;
    bool blocks;
};

static weft_deferred *do_request_handling(const struct request *request)
{
    return request->blocks ? some_io() : weft_succeed(weft_ok(NULL));
}

static weft_result handle_request(void *arg)
{
    struct request *request = arg;

    weft_with_context(request_context, weft_context_new(request->id)) {
        WEFT_TRY(weft_await(do_request_handling(request)));
        weft_log_debug("finished");
    }
    return weft_ok(NULL);
}

void waiting_in_a_scope(void)
{
    struct request slow = {"request-1", true}, quick = {"request-2", false};
    weft_deferred *first = weft_spawn(handle_request, &slow), *second;

    weft_log_info("the first waits");
    second = weft_spawn(handle_request, &quick);
    weft_log_info("the second has ended");
    finish(first);
    finish(second);
    weft_log_info("both have ended");
}

/* The current context, set and put back by hand. */
#include "log_contexts.h"

static void do_request_handling(void)
{
    weft_log_debug("phew"); /* this will be logged against request_id */
}

static void handle_request(const char *request_id)
{
    weft_context *calling_context = weft_context_set(weft_context_new(request_id));

    do_request_handling();
    weft_log_debug("finished");
    weft_context_unref(weft_context_set(calling_context));
}

void set_by_hand(void)
{
    handle_request("request-1");
    weft_log_info("the caller goes on");
}

/* The same by a block. */
#include "log_contexts.h"

static void do_request_handling(void)
{
    weft_log_debug("phew");
}

static void handle_request(const char *request_id)
{
    weft_with_context(request_context, weft_context_new(request_id)) {
        weft_context_set_field(request_context, "requester", "@ann:example.org");
        do_request_handling();
        weft_log_debug("finished");
    }
}

void scope(void)
{
    handle_request("request-1");
    weft_log_info("the caller goes on");
}

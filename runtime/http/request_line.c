/* The request line: Synapse's.
 *
 *     ip - port - {requester} Processed request: handling/sending ru=(user, system) db=(wait/transactions' time/their number)
 *     bytesB status[!] "METHOD uri HTTP/1.1" "agent" [rows dbevts] */
#include <inttypes.h>
#include <weft/log.h>

#include "lib/context.h"
#include "runtime/http/connection.h"
#include "runtime/http/request.h"

weft_logger weft__request_log = WEFT_LOGGER("weft.http.requests");

size_t weft__request_body_sent(const struct weft_request *request)
{
    uint64_t sent = request->connection->output.sent, start = request->answer_end - request->answer_size;

    if (sent >= request->answer_end)
        return request->answer_size;
    return sent > start ? (size_t)(sent - start) : 0;
}

static double seconds(int64_t nanoseconds)
{
    return (double)nanoseconds / 1e9;
}

/* Apart, so that a request whose line is not logged does not pay for the buffers. */
static __attribute__((noinline)) void print_line(struct weft_request *request, int64_t now)
{
    struct weft__connection *connection = request->connection;
    weft_usage usage = weft_context_get_usage(request->context);
    bool complete = request->answer_end && connection->output.sent >= request->answer_end;
    const char *agent = weft_request_header(request, "User-Agent");
    const char *requester = weft__context_own_field(request->context, "requester");

    weft_logger_info(&weft__request_log,
                     "%s - %d - {%s} Processed request: %.3fsec/%.3fsec ru=(%.6fsec, %.6fsec) db=(%.3fsec/%.3fsec/%" PRId64 ") "
                     "%zuB %d%s \"%s %s %s\" \"%s\" [%" PRId64 " dbevts]",
                     weft__request_host(request), connection->port, requester ? requester : "None",
                     seconds(request->ended - request->began), seconds(now - request->ended), seconds(usage.user_ns),
                     seconds(usage.system_ns), seconds(usage.db_wait_ns), seconds(usage.db_ns), usage.db_transactions,
                     weft__request_body_sent(request), request->status, complete ? "" : "!", weft_request_method(request),
                     weft__request_uri(request), weft__request_protocol(request), agent ? agent : "-", usage.db_rows);
}

void weft__request_line_log(struct weft_request *request, int64_t now)
{
    weft_context *previous;

    if (!weft__server_logs_lines(request->connection->server))
        return;
    previous = weft__context_swap(request->context);
    print_line(request, now);
    weft__context_swap(previous);
}

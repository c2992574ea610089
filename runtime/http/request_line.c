/* The request line: Synapse's, as far as we have its fields.
 *
 *     ip - port - {None} Processed request: handling/sending ru=(user, system) bytesB status[!] "METHOD uri HTTP/1.1"
 *     "agent" */
#include <string.h>
#include <weft/log.h>

#include "lib/context.h"
#include "runtime/http/connection.h"
#include "runtime/http/percent.h"
#include "runtime/http/request.h"

enum { URI_ROOM = 2048 };

/* Tokens in a query must not get into logs. */
static const char *const secrets[] = {"access_token", "client_secret"};

/* Handlers get names decoded, so "access%5Ftoken" is one too. */
static bool is_secret(const char *name, size_t size)
{
    char decoded[64]; /* three times the longest secret, and more */

    if (size >= sizeof decoded || !weft__percent_valid(name, size))
        return false;
    weft__percent_decode(decoded, name, size, true);
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
        if (!strcmp(secrets[i], decoded))
            return true;
    }
    return false;
}

/* Appends as much as fits; returns the new end. */
static char *append(char *out, const char *end, const char *text, size_t size)
{
    size_t room = (size_t)(end - out);

    if (size > room)
        size = room;
    memcpy(out, text, size);
    out[size] = '\0';
    return out + size;
}

static char *append_query(char *out, const char *end, const char *query)
{
    while (*query) {
        size_t size = strcspn(query, "&"), name_size = strcspn(query, "=&");

        if (is_secret(query, name_size) && query[name_size] == '=') {
            out = append(out, end, query, name_size + 1);
            out = append(out, end, "<redacted>", 10);
        } else {
            out = append(out, end, query, size);
        }
        query += size;
        if (*query) {
            out = append(out, end, "&", 1);
            query++;
        }
    }
    return out;
}

static void print_uri(const struct weft_request *request, char text[URI_ROOM])
{
    const char *end = text + URI_ROOM - 1;
    const char *target = request->text + request->target.start;
    /* A request that was refused early still has its target as it came; otherwise a NUL ends the path. */
    size_t size = strnlen(target, request->target.size);
    const char *mark = memchr(target, '?', size);
    const char *query = mark ? mark + 1 : request->query;
    char *out = append(text, end, target, mark ? (size_t)(mark - target) : size);

    if (!query)
        return;
    out = append(out, end, "?", 1);
    append_query(out, end, query);
}

static size_t body_sent(const struct weft_request *request)
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
static __attribute__((noinline)) void print_line(struct weft_request *request)
{
    struct weft__connection *connection = request->connection;
    weft_usage usage = weft_context_get_usage(request->context);
    int64_t now = weft_clock_now(connection->server->clock);
    bool complete = request->answer_end && connection->output.sent >= request->answer_end;
    const char *agent = weft_request_header(request, "User-Agent");
    char host[WEFT__ADDRESS_SIZE], uri[URI_ROOM];

    print_uri(request, uri);
    weft_log_info("%s - %d - {None} Processed request: %.3fsec/%.3fsec ru=(%.6fsec, %.6fsec) %zuB %d%s "
                  "\"%s %s HTTP/%d.%d\" \"%s\"",
                  weft__address_print_host(&connection->peer, host), connection->port,
                  seconds(request->ended - request->began), seconds(now - request->ended), seconds(usage.user_ns),
                  seconds(usage.system_ns), body_sent(request), request->status, complete ? "" : "!",
                  weft_request_method(request), uri, request->parser.http_major, request->parser.http_minor,
                  agent ? agent : "-");
}

void weft__request_line_log(struct weft_request *request)
{
    weft_context *previous;

    if (!weft__server_logs_lines(request->connection->server))
        return;
    previous = weft__context_swap(request->context);
    print_line(request);
    weft__context_swap(previous);
}

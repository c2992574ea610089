/* Handling a request: its handler runs in a fiber, in a context named after it, and what it returns becomes the
 * answer.
 *
 * Most handlers end before weft_spawn returns; those that wait are called back for. Either way request_settle runs
 * once, in the request's context, and the connection is told. */
#include <string.h>
#include <weft/log.h>

#include "lib/context.h"
#include "lib/deferred.h"
#include "runtime/http/connection.h"
#include "runtime/http/handling.h"
#include "runtime/http/metrics.h"
#include "runtime/http/response.h"

/* ---- what went wrong ---- */

/* A cancellation names the wait that it came out of as the first place it passed. */
static void log_unwound(const weft_error *error)
{
    const weft_place *made = weft_error_get_place(error);
    const weft_place *const *trace;
    const char *kind = weft_error_get_kind(error)->name, *message = weft_error_get_message(error);

    if (weft_error_get_trace(error, &trace))
        weft_log_info("handler cancelled: %s: %s (%s:%d %s); unwound from %s:%d %s", kind, message, made->file,
                      made->line, made->function, trace[0]->file, trace[0]->line, trace[0]->function);
    else
        weft_log_info("handler cancelled: %s: %s (%s:%d %s)", kind, message, made->file, made->line, made->function);
}

static void log_failure(const char *what, const weft_error *error)
{
    char text[1024];

    weft_error_print(error, text, sizeof text);
    weft_log_error("%s: %s", what, text);
}

static void answer_cancellation(struct weft_request *request, const weft_error *error)
{
    log_unwound(error);
    if (weft_error_is(error, &WEFT_SHUTDOWN)) {
        weft__respond_error(request, 503, "M_UNKNOWN", "The server is shutting down");
        return;
    }
    if (!weft_request_client_gone(request))
        weft_log_error("the handler was cancelled, but its client has not left");
    weft__respond_error(request, 499, "M_UNKNOWN", "Request cancelled");
}

static void answer_failure(struct weft_request *request, const weft_error *error)
{
    const struct weft__http_status *told = weft__http_error_get_status(error);

    if (told && told->status >= 400 && told->status <= 599) {
        weft_log_info("answered with %d %s: %s", told->status, told->errcode, weft_error_get_message(error));
        weft__respond_error(request, told->status, told->errcode, weft_error_get_message(error));
        return;
    }
    log_failure("the handler failed", error);
    weft__respond_error(request, 500, "M_UNKNOWN", "Internal server error");
}

static void answer_error(struct weft_request *request, const weft_error *error)
{
    if (request->answered)
        log_failure("the handler failed after it had answered", error);
    else if (weft_error_is(error, &WEFT_CANCELLED))
        answer_cancellation(request, error);
    else
        answer_failure(request, error);
}

static void answer_silence(struct weft_request *request)
{
    weft_log_error("the handler of %s returned without an answer", request->route->pattern);
    weft__respond_error(request, 500, "M_UNKNOWN", "Internal server error");
}

/* ---- its end ---- */

/* Takes what the handler returned. In the request's context. */
static void request_settle(struct weft_request *request, weft_result result)
{
    weft_error *error = weft_failed(result);

    if (error)
        answer_error(request, error);
    else if (!request->answered)
        answer_silence(request);
    weft_result_drop(result);
    request->ended = weft__server_line_time(request->connection->server);
    weft__connection_request_ended(request->connection);
}

/* The handler had to wait, and has ended. */
static weft_result handler_ended(weft_result result, void *arg)
{
    struct weft_request *request = arg;
    struct weft__connection *connection = request->connection;
    weft_context *previous = weft__context_swap(request->context);

    request->handler = weft_deferred_unref(request->handler);
    weft__connection_enter(connection);
    request_settle(request, result);
    weft__context_swap(previous);
    weft__connection_leave(connection);
    return weft_ok(NULL);
}

/* ---- its beginning ---- */

static weft_result run_handler(void *arg)
{
    struct weft_request *request = arg;

    return request->route->handler(request, request->route->options.arg);
}

/* Returns the handler's deferred, borrowed, when it has to wait. */
static weft_deferred *request_start(struct weft_request *request)
{
    weft_deferred *handler = weft_spawn_at(run_handler, request, request->route->pattern, WEFT_HERE);

    if (weft__deferred_ready(handler)) {
        weft_result result = weft_deferred_take_result(handler);

        weft_deferred_unref(handler);
        request_settle(request, result);
        return NULL;
    }
    request->handler = handler;
    if (request->cancellation) {
        weft_deferred_cancel_with(handler, request->cancellation);
        request->cancellation = NULL;
    }
    return handler;
}

void weft__request_begin_context(struct weft_request *request)
{
    weft_http_server *server = request->connection->server;

    request->context = weft_context_new_numbered(weft_request_method(request), ++server->sequence);
    weft__request_introduce(request);
}

void weft__request_refuse(struct weft_request *request)
{
    const struct weft__refusal *refusal = &request->refusal;

    weft__respond_error(request, refusal->status, refusal->errcode, refusal->message);
    request->ended = weft__server_line_time(request->connection->server);
    weft__connection_request_ended(request->connection);
}

/* For the line it is the moment at which the handler starts; for counting alone, when what was read began to be parsed will
 * do: asking costs more than half of what a short request does. */
static int64_t beginning(const weft_http_server *server)
{
    return weft__server_logs_lines(server) ? weft_clock_now(server->clock) : server->parsing_since;
}

void weft__request_handle(struct weft_request *request)
{
    weft_deferred *handler = NULL;
    weft_context *previous;

    request->began = beginning(request->connection->server);
    weft__request_count_begun(request, true);
    weft__request_begin_context(request);
    previous = weft__context_swap(request->context); /* the request's own reference */
    if (request->refusal.status)
        weft__request_refuse(request);
    else
        handler = request_start(request);
    weft__context_swap(previous);
    /* Added out here, so that it is called in no context. */
    if (handler)
        weft_deferred_add_both(handler, handler_ended, request);
}

void weft__request_cancel(struct weft_request *request, weft_error *cancellation)
{
    request->cancelled = true;
    if (request->handler) {
        weft_deferred_cancel_with(request->handler, cancellation);
    } else {
        /* The handler itself is the cause: it has not waited yet. */
        weft_error_unref(request->cancellation);
        request->cancellation = cancellation;
    }
}

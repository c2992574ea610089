/* weft/http.h: an HTTP/1.1 server whose handlers know when their client has left.
 *
 * A request runs its handler in a fiber of its own, in a log context named after it ("GET-42"). Reading goes on meanwhile,
 * so a client that leaves is seen at once: a handler of a `cancellable` route is then cancelled with WEFT_CLIENT_GONE,
 * which comes out of the wait it is in; any other runs to its end and its answer is dropped. Either way one request line
 * is logged, with `!` behind the status when the client did not get the whole answer:
 *
 *     … GET-42 127.0.0.1 - 8008 - {None} Processed request: 1.204sec/0.000sec ru=(0.000041sec, 0.000012sec)
 *     db=(0.000sec/0.000sec/0) 0B 499! "GET /rooms/lobby/wait HTTP/1.1" "curl/7.88.1" [0 dbevts]
 *
 * that is: the peer, the port, who asks; the time until the handler had ended, and until the answer had left; CPU time of
 * the program and of the kernel; the database's: the wait for it, the time in it, transactions; the answer's bytes and status;
 * rows of the database. All but the first three are the context's (weft/context.h). Who asks is its field "requester", which
 * the handler sets. It also has the fields "ip_address", "method", "url", "protocol" and "user_agent", for log lines; it
 * ends when the answer has left, and what the client's leaving makes useless is counted apart.
 *
 * A handler returns what a responder gave it, or a failure: a WEFT_HTTP_ERROR is answered as it says, a cancellation with
 * 499 (503 when the server shuts down), anything else with 500, and no more than that told to the client. Errors are JSON:
 * {"errcode": "M_NOT_FOUND", "error": "…"}.
 *
 * Bodies are read whole, up to a limit, before the handler starts. Everything here belongs to the reactor's thread. */
#ifndef WEFT_HTTP_H
#define WEFT_HTTP_H

#include <jansson.h>
#include <weft/fiber.h>
#include <weft/metrics.h>
#include <weft/reactor.h>

WEFT_BEGIN

typedef struct weft_http_server weft_http_server;
typedef struct weft_request weft_request;

/* ---- server ----------------------------------------------------------------------------------------------------------- */

typedef struct weft_http_server_options {
    size_t max_head;        /* bytes of request line and headers, 0: 16 KiB; more is answered 431, or 414 */
    size_t max_body;        /* bytes, 0: 1 MiB; more is answered 413 */
    double drain;           /* seconds that shutting down waits for handlers that are not cancellable, 0: 30 */
    bool no_request_line;   /* do not log request lines */
} weft_http_server_options;

WEFT_API weft_http_server *weft_http_server_new(weft_reactor *reactor, weft_http_server_options options)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Closes what is left at once: requests still running are cancelled with WEFT_SHUTDOWN and lose their connection. The
 * server's memory goes with the last of them, so the reactor must run on until then, and is freed after the server. Better
 * run weft_http_serve, or weft_http_server_drain, first. NULL is fine; returns NULL. */
WEFT_API weft_http_server *weft_http_server_free(weft_http_server *server);

/* Listens on "127.0.0.1:8008", "[::1]:8008", or with port 0 on a free port. May be called several times. */
WEFT_API weft_error *weft_http_server_listen(weft_http_server *server, const char *address) WEFT_MUST_USE;
/* The port of the first listener; 0 when there is none. */
WEFT_API int weft_http_server_get_port(const weft_http_server *server);

/* Stops listening, closes idle connections, cancels the handlers of cancellable routes with WEFT_SHUTDOWN (their clients
 * get 503), and waits for the others; after `drain` seconds cancels those too. The result, weft_ok(NULL), comes when the
 * last connection is closed. Called again: another deferred for the same end. */
WEFT_API weft_deferred *weft_http_server_drain(weft_http_server *server) __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* For main(): runs the reactor until SIGINT or SIGTERM, drains, and returns. A second signal ends the wait for handlers
 * that are not cancellable. Raises the soft limit of descriptors to the hard one. */
WEFT_API void weft_http_serve(weft_http_server *server);

/* ---- routes ----------------------------------------------------------------------------------------------------------- */

/* Runs in a fiber, in the request's context. `request` is borrowed, and good until the handler returns. */
typedef weft_result weft_handler_fn(weft_request *request, void *arg);

typedef struct weft_route_options {
    bool cancellable; /* the handler may be cancelled when its client leaves; on other than GET and HEAD it is warned of once */
    bool half_close;  /* a client that shuts its sending side still wants the answer: only reset, or a failed write, is gone */
    void *arg;        /* for the handler; borrowed as long as the server lives */
} weft_route_options;

/* Serves `method` (GET also serves HEAD) on paths that match `pattern`: segments are literal, or `{name}`, which takes any
 * one segment that is not empty, percent-decoded. A literal segment wins over a `{name}`. A path without a route is
 * answered 404, one without a route for its method 405. A pattern that is malformed, or registered already for this
 * method, is a misuse: it aborts with a message, since no program could run with it. */
WEFT_API void weft_route(weft_http_server *server, const char *method, const char *pattern, weft_handler_fn *handler,
                         weft_route_options options);

/* A handler that answers with the metrics of the process (weft/metrics.h), among them, by the method, the pattern of the
 * route ("none": there was none) and the status, how many requests there were, how long they took and what was sent:
 *     weft_route(server, "GET", "/metrics", weft_http_metrics, (weft_route_options){0}); */
WEFT_API weft_result weft_http_metrics(weft_request *request, void *arg);

/* ---- request: everything returned is borrowed from it ----------------------------------------------------------------- */

WEFT_API const char *weft_request_method(const weft_request *request); /* "GET" */
WEFT_API const char *weft_request_path(const weft_request *request);   /* as sent, without the query */
/* The value of `{name}` in the route's pattern; NULL when it has no such parameter. */
WEFT_API const char *weft_request_param(const weft_request *request, const char *name);
/* The decoded value of the first `name=value` in the query ("+" is a blank); NULL when there is none. */
WEFT_API const char *weft_request_query(weft_request *request, const char *name);
/* The value of the first header of that name, whatever its case; NULL when there is none. */
WEFT_API const char *weft_request_header(const weft_request *request, const char *name);
WEFT_API const void *weft_request_body(const weft_request *request, size_t *size); /* ends with a NUL beyond `size` */

/* The body as JSON, a new `json_t` that the caller json_decref's; or a WEFT_HTTP_ERROR that answers 400 M_NOT_JSON and says
 * where it is wrong. */
WEFT_API weft_result weft_request_json(const weft_request *request) WEFT_MUST_USE;
/* The number in the query; `fallback` when there is none; or a 400 M_INVALID_PARAM error when it is not a number, or not
 * one from `least` to `most`. */
WEFT_API weft_error *weft_request_query_number(weft_request *request, const char *name, double fallback, double least,
                                               double most, double *out) WEFT_MUST_USE;

/* Whether nobody waits for the answer any more; a handler that is not cancellable may ask. */
WEFT_API bool weft_request_client_gone(const weft_request *request);

/* ---- responses -----------------------------------------------------------------------------------------------------------
 * One per request, from its own handler, which returns their result; none waits. Without a client they do nothing but
 * record the status. A second response, or a status outside 200 to 599, is a WEFT_MISUSE error. */

/* Takes `body`; NULL answers 500. */
#define weft_respond_json(request, status, body) weft_respond_json_at(request, status, body, WEFT_HERE)
WEFT_API weft_result weft_respond_json_at(weft_request *request, int status, json_t *body, const weft_place *place)
    WEFT_MUST_USE;
/* Copies `text`. */
#define weft_respond_text(request, status, text) weft_respond_text_at(request, status, text, WEFT_HERE)
WEFT_API weft_result weft_respond_text_at(weft_request *request, int status, const char *text, const weft_place *place)
    WEFT_MUST_USE;
/* Copies `body`; `content_type` may be NULL when there is no body. */
#define weft_respond(request, status, content_type, body, size)                                                     \
    weft_respond_at(request, status, content_type, body, size, WEFT_HERE)
WEFT_API weft_result weft_respond_at(weft_request *request, int status, const char *content_type, const void *body,
                                     size_t size, const weft_place *place) WEFT_MUST_USE;

/* ---- errors with a status --------------------------------------------------------------------------------------------- */

WEFT_API extern const weft_error_kind WEFT_HTTP_ERROR; /* below WEFT_FAILURE */

/* An error that is answered with `status`, from 400 to 599, and {"errcode": `errcode`, "error": the message}; one with
 * another status is answered 500. `errcode` is borrowed for good: a literal. */
#define weft_http_error(status, errcode, ...) weft_http_error_at(status, errcode, WEFT_HERE, __VA_ARGS__)
WEFT_API weft_error *weft_http_error_at(int status, const char *errcode, const weft_place *place, const char *format, ...)
    WEFT_PRINTF(4, 5) __attribute__((returns_nonnull)) WEFT_MUST_USE;

WEFT_AUTO(weft_http_server, weft_http_server_free)
WEFT_AUTO(json_t, json_decref)

WEFT_END

#endif

/* Counting requests: a method on a route is an endpoint, which knows the series of each status that it has answered.
 *
 * Series belong to the process: servers on several threads that have the same route count together. */
#include <pthread.h>
#include <stdio.h>

#include "lib/metrics.h"
#include "runtime/http/connection.h"
#include "runtime/http/metrics.h"

/* Nanoseconds: 100 µs to 10 s; the bounds from 1 ms are Synapse's. */
static const int64_t bounds[] = {
    100000,    500000,    1000000,    5000000,    10000000,   50000000,   100000000,
    200000000, 500000000, 1000000000, 2000000000, 5000000000, 10000000000,
};

static struct {
    weft_metric *requests, *in_flight, *times, *bytes;
} metrics;

struct code {
    struct code *next;
    int status;
    weft_counter *requests;
    weft_histogram *times;
    weft_counter *bytes;
};

struct weft__endpoint {
    const char *method;
    const char *route;
    weft_gauge *in_flight;
    struct code *codes;
    struct weft__endpoint *head; /* of a route for GET: what HEAD asks of it; NULL until it does */
};

/* ---- endpoints ---- */

static void declare_all(void)
{
    metrics.requests = weft__metric_declare((weft_metric_options){
        .name = "weft_http_server_requests_total", .help = "Requests whose answer has left, or never will.",
        .labels = {"method", "route", "code"}});
    metrics.in_flight = weft__metric_declare((weft_metric_options){
        .kind = WEFT_GAUGE, .name = "weft_http_server_requests_in_flight", .help = "Requests that are not counted yet.",
        .labels = {"method", "route"}});
    metrics.times = weft__metric_declare((weft_metric_options){
        .kind = WEFT_HISTOGRAM, .unit = WEFT_NANOSECONDS, .name = "weft_http_server_response_seconds",
        .help = "Time from the start of the handler until the answer has left.", .labels = {"method", "route", "code"},
        .bounds = bounds, .bound_count = sizeof bounds / sizeof *bounds});
    metrics.bytes = weft__metric_declare((weft_metric_options){
        .name = "weft_http_server_response_bytes_total", .help = "Bytes of the bodies of answers that were sent.",
        .labels = {"method", "route", "code"}});
}

struct weft__endpoint *weft__endpoint_new(const char *method, const char *route)
{
    static pthread_once_t declared = PTHREAD_ONCE_INIT;
    struct weft__endpoint *endpoint = weft_alloc(sizeof *endpoint);

    pthread_once(&declared, declare_all);
    *endpoint = (struct weft__endpoint){
        .method = method, .route = route, .in_flight = weft_gauge_get(metrics.in_flight, method, route)};
    return endpoint;
}

struct weft__endpoint *weft__endpoint_free(struct weft__endpoint *endpoint)
{
    if (!endpoint)
        return NULL;
    weft__endpoint_free(endpoint->head);
    while (endpoint->codes) {
        struct code *code = endpoint->codes;

        endpoint->codes = code->next;
        weft_free(code);
    }
    weft_free(endpoint);
    return NULL;
}

static __attribute__((noinline)) struct code *code_new(struct weft__endpoint *endpoint, int status)
{
    struct code *code = weft_alloc(sizeof *code);
    char text[16];

    snprintf(text, sizeof text, "%d", status);
    *code = (struct code){
        .next = endpoint->codes,
        .status = status,
        .requests = weft_counter_get(metrics.requests, endpoint->method, endpoint->route, text),
        .times = weft_histogram_get(metrics.times, endpoint->method, endpoint->route, text),
        .bytes = weft_counter_get(metrics.bytes, endpoint->method, endpoint->route, text),
    };
    endpoint->codes = code;
    return code;
}

static struct code *code_of(struct weft__endpoint *endpoint, int status)
{
    struct code *code = endpoint->codes;

    while (code && code->status != status)
        code = code->next;
    return code ? code : code_new(endpoint, status);
}

/* ---- requests ---- */

static struct weft__endpoint *get_or_make(struct weft__endpoint **place, const char *method, const char *route)
{
    if (!*place)
        *place = weft__endpoint_new(method, route);
    return *place;
}

static struct weft__endpoint *endpoint_of(const struct weft_request *request, bool known)
{
    const struct weft__route *route = request->route;
    const uint8_t method = request->parser.method;
    weft_http_server *server = request->connection->server;

    if (!known)
        return get_or_make(&server->unknown, "none", "none");
    if (!route)
        return get_or_make(&server->unrouted[method % WEFT__METHODS], weft_request_method(request), "none");
    if (route->method == method)
        return route->endpoint;
    return get_or_make(&route->endpoint->head, weft_request_method(request), route->pattern);
}

void weft__request_count_begun(struct weft_request *request, bool known)
{
    request->endpoint = endpoint_of(request, known);
    weft_gauge_add(request->endpoint->in_flight, 1);
}

void weft__request_count_ended(struct weft_request *request, int64_t now)
{
    struct weft__endpoint *endpoint = request->endpoint;
    struct code *code = code_of(endpoint, request->status);
    size_t bytes = weft__request_body_sent(request);

    weft_gauge_add(endpoint->in_flight, -1);
    weft_counter_add(code->requests, 1);
    weft_histogram_observe(code->times, now - request->began);
    if (bytes)
        weft_counter_add(code->bytes, bytes);
}

/* ---- telling ---- */

weft_result weft_http_metrics(weft_request *request, void *arg)
{
    size_t size;
    char *text = weft_metrics_write(&size);
    weft_result result = weft_respond(request, 200, WEFT_METRICS_CONTENT_TYPE, text, size);

    (void)arg;
    weft_free(text);
    return result;
}

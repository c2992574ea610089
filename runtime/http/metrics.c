/* Counting requests: a method on a route is an endpoint of its server, and counts each status that it has answered.
 *
 * Series belong to the process, and servers on several threads may have the same routes. So an endpoint counts in words that
 * only its server's thread writes, without a locked instruction, as a pipelined request costs no more than twenty of those;
 * what it has counted since the last time is added to the series when they are told. */
#include <pthread.h>
#include <stdio.h>

#include "lib/metrics.h"
#include "lib/totals.h"
#include "runtime/http/connection.h"
#include "runtime/http/metrics.h"

/* Nanoseconds: 100 µs to 10 s; the bounds from 1 ms are Synapse's. */
static const int64_t bounds[] = {
    100000,    500000,    1000000,    5000000,    10000000,   50000000,   100000000,
    200000000, 500000000, 1000000000, 2000000000, 5000000000, 10000000000,
};
enum { BOUNDS = sizeof bounds / sizeof *bounds };

static struct {
    weft_metric *requests, *in_flight, *times, *bytes;
} metrics;

struct counts {
    uint64_t took[BOUNDS + 1]; /* as the buckets of a histogram */
    uint64_t took_ns;
    uint64_t bytes;
};

struct code {
    struct code *next;
    int status;
    struct counts counts;
    struct counts told; /* under the lock: what the series have of them */
    weft_counter *requests;
    weft_histogram *times;
    weft_counter *bytes;
    struct weft__totals *totals; /* what requests have used that were answered so */
};

struct weft__endpoint {
    const char *method;
    const char *route;
    uint64_t in_flight;
    uint64_t in_flight_told;
    struct code *codes;          /* the newest first */
    struct weft__endpoint *head; /* of a route for GET: what HEAD asks of it; NULL until it does */
    weft_gauge *gauge;
    struct weft__totals *totals; /* what its requests have used, those in flight too; NULL before the first */
    struct weft__endpoint *next; /* of all, as is `link`; under the lock */
    struct weft__endpoint **link;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct weft__endpoint *endpoints;

/* ---- telling ---- */

static uint64_t more(const uint64_t *counted, uint64_t *told)
{
    uint64_t before = *told;

    *told = __atomic_load_n(counted, __ATOMIC_RELAXED);
    return *told - before;
}

static void tell_code(struct code *code)
{
    uint64_t requests = 0;

    for (size_t i = 0; i <= BOUNDS; i++) {
        uint64_t took = more(&code->counts.took[i], &code->told.took[i]);

        requests += took;
        __atomic_fetch_add(&code->times->buckets[i], took, __ATOMIC_RELAXED);
    }
    __atomic_fetch_add(&code->times->sum, (int64_t)more(&code->counts.took_ns, &code->told.took_ns), __ATOMIC_RELAXED);
    weft_counter_add(code->requests, requests);
    weft_counter_add(code->bytes, more(&code->counts.bytes, &code->told.bytes));
}

static void tell(struct weft__endpoint *endpoint)
{
    struct code *code = __atomic_load_n(&endpoint->codes, __ATOMIC_ACQUIRE);

    for (; code; code = code->next)
        tell_code(code);
    weft_gauge_add(endpoint->gauge, (int64_t)more(&endpoint->in_flight, &endpoint->in_flight_told));
}

static weft_error *collect(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    for (struct weft__endpoint *endpoint = endpoints; endpoint; endpoint = endpoint->next)
        tell(endpoint);
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* ---- forks ---- */

/* A child would wait for ever for a thread that it has not. */
static void hold(void)
{
    pthread_mutex_lock(&lock);
}

static void let_go(void)
{
    pthread_mutex_unlock(&lock);
}

/* ---- endpoints ---- */

static const struct weft__family family = {"weft_http_server", "requests, as it is used", {"method", "route"}};
static const struct weft__family family_by_code = {
    "weft_http_server_response", "requests that were answered", {"method", "route", "code"}};

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
        .help = "Time from when a request was read until its answer has left.", .labels = {"method", "route", "code"},
        .bounds = bounds, .bound_count = BOUNDS});
    metrics.bytes = weft__metric_declare((weft_metric_options){
        .name = "weft_http_server_response_bytes_total", .help = "Bytes of the bodies of answers that were sent.",
        .labels = {"method", "route", "code"}});
    weft_metrics_on_collect(collect, NULL);
    pthread_atfork(hold, let_go, let_go);
}

static void endpoint_link(struct weft__endpoint *endpoint)
{
    pthread_mutex_lock(&lock);
    endpoint->next = endpoints;
    endpoint->link = &endpoints;
    if (endpoints)
        endpoints->link = &endpoint->next;
    endpoints = endpoint;
    pthread_mutex_unlock(&lock);
}

static void endpoint_unlink(struct weft__endpoint *endpoint)
{
    pthread_mutex_lock(&lock);
    tell(endpoint);
    *endpoint->link = endpoint->next;
    if (endpoint->next)
        endpoint->next->link = endpoint->link;
    pthread_mutex_unlock(&lock);
}

struct weft__endpoint *weft__endpoint_new(const char *method, const char *route)
{
    static pthread_once_t declared = PTHREAD_ONCE_INIT;
    struct weft__endpoint *endpoint = weft_alloc(sizeof *endpoint);

    pthread_once(&declared, declare_all);
    *endpoint = (struct weft__endpoint){
        .method = method,
        .route = route,
        .gauge = weft_gauge_get(metrics.in_flight, method, route),
    };
    endpoint_link(endpoint);
    return endpoint;
}

struct weft__endpoint *weft__endpoint_free(struct weft__endpoint *endpoint)
{
    if (!endpoint)
        return NULL;
    endpoint_unlink(endpoint);
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
        .totals = weft__totals_get(&family_by_code, code, (const char *const[]){endpoint->method, endpoint->route, text}),
    };
    code->totals->series.above = &endpoint->totals->series;
    __atomic_store_n(&endpoint->codes, code, __ATOMIC_RELEASE); /* it is whole */
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
    struct weft__endpoint *endpoint = endpoint_of(request, known);

    request->endpoint = endpoint;
    if (!endpoint->totals)
        endpoint->totals = weft__totals_get(&family, endpoint, (const char *const[]){endpoint->method, endpoint->route});
    weft__add_alone(&endpoint->in_flight, 1);
}

static size_t bucket_of(int64_t took)
{
    size_t bucket = 0;

    while (bucket < BOUNDS && took > bounds[bucket])
        bucket++;
    return bucket;
}

void weft__request_count_ended(struct weft_request *request, int64_t now)
{
    struct code *code = code_of(request->endpoint, request->status);
    struct counts *counts = &code->counts;
    int64_t took = now > request->began ? now - request->began : 0;

    weft__add_alone(&request->endpoint->in_flight, (uint64_t)-1);
    weft__add_alone(&counts->took[bucket_of(took)], 1);
    weft__add_alone(&counts->took_ns, (uint64_t)took);
    weft__add_alone(&counts->bytes, weft__request_body_sent(request));
    if (request->context)
        weft__context_move(request->context, &code->totals->series);
}

struct weft__series *weft__request_series(const struct weft_request *request)
{
    return &request->endpoint->totals->series;
}

/* ---- the handler ---- */

weft_result weft_http_metrics(weft_request *request, void *arg)
{
    size_t size;
    char *text = weft_metrics_write(&size);
    weft_result result = weft_respond(request, 200, WEFT_METRICS_CONTENT_TYPE, text, size);

    (void)arg;
    weft_free(text);
    return result;
}

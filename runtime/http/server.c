/* A server: its life, and its end.
 *
 * A drain ends when the last connection does. Whoever walks through the connections counts as one meanwhile, so that
 * the end comes after the walk, not in the middle of it. */
#include <assert.h>
#include <string.h>

#include "lib/context.h"
#include "runtime/http/connection.h"
#include "runtime/http/lingering.h"
#include "runtime/http/metrics.h"
#include "runtime/http/router.h"
#include "runtime/http/server.h"

enum { POOLED_REQUESTS = 256, POOLED_BLOCKS = 64 };
enum { MAX_HEAD = 1 << 30 }; /* offsets in a head have 32 bits */

/* ---- life ---- */

static void drain_over(weft_timer *timer, void *server)
{
    (void)timer;
    weft__server_hurry(server);
}

static void set_default(size_t *option, size_t value)
{
    if (!*option)
        *option = value;
}

weft_http_server *weft_http_server_new(weft_reactor *reactor, weft_http_server_options options)
{
    weft_http_server *server = weft_alloc(sizeof *server);

    memset(server, 0, offsetof(struct weft_http_server, read_buffer));
    set_default(&options.max_head, 16 * 1024);
    if (options.max_head > MAX_HEAD)
        options.max_head = MAX_HEAD;
    set_default(&options.max_body, 1024 * 1024);
    if (options.drain <= 0)
        options.drain = 30;
    server->options = options;
    server->reactor = reactor;
    server->clock = weft_reactor_get_clock(reactor);
    server->router = weft__router_new();
    weft__pool_init(&server->requests, sizeof(struct weft_request), POOLED_REQUESTS);
    weft__pool_init(&server->blocks, WEFT__BLOCK_SIZE, POOLED_BLOCKS);
    weft__hangups_init(&server->hangups, server);
    weft_timer_init(&server->drain_timer, drain_over, server);
    weft_timer_init(&server->linger_timer, weft__lingering_over, server);
    weft_timer_init(&server->accept_timer, weft__listeners_retry, server);
    return server;
}

static void server_destroy(weft_http_server *server)
{
    assert(!server->connection_count && !server->listeners && !server->drain_waiters);
    weft__router_free(server->router);
    for (size_t i = 0; i < WEFT__METHODS; i++)
        weft__endpoint_free(server->unrouted[i]);
    weft__endpoint_free(server->unknown);
    weft__pool_clear(&server->requests);
    weft__pool_clear(&server->blocks);
    weft_free(server);
}

void weft_route(weft_http_server *server, const char *method, const char *pattern, weft_handler_fn *handler,
                weft_route_options options)
{
    weft__router_add(server->router, method, pattern, handler, options);
}

/* ---- every connection ---- */

/* `fn` may close and free any connection: each is moved back into its line before its turn. Whoever has asked for this,
 * it is none of his context's business. */
static void for_each(weft_http_server *server, struct weft__connections *line,
                     void (*fn)(struct weft__connection *connection))
{
    struct weft__connections rest = *line;
    weft_context *previous;

    if (!rest.first)
        return;
    previous = weft__context_swap(NULL);
    rest.first->link = &rest.first;
    line->first = NULL;
    server->connection_count++;
    while (rest.first) {
        struct weft__connection *connection = rest.first;

        weft__connection_move(connection, line);
        fn(connection);
    }
    weft__context_swap(previous);
    weft__server_connection_ended(server);
}

/* ---- the end ---- */

/* Those who wait may do anything; the server is not touched after the last of them. */
static void tell_drain_waiters(weft_http_server *server)
{
    struct weft__drain_waiter *waiters = server->drain_waiters, *next;

    server->drain_waiters = NULL;
    weft_timer_stop(&server->drain_timer);
    weft_timer_stop(&server->linger_timer);
    if (server->freed)
        server_destroy(server);
    for (; waiters; waiters = next) {
        next = waiters->next;
        weft_deferred_callback(waiters->deferred, weft_ok(NULL));
        weft_deferred_unref(waiters->deferred);
        weft_free(waiters);
    }
}

void weft__server_connection_ended(weft_http_server *server)
{
    if (!--server->connection_count && server->draining)
        tell_drain_waiters(server);
}

static void drain_begin(weft_http_server *server)
{
    server->draining = true;
    weft__listeners_close(server);
    weft_timer_start(&server->drain_timer, server->clock, server->options.drain);
    for_each(server, &server->connections, weft__connection_drain);
}

weft_deferred *weft_http_server_drain(weft_http_server *server)
{
    struct weft__drain_waiter *waiter = weft_alloc(sizeof *waiter);
    weft_deferred *deferred = weft_deferred_new(NULL, NULL);

    *waiter = (struct weft__drain_waiter){server->drain_waiters, weft_deferred_ref(deferred)};
    server->drain_waiters = waiter;
    server->connection_count++;
    if (!server->draining)
        drain_begin(server);
    weft__server_connection_ended(server);
    return deferred;
}

void weft__server_hurry(weft_http_server *server)
{
    server->connection_count++;
    server->hurrying = true;
    for_each(server, &server->lingering, weft__connection_hurry);
    for_each(server, &server->connections, weft__connection_hurry);
    weft__server_connection_ended(server);
}

/* Requests that are still running need the server: it goes with the last of them. */
weft_http_server *weft_http_server_free(weft_http_server *server)
{
    if (!server)
        return NULL;
    server->connection_count++;
    server->draining = true;
    server->freed = true;
    weft__listeners_close(server);
    weft__server_hurry(server);
    for_each(server, &server->connections, weft__connection_abandon);
    weft__server_connection_ended(server);
    return NULL;
}

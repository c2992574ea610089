/* A server: its listeners, its connections, and what they share. */
#ifndef WEFT_RUNTIME_HTTP_SERVER_H
#define WEFT_RUNTIME_HTTP_SERVER_H

#include <weft/http.h>
#include <weft/log.h>

#include "runtime/http/hangups.h"
#include "runtime/http/head.h"
#include "runtime/http/pool.h"

enum { WEFT__READ_SIZE = 64 * 1024 };

struct weft__connection;
struct weft__endpoint;
struct weft__listener;

enum { WEFT__METHODS = 64 }; /* more than llhttp has numbers for */

/* A line of connections. Each knows the pointer that points to it, so it can be taken out of any line. */
struct weft__connections {
    struct weft__connection *first;
};

/* Somebody who waits for the end of a drain. */
struct weft__drain_waiter {
    struct weft__drain_waiter *next;
    weft_deferred *deferred;
};

struct weft_http_server {
    weft_reactor *reactor;
    weft_clock *clock;
    weft_http_server_options options; /* with the defaults filled in */
    struct weft__router *router;
    struct weft__endpoint *unrouted[WEFT__METHODS]; /* by method, of requests without a route; NULL before the first */
    struct weft__endpoint *unknown;                 /* of what is no request */
    struct weft__listener *listeners; /* in the order in which they were made */
    uint64_t sequence;                /* of the last request */
    int64_t parsing_since;            /* when what was read last, or was kept, began to be parsed */

    struct weft__connections connections;
    struct weft__connections lingering;
    size_t connection_count;            /* and 1 more while somebody goes through them */
    struct weft__pool requests;
    struct weft__pool blocks;
    struct weft__hangups hangups;
    bool draining;
    bool hurrying; /* the time to drain is over */
    bool freed;    /* its memory goes with the last connection */
    struct weft__drain_waiter *drain_waiters;
    weft_timer drain_timer;
    weft_timer linger_timer;
    weft_timer accept_timer;
    bool short_of_descriptors;

    struct weft__heads heads;
    char read_buffer[WEFT__READ_SIZE]; /* what was read last, of whichever connection: parsed before the next read */
};

extern weft_logger weft__request_log; /* of the request line */

static inline bool weft__server_logs_lines(const weft_http_server *server)
{
    return !server->options.no_request_line && weft_logger_enabled(&weft__request_log, WEFT_LOG_INFO);
}

/* What time it is, for the request line alone; 0 when there is none, as asking costs more than a short request. */
static inline int64_t weft__server_line_time(const weft_http_server *server)
{
    return weft__server_logs_lines(server) ? weft_clock_now(server->clock) : 0;
}

/* The last thing that a connection does. May free the server. */
void weft__server_connection_ended(weft_http_server *server);
/* The time to drain is over: everything is cancelled or closed. */
void weft__server_hurry(weft_http_server *server);

/* ---- listener.c ---- */

/* "127.0.0.1:8008"; of the listener after `listener`, or of the first for NULL. */
struct weft__listener *weft__listener_next(const weft_http_server *server, const struct weft__listener *listener);
const char *weft__listener_get_address(const struct weft__listener *listener);
void weft__listeners_close(weft_http_server *server);
/* A descriptor was closed: accepting may go on. */
void weft__listeners_resume(weft_http_server *server);
void weft__listeners_retry(weft_timer *timer, void *server);

#endif

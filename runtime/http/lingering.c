/* Lingering: a client that may still be sending is given time to read our last words.
 *
 * Closing a socket that has unread data resets the connection, and a reset takes away what the client has not read yet.
 * So we end our side, and throw away what comes until the client ends its side: but not for long, and not for much. */
#include <sys/socket.h>

#include "runtime/http/backlog.h"
#include "runtime/http/connection.h"
#include "runtime/http/lingering.h"

enum { MAX_BYTES = 4 * 1024 * 1024 };
static const double MAX_SECONDS = 2, ROUND_SECONDS = 0.5;

void weft__lingering_begin(struct weft__connection *connection)
{
    weft_http_server *server = connection->server;

    connection->lingering = true;
    connection->backlog = weft__backlog_free(connection->backlog);
    connection->linger_until = weft_clock_recent(server->clock) + (int64_t)(MAX_SECONDS * 1e9);
    shutdown(connection->fd, SHUT_WR);
    weft__connection_move(connection, &server->lingering);
    if (!weft_timer_started(&server->linger_timer))
        weft_timer_start(&server->linger_timer, server->clock, ROUND_SECONDS);
}

void weft__lingering_left(weft_http_server *server)
{
    if (!server->lingering.first)
        weft_timer_stop(&server->linger_timer);
}

void weft__lingering_read(struct weft__connection *connection, size_t size)
{
    connection->linger_read += size;
    if (connection->linger_read > MAX_BYTES)
        weft__connection_close(connection);
}

/* One timer for all: it comes round as long as anybody lingers. */
void weft__lingering_over(weft_timer *timer, void *arg)
{
    weft_http_server *server = arg;
    int64_t now = weft_clock_now(server->clock);
    struct weft__connection *next;

    server->connection_count++;
    for (struct weft__connection *connection = server->lingering.first; connection; connection = next) {
        next = connection->next;
        if (connection->linger_until <= now)
            weft__connection_abandon(connection);
    }
    if (server->lingering.first)
        weft_timer_start(timer, server->clock, ROUND_SECONDS);
    weft__server_connection_ended(server);
}

/* Listeners: sockets that accept.
 *
 * When the process runs out of descriptors, a connection that waits to be accepted keeps the listener readable: we stop
 * watching, say so once per shortage, and go on when a connection closes, or after a second, as somebody else may have
 * closed something. The shortage is over when nobody waits any more. */
#define _GNU_SOURCE /* accept4 */
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weft/log.h>

#include "lib/thread.h"
#include "runtime/http/connection.h"
#include "runtime/http/server.h"

enum { MAX_ACCEPTS = 64 }; /* per turn: those who are served already must not wait too long */
static const double PAUSE_SECONDS = 1;

struct weft__listener {
    weft_io io;
    weft_http_server *server;
    struct weft__listener *next;
    int fd;
    uint16_t port;
    char address[WEFT__ADDRESS_SIZE];
};

/* ---- accepting ---- */

static void accepting_pause(weft_http_server *server, int error)
{
    if (!server->short_of_descriptors)
        weft_log_error("cannot accept connections: %s; trying again when one closes", strerror(error));
    server->short_of_descriptors = true;
    for (struct weft__listener *listener = server->listeners; listener; listener = listener->next)
        weft_io_stop(&listener->io);
    weft_timer_start(&server->accept_timer, server->clock, PAUSE_SECONDS);
}

static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void listener_ready(weft_io *io, int events, void *arg)
{
    struct weft__listener *listener = arg;
    union weft__address peer;

    (void)io, (void)events;
    for (int i = 0; i < MAX_ACCEPTS; i++) {
        socklen_t size = sizeof peer;
        int fd = accept4(listener->fd, &peer.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            weft__connection_new(listener->server, fd, &peer, listener->port);
        } else if (is_shortage(errno)) {
            accepting_pause(listener->server, errno);
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            listener->server->short_of_descriptors = false;
            return;
        }
        /* Anything else is the end of that connection, before it began. */
    }
}

static void watch_all(weft_http_server *server)
{
    for (struct weft__listener *listener = server->listeners; listener; listener = listener->next)
        weft_io_start(&listener->io, listener->fd, WEFT_READABLE);
}

void weft__listeners_resume(weft_http_server *server)
{
    if (!weft_timer_started(&server->accept_timer))
        return;
    weft_timer_stop(&server->accept_timer);
    watch_all(server);
}

void weft__listeners_retry(weft_timer *timer, void *server)
{
    (void)timer;
    watch_all(server);
}

/* ---- life ---- */

/* With the port that the kernel has chosen, when it was 0. */
static void listener_describe(struct weft__listener *listener)
{
    union weft__address address = {0};
    socklen_t size = sizeof address;

    getsockname(listener->fd, &address.any, &size);
    listener->port = weft__address_get_port(&address);
    weft__address_print(&address, listener->address);
}

static weft_error *open_socket(const union weft__address *address, const char *text, int *out)
{
    int yes = 1, fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    weft_error *error;

    if (fd < 0)
        return weft_error_os(errno, "cannot listen on %s", text);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    /* Connections inherit this from their listener. Output is gathered here, so the kernel need not wait for more. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (address->any.sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
    if (bind(fd, &address->any, weft__address_get_size(address)) < 0 || listen(fd, SOMAXCONN) < 0) {
        error = weft_error_os(errno, "cannot listen on %s", text);
        close(fd);
        return error;
    }
    *out = fd;
    return NULL;
}

weft_error *weft_http_server_listen(weft_http_server *server, const char *address)
{
    struct weft__listener *listener, **last;
    union weft__address parsed = {0};
    weft_error *error;
    int fd = -1;

    if ((error = weft__address_parse(address, &parsed)) || (error = open_socket(&parsed, address, &fd)))
        return error;
    listener = weft_alloc_zeroed(sizeof *listener);
    listener->server = server;
    listener->fd = fd;
    listener_describe(listener);
    for (last = &server->listeners; *last; last = &(*last)->next)
        ;
    *last = listener;
    weft__thread.live.descriptors++;
    weft_io_init(&listener->io, listener_ready, listener);
    weft_io_start(&listener->io, fd, WEFT_READABLE);
    return NULL;
}

void weft__listeners_close(weft_http_server *server)
{
    weft_timer_stop(&server->accept_timer);
    while (server->listeners) {
        struct weft__listener *listener = server->listeners;

        server->listeners = listener->next;
        weft_io_stop(&listener->io);
        close(listener->fd);
        weft__thread.live.descriptors--;
        weft_free(listener);
    }
}

int weft_http_server_get_port(const weft_http_server *server)
{
    return server->listeners ? server->listeners->port : 0;
}

struct weft__listener *weft__listener_next(const weft_http_server *server, const struct weft__listener *listener)
{
    return listener ? listener->next : server->listeners;
}

const char *weft__listener_get_address(const struct weft__listener *listener)
{
    return listener->address;
}

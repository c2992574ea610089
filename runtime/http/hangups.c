/* Hang-ups: resets of connections that are watched for nothing.
 *
 * A connection is not read while its backlog is full, or once its client has shut its side and may still get its
 * answer. A handler that waits then should be stopped all the same when the client resets it. epoll reports that
 * unasked, but libev keeps no descriptor that is watched for nothing: so we keep these in an epoll set of our own,
 * which is itself a descriptor that libev can watch. */
#include <sys/epoll.h>
#include <unistd.h>

#include "lib/thread.h"
#include "runtime/http/connection.h"
#include "runtime/http/hangups.h"

enum { MAX_HANGUPS = 64 }; /* per turn */

/* One at a time: what is done about one may close others, or be the end of the server. */
static void hangups_ready(weft_io *io, int events, void *arg)
{
    weft_http_server *server = arg;
    struct weft__hangups *hangups = &server->hangups;
    struct epoll_event event;

    (void)io, (void)events;
    server->connection_count++;
    for (int i = 0; i < MAX_HANGUPS && hangups->count && epoll_wait(hangups->fd, &event, 1, 0) == 1; i++)
        weft__connection_hung_up(event.data.ptr, event.events & (EPOLLERR | EPOLLHUP));
    weft__server_connection_ended(server);
}

void weft__hangups_init(struct weft__hangups *hangups, weft_http_server *server)
{
    hangups->fd = -1;
    weft_io_init(&hangups->io, hangups_ready, server);
}

static bool hangups_open(struct weft__hangups *hangups)
{
    if (hangups->fd >= 0)
        return true;
    hangups->fd = epoll_create1(EPOLL_CLOEXEC);
    if (hangups->fd < 0)
        return false;
    weft__thread.live.descriptors++;
    weft_io_start(&hangups->io, hangups->fd, WEFT_READABLE);
    return true;
}

static void hangups_close(struct weft__hangups *hangups)
{
    weft_io_stop(&hangups->io);
    close(hangups->fd);
    hangups->fd = -1;
    weft__thread.live.descriptors--;
}

/* Without a descriptor for the set, or memory for one more, the client is only missed when it is written to. */
void weft__hangups_add(struct weft__hangups *hangups, struct weft__connection *connection)
{
    struct epoll_event event = {.events = connection->input_ends ? 0 : EPOLLRDHUP, .data.ptr = connection};

    if (!hangups_open(hangups))
        return;
    if (!epoll_ctl(hangups->fd, EPOLL_CTL_ADD, connection->fd, &event)) {
        connection->in_hangups = true;
        hangups->count++;
    } else if (!hangups->count) {
        hangups_close(hangups);
    }
}

void weft__hangups_remove(struct weft__hangups *hangups, struct weft__connection *connection)
{
    connection->in_hangups = false;
    epoll_ctl(hangups->fd, EPOLL_CTL_DEL, connection->fd, NULL);
    if (!--hangups->count)
        hangups_close(hangups);
}

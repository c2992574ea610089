/* The limit: a libev loop that answers without parsing. Each empty line is taken for the end of a request, and
 * answered with fixed bytes, as long as nginx's. Not a server: what the sockets and the loop cost whoever stands on
 * them. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER                                                                                                       \
    "HTTP/1.1 200 OK\r\nServer: limit/libev4\r\nDate: Sat, 21 Nov 2026 03:39:19 GMT\r\nContent-Type: text/plain\r\n" \
    "Content-Length: 14\r\nConnection: keep-alive\r\n\r\nHello, World!\n"

enum { ANSWER_SIZE = sizeof ANSWER - 1, READ_SIZE = 16384, ANSWERS = READ_SIZE / 4 };

struct connection {
    ev_io io;
    size_t line; /* bytes of the line that is being read */
};

static char answers[ANSWERS * ANSWER_SIZE];

/* How many requests end in these bytes. */
static size_t requests_in(struct connection *connection, const char *at, const char *end)
{
    const char *newline;
    size_t requests = 0;

    while ((newline = memchr(at, '\n', (size_t)(end - at)))) {
        requests += connection->line + (size_t)(newline - at) == 1;
        connection->line = 0;
        at = newline + 1;
    }
    connection->line += (size_t)(end - at);
    return requests;
}

static void on_readable(struct ev_loop *loop, ev_io *io, int events)
{
    struct connection *connection = (struct connection *)io;
    char buffer[READ_SIZE];
    ssize_t got = read(io->fd, buffer, sizeof buffer);
    ssize_t size;

    (void)events;
    if (got > 0) {
        size = (ssize_t)requests_in(connection, buffer, buffer + got) * ANSWER_SIZE;
        if (!size || write(io->fd, answers, (size_t)size) == size)
            return;
    } else if (got < 0 && errno == EAGAIN) {
        return;
    }
    ev_io_stop(loop, io);
    close(io->fd);
    free(connection);
}

static void on_connection(struct ev_loop *loop, ev_io *io, int events)
{
    int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK);
    int on = 1;
    struct connection *connection;

    (void)events;
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!(connection = calloc(1, sizeof *connection)))
        abort();
    ev_io_init(&connection->io, on_readable, fd, EV_READ);
    ev_io_start(loop, &connection->io);
}

static void on_term(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)watcher;
    (void)events;
    ev_break(loop, EVBREAK_ALL);
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 512)) {
        perror("limit: cannot listen");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    struct ev_loop *loop = EV_DEFAULT;
    ev_signal term;
    ev_io listener;

    if (argc != 2) {
        fprintf(stderr, "usage: limit PORT\n");
        return 2;
    }
    for (int i = 0; i < ANSWERS; i++)
        memcpy(answers + i * ANSWER_SIZE, ANSWER, ANSWER_SIZE);
    ev_io_init(&listener, on_connection, listen_on(atoi(argv[1])), EV_READ);
    ev_io_start(loop, &listener);
    ev_signal_init(&term, on_term, SIGTERM);
    ev_signal_start(loop, &term);
    ev_run(loop, 0);
    return 0;
}

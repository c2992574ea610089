/* Clients that leave while their connection is not read. */
#ifndef WEFT_RUNTIME_HTTP_HANGUPS_H
#define WEFT_RUNTIME_HTTP_HANGUPS_H

#include <weft/http.h>

struct weft__connection;

struct weft__hangups {
    weft_io io;
    int fd; /* an epoll set; -1 while no connection needs it */
    size_t count;
};

void weft__hangups_init(struct weft__hangups *hangups, weft_http_server *server);

/* Until it is removed, which must be before it is closed, weft__connection_hung_up is called when the client resets
 * the connection, and, unless its input has ended before, when it closes it. */
void weft__hangups_add(struct weft__hangups *hangups, struct weft__connection *connection);
void weft__hangups_remove(struct weft__hangups *hangups, struct weft__connection *connection);

#endif

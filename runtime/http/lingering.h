/* Connections that are closed slowly. */
#ifndef WEFT_RUNTIME_HTTP_LINGERING_H
#define WEFT_RUNTIME_HTTP_LINGERING_H

#include <weft/http.h>

struct weft__connection;

/* Our side ends now; the connection is closed when the client's does, or soon. All inside the connection. */
void weft__lingering_begin(struct weft__connection *connection);
/* It has sent `size` bytes more, which nobody wants. */
void weft__lingering_read(struct weft__connection *connection, size_t size);
/* A connection has gone, perhaps the last that lingered. */
void weft__lingering_left(weft_http_server *server);

/* The server's timer for this; `arg` is the server. */
void weft__lingering_over(weft_timer *timer, void *arg);

#endif

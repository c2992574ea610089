/* A connection, from accept to close. */
#ifndef WEFT_RUNTIME_HTTP_CONNECTION_H
#define WEFT_RUNTIME_HTTP_CONNECTION_H

#include "runtime/http/address.h"
#include "runtime/http/output.h"
#include "runtime/http/request.h"
#include "runtime/http/server.h"

struct weft__backlog;

struct weft__connection {
    weft_io io;
    weft_http_server *server;
    struct weft__connection *next; /* in one of the server's lines … */
    struct weft__connection **link; /* … where this points to it */
    int fd;                        /* -1: closed; the client is gone */
    uint16_t port;                 /* the listener's */
    uint8_t watched;               /* for which events */
    bool input_ended;              /* the client has shut its side */
    bool input_ends;               /* … or has, behind what was not read yet */
    bool closing;                  /* no further request is answered */
    bool linger;                   /* … behind an answer that says so: the client may still be sending */
    bool lingering;
    bool in_hangups;               /* nobody else watches it */
    uint32_t entered;              /* calls that are inside, see weft__connection_enter */
    uint32_t answered_count;
    struct weft_request *request;  /* being read, or handled; NULL when idle */
    struct weft_request *answered; /* those whose answer has not left yet, oldest first */
    struct weft_request *answered_last;
    struct weft__output output;
    uint64_t settled;              /* bytes sent that are counted with a request */
    struct weft__backlog *backlog; /* bytes of the requests behind; NULL when there are none */
    int64_t linger_until;
    size_t linger_read;
    union weft__address peer;
};

/* Takes `fd`. */
void weft__connection_new(weft_http_server *server, int fd, const union weft__address *peer, uint16_t port);

/* Whatever touches a connection stands between these two. What it causes (answers, the end of the connection) gathers
 * meanwhile, and is carried out when the outermost leaves: answers of one batch go out together, and nobody finds the
 * connection freed under his feet. */
static inline void weft__connection_enter(struct weft__connection *connection)
{
    connection->entered++;
}
void weft__connection_leave(struct weft__connection *connection);

/* The current request has its result: it makes room for the next, and waits for its answer to leave. */
void weft__connection_request_ended(struct weft__connection *connection);

/* From the server's hang-ups: the client has reset the connection, or closed it behind what was not read yet. */
void weft__connection_hung_up(struct weft__connection *connection, bool reset);

/* The server wants to end: as politely as possible, or at once. Enters and leaves. */
void weft__connection_drain(struct weft__connection *connection);
void weft__connection_hurry(struct weft__connection *connection);
/* Closes it without a word; a request that is being handled goes on without it. Inside only. */
void weft__connection_close(struct weft__connection *connection);
/* The same, from outside: enters and leaves. */
void weft__connection_abandon(struct weft__connection *connection);

void weft__connection_move(struct weft__connection *connection, struct weft__connections *to);

#endif

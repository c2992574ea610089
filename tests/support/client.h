/* client.h: a client of an HTTP server that can behave as badly as the real ones.
 *
 * Sockets are used as if blocking, with PATIENCE (server.h) as the limit of every wait; a call that cannot do what it says
 * fails the test. The `try_` ones may be turned away: they are for clients that expect to be cut off. */
#ifndef WEFT_TESTS_CLIENT_H
#define WEFT_TESTS_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct client;

/* One response, as it was read; the client's, until it reads the next one. */
struct response {
    int status;
    const char *head; /* from "HTTP/1.1" up to the empty line, each line ended by CRLF; NUL-terminated */
    const char *body; /* NUL-terminated */
    size_t size;      /* of the body */
    bool keeps_alive; /* the server said, or left unsaid, that another request may follow */
};

/* ---- coming and going ---- */

struct client *client_connect(int port);
struct client *client_connect_with_small_window(int port); /* receives little at a time: a slow reader */
void client_close(struct client *client);                  /* FIN, or RST when there is something unread; frees it */
void close_with_reset(struct client *client);              /* RST, also when there is nothing unread; frees it */
void shut_sending_side(struct client *client);             /* FIN, and goes on reading */
/* Reads up to the end of the stream, then closes. The server must be the one to end it, without sending anything more; and
 * not by a reset, which takes its last words away from a client that has not read them yet. */
void expect_closed(struct client *client);

/* ---- sending ---- */

void send_bytes(struct client *client, const void *bytes, size_t size);
void send_text(struct client *client, const char *format, ...) __attribute__((format(printf, 2, 3)));
void send_get(struct client *client, const char *target);
/* False when the server hung up before all was sent. */
bool try_send(struct client *client, const void *bytes, size_t size);
/* As much as the server takes now; 0 when it takes nothing for so long. Only to show that it does not. */
size_t send_within(struct client *client, const void *bytes, size_t size, int milliseconds);

/* ---- receiving ---- */

/* The next response, to a request of any method but HEAD. Checks that it is well-formed. */
const struct response *read_response(struct client *client);
const struct response *read_response_to_head(struct client *client);
/* The same, or NULL when the connection ends before a byte of one. */
const struct response *try_read_response(struct client *client);
/* Reads a response and checks its status, and its body when one is given. */
void expect_status(struct client *client, int status);
void expect_answer(struct client *client, int status, const char *body);
/* Takes at least one byte of what comes, and leaves the rest. */
void read_a_bit(struct client *client);
/* Whether it has something to read, or the end of it, within so many milliseconds. Only to show that nothing comes. */
bool client_hears_within(struct client *client, int milliseconds);

/* ---- looking at responses ---- */

/* The header's value, or NULL; borrowed until the next call on the same client. */
const char *response_header(struct client *client, const char *name);
/* The body as JSON, the caller's; fails the test when it is none. */
json_t *response_json(const struct response *response);
/* Checks that it is `status` (any from 400 when 0) and {"errcode": …, "error": …}, and calls itself JSON. */
void check_is_json_error(struct client *client, const struct response *response, int status);

/* ---- curl: a client that was not written for these tests ---- */

struct tool;

struct curl_answer {
    int exit;   /* curl's exit status: 0 when it had an answer */
    int status; /* of HTTP; 0 when there was no answer */
    char body[8192];
};

/* curl(port, "/echo", "-d", "hello"): runs it with these options and waits for the answer; curl_run and curl_finish for
 * those who want to do something in between. */
#define curl(...) curl_finish(curl_run(__VA_ARGS__))
#define curl_run(port, path, ...) curl_run_with(port, path, (const char *const[]){__VA_ARGS__ __VA_OPT__(,) NULL})
struct tool *curl_run_with(int port, const char *path, const char *const *options);
struct curl_answer curl_finish(struct tool *tool);

#endif

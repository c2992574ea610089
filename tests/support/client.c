/* A socket, what came through it and was not used yet, and the last response cut out of that. */
#define _GNU_SOURCE /* vasprintf */
#include "tests/support/client.h"

#include "tests/support/server.h"
#include "tests/support/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

struct client {
    int fd;
    char *unread; /* received, not yet part of a response */
    size_t size;
    struct response response;
    char *head; /* of `response` */
    char *body;
    char value[1024]; /* what response_header last gave */
};

/* ---- coming and going ---- */

static struct client *connect_with_window(int port, int window)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct client *client = calloc(1, sizeof *client);
    const int yes = 1;

    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(client->fd, 0, "no socket: %s", strerror(errno));
    if (window)
        setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &window, sizeof window);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    cr_assert_eq(connect(client->fd, (const struct sockaddr *)&address, sizeof address), 0, "no connection: %s",
                 strerror(errno));
    return client;
}

struct client *client_connect(int port)
{
    return connect_with_window(port, 0);
}

struct client *client_connect_with_small_window(int port)
{
    return connect_with_window(port, 4096);
}

void client_close(struct client *client)
{
    close(client->fd);
    free(client->unread);
    free(client->head);
    free(client->body);
    free(client);
}

void close_with_reset(struct client *client)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    client_close(client);
}

void shut_sending_side(struct client *client)
{
    if (shutdown(client->fd, SHUT_WR) < 0)
        cr_assert_eq(errno, ENOTCONN, "shutdown: %s", strerror(errno)); /* a reset came first */
}

/* ---- sending ---- */

static bool was_cut_off(int error)
{
    return error == EPIPE || error == ECONNRESET;
}

static bool wait_for(struct client *client, short events, double deadline)
{
    struct pollfd ready = {.fd = client->fd, .events = events};
    int count;

    while ((count = poll(&ready, 1, deadline_left_ms(deadline))) < 0)
        cr_assert_eq(errno, EINTR, "poll: %s", strerror(errno));
    return count > 0;
}

bool try_send(struct client *client, const void *bytes, size_t size)
{
    double deadline = deadline_new();
    const char *next = bytes;

    while (size) {
        ssize_t sent = send(client->fd, next, size, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0 && was_cut_off(errno))
            return false;
        if (sent < 0) {
            cr_assert_eq(errno, EAGAIN, "send: %s", strerror(errno));
            cr_assert(wait_for(client, POLLOUT, deadline), "the server does not take what is sent");
            continue;
        }
        next += sent;
        size -= (size_t)sent;
    }
    return true;
}

size_t send_within(struct client *client, const void *bytes, size_t size, int milliseconds)
{
    struct pollfd ready = {.fd = client->fd, .events = POLLOUT};
    ssize_t sent = 0;

    if (poll(&ready, 1, milliseconds) > 0)
        sent = send(client->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent > 0 ? (size_t)sent : 0;
}

void send_bytes(struct client *client, const void *bytes, size_t size)
{
    cr_assert(try_send(client, bytes, size), "the server hung up while it was being sent a request");
}

void send_text(struct client *client, const char *format, ...)
{
    va_list arguments;
    char *text;
    int size;

    va_start(arguments, format);
    size = vasprintf(&text, format, arguments);
    va_end(arguments);
    cr_assert_geq(size, 0);
    send_bytes(client, text, (size_t)size);
    free(text);
}

void send_get(struct client *client, const char *target)
{
    send_text(client, "GET %s HTTP/1.1\r\nHost: weft\r\n\r\n", target);
}

/* ---- receiving ---- */

enum outcome { MORE, END, RESET };

static enum outcome receive(struct client *client)
{
    char piece[65536];
    ssize_t got;

    cr_assert(wait_for(client, POLLIN, deadline_new()), "the server is silent; up to now it said: %.*s",
              (int)client->size, client->unread ? client->unread : "");
    got = recv(client->fd, piece, sizeof piece, MSG_DONTWAIT);
    if (got < 0 && was_cut_off(errno))
        return RESET;
    cr_assert_geq(got, 0, "recv: %s", strerror(errno));
    if (!got)
        return END;
    client->unread = realloc(client->unread, client->size + (size_t)got + 1);
    memcpy(client->unread + client->size, piece, (size_t)got);
    client->size += (size_t)got;
    client->unread[client->size] = '\0';
    return MORE;
}

/* Takes the first `size` of what is unread out of it, ended by NUL. */
static char *cut(struct client *client, size_t size)
{
    char *piece = malloc(size + 1);

    memcpy(piece, client->unread, size);
    piece[size] = '\0';
    client->size -= size;
    memmove(client->unread, client->unread + size, client->size + 1);
    return piece;
}

static void read_head(struct client *client)
{
    size_t searched = 0;
    char *end;

    while (!client->unread || !(end = strstr(client->unread + searched, "\r\n\r\n"))) {
        searched = client->size > 3 ? client->size - 3 : 0;
        cr_assert_eq(receive(client), MORE, "the connection ended in the middle of a response: %.*s",
                     (int)client->size, client->unread ? client->unread : "");
    }
    free(client->head);
    client->head = cut(client, (size_t)(end - client->unread) + 4);
    client->head[strlen(client->head) - 2] = '\0';
}

/* What the server said of the body's length; it never sends chunks, so it must say. */
static size_t stated_length(struct client *client, int status)
{
    const char *text = response_header(client, "Content-Length");
    size_t length;
    char *end;

    cr_assert_null(response_header(client, "Transfer-Encoding"), "a chunked response: %s", client->head);
    if (status == 204 || status == 304 || status < 200)
        return 0;
    cr_assert_not_null(text, "no Content-Length in: %s", client->head);
    length = strtoull(text, &end, 10);
    cr_assert(end != text && !*end, "the Content-Length is: %s", text);
    return length;
}

static const struct response *read_response_with_body(struct client *client, bool with_body)
{
    struct response *response = &client->response;
    const char *connection;
    char version[16];
    size_t length;

    read_head(client);
    cr_assert_eq(sscanf(client->head, "%15s %d", version, &response->status), 2, "no status line: %s",
                 client->head);
    cr_assert(!strcmp(version, "HTTP/1.1") || !strcmp(version, "HTTP/1.0"), "no version: %s", client->head);
    cr_assert(response->status >= 100 && response->status <= 599, "no status: %s", client->head);
    connection = response_header(client, "Connection");
    response->keeps_alive = connection ? !strcasecmp(connection, "keep-alive") : !strcmp(version, "HTTP/1.1");
    length = stated_length(client, response->status);
    if (!with_body)
        length = 0;
    while (client->size < length)
        cr_assert_eq(receive(client), MORE, "the connection ended after %zu of %zu bytes of a body", client->size,
                     length);
    free(client->body);
    client->body = cut(client, length);
    response->head = client->head;
    response->body = client->body;
    response->size = length;
    return response;
}

const struct response *read_response(struct client *client)
{
    return read_response_with_body(client, true);
}

const struct response *read_response_to_head(struct client *client)
{
    return read_response_with_body(client, false);
}

const struct response *try_read_response(struct client *client)
{
    if (!client->size && receive(client) != MORE)
        return NULL;
    return read_response(client);
}

void expect_status(struct client *client, int status)
{
    const struct response *response = read_response(client);

    cr_assert_eq(response->status, status, "not %d but: %s%s", status, response->head, response->body);
}

void expect_answer(struct client *client, int status, const char *body)
{
    expect_status(client, status);
    cr_assert_str_eq(client->body, body);
}

void expect_closed(struct client *client)
{
    enum outcome outcome;

    while ((outcome = receive(client)) == MORE)
        ;
    cr_assert_eq(client->size, 0u, "there was more: %s", client->unread);
    cr_assert_eq(outcome, END, "the server has reset the connection");
    client_close(client);
}

void read_a_bit(struct client *client)
{
    char piece[100];

    cr_assert(wait_for(client, POLLIN, deadline_new()), "the server is silent");
    cr_assert_gt(recv(client->fd, piece, sizeof piece, 0), 0, "the server has hung up");
}

bool client_hears_within(struct client *client, int milliseconds)
{
    struct pollfd ready = {.fd = client->fd, .events = POLLIN};

    return client->size || poll(&ready, 1, milliseconds) > 0;
}

/* ---- looking at responses ---- */

const char *response_header(struct client *client, const char *name)
{
    size_t length = strlen(name);
    const char *line;

    for (line = strstr(client->head, "\r\n"); line && line[2]; line = strstr(line + 2, "\r\n")) {
        const char *value = line + 2 + length;

        if (strncasecmp(line + 2, name, length) || *value != ':')
            continue;
        value += 1 + strspn(value + 1, " ");
        snprintf(client->value, sizeof client->value, "%.*s", (int)strcspn(value, "\r"), value);
        return client->value;
    }
    return NULL;
}

json_t *response_json(const struct response *response)
{
    json_error_t why;
    json_t *json = json_loadb(response->body, response->size, 0, &why);

    cr_assert_not_null(json, "not JSON (%s): %s", why.text, response->body);
    return json;
}

void check_is_json_error(struct client *client, const struct response *response, int status)
{
    const char *type = response_header(client, "Content-Type");
    const char *errcode;
    const char *error;
    json_t *json;

    cr_assert(status ? response->status == status : response->status >= 400, "not %d but: %s%s", status,
              response->head, response->body);
    cr_assert(type && !strncmp(type, "application/json", 16), "its type is not JSON: %s", response->head);
    json = response_json(response);
    cr_assert_eq(json_unpack(json, "{s:s, s:s}", "errcode", &errcode, "error", &error), 0,
                 "no errcode and error: %s", response->body);
    cr_assert(*errcode && *error, "empty: %s", response->body);
    json_decref(json);
}

/* ---- curl ---- */

struct tool *curl_run_with(int port, const char *path, const char *const *options)
{
    const char *arguments[32] = {"curl", "-q", "--noproxy", "*", "-sS", "-w", "\nstatus %{http_code}"};
    size_t count = 7;
    struct tool *tool;
    char *url;

    cr_assert_gt(asprintf(&url, "http://127.0.0.1:%d%s", port, path), 0);
    for (; *options; options++) {
        cr_assert_lt(count, 30u, "too many options for curl");
        arguments[count++] = *options;
    }
    arguments[count++] = url;
    arguments[count] = NULL;
    tool = tool_run_with(arguments);
    free(url);
    return tool;
}

struct curl_answer curl_finish(struct tool *tool)
{
    struct curl_answer answer = {.status = 0};
    char *output;
    char *status;

    answer.exit = tool_finish(tool, &output);
    status = strstr(output, "\nstatus ");
    if (status) {
        answer.status = atoi(status + strlen("\nstatus "));
        *status = '\0';
    }
    snprintf(answer.body, sizeof answer.body, "%s", output);
    free(output);
    return answer;
}

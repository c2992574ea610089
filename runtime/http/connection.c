/* A connection: its bytes become requests, one at a time, and their answers become bytes.
 *
 * Between two requests it is this struct and a descriptor. A request, its parser and its buffers come with its first
 * byte and go when its answer has left. What is read lies in the server's read buffer, and is parsed from there.
 *
 * While a request is handled reading goes on, so that we see when the client leaves; what comes is kept in the
 * backlog, up to a bound, and parsed afterwards. Nothing here recurses from one request into the next: a request that
 * ends says so, and the outermost weft__connection_leave goes on with the backlog.
 *
 * Closed means fd < 0: the client is gone, as far as anybody can tell. A connection outlives its descriptor as long
 * as a request is being handled. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weft/log.h>

#include "lib/context.h"
#include "runtime/http/backlog.h"
#include "runtime/http/connection.h"
#include "runtime/http/handling.h"
#include "runtime/http/lingering.h"
#include "runtime/http/metrics.h"
#include "runtime/http/response.h"

enum {
    MAX_ANSWERED = 128,       /* answers that gather before they are sent */
    MAX_WAITING = 256 * 1024, /* bytes of output; while more wait, no further request is read */
};

/* ---- lines of connections ---- */

static void line_add(struct weft__connections *line, struct weft__connection *connection)
{
    connection->next = line->first;
    connection->link = &line->first;
    if (line->first)
        line->first->link = &connection->next;
    line->first = connection;
}

static void line_remove(struct weft__connection *connection)
{
    *connection->link = connection->next;
    if (connection->next)
        connection->next->link = connection->link;
}

void weft__connection_move(struct weft__connection *connection, struct weft__connections *to)
{
    line_remove(connection);
    line_add(to, connection);
}

/* ---- the end ---- */

static bool is_reading(const struct weft__connection *connection)
{
    return connection->request && weft__request_is_being_read(connection->request);
}

/* Of what the connection has sent, what follows the answers that were settled before belongs to this one. */
static void count_sent(struct weft_request *request)
{
    struct weft__connection *connection = request->connection;
    uint64_t sent = connection->output.sent < request->answer_end ? connection->output.sent : request->answer_end;

    if (sent <= connection->settled)
        return;
    if (request->context)
        weft__context_count(request->context, offsetof(weft_usage, bytes_out), (int64_t)(sent - connection->settled));
    connection->settled = sent;
}

/* All that will ever be known of it is. */
static void settle(struct weft_request *request, int64_t now)
{
    count_sent(request);
    weft__request_count_ended(request, now);
    if (!request->context)
        return;
    weft__request_line_log(request, now);
    weft__context_end_last(request->context);
}

/* Settles with the requests whose answer has left, or never will. */
static void release_answered(struct weft__connection *connection)
{
    struct weft_request *request;
    int64_t now = connection->answered ? weft_clock_now(connection->server->clock) : 0;

    while ((request = connection->answered)) {
        if (connection->fd >= 0 && request->answer_end > connection->output.sent)
            break;
        connection->answered = request->next;
        connection->answered_count--;
        settle(request, now);
        weft__request_free(request);
    }
}

/* A request that will not be read to its end. */
static void abandon_reading(struct weft__connection *connection)
{
    struct weft_request *request = connection->request;
    char peer[WEFT__ADDRESS_SIZE];

    connection->request = NULL;
    if (request->phase == WEFT__IN_HEAD) {
        weft_log_info("%s left in the middle of the head of a request, after %u bytes",
                      weft__address_print(&connection->peer, peer), request->text_size);
    } else {
        weft__request_count_begun(request, true);
        weft__request_begin_context(request);
        request->status = 499;
        request->ended = weft__server_line_time(connection->server);
        settle(request, weft_clock_now(connection->server->clock));
    }
    weft__request_free(request);
}

void weft__connection_close(struct weft__connection *connection)
{
    if (connection->fd < 0)
        return;
    if (connection->in_hangups)
        weft__hangups_remove(&connection->server->hangups, connection);
    weft_io_stop(&connection->io);
    close(connection->fd);
    connection->fd = -1;
    weft__thread.live.descriptors--;
    release_answered(connection);
    if (is_reading(connection))
        abandon_reading(connection);
    weft__output_clear(&connection->output, &connection->server->blocks);
    connection->backlog = weft__backlog_free(connection->backlog);
    weft__listeners_resume(connection->server);
}

/* The client has left, in a way that `what` tells. */
static void client_left(struct weft__connection *connection, const char *what)
{
    struct weft_request *request;
    char peer[WEFT__ADDRESS_SIZE];

    weft__connection_close(connection);
    request = connection->request;
    if (request && request->context)
        weft_context_client_left(request->context);
    if (request && weft__request_is_cancellable(request))
        weft__request_cancel(request, weft_error_new(&WEFT_CLIENT_GONE, "%s %s",
                                                     weft__address_print(&connection->peer, peer), what));
}

static void connection_free(struct weft__connection *connection)
{
    weft_http_server *server = connection->server;

    assert(!connection->request && !connection->answered && !connection->output.first);
    line_remove(connection);
    weft__lingering_left(server);
    weft_free(connection);
    weft__thread.live.connections--;
    weft__server_connection_ended(server);
}

/* ---- sending ---- */

static void send_output(struct weft__connection *connection)
{
    int error = 0;

    if (connection->fd < 0)
        return;
    if (connection->output.first)
        error = weft__output_send(&connection->output, &connection->server->blocks, connection->fd);
    if (error)
        client_left(connection, error == ECONNRESET || error == EPIPE ? "reset the connection" : strerror(error));
    else
        release_answered(connection);
}

void weft__connection_request_ended(struct weft__connection *connection)
{
    struct weft_request *request = connection->request;

    connection->request = NULL;
    request->next = NULL;
    if (connection->answered)
        connection->answered_last->next = request;
    else
        connection->answered = request;
    connection->answered_last = request;
    connection->answered_count++;
}

/* ---- reading requests ---- */

/* Whether bytes can be parsed now. */
static bool may_parse(const struct weft__connection *connection)
{
    return !connection->closing && connection->fd >= 0 && (!connection->request || is_reading(connection)) &&
           connection->answered_count < MAX_ANSWERED && weft__output_waiting(&connection->output) < MAX_WAITING;
}

static void refuse_half_a_head(struct weft__connection *connection)
{
    struct weft_request *request = connection->request;
    char peer[WEFT__ADDRESS_SIZE];

    weft_log_info("what %s sent is answered %d: %s", weft__address_print(&connection->peer, peer),
                  request->refusal.status, request->refusal.message);
    request->phase = WEFT__WHOLE;
    request->began = connection->server->parsing_since;
    weft__request_count_begun(request, false);
    weft__request_refuse(request);
}

/* What follows cannot be told from it: it is answered, and is the last. */
static void refuse_request(struct weft__connection *connection)
{
    connection->linger = true;
    if (connection->request->phase == WEFT__IN_HEAD) {
        refuse_half_a_head(connection);
        return;
    }
    connection->request->phase = WEFT__WHOLE;
    weft__request_handle(connection->request);
}

static void whole_request(struct weft__connection *connection)
{
    struct weft_request *request = connection->request;

    /* A client that has shut its side would be gone the moment the handler waits. */
    if (connection->input_ended && request->route && !request->route->options.half_close) {
        request->phase = WEFT__IN_BODY;
        weft__connection_close(connection);
        return;
    }
    weft__request_handle(request);
}

static void ask_for_body(struct weft__connection *connection)
{
    struct weft_request *request = connection->request;

    if (!request->wants_continue || request->phase != WEFT__IN_BODY)
        return;
    request->wants_continue = false;
    if (!request->body_size)
        weft__respond_continue(request);
}

/* Parses until one request is whole or the data is used up. Returns how much was used. */
static size_t parse_some(struct weft__connection *connection, const char *data, size_t size)
{
    enum weft__reading reading;
    size_t used;

    if (!connection->request)
        connection->request = weft__request_new(connection);
    reading = weft__request_read(connection->request, data, size, &used);
    connection->request->bytes_in += used;
    switch (reading) {
    case WEFT__READ_NOTHING:
        weft__request_free(connection->request);
        connection->request = NULL;
        break;
    case WEFT__READ_PART:
        ask_for_body(connection);
        break;
    case WEFT__READ_WHOLE:
        whole_request(connection);
        break;
    case WEFT__READ_REFUSED:
        refuse_request(connection);
        break;
    }
    return used;
}

/* Parses as much as may be; returns how much that was. */
static size_t parse(struct weft__connection *connection, const char *data, size_t size)
{
    size_t used = 0;

    connection->server->parsing_since = weft_clock_now(connection->server->clock);
    while (used < size && may_parse(connection)) {
        used += parse_some(connection, data + used, size - used);
        if (connection->answered_count == MAX_ANSWERED)
            send_output(connection);
    }
    return used;
}

static void parse_backlog(struct weft__connection *connection)
{
    struct weft__backlog *backlog = connection->backlog;
    size_t used;

    if (!may_parse(connection))
        return;
    /* Closing would free what is being parsed. */
    connection->backlog = NULL;
    used = parse(connection, weft__backlog_data(backlog), weft__backlog_size(backlog));
    connection->backlog = connection->fd < 0 ? weft__backlog_free(backlog) : weft__backlog_consume(backlog, used);
}

static void receive(struct weft__connection *connection, const char *data, size_t size)
{
    size_t used = connection->backlog ? 0 : parse(connection, data, size);

    if (used == size || connection->fd < 0)
        return;
    if (connection->closing)
        connection->linger = true;
    else
        connection->backlog = weft__backlog_add(connection->backlog, data + used, size - used);
}

/* Whether a client that shuts its side counts as gone. */
static bool needs_input(const struct weft__connection *connection)
{
    const struct weft_request *request = connection->request;

    return request && !is_reading(connection) && !request->answered && !request->route->options.half_close;
}

/* The client has shut its side, or left: that looks the same. */
static void end_of_input(struct weft__connection *connection)
{
    connection->input_ended = true;
    if (connection->lingering)
        weft__connection_close(connection);
    else if (needs_input(connection))
        client_left(connection, "closed the connection");
}

void weft__connection_hung_up(struct weft__connection *connection, bool reset)
{
    weft__connection_enter(connection);
    weft__hangups_remove(&connection->server->hangups, connection);
    connection->input_ends = true;
    if (reset || needs_input(connection))
        client_left(connection, reset ? "reset the connection" : "closed the connection");
    else
        weft__hangups_add(&connection->server->hangups, connection); /* a reset may follow */
    weft__connection_leave(connection);
}

/* How much may be read now; 0: nothing. */
static size_t reading_room(const struct weft__connection *connection)
{
    if (connection->input_ended)
        return 0;
    return connection->backlog ? weft__backlog_room(connection->backlog) : WEFT__READ_SIZE;
}

static void read_input(struct weft__connection *connection)
{
    char *buffer = connection->server->read_buffer;
    size_t room = reading_room(connection);
    ssize_t size;

    if (!room)
        return;
    size = recv(connection->fd, buffer, room, 0);
    if (size > 0) {
        if (connection->lingering)
            weft__lingering_read(connection, (size_t)size);
        else
            receive(connection, buffer, (size_t)size);
    } else if (!size) {
        end_of_input(connection);
    } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        client_left(connection, errno == ECONNRESET ? "reset the connection" : strerror(errno));
    }
}

/* ---- going on ---- */

/* Everything is sent, and nothing more can come, or may. */
static bool is_finished(const struct weft__connection *connection)
{
    if (!connection->closing && !connection->input_ended)
        return false;
    if (connection->output.first || connection->lingering || connection->fd < 0)
        return false;
    if (connection->request && !is_reading(connection))
        return false;
    return connection->closing || !connection->backlog;
}

/* Behind an answer that is the last the client may still be sending: it did not know. An idle connection is just closed. */
static void finish(struct weft__connection *connection)
{
    bool may_send = !connection->input_ended && (connection->linger || connection->backlog);

    if (may_send && !connection->server->hurrying)
        weft__lingering_begin(connection);
    else
        weft__connection_close(connection);
}

static void watch(struct weft__connection *connection)
{
    int events = (reading_room(connection) ? WEFT_READABLE : 0) | (connection->output.first ? WEFT_WRITABLE : 0);

    if (events == connection->watched)
        return;
    connection->watched = (uint8_t)events;
    weft_io_start(&connection->io, connection->fd, events);
    if (connection->in_hangups)
        weft__hangups_remove(&connection->server->hangups, connection);
    if (!events)
        weft__hangups_add(&connection->server->hangups, connection);
}

static void go_on(struct weft__connection *connection)
{
    do {
        if (connection->backlog)
            parse_backlog(connection);
        send_output(connection);
    } while (connection->backlog && may_parse(connection));
    if (is_finished(connection))
        finish(connection);
    else if (connection->server->hurrying && (!connection->request || is_reading(connection)))
        weft__connection_close(connection); /* whoever does not read his answer is not waited for */
    if (connection->fd >= 0)
        watch(connection);
    else
        release_answered(connection);
}

void weft__connection_leave(struct weft__connection *connection)
{
    if (connection->entered == 1)
        go_on(connection);
    if (!--connection->entered && connection->fd < 0 && !connection->request)
        connection_free(connection);
}

static void connection_ready(weft_io *io, int events, void *arg)
{
    struct weft__connection *connection = arg;

    (void)io;
    weft__connection_enter(connection);
    if (events & WEFT_READABLE)
        read_input(connection);
    weft__connection_leave(connection);
}

void weft__connection_new(weft_http_server *server, int fd, const union weft__address *peer, uint16_t port)
{
    struct weft__connection *connection = weft_alloc_zeroed(sizeof *connection);

    connection->server = server;
    connection->fd = fd;
    connection->peer = *peer;
    connection->port = port;
    weft_io_init(&connection->io, connection_ready, connection);
    line_add(&server->connections, connection);
    server->connection_count++;
    weft__thread.live.connections++;
    weft__thread.live.descriptors++;
    watch(connection);
}

/* ---- shutting down ---- */

void weft__connection_abandon(struct weft__connection *connection)
{
    weft__connection_enter(connection);
    weft__connection_close(connection);
    weft__connection_leave(connection);
}

void weft__connection_drain(struct weft__connection *connection)
{
    struct weft_request *request = connection->request;

    weft__connection_enter(connection);
    if (!request) {
        connection->closing = true;
    } else if (is_reading(connection)) {
        request->refusal = (struct weft__refusal){503, "M_UNKNOWN", "The server is shutting down"};
        refuse_request(connection);
    } else if (weft__request_is_cancellable(request)) {
        weft__request_cancel(request, weft_error_new(&WEFT_SHUTDOWN, "the server is shutting down"));
    }
    weft__connection_leave(connection);
}

void weft__connection_hurry(struct weft__connection *connection)
{
    struct weft_request *request = connection->request;

    weft__connection_enter(connection);
    if (request && !is_reading(connection))
        weft__request_cancel(request, weft_error_new(&WEFT_SHUTDOWN, "the server would not wait any longer"));
    else
        weft__connection_close(connection);
    weft__connection_leave(connection);
}

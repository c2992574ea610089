/* Responses.
 *
 * A response is queued in its connection's output the moment it is made; requests of a connection are handled one
 * after the other, so it is its turn. Without a client only the status is noted, for the request line. */
#include <stdlib.h>
#include <string.h>

#include "runtime/http/connection.h"
#include "runtime/http/head.h"
#include "runtime/http/response.h"

/* Larger bodies are not copied behind their head. */
enum { SMALL_BODY = 4096 };

struct body {
    const char *bytes;
    size_t size;
    void (*drop)(void *); /* NULL: it is the caller's, and is copied */
};

static void body_drop(const struct body *body)
{
    if (body->drop)
        body->drop((void *)body->bytes);
}

/* ---- answering ---- */

/* Queues a body where it lies, or a copy. Takes it. */
static void body_lend(const struct body *body, struct weft__output *output)
{
    void *copy;

    if (body->drop) {
        weft__output_lend(output, body->bytes, body->size, body->drop, (void *)body->bytes);
        return;
    }
    copy = weft_alloc(body->size);
    memcpy(copy, body->bytes, body->size);
    weft__output_lend(output, copy, body->size, weft_free, copy);
}

/* Takes the body. */
static void queue_answer(struct weft_request *request, struct weft__head *head, const struct body *body)
{
    struct weft__connection *connection = request->connection;
    weft_http_server *server = connection->server;
    bool bodiless = request->parser.method == HTTP_HEAD || weft__status_has_no_body(head->status);
    size_t small = bodiless || body->size > SMALL_BODY ? 0 : body->size;
    char *out = weft__output_reserve(&connection->output, &server->blocks, weft__head_room(head) + small);

    head->length = body->size;
    head->close = !request->keep_alive;
    head->keep_alive = !request->parser.http_minor;
    out = weft__head_put(&server->heads, server->clock, out, head);
    memcpy(out, body->bytes, small);
    weft__output_commit(&connection->output, out + small);
    if (bodiless || small || !body->size)
        body_drop(body);
    else
        body_lend(body, &connection->output);
    request->answer_size = bodiless ? 0 : body->size;
    request->answer_end = connection->output.queued;
}

static weft_result misuse(const struct weft_request *request, int status, const struct body *body,
                          const weft_place *place)
{
    body_drop(body);
    if (request->answered)
        return weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "the request has been answered already, with %d",
                                           request->status));
    return weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "%d is no status of a response", status));
}

/* Every answer goes this way. Takes the body. */
static weft_result respond(struct weft_request *request, struct weft__head *head, const struct body *body,
                           const weft_place *place)
{
    struct weft__connection *connection = request->connection;

    if (request->answered || head->status < 200 || head->status > 599)
        return misuse(request, head->status, body, place);
    request->answered = true;
    request->status = (uint16_t)head->status;
    if (connection->fd < 0) {
        body_drop(body);
        return weft_ok(NULL);
    }
    weft__connection_enter(connection);
    if (connection->server->draining)
        request->keep_alive = false;
    if (!request->keep_alive)
        connection->closing = connection->linger = true;
    queue_answer(request, head, body);
    weft__connection_leave(connection);
    return weft_ok(NULL);
}

weft_result weft_respond_at(weft_request *request, int status, const char *content_type, const void *body, size_t size,
                            const weft_place *place)
{
    return respond(request, &(struct weft__head){.status = status, .type = content_type},
                   &(struct body){size ? body : "", size, NULL}, place);
}

/* What most answers are: short, 200, and followed by others. The same as above with every question answered. */
static bool respond_quickly(struct weft_request *request, int status, const char *type, const char *bytes, size_t size)
{
    struct weft__connection *connection = request->connection;
    weft_http_server *server = connection->server;
    struct weft__output *output = &connection->output;
    char *out;

    if (status != 200 || request->answered || size > SMALL_BODY || !request->keep_alive ||
        !request->parser.http_minor || request->parser.method == HTTP_HEAD || connection->fd < 0 || server->draining)
        return false;
    out = weft__output_reserve(output, &server->blocks, WEFT__READY_HEAD_ROOM + size);
    out = weft__ready_head_put(&server->heads, server->clock, out, type, size);
    memmove(out, bytes, size); /* gcc would make memcpy a slow `rep movs` */
    weft__output_commit(output, out + size);
    request->answered = true;
    request->status = 200;
    request->answer_size = size;
    request->answer_end = output->queued;
    if (!connection->entered) {
        weft__connection_enter(connection);
        weft__connection_leave(connection);
    }
    return true;
}

weft_result weft_respond_text_at(weft_request *request, int status, const char *text, const weft_place *place)
{
    if (respond_quickly(request, status, weft__type_text, text, strlen(text)))
        return weft_ok(NULL);
    return respond(request, &(struct weft__head){.status = status, .type = weft__type_text},
                   &(struct body){text, strlen(text), NULL}, place);
}

/* jansson's text comes from the allocator that jansson was told to use. */
static void free_json_text(void *text)
{
    json_malloc_t ignored;
    json_free_t release;

    json_get_alloc_funcs(&ignored, &release);
    release(text);
}

static weft_result respond_json(struct weft_request *request, int status, const char *allow, json_t *body,
                                const weft_place *place)
{
    char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

    json_decref(body);
    if (!text)
        return weft_fail(weft_error_new_at(&WEFT_FAILURE, place, "the response could not be made into JSON"));
    if (respond_quickly(request, status, weft__type_json, text, strlen(text))) {
        free_json_text(text);
        return weft_ok(NULL);
    }
    return respond(request, &(struct weft__head){.status = status, .type = weft__type_json, .allow = allow},
                   &(struct body){text, strlen(text), free_json_text}, place);
}

weft_result weft_respond_json_at(weft_request *request, int status, json_t *body, const weft_place *place)
{
    return respond_json(request, status, NULL, body, place);
}

/* ---- the server's own answers ---- */

/* A message may quote what a client sent, which need not be UTF-8. */
static json_t *text_to_json(const char *text)
{
    json_t *string = json_string(text);
    char *copy;

    if (string)
        return string;
    copy = weft_strdup(text);
    for (char *c = copy; *c; c++) {
        if (*c & 0x80)
            *c = '?';
    }
    string = json_string(copy);
    weft_free(copy);
    return string;
}

void weft__respond_error(struct weft_request *request, int status, const char *errcode, const char *message)
{
    json_t *body = json_pack("{s:o, s:o}", "errcode", text_to_json(errcode ? errcode : "M_UNKNOWN"), "error",
                             text_to_json(message));
    char methods[512] = "";

    if (request->others)
        weft__routes_print_methods(request->others, methods, sizeof methods);
    weft_result_drop(respond_json(request, status, status == 405 ? methods : NULL, body, WEFT_HERE));
}

void weft__respond_continue(struct weft_request *request)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct weft__connection *connection = request->connection;
    char *out = weft__output_reserve(&connection->output, &connection->server->blocks, sizeof text);

    memcpy(out, text, sizeof text - 1);
    weft__output_commit(&connection->output, out + sizeof text - 1);
}

/* Reading a request: llhttp's callbacks.
 *
 * While the head is read we only note where things are, as offsets from its first byte. When it is complete it is
 * copied once, from the connection's read buffer, into the request; only a head that comes in pieces is copied piece
 * by piece. So a request costs no allocation per header, and everything the handler is given lies in one stretch of
 * memory. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "runtime/http/connection.h"
#include "runtime/http/request.h"
#include "runtime/http/server.h"

enum { SPAN_NONE, SPAN_TARGET, SPAN_NAME, SPAN_VALUE };
enum { MAX_VERSION = 64 }; /* with the blanks before it, when nothing follows it */
static const char folded[] = "A header is folded over several lines";

/* The callbacks' way to stop the parser. What follows the request cannot be told from it any more. */
static int refuse(struct weft_request *request, int status, const char *errcode, const char *message)
{
    request->refusal = (struct weft__refusal){status, errcode, message};
    request->keep_alive = false;
    return -1;
}

/* ---- the head: where things are ---- */

static struct weft__span span_of(const struct weft_request *request, const char *at, size_t size)
{
    return (struct weft__span){(uint32_t)((uintptr_t)at - request->origin), (uint32_t)size};
}

/* Adds a piece. One that does not follow the last is the next line of a folded header: long deprecated, and good for
 * nothing but hiding things from proxies. */
static int span_add(struct weft_request *request, struct weft__span *span, const char *at, size_t size)
{
    struct weft__span piece = span_of(request, at, size);

    if (piece.start != span->start + span->size)
        return refuse(request, 400, "M_UNKNOWN", folded);
    span->size += piece.size;
    return 0;
}

static int on_message_begin(llhttp_t *parser)
{
    struct weft_request *request = (struct weft_request *)parser;

    request->begun = true;
    return 0;
}

static int on_url(llhttp_t *parser, const char *at, size_t size)
{
    struct weft_request *request = (struct weft_request *)parser;

    if (request->span == SPAN_TARGET)
        return span_add(request, &request->target, at, size);
    request->span = SPAN_TARGET;
    request->target = span_of(request, at, size);
    return 0;
}

static void headers_grow(struct weft_request *request)
{
    uint32_t room = request->header_room * 2;
    struct weft__header *headers = weft_alloc(room * sizeof *headers);

    memcpy(headers, request->headers, request->header_count * sizeof *headers);
    if (request->headers != request->own_headers)
        weft_free(request->headers);
    request->headers = headers;
    request->header_room = room;
}

static struct weft__header *last_header(const struct weft_request *request)
{
    return &request->headers[request->header_count - 1];
}

/* Trailers, and extensions of chunks, are read and forgotten, and bounded like a head. */
static int forget(struct weft_request *request, size_t size)
{
    request->forgotten += size;
    if (request->forgotten > request->connection->server->options.max_head)
        return refuse(request, 431, "M_UNKNOWN", "There is too much in the body that is not body");
    return 0;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t size)
{
    struct weft_request *request = (struct weft_request *)parser;

    if (request->phase != WEFT__IN_HEAD)
        return forget(request, size);
    if (request->span == SPAN_NAME)
        return span_add(request, &last_header(request)->name, at, size);
    if (!size)
        return refuse(request, 400, "M_UNKNOWN", "A header has no name");
    if (request->header_count == request->header_room)
        headers_grow(request);
    request->span = SPAN_NAME;
    request->header_count++;
    *last_header(request) = (struct weft__header){.name = span_of(request, at, size)};
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t size)
{
    struct weft_request *request = (struct weft_request *)parser;

    if (request->phase != WEFT__IN_HEAD)
        return forget(request, size);
    if (request->span == SPAN_VALUE)
        return span_add(request, &last_header(request)->value, at, size);
    request->span = SPAN_VALUE;
    last_header(request)->value = span_of(request, at, size);
    return 0;
}

static int on_chunk_extension(llhttp_t *parser, const char *at, size_t size)
{
    (void)at;
    return forget((struct weft_request *)parser, size);
}

/* ---- the head: kept ---- */

static void text_append(struct weft_request *request, const char *data, size_t size)
{
    size_t needed = request->text_size + size + 1; /* with a NUL behind its last header */

    if (needed > request->text_room) {
        char *own = request->text == request->own_text ? request->own_text : NULL;
        size_t room = needed > 2 * (size_t)request->text_room ? needed : 2 * (size_t)request->text_room;

        request->text = weft_realloc(own ? NULL : request->text, room);
        request->text_room = (uint32_t)room;
        if (own)
            memcpy(request->text, own, request->text_size);
    }
    memcpy(request->text + request->text_size, data, size);
    request->text_size += (uint32_t)size;
}

/* What follows the last header is not needed. A head without any ends with its version, somewhere behind its target. */
static size_t head_size(const struct weft_request *request)
{
    const struct weft__span *last = &request->target;
    size_t read = request->text_size + request->chunk_size, wanted;

    if (request->header_count)
        last = last_header(request)->value.size ? &last_header(request)->value : &last_header(request)->name;
    wanted = last->start + last->size + (request->header_count ? 0 : MAX_VERSION);
    return wanted < read ? wanted : read;
}

/* The head is complete. Mostly it came in one piece, and is short. */
static void text_complete(struct weft_request *request)
{
    size_t size = head_size(request);

    if (!request->text_size && size < WEFT__OWN_TEXT)
        memmove(request->own_text, request->chunk, size); /* gcc would make memcpy a slow `rep movs` */
    else if (size > request->text_size)
        text_append(request, request->chunk, size - request->text_size);
    request->text[size] = '\0';
    request->spare = request->own_text;
    request->spare_end = request->own_text + WEFT__OWN_TEXT;
    if (request->text == request->own_text)
        request->spare += (size + 8) & ~(size_t)7; /* behind its NUL; there is room for that */
}

/* ---- the head: understood ---- */

static bool is_host(const char *name)
{
    uint32_t word, host;

    memcpy(&word, name, sizeof word);
    memcpy(&host, "host", sizeof host);
    return (word | 0x20202020) == host;
}

static int check_expectation(struct weft_request *request, const struct weft__header *header)
{
    if (strncasecmp(request->text + header->name.start, "expect", 6) != 0 || !request->parser.http_minor)
        return 0;
    if (header->value.size != 12 || strncasecmp(request->text + header->value.start, "100-continue", 12) != 0)
        return refuse(request, 417, "M_UNKNOWN", "The only expectation known here is 100-continue");
    request->wants_continue = true;
    return 0;
}

/* Where a body ends must not be read in two ways: that is what smuggling is made of. llhttp refuses what contradicts itself,
 * but takes an encoding that is empty for none, and one in HTTP/1.0, which has none, as it stands. */
static int check_encoding(struct weft_request *request, const struct weft__header *header)
{
    bool chunked = request->parser.flags & F_CHUNKED && request->parser.http_minor;

    if (chunked || strncasecmp(request->text + header->name.start, "transfer-encoding", 17) != 0)
        return 0;
    return refuse(request, 400, "M_UNKNOWN", "This Transfer-Encoding is not understood here");
}

/* llhttp also reads "RTSP/1.0", and does not tell. */
static bool is_http(const struct weft_request *request)
{
    const char *text = request->text + request->target.start + request->target.size;

    while (*text == ' ')
        text++;
    return *text == 'H';
}

static int check_version(struct weft_request *request)
{
    if (!is_http(request) && request->parser.http_major)
        return refuse(request, 400, "M_UNKNOWN", "Only HTTP is spoken here");
    if (request->parser.http_major == 1)
        return 0;
    if (!request->parser.http_major)
        return refuse(request, 400, "M_UNKNOWN", "HTTP/0.9 is not spoken here");
    return refuse(request, 505, "M_UNKNOWN", "Only HTTP/1.1 and HTTP/1.0 are spoken here");
}

/* Whether the value begins on another line than its name: see span_add. */
static bool is_folded(const struct weft_request *request, const struct weft__header *header)
{
    uint32_t name_end = header->name.start + header->name.size, gap = header->value.start - name_end;

    return gap > 2 && header->value.size && memchr(request->text + name_end, '\n', gap);
}

/* Looks for the headers that matter before the body is read. */
static int check_headers(struct weft_request *request)
{
    unsigned hosts = 0;

    for (uint32_t i = 0; i < request->header_count; i++) {
        const struct weft__header *header = &request->headers[i];

        if (header->name.size == 4)
            hosts += is_host(request->text + header->name.start);
        else if ((header->name.size == 6 && check_expectation(request, header)) ||
                 (header->name.size == 17 && check_encoding(request, header)))
            return -1;
        if (is_folded(request, header))
            return refuse(request, 400, "M_UNKNOWN", folded);
    }
    if (hosts > 1)
        return refuse(request, 400, "M_UNKNOWN", "There is more than one Host header");
    if (!hosts && request->parser.http_minor)
        return refuse(request, 400, "M_UNKNOWN", "There is no Host header");
    return 0;
}

static int check_body(struct weft_request *request)
{
    bool chunked = request->parser.flags & F_CHUNKED;

    if (request->parser.content_length > request->connection->server->options.max_body && !chunked)
        return refuse(request, 413, "M_TOO_LARGE", "The body is too large");
    if (!chunked && !request->parser.content_length)
        request->wants_continue = false;
    if (!chunked)
        request->body_length = request->parser.content_length;
    return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    struct weft_request *request = (struct weft_request *)parser;

    text_complete(request);
    request->phase = WEFT__IN_BODY;
    request->began = request->connection->server->parsing_since;
    request->keep_alive = parser->http_minor ? !(parser->flags & F_CONNECTION_CLOSE)
                                             : (parser->flags & F_CONNECTION_KEEP_ALIVE) != 0;
    parser->upgrade = 0; /* an offer that a server may pass over */
    if (check_version(request) || check_headers(request))
        return -1;
    if (parser->method == HTTP_CONNECT)
        return refuse(request, 405, "M_UNRECOGNIZED", "This is not a proxy");
    weft__request_resolve(request);
    if (check_body(request))
        return -1;
    /* A client that asked first is told at once what would become of its body; and will not send it. */
    if (request->wants_continue && request->refusal.status) {
        request->keep_alive = false;
        return -1;
    }
    return 0;
}

/* ---- the body ---- */

/* A short body of known length goes behind the head. */
static void body_grow(struct weft_request *request, size_t needed)
{
    size_t room = request->body_room ? 2 * request->body_room : 4096;

    if (request->body_length && request->body_length < (size_t)(request->spare_end - request->spare)) {
        request->body_is_own = true;
        request->body_room = request->body_length + 1;
        request->body = weft__request_keep(request, request->body_room);
        return;
    }
    if (room < needed)
        room = needed;
    request->body = weft_realloc(request->body, room);
    request->body_room = room;
}

static int on_body(llhttp_t *parser, const char *at, size_t size)
{
    struct weft_request *request = (struct weft_request *)parser;

    /* One that came in chunks has said nothing of its length. */
    if (size > request->connection->server->options.max_body - request->body_size)
        return refuse(request, 413, "M_TOO_LARGE", "The body is too large");
    if (request->body_size + size + 1 > request->body_room)
        body_grow(request, request->body_size + size + 1);
    memcpy(request->body + request->body_size, at, size);
    request->body_size += size;
    request->body[request->body_size] = '\0';
    return 0;
}

/* Paused, the parser says where the request ends: what follows is the next one. */
static int on_message_complete(llhttp_t *parser)
{
    ((struct weft_request *)parser)->phase = WEFT__WHOLE;
    return HPE_PAUSED;
}

/* ---- driving the parser ---- */

static const llhttp_settings_t settings = {
    .on_message_begin = on_message_begin,
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
    .on_chunk_extension_name = on_chunk_extension,
    .on_chunk_extension_value = on_chunk_extension,
};

void weft__request_read_init(struct weft_request *request)
{
    llhttp_init(&request->parser, HTTP_REQUEST, &settings);
    request->text = request->own_text;
    request->text_room = WEFT__OWN_TEXT;
    request->headers = request->own_headers;
    request->header_room = WEFT__OWN_HEADERS;
}

/* The head goes on in the next piece, if it may. */
static enum weft__reading head_goes_on(struct weft_request *request, const char *data, size_t size)
{
    text_append(request, data, size);
    if (request->text_size < request->connection->server->options.max_head)
        return WEFT__READ_PART;
    if (request->span == SPAN_NAME || request->span == SPAN_VALUE)
        refuse(request, 431, "M_UNKNOWN", "The headers are too long");
    else
        refuse(request, 414, "M_UNKNOWN", "The request line is too long");
    return WEFT__READ_REFUSED;
}

static enum weft__reading not_understood(struct weft_request *request, llhttp_errno_t outcome)
{
    request->keep_alive = false; /* also after a refusal that was for the head alone */
    if (!request->refusal.status) {
        const char *reason = outcome == HPE_PAUSED_H2_UPGRADE ? "HTTP/2 is not spoken here" : request->parser.reason;

        refuse(request, 400, "M_UNKNOWN", reason ? reason : "The request cannot be understood");
    }
    return WEFT__READ_REFUSED;
}

enum weft__reading weft__request_read(struct weft_request *request, const char *data, size_t size, size_t *used)
{
    llhttp_errno_t outcome;

    if (request->phase == WEFT__IN_HEAD) {
        size_t room = request->connection->server->options.max_head - request->text_size;

        size = size < room ? size : room;
    }
    request->chunk = data;
    request->chunk_size = size;
    request->origin = (uintptr_t)data - request->text_size;
    outcome = llhttp_execute(&request->parser, data, size);
    *used = size;
    if (outcome == HPE_PAUSED) {
        *used = (size_t)(llhttp_get_error_pos(&request->parser) - data);
        return WEFT__READ_WHOLE;
    }
    if (outcome != HPE_OK)
        return not_understood(request, outcome);
    if (!request->begun)
        return WEFT__READ_NOTHING;
    return request->phase == WEFT__IN_HEAD ? head_goes_on(request, data, size) : WEFT__READ_PART;
}

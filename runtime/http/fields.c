/* What its context tells of a request: who sent it, and what was asked. It is put together when somebody wants to know: most
 * requests are answered without a line in any log. */
#include <stdio.h>
#include <string.h>

#include "lib/context.h"
#include "runtime/http/connection.h"
#include "runtime/http/metrics.h"
#include "runtime/http/percent.h"
#include "runtime/http/request.h"

/* ---- the target, as logs may show it ---- */

enum { URI_ROOM = 2048, PROTOCOL_ROOM = 16 };

/* Tokens in a query must not get into logs. */
static const char *const secrets[] = {"access_token", "client_secret"};

/* Handlers get names decoded, so "access%5Ftoken" is one too. */
static bool is_secret(const char *name, size_t size)
{
    char decoded[64]; /* three times the longest secret, and more */

    if (size >= sizeof decoded || !weft__percent_valid(name, size))
        return false;
    weft__percent_decode(decoded, name, size, true);
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
        if (!strcmp(secrets[i], decoded))
            return true;
    }
    return false;
}

/* Appends as much as fits; returns the new end. */
static char *append(char *out, const char *end, const char *text, size_t size)
{
    size_t room = (size_t)(end - out);

    if (size > room)
        size = room;
    memcpy(out, text, size);
    out[size] = '\0';
    return out + size;
}

static char *append_query(char *out, const char *end, const char *query)
{
    while (*query) {
        size_t size = strcspn(query, "&"), name_size = strcspn(query, "=&");

        if (is_secret(query, name_size) && query[name_size] == '=') {
            out = append(out, end, query, name_size + 1);
            out = append(out, end, "<redacted>", 10);
        } else {
            out = append(out, end, query, size);
        }
        query += size;
        if (*query) {
            out = append(out, end, "&", 1);
            query++;
        }
    }
    return out;
}

static void print_uri(const struct weft_request *request, char *text, size_t room)
{
    const char *end = text + room - 1;
    const char *target = request->text + request->target.start;
    /* A request that was refused early still has its target as it came; otherwise a NUL ends the path. */
    size_t size = strnlen(target, request->target.size);
    const char *mark = memchr(target, '?', size);
    const char *query = mark ? mark + 1 : request->query;
    char *out = append(text, end, target, mark ? (size_t)(mark - target) : size);

    if (!query)
        return;
    out = append(out, end, "?", 1);
    append_query(out, end, query);
}

/* A secret may be shorter than what stands in its place. */
static size_t uri_room(const struct weft_request *request)
{
    size_t room = request->target.size + sizeof "?<redacted>";

    for (const char *c = request->query; c && *c; c++) {
        if (*c == '&')
            room += sizeof "<redacted>";
    }
    return room < URI_ROOM ? room : URI_ROOM;
}

const char *weft__request_uri(struct weft_request *request)
{
    size_t room = uri_room(request);
    char *uri;

    if (request->uri)
        return request->uri;
    uri = weft__request_keep(request, room);
    print_uri(request, uri, room);
    return request->uri = uri;
}

/* ---- who and how ---- */

const char *weft__request_host(struct weft_request *request)
{
    char *text;

    if (request->host)
        return request->host;
    text = weft__request_keep(request, WEFT__ADDRESS_SIZE);
    return request->host = weft__address_print_host(&request->connection->peer, text);
}

const char *weft__request_protocol(struct weft_request *request)
{
    int major = request->parser.http_major, minor = request->parser.http_minor;
    char *other;

    if (major == 1 && minor <= 1)
        return minor ? "HTTP/1.1" : "HTTP/1.0";
    other = weft__request_keep(request, PROTOCOL_ROOM); /* it is refused, but that is logged */
    snprintf(other, PROTOCOL_ROOM, "HTTP/%d.%d", major, minor);
    return other;
}

/* ---- the fields ---- */

static size_t list_fields(const struct weft__field_source *source, weft_field *out, size_t room)
{
    struct weft_request *request = (struct weft_request *)((char *)source - offsetof(struct weft_request, fields));
    const char *agent = weft_request_header(request, "User-Agent");
    const weft_field fields[] = {
        {"ip_address", weft__request_host(request)},
        {"method", weft_request_method(request)},
        {"url", weft__request_uri(request)},
        {"protocol", weft__request_protocol(request)},
        {"user_agent", agent},
    };
    size_t count = sizeof fields / sizeof *fields - !agent;

    if (count > room)
        count = room;
    memcpy(out, fields, count * sizeof *fields);
    return count;
}

void weft__request_introduce(struct weft_request *request)
{
    request->fields.list = list_fields;
    request->context->source = &request->fields;
    weft__context_join(request->context, weft__request_series(request));
    weft__context_count(request->context, offsetof(weft_usage, bytes_in), (int64_t)request->bytes_in);
}

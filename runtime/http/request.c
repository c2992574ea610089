/* What a handler can ask of its request.
 *
 * The head lies in `text` as it came; a value is ended by a NUL when somebody asks for it, where a CR was. What has
 * to be decoded is decoded into memory that goes with the request, once. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/context.h"
#include "runtime/http/connection.h"
#include "runtime/http/percent.h"
#include "runtime/http/request.h"
#include "runtime/http/server.h"

/* ---- life ---- */

struct weft_request *weft__request_new(struct weft__connection *connection)
{
    struct weft_request *request = weft__pool_take(&connection->server->requests);

    memset(&request->route, 0, offsetof(struct weft_request, own_headers) - offsetof(struct weft_request, route));
    request->connection = connection;
    request->refusal.status = 0;
    request->bytes_in = 0;
    weft__request_read_init(request);
    weft__thread.live.requests++;
    return request;
}

void weft__request_free(struct weft_request *request)
{
    if (request->context)
        weft__context_forget_source(request->context);
    while (request->kept) {
        void *memory = request->kept;

        request->kept = *(void **)memory;
        weft_free(memory);
    }
    if (request->text != request->own_text)
        weft_free(request->text);
    if (request->headers != request->own_headers)
        weft_free(request->headers);
    if (request->body && !request->body_is_own)
        weft_free(request->body);
    assert(!request->handler);
    weft_error_unref(request->cancellation);
    weft_context_unref(request->context);
    weft__thread.live.requests--;
    weft__pool_give(&request->connection->server->requests, request);
}

void *weft__request_keep(struct weft_request *request, size_t size)
{
    void **memory;

    size = (size + 7) & ~(size_t)7;
    if (size <= (size_t)(request->spare_end - request->spare)) {
        request->spare += size;
        return request->spare - size;
    }
    memory = weft_alloc(sizeof(void *) + size);
    *memory = request->kept;
    request->kept = memory;
    return memory + 1;
}

/* ---- the target ---- */

static void refuse(struct weft_request *request, int status, const char *errcode, const char *message)
{
    request->refusal = (struct weft__refusal){status, errcode, message};
}

/* "http://host/path", which proxies send, is as good as "/path". */
static char *path_of(char *target)
{
    char *scheme_end = target + strcspn(target, ":/?#");

    if (strncmp(scheme_end, "://", 3) != 0)
        return target;
    target = scheme_end + 3;
    return target + strcspn(target, "/?#");
}

static void split_target(struct weft_request *request)
{
    char *target = request->text + request->target.start;
    char *path, *query;

    target[request->target.size] = '\0';
    path = path_of(target);
    query = memchr(path, '?', (size_t)(target + request->target.size - path));
    request->path = path;
    request->path_size = (size_t)((query ? query : target + request->target.size) - path);
    if (!query)
        return;
    *query = '\0';
    request->query = query + 1;
    if (!weft__percent_valid(request->query, strlen(request->query)))
        refuse(request, 400, "M_INVALID_PARAM", "There is a bad percent-escape in the query");
}

static const char *decoded(struct weft_request *request, const char *text, size_t size, bool query)
{
    char *copy = weft__request_keep(request, size + 1);

    weft__percent_decode(copy, text, size, query);
    return copy;
}

static void take_params(struct weft_request *request, const struct weft__slice *params)
{
    for (size_t i = 0; i < request->route->param_count; i++) {
        if (!weft__percent_valid(params[i].text, params[i].size)) {
            refuse(request, 400, "M_INVALID_PARAM", "There is a bad percent-escape in the path");
            return;
        }
        request->params[i] = decoded(request, params[i].text, params[i].size, false);
    }
}

void weft__request_resolve(struct weft_request *request)
{
    struct weft__slice params[WEFT__MAX_PARAMS];
    const struct weft__route *routes;

    split_target(request);
    routes = weft__router_find(request->connection->server->router, request->path, request->path_size, params);
    if (!routes) {
        refuse(request, 404, "M_UNRECOGNIZED", "Unrecognized request");
        return;
    }
    request->route = weft__route_for_method(routes, request->parser.method);
    if (!request->route) {
        request->others = routes;
        refuse(request, 405, "M_UNRECOGNIZED", "Unrecognized request");
        return;
    }
    if (request->route->param_count)
        take_params(request, params);
}

/* ---- what was asked ---- */

const char *weft_request_method(const weft_request *request)
{
    return llhttp_method_name(request->parser.method);
}

const char *weft_request_path(const weft_request *request)
{
    return request->path;
}

const char *weft_request_param(const weft_request *request, const char *name)
{
    for (size_t i = 0; i < request->route->param_count; i++) {
        if (!strcmp(request->route->params[i], name))
            return request->params[i];
    }
    return NULL;
}

static void split_pair(struct weft_request *request, struct weft__pair *pair, const char *text, size_t size)
{
    const char *equals = memchr(text, '=', size);
    size_t name_size = equals ? (size_t)(equals - text) : size;

    pair->name = decoded(request, text, name_size, true);
    pair->value = equals ? decoded(request, equals + 1, size - name_size - 1, true) : "";
}

static void split_query(struct weft_request *request)
{
    const char *text = request->query;
    size_t count = 1, end;

    for (const char *c = text; *c; c++)
        count += *c == '&';
    request->pairs = weft__request_keep(request, count * sizeof *request->pairs);
    while (request->pair_count < count) {
        end = strcspn(text, "&");
        split_pair(request, &request->pairs[request->pair_count++], text, end);
        text += end + 1;
    }
}

const char *weft_request_query(weft_request *request, const char *name)
{
    if (!request->query)
        return NULL;
    if (!request->pairs)
        split_query(request);
    for (size_t i = 0; i < request->pair_count; i++) {
        if (!strcmp(request->pairs[i].name, name))
            return request->pairs[i].value;
    }
    return NULL;
}

static const char *header_value(const weft_request *request, const struct weft__header *header)
{
    char *value = request->text + header->value.start;
    size_t size = header->value.size;

    if (!size)
        return ""; /* the parser gives no sure place for it */
    while (size && (value[size - 1] == ' ' || value[size - 1] == '\t'))
        size--;
    value[size] = '\0';
    return value;
}

const char *weft_request_header(const weft_request *request, const char *name)
{
    size_t size = strlen(name);

    for (uint32_t i = 0; i < request->header_count; i++) {
        const struct weft__header *header = &request->headers[i];

        if (header->name.size == size && !strncasecmp(request->text + header->name.start, name, size))
            return header_value(request, header);
    }
    return NULL;
}

const void *weft_request_body(const weft_request *request, size_t *size)
{
    *size = request->body_size;
    return request->body ? request->body : "";
}

bool weft_request_client_gone(const weft_request *request)
{
    return request->connection->fd < 0;
}

/* ---- what it means ---- */

static void json_unref(void *json)
{
    json_decref(json);
}

static const weft_type json_value_type = {"json", NULL, json_unref};

enum { MAX_NESTING = 128 };

/* How deep brackets stand in brackets. jansson recurses for each, and a fiber's stack is small. */
static size_t nesting(const char *text, size_t size)
{
    size_t depth = 0, deepest = 0;
    bool quoted = false;

    for (size_t i = 0; i < size; i++) {
        if (quoted && text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            quoted = !quoted;
        } else if (!quoted && (text[i] == '[' || text[i] == '{')) {
            if (++depth > deepest)
                deepest = depth;
        } else if (!quoted && (text[i] == ']' || text[i] == '}') && depth) {
            depth--;
        }
    }
    return deepest;
}

weft_result weft_request_json(const weft_request *request)
{
    json_error_t error;
    json_t *json;

    if (!request->body_size)
        return weft_fail(weft_http_error(400, "M_NOT_JSON", "The body is empty, and should be JSON"));
    if (nesting(request->body, request->body_size) > MAX_NESTING)
        return weft_fail(weft_http_error(400, "M_NOT_JSON", "The body is nested more than %d deep", MAX_NESTING));
    json = json_loadb(request->body, request->body_size, JSON_REJECT_DUPLICATES, &error);
    if (!json)
        return weft_fail(weft_http_error(400, "M_NOT_JSON", "The body is not JSON: %s (line %d, column %d)", error.text,
                                         error.line, error.column));
    return weft_own(json, &json_value_type);
}

weft_error *weft_request_query_number(weft_request *request, const char *name, double fallback, double least,
                                      double most, double *out)
{
    const char *text = weft_request_query(request, name);
    double number = fallback;
    char *end;

    if (text) {
        number = strtod(text, &end);
        /* strtod also takes blanks, hexadecimal, "inf" and "nan". */
        if (end == text || *end || text[strspn(text, "+-.0123456789eE")])
            return weft_http_error(400, "M_INVALID_PARAM", "The query's %s is not a number", name);
        if (!(number >= least && number <= most))
            return weft_http_error(400, "M_INVALID_PARAM", "The query's %s is not from %g to %g", name, least, most);
    }
    *out = number;
    return NULL;
}

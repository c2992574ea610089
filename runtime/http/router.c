/* The router: a tree of path segments.
 *
 * A node has a child per literal segment, in order, and one for `{name}`, whatever the name. A search tries the
 * literal child first and comes back for the other, so it visits no node twice, and recurses no deeper than the
 * deepest pattern.
 *
 * Beside it, a small table knows most patterns that have no parameters by their whole text: they are spared the tree. */
#include <llhttp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weft/log.h>

#include "runtime/http/metrics.h"
#include "runtime/http/router.h"

struct weft__node {
    char *segment; /* NULL for the root and for `{name}` */
    size_t size;
    struct weft__node **children; /* sorted by size, then by bytes */
    size_t child_count;
    struct weft__node *any;     /* the child for `{name}` */
    struct weft__route *routes; /* of the path that ends here */
};

enum { LITERALS = 64 };

struct weft__router {
    struct weft__node root;
    const struct weft__node *literals[LITERALS]; /* where two would share a place, the first has it */
};

/* ---- life ---- */

struct weft__router *weft__router_new(void)
{
    return weft_alloc_zeroed(sizeof(struct weft__router));
}

static void route_free(struct weft__route *route)
{
    for (size_t i = 0; i < route->param_count; i++)
        weft_free(route->params[i]);
    weft__endpoint_free(route->endpoint);
    weft_free(route->pattern);
    weft_free(route);
}

static void node_clear(struct weft__node *node);

static void node_free(struct weft__node *node)
{
    if (!node)
        return;
    node_clear(node);
    weft_free(node);
}

static void node_clear(struct weft__node *node)
{
    for (size_t i = 0; i < node->child_count; i++)
        node_free(node->children[i]);
    node_free(node->any);
    while (node->routes) {
        struct weft__route *route = node->routes;

        node->routes = route->next;
        route_free(route);
    }
    weft_free(node->children);
    weft_free(node->segment);
}

struct weft__router *weft__router_free(struct weft__router *router)
{
    if (!router)
        return NULL;
    node_clear(&router->root);
    weft_free(router);
    return NULL;
}

/* ---- searching ---- */

/* Where the literal child is, or would be. */
static size_t child_place(const struct weft__node *node, const char *segment, size_t size, bool *found)
{
    size_t low = 0, high = node->child_count;

    *found = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct weft__node *child = node->children[middle];
        int order = child->size != size ? (child->size < size ? -1 : 1) : memcmp(child->segment, segment, size);

        if (!order) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const struct weft__node *literal_child(const struct weft__node *node, const char *segment, size_t size)
{
    bool found;
    size_t place = child_place(node, segment, size, &found);

    return found ? node->children[place] : NULL;
}

/* `text` is what follows a slash. */
static const struct weft__route *find(const struct weft__node *node, const char *text, const char *end,
                                      struct weft__slice *params)
{
    const char *slash = memchr(text, '/', (size_t)(end - text));
    size_t size = (size_t)((slash ? slash : end) - text);
    const struct weft__node *child = literal_child(node, text, size);
    const struct weft__route *routes = NULL;

    if (child)
        routes = slash ? find(child, slash + 1, end, params) : child->routes;
    if (routes || !node->any || !size)
        return routes;
    *params = (struct weft__slice){text, size};
    return slash ? find(node->any, slash + 1, end, params + 1) : node->any->routes;
}

static size_t literal_place(const char *path, size_t size)
{
    return (size * 7 + (unsigned char)path[size - 1]) % LITERALS;
}

const struct weft__route *weft__router_find(const struct weft__router *router, const char *path, size_t size,
                                            struct weft__slice params[WEFT__MAX_PARAMS])
{
    const struct weft__node *literal;

    if (!size || *path != '/')
        return NULL;
    literal = router->literals[literal_place(path, size)];
    if (literal && literal->routes->pattern_size == size && !memcmp(literal->routes->pattern, path, size))
        return literal->routes;
    return find(&router->root, path + 1, path + size, params);
}

const struct weft__route *weft__route_for_method(const struct weft__route *routes, uint8_t method)
{
    const struct weft__route *get = NULL;

    for (; routes; routes = routes->next) {
        if (routes->method == method)
            return routes;
        if (routes->method == HTTP_GET)
            get = routes;
    }
    return method == HTTP_HEAD ? get : NULL;
}

void weft__routes_print_methods(const struct weft__route *routes, char *text, size_t size)
{
    bool head = weft__route_for_method(routes, HTTP_HEAD) != NULL;
    const char *comma = "";
    size_t used = 0;

    for (; routes && used < size; routes = routes->next) {
        const char *name = llhttp_method_name(routes->method);

        if (routes->method == HTTP_HEAD)
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%s", comma, name);
        comma = ", ";
    }
    if (head && used < size)
        snprintf(text + used, size - used, "%sHEAD", comma);
}

/* ---- adding ---- */

/* A pattern that cannot be served is a mistake in the program, found when it starts. */
static _Noreturn void __attribute__((format(printf, 3, 4))) refuse(const char *method, const char *pattern,
                                                                  const char *format, ...)
{
    char why[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    weft_log_error("weft_route(\"%s\", \"%s\"): %s", method, pattern, why);
    abort();
}

static uint8_t method_number(const char *method, const char *pattern)
{
    for (int number = HTTP_DELETE; number <= HTTP_SOURCE; number++) {
        if (number != HTTP_CONNECT && !strcmp(llhttp_method_name(number), method))
            return (uint8_t)number;
    }
    refuse(method, pattern, "no such method; they are written as in HTTP, in capitals");
}

static struct weft__node *node_new(const char *segment, size_t size)
{
    struct weft__node *node = weft_alloc_zeroed(sizeof *node);

    node->size = size;
    if (segment) {
        node->segment = weft_alloc(size + 1);
        memcpy(node->segment, segment, size);
        node->segment[size] = '\0';
    }
    return node;
}

static struct weft__node *add_literal(struct weft__node *node, const char *segment, size_t size)
{
    bool found;
    size_t place = child_place(node, segment, size, &found);

    if (found)
        return node->children[place];
    node->children = weft_realloc(node->children, (node->child_count + 1) * sizeof(struct weft__node *));
    memmove(node->children + place + 1, node->children + place,
            (node->child_count - place) * sizeof(struct weft__node *));
    node->child_count++;
    return node->children[place] = node_new(segment, size);
}

/* `name` is what stands between the braces. */
static struct weft__node *add_param(struct weft__node *node, struct weft__route *route, const char *method,
                                    const char *name, size_t size)
{
    char *copy = weft_alloc(size + 1);

    memcpy(copy, name, size);
    copy[size] = '\0';
    if (!size || strpbrk(copy, "{}"))
        refuse(method, route->pattern, "a segment in braces is a name: {room_id}");
    if (route->param_count == WEFT__MAX_PARAMS)
        refuse(method, route->pattern, "more than %d parameters", WEFT__MAX_PARAMS);
    for (size_t i = 0; i < route->param_count; i++) {
        if (!strcmp(route->params[i], copy))
            refuse(method, route->pattern, "two parameters are called %s", copy);
    }
    route->params[route->param_count++] = copy;
    if (!node->any)
        node->any = node_new(NULL, 0);
    return node->any;
}

static struct weft__node *add_segment(struct weft__node *node, struct weft__route *route, const char *method,
                                      const char *segment, size_t size)
{
    if (size >= 2 && segment[0] == '{' && segment[size - 1] == '}')
        return add_param(node, route, method, segment + 1, size - 2);
    if (memchr(segment, '{', size) || memchr(segment, '}', size))
        refuse(method, route->pattern, "braces stand around a whole segment, or not at all");
    if (memchr(segment, '?', size) || memchr(segment, '#', size))
        refuse(method, route->pattern, "a pattern is a path, without a query");
    return add_literal(node, segment, size);
}

static struct weft__node *add_path(struct weft__node *node, struct weft__route *route, const char *method)
{
    const char *text = route->pattern;

    if (*text != '/')
        refuse(method, route->pattern, "a pattern begins with a slash");
    while (text) {
        const char *slash = strchr(++text, '/');

        node = add_segment(node, route, method, text, slash ? (size_t)(slash - text) : strlen(text));
        text = slash;
    }
    return node;
}

static void remember_literal(struct weft__router *router, const struct weft__node *node)
{
    const struct weft__route *route = node->routes;
    size_t place = literal_place(route->pattern, route->pattern_size);

    if (!route->param_count && !router->literals[place])
        router->literals[place] = node;
}

void weft__router_add(struct weft__router *router, const char *method, const char *pattern, weft_handler_fn *handler,
                      weft_route_options options)
{
    struct weft__route *route = weft_alloc_zeroed(sizeof *route), **last;
    struct weft__node *node;

    route->method = method_number(method, pattern);
    route->pattern = weft_strdup(pattern);
    route->pattern_size = strlen(pattern);
    route->handler = handler;
    route->options = options;
    if (!handler)
        refuse(method, pattern, "it has no handler");
    node = add_path(&router->root, route, method);
    for (last = &node->routes; *last; last = &(*last)->next) {
        if ((*last)->method == route->method)
            refuse(method, pattern, "the route %s serves these requests already", (*last)->pattern);
    }
    *last = route;
    route->endpoint = weft__endpoint_new(llhttp_method_name(route->method), route->pattern);
    remember_literal(router, node);
    if (options.cancellable && route->method != HTTP_GET && route->method != HTTP_HEAD)
        weft_log_warn("%s %s is cancellable: a client that leaves may stop it half-way through its changes", method,
                      pattern);
}

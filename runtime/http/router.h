/* From a method and a path to a handler. */
#ifndef WEFT_RUNTIME_HTTP_ROUTER_H
#define WEFT_RUNTIME_HTTP_ROUTER_H

#include <weft/http.h>

enum { WEFT__MAX_PARAMS = 8 };

struct weft__route {
    struct weft__route *next; /* on the same path, for another method */
    weft_handler_fn *handler;
    weft_route_options options;
    uint8_t method;           /* llhttp's number */
    uint8_t param_count;
    char *params[WEFT__MAX_PARAMS]; /* their names, in the order of the path */
    char *pattern;
    size_t pattern_size;
    struct weft__endpoint *endpoint; /* what requests of its method are counted as */
};

struct weft__router;

/* A part of a path. */
struct weft__slice {
    const char *text;
    size_t size;
};

struct weft__router *weft__router_new(void);
struct weft__router *weft__router_free(struct weft__router *router); /* NULL is fine; returns NULL */

/* Aborts when the pattern cannot be served. */
void weft__router_add(struct weft__router *router, const char *method, const char *pattern, weft_handler_fn *handler,
                      weft_route_options options);

/* The routes on this path, in the order in which they were added; NULL when there are none. `params` gets the values of
 * its parameters, not decoded. */
const struct weft__route *weft__router_find(const struct weft__router *router, const char *path, size_t size,
                                            struct weft__slice params[WEFT__MAX_PARAMS]);

/* The one of these that serves `method`: HEAD is served by GET too. NULL when none does. */
const struct weft__route *weft__route_for_method(const struct weft__route *routes, uint8_t method);
/* The methods that these serve, as in "GET, HEAD, POST". */
void weft__routes_print_methods(const struct weft__route *routes, char *text, size_t size);

#endif

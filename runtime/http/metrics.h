/* Counting requests, by method, route and status. */
#ifndef WEFT_RUNTIME_HTTP_METRICS_H
#define WEFT_RUNTIME_HTTP_METRICS_H

#include <weft/metrics.h>

#include "runtime/http/request.h"

/* What is counted of one method on one route; the pointers to its series, so that a request looks none up by its labels. */
struct weft__endpoint;

/* Both borrowed for as long as it lives. */
struct weft__endpoint *weft__endpoint_new(const char *method, const char *route);
struct weft__endpoint *weft__endpoint_free(struct weft__endpoint *endpoint); /* NULL is fine; returns NULL */

/* It is in flight from here on. `known`: its head was read, so that it has a method. */
void weft__request_count_begun(struct weft_request *request, bool known);
/* What it uses meanwhile is counted there. */
struct weft__series *weft__request_series(const struct weft_request *request);
/* It has been since `began`: its answer has left, or never will. */
void weft__request_count_ended(struct weft_request *request, int64_t now);

#endif

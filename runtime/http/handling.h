/* From a request that was read to its answer. */
#ifndef WEFT_RUNTIME_HTTP_HANDLING_H
#define WEFT_RUNTIME_HTTP_HANDLING_H

#include "runtime/http/request.h"

/* All inside the connection. Starts the handler, or answers a refusal, in a context. */
void weft__request_handle(struct weft_request *request);

/* Answers a refusal of what is not known well enough to have a context. */
void weft__request_refuse(struct weft_request *request);

/* Its handler, if it waits, is cancelled. Takes the error. */
void weft__request_cancel(struct weft_request *request, weft_error *cancellation);

/* Whether its handler may be cancelled because nobody needs its answer any more: once, as its clean-up must be left
 * alone, and not when the answer has been given. */
static inline bool weft__request_is_cancellable(const struct weft_request *request)
{
    return request->route && request->route->options.cancellable && !request->cancelled && !request->answered;
}

/* Begins its context, named after it. */
void weft__request_begin_context(struct weft_request *request);

#endif

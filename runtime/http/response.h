/* Answers. */
#ifndef WEFT_RUNTIME_HTTP_RESPONSE_H
#define WEFT_RUNTIME_HTTP_RESPONSE_H

#include "runtime/http/request.h"

/* The payload of a WEFT_HTTP_ERROR. */
struct weft__http_status {
    int status;
    const char *errcode;
};
/* NULL when the error has none. */
const struct weft__http_status *weft__http_error_get_status(const weft_error *error);

/* Answers with {"errcode": …, "error": …}. */
void weft__respond_error(struct weft_request *request, int status, const char *errcode, const char *message);

/* "HTTP/1.1 100 Continue" ahead of the answer. */
void weft__respond_continue(struct weft_request *request);

#endif

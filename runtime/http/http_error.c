/* Errors that say how they are to be answered. */
#include <stdarg.h>
#include <stdio.h>

#include "runtime/http/response.h"

const weft_error_kind WEFT_HTTP_ERROR = {"http_error", &WEFT_FAILURE};

static const weft_type status_type = {"http_status", NULL, weft_free};

weft_error *weft_http_error_at(int status, const char *errcode, const weft_place *place, const char *format, ...)
{
    struct weft__http_status *payload = weft_alloc(sizeof *payload);
    char message[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    *payload = (struct weft__http_status){status, errcode};
    return weft_error_with_payload(weft_error_new_at(&WEFT_HTTP_ERROR, place, "%s", message),
                                   weft_own(payload, &status_type));
}

const struct weft__http_status *weft__http_error_get_status(const weft_error *error)
{
    return weft_error_get_payload(error, &status_type);
}

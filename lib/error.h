/* The inside of an error. */
#ifndef WEFT_LIB_ERROR_H
#define WEFT_LIB_ERROR_H

#include <weft/error.h>

struct weft_error {
    uint32_t references;
    uint16_t trace_length;
    uint16_t trace_capacity;
    size_t index_plus_one; /* which member failed with it; 0: none */
    weft_error *origin; /* NULL: this is the origin, and what follows but the trace is set */
    const weft_error_kind *kind;
    const weft_place *place;
    int64_t time;
    const char *message; /* the caller's literal, or `formatted` */
    weft_error *cause;
    weft_result payload;
    const weft_place **trace;
    char formatted[];
};

#endif

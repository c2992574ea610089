/* Text put together piece by piece in somebody's buffer, with the manners of snprintf: what does not fit is counted but
 * not written, so that one pass tells how large the buffer should have been. */
#ifndef WEFT_LIB_TEXT_H
#define WEFT_LIB_TEXT_H

#include "lib/internal.h"

struct weft__text {
    char *bytes;   /* ended by NUL as far as they go; borrowed */
    size_t size;   /* 0: nothing is written, `bytes` may be NULL */
    size_t length; /* of the whole, also of what did not fit */
};

WEFT_INTERNAL void weft__text_init(struct weft__text *text, char *bytes, size_t size);

WEFT_INTERNAL void weft__text_add_bytes(struct weft__text *text, const char *bytes, size_t count);
WEFT_INTERNAL void weft__text_add(struct weft__text *text, const char *format, ...) WEFT_PRINTF(2, 3);
/* "rooms.c:41 wait_for_room" */
void weft__text_add_place(struct weft__text *text, const weft_place *place);
/* An instant or a duration, to the microsecond: "12.500000". Its point is a point in every locale. */
void weft__text_add_seconds(struct weft__text *text, int64_t nanoseconds);
/* Control characters are written as \xNN, as in log lines: what a peer sent must not end a line. */
WEFT_INTERNAL void weft__text_add_visible(struct weft__text *text, const char *string);
/* With its quotes, always valid JSON in UTF-8: each byte that is no part of a character becomes U+FFFD. */
WEFT_INTERNAL void weft__text_add_json_string(struct weft__text *text, const char *string);

/* As it is, but always valid UTF-8: each byte that is no part of a character becomes U+FFFD. */
void weft__text_add_utf8(struct weft__text *text, const char *string);

#endif

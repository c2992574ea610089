/* Bytes that arrived before their time: of the requests behind the one that is being handled. */
#ifndef WEFT_RUNTIME_HTTP_BACKLOG_H
#define WEFT_RUNTIME_HTTP_BACKLOG_H

#include <weft/base.h>

enum { WEFT__MAX_BACKLOG = 64 * 1024 };

struct weft__backlog;

/* NULL is an empty backlog: those that may change it return it. */
struct weft__backlog *weft__backlog_add(struct weft__backlog *backlog, const char *data, size_t size);
struct weft__backlog *weft__backlog_consume(struct weft__backlog *backlog, size_t size); /* NULL is fine */
struct weft__backlog *weft__backlog_free(struct weft__backlog *backlog); /* NULL is fine; returns NULL */

/* Not of NULL. */
const char *weft__backlog_data(const struct weft__backlog *backlog);
size_t weft__backlog_size(const struct weft__backlog *backlog);
/* How much may be added. */
size_t weft__backlog_room(const struct weft__backlog *backlog);

#endif

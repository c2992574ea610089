/* The backlog: one piece of memory, used from the front. */
#include <string.h>

#include "runtime/http/backlog.h"

struct weft__backlog {
    size_t start; /* before it all is used */
    size_t end;
    size_t room;
    char data[];
};

/* More than is needed now, as long as that is little. */
static size_t room_for(size_t size)
{
    size_t room = 1024;

    while (room < size && room < WEFT__MAX_BACKLOG)
        room *= 2;
    return room < size ? size : room;
}

struct weft__backlog *weft__backlog_add(struct weft__backlog *backlog, const char *data, size_t size)
{
    size_t waiting = backlog ? backlog->end - backlog->start : 0;

    if (!backlog || backlog->room - backlog->end < size) {
        size_t room = room_for(waiting + size);
        struct weft__backlog *larger = weft_alloc(sizeof *larger + room);

        *larger = (struct weft__backlog){.end = waiting, .room = room};
        if (backlog)
            memcpy(larger->data, backlog->data + backlog->start, waiting);
        weft_free(backlog);
        backlog = larger;
    }
    memcpy(backlog->data + backlog->end, data, size);
    backlog->end += size;
    return backlog;
}

struct weft__backlog *weft__backlog_consume(struct weft__backlog *backlog, size_t size)
{
    if (!backlog)
        return NULL;
    backlog->start += size;
    return backlog->start == backlog->end ? weft__backlog_free(backlog) : backlog;
}

struct weft__backlog *weft__backlog_free(struct weft__backlog *backlog)
{
    weft_free(backlog);
    return NULL;
}

const char *weft__backlog_data(const struct weft__backlog *backlog)
{
    return backlog->data + backlog->start;
}

size_t weft__backlog_size(const struct weft__backlog *backlog)
{
    return backlog->end - backlog->start;
}

size_t weft__backlog_room(const struct weft__backlog *backlog)
{
    size_t size = weft__backlog_size(backlog);

    return size < WEFT__MAX_BACKLOG ? WEFT__MAX_BACKLOG - size : 0;
}

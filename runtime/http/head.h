/* Heads of responses. */
#ifndef WEFT_RUNTIME_HTTP_HEAD_H
#define WEFT_RUNTIME_HTTP_HEAD_H

#include <string.h>
#include <weft/clock.h>

struct weft__head {
    int status;
    const char *type;  /* NULL: none */
    const char *allow; /* NULL: no such header */
    size_t length;     /* of the body */
    bool close;
    bool keep_alive;   /* to be said, as HTTP/1.0 needs it */
};

/* The beginning of a 200, up to its length. */
struct weft__ready_head {
    size_t size;
    char text[128];
};

/* What all heads of a server share; zeroed at first. */
struct weft__heads {
    int64_t until; /* when the rest, as it has the time of day in it, is made again */
    char common[64];
    struct weft__ready_head text;
    struct weft__ready_head json;
};

/* The types of our own responders: to be compared by address. */
extern const char weft__type_text[];
extern const char weft__type_json[];

/* No head needs more. */
static inline size_t weft__head_room(const struct weft__head *head)
{
    size_t room = 256;

    if (head->type)
        room += strlen(head->type);
    if (head->allow)
        room += strlen(head->allow);
    return room;
}

/* Writes the head to `out`; returns its end. */
char *weft__head_put(struct weft__heads *heads, const weft_clock *clock, char *out, const struct weft__head *head);

/* The same for a 200 to HTTP/1.1 with one of our types: a third of the work. */
enum { WEFT__READY_HEAD_ROOM = 160 };
char *weft__ready_head_put(struct weft__heads *heads, const weft_clock *clock, char *out, const char *type,
                           size_t length);

/* 204 and 304: HTTP forbids them a body. */
static inline bool weft__status_has_no_body(int status)
{
    return status == 204 || status == 304;
}

#endif

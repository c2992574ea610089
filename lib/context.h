/* Changing the current context without moving references: for those who keep one of their own. */
#ifndef WEFT_LIB_CONTEXT_H
#define WEFT_LIB_CONTEXT_H

#include "lib/thread.h"

struct weft_context {
    uint32_t references;
    struct weft__account account;
    const char *prefix; /* the name's parts, while nobody has asked for the name; NULL when it was given whole */
    uint64_t number;
    char *name; /* owned; NULL until asked for */
};

/* Makes `to` current with the reference that comes with it, and gives back the one that was, with its reference. */
static inline weft_context *weft__context_swap(weft_context *to)
{
    struct weft__thread *thread = &weft__thread;
    weft_context *from = thread->context;

    if (from == to)
        return from;
    thread->context = to;
    weft__books_switch(&thread->books, to ? &to->account : &thread->books.none);
    return from;
}

/* Logs that the callback `fn` left its context behind, and takes that away. */
WEFT_INTERNAL void weft__context_take_away(const void *fn);

/* A loop, or a clock, is in no context between callbacks. Who leaves one behind is named, and what follows is put right. */
static inline void weft__context_leave_callback(const void *fn)
{
    if (__builtin_expect(weft__thread.context != NULL, 0))
        weft__context_take_away(fn);
}

static inline weft_context *weft__context_ref(weft_context *context)
{
    if (context)
        context->references++;
    return context;
}

#endif

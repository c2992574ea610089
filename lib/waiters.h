/* A line of waiters, for locks, queues and their like: who came first is first.
 *
 * A waiter stands in one line at a time, for the deferred that its caller got. It holds a reference to that, as its line is
 * who will fire it; and it is what the deferred's canceller gets as `arg`. Leaving takes the same few steps wherever it
 * stands, so that a million waiters may be cancelled in any order. */
#ifndef WEFT_LIB_WAITERS_H
#define WEFT_LIB_WAITERS_H

#include <weft/deferred.h>

#include "lib/internal.h"

struct weft__waiter {
    struct weft__waiter *next;
    struct weft__waiter *previous;
    struct weft__waiters *line; /* in which it stands */
    weft_deferred *deferred;    /* a reference */
    const weft_place *place;    /* where the wait was asked for */
    void *owner;                /* what it waits for, where its canceller has to know */
    weft_result carried;        /* what it brought with it; leaving does not drop it */
};

/* All zero: empty. */
struct weft__waiters {
    struct weft__waiter *first;
    struct weft__waiter *last;
    size_t count;
};

/* A new waiter at the end of the line. Returns the caller's reference to its deferred. */
WEFT_INTERNAL weft_deferred *weft__waiters_join(struct weft__waiters *line, weft_cancel_fn *canceller, void *owner,
                                                weft_result carried, const weft_place *place) WEFT_MUST_USE;

/* From its line to the end of another. */
WEFT_INTERNAL void weft__waiter_move(struct weft__waiter *waiter, struct weft__waiters *line);

/* Takes it out of its line, frees it and lets go of its deferred: for cancellers, which need no more than that. */
WEFT_INTERNAL void weft__waiter_leave(struct weft__waiter *waiter);

/* Takes it out of its line, frees it, and fires its deferred with `result`, which it takes. The callbacks may do
 * anything: the caller has settled its books before, and looks at its line afresh afterwards. */
WEFT_INTERNAL void weft__waiter_fire(struct weft__waiter *waiter, weft_result result);

/* The canceller of a waiter that brought nothing: it leaves. */
WEFT_INTERNAL weft_cancel_outcome weft__waiter_cancel(weft_deferred *deferred, void *waiter);

/* What a waiter fails with when what it waits for, say "the queue", is freed. */
WEFT_INTERNAL weft_error *weft__waiter_orphaned(const weft_place *place, const char *what) WEFT_MUST_USE;

#endif

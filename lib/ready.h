/* The ready queue of a thread: what may run on, oldest first.
 *
 * Whoever wakes something puts it here and goes on; it runs when the loop drains the queue. So waking costs the same few
 * steps wherever it happens, and never runs user code inside the call that wakes. */
#ifndef WEFT_LIB_READY_H
#define WEFT_LIB_READY_H

#include "lib/internal.h"

struct weft__runnable {
    struct weft__runnable *next;
    void (*run)(struct weft__runnable *runnable); /* on the thread's own stack; it has left the queue */
};

struct weft__ready {
    struct weft__runnable *first;
    struct weft__runnable *last;
    size_t count;
    size_t share;                   /* so many more may run in this turn, before sockets are looked at */
    struct weft__shuffle *shuffled; /* NULL: in order; else it picks the next, and keeps all but those that have just come */
};

/* Lets those that are ready run, once each and a bounded number of times more. */
void weft__ready_drain_share(struct weft__ready *ready);
/* And again, if that took no time: a turn of the loop costs as much as a hundred switches. */
WEFT_INTERNAL void weft__ready_drain(struct weft__ready *ready);
/* From here on in an order that follows from `seed`; 0: in the order in which they come, and nothing is allocated. */
WEFT_INTERNAL void weft__ready_shuffle(struct weft__ready *ready, uint64_t seed);
/* Brings the one that is next to the front, if it is not there already. Some are ready, and the order is shuffled. */
WEFT_INTERNAL void weft__ready_pick(struct weft__ready *ready);
/* Forgets those that are ready: they never run. */
WEFT_INTERNAL void weft__ready_clear(struct weft__ready *ready);

static inline void weft__ready_push(struct weft__ready *ready, struct weft__runnable *runnable)
{
    runnable->next = NULL;
    if (ready->first)
        ready->last->next = runnable;
    else
        ready->first = runnable;
    ready->last = runnable;
    ready->count++;
}

/* Who is next; NULL when nobody is, or when this turn's share is used up. */
static inline struct weft__runnable *weft__ready_next(struct weft__ready *ready)
{
    if (!ready->count || !ready->share)
        return NULL;
    if (__builtin_expect(ready->shuffled != NULL, 0))
        weft__ready_pick(ready);
    return ready->first;
}

/* It was next, and runs now. */
static inline void weft__ready_pop(struct weft__ready *ready)
{
    ready->first = ready->first->next;
    ready->count--;
    ready->share--;
}

#endif

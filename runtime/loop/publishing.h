/* What a reactor tells to whoever collects metrics, on whichever thread: copies of what its own thread counts. */
#ifndef WEFT_RUNTIME_LOOP_PUBLISHING_H
#define WEFT_RUNTIME_LOOP_PUBLISHING_H

#include <weft/stack.h>

#include "lib/metrics.h"
#include "lib/thread.h"

enum { WEFT__LIVE_COUNTS = sizeof(weft_live_counts) / sizeof(size_t) };

/* Never freed: the next reactor without one takes it. */
struct weft__published {
    struct weft__published *next;
    bool taken; /* under the lock of all of them, as is `next` */

    /* Only the reactor's thread writes these, and it alone knows those that are no atomics. */
    uint64_t live[WEFT__LIVE_COUNTS];
    uint64_t fibers_begun;
    uint64_t calls;
    uint64_t stacks_in_use, stacks_idle, stacks_peak;
    uint64_t cancels_asked, cancels_ended, cancels_swallowed, cancels_held_back, cancels_delayed;
    weft_histogram *turns;
    weft_histogram *lags;
    weft_histogram *times_to_cancel;
    int64_t turn_began; /* no atomic */

    struct weft__published_series *series;
};

struct weft__published *weft__published_take(void);
void weft__published_give(struct weft__published *published);

/* Copies what this thread has counted up to now. */
void weft__publish(struct weft__published *published, weft_stack_use stacks);

/* How late a timer is whose callback is about to be called. */
static inline void weft__timer_is_late(struct weft__published *published, int64_t late)
{
    weft__observe_alone(published->lags, late > 0 ? late : 0);
}

#endif

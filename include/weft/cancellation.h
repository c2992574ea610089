/* weft/cancellation.h: what became of the cancels of this thread: how many were asked, how long it took until what they were
 * for had stopped, and how many were held back by a shield, or swallowed.
 *
 * A cancel is asked of a fiber, through its deferred, or of a scope (weft/scope.h). A fiber, also a driven computation, has
 * stopped when it has ended; a scope when the fiber that entered it has left it. Times are those of the thread's clock at
 * the beginning of a turn of its loop (weft_clock_recent), so that a cancel pays for no clock reading: what stops within the
 * turn in which it was asked to has taken 0 ns. Without a clock every time is 0. */
#ifndef WEFT_CANCELLATION_H
#define WEFT_CANCELLATION_H

#include <weft/base.h>

WEFT_BEGIN

enum { WEFT_DURATION_BUCKETS = 48 };

/* Durations in nanoseconds. Bucket 0 counts those of 0; bucket i those from 2^(i-1) up to, not including, 2^i; the last one
 * also whatever is longer. */
typedef struct weft_durations {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint64_t buckets[WEFT_DURATION_BUCKETS];
} weft_durations;

typedef struct weft_cancellation_stats {
    uint64_t asked;     /* fibers and scopes that were asked to stop; one that is asked again is not counted again */
    uint64_t ended;     /* those of them that have stopped */
    uint64_t swallowed; /* fibers and scopes that succeeded although a cancel had come out of one of their waits */
    uint64_t held_back; /* shields that a cancel came to: each counts once */
    uint64_t delayed;   /* those of them that held it back for longer than weft_shield_set_limit says */
    weft_durations time_to_cancel; /* of those that have stopped, since they were asked for the first time */
} weft_cancellation_stats;

/* Those of the calling thread since it began. Counted also when nothing is logged. */
WEFT_API weft_cancellation_stats weft_cancellation_stats_get(void);

WEFT_END

#endif

/* Counting what becomes of cancels. */
#ifndef WEFT_LIB_CANCELLATION_H
#define WEFT_LIB_CANCELLATION_H

#include "lib/histogram.h"
#include "lib/thread.h"

/* The time that a cancel is counted by. */
static inline int64_t weft__recent(void)
{
    const weft_clock *clock = weft__thread.clock;

    return clock ? weft_clock_recent(clock) : 0;
}

/* What was asked to stop at that time has stopped. */
static inline void weft__count_ended(int64_t asked_at)
{
    weft_cancellation_stats *stats = &weft__thread.cancellation;

    stats->ended++;
    weft__durations_add(&stats->time_to_cancel, weft__recent() - asked_at);
}

#endif

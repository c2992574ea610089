/* Durations counted by their powers of two. */
#ifndef WEFT_LIB_HISTOGRAM_H
#define WEFT_LIB_HISTOGRAM_H

#include <weft/cancellation.h>

/* What is negative, as a clock that was exchanged may make it, is none. */
static inline void weft__durations_add(weft_durations *durations, int64_t nanoseconds)
{
    uint64_t took = nanoseconds > 0 ? (uint64_t)nanoseconds : 0;
    unsigned bucket = took ? 64 - (unsigned)__builtin_clzll(took) : 0;

    durations->count++;
    durations->sum += took;
    if (took > durations->max)
        durations->max = took;
    durations->buckets[bucket < WEFT_DURATION_BUCKETS ? bucket : WEFT_DURATION_BUCKETS - 1]++;
}

#endif

/* The system's clocks, in nanoseconds; and from seconds to those and on, without running over: what does not fit is never. */
#ifndef WEFT_LIB_CLOCK_H
#define WEFT_LIB_CLOCK_H

#include <time.h>

#include "lib/thread.h"

static inline int64_t weft__read_clock(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t weft__monotonic(void)
{
    return weft__read_clock(CLOCK_MONOTONIC);
}

/* The nearest number of nanoseconds, so that ten times 0.1 s is a second. No number is none. */
static inline int64_t weft__nanoseconds(double seconds)
{
    if (!(seconds > -9e9 && seconds < 9e9))
        return seconds > 0 ? INT64_MAX : seconds < 0 ? -INT64_MAX : 0;
    return (int64_t)(seconds * 1e9 + (seconds < 0 ? -0.5 : 0.5));
}

/* What is never is never, also later or earlier. */
static inline int64_t weft__instant_after(int64_t instant, int64_t nanoseconds)
{
    int64_t after;

    if (instant == INT64_MAX)
        return INT64_MAX;
    if (__builtin_add_overflow(instant, nanoseconds, &after))
        return nanoseconds > 0 ? INT64_MAX : INT64_MIN;
    return after;
}

#endif

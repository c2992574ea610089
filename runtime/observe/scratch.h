/* Where a thread puts its log lines together: a buffer that grows, kept until the thread ends, so that a line allocates
 * nothing and takes nothing from a fiber's stack. */
#ifndef WEFT_RUNTIME_OBSERVE_SCRATCH_H
#define WEFT_RUNTIME_OBSERVE_SCRATCH_H

#include <stdint.h>
#include <time.h>

enum { WEFT__TIME_SIZE = 64, WEFT__TIMES = 4 };

/* What the time of a second looks like: before the milliseconds, and behind them. */
struct weft__time_text {
    uint64_t format; /* whose; 0: nobody's */
    time_t second;
    size_t before_length, after_length;
    char before[WEFT__TIME_SIZE], after[WEFT__TIME_SIZE];
};

struct weft__scratch {
    char *bytes;
    size_t size;
    int thread; /* its number */
    struct weft__time_text times[WEFT__TIMES];
};

struct weft__scratch *weft__scratch_get(void); /* this thread's */
void weft__scratch_grow(struct weft__scratch *scratch, size_t size); /* what was in it is lost */

#endif

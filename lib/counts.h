/* What the core counts for the whole process: told by weft/metrics.h. */
#ifndef WEFT_LIB_COUNTS_H
#define WEFT_LIB_COUNTS_H

#include <weft/base.h>

enum { WEFT__LOG_LEVELS = 4 };

struct weft__counts {
    uint64_t log_lines[WEFT__LOG_LEVELS]; /* that were made, by level */
    uint64_t unhandled;                   /* errors that were reported as such */
};

extern struct weft__counts weft__counts;

static inline void weft__count(uint64_t *number)
{
    __atomic_fetch_add(number, 1, __ATOMIC_RELAXED);
}

#endif

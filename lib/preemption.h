/* Whether the kernel has let somebody else run on this thread's processor, for the price of a load.
 *
 * Linux has restartable sequences (rseq(2)), for which each thread shares a few words with it. One of them names the
 * sequence that the thread is in, and the kernel clears that when it takes the processor away, or delivers a signal, outside
 * of the sequence. So one that nobody is ever inside serves as a mark: what is still there was not cleared. Others who use the
 * word clear it as well, which is taken for a preemption and does no harm. glibc arranges all that since 2.35; where it has
 * not, the thread is never seen preempted. */
#ifndef WEFT_LIB_PREEMPTION_H
#define WEFT_LIB_PREEMPTION_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/internal.h"

struct weft__preemption {
    uint64_t *mark; /* the kernel's word, or `unmarked` */
    uint64_t sequence;
    uint64_t unmarked;
};

/* Of this thread. */
WEFT_INTERNAL void weft__preemption_open(struct weft__preemption *preemption);

/* Since it was opened, or last awaited. */
static inline bool weft__preempted(const struct weft__preemption *preemption)
{
    return !__atomic_load_n(preemption->mark, __ATOMIC_RELAXED);
}

/* As if it had been. */
static inline void weft__preemption_suppose(struct weft__preemption *preemption)
{
    __atomic_store_n(preemption->mark, 0, __ATOMIC_RELAXED);
}

static inline void weft__preemption_await(struct weft__preemption *preemption)
{
    __atomic_store_n(preemption->mark, preemption->sequence, __ATOMIC_RELAXED);
}

#endif

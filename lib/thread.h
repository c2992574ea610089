/* What weft keeps per thread: one struct, reached without a call from all of its libraries.
 *
 * Everything in weft belongs to one thread, so nothing here needs a lock. */
#ifndef WEFT_LIB_THREAD_H
#define WEFT_LIB_THREAD_H

#include <weft/cancellation.h>
#include <weft/clock.h>
#include <weft/context.h>
#include <weft/live.h>

#include "lib/account.h"
#include "lib/ready.h"
#include "lib/slab.h"

struct weft__task;
struct weft__totals;

enum { WEFT__TOTALS_CHAINS = 32 };

struct weft__thread {
    weft_context *context;        /* the current one, and a reference to it; NULL: none */
    weft_context *late;           /* those that were entered after their end, which nobody has been told */
    struct weft__books books;     /* CPU time */
    weft_clock *clock;            /* its reactor's, or a test's; NULL */
    struct weft__ready ready;     /* what may run on */
    uint64_t steps;               /* switches and turns, so that another thread sees whether this one gets on */
    bool draining;                /* what is ready runs: weft_run_ready, or a reactor with all that it calls */
    unsigned calls;               /* of callbacks and cancellers that go on, in one another */
    struct weft__task *task;      /* the one that runs; NULL: none does */
    struct weft__task *stack_of;  /* the fiber whose stack it stands on; NULL: its own */
    struct {
        struct weft__task *newest;
        size_t count;
        uint64_t begun;           /* ever */
        const struct weft__stackful *stackful; /* of those with a stack of their own; NULL: there are none */
    } tasks;                      /* those that have not ended */
    weft_live_counts live;
    struct weft__slab deferreds;
    struct weft__slab entries;    /* of deferreds with many callbacks */
    struct weft__slab contexts;
    struct weft__slab scopes;
    weft_cancellation_stats cancellation;
    weft_context_faults faults;
    struct weft__totals *totals[WEFT__TOTALS_CHAINS]; /* by their keys */
    uint32_t number;              /* of the process's threads; 0: it has none yet */
};

/* Initial-exec: a read of it is one instruction more than a read of a global. These libraries are linked, or loaded early
 * enough to find room in the static thread block. */
extern WEFT_INTERNAL __thread struct weft__thread weft__thread __attribute__((tls_model("initial-exec")));

/* The only writer is the thread itself, so that one instruction will do. */
static inline void weft__thread_step(struct weft__thread *thread)
{
#if defined(__x86_64__)
    __asm__("incq %0" : "+m"(thread->steps));
#else
    __atomic_store_n(&thread->steps, thread->steps + 1, __ATOMIC_RELAXED);
#endif
}

#endif

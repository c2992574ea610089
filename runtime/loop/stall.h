/* Watching a reactor's thread for what keeps it from turning. */
#ifndef WEFT_RUNTIME_LOOP_STALL_H
#define WEFT_RUNTIME_LOOP_STALL_H

#include <sys/types.h>
#include <weft/error.h>

#include "runtime/loop/sample.h"

/* Part of a reactor. All but `at_work` is under the watchdog's lock. */
struct weft__watch {
    bool at_work; /* atomic: the thread runs its reactor, and does not sleep in the poll */
    struct weft__thread *thread;
    pid_t tid;
    int64_t limit; /* nanoseconds; 0: nobody watches */
    struct weft__watch *next;

    uint64_t steps;       /* of the thread, when it was looked at */
    int64_t since;        /* when that number was seen first */
    int64_t report_after; /* so many nanoseconds at one step */
    bool reported;        /* this stall */
    bool known;           /* … and whose it is: */
    char fiber[WEFT__SAMPLE_TEXT];
    char context[WEFT__SAMPLE_TEXT];
};

/* Of the current thread. In seconds; 0: none. */
WEFT_INTERNAL weft_error *weft__watch_set_limit(struct weft__watch *watch, double seconds);
/* The reactor is going to be run: in a child made by fork nobody watches any more, which this puts right. */
WEFT_INTERNAL void weft__watch_resume(struct weft__watch *watch);

static inline void weft__watch_work(struct weft__watch *watch)
{
    weft__thread_step(&weft__thread);
    __atomic_store_n(&watch->at_work, true, __ATOMIC_RELEASE);
}

static inline void weft__watch_rest(struct weft__watch *watch)
{
    __atomic_store_n(&watch->at_work, false, __ATOMIC_RELEASE);
}

#endif

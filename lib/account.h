/* What accounts are charged: CPU time by windows, and all else as it comes.
 *
 * Reading the thread's CPU clock at every change of context would cost more than the change. A time stamp counter read costs
 * a twentieth, but counts wall time. So each change reads the counter and adds the ticks to the account that ran; once in a
 * while the window is closed: the CPU clock is read, and the CPU time that really passed since the last close is divided
 * among the accounts that ran in the window, in proportion to their ticks. Nothing is lost or counted twice: after each
 * close, contexts plus none is what the CPU clock says.
 *
 * A window is closed when somebody asks, when its table is full, at the first change after about 100 µs, and at the first
 * change after the thread was preempted, which the kernel marks (lib/preemption.h), or has slept in a poll: ticks that were
 * somebody else's are taken off the stretch in which that happened, and off no other. A poll is a stretch of none.
 *
 * The same sample of the counter says since when a task waits in the ready queue, and until when: an account only knows the
 * sum of the second less that of the first. Bytes are counted by jemalloc, whose count is read beside the counter.
 *
 * Whatever an account is charged, its parents are charged at once, and the series that each of them belongs to. */
#ifndef WEFT_LIB_ACCOUNT_H
#define WEFT_LIB_ACCOUNT_H

#include <weft/context.h>

#include "lib/internal.h"
#include "lib/preemption.h"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

/* Without it the whole costs nothing and measures nothing: for the bench that asks what it costs. */
#ifdef WEFT_NO_ACCOUNTING
#define WEFT__ACCOUNTING 0
#else
#define WEFT__ACCOUNTING 1
#endif

enum { WEFT__WINDOW_ACCOUNTS = 256, WEFT__WINDOW_SERIES = 64 };

/* What was used in the window, and has not been settled. */
struct weft__stretch {
    uint64_t ticks;
    uint64_t allocated; /* bytes */
    uint64_t ready;     /* ticks at which tasks left the ready queue, less those at which they joined it; wraps */
};

struct weft__series;

struct weft__account {
    struct weft__stretch now;
    uint32_t slot;   /* 1 + its index in the window's table; 0: has not run in this window */
    uint32_t queued; /* tasks of its own that are in the ready queue */
    struct weft__account *parent;
    struct weft__series *series; /* NULL: none */
    bool ended;      /* who enters it is to be told of */
    weft_usage usage;
};

/* All accounts of one kind and thread: requests of a route, processes of a description. It is charged what its members are,
 * and also when these go in mid-window: `left` is what they have left to it, which is counted with their parents, or
 * with those that ended. Other threads may read its usage. */
struct weft__series {
    weft_usage usage;
    struct weft__stretch left;
    struct weft__series *above; /* is charged the same; NULL */
    bool listed;                /* in the window's table */
};

struct weft__books {
    struct weft__account *running; /* NULL until the books are opened */
    bool quick;                    /* they are open, and the time stamp counter may be used */
    uint64_t mark;                 /* the tick at which `running` began to run */
    const uint64_t *allocated;     /* jemalloc's count of this thread's bytes; a 0 where there is none */
    uint64_t allocated_mark;       /* what it was then */
    uint64_t window_began;         /* tick */
    uint64_t window_length;        /* ticks; a change after that many closes the window */
    struct weft__preemption preemption; /* since the window began */
    struct weft__account none;     /* in no context; never in the table */
    uint64_t ended_ticks;          /* in this window, of contexts without parents that are gone */
    uint32_t count;
    uint32_t series_count;
    struct weft__account *table[WEFT__WINDOW_ACCOUNTS];
    struct weft__series *series[WEFT__WINDOW_SERIES]; /* to which something was left in this window */

    double ns_per_tick;
    int64_t calibrated_over; /* the longer, the better it is known */
    int64_t opened_at;    /* the CPU clock, nanoseconds, when the books were opened */
    int64_t closed_at;    /* … when the last window was closed */
    int64_t contexts_ns;  /* given to contexts in all closed windows */
    int64_t merged_ns;    /* of other threads */
    int64_t merged_in_none_ns;
    double user_share;    /* of CPU time, lately */
    int64_t split_at;     /* the CPU clock when user_share was measured */
    int64_t split_user;   /* getrusage then, microseconds */
    int64_t split_system;
};

struct weft__task;

extern WEFT_INTERNAL bool weft__counter_is_constant; /* set when books are opened: the time stamp counter may be used */
WEFT_INTERNAL uint64_t weft__clock_ticks(void); /* where it may not: monotonic nanoseconds */

WEFT_INTERNAL void weft__books_open(struct weft__books *books);
/* Settles all accounts up to now. */
WEFT_INTERNAL void weft__books_close_window(struct weft__books *books);
/* Up to the mark, where a stretch of `last` has ended, whose ticks it has been given. Who runs now is in no table after
 * that. */
WEFT_INTERNAL void weft__books_close_at_mark(struct weft__books *books, struct weft__account *last, uint64_t stretch);
/* What a poll costs, however long it sleeps, is charged to none. `account` runs on after it. */
WEFT_INTERNAL void weft__books_before_poll(struct weft__books *books);
WEFT_INTERNAL void weft__books_after_poll(struct weft__books *books, struct weft__account *account);
/* For the rest of the window it is in the table. `runs`: in whom it has been entered, NULL where that is not known. */
WEFT_INTERNAL void weft__books_enlist(struct weft__books *books, struct weft__account *account,
                                      const struct weft__task *runs);
/* Closes the window; of `account`, also what it has waited for in the ready queue without having run. */
void weft__books_settle(struct weft__books *books, struct weft__account *account);
/* Adds to it, its parents and their series. None of `more` is negative. */
void weft__account_add(struct weft__account *account, const weft_usage *more);
/* The same for one of the sums, which is at `offset`. */
WEFT_INTERNAL void weft__account_count(struct weft__account *account, size_t offset, int64_t more);
void weft__usage_add(weft_usage *usage, const weft_usage *more);
/* CPU time of another thread is charged: in no context? */
static inline void weft__books_merge(struct weft__books *books, bool in_none, int64_t ns)
{
    books->merged_ns += ns;
    if (in_none)
        books->merged_in_none_ns += ns;
}

/* What this thread has spent in no context. */
static inline int64_t weft__books_none(const struct weft__books *books)
{
    return books->none.usage.user_ns + books->none.usage.system_ns - books->merged_in_none_ns;
}

/* In pieces, as many single stores: for all of it at once gcc takes one instruction, which is slow to start. */
static inline void weft__account_begin(struct weft__account *account)
{
    account->now = (struct weft__stretch){0};
    account->slot = account->queued = 0;
    account->parent = NULL;
    account->series = NULL;
    account->ended = false;
    account->usage = (weft_usage){0};
}

/* The account's memory goes away; it is not running. */
void weft__account_end(struct weft__books *books, struct weft__account *account);

static inline uint64_t weft__ticks(void)
{
#if defined(__x86_64__)
    if (__builtin_expect(__atomic_load_n(&weft__counter_is_constant, __ATOMIC_RELAXED), 1))
        return __rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;

    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#endif
    return weft__clock_ticks();
}

/* The books are opened if they were not, and the counter read in whatever way there is. */
WEFT_INTERNAL uint64_t weft__books_ticks_slowly(struct weft__books *books);

static inline uint64_t weft__books_ticks(struct weft__books *books)
{
#if defined(__x86_64__)
    if (__builtin_expect(books->quick, 1))
        return __rdtsc();
#endif
    return weft__books_ticks_slowly(books);
}

static inline void weft__account_queue(struct weft__account *account, uint64_t now)
{
    account->now.ready -= now;
    account->queued++;
}

static inline void weft__account_unqueue(struct weft__account *account, uint64_t now)
{
    account->now.ready += now;
    account->queued--;
}

/* From here on `account` runs. `runs` as for weft__books_enlist. `queues`: whoever stops running waits in the ready queue from
 * here on; `leaves`: who begins has waited there until now. */
static inline void weft__books_switch(struct weft__books *books, struct weft__account *account,
                                      const struct weft__task *runs, bool queues, bool leaves)
{
    struct weft__account *last;
    uint64_t now, stretch, allocated;

    if (!WEFT__ACCOUNTING)
        return;
    now = weft__books_ticks(books);
    allocated = *books->allocated;
    last = books->running;
    stretch = now - books->mark;
    last->now.ticks += stretch;
    books->mark = now;
    last->now.allocated += allocated - books->allocated_mark;
    books->allocated_mark = allocated;
    if (queues)
        weft__account_queue(last, now);
    if (leaves)
        weft__account_unqueue(account, now);
    books->running = account;
    if (__builtin_expect(now - books->window_began > books->window_length || weft__preempted(&books->preemption), 0))
        weft__books_close_at_mark(books, last, stretch);
    if (__builtin_expect(!account->slot, 0))
        weft__books_enlist(books, account, runs);
}

#endif

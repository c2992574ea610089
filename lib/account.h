/* CPU time per account, by windows.
 *
 * Reading the thread's CPU clock at every change of context would cost more than the change. A time stamp counter read costs
 * a twentieth, but counts wall time. So each change reads the counter and adds the ticks to the account that ran; once in a
 * while the window is closed: the CPU clock is read, and the CPU time that really passed since the last close is divided
 * among the accounts that ran in the window, in proportion to their ticks. Nothing is lost or counted twice: after each
 * close, contexts plus none is what the CPU clock says.
 *
 * A window is closed before and after each poll, when somebody asks, when its table is full, and at the first change after
 * about 100 µs: what preemption takes from one stretch is spread over no more than that. */
#ifndef WEFT_LIB_ACCOUNT_H
#define WEFT_LIB_ACCOUNT_H

#include "lib/internal.h"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

enum { WEFT__WINDOW_ACCOUNTS = 256 };

struct weft__account {
    uint64_t ticks; /* in this window */
    int64_t user_ns;
    int64_t system_ns;
    uint32_t slot; /* 1 + its index in the window's table; 0: has not run in this window */
};

struct weft__books {
    struct weft__account *running; /* NULL until the books are opened */
    bool quick;                    /* they are open, and the time stamp counter may be used */
    uint64_t mark;                 /* the tick at which `running` began to run */
    uint64_t window_began;         /* tick */
    uint64_t window_length;        /* ticks; a change after that many closes the window */
    struct weft__account none;     /* in no context; never in the table */
    uint64_t ended_ticks;          /* in this window, of contexts that are gone */
    uint32_t count;
    struct weft__account *table[WEFT__WINDOW_ACCOUNTS];

    int64_t opened_at;    /* the CPU clock, nanoseconds, when the books were opened */
    int64_t closed_at;    /* … when the last window was closed */
    int64_t contexts_ns;  /* given to contexts in all closed windows */
    double user_share;    /* of CPU time, lately */
    int64_t split_at;     /* the CPU clock when user_share was measured */
    int64_t split_user;   /* getrusage then, microseconds */
    int64_t split_system;
};

extern WEFT_INTERNAL bool weft__counter_is_constant; /* set when books are opened: the time stamp counter may be used */
WEFT_INTERNAL uint64_t weft__clock_ticks(void); /* where it may not: monotonic nanoseconds */

WEFT_INTERNAL void weft__books_open(struct weft__books *books);
/* Settles all accounts up to now. */
WEFT_INTERNAL void weft__books_close_window(struct weft__books *books);
/* Charges what the CPU clock says has passed since the last close to none: what a poll cost, however long it slept. */
WEFT_INTERNAL void weft__books_skip(struct weft__books *books);
WEFT_INTERNAL void weft__books_enlist(struct weft__books *books, struct weft__account *account);
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

/* From here on `account` runs. */
static inline void weft__books_switch(struct weft__books *books, struct weft__account *account)
{
    uint64_t now = weft__books_ticks(books);

    books->running->ticks += now - books->mark;
    books->mark = now;
    books->running = account;
    if (__builtin_expect(now - books->window_began > books->window_length, 0))
        weft__books_close_window(books);
    if (!account->slot)
        weft__books_enlist(books, account);
}

#endif

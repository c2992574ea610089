/* The inside of a deferred, for those parts of weft that wait for one without being a user's callback. */
#ifndef WEFT_LIB_DEFERRED_H
#define WEFT_LIB_DEFERRED_H

#include <weft/deferred.h>

#include "lib/thread.h"

enum { WEFT__INLINE_ENTRIES = 2 };

/* What waits for a deferred's result: a pair of callbacks, or an outer deferred (lib/deferred.c). */
struct weft__entry {
    weft_callback_fn *on_value;
    weft_callback_fn *on_error;
    void *arg;
    weft_context *context; /* in which they run; a reference */
};

struct weft__entries; /* those beyond the inline ones */

enum weft__deferred_flag {
    WEFT__USED = 3,            /* a number: how many inline entries are waiting */
    WEFT__DONE = 1 << 2,       /* neither of these two: pending */
    WEFT__WAITING = 1 << 3,
    WEFT__RUNNING = 1 << 4,    /* its entries are being run, further up the C stack */
    WEFT__PAUSED = 1 << 5,     /* `pauses` is not 0 */
    WEFT__CONSUMED = 1 << 6,   /* an await or an outer deferred has taken the result, or will */
    WEFT__ASKED = 1 << 7,      /* a cancel was asked while it was pending */
    WEFT__SWALLOW = 1 << 8,    /* the result that comes after a cancel which could not stop the work is dropped, once */
    WEFT__FOLLOWS = 1 << 9,    /* a task's: while it is pending, a cancel goes on to what that waits for */
    WEFT__OWNING = 1 << 10,    /* pending: its canceller's argument is to be released */
    WEFT__UNWANTED = 1 << 11,  /* whoever holds it cancelled it: a cancellation that comes of it is no news */
    WEFT__REPORTED = 1 << 12,  /* done: its error was told already, at the end of a loop */
    WEFT__SHIELDED = 1 << 13,  /* a task's, with WEFT__FOLLOWS: a cancel goes no further, for now */
    WEFT__BOUND = 1 << 13,     /* any other: its callbacks run in one context, lib/bound.h, whoever adds them */
    WEFT__INTERRUPTED = 1 << 14, /* a task's: a cancel of it has gone on to what it waits for */
    WEFT__GRANT = 1 << 15,     /* it got a grant, and whoever awaits that is to be noted: lib/holders.h */
};

struct weft_deferred {
    uint32_t references; /* first, and 0 in one that is free: see lib/slab.h */
    uint16_t flags;      /* enum weft__deferred_flag */
    uint16_t pauses;
    /* Done: the result. Waiting: the inner deferred, borrowed. Pending: the cancellation, if asked, or nothing. */
    weft_result result;
    struct weft__entry entries[WEFT__INLINE_ENTRIES];
    struct weft__entries *more;
    union {
        struct {
            weft_cancel_fn *fn;
            void *arg;
            weft_release_fn *release; /* with WEFT__OWNING */
        } canceller;                  /* pending */
        struct {
            struct weft__task *task;
            struct weft_deferred *asker; /* whose cancel it was that stays in it: a task's that waits for it, or NULL */
        } followed;                      /* pending, with WEFT__FOLLOWS */
        struct {
            struct weft_deferred *resume; /* running: who is run after it */
            weft_context *failed_in;      /* done, with an error: where that came about; a reference, or NULL */
            const weft_place *at;
        } fired;
    };
    const weft_place *made_at;
};

/* Fires it, which is pending and held, with a failure that came about in `context`, as whoever reports it is to know; nobody
 * enters that. Takes both. Runs callbacks. */
void weft__deferred_fail_in(weft_deferred *d, weft_result failure, weft_context *context, const weft_place *place);

/* For weft's own parts: adds `fn`, for both kinds of result, to run in the context of whoever fires; at once when there is a
 * result. Costs no reference to a context. */
WEFT_INTERNAL void weft__deferred_attach(weft_deferred *deferred, weft_callback_fn *fn, void *arg);
/* The same for an await and for what takes the result over: marks `deferred`, which nobody has consumed, consumed. */
WEFT_INTERNAL void weft__deferred_consume(weft_deferred *deferred, weft_callback_fn *fn, void *arg);

/* Makes `deferred`, a fresh one, that of the task's result: a cancel goes on to what the task waits for. When that is
 * nothing, or runs its callbacks already, or the task is shielded, the cancellation stays in the task's deferred until it
 * is taken out. When that is fired first, it goes to the task that was cancelled and waited for this one; without one it
 * has come too late. */
WEFT_INTERNAL void weft__deferred_follow(weft_deferred *deferred, struct weft__task *task);
/* Takes it out, of the deferred of a task that has one `latched`. */
WEFT_INTERNAL weft_error *weft__deferred_take_cancellation(weft_deferred *deferred);
/* Asks once more, with what was taken out, which it takes. */
WEFT_INTERNAL void weft__deferred_cancel_again(weft_deferred *deferred, weft_error *cancellation);

/* Whether a cancel of `deferred` now would reach somebody whom none has reached before. */
WEFT_INTERNAL bool weft__deferred_can_be_stopped(weft_deferred *deferred);

/* The argument with which `fn` has consumed it, or the one that waits for it, a few such steps up; NULL: somebody else
 * has. */
WEFT_INTERNAL void *weft__deferred_consumed_by(const weft_deferred *deferred, weft_callback_fn *fn);
/* What `deferred` waits for; NULL when it is done, or pending by itself. */
WEFT_INTERNAL weft_deferred *weft__deferred_waited_for(const weft_deferred *deferred);
/* How many pairs of callbacks, and waiting fibers, have not had their turn; and the first deferred that waits, or NULL. */
size_t weft__deferred_count_callbacks(const weft_deferred *deferred, const weft_deferred **outer);
struct weft__text;
/* What a dump says of it behind where it was made: state, where it was fired, result or reason, who waits. */
WEFT_INTERNAL void weft__deferred_describe(struct weft__text *text, const weft_deferred *deferred);
/* Whether `inner` is `deferred`, or waits for it in the end: then `deferred` must not wait for `inner`. */
WEFT_INTERNAL bool weft__deferred_waits_for(const weft_deferred *inner, const weft_deferred *deferred);

static inline bool weft__deferred_pending(const weft_deferred *deferred)
{
    return !(deferred->flags & (WEFT__DONE | WEFT__WAITING));
}

static inline bool weft__deferred_bound(const weft_deferred *deferred)
{
    return (deferred->flags & (WEFT__BOUND | WEFT__FOLLOWS)) == WEFT__BOUND;
}

/* Whether the result can be taken at once. */
static inline bool weft__deferred_ready(const weft_deferred *deferred)
{
    return (deferred->flags & (WEFT__DONE | WEFT__RUNNING | WEFT__PAUSED)) == WEFT__DONE;
}

#endif

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
    WEFT__RUNNING = 1,    /* its entries are being run, further up the C stack */
    WEFT__ASKED = 2,      /* a cancel was asked while it was pending */
    WEFT__SWALLOW = 4,    /* the result that comes after a cancel without canceller is dropped, once */
    WEFT__CONSUMED = 8,   /* an await or an outer deferred has taken the result, or will */
    WEFT__FOLLOWS = 16,   /* a fiber's: while it is pending, a cancel goes on to `*awaited` */
};

struct weft_deferred {
    uint32_t references;
    uint8_t state; /* weft_deferred_state */
    uint8_t flags; /* enum weft__deferred_flag */
    uint8_t first; /* inline entries [first, used) are waiting */
    uint8_t used;
    /* Done: the result. Waiting: the inner deferred, borrowed. Pending: the cancellation, if asked, or nothing. */
    weft_result result;
    struct weft__entry entries[WEFT__INLINE_ENTRIES];
    struct weft__entries *more;
    union {
        struct {
            weft_cancel_fn *fn;
            void *arg;
        } canceller;                   /* pending */
        struct weft_deferred **awaited; /* pending, with WEFT__FOLLOWS */
        struct weft_deferred *resume;  /* running: who is run after it */
    };
    const weft_place *made_at;
    const weft_place *fired_at;
};

/* For weft's own parts: adds `fn`, for both kinds of result, to run in the context of whoever fires; at once when there is a
 * result. Costs no reference to a context. */
WEFT_INTERNAL void weft__deferred_attach(weft_deferred *deferred, weft_callback_fn *fn, void *arg);
/* The same for an await and for what takes the result over: marks `deferred`, which nobody has consumed, consumed. */
WEFT_INTERNAL void weft__deferred_consume(weft_deferred *deferred, weft_callback_fn *fn, void *arg);

/* For the deferred of something that waits for one after the other, a fiber: a cancel goes on to `*awaited`. When that is
 * NULL, or runs its callbacks already, the cancellation stays in the fiber's own deferred until it is taken out. */
WEFT_INTERNAL void weft__deferred_follow(weft_deferred *deferred, weft_deferred **awaited);
WEFT_INTERNAL weft_error *weft__deferred_take_cancellation(weft_deferred *deferred); /* NULL: none stays there */

/* Whether `inner` is `deferred`, or waits for it in the end: then `deferred` must not wait for `inner`. */
WEFT_INTERNAL bool weft__deferred_waits_for(const weft_deferred *inner, const weft_deferred *deferred);

/* Whether the result can be taken at once. */
static inline bool weft__deferred_ready(const weft_deferred *deferred)
{
    return deferred->state == WEFT_DONE && !(deferred->flags & WEFT__RUNNING);
}

#endif

/* Many into one: a deferred that is fired with what many others, its members, come to.
 *
 * What gather, list, race and map have in common: members are waited for, counted, and asked to stop. How they differ is
 * in their rules. */
#ifndef WEFT_LIB_MANY_H
#define WEFT_LIB_MANY_H

#include <weft/gather.h>

#include "lib/deferred.h"

struct weft__many;

struct weft__many_rules {
    bool shares; /* members keep their results: they are not consumed */
    bool first_wins; /* one value is enough */
    /* A member ended. Owns `result`, returns what stays in the member. `member` is NULL when there is none that the result
     * could stay in: a value returned at once, or the misuse of a deferred that is somebody else's. */
    weft_result (*arrived)(struct weft__many *many, size_t index, weft_deferred *member, weft_result result);
    /* All have ended and nothing was decided: what it comes to. */
    weft_result (*completed)(struct weft__many *many);
    /* NULL, or: brings another member; false when there is none now. */
    bool (*more)(struct weft__many *many);
};

struct weft__many {
    const struct weft__many_rules *rules;
    void *memory;            /* what to free: this, or what this is the end of */
    const weft_place *place; /* the caller's */
    weft_deferred *deferred; /* to be fired: a reference, NULL once it was */
    weft_result outcome;     /* what with, once that is decided */
    weft_error *reason;      /* why the members are asked to stop; NULL: they are not */
    size_t waiting;          /* members that have not ended */
    uint32_t holds;          /* while there are any, nothing is fired or freed, and no member asked to stop */
    uint32_t flags;          /* the caller's */
    bool early;              /* fires when it is decided, not when all have ended */
    bool decided;
    bool ask;     /* there is a reason that the members have not been told */
    bool emptied; /* decided, and the results that did not decide it were dropped */
    bool given;   /* the memory is its results', which somebody else owns */
    /* An item is what its member brought. While that is waited for, it is the member, borrowed, and as its type this. */
    weft_results results;
};

/* ---- for all members at once ---- */

/* Waits for these; returns the deferred, the caller's. */
WEFT_INTERNAL weft_deferred *weft__many_wait(const struct weft__many_rules *rules, weft_deferred *const *members,
                                             size_t count, uint32_t flags, bool early, const weft_place *place);

/* ---- for those that come one by one ---- */

/* How large the memory for `count` members is that begins with something of `size` bytes, a weft__many at its end. */
WEFT_INTERNAL size_t weft__many_size(size_t size, size_t count);
/* Returns the deferred, the caller's. `many` is held once. */
WEFT_INTERNAL weft_deferred *weft__many_init(struct weft__many *many, void *memory,
                                             const struct weft__many_rules *rules, size_t count,
                                             const weft_place *place);
/* Both while it is held, each index once. Waits for a member, and takes the reference. */
WEFT_INTERNAL void weft__many_add(struct weft__many *many, size_t index, weft_deferred *member);
/* A result that is there already; takes it. */
WEFT_INTERNAL void weft__many_add_result(struct weft__many *many, size_t index, weft_result result);
/* Ends a hold. May run callbacks; `many` may be gone afterwards. */
WEFT_INTERNAL void weft__many_release(struct weft__many *many);

/* ---- for rules ---- */

/* It will be fired with `outcome`, which it takes. Once. */
WEFT_INTERNAL void weft__many_decide(struct weft__many *many, weft_result outcome);
/* Members that have not ended are to be asked to stop. Takes `reason`. */
WEFT_INTERNAL void weft__many_stop(struct weft__many *many, weft_error *reason);
/* For `completed`: the results, in order. */
WEFT_INTERNAL weft_result weft__many_give_results(struct weft__many *many);
/* `arrived` of a gather: the first error decides. */
WEFT_INTERNAL weft_result weft__gather_arrived(struct weft__many *many, size_t index, weft_deferred *member,
                                               weft_result result);
/* A WEFT_FIRST_ERROR around a member's error, which it takes. */
WEFT_INTERNAL weft_error *weft__first_error(const struct weft__many *many, size_t index, weft_error *error);
WEFT_INTERNAL weft_indexed *weft__indexed_new(size_t index, weft_result result); /* takes `result` */

static inline struct weft__many *weft__many_of(weft_results *results)
{
    return (struct weft__many *)((char *)results - offsetof(struct weft__many, results));
}

#endif

/* The inside of a scope, for tasks. */
#ifndef WEFT_LIB_SCOPE_H
#define WEFT_LIB_SCOPE_H

#include <weft/clock.h>
#include <weft/scope.h>

#include "lib/internal.h"

struct weft__task;

/* What has a scope of its own, to which more belongs than scopes know: a group. It is left through that. */
struct weft__scope_keeper {
    /* The owner ends, or leaves a scope further out: leaves this one, and may wait meanwhile. */
    void (*forgotten)(struct weft__scope_keeper *keeper);
};

/* What a shield does with the cancels that come to it (lib/shield.c). */
struct weft__holding {
    weft_error *first; /* the first that came, a reference; NULL: none has */
    weft_error *own;   /* the first that was for its owner itself, a reference; NULL: none has */
    int64_t since;     /* when the first came */
    int64_t soft;      /* nanoseconds from then until it lets one through, INT64_MAX: never; */
    int64_t hard;      /* … until it is open, for all */
    bool told;         /* that it holds one back for long */
    bool softened;     /* the first time has passed */
    bool lets_one;     /* through to its owner, which has not met a wait yet */
    bool open;
};

struct weft_scope {
    uint32_t references; /* first: see lib/slab.h. One of those inside, and one of each user who asked for one */
    bool shield;
    bool move_on;
    bool asked;               /* it was cancelled while its owner was in it */
    weft_scope *parent;       /* the one around it, borrowed; NULL also when nobody is inside any more */
    weft_scope *child;        /* the scopes right inside it, newest first */
    weft_scope *older;        /* its siblings */
    weft_scope *newer;
    struct weft__task *tasks; /* those for which it is the innermost, newest first */
    struct weft__task *owner; /* who entered it; NULL once it was left */
    struct weft__scope_keeper *keeper; /* NULL */
    weft_error *cancellation; /* its own, once it was cancelled; NULL */
    weft_scope *effective;    /* leads to the one whose cancel holds here: see weft__scope_in_force; NULL: none does */
    int64_t asked_at;
    weft_timer timer;         /* for its deadline, or what a shield does next */
    int64_t deadline;         /* INT64_MAX: none */
    double timeout;           /* in seconds, for what is said of it */
    const weft_place *place;  /* where it was entered */
    struct weft__holding holding;
};

/* ---- scopes (lib/scope.c) ---- */

/* The task, which is in no scope, is in `scope` now, or leaves the innermost, for none. */
WEFT_INTERNAL void weft__scope_add_task(weft_scope *scope, struct weft__task *task);
WEFT_INTERNAL void weft__scope_remove_task(struct weft__task *task);
/* Leaves, with a word in the log, those scopes that the task has entered and not left. */
WEFT_INTERNAL void weft__scope_end_task(struct weft__task *task);
/* The same with those that the owner of `scope` has entered inside it. */
WEFT_INTERNAL void weft__scope_leave_inside(const weft_scope *scope);

WEFT_INTERNAL weft_scope *weft__scope_find_in_force(weft_scope *scope);
/* The scope whose cancel holds in `scope`, which may be NULL; borrowed. NULL: none does. */
static inline weft_scope *weft__scope_in_force(weft_scope *scope)
{
    return scope && scope->effective ? weft__scope_find_in_force(scope) : NULL;
}

/* From now on the cancel of `by`, which is around `top` or it, holds in `top` too, and interrupts the waits there. Runs
 * cancellers. */
void weft__scope_enforce(weft_scope *top, weft_scope *by);

/* ---- shields (lib/shield.c) ---- */

static inline bool weft__shield_is_closed(const weft_scope *scope)
{
    return scope->shield && !scope->holding.open;
}

/* A task has entered, or leaves, a shield, of which it is the owner. */
void weft__shield_entered(weft_scope *shield, const weft_shield_options *options);
void weft__shield_left(weft_scope *shield);
/* It goes, or is open to the end. */
void weft__shield_forget(weft_scope *shield);
/* A cancel has come to a closed shield, that of a scope around it. Runs nothing. */
void weft__shield_hold(weft_scope *shield, weft_error *cancellation);
/* A cancel of a shielded task itself stays in its deferred. Runs nothing. */
void weft__shields_hold_own(struct weft__task *task);

/* For a wait of a task whose shields have held something: whether a cancel of its own may come out of it; the scope around a
 * shield whose cancel may, NULL; the cancel of its own that comes out of each wait now, NULL. */
bool weft__shields_let_own(const struct weft__task *task);
weft_scope *weft__shields_let_scope(const struct weft__task *task);
weft_error *weft__shields_own_for_good(const struct weft__task *task);
/* What was let through has come out of a wait: a cancel of `by`, or of the task itself, NULL. */
void weft__shields_used(struct weft__task *task, const weft_scope *by);

#endif

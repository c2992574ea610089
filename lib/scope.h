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

struct weft_scope {
    uint32_t references; /* first: see lib/slab.h. Its owner until that leaves it, each task and each scope in it */
    bool shield;
    bool move_on;
    weft_scope *parent;       /* the one around it, a reference; NULL */
    weft_scope *child;        /* the scopes right inside it, newest first */
    weft_scope *older;        /* its siblings */
    weft_scope *newer;
    struct weft__task *tasks; /* those for which it is the innermost, newest first */
    struct weft__task *owner; /* who entered it; NULL once it was left */
    struct weft__scope_keeper *keeper; /* NULL */
    weft_error *cancellation; /* its own, once it was cancelled; NULL */
    weft_scope *effective;    /* whose cancel holds here, the outermost: it, or one around it, borrowed; NULL */
    weft_timer timer;         /* for its deadline */
    int64_t deadline;         /* INT64_MAX: none */
    double timeout;           /* in seconds, for what is said of it */
    const weft_place *place;  /* where it was entered */
};

/* The task, which is in no scope, is in `scope` now, or leaves the innermost, for none. */
WEFT_INTERNAL void weft__scope_add_task(weft_scope *scope, struct weft__task *task);
WEFT_INTERNAL void weft__scope_remove_task(struct weft__task *task);
/* Leaves, with a word in the log, those scopes that the task has entered and not left. */
WEFT_INTERNAL void weft__scope_end_task(struct weft__task *task);
/* The same with those that the owner of `scope` has entered inside it. */
WEFT_INTERNAL void weft__scope_leave_inside(const weft_scope *scope);

#endif

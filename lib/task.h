/* Tasks: computations that stop to wait for deferreds and go on afterwards, however they are suspended.
 *
 * This is the part that fibers (runtime/fiber) and driven generators (lib/driver.c) have in common: what a task waits for,
 * how it is woken, cancelled and ended, and which scope it is in. How it keeps its place while it waits is its own affair:
 * a task is embedded in whatever does that. */
#ifndef WEFT_LIB_TASK_H
#define WEFT_LIB_TASK_H

#include "lib/context.h"
#include "lib/deferred.h"
#include "lib/scope.h"

enum weft__task_state {
    WEFT__TASK_RUNNING, /* or has started the one that runs, and so on */
    WEFT__TASK_NEW,     /* in the ready queue, for the first time */
    WEFT__TASK_READY,   /* in the ready queue */
    WEFT__TASK_YIELDING, /* the same, and it waits for nothing else */
    WEFT__TASK_PARKED,
    WEFT__TASK_ENDED,
    WEFT__TASK_ABANDONED, /* its reactor was freed: it never runs again */
};

/* What a switch touches lies in the first 64 bytes, a cache line where it is aligned: with many tasks each line is a
 * miss. */
struct weft__task {
    struct weft__runnable runnable; /* first */
    void *kept;                     /* where it keeps its place while it does not run: its owner's affair */
    weft_context *context;          /* its current one, while it does not run */
    weft_scope *scope;              /* the innermost that it is in, a reference; NULL */
    weft_deferred *awaited;         /* what it waits for, borrowed; NULL when it does not */
    const weft_place *place;        /* where it waits, or was started */
    uint8_t state;                  /* enum weft__task_state */
    bool fresh;                     /* its owner's: has not waited yet */
    bool special;                   /* its owner's: a switch to it, or from it, takes more than usual */
    bool latched;                   /* a cancel lies in its deferred that found no wait to interrupt */
    uint32_t shields;               /* that it has entered and that are closed; then a cancel waits in its own deferred */

    weft_deferred *deferred;        /* of its result: a reference; NULL while nobody can have asked for it */
    weft_result result;             /* of the wait, then its own */
    uint64_t number;                /* how many the thread has begun until then; never used again */
    const char *name;
    const weft_place *started_at;
    int64_t since;                  /* when it began to wait, by its thread's clock */
    int64_t asked_at;               /* the first time */
    weft_scope *interrupted;        /* whose cancel has interrupted the wait that goes on, borrowed; NULL: no scope's has */
    const weft_place *cancelled_at; /* the wait out of which a cancel came that nobody has taken; NULL */
    const weft_scope *cancelled_by; /* whose cancel that was: one that it is in; NULL: its own */
    struct weft__task *scope_older; /* those in the same scope */
    struct weft__task *scope_newer;
    bool asked;               /* to stop, through its deferred */
    bool holding;             /* a shield that it has entered has held a cancel back */
    bool unwanted;            /* it has failed with the cancel of a scope around it, before it had a deferred */
    bool reached;             /* weft__tasks_cancel_all: one that waits for it brings the cancel */
    bool counted;             /* who leaves the scope in which it began, a group's, waits for its end */
    struct weft__task *older; /* all of the thread, newest first */
    struct weft__task *newer;
};

struct weft__wait_kind;

/* What fibers tell of themselves to whoever lists tasks. */
struct weft__stackful {
    weft_cancel_fn *sleep;                        /* the canceller of what a sleeping one waits for */
    const struct weft__wait_kind *leave;          /* how one waits that leaves a group (lib/waits.h) */
    /* Its size; in `*peak` how much of it was ever used, 0 when that is not known. 0: it has none. */
    size_t (*stack)(const struct weft__task *task, size_t *peak);
};

/* ---- life ---- */

/* A new task of the current thread, running, in the current context and scope. Its `runnable.run` is for the caller to
 * set. */
static inline void weft__task_begin(struct weft__task *task, const char *name, const weft_place *place);
/* Right before it ends, while it still is the current one: task->result is set. Leaves its scopes, and looks whether it has
 * swallowed a cancel. */
static inline void weft__task_ending(struct weft__task *task);
/* It has ended. Its result, deferred and context are the caller's to take. */
static inline void weft__task_end(struct weft__task *task);
/* Its deferred, so that somebody can be given one. A cancel of that goes to what the task waits for. */
WEFT_INTERNAL void weft__task_make_deferred(struct weft__task *task, const weft_place *place);
/* It has ended, with `result`: fires its deferred. A failure came about in its context. Takes all three. Runs callbacks. */
WEFT_INTERNAL void weft__task_fire(weft_deferred *deferred, weft_result result, weft_context *context);

/* ---- waiting ---- */

/* Waits for `deferred`, which it takes. True: that is over already, with task->result. False: the task is parked, and will
 * be in the ready queue when it is over; what comes then is to go through weft__task_waited. */
WEFT_INTERNAL bool weft__task_wait(struct weft__task *task, weft_deferred *deferred, const weft_place *place);
/* The result of a wait that parked the task, now that it runs again. Takes and returns a failure. */
WEFT_INTERNAL weft_result weft__task_wait_failed(struct weft__task *task, weft_result failure, const weft_place *place);
/* What interrupts a task that waits for nothing but its turn; NULL: nothing. */
static inline weft_error *weft__task_interruption(struct weft__task *task, const weft_place *place);
WEFT_INTERNAL weft_error *weft__task_take_interruption(struct weft__task *task, const weft_place *place);

static inline weft_result weft__task_waited(struct weft__task *task, const weft_place *place)
{
    weft_result result = task->result;

    return __builtin_expect(weft_failed(result) != NULL, 0) ? weft__task_wait_failed(task, result, place) : result;
}

/* Into the ready queue, with its context in its struct. */
static inline void weft__task_ready(struct weft__task *task, enum weft__task_state state)
{
    task->state = (uint8_t)state;
    weft__context_queue(task->context);
    weft__ready_push(&weft__thread.ready, &task->runnable);
}

/* Whether it has come from the ready queue to run, and nobody has said so yet. */
static inline bool weft__task_was_ready(const struct weft__task *task)
{
    return task->state >= WEFT__TASK_NEW && task->state <= WEFT__TASK_YIELDING;
}

/* The number of the task that waits for `deferred`, or for what waits for it; 0: none does, so far as one can see. */
WEFT_INTERNAL uint64_t weft__task_awaiting(const weft_deferred *deferred);
/* The task whose result is to come to `deferred`; NULL when it is no task's, or has it. */
WEFT_INTERNAL const struct weft__task *weft__task_of(const weft_deferred *deferred);

/* ---- cancelling ---- */

/* The cancellation of a task that has not begun to run; NULL when it may begin. */
WEFT_INTERNAL weft_error *weft__task_never_begins(struct weft__task *task);
/* `by`, a scope that the task is in, is cancelled: interrupts its wait, if it is in one. Runs cancellers. */
WEFT_INTERNAL void weft__task_interrupt(struct weft__task *task, weft_scope *by);
/* Something was let through to it by its shields: the same with that. */
WEFT_INTERNAL void weft__task_look_again(struct weft__task *task);
/* For lib/deferred.c: a cancel has come to the task whose deferred that is, and goes on to what that waits for, or stays. */
void weft__task_asked(weft_deferred *deferred);
void weft__task_keeps(weft_deferred *deferred);
/* A shield is closed, or is so no more. */
WEFT_INTERNAL void weft__task_shield(struct weft__task *task);
WEFT_INTERNAL void weft__task_unshield(struct weft__task *task);
/* What ran in `scope`, or the whole task (NULL), has come to a success: counts and logs it if a cancel came out of one of
 * its waits. */
WEFT_INTERNAL void weft__task_succeeded(struct weft__task *task, const weft_scope *scope);
/* The outline part of weft__task_ending. */
WEFT_INTERNAL void weft__task_ending_slowly(struct weft__task *task);

/* ---- all of a thread ---- */

WEFT_INTERNAL void weft__tasks_cancel_all(void); /* with WEFT_SHUTDOWN */
/* Names those that are left in the log; none runs any more, and none is counted. */
WEFT_INTERNAL void weft__tasks_abandon(void);

/* ---- the inline parts ---- */

static inline void weft__task_begin(struct weft__task *task, const char *name, const weft_place *place)
{
    struct weft__thread *thread = &weft__thread;
    struct weft__task *newest = thread->tasks.newest;

    task->context = weft__context_ref(thread->context);
    task->scope = NULL;
    task->awaited = NULL;
    task->place = place;
    task->state = WEFT__TASK_RUNNING;
    task->fresh = true;
    task->special = false;
    task->latched = false;
    task->asked = false;
    task->holding = false;
    task->shields = 0;
    task->deferred = NULL;
    task->number = ++thread->tasks.begun;
    task->name = name;
    task->started_at = place;
    task->cancelled_at = NULL;
    task->unwanted = false;
    task->reached = false;
    task->counted = false;
    task->older = newest;
    task->newer = NULL;
    if (newest)
        newest->newer = task;
    thread->tasks.newest = task;
    thread->tasks.count++;
    thread->live.fibers++;
    if (__builtin_expect(thread->task && thread->task->scope, 0))
        weft__scope_add_task(thread->task->scope, task);
}

static inline weft_error *weft__task_interruption(struct weft__task *task, const weft_place *place)
{
    if (__builtin_expect(task->latched || task->scope, 0))
        return weft__task_take_interruption(task, place);
    return NULL;
}

static inline void weft__task_ending(struct weft__task *task)
{
    if (__builtin_expect(task->scope || task->cancelled_at || task->asked, 0))
        weft__task_ending_slowly(task);
}

static inline void weft__task_end(struct weft__task *task)
{
    struct weft__thread *thread = &weft__thread;

    if (task->newer)
        task->newer->older = task->older;
    else
        thread->tasks.newest = task->older;
    if (task->older)
        task->older->newer = task->newer;
    thread->tasks.count--;
    thread->live.fibers--;
}

#endif

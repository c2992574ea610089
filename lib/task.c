/* Tasks: waiting, being woken, being cancelled, ending.
 *
 * What a task waits for is only borrowed: its entry there goes when that is fired, or orphaned. Waking puts it into the ready
 * queue; the result lies in the task until its turn, so a value that was delivered wins over a cancel that comes before it.
 *
 * Two kinds of cancel reach a task. One of its deferred is asked once and interrupts one wait: when it finds the task between
 * two waits, or shielded, it stays in the task's deferred until a wait takes it out. One of a scope interrupts every wait
 * inside: so it need not be kept anywhere, each wait looks whether there is one. */
#include <assert.h>
#include <weft/log.h>

#include "lib/task.h"

static const char *const nobodys = "a deferred is awaited that somebody else waits for, or waited for";
static const char *const circle = "a deferred is awaited that waits for the fiber itself";

/* ---- deferreds ---- */

void weft__task_make_deferred(struct weft__task *task, const weft_place *place)
{
    task->deferred = weft_deferred_new_at(NULL, NULL, place);
    weft__deferred_follow(task->deferred, task);
    if (task->shields)
        task->deferred->flags |= WEFT__SHIELDED;
}

/* A failure came about in the task's own context, as whoever reports it is to know. */
static void fire_failure(weft_deferred *deferred, weft_result failure, weft_context *context)
{
    weft_context *previous = weft__context_swap(context);

    weft_deferred_callback(deferred, failure);
    weft_deferred_unref(deferred);
    weft_context_unref(weft__context_swap(previous));
}

void weft__task_fire(weft_deferred *deferred, weft_result result, weft_context *context)
{
    if (weft_failed(result)) {
        fire_failure(deferred, result, context);
        return;
    }
    weft_context_unref(context);
    weft_deferred_callback(deferred, result);
    weft_deferred_unref(deferred);
}

/* ---- cancelling ---- */

/* A cancel that was asked between two waits, or during a shield; NULL when there was none, or it has to wait. */
static weft_error *latched_cancel(struct weft__task *task)
{
    return task->asked && !task->shields ? weft__deferred_take_cancellation(task->deferred) : NULL;
}

static weft_error *scope_cancel(const struct weft__task *task)
{
    return task->scope && task->scope->effective ? task->scope->effective->cancellation : NULL;
}

/* Before a wait for `deferred`, which has no result. The task's own cancel comes first, as it goes further. */
static void interrupt_wait(struct weft__task *task, weft_deferred *deferred)
{
    weft_error *cancellation = latched_cancel(task);

    if (cancellation) {
        task->awaited = deferred; /* it goes there, or stays, if it is too late for this wait as well */
        weft__deferred_cancel_again(task->deferred, cancellation);
        task->awaited = NULL;
    } else if ((cancellation = scope_cancel(task))) {
        task->interrupted = true;
        weft_deferred_cancel_with(deferred, weft_error_ref(cancellation));
    }
}

void weft__task_interrupt(struct weft__task *task, weft_error *cancellation)
{
    if (task->state != WEFT__TASK_PARKED || !task->awaited)
        return; /* the next wait will look */
    task->interrupted = true;
    weft_deferred_cancel_with(task->awaited, weft_error_ref(cancellation));
}

static void note_cancelled(struct weft__task *task, const weft_scope *by, const weft_place *place)
{
    if (task->cancelled_at && !task->cancelled_by)
        return; /* the task's own cancel is not taken by any scope */
    task->cancelled_at = place;
    task->cancelled_by = by;
}

weft_error *weft__task_take_interruption(struct weft__task *task, const weft_place *place)
{
    weft_error *cancellation = latched_cancel(task);

    if (cancellation) {
        note_cancelled(task, NULL, place);
    } else if ((cancellation = scope_cancel(task))) {
        note_cancelled(task, task->scope->effective, place);
        weft_error_ref(cancellation);
    }
    return cancellation ? weft_error_passed(cancellation, place) : NULL;
}

weft_error *weft__task_never_begins(struct weft__task *task)
{
    weft_error *cancellation = latched_cancel(task);

    if (!cancellation && (cancellation = scope_cancel(task)))
        weft_error_ref(cancellation);
    return cancellation;
}

void weft__task_shield(struct weft__task *task)
{
    task->shields++;
    if (task->deferred)
        task->deferred->flags |= WEFT__SHIELDED;
}

void weft__task_unshield(struct weft__task *task)
{
    assert(task->shields);
    if (!--task->shields && task->deferred)
        task->deferred->flags &= (uint16_t)~WEFT__SHIELDED;
}

void weft__task_succeeded(struct weft__task *task, const weft_scope *scope)
{
    const weft_place *place = task->cancelled_at;

    weft__thread.swallowed++;
    weft_log_debug("the fiber %s was cancelled in its wait at %s:%d %s, and has swallowed that: %s succeeded", task->name,
                   place->file, place->line, place->function, scope ? "what its scope was for has" : "it has");
}

void weft__task_ending_slowly(struct weft__task *task)
{
    weft__scope_end_task(task);
    if (task->cancelled_at && !weft_failed(task->result))
        weft__task_succeeded(task, NULL);
}

/* ---- waiting ---- */

static weft_result wake(weft_result result, void *arg)
{
    struct weft__task *task = arg;

    if (task->state == WEFT__TASK_ABANDONED) {
        weft_result_drop(result);
        return weft_ok(NULL);
    }
    task->result = result;
    task->awaited = NULL;
    weft__task_ready(task, WEFT__TASK_READY);
    return weft_ok(NULL);
}

/* Whose error is known: the wait was interrupted by the scope that the task is in, and ended as cancelled. Whatever the canceller
 * has made of that, it is that scope's, and no other's, to take. */
static weft_result attribute(struct weft__task *task, weft_result failure)
{
    weft_error *cancellation = scope_cancel(task);

    if (!cancellation || weft_error_same(weft_failed(failure), cancellation))
        return failure;
    weft_result_drop(failure);
    return weft_fail(weft_error_ref(cancellation));
}

weft_result weft__task_wait_failed(struct weft__task *task, weft_result failure, const weft_place *place)
{
    if (weft_error_is(weft_failed(failure), &WEFT_CANCELLED)) {
        if (task->deferred && task->deferred->flags & WEFT__INTERRUPTED) {
            note_cancelled(task, NULL, place);
        } else if (task->interrupted) {
            failure = attribute(task, failure);
            note_cancelled(task, task->scope ? task->scope->effective : NULL, place);
        }
    }
    return weft_result_passed(failure, place);
}

/* Why `deferred` cannot be waited for; NULL when it can. */
static const char *why_not(const struct weft__task *task, const weft_deferred *deferred)
{
    if (deferred->flags & WEFT__CONSUMED)
        return nobodys;
    if (task->deferred && weft__deferred_waits_for(deferred, task->deferred))
        return circle;
    return NULL;
}

/* The wait is over before it has begun. */
static bool is_over(struct weft__task *task, weft_deferred *deferred, weft_result result, const weft_place *place)
{
    task->result = result;
    task->result = weft__task_waited(task, place);
    weft_deferred_unref(deferred);
    return true;
}

static void forget_interruptions(struct weft__task *task)
{
    task->interrupted = false;
    if (task->deferred)
        task->deferred->flags &= (uint16_t)~WEFT__INTERRUPTED;
}

static bool take_if_ready(struct weft__task *task, weft_deferred *deferred, const weft_place *place)
{
    return weft__deferred_ready(deferred) && is_over(task, deferred, weft_deferred_take_result(deferred), place);
}

static int64_t now(void)
{
    const weft_clock *clock = weft__thread.clock;

    return clock ? weft_clock_recent(clock) : 0;
}

bool weft__task_wait(struct weft__task *task, weft_deferred *deferred, const weft_place *place)
{
    const char *why = why_not(task, deferred);

    if (why)
        return is_over(task, deferred, weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "%s", why)), place);
    forget_interruptions(task);
    if (take_if_ready(task, deferred, place))
        return true;
    if (task->asked || task->scope) {
        interrupt_wait(task, deferred);
        if (take_if_ready(task, deferred, place))
            return true;
    }
    task->place = place;
    task->since = now();
    task->awaited = deferred;
    task->state = WEFT__TASK_PARKED;
    weft__deferred_consume(deferred, wake, task);
    weft_deferred_unref(deferred); /* may wake us at once */
    return false;
}

/* ---- all of a thread ---- */

/* The task that a cancel of `task` would go to; NULL when that is none. */
static struct weft__task *task_below(const struct weft__task *task)
{
    const weft_deferred *d = task->deferred;

    while ((d = weft__deferred_waited_for(d))) {
        if (d->flags & WEFT__FOLLOWS && weft__deferred_pending(d))
            return d->followed.task;
    }
    return NULL;
}

/* Each once: those that others wait for are reached through them, and being asked themselves as well would interrupt their
 * clean-up. */
void weft__tasks_cancel_all(void)
{
    struct weft__task *below;

    for (struct weft__task *task = weft__thread.tasks.newest; task; task = task->older) {
        if ((below = task_below(task)))
            below->reached = true;
    }
    /* Cancelling runs no task, but callbacks: they may start one, which is then put before the newest. */
    for (struct weft__task *task = weft__thread.tasks.newest; task; task = task->older) {
        if (!task->reached)
            weft_deferred_cancel_with(task->deferred, weft_error_new(&WEFT_SHUTDOWN, "the reactor is being freed"));
        task->reached = false;
    }
}

void weft__tasks_abandon(void)
{
    for (struct weft__task *task = weft__thread.tasks.newest; task; task = task->older) {
        weft_log_error("the fiber %s did not end when its reactor was freed: it waits at %s:%d %s", task->name,
                       task->place->file, task->place->line, task->place->function);
        task->state = WEFT__TASK_ABANDONED;
    }
    weft__thread.tasks.newest = NULL;
    weft__thread.tasks.count = 0;
    weft__ready_clear(&weft__thread.ready);
}

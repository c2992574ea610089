/* Tasks: waiting, being woken, being cancelled, ending.
 *
 * What a task waits for is only borrowed: its entry there goes when that is fired, or orphaned. Waking puts it into the
 * ready queue; the result lies in the task until its turn, so a value that was delivered wins over a cancel that comes
 * before it.
 *
 * Two kinds of cancel reach a task. One of its deferred is asked once and interrupts one wait: when it finds the task
 * between two waits, or shielded, it stays in the task's deferred until a wait takes it out. One of a scope interrupts every
 * wait inside: so it need not be kept anywhere, each wait looks whether there is one. */
#include <assert.h>
#include <weft/log.h>

#include "lib/cancellation.h"
#include "lib/holders.h"
#include "lib/task.h"

static const char *const nobodys = "a deferred is awaited that somebody else waits for, or waited for";
static const char *const circle = "a deferred is awaited that waits for the fiber itself";
static const char *const group = "a deferred is awaited that waits for who has opened the fiber's group, and waits for its end";

/* ---- deferreds ---- */

void weft__task_make_deferred(struct weft__task *task, const weft_place *place)
{
    task->deferred = weft_deferred_new_at(NULL, NULL, place);
    weft__deferred_follow(task->deferred, task);
    if (task->shields)
        task->deferred->flags |= WEFT__SHIELDED;
}

void weft__task_fire(weft_deferred *deferred, weft_result result, weft_context *context)
{
    if (weft_failed(result)) {
        weft__deferred_fail_in(deferred, result, context, WEFT_HERE);
    } else {
        weft_context_unref(context);
        weft_deferred_callback(deferred, result);
    }
    weft_deferred_unref(deferred);
}

/* ---- cancelling ---- */

/* What is to come out of a wait. */
struct interruption {
    weft_error *error; /* borrowed; NULL: nothing is */
    weft_scope *by;    /* whose cancel it is; NULL: the task's own */
    bool latched;      /* it was asked between two waits, or during a shield, and waits in the task's deferred */
};

static bool own_may_come(const struct weft__task *task)
{
    return !task->shields || (task->holding && weft__shields_let_own(task));
}

/* The task's own cancel comes first, as it goes further. */
static struct interruption find_interruption(const struct weft__task *task)
{
    weft_error *error = task->latched ? weft_deferred_get_cancellation(task->deferred) : NULL;
    weft_scope *by;

    if (error && own_may_come(task))
        return (struct interruption){.error = error, .latched = true};
    if ((by = weft__scope_in_force(task->scope)) || (task->holding && (by = weft__shields_let_scope(task))))
        return (struct interruption){.error = by->cancellation, .by = by};
    if (task->holding)
        return (struct interruption){.error = weft__shields_own_for_good(task)};
    return (struct interruption){0};
}

/* The cancel that the task has kept goes to what it waits for; or stays, if it is too late for this wait as well. */
static void send_kept(struct weft__task *task)
{
    weft_deferred *deferred = task->deferred;

    deferred->flags &= (uint16_t)~WEFT__SHIELDED;
    weft__deferred_cancel_again(deferred, weft__deferred_take_cancellation(deferred));
    if (task->shields)
        deferred->flags |= WEFT__SHIELDED;
}

/* The wait for `task->awaited`, which has no result, begins or goes on. Runs cancellers. */
static void interrupt(struct weft__task *task)
{
    struct interruption interruption = find_interruption(task);

    if (!interruption.error)
        return;
    if (interruption.latched) {
        send_kept(task);
        if (task->latched)
            return;
    } else if (!weft__deferred_can_be_stopped(task->awaited)) {
        return;
    } else {
        task->interrupted = interruption.by;
        if (!interruption.by)
            task->deferred->flags |= WEFT__INTERRUPTED;
        weft_deferred_cancel_with(task->awaited, weft_error_ref(interruption.error));
    }
    if (task->holding)
        weft__shields_used(task, interruption.by);
}

void weft__task_look_again(struct weft__task *task)
{
    if (task->state == WEFT__TASK_PARKED && task->awaited)
        interrupt(task);
}

void weft__task_interrupt(struct weft__task *task, weft_scope *by)
{
    if (task->state != WEFT__TASK_PARKED || !task->awaited)
        return; /* the next wait will look */
    task->interrupted = by;
    weft_deferred_cancel_with(task->awaited, weft_error_ref(by->cancellation));
}

static void note_cancelled(struct weft__task *task, const weft_scope *by, const weft_place *place)
{
    if (task->cancelled_at && !task->cancelled_by)
        return; /* the task's own cancel is not taken by any scope */
    task->cancelled_at = place;
    task->cancelled_by = by;
}

/* A reference. */
static weft_error *take_interruption(struct weft__task *task, struct interruption interruption)
{
    if (interruption.latched)
        return weft__deferred_take_cancellation(task->deferred);
    return interruption.error ? weft_error_ref(interruption.error) : NULL;
}

weft_error *weft__task_take_interruption(struct weft__task *task, const weft_place *place)
{
    struct interruption interruption = find_interruption(task);
    weft_error *cancellation = take_interruption(task, interruption);

    if (!cancellation)
        return NULL;
    note_cancelled(task, interruption.by, place);
    if (task->holding)
        weft__shields_used(task, interruption.by);
    return weft_error_passed(cancellation, place);
}

weft_error *weft__task_never_begins(struct weft__task *task)
{
    return take_interruption(task, find_interruption(task));
}

void weft__task_asked(weft_deferred *deferred)
{
    struct weft__task *task = deferred->followed.task;

    if (task->asked)
        return;
    task->asked = true;
    task->asked_at = weft__recent();
    weft__thread.cancellation.asked++;
}

void weft__task_keeps(weft_deferred *deferred)
{
    if (deferred->flags & WEFT__SHIELDED)
        weft__shields_hold_own(deferred->followed.task);
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

    weft__thread.cancellation.swallowed++;
    weft_log_debug("the fiber %s was cancelled in its wait at %s:%d %s, and has swallowed that: %s succeeded", task->name,
                   place->file, place->line, place->function, scope ? "what its scope was for has" : "it has");
}

/* A failure that only says that the scope around the task was cancelled is no news to those who did that. */
static void mark_unwanted(struct weft__task *task)
{
    const weft_scope *by = weft__scope_in_force(task->scope);

    if (!by || !weft_error_same(weft_failed(task->result), by->cancellation))
        return;
    if (task->deferred)
        task->deferred->flags |= WEFT__UNWANTED;
    else
        task->unwanted = true;
}

void weft__task_ending_slowly(struct weft__task *task)
{
    mark_unwanted(task);
    if (task->cancelled_at && !weft_failed(task->result))
        weft__task_succeeded(task, NULL);
    weft__scope_end_task(task);
    if (task->asked)
        weft__count_ended(task->asked_at);
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

uint64_t weft__task_awaiting(const weft_deferred *deferred)
{
    const struct weft__task *task = weft__deferred_consumed_by(deferred, wake);

    return task ? task->number : 0;
}

const struct weft__task *weft__task_of(const weft_deferred *deferred)
{
    if (!weft__deferred_pending(deferred) || !(deferred->flags & WEFT__FOLLOWS))
        return NULL;
    return deferred->followed.task;
}

/* The wait was interrupted by a scope's cancel, and ended as cancelled: whatever the canceller has made of that, it is that
 * scope's, and no other's, to take. */
static weft_result attribute(weft_result failure, const weft_scope *by)
{
    if (weft_error_same(weft_failed(failure), by->cancellation))
        return failure;
    weft_result_drop(failure);
    return weft_fail(weft_error_ref(by->cancellation));
}

/* It may also be what another task in the same scope has failed with. */
static weft_result cancelled(struct weft__task *task, weft_result failure, const weft_place *place)
{
    const weft_scope *by = weft__scope_in_force(task->interrupted ? task->interrupted : task->scope);

    if (task->deferred && task->deferred->flags & WEFT__INTERRUPTED) {
        note_cancelled(task, NULL, place);
    } else if (by && (task->interrupted || weft_error_same(weft_failed(failure), by->cancellation))) {
        failure = attribute(failure, by);
        note_cancelled(task, by, place);
    }
    return failure;
}

weft_result weft__task_wait_failed(struct weft__task *task, weft_result failure, const weft_place *place)
{
    if (weft_error_is(weft_failed(failure), &WEFT_CANCELLED))
        failure = cancelled(task, failure, place);
    return weft_result_passed(failure, place);
}

/* Who has opened the group that counts the task, and leaves it no sooner than the task has ended; NULL: none does. */
static const struct weft__task *opener_of(const struct weft__task *task)
{
    const weft_scope *scope = task->counted ? task->scope : NULL;

    while (scope && scope->owner == task)
        scope = scope->parent;
    return scope ? scope->owner : NULL;
}

/* It would not end, and no cancel would end it: the opener has only its fibers to pass one on to. */
static bool waits_for_opener(const weft_deferred *deferred, const struct weft__task *task)
{
    if (!(deferred->flags & (WEFT__FOLLOWS | WEFT__WAITING)))
        return false;
    while ((task = opener_of(task))) {
        if (task->deferred && weft__deferred_waits_for(deferred, task->deferred))
            return true;
    }
    return false;
}

/* Why `deferred` cannot be waited for; NULL when it can. */
static const char *why_not(const struct weft__task *task, const weft_deferred *deferred)
{
    if (deferred->flags & WEFT__CONSUMED)
        return nobodys;
    if (task->deferred && weft__deferred_waits_for(deferred, task->deferred))
        return circle;
    if (task->scope && waits_for_opener(deferred, task))
        return group;
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
    task->interrupted = NULL;
    if (task->deferred)
        task->deferred->flags &= (uint16_t)~WEFT__INTERRUPTED;
}

static bool take_if_ready(struct weft__task *task, weft_deferred *deferred, const weft_place *place)
{
    weft_result result;

    if (!weft__deferred_ready(deferred))
        return false;
    result = weft_deferred_take_result(deferred);
    if (__builtin_expect(deferred->flags & WEFT__GRANT, 0))
        weft__holders_took(result, task->number);
    return is_over(task, deferred, result, place);
}

static bool refuse(struct weft__task *task, weft_deferred *deferred, const char *why, const weft_place *place)
{
    return is_over(task, deferred, weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "%s", why)), place);
}

bool weft__task_wait(struct weft__task *task, weft_deferred *deferred, const weft_place *place)
{
    const char *why = why_not(task, deferred);

    forget_interruptions(task);
    if (why)
        return refuse(task, deferred, why, place);
    if (take_if_ready(task, deferred, place))
        return true;
    task->awaited = deferred;
    if (task->latched || task->scope) {
        interrupt(task);
        task->awaited = NULL; /* the canceller may have done anything with it */
        if ((why = why_not(task, deferred)))
            return refuse(task, deferred, why, place);
        if (take_if_ready(task, deferred, place))
            return true;
        task->awaited = deferred;
    }
    task->place = place;
    task->since = weft__recent();
    task->state = WEFT__TASK_PARKED;
    task->context = weft__thread.context; /* it leaves by a switch, which takes that along; this may wake it at once */
    weft__deferred_consume(deferred, wake, task);
    weft_deferred_unref(deferred);
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

/* What it waits for, and the clock of its scopes, may go before those do who hold its deferred, or a scope. */
static void abandon(struct weft__task *task)
{
    weft_log_error("the fiber %s did not end when its reactor was freed: it waits at %s:%d %s", task->name,
                   task->place->file, task->place->line, task->place->function);
    if (weft__task_was_ready(task))
        weft__context_unqueue(task->context);
    task->state = WEFT__TASK_ABANDONED;
    task->awaited = NULL;
    for (weft_scope *scope = task->scope; scope; scope = scope->parent)
        weft_timer_stop(&scope->timer);
}

void weft__tasks_abandon(void)
{
    for (struct weft__task *task = weft__thread.tasks.newest; task; task = task->older)
        abandon(task);
    weft__thread.tasks.newest = NULL;
    weft__thread.tasks.count = 0;
    weft__ready_clear(&weft__thread.ready);
}

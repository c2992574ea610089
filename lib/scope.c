/* Scopes: a tree, with tasks at its nodes.
 *
 * Each scope knows whose cancel holds in it: the outermost that was cancelled of itself and those around it, up to a shield.
 * That is written down when a scope is cancelled, for everything inside, so that a wait has one pointer to look at. The
 * outermost, because what is in it has to be left anyway: a scope further in would take the cancel for its own, and its fiber
 * begin another wait only to be interrupted again.
 *
 * A scope is held by the task that entered it, until that leaves, by the tasks for which it is the innermost, and by the scopes
 * right inside it: so what `effective` and `parent` point to is alive. */
#include <assert.h>
#include <math.h>
#include <weft/log.h>

#include "lib/clock.h"
#include "lib/scope.h"
#include "lib/task.h"

/* ---- life ---- */

static void link_child(weft_scope *parent, weft_scope *scope)
{
    scope->parent = parent;
    scope->older = parent->child;
    if (parent->child)
        parent->child->newer = scope;
    parent->child = scope;
    parent->references++;
}

static void unlink_child(weft_scope *scope)
{
    if (scope->newer)
        scope->newer->older = scope->older;
    else
        scope->parent->child = scope->older;
    if (scope->older)
        scope->older->newer = scope->newer;
}

static weft_scope *scope_new(weft_scope *parent, bool shield, const weft_place *place)
{
    weft_scope *scope = weft__slab_take(&weft__thread.scopes, sizeof *scope);

    *scope = (weft_scope){.references = 1, .shield = shield, .deadline = INT64_MAX, .place = place};
    if (parent)
        link_child(parent, scope);
    if (parent && !shield)
        scope->effective = parent->effective;
    weft__thread.live.scopes++;
    return scope;
}

weft_scope *weft_scope_ref(weft_scope *scope)
{
    scope->references++;
    return scope;
}

/* With the last one inside goes the one around it, which may be the last inside another. */
weft_scope *weft_scope_unref(weft_scope *scope)
{
    while (scope && !--scope->references) {
        weft_scope *parent = scope->parent;

        assert(!scope->owner && !scope->tasks && !scope->child);
        if (parent)
            unlink_child(scope);
        weft_timer_stop(&scope->timer);
        weft_error_unref(scope->cancellation);
        weft__slab_give(&weft__thread.scopes, scope);
        weft__thread.live.scopes--;
        scope = parent;
    }
    return NULL;
}

/* Whoever holds it then has nothing left to cancel. */
static void stop_if_empty(weft_scope *scope)
{
    if (!scope->owner && !scope->tasks && !scope->child)
        weft_timer_stop(&scope->timer);
}

/* ---- who is in it ---- */

static void link_task(weft_scope *scope, struct weft__task *task)
{
    task->scope = scope;
    task->scope_newer = NULL;
    task->scope_older = scope->tasks;
    if (scope->tasks)
        scope->tasks->scope_newer = task;
    scope->tasks = task;
}

static void unlink_task(struct weft__task *task)
{
    weft_scope *scope = task->scope;

    if (task->scope_newer)
        task->scope_newer->scope_older = task->scope_older;
    else
        scope->tasks = task->scope_older;
    if (task->scope_older)
        task->scope_older->scope_newer = task->scope_newer;
    task->scope = NULL;
}

void weft__scope_add_task(weft_scope *scope, struct weft__task *task)
{
    link_task(weft_scope_ref(scope), task);
}

void weft__scope_remove_task(struct weft__task *task)
{
    weft_scope *scope = task->scope;

    unlink_task(task);
    stop_if_empty(scope);
    weft_scope_unref(scope);
}

/* ---- cancelling ---- */

/* The next in the tree below `top`, what is behind shields left out; NULL after the last. */
static weft_scope *next_inside(weft_scope *scope, const weft_scope *top)
{
    weft_scope *next = scope->child;

    for (;;) {
        while (next && next->shield)
            next = next->older;
        if (next)
            return next;
        if (scope == top)
            return NULL;
        next = scope->older;
        scope = scope->parent;
    }
}

/* Notes whose cancel holds from now on, and returns how many tasks wait inside. */
static size_t spread(weft_scope *top)
{
    size_t parked = 0;

    for (weft_scope *scope = top; scope; scope = next_inside(scope, top)) {
        scope->effective = top;
        for (const struct weft__task *task = scope->tasks; task; task = task->scope_older)
            parked += task->state == WEFT__TASK_PARKED;
    }
    return parked;
}

/* Cancellers may start tasks, enter no scope, and end nothing that waits: no task runs here that has waited. So those that are
 * to be told are written down first. */
static void interrupt_all(weft_scope *top, size_t count)
{
    struct weft__task **tasks = weft_alloc(count * sizeof(struct weft__task *));
    size_t found = 0;

    for (weft_scope *scope = top; scope; scope = next_inside(scope, top))
        for (struct weft__task *task = scope->tasks; task; task = task->scope_older)
            if (task->state == WEFT__TASK_PARKED)
                tasks[found++] = task;
    for (size_t i = 0; i < found; i++)
        weft__task_interrupt(tasks[i], top->cancellation);
    weft_free(tasks);
}

static void cancel(weft_scope *scope, weft_error *cancellation)
{
    size_t parked;

    if (scope->cancellation || (!scope->owner && !scope->tasks && !scope->child)) {
        weft_error_unref(cancellation);
        return;
    }
    scope->cancellation = cancellation;
    weft_timer_stop(&scope->timer);
    if (scope->effective)
        return; /* one further out was first, and holds */
    weft_scope_ref(scope);
    if ((parked = spread(scope)))
        interrupt_all(scope, parked);
    weft_scope_unref(scope);
}

void weft_scope_cancel_at(weft_scope *scope, weft_error *cancellation, const weft_place *place)
{
    cancel(scope, cancellation ? cancellation : weft_error_new_at(&WEFT_CANCELLED, place, "the scope was cancelled"));
}

static void deadline_passed(weft_timer *timer, void *arg)
{
    weft_scope *scope = arg;

    (void)timer;
    cancel(scope, weft_error_new_at(&WEFT_DEADLINE, scope->place, "it had not ended within %g s", scope->timeout));
}

/* ---- entering ---- */

static weft_scope *enter(bool shield, const weft_place *place)
{
    struct weft__task *task = weft__thread.task;
    weft_scope *scope, *parent;

    if (!task) {
        weft_log_at(WEFT_LOG_ERROR, place, "misuse: a scope is entered outside a fiber");
        return NULL;
    }
    parent = task->scope;
    scope = scope_new(parent, shield, place);
    scope->owner = task;
    if (parent)
        unlink_task(task);
    link_task(scope, task); /* which lets go of the parent: the scope holds that now */
    if (parent)
        parent->references--;
    scope->references++;
    return scope;
}

static void set_deadline(weft_scope *scope, const weft_scope_options *options)
{
    weft_clock *clock = weft__thread.clock;
    int64_t now, due = options->deadline ? options->deadline : INT64_MAX;

    if (!clock) {
        weft_log_at(WEFT_LOG_ERROR, scope->place, "misuse: a scope with a deadline needs a clock on its thread");
        return;
    }
    now = weft_clock_recent(clock);
    if (options->timeout != 0) {
        int64_t then = weft__instant_after(now, weft__nanoseconds(options->timeout));

        if (then < due)
            due = then;
    }
    scope->deadline = due;
    scope->timeout = due > now ? (double)(due - now) / 1e9 : 0;
    weft_timer_init(&scope->timer, deadline_passed, scope);
    if (due <= now)
        deadline_passed(&scope->timer, scope);
    else if (due != INT64_MAX)
        weft_timer_start_due(&scope->timer, clock, due);
}

weft_scope *weft_scope_enter_at(weft_scope_options options, const weft_place *place)
{
    weft_scope *scope = enter(false, place);

    if (!scope)
        return NULL;
    scope->move_on = options.move_on;
    if (options.timeout != 0 || options.deadline)
        set_deadline(scope, &options);
    return scope;
}

weft_scope *weft_shield_enter_at(const weft_place *place)
{
    weft_scope *scope = enter(true, place);

    if (scope)
        weft__task_shield(scope->owner);
    return scope;
}

/* ---- leaving ---- */

/* The innermost of the task, which is its owner. */
static void step_out(struct weft__task *task)
{
    weft_scope *scope = task->scope, *parent = scope->parent;

    unlink_task(task);
    if (parent)
        weft__scope_add_task(parent, task);
    if (scope->shield)
        weft__task_unshield(task);
    scope->owner = NULL;
    stop_if_empty(scope);
    scope->references--; /* of the task; the owner's is the caller's */
}

static void leave_forgotten(struct weft__task *task)
{
    weft_scope *scope = task->scope;

    if (scope->keeper) {
        scope->keeper->forgotten(scope->keeper);
        return;
    }
    weft_log_error("misuse: the scope entered at %s:%d %s was not left by the fiber %s", scope->place->file, scope->place->line,
                   scope->place->function, task->name);
    step_out(task);
    weft_scope_unref(scope);
}

void weft__scope_end_task(struct weft__task *task)
{
    while (task->scope && task->scope->owner == task)
        leave_forgotten(task);
    if (task->scope)
        weft__scope_remove_task(task);
}

void weft__scope_leave_inside(const weft_scope *scope)
{
    while (scope->owner->scope != scope)
        leave_forgotten(scope->owner);
}

/* Whether the running fiber may leave it. */
static bool may_leave(const weft_scope *scope)
{
    if (scope->owner && scope->owner == weft__thread.task && !scope->keeper)
        return true;
    weft_log_error("misuse: the scope entered at %s:%d %s is left by another than %s that entered it", scope->place->file,
                   scope->place->line, scope->place->function, scope->keeper ? "the group" : "the fiber");
    return false;
}

static void step_out_of(weft_scope *scope)
{
    struct weft__task *task = scope->owner;

    weft__scope_leave_inside(scope);
    step_out(task);
}

/* What becomes of the scope's own cancellation. */
static weft_result end_of(const weft_scope *scope)
{
    if (!weft_error_is(scope->cancellation, &WEFT_DEADLINE) || scope->move_on)
        return weft_ok(NULL);
    return weft_fail(weft_error_caused_by(
        weft_error_new_at(&WEFT_TIMED_OUT, scope->place, "it had not ended within %g s", scope->timeout),
        weft_error_ref(scope->cancellation)));
}

/* A success although a cancel came out of a wait inside was made by who swallowed that. */
static weft_result settle(struct weft__task *task, const weft_scope *scope, weft_result result)
{
    bool cancelled = task->cancelled_at && task->cancelled_by == scope;

    if (weft_error_same(weft_failed(result), scope->cancellation)) {
        weft_result_drop(result);
        result = end_of(scope);
    } else if (cancelled && !weft_failed(result)) {
        weft__task_succeeded(task, scope);
    }
    if (cancelled)
        task->cancelled_at = NULL;
    return result;
}

weft_result weft_scope_leave(weft_scope *scope, weft_result result)
{
    struct weft__task *task = weft__thread.task;

    if (!scope || !may_leave(scope))
        return result;
    step_out_of(scope);
    result = settle(task, scope, result);
    weft_scope_unref(scope);
    return result;
}

weft_scope *weft_scope_close(weft_scope *scope)
{
    if (scope && scope->owner && may_leave(scope)) {
        step_out_of(scope);
        weft_scope_unref(scope);
    }
    return NULL;
}

/* ---- running a function in one ---- */

static weft_result run_in(weft_scope *scope, weft_fiber_fn *fn, void *arg, const weft_place *place)
{
    if (!scope)
        return weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "a scope is entered outside a fiber"));
    return weft_scope_leave(scope, fn(arg));
}

static weft_result run_for(double seconds, bool move_on, weft_fiber_fn *fn, void *arg, const weft_place *place)
{
    weft_scope_options options = {.timeout = seconds > 0 ? seconds : -1, .move_on = move_on};

    return run_in(weft_scope_enter_at(options, place), fn, arg, place);
}

weft_result weft_fail_after_at(double seconds, weft_fiber_fn *fn, void *arg, const weft_place *place)
{
    return run_for(seconds, false, fn, arg, place);
}

weft_result weft_move_on_after_at(double seconds, weft_fiber_fn *fn, void *arg, const weft_place *place)
{
    return run_for(seconds, true, fn, arg, place);
}

weft_result weft_shield_at(weft_fiber_fn *fn, void *arg, const weft_place *place)
{
    return run_in(weft_shield_enter_at(place), fn, arg, place);
}

/* ---- asking ---- */

weft_scope *weft_scope_current(void)
{
    return weft__thread.task ? weft__thread.task->scope : NULL;
}

int64_t weft_scope_deadline(void)
{
    int64_t earliest = INT64_MAX;

    for (const weft_scope *scope = weft_scope_current(); scope; scope = scope->shield ? NULL : scope->parent)
        if (scope->deadline < earliest)
            earliest = scope->deadline;
    return earliest;
}

weft_error *weft_scope_get_cancellation(const weft_scope *scope)
{
    return scope->effective ? scope->effective->cancellation : NULL;
}

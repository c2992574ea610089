/* Scopes: a tree, with tasks at its nodes.
 *
 * Each scope knows whose cancel holds in it: the outermost that was cancelled of itself and those around it, up to a shield
 * that is closed. The outermost, because what is in it has to be left anyway: a scope further in would take the cancel for
 * its own, and its fiber begin another wait only to be interrupted again. That is written down when a scope is cancelled,
 * for everything inside, so that a wait has one pointer to look at. What is inside a scope that was cancelled before was
 * told already: there only that scope is made to lead on to the new one (as in a union of sets), so that a thousand scopes
 * in one another that are cancelled from the inside out cost a thousand steps and not half a million.
 *
 * A scope is in the tree as long as somebody is inside: its owner, tasks for which it is the innermost, or scopes. Then so
 * are those around it, and what `effective` and `parent` point to is alive. Nobody can come to a scope in which nobody is.
 * */
#include <assert.h>
#include <weft/log.h>

#include "lib/cancellation.h"
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
}

static void unlink_child(weft_scope *scope)
{
    if (scope->newer)
        scope->newer->older = scope->older;
    else
        scope->parent->child = scope->older;
    if (scope->older)
        scope->older->newer = scope->newer;
    scope->parent = NULL;
}

static weft_scope *scope_new(weft_scope *parent, bool shield, const weft_place *place)
{
    weft_scope *scope = weft__slab_take(&weft__thread.scopes, sizeof *scope);

    *scope = (weft_scope){.references = 1, .shield = shield, .deadline = INT64_MAX, .place = place};
    if (parent)
        link_child(parent, scope);
    if (parent && !shield)
        scope->effective = weft__scope_in_force(parent);
    weft__thread.live.scopes++;
    return scope;
}

weft_scope *weft_scope_ref(weft_scope *scope)
{
    scope->references++;
    return scope;
}

weft_scope *weft_scope_unref(weft_scope *scope)
{
    if (!scope || --scope->references)
        return NULL;
    assert(!scope->owner && !scope->tasks && !scope->child && !scope->parent);
    weft__shield_forget(scope);
    weft_error_unref(scope->cancellation);
    weft__slab_give(&weft__thread.scopes, scope);
    weft__thread.live.scopes--;
    return NULL;
}

static bool is_empty(const weft_scope *scope)
{
    return !scope->owner && !scope->tasks && !scope->child;
}

/* Who holds it may still ask why it was cancelled, when the scope around it that was has gone. */
static void keep_reason(weft_scope *scope)
{
    const weft_scope *by = weft__scope_in_force(scope);

    if (by && !scope->cancellation)
        scope->cancellation = weft_error_ref(by->cancellation);
    scope->effective = scope->cancellation ? scope : NULL;
}

/* Somebody has left it. With the last one it goes from the one around it, for which it may have been the last. */
static void leave_tree_if_empty(weft_scope *scope)
{
    while (scope && is_empty(scope)) {
        weft_scope *parent = scope->parent;

        keep_reason(scope);
        weft_timer_stop(&scope->timer);
        if (parent)
            unlink_child(scope);
        weft_scope_unref(scope);
        scope = parent;
    }
}

/* ---- who is in it ---- */

void weft__scope_add_task(weft_scope *scope, struct weft__task *task)
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

void weft__scope_remove_task(struct weft__task *task)
{
    weft_scope *scope = task->scope;

    unlink_task(task);
    leave_tree_if_empty(scope);
}

/* ---- cancelling ---- */

/* Those on the way are made to lead there at once. */
weft_scope *weft__scope_find_in_force(weft_scope *scope)
{
    weft_scope *found = scope->effective, *next;

    while (found->effective != found)
        found = found->effective;
    while ((next = scope->effective) != found) {
        scope->effective = found;
        scope = next;
    }
    return found;
}

/* The next in the tree below `top`, what is inside `scope` left out or not; NULL after the last. */
static weft_scope *next_inside(weft_scope *scope, const weft_scope *top, bool into)
{
    if (into && scope->child)
        return scope->child;
    while (scope != top) {
        if (scope->older)
            return scope->older;
        scope = scope->parent;
    }
    return NULL;
}

struct found {
    struct weft__task **tasks;
    size_t count;
    size_t room;
};

static void note_parked(struct found *found, struct weft__task *task)
{
    if (task->state != WEFT__TASK_PARKED)
        return; /* its next wait will look */
    if (found->count == found->room) {
        found->room = found->room ? 2 * found->room : 8;
        found->tasks = weft_realloc(found->tasks, found->room * sizeof(struct weft__task *));
    }
    found->tasks[found->count++] = task;
}

/* The cancel of `by` comes to `scope`. Whether it goes on to those inside. */
static bool reach(weft_scope *scope, weft_scope *by, struct found *found)
{
    bool known = scope->effective;

    if (weft__shield_is_closed(scope) && scope != by) {
        weft__shield_hold(scope, by->cancellation);
        return false;
    }
    scope->effective = by;
    for (struct weft__task *task = known ? NULL : scope->tasks; task; task = task->scope_older)
        note_parked(found, task);
    return !known;
}

/* Cancellers may start tasks and cancel, but no task runs here that has waited before. So those who are to be told stay
 * where they are, once they are written down. */
void weft__scope_enforce(weft_scope *top, weft_scope *by)
{
    struct found found = {0};

    for (weft_scope *scope = top; scope;)
        scope = next_inside(scope, top, reach(scope, by, &found));
    weft_scope_ref(by);
    for (size_t i = 0; i < found.count; i++)
        weft__task_interrupt(found.tasks[i], by);
    weft_scope_unref(by);
    weft_free(found.tasks);
}

static void cancel(weft_scope *scope, weft_error *cancellation)
{
    if (scope->cancellation || is_empty(scope)) {
        weft_error_unref(cancellation);
        return;
    }
    scope->cancellation = cancellation;
    if (scope->owner) {
        scope->asked = true;
        scope->asked_at = weft__recent();
        weft__thread.cancellation.asked++;
    }
    if (!scope->shield)
        weft_timer_stop(&scope->timer);
    if (!scope->effective) /* else one further out was first, and holds */
        weft__scope_enforce(scope, scope);
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
    weft_scope *scope;

    if (!task) {
        weft_log_at(WEFT_LOG_ERROR, place, "misuse: a scope is entered outside a fiber");
        return NULL;
    }
    scope = scope_new(task->scope, shield, place);
    scope->owner = task;
    if (task->scope)
        unlink_task(task);
    weft__scope_add_task(scope, task);
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
    now = weft_clock_now(clock); /* not the recent time: what the turn has taken so far is no part of the timeout */
    if (options->timeout != 0) {
        int64_t then = weft__instant_after(now, weft__nanoseconds(options->timeout));

        due = then < due ? then : due;
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

weft_scope *weft_shield_enter_at(weft_shield_options options, const weft_place *place)
{
    weft_scope *scope = enter(true, place);

    if (scope)
        weft__shield_entered(scope, &options);
    return scope;
}

/* ---- leaving ---- */

/* The innermost of the task, which is its owner. */
static void step_out(struct weft__task *task)
{
    weft_scope *scope = task->scope, *parent = scope->parent;

    if (task->cancelled_at && task->cancelled_by == scope)
        task->cancelled_at = NULL; /* it is out of what was to be stopped */
    if (scope->shield)
        weft__shield_left(scope);
    if (scope->asked)
        weft__count_ended(scope->asked_at);
    unlink_task(task);
    if (parent)
        weft__scope_add_task(parent, task);
    scope->owner = NULL;
    leave_tree_if_empty(scope);
}

static void leave_forgotten(struct weft__task *task)
{
    const weft_scope *scope = task->scope;

    assert(scope);
    if (scope->keeper) {
        scope->keeper->forgotten(scope->keeper);
        return;
    }
    weft_log_error("misuse: the scope entered at %s:%d %s was not left by the fiber %s", scope->place->file,
                   scope->place->line, scope->place->function, task->name);
    step_out(task);
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
    weft_log_error("misuse: the scope entered at %s:%d %s is left %s", scope->place->file, scope->place->line,
                   scope->place->function,
                   !scope->owner   ? "again"
                   : scope->keeper ? "by another than the group that entered it"
                                   : "by another than the fiber that entered it");
    return false;
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

/* Also within a wrapper that says which member has met it. */
static bool is_own(const weft_scope *scope, const weft_error *error)
{
    while (error && weft_error_get_kind(error) == &WEFT_FIRST_ERROR && weft_error_get_cause(error))
        error = weft_error_get_cause(error);
    return weft_error_same(error, scope->cancellation);
}

/* A success although a cancel came out of a wait inside was made by who swallowed that. */
static weft_result settle(struct weft__task *task, const weft_scope *scope, weft_result result)
{
    if (is_own(scope, weft_failed(result))) {
        weft_result_drop(result);
        return end_of(scope);
    }
    if (task->cancelled_at && task->cancelled_by == scope && !weft_failed(result))
        weft__task_succeeded(task, scope);
    return result;
}

weft_result weft_scope_leave(weft_scope **scope, weft_result result)
{
    weft_scope *left = *scope;

    *scope = NULL;
    if (!left || !may_leave(left))
        return result;
    weft__scope_leave_inside(left);
    result = settle(left->owner, left, result);
    step_out(left->owner);
    return result;
}

weft_scope *weft_scope_close(weft_scope *scope)
{
    if (scope && scope->owner && may_leave(scope)) {
        weft__scope_leave_inside(scope);
        step_out(scope->owner);
    }
    return NULL;
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
    const weft_scope *by = weft__scope_in_force((weft_scope *)scope);

    return by ? by->cancellation : NULL;
}

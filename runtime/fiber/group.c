/* Groups: a scope, a count of the fibers in it, and the first failure.
 *
 * The group needs no list of its fibers: to cancel them is the scope's affair, and an entry in the deferred of each
 * says when it has ended. That deferred is fired when the fiber was left for good, so when the count is 0 nothing of
 * them runs any more.
 *
 * The fiber that leaves a group waits in the group's scope, for a deferred whose canceller never ends it. Three
 * cancels may come there. The group's own has nothing more to do. That of a scope further out has reached all fibers
 * by itself, and is remembered, to come out in the end. One of the fiber's own deferred is passed on to the scope,
 * so that it has reached them all, too, and remembered. Once the scope is cancelled there is nothing that another
 * could do, so it stays where it would stay in any wait that takes its time: in the fiber's deferred, for the next
 * wait. */
#include <weft/group.h>
#include <weft/log.h>

#include "lib/task.h"
#include "lib/waits.h"
#include "runtime/fiber/fiber.h"

weft_logger weft__logger_fiber = WEFT_LOGGER("weft.fiber");

struct weft_group {
    struct weft__scope_keeper keeper; /* first */
    uint32_t references;              /* the fiber that opened it, until it has left it, and others */
    bool interrupted;                 /* a cancel from outside has come to the fiber that leaves it */
    bool over;                        /* nothing will be spawned into it any more, and nothing is left in it */
    weft_scope *scope;                /* borrowed; NULL once it was left */
    size_t count;                     /* of its fibers */
    weft_error *failure;              /* the first, a reference */
    weft_error *outside;              /* the cancel that did not begin here, a reference */
    weft_deferred *ended;             /* while the fiber that leaves it waits: fired when `count` is 0 */
    const weft_place *place;          /* where it was entered */
};

/* ---- life -------------------------------------------------------------------------------------------------------- */

weft_group *weft_group_ref(weft_group *group)
{
    group->references++;
    return group;
}

weft_group *weft_group_unref(weft_group *group)
{
    if (group && !--group->references) {
        weft_error_unref(group->failure);
        weft_error_unref(group->outside);
        weft_free(group);
    }
    return NULL;
}

/* ---- what ends it ------------------------------------------------------------------------------------------------ */

/* Whose cancel holds in it, its own or that of a scope further out; NULL. */
static const weft_scope *cancelled_by(const weft_group *group)
{
    return weft__scope_in_force(group->scope);
}

/* A failure that is not what the group comes to. */
static void log_other(const weft_group *group, const weft_error *error)
{
    char text[1024];

    if (!weft_logger_enabled(&WEFT_LOG_LOGGER, WEFT_LOG_DEBUG))
        return;
    weft_error_print(error, text, sizeof text);
    weft_log_debug("a failure in the group entered at %s:%d %s, other than the one that it brings: %s", group->place->file,
                   group->place->line, group->place->function, text);
}

/* A fiber of the group has failed, or the one that opened it. */
static void fail(weft_group *group, weft_error *error)
{
    if (group->failure) {
        if (!weft_error_same(error, group->failure))
            log_other(group, error);
        return;
    }
    group->failure = weft_error_ref(error);
    weft_scope_cancel(group->scope, weft_error_caused_by(
        weft_error_new_at(&WEFT_SIBLING_FAILED, group->place, "another fiber of the group has failed"),
        weft_error_ref(error)));
}

static void remember_outside(weft_group *group, weft_error *cancellation)
{
    if (!group->outside)
        group->outside = weft_error_ref(cancellation);
}

static bool is_from_further_out(const weft_group *group, const weft_error *error)
{
    const weft_scope *by = cancelled_by(group);

    return by && by != group->scope && weft_error_same(error, by->cancellation);
}

/* ---- the end of a fiber ------------------------------------------------------------------------------------------ */

static void let_leave(weft_group *group)
{
    bool cancelled = group->interrupted && !group->failure; /* so that it counts as one that came out of this wait */

    group->over = true;
    weft_deferred_callback(group->ended, cancelled ? weft_fail(weft_error_ref(group->outside)) : weft_ok(NULL));
}

static void fiber_ended(weft_group *group, weft_error *error)
{
    if (error && !weft_error_is(error, &WEFT_CANCELLED))
        fail(group, error);
    else if (error && is_from_further_out(group, error))
        remember_outside(group, error);
    if (!--group->count && group->ended)
        let_leave(group);
}

/* The entry in the deferred of one whose result nobody wants. */
static weft_result ended(weft_result result, void *arg)
{
    fiber_ended(arg, weft_failed(result));
    weft_result_drop(result);
    return weft_ok(NULL);
}

struct wanted {
    weft_group *group;
    weft_deferred *deferred; /* borrowed: this is the argument of an entry in it */
};

static weft_result wanted_ended(weft_result result, void *arg)
{
    struct wanted wanted = *(struct wanted *)arg;

    weft_free(arg);
    fiber_ended(wanted.group, weft_failed(result));
    if (weft_failed(result))
        wanted.deferred->flags |= WEFT__REPORTED;
    return result;
}

/* ---- spawning ---------------------------------------------------------------------------------------------------- */

static bool is_in(const weft_group *group, const struct weft__task *task)
{
    const weft_scope *scope = task ? task->scope : NULL;

    while (scope && scope != group->scope)
        scope = scope->parent;
    return scope != NULL;
}

static weft_error *why_not(const weft_group *group, const weft_place *place)
{
    weft_error *cancellation = NULL;

    if (!group)
        return weft_error_new_at(&WEFT_MISUSE, place, "a fiber is spawned into no group");
    if (!weft_group_is_ending(group))
        return NULL;
    if (!group->over) {
        cancellation = weft_error_ref(cancelled_by(group)->cancellation);
        if (is_in(group, weft__thread.task))
            return weft_error_passed(cancellation, place);
    }
    return weft_error_caused_by(weft_error_new_at(&WEFT_GROUP_ENDED, place, "the group entered at %s:%d %s is ending",
                                                  group->place->file, group->place->line, group->place->function),
                                cancellation);
}

static weft_error *spawn(weft_deferred **out, weft_group *group, weft_fiber_fn *fn, void *arg, const char *name,
                         const weft_place *place)
{
    weft_error *error = why_not(group, place);

    if (error)
        return error;
    group->count++; /* first: it runs before it is returned */
    if ((error = weft__spawn_in(out, group->scope, fn, arg, name, place)))
        group->count--;
    return error;
}

weft_error *weft_group_spawn_at(weft_group *group, weft_fiber_fn *fn, void *arg, const char *name, const weft_place *place)
{
    weft_deferred *fiber;
    weft_error *error = spawn(&fiber, group, fn, arg, name, place);

    if (error)
        return error;
    weft__deferred_attach(fiber, ended, group);
    weft_deferred_unref(fiber);
    return NULL;
}

weft_error *weft_group_spawn_deferred_at(weft_deferred **deferred, weft_group *group, weft_fiber_fn *fn, void *arg,
                                         const char *name, const weft_place *place)
{
    weft_error *error = spawn(deferred, group, fn, arg, name, place);
    struct wanted *wanted;

    if (error)
        return error;
    wanted = weft_alloc(sizeof *wanted);
    *wanted = (struct wanted){group, *deferred};
    weft__deferred_attach(*deferred, wanted_ended, wanted);
    return NULL;
}

/* ---- entering ---------------------------------------------------------------------------------------------------- */

static void forgotten(struct weft__scope_keeper *keeper);

weft_group *weft_group_enter_at(const weft_place *place)
{
    weft_group *group;

    if (!weft_in_fiber()) {
        weft_log_at(WEFT_LOG_ERROR, place, "misuse: a group is entered outside a fiber");
        return NULL;
    }
    group = weft_alloc(sizeof *group);
    *group = (weft_group){.keeper = {forgotten}, .references = 1, .place = place};
    group->scope = weft_scope_enter_at((weft_scope_options){0}, place);
    group->scope->keeper = &group->keeper;
    return group;
}

/* ---- leaving ----------------------------------------------------------------------------------------------------- */

/* Whether the running fiber may leave it. */
static bool may_leave(const weft_group *group)
{
    if (group->scope && group->scope->owner == weft__thread.task)
        return true;
    weft_log_error("misuse: the group entered at %s:%d %s is left by another than the fiber that entered it",
                   group->place->file, group->place->line, group->place->function);
    return false;
}

/* The canceller of the deferred for which the fiber that leaves waits. */
static weft_cancel_outcome pass_on(weft_deferred *deferred, void *arg)
{
    weft_group *group = arg;
    weft_error *cancellation = weft_deferred_get_cancellation(deferred);
    const weft_scope *by = cancelled_by(group);

    if (by == group->scope)
        return WEFT_CANCEL_LATER;
    group->interrupted = true;
    remember_outside(group, cancellation);
    if (!by)
        weft_scope_cancel(group->scope, weft_error_ref(cancellation));
    return WEFT_CANCEL_LATER;
}

static void name_fibers(void *arg, struct weft__waits *waits)
{
    const weft_group *group = arg;

    weft__waits_counted(waits, group->scope, group->count);
}

const struct weft__wait_kind weft__group_waits = {pass_on, name_fibers};

static void wait_until_ended(weft_group *group, const weft_place *place)
{
    weft_result result;

    group->ended = weft_deferred_new_at(pass_on, group, place);
    result = weft_await_at(weft_deferred_ref(group->ended), place);
    if (weft_failed(result)) {
        weft_error_unref(group->outside);
        group->outside = weft_failed(result);
    }
    group->ended = weft_deferred_unref(group->ended);
}

/* What has come to the fiber before, and could do nothing here, is for its next wait. */
static void wait_for_fibers(weft_group *group, const weft_place *place)
{
    struct weft__task *task = weft__thread.task;
    bool ending = weft_group_is_ending(group);

    if (ending)
        weft__task_shield(task);
    if (group->count)
        wait_until_ended(group, place);
    group->over = true;
    if (ending)
        weft__task_unshield(task);
}

/* The scope is an ordinary one from now on, to be left. */
static weft_scope *take_scope(weft_group *group)
{
    weft_scope *scope = group->scope;

    scope->keeper = NULL;
    group->scope = NULL;
    return scope;
}

/* What the group is left with: a failure cancels its fibers, and so does a cancel from outside that came to the one
 * that leaves. Returns what is left of the result, for the scope, which takes its own cancel out of it. */
static weft_result leave_with(weft_group *group, weft_result result)
{
    weft_error *error = weft_failed(result);

    if (!error || weft_error_same(error, group->scope->cancellation))
        return result;
    if (!weft_error_is(error, &WEFT_CANCELLED)) {
        fail(group, error);
        return result;
    }
    remember_outside(group, error);
    if (!cancelled_by(group))
        weft_scope_cancel(group->scope, weft_error_ref(error));
    weft_result_drop(result);
    return weft_ok(NULL);
}

/* `result` may be the first failure itself, with a longer trace. */
static weft_result outcome_of(const weft_group *group, weft_result result, const weft_place *place)
{
    weft_error *error = group->failure ? group->failure : group->outside;

    if (!error)
        return result;
    if (!weft_error_same(weft_failed(result), error)) {
        weft_result_drop(result);
        result = weft_fail(weft_error_ref(error));
    }
    return weft_result_passed(result, place);
}

weft_result weft_group_leave_at(weft_group **variable, weft_result result, const weft_place *place)
{
    weft_group *group = *variable;
    weft_scope *scope;

    if (!group || !may_leave(group))
        return result;
    *variable = NULL;
    weft__scope_leave_inside(group->scope);
    while (result.type == &weft_deferred_type)
        result = weft_await_at(result.value, place);
    result = leave_with(group, result);
    wait_for_fibers(group, place);
    scope = take_scope(group);
    result = outcome_of(group, weft_scope_leave(&scope, result), place);
    weft_group_unref(group);
    return result;
}

/* ---- leaving early ----------------------------------------------------------------------------------------------- */

/* A failure that nobody will be returned: that of which a wait has told, as the cause of its interruption, is known. */
static void tell_of_failure(const weft_group *group, bool known)
{
    if (!group->failure)
        return;
    if (known)
        log_other(group, group->failure);
    else
        weft_deferred_unref(weft_deferred_with_at(weft_fail(weft_error_ref(group->failure)), group->place));
}

static void leave_early(weft_group *group)
{
    const struct weft__task *task = weft__thread.task;
    bool known = task->cancelled_at && task->cancelled_by == group->scope;

    weft_scope_cancel(group->scope,
                      weft_error_new_at(&WEFT_CANCELLED, group->place, "the fiber that opened the group has left it early"));
    weft__scope_leave_inside(group->scope);
    wait_for_fibers(group, group->place);
    weft_scope_close(take_scope(group));
    tell_of_failure(group, known);
    weft_group_unref(group);
}

weft_group *weft_group_close(weft_group *group)
{
    if (group && may_leave(group))
        leave_early(group);
    return NULL;
}

/* The fiber ends, or leaves a scope around the group: it has its result by then, which the wait must not touch. */
static void forgotten(struct weft__scope_keeper *keeper)
{
    weft_group *group = (weft_group *)keeper;
    struct weft__task *task = weft__thread.task;
    weft_result result = task->result;

    weft_log_error("misuse: the group entered at %s:%d %s was not left by the fiber %s", group->place->file,
                   group->place->line, group->place->function, task->name);
    leave_early(group);
    task->result = result;
}

/* ---- a function with a group ------------------------------------------------------------------------------------- */

weft_result weft_with_group_at(weft_group_fn *body, void *arg, const weft_place *place)
{
    weft_group *group;

    if (!weft_in_fiber())
        return weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "a group is entered outside a fiber"));
    group = weft_group_enter_at(place);
    return weft_group_leave_at(&group, body(group, arg), place);
}

/* ---- cancelling and asking --------------------------------------------------------------------------------------- */

void weft_group_cancel_at(weft_group *group, weft_error *cancellation, const weft_place *place)
{
    if (weft_group_is_ending(group)) {
        weft_error_unref(cancellation);
        return;
    }
    if (!cancellation)
        cancellation = weft_error_new_at(&WEFT_CANCELLED, place, "the group was cancelled");
    weft_scope_cancel_at(group->scope, cancellation, place);
}

bool weft_group_is_ending(const weft_group *group)
{
    return group->over || cancelled_by(group);
}

size_t weft_group_count(const weft_group *group)
{
    return group->count;
}

/* ---- a bounded parallel map ----
 *
 * The map is the core's; what is added here are fibers to run it in. An item's failure is noted by the group first, and
 * then by the map, which knows its index: so the map's is what the group is left with. */

struct map {
    weft_group *group;
    size_t count;
    size_t limit;
    weft_map_fn *fn;
    void *arg;
    const char *name;
    const weft_place *place;
};

struct item {
    const struct map *map;
    size_t index;
};

static weft_result run_item(void *arg)
{
    struct item item = *(struct item *)arg; /* which goes after the first wait */

    return item.map->fn(item.index, item.map->arg);
}

static weft_result begin_item(size_t index, void *arg)
{
    const struct map *map = arg;
    struct item item = {map, index};
    weft_deferred *fiber;
    weft_error *error = weft_group_spawn_deferred_at(&fiber, map->group, run_item, &item, map->name, map->place);

    return error ? weft_fail(error) : weft_later(fiber);
}

static weft_result run_map(weft_group *group, void *arg)
{
    struct map *map = arg;

    map->group = group;
    return weft_await_at(weft_parallel_map_at(map->count, map->limit, begin_item, map, map->place), map->place);
}

weft_result weft_parallel_map_in_fibers_at(size_t count, size_t limit, weft_map_fn *fn, void *arg, const char *name,
                                           const weft_place *place)
{
    struct map map = {.count = count, .limit = limit, .fn = fn, .arg = arg, .name = name, .place = place};

    return weft_with_group_at(run_map, &map, place);
}

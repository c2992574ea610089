/* Shields: where cancels from outside wait, for how long, and who is told.
 *
 * A cancel of a scope further out stops at the first closed shield on its way in. A cancel of a fiber itself comes from
 * outside all of its scopes, so it stops at the outermost of its closed shields; until it is let through it stays in the
 * fiber's deferred. A shield begins to count with the first cancel that comes to it. After the soft time it lets one through
 * to its owner; after the hard time it is open: it counts as if it were not there, and a cancel of its owner that has come
 * to it comes out of each wait. What it lets through may come to the next shield further in, which begins to count then.
 *
 * The shield's one timer runs for whatever is next: the word in the log, the soft or the hard time. */
#include <stdio.h>

#include <weft/log.h>

#include "lib/cancellation.h"
#include "lib/clock.h"
#include "lib/scope.h"
#include "lib/task.h"

static int64_t limit = 1000 * 1000 * 1000; /* how long is long, for the log; INT64_MAX: nothing is */

void weft_shield_set_limit(double seconds)
{
    limit = seconds > 0 ? weft__nanoseconds(seconds) : INT64_MAX;
}

static weft_scope *around(const weft_scope *scope, const struct weft__task *task)
{
    return scope->parent && scope->parent->owner == task ? scope->parent : NULL;
}

/* The innermost of those that the task has entered and not left; NULL when there is none. */
static weft_scope *entered_last(const struct weft__task *task)
{
    return task->scope && task->scope->owner == task ? task->scope : NULL;
}

/* ---- what is logged ---- */

/* In the context of its owner: that is with it, unless it runs. */
static void log_held(const weft_scope *shield, int64_t nanoseconds)
{
    struct weft__task *task = shield->owner;
    const weft_place *place = shield->place, *at = task->place;
    bool runs = task->state == WEFT__TASK_RUNNING, waits = task->state == WEFT__TASK_PARKED;
    weft_context *previous = runs ? NULL : weft__context_swap(task->context);
    char cancellation[512], wait[512] = "";

    weft_error_print(shield->holding.first, cancellation, sizeof cancellation);
    if (waits)
        snprintf(wait, sizeof wait, ", which waits at %s:%d %s", at->file, at->line, at->function);
    weft_log_at(WEFT_LOG_WARN, place,
                "the shield entered at %s:%d %s has held a cancel back for %g s from the fiber %s%s: %s", place->file,
                place->line, place->function, (double)nanoseconds / 1e9, task->name, wait, cancellation);
    if (!runs)
        weft__context_swap(previous);
}

static void tell(weft_scope *shield, int64_t nanoseconds)
{
    shield->holding.told = true;
    weft__thread.cancellation.delayed++;
    if (shield->owner && weft_logger_enabled(&WEFT_LOG_LOGGER, WEFT_LOG_WARN))
        log_held(shield, nanoseconds);
}

/* ---- what comes through ---- */

/* The outermost of the task's own shields, below `outer` if that is not NULL, that lets nothing through. */
static weft_scope *next_to_hold(const struct weft__task *task, const weft_scope *outer)
{
    weft_scope *found = NULL;

    for (weft_scope *scope = entered_last(task); scope && scope != outer; scope = around(scope, task))
        if (weft__shield_is_closed(scope) && !scope->holding.lets_one)
            found = scope;
    return found;
}

static void hold(weft_scope *shield, weft_error *cancellation);

static void hold_own(weft_scope *shield, weft_error *cancellation)
{
    if (!shield->holding.own)
        shield->holding.own = weft_error_ref(cancellation);
    hold(shield, cancellation);
}

/* What `shield` lets through comes to the next one, or to the wait that the owner is in. */
static void come_through(weft_scope *shield)
{
    struct weft__task *task = shield->owner;
    weft_scope *next = next_to_hold(task, shield), *by = weft__scope_in_force(shield->parent);

    if (!next) {
        weft__task_look_again(task);
        return;
    }
    if (shield->holding.own)
        hold_own(next, shield->holding.own);
    if (by)
        hold(next, by->cancellation);
}

static void let_one_through(weft_scope *shield)
{
    shield->holding.softened = true;
    if (!shield->owner)
        return;
    shield->holding.lets_one = true;
    come_through(shield);
}

static void open_up(weft_scope *shield)
{
    weft_scope *by = weft__scope_in_force(shield->parent);

    shield->holding.open = true;
    if (shield->owner)
        weft__task_unshield(shield->owner);
    if (by)
        weft__scope_enforce(shield, by);
    if (shield->owner && shield->holding.own)
        come_through(shield);
}

/* ---- counting ---- */

struct times {
    int64_t tell;
    int64_t soft;
    int64_t hard;
};

/* Of what is still to come. */
static struct times times_of(const struct weft__holding *holding)
{
    return (struct times){
        .tell = holding->told ? INT64_MAX : weft__instant_after(holding->since, limit),
        .soft = holding->softened ? INT64_MAX : weft__instant_after(holding->since, holding->soft),
        .hard = holding->open ? INT64_MAX : weft__instant_after(holding->since, holding->hard),
    };
}

static void wait_for_next(weft_scope *shield);

static void time_has_come(weft_timer *timer, void *arg)
{
    weft_scope *shield = arg;
    struct times times = times_of(&shield->holding);
    int64_t due = timer->due;

    weft_scope_ref(shield);
    if (times.tell <= due)
        tell(shield, weft__recent() - shield->holding.since);
    if (times.hard <= due)
        open_up(shield);
    else if (times.soft <= due)
        let_one_through(shield);
    wait_for_next(shield);
    weft_scope_unref(shield);
}

static void wait_for_next(weft_scope *shield)
{
    struct times times = times_of(&shield->holding);
    int64_t next = times.hard < times.soft ? times.hard : times.soft;

    if (shield->holding.open)
        return;
    if (times.tell < next)
        next = times.tell;
    if (next == INT64_MAX || !weft__thread.clock)
        return;
    weft_timer_init(&shield->timer, time_has_come, shield);
    weft_timer_start_due(&shield->timer, weft__thread.clock, next);
}

static void hold(weft_scope *shield, weft_error *cancellation)
{
    if (shield->owner)
        shield->owner->holding = true;
    if (shield->holding.first)
        return;
    shield->holding.first = weft_error_ref(cancellation);
    shield->holding.since = weft__recent();
    weft__thread.cancellation.held_back++;
    wait_for_next(shield);
}

void weft__shield_hold(weft_scope *shield, weft_error *cancellation)
{
    hold(shield, cancellation);
}

void weft__shields_hold_own(struct weft__task *task)
{
    weft_scope *shield = next_to_hold(task, NULL);

    if (shield)
        hold_own(shield, weft_deferred_get_cancellation(task->deferred));
}

/* ---- entering and leaving ---- */

/* The cancel of the task itself that comes out of each wait in `scope`, one of its own, or NULL; NULL: none does. */
static weft_error *own_for_good(const weft_scope *scope, const struct weft__task *task)
{
    for (; scope; scope = around(scope, task)) {
        if (weft__shield_is_closed(scope) && !scope->holding.lets_one)
            return NULL;
        if (scope->holding.open && scope->holding.own)
            return scope->holding.own;
    }
    return NULL;
}

static int64_t budget(double seconds)
{
    int64_t nanoseconds = weft__nanoseconds(seconds);

    if (seconds == 0)
        return INT64_MAX;
    return nanoseconds > 0 ? nanoseconds : 0;
}

void weft__shield_entered(weft_scope *shield, const weft_shield_options *options)
{
    struct weft__task *task = shield->owner;
    weft_scope *by = weft__scope_in_force(shield->parent);
    weft_error *for_good = task->holding ? own_for_good(around(shield, task), task) : NULL;

    shield->holding.soft = budget(options->soft);
    shield->holding.hard = budget(options->hard);
    if ((options->soft != 0 || options->hard != 0) && !weft__thread.clock)
        weft_log_at(WEFT_LOG_ERROR, shield->place, "misuse: a shield with a budget needs a clock on its thread");
    weft__task_shield(task);
    if (task->deferred && weft_deferred_get_cancellation(task->deferred))
        weft__shields_hold_own(task);
    if (for_good)
        hold_own(shield, for_good);
    if (by)
        hold(shield, by->cancellation);
}

/* One that was only ever late for a word in the log, since the loop did not turn, gets that now. */
static void stop_holding(weft_scope *shield)
{
    weft_clock *clock = weft__thread.clock;
    int64_t held = clock ? weft_clock_now(clock) - shield->holding.since : 0;

    if (!shield->holding.told && !shield->holding.open && held > limit)
        tell(shield, held);
}

/* The cancel that it has held back comes out of the next wait now, if it has not come out before. The timer runs on for
 * those of others who are still inside. */
void weft__shield_left(weft_scope *shield)
{
    struct weft__task *task = shield->owner;

    if (!shield->holding.open)
        weft__task_unshield(task);
    if (!shield->holding.first)
        return;
    stop_holding(shield);
    task->holding = false;
    for (const weft_scope *scope = around(shield, task); scope && !task->holding; scope = around(scope, task))
        task->holding = scope->holding.first;
}

void weft__shield_forget(weft_scope *shield)
{
    weft_error_unref(shield->holding.first);
    weft_error_unref(shield->holding.own);
}

/* ---- what may come out of a wait ---- */

bool weft__shields_let_own(const struct weft__task *task)
{
    uint32_t letting = 0;

    for (const weft_scope *scope = entered_last(task); scope; scope = around(scope, task))
        letting += weft__shield_is_closed(scope) && scope->holding.lets_one;
    return letting == task->shields;
}

weft_scope *weft__shields_let_scope(const struct weft__task *task)
{
    for (const weft_scope *scope = entered_last(task); scope; scope = around(scope, task)) {
        weft_scope *by;

        if (!weft__shield_is_closed(scope))
            continue;
        if (!scope->holding.lets_one)
            return NULL;
        if ((by = weft__scope_in_force(scope->parent)))
            return by;
    }
    return NULL;
}

weft_error *weft__shields_own_for_good(const struct weft__task *task)
{
    return own_for_good(entered_last(task), task);
}

void weft__shields_used(struct weft__task *task, const weft_scope *by)
{
    for (weft_scope *scope = entered_last(task); scope && scope != by; scope = around(scope, task))
        scope->holding.lets_one = false;
}

/* Programs made at random: trees of fibers, groups, scopes, shields, locks, queues, gathers, and cancels of any of them at
 * any moment. Each follows from its seed alone. They cannot deadlock, as nobody waits for a fiber while holding a lock; so
 * all must end, once time passes and queues are served, and these must hold, whatever was cancelled:
 *
 * - a cancel that comes out of a wait is that of a scope around it, or the fiber was asked through its deferred;
 * - one that finds a fiber asleep, unshielded, comes out of that very wait, and nobody sleeps past a deadline;
 * - when a group was left, none of its fibers runs; when a scope was left, the fiber is where it was before;
 * - what was put into a queue was got, or is in it still, or its put has failed;
 * - whoever was asked to stop has stopped, and nothing is left of anything. */
#include "lib/task.h"
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <time.h>

enum { THINGS = 8, ACTIONS = 40, DEPTH = 5, ROUNDS = 20000 };

static const weft_error_kind DISTURBED = {"disturbed", &WEFT_CANCELLED};

/* One that is asleep, or about to be. */
struct sleeper {
    struct sleeper *next;
    const struct weft__task *task;
    bool must_stop; /* a cancel has found it asleep */
};

/* One program. */
static struct {
    uint64_t seed, state;
    weft_reactor *reactor;
    weft_test_clock *time;
    int left; /* actions */
    weft_deferred *fibers[THINGS];
    weft_scope *scopes[THINGS];
    weft_group *groups[THINGS];
    weft_lock *lock;
    bool locked;
    weft_queue *queue;
    long put, got;
    struct sleeper *sleepers;
} p;

static unsigned roll(unsigned sides)
{
    p.state = p.state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(p.state >> 33) % sides;
}

static double a_while(void)
{
    return roll(8) * 0.5;
}

/* The seed goes before what is said. */
#define check(condition, format, ...) \
    cr_assert(condition, "seed %llu: " format, (unsigned long long)p.seed, ##__VA_ARGS__)

/* ---- disturbing ---- */

/* A cancel of `d` is about to come to it. */
static void expect_stop(const weft_deferred *d)
{
    const struct weft__task *task = weft__task_of(d);
    struct sleeper *sleeper = p.sleepers;

    while (sleeper && sleeper->task != task)
        sleeper = sleeper->next;
    if (sleeper && task->state == WEFT__TASK_PARKED && !task->shields && !weft_deferred_get_cancellation(task->awaited))
        sleeper->must_stop = true;
}

static void cancel_a_fiber(void)
{
    weft_deferred *d = p.fibers[roll(THINGS)];

    if (!d)
        return;
    expect_stop(d);
    weft_deferred_cancel_with(d, weft_error_new(&DISTURBED, "somebody wanted it to stop"));
}

/* Up to a shield that keeps what comes from outside out. */
static bool is_reached(const struct weft__task *task, const weft_scope *by)
{
    const weft_scope *scope = task->scope;

    while (scope && scope != by)
        scope = weft__shield_is_closed(scope) ? NULL : scope->parent;
    return scope;
}

static void expect_stop_inside(const weft_scope *scope)
{
    for (struct sleeper *sleeper = p.sleepers; sleeper; sleeper = sleeper->next)
        if (sleeper->task->state == WEFT__TASK_PARKED && is_reached(sleeper->task, scope))
            sleeper->must_stop = true;
}

static void cancel_a_scope(void)
{
    weft_scope *scope = p.scopes[roll(THINGS)];

    if (!scope)
        return;
    expect_stop_inside(scope);
    weft_scope_cancel(scope, NULL);
}

static void cancel_a_group(void)
{
    weft_group *group = p.groups[roll(THINGS)];

    if (group)
        weft_group_cancel(group, NULL);
}

static weft_result run_fiber(void *depth);

static void spawn_into_a_group(void)
{
    weft_group *group = p.groups[roll(THINGS)];

    if (group && p.left > 0)
        weft_error_unref(weft_group_spawn(group, run_fiber, (void *)(intptr_t)(DEPTH - 1)));
}

static void look(void)
{
    char text[600];

    weft_fiber_dump(text, roll(sizeof text));
    check(weft_fiber_dump_deadlocks(text, sizeof text) == 0, "%s", text);
}

static void disturb(void)
{
    static void (*const ways[])(void) = {cancel_a_fiber, cancel_a_fiber, cancel_a_scope, cancel_a_group,
                                         spawn_into_a_group, look};

    if (p.left-- > 0)
        ways[roll(sizeof ways / sizeof *ways)]();
}

/* ---- what others may get at ---- */

static void keep_fiber(weft_deferred *d)
{
    weft_deferred **slot = &p.fibers[roll(THINGS)];
    weft_deferred *old = *slot;

    *slot = weft_deferred_ref(d);
    weft_deferred_unref(old);
}

static void keep_scope(weft_scope *scope)
{
    weft_scope **slot = &p.scopes[roll(THINGS)];

    weft_scope_unref(*slot);
    *slot = weft_scope_ref(scope);
}

static void keep_group(weft_group *group)
{
    weft_group **slot = &p.groups[roll(THINGS)];

    weft_group_unref(*slot);
    *slot = weft_group_ref(group);
}

/* ---- waits ---- */

static bool is_around(const weft_error *error)
{
    for (const weft_scope *scope = weft_scope_current(); scope; scope = scope->parent)
        if (weft_error_same(error, scope->cancellation))
            return true;
    return false;
}

/* Of a wait for what nobody else cancels. */
static weft_result checked(weft_result result)
{
    const weft_error *error = weft_failed(result);

    check(!error || weft_error_is(error, &WEFT_CANCELLED), "%s", weft_error_get_message(error));
    check(!error || is_around(error) || weft__thread.task->asked, "a cancel of others came out");
    return result;
}

static weft_result sleep_a_while(void)
{
    struct sleeper self = {p.sleepers, weft__thread.task, false}, **link = &p.sleepers;
    double seconds = a_while();
    bool too_long = weft_clock_now(weft_clock_current()) + (int64_t)(seconds * 1e9) > weft_scope_deadline();
    weft_result result;

    p.sleepers = &self;
    result = checked(weft_sleep(seconds));
    while (*link != &self)
        link = &(*link)->next;
    *link = self.next;
    check(!(self.must_stop || too_long) || weft_failed(result), "a cancel is lost");
    return result;
}

static weft_result yield_once(void)
{
    return checked(weft_yield());
}

static weft_result use_the_lock(void)
{
    void *grant = WEFT_TRY(checked(weft_await(weft_lock_acquire(p.lock))));
    weft_result result;

    (void)grant;
    check(!p.locked, "two hold the lock");
    p.locked = true;
    result = roll(2) ? sleep_a_while() : yield_once();
    p.locked = false;
    weft_lock_release(p.lock);
    return result;
}

static weft_result put(void)
{
    weft_result result = checked(weft_await(weft_queue_put_wait(p.queue, weft_int(7))));

    p.put += !weft_failed(result);
    return result;
}

static weft_result get(void)
{
    weft_result result = checked(weft_await(weft_queue_get(p.queue)));

    p.got += !weft_failed(result);
    return weft_failed(result) ? result : weft_ok(NULL);
}

/* ---- what a fiber does ---- */

static weft_result act(int depth);

static weft_result act_some(int depth)
{
    for (unsigned i = 1 + roll(7); i--;) {
        weft_result result = act(depth);

        if (weft_failed(result) && roll(4)) /* some carry on */
            return result;
        weft_result_drop(result);
    }
    return roll(30) ? weft_ok(NULL) : broken();
}

static weft_result run_fiber(void *depth)
{
    return act_some((int)(intptr_t)depth);
}

static weft_result run_steps(weft_result sent, void *arg)
{
    intptr_t *left = arg;

    if (weft_failed(sent) || !(*left)--) {
        weft_free(left);
        return sent;
    }
    weft_result_drop(sent);
    if (!roll(4))
        (void)!weft_scope_enter((weft_scope_options){.timeout = 1}); /* and never leaves it */
    return weft_later(weft_defer_later(weft_clock_current(), a_while(), NULL, NULL));
}

static weft_deferred *begin_steps(void)
{
    intptr_t *left = weft_alloc(sizeof *left);

    *left = roll(4);
    return weft_drive(run_steps, left);
}

static weft_result disturb_in_passing(weft_result result, void *unused)
{
    (void)unused;
    disturb();
    return result;
}

static weft_cancel_outcome disturb_when_cancelled(weft_deferred *d, void *unused)
{
    (void)d, (void)unused;
    disturb();
    return roll(2) ? WEFT_CANCEL_DONE : WEFT_CANCEL_LATER;
}

static weft_result await_what_disturbs(void)
{
    weft_deferred *d = weft_deferred_new(disturb_when_cancelled, NULL);

    weft_deferred_add_timeout(d, weft_clock_current(), a_while());
    return weft_await(d);
}

static weft_deferred *begin_something(int depth)
{
    const weft_spawn_options options = {.stack_size = 200000, .own_floating_point = true};
    void *arg = (void *)(intptr_t)(depth + 1);
    weft_deferred *d;

    switch (roll(6)) {
    case 0: d = weft_spawn_soon(run_fiber, arg); break;
    case 1: d = weft_spawn_with(run_fiber, arg, options); break;
    case 2: d = begin_steps(); break;
    case 3: d = weft_defer_later(weft_clock_current(), a_while(), NULL, NULL); break;
    default: d = weft_spawn(run_fiber, arg);
    }
    if (roll(2))
        keep_fiber(d);
    if (!roll(4))
        weft_deferred_add_both(d, disturb_in_passing, NULL);
    return d;
}

static weft_result await_something(int depth)
{
    weft_deferred *d = begin_something(depth);

    if (!roll(4))
        weft_deferred_add_timeout(d, weft_clock_current(), a_while());
    if (!roll(5)) { /* runs on by itself */
        weft_deferred_unref(d);
        return weft_ok(NULL);
    }
    return weft_await(d);
}

static weft_result await_many(int depth)
{
    weft_deferred *members[3];
    unsigned way = roll(3);
    weft_result result;

    for (int i = 0; i < 3; i++)
        members[i] = begin_something(depth);
    result = weft_await(way == 0   ? weft_gather_results(members, 3, 0)
                        : way == 1 ? weft_race(members, 3)
                                   : weft_deferred_list(members, 3, WEFT_LIST_CONSUME_ERRORS));
    if (weft_failed(result))
        return result;
    weft_result_drop(result);
    return weft_ok(NULL);
}

static weft_result act_in_a_scope(int depth)
{
    weft_scope *before = weft_scope_current(), *scope;
    weft_result result;

    if (roll(3))
        scope = weft_scope_enter((weft_scope_options){.timeout = roll(2) ? a_while() : 0, .move_on = roll(2)});
    else
        scope = weft_shield_enter((weft_shield_options){.soft = a_while(), .hard = a_while()});
    keep_scope(scope);
    result = act_some(depth + 1);
    if (roll(8))
        result = weft_scope_leave(&scope, result);
    else
        weft_scope_close(scope);
    check(weft_scope_current() == before, "a scope was left for another");
    return result;
}

static weft_result act_in_a_group(int depth)
{
    weft_group *group = weft_group_enter();
    weft_group *kept = weft_group_ref(group);
    weft_result result;

    keep_group(group);
    for (unsigned i = roll(4); i--;)
        weft_error_unref(weft_group_spawn(group, run_fiber, (void *)(intptr_t)(depth + 1)));
    result = act_some(depth + 1);
    if (roll(8))
        result = weft_group_leave(&group, result);
    else
        weft_group_close(group);
    check(weft_group_count(kept) == 0, "a group was left with fibers in it");
    weft_group_unref(kept);
    return result;
}

static weft_result act(int depth)
{
    if (p.left-- <= 0 || depth >= DEPTH)
        return yield_once();
    switch (roll(14)) {
    case 0: return yield_once();
    case 1: return use_the_lock();
    case 2: return put();
    case 3: return get();
    case 4: case 5: return await_something(depth);
    case 6: return await_many(depth);
    case 7: case 8: return act_in_a_scope(depth);
    case 9: return act_in_a_group(depth);
    case 10: return await_what_disturbs();
    case 11: disturb(); return weft_ok(NULL);
    default: return sleep_a_while();
    }
}

/* ---- a program ---- */

static void settle(void)
{
    while (weft_run_ready())
        ;
}

static void drop_unhandled(const weft_unhandled *unhandled, void *unused)
{
    (void)unhandled, (void)unused;
}

static void begin(uint64_t seed)
{
    p.seed = p.state = seed;
    p.left = ACTIONS << roll(5);
    p.put = p.got = 0;
    cr_assert_null(weft_reactor_new(&p.reactor));
    p.time = weft_test_clock_new();
    weft_clock_set(weft_test_clock_get_clock(p.time));
    weft_deferred_set_unhandled_hook(drop_unhandled, NULL);
    p.lock = weft_lock_new();
    p.queue = weft_queue_new(2, WEFT_UNLIMITED);
    if (roll(2))
        weft_fiber_shuffle(seed);
}

/* Whoever waits for an item, or for room, would wait for ever. */
static void serve_queue(void)
{
    if (weft_queue_get_getters(p.queue)) {
        p.put++;
        cr_assert_null(weft_queue_put(p.queue, weft_int(7)));
    } else if (weft_queue_get_stored(p.queue)) {
        weft_deferred *d = weft_queue_get(p.queue);

        p.got++;
        weft_deferred_unref(d);
    }
}

static void run_to_the_end(void)
{
    char text[4000];
    int round = 0;

    for (settle(); weft_live_counts_get().fibers && round < ROUNDS; round++, settle()) {
        if (!roll(3))
            disturb();
        if (weft_test_clock_until_next(p.time) < 1e9)
            weft_test_clock_advance(p.time, weft_test_clock_until_next(p.time));
        else
            serve_queue();
    }
    weft_fiber_dump(text, sizeof text);
    check(round < ROUNDS, "does not end: %s", text);
}

static void forget_all(void)
{
    for (int i = 0; i < THINGS; i++) {
        p.fibers[i] = weft_deferred_unref(p.fibers[i]);
        p.scopes[i] = weft_scope_unref(p.scopes[i]);
        p.groups[i] = weft_group_unref(p.groups[i]);
    }
    p.lock = weft_lock_unref(p.lock);
    p.queue = weft_queue_free(p.queue);
}

static void end(void)
{
    weft_cancellation_stats stats = weft_cancellation_stats_get();
    weft_live_counts counts;

    check(stats.asked == stats.ended && stats.ended == stats.time_to_cancel.count, "asked %llu, stopped %llu",
          (unsigned long long)stats.asked, (unsigned long long)stats.ended);
    check(p.put == p.got + (long)weft_queue_get_stored(p.queue), "put %ld, got %ld, there are %zu", p.put, p.got,
          weft_queue_get_stored(p.queue));
    forget_all();
    weft_test_clock_advance(p.time, 1000);
    settle();
    p.time = weft_test_clock_free(p.time);
    p.reactor = weft_reactor_free(p.reactor);
    counts = weft_live_counts_get();
    check(!counts.fibers && !counts.scopes && !counts.deferreds && !counts.errors && !counts.timers,
          "leaves %zu fibers, %zu scopes, %zu deferreds, %zu errors, %zu timers",
          counts.fibers, counts.scopes, counts.deferreds, counts.errors, counts.timers);
}

static void run_program(uint64_t seed)
{
    begin(seed);
    for (unsigned i = 1 + roll(8); i--;)
        weft_deferred_unref(begin_something(0));
    run_to_the_end();
    end();
}

Test(fiber_stress, programs_made_at_random_end_and_lose_nothing, .timeout = 120)
{
    weft_log_set_level("", WEFT_LOG_OFF);
    for (uint64_t seed = 1; seed <= 400; seed++)
        run_program(seed);
}

Test(slow_fiber_stress, programs_made_at_random_end_and_lose_nothing, .timeout = 600)
{
    time_t until = time(NULL) + 60;

    weft_log_set_level("", WEFT_LOG_OFF);
    for (uint64_t seed = (uint64_t)time(NULL) << 20; time(NULL) < until; seed++)
        run_program(seed);
}

/* What is said of all fibers, and who waits for whom in a circle. */
#include "tests/support/test.h"
#include "tests/support/fibers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char *said(size_t (*dump)(char *, size_t))
{
    static char text[65536];

    cr_assert_lt(dump(text, sizeof text), sizeof text);
    return text;
}

static bool dump_has(const char *part)
{
    return strstr(said(weft_fiber_dump), part) != NULL;
}

#define expect_in_dump(part) cr_assert(dump_has(part), "\"%s\" is not in:\n%s", part, said(weft_fiber_dump))
#define expect_deadlocks(text)                                                                                      \
    cr_assert_str_eq(said(weft_fiber_dump_deadlocks), text, "not \"%s\" but:\n%s", text, said(weft_fiber_dump_deadlocks))

/* Places with names of their own, so that texts do not change with each line of this file. */
static const weft_place at_main = {"main.c", "main", 1}, at_a = {"a.c", "a", 1}, at_b = {"b.c", "b", 2},
                        at_c = {"c.c", "c", 3}, at_db = {"db.c", "query", 7}, at_end = {"end.c", "end", 9};

static weft_deferred *spawn(weft_fiber_fn *fn, void *arg, const char *name)
{
    return weft_spawn_at(fn, arg, name, &at_main);
}

/* Cancels the fiber of `d` and lets it end. */
static void cancel_and_end(weft_deferred *d)
{
    weft_deferred_cancel(d);
    settle();
    weft_deferred_unref(d);
}

/* ---- what is said of a fiber ---- */

static weft_result await_borrowed(void *deferred)
{
    return weft_await_at(weft_deferred_ref(deferred), &at_a);
}

Test(fiber_dump, names_no_fiber_where_there_is_none)
{
    cr_assert_str_eq(said(weft_fiber_dump), "0 fibers\n");
    cr_assert_str_eq(said(weft_fiber_dump_deadlocks), "");
}

Test(fiber_dump, tells_name_state_place_origin_and_what_is_waited_for)
{
    weft_deferred *awaited, *fiber;

    begin();
    awaited = weft_deferred_new_at(NULL, NULL, &at_db);
    fiber = spawn(await_borrowed, awaited, "reader");
    expect_in_dump("1 fiber\n1 reader: waiting for ");
    expect_in_dump(" s, at a.c:1 a\n    started at main.c:1 main\n    stack of 112 KiB, ");
    expect_in_dump("\n    waits for the deferred made at db.c:7 query: pending, 1 callback waiting, handed over\n");
    weft_deferred_callback(awaited, weft_ok(NULL));
    expect_in_dump("1 reader: ready, at a.c:1 a\n");
    settle();
    expect_in_dump("0 fibers\n");
    weft_deferred_unref(awaited);
    weft_deferred_unref(fiber);
    end();
}

static weft_result dump_itself(void *unused)
{
    (void)unused;
    expect_in_dump("1 self: running, at main.c:1 main\n    started at main.c:1 main, in the context GET-1\n");
    return weft_ok(NULL);
}

Test(fiber_dump, lists_the_fiber_that_asks_with_its_context)
{
    weft_context *previous;

    begin();
    previous = enter("GET-1");
    weft_deferred_unref(spawn(dump_itself, NULL, "self"));
    leave(previous);
    end();
}

static weft_result yield(void *unused)
{
    (void)unused;
    return weft_yield_at(&at_b);
}

static weft_result sleep_long(void *unused)
{
    (void)unused;
    return weft_sleep_at(1000, &at_c);
}

Test(fiber_dump, lists_those_that_sleep_yield_and_have_not_begun_oldest_first)
{
    weft_deferred *fibers[3];
    const char *text;

    begin();
    fibers[0] = spawn(sleep_long, NULL, "sleeper");
    fibers[1] = spawn(yield, NULL, "polite");
    fibers[2] = weft_spawn_soon_at(yield, NULL, "late", &at_main);
    text = said(weft_fiber_dump);
    cr_assert_eq(strncmp(text, "3 fibers\n1 sleeper: sleeping for ", 33), 0, "%s", text);
    cr_assert_lt(strstr(text, "\n1 sleeper: "), strstr(text, "\n2 polite: yielding, at b.c:2 b\n"));
    cr_assert_lt(strstr(text, "\n2 polite: "), strstr(text, "\n3 late: not begun, at main.c:1 main\n"));
    settle();
    cancel_and_end(fibers[0]);
    for (int i = 1; i < 3; i++)
        weft_deferred_unref(fibers[i]);
    end();
}

static weft_result give_up(void *unused)
{
    (void)unused;
    return weft_ok(NULL);
}

Test(fiber_dump, never_gives_a_number_twice)
{
    weft_deferred *fiber;

    begin();
    weft_deferred_unref(spawn(give_up, NULL, "short"));
    fiber = spawn(sleep_long, NULL, "long");
    expect_in_dump("1 fiber\n2 long: sleeping");
    cancel_and_end(fiber);
    end();
}

/* Somebody who is stepped, and knows no fiber. */
static weft_result step(weft_result sent, void *deferred)
{
    return deferred && !weft_failed(sent) ? weft_later(weft_deferred_ref(deferred)) : sent;
}

Test(fiber_dump, lists_driven_computations_by_the_test_clock_and_without_a_stack)
{
    weft_test_clock *time = weft_test_clock_new();
    weft_clock *clock = weft_test_clock_get_clock(time);
    weft_deferred *awaited = weft_deferred_new_at(NULL, NULL, &at_db);
    weft_clock *previous = weft_clock_set(clock);
    weft_deferred *driven;

    driven = weft_drive_at(step, awaited, "stepper\n", &at_main);
    weft_test_clock_advance(time, 12.5);
    cr_assert_str_eq(said(weft_fiber_dump),
                     "1 fiber\n1 stepper\\x0a: waiting for 12.500000 s, at main.c:1 main\n    started at main.c:1 main\n"
                     "    waits for the deferred made at db.c:7 query: pending, 1 callback waiting, handed over\n");
    weft_deferred_cancel(driven);
    weft_run_ready();
    weft_deferred_unref(driven);
    weft_deferred_unref(awaited);
    weft_clock_set(previous);
    weft_test_clock_free(time);
}

Test(fiber_dump, follows_the_wait_down_to_the_innermost_deferred_and_to_another_fiber)
{
    weft_deferred *inner, *middle, *outer, *first, *second;

    begin();
    inner = weft_deferred_new_at(NULL, NULL, &at_db);
    middle = weft_deferred_new_at(NULL, NULL, &at_b);
    outer = weft_deferred_new_at(NULL, NULL, &at_c);
    weft_deferred_forward_at(weft_deferred_ref(inner), middle, &at_main);
    weft_deferred_forward_at(weft_deferred_ref(middle), outer, &at_main);
    first = spawn(await_borrowed, outer, "first");
    second = spawn(await_borrowed, first, "second");
    expect_in_dump("    waits for the deferred made at c.c:3 c: waiting, fired at main.c:1 main, 1 callback waiting, "
                   "handed over\n"
                   "    waits for the one made at b.c:2 b: waiting, fired at main.c:1 main, "
                   "taken over by the one made at c.c:3 c\n"
                   "    waits for the one made at db.c:7 query: pending, taken over by the one made at b.c:2 b\n2 second");
    expect_in_dump("    waits for the deferred made at main.c:1 main: pending, 1 callback waiting, handed over\n"
                   "    which is the end of 1 first, at a.c:1 a\n");
    expect_deadlocks("");
    weft_deferred_callback(inner, weft_ok(NULL));
    settle();
    weft_deferred_unref(inner);
    weft_deferred_unref(middle);
    weft_deferred_unref(outer);
    weft_deferred_unref(first);
    weft_deferred_unref(second);
    end();
}

static weft_result sleep_twice(void *unused)
{
    weft_result_drop(sleep_long(unused));
    return sleep_long(unused);
}

static weft_result sleep_shielded(void *unused)
{
    weft_scope *outer = weft_scope_enter_at((weft_scope_options){.timeout = 1e6}, &at_b);
    weft_scope *shield = weft_shield_enter_at((weft_shield_options){.soft = 0}, &at_c);
    weft_result result = weft_sleep_at(0.01, &at_a);

    (void)unused;
    result = weft_scope_leave(&shield, result);
    return weft_scope_leave(&outer, result);
}

Test(fiber_dump, tells_who_cancelled_a_fiber_and_where_the_cancel_came_out)
{
    weft_deferred *fiber;

    begin();
    fiber = spawn(sleep_twice, NULL, "stubborn");
    weft_deferred_cancel_at(fiber, &at_end);
    settle();
    expect_in_dump("    a cancel came out of its wait at c.c:3 c\n");
    cancel_and_end(fiber);
    end();
}

Test(fiber_dump, tells_scopes_with_their_deadlines_and_a_cancel_that_a_shield_keeps_out)
{
    weft_deferred *fiber;

    begin();
    fiber = spawn(sleep_shielded, NULL, "tidy");
    expect_in_dump("    in the shield entered at c.c:3 c\n    in the scope entered at b.c:2 b, 9999");
    expect_in_dump(" s before its deadline\n");
    weft_deferred_cancel_at(fiber, &at_end);
    expect_in_dump("    asked to stop at its next wait outside its shield by cancelled: the caller cancelled it "
                   "(end.c:9 end)\n");
    weft_result_drop(run_until(fiber));
    end();
}

static weft_result sleep_short(void *unused)
{
    (void)unused;
    return weft_sleep(0.01);
}

static weft_result note_scope(void *scope)
{
    weft_scope *entered = weft_scope_enter_at((weft_scope_options){.move_on = true}, &at_b);
    weft_result result;

    *(weft_scope **)scope = weft_scope_ref(entered);
    result = weft_shield_at(sleep_short, NULL, &at_c);
    return weft_scope_leave(&entered, result);
}

Test(fiber_dump, tells_why_a_scope_was_cancelled)
{
    weft_deferred *fiber;
    weft_scope *scope;

    begin();
    fiber = spawn(note_scope, &scope, "scoped");
    weft_scope_cancel_at(scope, weft_error_new_at(&WEFT_CANCELLED, &at_end, "enough\n"), &at_end);
    expect_in_dump("    in the scope entered at b.c:2 b, cancelled by cancelled: enough\\x0a (end.c:9 end)\n");
    weft_scope_unref(scope);
    weft_result_drop(run_until(fiber));
    end();
}

Test(fiber_dump, writes_no_more_than_there_is_room_for_and_says_how_long_it_is)
{
    char text[20];
    weft_deferred *fiber;
    size_t length;

    begin();
    fiber = spawn(sleep_long, NULL, "long");
    memset(text, 'x', sizeof text);
    length = weft_fiber_dump(text, 10);
    cr_assert_str_eq(text, "1 fiber\n1");
    cr_assert_eq(text[10], 'x');
    cr_assert_eq(length, weft_fiber_dump(NULL, 0));
    cr_assert_eq(length, strlen(said(weft_fiber_dump)));
    cancel_and_end(fiber);
    end();
}

static weft_result dump_in_callback(weft_result result, void *unused)
{
    weft_context *previous = enter("callback");

    (void)unused;
    expect_in_dump("1 firer: running, at main.c:1 main\n    started at main.c:1 main\n");
    leave(previous);
    return result;
}

static weft_result fire(void *deferred)
{
    weft_deferred_callback(deferred, weft_ok(NULL));
    return weft_ok(NULL);
}

Test(fiber_dump, may_be_asked_from_a_callback_that_a_fiber_fires)
{
    weft_context *previous;
    weft_deferred *d;

    begin();
    d = pending();
    weft_deferred_add_both(d, dump_in_callback, NULL);
    previous = enter("fiber");
    weft_deferred_unref(spawn(fire, d, "firer"));
    leave(previous);
    weft_deferred_unref(d);
    end();
}

/* ---- deadlocks ---- */

/* A fiber that takes one lock, and then waits for what `then` makes. */
struct holder {
    weft_lock *lock;
    weft_deferred *(*then)(const struct holder *holder);
    weft_lock *next;
    weft_deferred *other; /* borrowed */
    weft_lock *third;
};

static weft_result hold(void *arg)
{
    const struct holder *holder = arg;
    weft_auto(weft_lock_release) weft_lock *held = WEFT_TRY(weft_await(weft_lock_acquire(holder->lock)));

    WEFT_TRY(weft_yield());
    return weft_await_at(holder->then(holder), &at_b);
}

static weft_deferred *next_lock(const struct holder *holder)
{
    return weft_lock_acquire(holder->next);
}

static weft_deferred *other(const struct holder *holder)
{
    return weft_deferred_ref(holder->other);
}

static weft_deferred *both(const struct holder *holder)
{
    weft_deferred *members[] = {holder->other ? weft_deferred_ref(holder->other) : weft_lock_acquire(holder->third),
                                weft_lock_acquire(holder->next)};

    return weft_gather_results(members, 2, 0);
}

static weft_deferred *either(const struct holder *holder)
{
    weft_deferred *members[] = {weft_deferred_ref(holder->other), weft_lock_acquire(holder->next)};

    return weft_race(members, 2);
}

enum { MOST = 4 };

static const char *const names[] = {"ann", "ben", "cat", "dan"};
static weft_lock *locks[MOST];
static weft_deferred *fibers[MOST];

static void begin_with_locks(void)
{
    begin();
    for (int i = 0; i < MOST; i++)
        locks[i] = weft_lock_new();
}

static void start(struct holder *holders, int count)
{
    for (int i = 0; i < count; i++)
        fibers[i] = spawn(hold, &holders[i], names[i]);
    settle();
}

static void end_with_locks(void)
{
    for (int i = 0; i < MOST; i++) {
        if (fibers[i])
            weft_deferred_cancel(fibers[i]);
    }
    settle();
    for (int i = 0; i < MOST; i++) {
        weft_deferred_unref(fibers[i]);
        weft_lock_unref(locks[i]);
    }
    end();
}

Test(fiber_deadlocks, of_two_fibers_and_two_locks_are_found_and_end_with_a_cancel)
{
    struct holder holders[2];

    begin_with_locks();
    holders[0] = (struct holder){locks[0], next_lock, locks[1], NULL, NULL};
    holders[1] = (struct holder){locks[1], next_lock, locks[0], NULL, NULL};
    start(holders, 2);
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 2 ben (b.c:2 b) waits for 1 ann\n");
    expect_in_dump("2 fibers\ndeadlock: 1 ann (b.c:2 b) waits for 2 ben (b.c:2 b) waits for 1 ann\n1 ann: waiting");
    expect_in_dump("    in line for a lock held by 2 ben\n");
    weft_deferred_cancel(fibers[0]);
    settle();
    expect_deadlocks("");
    end_with_locks();
}

Test(fiber_deadlocks, of_three_fibers_in_a_ring_through_gathers_and_locks_are_found)
{
    struct holder holders[3];

    begin_with_locks();
    holders[0] = (struct holder){locks[0], both, locks[1], NULL, locks[3]};
    holders[1] = (struct holder){locks[1], next_lock, locks[2], NULL, NULL};
    holders[2] = (struct holder){locks[2], both, locks[0], NULL, locks[3]};
    start(holders, 3);
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 2 ben (b.c:2 b) waits for 3 cat (b.c:2 b) waits for 1 ann\n");
    expect_in_dump("    for 1 member:\n      waits for the deferred made at ");
    expect_in_dump("\n      in line for a lock held by 2 ben\n");
    end_with_locks();
}

Test(fiber_deadlocks, of_a_fiber_that_waits_for_one_that_waits_for_its_lock_are_found)
{
    struct holder holders[2];

    begin_with_locks();
    holders[1] = (struct holder){locks[1], next_lock, locks[0], NULL, NULL};
    holders[0] = (struct holder){locks[0], other, NULL, NULL, NULL};
    fibers[0] = spawn(hold, &holders[0], "ann");
    holders[0].other = fibers[1] = spawn(hold, &holders[1], "ben");
    settle();
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 2 ben (b.c:2 b) waits for 1 ann\n");
    end_with_locks();
}

Test(fiber_deadlocks, of_a_fiber_that_takes_its_lock_twice_are_found)
{
    struct holder holders[1];

    begin_with_locks();
    holders[0] = (struct holder){locks[0], next_lock, locks[0], NULL, NULL};
    start(holders, 1);
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 1 ann\n");
    end_with_locks();
}

Test(fiber_deadlocks, are_told_once_though_a_fiber_closes_the_circle_in_two_ways)
{
    struct holder holders[1];

    begin_with_locks();
    holders[0] = (struct holder){locks[0], both, locks[0], NULL, locks[0]};
    start(holders, 1);
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 1 ann\n");
    end_with_locks();
}

Test(fiber_deadlocks, that_are_apart_are_told_apart)
{
    struct holder holders[4];

    begin_with_locks();
    for (int i = 0; i < 4; i++)
        holders[i] = (struct holder){locks[i], next_lock, locks[i ^ 1], NULL, NULL};
    start(holders, 4);
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 2 ben (b.c:2 b) waits for 1 ann\n"
                     "deadlock: 3 cat (b.c:2 b) waits for 4 dan (b.c:2 b) waits for 3 cat\n");
    end_with_locks();
}

Test(fiber_deadlocks, do_not_have_those_in_them_that_only_wait_for_them)
{
    struct holder holders[2];

    begin_with_locks();
    holders[0] = (struct holder){locks[0], next_lock, locks[0], NULL, NULL};
    holders[1] = (struct holder){locks[1], next_lock, locks[0], NULL, NULL};
    start(holders, 2);
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 1 ann\n");
    end_with_locks();
}

/* A lock that is free for a while is taken by the first in line without its asking again. */
Test(fiber_deadlocks, know_who_got_a_lock_by_standing_in_line)
{
    struct holder holders[2];
    weft_deferred *turn;
    weft_result grant;

    begin_with_locks();
    turn = weft_lock_acquire(locks[1]);
    grant = weft_deferred_take_result(turn);
    holders[0] = (struct holder){locks[0], next_lock, locks[1], NULL, NULL};
    holders[1] = (struct holder){locks[1], next_lock, locks[0], NULL, NULL};
    fibers[1] = spawn(hold, &holders[1], "ben");
    fibers[0] = spawn(hold, &holders[0], "ann");
    settle();
    expect_deadlocks(""); /* who has the grant is no fiber */
    weft_result_drop(grant);
    settle();
    expect_deadlocks("deadlock: 1 ben (b.c:2 b) waits for 2 ann (b.c:2 b) waits for 1 ben\n");
    weft_deferred_unref(turn);
    end_with_locks();
}

static weft_result acquire_later(void *deferred)
{
    weft_deferred *turn = deferred;
    weft_auto(weft_lock_release) weft_lock *held = NULL;

    WEFT_TRY(weft_yield());
    held = WEFT_TRY(weft_await(turn));
    return weft_await_at(weft_lock_acquire(held), &at_b);
}

Test(fiber_deadlocks, know_who_awaited_a_turn_that_had_come_before)
{
    weft_deferred *first, *second;

    begin_with_locks();
    first = weft_lock_acquire(locks[0]);
    second = weft_lock_acquire(locks[0]);
    weft_result_drop(weft_deferred_take_result(first));
    fibers[0] = spawn(acquire_later, second, "ann");
    settle();
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 1 ann\n");
    weft_deferred_unref(first);
    end_with_locks();
}

/* ---- what is no deadlock ---- */

Test(fiber_deadlocks, are_not_seen_where_one_of_two_is_enough_and_the_other_may_come)
{
    struct holder holders[2];
    weft_deferred *external;

    begin_with_locks();
    external = pending();
    holders[0] = (struct holder){locks[0], either, locks[1], external, NULL};
    holders[1] = (struct holder){locks[1], next_lock, locks[0], NULL, NULL};
    start(holders, 2);
    expect_deadlocks("");
    end_with_locks();
    weft_deferred_unref(external);
}

Test(fiber_deadlocks, are_seen_where_all_of_a_race_are_stuck)
{
    struct holder holders[2];

    begin_with_locks();
    holders[1] = (struct holder){locks[1], next_lock, locks[0], NULL, NULL};
    holders[0] = (struct holder){locks[0], either, locks[1], NULL, NULL};
    fibers[0] = spawn(hold, &holders[0], "ann");
    holders[0].other = fibers[1] = spawn(hold, &holders[1], "ben");
    settle();
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 2 ben (b.c:2 b) waits for 1 ann\n");
    expect_in_dump("    for the first of 2 members:\n");
    end_with_locks();
}

Test(fiber_deadlocks, are_seen_where_a_gather_waits_for_somebody_else_as_well)
{
    struct holder holders[1];
    weft_deferred *external;

    begin_with_locks();
    external = pending();
    holders[0] = (struct holder){locks[0], both, locks[0], external, NULL};
    start(holders, 1);
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 1 ann\n");
    end_with_locks();
    weft_deferred_unref(external);
}

struct racer {
    weft_deferred *external;
    weft_lock *lock;
};

static weft_result race_for_lock(void *arg)
{
    const struct racer *racer = arg;
    weft_deferred *members[] = {weft_deferred_ref(racer->external), weft_lock_acquire(racer->lock)};

    return weft_await(weft_race(members, 2));
}

/* ben waits for ann only if nothing else comes: of the two circles through ann one is none. */
Test(fiber_deadlocks, do_not_lead_through_somebody_who_may_go_on)
{
    struct holder holders[1];
    struct racer racer;

    begin_with_locks();
    racer = (struct racer){pending(), locks[0]};
    holders[0] = (struct holder){locks[0], both, locks[0], NULL, NULL};
    fibers[0] = spawn(hold, &holders[0], "ann");
    holders[0].other = fibers[1] = spawn(race_for_lock, &racer, "ben");
    settle();
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 1 ann\n");
    end_with_locks();
    weft_deferred_unref(racer.external);
}

static weft_result give_back(weft_result grant, void *unused)
{
    weft_lock_release(grant.value);
    (void)unused;
    return weft_ok(NULL);
}

struct mixed {
    weft_lock *lock;
    weft_deferred *work; /* borrowed */
};

static weft_result work_of(void *work)
{
    return weft_later(weft_deferred_ref(work));
}

/* Both members use the lock, one after the other, by callbacks: the fiber itself never has it. */
static weft_result use_twice(void *arg)
{
    const struct mixed *mixed = arg;
    weft_deferred *members[] = {weft_lock_run(mixed->lock, work_of, mixed->work), weft_lock_acquire(mixed->lock)};

    weft_deferred_add_callback(members[1], give_back, NULL);
    return weft_await(weft_gather_results(members, 2, 0));
}

Test(fiber_deadlocks, are_not_seen_where_callbacks_hold_the_lock)
{
    weft_deferred *work, *fiber;
    weft_lock *lock;

    begin();
    work = pending();
    lock = weft_lock_new();
    fiber = spawn(use_twice, &(struct mixed){lock, work}, "ann");
    expect_deadlocks("");
    expect_in_dump("      in line for a lock\n");
    weft_deferred_callback(work, weft_ok(NULL));
    settle();
    cr_assert_eq(weft_live_counts_get().fibers, 0);
    weft_deferred_unref(fiber);
    weft_deferred_unref(work);
    weft_lock_unref(lock);
    end();
}

static weft_result take_and_keep(void *lock)
{
    return weft_await(weft_lock_acquire(lock)); /* the result is the grant */
}

/* Its stack, and so its struct, is likely that of the one before. */
Test(fiber_deadlocks, do_not_take_a_fiber_for_one_that_has_ended)
{
    weft_deferred *first;
    struct holder holders[1];

    begin_with_locks();
    first = spawn(take_and_keep, locks[1], "first");
    holders[0] = (struct holder){locks[0], next_lock, locks[1], NULL, NULL};
    start(holders, 1);
    expect_deadlocks("");
    expect_in_dump("    in line for a lock\n");
    weft_deferred_unref(first);
    settle();
    end_with_locks();
}

static weft_result wait_for_event(void *event)
{
    return weft_await(weft_event_wait(event));
}

static weft_result get_from(void *queue)
{
    return weft_await(weft_queue_get(queue));
}

Test(fiber_deadlocks, are_not_seen_in_queues_events_and_sleep)
{
    weft_event *event;
    weft_queue *queue;

    begin_with_locks();
    event = weft_event_new();
    queue = weft_queue_new(1, 1);
    fibers[0] = spawn(wait_for_event, event, "ann");
    fibers[1] = spawn(get_from, queue, "ben");
    fibers[2] = spawn(sleep_long, NULL, "cat");
    settle();
    expect_deadlocks("");
    end_with_locks();
    weft_event_free(event);
    weft_queue_free(queue);
}

/* ---- other things that are held ---- */

static weft_result take_of_semaphore(void *semaphore)
{
    weft_auto(weft_semaphore_release) weft_semaphore *first = WEFT_TRY(weft_await(weft_semaphore_acquire(semaphore)));

    WEFT_TRY(weft_yield());
    return weft_await_at(weft_semaphore_acquire(semaphore), &at_b);
}

Test(fiber_deadlocks, of_a_semaphore_are_seen_only_when_all_its_tokens_are_held_by_those_in_them)
{
    weft_semaphore *semaphore;
    weft_deferred *turn;

    begin_with_locks();
    cr_assert_null(weft_semaphore_new(&semaphore, 2));
    turn = weft_semaphore_acquire(semaphore);
    fibers[0] = spawn(take_of_semaphore, semaphore, "ann");
    settle();
    expect_deadlocks("");
    expect_in_dump("    in line for a semaphore held by 1 ann, and by others\n");
    fibers[1] = spawn(take_of_semaphore, semaphore, "ben");
    settle();
    expect_deadlocks("");
    weft_deferred_unref(turn);
    settle();
    expect_deadlocks("");
    weft_semaphore_unref(semaphore);
    end_with_locks();
}

Test(fiber_deadlocks, of_two_who_want_the_other_half_of_a_semaphore_are_found)
{
    weft_semaphore *semaphore;

    begin_with_locks();
    cr_assert_null(weft_semaphore_new(&semaphore, 2));
    fibers[0] = spawn(take_of_semaphore, semaphore, "ann");
    fibers[1] = spawn(take_of_semaphore, semaphore, "ben");
    settle();
    cr_assert_not_null(strstr(said(weft_fiber_dump_deadlocks), "waits for 2 ben (b.c:2 b) waits for "), "%s",
                       said(weft_fiber_dump_deadlocks));
    weft_semaphore_unref(semaphore);
    end_with_locks();
}

static weft_result take_three(void *semaphore)
{
    weft_auto(weft_semaphore_release) weft_semaphore *first = WEFT_TRY(weft_await(weft_semaphore_acquire(semaphore)));
    weft_auto(weft_semaphore_release) weft_semaphore *second = WEFT_TRY(weft_await(weft_semaphore_acquire(semaphore)));

    return weft_await_at(weft_semaphore_acquire(semaphore), &at_b);
}

Test(fiber_deadlocks, name_a_fiber_once_that_holds_two_tokens)
{
    weft_semaphore *semaphore;

    begin_with_locks();
    cr_assert_null(weft_semaphore_new(&semaphore, 2));
    fibers[0] = spawn(take_three, semaphore, "ann");
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 1 ann\n");
    expect_in_dump("    in line for a semaphore held by 1 ann\n");
    weft_semaphore_unref(semaphore);
    end_with_locks();
}

static weft_result take_and_give_back_first(void *semaphore)
{
    weft_semaphore_release(WEFT_TRY(weft_await(weft_semaphore_acquire(semaphore))));
    return take_of_semaphore(semaphore);
}

Test(fiber_deadlocks, know_who_still_holds_when_another_has_given_back)
{
    weft_semaphore *semaphore;

    begin_with_locks();
    cr_assert_null(weft_semaphore_new(&semaphore, 2));
    fibers[0] = spawn(take_of_semaphore, semaphore, "ann");
    fibers[1] = spawn(take_and_give_back_first, semaphore, "ben");
    settle();
    cr_assert_not_null(strstr(said(weft_fiber_dump_deadlocks), "waits for 2 ben (b.c:2 b) waits for "), "%s",
                       said(weft_fiber_dump_deadlocks));
    weft_semaphore_unref(semaphore);
    end_with_locks();
}

static weft_result read_then_write(void *lock)
{
    weft_auto(weft_read_write_lock_release) weft_read_write_grant *read =
        WEFT_TRY(weft_await(weft_read_write_lock_read(lock, "room")));

    WEFT_TRY(weft_yield());
    return weft_await_at(weft_read_write_lock_write(lock, "room"), &at_b);
}

static weft_result read_and_sleep(void *lock)
{
    weft_auto(weft_read_write_lock_release) weft_read_write_grant *read =
        WEFT_TRY(weft_await(weft_read_write_lock_read(lock, "room")));

    return sleep_long(read);
}

Test(fiber_deadlocks, of_a_writer_that_reads_itself_are_found_though_another_reader_may_leave)
{
    weft_read_write_lock *lock;

    begin_with_locks();
    lock = weft_read_write_lock_new();
    fibers[1] = spawn(read_and_sleep, lock, "ben");
    fibers[0] = spawn(read_then_write, lock, "ann");
    settle();
    expect_deadlocks("deadlock: 2 ann (b.c:2 b) waits for 2 ann\n");
    expect_in_dump("    in line for a write lock held by 1 ben, and by 2 ann\n");
    weft_read_write_lock_unref(lock);
    end_with_locks();
}

Test(fiber_deadlocks, know_who_reads_after_standing_in_line)
{
    weft_read_write_lock *lock;
    weft_deferred *writing;

    begin_with_locks();
    lock = weft_read_write_lock_new();
    writing = weft_read_write_lock_write(lock, "room");
    fibers[0] = spawn(read_then_write, lock, "ann");
    weft_deferred_unref(writing);
    settle();
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 1 ann\n");
    weft_read_write_lock_unref(lock);
    end_with_locks();
}

static weft_result read_write_read(void *lock)
{
    weft_read_write_lock_release(WEFT_TRY(weft_await(weft_read_write_lock_read(lock, "room"))));
    WEFT_TRY(weft_yield());
    return weft_await_at(weft_read_write_lock_read(lock, "room"), &at_b);
}

Test(fiber_deadlocks, are_not_seen_where_a_reader_has_left_and_somebody_unknown_writes)
{
    weft_read_write_lock *lock;
    weft_deferred *writing, *reading;

    begin_with_locks();
    lock = weft_read_write_lock_new();
    reading = weft_read_write_lock_read(lock, "room"); /* so that the key, with what it knows, lasts */
    fibers[0] = spawn(read_write_read, lock, "ann");
    writing = weft_read_write_lock_write(lock, "room");
    weft_deferred_unref(reading);
    settle();
    expect_deadlocks("");
    expect_in_dump("    in line for a read lock\n");
    weft_deferred_unref(writing);
    settle();
    weft_read_write_lock_unref(lock);
    end_with_locks();
}

struct giver {
    weft_lock *lock;
    weft_result grant; /* given away to whoever started the fiber */
};

static weft_result give_away(void *arg)
{
    struct giver *giver = arg;

    giver->grant = weft_await(weft_lock_acquire(giver->lock));
    WEFT_TRY(weft_yield());
    return weft_await_at(weft_lock_acquire(giver->lock), &at_b);
}

Test(fiber_deadlocks, are_not_seen_where_a_grant_was_given_back_by_another)
{
    struct giver giver;
    weft_deferred *turn;

    begin_with_locks();
    giver.lock = locks[0];
    fibers[0] = spawn(give_away, &giver, "ann");
    weft_result_drop(giver.grant);
    turn = weft_lock_acquire(locks[0]);
    settle();
    expect_in_dump("    in line for a lock\n");
    expect_deadlocks("");
    weft_deferred_unref(turn);
    settle();
    end_with_locks();
}

Test(fiber_deadlocks, of_a_reader_that_wants_to_write_are_found)
{
    weft_read_write_lock *lock;

    begin_with_locks();
    lock = weft_read_write_lock_new();
    fibers[0] = spawn(read_then_write, lock, "ann");
    settle();
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 1 ann\n");
    expect_in_dump("    in line for a write lock held by 1 ann\n");
    weft_read_write_lock_unref(lock);
    end_with_locks();
}

static weft_result linearize_twice(void *linearizer)
{
    weft_auto(weft_linearizer_release) weft_linearizer_grant *grant =
        WEFT_TRY(weft_await(weft_linearizer_acquire(linearizer, "room")));

    return weft_await_at(weft_linearizer_acquire(linearizer, "room"), &at_b);
}

Test(fiber_deadlocks, of_a_linearizer_are_found)
{
    weft_linearizer *linearizer;

    begin_with_locks();
    cr_assert_null(weft_linearizer_new(&linearizer, "rooms", 1));
    fibers[0] = spawn(linearize_twice, linearizer, "ann");
    settle();
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 1 ann\n");
    weft_linearizer_unref(linearizer);
    end_with_locks();
}

struct talk {
    weft_lock *lock;
    weft_condition *condition;
};

static weft_result wait_for_news(void *arg)
{
    const struct talk *talk = arg;
    weft_auto(weft_lock_release) weft_lock *held = WEFT_TRY(weft_await(weft_lock_acquire(talk->lock)));

    WEFT_TRY(weft_await_at(weft_condition_wait(talk->condition), &at_a));
    return weft_await_at(weft_lock_acquire(talk->lock), &at_b);
}

Test(fiber_deadlocks, know_that_a_condition_gives_its_lock_away_and_takes_it_back)
{
    struct talk talk;
    weft_deferred *turn;

    begin_with_locks();
    talk = (struct talk){locks[0], weft_condition_new(locks[0])};
    fibers[0] = spawn(wait_for_news, &talk, "ann");
    settle();
    expect_in_dump("    in line for a notification\n");
    turn = weft_lock_acquire(locks[0]);
    weft_condition_notify(talk.condition, 1);
    expect_in_dump("    in line for a lock\n");
    expect_deadlocks("");
    weft_deferred_unref(turn);
    settle();
    expect_deadlocks("deadlock: 1 ann (b.c:2 b) waits for 1 ann\n");
    weft_condition_free(talk.condition);
    end_with_locks();
}

static weft_result return_list(weft_result result, void *members)
{
    weft_result_drop(result);
    return weft_later(weft_deferred_list_at(members, 2, WEFT_LIST_FIRE_ON_ONE_ERRBACK | WEFT_LIST_CONSUME_ERRORS, &at_c));
}

Test(fiber_deadlocks, of_deferreds_alone_are_told_when_a_fiber_waits_for_them)
{
    weft_deferred *members[2], *d, *failing;

    begin_with_locks();
    d = weft_deferred_new_at(NULL, NULL, &at_db);
    failing = pending();
    members[0] = weft_deferred_ref(d);
    members[1] = weft_deferred_ref(failing);
    weft_deferred_add_callback(d, return_list, members);
    weft_deferred_callback(d, weft_ok(NULL));
    fibers[0] = spawn(await_borrowed, d, "ann");
    expect_deadlocks("deadlock: the deferred made at db.c:7 query waits for the deferred made at c.c:3 c waits for "
                     "the deferred made at db.c:7 query\n");
    weft_deferred_errback(failing, weft_error_new(&WEFT_CANCELLED, "enough"));
    expect_deadlocks("");
    end_with_locks();
    weft_deferred_unref(failing);
    weft_deferred_unref(d);
}

/* ---- groups ---- */

/* What fibers of a group do that wait for its opener, which holds the lock. */
static weft_result want_lock(void *unused)
{
    weft_auto(weft_lock_release) weft_lock *held = WEFT_TRY(weft_await_at(weft_lock_acquire(locks[0]), &at_b));

    (void)unused, (void)held;
    return weft_ok(NULL);
}

static weft_result want_lock_in_scopes(void *unused)
{
    weft_scope *outer = weft_scope_enter((weft_scope_options){0});
    weft_scope *inner = weft_scope_enter((weft_scope_options){0});
    weft_result result = weft_scope_leave(&inner, want_lock(unused));

    return weft_scope_leave(&outer, result);
}

static weft_error *spawn_into(weft_group *group, weft_fiber_fn *fn, const char *name)
{
    return weft_group_spawn_at(group, fn, NULL, name, &at_main);
}

/* Opens a group and leaves it. */
static weft_result open_group(void *body)
{
    weft_auto(weft_lock_release) weft_lock *held = WEFT_TRY(weft_await(weft_lock_acquire(locks[0])));

    (void)held;
    return weft_with_group_at(*(weft_group_fn **)body, NULL, &at_a);
}

static void with_group(weft_group_fn *body)
{
    begin_with_locks();
    fibers[0] = spawn(open_group, &body, "ann");
    settle();
}

static weft_result spawn_waiter(weft_group *group, void *unused)
{
    (void)unused;
    WEFT_CHECK(spawn_into(group, sleep_long, "sleeper"));
    WEFT_CHECK(spawn_into(group, want_lock, "child"));
    return weft_ok(NULL);
}

Test(fiber_deadlocks, of_a_fiber_that_waits_for_who_leaves_its_group_are_found_and_end_with_a_cancel)
{
    with_group(spawn_waiter);
    expect_deadlocks("deadlock: 1 ann (a.c:1 a) waits for 3 child (b.c:2 b) waits for 1 ann\n");
    expect_in_dump("    waits for the deferred made at a.c:1 a: pending, 1 callback waiting, handed over\n"
                   "    which is the end of 2 fibers:\n"
                   "      3 child, at b.c:2 b\n"
                   "      2 sleeper, at c.c:3 c\n");
    weft_deferred_cancel(fibers[0]);
    settle();
    expect_deadlocks("");
    expect_in_dump("0 fibers\n");
    end_with_locks();
}

static weft_result spawn_in_scopes(weft_group *group, void *unused)
{
    (void)unused;
    WEFT_CHECK(spawn_into(group, want_lock_in_scopes, "child"));
    return weft_ok(NULL);
}

Test(fiber_deadlocks, of_a_group_are_found_when_its_fiber_is_in_scopes_of_its_own)
{
    with_group(spawn_in_scopes);
    expect_deadlocks("deadlock: 1 ann (a.c:1 a) waits for 2 child (b.c:2 b) waits for 1 ann\n");
    end_with_locks();
}

static weft_result open_inner(void *unused)
{
    (void)unused;
    return weft_with_group_at(spawn_in_scopes, NULL, &at_c);
}

static weft_result spawn_opener(weft_group *group, void *unused)
{
    (void)unused;
    WEFT_CHECK(spawn_into(group, open_inner, "ben"));
    return weft_ok(NULL);
}

Test(fiber_deadlocks, lead_through_groups_in_groups)
{
    with_group(spawn_opener);
    expect_deadlocks("deadlock: 1 ann (a.c:1 a) waits for 2 ben (c.c:3 c) waits for 3 child (b.c:2 b) waits for 1 ann\n");
    end_with_locks();
}

static weft_result spawn_elsewhere(void *unused)
{
    weft_deferred_unref(spawn(want_lock, NULL, "guest"));
    return sleep_long(unused);
}

static weft_result spawn_host(weft_group *group, void *unused)
{
    (void)unused;
    WEFT_CHECK(spawn_into(group, spawn_elsewhere, "host"));
    return weft_ok(NULL);
}

/* A fiber in the group's scope is not the group's unless it was spawned into that: it may wait for its end. */
Test(fiber_deadlocks, are_not_seen_where_a_fiber_is_in_the_scope_of_a_group_and_not_in_the_group)
{
    with_group(spawn_host);
    expect_in_dump("3 guest: waiting for ");
    expect_deadlocks("");
    end_with_locks();
}

static weft_result spawn_held_up(weft_group *group, void *unused)
{
    (void)unused;
    WEFT_CHECK(weft_group_spawn_deferred(&fibers[1], group, yield, NULL));
    weft_deferred_pause(fibers[1]);
    WEFT_CHECK(spawn_into(group, sleep_long, "sleeper"));
    return weft_ok(NULL);
}

/* A fiber of the group has ended, but its deferred was paused before that said so. */
Test(fiber_dump, tells_that_a_group_waits_for_more_than_fibers)
{
    with_group(spawn_held_up);
    expect_in_dump("    which is the end of 1 fiber and of others:\n      3 sleeper, at c.c:3 c\n");
    weft_deferred_unpause(fibers[1]);
    settle();
    expect_in_dump("    which is the end of 1 fiber:\n");
    end_with_locks();
}

static weft_result spawn_many(weft_group *group, void *unused)
{
    (void)unused;
    for (int i = 0; i < 10; i++)
        WEFT_CHECK(spawn_into(group, sleep_long, "sleeper"));
    return weft_ok(NULL);
}

Test(fiber_dump, tells_of_a_large_group_the_number_and_the_first)
{
    with_group(spawn_many);
    expect_in_dump("    which is the end of 10 fibers, of which the first 8:\n      11 sleeper, at c.c:3 c\n");
    end_with_locks();
}

/* ---- many ---- */

#ifdef WEFT_TEST_SANITIZED
enum { FIBERS = 2000 };
#else
enum { FIBERS = 100 * 1000 };
#endif

/* A driven computation, as a hundred thousand stacks may be more than there is room for. */
struct member {
    weft_lock *lock;
    weft_lock *next;
    weft_deferred *gate; /* borrowed */
    weft_deferred *end;
    int steps;
};

static weft_result step_member(weft_result sent, void *arg)
{
    struct member *member = arg;

    if (weft_failed(sent)) {
        weft_lock_release(member->lock);
        return sent;
    }
    switch (member->steps++) {
    case 0:
        return weft_later(weft_lock_acquire(member->lock));
    case 1:
        return weft_later(weft_deferred_ref(member->gate));
    default:
        return weft_later(weft_lock_acquire(member->next));
    }
}

static void open_gate(struct member *member)
{
    weft_deferred_callback(member->gate, weft_ok(NULL));
    weft_deferred_unref(member->gate);
}

static void end_member(struct member *member)
{
    weft_deferred_cancel(member->end);
    weft_deferred_unref(member->end);
    weft_lock_unref(member->lock);
}

static size_t count(const char *text, const char *part)
{
    size_t found = 0;

    while ((text = strstr(text, part))) {
        text++;
        found++;
    }
    return found;
}

static void dump_ring(void *unused)
{
    struct member *members = weft_alloc_zeroed(FIBERS * sizeof *members);
    size_t length;
    char *text;

    (void)unused;
    for (int i = 0; i < FIBERS; i++)
        members[i].lock = weft_lock_new();
    for (int i = 0; i < FIBERS; i++) {
        members[i].next = members[(i + 1) % FIBERS].lock;
        members[i].gate = pending();
        members[i].end = weft_drive_at(step_member, &members[i], "member", &at_main);
    }
    for (int i = 0; i < FIBERS; i++)
        open_gate(&members[i]);
    while (weft_run_ready())
        continue;
    length = weft_fiber_dump(NULL, 0);
    text = weft_alloc(length + 1);
    cr_assert_eq(weft_fiber_dump(text, length + 1), length);
    cr_assert_eq(count(text, "deadlock: "), 1);
    cr_assert_eq(count(text, " (main.c:1 main) waits for "), FIBERS);
    cr_assert_eq(count(text, ": waiting"), FIBERS);
    weft_free(text);
    for (int i = 0; i < FIBERS; i++)
        end_member(&members[i]);
    while (weft_run_ready())
        continue;
    weft_free(members);
}

/* A ring of all of them: the search goes as deep, on a stack of 256 KiB. */
Test(fiber_deadlocks, of_very_many_are_told_in_one_line, .timeout = 60)
{
    with_small_stack(dump_ring, NULL);
}

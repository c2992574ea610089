/* Shields: what they hold back, for how long, and what is told of it; and what is counted of cancels. Time is a test
 * clock's. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <math.h>
#include <string.h>

static weft_reactor *reactor;
static weft_test_clock *test_time;
static weft_scope *outer;

static void begin_as_it_is(void)
{
    cr_assert_null(weft_reactor_new(&reactor));
    test_time = weft_test_clock_new();
    weft_clock_set(weft_test_clock_get_clock(test_time));
}

static void begin(void)
{
    begin_as_it_is();
    weft_shield_set_limit(0);
}

static void settle(void)
{
    while (weft_run_ready())
        ;
}

/* Fibers run whenever a timer has fired, as in a loop. */
static void pass(double seconds)
{
    weft_clock *clock = weft_test_clock_get_clock(test_time);
    int64_t until = weft_clock_now(clock) + (int64_t)(seconds * 1e9 + 0.5);
    double next;

    settle();
    while ((next = weft_test_clock_until_next(test_time)) * 1e9 < (double)(until - weft_clock_now(clock)) + 0.5) {
        weft_test_clock_advance(test_time, next);
        settle();
    }
    weft_test_clock_advance(test_time, (double)(until - weft_clock_now(clock)) / 1e9);
    settle();
}

static void end(void)
{
    outer = weft_scope_unref(outer);
    cr_assert_eq(weft_live_counts_get().fibers, 0);
    cr_assert_eq(weft_live_counts_get().scopes, 0);
    cr_assert_eq(weft_test_clock_count_timers(test_time), 0);
    reactor = weft_reactor_free(reactor);
    test_time = weft_test_clock_free(test_time);
}

static void finish(weft_deferred *fiber, const char *label)
{
    settle();
    cr_assert_eq(weft_deferred_get_state(fiber), WEFT_DONE, "%s has not ended", label);
    conclude(fiber, label);
}

static weft_error *gone(void)
{
    return weft_error_new(&WEFT_CLIENT_GONE, "the client is gone");
}

static weft_result slept(const char *label, double seconds)
{
    return note(weft_sleep(seconds), (void *)label);
}

static void sleep_and_drop(const char *label, double seconds)
{
    weft_result_drop(slept(label, seconds));
}

/* What the fibers of the tests do: three sleeps of ten seconds in a shield, and one after it. */
static weft_shield_options budget;

static weft_result sleep_thrice(void *unused)
{
    (void)unused;
    sleep_and_drop("a", 10);
    sleep_and_drop("b", 10);
    return slept("c", 10);
}

static weft_result shielded(void *unused)
{
    weft_result_drop(note(weft_shield_with(sleep_thrice, unused, budget), (void *)"shield"));
    return slept("after", 10);
}

static weft_result shielded_in_a_scope(void *unused)
{
    weft_scope *scope = weft_scope_enter((weft_scope_options){0});

    outer = weft_scope_ref(scope);
    return weft_scope_leave(&scope, shielded(unused));
}

/* ---- without a budget ---- */

Test(shield, keeps_a_cancel_of_the_fiber_for_the_wait_after_it)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(shielded, NULL);
    weft_deferred_cancel_with(d, gone());
    pass(29);
    cr_assert_str_eq(trace_text(), "a=nil b=nil");
    pass(1);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "c=nil shield=nil after=!client_gone d=!client_gone");
    end();
}

Test(shield, keeps_the_cancel_of_a_scope_further_out)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(shielded_in_a_scope, NULL);
    weft_scope_cancel(outer, gone());
    pass(30);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "a=nil b=nil c=nil shield=nil after=!client_gone d=nil");
    end();
}

static weft_result enter_when_cancelled(void *unused)
{
    weft_scope *scope = weft_scope_enter((weft_scope_options){0});

    (void)unused;
    weft_scope_cancel(scope, gone());
    return weft_scope_leave(&scope, shielded(NULL));
}

Test(shield, that_is_entered_when_all_is_cancelled_keeps_that_out)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(enter_when_cancelled, NULL);
    pass(30);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "a=nil b=nil c=nil shield=nil after=!client_gone d=nil");
    end();
}

static weft_scope *the_shield;

static weft_result shield_to_cancel(void *unused)
{
    weft_scope *shield = weft_shield_enter((weft_shield_options){0});

    the_shield = weft_scope_ref(shield);
    return weft_scope_leave(&shield, sleep_thrice(unused));
}

Test(shield, can_be_cancelled_itself)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(shield_to_cancel, NULL);
    weft_scope_cancel(the_shield, NULL);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "a=!cancelled b=!cancelled c=!cancelled d=nil");
    the_shield = weft_scope_unref(the_shield);
    end();
}

static weft_result child_in_a_shield(void *unused)
{
    weft_scope *scope = weft_scope_enter((weft_scope_options){0}), *shield = weft_shield_enter(budget);

    outer = weft_scope_ref(scope);
    weft_deferred_unref(weft_spawn(sleep_thrice, unused));
    weft_scope_close(shield);
    return weft_scope_leave(&scope, slept("owner", 100));
}

Test(shield, holds_for_fibers_that_were_started_in_it_also_when_it_was_left)
{
    weft_deferred *d;

    begin();
    budget = (weft_shield_options){.hard = 15};
    d = weft_spawn(child_in_a_shield, NULL);
    weft_scope_cancel(outer, gone());
    settle();
    cr_assert_str_eq(trace_text(), "owner=!client_gone");
    pass(10);
    cr_assert_str_eq(trace_text(), "a=nil");
    pass(5);
    cr_assert_str_eq(trace_text(), "b=!client_gone c=!client_gone", "its budget holds for them too");
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=nil");
    end();
}

static weft_result shield_a_child_shares(void *deferred)
{
    weft_scope *shield = weft_shield_enter((weft_shield_options){0});

    *(weft_deferred **)deferred = weft_spawn(sleep_thrice, NULL);
    return weft_scope_leave(&shield, slept("owner", 1));
}

Test(shield, does_not_keep_a_cancel_from_a_fiber_that_was_started_in_it)
{
    weft_deferred *d, *child;

    begin();
    d = weft_spawn(shield_a_child_shares, &child);
    weft_deferred_cancel(child);
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled");
    weft_deferred_cancel(child);
    settle();
    weft_deferred_cancel(child);
    finish(child, "child");
    pass(1);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "b=!cancelled c=!cancelled child=!cancelled owner=nil d=nil");
    end();
}

/* ---- with a budget ---- */

/* A cancel of the fiber, or of the scope around it, at 2 s. */
static weft_deferred *cancel_at_two(bool own)
{
    weft_deferred *d = weft_spawn(shielded_in_a_scope, NULL);

    pass(2);
    if (own)
        weft_deferred_cancel_with(d, gone());
    else
        weft_scope_cancel(outer, gone());
    return d;
}

Test(shield, lets_a_cancel_through_once_after_the_soft_time)
{
    const char *ends[] = {"b=nil c=nil shield=nil after=!client_gone d=nil", "b=nil c=nil shield=nil after=nil d=nil"};

    for (int own = 0; own < 2; own++) {
        weft_deferred *d;

        begin();
        budget = (weft_shield_options){.soft = 3};
        d = cancel_at_two(own);
        pass(2.999);
        cr_assert_str_eq(trace_text(), "");
        pass(0.001);
        cr_assert_str_eq(trace_text(), "a=!client_gone");
        pass(40);
        finish(d, "d");
        cr_assert_str_eq(trace_text(), ends[own], "what came out inside is used up if it was the fiber's own: %d", own);
        end();
    }
}

Test(shield, is_open_after_the_hard_time_and_passes_on_what_came_out_of_it)
{
    const char *ends[] = {"a=!client_gone b=!client_gone c=!client_gone shield=!client_gone after=!client_gone d=nil",
                          "a=!client_gone b=!client_gone c=!client_gone shield=!client_gone after=nil d=nil"};

    for (int own = 0; own < 2; own++) {
        weft_deferred *d;

        begin();
        budget = (weft_shield_options){.soft = 7, .hard = 3};
        d = cancel_at_two(own);
        pass(2.999);
        cr_assert_str_eq(trace_text(), "");
        pass(0.001);
        pass(10);
        finish(d, "d");
        cr_assert_str_eq(trace_text(), ends[own], "own: %d", own);
        end();
    }
}

Test(shield, has_a_soft_and_then_a_hard_time)
{
    for (int own = 0; own < 2; own++) {
        weft_deferred *d;

        begin();
        budget = (weft_shield_options){.soft = 1, .hard = 6};
        d = cancel_at_two(own);
        pass(1);
        cr_assert_str_eq(trace_text(), "a=!client_gone");
        pass(4.9);
        cr_assert_str_eq(trace_text(), "");
        pass(0.1);
        cr_assert(strstr(trace_text(), "b=!client_gone c=!client_gone shield=!client_gone") != NULL);
        pass(10);
        finish(d, "d");
        trace_text();
        end();
    }
}

Test(shield, without_any_time_is_no_shield)
{
    double times[] = {-1, NAN, -INFINITY};

    for (int i = 0; i < 6; i++) {
        weft_deferred *d;

        begin();
        budget = (weft_shield_options){.hard = times[i % 3]};
        d = cancel_at_two(i / 3);
        pass(0);
        cr_assert(strstr(trace_text(), "a=!client_gone b=!client_gone c=!client_gone shield=!client_gone") != NULL);
        pass(10);
        finish(d, "d");
        trace_text();
        end();
    }
}

Test(shield, lets_a_second_cancel_of_the_fiber_through_when_it_is_open)
{
    weft_deferred *d;

    begin();
    budget = (weft_shield_options){.soft = 1, .hard = 6};
    d = cancel_at_two(true);
    pass(1);
    weft_deferred_cancel_with(d, weft_error_new(&WEFT_SHUTDOWN, "second"));
    pass(4.9);
    cr_assert_str_eq(trace_text(), "a=!client_gone", "the soft time lets one through, and no more");
    pass(0.1);
    cr_assert_str_eq(trace_text(), "b=!shutdown c=!client_gone shield=!client_gone");
    weft_deferred_cancel_with(d, weft_error_new(&WEFT_SHUTDOWN, "third"));
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "after=!shutdown d=!shutdown");
    end();
}

/* When the soft time passes, the fiber waits for work that has been asked already: it is for the next wait then. */
static weft_deferred *work;

static weft_result wait_for_work_in_a_shield(void *unused)
{
    weft_scope *shield = weft_shield_enter(budget);

    (void)unused;
    weft_result_drop(note(weft_await(weft_deferred_ref(work)), (void *)"work"));
    return weft_scope_leave(&shield, slept("next", 10));
}

static weft_result work_in_a_scope(void *unused)
{
    weft_scope *scope = weft_scope_enter((weft_scope_options){0});

    outer = weft_scope_ref(scope);
    return weft_scope_leave(&scope, wait_for_work_in_a_shield(unused));
}

Test(shield, whose_soft_time_finds_a_wait_that_cannot_be_interrupted_waits_for_the_next)
{
    for (int own = 0; own < 2; own++) {
        weft_deferred *d;

        begin();
        budget = (weft_shield_options){.soft = 1};
        work = stoppable(cancel_later, "asked");
        d = weft_spawn(work_in_a_scope, NULL);
        weft_deferred_cancel(work);
        if (own)
            weft_deferred_cancel_with(d, gone());
        else
            weft_scope_cancel(outer, gone());
        pass(1);
        weft_deferred_callback(work, weft_int(1));
        finish(d, "d");
        cr_assert_str_eq(trace_text(), own ? "asked work=1 next=!client_gone d=!client_gone"
                                           : "asked work=1 next=!client_gone d=nil");
        weft_deferred_unref(work);
        end();
    }
}

/* ---- shields in one another ---- */

static weft_result shield_in_a_shield(void *unused)
{
    weft_scope *scope = weft_scope_enter((weft_scope_options){0}), *around = weft_shield_enter(budget), *inside;
    weft_result result;

    (void)unused;
    outer = weft_scope_ref(scope);
    inside = weft_shield_enter(budget);
    sleep_and_drop("inner", 100);
    result = weft_scope_leave(&inside, slept("again", 100));
    weft_result_drop(note(result, (void *)"left"));
    result = weft_scope_leave(&around, slept("outer", 100));
    return weft_scope_leave(&scope, result);
}

Test(shield, in_a_shield_begins_to_count_when_that_lets_through)
{
    for (int own = 0; own < 2; own++) {
        weft_deferred *d;

        begin();
        budget = (weft_shield_options){.soft = 2, .hard = 5};
        d = weft_spawn(shield_in_a_shield, NULL);
        if (own)
            weft_deferred_cancel_with(d, gone());
        else
            weft_scope_cancel(outer, gone());
        pass(3.9);
        cr_assert_str_eq(trace_text(), "");
        pass(0.1);
        cr_assert_str_eq(trace_text(), "inner=!client_gone", "at 2 s the outer, at 4 s the inner has let it through");
        pass(2.9);
        cr_assert_str_eq(trace_text(), "");
        pass(0.1);
        finish(d, "d");
        cr_assert_str_eq(trace_text(), own ? "again=!client_gone left=!client_gone outer=!client_gone d=!client_gone"
                                           : "again=!client_gone left=!client_gone outer=!client_gone d=nil",
                         "at 5 s the outer is open, 5 s after 2 s the inner");
        end();
    }
}

static weft_result leave_the_inner_shield(void *unused)
{
    weft_scope *around = weft_shield_enter((weft_shield_options){.soft = 1}), *inside;

    (void)unused;
    inside = weft_shield_enter((weft_shield_options){0});
    sleep_and_drop("inner", 5);
    weft_scope_close(inside);
    return weft_scope_leave(&around, slept("outer", 5));
}

Test(shield, that_is_left_for_one_that_has_let_through_lets_it_out)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(leave_the_inner_shield, NULL);
    weft_deferred_cancel(d);
    pass(5);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "inner=nil outer=!cancelled d=!cancelled");
    end();
}

/* What holds when a shield is entered comes to it then. */
static weft_result enter_another(const char *label, weft_shield_options options)
{
    weft_scope *inside = weft_shield_enter(options);
    weft_result result = slept(label, 10);

    weft_scope_close(inside);
    return result;
}

static weft_deferred *the_fiber;

static weft_result enter_after_cancelling_itself(void *unused)
{
    (void)unused;
    sleep_and_drop("first", 1);
    weft_deferred_cancel(the_fiber);
    return enter_another("x", (weft_shield_options){.soft = 2});
}

Test(shield, that_is_entered_when_the_fiber_was_cancelled_begins_to_count_then)
{
    begin();
    the_fiber = weft_spawn(enter_after_cancelling_itself, NULL);
    pass(2.9);
    cr_assert_str_eq(trace_text(), "first=nil");
    pass(0.1);
    finish(the_fiber, "d");
    cr_assert_str_eq(trace_text(), "x=!cancelled d=!cancelled");
    end();
}

static weft_result enter_another_when_one_lets_through(void *unused)
{
    weft_scope *shield = weft_shield_enter((weft_shield_options){.soft = 1});

    (void)unused;
    weft_result_drop(note(weft_await(weft_deferred_ref(work)), (void *)"work"));
    return weft_scope_leave(&shield, enter_another("x", (weft_shield_options){.soft = 2}));
}

Test(shield, that_is_entered_in_one_that_lets_through_holds_what_that_has_let_through)
{
    weft_deferred *d;

    begin();
    work = stoppable(cancel_later, "asked");
    d = weft_spawn(enter_another_when_one_lets_through, NULL);
    weft_deferred_cancel(work);
    weft_deferred_cancel_with(d, gone());
    pass(1);
    weft_deferred_callback(work, weft_int(1));
    pass(1.9);
    cr_assert_str_eq(trace_text(), "asked work=1");
    pass(0.1);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "x=!client_gone d=!client_gone");
    weft_deferred_unref(work);
    end();
}

static weft_result enter_another_when_one_is_open(void *unused)
{
    weft_scope *shield = weft_shield_enter((weft_shield_options){.hard = 1});
    weft_result result;

    (void)unused;
    sleep_and_drop("a", 10);
    weft_result_drop(enter_another("x", (weft_shield_options){.soft = 2, .hard = 4}));
    result = slept("b", 10);
    weft_scope_close(shield);
    weft_result_drop(result);
    return slept("after", 10);
}

Test(shield, that_is_entered_in_one_that_is_open_has_its_own_budget)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(enter_another_when_one_is_open, NULL);
    weft_deferred_cancel(d);
    pass(1);
    cr_assert_str_eq(trace_text(), "a=!cancelled");
    pass(1.9);
    cr_assert_str_eq(trace_text(), "");
    pass(0.1);
    cr_assert_str_eq(trace_text(), "x=!cancelled b=!cancelled");
    pass(10);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "after=nil d=nil");
    end();
}

static weft_result scope_in_a_shield(void *unused)
{
    weft_scope *shield = weft_shield_enter(budget), *scope = weft_scope_enter((weft_scope_options){.timeout = 2});
    weft_result result = weft_scope_leave(&scope, slept("a", 10));

    (void)unused;
    weft_result_drop(note(result, (void *)"scope"));
    return weft_scope_leave(&shield, slept("b", 10));
}

Test(shield, does_not_keep_out_what_is_inside)
{
    weft_deferred *d;

    begin();
    budget = (weft_shield_options){.hard = 5};
    d = weft_spawn(scope_in_a_shield, NULL);
    weft_deferred_cancel(d);
    pass(2);
    cr_assert_str_eq(trace_text(), "a=!deadline scope=!timed_out");
    pass(3);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "b=!cancelled d=!cancelled");
    end();
}

/* ---- what is told ---- */

Test(shield, that_holds_a_cancel_back_for_long_is_told_of_once_in_its_fibers_context)
{
    weft_context *previous;
    weft_deferred *d;

    begin_as_it_is();
    log_capture();
    budget = (weft_shield_options){0};
    previous = enter("request");
    d = weft_spawn(shielded, NULL);
    leave(previous);
    weft_deferred_cancel_with(d, gone());
    pass(0.9);
    cr_assert_str_eq(log_text(), "");
    pass(0.1);
    cr_assert_eq(log_count("WARN request the shield entered at tests/test_shield.c:"), 1);
    cr_assert_eq(log_count("shielded has held a cancel back for 1 s from the fiber shielded, which waits at "
                           "tests/test_shield.c:"), 1);
    cr_assert_eq(log_count("client_gone: the client is gone"), 1);
    pass(40);
    finish(d, "d");
    cr_assert_eq(log_count("has held a cancel back"), 1);
    cr_assert_eq(weft_cancellation_stats_get().held_back, 1);
    cr_assert_eq(weft_cancellation_stats_get().delayed, 1);
    trace_text();
    end();
}

static weft_result block_in_a_shield(void *unused)
{
    weft_scope *shield = weft_shield_enter((weft_shield_options){0});

    (void)unused;
    weft_deferred_unref(weft_deferred_ref(work));
    weft_test_clock_stall(test_time, 3);
    return weft_scope_leave(&shield, weft_int(1));
}

static weft_result block_cancelled(void *unused)
{
    weft_scope *scope = weft_scope_enter((weft_scope_options){0});

    weft_scope_cancel(scope, gone());
    return weft_scope_leave(&scope, block_in_a_shield(unused));
}

Test(shield, in_which_the_loop_did_not_turn_is_told_of_when_it_is_left)
{
    begin_as_it_is();
    log_capture();
    work = pending();
    finish(weft_spawn(block_cancelled, NULL), "d");
    cr_assert_eq(log_count("has held a cancel back for 3 s from the fiber block_cancelled: client_gone"), 1);
    cr_assert_str_eq(trace_text(), "d=1");
    weft_deferred_unref(work);
    end();
}

Test(shield, is_not_told_of_below_the_limit_nor_without_one)
{
    double limits[] = {0, 50};

    for (int i = 0; i < 2; i++) {
        weft_deferred *d;

        begin_as_it_is();
        log_capture();
        weft_shield_set_limit(limits[i]);
        budget = (weft_shield_options){0};
        d = weft_spawn(shielded, NULL);
        weft_deferred_cancel(d);
        pass(40);
        finish(d, "d");
        cr_assert_str_eq(log_text(), "");
        cr_assert_eq(weft_cancellation_stats_get().delayed, 0);
        trace_text();
        end();
    }
}

/* ---- what is counted ---- */

static weft_result sleep_ten(void *unused)
{
    (void)unused;
    return weft_sleep(10);
}

static weft_result clean_up_for_a_while(void *unused)
{
    weft_result result = weft_sleep(10);

    (void)unused;
    weft_result_drop(weft_sleep(3e-6));
    return result;
}

Test(cancellation, is_counted_and_timed_until_the_fiber_has_ended)
{
    weft_cancellation_stats stats;
    weft_deferred *d;

    begin();
    d = weft_spawn(sleep_ten, NULL);
    weft_deferred_cancel(d);
    weft_deferred_cancel(d);
    cr_assert_eq(weft_cancellation_stats_get().asked, 1);
    cr_assert_eq(weft_cancellation_stats_get().ended, 0);
    finish(d, "d");
    d = weft_spawn(clean_up_for_a_while, NULL);
    weft_deferred_cancel(d);
    pass(3e-6);
    finish(d, "d");
    stats = weft_cancellation_stats_get();
    cr_assert_eq(stats.asked, 2);
    cr_assert_eq(stats.ended, 2);
    cr_assert_eq(stats.time_to_cancel.count, 2);
    cr_assert_eq(stats.time_to_cancel.sum, 3000);
    cr_assert_eq(stats.time_to_cancel.max, 3000);
    cr_assert_eq(stats.time_to_cancel.buckets[0], 1, "within the turn");
    cr_assert_eq(stats.time_to_cancel.buckets[12], 1, "from 2,048 to 4,095 ns");
    trace_text();
    end();
}

Test(cancellation, of_a_scope_is_timed_until_its_owner_has_left_it)
{
    weft_cancellation_stats stats;
    weft_deferred *d;

    begin();
    budget = (weft_shield_options){0};
    d = weft_spawn(shielded_in_a_scope, NULL);
    weft_scope_cancel(outer, NULL);
    pass(30);
    finish(d, "d");
    stats = weft_cancellation_stats_get();
    cr_assert_eq(stats.asked, 1);
    cr_assert_eq(stats.ended, 1);
    cr_assert_eq(stats.time_to_cancel.sum, 30000000000);
    cr_assert_eq(stats.held_back, 1);
    trace_text();
    end();
}

Test(cancellation, of_a_fiber_that_never_begins_or_has_ended_is_counted_as_it_is)
{
    weft_deferred *d;

    begin();
    d = weft_spawn_soon(sleep_ten, NULL);
    weft_deferred_cancel(d);
    finish(d, "never");
    d = weft_spawn(sleep_ten, NULL);
    pass(10);
    weft_deferred_cancel(d);
    finish(d, "ended");
    cr_assert_str_eq(trace_text(), "never=!cancelled ended=nil");
    cr_assert_eq(weft_cancellation_stats_get().asked, 1);
    cr_assert_eq(weft_cancellation_stats_get().ended, 1);
    end();
}

Test(cancellation, that_takes_longer_than_any_bucket_is_in_the_last)
{
    weft_cancellation_stats stats;
    weft_deferred *d;

    begin();
    weft_shield_set_limit(0);
    budget = (weft_shield_options){0};
    d = weft_spawn(shielded_in_a_scope, NULL);
    weft_scope_cancel(outer, NULL);
    weft_test_clock_stall(test_time, 1e9);
    pass(40);
    finish(d, "d");
    stats = weft_cancellation_stats_get();
    cr_assert_eq(stats.time_to_cancel.buckets[WEFT_DURATION_BUCKETS - 1], 1);
    cr_assert_geq(stats.time_to_cancel.max, 1000000000000000000);
    trace_text();
    end();
}

/* ---- swallowed ---- */

static weft_result swallow(void *unused)
{
    (void)unused;
    sleep_and_drop("a", 10);
    return weft_int(1);
}

static weft_result swallow_in_a_scope(void *unused)
{
    weft_scope *scope = weft_scope_enter((weft_scope_options){0});

    outer = weft_scope_ref(scope);
    weft_result_drop(weft_scope_leave(&scope, swallow(unused)));
    return weft_ok(NULL);
}

static weft_result wait_for_one_that_swallows(void *unused)
{
    return weft_await(weft_spawn(swallow, unused));
}

static weft_result translate(void *unused)
{
    (void)unused;
    sleep_and_drop("a", 10);
    return broken();
}

static weft_result pass_on(void *unused)
{
    (void)unused;
    return slept("a", 10);
}

static weft_result take_the_value(void *unused)
{
    (void)unused;
    weft_result_drop(weft_await(weft_deferred_ref(work)));
    return weft_int(1);
}

/* How many are counted and logged when `fn` is cancelled, itself or its scope. */
static uint64_t swallowed(weft_fiber_fn *fn, const char *name, const char *logged)
{
    uint64_t before = weft_cancellation_stats_get().swallowed, count;
    weft_deferred *d = weft_spawn_at(fn, NULL, name, WEFT_HERE);

    log_forget();
    if (outer)
        weft_scope_cancel(outer, NULL);
    else
        weft_deferred_cancel(d);
    finish(d, "d");
    outer = weft_scope_unref(outer);
    count = weft_cancellation_stats_get().swallowed - before;
    cr_assert_eq((uint64_t)log_count("has swallowed that"), count);
    cr_assert_eq((uint64_t)log_count(logged), count);
    return count;
}

Test(cancellation, that_is_swallowed_is_counted_and_logged_with_the_place_of_its_wait)
{
    begin();
    log_capture();
    cr_assert_eq(swallowed(swallow, "fiber", "DEBUG - the fiber fiber was cancelled in its wait at tests/test_shield.c:"), 1);
    cr_assert_eq(swallowed(swallow_in_a_scope, "scoped", "the fiber scoped was cancelled in its wait at"), 1);
    cr_assert_eq(swallowed(wait_for_one_that_swallows, "outer", "the fiber swallow was cancelled in its wait at"), 1,
                 "the one that has swallowed it is named, and no other");
    cr_assert_eq(swallowed(translate, "translates", "swallowed"), 0);
    cr_assert_eq(swallowed(pass_on, "passes", "swallowed"), 0);
    work = stoppable(fire_value, NULL);
    cr_assert_eq(swallowed(take_the_value, "value", "swallowed"), 0, "a value has won");
    weft_deferred_unref(work);
    trace_text();
    end();
}

Test(cancellation, of_what_a_fiber_waits_for_by_a_third_is_not_swallowed)
{
    weft_deferred *d;

    begin();
    log_capture();
    work = pending();
    d = weft_spawn(take_the_value, NULL);
    weft_deferred_cancel(work);
    finish(d, "d");
    work = weft_deferred_unref(work);
    /* Nor when its own comes too late for that wait. */
    work = pending();
    d = weft_spawn(take_the_value, NULL);
    weft_deferred_cancel(work);
    weft_deferred_cancel(d);
    finish(d, "d");
    weft_deferred_unref(work);
    cr_assert_eq(weft_cancellation_stats_get().swallowed, 0);
    cr_assert_str_eq(log_text(), "");
    trace_text();
    end();
}

Test(cancellation, that_is_swallowed_is_counted_also_when_it_is_not_logged)
{
    weft_deferred *d;

    begin();
    log_capture();
    weft_log_set_level("", WEFT_LOG_ERROR);
    d = weft_spawn(swallow, NULL);
    weft_deferred_cancel(d);
    finish(d, "d");
    cr_assert_eq(weft_cancellation_stats_get().swallowed, 1);
    cr_assert_str_eq(log_text(), "");
    trace_text();
    end();
}

static weft_result swallow_in_steps(weft_result sent, void *deferred)
{
    weft_deferred **awaited = deferred;
    weft_deferred *taken = *awaited;

    weft_result_drop(sent);
    *awaited = NULL;
    return taken ? weft_later(taken) : weft_int(1);
}

Test(cancellation, that_a_driven_computation_swallows_is_counted)
{
    weft_deferred *awaited = pending(), *held = weft_deferred_ref(awaited), *d;

    begin();
    log_capture();
    d = weft_drive(swallow_in_steps, &awaited);
    weft_deferred_cancel(d);
    finish(d, "d");
    cr_assert_eq(weft_cancellation_stats_get().swallowed, 1);
    cr_assert_eq(log_count("the fiber swallow_in_steps was cancelled in its wait"), 1);
    weft_deferred_unref(held);
    trace_text();
    end();
}

/* ---- many ---- */

enum { SHIELDS = 65536 }; /* more than 16 bits count */

static weft_result yield_in_many_shields(void *unused)
{
    weft_scope *first = weft_shield_enter((weft_shield_options){0});
    weft_result result;

    (void)unused;
    for (int i = 1; i < SHIELDS; i++)
        cr_assert_not_null(weft_shield_enter((weft_shield_options){0}));
    result = weft_yield();
    weft_log_set_level("", WEFT_LOG_OFF); /* which tells of each that is not left */
    return weft_scope_leave(&first, result);
}

Test(shield, keeps_a_cancel_out_however_many_there_are_around_each_other)
{
    weft_deferred *d;

    begin();
    log_capture();
    d = weft_spawn(yield_in_many_shields, NULL);
    weft_deferred_cancel(d);
    settle();
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=nil");
    end();
}

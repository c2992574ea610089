/* weft_defer_later: rule 70, and Synapse's C1, where a cancelled sleep leaves its timer behind. */
#include "tests/support/test.h"
#include "tests/support/values.h"

static weft_test_clock *tc;

static weft_clock *the_clock(void)
{
    if (!tc)
        tc = weft_test_clock_new();
    return weft_test_clock_get_clock(tc);
}

static void end(void)
{
    tc = weft_test_clock_free(tc);
}

/* Traces the final result under `label` and lets go of the deferred. */
static void finish(weft_deferred *d, const char *label)
{
    trace("%s=%s", label, told(weft_deferred_take_result(d)));
    weft_deferred_unref(d);
}

static weft_result give_7(void *unused)
{
    (void)unused;
    trace("ran@%g", (double)weft_clock_now(the_clock()) / 1e9);
    return weft_int(7);
}

static weft_result fail(void *unused)
{
    (void)unused;
    return broken();
}

static weft_result give_value(void *value)
{
    return value_of(value);
}

static weft_result give_later(void *inner)
{
    return weft_later(weft_deferred_ref(inner));
}

Test(later, r70_fires_after_that_time_with_what_the_function_returns)
{
    weft_deferred *d = noted(weft_defer_later(the_clock(), 2, give_7, NULL), "d");

    weft_test_clock_advance(tc, 1.9);
    cr_assert_str_eq(trace_text(), "", "not before");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    weft_test_clock_advance(tc, 1);
    cr_assert_str_eq(trace_text(), "ran@2 d=7");
    weft_test_clock_advance(tc, 10);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=7", "once");
    end();
}

Test(later, r70_without_a_function_fires_with_no_value)
{
    weft_deferred *d = noted(weft_defer_later(the_clock(), 1, NULL, NULL), "d");

    weft_test_clock_advance(tc, 1);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=nil d=nil");
    end();
}

Test(later, r70_fails_with_the_functions_error)
{
    weft_deferred *d = weft_defer_later(the_clock(), 1, fail, NULL);

    weft_test_clock_advance(tc, 1);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=!broken");
    end();
}

Test(later, r70_never_runs_inside_the_call_that_asks)
{
    weft_deferred *zero = weft_defer_later(the_clock(), 0, give_7, NULL);
    weft_deferred *negative = weft_defer_later(the_clock(), -3, give_7, NULL);

    cr_assert_str_eq(trace_text(), "");
    cr_assert_eq(weft_test_clock_turn(tc), 2, "on the next round");
    finish(zero, "zero");
    finish(negative, "negative");
    cr_assert_str_eq(trace_text(), "ran@0 ran@0 zero=7 negative=7");
    end();
}

Test(later, r70_waits_for_the_deferred_that_the_function_returns)
{
    weft_deferred *inner = pending(), *d = noted(weft_defer_later(the_clock(), 1, give_later, inner), "d");

    weft_test_clock_advance(tc, 1);
    cr_assert_eq(weft_deferred_get_state(d), WEFT_WAITING);
    weft_deferred_callback(inner, weft_int(5));
    weft_deferred_unref(inner);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=5 d=5");
    end();
}

/* ---- cancelling ---- */

Test(later, r70_cancelled_before_takes_its_timer_away_and_never_runs)
{
    weft_deferred *d = weft_defer_later(the_clock(), 1, give_7, NULL);

    weft_deferred_cancel(d);
    cr_assert_eq(weft_test_clock_count_timers(tc), 0);
    finish(d, "d");
    weft_test_clock_advance(tc, 5);
    cr_assert_str_eq(trace_text(), "d=!cancelled");
    end();
}

Test(later, r70_cancelled_comes_out_with_its_cause)
{
    weft_error *gone = weft_error_new(&WEFT_CLIENT_GONE, "the client left");
    weft_deferred *d = weft_defer_later(the_clock(), 1, NULL, NULL);
    weft_result result;

    weft_deferred_cancel_with(d, weft_error_ref(gone));
    result = weft_deferred_take_result(d);
    cr_assert(weft_error_same(weft_failed(result), gone));
    weft_result_drop(result);
    weft_deferred_unref(d);
    weft_error_unref(gone);
    end();
}

Test(later, r70_cancelled_later_cancels_what_it_waits_for)
{
    weft_deferred *inner = stoppable(cancel_done, "inner"), *d = weft_defer_later(the_clock(), 1, give_later, inner);

    weft_test_clock_advance(tc, 1);
    weft_deferred_cancel(d);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "inner d=!cancelled");
    weft_deferred_unref(inner);
    end();
}

Test(later, cancelled_twice_or_when_done_is_left_alone)
{
    weft_deferred *d = weft_defer_later(the_clock(), 1, NULL, NULL), *e = weft_defer_later(the_clock(), 1, give_7, NULL);

    weft_deferred_cancel(d);
    weft_deferred_cancel(d);
    weft_test_clock_advance(tc, 1);
    weft_deferred_cancel(e);
    finish(d, "d");
    finish(e, "e");
    cr_assert_str_eq(trace_text(), "ran@1 d=!cancelled e=7");
    end();
}

static weft_result cancel_own(void *deferred)
{
    weft_deferred_cancel(*(weft_deferred **)deferred);
    return weft_int(3);
}

Test(later, may_be_cancelled_by_its_function_which_is_too_late)
{
    weft_deferred *d;

    d = weft_defer_later(the_clock(), 1, cancel_own, &d);
    weft_test_clock_advance(tc, 1);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=3");
    end();
}

/* ---- who owns what ---- */

Test(later, runs_though_nobody_holds_the_deferred)
{
    weft_deferred_unref(weft_defer_later(the_clock(), 1, give_7, NULL));
    cr_assert_eq(weft_live_counts_get().deferreds, 1, "the timer does");
    weft_test_clock_advance(tc, 1);
    cr_assert_str_eq(trace_text(), "ran@1");
    cr_assert_eq(weft_live_counts_get().deferreds, 0);
    end();
}

Test(later, dropped_has_its_value_dropped_and_its_error_reported)
{
    struct value value = {.name = "v"};

    log_capture();
    weft_deferred_unref(weft_defer_later(the_clock(), 1, give_value, &value));
    weft_deferred_unref(weft_defer_later(the_clock(), 1, fail, NULL));
    weft_test_clock_advance(tc, 1);
    cr_assert_eq(value.drops, 1);
    cr_assert_eq(log_count("unhandled error in the deferred made at"), 1);
    cr_assert_eq(log_count("tests/test_later.c"), 1, "where it was asked for");
    end();
}

static weft_result drop_own(void *deferred)
{
    weft_deferred_unref(deferred);
    return weft_ok(NULL);
}

static weft_result drop_it(void *holder)
{
    weft_deferred **d = holder;

    *d = weft_deferred_unref(*d);
    return weft_int(1);
}

Test(later, may_be_dropped_by_its_function)
{
    weft_deferred *d;

    d = weft_defer_later(the_clock(), 1, drop_it, &d);
    weft_test_clock_advance(tc, 1);
    cr_assert_null(d);
    cr_assert_eq(weft_live_counts_get().deferreds, 0);
    end();
}

static weft_result drop_on_cancel(weft_result result, void *deferred)
{
    weft_result_drop(result);
    return drop_own(deferred);
}

Test(later, may_be_dropped_by_a_callback_of_its_cancellation)
{
    weft_deferred *d = weft_defer_later(the_clock(), 1, give_7, NULL);

    weft_deferred_add_both(d, drop_on_cancel, d);
    weft_deferred_cancel(d);
    cr_assert_eq(weft_live_counts_get().deferreds, 0);
    cr_assert_eq(weft_live_counts_get().errors, 0);
    end();
}

Test(later, fired_by_hand_runs_at_once_and_leaves_no_timer)
{
    struct value value = {.name = "v"};
    weft_deferred *d = weft_defer_later(the_clock(), 1, give_7, NULL), *e = weft_defer_later(the_clock(), 1, give_7, NULL);

    weft_deferred_callback(d, value_of(&value));
    weft_deferred_callback(e, broken());
    cr_assert_eq(value.drops, 1);
    cr_assert_eq(weft_test_clock_count_timers(tc), 0);
    finish(d, "d");
    finish(e, "e");
    cr_assert_str_eq(trace_text(), "ran@0 d=7 e=!broken");
    end();
}

Test(later, left_by_a_clock_that_was_freed_can_be_cancelled)
{
    weft_deferred *d = weft_defer_later(the_clock(), 1, give_7, NULL);

    log_capture();
    end();
    cr_assert_eq(log_count("1 timers"), 1);
    weft_deferred_cancel(d);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=!cancelled");
}

Test(later, without_a_clock_is_a_misuse)
{
    finish(weft_defer_later(NULL, 1, give_7, NULL), "d");
    cr_assert_str_eq(trace_text(), "d=!misuse");
}

/* ---- contexts ---- */

static weft_result note_current(void *label)
{
    trace("%s@%s", (const char *)label, weft_context_get_name(weft_context_current()));
    return weft_ok(NULL);
}

Test(later, runs_in_the_context_of_whoever_asked)
{
    weft_context *previous = enter("asker");
    weft_deferred *d = weft_defer_later(the_clock(), 1, note_current, (void *)"d");

    leave(previous);
    previous = enter("other");
    weft_test_clock_advance(tc, 1);
    cr_assert_str_eq(weft_context_get_name(weft_context_current()), "other");
    leave(previous);
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "d@asker");
    end();
}

/* ---- with others ---- */

static weft_result again(void *left)
{
    if (!--*(int *)left)
        return weft_int(9);
    return weft_later(weft_defer_later(the_clock(), 1, again, left));
}

/* 69 [C], #9819: waits one after the other, all in one advance. */
Test(later, r69_chained_ones_all_end_in_one_advance)
{
    int left = 5;
    weft_deferred *d = weft_defer_later(the_clock(), 1, again, &left);

    weft_test_clock_advance(tc, 4.5);
    cr_assert_eq(left, 1);
    weft_test_clock_advance(tc, 0.5);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=9");
    end();
}

static void many_chained(void *arg)
{
    int left = MANY;
    weft_deferred *d;

    (void)arg;
    d = weft_defer_later(the_clock(), 1, again, &left);
    cr_assert(weft_test_clock_advance(tc, MANY));
    cr_assert_str_eq(told(weft_deferred_take_result(d)), "9");
    weft_deferred_unref(d);
    end();
}

Test(later, chained_a_million_times_needs_no_stack, .timeout = 60)
{
    with_small_stack(many_chained, NULL);
}

Test(later, covered_by_a_timeout_stops_its_timer)
{
    weft_deferred *d = weft_defer_later(the_clock(), 5, give_7, NULL);

    weft_deferred_add_timeout(d, the_clock(), 3);
    weft_test_clock_advance(tc, 3);
    cr_assert_eq(weft_test_clock_count_timers(tc), 0);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=!timed_out");
    end();
}

static weft_result give_8(void *unused)
{
    (void)unused;
    return weft_int(8);
}

Test(later, works_on_the_clock_of_a_reactor)
{
    weft_reactor *reactor;

    cr_assert_null(weft_reactor_new(&reactor));
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, weft_defer_later(weft_clock_current(), 0.001, give_8, NULL))), "8");
    weft_reactor_free(reactor);
}

Test(later, paused_does_not_hold_itself)
{
    weft_deferred *due = weft_defer_later(the_clock(), 1, NULL, NULL), *dropped, *cancelled;

    noted(due, "due");
    weft_deferred_pause(due);
    weft_test_clock_advance(tc, 2);
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unref(due);
    cr_assert_str_eq(trace_text(), "due=nil", "nobody is left who could unpause it");
    dropped = noted(weft_defer_later(the_clock(), 1, NULL, NULL), "dropped");
    weft_deferred_pause(dropped);
    weft_deferred_unref(dropped);
    weft_test_clock_advance(tc, 2);
    cr_assert_str_eq(trace_text(), "dropped=nil");
    cancelled = noted(weft_defer_later(the_clock(), 1, NULL, NULL), "cancelled");
    weft_deferred_pause(cancelled);
    weft_deferred_cancel(cancelled);
    weft_deferred_unref(cancelled);
    cr_assert_str_eq(trace_text(), "cancelled=!cancelled");
    end();
}

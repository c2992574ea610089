/* Looping calls: rule 71 of Twisted's LoopingCall with its [C], and pitfall 17: it dies unnoticed, stop does not cancel, a
 * cancel does not stop, start after stop breaks. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static weft_test_clock *tc;

static weft_clock *the_clock(void)
{
    if (!tc)
        tc = weft_test_clock_new();
    return weft_test_clock_get_clock(tc);
}

static double seconds(void)
{
    return (double)weft_clock_now(the_clock()) / 1e9;
}

static weft_looping_call *call;

static void with_call(weft_looping_call_fn *fn, void *arg)
{
    call = weft_looping_call_new(the_clock(), fn, arg);
}

static void end(void)
{
    call = weft_looping_call_free(call);
    cr_assert_eq(tc ? weft_test_clock_count_timers(tc) : 0, 0);
    tc = weft_test_clock_free(tc);
}

static weft_deferred *start(double interval)
{
    return weft_looping_call_start(call, (weft_looping_call_options){.interval = interval});
}

static weft_deferred *start_delayed(double interval)
{
    return weft_looping_call_start(call, (weft_looping_call_options){.interval = interval, .delayed = true});
}

static weft_deferred *start_ending(double interval)
{
    return weft_looping_call_start(call, (weft_looping_call_options){.interval = interval, .ends_on_error = true});
}

/* Traces the final result under `label` and lets go of the deferred. */
static void finish(weft_deferred *d, const char *label)
{
    trace("%s=%s", label, told(weft_deferred_take_result(d)));
    weft_deferred_unref(d);
}

static void stop(void)
{
    weft_deferred_unref(weft_looping_call_stop(call));
}

/* ---- what rounds do ---- */

static weft_result tick(uint64_t count, void *unused)
{
    (void)unused;
    trace("%d@%g", (int)count, seconds());
    return weft_ok(NULL);
}

static weft_result be_late(uint64_t count, void *lateness)
{
    tick(count, NULL);
    weft_test_clock_stall(tc, *(double *)lateness);
    return weft_ok(NULL);
}

static weft_result fail(uint64_t count, void *unused)
{
    tick(count, unused);
    return broken();
}

/* Each round is what the test puts there; success without one. */
static weft_result wait(uint64_t count, void *round)
{
    weft_deferred **d = round;

    tick(count, NULL);
    return *d ? weft_later(weft_deferred_ref(*d)) : weft_ok(NULL);
}

/* ---- the grid ---- */

Test(looping_call, r71_runs_at_the_start_and_after_each_interval)
{
    weft_deferred *d;

    with_call(tick, NULL);
    weft_test_clock_advance(tc, 0.25);
    d = start(1);
    cr_assert_str_eq(trace_text(), "1@0.25", "inside start");
    cr_assert(weft_looping_call_running(call));
    weft_test_clock_advance(tc, 0.9);
    cr_assert_str_eq(trace_text(), "");
    weft_test_clock_advance(tc, 2.5);
    cr_assert_str_eq(trace_text(), "1@1.25 1@2.25 1@3.25");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    stop();
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=nil");
    cr_assert_eq(weft_test_clock_count_timers(tc), 0);
    end();
}

Test(looping_call, r71_delayed_begins_after_one_interval)
{
    weft_deferred *d;

    with_call(tick, NULL);
    d = start_delayed(2);
    weft_test_clock_advance(tc, 1.9);
    cr_assert_str_eq(trace_text(), "");
    weft_test_clock_advance(tc, 4);
    cr_assert_str_eq(trace_text(), "1@2 1@4");
    stop();
    finish(d, "d");
    end();
}

Test(looping_call, r71_skips_the_rounds_it_misses_and_tells_their_number)
{
    double late = 2.5;
    weft_deferred *d;

    with_call(be_late, &late);
    d = start(1);
    weft_test_clock_advance(tc, 0.5);
    cr_assert_str_eq(trace_text(), "1@0 3@3", "2.5 have passed: on the grid again at 3");
    late = 0;
    weft_test_clock_advance(tc, 3.5);
    cr_assert_str_eq(trace_text(), "3@6 1@7 1@8 1@9");
    stop();
    finish(d, "d");
    end();
}

Test(looping_call, r71_a_late_round_counts_up_to_now_and_the_next_is_on_the_grid)
{
    weft_deferred *d;

    with_call(tick, NULL);
    d = start(1);
    weft_test_clock_stall(tc, 3.75);
    weft_test_clock_advance(tc, 0);
    weft_test_clock_advance(tc, 0.25);
    cr_assert_str_eq(trace_text(), "1@0 3@3.75 1@4");
    stop();
    finish(d, "d");
    end();
}

Test(looping_call, r71_a_delayed_first_round_that_comes_late_counts_what_has_passed)
{
    weft_deferred *d;

    with_call(tick, NULL);
    d = start_delayed(1);
    weft_test_clock_stall(tc, 2.5);
    weft_test_clock_advance(tc, 0);
    cr_assert_str_eq(trace_text(), "2@2.5");
    stop();
    finish(d, "d");
    end();
}

Test(looping_call, r71_a_round_that_ends_just_on_the_grid_has_missed_that_point)
{
    double late = 1;
    weft_deferred *d;

    with_call(be_late, &late);
    d = start(1);
    late = 0;
    weft_test_clock_advance(tc, 2);
    cr_assert_str_eq(trace_text(), "1@0 2@2 1@3");
    stop();
    finish(d, "d");
    end();
}

static uint64_t total;
static int rounds;

static weft_result add_up(uint64_t count, void *most)
{
    total += count;
    rounds++;
    cr_assert_neq(count, 0);
    if (most && count > *(uint64_t *)most)
        *(uint64_t *)most = count;
    return weft_ok(NULL);
}

/* Twisted's float boundary: a tenth of a second is no sum of halves, and 10 of them were not 1 s. */
Test(looping_call, r71_no_fraction_gives_a_count_of_0_or_a_second_round)
{
    static const double intervals[] = {0.1, 0.3, 1.0 / 3, 0.7, 1e-3 / 7, 0.9999999999, 1.1, 1e-9, 1e-12};
    static const double steps[] = {0.1, 1.0 / 3, 0.7, 1e-3};

    for (size_t i = 0; i < sizeof intervals / sizeof *intervals; i++) {
        for (size_t j = 0; j < sizeof steps / sizeof *steps; j++) {
            int64_t nanoseconds = intervals[i] < 1e-9 ? 1 : (int64_t)(intervals[i] * 1e9 + 0.5);
            int64_t began;

            total = 0;
            with_call(add_up, NULL);
            began = weft_clock_now(the_clock());
            weft_deferred_unref(start(intervals[i]));
            for (int step = 0; step < 50; step++) {
                weft_test_clock_stall(tc, steps[j]); /* a round each at most, so that 1 ns needs no thousand million */
                weft_test_clock_turn(tc);
            }
            cr_assert_eq(total, 1 + (uint64_t)((weft_clock_now(the_clock()) - began) / nanoseconds));
            stop();
            weft_looping_call_free(call);
            call = NULL;
        }
    }
    end();
}

Test(looping_call, r71_does_not_drift)
{
    uint64_t most = 0;

    with_call(add_up, &most);
    weft_deferred_unref(start(0.1));
    for (int i = 0; i < 10000; i++)
        weft_test_clock_advance(tc, 0.1);
    cr_assert_eq(rounds, 10001);
    cr_assert_eq(total, 10001);
    cr_assert_eq(most, 1);
    cr_assert_eq(weft_clock_now(the_clock()), 1000 * INT64_C(1000000000));
    end();
}

Test(looping_call, r71_an_interval_of_0_is_every_turn)
{
    weft_deferred *d;

    with_call(tick, NULL);
    d = start(0);
    cr_assert_str_eq(trace_text(), "1@0");
    cr_assert_eq(weft_test_clock_turn(tc), 1);
    cr_assert_str_eq(trace_text(), "1@0");
    weft_test_clock_stall(tc, 3);
    cr_assert_eq(weft_test_clock_turn(tc), 1);
    cr_assert_str_eq(trace_text(), "1@3", "no intervals to be counted");
    stop();
    finish(d, "d");
    end();
}

Test(looping_call, r71_an_interval_of_0_does_not_hang_the_test)
{
    log_capture();
    with_call(add_up, NULL);
    weft_deferred_unref(start(0));
    cr_assert_not(weft_test_clock_advance(tc, 1));
    cr_assert_eq(rounds, 10001);
    cr_assert_eq(log_count("gives up"), 1);
    end();
}

Test(looping_call, an_endless_interval_is_one_round)
{
    weft_deferred *d;

    with_call(tick, NULL);
    d = start(HUGE_VAL);
    weft_test_clock_advance(tc, 1e9);
    cr_assert_str_eq(trace_text(), "1@0");
    stop();
    finish(d, "d");
    end();
}

Test(looping_call, r71_refuses_a_negative_interval)
{
    with_call(tick, NULL);
    finish(start(-1), "negative");
    finish(start(NAN), "nan");
    finish(start(-HUGE_VAL), "endless");
    cr_assert_str_eq(trace_text(), "negative=!misuse nan=!misuse endless=!misuse");
    cr_assert_not(weft_looping_call_running(call));
    weft_deferred_unref(start(1));
    cr_assert_str_eq(trace_text(), "1@0", "and can still be started");
    end();
}

/* ---- rounds that wait ---- */

Test(looping_call, r71_waits_for_the_deferred_of_a_round_and_never_overlaps)
{
    weft_deferred *round = pending(), *waited = round, *d;

    with_call(wait, &waited);
    d = start(1);
    weft_test_clock_advance(tc, 2.5);
    cr_assert_str_eq(trace_text(), "1@0");
    cr_assert_eq(weft_test_clock_count_timers(tc), 0);
    waited = NULL;
    weft_deferred_callback(round, weft_ok(NULL));
    weft_deferred_unref(round);
    cr_assert_str_eq(trace_text(), "", "not at once: on the grid");
    weft_test_clock_advance(tc, 2);
    cr_assert_str_eq(trace_text(), "3@3 1@4");
    stop();
    finish(d, "d");
    end();
}

Test(looping_call, r71_drops_what_rounds_bring)
{
    struct value value = {.name = "v"};
    weft_deferred *waited = done(value_of(&value));

    with_call(wait, &waited);
    weft_deferred_unref(start(1));
    cr_assert_eq(value.drops, 1);
    weft_deferred_unref(waited);
    waited = NULL;
    weft_test_clock_advance(tc, 1);
    cr_assert_str_eq(trace_text(), "1@0 1@1");
    end();
}

static weft_result let_it_go(uint64_t count, void *unused)
{
    tick(count, unused);
    return weft_later(pending()); /* nobody can fire it */
}

Test(looping_call, goes_on_when_nobody_is_left_who_could_end_a_round)
{
    weft_deferred *d;

    log_capture();
    with_call(let_it_go, NULL);
    d = start(1);
    weft_test_clock_advance(tc, 1);
    cr_assert_str_eq(trace_text(), "1@0 1@1");
    cr_assert_eq(log_count("failed: orphaned:"), 2);
    stop();
    finish(d, "d");
    end();
}

Test(looping_call, a_round_that_somebody_else_waits_for_is_a_misuse)
{
    weft_deferred *waited = pending(), *other = weft_deferred_add_both(pending(), return_later, weft_deferred_ref(waited)), *d;

    weft_deferred_callback(other, weft_ok(NULL));
    with_call(wait, &waited);
    d = start_ending(1);
    finish(d, "d");
    weft_deferred_callback(waited, weft_int(3));
    finish(other, "other");
    weft_deferred_unref(waited);
    cr_assert_str_eq(trace_text(), "1@0 d=!misuse other=3");
    end();
}

static weft_result wait_for_the_end(uint64_t count, void *d)
{
    if (!*(weft_deferred **)d)
        return weft_ok(NULL);
    tick(count, NULL);
    return weft_later(weft_deferred_ref(*(weft_deferred **)d));
}

Test(looping_call, a_round_that_waits_for_the_end_of_its_own_looping_call_is_a_misuse)
{
    weft_deferred *d = NULL;

    with_call(wait_for_the_end, &d);
    d = start_ending(1);
    weft_test_clock_advance(tc, 1);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "1@1 d=!misuse");
    end();
}

/* ---- errors ---- */

/* [C] synapse #3929: the one bad round must not be the last, nor may it go unnoticed. */
Test(looping_call, r71_survives_an_error_and_logs_it)
{
    weft_context *previous = enter("purge");
    weft_deferred *d;

    log_capture();
    with_call(fail, NULL);
    d = start(1);
    leave(previous);
    weft_test_clock_advance(tc, 2);
    cr_assert_str_eq(trace_text(), "1@0 1@1 1@2");
    cr_assert_eq(log_count("ERROR purge a round of the looping call started at tests/test_looping_call.c"), 3);
    cr_assert_eq(log_count("failed: broken: it broke"), 3);
    stop();
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=nil");
    end();
}

Test(looping_call, r71_survives_the_error_of_a_round_that_it_waits_for)
{
    weft_context *previous = enter("purge");
    weft_deferred *round = pending(), *waited = round, *d;

    log_capture();
    with_call(wait, &waited);
    d = start(1);
    leave(previous);
    waited = NULL;
    weft_deferred_callback(round, broken());
    weft_deferred_unref(round);
    weft_test_clock_advance(tc, 1);
    cr_assert_str_eq(trace_text(), "1@0 1@1");
    cr_assert_eq(log_count("ERROR purge a round"), 1);
    stop();
    finish(d, "d");
    end();
}

Test(looping_call, r71_ends_with_an_error_if_told_to)
{
    weft_deferred *d;

    with_call(fail, NULL);
    d = start_ending(1);
    cr_assert_not(weft_looping_call_running(call));
    finish(d, "d");
    weft_test_clock_advance(tc, 5);
    cr_assert_str_eq(trace_text(), "1@0 d=!broken");
    end();
}

Test(looping_call, r71_ends_with_the_error_of_a_round_that_it_waits_for_if_told_to)
{
    weft_deferred *round = pending(), *waited = round, *d;

    with_call(wait, &waited);
    d = noted(start_ending(1), "d");
    weft_deferred_callback(round, broken());
    weft_deferred_unref(round);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "1@0 d=!broken d=!broken");
    cr_assert_eq(weft_test_clock_count_timers(tc), 0);
    end();
}

Test(looping_call, r71_that_ends_with_an_error_which_nobody_takes_is_reported)
{
    log_capture();
    with_call(fail, NULL);
    weft_deferred_unref(start_ending(1));
    cr_assert_eq(log_count("unhandled error in the deferred made at tests/test_looping_call.c"), 1);
    trace_text();
    end();
}

Test(looping_call, a_round_that_somebody_else_cancels_is_a_round_like_others)
{
    weft_deferred *round = pending(), *waited = round, *d;

    log_capture();
    with_call(wait, &waited);
    d = start_ending(1);
    waited = NULL;
    weft_deferred_cancel(round);
    weft_deferred_unref(round);
    weft_test_clock_advance(tc, 1);
    cr_assert_str_eq(trace_text(), "1@0 1@1");
    cr_assert_eq(log_count(""), 0);
    stop();
    finish(d, "d");
    end();
}

Test(looping_call, a_round_that_is_cancelled_as_the_program_ends_is_the_last)
{
    weft_deferred *round = pending(), *d;

    with_call(wait, &round);
    d = start(1);
    weft_deferred_cancel_with(round, weft_error_new(&WEFT_SHUTDOWN, "the program ends"));
    weft_deferred_unref(round);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "1@0 d=!shutdown");
    end();
}

/* ---- stop ---- */

/* [C] #11814. */
Test(looping_call, r71_stop_cancels_the_round_under_way)
{
    weft_deferred *round = stoppable(cancel_done, "round"), *d, *stopped;

    with_call(wait, &round);
    d = noted(start(1), "d");
    stopped = noted(weft_looping_call_stop(call), "stopped");
    cr_assert_str_eq(trace_text(), "1@0 round d=nil stopped=nil");
    cr_assert_not(weft_looping_call_running(call));
    weft_deferred_unref(round);
    weft_deferred_unref(d);
    weft_deferred_unref(stopped);
    end();
}

Test(looping_call, r71_stop_waits_for_a_round_that_takes_its_time)
{
    weft_deferred *round = stoppable(cancel_later, "round"), *d, *first, *second;

    log_capture();
    with_call(wait, &round);
    d = noted(start(1), "d");
    first = noted(weft_looping_call_stop(call), "first");
    second = noted(weft_looping_call_stop(call), "second");
    weft_test_clock_advance(tc, 5);
    cr_assert_str_eq(trace_text(), "1@0 round", "asked once");
    cr_assert(weft_looping_call_running(call));
    weft_deferred_errback(round, weft_error_ref(weft_deferred_get_cancellation(round)));
    cr_assert_str_eq(trace_text(), "d=nil first=nil second=nil");
    cr_assert_eq(log_count(""), 0, "its cancellation is no error");
    weft_deferred_unref(round);
    weft_deferred_unref(d);
    weft_deferred_unref(first);
    weft_deferred_unref(second);
    end();
}

Test(looping_call, r71_stop_takes_a_value_that_a_cancelled_round_brings_after_all)
{
    weft_deferred *round = stoppable(cancel_later, "round"), *d;
    struct value value = {.name = "v"};

    with_call(wait, &round);
    d = start(1);
    stop();
    weft_deferred_callback(round, value_of(&value));
    weft_deferred_unref(round);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "1@0 round d=nil");
    cr_assert_eq(value.drops, 1);
    end();
}

Test(looping_call, a_round_that_fails_while_it_is_stopped_is_an_error_by_the_same_policy)
{
    weft_deferred *round = stoppable(cancel_later, "round"), *d;

    log_capture();
    with_call(wait, &round);
    d = start(1);
    stop();
    weft_deferred_callback(round, broken());
    finish(d, "survives");
    cr_assert_eq(log_count("failed: broken"), 1);
    weft_deferred_unref(round);
    round = stoppable(cancel_later, "round");
    d = start_ending(1);
    finish(weft_looping_call_start(call, (weft_looping_call_options){.interval = 1}), "again");
    weft_deferred_unref(weft_looping_call_stop(call));
    weft_deferred_callback(round, broken());
    finish(d, "ends");
    weft_deferred_unref(round);
    cr_assert_str_eq(trace_text(), "1@0 round survives=nil 1@0 again=!misuse round ends=!broken");
    end();
}

Test(looping_call, r71_stop_before_the_first_round_leaves_none)
{
    weft_deferred *d;

    with_call(tick, NULL);
    d = start_delayed(1);
    stop();
    finish(d, "d");
    cr_assert_eq(weft_test_clock_count_timers(tc), 0);
    weft_test_clock_advance(tc, 5);
    cr_assert_str_eq(trace_text(), "d=nil");
    end();
}

Test(looping_call, stop_when_it_does_not_run_is_fine)
{
    with_call(tick, NULL);
    finish(weft_looping_call_stop(call), "never");
    weft_deferred_unref(start(1));
    stop();
    finish(weft_looping_call_stop(call), "twice");
    cr_assert_str_eq(trace_text(), "never=nil 1@0 twice=nil");
    end();
}

static weft_result stop_inside(uint64_t count, void *round)
{
    weft_deferred *stopped = noted(weft_looping_call_stop(call), "stopped");

    weft_deferred_unref(stopped);
    trace("inside");
    return wait(count, round);
}

Test(looping_call, r71_stopped_by_a_round_ends_when_that_returns)
{
    weft_deferred *none = NULL, *d;

    with_call(stop_inside, &none);
    d = noted(start(1), "d");
    cr_assert_str_eq(trace_text(), "inside 1@0 stopped=nil d=nil");
    weft_deferred_unref(d);
    weft_test_clock_advance(tc, 5);
    cr_assert_str_eq(trace_text(), "");
    end();
}

Test(looping_call, r71_stopped_by_a_later_round_has_told_its_starter_first)
{
    weft_deferred *none = NULL, *d;

    with_call(stop_inside, &none);
    d = noted(start_delayed(1), "d");
    weft_test_clock_advance(tc, 5);
    cr_assert_str_eq(trace_text(), "inside 1@1 d=nil stopped=nil");
    weft_deferred_unref(d);
    end();
}

Test(looping_call, stopped_by_a_round_cancels_what_that_returns)
{
    weft_deferred *round = stoppable(cancel_later, "round"), *d;

    with_call(stop_inside, &round);
    d = start(1);
    cr_assert_str_eq(trace_text(), "inside 1@0 round");
    cr_assert(weft_looping_call_running(call));
    weft_deferred_callback(round, weft_ok(NULL));
    weft_deferred_unref(round);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "stopped=nil d=nil");
    end();
}

static weft_result wait_for_the_stop(uint64_t count, void *unused)
{
    tick(count, unused);
    return weft_later(weft_looping_call_stop(call));
}

Test(looping_call, stopped_by_a_round_that_waits_for_that_ends_nevertheless)
{
    weft_deferred *d;

    with_call(wait_for_the_stop, NULL);
    d = start(1);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "1@0 d=nil");
    end();
}

Test(looping_call, cancelling_a_stop_ends_only_the_waiting_for_it)
{
    weft_deferred *round = stoppable(cancel_later, "round"), *d, *stops[3];

    with_call(wait, &round);
    d = start(1);
    for (int i = 0; i < 3; i++)
        stops[i] = weft_looping_call_stop(call);
    weft_deferred_cancel(stops[1]);
    weft_deferred_cancel(stops[2]);
    cr_assert(weft_looping_call_running(call));
    weft_deferred_callback(round, weft_ok(NULL));
    weft_deferred_unref(round);
    finish(d, "d");
    for (int i = 0; i < 3; i++)
        finish(stops[i], "stop");
    cr_assert_str_eq(trace_text(), "1@0 round d=nil stop=nil stop=!cancelled stop=!cancelled");
    end();
}

static weft_result cancel_the_other(weft_result result, void *other)
{
    weft_deferred_cancel(other);
    return result;
}

Test(looping_call, a_stop_may_be_cancelled_while_stops_are_told)
{
    weft_deferred *round = stoppable(cancel_later, "round"), *first, *second;

    with_call(wait, &round);
    weft_deferred_unref(start(1));
    first = weft_looping_call_stop(call);
    second = weft_looping_call_stop(call);
    weft_deferred_add_both(first, cancel_the_other, second);
    weft_deferred_callback(round, weft_ok(NULL));
    weft_deferred_unref(round);
    finish(first, "first");
    finish(second, "second");
    cr_assert_str_eq(trace_text(), "1@0 round first=nil second=!cancelled");
    end();
}

/* ---- cancelling start's deferred ---- */

/* [C] #6656. */
Test(looping_call, r71_cancelling_the_start_stops_it)
{
    weft_deferred *d;

    with_call(tick, NULL);
    d = noted(start(1), "d");
    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "1@0 d=!cancelled");
    cr_assert_not(weft_looping_call_running(call));
    weft_test_clock_advance(tc, 5);
    cr_assert_str_eq(trace_text(), "");
    finish(d, "d");
    end();
    trace_text();
}

Test(looping_call, r71_cancelling_the_start_cancels_the_round_and_waits_for_it)
{
    weft_deferred *round = stoppable(cancel_later, "round"), *d, *stopped;
    weft_error *gone = weft_error_new(&WEFT_CLIENT_GONE, "the client left");
    weft_result result;

    with_call(wait, &round);
    d = start(1);
    weft_deferred_cancel_with(d, weft_error_ref(gone));
    cr_assert(weft_error_same(weft_deferred_get_cancellation(round), gone), "with the same cause");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    stopped = weft_looping_call_stop(call);
    weft_deferred_errback(round, weft_error_ref(gone));
    weft_deferred_unref(round);
    result = weft_deferred_take_result(d);
    cr_assert(weft_error_same(weft_failed(result), gone));
    weft_result_drop(result);
    weft_deferred_unref(d);
    weft_error_unref(gone);
    finish(stopped, "stopped");
    cr_assert_str_eq(trace_text(), "1@0 round stopped=nil");
    end();
}

Test(looping_call, cancelling_the_start_while_it_is_stopped_ends_with_the_cancellation)
{
    weft_deferred *round = stoppable(cancel_later, "round"), *d;

    with_call(wait, &round);
    d = start(1);
    stop();
    weft_deferred_cancel(d);
    weft_deferred_callback(round, weft_ok(NULL));
    weft_deferred_unref(round);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "1@0 round d=!cancelled");
    end();
}

static weft_result cancel_the_start(uint64_t count, void *d)
{
    tick(count, NULL);
    if (*(weft_deferred **)d)
        weft_deferred_cancel(*(weft_deferred **)d);
    return weft_ok(NULL);
}

Test(looping_call, cancelled_by_a_round_ends_when_that_returns)
{
    weft_deferred *d = NULL;

    with_call(cancel_the_start, &d);
    d = start(1);
    weft_test_clock_advance(tc, 5);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "1@0 1@1 d=!cancelled");
    end();
}

/* ---- start, again ---- */

/* [C] #2998, #2804. */
Test(looping_call, r71_can_be_started_again_after_a_stop)
{
    weft_deferred *first, *second;

    with_call(tick, NULL);
    first = start(1);
    weft_test_clock_advance(tc, 1.5);
    stop();
    second = start(2);
    weft_test_clock_advance(tc, 2);
    stop();
    finish(first, "first");
    finish(second, "second");
    cr_assert_str_eq(trace_text(), "1@0 1@1 1@1.5 1@3.5 first=nil second=nil");
    end();
}

Test(looping_call, r71_starting_it_while_it_runs_is_a_misuse)
{
    weft_deferred *round = stoppable(cancel_later, "round"), *d;

    with_call(wait, &round);
    d = start(1);
    finish(start(1), "running");
    stop();
    finish(start(1), "stopping");
    weft_deferred_callback(round, weft_ok(NULL));
    weft_deferred_unref(round);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "1@0 running=!misuse round stopping=!misuse d=nil");
    end();
}

static weft_result restart_inside(uint64_t count, void *unused)
{
    tick(count, unused);
    stop();
    finish(start(1), "inside");
    return weft_ok(NULL);
}

Test(looping_call, started_by_a_round_has_not_ended_yet)
{
    weft_deferred *d;

    with_call(restart_inside, NULL);
    d = start(1);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "1@0 inside=!misuse d=nil");
    end();
}

static weft_result stop_it(uint64_t count, void *unused)
{
    add_up(count, unused);
    stop();
    return weft_ok(NULL);
}

static weft_result start_again(weft_result result, void *unused)
{
    (void)unused;
    if (rounds < MANY)
        weft_deferred_unref(weft_deferred_add_both(start(1), start_again, NULL));
    return result;
}

static void restart_many_times(void *arg)
{
    (void)arg;
    with_call(stop_it, NULL);
    weft_deferred_unref(weft_deferred_add_both(start_delayed(1), start_again, NULL));
    weft_test_clock_stall(tc, 1);
    while (weft_test_clock_turn(tc))
        ;
    cr_assert_eq(rounds, MANY);
    end();
}

/* Each round ends it, and its end starts it: were the first round inside start then, this would nest. */
Test(looping_call, r71_started_again_by_its_end_a_million_times_needs_no_stack, .timeout = 60)
{
    with_small_stack(restart_many_times, NULL);
}

Test(looping_call, without_a_clock_is_a_misuse)
{
    call = weft_looping_call_new(NULL, tick, NULL);
    finish(start(1), "d");
    weft_looping_call_reset(call);
    cr_assert_str_eq(trace_text(), "d=!misuse");
    end();
}

/* ---- reset ---- */

Test(looping_call, r71_reset_begins_the_interval_anew)
{
    weft_deferred *d;

    with_call(tick, NULL);
    weft_looping_call_reset(call);
    d = start(1);
    weft_test_clock_advance(tc, 0.75);
    weft_looping_call_reset(call);
    weft_test_clock_advance(tc, 0.75);
    weft_looping_call_reset(call);
    weft_test_clock_advance(tc, 2);
    cr_assert_str_eq(trace_text(), "1@0 1@2.5 1@3.5");
    stop();
    weft_looping_call_reset(call);
    cr_assert_eq(weft_test_clock_count_timers(tc), 0);
    finish(d, "d");
    end();
}

Test(looping_call, r71_reset_while_a_round_is_waited_for_moves_the_grid)
{
    weft_deferred *round = pending(), *waited = round, *d;

    with_call(wait, &waited);
    d = start(1);
    waited = NULL;
    weft_test_clock_advance(tc, 0.5);
    weft_looping_call_reset(call);
    cr_assert_eq(weft_test_clock_count_timers(tc), 0);
    weft_test_clock_advance(tc, 1.75);
    weft_deferred_callback(round, weft_ok(NULL));
    weft_deferred_unref(round);
    weft_test_clock_advance(tc, 2);
    cr_assert_str_eq(trace_text(), "1@0 2@2.5 1@3.5");
    stop();
    finish(d, "d");
    end();
}

static weft_result reset_inside(uint64_t count, void *late)
{
    be_late(count, late);
    weft_looping_call_reset(call);
    return weft_ok(NULL);
}

Test(looping_call, r71_reset_by_a_round_makes_the_interval_a_pause)
{
    double late = 0.25;
    weft_deferred *d;

    with_call(reset_inside, &late);
    d = start(1);
    weft_test_clock_advance(tc, 3);
    cr_assert_str_eq(trace_text(), "1@0 1@1.25 1@2.5");
    stop();
    finish(d, "d");
    end();
}

/* ---- freeing ---- */

Test(looping_call, freed_between_rounds_has_ended)
{
    weft_deferred *d;

    with_call(tick, NULL);
    d = noted(start(1), "d");
    end();
    cr_assert_str_eq(trace_text(), "1@0 d=nil");
    weft_deferred_unref(d);
    cr_assert_null(weft_looping_call_free(NULL));
}

Test(looping_call, freed_during_a_round_cancels_it_and_goes_when_it_has_ended)
{
    weft_deferred *round = stoppable(cancel_later, "round"), *d, *stopped;

    with_call(wait, &round);
    d = noted(start(1), "d");
    stopped = noted(weft_looping_call_stop(call), "stopped");
    call = weft_looping_call_free(call);
    cr_assert_str_eq(trace_text(), "1@0 round");
    weft_deferred_callback(round, weft_ok(NULL));
    weft_deferred_unref(round);
    weft_deferred_unref(d);
    weft_deferred_unref(stopped);
    cr_assert_str_eq(trace_text(), "d=nil stopped=nil");
    end();
}

static weft_result free_inside(uint64_t count, void *round)
{
    call = weft_looping_call_free(call);
    return wait(count, round);
}

Test(looping_call, may_be_freed_by_its_first_round)
{
    weft_deferred *none = NULL, *d;

    with_call(free_inside, &none);
    d = start(1);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "1@0 d=nil");
    end();
}

Test(looping_call, may_be_freed_by_a_round_that_waits)
{
    weft_deferred *round = stoppable(cancel_later, "round"), *d;

    with_call(free_inside, &round);
    d = start_delayed(1);
    weft_test_clock_advance(tc, 3);
    cr_assert_str_eq(trace_text(), "1@1 round");
    weft_deferred_cancel(d);
    weft_deferred_callback(round, weft_ok(NULL));
    weft_deferred_unref(round);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=!cancelled");
    end();
}

static weft_result free_it(weft_result result, void *unused)
{
    (void)unused;
    call = weft_looping_call_free(call);
    return result;
}

Test(looping_call, may_be_freed_by_a_callback_of_its_end)
{
    weft_deferred *d, *stopped;

    with_call(tick, NULL);
    d = weft_deferred_add_both(start(1), free_it, NULL);
    stopped = weft_looping_call_stop(call);
    finish(d, "d");
    finish(stopped, "stopped");
    with_call(tick, NULL);
    d = weft_deferred_add_both(start(1), free_it, NULL);
    weft_deferred_cancel(d);
    finish(d, "d");
    with_call(fail, NULL);
    d = weft_deferred_add_both(start_ending(1), free_it, NULL);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "1@0 d=nil stopped=nil 1@0 d=!cancelled 1@0 d=!broken");
    end();
}

static weft_result start_it(weft_result result, void *freed)
{
    finish(weft_looping_call_start((weft_looping_call *)freed, (weft_looping_call_options){.interval = 1}), "again");
    return result;
}

Test(looping_call, started_by_the_end_that_freeing_it_brings_is_a_misuse)
{
    weft_deferred *d;

    with_call(tick, NULL);
    d = weft_deferred_add_both(start(1), start_it, call);
    end();
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "1@0 again=!misuse d=nil");
}

static void value_that_stops_unref(void *unused)
{
    (void)unused;
    stop();
    trace("dropped");
}

static const weft_type value_that_stops = {"stopper", NULL, value_that_stops_unref};

static weft_result give_stopper(uint64_t count, void *unused)
{
    tick(count, unused);
    return weft_own(NULL, &value_that_stops);
}

Test(looping_call, may_be_stopped_by_the_value_of_a_round_being_dropped)
{
    weft_deferred *d;

    with_call(give_stopper, NULL);
    d = start(1);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "1@0 dropped d=nil");
    end();
}

Test(looping_call, survives_its_clock_being_freed_too_early)
{
    weft_deferred *d;

    log_capture();
    with_call(tick, NULL);
    d = start(1);
    tc = weft_test_clock_free(tc);
    call = weft_looping_call_free(call);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "1@0 d=nil");
}

/* ---- contexts ---- */

static weft_result note_current(uint64_t count, void *label)
{
    (void)count;
    trace("%s@%s", (const char *)label, weft_context_get_name(weft_context_current()));
    return weft_ok(NULL);
}

static weft_result leave_one_behind(uint64_t count, void *label)
{
    note_current(count, label);
    weft_context_unref(enter("forgotten"));
    return weft_ok(NULL);
}

Test(looping_call, runs_in_the_context_of_its_start)
{
    weft_context *previous = enter("starter");

    with_call(leave_one_behind, (void *)"a");
    weft_deferred_unref(start(1));
    cr_assert_str_eq(weft_context_get_name(weft_context_current()), "starter");
    leave(previous);
    weft_test_clock_advance(tc, 1);
    cr_assert_str_eq(trace_text(), "a@starter a@starter");
    cr_assert_eq(weft_live_counts_get().contexts, 1, "which it keeps");
    stop();
    cr_assert_eq(weft_live_counts_get().contexts, 0);
    end();
}

/* ---- many ---- */

static void many_rounds(void *arg)
{
    (void)arg;
    with_call(add_up, NULL);
    weft_deferred_unref(start(0));
    for (int i = 0; i < MANY; i++)
        weft_test_clock_turn(tc);
    cr_assert_eq(rounds, MANY + 1);
    stop();
    rounds = 0;
    weft_deferred_unref(start(1));
    cr_assert(weft_test_clock_advance(tc, MANY));
    cr_assert_eq(rounds, MANY + 1);
    end();
}

Test(looping_call, runs_a_million_rounds_on_a_small_stack, .timeout = 60)
{
    with_small_stack(many_rounds, NULL);
}

static void many_stops(void *arg)
{
    weft_deferred *round = stoppable(cancel_later, "round"), **stops = weft_alloc(MANY * sizeof *stops);
    int told_of = 0;

    (void)arg;
    with_call(wait, &round);
    weft_deferred_unref(start(1));
    for (int i = 0; i < MANY; i++)
        stops[i] = weft_looping_call_stop(call);
    weft_deferred_callback(round, weft_ok(NULL));
    weft_deferred_unref(round);
    for (int i = 0; i < MANY; i++) {
        told_of += weft_deferred_get_state(stops[i]) == WEFT_DONE;
        weft_deferred_unref(stops[i]);
    }
    cr_assert_eq(told_of, MANY);
    weft_free(stops);
    end();
}

Test(looping_call, tells_a_million_stops_on_a_small_stack, .timeout = 60)
{
    with_small_stack(many_stops, NULL);
}

/* ---- on a reactor ---- */

static weft_reactor *reactor;

static void with_reactor(void)
{
    cr_assert_null(weft_reactor_new(&reactor));
}

static void without_reactor(void)
{
    call = weft_looping_call_free(call);
    reactor = weft_reactor_free(reactor);
}

static weft_result stop_after_20(uint64_t count, void *unused)
{
    add_up(count, unused);
    if (rounds == 20)
        stop();
    return weft_ok(NULL);
}

/* Counts and rounds agree with the time that has passed, however late this machine is. */
Test(reactor_looping_call, r71_keeps_to_the_grid)
{
    static const double intervals[] = {0, 1e-6, 0.0003, 0.001};

    for (size_t i = 0; i < sizeof intervals / sizeof *intervals; i++) {
        int64_t before, interval = (int64_t)(intervals[i] * 1e9 + 0.5);

        with_reactor();
        call = weft_looping_call_new(weft_clock_current(), stop_after_20, NULL);
        rounds = 0;
        total = 0;
        before = weft_clock_now(weft_clock_current());
        cr_assert_str_eq(told(weft_reactor_run_until(reactor, start(intervals[i]))), "nil");
        cr_assert_eq(rounds, 20);
        cr_assert_geq(total, 20);
        cr_assert_leq((int64_t)(total - 1) * interval, weft_clock_now(weft_clock_current()) - before);
        without_reactor();
    }
}

static weft_result sleep_a_little(void *unused)
{
    (void)unused;
    return weft_sleep(0.0005);
}

static weft_result in_a_fiber(uint64_t count, void *unused)
{
    stop_after_20(count, unused);
    return weft_later(weft_spawn(sleep_a_little, NULL));
}

Test(reactor_looping_call, waits_for_the_fiber_of_a_round)
{
    with_reactor();
    call = weft_looping_call_new(weft_clock_current(), in_a_fiber, NULL);
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, start(0.0001))), "nil");
    cr_assert_eq(rounds, 20);
    cr_assert_eq(weft_live_counts_get().fibers, 0, "the last one, too, is over");
    without_reactor();
}

static weft_result sleep_long(void *unused)
{
    weft_result result = weft_sleep(3600);

    (void)unused;
    trace("slept=%s", told(result));
    return weft_ok(NULL);
}

static weft_result in_a_long_fiber(uint64_t count, void *unused)
{
    (void)count, (void)unused;
    return weft_later(weft_spawn(sleep_long, NULL));
}

Test(reactor_looping_call, r71_stop_cancels_the_fiber_of_a_round)
{
    with_reactor();
    call = weft_looping_call_new(weft_clock_current(), in_a_long_fiber, NULL);
    weft_deferred_unref(start(1));
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, weft_looping_call_stop(call))), "nil");
    cr_assert_str_eq(trace_text(), "slept=!cancelled");
    without_reactor();
}

static weft_result sleep_until_shutdown(void *unused)
{
    (void)unused;
    return weft_sleep(3600);
}

static weft_result in_a_sleeping_fiber(uint64_t count, void *unused)
{
    add_up(count, unused);
    return weft_later(weft_spawn(sleep_until_shutdown, NULL));
}

Test(reactor_looping_call, ends_with_the_reactor_under_its_round)
{
    weft_deferred *d;

    log_capture();
    with_reactor();
    call = weft_looping_call_new(weft_clock_current(), in_a_sleeping_fiber, NULL);
    d = start(0);
    reactor = weft_reactor_free(reactor);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=!shutdown");
    cr_assert_eq(log_count("unhandled error"), 1, "the end of the reactor tells of what nobody has taken by then");
    cr_assert_eq(log_count(""), 1);
    cr_assert_eq(rounds, 1);
    call = weft_looping_call_free(call);
}

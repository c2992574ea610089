/* Timeouts: a timer that cancels, and knows its own cancellation again. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <string.h>

#include "tests/support/manual_clock.h"

static struct manual_clock manual;

static weft_deferred *with_timeout(weft_deferred *d, double seconds)
{
    if (!manual.clock.now)
        manual_clock_init(&manual);
    return weft_deferred_add_timeout(d, &manual.clock, seconds);
}

Test(timeout, r34_returns_the_deferred)
{
    weft_deferred *d = pending();

    cr_assert_eq(with_timeout(d, 1), d);
    weft_deferred_callback(d, weft_int(1));
    weft_deferred_unref(d);
}

Test(timeout, r34_cancels_what_takes_too_long_and_says_timed_out)
{
    weft_deferred *d = with_timeout(noted(stoppable(cancel_done, "canceller"), "before"), 5);
    weft_result result;

    manual_clock_advance(&manual, 4.9);
    cr_assert_str_eq(trace_text(), "");
    manual_clock_advance(&manual, 0.1);
    cr_assert_str_eq(trace_text(), "canceller before=!cancelled");
    result = weft_deferred_take_result(d);
    cr_assert(weft_error_is(weft_failed(result), &WEFT_TIMED_OUT));
    cr_assert(weft_error_is(weft_failed(result), &WEFT_FAILURE), "to the caller, who did not ask for it");
    cr_assert(strstr(weft_error_get_message(weft_failed(result)), "5 s"));
    weft_result_drop(result);
    weft_deferred_unref(d);
}

Test(timeout, r34_does_nothing_to_a_result_in_time)
{
    weft_deferred *value = with_timeout(pending(), 5), *error = with_timeout(pending(), 5);

    weft_deferred_callback(value, weft_int(1));
    weft_deferred_callback(error, broken());
    cr_assert_eq(weft_live_counts_get().timers, 0, "the timer is stopped");
    manual_clock_advance(&manual, 10);
    conclude(value, "v");
    conclude(error, "e");
    cr_assert_str_eq(trace_text(), "v=1 e=!broken");
}

/* Its own identity [C]: only the timer's own cancellation is translated. */
Test(timeout, r37_leaves_a_cancel_by_hand_a_cancel)
{
    weft_deferred *d = with_timeout(pending(), 5);

    weft_deferred_cancel(d);
    cr_assert_eq(weft_live_counts_get().timers, 0);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=!cancelled");
}

Test(timeout, r37_leaves_a_cancel_by_hand_a_cancel_when_it_ends_after_the_time)
{
    weft_deferred *d = with_timeout(stoppable(cancel_later, "canceller"), 5);

    weft_deferred_cancel(d);
    manual_clock_advance(&manual, 6);
    weft_deferred_errback(d, weft_error_ref(weft_deferred_get_cancellation(d)));
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "canceller d=!cancelled");
}

static weft_result other_cancellation(weft_result result, void *unused)
{
    (void)unused;
    weft_result_drop(result);
    return weft_fail(weft_error_new(&WEFT_CANCELLED, "somebody else's"));
}

Test(timeout, r34_leaves_another_cancellation_that_comes_out_after_the_time)
{
    weft_deferred *d = with_timeout(weft_deferred_add_errback(pending(), other_cancellation, NULL), 5);

    manual_clock_advance(&manual, 6);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=!cancelled");
}

static weft_result pass_up(weft_result result, void *place)
{
    weft_error *held = weft_error_ref(weft_failed(result));

    result = weft_result_passed(result, place); /* somebody holds it: it goes up as another object */
    cr_assert_neq(weft_failed(result), held);
    weft_error_unref(held);
    return result;
}

Test(timeout, r34_knows_its_cancellation_by_whichever_way_it_came_up)
{
    static const weft_place place = {"x.c", "f", 1};
    weft_deferred *d = with_timeout(weft_deferred_add_errback(pending(), pass_up, (void *)&place), 5);

    manual_clock_advance(&manual, 5);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=!timed_out");
}

Test(timeout, r35_keeps_what_a_canceller_or_an_errback_makes_of_it)
{
    weft_deferred *value = with_timeout(weft_deferred_new(fire_value, NULL), 5);
    weft_deferred *error = with_timeout(weft_deferred_new(fire_error, NULL), 5);
    weft_deferred *handled = with_timeout(weft_deferred_add_errback(pending(), return_int, (void *)4), 5);

    manual_clock_advance(&manual, 5);
    conclude(value, "v");
    conclude(error, "e");
    conclude(handled, "h");
    cr_assert_str_eq(trace_text(), "v=9 e=!broken h=4");
}

Test(timeout, r35_cancels_the_inner_that_it_waits_for)
{
    weft_deferred *inner = stoppable(cancel_done, "inner"), *d = with_timeout(waiting_for(inner), 5);

    manual_clock_advance(&manual, 5);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "inner d=!timed_out");
    weft_deferred_unref(inner);
}

Test(timeout, r36_covers_the_callbacks_before_it_and_not_those_after)
{
    weft_deferred *before = pending(), *after = pending(), *d = pending();

    weft_deferred_add_both(d, return_later, weft_deferred_ref(before));
    with_timeout(d, 5);
    weft_deferred_add_both(d, return_later, weft_deferred_ref(after));
    weft_deferred_callback(d, weft_ok(NULL));
    cr_assert_eq(weft_live_counts_get().timers, 1, "it waits for what came before");
    weft_deferred_callback(before, weft_ok(NULL));
    cr_assert_eq(weft_live_counts_get().timers, 0);
    manual_clock_advance(&manual, 10);
    cr_assert_eq(weft_deferred_get_state(d), WEFT_WAITING);
    weft_deferred_callback(after, weft_int(1));
    weft_deferred_unref(before);
    weft_deferred_unref(after);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=1");
}

Test(timeout, r38_waits_for_a_cancelled_chain_that_resists)
{
    weft_deferred *resisting = with_timeout(stoppable(cancel_later, "canceller"), 5);
    weft_deferred *stopped = with_timeout(stoppable(cancel_later, "canceller"), 5);

    manual_clock_advance(&manual, 5);
    cr_assert_eq(weft_deferred_get_state(resisting), WEFT_PENDING);
    weft_deferred_callback(resisting, weft_int(1));
    weft_deferred_errback(stopped, weft_error_ref(weft_deferred_get_cancellation(stopped)));
    conclude(resisting, "r");
    conclude(stopped, "s");
    cr_assert_str_eq(trace_text(), "canceller canceller r=1 s=!timed_out");
}

Test(timeout, r38_on_one_that_is_done_is_over_at_once)
{
    weft_deferred *d = with_timeout(done(weft_int(1)), 5);

    cr_assert_eq(weft_live_counts_get().timers, 0);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=1");
}

Test(timeout, the_first_of_two_is_the_one_that_counts)
{
    weft_deferred *d = with_timeout(with_timeout(noted(pending(), "a"), 5), 3);

    manual_clock_advance(&manual, 3);
    cr_assert_str_eq(trace_text(), "a=!cancelled");
    cr_assert_eq(weft_live_counts_get().timers, 0);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=!timed_out");
}

Test(timeout, of_an_orphan_stops_its_timer)
{
    weft_deferred *d = noted(with_timeout(pending(), 5), "a");

    log_capture();
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "a=!orphaned");
    cr_assert_eq(weft_live_counts_get().timers, 0);
    manual_clock_advance(&manual, 10);
}

/* The timer only borrows the deferred, which here goes inside the timer's own cancel. */
Test(timeout, survives_the_deferred_going_when_it_fires)
{
    weft_deferred *d = with_timeout(weft_deferred_add_errback(pending(), let_go, NULL), 5);

    log_capture();
    weft_deferred_add_both(d, let_go, d);
    manual_clock_advance(&manual, 5);
    cr_assert_eq(weft_live_counts_get().deferreds, 0);
    cr_assert_eq(weft_live_counts_get().errors, 0);
}

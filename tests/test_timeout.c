/* Timeouts: a timer that cancels, and knows its own cancellation again. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <string.h>

static weft_test_clock *manual;

static weft_deferred *with_timeout(weft_deferred *d, double seconds)
{
    if (!manual)
        manual = weft_test_clock_new();
    return weft_deferred_add_timeout(d, weft_test_clock_get_clock(manual), seconds);
}

/* An answer of one's own: traces what comes out and makes it an 8. */
static weft_result answer(weft_result result, void *label)
{
    return return_int(note(result, label), (void *)8);
}

static weft_deferred *with_answer(weft_deferred *d, double seconds, weft_callback_fn *on_timeout, void *arg)
{
    if (!manual)
        manual = weft_test_clock_new();
    return weft_deferred_add_timeout_with(d, weft_test_clock_get_clock(manual), seconds, on_timeout, arg);
}

Test(timeout, r34_returns_the_deferred)
{
    weft_deferred *d = pending();

    cr_assert_eq(with_timeout(d, 1), d);
    cr_assert_eq(with_answer(d, 1, answer, (void *)"asked"), d);
    weft_deferred_callback(d, weft_int(1));
    weft_deferred_unref(d);
}

Test(timeout, r34_cancels_what_takes_too_long_and_says_timed_out)
{
    weft_deferred *d = with_timeout(noted(stoppable(cancel_done, "canceller"), "before"), 5);
    weft_result result;

    weft_test_clock_advance(manual, 4.9);
    cr_assert_str_eq(trace_text(), "");
    weft_test_clock_advance(manual, 0.1);
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
    weft_test_clock_advance(manual, 10);
    conclude(value, "v");
    conclude(error, "e");
    cr_assert_str_eq(trace_text(), "v=1 e=!broken");
}

/* Its own identity [C]: only the timer's own cancellation is translated. */
Test(timeout, r34_gives_way_to_an_answer_of_ones_own)
{
    weft_deferred *d = with_answer(pending(), 5, answer, (void *)"asked");

    weft_test_clock_advance(manual, 4.9);
    cr_assert_str_eq(trace_text(), "");
    weft_test_clock_advance(manual, 0.1);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "asked=!cancelled d=8");
}

Test(timeout, r37_asks_for_an_answer_to_whatever_comes_out_after_the_time)
{
    weft_deferred *value = with_answer(weft_deferred_new(fire_value, NULL), 5, answer, (void *)"value");
    weft_deferred *error = with_answer(weft_deferred_new(fire_error, NULL), 5, answer, (void *)"error");
    weft_deferred *handled = weft_deferred_add_errback(pending(), return_int, (void *)4);
    weft_deferred *late = with_answer(stoppable(cancel_later, "stop"), 5, answer, (void *)"late");

    with_answer(handled, 5, answer, (void *)"handled");
    weft_test_clock_advance(manual, 5);
    cr_assert_str_eq(trace_text(), "value=9 error=!broken stop handled=4");
    weft_deferred_callback(late, weft_int(1));
    cr_assert_str_eq(trace_text(), "late=1");
    conclude(value, "v");
    conclude(error, "e");
    conclude(handled, "h");
    conclude(late, "l");
    cr_assert_str_eq(trace_text(), "v=8 e=8 h=8 l=8");
}

Test(timeout, r37_asks_for_no_answer_to_what_comes_in_time_and_to_a_cancel_by_hand)
{
    weft_deferred *value = with_answer(pending(), 5, answer, (void *)"asked");
    weft_deferred *error = with_answer(pending(), 5, answer, (void *)"asked");
    weft_deferred *cancelled = with_answer(pending(), 5, answer, (void *)"asked");

    weft_deferred_callback(value, weft_int(1));
    weft_deferred_callback(error, broken());
    weft_deferred_cancel(cancelled);
    cr_assert_eq(weft_live_counts_get().timers, 0);
    weft_test_clock_advance(manual, 10);
    conclude(value, "v");
    conclude(error, "e");
    conclude(cancelled, "c");
    cr_assert_str_eq(trace_text(), "v=1 e=!broken c=!cancelled");
}

Test(timeout, r37_asks_for_an_answer_to_a_cancel_by_hand_that_ends_after_the_time)
{
    weft_deferred *d = with_answer(stoppable(cancel_later, "stop"), 5, answer, (void *)"asked");

    weft_deferred_cancel(d);
    weft_test_clock_advance(manual, 5);
    weft_deferred_errback(d, weft_error_ref(weft_deferred_get_cancellation(d)));
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "stop asked=!cancelled d=8");
}

Test(timeout, r34_own_answer_owns_the_result_and_may_be_an_error_or_a_deferred)
{
    struct value late = {.name = "late"};
    weft_deferred *inner = pending(), *failed = with_answer(stoppable(cancel_later, "stop"), 5, return_broken, NULL);
    weft_deferred *waits = with_answer(pending(), 5, return_later, weft_deferred_ref(inner));

    weft_test_clock_advance(manual, 5);
    weft_deferred_callback(failed, value_of(&late));
    cr_assert_eq(late.drops, 1);
    cr_assert_eq(weft_deferred_get_state(waits), WEFT_WAITING);
    weft_deferred_callback(inner, weft_int(3));
    weft_deferred_unref(inner);
    conclude(failed, "f");
    conclude(waits, "w");
    cr_assert_str_eq(trace_text(), "stop f=!broken w=3");
}

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
    weft_test_clock_advance(manual, 6);
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

    weft_test_clock_advance(manual, 6);
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

    weft_test_clock_advance(manual, 5);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=!timed_out");
}

Test(timeout, r35_keeps_what_a_canceller_or_an_errback_makes_of_it)
{
    weft_deferred *value = with_timeout(weft_deferred_new(fire_value, NULL), 5);
    weft_deferred *error = with_timeout(weft_deferred_new(fire_error, NULL), 5);
    weft_deferred *handled = with_timeout(weft_deferred_add_errback(pending(), return_int, (void *)4), 5);

    weft_test_clock_advance(manual, 5);
    conclude(value, "v");
    conclude(error, "e");
    conclude(handled, "h");
    cr_assert_str_eq(trace_text(), "v=9 e=!broken h=4");
}

Test(timeout, r35_cancels_the_inner_that_it_waits_for)
{
    weft_deferred *inner = stoppable(cancel_done, "inner"), *d = with_timeout(waiting_for(inner), 5);

    weft_test_clock_advance(manual, 5);
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
    weft_test_clock_advance(manual, 10);
    cr_assert_eq(weft_deferred_get_state(d), WEFT_WAITING);
    weft_deferred_callback(after, weft_int(1));
    weft_deferred_unref(before);
    weft_deferred_unref(after);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=1");
}

static void end_with_value(weft_deferred *d)
{
    weft_deferred_callback(d, weft_int(1));
}

static void end_with_error(weft_deferred *d)
{
    weft_deferred_callback(d, broken());
}

static void end_with_cancel(weft_deferred *d)
{
    weft_deferred_cancel(d);
}

/* Ended in time, then waiting for something else: that is not the timeout's business. */
static void check_leaves_a_later_inner(weft_callback_fn *on_timeout)
{
    void (*const ends[])(weft_deferred *) = {end_with_value, end_with_error, end_with_cancel};

    for (int i = 0; i < 3; i++) {
        weft_deferred *later = stoppable(cancel_done, "cancelled"), *d = pending();

        with_answer(d, 5, on_timeout, (void *)"asked");
        weft_deferred_add_both(d, return_later, weft_deferred_ref(later));
        ends[i](d);
        weft_test_clock_advance(manual, 10);
        cr_assert_eq(weft_deferred_get_state(d), WEFT_WAITING);
        weft_deferred_callback(later, weft_int(2));
        weft_deferred_unref(later);
        conclude(d, "d");
    }
    cr_assert_str_eq(trace_text(), "d=2 d=2 d=2");
}

Test(timeout, r36_does_not_touch_what_a_later_callback_waits_for)
{
    check_leaves_a_later_inner(NULL);
    check_leaves_a_later_inner(answer);
}

Test(timeout, r38_waits_for_a_cancelled_chain_that_resists)
{
    weft_deferred *resisting = with_timeout(stoppable(cancel_later, "canceller"), 5);
    weft_deferred *stopped = with_timeout(stoppable(cancel_later, "canceller"), 5);

    weft_test_clock_advance(manual, 5);
    cr_assert_eq(weft_deferred_get_state(resisting), WEFT_PENDING);
    weft_deferred_callback(resisting, weft_int(1));
    weft_deferred_errback(stopped, weft_error_ref(weft_deferred_get_cancellation(stopped)));
    conclude(resisting, "r");
    conclude(stopped, "s");
    cr_assert_str_eq(trace_text(), "canceller canceller r=1 s=!timed_out");
}

struct clean_up {
    weft_deferred *work;
    weft_result asked; /* the cancellation */
};

static weft_result clean_up(weft_result result, void *arg)
{
    struct clean_up *clean_up = arg;

    clean_up->asked = result;
    return weft_later(weft_deferred_ref(clean_up->work));
}

Test(timeout, r38_comes_out_only_when_an_errback_that_waits_has_ended_or_not_at_all)
{
    struct clean_up passes = {.work = pending()}, rescues = {.work = pending()}, fails = {.work = pending()};
    weft_deferred *d = with_timeout(weft_deferred_add_errback(pending(), clean_up, &passes), 5);
    weft_deferred *e = with_timeout(weft_deferred_add_errback(pending(), clean_up, &rescues), 5);
    weft_deferred *f = with_timeout(weft_deferred_add_errback(pending(), clean_up, &fails), 5);

    weft_test_clock_advance(manual, 60);
    cr_assert_eq(weft_deferred_get_state(d), WEFT_WAITING);
    weft_deferred_callback(passes.work, passes.asked);
    weft_deferred_callback(rescues.work, weft_int(1));
    weft_deferred_callback(fails.work, broken());
    weft_result_drop(rescues.asked);
    weft_result_drop(fails.asked);
    weft_deferred_unref(passes.work);
    weft_deferred_unref(rescues.work);
    weft_deferred_unref(fails.work);
    conclude(d, "d");
    conclude(e, "e");
    conclude(f, "f");
    cr_assert_str_eq(trace_text(), "d=!timed_out e=1 f=!broken");
}

static weft_cancel_outcome cancel_failed(weft_deferred *d, void *unused)
{
    (void)d;
    (void)unused;
    return WEFT_CANCEL_FAILED;
}

Test(timeout, r38_comes_out_although_the_canceller_fails)
{
    weft_deferred *d = with_timeout(weft_deferred_new(cancel_failed, NULL), 5);

    log_capture();
    weft_test_clock_advance(manual, 5);
    cr_assert_eq(log_count("could not be cancelled"), 1);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=!timed_out");
}

Test(timeout, r38_on_one_that_is_done_is_over_at_once)
{
    weft_deferred *d = with_timeout(done(weft_int(1)), 5);

    cr_assert_eq(weft_live_counts_get().timers, 0);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=1");
}

Test(timeout, r38_on_one_that_is_done_asks_for_no_answer)
{
    weft_deferred *d = with_answer(done(broken()), 5, answer, (void *)"asked");

    cr_assert_eq(weft_live_counts_get().timers, 0);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=!broken");
}

Test(timeout, of_no_time_at_all_waits_for_the_clocks_next_round)
{
    weft_deferred *d = with_timeout(pending(), 0);

    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    weft_test_clock_advance(manual, 0);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=!timed_out");
}

Test(timeout, the_first_of_two_is_the_one_that_counts)
{
    weft_deferred *d = with_timeout(with_timeout(noted(pending(), "a"), 5), 3);

    weft_test_clock_advance(manual, 3);
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
    weft_test_clock_advance(manual, 10);
}

/* The timer only borrows the deferred, which here goes inside the timer's own cancel. */
Test(timeout, survives_the_deferred_going_when_it_fires)
{
    weft_deferred *d = with_timeout(weft_deferred_add_errback(pending(), let_go, NULL), 5);

    log_capture();
    weft_deferred_add_both(d, let_go, d);
    weft_test_clock_advance(manual, 5);
    cr_assert_eq(weft_live_counts_get().deferreds, 0);
    cr_assert_eq(weft_live_counts_get().errors, 0);
}

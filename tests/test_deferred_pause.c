/* Pausing: rules 12, 13, 14, 19, 30 of Twisted's, and what it leaves untested. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <string.h>

static weft_result pause_it(weft_result result, void *deferred)
{
    weft_deferred_pause(deferred);
    return result;
}

Test(deferred_pause, r12_keeps_callbacks_until_it_is_unpaused)
{
    weft_deferred *d = noted(paused(pending()), "a");

    cr_assert(weft_deferred_is_paused(d));
    weft_deferred_callback(d, weft_int(1));
    noted(d, "b");
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unpause(d);
    cr_assert_str_eq(trace_text(), "a=1 b=1");
    cr_assert_not(weft_deferred_is_paused(d));
    weft_deferred_unref(d);
}

Test(deferred_pause, r12_keeps_an_errback_as_well)
{
    weft_deferred *d = paused(done(broken()));

    weft_deferred_add_callbacks(d, note, return_nothing, (void *)"value");
    noted(d, "after");
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unpause(d);
    cr_assert_str_eq(trace_text(), "after=nil");
    weft_deferred_unref(d);
}

Test(deferred_pause, r12_and_unpaused_again_before_it_fires_runs_nothing)
{
    weft_deferred *d = noted(paused(pending()), "a");

    weft_deferred_unpause(d);
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "a=1");
    weft_deferred_unref(d);
}

Test(deferred_pause, r12_gap_nests_by_a_counter)
{
    weft_deferred *d = noted(paused(paused(paused(pending()))), "a");

    weft_deferred_callback(d, weft_int(1));
    weft_deferred_unpause(d);
    weft_deferred_unpause(d);
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unpause(d);
    cr_assert_str_eq(trace_text(), "a=1");
    weft_deferred_unref(d);
}

Test(deferred_pause, r12_gap_stops_a_run_between_two_callbacks)
{
    weft_deferred *d = pending();

    weft_deferred_add_both(noted(d, "a"), pause_it, d);
    noted(noted(d, "b"), "c");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "a=1");
    weft_deferred_unpause(d);
    cr_assert_str_eq(trace_text(), "b=1 c=1");
    weft_deferred_unref(d);
}

static weft_result pause_and_unpause(weft_result result, void *deferred)
{
    weft_deferred_pause(deferred);
    weft_deferred_unpause(deferred);
    trace("between");
    return result;
}

Test(deferred_pause, r12_unpause_in_a_callback_does_not_nest_the_run)
{
    weft_deferred *d = pending();

    weft_deferred_add_both(d, pause_and_unpause, d);
    noted(d, "a");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "between a=1");
    weft_deferred_unref(d);
}

Test(deferred_pause, r12_gap_unpause_of_one_that_is_not_paused_is_refused)
{
    weft_deferred *d = pending();

    log_capture();
    weft_deferred_unpause(d);
    cr_assert_eq(log_count("misuse: the deferred made at tests/support/values.c"), 1);
    cr_assert_eq(log_count("is not paused"), 1);
    noted(d, "a");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "a=1", "it does not count as paused for ever");
    weft_deferred_unref(d);
}

Test(deferred_pause, r12_gap_unpause_of_one_that_waits_does_not_hand_the_inner_on)
{
    weft_deferred *inner = pending(), *outer = noted(waiting_for(inner), "o");

    log_capture();
    weft_deferred_unpause(outer);
    cr_assert_eq(log_count("is not paused"), 1);
    cr_assert_eq(weft_deferred_get_state(outer), WEFT_WAITING);
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(inner, weft_int(5));
    cr_assert_str_eq(trace_text(), "o=5");
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

Test(deferred_pause, r12_one_more_than_can_be_counted_is_refused)
{
    weft_deferred *d = noted(pending(), "a");

    log_capture();
    for (int i = 0; i < 65536; i++)
        weft_deferred_pause(d);
    cr_assert_eq(log_count("is paused 65535 times already"), 1);
    weft_deferred_callback(d, weft_int(1));
    for (int i = 0; i < 65535; i++)
        weft_deferred_unpause(d);
    cr_assert_str_eq(trace_text(), "a=1");
    weft_deferred_unref(d);
}

Test(deferred_pause, r13_gap_error_of_one_that_is_dropped_is_reported)
{
    weft_deferred *d = paused(done(broken()));

    log_capture();
    weft_deferred_unref(d);
    cr_assert_eq(log_count("unhandled error"), 1);
}

Test(deferred_pause, r13_dropped_for_good_runs_on_since_nobody_could_unpause_it)
{
    weft_deferred *fired = noted(paused(done(weft_int(1))), "fired"), *unfired = noted(paused(pending()), "unfired");

    log_capture();
    weft_deferred_unref(fired);
    cr_assert_str_eq(trace_text(), "fired=1");
    weft_deferred_unref(unfired);
    cr_assert_str_eq(trace_text(), "unfired=!orphaned");
    cr_assert_eq(log_count("orphaned"), 1);
}

static weft_result pause_and_drop(weft_result result, void *deferred)
{
    weft_deferred_pause(deferred);
    weft_deferred_unref(deferred);
    return result;
}

Test(deferred_pause, r13_runs_on_when_its_own_callback_pauses_and_drops_it)
{
    weft_deferred *d = pending();

    noted(weft_deferred_add_both(d, pause_and_drop, d), "a");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "a=1");
}

Test(deferred_pause, r14_makes_whoever_waits_for_it_wait)
{
    weft_deferred *inner = paused(done(weft_int(3))), *outer = noted(waiting_for(inner), "o");

    cr_assert_eq(weft_deferred_get_state(outer), WEFT_WAITING);
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unpause(inner);
    cr_assert_str_eq(trace_text(), "o=3");
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

Test(deferred_pause, r14_and_unfired_inner_needs_both)
{
    weft_deferred *first = paused(pending()), *second = paused(pending()), *outer;

    outer = noted(waiting_for(first), "fired_last");
    weft_deferred_unpause(first);
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(first, weft_int(1));
    cr_assert_str_eq(trace_text(), "fired_last=1");
    weft_deferred_unref(outer);
    outer = noted(waiting_for(second), "unpaused_last");
    weft_deferred_callback(second, weft_int(2));
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unpause(second);
    cr_assert_str_eq(trace_text(), "unpaused_last=2");
    weft_deferred_unref(outer);
    weft_deferred_unref(first);
    weft_deferred_unref(second);
}

Test(deferred_pause, r14_of_an_inner_that_is_dropped_does_not_hang_the_outer)
{
    weft_deferred *outer = noted(weft_deferred_add_callback(done(weft_ok(NULL)), return_later, paused(done(weft_int(4)))), "o");

    cr_assert_str_eq(trace_text(), "o=4", "nobody is left who could unpause the inner");
    weft_deferred_unref(outer);
}

Test(deferred_pause, r19_outer_keeps_the_result_and_the_rest_of_the_inner_runs)
{
    weft_deferred *inner = pending(), *outer = paused(noted(waiting_for(inner), "o"));

    log_capture();
    noted(inner, "i"); /* behind the hand-over: logged as a misuse, and run */
    weft_deferred_callback(inner, weft_int(3));
    cr_assert_str_eq(trace_text(), "i=nil");
    cr_assert_eq(weft_deferred_get_state(outer), WEFT_DONE);
    weft_deferred_unpause(outer);
    cr_assert_str_eq(trace_text(), "o=3");
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

Test(deferred_pause, r19_holds_up_those_above_and_nobody_below)
{
    weft_deferred *inner = pending(), *middle = paused(noted(waiting_for(inner), "m")), *outer = noted(waiting_for(middle), "o");

    log_capture();
    noted(noted(inner, "i"), "j"); /* behind the hand-over: logged as a misuse, and run */
    weft_deferred_callback(inner, weft_int(3));
    cr_assert_str_eq(trace_text(), "i=nil j=nil");
    cr_assert_eq(weft_deferred_get_state(outer), WEFT_WAITING);
    weft_deferred_unpause(middle);
    cr_assert_str_eq(trace_text(), "m=3 o=3");
    weft_deferred_unref(inner);
    weft_deferred_unref(middle);
    weft_deferred_unref(outer);
}

Test(deferred_pause, r30_pending_one_is_cancelled_and_its_callbacks_wait)
{
    weft_deferred *d = noted(paused(stoppable(cancel_done, "stop")), "a");

    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "stop");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_DONE);
    weft_deferred_unpause(d);
    cr_assert_str_eq(trace_text(), "a=!cancelled");
    weft_deferred_unref(d);
}

Test(deferred_pause, r30_done_one_is_not_changed_by_a_cancel)
{
    weft_deferred *d = noted(paused(done(weft_int(1))), "a");

    weft_deferred_cancel(d);
    weft_deferred_unpause(d);
    cr_assert_str_eq(trace_text(), "a=1");
    weft_deferred_unref(d);
}

Test(deferred_pause, r30_one_that_waits_passes_a_cancel_on)
{
    weft_deferred *inner = stoppable(cancel_done, "stop"), *outer = paused(noted(waiting_for(inner), "o"));

    weft_deferred_cancel(outer);
    cr_assert_str_eq(trace_text(), "stop");
    weft_deferred_unpause(outer);
    cr_assert_str_eq(trace_text(), "o=!cancelled");
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

Test(deferred_pause, result_can_be_looked_at_and_not_taken)
{
    weft_deferred *d = paused(done(weft_int(7)));

    cr_assert_eq((intptr_t)weft_deferred_peek(d).value, 7);
    cr_assert_str_eq(told(weft_deferred_take_result(d)), "!misuse");
    weft_deferred_unpause(d);
    cr_assert_str_eq(told(weft_deferred_take_result(d)), "7");
    weft_deferred_unref(d);
}

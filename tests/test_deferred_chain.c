/* A callback that returns a deferred: its own then waits for that, and goes on with what it brings. In the tests `outer`
 * waits for `inner`. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <stdio.h>
#include <string.h>

/* `outer` waits for `inner`; its reference to that stays the caller's. */
Test(deferred_chain, r14_takes_the_result_of_one_that_is_done_and_goes_on)
{
    weft_deferred *value = pending(), *error = pending(), *inner = done(weft_int(7));

    weft_deferred_add_both(value, return_later, weft_deferred_ref(inner));
    noted(value, "v");
    weft_deferred_add_both(error, return_later, done(broken()));
    noted(error, "e");
    weft_deferred_callback(value, weft_int(1));
    weft_deferred_callback(error, weft_int(1));
    cr_assert_str_eq(trace_text(), "v=7 e=!broken");
    cr_assert_eq(weft_deferred_get_state(value), WEFT_DONE);
    weft_deferred_unref(inner);
    weft_deferred_unref(value);
    conclude(error, "e");
    trace_text();
}

Test(deferred_chain, r15_waits_for_one_that_is_pending)
{
    weft_deferred *d = pending(), *inner = pending();

    weft_deferred_add_both(d, return_later, weft_deferred_ref(inner));
    noted(d, "after");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_WAITING);
    cr_assert_str_eq(told(weft_deferred_take_result(d)), "!misuse");
    weft_deferred_callback(inner, weft_int(7));
    cr_assert_str_eq(trace_text(), "after=7");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_DONE);
    weft_deferred_unref(inner);
    weft_deferred_unref(d);
}

static weft_result add_from_inside(weft_result result, void *own)
{
    noted(own, "added");
    return result;
}

Test(deferred_chain, r15_waits_behind_what_the_inner_has_and_before_what_it_gets_later)
{
    weft_deferred *inner = pending(), *outer;

    log_capture();
    weft_deferred_add_both(inner, add_from_inside, inner);
    weft_deferred_add_both(noted(inner, "before"), return_int, (void *)2);
    outer = noted(waiting_for(inner), "outer");
    weft_deferred_callback(inner, weft_int(1));
    cr_assert_str_eq(trace_text(), "before=1 outer=2 added=nil");
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

Test(deferred_chain, r15_keeps_callbacks_added_while_it_waits_for_then)
{
    weft_deferred *inner = pending(), *d = waiting_for(inner);

    noted(d, "a");
    noted_sides(d, "b");
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_errback(inner, weft_error_new(&BROKEN, "x"));
    cr_assert_str_eq(trace_text(), "a=!broken b:error=!broken");
    weft_deferred_unref(inner);
    conclude(d, "d");
    trace_text();
}

Test(deferred_chain, r15_lets_an_errback_return_a_deferred_too)
{
    weft_deferred *inner = pending(), *d = pending();

    weft_deferred_add_errback(d, return_later, weft_deferred_ref(inner));
    weft_deferred_errback(d, weft_error_new(&BROKEN, "x"));
    cr_assert_eq(weft_deferred_get_state(d), WEFT_WAITING);
    weft_deferred_callback(inner, weft_int(3));
    weft_deferred_unref(inner);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=3");
}

static weft_result wait_for_the_running_one(weft_result result, void *arg)
{
    weft_deferred **both = arg;

    weft_deferred_add_both(both[0], return_later, weft_deferred_ref(both[1]));
    trace("state=%d", weft_deferred_get_state(both[0]));
    return result;
}

/* The inner is fired, but is just running its callbacks: it is not done. */
Test(deferred_chain, r14_waits_for_one_whose_callbacks_run_further_up_the_stack)
{
    weft_deferred *inner = pending(), *d = done(weft_ok(NULL)), *both[] = {d, inner};

    weft_deferred_add_both(inner, wait_for_the_running_one, both);
    weft_deferred_add_both(inner, return_int, (void *)2);
    weft_deferred_callback(inner, weft_int(1));
    weft_deferred_unref(inner);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "state=1 d=2");
}

/* 15, 16: callbacks on the inner from before transform the result; then the outer's run; then those added later. */
Test(deferred_chain, r16_runs_the_outers_callbacks_before_those_added_to_the_inner_afterwards)
{
    weft_deferred *inner = pending(), *d;

    log_capture();
    noted(inner, "inner_before");
    weft_deferred_add_both(inner, return_int, (void *)2);
    d = waiting_for(inner);
    noted(inner, "inner_after");
    noted(d, "outer");
    weft_deferred_callback(inner, weft_int(1));
    cr_assert_str_eq(trace_text(), "inner_before=1 outer=2 inner_after=nil");
    weft_deferred_unref(inner);
    weft_deferred_unref(d);
}

static void check_has_nothing(weft_deferred *inner)
{
    cr_assert_eq(weft_deferred_get_state(inner), WEFT_DONE);
    cr_assert_null(weft_deferred_peek(inner).value);
    cr_assert_null(weft_deferred_peek(inner).type, "not even an error");
    weft_deferred_unref(inner);
}

Test(deferred_chain, r17_takes_the_value_away_from_one_that_was_done_and_from_one_that_was_pending)
{
    struct value first = {.name = "first"}, second = {.name = "second"};
    weft_deferred *ready = done(value_of(&first)), *late = pending();
    weft_deferred *outer = noted(waiting_for(ready), "outer"), *other = noted(waiting_for(late), "other");

    weft_deferred_callback(late, value_of(&second));
    cr_assert_str_eq(trace_text(), "outer=first other=second");
    check_has_nothing(ready);
    check_has_nothing(late);
    cr_assert_eq(first.drops + second.drops, 0);
    weft_deferred_unref(outer);
    weft_deferred_unref(other);
    cr_assert_eq(first.drops, 1);
    cr_assert_eq(second.drops, 1);
}

Test(deferred_chain, r17_takes_the_error_away_from_one_that_was_done_and_from_one_that_was_pending)
{
    weft_deferred *ready = done(broken()), *late = pending();
    weft_deferred *outer = noted(waiting_for(ready), "outer"), *other = noted(waiting_for(late), "other");

    log_capture();
    weft_deferred_callback(late, broken());
    cr_assert_str_eq(trace_text(), "outer=!broken other=!broken");
    check_has_nothing(ready);
    check_has_nothing(late);
    cr_assert_eq(log_count("unhandled"), 0, "it is not the inner's to report");
    weft_deferred_unref(outer);
    weft_deferred_unref(other);
    cr_assert_eq(log_count("unhandled"), 2);
}

Test(deferred_chain, r17_leaves_a_callback_added_to_the_inner_a_success_with_no_value)
{
    weft_deferred *inner = pending(), *d = waiting_for(inner);

    log_capture();
    weft_deferred_errback(inner, weft_error_new(&BROKEN, "x"));
    cr_assert_eq(weft_deferred_get_state(inner), WEFT_DONE);
    noted(inner, "inner");
    cr_assert_str_eq(trace_text(), "inner=nil");
    weft_deferred_unref(inner);
    conclude(d, "d");
    cr_assert_eq(log_count("unhandled"), 0, "the error is not the inner's to report");
    trace_text();
}

Test(deferred_chain, r20_goes_through_several_in_a_row)
{
    weft_deferred *inner = pending(), *middle = waiting_for(inner), *d = waiting_for(middle);

    cr_assert_eq(weft_deferred_get_state(d), WEFT_WAITING);
    weft_deferred_callback(inner, weft_int(3));
    cr_assert_eq(weft_deferred_get_state(middle), WEFT_DONE);
    weft_deferred_unref(inner);
    weft_deferred_unref(middle);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=3");
}

Test(deferred_chain, r20_goes_through_when_the_middle_begins_to_wait_last)
{
    weft_deferred *inner = pending(), *middle = pending(), *outer;

    weft_deferred_add_callback(middle, return_later, weft_deferred_ref(inner));
    outer = noted(waiting_for(middle), "outer");
    weft_deferred_callback(middle, weft_int(1));
    cr_assert_str_eq(trace_text(), "");
    cr_assert_eq(weft_deferred_get_state(middle), WEFT_WAITING);
    weft_deferred_callback(inner, weft_int(2));
    cr_assert_str_eq(trace_text(), "outer=2");
    weft_deferred_unref(outer);
    weft_deferred_unref(middle);
    weft_deferred_unref(inner);
}

Test(deferred_chain, r20_runs_the_callbacks_of_each_level_on_the_way_up)
{
    weft_deferred *inner = noted(pending(), "i"), *middle, *outer;

    weft_deferred_add_callback(inner, return_broken, NULL);
    middle = weft_deferred_add_errback(noted_sides(waiting_for(inner), "m"), return_int, (void *)2);
    outer = noted_sides(noted(waiting_for(middle), "o"), "end");
    weft_deferred_callback(inner, weft_int(1));
    cr_assert_str_eq(trace_text(), "i=1 m:error=!broken o=2 end:value=2");
    weft_deferred_unref(outer);
    weft_deferred_unref(middle);
    weft_deferred_unref(inner);
}

Test(deferred_chain, r20_takes_the_result_of_one_that_waits_for_one_that_is_done)
{
    weft_deferred *inner = done(weft_int(3)), *middle = waiting_for(inner), *outer = noted(waiting_for(middle), "outer");

    cr_assert_str_eq(trace_text(), "outer=3");
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
    weft_deferred_unref(middle);
}

/* ---- waiting for itself, in a circle, or for what another waits for ---- */

Test(deferred_misuse, r20_a_callback_that_returns_its_own_deferred_is_named)
{
    weft_deferred *d = pending();
    char callback[40];
    weft_result result;

    weft_deferred_add_both(d, return_later, weft_deferred_ref(d));
    noted(d, "next");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "next=!misuse");
    result = weft_deferred_take_result(d);
    snprintf(callback, sizeof callback, "callback at %p returned its own", (void *)return_later);
    cr_assert_not_null(strstr(weft_error_get_message(weft_failed(result)), callback));
    weft_result_drop(result);
    weft_deferred_unref(d);
}

static weft_result return_later_from(weft_result result, void *slot)
{
    return return_later(result, weft_deferred_ref(*(weft_deferred **)slot));
}

Test(deferred_misuse, r20_two_deferreds_that_wait_for_each_other)
{
    weft_deferred *a, *b = weft_deferred_add_both(pending(), return_later_from, &a);

    noted(b, "b");
    a = noted(waiting_for(b), "a");
    weft_deferred_callback(b, weft_int(1));
    cr_assert_str_eq(trace_text(), "b=!misuse a=!misuse");
    conclude(a, "a");
    weft_deferred_unref(b);
    trace_text();
}

Test(deferred_misuse, r20_three_deferreds_that_wait_for_each_other)
{
    weft_deferred *a, *b, *c = weft_deferred_add_both(pending(), return_later_from, &a);

    b = waiting_for(c);
    a = waiting_for(b);
    weft_deferred_callback(c, weft_int(1));
    weft_deferred_cancel(a);
    weft_deferred_unref(b);
    weft_deferred_unref(c);
    conclude(a, "a");
    cr_assert_str_eq(trace_text(), "a=!misuse");
}

/* Here the cycle is closed by one that nobody waits for when its callback returns. */
static weft_result wait_for_each_other(weft_result result, void *arg)
{
    weft_deferred **both = arg;

    weft_deferred_add_both(both[0], return_later, weft_deferred_ref(both[1]));
    return return_later(result, weft_deferred_ref(both[0]));
}

Test(deferred_misuse, r20_a_callback_that_makes_another_wait_for_its_own_and_returns_that)
{
    weft_deferred *own = pending(), *other = done(weft_ok(NULL)), *both[] = {other, own};

    weft_deferred_add_both(own, wait_for_each_other, both);
    weft_deferred_callback(own, weft_int(1));
    weft_deferred_unref(own);
    conclude(other, "other");
    cr_assert_str_eq(trace_text(), "other=!misuse");
}

Test(deferred_misuse, r21_a_second_one_that_waits_for_the_same_inner)
{
    weft_deferred *inner = pending(), *first = waiting_for(inner), *second = waiting_for(inner);

    cr_assert_eq(weft_deferred_get_state(second), WEFT_DONE);
    conclude(second, "second");
    weft_deferred_callback(inner, weft_int(1));
    conclude(first, "first");
    weft_deferred_unref(inner);
    cr_assert_str_eq(trace_text(), "second=!misuse first=1");
}

Test(deferred_misuse, r21_a_second_one_that_takes_the_result_of_the_same_inner)
{
    weft_deferred *inner = done(weft_int(1)), *first = waiting_for(inner), *second = waiting_for(inner);

    conclude(second, "second");
    conclude(first, "first");
    weft_deferred_unref(inner);
    cr_assert_str_eq(trace_text(), "second=!misuse first=1");
}

Test(deferred_misuse, r21_cancelling_one_that_came_second_does_not_reach_what_the_first_waits_for)
{
    weft_deferred *inner = stoppable(cancel_done, "stop"), *first = waiting_for(inner), *second = waiting_for(inner);
    weft_deferred *third = waiting_for(inner);

    weft_deferred_cancel(second);
    weft_deferred_callback(inner, broken());
    conclude(first, "first");
    conclude(second, "second");
    conclude(third, "third");
    weft_deferred_unref(inner);
    cr_assert_str_eq(trace_text(), "first=!broken second=!misuse third=!misuse");
}

Test(deferred_misuse, adding_to_one_that_was_handed_over_is_logged)
{
    weft_deferred *outer = done(weft_ok(NULL)), *inner = pending(), *taken = done(weft_int(1));

    log_capture();
    weft_deferred_add_callback(outer, return_later, weft_deferred_ref(inner));
    noted(inner, "late");
    cr_assert_eq(log_count("misuse: a callback is added to a deferred that was handed over"), 1);
    weft_deferred_callback(inner, weft_int(1));
    weft_result_drop(weft_deferred_take_result(taken));
    noted(taken, "taken");
    cr_assert_eq(log_count("misuse"), 2);
    cr_assert_str_eq(trace_text(), "late=nil taken=nil");
    weft_deferred_unref(outer);
    weft_deferred_unref(inner);
    weft_deferred_unref(taken);
}

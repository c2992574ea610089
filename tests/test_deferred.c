/* A deferred by itself: firing it, and running its callbacks. The rest is in tests/test_deferred_*.c, a file for each idea,
 * tests/test_timeout.c and tests/test_unhandled.c; tests/test_deferred_model.c tries what nobody thought of.
 *
 * A test whose name begins with a number, r09_..., shows that rule of tests/rules. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <stdio.h>
#include <string.h>

static const weft_error_kind OTHER = {"other", &WEFT_FAILURE};

/* ---- its states, and firing ---- */

Test(deferred, r01_is_pending_until_it_is_fired)
{
    weft_deferred *d = pending();

    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    cr_assert_null(weft_deferred_get_cancellation(d));
    weft_deferred_callback(d, weft_int(1));
    cr_assert_eq(weft_deferred_get_state(d), WEFT_DONE);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=1");
}

static void check_refuses(weft_deferred *d)
{
    weft_error *error = weft_deferred_try_callback(d, weft_int(2));

    cr_assert_neq(weft_deferred_get_state(d), WEFT_PENDING);
    cr_assert(weft_error_is(error, &WEFT_ALREADY_CALLED));
    weft_error_unref(error);
}

Test(deferred, r01_is_never_pending_again)
{
    weft_deferred *inner = pending(), *d = weft_deferred_add_callback(pending(), return_later, weft_deferred_ref(inner));

    weft_deferred_callback(d, weft_ok(NULL));
    check_refuses(d);
    weft_deferred_callback(inner, weft_int(1));
    check_refuses(d);
    check_refuses(inner);
    cr_assert_str_eq(told(weft_deferred_take_result(d)), "1");
    check_refuses(d);
    weft_deferred_cancel(d);
    check_refuses(d);
    weft_deferred_unref(inner);
    weft_deferred_unref(d);
}

Test(deferred, r49_may_be_made_with_its_result)
{
    weft_deferred *value = done(weft_int(1)), *error = done(broken());

    cr_assert_eq(weft_deferred_get_state(value), WEFT_DONE);
    conclude(value, "value");
    conclude(error, "error");
    cr_assert_str_eq(trace_text(), "value=1 error=!broken");
}

Test(deferred, r49_made_with_a_deferred_is_that_deferred)
{
    weft_deferred *d = pending();

    cr_assert_eq(done(weft_later(d)), d);
    weft_deferred_unref(d);
}

Test(deferred, is_counted_while_it_lives)
{
    weft_deferred *d = pending();

    cr_assert_eq(weft_live_counts_get().deferreds, 1);
    cr_assert_eq(weft_deferred_ref(d), d);
    cr_assert_null(weft_deferred_unref(d));
    cr_assert_eq(weft_live_counts_get().deferreds, 1);
    weft_deferred_unref(d);
    cr_assert_eq(weft_live_counts_get().deferreds, 0);
    cr_assert_null(weft_deferred_unref(NULL));
}

Test(deferred, r03_runs_its_callbacks_inside_the_call_that_fires)
{
    weft_deferred *d = noted(pending(), "a");

    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(d, weft_int(5));
    cr_assert_str_eq(trace_text(), "a=5");
    weft_deferred_unref(d);
}

Test(deferred, r03_is_fired_with_an_error_by_errback_or_by_a_failure)
{
    weft_deferred *d = noted(pending(), "d"), *e = noted(pending(), "e");

    weft_deferred_errback(d, weft_error_new(&BROKEN, "x"));
    weft_deferred_callback(e, broken());
    conclude(d, "d");
    conclude(e, "e");
    cr_assert_str_eq(trace_text(), "d=!broken e=!broken d=!broken e=!broken");
}

Test(deferred, r03_runs_its_callbacks_with_a_success_that_has_no_value_as_well)
{
    weft_deferred *d = noted(pending(), "a");

    weft_deferred_callback(d, weft_ok(NULL));
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "a=nil");
}

Test(deferred, r03_keeps_its_value_until_the_last_reference_goes)
{
    struct value value = {.name = "v"};
    weft_deferred *d = noted(pending(), "a");

    weft_deferred_callback(d, value_of(&value));
    noted(d, "b");
    cr_assert_str_eq(trace_text(), "a=v b=v");
    cr_assert_eq(value.drops, 0);
    weft_deferred_unref(d);
    cr_assert_eq(value.drops, 1);
}

/* ---- firing twice, or with a deferred ---- */

Test(deferred_misuse, r07_firing_twice_names_where_it_was_made_and_fired_first_and_again)
{
    int made = __LINE__ + 1;
    weft_deferred *d = pending(), *e = weft_deferred_new(NULL, NULL);
    int fired = __LINE__ + 1;
    weft_deferred_callback(e, weft_int(1));
    weft_error *error = weft_deferred_try_callback(e, weft_int(2));
    char both[300];

    snprintf(both, sizeof both, "made at %s:%d %s, was already fired at %s:%d %s", __FILE__, made, __func__, __FILE__,
             fired, __func__);
    cr_assert(weft_error_is(error, &WEFT_ALREADY_CALLED));
    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    cr_assert(strstr(weft_error_get_message(error), both), "%s lacks %s", weft_error_get_message(error), both);
    cr_assert_eq(weft_error_get_place(error)->line, fired + 1);
    weft_error_unref(error);
    conclude(e, "e");
    cr_assert_str_eq(trace_text(), "e=1");
    weft_deferred_unref(d);
}

Test(deferred_misuse, r04_firing_twice_in_any_way_is_logged)
{
    weft_deferred *value = done(weft_int(1)), *error = done(broken());

    log_capture();
    weft_deferred_callback(value, weft_int(2));
    weft_deferred_errback(value, weft_error_new(&OTHER, "x"));
    weft_deferred_callback(error, weft_int(2));
    weft_deferred_errback(error, weft_error_new(&OTHER, "x"));
    cr_assert_eq(log_count("ERROR - already_called"), 4);
    cr_assert_eq(log_count(""), 4);
    conclude(value, "v");
    conclude(error, "e");
    cr_assert_str_eq(trace_text(), "v=1 e=!broken");
}

Test(deferred_misuse, r04_result_that_comes_twice_is_dropped_once)
{
    struct value first = {.name = "first"}, second = {.name = "second"}, third = {.name = "third"};
    weft_deferred *d = done(value_of(&first));

    log_capture();
    weft_deferred_callback(d, value_of(&second));
    weft_error_unref(weft_deferred_try_callback(d, value_of(&third)));
    cr_assert_eq(second.drops, 1);
    cr_assert_eq(third.drops, 1);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=first");
    cr_assert_eq(first.drops, 1);
}

Test(deferred_misuse, r04_first_firing_by_try_is_no_error)
{
    weft_deferred *d = noted(pending(), "a");

    cr_assert_null(weft_deferred_try_callback(d, weft_int(1)));
    cr_assert_str_eq(trace_text(), "a=1");
    weft_deferred_unref(d);
}

static weft_result fire_again(weft_result result, void *own)
{
    weft_error *error = weft_deferred_try_callback(own, weft_int(2));

    cr_assert_not_null(error);
    weft_result_drop(result);
    return weft_fail(error);
}

Test(deferred_misuse, r05_firing_in_its_own_callback_is_an_error_there)
{
    weft_deferred *d = pending();

    weft_deferred_add_both(d, fire_again, d);
    noted(d, "next");
    weft_deferred_callback(d, weft_int(1));
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "next=!already_called d=!already_called");
}

Test(deferred_misuse, r04_firing_while_it_waits_is_an_error)
{
    weft_deferred *d = done(weft_ok(NULL)), *inner = pending();
    weft_error *error;

    weft_deferred_add_callback(d, return_later, weft_deferred_ref(inner));
    error = weft_deferred_try_callback(d, weft_int(2));
    cr_assert(weft_error_is(error, &WEFT_ALREADY_CALLED));
    weft_error_unref(error);
    weft_deferred_callback(inner, weft_int(1));
    weft_deferred_unref(inner);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=1");
}

Test(deferred_misuse, r06_firing_with_a_deferred_is_one_of_its_own_and_changes_nothing)
{
    weft_deferred *d = noted(pending(), "d");
    weft_error *error = weft_deferred_try_callback(d, weft_later(pending()));

    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    cr_assert_not(weft_error_is(error, &WEFT_ALREADY_CALLED));
    weft_error_unref(error);
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    cr_assert_eq(weft_live_counts_get().deferreds, 1, "the other one was dropped");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "d=1");
    weft_deferred_unref(d);
}

Test(deferred_misuse, r06_firing_with_a_deferred_is_logged_and_is_not_the_late_result)
{
    weft_deferred *d = pending();

    log_capture();
    weft_deferred_cancel(d);
    weft_deferred_callback(d, weft_later(pending()));
    cr_assert_eq(log_count("ERROR - misuse: a deferred was fired with a deferred"), 1);
    weft_deferred_callback(d, weft_int(1));
    cr_assert_eq(log_count("already_called"), 0, "this one is the late result");
    weft_deferred_unref(d);
}

/* ---- pairs ---- */

Test(deferred, r09_chooses_the_side_by_the_kind_of_the_result)
{
    weft_deferred *value = noted_sides(pending(), "v"), *error = noted_sides(pending(), "e");

    weft_deferred_callback(value, weft_int(1));
    weft_deferred_callback(error, broken());
    conclude(value, "v");
    conclude(error, "e");
    cr_assert_str_eq(trace_text(), "v:value=1 e:error=!broken v=1 e=!broken");
}

Test(deferred, r02_passes_a_result_on_where_a_pair_has_no_side_for_it)
{
    weft_deferred *value = pending(), *error = pending();

    weft_deferred_add_callbacks(value, NULL, return_broken, NULL);
    weft_deferred_add_callbacks(error, return_nothing, NULL, NULL);
    weft_deferred_add_callbacks(value, NULL, NULL, NULL);
    weft_deferred_add_callbacks(error, NULL, NULL, NULL);
    weft_deferred_callback(value, weft_int(1));
    weft_deferred_callback(error, broken());
    conclude(value, "v");
    conclude(error, "e");
    cr_assert_str_eq(trace_text(), "v=1 e=!broken");
}

Test(deferred, r11_hands_each_callback_what_the_one_before_returned)
{
    weft_deferred *d = pending();

    weft_deferred_add_both(noted(d, "a"), return_int, (void *)2);
    weft_deferred_add_both(noted(d, "b"), return_broken, NULL);
    weft_deferred_add_both(noted(d, "c"), return_nothing, NULL);
    noted(d, "d");
    weft_deferred_callback(d, weft_int(1));
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "a=1 b=2 c=!broken d=nil");
}

Test(deferred, r09_recovers_when_an_errback_returns_a_success)
{
    weft_deferred *d = pending();

    weft_deferred_add_errback(d, return_nothing, NULL);
    noted_sides(d, "next");
    weft_deferred_errback(d, weft_error_new(&BROKEN, "x"));
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "next:value=nil");
}

Test(deferred, r09_fails_when_a_callback_returns_a_failure)
{
    weft_deferred *d = pending();

    weft_deferred_add_callback(d, return_broken, NULL);
    noted_sides(d, "next");
    weft_deferred_callback(d, weft_int(1));
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "next:error=!broken d=!broken");
}

Test(deferred, r09_does_not_call_one_side_of_a_pair_with_the_error_of_the_other)
{
    weft_deferred *d = weft_deferred_add_callbacks(pending(), return_broken, note, (void *)"own");

    noted_sides(d, "next");
    weft_deferred_callback(d, weft_int(1));
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "next:error=!broken d=!broken");
}

Test(deferred, r02_adding_returns_the_deferred)
{
    weft_deferred *d = pending();

    cr_assert_eq(weft_deferred_add_callbacks(d, NULL, NULL, NULL), d);
    cr_assert_eq(weft_deferred_add_callback(d, return_nothing, NULL), d);
    cr_assert_eq(weft_deferred_add_errback(d, return_nothing, NULL), d);
    cr_assert_eq(weft_deferred_add_both(d, return_nothing, NULL), d);
    weft_deferred_callback(d, weft_int(1));
    weft_deferred_unref(d);
}

Test(deferred, r01_keeps_the_order_of_many_callbacks)
{
    enum { CALLBACKS = 30 };
    char labels[CALLBACKS][4], expected[CALLBACKS * 8] = "";
    weft_deferred *d = pending();

    for (int i = 0; i < CALLBACKS; i++) {
        snprintf(labels[i], sizeof labels[i], "%d", i);
        noted(d, labels[i]);
        snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s%d=1", i ? " " : "", i);
    }
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), expected);
    weft_deferred_unref(d);
}

/* ---- adding while it runs, and afterwards ---- */

Test(deferred, r08_runs_when_it_is_fired_added_to_unpaused_and_when_its_inner_ends)
{
    weft_deferred *inner = pending(), *d = noted(pending(), "fired");

    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "fired=1");
    noted(d, "added");
    cr_assert_str_eq(trace_text(), "added=1");
    noted(paused(d), "unpaused");
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unpause(d);
    cr_assert_str_eq(trace_text(), "unpaused=1");
    noted(weft_deferred_add_callback(d, return_later, weft_deferred_ref(inner)), "inner");
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(inner, weft_int(2));
    cr_assert_str_eq(trace_text(), "inner=2");
    weft_deferred_unref(inner);
    weft_deferred_unref(d);
}

static weft_result fire_other(weft_result result, void *other)
{
    trace("begins");
    weft_deferred_callback(other, weft_int(5));
    trace("ends");
    return result;
}

Test(deferred, r08_runs_at_once_when_a_callback_of_another_fires_it)
{
    weft_deferred *other = noted(pending(), "other"), *d = weft_deferred_add_both(pending(), fire_other, other);

    weft_deferred_callback(noted(d, "d"), weft_int(1));
    cr_assert_str_eq(trace_text(), "begins other=5 ends d=1");
    weft_deferred_unref(other);
    weft_deferred_unref(d);
}

Test(deferred, r11_keeps_the_last_result)
{
    weft_deferred *d = pending();

    weft_deferred_add_both(weft_deferred_add_both(d, return_int, (void *)2), return_int, (void *)3);
    weft_deferred_callback(d, weft_int(1));
    cr_assert_eq((intptr_t)weft_deferred_peek(d).value, 3);
    noted(noted(d, "a"), "b");
    cr_assert_str_eq(trace_text(), "a=3 b=3");
    weft_deferred_unref(d);
}

Test(deferred, r11_runs_a_callback_added_later_at_once)
{
    weft_deferred *d = done(weft_int(1));

    noted(d, "a");
    cr_assert_str_eq(trace_text(), "a=1");
    weft_deferred_add_both(d, return_int, (void *)2);
    noted(d, "b");
    cr_assert_str_eq(trace_text(), "b=2");
    weft_deferred_unref(d);
}

static weft_result add_from_inside(weft_result result, void *own)
{
    trace("outer_begins");
    noted(own, "added");
    trace("outer_ends");
    return result;
}

Test(deferred, r10_runs_a_callback_added_during_a_run_after_those_before_it_and_never_nested)
{
    weft_deferred *d = pending();

    weft_deferred_add_both(d, add_from_inside, d);
    noted(d, "second");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "outer_begins outer_ends second=1 added=1");
    weft_deferred_unref(d);
}

Test(deferred, r10_runs_a_callback_added_by_a_late_callback_after_it)
{
    weft_deferred *d = done(weft_int(1));

    weft_deferred_add_both(d, add_from_inside, d);
    cr_assert_str_eq(trace_text(), "outer_begins outer_ends added=1");
    weft_deferred_unref(d);
}

static weft_result add_from_inside_and_fail(weft_result result, void *own)
{
    noted(own, "added");
    return return_broken(result, NULL);
}

Test(deferred, r10_hands_a_callback_added_during_a_run_the_result_of_that_time)
{
    weft_deferred *d = done(weft_int(1));

    weft_deferred_add_both(d, add_from_inside_and_fail, d);
    cr_assert_str_eq(trace_text(), "added=!broken");
    conclude(d, "d");
    trace_text();
}

/* Each callback adds the one that comes 100 later: the queue is always so long, and moves through its memory. */
enum { QUEUED = 100, IN_ALL = 5000 };

struct queue {
    weft_deferred *deferred;
    int next; /* to run */
    int numbers[IN_ALL];
};
static struct queue queue;

static weft_result run_next_in_queue(weft_result result, void *number)
{
    cr_assert_eq(*(int *)number, queue.next);
    queue.next++;
    if (*(int *)number + QUEUED < IN_ALL)
        weft_deferred_add_both(queue.deferred, run_next_in_queue, (int *)number + QUEUED);
    return result;
}

Test(deferred, r10_keeps_the_order_of_a_queue_that_grows_while_it_runs)
{
    queue.deferred = pending();
    for (int i = 0; i < IN_ALL; i++)
        queue.numbers[i] = i;
    for (int i = 0; i < QUEUED; i++)
        weft_deferred_add_both(queue.deferred, run_next_in_queue, &queue.numbers[i]);
    weft_deferred_callback(queue.deferred, weft_ok(NULL));
    cr_assert_eq(queue.next, IN_ALL);
    weft_deferred_unref(queue.deferred);
}

Test(deferred, survives_its_last_reference_going_in_its_own_callback)
{
    weft_deferred *d = pending();

    weft_deferred_add_both(d, let_go, d);
    noted(d, "next");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "next=1");
}

/* ---- taking the result out ---- */

static weft_result look_at_own(weft_result result, void *own)
{
    trace("state=%d taken=%s", weft_deferred_get_state(own), told(weft_deferred_take_result(own)));
    return result;
}

Test(deferred, has_no_result_to_take_while_a_callback_has_it)
{
    weft_deferred *d = pending();

    weft_deferred_add_both(d, look_at_own, d);
    weft_deferred_callback(d, weft_int(1));
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "state=2 taken=!misuse d=1");
}

Test(deferred_misuse, taking_a_result_too_early_or_twice)
{
    weft_deferred *d = pending();

    cr_assert_str_eq(told(weft_deferred_take_result(d)), "!misuse");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(told(weft_deferred_take_result(d)), "1");
    cr_assert_str_eq(told(weft_deferred_take_result(d)), "!misuse");
    weft_deferred_unref(d);
}

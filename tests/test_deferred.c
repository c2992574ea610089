/* Deferreds, rule by rule. The numbers are those of the rules of Twisted's Deferred as weft keeps them; [C] marks where
 * weft does better. tests/test_deferred_model.c tries what nobody thought of. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/manual_clock.h"

static const weft_error_kind OTHER = {"other", &WEFT_FAILURE};

/* Traces the final result under `label` and lets go of the deferred. */
static void finish(weft_deferred *d, const char *label)
{
    trace("%s=%s", label, told(weft_deferred_take_result(d)));
    weft_deferred_unref(d);
}

/* ---- 1-4: state and firing ---- */

Test(deferred, is_pending_until_it_is_fired)
{
    weft_deferred *d = pending();

    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    cr_assert_null(weft_deferred_get_cancellation(d));
    weft_deferred_callback(d, weft_int(1));
    cr_assert_eq(weft_deferred_get_state(d), WEFT_DONE);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=1");
}

Test(deferred, may_be_made_with_its_result)
{
    weft_deferred *value = done(weft_int(1)), *error = done(broken());

    cr_assert_eq(weft_deferred_get_state(value), WEFT_DONE);
    finish(value, "value");
    finish(error, "error");
    cr_assert_str_eq(trace_text(), "value=1 error=!broken");
}

Test(deferred, made_with_a_deferred_is_that_deferred)
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

Test(deferred, runs_its_callbacks_inside_the_call_that_fires)
{
    weft_deferred *d = noted(pending(), "a");

    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(d, weft_int(5));
    cr_assert_str_eq(trace_text(), "a=5");
    weft_deferred_unref(d);
}

Test(deferred, is_fired_with_an_error_by_errback_or_by_a_failure)
{
    weft_deferred *d = noted(pending(), "d"), *e = noted(pending(), "e");

    weft_deferred_errback(d, weft_error_new(&BROKEN, "x"));
    weft_deferred_callback(e, broken());
    finish(d, "d");
    finish(e, "e");
    cr_assert_str_eq(trace_text(), "d=!broken e=!broken d=!broken e=!broken");
}

Test(deferred, gives_its_first_success_with_no_value_as_well)
{
    weft_deferred *d = noted(pending(), "a");

    weft_deferred_callback(d, weft_ok(NULL));
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "a=nil");
}

/* ---- 2, 9: pairs ---- */

static weft_deferred *pair(weft_deferred *d, const char *label)
{
    static char labels[20][20];
    static int used;
    char *value = labels[used++], *error = labels[used++];

    snprintf(value, sizeof labels[0], "%s:value", label);
    snprintf(error, sizeof labels[0], "%s:error", label);
    weft_deferred_add_callback(d, note, value);
    return weft_deferred_add_errback(d, note, error);
}

Test(deferred, chooses_the_side_by_the_kind_of_the_result)
{
    weft_deferred *value = pair(pending(), "v"), *error = pair(pending(), "e");

    weft_deferred_callback(value, weft_int(1));
    weft_deferred_callback(error, broken());
    finish(value, "v");
    finish(error, "e");
    cr_assert_str_eq(trace_text(), "v:value=1 e:error=!broken v=1 e=!broken");
}

Test(deferred, passes_a_result_on_where_a_pair_has_no_side_for_it)
{
    weft_deferred *value = pending(), *error = pending();

    weft_deferred_add_callbacks(value, NULL, return_broken, NULL);
    weft_deferred_add_callbacks(error, return_nothing, NULL, NULL);
    weft_deferred_add_callbacks(value, NULL, NULL, NULL);
    weft_deferred_add_callbacks(error, NULL, NULL, NULL);
    weft_deferred_callback(value, weft_int(1));
    weft_deferred_callback(error, broken());
    finish(value, "v");
    finish(error, "e");
    cr_assert_str_eq(trace_text(), "v=1 e=!broken");
}

Test(deferred, hands_each_callback_what_the_one_before_returned)
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

Test(deferred, recovers_when_an_errback_returns_a_success)
{
    weft_deferred *d = pending();

    weft_deferred_add_errback(d, return_nothing, NULL);
    pair(d, "next");
    weft_deferred_errback(d, weft_error_new(&BROKEN, "x"));
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "next:value=nil");
}

Test(deferred, fails_when_a_callback_returns_a_failure)
{
    weft_deferred *d = pending();

    weft_deferred_add_callback(d, return_broken, NULL);
    pair(d, "next");
    weft_deferred_callback(d, weft_int(1));
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "next:error=!broken d=!broken");
}

Test(deferred, adding_returns_the_deferred)
{
    struct manual_clock manual;
    weft_deferred *d = pending();

    manual_clock_init(&manual);
    cr_assert_eq(weft_deferred_add_callbacks(d, NULL, NULL, NULL), d);
    cr_assert_eq(weft_deferred_add_callback(d, return_nothing, NULL), d);
    cr_assert_eq(weft_deferred_add_errback(d, return_nothing, NULL), d);
    cr_assert_eq(weft_deferred_add_both(d, return_nothing, NULL), d);
    cr_assert_eq(weft_deferred_add_timeout(d, &manual.clock, 1), d);
    weft_deferred_callback(d, weft_int(1));
    weft_deferred_unref(d);
}

Test(deferred, keeps_the_order_of_many_callbacks)
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

Test(deferred, keeps_the_order_of_a_queue_that_grows_while_it_runs)
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

/* ---- 8, 10, 11: adding while it runs, and afterwards ---- */

Test(deferred, runs_a_callback_added_later_at_once)
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

Test(deferred, runs_a_callback_added_during_a_run_after_those_before_it_and_never_nested)
{
    weft_deferred *d = pending();

    weft_deferred_add_both(d, add_from_inside, d);
    noted(d, "second");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "outer_begins outer_ends second=1 added=1");
    weft_deferred_unref(d);
}

Test(deferred, runs_a_callback_added_by_a_late_callback_after_it)
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

Test(deferred, hands_a_callback_added_during_a_run_the_result_of_that_time)
{
    weft_deferred *d = done(weft_int(1));

    weft_deferred_add_both(d, add_from_inside_and_fail, d);
    cr_assert_str_eq(trace_text(), "added=!broken");
    finish(d, "d");
    trace_text();
}

static weft_result let_go(weft_result result, void *deferred)
{
    weft_deferred_unref(deferred);
    return result;
}

Test(deferred, survives_its_last_reference_going_in_its_own_callback)
{
    weft_deferred *d = pending();

    weft_deferred_add_both(d, let_go, d);
    noted(d, "next");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "next=1");
}

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
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "state=2 taken=!misuse d=1");
}

/* ---- 4, 5, 6: firing twice, or with a deferred ---- */

Test(deferred_misuse, firing_twice_changes_nothing_and_names_both_places)
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
    finish(e, "e");
    cr_assert_str_eq(trace_text(), "e=1");
    weft_deferred_unref(d);
}

Test(deferred_misuse, firing_twice_in_any_way_is_logged)
{
    weft_deferred *value = done(weft_int(1)), *error = done(broken());

    log_capture();
    weft_deferred_callback(value, weft_int(2));
    weft_deferred_errback(value, weft_error_new(&OTHER, "x"));
    weft_deferred_callback(error, weft_int(2));
    weft_deferred_errback(error, weft_error_new(&OTHER, "x"));
    cr_assert_eq(log_count("ERROR - already_called"), 4);
    cr_assert_eq(log_count(""), 4);
    finish(value, "v");
    finish(error, "e");
    cr_assert_str_eq(trace_text(), "v=1 e=!broken");
}

Test(deferred_misuse, first_firing_by_try_is_no_error)
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

Test(deferred_misuse, firing_in_its_own_callback_is_an_error_there)
{
    weft_deferred *d = pending();

    weft_deferred_add_both(d, fire_again, d);
    noted(d, "next");
    weft_deferred_callback(d, weft_int(1));
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "next=!already_called d=!already_called");
}

Test(deferred_misuse, firing_while_it_waits_is_an_error)
{
    weft_deferred *d = done(weft_ok(NULL)), *inner = pending();
    weft_error *error;

    weft_deferred_add_callback(d, return_later, weft_deferred_ref(inner));
    error = weft_deferred_try_callback(d, weft_int(2));
    cr_assert(weft_error_is(error, &WEFT_ALREADY_CALLED));
    weft_error_unref(error);
    weft_deferred_callback(inner, weft_int(1));
    weft_deferred_unref(inner);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=1");
}

Test(deferred_misuse, firing_with_a_deferred_changes_nothing)
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

/* ---- 14-20: a callback that returns a deferred ---- */

/* `outer` waits for `inner`; its reference to that stays the caller's. */
Test(deferred_chain, takes_the_result_of_one_that_is_done_and_goes_on)
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
    finish(error, "e");
    trace_text();
}

Test(deferred_chain, waits_for_one_that_is_pending)
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

Test(deferred_chain, keeps_callbacks_added_while_it_waits_for_then)
{
    weft_deferred *inner = pending(), *d = waiting_for(inner);

    noted(d, "a");
    pair(d, "b");
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_errback(inner, weft_error_new(&BROKEN, "x"));
    cr_assert_str_eq(trace_text(), "a=!broken b:error=!broken");
    weft_deferred_unref(inner);
    finish(d, "d");
    trace_text();
}

Test(deferred_chain, goes_through_several_in_a_row)
{
    weft_deferred *inner = pending(), *middle = waiting_for(inner), *d = waiting_for(middle);

    cr_assert_eq(weft_deferred_get_state(d), WEFT_WAITING);
    weft_deferred_callback(inner, weft_int(3));
    cr_assert_eq(weft_deferred_get_state(middle), WEFT_DONE);
    weft_deferred_unref(inner);
    weft_deferred_unref(middle);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=3");
}

Test(deferred_chain, lets_an_errback_return_a_deferred_too)
{
    weft_deferred *inner = pending(), *d = pending();

    weft_deferred_add_errback(d, return_later, weft_deferred_ref(inner));
    weft_deferred_errback(d, weft_error_new(&BROKEN, "x"));
    cr_assert_eq(weft_deferred_get_state(d), WEFT_WAITING);
    weft_deferred_callback(inner, weft_int(3));
    weft_deferred_unref(inner);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=3");
}

/* 15, 16: callbacks on the inner from before transform the result; then the outer's run; then those added later. */
Test(deferred_chain, runs_the_outers_callbacks_before_those_added_to_the_inner_afterwards)
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

/* 17. */
Test(deferred_chain, leaves_the_inner_a_success_with_no_value)
{
    weft_deferred *inner = pending(), *d = waiting_for(inner);

    log_capture();
    weft_deferred_errback(inner, weft_error_new(&BROKEN, "x"));
    cr_assert_eq(weft_deferred_get_state(inner), WEFT_DONE);
    noted(inner, "inner");
    cr_assert_str_eq(trace_text(), "inner=nil");
    weft_deferred_unref(inner);
    finish(d, "d");
    cr_assert_eq(log_count("unhandled"), 0, "the error is not the inner's to report");
    trace_text();
}

static weft_result wait_for_the_running_one(weft_result result, void *arg)
{
    weft_deferred **both = arg;

    weft_deferred_add_both(both[0], return_later, weft_deferred_ref(both[1]));
    trace("state=%d", weft_deferred_get_state(both[0]));
    return result;
}

/* The inner is fired, but is just running its callbacks: it is not done. */
Test(deferred_chain, waits_for_one_whose_callbacks_run_further_up_the_stack)
{
    weft_deferred *inner = pending(), *d = done(weft_ok(NULL)), *both[] = {d, inner};

    weft_deferred_add_both(inner, wait_for_the_running_one, both);
    weft_deferred_add_both(inner, return_int, (void *)2);
    weft_deferred_callback(inner, weft_int(1));
    weft_deferred_unref(inner);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "state=1 d=2");
}

/* 20 [C]. */
Test(deferred_misuse, a_callback_that_returns_its_own_deferred)
{
    weft_deferred *d = pending();
    weft_result result;

    weft_deferred_add_both(d, return_later, weft_deferred_ref(d));
    noted(d, "next");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "next=!misuse");
    result = weft_deferred_take_result(d);
    cr_assert(strstr(weft_error_get_message(weft_failed(result)), "returned its own deferred"));
    weft_result_drop(result);
    weft_deferred_unref(d);
}

static weft_result return_later_from(weft_result result, void *slot)
{
    return return_later(result, weft_deferred_ref(*(weft_deferred **)slot));
}

Test(deferred_misuse, two_deferreds_that_wait_for_each_other)
{
    weft_deferred *a, *b = weft_deferred_add_both(pending(), return_later_from, &a);

    noted(b, "b");
    a = noted(waiting_for(b), "a");
    weft_deferred_callback(b, weft_int(1));
    cr_assert_str_eq(trace_text(), "b=!misuse a=!misuse");
    finish(a, "a");
    weft_deferred_unref(b);
    trace_text();
}

Test(deferred_misuse, three_deferreds_that_wait_for_each_other)
{
    weft_deferred *a, *b, *c = weft_deferred_add_both(pending(), return_later_from, &a);

    b = waiting_for(c);
    a = waiting_for(b);
    weft_deferred_callback(c, weft_int(1));
    weft_deferred_cancel(a);
    weft_deferred_unref(b);
    weft_deferred_unref(c);
    finish(a, "a");
    cr_assert_str_eq(trace_text(), "a=!misuse");
}

/* Here the cycle is closed by one that nobody waits for when its callback returns. */
static weft_result wait_for_each_other(weft_result result, void *arg)
{
    weft_deferred **both = arg;

    weft_deferred_add_both(both[0], return_later, weft_deferred_ref(both[1]));
    return return_later(result, weft_deferred_ref(both[0]));
}

Test(deferred_misuse, a_callback_that_makes_another_wait_for_its_own_and_returns_that)
{
    weft_deferred *own = pending(), *other = done(weft_ok(NULL)), *both[] = {other, own};

    weft_deferred_add_both(own, wait_for_each_other, both);
    weft_deferred_callback(own, weft_int(1));
    weft_deferred_unref(own);
    finish(other, "other");
    cr_assert_str_eq(trace_text(), "other=!misuse");
}

/* 21 [C]. */
Test(deferred_misuse, a_second_one_that_waits_for_the_same_inner)
{
    weft_deferred *inner = pending(), *first = waiting_for(inner), *second = waiting_for(inner);

    cr_assert_eq(weft_deferred_get_state(second), WEFT_DONE);
    finish(second, "second");
    weft_deferred_callback(inner, weft_int(1));
    finish(first, "first");
    weft_deferred_unref(inner);
    cr_assert_str_eq(trace_text(), "second=!misuse first=1");
}

Test(deferred_misuse, a_second_one_that_takes_the_result_of_the_same_inner)
{
    weft_deferred *inner = done(weft_int(1)), *first = waiting_for(inner), *second = waiting_for(inner);

    finish(second, "second");
    finish(first, "first");
    weft_deferred_unref(inner);
    cr_assert_str_eq(trace_text(), "second=!misuse first=1");
}

/* ---- 23-32: cancel ---- */

Test(deferred_cancel, without_a_canceller_fires_it_with_the_cancellation)
{
    weft_deferred *d = noted(pending(), "a");

    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "a=!cancelled");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_DONE);
    weft_deferred_unref(d);
}

Test(deferred_cancel, names_where_it_was_asked)
{
    weft_deferred *d = pending();
    int line = __LINE__ + 1;
    weft_deferred_cancel(d);
    weft_result result = weft_deferred_take_result(d);

    cr_assert_eq(weft_error_get_place(weft_failed(result))->line, line);
    weft_result_drop(result);
    weft_deferred_unref(d);
}

Test(deferred_cancel, says_why_when_asked_with_a_reason)
{
    weft_deferred *d = pending();
    weft_error *reason = weft_error_new(&WEFT_CLIENT_GONE, "it hung up");
    weft_result result;

    weft_deferred_cancel_with(d, reason);
    result = weft_deferred_take_result(d);
    cr_assert(weft_error_same(weft_failed(result), reason));
    cr_assert(weft_error_is(weft_failed(result), &WEFT_CLIENT_GONE));
    weft_result_drop(result);
    weft_deferred_unref(d);
}

/* 27. */
Test(deferred_cancel, without_a_canceller_swallows_exactly_one_late_result)
{
    weft_deferred *value = pending(), *error = pending();

    weft_deferred_cancel(value);
    weft_deferred_cancel(error);
    cr_assert_null(weft_deferred_try_callback(value, weft_int(1)));
    cr_assert_null(weft_deferred_try_callback(error, broken()));
    log_capture();
    weft_deferred_callback(value, weft_int(1));
    weft_deferred_callback(error, broken());
    cr_assert_eq(log_count("already_called"), 2);
    finish(value, "v");
    finish(error, "e");
    cr_assert_str_eq(trace_text(), "v=!cancelled e=!cancelled");
}

Test(deferred_cancel, again_and_again_changes_nothing)
{
    weft_deferred *plain = noted(pending(), "plain"), *with = noted(stoppable(cancel_done, "canceller"), "with");

    for (int i = 0; i < 3; i++) {
        weft_deferred_cancel(plain);
        weft_deferred_cancel(with);
    }
    cr_assert_str_eq(trace_text(), "plain=!cancelled canceller with=!cancelled");
    cr_assert_null(weft_deferred_try_callback(plain, weft_int(1)), "one is still swallowed, and only one");
    log_capture();
    weft_deferred_callback(plain, weft_int(1));
    cr_assert_eq(log_count("already_called"), 1);
    weft_deferred_unref(plain);
    weft_deferred_unref(with);
}

/* 24. */
Test(deferred_cancel, runs_the_canceller_once_then_the_errbacks)
{
    weft_deferred *d = noted(stoppable(cancel_done, "canceller"), "a");

    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "canceller a=!cancelled");
    weft_deferred_unref(d);
}

Test(deferred_cancel, with_a_canceller_swallows_no_late_result)
{
    weft_deferred *d = stoppable(cancel_done, "canceller");

    weft_deferred_cancel(d);
    log_capture();
    weft_deferred_callback(d, weft_int(1));
    cr_assert_eq(log_count("already_called"), 1);
    weft_deferred_unref(d);
    trace_text();
}

static weft_cancel_outcome look_around(weft_deferred *d, void *arg)
{
    weft_error *why = weft_deferred_get_cancellation(d);

    cr_assert_eq(*(weft_deferred **)arg, d);
    trace("state=%d why=%s", weft_deferred_get_state(d), weft_error_get_message(why));
    return WEFT_CANCEL_DONE;
}

Test(deferred_cancel, tells_the_canceller_which_deferred_and_why)
{
    weft_deferred *d = weft_deferred_new(look_around, &d);

    weft_deferred_cancel_with(d, weft_error_new(&WEFT_SHUTDOWN, "closing"));
    cr_assert_str_eq(trace_text(), "state=0 why=closing");
    cr_assert_null(weft_deferred_get_cancellation(d));
    weft_deferred_unref(d);
}

/* 33 [C]. */
Test(deferred_cancel, that_ends_later_leaves_it_pending_until_the_work_has_stopped)
{
    weft_deferred *d = noted(stoppable(cancel_later, "canceller"), "a");

    weft_deferred_cancel(d);
    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "canceller");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    cr_assert_not_null(weft_deferred_get_cancellation(d));
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "a=1", "work that had the result already may still bring it");
    cr_assert_null(weft_deferred_get_cancellation(d));
    log_capture();
    weft_deferred_callback(d, weft_int(2));
    cr_assert_eq(log_count("already_called"), 1, "nothing is swallowed");
    weft_deferred_unref(d);
}

Test(deferred_cancel, that_ends_later_may_give_its_reason_back_as_the_result)
{
    weft_deferred *d = noted(stoppable(cancel_later, "canceller"), "a");

    weft_deferred_cancel_with(d, weft_error_new(&WEFT_CLIENT_GONE, "x"));
    weft_deferred_errback(d, weft_error_ref(weft_deferred_get_cancellation(d)));
    cr_assert_str_eq(trace_text(), "canceller a=!client_gone");
    weft_deferred_unref(d);
}

static weft_cancel_outcome fire_value(weft_deferred *d, void *unused)
{
    (void)unused;
    weft_deferred_callback(d, weft_int(9));
    return WEFT_CANCEL_DONE;
}

static weft_cancel_outcome fire_error(weft_deferred *d, void *unused)
{
    (void)unused;
    weft_deferred_callback(d, broken());
    return WEFT_CANCEL_DONE;
}

static weft_cancel_outcome fire_value_and_say_later(weft_deferred *d, void *unused)
{
    fire_value(d, unused);
    return WEFT_CANCEL_LATER;
}

/* 25. */
Test(deferred_cancel, lets_the_canceller_fire_it_with_what_it_likes)
{
    weft_deferred *value = noted(weft_deferred_new(fire_value, NULL), "v");
    weft_deferred *error = noted(weft_deferred_new(fire_error, NULL), "e");
    weft_deferred *later = noted(weft_deferred_new(fire_value_and_say_later, NULL), "l");

    weft_deferred_cancel(value);
    weft_deferred_cancel(error);
    weft_deferred_cancel(later);
    cr_assert_str_eq(trace_text(), "v=9 e=!broken l=9");
    weft_deferred_unref(value);
    weft_deferred_unref(later);
    finish(error, "e");
    trace_text();
}

static weft_cancel_outcome cancel_again(weft_deferred *d, void *label)
{
    trace("%s", (const char *)label);
    weft_deferred_cancel(d);
    trace("%s_ends", (const char *)label);
    return WEFT_CANCEL_DONE;
}

/* 26 [C]. */
Test(deferred_cancel, inside_its_own_canceller_does_not_run_it_again)
{
    weft_deferred *d = noted(stoppable(cancel_again, "canceller"), "a");

    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "canceller canceller_ends a=!cancelled");
    weft_deferred_unref(d);
}

static weft_cancel_outcome let_go_and_be_done(weft_deferred *d, void *also)
{
    weft_deferred_unref(d);
    weft_deferred_unref(also);
    return WEFT_CANCEL_DONE;
}

static weft_cancel_outcome let_go_and_say_later(weft_deferred *d, void *also)
{
    let_go_and_be_done(d, also);
    return WEFT_CANCEL_LATER;
}

Test(deferred_cancel, survives_a_canceller_that_lets_go_of_every_reference)
{
    weft_deferred *d = weft_deferred_new(let_go_and_be_done, NULL), *e = weft_deferred_new(let_go_and_say_later, NULL);

    noted(d, "d");
    noted(e, "e");
    weft_deferred_cancel(d);
    weft_deferred_cancel(e);
    cr_assert_str_eq(trace_text(), "d=!cancelled e=!cancelled", "nobody can bring the result later");
    cr_assert_eq(weft_live_counts_get().deferreds, 0);
}

static weft_cancel_outcome let_go_of_outer(weft_deferred *d, void *outer)
{
    (void)d;
    trace("canceller");
    weft_deferred_unref(*(weft_deferred **)outer);
    return WEFT_CANCEL_DONE;
}

Test(deferred_cancel, survives_a_canceller_that_lets_go_of_the_one_that_was_cancelled)
{
    weft_deferred *outer, *inner = weft_deferred_new(let_go_of_outer, &outer);

    outer = noted(waiting_for(inner), "outer");
    weft_deferred_cancel(outer);
    cr_assert_str_eq(trace_text(), "canceller outer=!cancelled");
    cr_assert_eq(weft_live_counts_get().deferreds, 1);
    weft_deferred_unref(inner);
}

/* 29. */
Test(deferred_cancel, of_one_that_is_done_does_nothing)
{
    weft_deferred *value = done(weft_int(1)), *error = done(broken()), *with = stoppable(cancel_done, "canceller");

    weft_deferred_callback(with, weft_int(2));
    weft_deferred_cancel(value);
    weft_deferred_cancel_with(error, weft_error_new(&WEFT_CANCELLED, "x"));
    weft_deferred_cancel(with);
    finish(value, "v");
    finish(error, "e");
    finish(with, "w");
    cr_assert_str_eq(trace_text(), "v=1 e=!broken w=2");
}

static weft_result cancel_own(weft_result result, void *own)
{
    weft_deferred_cancel(own);
    return result;
}

Test(deferred_cancel, inside_its_own_callback_does_nothing_and_is_forgotten)
{
    weft_deferred *d = stoppable(cancel_done, "canceller"), *inner = stoppable(cancel_done, "inner");

    weft_deferred_add_both(d, cancel_own, d);
    weft_deferred_add_both(noted(d, "a"), return_later, weft_deferred_ref(inner));
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "a=1");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_WAITING);
    weft_deferred_callback(inner, weft_int(2));
    weft_deferred_unref(inner);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=2");
}

/* 28. */
Test(deferred_cancel, goes_down_to_the_innermost_and_comes_back_up)
{
    weft_deferred *inner = stoppable(cancel_done, "inner"), *middle = stoppable(cancel_done, "middle"), *outer;

    noted(inner, "i");
    weft_deferred_callback(middle, weft_ok(NULL));
    weft_deferred_add_both(middle, return_later, weft_deferred_ref(inner));
    noted(middle, "m");
    outer = noted(waiting_for(middle), "o");
    weft_deferred_cancel(outer);
    cr_assert_str_eq(trace_text(), "inner i=!cancelled m=!cancelled o=!cancelled");
    weft_deferred_unref(inner);
    weft_deferred_unref(middle);
    weft_deferred_unref(outer);
}

Test(deferred_cancel, may_be_handled_on_any_level)
{
    weft_deferred *inner = pending(), *middle = waiting_for(inner), *outer;

    weft_deferred_add_errback(middle, return_int, (void *)3);
    outer = pair(waiting_for(middle), "o");
    weft_deferred_cancel(outer);
    cr_assert_str_eq(trace_text(), "o:value=3");
    weft_deferred_unref(inner);
    weft_deferred_unref(middle);
    weft_deferred_unref(outer);
}

Test(deferred_cancel, may_be_delayed_by_an_errback_that_waits)
{
    weft_deferred *inner = pending(), *clean_up = stoppable(cancel_done, "clean_up"), *outer = waiting_for(inner);

    weft_deferred_add_errback(outer, return_later, weft_deferred_ref(clean_up));
    noted(outer, "o");
    weft_deferred_cancel(outer);
    cr_assert_str_eq(trace_text(), "");
    cr_assert_eq(weft_deferred_get_state(outer), WEFT_WAITING);
    weft_deferred_cancel(outer);
    cr_assert_str_eq(trace_text(), "clean_up o=!cancelled", "a second cancel is for what it waits for then");
    weft_deferred_unref(clean_up);
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

/* 31. */
Test(deferred_cancel, of_the_inner_is_just_its_result_to_the_outer)
{
    weft_deferred *inner = pending(), *outer = noted(waiting_for(inner), "o");

    log_capture();
    weft_deferred_cancel(inner);
    cr_assert_str_eq(trace_text(), "o=!cancelled");
    cr_assert_null(weft_deferred_try_callback(inner, weft_int(1)), "the inner swallows its late result");
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

Test(deferred_cancel, forgets_the_canceller_when_it_fires)
{
    weft_deferred *inner = pending(), *d = stoppable(cancel_done, "canceller");

    weft_deferred_add_both(d, return_later, weft_deferred_ref(inner));
    weft_deferred_callback(d, weft_ok(NULL));
    weft_deferred_cancel(d);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=!cancelled");
    weft_deferred_unref(inner);
}

static weft_result fire_own_late(weft_result result, void *own)
{
    cr_assert_null(weft_deferred_try_callback(own, weft_int(1)));
    return result;
}

/* 27, last sentence. */
Test(deferred_cancel, lets_an_errback_use_up_the_late_result)
{
    weft_deferred *d = pending();
    weft_error *error;

    weft_deferred_add_errback(d, fire_own_late, d);
    weft_deferred_cancel(d);
    error = weft_deferred_try_callback(d, weft_int(1));
    cr_assert(weft_error_is(error, &WEFT_ALREADY_CALLED));
    weft_error_unref(error);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=!cancelled");
}

/* ---- 34-37: timeouts ---- */

static struct manual_clock manual;

static weft_deferred *with_timeout(weft_deferred *d, double seconds)
{
    if (!manual.clock.now)
        manual_clock_init(&manual);
    return weft_deferred_add_timeout(d, &manual.clock, seconds);
}

Test(deferred_timeout, cancels_what_takes_too_long_and_says_timed_out)
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

Test(deferred_timeout, does_nothing_to_a_result_in_time)
{
    weft_deferred *value = with_timeout(pending(), 5), *error = with_timeout(pending(), 5);

    weft_deferred_callback(value, weft_int(1));
    weft_deferred_callback(error, broken());
    cr_assert_eq(weft_live_counts_get().timers, 0, "the timer is stopped");
    manual_clock_advance(&manual, 10);
    finish(value, "v");
    finish(error, "e");
    cr_assert_str_eq(trace_text(), "v=1 e=!broken");
}

/* Its own identity [C]: only the timer's own cancellation is translated. */
Test(deferred_timeout, leaves_a_cancel_by_hand_a_cancel)
{
    weft_deferred *d = with_timeout(pending(), 5);

    weft_deferred_cancel(d);
    cr_assert_eq(weft_live_counts_get().timers, 0);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=!cancelled");
}

Test(deferred_timeout, leaves_a_cancel_by_hand_a_cancel_when_it_ends_after_the_time)
{
    weft_deferred *d = with_timeout(stoppable(cancel_later, "canceller"), 5);

    weft_deferred_cancel(d);
    manual_clock_advance(&manual, 6);
    weft_deferred_errback(d, weft_error_ref(weft_deferred_get_cancellation(d)));
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "canceller d=!cancelled");
}

static weft_result other_cancellation(weft_result result, void *unused)
{
    (void)unused;
    weft_result_drop(result);
    return weft_fail(weft_error_new(&WEFT_CANCELLED, "somebody else's"));
}

Test(deferred_timeout, leaves_another_cancellation_that_comes_out_after_the_time)
{
    weft_deferred *d = with_timeout(weft_deferred_add_errback(pending(), other_cancellation, NULL), 5);

    manual_clock_advance(&manual, 6);
    finish(d, "d");
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

Test(deferred_timeout, knows_its_cancellation_by_whichever_way_it_came_up)
{
    static const weft_place place = {"x.c", "f", 1};
    weft_deferred *d = with_timeout(weft_deferred_add_errback(pending(), pass_up, (void *)&place), 5);

    manual_clock_advance(&manual, 5);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=!timed_out");
}

/* 35, 37. */
Test(deferred_timeout, keeps_what_a_canceller_or_an_errback_makes_of_it)
{
    weft_deferred *value = with_timeout(weft_deferred_new(fire_value, NULL), 5);
    weft_deferred *error = with_timeout(weft_deferred_new(fire_error, NULL), 5);
    weft_deferred *handled = with_timeout(weft_deferred_add_errback(pending(), return_int, (void *)4), 5);

    manual_clock_advance(&manual, 5);
    finish(value, "v");
    finish(error, "e");
    finish(handled, "h");
    cr_assert_str_eq(trace_text(), "v=9 e=!broken h=4");
}

Test(deferred_timeout, cancels_the_inner_that_it_waits_for)
{
    weft_deferred *inner = stoppable(cancel_done, "inner"), *d = with_timeout(waiting_for(inner), 5);

    manual_clock_advance(&manual, 5);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "inner d=!timed_out");
    weft_deferred_unref(inner);
}

/* 36. */
Test(deferred_timeout, covers_the_callbacks_before_it_and_not_those_after)
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
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=1");
}

/* 38. */
Test(deferred_timeout, waits_for_a_cancelled_chain_that_resists)
{
    weft_deferred *resisting = with_timeout(stoppable(cancel_later, "canceller"), 5);
    weft_deferred *stopped = with_timeout(stoppable(cancel_later, "canceller"), 5);

    manual_clock_advance(&manual, 5);
    cr_assert_eq(weft_deferred_get_state(resisting), WEFT_PENDING);
    weft_deferred_callback(resisting, weft_int(1));
    weft_deferred_errback(stopped, weft_error_ref(weft_deferred_get_cancellation(stopped)));
    finish(resisting, "r");
    finish(stopped, "s");
    cr_assert_str_eq(trace_text(), "canceller canceller r=1 s=!timed_out");
}

Test(deferred_timeout, on_one_that_is_done_is_over_at_once)
{
    weft_deferred *d = with_timeout(done(weft_int(1)), 5);

    cr_assert_eq(weft_live_counts_get().timers, 0);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=1");
}

Test(deferred_timeout, the_first_of_two_is_the_one_that_counts)
{
    weft_deferred *d = with_timeout(with_timeout(noted(pending(), "a"), 5), 3);

    manual_clock_advance(&manual, 3);
    cr_assert_str_eq(trace_text(), "a=!cancelled");
    cr_assert_eq(weft_live_counts_get().timers, 0);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=!timed_out");
}

Test(deferred_timeout, of_an_orphan_stops_its_timer)
{
    weft_deferred *d = noted(with_timeout(pending(), 5), "a");

    log_capture();
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "a=!orphaned");
    cr_assert_eq(weft_live_counts_get().timers, 0);
    manual_clock_advance(&manual, 10);
}

/* The timer only borrows the deferred, which here goes inside the timer's own cancel. */
Test(deferred_timeout, survives_the_deferred_going_when_it_fires)
{
    weft_deferred *d = with_timeout(weft_deferred_add_errback(pending(), let_go, NULL), 5);

    log_capture();
    weft_deferred_add_both(d, let_go, d);
    manual_clock_advance(&manual, 5);
    cr_assert_eq(weft_live_counts_get().deferreds, 0);
    cr_assert_eq(weft_live_counts_get().errors, 0);
}

/* ---- orphans ---- */

Test(deferred_orphan, tells_its_callbacks_that_nobody_can_fire_it_any_more)
{
    weft_deferred *d = weft_deferred_add_errback(noted(pending(), "a"), return_nothing, NULL);

    noted(d, "b");
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "a=!orphaned b=nil");
    cr_assert_eq(weft_live_counts_get().deferreds, 0);
}

static weft_result note_place(weft_result result, void *line)
{
    *(int *)line = weft_error_get_place(weft_failed(result))->line;
    return return_nothing(result, NULL);
}

Test(deferred_orphan, names_where_it_was_made)
{
    int line = 0, made = __LINE__ + 1;
    weft_deferred *d = weft_deferred_new(NULL, NULL);

    weft_deferred_add_both(d, note_place, &line);
    weft_deferred_unref(d);
    cr_assert_eq(line, made);
}

Test(deferred_orphan, without_callbacks_just_goes)
{
    log_capture();
    weft_deferred_unref(stoppable(cancel_done, "canceller"));
    cr_assert_str_eq(trace_text(), "", "the canceller does not run");
    cr_assert_eq(log_count(""), 0);
}

Test(deferred_orphan, that_nobody_handles_is_reported)
{
    log_capture();
    weft_deferred_unref(noted(pending(), "a"));
    cr_assert_eq(log_count("unhandled error"), 1);
    cr_assert_eq(log_count("orphaned"), 1);
    trace_text();
}

Test(deferred_orphan, returned_from_a_callback_fails_the_one_that_waits)
{
    weft_deferred *d = done(weft_ok(NULL));

    weft_deferred_add_both(d, return_later, noted(pending(), "inner"));
    noted(d, "d");
    cr_assert_str_eq(trace_text(), "inner=!orphaned d=!orphaned");
    cr_assert_eq(weft_live_counts_get().deferreds, 1);
    finish(d, "d");
    trace_text();
}

Test(deferred_orphan, in_the_middle_of_a_chain_fails_all_above)
{
    weft_deferred *inner = pending(), *middle = waiting_for(inner), *outer = noted(waiting_for(middle), "outer");

    weft_deferred_unref(middle);
    cr_assert_str_eq(trace_text(), "", "the middle one is held by what will fire it");
    weft_deferred_unref(inner);
    cr_assert_str_eq(trace_text(), "outer=!orphaned");
    finish(outer, "o");
    trace_text();
}

static weft_deferred *kept;

static weft_result keep(weft_result result, void *own)
{
    kept = weft_deferred_ref(own);
    return result;
}

Test(deferred_orphan, may_be_kept_by_its_own_callback)
{
    weft_deferred *d = pending();

    weft_deferred_add_both(d, keep, d);
    weft_deferred_unref(d);
    cr_assert_eq(kept, d);
    cr_assert_eq(weft_deferred_get_state(d), WEFT_DONE);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=!orphaned");
}

Test(deferred_orphan, that_was_asked_to_stop_ends_with_that)
{
    weft_deferred *d = noted(stoppable(cancel_later, "canceller"), "a");

    log_capture();
    weft_deferred_cancel_with(d, weft_error_new(&WEFT_CLIENT_GONE, "x"));
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "canceller a=!client_gone");
    cr_assert_eq(log_count(""), 0);
}

Test(deferred_orphan, touches_no_context)
{
    weft_context *previous = enter("adder"), *second;
    weft_deferred *d = context_noted(pending(), "a");

    weft_deferred_add_errback(d, return_nothing, NULL);
    second = enter("dropper");
    weft_deferred_unref(d);
    trace("after@%s", weft_context_get_name(weft_context_current()));
    leave(second);
    leave(previous);
    cr_assert_str_eq(trace_text(), "a@adder after@dropper");
}

/* ---- 39-41: unhandled errors ---- */

static weft_result return_cancelled(weft_result result, void *unused)
{
    (void)unused;
    weft_result_drop(result);
    return weft_fail(weft_error_new(&WEFT_CANCELLED, "of somebody else"));
}


Test(deferred_unhandled, error_is_logged_once_when_the_last_reference_goes)
{
    int made = __LINE__ + 1;
    weft_deferred *d = weft_deferred_new(NULL, NULL);
    char place[200];

    log_capture();
    weft_deferred_errback(d, weft_error_new(&BROKEN, "the disk is on fire"));
    weft_deferred_ref(d);
    weft_deferred_unref(d);
    cr_assert_eq(log_count(""), 0, "somebody may still handle it");
    weft_deferred_unref(d);
    snprintf(place, sizeof place, "made at %s:%d", __FILE__, made);
    cr_assert_eq(log_count("ERROR - unhandled error"), 1);
    cr_assert_eq(log_count("broken: the disk is on fire"), 1);
    cr_assert_eq(log_count(place), 1);
    cr_assert_eq(log_count(""), 1);
}

Test(deferred_unhandled, cancellation_that_its_owner_asked_for_is_not_logged)
{
    weft_deferred *d = pending(), *inner = pending(), *outer = waiting_for(inner);

    log_capture();
    weft_deferred_cancel(d);
    weft_deferred_unref(d);
    weft_deferred_cancel(outer);
    weft_deferred_unref(outer);
    weft_deferred_unref(inner);
    cr_assert_eq(log_count(""), 0);
}

Test(deferred_unhandled, cancellation_that_somebody_else_asked_for_is_logged)
{
    weft_deferred *inner = pending(), *outer = waiting_for(inner), *d = pending();

    log_capture();
    weft_deferred_unref(done(weft_fail(weft_error_new(&WEFT_SHUTDOWN, "x"))));
    cr_assert_eq(log_count("shutdown: x"), 1);
    weft_deferred_cancel(inner);
    weft_deferred_unref(outer);
    weft_deferred_unref(inner);
    cr_assert_eq(log_count("unhandled error"), 2, "the outer's owner did not ask");
    weft_deferred_callback(d, weft_ok(NULL));
    weft_deferred_cancel(d);
    weft_deferred_add_callback(d, return_cancelled, NULL);
    weft_deferred_unref(d);
    cr_assert_eq(log_count("unhandled error"), 3, "a cancel that came too late asked for nothing");
}

Test(deferred_unhandled, error_that_was_handled_taken_or_moved_is_not_logged)
{
    weft_deferred *handled = done(broken()), *taken = done(broken()), *moved = done(broken()), *outer;

    log_capture();
    weft_deferred_add_errback(handled, return_nothing, NULL);
    weft_result_drop(weft_deferred_take_result(taken));
    outer = waiting_for(moved);
    weft_deferred_add_errback(outer, return_nothing, NULL);
    weft_deferred_unref(handled);
    weft_deferred_unref(taken);
    weft_deferred_unref(moved);
    weft_deferred_unref(outer);
    cr_assert_eq(log_count(""), 0);
}

Test(deferred_unhandled, error_that_moved_is_reported_by_the_outer)
{
    weft_deferred *inner = pending(), *outer = waiting_for(inner);

    log_capture();
    weft_deferred_unref(outer);
    weft_deferred_errback(inner, weft_error_new(&BROKEN, "x"));
    cr_assert_eq(log_count("unhandled"), 1);
    weft_deferred_unref(inner);
    cr_assert_eq(log_count("unhandled"), 1);
}

Test(deferred_unhandled, success_is_not_logged)
{
    log_capture();
    weft_deferred_unref(done(weft_int(1)));
    weft_deferred_unref(pending());
    cr_assert_eq(log_count(""), 0);
}

/* ---- log contexts: G8, G20, G24 ---- */

Test(deferred_context, callbacks_run_in_the_one_in_which_they_were_added)
{
    weft_deferred *d = pending();
    weft_context *previous;

    context_noted(d, "outside");
    previous = enter("first");
    context_noted(d, "a");
    leave(previous);
    previous = enter("second");
    context_noted(d, "b");
    leave(previous);
    previous = enter("firer");
    weft_deferred_callback(d, weft_ok(NULL));
    trace("firer@%s", weft_context_get_name(weft_context_current()));
    leave(previous);
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "outside@- a@first b@second firer@firer");
}

Test(deferred_context, is_kept_for_a_callback_after_its_scope_was_left)
{
    weft_deferred *d = pending();
    weft_context *previous = enter("GET-1");

    context_noted(d, "finished");
    leave(previous);
    cr_assert_eq(weft_live_counts_get().contexts, 1);
    weft_deferred_callback(d, weft_ok(NULL));
    cr_assert_str_eq(trace_text(), "finished@GET-1");
    cr_assert_eq(weft_live_counts_get().contexts, 0, "and not longer");
    weft_deferred_unref(d);
}

Test(deferred_context, of_a_side_that_is_not_taken_is_let_go_of)
{
    weft_deferred *d = pending();
    weft_context *previous = enter("x");

    weft_deferred_add_errback(d, note_context, NULL);
    weft_deferred_add_callbacks(d, NULL, NULL, NULL);
    leave(previous);
    weft_deferred_callback(d, weft_ok(NULL));
    cr_assert_eq(weft_live_counts_get().contexts, 0);
    weft_deferred_unref(d);
}

Test(deferred_context, of_the_adder_holds_for_a_callback_that_runs_at_once)
{
    weft_deferred *d = done(weft_ok(NULL));
    weft_context *previous = enter("adder");

    context_noted(d, "a");
    cr_assert_str_eq(trace_text(), "a@adder");
    leave(previous);
    weft_deferred_unref(d);
}

Test(deferred_context, of_a_chain_is_each_callbacks_own)
{
    weft_deferred *inner = pending(), *outer;
    weft_context *previous = enter("inner");

    context_noted(inner, "i");
    leave(previous);
    previous = enter("outer");
    outer = context_noted(waiting_for(inner), "o");
    leave(previous);
    previous = enter("firer");
    weft_deferred_callback(inner, weft_ok(NULL));
    trace("firer@%s", weft_context_get_name(weft_context_current()));
    leave(previous);
    cr_assert_str_eq(trace_text(), "i@inner o@outer firer@firer");
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

static weft_cancel_outcome canceller_context(weft_deferred *d, void *label)
{
    (void)d;
    trace("%s@%s", (const char *)label, weft_context_get_name(weft_context_current()));
    return WEFT_CANCEL_DONE;
}

Test(deferred_context, of_the_one_who_cancels_is_the_cancellers_and_is_kept)
{
    weft_context *previous = enter("adder");
    weft_deferred *d = context_noted(stoppable(canceller_context, "canceller"), "a");

    leave(previous);
    previous = enter("asker");
    weft_deferred_cancel(d);
    trace("asker@%s", weft_context_get_name(weft_context_current()));
    leave(previous);
    cr_assert_str_eq(trace_text(), "canceller@asker a@adder asker@asker");
    weft_deferred_unref(d);
}

static weft_result leave_another_behind(weft_result result, void *unused)
{
    (void)unused;
    weft_context_unref(weft_context_set(weft_context_new("left_behind")));
    return result;
}

/* A callback's mistake, which must not become somebody else's. */
Test(deferred_context, left_behind_by_a_callback_is_taken_away)
{
    weft_deferred *d = done(weft_ok(NULL));
    weft_context *previous = enter("adder"), *second;

    weft_deferred_add_both(d, leave_another_behind, NULL);
    trace("%s", weft_context_get_name(weft_context_current()));
    leave(previous);
    weft_deferred_unref(d);

    d = pending();
    previous = enter("adder");
    weft_deferred_add_both(d, leave_another_behind, NULL);
    second = enter("firer");
    weft_deferred_callback(d, weft_ok(NULL));
    trace("%s", weft_context_get_name(weft_context_current()));
    leave(second);
    leave(previous);
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "adder firer");
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

/* ---- 18, 32: neither length nor depth costs C stack ---- */

static weft_result count(weft_result result, void *counter)
{
    ++*(int *)counter;
    return result;
}

static void fire_a_million_callbacks(void *unused)
{
    weft_deferred *d = pending();
    int counter = 0;

    (void)unused;
    for (int i = 0; i < MANY; i++)
        weft_deferred_add_both(d, count, &counter);
    weft_deferred_callback(d, weft_int(1));
    cr_assert_eq(counter, MANY);
    for (int i = 0; i < MANY; i++)
        weft_deferred_add_both(d, count, &counter);
    cr_assert_eq(counter, 2 * MANY);
    weft_deferred_unref(d);
}

Test(deferred_flat, a_million_callbacks_on_one, .timeout = 30)
{
    with_small_stack(fire_a_million_callbacks, NULL);
}

struct adder {
    weft_deferred *deferred;
    int left;
};

static weft_result add_the_next(weft_result result, void *arg)
{
    struct adder *adder = arg;

    if (adder->left--)
        weft_deferred_add_both(adder->deferred, add_the_next, adder);
    return result;
}

static void add_one_after_the_other(void *unused)
{
    struct adder adder = {pending(), MANY};

    (void)unused;
    weft_deferred_add_both(adder.deferred, add_the_next, &adder);
    weft_deferred_callback(adder.deferred, weft_int(1));
    cr_assert_eq(adder.left, -1);
    weft_deferred_unref(adder.deferred);
}

Test(deferred_flat, a_million_callbacks_that_each_add_the_next, .timeout = 30)
{
    with_small_stack(add_one_after_the_other, NULL);
}

/* A chain of so many, all waiting for `inner`. Only the outermost is referred to. */
static weft_deferred *long_chain(weft_deferred *inner)
{
    weft_deferred *outer = weft_deferred_ref(inner);

    for (int i = 0; i < MANY; i++)
        outer = weft_deferred_add_both(done(weft_ok(NULL)), return_later, outer);
    return outer;
}

static void fire_a_long_chain(void *unused)
{
    weft_deferred *inner = pending(), *outer = long_chain(inner);

    (void)unused;
    cr_assert_eq(weft_deferred_get_state(outer), WEFT_WAITING);
    weft_deferred_callback(inner, weft_int(5));
    weft_deferred_unref(inner);
    cr_assert_str_eq(told(weft_deferred_take_result(outer)), "5");
    weft_deferred_unref(outer);
}

Test(deferred_flat, a_chain_a_million_deep_that_is_fired, .timeout = 30)
{
    with_small_stack(fire_a_long_chain, NULL);
}

static void cancel_a_long_chain(void *unused)
{
    weft_deferred *inner = stoppable(cancel_done, "canceller"), *outer = long_chain(inner);

    (void)unused;
    weft_deferred_cancel(outer);
    cr_assert_str_eq(trace_text(), "canceller");
    weft_deferred_unref(inner);
    cr_assert_str_eq(told(weft_deferred_take_result(outer)), "!cancelled");
    weft_deferred_unref(outer);
}

Test(deferred_flat, a_chain_a_million_deep_that_is_cancelled, .timeout = 30)
{
    with_small_stack(cancel_a_long_chain, NULL);
}

static void orphan_a_long_chain(void *unused)
{
    weft_deferred *inner = pending(), *outer = long_chain(inner);

    (void)unused;
    weft_deferred_unref(inner);
    cr_assert_str_eq(told(weft_deferred_take_result(outer)), "!orphaned");
    weft_deferred_unref(outer);
}

Test(deferred_flat, a_chain_a_million_deep_whose_innermost_is_orphaned, .timeout = 30)
{
    with_small_stack(orphan_a_long_chain, NULL);
}

static void drop_a_long_chain(void *unused)
{
    weft_deferred *inner = pending();

    (void)unused;
    weft_deferred_unref(long_chain(inner));
    weft_deferred_callback(inner, weft_int(1));
    weft_deferred_unref(inner);
}

Test(deferred_flat, a_chain_a_million_deep_that_nobody_waits_for, .timeout = 30)
{
    with_small_stack(drop_a_long_chain, NULL);
}

static weft_result return_a_ready_one(weft_result result, void *counter)
{
    ++*(int *)counter;
    return return_later(result, done(weft_int(*(int *)counter)));
}

static weft_result return_an_orphan(weft_result result, void *counter)
{
    ++*(int *)counter;
    return return_later(result, pending());
}

static void return_many_one_after_the_other(void *unused)
{
    weft_deferred *ready = pending(), *orphans = pending();
    int counter = 0;

    (void)unused;
    for (int i = 0; i < MANY; i++) {
        weft_deferred_add_both(ready, return_a_ready_one, &counter);
        weft_deferred_add_both(orphans, return_an_orphan, &counter);
    }
    weft_deferred_callback(ready, weft_int(0));
    cr_assert_eq(counter, MANY);
    weft_deferred_callback(orphans, weft_int(0));
    cr_assert_eq(counter, 2 * MANY);
    cr_assert_str_eq(told(weft_deferred_take_result(orphans)), "!orphaned");
    weft_deferred_unref(ready);
    weft_deferred_unref(orphans);
}

Test(deferred_flat, a_million_deferreds_returned_to_one_in_a_row, .timeout = 30)
{
    with_small_stack(return_many_one_after_the_other, NULL);
}

static weft_result return_an_orphan_with_more(weft_result result, void *left)
{
    weft_result_drop(result);
    if (!--*(int *)left)
        return weft_int(1);
    return weft_later(weft_deferred_add_both(pending(), return_an_orphan_with_more, left));
}

static void orphan_within_orphan(void *unused)
{
    weft_deferred *d = pending();
    int left = MANY;

    (void)unused;
    weft_deferred_add_both(d, return_an_orphan_with_more, &left);
    weft_deferred_callback(d, weft_int(0));
    cr_assert_eq(left, 0);
    cr_assert_str_eq(told(weft_deferred_take_result(d)), "1");
    weft_deferred_unref(d);
}

Test(deferred_flat, a_million_orphans_each_returned_by_the_one_before, .timeout = 30)
{
    with_small_stack(orphan_within_orphan, NULL);
}

/* ---- memory ---- */

#ifndef WEFT_TEST_SANITIZED
static size_t allocated(void)
{
    return mallinfo2().uordblks;
}

enum { SOME = 1000 }; /* many more than malloc keeps at hand uncounted */

static void make_some(weft_deferred **some)
{
    for (int i = 0; i < SOME; i++)
        some[i] = stoppable(cancel_done, "");
}

static void unref_some(weft_deferred **some)
{
    for (int i = 0; i < SOME; i++)
        weft_deferred_unref(some[i]);
}

static void add_to_some(weft_deferred **some)
{
    static char label[] = "";

    for (int i = 0; i < SOME; i++)
        noted(some[i], label);
}

/* glibc says how much is allocated right now; the slabs are warm. */
Test(deferred_memory, one_with_two_callbacks_needs_no_malloc)
{
    weft_deferred *some[SOME];
    size_t before;

    make_some(some);
    unref_some(some);
    before = allocated();
    make_some(some);
    add_to_some(some);
    add_to_some(some);
    cr_assert_eq(allocated(), before);
    add_to_some(some);
    cr_assert_gt(allocated(), before, "this is how a malloc looks");
    log_capture();
    unref_some(some);
    trace_text();
}

Test(deferred_memory, waiting_for_another_needs_no_malloc)
{
    weft_deferred *some[SOME], *inner[SOME];
    size_t before;

    make_some(some);
    make_some(inner);
    before = allocated();
    for (int i = 0; i < SOME; i++) {
        weft_deferred_add_both(some[i], return_later, weft_deferred_ref(inner[i]));
        weft_deferred_callback(some[i], weft_ok(NULL));
        cr_assert_eq(weft_deferred_get_state(some[i]), WEFT_WAITING);
    }
    cr_assert_eq(allocated(), before);
    for (int i = 0; i < SOME; i++)
        weft_deferred_callback(inner[i], weft_ok(NULL));
    unref_some(some);
    unref_some(inner);
}
#endif

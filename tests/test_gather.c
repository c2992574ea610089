/* Gathering: all values, or the first error. r47 and r49 are rules of Twisted, n14 to n17 and a3, a4 are what Synapse needs
 * of it; what is not numbered is where weft does better. Re-entrancy and stacks: tests/test_many.c. */
#include "tests/support/members.h"
#include "tests/support/test.h"

#include <string.h>

/* ---- values ---- */

Test(gather, r47_gap_brings_the_values_in_the_order_of_the_members_not_of_their_firing)
{
    struct members m = members(3, NULL);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 3, 0), "g");

    weft_deferred_callback(m.of[2], weft_int(3));
    weft_deferred_callback(m.of[0], weft_int(1));
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(m.of[1], weft_int(2));
    cr_assert_str_eq(trace_text(), "g=[1 2 3]");
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, r47_of_none_fires_at_once)
{
    weft_deferred_unref(noted_last(weft_gather_results(NULL, 0, 0), "g"));
    cr_assert_str_eq(trace_text(), "g=[]");
}

Test(gather, takes_members_that_have_their_values)
{
    weft_deferred *const ready[] = {done(weft_int(1)), done(weft_ok(NULL))};

    weft_deferred_unref(noted_last(weft_gather_results(ready, 2, 0), "g"));
    cr_assert_str_eq(trace_text(), "g=[1 nil]");
}

Test(gather, owns_the_values_until_somebody_takes_them)
{
    struct value a = {"a", 0}, b = {"b", 0};
    weft_deferred *const ready[] = {done(value_of(&a)), done(value_of(&b))};
    weft_deferred *g = weft_gather_results(ready, 2, 0);

    cr_assert_eq(a.drops + b.drops, 0);
    weft_deferred_unref(g);
    cr_assert_eq(a.drops, 1);
    cr_assert_eq(b.drops, 1);
}

Test(gather, copies_the_array)
{
    struct members m = members(2, NULL);
    weft_deferred *array[2];
    weft_deferred *g;

    memcpy(array, given(&m), sizeof array);
    g = noted_last(weft_gather_results(array, 2, 0), "g");
    array[0] = array[1] = NULL;
    weft_deferred_callback(m.of[0], weft_int(1));
    weft_deferred_callback(m.of[1], weft_int(2));
    cr_assert_str_eq(trace_text(), "g=[1 2]");
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, goes_on_when_nobody_looks)
{
    struct value a = {"a", 0};
    struct members m = members(2, NULL);

    weft_deferred_unref(weft_gather_results(given(&m), 2, 0));
    weft_deferred_callback(m.of[0], value_of(&a));
    cr_assert_eq(a.drops, 0);
    weft_deferred_callback(m.of[1], weft_int(1));
    cr_assert_eq(a.drops, 1);
    let_go_of(&m);
}

/* ---- the first error ---- */

Test(gather, a4_fails_with_the_very_error_of_the_member)
{
    struct members m = members(2, NULL);
    weft_deferred *g = weft_gather_results(given(&m), 2, 0);
    int line = __LINE__ - 1;
    weft_error *error = weft_error_new(&BROKEN, "x"), *failed;
    const weft_place *const *trace;

    weft_deferred_callback(m.of[0], weft_int(1));
    weft_deferred_errback(m.of[1], weft_error_ref(error));
    failed = error_of(g);
    cr_assert(weft_error_same(failed, error));
    cr_assert_eq(index_of(failed), 1);
    cr_assert_eq(weft_error_get_trace(failed, &trace), 1);
    cr_assert_eq(trace[0]->line, line);
    cr_assert_eq(weft_error_get_trace(error, &trace), 0, "somebody else's view of the error has changed");
    weft_error_unref(failed);
    weft_error_unref(error);
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, the_first_error_cancels_the_other_members_and_waits_for_them)
{
    struct members m = members(4, cancel_later);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 4, 0), "g");

    weft_deferred_callback(m.of[1], weft_int(2));
    weft_deferred_callback(m.of[2], broken());
    cr_assert_str_eq(trace_text(), "a d");
    weft_deferred_callback(m.of[3], weft_int(4));
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(m.of[0], weft_int(1));
    cr_assert_str_eq(trace_text(), "g=!broken");
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, cancels_siblings_for_the_error)
{
    struct members m = members(2, cancel_later);
    weft_deferred *g = weft_gather_results(given(&m), 2, 0);
    weft_error *reason, *error;

    weft_deferred_callback(m.of[1], broken());
    reason = weft_deferred_get_cancellation(m.of[0]);
    cr_assert(weft_error_is(reason, &WEFT_SIBLING_FAILED));
    cr_assert(weft_error_is(weft_error_get_cause(reason), &BROKEN));
    weft_deferred_errback(m.of[0], weft_error_ref(reason));
    error = error_of(g);
    cr_assert(weft_error_is(error, &BROKEN));
    cr_assert_eq(index_of(error), 1);
    weft_error_unref(error);
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, an_error_that_was_there_already_cancels_the_members_behind_it)
{
    weft_deferred *a = stoppable(cancel_done, "a"), *c = stoppable(cancel_done, "c");
    weft_deferred *const array[] = {weft_deferred_ref(a), done(broken()), weft_deferred_ref(c)};

    weft_deferred_unref(noted_last(weft_gather_results(array, 3, 0), "g"));
    cr_assert_str_eq(trace_text(), "a c g=!broken");
    weft_deferred_unref(a);
    weft_deferred_unref(c);
}

Test(gather, drops_its_values_at_the_first_error_and_later_ones_as_they_come)
{
    struct value a = {"a", 0}, c = {"c", 0};
    struct members m = members(3, cancel_later);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 3, 0), "g");

    weft_deferred_callback(m.of[0], value_of(&a));
    weft_deferred_callback(m.of[1], broken());
    cr_assert_eq(a.drops, 1, "the value waits for the others to end");
    weft_deferred_callback(m.of[2], value_of(&c));
    cr_assert_eq(c.drops, 1);
    cr_assert_eq(a.drops, 1);
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, n16_a_later_error_stays_in_its_member_and_is_reported)
{
    struct members m = members(2, cancel_later);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 2, 0), "g");

    log_capture();
    weft_deferred_callback(m.of[0], broken());
    weft_deferred_errback(m.of[1], weft_error_new(&WEFT_TIMED_OUT, "later"));
    cr_assert_str_eq(trace_text(), "b g=!broken");
    let_go_of(&m);
    cr_assert_eq(log_count("unhandled"), 1);
    cr_assert_eq(log_count("timed_out: later"), 1);
    weft_deferred_unref(g);
}

Test(gather, n16_a_consuming_one_drops_later_errors)
{
    struct members m = members(2, cancel_later);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 2, WEFT_GATHER_CONSUME), "g");

    log_capture();
    weft_deferred_callback(m.of[0], broken());
    weft_deferred_callback(m.of[1], broken());
    let_go_of(&m);
    weft_deferred_unref(g);
    cr_assert_eq(log_count(""), 0, "%s", log_text());
}

Test(gather, reports_nothing_of_the_cancellations_it_asked_for)
{
    struct members m = members(3, cancel_done);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 3, 0), "g");

    log_capture();
    weft_deferred_callback(m.of[1], broken());
    cr_assert_str_eq(trace_text(), "a c g=!broken");
    cr_assert_eq(weft_live_counts_get().errors, 0, "members keep what was only meant for the gather");
    let_go_of(&m);
    weft_deferred_unref(g);
    cr_assert_eq(log_count(""), 0, "%s", log_text());
}

Test(gather, reports_its_error_when_nobody_took_it)
{
    weft_deferred *const array[] = {done(broken())};

    log_capture();
    weft_deferred_unref(weft_gather_results(array, 1, 0));
    cr_assert_eq(log_count(""), 1);
    cr_assert_eq(log_count("unhandled"), 1);
}

/* ---- flags ---- */

Test(gather, n15_wraps_the_first_error_when_asked_to)
{
    struct members m = members(2, NULL);
    weft_deferred *g = weft_gather_results(given(&m), 2, WEFT_GATHER_FIRST_ERROR);
    weft_error *error = weft_error_new(&BROKEN, "x"), *failed;

    weft_deferred_callback(m.of[0], weft_int(1));
    weft_deferred_errback(m.of[1], weft_error_ref(error));
    failed = error_of(g);
    cr_assert_eq(weft_error_get_kind(failed), &WEFT_FIRST_ERROR);
    cr_assert_eq(index_of(failed), 1);
    cr_assert(weft_error_same(weft_error_get_cause(failed), error));
    weft_error_unref(failed);
    weft_error_unref(error);
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, n17_unwrapping_gives_back_the_error_inside)
{
    weft_error *error = weft_error_new(&BROKEN, "x");
    weft_deferred *const inner[] = {done(weft_fail(weft_error_ref(error)))};
    weft_deferred *const outer[] = {weft_gather_results(inner, 1, WEFT_GATHER_FIRST_ERROR)};
    weft_deferred *g = weft_gather_results(outer, 1, WEFT_GATHER_FIRST_ERROR);
    weft_error *failed;

    weft_deferred_add_errback(g, weft_unwrap_first_error, NULL);
    failed = error_of(g);
    cr_assert(weft_error_same(failed, error));
    weft_error_unref(failed);
    weft_error_unref(error);
    weft_deferred_unref(g);
}

Test(gather, n17_unwrapping_leaves_other_results_alone)
{
    weft_error *error = weft_error_new(&BROKEN, "x"), *empty = weft_error_new(&WEFT_FIRST_ERROR, "of nothing");

    cr_assert_eq(weft_failed(weft_unwrap_first_error(weft_fail(error), NULL)), error);
    cr_assert_eq(weft_failed(weft_unwrap_first_error(weft_fail(empty), NULL)), empty);
    cr_assert_str_eq(told(weft_unwrap_first_error(weft_int(3), NULL)), "3");
    weft_error_unref(error);
    weft_error_unref(empty);
}

Test(gather, a3_lets_the_others_run_when_asked_to)
{
    struct value a = {"a", 0}, c = {"c", 0};
    struct members m = members(3, cancel_done);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 3, WEFT_GATHER_LET_RUN), "g");

    weft_deferred_callback(m.of[0], value_of(&a));
    weft_deferred_callback(m.of[1], broken());
    cr_assert_str_eq(trace_text(), "g=!broken");
    cr_assert_eq(a.drops, 1);
    cr_assert_eq(weft_deferred_get_state(m.of[2]), WEFT_PENDING);
    weft_deferred_callback(m.of[2], value_of(&c));
    cr_assert_eq(c.drops, 1);
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, n16_later_errors_of_members_that_were_let_run_are_reported_unless_consumed)
{
    log_capture();
    for (unsigned consume = 0; consume <= WEFT_GATHER_CONSUME; consume += WEFT_GATHER_CONSUME) {
        struct members m = members(2, NULL);

        weft_deferred_unref(noted_last(weft_gather_results(given(&m), 2, WEFT_GATHER_LET_RUN | consume), "g"));
        weft_deferred_callback(m.of[1], broken());
        weft_deferred_callback(m.of[0], broken());
        let_go_of(&m);
        cr_assert_str_eq(trace_text(), "g=!broken");
        cr_assert_eq(log_count("unhandled"), consume ? 0 : 1);
        log_forget();
    }
}

/* ---- members that are somebody else's, or nobody's ---- */

Test(gather, consumes_its_members)
{
    struct members m = members(1, NULL);
    weft_deferred *g = weft_gather_results(given(&m), 1, 0), *outer = pending();

    weft_deferred_add_callback(outer, return_later, weft_deferred_ref(m.of[0]));
    weft_deferred_callback(outer, weft_ok(NULL));
    trace("outer=%s", told(weft_deferred_take_result(outer)));
    weft_deferred_callback(m.of[0], weft_int(1));
    trace("g=%s", told(weft_deferred_take_result(g)));
    trace("member=%s", told(weft_deferred_take_result(m.of[0])));
    cr_assert_str_eq(trace_text(), "outer=!misuse g=[1] member=!misuse");
    let_go_of(&m);
    weft_deferred_unref(outer);
    weft_deferred_unref(g);
}

Test(gather, a_member_that_was_consumed_fails_with_a_misuse_naming_it)
{
    weft_deferred *a = stoppable(cancel_done, "a"), *taken = weft_deferred_with(weft_int(1));
    int line = __LINE__ - 1;
    weft_deferred *const array[] = {weft_deferred_ref(a), weft_deferred_ref(taken)};
    weft_deferred *g;
    weft_error *error;

    weft_result_drop(weft_deferred_take_result(taken));
    g = weft_gather_results(array, 2, 0);
    cr_assert_str_eq(trace_text(), "a");
    error = error_of(g);
    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    cr_assert_eq(weft_error_get_place(error)->line, line);
    cr_assert_eq(index_of(error), 1);
    weft_error_unref(error);
    weft_deferred_unref(a);
    weft_deferred_unref(taken);
    weft_deferred_unref(g);
}

Test(gather, a_member_that_is_there_twice_is_a_misuse_the_second_time)
{
    weft_deferred *a = stoppable(cancel_done, "a");
    weft_deferred *const array[] = {weft_deferred_ref(a), weft_deferred_ref(a)};
    weft_deferred *g = weft_gather_results(array, 2, 0);
    weft_error *error = error_of(g);

    cr_assert_str_eq(trace_text(), "a");
    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    cr_assert_eq(index_of(error), 1);
    weft_error_unref(error);
    weft_deferred_unref(a);
    weft_deferred_unref(g);
}

Test(gather, every_misuse_is_told)
{
    weft_deferred *a = stoppable(cancel_done, "a");
    weft_deferred *const array[] = {weft_deferred_ref(a), weft_deferred_ref(a), weft_deferred_ref(a)};

    log_capture();
    weft_deferred_unref(noted_last(weft_gather_results(array, 3, 0), "g"));
    cr_assert_str_eq(trace_text(), "a g=!misuse");
    cr_assert_eq(log_count("unhandled"), 1, "the second misuse is the error, the third is in nobody's hands");
    weft_deferred_unref(a);
}

Test(gather, a_member_that_nobody_can_fire_fails_as_an_orphan)
{
    struct members m = members(2, cancel_done);
    weft_deferred *const *array = given(&m), *g;

    weft_deferred_unref(m.of[1]);
    m.count = 1;
    g = weft_gather_results(array, 2, 0);
    cr_assert_str_eq(trace_text(), "a");
    trace("%s", told(weft_deferred_take_result(g)));
    cr_assert_str_eq(trace_text(), "!orphaned");
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, a_member_orphaned_while_it_is_waited_for_fails)
{
    struct members m = members(2, cancel_done);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 2, 0), "g");

    let_go_of(&m);
    cr_assert_str_eq(trace_text(), "b g=!orphaned");
    weft_deferred_unref(g);
}

/* ---- cancelling ---- */

static weft_error *client_gone(void)
{
    return weft_error_caused_by(weft_error_new(&WEFT_CLIENT_GONE, "left"), weft_error_new(&BROKEN, "the line"));
}

Test(gather, n14_cancel_reaches_each_member_before_any_callback_runs)
{
    struct members m = members(3, cancel_done);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 3, 0), "g");

    weft_deferred_cancel(g);
    cr_assert_str_eq(trace_text(), "a b c g=!cancelled");
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, n14_cancel_of_one_that_lets_run_reaches_each_member_before_any_callback_runs)
{
    struct members m = members(3, cancel_done);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 3, WEFT_GATHER_LET_RUN), "g");

    weft_deferred_cancel(g);
    cr_assert_str_eq(trace_text(), "a b c g=!cancelled");
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, cancelled_gives_each_member_the_same_reason_and_ends_with_it)
{
    struct members m = members(2, cancel_later);
    weft_deferred *g = weft_gather_results(given(&m), 2, 0);
    weft_error *gone = client_gone(), *error;

    weft_deferred_cancel_with(g, weft_error_ref(gone));
    cr_assert_eq(weft_deferred_get_state(g), WEFT_PENDING);
    for (size_t i = 0; i < 2; i++) {
        cr_assert_eq(weft_deferred_get_cancellation(m.of[i]), gone);
        weft_deferred_errback(m.of[i], weft_error_ref(weft_deferred_get_cancellation(m.of[i])));
    }
    error = error_of(g);
    cr_assert(weft_error_same(error, gone));
    cr_assert(weft_error_is(error, &WEFT_CLIENT_GONE));
    cr_assert(weft_error_is(weft_error_get_cause(error), &BROKEN));
    weft_error_unref(error);
    weft_error_unref(gone);
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, n15_cancelled_is_recognized_through_the_wrapper)
{
    struct members m = members(2, NULL);
    weft_deferred *g = weft_gather_results(given(&m), 2, WEFT_GATHER_FIRST_ERROR);
    weft_error *error;

    weft_deferred_cancel_with(g, client_gone());
    error = error_of(g);
    cr_assert_eq(weft_error_get_kind(error), &WEFT_FIRST_ERROR);
    cr_assert_eq(index_of(error), 0);
    cr_assert(weft_error_is(error, &WEFT_CLIENT_GONE));
    cr_assert_not(weft_error_is(error, &WEFT_FAILURE));
    weft_error_unref(error);
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, cancelled_succeeds_when_all_members_answer_with_values)
{
    struct members m = members(2, cancel_with_value);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 2, 0), "g");

    weft_deferred_cancel(g);
    cr_assert_str_eq(trace_text(), "a b g=[7 7]");
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, cancelled_fails_with_what_a_member_answers)
{
    struct members m = members(2, cancel_with_broken);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 2, WEFT_GATHER_CONSUME), "g");

    weft_deferred_cancel(g);
    cr_assert_str_eq(trace_text(), "a b g=!broken");
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, cancelled_does_not_tell_members_that_a_sibling_failed)
{
    struct members m = members(2, cancel_later);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 2, 0), "g");

    weft_deferred_cancel_with(g, client_gone());
    weft_deferred_callback(m.of[0], broken());
    cr_assert(weft_error_is(weft_deferred_get_cancellation(m.of[1]), &WEFT_CLIENT_GONE));
    weft_deferred_callback(m.of[1], weft_int(1));
    cr_assert_str_eq(trace_text(), "a b g=!broken");
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, cancelled_asks_its_members_once)
{
    weft_deferred *a = stoppable(cancel_later, "a"), *b = stoppable(cancel_done, "b");
    weft_deferred *tidying = stoppable(cancel_done, "tidying");
    weft_deferred *const array[] = {weft_deferred_ref(a), weft_deferred_ref(b)};
    weft_deferred *g;

    weft_deferred_add_errback(b, return_later, weft_deferred_ref(tidying));
    g = noted_last(weft_gather_results(array, 2, 0), "g");
    weft_deferred_cancel(g);
    weft_deferred_callback(a, broken());
    cr_assert_str_eq(trace_text(), "a b", "what b does at its end was cancelled too");
    weft_deferred_callback(tidying, weft_ok(NULL));
    cr_assert_str_eq(trace_text(), "g=!broken");
    weft_deferred_unref(a);
    weft_deferred_unref(b);
    weft_deferred_unref(tidying);
    weft_deferred_unref(g);
}

Test(gather, cancelled_twice_or_after_its_end_is_cancelled_once)
{
    struct members m = members(1, cancel_later);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 1, 0), "g");

    weft_deferred_cancel(g);
    weft_deferred_cancel(g);
    weft_deferred_callback(m.of[0], weft_int(1));
    weft_deferred_cancel(g);
    cr_assert_str_eq(trace_text(), "a g=[1]");
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, cancelled_while_it_waits_for_siblings_still_fails_with_the_first_error)
{
    struct members m = members(2, cancel_later);
    weft_deferred *g = noted_last(weft_gather_results(given(&m), 2, 0), "g");

    weft_deferred_callback(m.of[0], broken());
    weft_deferred_cancel(g);
    cr_assert_str_eq(trace_text(), "b");
    weft_deferred_callback(m.of[1], weft_int(1));
    cr_assert_str_eq(trace_text(), "g=!broken");
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, passes_a_cancel_on_to_a_gather_inside)
{
    struct members m = members(2, cancel_done);
    weft_deferred *const outer[] = {weft_gather_results(given(&m), 2, 0)};
    weft_deferred *g = noted_last(weft_gather_results(outer, 1, 0), "g");

    weft_deferred_cancel(g);
    cr_assert_str_eq(trace_text(), "a b g=!cancelled");
    let_go_of(&m);
    weft_deferred_unref(g);
}

Test(gather, the_index_is_that_in_the_outermost)
{
    weft_deferred *const inner[] = {done(weft_int(1)), done(weft_int(2)), done(broken())};
    weft_deferred *const outer[] = {done(weft_int(0)), weft_gather_results(inner, 3, 0)};
    weft_deferred *g = weft_gather_results(outer, 2, 0);
    weft_error *error = error_of(g);

    cr_assert_eq(index_of(error), 1);
    weft_error_unref(error);
    weft_deferred_unref(g);
}

/* ---- small ones ---- */

Test(gather, r49_what_succeeds_or_fails_is_fired_already)
{
    weft_deferred_unref(noted_last(weft_succeed(weft_int(3)), "s"));
    weft_deferred_unref(noted_last(weft_deferred_fail(weft_error_new(&BROKEN, "x")), "f"));
    cr_assert_str_eq(trace_text(), "s=3 f=!broken");
}

static weft_result give_back(void *arg)
{
    return *(weft_result *)arg;
}

Test(gather, r49_maybe_is_a_deferred_of_a_value_or_a_failure)
{
    weft_result value = weft_int(3), failure = broken();

    weft_deferred_unref(noted_last(weft_maybe(give_back, &value), "v"));
    weft_deferred_unref(noted_last(weft_maybe(give_back, &failure), "f"));
    cr_assert_str_eq(trace_text(), "v=3 f=!broken");
}

Test(gather, r49_maybe_of_a_deferred_is_that_same_deferred)
{
    weft_deferred *d = pending();
    weft_result later = weft_later(d);

    cr_assert_eq(weft_maybe(give_back, &later), d);
    weft_deferred_unref(d);
}

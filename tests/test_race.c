/* The race: rule 48 with what Twisted's does wrong put right. */
#include "tests/support/members.h"
#include "tests/support/test.h"

static weft_deferred *race_of(const struct members *m)
{
    return noted_last(weft_race(given(m), m->count), "race");
}

Test(race, r48_the_first_value_wins_and_the_others_are_cancelled_first)
{
    struct members m = members(3, cancel_done);
    weft_deferred *race = race_of(&m);

    weft_deferred_callback(m.of[1], weft_int(2));
    cr_assert_str_eq(trace_text(), "a c race=#1:2");
    let_go_of(&m);
    weft_deferred_unref(race);
}

Test(race, r48_an_error_does_not_win)
{
    struct members m = members(3, cancel_done);
    weft_deferred *race = race_of(&m);

    log_capture();
    weft_deferred_callback(m.of[0], broken());
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(m.of[2], weft_int(3));
    cr_assert_str_eq(trace_text(), "b race=#2:3");
    let_go_of(&m);
    weft_deferred_unref(race);
    cr_assert_eq(log_count(""), 0, "%s", log_text());
}

Test(race, r48_the_first_of_those_that_have_values_wins)
{
    weft_deferred *const array[] = {done(broken()), done(weft_int(2)), done(weft_int(3))};

    weft_deferred_unref(noted_last(weft_race(array, 3), "race"));
    cr_assert_str_eq(trace_text(), "race=#1:2");
}

Test(race, r48_fails_with_all_failures_in_order_when_all_fail)
{
    struct members m = members(2, cancel_done);
    weft_deferred *race = weft_race(given(&m), 2);
    weft_results *failures;
    weft_error *error;

    weft_deferred_callback(m.of[1], broken());
    weft_deferred_errback(m.of[0], weft_error_new(&WEFT_TIMED_OUT, "x"));
    cr_assert_str_eq(trace_text(), "", "somebody was cancelled");
    error = error_of(race);
    cr_assert_eq(weft_error_get_kind(error), &WEFT_FAILURE_GROUP);
    cr_assert(weft_error_is(error, &WEFT_FAILURE));
    failures = weft_error_get_payload(error, &weft_results_type);
    cr_assert_not_null(failures);
    note(weft_own(failures, &weft_results_type), (void *)"failures");
    cr_assert_str_eq(trace_text(), "failures=[!timed_out !broken]");
    cr_assert(weft_error_is(weft_error_get_cause(error), &WEFT_TIMED_OUT));
    weft_error_unref(error);
    let_go_of(&m);
    weft_deferred_unref(race);
}

Test(race, r48_of_none_is_a_misuse_and_not_a_hang)
{
    weft_deferred *race = weft_race(NULL, 0);
    weft_error *error = error_of(race);

    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    cr_assert_eq(weft_error_get_place(error)->line, __LINE__ - 4);
    weft_error_unref(error);
    weft_deferred_unref(race);
}

Test(race, r48_consumes_its_members)
{
    struct members m = members(1, NULL);
    weft_deferred *race = race_of(&m);

    weft_deferred_callback(m.of[0], weft_int(1));
    trace("member=%s", told(weft_deferred_take_result(m.of[0])));
    cr_assert_str_eq(trace_text(), "race=#0:1 member=!misuse");
    let_go_of(&m);
    weft_deferred_unref(race);
}

Test(race, r48_a_loser_that_resists_keeps_nothing_from_firing_and_its_value_is_dropped)
{
    struct value late = {"late", 0};
    struct members m = members(2, cancel_later);
    weft_deferred *race = race_of(&m);

    weft_deferred_callback(m.of[0], weft_int(1));
    cr_assert_str_eq(trace_text(), "b race=#0:1");
    weft_deferred_callback(m.of[1], value_of(&late));
    cr_assert_eq(late.drops, 1);
    cr_assert_str_eq(trace_text(), "");
    let_go_of(&m);
    weft_deferred_unref(race);
}

Test(race, r48_a_late_error_of_a_loser_is_silent)
{
    struct members m = members(2, cancel_later);
    weft_deferred *race = race_of(&m);

    log_capture();
    weft_deferred_callback(m.of[0], weft_int(1));
    weft_deferred_callback(m.of[1], broken());
    let_go_of(&m);
    weft_deferred_unref(race);
    cr_assert_eq(log_count(""), 0, "%s", log_text());
}

Test(race, r48_a_loser_that_answers_with_a_value_does_no_harm)
{
    struct members m = members(3, cancel_with_value);
    weft_deferred *race = race_of(&m);

    weft_deferred_callback(m.of[0], weft_int(1));
    cr_assert_str_eq(trace_text(), "b c race=#0:1");
    let_go_of(&m);
    weft_deferred_unref(race);
}

Test(race, losers_are_told_why)
{
    struct members m = members(2, cancel_later);
    weft_deferred *race = race_of(&m);

    weft_deferred_callback(m.of[0], weft_int(1));
    cr_assert_eq(weft_error_get_kind(weft_deferred_get_cancellation(m.of[1])), &WEFT_CANCELLED);
    let_go_of(&m);
    weft_deferred_unref(race);
}

Test(race, r48_cancelled_cancels_all_and_ends_with_the_cancellation_itself)
{
    struct members m = members(3, cancel_done);
    weft_deferred *race = weft_race(given(&m), 3);
    weft_error *gone = weft_error_new(&WEFT_CLIENT_GONE, "left"), *error;

    weft_deferred_cancel_with(race, weft_error_ref(gone));
    cr_assert_str_eq(trace_text(), "a b c");
    error = error_of(race);
    cr_assert(weft_error_same(error, gone));
    weft_error_unref(error);
    weft_error_unref(gone);
    let_go_of(&m);
    weft_deferred_unref(race);
}

Test(race, r48_cancelled_waits_for_members_that_resist)
{
    struct members m = members(2, cancel_later);
    weft_deferred *race = race_of(&m);

    log_capture();
    weft_deferred_cancel(race);
    weft_deferred_errback(m.of[0], weft_error_ref(weft_deferred_get_cancellation(m.of[0])));
    cr_assert_str_eq(trace_text(), "a b");
    weft_deferred_callback(m.of[1], broken());
    cr_assert_str_eq(trace_text(), "race=!failure_group");
    let_go_of(&m);
    weft_deferred_unref(race);
    cr_assert_eq(log_count(""), 0, "%s", log_text());
}

Test(race, r48_cancelled_is_won_by_a_member_that_answers_with_a_value)
{
    struct members m = members(3, cancel_done);
    weft_deferred *race;

    weft_deferred_unref(m.of[1]);
    m.of[1] = stoppable(cancel_with_value, "b");
    race = race_of(&m);
    weft_deferred_cancel(race);
    cr_assert_str_eq(trace_text(), "a b c race=#1:7");
    let_go_of(&m);
    weft_deferred_unref(race);
}

Test(race, whose_members_were_cancelled_by_others_is_a_group_of_failures)
{
    struct members m = members(2, NULL);
    weft_deferred *race = race_of(&m);

    weft_deferred_cancel(m.of[0]);
    weft_deferred_cancel(m.of[1]);
    cr_assert_str_eq(trace_text(), "race=!failure_group");
    let_go_of(&m);
    weft_deferred_unref(race);
}

Test(race, drops_the_errors_it_has_collected_when_it_is_won)
{
    struct members m = members(3, cancel_later);
    weft_deferred *race = race_of(&m);

    weft_deferred_callback(m.of[0], broken());
    weft_deferred_callback(m.of[1], weft_int(2));
    cr_assert_eq(weft_live_counts_get().errors, 1, "the loser's cancellation is all there is");
    let_go_of(&m);
    weft_deferred_unref(race);
}

Test(race, members_that_nobody_can_fire_fail)
{
    struct members m = members(2, cancel_done);
    weft_deferred *race = race_of(&m);

    let_go_of(&m);
    cr_assert_str_eq(trace_text(), "race=!failure_group");
    weft_deferred_unref(race);
}

Test(race, a_member_that_is_there_twice_fails_the_second_time)
{
    weft_deferred *a = pending();
    weft_deferred *const array[] = {weft_deferred_ref(a), weft_deferred_ref(a)};
    weft_deferred *race = noted_last(weft_race(array, 2), "race");

    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(a, weft_int(1));
    cr_assert_str_eq(trace_text(), "race=#0:1");
    weft_deferred_unref(a);
    weft_deferred_unref(race);
}

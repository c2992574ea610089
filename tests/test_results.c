/* Results that own their members. */
#include "tests/support/members.h"
#include "tests/support/test.h"

static weft_results *results_of(weft_result a, weft_result b)
{
    weft_deferred *const members[] = {done(a), done(b)};
    weft_deferred *gathered = weft_gather_results(members, 2, 0);
    weft_result results = weft_deferred_take_result(gathered);

    cr_assert_eq(results.type, &weft_results_type);
    weft_deferred_unref(gathered);
    return results.value;
}

Test(results, drop_each_member_that_was_not_taken)
{
    struct value a = {"a", 0}, b = {"b", 0};
    weft_results *results = results_of(value_of(&a), value_of(&b));
    weft_result taken = weft_results_take(results, 1);

    cr_assert_eq(taken.value, &b);
    cr_assert_eq(taken.type, &value_type);
    cr_assert_null(weft_results_free(results));
    cr_assert_eq(a.drops, 1);
    cr_assert_eq(b.drops, 0);
    weft_result_drop(taken);
    cr_assert_eq(b.drops, 1);
}

Test(results, leave_nothing_where_a_member_was_taken)
{
    struct value a = {"a", 0};
    weft_results *results = results_of(value_of(&a), weft_int(2));

    weft_result_drop(weft_results_take(results, 0));
    trace("%s", told(weft_results_take(results, 0)));
    trace("%s", told(weft_own(results, &weft_results_type)));
    cr_assert_str_eq(trace_text(), "nil [nil 2]");
    cr_assert_eq(a.drops, 1);
}

Test(results, taking_what_there_is_not_is_a_misuse_at_that_place)
{
    weft_results *results = results_of(weft_int(1), weft_int(2));
    weft_auto(weft_error_unref) weft_error *error = weft_failed(weft_results_take(results, 2));

    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    cr_assert_eq(weft_error_get_place(error)->line, __LINE__ - 3);
    weft_results_free(results);
}

Test(results, have_one_owner)
{
    cr_assert_null(weft_results_type.ref);
    cr_assert_null(weft_indexed_type.ref);
    cr_assert_null(weft_results_free(NULL));
    cr_assert_null(weft_indexed_free(NULL));
}

static weft_indexed *winner(weft_result value)
{
    weft_deferred *const members[] = {pending(), done(value)};
    weft_deferred *race = weft_race(members, 2);
    weft_result result = weft_deferred_take_result(race);

    cr_assert_eq(result.type, &weft_indexed_type);
    weft_deferred_unref(race);
    return result.value;
}

Test(results, one_with_its_index_drops_it)
{
    struct value a = {"a", 0};
    weft_indexed *indexed = winner(value_of(&a));

    cr_assert_eq(indexed->index, 1);
    cr_assert_eq(indexed->result.value, &a);
    cr_assert_null(weft_indexed_free(indexed));
    cr_assert_eq(a.drops, 1);
}

Test(results, one_with_its_index_can_be_taken_out)
{
    struct value a = {"a", 0};
    weft_indexed *indexed = winner(value_of(&a));
    weft_result taken = weft_indexed_take(indexed);

    cr_assert_null(indexed->result.value);
    weft_indexed_free(indexed);
    cr_assert_eq(a.drops, 0);
    weft_result_drop(taken);
    cr_assert_eq(a.drops, 1);
}

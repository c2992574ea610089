/* Results that go to another thread: what is nobody else's goes itself, what is goes as a copy, and both threads count
 * right. */
#include "lib/travel.h"

#include "tests/support/test.h"
#include "tests/support/values.h"

#include <stdio.h>
#include <string.h>

struct journey {
    weft_result result;
    size_t errors;
};

static void arrive(void *arg)
{
    const struct journey *journey = arg;
    size_t errors;

    weft__result_arrive(journey->errors);
    errors = weft_live_counts_get().errors;
    trace("%zu:%s", errors, told(journey->result));
}

/* Sends it to a thread, which must have nothing left of it (in_thread looks); says how many errors it had there, and
 * what it was. */
static const char *sent(weft_result result)
{
    struct journey journey;

    journey.result = weft__result_leave(result, &journey.errors);
    in_thread(arrive, &journey);
    return trace_text();
}

static weft_error *new_error(void)
{
    return weft_error_new(&BROKEN, "number %d", 1);
}

Test(travel, a_value_goes_as_it_is)
{
    struct value value = {.name = "v"};

    cr_assert_str_eq(sent(value_of(&value)), "0:v");
    cr_assert_str_eq(sent(weft_int(3)), "0:3");
    cr_assert_str_eq(sent(weft_ok(NULL)), "0:nil");
}

Test(travel, an_error_that_is_nobody_elses_goes_itself_with_causes_payloads_and_trace)
{
    weft_error *error = weft_error_with_payload(weft_error_caused_by(new_error(), weft_error_passed(new_error(), WEFT_HERE)),
                                                weft_fail(new_error()));
    size_t errors;
    weft_result gone = weft__result_leave(weft_fail(error), &errors);

    cr_assert_eq(weft_failed(gone), error);
    cr_assert_eq(weft_live_counts_get().errors, 0);
    weft__result_arrive(errors);
    cr_assert_str_eq(sent(gone), "3:!broken");
}

/* What passes on an error that others hold makes one that shares the rest with the origin. */
static weft_error *branch_of(weft_error *error)
{
    weft_error *branch = weft_error_passed(weft_error_with_index(weft_error_ref(error), 4), WEFT_HERE);

    weft_error_unref(error);
    return branch;
}

Test(travel, a_branch_that_is_all_that_holds_its_origin_goes_with_it)
{
    cr_assert_str_eq(sent(weft_fail(branch_of(new_error()))), "2:!broken");
}

static weft_result with_copy(weft_error *error, void (*look)(const weft_error *copy))
{
    size_t errors;
    weft_result copy = weft__result_leave(weft_fail(weft_error_ref(error)), &errors);

    weft__result_arrive(errors);
    cr_assert_neq(weft_failed(copy), error);
    look(weft_failed(copy));
    return copy;
}

static weft_error *original;

static void is_like_the_original(const weft_error *copy)
{
    char theirs[1024], ours[1024];

    weft_error_print(original, ours, sizeof ours);
    weft_error_print(copy, theirs, sizeof theirs);
    cr_assert_str_eq(theirs, ours);
    cr_assert_not(weft_error_same(copy, original));
    cr_assert_eq(weft_error_get_time(copy), weft_error_get_time(original));
    cr_assert_eq(weft_error_get_payload(copy, &weft_int_type), (void *)5);
    cr_assert_neq(weft_error_get_message(copy), weft_error_get_message(original), "it was formatted, and is copied");
}

Test(travel, an_error_that_somebody_else_holds_goes_as_a_copy_that_says_the_same)
{
    size_t index;

    original = weft_error_passed(weft_error_caused_by(weft_error_os(5, "cannot read %s", "it"), new_error()), WEFT_HERE);
    weft_result_drop(with_copy(original, is_like_the_original));
    original = branch_of(original);
    weft_result copy = with_copy(original, is_like_the_original);
    cr_assert(weft_error_get_index(weft_failed(copy), &index) && index == 4);
    cr_assert_str_eq(sent(copy), "2:!os_error");
    weft_error_unref(original);
}

static void has_no_payload(const weft_error *copy)
{
    cr_assert_null(weft_error_get_payload(copy, &value_type));
}

Test(travel, the_copy_lacks_a_payload_that_cannot_be_shared)
{
    struct value value = {.name = "v"};

    original = weft_error_with_payload(new_error(), value_of(&value));
    weft_result_drop(with_copy(original, has_no_payload));
    cr_assert_eq(value.drops, 0);
    weft_error_unref(original);
    cr_assert_eq(value.drops, 1);
}

Test(travel, an_error_whose_cause_somebody_else_holds_goes_as_a_copy_too)
{
    weft_error *cause = new_error();

    cr_assert_str_eq(sent(weft_fail(weft_error_caused_by(new_error(), weft_error_ref(cause)))), "2:!broken");
    cr_assert_str_eq(sent(weft_fail(weft_error_with_payload(new_error(), weft_fail(weft_error_ref(cause))))), "1:!broken",
                     "without the payload");
    weft_error_unref(cause);
}

static weft_result results_of(weft_error *a, weft_error *b)
{
    weft_deferred *members[] = {weft_deferred_fail(a), weft_deferred_fail(b), weft_succeed(weft_int(3))};
    weft_deferred *list = weft_deferred_list(members, 3, WEFT_GATHER_CONSUME);
    weft_result results = weft_deferred_take_result(list);

    weft_deferred_unref(list);
    return results;
}

Test(travel, errors_in_results_are_counted_and_copied_too)
{
    weft_error *held = new_error();

    cr_assert_str_eq(sent(results_of(new_error(), weft_error_ref(held))), "2:[!broken !broken 3]");
    cr_assert_str_eq(sent(weft_fail(weft_error_with_payload(new_error(), results_of(new_error(), new_error())))),
                     "3:!broken");
    weft_error_unref(held);
}

Test(travel, a_long_chain_of_causes_takes_no_stack)
{
    weft_error *error = new_error(), *held;

    for (int i = 0; i < MANY; i++)
        error = weft_error_caused_by(weft_error_new(&BROKEN, "it"), error);
    held = weft_error_ref(error);
    cr_assert_str_eq(sent(weft_fail(error)) + strlen("1"), sent(weft_fail(held)) + strlen("1"));
}

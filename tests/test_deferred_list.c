/* Twisted's DeferredList, rules 42 to 46, and what weft makes of values that have one owner. */
#include "tests/support/members.h"
#include "tests/support/test.h"

#include <string.h>

enum {
    ON_VALUE = WEFT_LIST_FIRE_ON_ONE_CALLBACK,
    ON_ERROR = WEFT_LIST_FIRE_ON_ONE_ERRBACK,
    CONSUME = WEFT_LIST_CONSUME_ERRORS,
};

static weft_deferred *list_of(const struct members *m, unsigned flags)
{
    return noted_last(weft_deferred_list(given(m), m->count, flags), "list");
}

/* ---- a value that can be shared, and counts who holds it ---- */

struct shared {
    int references;
};

static void *shared_ref(void *value)
{
    ((struct shared *)value)->references++;
    return value;
}

static void shared_unref(void *value)
{
    ((struct shared *)value)->references--;
}

static const weft_type shared_type = {"shared", shared_ref, shared_unref};

/* ---- 42: all of them ---- */

Test(deferred_list, r42_gap_brings_results_in_the_order_of_the_members_not_of_their_firing)
{
    struct members m = members(3, NULL);
    weft_deferred *list = list_of(&m, CONSUME);

    weft_deferred_callback(m.of[2], weft_int(3));
    weft_deferred_callback(m.of[1], broken());
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(m.of[0], weft_int(1));
    cr_assert_str_eq(trace_text(), "list=[1 !broken 3]");
    let_go_of(&m);
    weft_deferred_unref(list);
}

Test(deferred_list, r42_takes_members_that_are_fired_already)
{
    weft_deferred *const array[] = {done(weft_int(1)), done(broken())};

    weft_deferred_unref(noted_last(weft_deferred_list(array, 2, CONSUME), "list"));
    cr_assert_str_eq(trace_text(), "list=[1 !broken]");
}

Test(deferred_list, r42_copies_the_array)
{
    struct members m = members(2, NULL);
    weft_deferred *array[2], *list;

    memcpy(array, given(&m), sizeof array);
    list = noted_last(weft_deferred_list(array, 2, 0), "list");
    array[0] = array[1] = NULL;
    weft_deferred_cancel(list);
    cr_assert_str_eq(trace_text(), "list=[!cancelled !cancelled]");
    let_go_of(&m);
    weft_deferred_unref(list);
}

Test(deferred_list, r42_of_none_fires_at_once)
{
    weft_deferred_unref(noted_last(weft_deferred_list(NULL, 0, 0), "list"));
    weft_deferred_unref(noted_last(weft_deferred_list(NULL, 0, ON_ERROR | CONSUME), "list"));
    cr_assert_str_eq(trace_text(), "list=[] list=[]");
}

Test(deferred_list, r42_of_none_that_waits_for_a_value_is_a_misuse_and_not_a_hang)
{
    weft_deferred *list = weft_deferred_list(NULL, 0, ON_VALUE);
    weft_error *error = error_of(list);

    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    cr_assert_eq(weft_error_get_place(error)->line, __LINE__ - 4);
    weft_error_unref(error);
    weft_deferred_unref(list);
}

/* ---- 43: the first ---- */

Test(deferred_list, r43_fires_with_the_first_value_and_its_index)
{
    struct members m = members(3, NULL);
    weft_deferred *list = list_of(&m, ON_VALUE | CONSUME);

    weft_deferred_callback(m.of[0], broken());
    weft_deferred_callback(m.of[2], weft_int(3));
    cr_assert_str_eq(trace_text(), "list=#2:3");
    weft_deferred_callback(m.of[1], weft_int(2));
    cr_assert_str_eq(trace_text(), "");
    let_go_of(&m);
    weft_deferred_unref(list);
}

Test(deferred_list, r43_that_waits_for_a_value_brings_the_failures_when_all_fail)
{
    struct members m = members(2, NULL);
    weft_deferred *list = list_of(&m, ON_VALUE | CONSUME);

    weft_deferred_callback(m.of[1], broken());
    weft_deferred_callback(m.of[0], weft_fail(weft_error_new(&WEFT_TIMED_OUT, "x")));
    cr_assert_str_eq(trace_text(), "list=[!timed_out !broken]");
    let_go_of(&m);
    weft_deferred_unref(list);
}

Test(deferred_list, r43_fails_with_the_first_error_wrapped)
{
    struct members m = members(2, NULL);
    weft_deferred *list = weft_deferred_list(given(&m), 2, ON_ERROR | CONSUME);
    weft_error *error = weft_error_new(&BROKEN, "x"), *first;

    weft_deferred_errback(m.of[1], weft_error_ref(error));
    first = error_of(list);
    cr_assert_eq(weft_error_get_kind(first), &WEFT_FIRST_ERROR);
    cr_assert_eq(index_of(first), 1);
    cr_assert(weft_error_same(weft_error_get_cause(first), error));
    weft_error_unref(first);
    weft_error_unref(error);
    weft_deferred_callback(m.of[0], weft_int(1));
    let_go_of(&m);
    weft_deferred_unref(list);
}

Test(deferred_list, r43_fires_at_whichever_comes_first_of_both)
{
    for (int first = 0; first < 2; first++) {
        struct members m = members(2, NULL);
        weft_deferred *list = list_of(&m, ON_VALUE | ON_ERROR | CONSUME);

        weft_deferred_callback(m.of[0], first ? broken() : weft_int(1));
        weft_deferred_callback(m.of[1], first ? weft_int(1) : broken());
        let_go_of(&m);
        weft_deferred_unref(list);
    }
    cr_assert_str_eq(trace_text(), "list=#0:1 list=!first_error");
}

Test(deferred_list, r43_takes_the_first_in_order_of_those_fired_already)
{
    weft_deferred *const array[] = {done(weft_int(1)), done(broken()), done(broken())};

    weft_deferred_unref(noted_last(weft_deferred_list(array, 3, ON_ERROR | CONSUME), "list"));
    cr_assert_str_eq(trace_text(), "list=!first_error");
}

/* ---- 44: what members keep ---- */

Test(deferred_list, r44_members_keep_values_that_can_be_shared)
{
    struct shared shared = {1};
    int borrowed = 0;
    struct members m = members(3, NULL);
    weft_deferred *list = weft_deferred_list(given(&m), 3, 0);

    weft_deferred_callback(m.of[0], weft_own(&shared, &shared_type));
    weft_deferred_callback(m.of[1], weft_ok(&borrowed));
    weft_deferred_callback(m.of[2], weft_int(3));
    cr_assert_eq(shared.references, 2);
    for (size_t i = 0; i < 3; i++)
        noted_last(m.of[i], "member");
    cr_assert_str_eq(trace_text(), "member=borrowed member=borrowed member=3");
    cr_assert_eq(shared.references, 1);
    noted_last(list, "list");
    cr_assert_str_eq(trace_text(), "list=[borrowed borrowed 3]");
    cr_assert_eq(shared.references, 0);
    let_go_of(&m);
    weft_deferred_unref(list);
}

Test(deferred_list, r44_a_value_with_one_owner_moves_to_the_list_and_consumes_the_member)
{
    struct value a = {"a", 0};
    struct members m = members(1, NULL);
    weft_deferred *list = list_of(&m, 0);

    weft_deferred_callback(m.of[0], value_of(&a));
    cr_assert_eq(a.drops, 1);
    trace("member=%s", told(weft_deferred_take_result(m.of[0])));
    cr_assert_str_eq(trace_text(), "list=[a] member=!misuse");
    let_go_of(&m);
    weft_deferred_unref(list);
}

Test(deferred_list, r44_whoever_waits_behind_the_list_for_a_value_with_one_owner_gets_a_misuse)
{
    struct value a = {"a", 0};
    struct members m = members(1, NULL);
    weft_deferred *list = list_of(&m, 0), *outer = noted_last(waiting_for(m.of[0]), "outer");

    weft_deferred_callback(m.of[0], value_of(&a));
    cr_assert_str_eq(trace_text(), "list=[a] outer=!misuse");
    cr_assert_eq(a.drops, 1);
    let_go_of(&m);
    weft_deferred_unref(outer);
    weft_deferred_unref(list);
}

Test(deferred_list, r44_whoever_waits_behind_the_list_gets_a_value_that_can_be_shared_and_an_error)
{
    struct members m = members(3, NULL);
    weft_deferred *list = list_of(&m, 0), *outer[3];

    for (size_t i = 0; i < 3; i++)
        outer[i] = noted_last(waiting_for(m.of[i]), "outer");
    weft_deferred_callback(m.of[0], weft_int(1));
    weft_deferred_callback(m.of[1], broken());
    weft_deferred_callback(m.of[2], weft_ok(NULL));
    cr_assert_str_eq(trace_text(), "outer=1 outer=!broken list=[1 !broken nil] outer=nil");
    let_go_of(&m);
    for (size_t i = 0; i < 3; i++)
        weft_deferred_unref(outer[i]);
    weft_deferred_unref(list);
}

Test(deferred_list, r44_a_member_may_be_there_twice)
{
    struct value a = {"a", 0};
    weft_deferred *shared = pending(), *owned = pending();
    weft_deferred *const array[] = {weft_deferred_ref(shared), weft_deferred_ref(shared), weft_deferred_ref(owned),
                                    weft_deferred_ref(owned)};
    weft_deferred *list = noted_last(weft_deferred_list(array, 4, 0), "list");

    weft_deferred_callback(shared, weft_int(1));
    weft_deferred_callback(owned, value_of(&a));
    cr_assert_str_eq(trace_text(), "list=[1 1 a !misuse]");
    cr_assert_eq(a.drops, 1);
    weft_deferred_unref(shared);
    weft_deferred_unref(owned);
    weft_deferred_unref(list);
}

Test(deferred_list, r44_a_member_that_was_consumed_is_there_as_a_misuse)
{
    weft_deferred *taken = done(weft_int(1));
    weft_deferred *const array[] = {taken};

    log_capture();
    weft_result_drop(weft_deferred_take_result(taken));
    weft_deferred_unref(noted_last(weft_deferred_list(array, 1, 0), "list"));
    cr_assert_str_eq(trace_text(), "list=[!misuse]");
    cr_assert_eq(log_count(""), 0, "the list has it: %s", log_text());
}

Test(deferred_list, r44_members_keep_their_errors_which_must_be_handled)
{
    struct members m = members(2, NULL);
    weft_deferred *list = list_of(&m, 0);

    log_capture();
    weft_deferred_callback(m.of[0], broken());
    weft_deferred_callback(m.of[1], broken());
    noted_last(m.of[1], "member");
    cr_assert_str_eq(trace_text(), "list=[!broken !broken] member=!broken");
    let_go_of(&m);
    cr_assert_eq(log_count("unhandled"), 1);
    weft_deferred_unref(list);
}

Test(deferred_list, r44_consuming_errors_leaves_members_with_a_success)
{
    struct members m = members(1, NULL);
    weft_deferred *list = list_of(&m, CONSUME);

    log_capture();
    weft_deferred_callback(m.of[0], broken());
    noted_last(m.of[0], "member");
    cr_assert_str_eq(trace_text(), "list=[!broken] member=nil");
    let_go_of(&m);
    weft_deferred_unref(list);
    cr_assert_eq(log_count(""), 0, "%s", log_text());
}

Test(deferred_list, r44_errors_after_it_has_fired_are_lost_when_consumed_and_reported_when_not)
{
    log_capture();
    for (unsigned consume = 0; consume <= CONSUME; consume += CONSUME) {
        struct members m = members(2, NULL);
        weft_deferred *list = list_of(&m, ON_ERROR | consume);

        weft_deferred_callback(m.of[0], broken());
        weft_deferred_unref(m.of[0]);
        m.of[0] = NULL;
        log_forget();
        weft_deferred_callback(m.of[1], broken());
        let_go_of(&m);
        weft_deferred_unref(list);
        cr_assert_eq(log_count("unhandled"), consume ? 0 : 1);
    }
}

Test(deferred_list, r44_members_keep_values_that_come_after_it_has_fired)
{
    for (unsigned consume = 0; consume <= CONSUME; consume += CONSUME) {
        struct value a = {"a", 0};
        struct members m = members(2, NULL);
        weft_deferred *list = list_of(&m, ON_VALUE | consume);

        weft_deferred_callback(m.of[0], weft_int(1));
        weft_deferred_callback(m.of[1], value_of(&a));
        noted_last(m.of[1], "member");
        cr_assert_str_eq(trace_text(), "list=#0:1 member=a");
        let_go_of(&m);
        weft_deferred_unref(list);
    }
}

Test(deferred_list, r44_drops_what_it_has_collected_when_it_fires_early)
{
    struct value a = {"a", 0};
    struct members m = members(3, NULL);
    weft_deferred *list = list_of(&m, ON_ERROR | CONSUME);

    weft_deferred_callback(m.of[0], value_of(&a));
    cr_assert_eq(a.drops, 0);
    weft_deferred_callback(m.of[1], broken());
    cr_assert_eq(a.drops, 1);
    let_go_of(&m);
    weft_deferred_unref(list);
}

/* ---- 45: the others run on ---- */

Test(deferred_list, r45_does_not_cancel_the_others_when_it_fires_early)
{
    struct members m = members(2, cancel_done);
    weft_deferred *list = list_of(&m, ON_VALUE);

    weft_deferred_callback(m.of[0], weft_int(1));
    cr_assert_str_eq(trace_text(), "list=#0:1");
    cr_assert_eq(weft_deferred_get_state(m.of[1]), WEFT_PENDING);
    weft_deferred_callback(m.of[1], weft_int(2));
    let_go_of(&m);
    weft_deferred_unref(list);
}

/* ---- 46: cancelling ---- */

Test(deferred_list, r46_cancels_its_members_in_order_and_succeeds_with_the_cancellations)
{
    struct members m = members(3, cancel_done);
    weft_deferred *list = list_of(&m, 0);

    weft_deferred_cancel(list);
    cr_assert_str_eq(trace_text(), "a b c list=[!cancelled !cancelled !cancelled]");
    let_go_of(&m);
    weft_deferred_unref(list);
}

Test(deferred_list, r46_a_canceller_that_does_not_end_its_member_stops_neither_the_others_nor_the_list)
{
    struct members m = members(3, cancel_done);
    weft_deferred *list;

    weft_deferred_unref(m.of[1]);
    m.of[1] = stoppable(cancel_later, "b");
    list = list_of(&m, 0);
    weft_deferred_cancel(list);
    cr_assert_str_eq(trace_text(), "a b c");
    cr_assert_eq(weft_deferred_get_state(list), WEFT_PENDING, "it was fired by force");
    weft_deferred_callback(m.of[1], weft_int(2));
    cr_assert_str_eq(trace_text(), "list=[!cancelled 2 !cancelled]");
    let_go_of(&m);
    weft_deferred_unref(list);
}

Test(deferred_list, r46_cancelled_brings_the_values_that_members_answer_with)
{
    static const unsigned flags[] = {0, ON_ERROR, ON_VALUE};

    for (size_t i = 0; i < 3; i++) {
        struct members m = members(2, cancel_with_value);
        weft_deferred *list = list_of(&m, flags[i]);

        weft_deferred_cancel(list);
        let_go_of(&m);
        weft_deferred_unref(list);
    }
    cr_assert_str_eq(trace_text(), "a b list=[7 7] a b list=[7 7] a b list=#0:7");
}

Test(deferred_list, r46_cancelled_waiting_for_an_error_cancels_all_before_it_fires)
{
    struct members m = members(3, cancel_done);
    weft_deferred *list = list_of(&m, ON_ERROR);

    weft_deferred_cancel(list);
    cr_assert_str_eq(trace_text(), "a b c list=!first_error");
    let_go_of(&m);
    weft_deferred_unref(list);
}

Test(deferred_list, r46_that_has_fired_ignores_a_cancel)
{
    struct members m = members(2, cancel_done);
    weft_deferred *list = list_of(&m, ON_VALUE);

    weft_deferred_callback(m.of[0], weft_int(1));
    weft_deferred_cancel(list);
    cr_assert_str_eq(trace_text(), "list=#0:1");
    weft_deferred_callback(m.of[1], weft_int(2));
    let_go_of(&m);
    weft_deferred_unref(list);
}

Test(deferred_list, r46_that_has_fired_and_waits_passes_a_cancel_on_to_what_it_waits_for)
{
    weft_deferred *const array[] = {done(weft_int(1))};
    weft_deferred *inner = stoppable(cancel_done, "inner"), *list = weft_deferred_list(array, 1, 0);

    weft_deferred_add_callback(list, return_later, weft_deferred_ref(inner));
    noted_last(list, "list");
    weft_deferred_cancel(list);
    cr_assert_str_eq(trace_text(), "inner list=!cancelled");
    weft_deferred_unref(inner);
    weft_deferred_unref(list);
}

Test(deferred_list, a_member_that_nobody_can_fire_is_there_as_an_orphan)
{
    struct members m = members(2, NULL);
    weft_deferred *list = list_of(&m, CONSUME);

    weft_deferred_callback(m.of[0], weft_int(1));
    let_go_of(&m);
    cr_assert_str_eq(trace_text(), "list=[1 !orphaned]");
    weft_deferred_unref(list);
}

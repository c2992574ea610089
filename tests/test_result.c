/* Results: who owns the value, and that it is dropped exactly once wherever it goes. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <string.h>

/* ---- what a result is ---- */

Test(result, of_a_borrowed_value_drops_nothing)
{
    int number = 5;
    weft_result result = weft_ok(&number);

    cr_assert_eq(result.value, &number);
    cr_assert_null(weft_failed(result));
    weft_result_drop(result);
    weft_result_drop(weft_ok(NULL));
    cr_assert_eq(number, 5);
}

Test(result, of_an_owned_value_drops_it_once)
{
    struct value v = {"v", 0};

    weft_result_drop(value_of(&v));
    cr_assert_eq(v.drops, 1);
}

Test(result, of_a_type_without_unref_is_borrowed)
{
    static const weft_type borrowed = {"borrowed", NULL, NULL};

    weft_result_drop(weft_own(&(int){1}, &borrowed));
}

Test(result, holds_numbers_of_a_pointers_width)
{
    cr_assert_eq((intptr_t)weft_int(INTPTR_MIN).value, INTPTR_MIN);
    cr_assert_eq((intptr_t)weft_int(-1).value, -1);
    cr_assert_eq(weft_int(0).type, &weft_int_type);
    weft_result_drop(weft_int(7));
}

Test(result, travels_in_two_registers)
{
    cr_assert_eq(sizeof(weft_result), 16);
}

Test(result, that_failed_owns_its_error)
{
    weft_error *error = weft_error_new(&BROKEN, "it broke");
    weft_result result = weft_fail(error);

    cr_assert_eq(weft_failed(result), error);
    cr_assert_eq(weft_live_counts_get().errors, 1);
    weft_result_drop(result);
    cr_assert_eq(weft_live_counts_get().errors, 0);
}

Test(result, still_to_come_owns_its_deferred)
{
    weft_result result = weft_later(pending());

    cr_assert_null(weft_failed(result));
    cr_assert_eq(weft_live_counts_get().deferreds, 1);
    weft_result_drop(result);
    cr_assert_eq(weft_live_counts_get().deferreds, 0);
}

Test(result, types_of_the_core_have_names)
{
    cr_assert_str_eq(weft_error_type.name, "error");
    cr_assert_str_eq(weft_deferred_type.name, "deferred");
    cr_assert_str_eq(weft_int_type.name, "int");
    cr_assert_null(weft_deferred_type.ref, "a deferred has one consumer: it cannot be shared");
}

Test(result, error_type_shares_errors)
{
    weft_error *error = weft_error_new(&BROKEN, "it broke");

    cr_assert_eq(weft_error_type.ref(error), error);
    weft_error_type.unref(error);
    cr_assert_eq(weft_live_counts_get().errors, 1);
    weft_error_type.unref(error);
}

/* ---- WEFT_TRY ---- */

static weft_result try_it(weft_result result)
{
    const char *value = WEFT_TRY(result);

    trace("went_on_with_%s", value ? value : "nil");
    return weft_int(1);
}

Test(result, try_goes_on_with_the_value_of_a_success)
{
    cr_assert_str_eq(told(try_it(weft_ok((char *)"it"))), "1");
    cr_assert_str_eq(trace_text(), "went_on_with_it");
}

Test(result, try_returns_the_same_error_and_adds_its_place)
{
    weft_error *error = weft_error_new(&BROKEN, "it broke");
    weft_result result = try_it(weft_fail(error));
    const weft_place *const *places;

    cr_assert_eq(weft_failed(result), error);
    cr_assert_str_eq(trace_text(), "");
    cr_assert_eq(weft_error_get_trace(error, &places), 1);
    cr_assert_str_eq(places[0]->function, "try_it");
    cr_assert(strstr(places[0]->file, "test_result.c"));
    weft_result_drop(result);
}

static weft_result try_twice(weft_result result)
{
    weft_result middle = try_it(result);

    WEFT_TRY(middle);
    return weft_ok(NULL);
}

Test(result, try_on_every_level_makes_a_backtrace)
{
    weft_result result = try_twice(broken());
    const weft_place *const *places;

    cr_assert_eq(weft_error_get_trace(weft_failed(result), &places), 2);
    cr_assert_str_eq(places[0]->function, "try_it");
    cr_assert_str_eq(places[1]->function, "try_twice");
    weft_result_drop(result);
}

static weft_result evaluate_once(int *calls)
{
    WEFT_TRY((++*calls, weft_ok(NULL)));
    return weft_ok(NULL);
}

Test(result, try_evaluates_its_argument_once)
{
    int calls = 0;

    weft_result_drop(evaluate_once(&calls));
    cr_assert_eq(calls, 1);
}

/* ---- weft_auto ---- */

static void value_let_go(struct value *value)
{
    value->drops++;
}

WEFT_AUTO(struct value, value_let_go)

static weft_result hold_and_try(struct value *held, struct value *second, weft_result result)
{
    weft_auto(value_let_go) struct value *first_held = held;
    weft_auto(value_let_go) struct value *nothing = NULL;

    WEFT_TRY(result);
    weft_auto(value_let_go) struct value *second_held = second;
    (void)first_held, (void)nothing, (void)second_held;
    return weft_ok(NULL);
}

Test(result, auto_runs_however_the_function_is_left)
{
    struct value first = {"first", 0}, second = {"second", 0};

    weft_result_drop(hold_and_try(&first, &second, weft_ok(NULL)));
    cr_assert_eq(first.drops, 1);
    cr_assert_eq(second.drops, 1);
    weft_result_drop(hold_and_try(&first, &second, broken()));
    cr_assert_eq(first.drops, 2);
    cr_assert_eq(second.drops, 1, "it was not held yet");
}

/* ---- dropped exactly once, wherever it ends ---- */

Test(dropped_once, when_the_deferred_goes)
{
    struct value v = {"v", 0};
    weft_deferred *d = done(value_of(&v));

    cr_assert_eq(v.drops, 0);
    weft_deferred_unref(d);
    cr_assert_eq(v.drops, 1);
}

Test(dropped_once, when_the_last_callback_passes_it_on)
{
    struct value v = {"v", 0};
    weft_deferred *d = noted(pending(), "a");

    weft_deferred_callback(d, value_of(&v));
    cr_assert_eq(v.drops, 0);
    weft_deferred_unref(d);
    cr_assert_eq(v.drops, 1);
    cr_assert_str_eq(trace_text(), "a=v");
}

Test(dropped_once, when_a_callback_replaces_it)
{
    struct value v = {"v", 0};
    weft_deferred *d = done(value_of(&v));

    weft_deferred_add_both(d, return_int, (void *)1);
    cr_assert_eq(v.drops, 1);
    weft_deferred_unref(d);
    cr_assert_eq(v.drops, 1);
}

Test(dropped_once, when_it_is_taken)
{
    struct value v = {"v", 0};
    weft_deferred *d = done(value_of(&v));
    weft_result taken = weft_deferred_take_result(d);

    weft_deferred_unref(d);
    cr_assert_eq(v.drops, 0);
    weft_result_drop(taken);
    cr_assert_eq(v.drops, 1);
}

Test(dropped_once, when_it_comes_late_to_a_cancelled_deferred)
{
    struct value v = {"v", 0};
    weft_deferred *d = pending();

    weft_deferred_cancel(d);
    weft_deferred_callback(d, value_of(&v));
    cr_assert_eq(v.drops, 1);
    weft_deferred_unref(d);
    cr_assert_eq(v.drops, 1);
}

Test(dropped_once, when_the_deferred_was_fired_already)
{
    struct value v = {"v", 0}, w = {"w", 0};
    weft_deferred *d = done(value_of(&v));

    log_capture();
    weft_deferred_callback(d, value_of(&w));
    weft_error_unref(weft_deferred_try_callback(d, value_of(&w)));
    cr_assert_eq(v.drops, 0);
    cr_assert_eq(w.drops, 2);
    weft_deferred_unref(d);
    cr_assert_eq(v.drops, 1);
}

Test(dropped_once, when_it_was_handed_over_to_an_outer_deferred)
{
    struct value v = {"v", 0};
    weft_deferred *outer = done(weft_ok(NULL)), *inner = pending();

    weft_deferred_add_callback(outer, return_later, weft_deferred_ref(inner));
    weft_deferred_callback(inner, value_of(&v));
    weft_deferred_unref(inner);
    cr_assert_eq(v.drops, 0, "it has moved to the outer one");
    weft_deferred_unref(outer);
    cr_assert_eq(v.drops, 1);
}

Test(dropped_once, when_the_waiting_deferred_has_been_let_go_of)
{
    struct value v = {"v", 0};
    weft_deferred *outer = done(weft_ok(NULL)), *inner = pending();

    weft_deferred_add_callback(outer, return_later, weft_deferred_ref(inner));
    weft_deferred_unref(outer);
    weft_deferred_callback(inner, value_of(&v));
    cr_assert_eq(v.drops, 1);
    weft_deferred_unref(inner);
    cr_assert_eq(v.drops, 1);
}

static weft_result return_itself(weft_result result, void *own)
{
    weft_result_drop(result);
    return weft_later(weft_deferred_ref(own));
}

Test(dropped_once, when_a_callback_returns_its_own_deferred)
{
    struct value v = {"v", 0};
    weft_deferred *d = pending();

    weft_deferred_add_both(d, return_itself, d);
    weft_deferred_callback(d, value_of(&v));
    cr_assert_eq(v.drops, 1);
    cr_assert_str_eq(told(weft_deferred_take_result(d)), "!misuse");
    weft_deferred_unref(d);
}

Test(dropped_once, when_a_deferred_is_fired_with_a_deferred)
{
    struct value v = {"v", 0};
    weft_deferred *d = pending();

    log_capture();
    weft_deferred_callback(d, weft_later(done(value_of(&v))));
    cr_assert_eq(v.drops, 1);
    cr_assert_eq(log_count("misuse"), 1);
    weft_deferred_unref(d);
}

Test(dropped_once, when_it_is_awaited_by_two)
{
    struct value v = {"v", 0};
    weft_deferred *first = done(weft_ok(NULL)), *second = done(weft_ok(NULL)), *inner = pending();

    weft_deferred_add_callback(first, return_later, weft_deferred_ref(inner));
    weft_deferred_add_callback(second, return_later, weft_deferred_ref(inner));
    weft_deferred_callback(inner, value_of(&v));
    weft_deferred_unref(inner);
    cr_assert_str_eq(told(weft_deferred_take_result(second)), "!misuse");
    weft_deferred_unref(second);
    cr_assert_eq(v.drops, 0);
    weft_deferred_unref(first);
    cr_assert_eq(v.drops, 1);
}

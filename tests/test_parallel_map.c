/* The bounded parallel map: Synapse's concurrently_execute (a5) and Twisted's Cooperator as they are used, with results. */
#include "tests/support/members.h"
#include "tests/support/test.h"

/* Work on items that the test ends: each call traces the item and gives away one of the members. */
static weft_result work(size_t index, void *arg)
{
    const struct members *m = arg;

    trace("%zu", index);
    return weft_later(weft_deferred_ref(m->of[index]));
}

static weft_deferred *map_of(struct members *m, size_t limit)
{
    return noted_last(weft_parallel_map(m->count, limit, work, m), "map");
}

Test(parallel_map, a5_begins_items_in_order_as_others_end_and_never_more_than_the_limit)
{
    struct members m = members(5, NULL);
    weft_deferred *map = map_of(&m, 2);

    cr_assert_str_eq(trace_text(), "0 1");
    weft_deferred_callback(m.of[1], weft_int(11));
    cr_assert_str_eq(trace_text(), "2");
    weft_deferred_callback(m.of[2], weft_int(12));
    weft_deferred_callback(m.of[0], weft_int(10));
    cr_assert_str_eq(trace_text(), "3 4");
    weft_deferred_callback(m.of[4], weft_int(14));
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(m.of[3], weft_int(13));
    cr_assert_str_eq(trace_text(), "map=[10 11 12 13 14]");
    let_go_of(&m);
    weft_deferred_unref(map);
}

Test(parallel_map, a5_with_a_limit_above_the_number_begins_all)
{
    struct members m = members(3, NULL);
    weft_deferred *map = map_of(&m, SIZE_MAX);

    cr_assert_str_eq(trace_text(), "0 1 2");
    for (size_t i = 0; i < 3; i++)
        weft_deferred_callback(m.of[i], weft_int(1));
    cr_assert_str_eq(trace_text(), "map=[1 1 1]");
    let_go_of(&m);
    weft_deferred_unref(map);
}

Test(parallel_map, of_none_fires_at_once)
{
    weft_deferred_unref(noted_last(weft_parallel_map(0, 1, work, NULL), "map"));
    cr_assert_str_eq(trace_text(), "map=[]");
}

Test(parallel_map, with_a_limit_of_none_is_a_misuse)
{
    weft_deferred *map = weft_parallel_map(3, 0, work, NULL);
    weft_error *error = error_of(map);

    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    cr_assert_eq(weft_error_get_place(error)->line, __LINE__ - 4);
    cr_assert_str_eq(trace_text(), "");
    weft_error_unref(error);
    weft_deferred_unref(map);
}

static weft_result twice(size_t index, void *arg)
{
    (void)arg;
    return weft_int(2 * (intptr_t)index);
}

Test(parallel_map, r72_takes_results_that_are_there_at_once)
{
    weft_deferred_unref(noted_last(weft_parallel_map(4, 1, twice, NULL), "map"));
    cr_assert_str_eq(trace_text(), "map=[0 2 4 6]");
}

/* ---- errors ---- */

Test(parallel_map, a5_begins_nothing_after_an_error_and_waits_for_what_is_under_way)
{
    struct members m = members(5, cancel_later);
    weft_deferred *map = map_of(&m, 3);

    weft_deferred_callback(m.of[0], weft_int(10));
    cr_assert_str_eq(trace_text(), "0 1 2 3");
    weft_deferred_callback(m.of[2], broken());
    cr_assert_str_eq(trace_text(), "b d");
    cr_assert(weft_error_is(weft_deferred_get_cancellation(m.of[1]), &WEFT_SIBLING_FAILED));
    weft_deferred_callback(m.of[1], weft_int(11));
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(m.of[3], weft_int(13));
    cr_assert_str_eq(trace_text(), "map=!broken");
    weft_deferred_callback(m.of[4], weft_ok(NULL));
    let_go_of(&m);
    weft_deferred_unref(map);
}

static weft_result fails_at(size_t index, void *error)
{
    trace("%zu", index);
    return index == 2 ? weft_fail(weft_error_ref(error)) : weft_int(1);
}

Test(parallel_map, r72_fails_with_the_very_error_its_index_and_the_callers_place)
{
    weft_error *error = weft_error_new(&BROKEN, "x"), *failed;
    weft_deferred *map = weft_parallel_map(5, 1, fails_at, error);
    const weft_place *const *trace;

    cr_assert_str_eq(trace_text(), "0 1 2");
    failed = error_of(map);
    cr_assert(weft_error_same(failed, error));
    cr_assert_eq(index_of(failed), 2);
    cr_assert_eq(weft_error_get_trace(failed, &trace), 1);
    cr_assert_eq(trace[0]->line, __LINE__ - 8);
    weft_error_unref(failed);
    weft_error_unref(error);
    weft_deferred_unref(map);
}

static weft_result value_then_broken(size_t index, void *value)
{
    return index ? broken() : value_of(value);
}

Test(parallel_map, r72_drops_its_values_when_it_fails)
{
    struct value a = {"a", 0};

    weft_deferred_unref(noted_last(weft_parallel_map(2, 1, value_then_broken, &a), "map"));
    cr_assert_str_eq(trace_text(), "map=!broken");
    cr_assert_eq(a.drops, 1);
}

static weft_result same_deferred(size_t index, void *deferred)
{
    (void)index;
    return weft_later(weft_deferred_ref(deferred));
}

Test(parallel_map, a_deferred_that_was_consumed_fails_it)
{
    weft_deferred *d = stoppable(cancel_done, "cancelled");

    weft_deferred_unref(noted_last(weft_parallel_map(3, 2, same_deferred, d), "map"));
    cr_assert_str_eq(trace_text(), "cancelled map=!misuse");
    weft_deferred_unref(d);
}

/* Fails itself after it has made an item under way fail. */
static weft_result fail_both(size_t index, void *arg)
{
    const struct members *m = arg;

    if (index == 0)
        return weft_later(weft_deferred_ref(m->of[0]));
    weft_deferred_callback(m->of[0], weft_fail(weft_error_new(&WEFT_TIMED_OUT, "x")));
    return broken();
}

Test(parallel_map, an_error_returned_after_the_first_is_reported)
{
    struct members m = members(1, NULL);

    log_capture();
    weft_deferred_unref(noted_last(weft_parallel_map(3, 2, fail_both, &m), "map"));
    cr_assert_str_eq(trace_text(), "map=!timed_out");
    cr_assert_eq(log_count("unhandled"), 1);
    cr_assert_eq(log_count("broken"), 1);
    let_go_of(&m);
}

/* ---- cancelling ---- */

Test(parallel_map, r72_cancelled_begins_nothing_and_waits_for_what_is_under_way)
{
    struct members m = members(4, cancel_later);
    weft_deferred *map = weft_parallel_map(4, 2, work, &m);
    weft_error *gone = weft_error_new(&WEFT_CLIENT_GONE, "left"), *error;

    weft_deferred_cancel_with(map, weft_error_ref(gone));
    cr_assert_str_eq(trace_text(), "0 1 a b");
    weft_deferred_errback(m.of[1], weft_error_ref(weft_deferred_get_cancellation(m.of[1])));
    cr_assert_eq(weft_deferred_get_state(map), WEFT_PENDING);
    weft_deferred_callback(m.of[0], weft_int(1));
    error = error_of(map);
    cr_assert(weft_error_same(error, gone));
    cr_assert_eq(index_of(error), 1);
    weft_error_unref(error);
    weft_error_unref(gone);
    weft_deferred_callback(m.of[2], weft_ok(NULL));
    weft_deferred_callback(m.of[3], weft_ok(NULL));
    let_go_of(&m);
    weft_deferred_unref(map);
    cr_assert_str_eq(trace_text(), "");
}

Test(parallel_map, cancelled_with_items_left_fails_also_when_those_under_way_succeed)
{
    struct value a = {"a", 0};
    struct members m = members(3, cancel_later);
    weft_deferred *map = map_of(&m, 1);

    weft_deferred_callback(m.of[0], value_of(&a));
    weft_deferred_cancel(map);
    weft_deferred_callback(m.of[1], weft_int(1));
    cr_assert_str_eq(trace_text(), "0 1 b map=!cancelled");
    cr_assert_eq(a.drops, 1);
    weft_deferred_callback(m.of[2], weft_ok(NULL));
    let_go_of(&m);
    weft_deferred_unref(map);
}

Test(parallel_map, cancelled_with_no_items_left_succeeds_when_those_under_way_do)
{
    struct members m = members(2, cancel_with_value);
    weft_deferred *map = map_of(&m, 2);

    weft_deferred_cancel(map);
    cr_assert_str_eq(trace_text(), "0 1 a b map=[7 7]");
    let_go_of(&m);
    weft_deferred_unref(map);
}

/* The second item cancels the map that it is an item of, then gives it another deferred to wait for. */
struct self_cancelling {
    struct members members;
    weft_deferred *map;
};

static weft_result cancel_the_map(size_t index, void *arg)
{
    struct self_cancelling *self = arg;

    if (index == 1)
        weft_deferred_cancel(self->map);
    return work(index, &self->members);
}

Test(parallel_map, cancelled_by_an_item_cancels_also_that_item)
{
    struct self_cancelling self = {.members = members(3, cancel_done)};

    self.map = noted_last(weft_parallel_map(3, 1, cancel_the_map, &self), "map");
    weft_deferred_callback(self.members.of[0], weft_int(1));
    cr_assert_str_eq(trace_text(), "0 1 b map=!cancelled");
    weft_deferred_callback(self.members.of[2], weft_ok(NULL));
    let_go_of(&self.members);
    weft_deferred_unref(self.map);
}

/* ---- contexts ---- */

static weft_result work_in_context(size_t index, void *arg)
{
    trace("%s", weft_context_get_name(weft_context_current()));
    return index == 1 ? weft_int(1) : weft_later(weft_deferred_ref(((struct members *)arg)->of[index]));
}

Test(parallel_map, runs_items_in_the_context_in_which_it_was_made)
{
    struct members m = members(4, NULL);
    weft_context *none = enter("mapping");
    weft_deferred *map = weft_parallel_map(3, 1, work_in_context, &m);

    leave(none);
    none = enter("firing");
    noted_last(context_noted(map, "map"), "map");
    weft_deferred_callback(m.of[0], weft_int(0));
    trace("%s", weft_context_get_name(weft_context_current()));
    cr_assert_str_eq(trace_text(), "mapping mapping mapping firing");
    cr_assert_eq(weft_live_counts_get().contexts, 1, "the map keeps a context that it needs no more");
    weft_deferred_callback(m.of[2], weft_int(2));
    cr_assert_str_eq(trace_text(), "map@firing map=[0 1 2]");
    leave(none);
    weft_deferred_callback(m.of[3], weft_ok(NULL));
    let_go_of(&m);
    weft_deferred_unref(map);
}

static weft_result leave_a_context_behind(size_t index, void *arg)
{
    (void)index, (void)arg;
    trace("%s", weft_context_get_name(weft_context_current()));
    enter("left behind");
    return weft_int(1);
}

Test(parallel_map, an_item_that_leaves_a_context_behind_does_so_for_nobody_else)
{
    weft_context *none = enter("mapping"), *mapping = weft_context_current();

    weft_deferred_unref(noted_last(weft_parallel_map(2, 1, leave_a_context_behind, NULL), "map"));
    cr_assert_str_eq(trace_text(), "mapping mapping map=[1 1]");
    cr_assert_eq(weft_context_current(), mapping);
    /* What enter() gave back twice, and was not looked at. */
    weft_context_unref(mapping);
    weft_context_unref(mapping);
    leave(none);
}

/* ---- many ---- */

static void map_many_at_once(void *arg)
{
    weft_deferred *map = weft_parallel_map(MANY, 3, twice, NULL);
    weft_result result = weft_deferred_take_result(map);
    weft_results *results = result.value;

    (void)arg;
    cr_assert_eq(result.type, &weft_results_type);
    cr_assert_eq(results->items[MANY - 1].value, (void *)(2 * (intptr_t)(MANY - 1)));
    weft_results_free(results);
    weft_deferred_unref(map);
}

Test(parallel_map, of_a_million_results_that_are_there_needs_no_stack)
{
    with_small_stack(map_many_at_once, NULL);
}

/* Each call fires the item before it: ends and beginnings are entangled as they can be. */
static weft_result fire_the_one_before(size_t index, void *arg)
{
    weft_deferred **last = arg, *before = *last;

    (void)index;
    *last = pending();
    if (before)
        weft_deferred_callback(before, weft_int(1));
    weft_deferred_unref(before);
    return weft_later(weft_deferred_ref(*last));
}

static void map_entangled(void *arg)
{
    weft_deferred *last = NULL, *map = weft_parallel_map(MANY, 2, fire_the_one_before, &last);

    (void)arg;
    weft_deferred_callback(last, weft_int(1));
    cr_assert_eq(weft_deferred_get_state(map), WEFT_DONE);
    weft_deferred_unref(last);
    weft_deferred_unref(map);
}

Test(parallel_map, of_a_million_that_fire_each_other_needs_no_stack)
{
    with_small_stack(map_entangled, NULL);
}

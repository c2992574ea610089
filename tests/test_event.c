/* Events. a14 is Synapse's DeferredEvent, whose timed-out waits stay behind until it is set: ours do not. */
#include "tests/support/test.h"
#include "tests/support/values.h"

static weft_event *event;

/* Waits and traces what comes of it; the deferred is borrowed until it has its result. */
static weft_deferred *visit(const char *label)
{
    weft_deferred *d = noted(weft_event_wait(event), label);

    weft_deferred_add_errback(d, return_nothing, NULL);
    weft_deferred_unref(d);
    return d;
}

static void then(weft_deferred *d, weft_callback_fn *fn, const char *label)
{
    weft_deferred_add_both(d, fn, (void *)label);
}

static void begin(void)
{
    event = weft_event_new();
}

static void end(void)
{
    cr_assert_eq(weft_event_get_waiting(event), 0);
    event = weft_event_free(event);
}

Test(event, a14_is_not_set_at_first)
{
    begin();
    cr_assert(!weft_event_is_set(event));
    end();
    cr_assert_null(weft_event_free(NULL));
}

Test(event, a14_wakes_those_who_wait_in_the_order_in_which_they_came)
{
    begin();
    visit("a"), visit("b"), visit("c");
    cr_assert_eq(weft_event_get_waiting(event), 3);
    cr_assert_str_eq(trace_text(), "");
    weft_event_set(event);
    cr_assert_str_eq(trace_text(), "a=nil b=nil c=nil");
    cr_assert(weft_event_is_set(event));
    end();
}

Test(event, a14_lets_through_at_once_while_it_is_set)
{
    begin();
    weft_event_set(event);
    visit("a");
    cr_assert_str_eq(trace_text(), "a=nil");
    weft_event_set(event);
    weft_event_clear(event);
    cr_assert(!weft_event_is_set(event));
    visit("b");
    cr_assert_str_eq(trace_text(), "");
    weft_event_set(event);
    cr_assert_str_eq(trace_text(), "b=nil");
    end();
}

Test(event, a14_c_a_cancelled_wait_leaves_nothing_behind)
{
    weft_deferred *b;

    begin();
    visit("a"), b = visit("b"), visit("c");
    weft_deferred_cancel(b);
    cr_assert_eq(weft_event_get_waiting(event), 2);
    weft_event_set(event);
    cr_assert_str_eq(trace_text(), "b=!cancelled a=nil c=nil");
    end();
}

Test(event, a14_c_waits_that_timed_out_leave_nothing_behind)
{
    weft_test_clock *manual = weft_test_clock_new();

    begin();
    for (int i = 0; i < 5; i++) {
        weft_deferred *d = weft_deferred_add_timeout(weft_event_wait(event), weft_test_clock_get_clock(manual), 1);

        weft_test_clock_advance(manual, 1);
        cr_assert_str_eq(told(weft_deferred_take_result(d)), "!timed_out");
        weft_deferred_unref(d);
    }
    cr_assert_eq(weft_event_get_waiting(event), 0);
    end();
    weft_test_clock_free(manual);
}

Test(event, wakes_one_that_nobody_holds)
{
    begin();
    weft_deferred_unref(weft_event_wait(event));
    cr_assert_eq(weft_event_get_waiting(event), 1);
    weft_event_set(event);
    end();
}

/* ---- callbacks may do anything ---- */

static weft_result clear_and_wait_again(weft_result result, void *label)
{
    weft_event_clear(event);
    visit(label);
    return result;
}

Test(event, wakes_everybody_though_one_clears_it_and_waits_again)
{
    begin();
    then(visit("a"), clear_and_wait_again, "again");
    visit("b"), visit("c");
    weft_event_set(event);
    cr_assert_str_eq(trace_text(), "a=nil b=nil c=nil", "but not the one who came back");
    cr_assert(!weft_event_is_set(event));
    cr_assert_eq(weft_event_get_waiting(event), 1);
    weft_event_set(event);
    cr_assert_str_eq(trace_text(), "again=nil");
    end();
}

static weft_result clear_wait_and_set(weft_result result, void *label)
{
    clear_and_wait_again(result, label);
    weft_event_set(event);
    trace("set");
    return result;
}

Test(event, set_again_inside_a_callback_wakes_when_that_has_returned)
{
    begin();
    then(visit("a"), clear_wait_and_set, "again");
    visit("b");
    weft_event_set(event);
    cr_assert_str_eq(trace_text(), "a=nil set b=nil again=nil");
    end();
}

static weft_result cancel_another(weft_result result, void *deferred)
{
    weft_deferred_cancel(deferred);
    return result;
}

Test(event, one_that_is_to_be_woken_may_still_be_cancelled)
{
    weft_deferred *a, *b;

    begin();
    a = visit("a"), b = visit("b"), visit("c");
    weft_deferred_add_callback(a, cancel_another, b);
    weft_event_set(event);
    cr_assert_str_eq(trace_text(), "a=nil b=!cancelled c=nil");
    end();
}

static weft_result wait_again(weft_result result, void *label)
{
    visit(label);
    return weft_result_drop(result), weft_ok(NULL);
}

Test(event, freed_fails_those_who_wait_and_those_who_come_back)
{
    begin();
    then(visit("a"), wait_again, "again");
    visit("b");
    weft_event_free(event);
    cr_assert_str_eq(trace_text(), "a=!orphaned again=!orphaned b=!orphaned");
}

static weft_result free_it(weft_result result, void *label)
{
    visit(label);
    weft_event_free(event);
    trace("freed");
    return result;
}

Test(event, freed_in_a_callback_still_wakes_those_it_was_set_for)
{
    begin();
    then(visit("a"), clear_and_wait_again, "again");
    then(visit("b"), free_it, "last");
    visit("c");
    weft_event_set(event);
    cr_assert_str_eq(trace_text(), "a=nil b=nil freed c=nil again=!orphaned last=!orphaned");
}

/* ---- a million ---- */

static weft_event *own;

static weft_result count_one(weft_result result, void *count)
{
    ++*(int *)count;
    return result;
}

static void set_for_many(void *unused)
{
    int count = 0;

    (void)unused;
    own = weft_event_new();
    for (int i = 0; i < MANY; i++)
        weft_deferred_unref(weft_deferred_add_callback(weft_event_wait(own), count_one, &count));
    weft_event_set(own);
    cr_assert_eq(count, MANY);
    weft_event_free(own);
}

Test(event_flat, a_million_waiters, .timeout = 30)
{
    with_small_stack(set_for_many, NULL);
}

/* Each brings the next waiter and sets the event for it. */
static weft_result relay(weft_result result, void *left)
{
    if (--*(int *)left) {
        weft_event_clear(own);
        weft_deferred_unref(weft_deferred_add_callback(weft_event_wait(own), relay, left));
        weft_event_set(own);
    }
    return result;
}

static void set_in_turn(void *unused)
{
    int left = MANY;

    (void)unused;
    own = weft_event_new();
    weft_deferred_unref(weft_deferred_add_callback(weft_event_wait(own), relay, &left));
    weft_event_set(own);
    cr_assert_eq(left, 0);
    weft_event_free(own);
}

Test(event_flat, a_million_sets_each_in_the_callback_of_the_last, .timeout = 30)
{
    with_small_stack(set_in_turn, NULL);
}

static void free_under_many(void *unused)
{
    int count = 0;

    (void)unused;
    own = weft_event_new();
    for (int i = 0; i < MANY; i++) {
        weft_deferred *d = weft_deferred_add_errback(weft_event_wait(own), return_nothing, NULL);

        weft_deferred_unref(weft_deferred_add_callback(d, count_one, &count));
    }
    weft_event_free(own);
    cr_assert_eq(count, MANY);
}

Test(event_flat, a_million_waiters_whose_event_is_freed, .timeout = 30)
{
    with_small_stack(free_under_many, NULL);
}

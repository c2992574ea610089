/* A value has one owner at a time, and is dropped once: in every place where a result can get lost. */
#include "tests/support/test.h"
#include "tests/support/values.h"

static struct value a = {"a", 0}, b = {"b", 0};

static weft_result nothing_more(weft_result result, void *unused)
{
    (void)unused;
    return result;
}

Test(ownership, of_a_result_that_nobody_takes)
{
    weft_deferred_unref(done(value_of(&a)));
    cr_assert_eq(a.drops, 1);
}

Test(ownership, of_a_result_that_comes_a_second_time)
{
    weft_deferred *d = done(value_of(&a));
    weft_error *error;

    log_capture();
    weft_deferred_callback(d, value_of(&b));
    cr_assert_eq(b.drops, 1);
    error = weft_deferred_try_callback(d, value_of(&b));
    cr_assert_eq(b.drops, 2);
    weft_error_unref(error);
    weft_deferred_unref(d);
    cr_assert_eq(a.drops, 1);
}

Test(ownership, of_a_late_result_that_is_swallowed)
{
    weft_deferred *d = pending();

    weft_deferred_cancel(d);
    weft_deferred_callback(d, value_of(&a));
    cr_assert_eq(a.drops, 1);
    weft_deferred_unref(d);
}

Test(ownership, of_a_result_that_answers_a_cancel)
{
    weft_deferred *d = stoppable(cancel_later, "unused");

    weft_deferred_cancel(d);
    weft_deferred_callback(d, value_of(&a));
    cr_assert_eq(a.drops, 0, "a cancel may end with a value");
    weft_deferred_unref(d);
    cr_assert_eq(a.drops, 1);
}

Test(ownership, of_a_value_that_waits_for_an_unpause)
{
    weft_deferred *d = done(value_of(&a));

    weft_deferred_pause(d);
    weft_deferred_add_both(d, nothing_more, NULL);
    weft_deferred_unref(d);
    cr_assert_eq(a.drops, 1);
}

Test(ownership, of_a_value_that_moves_along_a_chain_that_nobody_holds)
{
    weft_deferred *inner = pending(), *middle = waiting_for(inner), *outer = waiting_for(middle);

    weft_deferred_unref(middle);
    weft_deferred_unref(outer);
    weft_deferred_callback(inner, value_of(&a));
    cr_assert_eq(a.drops, 1, "it went with the outermost");
    weft_deferred_unref(inner);
    cr_assert_eq(a.drops, 1);
}

Test(ownership, of_a_value_that_is_forwarded_too_late)
{
    weft_deferred *to = done(value_of(&b));

    log_capture();
    weft_deferred_forward(done(value_of(&a)), to);
    cr_assert_eq(a.drops, 1);
    weft_deferred_unref(to);
    cr_assert_eq(b.drops, 1);
}

Test(ownership, of_values_gathered_before_an_error)
{
    weft_deferred *members[] = {done(value_of(&a)), pending(), done(broken())};
    weft_deferred *last = weft_deferred_ref(members[1]), *gathered = weft_gather_results(members, 3, 0);

    weft_deferred_callback(last, value_of(&b)); /* it was cancelled, and comes too late */
    weft_deferred_unref(last);
    cr_assert_eq(a.drops, 1);
    cr_assert_eq(b.drops, 1);
    weft_deferred_add_errback(gathered, return_nothing, NULL);
    weft_deferred_unref(gathered);
}

Test(ownership, of_values_gathered_for_nobody)
{
    weft_deferred *members[] = {done(value_of(&a)), pending()}, *last = weft_deferred_ref(members[1]);

    weft_deferred_unref(weft_gather_results(members, 2, 0));
    cr_assert_eq(a.drops, 0);
    weft_deferred_callback(last, value_of(&b));
    weft_deferred_unref(last);
    cr_assert_eq(a.drops, 1);
    cr_assert_eq(b.drops, 1);
}

Test(ownership, of_what_an_orphans_callback_owns)
{
    struct value *owned = &a;
    weft_deferred *d = pending();

    log_capture();
    weft_deferred_add_callbacks_owning(d, NULL, NULL, owned, value_type.unref);
    weft_deferred_unref(d);
    cr_assert_eq(a.drops, 1);
}

Test(ownership, of_values_in_a_queue_and_of_what_waits_to_be_put)
{
    weft_queue *queue = weft_queue_new(1, WEFT_UNLIMITED);
    weft_deferred *put;

    cr_assert_null(weft_queue_put(queue, value_of(&a)));
    put = weft_queue_put_wait(queue, value_of(&b));
    weft_queue_free(queue);
    cr_assert_eq(a.drops, 1);
    cr_assert_eq(b.drops, 1);
    weft_deferred_add_errback(put, return_nothing, NULL);
    weft_deferred_unref(put);
}

/* ---- the end of a loop ---- */

static weft_result wait_then_return(void *deferred)
{
    weft_result result = weft_await(deferred);

    weft_result_drop(result);
    return value_of(&a);
}

Test(ownership, of_what_a_fiber_returns_when_its_loop_ends)
{
    weft_reactor *reactor;
    weft_deferred *d = pending();

    cr_assert_null(weft_reactor_new(&reactor));
    weft_deferred_unref(weft_spawn(wait_then_return, weft_deferred_ref(d)));
    weft_reactor_free(reactor);
    cr_assert_eq(a.drops, 1, "it was cancelled, and answered with a value that nobody wanted");
    weft_deferred_callback(d, value_of(&b));
    cr_assert_eq(b.drops, 1);
    weft_deferred_unref(d);
}

static weft_result pass(void *deferred)
{
    return weft_await(deferred);
}

Test(ownership, of_what_is_on_its_way_to_a_fiber_when_its_loop_ends)
{
    weft_reactor *reactor;
    weft_deferred *d = pending(), *fiber;

    cr_assert_null(weft_reactor_new(&reactor));
    fiber = weft_spawn(pass, weft_deferred_ref(d));
    weft_deferred_callback(d, value_of(&a)); /* wakes it, and it does not run before the loop ends */
    weft_deferred_unref(d);
    cr_assert_eq(weft_deferred_get_state(fiber), WEFT_PENDING);
    weft_reactor_free(reactor);
    cr_assert_str_eq(told(weft_deferred_take_result(fiber)), "a", "what was delivered wins");
    weft_deferred_unref(fiber);
    cr_assert_eq(a.drops, 1);
}

Test(ownership, of_what_a_living_deferred_holds_when_its_loop_ends)
{
    weft_reactor *reactor;
    weft_deferred *d = done(value_of(&a));

    cr_assert_null(weft_reactor_new(&reactor));
    weft_reactor_free(reactor);
    cr_assert_eq(a.drops, 0, "it is its holder's");
    weft_deferred_unref(d);
    cr_assert_eq(a.drops, 1);
}

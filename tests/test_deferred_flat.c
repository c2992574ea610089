/* Neither the length nor the depth of a chain costs C stack: a million of everything, on 256 KiB. */
#include "tests/support/test.h"
#include "tests/support/values.h"

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

Test(deferred_flat, r18_gap_a_million_callbacks_on_one, .timeout = 30)
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

Test(deferred_flat, r18_gap_a_million_callbacks_that_each_add_the_next, .timeout = 30)
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

Test(deferred_flat, r18_gap_a_chain_a_million_deep_that_is_fired, .timeout = 30)
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

Test(deferred_flat, r32_a_chain_a_million_deep_that_is_cancelled, .timeout = 30)
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

Test(deferred_flat, r18_gap_a_chain_a_million_deep_whose_innermost_is_orphaned, .timeout = 30)
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

Test(deferred_flat, r18_gap_a_chain_a_million_deep_that_nobody_waits_for, .timeout = 30)
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

Test(deferred_flat, r18_gap_a_million_deferreds_returned_to_one_in_a_row, .timeout = 30)
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

Test(deferred_flat, r18_gap_a_million_orphans_each_returned_by_the_one_before, .timeout = 30)
{
    with_small_stack(orphan_within_orphan, NULL);
}

/* Each is paused, waits for the next, and is held by nobody but that: from the innermost on up, all go on. */
static void drop_a_chain_of_paused(void *unused)
{
    weft_deferred *innermost = pending(), *d = weft_deferred_ref(innermost);

    (void)unused;
    for (int i = 0; i < MANY; i++) {
        weft_deferred *outer = paused(waiting_for(d));

        weft_deferred_unref(d);
        d = outer;
    }
    weft_deferred_unref(noted(d, "outermost"));
    cr_assert_eq(weft_live_counts_get().deferreds, MANY + 1u);
    weft_deferred_unref(innermost);
    cr_assert_str_eq(trace_text(), "outermost=!orphaned");
}

Test(deferred_flat, r18_gap_a_million_paused_ones_that_wait_for_each_other, .timeout = 30)
{
    log_capture();
    with_small_stack(drop_a_chain_of_paused, NULL);
}

/* Each forwards to the one made before it, the outermost; the last is fired. */
static weft_deferred *forward_many(weft_deferred *outermost)
{
    weft_deferred *to = weft_deferred_ref(outermost);

    for (int i = 0; i < MANY; i++) {
        weft_deferred *from = i + 1 < MANY ? pending() : stoppable(cancel_done, "stop");

        weft_deferred_forward(weft_deferred_ref(from), to);
        weft_deferred_unref(to);
        to = from;
    }
    return to;
}

static void fire_and_cancel_many(void *unused)
{
    weft_deferred *fired = noted(pending(), "fired"), *cancelled = noted(pending(), "cancelled");
    weft_deferred *first = forward_many(fired), *second = forward_many(cancelled);

    (void)unused;
    weft_deferred_callback(first, weft_int(1));
    weft_deferred_cancel(cancelled);
    cr_assert_str_eq(trace_text(), "fired=1 stop cancelled=!cancelled");
    weft_deferred_unref(first);
    weft_deferred_unref(second);
    weft_deferred_unref(fired);
    weft_deferred_unref(cancelled);
}

Test(deferred_flat, r22_a_million_that_forward_to_each_other, .timeout = 30)
{
    with_small_stack(fire_and_cancel_many, NULL);
}

/* A queue in which each waits for the one before it: the one that begins to wait is waited for already, and what it waits for
 * has all the others below it. Looking for a circle from below alone took longer with each. */
static void queue_many(void *unused)
{
    weft_deferred *first = pending(), *last = weft_deferred_ref(first);

    (void)unused;
    for (int i = 0; i < MANY; i++) {
        weft_deferred *d = weft_deferred_add_both(pending(), return_later, last), *outer = waiting_for(d);

        weft_deferred_callback(d, weft_ok(NULL));
        weft_deferred_unref(d);
        last = outer;
    }
    noted(last, "last");
    weft_deferred_callback(first, weft_int(3));
    cr_assert_str_eq(trace_text(), "last=3");
    weft_deferred_unref(first);
    weft_deferred_unref(last);
}

Test(deferred_flat, r20_a_million_that_each_wait_for_the_one_before, .timeout = 60)
{
    with_small_stack(queue_many, NULL);
}

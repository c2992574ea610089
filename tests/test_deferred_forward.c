/* Forwarding a result to another deferred: what rule 22 of Twisted's is for, without its traps. */
#include "tests/support/test.h"
#include "tests/support/values.h"

Test(deferred_forward, r22_fires_the_other_with_what_comes)
{
    weft_deferred *from = pending(), *to = noted(pending(), "to"), *failing = pending(), *other = noted(pending(), "other");

    weft_deferred_forward(weft_deferred_ref(from), to);
    cr_assert_eq(weft_deferred_get_state(to), WEFT_WAITING);
    weft_deferred_callback(from, weft_int(4));
    cr_assert_str_eq(trace_text(), "to=4");
    weft_deferred_forward(weft_deferred_ref(failing), other);
    weft_deferred_callback(failing, broken());
    cr_assert_str_eq(trace_text(), "other=!broken");
    weft_deferred_add_errback(other, return_nothing, NULL);
    weft_deferred_unref(from);
    weft_deferred_unref(to);
    weft_deferred_unref(failing);
    weft_deferred_unref(other);
}

Test(deferred_forward, r22_fires_the_other_at_once_with_what_is_there)
{
    struct value value = {.name = "v"};
    weft_deferred *to = noted(pending(), "to"), *failed = noted(pending(), "failed");

    weft_deferred_forward(done(value_of(&value)), to);
    weft_deferred_forward(done(broken()), failed);
    cr_assert_str_eq(trace_text(), "to=v failed=!broken");
    cr_assert_eq(value.drops, 0);
    weft_deferred_unref(to);
    cr_assert_eq(value.drops, 1);
    weft_deferred_add_errback(failed, return_nothing, NULL);
    weft_deferred_unref(failed);
}

Test(deferred_forward, r22_brings_what_the_callbacks_before_it_made)
{
    weft_deferred *from = weft_deferred_add_both(noted(pending(), "from"), return_int, (void *)9), *to = noted(pending(), "to");

    weft_deferred_forward(weft_deferred_ref(from), to);
    weft_deferred_callback(from, weft_int(1));
    cr_assert_str_eq(trace_text(), "from=1 to=9");
    log_capture();
    noted(from, "later"); /* logged as a misuse, and run */
    cr_assert_str_eq(trace_text(), "later=nil", "it was handed over");
    weft_deferred_unref(from);
    weft_deferred_unref(to);
}

Test(deferred_forward, r22_takes_a_cancel_back)
{
    weft_deferred *from = stoppable(cancel_done, "stop"), *to = noted(stoppable(cancel_done, "unused"), "to");

    weft_deferred_forward(weft_deferred_ref(from), to);
    weft_deferred_cancel(to);
    cr_assert_str_eq(trace_text(), "stop to=!cancelled");
    weft_deferred_unref(from);
    weft_deferred_unref(to);
}

Test(deferred_forward, r22_lets_a_cancel_of_the_first_come_through_as_its_error)
{
    weft_deferred *from = stoppable(cancel_done, "stop"), *to = noted(pending(), "to");

    weft_deferred_forward(weft_deferred_ref(from), to);
    weft_deferred_cancel(from);
    cr_assert_str_eq(trace_text(), "stop to=!cancelled");
    log_capture();
    weft_deferred_unref(from);
    weft_deferred_unref(to);
    cr_assert_eq(log_count("unhandled"), 1, "its own owner did not ask");
}

Test(deferred_forward, r22_makes_firing_the_other_by_hand_a_misuse)
{
    weft_deferred *from = pending(), *to = noted(pending(), "to");

    log_capture();
    weft_deferred_forward(weft_deferred_ref(from), to);
    weft_deferred_callback(to, weft_int(1));
    cr_assert_eq(log_count("already_called"), 1);
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(from, weft_int(2));
    cr_assert_str_eq(trace_text(), "to=2");
    weft_deferred_unref(from);
    weft_deferred_unref(to);
}

Test(deferred_forward, r22_to_one_that_was_fired_is_a_misuse_and_changes_nothing)
{
    struct value value = {.name = "v"};
    weft_deferred *from = done(value_of(&value)), *to = noted(done(weft_int(1)), "to");

    log_capture();
    weft_deferred_forward(weft_deferred_ref(from), to);
    cr_assert_eq(log_count("already_called"), 1);
    cr_assert_str_eq(trace_text(), "to=1");
    cr_assert_str_eq(told(weft_deferred_take_result(from)), "v", "it is still there for others");
    weft_deferred_unref(from);
    weft_deferred_unref(to);
    cr_assert_eq(value.drops, 1);
}

Test(deferred_forward, r27_to_one_that_was_cancelled_without_canceller_is_swallowed_once)
{
    struct value value = {.name = "v"};
    weft_deferred *to = noted(pending(), "to");

    log_capture();
    weft_deferred_cancel(to);
    weft_deferred_forward(done(value_of(&value)), to);
    cr_assert_eq(value.drops, 1);
    cr_assert_eq(log_count("misuse"), 0);
    cr_assert_eq(log_count("already_called"), 0);
    weft_deferred_forward(done(weft_int(1)), to);
    cr_assert_eq(log_count("already_called"), 1);
    cr_assert_str_eq(trace_text(), "to=!cancelled");
    weft_deferred_unref(to);
}

Test(deferred_forward, r20_to_itself_or_in_a_circle_is_a_misuse)
{
    weft_deferred *self = noted(pending(), "self"), *a = noted(pending(), "a"), *b = noted(pending(), "b");

    log_capture();
    weft_deferred_forward(weft_deferred_ref(self), self);
    cr_assert_str_eq(trace_text(), "self=!misuse");
    weft_deferred_forward(weft_deferred_ref(a), b);
    weft_deferred_forward(weft_deferred_ref(b), a);
    cr_assert_str_eq(trace_text(), "a=!misuse b=!misuse");
    weft_deferred_unref(self);
    weft_deferred_unref(a);
    weft_deferred_unref(b);
}

Test(deferred_forward, r22_of_one_that_was_handed_over_is_a_misuse_that_the_other_gets)
{
    weft_deferred *from = pending(), *first = noted(pending(), "first"), *second = noted(pending(), "second");

    weft_deferred_forward(weft_deferred_ref(from), first);
    weft_deferred_forward(weft_deferred_ref(from), second);
    cr_assert_str_eq(trace_text(), "second=!misuse");
    weft_deferred_callback(from, weft_int(1));
    cr_assert_str_eq(trace_text(), "first=1");
    weft_deferred_add_errback(second, return_nothing, NULL);
    weft_deferred_unref(from);
    weft_deferred_unref(first);
    weft_deferred_unref(second);
}

Test(deferred_forward, of_an_orphan_tells_the_other)
{
    weft_deferred *from = pending(), *late = noted(pending(), "late"), *at_once = noted(pending(), "at_once");

    weft_deferred_forward(weft_deferred_ref(from), late);
    weft_deferred_unref(from);
    cr_assert_str_eq(trace_text(), "late=!orphaned");
    weft_deferred_forward(pending(), at_once);
    cr_assert_str_eq(trace_text(), "at_once=!orphaned");
    weft_deferred_add_errback(late, return_nothing, NULL);
    weft_deferred_add_errback(at_once, return_nothing, NULL);
    weft_deferred_unref(late);
    weft_deferred_unref(at_once);
}

Test(deferred_forward, r22_keeps_the_other_alive_until_it_has_its_result)
{
    weft_deferred *from = pending(), *to = noted(pending(), "to");

    weft_deferred_forward(weft_deferred_ref(from), to);
    weft_deferred_unref(to);
    weft_deferred_callback(from, weft_int(1));
    cr_assert_str_eq(trace_text(), "to=1");
    weft_deferred_unref(from);
}

Test(deferred_forward, r22_waits_for_one_that_is_paused_and_for_its_own_pause)
{
    weft_deferred *from = done(weft_int(1)), *to = noted(pending(), "to");

    weft_deferred_pause(from);
    weft_deferred_pause(to);
    weft_deferred_forward(weft_deferred_ref(from), to);
    weft_deferred_unpause(from);
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unpause(to);
    cr_assert_str_eq(trace_text(), "to=1");
    weft_deferred_unref(from);
    weft_deferred_unref(to);
}

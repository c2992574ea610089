/* Deferreds that nobody can fire any more: whoever waits for one is told. */
#include "tests/support/test.h"
#include "tests/support/values.h"

Test(deferred_orphan, tells_its_callbacks_that_nobody_can_fire_it_any_more)
{
    weft_deferred *d = weft_deferred_add_errback(noted(pending(), "a"), return_nothing, NULL);

    noted(d, "b");
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "a=!orphaned b=nil");
    cr_assert_eq(weft_live_counts_get().deferreds, 0);
}

static weft_result note_place(weft_result result, void *line)
{
    *(int *)line = weft_error_get_place(weft_failed(result))->line;
    return return_nothing(result, NULL);
}

Test(deferred_orphan, names_where_it_was_made)
{
    int line = 0, made = __LINE__ + 1;
    weft_deferred *d = weft_deferred_new(NULL, NULL);

    weft_deferred_add_both(d, note_place, &line);
    weft_deferred_unref(d);
    cr_assert_eq(line, made);
}

Test(deferred_orphan, without_callbacks_just_goes)
{
    log_capture();
    weft_deferred_unref(stoppable(cancel_done, "canceller"));
    cr_assert_str_eq(trace_text(), "", "the canceller does not run");
    cr_assert_eq(log_count(""), 0);
}

Test(deferred_orphan, that_nobody_handles_is_reported)
{
    log_capture();
    weft_deferred_unref(noted(pending(), "a"));
    cr_assert_eq(log_count("unhandled error"), 1);
    cr_assert_eq(log_count("orphaned"), 1);
    trace_text();
}

Test(deferred_orphan, returned_from_a_callback_fails_the_one_that_waits)
{
    weft_deferred *d = done(weft_ok(NULL));

    weft_deferred_add_both(d, return_later, noted(pending(), "inner"));
    noted(d, "d");
    cr_assert_str_eq(trace_text(), "inner=!orphaned d=!orphaned");
    cr_assert_eq(weft_live_counts_get().deferreds, 1);
    conclude(d, "d");
    trace_text();
}

Test(deferred_orphan, in_the_middle_of_a_chain_fails_all_above)
{
    weft_deferred *inner = pending(), *middle = waiting_for(inner), *outer = noted(waiting_for(middle), "outer");

    weft_deferred_unref(middle);
    cr_assert_str_eq(trace_text(), "", "the middle one is held by what will fire it");
    weft_deferred_unref(inner);
    cr_assert_str_eq(trace_text(), "outer=!orphaned");
    conclude(outer, "o");
    trace_text();
}

static weft_deferred *kept;

static weft_result keep(weft_result result, void *own)
{
    kept = weft_deferred_ref(own);
    return result;
}

Test(deferred_orphan, may_be_kept_by_its_own_callback)
{
    weft_deferred *d = pending();

    weft_deferred_add_both(d, keep, d);
    weft_deferred_unref(d);
    cr_assert_eq(kept, d);
    cr_assert_eq(weft_deferred_get_state(d), WEFT_DONE);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=!orphaned");
}

Test(deferred_orphan, that_was_asked_to_stop_ends_with_that)
{
    weft_deferred *d = noted(stoppable(cancel_later, "canceller"), "a");

    log_capture();
    weft_deferred_cancel_with(d, weft_error_new(&WEFT_CLIENT_GONE, "x"));
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "canceller a=!client_gone");
    cr_assert_eq(log_count(""), 0);
}

Test(deferred_orphan, touches_no_context)
{
    weft_context *previous = enter("adder"), *second;
    weft_deferred *d = context_noted(pending(), "a");

    weft_deferred_add_errback(d, return_nothing, NULL);
    second = enter("dropper");
    weft_deferred_unref(d);
    trace("after@%s", weft_context_get_name(weft_context_current()));
    leave(second);
    leave(previous);
    cr_assert_str_eq(trace_text(), "a@adder after@dropper");
}

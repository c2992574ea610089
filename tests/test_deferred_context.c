/* Log contexts of callbacks and cancellers: G8, G20, G22 and G24 of the source documents. */
#include "tests/support/fibers.h"
#include "tests/support/test.h"

#include <string.h>

Test(deferred_context, callbacks_run_in_the_one_in_which_they_were_added)
{
    weft_deferred *d = pending();
    weft_context *previous;

    context_noted(d, "outside");
    previous = enter("first");
    context_noted(d, "a");
    leave(previous);
    previous = enter("second");
    context_noted(d, "b");
    leave(previous);
    previous = enter("firer");
    weft_deferred_callback(d, weft_ok(NULL));
    trace("firer@%s", weft_context_get_name(weft_context_current()));
    leave(previous);
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "outside@- a@first b@second firer@firer");
}

Test(deferred_context, is_kept_for_a_callback_after_its_scope_was_left)
{
    weft_deferred *d = pending();
    weft_context *previous = enter("GET-1");

    context_noted(d, "finished");
    leave(previous);
    cr_assert_eq(weft_live_counts_get().contexts, 1);
    weft_deferred_callback(d, weft_ok(NULL));
    cr_assert_str_eq(trace_text(), "finished@GET-1");
    cr_assert_eq(weft_live_counts_get().contexts, 0, "and not longer");
    weft_deferred_unref(d);
}

Test(deferred_context, of_a_side_that_is_not_taken_is_let_go_of)
{
    weft_deferred *d = pending();
    weft_context *previous = enter("x");

    weft_deferred_add_errback(d, note_context, NULL);
    weft_deferred_add_callbacks(d, NULL, NULL, NULL);
    leave(previous);
    weft_deferred_callback(d, weft_ok(NULL));
    cr_assert_eq(weft_live_counts_get().contexts, 0);
    weft_deferred_unref(d);
}

Test(deferred_context, of_the_adder_holds_for_a_callback_that_runs_at_once)
{
    weft_deferred *d = done(weft_ok(NULL));
    weft_context *previous = enter("adder");

    context_noted(d, "a");
    cr_assert_str_eq(trace_text(), "a@adder");
    leave(previous);
    weft_deferred_unref(d);
}

Test(deferred_context, of_a_chain_is_each_callbacks_own)
{
    weft_deferred *inner = pending(), *outer;
    weft_context *previous = enter("inner");

    context_noted(inner, "i");
    leave(previous);
    previous = enter("outer");
    outer = context_noted(waiting_for(inner), "o");
    leave(previous);
    previous = enter("firer");
    weft_deferred_callback(inner, weft_ok(NULL));
    trace("firer@%s", weft_context_get_name(weft_context_current()));
    leave(previous);
    cr_assert_str_eq(trace_text(), "i@inner o@outer firer@firer");
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

static weft_cancel_outcome canceller_context(weft_deferred *d, void *label)
{
    (void)d;
    trace("%s@%s", (const char *)label, weft_context_get_name(weft_context_current()));
    return WEFT_CANCEL_DONE;
}

Test(deferred_context, of_the_one_who_cancels_is_the_cancellers_and_is_kept)
{
    weft_context *previous = enter("adder");
    weft_deferred *d = context_noted(stoppable(canceller_context, "canceller"), "a");

    leave(previous);
    previous = enter("asker");
    weft_deferred_cancel(d);
    trace("asker@%s", weft_context_get_name(weft_context_current()));
    leave(previous);
    cr_assert_str_eq(trace_text(), "canceller@asker a@adder asker@asker");
    weft_deferred_unref(d);
}

static weft_result leave_another_behind(weft_result result, void *unused)
{
    (void)unused;
    weft_context_unref(weft_context_set(weft_context_new("left_behind")));
    return result;
}

/* A callback's mistake, which must not become somebody else's. */
Test(deferred_context, left_behind_by_a_callback_is_taken_away)
{
    weft_deferred *d = done(weft_ok(NULL));
    weft_context *previous = enter("adder"), *second;

    weft_deferred_add_both(d, leave_another_behind, NULL);
    trace("%s", weft_context_get_name(weft_context_current()));
    leave(previous);
    weft_deferred_unref(d);

    d = pending();
    previous = enter("adder");
    weft_deferred_add_both(d, leave_another_behind, NULL);
    second = enter("firer");
    weft_deferred_callback(d, weft_ok(NULL));
    trace("%s", weft_context_get_name(weft_context_current()));
    leave(second);
    leave(previous);
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "adder firer");
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

Test(deferred_context, of_each_callback_is_its_own_when_one_forwards_to_another)
{
    weft_deferred *from, *to = pending();
    weft_context *previous = enter("listener");

    context_noted(to, "to");
    leave(previous);
    previous = enter("worker");
    from = context_noted(pending(), "from");
    weft_deferred_forward(weft_deferred_ref(from), to);
    leave(previous);
    weft_deferred_callback(from, weft_ok(NULL));
    cr_assert_str_eq(trace_text(), "from@worker to@listener");
    weft_deferred_unref(from);
    weft_deferred_unref(to);
}

/* ---- deferreds that are bound to a context ---- */

static weft_deferred *bound_to(const char *name, weft_cancel_fn *canceller)
{
    weft_context *context = weft_context_new(name);
    weft_deferred *d = weft_deferred_new_bound(context, canceller, (void *)"canceller");

    weft_context_unref(context);
    return d;
}

Test(deferred_context, g22_of_a_bound_one_is_that_of_all_callbacks_whoever_adds_and_fires)
{
    weft_deferred *d = bound_to("bound", NULL);
    weft_context *previous;

    context_noted(d, "a");
    previous = enter("adder");
    for (int i = 0; i < 20; i++) /* more than lie inline, and in one block */
        context_noted(d, "b");
    leave(previous);
    previous = enter("firer");
    weft_deferred_callback(d, weft_int(1));
    trace("firer@%s", weft_context_get_name(weft_context_current()));
    context_noted(d, "late");
    leave(previous);
    conclude(d, "result");
    cr_assert_str_eq(trace_text(), "a@bound b@bound b@bound b@bound b@bound b@bound b@bound b@bound b@bound b@bound b@bound "
                                   "b@bound b@bound b@bound b@bound b@bound b@bound b@bound b@bound b@bound b@bound "
                                   "firer@firer late@bound result=1");
}

Test(deferred_context, g22_a_bound_one_holds_its_context_as_long_as_it_lives)
{
    weft_deferred *d = bound_to("bound", NULL);

    cr_assert_eq(weft_live_counts_get().contexts, 1);
    context_noted(d, "a");
    weft_deferred_callback(d, weft_ok(NULL));
    cr_assert_eq(weft_live_counts_get().contexts, 1);
    weft_deferred_unref(d);
    cr_assert_eq(weft_live_counts_get().contexts, 0);
    cr_assert_str_eq(trace_text(), "a@bound");

    weft_deferred_unref(bound_to("bound", NULL));
    cr_assert_eq(weft_live_counts_get().contexts, 0, "also one that was never fired");
}

Test(deferred_context, g22_a_bound_one_may_be_bound_to_none)
{
    weft_deferred *d = weft_deferred_new_bound(NULL, NULL, NULL);
    weft_context *previous = enter("adder");

    context_noted(d, "a");
    weft_deferred_callback(d, weft_ok(NULL));
    leave(previous);
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "a@-");
}

Test(deferred_context, g22_a_bound_one_takes_part_in_chains_on_both_sides)
{
    weft_deferred *bound = bound_to("bound", NULL), *inner = pending(), *outer;

    context_noted(bound, "before");
    weft_deferred_add_both(bound, return_later, weft_deferred_ref(inner));
    context_noted(bound, "after");
    outer = context_noted(waiting_for(bound), "outer");
    weft_deferred_callback(bound, weft_ok(NULL));
    weft_deferred_callback(inner, weft_int(3));
    weft_deferred_unref(inner);
    weft_deferred_unref(bound);
    conclude(outer, "result");
    cr_assert_str_eq(trace_text(), "before@bound after@bound outer@- result=3");
}

Test(deferred_context, g22_a_bound_one_brings_the_value_or_the_failure_of_one_that_is_forwarded_to_it)
{
    weft_deferred *from, *bound;
    weft_context *previous;

    for (int fails = 0; fails < 2; fails++) {
        previous = enter("io");
        from = pending();
        bound = bound_to("bound", NULL);
        weft_deferred_forward(weft_deferred_ref(from), bound);
        context_noted(bound, "callback");
        weft_deferred_callback(from, fails ? broken() : weft_int(2));
        leave(previous);
        weft_deferred_unref(from);
        conclude(bound, "result");
    }
    cr_assert_str_eq(trace_text(), "callback@bound result=2 callback@bound result=!broken");
}

Test(deferred_context, g22_a_bound_one_is_cancelled_and_dumped_as_any_other)
{
    weft_deferred *d = bound_to("bound", cancel_done);
    char text[512];

    context_noted(d, "a");
    noted(d, "b");
    weft_deferred_dump(d, text, sizeof text);
    cr_assert(strstr(text, "2 callbacks"), "%s", text);
    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "canceller a@bound b=!cancelled");
    weft_deferred_unref(d);
}

Test(deferred_context, g22_a_bound_one_that_nobody_can_fire_fails_in_its_context)
{
    weft_deferred *d = bound_to("bound", NULL);

    context_noted(d, "a");
    weft_deferred_add_both(d, note_last, (void *)"b");
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "a@bound b=!orphaned");
}

Test(deferred_context, g22_a_bound_one_with_an_error_that_nobody_took_is_found_at_the_end_of_a_loop)
{
    weft_deferred *d = bound_to("bound", NULL);

    log_capture();
    weft_deferred_callback(d, broken());
    weft_deferred_report_unhandled();
    cr_assert_eq(log_count("unhandled error"), 1, "%s", log_text());
    weft_deferred_unref(d);
    cr_assert_eq(log_count("unhandled error"), 1, "and once");
}

static weft_result wait_shielded(void *deferred)
{
    return weft_shield(wait_for, deferred);
}

/* A deferred says that it is bound by a flag that has another meaning for those of fibers. */
Test(deferred_context, g22_of_a_shielded_fibers_deferred_is_not_taken_for_that_of_a_bound_one)
{
    weft_deferred *gate = pending(), *fiber;
    weft_context *previous;

    begin();
    fiber = weft_spawn(wait_shielded, weft_deferred_ref(gate));
    previous = enter("adder");
    context_noted(fiber, "callback");
    leave(previous);
    weft_deferred_callback(gate, weft_int(1));
    weft_deferred_unref(gate);
    trace("result=%s", told(run_until(fiber)));
    cr_assert_str_eq(trace_text(), "wait=1 callback@adder result=1");
    end();
}

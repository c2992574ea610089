/* Errors that nobody took: reported once, when the last reference goes or at the end of a loop, to one hook. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <stdio.h>
#include <string.h>

/* ---- as they are logged ---- */

static weft_result return_cancelled(weft_result result, void *unused)
{
    (void)unused;
    weft_result_drop(result);
    return weft_fail(weft_error_new(&WEFT_CANCELLED, "of somebody else"));
}

Test(unhandled, r39_error_is_logged_once_when_the_last_reference_goes)
{
    int made = __LINE__ + 1;
    weft_deferred *d = weft_deferred_new(NULL, NULL);
    char place[200];

    log_capture();
    weft_deferred_errback(d, weft_error_new(&BROKEN, "the disk is on fire"));
    weft_deferred_ref(d);
    weft_deferred_unref(d);
    cr_assert_eq(log_count(""), 0, "somebody may still handle it");
    weft_deferred_unref(d);
    snprintf(place, sizeof place, "made at %s:%d", __FILE__, made);
    cr_assert_eq(log_count("ERROR - unhandled error"), 1);
    cr_assert_eq(log_count("broken: the disk is on fire"), 1);
    cr_assert_eq(log_count(place), 1);
    cr_assert_eq(log_count(""), 1);
}

Test(unhandled, r39_success_is_not_logged)
{
    log_capture();
    weft_deferred_unref(done(weft_int(1)));
    weft_deferred_unref(pending());
    cr_assert_eq(log_count(""), 0);
}

static weft_result let_go_and_fail(weft_result result, void *own)
{
    return return_broken(let_go(result, own), NULL);
}

Test(unhandled, r39_error_is_logged_when_the_last_reference_goes_in_the_callback_that_fails)
{
    weft_deferred *d = pending();

    log_capture();
    weft_deferred_add_callback(d, let_go_and_fail, d);
    weft_deferred_callback(d, weft_int(1));
    cr_assert_eq(log_count("unhandled error"), 1);
}

static weft_result return_timed_out(weft_result result, void *unused)
{
    (void)unused;
    weft_result_drop(result);
    return weft_fail(weft_error_new(&WEFT_TIMED_OUT, "x"));
}

Test(unhandled, r40_error_that_another_replaced_is_not_logged)
{
    weft_deferred *d = done(broken());

    log_capture();
    weft_deferred_add_errback(d, return_timed_out, NULL);
    weft_deferred_unref(d);
    cr_assert_eq(log_count("timed_out"), 1);
    cr_assert_eq(log_count(""), 1);
}

static weft_result await_and_handle(void *failed)
{
    weft_result_drop(weft_await(failed));
    return weft_ok(NULL);
}

static weft_result await_and_pass(void *failed)
{
    return weft_await(failed);
}

Test(unhandled, r40_error_that_a_fiber_awaits_is_the_fibers)
{
    weft_deferred *handled = pending(), *passed = pending();
    weft_reactor *reactor;

    cr_assert_null(weft_reactor_new(&reactor));
    log_capture();
    weft_deferred_unref(weft_spawn(await_and_handle, weft_deferred_ref(handled)));
    weft_deferred_callback(handled, broken());
    weft_deferred_unref(handled);
    weft_result_drop(weft_reactor_run_until(reactor, weft_spawn(await_and_pass, done(weft_int(1)))));
    cr_assert_eq(log_count("unhandled"), 0);
    weft_deferred_unref(weft_spawn(await_and_pass, weft_deferred_ref(passed)));
    weft_deferred_callback(passed, broken());
    weft_deferred_unref(passed);
    weft_reactor_free(reactor);
    cr_assert_eq(log_count("unhandled"), 1);
}

Test(unhandled, r40_error_that_was_handled_taken_or_moved_is_not_logged)
{
    weft_deferred *handled = done(broken()), *taken = done(broken()), *moved = done(broken()), *outer;

    log_capture();
    weft_deferred_add_errback(handled, return_nothing, NULL);
    weft_result_drop(weft_deferred_take_result(taken));
    outer = waiting_for(moved);
    weft_deferred_add_errback(outer, return_nothing, NULL);
    weft_deferred_unref(handled);
    weft_deferred_unref(taken);
    weft_deferred_unref(moved);
    weft_deferred_unref(outer);
    cr_assert_eq(log_count(""), 0);
}

Test(unhandled, r40_error_that_moved_is_reported_by_the_outer)
{
    weft_deferred *inner = pending(), *outer = waiting_for(inner);

    log_capture();
    weft_deferred_unref(outer);
    weft_deferred_errback(inner, weft_error_new(&BROKEN, "x"));
    cr_assert_eq(log_count("unhandled"), 1);
    weft_deferred_unref(inner);
    cr_assert_eq(log_count("unhandled"), 1);
}

Test(unhandled, r41_cancellation_that_its_owner_asked_for_is_not_logged)
{
    weft_deferred *d = pending(), *inner = pending(), *outer = waiting_for(inner);

    log_capture();
    weft_deferred_cancel(d);
    weft_deferred_unref(d);
    weft_deferred_cancel(outer);
    weft_deferred_unref(outer);
    weft_deferred_unref(inner);
    cr_assert_eq(log_count(""), 0);
}

Test(unhandled, r41_cancellation_in_one_that_was_cancelled_before_is_not_logged)
{
    weft_deferred *d = weft_deferred_add_errback(pending(), return_nothing, NULL);

    log_capture();
    weft_deferred_cancel(d);
    weft_deferred_add_callback(d, return_cancelled, NULL);
    weft_deferred_unref(d);
    cr_assert_eq(log_count(""), 0, "whoever held it did not want it any more");
}

Test(unhandled, r41_cancellation_that_somebody_else_asked_for_is_logged)
{
    weft_deferred *inner = pending(), *outer = waiting_for(inner), *d = pending();

    log_capture();
    weft_deferred_unref(done(weft_fail(weft_error_new(&WEFT_SHUTDOWN, "x"))));
    cr_assert_eq(log_count("shutdown: x"), 1);
    weft_deferred_cancel(inner);
    weft_deferred_unref(outer);
    weft_deferred_unref(inner);
    cr_assert_eq(log_count("unhandled error"), 2, "the outer's owner did not ask");
    weft_deferred_callback(d, weft_ok(NULL));
    weft_deferred_cancel(d);
    weft_deferred_add_callback(d, return_cancelled, NULL);
    weft_deferred_unref(d);
    cr_assert_eq(log_count("unhandled error"), 3, "a cancel that came too late asked for nothing");
}

/* ---- as the hook is told ---- */

static void tell(const weft_unhandled *unhandled, void *label)
{
    trace("%s:%s@%s", (const char *)label, weft_error_get_kind(unhandled->error)->name,
          weft_context_get_name(unhandled->context));
    cr_assert_str_eq(strrchr(unhandled->made_at->file, '/') ?: "", "/values.c");
    cr_assert_not_null(unhandled->fired_at);
}

static void hear(void)
{
    weft_deferred_set_unhandled_hook(tell, (void *)"hook");
}

Test(unhandled, r41_hook_is_told_error_places_and_context_at_the_last_unref)
{
    weft_deferred *d = pending();
    weft_context *previous = enter("firer");

    hear();
    weft_deferred_callback(d, broken());
    leave(previous);
    weft_deferred_ref(d);
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "hook:broken@firer");
}

Test(unhandled, r41_context_is_that_of_the_callback_that_failed)
{
    weft_deferred *d = pending();
    weft_context *previous = enter("adder");

    hear();
    weft_deferred_add_callback(d, return_broken, NULL);
    leave(previous);
    previous = enter("other");
    weft_deferred_add_callback(d, note, (void *)"unused");
    weft_deferred_callback(d, weft_int(1));
    leave(previous);
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "hook:broken@adder");
}

Test(unhandled, r41_context_goes_with_an_error_that_moves)
{
    weft_deferred *inner = pending(), *outer = waiting_for(inner), *taker;
    weft_context *previous = enter("where");

    hear();
    weft_deferred_callback(inner, broken());
    leave(previous);
    taker = waiting_for(outer);
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unref(taker);
    cr_assert_str_eq(trace_text(), "hook:broken@where");
}

Test(unhandled, r40_error_that_was_taken_or_replaced_lets_go_of_its_context)
{
    weft_deferred *d = pending(), *taken = pending();
    weft_context *previous = enter("where");

    weft_deferred_callback(d, broken());
    weft_deferred_callback(taken, broken());
    leave(previous);
    weft_deferred_add_errback(d, return_nothing, NULL);
    weft_result_drop(weft_deferred_take_result(taken));
    cr_assert_eq(weft_live_counts_get().contexts, 0);
    weft_deferred_unref(d);
    weft_deferred_unref(taken);
}

Test(unhandled, r39_default_logs_both_places_in_the_context_of_the_failure)
{
    weft_context *previous = enter("where");
    weft_deferred *d = done(broken());

    leave(previous);
    log_capture();
    hear();
    weft_deferred_set_unhandled_hook(NULL, NULL);
    weft_deferred_unref(d);
    cr_assert_eq(log_count("ERROR where unhandled error in the deferred made at tests/support/values.c"), 1);
    cr_assert_eq(log_count("fired at tests/support/values.c"), 1);
    cr_assert_null(weft_context_current());
}

static void drop_another(const weft_unhandled *unhandled, void *arg)
{
    weft_deferred **another = arg, *d = *another;

    *another = NULL;
    trace("%s", weft_error_get_kind(unhandled->error)->name);
    weft_deferred_unref(d);
}

Test(unhandled, hook_may_let_go_of_others)
{
    weft_deferred *another = done(broken());

    weft_deferred_set_unhandled_hook(drop_another, &another);
    weft_deferred_unref(done(weft_fail(weft_error_new(&WEFT_TIMED_OUT, "x"))));
    cr_assert_str_eq(trace_text(), "timed_out broken");
}

/* ---- at the end of a loop ---- */

Test(unhandled, r41_errors_of_the_living_are_reported_at_the_end_of_a_loop_once)
{
    weft_deferred *fine = done(weft_int(1)), *failed = done(broken()), *waits = pending(), *asked = pending();

    hear();
    weft_deferred_cancel(asked);
    weft_deferred_report_unhandled();
    cr_assert_str_eq(trace_text(), "hook:broken@-");
    weft_deferred_report_unhandled();
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unref(failed);
    cr_assert_str_eq(trace_text(), "", "nor a second time when it goes");
    weft_deferred_unref(fine);
    weft_deferred_unref(waits);
    weft_deferred_unref(asked);
}

Test(unhandled, r41_error_that_was_reported_is_not_reported_again_where_it_moves)
{
    weft_deferred *inner = done(broken()), *outer;

    hear();
    weft_deferred_report_unhandled();
    cr_assert_str_eq(trace_text(), "hook:broken@-");
    outer = waiting_for(inner);
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
    cr_assert_str_eq(trace_text(), "");
}

static weft_result fail_again(weft_result result, void *unused)
{
    (void)unused;
    weft_result_drop(result);
    return weft_fail(weft_error_new(&WEFT_TIMED_OUT, "another"));
}

Test(unhandled, r41_new_error_of_a_deferred_whose_old_one_was_reported_is_reported)
{
    weft_deferred *d = done(broken());

    hear();
    weft_deferred_report_unhandled();
    cr_assert_str_eq(trace_text(), "hook:broken@-");
    weft_deferred_add_errback(d, fail_again, NULL);
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "hook:timed_out@-");
}

Test(unhandled, r41_error_that_still_waits_for_its_errback_is_not_reported)
{
    weft_deferred *d = done(broken());

    hear();
    weft_deferred_pause(d);
    weft_deferred_add_errback(d, return_nothing, NULL);
    weft_deferred_report_unhandled();
    weft_deferred_unpause(d);
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "");
}

Test(unhandled, report_survives_a_hook_that_lets_go_of_others)
{
    weft_deferred *a = done(broken()), *b = done(broken());

    weft_deferred_set_unhandled_hook(drop_another, &a);
    weft_deferred_report_unhandled();
    cr_assert_str_eq(trace_text(), "broken broken");
    weft_deferred_unref(b);
}

Test(unhandled, r41_reactor_reports_when_it_is_freed)
{
    weft_reactor *reactor;
    weft_deferred *d = done(broken());

    cr_assert_null(weft_reactor_new(&reactor));
    hear();
    weft_reactor_free(reactor);
    cr_assert_str_eq(trace_text(), "hook:broken@-");
    weft_deferred_unref(d);
}

static weft_result fail_in_its_context(void *unused)
{
    (void)unused;
    WEFT_TRY(weft_yield());
    return broken();
}

static weft_result yield_twice(void *unused)
{
    (void)unused;
    WEFT_TRY(weft_yield());
    return weft_yield();
}

static void tell_fiber(const weft_unhandled *unhandled, void *unused)
{
    (void)unused;
    trace("%s@%s", weft_error_get_kind(unhandled->error)->name, weft_context_get_name(unhandled->context));
}

Test(unhandled, r41_context_of_a_fibers_failure_is_the_fibers)
{
    weft_reactor *reactor;
    weft_context *previous;

    cr_assert_null(weft_reactor_new(&reactor));
    weft_deferred_set_unhandled_hook(tell_fiber, NULL);
    previous = enter("fiber");
    weft_deferred_unref(weft_spawn(fail_in_its_context, NULL));
    leave(previous);
    weft_result_drop(weft_reactor_run_until(reactor, weft_spawn(yield_twice, NULL)));
    cr_assert_str_eq(trace_text(), "broken@fiber");
    weft_reactor_free(reactor);
}

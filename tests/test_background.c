/* Background work: L17, L18, B1 and B2 of Synapse's rules, as weft keeps them. What they mean for log contexts is shown
 * along the source document in test_log_contexts.c. */
#include "tests/support/fibers.h"
#include "tests/support/test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/description.h"

/* The name of the current context. */
static const char *here(void)
{
    return weft_context_get_name(weft_context_current());
}

/* Those of the functions below that leave a context behind leave this one. */
static void go_astray(void)
{
    weft_context_unref(weft_context_set(weft_context_new("astray")));
}

static bool logged_address_of(const void *fn)
{
    char address[64];

    snprintf(address, sizeof address, "at %p was run in the background", fn);
    return log_count(address) == 1;
}

/* ---- in a fiber ---- */

static weft_result wait_and_say_where(void *deferred)
{
    weft_result result;

    trace("began@%s", here());
    result = weft_await(deferred);
    trace("ended@%s", here());
    return result;
}

Test(background, l17_a_function_starts_at_once_in_its_callers_context_and_the_caller_goes_on_in_it)
{
    weft_deferred *gate = pending(), *work;
    weft_context *previous;

    begin();
    previous = enter("GET-1");
    work = weft_run_in_background(wait_and_say_where, weft_deferred_ref(gate));
    trace("caller@%s", here());
    leave(previous);
    weft_deferred_callback(gate, weft_int(5));
    weft_deferred_unref(gate);
    trace("result=%s", told(run_until(work)));
    cr_assert_str_eq(trace_text(), "began@GET-1 caller@GET-1 ended@GET-1 result=5");
    end();
}

static weft_result astray_and_back(void *deferred)
{
    go_astray();
    if (deferred)
        weft_result_drop(weft_await(deferred));
    return broken();
}

Test(background, l17_a_function_that_comes_back_in_another_context_is_named_and_put_right)
{
    weft_deferred *gate = pending();
    weft_context *previous;

    begin();
    log_capture();
    previous = enter("GET-1");
    weft_deferred_unref(weft_run_in_background(astray_and_back, NULL));
    cr_assert_str_eq(here(), "GET-1");
    cr_assert(logged_address_of((const void *)astray_and_back), "%s", log_text());
    cr_assert_eq(log_count("ERROR GET-1 the function at"), 1);
    cr_assert_eq(log_count("came back in the context astray"), 1);
    cr_assert_eq(log_count("ERROR GET-1 unhandled error"), 1, "its failure is GET-1's: %s", log_text());

    log_forget();
    weft_deferred_unref(weft_run_in_background(astray_and_back, weft_deferred_ref(gate)));
    cr_assert_str_eq(here(), "GET-1", "also by one that waits in the wrong context");
    leave(previous);
    weft_deferred_callback(gate, weft_ok(NULL));
    weft_deferred_unref(gate);
    run_all();
    cr_assert(logged_address_of((const void *)astray_and_back), "%s", log_text());
    cr_assert_eq(log_count("ERROR GET-1 unhandled error"), 1, "%s", log_text());
    end();
}

static weft_result fail_at_once(void *unused)
{
    (void)unused;
    return broken();
}

static weft_result fail_later(void *deferred)
{
    weft_result_drop(weft_await(deferred));
    return broken();
}

Test(background, l17_a_failure_at_once_is_a_failed_deferred)
{
    weft_deferred *work;

    begin();
    work = weft_run_in_background(fail_at_once, NULL);
    cr_assert_eq(weft_deferred_get_state(work), WEFT_DONE);
    conclude(work, "work");
    cr_assert_str_eq(trace_text(), "work=!broken");
    end();
}

Test(background, l17_a_failure_that_nobody_takes_is_logged_in_the_context_of_the_call)
{
    weft_deferred *gate = pending();
    weft_context *previous;

    begin();
    log_capture();
    previous = enter("GET-1");
    weft_deferred_unref(weft_run_in_background(fail_later, weft_deferred_ref(gate)));
    leave(previous);
    previous = enter("firer");
    weft_deferred_callback(gate, weft_ok(NULL));
    weft_deferred_unref(gate);
    leave(previous);
    cr_assert_eq(log_count(""), 0);
    run_all();
    cr_assert_eq(log_count("ERROR GET-1 unhandled error"), 1, "%s", log_text());
    cr_assert_eq(log_count(""), 1);
    end();
}

Test(background, l17_a_cancel_of_the_deferred_reaches_what_the_function_waits_for)
{
    weft_deferred *gate, *work;

    begin();
    gate = stoppable(cancel_done, "canceller");
    work = weft_run_in_background(wait_for, weft_deferred_ref(gate));
    weft_deferred_cancel(work);
    trace("result=%s", told(run_until(work)));
    cr_assert_str_eq(trace_text(), "canceller wait=!cancelled result=!cancelled");
    weft_deferred_unref(gate);
    end();
}

static weft_result adopt(void *deferred)
{
    return weft_later(deferred);
}

Test(background, l17_a_function_may_return_a_deferred_to_be_adopted)
{
    begin();
    trace("result=%s", told(run_until(weft_run_in_background(adopt, done(weft_int(3))))));
    cr_assert_str_eq(trace_text(), "result=3");
    end();
}

Test(background, l17_without_a_reactor_there_is_no_fiber_to_run_in)
{
    conclude(weft_run_in_background(fail_at_once, NULL), "work");
    cr_assert_str_eq(trace_text(), "work=!misuse");
}

WEFT_PRESERVE_FN(wait_in_background, wait_and_say_where)

Test(background, l17_a_preserved_function_is_run_in_the_background_whenever_it_is_called)
{
    weft_deferring_fn *given_away = wait_in_background;
    weft_deferred *gate = pending(), *work;
    weft_context *previous;

    begin();
    previous = enter("GET-1");
    work = given_away(weft_deferred_ref(gate));
    trace("caller@%s", here());
    leave(previous);
    weft_deferred_callback(gate, weft_int(5));
    weft_deferred_unref(gate);
    trace("result=%s", told(run_until(work)));
    cr_assert_str_eq(trace_text(), "began@GET-1 caller@GET-1 ended@GET-1 result=5");
    end();
}

/* ---- as a call ---- */

static weft_deferred *give(void *deferred)
{
    trace("called@%s", here());
    return deferred;
}

static weft_deferred *give_astray(void *deferred)
{
    go_astray();
    return deferred;
}

static weft_deferred *give_from_no_context(void *deferred)
{
    weft_context_unref(weft_context_set(NULL));
    return deferred;
}

Test(background, l17_a_function_that_returns_a_deferred_is_called_and_its_deferred_given_on)
{
    weft_deferred *gate = pending();
    weft_context *previous = enter("GET-1");

    cr_assert_eq(weft_call_in_background(give, gate), gate);
    leave(previous);
    cr_assert_str_eq(trace_text(), "called@GET-1");
    weft_deferred_unref(gate);
}

Test(background, l17_a_called_function_without_a_deferred_has_succeeded)
{
    conclude(weft_call_in_background(give, NULL), "work");
    cr_assert_str_eq(trace_text(), "called@- work=nil");
}

Test(background, l17_a_called_function_that_leaves_another_context_behind_is_named_and_put_right)
{
    weft_context *previous;

    log_capture();
    previous = enter("GET-1");
    conclude(weft_call_in_background(give_astray, done(weft_int(1))), "a");
    cr_assert_str_eq(here(), "GET-1");
    cr_assert(logged_address_of((const void *)give_astray), "%s", log_text());
    cr_assert_eq(log_count("ERROR GET-1 the function"), 1);
    conclude(weft_call_in_background(give_from_no_context, done(weft_int(2))), "b");
    cr_assert_str_eq(here(), "GET-1");
    cr_assert(logged_address_of((const void *)give_from_no_context), "%s", log_text());
    leave(previous);

    conclude(weft_call_in_background(give_astray, done(weft_int(3))), "c");
    cr_assert_null(weft_context_current(), "none is put back as well");
    cr_assert_eq(log_count("ERROR - the function"), 1);
    cr_assert_str_eq(trace_text(), "a=1 b=2 c=3");
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

Test(background, l17_a_failure_of_a_called_function_that_nobody_takes_is_logged_in_its_context)
{
    weft_context *previous;

    log_capture();
    previous = enter("GET-1");
    weft_deferred_unref(weft_call_in_background(give, done(broken())));
    leave(previous);
    cr_assert_eq(log_count("ERROR GET-1 unhandled error"), 1, "%s", log_text());
}

/* ---- one of the caller's own ---- */

Test(background, l18_made_yieldable_it_is_the_same_deferred_with_a_callback_more)
{
    weft_deferred *d = noted(pending(), "before");

    cr_assert_eq(weft_make_deferred_yieldable(d), d);
    noted(d, "after");
    weft_deferred_callback(d, weft_int(4));
    conclude(d, "result");
    cr_assert_str_eq(trace_text(), "before=4 after=4 result=4");
}

Test(background, l18_a_completed_one_is_made_yieldable_in_place_and_the_callers_context_stays)
{
    weft_context *previous = enter("GET-1");
    weft_deferred *d = done(weft_int(4));

    cr_assert_eq(weft_make_deferred_yieldable(d), d);
    cr_assert_str_eq(here(), "GET-1");
    conclude(d, "result");
    leave(previous);
    cr_assert_str_eq(trace_text(), "result=4");
}

/* What it is good for: without it the line says "-", as the deferred was failed by a timer of nobody's. */
Test(background, l18_a_failure_from_elsewhere_is_then_the_callers)
{
    for (int yieldable = 0; yieldable < 2; yieldable++) {
        weft_deferred *d = pending();
        weft_context *previous = enter("GET-1");

        if (yieldable)
            weft_make_deferred_yieldable(d);
        leave(previous);
        log_capture();
        log_forget();
        weft_deferred_callback(d, broken());
        weft_deferred_unref(d);
        cr_assert_eq(log_count(yieldable ? "ERROR GET-1 unhandled" : "ERROR - unhandled"), 1, "%s", log_text());
        cr_assert_eq(log_count(""), 1);
    }
}

Test(background, l18_a_failure_that_is_there_already_is_then_the_callers_too)
{
    weft_deferred *d = done(broken());
    weft_context *previous = enter("GET-1");

    log_capture();
    weft_make_deferred_yieldable(d);
    leave(previous);
    weft_deferred_unref(d);
    cr_assert_eq(log_count("ERROR GET-1 unhandled"), 1, "%s", log_text());
}

/* ---- processes ---- */

static weft_description cleanup = WEFT_DESCRIPTION("cleanup");
static weft_description other = WEFT_DESCRIPTION("other");

static void expect_counts(const weft_description *description, uint64_t started, uint64_t in_flight)
{
    weft_description_counts counts = weft_description_get_counts(description);

    cr_assert_eq(counts.started, started, "%s: %lu started", description->name, (unsigned long)counts.started);
    cr_assert_eq(counts.in_flight, in_flight, "%s: %lu in flight", description->name, (unsigned long)counts.in_flight);
}

Test(background, b1_a_process_starts_at_once_in_a_numbered_context_and_the_callers_is_kept)
{
    weft_deferred *gate = pending(), *first, *second, *third;
    weft_context *previous;

    begin();
    previous = enter("GET-1");
    first = weft_run_as_background_process(&cleanup, wait_and_say_where, weft_deferred_ref(gate));
    trace("caller@%s", here());
    leave(previous);
    second = weft_run_as_background_process(&cleanup, wait_and_say_where, done(weft_int(2)));
    third = weft_run_as_background_process(&other, wait_and_say_where, done(weft_int(3)));
    expect_counts(&cleanup, 2, 1);
    expect_counts(&other, 1, 0);
    weft_deferred_callback(gate, weft_int(1));
    weft_deferred_unref(gate);
    trace("results=%s", told(run_until(first)));
    conclude(second, "2");
    conclude(third, "3");
    cr_assert_str_eq(trace_text(),
                     "began@cleanup-1 caller@GET-1 began@cleanup-2 ended@cleanup-2 began@other-1 ended@other-1 "
                     "ended@cleanup-1 results=1 2=2 3=3");
    expect_counts(&cleanup, 2, 0);
    end();
}

static weft_result fetch_rows(void *deferred)
{
    weft_context_charge(weft_context_current(), &(weft_usage){.db_transactions = 1, .db_rows = 5});
    return weft_await(deferred);
}

/* What it uses is its description's while it goes on, and not its caller's. */
Test(background, b1_what_a_process_uses_is_told_by_description_and_not_charged_to_the_caller)
{
    weft_context *previous;
    char *text;

    begin();
    previous = enter("request");
    weft_deferred_unref(weft_run_as_background_process(&cleanup, fetch_rows, pending()));
    cr_assert_eq(weft_context_get_usage(weft_context_current()).db_rows, 0);
    leave(previous);
    text = weft_metrics_write(NULL);
    cr_assert(strstr(text, "\nweft_background_process_starts_total{name=\"cleanup\"} 1\n"), "%s", text);
    cr_assert(strstr(text, "\nweft_background_process_in_flight{name=\"cleanup\"} 1\n"), "%s", text);
    cr_assert(strstr(text, "\nweft_background_process_db_rows_total{name=\"cleanup\"} 5\n"), "%s", text);
    cr_assert(strstr(text, "\nweft_background_process_db_transactions_total{name=\"cleanup\"} 1\n"), "%s", text);
    weft_free(text);
    end();
}

Test(background, b1_the_context_of_a_process_goes_when_it_ends)
{
    weft_deferred *gate = pending();
    weft_context *previous;

    begin();
    previous = enter("GET-1");
    weft_deferred_unref(weft_run_as_background_process(&cleanup, wait_for, weft_deferred_ref(gate)));
    cr_assert_eq(weft_live_counts_get().contexts, 2);
    leave(previous);
    cr_assert_eq(weft_live_counts_get().contexts, 1, "the process does not hold its caller's");
    weft_deferred_callback(gate, weft_ok(NULL));
    weft_deferred_unref(gate);
    run_all();
    cr_assert_eq(weft_live_counts_get().contexts, 0);
    end();
}

/* As often as it takes until that is seen: it is where a window of the books begins. */
static weft_result linger(void *unused)
{
    for (int i = 0; i < 10000 && !weft_context_faults_get().used_after_end; i++)
        weft_result_drop(weft_sleep(0));
    return weft_ok(unused);
}

static weft_result leave_another_running(void *unused)
{
    weft_deferred_unref(weft_run_in_background(linger, unused));
    return weft_ok(NULL);
}

Test(background, b1_what_a_process_leaves_running_is_said_to_use_its_context_after_its_end)
{
    begin();
    log_capture();
    weft_deferred_unref(weft_run_as_background_process(&cleanup, leave_another_running, NULL));
    cr_assert_eq(weft_context_faults_get().used_after_end, 0);
    run_all();
    settle();
    cr_assert_eq(weft_context_faults_get().used_after_end, 1);
    cr_assert_eq(log_count("WARN cleanup-1 the context cleanup-1 is used after its end, by the fiber linger"), 1, "%s",
                 log_text());
    end();
}

static weft_result go_astray_and_fail(void *unused)
{
    (void)unused;
    go_astray();
    return broken();
}

Test(background, b1_a_process_that_comes_back_in_another_context_fails_in_its_own)
{
    begin();
    log_capture();
    weft_deferred_unref(weft_run_as_background_process(&cleanup, go_astray_and_fail, NULL));
    cr_assert(logged_address_of((const void *)go_astray_and_fail), "%s", log_text());
    cr_assert_eq(log_count("ERROR cleanup-1 the background process cleanup failed: broken"), 1, "%s", log_text());
    end();
}

Test(background, b1_what_a_process_adopts_is_still_the_process)
{
    weft_deferred *gate = pending(), *work;

    begin();
    log_capture();
    work = weft_run_as_background_process(&cleanup, adopt, weft_deferred_ref(gate));
    expect_counts(&cleanup, 1, 1);
    weft_deferred_errback(gate, weft_error_new(&BROKEN, "it broke"));
    weft_deferred_unref(gate);
    trace("result=%s", told(run_until(work)));
    cr_assert_str_eq(trace_text(), "result=nil");
    cr_assert_eq(log_count("ERROR cleanup-1 the background process cleanup failed: broken"), 1, "%s", log_text());
    expect_counts(&cleanup, 1, 0);
    end();
}

#ifndef WEFT_TEST_SANITIZED /* which reserve terabytes of addresses for themselves */
static weft_result sleep_long(void *unused)
{
    (void)unused;
    return weft_sleep(1000);
}

Test(background, b1_a_process_for_which_there_is_no_stack_has_failed_as_any_other)
{
    weft_auto(weft_deferred_unref) weft_deferred *never = pending();
    struct rlimit before, none;

    begin();
    log_capture();
    weft_deferred_unref(weft_run_as_background_process(&cleanup, wait_for, weft_deferred_ref(never))); /* has the only one */
    cr_assert_eq(getrlimit(RLIMIT_AS, &before), 0);
    none = (struct rlimit){1, before.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_AS, &none), 0);
    for (int i = 0; i < 1000 && !log_count("ERROR cleanup-"); i++)
        weft_deferred_unref(weft_run_as_background_process(&cleanup, sleep_long, NULL));
    cr_assert_eq(setrlimit(RLIMIT_AS, &before), 0);
    cr_assert_eq(log_count("the background process cleanup failed: os_error"), 1, "%s", log_text());
    cr_assert_eq(weft_description_get_counts(&cleanup).in_flight, weft_live_counts_get().fibers);
    end();
    expect_counts(&cleanup, weft_description_get_counts(&cleanup).started, 0);
}
#endif

Test(background, b1_an_error_is_logged_in_the_context_of_the_process_and_comes_out_as_nothing)
{
    weft_deferred *gate = pending(), *later;

    begin();
    log_capture();
    conclude(weft_run_as_background_process(&cleanup, fail_at_once, NULL), "at_once");
    cr_assert_eq(log_count("ERROR cleanup-1 the background process cleanup failed: broken: it broke"), 1, "%s", log_text());
    later = weft_run_as_background_process(&cleanup, fail_later, weft_deferred_ref(gate));
    weft_deferred_callback(gate, weft_ok(NULL));
    weft_deferred_unref(gate);
    trace("later=%s", told(run_until(later)));
    cr_assert_eq(log_count("ERROR cleanup-2 the background process cleanup failed"), 1, "%s", log_text());
    cr_assert_eq(log_count(""), 2, "%s", log_text());
    cr_assert_str_eq(trace_text(), "at_once=nil later=nil");
    expect_counts(&cleanup, 2, 0);
    end();
}

Test(background, b1_a_cancel_is_logged_as_information_and_comes_out_as_nothing)
{
    weft_deferred *gate, *work;

    begin();
    gate = stoppable(cancel_done, "canceller");
    work = weft_run_as_background_process(&cleanup, wait_for, weft_deferred_ref(gate));
    log_capture();
    weft_deferred_cancel(work);
    trace("result=%s", told(run_until(work)));
    weft_deferred_unref(gate);
    cr_assert_str_eq(trace_text(), "canceller wait=!cancelled result=nil");
    cr_assert_eq(log_count("INFO cleanup-1 the background process cleanup was cancelled: cancelled: "), 1, "%s", log_text());
    cr_assert_eq(log_count(""), 1, "it has not swallowed it: %s", log_text());
    cr_assert_eq(weft_cancellation_stats_get().swallowed, 0);
    expect_counts(&cleanup, 1, 0);
    end();
}

static weft_result start_both(void *arg)
{
    weft_deferred **gates = arg;

    weft_deferred_unref(weft_run_as_background_process(&cleanup, wait_and_say_where, weft_deferred_ref(gates[0])));
    weft_deferred_unref(weft_run_in_background(wait_for, weft_deferred_ref(gates[1])));
    return weft_sleep(1000);
}

static weft_result request_with_deadline(void *gates)
{
    return weft_fail_after(0, start_both, gates);
}

/* The deadline ends the request, and what runs in the background as part of it, but no process. */
Test(background, b1_a_process_is_not_in_the_scopes_of_its_caller)
{
    weft_deferred *gates[2];

    begin();
    gates[0] = stoppable(cancel_done, "of_process");
    gates[1] = stoppable(cancel_done, "of_request");
    trace("%s", told(run_until(weft_spawn(request_with_deadline, gates))));
    settle();
    cr_assert_str_eq(trace_text(), "began@cleanup-1 of_request wait=!deadline !timed_out");
    expect_counts(&cleanup, 1, 1);
    weft_deferred_callback(gates[0], weft_int(6));
    run_all();
    cr_assert_str_eq(trace_text(), "ended@cleanup-1");
    weft_deferred_unref(gates[0]);
    weft_deferred_unref(gates[1]);
    end();
}

static weft_result note_start(void *unused)
{
    (void)unused;
    trace("started");
    return weft_ok(NULL);
}

Test(background, b1_after_the_reactor_nothing_is_started)
{
    begin();
    end();
    conclude(weft_run_as_background_process(&cleanup, note_start, NULL), "process");
    cr_assert_str_eq(trace_text(), "process=!misuse");
    expect_counts(&cleanup, 0, 0);
}

static weft_result wait_for_shutdown(void *deferred)
{
    weft_result result = weft_await(deferred);

    trace("%s", weft_error_is(weft_failed(result), &WEFT_SHUTDOWN) ? "shutdown" : "something else");
    return result;
}

Test(background, b1_those_that_are_left_are_cancelled_at_shutdown)
{
    weft_deferred *gate, *handle;

    begin();
    gate = stoppable(cancel_done, "canceller");
    handle = weft_run_as_background_process(&cleanup, wait_for_shutdown, weft_deferred_ref(gate));
    log_capture();
    end();
    cr_assert_eq(log_count("INFO cleanup-1 the background process cleanup was cancelled: shutdown: "), 1, "%s", log_text());
    conclude(handle, "result");
    cr_assert_str_eq(trace_text(), "canceller shutdown result=nil");
    expect_counts(&cleanup, 1, 0);
    weft_deferred_unref(gate);
}

/* ---- descriptions ---- */

static void add_name(const weft_description *description, void *arg)
{
    (void)arg;
    trace("%s", description->name);
}

/* What another file would have: a name at another address. */
static const char cleanup_again[] = "cleanup";
static weft_description twin = {.name = cleanup_again, .file = __FILE__, .line = __LINE__};

Test(background, b2_a_description_is_known_once_it_was_used)
{
    weft_description_each(add_name, NULL);
    cr_assert_str_eq(trace_text(), "");
    begin();
    for (int i = 0; i < 2; i++) {
        conclude(weft_run_as_background_process(&cleanup, note_start, NULL), "a");
        conclude(weft_run_as_background_process(&other, note_start, NULL), "b");
    }
    (void)trace_text();
    weft_description_each(add_name, NULL);
    cr_assert_str_eq(trace_text(), "other cleanup");
    end();
}

Test(background, b2_two_descriptions_of_one_name_are_counted_as_one_and_that_is_logged_once)
{
    begin();
    log_capture();
    for (int i = 0; i < 2; i++) {
        weft_deferred_unref(weft_run_as_background_process(&cleanup, wait_and_say_where, done(weft_ok(NULL))));
        weft_deferred_unref(weft_run_as_background_process(&twin, wait_and_say_where, done(weft_ok(NULL))));
    }
    cr_assert_str_eq(trace_text(), "began@cleanup-1 ended@cleanup-1 began@cleanup-2 ended@cleanup-2 "
                                   "began@cleanup-3 ended@cleanup-3 began@cleanup-4 ended@cleanup-4");
    cr_assert_eq(log_count("ERROR GET-1"), 0);
    cr_assert_eq(log_count("misuse: the description cleanup at tests/test_background.c"), 1, "%s", log_text());
    cr_assert_eq(log_count(""), 1);
    expect_counts(&cleanup, 4, 0);
    expect_counts(&twin, 4, 0);
    weft_description_each(add_name, NULL);
    cr_assert_str_eq(trace_text(), "cleanup");
    end();
}

/* Whether `name` may be what a description is made of. */
static bool compiles(const char *name)
{
    char command[512];

    snprintf(command, sizeof command,
             "printf '%%s\\n' '#include <weft/weft.h>' 'extern const char text[];' 'weft_description made = "
             "WEFT_DESCRIPTION(%s);' | gcc -Iinclude -Wall -Wextra -Werror -fsyntax-only -x c - 2>/dev/null",
             name);
    return system(command) == 0;
}

Test(background, b2_a_description_is_made_of_a_literal_and_of_nothing_else)
{
    cr_assert(compiles("\"cleanup\""));
    cr_assert_not(compiles("text"));
    cr_assert_not(compiles("getenv(\"NAME\")"));
    cr_assert_not(compiles("NULL"));
}

#ifndef WEFT_TEST_SANITIZED /* which do not let several threads fork */
enum { DESCRIPTIONS = 4000 };
static bool over;

/* Each looks through those that are there: the lock is held nearly always. */
static void *use_many(void *unused)
{
    static weft_description many[DESCRIPTIONS];
    static char names[DESCRIPTIONS][16];

    for (size_t i = 0; i < DESCRIPTIONS && !__atomic_load_n(&over, __ATOMIC_RELAXED); i++) {
        snprintf(names[i], sizeof names[i], "many %zu", i);
        many[i] = (weft_description){.name = names[i], .file = __FILE__, .line = __LINE__};
        weft__description_counted(&many[i]);
    }
    return unused;
}

Test(background, b2_a_child_uses_descriptions_whatever_other_threads_were_doing, .timeout = 60)
{
    pthread_t user;

    pthread_create(&user, NULL, use_many, NULL);
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        int status;

        if (!child) {
            alarm(10); /* the default for it ends the process */
            weft__description_counted(&cleanup);
            _exit(0);
        }
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    pthread_join(user, NULL);
}
#endif

WEFT_BACKGROUND_PROCESS(wait_as_sweeper, "sweeper", wait_and_say_where)

Test(background, b2_a_function_can_be_made_a_process_where_it_is_defined)
{
    weft_deferring_fn *given_away = wait_as_sweeper;

    begin();
    conclude(given_away(done(weft_int(1))), "1");
    conclude(wait_as_sweeper(done(weft_int(2))), "2");
    cr_assert_str_eq(trace_text(), "began@sweeper-1 ended@sweeper-1 1=1 began@sweeper-2 ended@sweeper-2 2=2");
    end();
}

static weft_result do_nothing(void *unused)
{
    (void)unused;
    return weft_ok(NULL);
}

enum { PROCESSES = 1000 };

static void *run_many(void *unused)
{
    begin();
    for (int i = 0; i < PROCESSES; i++)
        weft_deferred_unref(weft_run_as_background_process(&cleanup, do_nothing, unused));
    end();
    return NULL;
}

Test(background, b1_processes_of_all_threads_are_counted_together)
{
    pthread_t threads[2];

    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, run_many, NULL), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    expect_counts(&cleanup, 2 * PROCESSES, 0);
}

/* Scopes: what a deadline or a cancel interrupts, whose it is to take, and what becomes of scopes that are not left as they
 * should be. Time is a test clock's. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <math.h>
#include <string.h>

static weft_reactor *reactor;
static weft_test_clock *test_time;

static void begin(void)
{
    cr_assert_null(weft_reactor_new(&reactor));
    test_time = weft_test_clock_new();
    weft_clock_set(weft_test_clock_get_clock(test_time));
}

static void settle(void)
{
    while (weft_run_ready())
        ;
}

static void pass(double seconds)
{
    cr_assert(weft_test_clock_advance(test_time, seconds));
    settle();
}

static void end(void)
{
    cr_assert_eq(weft_live_counts_get().fibers, 0);
    cr_assert_eq(weft_live_counts_get().scopes, 0);
    cr_assert_eq(weft_test_clock_count_timers(test_time), 0);
    reactor = weft_reactor_free(reactor);
    test_time = weft_test_clock_free(test_time);
}

/* Runs a fiber as far as it goes, and traces "label=result" when it ends. */
static weft_deferred *run(weft_fiber_fn *fn, void *arg)
{
    return weft_spawn(fn, arg);
}

static void finish(weft_deferred *fiber, const char *label)
{
    settle();
    cr_assert_eq(weft_deferred_get_state(fiber), WEFT_DONE, "%s has not ended", label);
    conclude(fiber, label);
}

static void run_to_its_end(weft_fiber_fn *fn, void *arg, const char *label)
{
    finish(run(fn, arg), label);
}

static weft_scope_options within(double seconds)
{
    return (weft_scope_options){.timeout = seconds};
}

static weft_result said(weft_result result, const char *label)
{
    return note(result, (void *)label);
}

/* Waits for what it takes, and holds it meanwhile: what nobody could fire would end at once. */
static weft_result await_held(weft_deferred *deferred)
{
    weft_result result = weft_await(weft_deferred_ref(deferred));

    weft_deferred_unref(deferred);
    return result;
}

/* Waits for ever, traces "label=result", and returns that. */
static weft_result wait_for_ever(const char *label)
{
    return said(await_held(pending()), label);
}

static weft_result wait_body(void *label)
{
    return wait_for_ever(label);
}

static weft_deferred *start_waiter(const char *label)
{
    return weft_spawn(wait_body, (void *)label);
}

static weft_result sleep_body(void *seconds)
{
    return said(weft_sleep(*(double *)seconds), "slept");
}

static weft_result fail_body(void *unused)
{
    (void)unused;
    return broken();
}

static double one = 1;

/* ---- a function with a deadline ---- */

static weft_result fail_after_two(void *fn)
{
    return weft_fail_after(2, (weft_fiber_fn *)fn, &one);
}

Test(scope, with_a_deadline_gives_the_result_of_what_ends_in_time)
{
    weft_deferred *d;

    begin();
    d = run(fail_after_two, (void *)sleep_body);
    pass(1);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "slept=nil d=nil");
    run_to_its_end(fail_after_two, (void *)fail_body, "failed");
    cr_assert_str_eq(trace_text(), "failed=!broken");
    end();
}

static weft_result time_out(void *unused)
{
    (void)unused;
    return weft_fail_after(2, wait_body, (void *)"w");
}

Test(scope, whose_deadline_passes_is_timed_out_with_the_deadline_as_the_cause)
{
    weft_deferred *d;
    weft_result result;
    weft_error *error;

    begin();
    d = run(time_out, NULL);
    pass(1.999);
    cr_assert_str_eq(trace_text(), "");
    pass(0.001);
    cr_assert_str_eq(trace_text(), "w=!deadline");
    result = weft_deferred_take_result(d);
    error = weft_failed(result);
    cr_assert(weft_error_is(error, &WEFT_TIMED_OUT));
    cr_assert_str_eq(weft_error_get_message(error), "it had not ended within 2 s");
    cr_assert_str_eq(weft_error_get_place(error)->function, "time_out");
    cr_assert(weft_error_is(weft_error_get_cause(error), &WEFT_DEADLINE));
    weft_result_drop(result);
    weft_deferred_unref(d);
    end();
}

static weft_result move_on(void *unused)
{
    (void)unused;
    return weft_move_on_after(2, wait_body, (void *)"w");
}

Test(scope, that_moves_on_is_done_when_its_deadline_passes)
{
    weft_deferred *d;

    begin();
    d = run(move_on, NULL);
    pass(2);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "w=!deadline d=nil");
    end();
}

static weft_result fail_after_seconds(void *seconds)
{
    return weft_fail_after(*(double *)seconds, wait_body, (void *)"w");
}

static weft_result enter_with_timeout(void *seconds)
{
    weft_scope *scope = weft_scope_enter(within(*(double *)seconds));

    return weft_scope_leave(&scope, wait_for_ever("e"));
}

Test(scope, without_any_time_is_interrupted_at_its_first_wait)
{
    double times[] = {0, -1, -INFINITY, NAN, 1e-12};

    begin();
    for (size_t i = 0; i < 5; i++) {
        run_to_its_end(fail_after_seconds, &times[i], "d");
        cr_assert_str_eq(trace_text(), "w=!deadline d=!timed_out", "%g s", times[i]);
    }
    for (size_t i = 1; i < 5; i++) {
        run_to_its_end(enter_with_timeout, &times[i], "d");
        cr_assert_str_eq(trace_text(), "e=!deadline d=!timed_out", "%g s", times[i]);
    }
    end();
}

Test(scope, with_all_the_time_there_is_never_passes)
{
    double times[] = {INFINITY, 1e300};

    begin();
    for (size_t i = 0; i < 2; i++) {
        weft_deferred *d = run(fail_after_seconds, &times[i]);

        pass(1e9);
        cr_assert_eq(weft_test_clock_count_timers(test_time), 0);
        weft_deferred_cancel(d);
        finish(d, "d");
        cr_assert_str_eq(trace_text(), "w=!cancelled d=!cancelled");
    }
    end();
}

static weft_result return_pending(void *deferred)
{
    return weft_later(weft_deferred_ref(deferred));
}

static weft_result fail_after_of_later(void *deferred)
{
    return weft_fail_after(2, return_pending, deferred);
}

Test(scope, waits_inside_for_a_deferred_that_its_function_returns)
{
    weft_deferred *inner = stoppable(cancel_done, "stopped"), *d;

    begin();
    d = run(fail_after_of_later, inner);
    pass(2);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "stopped d=!timed_out");
    weft_deferred_unref(inner);
    end();
}

struct two_ends {
    double timeout;
    int64_t deadline;
};

static weft_result enter_with_both(void *arg)
{
    const struct two_ends *ends = arg;
    weft_scope *scope = weft_scope_enter((weft_scope_options){.timeout = ends->timeout, .deadline = ends->deadline});
    weft_result result = wait_for_ever("w");

    trace("%lld", (long long)(weft_clock_now(weft_clock_current()) / 1000000000));
    return weft_scope_leave(&scope, result);
}

Test(scope, with_a_timeout_and_a_deadline_ends_at_the_earlier)
{
    /* It is 100 s. */
    struct two_ends ends[] = {{2, 105000000000}, {5, 102000000000}, {0, 102000000000}, {0, -7}, {5, 3}, {-1, INT64_MAX}};

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        weft_deferred *d;

        begin();
        pass(100);
        d = run(enter_with_both, &ends[i]);
        cr_assert_eq(weft_deferred_get_state(d), i < 3 ? WEFT_PENDING : WEFT_DONE);
        pass(2);
        finish(d, "d");
        cr_assert_str_eq(trace_text(), i < 3 ? "w=!deadline 102 d=!timed_out" : "w=!deadline 100 d=!timed_out");
        end();
    }
}

/* A clock whose turn began at 0, three seconds ago. */
static int64_t three_seconds(weft_clock *clock)
{
    (void)clock;
    return 3000000000;
}

static void ignore_timer(weft_clock *clock, weft_timer *timer)
{
    (void)clock, (void)timer;
}

static weft_result enter_late_in_the_turn(void *unused)
{
    weft_clock late = {.now = three_seconds, .start = ignore_timer, .stop = ignore_timer}, *clock = weft_clock_set(&late);
    weft_scope *scope = weft_scope_enter(within(2));

    (void)unused;
    trace("%lld", (long long)weft_scope_deadline() / 1000000000);
    weft_scope_close(scope);
    weft_clock_set(clock);
    return weft_ok(NULL);
}

Test(scope, counts_its_timeout_from_the_moment_it_is_entered)
{
    begin();
    run_to_its_end(enter_late_in_the_turn, NULL, "d");
    cr_assert_str_eq(trace_text(), "5 d=nil", "what the turn has taken so far is no part of it");
    end();
}

static weft_result enter_twice_for_two(void *unused)
{
    weft_scope *outer = weft_scope_enter(within(2)), *inner = weft_scope_enter(within(2));
    weft_result result;

    (void)unused;
    result = said(weft_scope_leave(&inner, wait_for_ever("w")), "inner");
    return weft_scope_leave(&outer, result);
}

Test(scope, whose_deadline_is_that_of_the_one_around_it_leaves_the_end_to_that)
{
    weft_deferred *d;

    begin();
    d = run(enter_twice_for_two, NULL);
    pass(2);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "w=!deadline inner=!deadline d=!timed_out");
    end();
}

static weft_result value_at_the_deadline(void *deferred)
{
    weft_scope *scope = weft_scope_enter(within(2));
    weft_result result = said(weft_await(weft_deferred_ref(deferred)), "value");

    weft_result_drop(result);
    return weft_scope_leave(&scope, wait_for_ever("next"));
}

Test(scope, whose_deadline_passes_after_a_value_came_in_the_same_turn_lets_the_value_win)
{
    weft_deferred *value = stoppable(cancel_done, "never"), *d;

    begin();
    d = run(value_at_the_deadline, value);
    weft_test_clock_stall(test_time, 2);
    weft_deferred_callback(value, weft_int(5));
    pass(0);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "value=5 next=!deadline d=!timed_out");
    weft_deferred_unref(value);
    end();
}

/* ---- cancelling ---- */

static weft_scope *outer, *inner; /* references, for who cancels */

static weft_scope *keep(weft_scope **kept, weft_scope *scope)
{
    *kept = weft_scope_ref(scope);
    return scope;
}

static void let_go_of_scopes(void)
{
    outer = weft_scope_unref(outer);
    inner = weft_scope_unref(inner);
}

static void drop_wait(const char *label)
{
    weft_result_drop(wait_for_ever(label));
}

static weft_result wait_three_times(void *unused)
{
    weft_scope *scope = keep(&outer, weft_scope_enter(within(0)));
    weft_result result;

    (void)unused;
    drop_wait("a");
    weft_result_drop(said(weft_yield(), "yield"));
    result = weft_scope_leave(&scope, wait_for_ever("b"));
    cr_assert_null(scope);
    weft_result_drop(said(result, "left"));
    return wait_for_ever("after");
}

Test(scope_cancel, interrupts_every_wait_until_it_is_left_and_is_done_then)
{
    weft_deferred *d;

    begin();
    d = run(wait_three_times, NULL);
    weft_scope_cancel(outer, NULL);
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled yield=!cancelled b=!cancelled left=nil");
    weft_deferred_cancel(d);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "after=!cancelled d=!cancelled");
    let_go_of_scopes();
    end();
}

static weft_result cancel_before_the_first_wait(void *unused)
{
    weft_scope *scope = weft_scope_enter(within(0));

    (void)unused;
    weft_scope_cancel(scope, weft_error_new(&WEFT_CLIENT_GONE, "gone"));
    weft_scope_cancel(scope, weft_error_new(&WEFT_SHUTDOWN, "the first counts"));
    trace("%s", weft_error_get_message(weft_scope_get_cancellation(scope)));
    return weft_scope_leave(&scope, wait_for_ever("w"));
}

Test(scope_cancel, by_the_fiber_itself_comes_out_of_its_next_wait)
{
    begin();
    run_to_its_end(cancel_before_the_first_wait, NULL, "d");
    cr_assert_str_eq(trace_text(), "gone w=!client_gone d=nil");
    end();
}

static weft_result two_scopes(void *unused)
{
    weft_scope *around = keep(&outer, weft_scope_enter(within(0))), *inside = keep(&inner, weft_scope_enter(within(0)));
    weft_result result;

    (void)unused;
    result = said(weft_scope_leave(&inside, wait_for_ever("w")), "inner");
    weft_result_drop(result);
    result = said(weft_scope_leave(&around, wait_for_ever("v")), "outer");
    weft_result_drop(result);
    return weft_ok(NULL);
}

Test(scope_cancel, of_an_inner_one_ends_with_that)
{
    weft_deferred *d;

    begin();
    d = run(two_scopes, NULL);
    weft_scope_cancel(inner, NULL);
    settle();
    cr_assert_str_eq(trace_text(), "w=!cancelled inner=nil");
    weft_scope_cancel(outer, weft_error_new(&WEFT_SHUTDOWN, "o"));
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "v=!shutdown outer=nil d=nil");
    let_go_of_scopes();
    end();
}

Test(scope_cancel, of_an_outer_one_passes_the_inner_one)
{
    weft_deferred *d;

    begin();
    d = run(two_scopes, NULL);
    weft_scope_cancel(outer, weft_error_new(&WEFT_SHUTDOWN, "o"));
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "w=!shutdown inner=!shutdown v=!shutdown outer=nil d=nil");
    let_go_of_scopes();
    end();
}

Test(scope_cancel, of_both_in_either_order_is_that_of_the_outer_one)
{
    for (int order = 0; order < 2; order++) {
        weft_deferred *d;

        begin();
        d = run(two_scopes, NULL);
        weft_scope_cancel(order ? outer : inner, weft_error_new(order ? &WEFT_SHUTDOWN : &WEFT_CLIENT_GONE, "1"));
        weft_scope_cancel(order ? inner : outer, weft_error_new(order ? &WEFT_CLIENT_GONE : &WEFT_SHUTDOWN, "2"));
        cr_assert(weft_error_is(weft_scope_get_cancellation(inner), &WEFT_SHUTDOWN));
        finish(d, "d");
        cr_assert_str_eq(trace_text(), "w=!shutdown inner=!shutdown v=!shutdown outer=nil d=nil", "order %d", order);
        let_go_of_scopes();
        end();
    }
}

static weft_result own_cancel_inside(void *unused)
{
    weft_scope *scope = keep(&outer, weft_scope_enter(within(0)));

    (void)unused;
    return weft_scope_leave(&scope, wait_for_ever("w"));
}

Test(scope_cancel, is_not_what_a_cancel_of_the_fiber_itself_is)
{
    weft_deferred *d;

    begin();
    d = run(own_cancel_inside, NULL);
    weft_deferred_cancel(d);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "w=!cancelled d=!cancelled", "it passes the scope, which is not cancelled");
    let_go_of_scopes();
    end();
}

/* A wait that somebody else cancels inside a cancelled scope. */
static weft_deferred *shared;

static weft_result foreign_cancellation_inside(void *unused)
{
    weft_scope *scope = keep(&outer, weft_scope_enter(within(0)));
    weft_result result = said(weft_await(weft_deferred_ref(shared)), "w");

    (void)unused;
    return weft_scope_leave(&scope, result);
}

Test(scope_cancel, of_another_is_not_taken_for_its_own)
{
    weft_deferred *d;

    begin();
    shared = pending();
    d = run(foreign_cancellation_inside, NULL);
    weft_deferred_callback(shared, weft_fail(weft_error_new(&WEFT_SHUTDOWN, "another's")));
    weft_scope_cancel(outer, NULL);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "w=!shutdown d=!shutdown", "it was delivered before");
    weft_deferred_unref(shared);
    let_go_of_scopes();
    end();
}

static weft_cancel_outcome fail_with_another_cancellation(weft_deferred *deferred, void *unused)
{
    (void)unused;
    weft_deferred_callback(deferred, weft_fail(weft_error_new(&WEFT_CANCELLED, "the canceller's own")));
    return WEFT_CANCEL_DONE;
}

Test(scope_cancel, that_a_canceller_translates_into_another_cancellation_is_the_scopes_all_the_same)
{
    weft_deferred *d;

    begin();
    shared = stoppable(fail_with_another_cancellation, NULL);
    d = run(foreign_cancellation_inside, NULL);
    weft_scope_cancel(outer, weft_error_new(&WEFT_CLIENT_GONE, "gone"));
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "w=!client_gone d=nil");
    weft_deferred_unref(shared);
    let_go_of_scopes();
    end();
}

Test(scope_cancel, whose_canceller_brings_a_value_or_another_failure_leaves_that)
{
    weft_cancel_fn *cancellers[] = {fire_value, fire_error};
    const char *expected[] = {"w=9 d=9", "w=!broken d=!broken"};

    begin();
    for (int i = 0; i < 2; i++) {
        weft_deferred *d;

        shared = stoppable(cancellers[i], NULL);
        d = run(foreign_cancellation_inside, NULL);
        weft_scope_cancel(outer, NULL);
        finish(d, "d");
        cr_assert_str_eq(trace_text(), expected[i]);
        weft_deferred_unref(shared);
        let_go_of_scopes();
    }
    end();
}

static weft_result wait_until_two(void *unused)
{
    weft_scope *scope = weft_scope_enter(within(2));
    weft_result result = said(weft_await(weft_deferred_ref(shared)), "w");

    (void)unused;
    return weft_scope_leave(&scope, result);
}

Test(scope_cancel, waits_for_work_that_takes_its_time)
{
    const char *expected[] = {"w=4 d=4", "w=!deadline d=!timed_out", "w=!broken d=!broken"};

    begin();
    for (int i = 0; i < 3; i++) {
        weft_deferred *d;

        shared = stoppable(cancel_later, "asked");
        d = run(wait_until_two, NULL);
        pass(2);
        pass(2);
        cr_assert_str_eq(trace_text(), "asked");
        cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
        weft_deferred_callback(shared, i == 0   ? weft_int(4)
                                       : i == 1 ? weft_fail(weft_error_ref(weft_deferred_get_cancellation(shared)))
                                                : broken());
        finish(d, "d");
        cr_assert_str_eq(trace_text(), expected[i]);
        weft_deferred_unref(shared);
    }
    end();
}

/* A cancel of the fiber that comes while the scope's still takes its time is for the next wait. */
static weft_result cancelled_twice(void *unused)
{
    weft_scope *scope = keep(&outer, weft_scope_enter(within(0)));
    weft_result result = said(weft_await(weft_deferred_ref(shared)), "w");

    (void)unused;
    weft_result_drop(said(weft_scope_leave(&scope, result), "left"));
    return wait_for_ever("next");
}

Test(scope_cancel, then_one_of_the_fiber_interrupt_one_wait_each)
{
    weft_deferred *d;

    begin();
    shared = stoppable(cancel_later, "asked");
    d = run(cancelled_twice, NULL);
    weft_scope_cancel(outer, NULL);
    weft_deferred_cancel_with(d, weft_error_new(&WEFT_CLIENT_GONE, "gone"));
    weft_deferred_callback(shared, weft_fail(weft_error_new(&WEFT_CANCELLED, "in its own words")));
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "asked w=!cancelled left=nil next=!client_gone d=!client_gone");
    weft_deferred_unref(shared);
    let_go_of_scopes();
    end();
}

/* ---- gathers ---- */

static weft_result gather_inside(void *first_error)
{
    weft_scope *scope = keep(&outer, weft_scope_enter(within(0)));
    weft_deferred *members[2] = {start_waiter("m"), start_waiter("n")};
    weft_deferred *all = weft_gather_results(members, 2, (first_error ? WEFT_GATHER_FIRST_ERROR : 0) | WEFT_GATHER_CONSUME);
    weft_result result = said(weft_await(all), "all");

    return weft_scope_leave(&scope, result);
}

Test(scope_cancel, comes_out_of_a_gather_as_its_own)
{
    begin();
    for (intptr_t i = 0; i < 2; i++) {
        weft_deferred *d = run(gather_inside, (void *)i);

        weft_scope_cancel(outer, weft_error_new(&WEFT_CLIENT_GONE, "gone"));
        finish(d, "d");
        cr_assert_str_eq(trace_text(), "n=!client_gone m=!client_gone all=!client_gone d=nil");
        let_go_of_scopes();
    }
    end();
}

static weft_result wrapped_inside(void *unused)
{
    weft_scope *scope = weft_scope_enter(within(0));
    weft_error *cancellation;

    (void)unused;
    weft_scope_cancel(scope, NULL);
    cancellation = weft_scope_get_cancellation(scope);
    return weft_scope_leave(&scope, weft_fail(weft_error_caused_by(weft_error_new(&WEFT_FIRST_ERROR, "a member failed"),
                                                                   weft_error_ref(cancellation))));
}

Test(scope_cancel, is_known_inside_a_wrapper)
{
    begin();
    run_to_its_end(wrapped_inside, NULL, "d");
    cr_assert_str_eq(trace_text(), "d=nil");
    end();
}

/* ---- fibers inside ---- */

static weft_result leave_children_behind(void *label)
{
    weft_scope *scope = keep(&outer, weft_scope_enter(within(2)));

    weft_deferred_unref(start_waiter(label));
    weft_deferred_unref(start_waiter(label));
    return weft_scope_leave(&scope, weft_ok(NULL));
}

Test(scope, holds_for_fibers_that_outlive_its_owner_and_their_end_is_no_news)
{
    begin();
    log_capture();
    run_to_its_end(leave_children_behind, (void *)"child", "d");
    cr_assert_str_eq(trace_text(), "d=nil");
    cr_assert_eq(weft_live_counts_get().fibers, 2);
    pass(2);
    cr_assert_str_eq(trace_text(), "child=!deadline child=!deadline");
    cr_assert_str_eq(log_text(), "");
    let_go_of_scopes();
    end();
}

static weft_result spawn_soon_and_cancel(void *before)
{
    weft_scope *scope = weft_scope_enter(within(0));
    weft_deferred *child;

    if (before)
        weft_scope_cancel(scope, NULL);
    child = weft_spawn_soon(wait_body, (void *)"never");
    if (!before)
        weft_scope_cancel(scope, NULL);
    return weft_scope_leave(&scope, said(weft_await(child), "child"));
}

Test(scope_cancel, before_a_fiber_starts_soon_keeps_it_from_beginning)
{
    begin();
    run_to_its_end(spawn_soon_and_cancel, NULL, "d");
    run_to_its_end(spawn_soon_and_cancel, &one, "d");
    cr_assert_str_eq(trace_text(), "child=!cancelled d=nil child=!cancelled d=nil");
    end();
}

static weft_result start_from_a_callback(weft_result result, void *label)
{
    cr_assert_null(weft_scope_current());
    weft_deferred_unref(start_waiter(label));
    return result;
}

static weft_cancel_outcome start_from_a_canceller(weft_deferred *deferred, void *label)
{
    (void)deferred;
    cr_assert_null(weft_scope_current(), "it is no part of the fiber that cancels");
    cr_assert_not(weft_in_fiber());
    weft_deferred_unref(start_waiter(label));
    return WEFT_CANCEL_DONE;
}

static weft_result fire_and_cancel(void *unused)
{
    weft_scope *scope = weft_scope_enter(within(0));
    weft_deferred *d = weft_deferred_add_both(pending(), start_from_a_callback, (void *)"callback");
    weft_deferred *e = stoppable(start_from_a_canceller, "canceller");

    (void)unused;
    weft_deferred_callback(d, weft_ok(NULL));
    weft_deferred_cancel(e);
    weft_deferred_unref(d);
    weft_deferred_unref(e);
    weft_scope_cancel(scope, NULL);
    return weft_scope_leave(&scope, weft_ok(NULL));
}

Test(scope, is_not_inherited_by_what_callbacks_and_cancellers_start)
{
    begin();
    run_to_its_end(fire_and_cancel, NULL, "d");
    cr_assert_str_eq(trace_text(), "d=nil");
    cr_assert_eq(weft_live_counts_get().fibers, 2, "they wait on");
    reactor = weft_reactor_free(reactor);
    trace_text();
    test_time = weft_test_clock_free(test_time);
}

/* ---- cancellers that do more ---- */

static weft_cancel_outcome cancel_the_outer(weft_deferred *deferred, void *unused)
{
    (void)deferred, (void)unused;
    weft_scope_cancel(inner, NULL);
    weft_scope_cancel(outer, weft_error_new(&WEFT_SHUTDOWN, "from a canceller"));
    let_go_of_scopes();
    weft_deferred_unref(weft_spawn(return_pending, shared));
    return WEFT_CANCEL_DONE;
}

static weft_result wait_for_shared(void *deferred)
{
    return said(await_held(deferred), "s");
}

static weft_result two_scopes_of_several(void *unused)
{
    weft_scope *around = keep(&outer, weft_scope_enter(within(0))), *inside;
    weft_result result;

    (void)unused;
    weft_deferred_unref(start_waiter("first"));
    inside = keep(&inner, weft_scope_enter(within(0)));
    weft_deferred_unref(weft_spawn(wait_for_shared, stoppable(cancel_the_outer, NULL)));
    result = said(weft_scope_leave(&inside, wait_for_ever("w")), "inner");
    return weft_scope_leave(&around, result);
}

Test(scope_cancel, whose_canceller_cancels_starts_and_lets_go_reaches_all)
{
    weft_deferred *d;

    begin();
    shared = pending();
    d = run(two_scopes_of_several, NULL);
    weft_scope_cancel(inner, NULL);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "first=!shutdown s=!shutdown w=!shutdown inner=!shutdown d=nil");
    weft_deferred_callback(shared, weft_ok(NULL));
    settle();
    weft_deferred_unref(shared);
    end();
}

static weft_cancel_outcome adopt(weft_deferred *deferred, void *unused)
{
    (void)unused;
    weft_deferred_unref(waiting_for(deferred)); /* which lets go of it again */
    shared = waiting_for(deferred);
    return WEFT_CANCEL_LATER;
}

static weft_result wait_for_what_a_canceller_adopts(void *unused)
{
    weft_scope *scope = weft_scope_enter(within(0));
    weft_deferred *adopted = stoppable(adopt, NULL);

    (void)unused;
    weft_scope_cancel(scope, NULL);
    weft_result_drop(said(weft_await(weft_deferred_ref(adopted)), "w"));
    weft_deferred_callback(adopted, weft_ok(NULL));
    weft_deferred_unref(adopted);
    weft_deferred_unref(shared);
    return weft_scope_leave(&scope, weft_ok(NULL));
}

Test(scope_cancel, whose_canceller_gives_away_what_is_waited_for_is_a_misuse_and_no_crash)
{
    begin();
    log_capture();
    run_to_its_end(wait_for_what_a_canceller_adopts, NULL, "d");
    cr_assert(strstr(trace_text(), "w=!misuse"));
    end();
}

/* ---- leaving wrongly ---- */

static weft_result leave_the_outer_first(void *unused)
{
    weft_scope *around = weft_scope_enter(within(3)), *inside = weft_scope_enter(within(2));
    weft_result result;

    (void)unused, (void)inside;
    result = weft_scope_leave(&around, weft_int(1));
    cr_assert_null(weft_scope_current());
    return result;
}

static weft_result never_leave(void *unused)
{
    (void)unused;
    cr_assert_not_null(weft_scope_enter(within(3)));
    cr_assert_not_null(weft_shield_enter((weft_shield_options){0}));
    return weft_int(2);
}

Test(scope, that_is_not_left_is_left_with_the_one_around_it_or_by_the_end_and_logged)
{
    begin();
    log_capture();
    run_to_its_end(leave_the_outer_first, NULL, "d");
    cr_assert_eq(log_count("was not left by the fiber"), 1);
    run_to_its_end(never_leave, NULL, "e");
    cr_assert_eq(log_count("was not left by the fiber"), 3);
    cr_assert_str_eq(trace_text(), "d=1 e=2");
    end();
}

static weft_scope *anothers;

static weft_result leave_anothers(void *unused)
{
    weft_scope *scope = anothers, *again;
    weft_result result = weft_scope_leave(&scope, weft_int(3));

    (void)unused;
    weft_scope_close(anothers);
    scope = weft_scope_enter(within(0));
    again = weft_scope_ref(scope);
    result = weft_scope_leave(&scope, result);
    result = weft_scope_leave(&scope, result); /* NULL by now */
    anothers = again;
    result = weft_scope_leave(&again, result);
    weft_scope_close(anothers);
    weft_scope_unref(anothers);
    return result;
}

static weft_result hold_a_scope(void *unused)
{
    weft_scope *scope = anothers = weft_scope_enter(within(0));

    (void)unused;
    return weft_scope_leave(&scope, wait_for_ever("w"));
}

static weft_result leave_in_a_callback(weft_result result, void *unused)
{
    weft_scope *scope = anothers;

    (void)unused;
    return weft_scope_leave(&scope, result);
}

Test(scope, that_is_left_by_another_again_or_in_a_callback_stays_as_it_is)
{
    weft_deferred *d, *fired;

    begin();
    log_capture();
    d = run(hold_a_scope, NULL);
    run_to_its_end(leave_anothers, NULL, "e");
    cr_assert_eq(log_count("is left by another than the fiber that entered it"), 2);
    cr_assert_eq(log_count("is left again"), 1, "closing twice is fine");
    weft_deferred_cancel(d);
    finish(d, "d");
    d = run(hold_a_scope, NULL);
    fired = weft_deferred_add_both(pending(), leave_in_a_callback, NULL);
    weft_deferred_callback(fired, weft_int(4));
    conclude(fired, "f");
    cr_assert_eq(log_count("is left by another"), 3);
    weft_deferred_cancel(d);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "e=3 w=!cancelled d=!cancelled f=4 w=!cancelled d=!cancelled");
    end();
}

static weft_result leave_early(void *late)
{
    weft_auto(weft_scope_close) weft_scope *scope = weft_scope_enter(within(2));

    WEFT_TRY(await_held(pending()));
    (void)late;
    return weft_scope_leave(&scope, weft_ok(NULL));
}

static weft_result leave_in_time(void *unused)
{
    weft_auto(weft_scope_close) weft_scope *scope = weft_scope_enter(within(2));

    (void)unused;
    WEFT_TRY(weft_sleep(1));
    return weft_scope_leave(&scope, weft_int(1));
}

Test(scope, may_be_left_by_returning_early)
{
    weft_deferred *d, *e;

    begin();
    log_capture();
    d = run(leave_early, NULL);
    e = run(leave_in_time, NULL);
    pass(2);
    finish(d, "d");
    finish(e, "e");
    cr_assert_str_eq(trace_text(), "d=!deadline e=1");
    cr_assert_str_eq(log_text(), "");
    end();
}

Test(scope, outside_a_fiber_is_a_misuse)
{
    weft_scope *scope;

    begin();
    log_capture();
    cr_assert_null(weft_scope_enter(within(1)));
    cr_assert_null(weft_shield_enter((weft_shield_options){0}));
    cr_assert_eq(log_count("misuse: a scope is entered outside a fiber"), 2);
    trace("%s", told(weft_fail_after(1, fail_body, NULL)));
    trace("%s", told(weft_shield(fail_body, NULL)));
    scope = NULL;
    trace("%s", told(weft_scope_leave(&scope, weft_int(1))));
    cr_assert_null(weft_scope_close(NULL));
    cr_assert_null(weft_scope_unref(NULL));
    cr_assert_null(weft_scope_current());
    cr_assert_eq(weft_scope_deadline(), INT64_MAX);
    cr_assert_str_eq(trace_text(), "!misuse !misuse 1");
    end();
}

static weft_result enter_without_a_clock(void *unused)
{
    weft_clock *clock = weft_clock_set(NULL);
    weft_scope *scope = weft_scope_enter(within(1)), *shield;

    (void)unused;
    shield = weft_shield_enter((weft_shield_options){.soft = 1});
    cr_assert_eq(weft_scope_deadline(), INT64_MAX);
    weft_scope_cancel(scope, NULL);
    weft_scope_close(shield);
    weft_clock_set(clock);
    return weft_scope_leave(&scope, wait_for_ever("w"));
}

Test(scope, without_a_clock_has_no_deadline)
{
    begin();
    log_capture();
    run_to_its_end(enter_without_a_clock, NULL, "d");
    cr_assert_eq(log_count("misuse: a scope with a deadline needs a clock"), 1);
    cr_assert_eq(log_count("misuse: a shield with a budget needs a clock"), 1);
    cr_assert_str_eq(trace_text(), "w=!cancelled d=nil");
    end();
}

/* ---- held by others ---- */

static weft_result enter_three(void *unused)
{
    weft_scope *around = keep(&outer, weft_scope_enter(within(5))), *inside = keep(&inner, weft_scope_enter(within(7)));

    (void)unused;
    weft_result_drop(wait_for_ever("w"));
    weft_scope_close(inside);
    return weft_scope_leave(&around, weft_ok(NULL));
}

Test(scope, that_everybody_has_left_cannot_be_cancelled_and_knows_why_it_was)
{
    weft_deferred *d;

    begin();
    d = run(enter_three, NULL);
    weft_deferred_cancel(d);
    finish(d, "d");
    cr_assert_eq(weft_test_clock_count_timers(test_time), 0, "nobody is left for whom a deadline could matter");
    weft_scope_cancel(inner, NULL);
    cr_assert_null(weft_scope_get_cancellation(inner));
    let_go_of_scopes();
    d = run(enter_three, NULL);
    weft_scope_cancel(outer, weft_error_new(&WEFT_CLIENT_GONE, "gone"));
    finish(d, "d");
    outer = weft_scope_unref(outer);
    cr_assert(weft_error_is(weft_scope_get_cancellation(inner), &WEFT_CLIENT_GONE), "of the one around it, which has gone");
    let_go_of_scopes();
    trace_text();
    end();
}

static weft_result ask_for_deadlines(void *unused)
{
    weft_scope *a = weft_scope_enter(within(5)), *b = weft_scope_enter(within(9)), *c, *s;

    (void)unused;
    trace("%lld", (long long)weft_scope_deadline() / 1000000000);
    cr_assert_eq(weft_scope_current(), b);
    c = weft_scope_enter(within(2));
    trace("%lld", (long long)weft_scope_deadline() / 1000000000);
    s = weft_shield_enter((weft_shield_options){0});
    cr_assert_eq(weft_scope_deadline(), INT64_MAX);
    weft_scope_close(s);
    weft_scope_close(c);
    weft_scope_close(b);
    cr_assert_eq(weft_scope_current(), a);
    weft_scope_close(a);
    return weft_ok(NULL);
}

Test(scope, tells_the_earliest_deadline_up_to_a_shield)
{
    begin();
    run_to_its_end(ask_for_deadlines, NULL, "d");
    cr_assert_str_eq(trace_text(), "5 2 d=nil");
    end();
}

/* ---- contexts ---- */

static weft_cancel_outcome tell_context(weft_deferred *deferred, void *unused)
{
    (void)deferred, (void)unused;
    trace("canceller@%s", weft_context_get_name(weft_context_current()));
    return WEFT_CANCEL_DONE;
}

static weft_result wait_in_context(void *unused)
{
    weft_scope *scope = weft_scope_enter(within(2));
    weft_result result = await_held(stoppable(tell_context, NULL));

    (void)unused;
    trace("fiber@%s", weft_context_get_name(weft_context_current()));
    return weft_scope_leave(&scope, result);
}

Test(scope, whose_deadline_passes_cancels_in_no_context_and_its_fiber_is_in_its_own)
{
    weft_context *previous;
    weft_deferred *d;

    begin();
    previous = enter("request");
    d = run(wait_in_context, NULL);
    leave(previous);
    pass(2);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "canceller@- fiber@request d=!timed_out");
    end();
}

/* ---- many, on a small stack, as driven computations ---- */

enum { DEPTH = MANY / 10 };

struct deep {
    weft_scope **scopes;
    weft_deferred *awaited;
    bool entered;
};

static weft_result enter_deep(weft_result sent, void *arg)
{
    struct deep *deep = arg;

    if (!deep->entered) {
        for (size_t i = 0; i < DEPTH; i++)
            deep->scopes[i] = weft_scope_enter(within(0));
        deep->entered = true;
        return weft_later(weft_deferred_ref(deep->awaited));
    }
    for (size_t i = DEPTH; i-- > 0;)
        sent = weft_scope_leave(&deep->scopes[i], sent);
    return sent;
}

/* Cancelled from the inside out, from the outside in, or the outermost only: each step sees all of them again if it is done
 * badly, which takes minutes. */
static void cancel_deep(void *arg)
{
    int order = *(int *)arg;
    struct deep deep = {.scopes = weft_alloc(DEPTH * sizeof(weft_scope *)), .awaited = stoppable(cancel_later, "asked")};
    weft_deferred *d = weft_drive(enter_deep, &deep);

    for (size_t i = 0; i < (order == 2 ? 1 : DEPTH); i++)
        weft_scope_cancel(deep.scopes[order ? i : DEPTH - 1 - i], NULL);
    cr_assert_not_null(weft_scope_get_cancellation(deep.scopes[DEPTH - 1]));
    cr_assert_eq(weft_scope_get_cancellation(deep.scopes[DEPTH - 1]), weft_scope_get_cancellation(deep.scopes[0]));
    weft_deferred_callback(deep.awaited, weft_fail(weft_error_ref(weft_deferred_get_cancellation(deep.awaited))));
    while (weft_run_ready())
        ;
    conclude(d, "d");
    weft_deferred_unref(deep.awaited);
    weft_free(deep.scopes);
}

Test(scope, may_be_nested_a_hundred_thousand_deep_and_cancelled_in_any_order, .timeout = 60)
{
    for (int order = 0; order < 3; order++) {
        with_small_stack(cancel_deep, &order);
        cr_assert_str_eq(trace_text(), "asked d=nil");
    }
}

static weft_result wait_for_one(weft_result sent, void *arg)
{
    weft_deferred **awaited = arg;

    if (*awaited) {
        *awaited = weft_deferred_unref(*awaited);
        return sent;
    }
    return weft_later(weft_deferred_ref(*awaited = pending()));
}

static weft_result start_many(weft_result sent, void *awaited)
{
    weft_scope *scope = keep(&outer, weft_scope_enter(within(0)));

    for (size_t i = 0; i < DEPTH; i++)
        weft_deferred_unref(weft_drive(wait_for_one, (weft_deferred **)awaited + i));
    return weft_scope_leave(&scope, sent);
}

static void cancel_many(void *unused)
{
    weft_deferred **awaited = weft_alloc_zeroed(DEPTH * sizeof(weft_deferred *));

    (void)unused;
    conclude(weft_drive(start_many, awaited), "started");
    cr_assert_eq(weft_live_counts_get().fibers, DEPTH);
    weft_scope_cancel(outer, NULL);
    while (weft_run_ready())
        ;
    cr_assert_eq(weft_live_counts_get().fibers, 0);
    let_go_of_scopes();
    weft_free(awaited);
}

Test(scope, may_have_a_hundred_thousand_inside, .timeout = 60)
{
    log_capture();
    with_small_stack(cancel_many, NULL);
    cr_assert_str_eq(trace_text(), "started=nil");
    cr_assert_str_eq(log_text(), "", "that they were cancelled is no news");
}

/* ---- no news ---- */

static weft_result yield_once(void *unused)
{
    (void)unused;
    return weft_yield();
}

static weft_result await_what_can_be_stopped(void *unused)
{
    weft_deferred *d = stoppable(cancel_done, "canceller");
    weft_result result = weft_await(weft_deferred_ref(d));

    (void)unused;
    weft_deferred_unref(d);
    return result;
}

static weft_result spawn_in_a_cancelled_scope(void *unused)
{
    weft_scope *scope = weft_scope_enter((weft_scope_options){0});

    (void)unused;
    weft_scope_cancel(scope, NULL);
    weft_deferred_unref(weft_spawn(yield_once, NULL));
    weft_deferred_unref(weft_spawn_soon(yield_once, NULL));
    weft_deferred_unref(weft_spawn(await_what_can_be_stopped, NULL));
    return weft_scope_leave(&scope, weft_ok(NULL));
}

Test(scope, that_was_cancelled_is_no_unhandled_error_of_fibers_nobody_asks_for)
{
    begin();
    log_capture();
    conclude(weft_spawn(spawn_in_a_cancelled_scope, NULL), "d");
    settle();
    weft_deferred_report_unhandled();
    cr_assert_str_eq(trace_text(), "canceller d=nil");
    cr_assert_eq(log_count("unhandled"), 0, "also of one that has not waited");
    end();
}

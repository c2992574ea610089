/* Rules 50 to 62 of tests/rules: what a fiber promises. */
#include "tests/support/fibers.h"
#include "tests/support/test.h"

#ifdef WEFT_TEST_SANITIZED
enum { LEVELS = 2000, READY_WAITS = 20 * 1000 }; /* ThreadSanitizer has room for 8,000 fibers */
#else
enum { LEVELS = 10 * 1000, READY_WAITS = 100 * 1000 };
#endif

/* ---- 50: starting ---- */

static weft_result begin_and_wait(void *deferred)
{
    trace("begins");
    WEFT_TRY(wait_for(deferred));
    trace("ends");
    return weft_int(2);
}

Test(fiber_rules, r50_a_body_runs_inside_the_call_up_to_its_first_wait)
{
    weft_deferred *work = pending(), *d;

    begin();
    d = weft_spawn(begin_and_wait, weft_deferred_ref(work));
    cr_assert_str_eq(trace_text(), "begins");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    weft_deferred_callback(work, weft_int(1));
    noted(d, "d");
    settle();
    cr_assert_str_eq(trace_text(), "wait=1 ends d=2");
    weft_deferred_unref(d);
    weft_deferred_unref(work);
    end();
}

Test(fiber_rules, r50_a_body_that_waits_for_nothing_pending_has_ended_when_the_call_returns)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(begin_and_wait, done(weft_int(1)));
    cr_assert_eq(weft_deferred_get_state(d), WEFT_DONE);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "begins wait=1 ends d=2");
    end();
}

Test(fiber_rules, r50_an_error_that_leaves_the_body_is_its_result)
{
    weft_deferred *work = pending(), *d;
    weft_error *error = weft_error_new(&BROKEN, "it broke");
    weft_result result;

    begin();
    d = weft_spawn(begin_and_wait, weft_deferred_ref(work));
    weft_deferred_errback(work, weft_error_ref(error));
    result = run_until(d);
    cr_assert(weft_error_same(weft_failed(result), error));
    cr_assert_str_eq(trace_text(), "begins wait=!broken");
    weft_result_drop(result);
    weft_error_unref(error);
    weft_deferred_unref(work);
    end();
}

/* ---- 51: waiting ---- */

static weft_result trace_label(void *label)
{
    WEFT_TRY(weft_yield());
    trace("%s", (const char *)label);
    return weft_ok(NULL);
}

Test(fiber_rules, r51_what_is_ready_is_waited_for_without_a_turn)
{
    struct waits waits = {{done(weft_int(1)), done(broken()), done(weft_ok(NULL)), pending()}};
    weft_deferred *work = weft_deferred_ref(waits.awaited[3]);

    begin();
    weft_deferred_unref(weft_spawn(trace_label, (char[]){"other"}));
    weft_deferred_unref(weft_spawn(wait_in_turn, &waits));
    settle();
    weft_deferred_callback(work, weft_int(2));
    settle();
    cr_assert_str_eq(trace_text(), "a=1 b=!broken c=nil other d=2", "the other one, ready all the while, comes after");
    weft_deferred_unref(work);
    end();
}

Test(fiber_rules, r51_a_pending_one_gives_its_value_or_its_error_where_it_is_waited_for)
{
    struct waits waits = {{pending(), pending()}};
    weft_deferred *work[] = {weft_deferred_ref(waits.awaited[0]), weft_deferred_ref(waits.awaited[1])}, *d;

    begin();
    d = weft_spawn(wait_in_turn, &waits);
    weft_deferred_callback(work[0], weft_int(3));
    cr_assert_str_eq(trace_text(), "", "the body never runs inside the call that fires");
    settle();
    cr_assert_str_eq(trace_text(), "a=3");
    weft_deferred_callback(work[1], broken());
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "b=!broken d=1");
    weft_deferred_unref(work[0]);
    weft_deferred_unref(work[1]);
    end();
}

/* ---- 52: awaiting consumes ---- */

Test(fiber_rules, r52_awaiting_takes_the_result_so_its_error_is_handled)
{
    weft_deferred *ready = done(broken()), *later = pending();
    struct waits waits = {{weft_deferred_ref(ready), weft_deferred_ref(later)}};

    begin();
    log_capture();
    weft_deferred_unref(weft_spawn(wait_in_turn, &waits));
    weft_deferred_callback(later, broken());
    settle();
    cr_assert_str_eq(trace_text(), "a=!broken b=!broken");
    cr_assert_null(weft_failed(weft_deferred_peek(ready)));
    cr_assert_null(weft_failed(weft_deferred_peek(later)));
    weft_deferred_unref(ready);
    weft_deferred_unref(later);
    cr_assert_eq(log_count("unhandled"), 0);
    end();
}

Test(fiber_rules, r52_awaiting_a_second_time_is_a_misuse_whatever_came_the_first_time)
{
    weft_deferred *ready = done(broken()), *later = pending();
    struct waits waits = {{ready, weft_deferred_ref(ready), weft_deferred_ref(later), weft_deferred_ref(later)}};

    begin();
    weft_deferred_unref(weft_spawn(wait_in_turn, &waits));
    weft_deferred_callback(later, weft_int(1));
    settle();
    cr_assert_str_eq(trace_text(), "a=!broken b=!misuse c=1 d=!misuse");
    weft_deferred_unref(later);
    end();
}

/* In Twisted the first gets a cancellation that was meant for the second, and the second a success without a value. */
Test(fiber_rules, r52_of_two_who_await_the_same_the_second_is_told_and_the_first_untouched)
{
    weft_deferred *shared = pending(), *first, *second;
    weft_result result;

    begin();
    first = weft_spawn(wait_for, weft_deferred_ref(shared));
    second = weft_spawn(wait_for, weft_deferred_ref(shared));
    cr_assert_eq(weft_deferred_get_state(second), WEFT_DONE);
    weft_deferred_cancel(second);
    result = weft_deferred_take_result(second);
    cr_assert_str_eq(weft_error_get_place(weft_failed(result))->function, "noted_await", "the second await is named");
    weft_result_drop(result);
    weft_deferred_unref(second);
    weft_deferred_callback(shared, weft_int(1));
    cr_assert_str_eq(told(run_until(first)), "1");
    cr_assert_str_eq(trace_text(), "wait=!misuse wait=1");
    weft_deferred_unref(shared);
    end();
}

/* ---- 53: what counts as ready, and a deferred as the result ---- */

Test(fiber_rules, r53_a_paused_one_is_not_ready)
{
    weft_deferred *work = paused(done(weft_int(1))), *d;

    begin();
    d = weft_spawn(wait_for, weft_deferred_ref(work));
    settle();
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unpause(work);
    cr_assert_str_eq(told(run_until(d)), "1");
    cr_assert_str_eq(trace_text(), "wait=1");
    weft_deferred_unref(work);
    end();
}

Test(fiber_rules, r53_one_that_waits_for_another_is_not_ready)
{
    weft_deferred *inner = pending(), *d;

    begin();
    d = weft_spawn(wait_for, waiting_for(inner));
    settle();
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(inner, weft_int(1));
    cr_assert_str_eq(told(run_until(d)), "1");
    cr_assert_str_eq(trace_text(), "wait=1");
    weft_deferred_unref(inner);
    end();
}

static weft_result adopt(void *deferred)
{
    return weft_later(deferred);
}

Test(fiber_rules, r53_a_deferred_that_the_body_returns_becomes_its_result)
{
    weft_deferred *inner = pending(), *halted = paused(done(broken())), *d;

    begin();
    conclude(weft_spawn(adopt, done(weft_int(1))), "ready");
    d = weft_spawn(adopt, waiting_for(inner));
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    weft_deferred_callback(inner, weft_int(2));
    trace("waiting=%s", told(run_until(d)));
    d = weft_spawn(adopt, weft_deferred_ref(halted));
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    weft_deferred_unpause(halted);
    trace("halted=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "ready=1 waiting=2 halted=!broken");
    weft_deferred_unref(inner);
    weft_deferred_unref(halted);
    end();
}

Test(fiber_rules, r53_an_adopted_deferred_that_is_taken_already_is_a_misuse)
{
    weft_deferred *taken = pending(), *first, *second;

    begin();
    first = weft_spawn(wait_for, weft_deferred_ref(taken));
    second = weft_spawn(adopt, weft_deferred_ref(taken));
    conclude(second, "second");
    weft_deferred_callback(taken, weft_int(1));
    trace("first=%s", told(run_until(first)));
    cr_assert_str_eq(trace_text(), "second=!misuse wait=1 first=1");
    weft_deferred_unref(taken);
    end();
}

/* ---- 54: no depth takes stack ---- */

static weft_result pass_wait(void *deferred)
{
    WEFT_TRY(weft_await(deferred));
    return weft_int(1);
}

/* Starts as many fibers, each waiting for the one before; returns the last one's deferred. */
static weft_deferred *stack_fibers(int levels, weft_deferred *innermost)
{
    weft_deferred *outermost = innermost;

    for (int i = 0; i < levels; i++)
        outermost = weft_spawn(pass_wait, outermost);
    return outermost;
}

static void end_a_stack_of_fibers(void *failing)
{
    weft_deferred *work = pending(), *outermost;

    begin();
    outermost = stack_fibers(LEVELS, weft_deferred_ref(work));
    weft_deferred_callback(work, failing ? broken() : weft_int(0));
    cr_assert_str_eq(told(run_until(outermost)), failing ? "!broken" : "1");
    weft_deferred_unref(work);
    end();
}

Test(fiber_rules, r54_ten_thousand_fibers_that_wait_for_one_another_end_on_a_small_stack, .timeout = 60)
{
    with_small_stack(end_a_stack_of_fibers, NULL);
}

Test(fiber_rules, r54_so_they_do_with_an_error, .timeout = 60)
{
    with_small_stack(end_a_stack_of_fibers, begin);
}

static void cancel_a_stack_of_fibers(void *unused)
{
    weft_deferred *work = stoppable(cancel_done, "canceller"), *outermost;

    (void)unused;
    begin();
    outermost = stack_fibers(LEVELS, weft_deferred_ref(work));
    settle();
    weft_deferred_cancel(outermost);
    trace("outermost=%s", told(run_until(outermost)));
    cr_assert_str_eq(trace_text(), "canceller outermost=!cancelled");
    weft_deferred_unref(work);
    end();
}

Test(fiber_rules, r54_so_they_do_when_they_are_cancelled, .timeout = 60)
{
    with_small_stack(cancel_a_stack_of_fibers, NULL);
}

struct descent {
    int left;
    bool adopting;
    weft_deferred *work;
};

static weft_result descend(void *arg)
{
    struct descent *descent = arg;

    if (!descent->left--)
        return weft_await(weft_deferred_ref(descent->work));
    if (descent->adopting)
        return weft_later(weft_spawn(descend, descent));
    return weft_await(weft_spawn(descend, descent));
}

static void go_down_and_up(void *adopting)
{
    struct descent descent = {LEVELS, adopting != NULL, pending()};
    weft_deferred *outermost;

    begin();
    outermost = weft_spawn(descend, &descent);
    cr_assert_eq(descent.left, -1, "all have started, one inside the other");
    weft_deferred_callback(descent.work, weft_int(5));
    cr_assert_str_eq(told(run_until(outermost)), "5");
    weft_deferred_unref(descent.work);
    end();
}

Test(fiber_rules, r54_ten_thousand_fibers_that_start_one_another_end_on_a_small_stack, .timeout = 60)
{
    with_small_stack(go_down_and_up, NULL);
}

Test(fiber_rules, r54_so_they_do_when_each_returns_the_next_ones_deferred, .timeout = 60)
{
    with_small_stack(go_down_and_up, begin);
}

static weft_result wait_for_many_ready(void *unused)
{
    intptr_t sum = 0;

    (void)unused;
    for (int i = 0; i < READY_WAITS; i++)
        sum += (intptr_t)WEFT_TRY(weft_await(done(weft_int(1))));
    return weft_int(sum);
}

Test(fiber_rules, r54_a_hundred_thousand_ready_waits_in_a_row_take_no_stack, .timeout = 30)
{
    weft_result result;

    begin();
    result = run_until(weft_spawn(wait_for_many_ready, NULL));
    cr_assert_eq((intptr_t)result.value, READY_WAITS);
    end();
}

static weft_result return_at_once(void *number)
{
    return weft_int((intptr_t)number);
}

static weft_result wait_for_many_fibers(void *unused)
{
    intptr_t sum = 0;

    (void)unused;
    for (int i = 0; i < READY_WAITS; i++)
        sum += (intptr_t)WEFT_TRY(weft_await(weft_spawn(return_at_once, (void *)1)));
    return weft_int(sum);
}

Test(fiber_rules, r54_nor_do_as_many_fibers_that_end_at_once, .timeout = 30)
{
    weft_result result;

    begin();
    result = run_until(weft_spawn(wait_for_many_fibers, NULL));
    cr_assert_eq((intptr_t)result.value, READY_WAITS);
    end();
}

/* ---- 55: what a body makes of a cancel; the table of nestings is in test_fiber_nesting.c ---- */

Test(fiber_rules, r55_a_body_may_let_the_cancellation_pass)
{
    weft_deferred *work = stoppable(cancel_done, "canceller"), *d;

    begin();
    d = weft_spawn(wait_for, weft_deferred_ref(work));
    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "canceller");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING, "it has its result when the body has ended");
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "wait=!cancelled d=!cancelled");
    weft_deferred_unref(work);
    end();
}

static weft_result answer_with_error(void *deferred)
{
    weft_result_drop(wait_for(deferred));
    return broken();
}

Test(fiber_rules, r55_a_body_may_turn_it_into_an_error)
{
    weft_deferred *work = stoppable(cancel_done, "canceller"), *d;

    begin();
    d = weft_spawn(answer_with_error, weft_deferred_ref(work));
    weft_deferred_cancel(d);
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "canceller wait=!cancelled d=!broken");
    weft_deferred_unref(work);
    end();
}

Test(fiber_rules, r55_a_body_may_turn_it_into_a_success)
{
    struct waits waits = {{stoppable(cancel_done, "canceller")}};
    weft_deferred *work = weft_deferred_ref(waits.awaited[0]), *d;

    begin();
    d = weft_spawn(wait_in_turn, &waits);
    weft_deferred_cancel(d);
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "canceller a=!cancelled d=1");
    weft_deferred_unref(work);
    end();
}

Test(fiber_rules, r55_a_body_may_go_on_waiting_and_the_next_cancel_is_for_what_it_waits_for_then)
{
    struct waits waits = {{stoppable(cancel_done, "c1"), stoppable(cancel_done, "c2")}};
    weft_deferred *work[] = {weft_deferred_ref(waits.awaited[0]), weft_deferred_ref(waits.awaited[1])}, *d;

    begin();
    d = weft_spawn(wait_in_turn, &waits);
    weft_deferred_cancel(d);
    settle();
    cr_assert_str_eq(trace_text(), "c1 a=!cancelled");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    weft_deferred_cancel_with(d, weft_error_new(&WEFT_CLIENT_GONE, "it left"));
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "c2 b=!client_gone d=1");
    weft_deferred_unref(work[0]);
    weft_deferred_unref(work[1]);
    end();
}

Test(fiber_rules, r55_a_chain_that_delays_the_cancellation_delays_the_body)
{
    weft_deferred *work = stoppable(cancel_done, "canceller"), *slow = pending(), *d;

    begin();
    weft_deferred_add_errback(work, return_later, weft_deferred_ref(slow));
    d = weft_spawn(wait_for, weft_deferred_ref(work));
    weft_deferred_cancel(d);
    settle();
    cr_assert_str_eq(trace_text(), "canceller");
    weft_deferred_callback(slow, weft_int(4));
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "wait=4 d=4");
    weft_deferred_unref(work);
    weft_deferred_unref(slow);
    end();
}

/* ---- 56: cancelling changes nothing of the deferred itself ---- */

Test(fiber_rules, r56_a_cancelled_one_is_pending_until_its_body_ends_however_often_it_is_asked)
{
    weft_deferred *work = stoppable(cancel_later, "canceller"), *d;
    size_t deferreds;

    begin();
    d = noted(weft_spawn(wait_for, weft_deferred_ref(work)), "d");
    deferreds = weft_live_counts_get().deferreds;
    for (int i = 0; i < 100; i++)
        weft_deferred_cancel(d);
    settle();
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    cr_assert_eq(weft_live_counts_get().deferreds, deferreds);
    cr_assert_leq(weft_live_counts_get().errors, 2, "one for the wait, one for the next");
    weft_deferred_callback(work, weft_int(8));
    settle();
    cr_assert_str_eq(trace_text(), "canceller wait=8 d=8", "its callbacks have run once");
    weft_deferred_unref(d);
    weft_deferred_unref(work);
    end();
}

/* ---- 57: before the first wait ---- */

Test(fiber_rules, r57_one_that_never_waited_has_ended_and_a_cancel_does_nothing)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(wait_for, done(weft_int(1)));
    weft_deferred_cancel(d);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "wait=1 d=1");
    end();
}

Test(fiber_rules, r57_one_that_is_to_start_soon_starts_through_the_ready_queue)
{
    weft_deferred *d;

    begin();
    d = weft_spawn_soon(wait_for, done(weft_int(1)));
    cr_assert_str_eq(trace_text(), "");
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "wait=1 d=1");
    end();
}

Test(fiber_rules, r57_one_that_is_cancelled_before_it_starts_never_runs)
{
    weft_deferred *d;

    begin();
    d = weft_spawn_soon(trace_label, (char[]){"runs"});
    weft_deferred_cancel_with(d, weft_error_new(&WEFT_CLIENT_GONE, "it left"));
    trace("d=%s", told(run_until(d)));
    settle();
    cr_assert_str_eq(trace_text(), "d=!client_gone");
    cr_assert_eq(weft_live_counts_get().fibers, 0);
    end();
}

/* ---- 58: while it runs ---- */

static weft_deferred *self;

static weft_result cancel_self(weft_result result, void *unused)
{
    (void)unused;
    weft_deferred_cancel(self);
    return result;
}

/* Waits, cancels itself in what it calls, and waits for the rest. */
static weft_result fire_between_waits(void *arg)
{
    struct waits *waits = arg;

    WEFT_TRY(weft_yield());
    weft_deferred_callback(waits->awaited[3], weft_ok(NULL));
    trace("asked");
    waits->awaited[3] = NULL;
    return wait_in_turn(waits);
}

Test(fiber_rules, r58_a_cancel_by_something_that_the_body_calls_comes_out_of_its_next_wait_and_no_other)
{
    weft_deferred *calls = weft_deferred_add_both(pending(), cancel_self, NULL);
    struct waits waits = {{done(weft_int(1)), stoppable(cancel_done, "c1"), pending(), calls}};
    weft_deferred *last = weft_deferred_ref(waits.awaited[2]);

    begin();
    self = weft_spawn(fire_between_waits, &waits);
    settle();
    cr_assert_str_eq(trace_text(), "asked a=1 c1 b=!cancelled", "what is ready is no wait");
    weft_deferred_callback(last, weft_int(2));
    trace("d=%s", told(run_until(weft_deferred_ref(self))));
    cr_assert_str_eq(trace_text(), "c=2 d=1");
    weft_deferred_unref(self);
    weft_deferred_unref(calls);
    weft_deferred_unref(last);
    end();
}

static weft_result cancel_self_and_sleep(void *unused)
{
    (void)unused;
    WEFT_TRY(weft_yield());
    weft_deferred_cancel_with(self, weft_error_new(&WEFT_CLIENT_GONE, "first"));
    weft_deferred_cancel_with(self, weft_error_new(&WEFT_SHUTDOWN, "second"));
    trace("sleep=%s", told(weft_sleep(60)));
    trace("yield=%s", told(weft_yield()));
    return weft_ok(NULL);
}

Test(fiber_rules, r58_it_keeps_its_reason_and_a_second_one_changes_nothing)
{
    begin();
    self = weft_spawn(cancel_self_and_sleep, NULL);
    weft_result_drop(run_until(weft_deferred_ref(self)));
    cr_assert_str_eq(trace_text(), "sleep=!client_gone yield=nil");
    weft_deferred_unref(self);
    end();
}

static weft_result cancel_self_and_yield(void *unused)
{
    (void)unused;
    WEFT_TRY(weft_sleep(0));
    weft_deferred_cancel(self);
    trace("yield=%s", told(weft_yield()));
    trace("sleep=%s", told(weft_sleep(0)));
    return weft_ok(NULL);
}

Test(fiber_rules, r58_a_yield_is_a_wait_too)
{
    begin();
    self = weft_spawn(cancel_self_and_yield, NULL);
    weft_result_drop(run_until(weft_deferred_ref(self)));
    cr_assert_str_eq(trace_text(), "yield=!cancelled sleep=nil");
    weft_deferred_unref(self);
    end();
}

/* ---- 59: waiting for one that is fired and paused ---- */

Test(fiber_rules, r59_a_paused_result_wins_and_the_cancel_comes_out_of_the_next_wait)
{
    struct waits waits = {{paused(done(weft_int(1))), stoppable(cancel_done, "canceller")}};
    weft_deferred *work[] = {weft_deferred_ref(waits.awaited[0]), weft_deferred_ref(waits.awaited[1])}, *d;

    begin();
    d = weft_spawn(wait_in_turn, &waits);
    weft_deferred_cancel(d);
    settle();
    cr_assert_str_eq(trace_text(), "");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    weft_deferred_unpause(work[0]);
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "a=1 canceller b=!cancelled d=1");
    weft_deferred_unref(work[0]);
    weft_deferred_unref(work[1]);
    end();
}

/* ---- 60: nobody wants its result ---- */

Test(fiber_rules, r60_one_whose_deferred_is_dropped_runs_on)
{
    struct waits waits = {{pending(), pending()}};
    weft_deferred *work[] = {weft_deferred_ref(waits.awaited[0]), weft_deferred_ref(waits.awaited[1])};

    begin();
    weft_deferred_unref(weft_spawn(wait_in_turn, &waits));
    for (int i = 0; i < 2; i++) {
        settle();
        weft_deferred_callback(work[i], weft_int(i));
        weft_deferred_unref(work[i]);
    }
    settle();
    cr_assert_str_eq(trace_text(), "a=0 b=1");
    cr_assert_eq(weft_live_counts_get().fibers, 0);
    end();
}

Test(fiber_rules, r60_at_the_reactors_end_it_is_cancelled_and_its_clean_up_runs)
{
    weft_deferred *work = stoppable(cancel_done, "canceller");
    struct waits waits = {{weft_deferred_ref(work), done(weft_int(1))}};

    begin();
    weft_deferred_unref(weft_spawn(wait_in_turn, &waits));
    settle();
    end();
    cr_assert_str_eq(trace_text(), "canceller a=!shutdown b=1");
    weft_deferred_unref(work);
}

/* What only the fiber could fire can be fired by nobody. */
Test(fiber_rules, r60_one_that_waits_for_what_nobody_can_fire_is_not_forgotten)
{
    log_capture();
    begin();
    weft_deferred_unref(weft_spawn(wait_for, pending()));
    settle();
    cr_assert_str_eq(trace_text(), "wait=!orphaned");
    cr_assert_eq(weft_live_counts_get().fibers, 0);
    cr_assert_eq(log_count("unhandled error"), 1, "and the error is told");
    end();
}

/* ---- 61: no function ends its caller ---- */

static weft_result helper(weft_deferred *deferred)
{
    WEFT_TRY(weft_await(deferred));
    trace("helper_goes_on");
    return weft_ok(NULL);
}

static weft_result call_helper(void *deferred)
{
    trace("helper=%s", told(helper(deferred)));
    return weft_int(6);
}

Test(fiber_rules, r61_a_helper_that_leaves_with_an_error_ends_itself_and_not_the_body)
{
    weft_deferred *work = pending(), *d;

    begin();
    d = weft_spawn(call_helper, weft_deferred_ref(work));
    weft_deferred_callback(work, broken());
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "helper=!broken d=6");
    weft_deferred_unref(work);
    end();
}

/* ---- 62: contexts ---- */

static void trace_context(const char *label)
{
    trace("%s@%s", label, weft_context_get_name(weft_context_current()));
}

static weft_result wait_in_every_way(void *arg)
{
    const struct waits *waits = arg;

    trace_context("begins");
    weft_result_drop(weft_await(waits->awaited[0]));
    trace_context("value");
    weft_result_drop(weft_await(waits->awaited[1]));
    trace_context("error");
    weft_result_drop(weft_sleep(0));
    trace_context("sleep");
    weft_result_drop(weft_yield());
    trace_context("yield");
    weft_result_drop(weft_await(waits->awaited[2]));
    trace_context("cancel");
    return weft_ok(NULL);
}

static void fire_from(const char *context, weft_deferred *deferred, weft_result result)
{
    weft_context *previous = enter(context);

    weft_deferred_callback(deferred, result);
    cr_assert_str_eq(weft_context_get_name(weft_context_current()), context, "the firer keeps its own");
    leave(previous);
    settle();
}

Test(fiber_rules, r62_the_starters_context_is_back_after_every_wait_whoever_ends_it)
{
    struct waits waits = {{pending(), pending(), pending()}};
    weft_deferred *work[3], *d;
    weft_context *previous;

    begin();
    for (int i = 0; i < 3; i++)
        work[i] = weft_deferred_ref(waits.awaited[i]);
    d = spawn_in("starter", wait_in_every_way, &waits);
    fire_from("firer", work[0], weft_int(1));
    fire_from("firer", work[1], broken());
    settle();
    previous = enter("canceller");
    weft_deferred_cancel(d);
    leave(previous);
    weft_result_drop(run_until(d));
    cr_assert_str_eq(trace_text(), "begins@starter value@starter error@starter sleep@starter yield@starter cancel@starter");
    cr_assert_null(weft_context_current());
    for (int i = 0; i < 3; i++)
        weft_deferred_unref(work[i]);
    end();
}

static weft_result change_context(void *deferred)
{
    weft_context *previous = enter("own");

    context_noted(deferred, "callback");
    weft_result_drop(weft_await(deferred));
    trace_context("body");
    leave(previous);
    trace_context("left");
    return weft_ok(NULL);
}

Test(fiber_rules, r62_a_context_that_the_body_enters_is_its_own_across_waits_and_nobody_elses)
{
    weft_deferred *work = pending();

    begin();
    weft_deferred_unref(spawn_in("starter", change_context, weft_deferred_ref(work)));
    cr_assert_null(weft_context_current());
    fire_from("firer", work, weft_int(1));
    cr_assert_str_eq(trace_text(), "callback@own body@own left@starter");
    weft_deferred_unref(work);
    end();
}

/* Fibers: starting, waiting, being cancelled, ending; what they cost, and what they must not break. */
#include "tests/support/test.h"
#include "tests/support/fibers.h"

#include <execinfo.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void finish(weft_deferred *d, const char *label)
{
    trace("%s=%s", label, told(weft_deferred_take_result(d)));
    weft_deferred_unref(d);
}

/* A fiber that waits for `awaited`, which it takes, and traces what comes of it. */
struct waiter {
    weft_deferred *awaited;
    const char *label;
};

static weft_result wait_and_note(void *arg)
{
    const struct waiter *waiter = arg;

    return note(weft_await(waiter->awaited), (void *)waiter->label);
}

static weft_result yield_once(void *unused)
{
    (void)unused;
    return weft_yield();
}

/* ---- starting and ending ---- */

static weft_result return_arg_as_int(void *number)
{
    trace("runs");
    return weft_int((intptr_t)number);
}

Test(fiber, runs_at_once_and_gives_its_result)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(return_arg_as_int, (void *)7);
    cr_assert_str_eq(trace_text(), "runs");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_DONE);
    cr_assert_eq(weft_live_counts_get().fibers, 0);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=7");
    end();
}

static weft_result fail_at_once(void *unused)
{
    (void)unused;
    return broken();
}

Test(fiber, may_fail)
{
    begin();
    finish(weft_spawn(fail_at_once, NULL), "d");
    cr_assert_str_eq(trace_text(), "d=!broken");
    end();
}

Test(fiber, runs_to_its_first_wait)
{
    struct waiter waiter = {pending(), "w"};
    weft_deferred *fire = weft_deferred_ref(waiter.awaited), *d;

    begin();
    d = weft_spawn(wait_and_note, &waiter);
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    cr_assert_eq(weft_live_counts_get().fibers, 1);
    weft_deferred_callback(fire, weft_int(3));
    cr_assert_str_eq(told(run_until(d)), "3");
    cr_assert_str_eq(trace_text(), "w=3");
    weft_deferred_unref(fire);
    end();
}

static weft_result return_a_deferred(void *deferred)
{
    return weft_later(deferred);
}

Test(fiber, that_returns_a_deferred_ends_with_its_result)
{
    weft_deferred *inner = pending(), *d;

    begin();
    finish(weft_spawn(return_a_deferred, done(weft_int(1))), "ready");
    d = weft_spawn(return_a_deferred, weft_deferred_ref(inner));
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    weft_deferred_callback(inner, weft_int(2));
    trace("pending=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "ready=1 pending=2");
    weft_deferred_unref(inner);
    end();
}

Test(fiber, that_returned_a_deferred_is_cancelled_through_it)
{
    weft_deferred *inner = stoppable(cancel_done, "inner"), *d;

    begin();
    d = weft_spawn(return_a_deferred, weft_deferred_ref(inner));
    weft_deferred_cancel(d);
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "inner d=!cancelled");
    weft_deferred_unref(inner);
    end();
}

static weft_result sleep_a_moment(void *unused)
{
    (void)unused;
    WEFT_TRY(weft_sleep(0.001));
    trace("slept");
    return weft_ok(NULL);
}

Test(fiber, runs_on_when_nobody_wants_its_result)
{
    begin();
    weft_deferred_unref(weft_spawn(sleep_a_moment, NULL));
    run_all();
    cr_assert_str_eq(trace_text(), "slept");
    cr_assert_eq(weft_live_counts_get().fibers, 0);
    end();
}

static weft_result sleep_and_fail(void *unused)
{
    (void)unused;
    WEFT_TRY(weft_sleep(0));
    return broken();
}

Test(fiber, that_fails_when_nobody_wants_its_result_is_reported)
{
    log_capture();
    begin();
    weft_deferred_unref(weft_spawn(sleep_and_fail, NULL));
    settle();
    cr_assert_eq(log_count("unhandled error"), 1);
    end();
}

Test(fiber, without_a_reactor_is_a_misuse)
{
    finish(weft_spawn(return_arg_as_int, NULL), "d");
    cr_assert_str_eq(trace_text(), "d=!misuse", "and it did not run");
}

static weft_result note_in_fiber(void *unused)
{
    (void)unused;
    trace("inside=%d", weft_in_fiber());
    return weft_ok(NULL);
}

Test(fiber, knows_that_it_is_one)
{
    begin();
    cr_assert_not(weft_in_fiber());
    weft_deferred_unref(weft_spawn(note_in_fiber, NULL));
    cr_assert_str_eq(trace_text(), "inside=1");
    cr_assert_not(weft_in_fiber());
    end();
}

static weft_result spawn_deeper(void *levels)
{
    intptr_t left = (intptr_t)levels;

    trace("%ld", (long)left);
    if (left > 1)
        weft_deferred_unref(weft_spawn(spawn_deeper, (void *)(left - 1)));
    trace("-%ld", (long)left);
    WEFT_TRY(weft_sleep(0));
    trace("%ld!", (long)left);
    return weft_ok(NULL);
}

Test(fiber, may_start_another_that_starts_another)
{
    begin();
    weft_deferred_unref(weft_spawn(spawn_deeper, (void *)3));
    cr_assert_str_eq(trace_text(), "3 2 1 -1 -2 -3");
    settle();
    cr_assert_str_eq(trace_text(), "1! 2! 3!", "in the order in which they began to sleep");
    end();
}

static weft_result spawn_in_callback(weft_result result, void *unused)
{
    (void)unused;
    trace("callback");
    weft_deferred_unref(weft_spawn(sleep_a_moment, NULL));
    trace("spawned");
    return result;
}

static weft_result fire_then_note(void *deferred)
{
    weft_deferred_callback(deferred, weft_ok(NULL));
    trace("fired");
    return weft_ok(NULL);
}

Test(fiber, may_be_started_by_a_callback_that_another_fires)
{
    weft_deferred *d = weft_deferred_add_both(pending(), spawn_in_callback, NULL);

    begin();
    weft_deferred_unref(weft_spawn(fire_then_note, d));
    cr_assert_str_eq(trace_text(), "callback spawned fired");
    run_all();
    cr_assert_str_eq(trace_text(), "slept");
    weft_deferred_unref(d);
    end();
}

/* The end of one starts the next, from the callback of its deferred: neither stack grows. */
struct relay {
    int left;
};


static weft_result start_next_leg(weft_result result, void *arg)
{
    struct relay *relay = arg;

    if (relay->left--) {
        weft_deferred *next = weft_spawn(yield_once, NULL);

        weft_deferred_unref(weft_deferred_add_both(next, start_next_leg, relay));
    }
    return result;
}

Test(fiber, may_be_started_again_and_again_by_the_end_of_the_one_before, .timeout = 30)
{
    struct relay relay = {MANY / 100};

    begin();
    weft_result_drop(start_next_leg(weft_ok(NULL), &relay));
    while (relay.left > 0)
        settle();
    settle();
    cr_assert_eq(relay.left, -1);
    end();
}

/* ---- awaiting ---- */

static weft_result await_in_turn(void *arg)
{
    weft_deferred **three = arg;

    for (int i = 0; i < 3; i++)
        trace("%s", told(weft_await(three[i])));
    return weft_ok(NULL);
}

Test(fiber_await, of_what_is_ready_does_not_wait)
{
    weft_deferred *three[] = {done(weft_int(1)), done(broken()), done(weft_ok(NULL))};

    begin();
    weft_deferred_unref(weft_spawn(await_in_turn, three));
    cr_assert_str_eq(trace_text(), "1 !broken nil");
    cr_assert_eq(weft_live_counts_get().deferreds, 0);
    end();
}

Test(fiber_await, wakes_through_the_ready_queue_and_not_inside_the_call_that_fires)
{
    struct waiter waiter = {pending(), "w"};
    weft_deferred *fire = weft_deferred_ref(waiter.awaited);

    begin();
    weft_deferred_unref(weft_spawn(wait_and_note, &waiter));
    weft_deferred_callback(fire, weft_int(3));
    cr_assert_str_eq(trace_text(), "");
    settle();
    cr_assert_str_eq(trace_text(), "w=3");
    weft_deferred_unref(fire);
    end();
}

Test(fiber_await, gets_the_error)
{
    struct waiter waiter = {pending(), "w"};
    weft_deferred *fire = weft_deferred_ref(waiter.awaited), *d;

    begin();
    d = weft_spawn(wait_and_note, &waiter);
    weft_deferred_callback(fire, broken());
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "w=!broken d=!broken");
    weft_deferred_unref(fire);
    end();
}

static weft_result innermost_wait(void *deferred)
{
    WEFT_TRY(weft_await(deferred));
    return weft_ok(NULL);
}

static weft_result middle_wait(void *deferred)
{
    weft_result result = innermost_wait(deferred);

    WEFT_TRY(result);
    return weft_ok(NULL);
}

Test(fiber_await, adds_its_place_to_the_errors_trace)
{
    weft_deferred *inner = pending(), *d;
    weft_result result;
    const weft_place *const *places;

    begin();
    d = weft_spawn(middle_wait, weft_deferred_ref(inner));
    weft_deferred_callback(inner, broken());
    weft_deferred_unref(inner);
    result = run_until(d);
    cr_assert_eq(weft_error_get_trace(weft_failed(result), &places), 2, "an await and its WEFT_TRY are one place");
    cr_assert_str_eq(places[0]->function, "innermost_wait");
    cr_assert_str_eq(places[1]->function, "middle_wait");
    weft_result_drop(result);
    end();
}

static weft_result hand_on(void *deferred)
{
    return weft_await(deferred);
}

Test(fiber_await, adds_its_place_also_without_WEFT_TRY)
{
    weft_deferred *ready, *later, *fire = pending();
    weft_result result;
    const weft_place *const *places;

    begin();
    ready = weft_spawn(hand_on, done(broken()));
    later = weft_spawn(hand_on, weft_deferred_ref(fire));
    weft_deferred_callback(fire, broken());
    weft_deferred_unref(fire);
    result = run_until(ready);
    cr_assert_eq(weft_error_get_trace(weft_failed(result), &places), 1);
    cr_assert_str_eq(places[0]->function, "hand_on");
    weft_result_drop(result);
    result = run_until(later);
    cr_assert_eq(weft_error_get_trace(weft_failed(result), &places), 1);
    cr_assert_str_eq(places[0]->function, "hand_on");
    weft_result_drop(result);
    end();
}

static weft_result sleep_or_hand_on(void *seconds)
{
    return seconds ? weft_sleep(60) : weft_yield();
}

Test(fiber_await, adds_the_place_of_a_sleep_or_a_yield_to_a_cancellation)
{
    weft_deferred *sleeper, *yielder;
    weft_result result;
    const weft_place *const *places;

    begin();
    sleeper = weft_spawn(sleep_or_hand_on, &places);
    yielder = weft_spawn(sleep_or_hand_on, NULL);
    weft_deferred_cancel(sleeper);
    weft_deferred_cancel(yielder);
    result = run_until(sleeper);
    cr_assert_eq(weft_error_get_trace(weft_failed(result), &places), 1);
    cr_assert_str_eq(places[0]->function, "sleep_or_hand_on");
    weft_result_drop(result);
    result = run_until(yielder);
    cr_assert_eq(weft_error_get_trace(weft_failed(result), &places), 1);
    cr_assert_str_eq(places[0]->function, "sleep_or_hand_on");
    weft_result_drop(result);
    end();
}

static weft_result await_same_twice(void *deferred)
{
    weft_deferred_ref(deferred);
    trace("first=%s", told(weft_await(deferred)));
    trace("second=%s", told(weft_await(deferred)));
    return weft_ok(NULL);
}

Test(fiber_await, of_the_same_deferred_twice_is_a_misuse_the_second_time)
{
    weft_deferred *later = pending();

    begin();
    weft_deferred_unref(weft_spawn(await_same_twice, done(weft_int(1))));
    cr_assert_str_eq(trace_text(), "first=1 second=!misuse");
    weft_deferred_unref(weft_spawn(await_same_twice, weft_deferred_ref(later)));
    weft_deferred_callback(later, broken());
    settle();
    cr_assert_str_eq(trace_text(), "first=!broken second=!misuse");
    weft_deferred_unref(later);
    end();
}

Test(fiber_await, of_what_another_waits_for_is_a_misuse)
{
    weft_deferred *shared = pending();
    struct waiter first = {weft_deferred_ref(shared), "first"}, second = {weft_deferred_ref(shared), "second"};

    begin();
    weft_deferred_unref(weft_spawn(wait_and_note, &first));
    log_capture();
    weft_deferred_unref(weft_spawn(wait_and_note, &second));
    cr_assert_str_eq(trace_text(), "second=!misuse");
    weft_deferred_callback(shared, weft_int(1));
    settle();
    cr_assert_str_eq(trace_text(), "first=1");
    weft_deferred_unref(shared);
    end();
}

Test(fiber_await, outside_a_fiber_is_a_misuse_that_takes_the_reference)
{
    trace("%s", told(weft_await(done(weft_int(1)))));
    trace("%s", told(weft_sleep(0)));
    trace("%s", told(weft_yield()));
    begin();
    trace("%s", told(weft_await(pending())));
    trace("%s", told(weft_sleep(0)));
    trace("%s", told(weft_yield()));
    cr_assert_str_eq(trace_text(), "!misuse !misuse !misuse !misuse !misuse !misuse");
    cr_assert_eq(weft_live_counts_get().deferreds, 0);
    end();
}

static weft_result await_in_callback(weft_result result, void *unused)
{
    (void)unused;
    weft_result_drop(result);
    trace("inside=%d %s", weft_in_fiber(), told(weft_sleep(0)));
    return weft_ok(NULL);
}

static void fire_in_timer(weft_timer *timer, void *deferred)
{
    (void)timer;
    weft_deferred_callback(deferred, weft_ok(NULL));
}

Test(fiber_await, in_a_callback_that_the_loop_fires_is_a_misuse)
{
    weft_deferred *d = weft_deferred_add_both(pending(), await_in_callback, NULL);
    weft_timer timer;

    begin();
    weft_timer_init(&timer, fire_in_timer, d);
    weft_timer_start(&timer, weft_clock_current(), 0);
    settle();
    cr_assert_str_eq(trace_text(), "inside=0 !misuse");
    weft_deferred_unref(d);
    end();
}

Test(fiber_await, of_one_that_nobody_can_fire_ends_at_once)
{
    struct waiter waiter = {pending(), "w"};
    weft_deferred *d;

    begin();
    d = weft_spawn(wait_and_note, &waiter);
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "w=!orphaned d=!orphaned");
    end();
}

Test(fiber_await, of_one_that_nobody_can_fire_any_more_ends_then)
{
    struct waiter waiter = {pending(), "w"};
    weft_deferred *fire = weft_deferred_ref(waiter.awaited), *d;

    begin();
    d = weft_spawn(wait_and_note, &waiter);
    settle();
    weft_deferred_unref(fire);
    cr_assert_str_eq(trace_text(), "");
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "w=!orphaned d=!orphaned");
    end();
}

static weft_result await_own(void *slot)
{
    WEFT_TRY(weft_yield());
    return weft_await(weft_deferred_ref(*(weft_deferred **)slot));
}

static weft_result return_own(void *slot)
{
    WEFT_TRY(weft_yield());
    return weft_later(weft_deferred_ref(*(weft_deferred **)slot));
}

Test(fiber_await, of_its_own_result_is_a_misuse, .timeout = 10)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(await_own, &d);
    trace("%s", told(run_until(weft_deferred_ref(d))));
    weft_deferred_unref(d);
    d = weft_spawn(return_own, &d);
    trace("%s", told(run_until(weft_deferred_ref(d))));
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "!misuse !misuse");
    end();
}

/* The second to wait closes the circle: it gets the error, and passes it on to the first. */
Test(fiber_await, of_one_another_is_a_misuse, .timeout = 10)
{
    weft_deferred *first, *second;

    begin();
    first = weft_spawn(await_own, &second);
    second = weft_spawn(await_own, &first);
    run_for(0.01);
    finish(first, "first");
    finish(second, "second");
    cr_assert_str_eq(trace_text(), "first=!misuse second=!misuse");
    end();
}

/* The chain of a deferred goes through a fiber: the circle is first -> chained -> first. */
Test(fiber_await, of_a_deferred_that_waits_for_the_fiber_is_a_misuse, .timeout = 10)
{
    weft_deferred *fiber, *chained;

    begin();
    fiber = weft_spawn(await_own, &chained);
    chained = weft_deferred_add_both(done(weft_ok(NULL)), return_later, fiber);
    run_for(0.01);
    finish(chained, "chained");
    cr_assert_str_eq(trace_text(), "chained=!misuse");
    end();
}

/* ---- order and fairness ---- */

struct yielder {
    const char *label;
    int times;
};

static weft_result yield_and_note(void *arg)
{
    const struct yielder *yielder = arg;

    for (int i = 0; i < yielder->times; i++) {
        trace("%s", yielder->label);
        WEFT_TRY(weft_yield());
    }
    return weft_ok(NULL);
}

Test(fiber_order, of_those_that_yield_is_in_turns)
{
    struct yielder a = {"a", 3}, b = {"b", 3}, c = {"c", 3};

    begin();
    weft_deferred_unref(weft_spawn(yield_and_note, &a));
    weft_deferred_unref(weft_spawn(yield_and_note, &b));
    weft_deferred_unref(weft_spawn(yield_and_note, &c));
    settle();
    cr_assert_str_eq(trace_text(), "a b c a b c a b c");
    end();
}

Test(fiber_order, of_those_that_are_woken_is_that_of_waking)
{
    struct waiter waiters[] = {{pending(), "0"}, {pending(), "1"}, {pending(), "2"}};
    weft_deferred *fire[3];
    const int order[] = {2, 0, 1};

    begin();
    for (int i = 0; i < 3; i++) {
        fire[i] = weft_deferred_ref(waiters[i].awaited);
        weft_deferred_unref(weft_spawn(wait_and_note, &waiters[i]));
    }
    for (int i = 0; i < 3; i++) {
        weft_deferred_callback(fire[order[i]], weft_int(9));
        weft_deferred_unref(fire[order[i]]);
    }
    settle();
    cr_assert_str_eq(trace_text(), "2=9 0=9 1=9");
    end();
}

static weft_result yield_alone(void *unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++)
        WEFT_TRY(weft_yield());
    return weft_ok(NULL);
}

Test(fiber_order, of_one_that_yields_alone_is_itself_again)
{
    begin();
    cr_assert_str_eq(told(run_until(weft_spawn(yield_alone, NULL))), "nil");
    end();
}

static weft_result yield_until_told(void *stop_flag)
{
    while (!*(bool *)stop_flag)
        WEFT_TRY(weft_yield());
    return weft_ok(NULL);
}

static void see_byte(weft_io *io, int events, void *seen)
{
    (void)events;
    *(bool *)seen = true;
    weft_io_stop(io);
}

/* Two fibers that are always ready must not keep the loop from looking at its sockets and timers. */
Test(fiber_order, those_always_ready_do_not_starve_sockets_and_timers, .timeout = 10)
{
    bool seen = false, over = false;
    int ends[2];
    weft_io io;
    weft_deferred *first, *second;

    begin();
    cr_assert_eq(pipe(ends), 0);
    first = weft_spawn(yield_until_told, &over);
    second = weft_spawn(yield_until_told, &seen);
    weft_io_init(&io, see_byte, &seen);
    weft_io_start(&io, ends[0], WEFT_READABLE);
    cr_assert_eq(write(ends[1], "x", 1), 1);
    cr_assert_str_eq(told(run_until(second)), "nil");
    run_for(0.005); /* returns: the timer was seen as well */
    over = true;
    cr_assert_str_eq(told(run_until(first)), "nil");
    close(ends[0]);
    close(ends[1]);
    end();
}

static void write_nothing(weft_io *io, int events, void *seen)
{
    (void)io, (void)events;
    *(bool *)seen = true;
}

/* And the reverse: a socket that is always ready does not keep fibers from running. */
Test(fiber_order, a_socket_always_ready_does_not_starve_fibers, .timeout = 10)
{
    bool seen = false;
    int ends[2];
    weft_io io;

    begin();
    cr_assert_eq(pipe(ends), 0);
    weft_io_init(&io, write_nothing, &seen);
    weft_io_start(&io, ends[1], WEFT_WRITABLE);
    cr_assert_str_eq(told(run_until(weft_spawn(yield_until_told, &seen))), "nil");
    weft_io_stop(&io);
    close(ends[0]);
    close(ends[1]);
    end();
}

static weft_result note_sleep(void *arg)
{
    const struct yielder *sleeper = arg; /* so many seconds */

    WEFT_TRY(weft_sleep(sleeper->times));
    trace("%s", sleeper->label);
    return weft_ok(NULL);
}

Test(fiber_order, of_sleepers_is_by_their_time)
{
    struct yielder c = {"c", 3}, a = {"a", 1}, b = {"b", 2}, zero = {"zero", 0}, negative = {"negative", -5};
    weft_test_clock *time = weft_test_clock_new();
    weft_clock *reactors;

    begin();
    reactors = weft_clock_set(weft_test_clock_get_clock(time));
    weft_deferred_unref(weft_spawn(note_sleep, &c));
    weft_deferred_unref(weft_spawn(note_sleep, &a));
    weft_deferred_unref(weft_spawn(note_sleep, &b));
    weft_deferred_unref(weft_spawn(note_sleep, &zero));
    weft_deferred_unref(weft_spawn(note_sleep, &negative));
    weft_test_clock_advance(time, 3);
    weft_clock_set(reactors);
    run_all();
    cr_assert_str_eq(trace_text(), "zero negative a b c");
    weft_test_clock_free(time);
    end();
}

/* ---- being cancelled ---- */

Test(fiber_cancel, of_one_that_waits_comes_out_of_the_wait)
{
    struct waiter waiter = {stoppable(cancel_done, "canceller"), "w"};
    weft_deferred *hold = weft_deferred_ref(waiter.awaited), *d;

    begin();
    d = weft_spawn(wait_and_note, &waiter);
    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "canceller", "the fiber itself does not run inside the cancel");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "w=!cancelled d=!cancelled");
    weft_deferred_unref(hold);
    end();
}

Test(fiber_cancel, brings_its_reason)
{
    struct waiter waiter = {pending(), "w"};
    weft_deferred *hold = weft_deferred_ref(waiter.awaited), *d;

    begin();
    d = weft_spawn(wait_and_note, &waiter);
    weft_deferred_cancel_with(d, weft_error_new(&WEFT_CLIENT_GONE, "x"));
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "w=!client_gone d=!client_gone");
    weft_deferred_unref(hold);
    end();
}

Test(fiber_cancel, goes_to_the_innermost_deferred_of_what_it_waits_for)
{
    weft_deferred *inner = stoppable(cancel_done, "inner"), *outer = done(weft_ok(NULL)), *d;
    struct waiter waiter;

    begin();
    weft_deferred_add_both(outer, return_later, weft_deferred_ref(inner));
    noted(outer, "outer");
    waiter = (struct waiter){outer, "w"};
    d = weft_spawn(wait_and_note, &waiter);
    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "inner outer=!cancelled");
    weft_result_drop(run_until(d));
    cr_assert_str_eq(trace_text(), "w=!cancelled");
    weft_deferred_unref(inner);
    end();
}

Test(fiber_cancel, of_one_that_sleeps_ends_the_sleep)
{
    struct yielder sleeper = {"woke", 60 * 1000};
    weft_deferred *d;

    begin();
    d = weft_spawn(note_sleep, &sleeper);
    settle();
    cr_assert_eq(weft_live_counts_get().timers, 1);
    weft_deferred_cancel(d);
    cr_assert_eq(weft_live_counts_get().timers, 0);
    cr_assert_str_eq(told(run_until(d)), "!cancelled");
    cr_assert_str_eq(trace_text(), "");
    end();
}

Test(fiber_cancel, of_one_that_yields_comes_out_of_the_yield)
{
    struct yielder yielder = {"a", 100};
    weft_deferred *d;

    begin();
    d = weft_spawn(yield_and_note, &yielder);
    weft_deferred_cancel(d);
    cr_assert_str_eq(told(run_until(d)), "!cancelled");
    cr_assert_str_eq(trace_text(), "a");
    end();
}

Test(fiber_cancel, of_one_that_has_ended_does_nothing)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(return_arg_as_int, (void *)5);
    weft_deferred_cancel(d);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "runs d=5");
    end();
}

/* A fiber's own deferred, for those that do something to themselves. */
static weft_deferred *self;

static weft_result cancel_self_then_wait(void *unused)
{
    (void)unused;
    WEFT_TRY(weft_yield());
    weft_deferred_cancel(self);
    trace("asked");
    trace("ready=%s", told(weft_await(done(weft_int(1)))));
    trace("sleep=%s", told(weft_sleep(60)));
    trace("again=%s", told(weft_sleep(0)));
    return weft_int(1);
}

/* Asked while it runs: kept for the next wait, which is not one for something ready. */
Test(fiber_cancel, of_itself_comes_out_of_its_next_wait_and_only_that)
{
    begin();
    self = weft_spawn(cancel_self_then_wait, NULL);
    trace("d=%s", told(run_until(weft_deferred_ref(self))));
    cr_assert_str_eq(trace_text(), "asked ready=1 sleep=!cancelled again=nil d=1");
    weft_deferred_unref(self);
    end();
}

static weft_result cancel_self_then_yield(void *unused)
{
    (void)unused;
    WEFT_TRY(weft_yield());
    weft_deferred_cancel(self);
    trace("yield=%s", told(weft_yield()));
    trace("again=%s", told(weft_yield()));
    return weft_int(1);
}

Test(fiber_cancel, of_itself_comes_out_of_its_next_yield)
{
    begin();
    self = weft_spawn(cancel_self_then_yield, NULL);
    trace("d=%s", told(run_until(weft_deferred_ref(self))));
    cr_assert_str_eq(trace_text(), "yield=!cancelled again=nil d=1");
    weft_deferred_unref(self);
    end();
}

static weft_result cancel_self_then_await(void *deferred)
{
    WEFT_TRY(weft_yield());
    weft_deferred_cancel(self);
    return note(weft_await(deferred), (char[]){"await"});
}

Test(fiber_cancel, of_itself_runs_the_canceller_of_what_it_waits_for_next)
{
    begin();
    self = weft_spawn(cancel_self_then_await, stoppable(cancel_done, "canceller"));
    trace("d=%s", told(run_until(weft_deferred_ref(self))));
    cr_assert_str_eq(trace_text(), "canceller await=!cancelled d=!cancelled");
    weft_deferred_unref(self);
    end();
}

Test(fiber_cancel, of_itself_waits_for_work_that_ends_later)
{
    weft_deferred *work = stoppable(cancel_later, "canceller");

    begin();
    self = weft_spawn(cancel_self_then_await, weft_deferred_ref(work));
    settle();
    cr_assert_str_eq(trace_text(), "canceller");
    weft_deferred_callback(work, weft_int(4));
    trace("d=%s", told(run_until(weft_deferred_ref(self))));
    cr_assert_str_eq(trace_text(), "await=4 d=4");
    weft_deferred_unref(self);
    weft_deferred_unref(work);
    end();
}

static weft_result cancel_self_and_return(void *unused)
{
    (void)unused;
    WEFT_TRY(weft_yield());
    weft_deferred_cancel(self);
    return weft_int(6);
}

Test(fiber_cancel, of_itself_right_before_it_ends_changes_nothing)
{
    begin();
    self = weft_spawn(cancel_self_and_return, NULL);
    trace("d=%s", told(run_until(weft_deferred_ref(self))));
    cr_assert_str_eq(trace_text(), "d=6");
    weft_deferred_unref(self);
    end();
}

static weft_result wait_twice(void *arg)
{
    weft_deferred **both = arg;

    trace("first=%s", told(weft_await(both[0])));
    trace("second=%s", told(weft_await(both[1])));
    return weft_int(1);
}

/* Between the waking and the running: the value wins, the next wait is interrupted. */
Test(fiber_cancel, after_it_was_woken_comes_out_of_the_next_wait)
{
    weft_deferred *both[] = {pending(), stoppable(cancel_done, "canceller")}, *fire = weft_deferred_ref(both[0]), *d;

    begin();
    d = weft_spawn(wait_twice, both);
    weft_deferred_callback(fire, weft_int(1));
    weft_deferred_cancel(d);
    weft_deferred_cancel(d);
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "first=1 canceller second=!cancelled d=1");
    weft_deferred_unref(fire);
    end();
}

/* What it waited for is gone by then, and its memory may be another's already. */
Test(fiber_cancel, after_it_was_woken_does_not_touch_what_it_waited_for)
{
    struct waiter waiter = {pending(), "w"};
    weft_deferred *fire = weft_deferred_ref(waiter.awaited), *next, *d;

    begin();
    d = weft_spawn(wait_and_note, &waiter);
    weft_deferred_callback(fire, weft_int(1));
    weft_deferred_unref(fire);
    next = stoppable(cancel_done, "another");
    weft_deferred_cancel(d);
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "w=1 d=1");
    weft_deferred_unref(next);
    end();
}

static weft_result cancel_the_fiber(weft_result result, void *slot)
{
    weft_deferred_cancel(*(weft_deferred **)slot);
    return result;
}

/* While what it waits for is running its callbacks: too late for that wait, so it is kept for the next. */
Test(fiber_cancel, while_what_it_waits_for_runs_its_callbacks_is_not_lost)
{
    weft_deferred *both[] = {pending(), stoppable(cancel_done, "canceller")}, *fire = weft_deferred_ref(both[0]), *d;

    begin();
    weft_deferred_add_both(both[0], cancel_the_fiber, &d);
    d = weft_spawn(wait_twice, both);
    weft_deferred_callback(fire, weft_int(1));
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "first=1 canceller second=!cancelled d=1");
    weft_deferred_unref(fire);
    end();
}

Test(fiber_cancel, twice_interrupts_two_waits)
{
    weft_deferred *both[] = {stoppable(cancel_done, "c1"), stoppable(cancel_done, "c2")}, *d;
    weft_deferred *hold[] = {weft_deferred_ref(both[0]), weft_deferred_ref(both[1])};

    begin();
    d = weft_spawn(wait_twice, both);
    weft_deferred_cancel(d);
    settle();
    cr_assert_str_eq(trace_text(), "c1 first=!cancelled");
    weft_deferred_cancel(d);
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "c2 second=!cancelled d=1");
    weft_deferred_unref(hold[0]);
    weft_deferred_unref(hold[1]);
    end();
}

Test(fiber_cancel, twice_before_it_runs_interrupts_the_wait_and_the_next)
{
    weft_deferred *both[] = {stoppable(cancel_done, "c1"), stoppable(cancel_done, "c2")}, *d;
    weft_deferred *hold[] = {weft_deferred_ref(both[0]), weft_deferred_ref(both[1])};

    begin();
    d = weft_spawn(wait_twice, both);
    weft_deferred_cancel(d);
    weft_deferred_cancel(d);
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "c1 first=!cancelled c2 second=!cancelled d=1");
    weft_deferred_unref(hold[0]);
    weft_deferred_unref(hold[1]);
    end();
}

Test(fiber_cancel, of_work_that_resists_waits_until_it_has_stopped)
{
    struct waiter waiter = {stoppable(cancel_later, "canceller"), "w"};
    weft_deferred *work = weft_deferred_ref(waiter.awaited), *d;

    begin();
    d = weft_spawn(wait_and_note, &waiter);
    weft_deferred_cancel(d);
    weft_deferred_cancel(d);
    settle();
    cr_assert_str_eq(trace_text(), "canceller");
    weft_deferred_callback(work, weft_int(8));
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "w=8 d=8", "its value came first after all");
    weft_deferred_unref(work);
    end();
}

/* The second finds nothing to do about this wait any more, so it is for the next. */
Test(fiber_cancel, twice_of_work_that_resists_comes_out_of_the_next_wait_too)
{
    weft_deferred *both[] = {stoppable(cancel_later, "c1"), stoppable(cancel_done, "c2")}, *d;
    weft_deferred *hold[] = {weft_deferred_ref(both[0]), weft_deferred_ref(both[1])};

    begin();
    d = weft_spawn(wait_twice, both);
    weft_deferred_cancel(d);
    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "c1");
    weft_deferred_callback(hold[0], weft_int(8));
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "first=8 c2 second=!cancelled d=1");
    weft_deferred_unref(hold[0]);
    weft_deferred_unref(hold[1]);
    end();
}

static weft_result clean_up_after_cancel(void *unused)
{
    weft_result result;

    (void)unused;
    result = weft_sleep(60);
    trace("cleans_up");
    cr_assert_str_eq(told(weft_sleep(0.001)), "nil");
    trace("cleaned_up");
    return result;
}

Test(fiber_cancel, leaves_clean_up_free_to_wait)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(clean_up_after_cancel, NULL);
    weft_deferred_cancel(d);
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "cleans_up cleaned_up d=!cancelled");
    end();
}

static weft_result swallow(void *unused)
{
    (void)unused;
    weft_result_drop(weft_sleep(60));
    return weft_int(1);
}

Test(fiber_cancel, may_be_handled_and_becomes_a_success)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(swallow, NULL);
    weft_deferred_cancel(d);
    cr_assert_str_eq(told(run_until(d)), "1");
    end();
}

struct level {
    const char *label;
    struct level *below;
    weft_deferred *awaited;
};

static weft_result wait_for_below(void *arg)
{
    const struct level *level = arg;

    return note(weft_await(level->below ? weft_spawn(wait_for_below, level->below) : level->awaited),
                (void *)level->label);
}

/* N4. */
Test(fiber_cancel, goes_down_through_three_fibers_and_comes_up_frame_by_frame)
{
    struct level inner = {"inner", NULL, stoppable(cancel_done, "canceller")};
    struct level middle = {"middle", &inner, NULL}, outer = {"outer", &middle, NULL};
    weft_deferred *hold = weft_deferred_ref(inner.awaited), *d;

    begin();
    d = weft_spawn(wait_for_below, &outer);
    weft_deferred_cancel(d);
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(),
                     "canceller inner=!cancelled middle=!cancelled outer=!cancelled d=!cancelled");
    weft_deferred_unref(hold);
    end();
}

enum { DEEP = 5000 };
static struct level levels[DEEP];

static weft_result cancel_from_a_fiber(void *deferred)
{
    weft_deferred_cancel(deferred);
    return weft_ok(NULL);
}

/* On a fiber's stack of 128 KiB: cancelling must not recurse however many fibers wait for one another. */
Test(fiber_cancel, through_thousands_of_fibers_does_not_recurse, .timeout = 30)
{
    weft_deferred *innermost = stoppable(cancel_done, "canceller"), *outermost = NULL;

    begin();
    /* From the innermost outwards, so that starting them does not nest either. */
    for (int i = 0; i < DEEP; i++) {
        levels[i] = (struct level){"x", NULL, outermost ? outermost : weft_deferred_ref(innermost)};
        outermost = weft_spawn(wait_for_below, &levels[i]);
    }
    weft_deferred_unref(weft_spawn(cancel_from_a_fiber, outermost));
    cr_assert_str_eq(trace_text(), "canceller");
    cr_assert_str_eq(told(run_until(outermost)), "!cancelled");
    trace_text();
    weft_deferred_unref(innermost);
    end();
}

/* ---- contexts: G1, G6, G9, G13, G16 ---- */

static weft_result note_around_waits(void *label)
{
    weft_log_info("%s begins", (const char *)label);
    WEFT_TRY(weft_sleep(0));
    weft_log_info("%s slept", (const char *)label);
    WEFT_TRY(weft_yield());
    weft_log_info("%s yielded", (const char *)label);
    WEFT_TRY(weft_await(done(weft_ok(NULL))));
    weft_log_info("%s ends", (const char *)label);
    return weft_ok(NULL);
}

Test(fiber_context, of_the_starter_is_the_fibers_on_every_line)
{
    begin();
    log_capture();
    weft_deferred_unref(spawn_in("GET-1", note_around_waits, (char[]){"one"}));
    weft_deferred_unref(spawn_in("GET-2", note_around_waits, (char[]){"two"}));
    settle();
    cr_assert_eq(log_count(""), 8);
    cr_assert_eq(log_count("INFO GET-1 one"), 4);
    cr_assert_eq(log_count("INFO GET-2 two"), 4);
    cr_assert_null(weft_context_current());
    cr_assert_eq(weft_live_counts_get().contexts, 0, "they are let go of");
    end();
}

static weft_result change_own_context(void *name)
{
    weft_context *starters = enter(name);

    trace("%s", weft_context_get_name(weft_context_current()));
    WEFT_TRY(weft_sleep(0));
    trace("%s", weft_context_get_name(weft_context_current()));
    leave(starters);
    trace("%s", weft_context_get_name(weft_context_current()));
    return weft_ok(NULL);
}

Test(fiber_context, that_a_fiber_sets_is_its_own_and_comes_back_after_a_wait)
{
    begin();
    weft_deferred_unref(spawn_in("starter", change_own_context, (char[]){"x"}));
    weft_deferred_unref(spawn_in("other", change_own_context, (char[]){"y"}));
    cr_assert_null(weft_context_current());
    settle();
    cr_assert_str_eq(trace_text(), "x y x starter y other");
    end();
}

static weft_result leave_context_behind(void *unused)
{
    (void)unused;
    weft_context_unref(weft_context_set(weft_context_new("left")));
    return weft_yield();
}

Test(fiber_context, that_a_fiber_leaves_behind_goes_with_it)
{
    begin();
    log_capture();
    weft_deferred_unref(spawn_in("starter", leave_context_behind, NULL));
    cr_assert_null(weft_context_current());
    settle();
    cr_assert_eq(weft_live_counts_get().contexts, 0);
    cr_assert_eq(log_count(""), 0);
    end();
}

static weft_result fire_and_note_context(void *deferred)
{
    weft_deferred_callback(deferred, weft_ok(NULL));
    trace("firer@%s", weft_context_get_name(weft_context_current()));
    return weft_ok(NULL);
}

Test(fiber_context, is_not_changed_by_firing_what_others_wait_for)
{
    struct waiter waiter = {pending(), "w"};
    weft_deferred *fire = weft_deferred_ref(waiter.awaited);

    begin();
    weft_deferred_unref(spawn_in("waiter", wait_and_note, &waiter));
    weft_deferred_unref(spawn_in("firer", fire_and_note_context, fire));
    settle();
    cr_assert_str_eq(trace_text(), "firer@firer w=nil");
    weft_deferred_unref(fire);
    end();
}

Test(fiber_context, of_a_callback_on_a_fibers_deferred_is_its_adders)
{
    weft_deferred *d;
    weft_context *previous;

    begin();
    d = spawn_in("fiber", yield_once, NULL);
    previous = enter("adder");
    context_noted(d, "c");
    leave(previous);
    weft_deferred_unref(d);
    settle();
    cr_assert_str_eq(trace_text(), "c@adder");
    end();
}

/* ---- many ---- */

#ifdef WEFT_TEST_SANITIZED
enum { PARKED = 2000 }; /* ThreadSanitizer has room for 8,000 */
#else
enum { PARKED = 10000 };
#endif

static weft_result count_cancelled(void *counter)
{
    weft_result result = weft_sleep(60);

    *(int *)counter += weft_error_is(weft_failed(result), &WEFT_CANCELLED);
    return result;
}

Test(fiber_many, ten_thousand_wait_and_are_cancelled_together, .timeout = 30)
{
    static weft_deferred *parked[PARKED];
    int counter = 0;

    begin();
    for (int i = 0; i < PARKED; i++)
        parked[i] = weft_spawn(count_cancelled, &counter);
    cr_assert_eq(weft_live_counts_get().fibers, PARKED);
    settle();
    for (int i = 0; i < PARKED; i++)
        weft_deferred_cancel(parked[i]);
    cr_assert_eq(counter, 0);
    run_all();
    cr_assert_eq(counter, PARKED);
    for (int i = 0; i < PARKED; i++)
        weft_deferred_unref(parked[i]);
    end();
}

struct bounds {
    uintptr_t low, high;
};

static weft_result note_stack(void *arg)
{
    struct bounds *bounds = arg;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    if (here < bounds->low)
        bounds->low = here;
    if (here > bounds->high)
        bounds->high = here;
    return weft_ok(NULL);
}

Test(fiber_many, a_hundred_thousand_one_after_the_other_use_one_stack, .timeout = 30)
{
    struct bounds bounds = {UINTPTR_MAX, 0};

    begin();
    for (int i = 0; i < MANY / 10; i++)
        weft_deferred_unref(weft_spawn(note_stack, &bounds));
    cr_assert_lt(bounds.high - bounds.low, 128 * 1024);
    end();
}

#ifndef WEFT_TEST_SANITIZED
static long resident_pages(void)
{
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    cr_assert_eq(fscanf(file, "%ld %ld", &size, &resident), 2);
    fclose(file);
    return resident;
}

/* A parked fiber costs the memory that it touched: with its struct and a shallow stack, one page or two. */
Test(fiber_many, ten_thousand_that_wait_cost_few_pages_each, .timeout = 30)
{
    int counter = 0;
    long before;

    begin();
    weft_deferred_unref(weft_spawn(count_cancelled, &counter));
    before = resident_pages();
    for (int i = 0; i < PARKED; i++)
        weft_deferred_unref(weft_spawn(count_cancelled, &counter));
    cr_assert_lt(resident_pages() - before, 3 * PARKED);
    end();
}
#endif

/* ---- the end of the reactor ---- */

static weft_result note_shutdown(void *label)
{
    return note(weft_sleep(60), label);
}

Test(fiber_end, of_the_reactor_cancels_those_that_are_left)
{
    log_capture();
    begin();
    weft_deferred_unref(weft_spawn(note_shutdown, (char[]){"a"}));
    weft_deferred_unref(weft_spawn(note_shutdown, (char[]){"b"}));
    settle();
    end();
    cr_assert_str_eq(trace_text(), "b=!shutdown a=!shutdown");
    cr_assert_eq(log_count(""), 0);
}

static double seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static weft_result clean_up_for_long(void *unused)
{
    (void)unused;
    weft_result_drop(weft_sleep(60));
    cr_assert_str_eq(told(weft_sleep(0.3)), "nil");
    trace("cleaned_up");
    return weft_ok(NULL);
}

Test(fiber_end, of_the_reactor_waits_for_clean_up_not_longer_and_without_spinning)
{
    double cpu, wall;

    begin();
    weft_deferred_unref(weft_spawn(clean_up_for_long, NULL));
    run_for(0.001);
    cpu = seconds(CLOCK_THREAD_CPUTIME_ID), wall = seconds(CLOCK_MONOTONIC);
    end();
    cr_assert_str_eq(trace_text(), "cleaned_up");
    cr_assert_lt(seconds(CLOCK_THREAD_CPUTIME_ID) - cpu, 0.15);
    cr_assert_lt(seconds(CLOCK_MONOTONIC) - wall, 3, "the last one has ended");
}

static weft_result spawn_after_cancel(void *unused)
{
    (void)unused;
    weft_result_drop(weft_sleep(60));
    weft_deferred_unref(weft_spawn(sleep_a_moment, NULL));
    return weft_ok(NULL);
}

Test(fiber_end, of_the_reactor_waits_for_those_started_by_clean_up)
{
    begin();
    weft_deferred_unref(weft_spawn(spawn_after_cancel, NULL));
    end();
    cr_assert_str_eq(trace_text(), "slept");
}

static weft_result run_reactor_in_clean_up(void *unused)
{
    (void)unused;
    weft_result_drop(weft_sleep(60));
    trace("%s", told(weft_reactor_run_until(weft_reactor_current(), weft_deferred_with(weft_int(1)))));
    return weft_ok(NULL);
}

Test(fiber_end, of_the_reactor_is_no_time_to_run_it_inside)
{
    begin();
    weft_deferred_unref(weft_spawn(run_reactor_in_clean_up, NULL));
    end();
    cr_assert_str_eq(trace_text(), "!misuse");
}

static void spawn_in_call(void *unused)
{
    (void)unused;
    weft_deferred_unref(weft_spawn(note_shutdown, (void *)(uintptr_t)"late"));
}

Test(fiber_end, of_the_reactor_cancels_those_started_by_the_calls_that_were_left)
{
    begin();
    weft_reactor_call_from_thread(weft_reactor_current(), spawn_in_call, NULL);
    end();
    cr_assert_str_eq(trace_text(), "late=!shutdown");
}

Test(fiber_end, of_the_reactor_lets_another_begin)
{
    for (int i = 0; i < 3; i++) {
        begin();
        cr_assert_str_eq(told(run_until(weft_spawn(yield_once, NULL))), "nil");
        end();
    }
}

static void fibers_of_a_thread(void *unused)
{
    weft_reactor *own;

    (void)unused;
    cr_assert_null(weft_reactor_new(&own));
    for (int i = 0; i < 100; i++)
        cr_assert_str_eq(told(weft_reactor_run_until(own, weft_spawn(yield_once, NULL))), "nil");
    weft_reactor_free(own);
}

#ifndef WEFT_TEST_SANITIZED
static void *free_with_a_stuck_fiber(void *unused)
{
    weft_deferred *work = stoppable(cancel_later, "canceller");
    struct waiter waiter = {weft_deferred_ref(work), "w"};
    weft_reactor *own;

    cr_assert_null(weft_reactor_new(&own));
    weft_deferred_unref(weft_spawn(wait_and_note, &waiter));
    weft_reactor_free(own);
    cr_assert_str_eq(trace_text(), "canceller");

    cr_assert_null(weft_reactor_new(&own));
    weft_deferred_callback(work, weft_int(1));
    weft_deferred_unref(work);
    cr_assert_str_eq(told(weft_reactor_run_until(own, weft_spawn(yield_once, NULL))), "nil");
    cr_assert_str_eq(trace_text(), "", "the stuck one never runs again");
    weft_reactor_free(own);
    return unused;
}

/* In a thread of its own, whose counts go with it: what cannot be ended is lost. */
Test(slow_fiber, that_does_not_end_holds_the_end_of_the_reactor_up_for_5_seconds, .timeout = 20)
{
    pthread_t thread;
    double before = seconds(CLOCK_MONOTONIC);

    log_capture();
    cr_assert_eq(pthread_create(&thread, NULL, free_with_a_stuck_fiber, NULL), 0);
    pthread_join(thread, NULL);
    cr_assert_float_eq(seconds(CLOCK_MONOTONIC) - before, 5, 1);
    cr_assert_eq(log_count("the fiber wait_and_note did not end when its reactor was freed: it waits at "), 1);
    cr_assert_eq(log_count("test_fiber.c:"), 1, "and its place is told");
}
#endif

static void *fibers_of_a_pthread(void *unused)
{
    fibers_of_a_thread(unused);
    return NULL;
}

Test(fiber, of_several_threads_are_each_threads_own)
{
    pthread_t threads[3];

    for (int i = 0; i < 3; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, fibers_of_a_pthread, NULL), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    in_thread(fibers_of_a_thread, NULL);
}

/* ---- stacks ---- */

static weft_result trace_back(void *unused)
{
    void *frames[64];
    int count, again;

    (void)unused;
    count = backtrace(frames, 64);
    WEFT_TRY(weft_yield());
    again = backtrace(frames, 64);
    cr_assert_gt(count, 1);
    cr_assert_lt(count, 20, "it ends where the fiber begins");
    cr_assert_gt(again, 1);
    cr_assert_lt(again, 20);
    trace("told");
    return weft_ok(NULL);
}

Test(fiber_stack, can_be_walked_to_its_beginning)
{
    void *frames[4];

    backtrace(frames, 4); /* loads what it needs on this stack */
    begin();
    cr_assert_str_eq(told(run_until(weft_spawn(trace_back, NULL))), "nil");
    cr_assert_str_eq(trace_text(), "told");
    end();
}

static weft_result compute(void *seed)
{
    _Alignas(64) volatile double wide[8];
    _Alignas(16) volatile float narrow[4];
    char text[64];
    double sum = 0;
    long double extended = 1;

    cr_assert_eq((uintptr_t)wide % 64, 0);
    cr_assert_eq((uintptr_t)narrow % 16, 0);
    for (int i = 0; i < 8; i++)
        wide[i] = (double)(intptr_t)seed + i / 8.0;
    for (int i = 0; i < 4; i++)
        narrow[i] = (float)i;
    extended /= 3;
    for (int i = 0; i < 8; i++) {
        WEFT_TRY(weft_yield());
        sum += wide[i] + narrow[i % 4];
    }
    snprintf(text, sizeof text, "%.3f %.3Lf %.3f", sum, extended, sqrt((double)(intptr_t)seed));
    trace("%s", text);
    return weft_ok(NULL);
}

Test(fiber_stack, is_aligned_and_keeps_floating_point_values)
{
    weft_deferred *all[20];

    begin();
    for (intptr_t i = 0; i < 20; i++)
        all[i] = weft_spawn(compute, (void *)(intptr_t)(i % 2 ? 4 : 9));
    for (int i = 0; i < 20; i++)
        cr_assert_str_eq(told(run_until(all[i])), "nil");
    cr_assert_eq(strncmp(trace_text(), "87.500 0.333 3.000 47.500 0.333 2.000 87.500", 44), 0);
    end();
}

/* Registers that a call must keep are kept across a wait. */
static weft_result keep_registers(void *seed)
{
    uintptr_t a = (uintptr_t)seed, b = a * 3, c = b + 7, d = c ^ a, e = d * 5, f = e + b;

    for (int i = 0; i < 100; i++) {
        uintptr_t sum = a + b + c + d + e + f;

        WEFT_TRY(weft_yield());
        cr_assert_eq(a + b + c + d + e + f, sum);
        a += 1, b += a, c ^= b, d += c, e ^= d, f += e;
    }
    return weft_int((intptr_t)(f & 0xffff));
}

Test(fiber_stack, keeps_registers_across_waits)
{
    weft_deferred *same[4];
    weft_result first;

    begin();
    for (int i = 0; i < 4; i++)
        same[i] = weft_spawn(keep_registers, (void *)(uintptr_t)(i / 2 + 11));
    first = run_until(same[0]);
    cr_assert_eq(run_until(same[1]).value, first.value);
    first = run_until(same[2]);
    cr_assert_eq(run_until(same[3]).value, first.value);
    end();
}

/* ---- what once went wrong ---- */

static weft_result spawn_sleeper_after_cancel(void *unused)
{
    (void)unused;
    weft_result_drop(weft_sleep(60));
    weft_deferred_unref(weft_spawn(note_shutdown, (void *)(uintptr_t)"late"));
    return weft_ok(NULL);
}

/* Once only those were cancelled that were there at the beginning, and the others waited for as long as it could be. */
Test(fiber_end, of_the_reactor_cancels_those_started_by_clean_up)
{
    double before;

    log_capture();
    begin();
    weft_deferred_unref(weft_spawn(spawn_sleeper_after_cancel, NULL));
    before = seconds(CLOCK_MONOTONIC);
    end();
    cr_assert_lt(seconds(CLOCK_MONOTONIC) - before, 3);
    cr_assert_str_eq(trace_text(), "late=!shutdown");
    cr_assert_eq(log_count(""), 1);
    cr_assert_eq(log_count("has swallowed that"), 1, "the one that has cleaned up");
}

/* The time-out has asked already, so the cancel can do nothing for this wait: it is for the next. */
Test(fiber_cancel, of_work_that_resists_its_time_out_comes_out_of_the_next_wait, .timeout = 10)
{
    weft_deferred *both[] = {stoppable(cancel_later, "c1"), stoppable(cancel_done, "c2")}, *d;
    weft_deferred *hold[] = {weft_deferred_ref(both[0]), weft_deferred_ref(both[1])};

    begin();
    weft_deferred_add_timeout(both[0], weft_clock_current(), 0);
    d = weft_spawn(wait_twice, both);
    settle();
    cr_assert_str_eq(trace_text(), "c1", "the time-out asked");
    weft_deferred_cancel(d);
    settle();
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_callback(hold[0], weft_int(8));
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "first=8 c2 second=!cancelled d=1");
    weft_deferred_unref(hold[0]);
    weft_deferred_unref(hold[1]);
    end();
}

/* Clocks and timers: what holds for every clock, tried on one that the test moves and on the reactor's. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- 68: a timer, on a clock that stands still until the test moves it ---- */

static weft_test_clock *manual;

static weft_clock *manual_clock(void)
{
    manual = weft_test_clock_new();
    return weft_test_clock_get_clock(manual);
}

static void say(weft_timer *timer, void *label)
{
    cr_assert_not(weft_timer_started(timer), "by then it is stopped");
    trace("%s", (const char *)label);
}

static weft_timer sayer(const char *label)
{
    weft_timer timer;

    weft_timer_init(&timer, say, (void *)label);
    return timer;
}

Test(timer, fires_once_when_its_time_has_come)
{
    weft_clock *clock = manual_clock();
    weft_timer timer = sayer("a");

    cr_assert_not(weft_timer_started(&timer));
    weft_timer_start(&timer, clock, 2);
    cr_assert(weft_timer_started(&timer));
    weft_test_clock_advance(manual, 1.5);
    cr_assert_str_eq(trace_text(), "");
    weft_test_clock_advance(manual, 0.5);
    cr_assert_str_eq(trace_text(), "a");
    weft_test_clock_advance(manual, 10);
    cr_assert_str_eq(trace_text(), "");
    weft_test_clock_free(manual);
}

Test(timer, without_a_clock_stays_stopped_and_says_so)
{
    weft_timer timer = sayer("a");
    weft_deferred *d = pending();

    log_capture();
    weft_timer_start(&timer, NULL, 1);
    weft_timer_start_due(&timer, NULL, 1);
    cr_assert_not(weft_timer_started(&timer));
    cr_assert_eq(log_count("was started without a clock"), 2);
    weft_deferred_add_timeout(d, NULL, 1);
    cr_assert_eq(log_count("was started without a clock"), 3);
    weft_deferred_callback(d, weft_ok(NULL));
    weft_deferred_unref(d);
}

Test(timer, started_again_is_moved)
{
    weft_clock *clock = manual_clock();
    weft_timer timer = sayer("a");

    weft_timer_start(&timer, clock, 1);
    weft_timer_start(&timer, clock, 3);
    cr_assert_eq(weft_live_counts_get().timers, 1);
    weft_test_clock_advance(manual, 2.5);
    cr_assert_str_eq(trace_text(), "");
    weft_test_clock_advance(manual, 1);
    cr_assert_str_eq(trace_text(), "a");
    weft_test_clock_free(manual);
}

Test(timer, may_move_to_another_clock)
{
    weft_test_clock *other = weft_test_clock_new();
    weft_clock *clock = manual_clock();
    weft_timer timer = sayer("a");

    weft_timer_start(&timer, clock, 1);
    weft_timer_start(&timer, weft_test_clock_get_clock(other), 1);
    weft_test_clock_advance(manual, 5);
    cr_assert_str_eq(trace_text(), "");
    weft_test_clock_advance(other, 5);
    cr_assert_str_eq(trace_text(), "a");
    weft_test_clock_free(manual);
    weft_test_clock_free(other);
}

Test(timer, stopped_does_not_fire)
{
    weft_clock *clock = manual_clock();
    weft_timer timer = sayer("a");

    weft_timer_stop(&timer);
    weft_timer_start(&timer, clock, 1);
    weft_timer_stop(&timer);
    weft_timer_stop(&timer);
    cr_assert_not(weft_timer_started(&timer));
    weft_test_clock_advance(manual, 5);
    cr_assert_str_eq(trace_text(), "");
    weft_test_clock_free(manual);
}

Test(timer, is_counted_while_it_is_started)
{
    weft_clock *clock = manual_clock();
    weft_timer first = sayer("a"), second = sayer("b");

    cr_assert_eq(weft_live_counts_get().timers, 0);
    weft_timer_start(&first, clock, 1);
    weft_timer_start(&second, clock, 2);
    cr_assert_eq(weft_live_counts_get().timers, 2);
    weft_test_clock_advance(manual, 1);
    cr_assert_eq(weft_live_counts_get().timers, 1);
    weft_timer_stop(&second);
    cr_assert_eq(weft_live_counts_get().timers, 0);
    trace_text();
    weft_test_clock_free(manual);
}

/* 68. Twisted raises for a call that has run or was cancelled; whoever stops a timer wants it not to fire. */
Test(timer, r68_may_be_stopped_once_it_has_fired)
{
    weft_clock *clock = manual_clock();
    weft_timer timer = sayer("a");

    weft_timer_start(&timer, clock, 1);
    weft_test_clock_advance(manual, 1);
    weft_timer_stop(&timer);
    cr_assert_not(weft_timer_started(&timer));
    cr_assert_str_eq(trace_text(), "a");
    weft_test_clock_free(manual);
}

Test(timer, r68_knows_when_it_is_due)
{
    weft_clock *clock = manual_clock();
    weft_timer timer = sayer("a");

    cr_assert_eq(weft_timer_remaining(&timer), HUGE_VAL, "it is stopped");
    weft_test_clock_advance(manual, 1);
    weft_timer_start(&timer, clock, 2.5);
    cr_assert_eq(timer.due, 3500000000);
    cr_assert_eq(weft_timer_remaining(&timer), 2.5);
    weft_test_clock_advance(manual, 2);
    cr_assert_eq(weft_timer_remaining(&timer), 0.5);
    weft_test_clock_stall(manual, 2);
    cr_assert_eq(weft_timer_remaining(&timer), 0, "it is overdue");
    weft_timer_stop(&timer);
    cr_assert_eq(weft_timer_remaining(&timer), HUGE_VAL);
    weft_timer_start(&timer, clock, HUGE_VAL);
    cr_assert_eq(weft_timer_remaining(&timer), HUGE_VAL, "it will never be due");
    weft_timer_stop(&timer);
    weft_test_clock_free(manual);
}

Test(timer, r68_is_delayed_from_when_it_was_due)
{
    weft_clock *clock = manual_clock();
    weft_timer timer = sayer("a");

    cr_assert_not(weft_timer_delay(&timer, 1), "it is stopped");
    cr_assert_not(weft_timer_started(&timer));
    weft_timer_start(&timer, clock, 2);
    weft_test_clock_advance(manual, 1);
    cr_assert(weft_timer_delay(&timer, 3));
    cr_assert_eq(timer.due, 5000000000);
    cr_assert(weft_timer_delay(&timer, -1.5));
    cr_assert_eq(timer.due, 3500000000);
    cr_assert(weft_timer_delay(&timer, NAN));
    cr_assert_eq(timer.due, 3500000000);
    cr_assert_eq(weft_live_counts_get().timers, 1);
    weft_test_clock_advance(manual, 2.4);
    cr_assert_str_eq(trace_text(), "");
    weft_test_clock_advance(manual, 0.1);
    cr_assert_str_eq(trace_text(), "a");
    weft_test_clock_free(manual);
}

Test(timer, delayed_to_before_now_fires_on_the_next_round)
{
    weft_clock *clock = manual_clock();
    weft_timer timer = sayer("a");

    weft_timer_start(&timer, clock, 2);
    weft_test_clock_advance(manual, 1);
    cr_assert(weft_timer_delay(&timer, -HUGE_VAL));
    cr_assert_str_eq(trace_text(), "");
    cr_assert_eq(weft_timer_remaining(&timer), 0);
    cr_assert_eq(weft_test_clock_turn(manual), 1);
    cr_assert_str_eq(trace_text(), "a");
    weft_test_clock_free(manual);
}

Test(timer, delayed_for_ever_never_fires_and_stays_so)
{
    weft_clock *clock = manual_clock();
    weft_timer timer = sayer("a");

    weft_timer_start(&timer, clock, 2);
    cr_assert(weft_timer_delay(&timer, HUGE_VAL));
    cr_assert(weft_timer_delay(&timer, -1));
    cr_assert_eq(timer.due, INT64_MAX);
    weft_test_clock_advance(manual, 1e9);
    weft_timer_stop(&timer);
    cr_assert_str_eq(trace_text(), "");
    weft_test_clock_free(manual);
}

Test(timer, may_be_started_for_an_instant)
{
    weft_clock *clock = manual_clock();
    weft_timer timer = sayer("a"), past = sayer("b");

    weft_test_clock_advance(manual, 1);
    weft_timer_start_due(&timer, clock, 1500000001);
    weft_timer_start_due(&past, clock, 5);
    cr_assert_eq(weft_test_clock_turn(manual), 1, "one that has passed is now");
    weft_test_clock_advance(manual, 0.5);
    cr_assert_str_eq(trace_text(), "b");
    weft_test_clock_advance(manual, 1e-9);
    cr_assert_str_eq(trace_text(), "a");
    weft_test_clock_free(manual);
}

/* ---- the clock of a thread ---- */

Test(clock, there_is_none_at_first_and_what_is_set_comes_back)
{
    weft_clock *clock = manual_clock();

    cr_assert_null(weft_clock_current());
    cr_assert_null(weft_clock_set(clock));
    cr_assert_eq(weft_clock_current(), clock);
    cr_assert_eq(weft_clock_now(clock), weft_clock_recent(clock));
    cr_assert_eq(weft_clock_set(NULL), clock);
    cr_assert_null(weft_clock_current());
    weft_test_clock_free(manual);
}

static void has_no_clock(void *unused)
{
    (void)unused;
    cr_assert_null(weft_clock_current());
}

Test(clock, belongs_to_one_thread)
{
    weft_clock_set(manual_clock());
    in_thread(has_no_clock, NULL);
    weft_clock_set(NULL);
    weft_test_clock_free(manual);
}

/* ---- the reactor's clock ---- */

static weft_reactor *reactor;

static void with_reactor(void)
{
    cr_assert_null(weft_reactor_new(&reactor));
}

static void without_reactor(void)
{
    reactor = weft_reactor_free(reactor);
}

static int64_t monotonic(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void stop(weft_timer *timer, void *unused)
{
    (void)timer, (void)unused;
    weft_reactor_stop(weft_reactor_current());
}

/* Lets the reactor turn for so long. */
static void run_for(double seconds)
{
    weft_timer timer;

    weft_timer_init(&timer, stop, NULL);
    weft_timer_start(&timer, weft_reactor_get_clock(reactor), seconds);
    weft_reactor_run(reactor);
}

Test(reactor_clock, is_the_clock_of_the_thread_and_monotonic)
{
    int64_t before, after;

    with_reactor();
    cr_assert_eq(weft_clock_current(), weft_reactor_get_clock(reactor));
    before = monotonic();
    after = weft_clock_now(weft_clock_current());
    cr_assert_geq(after, before);
    cr_assert_leq(after, monotonic());
    without_reactor();
    cr_assert_null(weft_clock_current());
}

static void look_after_30_ms(weft_timer *timer, void *unused)
{
    int64_t began = weft_clock_recent(weft_clock_current()), until = monotonic() + 30 * 1000000;

    (void)timer, (void)unused;
    while (monotonic() < until)
        ;
    cr_assert_eq(weft_clock_recent(weft_clock_current()), began, "it stands still for the turn");
    cr_assert_leq(began, monotonic() - 30 * 1000000);
    trace("looked");
}

Test(reactor_clock, recent_is_when_the_turn_began)
{
    int64_t before;
    weft_timer timer;

    with_reactor();
    weft_timer_init(&timer, look_after_30_ms, NULL);
    weft_timer_start(&timer, weft_clock_current(), 0);
    run_for(0.05);
    before = monotonic();
    run_for(0.02);
    cr_assert_geq(weft_clock_recent(weft_clock_current()), before, "and is new in the next");
    cr_assert_str_eq(trace_text(), "looked");
    without_reactor();
}

Test(reactor_timer, fires_not_early_and_in_the_order_of_time)
{
    weft_timer first, second, third;
    int64_t before;

    with_reactor();
    first = sayer("first"), second = sayer("second"), third = sayer("third");
    before = monotonic();
    weft_timer_start(&third, weft_clock_current(), 0.3);
    weft_timer_start(&first, weft_clock_current(), 0.1);
    weft_timer_start(&second, weft_clock_current(), 0.2);
    run_for(0.4);
    cr_assert_geq(monotonic() - before, 400 * 1000000);
    cr_assert_str_eq(trace_text(), "first second third");
    without_reactor();
}

Test(reactor_timer, started_for_no_time_or_less_fires_on_the_next_round)
{
    weft_timer zero, negative, nonsense;

    with_reactor();
    zero = sayer("zero"), negative = sayer("negative"), nonsense = sayer("nan");
    weft_timer_start(&zero, weft_clock_current(), 0);
    weft_timer_start(&negative, weft_clock_current(), -5);
    weft_timer_start(&nonsense, weft_clock_current(), NAN);
    cr_assert_str_eq(trace_text(), "", "not inside the call that starts it");
    run_for(0.01);
    cr_assert_str_eq(trace_text(), "zero negative nan");
    without_reactor();
}

Test(reactor_timer, started_for_ever_can_be_stopped)
{
    weft_timer timer;

    with_reactor();
    timer = sayer("never");
    weft_timer_start(&timer, weft_clock_current(), HUGE_VAL);
    run_for(0.01);
    weft_timer_stop(&timer);
    cr_assert_str_eq(trace_text(), "");
    without_reactor();
}

Test(reactor_timer, knows_when_it_is_due_and_can_be_delayed)
{
    weft_timer timer;
    int64_t before, fired;
    double remaining;

    with_reactor();
    timer = sayer("a");
    before = monotonic();
    weft_timer_start(&timer, weft_clock_current(), 3600);
    cr_assert_geq(timer.due - before, 3600 * INT64_C(1000000000));
    remaining = weft_timer_remaining(&timer);
    cr_assert(remaining <= 3600 && remaining > 3590);
    cr_assert(weft_timer_delay(&timer, -3599.95));
    cr_assert_geq(timer.due - before, 50 * 1000000);
    while (weft_timer_started(&timer))
        run_for(0.02);
    fired = monotonic();
    cr_assert_geq(fired, timer.due);
    cr_assert_eq(weft_timer_remaining(&timer), HUGE_VAL);
    cr_assert_str_eq(trace_text(), "a");
    without_reactor();
}

static void stop_itself(weft_timer *timer, void *unused)
{
    (void)unused;
    weft_timer_stop(timer);
    trace("stopped");
}

Test(reactor_timer, may_be_stopped_in_its_own_callback)
{
    weft_timer timer;

    with_reactor();
    weft_timer_init(&timer, stop_itself, NULL);
    weft_timer_start(&timer, weft_clock_current(), 0);
    run_for(0.01);
    cr_assert_str_eq(trace_text(), "stopped");
    without_reactor();
}

static void count_down(weft_timer *timer, void *arg)
{
    int *left = arg;

    trace("%d", *left);
    if (--*left)
        weft_timer_start(timer, weft_clock_current(), 0);
    else
        weft_reactor_stop(reactor);
}

Test(reactor_timer, may_be_started_again_in_its_own_callback)
{
    weft_timer timer;
    int left = 3;

    with_reactor();
    weft_timer_init(&timer, count_down, &left);
    weft_timer_start(&timer, weft_clock_current(), 0);
    weft_reactor_run(reactor);
    cr_assert_str_eq(trace_text(), "3 2 1");
    without_reactor();
}

static void free_itself(weft_timer *timer, void *unused)
{
    (void)unused;
    memset(timer, 0xff, sizeof *timer);
    free(timer);
    trace("freed");
}

Test(reactor_timer, may_be_freed_in_its_own_callback)
{
    weft_timer *timer = malloc(sizeof *timer);

    with_reactor();
    weft_timer_init(timer, free_itself, NULL);
    weft_timer_start(timer, weft_clock_current(), 0);
    run_for(0.01);
    cr_assert_str_eq(trace_text(), "freed");
    without_reactor();
}

static void stop_other(weft_timer *timer, void *other)
{
    (void)timer;
    trace("first");
    weft_timer_stop(other);
}

Test(reactor_timer, due_in_the_same_turn_may_be_stopped_by_an_earlier_one)
{
    weft_timer first, second;

    with_reactor();
    second = sayer("second");
    weft_timer_init(&first, stop_other, &second);
    weft_timer_start(&first, weft_clock_current(), 0);
    weft_timer_start(&second, weft_clock_current(), 0.000001);
    run_for(0.01);
    cr_assert_str_eq(trace_text(), "first");
    without_reactor();
}

struct measured {
    weft_timer inner;
    int64_t started, fired;
};

static void fired_now(weft_timer *timer, void *arg)
{
    (void)timer;
    ((struct measured *)arg)->fired = monotonic();
}

static void start_after_a_long_turn(weft_timer *timer, void *arg)
{
    struct measured *measured = arg;
    int64_t until = monotonic() + 30 * 1000000;

    (void)timer;
    while (monotonic() < until)
        ;
    measured->started = monotonic();
    weft_timer_start(&measured->inner, weft_clock_current(), 0.02);
}

/* libev counts from the beginning of the turn: without correction this one fired 30 ms early, at once. */
Test(reactor_timer, started_late_in_a_long_turn_is_not_early)
{
    struct measured measured;
    weft_timer outer;

    with_reactor();
    weft_timer_init(&measured.inner, fired_now, &measured);
    weft_timer_init(&outer, start_after_a_long_turn, &measured);
    weft_timer_start(&outer, weft_clock_current(), 0);
    run_for(0.1);
    cr_assert_geq(measured.fired - measured.started, 20 * 1000000 - 1000);
    without_reactor();
}

static void note_timer_context(weft_timer *timer, void *label)
{
    (void)timer;
    trace("%s@%s", (const char *)label, weft_context_get_name(weft_context_current()));
}

Test(reactor_timer, fires_in_no_context_whoever_started_it)
{
    weft_timer timer;
    weft_context *previous;

    with_reactor();
    previous = enter("starter");
    weft_timer_init(&timer, note_timer_context, (char[]){"t"});
    weft_timer_start(&timer, weft_clock_current(), 0);
    leave(previous);
    run_for(0.01);
    cr_assert_str_eq(trace_text(), "t@-");
    without_reactor();
}

/* ---- a clock of the test's drives what would else take real time ---- */

Test(clock, of_a_test_drives_timeouts)
{
    weft_deferred *d = pending();

    weft_deferred_add_timeout(d, manual_clock(), 3600);
    weft_test_clock_advance(manual, 3599);
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    weft_test_clock_advance(manual, 1);
    cr_assert_str_eq(told(weft_deferred_take_result(d)), "!timed_out");
    weft_deferred_unref(d);
    weft_test_clock_free(manual);
}

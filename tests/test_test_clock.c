/* The test clock: it goes from one due time to the next, never drifts, and does not let a test hang. Rule 69 of Twisted's
 * Clock with its [C], and pitfall 19: a fake clock that differs from a real one. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static weft_test_clock *tc;

/* Makes it, too. */
static weft_clock *the_clock(void)
{
    if (!tc)
        tc = weft_test_clock_new();
    return weft_test_clock_get_clock(tc);
}

static double seconds(void)
{
    return (double)weft_clock_now(the_clock()) / 1e9;
}

static void say(weft_timer *timer, void *label)
{
    (void)timer;
    trace("%s@%g", (const char *)label, seconds());
}

/* In place, since a started timer must not move. */
static void start(weft_timer *timer, const char *label, double after)
{
    weft_timer_init(timer, say, (void *)label);
    weft_timer_start(timer, the_clock(), after);
}

static void end(void)
{
    tc = weft_test_clock_free(tc);
}

/* ---- time ---- */

Test(test_clock, begins_at_0_and_moves_only_when_told)
{
    weft_clock *clock = the_clock();

    cr_assert_eq(weft_clock_now(clock), 0);
    cr_assert_eq(weft_clock_recent(clock), 0);
    cr_assert(weft_test_clock_advance(tc, 1.5));
    cr_assert_eq(weft_clock_now(clock), 1500000000);
    cr_assert_eq(weft_clock_recent(clock), 1500000000);
    cr_assert(weft_test_clock_advance(tc, 0));
    cr_assert_eq(weft_clock_now(clock), 1500000000);
    end();
}

Test(test_clock, does_not_drift)
{
    static const double spans[] = {0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1};
    weft_timer timer;

    start(&timer, "a", 1);
    cr_assert(weft_test_clock_pump(tc, spans, 9));
    cr_assert_str_eq(trace_text(), "");
    cr_assert(weft_test_clock_pump(tc, spans + 9, 1));
    cr_assert_str_eq(trace_text(), "a@1");
    for (int i = 0; i < 1000; i++)
        weft_test_clock_advance(tc, 1.001); /* times 1e9 that is a little less than a whole number */
    cr_assert_eq(weft_clock_now(the_clock()), 1002 * INT64_C(1000000000));
    end();
}

Test(test_clock, refuses_spans_that_are_none)
{
    static const double spans[] = {-1, NAN, HUGE_VAL, 1e300, -HUGE_VAL};
    weft_timer timer;

    log_capture();
    start(&timer, "a", 0);
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
        cr_assert_not(weft_test_clock_advance(tc, spans[i]));
        cr_assert_not(weft_test_clock_stall(tc, spans[i]));
    }
    cr_assert_eq(log_count("misuse: a test clock cannot move on by"), 10);
    cr_assert_eq(weft_clock_now(the_clock()), 0);
    cr_assert_str_eq(trace_text(), "");
    weft_timer_stop(&timer);
    end();
}

/* ---- 69: timers ---- */

Test(test_clock, r69_fires_each_timer_at_the_time_at_which_it_is_due)
{
    weft_timer a, b, c;

    start(&c, "c", 3);
    start(&a, "a", 1);
    start(&b, "b", 2.5);
    cr_assert(weft_test_clock_advance(tc, 10));
    cr_assert_str_eq(trace_text(), "a@1 b@2.5 c@3");
    cr_assert_eq(seconds(), 10);
    end();
}

Test(test_clock, r69_fires_those_due_just_at_the_end_and_none_after)
{
    weft_timer at, after;

    start(&at, "at", 2);
    start(&after, "after", 2 + 1e-9);
    weft_test_clock_advance(tc, 2);
    cr_assert_str_eq(trace_text(), "at@2");
    weft_test_clock_advance(tc, 1e-9);
    cr_assert_str_eq(trace_text(), "after@2");
    end();
}

Test(test_clock, r69_fires_equal_ones_in_the_order_of_starting)
{
    enum { TIMERS = 9 };
    static const char *const labels[TIMERS] = {"0", "1", "2", "3", "4", "5", "6", "7", "8"};
    weft_timer timers[TIMERS];

    for (int i = 0; i < TIMERS; i++)
        start(&timers[i], labels[i], 1);
    weft_timer_stop(&timers[4]);
    weft_timer_start(&timers[0], the_clock(), 1); /* started anew: the last */
    weft_test_clock_advance(tc, 1);
    cr_assert_str_eq(trace_text(), "1@1 2@1 3@1 5@1 6@1 7@1 8@1 0@1");
    end();
}

Test(test_clock, r69_moves_a_timer_that_is_started_again)
{
    weft_timer a, b;

    start(&a, "a", 1);
    start(&b, "b", 2);
    weft_timer_start(&a, the_clock(), 3);
    weft_test_clock_advance(tc, 1);
    cr_assert_str_eq(trace_text(), "");
    weft_timer_start(&b, the_clock(), 0.5);
    weft_test_clock_advance(tc, 5);
    cr_assert_str_eq(trace_text(), "b@1.5 a@3");
    end();
}

static void start_other(weft_timer *timer, void *other)
{
    (void)timer;
    trace("first@%g", seconds());
    weft_timer_start(other, the_clock(), 1);
}

/* [C] #9819: two waits of 1 s, one after the other. */
Test(test_clock, r69_fires_a_timer_that_another_starts_within_the_span)
{
    weft_timer first, second;

    weft_timer_init(&second, say, (void *)"second");
    weft_timer_init(&first, start_other, &second);
    weft_timer_start(&first, the_clock(), 1);
    weft_test_clock_advance(tc, 2);
    cr_assert_str_eq(trace_text(), "first@1 second@2");
    end();
}

Test(test_clock, r69_lets_a_timer_move_another_into_the_span_or_out_of_it)
{
    weft_timer early, late, first, second;

    start(&late, "late", 5);
    start(&early, "early", 1.5);
    weft_timer_init(&first, start_other, &early);
    weft_timer_init(&second, start_other, &late);
    weft_timer_start(&first, the_clock(), 1);
    weft_timer_start(&second, the_clock(), 1);
    weft_test_clock_advance(tc, 1.9);
    cr_assert_str_eq(trace_text(), "first@1 first@1", "early was to fire at 1.5");
    weft_test_clock_advance(tc, 0.1);
    cr_assert_str_eq(trace_text(), "early@2 late@2");
    end();
}

static void stop_other(weft_timer *timer, void *other)
{
    weft_timer_stop(timer); /* Twisted raises AlreadyCalled; here that is fine */
    weft_timer_stop(other);
    trace("stopped");
}

Test(test_clock, r69_lets_a_timer_stop_itself_and_those_due_with_it)
{
    weft_timer first, second;

    weft_timer_init(&first, stop_other, &second);
    weft_timer_start(&first, the_clock(), 1);
    start(&second, "second", 1);
    weft_test_clock_advance(tc, 2);
    cr_assert_str_eq(trace_text(), "stopped");
    end();
}

static void free_itself(weft_timer *timer, void *unused)
{
    (void)unused;
    memset(timer, 0xff, sizeof *timer);
    free(timer);
    trace("freed");
}

Test(test_clock, lets_a_timer_free_itself)
{
    weft_timer *timer = malloc(sizeof *timer), after;

    weft_timer_init(timer, free_itself, NULL);
    weft_timer_start(timer, the_clock(), 1);
    start(&after, "after", 1);
    weft_test_clock_advance(tc, 2);
    cr_assert_str_eq(trace_text(), "freed after@1");
    end();
}

/* ---- rounds ---- */

static void start_again(weft_timer *timer, void *rounds)
{
    if (--*(int *)rounds)
        weft_timer_start(timer, the_clock(), 0);
}

/* [C] #5962. */
Test(test_clock, r69_gives_up_on_a_timer_that_starts_itself_for_ever)
{
    enum { ENDLESS = 1000 * 1000 };
    int left = ENDLESS;
    weft_timer endless, other;

    log_capture();
    weft_timer_init(&endless, start_again, &left);
    weft_timer_start(&endless, the_clock(), 1);
    start(&other, "other", 2);
    cr_assert_not(weft_test_clock_advance(tc, 10));
    cr_assert_eq(ENDLESS - left, 10000);
    cr_assert_eq(log_count("ERROR - a test clock gives up at 1.000000000 s: 10000 rounds"), 1);
    cr_assert_eq(seconds(), 1, "the time is that instant");
    cr_assert(weft_timer_started(&endless));
    weft_timer_stop(&endless);
    cr_assert(weft_test_clock_advance(tc, 10), "and all goes on");
    cr_assert_str_eq(trace_text(), "other@2");
    end();
}

Test(test_clock, r69_goes_through_as_many_rounds_as_that)
{
    int left = 10000;
    weft_timer timer;

    weft_timer_init(&timer, start_again, &left);
    weft_timer_start(&timer, the_clock(), 1);
    cr_assert(weft_test_clock_advance(tc, 1));
    cr_assert_eq(left, 0);
    end();
}

static void start_again_soon(weft_timer *timer, void *rounds)
{
    if (--*(int *)rounds)
        weft_timer_start(timer, the_clock(), 1e-9);
}

Test(test_clock, counts_rounds_at_one_instant_only)
{
    int left = 50 * 1000;
    weft_timer timer;

    weft_timer_init(&timer, start_again_soon, &left);
    weft_timer_start(&timer, the_clock(), 0);
    cr_assert(weft_test_clock_advance(tc, 1));
    cr_assert_eq(left, 0);
    end();
}

static void count(weft_timer *timer, void *counter)
{
    (void)timer;
    ++*(int *)counter;
}

Test(test_clock, takes_many_timers_of_one_instant_for_one_round)
{
    enum { TIMERS = 30000 };
    weft_timer *timers = weft_alloc(TIMERS * sizeof *timers);
    int fired = 0;

    for (int i = 0; i < TIMERS; i++) {
        weft_timer_init(&timers[i], count, &fired);
        weft_timer_start(&timers[i], the_clock(), 1);
    }
    cr_assert(weft_test_clock_advance(tc, 1));
    cr_assert_eq(fired, TIMERS);
    weft_free(timers);
    end();
}

Test(test_clock, pump_ends_where_an_advance_gives_up)
{
    static const double spans[] = {1, 1, 1};
    int left = 1000 * 1000;
    weft_timer endless;

    log_capture();
    weft_timer_init(&endless, start_again, &left);
    weft_timer_start(&endless, the_clock(), 2);
    cr_assert_not(weft_test_clock_pump(tc, spans, 3));
    cr_assert_eq(seconds(), 2);
    cr_assert_eq(log_count("gives up"), 1);
    weft_timer_stop(&endless);
    cr_assert(weft_test_clock_pump(tc, spans, 3));
    cr_assert_eq(seconds(), 5);
    end();
}

Test(test_clock, turn_fires_those_due_and_none_that_they_start)
{
    int left = 1000;
    weft_timer again, now, later;

    weft_timer_init(&again, start_again, &left);
    weft_timer_start(&again, the_clock(), 0);
    start(&now, "now", 0);
    start(&later, "later", 1e-9);
    cr_assert_eq(weft_test_clock_turn(tc), 2);
    cr_assert_eq(left, 999);
    cr_assert_str_eq(trace_text(), "now@0");
    cr_assert_eq(weft_test_clock_turn(tc), 1);
    cr_assert_eq(left, 998);
    weft_timer_stop(&again);
    cr_assert_eq(weft_test_clock_turn(tc), 0);
    weft_timer_stop(&later);
    end();
}

/* ---- lateness ---- */

Test(test_clock, fires_late_what_became_due_while_nobody_looked)
{
    weft_timer a, b, c;

    start(&b, "b", 2);
    start(&a, "a", 1);
    start(&c, "c", 4);
    cr_assert(weft_test_clock_stall(tc, 3));
    cr_assert_str_eq(trace_text(), "");
    cr_assert_eq(seconds(), 3);
    weft_test_clock_advance(tc, 0);
    cr_assert_str_eq(trace_text(), "a@3 b@3");
    weft_test_clock_advance(tc, 1);
    cr_assert_str_eq(trace_text(), "c@4");
    end();
}

Test(test_clock, takes_an_instant_that_has_passed_for_now)
{
    weft_timer a, b, c;

    the_clock();
    weft_test_clock_advance(tc, 1);
    start(&a, "a", 0);
    weft_timer_init(&b, say, (void *)"b");
    weft_timer_start_due(&b, the_clock(), 5);
    start(&c, "c", 0);
    cr_assert_eq(b.due, 1000000000);
    weft_test_clock_advance(tc, 0);
    cr_assert_str_eq(trace_text(), "a@1 b@1 c@1");
    end();
}

static void take_long(weft_timer *timer, void *unused)
{
    (void)timer, (void)unused;
    trace("began@%g", seconds());
    weft_test_clock_stall(tc, 5);
}

Test(test_clock, lets_a_timer_take_long_and_others_be_late_for_it)
{
    weft_timer busy, during, after;

    weft_timer_init(&busy, take_long, NULL);
    weft_timer_start(&busy, the_clock(), 1);
    start(&during, "during", 5);
    start(&after, "after", 7);
    weft_test_clock_advance(tc, 2);
    cr_assert_str_eq(trace_text(), "began@1 during@6");
    cr_assert_eq(seconds(), 6, "it is later than was asked");
    weft_test_clock_advance(tc, 1);
    cr_assert_str_eq(trace_text(), "after@7");
    end();
}

static void advance_inside(weft_timer *timer, void *unused)
{
    (void)timer, (void)unused;
    trace("in");
    weft_test_clock_advance(tc, 3);
    trace("out@%g", seconds());
}

Test(test_clock, may_be_advanced_by_one_of_its_timers)
{
    weft_timer inside, during, later;

    weft_timer_init(&inside, advance_inside, NULL);
    weft_timer_start(&inside, the_clock(), 1);
    start(&during, "during", 3);
    start(&later, "later", 5);
    weft_test_clock_advance(tc, 2);
    cr_assert_str_eq(trace_text(), "in during@3 out@4");
    cr_assert_eq(seconds(), 4);
    weft_test_clock_advance(tc, 1);
    cr_assert_str_eq(trace_text(), "later@5");
    end();
}

/* ---- contexts ---- */

static void note_timer_context(weft_timer *timer, void *label)
{
    (void)timer;
    trace("%s@%s", (const char *)label, weft_context_get_name(weft_context_current()));
}

Test(test_clock, calls_timers_in_no_context_and_keeps_the_callers)
{
    weft_context *previous = enter("caller");
    weft_timer advanced, turned;

    weft_timer_init(&advanced, note_timer_context, (void *)"advanced");
    weft_timer_start(&advanced, the_clock(), 1);
    weft_timer_init(&turned, note_timer_context, (void *)"turned");
    weft_timer_start(&turned, the_clock(), 1);
    weft_test_clock_stall(tc, 1);
    weft_test_clock_turn(tc);
    cr_assert_str_eq(trace_text(), "advanced@- turned@-");
    weft_timer_start(&advanced, the_clock(), 1);
    weft_test_clock_pump(tc, (double[]){2}, 1);
    cr_assert_str_eq(trace_text(), "advanced@-");
    cr_assert_str_eq(weft_context_get_name(weft_context_current()), "caller");
    leave(previous);
    end();
}

static void leave_behind(weft_timer *timer, void *unused)
{
    (void)timer, (void)unused;
    weft_context_unref(enter("forgotten"));
}

Test(test_clock, takes_away_a_context_that_a_timer_leaves_behind)
{
    weft_timer first, second;

    log_capture();
    weft_timer_init(&first, leave_behind, NULL);
    weft_timer_start(&first, the_clock(), 1);
    weft_timer_init(&second, note_timer_context, (void *)"second");
    weft_timer_start(&second, the_clock(), 1);
    weft_test_clock_advance(tc, 1);
    cr_assert_str_eq(trace_text(), "second@-");
    cr_assert_eq(log_count("left the context forgotten behind"), 1);
    end();
}

/* ---- asking ---- */

Test(test_clock, knows_how_many_timers_are_started_and_when_the_next_is_due)
{
    weft_timer a, b, never;

    the_clock();
    cr_assert_eq(weft_test_clock_count_timers(tc), 0);
    cr_assert_eq(weft_test_clock_until_next(tc), HUGE_VAL);
    start(&never, "never", HUGE_VAL);
    cr_assert_eq(weft_test_clock_until_next(tc), HUGE_VAL);
    start(&a, "a", 2);
    start(&b, "b", 1.5);
    cr_assert_eq(weft_test_clock_count_timers(tc), 3);
    cr_assert_eq(weft_test_clock_until_next(tc), 1.5);
    weft_timer_stop(&b);
    cr_assert_eq(weft_test_clock_count_timers(tc), 2);
    cr_assert_eq(weft_test_clock_until_next(tc), 2);
    weft_test_clock_stall(tc, 3);
    cr_assert_eq(weft_test_clock_until_next(tc), 0);
    weft_test_clock_advance(tc, 9e9 / 2);
    cr_assert_eq(weft_test_clock_count_timers(tc), 1, "never is never");
    cr_assert_str_eq(trace_text(), "a@3");
    weft_timer_stop(&never);
    end();
}

/* ---- freeing ---- */

Test(test_clock, freed_stops_the_timers_that_are_left_and_says_how_many)
{
    weft_timer a, b, c;

    log_capture();
    start(&a, "a", 1);
    start(&b, "b", 2);
    start(&c, "c", 3);
    weft_test_clock_advance(tc, 1.5);
    end();
    cr_assert_eq(log_count("ERROR - a test clock is freed while 2 timers are started, the next one due in 0.5 s"), 1);
    cr_assert_not(weft_timer_started(&b));
    cr_assert_not(weft_timer_started(&c));
    cr_assert_eq(weft_live_counts_get().timers, 0);
    weft_timer_stop(&b);
    cr_assert_str_eq(trace_text(), "a@1");
}

Test(test_clock, freed_with_nothing_left_says_nothing)
{
    weft_timer a;

    log_capture();
    start(&a, "a", 1);
    weft_timer_stop(&a);
    end();
    cr_assert_null(weft_test_clock_free(NULL));
    cr_assert_eq(log_count(""), 0);
}

static void free_the_clock(weft_timer *timer, void *other)
{
    (void)timer;
    cr_assert_null(weft_test_clock_free(tc));
    weft_timer_stop(other); /* it still works for those who are inside it */
    weft_timer_start(other, weft_test_clock_get_clock(tc), 0);
}

Test(test_clock, may_be_freed_by_one_of_its_timers)
{
    weft_timer freeing, other;

    log_capture();
    start(&other, "other", 1);
    weft_timer_init(&freeing, free_the_clock, &other);
    weft_timer_start(&freeing, the_clock(), 0.5);
    weft_test_clock_pump(tc, (double[]){1, 1, 1}, 3);
    cr_assert_eq(log_count("a test clock is freed while 1 timers"), 1);
    cr_assert_not(weft_timer_started(&other));
    cr_assert_str_eq(trace_text(), "");
}

/* ---- many ---- */

/* Those that are started, kept beside the heap: a model to be compared with. */
struct model {
    weft_timer timer;
    int64_t due;
    uint64_t order;
    bool on;
};
enum { MODELLED = 200 };
static struct model models[MODELLED];
static int fired_wrong;

/* Nobody who is still started should have gone before. */
static void check_order(weft_timer *timer, void *arg)
{
    struct model *self = arg;

    (void)timer;
    self->on = false;
    fired_wrong += weft_clock_now(the_clock()) != self->due;
    for (int i = 0; i < MODELLED; i++) {
        const struct model *other = &models[i];

        fired_wrong += other->on && (other->due < self->due || (other->due == self->due && other->order < self->order));
    }
}

static int count_on(void)
{
    int on = 0;

    for (int i = 0; i < MODELLED; i++)
        on += models[i].on;
    return on;
}

/* Starts, stops and moves at random, with many equal times. */
Test(test_clock, keeps_the_order_through_starts_stops_and_moves)
{
    uint64_t order = 0;

    the_clock();
    srand(69);
    for (int i = 0; i < MODELLED; i++)
        weft_timer_init(&models[i].timer, check_order, &models[i]);
    for (int step = 0; step < 20000; step++) {
        struct model *model = &models[rand() % MODELLED];

        if (rand() % 3 == 0) {
            weft_timer_stop(&model->timer);
            model->on = false;
        } else {
            weft_timer_start(&model->timer, the_clock(), rand() % 50);
            *model = (struct model){.timer = model->timer, .due = model->timer.due, .order = order++, .on = true};
        }
        if (rand() % 20 == 0)
            weft_test_clock_advance(tc, rand() % 10);
        cr_assert_eq(weft_test_clock_count_timers(tc), (size_t)count_on());
    }
    weft_test_clock_advance(tc, 50);
    cr_assert_eq(fired_wrong, 0);
    cr_assert_eq(count_on(), 0);
    end();
}

static void many_timers(void *arg)
{
    static uint32_t random = 1;
    weft_test_clock *time = weft_test_clock_new();
    weft_timer *timers = weft_alloc(MANY * sizeof *timers);
    int fired = 0;

    (void)arg;
    for (int i = 0; i < MANY; i++) {
        random = random * 1664525 + 1013904223;
        weft_timer_init(&timers[i], count, &fired);
        weft_timer_start(&timers[i], weft_test_clock_get_clock(time), i % 2 ? 1 : (random >> 8) % 1000);
    }
    for (int i = 0; i < MANY; i += 4)
        weft_timer_stop(&timers[i]);
    cr_assert(weft_test_clock_advance(time, 500));
    for (int i = 2; i < MANY; i += 8)
        weft_timer_stop(&timers[i]);
    cr_assert_gt(fired, MANY / 2);
    for (int i = 0; i < MANY; i++)
        weft_timer_start(&timers[i], weft_test_clock_get_clock(time), 1);
    fired = 0;
    cr_assert(weft_test_clock_advance(time, 1));
    cr_assert_eq(fired, MANY);
    weft_free(timers);
    weft_test_clock_free(time);
}

Test(test_clock, holds_a_million_timers_on_a_small_stack, .timeout = 60)
{
    with_small_stack(many_timers, NULL);
}

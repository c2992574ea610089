/* Who runs next: in order or shuffled, so many per turn, nobody passed over. Fibers that wait and are woken are in
 * test_fiber.c. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <pthread.h>
#include <time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* So many may run in a turn, beside those that were ready when it began; and again, if that took less than some 25 µs. */
enum { EXTRA = 64 };

static weft_reactor *reactor;

/* Most of these tests say themselves what the order is to be. */
static void begin(void)
{
    cr_assert_null(weft_reactor_new(&reactor));
    weft_fiber_shuffle(0);
}

static void end(void)
{
    reactor = weft_reactor_free(reactor);
}

static void settle(void)
{
    while (weft_run_ready())
        ;
}

/* ---- three kinds of what waits: for a deferred that the test fires, and traces a letter ---- */

struct waiter {
    weft_deferred *awaited; /* taken by the wait */
    char letter[2];
};

static weft_result wait_in_a_fiber(void *arg)
{
    struct waiter *waiter = arg;

    weft_result_drop(weft_await(waiter->awaited));
    trace("%s", waiter->letter);
    return weft_yield(); /* from here straight to the next, where that is a fiber */
}

static weft_result wait_driven(weft_result sent, void *arg)
{
    struct waiter *waiter = arg;
    weft_deferred *awaited = waiter->awaited;

    weft_result_drop(sent);
    waiter->awaited = NULL;
    if (awaited)
        return weft_later(awaited);
    trace("%s", waiter->letter);
    return weft_ok(NULL);
}

static weft_result only_trace(void *letter)
{
    trace("%s", (const char *)letter);
    return weft_ok(NULL);
}

enum kind { FIBER, DRIVEN, SOON };

enum { MAX_WAITERS = 8 };
static struct waiter waiters[MAX_WAITERS];

/* Makes ready one after the other, of these kinds, "a", "b" …, and lets them run. */
static const char *order_of(const enum kind *kinds, size_t count)
{
    weft_deferred *fire[MAX_WAITERS] = {NULL};

    for (size_t i = 0; i < count; i++) {
        snprintf(waiters[i].letter, sizeof waiters[i].letter, "%c", (char)('a' + i));
        if (kinds[i] == SOON)
            continue;
        waiters[i].awaited = pending();
        fire[i] = weft_deferred_ref(waiters[i].awaited);
        weft_deferred_unref(kinds[i] == FIBER ? weft_spawn(wait_in_a_fiber, &waiters[i]) : weft_drive(wait_driven, &waiters[i]));
    }
    for (size_t i = 0; i < count; i++) {
        if (kinds[i] == SOON)
            weft_deferred_unref(weft_spawn_soon(only_trace, waiters[i].letter));
        else
            weft_deferred_callback(fire[i], weft_ok(NULL));
        weft_deferred_unref(fire[i]);
    }
    settle();
    return trace_text();
}

static const enum kind all_kinds[] = {FIBER, DRIVEN, FIBER, SOON, FIBER, FIBER, DRIVEN, SOON};

/* ---- in order ---- */

Test(ready, is_first_in_first_out_for_all_kinds_of_tasks)
{
    begin();
    cr_assert_str_eq(order_of(all_kinds, 8), "a b c d e f g h");
    end();
}

struct turns {
    int taken[16];
    int last[16];
    int all;
    int longest_gap;
    int64_t lasts; /* each turn of a fiber, nanoseconds */
    bool over;
};
static struct turns turns;

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void take_time(int64_t ns)
{
    int64_t until = now() + ns;

    while (ns && now() < until)
        continue;
}

/* Yields on and on, and notes how many turns of others were between two of its own. */
static weft_result take_turns(void *number)
{
    size_t i = (size_t)(uintptr_t)number;

    while (!turns.over) {
        int gap = turns.all - turns.last[i];

        if (turns.taken[i]++ && gap > turns.longest_gap)
            turns.longest_gap = gap;
        turns.last[i] = turns.all++;
        take_time(turns.lasts);
        WEFT_TRY(weft_yield());
    }
    return weft_ok(NULL);
}

static void start_turns(size_t count)
{
    turns = (struct turns){.all = 0};
    for (size_t i = 0; i < count; i++)
        weft_deferred_unref(weft_spawn(take_turns, (void *)(uintptr_t)i));
}

static void end_turns(void)
{
    turns.over = true;
    turns.lasts = 0;
    settle();
    cr_assert_eq(weft_live_counts_get().fibers, 0);
}

Test(ready, gives_each_of_those_that_yield_the_same_number_of_turns)
{
    begin();
    start_turns(16);
    for (int i = 0; i < 1000; i++)
        weft_run_ready();
    cr_assert_eq(turns.longest_gap, 16);
    for (int i = 0; i < 16; i++)
        cr_assert(turns.taken[i] >= turns.all / 16 && turns.taken[i] <= turns.all / 16 + 1);
    end_turns();
    end();
}

/* ---- so many per turn ---- */

static void one_turn_is_bounded(void)
{
    start_turns(5);
    for (int i = 0; i < 10; i++) {
        int before = turns.all;

        cr_assert_eq(weft_run_ready(), 5);
        cr_assert_eq(turns.all - before, 5 + EXTRA);
    }
    end_turns();
}

Test(ready, lets_as_many_run_in_a_turn_as_were_ready_and_64_more)
{
    begin();
    one_turn_is_bounded();
    end();
}

Test(ready, lets_as_many_run_when_it_is_shuffled)
{
    begin();
    weft_fiber_shuffle(1);
    one_turn_is_bounded();
    end();
}

/* Two that wake one another, also a driven one, are bounded as those that yield are. */
struct pair {
    weft_deferred *mine;   /* what this one waits for, with a reference for whoever fires it */
    struct pair *other;
};

static weft_deferred *next_wait(struct pair *self)
{
    self->mine = pending();
    return weft_deferred_ref(self->mine);
}

static void wake(struct pair *pair)
{
    weft_deferred *fired = pair->mine;

    pair->mine = NULL;
    if (fired)
        weft_deferred_callback(fired, weft_ok(NULL));
    weft_deferred_unref(fired);
}

static weft_result wake_the_other(void *arg)
{
    struct pair *self = arg;

    while (!turns.over) {
        weft_deferred *wait = next_wait(self);

        wake(self->other);
        WEFT_TRY(weft_await(wait));
        turns.all++;
    }
    wake(self->other);
    return weft_ok(NULL);
}

static weft_result drive_the_other(weft_result sent, void *arg)
{
    struct pair *self = arg;
    weft_deferred *wait;

    weft_result_drop(sent);
    turns.all++;
    if (turns.over) {
        wake(self->other);
        return weft_ok(NULL);
    }
    wait = next_wait(self);
    wake(self->other);
    return weft_later(wait);
}

Test(ready, bounds_those_that_wake_one_another)
{
    struct pair fiber = {.other = NULL}, driven = {.other = &fiber};

    fiber.other = &driven;
    begin();
    turns = (struct turns){.all = 0};
    weft_deferred_unref(weft_spawn(wake_the_other, &fiber));
    weft_deferred_unref(weft_drive(drive_the_other, &driven));
    for (int i = 0; i < 10; i++) {
        int before = turns.all;

        cr_assert_eq(weft_run_ready(), 1);
        cr_assert_eq(turns.all - before, 1 + EXTRA);
    }
    end_turns();
    end();
}

/* What the loop sees while three fibers are ready for ever: a descriptor in each turn, and in it starts a timer, and has
 * another thread make a call. */
struct loop_seen {
    int turns;
    int fibers_at_last;
    bool uneven;
    int timer_at, call_at; /* turn; 0: not yet */
    weft_timer timer;
    pthread_t caller;
};

static void timer_seen(weft_timer *timer, void *arg)
{
    struct loop_seen *seen = arg;

    (void)timer;
    seen->timer_at = seen->turns;
}

static void call_seen(void *arg)
{
    struct loop_seen *seen = arg;

    seen->call_at = seen->turns;
}

static void *call_from_there(void *arg)
{
    weft_reactor_call_from_thread(reactor, call_seen, arg);
    return NULL;
}

static void descriptor_seen(weft_io *io, int events, void *arg)
{
    struct loop_seen *seen = arg;

    (void)events;
    if (seen->turns++ && turns.all - seen->fibers_at_last != 3 + EXTRA)
        seen->uneven = true;
    seen->fibers_at_last = turns.all;
    if (seen->turns == 10) {
        weft_timer_start(&seen->timer, weft_clock_current(), 0);
        cr_assert_eq(pthread_create(&seen->caller, NULL, call_from_there, seen), 0);
        pthread_join(seen->caller, NULL); /* the call is there: the next turn has to see it */
    }
    if (seen->turns == 20) {
        weft_io_stop(io);
        weft_reactor_stop(reactor);
    }
}

static void loop_is_not_kept_waiting(void)
{
    struct loop_seen seen = {.turns = 0};
    int ends[2];
    weft_io io;

    cr_assert_eq(pipe(ends), 0);
    weft_timer_init(&seen.timer, timer_seen, &seen);
    weft_io_init(&io, descriptor_seen, &seen);
    weft_io_start(&io, ends[1], WEFT_WRITABLE);
    start_turns(3);
    turns.lasts = 2000; /* so that no turn of the loop is short enough to be given a second share */
    weft_reactor_run(reactor);
    cr_assert_not(seen.uneven, "each turn lets 3 + 64 run, and looks at the descriptor");
    cr_assert(seen.timer_at >= 10 && seen.timer_at <= 12, "the timer: %d", seen.timer_at);
    cr_assert(seen.call_at >= 10 && seen.call_at <= 12, "the call: %d", seen.call_at);
    end_turns();
    close(ends[0]);
    close(ends[1]);
}

Test(ready, keeps_no_descriptor_timer_or_call_waiting_for_more_than_its_share)
{
    begin();
    loop_is_not_kept_waiting();
    end();
}

Test(ready, keeps_none_of_them_waiting_when_it_is_shuffled)
{
    begin();
    weft_fiber_shuffle(3);
    loop_is_not_kept_waiting();
    end();
}

/* ---- shuffled ---- */

/* "a b c d" in any order, as a number below 256. */
static unsigned number_of(const char *order)
{
    unsigned number = 0;

    for (int i = 0; i < 4; i++)
        number = number * 4 + (unsigned)(order[2 * i] - 'a');
    return number;
}

/* Of 2,400 seeds each of the 24 orders gets about 100: these seeds are always the same, so it is no matter of luck. */
static void all_orders_appear_evenly(const enum kind *kinds)
{
    int seen[256] = {0}, orders = 0;

    begin();
    for (uint64_t seed = 1; seed <= 2400; seed++) {
        weft_fiber_shuffle(seed);
        seen[number_of(order_of(kinds, 4))]++;
    }
    for (int i = 0; i < 256; i++) {
        orders += seen[i] != 0;
        cr_assert(!seen[i] || (seen[i] > 60 && seen[i] < 140), "order %x appears %d times", (unsigned)i, seen[i]);
    }
    cr_assert_eq(orders, 24);
    end();
}

Test(ready, shuffled_brings_each_order_of_four_fibers_equally_often)
{
    all_orders_appear_evenly((const enum kind[]){FIBER, FIBER, FIBER, FIBER});
}

/* A fiber cannot switch straight to one that is driven, or begins: asking who is next must not change who that is. */
Test(ready, shuffled_prefers_no_kind_of_task)
{
    all_orders_appear_evenly((const enum kind[]){FIBER, DRIVEN, SOON, FIBER});
}

static void hundred_orders(uint64_t seed, char *out, size_t size)
{
    size_t length = 0;

    begin();
    weft_fiber_shuffle(seed);
    for (int i = 0; i < 100; i++)
        length += (size_t)snprintf(out + length, size - length, "%s\n", order_of(all_kinds, 8));
    end();
}

Test(ready, shuffled_follows_from_the_seed_alone)
{
    static char first[2000], again[2000], other[2000];

    hundred_orders(42, first, sizeof first);
    hundred_orders(42, again, sizeof again);
    hundred_orders(43, other, sizeof other);
    cr_assert_str_eq(first, again);
    cr_assert_str_neq(first, other);
}

Test(ready, shuffled_passes_nobody_over_for_more_than_ten_rounds, .timeout = 30)
{
    begin();
    for (uint64_t seed = 1; seed <= 20; seed++) {
        weft_fiber_shuffle(seed);
        start_turns(10);
        while (turns.all < 20 * 1000)
            weft_run_ready();
        cr_assert_gt(turns.longest_gap, 10, "it is shuffled");
        cr_assert_leq(turns.longest_gap, 100);
        end_turns();
    }
    end();
}

static int visited;

static weft_result visit(weft_result sent, void *arg)
{
    weft_deferred **wait = arg;
    weft_deferred *first = *wait;

    weft_result_drop(sent);
    *wait = NULL;
    if (first)
        return weft_later(first);
    visited++;
    return weft_ok(NULL);
}

/* Walking the queue for each of them would take the square of their number. */
Test(ready, shuffled_is_quick_also_with_a_hundred_thousand, .timeout = 10)
{
    enum { COUNT = MANY / 10 };
    static weft_deferred *waits[COUNT];

    weft_fiber_shuffle(5);
    for (int i = 0; i < COUNT; i++) {
        weft_deferred *fire = pending();

        waits[i] = weft_deferred_ref(fire);
        weft_deferred_unref(weft_drive(visit, &waits[i]));
        weft_deferred_callback(fire, weft_ok(NULL));
        weft_deferred_unref(fire);
    }
    settle();
    cr_assert_eq(visited, COUNT);
    weft_fiber_shuffle(0);
}

static weft_result change_the_order(void *seed)
{
    trace("change");
    weft_fiber_shuffle((uint64_t)(uintptr_t)seed);
    return weft_ok(NULL);
}

/* Those that are ready stay so, whichever way the order is changed, and by whom. */
Test(ready, may_be_shuffled_and_put_in_order_in_the_middle_of_a_turn)
{
    const uintptr_t seeds[] = {7, 8, 0, 0, 9};

    begin();
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        for (int j = 0; j < 6; j++)
            weft_deferred_unref(j == 2 ? weft_spawn_soon(change_the_order, (void *)seeds[i])
                                       : weft_spawn_soon(only_trace, (void *)"x"));
        settle();
        cr_assert_eq(strlen(trace_text()), strlen("change x x x x x"));
    }
    weft_fiber_shuffle(0);
    cr_assert_str_eq(order_of(all_kinds, 8), "a b c d e f g h");
    end();
}

Test(ready, shuffled_is_in_order_again_when_the_reactor_is_gone)
{
    begin();
    weft_fiber_shuffle(1);
    end();
    cr_assert_null(weft_reactor_new(&reactor));
    cr_assert_str_eq(order_of(all_kinds, 8), "a b c d e f g h");
    end();
}

#ifndef WEFT_TEST_SANITIZED
static weft_result never_end(void *unused)
{
    for (;;)
        weft_result_drop(weft_yield());
    return weft_ok(unused);
}

static void *free_with_one_that_is_ready(void *unused)
{
    begin();
    weft_fiber_shuffle(1);
    weft_deferred_unref(weft_spawn(never_end, NULL));
    end();
    trace_text();
    begin();
    cr_assert_str_eq(order_of(all_kinds, 8), "a b c d e f g h");
    end();
    return unused;
}

/* In a thread of its own, whose counts go with it: what cannot be ended is lost. */
Test(slow_ready, shuffled_forgets_who_is_ready_still_when_the_reactor_is_freed, .timeout = 20)
{
    pthread_t thread;

    log_capture();
    cr_assert_eq(pthread_create(&thread, NULL, free_with_one_that_is_ready, NULL), 0);
    pthread_join(thread, NULL);
    cr_assert_eq(log_count("the fiber never_end did not end when its reactor was freed"), 1);
}
#endif

/* ---- by the environment ---- */

static void begin_with(const char *seed)
{
    cr_assert_eq(setenv("WEFT_READY_SEED", seed, 1), 0);
    cr_assert_null(weft_reactor_new(&reactor));
}

Test(ready_seed, of_the_environment_shuffles_each_reactor_and_is_logged)
{
    char by_call[2000] = "", by_variable[2000] = "";

    begin();
    weft_fiber_shuffle(12345);
    snprintf(by_call, sizeof by_call, "%s", order_of(all_kinds, 8));
    end();
    log_capture();
    for (int i = 0; i < 2; i++) {
        begin_with("12345");
        snprintf(by_variable, sizeof by_variable, "%s", order_of(all_kinds, 8));
        end();
        cr_assert_str_eq(by_variable, by_call);
        cr_assert_str_neq(by_variable, "a b c d e f g h");
    }
    cr_assert_eq(log_count("INFO - WEFT_READY_SEED=12345: "), 2, "%s", log_text());
}

Test(ready_seed, of_0_or_nothing_is_in_order_and_not_logged)
{
    const char *const none[] = {"0", ""};

    log_capture();
    for (size_t i = 0; i < 2; i++) {
        begin_with(none[i]);
        cr_assert_str_eq(order_of(all_kinds, 8), "a b c d e f g h");
        end();
    }
    cr_assert_eq(log_count(""), 0, "%s", log_text());
}

Test(ready_seed, that_is_no_number_is_said_and_not_heeded)
{
    const char *const wrong[] = {"x", "1x", "-1", "1.5", "99999999999999999999", " 1"};

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        log_capture();
        begin_with(wrong[i]);
        cr_assert_str_eq(order_of(all_kinds, 8), "a b c d e f g h");
        end();
        cr_assert_eq(log_count("is not heeded"), 1, "%s", log_text());
        log_forget();
    }
}

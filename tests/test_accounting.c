/* CPU accounting: every nanosecond of a thread belongs to one context, or to none, and to the right one.
 *
 * Time is measured by the thread's CPU clock throughout, so that a busy machine changes nothing; work is spinning until
 * that clock has moved on, and says by how much: when a virtual machine is stopped, that is CPU time to its clock. */
#include "tests/support/spin.h"
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "lib/thread.h"

static int64_t used(weft_context *context)
{
    weft_usage usage = weft_context_get_usage(context);

    cr_assert_geq(usage.user_ns, 0);
    cr_assert_geq(usage.system_ns, 0);
    return usage.user_ns + usage.system_ns;
}

static int64_t spin_in(weft_context *context, int64_t ns)
{
    weft_context *previous = weft_context_set(weft_context_ref(context));
    int64_t spun = spin(ns);

    weft_context_unref(weft_context_set(previous));
    return spun;
}

static void assert_books_balance(void)
{
    weft_accounts accounts = weft_accounts_get();

    cr_assert_eq(accounts.contexts_ns + accounts.none_ns, accounts.thread_ns);
}

/* What the test itself may spend between two readings, and how far a share may be off. */
#ifdef WEFT_TEST_SAN_valgrind
static const int64_t SLACK = 5 * 1000 * 1000;
static const double OFF = 0.15;
#elif defined WEFT_TEST_SANITIZED /* a busy machine shows more where each step takes longer */
static const int64_t SLACK = 200 * 1000;
static const double OFF = 0.03;
#else
static const int64_t SLACK = 200 * 1000;
static const double OFF = 0.0125; /* of 0.25: 5 % */
#endif

/* Within `percent` of what is expected. */
static void assert_near(int64_t measured, int64_t expected, int percent)
{
    int64_t margin = expected * percent / 100 + SLACK;

    cr_assert(measured >= expected - margin && measured <= expected + margin, "%ld µs instead of %ld µs",
              (long)(measured / US), (long)(expected / US));
}

/* That a and b are in the ratio of c and d: within 5 %, where nothing stretches time. */
static void assert_ratio(int64_t a, int64_t b, int64_t c, int64_t d)
{
    double share = (double)a / (double)(a + b), expected = (double)c / (double)(c + d);

    cr_assert_float_eq(share, expected, OFF, "%.4f instead of %.4f", share, expected);
}

/* User time only. */
static __attribute__((noinline)) void turn_around(unsigned times)
{
    volatile unsigned work;

    for (work = 0; work < times; work++)
        ;
}

/* ---- one context ---- */

Test(accounting, charges_a_context_for_what_it_spends)
{
    weft_context *context = weft_context_new("x");
    int64_t spun;

    cr_assert_eq(used(context), 0);
    spun = spin_in(context, 20 * MS);
    assert_near(used(context), spun, 2);
    spin(20 * MS);
    assert_near(used(context), spun, 2);
    spun += spin_in(context, 10 * MS);
    assert_near(used(context), spun, 2);
    assert_books_balance();
    weft_context_unref(context);
}

Test(accounting, l10_counts_up_to_now_while_the_context_runs)
{
    weft_context *previous = enter("x");
    int64_t first, second;

    spin(2 * MS);
    first = used(weft_context_current());
    spin(3 * MS);
    second = used(weft_context_current());
    cr_assert_geq(first, 2 * MS - SLACK);
    cr_assert_geq(second - first, 3 * MS - SLACK);
    leave(previous);
}

Test(accounting, l10_counts_for_the_parents_too_while_a_child_runs)
{
    weft_context *parent = weft_context_new("x"), *previous = weft_context_set(weft_context_new_child(parent, NULL));
    int64_t first, second;

    spin(2 * MS);
    first = used(parent);
    spin(3 * MS);
    second = used(parent);
    cr_assert_geq(first, 2 * MS - SLACK);
    cr_assert_geq(second - first, 3 * MS - SLACK);
    leave(previous);
    weft_context_unref(parent);
}

/* As it may where a thread moves to another processor: what the counter was said to be lies in its future. */
Test(accounting, l08_a_counter_that_has_gone_back_takes_nothing_from_anybody)
{
    static const uint64_t steps[] = {1000, 50 * 1000, 1000 * 1000, 1000 * 1000 * 1000}; /* a window is of some 250,000 */
    struct weft__books *books = &weft__thread.books;
    weft_context *contexts[2] = {weft_context_new("x"), weft_context_new("y")};

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        int64_t before[2] = {used(contexts[0]), used(contexts[1])}, none = used(NULL);

        spin_in(contexts[1], 40 * US);
        weft_preserve_context(contexts[0]) {
            books->mark += steps[i];
            books->window_began += steps[i];
        }
        spin_in(contexts[1], 20 * US);
        for (int n = 0; n < 2; n++)
            cr_assert_geq(used(contexts[n]), before[n]);
        cr_assert_geq(used(NULL), none);
        assert_books_balance();
    }
    weft_context_unref(contexts[0]);
    weft_context_unref(contexts[1]);
}

/* One that the kernel interrupts in mid-window may lose some of it to its neighbours, never all, and not on average. */
Test(accounting, never_takes_300_microseconds_for_nothing)
{
    int64_t sum = 0;

    for (int i = 0; i < 100; i++) {
        weft_context *context = weft_context_new("x");

        spin_in(context, 300 * US);
        cr_assert_gt(used(context), 0, "round %d", i);
        sum += used(context);
        weft_context_unref(context);
    }
    cr_assert_geq(sum, 25 * MS, "%ld µs instead of 30,000", (long)(sum / US));
    assert_books_balance();
}

Test(accounting, of_no_context_is_what_the_thread_spends_in_none)
{
    weft_context *context = weft_context_new("x");
    int64_t before, spun;

    spin_in(context, MS);
    before = used(NULL);
    spun = spin(10 * MS);
    assert_near(used(NULL) - before, spun, 2);
    spin_in(context, 10 * MS);
    assert_near(used(NULL) - before, spun, 5);
    weft_context_unref(context);
}

Test(accounting, tells_user_time_from_system_time)
{
    weft_context *context = weft_context_new("x"), *previous = weft_context_set(weft_context_ref(context));
    int64_t until = cpu_clock() + 300 * MS;
    weft_usage usage;

    while (cpu_clock() < until)
        turn_around(1000000);
    usage = weft_context_get_usage(context);
    cr_assert_gt(usage.user_ns, usage.system_ns);
    leave(previous);
    weft_context_unref(context);
}

/* ---- several ---- */

Test(accounting, divides_between_two_contexts_as_they_spent)
{
    weft_context *one = weft_context_new("one"), *three = weft_context_new("three");
    int64_t spun[2] = {0, 0};

    for (int i = 0; i < 100; i++) {
        spun[0] += spin_in(one, 200 * US);
        spun[1] += spin_in(three, 600 * US);
    }
    assert_ratio(used(one), used(three), spun[0], spun[1]);
    assert_books_balance();
    weft_context_unref(one);
    weft_context_unref(three);
}

static void run_in_turn(weft_context *one, weft_context *three)
{
    for (int round = 0; round < 500; round++) {
        weft_context *previous = weft_context_set(weft_context_ref(one));

        turn_around(2000);
        weft_context_unref(weft_context_set(weft_context_ref(three)));
        turn_around(6000);
        leave(previous);
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Stretches far shorter than a window are told apart too: this is what the ticks are for. The middle of many measurements
 * counts, since on a busy machine some windows are preempted, in one context's stretch or in the other's. */
Test(accounting, divides_within_a_window)
{
    enum { TIMES = 41 };
    weft_context *one = weft_context_new("one"), *three = weft_context_new("three");
    double shares[TIMES];

    for (int i = 0; i < TIMES; i++) {
        int64_t before_one = used(one), before_three = used(three), spent_one;

        run_in_turn(one, three);
        spent_one = used(one) - before_one;
        shares[i] = (double)spent_one / (double)(spent_one + used(three) - before_three);
    }
    qsort(shares, TIMES, sizeof shares[0], by_size);
    cr_assert_float_eq(shares[TIMES / 2], 0.25, 2 * OFF, "%.4f instead of 0.25", shares[TIMES / 2]);
    assert_books_balance();
    weft_context_unref(one);
    weft_context_unref(three);
}

Test(accounting, holds_for_more_contexts_than_a_window_has_room_for)
{
    enum { CONTEXTS = 150 };
    weft_context *contexts[CONTEXTS];
    int64_t before, sum = 0;

    for (int i = 0; i < CONTEXTS; i++)
        contexts[i] = weft_context_new_numbered("c", (uint64_t)i);
    before = weft_accounts_get().contexts_ns;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < CONTEXTS; i++) /* without a pause: all of them are in few windows */
            weft_context_unref(weft_context_set(weft_context_ref(contexts[i])));
        weft_context_unref(weft_context_set(NULL));
    }
    for (int i = 0; i < CONTEXTS; i++)
        spin_in(contexts[i], 100 * US);
    for (int i = 0; i < CONTEXTS; i++) {
        cr_assert_gt(used(contexts[i]), 0, "context %d", i);
        sum += used(contexts[i]);
    }
    cr_assert_eq(sum, weft_accounts_get().contexts_ns - before);
    assert_books_balance();
    for (int i = 0; i < CONTEXTS; i++)
        weft_context_unref(contexts[i]);
}

/* ---- the sum ---- */

/* A run of everything at once: the thread's CPU clock, read by the test itself, against the books. */
Test(accounting, contexts_and_none_are_the_threads_cpu_time)
{
    enum { CONTEXTS = 100 };
    weft_context *contexts[CONTEXTS];
    weft_accounts before, after;
    int64_t clock_before, clock, sum;

    srand(1);
    for (int i = 0; i < CONTEXTS; i++)
        contexts[i] = weft_context_new("x");
    before = weft_accounts_get();
    clock_before = cpu_clock();
    for (int i = 0; i < 5000; i++) {
        int n = rand() % CONTEXTS;

        switch (rand() % 6) {
        case 0:
            spin(rand() % 100 * US);
            break;
        case 1: /* ends in the middle of a window */
            weft_context_unref(contexts[n]);
            contexts[n] = weft_context_new("x");
            break;
        case 2:
            used(contexts[n]);
            break;
        default:
            spin_in(contexts[n], rand() % 100 * US);
        }
    }
    after = weft_accounts_get();
    clock = cpu_clock() - clock_before;
    sum = after.contexts_ns - before.contexts_ns + after.none_ns - before.none_ns;
    cr_assert_float_eq((double)sum / (double)clock, 1, 0.01);
    cr_assert_eq(after.contexts_ns + after.none_ns, after.thread_ns);
    cr_assert_gt(after.contexts_ns, 0);
    cr_assert_gt(after.none_ns, 0);
    for (int i = 0; i < CONTEXTS; i++)
        weft_context_unref(contexts[i]);
}

/* Half in contexts and half in none, with several of each in a window. */
Test(accounting, keeps_what_a_context_spent_when_it_goes_in_mid_window)
{
    weft_accounts before, after;
    double share;

    before = weft_accounts_get();
    for (int i = 0; i < 1000; i++) {
        weft_context *context = weft_context_new("x");

        spin_in(context, 20 * US);
        weft_context_unref(context);
        spin(20 * US);
    }
    after = weft_accounts_get();
    share = (double)(after.contexts_ns - before.contexts_ns) / (double)(after.thread_ns - before.thread_ns);
    cr_assert_float_eq(share, 0.5, 8 * OFF, "%.4f instead of 0.5", share);
    assert_books_balance();
}

/* Three share a window, two of them go: the third keeps its own, and is not forgotten. */
Test(accounting, keeps_what_one_spent_when_others_go_in_mid_window)
{
    for (int order = 0; order < 60; order++) {
        weft_context *contexts[3];

        for (int i = 0; i < 3; i++)
            contexts[i] = weft_context_new("x");
        weft_accounts_get(); /* a new window */
        for (int i = 0; i < 3; i++)
            spin_in(contexts[i], 15 * US);
        weft_context_unref(contexts[order % 3]);
        weft_context_unref(contexts[(order % 3 + 1 + order / 3 % 2) % 3]);
        cr_assert_gt(used(contexts[(order % 3 + 2 - order / 3 % 2) % 3]), 0, "order %d", order);
        weft_context_unref(contexts[(order % 3 + 2 - order / 3 % 2) % 3]);
        assert_books_balance();
    }
}

Test(accounting, begins_with_the_first_use)
{
    weft_accounts accounts;

    spin(20 * MS);
    accounts = weft_accounts_get();
    cr_assert_lt(accounts.thread_ns, 10 * MS, "what was before is not in the books");
    assert_books_balance();
}

static void spin_in_a_thread(void *unused)
{
    weft_context *context = weft_context_new("worker");
    int64_t spun;

    (void)unused;
    spun = spin_in(context, 100 * MS);
    assert_near(used(context), spun, 2);
    assert_books_balance();
    weft_context_unref(context);
}

Test(accounting, is_kept_per_thread)
{
    weft_context *context = weft_context_new("main");
    int64_t before;

    spin_in(context, MS);
    before = weft_accounts_get().thread_ns;
    in_thread(spin_in_a_thread, NULL);
    cr_assert_lt(weft_accounts_get().thread_ns - before, 50 * MS);
    weft_context_unref(context);
}

/* ---- in the reactor ---- */

static weft_reactor *reactor;

struct worker {
    weft_context *context;
    int64_t spins;
    int rounds;
    double sleeps;
    int64_t spun; /* in all */
};

static weft_result work_and_sleep(void *arg)
{
    struct worker *worker = arg;

    for (int i = 0; i < worker->rounds; i++) {
        worker->spun += spin(worker->spins);
        WEFT_TRY(weft_sleep(worker->sleeps));
    }
    return weft_ok(NULL);
}

static weft_deferred *spawn_worker(struct worker *worker)
{
    weft_context *previous = weft_context_set(weft_context_ref(worker->context));
    weft_deferred *d = weft_spawn(work_and_sleep, worker);

    weft_context_unref(weft_context_set(previous));
    return d;
}

Test(accounting, charges_nobody_for_sleeping)
{
    struct worker worker = {weft_context_new("sleeper"), 0, 4, 0.05, 0};
    weft_accounts before;

    cr_assert_null(weft_reactor_new(&reactor));
    before = weft_accounts_get();
    weft_result_drop(weft_reactor_run_until(reactor, spawn_worker(&worker)));
    cr_assert_lt(used(worker.context), 5 * MS + 10 * SLACK);
    cr_assert_lt(weft_accounts_get().thread_ns - before.thread_ns, 100 * MS + 10 * SLACK);
    assert_books_balance();
    reactor = weft_reactor_free(reactor);
    weft_context_unref(worker.context);
}

Test(accounting, tells_interleaved_fibers_apart)
{
    struct worker one = {weft_context_new("one"), 500 * US, 60, 0, 0};
    struct worker three = {weft_context_new("three"), 1500 * US, 60, 0, 0};
    weft_deferred *first, *second;

    cr_assert_null(weft_reactor_new(&reactor));
    first = spawn_worker(&one);
    second = spawn_worker(&three);
    weft_result_drop(weft_reactor_run_until(reactor, first));
    weft_result_drop(weft_reactor_run_until(reactor, second));
    assert_ratio(used(one.context), used(three.context), one.spun, three.spun);
    assert_near(used(one.context) + used(three.context), one.spun + three.spun, (int)(400 * OFF));
    assert_books_balance();
    reactor = weft_reactor_free(reactor);
    weft_context_unref(one.context);
    weft_context_unref(three.context);
}

static void spin_without_context(weft_timer *timer, void *unused)
{
    (void)timer, (void)unused;
    spin(10 * MS);
    weft_reactor_stop(reactor);
}

/* As on kernels that do not mark it: what is asleep counts ticks all the same. */
Test(accounting, charges_nobody_for_short_sleeps_in_polls_that_no_kernel_marks)
{
    struct weft__books *books = &weft__thread.books;
    weft_context *context = weft_context_new("sleeper");
    int64_t spun = 0;

    weft_accounts_get();
    books->preemption.mark = &books->preemption.unmarked;
    prctl(PR_SET_TIMERSLACK, 1);
    for (int i = 0; i < 1000; i++) {
        spun += spin_in(context, 20 * US);
        weft__books_before_poll(books);
        nanosleep(&(struct timespec){0, 30 * US}, NULL);
        weft__books_after_poll(books, &books->none);
    }
    assert_near(used(context), spun, 5);
    assert_books_balance();
    weft_context_unref(context);
}

/* Of so many, one is not preempted. */
Test(accounting, reads_no_clock_for_a_poll_that_finds_work_at_once)
{
    struct weft__books *books = &weft__thread.books;
    bool closed = true;

    for (int i = 0; i < 1000 && closed; i++) {
        int64_t closed_at;

        weft_accounts_get();
        closed_at = books->closed_at;
        weft__books_before_poll(books);
        weft__books_after_poll(books, &books->none);
        closed = books->closed_at != closed_at;
    }
    cr_assert(!closed);
}

Test(accounting, charges_what_the_reactors_own_callbacks_spend_to_none)
{
    weft_context *context = weft_context_new("starter"), *previous;
    weft_timer timer;
    int64_t before;

    cr_assert_null(weft_reactor_new(&reactor));
    previous = weft_context_set(weft_context_ref(context));
    weft_timer_init(&timer, spin_without_context, NULL);
    weft_timer_start(&timer, weft_reactor_get_clock(reactor), 0);
    weft_context_unref(weft_context_set(previous));
    before = used(NULL);
    weft_reactor_run(reactor);
    cr_assert_geq(used(NULL) - before, 10 * MS - SLACK);
    cr_assert_lt(used(context), MS + SLACK);
    reactor = weft_reactor_free(reactor);
    weft_context_unref(context);
}

static uint64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

Test(accounting, counter_of_a_machine_without_one_is_the_monotonic_clock)
{
    uint64_t before = monotonic_ns(), ticks = weft__clock_ticks(), after = monotonic_ns();

    cr_assert(before <= ticks && ticks <= after);
}

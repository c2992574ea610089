/* What reactors publish as metrics, each from its own thread, and what is told of the process. */
#include "tests/support/fibers.h"
#include "tests/support/metrics.h"
#include "tests/support/server.h"
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <weft/http.h>

#include "lib/cancellation.h"

static int64_t now(void)
{
    return weft_clock_now(weft_clock_current());
}

static void spin_until(int64_t instant)
{
    while (now() < instant)
        continue;
}

static weft_result sleep_for_ever(void *arg)
{
    weft_result result = weft_sleep(1e6);

    (void)arg;
    return result;
}

/* ---- turns and lag ---- */

static weft_result spin_20_ms(void *arg)
{
    (void)arg;
    WEFT_TRY(weft_sleep(0));
    spin_until(now() + 20000000);
    return weft_ok(NULL);
}

Test(publishing, a_turn_is_counted_with_the_time_that_it_was_at_work)
{
    double long_turns, before;

    begin();
    settle();
    before = told_value("weft_reactor_turn_seconds_count{reactor=\"0\"}");
    long_turns = before - told_value("weft_reactor_turn_seconds_bucket{reactor=\"0\",le=\"0.01\"}");
    weft_result_drop(run_until(weft_spawn(spin_20_ms, NULL)));
    cr_assert_geq(told_value("weft_reactor_turn_seconds_count{reactor=\"0\"}"), before + 1);
    cr_assert_geq(told_value("weft_reactor_turn_seconds_count{reactor=\"0\"}") -
                  told_value("weft_reactor_turn_seconds_bucket{reactor=\"0\",le=\"0.01\"}"), long_turns + 1);
    cr_assert_geq(told_value("weft_reactor_turn_seconds_sum{reactor=\"0\"}"), 0.02);
    end();
}

static weft_result sleep_50_ms(void *arg)
{
    (void)arg;
    return weft_sleep(0.05);
}

/* Whether a sleep of 50 ms is missing, nearly, from what the turns took. Who is kept from the processor before it sleeps
 * sleeps less. */
static bool sleep_is_missing(void)
{
    double before = told_value("weft_reactor_turn_seconds_sum{reactor=\"0\"}");
    int64_t began = now();

    weft_result_drop(run_until(weft_spawn(sleep_50_ms, NULL)));
    return (double)(now() - began) / 1e9 - (told_value("weft_reactor_turn_seconds_sum{reactor=\"0\"}") - before) > 0.04;
}

Test(publishing, polls_do_not_count_as_work)
{
    int tries = 0;

    begin();
    while (tries < 100 && !sleep_is_missing())
        tries++;
    cr_assert_lt(tries, 100);
    end();
}

static void nothing(weft_timer *timer, void *arg)
{
    (void)timer;
    *(bool *)arg = true;
}

static weft_result be_in_the_way(void *timer)
{
    spin_until(((weft_timer *)timer)->due + 20000000);
    return weft_ok(NULL);
}

Test(publishing, a_timer_that_fires_late_is_counted_with_its_lag)
{
    weft_timer timer;
    bool fired = false;

    begin();
    weft_timer_init(&timer, nothing, &fired);
    weft_timer_start(&timer, weft_clock_current(), 0.001);
    weft_result_drop(run_until(weft_spawn_soon(be_in_the_way, &timer)));
    while (!fired)
        settle();
    cr_assert_eq(told_value("weft_reactor_timer_lag_seconds_count{reactor=\"0\"}") -
                 told_value("weft_reactor_timer_lag_seconds_bucket{reactor=\"0\",le=\"0.01\"}"), 1);
    cr_assert_geq(told_value("weft_reactor_timer_lag_seconds_sum{reactor=\"0\"}"), 0.02);
    end();
}

/* ---- what is alive ---- */

Test(publishing, the_reactor_that_writes_the_text_is_told_as_it_is_now)
{
    weft_deferred *few[3];

    begin();
    cr_assert_eq(told_value("weft_live_objects{reactor=\"0\",kind=\"deferred\"}"), 0);
    for (int i = 0; i < 3; i++)
        few[i] = pending();
    cr_assert_eq(told_value("weft_live_objects{reactor=\"0\",kind=\"deferred\"}"), 3);
    cr_assert_eq(told_value("weft_live_objects{reactor=\"0\",kind=\"request\"}"), 0);
    for (int i = 0; i < 3; i++)
        weft_deferred_unref(few[i]);
    cr_assert_eq(told_value("weft_live_objects{reactor=\"0\",kind=\"deferred\"}"), 0);
    end();
}

Test(publishing, fibers_are_counted_when_they_start)
{
    begin();
    cr_assert_eq(told_value("weft_fibers_started_total{reactor=\"0\"}"), 0);
    weft_deferred_unref(weft_spawn(sleep_for_ever, NULL));
    weft_deferred_unref(weft_spawn(sleep_for_ever, NULL));
    cr_assert_eq(told_value("weft_fibers_started_total{reactor=\"0\"}"), 2);
    cr_assert_eq(told_value("weft_live_objects{reactor=\"0\",kind=\"fiber\"}"), 2);
    end();
    cr_assert_eq(told_value("weft_fibers_started_total{reactor=\"0\"}"), 2, "the reactor is gone, its counts stay");
    cr_assert_eq(told_value("weft_live_objects{reactor=\"0\",kind=\"fiber\"}"), 0);
}

/* ---- stacks ---- */

enum { STACK = 128 * 1024 };

static weft_deferred *sleeper(void)
{
    return weft_spawn(sleep_for_ever, NULL);
}

static void stop(weft_deferred *fiber)
{
    weft_deferred_cancel(fiber);
    weft_result_drop(run_until(fiber));
}

static void check_stacks(size_t in_use, size_t idle, size_t peak)
{
    weft_stack_use use = weft_stack_use_get();

    cr_assert_eq(use.in_use, in_use * STACK, "%zu are in use", use.in_use / STACK);
    cr_assert_eq(use.idle, idle * STACK, "%zu are idle", use.idle / STACK);
    cr_assert_eq(use.peak, peak * STACK, "%zu are the peak", use.peak / STACK);
    cr_assert_eq(told_value("weft_fiber_stack_bytes{reactor=\"0\",state=\"in_use\"}"), in_use * STACK);
    cr_assert_eq(told_value("weft_fiber_stack_bytes{reactor=\"0\",state=\"idle\"}"), idle * STACK);
    cr_assert_eq(told_value("weft_fiber_stack_peak_bytes{reactor=\"0\"}"), peak * STACK);
}

Test(publishing, stacks_are_in_use_then_idle_and_the_peak_is_kept)
{
    weft_deferred *a, *b, *c;

    begin();
    check_stacks(0, 0, 0);
    a = sleeper();
    b = sleeper();
    check_stacks(2, 0, 2);
    stop(a);
    check_stacks(1, 1, 2);
    a = sleeper();
    check_stacks(2, 0, 2);
    c = sleeper();
    check_stacks(3, 0, 3);
    stop(a);
    stop(b);
    stop(c);
    check_stacks(0, 3, 3);
    end();
    cr_assert_eq(told_value("weft_fiber_stack_bytes{reactor=\"0\",state=\"idle\"}"), 0);
}

Test(publishing, stacks_that_give_their_memory_back_are_neither_in_use_nor_idle)
{
    cr_assert_null(weft_stack_configure((weft_stack_options){.idle = 1}));
    begin();
    stop(sleeper());
    check_stacks(0, 0, 1);
    stop(sleeper());
    check_stacks(0, 0, 1);
    end();
}

/* ---- cancels ---- */

Test(publishing, cancels_are_told_with_what_became_of_them)
{
    weft_deferred *kept;

    begin();
    stop(sleeper());
    kept = sleeper();
    weft_deferred_cancel(kept);
    cr_assert_eq(told_value("weft_cancellations_total{reactor=\"0\",event=\"asked\"}"), 2);
    cr_assert_eq(told_value("weft_cancellations_total{reactor=\"0\",event=\"ended\"}"), 1);
    cr_assert_eq(told_value("weft_cancellation_seconds_count{reactor=\"0\"}"), 1);
    weft_result_drop(run_until(kept));
    cr_assert_eq(told_value("weft_cancellation_seconds_count{reactor=\"0\"}"), 2);
    end();
}

static void cancelled_after(int64_t nanoseconds)
{
    weft__thread.cancellation.ended++;
    weft__durations_add(&weft__thread.cancellation.time_to_cancel, nanoseconds);
}

static void check_times(const char *le, double count)
{
    char series[128];

    snprintf(series, sizeof series, "weft_cancellation_seconds_bucket{reactor=\"0\",le=\"%s\"}", le);
    cr_assert_eq(told_value(series), count, "%g up to %s", told_value(series), le);
}

Test(publishing, times_to_cancel_are_in_the_bucket_whose_bound_is_not_below_them)
{
    begin();
    cancelled_after(0);
    check_times("0", 1);
    cancelled_after(1);
    cancelled_after(1023);
    check_times("0", 1);
    check_times("0.000001023", 3);
    cancelled_after(1024);
    check_times("0.000001023", 3);
    cancelled_after(4095);
    check_times("0.000004095", 5);
    cancelled_after(4096);
    check_times("0.000004095", 5);
    check_times("0.000016383", 6);
    cancelled_after(((int64_t)1 << 40) - 1);
    check_times("1099.511627775", 7);
    cancelled_after((int64_t)1 << 40);
    check_times("1099.511627775", 7);
    check_times("+Inf", 8);
    cr_assert_eq(told_value("weft_cancellation_seconds_count{reactor=\"0\"}"), 8);
    end();
}

/* ---- several reactors ---- */

struct other {
    weft_reactor *reactor; /* under the lock, as is what follows */
    bool stop;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

static weft_result stop_reactor(void *reactor)
{
    weft_reactor_stop(reactor);
    return weft_ok(NULL);
}

static void stop_from_thread(void *reactor)
{
    weft_result_drop(stop_reactor(reactor));
}

static void no_op(void *arg)
{
    (void)arg;
}

enum { FIBERS = 7 };

static void *run_other(void *arg)
{
    struct other *other = arg;
    weft_reactor *reactor;

    cr_assert_null(weft_reactor_new(&reactor));
    for (int i = 0; i < FIBERS; i++)
        weft_deferred_unref(sleeper());
    pthread_mutex_lock(&other->lock);
    other->reactor = reactor;
    pthread_cond_signal(&other->changed);
    pthread_mutex_unlock(&other->lock);
    weft_reactor_run(reactor);
    weft_reactor_free(reactor);
    return NULL;
}

static pthread_t other_start(struct other *other)
{
    pthread_t thread;

    *other = (struct other){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    cr_assert_eq(pthread_create(&thread, NULL, run_other, other), 0);
    pthread_mutex_lock(&other->lock);
    while (!other->reactor)
        pthread_cond_wait(&other->changed, &other->lock);
    pthread_mutex_unlock(&other->lock);
    return thread;
}

static void wait_until_told(const char *series, double value)
{
    double deadline = deadline_new();

    while (told_value(series) != value)
        cr_assert(deadline_left_ms(deadline), "%s is not %g but %g", series, value, told_value(series));
}

Test(publishing, each_reactor_is_told_of_by_its_number_before_it_sleeps, .timeout = 120)
{
    struct other other;
    pthread_t thread;

    begin();
    weft_deferred_unref(sleeper());
    thread = other_start(&other);
    wait_until_told("weft_live_objects{reactor=\"1\",kind=\"fiber\"}", FIBERS);
    wait_until_told("weft_fiber_stack_bytes{reactor=\"1\",state=\"in_use\"}", FIBERS * STACK);
    cr_assert_eq(told_value("weft_live_objects{reactor=\"0\",kind=\"fiber\"}"), 1);
    for (int i = 0; i < 3; i++)
        weft_reactor_call_from_thread(other.reactor, no_op, NULL);
    wait_until_told("weft_reactor_calls_from_threads_total{reactor=\"1\"}", 3);
    cr_assert_eq(told_value("weft_reactor_calls_from_threads_total{reactor=\"0\"}"), 0);
    weft_reactor_call_from_thread(other.reactor, stop_from_thread, other.reactor);
    pthread_join(thread, NULL);
    cr_assert_eq(told_value("weft_live_objects{reactor=\"1\",kind=\"fiber\"}"), 0);
    cr_assert_eq(told_value("weft_cancellations_total{reactor=\"1\",event=\"ended\"}"), FIBERS);
    end();
}

Test(publishing, the_number_of_a_reactor_that_is_gone_goes_to_the_next, .timeout = 120)
{
    struct other other;
    pthread_t thread;

    begin();
    for (int i = 0; i < 3; i++) {
        thread = other_start(&other);
        wait_until_told("weft_live_objects{reactor=\"1\",kind=\"fiber\"}", FIBERS);
        weft_reactor_call_from_thread(other.reactor, stop_from_thread, other.reactor);
        pthread_join(thread, NULL);
    }
    cr_assert_eq(told_value("weft_live_objects{reactor=\"2\",kind=\"fiber\"}"), -1);
    /* Those of a thread are counted from its beginning: Prometheus sees that the count was reset. */
    cr_assert_eq(told_value("weft_fibers_started_total{reactor=\"1\"}"), FIBERS);
    cr_assert_eq(told_value("weft_cancellation_seconds_count{reactor=\"1\"}"), FIBERS);
    end();
}

/* ---- the process ---- */

Test(publishing, descriptors_of_the_process_are_counted_as_they_are)
{
    struct rlimit limit;
    double before;
    int fd;

    begin();
    before = told_value("process_open_fds");
    cr_assert_gt(before, 2);
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    cr_assert_eq(told_value("process_open_fds"), before + 1);
    close(fd);
    cr_assert_eq(told_value("process_open_fds"), before);
    getrlimit(RLIMIT_NOFILE, &limit);
    cr_assert_eq(told_value("process_max_fds"), (double)limit.rlim_cur);
    end();
}

Test(publishing, cpu_time_memory_and_start_of_the_process_are_told)
{
    struct timespec cpu;
    double told, start;

    begin();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    told = told_value("process_cpu_seconds_total");
    cr_assert_geq(told, (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    cr_assert_leq(told, (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    cr_assert_gt(told_value("process_resident_memory_bytes"), 100e3);
    cr_assert_gt(told_value("process_virtual_memory_bytes"), told_value("process_resident_memory_bytes"));
    start = told_value("process_start_time_seconds");
    cr_assert_leq(start, (double)time(NULL) + 1);
    cr_assert_geq(start, (double)time(NULL) - 3600);
    end();
}

/* ---- forks ---- */

#ifndef WEFT_TEST_SANITIZED /* whose allocators may be in use by the other thread, that a child has not */
static bool over;

/* In all the locks that there are, most of the time. */
static void *tell_without_end(void *unused)
{
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED))
        weft_free(weft_metrics_write(NULL));
    return unused;
}

static weft_result never_asked(weft_request *request, void *unused)
{
    (void)request, (void)unused;
    abort();
}

static weft_http_server *server_with_routes(int count)
{
    weft_http_server *server = weft_http_server_new(weft_reactor_current(), (weft_http_server_options){0});
    char path[20];

    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "/forked/%d", i);
        weft_route(server, "GET", path, never_asked, (weft_route_options){0});
    }
    return server;
}

static _Noreturn void be_a_child(void)
{
    alarm(10); /* the default for it ends the process */
    weft_free(weft_metrics_write(NULL));
    weft_http_server_free(server_with_routes(1));
    weft_reactor_free(weft_reactor_current());
    _exit(0);
}

Test(publishing, goes_on_in_a_child_whatever_other_threads_were_telling, .timeout = 60)
{
    weft_http_server *server;
    pthread_t other;

    begin();
    server = server_with_routes(500); /* many, so that these are told much of the time */
    pthread_create(&other, NULL, tell_without_end, NULL);
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        int status;

        if (!child)
            be_a_child();
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x of child %d", (unsigned)status, i);
    }
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    pthread_join(other, NULL);
    weft_http_server_free(server);
    end();
}
#endif

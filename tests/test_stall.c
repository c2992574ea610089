/* The stall detector: what keeps a thread is named while it does, and nothing else is.
 *
 * What stalls here goes on until the line about it was seen. What must not be reported is given several limits' time. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const double LIMIT = 0.02;

static __thread weft_reactor *reactor;

static void begin(double limit)
{
    cr_assert_null(weft_reactor_new(&reactor));
    cr_assert_null(weft_reactor_set_stall_limit(reactor, limit));
}

static void end(void)
{
    reactor = weft_reactor_free(reactor);
}

static weft_result run_until(weft_deferred *d)
{
    return weft_reactor_run_until(reactor, d);
}

static void stop(weft_timer *timer, void *unused)
{
    (void)timer, (void)unused;
    weft_reactor_stop(reactor);
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* ---- what was logged, by whichever thread ---- */

static pthread_mutex_t lines_lock = PTHREAD_MUTEX_INITIALIZER;
static char lines[256 * 1024];
static size_t lines_length;

static void keep_line(const weft_log_record *record, void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lines_lock);
    lines_length += (size_t)snprintf(lines + lines_length, sizeof lines - lines_length, "%s %s %s\n",
                                     weft_log_level_name(record->level), record->context, record->message);
    pthread_mutex_unlock(&lines_lock);
}

/* The line that has all three in it, the `nth` of them, counted from 0; false: there is none. */
static bool find_line(const char *part, const char *second, int nth, char *out, size_t size)
{
    bool found = false;

    pthread_mutex_lock(&lines_lock);
    for (char *line = lines, *ends; (ends = strchr(line, '\n')); line = ends + 1) {
        snprintf(out, size, "%.*s", (int)(ends - line), line);
        if (strstr(out, part) && strstr(out, second) && !nth--) {
            found = true;
            break;
        }
    }
    pthread_mutex_unlock(&lines_lock);
    return found;
}

static bool seen(const char *part, const char *second)
{
    char line[5000];

    return find_line(part, second, 0, line, sizeof line);
}

/* Borrowed until the next call on the same thread. */
static const char *line_with(const char *part, const char *second, int nth)
{
    static __thread char line[5000];

    cr_assert(find_line(part, second, nth, line, sizeof line), "no line has %s and %s:\n%s", part, second, lines);
    return line;
}

static int count_lines(const char *part)
{
    char line[5000];
    int count = 0;

    while (find_line(part, "", count, line, sizeof line))
        count++;
    return count;
}

static void wait_until_seen(const char *part, const char *second)
{
    while (!seen(part, second))
        sched_yield();
}

static void capture(void)
{
    weft_log_set_sink(keep_line, NULL);
}

/* ---- what stalls: each goes on until the line about it has been logged ---- */

struct stall {
    const char *context; /* a new one is entered for it; NULL: none */
    const char *until;   /* two parts of the line */
    const char *with;
};

static __attribute__((noinline)) void spin_until_seen(const char *part, const char *with)
{
    wait_until_seen(part, with);
    __asm__ volatile("" ::: "memory"); /* no tail call: it is to be in the backtrace */
}

static weft_result spin_in_a_fiber(void *arg)
{
    const struct stall *stall = arg;
    weft_context *previous = stall->context ? enter(stall->context) : NULL;

    spin_until_seen(stall->until, stall->with ? stall->with : "");
    if (stall->context)
        leave(previous);
    return weft_ok(NULL);
}

/* ---- what is reported ---- */

Test(stall, of_a_fiber_is_reported_while_it_lasts_and_when_it_has_ended, .timeout = 20)
{
    struct stall stall = {.until = "the fiber spin_in_a_fiber has been running for more than 0.0"};

    capture();
    begin(LIMIT);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_in_a_fiber, &stall))), "nil");
    cr_assert_eq(strncmp(line_with(stall.until, "", 0), "WARN - the", 10), 0);
    line_with(stall.until, "it was started at ", 0);
    line_with(stall.until, "test_stall.c:", 0);
    line_with(stall.until, " weft_test_stall_of_a_fiber_is_reported_while_it_lasts_and_when_it_has_ended; it is in ", 0);
    end();
    wait_until_seen("WARN - the fiber spin_in_a_fiber has gone on after about 0.", "");
    cr_assert_eq(count_lines("has gone on"), 1);
}

static weft_result wait_then_spin(void *arg)
{
    WEFT_TRY(weft_yield());
    return spin_in_a_fiber(arg);
}

Test(stall, of_a_fiber_names_where_it_waited_last, .timeout = 20)
{
    struct stall stall = {.until = "the fiber wait_then_spin has been running", .with = "it waited last at "};

    capture();
    begin(LIMIT);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(wait_then_spin, &stall))), "nil");
    line_with(stall.until, " wait_then_spin; it is in ", 0);
    end();
}

/* Nothing is called in it but the flag is read: no system call that a signal could come out of. */
static bool spin_over;

static void end_spin(const weft_log_record *record, void *unused)
{
    keep_line(record, unused);
    if (strstr(record->message, "has been running"))
        __atomic_store_n(&spin_over, true, __ATOMIC_RELAXED);
}

static weft_result spin_without_calls(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&spin_over, __ATOMIC_RELAXED))
        ;
    return weft_ok(NULL);
}

Test(stall, of_a_fiber_that_never_calls_anything_is_reported, .timeout = 20)
{
    weft_log_set_sink(end_spin, NULL);
    begin(LIMIT);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_without_calls, NULL))), "nil");
    line_with("the fiber spin_without_calls has been running", "", 0);
    end();
}

static double lasted(int nth)
{
    const char *line = line_with("has been running for more than ", "", nth);

    return atof(strstr(line, "more than ") + strlen("more than "));
}

static weft_result spin_until_three(void *unused)
{
    (void)unused;
    while (count_lines("has been running") < 3)
        sched_yield();
    return weft_ok(NULL);
}

Test(stall, that_goes_on_is_reported_again_after_twice_the_time, .timeout = 20)
{
    capture();
    begin(LIMIT);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_until_three, NULL))), "nil");
    cr_assert(lasted(0) >= LIMIT && lasted(1) >= 2 * LIMIT && lasted(2) >= 4 * LIMIT, "%s", lines);
    end();
    wait_until_seen("has gone on", "");
    cr_assert_eq(count_lines("has gone on"), 1);
}

Test(stall, the_next_one_is_reported_after_the_simple_time, .timeout = 20)
{
    struct stall first = {"first", "WARN first the fiber", "has been running"},
                 next = {"next", "WARN next the fiber", "has been running"};

    capture();
    begin(LIMIT);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_in_a_fiber, &first))), "nil");
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_in_a_fiber, &next))), "nil");
    end();
    cr_assert_eq(count_lines("WARN first the fiber spin_in_a_fiber has gone on"), 1, "%s", lines);
    cr_assert_eq(count_lines("WARN next the fiber spin_in_a_fiber has gone on"), 1, "%s", lines);
}

/* ---- whose it is ---- */

Test(stall, is_logged_in_its_context, .timeout = 20)
{
    struct stall stall = {"room-service", "WARN room-service the fiber spin_in_a_fiber", "has been running"};

    capture();
    begin(LIMIT);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_in_a_fiber, &stall))), "nil");
    end();
    wait_until_seen("WARN room-service the fiber spin_in_a_fiber", "has gone on");
}

/* Whose name nobody has asked for: it is put together by the thread that watches. */
Test(stall, is_logged_in_a_context_that_had_no_name_yet, .timeout = 20)
{
    struct stall stall = {NULL, "WARN GET-18446744073709551615 the fiber", "has been running"};
    weft_context *numbered = weft_context_new_numbered("GET", UINT64_MAX), *previous;
    weft_deferred *d;

    capture();
    begin(LIMIT);
    previous = weft_context_set(numbered);
    d = weft_spawn_soon(spin_in_a_fiber, &stall);
    weft_context_unref(weft_context_set(previous));
    cr_assert_str_eq(told(run_until(d)), "nil");
    end();
}

Test(stall, in_a_context_with_a_long_name_is_logged_with_its_beginning, .timeout = 20)
{
    char name[1000], part[200];
    struct stall stall = {name, part, "has been running"};

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    snprintf(part, sizeof part, "WARN %.95s the fiber", name);
    capture();
    begin(LIMIT);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_in_a_fiber, &stall))), "nil");
    end();
}

static void spin_in_a_timer(weft_timer *timer, void *stall)
{
    (void)timer;
    spin_in_a_fiber(stall);
    weft_reactor_stop(reactor);
}

Test(stall, of_a_callback_is_reported_as_that, .timeout = 20)
{
    struct stall stall = {.until = "WARN - a callback has been running for more than 0.0"};
    weft_timer timer;

    capture();
    begin(LIMIT);
    weft_timer_init(&timer, spin_in_a_timer, &stall);
    weft_timer_start(&timer, weft_reactor_get_clock(reactor), 0);
    weft_reactor_run(reactor);
    end();
    wait_until_seen("WARN - a callback has gone on after about 0.", "");
}

static weft_cancel_outcome spin_in_a_canceller(weft_deferred *deferred, void *stall)
{
    (void)deferred;
    spin_in_a_fiber(stall);
    return WEFT_CANCEL_DONE;
}

static void cancel_it(weft_timer *timer, void *deferred)
{
    (void)timer;
    weft_deferred_cancel(deferred);
}

Test(stall, of_a_canceller_is_reported, .timeout = 20)
{
    struct stall stall = {.until = "a callback has been running"};
    weft_deferred *d = weft_deferred_new(spin_in_a_canceller, &stall);
    weft_timer timer;

    capture();
    begin(LIMIT);
    weft_timer_init(&timer, cancel_it, d);
    weft_timer_start(&timer, weft_reactor_get_clock(reactor), 0);
    cr_assert_str_eq(told(run_until(weft_deferred_ref(d))), "!cancelled");
    weft_deferred_unref(d);
    end();
}

static weft_result spin_in_a_step(weft_result sent, void *arg)
{
    struct stall *stall = arg;
    weft_deferred *awaited = (weft_deferred *)stall->context;

    weft_result_drop(sent);
    stall->context = NULL;
    return awaited ? weft_later(awaited) : spin_in_a_fiber(stall);
}

Test(stall, of_a_driven_computation_is_reported_with_its_name, .timeout = 20)
{
    weft_deferred *wait = pending(), *d;
    struct stall stall = {(const char *)weft_deferred_ref(wait), "the fiber spin_in_a_step has been running", NULL};

    capture();
    begin(LIMIT);
    d = weft_drive(spin_in_a_step, &stall);
    weft_deferred_callback(wait, weft_ok(NULL));
    weft_deferred_unref(wait);
    cr_assert_str_eq(told(run_until(d)), "nil");
    end();
}

/* ---- where it is ---- */

/* Whether an address of the line, as addr2line takes it, is in the function: it is short. */
static bool line_has_address_in(const char *line, const void *function)
{
    Dl_info info;
    uintptr_t address;

    cr_assert(dladdr(function, &info));
    for (const char *plus = line; (plus = strstr(plus, "+0x")); plus++) {
        address = (uintptr_t)info.dli_fbase + (uintptr_t)strtoull(plus + 1, NULL, 16);
        if (address > (uintptr_t)function && address < (uintptr_t)function + 100)
            return true;
    }
    return false;
}

Test(stall, is_reported_with_the_addresses_of_the_functions_it_is_in, .timeout = 20)
{
    struct stall stall = {.until = "the fiber spin_in_a_fiber", .with = "it is in "};

    capture();
    begin(LIMIT);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_in_a_fiber, &stall))), "nil");
    cr_assert(line_has_address_in(line_with(stall.until, stall.with, 0), (const void *)spin_until_seen), "%s", lines);
    end();
}

static weft_result sleep_in_a_fiber(void *arg)
{
    const struct stall *stall = arg;

    while (!seen(stall->until, stall->with))
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    return weft_ok(NULL);
}

/* A system call that blocks the thread, and that the kernel does not begin again by itself. */
Test(stall, in_a_system_call_is_reported_with_the_functions_name, .timeout = 20)
{
    struct stall stall = {.until = "the fiber sleep_in_a_fiber has been running", .with = "nanosleep+0x"};

    capture();
    begin(LIMIT);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(sleep_in_a_fiber, &stall))), "nil");
    end();
}

struct blocked_read {
    int ends[2];
    ssize_t got;
};

static weft_result read_in_a_fiber(void *arg)
{
    struct blocked_read *blocked = arg;
    char byte;

    blocked->got = read(blocked->ends[0], &byte, 1);
    return weft_ok(NULL);
}

static void *write_when_seen(void *arg)
{
    const struct blocked_read *blocked = arg;

    /* ThreadSanitizer keeps signals back until the read is over: there it has no name. */
#ifdef WEFT_TEST_SAN_thread
    wait_until_seen("has been running", "");
#else
    wait_until_seen("the fiber read_in_a_fiber has been running", "");
#endif
    cr_assert_eq(write(blocked->ends[1], "x", 1), 1);
    return NULL;
}

Test(stall, in_a_read_is_reported_and_the_read_goes_on, .timeout = 20)
{
    struct blocked_read blocked = {.got = -1};
    pthread_t writer;

    capture();
    cr_assert_eq(pipe(blocked.ends), 0);
    begin(LIMIT);
    cr_assert_eq(pthread_create(&writer, NULL, write_when_seen, &blocked), 0);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(read_in_a_fiber, &blocked))), "nil");
    cr_assert_eq(blocked.got, 1);
    pthread_join(writer, NULL);
    close(blocked.ends[0]);
    close(blocked.ends[1]);
    end();
}

/* ---- what is none ---- */

/* Long enough that a busy machine does not stop us for so long by itself. */
static const double LONG = 0.25;

Test(stall, is_not_a_sleep_in_the_poll, .timeout = 20)
{
    weft_timer timer;

    capture();
    begin(LONG);
    weft_timer_init(&timer, stop, NULL);
    weft_timer_start(&timer, weft_reactor_get_clock(reactor), 3 * LONG);
    weft_reactor_run(reactor);
    end();
    cr_assert_eq(lines_length, 0, "%s", lines);
}

static weft_result yield_for_long(void *unused)
{
    double until = now() + 3 * LONG;

    (void)unused;
    while (now() < until)
        WEFT_TRY(weft_yield());
    return weft_ok(NULL);
}

/* One that is always ready turns the loop; two switch as well. */
Test(stall, is_not_made_of_many_short_runs, .timeout = 20)
{
    weft_deferred *first, *second;

    capture();
    begin(LONG);
    first = weft_spawn_soon(yield_for_long, NULL);
    second = weft_spawn_soon(yield_for_long, NULL);
    cr_assert_str_eq(told(run_until(first)), "nil");
    cr_assert_str_eq(told(run_until(second)), "nil");
    end();
    cr_assert_eq(lines_length, 0, "%s", lines);
}

/* As a main() that waits for the threads it has started. */
Test(stall, is_not_what_a_thread_does_outside_its_reactor, .timeout = 20)
{
    capture();
    begin(LONG);
    cr_assert_str_eq(told(run_until(done(weft_int(1)))), "1");
    for (double until = now() + 3 * LONG; now() < until;)
        sched_yield();
    end();
    cr_assert_eq(lines_length, 0, "%s", lines);
}

/* ---- several threads ---- */

static weft_result spin_until_all_are_seen(void *name)
{
    weft_context *previous = enter(name);

    wait_until_seen("WARN t-0 the fiber", "has been running");
    wait_until_seen("WARN t-1 the fiber", "has been running");
    wait_until_seen("WARN t-2 the fiber", "has been running");
    leave(previous);
    return weft_ok(NULL);
}

static void *stall_in_a_thread(void *name)
{
    begin(LIMIT);
    weft_result_drop(run_until(weft_spawn_soon(spin_until_all_are_seen, name)));
    end();
    cr_assert_eq(weft_live_counts_get().contexts, 0);
    return NULL;
}

/* None goes on before all have been reported: they stall at once. */
Test(stall, of_several_reactors_is_each_threads_own, .timeout = 20)
{
    char names[3][4] = {"t-0", "t-1", "t-2"};
    pthread_t threads[3];

    capture();
    for (int i = 0; i < 3; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, stall_in_a_thread, names[i]), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

/* ---- the limit ---- */

/* Those that watch: a sanitizer has threads of its own. */
static int count_threads(void)
{
    DIR *list = opendir("/proc/self/task");
    struct dirent *entry;
    char path[300], name[16];
    int count = 0;

    cr_assert_not_null(list);
    while ((entry = readdir(list))) {
        FILE *file;

        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        if (entry->d_name[0] == '.' || !(file = fopen(path, "r")))
            continue;
        if (fgets(name, sizeof name, file))
            count += !strcmp(name, "weft-stall\n");
        fclose(file);
    }
    closedir(list);
    return count;
}

static bool is_default(int number)
{
    struct sigaction action;

    sigaction(number, NULL, &action);
    return action.sa_handler == SIG_DFL;
}

/* The kernel's list may show one that has been joined for a moment still. */
static void expect_threads(int count)
{
    while (count_threads() != count)
        sched_yield();
}

Test(stall, limit_takes_a_thread_and_a_signal_as_long_as_there_is_one, .timeout = 20)
{
    cr_assert_null(weft_reactor_new(&reactor));
    cr_assert_eq(count_threads(), 0);
    cr_assert(is_default(SIGURG));
    for (int i = 0; i < 3; i++) {
        cr_assert_null(weft_reactor_set_stall_limit(reactor, 1));
        cr_assert_null(weft_reactor_set_stall_limit(reactor, 2));
        cr_assert_eq(count_threads(), 1);
        cr_assert_not(is_default(SIGURG));
        cr_assert_null(weft_reactor_set_stall_limit(reactor, 0));
        expect_threads(0);
        cr_assert(is_default(SIGURG));
    }
    cr_assert_null(weft_reactor_set_stall_limit(reactor, 1));
    end();
    expect_threads(0);
    cr_assert(is_default(SIGURG));
}

static void leave_a_limit(void *unused)
{
    (void)unused;
    begin(1);
    end();
}

Test(stall, limit_of_the_last_reactor_ends_the_thread, .timeout = 20)
{
    begin(1);
    in_thread(leave_a_limit, NULL);
    expect_threads(1);
    cr_assert_not(is_default(SIGURG));
    end();
    expect_threads(0);
    cr_assert(is_default(SIGURG));
}

Test(stall, limit_may_be_changed, .timeout = 20)
{
    struct stall stall = {.until = "has been running for more than 0.0"};

    capture();
    begin(1000000);
    cr_assert_null(weft_reactor_set_stall_limit(reactor, LIMIT));
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_in_a_fiber, &stall))), "nil");
    end();
}

static weft_result stall_then_unset(void *arg)
{
    spin_in_a_fiber(arg);
    cr_assert_null(weft_reactor_set_stall_limit(reactor, 0));
    return weft_ok(NULL);
}

Test(stall, that_switches_the_limit_off_ends_in_the_log, .timeout = 20)
{
    struct stall stall = {"c", "has been running for more than 0.0", ""};

    capture();
    begin(LIMIT);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(stall_then_unset, &stall))), "nil");
    cr_assert_eq(count_lines("WARN c the fiber stall_then_unset has gone on after about 0."), 1, "%s", lines);
    end();
}

Test(stall, limit_that_makes_no_sense_is_none_or_the_nearest, .timeout = 20)
{
    const double none[] = {0, -1, -1e300, __builtin_nan("")}, some[] = {1e-12, 1e300, __builtin_inf()};
    begin(0);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_null(weft_reactor_set_stall_limit(reactor, none[i]));
        cr_assert_eq(count_threads(), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        cr_assert_null(weft_reactor_set_stall_limit(reactor, some[i]));
        cr_assert_eq(count_threads(), 1);
    }
    end();
}

/* ---- by the environment ---- */

Test(stall_seconds, of_the_environment_is_every_reactors_limit, .timeout = 20)
{
    struct stall stall = {.until = "the fiber spin_in_a_fiber has been running for more than 0.0"};

    cr_assert_eq(setenv("WEFT_STALL_SECONDS", "0.02", 1), 0);
    capture();
    cr_assert_null(weft_reactor_new(&reactor));
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_in_a_fiber, &stall))), "nil");
    end();
}

Test(stall_seconds, that_is_no_number_is_said_and_not_heeded, .timeout = 20)
{
    const char *const wrong[] = {"x", "1s", "-1", "nan", "inf"};
    capture();
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(setenv("WEFT_STALL_SECONDS", wrong[i], 1), 0);
        cr_assert_null(weft_reactor_new(&reactor));
        cr_assert_eq(count_threads(), 0);
        cr_assert_eq(count_lines("WARN - WEFT_STALL_SECONDS="), i + 1, "%s", lines);
        end();
    }
}

/* ---- the signal ---- */

static volatile sig_atomic_t urgent;

static void note_urgent(int number)
{
    urgent += number == SIGURG;
}

static void note_urgent_info(int number, siginfo_t *info, void *unused)
{
    (void)unused;
    urgent += number == SIGURG && info->si_signo == SIGURG && info->si_pid == getpid();
}

static void signals_reach(const struct sigaction *action)
{
    struct stall stall = {.until = "has been running"};
    struct sigaction after;

    urgent = 0;
    capture();
    cr_assert_eq(sigaction(SIGURG, action, NULL), 0);
    begin(LIMIT);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_in_a_fiber, &stall))), "nil");
    cr_assert_eq(urgent, 0, "ours are not passed on");
    kill(getpid(), SIGURG);
    cr_assert_eq(urgent, 1);
    end();
    kill(getpid(), SIGURG);
    cr_assert_eq(urgent, 2, "it is the program's again");
    sigaction(SIGURG, NULL, &after);
    cr_assert_eq(after.sa_sigaction, action->sa_sigaction);
}

Test(stall, leaves_the_programs_handler_of_the_signal_its_signals, .timeout = 20)
{
    signals_reach(&(struct sigaction){.sa_handler = note_urgent});
}

Test(stall, leaves_the_programs_handler_of_the_signal_its_information, .timeout = 20)
{
    signals_reach(&(struct sigaction){.sa_sigaction = note_urgent_info, .sa_flags = SA_SIGINFO});
}

/* A program may take the signal while there is a limit: stalls are reported without a name, and it keeps its handler. */
Test(stall, is_reported_without_a_name_when_the_signal_is_taken, .timeout = 20)
{
    struct stall stall = {.until = "WARN - something on thread ", .with = "does not answer to SIGURG"};
    struct sigaction action = {.sa_handler = note_urgent}, after;

    capture();
    begin(LIMIT);
    cr_assert_eq(sigaction(SIGURG, &action, NULL), 0);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_in_a_fiber, &stall))), "nil");
    end();
    sigaction(SIGURG, NULL, &after);
    cr_assert_eq(after.sa_handler, note_urgent);
}

/* The late answer to the first question must be none to a later one. */
Test(stall, of_a_thread_that_blocks_the_signal_is_reported_without_a_name, .timeout = 20)
{
    struct stall stall = {.until = "WARN - something on thread ", .with = "does not answer to SIGURG"},
                 again = {"c", "WARN c the fiber spin_in_a_fiber", "it is in "};
    sigset_t urgent_only;

    sigemptyset(&urgent_only);
    sigaddset(&urgent_only, SIGURG);
    capture();
    begin(LIMIT);
    pthread_sigmask(SIG_BLOCK, &urgent_only, NULL);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_in_a_fiber, &stall))), "nil");
    pthread_sigmask(SIG_UNBLOCK, &urgent_only, NULL);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_in_a_fiber, &again))), "nil");
    end();
}

static weft_result keep_errno(void *arg)
{
    errno = 1234;
    while (!seen(((struct stall *)arg)->until, ""))
        ;
    cr_assert_eq(errno, 1234);
    return weft_ok(NULL);
}

Test(stall, that_is_looked_at_keeps_its_errno, .timeout = 20)
{
    struct stall stall = {.until = "the fiber keep_errno has been running"};

    capture();
    begin(LIMIT);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(keep_errno, &stall))), "nil");
    end();
}

/* ---- fork ---- */

/* ThreadSanitizer starts no threads after a fork of several; AddressSanitizer's malloc stays locked if another thread is in it. */
#if !defined WEFT_TEST_SAN_thread && !defined WEFT_TEST_SAN_address
static int in_the_child(void)
{
    struct stall stall = {.until = "WARN child the fiber spin_in_a_fiber", .with = "has been running", .context = "child"};
    bool unwatched = count_threads() == 0 && is_default(SIGURG);

    weft_result_drop(run_until(weft_spawn_soon(spin_in_a_fiber, &stall)));
    end();
    return unwatched && count_threads() == 0 && is_default(SIGURG) ? 0 : 1;
}

Test(stall, is_reported_in_a_child_made_by_fork_too, .timeout = 20)
{
    struct stall stall = {.until = "WARN parent the fiber spin_in_a_fiber", .with = "has been running", .context = "parent"};
    int status;
    pid_t child;

    capture();
    begin(LIMIT);
    if (!(child = fork()))
        _exit(in_the_child());
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    cr_assert_str_eq(told(run_until(weft_spawn_soon(spin_in_a_fiber, &stall))), "nil");
    end();
}
#endif

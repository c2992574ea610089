/* The reactor: its life, descriptors, signals, calls from other threads, and what it does about contexts. Its timers
 * are in test_clock.c, its fibers in test_fiber.c. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static weft_reactor *reactor;

static void begin(void)
{
    cr_assert_null(weft_reactor_new(&reactor));
}

static void end(void)
{
    reactor = weft_reactor_free(reactor);
}

static void stop(weft_timer *timer, void *unused)
{
    (void)timer, (void)unused;
    weft_reactor_stop(reactor);
}

/* Lets it turn for so long. */
static void run_for(double seconds)
{
    weft_timer timer;

    weft_timer_init(&timer, stop, NULL);
    weft_timer_start(&timer, weft_reactor_get_clock(reactor), seconds);
    weft_reactor_run(reactor);
}

/* Lets it turn for up to 5 s, until somebody calls weft_reactor_stop. */
static void run_until_stopped(void)
{
    weft_timer timer;

    weft_timer_init(&timer, stop, NULL);
    weft_timer_start(&timer, weft_reactor_get_clock(reactor), 5);
    weft_reactor_run(reactor);
    cr_assert(weft_timer_started(&timer), "nobody stopped it");
    weft_timer_stop(&timer);
}

/* ---- life ---- */

Test(reactor, is_the_threads_until_it_is_freed)
{
    cr_assert_null(weft_reactor_current());
    begin();
    cr_assert_eq(weft_reactor_current(), reactor);
    end();
    cr_assert_null(reactor);
    cr_assert_null(weft_reactor_current());
    begin();
    end();
}

Test(reactor, there_is_one_per_thread)
{
    weft_reactor *second = NULL;
    weft_error *error;

    begin();
    error = weft_reactor_new(&second);
    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    cr_assert_null(second);
    weft_error_unref(error);
    end();
}

static void have_a_reactor(void *unused)
{
    weft_reactor *own;

    (void)unused;
    cr_assert_null(weft_reactor_current());
    cr_assert_null(weft_reactor_new(&own));
    cr_assert_neq(own, reactor);
    weft_result_drop(weft_reactor_run_until(own, weft_deferred_with(weft_int(1))));
    weft_reactor_free(own);
}

Test(reactor, each_thread_may_have_its_own)
{
    begin();
    in_thread(have_a_reactor, NULL);
    cr_assert_eq(weft_reactor_current(), reactor);
    end();
}

static weft_result sleep_and_note(void *label)
{
    weft_context *previous = enter(label);

    WEFT_TRY(weft_sleep(0.001));
    leave(previous);
    return weft_ok(NULL);
}

static void *turn_one(void *label)
{
    weft_reactor *own;

    cr_assert_null(weft_reactor_new(&own));
    for (int i = 0; i < 20; i++)
        weft_result_drop(weft_reactor_run_until(own, weft_spawn(sleep_and_note, label)));
    weft_reactor_free(own);
    return NULL;
}

/* For ThreadSanitizer: nothing is shared between them, not even on the first use. */
Test(reactor, several_may_run_at_once_on_threads_of_their_own)
{
    static char labels[4][2] = {"a", "b", "c", "d"};
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, turn_one, labels[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

Test(reactor, freeing_none_is_fine)
{
    cr_assert_null(weft_reactor_free(NULL));
}

/* However many of those that it needs can still be opened. */
Test(reactor, out_of_descriptors_is_an_ordinary_error)
{
    struct rlimit before, fewer;
    int lowest = dup(STDERR_FILENO), failures = 0;

    close(lowest);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (int more = 0; more < 3; more++) {
        weft_error *error;

        fewer = (struct rlimit){(rlim_t)(lowest + more), before.rlim_max};
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &fewer), 0);
        error = weft_reactor_new(&reactor);
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
        if (error) {
            cr_assert(weft_error_is(error, &WEFT_OS_ERROR));
            cr_assert_null(weft_reactor_current());
            weft_error_unref(error);
            failures++;
        } else {
            end();
        }
    }
    cr_assert_gt(failures, 0);
}

Test(reactor, ignores_sigpipe)
{
    int ends[2];

    begin();
    cr_assert_eq(pipe(ends), 0);
    close(ends[0]);
    cr_assert_eq(write(ends[1], "x", 1), -1);
    cr_assert_eq(errno, EPIPE);
    close(ends[1]);
    end();
}

/* ---- running ---- */

static void stop_after_three(weft_timer *timer, void *arg)
{
    int *count = arg;

    if (++*count == 3)
        weft_reactor_stop(reactor);
    else
        weft_timer_start(timer, weft_reactor_get_clock(reactor), 0);
}

Test(reactor, runs_until_it_is_stopped_and_may_run_again)
{
    weft_timer timer;
    int count = 0;

    begin();
    weft_timer_init(&timer, stop_after_three, &count);
    weft_timer_start(&timer, weft_reactor_get_clock(reactor), 0);
    weft_reactor_run(reactor);
    cr_assert_eq(count, 3);
    count = 0;
    weft_timer_start(&timer, weft_reactor_get_clock(reactor), 0);
    weft_reactor_run(reactor);
    cr_assert_eq(count, 3);
    end();
}

static weft_result stop_it(void *unused)
{
    (void)unused;
    WEFT_TRY(weft_sleep(0));
    weft_reactor_stop(reactor);
    return weft_ok(NULL);
}

Test(reactor, may_be_stopped_by_a_fiber)
{
    begin();
    weft_deferred_unref(weft_spawn(stop_it, NULL));
    run_until_stopped();
    end();
}

static void fire_it(weft_timer *timer, void *deferred)
{
    (void)timer;
    weft_deferred_callback(deferred, weft_int(5));
}

static void fail_it(weft_timer *timer, void *deferred)
{
    (void)timer;
    weft_deferred_callback(deferred, broken());
}

Test(reactor, runs_until_a_deferred_has_its_result)
{
    weft_deferred *value = pending(), *error = pending();
    weft_timer first, second;

    begin();
    weft_timer_init(&first, fire_it, value);
    weft_timer_start(&first, weft_clock_current(), 0.001);
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, weft_deferred_ref(value))), "5");
    weft_timer_init(&second, fail_it, error);
    weft_timer_start(&second, weft_clock_current(), 0.001);
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, weft_deferred_ref(error))), "!broken");
    weft_deferred_unref(value);
    weft_deferred_unref(error);
    end();
}

Test(reactor, runs_until_returns_at_once_what_is_there)
{
    begin();
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, done(weft_int(1)))), "1");
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, done(broken()))), "!broken");
    end();
}

Test(reactor, runs_until_takes_the_reference)
{
    begin();
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, pending())), "!orphaned");
    end();
}

Test(reactor, runs_until_of_what_somebody_else_waits_for_is_a_misuse)
{
    weft_deferred *inner = pending(), *outer;

    begin();
    outer = weft_deferred_add_both(done(weft_ok(NULL)), return_later, weft_deferred_ref(inner));
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, weft_deferred_ref(inner))), "!misuse");
    weft_deferred_callback(inner, weft_int(1));
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, outer)), "1");
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, inner)), "!misuse");
    end();
}

static weft_result stop_and_go_on(void *unused)
{
    (void)unused;
    weft_reactor_stop(reactor);
    return weft_sleep(0.001);
}

/* Each run ends for its own reason. */
Test(reactor, runs_until_is_not_ended_by_a_stop)
{
    begin();
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, weft_spawn(stop_and_go_on, NULL))), "nil");
    end();
}

static void run_inside(weft_timer *timer, void *unused)
{
    (void)timer, (void)unused;
    trace("inside=%s", told(weft_reactor_run_until(reactor, weft_deferred_with(weft_int(1)))));
}

Test(reactor, running_it_inside_one_of_its_callbacks_is_a_misuse)
{
    weft_timer timer;

    begin();
    weft_timer_init(&timer, run_inside, NULL);
    weft_timer_start(&timer, weft_clock_current(), 0);
    run_for(0.01);
    cr_assert_str_eq(trace_text(), "inside=!misuse");
    end();
}

static weft_result run_inside_fiber(void *unused)
{
    (void)unused;
    trace("inside=%s", told(weft_reactor_run_until(reactor, weft_deferred_with(weft_int(1)))));
    return weft_ok(NULL);
}

static weft_result run_inside_fiber_later(void *unused)
{
    WEFT_TRY(weft_sleep(0));
    return run_inside_fiber(unused);
}

/* Also in one that main started before the reactor runs. */
Test(reactor, running_it_inside_a_fiber_is_a_misuse)
{
    begin();
    weft_deferred_unref(weft_spawn(run_inside_fiber, NULL));
    cr_assert_str_eq(trace_text(), "inside=!misuse");
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, weft_spawn(run_inside_fiber_later, NULL))), "nil");
    cr_assert_str_eq(trace_text(), "inside=!misuse");
    end();
}

/* ---- descriptors ---- */

struct watched {
    weft_io io;
    int fd;
    const char *label;
    int calls_before_stop;
};

static void note_ready(weft_io *io, int events, void *arg)
{
    struct watched *watched = arg;
    char byte;

    cr_assert_eq(io, &watched->io);
    trace("%s:%s%s", watched->label, events & WEFT_READABLE ? "r" : "", events & WEFT_WRITABLE ? "w" : "");
    if (events & WEFT_READABLE)
        (void)!read(watched->fd, &byte, 1);
    if (--watched->calls_before_stop == 0) {
        weft_io_stop(io);
        weft_reactor_stop(reactor);
    }
}

static void watch(struct watched *watched, int fd, const char *label, int events, int calls)
{
    *watched = (struct watched){.fd = fd, .label = label, .calls_before_stop = calls};
    weft_io_init(&watched->io, note_ready, watched);
    weft_io_start(&watched->io, fd, events);
}

static int ends[2];

static void begin_with_sockets(void)
{
    begin();
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
}

static void end_with_sockets(void)
{
    close(ends[0]);
    close(ends[1]);
    end();
}

Test(reactor_io, tells_when_there_is_something_to_read_as_long_as_there_is)
{
    struct watched watched;

    begin_with_sockets();
    watch(&watched, ends[0], "a", WEFT_READABLE, 3);
    run_for(0.01);
    cr_assert_str_eq(trace_text(), "");
    cr_assert_eq(write(ends[1], "xyz", 3), 3);
    run_until_stopped();
    cr_assert_str_eq(trace_text(), "a:r a:r a:r");
    end_with_sockets();
}

Test(reactor_io, tells_when_there_is_room_to_write)
{
    struct watched watched;
    char chunk[4096] = "";

    begin_with_sockets();
    watch(&watched, ends[0], "a", WEFT_WRITABLE, 1);
    run_until_stopped();
    cr_assert_str_eq(trace_text(), "a:w");
    while (write(ends[0], chunk, sizeof chunk) > 0)
        ;
    watch(&watched, ends[0], "a", WEFT_WRITABLE, 1);
    run_for(0.01);
    cr_assert_str_eq(trace_text(), "", "there is none");
    while (read(ends[1], chunk, sizeof chunk) > 0)
        ;
    run_until_stopped();
    cr_assert_str_eq(trace_text(), "a:w");
    end_with_sockets();
}

Test(reactor_io, tells_both_at_once)
{
    struct watched watched;

    begin_with_sockets();
    cr_assert_eq(write(ends[1], "x", 1), 1);
    watch(&watched, ends[0], "a", WEFT_READABLE | WEFT_WRITABLE, 1);
    run_until_stopped();
    cr_assert_str_eq(trace_text(), "a:rw");
    end_with_sockets();
}

Test(reactor_io, starting_again_changes_what_is_watched_for)
{
    struct watched watched;

    begin_with_sockets();
    watch(&watched, ends[0], "a", WEFT_READABLE, 1);
    weft_io_start(&watched.io, ends[0], WEFT_READABLE);
    run_for(0.005);
    weft_io_start(&watched.io, ends[0], WEFT_WRITABLE);
    run_until_stopped();
    cr_assert_str_eq(trace_text(), "a:w");
    cr_assert_eq(write(ends[1], "x", 1), 1);
    watch(&watched, ends[0], "a", WEFT_WRITABLE, 1);
    weft_io_start(&watched.io, ends[0], WEFT_READABLE);
    run_until_stopped();
    cr_assert_str_eq(trace_text(), "a:r");
    end_with_sockets();
}

Test(reactor_io, starting_for_no_events_stops_it)
{
    struct watched watched;

    begin_with_sockets();
    watch(&watched, ends[0], "a", WEFT_WRITABLE, 1);
    weft_io_start(&watched.io, ends[0], 0);
    run_for(0.01);
    cr_assert_str_eq(trace_text(), "");
    end_with_sockets();
}

Test(reactor_io, stopped_tells_nothing_more)
{
    struct watched watched;

    begin_with_sockets();
    watch(&watched, ends[0], "a", WEFT_WRITABLE, 1);
    weft_io_stop(&watched.io);
    weft_io_stop(&watched.io);
    run_for(0.01);
    cr_assert_str_eq(trace_text(), "");
    end_with_sockets();
}

static void stop_the_other(weft_io *io, int events, void *other)
{
    (void)events;
    trace("stopped_other");
    weft_io_stop(other);
    weft_io_stop(io);
}

/* Both are ready in one turn: whichever is first stops the other, which then must not be called. */
Test(reactor_io, may_be_stopped_by_another_of_the_same_turn)
{
    weft_io first, second;

    begin_with_sockets();
    weft_io_init(&first, stop_the_other, &second);
    weft_io_init(&second, stop_the_other, &first);
    weft_io_start(&first, ends[0], WEFT_WRITABLE);
    weft_io_start(&second, ends[1], WEFT_WRITABLE);
    run_for(0.01);
    cr_assert_str_eq(trace_text(), "stopped_other");
    end_with_sockets();
}

static void free_io(weft_io *io, int events, void *unused)
{
    (void)events, (void)unused;
    weft_io_stop(io);
    memset(io, 0xff, sizeof *io);
    free(io);
    trace("freed");
}

Test(reactor_io, may_be_freed_in_its_own_callback)
{
    weft_io *io = malloc(sizeof *io);

    begin_with_sockets();
    weft_io_init(io, free_io, NULL);
    weft_io_start(io, ends[0], WEFT_WRITABLE);
    run_for(0.01);
    cr_assert_str_eq(trace_text(), "freed");
    end_with_sockets();
}

Test(reactor_io, a_hang_up_comes_as_what_was_watched_for)
{
    struct watched reading, writing;
    int more[2];

    begin_with_sockets();
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, more), 0);
    watch(&reading, ends[0], "reading", WEFT_READABLE, 1);
    close(ends[1]);
    run_until_stopped();
    watch(&writing, more[0], "writing", WEFT_WRITABLE, 1);
    close(more[1]);
    run_until_stopped();
    cr_assert_str_eq(trace_text(), "reading:r writing:w");
    cr_assert_eq(write(more[0], "x", 1), -1, "and the next write tells");
    close(more[0]);
    ends[1] = dup(ends[0]);
    end_with_sockets();
}

Test(reactor_io, works_on_a_number_that_was_closed_and_opened_again)
{
    struct watched watched;
    int again[2], number;

    begin_with_sockets();
    number = ends[0];
    watch(&watched, ends[0], "old", WEFT_READABLE, 1);
    run_for(0.005);
    weft_io_stop(&watched.io);
    close(ends[0]);
    close(ends[1]);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, again), 0);
    cr_assert_eq(again[0], number);
    watch(&watched, again[0], "new", WEFT_READABLE, 1);
    cr_assert_eq(write(again[1], "x", 1), 1);
    run_until_stopped();
    cr_assert_str_eq(trace_text(), "new:r");
    memcpy(ends, again, sizeof ends);
    end_with_sockets();
}

/* ---- signals ---- */

static void note_signal(weft_signal *watcher, int number, void *label)
{
    trace("%s:%d", (const char *)label, number);
    weft_reactor_stop(reactor);
    (void)watcher;
}

Test(reactor_signal, calls_back_in_the_loop)
{
    weft_signal watcher;
    char expected[20];

    begin();
    weft_signal_init(&watcher, note_signal, (char[]){"s"});
    weft_signal_start(&watcher, SIGUSR1);
    raise(SIGUSR1);
    cr_assert_str_eq(trace_text(), "", "not inside the signal handler");
    run_until_stopped();
    snprintf(expected, sizeof expected, "s:%d", SIGUSR1);
    cr_assert_str_eq(trace_text(), expected);
    raise(SIGUSR1);
    run_until_stopped();
    cr_assert_str_eq(trace_text(), expected, "it goes on watching");
    weft_signal_stop(&watcher);
    weft_signal_stop(&watcher);
    end();
}

static void stop_watching(weft_signal *watcher, int number, void *unused)
{
    (void)number, (void)unused;
    weft_signal_stop(watcher);
    trace("stopped");
    weft_reactor_stop(reactor);
}

Test(reactor_signal, may_be_stopped_in_its_own_callback_and_moved_to_another_number)
{
    weft_signal watcher;

    begin();
    weft_signal_init(&watcher, stop_watching, NULL);
    weft_signal_start(&watcher, SIGUSR1);
    weft_signal_start(&watcher, SIGUSR2);
    raise(SIGUSR2);
    run_until_stopped();
    cr_assert_str_eq(trace_text(), "stopped");
    end();
}

/* ---- calls from other threads ---- */

static void note_call(void *label)
{
    trace("%s", (const char *)label);
}

static void note_call_and_stop(void *label)
{
    note_call(label);
    weft_reactor_stop(reactor);
}

Test(reactor_calls, are_made_in_the_loop_in_their_order)
{
    begin();
    weft_reactor_call_from_thread(reactor, note_call, (char[]){"a"});
    weft_reactor_call_from_thread(reactor, note_call, (char[]){"b"});
    weft_reactor_call_from_thread(reactor, note_call_and_stop, (char[]){"c"});
    cr_assert_str_eq(trace_text(), "");
    run_until_stopped();
    cr_assert_str_eq(trace_text(), "a b c");
    end();
}

/* Whether the main thread, whose reactor it is, waits in the kernel. */
static bool main_thread_sleeps(void)
{
    char path[64], state = '?';
    FILE *file;

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)getpid());
    file = fopen(path, "r");
    if (!file || fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = '?';
    if (file)
        fclose(file);
    return state == 'S';
}

static void call_late(void *unused)
{
    (void)unused;
    while (!main_thread_sleeps())
        sched_yield();
    weft_reactor_call_from_thread(reactor, note_call_and_stop, (void *)(uintptr_t)"woken");
}

static void *call_late_from_thread(void *unused)
{
    call_late(unused);
    return NULL;
}

Test(reactor_calls, wake_a_loop_that_sleeps)
{
    pthread_t thread;

    begin();
    cr_assert_eq(pthread_create(&thread, NULL, call_late_from_thread, NULL), 0);
    run_until_stopped();
    pthread_join(thread, NULL);
    cr_assert_str_eq(trace_text(), "woken");
    end();
}

enum { CALLERS = 4, CALLS = 2000 };

struct caller {
    int next; /* the number that its next call should have */
};
static struct caller callers[CALLERS];
static int calls_made;

struct numbered_call {
    struct caller *caller;
    int number;
};

static void check_number(void *arg)
{
    struct numbered_call *call = arg;

    cr_assert_eq(call->number, call->caller->next);
    call->caller->next++;
    free(call);
    if (++calls_made == CALLERS * CALLS)
        weft_reactor_stop(reactor);
}

static void *call_many_times(void *arg)
{
    for (int i = 0; i < CALLS; i++) {
        struct numbered_call *call = malloc(sizeof *call);

        *call = (struct numbered_call){arg, i};
        weft_reactor_call_from_thread(reactor, check_number, call);
    }
    return NULL;
}

Test(reactor_calls, of_several_threads_keep_each_threads_order, .timeout = 30)
{
    pthread_t threads[CALLERS];

    begin();
    for (int i = 0; i < CALLERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, call_many_times, &callers[i]), 0);
    run_until_stopped();
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        cr_assert_eq(callers[i].next, CALLS);
    }
    end();
}

static void call_again(void *unused)
{
    (void)unused;
    trace("first");
    weft_reactor_call_from_thread(reactor, note_call_and_stop, (void *)(uintptr_t)"again");
}

static void note_timer(weft_timer *timer, void *label)
{
    (void)timer;
    trace("%s", (const char *)label);
}

Test(reactor_calls, made_while_calls_are_made_wait_for_the_next_turn)
{
    weft_timer timer;

    begin();
    weft_timer_init(&timer, note_timer, (char[]){"timer"});
    weft_reactor_call_from_thread(reactor, call_again, NULL);
    weft_reactor_call_from_thread(reactor, note_call, (char[]){"second"});
    weft_timer_start(&timer, weft_clock_current(), 0);
    while (weft_clock_now(weft_clock_current()) < timer.due + 1000000) /* so that the next turn surely finds it due */
        continue;
    run_until_stopped();
    /* The timer is due in the turn of the first two, on either side of them. */
    cr_assert(strcmp(trace_text(), "first second timer again") == 0 ||
              strcmp(trace_text(), "timer first second again") == 0);
    end();
}

Test(reactor_calls, left_when_it_is_freed_are_made_then)
{
    begin();
    weft_reactor_call_from_thread(reactor, note_call, (char[]){"a"});
    weft_reactor_call_from_thread(reactor, note_call, (char[]){"b"});
    end();
    cr_assert_str_eq(trace_text(), "a b");
}

static void call_once_more(void *unused)
{
    (void)unused;
    weft_reactor_call_from_thread(reactor, note_call, (void *)(uintptr_t)"more");
}

Test(reactor_calls, made_by_those_left_when_it_is_freed_are_made_too)
{
    begin();
    weft_reactor_call_from_thread(reactor, call_once_more, NULL);
    end();
    cr_assert_str_eq(trace_text(), "more");
}

/* ---- contexts: G14, G21 ---- */

static void leave_context_in_call(void *name)
{
    cr_assert_null(weft_context_current());
    weft_context_unref(weft_context_set(weft_context_new(name)));
}

static void leave_context_in_timer(weft_timer *timer, void *name)
{
    (void)timer;
    leave_context_in_call(name);
}

static void leave_context_in_io(weft_io *io, int events, void *name)
{
    (void)events;
    weft_io_stop(io);
    leave_context_in_call(name);
}

static void leave_context_in_signal(weft_signal *watcher, int number, void *name)
{
    (void)number;
    weft_signal_stop(watcher);
    leave_context_in_call(name);
}

Test(reactor_context, left_behind_is_named_with_the_callback_and_taken_away)
{
    weft_timer timer;
    weft_io io;
    weft_signal watcher;
    char name[32];

    log_capture();
    begin_with_sockets();
    weft_timer_init(&timer, leave_context_in_timer, (char[]){"by_timer"});
    weft_timer_start(&timer, weft_clock_current(), 0);
    weft_io_init(&io, leave_context_in_io, (char[]){"by_io"});
    weft_io_start(&io, ends[0], WEFT_WRITABLE);
    weft_signal_init(&watcher, leave_context_in_signal, (char[]){"by_signal"});
    weft_signal_start(&watcher, SIGUSR1);
    raise(SIGUSR1);
    weft_reactor_call_from_thread(reactor, leave_context_in_call, (char[]){"by_call"});
    run_for(0.02);
    cr_assert_eq(log_count("left the context by_timer behind"), 1);
    cr_assert_eq(log_count("left the context by_io behind"), 1);
    cr_assert_eq(log_count("left the context by_signal behind"), 1);
    cr_assert_eq(log_count("left the context by_call behind"), 1);
    cr_assert_eq(log_count("ERROR - "), 4, "each is logged in no context");
    snprintf(name, sizeof name, "callback at %p", (void *)(uintptr_t)leave_context_in_timer);
    cr_assert_eq(log_count(name), 1);
    cr_assert_null(weft_context_current());
    cr_assert_eq(weft_live_counts_get().contexts, 0);
    end_with_sockets();
}

static void note_current(weft_timer *timer, void *label)
{
    (void)timer;
    trace("%s@%s", (const char *)label, weft_context_get_name(weft_context_current()));
}

/* main() may be in a context itself, and is again when the run ends. */
Test(reactor_context, of_the_one_who_runs_it_is_not_that_of_its_callbacks)
{
    weft_timer timer;
    weft_context *previous;

    log_capture();
    begin();
    previous = enter("main");
    weft_timer_init(&timer, note_current, (char[]){"timer"});
    weft_timer_start(&timer, weft_clock_current(), 0);
    run_for(0.01);
    trace("main@%s", weft_context_get_name(weft_context_current()));
    cr_assert_str_eq(trace_text(), "timer@- main@main");
    end();
    trace("main@%s", weft_context_get_name(weft_context_current()));
    cr_assert_str_eq(trace_text(), "main@main");
    leave(previous);
    cr_assert_eq(log_count(""), 0);
}

/* ---- what once went wrong ---- */

/* Once it returned without a result, which was later written into a frame that was gone. */
Test(reactor, runs_until_is_not_ended_by_a_stop_from_a_timer_while_it_waits)
{
    weft_deferred *awaited = pending();
    weft_timer early, late;

    begin();
    weft_timer_init(&early, stop, NULL);
    weft_timer_start(&early, weft_clock_current(), 0);
    weft_timer_init(&late, fire_it, awaited);
    weft_timer_start(&late, weft_clock_current(), 0.005);
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, weft_deferred_ref(awaited))), "5");
    weft_deferred_unref(awaited);
    end();
}

/* Also one that has its result: that is somebody else's. */
Test(reactor, runs_until_of_what_was_handed_over_is_a_misuse)
{
    weft_deferred *taken = done(weft_int(1));

    begin();
    weft_result_drop(weft_deferred_take_result(taken));
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, taken)), "!misuse");
    cr_assert_eq(weft_live_counts_get().deferreds, 0, "and takes the reference");
    end();
}

static void note_context_of_call(void *label)
{
    trace("%s@%s", (const char *)label, weft_context_get_name(weft_context_current()));
}

Test(reactor_context, of_the_one_who_frees_it_is_not_that_of_the_calls_that_were_left)
{
    weft_context *previous;

    log_capture();
    begin();
    weft_reactor_call_from_thread(reactor, note_context_of_call, (char[]){"call"});
    weft_reactor_call_from_thread(reactor, leave_context_in_call, (char[]){"by_call"});
    previous = enter("main");
    end();
    trace("main@%s", weft_context_get_name(weft_context_current()));
    cr_assert_str_eq(trace_text(), "call@- main@main");
    cr_assert_eq(log_count("left the context by_call behind"), 1);
    leave(previous);
}

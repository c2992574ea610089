/* The reactor: one libev loop per thread.
 *
 * A turn drains the ready queue, then lets libev poll and call back. libev tells us right before and right after the poll,
 * which is charged to no context as far as it does not sleep; after it the clock is read once for the turn. */
#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <weft/log.h>

#include "lib/clock.h"
#include "lib/context.h"
#include "lib/deferred.h"
#include "lib/task.h"
#include "runtime/loop/handle.h"
#include "runtime/loop/loop.h"
#include "runtime/loop/pools.h"
#include "runtime/loop/publishing.h"
#include "runtime/loop/stall.h"

static const double GOODBYE_SECONDS = 0.5;
enum { GOODBYES = 10 };

struct weft_reactor {
    weft_clock clock; /* first: a clock is its reactor */
    struct ev_loop *loop;
    void (*forget_fibers)(void); /* NULL until the first has been started */
    weft_stack_use (*stack_use)(void); /* the same */
    struct weft__published *published;
    struct weft__watch watch;
    weft_reactor_handle *handle;
    bool running;
    bool stopped;
};

static __thread weft_reactor *current;

_Static_assert(sizeof(ev_timer) <= sizeof(((weft_timer *)0)->weft__private), "a weft_timer has room for libev's");
_Static_assert(sizeof(ev_io) <= sizeof(((weft_io *)0)->weft__private), "a weft_io has room for libev's");
_Static_assert(sizeof(ev_signal) <= sizeof(((weft_signal *)0)->weft__private), "a weft_signal has room for libev's");

/* ---- the clock ---- */

static int64_t reactor_now(weft_clock *clock)
{
    (void)clock;
    return weft__monotonic();
}

static ev_timer *timer_watcher(weft_timer *timer)
{
    return (ev_timer *)timer->weft__private;
}

static void timer_due(struct ev_loop *loop, ev_timer *watcher, int events)
{
    weft_timer *timer = watcher->data;
    const void *fn = (const void *)timer->fn;
    weft_reactor *reactor = ev_userdata(loop);

    (void)events;
    weft__timer_is_late(reactor->published, reactor->clock.recent - timer->due);
    weft_timer_fire(timer);
    weft__context_leave_callback(fn);
}

/* libev counts from the beginning of the turn, as `recent` does: a timer started late in a long turn is not short. */
static void reactor_timer_start(weft_clock *clock, weft_timer *timer)
{
    weft_reactor *reactor = (weft_reactor *)clock;
    ev_timer *watcher = timer_watcher(timer);

    ev_timer_init(watcher, timer_due, timer->due > clock->recent ? (double)(timer->due - clock->recent) / 1e9 : 0, 0);
    watcher->data = timer;
    ev_timer_start(reactor->loop, watcher);
}

static void reactor_timer_stop(weft_clock *clock, weft_timer *timer)
{
    ev_timer_stop(((weft_reactor *)clock)->loop, timer_watcher(timer));
}

/* ---- around the poll ---- */

static void publish(weft_reactor *reactor)
{
    weft__publish(reactor->published, reactor->stack_use ? reactor->stack_use() : (weft_stack_use){0});
}

static void turn_ends(weft_reactor *reactor)
{
    weft__observe_alone(reactor->published->turns, weft__monotonic() - reactor->published->turn_began);
    publish(reactor);
}

static void before_poll(struct ev_loop *loop) EV_NOEXCEPT
{
    weft_reactor *reactor = ev_userdata(loop);

    weft__contexts_look();
    turn_ends(reactor);
    weft__books_before_poll(&weft__thread.books);
    weft__watch_rest(&reactor->watch);
}

static void after_poll(struct ev_loop *loop) EV_NOEXCEPT
{
    weft_reactor *reactor = ev_userdata(loop);

    weft__watch_work(&reactor->watch);
    weft__books_after_poll(&weft__thread.books, weft__account_of(weft__thread.context));
    reactor->clock.recent = reactor->published->turn_began = weft__monotonic();
}

/* ---- calls from other threads ---- */

weft_reactor_handle *weft_reactor_get_handle(weft_reactor *reactor)
{
    return reactor->handle;
}

void weft_reactor_call_from_thread(weft_reactor *reactor, weft_call_fn *fn, void *arg)
{
    if (!weft_reactor_handle_call(reactor->handle, fn, arg))
        weft_log_error("misuse: a call from another thread is lost, as it comes when the reactor is all but freed");
}

/* ---- life ---- */

/* libev ends the program when it cannot open what a loop needs: a poller and what wakes it. So try first. */
static weft_error *try_descriptors(void)
{
    int first = eventfd(0, EFD_CLOEXEC), second = eventfd(0, EFD_CLOEXEC);
    weft_error *error = NULL;

    if (second < 0)
        error = weft_error_os(errno, "cannot open the descriptors of a reactor");
    else
        close(second);
    if (first >= 0)
        close(first);
    return error;
}

weft_error *weft_reactor_new(weft_reactor **out)
{
    int64_t now = weft__monotonic(); /* before libev's own reading: a timer counted from here is not early */
    weft_reactor *reactor;
    struct ev_loop *loop;
    weft_error *error;

    if (current)
        return weft_error_new(&WEFT_MISUSE, "this thread has a reactor already");
    if ((error = try_descriptors()))
        return error;
    loop = ev_loop_new(EVFLAG_AUTO);
    if (!loop)
        return weft_error_new(&WEFT_FAILURE, "libev cannot make a loop");
    reactor = weft_alloc(sizeof *reactor);
    *reactor = (weft_reactor){
        .clock = {now, reactor_now, reactor_timer_start, reactor_timer_stop},
        .loop = loop,
        .published = weft__published_take(),
    };
    reactor->handle = weft__handle_new(loop, reactor->published);
    ev_set_userdata(loop, reactor);
    ev_set_loop_release_cb(loop, before_poll, after_poll);
    signal(SIGPIPE, SIG_IGN);
    if (!weft_log_has_sink())
        weft_log_to_stderr();
    weft__observe_process();
    weft_clock_set(&reactor->clock);
    current = reactor;
    weft__environment_heed(reactor);
    *out = reactor;
    return NULL;
}

weft_reactor *weft_reactor_current(void)
{
    return current;
}

weft_clock *weft_reactor_get_clock(weft_reactor *reactor)
{
    return &reactor->clock;
}

weft_error *weft_reactor_set_stall_limit(weft_reactor *reactor, double seconds)
{
    assert(reactor == current);
    return weft__watch_set_limit(&reactor->watch, seconds);
}

void weft__reactor_publish_now(void)
{
    if (current)
        publish(current);
}

void weft__reactor_publishes_stacks(weft_reactor *reactor, weft_stack_use (*use)(void))
{
    reactor->stack_use = use;
}

void weft__reactor_on_free(weft_reactor *reactor, void (*forget)(void))
{
    reactor->forget_fibers = forget;
}

/* ---- running ---- */

/* Whether the caller is something that the reactor runs, or a fiber that was started before it ran. */
static bool is_inside(weft_reactor *reactor)
{
    return reactor->running || weft__thread.task || weft__thread.stack_of;
}

bool weft__reactor_must_not_block(const weft_reactor_handle *handle)
{
    return current && (current->handle == handle || is_inside(current));
}

static void drain_ready(void)
{
    weft__ready_drain(&weft__thread.ready);
}

static void poll_and_call_back(weft_reactor *reactor)
{
    ev_run(reactor->loop, weft__thread.ready.count ? EVRUN_NOWAIT : EVRUN_ONCE);
}

/* Runs in no context; returns whose place that took, for leave_run. */
static weft_context *enter_run(weft_reactor *reactor)
{
    assert(reactor == current && !is_inside(reactor));
    weft__handle_heed_fork(reactor->handle);
    reactor->running = weft__thread.draining = true;
    if (reactor->watch.limit)
        weft__watch_resume(&reactor->watch);
    weft__watch_work(&reactor->watch);
    reactor->published->turn_began = weft__monotonic();
    return weft__context_swap(NULL);
}

static void leave_run(weft_reactor *reactor, weft_context *callers)
{
    weft__context_swap(callers);
    turn_ends(reactor);
    weft__watch_rest(&reactor->watch);
    reactor->running = weft__thread.draining = false;
}

static void run_until(weft_reactor *reactor, const bool *over)
{
    while (!*over) {
        drain_ready();
        if (!*over)
            poll_and_call_back(reactor);
    }
}

static void wake_up(weft_timer *timer, void *arg)
{
    (void)timer, (void)arg;
}

/* Turns while there are any `left`, for so long at most. */
static void turn_for(weft_reactor *reactor, double seconds, bool (*left)(weft_reactor *reactor))
{
    weft_timer patience;

    weft_timer_init(&patience, wake_up, NULL);
    weft_timer_start(&patience, &reactor->clock, seconds);
    while (left(reactor) && weft_timer_started(&patience)) {
        drain_ready();
        if (left(reactor))
            poll_and_call_back(reactor);
    }
    weft_timer_stop(&patience);
}

static bool blocking_calls_left(weft_reactor *reactor)
{
    return reactor->handle->begun;
}

/* Other threads must not be left waiting for a reactor that does not turn. */
static void end_blocking_calls(weft_reactor *reactor)
{
    weft__handle_admit(reactor->handle, false);
    for (int i = 0; i < GOODBYES && blocking_calls_left(reactor); i++) {
        weft__handle_cancel_begun(reactor->handle);
        turn_for(reactor, GOODBYE_SECONDS, blocking_calls_left);
    }
    if (blocking_calls_left(reactor))
        weft_log_warn("the reactor has stopped, and a blocking call from another thread has not ended: that thread waits");
}

void weft_reactor_run(weft_reactor *reactor)
{
    weft_context *callers = enter_run(reactor);

    reactor->stopped = false;
    weft__handle_admit(reactor->handle, true);
    run_until(reactor, &reactor->stopped);
    end_blocking_calls(reactor);
    leave_run(reactor, callers);
}

void weft_reactor_stop(weft_reactor *reactor)
{
    reactor->stopped = true;
}

struct outcome {
    weft_result result;
    bool known;
};

static weft_result outcome_set(weft_result result, void *arg)
{
    struct outcome *outcome = arg;

    outcome->result = result;
    outcome->known = true;
    return weft_ok(NULL);
}

weft_result weft_reactor_run_until(weft_reactor *reactor, weft_deferred *deferred)
{
    struct outcome outcome = {.known = false};
    const char *misuse = NULL;
    weft_context *callers;

    if (is_inside(reactor))
        misuse = "weft_reactor_run_until is called inside the running reactor";
    else if (deferred->flags & WEFT__CONSUMED)
        misuse = "weft_reactor_run_until is given a deferred that somebody else waits for, or waited for";
    if (misuse) {
        weft_deferred_unref(deferred);
        return weft_fail(weft_error_new(&WEFT_MISUSE, "%s", misuse));
    }
    weft_deferred_unref(weft_deferred_add_both(deferred, outcome_set, &outcome));
    callers = enter_run(reactor);
    weft__handle_admit(reactor->handle, true);
    run_until(reactor, &outcome.known);
    leave_run(reactor, callers);
    return outcome.result;
}

static bool fibers_left(weft_reactor *reactor)
{
    (void)reactor;
    return weft__thread.tasks.count;
}

/* Asks everything that runs to stop, and again for what clean-up has started or waits for meanwhile. */
static void say_goodbye(weft_reactor *reactor)
{
    for (int i = 0; i < GOODBYES && fibers_left(reactor); i++) {
        weft__tasks_cancel_all();
        turn_for(reactor, GOODBYE_SECONDS, fibers_left);
    }
}

static bool pools_left(weft_reactor *reactor)
{
    (void)reactor;
    return weft__pools_left();
}

/* Only now, as clean-up may need them. Whoever waits for a job that cannot be abandoned goes on when that has ended. */
static void close_pools(weft_reactor *reactor)
{
    double patience = 1;

    weft__pools_close();
    for (turn_for(reactor, patience, pools_left); pools_left(reactor); turn_for(reactor, patience *= 2, pools_left)) {
        weft__pools_lose_patience();
        weft__pools_close(); /* also those that were made meanwhile */
    }
}

static bool anything_left(weft_reactor *reactor)
{
    bool calls = weft__handle_make_calls(reactor->handle); /* which may have started fibers, or made more calls */

    return pools_left(reactor) || calls || !weft__handle_retire(reactor->handle);
}

weft_reactor *weft_reactor_free(weft_reactor *reactor)
{
    weft_context *callers;

    if (!reactor)
        return NULL;
    callers = enter_run(reactor);
    weft__handle_admit(reactor->handle, false);
    do {
        say_goodbye(reactor);
        if (pools_left(reactor)) {
            close_pools(reactor);
            say_goodbye(reactor);
        }
    } while (anything_left(reactor));
    if (fibers_left(reactor))
        weft__tasks_abandon();
    if (reactor->forget_fibers)
        reactor->forget_fibers();
    weft__ready_shuffle(&weft__thread.ready, 0);
    leave_run(reactor, callers);
    weft__contexts_look();
    weft_deferred_report_unhandled();
    (void)weft__watch_set_limit(&reactor->watch, 0);
    current = NULL;
    weft_clock_set(NULL);
    ev_loop_destroy(reactor->loop);
    weft_reactor_handle_unref(reactor->handle);
    weft__published_give(reactor->published);
    weft_free(reactor);
    return NULL;
}

/* ---- descriptors ---- */

static struct ev_loop *current_loop(void)
{
    assert(current && "a watcher needs a reactor on its thread");
    return current->loop;
}

static ev_io *io_watcher(weft_io *io)
{
    return (ev_io *)io->weft__private;
}

static void io_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    weft_io *io = watcher->data;
    const void *fn = (const void *)io->fn;

    (void)loop;
    io->fn(io, events & (EV_READ | EV_WRITE), io->arg);
    weft__context_leave_callback(fn);
}

_Static_assert(WEFT_READABLE == (int)EV_READ && WEFT_WRITABLE == (int)EV_WRITE, "events need no translation");

void weft_io_init(weft_io *io, weft_io_fn *fn, void *arg)
{
    *io = (weft_io){.fn = fn, .arg = arg};
    ev_io_init(io_watcher(io), io_ready, -1, 0);
    io_watcher(io)->data = io;
}

void weft_io_start(weft_io *io, int fd, int events)
{
    ev_io *watcher = io_watcher(io);

    if (ev_is_active(watcher) && watcher->fd == fd && (watcher->events & (EV_READ | EV_WRITE)) == events)
        return;
    ev_io_stop(current_loop(), watcher);
    ev_io_set(watcher, fd, events);
    if (events)
        ev_io_start(current_loop(), watcher);
}

void weft_io_stop(weft_io *io)
{
    if (ev_is_active(io_watcher(io)))
        ev_io_stop(current_loop(), io_watcher(io));
}

/* ---- signals ---- */

static ev_signal *signal_watcher(weft_signal *watcher)
{
    return (ev_signal *)watcher->weft__private;
}

static void signal_came(struct ev_loop *loop, ev_signal *watcher, int events)
{
    weft_signal *watched = watcher->data;
    const void *fn = (const void *)watched->fn;

    (void)loop, (void)events;
    watched->fn(watched, watcher->signum, watched->arg);
    weft__context_leave_callback(fn);
}

void weft_signal_init(weft_signal *watcher, weft_signal_fn *fn, void *arg)
{
    *watcher = (weft_signal){.fn = fn, .arg = arg};
    ev_signal_init(signal_watcher(watcher), signal_came, 0);
    signal_watcher(watcher)->data = watcher;
}

void weft_signal_start(weft_signal *watcher, int number)
{
    weft_signal_stop(watcher);
    ev_signal_set(signal_watcher(watcher), number);
    ev_signal_start(current_loop(), signal_watcher(watcher));
}

void weft_signal_stop(weft_signal *watcher)
{
    if (ev_is_active(signal_watcher(watcher)))
        ev_signal_stop(current_loop(), signal_watcher(watcher));
}

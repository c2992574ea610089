/* serve_fibers: fibers for a debugger to look at, on two threads: each waits three functions deep, in a context of its own.
 * Says "parked" when all wait, and ends by SIGTERM. */
#include <weft/log.h>
#include <weft/weft.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

/* Two that nobody fires: one deferred has one waiter. */
static weft_deferred *nothing, *never;

static __attribute__((noinline)) weft_result wait_innermost(int depth)
{
    weft_result result = weft_await(weft_deferred_ref(nothing));

    weft_log_debug("%d deep", depth); /* so that the call above is none of the last: that would leave no frame */
    return result;
}

static __attribute__((noinline)) weft_result wait_in_the_middle(int depth)
{
    weft_result result = wait_innermost(depth + 1);

    weft_log_debug("%d deep", depth);
    return result;
}

static weft_result reader(void *unused)
{
    weft_result result;

    (void)unused;
    result = wait_in_the_middle(41);
    weft_log_debug("reader ends");
    return result;
}

static weft_result sleeper(void *unused)
{
    (void)unused;
    return weft_sleep(1000);
}

static weft_result step(weft_result sent, void *unused)
{
    (void)unused;
    return weft_failed(sent) ? sent : weft_later(weft_deferred_ref(never));
}

static weft_result other_thread_reader(void *deferred)
{
    weft_result result = weft_await(deferred);

    weft_log_debug("the other reader ends");
    return result;
}

static void stop(weft_signal *signal, int number, void *reactor)
{
    (void)signal, (void)number;
    weft_reactor_stop(reactor);
}

static void *other_thread(void *started)
{
    weft_deferred *others = weft_deferred_new(NULL, NULL), *fiber;
    weft_reactor *reactor;

    weft_error_unref(weft_reactor_new(&reactor));
    fiber = weft_spawn(other_thread_reader, weft_deferred_ref(others));
    pthread_barrier_wait(started);
    pthread_barrier_wait(started);
    weft_deferred_cancel(fiber);
    weft_result_drop(weft_reactor_run_until(reactor, fiber));
    weft_deferred_unref(others);
    weft_reactor_free(reactor);
    return NULL;
}

static weft_deferred *spawn_in_context(weft_fiber_fn *fn, const char *name, const char *context)
{
    weft_context *previous = weft_context_set(weft_context_new(context));
    weft_deferred *fiber = weft_spawn_at(fn, NULL, name, WEFT_HERE);

    weft_context_unref(weft_context_set(previous));
    return fiber;
}

int main(void)
{
    weft_deferred *ends[3];
    pthread_barrier_t started;
    weft_reactor *reactor;
    weft_signal terminate;
    pthread_t other;

    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); /* the debugger is no ancestor of this process */
    weft_error_unref(weft_reactor_new(&reactor));
    weft_signal_init(&terminate, stop, reactor);
    weft_signal_start(&terminate, SIGTERM);
    nothing = weft_deferred_new(NULL, NULL);
    never = weft_deferred_new(NULL, NULL);
    ends[0] = spawn_in_context(reader, "reader", "GET-17");
    ends[1] = spawn_in_context(sleeper, "sleeper", "timer");
    ends[2] = weft_drive(step, NULL);
    pthread_barrier_init(&started, NULL, 2);
    pthread_create(&other, NULL, other_thread, &started);
    pthread_barrier_wait(&started);
    printf("parked\n");
    fflush(stdout);
    weft_reactor_run(reactor);

    pthread_barrier_wait(&started);
    pthread_join(other, NULL);
    for (int i = 0; i < 3; i++) {
        weft_deferred_cancel(ends[i]);
        weft_result_drop(weft_reactor_run_until(reactor, ends[i]));
    }
    weft_deferred_unref(nothing);
    weft_deferred_unref(never);
    weft_reactor_free(reactor);
    return 0;
}

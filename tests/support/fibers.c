#include "tests/support/fibers.h"

#include "tests/support/test.h"

/* ---- the reactor of this thread ---- */

static __thread weft_reactor *reactor;

void begin(void)
{
    cr_assert_null(weft_reactor_new(&reactor));
}

void end(void)
{
    reactor = weft_reactor_free(reactor);
    cr_assert_eq(weft_live_counts_get().fibers, 0);
}

static void stop(weft_timer *timer, void *unused)
{
    (void)timer, (void)unused;
    weft_reactor_stop(reactor);
}

void run_for(double seconds)
{
    weft_timer timer;

    weft_timer_init(&timer, stop, NULL);
    weft_timer_start(&timer, weft_reactor_get_clock(reactor), seconds);
    weft_reactor_run(reactor);
}

void settle(void)
{
    for (int i = 0; i < 3; i++)
        run_for(0);
}

void run_all(void)
{
    while (weft_live_counts_get().fibers)
        run_for(0);
}

weft_result run_until(weft_deferred *deferred)
{
    return weft_reactor_run_until(reactor, deferred);
}

/* ---- waits and bodies ---- */

weft_result noted_await(weft_deferred *deferred, const char *label)
{
    return note(weft_await(deferred), (void *)label);
}

weft_result wait_in_turn(void *arg)
{
    static const char *const labels[] = {"a", "b", "c", "d"};
    const struct waits *waits = arg;

    for (int i = 0; i < 4 && waits->awaited[i]; i++)
        weft_result_drop(noted_await(waits->awaited[i], labels[i]));
    return weft_int(1);
}

weft_result wait_for(void *deferred)
{
    return noted_await(deferred, "wait");
}

weft_deferred *spawn_in(const char *context, weft_fiber_fn *fn, void *arg)
{
    weft_context *previous = enter(context);
    weft_deferred *d = weft_spawn(fn, arg);

    cr_assert_str_eq(weft_context_get_name(weft_context_current()), context, "spawning keeps the caller's");
    leave(previous);
    return d;
}

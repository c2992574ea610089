/* Timers of whichever clock they are started on. */
#include <assert.h>

#include <weft/clock.h>

#include "lib/thread.h"

weft_clock *weft_clock_current(void)
{
    return weft__thread.clock;
}

weft_clock *weft_clock_set(weft_clock *clock)
{
    weft_clock *previous = weft__thread.clock;

    weft__thread.clock = clock;
    return previous;
}

void weft_timer_init(weft_timer *timer, weft_timer_fn *fn, void *arg)
{
    *timer = (weft_timer){.fn = fn, .arg = arg};
}

void weft_timer_start(weft_timer *timer, weft_clock *clock, double seconds)
{
    assert(clock && "a timer needs a clock: is there a reactor on this thread?");
    weft_timer_stop(timer);
    timer->clock = clock;
    clock->start(clock, timer, seconds);
    weft__thread.live.timers++;
}

void weft_timer_stop(weft_timer *timer)
{
    if (!timer->clock)
        return;
    timer->clock->stop(timer->clock, timer);
    timer->clock = NULL;
    weft__thread.live.timers--;
}

void weft_timer_fire(weft_timer *timer)
{
    timer->clock = NULL;
    weft__thread.live.timers--;
    timer->fn(timer, timer->arg);
}

/* Timers of whichever clock they are started on. */
#include <weft/clock.h>
#include <weft/log.h>

#include "lib/clock.h"

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

void weft_timer_start_due(weft_timer *timer, weft_clock *clock, int64_t due)
{
    weft_timer_stop(timer);
    if (!clock) {
        weft_log_error("misuse: a timer for %p was started without a clock: is there a reactor on this thread?",
                       (const void *)timer->fn);
        return;
    }
    timer->clock = clock;
    timer->due = due;
    clock->start(clock, timer);
    weft__thread.live.timers++;
}

void weft_timer_start(weft_timer *timer, weft_clock *clock, double seconds)
{
    int64_t wait = seconds > 0 ? weft__nanoseconds(seconds) : 0;

    weft_timer_start_due(timer, clock, clock ? weft__instant_after(clock->now(clock), wait) : 0);
}

bool weft_timer_delay(weft_timer *timer, double seconds)
{
    if (!timer->clock)
        return false;
    weft_timer_start_due(timer, timer->clock, weft__instant_after(timer->due, weft__nanoseconds(seconds)));
    return true;
}

void weft_timer_stop(weft_timer *timer)
{
    if (!timer->clock)
        return;
    timer->clock->stop(timer->clock, timer);
    timer->clock = NULL;
    weft__thread.live.timers--;
}

double weft_timer_remaining(const weft_timer *timer)
{
    int64_t now;

    if (!timer->clock || timer->due == INT64_MAX)
        return __builtin_inf();
    now = timer->clock->now(timer->clock);
    return timer->due > now ? (double)(timer->due - now) / 1e9 : 0;
}

void weft_timer_fire(weft_timer *timer)
{
    timer->clock = NULL;
    weft__thread.live.timers--;
    timer->fn(timer, timer->arg);
}

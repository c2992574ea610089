/* weft/clock.h: the time, and timers, from whoever keeps them: a reactor, or a test.
 *
 * The core has no time of its own. A clock is an interface: its owner fills in a weft_clock, and whoever needs time is
 * given one. Durations are seconds (double, rounded to the nearest nanosecond), instants are nanoseconds (int64_t) since
 * some fixed moment of that clock; they never go back. INT64_MAX is never. */
#ifndef WEFT_CLOCK_H
#define WEFT_CLOCK_H

#include <weft/base.h>

WEFT_BEGIN

typedef struct weft_clock weft_clock;
typedef struct weft_timer weft_timer;

/* Called once, in no log context, on the thread of the clock, when the timer is due; by then the timer is stopped, and
 * may be started again or freed. */
typedef void weft_timer_fn(weft_timer *timer, void *arg);

/* Lives in the memory of its user, who must stop it before freeing that memory. */
struct weft_timer {
    weft_timer_fn *fn;      /* public, set by weft_timer_init */
    void *arg;              /* public */
    weft_clock *clock;      /* read only: the clock it is started on, NULL when stopped */
    int64_t due;            /* read only: the instant at which it is due, or, once it has fired, was */
    char weft__private[56] __attribute__((aligned(8))); /* the clock's */
};

struct weft_clock {
    int64_t recent; /* what `now` said when the current turn of its loop began: free to read */
    int64_t (*now)(weft_clock *clock);
    void (*start)(weft_clock *clock, weft_timer *timer); /* `timer` was stopped; due at timer->due, which may have passed */
    void (*stop)(weft_clock *clock, weft_timer *timer);  /* `timer` is started */
};

/* The clock of this thread's reactor; NULL when it has none. Borrowed. */
WEFT_API weft_clock *weft_clock_current(void);
/* Sets it, and returns the previous one or NULL: for those who bring a clock, which is borrowed until another is set. */
WEFT_API weft_clock *weft_clock_set(weft_clock *clock);

/* The time at this moment, and at the beginning of the turn of its loop, which costs nothing. Nanoseconds. */
static inline int64_t weft_clock_now(weft_clock *clock)
{
    return clock->now(clock);
}

static inline int64_t weft_clock_recent(const weft_clock *clock)
{
    return clock->recent;
}

/* A stopped timer that will call fn(timer, arg); `arg` is borrowed while it is started. */
WEFT_API void weft_timer_init(weft_timer *timer, weft_timer_fn *fn, void *arg);
/* Fires once, `seconds` from now (at once, on the clock's next round, when that is not positive). Starting a started
 * timer moves it. Runs nothing itself. Without a clock, NULL, it stays stopped, and the misuse is logged: here and below. */
WEFT_API void weft_timer_start(weft_timer *timer, weft_clock *clock, double seconds);
/* The same at an instant of that clock, for those who keep to a grid; one that has passed is now. */
WEFT_API void weft_timer_start_due(weft_timer *timer, weft_clock *clock, int64_t due);
/* Makes a started timer fire so much later, or, when that is negative, earlier. False, and nothing, when it is stopped. */
WEFT_API bool weft_timer_delay(weft_timer *timer, double seconds);
/* A stopped timer is fine: whoever stops one wants it not to fire, and need not know whether it has fired already. */
WEFT_API void weft_timer_stop(weft_timer *timer);

/* From its start until it is stopped or about to fire. */
static inline bool weft_timer_started(const weft_timer *timer)
{
    return timer->clock != NULL;
}

/* Seconds until it is due: 0 when that has passed, infinite when it is stopped. */
WEFT_API double weft_timer_remaining(const weft_timer *timer);

/* For clocks: `timer` is due. Marks it stopped, then calls its function; the clock sees to it that no context is current. */
WEFT_API void weft_timer_fire(weft_timer *timer);

WEFT_END

#endif

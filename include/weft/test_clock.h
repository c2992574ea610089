/* weft/test_clock.h: a clock that stands still until a test moves it: hours pass in no time, and always alike.
 *
 *     weft_test_clock *time = weft_test_clock_new();
 *     weft_deferred *d = fetch_with_retries(weft_test_clock_get_clock(time), ...);
 *     weft_test_clock_advance(time, 3600);
 *
 * It begins at 0. Everything that takes a weft_clock takes this one; for what asks weft_clock_current, weft_clock_set
 * makes it the thread's. Instants are whole nanoseconds, so that ten times 0.1 s is one second exactly. As a reactor
 * does, it calls timers in no log context; a context left behind is logged and taken away. */
#ifndef WEFT_TEST_CLOCK_H
#define WEFT_TEST_CLOCK_H

#include <weft/clock.h>

WEFT_BEGIN

typedef struct weft_test_clock weft_test_clock;

/* ---- life --------------------------------------------------------------------------------------------------------- */

/* The caller's, at 0, with no timers. */
WEFT_API weft_test_clock *weft_test_clock_new(void) __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Timers that are still started are stopped, and their number is logged as an error: something was left behind. What they
 * would have fired stays as it is, and can still be cancelled. May be called by a timer of the clock: then memory goes when
 * the call that fired it returns. NULL is fine; returns NULL. */
WEFT_API weft_test_clock *weft_test_clock_free(weft_test_clock *time);

WEFT_API weft_clock *weft_test_clock_get_clock(weft_test_clock *time); /* borrowed */

/* ---- letting time pass: each fires timers, which may do anything, also let time pass --------------------------------- */

/* Moves on by so many seconds, from one due timer to the next: each sees the time at which it is due; equal ones fire in the
 * order in which they were started. A timer started by another fires as well if it is due within the span: two waits of
 * 1 s, one after the other, both end within advance(2). With 0, those due now fire.
 *
 * A timer that starts itself again with no delay would go on for ever: after 10,000 rounds at one instant this gives up,
 * logs an error, and returns false; the time is then that instant, and the timers are still started. A span that is
 * negative, infinite or not a number is a misuse: logged, nothing is done, false. */
WEFT_API bool weft_test_clock_advance(weft_test_clock *time, double seconds);

/* Advances by each of `count` spans in turn; false as soon as one of them is. */
WEFT_API bool weft_test_clock_pump(weft_test_clock *time, const double *spans, size_t count);

/* One turn of a loop: fires the timers that are due now, but none that these start. Returns how many fired. */
WEFT_API size_t weft_test_clock_turn(weft_test_clock *time);

/* So many seconds pass in which nobody looks at the clock, as when a callback takes long or the machine sleeps: nothing
 * fires, and what became due meanwhile fires late, in the next advance or turn. Misuse as in advance. */
WEFT_API bool weft_test_clock_stall(weft_test_clock *time, double seconds);

/* ---- asking ----------------------------------------------------------------------------------------------------------- */

WEFT_API size_t weft_test_clock_count_timers(const weft_test_clock *time); /* started ones */
/* Seconds until the next timer is due: 0 when that has passed, infinite when there is none that will ever be. */
WEFT_API double weft_test_clock_until_next(const weft_test_clock *time);

WEFT_AUTO(weft_test_clock, weft_test_clock_free)

WEFT_END

#endif

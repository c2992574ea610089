/* weft/later.h: doing something after a while. */
#ifndef WEFT_LATER_H
#define WEFT_LATER_H

#include <weft/deferred.h>

WEFT_BEGIN

/* May return weft_later(inner): the result is then what `inner` brings. May do anything to the deferred it runs for. */
typedef weft_result weft_later_fn(void *arg);

/* A deferred that fires in `seconds` (on the clock's next round when that is not positive) with what `fn(arg)` returns then;
 * with success without a value when `fn` is NULL. `fn` runs once, on the clock's stack, in the log context of this call.
 *
 * Cancelled before, the timer goes, `fn` never runs, and the cancellation comes out; cancelled while it waits for what `fn`
 * returned, that is cancelled. `arg` is borrowed until `fn` has run or the deferred has failed.
 *
 * The timer holds a reference, since it fires the deferred: a caller who lets go of his does not stop it, `fn` runs
 * nevertheless, and an error of its is then reported as unhandled. A clock of NULL fails with WEFT_MISUSE. */
#define weft_defer_later(clock, seconds, fn, arg) weft_defer_later_at(clock, seconds, fn, arg, WEFT_HERE)
WEFT_API weft_deferred *weft_defer_later_at(weft_clock *clock, double seconds, weft_later_fn *fn, void *arg,
                                            const weft_place *place) __attribute__((returns_nonnull)) WEFT_MUST_USE;

WEFT_END

#endif

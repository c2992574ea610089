/* weft/driver.h: driving a computation that keeps its own place: a generator of another language, a state machine.
 *
 * Such a computation is a function that is stepped: it is called with what it waited for, runs to its next wait, and says
 * what that is by returning it. Everything else is the driver's: it waits, steps again through the ready queue when the wait
 * is over, goes on in a loop when there is nothing to wait for, sends a cancel down to what is waited for, and keeps one
 * that comes between two waits for the next. It is what a fiber has as well (weft/fiber.h), less the stack: log contexts,
 * scopes and the rules of cancelling are the same.
 *
 *     static weft_result next(weft_result sent, void *arg)
 *     {
 *         PyObject *yielded = send(arg, sent);
 *         return finished ? result_of(yielded) : weft_later(deferred_of(yielded));
 *     } */
#ifndef WEFT_DRIVER_H
#define WEFT_DRIVER_H

#include <weft/deferred.h>

WEFT_BEGIN

/* Runs to the next wait. Takes `sent`: success with no value at first, then what the wait has brought, a failure too.
 * weft_later(d) waits for d, which it gives away; anything else is the result, and the function is not called again. Runs in
 * the computation's own log context, on the stack of whoever steps it, and must not wait in any other way: weft_await in it
 * is a WEFT_MISUSE error. It may enter a scope (weft/scope.h) in one step and leave it in another. To wait for its own
 * deferred, or for what somebody else waits for, brings a WEFT_MISUSE failure. */
typedef weft_result weft_step_fn(weft_result sent, void *arg);

/* Steps `fn` for the first time, at once, in the log context and the scope of the caller, and returns the deferred of its
 * result, which is the caller's. `arg` is borrowed until that is fired. A caller that does not want to know may unref the
 * deferred: it runs on. */
#define weft_drive(fn, arg) weft_drive_at(fn, arg, #fn, WEFT_HERE)
WEFT_API weft_deferred *weft_drive_at(weft_step_fn *fn, void *arg, const char *name, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* For loops other than weft's own: lets those whose wait is over go on, as many as there are now and a bounded number more.
 * Returns how many are ready still. Runs steps, fibers and callbacks, so it is not for these: inside one it is a misuse,
 * logged, and runs nothing. A reactor does this on each turn. */
WEFT_API size_t weft_run_ready(void);

WEFT_END

#endif

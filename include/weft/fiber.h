/* weft/fiber.h: fibers: functions that can wait.
 *
 * A fiber runs on a stack of its own on the thread that started it, until it waits; nothing else on that thread runs
 * meanwhile. It starts in the log context of its starter, holds it, and gets it back after every wait. A fiber that was
 * waiting is woken through the ready queue of its reactor: firing or cancelling what it waits for never runs it inside
 * that call.
 *
 * Cancelling a fiber's deferred cancels what it waits for, and the error comes out of that wait. A cancel is never lost:
 * asked between two waits, it comes out of the next one. One cancel interrupts one wait: code that handles it, clean-up
 * for one, may wait again. A value that was already delivered wins; the cancel then comes out of the next wait: of the fiber
 * that has the value, or, when it ends before one, of the one that waits for it and was cancelled.
 *
 * A stack has room for 112 KiB unless more is asked for, and a guard below it: overflowing it ends the process with a
 * message that names the fiber. See weft/stack.h, also for functions with large buffers. */
#ifndef WEFT_FIBER_H
#define WEFT_FIBER_H

#include <weft/deferred.h>

WEFT_BEGIN

/* The body of a fiber; what it returns, its deferred is fired with. weft_later(d) is adopted: the result is d's. */
typedef weft_result weft_fiber_fn(void *arg);

/* Starts `fn` at once, runs it to its first wait, and returns the deferred of its result, which is the caller's. A caller
 * that does not want to know may unref it: the fiber runs on. When no stack can be had, the deferred has failed with that.
 * Without a reactor on this thread, with WEFT_MISUSE. */
#define weft_spawn(fn, arg) weft_spawn_at(fn, arg, #fn, WEFT_HERE)
WEFT_API weft_deferred *weft_spawn_at(weft_fiber_fn *fn, void *arg, const char *name, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* The same, but it starts through the ready queue, after those that are in it. Cancelled before that, `fn` is never called
 * and the deferred fails with the cancellation. */
#define weft_spawn_soon(fn, arg) weft_spawn_soon_at(fn, arg, #fn, WEFT_HERE)
WEFT_API weft_deferred *weft_spawn_soon_at(weft_fiber_fn *fn, void *arg, const char *name, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Zeroes are what weft_spawn takes. */
typedef struct weft_spawn_options {
    size_t stack_size; /* bytes, rounded up (weft/stack.h); 0: the default; more than 1 GiB: WEFT_MISUSE */
    /* The fiber keeps its own rounding mode and exception masks: it begins with its starter's, what it changes is in force
     * while it runs and nobody else sees it, nor it what others change. Each of its switches takes longer for it. */
    bool own_floating_point;
} weft_spawn_options;

/* weft_spawn with options: weft_spawn_with(fn, arg, (weft_spawn_options){.own_floating_point = true}). */
#define weft_spawn_with(fn, arg, ...) weft_spawn_with_at(fn, arg, #fn, __VA_ARGS__, WEFT_HERE)
WEFT_API weft_deferred *weft_spawn_with_at(weft_fiber_fn *fn, void *arg, const char *name, weft_spawn_options options,
                                           const weft_place *place) __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* ---- waits: each returns an error when the fiber is cancelled in it; outside a fiber each is a WEFT_MISUSE error ------ */

/* The result of `deferred`, at once if it has one, without letting others run; otherwise waits for it. Takes the reference
 * and keeps none, so a deferred that nobody can fire any more ends the wait with WEFT_ORPHANED. The result is the caller's,
 * and the deferred has none then: to await one that somebody else has awaited is a WEFT_MISUSE error, and so is one that
 * waits for the fiber itself, or for whoever has opened the group that the fiber is in. */
#define weft_await(deferred) weft_await_at(deferred, WEFT_HERE)
WEFT_API weft_result weft_await_at(weft_deferred *deferred, const weft_place *place) WEFT_MUST_USE;

/* Waits for so long by the clock of this thread's reactor, and for a turn of the loop at least: also when `seconds` is not
 * positive. Success with no value. */
#define weft_sleep(seconds) weft_sleep_at(seconds, WEFT_HERE)
WEFT_API weft_result weft_sleep_at(double seconds, const weft_place *place) WEFT_MUST_USE;

/* Lets every fiber that is ready now run first. Success with no value. */
#define weft_yield() weft_yield_at(WEFT_HERE)
WEFT_API weft_result weft_yield_at(const weft_place *place) WEFT_MUST_USE;

/* ---- for tests -------------------------------------------------------------------------------------------------------- */

/* From here on those of this thread that are ready, fibers and what weft_drive drives, run in an order that follows from
 * `seed` and from nothing else: the same seed brings the same order again, and a program that leans on the order fails under
 * some of them. Nobody is passed over for ever: it has its turn before ten times as many turns have gone by as were ever
 * ready at once meanwhile. 0: in the order in which they became ready, which is how a thread begins. Lasts until the
 * thread's reactor is freed; without a reactor, until it is called with 0. May be called at any time, also in a fiber.
 *
 * A reactor that is made while the environment has WEFT_READY_SEED=n calls this with n, and logs it. */
WEFT_API void weft_fiber_shuffle(uint64_t seed);

/* ---- asking ----------------------------------------------------------------------------------------------------------- */

/* Whether the caller runs in a fiber. */
WEFT_API bool weft_in_fiber(void);

WEFT_END

#endif

/* weft/semaphore.h: a semaphore: a number of holders at a time, the others in line. In all else it is a lock: see
 * weft/lock.h.
 *
 *     weft_auto(weft_semaphore_release) weft_semaphore *held = WEFT_TRY(weft_await(weft_semaphore_acquire(semaphore))); */
#ifndef WEFT_SEMAPHORE_H
#define WEFT_SEMAPHORE_H

#include <weft/deferred.h>

WEFT_BEGIN

typedef struct weft_semaphore weft_semaphore;

/* The type of one token of a semaphore; dropping the value releases it. */
WEFT_API extern const weft_type weft_semaphore_type;

/* What runs while a token is held. May return weft_later(d): then it is held until `d` has its result. */
typedef weft_result weft_semaphore_run_fn(void *arg);

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* One reference, the caller's, to a semaphore with `limit` tokens. None at all is a WEFT_MISUSE. */
WEFT_API weft_error *weft_semaphore_new(weft_semaphore **out, size_t limit) WEFT_MUST_USE;
WEFT_API weft_semaphore *weft_semaphore_ref(weft_semaphore *semaphore); /* one more, the caller's; returns it */
/* NULL is fine; returns NULL. While a token is held the semaphore lives without references. Runs no callbacks. */
WEFT_API weft_semaphore *weft_semaphore_unref(weft_semaphore *semaphore);

/* ---- use -------------------------------------------------------------------------------------------------------- */

/* A deferred, the caller's, whose value is a token: the semaphore, with the type weft_semaphore_type. At once when one is
 * free and nobody is in line, else when it is this one's turn. Cancelling one that waits takes it out of the line; one
 * that has its token is left alone. */
#define weft_semaphore_acquire(semaphore) weft_semaphore_acquire_at(semaphore, WEFT_HERE)
WEFT_API weft_deferred *weft_semaphore_acquire_at(weft_semaphore *semaphore, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Takes a token and gives it to the first in line, whose callbacks run before this returns (inside a callback that the same
 * semaphore runs: when that has returned). When none is held that is a misuse: it is logged, and nothing changes. */
#define weft_semaphore_release(semaphore) weft_semaphore_release_at(semaphore, WEFT_HERE)
WEFT_API void weft_semaphore_release_at(weft_semaphore *semaphore, const weft_place *place);

/* Acquires a token, calls fn(arg) in the current log context, and releases it when that has its result, value or error,
 * which is the result of the deferred returned. Cancelled in line, `fn` is never called; later the cancel goes to what `fn`
 * waits for, and the token is released when that has ended. `arg` is borrowed until the deferred has its result. */
#define weft_semaphore_run(semaphore, fn, arg) weft_semaphore_run_at(semaphore, fn, arg, WEFT_HERE)
WEFT_API weft_deferred *weft_semaphore_run_at(weft_semaphore *semaphore, weft_semaphore_run_fn *fn, void *arg,
                                              const weft_place *place) __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* ---- looking ------------------------------------------------------------------------------------------------------ */

WEFT_API size_t weft_semaphore_get_tokens(const weft_semaphore *semaphore); /* how many are free */
WEFT_API size_t weft_semaphore_get_limit(const weft_semaphore *semaphore);
WEFT_API size_t weft_semaphore_get_waiting(const weft_semaphore *semaphore); /* how many are in line */

WEFT_AUTO(weft_semaphore, weft_semaphore_unref)
WEFT_AUTO(weft_semaphore, weft_semaphore_release)

WEFT_END

#endif

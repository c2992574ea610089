/* weft/lock.h: a lock: one holder at a time, the others in line, in the order in which they came.
 *
 *     weft_auto(weft_lock_release) weft_lock *held = WEFT_TRY(weft_await(weft_lock_acquire(lock)));
 *
 * Holding it is a value, the lock itself with the type weft_lock_type: whoever has that value releases it, or hands it on as
 * weft_own(held, &weft_lock_type). Dropping it anywhere, as a result that nobody took, releases the lock, so it cannot be
 * lost between two fibers. It is not re-entrant: acquiring it twice waits for oneself.
 *
 * A released lock goes straight to the first in line, and is not free in between. A release inside a callback that the same
 * lock runs is carried out when that callback has returned, so that many who release at once need no stack.
 *
 * A lock belongs to the thread that made it. */
#ifndef WEFT_LOCK_H
#define WEFT_LOCK_H

#include <weft/deferred.h>

WEFT_BEGIN

typedef struct weft_lock weft_lock;

/* The type of a held lock; dropping the value releases it. */
WEFT_API extern const weft_type weft_lock_type;

/* What runs while the lock is held. May return weft_later(d): then it is held until `d` has its result. */
typedef weft_result weft_lock_run_fn(void *arg);

/* ---- life ------------------------------------------------------------------------------------------------------- */

WEFT_API weft_lock *weft_lock_new(void) __attribute__((returns_nonnull)) WEFT_MUST_USE; /* one reference, the caller's */
WEFT_API weft_lock *weft_lock_ref(weft_lock *lock); /* one more, the caller's; returns it */
/* NULL is fine; returns NULL. While it is held the lock lives without references. Runs no callbacks. */
WEFT_API weft_lock *weft_lock_unref(weft_lock *lock);

/* ---- use -------------------------------------------------------------------------------------------------------- */

/* A deferred, the caller's, whose value is the held lock: at once when it is free and nobody is in line, else when it is
 * this one's turn. Cancelling one that waits takes it out of the line; one that has the lock is left alone. */
#define weft_lock_acquire(lock) weft_lock_acquire_at(lock, WEFT_HERE)
WEFT_API weft_deferred *weft_lock_acquire_at(weft_lock *lock, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Takes a held lock and gives it to the first in line, whose callbacks run before this returns. When nobody holds it that
 * is a misuse: it is logged, and nothing changes. */
#define weft_lock_release(lock) weft_lock_release_at(lock, WEFT_HERE)
WEFT_API void weft_lock_release_at(weft_lock *lock, const weft_place *place);

/* Acquires the lock, calls fn(arg) in the current log context, and releases it when that has its result, value or error,
 * which is the result of the deferred returned. Cancelled in line, `fn` is never called; later the cancel goes to what `fn`
 * waits for, and the lock is released when that has ended. `arg` is borrowed until the deferred has its result. */
#define weft_lock_run(lock, fn, arg) weft_lock_run_at(lock, fn, arg, WEFT_HERE)
WEFT_API weft_deferred *weft_lock_run_at(weft_lock *lock, weft_lock_run_fn *fn, void *arg, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* ---- looking ------------------------------------------------------------------------------------------------------ */

WEFT_API bool weft_lock_is_locked(const weft_lock *lock); /* held, or on its way to the next holder */
WEFT_API size_t weft_lock_get_waiting(const weft_lock *lock); /* how many are in line */

WEFT_AUTO(weft_lock, weft_lock_unref)
WEFT_AUTO(weft_lock, weft_lock_release)

WEFT_END

#endif

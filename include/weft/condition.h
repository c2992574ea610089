/* weft/condition.h: a condition: holders of a lock wait for each other's news.
 *
 *     weft_auto(weft_lock_release) weft_lock *held = WEFT_TRY(weft_await(weft_lock_acquire(lock)));
 *     while (!room_has_space(room))
 *         WEFT_TRY(weft_await(weft_condition_wait(space)));
 *
 * Waiting gives the lock away and takes it back: the lock is held when the wait ends, however it ends, and was not in
 * between. What one waited for may have changed again by then, so one looks again. A condition belongs to the thread that
 * made it. */
#ifndef WEFT_CONDITION_H
#define WEFT_CONDITION_H

#include <weft/lock.h>

WEFT_BEGIN

typedef struct weft_condition weft_condition;

/* The caller's. Keeps a reference to the lock. */
WEFT_API weft_condition *weft_condition_new(weft_lock *lock) __attribute__((returns_nonnull)) WEFT_MUST_USE;
/* Whoever waits takes the lock back and fails with WEFT_ORPHANED; one that was notified succeeds. Runs callbacks when the
 * lock is free. NULL is fine; returns NULL. */
WEFT_API weft_condition *weft_condition_free(weft_condition *condition);

/* The caller holds the lock, and holds it again when the deferred, the caller's, has its result; dropping that result does
 * not release it. Releases the lock, which runs callbacks of those in its line; after a notify it queues for the lock, and
 * succeeds with no value. Cancelled, it queues for the lock too, and then fails with the cancellation; if it had been
 * notified already, that goes on to another waiter. When nobody holds the lock it fails with WEFT_MISUSE. */
#define weft_condition_wait(condition) weft_condition_wait_at(condition, WEFT_HERE)
WEFT_API weft_deferred *weft_condition_wait_at(weft_condition *condition, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Sends the `count` who have waited longest, or all, to queue for the lock. Callers usually hold it; when nobody does, the
 * first of them has it at once, and its callbacks run: before this returns, but inside a callback that the condition runs
 * when that has returned. */
WEFT_API void weft_condition_notify(weft_condition *condition, size_t count);
WEFT_API void weft_condition_notify_all(weft_condition *condition);

WEFT_API size_t weft_condition_get_waiting(const weft_condition *condition); /* how many wait for a notify */

WEFT_AUTO(weft_condition, weft_condition_free)

WEFT_END

#endif

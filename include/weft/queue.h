/* weft/queue.h: a queue: results put in at one end, taken out at the other by whoever waits for them, in the order in which
 * both came.
 *
 *     weft_queue *jobs = weft_queue_new(100, WEFT_UNLIMITED);
 *     WEFT_TRY(weft_await(weft_queue_put_wait(jobs, weft_own(job, &job_type))));    one fiber
 *     struct job *job = WEFT_TRY(weft_await(weft_queue_get(jobs)));                 another
 *
 * A queue stores up to `size` items, and lets up to `backlog` getters wait for some; either may be 0 or WEFT_UNLIMITED. An
 * item is a result, which the queue owns until a getter has it. It may be a failure: the getter then fails with it, which
 * serves as the end of a stream.
 *
 * Waiters' callbacks run inside the call that lets them go on. Inside a callback that the same queue runs, a call does its
 * work at once, and the callbacks that this lets run follow when the running one has returned: passing items along a line of
 * a million takes no stack. A queue belongs to the thread that made it. */
#ifndef WEFT_QUEUE_H
#define WEFT_QUEUE_H

#include <weft/deferred.h>

WEFT_BEGIN

#define WEFT_UNLIMITED SIZE_MAX

WEFT_API extern const weft_error_kind WEFT_QUEUE_OVERFLOW;  /* a put found the queue full */
WEFT_API extern const weft_error_kind WEFT_QUEUE_UNDERFLOW; /* a get found as many getters waiting as may */

typedef struct weft_queue weft_queue;

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* Empty, the caller's. */
WEFT_API weft_queue *weft_queue_new(size_t size, size_t backlog) __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Drops the items and fails whoever waits with WEFT_ORPHANED, as it does those who come while their callbacks run. May be
 * called inside a callback that the queue runs; the others then fail when that has returned. NULL is fine; returns NULL. */
WEFT_API weft_queue *weft_queue_free(weft_queue *queue);

/* ---- use: each may run callbacks of whoever waits ------------------------------------------------------------------ */

/* Gives the oldest getter the item, or stores it; never waits. Takes `item`, also when it fails: with WEFT_QUEUE_OVERFLOW
 * when there is no room, or with WEFT_MISUSE when it is a deferred, weft_later(d), which would be none when it is got. */
#define weft_queue_put(queue, item) weft_queue_put_at(queue, item, WEFT_HERE)
WEFT_API weft_error *weft_queue_put_at(weft_queue *queue, weft_result item, const weft_place *place) WEFT_MUST_USE;

/* The same, waiting for room: returns a deferred, the caller's, that succeeds with no value when the item is stored or
 * with a getter. Those who wait keep their order, and no put overtakes them. Cancelling one that waits drops its item;
 * one whose item is in is left alone. Fails with WEFT_MISUSE for a deferred, as above. */
#define weft_queue_put_wait(queue, item) weft_queue_put_wait_at(queue, item, WEFT_HERE)
WEFT_API weft_deferred *weft_queue_put_wait_at(weft_queue *queue, weft_result item, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* A deferred, the caller's, with the oldest item: at once when there is one, else when one is put in; or failed with
 * WEFT_QUEUE_UNDERFLOW when as many wait as may. Cancelling one that waits takes it out of the line and loses no item; that
 * of a cancelled getter, had it been promised one already, stays in the queue even beyond its size. */
#define weft_queue_get(queue) weft_queue_get_at(queue, WEFT_HERE)
WEFT_API weft_deferred *weft_queue_get_at(weft_queue *queue, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* ---- looking ------------------------------------------------------------------------------------------------------ */

WEFT_API size_t weft_queue_get_size(const weft_queue *queue);    /* as it was made with */
WEFT_API size_t weft_queue_get_backlog(const weft_queue *queue); /* likewise */
WEFT_API size_t weft_queue_get_stored(const weft_queue *queue);  /* how many items a get would find */
WEFT_API size_t weft_queue_get_getters(const weft_queue *queue); /* how many wait for an item */
WEFT_API size_t weft_queue_get_putters(const weft_queue *queue); /* how many wait for room */

WEFT_AUTO(weft_queue, weft_queue_free)

WEFT_END

#endif

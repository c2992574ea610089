/* weft/batching_queue.h: values that are asked for one by one, and processed many at a time.
 *
 *     static weft_description storing = WEFT_DESCRIPTION("store_events");
 *
 *     static weft_result store(const char *room, void *const *events, size_t count, void *database) { … }    // may wait
 *     …
 *     weft_batching_queue *stores = weft_batching_queue_new(&storing, store, database);
 *     …
 *     WEFT_TRY(weft_await(weft_batching_queue_add(stores, room_id, weft_own(event, &event_type))));
 *
 * Synapse's BatchingQueue. The first value of a key waits one turn of the loop; then whatever that key has is processed
 * together, in the order in which it was added. Values that come meanwhile are the next batch, which again waits for a turn.
 * Batches of one key never overlap; those of several keys go on side by side. A key that has nothing takes no memory.
 *
 * Each batch runs in a background process of its own under the description (weft/background.h), whose context is charged
 * what it costs; none of those who wait for it is. Their callbacks run in their own contexts. A queue belongs to the thread
 * that made it.
 *
 * For each description metrics tell, with its name as label: weft_batching_queue_queued, the values that are in no batch
 * yet; weft_batching_queue_keys, how many keys those have; weft_batching_queue_in_flight, the values for whose result
 * somebody still waits, in a batch or not; weft_batching_queue_batches_total, those that were begun. */
#ifndef WEFT_BATCHING_QUEUE_H
#define WEFT_BATCHING_QUEUE_H

#include <weft/deferred.h>
#include <weft/description.h>

WEFT_BEGIN

typedef struct weft_batching_queue weft_batching_queue;

/* Processes a batch, in a fiber. All is borrowed until it has returned and, when it returns weft_later(d), d has its result.
 *
 * What it returns is the result of each value of the batch. A value is shared, and so must be of a type that has a `ref`,
 * or be borrowed, or have none to release (weft/result.h); any other is dropped, and all fail with WEFT_MISUSE, one as
 * well, so that it does not take a busy day to find that out. It must not point into the values. An error is the same error
 * for all.
 *
 * It must not wait for a value that it adds under its own key: that would wait for itself. It may do anything else. */
typedef weft_result weft_batch_fn(const char *key, void *const *values, size_t count, void *arg);

/* ---- life ------------------------------------------------------------------------------------------------------------- */

/* Empty, the caller's. `arg` is borrowed until it is closed. */
#define weft_batching_queue_new(description, fn, arg) weft_batching_queue_new_at(description, fn, arg, WEFT_HERE)
WEFT_API weft_batching_queue *weft_batching_queue_new_at(weft_description *description, weft_batch_fn *fn, void *arg,
                                                         const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Takes the queue. Whoever waits fails at once with WEFT_SHUTDOWN, which runs callbacks, and so do those who come while
 * these run; but a batch that is just giving its result gives it to all. Then batches that run are cancelled with
 * WEFT_SHUTDOWN. The deferred, the caller's, succeeds with no value when the last one has ended, at once if there is none.
 * Cancelling it ends only the waiting. In the function of the queue itself it must not be waited for. */
#define weft_batching_queue_close(queue) weft_batching_queue_close_at(queue, WEFT_HERE)
WEFT_API weft_deferred *weft_batching_queue_close_at(weft_batching_queue *queue, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;
/* The same for those who do not want to know when. NULL is fine; returns NULL. */
WEFT_API weft_batching_queue *weft_batching_queue_free(weft_batching_queue *queue);

/* ---- use -------------------------------------------------------------------------------------------------------------- */

/* Adds a value under a key, which is copied, and returns the deferred of its batch's result, which is the caller's. Takes
 * `value`, which is dropped when it has that result, or will not be processed.
 *
 * Cancelled before its batch has begun, the value is taken out, and no batch sees it. Later only the deferred is: the batch
 * goes on for the others. When the last of those who wait for a batch is cancelled, the batch is cancelled with that same
 * cancellation, as is everything whose result nobody wants any more; what must not be left half done, it shields
 * (weft/scope.h). The next batch of the key begins when it has ended. Its failure, which nobody is there to take, is then
 * logged.
 *
 * The deferred fails, besides as the batch does: at once with WEFT_SHUTDOWN, when the queue is being closed, and with
 * WEFT_MISUSE, for a value that is an error or a deferred, and without a reactor on this thread; with WEFT_SHUTDOWN when the
 * reactor is freed; with WEFT_BUSY when no fiber could be had for the batch, which is logged. */
#define weft_batching_queue_add(queue, key, value) weft_batching_queue_add_at(queue, key, value, WEFT_HERE)
WEFT_API weft_deferred *weft_batching_queue_add_at(weft_batching_queue *queue, const char *key, weft_result value,
                                                   const weft_place *place) __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* ---- asking ----------------------------------------------------------------------------------------------------------- */

WEFT_API size_t weft_batching_queue_get_queued(const weft_batching_queue *queue, const char *key); /* in no batch yet */
WEFT_API size_t weft_batching_queue_get_keys(const weft_batching_queue *queue); /* that have values, in a batch or not */

WEFT_AUTO(weft_batching_queue, weft_batching_queue_free)

WEFT_END

#endif

/* weft/background_queue.h: work that is done in the background, one item after the other.
 *
 *     static weft_description pushing = WEFT_DESCRIPTION("push_notifications");
 *
 *     static weft_result push(void *item, void *arg) { struct notification *due = item; … }    // may wait
 *     …
 *     weft_background_queue *pushes =
 *         weft_background_queue_new(&pushing, push, pusher, (weft_background_queue_options){.limit = 10000});
 *     …
 *     WEFT_CHECK(weft_background_queue_add(pushes, weft_own(notification, &notification_type)));
 *
 * Synapse's BackgroundQueue. While there is something to do, and for a while after that, there is one consumer: a
 * background process under the description (weft/background.h), in a context of its own, which is charged what the items
 * cost and in whose name they log. It takes the items in the order in which they were added, one at a time, and after each
 * 500 lets the loop turn.
 *
 * An item is a value with its type, as weft_own makes it. The queue owns it from the add, also from one that fails, and
 * drops it when it has been processed, or when the queue is freed. A queue belongs to the thread that made it. */
#ifndef WEFT_BACKGROUND_QUEUE_H
#define WEFT_BACKGROUND_QUEUE_H

#include <weft/deferred.h>
#include <weft/description.h>

WEFT_BEGIN

typedef struct weft_background_queue weft_background_queue;

/* Processes an item, in the consumer's fiber. Borrows it until it has returned and, when it returns weft_later(d), d has its
 * result; a value that comes of it is dropped. A failure is logged as an error, in the consumer's context, and the next item
 * has its turn. A cancellation, whoever asked for it, ends the consumer. May do anything with its queue. */
typedef weft_result weft_background_queue_fn(void *item, void *arg);

/* Zeroes are what Synapse takes. */
typedef struct weft_background_queue_options {
    double idle_seconds; /* the consumer waits so long for an item, then ends; 0: 1 second; negative: a turn */
    size_t limit;        /* so many items may wait, that under way not counted; 0: any number */
} weft_background_queue_options;

/* ---- life ------------------------------------------------------------------------------------------------------------- */

/* Empty, the caller's. `arg` is borrowed until it is closed. */
#define weft_background_queue_new(description, fn, arg, ...)                                                        \
    weft_background_queue_new_at(description, fn, arg, __VA_ARGS__, WEFT_HERE)
WEFT_API weft_background_queue *weft_background_queue_new_at(weft_description *description, weft_background_queue_fn *fn,
                                                             void *arg, weft_background_queue_options options,
                                                             const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Takes the queue. Drops the items that wait, and cancels the consumer with WEFT_SHUTDOWN; the item under way is the last.
 * The deferred, the caller's, succeeds with no value when the consumer has ended, at once if there is none; until then adds
 * fail. Cancelling it ends only the waiting. In the function of the queue itself it must not be waited for. */
#define weft_background_queue_close(queue) weft_background_queue_close_at(queue, WEFT_HERE)
WEFT_API weft_deferred *weft_background_queue_close_at(weft_background_queue *queue, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;
/* The same for those who do not want to know when. NULL is fine; returns NULL. */
WEFT_API weft_background_queue *weft_background_queue_free(weft_background_queue *queue);

/* ---- use -------------------------------------------------------------------------------------------------------------- */

/* Adds an item, and starts a consumer if there is none; no item is processed before this returns. Takes `item`, also when it
 * fails:
 *   - with WEFT_BUSY, when as many wait as may;
 *   - with WEFT_SHUTDOWN, when the queue is being closed;
 *   - with WEFT_MISUSE, when the item is an error or a deferred, and without a reactor on this thread.
 * When no fiber can be had for the consumer that is logged, the item waits, and the next add tries again. */
#define weft_background_queue_add(queue, item) weft_background_queue_add_at(queue, item, WEFT_HERE)
WEFT_API weft_error *weft_background_queue_add_at(weft_background_queue *queue, weft_result item, const weft_place *place)
    WEFT_MUST_USE;

/* Cancels the consumer, if there is one, once: it ends when the item under way has, also if that handles the cancel. As
 * with every cancel, so also that of a reactor which is freed, the items that wait stay: to stop working is not to throw
 * work away. Their number is logged, and the next add starts a consumer, which begins with them. */
#define weft_background_queue_cancel(queue) weft_background_queue_cancel_at(queue, WEFT_HERE)
WEFT_API void weft_background_queue_cancel_at(weft_background_queue *queue, const weft_place *place);

/* ---- asking ----------------------------------------------------------------------------------------------------------- */

WEFT_API size_t weft_background_queue_get_waiting(const weft_background_queue *queue); /* items; that under way is not one */
WEFT_API bool weft_background_queue_is_consumed(const weft_background_queue *queue); /* there is a consumer, idle or not */

WEFT_AUTO(weft_background_queue, weft_background_queue_free)

WEFT_END

#endif

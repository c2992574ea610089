/* The queue: a ring of items, a line of getters, a line of putters with the item of each.
 *
 * Invariants: a putter waits only while there is no room, and each getter is room for one item more. Items and getters are
 * there at once only while deliver(), further up the C stack, brings them together: an item put in by a getter's callback
 * is stored and waits for the loop, so that no callback runs inside another. Everything that counts, counts such an item and
 * its getter as gone. They are not bound to each other before: a getter that is cancelled meanwhile leaves its item to the
 * next one, in the right order.
 *
 * A putter whose item has gone in stands in a third line until it is told. */
#include <weft/queue.h>

#include <assert.h>

#include "lib/waiters.h"

const weft_error_kind WEFT_QUEUE_OVERFLOW = {"queue_overflow", &WEFT_FAILURE};
const weft_error_kind WEFT_QUEUE_UNDERFLOW = {"queue_underflow", &WEFT_FAILURE};

struct weft_queue {
    size_t size;
    size_t backlog;
    weft_result *items; /* a ring of `capacity`, a power of two or 0 */
    size_t capacity;
    size_t first;
    size_t count;
    struct weft__waiters getters;
    struct weft__waiters putters;
    struct weft__waiters stored; /* putters whose item is in */
    bool delivering;
    bool freed; /* goes when deliver() has ended */
};

/* ---- the ring ---- */

enum { SMALL_RING = 16 };

static void ring_grow(weft_queue *queue)
{
    size_t capacity = queue->capacity ? 2 * queue->capacity : SMALL_RING;
    weft_result *items = weft_alloc(capacity * sizeof *items);

    for (size_t i = 0; i < queue->count; i++)
        items[i] = queue->items[(queue->first + i) & (queue->capacity - 1)];
    weft_free(queue->items);
    queue->items = items;
    queue->capacity = capacity;
    queue->first = 0;
}

static void ring_push(weft_queue *queue, weft_result item)
{
    if (queue->count == queue->capacity)
        ring_grow(queue);
    queue->items[(queue->first + queue->count++) & (queue->capacity - 1)] = item;
}

static weft_result ring_pop(weft_queue *queue)
{
    weft_result item;

    assert(queue->items); /* there is a ring while it holds something */
    item = queue->items[queue->first];
    queue->first = (queue->first + 1) & (queue->capacity - 1);
    queue->count--;
    if (!queue->count && queue->capacity > SMALL_RING) {
        weft_free(queue->items);
        queue->items = NULL;
        queue->capacity = queue->first = 0;
    }
    return item;
}

/* ---- life ---- */

weft_queue *weft_queue_new(size_t size, size_t backlog)
{
    weft_queue *queue = weft_alloc_zeroed(sizeof *queue);

    queue->size = size;
    queue->backlog = backlog;
    return queue;
}

static void destroy(weft_queue *queue)
{
    /* Dropping an item may call back; nothing is put in any more. */
    while (queue->count)
        weft_result_drop(ring_pop(queue));
    weft_free(queue->items);
    weft_free(queue);
}

/* ---- bringing together ---- */

/* Whether one more item may be stored, when so many wait for one. */
static bool has_room(const weft_queue *queue, size_t getters)
{
    return queue->count < queue->size || queue->count - queue->size < getters;
}

/* Lets putters' items in while there is room for them. */
static void let_in(weft_queue *queue, size_t getters)
{
    struct weft__waiter *putter;

    while ((putter = queue->putters.first) && has_room(queue, getters)) {
        ring_push(queue, putter->carried);
        weft__waiter_move(putter, &queue->stored);
    }
}

/* The queue goes: whoever waits fails. */
static bool fail_one(weft_queue *queue)
{
    struct weft__waiter *putter = queue->putters.first, *waiter = putter ? putter : queue->getters.first;
    weft_result item = putter ? putter->carried : weft_ok(NULL);

    if (!waiter)
        return false;
    weft__waiter_fire(waiter, weft_fail(weft__waiter_orphaned(waiter->place, "the queue")));
    weft_result_drop(item);
    return true;
}

static bool deliver_one(weft_queue *queue)
{
    if (queue->stored.first)
        weft__waiter_fire(queue->stored.first, weft_ok(NULL));
    else if (queue->freed)
        return fail_one(queue);
    else if (queue->count && queue->getters.first)
        weft__waiter_fire(queue->getters.first, ring_pop(queue));
    else
        return false;
    return true;
}

static void deliver(weft_queue *queue)
{
    if (queue->delivering)
        return;
    queue->delivering = true;
    while (deliver_one(queue))
        ;
    queue->delivering = false;
    if (queue->freed)
        destroy(queue);
}

weft_queue *weft_queue_free(weft_queue *queue)
{
    if (queue) {
        queue->freed = true;
        deliver(queue);
    }
    return NULL;
}

/* ---- use ---- */

/* Why `item` cannot be put in, room or not; NULL when it can. */
static weft_error *refusal(const weft_queue *queue, weft_result item, const weft_place *place)
{
    if (item.type == &weft_deferred_type)
        return weft_error_new_at(&WEFT_MISUSE, place, "a deferred is put into a queue as an item");
    if (queue->freed)
        return weft_error_new_at(&WEFT_ORPHANED, place, "the queue is being freed");
    return NULL;
}

/* There is room for `item`. */
static void store(weft_queue *queue, weft_result item)
{
    ring_push(queue, item);
    if (queue->getters.first)
        deliver(queue);
}

weft_error *weft_queue_put_at(weft_queue *queue, weft_result item, const weft_place *place)
{
    weft_error *error = refusal(queue, item, place);

    if (!error && !has_room(queue, queue->getters.count))
        error = weft_error_new_at(&WEFT_QUEUE_OVERFLOW, place, "the queue holds %zu items already", queue->size);
    if (error)
        weft_result_drop(item);
    else
        store(queue, item);
    return error;
}

static weft_cancel_outcome cancel_putter(weft_deferred *deferred, void *arg)
{
    struct weft__waiter *putter = arg;
    weft_queue *queue = putter->owner;
    weft_result item = putter->carried;

    (void)deferred;
    if (putter->line == &queue->stored)
        return WEFT_CANCEL_LATER;
    weft__waiter_leave(putter);
    weft_result_drop(item);
    return WEFT_CANCEL_DONE;
}

weft_deferred *weft_queue_put_wait_at(weft_queue *queue, weft_result item, const weft_place *place)
{
    weft_error *error = refusal(queue, item, place);

    if (error) {
        weft_result_drop(item);
        return weft_deferred_with_at(weft_fail(error), place);
    }
    if (!has_room(queue, queue->getters.count))
        return weft__waiters_join(&queue->putters, cancel_putter, queue, item, place);
    store(queue, item);
    return weft_deferred_with_at(weft_ok(NULL), place);
}

/* Nothing is there for one more getter. */
static weft_deferred *wait_for_item(weft_queue *queue, const weft_place *place)
{
    weft_error *error;
    weft_deferred *deferred;

    if (weft_queue_get_getters(queue) >= queue->backlog) {
        error = weft_error_new_at(&WEFT_QUEUE_UNDERFLOW, place, "%zu wait for an item already", queue->backlog);
        return weft_deferred_with_at(weft_fail(error), place);
    }
    deferred = weft__waiters_join(&queue->getters, weft__waiter_cancel, NULL, weft_ok(NULL), place);
    let_in(queue, queue->getters.count);
    return deferred;
}

weft_deferred *weft_queue_get_at(weft_queue *queue, const weft_place *place)
{
    weft_deferred *deferred;

    if (queue->freed)
        return weft_deferred_with_at(weft_fail(weft__waiter_orphaned(place, "the queue")), place);
    if (queue->getters.first)
        return wait_for_item(queue, place);
    let_in(queue, 1);
    if (!queue->count)
        return wait_for_item(queue, place);
    deferred = weft_deferred_with_at(ring_pop(queue), place);
    if (queue->stored.first)
        deliver(queue);
    return deferred;
}

/* ---- looking ---- */

size_t weft_queue_get_size(const weft_queue *queue)
{
    return queue->size;
}

size_t weft_queue_get_backlog(const weft_queue *queue)
{
    return queue->backlog;
}

size_t weft_queue_get_stored(const weft_queue *queue)
{
    return queue->count > queue->getters.count ? queue->count - queue->getters.count : 0;
}

size_t weft_queue_get_getters(const weft_queue *queue)
{
    return queue->getters.count > queue->count ? queue->getters.count - queue->count : 0;
}

size_t weft_queue_get_putters(const weft_queue *queue)
{
    return queue->putters.count;
}

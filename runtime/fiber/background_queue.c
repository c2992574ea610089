/* The background queue: a queue, and a process that empties it.
 *
 * `consuming` is true from the first to the last step of the consumer, which decides to end and says so without a wait
 * between: an item is either seen by the consumer or finds that there is none. Only the consumer, and the close of a queue
 * that has none, let go of the memory. */
#include <weft/background.h>
#include <weft/background_queue.h>
#include <weft/event.h>
#include <weft/log.h>
#include <weft/queue.h>
#include <weft/reactor.h>

enum { ITEMS_PER_TURN = 500 };

struct weft_background_queue {
    weft_description *description;
    weft_background_queue_fn *fn;
    void *arg;
    const weft_place *place;
    weft_background_queue_options options;
    weft_queue *items;      /* nobody waits at it */
    weft_event *added;      /* what the idle consumer waits for: an item stays where it is until that takes it */
    weft_deferred *process; /* the consumer's, a reference; NULL: there is none, or it is being started */
    weft_error *ending;     /* why the consumer has been asked to end; NULL: it was not */
    weft_deferred *closed;  /* a reference; NULL until it is closed */
    bool consuming;
};

/* ---- life ---- */

weft_background_queue *weft_background_queue_new_at(weft_description *description, weft_background_queue_fn *fn, void *arg,
                                                    weft_background_queue_options options, const weft_place *place)
{
    weft_background_queue *queue = weft_alloc(sizeof *queue);

    if (options.idle_seconds == 0)
        options.idle_seconds = 1;
    *queue = (weft_background_queue){
        .description = description, .fn = fn, .arg = arg, .place = place, .options = options,
        .items = weft_queue_new(WEFT_UNLIMITED, 0),
        .added = weft_event_new(),
    };
    return queue;
}

static void destroy(weft_background_queue *queue)
{
    weft_deferred *closed = queue->closed;

    weft_queue_free(queue->items);
    weft_event_free(queue->added);
    weft_error_unref(queue->ending);
    weft_free(queue);
    weft_deferred_callback(closed, weft_ok(NULL));
    weft_deferred_unref(closed);
}

/* There is an item. */
static weft_result take_item(weft_background_queue *queue)
{
    weft_deferred *got = weft_queue_get_at(queue->items, queue->place);
    weft_result item = weft_deferred_take_result(got);

    weft_deferred_unref(got);
    return item;
}

/* Takes `reason`. */
static void end_consumer(weft_background_queue *queue, weft_error *reason)
{
    if (queue->ending) {
        weft_error_unref(reason);
        return;
    }
    queue->ending = reason;
    if (queue->process)
        weft_deferred_cancel_with(queue->process, weft_error_ref(reason));
}

weft_deferred *weft_background_queue_close_at(weft_background_queue *queue, const weft_place *place)
{
    weft_deferred *closed = weft_deferred_new_at(NULL, NULL, place);

    queue->closed = weft_deferred_ref(closed);
    while (weft_queue_get_stored(queue->items))
        weft_result_drop(take_item(queue));
    end_consumer(queue, weft_error_new_at(&WEFT_SHUTDOWN, place, "the background queue %s is closed",
                                          queue->description->name));
    if (!queue->consuming)
        destroy(queue);
    return closed;
}

weft_background_queue *weft_background_queue_free(weft_background_queue *queue)
{
    if (queue)
        weft_deferred_unref(weft_background_queue_close_at(queue, queue->place));
    return NULL;
}

/* ---- the consumer ---- */

static weft_result wait_for_item(const weft_background_queue *queue)
{
    weft_deferred *added;

    weft_event_clear(queue->added);
    added = weft_event_wait_at(queue->added, queue->place);
    weft_deferred_add_timeout_at(added, weft_clock_current(), queue->options.idle_seconds, NULL, NULL, queue->place);
    return weft_await_at(added, queue->place);
}

/* The next item, or why there is none: the cancellation, or WEFT_TIMED_OUT. One that was added when the time had run out and
 * the consumer had not gone on yet is taken all the same. */
static weft_result next_item(weft_background_queue *queue)
{
    weft_result waited = weft_ok(NULL);

    while (!queue->ending && !weft_failed(waited) && !weft_queue_get_stored(queue->items))
        waited = wait_for_item(queue);
    if (queue->ending) {
        weft_result_drop(waited);
        return weft_fail(weft_error_ref(queue->ending));
    }
    if (weft_error_is(weft_failed(waited), &WEFT_CANCELLED) || !weft_queue_get_stored(queue->items))
        return waited;
    weft_result_drop(waited);
    return take_item(queue);
}

static weft_result call(const weft_background_queue *queue, void *item)
{
    weft_result result = weft_ok(NULL);

    weft_preserve_context(weft_context_current()) {
        result = queue->fn(item, queue->arg);
        while (result.type == &weft_deferred_type)
            result = weft_await_at(result.value, queue->place);
    }
    return result;
}

static void log_failure(const weft_background_queue *queue, const weft_error *error)
{
    char text[1024];

    weft_error_print(error, text, sizeof text);
    weft_log_error("an item of the background queue %s failed: %s", queue->description->name, text);
}

/* Takes the item. A cancellation is the consumer's. */
static weft_error *process_item(weft_background_queue *queue, weft_result item)
{
    weft_result result = call(queue, item.value);
    weft_error *error = weft_failed(result);

    if (weft_error_is(error, &WEFT_CANCELLED)) {
        weft_result_drop(item);
        return error;
    }
    if (error)
        log_failure(queue, error);
    weft_result_drop(item);
    weft_result_drop(result);
    return NULL;
}

/* Until there is nothing to do for long enough, or a cancel, which it returns. The wait before the first item spares adds
 * their processing. */
static weft_error *work(weft_background_queue *queue)
{
    weft_error *error = weft_failed(weft_yield_at(queue->place));
    size_t count = 0;
    weft_result item;

    while (!error) {
        item = next_item(queue);
        if (weft_failed(item))
            return weft_failed(item);
        error = process_item(queue, item);
        /* A turn of the loop, which looks at sockets; a yield lets only fibers run. */
        if (!error && ++count % ITEMS_PER_TURN == 0)
            error = weft_failed(weft_sleep_at(0, queue->place));
    }
    return error;
}

static void say_what_is_left(const weft_background_queue *queue)
{
    size_t left = weft_queue_get_stored(queue->items);

    if (left)
        weft_log_warn("the consumer of the background queue %s was cancelled: %zu items wait for the next add",
                      queue->description->name, left);
}

static void consumer_ended(weft_background_queue *queue)
{
    weft_deferred *process = queue->process;

    queue->consuming = false;
    queue->process = NULL;
    if (queue->closed)
        destroy(queue);
    else
        queue->ending = weft_error_unref(queue->ending);
    weft_deferred_unref(process);
}

static weft_result consume(void *arg)
{
    weft_background_queue *queue = arg;
    weft_error *error;
    bool cancelled;

    queue->consuming = true;
    error = work(queue);
    cancelled = weft_error_is(error, &WEFT_CANCELLED);
    if (cancelled)
        say_what_is_left(queue);
    consumer_ended(queue);
    if (cancelled)
        return weft_fail(error);
    weft_error_unref(error);
    return weft_ok(NULL);
}

static void start_consumer(weft_background_queue *queue)
{
    weft_deferred *process = weft_run_as_background_process_at(queue->description, consume, queue,
                                                               queue->description->name, queue->place);

    if (queue->consuming)
        queue->process = process;
    else
        weft_deferred_unref(process); /* there was no stack, which has been logged */
}

/* ---- use ---- */

/* Why `item` cannot be added; NULL when it can. */
static weft_error *refusal(const weft_background_queue *queue, weft_result item, const weft_place *place)
{
    const char *name = queue->description->name;

    if (weft_failed(item))
        return weft_error_new_at(&WEFT_MISUSE, place, "an error is added to the background queue %s", name);
    if (item.type == &weft_deferred_type)
        return weft_error_new_at(&WEFT_MISUSE, place, "a deferred is added to the background queue %s", name);
    if (queue->closed)
        return weft_error_new_at(&WEFT_SHUTDOWN, place, "the background queue %s is closed", name);
    if (!weft_reactor_current())
        return weft_error_new_at(&WEFT_MISUSE, place, "the background queue %s needs a reactor on its thread", name);
    if (queue->options.limit && weft_queue_get_stored(queue->items) >= queue->options.limit)
        return weft_error_new_at(&WEFT_BUSY, place, "%zu items wait in the background queue %s already",
                                 queue->options.limit, name);
    return NULL;
}

weft_error *weft_background_queue_add_at(weft_background_queue *queue, weft_result item, const weft_place *place)
{
    weft_error *error = refusal(queue, item, place);

    if (error) {
        weft_result_drop(item);
        return error;
    }
    error = weft_queue_put_at(queue->items, item, place);
    weft_event_set(queue->added);
    if (!queue->consuming)
        start_consumer(queue);
    return error;
}

void weft_background_queue_cancel_at(weft_background_queue *queue, const weft_place *place)
{
    if (queue->consuming)
        end_consumer(queue, weft_error_new_at(&WEFT_CANCELLED, place, "the consumer of the background queue %s is cancelled",
                                              queue->description->name));
}

/* ---- asking ---- */

size_t weft_background_queue_get_waiting(const weft_background_queue *queue)
{
    return weft_queue_get_stored(queue->items);
}

bool weft_background_queue_is_consumed(const weft_background_queue *queue)
{
    return queue->consuming;
}

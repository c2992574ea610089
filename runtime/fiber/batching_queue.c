/* The batching queue: a table of keys, each with two lines of values: those that are queued, and those of its batch.
 *
 * A key is in the table from its first value until there is none and its process has ended. Between calls it has a process:
 * asleep for a turn, or with the batch. When a batch has ended, its process goes on with what was queued meanwhile by
 * starting another, so that each has a context of its own.
 *
 * A value that was cancelled stays in its batch, whose function may still look at it, but has no deferred any more. */
#include <weft/background.h>
#include <weft/batching_queue.h>
#include <weft/metrics.h>
#include <weft/reactor.h>

#include <pthread.h>
#include <string.h>

#include "lib/metrics.h"
#include "lib/uthash.h"

struct entry {
    struct entry *next;
    struct entry *previous;
    struct line *line;
    struct key *key;
    weft_deferred *deferred; /* a reference; NULL: it has its result */
    weft_result value;
    weft_context *context;   /* whose it is, a reference; NULL: none */
    const weft_place *place;
};

struct line {
    struct entry *first;
    struct entry *last;
    size_t count;
};

struct key {
    weft_batching_queue *queue;
    struct line queued;
    struct line batch;
    size_t wanted;          /* those of the batch that have a deferred */
    weft_deferred *process; /* a reference; NULL: there is none, or it is being started */
    bool has_process;
    bool delivering;        /* the batch's result: further up the C stack, and will look at the key again */
    UT_hash_handle hh;
    char name[];
};

struct weft_batching_queue {
    weft_description *description;
    weft_batch_fn *fn;
    void *arg;
    const weft_place *place;
    struct key *keys;
    weft_deferred *closed; /* a reference; NULL until it is closed */
    weft_gauge *queued_gauge, *keys_gauge, *in_flight_gauge;
    weft_counter *batches;
};

/* ---- metrics ---- */

static struct {
    weft_metric *queued, *keys, *in_flight, *batches;
} metrics;

static weft_metric *declare_gauge(const char *name, const char *help)
{
    return weft__metric_declare((weft_metric_options){.kind = WEFT_GAUGE, .name = name, .help = help, .labels = {"name"}});
}

static void declare_metrics(void)
{
    metrics.queued = declare_gauge("weft_batching_queue_queued", "Values of batching queues that are in no batch yet.");
    metrics.keys = declare_gauge("weft_batching_queue_keys", "Keys of batching queues that have values in no batch yet.");
    metrics.in_flight = declare_gauge("weft_batching_queue_in_flight",
                                      "Values of batching queues for whose result somebody waits.");
    metrics.batches = weft__metric_declare((weft_metric_options){
        .name = "weft_batching_queue_batches_total", .help = "Batches that were begun.", .labels = {"name"}});
}

/* ---- lines ---- */

static void line_add(struct line *line, struct entry *entry)
{
    entry->line = line;
    entry->next = NULL;
    entry->previous = line->last;
    *(line->last ? &line->last->next : &line->first) = entry;
    line->last = entry;
    line->count++;
}

static void line_remove(struct entry *entry)
{
    struct line *line = entry->line;

    *(entry->next ? &entry->next->previous : &line->last) = entry->previous;
    *(entry->previous ? &entry->previous->next : &line->first) = entry->next;
    line->count--;
}

static void enqueue(struct key *key, struct entry *entry)
{
    line_add(&key->queued, entry);
    weft_gauge_add(key->queue->queued_gauge, 1);
    if (key->queued.count == 1)
        weft_gauge_add(key->queue->keys_gauge, 1);
}

static void dequeue(struct entry *entry)
{
    const struct key *key = entry->key;

    line_remove(entry);
    weft_gauge_add(key->queue->queued_gauge, -1);
    if (!key->queued.count)
        weft_gauge_add(key->queue->keys_gauge, -1);
}

static bool is_queued(const struct entry *entry)
{
    return entry->line == &entry->key->queued;
}

/* ---- values ---- */

static weft_cancel_outcome cancel(weft_deferred *deferred, void *arg);

/* Takes `value`. The deferred is the entry's. */
static struct entry *entry_new(struct key *key, weft_result value, const weft_place *place)
{
    struct entry *entry = weft_alloc(sizeof *entry);

    *entry = (struct entry){.key = key, .value = value, .place = place};
    entry->deferred = weft_deferred_new_at(cancel, entry, place);
    entry->context = weft_context_ref(weft_context_current());
    enqueue(key, entry);
    weft_gauge_add(key->queue->in_flight_gauge, 1);
    return entry;
}

/* One that is in no line. */
static void entry_free(struct entry *entry)
{
    weft_result value = entry->value;

    weft_context_unref(entry->context);
    weft_free(entry);
    weft_result_drop(value);
}

/* The deferred has, or will have, its result. The caller's now. */
static weft_deferred *take_deferred(struct entry *entry)
{
    weft_deferred *deferred = entry->deferred;

    entry->deferred = NULL;
    if (!is_queued(entry))
        entry->key->wanted--;
    weft_gauge_add(entry->key->queue->in_flight_gauge, -1);
    return deferred;
}

/* Takes `result`. An error that nobody takes is reported in the context in which the deferred was fired: that is the
 * caller's. */
static void fire(struct entry *entry, weft_result result)
{
    weft_context *previous = weft_context_set(weft_context_ref(entry->context));
    weft_deferred *deferred = take_deferred(entry);

    weft_deferred_callback_at(deferred, result, entry->place);
    weft_deferred_unref(deferred);
    weft_context_unref(weft_context_set(previous));
}

static weft_cancel_outcome cancel(weft_deferred *deferred, void *arg)
{
    struct entry *entry = arg;
    struct key *key = entry->key;

    weft_deferred_unref(take_deferred(entry)); /* whoever cancels has one too */
    if (is_queued(entry)) {
        dequeue(entry);
        entry_free(entry);
    } else if (!key->wanted && !key->delivering) {
        weft_deferred_cancel_with(key->process, weft_error_ref(weft_deferred_get_cancellation(deferred)));
    }
    return WEFT_CANCEL_DONE;
}

/* ---- results ---- */

static bool can_be_shared(const weft_type *type)
{
    return !type || type->ref || !type->unref;
}

static weft_result share(weft_result result)
{
    if (result.type && result.type->ref)
        result.value = result.type->ref(result.value);
    return result;
}

/* Takes the result of a batch, and gives it back as one that all may have. */
static weft_result made_shareable(const weft_batching_queue *queue, weft_result result)
{
    weft_error *error;

    if (can_be_shared(result.type))
        return result;
    error = weft_error_new_at(&WEFT_MISUSE, queue->place,
                              "a batch of %s has brought one %s for all: that type has no `ref`, so it cannot be shared",
                              queue->description->name, result.type->name);
    weft_result_drop(result);
    return weft_fail(error);
}

/* Gives everybody in the batch its result, which it borrows; the values go. Callbacks may cancel others, and add. */
static void deliver(struct key *key, weft_result result)
{
    struct entry *entry;

    key->delivering = true;
    while ((entry = key->batch.first)) {
        if (entry->deferred)
            fire(entry, share(result));
        line_remove(entry);
        entry_free(entry);
    }
    key->delivering = false;
}

/* ---- batches ---- */

/* What is queued is the batch now. */
static void begin_batch(struct key *key)
{
    struct entry *entry;

    while ((entry = key->queued.first)) {
        dequeue(entry);
        line_add(&key->batch, entry);
        key->wanted++;
    }
}

static weft_result call(const struct key *key)
{
    const weft_batching_queue *queue = key->queue;
    void **values = weft_alloc(key->batch.count * sizeof *values);
    weft_result result = weft_ok(NULL);
    size_t count = 0;

    for (const struct entry *entry = key->batch.first; entry; entry = entry->next)
        values[count++] = entry->value.value;
    weft_counter_add(queue->batches, 1);
    weft_preserve_context(weft_context_current()) {
        result = queue->fn(key->name, values, count, queue->arg);
        while (result.type == &weft_deferred_type)
            result = weft_await_at(result.value, queue->place);
    }
    weft_free(values);
    return made_shareable(queue, result);
}

static void go_on(struct key *key);

static weft_result run_batch(void *arg)
{
    struct key *key = arg;
    weft_deferred *process;
    weft_result result;
    bool wanted;

    key->has_process = true;
    result = weft_sleep_at(0, key->queue->place);
    begin_batch(key);
    if (!weft_failed(result) && key->batch.count)
        result = call(key);
    wanted = key->wanted;
    deliver(key, result);
    key->has_process = false;
    process = key->process;
    key->process = NULL;
    go_on(key);
    weft_deferred_unref(process);
    if (!wanted && weft_failed(result))
        return result;
    weft_result_drop(result);
    return weft_ok(NULL);
}

/* False: there was no stack, which has been logged. */
static bool start_process(struct key *key)
{
    const weft_batching_queue *queue = key->queue;
    weft_deferred *process = weft_run_as_background_process_at(queue->description, run_batch, key, queue->description->name,
                                                               queue->place);

    if (key->has_process)
        key->process = process;
    else
        weft_deferred_unref(process);
    return key->has_process;
}

static void destroy(weft_batching_queue *queue)
{
    weft_deferred *closed = queue->closed;

    weft_free(queue);
    weft_deferred_callback(closed, weft_ok(NULL));
    weft_deferred_unref(closed);
}

static void key_free(struct key *key)
{
    weft_batching_queue *queue = key->queue;

    HASH_DEL(queue->keys, key);
    weft_free(key);
    if (queue->closed && !queue->keys)
        destroy(queue);
}

/* For a key without a process: gives it one, or lets it go. */
static void go_on(struct key *key)
{
    while (key->queued.count && !start_process(key)) {
        weft_error *error = weft_error_new_at(&WEFT_BUSY, key->queue->place, "there is no fiber for a batch of %s",
                                              key->queue->description->name);

        begin_batch(key);
        deliver(key, weft_fail(error));
        weft_error_unref(error);
    }
    if (!key->has_process)
        key_free(key);
}

/* ---- life ---- */

weft_batching_queue *weft_batching_queue_new_at(weft_description *description, weft_batch_fn *fn, void *arg,
                                                const weft_place *place)
{
    static pthread_once_t declared = PTHREAD_ONCE_INIT;
    weft_batching_queue *queue = weft_alloc(sizeof *queue);

    pthread_once(&declared, declare_metrics);
    *queue = (weft_batching_queue){
        .description = description, .fn = fn, .arg = arg, .place = place,
        .queued_gauge = weft_gauge_get(metrics.queued, description->name),
        .keys_gauge = weft_gauge_get(metrics.keys, description->name),
        .in_flight_gauge = weft_gauge_get(metrics.in_flight, description->name),
        .batches = weft_counter_get(metrics.batches, description->name),
    };
    return queue;
}

/* For those who wait for a batch that runs: its function still has their values. */
static void fail_batch(struct key *key, weft_error *error)
{
    for (struct entry *entry = key->batch.first; entry; entry = entry->next) {
        if (entry->deferred)
            fire(entry, weft_fail(weft_error_ref(error)));
    }
}

static void fail_queued(struct key *key, weft_error *error)
{
    struct entry *entry;

    while ((entry = key->queued.first)) {
        fire(entry, weft_fail(weft_error_ref(error)));
        dequeue(entry);
        entry_free(entry);
    }
}

static void close_key(struct key *key, weft_error *error)
{
    fail_queued(key, error);
    if (key->delivering)
        return;
    fail_batch(key, error);
    if (key->process)
        weft_deferred_cancel_with(key->process, weft_error_ref(error));
}

static weft_error *closed_error(const weft_batching_queue *queue, const weft_place *place)
{
    return weft_error_new_at(&WEFT_SHUTDOWN, place, "the batching queue %s is closed", queue->description->name);
}

weft_deferred *weft_batching_queue_close_at(weft_batching_queue *queue, const weft_place *place)
{
    weft_deferred *closed = weft_deferred_new_at(NULL, NULL, place);
    weft_error *error = closed_error(queue, place);
    struct key *key, *next;

    queue->closed = weft_deferred_ref(closed);
    HASH_ITER (hh, queue->keys, key, next) /* keys go when their processes end: not in here */
        close_key(key, error);
    weft_error_unref(error);
    if (!queue->keys)
        destroy(queue);
    return closed;
}

weft_batching_queue *weft_batching_queue_free(weft_batching_queue *queue)
{
    if (queue)
        weft_deferred_unref(weft_batching_queue_close_at(queue, queue->place));
    return NULL;
}

/* ---- use ---- */

static struct key *find(const weft_batching_queue *queue, const char *name)
{
    struct key *key;

    HASH_FIND_STR(queue->keys, name, key);
    return key;
}

static struct key *key_new(weft_batching_queue *queue, const char *name)
{
    size_t length = strlen(name);
    struct key *key = weft_alloc_zeroed(sizeof *key + length + 1);

    key->queue = queue;
    memcpy(key->name, name, length + 1);
    HASH_ADD_KEYPTR(hh, queue->keys, key->name, length, key);
    return key;
}

/* Why `value` cannot be added; NULL when it can. */
static weft_error *refusal(const weft_batching_queue *queue, weft_result value, const weft_place *place)
{
    const char *name = queue->description->name;

    if (weft_failed(value))
        return weft_error_new_at(&WEFT_MISUSE, place, "an error is added to the batching queue %s", name);
    if (value.type == &weft_deferred_type)
        return weft_error_new_at(&WEFT_MISUSE, place, "a deferred is added to the batching queue %s", name);
    if (queue->closed)
        return closed_error(queue, place);
    if (!weft_reactor_current())
        return weft_error_new_at(&WEFT_MISUSE, place, "the batching queue %s needs a reactor on its thread", name);
    return NULL;
}

weft_deferred *weft_batching_queue_add_at(weft_batching_queue *queue, const char *name, weft_result value,
                                          const weft_place *place)
{
    weft_error *error = refusal(queue, value, place);
    weft_deferred *deferred;
    struct key *key;

    if (error) {
        weft_result_drop(value);
        return weft_deferred_with_at(weft_fail(error), place);
    }
    key = find(queue, name);
    if (!key)
        key = key_new(queue, name);
    deferred = weft_deferred_ref(entry_new(key, value, place)->deferred);
    if (!key->has_process && !key->delivering)
        go_on(key);
    return deferred;
}

/* ---- asking ---- */

size_t weft_batching_queue_get_queued(const weft_batching_queue *queue, const char *name)
{
    const struct key *key = find(queue, name);

    return key ? key->queued.count : 0;
}

size_t weft_batching_queue_get_keys(const weft_batching_queue *queue)
{
    return HASH_COUNT(queue->keys);
}

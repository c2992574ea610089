/* The rows of weft, through its shared libraries. */
#include <weft/weft.h>

#include "bench/common/measure.h"

enum { BATCH = 100, MOST = 1000000, GATHERED = 10 };

/* ---- callbacks ---- */

static weft_result sum(weft_result result, void *total)
{
    *(long *)total += (intptr_t)result.value;
    return result;
}

static weft_result wait_for(weft_result result, void *inner)
{
    weft_result_drop(result);
    return weft_later(weft_deferred_ref(inner));
}

static weft_result handle(weft_result result, void *handled)
{
    *(long *)handled += weft_error_is(weft_failed(result), &WEFT_CANCELLED);
    weft_result_drop(result);
    return weft_ok(NULL);
}

/* ---- one deferred ---- */

static void create(long operations, long size)
{
    weft_deferred *deferreds[BATCH];

    for (long done = 0; done < operations; done += size) {
        for (long i = 0; i < size; i++)
            deferreds[i] = weft_deferred_new(NULL, NULL);
        check(weft_live_counts_get().deferreds == (size_t)size, "the number of new ones");
        for (long i = 0; i < size; i++)
            weft_deferred_unref(deferreds[i]);
    }
}

static void create_add_fire_free(long operations, long size)
{
    long total = 0;

    (void)size;
    for (long i = 0; i < operations; i++) {
        weft_deferred *deferred = weft_deferred_new(NULL, NULL);

        weft_deferred_add_callback(deferred, sum, &total);
        weft_deferred_callback(deferred, weft_int(2));
        weft_deferred_unref(deferred);
    }
    check(total == 2 * operations, "the sum of what callbacks got");
}

static void two_callbacks(long operations, long size)
{
    long total = 0;

    (void)size;
    for (long i = 0; i < operations; i++) {
        weft_deferred *deferred = weft_deferred_new(NULL, NULL);

        weft_deferred_add_callback(deferred, sum, &total);
        weft_deferred_add_callback(deferred, sum, &total);
        weft_deferred_callback(deferred, weft_int(2));
        weft_deferred_unref(deferred);
    }
    check(total == 4 * operations, "the sum of what two callbacks got");
}

static weft_context *wanted_context;

static weft_result sum_in_context(weft_result result, void *total)
{
    if (weft_context_current() == wanted_context)
        *(long *)total += (intptr_t)result.value;
    return result;
}

/* Added in one context, fired from none. */
static void other_context(long operations, long size)
{
    weft_deferred *deferreds[BATCH];
    long total = 0;

    wanted_context = weft_context_new("bench");
    for (long done = 0; done < operations; done += size) {
        weft_context_unref(weft_context_set(weft_context_ref(wanted_context)));
        for (long i = 0; i < size; i++)
            deferreds[i] = weft_deferred_add_callback(weft_deferred_new(NULL, NULL), sum_in_context, &total);
        weft_context_unref(weft_context_set(NULL));
        for (long i = 0; i < size; i++) {
            weft_deferred_callback(deferreds[i], weft_int(2));
            weft_deferred_unref(deferreds[i]);
        }
    }
    wanted_context = weft_context_unref(wanted_context);
    check(total == 2 * operations, "the sum of what callbacks got in their own context");
}

/* ---- chains and cancels ---- */

static void chain_link(long operations, long size)
{
    long total = 0;

    (void)size;
    for (long i = 0; i < operations; i++) {
        weft_deferred *outer = weft_deferred_new(NULL, NULL), *inner = weft_deferred_new(NULL, NULL);

        weft_deferred_add_callback(outer, wait_for, inner);
        weft_deferred_add_callback(outer, sum, &total);
        weft_deferred_callback(outer, weft_ok(NULL));
        weft_deferred_callback(inner, weft_int(2));
        weft_deferred_unref(inner);
        weft_deferred_unref(outer);
    }
    check(total == 2 * operations, "the sum of what inner ones brought");
}

static void errback_cancel(long operations, long size)
{
    long handled = 0;

    (void)size;
    for (long i = 0; i < operations; i++) {
        weft_deferred *deferred = weft_deferred_new(NULL, NULL);

        weft_deferred_add_errback(deferred, handle, &handled);
        weft_deferred_cancel(deferred);
        weft_deferred_unref(deferred);
    }
    check(handled == operations, "the number of cancellations handled");
}

static void chained_cancel(long operations, long size)
{
    long handled = 0;

    (void)size;
    for (long i = 0; i < operations; i++) {
        weft_deferred *outer = weft_deferred_new(NULL, NULL), *inner = weft_deferred_new(NULL, NULL);

        weft_deferred_add_callback(outer, wait_for, inner);
        weft_deferred_add_errback(outer, handle, &handled);
        weft_deferred_callback(outer, weft_ok(NULL));
        weft_deferred_cancel(outer);
        weft_deferred_unref(inner);
        weft_deferred_unref(outer);
    }
    check(handled == operations, "the number of cancellations that came up");
}

/* ---- many: `size` callbacks on one, and a chain of `size`, fired from its outer end ---- */

static void callbacks(long operations, long size)
{
    for (long done = 0; done < operations; done += size) {
        weft_deferred *deferred = weft_deferred_new(NULL, NULL);
        long total = 0;

        for (long i = 0; i < size; i++)
            weft_deferred_add_callback(deferred, sum, &total);
        weft_deferred_callback(deferred, weft_int(2));
        weft_deferred_unref(deferred);
        check(total == 2 * size, "the sum of what many callbacks got");
    }
}

static weft_deferred *chain[MOST + 1];

static void links(long operations, long size)
{
    for (long done = 0; done < operations; done += size) {
        long total = 0;

        for (long i = 0; i <= size; i++)
            chain[i] = weft_deferred_new(NULL, NULL);
        for (long i = 0; i < size; i++)
            weft_deferred_add_callback(chain[i], wait_for, chain[i + 1]);
        weft_deferred_add_callback(chain[0], sum, &total);
        for (long i = 0; i <= size; i++)
            weft_deferred_callback(chain[i], weft_int(2));
        for (long i = 0; i <= size; i++)
            weft_deferred_unref(chain[i]);
        check(total == 2, "what came out of a chain");
    }
}

/* ---- what is built on them ---- */

static weft_result sum_gathered(weft_result result, void *total)
{
    weft_results *results = result.value;

    for (size_t i = 0; i < results->count; i++)
        *(long *)total += (intptr_t)results->items[i].value;
    weft_result_drop(result);
    return weft_ok(NULL);
}

static void gather(long operations, long size)
{
    weft_deferred *deferreds[GATHERED];
    weft_deferred *gathered;
    long total = 0;

    (void)size;
    for (long done = 0; done < operations; done++) {
        for (int i = 0; i < GATHERED; i++)
            deferreds[i] = weft_deferred_ref(weft_deferred_new(NULL, NULL)); /* to gather, and to fire */
        gathered = weft_gather_results(deferreds, GATHERED, 0);
        weft_deferred_add_callback(gathered, sum_gathered, &total);
        for (int i = 0; i < GATHERED; i++) {
            weft_deferred_callback(deferreds[i], weft_int(2));
            weft_deferred_unref(deferreds[i]);
        }
        weft_deferred_unref(gathered);
    }
    check(total == 2 * GATHERED * operations, "the sum of what was gathered");
}

static weft_result release(weft_result held, void *released)
{
    weft_lock_release(held.value);
    ++*(long *)released;
    return weft_ok(NULL);
}

static void lock_pair(long operations, long size)
{
    weft_lock *lock = weft_lock_new();
    long released = 0;

    (void)size;
    for (long i = 0; i < operations; i++)
        weft_deferred_unref(weft_deferred_add_callback(weft_lock_acquire(lock), release, &released));
    check(released == operations && !weft_lock_is_locked(lock), "the number of releases");
    weft_lock_unref(lock);
}

static void queue_pair(long operations, long size)
{
    weft_queue *queue = weft_queue_new(WEFT_UNLIMITED, WEFT_UNLIMITED);
    long total = 0;

    (void)size;
    for (long i = 0; i < operations; i++) {
        check(!weft_queue_put(queue, weft_int(2)), "a put");
        weft_deferred_unref(weft_deferred_add_callback(weft_queue_get(queue), sum, &total));
    }
    check(total == 2 * operations, "the sum of what was put");
    weft_queue_free(queue);
}

static void timeout_pair(long operations, long size)
{
    weft_test_clock *time = weft_test_clock_new(); /* as Twisted's peer has task.Clock */
    weft_clock *clock = weft_test_clock_get_clock(time);
    long total = 0;

    (void)size;
    for (long i = 0; i < operations; i++) {
        weft_deferred *deferred = weft_deferred_new(NULL, NULL);

        weft_deferred_add_timeout(deferred, clock, 60);
        weft_deferred_add_callback(deferred, sum, &total);
        total += (long)weft_test_clock_count_timers(time);
        weft_deferred_callback(deferred, weft_int(2));
        weft_deferred_unref(deferred);
    }
    check(total == 3 * operations && !weft_test_clock_count_timers(time), "the sum of what came in time");
    weft_test_clock_free(time);
}

static const struct row rows[] = {
    {"create", create, 4000000, BATCH},
    {"create_add_fire_free", create_add_fire_free, 4000000, 1},
    {"two_callbacks", two_callbacks, 4000000, 1},
    {"other_context", other_context, 1000000, BATCH},
    {"chain_link", chain_link, 1000000, 1},
    {"errback_cancel", errback_cancel, 500000, 1},
    {"chained_cancel", chained_cancel, 500000, 1},
    {"gather_10", gather, 100000, 1},
    {"lock_pair", lock_pair, 1000000, 1},
    {"queue_pair", queue_pair, 1000000, 1},
    {"timeout_pair", timeout_pair, 500000, 1},
    {"callbacks_1000", callbacks, 2000000, 1000},
    {"callbacks_10000", callbacks, 2000000, 10000},
    {"callbacks_100000", callbacks, 2000000, 100000},
    {"callbacks_1000000", callbacks, 2000000, MOST},
    {"links_1000", links, 2000000, 1000},
    {"links_10000", links, 2000000, 10000},
    {"links_100000", links, 2000000, 100000},
    {"links_1000000", links, 2000000, MOST},
};

int main(int argc, char **argv)
{
    return measure_rows(rows, sizeof rows / sizeof rows[0], argc, argv);
}

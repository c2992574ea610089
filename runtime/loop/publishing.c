/* What reactors tell to whoever collects metrics.
 *
 * What a thread counts is no atomic, as it is counted on every way. So each reactor copies it, before it sleeps, to where
 * other threads may read: some 25 words that it alone writes, which is little beside a poll. Histograms are the metrics'
 * own, of which each belongs to one reactor. */
#include <pthread.h>
#include <stdio.h>

#include "runtime/loop/loop.h"
#include "runtime/loop/publishing.h"

#define COUNT(list) (sizeof(list) / sizeof *(list))

static const char *const live_kinds[] = {
    "deferred", "error", "context", "timer", "fiber", "scope", "descriptor", "connection", "request",
};
_Static_assert(COUNT(live_kinds) == WEFT__LIVE_COUNTS, "live_kinds follows weft_live_counts, field by field");

enum { CANCEL_EVENTS = 5 };
static const char *const cancel_events[CANCEL_EVENTS] = {"asked", "ended", "swallowed", "held_back", "delayed"};

/* Nanoseconds: 10 µs to 10 s. */
static const int64_t turn_bounds[] = {
    10000,    50000,    100000,    500000,    1000000,    5000000,    10000000,
    50000000, 100000000, 500000000, 1000000000, 5000000000, 10000000000,
};

/* Each the end of a bucket of weft_durations: 0, then 2^n - 1 from 2^10 - 1 (1 µs) to 2^40 - 1 (18 minutes). */
enum { FIRST_POWER = 10, LAST_POWER = 40, POWER_STEP = 2, POWERS = (LAST_POWER - FIRST_POWER) / POWER_STEP + 1 };

static struct {
    weft_metric *live, *fibers, *calls, *stacks, *stack_peak, *cancels, *times_to_cancel, *turns, *lags;
} metrics;

struct weft__published_series {
    weft_gauge *live[WEFT__LIVE_COUNTS];
    weft_gauge *stacks_in_use, *stacks_idle, *stack_peak;
    weft_counter *fibers, *calls;
    weft_counter *cancels[CANCEL_EVENTS];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct weft__published *all; /* in the order of their numbers */

/* ---- on the reactor's thread ---- */

static void put(uint64_t *copy, uint64_t value)
{
    __atomic_store_n(copy, value, __ATOMIC_RELAXED);
}

/* The bucket of ours that takes bucket `i` of weft_durations. */
static size_t bucket_for(size_t i)
{
    if (!i)
        return 0;
    if (i <= FIRST_POWER)
        return 1;
    return i > LAST_POWER ? POWERS + 1 : (i - FIRST_POWER + POWER_STEP - 1) / POWER_STEP + 1;
}

static void publish_times(weft_histogram *histogram, const weft_durations *durations)
{
    uint64_t buckets[POWERS + 2] = {0};

    for (size_t i = 0; i < WEFT_DURATION_BUCKETS; i++)
        buckets[bucket_for(i)] += durations->buckets[i];
    for (size_t i = 0; i < COUNT(buckets); i++)
        put(&histogram->buckets[i], buckets[i]);
    put((uint64_t *)&histogram->sum, durations->sum);
}

static void publish_ended(struct weft__published *published, const weft_cancellation_stats *stats)
{
    put(&published->cancels_ended, stats->ended);
    publish_times(published->times_to_cancel, &stats->time_to_cancel);
}

static void publish_cancels(struct weft__published *published, const weft_cancellation_stats *stats)
{
    put(&published->cancels_asked, stats->asked);
    put(&published->cancels_swallowed, stats->swallowed);
    put(&published->cancels_held_back, stats->held_back);
    put(&published->cancels_delayed, stats->delayed);
    if (published->cancels_ended == stats->ended)
        return;
    publish_ended(published, stats);
}

void weft__publish(struct weft__published *published, weft_stack_use stacks)
{
    const struct weft__thread *thread = &weft__thread;
    const size_t *live = (const size_t *)&thread->live;

    for (size_t i = 0; i < WEFT__LIVE_COUNTS; i++)
        put(&published->live[i], live[i]);
    put(&published->fibers_begun, thread->tasks.begun);
    put(&published->stacks_in_use, stacks.in_use);
    put(&published->stacks_idle, stacks.idle);
    put(&published->stacks_peak, stacks.peak);
    publish_cancels(published, &thread->cancellation);
}

/* ---- on any thread ---- */

static uint64_t get(const uint64_t *copy)
{
    return __atomic_load_n(copy, __ATOMIC_RELAXED);
}

static void tell(const struct weft__published *published)
{
    const struct weft__published_series *series = published->series;
    const uint64_t *const cancels[CANCEL_EVENTS] = {
        &published->cancels_asked, &published->cancels_ended, &published->cancels_swallowed,
        &published->cancels_held_back, &published->cancels_delayed};

    for (size_t i = 0; i < WEFT__LIVE_COUNTS; i++)
        weft_gauge_set(series->live[i], (int64_t)get(&published->live[i]));
    weft_gauge_set(series->stacks_in_use, (int64_t)get(&published->stacks_in_use));
    weft_gauge_set(series->stacks_idle, (int64_t)get(&published->stacks_idle));
    weft_gauge_set(series->stack_peak, (int64_t)get(&published->stacks_peak));
    weft_counter_set_total(series->fibers, get(&published->fibers_begun));
    weft_counter_set_total(series->calls, get(&published->calls));
    for (size_t i = 0; i < CANCEL_EVENTS; i++)
        weft_counter_set_total(series->cancels[i], get(cancels[i]));
}

static weft_error *collect(void *arg)
{
    (void)arg;
    weft__reactor_publish_now();
    pthread_mutex_lock(&lock);
    for (const struct weft__published *published = all; published; published = published->next)
        tell(published);
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* ---- forks ---- */

/* A child would wait for ever for a thread that it has not. */
static void hold(void)
{
    pthread_mutex_lock(&lock);
}

static void let_go(void)
{
    pthread_mutex_unlock(&lock);
}

/* ---- declaring ---- */

static weft_metric *declare(weft_metric_kind kind, const char *name, const char *help, const char *label)
{
    return weft__metric_declare((weft_metric_options){
        .kind = kind, .name = name, .help = help, .labels = {"reactor", label}, .most_series = SIZE_MAX});
}

static weft_metric *declare_times(const char *name, const char *help, const int64_t *bounds, size_t bound_count)
{
    return weft__metric_declare((weft_metric_options){
        .kind = WEFT_HISTOGRAM, .unit = WEFT_NANOSECONDS, .name = name, .help = help, .labels = {"reactor"},
        .most_series = SIZE_MAX, .bounds = bounds, .bound_count = bound_count});
}

static void declare_all(void)
{
    int64_t cancel_bounds[POWERS + 1] = {0};

    for (int i = 0; i < POWERS; i++)
        cancel_bounds[i + 1] = ((int64_t)1 << (FIRST_POWER + i * POWER_STEP)) - 1;
    metrics.turns = declare_times("weft_reactor_turn_seconds", "Time that turns of the reactor were at work, without polls.",
                                  turn_bounds, COUNT(turn_bounds));
    metrics.lags = declare_times("weft_reactor_timer_lag_seconds", "How much later than they were due timers fired.",
                                 turn_bounds, COUNT(turn_bounds));
    metrics.times_to_cancel = declare_times("weft_cancellation_seconds",
                                            "Time from the cancel of fibers and scopes to their end.", cancel_bounds,
                                            POWERS + 1);
    metrics.live = declare(WEFT_GAUGE, "weft_live_objects", "Objects that are alive.", "kind");
    metrics.fibers = declare(WEFT_COUNTER, "weft_fibers_started_total", "Fibers and driven computations that were started.",
                             NULL);
    metrics.calls = declare(WEFT_COUNTER, "weft_reactor_calls_from_threads_total", "Calls that came from other threads.",
                            NULL);
    metrics.stacks = declare(WEFT_GAUGE, "weft_fiber_stack_bytes", "Stacks of fibers, by their whole size.", "state");
    metrics.stack_peak = declare(WEFT_GAUGE, "weft_fiber_stack_peak_bytes", "The most that stacks of fibers in use were.",
                                 NULL);
    metrics.cancels = declare(WEFT_COUNTER, "weft_cancellations_total", "Cancels of fibers and scopes and their outcomes.",
                              "event");
    weft_metrics_on_collect(collect, NULL);
    pthread_atfork(hold, let_go, let_go);
}

static struct weft__published_series *series_new(const char *number)
{
    struct weft__published_series *series = weft_alloc(sizeof *series);

    for (size_t i = 0; i < WEFT__LIVE_COUNTS; i++)
        series->live[i] = weft_gauge_get(metrics.live, number, live_kinds[i]);
    for (size_t i = 0; i < CANCEL_EVENTS; i++)
        series->cancels[i] = weft_counter_get(metrics.cancels, number, cancel_events[i]);
    series->stacks_in_use = weft_gauge_get(metrics.stacks, number, "in_use");
    series->stacks_idle = weft_gauge_get(metrics.stacks, number, "idle");
    series->stack_peak = weft_gauge_get(metrics.stack_peak, number);
    series->fibers = weft_counter_get(metrics.fibers, number);
    series->calls = weft_counter_get(metrics.calls, number);
    return series;
}

static struct weft__published *published_new(unsigned number)
{
    struct weft__published *published = weft_alloc_zeroed(sizeof *published);
    char text[16];

    snprintf(text, sizeof text, "%u", number);
    published->series = series_new(text);
    published->turns = weft_histogram_get(metrics.turns, text);
    published->lags = weft_histogram_get(metrics.lags, text);
    published->times_to_cancel = weft_histogram_get(metrics.times_to_cancel, text);
    return published;
}

struct weft__published *weft__published_take(void)
{
    static pthread_once_t declared = PTHREAD_ONCE_INIT;
    struct weft__published **link = &all, *published;
    unsigned number = 0;

    pthread_once(&declared, declare_all);
    pthread_mutex_lock(&lock);
    for (; *link && (*link)->taken; link = &(*link)->next)
        number++;
    if (!*link)
        *link = published_new(number);
    published = *link;
    published->taken = true;
    publish_ended(published, &weft__thread.cancellation); /* instead of another thread's */
    pthread_mutex_unlock(&lock);
    return published;
}

/* What it counted stays; the thread publishes what is left of live objects, which should be none of its reactor's. */
void weft__published_give(struct weft__published *published)
{
    weft__publish(published, (weft_stack_use){0});
    pthread_mutex_lock(&lock);
    published->taken = false;
    pthread_mutex_unlock(&lock);
}

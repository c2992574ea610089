/* weft/metrics.h: numbers that the process counts, and their text for Prometheus.
 *
 * A metric is declared once, for the whole process and for good: its name, its help, the names of its labels. Each
 * combination of label values is a series of its own, which is looked up once, and then counted through its pointer:
 *
 *     static weft_counter *lobby;
 *
 *     WEFT_CHECK(weft_metric_declare(&posts, (weft_metric_options){.kind = WEFT_COUNTER, .name = "rooms_messages_total",
 *                                                                 .help = "Messages that were posted.",
 *                                                                 .labels = {"room"}}));
 *     lobby = weft_counter_get(posts, "lobby");
 *     …
 *     weft_counter_add(lobby, 1);
 *
 * Everything here may be called on any thread. Counting is one atomic addition, and never allocates nor waits.
 *
 * Numbers are integers. Durations are counted in nanoseconds, and told in seconds: that is the unit of the metric.
 *
 * weft counts much by itself. What belongs to a thread (fibers, stacks, live objects, cancels, turns) is told for each
 * reactor, with the label reactor="0" for the first, "1" for one that there is beside it, and so on; the number of one that
 * was freed goes to the next that is made. A reactor tells it at the end of each of its turns, before it sleeps: so that is
 * how fresh it is, while the reactor whose thread writes the text is told as it is at that moment. Threads without a
 * reactor are not told of. */
#ifndef WEFT_METRICS_H
#define WEFT_METRICS_H

#include <weft/error.h>

WEFT_BEGIN

typedef struct weft_metric weft_metric;

/* Never freed, so that a pointer to one may be kept anywhere. */
typedef struct weft_counter weft_counter;
typedef struct weft_gauge weft_gauge;
typedef struct weft_histogram weft_histogram;

/* ---- declaring ------------------------------------------------------------------------------------------------------ */

typedef enum weft_metric_kind { WEFT_COUNTER, WEFT_GAUGE, WEFT_HISTOGRAM } weft_metric_kind;
typedef enum weft_metric_unit {
    WEFT_PLAIN,       /* told as it was counted */
    WEFT_NANOSECONDS, /* told in seconds */
} weft_metric_unit;

enum { WEFT_METRIC_LABELS = 8, WEFT_METRIC_SERIES = 1000 };

typedef struct weft_metric_options {
    weft_metric_kind kind;
    weft_metric_unit unit;
    const char *name;
    const char *help; /* a sentence */
    const char *labels[WEFT_METRIC_LABELS]; /* as many as it has */
    const int64_t *bounds; /* of a histogram: the largest value of each bucket but the last, which takes all; rising */
    size_t bound_count;
    size_t most_series; /* 0: WEFT_METRIC_SERIES. What else comes is counted in one more, all of whose labels are "other" */
} weft_metric_options;

/* Everything in `options` is copied. A metric without labels is told from now on, as 0; one with labels once a series of
 * it was looked up.
 *
 * Declared again in the same words it is the same metric; in other words it is WEFT_MISUSE, as is whatever Prometheus or its
 * conventions would not have: letters, digits and "_" in names, "_total" at the end of counters and of nothing else,
 * "_seconds" in the names of durations, no "_bucket", "_count" or "_sum" at an end, a help. The error says what to do. */
#define weft_metric_declare(out, ...) weft_metric_declare_at(out, WEFT_HERE, __VA_ARGS__)
WEFT_API weft_error *weft_metric_declare_at(weft_metric **out, const weft_place *place, weft_metric_options options)
    WEFT_MUST_USE;

/* ---- series --------------------------------------------------------------------------------------------------------- */

/* The series with these label values, as many and in the order in which the labels were declared: weft_counter_get(metric,
 * "GET", "/health"). It is made when there is none. Values are copied; what is not UTF-8 in one becomes U+FFFD. Takes a lock
 * and a look into a table: look it up once.
 *
 * Each value is a series that Prometheus keeps for weeks: take them from a fixed set (a route's pattern, never a path). When
 * there are more than most_series one warning is logged, and the series "other" is given.
 *
 * Another number of values than labels, or the wrong kind of metric, aborts with a message, since no program could run
 * with it. */
#define weft_counter_get(...) weft_counter_get_values(__VA_ARGS__, (const char *)NULL)
#define weft_gauge_get(...) weft_gauge_get_values(__VA_ARGS__, (const char *)NULL)
#define weft_histogram_get(...) weft_histogram_get_values(__VA_ARGS__, (const char *)NULL)
WEFT_API weft_counter *weft_counter_get_values(weft_metric *metric, ...) __attribute__((returns_nonnull, sentinel));
WEFT_API weft_gauge *weft_gauge_get_values(weft_metric *metric, ...) __attribute__((returns_nonnull, sentinel));
WEFT_API weft_histogram *weft_histogram_get_values(weft_metric *metric, ...) __attribute__((returns_nonnull, sentinel));

/* ---- counting ------------------------------------------------------------------------------------------------------- */

struct weft_counter {
    uint64_t weft__value;
};

struct weft_gauge {
    int64_t weft__value;
};

static inline void weft_counter_add(weft_counter *counter, uint64_t more)
{
    __atomic_fetch_add(&counter->weft__value, more, __ATOMIC_RELAXED);
}

static inline uint64_t weft_counter_value(const weft_counter *counter)
{
    return __atomic_load_n(&counter->weft__value, __ATOMIC_RELAXED);
}

/* For those who publish at a scrape what is counted elsewhere: `total` is everything up to now. */
static inline void weft_counter_set_total(weft_counter *counter, uint64_t total)
{
    __atomic_store_n(&counter->weft__value, total, __ATOMIC_RELAXED);
}

static inline void weft_gauge_set(weft_gauge *gauge, int64_t value)
{
    __atomic_store_n(&gauge->weft__value, value, __ATOMIC_RELAXED);
}

static inline void weft_gauge_add(weft_gauge *gauge, int64_t more) /* which may be negative */
{
    __atomic_fetch_add(&gauge->weft__value, more, __ATOMIC_RELAXED);
}

static inline int64_t weft_gauge_value(const weft_gauge *gauge)
{
    return __atomic_load_n(&gauge->weft__value, __ATOMIC_RELAXED);
}

/* Two additions, and a comparison for each bucket up to the one that takes it. */
WEFT_API void weft_histogram_observe(weft_histogram *histogram, int64_t value);

/* ---- telling -------------------------------------------------------------------------------------------------------- */

/* Called whenever the text is written, before, on the thread that writes it, in no log context: for what is cheaper to look
 * up now than to count all the time. May look up series, declare metrics, add and forget functions; must not wait, for another
 * thread neither. One that fails returns why: that is logged when it begins to, and counted in
 * weft_metrics_collect_failures_total, and the others are called all the same. */
typedef weft_error *weft_collect_fn(void *arg);

/* `arg` is borrowed until it is forgotten. The same function may be added with several args. */
WEFT_API void weft_metrics_on_collect(weft_collect_fn *fn, void *arg);
/* When this returns it is not being called, unless it is what calls this; then it is not called again. */
WEFT_API void weft_metrics_forget_collect(weft_collect_fn *fn, void *arg);

/* Everything in Prometheus' text format 0.0.4, sorted by names; ended by a NUL beyond `*size`, which may be NULL. It is the
 * caller's, to weft_free. A second thread waits until the first has written its text. */
WEFT_API char *weft_metrics_write(size_t *size) __attribute__((returns_nonnull)) WEFT_MUST_USE;

#define WEFT_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

WEFT_END

#endif

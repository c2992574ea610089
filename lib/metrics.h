/* Metrics as weft's own rooms use them, and as their text is made. */
#ifndef WEFT_LIB_METRICS_H
#define WEFT_LIB_METRICS_H

#include <weft/metrics.h>

#include "lib/internal.h"
#include "lib/uthash.h"

struct weft_histogram {
    const int64_t *bounds; /* its metric's */
    size_t bound_count;
    int64_t sum;
    uint64_t *buckets;     /* one more than bounds; each value is in one */
};

/* Of one combination of label values. Never freed. */
struct weft__metric_series {
    union {
        weft_counter counter;
        weft_gauge gauge;
        weft_histogram histogram;
    };
    struct weft__metric_series *next; /* of the metric, in the order in which they were made */
    UT_hash_handle hh;
    size_t key_size;
    char key[]; /* the values, each ended by its NUL */
};

struct weft_metric {
    weft_metric_options options; /* all that it points to is the metric's */
    const weft_place *place;     /* where it was declared */
    size_t label_count;
    struct weft_metric *next;    /* in the registry, by name */
    struct weft__metric_series *by_key; /* a hash table, under the registry's lock, as is what follows */
    struct weft__metric_series *first, *last;
    size_t series_count;
    bool warned;
};

/* Whoever reads the registry from end to end. */
void weft__metrics_lock(void);
void weft__metrics_unlock(void);
const struct weft_metric *weft__metrics_first(void);

/* Runs what was given to weft_metrics_on_collect, and then `tell`, alone among all threads. */
void weft__metrics_collect(void (*tell)(void *arg), void *arg);
/* In the core's own: what belongs to no thread. */
void weft__metrics_collect_core(void);

/* For weft's own metrics, whose declarations are right: aborts when one is not. */
WEFT_INTERNAL weft_metric *weft__metric_declare(weft_metric_options options);

/* For a number that only one thread writes: an addition that locks nothing. */
static inline void weft__add_alone(uint64_t *number, uint64_t more)
{
    __atomic_store_n(number, __atomic_load_n(number, __ATOMIC_RELAXED) + more, __ATOMIC_RELAXED);
}

static inline size_t weft__bucket_of(const weft_histogram *histogram, int64_t value)
{
    size_t bucket = 0;

    while (bucket < histogram->bound_count && value > histogram->bounds[bucket])
        bucket++;
    return bucket;
}

/* As weft_histogram_observe, of a histogram that only this thread writes. */
static inline void weft__observe_alone(weft_histogram *histogram, int64_t value)
{
    weft__add_alone(&histogram->buckets[weft__bucket_of(histogram, value)], 1);
    weft__add_alone((uint64_t *)&histogram->sum, (uint64_t)value);
}

#endif

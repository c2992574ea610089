/* Totals: what all contexts of one kind have used, for as long as the process runs: requests of a route, processes and
 * measured blocks of a description. A kind is a family and its labels.
 *
 * Each thread charges totals of its own, and whoever asks gets their sum over all threads. Those of a thread that has ended
 * are taken over by the next that needs the like. */
#ifndef WEFT_LIB_TOTALS_H
#define WEFT_LIB_TOTALS_H

#include "lib/context.h"

enum { WEFT__TOTALS_LABELS = 3 };

/* Static. */
struct weft__family {
    const char *prefix; /* of the names of its metrics */
    const char *whose;  /* "measured blocks": whose these are, for their help */
    const char *labels[WEFT__TOTALS_LABELS]; /* their names; NULL ends them early */
};

struct weft__totals {
    struct weft__series series; /* first */
    const struct weft__family *family;
    const void *key;            /* who asks for these, on its thread */
    char *labels[WEFT__TOTALS_LABELS];
    struct weft__totals *next;  /* the first of each kind; set once */
    struct weft__totals *same;  /* others of its kind; the same */
    struct weft__totals *chain; /* of the same thread */
    bool owned;                 /* by a thread that lives; under the lock */

    /* Written by their thread, read by others: all as they were at one moment, while `changes` is even and stays the same. */
    uint64_t changes;
    int64_t started;
    int64_t ended;
    int64_t wall_ns;            /* of those that have ended */
    int64_t in_flight_since_ns; /* the sum of when they began, of those in flight */
    int64_t oldest_ns;          /* when the oldest of those began */
    struct weft__flight *first; /* those in flight, oldest first: their thread's alone */
    struct weft__flight *last;
};

/* One that is in flight: in the memory of whoever says so. */
struct weft__flight {
    struct weft__totals *totals; /* NULL: it is not */
    struct weft__flight *older;
    struct weft__flight *newer;
    int64_t began_ns;
};

/* This thread's. `key`, of one's own choice, is the same for the same labels, as long as it is there; the labels are copied. */
WEFT_INTERNAL struct weft__totals *weft__totals_get(const struct weft__family *family, const void *key,
                                                    const char *const labels[]);
/* Of what contexts use after their end. */
struct weft__series *weft__totals_after_end(void);

WEFT_INTERNAL void weft__flight_begin(struct weft__flight *flight, struct weft__totals *totals);
WEFT_INTERNAL void weft__flight_end(struct weft__flight *flight); /* one that is over is fine */

/* The sum over all threads. */
struct weft__totals_sum {
    const struct weft__family *family;
    const char *labels[WEFT__TOTALS_LABELS]; /* borrowed for good */
    weft_usage usage;
    int64_t started;
    int64_t in_flight;
    int64_t wall_ns;
    int64_t ages_ns;   /* of those in flight, together */
    int64_t oldest_ns; /* age */
};

/* Calls `fn` for each set of labels of the family (NULL: of all) that there ever was. From any thread; what other threads do
 * at that moment may be missing, and up to 100 µs of what they did before they fell asleep in a poll. */
WEFT_INTERNAL void weft__totals_each(const struct weft__family *family,
                                     void (*fn)(const struct weft__totals_sum *sum, void *arg), void *arg);

/* What contexts have used after their ends, without labels; measured blocks and background processes, by name. */
extern WEFT_INTERNAL const struct weft__family weft__after_end_family;
extern WEFT_INTERNAL const struct weft__family weft__block_family;
extern WEFT_INTERNAL const struct weft__family weft__process_family;

/* The thread ends. */
void weft__totals_leave(void);

/* Tells them as metrics. */
void weft__totals_collect(void);

#endif

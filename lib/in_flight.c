/* What is in flight: a line per series, oldest first, which is looked through when the metrics are collected. */
#include <assert.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <weft/clock.h>
#include <weft/in_flight.h>

#include "lib/metrics.h"

struct weft_in_flight_series {
    weft_gauge *gauges[3]; /* how many, the oldest's age, all ages */
    weft_flight line;      /* in a circle with those in flight; only its links are used */
    struct weft_in_flight_series *next;
};

struct weft_in_flight {
    weft_metric *metrics[3];
    struct weft_in_flight *next;
    weft_in_flight_series *series;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static weft_in_flight *all;

/* ---- telling ---- */

static int64_t age_of(const weft_flight *flight, int64_t now)
{
    return now > flight->began ? now - flight->began : 0;
}

/* They begin on several threads, whose clocks are read at other moments: the first is not always the oldest. */
static void tell(const weft_in_flight_series *series, int64_t now)
{
    int64_t count = 0, oldest = 0, ages = 0;

    for (const weft_flight *flight = series->line.next; flight != &series->line; flight = flight->next) {
        int64_t age = age_of(flight, now);

        count++;
        ages += age;
        if (age > oldest)
            oldest = age;
    }
    weft_gauge_set(series->gauges[0], count);
    weft_gauge_set(series->gauges[1], oldest);
    weft_gauge_set(series->gauges[2], ages);
}

static weft_error *collect(void *arg)
{
    weft_clock *clock = weft_clock_current();
    int64_t now = clock ? weft_clock_now(clock) : 0;

    (void)arg;
    pthread_mutex_lock(&lock);
    for (const weft_in_flight *in_flight = all; in_flight; in_flight = in_flight->next) {
        for (const weft_in_flight_series *series = in_flight->series; series; series = series->next)
            tell(series, now);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* ---- declaring ---- */

static weft_error *declare(weft_in_flight *in_flight, const weft_place *place, weft_metric_options options)
{
    static const char *const ends[3] = {"", "_oldest_seconds", "_ages_seconds"};
    static const char *const helps[3] = {"%s", "%s The age of the oldest.", "%s Their ages together."};
    const char *name = options.name ? options.name : "", *help = options.help ? options.help : "";
    weft_error *error = NULL;

    options.kind = WEFT_GAUGE;
    options.bound_count = 0;
    for (size_t i = 0; i < 3 && !error; i++) {
        size_t name_room = strlen(name) + strlen(ends[i]) + 1, help_room = strlen(help) + strlen(helps[i]) + 1;
        char *full_name = weft_alloc(name_room), *full_help = weft_alloc(help_room);

        snprintf(full_name, name_room, "%s%s", name, ends[i]);
        snprintf(full_help, help_room, helps[i], help);
        options.name = full_name;
        options.help = full_help;
        options.unit = i ? WEFT_NANOSECONDS : WEFT_PLAIN;
        error = weft_metric_declare_at(&in_flight->metrics[i], place, options);
        weft_free(full_name);
        weft_free(full_help);
    }
    return error;
}

static weft_in_flight *find(const weft_metric *metric)
{
    weft_in_flight *in_flight = all;

    while (in_flight && in_flight->metrics[0] != metric)
        in_flight = in_flight->next;
    return in_flight;
}

/* Declared again it is what it was. */
static weft_in_flight *keep(const weft_in_flight *declared)
{
    weft_in_flight *in_flight;
    bool first;

    pthread_mutex_lock(&lock);
    first = !all;
    if (!(in_flight = find(declared->metrics[0]))) {
        in_flight = weft_alloc(sizeof *in_flight);
        *in_flight = *declared;
        in_flight->next = all;
        all = in_flight;
    }
    pthread_mutex_unlock(&lock);
    if (first)
        weft_metrics_on_collect(collect, NULL);
    return in_flight;
}

weft_error *weft_in_flight_declare_at(weft_in_flight **out, const weft_place *place, weft_metric_options options)
{
    weft_in_flight declared = {0};
    weft_error *error = declare(&declared, place, options);

    if (!error)
        *out = keep(&declared);
    return error;
}

/* ---- series ---- */

static weft_in_flight_series *series_of(weft_in_flight *in_flight, weft_gauge *const gauges[3])
{
    weft_in_flight_series *series = in_flight->series;

    while (series && series->gauges[0] != gauges[0])
        series = series->next;
    if (series)
        return series;
    series = weft_alloc_zeroed(sizeof *series);
    for (int i = 0; i < 3; i++)
        series->gauges[i] = gauges[i];
    series->line.next = series->line.previous = &series->line;
    series->next = in_flight->series;
    in_flight->series = series;
    return series;
}

weft_in_flight_series *weft_in_flight_get_values(weft_in_flight *in_flight, ...)
{
    weft_in_flight_series *series;
    weft_gauge *gauges[3];

    for (int i = 0; i < 3; i++) {
        va_list values;

        va_start(values, in_flight);
        gauges[i] = weft__gauge_get(in_flight->metrics[i], values);
        va_end(values);
    }
    pthread_mutex_lock(&lock);
    series = series_of(in_flight, gauges);
    pthread_mutex_unlock(&lock);
    return series;
}

/* ---- flights ---- */

void weft_flight_begin(weft_flight *flight, weft_in_flight_series *series)
{
    const weft_clock *clock = weft_clock_current();
    weft_flight *last;

    pthread_mutex_lock(&lock);
    last = series->line.previous;
    *flight = (weft_flight){&series->line, last, series, clock ? weft_clock_recent(clock) : INT64_MAX};
    last->next = series->line.previous = flight;
    pthread_mutex_unlock(&lock);
}

void weft_flight_end(weft_flight *flight)
{
    assert(flight->series && "a flight is ended that is not in the air");
    pthread_mutex_lock(&lock);
    flight->previous->next = flight->next;
    flight->next->previous = flight->previous;
    pthread_mutex_unlock(&lock);
    flight->series = NULL;
}

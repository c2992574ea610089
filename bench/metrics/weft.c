/* What counting costs, beside a read of the counter that times everything else. `size` is not used: operations stand
 * alone. */
#include <weft/metrics.h>

#include "bench/common/measure.h"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

static const int64_t bounds[] = {
    10000,    50000,     100000,    500000,     1000000,    5000000,     10000000,
    50000000, 100000000, 500000000, 1000000000, 5000000000, 10000000000,
};
static weft_metric *counters, *histograms;

static void declare(void)
{
    weft_error *error = weft_metric_declare(&counters, (weft_metric_options){
        .name = "bench_total", .help = "Counted.", .labels = {"which"}});

    if (!error)
        error = weft_metric_declare(&histograms, (weft_metric_options){
            .kind = WEFT_HISTOGRAM, .unit = WEFT_NANOSECONDS, .name = "bench_seconds", .help = "Observed.",
            .labels = {"which"}, .bounds = bounds, .bound_count = sizeof bounds / sizeof *bounds});
    check(!error, "a declaration");
}

static uint64_t read_counter(void)
{
#if defined(__x86_64__)
    return __rdtsc();
#else
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_nsec;
#endif
}

static void counter_read_alone(long operations, long size)
{
    uint64_t ticks = 0;

    (void)size;
    for (long i = 0; i < operations; i++)
        ticks |= read_counter();
    check(ticks != 0, "the counter");
}

static void metric_inc(long operations, long size)
{
    weft_counter *counter = weft_counter_get(counters, "inc");
    uint64_t before = weft_counter_value(counter);

    (void)size;
    for (long i = 0; i < operations; i++)
        weft_counter_add(counter, 1);
    check(weft_counter_value(counter) - before == (uint64_t)operations, "the count");
}

static void metric_observe(long operations, long size)
{
    weft_histogram *histogram = weft_histogram_get(histograms, "observe");

    (void)size;
    for (long i = 0; i < operations; i++)
        weft_histogram_observe(histogram, 300000);
}

static void metric_lookup(long operations, long size)
{
    weft_counter *counter = weft_counter_get(counters, "look up");

    (void)size;
    for (long i = 0; i < operations; i++)
        check(weft_counter_get(counters, "look up") == counter, "the series");
}

/* A thousand lines. */
static void metric_write(long operations, long size)
{
    for (int i = 0; i < 1000 - 3; i++) {
        char value[16];

        snprintf(value, sizeof value, "%d", i);
        weft_counter_get(counters, value);
    }
    for (long i = 0; i < operations; i += size)
        weft_free(weft_metrics_write(NULL));
}

int main(int argc, char **argv)
{
    static const struct row rows[] = {
        {"counter_read", counter_read_alone, 20000000, 1},
        {"metric_inc", metric_inc, 20000000, 1},
        {"metric_observe", metric_observe, 10000000, 1},
        {"metric_lookup", metric_lookup, 1000000, 1},
        {"metric_write_line", metric_write, 500000, 1000},
    };

    declare();
    return measure_rows(rows, sizeof rows / sizeof *rows, argc, argv);
}

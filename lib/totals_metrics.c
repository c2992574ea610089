/* What contexts of each kind have used, as metrics: Synapse's counters of requests, background processes and blocks. */
#include <stddef.h>
#include <stdio.h>

#include <weft/description.h>

#include "lib/metrics.h"
#include "lib/totals.h"

/* Each family has one of each. */
struct kind {
    const char *name; /* behind the family's prefix */
    const char *help; /* before whose it is */
    weft_metric_unit unit;
    size_t offset; /* in weft_usage */
};

static const struct kind usages[] = {
    {"cpu_user_seconds_total", "CPU time in the program of", WEFT_NANOSECONDS, offsetof(weft_usage, user_ns)},
    {"cpu_system_seconds_total", "CPU time in the kernel of", WEFT_NANOSECONDS, offsetof(weft_usage, system_ns)},
    {"ready_seconds_total", "Time in which fibers waited for their turn, of", WEFT_NANOSECONDS, offsetof(weft_usage, ready_ns)},
    {"db_transactions_total", "Database transactions of", WEFT_PLAIN, offsetof(weft_usage, db_transactions)},
    {"db_seconds_total", "Time in database transactions of", WEFT_NANOSECONDS, offsetof(weft_usage, db_ns)},
    {"db_wait_seconds_total", "Time until they began, of", WEFT_NANOSECONDS, offsetof(weft_usage, db_wait_ns)},
    {"db_rows_total", "Rows that were fetched from databases, of", WEFT_PLAIN, offsetof(weft_usage, db_rows)},
    {"allocated_bytes_total", "Bytes that were allocated, of", WEFT_PLAIN, offsetof(weft_usage, allocated_bytes)},
    {"received_bytes_total", "Bytes that came in, of", WEFT_PLAIN, offsetof(weft_usage, bytes_in)},
    {"sent_bytes_total", "Bytes that went out, of", WEFT_PLAIN, offsetof(weft_usage, bytes_out)},
};

static weft_metric *declare(const struct weft__family *family, weft_metric_kind kind, const struct kind *what)
{
    char name[128], help[128];
    weft_metric_options options = {.kind = kind, .unit = what->unit, .name = name, .help = help};

    snprintf(name, sizeof name, "%s_%s", family->prefix, what->name);
    snprintf(help, sizeof help, "%s %s.", what->help, family->whose);
    for (size_t i = 0; i < WEFT__TOTALS_LABELS && family->labels[i]; i++)
        options.labels[i] = family->labels[i];
    return weft__metric_declare(options);
}

static void tell_total(const struct weft__totals_sum *sum, const struct kind *what, int64_t total)
{
    weft_metric *metric = declare(sum->family, WEFT_COUNTER, what);
    const char *const *labels = sum->labels; /* those that it does not have are NULL */

    weft_counter_set_total(weft_counter_get(metric, labels[0], labels[1], labels[2]), (uint64_t)total);
}

static void tell_now(const struct weft__totals_sum *sum, const struct kind *what, int64_t value)
{
    weft_metric *metric = declare(sum->family, WEFT_GAUGE, what);

    weft_gauge_set(weft_gauge_get(metric, sum->labels[0], sum->labels[1], sum->labels[2]), value);
}

static void tell_block(const struct weft__totals_sum *sum)
{
    static const struct kind runs = {"runs_total", "Runs that have begun, of", WEFT_PLAIN, 0};
    static const struct kind wall = {"wall_seconds_total", "Time from begin to end, of", WEFT_NANOSECONDS, 0};
    static const struct kind in_flight = {"in_flight", "How many go on, of", WEFT_PLAIN, 0};
    static const struct kind ages = {"in_flight_ages_seconds", "For how long they have, together, of", WEFT_NANOSECONDS, 0};
    static const struct kind oldest = {"in_flight_oldest_seconds", "For how long the oldest has, of", WEFT_NANOSECONDS, 0};

    tell_total(sum, &runs, sum->started);
    tell_total(sum, &wall, sum->wall_ns);
    tell_now(sum, &in_flight, sum->in_flight);
    tell_now(sum, &ages, sum->ages_ns);
    tell_now(sum, &oldest, sum->oldest_ns);
}

static void tell(const struct weft__totals_sum *sum, void *unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof usages / sizeof *usages; i++)
        tell_total(sum, &usages[i], *(const int64_t *)((const char *)&sum->usage + usages[i].offset));
    if (sum->family == &weft__block_family)
        tell_block(sum);
}

static void tell_process(const weft_description *description, void *unused)
{
    static const struct kind starts = {"starts_total", "How many have started, of", WEFT_PLAIN, 0};
    static const struct kind in_flight = {"in_flight", "How many go on, of", WEFT_PLAIN, 0};
    const struct weft__totals_sum whose = {.family = &weft__process_family, .labels = {description->name}};
    weft_description_counts counts = weft_description_get_counts(description);

    (void)unused;
    if (!counts.started)
        return; /* it is a block's alone */
    tell_total(&whose, &starts, (int64_t)counts.started);
    tell_now(&whose, &in_flight, (int64_t)counts.in_flight);
}

void weft__totals_collect(void)
{
    weft__books_close_window(&weft__thread.books);
    weft__totals_each(NULL, tell, NULL);
    weft_description_each(tell_process, NULL);
}

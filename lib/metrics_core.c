/* The core's own metrics. */
#include <weft/log.h>

#include "lib/counts.h"
#include "lib/metrics.h"
#include "lib/totals.h"

struct weft__counts weft__counts;

static void tell(weft_counter *counter, const uint64_t *number)
{
    weft_counter_set_total(counter, __atomic_load_n(number, __ATOMIC_RELAXED));
}

void weft__metrics_collect_core(void)
{
    weft_metric *lines = weft__metric_declare((weft_metric_options){
        .name = "weft_log_lines_total", .help = "Log lines that were made.", .labels = {"level"}});
    weft_metric *unhandled = weft__metric_declare((weft_metric_options){
        .name = "weft_unhandled_errors_total", .help = "Errors of deferreds that nobody took."});

    for (int level = WEFT_LOG_DEBUG; level < WEFT__LOG_LEVELS; level++)
        tell(weft_counter_get(lines, weft_log_level_name((weft_log_level)level)), &weft__counts.log_lines[level]);
    tell(weft_counter_get(unhandled), &weft__counts.unhandled);
    weft__totals_collect();
}

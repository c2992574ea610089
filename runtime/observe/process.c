/* Metrics of the process, under the names that all of Prometheus' clients give them, and of its allocator when that is
 * jemalloc. All are looked up at a scrape. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/metrics.h"
#include "runtime/loop/loop.h"

/* NULL unless the program is linked with jemalloc, or had it preloaded. */
extern int mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size) __attribute__((weak));

enum { SECOND = 1000000000 };

static weft_gauge *declare_gauge(const char *name, const char *help, weft_metric_unit unit)
{
    return weft_gauge_get(weft__metric_declare((weft_metric_options){
        .kind = WEFT_GAUGE, .unit = unit, .name = name, .help = help}));
}

/* ---- CPU ---- */

static weft_error *collect_cpu(void *arg)
{
    weft_counter *cpu = weft_counter_get(weft__metric_declare((weft_metric_options){
        .unit = WEFT_NANOSECONDS, .name = "process_cpu_seconds_total", .help = "CPU time of all threads."}));
    struct timespec now;

    (void)arg;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    weft_counter_set_total(cpu, (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec);
    return NULL;
}

/* ---- memory, and since when ---- */

struct stat_fields {
    uint64_t start; /* clock ticks since the machine was started */
    uint64_t virtual_bytes;
    uint64_t resident_pages;
};

static bool read_line_of(const char *path, const char *beginning, char *line, int size)
{
    FILE *file = fopen(path, "re");
    bool found = false;

    while (file && !found && fgets(line, size, file))
        found = !strncmp(line, beginning, strlen(beginning));
    if (file)
        fclose(file);
    return found;
}

/* The program's name comes first, in brackets, and may have blanks and brackets in it. */
static bool read_stat(struct stat_fields *fields)
{
    char line[2048];
    const char *rest;

    if (!read_line_of("/proc/self/stat", "", line, sizeof line) || !(rest = strrchr(line, ')')))
        return false;
    return sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64
                  " %" SCNu64 " %" SCNu64, &fields->start, &fields->virtual_bytes, &fields->resident_pages) == 3;
}

static void tell_start(uint64_t ticks)
{
    char line[2048];
    uint64_t booted;

    if (!read_line_of("/proc/stat", "btime ", line, sizeof line) || sscanf(line, "btime %" SCNu64, &booted) != 1)
        return;
    weft_gauge_set(declare_gauge("process_start_time_seconds", "When the process began, since 1970.", WEFT_NANOSECONDS),
                   (int64_t)(booted * SECOND + ticks * (SECOND / (uint64_t)sysconf(_SC_CLK_TCK))));
}

static weft_error *collect_memory(void *arg)
{
    struct stat_fields fields;

    (void)arg;
    if (!read_stat(&fields))
        return weft_error_new(&WEFT_FAILURE, "/proc/self/stat cannot be read, or not understood");
    weft_gauge_set(declare_gauge("process_virtual_memory_bytes", "Address space that is mapped.", WEFT_PLAIN),
                   (int64_t)fields.virtual_bytes);
    weft_gauge_set(declare_gauge("process_resident_memory_bytes", "Memory that it really has.", WEFT_PLAIN),
                   (int64_t)fields.resident_pages * sysconf(_SC_PAGESIZE));
    tell_start(fields.start);
    return NULL;
}

/* ---- descriptors ---- */

static int64_t count_entries(const char *path)
{
    DIR *list = opendir(path);
    int64_t count = -3; /* itself, and the two that are in every folder */

    while (list && readdir(list))
        count++;
    if (list)
        closedir(list);
    return count;
}

/* Since Linux 6.2 the size of the folder says how many there are; going through 100,000 takes many milliseconds. */
static int64_t count_descriptors(void)
{
    struct stat folder;

    if (!stat("/proc/self/fd", &folder) && folder.st_size)
        return folder.st_size;
    return count_entries("/proc/self/fd");
}

static weft_error *collect_descriptors(void *arg)
{
    int64_t count = count_descriptors();
    struct rlimit limit;

    (void)arg;
    if (count < 0)
        return weft_error_os(errno, "/proc/self/fd cannot be read");
    weft_gauge_set(declare_gauge("process_open_fds", "Descriptors that are open.", WEFT_PLAIN), count);
    if (!getrlimit(RLIMIT_NOFILE, &limit))
        weft_gauge_set(declare_gauge("process_max_fds", "Descriptors that may be open.", WEFT_PLAIN),
                       limit.rlim_cur < INT64_MAX ? (int64_t)limit.rlim_cur : INT64_MAX);
    return NULL;
}

/* ---- jemalloc ---- */

/* Its statistics stand still until they are asked to move on. */
static weft_error *collect_jemalloc(void *arg)
{
    static const char *const kinds[] = {"allocated", "active", "metadata", "resident", "mapped", "retained"};
    weft_metric *metric = weft__metric_declare((weft_metric_options){
        .kind = WEFT_GAUGE, .name = "weft_jemalloc_bytes", .labels = {"kind"},
        .help = "What jemalloc says of its memory, by the names of its statistics."});
    uint64_t epoch = 1;
    int code = mallctl("epoch", NULL, NULL, &epoch, sizeof epoch);

    (void)arg;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && !code; i++) {
        size_t value = 0, size = sizeof value;
        char name[32];

        snprintf(name, sizeof name, "stats.%s", kinds[i]);
        code = mallctl(name, &value, &size, NULL, 0);
        if (!code)
            weft_gauge_set(weft_gauge_get(metric, kinds[i]), (int64_t)value);
    }
    return code ? weft_error_os(code, "jemalloc tells no statistics") : NULL;
}

/* ---- the beginning ---- */

/* Each on its own, so that one which fails hides no other. */
static void begin(void)
{
    weft_metrics_on_collect(collect_cpu, NULL);
    weft_metrics_on_collect(collect_memory, NULL);
    weft_metrics_on_collect(collect_descriptors, NULL);
    if (mallctl)
        weft_metrics_on_collect(collect_jemalloc, NULL);
}

void weft__observe_process(void)
{
    static pthread_once_t begun = PTHREAD_ONCE_INIT;

    pthread_once(&begun, begin);
}

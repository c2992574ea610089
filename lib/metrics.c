/* The registry of metrics: a list by name, each with a table of its series.
 *
 * Nothing in it is ever freed, so that a series is a pointer for good, and counting needs neither lock nor reference. What
 * changes it, declaring and looking up, is rare and takes one lock. Whoever writes the text takes another one for the
 * whole of it: functions that publish something are called between the two, and may look up what they like. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <weft/log.h>

#include "lib/context.h"
#include "lib/metrics.h"
#include "lib/slab.h"
#include "lib/text.h"

enum { CACHE_LINE = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static weft_metric *metrics;

void weft__metrics_lock(void)
{
    pthread_mutex_lock(&lock);
}

void weft__metrics_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

const struct weft_metric *weft__metrics_first(void)
{
    return metrics;
}

/* ---- what may be declared ---- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Colons are for the rules of those who run Prometheus. */
static bool is_name(const char *text)
{
    if (!text || !is_letter(*text))
        return false;
    while (is_letter(*text) || (*text >= '0' && *text <= '9'))
        text++;
    return !*text;
}

static bool ends_in(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);

    return size > end_size && !strcmp(text + size - end_size, end);
}

static size_t count_labels(const weft_metric_options *options)
{
    size_t count = 0;

    while (count < WEFT_METRIC_LABELS && options->labels[count])
        count++;
    return count;
}

/* What is wrong with a name, and what to do about it; NULL: nothing. */
static const char *name_fault(const weft_metric_options *options)
{
    static const char *const reserved[] = {"_bucket", "_count", "_sum"};
    const char *name = options->name;
    bool total = ends_in(name, "_total");

    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (ends_in(name, reserved[i]))
            return "_bucket, _count and _sum are how a histogram's series end: give it another end";
    }
    if (options->kind == WEFT_COUNTER && !total)
        return "the name of a counter ends in _total: add that";
    if (options->kind != WEFT_COUNTER && total)
        return "_total is for counters: take it from the name, or count with a counter";
    if (options->unit == WEFT_NANOSECONDS && !ends_in(name, "_seconds") && !ends_in(name, "_seconds_total"))
        return "it is told in seconds: say _seconds in its name";
    return NULL;
}

static const char *bounds_fault(const weft_metric_options *options)
{
    if (options->kind != WEFT_HISTOGRAM)
        return options->bound_count ? "it has bounds, which are for histograms: leave them out" : NULL;
    if (!options->bound_count || !options->bounds)
        return "a histogram needs bounds: give it one at least";
    for (size_t i = 1; i < options->bound_count; i++) {
        if (options->bounds[i] <= options->bounds[i - 1])
            return "its bounds do not rise: sort them, each once";
    }
    return NULL;
}

static bool is_taken(const weft_metric_options *options, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (!strcmp(options->labels[i], options->labels[index]))
            return true;
    }
    return false;
}

static const char *label_fault(const weft_metric_options *options, size_t index)
{
    const char *label = options->labels[index];

    if (!is_name(label))
        return "use letters, digits and _ in it, and begin with none of the digits";
    if (!strncmp(label, "__", 2))
        return "labels that begin with __ are Prometheus' own: take the underscores away";
    if (options->kind == WEFT_HISTOGRAM && !strcmp(label, "le"))
        return "that is the label of a histogram's buckets: call it something else";
    if (is_taken(options, index))
        return "it is there twice: leave one out";
    return NULL;
}

static weft_error *check_labels(const weft_metric_options *options, const weft_place *place)
{
    for (size_t i = 0; i < count_labels(options); i++) {
        const char *fault = label_fault(options, i);

        if (fault)
            return weft_error_new_at(&WEFT_MISUSE, place, "the label \"%s\" of the metric %s: %s", options->labels[i],
                                     options->name, fault);
    }
    return NULL;
}

static weft_error *check(const weft_metric_options *options, const weft_place *place)
{
    const char *fault;

    if (!is_name(options->name))
        return weft_error_new_at(&WEFT_MISUSE, place, "\"%s\" is no name of a metric: use letters, digits and _, and begin "
                                 "with none of the digits", options->name ? options->name : "");
    fault = name_fault(options);
    if (!fault)
        fault = bounds_fault(options);
    if (!fault && (!options->help || !*options->help))
        fault = "it has no help: say in a sentence what it counts";
    if (fault)
        return weft_error_new_at(&WEFT_MISUSE, place, "the metric %s: %s", options->name, fault);
    return check_labels(options, place);
}

/* ---- declaring ---- */

/* Where a metric of that name is, or would be. */
static weft_metric **find(const char *name)
{
    weft_metric **link = &metrics;

    while (*link && strcmp((*link)->options.name, name) < 0)
        link = &(*link)->next;
    return link;
}

static bool same_labels(const weft_metric_options *a, const weft_metric_options *b)
{
    size_t count = count_labels(a);

    if (count != count_labels(b))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(a->labels[i], b->labels[i]) != 0)
            return false;
    }
    return true;
}

static bool same_bounds(const weft_metric_options *a, const weft_metric_options *b)
{
    return a->bound_count == b->bound_count &&
           (!a->bound_count || !memcmp(a->bounds, b->bounds, a->bound_count * sizeof *a->bounds));
}

static const char *difference(const weft_metric_options *a, const weft_metric_options *b)
{
    if (a->kind != b->kind)
        return "as another kind";
    if (a->unit != b->unit)
        return "in another unit";
    if (!same_labels(a, b))
        return "with other labels";
    if (!same_bounds(a, b))
        return "with other bounds";
    if (a->most_series != b->most_series)
        return "with another most_series";
    return strcmp(a->help, b->help) ? "with another help" : NULL;
}

static weft_metric *metric_new(const weft_metric_options *options, const weft_place *place)
{
    weft_metric *metric = weft_alloc_zeroed(sizeof *metric);
    int64_t *bounds = weft_alloc(options->bound_count * sizeof *bounds);

    metric->options = *options;
    metric->options.name = weft_strdup(options->name);
    metric->options.help = weft_strdup(options->help);
    metric->label_count = count_labels(options);
    for (size_t i = 0; i < metric->label_count; i++)
        metric->options.labels[i] = weft_strdup(options->labels[i]);
    for (size_t i = 0; i < options->bound_count; i++)
        bounds[i] = options->bounds[i];
    metric->options.bounds = bounds;
    metric->place = place;
    return metric;
}

static struct weft__metric_series *series_find(weft_metric *metric, const char *key, size_t size);

/* Under the lock. Without labels there is one series, which is told from the beginning. */
static weft_error *declare(weft_metric **out, const weft_metric_options *options, const weft_place *place)
{
    weft_metric **link = find(options->name), *there = *link;
    const char *differs;

    if (!there || strcmp(there->options.name, options->name) != 0) {
        *out = metric_new(options, place);
        (*out)->next = there;
        *link = *out;
        if (!(*out)->label_count)
            series_find(*out, "", 0);
        return NULL;
    }
    if ((differs = difference(&there->options, options)))
        return weft_error_new_at(&WEFT_MISUSE, place, "the metric %s is declared %s than at %s:%d %s: declare it once, or "
                                 "give one of them another name", options->name, differs, there->place->file,
                                 there->place->line, there->place->function);
    *out = there;
    return NULL;
}

static void mind_forks(void);

weft_error *weft_metric_declare_at(weft_metric **out, const weft_place *place, weft_metric_options options)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    weft_error *error = check(&options, place);

    pthread_once(&once, mind_forks);
    if (error)
        return error;
    if (!options.most_series)
        options.most_series = WEFT_METRIC_SERIES;
    weft__metrics_lock();
    error = declare(out, &options, place);
    weft__metrics_unlock();
    return error;
}

/* No program could run on. */
static _Noreturn void refuse(const char *name, const char *why)
{
    fprintf(stderr, "weft: the metric %s: %s\n", name, why);
    abort();
}

weft_metric *weft__metric_declare(weft_metric_options options)
{
    weft_metric *metric = NULL;
    weft_error *error = weft_metric_declare(&metric, options);

    if (error)
        refuse(options.name, weft_error_get_message(error));
    return metric;
}

/* ---- series ---- */

/* The key of one whose labels are all "other", as long as they may be. */
static const char others[] = "other\0other\0other\0other\0other\0other\0other\0other";
_Static_assert(sizeof others == 6 * WEFT_METRIC_LABELS, "one for each label");

static struct weft__metric_series *series_new(weft_metric *metric, const char *key, size_t size)
{
    size_t bytes = (sizeof(struct weft__metric_series) + size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    struct weft__metric_series *series = weft__alloc_lines(bytes); /* so that threads that count apart do not meet */

    memset(series, 0, sizeof *series);
    if (metric->options.kind == WEFT_HISTOGRAM)
        series->histogram = (weft_histogram){
            .bounds = metric->options.bounds,
            .bound_count = metric->options.bound_count,
            .buckets = weft_alloc_zeroed((metric->options.bound_count + 1) * sizeof(uint64_t)),
        };
    series->key_size = size;
    for (size_t i = 0; i < size; i++)
        series->key[i] = key[i];
    if (metric->last)
        metric->last->next = series;
    else
        metric->first = series;
    metric->last = series;
    metric->series_count++;
    HASH_ADD(hh, metric->by_key, key[0], size, series);
    return series;
}

static struct weft__metric_series *series_find(weft_metric *metric, const char *key, size_t size)
{
    struct weft__metric_series *series;

    HASH_FIND(hh, metric->by_key, key, size, series);
    return series ? series : series_new(metric, key, size);
}

/* Under the lock. */
static struct weft__metric_series *series_get(weft_metric *metric, const char *key, size_t size, bool *warn)
{
    struct weft__metric_series *series;

    HASH_FIND(hh, metric->by_key, key, size, series);
    if (series)
        return series;
    if (metric->series_count < metric->options.most_series)
        return series_new(metric, key, size);
    *warn = !metric->warned;
    metric->warned = true;
    return series_find(metric, others, metric->label_count * 6);
}

/* The values in a row, and cleaned; one after another they may be three times as long as they were. */
static char *make_key(const weft_metric *metric, va_list values, size_t *size)
{
    const char *value, *all[WEFT_METRIC_LABELS];
    struct weft__text text;
    size_t count = 0, room = 1;
    char *key;

    while ((value = va_arg(values, const char *))) {
        if (count == metric->label_count)
            refuse(metric->options.name, "a series is looked up with more values than it has labels");
        all[count++] = value;
        room += 3 * strlen(value) + 1;
    }
    if (count < metric->label_count)
        refuse(metric->options.name, "a series is looked up with fewer values than it has labels, or a NULL among them");
    key = weft_alloc(room);
    *size = 0;
    for (size_t i = 0; i < count; i++) {
        weft__text_init(&text, key + *size, room - *size);
        weft__text_add_utf8(&text, all[i]);
        *size += text.length + 1;
    }
    return key;
}

static struct weft__metric_series *look_up(weft_metric *metric, weft_metric_kind kind, va_list values)
{
    static const char *const kinds[] = {"it is no counter", "it is no gauge", "it is no histogram"};
    struct weft__metric_series *series;
    bool warn = false;
    size_t size;
    char *key;

    if (metric->options.kind != kind)
        refuse(metric->options.name, kinds[kind]);
    key = make_key(metric, values, &size);
    weft__metrics_lock();
    series = series_get(metric, key, size, &warn);
    weft__metrics_unlock();
    weft_free(key);
    if (warn)
        weft_log_warn("the metric %s has %zu series, which is as many as it may have: what else comes is counted as "
                      "\"other\". Take label values from a smaller set, or raise its most_series (it is declared at %s:%d)",
                      metric->options.name, metric->options.most_series, metric->place->file, metric->place->line);
    return series;
}

weft_counter *weft_counter_get_values(weft_metric *metric, ...)
{
    struct weft__metric_series *series;
    va_list values;

    va_start(values, metric);
    series = look_up(metric, WEFT_COUNTER, values);
    va_end(values);
    return &series->counter;
}

weft_gauge *weft_gauge_get_values(weft_metric *metric, ...)
{
    struct weft__metric_series *series;
    va_list values;

    va_start(values, metric);
    series = look_up(metric, WEFT_GAUGE, values);
    va_end(values);
    return &series->gauge;
}

weft_histogram *weft_histogram_get_values(weft_metric *metric, ...)
{
    struct weft__metric_series *series;
    va_list values;

    va_start(values, metric);
    series = look_up(metric, WEFT_HISTOGRAM, values);
    va_end(values);
    return &series->histogram;
}

void weft_histogram_observe(weft_histogram *histogram, int64_t value)
{
    __atomic_fetch_add(&histogram->buckets[weft__bucket_of(histogram, value)], 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&histogram->sum, value, __ATOMIC_RELAXED);
}

/* ---- what is published at a scrape ---- */

struct hook {
    weft_collect_fn *fn; /* NULL: forgotten, while somebody goes through the list */
    void *arg;
    bool failing;
    struct hook *next;
};

/* Recursive, for hooks that add and forget hooks. All that follows is under it. */
static pthread_mutex_t collecting;
static pthread_once_t collecting_made = PTHREAD_ONCE_INIT;
static struct hook *hooks;
static bool in_hooks;
static weft_metric *failures;
static __thread unsigned inside; /* so many times this thread has it: a hook may fork */

static void make_collecting(void)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&collecting, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

static void collecting_lock(void)
{
    pthread_once(&collecting_made, make_collecting);
    pthread_mutex_lock(&collecting);
    inside++;
}

static void collecting_unlock(void)
{
    inside--;
    pthread_mutex_unlock(&collecting);
}

/* Another thread may have been telling, which can take its time, and is gone: the list is whole at each step. */
static void begin_in_child(void)
{
    weft__metrics_unlock();
    pthread_once(&collecting_made, make_collecting);
    make_collecting();
    for (unsigned i = 0; i < inside; i++)
        pthread_mutex_lock(&collecting);
    in_hooks = in_hooks && inside;
}

/* Before all who count with a lock of their own: so that is taken before this one. */
static void mind_forks(void)
{
    pthread_atfork(weft__metrics_lock, weft__metrics_unlock, begin_in_child);
}

void weft_metrics_on_collect(weft_collect_fn *fn, void *arg)
{
    struct hook *hook = weft_alloc(sizeof *hook), **last;

    *hook = (struct hook){.fn = fn, .arg = arg};
    collecting_lock();
    for (last = &hooks; *last; last = &(*last)->next)
        continue;
    *last = hook;
    collecting_unlock();
}

static void sweep(void)
{
    struct hook **link = &hooks;

    while (*link) {
        struct hook *hook = *link;

        if (hook->fn) {
            link = &hook->next;
            continue;
        }
        *link = hook->next;
        weft_free(hook);
    }
}

void weft_metrics_forget_collect(weft_collect_fn *fn, void *arg)
{
    collecting_lock();
    for (struct hook *hook = hooks; hook; hook = hook->next) {
        if (hook->fn == fn && hook->arg == arg)
            hook->fn = NULL;
    }
    if (!in_hooks)
        sweep();
    collecting_unlock();
}

/* It is no part of the fiber that happens to ask for the text: it cannot wait in its place. */
static weft_error *call(const struct hook *hook)
{
    weft_collect_fn *fn = hook->fn;
    struct weft__task *asker = weft__thread.task;
    weft_context *previous = weft__context_swap(NULL);
    weft_error *error;

    weft__thread.task = NULL;
    weft__thread.calls++;
    error = fn(hook->arg);
    weft__context_leave_callback((const void *)fn);
    weft__thread.calls--;
    weft__thread.task = asker;
    weft__context_swap(previous);
    return error;
}

static void run(struct hook *hook)
{
    weft_error *error = call(hook);

    if (error) {
        weft_counter_add(weft_counter_get(failures), 1);
        if (!hook->failing)
            weft_log_warn("what collects metrics at %p fails: %s", (const void *)hook->fn, weft_error_get_message(error));
    }
    hook->failing = error;
    weft_error_unref(error);
}

static void run_hooks(void)
{
    if (!failures)
        failures = weft__metric_declare((weft_metric_options){
            .name = "weft_metrics_collect_failures_total", .help = "Failures of functions that collect metrics."});
    in_hooks = true;
    weft__metrics_collect_core();
    for (struct hook *hook = hooks; hook; hook = hook->next) {
        if (hook->fn)
            run(hook);
    }
    in_hooks = false;
    sweep();
}

/* Inside a hook what is known by now is told. */
void weft__metrics_collect(void (*tell)(void *arg), void *arg)
{
    collecting_lock();
    if (!in_hooks)
        run_hooks();
    tell(arg);
    collecting_unlock();
}

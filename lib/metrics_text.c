/* The text format of Prometheus, version 0.0.4. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/metrics.h"

struct buffer {
    char *bytes;
    size_t size;
    size_t room;
};

static void reserve(struct buffer *buffer, size_t more)
{
    if (buffer->room - buffer->size >= more)
        return;
    buffer->room = buffer->room * 2 + more;
    buffer->bytes = weft_realloc(buffer->bytes, buffer->room);
}

static void add(struct buffer *buffer, const char *bytes, size_t size)
{
    reserve(buffer, size);
    memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
}

static void add_text(struct buffer *buffer, const char *text)
{
    add(buffer, text, strlen(text));
}

/* `quoted`: a label value, else a help. */
static void add_escaped(struct buffer *buffer, const char *text, bool quoted)
{
    for (; *text; text++) {
        if (*text == '\n')
            add(buffer, "\\n", 2);
        else if (*text == '\\' || (*text == '"' && quoted))
            add(buffer, (const char[]){'\\', *text}, 2);
        else
            add(buffer, text, 1);
    }
}

/* ---- numbers ---- */

static uint64_t magnitude(int64_t value)
{
    return value < 0 ? -(uint64_t)value : (uint64_t)value;
}

/* All that is known, and no more: 0.0025 for 2,500,000 ns. */
static void add_seconds(struct buffer *buffer, uint64_t nanoseconds)
{
    char text[48];
    int size = snprintf(text, sizeof text, "%" PRIu64 ".%09" PRIu64, nanoseconds / 1000000000, nanoseconds % 1000000000);

    while (text[size - 1] == '0')
        size--;
    if (text[size - 1] == '.')
        size--;
    add(buffer, text, (size_t)size);
}

static void add_number(struct buffer *buffer, uint64_t value, weft_metric_unit unit)
{
    char text[24];

    if (unit == WEFT_NANOSECONDS)
        add_seconds(buffer, value);
    else
        add(buffer, text, (size_t)snprintf(text, sizeof text, "%" PRIu64, value));
}

static void add_signed(struct buffer *buffer, int64_t value, weft_metric_unit unit)
{
    if (value < 0)
        add(buffer, "-", 1);
    add_number(buffer, magnitude(value), unit);
}

/* ---- series ---- */

static void add_label(struct buffer *buffer, const char *name, const char *value)
{
    add(buffer, buffer->bytes[buffer->size - 1] == '{' ? "" : ",", buffer->bytes[buffer->size - 1] != '{');
    add_text(buffer, name);
    add(buffer, "=\"", 2);
    add_escaped(buffer, value, true);
    add(buffer, "\"", 1);
}

/* The name, with `end` behind it, and an opening brace with the labels. */
static void open_series(struct buffer *buffer, const struct weft_metric *metric, const struct weft__metric_series *series,
                        const char *end)
{
    const char *value = series->key;

    add_text(buffer, metric->options.name);
    add_text(buffer, end);
    add(buffer, "{", 1);
    for (size_t i = 0; i < metric->label_count; i++) {
        add_label(buffer, metric->options.labels[i], value);
        value += strlen(value) + 1;
    }
}

/* Takes the brace back when there is nothing in it. */
static void close_labels(struct buffer *buffer)
{
    if (buffer->bytes[buffer->size - 1] == '{')
        buffer->size--;
    else
        add(buffer, "}", 1);
    add(buffer, " ", 1);
}

static void add_counter(struct buffer *buffer, const struct weft_metric *metric, const struct weft__metric_series *series)
{
    open_series(buffer, metric, series, "");
    close_labels(buffer);
    add_number(buffer, weft_counter_value(&series->counter), metric->options.unit);
    add(buffer, "\n", 1);
}

static void add_gauge(struct buffer *buffer, const struct weft_metric *metric, const struct weft__metric_series *series)
{
    open_series(buffer, metric, series, "");
    close_labels(buffer);
    add_signed(buffer, weft_gauge_value(&series->gauge), metric->options.unit);
    add(buffer, "\n", 1);
}

static void add_bucket(struct buffer *buffer, const struct weft_metric *metric, const struct weft__metric_series *series,
                       size_t index, uint64_t count)
{
    open_series(buffer, metric, series, "_bucket");
    add_label(buffer, "le", "");
    buffer->size--; /* the value goes between the quotes */
    if (index < metric->options.bound_count)
        add_signed(buffer, metric->options.bounds[index], metric->options.unit);
    else
        add(buffer, "+Inf", 4);
    add(buffer, "\"", 1);
    close_labels(buffer);
    add_number(buffer, count, WEFT_PLAIN);
    add(buffer, "\n", 1);
}

/* The count is that of the buckets just told, so that they agree while others count on. */
static void add_histogram(struct buffer *buffer, const struct weft_metric *metric, const struct weft__metric_series *series)
{
    const weft_histogram *histogram = &series->histogram;
    uint64_t count = 0;

    for (size_t i = 0; i <= histogram->bound_count; i++) {
        count += __atomic_load_n(&histogram->buckets[i], __ATOMIC_RELAXED);
        add_bucket(buffer, metric, series, i, count);
    }
    open_series(buffer, metric, series, "_sum");
    close_labels(buffer);
    add_signed(buffer, __atomic_load_n(&histogram->sum, __ATOMIC_RELAXED), metric->options.unit);
    add(buffer, "\n", 1);
    open_series(buffer, metric, series, "_count");
    close_labels(buffer);
    add_number(buffer, count, WEFT_PLAIN);
    add(buffer, "\n", 1);
}

/* ---- metrics ---- */

struct kind {
    const char *name;
    void (*add)(struct buffer *buffer, const struct weft_metric *metric, const struct weft__metric_series *series);
};

static void add_comment(struct buffer *buffer, const char *what, const char *name, const char *text)
{
    add_text(buffer, what);
    add_text(buffer, name);
    add(buffer, " ", 1);
    add_escaped(buffer, text, false);
    add(buffer, "\n", 1);
}

static void add_metric(struct buffer *buffer, const struct weft_metric *metric)
{
    static const struct kind kinds[] = {
        [WEFT_COUNTER] = {"counter", add_counter},
        [WEFT_GAUGE] = {"gauge", add_gauge},
        [WEFT_HISTOGRAM] = {"histogram", add_histogram},
    };
    const struct kind *kind = &kinds[metric->options.kind];

    if (!metric->first)
        return;
    add_comment(buffer, "# HELP ", metric->options.name, metric->options.help);
    add_comment(buffer, "# TYPE ", metric->options.name, kind->name);
    for (const struct weft__metric_series *series = metric->first; series; series = series->next)
        kind->add(buffer, metric, series);
}

static void write_all(void *arg)
{
    struct buffer *buffer = arg;

    weft__metrics_lock();
    for (const struct weft_metric *metric = weft__metrics_first(); metric; metric = metric->next)
        add_metric(buffer, metric);
    weft__metrics_unlock();
}

char *weft_metrics_write(size_t *size)
{
    struct buffer buffer = {0};

    weft__metrics_collect(write_all, &buffer);
    add(&buffer, "", 1);
    if (size)
        *size = buffer.size - 1;
    return buffer.bytes;
}

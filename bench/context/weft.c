/* The rows of weft, through its shared libraries. */
#include <fcntl.h>
#include <sys/mman.h>
#include <weft/weft.h>

#include "bench/common/measure.h"
#include "bench/context/line.h"

enum { FIBERS = 2 };

static weft_reactor *reactor;

static void check_none_left(void)
{
    check(!weft_context_current() && !weft_live_counts_get().contexts, "the ends of contexts");
}

/* ---- changing ---- */

/* Who changes has a reference of its own at each moment: it comes and goes with the change, as in the fibers' switch. */
static void change(long operations, long size)
{
    weft_context *other = weft_context_new("bench");

    (void)size;
    for (long i = 0; i < operations; i++)
        other = weft_context_set(other);
    check(weft_live_counts_get().contexts == 1, "the number of contexts");
    if (!other)
        other = weft_context_set(NULL);
    check(weft_context_get_usage(other).user_ns > 0, "what was measured");
    weft_context_unref(other);
    check_none_left();
}

static void set_and_back(long operations, long size)
{
    weft_context *context = weft_context_new("bench");

    (void)size;
    for (long i = 0; i < operations; i++) {
        weft_context *previous = weft_context_set(weft_context_ref(context));

        weft_context_unref(weft_context_set(previous));
    }
    check(weft_context_get_usage(context).user_ns > 0, "what was measured");
    weft_context_unref(context);
    check_none_left();
}

static weft_result yield_each(void *turns)
{
    for (long i = 0; i < *(long *)turns; i++)
        weft_result_drop(weft_yield());
    return weft_ok(NULL);
}

/* Fibers in turn, each in a context of its own. */
static void yield(long operations, long size)
{
    long turns = operations / size;
    weft_deferred *last = NULL;

    for (long i = 0; i < size; i++) {
        weft_context *previous = weft_context_set(weft_context_new_numbered("bench", (uint64_t)i));

        weft_deferred_unref(last);
        last = weft_spawn(yield_each, &turns);
        weft_context_unref(weft_context_set(previous));
    }
    weft_result_drop(weft_reactor_run_until(reactor, last));
    check_none_left();
}

/* ---- contexts of their own ---- */

/* As Synapse's nested_logging_context. */
static void make_children(long operations, const char *suffix)
{
    weft_context *parent = weft_context_new_numbered("bench", 1);

    for (long i = 0; i < operations; i++) {
        weft_context *previous = weft_context_set(weft_context_new_child(parent, suffix));

        weft_context_unref(weft_context_set(previous));
    }
    check(weft_context_get_usage(parent).user_ns > 0, "what was measured of children");
    weft_context_unref(parent);
    check_none_left();
}

static void child(long operations, long size)
{
    (void)size;
    make_children(operations, NULL);
}

static void child_suffix(long operations, long size)
{
    (void)size;
    make_children(operations, "auth");
}

/* As Synapse's `with LoggingContext`. */
static void with_context(long operations, long size)
{
    long inside = 0;

    (void)size;
    for (long i = 0; i < operations; i++) {
        weft_with_context(context, weft_context_new_numbered("bench", (uint64_t)i))
            inside += weft_context_current() == context;
    }
    check(inside == operations, "the number of blocks");
    check_none_left();
}

static weft_result count_if_in_context(void *count)
{
    *(long *)count += weft_context_current() != NULL;
    return weft_ok(NULL);
}

/* To the end of the fiber. */
static void spawn_with_context(long operations, long size)
{
    long count = 0;

    (void)size;
    for (long i = 0; i < operations; i++) {
        weft_context *previous = weft_context_set(weft_context_new_numbered("bench", (uint64_t)i));

        weft_deferred_unref(weft_spawn(count_if_in_context, &count));
        weft_context_unref(weft_context_set(previous));
    }
    check(count == operations, "the number of fibers");
    check_none_left();
}

/* What of that is not the context's. */
static void spawn(long operations, long size)
{
    weft_context *previous = weft_context_set(weft_context_new("bench"));
    long count = 0;

    (void)size;
    for (long i = 0; i < operations; i++)
        weft_deferred_unref(weft_spawn(count_if_in_context, &count));
    weft_context_unref(weft_context_set(previous));
    check(count == operations, "the number of fibers");
    check_none_left();
}

/* ---- log lines ---- */

static void log_disabled(long operations, long size)
{
    (void)size;
    for (long i = 0; i < operations; i++)
        weft_log_debug(LINE_FORMAT, LINE_ARGUMENTS);
}

/* One line into a file, and what the file then has. */
static void log_one_into(int fd, char *text, size_t size)
{
    ssize_t length;

    weft_log_info(LINE_FORMAT, LINE_ARGUMENTS);
    length = pread(fd, text, size - 1, 0);
    check(length >= 0, "a line");
    text[length] = '\0';
}

static bool begins(const char *text, const char *with)
{
    return !strncmp(text, with, strlen(with));
}

static bool ends(const char *text, const char *with)
{
    return strlen(text) >= strlen(with) && !strcmp(text + strlen(text) - strlen(with), with);
}

static void log_lines(long operations)
{
    for (long i = 0; i < operations; i++)
        weft_log_info(LINE_FORMAT, LINE_ARGUMENTS);
}

static weft_context *enter_request(void)
{
    return weft_context_set(weft_context_new_numbered(LINE_CONTEXT, LINE_NUMBER));
}

/* As a reactor has it set up: whoever logs writes to stderr, which leads nowhere. */
static void log_text(long operations, long size)
{
    weft_context *previous = enter_request();
    int kept = dup(STDERR_FILENO), file = memfd_create("log", 0), nowhere = open("/dev/null", O_WRONLY);
    char line[256];

    (void)size;
    dup2(file, STDERR_FILENO);
    log_one_into(file, line, sizeof line);
    dup2(nowhere, STDERR_FILENO);
    log_lines(operations);
    dup2(kept, STDERR_FILENO);
    check(strlen(line) == sizeof LINE_TEXT - 1 && ends(line, LINE_TEXT + strlen(LINE_TEXT_TIME)), "a line of text");
    close(kept);
    close(file);
    close(nowhere);
    weft_context_unref(weft_context_set(previous));
    check_none_left();
}

static weft_log_sink *add_json_sink(int fd)
{
    weft_log_sink_options options = {.format = WEFT_LOG_JSON, .direct = true};
    weft_log_sink *sink;

    check(!weft_log_sink_new_descriptor(&sink, fd, options), "a sink");
    weft_log_set_sink(NULL, NULL);
    weft_log_add_sink(sink);
    return sink;
}

/* The same with JSON. */
static void log_json(long operations, long size)
{
    weft_context *previous = enter_request();
    int file = memfd_create("log", 0), nowhere = open("/dev/null", O_WRONLY);
    weft_log_sink *sink = add_json_sink(file);
    char line[256];

    (void)size;
    log_one_into(file, line, sizeof line);
    weft_log_sink_free(sink);
    sink = add_json_sink(nowhere);
    log_lines(operations);
    weft_log_sink_free(sink);
    weft_log_to_stderr();
    check(begins(line, LINE_JSON_HEAD) && ends(line, LINE_JSON_TAIL), "a line of JSON");
    check(strlen(line) == sizeof LINE_JSON - 1, "its length");
    close(file);
    close(nowhere);
    weft_context_unref(weft_context_set(previous));
    check_none_left();
}

/* ---- counting ---- */

static void metric_inc(long operations, long size)
{
    weft_metric *metric;
    weft_counter *counter;
    uint64_t before;

    (void)size;
    check(!weft_metric_declare(&metric, (weft_metric_options){.name = "bench_total", .help = "Counted."}), "a metric");
    counter = weft_counter_get(metric);
    before = weft_counter_value(counter);
    for (long i = 0; i < operations; i++)
        weft_counter_add(counter, 1);
    check(weft_counter_value(counter) - before == (uint64_t)operations, "the count");
}

static const struct row rows[] = {
    {"change", change, 4000000, 1},
    {"set_and_back", set_and_back, 2000000, 1},
    {"yield", yield, 4000000, FIBERS},
    {"child", child, 1000000, 1},
    {"child_suffix", child_suffix, 300000, 1},
    {"with_context", with_context, 1000000, 1},
    {"spawn_with_context", spawn_with_context, 1000000, 1},
    {"spawn", spawn, 1000000, 1},
    {"log_disabled", log_disabled, 20000000, 1},
    {"log_text", log_text, 200000, 1},
    {"log_json", log_json, 200000, 1},
    {"metric_inc", metric_inc, 20000000, 1},
};

int main(int argc, char **argv)
{
    int status;

    check(!weft_reactor_new(&reactor), "the reactor");
    status = measure_rows(rows, sizeof rows / sizeof rows[0], argc, argv);
    weft_reactor_free(reactor);
    return status;
}

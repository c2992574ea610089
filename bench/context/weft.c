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

static void redirect_stderr(int fd)
{
    check(dup2(fd, STDERR_FILENO) >= 0, "a descriptor");
}

/* What a line is like in a file that stands for stderr. */
static void check_text(int fd)
{
    char text[256] = "";

    weft_log_info(LINE_FORMAT, LINE_ARGUMENTS);
    check(pread(fd, text, sizeof text - 1, 0) == sizeof LINE_TEXT - 1, "the length of a line");
    check(!strcmp(text + strlen("2026-03-01 12:00:00.250"), LINE_TEXT + strlen("2026-03-01 12:00:00.250")), "a line");
}

static void log_text(long operations, long size)
{
    weft_context *previous = weft_context_set(weft_context_new_numbered(LINE_CONTEXT, LINE_NUMBER));
    int kept = dup(STDERR_FILENO), file = memfd_create("log", 0), nowhere = open("/dev/null", O_WRONLY);

    (void)size;
    redirect_stderr(file);
    check_text(file);
    redirect_stderr(nowhere);
    for (long i = 0; i < operations; i++)
        weft_log_info(LINE_FORMAT, LINE_ARGUMENTS);
    redirect_stderr(kept);
    close(kept);
    close(file);
    close(nowhere);
    weft_context_unref(weft_context_set(previous));
    check_none_left();
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
};

int main(int argc, char **argv)
{
    int status;

    check(!weft_reactor_new(&reactor), "the reactor");
    status = measure_rows(rows, sizeof rows / sizeof rows[0], argc, argv);
    weft_reactor_free(reactor);
    return status;
}

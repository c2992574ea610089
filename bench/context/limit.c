/* The limit: what changing contexts, and counting, must cost. A change is a read of the time stamp counter, whose difference
 * is added to what ran; a context is an object from a free list; a log line is known already and written by one call. All
 * of it in one file, so that calls vanish. No names, no parents, no references, no checks of any kind. Not a library: a
 * floor. */
#include <fcntl.h>
#include <x86intrin.h>

#include "bench/common/measure.h"
#include "bench/context/line.h"

enum { CHUNK = 128, LINE = 64 };

struct context {
    struct context *next; /* free: the next free one */
    uint64_t ticks;
} __attribute__((aligned(LINE)));

static struct context none;
static struct context *current = &none;
static uint64_t mark;

/* ---- changing ---- */

static inline struct context *set(struct context *to)
{
    struct context *from = current;
    uint64_t now = __rdtsc();

    from->ticks += now - mark;
    mark = now;
    current = to;
    return from;
}

static void change(long operations, long size)
{
    struct context context = {0}, *other = &context;

    (void)size;
    for (long i = 0; i < operations; i++)
        other = set(other);
    check(context.ticks > 0, "the ticks of a context");
}

static void set_and_back(long operations, long size)
{
    struct context context = {0};

    (void)size;
    for (long i = 0; i < operations; i++)
        set(set(&context));
    check(context.ticks > 0 && current == &none, "the ticks of a context");
}

/* ---- contexts of their own ---- */

static struct context *free_contexts;

static __attribute__((noinline)) void grow(void)
{
    struct context *chunk = aligned_alloc(LINE, CHUNK * sizeof *chunk);

    if (!chunk)
        abort();
    for (int i = CHUNK; i--; free_contexts = &chunk[i])
        chunk[i].next = free_contexts;
}

static void own_context(long operations, long size)
{
    uint64_t ticks = 0;

    (void)size;
    for (long i = 0; i < operations; i++) {
        struct context *context, *previous;

        if (!free_contexts)
            grow();
        context = free_contexts;
        free_contexts = context->next;
        context->ticks = 0;
        previous = set(context);
        set(previous);
        ticks += context->ticks;
        context->next = free_contexts;
        free_contexts = context;
    }
    check(ticks > 0, "the ticks of contexts");
}

/* ---- log lines ---- */

static volatile int threshold = 1;

static void log_disabled(long operations, long size)
{
    long made = 0;

    (void)size;
    for (long i = 0; i < operations; i++)
        made += 0 >= threshold;
    check(!made, "the number of lines");
}

static void write_lines(long operations, const char *line, size_t length)
{
    int fd = open("/dev/null", O_WRONLY);
    long written = 0;

    for (long i = 0; i < operations; i++)
        written += write(fd, line, length);
    check(written == operations * (long)length, "the number of bytes written");
    close(fd);
}

static void log_text(long operations, long size)
{
    (void)size;
    write_lines(operations, LINE_TEXT, sizeof LINE_TEXT - 1);
}

static void log_json(long operations, long size)
{
    (void)size;
    write_lines(operations, LINE_JSON, sizeof LINE_JSON - 1);
}

/* ---- counting ---- */

static volatile uint64_t counter;

static void metric_inc(long operations, long size)
{
    uint64_t before = counter;

    (void)size;
    for (long i = 0; i < operations; i++)
        counter++;
    check(counter - before == (uint64_t)operations, "the count");
}

static const struct row rows[] = {
    {"change", change, 4000000, 1},
    {"set_and_back", set_and_back, 2000000, 1},
    {"own_context", own_context, 2000000, 1},
    {"log_disabled", log_disabled, 20000000, 1},
    {"log_text", log_text, 500000, 1},
    {"log_json", log_json, 500000, 1},
    {"metric_inc", metric_inc, 20000000, 1},
};

int main(int argc, char **argv)
{
    return measure_rows(rows, sizeof rows / sizeof rows[0], argc, argv);
}

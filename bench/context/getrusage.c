/* What Synapse pays for a change of context: the rusage of the thread, what it used since the last change added to what ran.
 * Without Python. */
#include <sys/resource.h>

#include "bench/common/measure.h"

struct context {
    struct rusage began;
    int64_t microseconds;
};

static struct context none;
static struct context *current = &none;

static int64_t between(const struct timeval *from, const struct timeval *to)
{
    return (to->tv_sec - from->tv_sec) * 1000000 + to->tv_usec - from->tv_usec;
}

static struct context *set(struct context *to)
{
    struct context *from = current;
    struct rusage now;

    getrusage(RUSAGE_THREAD, &now);
    from->microseconds += between(&from->began.ru_utime, &now.ru_utime) + between(&from->began.ru_stime, &now.ru_stime);
    to->began = now;
    current = to;
    return from;
}

static void change(long operations, long size)
{
    struct context context = {0}, *other = &context;

    (void)size;
    getrusage(RUSAGE_THREAD, &none.began);
    for (long i = 0; i < operations; i++)
        other = set(other);
    check(context.microseconds + none.microseconds >= 0, "the time of contexts");
    current = &none;
}

static void set_and_back(long operations, long size)
{
    struct context context = {0};

    (void)size;
    getrusage(RUSAGE_THREAD, &none.began);
    for (long i = 0; i < operations; i++)
        set(set(&context));
    check(context.microseconds + none.microseconds >= 0 && current == &none, "the time of contexts");
}

static const struct row rows[] = {
    {"change", change, 1000000, 1},
    {"set_and_back", set_and_back, 500000, 1},
};

int main(int argc, char **argv)
{
    return measure_rows(rows, sizeof rows / sizeof rows[0], argc, argv);
}

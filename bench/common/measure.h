/* For the benches of one thread, in C or C++: the rows of a table, each an operation that is done many times.
 *
 * Prints a line per row: NAME NS INSTRUCTIONS ALLOCATIONS OPERATIONS, all but the last per operation. NS is CPU
 * time, so that a row which had to wait for its core is not slower for it. Instructions are those in user space, or
 * "-" on a machine without counters; under callgrind each row leaves a dump that has its name, instead. With an
 * argument, every row is done so many times less often. */
#ifndef BENCH_COMMON_MEASURE_H
#define BENCH_COMMON_MEASURE_H

#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

struct row {
    const char *name;
    void (*run)(long operations, long size); /* checks what it computed */
    long operations;                         /* a multiple of `size` */
    long size;                               /* how many of them belong together */
};

static inline void check(bool right, const char *what)
{
    if (right)
        return;
    fprintf(stderr, "wrong: %s\n", what);
    exit(1);
}

/* ---- allocations: the program's malloc comes before the C library's, for every library ---- */

static long allocations;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#ifdef __cplusplus
#define THROWS_NOTHING noexcept
extern "C" {
#else
#define THROWS_NOTHING
#endif

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

void *malloc(size_t size) THROWS_NOTHING
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) THROWS_NOTHING
{
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) THROWS_NOTHING
{
    allocations++;
    return __libc_realloc(memory, size);
}

#ifdef __cplusplus
}
#endif
#endif

/* ---- time and instructions ---- */

static inline double cpu_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* A descriptor from which the instructions so far can be read, or -1. */
static inline int counter_open(void)
{
    struct perf_event_attr wanted;

    memset(&wanted, 0, sizeof wanted);
    wanted.type = PERF_TYPE_HARDWARE;
    wanted.size = sizeof wanted;
    wanted.config = PERF_COUNT_HW_INSTRUCTIONS;
    wanted.exclude_kernel = 1;
    wanted.exclude_hv = 1;
    return (int)syscall(SYS_perf_event_open, &wanted, 0, -1, -1, 0);
}

static inline int64_t counter_read(int counter)
{
    int64_t count;

    return counter >= 0 && read(counter, &count, sizeof count) == sizeof count ? count : -1;
}

/* ---- rows ---- */

static inline void measure(const struct row *row, int counter, long less)
{
    long operations = row->operations / row->size / less * row->size;
    long warm_up = operations / row->size / 10 * row->size;
    long allocated;
    int64_t instructions;
    double ns;

    if (operations < row->size)
        operations = row->size;
    row->run(warm_up < row->size ? row->size : warm_up, row->size);

    allocated = allocations;
    CALLGRIND_ZERO_STATS;
    instructions = counter_read(counter);
    ns = cpu_ns();
    row->run(operations, row->size);
    ns = cpu_ns() - ns;
    instructions = counter_read(counter) - instructions;
    CALLGRIND_DUMP_STATS_AT(row->name);
    allocated = allocations - allocated;

    printf("%s %.3f ", row->name, ns / (double)operations);
    if (counter >= 0)
        printf("%.1f", (double)instructions / (double)operations);
    else
        printf("-");
    printf(" %.4f %ld\n", (double)allocated / (double)operations, operations);
}

static inline int measure_rows(const struct row *rows, size_t count, int argc, char **argv)
{
    long less = argc > 1 ? atol(argv[1]) : 1;
    int counter = counter_open();

    if (less < 1) {
        fprintf(stderr, "usage: %s [TIMES-LESS-OFTEN]\n", argv[0]);
        return 2;
    }
    for (size_t i = 0; i < count; i++)
        measure(&rows[i], counter, less);
    return 0;
}

#endif

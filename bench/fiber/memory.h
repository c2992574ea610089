/* For the rows about what many parked fibers take, which a program prints when it is called with the argument "parked" or
 * "asleep": each in a process of its own, as stacks and memory that other rows left behind would be used again.
 *
 * Lines are like those of bench/common/measure.h, with bytes, or a number of things, in place of nanoseconds. */
#ifndef BENCH_FIBER_MEMORY_H
#define BENCH_FIBER_MEMORY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARKED = 100000, SLEEPERS = 200000 };

struct memory {
    long resident;    /* bytes */
    long page_tables; /* bytes */
};

/* The number, in KiB, behind `label` in a file of /proc, as bytes. */
static inline long memory_read(const char *path, const char *label)
{
    FILE *file = fopen(path, "r");
    char line[256];
    long kib = -1;

    while (file && kib < 0 && fgets(line, sizeof line, file)) {
        if (!strncmp(line, label, strlen(label)))
            kib = atol(line + strlen(label));
    }
    if (kib < 0) {
        fprintf(stderr, "%s: no %s\n", path, label);
        exit(1);
    }
    fclose(file);
    return 1024 * kib;
}

static inline struct memory memory_now(void)
{
    struct memory memory;

    memory.resident = memory_read("/proc/self/smaps_rollup", "Rss:");
    memory.page_tables = memory_read("/proc/self/status", "VmPTE:");
    return memory;
}

static inline void print_value(const char *name, double value, long count)
{
    printf("%s %.3f - 0 %ld\n", name, value, count);
}

/* What `count` of something have taken since `before`. */
static inline void print_memory(const char *what, struct memory before, long count)
{
    struct memory now = memory_now();
    char name[64];

    snprintf(name, sizeof name, "%s_bytes", what);
    print_value(name, (double)(now.resident - before.resident) / (double)count, count);
    snprintf(name, sizeof name, "%s_page_tables", what);
    print_value(name, (double)(now.page_tables - before.page_tables) / (double)count, count);
}

/* Of this process; the kernel allows 65,530 unless told otherwise. */
static inline long count_mappings(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    long count = 0;

    for (int c; file && (c = getc(file)) != EOF;)
        count += c == '\n';
    if (file)
        fclose(file);
    return count;
}

static inline int wants(const char *what, int argc, char **argv)
{
    return argc > 1 && !strcmp(argv[1], what);
}

#endif

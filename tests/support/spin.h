/* spin.h: work for tests of what is charged: so many nanoseconds of the thread's CPU clock, whoever else is on the machine. */
#ifndef TESTS_SUPPORT_SPIN_H
#define TESTS_SUPPORT_SPIN_H

#include <stdint.h>
#include <time.h>

static const int64_t US = 1000, MS = 1000 * 1000; /* nanoseconds */

static inline int64_t read_clock(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t cpu_clock(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

/* Until that clock has moved on by so much; returns by how much it has. */
static inline int64_t spin(int64_t ns)
{
    int64_t began = cpu_clock(), now = began;

    while (now < began + ns)
        now = cpu_clock();
    return now - began;
}

#endif

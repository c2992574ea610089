/* How far apart are two cores now? Prints "near 52" or "far 243": a word, and the nanoseconds that a cache line
 * takes from one to the other.
 *
 * A host may move the cores of a virtual machine about, every few seconds, so that they share a cache now and not
 * then; whatever talks from one to the other then takes up to three times as long. A bench on two cores asks before
 * and after each run, and compares only runs that had the same answer. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCHES = 4, ROUND_TRIPS = 5000, FAR_NS = 130 };

/* Even: the first core's turn; odd: the other's. */
static _Alignas(128) atomic_int ball;

/* For this thread, and those that it starts from then on. */
static void pin(unsigned core)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (!sched_setaffinity(0, sizeof set, &set))
        return;
    fprintf(stderr, "cores: cannot run on core %u\n", core);
    exit(1);
}

static void *play_back(void *arg)
{
    (void)arg;
    for (int i = 0; i < BATCHES * ROUND_TRIPS; i++) {
        while (!(atomic_load_explicit(&ball, memory_order_acquire) & 1))
            ;
        atomic_fetch_add_explicit(&ball, 1, memory_order_release);
    }
    return NULL;
}

static double play_batch(void)
{
    struct timespec start, end;

    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < ROUND_TRIPS; i++) {
        atomic_fetch_add_explicit(&ball, 1, memory_order_release);
        while (atomic_load_explicit(&ball, memory_order_acquire) & 1)
            ;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    return ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) / (2 * ROUND_TRIPS);
}

int main(int argc, char **argv)
{
    unsigned first = argc == 3 ? (unsigned)atoi(argv[1]) : 0;
    unsigned other = argc == 3 ? (unsigned)atoi(argv[2]) : 1;
    double least = 1e9;
    pthread_t thread;

    pin(other);
    if (pthread_create(&thread, NULL, play_back, NULL))
        return 1;
    pin(first);
    /* The least of a few: a batch in which either side was interrupted says nothing. */
    for (int i = 0; i < BATCHES; i++) {
        double ns = play_batch();

        if (ns < least)
            least = ns;
    }
    pthread_join(thread, NULL);
    printf("%s %.0f\n", least < FAR_NS ? "near" : "far", least);
    return 0;
}

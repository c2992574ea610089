/* The books of CPU time: opening them, closing windows, dividing what passed. */
#define _GNU_SOURCE /* RUSAGE_THREAD */
#include <sys/resource.h>
#include <time.h>

#include "lib/account.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const uint64_t WINDOW_NS = 100000;
static const int64_t SPLIT_NS = 20000000; /* getrusage's own steps are 4 ms: measure over longer stretches */
static const uint32_t NOT_LISTED = UINT32_MAX;    /* the slot of `none`, which is in every window without the table */

bool weft__counter_is_constant;

uint64_t weft__clock_ticks(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int64_t cpu_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#if defined(__x86_64__)
/* A counter that changes its speed, or stops in deep sleep, cannot measure. */
static uint64_t counter_hertz(void)
{
    unsigned a, b, c, d;
    bool constant = __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));

    __atomic_store_n(&weft__counter_is_constant, constant, __ATOMIC_RELAXED); /* each thread finds the same */
    return constant ? 2500000000u : 1000000000u; /* for the length of a window: near enough */
}
#elif defined(__aarch64__)
static uint64_t counter_hertz(void)
{
    uint64_t hertz;

    __asm__ volatile("mrs %0, cntfrq_el0" : "=r"(hertz));
    return hertz;
}
#else
static uint64_t counter_hertz(void)
{
    return 1000000000u;
}
#endif

static void measure_split(struct weft__books *books, int64_t cpu)
{
    struct rusage usage;
    int64_t user, system, both;

    getrusage(RUSAGE_THREAD, &usage);
    user = usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec;
    system = usage.ru_stime.tv_sec * 1000000 + usage.ru_stime.tv_usec;
    both = user - books->split_user + system - books->split_system;
    if (both > 0)
        books->user_share = (double)(user - books->split_user) / (double)both;
    books->split_user = user;
    books->split_system = system;
    books->split_at = cpu;
}

void weft__books_open(struct weft__books *books)
{
    int64_t cpu = cpu_clock();

    books->window_length = counter_hertz() / (1000000000u / WINDOW_NS);
    books->none.slot = NOT_LISTED;
    books->running = &books->none;
    books->opened_at = books->closed_at = cpu;
    measure_split(books, cpu);
    books->mark = books->window_began = weft__ticks();
    books->quick = __atomic_load_n(&weft__counter_is_constant, __ATOMIC_RELAXED);
}

uint64_t weft__books_ticks_slowly(struct weft__books *books)
{
    if (!books->running)
        weft__books_open(books);
    return weft__ticks();
}

static void give(struct weft__books *books, struct weft__account *account, int64_t ns)
{
    int64_t user = (int64_t)((double)ns * books->user_share);

    account->user_ns += user;
    account->system_ns += ns - user;
}

/* Divides `ns` among those in the window, who ran for `all` ticks together, and which is left empty. Parts are rounded down; what that leaves goes to one of those
 * who ran, so that nothing is lost. */
static void divide(struct weft__books *books, int64_t ns, uint64_t all)
{
    double each = all ? (double)ns / (double)all : 0; /* tick */
    int64_t contexts = (int64_t)((double)books->ended_ticks * each);
    struct weft__account *last = NULL;

    for (uint32_t i = 0; i < books->count; i++) {
        int64_t part;

        last = books->table[i];
        part = (int64_t)((double)last->ticks * each);
        give(books, last, part);
        contexts += part;
        last->ticks = 0;
        last->slot = 0;
    }
    if (books->none.ticks || !(last || books->ended_ticks)) {
        give(books, &books->none, ns - contexts);
    } else {
        if (last)
            give(books, last, ns - contexts);
        contexts = ns;
    }
    books->contexts_ns += contexts;
    books->none.ticks = books->ended_ticks = books->count = 0;
}

void weft__books_close_window(struct weft__books *books)
{
    int64_t cpu;
    uint64_t now;

    if (!books->running)
        weft__books_open(books);
    now = weft__ticks();
    books->running->ticks += now - books->mark;
    cpu = cpu_clock();
    if (cpu - books->split_at > SPLIT_NS)
        measure_split(books, cpu);
    divide(books, cpu - books->closed_at, now - books->window_began);
    books->closed_at = cpu;
    books->window_began = books->mark = now;
    if (!books->running->slot)
        weft__books_enlist(books, books->running);
}

void weft__books_skip(struct weft__books *books)
{
    int64_t cpu = cpu_clock();

    give(books, &books->none, cpu - books->closed_at);
    books->closed_at = cpu;
    books->window_began = books->mark = weft__ticks();
}

void weft__books_enlist(struct weft__books *books, struct weft__account *account)
{
    if (books->count == WEFT__WINDOW_ACCOUNTS) {
        weft__books_close_window(books);
        if (account->slot) /* it is the running one: closing has listed it */
            return;
    }
    books->table[books->count++] = account;
    account->slot = books->count;
}

void weft__account_end(struct weft__books *books, struct weft__account *account)
{
    struct weft__account *last;

    if (!account->slot)
        return;
    books->ended_ticks += account->ticks;
    last = books->table[--books->count];
    books->table[account->slot - 1] = last;
    last->slot = account->slot;
}

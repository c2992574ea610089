/* The books: opening them, closing windows, dividing what passed. */
#define _GNU_SOURCE /* RUSAGE_THREAD */
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>

#include "lib/context.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const uint64_t WINDOW_NS = 100000;
static const int64_t SPLIT_NS = 20000000; /* getrusage's own steps are 4 ms: measure over longer stretches */
static const int64_t CALIBRATION_NS = 10000000; /* over less, the counter's speed is known too badly */
static const uint32_t NOT_LISTED = UINT32_MAX; /* the slot of `none`, which is in every window without the table */

bool weft__counter_is_constant;

static int64_t clock_of(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

uint64_t weft__clock_ticks(void)
{
    return (uint64_t)clock_of(CLOCK_MONOTONIC);
}

static int64_t cpu_clock(void)
{
    return clock_of(CLOCK_THREAD_CPUTIME_ID);
}

/* ---- the counter's speed ---- */

#if defined(__x86_64__)
/* A counter that changes its speed, or stops in deep sleep, cannot measure. How fast this one is is measured, later. */
static uint64_t counter_hertz(void)
{
    unsigned a, b, c, d;
    bool constant = __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));

    __atomic_store_n(&weft__counter_is_constant, constant, __ATOMIC_RELAXED); /* each thread finds the same */
    return constant ? 2500000000u : 1000000000u;
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

/* Both clocks, when the process opened its first books. */
static struct {
    uint64_t tick;
    int64_t instant;
} origin;

/* Only waits in the ready queue lean on that: CPU time is divided by shares of ticks. */
static void calibrate(struct weft__books *books)
{
    int64_t passed = clock_of(CLOCK_MONOTONIC) - origin.instant;

    if (passed > CALIBRATION_NS)
        books->ns_per_tick = (double)passed / (double)(weft__ticks() - origin.tick);
}

/* ---- jemalloc's count ---- */

extern int mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size) __attribute__((weak));

static const uint64_t *allocated_bytes(void)
{
    static const uint64_t none;
    const uint64_t *count = NULL;
    size_t size = sizeof count;

    if (!mallctl || mallctl("thread.allocatedp", (void *)&count, &size, NULL, 0) || !count)
        return &none;
    return count;
}

/* ---- opening ---- */

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

static void empty_window(struct weft__books *books);
static void list(struct weft__books *books, struct weft__account *account);

/* The thread's CPU clock begins anew in a child. What was spent in the open window is the parent's. */
static void go_on_in_child(void)
{
    struct weft__books *books = &weft__thread.books;
    int64_t cpu = cpu_clock();

    if (!books->running)
        return;
    empty_window(books);
    books->opened_at = cpu - books->contexts_ns - weft__books_none(books);
    books->closed_at = cpu;
    measure_split(books, cpu);
}

static void open_first(void)
{
    origin.tick = weft__ticks();
    origin.instant = clock_of(CLOCK_MONOTONIC);
    pthread_atfork(NULL, NULL, go_on_in_child);
}

void weft__books_open(struct weft__books *books)
{
    static pthread_once_t opened = PTHREAD_ONCE_INIT;
    uint64_t hertz = counter_hertz();
    int64_t cpu = cpu_clock();

    pthread_once(&opened, open_first);
    books->window_length = hertz / (1000000000u / WINDOW_NS);
    books->ns_per_tick = 1e9 / (double)hertz;
    books->none.slot = NOT_LISTED;
    books->running = &books->none;
    books->allocated = allocated_bytes();
    books->allocated_mark = *books->allocated;
    books->opened_at = books->closed_at = cpu;
    books->user_share = 1;
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

/* ---- charging ---- */

/* Other threads read those of series. */
static void grow(int64_t *sum, int64_t more)
{
    __atomic_store_n(sum, *sum + more, __ATOMIC_RELAXED);
}

void weft__usage_add(weft_usage *usage, const weft_usage *more)
{
    grow(&usage->user_ns, more->user_ns);
    grow(&usage->system_ns, more->system_ns);
    grow(&usage->ready_ns, more->ready_ns);
    grow(&usage->db_transactions, more->db_transactions);
    grow(&usage->db_ns, more->db_ns);
    grow(&usage->db_wait_ns, more->db_wait_ns);
    grow(&usage->db_rows, more->db_rows);
    grow(&usage->allocated_bytes, more->allocated_bytes);
    grow(&usage->bytes_in, more->bytes_in);
    grow(&usage->bytes_out, more->bytes_out);
}

/* A block measured inside itself: what is charged to both is the series' once. */
static bool has_it_above(const struct weft__account *account, const struct weft__series *series)
{
    while ((account = account->parent)) {
        if (account->series == series)
            return true;
    }
    return false;
}

static void add_to_series(const struct weft__account *account, const weft_usage *more)
{
    if (!account->series || has_it_above(account, account->series))
        return;
    for (struct weft__series *series = account->series; series; series = series->above)
        weft__usage_add(&series->usage, more);
}

void weft__account_add(struct weft__account *account, const weft_usage *more)
{
    for (; account; account = account->parent) {
        weft__usage_add(&account->usage, more);
        add_to_series(account, more);
    }
}

static void count_one(weft_usage *usage, size_t offset, int64_t more)
{
    grow((int64_t *)((char *)usage + offset), more);
}

void weft__account_count(struct weft__account *account, size_t offset, int64_t more)
{
    for (; account; account = account->parent) {
        count_one(&account->usage, offset, more);
        if (account->series && !has_it_above(account, account->series)) {
            for (struct weft__series *series = account->series; series; series = series->above)
                count_one(&series->usage, offset, more);
        }
    }
}

/* ---- windows ---- */

static void reset(struct weft__books *books, uint64_t now)
{
    books->window_began = books->mark = now;
    books->none.now.ticks = books->none.now.allocated = 0;
    books->ended_ticks = books->count = books->series_count = 0;
}

static int64_t ns_of(const struct weft__books *books, uint64_t ticks)
{
    return (int64_t)ticks > 0 ? (int64_t)((double)ticks * books->ns_per_tick) : 0;
}

static uint64_t take_ready(struct weft__account *account, uint64_t now)
{
    uint64_t until_now = account->queued * now, ready = account->now.ready + until_now;

    account->now.ready = -until_now;
    return ready;
}

/* What windows settle: few of the sums, and of many accounts. */
struct part {
    int64_t user_ns;
    int64_t system_ns;
    int64_t ready_ns;
    int64_t allocated_bytes;
};

static struct part part_of(const struct weft__books *books, int64_t cpu, uint64_t ready, uint64_t allocated)
{
    int64_t user = (int64_t)((double)cpu * books->user_share);

    return (struct part){user, cpu - user, ready ? ns_of(books, ready) : 0, (int64_t)allocated};
}

static inline void add_part(weft_usage *usage, const struct part *part)
{
    grow(&usage->user_ns, part->user_ns);
    grow(&usage->system_ns, part->system_ns);
    grow(&usage->ready_ns, part->ready_ns);
    grow(&usage->allocated_bytes, part->allocated_bytes);
}

static void add_part_above(const struct weft__account *account, const struct part *part)
{
    const weft_usage more = {
        .user_ns = part->user_ns,
        .system_ns = part->system_ns,
        .ready_ns = part->ready_ns,
        .allocated_bytes = part->allocated_bytes,
    };

    add_to_series(account, &more);
    if (account->parent)
        weft__account_add(account->parent, &more);
}

static inline void give(struct weft__books *books, struct weft__account *account, int64_t cpu, uint64_t now)
{
    struct part part = part_of(books, cpu, take_ready(account, now), account->now.allocated);

    account->now.ticks = account->now.allocated = 0;
    add_part(&account->usage, &part);
    if (account->parent || account->series)
        add_part_above(account, &part);
}

static void give_series(const struct weft__books *books, struct weft__series *series, double each)
{
    struct part part = part_of(books, (int64_t)((double)series->left.ticks * each), series->left.ready, series->left.allocated);

    series->left = (struct weft__stretch){0};
    series->listed = false;
    for (; series; series = series->above)
        add_part(&series->usage, &part);
}

/* Divides `ns` among those in the window, who ran for `all` ticks together, and which is left empty. Parts are rounded down;
 * what that leaves goes to one of those who ran, so that nothing is lost. */
static void divide(struct weft__books *books, int64_t ns, uint64_t all, uint64_t now)
{
    double each = all ? (double)ns / (double)all : 0; /* tick */
    bool none_ran = books->none.now.ticks || !(books->count || books->ended_ticks);
    int64_t contexts = (int64_t)((double)books->ended_ticks * each);

    for (uint32_t i = 0; i < books->count; i++) {
        struct weft__account *account = books->table[i];
        int64_t part = (int64_t)((double)account->now.ticks * each);

        if (i == books->count - 1 && !none_ran)
            part = ns - contexts;
        account->slot = 0;
        give(books, account, part, now);
        contexts += part;
    }
    for (uint32_t i = 0; i < books->series_count; i++)
        give_series(books, books->series[i], each);
    if (!none_ran && !books->count)
        contexts = ns;
    give(books, &books->none, ns - contexts, now);
    books->contexts_ns += contexts;
}

void weft__books_close_window(struct weft__books *books)
{
    int64_t cpu;
    uint64_t now;

    if (!books->running)
        weft__books_open(books);
    if (!WEFT__ACCOUNTING)
        return;
    now = weft__ticks();
    books->running->now.ticks += now - books->mark;
    books->running->now.allocated += *books->allocated - books->allocated_mark;
    books->allocated_mark = *books->allocated;
    cpu = cpu_clock();
    if (cpu - books->split_at > SPLIT_NS) {
        measure_split(books, cpu);
        calibrate(books);
    }
    divide(books, cpu - books->closed_at, now - books->window_began, now);
    books->closed_at = cpu;
    reset(books, now);
    if (!books->running->slot)
        list(books, books->running);
}

void weft__books_settle(struct weft__books *books, struct weft__account *account)
{
    weft__books_close_window(books);
    give(books, account, 0, books->mark);
}

void weft__books_skip(struct weft__books *books)
{
    int64_t cpu;
    struct part part;

    if (!WEFT__ACCOUNTING)
        return;
    cpu = cpu_clock();
    part = part_of(books, cpu - books->closed_at, 0, 0);
    add_part(&books->none.usage, &part);
    books->closed_at = cpu;
    books->window_began = books->mark = weft__ticks();
}

static void empty_window(struct weft__books *books)
{
    for (uint32_t i = 0; i < books->count; i++) {
        books->table[i]->now.ticks = 0;
        books->table[i]->slot = 0;
    }
    for (uint32_t i = 0; i < books->series_count; i++) {
        books->series[i]->left.ticks = 0;
        books->series[i]->listed = false;
    }
    reset(books, weft__ticks());
    if (!books->running->slot)
        list(books, books->running);
}

static void list(struct weft__books *books, struct weft__account *account)
{
    if (books->count == WEFT__WINDOW_ACCOUNTS)
        weft__books_close_window(books);
    if (account->slot) /* it is the running one: closing has listed it */
        return;
    books->table[books->count++] = account;
    account->slot = books->count;
}

void weft__books_enlist(struct weft__books *books, struct weft__account *account, const struct weft__task *runs)
{
    if (__builtin_expect(account->ended, 0))
        weft__context_entered_after_end(account, runs);
    list(books, account);
}

static void enlist_series(struct weft__books *books, struct weft__series *series)
{
    if (series->listed)
        return;
    if (books->series_count == WEFT__WINDOW_SERIES)
        weft__books_close_window(books);
    books->series[books->series_count++] = series;
    series->listed = true;
}

/* ---- going ---- */

static void unlist(struct weft__books *books, struct weft__account *account)
{
    struct weft__account *last = books->table[--books->count];

    books->table[account->slot - 1] = last;
    last->slot = account->slot;
}

static void leave_to(struct weft__stretch *heir, const struct weft__stretch *stretch)
{
    heir->ticks += stretch->ticks;
    heir->allocated += stretch->allocated;
    heir->ready += stretch->ready;
}

void weft__account_end(struct weft__books *books, struct weft__account *account)
{
    struct weft__account *parent = account->parent;
    struct weft__series *series = account->series;

    if (!account->slot)
        return;
    if (account->queued) /* by those that will never run */
        account->now.ready = 0;
    if (series && has_it_above(account, series))
        series = NULL;
    if (series)
        enlist_series(books, series);
    if (parent && !parent->slot)
        list(books, parent);
    if (!account->slot) /* making room there has settled it */
        return;
    if (series)
        leave_to(&series->left, &account->now);
    if (parent)
        leave_to(&parent->now, &account->now);
    else
        books->ended_ticks += account->now.ticks;
    unlist(books, account);
}

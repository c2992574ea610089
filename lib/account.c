/* The books: opening them, closing windows, dividing what passed. */
#define _GNU_SOURCE /* RUSAGE_THREAD */
#include <pthread.h>
#include <sys/resource.h>

#include "lib/clock.h"
#include "lib/context.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const uint64_t WINDOW_NS = 100000;
static const int64_t SPLIT_NS = 20000000; /* getrusage's own steps are 4 ms: measure over longer stretches */
static const int64_t READING_NS = 2000; /* the CPU clock takes less to read, unless the thread is preempted there, */
static const int64_t SURPLUS_NS = 100000; /* and that costs the thread less than this */
static const int64_t CALIBRATION_NS = 20000000; /* over more, the counter's speed need not be measured at each close */
static const uint32_t NOT_LISTED = UINT32_MAX; /* the slot of `none`, which is in every window without the table */

bool weft__counter_is_constant;

uint64_t weft__clock_ticks(void)
{
    return (uint64_t)weft__monotonic();
}

static int64_t cpu_clock(void)
{
    return weft__read_clock(CLOCK_THREAD_CPUTIME_ID);
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

/* Of both clocks at once. */
struct moment {
    uint64_t tick;
    int64_t instant;
    uint64_t unsure; /* ticks */
};

static struct moment look_once(void)
{
    uint64_t before = weft__ticks();
    int64_t instant = weft__monotonic();
    uint64_t passed = weft__ticks() - before;

    return (struct moment){before + passed / 2, instant, passed};
}

/* The best of a few: the thread may be interrupted between the two. */
static struct moment look_at_both(void)
{
    struct moment best = look_once();

    for (int i = 0; i < 3; i++) {
        struct moment moment = look_once();

        if (moment.unsure < best.unsure)
            best = moment;
    }
    return best;
}

static struct moment origin; /* when the process opened its first books */

/* Waits in the ready queue lean on that, and what is taken off a stretch in which the thread was preempted. All other CPU time
 * is divided by shares of ticks. */
static void calibrate(struct weft__books *books)
{
    struct moment now = look_at_both();

    books->calibrated_over = now.instant - origin.instant;
    if (books->calibrated_over > 0 && now.tick > origin.tick)
        books->ns_per_tick = (double)books->calibrated_over / (double)(now.tick - origin.tick);
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
    books->split_user = books->split_system = 0;
    books->opened_at = cpu - books->contexts_ns - weft__books_none(books);
    books->closed_at = cpu;
    measure_split(books, cpu);
}

static void open_first(void)
{
    origin = look_at_both();
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
    weft__preemption_open(&books->preemption);
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
    const struct weft__stretch *left = &series->left;
    struct part part = part_of(books, (int64_t)((double)left->ticks * each), left->ready, left->allocated);

    series->left = (struct weft__stretch){0};
    series->listed = false;
    for (; series; series = series->above)
        add_part(&series->usage, &part);
}

/* A counter that has gone back, as they may where a thread moves to another processor, takes nothing from anybody. */
static uint64_t ran(struct weft__stretch *stretch)
{
    if ((int64_t)stretch->ticks < 0)
        stretch->ticks = 0;
    return stretch->ticks;
}

static uint64_t all_ticks(struct weft__books *books)
{
    uint64_t all = books->ended_ticks + ran(&books->none.now);

    for (uint32_t i = 0; i < books->count; i++)
        all += ran(&books->table[i]->now);
    return all;
}

/* Divides `ns` among those in the window, which is left empty. Parts are rounded down; what that leaves goes to one of those
 * who ran, so that nothing is lost. */
static void divide(struct weft__books *books, int64_t ns, uint64_t now)
{
    uint64_t all = all_ticks(books);
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

/* Of the ticks of the window, those that the thread did not run in were in its last stretch: who began before has had all of
 * theirs. */
static void take_off(struct weft__books *books, struct weft__account *last, uint64_t stretch, int64_t ns)
{
    uint64_t others = books->mark - books->window_began - stretch, all = (uint64_t)((double)ns / books->ns_per_tick);
    uint64_t its_own = all > others ? all - others : 0;

    if (its_own < stretch)
        last->now.ticks -= stretch - its_own;
}

static void measure_speeds(struct weft__books *books, int64_t cpu)
{
    bool due = cpu - books->split_at > SPLIT_NS;

    if (due)
        measure_split(books, cpu);
    if (due || books->calibrated_over < CALIBRATION_NS)
        calibrate(books);
}

static void give_none(struct weft__books *books, int64_t ns)
{
    struct part part = part_of(books, ns, 0, 0);

    add_part(&books->none.usage, &part);
    books->closed_at += ns;
}

/* CPU time since the last close, up to the mark. What is more than there were ticks has come after it, in reading the clock,
 * and is left to the next window; unless the thread was preempted there, which is nobody's affair. Still more than that, and a
 * counter has gone back. */
static int64_t passed_until_mark(struct weft__books *books, int64_t cpu)
{
    int64_t most = ns_of(books, books->mark - books->window_began), surplus;

    most += most / 1000; /* so well is the counter's speed known: else what is left might grow for ever */
    surplus = cpu - books->closed_at - most;
    if (surplus <= 0 || surplus > SURPLUS_NS)
        return cpu - books->closed_at;
    if (surplus > READING_NS)
        give_none(books, surplus);
    return most;
}

/* A preemption between awaiting the next one and `now` is taken for one of the next window, in which no tick is missing then.
 * The few ticks between the mark and `now` are nobody's: they may have been another's. */
void weft__books_close_at_mark(struct weft__books *books, struct weft__account *last, uint64_t stretch)
{
    bool preempted = weft__preempted(&books->preemption);
    int64_t cpu, passed;
    uint64_t now;

    weft__preemption_await(&books->preemption);
    now = weft__ticks();
    cpu = cpu_clock();
    measure_speeds(books, cpu);
    passed = passed_until_mark(books, cpu);
    if (preempted || stretch > books->window_length)
        take_off(books, last, stretch, passed);
    divide(books, passed, now);
    books->closed_at += passed;
    reset(books, now);
}

void weft__books_close_window(struct weft__books *books)
{
    struct weft__account *last;
    uint64_t stretch = 0;

    if (!books->running)
        weft__books_open(books);
    if (!WEFT__ACCOUNTING)
        return;
    last = books->running;
    if (last->slot) { /* else it has only just begun, and is in no table yet */
        uint64_t now = weft__ticks();

        stretch = now - books->mark;
        last->now.ticks += stretch;
        books->mark = now;
    }
    last->now.allocated += *books->allocated - books->allocated_mark;
    books->allocated_mark = *books->allocated;
    weft__books_close_at_mark(books, last, stretch);
    if (!last->slot)
        list(books, last);
}

void weft__books_settle(struct weft__books *books, struct weft__account *account)
{
    weft__books_close_window(books);
    give(books, account, 0, books->mark);
}

/* ---- around a poll ---- */

void weft__books_before_poll(struct weft__books *books)
{
    weft__books_switch(books, &books->none, NULL, false, false);
}

/* One that found work at once is a stretch like any other. One that took longer has slept, which not every kernel marks. */
void weft__books_after_poll(struct weft__books *books, struct weft__account *account)
{
    if (weft__books_ticks(books) - books->mark > books->window_length / 16)
        weft__preemption_suppose(&books->preemption);
    weft__books_switch(books, account, NULL, false, false);
}

static void empty_window(struct weft__books *books)
{
    for (uint32_t i = 0; i < books->count; i++) {
        books->table[i]->now.ticks = books->table[i]->now.allocated = 0;
        books->table[i]->slot = 0;
    }
    for (uint32_t i = 0; i < books->series_count; i++) {
        books->series[i]->left = (struct weft__stretch){0};
        books->series[i]->listed = false;
    }
    books->allocated_mark = *books->allocated;
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

    if (account->queued) /* by those that will never run */
        account->now.ready = account->queued = 0;
    if (!account->slot && account->now.ready && (parent || series)) /* one of its own left the ready queue, and did not run */
        list(books, account);
    if (!account->slot)
        return;
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

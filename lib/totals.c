/* Totals: found by a key in a small table of the thread's; all of the process in lists, one for each kind, that only grow: so
 * they are read without a lock. */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/totals.h"

const struct weft__family weft__after_end_family = {"weft_after_end", "contexts after their end", {NULL}};
const struct weft__family weft__block_family = {"weft_block", "measured blocks", {"name"}};
const struct weft__family weft__process_family = {"weft_background_process", "background processes", {"name"}};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t forking_arranged = PTHREAD_ONCE_INIT;
static struct weft__totals *kinds; /* the first of each, the newest kind first */

/* A child made by fork has none of the other threads, and would wait for ever for one that held it. */
static void hold(void)
{
    pthread_mutex_lock(&lock);
}

static void let_go(void)
{
    pthread_mutex_unlock(&lock);
}

static void arrange_forking(void)
{
    pthread_atfork(hold, let_go, let_go);
}

/* ---- finding ---- */

static struct weft__totals **chain_of(const void *key)
{
    return &weft__thread.totals[((uintptr_t)key >> 4) % WEFT__TOTALS_CHAINS];
}

static size_t count_labels(const struct weft__family *family)
{
    size_t count = 0;

    while (count < WEFT__TOTALS_LABELS && family->labels[count])
        count++;
    return count;
}

static bool same_labels(const struct weft__totals *totals, const char *const labels[])
{
    for (size_t i = 0; i < count_labels(totals->family); i++) {
        if (!labels[i] || strcmp(totals->labels[i], labels[i]) != 0)
            return false;
    }
    return true;
}

static bool has_them(const struct weft__totals *totals, const struct weft__family *family, const char *const labels[])
{
    return totals->family == family && same_labels(totals, labels);
}

static struct weft__totals *find_kind(const struct weft__family *family, const char *const labels[])
{
    struct weft__totals *totals = kinds;

    while (totals && !has_them(totals, family, labels))
        totals = totals->next;
    return totals;
}

static struct weft__totals *totals_new(const struct weft__family *family, const char *const labels[])
{
    struct weft__totals *totals = weft_alloc_zeroed(sizeof *totals);

    totals->family = family;
    for (size_t i = 0; i < count_labels(family); i++)
        totals->labels[i] = weft_strdup(labels[i]);
    return totals;
}

/* Under the lock. `kind` is NULL when this is the first. */
static struct weft__totals *totals_add(struct weft__totals *kind, const struct weft__family *family,
                                       const char *const labels[])
{
    struct weft__totals *totals = totals_new(family, labels);

    if (kind) {
        totals->same = kind->same;
        __atomic_store_n(&kind->same, totals, __ATOMIC_RELEASE);
    } else {
        totals->next = kinds;
        __atomic_store_n(&kinds, totals, __ATOMIC_RELEASE);
    }
    return totals;
}

static struct weft__totals *take(const struct weft__family *family, const char *const labels[])
{
    struct weft__totals *kind = find_kind(family, labels), *totals = kind;

    while (totals && totals->owned)
        totals = totals->same;
    return totals ? totals : totals_add(kind, family, labels);
}

static struct weft__totals *get_slowly(const struct weft__family *family, const void *key, const char *const labels[])
{
    struct weft__totals **chain = chain_of(key), *totals;

    weft__thread_arrange_leaving();
    pthread_once(&forking_arranged, arrange_forking);
    pthread_mutex_lock(&lock);
    totals = take(family, labels);
    totals->owned = true;
    pthread_mutex_unlock(&lock);
    totals->key = key;
    totals->chain = *chain;
    *chain = totals;
    return totals;
}

struct weft__totals *weft__totals_get(const struct weft__family *family, const void *key, const char *const labels[])
{
    for (struct weft__totals *totals = *chain_of(key); totals; totals = totals->chain) {
        if (totals->key == key && has_them(totals, family, labels))
            return totals;
    }
    return get_slowly(family, key, labels);
}

struct weft__series *weft__totals_after_end(void)
{
    return &weft__totals_get(&weft__after_end_family, &weft__after_end_family, weft__after_end_family.labels)->series;
}

/* Those that something is still charged to, on a thread that ends, stay its own for ever. */
void weft__totals_leave(void)
{
    if (weft__thread.live.contexts)
        return;
    weft__books_close_window(&weft__thread.books); /* what is left to them in it would come to whoever takes them over */
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < WEFT__TOTALS_CHAINS; i++) {
        for (struct weft__totals *totals = weft__thread.totals[i]; totals; totals = totals->chain)
            totals->owned = false;
        weft__thread.totals[i] = NULL;
    }
    pthread_mutex_unlock(&lock);
}

/* ---- what is in flight ---- */

/* None of these is seen before the change that it belongs to has begun. */
static void grow(int64_t *sum, int64_t more)
{
    __atomic_store_n(sum, *sum + more, __ATOMIC_RELEASE);
}

static void note_oldest(struct weft__totals *totals)
{
    __atomic_store_n(&totals->oldest_ns, totals->first ? totals->first->began_ns : 0, __ATOMIC_RELEASE);
}

static void change_begins_or_ends(struct weft__totals *totals)
{
    __atomic_store_n(&totals->changes, totals->changes + 1, __ATOMIC_RELEASE);
}

void weft__flight_begin(struct weft__flight *flight, struct weft__totals *totals)
{
    *flight = (struct weft__flight){totals, totals->last, NULL, weft__monotonic()};
    if (totals->last)
        totals->last->newer = flight;
    else
        totals->first = flight;
    totals->last = flight;
    change_begins_or_ends(totals);
    grow(&totals->started, 1);
    grow(&totals->in_flight_since_ns, flight->began_ns);
    note_oldest(totals);
    change_begins_or_ends(totals);
}

void weft__flight_end(struct weft__flight *flight)
{
    struct weft__totals *totals = flight->totals;
    int64_t took;

    if (!totals)
        return;
    if (flight->older)
        flight->older->newer = flight->newer;
    else
        totals->first = flight->newer;
    if (flight->newer)
        flight->newer->older = flight->older;
    else
        totals->last = flight->older;
    flight->totals = NULL;
    took = weft__monotonic() - flight->began_ns;
    change_begins_or_ends(totals);
    grow(&totals->ended, 1);
    grow(&totals->wall_ns, took);
    grow(&totals->in_flight_since_ns, -flight->began_ns);
    note_oldest(totals);
    change_begins_or_ends(totals);
}

/* ---- summing up ---- */

static int64_t read_one(const int64_t *sum)
{
    return __atomic_load_n(sum, __ATOMIC_RELAXED);
}

static void add_usage(weft_usage *sum, const weft_usage *usage)
{
    weft_usage read = {
        read_one(&usage->user_ns), read_one(&usage->system_ns), read_one(&usage->ready_ns), read_one(&usage->db_transactions),
        read_one(&usage->db_ns), read_one(&usage->db_wait_ns), read_one(&usage->db_rows), read_one(&usage->allocated_bytes),
        read_one(&usage->bytes_in), read_one(&usage->bytes_out),
    };

    weft__usage_add(sum, &read);
}

/* Of one thread, at one moment. */
struct flights {
    int64_t started;
    int64_t ended;
    int64_t wall_ns;
    int64_t since_ns;
    int64_t oldest_ns;
};

static int64_t read_of_moment(const int64_t *sum)
{
    return __atomic_load_n(sum, __ATOMIC_ACQUIRE);
}

/* Again when they change meanwhile. Their thread may have lost its processor in a change, so it is let run. If it never goes on,
 * as in a child made by fork, what is there must do, without ages. */
static struct flights read_flights(const struct weft__totals *totals)
{
    struct flights flights;
    uint64_t changes;
    int patience = 1000;

    do {
        if (patience < 1000)
            sched_yield();
        changes = __atomic_load_n(&totals->changes, __ATOMIC_ACQUIRE);
        flights = (struct flights){
            read_of_moment(&totals->started), read_of_moment(&totals->ended), read_of_moment(&totals->wall_ns),
            read_of_moment(&totals->in_flight_since_ns), read_of_moment(&totals->oldest_ns),
        };
    } while ((changes % 2 || changes != __atomic_load_n(&totals->changes, __ATOMIC_RELAXED)) && --patience);
    if (!patience)
        flights.since_ns = INT64_MAX;
    return flights;
}

static void add(struct weft__totals_sum *sum, const struct weft__totals *totals, int64_t now)
{
    struct flights flights = read_flights(totals);
    int64_t in_flight = flights.started - flights.ended;
    int64_t ages = flights.since_ns == INT64_MAX ? 0 : in_flight * now - flights.since_ns;

    add_usage(&sum->usage, &totals->series.usage);
    sum->started += flights.started;
    sum->in_flight += in_flight;
    sum->wall_ns += flights.wall_ns;
    sum->ages_ns += ages > 0 ? ages : 0; /* some may have begun since */
    if (flights.oldest_ns && now - flights.oldest_ns > sum->oldest_ns)
        sum->oldest_ns = now - flights.oldest_ns;
}

static struct weft__totals_sum sum_of(const struct weft__totals *totals, int64_t now)
{
    struct weft__totals_sum sum = {.family = totals->family};

    memcpy(sum.labels, totals->labels, sizeof sum.labels);
    for (; totals; totals = __atomic_load_n(&totals->same, __ATOMIC_ACQUIRE))
        add(&sum, totals, now);
    return sum;
}

void weft__totals_each(const struct weft__family *family, void (*fn)(const struct weft__totals_sum *sum, void *arg),
                       void *arg)
{
    int64_t now = weft__monotonic();

    for (const struct weft__totals *kind = __atomic_load_n(&kinds, __ATOMIC_ACQUIRE); kind; kind = kind->next) {
        struct weft__totals_sum sum;

        if (family && kind->family != family)
            continue;
        sum = sum_of(kind, now);
        fn(&sum, arg);
    }
}

/* Totals: what contexts of one kind have used on all threads, those that have ended too. */
#include "tests/support/spin.h"
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/totals.h"

static void spin_in(weft_context *context, int64_t ns)
{
    weft_preserve_context(context)
        spin(ns);
}

static const struct weft__family family = {.prefix = "totals_test", .whose = "tests", .labels = {"label"}};

static void find(const struct weft__totals_sum *sum, void *usage)
{
    *(weft_usage *)usage = sum->usage;
}

static weft_usage sum_of_family(void)
{
    weft_usage usage = {0};

    weft__totals_each(&family, find, &usage);
    return usage;
}

static struct weft__series *its_series(void)
{
    return &weft__totals_get(&family, &family, (const char *const[]){"x"})->series;
}

static void use_and_end_in_mid_window(void *unused)
{
    weft_context *context = weft_context_new("worker's");

    (void)unused;
    weft__context_join(context, its_series());
    weft_accounts_get();
    spin_in(context, 30 * US);
    weft_context_unref(context);
}

/* One thread after the other takes them over, and each ends with a window open. */
Test(totals, b3_what_threads_leave_in_their_last_windows_is_counted)
{
    for (int i = 1; i <= 50; i++) {
        weft_usage usage;

        in_thread(use_and_end_in_mid_window, NULL);
        usage = sum_of_family();
        cr_assert_geq(usage.user_ns + usage.system_ns, i * 25 * US, "after %d", i);
    }
}

static bool over;

#ifndef WEFT_TEST_SAN_thread /* which takes the other thread, that a child has not, for lost */
/* A new key each time: the lock is taken each time. */
static void *ask_for_totals(void *unused)
{
    static const char *const labels[] = {"y"};
    static char keys[2000];

    for (size_t i = 0; i < sizeof keys && !__atomic_load_n(&over, __ATOMIC_RELAXED); i++)
        weft__totals_get(&family, &keys[i], labels);
    return unused;
}

/* Another thread may be in the middle of asking for totals when this one forks. */
Test(totals, b3_a_child_asks_for_totals_whatever_other_threads_were_doing, .timeout = 60)
{
    pthread_t other;

    pthread_create(&other, NULL, ask_for_totals, NULL);
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        int status;

        if (!child) {
            alarm(10); /* the default for it ends the process */
            its_series();
            _exit(0);
        }
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    pthread_join(other, NULL);
}
#endif

/* A minute: no flight lasts for that. */
static const int64_t MOST = 60000000000;

static void check_sum(const struct weft__totals_sum *sum, void *started)
{
    cr_assert(sum->in_flight == 0 || sum->in_flight == 1, "%ld in flight", (long)sum->in_flight);
    cr_assert(sum->ages_ns >= 0 && sum->ages_ns <= MOST, "%ld µs old", (long)(sum->ages_ns / US));
    cr_assert_leq(sum->oldest_ns, MOST);
    cr_assert_geq(sum->wall_ns, 0);
    *(int64_t *)started = sum->started;
}

static void *begin_and_end(void *unused)
{
    struct weft__totals *totals = weft__totals_get(&family, &family, (const char *const[]){"flights"});

    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        struct weft__flight flight;

        weft__flight_begin(&flight, totals);
        weft__flight_end(&flight);
    }
    return unused;
}

/* What is in flight and since when are two sums: read at two moments, their difference is the age of the machine. */
Test(totals, b3_what_is_in_flight_is_read_as_it_was_at_one_moment)
{
    int64_t started = 0;
    pthread_t other;

    pthread_create(&other, NULL, begin_and_end, NULL);
    while (started < MANY / 10)
        weft__totals_each(&family, check_sum, &started);
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    pthread_join(other, NULL);
}

/* Measured blocks: what a part of the work costs is counted under its description, and its request's as before. */
#include "tests/support/fibers.h"
#include "tests/support/spin.h"
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <weft/measure.h>
#include <weft/metrics.h>

#include <pthread.h>
#include <string.h>

static weft_description reading = WEFT_DESCRIPTION("reading"), sorting = WEFT_DESCRIPTION("sorting");
static weft_description again = WEFT_DESCRIPTION("again");

static int64_t cpu_of(const weft_usage *usage)
{
    return usage->user_ns + usage->system_ns;
}

/* What was spent outside the block, in this window, may be taken for some of what was spent in it. */
static void assert_about(int64_t measured, int64_t expected)
{
    cr_assert(measured > expected * 4 / 5 && measured < expected * 5 / 4, "%ld ns instead of %ld", (long)measured,
              (long)expected);
}

static void charge_rows(int64_t rows)
{
    weft_context_charge(weft_context_current(), &(weft_usage){.db_transactions = 1, .db_rows = rows});
}

Test(measure, b4_a_block_is_charged_to_its_description_and_to_the_request)
{
    weft_measurements found;
    int64_t spun = 0;

    weft_with_context(request, weft_context_new("GET-1")) {
        charge_rows(1);
        weft_measure(&reading) {
            cr_assert_str_eq(weft_context_get_name(weft_context_current()), "GET-1");
            cr_assert_neq(weft_context_current(), request);
            spun = spin(20 * MS);
            charge_rows(5);
        }
        cr_assert_eq(weft_context_current(), request);
        cr_assert_eq(weft_context_get_usage(request).db_rows, 6);
        cr_assert_geq(weft_context_get_usage(request).user_ns + weft_context_get_usage(request).system_ns, spun * 4 / 5);
    }
    found = weft_measurements_get(&reading);
    cr_assert_eq(found.started, 1);
    cr_assert_eq(found.in_flight, 0);
    cr_assert_eq(found.usage.db_rows, 5);
    cr_assert_eq(found.usage.db_transactions, 1);
    assert_about(cpu_of(&found.usage), spun);
    cr_assert_geq(found.wall_ns, spun);
}

Test(measure, b4_those_in_flight_are_counted_with_their_ages)
{
    weft_measurements found = weft_measurements_get(&reading);

    cr_assert_eq(found.started, 0, "one that has never run is none");
    weft_measure(&reading) {
        spin(2 * MS);
        weft_measure(&reading) {
            spin(MS);
            found = weft_measurements_get(&reading);
            cr_assert_eq(found.started, 2);
            cr_assert_eq(found.in_flight, 2);
            cr_assert_eq(found.wall_ns, 0);
            cr_assert_geq(found.oldest_ns, 3 * MS);
            cr_assert_geq(found.ages_ns, 4 * MS);
            cr_assert_geq(found.ages_ns, found.oldest_ns + MS);
        }
    }
    found = weft_measurements_get(&reading);
    cr_assert_eq(found.in_flight, 0);
    cr_assert_eq(found.ages_ns, 0);
    cr_assert_eq(found.oldest_ns, 0);
    cr_assert_geq(found.wall_ns, 4 * MS);
}

/* A parent that jumps when a child ends, or a block that counts another's work, is wrong by orders (Synapse's #7370). */
Test(measure, b4_what_is_spent_in_one_inside_itself_is_counted_once)
{
    int64_t spun = 0, before = cpu_clock();
    weft_measurements found;

    weft_measure(&reading) {
        for (int i = 0; i < 20; i++) {
            weft_measure(&sorting) {
                weft_measure(&reading)
                    spun += spin(MS / 2);
            }
        }
        charge_rows(3);
    }
    found = weft_measurements_get(&reading);
    cr_assert_eq(found.started, 21);
    cr_assert_eq(found.usage.db_rows, 3);
    cr_assert_leq(cpu_of(&found.usage), cpu_clock() - before, "more than the thread has spent");
    assert_about(cpu_of(&found.usage), spun);
    found = weft_measurements_get(&sorting);
    cr_assert_eq(found.usage.db_rows, 0);
    assert_about(cpu_of(&found.usage), spun);
}

static bool leave_early(int how)
{
    for (int round = 0; round < 2; round++) {
        weft_measure(&reading) {
            if (how == 0)
                break;
            if (how == 1)
                return true;
            if (how == 2)
                continue;
            cr_assert_fail("nobody comes here");
        }
        cr_assert_neq(how, 1);
    }
    return false;
}

Test(measure, b4_a_block_is_over_however_it_is_left)
{
    weft_with_context(request, weft_context_new("x")) {
        for (int how = 0; how < 3; how++) {
            leave_early(how);
            cr_assert_eq(weft_context_current(), request);
            cr_assert_eq(weft_measurements_get(&reading).in_flight, 0);
        }
    }
    cr_assert_eq(weft_measurements_get(&reading).started, 5);
}

static weft_result fail_inside(void *arg)
{
    weft_measure(&reading) {
        charge_rows(2);
        WEFT_TRY(weft_await(arg));
    }
    cr_assert_fail("the wait fails");
    return weft_ok(NULL);
}

/* Two fibers inside the same block at once, which end in the order in which they began. */
Test(measure, b4_blocks_of_several_fibers_do_not_mix)
{
    weft_deferred *waits[2] = {pending(), pending()};
    weft_context *contexts[2];

    log_capture(); /* that they go on when their contexts have ended is said */
    begin();
    for (int i = 0; i < 2; i++) {
        weft_with_context(request, weft_context_new_numbered("GET", (uint64_t)i)) {
            contexts[i] = weft_context_ref(request);
            weft_deferred_unref(weft_deferred_add_both(weft_spawn(fail_inside, weft_deferred_ref(waits[i])), return_nothing, NULL));
        }
    }
    cr_assert_eq(weft_measurements_get(&reading).in_flight, 2);
    for (int i = 0; i < 2; i++) {
        weft_deferred_callback(waits[i], broken());
        weft_deferred_unref(waits[i]);
        settle();
        cr_assert_eq(weft_measurements_get(&reading).in_flight, (size_t)(1 - i));
    }
    for (int i = 0; i < 2; i++)
        weft_context_unref(contexts[i]);
    cr_assert_eq(weft_measurements_get(&reading).usage.db_rows, 4);
    cr_assert_eq(log_count("is used after its end"), 2);
    end();
}

/* ---- as metrics ---- */

Test(measure, b4_blocks_are_told_as_metrics)
{
    char *text;

    weft_measure(&reading) {
        charge_rows(5);
        text = weft_metrics_write(NULL);
        cr_assert(strstr(text, "\nweft_block_runs_total{name=\"reading\"} 1\n"), "%s", text);
        cr_assert(strstr(text, "\nweft_block_in_flight{name=\"reading\"} 1\n"), "%s", text);
        cr_assert(strstr(text, "\nweft_block_db_rows_total{name=\"reading\"} 5\n"), "%s", text);
        weft_free(text);
    }
    text = weft_metrics_write(NULL);
    cr_assert(strstr(text, "\nweft_block_in_flight{name=\"reading\"} 0\n"), "%s", text);
    cr_assert(!strstr(text, "sorting"), "%s", text);
    weft_free(text);
}

/* ---- several threads ---- */

static void *measure_in_a_thread(void *unused)
{
    (void)unused;
    weft_measure(&again) {
        charge_rows(1);
    }
    return NULL;
}

Test(measure, b3_threads_that_have_ended_are_counted_for_good)
{
    for (int i = 0; i < 10; i++) {
        pthread_t thread;

        cr_assert_eq(pthread_create(&thread, NULL, measure_in_a_thread, NULL), 0);
        pthread_join(thread, NULL);
    }
    cr_assert_eq(weft_measurements_get(&again).started, 10);
    cr_assert_eq(weft_measurements_get(&again).usage.db_rows, 10);
}

static bool stop;

static void *measure_until_told(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        weft_measure(&again) {
            charge_rows(1);
        }
    }
    return NULL;
}

/* What Synapse's scrapes met: differences that were negative. */
Test(measure, b3_sums_read_from_another_thread_never_fall)
{
    weft_measurements last = {0};
    pthread_t threads[2];

    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, measure_until_told, NULL), 0);
    while (last.started < 10000) {
        weft_measurements now = weft_measurements_get(&again);

        cr_assert_geq(now.started, last.started);
        cr_assert_geq(now.usage.db_rows, last.usage.db_rows);
        cr_assert_geq(now.usage.user_ns, last.usage.user_ns);
        cr_assert_leq(now.in_flight, 2);
        last = now;
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    last = weft_measurements_get(&again);
    cr_assert_eq((int64_t)last.started, last.usage.db_rows);
}

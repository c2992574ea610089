/* What is in flight, told as three gauges. */
#include "tests/support/metrics.h"
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <weft/in_flight.h>

static weft_in_flight *declared_in_flight(void)
{
    weft_in_flight *in_flight = NULL;
    weft_error *error = weft_in_flight_declare(&in_flight, (weft_metric_options){
        .name = "t_jobs", .help = "Jobs that go on.", .labels = {"kind"}});

    cr_assert_null(error);
    return in_flight;
}

Test(in_flight, tells_how_many_there_are_the_age_of_the_oldest_and_all_ages)
{
    weft_test_clock *time = weft_test_clock_new();
    weft_clock *previous = weft_clock_set(weft_test_clock_get_clock(time));
    weft_in_flight_series *slow = weft_in_flight_get(declared_in_flight(), "slow");
    weft_flight a, b, c;

    weft_flight_begin(&a, slow);
    weft_test_clock_advance(time, 2);
    weft_flight_begin(&b, slow);
    weft_flight_begin(&c, weft_in_flight_get(declared_in_flight(), "quick"));
    weft_test_clock_advance(time, 1.5);
    check_told("t_jobs", "# HELP t_jobs Jobs that go on.\n# TYPE t_jobs gauge\n"
                         "t_jobs{kind=\"slow\"} 2\nt_jobs{kind=\"quick\"} 1\n"
                         "# HELP t_jobs_ages_seconds Jobs that go on. Their ages together.\n"
                         "# TYPE t_jobs_ages_seconds gauge\n"
                         "t_jobs_ages_seconds{kind=\"slow\"} 5\nt_jobs_ages_seconds{kind=\"quick\"} 1.5\n"
                         "# HELP t_jobs_oldest_seconds Jobs that go on. The age of the oldest.\n"
                         "# TYPE t_jobs_oldest_seconds gauge\n"
                         "t_jobs_oldest_seconds{kind=\"slow\"} 3.5\nt_jobs_oldest_seconds{kind=\"quick\"} 1.5\n");
    weft_flight_end(&a);
    weft_flight_end(&c);
    check_told("t_jobs{", "t_jobs{kind=\"slow\"} 1\nt_jobs{kind=\"quick\"} 0\n");
    check_told("t_jobs_oldest_seconds{", "t_jobs_oldest_seconds{kind=\"slow\"} 1.5\n"
                                         "t_jobs_oldest_seconds{kind=\"quick\"} 0\n");
    weft_flight_end(&b);
    check_told("t_jobs_ages_seconds{", "t_jobs_ages_seconds{kind=\"slow\"} 0\nt_jobs_ages_seconds{kind=\"quick\"} 0\n");
    weft_clock_set(previous);
    weft_test_clock_free(time);
}

Test(in_flight, declared_again_it_is_the_same_and_in_other_words_it_is_refused)
{
    weft_in_flight *in_flight = declared_in_flight();
    weft_error *error;

    cr_assert_eq(declared_in_flight(), in_flight);
    cr_assert_eq(weft_in_flight_get(in_flight, "a"), weft_in_flight_get(in_flight, "a"));
    error = weft_in_flight_declare(&in_flight, (weft_metric_options){.name = "t_jobs", .help = "Others."});
    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    weft_error_unref(error);
    error = weft_in_flight_declare(&in_flight, (weft_metric_options){.help = "Others."});
    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    weft_error_unref(error);
}

Test(in_flight, without_a_clock_ages_are_0)
{
    weft_in_flight_series *series = weft_in_flight_get(declared_in_flight(), "x");
    weft_test_clock *time = weft_test_clock_new();
    weft_flight flight;

    weft_flight_begin(&flight, series);
    check_told("t_jobs_oldest_seconds{", "t_jobs_oldest_seconds{kind=\"x\"} 0\n");
    weft_clock_set(weft_test_clock_get_clock(time));
    weft_test_clock_advance(time, 5);
    check_told("t_jobs_oldest_seconds{", "t_jobs_oldest_seconds{kind=\"x\"} 0\n");
    weft_clock_set(NULL);
    weft_test_clock_free(time);
    weft_flight_end(&flight);
    check_told("t_jobs{", "t_jobs{kind=\"x\"} 0\n");
}

Test(in_flight, ending_one_twice_aborts, .signal = SIGABRT)
{
    weft_flight flight;

    weft_flight_begin(&flight, weft_in_flight_get(declared_in_flight(), "x"));
    weft_flight_end(&flight);
    weft_flight_end(&flight);
}

enum { THREADS = 4, ROUNDS = 2000, FLIGHTS = 10 };

static void *begin_and_end(void *series)
{
    weft_flight flights[FLIGHTS];

    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < FLIGHTS; i++)
            weft_flight_begin(&flights[i], series);
        for (int i = 0; i < FLIGHTS; i++)
            weft_flight_end(&flights[(i * 7) % FLIGHTS]);
    }
    return NULL;
}

Test(in_flight, several_threads_begin_and_end_while_another_one_tells, .timeout = 60)
{
    weft_in_flight_series *series = weft_in_flight_get(declared_in_flight(), "x");
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, begin_and_end, series), 0);
    for (int i = 0; i < 20; i++) {
        const char *text = told_lines("t_jobs{");
        int count = atoi(text + strlen("t_jobs{kind=\"x\"} "));

        cr_assert(count >= 0 && count <= THREADS * FLIGHTS, "%s", text);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check_told("t_jobs{", "t_jobs{kind=\"x\"} 0\n");
}

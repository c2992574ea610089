/* Limits of lines: as many as were promised come through, whoever logs, and the next one says what was left out. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "lib/log.h"

static int64_t now = 5000000000;

static int64_t test_now(void)
{
    return now;
}

static void move_on(double seconds)
{
    now += (int64_t)(seconds * 1e9);
}

static void begin(void)
{
    weft__log_limit_now = test_now;
    log_capture();
}

static void say(const char *text)
{
    weft_log_limited(WEFT_LOG_WARN, 10, 3, "%s", text);
}

static void say_often(int times)
{
    for (int i = 0; i < times; i++)
        say("again");
}

Test(log_limit, lets_a_burst_through_and_then_so_many_a_second)
{
    begin();
    say_often(20);
    cr_assert_eq(log_count(""), 3);
    move_on(0.099);
    say_often(5);
    cr_assert_eq(log_count(""), 3);
    move_on(0.002);
    say_often(5);
    cr_assert_eq(log_count(""), 4);
    move_on(0.2);
    say_often(5);
    cr_assert_eq(log_count(""), 6);
    move_on(3600);
    say_often(20);
    cr_assert_eq(log_count(""), 9, "a long silence saves up no more than a burst");
}

Test(log_limit, the_next_line_says_how_many_were_suppressed)
{
    begin();
    say_often(45);
    move_on(1);
    say("last");
    say("last but one");
    cr_assert_str_eq(log_text(), "WARN - again\nWARN - again\nWARN - again\n"
                                 "WARN - last (42 more like it were suppressed)\nWARN - last but one\n");
}

Test(log_limit, of_one_place_is_not_that_of_another)
{
    begin();
    for (int i = 0; i < 5; i++) {
        weft_log_limited(WEFT_LOG_INFO, 0.1, 1, "one");
        weft_log_limited(WEFT_LOG_INFO, 0.1, 2, "two");
    }
    cr_assert_eq(log_count("one"), 1);
    cr_assert_eq(log_count("two"), 2);
    move_on(9.9);
    for (int i = 0; i < 3; i++)
        weft_log_limited(WEFT_LOG_INFO, 0.1, 1, "three");
    cr_assert_eq(log_count("three"), 1);
}

static int costly(void)
{
    trace("computed");
    return 1;
}

Test(log_limit, what_is_suppressed_is_not_computed_and_what_is_disabled_not_counted)
{
    begin();
    for (int i = 0; i < 5; i++)
        weft_log_limited(WEFT_LOG_WARN, 1, 1, "%d", costly());
    cr_assert_str_eq(trace_text(), "computed");
    for (int i = 0; i < 10; i++) {
        weft_log_set_level("", i < 8 ? WEFT_LOG_ERROR : WEFT_LOG_WARN);
        weft_log_limited(WEFT_LOG_WARN, 1, 1, "disabled at first");
    }
    move_on(2);
    cr_assert_eq(log_count("disabled at first"), 1);
}

Test(log_limit, a_line_as_long_as_can_be_still_says_it)
{
    char text[5000];
    const char *end;

    begin();
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < 5; i++) {
        move_on(i == 4 ? 1 : 0);
        weft_log_limited(WEFT_LOG_WARN, 1, 1, "%s", text);
    }
    cr_assert_eq(log_count(""), 2);
    end = strstr(log_text(), "x (3 more like it were suppressed)\n");
    cr_assert_not_null(end);
}

Test(log_limit, holds_for_the_rarest_of_lines_and_the_largest_of_bursts)
{
    weft_log_limit rare = {0}, often = {0};
    uint64_t left_out;

    begin();
    cr_assert(weft_log_limit_admits(&rare, 1e-300, 1, &left_out));
    move_on(3600);
    cr_assert_not(weft_log_limit_admits(&rare, 1e-300, 1, &left_out));
    for (int i = 0; i < 3; i++)
        cr_assert(weft_log_limit_admits(&often, 1e-6, UINT_MAX, &left_out));
}

enum { THREADS = 3, LINES = 5000 };

static void *say_lines(void *unused)
{
    say_often(LINES);
    return unused;
}

static uint64_t suppressed;

static void add_told(const weft_log_record *record, void *count)
{
    const char *mark = strchr(record->message, '(');
    unsigned long long more = 0;

    __atomic_fetch_add((int *)count, 1, __ATOMIC_SEQ_CST);
    if (mark && sscanf(mark, "(%llu more", &more) == 1)
        __atomic_fetch_add(&suppressed, more, __ATOMIC_SEQ_CST);
}

Test(log_limit, holds_for_all_threads_together_and_nothing_is_lost_count_of)
{
    pthread_t threads[THREADS];
    int count = 0;

    weft__log_limit_now = test_now;
    weft_log_set_sink(add_told, &count);
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, say_lines, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(count, 3, "%d came through", count);
    move_on(1);
    say("last");
    cr_assert_eq(count, 4);
    cr_assert_eq(suppressed, THREADS * LINES - 3);
}

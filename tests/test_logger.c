/* Loggers: which of them make lines of which level, and what a line costs that is not made. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/counts.h"

static weft_logger app = WEFT_LOGGER("app"), rooms = WEFT_LOGGER("app.rooms"), roomsy = WEFT_LOGGER("app.roomsy"),
                   deep = WEFT_LOGGER("app.rooms.one.two"), other = WEFT_LOGGER("other"),
                   secret = WEFT_LOGGER_EXPLICIT("app.secret");

static char last_logger[100];
static int records;

static void keep_logger(const weft_log_record *record, void *unused)
{
    (void)unused;
    snprintf(last_logger, sizeof last_logger, "%s", record->logger);
    records++;
}

/* The least level at which it makes lines. */
static weft_log_level least(weft_logger *logger)
{
    weft_log_level level = WEFT_LOG_DEBUG;

    while (level < WEFT_LOG_OFF && !weft_logger_enabled(logger, level))
        level++;
    return level;
}

Test(logger, makes_lines_from_info_on_unless_told_otherwise)
{
    cr_assert_eq(least(&app), WEFT_LOG_INFO);
    cr_assert_eq(least(&weft_root_logger), WEFT_LOG_INFO);
}

Test(logger, names_its_lines_and_the_root_is_root)
{
    weft_log_set_sink(keep_logger, NULL);
    weft_logger_info(&rooms, "x");
    cr_assert_str_eq(last_logger, "app.rooms");
    weft_log_info("x");
    cr_assert_str_eq(last_logger, "root");
    cr_assert_eq(records, 2);
}

Test(logger, no_line_has_the_level_above_all_others)
{
    uint64_t unhandled = weft__counts.unhandled;

    log_capture();
    weft_log(WEFT_LOG_OFF, "hello");
    weft_log_limited(WEFT_LOG_OFF, 1, 1, "hello");
    cr_assert_eq(log_count(""), 0);
    cr_assert_eq(weft__counts.unhandled, unhandled, "it is counted as nothing else");
}

Test(logger, each_level_has_its_macro)
{
    log_capture();
    weft_logger_debug(&app, "%d", 1);
    weft_logger_info(&app, "%d", 2);
    weft_logger_warn(&app, "%d", 3);
    weft_logger_error(&app, "%d", 4);
    weft_logger_log(&app, WEFT_LOG_WARN, "%d", 5);
    cr_assert_str_eq(log_text(), "DEBUG - 1\nINFO - 2\nWARN - 3\nERROR - 4\nWARN - 5\n");
}

Test(logger, has_the_level_of_the_nearest_name_above)
{
    weft_log_set_level("app", WEFT_LOG_WARN);
    cr_assert_eq(least(&app), WEFT_LOG_WARN);
    cr_assert_eq(least(&deep), WEFT_LOG_WARN);
    weft_log_set_level("app.rooms", WEFT_LOG_DEBUG);
    cr_assert_eq(least(&rooms), WEFT_LOG_DEBUG);
    cr_assert_eq(least(&deep), WEFT_LOG_DEBUG);
    cr_assert_eq(least(&app), WEFT_LOG_WARN);
    cr_assert_eq(least(&roomsy), WEFT_LOG_WARN, "a name is above another only up to a dot");
    cr_assert_eq(least(&other), WEFT_LOG_INFO);
    weft_log_set_level("", WEFT_LOG_ERROR);
    cr_assert_eq(least(&other), WEFT_LOG_ERROR);
    cr_assert_eq(least(&weft_root_logger), WEFT_LOG_ERROR);
    cr_assert_eq(least(&deep), WEFT_LOG_DEBUG);
    weft_log_set_level("app", WEFT_LOG_OFF);
    cr_assert_eq(least(&app), WEFT_LOG_OFF);
}

Test(logger, a_level_set_before_and_after_its_first_line_is_the_same)
{
    cr_assert(weft_logger_enabled(&app, WEFT_LOG_INFO));
    weft_log_set_level("app", WEFT_LOG_ERROR);
    weft_log_set_level("other", WEFT_LOG_ERROR);
    cr_assert_not(weft_logger_enabled(&app, WEFT_LOG_WARN));
    cr_assert_not(weft_logger_enabled(&other, WEFT_LOG_WARN));
    weft_log_set_level("app", WEFT_LOG_DEBUG);
    cr_assert(weft_logger_enabled(&app, WEFT_LOG_DEBUG));
}

Test(logger, levels_can_be_asked_for)
{
    weft_log_set_level("app", WEFT_LOG_WARN);
    cr_assert_eq(weft_log_get_level("app"), WEFT_LOG_WARN);
    cr_assert_eq(weft_log_get_level("app.rooms"), WEFT_LOG_WARN);
    cr_assert_eq(weft_log_get_level("apple"), WEFT_LOG_INFO);
    cr_assert_eq(weft_log_get_level("root"), WEFT_LOG_INFO);
}

static int costly(void)
{
    trace("computed");
    return 1;
}

Test(logger, the_first_line_of_a_disabled_level_is_not_computed_either)
{
    log_capture();
    weft_log_set_level("app", WEFT_LOG_WARN);
    weft_logger_info(&app, "%d", costly());
    weft_logger_info(&app, "%d", costly());
    cr_assert_str_eq(trace_text(), "");
    cr_assert_eq(log_count(""), 0);
}

/* Synapse's ExplicitlyConfiguredLogger. */
Test(logger, l15_an_explicit_one_is_silent_unless_its_very_name_has_a_level)
{
    weft_log_set_level("", WEFT_LOG_DEBUG);
    weft_log_set_level("app", WEFT_LOG_DEBUG);
    cr_assert_eq(least(&secret), WEFT_LOG_OFF);
    weft_log_set_level("app.secret.deeper", WEFT_LOG_DEBUG);
    cr_assert_eq(least(&secret), WEFT_LOG_OFF);
    weft_log_set_level("app.secret", WEFT_LOG_INFO);
    cr_assert_eq(least(&secret), WEFT_LOG_INFO);
}

/* ---- levels as text ---- */

Test(logger, levels_are_set_from_text)
{
    cr_assert_null(weft_log_set_levels("warn,app=DEBUG,app.rooms=Error,other=off"));
    cr_assert_eq(least(&weft_root_logger), WEFT_LOG_WARN);
    cr_assert_eq(least(&app), WEFT_LOG_DEBUG);
    cr_assert_eq(least(&deep), WEFT_LOG_ERROR);
    cr_assert_eq(least(&other), WEFT_LOG_OFF);
    cr_assert_null(weft_log_set_levels(""));
    cr_assert_eq(least(&weft_root_logger), WEFT_LOG_WARN);
}

static void expect_refused(const char *text, const char *part, int character)
{
    weft_error *error = weft_log_set_levels(text);
    char expected[200];

    cr_assert_not_null(error, "%s", text);
    snprintf(expected, sizeof expected, "\"%s\", at character %d of \"%s\", is no level", part, character, text);
    cr_assert(strstr(weft_error_get_message(error), expected), "%s", weft_error_get_message(error));
    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    weft_error_unref(error);
}

Test(logger, text_that_makes_no_sense_is_refused_and_changes_nothing)
{
    expect_refused("loud", "loud", 1);
    expect_refused("error,app=debug,other=chatty", "other=chatty", 17);
    expect_refused("app=", "app=", 1);
    cr_assert_eq(least(&app), WEFT_LOG_INFO);
    cr_assert_eq(least(&weft_root_logger), WEFT_LOG_INFO);
}

static void with_environment(const char *levels)
{
    weft_auto(weft_reactor_free) weft_reactor *reactor = NULL;

    setenv("WEFT_LOG", levels, 1);
    cr_assert_null(weft_reactor_new(&reactor));
}

Test(logger, levels_come_from_the_environment_with_the_first_reactor)
{
    log_capture();
    with_environment("error,app.rooms=debug");
    cr_assert_eq(least(&other), WEFT_LOG_ERROR);
    cr_assert_eq(least(&rooms), WEFT_LOG_DEBUG);
    with_environment("debug");
    cr_assert_eq(least(&other), WEFT_LOG_ERROR, "what the program has set meanwhile stays");
    cr_assert_eq(log_count(""), 0);
}

Test(logger, an_environment_that_makes_no_sense_is_told)
{
    log_capture();
    with_environment("loud");
    cr_assert_eq(log_count("WARN - WEFT_LOG is not heeded: \"loud\", at character 1"), 1);
}

/* ---- sinks have levels too ---- */

static weft_log_sink sinks[3];
static int counts[3];

static void count(const weft_log_record *record, void *counter)
{
    (void)record;
    ++*(int *)counter;
}

static void add_counting(int index, weft_log_level level)
{
    sinks[index] = (weft_log_sink){.fn = count, .arg = &counts[index], .level = level};
    weft_log_add_sink(&sinks[index]);
}

Test(logger, each_sink_gets_the_lines_from_its_level_on)
{
    weft_log_set_level("", WEFT_LOG_DEBUG);
    add_counting(0, WEFT_LOG_DEBUG);
    add_counting(1, WEFT_LOG_WARN);
    add_counting(2, WEFT_LOG_OFF);
    weft_log_debug("x");
    weft_log_warn("x");
    weft_log_error("x");
    cr_assert_eq(counts[0], 3);
    cr_assert_eq(counts[1], 2);
    cr_assert_eq(counts[2], 0);
    weft_log_sink_set_level(&sinks[1], WEFT_LOG_ERROR);
    weft_log_warn("x");
    cr_assert_eq(counts[1], 2);
}

Test(logger, what_no_sink_takes_is_not_made)
{
    weft_log_set_level("app", WEFT_LOG_DEBUG);
    add_counting(0, WEFT_LOG_WARN);
    weft_logger_info(&app, "%d", costly());
    cr_assert_str_eq(trace_text(), "");
    cr_assert_eq(least(&app), WEFT_LOG_WARN);
    add_counting(1, WEFT_LOG_INFO);
    cr_assert_eq(least(&app), WEFT_LOG_INFO);
    weft_log_sink_set_level(&sinks[1], WEFT_LOG_DEBUG);
    cr_assert_eq(least(&app), WEFT_LOG_DEBUG);
    weft_log_remove_sink(&sinks[1]);
    cr_assert_eq(least(&app), WEFT_LOG_WARN);
    weft_log_remove_sink(&sinks[0]);
    cr_assert_eq(least(&app), WEFT_LOG_DEBUG, "then there is the default sink");
}

static void trace_label(const weft_log_record *record, void *label)
{
    (void)record;
    trace("%s", (const char *)label);
}

Test(logger, sinks_are_called_in_the_order_in_which_they_were_added)
{
    weft_log_sink a = {.fn = trace_label, .arg = (void *)"a"}, b = {.fn = trace_label, .arg = (void *)"b"},
                  c = {.fn = trace_label, .arg = (void *)"c"};

    weft_log_add_sink(&a);
    weft_log_add_sink(&b);
    weft_log_add_sink(&c);
    weft_log_remove_sink(&b);
    weft_log_remove_sink(&b); /* as often as one likes */
    weft_log_info("x");
    cr_assert_str_eq(trace_text(), "a c");
    weft_log_add_sink(&b);
    weft_log_info("x");
    cr_assert_str_eq(trace_text(), "a c b");
    weft_log_set_sink(trace_label, (void *)"d");
    weft_log_info("x");
    cr_assert_str_eq(trace_text(), "d", "it replaces all");
    weft_log_set_sink(NULL, NULL);
}

/* ---- time ---- */

static int64_t times[2];

static int64_t a_clock(void)
{
    static int64_t now = 1000;

    return now++;
}

static void keep_time(const weft_log_record *record, void *out)
{
    *(int64_t *)out = record->time;
}

Test(logger, the_time_is_taken_once_for_all_sinks)
{
    weft_log_sink a = {.fn = keep_time, .arg = &times[0]}, b = {.fn = keep_time, .arg = &times[1]};

    weft_log_set_clock(a_clock);
    weft_log_add_sink(&a);
    weft_log_add_sink(&b);
    weft_log_info("x");
    weft_log_info("x");
    cr_assert_eq(times[0], 1001);
    cr_assert_eq(times[1], 1001);
    weft_log_set_clock(NULL);
    weft_log_info("x");
    cr_assert_eq(times[0], 0);
    weft_log_remove_sink(&a);
    weft_log_remove_sink(&b);
}

/* ---- threads ---- */

enum { ROUNDS = 2000 };
static int entered;

/* Long enough that others come in between. */
static void be_inside(const weft_log_record *record, void *added)
{
    (void)record;
    for (int i = 0; i < 20; i++)
        cr_assert(__atomic_load_n((bool *)added, __ATOMIC_SEQ_CST), "a sink that was removed is called");
    __atomic_fetch_add(&entered, 1, __ATOMIC_SEQ_CST);
}

static void *log_often(void *unused)
{
    for (int i = 0; i < ROUNDS; i++)
        weft_logger_info(&app, "x");
    return unused;
}

Test(logger, nobody_is_in_a_sink_that_was_removed)
{
    static bool always = true, added[200];
    pthread_t threads[2];
    weft_log_sink sink = {.fn = be_inside, .arg = &always};

    weft_log_add_sink(&sink);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, log_often, NULL), 0);
    for (int i = 0; i < 200; i++) {
        weft_log_sink brief = {.fn = be_inside, .arg = &added[i]};

        __atomic_store_n(&added[i], true, __ATOMIC_SEQ_CST);
        weft_log_add_sink(&brief);
        weft_log_remove_sink(&brief);
        __atomic_store_n(&added[i], false, __ATOMIC_SEQ_CST);
        memset(&brief, 0xff, sizeof brief);
    }
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    weft_log_remove_sink(&sink);
    cr_assert_geq(entered, 2 * ROUNDS);
}

static void fork_inside(const weft_log_record *record, void *status)
{
    pid_t child = fork();

    (void)record;
    if (!child)
        _exit(7);
    waitpid(child, status, 0);
}

Test(logger, a_sink_may_fork)
{
    int status = -1;

    weft_log_set_sink(fork_inside, &status);
    weft_log_info("x");
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    weft_log_set_sink(NULL, NULL);
}

/* The child logs, and changes sinks, although another thread of its parent was in a sink. */
static pthread_barrier_t in_the_sink, forked;

static void stay(const weft_log_record *record, void *unused)
{
    (void)record, (void)unused;
    pthread_barrier_wait(&in_the_sink);
    pthread_barrier_wait(&forked);
}

static void *log_one(void *unused)
{
    weft_log_info("x");
    return unused;
}

Test(logger, a_child_made_while_another_thread_logs_may_log)
{
    pthread_t thread;
    int status;
    pid_t child;

    pthread_barrier_init(&in_the_sink, NULL, 2);
    pthread_barrier_init(&forked, NULL, 2);
    weft_log_set_sink(stay, NULL);
    cr_assert_eq(pthread_create(&thread, NULL, log_one, NULL), 0);
    pthread_barrier_wait(&in_the_sink);
    child = fork();
    if (!child) {
        alarm(20);
        weft_log_set_sink(count, &counts[0]);
        weft_logger_info(&other, "x");
        _exit(counts[0]);
    }
    pthread_barrier_wait(&forked);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1, "status %#x", status);
    pthread_join(thread, NULL);
}

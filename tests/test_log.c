/* The log: which lines are made, what is in them, and that one call is one line whatever a peer sent. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static weft_log_record last;
static char last_message[5000], last_context[100];
static int records;
static void *last_arg;

static void keep_last(const weft_log_record *record, void *arg)
{
    last = *record;
    snprintf(last_message, sizeof last_message, "%s", record->message);
    snprintf(last_context, sizeof last_context, "%s", record->context);
    last_arg = arg;
    records++;
}

/* ---- records ---- */

Test(log, record_has_level_context_message_and_place)
{
    int arg, line = __LINE__ + 3;

    weft_log_set_sink(keep_last, &arg);
    weft_log_warn("%d of %s", 3, "them");
    cr_assert_eq(records, 1);
    cr_assert_eq(last.level, WEFT_LOG_WARN);
    cr_assert_str_eq(last_message, "3 of them");
    cr_assert_str_eq(last_context, "-");
    cr_assert_eq(last.place->line, line);
    cr_assert(strstr(last.place->file, "test_log.c"));
    cr_assert_eq(last_arg, &arg);
}

Test(log, record_names_the_current_context)
{
    weft_context *outside, *first;

    weft_log_set_sink(keep_last, NULL);
    outside = enter("GET-1");
    weft_log_info("x");
    cr_assert_str_eq(last_context, "GET-1");
    first = enter("GET-2");
    weft_log_info("x");
    cr_assert_str_eq(last_context, "GET-2");
    leave(first);
    weft_log_info("x");
    cr_assert_str_eq(last_context, "GET-1");
    leave(outside);
    weft_log_info("x");
    cr_assert_str_eq(last_context, "-");
}

static int costly(void)
{
    trace("computed");
    return 1;
}

Test(log, below_the_threshold_nothing_is_made_nor_computed)
{
    weft_log_set_sink(keep_last, NULL);
    cr_assert_eq(weft_log_get_level(""), WEFT_LOG_INFO);
    weft_log_debug("%d", costly());
    cr_assert_eq(records, 0);
    cr_assert_str_eq(trace_text(), "");
    weft_log_info("x");
    cr_assert_eq(records, 1);
    weft_log_set_level("", WEFT_LOG_ERROR);
    weft_log_warn("x");
    cr_assert_eq(records, 1);
    weft_log_error("x");
    cr_assert_eq(records, 2);
    weft_log_set_level("", WEFT_LOG_DEBUG);
    weft_log_debug("%d", costly());
    cr_assert_eq(records, 3);
    cr_assert_str_eq(trace_text(), "computed");
}

Test(log, the_function_behind_the_macros_keeps_to_the_threshold_too)
{
    weft_log_set_sink(keep_last, NULL);
    weft_log_at(WEFT_LOG_DEBUG, WEFT_HERE, "x");
    cr_assert_eq(records, 0);
}

Test(log, levels_have_names)
{
    cr_assert_str_eq(weft_log_level_name(WEFT_LOG_DEBUG), "DEBUG");
    cr_assert_str_eq(weft_log_level_name(WEFT_LOG_INFO), "INFO");
    cr_assert_str_eq(weft_log_level_name(WEFT_LOG_WARN), "WARN");
    cr_assert_str_eq(weft_log_level_name(WEFT_LOG_ERROR), "ERROR");
}

Test(log, sink_is_replaced_and_taken_away)
{
    cr_assert_not(weft_log_has_sink());
    weft_log_set_sink(keep_last, NULL);
    cr_assert(weft_log_has_sink());
    weft_log_info("x");
    log_capture();
    weft_log_info("y");
    cr_assert_eq(records, 1);
    cr_assert_eq(log_count("INFO - y"), 1);
    weft_log_set_sink(NULL, NULL);
    cr_assert_not(weft_log_has_sink());
}

/* ---- what a peer may have sent ---- */

Test(log, control_characters_are_written_as_numbers)
{
    weft_log_set_sink(keep_last, NULL);
    weft_log_info("a\nb\r\tc\x1b[31m%c d\x7f", 1);
    cr_assert_str_eq(last_message, "a\\x0ab\\x0d\\x09c\\x1b[31m\\x01 d\\x7f");
    weft_log_info("gr\xc3\xbc\xc3\x9f dich");
    cr_assert_str_eq(last_message, "gr\xc3\xbc\xc3\x9f dich", "letters beyond ASCII are none");
}

Test(log, every_control_character_is_escaped_and_no_other)
{
    weft_log_set_sink(keep_last, NULL);
    for (int c = 1; c < 256; c++) {
        char plain[] = {(char)c, '\0'}, escaped[8];

        snprintf(escaped, sizeof escaped, "\\x%02x", c);
        weft_log_info("%c", c);
        cr_assert_str_eq(last_message, c < 0x20 || c == 0x7f ? escaped : plain, "character %d", c);
    }
}

Test(log, long_lines_are_cut_to_4_KiB)
{
    char text[6001];

    weft_log_set_sink(keep_last, NULL);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    weft_log_info("%s", text);
    cr_assert_eq(strlen(last_message), 4095);
    text[4095] = '\0';
    weft_log_info("%s", text);
    cr_assert_str_eq(last_message, text, "one that just fits is whole");
}

Test(log, escapes_are_not_cut_in_the_middle)
{
    char text[6001];

    weft_log_set_sink(keep_last, NULL);
    for (int length = 4000; length < 4020; length++) {
        memset(text, '\n', sizeof text);
        memset(text, 'x', (size_t)length % 4);
        text[length] = '\0';
        weft_log_info("%s", text);
        cr_assert_leq(strlen(last_message), 4095);
        cr_assert_geq(strlen(last_message), 4092);
        cr_assert_str_eq(last_message + strlen(last_message) - 4, "\\x0a");
    }
}

Test(log, lines_that_escapes_make_too_long_are_cut)
{
    char text[4096] = "\n";

    weft_log_set_sink(keep_last, NULL);
    memset(text + 1, 'x', sizeof text - 2);
    weft_log_info("%s", text);
    text[4092] = '\0'; /* three of the four bytes of the escape are what it is longer by */
    cr_assert_eq(strlen(last_message), 4095);
    cr_assert_arr_eq(last_message, "\\x0a", 4);
    cr_assert_str_eq(last_message + 4, text + 1);
}

static weft_result log_the_worst_line(void *unused)
{
    char text[6001];

    (void)unused;
    memset(text, '\n', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    weft_log_info("%s", text);
    return weft_ok(NULL);
}

Test(log, a_fiber_has_room_on_its_stack_for_the_worst_line)
{
    weft_auto(weft_reactor_free) weft_reactor *reactor = NULL;

    weft_log_set_sink(keep_last, NULL);
    cr_assert_null(weft_reactor_new(&reactor));
    weft_deferred_unref(weft_spawn(log_the_worst_line, NULL));
    cr_assert_eq(records, 1);
}

/* ---- as text on stderr ---- */

static int saved_stderr, reading_end;

/* stderr is a socket that keeps messages apart: one call of write, one message. */
static void catch_stderr(void)
{
    int ends[2];

    fflush(stderr);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    saved_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    reading_end = ends[0];
}

static void release_stderr(void)
{
    fflush(stderr);
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
}

/* The next message; released stderr ends them. */
static const char *next_message(void)
{
    static char text[8192];
    ssize_t length = recv(reading_end, text, sizeof text - 1, 0);

    text[length > 0 ? length : 0] = '\0';
    return text;
}

static bool matches(const char *text, const char *pattern)
{
    regex_t compiled;
    bool found;

    cr_assert_eq(regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB), 0);
    found = regexec(&compiled, text, 0, NULL, 0) == 0;
    regfree(&compiled);
    return found;
}

Test(log_text, without_a_sink_has_level_context_and_message)
{
    weft_context *previous = enter("GET-7");

    catch_stderr();
    weft_log_info("hello %d", 5);
    release_stderr();
    leave(previous);
    cr_assert_str_eq(next_message(), "INFO  GET-7 hello 5\n");
    close(reading_end);
}

Test(log_text, to_stderr_has_the_time_too)
{
    weft_context *previous = enter("GET-42");
    const char *line;

    catch_stderr();
    weft_log_to_stderr();
    weft_log_info("message");
    weft_log_error("worse");
    release_stderr();
    leave(previous);
    line = next_message();
    cr_assert(matches(line, "^[0-9]{4}(-[0-9]{2}){2} [0-9]{2}(:[0-9]{2}){2}\\.[0-9]{3} INFO  GET-42 message\n$"), "%s",
              line);
    line = next_message();
    cr_assert(matches(line, " ERROR GET-42 worse\n$"), "%s", line);
    close(reading_end);
}

Test(log_text, is_installed_by_a_reactor_unless_the_program_has_a_sink)
{
    weft_auto(weft_reactor_free) weft_reactor *reactor = NULL;

    cr_assert_null(weft_reactor_new(&reactor));
    cr_assert(weft_log_has_sink());
    reactor = weft_reactor_free(reactor);
    weft_log_set_sink(keep_last, NULL);
    cr_assert_null(weft_reactor_new(&reactor));
    weft_log_info("x");
    cr_assert_eq(records, 1);
}

Test(log_text, of_the_longest_line_is_one_write)
{
    char text[4200];
    const char *line;

    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    catch_stderr();
    weft_log_to_stderr();
    weft_log_info("%s", text);
    release_stderr();
    line = next_message();
    cr_assert_gt(strlen(line), 4095);
    cr_assert_eq(line[strlen(line) - 1], '\n');
    cr_assert_str_eq(next_message(), "");
    close(reading_end);
}

enum { LINES = 200 };

static void *log_lines(void *letter)
{
    char text[1001];

    memset(text, *(char *)letter, sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < LINES; i++)
        weft_log_info("%s", text);
    return NULL;
}

Test(log_text, of_several_threads_is_not_mixed, .timeout = 30)
{
    pthread_t threads[2];
    char letters[] = "ab";

    catch_stderr();
    weft_log_to_stderr();
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, log_lines, &letters[i]), 0);
    for (int i = 0; i < 2 * LINES; i++) {
        const char *line = next_message();

        cr_assert(matches(line, " INFO  - (a{1000}|b{1000})\n$"), "%s", line);
    }
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    release_stderr();
    cr_assert_str_eq(next_message(), "");
    close(reading_end);
}

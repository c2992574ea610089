/* Sinks that write: what their lines look like, and where they come out. */
#include "tests/support/test.h"
#include "tests/support/allocations.h"
#include "tests/support/fibers.h"
#include "tests/support/values.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

static weft_logger rooms = WEFT_LOGGER("app.rooms");

/* ---- a folder for what is written, and a clock that stands still ---- */

/* 2026-03-01 12:00:00.250 in UTC. */
static int64_t noon(void)
{
    return (int64_t)1772366400 * 1000000000 + 250 * 1000000;
}

static char folder[50], path[100], moved[100];

static void make_folder(void)
{
    setenv("TZ", "UTC", 1);
    weft_log_set_clock(noon);
    strcpy(folder, "/tmp/weft-log-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/log", folder);
    snprintf(moved, sizeof moved, "%s/log.1", folder);
}

static void remove_folder(void)
{
    unlink(path);
    unlink(moved);
    cr_assert_eq(rmdir(folder), 0);
}

static const char *contents(const char *name)
{
    static char text[200000];
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t length;

    cr_assert_geq(fd, 0, "%s", name);
    length = read(fd, text, sizeof text - 1);
    cr_assert_geq(length, 0);
    text[length] = '\0';
    close(fd);
    return text;
}

static weft_log_sink *file_sink(weft_log_sink_options options)
{
    weft_log_sink *sink;
    weft_error *error = weft_log_sink_new_file(&sink, path, options);

    cr_assert_null(error);
    weft_log_add_sink(sink);
    return sink;
}

/* What `log` brings into a file in a format. */
static const char *logged(const char *format, void (*log)(void))
{
    weft_log_sink *sink;
    const char *text;

    make_folder();
    sink = file_sink((weft_log_sink_options){.format = format});
    log();
    weft_log_sink_free(sink);
    text = contents(path);
    remove_folder();
    return text;
}

/* ---- text ---- */

static int said_in;

static void say_hello(void)
{
    weft_context *previous = enter("GET-42");

    weft_context_set_field(weft_context_current(), "user_agent", "curl/8\x1b[31m");
    weft_context_set_field(weft_context_current(), "method", "GET");
    said_in = __LINE__ + 1;
    weft_logger_warn(&rooms, "hello\n%s", "world");
    leave(previous);
}

Test(log_format, l21_the_long_text_line_is_time_logger_line_level_request_message)
{
    char expected[200];
    const char *text = logged(WEFT_LOG_FORMAT_LONG, say_hello);

    snprintf(expected, sizeof expected, "2026-03-01 12:00:00.250 - app.rooms - %d - WARN - GET-42 - hello\\x0aworld\n",
             said_in);
    cr_assert_str_eq(text, expected);
}

Test(log_format, the_short_one_is_the_usual_one)
{
    cr_assert_str_eq(logged(NULL, say_hello), "2026-03-01 12:00:00.250 WARN  GET-42 hello\\x0aworld\n");
}

Test(log_format, all_elements_can_be_had)
{
    char expected[300];
    const char *text = logged("%(level)|%(level:6)|%(function)|%(process)|%(thread)|%(field:method)|%(field:none)|%%|"
                              "%(logger)", say_hello);

    snprintf(expected, sizeof expected, "WARN|WARN  |say_hello|%d|", (int)getpid());
    cr_assert_arr_eq(text, expected, strlen(expected), "%s", text);
    cr_assert_eq(atoi(text + strlen(expected)), gettid());
    cr_assert(strstr(text, "|GET|-|%|app.rooms\n"), "%s", text);
    text = logged("%(file)", say_hello);
    cr_assert(strstr(text, "tests/test_log_sink.c\n"), "%s", text);
}

Test(log_format, control_characters_of_fields_are_escaped)
{
    cr_assert_str_eq(logged("%(field:user_agent)", say_hello), "curl/8\\x1b[31m\n");
}

Test(log_format, times_have_the_form_that_is_asked_for)
{
    cr_assert_str_eq(logged("%(time:%d.%m. %H:%M)", say_hello), "01.03. 12:00\n");
    cr_assert_str_eq(logged("%(time:%T,%L %Y)", say_hello), "12:00:00,250 2026\n");
    cr_assert_str_eq(logged("%(time:%%L %s)", say_hello), "%L 1772366400\n");
    cr_assert_str_eq(logged("%(time)%(time:%S)%(utc:%M)%(time:%H)%(time:%Y)%(time:%S)", say_hello),
                     "2026-03-01 12:00:00.2500000" "12202600\n");
}

static int64_t later_by_ms;

static int64_t ticking(void)
{
    return noon() + later_by_ms * 1000000;
}

static void say_at_times(void)
{
    static const int64_t times[] = {0, 7, 749, 750, 1000, 0, 3600 * 1000};

    weft_log_set_clock(ticking);
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        later_by_ms = times[i];
        weft_log_info("x");
    }
}

Test(log_format, each_second_is_looked_up_anew)
{
    cr_assert_str_eq(logged("%(time:%T.%L)", say_at_times),
                     "12:00:00.250\n12:00:00.257\n12:00:00.999\n12:00:01.000\n12:00:01.250\n12:00:00.250\n13:00:00.250\n");
}

static void say_in_tokyo(void)
{
    setenv("TZ", "JST-9", 1);
    tzset();
    weft_log_info("x");
}

Test(log_format, local_time_and_utc_are_two)
{
    cr_assert_str_eq(logged("%(time:%T %z) %(utc:%T) %(utc)", say_in_tokyo),
                     "21:00:00 +0900 12:00:00 2026-03-01 12:00:00.250\n");
}

static void expect_refused(const char *format, const char *why)
{
    weft_log_sink *sink = NULL;
    weft_error *error = weft_log_sink_new_descriptor(&sink, STDERR_FILENO, (weft_log_sink_options){.format = format});

    cr_assert_not_null(error, "%s", format);
    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    cr_assert(strstr(weft_error_get_message(error), why), "%s", weft_error_get_message(error));
    cr_assert_null(sink);
    weft_error_unref(error);
}

Test(log_format, what_makes_no_sense_is_refused_with_the_place_and_the_reason)
{
    expect_refused("%(time) %(tme)", "\"%(time) %(tme)\" makes no sense at character 9, \"%(tme)\": elements are time, utc");
    expect_refused("100%", "at character 4, \"%\": a percent sign begins %(an element), or %%");
    expect_refused("%s", "at character 1");
    expect_refused("ab %(message", "at character 4");
    expect_refused("%()", "elements are");
    expect_refused("%(level:wide)", "how wide it is");
    expect_refused("%(level:5x)", "how wide it is");
    expect_refused("%(level:-1)", "how wide it is");
    expect_refused("%(field)", "a field needs a name");
    expect_refused("%(field:)", "a field needs a name");
    expect_refused("%(message:5)", "nothing behind a colon");
    expect_refused("%(time:%A %A %A %A %A %A %A %A %A %A %A %A)", "up to 63 characters");
}

/* ---- JSON ---- */

static json_t *parsed(const char *line)
{
    json_error_t error;
    json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &error);

    cr_assert_not_null(object, "%s: %s", error.text, line);
    return object;
}

static const char *string_of(const json_t *object, const char *key)
{
    const char *string = json_string_value(json_object_get(object, key));

    return string ? string : "(none)";
}

Test(log_json, l21_lines_have_log_namespace_level_time_request_and_the_fields)
{
    json_t *object = parsed(logged(WEFT_LOG_JSON, say_hello));

    cr_assert_str_eq(string_of(object, "log"), "hello\nworld");
    cr_assert_str_eq(string_of(object, "namespace"), "app.rooms");
    cr_assert_str_eq(string_of(object, "level"), "WARN");
    cr_assert_float_eq(json_real_value(json_object_get(object, "time")), 1772366400.25, 1e-4);
    cr_assert_str_eq(string_of(object, "request"), "GET-42");
    cr_assert_str_eq(string_of(object, "user_agent"), "curl/8\x1b[31m");
    cr_assert_str_eq(string_of(object, "method"), "GET");
    cr_assert_eq(json_object_size(object), 7);
    json_decref(object);
}

/* Those that Synapse adds for a request. */
static const char *const request_fields[] = {"ip_address", "site_tag", "requester", "authenticated_entity",
                                             "method", "url", "protocol", "user_agent"};

static void say_with_request_fields(void)
{
    weft_context *previous = enter("GET-1");
    weft_context *child = weft_context_new_child(weft_context_current(), "step"), *parent;

    for (size_t i = 0; i < sizeof request_fields / sizeof *request_fields; i++)
        weft_context_set_field(weft_context_current(), request_fields[i], request_fields[i] + 1);
    parent = weft_context_set(child);
    weft_log_info("x");
    weft_context_unref(weft_context_set(parent));
    leave(previous);
}

Test(log_json, l21_the_fields_of_a_request_are_on_the_lines_of_its_children_too)
{
    json_t *object = parsed(logged(WEFT_LOG_JSON, say_with_request_fields));

    cr_assert_str_eq(string_of(object, "request"), "GET-1-step");
    for (size_t i = 0; i < sizeof request_fields / sizeof *request_fields; i++)
        cr_assert_str_eq(string_of(object, request_fields[i]), request_fields[i] + 1);
    json_decref(object);
}

static void say_in_none(void)
{
    weft_log_info("x");
}

Test(log_json, in_no_context_the_request_is_null)
{
    json_t *object = parsed(logged(WEFT_LOG_JSON, say_in_none));

    cr_assert(json_is_null(json_object_get(object, "request")));
    json_decref(object);
}

static void say_what_is_odd(void)
{
    weft_context *previous = enter("GET-\"1\"");

    weft_context_set_field(weft_context_current(), "level", "mine");
    weft_context_set_field(weft_context_current(), "log", "mine");
    weft_context_set_field(weft_context_current(), "a \"key\"", "\xff\xfe\n");
    weft_log_error("\\ \" \x01 \xc3\xbc \xc3 \xed\xa0\x80");
    leave(previous);
}

Test(log_json, is_valid_whatever_is_in_it_and_has_no_key_twice)
{
    json_t *object = parsed(logged(WEFT_LOG_JSON, say_what_is_odd));

    cr_assert_str_eq(string_of(object, "level"), "ERROR");
    cr_assert_str_eq(string_of(object, "request"), "GET-\"1\"");
    cr_assert_str_eq(string_of(object, "a \"key\""), "\xef\xbf\xbd\xef\xbf\xbd\n");
    cr_assert_str_eq(string_of(object, "log"), "\\ \" \x01 \xc3\xbc \xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    json_decref(object);
}

enum { MANY_FIELDS = 100 };

static void say_with_many_fields(void)
{
    weft_context *previous = enter("GET-1");
    char name[20], text[4000];

    memset(text, '\x01', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < MANY_FIELDS; i++) {
        snprintf(name, sizeof name, "field%d", i);
        weft_context_set_field(weft_context_current(), name, i ? "value" : text);
    }
    weft_log_info("%s", text);
    leave(previous);
}

Test(log_json, has_all_fields_and_all_of_a_long_line)
{
    json_t *object = parsed(logged(WEFT_LOG_JSON, say_with_many_fields));

    cr_assert_eq(json_object_size(object), MANY_FIELDS + 5);
    cr_assert_eq(strlen(string_of(object, "log")), 3999);
    cr_assert_eq(strlen(string_of(object, "field0")), 3999);
    json_decref(object);
}

/* ---- levels, and several at once ---- */

Test(log_sink, several_take_each_line_in_their_own_way)
{
    weft_log_sink *text, *json;

    make_folder();
    text = file_sink((weft_log_sink_options){.format = "%(message)", .level = WEFT_LOG_WARN});
    cr_assert_null(weft_log_sink_new_file(&json, moved, (weft_log_sink_options){.format = WEFT_LOG_JSON}));
    weft_log_add_sink(json);
    weft_log_info("one");
    weft_log_warn("two");
    weft_log_sink_free(text);
    weft_log_info("three");
    weft_log_sink_free(json);
    cr_assert_str_eq(contents(path), "two\n");
    cr_assert(strstr(contents(moved), "\"one\"") && strstr(contents(moved), "\"two\""));
    cr_assert(strstr(contents(moved), "\"three\""));
    remove_folder();
}

/* ---- files ---- */

Test(log_file, is_appended_to)
{
    weft_log_sink *sink;

    make_folder();
    for (int i = 0; i < 3; i++) {
        sink = file_sink((weft_log_sink_options){.format = "%(message)", .direct = i == 1});
        weft_log_info("%d", i);
        weft_log_sink_free(sink);
    }
    cr_assert_str_eq(contents(path), "0\n1\n2\n");
    remove_folder();
}

Test(log_file, that_cannot_be_opened_is_an_error)
{
    weft_log_sink *sink = NULL;
    weft_error *error = weft_log_sink_new_file(&sink, "/nowhere/log", (weft_log_sink_options){0});

    cr_assert_not_null(error);
    cr_assert(weft_error_is(error, &WEFT_OS_ERROR));
    cr_assert_str_eq(weft_error_get_message(error), "cannot open the log /nowhere/log: No such file or directory");
    weft_error_unref(error);
    cr_assert_null(sink);
}

static void rotate_between_lines(bool direct)
{
    weft_log_sink *sink;

    make_folder();
    sink = file_sink((weft_log_sink_options){.format = "%(message)", .direct = direct});
    weft_log_info("one");
    cr_assert(weft_log_sink_flush(sink, 20));
    cr_assert_eq(rename(path, moved), 0);
    weft_log_info("two");
    cr_assert(weft_log_sink_flush(sink, 20));
    cr_assert_str_eq(contents(moved), "one\ntwo\n");
    cr_assert_null(weft_log_sink_reopen(sink));
    weft_log_info("three");
    weft_log_sink_free(sink);
    cr_assert_str_eq(contents(moved), "one\ntwo\n");
    cr_assert_str_eq(contents(path), "three\n");
    remove_folder();
}

Test(log_file, that_was_renamed_is_written_until_it_is_reopened)
{
    rotate_between_lines(false);
}

Test(log_file, that_is_written_directly_is_reopened_too)
{
    rotate_between_lines(true);
}

Test(log_file, reopened_before_its_first_line_is_the_new_one)
{
    weft_log_sink *sink;

    make_folder();
    sink = file_sink((weft_log_sink_options){.format = "%(message)"});
    cr_assert_eq(rename(path, moved), 0);
    cr_assert_null(weft_log_sink_reopen(sink));
    cr_assert_null(weft_log_sink_reopen(sink));
    weft_log_info("one");
    weft_log_sink_free(sink);
    cr_assert_str_eq(contents(moved), "");
    cr_assert_str_eq(contents(path), "one\n");
    remove_folder();
}

/* A folder of that name is in the way. */
Test(log_file, that_cannot_be_reopened_stays_the_old_one_and_says_so)
{
    weft_log_sink *sink;
    const char *text;

    make_folder();
    sink = file_sink((weft_log_sink_options){.format = "%(level) %(message)"});
    cr_assert_eq(rename(path, moved), 0);
    cr_assert_eq(mkdir(path, 0700), 0);
    weft_log_reopen();
    weft_log_info("still here");
    weft_log_sink_free(sink);
    text = contents(moved);
    cr_assert_arr_eq(text, "ERROR cannot open the log /tmp/weft-log-", 40, "%s", text);
    cr_assert(strstr(text, "Is a directory; lines still go to the old file\nINFO still here\n"), "%s", text);
    cr_assert_eq(rmdir(path), 0);
    remove_folder();
}

static void stop_running(weft_signal *watcher, int number, void *reactor)
{
    (void)watcher, (void)number;
    weft_reactor_stop(reactor);
}

Test(log_file, is_reopened_on_hangup_however_often_that_was_asked_for, .timeout = 20)
{
    weft_signal after;

    begin();
    weft_signal_init(&after, stop_running, weft_reactor_current());
    weft_signal_start(&after, SIGHUP);
    weft_log_reopen_on_hangup();
    weft_log_reopen_on_hangup();
    raise(SIGHUP);
    weft_reactor_run(weft_reactor_current());
    weft_log_ignore_hangup();
    weft_log_ignore_hangup();
    weft_signal_stop(&after);
    end();
}

/* ---- syslog and the journal ---- */

/* Where a daemon listens, in the folder. */
static int daemon_socket(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", name);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static const char *datagram(int fd, size_t *length)
{
    static char text[100000];
    ssize_t size = recv(fd, text, sizeof text - 1, 0);

    cr_assert_gt(size, 0);
    text[size] = '\0';
    if (length)
        *length = (size_t)size;
    return text;
}

static weft_log_sink *syslog_sink(weft_log_sink_options options)
{
    weft_log_sink *sink;

    options.socket = path;
    cr_assert_null(weft_log_sink_new_syslog(&sink, options));
    weft_log_add_sink(sink);
    return sink;
}

Test(log_syslog, gets_a_datagram_for_each_line_with_its_priority)
{
    weft_log_sink *sink;
    char expected[100];
    int fd;

    make_folder();
    fd = daemon_socket(path);
    weft_log_set_level("", WEFT_LOG_DEBUG);
    sink = syslog_sink((weft_log_sink_options){.ident = "rooms", .facility = LOG_LOCAL3});
    weft_log_error("one\ntwo");
    weft_log_debug("three");
    snprintf(expected, sizeof expected, "<%d>Mar  1 12:00:00 rooms[%d]: one\\x0atwo", LOG_LOCAL3 | LOG_ERR, (int)getpid());
    cr_assert_str_eq(datagram(fd, NULL), expected);
    snprintf(expected, sizeof expected, "<%d>Mar  1 12:00:00 rooms[%d]: three", LOG_LOCAL3 | LOG_DEBUG, (int)getpid());
    cr_assert_str_eq(datagram(fd, NULL), expected);
    weft_log_sink_free(sink);
    close(fd);
    remove_folder();
}

Test(log_syslog, has_the_format_that_is_asked_for_also_json)
{
    weft_log_sink *text, *json;
    int fd;

    make_folder();
    fd = daemon_socket(path);
    text = syslog_sink((weft_log_sink_options){.format = "%(logger): %(message)"});
    weft_logger_info(&rooms, "x");
    cr_assert(strstr(datagram(fd, NULL), "]: app.rooms: x"));
    weft_log_sink_free(text);
    json = syslog_sink((weft_log_sink_options){.format = WEFT_LOG_JSON});
    weft_logger_info(&rooms, "x");
    json_decref(parsed(strstr(datagram(fd, NULL), "]: ") + 3));
    weft_log_sink_free(json);
    close(fd);
    remove_folder();
}

Test(log_syslog, that_is_not_there_is_an_error)
{
    weft_log_sink *sink = NULL;
    weft_error *error = weft_log_sink_new_syslog(&sink, (weft_log_sink_options){.socket = "/nowhere/log"});

    cr_assert_not_null(error);
    cr_assert_str_eq(weft_error_get_message(error),
                     "cannot send the log to syslog at /nowhere/log: No such file or directory");
    weft_error_unref(error);
}

Test(log_syslog, that_was_started_anew_is_found_again_and_what_was_lost_is_told)
{
    weft_log_sink *sink;
    int fd;

    make_folder();
    fd = daemon_socket(path);
    sink = syslog_sink((weft_log_sink_options){0});
    weft_log_info("one");
    cr_assert(strstr(datagram(fd, NULL), ": one"));
    close(fd);
    unlink(path);
    weft_log_warn("lost");
    cr_assert(weft_log_sink_flush(sink, 20));
    cr_assert_eq(weft_log_sink_get_dropped(sink, WEFT_LOG_WARN), 1);
    fd = daemon_socket(path);
    weft_log_info("two");
    cr_assert(strstr(datagram(fd, NULL), ": two"));
    cr_assert(strstr(datagram(fd, NULL), "has dropped lines: 0 DEBUG, 0 INFO, 1 WARN, 0 ERROR"));
    weft_log_sink_free(sink);
    close(fd);
    remove_folder();
}

Test(log_journal, gets_the_fields_of_the_line_and_of_its_context)
{
    char expected[500];
    weft_log_sink *sink;
    const char *got;
    size_t length, message = strlen("MESSAGE\n") + 8;
    int fd;

    make_folder();
    fd = daemon_socket(path);
    cr_assert_null(weft_log_sink_new_journal(&sink, (weft_log_sink_options){.ident = "rooms", .socket = path}));
    weft_log_add_sink(sink);
    say_hello();
    got = datagram(fd, &length);
    cr_assert_arr_eq(got, "MESSAGE\n\x0b\0\0\0\0\0\0\0hello\nworld\n", message + 12,
                     "what has several lines has its length");
    snprintf(expected, sizeof expected,
             "PRIORITY=4\nSYSLOG_IDENTIFIER=rooms\nLOGGER=app.rooms\nCODE_FILE=%s\nCODE_LINE=%d\nCODE_FUNC=say_hello\n"
             "REQUEST=GET-42\n", __FILE__, said_in);
    cr_assert_arr_eq(got + message + 12, expected, strlen(expected), "%s", got + message + 12);
    cr_assert(strstr(got + message, "\nUSER_AGENT=curl/8\x1b[31m\n"));
    cr_assert(strstr(got + message, "\nMETHOD=GET\n"));
    cr_assert_eq(got[length - 1], '\n');
    weft_log_sink_free(sink);
    close(fd);
    remove_folder();
}

Test(log_journal, names_are_as_it_wants_them)
{
    weft_context *previous;
    weft_log_sink *sink;
    const char *got;
    char longest[100];
    int fd;

    make_folder();
    fd = daemon_socket(path);
    cr_assert_null(weft_log_sink_new_journal(&sink, (weft_log_sink_options){.socket = path}));
    weft_log_add_sink(sink);
    previous = enter("x");
    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    weft_context_set_field(weft_context_current(), "x-forwarded.for", "a");
    weft_context_set_field(weft_context_current(), "_trusted", "b");
    weft_context_set_field(weft_context_current(), "1st", "c");
    weft_context_set_field(weft_context_current(), longest, "d");
    weft_log_info("y");
    leave(previous);
    got = datagram(fd, NULL);
    cr_assert_arr_eq(got, "MESSAGE=y\nPRIORITY=6\n", 21);
    cr_assert(strstr(got, "\nX_FORWARDED_FOR=a\n"));
    cr_assert(strstr(got, "\nF_TRUSTED=b\n"));
    cr_assert(strstr(got, "\nF1ST=c\n"));
    cr_assert(strstr(got, "\nNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNN=d\n"), "%s", got);
    weft_log_sink_free(sink);
    close(fd);
    remove_folder();
}

Test(log_journal, that_is_not_there_is_an_error)
{
    weft_log_sink *sink = NULL;
    weft_error *error = weft_log_sink_new_journal(&sink, (weft_log_sink_options){.socket = "/nowhere/socket"});

    cr_assert_not_null(error);
    cr_assert(strstr(weft_error_get_message(error), "cannot send the log to the journal at /nowhere/socket: No such"));
    weft_error_unref(error);
}

/* ---- memory ---- */

#ifndef WEFT_TEST_SANITIZED
static void log_lines(weft_log_level level, int count)
{
    for (int i = 0; i < count; i++)
        weft_logger_log(&rooms, level, "line %d of %s", i, "many");
}

/* How often this thread asks for memory for so many lines, in a context with fields, when the first have been made. */
static unsigned long allocations_for(weft_log_level level, int count)
{
    weft_context *previous = enter("GET-1");
    unsigned long before;

    weft_context_set_field(weft_context_current(), "user_agent", "curl");
    log_lines(level, 3);
    before = allocations_made();
    log_lines(level, count);
    before = allocations_made() - before;
    leave(previous);
    return before;
}

Test(log_memory, the_count_of_allocations_counts)
{
    unsigned long before = allocations_made();

    weft_free(weft_alloc(10));
    weft_free(weft_alloc_zeroed(10));
    weft_free(weft_realloc(NULL, 10));
    cr_assert_eq(allocations_made() - before, 3);
}

Test(log_memory, a_line_that_is_not_made_allocates_nothing)
{
    unsigned long before = allocations_made();

    log_lines(WEFT_LOG_DEBUG, 1000); /* the logger's first use among them */
    cr_assert_eq(allocations_made() - before, 0);
}

Test(log_memory, a_line_of_text_allocates_nothing_and_one_of_json_neither)
{
    static const char *const formats[] = {WEFT_LOG_FORMAT_SHORT, WEFT_LOG_FORMAT_LONG, WEFT_LOG_JSON};

    for (int i = 0; i < 6; i++) {
        weft_log_sink *sink;

        make_folder();
        sink = file_sink((weft_log_sink_options){.format = formats[i / 2], .direct = i % 2});
        cr_assert_eq(allocations_for(WEFT_LOG_WARN, 1000), 0, "%s", formats[i / 2]);
        weft_log_sink_free(sink);
        remove_folder();
    }
}
#endif

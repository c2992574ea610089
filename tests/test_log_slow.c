/* Sinks that nobody reads, or that are read late: whoever logs goes on, what is shed is told, and what is held is written
 * before the process ends. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* More than a pipe and the smallest buffer hold together, twice over. */
enum { LINES = 20000, BUFFER = 256 * 1024 };

static weft_log_sink *sink_on(int fd, weft_log_sink_options options)
{
    weft_log_sink *sink;

    options.buffer = BUFFER;
    if (!options.format)
        options.format = "%(level) %(message)";
    cr_assert_null(weft_log_sink_new_descriptor(&sink, fd, options));
    weft_log_add_sink(sink);
    return sink;
}

static void make_pipe(int ends[2])
{
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
}

static void log_numbers(weft_log_level level, int from, int to)
{
    for (int i = from; i < to; i++)
        weft_log(level, "%06d xxxxxxxxxxxxxxxxxxxxxxxxxx", i);
}

/* ---- reading ---- */

static char *text;
static size_t text_length;

static bool read_some(int fd)
{
    ssize_t length;

    text = realloc(text, text_length + 65536 + 1);
    length = read(fd, text + text_length, 65536);
    if (length <= 0)
        return false;
    text_length += (size_t)length;
    text[text_length] = '\0';
    return true;
}

/* Reads until `part` has come. */
static void read_until(int fd, const char *part)
{
    while (!text || !strstr(text, part))
        cr_assert(read_some(fd), "the log ended before \"%s\"", part);
}

static void read_to_end(int fd)
{
    while (read_some(fd))
        ;
}

static void forget_text(void)
{
    free(text);
    text = NULL;
    text_length = 0;
}

/* Lines of a level, which must be in their order, and whole. */
static int lines_of(const char *level)
{
    int count = 0, last = -1, number;

    for (char *line = text, *end; *line; line = end + 1) {
        char name[10], rest[100];

        end = strchr(line, '\n');
        cr_assert_not_null(end, "half a line: %s", line);
        if (sscanf(line, "%9s %6d %40[x]\n", name, &number, rest) != 3 || strcmp(name, level) != 0)
            continue;
        cr_assert_eq(strlen(rest), 26, "%.200s", line > text + 60 ? line - 60 : line);
        cr_assert_gt(number, last);
        last = number;
        count++;
    }
    return count;
}

static int lines_until_gap(const char *level)
{
    char expected[20];
    int count = 0;

    for (;; count++) {
        snprintf(expected, sizeof expected, "%s %06d ", level, count);
        if (!strstr(text, expected))
            return count;
    }
}

/* Reads all that the sink has, and frees it: nothing is shed any more. */
static void end(weft_log_sink *sink, int ends[2])
{
    weft_log_error("the end");
    read_until(ends[0], "ERROR the end\n");
    weft_log_sink_free(sink);
    close(ends[1]);
    read_to_end(ends[0]);
    close(ends[0]);
}

/* ---- what was true ---- */

/* It lies in the queue, behind more than the pipe and a piece for it hold, while its context changes and goes. */
Test(log_slow, l21_a_line_that_is_written_later_has_what_was_true_when_it_was_made)
{
    weft_context *previous;
    weft_log_sink *sink;
    int ends[2];

    make_pipe(ends);
    sink = sink_on(ends[1], (weft_log_sink_options){.format = "%(request) %(field:requester) %(level) %(message)"});
    log_numbers(WEFT_LOG_WARN, 0, 4500);
    previous = enter("GET-1");
    weft_context_set_field(weft_context_current(), "requester", "@ann");
    weft_log_warn("made");
    weft_context_set_field(weft_context_current(), "request", "GET-2");
    weft_context_set_field(weft_context_current(), "requester", "@bob");
    leave(previous);
    end(sink, ends);
    cr_assert(strstr(text, "\nGET-1 @ann WARN made\n"), "%s", text + text_length - 200);
    cr_assert_not(strstr(text, "too slow"), "it was in the queue");
    forget_text();
}

/* ---- shedding ---- */

/* All that was dropped is told, in one line or in several: the thread may not have run until the first was shed. */
static void expect_told(int debug, int info, int warn)
{
    static const char beginning[] = "this log was too slow, and has dropped lines: ";
    int all[3] = {0}, part[3];

    for (const char *line = text; (line = strstr(line, beginning)); line++) {
        cr_assert_eq(sscanf(line + strlen(beginning), "%d DEBUG, %d INFO, %d WARN, 0 ERROR", &part[0], &part[1],
                            &part[2]), 3);
        for (int i = 0; i < 3; i++)
            all[i] += part[i];
    }
    cr_assert_eq(all[0], debug);
    cr_assert_eq(all[1], info);
    cr_assert_eq(all[2], warn);
    cr_assert_gt(debug + info + warn, 0);
}

Test(log_slow, whoever_logs_to_a_pipe_that_nobody_reads_goes_on_and_warnings_stay)
{
    weft_log_sink *sink;
    int ends[2];

    make_pipe(ends);
    weft_log_set_level("", WEFT_LOG_DEBUG);
    sink = sink_on(ends[1], (weft_log_sink_options){0});
    for (int i = 0; i < 200; i++) {
        log_numbers(WEFT_LOG_WARN, i, i + 1);
        log_numbers(WEFT_LOG_DEBUG, i * LINES / 200, (i + 1) * LINES / 200);
        log_numbers(WEFT_LOG_INFO, i, i + 1);
    }
    end(sink, ends);
    cr_assert_eq(lines_of("WARN"), 200);
    cr_assert_eq(lines_of("INFO"), 200);
    cr_assert_lt(lines_of("DEBUG"), LINES);
    expect_told(LINES - lines_of("DEBUG"), 0, 0);
    forget_text();
}

Test(log_slow, info_goes_before_any_warning)
{
    weft_log_sink *sink;
    int ends[2];

    make_pipe(ends);
    sink = sink_on(ends[1], (weft_log_sink_options){0});
    for (int i = 0; i < 200; i++) {
        log_numbers(WEFT_LOG_WARN, i, i + 1);
        log_numbers(WEFT_LOG_INFO, i * LINES / 200, (i + 1) * LINES / 200);
    }
    end(sink, ends);
    cr_assert_eq(lines_of("WARN"), 200);
    cr_assert_lt(lines_of("INFO"), LINES);
    expect_told(0, LINES - lines_of("INFO"), 0);
    forget_text();
}

Test(log_slow, of_warnings_alone_the_oldest_and_the_newest_stay)
{
    char newest[30];
    weft_log_sink *sink;
    int ends[2];

    make_pipe(ends);
    sink = sink_on(ends[1], (weft_log_sink_options){0});
    log_numbers(WEFT_LOG_WARN, 0, LINES);
    end(sink, ends);
    cr_assert_gt(lines_until_gap("WARN"), 2000);
    cr_assert_lt(lines_until_gap("WARN"), LINES);
    snprintf(newest, sizeof newest, "WARN %06d ", LINES - 1);
    cr_assert(strstr(text, newest));
    expect_told(0, 0, LINES - lines_of("WARN"));
    forget_text();
}

/* ---- what nobody ever reads ---- */

static void log_for_nobody(int fd)
{
    weft_log_sink *sink = sink_on(fd, (weft_log_sink_options){0});

    log_numbers(WEFT_LOG_WARN, 0, LINES);
    cr_assert_not(weft_log_sink_flush(sink, 0.01));
    weft_log_sink_free(sink);
}

Test(log_slow, a_sink_on_a_pipe_that_nobody_reads_can_be_freed, .timeout = 60)
{
    int ends[2];

    make_pipe(ends);
    log_for_nobody(ends[1]);
    cr_assert_eq(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0, "the pipe's mode is not ours to change");
    close(ends[0]), close(ends[1]);
}

Test(log_slow, a_sink_on_a_socket_that_nobody_reads_can_be_freed, .timeout = 60)
{
    int ends[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    log_for_nobody(ends[1]);
    close(ends[0]), close(ends[1]);
}

Test(log_slow, a_sink_on_a_terminal_that_nobody_reads_can_be_freed, .timeout = 60)
{
    int master, terminal;

    cr_assert_eq(openpty(&master, &terminal, NULL, NULL, NULL), 0);
    log_for_nobody(terminal);
    close(master), close(terminal);
}

Test(log_slow, lines_for_a_reader_who_has_gone_are_counted_as_dropped)
{
    weft_log_sink *sink;
    int ends[2];

    signal(SIGPIPE, SIG_DFL);
    make_pipe(ends);
    sink = sink_on(ends[1], (weft_log_sink_options){0});
    close(ends[0]);
    log_numbers(WEFT_LOG_INFO, 0, 10);
    cr_assert(weft_log_sink_flush(sink, 20));
    cr_assert_eq(weft_log_sink_get_dropped(sink, WEFT_LOG_INFO), 10);
    weft_log_sink_free(sink);
    close(ends[1]);
}

static void *read_away(void *fd)
{
    char bytes[4096];

    while (read(*(int *)fd, bytes, sizeof bytes) > 0)
        continue;
    return NULL;
}

Test(log_slow, a_flush_may_wait_without_end)
{
    weft_log_sink *sink;
    pthread_t reader;
    int ends[2];

    make_pipe(ends);
    sink = sink_on(ends[1], (weft_log_sink_options){0});
    close(ends[1]);
    log_numbers(WEFT_LOG_WARN, 0, LINES);
    cr_assert_not(weft_log_sink_flush(sink, -1e300));
    cr_assert_eq(pthread_create(&reader, NULL, read_away, ends), 0);
    cr_assert(weft_log_sink_flush(sink, INFINITY));
    weft_log_sink_free(sink);
    pthread_join(reader, NULL);
    close(ends[0]);
}

Test(log_slow, lines_go_out_by_themselves)
{
    weft_log_sink *sink;
    int ends[2];

    make_pipe(ends);
    sink = sink_on(ends[1], (weft_log_sink_options){0});
    for (int i = 0; i < 1000; i++) {
        char line[30];

        snprintf(line, sizeof line, "INFO %06d ", i);
        log_numbers(WEFT_LOG_INFO, i, i + 1);
        read_until(ends[0], line);
        forget_text();
    }
    weft_log_sink_free(sink);
    close(ends[0]), close(ends[1]);
}

/* ---- threads ---- */

enum { THREADS = 3, EACH = 3000 };

static void *log_much(void *level)
{
    log_numbers(*(weft_log_level *)level, 0, EACH);
    return NULL;
}

/* They log while another sink comes and goes. */
Test(log_slow, several_threads_lose_nothing_that_is_not_counted)
{
    static weft_log_level levels[THREADS] = {WEFT_LOG_INFO, WEFT_LOG_WARN, WEFT_LOG_ERROR};
    pthread_t threads[THREADS];
    weft_log_sink *sink, *other;
    int ends[2], null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    make_pipe(ends);
    sink = sink_on(ends[1], (weft_log_sink_options){0});
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, log_much, &levels[i]), 0);
    for (int i = 0; i < 20; i++) {
        other = sink_on(null, (weft_log_sink_options){.format = WEFT_LOG_JSON});
        weft_log_sink_free(other);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    weft_log_info("end");
    read_until(ends[0], "INFO end\n");
    weft_log_sink_free(sink);
    close(ends[1]);
    read_to_end(ends[0]);
    cr_assert_leq(lines_of("INFO"), EACH);
    cr_assert_eq(lines_of("ERROR") <= EACH && lines_of("WARN") <= EACH, 1);
    cr_assert_eq(lines_of("INFO") + lines_of("WARN") + lines_of("ERROR") == THREADS * EACH, !strstr(text, "this log"));
    close(ends[0]), close(null);
    forget_text();
}

/* ---- ends of processes ---- */

/* A child that logs `lines` lines into the pipe and then leaves; its status. */
static int log_in_child(int ends[2], int lines, void (*leave_by)(void), bool read)
{
    pid_t child;
    int status;

    make_pipe(ends);
    fflush(NULL);
    child = fork();
    if (!child) {
        alarm(60);
        close(ends[0]);
        sink_on(ends[1], (weft_log_sink_options){0});
        log_numbers(WEFT_LOG_WARN, 0, lines);
        leave_by();
    }
    close(ends[1]);
    if (read)
        read_to_end(ends[0]);
    cr_assert_eq(waitpid(child, &status, 0), child);
    close(ends[0]);
    return status;
}

static void leave_by_exit(void)
{
    exit(3);
}

/* As many as the buffer holds, and the pipe does not. */
enum { HELD = 5000 };

Test(log_end, what_is_held_is_written_when_the_program_exits)
{
    int ends[2], status = log_in_child(ends, HELD, leave_by_exit, true);

    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 3, "status %#x", status);
    cr_assert_eq(lines_of("WARN"), HELD);
    forget_text();
}

Test(log_end, an_exit_does_not_wait_for_ever_for_a_reader, .timeout = 60)
{
    int ends[2], status = log_in_child(ends, LINES, leave_by_exit, false);

    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 3, "status %#x", status);
}

#ifndef WEFT_TEST_SANITIZED /* which hear of an abort first */
static void leave_by_abort(void)
{
    abort();
}

Test(log_end, what_is_held_is_written_before_an_abort)
{
    int ends[2], status = log_in_child(ends, HELD, leave_by_abort, true);

    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %#x", status);
    cr_assert_eq(lines_of("WARN"), HELD);
    forget_text();
}

Test(log_end, an_abort_does_not_wait_for_ever_for_a_reader, .timeout = 60)
{
    int ends[2], status = log_in_child(ends, LINES, leave_by_abort, false);

    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %#x", status);
}
#endif

static void nothing(int number)
{
    (void)number;
}

Test(log_end, a_handler_of_the_program_for_aborts_stays)
{
    struct sigaction present;
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    signal(SIGABRT, nothing);
    weft_log_sink_free(sink_on(null, (weft_log_sink_options){0}));
    sigaction(SIGABRT, NULL, &present);
    cr_assert_eq(present.sa_handler, nothing);
    close(null);
}

/* ---- forks ---- */

#ifndef WEFT_TEST_SAN_thread /* under which a child may not start threads */
/* What the parent holds when it forks is written once, by the parent; what the child logs by a thread of the child's. */
Test(log_fork, each_line_of_parent_and_child_is_written_once)
{
    weft_log_sink *sink;
    int ends[2], status;
    pid_t child;

    make_pipe(ends);
    sink = sink_on(ends[1], (weft_log_sink_options){0});
    log_numbers(WEFT_LOG_INFO, 0, HELD);
    fflush(NULL);
    child = fork();
    if (!child) {
        alarm(60);
        close(ends[0]);
        log_numbers(WEFT_LOG_WARN, 0, 100);
        _exit(weft_log_sink_flush(sink, 60) ? 0 : 1);
    }
    log_numbers(WEFT_LOG_ERROR, 0, 100);
    close(ends[1]);
    weft_log_info("end");
    read_until(ends[0], "INFO end\n");
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    weft_log_sink_free(sink);
    read_to_end(ends[0]);
    cr_assert_eq(lines_of("INFO"), HELD);
    cr_assert_eq(lines_of("WARN"), 100);
    cr_assert_eq(lines_of("ERROR"), 100);
    close(ends[0]);
    forget_text();
}
#endif

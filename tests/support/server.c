/* A started program and what it writes.
 *
 * Output goes to an unlinked temporary file rather than to a pipe: a pipe that nobody reads for a while fills up and
 * stops the program under test. The file's inotify watch, and a pipe whose other end only the program holds, make "it
 * wrote something" and "it has ended" two things that one poll() waits for; Valgrind knows no pidfd. Servers and tools
 * are the same thing, a program; a server has a port. */
#define _GNU_SOURCE /* mkostemp, pipe2 */
#include "tests/support/server.h"

#include "tests/support/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <regex.h>
#include <signal.h>
#include <stdarg.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- deadlines ---- */

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

double deadline_new(void)
{
    return now() + PATIENCE;
}

int deadline_left_ms(double deadline)
{
    double left = deadline - now();

    return left > 0 ? (int)(left * 1000) + 1 : 0;
}

/* ---- a program ---- */

struct program {
    const char *name;
    pid_t pid;
    int exited;  /* the end of a pipe: readable when the program has ended */
    int output;  /* the file that it writes to */
    int written; /* the inotify watch of that file */
    char *text;  /* what was read of it: whole lines each end with NUL instead of '\n' */
    size_t size; /* bytes in `text`, a NUL behind them not counted */
    size_t lines_end; /* bytes of `text` that are whole lines */
};

static int open_output(int *written)
{
    char path[] = "/tmp/weft-test-XXXXXX";
    int output = mkostemp(path, O_CLOEXEC | O_APPEND);

    cr_assert_geq(output, 0, "no temporary file: %s", strerror(errno));
    *written = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    cr_assert_geq(*written, 0, "no inotify: %s", strerror(errno));
    cr_assert_geq(inotify_add_watch(*written, path, IN_MODIFY), 0, "no watch: %s", strerror(errno));
    unlink(path);
    return output;
}

/* In the child: becomes the program, with nothing of the test's but its environment and `held`, which ends with it. */
static void become(const char *path, const char *const *arguments, int output, int held, pid_t parent)
{
    sigset_t none;
    int empty = open("/dev/null", O_RDONLY);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    dup2(empty, 0);
    dup2(output, 1);
    dup2(output, 2);
    close(empty);
    fcntl(held, F_SETFD, 0);
    execvp(path, (char *const *)arguments);
    dprintf(2, "cannot run %s: %s\n", path, strerror(errno));
    _exit(127);
}

static void program_start(struct program *program, const char *path, const char *const *arguments)
{
    pid_t parent = getpid();
    int ends[2];

    program->name = arguments[0];
    program->output = open_output(&program->written);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0, "no pipe: %s", strerror(errno));
    program->pid = fork();
    cr_assert_geq(program->pid, 0, "no process: %s", strerror(errno));
    if (!program->pid)
        become(path, arguments, program->output, ends[1], parent);
    close(ends[1]);
    program->exited = ends[0];
}

static void program_deinit(struct program *program)
{
    close(program->exited);
    close(program->output);
    close(program->written);
    free(program->text);
}

/* Waits until it has ended. */
static bool program_has_ended(const struct program *program, int wait_ms)
{
    struct pollfd ended = {.fd = program->exited, .events = POLLIN};

    return poll(&ended, 1, wait_ms) > 0;
}

static int program_reap(struct program *program)
{
    int status;

    cr_assert(program_has_ended(program, PATIENCE * 1000), "%s does not end", program->name);
    while (waitpid(program->pid, &status, 0) < 0)
        cr_assert_eq(errno, EINTR, "waitpid: %s", strerror(errno));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- its output ---- */

/* Reads what has been written since the last time; whether it was anything. */
static bool program_read(struct program *program)
{
    char piece[65536];
    char *line_end;
    size_t before = program->size;
    ssize_t got;

    while ((got = pread(program->output, piece, sizeof piece, (off_t)program->size)) > 0) {
        program->text = realloc(program->text, program->size + (size_t)got + 1);
        memcpy(program->text + program->size, piece, (size_t)got);
        program->size += (size_t)got;
        program->text[program->size] = '\0';
    }
    while (program->size > program->lines_end &&
           (line_end = memchr(program->text + program->lines_end, '\n', program->size - program->lines_end))) {
        *line_end = '\0';
        program->lines_end = (size_t)(line_end - program->text) + 1;
    }
    return program->size > before;
}

/* A copy of its last bytes, at most `limit`, as they were written; the caller's. */
static char *program_tail(const struct program *program, size_t limit)
{
    size_t start = program->size > limit ? program->size - limit : 0;
    char *tail = calloc(program->size - start + 1, 1);
    size_t i;

    for (i = start; i < program->size; i++)
        tail[i - start] = program->text[i] ? program->text[i] : '\n';
    return tail;
}

/* Until something more was written, it ended, or the deadline has passed; false in the last two cases. */
static bool program_wait_for_more(struct program *program, double deadline)
{
    struct pollfd either[] = {{.fd = program->written, .events = POLLIN},
                              {.fd = program->exited, .events = POLLIN}};
    char events[4096];

    while (!program_read(program)) {
        if (poll(either, 2, deadline_left_ms(deadline)) <= 0)
            return false;
        if (either[1].revents)
            return program_read(program);
        if (read(program->written, events, sizeof events) < 0)
            cr_assert_eq(errno, EAGAIN, "inotify: %s", strerror(errno));
    }
    return true;
}

/* Lines found by a pattern: the search goes on where it stopped, so waiting for many lines reads each once. */
struct search {
    regex_t regex;
    size_t position; /* in the program's text */
};

static void search_init(struct search *search, const char *pattern, size_t position)
{
    char why[256];
    int error = regcomp(&search->regex, pattern, REG_EXTENDED | REG_NOSUB);

    if (error) {
        regerror(error, &search->regex, why, sizeof why);
        cr_assert_fail("the pattern %s: %s", pattern, why);
    }
    search->position = position;
}

/* The next line that matches, of those that have been read; NULL when there is none. */
static const char *search_next(struct search *search, const struct program *program)
{
    while (search->position < program->lines_end) {
        const char *line = program->text + search->position;

        search->position += strlen(line) + 1;
        if (!regexec(&search->regex, line, 0, NULL, 0))
            return line;
    }
    return NULL;
}

/* Looks from `*position` on, and leaves it behind the last of the lines, which is returned. */
static const char *program_wait_for_lines(struct program *program, size_t *position, size_t count,
                                          const char *pattern)
{
    double deadline = deadline_new();
    const char *line = NULL;
    struct search search;
    size_t found = 0;

    search_init(&search, pattern, *position);
    program_read(program);
    while (found < count) {
        if ((line = search_next(&search, program)))
            found++;
        else if (!program_wait_for_more(program, deadline))
            cr_assert_fail("%zu lines of %s, not %zu, match %s; the last are\n%s", found, program->name, count,
                           pattern, program_tail(program, 4096));
    }
    *position = search.position;
    regfree(&search.regex);
    return line;
}

/* ---- servers ---- */

struct server {
    struct program program;
    int port;
};

struct server *server_run_with(const char *const *arguments)
{
    struct server *server = calloc(1, sizeof *server);
    const char *folder = getenv("WEFT_BUILD_DIR");
    char path[PATH_MAX];

    cr_assert_not_null(folder, "WEFT_BUILD_DIR is not set: run the tests by make test, or tests/support/run");
    snprintf(path, sizeof path, "%s/%s", folder, arguments[0]);
    program_start(&server->program, path, arguments);
    return server;
}

struct server *server_start_with(const char *const *arguments)
{
    struct server *server = server_run_with(arguments);
    const char *line;

    line = wait_for_log_line(server, "listening on http://.*:[0-9]+");
    server->port = atoi(strrchr(line, ':') + 1);
    cr_assert_gt(server->port, 0, "no port in: %s", line);
    return server;
}

void server_signal(struct server *server, int number)
{
    cr_assert_eq(kill(server->program.pid, number), 0, "kill: %s", strerror(errno));
}

void server_expect_exit(struct server *server, int status)
{
    int exited = program_reap(&server->program);

    program_read(&server->program);
    if (exited != status)
        cr_assert_fail("%s exited with %d, not %d; its last lines are\n%s", server->program.name, exited, status,
                       program_tail(&server->program, 4096));
    program_deinit(&server->program);
    free(server);
}

void server_stop(struct server *server)
{
    server_signal(server, SIGTERM);
    server_expect_exit(server, 0);
}

bool descriptors_suffice_for(size_t count)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_max > count + 100;
}

int server_port(const struct server *server)
{
    return server->port;
}

pid_t server_pid(const struct server *server)
{
    return server->program.pid;
}

size_t server_descriptors(const struct server *server)
{
    char path[64];
    size_t count = 0;
    DIR *directory;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)server->program.pid);
    directory = opendir(path);
    cr_assert_not_null(directory, "%s: %s", path, strerror(errno));
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

size_t server_resident_kib(const struct server *server)
{
    size_t all, resident;
    char path[64];
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/statm", (int)server->program.pid);
    file = fopen(path, "re");
    cr_assert_not_null(file, "%s: %s", path, strerror(errno));
    cr_assert_eq(fscanf(file, "%zu %zu", &all, &resident), 2, "%s reads otherwise than expected", path);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE) / 1024;
}

const char *wait_for_log_line(struct server *server, const char *pattern, ...)
{
    size_t position = 0;
    char whole[1024];
    va_list arguments;

    va_start(arguments, pattern);
    vsnprintf(whole, sizeof whole, pattern, arguments);
    va_end(arguments);
    return program_wait_for_lines(&server->program, &position, 1, whole);
}

void wait_for_log_lines(struct server *server, size_t count, const char *pattern)
{
    size_t position = 0;

    program_wait_for_lines(&server->program, &position, count, pattern);
}

void wait_for_log_lines_in_order(struct server *server, const char *const *patterns)
{
    size_t position = 0;

    for (; *patterns; patterns++)
        program_wait_for_lines(&server->program, &position, 1, *patterns);
}

size_t count_log_lines(struct server *server, const char *pattern)
{
    struct search search;
    size_t count = 0;

    program_read(&server->program);
    search_init(&search, pattern, 0);
    while (search_next(&search, &server->program))
        count++;
    regfree(&search.regex);
    return count;
}

/* ---- tools ---- */

struct tool {
    struct program program;
};

struct tool *tool_run_with(const char *const *arguments)
{
    struct tool *tool = calloc(1, sizeof *tool);

    program_start(&tool->program, arguments[0], arguments);
    return tool;
}

void tool_signal(struct tool *tool, int number)
{
    cr_assert_eq(kill(tool->program.pid, number), 0, "kill: %s", strerror(errno));
}

const char *tool_wait_for_output(struct tool *tool, const char *pattern)
{
    size_t position = 0;

    return program_wait_for_lines(&tool->program, &position, 1, pattern);
}

int tool_finish(struct tool *tool, char **output)
{
    int status = program_reap(&tool->program);

    program_read(&tool->program);
    if (output)
        *output = program_tail(&tool->program, SIZE_MAX);
    program_deinit(&tool->program);
    free(tool);
    return status;
}

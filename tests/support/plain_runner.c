/* Runs each test in a forked child, as many at once as there are processors.
 *
 * It stays small and single-threaded on purpose: ThreadSanitizer and Valgrind follow a fork, but not the memory
 * arenas and re-executions by which Criterion isolates its tests. A child leads a process group, so that a test that
 * is out of time dies with the servers it started. */
#include "tests/support/plain_runner.h"

#include <fnmatch.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_JOBS = 64, DEFAULT_TIMEOUT = 60 };

struct job {
    plain_test *test; /* NULL: free */
    pid_t child;
    double started;
    bool timed_out;
};

static plain_test *tests, **tests_end = &tests;
static struct job jobs[MAX_JOBS];
static unsigned tested, passing, failing, crashing;
static bool verbose;

void plain_register(plain_test *test)
{
    *tests_end = test;
    tests_end = &test->next;
}

static void print_message(const char *kind, const char *file, int line, const char *format, va_list arguments)
{
    char message[4096];

    vsnprintf(message, sizeof message, format, arguments);
    fprintf(stderr, "[----] %s:%d: %s%s\n", file, line, kind, message[1] ? message : "");
}

void plain_log(const char *kind, const char *file, int line, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    print_message(kind, file, line, format, arguments);
    va_end(arguments);
}

void plain_fail(const char *file, int line, const char *what, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    print_message(what, file, line, format, arguments);
    va_end(arguments);
    fflush(NULL);
    _exit(1); /* no exit handlers: what the unfinished test still holds is not worth a leak report */
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Sanitizers slow a test down, so tests/support/run stretches its time. */
static double timeout_of(const plain_test *test)
{
    const char *factor = getenv("WEFT_TIMEOUT_FACTOR");

    return (test->timeout > 0 ? test->timeout : DEFAULT_TIMEOUT) * (factor ? atof(factor) : 1);
}

static void start(struct job *job, plain_test *test)
{
    fflush(NULL);
    *job = (struct job){.test = test, .started = now(), .child = fork()};
    if (job->child < 0) {
        perror("fork");
        exit(2);
    }
    if (job->child > 0)
        return;
    setpgid(0, 0);
    if (test->init)
        test->init();
    test->run();
    if (test->fini)
        test->fini();
    exit(0); /* with exit handlers: LeakSanitizer looks for leaks in one, and changes the status */
}

static void finish(struct job *job, int status)
{
    const plain_test *test = job->test;
    bool killed = WIFSIGNALED(status);
    bool passed = !job->timed_out && (killed ? test->signal && WTERMSIG(status) == test->signal
                                             : !test->signal && WEXITSTATUS(status) == test->exit_code);
    const char *how = job->timed_out ? ": out of time" : killed ? ": crashed: " : "";

    kill(-job->child, SIGKILL); /* what it started and did not stop */
    tested++;
    passing += passed;
    failing += !passed;
    crashing += !passed && killed && !job->timed_out;
    if (!passed || verbose)
        fprintf(stderr, "[%s] %s::%s%s%s (%.2fs)\n", passed ? "PASS" : "FAIL", test->suite, test->name,
                passed ? "" : how, !passed && killed && !job->timed_out ? strsignal(WTERMSIG(status)) : "",
                now() - job->started);
    job->test = NULL;
}

/* Waits for one child to end. Polls, as waiting for a child or a deadline at once needs more than it is worth here. */
static void wait_for_one(void)
{
    for (;;) {
        for (struct job *job = jobs; job < jobs + MAX_JOBS; job++) {
            int status;

            if (!job->test)
                continue;
            if (waitpid(job->child, &status, WNOHANG) == job->child) {
                finish(job, status);
                return;
            }
            if (!job->timed_out && now() - job->started > timeout_of(job->test)) {
                job->timed_out = true;
                kill(-job->child, SIGKILL);
            }
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static bool matches(const plain_test *test, const char *filter)
{
    char name[512];

    snprintf(name, sizeof name, "%s/%s", test->suite, test->name);
    /* FNM_EXTMATCH: the patterns that Criterion knows. */
    return !test->disabled && (!filter || !fnmatch(filter, name, FNM_EXTMATCH));
}

int main(int argc, char **argv)
{
    const char *filter = NULL;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int limit = processors > 0 && processors < MAX_JOBS ? (int)processors : 1, running = 0;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--filter") && i + 1 < argc)
            filter = argv[++i];
        else if (!strcmp(argv[i], "--verbose"))
            verbose = true;
        else {
            fprintf(stderr, "usage: %s [--filter 'suite/name*'] [--verbose]\n", argv[0]);
            return 2;
        }
    }
    for (plain_test *test = tests; test; test = test->next) {
        struct job *free_job = jobs;

        if (!matches(test, filter))
            continue;
        if (running == limit) {
            wait_for_one();
            running--;
        }
        while (free_job->test)
            free_job++;
        start(free_job, test);
        running++;
    }
    for (; running; running--)
        wait_for_one();
    fprintf(stderr, "[====] Synthesis: Tested: %u | Passing: %u | Failing: %u | Crashing: %u\n", tested, passing,
            failing - crashing, crashing);
    if (!tested)
        fprintf(stderr, "FAILED: no test has a name that was asked for, such as suite/name\n");
    return failing || !tested;
}

/* docs/gdb/weft-gdb.py, in gdb, on a program that runs and on core files of it: the kernel's, and the one that it writes
 * itself.
 *
 * Attaching needs ptrace. Where that is forbidden, the tests on a live process say so and prove nothing; the one on the
 * kernel's core file does without. */
#include "tests/support/server.h"
#include "tests/support/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Core files of sanitizers hold terabytes of shadow, and Valgrind's program is another. */
#ifndef WEFT_TEST_SANITIZED

#define SCRIPT "docs/gdb/weft-gdb.py"

static struct server *start(void)
{
    struct server *server = server_run("serve_fibers");

    wait_for_log_line(server, "^parked$");
    return server;
}

/* The parts have to come one behind the other. */
static void expect_in_order(const char *text, const char *const *parts)
{
    const char *at = text;

    for (; *parts; parts++) {
        const char *found = strstr(at, *parts);

        cr_assert_not_null(found, "\"%s\" is not in, or not in its place in:\n%s", *parts, text);
        at = found + strlen(*parts);
    }
}

#define expect(text, ...) expect_in_order(text, (const char *const[]){__VA_ARGS__, NULL})

/* What gdb says, which the caller frees, to these commands; the first two arguments are what it looks at. */
static char *gdb(const char *first, const char *second, const char *const *commands)
{
    const char *arguments[64] = {"gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", first, second, "-x", SCRIPT};
    size_t count = 9;
    char *output;

    for (; *commands; commands++) {
        cr_assert_lt(count + 2, sizeof arguments / sizeof arguments[0]);
        arguments[count++] = "-ex";
        arguments[count++] = *commands;
    }
    cr_assert_leq(tool_finish(tool_run_with(arguments), &output), 1, "%s", output); /* 1: the last command has failed */
    return output;
}

#define gdb_on_core(core, ...)                                                                                      \
    gdb(weft_test_program("serve_fibers"), core, (const char *const[]){__VA_ARGS__, NULL})

/* NULL where this system does not let one process look into another. */
static char *gdb_on_process(const struct server *server, const char *const *commands)
{
    char pid[16];
    char *output;

    snprintf(pid, sizeof pid, "%d", (int)server_pid(server));
    output = gdb("-p", pid, commands);
    if (!strstr(output, "ptrace: "))
        return output;
    fprintf(stderr, "NOT TESTED: this system forbids ptrace, so gdb cannot look at a live process:\n%s\n", output);
    free(output);
    return NULL;
}

static const char *const all[] = {"weft fibers", "weft bt all", NULL};

static void expect_fibers(const char *output)
{
    expect(output, "3 fibers\n", "  1 reader: waiting for ", " s, at tests/integration/serve_fibers.c:",
           " wait_innermost, context GET-17\n", "waits for the deferred made at tests/integration/serve_fibers.c:",
           " main\n", "  2 sleeper: waiting for ", " sleeper, context timer\n", "  3 step: waiting for ", " main, context -\n");
}

static void expect_backtraces(const char *output)
{
    expect(output, "\nFiber 1 reader: waiting for ", " weft_await_at (", " in wait_innermost (depth=42)",
           " in wait_in_the_middle (depth=41)", " in reader (", "\nFiber 2 sleeper: ", " in weft_sleep_at (seconds=1000",
           "\nFiber 3 step: ", "It is a driven computation");
}

Test(gdb, lists_the_fibers_of_a_live_process_and_their_backtraces, .timeout = 120)
{
    struct server *server = start();
    char *output = gdb_on_process(server, all);

    if (output) {
        expect_fibers(output);
        expect_backtraces(output);
        cr_assert_null(strstr(output, "epoll_wait (epfd=3, events=0\n"), "the thread's own frame is in a fiber's backtrace");
        free(output);
    }
    server_stop(server); /* it has gone on where it was */
}

Test(gdb, goes_to_a_fiber_and_its_frames_and_back, .timeout = 120)
{
    const char *const commands[] = {"weft fiber 1", "weft fibers", "frame function wait_in_the_middle", "info args",
                                    "weft fiber 0", NULL};
    struct server *server = start();
    char *output = gdb_on_process(server, commands);

    if (output) {
        expect(output, "Fiber 1 reader: waiting for ", "runtime/fiber/", "* 1 reader: ", "  2 sleeper: ",
               " in wait_in_the_middle (depth=41)", "depth = 41", "epoll_wait (");
        free(output);
    }
    server_stop(server);
}

Test(gdb, lists_the_fibers_of_every_thread, .timeout = 120)
{
    const char *const commands[] = {"thread 2", "weft fibers", "weft bt 1", "thread 1", "weft fibers", NULL};
    struct server *server = start();
    char *output = gdb_on_process(server, commands);

    if (output) {
        expect(output, "\n1 fiber\n", "  1 other_thread_reader: waiting for ", "\nFiber 1 other_thread_reader",
               " weft_await_at (", " in other_thread_reader (", "3 fibers\n", "  1 reader: ");
        free(output);
    }
    server_stop(server);
}

Test(gdb, says_which_fibers_it_cannot_go_to, .timeout = 120)
{
    static const struct {
        const char *command, *answer;
    } refused[] = {{"weft fiber 3", "3 step is a driven computation: it has no stack of its own."},
                   {"weft fiber 77", "This thread has no fiber 77."},
                   {"weft bt 77", "This thread has no fiber 77."},
                   {"weft fiber x", "Which fiber?"},
                   {"weft core", "To which file?"}};
    struct server *server = start();

    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char *output = gdb_on_process(server, (const char *const[]){refused[i].command, NULL});

        if (output)
            expect(output, refused[i].answer);
        free(output);
    }
    server_stop(server);
}

/* In which a core file is written, and which goes with it. */
static void make_folder(char *folder)
{
    cr_assert_not_null(mkdtemp(folder));
}

static void remove_folder(const char *folder, const char *core)
{
    unlink(core);
    cr_assert_eq(rmdir(folder), 0);
}

Test(gdb, reads_the_core_file_that_it_writes_of_a_live_process, .timeout = 120)
{
    char folder[] = "/tmp/weft-gdb-XXXXXX", core[64], command[128];
    struct server *server = start();
    char *output;

    make_folder(folder);
    snprintf(core, sizeof core, "%s/core", folder);
    snprintf(command, sizeof command, "weft core %s", core);
    output = gdb_on_process(server, (const char *const[]){command, NULL});
    server_stop(server);
    if (output) {
        expect(output, "with the stacks of fibers");
        free(output);
        output = gdb_on_core(core, "thread apply all weft fibers", "thread apply all weft bt all");
        expect_fibers(output);
        expect_backtraces(output);
        expect(output, "Fiber 1 other_thread_reader: ", " in other_thread_reader (");
        free(output);
    }
    remove_folder(folder, core);
}

/* The name that the kernel gives it, when that is a file beside the program. */
static bool kernel_writes_core_files(void)
{
    char pattern[128] = "";
    FILE *file = fopen("/proc/sys/kernel/core_pattern", "re");
    bool plain;

    if (file && !fgets(pattern, sizeof pattern, file))
        pattern[0] = '\0';
    if (file)
        fclose(file);
    plain = !strcmp(pattern, "core\n");
    if (!plain)
        fprintf(stderr, "NOT TESTED: this system's core files go elsewhere: kernel.core_pattern is %s\n", pattern);
    return plain;
}

Test(gdb, reads_the_core_file_of_a_program_that_was_aborted, .timeout = 120)
{
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    char folder[] = "/tmp/weft-gdb-XXXXXX", core[64], program[4096], script[4096];
    struct server *server;
    char *output;

    if (!kernel_writes_core_files() || setrlimit(RLIMIT_CORE, &unlimited) != 0)
        return;
    cr_assert_not_null(realpath(weft_test_program("serve_fibers"), program));
    cr_assert_not_null(realpath(SCRIPT, script));
    make_folder(folder);
    cr_assert_eq(chdir(folder), 0);
    server = start();
    server_signal(server, SIGABRT);
    server_expect_exit(server, 128 + SIGABRT);
    snprintf(core, sizeof core, "%s/core", folder);
    cr_assert_eq(tool_finish(tool_run("gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", program, core, "-x",
                                      script, "-ex", "thread apply all weft fibers", "-ex", "thread apply all weft bt all"),
                             &output),
                 0);
    expect_fibers(output);
    expect_backtraces(output);
    free(output);
    cr_assert_eq(chdir("/"), 0);
    remove_folder(folder, core);
}

/* A debugger's own way of writing one stops at guard pages: what is missing then must not be taken for something. */
Test(gdb, says_so_when_a_core_file_lacks_the_stacks, .timeout = 120)
{
    char folder[] = "/tmp/weft-gdb-XXXXXX", core[64], command[128];
    struct server *server = start();
    char *output;

    make_folder(folder);
    snprintf(core, sizeof core, "%s/core", folder);
    snprintf(command, sizeof command, "generate-core-file %s", core);
    output = gdb_on_process(server, (const char *const[]){command, NULL});
    server_stop(server);
    if (output) {
        bool whole = !strstr(output, "Memory read failed"); /* guarded otherwise, all is there */

        free(output);
        output = gdb_on_core(core, "thread 1", "weft fibers");
        cr_assert(whole || strstr(output, "The stacks of fibers are missing in this core file"), "%s", output);
        free(output);
    }
    remove_folder(folder, core);
}
#endif

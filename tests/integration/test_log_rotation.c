/* A log that is rotated while its program writes it, as logrotate does: renamed, then SIGHUP. */
#include "tests/support/server.h"
#include "tests/support/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROTATIONS = 25 };

static char folder[] = "/tmp/weft-rotation-XXXXXX";

/* The file of a rotation, 0: the one that is written now. Borrowed until the next call but one. */
static const char *file(int rotation)
{
    static char paths[2][100];
    static int which;

    which = !which;
    if (rotation)
        snprintf(paths[which], sizeof paths[which], "%s/log.%d", folder, rotation);
    else
        snprintf(paths[which], sizeof paths[which], "%s/log", folder);
    return paths[which];
}

/* Reads the numbers of a file, which must go on from `last`; the last one. */
static int read_numbers(const char *path, int last)
{
    FILE *stream = fopen(path, "re");
    char line[100];
    int number;

    cr_assert_not_null(stream, "%s", path);
    while (fgets(line, sizeof line, stream)) {
        if (sscanf(line, "numbers %d", &number) != 1)
            continue;
        cr_assert_eq(number, last + 1, "in %s %d follows %d", path, number, last);
        last = number;
    }
    fclose(stream);
    return last;
}

Test(log_rotation, loses_no_line_and_doubles_none, .timeout = 120)
{
    struct server *server;
    int lines, last = 0;

    cr_assert_not_null(mkdtemp(folder));
    server = server_run("serve_log", file(0));
    for (int i = 1; i <= ROTATIONS; i++) {
        wait_for_log_lines(server, (size_t)i, "WARN  - another file$");
        cr_assert_eq(rename(file(0), file(i)), 0);
        server_signal(server, SIGHUP);
    }
    wait_for_log_lines(server, ROTATIONS + 1, "WARN  - another file$");
    server_signal(server, SIGTERM);
    cr_assert_eq(sscanf(wait_for_log_line(server, "WARN  - [0-9]+ lines$"), "%*s %*s WARN - %d lines", &lines), 1);
    server_expect_exit(server, 0);
    for (int i = 1; i <= ROTATIONS; i++) {
        last = read_numbers(file(i), last);
        unlink(file(i));
    }
    cr_assert_eq(read_numbers(file(0), last), lines);
    unlink(file(0));
    cr_assert_eq(rmdir(folder), 0);
}

/* The folder is away for a while: the old file is written on. */
Test(log_rotation, that_fails_is_told_and_loses_nothing_either, .timeout = 120)
{
    static char away[] = "/tmp/weft-rotation-XXXXXX";
    struct server *server;
    char path[100];
    int lines;

    cr_assert_not_null(mkdtemp(folder));
    cr_assert_not_null(mkdtemp(away));
    server = server_run("serve_log", file(0));
    wait_for_log_line(server, "another file$");
    cr_assert_eq(rename(folder, away), 0);
    server_signal(server, SIGHUP);
    wait_for_log_line(server,
                      "ERROR - cannot open the log .*/log: No such file or directory; lines still go to the old file$");
    server_signal(server, SIGTERM);
    cr_assert_eq(sscanf(wait_for_log_line(server, "WARN  - [0-9]+ lines$"), "%*s %*s WARN - %d lines", &lines), 1);
    server_expect_exit(server, 0);
    snprintf(path, sizeof path, "%s/log", away);
    cr_assert_eq(read_numbers(path, 0), lines);
    unlink(path);
    cr_assert_eq(rmdir(away), 0);
}

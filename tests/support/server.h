/* server.h: a server program of this build, run for one test, and its log.
 *
 * Nothing here sleeps: every wait is for a condition, ends as soon as it holds, and fails the test after PATIENCE
 * seconds, saying what was waited for and how the log ends. A server dies with the test that started it, also when that
 * fails half-way. A test that passes has seen its server exit with the status that it asked for: one that a sanitizer
 * ended does not exit with 0. */
#ifndef WEFT_TESTS_SERVER_H
#define WEFT_TESTS_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Seconds after which a condition is taken never to come; shorter than the tests' own time-outs, so that the message is
 * seen. Only a failing test waits that long. */
#ifdef WEFT_TEST_SANITIZED
enum { PATIENCE = 90 };
#else
enum { PATIENCE = 30 };
#endif

struct server;

/* ---- deadlines ---- */

double deadline_new(void);             /* PATIENCE from now */
int deadline_left_ms(double deadline); /* for poll(): 0 when it has passed */

/* ---- life ---- */

/* Starts a program that was built beside the tests: server_start("rooms", "127.0.0.1:0"). It waits until the server
 * listens; server_run does not, and is for those that will not come so far. */
#define server_start(...) server_start_with((const char *const[]){__VA_ARGS__, NULL})
#define server_run(...) server_run_with((const char *const[]){__VA_ARGS__, NULL})
struct server *server_start_with(const char *const *arguments);
struct server *server_run_with(const char *const *arguments);

void server_signal(struct server *server, int number);
/* Waits until it has exited, checks that it did so with `status` (and not by a signal), and frees `server`. */
void server_expect_exit(struct server *server, int status);
void server_stop(struct server *server); /* SIGTERM; expects exit status 0 */

/* Raises the limit of descriptors as far as it may; false when not even then there are `count` and some to spare. */
bool descriptors_suffice_for(size_t count);

int server_port(const struct server *server);
pid_t server_pid(const struct server *server);
size_t server_descriptors(const struct server *server); /* that its process has open */
size_t server_resident_kib(const struct server *server); /* memory that it really has */

/* ---- its log ---- */

/* The first line that matches the extended regular expression, waited for. Borrowed until the next of these calls. */
const char *wait_for_log_line(struct server *server, const char *pattern, ...) __attribute__((format(printf, 2, 3)));
/* Waits until as many lines match. */
void wait_for_log_lines(struct server *server, size_t count, const char *pattern);
/* Waits for a line that matches patterns[0], behind it one that matches patterns[1] … up to a NULL. */
void wait_for_log_lines_in_order(struct server *server, const char *const *patterns);
/* How many match up to now; it reads what has been written, and does not wait. */
size_t count_log_lines(struct server *server, const char *pattern);

/* ---- other programs ---- */

/* A program from the PATH that runs beside the test: curl, ab, wrk. Its output, stdout and stderr together, is kept. */
struct tool;

#define tool_run(...) tool_run_with((const char *const[]){__VA_ARGS__, NULL})
struct tool *tool_run_with(const char *const *arguments);
void tool_signal(struct tool *tool, int number);
const char *tool_wait_for_output(struct tool *tool, const char *pattern); /* as wait_for_log_line */
/* Waits until it ends; its exit status, or 128 and the signal that ended it. `output`, when not NULL, gets its whole
 * output, which the caller frees. Frees `tool`. */
int tool_finish(struct tool *tool, char **output);

#endif

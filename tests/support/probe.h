/* probe.h: tests/integration/serve_probe.c started for a test, and watched: what its handlers did, what is alive in it.
 *
 * probe_stop() checks what every test must: that nothing is left of what its clients did, that the next request is
 * served, and that the server then exits with 0. */
#ifndef WEFT_TESTS_PROBE_H
#define WEFT_TESTS_PROBE_H

#include "tests/support/client.h"
#include "tests/support/server.h"

struct probe;

struct probe *probe_start(void);
struct probe *probe_start_with_drain(const char *seconds);
void probe_stop(struct probe *probe);

/* For tests that end the server in their own way: lets go of all but the server, which is the caller's. */
struct server *probe_leave(struct probe *probe);
struct server *probe_server(struct probe *probe); /* borrowed */
int probe_port(struct probe *probe);
struct client *probe_connect(struct probe *probe);
/* Each byte by itself, once the server has had time to read the one before. False when it hung up before all was sent. */
bool try_send_byte_by_byte(struct probe *probe, struct client *client, const void *bytes, size_t size);

/* ---- what its handlers did; each waits until it is so ---- */

void wait_until_parked(struct probe *probe, size_t handlers); /* started since the beginning, and waiting now or done */
void expect_handlers_ended(struct probe *probe, size_t handlers);
void open_the_gate(struct probe *probe); /* POST /open */

/* The cancellers ran as often as that, in all, and no more. */
void expect_canceller_runs(struct probe *probe, size_t runs);

/* Everything that was made for clients is gone: deferreds, errors, contexts, timers, fibers, connections, requests and
 * descriptors are as many as before the first client came. */
void expect_nothing_left(struct probe *probe);
void expect_served(struct probe *probe); /* a new client gets its answer */

/* ---- what it logged: each waits for the line ---- */

/* The request line, complete in all its fields: `code` is "200", "499!"; `target` is as requested. Returns its context's
 * name, borrowed until the next of these calls. */
const char *expect_request_line(struct probe *probe, const char *method, const char *target, const char *code);
/* The same of a GET with 499!, and the line that says, in the same context, that the handler was unwound from the await in `function`. */
void expect_cancelled(struct probe *probe, const char *target, const char *function);

#endif

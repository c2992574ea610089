/* tests/support/threads.h: what tests of several threads share: gates that a thread waits at, and a log of all of them. */
#ifndef WEFT_TEST_THREADS_H
#define WEFT_TEST_THREADS_H

#include <pthread.h>
#include <semaphore.h>
#include <weft/weft.h>

/* ---- gates ---- */

/* Where a job tells that it has come to, and waits to be let on. */
struct gate {
    sem_t reached;
    sem_t open;
};

void gate_init(struct gate *gate);
void gate_deinit(struct gate *gate);
void gate_pass(struct gate *gate);  /* the job's side: tells and waits */
void gate_await(struct gate *gate); /* waits until somebody has come to it, once for each */
void gate_open(struct gate *gate);  /* lets one pass */

/* ---- threads of the test's own ---- */

pthread_t start_thread(void *(*fn)(void *arg), void *arg);
/* Until there is a call that the reactor has not made; it must not be turning. */
void await_calls(weft_reactor_handle *handle);

/* ---- what was logged, on whichever thread, instead of being printed ---- */

void lines_capture(void);
/* "ERROR context message\n" each, or "ERROR context message requester=x\n" with that field; since the last call. */
const char *lines_text(void);

#endif

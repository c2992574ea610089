#include "tests/support/threads.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <weft/weft.h>

#include "runtime/loop/handle.h"
#include "tests/support/test.h"

/* ---- gates ---- */

static void await(sem_t *semaphore)
{
    while (sem_wait(semaphore)) /* a signal came */
        ;
}

void gate_init(struct gate *gate)
{
    sem_init(&gate->reached, 0, 0);
    sem_init(&gate->open, 0, 0);
}

void gate_deinit(struct gate *gate)
{
    sem_destroy(&gate->reached);
    sem_destroy(&gate->open);
}

void gate_pass(struct gate *gate)
{
    sem_post(&gate->reached);
    await(&gate->open);
}

void gate_await(struct gate *gate)
{
    await(&gate->reached);
}

void gate_open(struct gate *gate)
{
    sem_post(&gate->open);
}

/* ---- threads ---- */

pthread_t start_thread(void *(*fn)(void *arg), void *arg)
{
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, fn, arg), 0);
    return thread;
}

void await_calls(weft_reactor_handle *handle)
{
    bool any;

    do {
        sched_yield();
        pthread_mutex_lock(&handle->lock);
        any = handle->calls;
        pthread_mutex_unlock(&handle->lock);
    } while (!any);
}

/* ---- lines ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char lines[256 * 1024];
static size_t length;

static void keep(const weft_log_record *record, void *unused)
{
    const char *requester = weft_context_get_field(weft_context_current(), "requester");

    (void)unused;
    pthread_mutex_lock(&lock);
    if (length > sizeof lines / 2) /* a test that lets so many come does not look at them */
        length = 0;
    length += (size_t)snprintf(lines + length, sizeof lines - length, "%s %s %s%s%s\n", weft_log_level_name(record->level),
                               record->context, record->message, requester ? " requester=" : "", requester ? requester : "");
    pthread_mutex_unlock(&lock);
}

void lines_capture(void)
{
    weft_log_set_sink(keep, NULL);
}

const char *lines_text(void)
{
    static char text[sizeof lines];

    pthread_mutex_lock(&lock);
    memcpy(text, lines, length);
    text[length] = '\0';
    length = 0;
    pthread_mutex_unlock(&lock);
    return text;
}

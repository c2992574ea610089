/* The inside of a reactor's handle: what other threads want of it, and how they wake it. */
#ifndef WEFT_RUNTIME_HANDLE_H
#define WEFT_RUNTIME_HANDLE_H

#include <ev.h>
#include <pthread.h>
#include <weft/reactor_handle.h>

struct weft__call;
struct weft__job;
struct weft__published;

/* A call whose caller waits for the answer, and frees it. Which room runs it does not matter here. */
struct weft__blocking {
    void (*begin)(struct weft__blocking *blocking);  /* on the loop */
    void (*refuse)(struct weft__blocking *blocking); /* on the loop: it will not begin, or never end */
    struct weft__job *job;                           /* whose caller it is; NULL */
    bool interrupted;                                /* the job was cancelled before this has begun */
    weft_deferred *deferred;                         /* begun: of its end */
    struct weft__blocking *next, *previous;          /* those that have begun and not ended; the loop's */
};

struct weft_reactor_handle {
    uint32_t references; /* atomic */
    pthread_mutex_t lock;
    /* Under the lock: */
    struct ev_loop *loop; /* NULL: the reactor has been freed */
    ev_async woken;
    struct weft__call *calls, **calls_tail;
    bool refusing; /* calls that would block */
    /* The loop's alone: */
    struct weft__call *making; /* what is left of those that are being made */
    struct weft__blocking *beginning; /* whose fiber takes its first steps; NULL */
    struct weft__blocking *begun;
    struct weft__published *published; /* the reactor's, where calls are counted */
    unsigned forks; /* when it was last looked at */
};

/* ---- for the reactor: on its thread ---- */

/* With one reference. Takes neither. */
weft_reactor_handle *weft__handle_new(struct ev_loop *loop, struct weft__published *published);
/* Makes the calls that have come up to now; returns whether there were any. */
bool weft__handle_make_calls(weft_reactor_handle *handle);
/* Whether calls that block are taken; those in line are refused when they are no longer. */
void weft__handle_admit(weft_reactor_handle *handle, bool admit);
/* Cancels those that have begun, with WEFT_SHUTDOWN. */
void weft__handle_cancel_begun(weft_reactor_handle *handle);
/* The reactor will never turn again; false when there are calls to be made before. */
bool weft__handle_retire(weft_reactor_handle *handle);
/* In a child made by fork all other threads are gone, also those that held the lock or wait for an answer. */
void weft__handle_heed_fork(weft_reactor_handle *handle);

/* Changes in a child made by fork. */
unsigned weft__forks(void);

/* ---- for blocking calls ---- */

/* False when it is refused at once: then nothing more is called. On any thread. */
bool weft__handle_post_blocking(weft_reactor_handle *handle, struct weft__blocking *blocking);
/* It has begun, with its deferred set; it has ended. On the loop. */
void weft__handle_begun(weft_reactor_handle *handle, struct weft__blocking *blocking);
void weft__handle_ended(weft_reactor_handle *handle, struct weft__blocking *blocking);
/* Whether the calling thread's reactor is `handle`'s, or runs. */
bool weft__reactor_must_not_block(const weft_reactor_handle *handle);

/* ---- for pools ---- */

/* Interrupts the blocking call in which the job is, if any: the cancellation is borrowed. On the loop. */
void weft__handle_interrupt_job(weft_reactor_handle *handle, const struct weft__job *job, weft_error *cancellation);
/* The job that the calling thread runs; NULL. */
struct weft__job *weft__job_current(void);
/* The context in which the job was deferred, borrowed; NULL. On the loop. */
weft_context *weft__job_context(const struct weft__job *job);

#endif

/* The log context of a job: a context belongs to one thread, so the caller's stays on the loop, the job gets one of its own
 * from what was copied, and what that has used is charged, on the loop, to a child of the caller's. */
#ifndef WEFT_RUNTIME_JOB_CONTEXT_H
#define WEFT_RUNTIME_JOB_CONTEXT_H

#include <weft/context.h>

struct weft__job_context {
    weft_context *caller; /* the loop's, a reference; NULL: none */
    char *name;           /* what the job's is called; NULL: it is in none */
    weft_field *fields;   /* copies */
    size_t field_count;
    weft_context *own; /* the job's, while it runs; its thread's */
    weft_usage used;   /* by the job, when it has ended */
};

/* On the loop: that of a job which is deferred now. */
void weft__job_context_init(struct weft__job_context *context);
/* On the job's thread, before and after it; `fn` is named in the log if it has left another one behind. */
void weft__job_context_enter(struct weft__job_context *context);
void weft__job_context_leave(struct weft__job_context *context, const void *fn);
/* On the loop: charges what was used. */
void weft__job_context_charge(const struct weft__job_context *context);
/* On the loop, while the job runs: from here on it is for the job's thread alone. */
void weft__job_context_forsake(struct weft__job_context *context);
void weft__job_context_deinit(struct weft__job_context *context);

#endif

/* weft/context.h: log contexts: which piece of work a log line and a nanosecond of CPU belong to.
 *
 * At any moment a thread runs in one context, or in none. A context is usually one request. Each fiber has its own
 * current context; callbacks of deferreds run in the one in which they were added; firing, cancelling and awaiting never
 * change the caller's. So code that runs in a context seldom has to name it.
 *
 * CPU time is charged to the context in which it is spent. Contexts are reference-counted: one that is used is alive. */
#ifndef WEFT_CONTEXT_H
#define WEFT_CONTEXT_H

#include <weft/base.h>

WEFT_BEGIN

typedef struct weft_context weft_context;

/* ---- life --------------------------------------------------------------------------------------------------------- */

/* A new context with one reference, the caller's; it does not become current. The name is copied;
 * control characters in it become `?`, as it stands in log lines. */
WEFT_API weft_context *weft_context_new(const char *name) __attribute__((returns_nonnull)) WEFT_MUST_USE;
/* The same, named "PREFIX-number", as in "GET-42". `prefix` is borrowed for good: a literal, or as good as one. */
WEFT_API weft_context *weft_context_new_numbered(const char *prefix, uint64_t number) __attribute__((returns_nonnull))
WEFT_MUST_USE;
WEFT_API weft_context *weft_context_ref(weft_context *context);   /* NULL, no context, is fine: returns NULL */
WEFT_API weft_context *weft_context_unref(weft_context *context); /* NULL is fine; returns NULL */

/* ---- the current one ------------------------------------------------------------------------------------------------ */

/* NULL when in none. Borrowed. */
WEFT_API weft_context *weft_context_current(void);

/* Makes `context` (NULL: none) current, takes it, and gives back the one that was, now the caller's:
 *
 *     weft_context *previous = weft_context_set(weft_context_ref(context));
 *     …
 *     weft_context_unref(weft_context_set(previous)); */
WEFT_API weft_context *weft_context_set(weft_context *context) WEFT_MUST_USE;

/* ---- asking ----------------------------------------------------------------------------------------------------------- */

/* Its name; "-" for NULL. Borrowed from the context. */
WEFT_API const char *weft_context_get_name(weft_context *context);

/* CPU time, in nanoseconds. The sum is exact; how it divides is the thread's average over some tens of milliseconds. */
typedef struct weft_usage {
    int64_t user_ns;
    int64_t system_ns;
} weft_usage;

/* What a context has used up to now, also while it runs; for NULL, what this thread has used in none. Costs a reading of
 * the thread's CPU clock. Call it on the context's own thread. */
WEFT_API weft_usage weft_context_get_usage(weft_context *context);

/* The books of this thread since it first used weft: all contexts, ended ones too, plus none is the thread's CPU time. */
typedef struct weft_accounts {
    int64_t contexts_ns; /* spent in any context */
    int64_t none_ns;     /* spent in none */
    int64_t thread_ns;   /* the thread's CPU clock, less what it read at first */
} weft_accounts;
WEFT_API weft_accounts weft_accounts_get(void);

WEFT_AUTO(weft_context, weft_context_unref)

WEFT_END

#endif

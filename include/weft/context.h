/* weft/context.h: log contexts: which piece of work a log line, a nanosecond of CPU and a database transaction belong to.
 *
 * At any moment a thread runs in one context, or in none. A context is usually one request. Each fiber has its own
 * current context; callbacks of deferreds run in the one in which they were added; firing, cancelling and awaiting never
 * change the caller's. So code that runs in a context seldom has to name it.
 *
 * What is spent is charged to the context in which it is spent, and at once to those above it. Contexts are
 * reference-counted: one that is used is alive. Each belongs to the thread that made it, and no other may touch it. NULL,
 * no context, may be given only where that is said. */
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
/* A new context below `parent`, of which it takes a reference of its own: named as that, or "PARENT-suffix" when there is a
 * suffix. What it is charged is charged to its parents too, and it has their fields. Without a parent (NULL) it is a new
 * one named after the suffix, or "-". (Synapse's nested_logging_context.) */
WEFT_API weft_context *weft_context_new_child(weft_context *parent, const char *suffix) __attribute__((returns_nonnull))
WEFT_MUST_USE;
WEFT_API weft_context *weft_context_ref(weft_context *context);   /* NULL, no context, is fine: returns NULL */
WEFT_API weft_context *weft_context_unref(weft_context *context); /* NULL is fine; returns NULL */

/* Its work is over, as when a request has been answered and its line written: its usage is final. What still runs in it, or
 * below it, goes on and is counted apart (weft_context_get_usage_after_end); the first time that it is entered again is
 * logged as a warning, which says where the fiber that does so was started. Ending it again changes nothing. */
WEFT_API void weft_context_end(weft_context *context);
WEFT_API bool weft_context_has_ended(const weft_context *context);

/* ---- the current one ------------------------------------------------------------------------------------------------ */

/* NULL when in none. Borrowed. */
WEFT_API weft_context *weft_context_current(void);

/* Makes `context` (NULL: none) current, takes it, and gives back the one that was, now the caller's:
 *
 *     weft_context *previous = weft_context_set(weft_context_ref(context));
 *     …
 *     weft_context_unref(weft_context_set(previous));
 *
 * One that another thread has made is a misuse: that is logged, and the thread is in none. */
WEFT_API weft_context *weft_context_set(weft_context *context) WEFT_MUST_USE;

/* Two blocks that do that, and on every way out (also break, return and WEFT_TRY) put back what was current before. Who has
 * left another context current inside is logged, with the place of the block, and that is put right. Blocks may
 * stand in one another and fibers may wait inside; a fiber's blocks are no other fiber's affair.
 *
 * Work that has an end: `name` is declared as the new context that `made` gives, and is ended and let go of on the way out
 * (Synapse's LoggingContext):
 *
 *     weft_with_context(request, weft_context_new("GET-1")) {
 *         weft_context_set_field(request, "requester", user);
 *         …
 *     }
 *
 * A context of somebody else, borrowed, that does not end here; NULL: none (Synapse's PreserveLoggingContext):
 *
 *     weft_preserve_context(NULL) { … } */
#define weft_with_context(name, made)                                                                               \
    for (weft_context_block name##_block __attribute__((cleanup(weft_context_block_leave))) =                       \
             weft_context_block_enter(made, true, WEFT_HERE),                                                       \
                            *name##_once = &name##_block;                                                           \
         name##_once; name##_once = NULL)                                                                           \
        for (weft_context *name = name##_block.context; name; name = NULL)
#define weft_preserve_context(borrowed)                                                                             \
    weft__preserve_context(borrowed, WEFT_JOINED(weft__block, __LINE__), WEFT_JOINED(weft__once, __LINE__))
#define weft__preserve_context(borrowed, block, once)                                                               \
    for (weft_context_block block __attribute__((cleanup(weft_context_block_leave))) =                              \
             weft_context_block_enter(weft_context_ref(borrowed), false, WEFT_HERE),                                \
                            *once = &block;                                                                         \
         once; once = NULL)

/* What these are made of, for bindings. Entering takes `context`; leaving is done once. */
typedef struct weft_context_block {
    weft_context *context;  /* a reference */
    weft_context *previous; /* the same */
    const weft_place *place;
    bool ends;
} weft_context_block;
WEFT_API weft_context_block weft_context_block_enter(weft_context *context, bool ends, const weft_place *place) WEFT_MUST_USE;
WEFT_API void weft_context_block_leave(weft_context_block *block);

/* ---- what it is about -------------------------------------------------------------------------------------------------- */

/* Its name; "-" for NULL. Borrowed from the context, until its field "request" is set. */
WEFT_API const char *weft_context_get_name(weft_context *context);

/* Text that log records carry: "requester", "ip", whatever the program likes. Both are copied; NULL takes the field away
 * from this context. "request" is the name: setting it renames the context (NULL: to "-"), and its children that were made
 * without a suffix. Children have the fields of their parents, also those that are set later, and may have others under the
 * same names. */
WEFT_API void weft_context_set_field(weft_context *context, const char *name, const char *value);
/* Borrowed, until it is set again or the context goes; NULL: there is none. NULL has none. */
WEFT_API const char *weft_context_get_field(weft_context *context, const char *name);

typedef struct weft_field {
    const char *name;
    const char *value;
} weft_field;
/* Writes up to `room` of its fields, inherited ones too, "request" not among them, and returns how many that were. Borrowed
 * as above. NULL has none. */
WEFT_API size_t weft_context_get_fields(weft_context *context, weft_field *out, size_t room);

/* ---- what it costs ----------------------------------------------------------------------------------------------------- */

/* Sums since the context was made, those of its children included. None ever falls. */
typedef struct weft_usage {
    int64_t user_ns;         /* CPU time. The sum is exact; how it divides is the thread's average over */
    int64_t system_ns;       /* some tens of milliseconds */
    int64_t ready_ns;        /* that its fibers could have run and waited for their turn */
    int64_t db_transactions;
    int64_t db_ns;           /* in them, retries included */
    int64_t db_wait_ns;      /* until they began: for a thread and for a connection */
    int64_t db_rows;         /* or events, fetched */
    int64_t allocated_bytes; /* by jemalloc, where the program is linked with it or it is preloaded; else 0 */
    int64_t bytes_in;
    int64_t bytes_out;
} weft_usage;

/* What a context has used up to now, also while it runs, or up to its end; for NULL, what this thread has used in none.
 * Costs a reading of the thread's CPU clock. */
WEFT_API weft_usage weft_context_get_usage(weft_context *context);

/* Adds to a context, and to all above it, what weft does not see itself. NULL: to none. What is negative is left out, and
 * logged. CPU time that is added so is that of other threads. */
WEFT_API void weft_context_charge(weft_context *context, const weft_usage *more);

/* Whom the work was for has gone, as when a client closes its connection: from here on what is used is also counted as used
 * for nobody. Only the first time counts. */
WEFT_API void weft_context_client_left(weft_context *context);
/* Of its usage, the part since then; all 0 if nobody left. */
WEFT_API weft_usage weft_context_get_usage_after_client_left(weft_context *context);
/* What has been used since its end, which is not in its usage, though it is in that of its parents. */
WEFT_API weft_usage weft_context_get_usage_after_end(weft_context *context);

/* The books of this thread since it first used weft: all contexts, ended ones too, plus none is the thread's CPU time. In a
 * child made by fork they go on from what they were: what is spent there is added, once. */
typedef struct weft_accounts {
    int64_t contexts_ns; /* spent in any context */
    int64_t none_ns;     /* spent in none */
    int64_t thread_ns;   /* the thread's CPU clock, less what it read at first */
    int64_t merged_ns;   /* of other threads, charged to contexts of this one besides */
} weft_accounts;
WEFT_API weft_accounts weft_accounts_get(void);

/* How often each of these was found, and put right, on this thread. */
typedef struct weft_context_faults {
    uint64_t left_behind;    /* by a callback of the reactor or of a clock, or in a block */
    uint64_t used_after_end; /* contexts */
    uint64_t foreign;        /* contexts of another thread that were to become current */
} weft_context_faults;
WEFT_API weft_context_faults weft_context_faults_get(void);

WEFT_AUTO(weft_context, weft_context_unref)

WEFT_END

#endif

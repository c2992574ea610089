/* Changing the current context without moving references: for those who keep one of their own. */
#ifndef WEFT_LIB_CONTEXT_H
#define WEFT_LIB_CONTEXT_H

#include "lib/thread.h"

/* Fields that are found out when somebody asks, for contexts of which most are never asked. Lies in the memory of whoever
 * knows them. */
struct weft__field_source {
    /* As weft_context_get_fields. What it writes is good as long as the source. */
    size_t (*list)(const struct weft__field_source *source, weft_field *out, size_t room);
};

struct weft__context_marks;
struct weft__context_field;

/* What a change of context touches lies in the first 64 bytes, a cache line. */
struct weft_context {
    uint32_t references;
    uint32_t thread; /* whose it is */
    struct weft__account account; /* its parent is that of another context, and a reference to that */
    const char *prefix;   /* the name's parts, while nobody has asked for the name; NULL when it was given whole, or is the parent's */
    uint64_t number;
    char *name; /* owned; NULL until asked for */
    struct weft__context_field *fields;
    const struct weft__field_source *source; /* NULL: none */
    struct weft__context_marks *marks; /* NULL until something was marked */
};

_Static_assert(offsetof(weft_context, account.usage) <= 64 && sizeof(weft_context) % 64 == 0,
               "what a change of context touches is one cache line");

static inline weft_context *weft__context_of(const struct weft__account *account)
{
    return (weft_context *)((char *)account - offsetof(weft_context, account));
}

/* Borrowed; NULL. */
static inline weft_context *weft__context_parent(const weft_context *context)
{
    return context->account.parent ? weft__context_of(context->account.parent) : NULL;
}

static inline struct weft__account *weft__account_of(weft_context *context)
{
    return context ? &context->account : &weft__thread.books.none;
}

/* Makes `to` current with the reference that comes with it, and gives back the one that was, with its reference: `runs` goes
 * on in it. `queues` and `leaves` as for weft__books_switch. */
static inline weft_context *weft__context_switch(weft_context *to, const struct weft__task *runs, bool queues, bool leaves)
{
    struct weft__thread *thread = &weft__thread;
    weft_context *from = thread->context;

    if (from == to && queues == leaves)
        return from;
    thread->context = to;
    weft__books_switch(&thread->books, to ? &to->account : &thread->books.none, runs, queues, leaves);
    return from;
}

static inline weft_context *weft__context_swap(weft_context *to)
{
    return weft__context_switch(to, NULL, false, false);
}

/* Tasks of it wait in the ready queue, or have left it, without a switch. */
static inline void weft__context_queue(weft_context *context)
{
    if (WEFT__ACCOUNTING)
        weft__account_queue(weft__account_of(context), weft__books_ticks(&weft__thread.books));
}

static inline void weft__context_unqueue(weft_context *context)
{
    if (WEFT__ACCOUNTING)
        weft__account_unqueue(weft__account_of(context), weft__books_ticks(&weft__thread.books));
}

/* Who is charged what the context is, besides it and its parents. To be set before anything is. */
static inline void weft__context_join(weft_context *context, struct weft__series *series)
{
    context->account.series = series;
}

/* What it has used until now belongs to `series` as well, and so does what it uses until it ends; what is above `series` has
 * it already. Nothing, if it has ended. */
WEFT_INTERNAL void weft__context_move(weft_context *context, struct weft__series *series);

/* Adds to one of its sums, given by its place in weft_usage. */
static inline void weft__context_count(weft_context *context, size_t sum, int64_t more)
{
    weft__account_count(&context->account, sum, more);
}

/* Set in it, and not a parent's, nor known to its source. Borrowed; NULL: none. */
WEFT_INTERNAL const char *weft__context_own_field(weft_context *context, const char *name);

/* Its end, when what else it is charged in this window is no matter: if nobody else holds it, nothing need be settled. */
static inline void weft__context_end_last(weft_context *context)
{
    if (context->references > 1)
        weft_context_end(context);
    else
        context->account.ended = true;
}

/* The source of its fields goes: those of who still uses the context are copied. */
WEFT_INTERNAL void weft__context_forget_source(weft_context *context);

/* Its account is entered though it has ended: remembers that, to be said when it does no harm. */
void weft__context_entered_after_end(struct weft__account *account, const struct weft__task *runs);
/* Says what was remembered. */
WEFT_INTERNAL void weft__contexts_say(void);
static inline void weft__contexts_look(void)
{
    if (__builtin_expect(weft__thread.late != NULL, 0))
        weft__contexts_say();
}

/* Logs that the callback `fn` left its context behind, and takes that away. */
WEFT_INTERNAL void weft__context_take_away(const void *fn);

/* A loop, or a clock, is in no context between callbacks. Who leaves one behind is named, and what follows is put right. */
static inline void weft__context_leave_callback(const void *fn)
{
    if (__builtin_expect(weft__thread.context != NULL, 0))
        weft__context_take_away(fn);
}

static inline weft_context *weft__context_ref(weft_context *context)
{
    if (context)
        context->references++;
    return context;
}

#endif

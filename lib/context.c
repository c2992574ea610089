/* Log contexts: names, fields, what they are charged, and which one is current.
 *
 * Most names are never read (a request whose line is not logged), so "GET-42" is put together when somebody asks. Nor are
 * most contexts used after their end, or left by those whom their work is for: what that takes is made when it happens. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <weft/log.h>

#include "lib/context.h"
#include "lib/task.h"
#include "lib/totals.h"

struct weft__context_field {
    struct weft__context_field *next;
    char *name; /* owned */
    char *value;
};

/* Usages are read off when something happens: what comes after is the difference. */
struct weft__context_marks {
    bool left;
    bool ended;
    bool late; /* entered after its end, which is said once */
    weft_usage at_leaving;
    weft_usage at_end;
    weft_context *next_late;
    const char *late_in; /* the fiber's name; NULL: no fiber's */
    const weft_place *late_from;
};

/* ---- life ---- */

static uint32_t thread_number(void)
{
    static uint32_t threads;

    if (__builtin_expect(!weft__thread.number, 0))
        weft__thread.number = __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED);
    return weft__thread.number;
}

static weft_context *context_new(void)
{
    weft_context *context = weft__slab_take(&weft__thread.contexts, sizeof *context);

    context->references = 1;
    context->thread = thread_number();
    weft__account_begin(&context->account);
    context->prefix = NULL;
    context->name = NULL;
    context->fields = NULL;
    context->source = NULL;
    context->marks = NULL;
    weft__thread.live.contexts++;
    return context;
}

static char *printable_copy(const char *name)
{
    char *copy = weft_strdup(name);

    for (char *c = copy; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    return copy;
}

weft_context *weft_context_new(const char *name)
{
    weft_context *context = context_new();

    context->name = printable_copy(name);
    return context;
}

weft_context *weft_context_new_numbered(const char *prefix, uint64_t number)
{
    weft_context *context = context_new();

    context->prefix = prefix;
    context->number = number;
    return context;
}

static char *name_below(weft_context *parent, const char *suffix)
{
    const char *name = weft_context_get_name(parent);
    size_t length = strlen(name), size = length + strlen(suffix) + 2;
    char *text = weft_alloc(size), *copy;

    snprintf(text, size, "%s-%s", name, suffix);
    copy = printable_copy(text);
    weft_free(text);
    return copy;
}

weft_context *weft_context_new_child(weft_context *parent, const char *suffix)
{
    weft_context *context;

    if (!parent)
        return weft_context_new(suffix ? suffix : "-");
    context = context_new();
    context->account.parent = &weft__context_ref(parent)->account;
    if (suffix)
        context->name = name_below(parent, suffix);
    return context;
}

weft_context *weft_context_ref(weft_context *context)
{
    return weft__context_ref(context);
}

static void fields_free(weft_context *context)
{
    while (context->fields) {
        struct weft__context_field *field = context->fields;

        context->fields = field->next;
        weft_free(field->name);
        weft_free(field->value);
        weft_free(field);
    }
}

static __attribute__((noinline)) void free_rest(weft_context *context)
{
    fields_free(context);
    weft_free(context->marks);
    weft_free(context->name);
}

/* Returns its parent, with the reference to it. */
static weft_context *context_free(weft_context *context)
{
    weft_context *parent = weft__context_parent(context);

    assert(weft__thread.context != context);
    weft__account_end(&weft__thread.books, &context->account);
    if (context->name || context->fields || context->marks)
        free_rest(context);
    weft__slab_give(&weft__thread.contexts, context);
    weft__thread.live.contexts--;
    return parent;
}

weft_context *weft_context_unref(weft_context *context)
{
    while (context && !--context->references)
        context = context_free(context);
    return NULL;
}

/* ---- the current one ---- */

weft_context *weft_context_current(void)
{
    return weft__thread.context;
}

static weft_context *refuse_foreign(weft_context *context)
{
    weft__thread.faults.foreign++;
    weft_log_error("misuse: a context of thread %u was to become current on thread %u: a context belongs to the thread that "
                   "made it", context->thread, thread_number());
    return weft__context_swap(NULL);
}

weft_context *weft_context_set(weft_context *context)
{
    weft__contexts_look();
    if (context && __builtin_expect(context->thread != weft__thread.number, 0))
        return refuse_foreign(context);
    return weft__context_swap(context);
}

weft_context_block weft_context_block_enter(weft_context *context, bool ends, const weft_place *place)
{
    if (context && __builtin_expect(context->thread != weft__thread.number, 0))
        return (weft_context_block){NULL, refuse_foreign(context), place, ends};
    return (weft_context_block){context, weft_context_set(weft__context_ref(context)), place, ends};
}

/* What it has found on its way out. The one that is current there is in the block's stead. */
static __attribute__((noinline)) void say_left_inside(const weft_context_block *block)
{
    const weft_place *place = block->place;

    weft__thread.faults.left_behind++;
    weft_log_error("the block at %s:%d %s was to end in the context %s, and something inside has left %s%s", place->file,
                   place->line, place->function, weft_context_get_name(block->context),
                   weft__thread.context ? "" : "no context",
                   weft__thread.context ? "this one behind" : " behind");
}

void weft_context_block_leave(weft_context_block *block)
{
    if (__builtin_expect(weft__thread.context != block->context, 0))
        say_left_inside(block);
    weft_context_unref(weft__context_swap(block->previous));
    if (block->ends && block->context)
        weft__context_end_last(block->context);
    weft_context_unref(block->context);
}

void weft__context_take_away(const void *fn)
{
    weft_context *left = weft__context_swap(NULL);

    weft__thread.faults.left_behind++;
    weft_log_error("the callback at %p left the context %s behind", fn, weft_context_get_name(left));
    weft_context_unref(left);
}

weft_context_faults weft_context_faults_get(void)
{
    return weft__thread.faults;
}

/* ---- its end ---- */

static struct weft__context_marks *marks_of(weft_context *context)
{
    if (!context->marks)
        context->marks = weft_alloc_zeroed(sizeof *context->marks);
    return context->marks;
}

static void mark_end(struct weft__context_marks *marks, const weft_context *context)
{
    if (marks->ended)
        return;
    marks->ended = true;
    marks->at_end = context->account.usage;
}

void weft_context_end(weft_context *context)
{
    if (context->account.ended)
        return;
    weft__books_settle(&weft__thread.books, &context->account);
    mark_end(marks_of(context), context);
    context->account.ended = true;
    context->account.series = weft__totals_after_end();
    if (context->account.slot) /* it runs: once it has been left, entering it again is to be noticed */
        weft__preemption_suppose(&weft__thread.books.preemption);
}

bool weft_context_has_ended(const weft_context *context)
{
    return context->account.ended;
}

/* In the middle of a switch: neither logs nor runs anybody's code. */
void weft__context_entered_after_end(struct weft__account *account, const struct weft__task *runs)
{
    weft_context *context = weft__context_of(account);
    struct weft__context_marks *marks = marks_of(context);

    mark_end(marks, context); /* if its end was that of its only holder: it has not run since */
    if (marks->late)
        return;
    marks->late = true;
    if (!runs)
        runs = weft__thread.task;
    marks->late_in = runs ? runs->name : NULL;
    marks->late_from = runs ? runs->started_at : NULL;
    marks->next_late = weft__thread.late;
    weft__thread.late = weft__context_ref(context);
    weft__thread.faults.used_after_end++;
}

/* In the context itself, as the line is about that. Entering it for that says nothing more. */
static void say_late(weft_context *context)
{
    const struct weft__context_marks *marks = context->marks;
    weft_context *previous = weft__context_swap(context);

    if (marks->late_from)
        weft_log_warn("the context %s is used after its end, by the fiber %s that was started at %s:%d %s: what it uses is "
                      "counted apart", weft_context_get_name(context), marks->late_in, marks->late_from->file, marks->late_from->line,
                      marks->late_from->function);
    else
        weft_log_warn("the context %s is used after its end, by a callback or a function that has entered it: what it uses "
                      "is counted apart", weft_context_get_name(context));
    weft_context_unref(weft__context_swap(previous));
}

void weft__contexts_say(void)
{
    while (weft__thread.late) {
        weft_context *context = weft__thread.late;

        weft__thread.late = context->marks->next_late;
        say_late(context);
    }
}

/* ---- its name ---- */

static void rename_to(weft_context *context, const char *name)
{
    char *old = context->name;

    context->name = printable_copy(name); /* before the old one goes: it may be that */
    weft_free(old);
}

/* Whose name it has: its own, or a parent's. */
static weft_context *named(weft_context *context)
{
    while (!context->name && !context->prefix) {
        context = weft__context_parent(context);
        assert(context);
    }
    return context;
}

const char *weft_context_get_name(weft_context *context)
{
    if (!context)
        return "-";
    context = named(context);
    if (!context->name) {
        size_t size = (size_t)snprintf(NULL, 0, "%s-%" PRIu64, context->prefix, context->number) + 1;
        char *name = weft_alloc(size);

        snprintf(name, size, "%s-%" PRIu64, context->prefix, context->number);
        context->name = name; /* whole: a signal may look for it meanwhile */
    }
    return context->name;
}

/* ---- its fields ---- */

static struct weft__context_field **find_field(weft_context *context, const char *name)
{
    struct weft__context_field **field = &context->fields;

    while (*field && strcmp((*field)->name, name) != 0)
        field = &(*field)->next;
    return field;
}

const char *weft__context_own_field(weft_context *context, const char *name)
{
    const struct weft__context_field *field = *find_field(context, name);

    return field ? field->value : NULL;
}

static void remove_field(struct weft__context_field **at)
{
    struct weft__context_field *field = *at;

    if (!field)
        return;
    *at = field->next;
    weft_free(field->name);
    weft_free(field->value);
    weft_free(field);
}

void weft_context_set_field(weft_context *context, const char *name, const char *value)
{
    struct weft__context_field **at = find_field(context, name);
    char *copy;

    if (!strcmp(name, "request")) {
        rename_to(context, value ? value : "-");
        return;
    }
    if (!value) {
        remove_field(at);
        return;
    }
    copy = weft_strdup(value); /* before the old one goes: it may be that */
    if (*at) {
        weft_free((*at)->value);
    } else {
        *at = weft_alloc(sizeof **at);
        **at = (struct weft__context_field){NULL, weft_strdup(name), NULL};
    }
    (*at)->value = copy;
}

/* ---- all of them ---- */

struct listing {
    weft_field *out;
    size_t room;
    size_t count;
};

static void put(struct listing *listing, weft_field field)
{
    for (size_t i = 0; i < listing->count; i++) {
        if (!strcmp(listing->out[i].name, field.name))
            return; /* a child's own stands before its parents' */
    }
    if (listing->count < listing->room)
        listing->out[listing->count++] = field;
}

enum { SOURCE_FIELDS = 16 };

static void put_source(struct listing *listing, const struct weft__field_source *source)
{
    weft_field fields[SOURCE_FIELDS];
    size_t count = source->list(source, fields, SOURCE_FIELDS);

    for (size_t i = 0; i < count; i++)
        put(listing, fields[i]);
}

size_t weft_context_get_fields(weft_context *context, weft_field *out, size_t room)
{
    struct listing listing = {out, room, 0};

    for (; context; context = weft__context_parent(context)) {
        for (const struct weft__context_field *field = context->fields; field; field = field->next)
            put(&listing, (weft_field){field->name, field->value});
        if (context->source)
            put_source(&listing, context->source);
    }
    return listing.count;
}

static const char *from_source(const weft_context *context, const char *name)
{
    weft_field fields[SOURCE_FIELDS];
    size_t count = context->source ? context->source->list(context->source, fields, SOURCE_FIELDS) : 0;

    for (size_t i = 0; i < count; i++) {
        if (!strcmp(fields[i].name, name))
            return fields[i].value;
    }
    return NULL;
}

const char *weft_context_get_field(weft_context *context, const char *name)
{
    const char *value = NULL;

    if (context && !strcmp(name, "request"))
        return weft_context_get_name(context);
    for (; context && !value; context = weft__context_parent(context)) {
        struct weft__context_field *field = *find_field(context, name);

        value = field ? field->value : from_source(context, name);
    }
    return value;
}

/* Who still uses the context, its children too, keeps the fields. */
void weft__context_forget_source(weft_context *context)
{
    const struct weft__field_source *source = context->source;
    weft_field fields[SOURCE_FIELDS];
    size_t count;

    context->source = NULL;
    if (!source || context->references == 1)
        return;
    count = source->list(source, fields, SOURCE_FIELDS);
    for (size_t i = 0; i < count; i++) {
        if (!*find_field(context, fields[i].name))
            weft_context_set_field(context, fields[i].name, fields[i].value);
    }
}

/* ---- what it costs ---- */

static weft_usage less(weft_usage usage, const weft_usage *before)
{
    weft_usage minus = {
        -before->user_ns, -before->system_ns, -before->ready_ns, -before->db_transactions, -before->db_ns, -before->db_wait_ns,
        -before->db_rows, -before->allocated_bytes, -before->bytes_in, -before->bytes_out,
    };

    weft__usage_add(&usage, &minus);
    return usage;
}

static const weft_usage nothing;

static weft_usage up_to_now(weft_context *context)
{
    struct weft__account *account = weft__account_of(context);

    weft__books_settle(&weft__thread.books, account);
    return account->usage;
}

weft_usage weft_context_get_usage(weft_context *context)
{
    if (context && context->marks && context->marks->ended)
        return context->marks->at_end;
    return up_to_now(context);
}

weft_usage weft_context_get_usage_after_end(weft_context *context)
{
    if (!context->marks || !context->marks->ended)
        return nothing;
    return less(up_to_now(context), &context->marks->at_end);
}

void weft_context_client_left(weft_context *context)
{
    struct weft__context_marks *marks = marks_of(context);

    if (marks->left)
        return;
    marks->left = true;
    marks->at_leaving = weft_context_get_usage(context);
}

weft_usage weft_context_get_usage_after_client_left(weft_context *context)
{
    if (!context->marks || !context->marks->left)
        return nothing;
    return less(weft_context_get_usage(context), &context->marks->at_leaving);
}

/* What has not fallen. */
static int64_t grown(int64_t more, bool *bad)
{
    *bad |= more < 0;
    return more < 0 ? 0 : more;
}

void weft_context_charge(weft_context *context, const weft_usage *more)
{
    bool bad = false;
    weft_usage good = {
        grown(more->user_ns, &bad), grown(more->system_ns, &bad), grown(more->ready_ns, &bad),
        grown(more->db_transactions, &bad), grown(more->db_ns, &bad), grown(more->db_wait_ns, &bad), grown(more->db_rows, &bad),
        grown(more->allocated_bytes, &bad), grown(more->bytes_in, &bad), grown(more->bytes_out, &bad),
    };

    if (bad)
        weft_log_error("misuse: the context %s was to be charged less than nothing, which is left out",
                       weft_context_get_name(context));
    weft__books_merge(&weft__thread.books, !context, good.user_ns + good.system_ns);
    weft__account_add(weft__account_of(context), &good);
}

void weft__context_move(weft_context *context, struct weft__series *series)
{
    if (context->account.ended)
        return;
    weft__usage_add(&series->usage, &context->account.usage);
    context->account.series = series;
}

weft_accounts weft_accounts_get(void)
{
    struct weft__books *books = &weft__thread.books;

    weft__books_close_window(books);
    return (weft_accounts){
        .contexts_ns = books->contexts_ns,
        .none_ns = weft__books_none(books),
        .thread_ns = books->closed_at - books->opened_at,
        .merged_ns = books->merged_ns,
    };
}

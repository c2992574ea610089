/* Errors: immutable, counted, and able to say which way they came.
 *
 * The trace grows as an error goes up, so an error that several hold would change under the others' eyes: then the one who
 * passes it on gets another object, which shares everything but the trace with the `origin`. Two errors are the same one
 * when their origins are. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <weft/error.h>
#include <weft/log.h>

#include "lib/error.h"
#include "lib/text.h"
#include "lib/thread.h"

enum {
    MAX_TRACE = 32,
    USUAL_MESSAGE = 256, /* bytes within which most messages stay */
};

const weft_error_kind WEFT_FAILURE = {"failure", NULL};
const weft_error_kind WEFT_OS_ERROR = {"os_error", &WEFT_FAILURE};
const weft_error_kind WEFT_TIMED_OUT = {"timed_out", &WEFT_FAILURE};
const weft_error_kind WEFT_ORPHANED = {"orphaned", &WEFT_FAILURE};
const weft_error_kind WEFT_MISUSE = {"misuse", &WEFT_FAILURE};
const weft_error_kind WEFT_ALREADY_CALLED = {"already_called", &WEFT_MISUSE};
const weft_error_kind WEFT_BUSY = {"busy", &WEFT_FAILURE};
const weft_error_kind WEFT_FAILURE_GROUP = {"failure_group", &WEFT_FAILURE};
const weft_error_kind WEFT_GROUP_ENDED = {"group_ended", &WEFT_FAILURE};
const weft_error_kind WEFT_FIRST_ERROR = {"first_error", &WEFT_FAILURE};
const weft_error_kind WEFT_CANCELLED = {"cancelled", NULL};
const weft_error_kind WEFT_CLIENT_GONE = {"client_gone", &WEFT_CANCELLED};
const weft_error_kind WEFT_SHUTDOWN = {"shutdown", &WEFT_CANCELLED};
const weft_error_kind WEFT_DEADLINE = {"deadline", &WEFT_CANCELLED};
const weft_error_kind WEFT_SIBLING_FAILED = {"sibling_failed", &WEFT_CANCELLED};

static const weft_error *origin_of(const weft_error *error)
{
    return error->origin ? error->origin : error;
}

/* ---- making ----
 *
 * Every cancel makes an error, so this is quick: one piece of malloc's memory (any thread may free it), a message without
 * conversions is not copied, and others are formatted once. */

static weft_error *error_alloc(size_t message_size)
{
    weft_error *error = weft_alloc(sizeof *error + message_size);

    *error = (weft_error){.references = 1};
    weft__thread.live.errors++;
    return error;
}

static weft_error *error_new(const weft_error_kind *kind, const weft_place *place, size_t message_size)
{
    weft_clock *clock = weft__thread.clock;
    weft_error *error = error_alloc(message_size);

    error->kind = kind;
    error->place = place;
    error->time = clock ? weft_clock_recent(clock) : 0;
    return error;
}

static weft_error *error_with_literal(const weft_error_kind *kind, const weft_place *place, const char *message)
{
    weft_error *error = error_new(kind, place, 0);

    error->message = message;
    return error;
}

/* `reason` is what the message ends with, and may be "". */
static __attribute__((nonnull)) weft_error *error_formatted(const weft_error_kind *kind, const weft_place *place,
                                                            const char *format, va_list arguments, const char *reason)
{
    size_t length, reason_size = strlen(reason) + 1;
    char usual[USUAL_MESSAGE];
    weft_error *error;
    va_list again;
    int printed;

    va_copy(again, arguments);
    printed = vsnprintf(usual, sizeof usual, format, arguments);
    length = printed < 0 ? 0 : (size_t)printed;
    error = error_new(kind, place, length + reason_size);
    if (length < sizeof usual)
        memcpy(error->formatted, usual, length);
    else
        vsnprintf(error->formatted, length + 1, format, again);
    va_end(again);
    memcpy(error->formatted + length, reason, reason_size);
    /* printf can fail, for a wide character that the locale lacks: then the bare format says more than nothing. */
    error->message = printed < 0 ? format : error->formatted;
    return error;
}

weft_error *weft_error_new_at(const weft_error_kind *kind, const weft_place *place, const char *format, ...)
{
    weft_error *error;
    va_list arguments;

    if (!strchr(format, '%'))
        return error_with_literal(kind, place, format);
    va_start(arguments, format);
    error = error_formatted(kind, place, format, arguments, "");
    va_end(arguments);
    return error;
}

weft_error *weft_error_os_at(int code, const weft_place *place, const char *format, ...)
{
    weft_error *error;
    va_list arguments;
    char reason[256];

    snprintf(reason, sizeof reason, ": %s", strerror(code));
    va_start(arguments, format);
    error = error_formatted(&WEFT_OS_ERROR, place, format, arguments, reason);
    va_end(arguments);
    error->payload = weft_int(code);
    return error;
}

/* Whether it is still its maker's alone, and lacks what it is given now. */
static bool may_complete(const weft_error *error, bool has_one, const char *what)
{
    const weft_place *place = weft_error_get_place(error);

    if (error->references == 1 && !error->origin && !has_one)
        return true;
    weft_log_error("misuse: a %s is given to an error that %s; it was made at %s:%d %s", what,
                   has_one ? "has one" : "others may hold", place->file, place->line, place->function);
    return false;
}

weft_error *weft_error_caused_by(weft_error *error, weft_error *cause)
{
    if (may_complete(error, error->cause, "cause"))
        error->cause = cause;
    else
        weft_error_unref(cause);
    return error;
}

weft_error *weft_error_with_payload(weft_error *error, weft_result payload)
{
    if (may_complete(error, error->payload.value || error->payload.type, "payload"))
        error->payload = payload;
    else
        weft_result_drop(payload);
    return error;
}

weft_error *weft_error_ref(weft_error *error)
{
    error->references++;
    return error;
}

/* Lets go of one reference. An error that nobody holds any more is put before those that are `dead`, linked through
 * `origin`: a branch's own origin moves to where it has no cause. */
static weft_error *let_go(weft_error *error, weft_error *dead)
{
    if (!error || --error->references)
        return dead;
    if (error->origin)
        error->cause = error->origin;
    error->origin = dead;
    return error;
}

/* Errors hold errors, as causes and as payloads, and the chain of them may be long: so this is a loop. */
weft_error *weft_error_unref(weft_error *error)
{
    weft_error *dead = let_go(error, NULL);

    while ((error = dead)) {
        dead = let_go(error->cause, error->origin);
        if (weft_failed(error->payload))
            dead = let_go(weft_failed(error->payload), dead);
        else
            weft_result_drop(error->payload);
        weft_free(error->trace);
        weft_free(error);
        weft__thread.live.errors--;
    }
    return NULL;
}

/* ---- the way up ---- */

static weft_error *error_branch(weft_error *error)
{
    weft_error *branch = error_alloc(0);

    branch->origin = error->origin ? weft_error_ref(error->origin) : weft_error_ref(error);
    branch->index_plus_one = error->index_plus_one;
    branch->trace_length = branch->trace_capacity = error->trace_length;
    if (error->trace_length) {
        branch->trace = weft_alloc(error->trace_length * sizeof(const weft_place *));
        memcpy(branch->trace, error->trace, error->trace_length * sizeof(const weft_place *));
    }
    weft_error_unref(error);
    return branch;
}

/* An await and the WEFT_TRY around it stand on one line, and are one place to a reader. */
static bool same_line(const weft_place *a, const weft_place *b)
{
    return a == b || (a->line == b->line && strcmp(a->file, b->file) == 0);
}

weft_error *weft_error_passed(weft_error *error, const weft_place *place)
{
    if (error->trace_length == MAX_TRACE ||
        (error->trace_length && same_line(error->trace[error->trace_length - 1], place)))
        return error;
    if (error->references > 1)
        error = error_branch(error);
    if (error->trace_length == error->trace_capacity) {
        error->trace_capacity = error->trace_capacity ? 2 * error->trace_capacity : 4;
        error->trace = weft_realloc(error->trace, error->trace_capacity * sizeof(const weft_place *));
    }
    error->trace[error->trace_length++] = place;
    return error;
}

weft_error *weft_error_with_index(weft_error *error, size_t index)
{
    if (error->references > 1)
        error = error_branch(error);
    error->index_plus_one = index + 1;
    return error;
}

/* ---- asking ---- */

static bool kind_is(const weft_error_kind *kind, const weft_error_kind *ancestor)
{
    while (kind && kind != ancestor)
        kind = kind->parent;
    return kind != NULL;
}

bool weft_error_is(const weft_error *error, const weft_error_kind *kind)
{
    const weft_error *cause;

    if (!error)
        return false;
    /* A wrapper must not make a failure of a cancellation. */
    if (kind == &WEFT_FAILURE || kind_is(kind, &WEFT_CANCELLED)) {
        while (kind_is(weft_error_get_kind(error), &WEFT_FIRST_ERROR) && (cause = weft_error_get_cause(error)))
            error = cause;
    }
    return kind_is(weft_error_get_kind(error), kind);
}

bool weft_error_same(const weft_error *error, const weft_error *other)
{
    return error && other && origin_of(error) == origin_of(other);
}

const weft_error_kind *weft_error_get_kind(const weft_error *error)
{
    return origin_of(error)->kind;
}

const char *weft_error_get_message(const weft_error *error)
{
    return origin_of(error)->message;
}

const weft_place *weft_error_get_place(const weft_error *error)
{
    return origin_of(error)->place;
}

int64_t weft_error_get_time(const weft_error *error)
{
    return origin_of(error)->time;
}

weft_error *weft_error_get_cause(const weft_error *error)
{
    return origin_of(error)->cause;
}

void *weft_error_get_payload(const weft_error *error, const weft_type *type)
{
    weft_result payload = origin_of(error)->payload;

    return payload.type == type ? payload.value : NULL;
}

bool weft_error_get_index(const weft_error *error, size_t *index)
{
    if (!error->index_plus_one)
        return false;
    *index = error->index_plus_one - 1;
    return true;
}

size_t weft_error_get_trace(const weft_error *error, const weft_place *const **places)
{
    *places = error->trace;
    return error->trace_length;
}

/* ---- printing ----
 *
 * Causes are walked in a loop, however many there are. */

static void add_trace(struct weft__text *text, const weft_error *error, const char *first, const char *next)
{
    for (size_t i = 0; i < error->trace_length; i++) {
        weft__text_add(text, "%s", i ? next : first);
        weft__text_add_place(text, error->trace[i]);
    }
}

static void add_kind_and_message(struct weft__text *text, const weft_error *error)
{
    weft__text_add(text, "%s: ", weft_error_get_kind(error)->name);
    weft__text_add_visible(text, weft_error_get_message(error));
}

size_t weft_error_print(const weft_error *error, char *bytes, size_t size)
{
    const char *before = "";
    struct weft__text text;

    weft__text_init(&text, bytes, size);
    for (; error; error = weft_error_get_cause(error), before = "; caused by ") {
        weft__text_add(&text, "%s", before);
        add_kind_and_message(&text, error);
        weft__text_add(&text, " (");
        weft__text_add_place(&text, weft_error_get_place(error));
        weft__text_add(&text, ")");
        add_trace(&text, error, "; passed ", ", ");
    }
    return text.length;
}

/* Nothing without a clock: a time of 0 is none. */
static void add_time(struct weft__text *text, int64_t time)
{
    weft_clock *clock = weft__thread.clock;

    if (!time)
        return;
    weft__text_add(text, ", at ");
    weft__text_add_seconds(text, time);
    weft__text_add(text, " s");
    /* Unless it was made by another clock, that of a test, say. */
    if (clock && weft_clock_recent(clock) >= time) {
        weft__text_add(text, ", ");
        weft__text_add_seconds(text, weft_clock_recent(clock) - time);
        weft__text_add(text, " s ago");
    }
}

static void add_payload(struct weft__text *text, weft_result payload)
{
    if (payload.type == &weft_int_type)
        weft__text_add(text, "\n    payload: int %" PRIdPTR, (intptr_t)payload.value);
    else if (payload.type)
        weft__text_add(text, "\n    payload: %s", payload.type->name);
}

size_t weft_error_print_full(const weft_error *error, char *bytes, size_t size)
{
    const char *before = "";
    struct weft__text text;

    weft__text_init(&text, bytes, size);
    for (; error; error = weft_error_get_cause(error), before = "\ncaused by ") {
        weft__text_add(&text, "%s", before);
        add_kind_and_message(&text, error);
        weft__text_add(&text, "\n    made at ");
        weft__text_add_place(&text, weft_error_get_place(error));
        add_time(&text, weft_error_get_time(error));
        add_payload(&text, origin_of(error)->payload);
        add_trace(&text, error, "\n    passed ", "\n    passed ");
    }
    return text.length;
}

/* ---- as JSON ---- */

static void add_json_kinds(struct weft__text *text, const weft_error_kind *kind)
{
    const char *before = "";

    weft__text_add(text, "\"kind\":");
    weft__text_add_json_string(text, kind->name);
    weft__text_add(text, ",\"kinds\":[");
    for (; kind; kind = kind->parent, before = ",") {
        weft__text_add(text, "%s", before);
        weft__text_add_json_string(text, kind->name);
    }
    weft__text_add(text, "]");
}

static void add_json_place(struct weft__text *text, const weft_place *place)
{
    weft__text_add(text, "\"file\":");
    weft__text_add_json_string(text, place->file);
    weft__text_add(text, ",\"line\":%d,\"function\":", place->line);
    weft__text_add_json_string(text, place->function);
}

static void add_json_trace(struct weft__text *text, const weft_error *error)
{
    weft__text_add(text, ",\"trace\":[");
    for (size_t i = 0; i < error->trace_length; i++) {
        weft__text_add(text, i ? ",{" : "{");
        add_json_place(text, error->trace[i]);
        weft__text_add(text, "}");
    }
    weft__text_add(text, "]");
}

static void add_json_payload(struct weft__text *text, weft_result payload)
{
    if (!payload.type)
        return;
    weft__text_add(text, ",\"payload\":{\"type\":");
    weft__text_add_json_string(text, payload.type->name);
    if (payload.type == &weft_int_type)
        weft__text_add(text, ",\"value\":%" PRIdPTR, (intptr_t)payload.value);
    weft__text_add(text, "}");
}

/* All but its cause and the end. */
static void add_json_members(struct weft__text *text, const weft_error *error)
{
    add_json_kinds(text, weft_error_get_kind(error));
    weft__text_add(text, ",\"message\":");
    weft__text_add_json_string(text, weft_error_get_message(error));
    weft__text_add(text, ",");
    add_json_place(text, weft_error_get_place(error));
    weft__text_add(text, ",\"time\":");
    weft__text_add_seconds(text, weft_error_get_time(error));
    add_json_trace(text, error);
    add_json_payload(text, origin_of(error)->payload);
}

size_t weft_error_print_json(const weft_error *error, char *bytes, size_t size)
{
    struct weft__text text;
    size_t open = 0;

    weft__text_init(&text, bytes, size);
    for (; error; error = weft_error_get_cause(error)) {
        weft__text_add(&text, open++ ? ",\"cause\":{" : "{");
        add_json_members(&text, error);
    }
    while (open--)
        weft__text_add(&text, "}");
    return text.length;
}

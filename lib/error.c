/* Errors: immutable, counted, and able to say which way they came.
 *
 * The trace grows as an error goes up, so an error that several hold would change under the others' eyes: then the one who
 * passes it on gets another object, which shares everything but the trace with the `origin`. Two errors are the same one
 * when their origins are. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <weft/error.h>

#include "lib/thread.h"

enum { MAX_TRACE = 32 };

struct weft_error {
    uint32_t references;
    uint16_t trace_length;
    uint16_t trace_capacity;
    weft_error *origin; /* NULL: this is the origin, and what follows but the trace is set */
    const weft_error_kind *kind;
    const weft_place *place;
    int64_t time;
    char *message;
    weft_error *cause;
    weft_result payload;
    const weft_place **trace;
};

const weft_error_kind WEFT_FAILURE = {"failure", NULL};
const weft_error_kind WEFT_OS_ERROR = {"os_error", &WEFT_FAILURE};
const weft_error_kind WEFT_TIMED_OUT = {"timed_out", &WEFT_FAILURE};
const weft_error_kind WEFT_ORPHANED = {"orphaned", &WEFT_FAILURE};
const weft_error_kind WEFT_MISUSE = {"misuse", &WEFT_FAILURE};
const weft_error_kind WEFT_ALREADY_CALLED = {"already_called", &WEFT_MISUSE};
const weft_error_kind WEFT_CANCELLED = {"cancelled", NULL};
const weft_error_kind WEFT_CLIENT_GONE = {"client_gone", &WEFT_CANCELLED};
const weft_error_kind WEFT_SHUTDOWN = {"shutdown", &WEFT_CANCELLED};

static const weft_error *origin_of(const weft_error *error)
{
    return error->origin ? error->origin : error;
}

/* ---- making ---- */

static weft_error *error_alloc(void)
{
    weft_error *error = weft_alloc_zeroed(sizeof *error);

    error->references = 1;
    weft__thread.live.errors++;
    return error;
}

static __attribute__((nonnull(2))) char *print_message(const char *suffix, const char *format, va_list arguments)
{
    va_list again;
    size_t length, suffix_length = suffix ? strlen(suffix) + 2 : 0;
    char *message;

    va_copy(again, arguments);
    length = (size_t)vsnprintf(NULL, 0, format, again);
    va_end(again);
    message = weft_alloc(length + suffix_length + 1);
    vsnprintf(message, length + 1, format, arguments);
    if (suffix)
        snprintf(message + length, suffix_length + 1, ": %s", suffix);
    return message;
}

static weft_error *error_new(const weft_error_kind *kind, const weft_place *place, char *message)
{
    weft_error *error = error_alloc();
    weft_clock *clock = weft_clock_current();

    error->kind = kind;
    error->place = place;
    error->time = clock ? weft_clock_recent(clock) : 0;
    error->message = message;
    return error;
}

weft_error *weft_error_new_at(const weft_error_kind *kind, const weft_place *place, const char *format, ...)
{
    va_list arguments;
    char *message;

    va_start(arguments, format);
    message = print_message(NULL, format, arguments);
    va_end(arguments);
    return error_new(kind, place, message);
}

weft_error *weft_error_os_at(int code, const weft_place *place, const char *format, ...)
{
    va_list arguments;
    char *message;

    va_start(arguments, format);
    message = print_message(strerror(code), format, arguments);
    va_end(arguments);
    return weft_error_with_payload(error_new(&WEFT_OS_ERROR, place, message), weft_int(code));
}

weft_error *weft_error_caused_by(weft_error *error, weft_error *cause)
{
    assert(error->references == 1 && !error->origin && !error->cause);
    error->cause = cause;
    return error;
}

weft_error *weft_error_with_payload(weft_error *error, weft_result payload)
{
    assert(error->references == 1 && !error->origin && !error->payload.type);
    error->payload = payload;
    return error;
}

weft_error *weft_error_ref(weft_error *error)
{
    error->references++;
    return error;
}

/* A chain of causes is let go of in a loop: it may be long. */
weft_error *weft_error_unref(weft_error *error)
{
    while (error && !--error->references) {
        weft_error *next = error->origin ? error->origin : error->cause;

        weft_result_drop(error->payload);
        weft_free(error->message);
        weft_free(error->trace);
        weft_free(error);
        weft__thread.live.errors--;
        error = next;
    }
    return NULL;
}

/* ---- the way up ---- */

static weft_error *error_branch(weft_error *error)
{
    weft_error *branch = error_alloc();

    branch->origin = error->origin ? weft_error_ref(error->origin) : weft_error_ref(error);
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

/* ---- asking ---- */

bool weft_error_is(const weft_error *error, const weft_error_kind *kind)
{
    if (!error)
        return false;
    for (const weft_error_kind *k = weft_error_get_kind(error); k; k = k->parent) {
        if (k == kind)
            return true;
    }
    return false;
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

size_t weft_error_get_trace(const weft_error *error, const weft_place *const **places)
{
    *places = error->trace;
    return error->trace_length;
}

/* ---- printing ---- */

struct text {
    char *bytes;
    size_t size;
    size_t length; /* of the whole, also of what did not fit */
};

static void text_add(struct text *text, const char *format, ...) WEFT_PRINTF(2, 3);

static void text_add(struct text *text, const char *format, ...)
{
    size_t room = text->length < text->size ? text->size - text->length : 0;
    va_list arguments;

    va_start(arguments, format);
    text->length += (size_t)vsnprintf(room ? text->bytes + text->length : NULL, room, format, arguments);
    va_end(arguments);
}

static void text_add_place(struct text *text, const weft_place *place)
{
    text_add(text, "%s:%d %s", place->file, place->line, place->function);
}

static void text_add_error(struct text *text, const weft_error *error)
{
    text_add(text, "%s: %s (", weft_error_get_kind(error)->name, weft_error_get_message(error));
    text_add_place(text, weft_error_get_place(error));
    text_add(text, ")");
    for (size_t i = 0; i < error->trace_length; i++) {
        text_add(text, i ? ", " : "; passed ");
        text_add_place(text, error->trace[i]);
    }
}

size_t weft_error_print(const weft_error *error, char *bytes, size_t size)
{
    struct text text = {bytes, size, 0};

    if (size)
        bytes[0] = '\0';
    text_add_error(&text, error);
    for (const weft_error *cause = weft_error_get_cause(error); cause; cause = weft_error_get_cause(cause)) {
        text_add(&text, "; caused by ");
        text_add_error(&text, cause);
    }
    return text.length;
}

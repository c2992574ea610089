/* weft/error.h: errors: a kind, a message, where it was made, what caused it, and the places it passed on its way up.
 *
 * Errors are immutable once shared, and reference-counted. A call that can fail at once returns `weft_error *`, NULL for
 * success and otherwise one reference, the caller's; a call that waits returns a weft_result. There are no integer codes.
 *
 * The kinds form a tree with two roots, so that "any failure" and "was cancelled" cannot be mistaken for each other:
 * weft_error_is(e, &WEFT_FAILURE) never matches a cancellation. Users make families of their own:
 *
 *     static const weft_error_kind ROOM_FULL = {"room_full", &WEFT_FAILURE};
 *     return weft_fail(weft_error_new(&ROOM_FULL, "room %s holds %d already", room->id, room->limit)); */
#ifndef WEFT_ERROR_H
#define WEFT_ERROR_H

#include <weft/result.h>

WEFT_BEGIN

typedef struct weft_error_kind {
    const char *name;
    const struct weft_error_kind *parent; /* NULL only for the two roots */
} weft_error_kind;

/* ---- kinds ------------------------------------------------------------------------------------------------------ */

WEFT_API extern const weft_error_kind WEFT_FAILURE;        /* every ordinary error */
WEFT_API extern const weft_error_kind WEFT_OS_ERROR;       /* a system call failed; payload: weft_int(errno) */
WEFT_API extern const weft_error_kind WEFT_TIMED_OUT;      /* weft_deferred_add_timeout, or a scope's deadline, ran out */
WEFT_API extern const weft_error_kind WEFT_ORPHANED;       /* the last one who could have fired a deferred let go of it */
WEFT_API extern const weft_error_kind WEFT_MISUSE;         /* a rule of this library was broken by its caller */
WEFT_API extern const weft_error_kind WEFT_ALREADY_CALLED; /* a misuse: a deferred was fired twice */
WEFT_API extern const weft_error_kind WEFT_BUSY;           /* a limit is reached: it may be asked again later */
WEFT_API extern const weft_error_kind WEFT_FAILURE_GROUP;  /* all members failed (weft/gather.h); payload: weft_results */
WEFT_API extern const weft_error_kind WEFT_GROUP_ENDED;    /* spawned into a group that is ending (weft/group.h) */

/* A wrapper: one member failed, with the error that is this one's cause. Around a cancellation it counts as cancelled and
 * not as a failure: for the two roots and for what is below WEFT_CANCELLED, weft_error_is answers as for the cause. */
WEFT_API extern const weft_error_kind WEFT_FIRST_ERROR;

WEFT_API extern const weft_error_kind WEFT_CANCELLED;      /* somebody asked for the work to stop */
WEFT_API extern const weft_error_kind WEFT_CLIENT_GONE;    /* … because whoever wanted the result has left */
WEFT_API extern const weft_error_kind WEFT_SHUTDOWN;       /* … because the program ends */
WEFT_API extern const weft_error_kind WEFT_DEADLINE;       /* … because the deadline of a scope has passed */
WEFT_API extern const weft_error_kind WEFT_SIBLING_FAILED; /* … because one gathered, or grouped, with it failed: the cause */

/* ---- making ----------------------------------------------------------------------------------------------------- */

/* One reference, the caller's. The message is printf's; a `format` without any `%` is kept and not copied, as it is a
 * literal: give text from elsewhere as "%s". */
#define weft_error_new(kind, ...) weft_error_new_at(kind, WEFT_HERE, __VA_ARGS__)
WEFT_API weft_error *weft_error_new_at(const weft_error_kind *kind, const weft_place *place, const char *format, ...)
    WEFT_PRINTF(3, 4) __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* A WEFT_OS_ERROR: the message, then ": ", then the text of `code`, which is kept as the payload. */
#define weft_error_os(code, ...) weft_error_os_at(code, WEFT_HERE, __VA_ARGS__)
WEFT_API weft_error *weft_error_os_at(int code, const weft_place *place, const char *format, ...) WEFT_PRINTF(3, 4)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Complete a fresh error, before anybody else holds it, once each; both return `error` and take what they are given. For
 * one that is held by others, or has one already, it is a misuse: it is logged, and what was given is dropped. A NULL
 * cause is none. */
WEFT_API weft_error *weft_error_caused_by(weft_error *error, weft_error *cause) WEFT_MUST_USE;
WEFT_API weft_error *weft_error_with_payload(weft_error *error, weft_result payload) WEFT_MUST_USE;

WEFT_API weft_error *weft_error_ref(weft_error *error); /* one more reference, the caller's; returns it */
/* The last one drops the payload (weft_result_drop) and lets go of the cause. NULL is fine; returns NULL. */
WEFT_API weft_error *weft_error_unref(weft_error *error);

/* Takes an error and gives it back with `place` added to its trace. An error that somebody else holds too is not
 * touched: what comes back is then another object for the same error. A place named twice in a row counts once. */
WEFT_API weft_error *weft_error_passed(weft_error *error, const weft_place *place) WEFT_MUST_USE;

/* Takes an error and gives it back marked as that of member `index` of what was gathered or mapped. As with the trace, one
 * that somebody else holds too is not touched; one that passes through two such calls has the index of the last. */
WEFT_API weft_error *weft_error_with_index(weft_error *error, size_t index) WEFT_MUST_USE;

/* For a call that returns `weft_error *`, in a function that returns weft_result: goes on when it succeeded; otherwise
 * returns from the calling function with the failure, this place added to its trace. Beside WEFT_TRY, which is for
 * results. */
#define WEFT_CHECK(error)                                                                                           \
    do {                                                                                                            \
        weft_error *weft__checked = (error);                                                                        \
        if (__builtin_expect(weft__checked != NULL, 0))                                                             \
            return weft_fail(weft_error_passed(weft__checked, WEFT_HERE));                                          \
    } while (0)

/* ---- asking: everything returned is borrowed from the error ------------------------------------------------------- */

/* Whether the error is of this kind or of one below it. False for NULL. */
WEFT_API bool weft_error_is(const weft_error *error, const weft_error_kind *kind);
/* Whether both are one error, whatever places each has passed since. False when either is NULL. */
WEFT_API bool weft_error_same(const weft_error *error, const weft_error *other);

WEFT_API const weft_error_kind *weft_error_get_kind(const weft_error *error);
WEFT_API const char *weft_error_get_message(const weft_error *error); /* never NULL */
WEFT_API const weft_place *weft_error_get_place(const weft_error *error); /* where it was made */
/* When: the recent time of the clock of the thread that made it; 0 when that had none. */
WEFT_API int64_t weft_error_get_time(const weft_error *error);
WEFT_API weft_error *weft_error_get_cause(const weft_error *error);       /* or NULL */
WEFT_API void *weft_error_get_payload(const weft_error *error, const weft_type *type); /* NULL unless of that type */

/* Which member of what was gathered or mapped failed with it, in `*index`; false, and `*index` untouched, when none did. */
WEFT_API bool weft_error_get_index(const weft_error *error, size_t *index);

/* The places it passed, innermost first; at most the first 32 are kept. Returns their number. */
WEFT_API size_t weft_error_get_trace(const weft_error *error, const weft_place *const **places);

/* ---- printing -----------------------------------------------------------------------------------------------------
 * Each writes at most `size` bytes, ended by NUL unless there are none, and returns the length of the whole text, as
 * snprintf does; none runs callbacks. Times are seconds of the clock of the thread that made the error. A chain of causes
 * may be of any length. */

/* One line: kind, message, place, trace and causes: "timed_out: no event within 5 s (rooms.c:41 wait_for_room)". Control
 * characters in messages are written as \xNN, here and in the next. */
WEFT_API size_t weft_error_print(const weft_error *error, char *text, size_t size);

/* Several lines, without an end of line behind the last:
 *
 *     timed_out: no event within 5 s
 *         made at rooms.c:41 wait_for_room, at 12.500000 s, 0.250000 s ago
 *         payload: int 5
 *         passed rooms.c:60 get_room
 *     caused by room_full: 12 are in it
 *         made at db.c:7 query
 *
 * What there is none of is left out: the time when there was no clock, how long ago by a clock that this thread lacks. A
 * payload is named by its type. */
WEFT_API size_t weft_error_print_full(const weft_error *error, char *text, size_t size);

/* One line, an object of JSON in UTF-8 (a text that was cut is none): "kind", "kinds" (from the kind up to its root),
 * "message", "file", "line" and "function" of where it was made, "time" (0 without a clock), "trace" (an array of places),
 * "payload" if any ({"type": "int", "value": 5}; only an int has a value) and "cause" if any, an object of the same form.
 * Many causes are nested as deep, which not every parser takes. */
WEFT_API size_t weft_error_print_json(const weft_error *error, char *text, size_t size);

WEFT_AUTO(weft_error, weft_error_unref)

WEFT_END

#endif

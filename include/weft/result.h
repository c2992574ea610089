/* weft/result.h: a value that knows how to be dropped, or an error.
 *
 * A result is what callbacks take and give, what a deferred holds and what an await returns. It owns its value: whoever
 * has the result hands it on or drops it, exactly once. A failure is a result whose type is `weft_error_type`; one
 * still to come is a result whose type is `weft_deferred_type`; so neither reaches a success path by mistake. */
#ifndef WEFT_RESULT_H
#define WEFT_RESULT_H

#include <weft/base.h>

WEFT_BEGIN

typedef struct weft_error weft_error;
typedef struct weft_deferred weft_deferred;

/* What a kind of value is called and how it is shared and dropped. Static; compared by address. */
typedef struct weft_type {
    const char *name;           /* "json": what it is called */
    void *(*ref)(void *value);  /* NULL: cannot be shared between several consumers */
    void (*unref)(void *value); /* NULL: borrowed, nobody frees it */
} weft_type;

typedef struct weft_result {
    void *value;
    const weft_type *type; /* NULL: a borrowed value of no declared type */
} weft_result;

WEFT_API extern const weft_type weft_error_type;
WEFT_API extern const weft_type weft_deferred_type;
WEFT_API extern const weft_type weft_int_type;

/* ---- making results: each takes what it is given ---------------------------------------------------------------- */

static inline weft_result weft_own(void *value, const weft_type *type)
{
    weft_result result = {value, type};
    return result;
}

/* Success with a borrowed value, or with none: weft_ok(NULL). */
static inline weft_result weft_ok(void *value)
{
    return weft_own(value, NULL);
}

static inline weft_result weft_int(intptr_t number)
{
    return weft_own((void *)number, &weft_int_type);
}

static inline weft_result weft_fail(weft_error *error)
{
    return weft_own(error, &weft_error_type);
}

/* Returned from a callback: "the result is whatever this deferred brings". Takes the reference. */
static inline weft_result weft_later(weft_deferred *deferred)
{
    return weft_own(deferred, &weft_deferred_type);
}

/* ---- looking at them -------------------------------------------------------------------------------------------- */

/* The error of a failure, borrowed from the result; NULL when it did not fail. */
static inline weft_error *weft_failed(weft_result result)
{
    return result.type == &weft_error_type ? (weft_error *)result.value : NULL;
}

/* Releases what the result owns, which may run callbacks: a deferred may be orphaned by it, a lock go to the next in
 * line. An error dropped here is handled: it is not reported. */
static inline void weft_result_drop(weft_result result)
{
    if (result.type && result.type->unref)
        result.type->unref(result.value);
}

/* The value of `result`, now the caller's; or, when it failed, returns from the calling function with the same failure,
 * this place added to the error's trace. The calling function must return weft_result. */
#define WEFT_TRY(result)                                                                                            \
    (__extension__({                                                                                                \
        weft_result weft__tried = (result);                                                                         \
        if (__builtin_expect(weft_failed(weft__tried) != NULL, 0))                                                  \
            return weft_result_passed(weft__tried, WEFT_HERE);                                                      \
        weft__tried.value;                                                                                          \
    }))

/* Takes a failure, and nothing but one, and gives it back with `place` added to its trace; what WEFT_TRY does on the way
 * out. */
WEFT_API weft_result weft_result_passed(weft_result failure, const weft_place *place);

WEFT_END

#endif

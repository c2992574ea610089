/* weft/base.h: what the other headers lean on: visibility, places in the source, memory, clean-up on the way out. */
#ifndef WEFT_BASE_H
#define WEFT_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define WEFT_BEGIN extern "C" {
#define WEFT_END }
#else
#define WEFT_BEGIN
#define WEFT_END
#endif

#define WEFT_API __attribute__((visibility("default")))
#define WEFT_MUST_USE __attribute__((warn_unused_result))
#define WEFT_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* One name of two, for macros that need a name of their own on each line: WEFT_JOINED(x, __LINE__). */
#define WEFT_JOINED(a, b) WEFT__JOINED(a, b)
#define WEFT__JOINED(a, b) a##b

WEFT_BEGIN

/* Where something was made or done. Places are static: they are compared and kept by pointer, and never freed. */
typedef struct weft_place {
    const char *file;
    const char *function;
    int line;
} weft_place;

/* The place of this line. Functions that remember their caller are macros over a function named `…_at`, which a
 * binding for another language calls with a place of its own. */
#define WEFT_HERE                                                                                                   \
    (__extension__({                                                                                                \
        static const weft_place weft__here = {__FILE__, __func__, __LINE__};                                        \
        &weft__here;                                                                                                \
    }))

/* ---- memory ------------------------------------------------------------------------------------------------- */

/* Never NULL: running out of memory prints one line and aborts, here and nowhere else. `weft_free(NULL)` is fine. */
WEFT_API void *weft_alloc(size_t size) __attribute__((malloc, returns_nonnull));
WEFT_API void *weft_alloc_zeroed(size_t size) __attribute__((malloc, returns_nonnull));
WEFT_API void *weft_realloc(void *memory, size_t size) __attribute__((returns_nonnull));
WEFT_API char *weft_strdup(const char *text) __attribute__((malloc, returns_nonnull));
WEFT_API void weft_free(void *memory);

/* ---- clean-up on the way out ---------------------------------------------------------------------------------- */

/* WEFT_AUTO(struct room, room_unref) once, then in any function
 *     weft_auto(room_unref) struct room *room = …;
 * calls room_unref(room) however the function is left, also by WEFT_TRY. A NULL pointer is skipped. */
#define WEFT_AUTO(type, unref)                                                                                      \
    __attribute__((unused)) static inline void unref##_auto(type **variable)                                        \
    {                                                                                                               \
        if (*variable)                                                                                              \
            unref(*variable);                                                                                       \
    }
#define weft_auto(unref) __attribute__((cleanup(unref##_auto), unused))

WEFT_END

#endif

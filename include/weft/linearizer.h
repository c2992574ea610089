/* weft/linearizer.h: a linearizer: a semaphore for each key. Work for one room goes one by one, or so many at a time, while
 * other rooms' goes on.
 *
 *     weft_auto(weft_linearizer_release) weft_linearizer_grant *held =
 *         WEFT_TRY(weft_await(weft_linearizer_acquire(linearizer, room_id)));
 *
 * For each key the rules are those of weft/lock.h: a grant is a value, and dropping it releases; it goes straight to the
 * first in line; a release inside a callback of the same key is carried out when that has returned. A key nobody holds or
 * waits for takes no memory. A linearizer belongs to the thread that made it. */
#ifndef WEFT_LINEARIZER_H
#define WEFT_LINEARIZER_H

#include <weft/deferred.h>

WEFT_BEGIN

typedef struct weft_linearizer weft_linearizer;
typedef struct weft_linearizer_grant weft_linearizer_grant; /* a held key */

/* The type of a held key; dropping the value releases it. */
WEFT_API extern const weft_type weft_linearizer_type;

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* One reference, the caller's, to a linearizer that lets `max_count` hold a key at once; none at all is a WEFT_MISUSE.
 * `name` is copied. */
WEFT_API weft_error *weft_linearizer_new(weft_linearizer **out, const char *name, size_t max_count) WEFT_MUST_USE;
WEFT_API weft_linearizer *weft_linearizer_ref(weft_linearizer *linearizer); /* one more, the caller's; returns it */
/* NULL is fine; returns NULL. While a key is held the linearizer lives without references. Runs no callbacks. */
WEFT_API weft_linearizer *weft_linearizer_unref(weft_linearizer *linearizer);

/* ---- use -------------------------------------------------------------------------------------------------------- */

/* A deferred, the caller's, whose value is a grant, with the type weft_linearizer_type: at once when the key is free and
 * nobody is in line for it, else when it is this one's turn. Cancelling one that waits takes it out of the line; one that
 * has the key is left alone. `key` is copied. */
#define weft_linearizer_acquire(linearizer, key) weft_linearizer_acquire_at(linearizer, key, WEFT_HERE)
WEFT_API weft_deferred *weft_linearizer_acquire_at(weft_linearizer *linearizer, const char *key, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Takes a grant and gives it to the first in line, whose callbacks run before this returns. Once for each grant: afterwards
 * there may be nothing left at its address. */
WEFT_API void weft_linearizer_release(weft_linearizer_grant *grant);

/* ---- looking ------------------------------------------------------------------------------------------------------ */

WEFT_API const char *weft_linearizer_get_name(const weft_linearizer *linearizer); /* borrowed */
WEFT_API bool weft_linearizer_is_queued(const weft_linearizer *linearizer, const char *key); /* whether somebody is in line */
WEFT_API size_t weft_linearizer_get_keys(const weft_linearizer *linearizer); /* how many are held */

WEFT_AUTO(weft_linearizer, weft_linearizer_unref)
WEFT_AUTO(weft_linearizer_grant, weft_linearizer_release)

WEFT_END

#endif

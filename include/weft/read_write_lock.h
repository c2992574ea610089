/* weft/read_write_lock.h: a lock for each key that many readers, or one writer, hold at a time.
 *
 *     weft_auto(weft_read_write_lock_release) weft_read_write_grant *held =
 *         WEFT_TRY(weft_await(weft_read_write_lock_read(lock, room_id)));
 *
 * All who cannot go at once stand in one line, and go in the order in which they came: readers next to each other together.
 * A reader that comes after a waiting writer waits for it, so writers do not starve; nor do readers. A cancelled waiter
 * leaves at once, and those behind it go if nobody else was in their way.
 *
 * A grant is a value, and dropping it releases, as in weft/lock.h. It is not re-entrant, and a reader cannot become a
 * writer. A key nobody holds or waits for takes no memory. A lock belongs to the thread that made it. */
#ifndef WEFT_READ_WRITE_LOCK_H
#define WEFT_READ_WRITE_LOCK_H

#include <weft/deferred.h>

WEFT_BEGIN

typedef struct weft_read_write_lock weft_read_write_lock;
typedef struct weft_read_write_grant weft_read_write_grant; /* a held key */

/* The types of a key held for reading and for writing; dropping the value releases it. */
WEFT_API extern const weft_type weft_read_lock_type;
WEFT_API extern const weft_type weft_write_lock_type;

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* One reference, the caller's. */
WEFT_API weft_read_write_lock *weft_read_write_lock_new(void) __attribute__((returns_nonnull)) WEFT_MUST_USE;
WEFT_API weft_read_write_lock *weft_read_write_lock_ref(weft_read_write_lock *lock); /* one more, the caller's; returns it */
/* NULL is fine; returns NULL. While a key is held the lock lives without references. Runs no callbacks. */
WEFT_API weft_read_write_lock *weft_read_write_lock_unref(weft_read_write_lock *lock);

/* ---- use -------------------------------------------------------------------------------------------------------- */

/* A deferred, the caller's, whose value is a grant: at once when nobody is in line for the key and no writer holds it, else
 * when it is this one's turn. Cancelling one that waits takes it out of the line, and runs the callbacks of those who can go
 * now; one that has the key is left alone. `key` is copied. */
#define weft_read_write_lock_read(lock, key) weft_read_write_lock_read_at(lock, key, WEFT_HERE)
WEFT_API weft_deferred *weft_read_write_lock_read_at(weft_read_write_lock *lock, const char *key, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* The same for a writer, which goes at once when nobody holds the key at all. */
#define weft_read_write_lock_write(lock, key) weft_read_write_lock_write_at(lock, key, WEFT_HERE)
WEFT_API weft_deferred *weft_read_write_lock_write_at(weft_read_write_lock *lock, const char *key, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Takes a grant, of either type, and lets in those in line who can go now: their callbacks run before this returns, inside a
 * callback of the same key when that has returned. Once for each grant: afterwards there may be nothing left at its
 * address. */
WEFT_API void weft_read_write_lock_release(weft_read_write_grant *grant);

/* ---- looking ------------------------------------------------------------------------------------------------------ */

WEFT_API size_t weft_read_write_lock_get_keys(const weft_read_write_lock *lock); /* how many are held */

WEFT_AUTO(weft_read_write_lock, weft_read_write_lock_unref)
WEFT_AUTO(weft_read_write_grant, weft_read_write_lock_release)

WEFT_END

#endif

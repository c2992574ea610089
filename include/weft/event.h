/* weft/event.h: an event: set or not; whoever waits goes on when it is set.
 *
 *     WEFT_TRY(weft_await(weft_deferred_add_timeout(weft_event_wait(ready), clock, 5)));
 *
 * Setting wakes those who wait at that moment, in the order in which they came, also when one of them clears the event or
 * waits again. An event belongs to the thread that made it. */
#ifndef WEFT_EVENT_H
#define WEFT_EVENT_H

#include <weft/deferred.h>

WEFT_BEGIN

typedef struct weft_event weft_event;

WEFT_API weft_event *weft_event_new(void) __attribute__((returns_nonnull)) WEFT_MUST_USE; /* not set; the caller's */
/* Fails whoever waits with WEFT_ORPHANED, as it does those who come while their callbacks run. May be called inside a
 * callback that the event runs: when that has returned, those whom it was waking are woken, and the others fail. NULL is
 * fine; returns NULL. */
WEFT_API weft_event *weft_event_free(weft_event *event);

/* Runs the callbacks of those who wait before it returns; inside a callback that the event runs, when that has returned. */
WEFT_API void weft_event_set(weft_event *event);
WEFT_API void weft_event_clear(weft_event *event); /* those who come now wait; runs nothing */

/* A deferred, the caller's, that succeeds with no value: at once when the event is set, else when it is set next. One
 * that is cancelled, or timed out, leaves nothing behind. */
#define weft_event_wait(event) weft_event_wait_at(event, WEFT_HERE)
WEFT_API weft_deferred *weft_event_wait_at(weft_event *event, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

WEFT_API bool weft_event_is_set(const weft_event *event);
WEFT_API size_t weft_event_get_waiting(const weft_event *event); /* how many wait, those being woken included */

WEFT_AUTO(weft_event, weft_event_free)

WEFT_END

#endif

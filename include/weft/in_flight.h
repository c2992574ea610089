/* weft/in_flight.h: how many of something go on right now, and for how long they have: three gauges in one.
 *
 * NAME tells how many there are, NAME_oldest_seconds the age of the oldest, NAME_ages_seconds that of all together. Ages are
 * by the clock of the thread (weft_clock_current) that began them, to its turn; without a clock they are 0. Any thread may
 * begin one, and another one end it. */
#ifndef WEFT_IN_FLIGHT_H
#define WEFT_IN_FLIGHT_H

#include <weft/metrics.h>

WEFT_BEGIN

typedef struct weft_in_flight weft_in_flight;             /* declared once, and never freed */
typedef struct weft_in_flight_series weft_in_flight_series; /* the same: one for its label values */

/* One of them, in the memory of its user, who must end it before freeing that. All of it is private. */
typedef struct weft_flight {
    struct weft_flight *next;
    struct weft_flight *previous;
    weft_in_flight_series *series;
    int64_t began;
} weft_flight;

/* As weft_metric_declare, of which kind, unit and bounds are not looked at, says. */
#define weft_in_flight_declare(out, ...) weft_in_flight_declare_at(out, WEFT_HERE, __VA_ARGS__)
WEFT_API weft_error *weft_in_flight_declare_at(weft_in_flight **out, const weft_place *place, weft_metric_options options)
    WEFT_MUST_USE;

#define weft_in_flight_get(...) weft_in_flight_get_values(__VA_ARGS__, (const char *)NULL)
WEFT_API weft_in_flight_series *weft_in_flight_get_values(weft_in_flight *in_flight, ...)
    __attribute__((returns_nonnull, sentinel));

/* Each takes a lock, for some steps. Ending one that has not begun, or has ended, is a bug: it aborts. */
WEFT_API void weft_flight_begin(weft_flight *flight, weft_in_flight_series *series);
WEFT_API void weft_flight_end(weft_flight *flight);

WEFT_END

#endif

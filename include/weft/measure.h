/* weft/measure.h: what a part of the work costs, whoever it is for.
 *
 *     static weft_description rendering = WEFT_DESCRIPTION("render_page");
 *
 *     weft_measure(&rendering) {
 *         …
 *     }
 *
 * The block runs in a context of its own, below the current one and of the same name. What is spent inside, across all its
 * waits, is charged to the request as before, and counted under the description as well: how often, how long by the clock on
 * the wall, CPU time, database, bytes; and how many of these blocks are going on, and for how long. From no context it is
 * counted all the same. Blocks may stand in one another; what is spent in one inside itself is counted once. (Synapse's
 * Measure.)
 *
 * The block may be left in any way. A fiber that it starts, and that goes on after it, is charged to the request and no
 * longer to the block, and is warned of as whatever outlives its context (weft_context_end). */
#ifndef WEFT_MEASURE_H
#define WEFT_MEASURE_H

#include <weft/context.h>
#include <weft/description.h>

WEFT_BEGIN

#define weft_measure(description)                                                                                   \
    weft__measure(description, WEFT_JOINED(weft__block, __LINE__), WEFT_JOINED(weft__once, __LINE__))
#define weft__measure(description, block, once)                                                                     \
    for (weft_measured block __attribute__((cleanup(weft_measured_end))) = {{NULL, NULL, NULL, false}, {NULL}},     \
                             *once = weft_measured_begin(&block, description, WEFT_HERE);                           \
         once; once = NULL)

/* What that is made of, for bindings. It stays where it is until it has ended. */
typedef struct weft_measured {
    weft_context_block weft__block;
    void *weft__flight[4];
} weft_measured;
WEFT_API weft_measured *weft_measured_begin(weft_measured *measured, weft_description *description,
                                            const weft_place *place);
WEFT_API void weft_measured_end(weft_measured *measured);

/* What all blocks of a description have cost, on all threads, those that go on included. */
typedef struct weft_measurements {
    uint64_t started;
    uint64_t in_flight;
    int64_t wall_ns;   /* of those that have ended */
    int64_t ages_ns;   /* of those in flight, together */
    int64_t oldest_ns; /* the age of the oldest of them */
    weft_usage usage;
} weft_measurements;

/* From any thread. What other threads have used in the last moment, up to a turn of their loop, may be missing. */
WEFT_API weft_measurements weft_measurements_get(const weft_description *description);

WEFT_END

#endif

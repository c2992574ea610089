/* weft/results.h: several results as one value: what weft/gather.h brings.
 *
 * Both types own what is in them: dropping one drops every member that was not taken out. They have one owner. */
#ifndef WEFT_RESULTS_H
#define WEFT_RESULTS_H

#include <weft/result.h>

WEFT_BEGIN

/* Results in the order of what they were asked from. Made by weft; read the items, take them with weft_results_take. */
typedef struct weft_results {
    size_t count;
    weft_result items[];
} weft_results;

/* One of several, and which. */
typedef struct weft_indexed {
    size_t index;
    weft_result result;
} weft_indexed;

WEFT_API extern const weft_type weft_results_type;
WEFT_API extern const weft_type weft_indexed_type;

/* Drop what was not taken, and so may run what dropping runs (weft_result_drop). NULL is fine; return NULL. */
WEFT_API weft_results *weft_results_free(weft_results *results);
WEFT_API weft_indexed *weft_indexed_free(weft_indexed *indexed);

/* Moves a member out, the caller's now, and leaves success with no value in its place. There is a WEFT_MISUSE error in
 * place of a member that there is not. */
#define weft_results_take(results, index) weft_results_take_at(results, index, WEFT_HERE)
WEFT_API weft_result weft_results_take_at(weft_results *results, size_t index, const weft_place *place)
    WEFT_MUST_USE;
WEFT_API weft_result weft_indexed_take(weft_indexed *indexed) WEFT_MUST_USE;

WEFT_AUTO(weft_results, weft_results_free)
WEFT_AUTO(weft_indexed, weft_indexed_free)

WEFT_END

#endif

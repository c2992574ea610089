/* weft/description.h: names under which work is counted: of background processes (weft/background.h) and measured blocks
 * (weft/measure.h).
 *
 *     static weft_description cleanup = WEFT_DESCRIPTION("cleanup");
 *
 * Each is a series of its own in whatever shows what a server does, for as long as it runs. So there may be as many as
 * stand in the program's text, and no more: a name is a literal. One registers itself when it is first used, for the whole
 * process. Two of one name are counted as one, the first, and that is logged as an error. */
#ifndef WEFT_DESCRIPTION_H
#define WEFT_DESCRIPTION_H

#include <weft/base.h>

WEFT_BEGIN

/* Static. */
typedef struct weft_description {
    const char *name; /* read only */
    const char *file; /* read only: where it stands */
    int line;         /* read only */
    struct weft_description *weft__counted; /* the library's, all below: the one whose counts these are */
    struct weft_description *weft__older;
    uint64_t weft__started;
    uint64_t weft__in_flight;
} weft_description;

#define WEFT_DESCRIPTION(literal) {"" literal "", __FILE__, __LINE__, NULL, NULL, 0, 0}

/* Of the processes that run, or ran, under a description, on all threads. */
typedef struct weft_description_counts {
    uint64_t started;
    uint64_t in_flight; /* started and not ended */
} weft_description_counts;

/* From any thread. */
WEFT_API weft_description_counts weft_description_get_counts(const weft_description *description);

typedef void weft_description_fn(const weft_description *description, void *arg);

/* Calls `fn` for each name that was used, the newest first. From any thread. */
WEFT_API void weft_description_each(weft_description_fn *fn, void *arg);

WEFT_END

#endif

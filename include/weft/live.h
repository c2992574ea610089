/* weft/live.h: how many of each of weft's objects this thread has alive. All zero when everything was let go: what every
 * test asserts, and a server may show. */
#ifndef WEFT_LIVE_H
#define WEFT_LIVE_H

#include <weft/base.h>

WEFT_BEGIN

typedef struct weft_live_counts {
    size_t deferreds;
    size_t errors;
    size_t contexts;
    size_t timers;      /* started */
    size_t fibers;      /* not yet ended; driven computations (weft/driver.h) count as such */
    size_t scopes;
    size_t descriptors; /* opened by weft: listeners, connections; not what libev opens for a reactor */
    size_t connections;
    size_t requests;
} weft_live_counts;

WEFT_API weft_live_counts weft_live_counts_get(void);

WEFT_END

#endif

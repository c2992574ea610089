/* What the reactor offers to the rooms above it, and to nobody else. */
#ifndef WEFT_RUNTIME_LOOP_H
#define WEFT_RUNTIME_LOOP_H

#include <weft/reactor.h>

#include "lib/thread.h"

/* The fibers of a reactor, as it sees them. Set by the fiber room when it starts its first one. */
struct weft__runnables {
    bool (*any_ready)(struct weft__runnables *runnables);
    bool (*inside)(struct weft__runnables *runnables);      /* whether the caller is one of them */
    void (*drain)(struct weft__runnables *runnables);       /* lets those that are ready run, within a bound */
    size_t (*count)(struct weft__runnables *runnables);
    void (*cancel_all)(struct weft__runnables *runnables); /* asks all to stop */
    void (*abandon)(struct weft__runnables *runnables);    /* names those that are left in the log; none runs any more */
    void (*free)(struct weft__runnables *runnables);       /* none is left */
};

WEFT_INTERNAL void weft__reactor_set_runnables(weft_reactor *reactor, struct weft__runnables *runnables);
WEFT_INTERNAL struct weft__runnables *weft__reactor_get_runnables(weft_reactor *reactor);

#endif

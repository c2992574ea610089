/* What the reactor offers to the rooms above it, and to nobody else. */
#ifndef WEFT_RUNTIME_LOOP_H
#define WEFT_RUNTIME_LOOP_H

#include <weft/reactor.h>

#include "lib/thread.h"

/* What the fiber room adds to the reactor of its thread, when it starts its first fiber. */
struct weft__fiber_room {
    void (*free)(void); /* no fiber is left that could run */
};

WEFT_INTERNAL void weft__reactor_set_fiber_room(weft_reactor *reactor, const struct weft__fiber_room *room);

/* Does what the variables of the environment ask of a reactor that is being made. */
WEFT_INTERNAL void weft__environment_heed(weft_reactor *reactor);

#endif

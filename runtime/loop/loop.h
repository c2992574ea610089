/* What the reactor offers to the rooms above it, and to nobody else. */
#ifndef WEFT_RUNTIME_LOOP_H
#define WEFT_RUNTIME_LOOP_H

#include <weft/reactor.h>
#include <weft/stack.h>

#include "lib/thread.h"

/* For the fiber room, when it starts its first fiber: `forget` is called when the reactor is freed, and no fiber is left that
 * could run. */
WEFT_INTERNAL void weft__reactor_on_free(weft_reactor *reactor, void (*forget)(void));

/* The same: what the reactor tells about stacks. */
WEFT_INTERNAL void weft__reactor_publishes_stacks(weft_reactor *reactor, weft_stack_use (*use)(void));

/* What the metrics tell of this thread's reactor, if it has one, is brought up to date. */
void weft__reactor_publish_now(void);

/* In runtime/observe: the process and its allocator are among the metrics from now on. Called again it does nothing. */
void weft__observe_process(void);

/* Does what the variables of the environment ask of a reactor that is being made. */
WEFT_INTERNAL void weft__environment_heed(weft_reactor *reactor);

#endif

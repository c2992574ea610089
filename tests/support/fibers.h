/* tests/support/fibers.h: what tests of fibers share: a reactor of the thread, how far it runs, and bodies that wait. */
#ifndef WEFT_TEST_FIBERS_H
#define WEFT_TEST_FIBERS_H

#include "tests/support/values.h"

/* ---- the reactor of this thread ---- */

void begin(void);
void end(void); /* frees it, which cancels the fibers that are left; none may live after that */

void settle(void);   /* lets everything run that is ready, and twice what that makes ready */
void run_all(void);  /* until no fiber is left */
weft_result run_until(weft_deferred *deferred); /* takes it */
void run_for(double seconds);

/* ---- waits and bodies ---- */

weft_result noted_await(weft_deferred *deferred, const char *label); /* traces "label=result", gives the result */

/* Waits for one after the other, up to the first NULL, tracing "a=result", "b=result" ...; returns 1 whatever came. */
struct waits {
    weft_deferred *awaited[4]; /* taken */
};
weft_result wait_in_turn(void *waits);

weft_result wait_for(void *deferred); /* takes it; traces "wait=result", gives the result */

/* Runs the body in a context of that name. */
weft_deferred *spawn_in(const char *context, weft_fiber_fn *fn, void *arg);

#endif

/* The contexts that deferreds are bound to. */
#ifndef WEFT_LIB_BOUND_H
#define WEFT_LIB_BOUND_H

#include <weft/deferred.h>

/* `deferred`, which is new, is bound to `context`, or to none. */
void weft__bound_add(weft_deferred *deferred, weft_context *context);
/* The context of one that is bound, borrowed from it. */
weft_context *weft__bound_find(const weft_deferred *deferred);
/* It is bound no more. */
void weft__bound_remove(const weft_deferred *deferred);

#endif

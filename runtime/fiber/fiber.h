/* Starting fibers, for the rest of this room. */
#ifndef WEFT_RUNTIME_FIBER_H
#define WEFT_RUNTIME_FIBER_H

#include <weft/scope.h>

/* weft_spawn in `scope`, a group's, which counts it, rather than in that of the caller: `*out`, set on success only, is the
 * caller's. Fails, without having run anything, when no stack can be had. */
weft_error *weft__spawn_in(weft_deferred **out, weft_scope *scope, weft_fiber_fn *fn, void *arg, const char *name,
                           const weft_place *place);

/* What a fiber that leaves a group waits for: see lib/waits.h. */
extern const struct weft__wait_kind weft__group_waits;

#endif

/* Who holds a lock, or another thing that is granted: for those who ask why its waiters do not go on.
 *
 * A grant is a value and belongs to whoever has it; nothing depends on what is written here. A task counts as the holder
 * when it has awaited the grant, as long as it has not ended. A grant that went to a callback has no known holder. When one
 * is given back by somebody who is not among the known, nobody is known any more: rather no name than a wrong one. */
#ifndef WEFT_LIB_HOLDERS_H
#define WEFT_LIB_HOLDERS_H

#include "lib/deferred.h"

enum { WEFT__HOLDERS = 4 };

/* The first thing in what a grant's value points to. All zero: nobody is known. */
struct weft__holders {
    uint64_t tasks[WEFT__HOLDERS]; /* their numbers; one that holds two is in here twice */
    uint32_t known;
};

/* `deferred` is about to get a grant, from a line or at once: notes the task that waits for it, or, when none does, that
 * whoever awaits it later is to be noted. */
WEFT_INTERNAL void weft__holders_grant(struct weft__holders *holders, weft_deferred *deferred);
/* The task with this number has awaited `result`, which may be a grant. */
WEFT_INTERNAL void weft__holders_took(weft_result result, uint64_t number);
WEFT_INTERNAL void weft__holders_forget(struct weft__holders *holders);

/* Before a grant is given back. Of one that is known nothing is left, whoever it was. */
static inline void weft__holders_release(struct weft__holders *holders)
{
    if (__builtin_expect(holders->known > 1, 0))
        weft__holders_forget(holders);
    else
        holders->known = 0;
}

#endif

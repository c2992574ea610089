/* Background work on the caller's stack. What needs fibers is in runtime/fiber/background.c. */
#include <weft/background.h>
#include <weft/log.h>

#include "lib/background.h"

void weft__background_returned(weft_context *own, const void *fn)
{
    weft_context *left = weft__context_swap(own);

    if (left != own)
        weft_log_error("the function at %p was run in the background, and came back in the context %s", fn,
                       weft_context_get_name(left));
    weft_context_unref(left);
}

weft_deferred *weft_call_in_background_at(weft_deferring_fn *fn, void *arg, const weft_place *place)
{
    weft_context *callers = weft_context_ref(weft_context_current());
    weft_deferred *deferred = fn(arg);

    weft__background_returned(callers, (const void *)fn);
    return deferred ? deferred : weft_deferred_with_at(weft_ok(NULL), place);
}

static weft_result pass(weft_result result, void *unused)
{
    (void)unused;
    return result;
}

weft_deferred *weft_make_deferred_yieldable(weft_deferred *deferred)
{
    return weft_deferred_add_both(deferred, pass, NULL);
}

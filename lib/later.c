/* A timer that fires a deferred, whose first callback is what was to be done.
 *
 * That callback has its turn exactly once, whether the time came, a cancel came first, or somebody else fired the deferred: so
 * it is what ends the timer and gives the memory back. What it returns the deferred waits for by itself. */
#include <weft/later.h>

struct later {
    weft_timer timer;
    weft_deferred *deferred; /* a reference: the timer fires it */
    weft_later_fn *fn;
    void *arg;
    const weft_place *place;
};

static void later_due(weft_timer *timer, void *arg)
{
    struct later *later = arg;
    weft_deferred *deferred = later->deferred;

    (void)timer;
    later->deferred = NULL; /* it may be paused: it must not hold itself */
    weft_deferred_callback_at(deferred, weft_ok(NULL), later->place);
    weft_deferred_unref(deferred);
}

/* At once, however long the callbacks of the deferred may be held up. */
static weft_cancel_outcome later_cancel(weft_deferred *deferred, void *arg)
{
    struct later *later = arg;

    weft_timer_stop(&later->timer);
    later->deferred = NULL;
    weft_deferred_unref(deferred); /* the timer's; whoever cancels has one too */
    return WEFT_CANCEL_DONE;
}

/* Somebody else may have fired the deferred; it is running its callbacks, so the reference given up here is not its last. */
static weft_result later_end(weft_result result, void *arg)
{
    struct later *later = arg;
    weft_later_fn *fn = later->fn;
    void *fn_arg = later->arg;

    weft_timer_stop(&later->timer);
    weft_deferred_unref(later->deferred);
    weft_free(later);
    if (weft_failed(result) || !fn)
        return result;
    weft_result_drop(result);
    return fn(fn_arg);
}

weft_deferred *weft_defer_later_at(weft_clock *clock, double seconds, weft_later_fn *fn, void *arg, const weft_place *place)
{
    struct later *later;
    weft_deferred *deferred;

    if (!clock)
        return weft_deferred_with_at(weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "no clock to wait on")), place);
    later = weft_alloc(sizeof *later);
    deferred = weft_deferred_new_at(later_cancel, later, place);
    *later = (struct later){.deferred = weft_deferred_ref(deferred), .fn = fn, .arg = arg, .place = place};
    weft_timer_init(&later->timer, later_due, later);
    weft_timer_start(&later->timer, clock, seconds);
    return weft_deferred_add_both(deferred, later_end, later);
}

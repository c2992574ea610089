/* A timeout on a deferred: a timer that cancels it, and a pair of callbacks that knows that cancellation again. */
#include <weft/deferred.h>

struct timeout {
    weft_timer timer;
    weft_deferred *deferred; /* borrowed: the pair goes before it does */
    weft_error *cancellation; /* what the timer asked with, once it has */
    double seconds;
    weft_callback_fn *on_timeout; /* or NULL */
    void *arg;
    const weft_place *place;
};

static void timeout_ask(weft_timer *timer, void *arg)
{
    struct timeout *timeout = arg;

    (void)timer;
    timeout->cancellation =
        weft_error_new_at(&WEFT_CANCELLED, timeout->place, "there was no result within %g s", timeout->seconds);
    weft_deferred_cancel_with(timeout->deferred, weft_error_ref(timeout->cancellation));
}

/* What becomes of a result that came when the time had run out. */
static weft_result translate(const struct timeout *timeout, weft_result result)
{
    if (timeout->on_timeout)
        return timeout->on_timeout(result, timeout->arg);
    if (!weft_error_same(weft_failed(result), timeout->cancellation))
        return result;
    weft_result_drop(result);
    return weft_fail(weft_error_new_at(&WEFT_TIMED_OUT, timeout->place, "there was no result within %g s",
                                       timeout->seconds));
}

static weft_result timeout_end(weft_result result, void *arg)
{
    struct timeout *timeout = arg;

    weft_timer_stop(&timeout->timer);
    if (timeout->cancellation)
        result = translate(timeout, result);
    weft_error_unref(timeout->cancellation);
    weft_free(timeout);
    return result;
}

weft_deferred *weft_deferred_add_timeout_at(weft_deferred *d, weft_clock *clock, double seconds,
                                            weft_callback_fn *on_timeout, void *arg, const weft_place *place)
{
    struct timeout *timeout = weft_alloc(sizeof *timeout);

    *timeout = (struct timeout){
        .deferred = d, .seconds = seconds, .on_timeout = on_timeout, .arg = arg, .place = place};
    weft_timer_init(&timeout->timer, timeout_ask, timeout);
    weft_timer_start(&timeout->timer, clock, seconds);
    return weft_deferred_add_both(d, timeout_end, timeout);
}

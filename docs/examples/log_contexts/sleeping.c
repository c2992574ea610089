/* A deferred of one's own, fired by a timer, which runs in no context. */
#include "log_contexts.h"

struct sleeper {
    weft_timer timer;
    weft_deferred *deferred;
};

static void wake(weft_timer *timer, void *arg)
{
    struct sleeper *sleeper = arg;

    (void)timer;
    weft_log_debug("the timer fires");
    weft_deferred_callback(sleeper->deferred, weft_ok(NULL));
    weft_deferred_unref(sleeper->deferred);
    weft_free(sleeper);
}

static weft_deferred *get_sleep_deferred(double seconds)
{
    struct sleeper *sleeper = weft_alloc(sizeof *sleeper);

    sleeper->deferred = weft_deferred_new(NULL, NULL);
    weft_timer_init(&sleeper->timer, wake, sleeper);
    weft_timer_start(&sleeper->timer, weft_clock_current(), seconds);
    return weft_deferred_ref(sleeper->deferred);
}

static weft_result sleep_in_no_context(double seconds)
{
    weft_result result = weft_ok(NULL);

    weft_preserve_context(NULL)
        result = weft_await(get_sleep_deferred(seconds));
    return result;
}

static weft_deferred *sleep_yieldable(double seconds)
{
    return weft_make_deferred_yieldable(get_sleep_deferred(seconds));
}

static weft_result handle_request(void *request_id)
{
    weft_with_context(request_context, weft_context_new(request_id)) {
        WEFT_TRY(weft_await(get_sleep_deferred(0.001)));
        weft_log_debug("slept");
        WEFT_TRY(sleep_in_no_context(0.001));
        weft_log_debug("slept in no context");
        WEFT_TRY(weft_await(sleep_yieldable(0.001)));
        weft_log_debug("slept once more");
    }
    return weft_ok(NULL);
}

void sleeping(void)
{
    finish(weft_spawn(handle_request, (void *)"request-1"));
}

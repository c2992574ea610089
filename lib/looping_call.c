/* The looping call: one timer, and a grid of instants counted in whole nanoseconds.
 *
 * It runs from the start, when `ended` is made, until end() fires that. While it runs exactly one of these holds: the timer is
 * started, the function is being called, or `round` is what the last call returned and is waited for. So a stop knows at
 * once what there is to stop, and only end() ever ends it.
 *
 * The grid is origin + index * interval. A round belongs to the last point that has passed, and `last` is that of the
 * round before: their difference is the count. The next point lies always behind both `last` and now, so that neither a timer
 * that is early by a rounding nor a round that ends just on a point gives a point twice or a count of 0.
 *
 * Everything that calls out may free the looping call: hold() keeps the memory until the books are settled. */
#include <assert.h>

#include <weft/log.h>
#include <weft/looping_call.h>

#include "lib/clock.h"
#include "lib/context.h"
#include "lib/deferred.h"

/* In a ring around the looping call's own. */
struct link {
    struct link *next, *previous;
};

/* A stop that waits for the end. */
struct waiter {
    struct link link;        /* first: a link is its waiter */
    weft_deferred *deferred; /* a reference */
};

struct weft_looping_call {
    weft_clock *clock;
    weft_looping_call_fn *fn;
    void *arg;
    weft_timer timer;
    weft_deferred *ended;    /* start's, a reference; NULL: it does not run */
    weft_deferred *round;    /* borrowed: its entry goes before it does */
    weft_error *stopping;    /* why it has been asked to stop; NULL: it has not */
    weft_context *context;   /* the rounds' */
    struct link waiters;
    const weft_place *place; /* of the start */
    int64_t interval, origin, last;
    unsigned holds;          /* calls that use it, further up the C stack */
    bool calling;            /* the function */
    bool ends_on_error;
    bool freed;
};

/* ---- life ---- */

weft_looping_call *weft_looping_call_new(weft_clock *clock, weft_looping_call_fn *fn, void *arg)
{
    weft_looping_call *call = weft_alloc(sizeof *call);

    *call = (weft_looping_call){.clock = clock, .fn = fn, .arg = arg};
    call->waiters = (struct link){&call->waiters, &call->waiters};
    return call;
}

static void hold(weft_looping_call *call)
{
    call->holds++;
}

static void release(weft_looping_call *call)
{
    if (!--call->holds && call->freed && !call->ended)
        weft_free(call);
}

/* ---- those who wait for the end ---- */

static void unlink_waiter(struct waiter *waiter)
{
    waiter->link.previous->next = waiter->link.next;
    waiter->link.next->previous = waiter->link.previous;
}

static weft_cancel_outcome waiter_cancel(weft_deferred *deferred, void *arg)
{
    struct waiter *waiter = arg;

    unlink_waiter(waiter);
    weft_free(waiter);
    weft_deferred_unref(deferred); /* the waiter's; whoever cancels has one too */
    return WEFT_CANCEL_DONE;
}

static weft_deferred *waiter_new(weft_looping_call *call, const weft_place *place)
{
    struct waiter *waiter = weft_alloc(sizeof *waiter);
    struct link *last = call->waiters.previous;

    waiter->link = (struct link){&call->waiters, last};
    last->next = call->waiters.previous = &waiter->link;
    waiter->deferred = weft_deferred_new_at(waiter_cancel, waiter, place);
    return weft_deferred_ref(waiter->deferred);
}

/* Moves what is in the ring around `from` into one around `to`. */
static void take_waiters(struct link *to, struct link *from)
{
    *to = (struct link){to, to};
    if (from->next == from)
        return;
    *to = *from;
    to->next->previous = to->previous->next = to;
    *from = (struct link){from, from};
}

static void fire_waiters(struct link *waiters)
{
    while (waiters->next != waiters) {
        struct waiter *waiter = (struct waiter *)waiters->next;
        weft_deferred *deferred = waiter->deferred;

        unlink_waiter(waiter);
        weft_free(waiter);
        weft_deferred_callback(deferred, weft_ok(NULL));
        weft_deferred_unref(deferred);
    }
}

/* Takes `error`. Whoever is called may start it again, so all that belongs to this run is moved aside first. */
static void end(weft_looping_call *call, weft_error *error)
{
    weft_deferred *ended = call->ended;
    weft_error *cancellation = weft_deferred_get_cancellation(ended);
    struct link waiters;

    if (!error && cancellation)
        error = weft_error_ref(cancellation);
    take_waiters(&waiters, &call->waiters);
    call->ended = NULL;
    call->stopping = weft_error_unref(call->stopping);
    call->context = weft_context_unref(call->context);
    weft_deferred_callback_at(ended, error ? weft_fail(error) : weft_ok(NULL), call->place);
    weft_deferred_unref(ended);
    fire_waiters(&waiters);
}

/* ---- the grid ---- */

static int64_t next_due(const weft_looping_call *call)
{
    int64_t now = weft_clock_now(call->clock), index, due;

    if (!call->interval)
        return now;
    index = (now - call->origin) / call->interval;
    index = (index > call->last ? index : call->last) + 1;
    if (__builtin_mul_overflow(index, call->interval, &due))
        return INT64_MAX;
    return weft__instant_after(call->origin, due);
}

/* How many intervals lie between the round before and one at `instant`. */
static uint64_t pass_intervals(weft_looping_call *call, int64_t instant)
{
    int64_t before = call->last;

    if (!call->interval)
        return 1;
    call->last = (instant - call->origin) / call->interval;
    assert(call->last > before);
    return (uint64_t)(call->last - before);
}

/* ---- rounds ---- */

static void log_failure(const weft_looping_call *call, const weft_error *error)
{
    weft_context *callers = weft__context_swap(weft__context_ref(call->context));
    char text[1024];

    weft_error_print(error, text, sizeof text);
    weft_log_error("a round of the looping call started at %s:%d %s failed: %s", call->place->file, call->place->line,
                   call->place->function, text);
    weft_context_unref(weft__context_swap(callers));
}

/* The error of a round, NULL for none, if it is one to end with. */
static weft_error *ends_with(const weft_looping_call *call, weft_error *error)
{
    if (!error)
        return NULL;
    if (weft_error_is(error, &WEFT_CANCELLED))
        return weft_error_is(error, &WEFT_SHUTDOWN) && !call->stopping ? error : NULL;
    if (call->ends_on_error)
        return error;
    log_failure(call, error);
    return NULL;
}

/* Takes `result`; drops it last, since that may be anybody's code. */
static void round_over(weft_looping_call *call, weft_result result)
{
    weft_error *error = ends_with(call, weft_failed(result));

    if (error || call->stopping)
        end(call, error ? weft_error_ref(error) : NULL);
    else
        weft_timer_start_due(&call->timer, call->clock, next_due(call));
    weft_result_drop(result);
}

static weft_result round_fired(weft_result result, void *arg)
{
    weft_looping_call *call = arg;

    hold(call);
    call->round = NULL;
    round_over(call, result);
    release(call);
    return weft_ok(NULL);
}

static const char *wait_misuse(const weft_looping_call *call, const weft_deferred *inner)
{
    if (weft__deferred_waits_for(inner, call->ended))
        return "a round of a looping call returned a deferred that waits for the end of that looping call";
    if (inner->flags & WEFT__CONSUMED)
        return "a round of a looping call returned a deferred that somebody else waits for already";
    return NULL;
}

/* Takes the reference that the round returned: whoever merely waits for a deferred holds none. */
static void wait_for_round(weft_looping_call *call, weft_deferred *inner)
{
    const char *misuse = wait_misuse(call, inner);

    if (misuse) {
        round_over(call, weft_fail(weft_error_new_at(&WEFT_MISUSE, call->place, "%s", misuse)));
    } else {
        call->round = inner;
        weft__deferred_consume(inner, round_fired, call);
        if (call->round == inner && call->stopping) /* asked by the function itself */
            weft_deferred_cancel_with(inner, weft_error_ref(call->stopping));
    }
    weft_deferred_unref(inner);
}

static void run_round(weft_looping_call *call, int64_t instant)
{
    uint64_t count = pass_intervals(call, instant);
    weft_context *callers = weft__context_swap(weft__context_ref(call->context));
    weft_result result;

    call->calling = true;
    result = call->fn(count, call->arg);
    call->calling = false;
    weft_context_unref(weft__context_swap(callers)); /* the rounds', or another that the function left behind */
    if (result.type == &weft_deferred_type)
        wait_for_round(call, result.value);
    else
        round_over(call, result);
}

static void round_due(weft_timer *timer, void *arg)
{
    weft_looping_call *call = arg;
    int64_t now = weft_clock_now(call->clock);

    hold(call);
    run_round(call, now > timer->due ? now : timer->due);
    release(call);
}

/* ---- stopping ---- */

/* Takes `reason`, the cancellation of the round under way. */
static void begin_stop(weft_looping_call *call, weft_error *reason)
{
    if (call->stopping) {
        weft_error_unref(reason);
        return;
    }
    call->stopping = reason;
    if (call->calling)
        return; /* the round is over, or cancelled, when the function returns */
    if (call->round) {
        weft_deferred_cancel_with(call->round, weft_error_ref(reason));
    } else {
        weft_timer_stop(&call->timer);
        end(call, NULL);
    }
}

static weft_cancel_outcome start_cancel(weft_deferred *deferred, void *arg)
{
    weft_looping_call *call = arg;

    hold(call);
    begin_stop(call, weft_error_ref(weft_deferred_get_cancellation(deferred)));
    release(call);
    return weft_deferred_get_state(deferred) == WEFT_PENDING ? WEFT_CANCEL_LATER : WEFT_CANCEL_DONE;
}

weft_deferred *weft_looping_call_stop_at(weft_looping_call *call, const weft_place *place)
{
    weft_deferred *deferred;

    if (!call->ended)
        return weft_deferred_with_at(weft_ok(NULL), place);
    hold(call);
    deferred = waiter_new(call, place);
    begin_stop(call, weft_error_new_at(&WEFT_CANCELLED, place, "the looping call was stopped"));
    release(call);
    return deferred;
}

weft_looping_call *weft_looping_call_free(weft_looping_call *call)
{
    if (!call)
        return NULL;
    hold(call);
    call->freed = true;
    if (call->ended)
        begin_stop(call, weft_error_new(&WEFT_CANCELLED, "the looping call was freed"));
    release(call);
    return NULL;
}

/* ---- starting ---- */

static const char *start_misuse(const weft_looping_call *call, weft_looping_call_options options)
{
    if (call->freed)
        return "a looping call was started that has been freed";
    if (!call->clock)
        return "a looping call was started that has no clock";
    if (!(options.interval >= 0))
        return "the interval of a looping call is negative, or not a number";
    if (call->stopping)
        return "a looping call was started that is being stopped: it has not ended yet";
    if (call->ended)
        return "a looping call was started that runs already";
    return NULL;
}

static int64_t interval_of(double seconds)
{
    int64_t interval = weft__nanoseconds(seconds);

    return interval || seconds == 0 ? interval : 1;
}

static void begin(weft_looping_call *call, weft_deferred *ended, const weft_place *place, weft_looping_call_options options)
{
    call->ended = weft_deferred_ref(ended);
    call->context = weft__context_ref(weft__thread.context);
    call->place = place;
    call->ends_on_error = options.ends_on_error;
    call->interval = interval_of(options.interval);
    call->origin = weft_clock_now(call->clock);
    call->last = options.delayed ? 0 : -1;
    weft_timer_init(&call->timer, round_due, call);
}

/* Inside one of its own callbacks the first round has to wait for the clock: else one that ends at once, and is started again
 * when it has ended, would nest for ever. */
static void begin_first_round(weft_looping_call *call, bool delayed, bool nested)
{
    if (delayed)
        weft_timer_start_due(&call->timer, call->clock, next_due(call));
    else if (nested)
        weft_timer_start_due(&call->timer, call->clock, call->origin);
    else
        run_round(call, call->origin);
}

weft_deferred *weft_looping_call_start_at(weft_looping_call *call, const weft_place *place, weft_looping_call_options options)
{
    const char *misuse = start_misuse(call, options);
    weft_deferred *ended;

    if (misuse)
        return weft_deferred_with_at(weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "%s", misuse)), place);
    ended = weft_deferred_new_at(start_cancel, call, place);
    begin(call, ended, place, options);
    hold(call);
    begin_first_round(call, options.delayed, call->holds > 1);
    release(call);
    return ended;
}

void weft_looping_call_reset(weft_looping_call *call)
{
    if (!call->ended)
        return;
    call->origin = weft_clock_now(call->clock);
    call->last = 0;
    if (weft_timer_started(&call->timer))
        weft_timer_start_due(&call->timer, call->clock, next_due(call));
}

/* ---- asking ---- */

bool weft_looping_call_running(const weft_looping_call *call)
{
    return call->ended != NULL;
}

/* The Deferred: a result slot and a queue of what is to happen with the result.
 *
 * Running the queue is one loop, run(). When an entry is an outer deferred, the result moves there and the outer's queue is
 * run next, before the rest of the inner's; when a callback returns a pending deferred, its own deferred becomes an entry at
 * the end of that one's queue and the loop leaves it. Those to come back to are linked through `resume`, in space that a
 * fired deferred has no use for. So neither the length nor the depth of a chain costs C stack.
 *
 * Who holds whom: an entry for an outer deferred holds a reference to it, since the inner will fire it. The outer only
 * borrows the inner: it can neither fire nor add, and the entry goes when the inner is fired, or orphaned, or handed over. */
#include <assert.h>
#include <string.h>

#include <weft/log.h>

#include "lib/context.h"
#include "lib/deferred.h"

_Static_assert(sizeof(weft_deferred) <= 128, "a deferred is two cache lines");

struct weft__entries {
    uint32_t first; /* [first, used) are waiting */
    uint32_t used;
    uint32_t capacity;
    struct weft__entry entries[];
};

/* An entry whose `arg` is the outer deferred. Never called. */
static weft_result to_outer(weft_result result, void *arg)
{
    (void)arg;
    return result;
}

/* The context of an entry that runs in whichever is current. */
static weft_context any_context;

/* ---- the queue ---- */

static struct weft__entries *entries_with_room(struct weft__entries *more)
{
    uint32_t waiting, capacity;

    if (!more) {
        capacity = 4;
        more = weft_alloc(sizeof *more + capacity * sizeof more->entries[0]);
        *more = (struct weft__entries){.capacity = capacity};
        return more;
    }
    if (more->used < more->capacity)
        return more;
    waiting = more->used - more->first;
    if (more->first >= more->capacity / 2) {
        memmove(more->entries, more->entries + more->first, waiting * sizeof more->entries[0]);
        more->first = 0;
        more->used = waiting;
        return more;
    }
    capacity = 2 * more->capacity;
    more = weft_realloc(more, sizeof *more + capacity * sizeof more->entries[0]);
    more->capacity = capacity;
    return more;
}

static struct weft__entry *entry_push(weft_deferred *d)
{
    if (!d->more && d->used < WEFT__INLINE_ENTRIES)
        return &d->entries[d->used++];
    d->more = entries_with_room(d->more);
    return &d->more->entries[d->more->used++];
}

static bool entry_pop(weft_deferred *d, struct weft__entry *entry)
{
    if (d->first < d->used) {
        *entry = d->entries[d->first++];
        if (d->first == d->used)
            d->first = d->used = 0;
        return true;
    }
    if (!d->more)
        return false;
    *entry = d->more->entries[d->more->first++];
    if (d->more->first == d->more->used) {
        weft_free(d->more);
        d->more = NULL;
    }
    return true;
}

static bool has_entries(const weft_deferred *d)
{
    return d->used || d->more;
}

/* ---- life ---- */

static weft_deferred *deferred_new(weft_deferred_state state, const weft_place *place)
{
    weft_deferred *d = weft__slab_take(&weft__thread.deferreds, sizeof *d);

    /* Entries are written when they are pushed. */
    d->references = 1;
    d->state = (uint8_t)state;
    d->flags = d->first = d->used = 0;
    d->result = weft_ok(NULL);
    d->more = NULL;
    d->canceller.fn = NULL;
    d->made_at = place;
    d->fired_at = place;
    weft__thread.live.deferreds++;
    return d;
}

weft_deferred *weft_deferred_new_at(weft_cancel_fn *canceller, void *arg, const weft_place *place)
{
    weft_deferred *d = deferred_new(WEFT_PENDING, place);

    d->canceller.fn = canceller;
    d->canceller.arg = arg;
    return d;
}

weft_deferred *weft_deferred_with_at(weft_result result, const weft_place *place)
{
    weft_deferred *d;

    if (result.type == &weft_deferred_type)
        return result.value;
    d = deferred_new(WEFT_DONE, place);
    d->result = result;
    return d;
}

weft_deferred *weft_deferred_ref(weft_deferred *d)
{
    d->references++;
    return d;
}

static __attribute__((noinline)) void report_unhandled(const weft_deferred *d)
{
    char text[1024];

    if (weft_error_is(d->result.value, &WEFT_CANCELLED))
        return;
    weft_error_print(d->result.value, text, sizeof text);
    weft_log_error("unhandled error in the deferred made at %s:%d %s: %s", d->made_at->file, d->made_at->line,
                   d->made_at->function, text);
}

static void deferred_free(weft_deferred *d)
{
    assert(!has_entries(d) && !(d->flags & WEFT__RUNNING));
    if (d->state == WEFT_DONE && weft_failed(d->result))
        report_unhandled(d);
    weft_result_drop(d->result);
    weft__slab_give(&weft__thread.deferreds, d);
    weft__thread.live.deferreds--;
}

/* What a pending deferred fails with when nobody is left who could fire it. */
static weft_result broken_promise(const weft_deferred *d)
{
    weft_error *cancellation = weft_deferred_get_cancellation(d);

    if (cancellation)
        return weft_fail(weft_error_ref(cancellation));
    return weft_fail(weft_error_new_at(&WEFT_ORPHANED, d->made_at, "nobody is left who could fire this deferred"));
}

/* Nobody holds it any more. Pending with callbacks, it is alive once more for them; they may keep it. */
static void let_go(weft_deferred *d)
{
    if (d->state == WEFT_PENDING && has_entries(d)) {
        d->references = 1;
        weft_deferred_callback(d, broken_promise(d));
        weft_deferred_unref(d);
    } else {
        deferred_free(d);
    }
}

weft_deferred *weft_deferred_unref(weft_deferred *d)
{
    if (d && !--d->references)
        let_go(d);
    return NULL;
}

/* ---- running ---- */

static void set_result(weft_deferred *d, weft_result result, const weft_place *place)
{
    weft_result_drop(d->result); /* a cancellation that was asked */
    d->result = result;
    d->state = WEFT_DONE;
    d->fired_at = place;
}

static weft_result misuse(const weft_place *place, const char *what)
{
    return weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "%s", what));
}

/* What `d` waits for; NULL when it is done, or pending by itself. */
static weft_deferred *waited_for(const weft_deferred *d)
{
    if (d->state == WEFT_WAITING)
        return d->result.value;
    return d->state == WEFT_PENDING && d->flags & WEFT__FOLLOWS ? *d->awaited : NULL;
}

bool weft__deferred_waits_for(const weft_deferred *inner, const weft_deferred *d)
{
    const weft_deferred *next;

    /* Nobody waits for one that is not consumed: no need to look. */
    while (inner != d && d->flags & WEFT__CONSUMED && (next = waited_for(inner)))
        inner = next;
    return inner == d;
}

/* A callback of `d` returned `inner`, and its reference: `d` takes over its result, or waits for it. Whoever waits keeps the
 * reference, for leave() to let go of. */
static void chain(weft_deferred *d, weft_deferred *inner)
{
    if (inner == d) {
        d->result = misuse(d->made_at, "a callback returned its own deferred, which would wait for itself");
    } else if (inner->flags & WEFT__CONSUMED) {
        d->result = misuse(inner->made_at, "a callback returned a deferred that somebody else waits for already");
    } else if (weft__deferred_ready(inner)) {
        d->result = inner->result;
        inner->result = weft_ok(NULL);
        inner->flags |= WEFT__CONSUMED;
    } else if (weft__deferred_waits_for(inner, d)) {
        d->result = misuse(inner->made_at, "a callback returned a deferred that waits for the callback's own");
    } else {
        *entry_push(inner) = (struct weft__entry){.on_value = to_outer, .arg = weft_deferred_ref(d)};
        inner->flags |= WEFT__CONSUMED;
        d->state = WEFT_WAITING;
        d->result = weft_ok(inner);
        return;
    }
    weft_deferred_unref(inner);
}

/* Lets the next result follow the one that `entry` gets. */
static void call(weft_deferred *d, const struct weft__entry *entry)
{
    weft_callback_fn *fn = weft_failed(d->result) ? entry->on_error : entry->on_value;
    weft_context *context = entry->context;
    weft_result result = d->result;

    if (fn) {
        weft_context *firer;

        d->result = weft_ok(NULL);
        if (context == &any_context) {
            result = fn(result, entry->arg);
        } else {
            firer = weft__context_swap(context);
            result = fn(result, entry->arg);
            context = weft__context_swap(firer); /* or another, which the callback left behind */
        }
        if (result.type == &weft_deferred_type)
            chain(d, result.value);
        else
            d->result = result;
    }
    if (context != &any_context)
        weft_context_unref(context);
}

/* `d` has begun to wait: who is run next. Usually the one below on the stack; but if the reference that the callback returned
 * was the last one, nobody can fire the inner, which then gets its result here rather than in a nested run. */
static weft_deferred *leave(weft_deferred *d)
{
    weft_deferred *inner = d->result.value, *resume = d->resume;

    d->flags &= (uint8_t)~WEFT__RUNNING;
    weft_deferred_unref(d);
    if (inner->references > 1) {
        weft_deferred_unref(inner);
        return resume;
    }
    assert(inner->state == WEFT_PENDING); /* otherwise whoever runs it, or what it waits for, holds it too */
    set_result(inner, broken_promise(inner), inner->made_at);
    inner->flags |= WEFT__RUNNING;
    inner->resume = resume;
    return inner;
}

/* The result of `d` moves to `outer`, which is run next; then the rest of `d`. Takes the reference to `outer`. */
static weft_deferred *hand_over(weft_deferred *d, weft_deferred *outer)
{
    outer->state = WEFT_DONE;
    outer->result = d->result;
    d->result = weft_ok(NULL);
    outer->flags |= WEFT__RUNNING;
    outer->resume = d;
    return outer;
}

static weft_deferred *finish(weft_deferred *d)
{
    weft_deferred *resume = d->resume;

    d->flags &= (uint8_t)~WEFT__RUNNING;
    weft_deferred_unref(d);
    return resume;
}

static void run(weft_deferred *d)
{
    struct weft__entry entry;

    weft_deferred_ref(d);
    d->flags |= WEFT__RUNNING;
    d->resume = NULL;
    while (d) {
        if (!entry_pop(d, &entry)) {
            d = finish(d);
        } else if (entry.on_value == to_outer) {
            d = hand_over(d, entry.arg);
        } else {
            call(d, &entry);
            if (d->state == WEFT_WAITING)
                d = leave(d);
        }
    }
}

static void add(weft_deferred *d, struct weft__entry entry)
{
    *entry_push(d) = entry;
    if (weft__deferred_ready(d))
        run(d);
}

weft_deferred *weft_deferred_add_callbacks(weft_deferred *d, weft_callback_fn *on_value, weft_callback_fn *on_error,
                                           void *arg)
{
    if (d->flags & WEFT__CONSUMED)
        weft_log_error("misuse: a callback is added to a deferred that was handed over; it was made at %s:%d %s",
                       d->made_at->file, d->made_at->line, d->made_at->function);
    add(d, (struct weft__entry){on_value, on_error, arg, weft__context_ref(weft__thread.context)});
    return d;
}

void weft__deferred_attach(weft_deferred *d, weft_callback_fn *fn, void *arg)
{
    add(d, (struct weft__entry){fn, fn, arg, &any_context});
}

void weft__deferred_consume(weft_deferred *d, weft_callback_fn *fn, void *arg)
{
    assert(!(d->flags & WEFT__CONSUMED));
    d->flags |= WEFT__CONSUMED;
    weft__deferred_attach(d, fn, arg);
}

/* ---- firing ---- */

static void fire(weft_deferred *d, weft_result result, const weft_place *place)
{
    set_result(d, result, place);
    if (has_entries(d))
        run(d);
}

weft_error *weft_deferred_try_callback_at(weft_deferred *d, weft_result result, const weft_place *place)
{
    weft_error *error = NULL;

    if (result.type == &weft_deferred_type) {
        error = weft_error_new_at(&WEFT_MISUSE, place, "a deferred was fired with a deferred");
    } else if (d->state == WEFT_PENDING) {
        fire(d, result, place);
        return NULL;
    } else if (d->flags & WEFT__SWALLOW) {
        d->flags &= (uint8_t)~WEFT__SWALLOW;
    } else {
        error = weft_error_new_at(&WEFT_ALREADY_CALLED, place,
                                  "this deferred, made at %s:%d %s, was already fired at %s:%d %s", d->made_at->file,
                                  d->made_at->line, d->made_at->function, d->fired_at->file, d->fired_at->line,
                                  d->fired_at->function);
    }
    weft_result_drop(result);
    return error;
}

void weft_deferred_callback_at(weft_deferred *d, weft_result result, const weft_place *place)
{
    weft_auto(weft_error_unref) weft_error *error = weft_deferred_try_callback_at(d, result, place);
    char text[1024];

    if (!error)
        return;
    weft_error_print(error, text, sizeof text);
    weft_log_error("%s", text);
}

/* ---- cancelling ---- */

/* Who is asked when `d` is cancelled: what it waits for in the end. If that runs its callbacks already, or was asked before
 * and takes its time, nothing can be done for this wait of the fiber nearest to it: its next wait is meant. */
static weft_deferred *innermost(weft_deferred *d)
{
    weft_deferred *fiber = NULL, *next;

    while ((next = waited_for(d))) {
        if (d->state == WEFT_PENDING)
            fiber = d;
        d = next;
    }
    return fiber && (d->state == WEFT_DONE || d->flags & WEFT__ASKED) ? fiber : d;
}

static bool can_be_asked(const weft_deferred *d)
{
    return d->state == WEFT_PENDING && !(d->flags & WEFT__ASKED);
}

/* Fires a deferred that was asked to stop with what it was asked with. */
static void fire_cancellation(weft_deferred *d, const weft_place *place)
{
    fire(d, weft_fail(weft_error_ref(d->result.value)), place);
}

static void ask(weft_deferred *d, weft_error *cancellation)
{
    const weft_place *place = weft_error_get_place(cancellation);

    d->flags |= WEFT__ASKED;
    d->result = weft_fail(cancellation);
    if (d->flags & WEFT__FOLLOWS)
        return;
    if (!d->canceller.fn) {
        d->flags |= WEFT__SWALLOW;
        fire_cancellation(d, place);
        return;
    }
    /* The canceller may let go of every other reference. */
    weft_deferred_ref(d);
    if (d->canceller.fn(d, d->canceller.arg) == WEFT_CANCEL_DONE && d->state == WEFT_PENDING)
        fire_cancellation(d, place);
    weft_deferred_unref(d);
}

void weft_deferred_cancel_at(weft_deferred *d, const weft_place *place)
{
    d = innermost(d);
    if (can_be_asked(d))
        ask(d, weft_error_new_at(&WEFT_CANCELLED, place, "the caller cancelled it"));
}

void weft_deferred_cancel_with(weft_deferred *d, weft_error *cancellation)
{
    d = innermost(d);
    if (can_be_asked(d))
        ask(d, cancellation);
    else
        weft_error_unref(cancellation);
}

weft_error *weft_deferred_get_cancellation(const weft_deferred *d)
{
    return d->state == WEFT_PENDING && d->flags & WEFT__ASKED ? d->result.value : NULL;
}

void weft__deferred_follow(weft_deferred *d, weft_deferred **awaited)
{
    d->flags |= WEFT__FOLLOWS;
    d->awaited = awaited;
}

weft_error *weft__deferred_take_cancellation(weft_deferred *d)
{
    weft_error *cancellation = weft_deferred_get_cancellation(d);

    if (cancellation) {
        d->flags &= (uint8_t)~WEFT__ASKED;
        d->result = weft_ok(NULL);
    }
    return cancellation;
}

/* ---- looking ---- */

weft_deferred_state weft_deferred_get_state(const weft_deferred *d)
{
    return d->state;
}

weft_result weft_deferred_take_result(weft_deferred *d)
{
    weft_result result = d->result;

    if (!weft__deferred_ready(d))
        return misuse(d->made_at, "the result of a deferred was taken before it had one");
    if (d->flags & WEFT__CONSUMED)
        return misuse(d->made_at, "the result of a deferred was taken after it had been handed over");
    d->result = weft_ok(NULL);
    d->flags |= WEFT__CONSUMED;
    return result;
}

/* ---- time ---- */

struct timeout {
    weft_timer timer;
    weft_deferred *deferred; /* borrowed: the entry below goes before it does */
    weft_error *cancellation; /* what the timer asked with, once it has */
    double seconds;
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

static weft_result timeout_end(weft_result result, void *arg)
{
    struct timeout *timeout = arg;

    weft_timer_stop(&timeout->timer);
    if (weft_error_same(weft_failed(result), timeout->cancellation)) {
        weft_result_drop(result);
        result = weft_fail(weft_error_new_at(&WEFT_TIMED_OUT, timeout->place, "there was no result within %g s",
                                             timeout->seconds));
    }
    weft_error_unref(timeout->cancellation);
    weft_free(timeout);
    return result;
}

weft_deferred *weft_deferred_add_timeout_at(weft_deferred *d, weft_clock *clock, double seconds, const weft_place *place)
{
    struct timeout *timeout = weft_alloc(sizeof *timeout);

    *timeout = (struct timeout){.deferred = d, .seconds = seconds, .place = place};
    weft_timer_init(&timeout->timer, timeout_ask, timeout);
    weft_timer_start(&timeout->timer, clock, seconds);
    return weft_deferred_add_both(d, timeout_end, timeout);
}

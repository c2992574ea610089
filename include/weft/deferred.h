/* weft/deferred.h: a result that is still to come, and what is to happen with it.
 *
 * Twisted's Deferred. Somebody makes one and fires it once, with a value or an error. Callbacks added to it run in the
 * order in which they were added, each taking what the one before it returned: a pipeline, not a broadcast. A callback
 * that returns weft_later(inner) makes the pipeline wait for `inner` and go on with what that brings.
 *
 * Callbacks run at once: inside the call that fires, or inside the call that adds one to a deferred that has its result.
 * Each runs in the log context that was current when it was added, or in the one that its deferred is bound to; whoever
 * fires, adds or cancels keeps its own context.
 * No call recurses however long a chain is; but a callback that itself fires another deferred runs that one's callbacks
 * inside.
 *
 * References belong to those who can fire or add. When the last one of a pending deferred goes, whoever waits for it gets
 * WEFT_ORPHANED (or the cancellation, if one was asked). An error that nobody took is reported when the last reference goes;
 * a cancellation is not, in a deferred that was cancelled by whoever held it.
 *
 * One consumer: weft_await, forwarding, and returning one from a callback, hand a deferred over for good; handing it over
 * a second time is a WEFT_MISUSE error for the second. A deferred belongs to the thread that made it. */
#ifndef WEFT_DEFERRED_H
#define WEFT_DEFERRED_H

#include <weft/clock.h>
#include <weft/context.h>
#include <weft/error.h>

WEFT_BEGIN

/* Owns `result`, returns the next one. May add to, fire, cancel or unref any deferred, also its own. */
typedef weft_result weft_callback_fn(weft_result result, void *arg);

typedef enum weft_cancel_outcome {
    WEFT_CANCEL_DONE,  /* it is over: the deferred was fired by the canceller, or gets the cancellation as its error now */
    WEFT_CANCEL_LATER, /* the work is being stopped, and will fire the deferred when it has stopped */
    /* It cannot be stopped: logged; the deferred gets the cancellation now, and the one result that the work still brings
     * is dropped. */
    WEFT_CANCEL_FAILED,
} weft_cancel_outcome;

/* Stops the work behind a deferred. Runs at most once, only while the deferred is pending, in the context of whoever
 * asks; is forgotten as soon as the deferred fires. Why it was asked: weft_deferred_get_cancellation(d). After
 * WEFT_CANCEL_DONE nobody may fire the deferred any more. */
typedef weft_cancel_outcome weft_cancel_fn(weft_deferred *deferred, void *arg);

/* Lets go of the argument of a callback or a canceller. Runs once, in the context of whoever fires; may do what a callback
 * may. */
typedef void weft_release_fn(void *arg);

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* Pending, with one reference, the caller's. `canceller` may be NULL: a cancel then fires the deferred with the
 * cancellation, and the one result that still arrives later is dropped. `arg` is borrowed until it fires. */
#define weft_deferred_new(canceller, arg) weft_deferred_new_at(canceller, arg, WEFT_HERE)
WEFT_API weft_deferred *weft_deferred_new_at(weft_cancel_fn *canceller, void *arg, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* The same, taking `arg`: `release` lets go of it as soon as the deferred is fired (once the canceller has returned, when
 * that runs), or with the last reference. */
#define weft_deferred_new_owning(canceller, arg, release) weft_deferred_new_owning_at(canceller, arg, release, WEFT_HERE)
WEFT_API weft_deferred *weft_deferred_new_owning_at(weft_cancel_fn *canceller, void *arg, weft_release_fn *release,
                                                    const weft_place *place) __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* The same, bound to `context` (NULL: none), of which it holds a reference as long as it lives: callbacks run in that one,
 * whoever adds them. For a function that hands its deferred to others, and whose work their callbacks are. With
 * weft_deferred_forward it brings what one from elsewhere does:
 *
 *     bound = weft_deferred_new_bound(weft_context_current(), NULL, NULL);
 *     weft_deferred_forward(do_some_io(), bound);
 *
 * Who awaits it has its own context after the wait, as ever. */
#define weft_deferred_new_bound(context, canceller, arg) weft_deferred_new_bound_at(context, canceller, arg, WEFT_HERE)
WEFT_API weft_deferred *weft_deferred_new_bound_at(weft_context *context, weft_cancel_fn *canceller, void *arg,
                                                   const weft_place *place) __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* One that has its result already. Takes `result`; of weft_later(d) it makes d itself. */
#define weft_deferred_with(result) weft_deferred_with_at(result, WEFT_HERE)
WEFT_API weft_deferred *weft_deferred_with_at(weft_result result, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

WEFT_API weft_deferred *weft_deferred_ref(weft_deferred *deferred); /* one more reference, the caller's; returns it */
/* May run callbacks: see WEFT_ORPHANED above. NULL is fine; returns NULL. */
WEFT_API weft_deferred *weft_deferred_unref(weft_deferred *deferred);

/* ---- callbacks: each returns `deferred`; runs callbacks when it has its result ------------------------------------- */

/* Adds a pair: `on_value` for a success, `on_error` for a failure. A side that is NULL passes its result on unchanged.
 * `arg` is borrowed until the pair has had its turn. */
WEFT_API weft_deferred *weft_deferred_add_callbacks(weft_deferred *deferred, weft_callback_fn *on_value,
                                                    weft_callback_fn *on_error, void *arg);

/* The same, taking `arg`: `release` lets go of it right after the pair has had its turn, whichever side was taken. */
WEFT_API weft_deferred *weft_deferred_add_callbacks_owning(weft_deferred *deferred, weft_callback_fn *on_value,
                                                           weft_callback_fn *on_error, void *arg, weft_release_fn *release);

static inline weft_deferred *weft_deferred_add_callback(weft_deferred *deferred, weft_callback_fn *fn, void *arg)
{
    return weft_deferred_add_callbacks(deferred, fn, NULL, arg);
}

static inline weft_deferred *weft_deferred_add_errback(weft_deferred *deferred, weft_callback_fn *fn, void *arg)
{
    return weft_deferred_add_callbacks(deferred, NULL, fn, arg);
}

static inline weft_deferred *weft_deferred_add_both(weft_deferred *deferred, weft_callback_fn *fn, void *arg)
{
    return weft_deferred_add_callbacks(deferred, fn, fn, arg);
}

/* Cancels the deferred when it has no result `seconds` from now; that cancellation, and no other, then comes out as
 * WEFT_TIMED_OUT. Covers the callbacks added before, not those added after: when they have ended, the timer is gone.
 * Without a clock, NULL, there is no timeout, and the misuse is logged. */
#define weft_deferred_add_timeout(deferred, clock, seconds)                                                         \
    weft_deferred_add_timeout_at(deferred, clock, seconds, NULL, NULL, WEFT_HERE)
/* The same with an answer of one's own: when the time has run out, `on_timeout` takes whatever comes out then, a value too,
 * and what it returns is the result. It is not called for a result in time, also when that is a cancellation. `arg` is
 * borrowed until the pair that this adds has had its turn. */
#define weft_deferred_add_timeout_with(deferred, clock, seconds, on_timeout, arg)                                   \
    weft_deferred_add_timeout_at(deferred, clock, seconds, on_timeout, arg, WEFT_HERE)
WEFT_API weft_deferred *weft_deferred_add_timeout_at(weft_deferred *deferred, weft_clock *clock, double seconds,
                                                     weft_callback_fn *on_timeout, void *arg, const weft_place *place);

/* ---- firing: runs callbacks ---------------------------------------------------------------------------------------- */

/* Gives the deferred its result, a value or an error, which it takes. Firing twice, or with a deferred, is a misuse:
 * nothing changes, the result is dropped and the misuse is logged with both places. */
#define weft_deferred_callback(deferred, result) weft_deferred_callback_at(deferred, result, WEFT_HERE)
WEFT_API void weft_deferred_callback_at(weft_deferred *deferred, weft_result result, const weft_place *place);

/* The same with an error, which it takes. */
#define weft_deferred_errback(deferred, error) weft_deferred_callback_at(deferred, weft_fail(error), WEFT_HERE)

/* The same for those who can handle the misuse: returned instead of logged. */
#define weft_deferred_try_callback(deferred, result) weft_deferred_try_callback_at(deferred, result, WEFT_HERE)
WEFT_API weft_error *weft_deferred_try_callback_at(weft_deferred *deferred, weft_result result,
                                                   const weft_place *place) WEFT_MUST_USE;

/* Fires `to`, which is pending, with whatever `from` brings: from now on `to` waits for it as if a callback of its own had
 * returned it. So a cancel of `to` goes on to `from`, and firing `to` by other means is a misuse. Takes the reference to
 * `from`; runs the callbacks of `to` when `from` has its result. When `to` was fired already, the misuse is logged and
 * `from` let go of; when `from` was handed over already, or waits for `to`, that WEFT_MISUSE is what `to` is fired with. */
#define weft_deferred_forward(from, to) weft_deferred_forward_at(from, to, WEFT_HERE)
WEFT_API void weft_deferred_forward_at(weft_deferred *from, weft_deferred *to, const weft_place *place);

/* ---- pausing ---------------------------------------------------------------------------------------------------------- */

/* Until as many unpauses as pauses were asked, no callback runs, also none of a run that goes on; firing, cancelling and
 * adding work as ever. Whoever waits for the deferred waits. Pauses nest, up to 65,535; one more is logged as a misuse
 * and ignored. When the last reference goes, nobody could unpause it any more: then it runs on. */
#define weft_deferred_pause(deferred) weft_deferred_pause_at(deferred, WEFT_HERE)
WEFT_API void weft_deferred_pause_at(weft_deferred *deferred, const weft_place *place);
/* The last one runs the callbacks, when there is a result. Of one that is not paused: a misuse, logged and ignored. */
#define weft_deferred_unpause(deferred) weft_deferred_unpause_at(deferred, WEFT_HERE)
WEFT_API void weft_deferred_unpause_at(weft_deferred *deferred, const weft_place *place);

/* ---- cancelling: runs cancellers, and callbacks ---------------------------------------------------------------------- */

/* Asks the work behind the deferred to stop: goes down to the innermost deferred that it waits for and runs its
 * canceller. The error then comes up through the callbacks, any of which may handle it. A deferred that has its result,
 * or was asked before and answered WEFT_CANCEL_LATER, is left alone. */
#define weft_deferred_cancel(deferred) weft_deferred_cancel_at(deferred, WEFT_HERE)
WEFT_API void weft_deferred_cancel_at(weft_deferred *deferred, const weft_place *place);

/* The same, saying why. Takes `cancellation`, which is what comes out: it has to be of a kind at or below WEFT_CANCELLED,
 * or what comes out counts as a failure. */
WEFT_API void weft_deferred_cancel_with(weft_deferred *deferred, weft_error *cancellation);

/* Why a pending deferred was asked to stop; NULL when it was not. Borrowed until it fires. */
WEFT_API weft_error *weft_deferred_get_cancellation(const weft_deferred *deferred);

/* ---- looking --------------------------------------------------------------------------------------------------------- */

typedef enum weft_deferred_state {
    WEFT_PENDING, /* not fired */
    WEFT_WAITING, /* fired; a callback returned a deferred, and that has no result yet */
    WEFT_DONE,    /* has a result, or handed it over */
} weft_deferred_state;

WEFT_API weft_deferred_state weft_deferred_get_state(const weft_deferred *deferred); /* whether paused or not */
WEFT_API bool weft_deferred_is_paused(const weft_deferred *deferred);              /* its pauses are not all undone */

/* The result, borrowed, of a deferred that is done; weft_later(deferred), borrowed, while a callback has it or there is
 * none. What was taken or handed over is success with no value. */
WEFT_API weft_result weft_deferred_peek(const weft_deferred *deferred);

/* Takes the result out of a deferred that is done and not paused, leaving success with no value; any other gives a
 * WEFT_MISUSE error. Borrows `deferred`. */
WEFT_API weft_result weft_deferred_take_result(weft_deferred *deferred) WEFT_MUST_USE;

/* What a person wants to know of a deferred that seems stuck, a line for it and one for each that it waits for, innermost
 * last: state, where it was made and fired, result or reason, pauses, how many callbacks wait, who took it over. Writes at
 * most `size` bytes, always ended by NUL; returns the length of the whole text, as snprintf does. */
WEFT_API size_t weft_deferred_dump(const weft_deferred *deferred, char *text, size_t size);

/* ---- errors that nobody took ------------------------------------------------------------------------------------------ */

/* Everything in it is borrowed for the call. */
typedef struct weft_unhandled {
    weft_error *error;
    const weft_place *made_at;  /* where the deferred was made */
    const weft_place *fired_at; /* where it was fired */
    weft_context *context;      /* in which it failed: that of the callback that did, or of whoever fired; NULL for none */
} weft_unhandled;

/* Called once for each, by the call that lets go of the last reference, or by weft_deferred_report_unhandled, in the
 * context of the caller. May use any other deferred. */
typedef void weft_unhandled_fn(const weft_unhandled *unhandled, void *arg);

/* Process-wide; set it before threads start. NULL for the default, weft_unhandled_log. `arg` is borrowed until another is
 * set. */
WEFT_API void weft_deferred_set_unhandled_hook(weft_unhandled_fn *fn, void *arg);
/* Logs an error line in the context in which it failed. `arg` is ignored. */
WEFT_API void weft_unhandled_log(const weft_unhandled *unhandled, void *arg);

/* Reports, for the end of a loop, the errors that deferreds of this thread hold which are still alive and have no callback
 * left; each is reported once. A reactor calls it when it is freed. */
WEFT_API void weft_deferred_report_unhandled(void);

WEFT_AUTO(weft_deferred, weft_deferred_unref)

WEFT_END

#endif

/* weft/looping_call.h: calls a function again and again, on a grid of time.
 *
 *     weft_looping_call *purge = weft_looping_call_new(clock, purge_old_rooms, rooms);
 *     weft_deferred_unref(weft_looping_call_start(purge, (weft_looping_call_options){.interval = 60}));
 *     …
 *     weft_looping_call_free(purge);
 *
 * Rounds are due at the start and at each whole interval after it, however long they take: the grid does not drift. They
 * never overlap: when a round returns weft_later(d), the next one waits for d. Those that are missed meanwhile, or
 * because the thread was busy, are not made up for: they are skipped, and the next round is told how many intervals have
 * passed.
 *
 * Rounds run in the log context that was current at the start, on the stack of the clock. A function that wants to wait
 * may be a fiber's: it returns weft_later(weft_spawn(...)). */
#ifndef WEFT_LOOPING_CALL_H
#define WEFT_LOOPING_CALL_H

#include <weft/deferred.h>

WEFT_BEGIN

typedef struct weft_looping_call weft_looping_call;

/* One round. `count` is the number of intervals since the last round was due: 1 when none was missed, never 0; the first
 * round gets 1, unless it comes late. With an interval of 0 it is always 1. The value returned is dropped. May stop,
 * reset or free its looping call; that then ends with this round, and what it returns to be waited for is cancelled. */
typedef weft_result weft_looping_call_fn(uint64_t count, void *arg);

/* Zeroed is fine but for the interval. */
typedef struct weft_looping_call_options {
    double interval; /* seconds; 0: on every turn of the clock; negative or not a number is WEFT_MISUSE */
    bool delayed;    /* the first round comes after one interval, rather than inside weft_looping_call_start */
    /* What becomes of a round that fails. Unless this is set the looping call survives: each failure is logged as an
     * error, in the rounds' context, and the next round comes when it is due. Set, it ends with the error, which comes
     * out of start's deferred: for those who look there. */
    bool ends_on_error;
} weft_looping_call_options;

/* ---- life --------------------------------------------------------------------------------------------------------- */

/* Not running yet; the caller's. A clock of NULL is a WEFT_MISUSE of its start. `clock` and `arg` are borrowed until it is
 * freed and has ended. */
WEFT_API weft_looping_call *weft_looping_call_new(weft_clock *clock, weft_looping_call_fn *fn, void *arg)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Stops it, as below. The caller must not use it any more; if a round is under way the memory goes when that has ended,
 * until when the looping call keeps its `clock` and `arg`. NULL is fine; returns NULL. */
WEFT_API weft_looping_call *weft_looping_call_free(weft_looping_call *call);

/* ---- running: each of these may run rounds and callbacks ------------------------------------------------------------- */

/* Begins, and unless `delayed` runs the first round inside this call (inside the looping call's own callbacks: on the
 * clock's next turn). The deferred, which the caller may let go of, fires when it has ended:
 *   - success without a value, when it was stopped or freed;
 *   - the error of a round, under `ends_on_error`;
 *   - WEFT_SHUTDOWN, when a round was cancelled with that: the program ends;
 *   - the cancellation, when this deferred was cancelled: that stops it as weft_looping_call_stop does.
 * A round that is cancelled by anybody else is a round like others. It may be started again once it has ended; while it
 * runs, or is being stopped, that is a WEFT_MISUSE error. */
#define weft_looping_call_start(call, ...) weft_looping_call_start_at(call, WEFT_HERE, __VA_ARGS__)
WEFT_API weft_deferred *weft_looping_call_start_at(weft_looping_call *call, const weft_place *place,
                                                   weft_looping_call_options options)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* No more rounds. Cancels the one under way, once, however often it is asked. The deferred, the caller's own, fires with
 * success when the looping call has ended: at once if no round is under way or it does not run. Cancelling that deferred
 * ends only the waiting for it. Those of start fire first, then those of stops, in the order of asking. */
#define weft_looping_call_stop(call) weft_looping_call_stop_at(call, WEFT_HERE)
WEFT_API weft_deferred *weft_looping_call_stop_at(weft_looping_call *call, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Begins a new grid now: the next round is due one interval from now (that of a round under way goes on). Nothing when it
 * does not run. */
WEFT_API void weft_looping_call_reset(weft_looping_call *call);

/* ---- asking ----------------------------------------------------------------------------------------------------------- */

/* From the start until it has ended, so also while it is being stopped. */
WEFT_API bool weft_looping_call_running(const weft_looping_call *call);

WEFT_AUTO(weft_looping_call, weft_looping_call_free)

WEFT_END

#endif

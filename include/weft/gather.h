/* weft/gather.h: one deferred for what many bring: all of them, the first, each with its own outcome; and a bounded
 * parallel map.
 *
 * Every function here returns a deferred, with one reference, the caller's, that has not failed to be made: what is wrong
 * with the arguments is its WEFT_MISUSE error. Each takes one reference to every deferred of the array, its members, and
 * borrows the array itself for the call only. Members are not kept alive: one that nobody can fire any more fails with
 * WEFT_ORPHANED, like any other failure. A member that somebody else waits for already counts as failing with
 * WEFT_MISUSE, placed where that member was made. Members may have their results already; then the deferred may, too.
 *
 * Cancelling the deferred cancels each member, in order, with that very cancellation, and only then runs callbacks; it is
 * not fired by force, but when the members have ended, by the rules of each function. The calls run callbacks of members
 * that have their results; the deferred's own run inside the call that fires the member it was waiting for.
 *
 * Gathers may be members of gathers, each level taking some 300 bytes of stack when they are fired or cancelled: hundreds of
 * levels, not thousands. A circle through one is not found: a callback must not return a gather of its own deferred. */
#ifndef WEFT_GATHER_H
#define WEFT_GATHER_H

#include <weft/deferred.h>
#include <weft/results.h>

WEFT_BEGIN

/* ---- all, or the first error ------------------------------------------------------------------------------------- */

enum weft_gather_flags {
    WEFT_GATHER_FIRST_ERROR = 1, /* fail with a WEFT_FIRST_ERROR around the member's error, as Twisted does */
    WEFT_GATHER_LET_RUN = 2,     /* fail at the first error, without cancelling the others: they run on */
    WEFT_GATHER_CONSUME = 4,     /* drop errors that come after the first; otherwise they stay in their members */
};

/* Brings a weft_results of their values, in the order of the members; at once when there is none.
 *
 * At the first error the values are dropped and the other members cancelled, with WEFT_SIBLING_FAILED, caused by that
 * error; when all have ended the deferred fails with it: the very error (weft_error_same), with the member's index
 * (weft_error_get_index) and the caller's place in its trace. Values that still arrive are dropped, and so are later
 * cancellations; a later error stays in its member, and is reported when that goes. Cancelled before the first error, it
 * fails with the cancellation itself, unless members answer that otherwise: all with values is a success.
 *
 * Consumes the members. `flags` is of weft_gather_flags, or 0. */
#define weft_gather_results(deferreds, count, flags) weft_gather_results_at(deferreds, count, flags, WEFT_HERE)
WEFT_API weft_deferred *weft_gather_results_at(weft_deferred *const *deferreds, size_t count, unsigned flags,
                                               const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* A weft_callback_fn, to be added as an errback or called: takes a result and gives back the error inside, when it is a
 * WEFT_FIRST_ERROR, or several around each other; any other unchanged. */
WEFT_API weft_result weft_unwrap_first_error(weft_result result, void *unused);

/* ---- each with its own outcome ----------------------------------------------------------------------------------- */

enum weft_list_flags {
    WEFT_LIST_FIRE_ON_ONE_CALLBACK = 1, /* bring the first value, a weft_indexed; the other members run on */
    WEFT_LIST_FIRE_ON_ONE_ERRBACK = 2,  /* fail at the first error, with a WEFT_FIRST_ERROR; the others run on */
    WEFT_LIST_CONSUME_ERRORS = 4,       /* a member whose error the list saw becomes a success with no value */
};

/* Twisted's DeferredList. When all have ended it brings a weft_results of their results, values and failures, in the
 * order of the members; at once when there is none. With WEFT_LIST_FIRE_ON_ONE_CALLBACK that is what it brings when all
 * fail, and a list of none, which could never be fired, fails with WEFT_MISUSE. Once fired, it does not look at later
 * results.
 *
 * Members are shared, not consumed: each goes on to its later callbacks with its own result, or error; that must be handled
 * there or is reported. A value that cannot be shared (its type has `unref` and no `ref`) moves to the list: callbacks that
 * the member has behind the list's get success with no value, and it is consumed: whoever waits for it gets a WEFT_MISUSE
 * error. A member may be there twice. `flags` is of weft_list_flags, or 0. */
#define weft_deferred_list(deferreds, count, flags) weft_deferred_list_at(deferreds, count, flags, WEFT_HERE)
WEFT_API weft_deferred *weft_deferred_list_at(weft_deferred *const *deferreds, size_t count, unsigned flags,
                                              const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* ---- the first value --------------------------------------------------------------------------------------------- */

/* The first value wins: the other members are cancelled, then it is fired with that value, a weft_indexed. What the losers
 * still bring is dropped, errors too. When all fail: a WEFT_FAILURE_GROUP error, its payload a weft_results of the failures,
 * its cause the failure of the first member; but when the race was cancelled, and the members for it, the cancellation
 * itself. A race of none fails with WEFT_MISUSE. Consumes the members. */
#define weft_race(deferreds, count) weft_race_at(deferreds, count, WEFT_HERE)
WEFT_API weft_deferred *weft_race_at(weft_deferred *const *deferreds, size_t count, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* ---- a bounded parallel map -------------------------------------------------------------------------------------- */

/* The work on item `index`: a value, a failure, or weft_later(d), which must not be consumed. Runs in the log context in
 * which the map was made, inside the call that made it or that fired an earlier item's deferred; so it must not wait
 * itself: for code that does, return weft_later(weft_spawn(…)). May do anything, also cancel the map. */
typedef weft_result weft_map_fn(size_t index, void *arg);

/* Calls fn(0, arg) to fn(count - 1, arg), in that order, each as soon as fewer than `limit` of those before are still under
 * way, and brings a weft_results of their values in that order; at once when there is none to call. `arg` is borrowed
 * until the deferred is fired. At the first error, and when it is cancelled, no further item is begun, and the deferred
 * is fired when those under way have ended: as with weft_gather_results. Cancelled with items left it fails with the
 * cancellation, if with no other error. A `limit` of 0 is a WEFT_MISUSE. */
#define weft_parallel_map(count, limit, fn, arg) weft_parallel_map_at(count, limit, fn, arg, WEFT_HERE)
WEFT_API weft_deferred *weft_parallel_map_at(size_t count, size_t limit, weft_map_fn *fn, void *arg,
                                             const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* ---- a deferred for what is there already -------------------------------------------------------------------------- */

/* weft_deferred_with under the names that say which of the two it is. Take what they are given. */
#define weft_succeed(result) weft_deferred_with_at(result, WEFT_HERE)
#define weft_deferred_fail(error) weft_deferred_with_at(weft_fail(error), WEFT_HERE)

/* May return a value, a failure, or weft_later(d). */
typedef weft_result weft_maybe_fn(void *arg);

/* Calls fn(arg), at once, and gives a deferred for what it returns, the caller's: of weft_later(d), d itself. */
#define weft_maybe(fn, arg) weft_maybe_at(fn, arg, WEFT_HERE)
static inline weft_deferred *weft_maybe_at(weft_maybe_fn *fn, void *arg, const weft_place *place)
{
    return weft_deferred_with_at(fn(arg), place);
}

WEFT_END

#endif

/* weft/group.h: groups: fibers that belong together, none of which outlives the call that opened the group.
 *
 *     static weft_result serve_both(weft_group *group, void *arg)
 *     {
 *         WEFT_CHECK(weft_group_spawn(group, read_requests, arg));
 *         WEFT_CHECK(weft_group_spawn(group, send_events, arg));
 *         return weft_ok(NULL);
 *     }
 *
 *     weft_result result = weft_with_group(serve_both, arg);
 *
 * A group is opened by a fiber, which leaves it again, and in leaving it waits for every fiber that was spawned into it. The
 * first that fails, or the opening fiber when it leaves with a failure, cancels all the others, with a WEFT_SIBLING_FAILED
 * whose cause is that failure; when they have ended, that failure is the group's result. (Trio's nursery.) Further failures
 * are logged, at debug level. What a fiber brings otherwise is dropped. One that ends as cancelled has not failed: it may be
 * cancelled alone, through its deferred.
 *
 * A group is a scope (weft/scope.h), inside the one that its fiber is in: cancelling the group interrupts every wait in it,
 * and deadlines and cancels from further out reach all of its fibers, whoever spawned them. So clean-up in them that has to
 * wait needs a shield. */
#ifndef WEFT_GROUP_H
#define WEFT_GROUP_H

#include <weft/fiber.h>
#include <weft/gather.h>
#include <weft/scope.h>

WEFT_BEGIN

typedef struct weft_group weft_group;

/* ---- a function with a group: waits ------------------------------------------------------------------------------ */

/* What it returns, the group is left with. `group` is borrowed until it has returned. */
typedef weft_result weft_group_fn(weft_group *group, void *arg);

/* Opens a group, calls body(group, arg) in the running fiber, and leaves the group with its result: see
 * weft_group_leave for what is returned. Outside a fiber it is a WEFT_MISUSE failure, and `body` is not called. */
#define weft_with_group(body, arg) weft_with_group_at(body, arg, WEFT_HERE)
WEFT_API weft_result weft_with_group_at(weft_group_fn *body, void *arg, const weft_place *place) WEFT_MUST_USE;

/* ---- spawning: runs fibers, does not wait ------------------------------------------------------------------------ */

/* Starts `fn` as a fiber of the group, in the log context of the caller, which may be a fiber of the group, any
 * other, or a callback. It starts at once, as with weft_spawn, and has run to its first wait when this returns: so
 * nobody has to think of one that was spawned and never began. `arg` is borrowed until it ends.
 *
 * Into a group that is ending, see weft_group_is_ending, nothing is spawned, and `fn` never called. To a fiber of
 * the group the error is then the cancellation itself, as it would come out of a wait; to all others a
 * WEFT_GROUP_ENDED, caused by it. It may also be that no stack can be had. A fiber that fails before its first wait
 * was started: NULL. A group that is NULL: misuse. */
#define weft_group_spawn(group, fn, arg) weft_group_spawn_at(group, fn, arg, #fn, WEFT_HERE)
WEFT_API weft_error *weft_group_spawn_at(weft_group *group, weft_fiber_fn *fn, void *arg, const char *name,
                                         const weft_place *place) WEFT_MUST_USE;

/* The same for who wants the result, or to cancel it alone: `*deferred`, set on success only, is the fiber's, with one
 * reference, the caller's. Its value is not dropped. Its failure is the group's all the same, so nobody has to take it from
 * the deferred: there it is not reported as unhandled. */
#define weft_group_spawn_deferred(deferred, group, fn, arg)                                                          \
    weft_group_spawn_deferred_at(deferred, group, fn, arg, #fn, WEFT_HERE)
WEFT_API weft_error *weft_group_spawn_deferred_at(weft_deferred **deferred, weft_group *group, weft_fiber_fn *fn, void *arg,
                                                  const char *name, const weft_place *place) WEFT_MUST_USE;

/* ---- entering and leaving ---------------------------------------------------------------------------------------- */

/* The running fiber opens a group and is in its scope. What is returned is borrowed until the group is left. Outside
 * a fiber, also in a driven computation, which could not wait for it: a misuse, logged, NULL. */
#define weft_group_enter() weft_group_enter_at(WEFT_HERE)
WEFT_API weft_group *weft_group_enter_at(const weft_place *place) WEFT_MUST_USE;

/* Leaves `*group` with the result of what was done in it, which it takes (weft_later(d) is waited for first), sets
 * `*group` to NULL, and waits until every fiber in it has ended; while one is left, it may spawn others. Nothing
 * interrupts this: a cancel of the fiber is passed on to the group. Returns
 *
 * - the first failure, if there was one, with this place in its trace;
 * - else the cancel from further out that was passed on, that `result` was, or that ended a fiber of the group;
 * - else, of the group's own cancellation, success with no value;
 * - else `result`.
 *
 * A cancel of the fiber itself that finds the group ending already is kept for its next wait. The fiber that entered
 * the group leaves it, the innermost first, as with scopes; anything else is a misuse. NULL: returns `result`. */
#define weft_group_leave(group, result) weft_group_leave_at(group, result, WEFT_HERE)
WEFT_API weft_result weft_group_leave_at(weft_group **group, weft_result result, const weft_place *place) WEFT_MUST_USE;

/* The same for who returns early, through weft_auto(weft_group_close): cancels the group and waits for its fibers. A
 * result that passes by is not looked at: a cancellation of the group's own goes on as it is. A failure that has not
 * interrupted the fiber, so that the result cannot tell of it, is reported as unhandled. NULL is fine; returns NULL.
 *
 * A group that its fiber forgets, in ending or in leaving a scope around it, is left in this way; that is a misuse,
 * logged. */
WEFT_API weft_group *weft_group_close(weft_group *group);

/* One more reference, and one less: for those who may spawn into it, cancel it or ask when it was left. */
WEFT_API weft_group *weft_group_ref(weft_group *group);
WEFT_API weft_group *weft_group_unref(weft_group *group); /* NULL is fine; returns NULL */

/* ---- cancelling and asking --------------------------------------------------------------------------------------- */

/* Interrupts every wait in the group until it is left, that of the fiber that opened it too: weft_scope_cancel.
 * Takes `cancellation`; NULL for a WEFT_CANCELLED. Runs cancellers and callbacks, no fiber. A group that is ending
 * is left alone. */
#define weft_group_cancel(group, cancellation) weft_group_cancel_at(group, cancellation, WEFT_HERE)
WEFT_API void weft_group_cancel_at(weft_group *group, weft_error *cancellation, const weft_place *place);

/* Whether nothing can be spawned into it any more: one of it has failed, it or a scope around it was cancelled, or
 * its fiber is leaving it, and the last of the others has ended. */
WEFT_API bool weft_group_is_ending(const weft_group *group);
/* Fibers in it that have not ended, without the one that opened it. */
WEFT_API size_t weft_group_count(const weft_group *group);

/* ---- a bounded parallel map -------------------------------------------------------------------------------------- */

/* weft_parallel_map for functions that wait: runs fn(0, arg) to fn(count - 1, arg) each in a fiber of its own, at
 * most `limit` at a time, all in one group, and waits for them. Brings a weft_results of their values, in order, or
 * the first failure, with its index; later ones are reported, as with weft_parallel_map. When it returns, all have
 * ended. Outside a fiber it is a WEFT_MISUSE failure. */
#define weft_parallel_map_in_fibers(count, limit, fn, arg)                                                           \
    weft_parallel_map_in_fibers_at(count, limit, fn, arg, #fn, WEFT_HERE)
WEFT_API weft_result weft_parallel_map_in_fibers_at(size_t count, size_t limit, weft_map_fn *fn, void *arg, const char *name,
                                                    const weft_place *place) WEFT_MUST_USE;

WEFT_AUTO(weft_group, weft_group_close)

WEFT_END

#endif

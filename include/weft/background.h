/* weft/background.h: work that nobody waits for at once, and what log contexts it runs in.
 *
 * The helpers around Synapse's log contexts, under other rules than Synapse's. There, a function whose deferred is still to
 * come clears its caller's context, and whoever does not wait for it at once has to wrap the call. Here
 *
 *   - every function keeps its caller's context, whether what it returns has its result or not;
 *   - a callback runs in the context in which it was added, a fiber in its own, whoever fires;
 *   - firing and cancelling change nobody's context.
 *
 * So nothing here is needed to keep contexts right, and code that is ported may call it wherever it did. What each function
 * does besides stands below. */
#ifndef WEFT_BACKGROUND_H
#define WEFT_BACKGROUND_H

#include <weft/description.h>
#include <weft/fiber.h>

WEFT_BEGIN

/* ---- part of what the caller does ----------------------------------------------------------------------------------
 *
 * Each returns the deferred of the result, the caller's; who does not want to know unrefs it, and the work goes on. A
 * failure then is logged as unhandled, in the context in which it came about. Waiting for it, or adding callbacks, needs
 * nothing else. `fn` runs at once, in the caller's context; when it comes back in another one, that is logged with its
 * address, in the caller's context, which is put back. `arg` is borrowed until `fn` returns. */

/* weft_spawn for a function that may be anybody's: in a fiber of its own, in the caller's scope.
 *
 * In Synapse run_in_background: there the caller's context must be put back, and the deferred taken out of the rules. An
 * error before the first wait, too, is the deferred's. */
#define weft_run_in_background(fn, arg) weft_run_in_background_at(fn, arg, #fn, WEFT_HERE)
WEFT_API weft_deferred *weft_run_in_background_at(weft_fiber_fn *fn, void *arg, const char *name, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* A deferred of its result, given away; NULL: there is nothing to wait for, nor a value. */
typedef weft_deferred *weft_deferring_fn(void *arg);

/* The same for a function that returns a deferred: on the caller's stack, without a fiber or a reactor. It must not wait
 * itself: that would be its caller's wait. */
#define weft_call_in_background(fn, arg) weft_call_in_background_at(fn, arg, WEFT_HERE)
WEFT_API weft_deferred *weft_call_in_background_at(weft_deferring_fn *fn, void *arg, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Synapse's preserve_fn, which makes of a function one that is run in the background whenever it is called:
 *
 *     WEFT_PRESERVE_FN(fetch_in_background, fetch)
 *
 * defines a static weft_deferring_fn, to be called or given away, that does weft_run_in_background(fetch, arg). */
#define WEFT_PRESERVE_FN(function, fn)                                                                              \
    __attribute__((unused, warn_unused_result)) static weft_deferred *function(void *arg)                           \
    {                                                                                                               \
        return weft_run_in_background(fn, arg);                                                                     \
    }

/* Makes a deferred from elsewhere one of the caller's: returns it, with a callback added that passes the result on.
 *
 * In Synapse make_deferred_yieldable clears the context now and puts it back before later callbacks. A wait and a callback
 * need neither here. But a failure that passes here has, from then on, come about in the caller's context: when nobody takes
 * it, the line in the log says whose it was, and not who fired, a timer, say, in no context. As in Synapse it takes a place
 * among the callbacks. Runs callbacks if there is a result. */
WEFT_API weft_deferred *weft_make_deferred_yieldable(weft_deferred *deferred);

/* ---- on their own -------------------------------------------------------------------------------------------------- */

/* Starts `fn` at once in a fiber, as a process of its own: in a new context, `NAME-1`, `NAME-2` … of the description's name,
 * which has no parent and ends with it, and outside the caller's scopes. So the caller is charged nothing, and neither a
 * cancel of it nor its end is the process's. The caller's context is kept.
 *
 * What `fn` returns the deferred brings. An error does not get so far: it is logged, a cancellation as information, in the
 * process's context, and the result is success with no value. Without a reactor, so also after that was freed, nothing is
 * started and the deferred has failed with WEFT_MISUSE. A reactor that is freed cancels those that are left.
 *
 * In Synapse run_as_background_process; its deferred has to be made yieldable there, here it is as any other. */
#define weft_run_as_background_process(description, fn, arg)                                                        \
    weft_run_as_background_process_at(description, fn, arg, #fn, WEFT_HERE)
WEFT_API weft_deferred *weft_run_as_background_process_at(weft_description *description, weft_fiber_fn *fn, void *arg,
                                                          const char *name, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* Synapse's wrap_as_background_process: WEFT_BACKGROUND_PROCESS(clean_up, "cleanup", remove_old_rooms) defines a static
 * weft_deferring_fn that runs remove_old_rooms(arg) as a process under that description. */
#define WEFT_BACKGROUND_PROCESS(function, literal, fn)                                                              \
    __attribute__((unused, warn_unused_result)) static weft_deferred *function(void *arg)                           \
    {                                                                                                               \
        static weft_description description = WEFT_DESCRIPTION(literal);                                            \
                                                                                                                    \
        return weft_run_as_background_process(&description, fn, arg);                                               \
    }

WEFT_END

#endif

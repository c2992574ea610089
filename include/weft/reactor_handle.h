/* weft/reactor_handle.h: how other threads reach a reactor that may be gone: calls, and calls that wait for the answer.
 *
 * A handle is counted and may be kept and used by any thread; it outlives its reactor, and says so. Calls of a thread, of
 * whatever kind, begin in the order in which it makes them.
 *
 *     static weft_result room_of(void *user) { return weft_int(WEFT_TRY(weft_await(find_room(user)))); }
 *     …
 *     weft_result room = weft_reactor_handle_blocking_call(handle, room_of, user);      on any other thread */
#ifndef WEFT_REACTOR_HANDLE_H
#define WEFT_REACTOR_HANDLE_H

#include <weft/fiber.h>
#include <weft/reactor.h>

WEFT_BEGIN

typedef struct weft_reactor_handle weft_reactor_handle;

/* ---- life: on any thread ---------------------------------------------------------------------------------------------- */

/* Borrowed from the reactor, which the caller sees to it still exists. */
WEFT_API weft_reactor_handle *weft_reactor_get_handle(weft_reactor *reactor);
WEFT_API weft_reactor_handle *weft_reactor_handle_ref(weft_reactor_handle *handle);
WEFT_API weft_reactor_handle *weft_reactor_handle_unref(weft_reactor_handle *handle); /* NULL is fine; returns NULL */

/* ---- calls ------------------------------------------------------------------------------------------------------------ */

/* weft_reactor_call_from_thread for those who do not know whether the reactor still exists: false when it has been
 * freed, and `fn` is not called then. */
WEFT_API bool weft_reactor_handle_call(weft_reactor_handle *handle, weft_call_fn *fn, void *arg) WEFT_MUST_USE;

/* ---- blocking calls --------------------------------------------------------------------------------------------------- */

/* Runs fn(arg) in a fiber of the reactor, in no log context, and blocks the calling thread until it has ended; returns
 * its result, the caller's. `arg` is borrowed. From a job of a pool of that reactor (weft/thread_pool.h) it runs in
 * the context of whoever deferred the job, and a cancel of the job cancels it.
 *
 * Never a wait without an end:
 * - On the reactor's own thread, and inside another thread's running reactor, which would stand still, it is a
 *   WEFT_MISUSE error at once.
 * - When the reactor has been freed, or stopped (weft_reactor_stop, until it is run again), WEFT_SHUTDOWN at once.
 * - When it is stopped or freed while the call waits: WEFT_SHUTDOWN if fn has not begun, and never will. If it has
 *   begun, it is cancelled with WEFT_SHUTDOWN and the run ends when it has ended, but 5 seconds later at the latest: one
 *   that resists for longer goes on when the reactor is run again, and the caller waits for that, or for the reactor to
 *   be freed.
 *
 * Between the runs of weft_reactor_run_until, and before the first, a reactor is not stopped: a call waits for the next.
 * In a child made by fork, on the reactor's thread, calls that have not been made are made, but for these: there nobody
 * waits.
 *
 * Errors come over to the caller's thread; one that somebody on the loop holds too comes as a copy, without its
 * payload unless that is an int. Other values come as they are: they must be ones that any thread may use and drop, so
 * no deferreds, contexts, or what holds those. */
#define weft_reactor_handle_blocking_call(handle, fn, arg)                                                          \
    weft_reactor_handle_blocking_call_at(handle, fn, arg, #fn, WEFT_HERE)
WEFT_API weft_result weft_reactor_handle_blocking_call_at(weft_reactor_handle *handle, weft_fiber_fn *fn, void *arg,
                                                          const char *name, const weft_place *place) WEFT_MUST_USE;

/* The same for a reactor which, the caller sees to it, exists when this is called. */
#define weft_blocking_call_from_thread(reactor, fn, arg)                                                            \
    weft_reactor_handle_blocking_call_at(weft_reactor_get_handle(reactor), fn, arg, #fn, WEFT_HERE)

WEFT_AUTO(weft_reactor_handle, weft_reactor_handle_unref)

WEFT_END

#endif

/* weft/reactor.h: the loop of a thread: descriptors, timers, signals, calls from other threads, and its fibers.
 *
 * One reactor per thread, on libev; nothing is shared between reactors. Each turn first lets the fibers that are ready
 * run: as many as were ready when it began and 64 more, and again while that took less than some 25 µs, so that sockets are
 * not starved; then it polls.
 * Every callback below runs on the reactor's thread, on its own stack (not in a fiber), in no log context; one that
 * leaves a context behind is logged with its address, and the context is taken away.
 *
 * Making a reactor installs the text sink (weft_log_to_stderr) if the program has not set a sink, and ignores SIGPIPE. */
#ifndef WEFT_REACTOR_H
#define WEFT_REACTOR_H

#include <weft/clock.h>
#include <weft/deferred.h>

WEFT_BEGIN

typedef struct weft_reactor weft_reactor;

/* ---- life ----------------------------------------------------------------------------------------------------------- */

/* Makes this thread's reactor; a second one on the same thread is a WEFT_MISUSE error. */
WEFT_API weft_error *weft_reactor_new(weft_reactor **out) WEFT_MUST_USE;

/* Cancels the fibers that are left with WEFT_SHUTDOWN, again every half second, and runs the loop until they have ended, at
 * most 5 seconds; frees the thread pools that are left (weft/thread_pool.h), which waits for their jobs; then frees the
 * reactor. A fiber that has not ended is named in the log, never runs again, and its memory is lost. Watchers and timers
 * must have been stopped. NULL is fine; returns NULL. */
WEFT_API weft_reactor *weft_reactor_free(weft_reactor *reactor);

WEFT_API weft_reactor *weft_reactor_current(void); /* this thread's, or NULL */
WEFT_API weft_clock *weft_reactor_get_clock(weft_reactor *reactor);

/* ---- running --------------------------------------------------------------------------------------------------------- */

/* Turns until weft_reactor_stop. Neither this nor the next may be called by what already runs in the reactor. */
WEFT_API void weft_reactor_run(weft_reactor *reactor);
/* The weft_reactor_run that goes on ends after this turn; later, if a blocking call from another thread has begun in it,
 * which is then cancelled and has 5 seconds to end (weft/reactor_handle.h). On the reactor's own thread. */
WEFT_API void weft_reactor_stop(weft_reactor *reactor);

/* Turns until `deferred`, which it takes, has its result, and returns that: for main(), tools and tests; weft_reactor_stop
 * does not end it. In a fiber, or in anything else that already runs in the reactor, it is a WEFT_MISUSE error; so is a
 * deferred that somebody else waits for. */
WEFT_API weft_result weft_reactor_run_until(weft_reactor *reactor, weft_deferred *deferred) WEFT_MUST_USE;

/* ---- descriptors ------------------------------------------------------------------------------------------------------ */

enum { WEFT_READABLE = 1, WEFT_WRITABLE = 2 };

typedef struct weft_io weft_io;
/* `events` are those of WEFT_READABLE and WEFT_WRITABLE that came. An error or a hang-up comes as whatever was watched for:
 * the next read or write tells it. May stop, start again or free the watcher. */
typedef void weft_io_fn(weft_io *io, int events, void *arg);

/* Lives in the memory of its user, who must stop it before closing the descriptor and before freeing that memory. */
struct weft_io {
    weft_io_fn *fn;         /* public */
    void *arg;              /* public */
    char weft__private[64] __attribute__((aligned(8))); /* the reactor's */
};

WEFT_API void weft_io_init(weft_io *io, weft_io_fn *fn, void *arg);
/* Watches `fd`, on this thread's reactor, for `events`, as long as it is ready for them (level-triggered). Starting a
 * started watcher changes what it watches for; with no events it is stopped. */
WEFT_API void weft_io_start(weft_io *io, int fd, int events);
WEFT_API void weft_io_stop(weft_io *io); /* a stopped one is fine */

/* ---- signals ---------------------------------------------------------------------------------------------------------- */

typedef struct weft_signal weft_signal;
typedef void weft_signal_fn(weft_signal *watcher, int number, void *arg);

/* Lives in the memory of its user. A signal may be watched by one reactor of the process only. */
struct weft_signal {
    weft_signal_fn *fn;     /* public */
    void *arg;              /* public */
    char weft__private[64] __attribute__((aligned(8))); /* the reactor's */
};

WEFT_API void weft_signal_init(weft_signal *watcher, weft_signal_fn *fn, void *arg);
WEFT_API void weft_signal_start(weft_signal *watcher, int number);
WEFT_API void weft_signal_stop(weft_signal *watcher); /* a stopped one is fine */

/* ---- other threads ---------------------------------------------------------------------------------------------------- */

typedef void weft_call_fn(void *arg);

/* From any thread: `fn(arg)` is called once on the reactor's thread, in the order of these calls, soon. Calls made while
 * calls are being made wait for the next turn. Those that have not been made when it is freed are made then. The caller
 * sees to it that the reactor still exists, or uses a handle (weft/reactor_handle.h). */
WEFT_API void weft_reactor_call_from_thread(weft_reactor *reactor, weft_call_fn *fn, void *arg);

/* ---- stalls ----------------------------------------------------------------------------------------------------------- */

/* Watches the reactor's thread: when, while the reactor runs, a fiber or a callback keeps the thread for longer than so many
 * seconds (of the clock on the wall, without a switch of fibers and without a turn of the loop; at least 0.001) a warning is
 * logged while it does so, also if it never ends: the fiber's name and where it waited last, or "a callback"; for how long;
 * and a backtrace. The line is in the log context of the stall. It is said again after twice as long, four times …, and when
 * it has gone on. It takes up to half as long again as the limit until a stall is seen, and its length is known to that.
 *
 * 0, as it is at first, ends that. To be called on the reactor's thread. Fails when the thread that watches, one for all
 * reactors of the process, cannot be started. That thread calls the log's sink. The backtrace is taken in a handler of
 * SIGURG, which is ours from the first limit to the last, and passes on what others send; system calls go on afterwards
 * where SA_RESTART can do that, but a sleep or a poll that blocks the thread comes back with EINTR. A thread that blocks
 * SIGURG is reported without a name. In a child made by fork it begins anew when the reactor is run there.
 *
 * A reactor that is made while the environment has WEFT_STALL_SECONDS=1.5 begins with that limit. */
WEFT_API weft_error *weft_reactor_set_stall_limit(weft_reactor *reactor, double seconds) WEFT_MUST_USE;

/* ---- logging ---------------------------------------------------------------------------------------------------------- */

/* Lines of text to stderr: "2026-11-21 03:16:07.123 INFO  GET-42 message". */
WEFT_API void weft_log_to_stderr(void);

WEFT_AUTO(weft_reactor, weft_reactor_free)

WEFT_END

#endif

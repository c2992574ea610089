/* weft/thread_pool.h: threads for what would block the loop: work of the processor, databases, files, names.
 *
 * A pool has lanes, each with threads and a queue of its own, so that one kind of work that is slow, or stuck, cannot keep
 * others waiting. It belongs to the reactor of the thread that made it; all calls here are for that thread, unless they say
 * otherwise, and so are all callbacks. Threads are started when there is work, and kept. Of signals they take only their own
 * faults, and SIGPROF.
 *
 *     weft_thread_pool *pool;
 *     WEFT_CHECK(weft_thread_pool_new(&pool, &(weft_thread_pool_options){
 *         .name = "main", .lanes = {{"cpu", 2, 100}, {"database", 8, 1000}, {"files", 4, 1000}}}));
 *     …
 *     static weft_result hash_password(void *arg) { … return weft_own(hash, &hash_type); }      // on a thread of the lane
 *     …
 *     struct hash *hash = WEFT_TRY(weft_await(weft_defer_to_thread(pool, "cpu", hash_password, password)));
 *
 * A job logs under the name of the context that deferred it; the CPU time that it used, and what it charged to its current
 * context, is charged to a child of that context when its result arrives. */
#ifndef WEFT_THREAD_POOL_H
#define WEFT_THREAD_POOL_H

#include <weft/deferred.h>

WEFT_BEGIN

typedef struct weft_thread_pool weft_thread_pool;

/* ---- life ------------------------------------------------------------------------------------------------------------- */

enum { WEFT_MAX_LANES = 8 };

typedef struct weft_lane {
    const char *name; /* copied */
    size_t threads;   /* so many jobs run at a time; 0: 1 */
    size_t queue;     /* so many more may wait for that; 0: 1000 */
} weft_lane;

typedef struct weft_thread_pool_options {
    const char *name;                /* for log lines and debuggers, copied; NULL: "pool" */
    weft_lane lanes[WEFT_MAX_LANES]; /* up to the first without a name */
} weft_thread_pool_options;

/* A WEFT_MISUSE error without a reactor on this thread, without a lane, and for two lanes of one name. */
WEFT_API weft_error *weft_thread_pool_new(weft_thread_pool **out, const weft_thread_pool_options *options) WEFT_MUST_USE;

/* Takes the pool: it takes no more jobs. Those in its queues are cancelled with WEFT_SHUTDOWN, those that run too,
 * each in the way it was deferred for, which runs callbacks. The deferred fires with no value when the last job and
 * its thread have ended; until then the pool may be named, and refuses jobs. In a child made by fork, where there are
 * no threads, at once, and the jobs that ran fail. */
WEFT_API weft_deferred *weft_thread_pool_close(weft_thread_pool *pool) WEFT_MUST_USE;

/* The same for those who do not want to know. Waits for nothing; NULL is fine; returns NULL.
 *
 * weft_reactor_free does this to the pools that are left, once the fibers have ended, and turns until the jobs have
 * ended: it says in the log which it waits for, after 1 second, 3, 7 ..., for as long as that takes. Those that were
 * abandoned get 1 second; then they are logged, and their threads left to themselves: such a job drops its result and
 * releases its argument on its own thread, and what it used is charged to nobody. */
WEFT_API weft_thread_pool *weft_thread_pool_free(weft_thread_pool *pool);

/* ---- jobs ------------------------------------------------------------------------------------------------------------- */

/* Runs on a thread of the lane, in a context there of its own (none if it was deferred in none). Its result goes to the
 * loop, values and errors, whatever holds them; so it must keep none of it, and return no deferred, which is a misuse.
 * Deferreds, contexts and scopes belong to a thread: one that it makes it lets go of. */
typedef weft_result weft_job_fn(void *arg);

/* What a cancel does to a job that runs already. */
typedef enum weft_job_cancel {
    /* The deferred gets the cancellation when the job has ended; what it returned is dropped. So whoever waits may own what
     * the job uses. */
    WEFT_JOB_WAIT,
    /* The deferred gets it at once. The job runs on, keeping its thread; what it returns is dropped on the loop. So it must
     * own what it uses: `arg`, with `release`. */
    WEFT_JOB_ABANDON,
} weft_job_cancel;

/* Zeroes are what weft_defer_to_thread takes. */
typedef struct weft_job_options {
    weft_job_cancel on_cancel;
    /* Lets go of `arg`, on the loop: when the job has ended or it is known that it will not run, before the deferred has its
     * result, which must not point into it. Also when the call fails. NULL: `arg` is borrowed for that long. */
    weft_release_fn *release;
} weft_job_options;

/* Runs fn(arg) on a thread of the lane, in the order of these calls, and returns the deferred of its result, which is
 * the caller's. Fails at once: with WEFT_BUSY when the lane's queue is full; with WEFT_MISUSE when there is no such
 * lane, on another thread than the pool's reactor's, also in a job, and in a child made by fork; with WEFT_SHUTDOWN
 * when the pool is being closed; with WEFT_OS_ERROR when no thread can be started and the lane has none.
 *
 * A cancel takes a job that has not begun out of the queue, and it never runs. To one that runs it does what on_cancel
 * says, weft_job_cancelled is true there, and a blocking call to this reactor in which the job is
 * (weft/reactor_handle.h) is cancelled. */
#define weft_defer_to_thread(pool, lane, fn, arg)                                                                   \
    weft_defer_to_thread_at(pool, lane, fn, arg, (weft_job_options){WEFT_JOB_WAIT, NULL}, #fn, WEFT_HERE)
/* With options: weft_defer_to_thread_with(pool, "files", fn, arg, (weft_job_options){.release = file_free}). */
#define weft_defer_to_thread_with(pool, lane, fn, arg, ...)                                                         \
    weft_defer_to_thread_at(pool, lane, fn, arg, __VA_ARGS__, #fn, WEFT_HERE)
WEFT_API weft_deferred *weft_defer_to_thread_at(weft_thread_pool *pool, const char *lane, weft_job_fn *fn, void *arg,
                                                weft_job_options options, const char *name, const weft_place *place)
    __attribute__((returns_nonnull)) WEFT_MUST_USE;

/* For the job itself, on its thread: whether it was cancelled, so that a long one may stop early. Costs next to
 * nothing. Also true when its pool is closed. False in what is no job. */
WEFT_API bool weft_job_cancelled(void);

/* ---- looking ---------------------------------------------------------------------------------------------------------- */

typedef struct weft_lane_stats {
    size_t threads; /* started and not ended */
    size_t running; /* jobs, the abandoned ones included */
    size_t abandoned;
    size_t queued;
} weft_lane_stats;

/* Of the lane of that name; all 0 when there is none. */
WEFT_API weft_lane_stats weft_thread_pool_get_stats(weft_thread_pool *pool, const char *lane);

WEFT_AUTO(weft_thread_pool, weft_thread_pool_free)

WEFT_END

#endif

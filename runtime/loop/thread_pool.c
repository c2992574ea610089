/* Thread pools: lanes of jobs.
 *
 * A job is in its lane's queue, then with a thread, then among those that ended, from where the loop takes it; one
 * call wakes the loop for all that have ended. Lists and counts are under the pool's lock; what of a job is the
 * loop's, its deferred and its caller's context, no other thread touches. The loop frees jobs: so a canceller never
 * finds one gone.
 *
 * What a job leaves alive goes with its result: the thread's live counts are compared before and after it, and the
 * difference is the loop's from then on. So errors may be anywhere in what it returns.
 *
 * A pool goes when all its threads have been joined; but the end of the reactor may leave some behind (`forsaken`),
 * which then hold the pool, and themselves drop what their jobs have. */
#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <weft/log.h>
#include <weft/thread_pool.h>

#include "lib/clock.h"
#include "runtime/loop/handle.h"
#include "runtime/loop/job_context.h"
#include "runtime/loop/pools.h"

enum { USUAL_QUEUE = 1000 };

struct list {
    struct weft__job *first, *last;
    size_t count;
};

enum job_state {
    QUEUED,
    RUNNING,
    ENDED,
    DROPPED, /* out of the queue, and never to run */
};

typedef union counts {
    weft_live_counts named;
    size_t each[sizeof(weft_live_counts) / sizeof(size_t)];
} counts;

struct weft__job {
    struct weft__job *next, *previous;
    struct lane *lane;
    weft_job_fn *fn;
    void *arg;
    weft_job_options options;
    const char *name;
    const weft_place *place;
    bool cancelled; /* atomic */

    enum job_state state;  /* under the lock */
    int64_t began;         /* monotonic nanoseconds; under the lock */
    bool abandoned;        /* under the lock */
    weft_deferred *deferred; /* the loop's, a reference; NULL: abandoned */
    struct weft__job_context context;
    weft_result result;    /* when it has ended */
    counts left;           /* what goes with the result */
};

struct lane {
    weft_thread_pool *pool;
    char *name;
    size_t limit;       /* of threads */
    size_t queue_limit;
    pthread_cond_t work;
    struct list queued, running;
    size_t threads;
};

struct worker {
    struct lane *lane;
    pthread_t thread;
    struct worker *next;      /* of all */
    struct worker *next_gone; /* of those that are to be joined */
    bool is_gone;             /* it is one of those; under the lock */
};

struct weft_thread_pool {
    uint32_t references; /* atomic: the loop's, of calls to it, of threads that were left behind */
    weft_reactor_handle *handle;
    char *name;
    struct lane lanes[WEFT_MAX_LANES];
    size_t lane_count;
    unsigned forks; /* when it was made */
    bool in_child;  /* … and it has been seen that this is another process; the loop's */

    pthread_mutex_t lock; /* for this: */
    struct list ended;
    struct worker *gone;
    bool delivering; /* the loop has been called */
    bool closing;
    bool forsaken;

    struct worker *workers; /* the loop's, as what follows: those that were not joined */
    struct list dropped;    /* on their way out */
    weft_deferred *closed;  /* to be fired when it is over; NULL until it is closing */
    weft_thread_pool *next; /* of this thread's, until it is over */
};

static __thread weft_thread_pool *pools;
static __thread struct weft__job *running_job;

/* ---- lists of jobs ---- */

static void list_add(struct list *list, struct weft__job *job)
{
    job->next = NULL;
    job->previous = list->last;
    *(list->last ? &list->last->next : &list->first) = job;
    list->last = job;
    list->count++;
}

static struct weft__job *list_remove(struct list *list, struct weft__job *job)
{
    *(job->next ? &job->next->previous : &list->last) = job->previous;
    *(job->previous ? &job->previous->next : &list->first) = job->next;
    list->count--;
    return job;
}

/* ---- life of a pool ---- */

static weft_thread_pool *pool_unref(weft_thread_pool *pool)
{
    if (__atomic_sub_fetch(&pool->references, 1, __ATOMIC_ACQ_REL))
        return NULL;
    for (size_t i = 0; i < pool->lane_count; i++) {
        pthread_cond_destroy(&pool->lanes[i].work);
        weft_free(pool->lanes[i].name);
    }
    pthread_mutex_destroy(&pool->lock);
    weft_reactor_handle_unref(pool->handle);
    weft_free(pool->name);
    weft_free(pool);
    return NULL;
}

static weft_thread_pool *pool_ref(weft_thread_pool *pool)
{
    __atomic_add_fetch(&pool->references, 1, __ATOMIC_RELAXED);
    return pool;
}

static struct lane *find_lane(weft_thread_pool *pool, const char *name)
{
    for (size_t i = 0; i < pool->lane_count; i++) {
        if (strcmp(pool->lanes[i].name, name) == 0)
            return &pool->lanes[i];
    }
    return NULL;
}

static void add_lane(weft_thread_pool *pool, const weft_lane *options)
{
    struct lane *lane = &pool->lanes[pool->lane_count++];

    *lane = (struct lane){
        .pool = pool,
        .name = weft_strdup(options->name),
        .limit = options->threads ? options->threads : 1,
        .queue_limit = options->queue ? options->queue : USUAL_QUEUE,
        .work = PTHREAD_COND_INITIALIZER,
    };
}

static weft_thread_pool *pool_new(const char *name)
{
    weft_thread_pool *pool = weft_alloc_zeroed(sizeof *pool);

    pool->references = 1;
    pool->name = weft_strdup(name ? name : "pool");
    pool->handle = weft_reactor_handle_ref(weft_reactor_get_handle(weft_reactor_current()));
    pool->forks = weft__forks();
    pthread_mutex_init(&pool->lock, NULL);
    return pool;
}

weft_error *weft_thread_pool_new(weft_thread_pool **out, const weft_thread_pool_options *options)
{
    weft_thread_pool *pool;

    if (!weft_reactor_current())
        return weft_error_new(&WEFT_MISUSE, "a thread pool is made on a thread without a reactor");
    pool = pool_new(options->name);
    for (const weft_lane *lane = options->lanes; lane < options->lanes + WEFT_MAX_LANES && lane->name; lane++) {
        if (find_lane(pool, lane->name)) {
            pool_unref(pool);
            return weft_error_new(&WEFT_MISUSE, "a thread pool is made with two lanes named %s", lane->name);
        }
        add_lane(pool, lane);
    }
    if (!pool->lane_count) {
        pool_unref(pool);
        return weft_error_new(&WEFT_MISUSE, "a thread pool is made without lanes");
    }
    pool->next = pools;
    pools = pool;
    *out = pool;
    return NULL;
}

/* ---- jobs, on the loop ---- */

static void release_arg(weft_job_options options, void *arg)
{
    if (options.release)
        options.release(arg);
}

static void job_free(struct weft__job *job)
{
    weft__job_context_deinit(&job->context);
    weft_free(job);
}

static counts *live(void)
{
    return (counts *)&weft__thread.live;
}

/* An error that nobody takes is reported in the context in which the deferred was fired: that is the caller's. */
static void fire(struct weft__job *job, weft_result result)
{
    weft_context *context = weft_failed(result) ? weft_context_ref(job->context.caller) : NULL;
    weft_context *previous = weft_context_set(context);

    weft_deferred_callback_at(job->deferred, result, job->place);
    weft_context_unref(weft_context_set(previous));
}

static void conclude_deferred(struct weft__job *job)
{
    weft_error *cancellation = weft_deferred_get_cancellation(job->deferred);
    weft_result result = job->result;

    if (cancellation) {
        weft_error_ref(cancellation);
        weft_result_drop(result);
        result = weft_fail(cancellation);
    }
    fire(job, result);
    weft_deferred_unref(job->deferred);
}

/* Its result has arrived. */
static void conclude(struct weft__job *job)
{
    for (size_t i = 0; i < sizeof job->left.each / sizeof *job->left.each; i++)
        live()->each[i] += job->left.each[i];
    weft__job_context_charge(&job->context);
    release_arg(job->options, job->arg);
    if (job->deferred)
        conclude_deferred(job);
    else
        weft_result_drop(job->result);
    job_free(job);
}

/* For one that will not run. */
static void drop(struct weft__job *job)
{
    weft_deferred *deferred = job->deferred;

    list_remove(&job->lane->pool->dropped, job);
    release_arg(job->options, job->arg);
    job_free(job);
    weft_deferred_unref(deferred);
}

static void let_run_on(struct weft__job *job)
{
    weft_deferred *deferred = job->deferred;

    job->deferred = NULL;
    weft_deferred_unref(deferred);
}

static void heed_fork(weft_thread_pool *pool);

static weft_cancel_outcome cancel_job(weft_deferred *deferred, void *arg)
{
    struct weft__job *job = arg;
    weft_thread_pool *pool = job->lane->pool;
    bool abandon = job->options.on_cancel == WEFT_JOB_ABANDON, dropped;

    heed_fork(pool);
    pthread_mutex_lock(&pool->lock);
    if (job->state == QUEUED) {
        list_add(&pool->dropped, list_remove(&job->lane->queued, job));
        job->state = DROPPED;
    }
    dropped = job->state == DROPPED;
    job->abandoned = abandon;
    pthread_mutex_unlock(&pool->lock);
    if (dropped) {
        drop(job);
        return WEFT_CANCEL_DONE;
    }
    __atomic_store_n(&job->cancelled, true, __ATOMIC_RELAXED);
    weft__handle_interrupt_job(pool->handle, job, weft_deferred_get_cancellation(deferred));
    if (!abandon)
        return WEFT_CANCEL_LATER;
    let_run_on(job);
    return WEFT_CANCEL_DONE;
}

/* ---- what comes back to the loop ---- */

static void join(weft_thread_pool *pool, struct worker *worker)
{
    struct worker **link = &pool->workers;

    while (*link != worker)
        link = &(*link)->next;
    *link = worker->next;
    pthread_join(worker->thread, NULL);
    weft_free(worker);
}

/* Takes what has ended up to now. */
static void collect(weft_thread_pool *pool)
{
    struct weft__job *job, *next_job;
    struct worker *worker, *next_worker;

    pthread_mutex_lock(&pool->lock);
    job = pool->ended.first;
    worker = pool->gone;
    pool->ended = (struct list){0};
    pool->gone = NULL;
    pool->delivering = false;
    pthread_mutex_unlock(&pool->lock);
    for (; job; job = next_job) {
        next_job = job->next;
        conclude(job);
    }
    for (; worker; worker = next_worker) {
        next_worker = worker->next_gone;
        join(pool, worker);
    }
}

/* Nothing will come back any more. */
static void finish(weft_thread_pool *pool)
{
    weft_deferred *closed = pool->closed;
    weft_thread_pool **link = &pools;

    while (*link != pool)
        link = &(*link)->next;
    *link = pool->next;
    pool->closed = NULL;
    pool_unref(pool);
    weft_deferred_callback(closed, weft_ok(NULL));
    weft_deferred_unref(closed);
}

static void finish_if_over(weft_thread_pool *pool)
{
    bool over; /* with all its threads joined nobody else is in it */

    pthread_mutex_lock(&pool->lock);
    over = pool->closed && !pool->workers && !pool->ended.count;
    pthread_mutex_unlock(&pool->lock);
    if (over)
        finish(pool);
}

/* On the loop, with a reference to the pool, as callbacks may close it. */
static void deliver(void *arg)
{
    weft_thread_pool *pool = arg;

    collect(pool);
    finish_if_over(pool);
    pool_unref(pool);
}

/* Under the lock. Once a pool is forsaken there may be no loop to be called. */
static void call_loop(weft_thread_pool *pool)
{
    if (pool->delivering)
        return;
    pool->delivering = true;
    if (!weft_reactor_handle_call(pool->handle, deliver, pool_ref(pool)))
        pool_unref(pool);
}

/* ---- the threads ---- */

bool weft_job_cancelled(void)
{
    return running_job && __atomic_load_n(&running_job->cancelled, __ATOMIC_RELAXED);
}

struct weft__job *weft__job_current(void)
{
    return running_job;
}

weft_context *weft__job_context(const struct weft__job *job)
{
    return job->context.caller;
}

static void complain_of_left(const struct weft__job *job, const weft_live_counts *left)
{
    weft_log_error("misuse: the job %s, deferred at %s:%d %s, has left %zd deferreds, %zd contexts and %zd scopes behind "
                   "on its thread, which nobody else may touch", job->name, job->place->file, job->place->line,
                   job->place->function, left->deferreds, left->contexts, left->scopes);
}

/* Counts out what was made since `before` and goes to the loop. What cannot leave its thread stays counted here. */
static void count_out(struct weft__job *job, const counts *before)
{
    weft_live_counts *goes = &job->left.named;

    for (size_t i = 0; i < sizeof before->each / sizeof *before->each; i++)
        job->left.each[i] = live()->each[i] - before->each[i];
    if ((ptrdiff_t)goes->deferreds > 0 || (ptrdiff_t)goes->contexts > 0 || (ptrdiff_t)goes->scopes > 0)
        complain_of_left(job, goes);
    goes->deferreds = goes->contexts = goes->scopes = 0;
    for (size_t i = 0; i < sizeof before->each / sizeof *before->each; i++)
        live()->each[i] -= job->left.each[i];
}

static weft_result checked(const struct weft__job *job, weft_result result)
{
    if (result.type != &weft_deferred_type)
        return result;
    weft_result_drop(result);
    return weft_fail(weft_error_new_at(&WEFT_MISUSE, job->place, "the job %s returned a deferred", job->name));
}

static void run(struct weft__job *job)
{
    counts before = *live();

    running_job = job;
    weft__job_context_enter(&job->context);
    job->result = checked(job, job->fn(job->arg));
    weft__job_context_leave(&job->context, (const void *)job->fn);
    running_job = NULL;
    count_out(job, &before);
}

/* Nobody is there to whom it could go. */
static void discard(struct weft__job *job)
{
    for (size_t i = 0; i < sizeof job->left.each / sizeof *job->left.each; i++)
        live()->each[i] += job->left.each[i];
    weft_result_drop(job->result);
    release_arg(job->options, job->arg);
    job_free(job);
}

static struct weft__job *take_job(struct lane *lane)
{
    struct weft__job *job;

    while (!(job = lane->queued.first)) {
        if (lane->pool->closing)
            return NULL;
        pthread_cond_wait(&lane->work, &lane->pool->lock);
    }
    list_add(&lane->running, list_remove(&lane->queued, job));
    job->state = RUNNING;
    job->began = weft__monotonic();
    return job;
}

/* Under the lock, which it lets go of meanwhile. */
static void do_job(struct lane *lane, struct weft__job *job)
{
    weft_thread_pool *pool = lane->pool;

    pthread_mutex_unlock(&pool->lock);
    run(job);
    pthread_mutex_lock(&pool->lock);
    list_remove(&lane->running, job);
    job->state = ENDED;
    if (!pool->forsaken) {
        list_add(&pool->ended, job);
        call_loop(pool);
        return;
    }
    pthread_mutex_unlock(&pool->lock);
    discard(job);
    pthread_mutex_lock(&pool->lock);
}

static void name_thread(const struct lane *lane)
{
    char name[16]; /* as long as the kernel takes */

    snprintf(name, sizeof name, "%s-%s", lane->pool->name, lane->name);
    pthread_setname_np(pthread_self(), name);
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct lane *lane = worker->lane;
    weft_thread_pool *pool = lane->pool;
    struct weft__job *job;

    name_thread(lane);
    pthread_mutex_lock(&pool->lock);
    while ((job = take_job(lane)))
        do_job(lane, job);
    lane->threads--;
    if (!pool->forsaken) {
        worker->is_gone = true;
        worker->next_gone = pool->gone;
        pool->gone = worker;
        call_loop(pool);
        worker = NULL;
    }
    pthread_mutex_unlock(&pool->lock);
    if (worker) {
        weft_free(worker);
        pool_unref(pool);
    }
    return NULL;
}

/* Signals are for the threads that expect them. But a fault that is blocked kills without a word, and profilers want
 * theirs. */
static int create_thread(struct worker *worker)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF};
    sigset_t blocked, before;
    int failed;

    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&blocked, own[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    failed = pthread_create(&worker->thread, NULL, work, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

/* Under the lock. Fails when that leaves the lane without any. */
static weft_error *start_thread(struct lane *lane, const weft_place *place)
{
    weft_thread_pool *pool = lane->pool;
    struct worker *worker = weft_alloc(sizeof *worker);
    int failed;

    *worker = (struct worker){.lane = lane, .next = pool->workers};
    failed = create_thread(worker);
    if (failed) {
        weft_free(worker);
        return lane->threads ? NULL : weft_error_os_at(failed, place, "cannot start a thread for lane %s of pool %s",
                                                       lane->name, pool->name);
    }
    pool->workers = worker;
    lane->threads++;
    return NULL;
}

/* ---- forks ----
 *
 * A fork is made while nobody is inside this thread's pools, so that a child finds them whole, but for the threads. */

void weft__pools_before_fork(void)
{
    for (weft_thread_pool *pool = pools; pool; pool = pool->next)
        pthread_mutex_lock(&pool->lock);
}

void weft__pools_after_fork(void)
{
    for (weft_thread_pool *pool = pools; pool; pool = pool->next)
        pthread_mutex_unlock(&pool->lock);
}

/* What it used may be half changed, so nobody lets go of it. */
static void lose_job(struct weft__job *job)
{
    job->options.release = NULL;
    job->context.used = (weft_usage){0};
    job->left = (counts){0};
    job->result = weft_fail(weft_error_new_at(&WEFT_FAILURE, job->place, "the job %s ran on a thread which this child, "
                                              "made by fork, does not have", job->name));
    job->state = ENDED;
    list_add(&job->lane->pool->ended, job);
}

static void lose_threads(struct lane *lane)
{
    struct weft__job *job;

    while ((job = lane->running.first)) {
        list_remove(&lane->running, job);
        lose_job(job);
    }
    lane->threads = 0;
    pthread_cond_init(&lane->work, NULL);
}

/* In a child nobody locks, so nor does this. */
static void heed_fork(weft_thread_pool *pool)
{
    struct worker *worker;

    if (pool->forks == weft__forks() || pool->in_child)
        return;
    pool->in_child = true;
    while ((worker = pool->workers)) {
        pool->workers = worker->next;
        weft_free(worker);
    }
    pool->gone = NULL;
    for (size_t i = 0; i < pool->lane_count; i++)
        lose_threads(&pool->lanes[i]);
    call_loop(pool);
}

void weft__pools_heed_fork(void)
{
    for (weft_thread_pool *pool = pools; pool; pool = pool->next)
        heed_fork(pool);
}

/* ---- deferring ---- */

/* Either limit may be as large as numbers get. */
static bool is_full(const struct lane *lane)
{
    size_t count = lane->running.count + lane->queued.count;

    return count >= lane->limit && count - lane->limit >= lane->queue_limit;
}

static weft_error *refusal(weft_thread_pool *pool, const struct lane *lane, const char *lane_name, const weft_place *place)
{
    if (!weft_reactor_current() || weft_reactor_get_handle(weft_reactor_current()) != pool->handle)
        return weft_error_new_at(&WEFT_MISUSE, place, "pool %s is used on another thread than its reactor's", pool->name);
    if (pool->forks != weft__forks())
        return weft_error_new_at(&WEFT_MISUSE, place, "pool %s has no threads in a child made by fork", pool->name);
    if (!lane)
        return weft_error_new_at(&WEFT_MISUSE, place, "pool %s has no lane %s", pool->name, lane_name);
    if (pool->closing)
        return weft_error_new_at(&WEFT_SHUTDOWN, place, "pool %s is being closed", pool->name);
    if (is_full(lane))
        return weft_error_new_at(&WEFT_BUSY, place, "lane %s of pool %s is full: %zu jobs run and %zu wait, of %zu that may",
                                 lane->name, pool->name, lane->running.count, lane->queued.count, lane->queue_limit);
    return NULL;
}

/* Under the lock. */
static struct weft__job *enqueue(struct lane *lane, struct weft__job job)
{
    struct weft__job *queued = weft_alloc(sizeof *queued);

    *queued = job;
    queued->lane = lane;
    queued->deferred = weft_deferred_new_at(cancel_job, queued, job.place);
    weft__job_context_init(&queued->context);
    list_add(&lane->queued, queued);
    pthread_cond_signal(&lane->work);
    return queued;
}

weft_deferred *weft_defer_to_thread_at(weft_thread_pool *pool, const char *lane_name, weft_job_fn *fn, void *arg,
                                       weft_job_options options, const char *name, const weft_place *place)
{
    struct weft__job job = {.fn = fn, .arg = arg, .options = options, .name = name, .place = place};
    struct lane *lane = find_lane(pool, lane_name);
    weft_deferred *deferred = NULL;
    weft_error *error;

    pthread_mutex_lock(&pool->lock);
    error = refusal(pool, lane, lane_name, place);
    if (!error && lane->queued.count + lane->running.count >= lane->threads && lane->threads < lane->limit)
        error = start_thread(lane, place);
    if (!error)
        deferred = weft_deferred_ref(enqueue(lane, job)->deferred);
    pthread_mutex_unlock(&pool->lock);
    if (!error)
        return deferred;
    release_arg(options, arg);
    return weft_deferred_with_at(weft_fail(error), place);
}

/* ---- closing ---- */

static void drop_queued(weft_thread_pool *pool)
{
    struct weft__job *job;

    for (size_t i = 0; i < pool->lane_count; i++) {
        struct list *queued = &pool->lanes[i].queued;

        while ((job = queued->first)) {
            list_add(&pool->dropped, list_remove(queued, job));
            job->state = DROPPED;
        }
        pthread_cond_broadcast(&pool->lanes[i].work);
    }
}

static weft_error *closing_error(const weft_thread_pool *pool)
{
    return weft_error_new(&WEFT_SHUTDOWN, "thread pool %s is being closed", pool->name);
}

/* Callbacks that this runs may cancel others of them. */
static void cancel_dropped(weft_thread_pool *pool)
{
    struct weft__job *job;

    while ((job = pool->dropped.first)) {
        if (weft_deferred_get_state(job->deferred) == WEFT_PENDING)
            weft_deferred_cancel_with(job->deferred, closing_error(pool));
        else
            drop(job); /* somebody else has fired it */
    }
}

/* So many references to deferreds of jobs that run. */
static size_t running_deferreds(weft_thread_pool *pool, weft_deferred ***out)
{
    size_t count = 0;

    pthread_mutex_lock(&pool->lock);
    for (size_t i = 0; i < pool->lane_count; i++)
        count += pool->lanes[i].running.count;
    *out = weft_alloc(count * sizeof(weft_deferred *));
    count = 0;
    for (size_t i = 0; i < pool->lane_count; i++) {
        for (struct weft__job *job = pool->lanes[i].running.first; job; job = job->next) {
            if (job->deferred)
                (*out)[count++] = weft_deferred_ref(job->deferred);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return count;
}

static void cancel_running(weft_thread_pool *pool)
{
    weft_deferred **deferreds;
    size_t count = running_deferreds(pool, &deferreds);

    for (size_t i = 0; i < count; i++) {
        weft_deferred_cancel_with(deferreds[i], closing_error(pool));
        weft_deferred_unref(deferreds[i]);
    }
    weft_free(deferreds);
}

weft_deferred *weft_thread_pool_close(weft_thread_pool *pool)
{
    weft_deferred *closed = weft_deferred_new(NULL, NULL);

    assert(!pool->closed);
    pool_ref(pool);
    heed_fork(pool);
    pool->closed = weft_deferred_ref(closed);
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    drop_queued(pool);
    pthread_mutex_unlock(&pool->lock);
    cancel_dropped(pool);
    cancel_running(pool);
    finish_if_over(pool);
    pool_unref(pool);
    return closed;
}

weft_thread_pool *weft_thread_pool_free(weft_thread_pool *pool)
{
    if (pool)
        weft_deferred_unref(weft_thread_pool_close(pool));
    return NULL;
}

/* ---- the end of the reactor ---- */

bool weft__pools_left(void)
{
    return pools;
}

static weft_thread_pool *first_open(void)
{
    weft_thread_pool *pool = pools;

    while (pool && pool->closed)
        pool = pool->next;
    return pool;
}

/* Callbacks may close others. */
void weft__pools_close(void)
{
    weft_thread_pool *pool;

    while ((pool = first_open()))
        weft_thread_pool_free(pool);
}

static void log_job(const struct weft__job *job)
{
    const char *what = job->abandoned ? "waits no longer for the abandoned" : "waits for the";

    weft_log_warn("the end of the reactor %s job %s of lane %s of pool %s, deferred at %s:%d %s, which runs for %.1f s",
                  what, job->name, job->lane->name, job->lane->pool->name, job->place->file, job->place->line,
                  job->place->function, (double)(weft__monotonic() - job->began) / 1e9);
}

/* Under the lock. Logs the jobs that run; returns whether there is one to be waited for. */
static bool log_jobs(weft_thread_pool *pool)
{
    bool wait = false;

    for (size_t i = 0; i < pool->lane_count; i++) {
        for (struct weft__job *job = pool->lanes[i].running.first; job; job = job->next)
            wait = wait || !job->abandoned;
    }
    for (size_t i = 0; i < pool->lane_count; i++) {
        for (struct weft__job *job = pool->lanes[i].running.first; job; job = job->next) {
            if (!wait || !job->abandoned)
                log_job(job);
        }
    }
    return wait;
}

/* Under the lock, so that none ends meanwhile. */
static void let_threads_go(weft_thread_pool *pool)
{
    struct worker **link = &pool->workers, *worker;

    pool->forsaken = true;
    while ((worker = *link)) {
        if (worker->is_gone) {
            link = &worker->next;
            continue;
        }
        *link = worker->next;
        pool_ref(pool);
        pthread_detach(worker->thread);
    }
    for (size_t i = 0; i < pool->lane_count; i++) {
        for (struct weft__job *job = pool->lanes[i].running.first; job; job = job->next)
            weft__job_context_forsake(&job->context);
    }
}

static void lose_patience(weft_thread_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    if (!log_jobs(pool))
        let_threads_go(pool);
    pthread_mutex_unlock(&pool->lock);
}

static weft_thread_pool *first_forsaken(void)
{
    weft_thread_pool *pool = pools;

    while (pool && !pool->forsaken)
        pool = pool->next;
    return pool;
}

/* Callbacks, which only the second half runs, may bring pools and end them. */
void weft__pools_lose_patience(void)
{
    weft_thread_pool *pool;

    for (pool = pools; pool; pool = pool->next) {
        if (pool->closed)
            lose_patience(pool);
    }
    while ((pool = first_forsaken())) {
        pool_ref(pool);
        collect(pool);
        finish_if_over(pool);
        pool_unref(pool);
    }
}

/* ---- looking ---- */

weft_lane_stats weft_thread_pool_get_stats(weft_thread_pool *pool, const char *lane_name)
{
    const struct lane *lane = find_lane(pool, lane_name);
    weft_lane_stats stats = {0};

    if (!lane)
        return stats;
    pthread_mutex_lock(&pool->lock);
    stats = (weft_lane_stats){.threads = lane->threads, .running = lane->running.count, .queued = lane->queued.count};
    for (const struct weft__job *job = lane->running.first; job; job = job->next)
        stats.abandoned += job->abandoned;
    pthread_mutex_unlock(&pool->lock);
    return stats;
}

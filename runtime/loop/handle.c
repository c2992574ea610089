/* Handles: the part of a reactor that other threads may touch.
 *
 * It is apart from the reactor and counted, so that a thread that comes too late finds out, instead of finding nothing.
 * Calls stand in one line, whether somebody waits for their answer or not. A call that blocks is refused where it would
 * wait for ever; its memory is the waiting thread's, so it is touched no more once that has been woken. */
#include "runtime/loop/handle.h"

#include "lib/context.h"
#include "runtime/loop/pools.h"
#include "runtime/loop/publishing.h"

struct weft__call {
    weft_call_fn *fn;
    void *arg;
    struct weft__blocking *blocking; /* instead of the two; NULL */
    struct weft__call *next;
};

/* ---- forks ---- */

static unsigned forks; /* of which this process came, since the first reactor */

/* So that a child finds what the forking thread's reactor has whole. Pools come first: they call with their lock held. */
static void before_fork(void)
{
    weft__pools_before_fork();
    if (weft_reactor_current())
        pthread_mutex_lock(&weft_reactor_get_handle(weft_reactor_current())->lock);
}

static void after_fork(void)
{
    if (weft_reactor_current())
        pthread_mutex_unlock(&weft_reactor_get_handle(weft_reactor_current())->lock);
    weft__pools_after_fork();
}

static void after_fork_in_child(void)
{
    forks++;
    after_fork();
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

unsigned weft__forks(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, watch_forks);
    return forks;
}

/* ---- life ---- */

static void on_woken(struct ev_loop *loop, ev_async *watcher, int events)
{
    (void)loop, (void)events;
    weft__handle_make_calls(watcher->data);
}

weft_reactor_handle *weft__handle_new(struct ev_loop *loop, struct weft__published *published)
{
    weft_reactor_handle *handle = weft_alloc(sizeof *handle);

    *handle = (weft_reactor_handle){.references = 1, .loop = loop, .lock = PTHREAD_MUTEX_INITIALIZER};
    handle->forks = weft__forks();
    handle->published = published;
    handle->calls_tail = &handle->calls;
    ev_async_init(&handle->woken, on_woken);
    handle->woken.data = handle;
    ev_async_start(loop, &handle->woken);
    return handle;
}

weft_reactor_handle *weft_reactor_handle_ref(weft_reactor_handle *handle)
{
    __atomic_add_fetch(&handle->references, 1, __ATOMIC_RELAXED);
    return handle;
}

weft_reactor_handle *weft_reactor_handle_unref(weft_reactor_handle *handle)
{
    if (!handle || __atomic_sub_fetch(&handle->references, 1, __ATOMIC_ACQ_REL))
        return NULL;
    pthread_mutex_destroy(&handle->lock);
    weft_free(handle);
    return NULL;
}

/* ---- posting ---- */

static bool post(weft_reactor_handle *handle, struct weft__call call)
{
    struct weft__call *posted = weft_alloc(sizeof *posted);
    bool taken;

    *posted = call;
    pthread_mutex_lock(&handle->lock);
    taken = handle->loop && !(call.blocking && handle->refusing);
    if (taken) {
        *handle->calls_tail = posted;
        handle->calls_tail = &posted->next;
        /* Under the lock: once that is free the call may have been made, and have been the reactor's last. */
        ev_async_send(handle->loop, &handle->woken);
    }
    pthread_mutex_unlock(&handle->lock);
    if (!taken)
        weft_free(posted);
    return taken;
}

bool weft_reactor_handle_call(weft_reactor_handle *handle, weft_call_fn *fn, void *arg)
{
    return post(handle, (struct weft__call){.fn = fn, .arg = arg});
}

bool weft__handle_post_blocking(weft_reactor_handle *handle, struct weft__blocking *blocking)
{
    return post(handle, (struct weft__call){.blocking = blocking});
}

/* ---- making ---- */

static void make(struct weft__call *call)
{
    if (call->blocking) {
        call->blocking->begin(call->blocking);
        return;
    }
    call->fn(call->arg);
    weft__context_leave_callback((const void *)call->fn);
}

bool weft__handle_make_calls(weft_reactor_handle *handle)
{
    struct weft__call *call;
    bool any;

    pthread_mutex_lock(&handle->lock);
    handle->making = handle->calls;
    handle->calls = NULL;
    handle->calls_tail = &handle->calls;
    pthread_mutex_unlock(&handle->lock);
    any = handle->making;
    while ((call = handle->making)) {
        handle->making = call->next;
        weft__add_alone(&handle->published->calls, 1);
        make(call);
        weft_free(call);
    }
    return any;
}

/* ---- blocking calls ---- */

/* Takes those that block out of the line. */
static struct weft__call *take_blocking(weft_reactor_handle *handle)
{
    struct weft__call *blocking = NULL, **end = &blocking, **link = &handle->calls, *call;

    while ((call = *link)) {
        if (!call->blocking) {
            link = &call->next;
            continue;
        }
        *link = call->next;
        *end = call;
        end = &call->next;
    }
    *end = NULL;
    handle->calls_tail = link;
    return blocking;
}

void weft__handle_admit(weft_reactor_handle *handle, bool admit)
{
    struct weft__call *call = NULL, *next;

    pthread_mutex_lock(&handle->lock);
    handle->refusing = !admit;
    if (!admit)
        call = take_blocking(handle);
    pthread_mutex_unlock(&handle->lock);
    for (; call; call = next) {
        next = call->next;
        call->blocking->refuse(call->blocking);
        weft_free(call);
    }
}

void weft__handle_begun(weft_reactor_handle *handle, struct weft__blocking *blocking)
{
    blocking->previous = NULL;
    blocking->next = handle->begun;
    if (blocking->next)
        blocking->next->previous = blocking;
    handle->begun = blocking;
}

void weft__handle_ended(weft_reactor_handle *handle, struct weft__blocking *blocking)
{
    if (blocking->next)
        blocking->next->previous = blocking->previous;
    if (blocking->previous)
        blocking->previous->next = blocking->next;
    else
        handle->begun = blocking->next;
}

/* A cancel wakes fibers through the ready queue, and runs cancellers, which may end others: so hold what comes next. */
static void cancel_begun(weft_reactor_handle *handle, const struct weft__job *job, weft_error *cancellation)
{
    size_t count = 0, i = 0;
    weft_deferred **deferreds;

    for (struct weft__blocking *blocking = handle->begun; blocking; blocking = blocking->next)
        count += !job || blocking->job == job;
    deferreds = weft_alloc(count * sizeof(weft_deferred *));
    for (struct weft__blocking *blocking = handle->begun; blocking; blocking = blocking->next) {
        if (!job || blocking->job == job)
            deferreds[i++] = weft_deferred_ref(blocking->deferred);
    }
    for (i = 0; i < count; i++) {
        weft_deferred_cancel_with(deferreds[i], weft_error_ref(cancellation));
        weft_deferred_unref(deferreds[i]);
    }
    weft_free(deferreds);
}

void weft__handle_cancel_begun(weft_reactor_handle *handle)
{
    weft_error *shutdown;

    if (!handle->begun)
        return;
    shutdown = weft_error_new(&WEFT_SHUTDOWN, "the reactor has stopped");
    cancel_begun(handle, NULL, shutdown);
    weft_error_unref(shutdown);
}

static void interrupt_in_line(struct weft__call *call, const struct weft__job *job)
{
    for (; call; call = call->next) {
        if (call->blocking && call->blocking->job == job)
            call->blocking->interrupted = true;
    }
}

void weft__handle_interrupt_job(weft_reactor_handle *handle, const struct weft__job *job, weft_error *cancellation)
{
    if (handle->beginning && handle->beginning->job == job)
        handle->beginning->interrupted = true;
    interrupt_in_line(handle->making, job);
    pthread_mutex_lock(&handle->lock);
    interrupt_in_line(handle->calls, job);
    pthread_mutex_unlock(&handle->lock);
    cancel_begun(handle, job, cancellation);
}

/* ---- the end ---- */

bool weft__handle_retire(weft_reactor_handle *handle)
{
    struct weft__blocking *blocking, *next;

    pthread_mutex_lock(&handle->lock);
    if (handle->calls) {
        pthread_mutex_unlock(&handle->lock);
        return false;
    }
    ev_async_stop(handle->loop, &handle->woken);
    handle->loop = NULL;
    pthread_mutex_unlock(&handle->lock);
    /* Their fibers have not ended, and will never run again. */
    for (blocking = handle->begun; blocking; blocking = next) {
        next = blocking->next;
        blocking->refuse(blocking);
    }
    handle->begun = NULL;
    return true;
}

/* Nobody waits for answers here. What has begun goes on, and tells nobody. */
void weft__handle_heed_fork(weft_reactor_handle *handle)
{
    struct weft__call *call, *next;

    if (handle->forks == weft__forks())
        return;
    handle->forks = weft__forks();
    for (call = take_blocking(handle); call; call = next) {
        next = call->next;
        weft_free(call);
    }
    ev_loop_fork(handle->loop);
    weft__pools_heed_fork();
}

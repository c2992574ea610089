/* Calls from other threads that wait for the answer.
 *
 * The call is a piece of memory that the blocked thread owns, and the loop fills in: the answer is given, and the thread
 * woken, under the handle's lock, so that it is freed only when the loop has let go of it. */
#include <pthread.h>
#include <weft/log.h>

#include "lib/deferred.h"
#include "lib/travel.h"
#include "runtime/loop/handle.h"

struct call {
    struct weft__blocking blocking; /* first */
    weft_reactor_handle *handle;
    weft_fiber_fn *fn;
    void *arg;
    const char *name;
    const weft_place *place;
    pthread_cond_t answered; /* with the handle's lock, as what follows */
    bool over;
    bool refused;
    weft_result result;
    size_t errors; /* that come with it */
};

/* ---- on the loop ---- */

static void wake_caller(struct call *call, bool refused)
{
    weft_reactor_handle *handle = call->handle;

    pthread_mutex_lock(&handle->lock);
    call->refused = refused;
    call->over = true;
    pthread_cond_signal(&call->answered);
    pthread_mutex_unlock(&handle->lock);
}

static void refuse(struct weft__blocking *blocking)
{
    wake_caller((struct call *)blocking, true);
}

static weft_result answer(weft_result result, void *arg)
{
    struct call *call = arg;
    weft_deferred *deferred = call->blocking.deferred;

    weft__handle_ended(call->handle, &call->blocking);
    call->result = weft__result_leave(result, &call->errors);
    wake_caller(call, false);
    weft_deferred_unref(deferred);
    return weft_ok(NULL);
}

static weft_deferred *spawn_in(weft_context *context, struct call *call)
{
    weft_context *previous = weft_context_set(weft_context_ref(context));
    weft_deferred *deferred = weft_spawn_at(call->fn, call->arg, call->name, call->place);

    weft_context_unref(weft_context_set(previous));
    return deferred;
}

static void begin(struct weft__blocking *blocking)
{
    struct call *call = (struct call *)blocking;
    weft_context *context = blocking->job ? weft__job_context(blocking->job) : NULL;

    call->handle->beginning = blocking;
    blocking->deferred = spawn_in(context, call);
    call->handle->beginning = NULL;
    weft__handle_begun(call->handle, blocking);
    if (blocking->interrupted)
        weft_deferred_cancel_with(blocking->deferred,
                                  weft_error_new(&WEFT_CANCELLED, "the job was cancelled that waits for it"));
    weft__deferred_consume(blocking->deferred, answer, call);
}

/* ---- on the caller's thread ---- */

static void wait_for_answer(struct call *call)
{
    pthread_mutex_lock(&call->handle->lock);
    while (!call->over)
        pthread_cond_wait(&call->answered, &call->handle->lock);
    pthread_mutex_unlock(&call->handle->lock);
}

static struct call *call_new(weft_reactor_handle *handle)
{
    struct call *call = weft_alloc(sizeof *call);

    *call = (struct call){
        .blocking = {.begin = begin, .refuse = refuse, .job = weft__job_current()},
        .handle = weft_reactor_handle_ref(handle),
        .answered = PTHREAD_COND_INITIALIZER,
    };
    return call;
}

static void call_free(struct call *call)
{
    pthread_cond_destroy(&call->answered);
    weft_reactor_handle_unref(call->handle);
    weft_free(call);
}

weft_result weft_reactor_handle_blocking_call_at(weft_reactor_handle *handle, weft_fiber_fn *fn, void *arg, const char *name,
                                                 const weft_place *place)
{
    weft_result result;
    struct call *call;

    if (weft__reactor_must_not_block(handle))
        return weft_fail(weft_error_new_at(&WEFT_MISUSE, place,
                                           "a blocking call from a thread whose reactor it would block"));
    call = call_new(handle);
    call->fn = fn;
    call->arg = arg;
    call->name = name;
    call->place = place;
    if (weft__handle_post_blocking(handle, &call->blocking))
        wait_for_answer(call);
    else
        call->refused = true;
    weft__result_arrive(call->errors);
    result = call->refused ? weft_fail(weft_error_new_at(&WEFT_SHUTDOWN, place, "the reactor has stopped, or is gone"))
                           : call->result;
    call_free(call);
    return result;
}

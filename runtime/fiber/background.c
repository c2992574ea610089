/* Background work in fibers. */
#include <weft/background.h>
#include <weft/log.h>
#include <weft/reactor.h>

#include "lib/background.h"
#include "lib/description.h"
#include "lib/task.h"
#include "lib/totals.h"

/* ---- part of what the caller does ---- */

struct start {
    weft_fiber_fn *fn;
    void *arg;
};

static weft_result run(void *arg)
{
    struct start start = *(struct start *)arg; /* it lies on the stack of the starter, who goes on at the first wait */
    weft_context *own = weft_context_ref(weft_context_current());
    weft_result result = start.fn(start.arg);

    weft__background_returned(own, (const void *)start.fn);
    return result;
}

weft_deferred *weft_run_in_background_at(weft_fiber_fn *fn, void *arg, const char *name, const weft_place *place)
{
    struct start start = {fn, arg};

    return weft_spawn_at(run, &start, name, place);
}

/* ---- on their own ---- */

static void log_end(const char *name, weft_error *error)
{
    bool cancelled = weft_error_is(error, &WEFT_CANCELLED);
    char text[1024];

    weft_error_print(error, text, sizeof text);
    weft_log(cancelled ? WEFT_LOG_INFO : WEFT_LOG_ERROR, "the background process %s %s: %s", name,
             cancelled ? "was cancelled" : "failed", text);
}

struct process {
    weft_fiber_fn *fn;
    void *arg;
    weft_description *counted;
    bool began;
};

/* In the process's context, which nobody enters any more who fires its deferred, or waits for that. */
static weft_result process_ended(weft_description *counted, weft_result result)
{
    weft_error *error = weft_failed(result);

    weft__description_ended(counted);
    if (error) {
        log_end(counted->name, error);
        weft_result_drop(result);
        result = weft_ok(NULL);
    }
    weft_context_end(weft_context_current());
    return result;
}

static weft_result run_process(void *arg)
{
    struct process *starters = arg, process = *starters; /* on the starter's stack, as above */
    struct weft__task *self = weft__thread.task;
    weft_context *own = weft_context_ref(weft_context_current());
    weft_result result;

    starters->began = true;
    result = process.fn(process.arg);
    weft__background_returned(own, (const void *)process.fn);
    while (result.type == &weft_deferred_type)
        result = weft_await(result.value);
    if (weft_failed(result))
        self->cancelled_at = NULL; /* who logs a cancel does not swallow it */
    return process_ended(process.counted, result);
}

/* The caller is no more than the occasion, as that of a callback is: the fiber is not in its scopes. */
static weft_deferred *spawn_apart(struct process *process, const char *name, const weft_place *place)
{
    struct weft__task *caller = weft__thread.task;
    weft_deferred *deferred;

    weft__thread.task = NULL;
    deferred = weft_spawn_at(run_process, process, name, place);
    weft__thread.task = caller;
    return deferred;
}

/* No stack was to be had: an error of the process like any other. */
static weft_deferred *never_began(weft_description *counted, weft_deferred *failed, const weft_place *place)
{
    weft_result result = process_ended(counted, weft_deferred_take_result(failed));

    weft_deferred_unref(failed);
    return weft_deferred_with_at(result, place);
}

static weft_context *new_context(weft_description *counted, uint64_t number)
{
    weft_context *context = weft_context_new_numbered(counted->name, number);
    struct weft__totals *totals = weft__totals_get(&weft__process_family, counted, (const char *const[]){counted->name});

    weft__context_join(context, &totals->series);
    return context;
}

static weft_deferred *no_reactor(const weft_place *place)
{
    return weft_deferred_with_at(
        weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "a background process needs a reactor on its thread")), place);
}

weft_deferred *weft_run_as_background_process_at(weft_description *description, weft_fiber_fn *fn, void *arg,
                                                 const char *name, const weft_place *place)
{
    struct process process = {fn, arg, NULL, false};
    weft_context *callers;
    weft_deferred *deferred;
    uint64_t number;

    if (!weft_reactor_current())
        return no_reactor(place);
    process.counted = weft__description_started(description, &number);
    callers = weft_context_set(new_context(process.counted, number));
    deferred = spawn_apart(&process, name, place);
    if (!process.began)
        deferred = never_began(process.counted, deferred, place);
    weft_context_unref(weft_context_set(callers));
    return deferred;
}

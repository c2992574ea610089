/* Driven computations: tasks that keep their place themselves, and are stepped from wait to wait. */
#include <assert.h>
#include <weft/driver.h>
#include <weft/log.h>

#include "lib/task.h"

struct driven {
    struct weft__task task; /* first */
    weft_step_fn *fn;
    void *arg;
};

/* Steps until it waits, which is false, or has ended, with its result in the task. */
static bool step(struct driven *driven, weft_result sent)
{
    struct weft__task *task = &driven->task, *running = weft__thread.task;
    bool over = true;
    weft_result result;

    weft__thread_step(&weft__thread);
    weft__thread.task = task;
    task->state = WEFT__TASK_RUNNING;
    while ((result = driven->fn(sent, driven->arg)).type == &weft_deferred_type) {
        if (!(over = weft__task_wait(task, result.value, task->started_at)))
            break;
        sent = task->result;
    }
    if (over) {
        task->result = result;
        weft__task_ending(task);
        task->state = WEFT__TASK_ENDED;
    }
    weft__thread.task = running;
    return over;
}

/* The same in its own context, for which it gets the caller's back. */
static bool step_in_context(struct driven *driven, weft_result sent)
{
    weft_context *callers = weft__context_swap(driven->task.context);
    bool over = step(driven, sent);

    driven->task.context = weft__context_swap(callers);
    return over;
}

static void end(struct driven *driven)
{
    weft_deferred *deferred = driven->task.deferred;
    weft_context *context = driven->task.context;
    weft_result result = driven->task.result;

    weft__task_end(&driven->task);
    weft_free(driven);
    weft__task_fire(deferred, result, context);
}

/* Its wait is over. */
static void driven_run(struct weft__runnable *runnable)
{
    struct driven *driven = (struct driven *)runnable;

    weft__context_unqueue(driven->task.context);
    if (step_in_context(driven, weft__task_waited(&driven->task, driven->task.place)))
        end(driven);
}

weft_deferred *weft_drive_at(weft_step_fn *fn, void *arg, const char *name, const weft_place *place)
{
    struct driven *driven = weft_alloc(sizeof *driven);
    weft_deferred *deferred;

    *driven = (struct driven){.task.runnable.run = driven_run, .fn = fn, .arg = arg};
    weft__task_begin(&driven->task, name, place);
    weft__task_make_deferred(&driven->task, place);
    deferred = weft_deferred_ref(driven->task.deferred);
    if (step_in_context(driven, weft_ok(NULL)))
        end(driven);
    return deferred;
}

/* Whether somebody runs who is run from the ready queue, and whom one drain more would cut off from its own. */
static bool inside_a_turn(void)
{
    return weft__thread.task || weft__thread.draining || weft__thread.calls || weft__thread.stack_of;
}

size_t weft_run_ready(void)
{
    if (inside_a_turn()) {
        weft_log_error("misuse: weft_run_ready is called by what it is to run: a fiber, a step or a callback");
        return weft__thread.ready.count;
    }
    weft__thread.draining = true;
    weft__ready_drain_share(&weft__thread.ready);
    weft__thread.draining = false;
    weft__contexts_look();
    return weft__thread.ready.count;
}

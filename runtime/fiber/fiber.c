/* Fibers: tasks (lib/task.h) that keep their place on a stack of their own.
 *
 * A switch goes straight from one fiber to the next that is ready, and to the thread's own stack when none is, or when this
 * turn's share is used up. Two exceptions: a fiber that has just been started goes back to its starter when it first waits,
 * and one that ends goes to its starter or to the thread's stack, where its deferred is fired and its stack is put back: so
 * callbacks never run on a stack that is about to go, and starting fibers from callbacks does not nest.
 *
 * A fiber's struct lies at the top of its stack, in memory that its first steps touch anyway. */
#include <weft/fiber.h>

#include "lib/task.h"
#include "runtime/fiber/fiber.h"
#include "runtime/fiber/overflow.h"
#include "runtime/fiber/sanitizer.h"
#include "runtime/fiber/stack.h"
#include "runtime/fiber/switch.h"
#include "runtime/loop/loop.h"

struct fiber {
    struct weft__task task; /* first; it keeps its place where weft__switch has saved it */
    struct fiber *starter;  /* while it is fresh: where it goes when it first waits, or ends */
    weft_fiber_fn *fn;
    void *arg;
    struct weft__stack *stack;  /* NULL: the thread's own */
    bool own_fp;
    struct weft__fp_control fp; /* while it does not run, if it has its own; of the thread: while such a one runs */
    struct weft__sanitizer sanitizer;
};

/* One thread's fibers. */
struct scheduler {
    struct fiber thread; /* stands for the thread's own stack */
    struct fiber *ended; /* one that nobody has buried yet; NULL */
    struct weft__stacks stacks;
};

static __thread struct scheduler *scheduler;

/* ---- switching ---- */

/* Those with one of their own keep how floating point rounds and traps; all others share the thread's. */
static struct weft__fp_control *fp_control_of(struct fiber *fiber)
{
    return fiber->own_fp ? &fiber->fp : &scheduler->thread.fp;
}

/* What few ask for: canaries are looked at, and how floating point works is changed. */
static __attribute__((noinline)) void switch_specially(struct fiber *from, struct fiber *to)
{
    if (from->stack && !weft__stack_intact(&scheduler->stacks, from->stack))
        weft__overflow_found();
    if (from->own_fp || to->own_fp) {
        weft__fp_control_get(fp_control_of(from));
        weft__fp_control_set(fp_control_of(to));
    }
}

/* From `from`, on whose stack we are, to `to`; returns when somebody switches back. Whose stack the thread stands on, and
 * which task runs, is for the side that is reached to say: until then, who overflows is the one that leaves. Inlined, as
 * weft__switch is. */
static inline __attribute__((always_inline)) void switch_to(struct fiber *from, struct fiber *to)
{
    bool was_ready = weft__task_was_ready(&to->task);

    if (__builtin_expect(from->task.special | to->task.special, 0))
        switch_specially(from, to);
    to->task.state = WEFT__TASK_RUNNING;
    weft__thread_step(&weft__thread);
    from->task.context = weft__context_switch(to->task.context, &to->task, from->task.state == WEFT__TASK_YIELDING, was_ready);
    weft__sanitizer_leave(&from->sanitizer, &to->sanitizer, from->task.state == WEFT__TASK_ENDED);
    weft__switch(&from->task.kept, to->task.kept);
    weft__sanitizer_arrive(&from->sanitizer, &scheduler->thread.sanitizer);
}

static void fiber_run(struct weft__runnable *runnable);
static void begin_fiber(struct weft__runnable *runnable);

/* Leaves the current fiber, which waits or is in the ready queue, for whoever is next. Inlined too: each frame of a parked
 * fiber is a cache line more to come back to. */
static inline __attribute__((always_inline)) void park(struct fiber *self)
{
    struct weft__runnable *ready;
    struct fiber *next;

    if (__builtin_expect(self->task.fresh, 0)) {
        self->task.fresh = false;
        next = self->starter;
    } else if ((ready = weft__ready_next(&weft__thread.ready)) && ready->run == fiber_run) {
        weft__ready_pop(&weft__thread.ready);
        next = (struct fiber *)ready;
    } else {
        next = &scheduler->thread;
    }
    if (next == self) {
        if (self->task.state == WEFT__TASK_READY)
            weft__context_unqueue(self->task.context);
        self->task.state = WEFT__TASK_RUNNING;
        return;
    }
    switch_to(self, next);
    weft__thread.stack_of = weft__thread.task = &self->task;
}

/* ---- the fibers of a reactor ---- */

/* The stacks of those that were abandoned stay as they are: others may point into them. Those that this thread's other
 * reactors, or other tasks, have lost are none of these. */
static void scheduler_free(void)
{
    if (!weft__stacks_in_use(&scheduler->stacks)) {
        weft__stacks_free(&scheduler->stacks);
        weft_free(scheduler);
    }
    scheduler = NULL;
}

static weft_cancel_outcome sleep_cancel(weft_deferred *deferred, void *arg);

static size_t stack_of(const struct weft__task *task, size_t *peak)
{
    const struct fiber *fiber = (const struct fiber *)task;

    if (task->runnable.run != fiber_run && task->runnable.run != begin_fiber)
        return 0;
    *peak = weft__stack_peak(&scheduler->stacks, fiber->stack);
    return fiber->stack->size - scheduler->stacks.guard;
}

weft_stack_use weft_stack_use_get(void)
{
    return scheduler ? weft__stacks_use(&scheduler->stacks) : (weft_stack_use){0};
}

static void scheduler_new(weft_reactor *reactor)
{
    static const struct weft__stackful stackful = {sleep_cancel, &weft__group_waits, stack_of};

    scheduler = weft_alloc_zeroed(sizeof *scheduler);
    weft__reactor_on_free(reactor, scheduler_free);
    weft__reactor_publishes_stacks(reactor, weft_stack_use_get);
    weft__thread.tasks.stackful = &stackful;
}

static weft_error *make_ready_for_fibers(const weft_place *place)
{
    weft_reactor *reactor = weft_reactor_current();

    if (!reactor)
        return weft_error_new_at(&WEFT_MISUSE, place, "a fiber needs a reactor on its thread");
    scheduler_new(reactor);
    return NULL;
}

/* ---- the ends of a fiber's life ---- */

static weft_result result_of(struct fiber *self)
{
    weft_result result = self->fn(self->arg);

    while (result.type == &weft_deferred_type)
        result = weft_await_at(result.value, self->task.place);
    return result;
}

static WEFT__SWITCHES void run_body(void *arg)
{
    struct fiber *self = arg;

    weft__thread.stack_of = weft__thread.task = &self->task;
    weft__sanitizer_arrive(&self->sanitizer, &scheduler->thread.sanitizer);
    self->task.result = result_of(self);
    weft__task_ending(&self->task);
    self->task.state = WEFT__TASK_ENDED;
    scheduler->ended = self;
    switch_to(self, self->task.fresh ? self->starter : &scheduler->thread);
    __builtin_unreachable();
}

static inline weft_error *fiber_new(struct fiber **out, weft_fiber_fn *fn, void *arg, const char *name,
                                    weft_spawn_options options, const weft_place *place)
{
    weft_error *error;
    struct fiber *fiber;
    struct weft__stack *stack;

    if (!scheduler && (error = make_ready_for_fibers(place)))
        return error;
    if ((error = weft__stack_take(&scheduler->stacks, options.stack_size, &stack)))
        return error;
    fiber = (struct fiber *)(((uintptr_t)stack - sizeof *fiber) & ~(uintptr_t)63);
    fiber->task.runnable.run = fiber_run;
    weft__task_begin(&fiber->task, name, place);
    fiber->fn = fn;
    fiber->arg = arg;
    fiber->stack = stack;
    fiber->own_fp = options.own_floating_point;
    if (fiber->own_fp)
        weft__fp_control_get(&fiber->fp);
    fiber->task.special = fiber->own_fp || scheduler->stacks.canaries;
    fiber->task.kept = weft__switch_prepare(fiber, run_body, fiber);
    weft__sanitizer_begin(&fiber->sanitizer, stack->low, stack->size);
    *out = fiber;
    return NULL;
}

/* It has ended and been left: its stack goes back. Returns its result; its context and its deferred are the caller's. */
static weft_result bury(struct fiber *fiber)
{
    weft_result result = fiber->task.result;

    weft__task_end(&fiber->task);
    weft__sanitizer_end(&fiber->sanitizer);
    weft__stack_give(&scheduler->stacks, fiber->stack);
    return result;
}

static struct fiber *take_ended(void)
{
    struct fiber *ended = scheduler->ended;

    scheduler->ended = NULL;
    return ended;
}

static void bury_and_fire(struct fiber *fiber)
{
    weft_deferred *deferred = fiber->task.deferred;
    weft_context *context = fiber->task.context;

    weft__task_fire(deferred, bury(fiber), context);
}

/* Its turn has come; returns when it, or another that it has switched to, comes back to the thread's own stack. */
static WEFT__SWITCHES void fiber_run(struct weft__runnable *runnable)
{
    switch_to(&scheduler->thread, (struct fiber *)runnable);
    weft__thread.stack_of = weft__thread.task = NULL;
    if (scheduler->ended)
        bury_and_fire(take_ended());
}

/* ---- starting ---- */

/* What has ended in its first run needs no deferred of its own before. */
static WEFT__SWITCHES weft_deferred *start(struct fiber *fiber, const weft_place *place)
{
    struct weft__task *runs = weft__thread.task, *stack_of = weft__thread.stack_of;
    struct fiber *starter = stack_of ? (struct fiber *)stack_of : &scheduler->thread;
    weft_context *context;
    weft_deferred *deferred;
    uint16_t flags;

    fiber->starter = starter;
    switch_to(starter, fiber);
    weft__thread.task = runs;
    weft__thread.stack_of = stack_of;
    if (!scheduler->ended) {
        weft__task_make_deferred(&fiber->task, place);
        return weft_deferred_ref(fiber->task.deferred);
    }
    take_ended();
    context = fiber->task.context;
    flags = fiber->task.unwanted ? WEFT__UNWANTED : 0;
    deferred = weft_deferred_with_at(bury(fiber), place);
    deferred->flags |= flags;
    weft_context_unref(context);
    return deferred;
}

static weft_deferred *start_soon(struct fiber *fiber, const weft_place *place)
{
    fiber->task.runnable.run = begin_fiber;
    fiber->task.fresh = false;
    weft__task_make_deferred(&fiber->task, place);
    weft__task_ready(&fiber->task, WEFT__TASK_NEW);
    return weft_deferred_ref(fiber->task.deferred);
}

weft_deferred *weft_spawn_with_at(weft_fiber_fn *fn, void *arg, const char *name, weft_spawn_options options,
                                  const weft_place *place)
{
    struct fiber *fiber;
    weft_error *error = fiber_new(&fiber, fn, arg, name, options, place);

    return error ? weft_deferred_with_at(weft_fail(error), place) : start(fiber, place);
}

weft_deferred *weft_spawn_at(weft_fiber_fn *fn, void *arg, const char *name, const weft_place *place)
{
    return weft_spawn_with_at(fn, arg, name, (weft_spawn_options){0}, place);
}

weft_error *weft__spawn_in(weft_deferred **out, weft_scope *scope, weft_fiber_fn *fn, void *arg, const char *name,
                           const weft_place *place)
{
    struct fiber *fiber;
    weft_error *error = fiber_new(&fiber, fn, arg, name, (weft_spawn_options){0}, place);

    if (error)
        return error;
    if (fiber->task.scope)
        weft__scope_remove_task(&fiber->task);
    weft__scope_add_task(scope, &fiber->task);
    fiber->task.counted = true;
    *out = start(fiber, place);
    return NULL;
}

weft_deferred *weft_spawn_soon_at(weft_fiber_fn *fn, void *arg, const char *name, const weft_place *place)
{
    struct fiber *fiber;
    weft_error *error = fiber_new(&fiber, fn, arg, name, (weft_spawn_options){0}, place);

    return error ? weft_deferred_with_at(weft_fail(error), place) : start_soon(fiber, place);
}

/* The first turn of one that did not start at once: unless it was cancelled before. */
static void begin_fiber(struct weft__runnable *runnable)
{
    struct fiber *fiber = (struct fiber *)runnable;
    weft_error *cancellation = weft__task_never_begins(&fiber->task);

    runnable->run = fiber_run;
    if (!cancellation) {
        fiber_run(runnable);
        return;
    }
    weft__context_unqueue(fiber->task.context);
    fiber->task.result = weft_fail(cancellation);
    weft__task_ending(&fiber->task);
    bury_and_fire(fiber);
}

/* ---- waiting ---- */

/* NULL also in a callback and in the step of a driven computation, which run on some fiber's stack, or on the thread's. */
static struct fiber *current_fiber(void)
{
    struct weft__task *task = weft__thread.task;

    return task && task->runnable.run == fiber_run ? (struct fiber *)task : NULL;
}

static weft_result outside_a_fiber(const weft_place *place, const char *what)
{
    return weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "%s is called outside a fiber", what));
}

WEFT__SWITCHES weft_result weft_await_at(weft_deferred *deferred, const weft_place *place)
{
    struct fiber *self = current_fiber();

    if (!self) {
        weft_deferred_unref(deferred);
        return outside_a_fiber(place, "weft_await");
    }
    if (weft__task_wait(&self->task, deferred, place))
        return self->task.result;
    park(self);
    return weft__task_waited(&self->task, place);
}

struct sleep {
    weft_timer timer;
    weft_deferred *deferred; /* a reference: the timer fires it */
};

static void sleep_over(weft_timer *timer, void *arg)
{
    (void)timer;
    weft_deferred_callback(((struct sleep *)arg)->deferred, weft_ok(NULL));
}

static weft_cancel_outcome sleep_cancel(weft_deferred *deferred, void *arg)
{
    (void)deferred;
    weft_timer_stop(&((struct sleep *)arg)->timer);
    return WEFT_CANCEL_DONE;
}

weft_result weft_sleep_at(double seconds, const weft_place *place)
{
    struct sleep sleep;
    weft_result result;

    if (!current_fiber())
        return outside_a_fiber(place, "weft_sleep");
    sleep.deferred = weft_deferred_new_at(sleep_cancel, &sleep, place);
    weft_timer_init(&sleep.timer, sleep_over, &sleep);
    weft_timer_start(&sleep.timer, weft_clock_current(), seconds);
    result = weft_await_at(weft_deferred_ref(sleep.deferred), place);
    weft_timer_stop(&sleep.timer);
    weft_deferred_unref(sleep.deferred);
    return result;
}

/* To the end of the queue, while the one at its front runs: the usual case of a yield, in fewer steps. False: it is not. */
static inline __attribute__((always_inline)) bool yield_to_next(struct fiber *self)
{
    struct weft__ready *ready = &weft__thread.ready;
    struct weft__runnable *next = ready->first;

    if (!ready->share || !next || next->run != fiber_run || ready->shuffled || self->task.fresh)
        return false;
    self->task.state = WEFT__TASK_YIELDING;
    self->task.runnable.next = NULL;
    ready->last->next = &self->task.runnable;
    ready->last = &self->task.runnable;
    ready->first = next->next;
    ready->share--;
    switch_to(self, (struct fiber *)next);
    weft__thread.stack_of = weft__thread.task = &self->task;
    return true;
}

WEFT__SWITCHES weft_result weft_yield_at(const weft_place *place)
{
    struct fiber *self = current_fiber();
    weft_error *cancellation;

    if (!self)
        return outside_a_fiber(place, "weft_yield");
    self->task.place = place;
    if (__builtin_expect(!yield_to_next(self), 0)) {
        self->task.state = WEFT__TASK_YIELDING;
        weft__ready_push(&weft__thread.ready, &self->task.runnable);
        park(self);
    }
    cancellation = weft__task_interruption(&self->task, place);
    return __builtin_expect(cancellation != NULL, 0) ? weft_fail(cancellation) : weft_ok(NULL);
}

void weft_fiber_shuffle(uint64_t seed)
{
    weft__ready_shuffle(&weft__thread.ready, seed);
}

bool weft_in_fiber(void)
{
    return current_fiber() != NULL;
}

/* ---- the running fiber's stack ---- */

size_t weft_fiber_stack_peak(void)
{
    const struct fiber *self = (struct fiber *)weft__thread.stack_of;

    return self ? weft__stack_peak(&scheduler->stacks, self->stack) : 0;
}

bool weft__fiber_running(struct weft__running *out)
{
    const struct fiber *self = (struct fiber *)weft__thread.stack_of;

    if (!self)
        return false;
    *out = (struct weft__running){
        .name = self->task.name,
        .entry = (void *)self->fn,
        .low = self->stack->low,
        .guard = scheduler->stacks.guard,
        .usable = self->stack->size - scheduler->stacks.guard,
    };
    return true;
}

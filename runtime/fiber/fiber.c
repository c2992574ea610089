/* Fibers: who runs, who is ready, who waits for what.
 *
 * A switch goes straight from one fiber to the next that is ready, and to the thread's own stack when none is, or when this
 * turn's share is used up. Two exceptions: a fiber that has just been started goes back to its starter when it first waits,
 * and one that ends goes to its starter or to the thread's stack, where its deferred is fired and its stack is put back: so
 * callbacks never run on a stack that is about to go, and starting fibers from callbacks does not nest.
 *
 * A fiber's struct lies at the top of its stack, in memory that its first steps touch anyway. What a fiber waits for is only
 * borrowed: its entry there goes when that is fired, or orphaned.
 *
 * A cancel that finds the fiber between two waits stays in the fiber's own deferred, as a cancellation that was asked, until
 * the next wait takes it out. */
#include <assert.h>
#include <weft/fiber.h>
#include <weft/log.h>

#include "lib/context.h"
#include "lib/deferred.h"
#include "runtime/fiber/sanitizer.h"
#include "runtime/fiber/stack.h"
#include "runtime/fiber/switch.h"
#include "runtime/loop/loop.h"

enum fiber_state {
    RUNNING, /* or started by the one that runs, and so on */
    READY,
    PARKED,
    ENDED,
    ABANDONED, /* its reactor was freed: it never runs again */
};

struct fiber {
    void *saved; /* where its registers are, while it does not run */
    weft_context *context; /* its current one, while it does not run */
    struct fiber *next; /* in the ready queue */
    struct fiber *starter; /* where it goes when it first waits or ends; NULL afterwards */
    enum fiber_state state;
    struct weft__sanitizer sanitizer;

    weft_fiber_fn *fn;
    void *arg;
    const char *name;
    const weft_place *place; /* where it waits, or was started */
    weft_deferred *deferred; /* of its result: a reference; NULL until it has waited */
    weft_deferred *awaited;  /* borrowed; NULL when it does not wait for a deferred */
    weft_result result;      /* of the wait, then its own */
    char *stack;             /* its top */
    struct fiber *older;     /* the list of all, newest first */
    struct fiber *newer;
};

enum { EXTRA_SWITCHES = 64 };

/* One thread's fibers. */
struct scheduler {
    struct weft__runnables runnables; /* first: what the reactor knows of us */
    struct fiber thread;              /* stands for the thread's own stack */
    struct fiber *current;
    struct fiber *previous; /* who switched to the current one */
    struct fiber *ready;    /* the queue, oldest first */
    struct fiber *ready_last;
    size_t ready_count;
    size_t share; /* switches left before sockets are looked at again */
    struct fiber *newest;
    size_t count;
    struct weft__stacks stacks;
};

static __thread struct scheduler *scheduler;

/* ---- the ready queue ---- */

static void ready_push(struct fiber *fiber)
{
    fiber->state = READY;
    fiber->next = NULL;
    if (scheduler->ready)
        scheduler->ready_last->next = fiber;
    else
        scheduler->ready = fiber;
    scheduler->ready_last = fiber;
    scheduler->ready_count++;
}

static struct fiber *ready_pop(void)
{
    struct fiber *fiber = scheduler->ready;

    scheduler->ready = fiber->next;
    scheduler->ready_count--;
    return fiber;
}

/* ---- switching ---- */

/* Goes on with `to`; returns when somebody switches back. */
static void switch_to(struct fiber *to)
{
    struct fiber *self = scheduler->current;

    scheduler->previous = self;
    scheduler->current = to;
    to->state = RUNNING;
    self->context = weft__context_swap(to->context);
    weft__sanitizer_leave(&self->sanitizer, &to->sanitizer, self->state == ENDED);
    weft__switch(&self->saved, to->saved);
    weft__sanitizer_arrive(&self->sanitizer, &scheduler->previous->sanitizer);
}

/* Leaves the current fiber, which waits or is in the ready queue, for whoever is next. */
static void park(void)
{
    struct fiber *self = scheduler->current, *next = self->starter;

    if (next) {
        self->starter = NULL;
    } else if (scheduler->ready && scheduler->share) {
        scheduler->share--;
        next = ready_pop();
    } else {
        next = &scheduler->thread;
    }
    if (next != self)
        switch_to(next);
    else
        self->state = RUNNING;
}

/* ---- the ends of a fiber's life ---- */

static void run_body(void *arg)
{
    struct fiber *self = arg;
    weft_result result;

    weft__sanitizer_arrive(&self->sanitizer, &scheduler->previous->sanitizer);
    result = self->fn(self->arg);
    while (result.type == &weft_deferred_type)
        result = weft_await_at(result.value, self->place);
    self->result = result;
    self->state = ENDED;
    switch_to(self->starter ? self->starter : &scheduler->thread);
    __builtin_unreachable();
}

static weft_error *fiber_new(struct fiber **out, weft_fiber_fn *fn, void *arg, const char *name, const weft_place *place)
{
    weft_error *error;
    struct fiber *fiber;
    char *top;

    if ((error = weft__stack_take(&scheduler->stacks, &top)))
        return error;
    fiber = (struct fiber *)((uintptr_t)(top - sizeof *fiber) & ~(uintptr_t)63);
    *fiber = (struct fiber){.fn = fn, .arg = arg, .name = name, .place = place, .stack = top};
    fiber->saved = weft__switch_prepare(fiber, run_body, fiber);
    fiber->context = weft__context_ref(weft__thread.context);
    fiber->older = scheduler->newest;
    if (scheduler->newest)
        scheduler->newest->newer = fiber;
    scheduler->newest = fiber;
    scheduler->count++;
    weft__sanitizer_begin(&fiber->sanitizer, weft__stack_low(top), WEFT__STACK_SIZE);
    weft__thread.live.fibers++;
    *out = fiber;
    return NULL;
}

/* `fiber` has ended and been left: its stack goes back. Returns its result. */
static weft_result bury(struct fiber *fiber)
{
    weft_result result = fiber->result;

    if (fiber->newer)
        fiber->newer->older = fiber->older;
    else
        scheduler->newest = fiber->older;
    if (fiber->older)
        fiber->older->newer = fiber->newer;
    weft_context_unref(fiber->context);
    weft__sanitizer_end(&fiber->sanitizer);
    weft__stack_give(&scheduler->stacks, fiber->stack);
    scheduler->count--;
    weft__thread.live.fibers--;
    return result;
}

/* A failure came about in the fiber's own context, as whoever reports it is to know. */
static void fire_failure(weft_deferred *deferred, weft_result failure, weft_context *context)
{
    weft_context *previous = weft__context_swap(context);

    weft_deferred_callback(deferred, failure);
    weft_deferred_unref(deferred);
    weft_context_unref(weft__context_swap(previous));
}

static void bury_and_fire(struct fiber *fiber)
{
    weft_deferred *deferred = fiber->deferred;
    weft_context *context = weft__context_ref(fiber->context);
    weft_result result = bury(fiber);

    if (weft_failed(result)) {
        fire_failure(deferred, result, context);
        return;
    }
    weft_context_unref(context);
    weft_deferred_callback(deferred, result);
    weft_deferred_unref(deferred);
}

/* ---- the scheduler, as the reactor sees it ---- */

static bool any_ready(struct weft__runnables *runnables)
{
    return ((struct scheduler *)runnables)->ready != NULL;
}

static bool inside(struct weft__runnables *runnables)
{
    const struct scheduler *self = (struct scheduler *)runnables;

    return self->current != &self->thread;
}

static void drain(struct weft__runnables *runnables)
{
    struct scheduler *self = (struct scheduler *)runnables;

    self->share = self->ready_count + EXTRA_SWITCHES;
    while (self->ready && self->share) {
        self->share--;
        switch_to(ready_pop());
        if (self->previous->state == ENDED)
            bury_and_fire(self->previous);
    }
}

static size_t count(struct weft__runnables *runnables)
{
    return ((struct scheduler *)runnables)->count;
}

static void cancel_all(struct weft__runnables *runnables)
{
    struct scheduler *self = (struct scheduler *)runnables;

    /* Cancelling runs no fiber, but callbacks: they may start one, which is then put before the newest. */
    for (struct fiber *fiber = self->newest; fiber; fiber = fiber->older)
        weft_deferred_cancel_with(fiber->deferred, weft_error_new(&WEFT_SHUTDOWN, "the reactor is being freed"));
}

/* Their stacks stay as they are: others may point into them. */
static void abandon(struct weft__runnables *runnables)
{
    struct scheduler *self = (struct scheduler *)runnables;

    for (struct fiber *fiber = self->newest; fiber; fiber = fiber->older) {
        weft_log_error("the fiber %s did not end when its reactor was freed: it waits at %s:%d %s", fiber->name,
                       fiber->place->file, fiber->place->line, fiber->place->function);
        fiber->state = ABANDONED;
    }
    scheduler = NULL;
}

static void scheduler_free(struct weft__runnables *runnables)
{
    struct scheduler *self = (struct scheduler *)runnables;

    weft__stacks_free(&self->stacks);
    weft_free(self);
    scheduler = NULL;
}

static void scheduler_new(weft_reactor *reactor)
{
    scheduler = weft_alloc_zeroed(sizeof *scheduler);
    scheduler->runnables = (struct weft__runnables){any_ready, inside, drain, count, cancel_all, abandon, scheduler_free};
    scheduler->current = &scheduler->thread;
    weft__reactor_set_runnables(reactor, &scheduler->runnables);
}

/* ---- starting ---- */

weft_deferred *weft_spawn_at(weft_fiber_fn *fn, void *arg, const char *name, const weft_place *place)
{
    struct fiber *fiber;
    weft_error *error;

    if (!scheduler) {
        weft_reactor *reactor = weft_reactor_current();

        if (!reactor)
            return weft_deferred_with_at(
                weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "a fiber needs a reactor on its thread")), place);
        scheduler_new(reactor);
    }
    if ((error = fiber_new(&fiber, fn, arg, name, place)))
        return weft_deferred_with_at(weft_fail(error), place);
    fiber->starter = scheduler->current;
    switch_to(fiber);
    if (fiber->state == ENDED)
        return weft_deferred_with_at(bury(fiber), place);
    fiber->deferred = weft_deferred_new_at(NULL, NULL, place);
    weft__deferred_follow(fiber->deferred, &fiber->awaited);
    return weft_deferred_ref(fiber->deferred);
}

/* ---- waiting ---- */

static struct fiber *current_fiber(void)
{
    return scheduler && scheduler->current != &scheduler->thread ? scheduler->current : NULL;
}

static weft_result outside_a_fiber(const weft_place *place, const char *what)
{
    return weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "%s is called outside a fiber", what));
}

static weft_result wake(weft_result result, void *arg)
{
    struct fiber *fiber = arg;

    if (fiber->state == ABANDONED) {
        weft_result_drop(result);
        return weft_ok(NULL);
    }
    fiber->result = result;
    fiber->awaited = NULL;
    ready_push(fiber);
    return weft_ok(NULL);
}

/* A cancel that was asked between two waits; NULL when there was none. Before its first wait nobody could ask. */
static weft_error *latched_cancel(struct fiber *self)
{
    return self->deferred ? weft__deferred_take_cancellation(self->deferred) : NULL;
}

static void deliver_cancel(struct fiber *self, weft_deferred *deferred)
{
    weft_error *cancellation = latched_cancel(self);

    if (!cancellation)
        return;
    self->awaited = deferred; /* it goes there, or stays, if it is too late for this wait as well */
    weft_deferred_cancel_with(self->deferred, cancellation);
    self->awaited = NULL;
}

/* Why `deferred` cannot be waited for; NULL when it can. */
static const char *why_not(const struct fiber *self, const weft_deferred *deferred)
{
    if (deferred->flags & WEFT__CONSUMED)
        return "a deferred is awaited that somebody else waits for, or waited for";
    if (self->deferred && weft__deferred_waits_for(deferred, self->deferred))
        return "a deferred is awaited that waits for the fiber itself";
    return NULL;
}

static weft_result wait_for(struct fiber *self, weft_deferred *deferred, const weft_place *place)
{
    self->place = place;
    self->awaited = deferred;
    self->state = PARKED;
    weft__deferred_consume(deferred, wake, self);
    weft_deferred_unref(deferred); /* may wake us at once */
    park();
    return self->result;
}

weft_result weft_await_at(weft_deferred *deferred, const weft_place *place)
{
    struct fiber *self = current_fiber();
    weft_result result;
    const char *why;

    if (!self) {
        weft_deferred_unref(deferred);
        return outside_a_fiber(place, "weft_await");
    }
    if ((why = why_not(self, deferred))) {
        weft_deferred_unref(deferred);
        return weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "%s", why));
    }
    if (!weft__deferred_ready(deferred))
        deliver_cancel(self, deferred);
    if (weft__deferred_ready(deferred)) {
        result = weft_deferred_take_result(deferred);
        weft_deferred_unref(deferred);
    } else {
        result = wait_for(self, deferred, place);
    }
    return weft_failed(result) ? weft_result_passed(result, place) : result;
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

weft_result weft_yield_at(const weft_place *place)
{
    struct fiber *self = current_fiber();
    weft_error *cancellation;

    if (!self)
        return outside_a_fiber(place, "weft_yield");
    self->place = place;
    ready_push(self);
    park();
    cancellation = latched_cancel(self);
    return cancellation ? weft_fail(weft_error_passed(cancellation, place)) : weft_ok(NULL);
}

bool weft_in_fiber(void)
{
    return current_fiber() != NULL;
}

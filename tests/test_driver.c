/* Driven computations: what fibers can, without a stack, and without a reactor. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <string.h>

static void settle(void)
{
    while (weft_run_ready())
        ;
}

static void finish(weft_deferred *driven, const char *label)
{
    settle();
    cr_assert_eq(weft_deferred_get_state(driven), WEFT_DONE, "%s has not ended", label);
    conclude(driven, label);
}

/* Waits for each of a list of deferreds, which it takes, and traces what each has brought; its result is the last. */
struct list {
    weft_deferred *deferreds[8]; /* up to a NULL */
    size_t next;
};

static weft_result wait_for_each(weft_result sent, void *arg)
{
    struct list *list = arg;

    if (list->next)
        note(sent, (void *)"sent");
    if (!list->deferreds[list->next])
        return sent;
    weft_result_drop(sent);
    return weft_later(list->deferreds[list->next++]);
}

static weft_result return_at_once(weft_result sent, void *number)
{
    trace("%s", told(sent));
    return weft_int((intptr_t)number);
}

static weft_result fail_at_once(weft_result sent, void *unused)
{
    (void)unused;
    weft_result_drop(sent);
    return broken();
}

Test(driver, may_end_at_its_first_step)
{
    weft_deferred *d = weft_drive(return_at_once, (void *)7);

    cr_assert_eq(weft_deferred_get_state(d), WEFT_DONE);
    conclude(d, "d");
    conclude(weft_drive(fail_at_once, NULL), "e");
    cr_assert_str_eq(trace_text(), "nil d=7 e=!broken");
    cr_assert_eq(weft_live_counts_get().fibers, 0);
}

Test(driver, sends_what_each_wait_has_brought_through_the_ready_queue)
{
    weft_deferred *a = pending(), *b = pending();
    struct list list = {.deferreds = {weft_deferred_ref(a), done(weft_int(2)), weft_deferred_ref(b), done(broken())}};
    weft_deferred *d = weft_drive(wait_for_each, &list);

    cr_assert_eq(weft_live_counts_get().fibers, 1);
    weft_deferred_callback(a, weft_int(1));
    cr_assert_str_eq(trace_text(), "", "not inside the call that fires");
    cr_assert_eq(weft_run_ready(), 0);
    cr_assert_str_eq(trace_text(), "sent=1 sent=2");
    weft_deferred_callback(b, weft_int(3));
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "sent=3 sent=!broken d=!broken");
    weft_deferred_unref(a);
    weft_deferred_unref(b);
}

static weft_result wait_a_million_times(weft_result sent, void *waits)
{
    weft_result_drop(sent);
    return ++*(size_t *)waits < MANY ? weft_later(done(weft_ok(NULL))) : weft_int(1);
}

static void drive_a_million_times(void *unused)
{
    size_t waits = 0;

    (void)unused;
    conclude(weft_drive(wait_a_million_times, &waits), "d");
    cr_assert_eq(waits, MANY);
}

Test(driver, goes_on_in_a_loop_when_there_is_nothing_to_wait_for, .timeout = 30)
{
    with_small_stack(drive_a_million_times, NULL);
    cr_assert_str_eq(trace_text(), "d=1");
}

/* Each waits for the one that was started before it: a chain as long as that ends without recursing. */
static weft_result wait_for_the_one_before(weft_result sent, void *deferred)
{
    weft_deferred **before = deferred, *awaited = *before;

    if (!awaited)
        return sent;
    *before = NULL;
    return weft_later(awaited);
}

static void drive_a_chain(void *cancelled)
{
    enum { LENGTH = MANY / 10 };
    weft_deferred **befores = weft_alloc(LENGTH * sizeof(weft_deferred *)), *first = pending(), *last = weft_deferred_ref(first);

    for (size_t i = 0; i < LENGTH; i++) {
        befores[i] = last;
        last = weft_drive(wait_for_the_one_before, &befores[i]);
    }
    if (cancelled)
        weft_deferred_cancel(last);
    else
        weft_deferred_callback(first, weft_int(5));
    finish(last, "last");
    weft_deferred_unref(first);
    weft_free(befores);
}

Test(driver, may_wait_for_another_that_waits_for_another_and_so_on, .timeout = 60)
{
    with_small_stack(drive_a_chain, NULL);
    with_small_stack(drive_a_chain, (void *)"cancelled");
    cr_assert_str_eq(trace_text(), "last=5 last=!cancelled");
}

Test(driver, runs_on_when_nobody_wants_its_result)
{
    weft_deferred *a = pending();
    struct list list = {.deferreds = {weft_deferred_ref(a)}};

    weft_deferred_unref(weft_drive(wait_for_each, &list));
    weft_deferred_callback(a, weft_int(1));
    settle();
    cr_assert_str_eq(trace_text(), "sent=1");
    weft_deferred_unref(a);
}

/* ---- cancelling ---- */

Test(driver, sends_a_cancel_down_to_what_it_waits_for)
{
    struct list list = {.deferreds = {stoppable(cancel_done, "stopped"), done(weft_int(1))}};
    weft_deferred *held = weft_deferred_ref(list.deferreds[0]), *d = weft_drive(wait_for_each, &list);

    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "stopped");
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "sent=!cancelled sent=1 d=1");
    weft_deferred_unref(held);
}

Test(driver, keeps_a_cancel_that_comes_when_it_is_ready_for_the_next_wait)
{
    weft_deferred *a = stoppable(cancel_done, "never"), *b = stoppable(cancel_done, "stopped");
    struct list list = {.deferreds = {weft_deferred_ref(a), done(weft_int(2)), weft_deferred_ref(b)}};
    weft_deferred *d = weft_drive(wait_for_each, &list);

    weft_deferred_callback(a, weft_int(1));
    weft_deferred_cancel(d);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "sent=1 sent=2 stopped sent=!cancelled d=!cancelled");
    weft_deferred_unref(a);
    weft_deferred_unref(b);
}

static weft_deferred *driven_itself;

static weft_result cancel_itself(weft_result sent, void *arg)
{
    struct list *list = arg;

    if (list->next == 1)
        weft_deferred_cancel(driven_itself);
    return wait_for_each(sent, arg);
}

Test(driver, may_cancel_itself)
{
    weft_deferred *a = pending(), *b = stoppable(cancel_done, "stopped");
    struct list list = {.deferreds = {weft_deferred_ref(a), weft_deferred_ref(b), done(weft_int(3))}};

    driven_itself = weft_drive(cancel_itself, &list);
    weft_deferred_callback(a, weft_int(1));
    finish(driven_itself, "d");
    cr_assert_str_eq(trace_text(), "sent=1 stopped sent=!cancelled sent=3 d=3");
    weft_deferred_unref(a);
    weft_deferred_unref(b);
}

Test(driver, that_has_ended_is_not_cancelled)
{
    weft_deferred *d = weft_drive(return_at_once, (void *)7);

    weft_deferred_cancel(d);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "nil d=7");
}

/* ---- contexts and scopes ---- */

static weft_result tell_context(weft_result sent, void *arg)
{
    struct list *list = arg;

    trace("@%s", weft_context_get_name(weft_context_current()));
    if (!list->next)
        weft_context_unref(weft_context_set(weft_context_new("own")));
    return wait_for_each(sent, arg);
}

Test(driver, has_its_own_context_in_each_step_and_its_caller_keeps_his)
{
    weft_deferred *a = pending(), *d;
    struct list list = {.deferreds = {weft_deferred_ref(a)}};
    weft_context *previous = enter("caller");

    d = weft_drive(tell_context, &list);
    trace("caller@%s", weft_context_get_name(weft_context_current()));
    leave(previous);
    weft_deferred_callback(a, weft_int(1));
    settle();
    trace("loop@%s", weft_context_get_name(weft_context_current()));
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "@caller caller@caller @own sent=1 loop@- d=1");
    weft_deferred_unref(a);
}

static weft_scope *scope;

static weft_result enter_and_leave(weft_result sent, void *arg)
{
    struct list *list = arg;

    if (!list->next)
        scope = weft_scope_enter((weft_scope_options){.timeout = 2});
    cr_assert_eq(weft_scope_current(), scope);
    sent = wait_for_each(sent, arg);
    return sent.type == &weft_deferred_type ? sent : weft_scope_leave(&scope, sent);
}

Test(driver, may_enter_a_scope_in_one_step_and_leave_it_in_another)
{
    weft_test_clock *time = weft_test_clock_new();
    weft_deferred *a = stoppable(cancel_done, "stopped"), *d;
    struct list list = {.deferreds = {weft_deferred_ref(a)}};

    weft_clock_set(weft_test_clock_get_clock(time));
    d = weft_drive(enter_and_leave, &list);
    cr_assert_null(weft_scope_current());
    weft_test_clock_advance(time, 2);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "stopped sent=!deadline d=!timed_out");
    weft_deferred_unref(a);
    weft_clock_set(NULL);
    weft_test_clock_free(time);
}

/* ---- with fibers ---- */

static weft_result drive_in_a_fiber(void *arg)
{
    weft_scope *around = weft_scope_enter((weft_scope_options){0});
    weft_deferred *d = weft_drive(wait_for_each, arg);

    cr_assert(weft_in_fiber());
    cr_assert_eq(weft_scope_current(), around);
    weft_scope_cancel(around, NULL);
    return weft_scope_leave(&around, weft_await(d));
}

static weft_result wait_in_a_step(weft_result sent, void *unused)
{
    (void)unused;
    weft_result_drop(sent);
    cr_assert_not(weft_in_fiber());
    trace("%s", told(weft_await(pending())));
    trace("%s", told(weft_sleep(1)));
    trace("%s", told(weft_yield()));
    return weft_ok(NULL);
}

static weft_result step_in_a_fiber(void *unused)
{
    return weft_await(weft_drive(wait_in_a_step, unused));
}

Test(driver, inside_a_fiber_is_in_its_scope_and_may_not_wait_as_it_does)
{
    weft_deferred *held = pending();
    struct list list = {.deferreds = {weft_deferred_ref(held)}};
    weft_reactor *reactor;

    cr_assert_null(weft_reactor_new(&reactor));
    trace("%s", told(weft_reactor_run_until(reactor, weft_spawn(drive_in_a_fiber, &list))));
    trace("%s", told(weft_reactor_run_until(reactor, weft_spawn(step_in_a_fiber, NULL))));
    cr_assert_str_eq(trace_text(), "sent=!cancelled nil !misuse !misuse !misuse nil");
    weft_reactor_free(reactor);
    weft_deferred_unref(held);
}

Test(driver, is_cancelled_by_the_end_of_the_reactor)
{
    weft_deferred *held = pending();
    struct list list = {.deferreds = {weft_deferred_ref(held)}};
    weft_reactor *reactor;
    weft_deferred *d;

    cr_assert_null(weft_reactor_new(&reactor));
    d = weft_drive(wait_for_each, &list);
    weft_reactor_free(reactor);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "sent=!shutdown d=!shutdown");
    weft_deferred_unref(held);
}

/* ---- misuse ---- */

Test(driver, that_waits_for_itself_or_for_what_another_waits_for_is_told)
{
    weft_deferred *a = pending(), *taken = pending(), *outer = waiting_for(taken);
    struct list list = {.deferreds = {weft_deferred_ref(a), NULL, weft_deferred_ref(taken), done(weft_int(1))}};
    weft_deferred *d = weft_drive(wait_for_each, &list);

    list.deferreds[1] = weft_deferred_ref(d);
    weft_deferred_callback(a, weft_ok(NULL));
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "sent=nil sent=!misuse sent=!misuse sent=1 d=1");
    weft_deferred_callback(taken, weft_ok(NULL));
    weft_deferred_unref(a);
    weft_deferred_unref(taken);
    weft_deferred_unref(outer);
}

static weft_result run_ready_in_a_step(weft_result sent, void *unused)
{
    (void)unused;
    weft_run_ready();
    return sent;
}

static weft_result run_ready_in_a_callback(weft_result result, void *unused)
{
    (void)unused;
    weft_run_ready();
    return result;
}

static weft_result run_ready_in_a_fiber(void *unused)
{
    weft_deferred *d = weft_deferred_add_both(pending(), run_ready_in_a_callback, NULL);

    (void)unused;
    weft_run_ready();
    weft_deferred_callback(d, weft_ok(NULL));
    weft_deferred_unref(d);
    return weft_yield();
}

Test(driver, refuses_to_run_what_is_ready_inside_what_it_runs)
{
    weft_deferred *a = weft_deferred_add_both(pending(), note, (void *)"a"), *e = pending(), *d;
    struct list list = {.deferreds = {weft_deferred_ref(e)}};
    weft_reactor *reactor;

    log_capture();
    cr_assert_null(weft_reactor_new(&reactor));
    conclude(weft_drive(run_ready_in_a_step, NULL), "d");
    cr_assert_eq(log_count("misuse: weft_run_ready"), 1);
    d = weft_deferred_add_both(weft_drive(wait_for_each, &list), run_ready_in_a_callback, NULL);
    weft_deferred_callback(e, weft_ok(NULL));
    finish(d, "e");
    cr_assert_eq(log_count("misuse: weft_run_ready"), 2);
    finish(weft_spawn(run_ready_in_a_fiber, NULL), "f");
    cr_assert_eq(log_count("misuse: weft_run_ready"), 4, "also in a callback on the stack of a fiber");
    weft_deferred_callback(a, weft_ok(NULL));
    weft_deferred_unref(a);
    weft_deferred_unref(e);
    weft_reactor_free(reactor);
    trace_text();
}

static weft_cancel_outcome run_ready_in_a_canceller(weft_deferred *d, void *unused)
{
    (void)d, (void)unused;
    weft_run_ready();
    return WEFT_CANCEL_DONE;
}

/* What is cancelled with a scope is written down first: nobody of those may end before his turn. */
Test(driver, refuses_it_in_a_canceller_and_a_callback_that_no_fiber_runs)
{
    weft_deferred *awaited = stoppable(run_ready_in_a_canceller, NULL);
    struct list list = {.deferreds = {weft_deferred_ref(awaited)}};
    weft_deferred *d = weft_drive(wait_for_each, &list);

    log_capture();
    weft_deferred_cancel(d);
    cr_assert_eq(log_count("misuse: weft_run_ready"), 1);
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    weft_deferred_add_both(awaited, run_ready_in_a_callback, NULL);
    cr_assert_eq(log_count("misuse: weft_run_ready"), 2);
    weft_deferred_unref(awaited);
    finish(d, "d");
    cr_assert_eq(log_count("misuse: weft_run_ready"), 2);
    trace_text();
}

static void run_ready_in_a_timer(weft_timer *timer, void *unused)
{
    (void)timer, (void)unused;
    weft_run_ready();
}

static weft_result yield_twice(void *unused)
{
    (void)unused;
    WEFT_TRY(weft_yield());
    return weft_yield();
}

Test(driver, refuses_it_in_all_that_a_reactor_runs)
{
    weft_deferred *d;
    weft_reactor *reactor;
    weft_timer timer;

    log_capture();
    cr_assert_null(weft_reactor_new(&reactor));
    weft_timer_init(&timer, run_ready_in_a_timer, NULL);
    weft_timer_start(&timer, weft_clock_current(), 0);
    d = weft_deferred_add_both(weft_spawn(yield_twice, NULL), run_ready_in_a_callback, NULL);
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, d)), "nil");
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, weft_defer_later(weft_clock_current(), 0.001, NULL, NULL))), "nil");
    cr_assert_eq(log_count("misuse: weft_run_ready"), 2);
    weft_reactor_free(reactor);
}

/* ---- as the loop of a program without a reactor ---- */

/* Two that wake each other for ever. */
struct player {
    weft_deferred *mine;
    struct player *other;
    size_t turns;
};
static bool game_over;

static weft_result play(weft_result sent, void *arg)
{
    struct player *self = arg;
    weft_deferred *other = self->other->mine;

    weft_result_drop(sent);
    self->turns++;
    self->other->mine = NULL;
    if (!game_over)
        self->mine = pending();
    if (other)
        weft_deferred_callback(other, weft_ok(NULL));
    weft_deferred_unref(other);
    return game_over ? weft_ok(NULL) : weft_later(weft_deferred_ref(self->mine));
}

Test(driver, is_run_a_bounded_number_of_steps_at_a_time)
{
    struct player players[2] = {{.other = &players[1]}, {.other = &players[0]}};
    weft_deferred *first = weft_drive(play, &players[0]), *second = weft_drive(play, &players[1]);
    size_t turns;

    cr_assert_eq(weft_run_ready(), 1, "it comes back although one is always ready");
    turns = players[0].turns + players[1].turns;
    cr_assert_gt(turns, 10);
    cr_assert_lt(turns, 1000);
    game_over = true;
    finish(first, "first");
    finish(second, "second");
}

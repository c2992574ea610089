/* What is left of those that did not end with their reactor: nobody runs them, and nothing that they were waiting for, which
 * may have gone since, is touched through them. Each test is in a thread of its own, as what is abandoned is lost. */
#include "lib/task.h"
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* Where an abandoned one is looked for by those who look for leaks: it is not to be freed. */
static weft_deferred *lost[6];

static void in_lost_thread(void *(*fn)(void *))
{
    pthread_t thread;

    log_capture();
    cr_assert_eq(pthread_create(&thread, NULL, fn, NULL), 0);
    pthread_join(thread, NULL);
}

static weft_result wait_once(weft_result sent, void *arg)
{
    weft_deferred **awaited = arg, *d = *awaited;

    *awaited = NULL;
    return d ? weft_later(d) : sent;
}

/* Waits for `*awaited`, takes the reference. */
static weft_deferred *abandon_one_that_waits_for(weft_deferred **awaited, int number)
{
    lost[number] = weft_drive(wait_once, awaited);
    weft__tasks_abandon();
    return lost[number];
}

static void *cancel_after_the_wait(void *unused)
{
    weft_deferred *work = pending(), *awaited = weft_deferred_ref(work);
    weft_deferred *d = abandon_one_that_waits_for(&awaited, 0);

    weft_deferred_callback(work, weft_int(1));
    weft_deferred_unref(work);
    weft_deferred_cancel(d);
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    return unused;
}

Test(abandoned, can_be_cancelled_when_what_it_waited_for_has_gone)
{
    in_lost_thread(cancel_after_the_wait);
}

static void *cancel_before(void *unused)
{
    weft_deferred *work = stoppable(cancel_done, "canceller"), *awaited = weft_deferred_ref(work);
    weft_deferred *d = abandon_one_that_waits_for(&awaited, 1);

    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "", "what that would stop belongs to a loop that has gone");
    weft_deferred_callback(work, weft_int(1));
    weft_deferred_unref(work);
    return unused;
}

Test(abandoned, passes_no_cancel_on)
{
    in_lost_thread(cancel_before);
}

static void *await_the_abandoned(void *unused)
{
    weft_deferred *work = pending(), *awaited = weft_deferred_ref(work);
    weft_deferred *d = abandon_one_that_waits_for(&awaited, 2), *waiter;
    char text[4096];

    weft_deferred_callback(work, weft_int(1));
    weft_deferred_unref(work);
    awaited = weft_deferred_ref(d);
    waiter = weft_drive(wait_once, &awaited);
    cr_assert_lt(weft_fiber_dump(text, sizeof text), sizeof text);
    cr_assert_not_null(strstr(text, "1 fiber\n"), "%s", text);
    weft_deferred_cancel(waiter);
    while (weft_run_ready())
        ;
    weft_deferred_unref(waiter);
    return unused;
}

Test(abandoned, can_be_waited_for_in_vain)
{
    in_lost_thread(await_the_abandoned);
}

struct scoped {
    weft_scope *scope; /* a reference, once it was entered */
    weft_deferred *awaited;
};

static weft_result wait_in_a_scope(weft_result sent, void *arg)
{
    struct scoped *scoped = arg;

    (void)sent;
    scoped->scope = weft_scope_ref(weft_scope_enter((weft_scope_options){.timeout = 5}));
    return weft_later(weft_deferred_ref(scoped->awaited));
}

static void *abandon_in_a_scope(void *unused)
{
    weft_test_clock *time = weft_test_clock_new();
    struct scoped scoped = {.awaited = pending()};

    weft_clock_set(weft_test_clock_get_clock(time));
    lost[4] = weft_drive(wait_in_a_scope, &scoped);
    weft__tasks_abandon();
    cr_assert_eq(weft_test_clock_count_timers(time), 0, "its clock may go");
    weft_clock_set(NULL);
    weft_test_clock_free(time);
    weft_scope_cancel(scoped.scope, NULL);
    weft_scope_unref(scoped.scope);
    weft_deferred_callback(scoped.awaited, weft_ok(NULL));
    weft_deferred_unref(scoped.awaited);
    return unused;
}

Test(abandoned, leaves_no_deadline_running)
{
    in_lost_thread(abandon_in_a_scope);
}

/* ---- stacks ---- */

#ifndef WEFT_TEST_SAN_thread /* which has mappings of its own for each fiber, and keeps them */

static weft_result end_at_once(void *unused)
{
    return weft_ok(unused);
}

static int mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    int c, lines = 0;

    cr_assert_not_null(maps);
    while ((c = getc(maps)) != EOF)
        lines += c == '\n';
    fclose(maps);
    return lines;
}

static void run_a_reactor(void)
{
    weft_reactor *reactor;

    cr_assert_null(weft_reactor_new(&reactor));
    weft_deferred_unref(weft_spawn(end_at_once, NULL));
    weft_reactor_free(reactor);
}

static void *free_many_reactors(void *unused)
{
    weft_deferred *work = pending(), *awaited = weft_deferred_ref(work);
    int before;

    run_a_reactor();
    abandon_one_that_waits_for(&awaited, 3);
    weft_deferred_unref(work);
    run_a_reactor();
    before = mappings();
    for (int i = 0; i < 20; i++)
        run_a_reactor();
    cr_assert_lt(mappings(), before + 10);
    return unused;
}

Test(abandoned, costs_later_reactors_nothing)
{
    in_lost_thread(free_many_reactors);
}
#endif

/* It was ready to run, and waits for no turn any more. */
static void *abandon_while_ready(void *unused)
{
    weft_deferred *work = pending(), *awaited = weft_deferred_ref(work);
    weft_context *previous = enter("ready"), *context = weft_context_ref(weft_context_current());
    int64_t waited;

    lost[5] = weft_drive(wait_once, &awaited);
    leave(previous);
    weft_deferred_callback(work, weft_int(1));
    weft_deferred_unref(work);
    weft__tasks_abandon();
    waited = weft_context_get_usage(context).ready_ns;
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(weft_context_get_usage(context).ready_ns, waited);
    weft_context_unref(context);
    return unused;
}

Test(abandoned, is_charged_no_wait_in_the_ready_queue)
{
    in_lost_thread(abandon_while_ready);
}

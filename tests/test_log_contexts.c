/* Log contexts as in Synapse's document on them, row by row: G1 and G4 to G25 of the source documents' features. What the
 * document's own examples log is in docs/log-contexts.md, which tests/integration/test_log_contexts_page.c runs; requests
 * over sockets are in tests/integration/test_log_contexts_served.c. */
#include "tests/support/fibers.h"
#include "tests/support/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The name of the current context. */
static const char *here(void)
{
    return weft_context_get_name(weft_context_current());
}

/* Fires `deferred` from a context that is nobody's business, lets go of it, and checks that the firer keeps that. */
static void fire(weft_deferred *deferred, weft_result result)
{
    weft_context *previous = enter("firer");

    weft_deferred_callback(deferred, result);
    cr_assert_str_eq(here(), "firer");
    weft_deferred_unref(deferred);
    leave(previous);
}

/* ---- the current context and the log ---- */

struct request {
    const char *id;
    weft_deferred *gates[3];
};

static weft_result log_steps(void *arg)
{
    struct request *request = arg;

    weft_with_context(context, weft_context_new(request->id)) {
        for (int i = 0; i < 3; i++) {
            weft_log_info("%s: step %d", request->id, i);
            WEFT_TRY(weft_await(weft_deferred_ref(request->gates[i])));
        }
        weft_log_info("%s: finished", request->id);
    }
    return weft_ok(NULL);
}

Test(log_contexts, g01_each_line_of_interleaved_requests_has_its_own_requests_name)
{
    struct request requests[] = {{.id = "GET-1"}, {.id = "GET-2"}};
    weft_deferred *ends[2];

    begin();
    log_capture();
    for (int i = 0; i < 6; i++)
        requests[i / 3].gates[i % 3] = pending();
    for (int i = 0; i < 2; i++)
        ends[i] = weft_spawn(log_steps, &requests[i]);
    weft_log_info("nobody's");
    for (int step = 0; step < 3; step++) {
        for (int i = 1; i >= 0; i--) { /* the second goes first */
            fire(requests[i].gates[step], weft_ok(NULL));
            settle();
        }
    }
    for (int i = 0; i < 2; i++)
        weft_result_drop(run_until(ends[i]));
    cr_assert_str_eq(log_text(),
                     "INFO GET-1 GET-1: step 0\nINFO GET-2 GET-2: step 0\nINFO - nobody's\n"
                     "INFO GET-2 GET-2: step 1\nINFO GET-1 GET-1: step 1\n"
                     "INFO GET-2 GET-2: step 2\nINFO GET-1 GET-1: step 2\n"
                     "INFO GET-2 GET-2: finished\nINFO GET-1 GET-1: finished\n");
    end();
}

Test(log_contexts, g04_setting_returns_the_one_before_so_that_it_can_be_put_back)
{
    weft_context *first = weft_context_set(weft_context_new("outer")), *second, *inner;

    cr_assert_null(first);
    second = weft_context_set(weft_context_new("inner"));
    cr_assert_str_eq(weft_context_get_name(second), "outer");
    trace("%s", here());
    inner = weft_context_set(second);
    cr_assert_str_eq(weft_context_get_name(inner), "inner");
    weft_context_unref(inner);
    trace("%s", here());
    weft_context_unref(weft_context_set(first));
    trace("%s", here());
    cr_assert_str_eq(trace_text(), "inner outer -");
}

static void note_fields(const weft_log_record *record, void *unused)
{
    const char *requester = weft_context_get_field(weft_context_current(), "requester");

    (void)unused;
    trace("%s|%s|%s", record->context, requester ? requester : "none", record->message);
}

static void handle_by_name(bool early)
{
    weft_with_context(c, weft_context_new("unnamed")) {
        weft_log_info("new");
        weft_context_set_field(c, "request", "GET-7");
        weft_context_set_field(c, "requester", "@ann");
        weft_log_info("named");
        if (early)
            return;
        break;
    }
    weft_log_info("left");
}

Test(log_contexts, g05_a_block_has_a_context_whose_fields_can_be_set_and_are_read_by_the_sink)
{
    weft_log_set_sink(note_fields, NULL);
    handle_by_name(false);
    cr_assert_str_eq(trace_text(), "unnamed|none|new GET-7|@ann|named -|none|left");
    handle_by_name(true);
    cr_assert_str_eq(trace_text(), "unnamed|none|new GET-7|@ann|named");
    cr_assert_null(weft_context_current(), "the block was left by a return");
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

static void log_in_thread(void *unused)
{
    (void)unused;
    cr_assert_null(weft_context_current());
    weft_with_context(job, weft_context_new("job-1"))
        weft_log_info("from the worker");
    weft_log_info("from the worker, in none");
}

static weft_result change_in_fiber(void *gate)
{
    weft_with_context(own, weft_context_new("own")) {
        WEFT_TRY(weft_await(gate));
        weft_log_info("from the fiber");
    }
    return weft_ok(NULL);
}

Test(log_contexts, g06_each_thread_has_its_own_and_on_a_thread_each_fiber)
{
    weft_deferred *gate = pending(), *fiber;
    weft_context *previous;

    begin();
    log_capture();
    previous = enter("main");
    fiber = weft_spawn(change_in_fiber, weft_deferred_ref(gate));
    weft_log_info("from the starter");
    in_thread(log_in_thread, NULL);
    weft_log_info("from the starter, again");
    leave(previous);
    fire(gate, weft_ok(NULL));
    weft_result_drop(run_until(fiber));
    cr_assert_str_eq(log_text(), "INFO main from the starter\nINFO job-1 from the worker\nINFO - from the worker, in none\n"
                                 "INFO main from the starter, again\nINFO own from the fiber\n");
    end();
}

/* ---- the rules, with deferreds ---- */

static weft_result call_and_wait(void *deferred)
{
    trace("before@%s", here());
    weft_result_drop(weft_await(deferred));
    trace("after@%s", here());
    return weft_ok(NULL);
}

static weft_deferred *do_it_at_once(void)
{
    return done(weft_int(1));
}

Test(log_contexts, g07_a_function_whose_deferred_is_complete_leaves_the_context_as_it_was)
{
    weft_context *previous;
    weft_deferred *d;

    begin();
    previous = enter("GET-1");
    d = do_it_at_once();
    trace("caller@%s", here());
    conclude(context_noted(d, "callback"), "d");
    weft_result_drop(run_until(weft_spawn(call_and_wait, do_it_at_once())));
    leave(previous);
    cr_assert_str_eq(trace_text(), "caller@GET-1 callback@GET-1 d=1 before@GET-1 after@GET-1");
    end();
}

static void look(weft_timer *timer, void *label)
{
    (void)timer;
    trace("%s@%s", (const char *)label, here());
}

/* Not cleared, as Synapse would: the alternative rules. The loop is in none all the same. */
Test(log_contexts, g08_a_function_whose_deferred_is_to_come_keeps_the_context_and_its_callbacks_have_theirs)
{
    weft_context *previous;
    weft_deferred *d, *fiber;
    weft_timer timer;

    begin();
    d = pending();
    previous = enter("GET-1");
    fiber = weft_spawn(call_and_wait, weft_deferred_ref(d));
    trace("caller@%s", here());
    leave(previous);
    previous = enter("GET-2");
    context_noted(fiber, "callback");
    leave(previous);
    weft_timer_init(&timer, look, (void *)"loop");
    weft_timer_start(&timer, weft_clock_current(), 0);
    settle();
    fire(d, weft_ok(NULL));
    weft_result_drop(run_until(fiber));
    cr_assert_str_eq(trace_text(), "before@GET-1 caller@GET-1 loop@- after@GET-1 callback@GET-2");
    end();
}

static weft_result handle_request(void *work)
{
    weft_with_context(request, weft_context_new("GET-1")) {
        weft_result_drop(weft_await(work));
        weft_log_info("finished");
    }
    weft_log_info("the block is left");
    return weft_ok(NULL);
}

Test(log_contexts, g09_a_request_that_waits_in_its_block_is_finished_in_it_in_both_cases)
{
    static const char *const expected = "INFO GET-1 finished\nINFO outer the block is left\n";
    weft_deferred *work, *request;

    begin();
    log_capture();
    weft_deferred_unref(spawn_in("outer", handle_request, done(weft_ok(NULL))));
    cr_assert_str_eq(log_text(), expected, "complete");
    log_forget();

    work = pending();
    request = spawn_in("outer", handle_request, weft_deferred_ref(work));
    cr_assert_str_eq(log_text(), "");
    fire(work, weft_ok(NULL));
    weft_result_drop(run_until(request));
    cr_assert_str_eq(log_text(), expected, "to come");
    end();
}

/* ---- forgetting to wait ---- */

/* Whether a function with this statement compiles without warnings. */
static bool compiles(const char *statement)
{
    char command[1024];

    snprintf(command, sizeof command,
             "printf '%%s\\n' '#include <weft/weft.h>' 'weft_result fn(void *arg); weft_deferred *get(void);' "
             "'void forgets(weft_description *d); void forgets(weft_description *d) { (void)d; %s; }' | "
             "gcc -Iinclude -Wall -Wextra -Werror -c -o /dev/null -x c - 2>/dev/null", /* checking syntax does not warn */
             statement);
    return system(command) == 0;
}

Test(log_contexts, g10_a_result_that_is_forgotten_does_not_compile_without_a_warning, .timeout = 60)
{
    cr_assert(compiles("weft_deferred_unref(weft_spawn(fn, NULL))"));
    cr_assert_not(compiles("weft_spawn(fn, NULL)"));
    cr_assert_not(compiles("weft_await(get())"));
    cr_assert_not(compiles("weft_sleep(1)"));
    cr_assert_not(compiles("weft_run_in_background(fn, NULL)"));
    cr_assert_not(compiles("weft_run_as_background_process(d, fn, NULL)"));
    cr_assert_not(compiles("weft_deferred_new(NULL, NULL)"));
    cr_assert_not(compiles("weft_context_set(NULL)"));
}

static weft_result fail_after(void *deferred)
{
    weft_result_drop(weft_await(deferred));
    return broken();
}

Test(log_contexts, g10_a_failure_that_nobody_waited_for_is_reported_with_its_context_and_places)
{
    weft_deferred *dropped, *kept, *gates[2] = {pending(), pending()};

    begin();
    log_capture();
    dropped = spawn_in("GET-1", fail_after, weft_deferred_ref(gates[0]));
    kept = spawn_in("GET-2", fail_after, weft_deferred_ref(gates[1]));
    weft_deferred_unref(dropped);
    for (int i = 0; i < 2; i++)
        fire(gates[i], weft_ok(NULL));
    run_all();
    cr_assert_eq(log_count("ERROR GET-1 unhandled error in the deferred made at tests/support/fibers.c"), 1,
                 "%s", log_text());
    cr_assert_eq(log_count("GET-2"), 0);
    end(); /* the reactor ends, and one is still held and forgotten */
    cr_assert_eq(log_count("ERROR GET-2 unhandled error in the deferred made at tests/support/fibers.c"), 1,
                 "%s", log_text());
    weft_deferred_unref(kept);
}

Test(log_contexts, g10_work_that_is_left_over_is_cancelled_at_the_end)
{
    weft_deferred *never = pending(), *fiber;

    begin();
    fiber = weft_spawn(wait_for, weft_deferred_ref(never));
    end();
    conclude(fiber, "fiber");
    weft_deferred_unref(never);
    cr_assert_str_eq(trace_text(), "wait=!shutdown fiber=!shutdown");
}

/* ---- deferreds of one's own ---- */

struct sleeper {
    weft_timer timer;
    weft_deferred *deferred;
};

static void wake(weft_timer *timer, void *arg)
{
    struct sleeper *sleeper = arg;

    (void)timer;
    trace("fires@%s", here());
    weft_deferred_callback(sleeper->deferred, weft_int(1));
    weft_deferred_unref(sleeper->deferred);
    weft_free(sleeper);
}

/* The document's: fired by the loop, in no context. */
static weft_deferred *get_sleep_deferred(double seconds)
{
    struct sleeper *sleeper = weft_alloc(sizeof *sleeper);

    sleeper->deferred = pending();
    weft_timer_init(&sleeper->timer, wake, sleeper);
    weft_timer_start(&sleeper->timer, weft_clock_current(), seconds);
    return weft_deferred_ref(sleeper->deferred);
}

static weft_result sleep_in_preserved_context(void *unused)
{
    weft_result result = weft_ok(NULL);

    (void)unused;
    weft_preserve_context(NULL) {
        trace("inside@%s", here());
        result = weft_await(get_sleep_deferred(0));
    }
    trace("after@%s=%s", here(), told(result));
    return weft_ok(NULL);
}

Test(log_contexts, g11_a_sleep_made_of_a_timer_and_a_wait_in_no_context_keeps_the_sleepers)
{
    begin();
    weft_result_drop(run_until(spawn_in("GET-1", sleep_in_preserved_context, NULL)));
    cr_assert_str_eq(trace_text(), "inside@- fires@- after@GET-1=1");
    end();
}

static weft_result sleep_yieldably(void *unused)
{
    (void)unused;
    trace("after@%s=%s", here(), told(weft_await(weft_make_deferred_yieldable(get_sleep_deferred(0)))));
    trace("after@%s", here());
    return weft_ok(NULL);
}

Test(log_contexts, g12_a_sleep_made_yieldable_keeps_the_sleepers_context)
{
    begin();
    weft_result_drop(run_until(spawn_in("GET-1", sleep_yieldably, NULL)));
    cr_assert_str_eq(trace_text(), "fires@- after@GET-1=1 after@GET-1");
    end();
}

/* ---- fire and forget ---- */

struct operation {
    weft_deferred *steps[2];
    weft_deferred *(*start)(struct operation *operation);
};

static weft_result background_operation(void *arg)
{
    struct operation *operation = arg;

    for (int i = 0; i < 2; i++) {
        WEFT_TRY(weft_await(weft_deferred_ref(operation->steps[i])));
        weft_log_info("step %d", i);
    }
    return weft_ok(NULL);
}

/* Started and not waited for. */
static weft_result do_request_handling(void *arg)
{
    struct operation *operation = arg;

    weft_deferred_unref(operation->start(operation));
    weft_log_info("complete");
    return weft_ok(NULL);
}

/* What is logged by a request that starts an operation so; and while the operation goes on the loop is in none. */
static const char *logged_with(weft_deferred *(*start)(struct operation *operation))
{
    struct operation operation = {{pending(), pending()}, start};

    begin();
    log_capture();
    weft_result_drop(run_until(spawn_in("GET-1", do_request_handling, &operation)));
    for (int i = 0; i < 2; i++) {
        fire(operation.steps[i], weft_ok(NULL));
        settle();
        weft_log_info("between");
    }
    end();
    return log_text();
}

static weft_deferred *spawn_plainly(struct operation *operation)
{
    return weft_spawn(background_operation, operation);
}

Test(log_contexts, g13_who_starts_work_and_does_not_wait_keeps_the_context)
{
    cr_assert_str_eq(logged_with(spawn_plainly), "INFO GET-1 complete\nINFO GET-1 step 0\nINFO - between\n"
                                                 "INFO GET-1 step 1\nINFO - between\n");
}

/* ---- the loop is in none between callbacks ---- */

static void go_astray(const void *fn)
{
    trace("began@%s", here());
    weft_context_unref(weft_context_set(weft_context_new("astray")));
    (void)fn;
}

static void timer_astray(weft_timer *timer, void *unused)
{
    (void)timer, (void)unused;
    go_astray((const void *)timer_astray);
}

static void io_astray(weft_io *io, int events, void *unused)
{
    (void)events, (void)unused;
    weft_io_stop(io);
    go_astray((const void *)io_astray);
}

static void signal_astray(weft_signal *signal, int number, void *unused)
{
    (void)number, (void)unused;
    weft_signal_stop(signal);
    go_astray((const void *)signal_astray);
}

static void call_astray(void *unused)
{
    (void)unused;
    go_astray((const void *)call_astray);
}

static weft_result fiber_astray(void *unused)
{
    (void)unused;
    go_astray(NULL);
    return weft_ok(NULL);
}

static weft_result callback_astray(weft_result result, void *unused)
{
    (void)unused;
    go_astray(NULL);
    return result;
}

static void expect_logged(const void *fn)
{
    char text[128];

    snprintf(text, sizeof text, "ERROR astray the callback at %p left the context astray behind", fn);
    if (log_count(text) == 1)
        return;
    snprintf(text, sizeof text, "ERROR - the callback at %p left the context astray behind", fn);
    cr_assert_eq(log_count(text), 1, "%s", log_text());
}

Test(log_contexts, g14_the_loop_is_in_no_context_whatever_its_callbacks_leave_behind)
{
    weft_timer timer;
    weft_signal watcher;
    weft_io io;
    int ends[2];

    begin();
    log_capture();
    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(write(ends[1], "x", 1), 1);
    weft_io_init(&io, io_astray, NULL);
    weft_io_start(&io, ends[0], WEFT_READABLE);
    weft_signal_init(&watcher, signal_astray, NULL);
    weft_signal_start(&watcher, SIGUSR1);
    raise(SIGUSR1);
    weft_timer_init(&timer, timer_astray, NULL);
    weft_timer_start(&timer, weft_clock_current(), 0);
    weft_reactor_call_from_thread(weft_reactor_current(), call_astray, NULL);
    weft_deferred_unref(weft_spawn_soon(fiber_astray, NULL));
    for (int i = 0; i < 10 && weft_context_faults_get().left_behind < 4; i++)
        settle();
    cr_assert_null(weft_context_current());
    cr_assert_str_eq(trace_text(), "began@- began@- began@- began@- began@-");
    expect_logged((const void *)timer_astray);
    expect_logged((const void *)io_astray);
    expect_logged((const void *)signal_astray);
    expect_logged((const void *)call_astray);
    cr_assert_eq(weft_context_faults_get().left_behind, 4, "a fiber's is its own affair: it goes with it");
    close(ends[0]);
    close(ends[1]);
    end();
}

Test(log_contexts, g14_work_that_nobody_waits_for_leaves_nothing_in_the_loop)
{
    weft_deferred *gate = pending(), *astray = pending();
    weft_timer timer;

    begin();
    weft_deferred_unref(spawn_in("GET-1", wait_for, weft_deferred_ref(gate)));
    weft_deferred_add_both(astray, callback_astray, NULL);
    fire(gate, weft_int(1));
    fire(astray, weft_ok(NULL));
    weft_timer_init(&timer, look, (void *)"timer");
    weft_timer_start(&timer, weft_clock_current(), 0);
    settle();
    cr_assert_str_eq(trace_text(), "began@- wait=1 timer@-");
    end();
}

static weft_deferred *spawn_in_none(struct operation *operation)
{
    weft_deferred *work = NULL;

    weft_preserve_context(NULL)
        work = weft_spawn(background_operation, operation);
    return work;
}

Test(log_contexts, g15_work_that_is_started_in_a_preserved_context_is_nobodys_and_the_request_goes_on)
{
    cr_assert_str_eq(logged_with(spawn_in_none), "INFO GET-1 complete\nINFO - step 0\nINFO - between\nINFO - step 1\n"
                                                 "INFO - between\n");
}

static weft_deferred *run_it_in_background(struct operation *operation)
{
    return weft_run_in_background(background_operation, operation);
}

Test(log_contexts, g16_work_that_is_run_in_the_background_is_the_requests)
{
    cr_assert_str_eq(logged_with(run_it_in_background), "INFO GET-1 complete\nINFO GET-1 step 0\nINFO - between\n"
                                                        "INFO GET-1 step 1\nINFO - between\n");
}

WEFT_PRESERVE_FN(preserved_operation, background_operation)

static weft_deferred *call_preserved(struct operation *operation)
{
    return preserved_operation(operation);
}

Test(log_contexts, g17_a_preserved_function_is_the_same_when_it_is_called)
{
    cr_assert_str_eq(logged_with(call_preserved), "INFO GET-1 complete\nINFO GET-1 step 0\nINFO - between\n"
                                                  "INFO GET-1 step 1\nINFO - between\n");
}

/* ---- given to others ---- */

struct gathered {
    struct operation operations[2];
    weft_deferred *(*start)(struct operation *operation);
    bool waits_in_none;
};

static weft_result gather_operations(void *arg)
{
    struct gathered *gathered = arg;
    weft_deferred *started[2];
    weft_result all = weft_ok(NULL);

    for (int i = 0; i < 2; i++)
        started[i] = gathered->start(&gathered->operations[i]);
    weft_log_info("started");
    if (gathered->waits_in_none) {
        weft_preserve_context(NULL)
            all = weft_await(weft_gather_results(started, 2, 0));
    } else {
        all = weft_await(weft_gather_results(started, 2, 0));
    }
    weft_log_info("gathered %s", told(all));
    return weft_ok(NULL);
}

static const char *logged_by_gathering(weft_deferred *(*start)(struct operation *operation), bool waits_in_none)
{
    struct gathered gathered = {.start = start, .waits_in_none = waits_in_none};
    weft_deferred *request;

    begin();
    log_capture();
    for (int i = 0; i < 4; i++)
        gathered.operations[i / 2].steps[i % 2] = pending();
    request = spawn_in("GET-1", gather_operations, &gathered);
    for (int i = 0; i < 4; i++) {
        fire(gathered.operations[i / 2].steps[i % 2], weft_ok(NULL));
        settle();
    }
    weft_result_drop(run_until(request));
    weft_log_info("afterwards");
    end();
    return log_text();
}

Test(log_contexts, g18_operations_of_nobodys_are_gathered_by_a_request)
{
    cr_assert_str_eq(logged_by_gathering(spawn_in_none, false),
                     "INFO GET-1 started\nINFO - step 0\nINFO - step 1\nINFO - step 0\nINFO - step 1\n"
                     "INFO GET-1 gathered [nil nil]\nINFO - afterwards\n");
}

Test(log_contexts, g18_operations_in_the_background_of_a_request_are_gathered_by_it)
{
    cr_assert_str_eq(logged_by_gathering(call_preserved, true),
                     "INFO GET-1 started\nINFO GET-1 step 0\nINFO GET-1 step 1\nINFO GET-1 step 0\nINFO GET-1 step 1\n"
                     "INFO GET-1 gathered [nil nil]\nINFO - afterwards\n");
}

Test(log_contexts, g19_behind_a_gather_the_context_is_the_waiters_with_nothing_around_it)
{
    cr_assert_str_eq(logged_by_gathering(spawn_plainly, false),
                     "INFO GET-1 started\nINFO GET-1 step 0\nINFO GET-1 step 1\nINFO GET-1 step 0\nINFO GET-1 step 1\n"
                     "INFO GET-1 gathered [nil nil]\nINFO - afterwards\n");
}

/* ---- the alternative rules ---- */

Test(log_contexts, g20_callbacks_run_in_their_own_context_and_who_fires_or_cancels_keeps_his)
{
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        weft_deferred *d = stoppable(cancel_done, "canceller");
        weft_context *previous = enter("GET-1");

        context_noted(d, "callback");
        weft_deferred_add_both(d, note_last, (void *)"result");
        leave(previous);
        previous = enter("firer");
        if (cancelled)
            weft_deferred_cancel(d);
        else
            weft_deferred_callback(d, weft_int(1));
        trace("firer@%s", here());
        leave(previous);
        weft_deferred_unref(d);
    }
    cr_assert_str_eq(trace_text(), "callback@GET-1 result=1 firer@firer "
                                   "canceller callback@GET-1 result=!cancelled firer@firer");
}

static weft_deferred *keep_context(weft_deferred *deferred)
{
    weft_deferred *returned = NULL;

    weft_with_context(request, weft_context_new("GET-1")) {
        returned = context_noted(deferred, "callback");
        trace("inside@%s", here());
    }
    return returned;
}

static void leave_one_behind(void)
{
    weft_with_context(request, weft_context_new("GET-1"))
        weft_context_unref(weft_context_set(weft_context_new("astray")));
}

Test(log_contexts, g21_who_sets_a_context_has_put_the_old_one_back_before_the_loop_goes_on)
{
    weft_deferred *d = pending();
    weft_context *previous = enter("outer");

    log_capture();
    weft_deferred_unref(keep_context(weft_deferred_ref(d)));
    trace("outside@%s", here());
    leave_one_behind();
    trace("outside@%s", here());
    cr_assert_eq(log_count("ERROR astray the block at tests/test_log_contexts.c:"), 1, "%s", log_text());
    leave(previous);
    fire(d, weft_ok(NULL));
    cr_assert_str_eq(trace_text(), "inside@GET-1 outside@outer outside@outer callback@GET-1");
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

/* The document's do_some_stuff. */
static weft_deferred *do_some_stuff(weft_deferred *io)
{
    weft_deferred *pcd = weft_deferred_new_bound(weft_context_current(), NULL, NULL);

    weft_deferred_forward(io, pcd);
    return pcd;
}

Test(log_contexts, g22_a_deferred_bound_to_the_context_of_the_call_passes_on_a_value_or_a_failure_in_that)
{
    for (int fails = 0; fails < 2; fails++) {
        weft_deferred *io = pending(), *d;
        weft_context *previous = enter("GET-1");

        d = do_some_stuff(weft_deferred_ref(io));
        trace("caller@%s", here());
        leave(previous);
        previous = enter("elsewhere");
        context_noted(d, "callback");
        leave(previous);
        fire(io, fails ? broken() : weft_int(1));
        conclude(d, "result");
    }
    cr_assert_str_eq(trace_text(), "caller@GET-1 callback@GET-1 result=1 caller@GET-1 callback@GET-1 result=!broken");
}

static weft_result wait_twice(void *arg)
{
    weft_deferred **d = arg;

    WEFT_TRY(weft_await(do_some_stuff(d[0])));
    trace("between@%s", here());
    return weft_await(do_some_stuff(d[1]));
}

Test(log_contexts, g23_a_fiber_whose_last_wait_keeps_the_context_does_so_itself)
{
    weft_deferred *io[2] = {pending(), pending()}, *taken[2], *fiber;

    begin();
    for (int i = 0; i < 2; i++)
        taken[i] = weft_deferred_ref(io[i]);
    fiber = spawn_in("GET-1", wait_twice, taken);
    context_noted(fiber, "callback");
    for (int i = 0; i < 2; i++) {
        fire(io[i], weft_int(i));
        settle();
    }
    trace("result=%s", told(run_until(fiber)));
    cr_assert_str_eq(trace_text(), "between@GET-1 callback@- result=1");
    end();
}

static weft_result log_finished(weft_result result, void *unused)
{
    (void)unused;
    weft_log_info("finished");
    return result;
}

Test(log_contexts, g24_a_callback_is_the_requests_although_its_block_has_been_left)
{
    weft_deferred *d = pending();
    weft_context *request = weft_context_new("GET-1");

    log_capture();
    weft_preserve_context(request)
        weft_deferred_add_callback(d, log_finished, NULL);
    weft_context_unref(request);
    weft_log_info("left");
    fire(d, weft_ok(NULL));
    cr_assert_str_eq(log_text(), "INFO - left\nINFO GET-1 finished\n");
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

/* ---- orphans ---- */

static weft_result await_something_interesting(void *listener)
{
    weft_result result = weft_ok(NULL);

    weft_preserve_context(NULL)
        result = weft_await(listener);
    trace("clean-up@%s", here());
    return result;
}

Test(log_contexts, g25_a_chain_that_both_ends_drop_ends_in_its_own_context_and_is_reported)
{
    weft_deferred *listener = pending();
    weft_context *previous;

    begin();
    log_capture();
    weft_deferred_unref(spawn_in("GET-1", await_something_interesting, weft_deferred_ref(listener)));
    previous = enter("other");
    weft_deferred_unref(listener); /* the queue is reset */
    trace("other@%s", here());
    leave(previous);
    run_all();
    cr_assert_null(weft_context_current());
    cr_assert_str_eq(trace_text(), "other@other clean-up@GET-1");
    cr_assert_eq(log_count("ERROR GET-1 unhandled error in the deferred made at tests/support/fibers.c"), 1,
                 "%s", log_text());
    cr_assert_eq(log_count("orphaned: nobody is left who could fire this deferred (tests/support/values.c:"), 1,
                 "where the listener was made: %s", log_text());
    cr_assert_eq(weft_live_counts_get().contexts, 0);
    end();
}

Test(log_contexts, g25_a_chain_of_callbacks_that_both_ends_drop_touches_no_context)
{
    weft_deferred *listener = pending();
    weft_context *previous = enter("GET-1");
    weft_deferred *chain = waiting_for(listener);

    context_noted(chain, "callback");
    leave(previous);
    log_capture();
    previous = enter("other");
    weft_deferred_unref(chain);
    weft_deferred_unref(listener);
    trace("other@%s", here());
    leave(previous);
    cr_assert_str_eq(trace_text(), "callback@GET-1 other@other");
    cr_assert_eq(log_count("unhandled error"), 1, "%s", log_text());
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

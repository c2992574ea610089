/* Thread pools: lanes, queues, cancels, results that travel, contexts of jobs, and the end of a pool and of its reactor.
 * l20_... are rules of Synapse's log contexts, r73_... those of Twisted's threads. */
#include "tests/support/fibers.h"
#include "tests/support/test.h"
#include "tests/support/threads.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static weft_thread_pool *pool;

static void begin_with(const weft_thread_pool_options *options)
{
    begin();
    cr_assert_null(weft_thread_pool_new(&pool, options));
}

/* One thread for "one", two for "two", and a queue of two for either. */
static void begin_pool(void)
{
    begin_with(&(weft_thread_pool_options){.name = "main", .lanes = {{"one", 1, 2}, {"two", 2, 2}}});
}

static void end_pool(void)
{
    weft_result_drop(run_until(weft_thread_pool_close(pool)));
    end();
}

/* Until all jobs of the lane have ended; it delivers none, as the loop does not turn. */
static void await_ends(const char *lane)
{
    weft_lane_stats stats;

    do {
        sched_yield();
        stats = weft_thread_pool_get_stats(pool, lane);
    } while (stats.queued || stats.running);
}

/* ---- jobs ---- */

static weft_result give_int(void *number)
{
    return weft_int((intptr_t)number);
}

static weft_result give_thread(void *unused)
{
    (void)unused;
    return weft_ok((void *)pthread_self());
}

static weft_result pass_gate(void *gate)
{
    gate_pass(gate);
    return weft_int(1);
}

/* A job that stands at a gate in its lane. */
static weft_deferred *stand(const char *lane, struct gate *gate)
{
    weft_deferred *deferred = weft_defer_to_thread(pool, lane, pass_gate, gate);

    gate_await(gate);
    return deferred;
}

static void release_noted(void *label)
{
    trace("released-%s", (const char *)label);
}

static weft_result never_run(void *unused)
{
    (void)unused;
    abort();
}

/* ---- results ---- */

Test(thread_pool, r73_a_job_runs_on_another_thread_and_its_result_comes_to_the_loop_that_asked)
{
    weft_result result;

    begin_pool();
    result = run_until(weft_defer_to_thread(pool, "one", give_thread, NULL));
    cr_assert_null(weft_failed(result));
    cr_assert_neq((pthread_t)result.value, pthread_self());
    cr_assert_str_eq(told(run_until(weft_defer_to_thread(pool, "two", give_int, (void *)7))), "7");
    end_pool();
}

static weft_result await_job(void *lane)
{
    return weft_int((intptr_t)WEFT_TRY(weft_await(weft_defer_to_thread(pool, lane, give_int, (void *)5))) + 1);
}

Test(thread_pool, a_fiber_may_await_a_job)
{
    begin_pool();
    cr_assert_str_eq(told(run_until(weft_spawn(await_job, (char[]){"one"}))), "6");
    end_pool();
}

Test(thread_pool, r73_a_result_is_delivered_on_a_later_turn_and_not_inside_the_call)
{
    weft_deferred *deferred;

    begin_pool();
    deferred = noted(weft_defer_to_thread(pool, "one", give_int, (void *)1), "job");
    await_ends("one");
    cr_assert_eq(weft_deferred_get_state(deferred), WEFT_PENDING);
    weft_result_drop(run_until(deferred));
    cr_assert_str_eq(trace_text(), "job=1");
    end_pool();
}

static weft_result give_value(void *value)
{
    return value_of(value);
}

Test(thread_pool, a_value_made_on_a_thread_is_dropped_once_on_the_loop)
{
    struct value value = {.name = "v"};

    begin_pool();
    weft_deferred_unref(weft_defer_to_thread(pool, "one", give_value, &value)); /* nobody wants it */
    weft_result_drop(run_until(weft_defer_to_thread(pool, "one", give_int, NULL)));
    cr_assert_eq(value.drops, 1);
    end_pool();
}

/* What it fails with has a cause, which has a payload that is an error, and went through two hands. */
static weft_result fail_deeply(void *unused)
{
    weft_error *payload = weft_error_new(&BROKEN, "number %d", 3);
    weft_error *cause = weft_error_with_payload(weft_error_new(&BROKEN, "number 2"), weft_fail(payload));

    (void)unused;
    return weft_result_passed(weft_fail(weft_error_caused_by(weft_error_new(&BROKEN, "number %d", 1), cause)), WEFT_HERE);
}

Test(thread_pool, an_error_made_on_a_thread_is_the_loops_with_all_that_it_holds)
{
    weft_result result;

    begin_pool();
    result = run_until(weft_defer_to_thread(pool, "one", fail_deeply, NULL));
    cr_assert_str_eq(weft_error_get_message(weft_failed(result)), "number 1");
    cr_assert_str_eq(weft_error_get_message(weft_error_get_cause(weft_failed(result))), "number 2");
    cr_assert_eq(weft_live_counts_get().errors, 3, "%zu", weft_live_counts_get().errors);
    weft_result_drop(result);
    cr_assert_eq(weft_live_counts_get().errors, 0);
    end_pool();
}

/* A value of the program's own, of which weft does not know that there is an error in it. */
struct verdict {
    weft_error *error;
};

static void verdict_unref(void *value)
{
    struct verdict *verdict = value;

    weft_error_unref(verdict->error);
    free(verdict);
}

static const weft_type verdict_type = {"verdict", NULL, verdict_unref};

static weft_result give_verdict(void *unused)
{
    struct verdict *verdict = malloc(sizeof *verdict);

    (void)unused;
    verdict->error = weft_error_new(&BROKEN, "it broke");
    return weft_own(verdict, &verdict_type);
}

Test(thread_pool, an_error_anywhere_in_a_value_is_counted_where_it_went)
{
    weft_result result;

    begin_pool();
    result = run_until(weft_defer_to_thread(pool, "one", give_verdict, NULL));
    cr_assert_eq(weft_live_counts_get().errors, 1);
    weft_result_drop(result);
    end_pool();
}

static weft_result drop_error(void *error)
{
    weft_error_unref(error);
    return weft_ok(NULL);
}

Test(thread_pool, an_error_may_go_to_a_job_for_good)
{
    begin_pool();
    weft_result_drop(run_until(weft_defer_to_thread(pool, "one", drop_error, weft_error_new(&BROKEN, "it broke"))));
    cr_assert_eq(weft_live_counts_get().errors, 0);
    end_pool();
}

static weft_result give_deferred(void *unused)
{
    (void)unused;
    return weft_later(weft_succeed(weft_int(1)));
}

Test(thread_pool, a_job_that_returns_a_deferred_fails)
{
    begin_pool();
    cr_assert_str_eq(told(run_until(weft_defer_to_thread(pool, "one", give_deferred, NULL))), "!misuse");
    end_pool();
}

static weft_result leave_deferred(void *out)
{
    *(weft_deferred **)out = weft_deferred_new(NULL, NULL);
    return weft_ok(NULL);
}

static weft_result take_deferred(void *left)
{
    weft_deferred_unref(weft_deferred_add_both(*(weft_deferred **)left, note_last, (char[]){"orphan"}));
    return weft_ok(NULL);
}

Test(thread_pool, a_job_that_leaves_a_deferred_on_its_thread_is_named)
{
    weft_deferred *left;
    const char *lines;

    begin_pool();
    lines_capture();
    weft_result_drop(run_until(weft_defer_to_thread(pool, "one", leave_deferred, &left)));
    lines = lines_text();
    cr_assert_not_null(strstr(lines, "ERROR - misuse: the job leave_deferred, deferred at "), "%s", lines);
    cr_assert_not_null(strstr(lines, "has left 1 deferreds, 0 contexts and 0 scopes"), "%s", lines);
    cr_assert_eq(weft_live_counts_get().deferreds, 0, "it is its thread's still");
    weft_result_drop(run_until(weft_defer_to_thread(pool, "one", take_deferred, &left)));
    cr_assert_str_empty(lines_text());
    end_pool();
}

/* ---- lanes ---- */

static pthread_mutex_t order_lock = PTHREAD_MUTEX_INITIALIZER;
static char order[64];

static weft_result note_order(void *letter)
{
    pthread_mutex_lock(&order_lock);
    strcat(order, letter);
    pthread_mutex_unlock(&order_lock);
    return weft_ok(NULL);
}

Test(thread_pool, jobs_of_a_lane_begin_in_the_order_in_which_they_were_deferred)
{
    struct gate gate;
    weft_deferred *first, *b, *c;

    begin_pool();
    gate_init(&gate);
    first = stand("one", &gate);
    b = weft_defer_to_thread(pool, "one", note_order, (char[]){"b"});
    c = weft_defer_to_thread(pool, "one", note_order, (char[]){"c"});
    gate_open(&gate);
    weft_result_drop(run_until(c));
    cr_assert_str_eq(order, "bc");
    weft_deferred_unref(b);
    weft_deferred_unref(first);
    gate_deinit(&gate);
    end_pool();
}

Test(thread_pool, threads_are_started_when_there_is_work_up_to_the_lanes_number_and_kept)
{
    struct gate gate;
    weft_deferred *jobs[3];

    begin_pool();
    gate_init(&gate);
    cr_assert_eq(weft_thread_pool_get_stats(pool, "two").threads, 0);
    weft_result_drop(run_until(weft_defer_to_thread(pool, "two", give_int, NULL)));
    weft_result_drop(run_until(weft_defer_to_thread(pool, "two", give_int, NULL)));
    cr_assert_eq(weft_thread_pool_get_stats(pool, "two").threads, 1, "one was free for the second");
    jobs[0] = stand("two", &gate);
    jobs[1] = stand("two", &gate);
    jobs[2] = weft_defer_to_thread(pool, "two", give_int, (void *)3);
    cr_assert_eq(weft_thread_pool_get_stats(pool, "two").threads, 2);
    cr_assert_eq(weft_thread_pool_get_stats(pool, "two").running, 2);
    cr_assert_eq(weft_thread_pool_get_stats(pool, "two").queued, 1);
    gate_open(&gate);
    cr_assert_str_eq(told(run_until(jobs[2])), "3", "one of the two threads is free");
    gate_open(&gate);
    weft_result_drop(run_until(jobs[0]));
    weft_result_drop(run_until(jobs[1]));
    cr_assert_eq(weft_thread_pool_get_stats(pool, "two").threads, 2, "they are kept");
    cr_assert_eq(weft_thread_pool_get_stats(pool, "one").threads, 0);
    gate_deinit(&gate);
    end_pool();
}

Test(thread_pool, a_lane_that_is_stuck_holds_up_no_other)
{
    struct gate gate;
    weft_deferred *stuck, *behind;

    begin_pool();
    gate_init(&gate);
    stuck = stand("one", &gate);
    behind = weft_defer_to_thread(pool, "one", give_int, (void *)2);
    cr_assert_str_eq(told(run_until(weft_defer_to_thread(pool, "two", give_int, (void *)3))), "3");
    cr_assert_eq(weft_deferred_get_state(behind), WEFT_PENDING);
    gate_open(&gate);
    cr_assert_str_eq(told(run_until(behind)), "2");
    weft_deferred_unref(stuck);
    gate_deinit(&gate);
    end_pool();
}

Test(thread_pool, a_full_queue_fails_at_once_naming_lane_and_limit)
{
    weft_deferred *running, *waiting[2], *refused;
    struct gate gate;
    weft_result result;

    begin_pool();
    gate_init(&gate);
    running = stand("one", &gate);
    waiting[0] = weft_defer_to_thread(pool, "one", give_int, (void *)2);
    waiting[1] = weft_defer_to_thread(pool, "one", give_int, (void *)3);
    refused = weft_defer_to_thread_with(pool, "one", never_run, (char[]){"arg"},
                                        (weft_job_options){.release = release_noted});
    cr_assert_str_eq(trace_text(), "released-arg");
    cr_assert_eq(weft_deferred_get_state(refused), WEFT_DONE);
    result = weft_deferred_take_result(refused);
    cr_assert(weft_error_is(weft_failed(result), &WEFT_BUSY));
    cr_assert_str_eq(weft_error_get_message(weft_failed(result)),
                     "lane one of pool main is full: 1 jobs run and 2 wait, of 2 that may");
    weft_result_drop(result);
    weft_deferred_unref(refused);
    gate_open(&gate);
    cr_assert_str_eq(told(run_until(waiting[0])), "2");
    cr_assert_str_eq(told(run_until(waiting[1])), "3");
    cr_assert_str_eq(told(run_until(weft_defer_to_thread(pool, "one", give_int, (void *)4))), "4", "there is room again");
    weft_deferred_unref(running);
    gate_deinit(&gate);
    end_pool();
}

Test(thread_pool, a_queue_without_limit_is_never_full)
{
    begin_with(&(weft_thread_pool_options){.lanes = {{"one", 1, SIZE_MAX}, {"two", SIZE_MAX, SIZE_MAX}}});
    cr_assert_str_eq(told(run_until(weft_defer_to_thread(pool, "one", give_int, (void *)2))), "2");
    cr_assert_str_eq(told(run_until(weft_defer_to_thread(pool, "two", give_int, (void *)3))), "3");
    end_pool();
}

Test(thread_pool, a_lane_that_there_is_not_is_a_misuse)
{
    begin_pool();
    cr_assert_str_eq(told(run_until(weft_defer_to_thread_with(pool, "three", never_run, (char[]){"arg"},
                                                               (weft_job_options){.release = release_noted}))), "!misuse");
    cr_assert_str_eq(trace_text(), "released-arg");
    cr_assert_eq(weft_thread_pool_get_stats(pool, "three").threads, 0);
    end_pool();
}

static void assert_misuse(weft_error *error)
{
    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    weft_error_unref(error);
}

Test(thread_pool, a_pool_needs_a_reactor_and_lanes_of_different_names)
{
    assert_misuse(weft_thread_pool_new(&pool, &(weft_thread_pool_options){.lanes = {{.name = "one"}}}));
    begin();
    assert_misuse(weft_thread_pool_new(&pool, &(weft_thread_pool_options){.name = "main"}));
    assert_misuse(weft_thread_pool_new(
        &pool, &(weft_thread_pool_options){.lanes = {{.name = "one"}, {.name = "two"}, {.name = "one"}}}));
    cr_assert_null(weft_thread_pool_free(NULL));
    end();
}

static weft_result give_blocked_signals(void *unused)
{
    sigset_t blocked;

    (void)unused;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    return weft_int(sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGCHLD));
}

Test(thread_pool, signals_go_to_other_threads)
{
    sigset_t blocked;

    begin_pool();
    cr_assert_str_eq(told(run_until(weft_defer_to_thread(pool, "one", give_blocked_signals, NULL))), "1");
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    cr_assert_not(sigismember(&blocked, SIGTERM), "the loop's own are as they were");
    end_pool();
}

#ifndef WEFT_TEST_SANITIZED
Test(thread_pool, a_thread_that_cannot_be_started_is_an_error)
{
    struct rlimit limit;

    begin_pool();
    getrlimit(RLIMIT_AS, &limit);
    setrlimit(RLIMIT_AS, &(struct rlimit){1024 * 1024, limit.rlim_max}); /* less than there is already */
    weft_deferred *deferred = weft_defer_to_thread_with(pool, "one", never_run, (char[]){"arg"},
                                                        (weft_job_options){.release = release_noted});
    setrlimit(RLIMIT_AS, &limit);
    cr_assert_str_eq(told(run_until(deferred)), "!os_error");
    cr_assert_str_eq(trace_text(), "released-arg");
    cr_assert_str_eq(told(run_until(weft_defer_to_thread(pool, "one", give_int, (void *)1))), "1");
    end_pool();
}
#endif

/* ---- cancelling ---- */

Test(thread_pool, r73_a_job_in_the_queue_that_is_cancelled_never_runs_and_fails_at_once)
{
    weft_deferred *running, *cancelled, *behind;
    struct gate gate;

    begin_pool();
    gate_init(&gate);
    running = stand("one", &gate);
    cancelled = noted(weft_defer_to_thread_with(pool, "one", never_run, (char[]){"arg"},
                                                (weft_job_options){.release = release_noted}), "job");
    behind = weft_defer_to_thread(pool, "one", give_int, (void *)2);
    weft_deferred_cancel(cancelled);
    cr_assert_str_eq(trace_text(), "released-arg job=!cancelled");
    cr_assert_eq(weft_thread_pool_get_stats(pool, "one").queued, 1);
    weft_deferred_unref(cancelled);
    gate_open(&gate);
    cr_assert_str_eq(told(run_until(behind)), "2");
    weft_deferred_unref(running);
    gate_deinit(&gate);
    end_pool();
}

struct stopping_job {
    struct gate gate;
    struct value value;
    bool cancelled_before, cancelled_after;
};

static weft_result look_whether_cancelled(void *arg)
{
    struct stopping_job *job = arg;

    job->cancelled_before = weft_job_cancelled();
    gate_pass(&job->gate);
    job->cancelled_after = weft_job_cancelled();
    return value_of(&job->value);
}

static weft_deferred *start_stopping(struct stopping_job *job, weft_job_options options)
{
    weft_deferred *deferred;

    gate_init(&job->gate);
    deferred = noted(weft_defer_to_thread_with(pool, "one", look_whether_cancelled, job, options), "job");
    gate_await(&job->gate);
    return deferred;
}

/* Drops what the first job of the lane has brought: the second was delivered after it. */
static void wait_for_lane(const char *lane)
{
    weft_result_drop(run_until(weft_defer_to_thread(pool, lane, give_int, NULL)));
}

Test(thread_pool, a_running_job_that_is_waited_for_fails_as_cancelled_when_it_has_ended)
{
    struct stopping_job job = {.value = {.name = "v"}};
    weft_deferred *deferred;

    begin_pool();
    deferred = start_stopping(&job, (weft_job_options){.on_cancel = WEFT_JOB_WAIT});
    weft_deferred_cancel(deferred);
    settle();
    cr_assert_str_eq(trace_text(), "");
    gate_open(&job.gate);
    wait_for_lane("one");
    cr_assert_str_eq(trace_text(), "job=!cancelled");
    cr_assert_eq(job.value.drops, 1, "its result is dropped");
    cr_assert(!job.cancelled_before && job.cancelled_after);
    cr_assert_not(weft_job_cancelled(), "here is no job");
    weft_deferred_unref(deferred);
    gate_deinit(&job.gate);
    end_pool();
}

static void release_job(void *arg)
{
    struct stopping_job *job = arg;

    trace("released:%d", job->cancelled_after);
    gate_deinit(&job->gate);
}

Test(thread_pool, r73_a_running_job_that_is_abandoned_fails_at_once_and_owns_its_argument_to_the_end)
{
    struct stopping_job job = {.value = {.name = "v"}};
    weft_deferred *deferred;

    begin_pool();
    deferred = start_stopping(&job, (weft_job_options){.on_cancel = WEFT_JOB_ABANDON, .release = release_job});
    cr_assert_eq(weft_thread_pool_get_stats(pool, "one").abandoned, 0);
    weft_deferred_cancel(deferred);
    cr_assert_str_eq(trace_text(), "job=!cancelled");
    weft_deferred_unref(deferred);
    settle();
    cr_assert_str_eq(trace_text(), "", "it runs on, and has its argument");
    cr_assert_eq(weft_thread_pool_get_stats(pool, "one").abandoned, 1);
    gate_open(&job.gate);
    wait_for_lane("one");
    cr_assert_str_eq(trace_text(), "released:1");
    cr_assert_eq(job.value.drops, 1, "its late result is dropped");
    cr_assert_eq(weft_thread_pool_get_stats(pool, "one").abandoned, 0);
    end_pool();
}

static void cancel_what_has_ended(weft_job_cancel on_cancel, const char *at_once, const char *later)
{
    struct value value = {.name = "v"};
    weft_deferred *deferred;

    begin_pool();
    deferred = noted(weft_defer_to_thread_with(pool, "one", give_value, &value, (weft_job_options){.on_cancel = on_cancel}),
                     "job");
    await_ends("one");
    weft_deferred_cancel(deferred);
    cr_assert_str_eq(trace_text(), at_once);
    wait_for_lane("one");
    cr_assert_str_eq(trace_text(), later);
    cr_assert_eq(value.drops, 1);
    weft_deferred_unref(deferred);
    end_pool();
}

Test(thread_pool, a_cancel_between_a_jobs_end_and_its_delivery_wins)
{
    cancel_what_has_ended(WEFT_JOB_WAIT, "", "job=!cancelled");
}

Test(thread_pool, a_cancel_between_an_abandonable_jobs_end_and_its_delivery_wins_at_once)
{
    cancel_what_has_ended(WEFT_JOB_ABANDON, "job=!cancelled", "");
}

static weft_deferred *cancelled_by_callback;

static weft_result cancel_other(weft_result result, void *unused)
{
    (void)unused;
    weft_deferred_cancel(cancelled_by_callback);
    return result;
}

Test(thread_pool, a_callback_may_cancel_a_job_that_is_delivered_with_its_own)
{
    struct value values[2] = {{.name = "v"}, {.name = "w"}};
    weft_deferred *first;

    begin_pool();
    first = weft_deferred_add_both(weft_defer_to_thread(pool, "one", give_value, &values[0]), cancel_other, NULL);
    cancelled_by_callback = noted(weft_defer_to_thread_with(pool, "one", give_value, &values[1],
                                                            (weft_job_options){.on_cancel = WEFT_JOB_ABANDON}), "second");
    await_ends("one");
    cr_assert_str_eq(told(run_until(first)), "v");
    cr_assert_str_eq(trace_text(), "second=!cancelled");
    weft_deferred_unref(cancelled_by_callback);
    cr_assert_eq(values[1].drops, 1);
    end_pool();
}

static weft_result await_stopping(void *arg)
{
    struct stopping_job *job = arg;
    weft_result result = weft_await(weft_defer_to_thread(pool, "one", look_whether_cancelled, job));

    trace("over:%d", job->cancelled_after);
    return result;
}

Test(thread_pool, a_fiber_that_is_cancelled_goes_on_when_the_job_that_uses_its_stack_has_ended)
{
    struct stopping_job job = {.value = {.name = "v"}};
    weft_deferred *fiber;

    begin_pool();
    gate_init(&job.gate);
    fiber = weft_spawn(await_stopping, &job);
    gate_await(&job.gate);
    weft_deferred_cancel(fiber);
    settle();
    cr_assert_str_eq(trace_text(), "");
    gate_open(&job.gate);
    cr_assert_str_eq(told(run_until(fiber)), "!cancelled");
    cr_assert_str_eq(trace_text(), "over:1");
    gate_deinit(&job.gate);
    end_pool();
}

Test(thread_pool, a_timeout_of_an_abandonable_job_comes_out_while_that_runs)
{
    struct stopping_job job = {.value = {.name = "v"}};
    weft_deferred *deferred;

    begin_pool();
    deferred = start_stopping(&job, (weft_job_options){.on_cancel = WEFT_JOB_ABANDON, .release = release_job});
    weft_deferred_add_timeout(deferred, weft_reactor_get_clock(weft_reactor_current()), 0.001);
    cr_assert_str_eq(told(run_until(deferred)), "!timed_out");
    cr_assert_str_eq(trace_text(), "job=!cancelled");
    gate_open(&job.gate);
    wait_for_lane("one");
    cr_assert_str_eq(trace_text(), "released:1");
    end_pool();
}

/* ---- contexts ---- */

static weft_result log_a_line(void *unused)
{
    (void)unused;
    weft_log_info("the job logs");
    return weft_ok(NULL);
}

Test(thread_pool, l20_a_job_logs_under_the_name_and_the_fields_of_its_callers_context)
{
    weft_deferred *deferred;
    weft_context *previous;
    const char *lines;

    begin_pool();
    lines_capture();
    previous = enter("GET-7");
    weft_context_set_field(weft_context_current(), "requester", "@alice");
    deferred = context_noted(weft_defer_to_thread(pool, "one", log_a_line, NULL), "result");
    cr_assert_str_eq(weft_context_get_name(weft_context_current()), "GET-7", "deferring keeps the caller's");
    leave(previous);
    weft_result_drop(run_until(deferred));
    cr_assert_str_eq(trace_text(), "result@GET-7");
    weft_result_drop(run_until(weft_defer_to_thread(pool, "one", log_a_line, NULL)));
    lines = lines_text();
    cr_assert_str_eq(lines, "INFO GET-7 the job logs requester=@alice\nINFO - the job logs\n", "%s", lines);
    end_pool();
}

Test(thread_pool, a_job_has_as_many_fields_as_its_caller)
{
    weft_context *previous;
    weft_deferred *deferred;
    char name[32];

    begin_pool();
    lines_capture();
    previous = enter("GET-8");
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "field%d", i);
        weft_context_set_field(weft_context_current(), name, "x");
    }
    weft_context_set_field(weft_context_current(), "requester", "@bob");
    deferred = weft_defer_to_thread(pool, "one", log_a_line, NULL);
    leave(previous);
    weft_result_drop(run_until(deferred));
    cr_assert_str_eq(lines_text(), "INFO GET-8 the job logs requester=@bob\n");
    end_pool();
}

static int64_t thread_cpu(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t cpu_of(weft_usage usage)
{
    return usage.user_ns + usage.system_ns;
}

/* Uses 20 ms, and says how much it was. */
static weft_result spin(void *used)
{
    int64_t began = thread_cpu();

    while (thread_cpu() - began < 20 * 1000 * 1000)
        ;
    *(int64_t *)used = thread_cpu() - began;
    return weft_ok(NULL);
}

/* The books read the clock right around the job. Valgrind translates what lies between. */
#ifdef WEFT_TEST_SAN_valgrind
static const int64_t AROUND = 100 * 1000 * 1000;
#else
static const int64_t AROUND = 5 * 1000 * 1000;
#endif

static void assert_charged(int64_t charged, int64_t used)
{
    cr_assert(charged >= used, "%ld charged, %ld used", (long)charged, (long)used);
    cr_assert(charged < used + AROUND, "%ld charged, %ld used", (long)charged, (long)used);
}

Test(thread_pool, l20_the_cpu_time_of_a_job_is_charged_to_its_callers_context)
{
    weft_context *context = weft_context_new("GET-9"), *other = weft_context_new("GET-10");
    weft_deferred *deferred;
    int64_t used = 0, before;

    begin_pool();
    before = cpu_of(weft_context_get_usage(context));
    cr_assert_eq(before, 0);
    weft_preserve_context(context) {
        deferred = weft_defer_to_thread(pool, "one", spin, &used);
    }
    before = cpu_of(weft_context_get_usage(context));
    weft_result_drop(run_until(deferred));
    assert_charged(cpu_of(weft_context_get_usage(context)) - before, used);
    cr_assert_eq(cpu_of(weft_context_get_usage(other)), 0);
    weft_context_unref(context);
    weft_context_unref(other);
    end_pool();
}

static weft_result charge_rows(void *rows)
{
    weft_context_charge(weft_context_current(), &(weft_usage){.db_rows = (intptr_t)rows});
    return weft_ok(NULL);
}

Test(thread_pool, l20_what_a_job_charges_to_its_context_arrives_and_counts_for_the_parents_too)
{
    weft_context *parent = weft_context_new("GET-11"), *child = weft_context_new_child(parent, "part");
    weft_deferred *deferred;

    begin_pool();
    weft_preserve_context(child) {
        deferred = weft_defer_to_thread(pool, "one", charge_rows, (void *)12);
    }
    weft_result_drop(run_until(deferred));
    cr_assert_eq(weft_context_get_usage(child).db_rows, 12);
    cr_assert_eq(weft_context_get_usage(parent).db_rows, 12);
    weft_context_unref(child);
    weft_context_unref(parent);
    end_pool();
}

static weft_result spin_at_gate(void *arg)
{
    struct stopping_job *job = arg;
    int64_t used;

    gate_pass(&job->gate);
    return spin(&used);
}

Test(thread_pool, l20_the_cpu_time_of_an_abandoned_job_still_lands_in_the_context)
{
    struct stopping_job job = {.value = {.name = "v"}};
    weft_context *context = weft_context_new("GET-12");
    weft_deferred *deferred;
    int64_t before;

    begin_pool();
    gate_init(&job.gate);
    weft_preserve_context(context) {
        deferred = weft_defer_to_thread_with(pool, "one", spin_at_gate, &job,
                                             (weft_job_options){.on_cancel = WEFT_JOB_ABANDON});
    }
    gate_await(&job.gate);
    weft_deferred_cancel(deferred);
    weft_deferred_unref(deferred);
    weft_context_end(context);
    before = cpu_of(weft_context_get_usage(context));
    gate_open(&job.gate);
    wait_for_lane("one");
    cr_assert_eq(cpu_of(weft_context_get_usage(context)), before, "it has ended");
    assert_charged(cpu_of(weft_context_get_usage_after_end(context)), 20 * 1000 * 1000);
    weft_context_unref(context);
    gate_deinit(&job.gate);
    end_pool();
}

Test(thread_pool, l20_a_job_deferred_in_no_context_runs_in_none_and_is_charged_to_none)
{
    int64_t used = 0, before;

    begin_pool();
    lines_capture();
    before = weft_accounts_get().merged_ns;
    weft_result_drop(run_until(weft_defer_to_thread(pool, "one", spin, &used)));
    assert_charged(weft_accounts_get().merged_ns - before, used);
    cr_assert_str_empty(lines_text());
    end_pool();
}

Test(thread_pool, jobs_of_two_contexts_on_one_thread_are_charged_each_its_own)
{
    weft_context *contexts[2] = {weft_context_new("GET-13"), weft_context_new("GET-14")};
    weft_deferred *deferreds[2];
    int64_t used[2] = {0};

    begin_pool();
    for (int i = 0; i < 2; i++) {
        weft_preserve_context(contexts[i]) {
            deferreds[i] = weft_defer_to_thread(pool, "one", spin, &used[i]);
        }
    }
    for (int i = 0; i < 2; i++)
        weft_result_drop(run_until(deferreds[i]));
    for (int i = 0; i < 2; i++) {
        assert_charged(cpu_of(weft_context_get_usage(contexts[i])), used[i]);
        weft_context_unref(contexts[i]);
    }
    end_pool();
}

static weft_result leave_context_behind(void *unused)
{
    (void)unused;
    weft_context_unref(weft_context_set(weft_context_new("stray")));
    return weft_ok(NULL);
}

Test(thread_pool, a_job_that_leaves_a_context_behind_is_logged_and_put_right)
{
    weft_context *previous;
    weft_deferred *deferred;
    const char *lines;

    begin_pool();
    lines_capture();
    previous = enter("GET-15");
    deferred = weft_defer_to_thread(pool, "one", leave_context_behind, NULL);
    leave(previous);
    weft_result_drop(run_until(deferred));
    weft_result_drop(run_until(weft_defer_to_thread(pool, "one", log_a_line, NULL)));
    lines = lines_text();
    cr_assert_not_null(strstr(lines, "left the context stray behind\n"), "%s", lines);
    cr_assert_not_null(strstr(lines, "INFO - the job logs\n"), "%s", lines);
    end_pool();
}

static void note_unhandled(const weft_unhandled *unhandled, void *unused)
{
    (void)unused;
    trace("%s@%s", weft_error_get_kind(unhandled->error)->name, weft_context_get_name(unhandled->context));
}

Test(thread_pool, an_error_of_a_job_that_nobody_takes_is_reported_in_its_callers_context)
{
    weft_context *previous;

    begin_pool();
    weft_deferred_set_unhandled_hook(note_unhandled, NULL);
    previous = enter("GET-18");
    weft_deferred_unref(weft_defer_to_thread(pool, "one", fail_deeply, NULL));
    leave(previous);
    wait_for_lane("one");
    cr_assert_str_eq(trace_text(), "broken@GET-18");
    end_pool();
}

static weft_result defer_from_job(void *unused)
{
    weft_deferred *deferred = weft_defer_to_thread(pool, "two", never_run, unused);
    weft_result result = weft_deferred_take_result(deferred);

    weft_deferred_unref(deferred);
    return result;
}

Test(thread_pool, a_job_that_defers_to_its_pool_itself_is_refused)
{
    begin_pool();
    cr_assert_str_eq(told(run_until(weft_defer_to_thread(pool, "one", defer_from_job, NULL))), "!misuse");
    end_pool();
}

/* ---- the end of a pool ---- */

Test(thread_pool, closing_cancels_the_queued_asks_the_running_and_ends_with_the_last_thread)
{
    struct stopping_job job = {.value = {.name = "v"}};
    weft_deferred *running, *queued, *closed;

    begin_pool();
    running = start_stopping(&job, (weft_job_options){0});
    queued = noted(weft_defer_to_thread_with(pool, "one", never_run, (char[]){"arg"},
                                             (weft_job_options){.release = release_noted}), "queued");
    closed = noted(weft_thread_pool_close(pool), "closed");
    cr_assert_str_eq(trace_text(), "released-arg queued=!shutdown");
    settle();
    cr_assert_str_eq(trace_text(), "", "one runs");
    cr_assert_str_eq(told(run_until(weft_defer_to_thread(pool, "one", never_run, NULL))), "!shutdown");
    gate_open(&job.gate);
    weft_result_drop(run_until(closed));
    cr_assert_str_eq(trace_text(), "job=!shutdown closed=nil");
    cr_assert(job.cancelled_after);
    weft_deferred_unref(running);
    weft_deferred_unref(queued);
    gate_deinit(&job.gate);
    end();
}

static weft_result free_pool(weft_result result, void *unused)
{
    (void)unused;
    pool = weft_thread_pool_free(pool);
    return result;
}

Test(thread_pool, a_callback_of_a_job_may_free_the_pool)
{
    begin_pool();
    cr_assert_str_eq(told(run_until(weft_deferred_add_both(weft_defer_to_thread(pool, "one", give_int, (void *)1), free_pool,
                                                           NULL))), "1");
    cr_assert_null(pool);
    end();
}

static weft_result cancel_queued(weft_result result, void *deferred)
{
    weft_deferred_cancel(deferred);
    return result;
}

Test(thread_pool, a_callback_at_the_end_of_a_pool_may_cancel_other_jobs_of_it)
{
    weft_deferred *running, *first, *second;
    struct gate gate;

    begin_pool();
    gate_init(&gate);
    running = stand("one", &gate);
    first = noted(weft_defer_to_thread(pool, "one", never_run, NULL), "first");
    second = noted(weft_defer_to_thread(pool, "one", never_run, NULL), "second");
    weft_deferred_add_both(first, cancel_queued, second);
    pool = weft_thread_pool_free(pool);
    cr_assert_str_eq(trace_text(), "first=!shutdown second=!cancelled");
    gate_open(&gate);
    weft_deferred_unref(first);
    weft_deferred_unref(second);
    weft_deferred_unref(running);
    end();
    gate_deinit(&gate);
}

static pthread_key_t leaving;
static weft_live_counts counts_at_end = {.errors = 99};

static void keep_counts(void *unused)
{
    (void)unused;
    counts_at_end = weft_live_counts_get();
}

static weft_result watch_thread(void *unused)
{
    pthread_setspecific(leaving, &leaving);
    weft_log_info("in a context");
    return fail_deeply(unused);
}

Test(thread_pool, a_thread_of_a_pool_ends_with_nothing_alive)
{
    static const weft_live_counts none;
    weft_deferred *deferred;
    weft_context *previous;

    begin_pool();
    lines_capture();
    pthread_key_create(&leaving, keep_counts);
    previous = enter("GET-16");
    deferred = weft_defer_to_thread(pool, "one", watch_thread, NULL);
    leave(previous);
    weft_result_drop(run_until(deferred));
    end_pool();
    cr_assert_eq(memcmp(&counts_at_end, &none, sizeof none), 0, "%zu errors, %zu contexts", counts_at_end.errors,
                 counts_at_end.contexts);
    pthread_key_delete(leaving);
}

/* ---- the end of the reactor ---- */

Test(thread_pool, the_end_of_the_reactor_frees_the_pools_that_are_left)
{
    weft_thread_pool *second;

    begin_pool();
    cr_assert_null(weft_thread_pool_new(&second, &(weft_thread_pool_options){.lanes = {{.name = "one"}}}));
    weft_deferred_unref(weft_defer_to_thread(pool, "one", give_int, NULL));
    weft_deferred_unref(weft_defer_to_thread(second, "one", give_int, NULL));
    end();
}


static weft_result sleep_then_clean_up(void *unused)
{
    (void)unused;
    weft_result_drop(weft_sleep(3600));
    return noted_await(weft_defer_to_thread(pool, "one", give_int, (void *)4), "cleaned");
}

Test(thread_pool, fibers_may_clean_up_in_jobs_when_the_reactor_ends)
{
    begin_pool();
    weft_deferred_unref(weft_spawn(sleep_then_clean_up, NULL));
    end();
    cr_assert_str_eq(trace_text(), "cleaned=4");
}

/* A thread that opens a gate when the log says that the reactor waits for it. */
static void *open_when_waited_for(void *gate)
{
    while (!strstr(lines_text(), "WARN - the end of the reactor waits for the job pass_gate of lane one of pool main"))
        sched_yield();
    gate_open(gate);
    return NULL;
}

Test(thread_pool, the_end_of_the_reactor_waits_for_a_job_that_is_stuck_and_says_so)
{
    weft_deferred *deferred;
    pthread_t opener;
    struct gate gate;

    begin_pool();
    gate_init(&gate);
    deferred = noted(stand("one", &gate), "job");
    lines_capture();
    opener = start_thread(open_when_waited_for, &gate);
    end();
    pthread_join(opener, NULL);
    cr_assert_str_eq(trace_text(), "job=!shutdown");
    weft_deferred_unref(deferred);
    gate_deinit(&gate);
}

struct forsaken_job {
    struct gate gate;
    struct gate over;
    struct value value;
    pthread_t released_by;
};

static weft_result pass_and_fail(void *arg)
{
    struct forsaken_job *job = arg;

    gate_pass(&job->gate);
    return weft_fail(weft_error_caused_by(weft_error_new(&BROKEN, "too late"), weft_error_new(&BROKEN, "by far")));
}

static void release_forsaken(void *arg)
{
    struct forsaken_job *job = arg;

    job->released_by = pthread_self();
    gate_open(&job->over);
}

Test(thread_pool, the_end_of_the_reactor_leaves_an_abandoned_job_to_itself)
{
    static struct forsaken_job job; /* as it outlives its pool */
    weft_context *previous;
    weft_deferred *deferred;
    const char *lines;

    begin_pool();
    lines_capture();
    gate_init(&job.gate);
    gate_init(&job.over);
    previous = enter("GET-17");
    deferred = weft_defer_to_thread_with(pool, "one", pass_and_fail, &job,
                                         (weft_job_options){.on_cancel = WEFT_JOB_ABANDON, .release = release_forsaken});
    leave(previous);
    gate_await(&job.gate);
    weft_deferred_cancel(deferred);
    weft_deferred_unref(deferred);
    end();
    lines = lines_text();
    cr_assert_not_null(strstr(lines, "WARN - the end of the reactor waits no longer for the abandoned job pass_and_fail of "
                                     "lane one of pool main, deferred at "), "%s", lines);
    gate_open(&job.gate);
    while (sem_wait(&job.over.open))
        ;
    cr_assert_neq(job.released_by, pthread_self());
}

/* ---- forks ---- */

/* ThreadSanitizer cannot know, in a child, what the threads of the parent had. */
#ifndef WEFT_TEST_SAN_thread

static int status_of(pid_t child)
{
    int status;

    cr_assert_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/* What a child finds of a pool whose one thread stands at a gate, with a job behind: exits with 0 if all is well. */
static int use_in_child(weft_deferred *running, weft_deferred *queued)
{
    weft_deferred *fresh = weft_defer_to_thread(pool, "one", never_run, NULL);

    if (strcmp(told(weft_reactor_run_until(weft_reactor_current(), fresh)), "!misuse"))
        return 1;
    if (strcmp(told(weft_reactor_run_until(weft_reactor_current(), running)), "!failure"))
        return 2;
    weft_deferred_cancel(queued);
    if (strcmp(told(weft_reactor_run_until(weft_reactor_current(), queued)), "!cancelled"))
        return 3;
    weft_result_drop(weft_reactor_run_until(weft_reactor_current(), weft_thread_pool_close(pool)));
    weft_reactor_free(weft_reactor_current());
    return weft_live_counts_get().errors || weft_live_counts_get().deferreds ? 4 : 0;
}

Test(thread_pool, a_child_made_by_fork_has_no_threads_and_hangs_on_nothing)
{
    weft_deferred *running, *queued;
    struct gate gate;
    pid_t child;

    begin_pool();
    gate_init(&gate);
    running = stand("one", &gate);
    queued = weft_defer_to_thread(pool, "one", give_int, (void *)2);
    child = fork();
    if (!child)
        _exit(use_in_child(running, queued));
    cr_assert_eq(status_of(child), 0);
    gate_open(&gate);
    cr_assert_str_eq(told(run_until(queued)), "2", "the parent's go on");
    cr_assert_str_eq(told(run_until(running)), "1");
    gate_deinit(&gate);
    end_pool();
}
#endif

/* ---- many ---- */

enum { JOBS = MANY / 100 };

static weft_result count_up(void *counter)
{
    __atomic_add_fetch((int *)counter, 1, __ATOMIC_RELAXED);
    return weft_fail(weft_error_new(&BROKEN, "number %d", 1));
}

struct many {
    int ran, values, cancelled, released;
};

static struct many many;

static weft_result count_outcome(weft_result result, void *unused)
{
    (void)unused;
    many.cancelled += weft_error_is(weft_failed(result), &WEFT_CANCELLED);
    many.values += weft_error_is(weft_failed(result), &BROKEN);
    weft_result_drop(result);
    return weft_ok(NULL);
}

static void count_release(void *unused)
{
    (void)unused;
    many.released++;
}

static weft_result defer_many(void *unused)
{
    static const char *const lanes[] = {"one", "two"};
    weft_deferred *recent[8] = {NULL};

    (void)unused;
    for (int i = 0; i < JOBS; i++) {
        weft_job_options options = {.on_cancel = i % 3 ? WEFT_JOB_WAIT : WEFT_JOB_ABANDON, .release = count_release};
        weft_deferred *deferred = weft_defer_to_thread_with(pool, lanes[i % 2], count_up, &many.ran, options);

        weft_deferred_add_both(deferred, count_outcome, NULL);
        if (recent[i % 8] && i % 5 == 0)
            weft_deferred_cancel(recent[i % 8]);
        weft_deferred_unref(recent[i % 8]);
        recent[i % 8] = deferred;
        if (i % 16 == 0)
            weft_result_drop(weft_yield());
    }
    for (int i = 0; i < 8; i++)
        weft_result_drop(weft_await(recent[i]));
    return weft_ok(NULL);
}

Test(thread_pool, each_of_many_jobs_ends_once_and_each_argument_is_released_once, .timeout = 60)
{
    begin_with(&(weft_thread_pool_options){.lanes = {{"one", 1, JOBS}, {"two", 3, JOBS}}});
    weft_result_drop(run_until(weft_spawn(defer_many, NULL)));
    end_pool();
    cr_assert_eq(many.values + many.cancelled, JOBS, "%d and %d", many.values, many.cancelled);
    cr_assert_eq(many.released, JOBS, "%d", many.released);
    cr_assert_geq(many.ran, many.values);
    cr_assert_leq(many.ran, JOBS);
}

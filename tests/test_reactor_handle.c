/* Handles: calls and blocking calls from threads that do not know what has become of the reactor.
 * r73_... are Twisted's rules of threads. */
#include "runtime/loop/handle.h"

#include "tests/support/fibers.h"
#include "tests/support/test.h"
#include "tests/support/threads.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static weft_reactor_handle *handle;

static void begin_handle(void)
{
    begin();
    handle = weft_reactor_handle_ref(weft_reactor_get_handle(weft_reactor_current()));
}

static void end_handle(void)
{
    end();
    handle = weft_reactor_handle_unref(handle);
}

/* ---- a thread that makes a blocking call ---- */

struct caller {
    weft_fiber_fn *fn;
    void *arg;
    pthread_t thread;
    char told[256];           /* what came */
    weft_live_counts left;    /* on the thread, after it was dropped */
    bool over;                /* atomic */
};

static void *call(void *arg)
{
    struct caller *caller = arg;
    weft_result result = weft_reactor_handle_blocking_call(handle, caller->fn, caller->arg);

    if (weft_failed(result))
        weft_error_print(weft_failed(result), caller->told, sizeof caller->told);
    else
        snprintf(caller->told, sizeof caller->told, "%d", (int)(intptr_t)result.value);
    weft_result_drop(result);
    caller->left = weft_live_counts_get();
    __atomic_store_n(&caller->over, true, __ATOMIC_RELEASE);
    return NULL;
}

static void start(struct caller *caller)
{
    caller->thread = start_thread(call, caller);
}

/* Started, and its call stands in the reactor's line. */
static void start_waiting(struct caller *caller)
{
    start(caller);
    await_calls(handle);
}

static weft_result turn_once(void *unused)
{
    (void)unused;
    return weft_sleep(0);
}

/* A turn that does not end by a stop. */
static void turn(void)
{
    weft_result_drop(run_until(weft_spawn(turn_once, NULL)));
}

static void turn_until_over(struct caller *caller)
{
    while (!__atomic_load_n(&caller->over, __ATOMIC_ACQUIRE))
        turn();
}

static const char *end_of(struct caller *caller)
{
    static const weft_live_counts none;

    pthread_join(caller->thread, NULL);
    cr_assert_eq(memcmp(&caller->left, &none, sizeof none), 0, "%zu errors are left on its thread", caller->left.errors);
    return caller->told;
}

static bool starts_with(const char *text, const char *part)
{
    return !strncmp(text, part, strlen(part));
}

#define assert_ends(caller, part)                                                                                   \
    do {                                                                                                            \
        const char *weft_told = end_of(caller);                                                                     \
        cr_assert(starts_with(weft_told, part), "%s", weft_told);                                                   \
    } while (0)

/* ---- bodies ---- */

static weft_result give_seven(void *unused)
{
    (void)unused;
    return weft_int(7);
}

static weft_result wait_long(void *label)
{
    weft_result result = weft_sleep(3600);

    trace("%s", (const char *)label);
    return result;
}

static weft_result fail_with_cause(void *unused)
{
    (void)unused;
    return weft_fail(weft_error_caused_by(weft_error_new(&BROKEN, "number %d", 1), weft_error_new(&BROKEN, "number 2")));
}

/* ---- handles ---- */

static void note_label(void *label)
{
    trace("%s", (const char *)label);
}

Test(reactor_handle, r73_a_call_is_made_while_the_reactor_is_there_and_refused_when_it_is_not)
{
    char a[] = "a", last[] = "last", late[] = "late"; /* a literal in an assertion would be gone by then */

    begin_handle();
    cr_assert(weft_reactor_handle_call(handle, note_label, a));
    cr_assert_str_eq(trace_text(), "");
    settle();
    cr_assert_str_eq(trace_text(), "a");
    cr_assert(weft_reactor_handle_call(handle, note_label, last));
    end();
    cr_assert_str_eq(trace_text(), "last", "made when it was freed");
    cr_assert_not(weft_reactor_handle_call(handle, note_label, late));
    handle = weft_reactor_handle_unref(handle);
    cr_assert_str_eq(trace_text(), "");
}

/* ---- answers ---- */

Test(reactor_handle, r73_a_blocking_call_returns_the_value_that_the_loop_gives)
{
    struct caller caller = {.fn = give_seven};

    begin_handle();
    start(&caller);
    turn_until_over(&caller);
    cr_assert_str_eq(end_of(&caller), "7");
    end_handle();
}

static pthread_t answered_by;

static weft_result look_around(void *unused)
{
    (void)unused;
    answered_by = pthread_self();
    if (!weft_in_fiber() || weft_context_current())
        return weft_int(0);
    weft_result_drop(weft_sleep(0.001));
    return weft_int(8);
}

Test(reactor_handle, a_blocking_call_runs_in_a_fiber_of_the_loop_in_no_context)
{
    struct caller caller = {.fn = look_around};

    begin_handle();
    start(&caller);
    turn_until_over(&caller);
    cr_assert_str_eq(end_of(&caller), "8");
    cr_assert_eq(answered_by, pthread_self());
    end_handle();
}

Test(reactor_handle, r73_a_blocking_call_returns_the_error_that_the_loop_gives)
{
    struct caller caller = {.fn = fail_with_cause};

    begin_handle();
    start(&caller);
    turn_until_over(&caller);
    assert_ends(&caller, "broken: number 1 (");
    cr_assert_not_null(strstr(caller.told, "; caused by broken: number 2 ("));
    end_handle();
}

static weft_error *kept;

static weft_result fail_with_kept(void *unused)
{
    (void)unused;
    return weft_fail(weft_error_ref(kept));
}

Test(reactor_handle, an_error_that_the_loop_keeps_goes_as_a_copy)
{
    struct caller caller = {.fn = fail_with_kept};

    begin_handle();
    kept = weft_error_os(5, "cannot read %s", "it");
    start(&caller);
    turn_until_over(&caller);
    assert_ends(&caller, "os_error: cannot read it: ");
    cr_assert_str_eq(told(weft_fail(kept)), "!os_error");
    end_handle();
}

static void *call_then_block(void *caller)
{
    static char label[] = "call";

    return weft_reactor_handle_call(handle, note_label, label) ? call(caller) : NULL;
}

static weft_result note_arg(void *label)
{
    trace("%s", (const char *)label);
    return weft_ok(NULL);
}

Test(reactor_handle, calls_of_a_thread_begin_in_their_order_whether_they_block_or_not)
{
    struct caller caller = {.fn = note_arg, .arg = (char[]){"block"}};

    begin_handle();
    caller.thread = start_thread(call_then_block, &caller);
    turn_until_over(&caller);
    end_of(&caller);
    cr_assert_str_eq(trace_text(), "call block");
    end_handle();
}

/* ---- where it would hang ---- */

static weft_result call_own_loop(void *unused)
{
    (void)unused;
    return weft_blocking_call_from_thread(weft_reactor_current(), give_seven, NULL);
}

Test(reactor_handle, r73_a_blocking_call_on_the_loops_own_thread_is_a_misuse_at_once)
{
    begin_handle();
    cr_assert_str_eq(told(weft_blocking_call_from_thread(weft_reactor_current(), give_seven, NULL)), "!misuse");
    cr_assert_str_eq(told(run_until(weft_spawn(call_own_loop, NULL))), "!misuse");
    end_handle();
}

static weft_result call_other_loop(void *unused)
{
    (void)unused;
    return weft_reactor_handle_blocking_call(handle, give_seven, NULL);
}

static void *block_a_reactor(void *out)
{
    weft_reactor *own;
    weft_error *error = weft_reactor_new(&own);

    if (error)
        return NULL;
    strcpy(out, told(weft_reactor_run_until(own, weft_spawn(call_other_loop, NULL))));
    weft_reactor_free(own);
    return NULL;
}

Test(reactor_handle, a_blocking_call_inside_another_running_reactor_is_a_misuse_at_once)
{
    pthread_t thread;
    char out[32] = "";

    begin_handle();
    thread = start_thread(block_a_reactor, out);
    pthread_join(thread, NULL);
    cr_assert_str_eq(out, "!misuse");
    end_handle();
}

Test(reactor_handle, r73_a_blocking_call_waits_for_the_first_run)
{
    struct caller caller = {.fn = give_seven};

    begin_handle();
    start_waiting(&caller);
    turn_until_over(&caller);
    cr_assert_str_eq(end_of(&caller), "7");
    end_handle();
}

Test(reactor_handle, a_blocking_call_waits_from_one_run_until_to_the_next)
{
    struct caller caller = {.fn = give_seven};

    begin_handle();
    turn();
    start_waiting(&caller);
    turn_until_over(&caller);
    cr_assert_str_eq(end_of(&caller), "7");
    end_handle();
}

Test(reactor_handle, r73_a_blocking_call_to_a_stopped_loop_fails_at_once_and_not_when_it_runs_again)
{
    struct caller caller = {.fn = give_seven}, again = {.fn = give_seven};

    begin_handle();
    run_for(0); /* which ends by weft_reactor_stop */
    start(&caller);
    assert_ends(&caller, "shutdown: ");
    turn();
    start_waiting(&again);
    turn_until_over(&again);
    cr_assert_str_eq(end_of(&again), "7");
    end_handle();
}

Test(reactor_handle, r73_a_blocking_call_to_a_reactor_that_is_gone_fails_at_once)
{
    struct caller caller = {.fn = give_seven};

    begin_handle();
    end();
    start(&caller);
    assert_ends(&caller, "shutdown: ");
    handle = weft_reactor_handle_unref(handle);
}

Test(reactor_handle, r73_a_blocking_call_that_waits_when_the_reactor_is_freed_fails)
{
    struct caller caller = {.fn = wait_long, .arg = (char[]){"ran"}};

    begin_handle();
    start_waiting(&caller);
    end();
    assert_ends(&caller, "shutdown: ");
    cr_assert_str_eq(trace_text(), "", "it has not begun");
    handle = weft_reactor_handle_unref(handle);
}

/* Stops the loop in the turn in which the caller's call comes, before it. */
static struct caller stopped_caller;

static void start_and_stop(void *unused)
{
    (void)unused;
    start_waiting(&stopped_caller);
    weft_reactor_stop(weft_reactor_current());
}

Test(reactor_handle, r73_a_blocking_call_that_waits_when_the_loop_stops_fails)
{
    stopped_caller = (struct caller){.fn = wait_long, .arg = (char[]){"ran"}};
    begin_handle();
    weft_reactor_call_from_thread(weft_reactor_current(), start_and_stop, NULL);
    weft_reactor_run(weft_reactor_current());
    assert_ends(&stopped_caller, "shutdown: the reactor has stopped, or is gone");
    cr_assert_str_eq(trace_text(), "", "it has not begun");
    end_handle();
}

static weft_result stop_and_wait_long(void *label)
{
    weft_reactor_stop(weft_reactor_current());
    return wait_long(label);
}

Test(reactor_handle, r73_a_blocking_call_that_has_begun_when_the_loop_stops_is_cancelled_and_the_run_ends_after_it)
{
    struct caller caller = {.fn = stop_and_wait_long, .arg = (char[]){"over"}};

    begin_handle();
    start(&caller);
    weft_reactor_run(weft_reactor_current());
    cr_assert_str_eq(trace_text(), "over");
    assert_ends(&caller, "shutdown: the reactor has stopped");
    end_handle();
}

Test(reactor_handle, a_blocking_call_that_has_begun_when_the_reactor_is_freed_is_cancelled)
{
    struct caller caller = {.fn = wait_long, .arg = (char[]){"over"}};

    begin_handle();
    start_waiting(&caller);
    while (!handle->begun)
        turn();
    end();
    cr_assert_str_eq(trace_text(), "over");
    assert_ends(&caller, "shutdown: ");
    handle = weft_reactor_handle_unref(handle);
}

static weft_result resist(void *unused)
{
    (void)unused;
    weft_reactor_stop(weft_reactor_current());
    for (;;)
        weft_result_drop(weft_sleep(0.25));
    return weft_ok(NULL);
}

/* Takes the seconds that a reactor grants. */
Test(slow_reactor_handle, a_blocking_call_that_resists_its_end_goes_on_with_the_run_and_ends_with_the_reactor, .timeout = 60)
{
    struct caller caller = {.fn = resist};
    const char *lines;

    begin_handle();
    lines_capture();
    start(&caller);
    weft_reactor_run(weft_reactor_current());
    lines = lines_text();
    cr_assert_not_null(strstr(lines, "WARN - the reactor has stopped, and a blocking call from another"), "%s", lines);
    cr_assert_not(__atomic_load_n(&caller.over, __ATOMIC_ACQUIRE));
    weft_reactor_free(weft_reactor_current());
    assert_ends(&caller, "shutdown: ");
    handle = weft_reactor_handle_unref(handle);
    _exit(0); /* what the fiber has is lost, as its reactor said */
}

/* ---- jobs ---- */

static weft_thread_pool *pool;

static weft_result log_and_wait(void *seconds)
{
    weft_log_info("asked");
    trace("begun");
    return weft_sleep(*(double *)seconds);
}

static weft_result ask_loop(void *seconds)
{
    weft_result result = weft_reactor_handle_blocking_call(handle, log_and_wait, seconds);

    weft_log_info("answered");
    return result;
}

static void begin_pool(void)
{
    begin_handle();
    cr_assert_null(weft_thread_pool_new(&pool, &(weft_thread_pool_options){.lanes = {{.name = "lane", .threads = 1}}}));
}

Test(reactor_handle, a_job_may_ask_its_loop_which_answers_in_the_context_of_whoever_deferred_it)
{
    weft_context *previous;
    weft_deferred *job;
    double seconds = 0;

    begin_pool();
    lines_capture();
    previous = enter("GET-1");
    job = weft_defer_to_thread(pool, "lane", ask_loop, &seconds);
    leave(previous);
    cr_assert_str_eq(told(run_until(job)), "nil");
    cr_assert_str_eq(lines_text(), "INFO GET-1 asked\nINFO GET-1 answered\n");
    cr_assert_str_eq(trace_text(), "begun");
    end_handle();
}

static void wait_until_begun(void)
{
    while (!handle->begun)
        turn();
}

Test(reactor_handle, the_cancel_of_a_job_ends_the_blocking_call_in_which_it_is)
{
    double seconds = 3600;
    weft_deferred *job;

    begin_pool();
    job = weft_defer_to_thread(pool, "lane", ask_loop, &seconds);
    wait_until_begun();
    weft_deferred_cancel(job);
    cr_assert_str_eq(told(run_until(job)), "!cancelled");
    cr_assert_str_eq(trace_text(), "begun");
    end_handle();
}

Test(reactor_handle, the_cancel_of_a_job_ends_the_blocking_call_that_it_is_about_to_begin)
{
    double seconds = 3600;
    weft_deferred *job;

    begin_pool();
    job = weft_defer_to_thread(pool, "lane", ask_loop, &seconds);
    await_calls(handle);
    weft_deferred_cancel(job);
    cr_assert_str_eq(told(run_until(job)), "!cancelled");
    end_handle();
}

static weft_result cancel_and_wait(void *job)
{
    weft_deferred_cancel(*(weft_deferred **)job);
    return weft_sleep(3600);
}

static weft_result ask_to_be_cancelled(void *job)
{
    return weft_reactor_handle_blocking_call(handle, cancel_and_wait, job);
}

Test(reactor_handle, the_cancel_of_a_job_in_the_first_step_of_its_blocking_call_ends_that, .timeout = 20)
{
    weft_deferred *job;

    begin_pool();
    job = weft_defer_to_thread(pool, "lane", ask_to_be_cancelled, &job);
    cr_assert_str_eq(told(run_until(job)), "!cancelled");
    end_handle();
}

/* ---- forks ---- */

/* Valgrind misses the thread that holds the call, which the child has not. */
#if !defined(WEFT_TEST_SAN_thread) && !defined(WEFT_TEST_SAN_valgrind)
static int turn_in_child(void)
{
    turn();
    weft_reactor_free(weft_reactor_current());
    return strcmp(trace_text(), "") ? 1 : 0;
}

Test(reactor_handle, in_a_child_made_by_fork_nobody_waits_for_an_answer)
{
    struct caller caller = {.fn = note_arg, .arg = (char[]){"block"}};
    pid_t child;
    int status;

    begin_handle();
    start_waiting(&caller);
    child = fork();
    if (!child)
        _exit(turn_in_child());
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    turn_until_over(&caller);
    end_of(&caller);
    cr_assert_str_eq(trace_text(), "block");
    end_handle();
}
#endif

/* ---- many ---- */

enum { CALLERS = 4, CALLS = MANY / 500 };

static weft_result add_one(void *arg)
{
    int *count = arg;

    if (*count % 7 == 0)
        weft_result_drop(weft_yield());
    if (*count % 5 == 0) {
        ++*count;
        return fail_with_cause(NULL);
    }
    return weft_int(++*count);
}

struct counting {
    int count, failed; /* the thread's, but inside its blocking calls */
    weft_live_counts left;
    pthread_t thread;
};

static int over; /* atomic */

static void *call_many_times(void *arg)
{
    struct counting *counting = arg;

    for (int i = 0; i < CALLS; i++) {
        weft_result result = weft_reactor_handle_blocking_call(handle, add_one, &counting->count);

        counting->failed += weft_failed(result) != NULL;
        weft_result_drop(result);
    }
    counting->left = weft_live_counts_get();
    __atomic_add_fetch(&over, 1, __ATOMIC_RELEASE);
    return NULL;
}

static weft_result wait_for_callers(void *unused)
{
    (void)unused;
    while (__atomic_load_n(&over, __ATOMIC_ACQUIRE) < CALLERS)
        weft_result_drop(weft_sleep(0.001));
    return weft_ok(NULL);
}

Test(reactor_handle, each_of_many_blocking_calls_of_several_threads_is_answered_once, .timeout = 60)
{
    struct counting countings[CALLERS] = {{0}};

    begin_handle();
    for (int i = 0; i < CALLERS; i++)
        countings[i].thread = start_thread(call_many_times, &countings[i]);
    weft_result_drop(run_until(weft_spawn(wait_for_callers, NULL)));
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(countings[i].thread, NULL);
        cr_assert_eq(countings[i].count, CALLS);
        cr_assert_eq(countings[i].failed, (CALLS + 4) / 5);
        cr_assert_eq(countings[i].left.errors, 0);
    }
    end_handle();
}

/* Batching queues: A17 of Synapse's rules and its tests of them, and what weft decides where Synapse leaves it open: what
 * becomes of a batch that nobody waits for any more, of values that cannot be shared, and ends. */
#include "tests/support/fibers.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static weft_description storing = WEFT_DESCRIPTION("storing");

static const char *here(void)
{
    return weft_context_get_name(weft_context_current());
}

/* ---- functions ---- */

/* "key(1,2)". */
static void trace_batch(const char *key, void *const *values, size_t count)
{
    char text[200];
    int length = snprintf(text, sizeof text, "%s(", key);

    for (size_t i = 0; i < count; i++)
        length += snprintf(text + length, sizeof text - (size_t)length, "%s%ld", i ? "," : "", (long)(intptr_t)values[i]);
    trace("%s)", text);
}

/* The sum of the values. */
static weft_result sum(const char *key, void *const *values, size_t count, void *unused)
{
    intptr_t total = 0;

    (void)unused;
    trace_batch(key, values, count);
    for (size_t i = 0; i < count; i++)
        total += (intptr_t)values[i];
    return weft_int(total);
}

/* Each batch waits for a gate of its own, made when it begins; batches are numbered from 0. */
struct gates {
    weft_deferred *gate[8];
    int count;
};

static void gates_free(struct gates *gates)
{
    while (gates->count)
        weft_deferred_unref(gates->gate[--gates->count]);
}

static weft_result sum_at_gate(const char *key, void *const *values, size_t count, void *arg)
{
    struct gates *gates = arg;
    weft_result result, total = sum(key, values, count, NULL);
    int number = gates->count++;

    gates->gate[number] = stoppable(cancel_done, "canceller");
    result = noted_await(weft_deferred_ref(gates->gate[number]), "gate");
    return weft_failed(result) ? result : total;
}

static void open_gate(struct gates *gates, int number)
{
    weft_deferred_callback(gates->gate[number], weft_ok(NULL));
    settle();
}

static weft_deferred *add(weft_batching_queue *queue, const char *key, intptr_t value, const char *label)
{
    return noted(weft_batching_queue_add(queue, key, weft_int(value)), label);
}

/* For those whose result has been traced. */
static void forget(weft_deferred *deferred)
{
    cr_assert_eq(weft_deferred_get_state(deferred), WEFT_DONE);
    weft_result_drop(weft_deferred_take_result(deferred));
    weft_deferred_unref(deferred);
}

/* ---- batches ---- */

Test(batching_queue, a17_the_first_value_waits_a_turn_and_what_comes_in_it_is_processed_in_one_call)
{
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum, NULL);
    weft_deferred *a, *b, *c;

    begin();
    a = add(queue, "room", 1, "a");
    b = add(queue, "room", 2, "b");
    c = add(queue, "room", 3, "c");
    cr_assert_str_eq(trace_text(), "");
    cr_assert_eq(weft_batching_queue_get_queued(queue, "room"), 3);
    settle();
    cr_assert_str_eq(trace_text(), "room(1,2,3) a=6 b=6 c=6");
    cr_assert_eq(weft_batching_queue_get_queued(queue, "room"), 0);
    cr_assert_eq(weft_batching_queue_get_keys(queue), 0);
    cr_assert_eq(weft_live_counts_get().fibers, 0, "nothing waits for more");
    forget(a);
    forget(b);
    forget(c);
    weft_batching_queue_free(queue);
    end();
}

static weft_result add_and_wait(void *queue)
{
    return noted_await(weft_batching_queue_add(queue, "room", weft_int(5)), "fiber");
}

/* It is ready, and has its turn before the loop has turned. */
Test(batching_queue, a17_a_fiber_that_is_ready_comes_in_time_for_the_batch)
{
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum, NULL);
    weft_deferred *a;

    begin();
    a = add(queue, "room", 1, "a");
    weft_deferred_unref(weft_spawn_soon(add_and_wait, queue));
    run_all();
    cr_assert_str_eq(trace_text(), "room(1,5) a=6 fiber=6");
    forget(a);
    weft_batching_queue_free(queue);
    end();
}

Test(batching_queue, a17_values_that_come_during_a_run_are_the_next_batch)
{
    struct gates gates = {.count = 0};
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum_at_gate, &gates);
    weft_deferred *a, *b, *c, *d;

    begin();
    a = add(queue, "room", 1, "a");
    settle();
    b = add(queue, "room", 2, "b");
    settle();
    c = add(queue, "room", 3, "c");
    settle();
    cr_assert_str_eq(trace_text(), "room(1)");
    cr_assert_eq(weft_batching_queue_get_queued(queue, "room"), 2);
    open_gate(&gates, 0);
    cr_assert_str_eq(trace_text(), "gate=nil a=1 room(2,3)");
    d = add(queue, "room", 4, "d");
    open_gate(&gates, 1);
    open_gate(&gates, 2);
    cr_assert_str_eq(trace_text(), "gate=nil b=5 c=5 room(4) gate=nil d=4");
    forget(a);
    forget(b);
    forget(c);
    forget(d);
    weft_batching_queue_free(queue);
    end();
    gates_free(&gates);
}

static weft_result add_another(weft_result result, void *queue)
{
    weft_deferred_unref(add(queue, "room", 10, "another"));
    trace("added");
    return result;
}

Test(batching_queue, a17_values_that_come_while_results_are_given_are_the_next_batch)
{
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum, NULL);
    weft_deferred *a, *b;

    begin();
    a = weft_deferred_add_both(add(queue, "room", 1, "a"), add_another, queue);
    b = add(queue, "room", 2, "b");
    settle();
    cr_assert_str_eq(trace_text(), "room(1,2) a=3 added b=3 room(10) another=10");
    forget(a);
    forget(b);
    weft_batching_queue_free(queue);
    end();
}

Test(batching_queue, a17_keys_run_side_by_side)
{
    struct gates gates = {.count = 0};
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum_at_gate, &gates);
    weft_deferred *a, *b, *c;
    char key[] = "one";

    begin();
    a = add(queue, key, 1, "a");
    strcpy(key, "two");
    b = add(queue, key, 2, "b");
    strcpy(key, "one");
    c = add(queue, key, 3, "c");
    strcpy(key, "-");
    settle();
    cr_assert_eq(weft_batching_queue_get_keys(queue), 2);
    cr_assert_str_eq(trace_text(), "one(1,3) two(2)");
    open_gate(&gates, 1);
    cr_assert_str_eq(trace_text(), "gate=nil b=2");
    cr_assert_eq(weft_batching_queue_get_keys(queue), 1);
    open_gate(&gates, 0);
    cr_assert_str_eq(trace_text(), "gate=nil a=4 c=4");
    forget(a);
    forget(b);
    forget(c);
    weft_batching_queue_free(queue);
    end();
    gates_free(&gates);
}

static weft_result sum_later(const char *key, void *const *values, size_t count, void *gate)
{
    trace_batch(key, values, count);
    return weft_later(weft_deferred_ref(gate));
}

/* ---- results ---- */

Test(batching_queue, a17_a_deferred_that_the_function_returns_is_waited_for_and_values_are_dropped_after_that)
{
    weft_deferred *gate = pending(), *a;
    struct value value = {.name = "value"};
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum_later, gate);

    begin();
    a = noted(weft_batching_queue_add(queue, "room", value_of(&value)), "a");
    settle();
    (void)trace_text();
    cr_assert_eq(value.drops, 0);
    weft_deferred_callback(gate, weft_int(6));
    settle();
    cr_assert_str_eq(trace_text(), "a=6");
    cr_assert_eq(value.drops, 1);
    forget(a);
    weft_batching_queue_free(queue);
    end();
    cr_assert_eq(value.drops, 1);
    weft_deferred_unref(gate);
}

static weft_result fail_all(const char *key, void *const *values, size_t count, void *unused)
{
    (void)unused;
    trace_batch(key, values, count);
    return broken();
}

Test(batching_queue, a17_an_error_is_the_same_for_all_and_the_next_batch_goes_on)
{
    weft_batching_queue *queue = weft_batching_queue_new(&storing, fail_all, NULL);
    weft_deferred *a, *b, *c;
    weft_result first, second;

    begin();
    log_capture();
    a = add(queue, "room", 1, "a");
    b = add(queue, "room", 2, "b");
    settle();
    cr_assert_str_eq(trace_text(), "room(1,2) a=!broken b=!broken");
    first = weft_deferred_take_result(a);
    second = weft_deferred_take_result(b);
    cr_assert(weft_error_same(weft_failed(first), weft_failed(second)));
    weft_result_drop(first);
    weft_result_drop(second);
    c = add(queue, "room", 3, "c");
    settle();
    cr_assert_str_eq(trace_text(), "room(3) c=!broken");
    weft_deferred_unref(a);
    weft_deferred_unref(b);
    forget(c);
    cr_assert_eq(log_count(""), 0, "it is no failure of the process: %s", log_text());
    weft_batching_queue_free(queue);
    end();
}

struct counted {
    int references;
};

static void *counted_ref(void *counted)
{
    ((struct counted *)counted)->references++;
    return counted;
}

static void counted_unref(void *counted)
{
    ((struct counted *)counted)->references--;
}

static const weft_type counted_type = {"counted", counted_ref, counted_unref};

static weft_result give_counted(const char *key, void *const *values, size_t count, void *arg)
{
    (void)key, (void)values, (void)count;
    return weft_own(counted_ref(arg), &counted_type);
}

Test(batching_queue, a17_a_value_that_can_be_shared_is_and_each_waiter_has_a_reference)
{
    struct counted counted = {0};
    weft_batching_queue *queue = weft_batching_queue_new(&storing, give_counted, &counted);
    weft_deferred *waiters[3];

    begin();
    for (int i = 0; i < 3; i++)
        waiters[i] = weft_batching_queue_add(queue, "room", weft_int(i));
    weft_deferred_cancel(waiters[1]);
    settle();
    cr_assert_eq(counted.references, 2);
    cr_assert_eq(weft_deferred_peek(waiters[2]).value, &counted);
    cr_assert_eq(weft_deferred_peek(waiters[2]).type, &counted_type);
    for (int i = 0; i < 3; i++)
        forget(waiters[i]);
    cr_assert_eq(counted.references, 0);
    weft_batching_queue_free(queue);
    end();
}

static weft_result give_value(const char *key, void *const *values, size_t count, void *value)
{
    (void)key, (void)values, (void)count;
    return value_of(value);
}

/* Also when one waits: else it would show only when several do. */
Test(batching_queue, a17_a_value_that_cannot_be_shared_is_a_misuse_that_names_its_type)
{
    struct value value = {.name = "value"};
    weft_batching_queue *queue = weft_batching_queue_new(&storing, give_value, &value);
    weft_deferred *a, *b;

    begin();
    a = add(queue, "one", 1, "a");
    settle();
    cr_assert_eq(value.drops, 1);
    forget(a);
    a = add(queue, "two", 1, "b");
    b = add(queue, "two", 1, "c");
    settle();
    cr_assert_str_eq(trace_text(), "a=!misuse b=!misuse c=!misuse");
    cr_assert_eq(value.drops, 2);
    cr_assert_not_null(strstr(weft_error_get_message(weft_failed(weft_deferred_peek(a))),
                              "a batch of storing has brought one value for all"));
    forget(a);
    forget(b);
    weft_batching_queue_free(queue);
    end();
}

/* ---- cancels ---- */

Test(batching_queue, a17_a_value_that_is_cancelled_before_its_batch_has_begun_is_taken_out)
{
    struct gates gates = {.count = 0};
    struct value value = {.name = "value"};
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum_at_gate, &gates);
    weft_deferred *a, *b, *c, *d;

    begin();
    a = add(queue, "room", 1, "a");
    b = noted(weft_batching_queue_add(queue, "room", value_of(&value)), "b");
    c = add(queue, "room", 3, "c");
    weft_deferred_cancel(b);
    cr_assert_eq(value.drops, 1);
    settle();
    cr_assert_str_eq(trace_text(), "b=!cancelled room(1,3)");
    d = add(queue, "room", 4, "d");
    weft_deferred_cancel(d);
    open_gate(&gates, 0);
    cr_assert_str_eq(trace_text(), "d=!cancelled gate=nil a=4 c=4", "nor is there a batch of none");
    cr_assert_eq(weft_batching_queue_get_keys(queue), 0);
    cr_assert_eq(value.drops, 1);
    forget(a);
    forget(b);
    forget(c);
    forget(d);
    weft_batching_queue_free(queue);
    end();
    gates_free(&gates);
}

Test(batching_queue, a17_when_all_are_cancelled_before_their_batch_there_is_none)
{
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum, NULL);
    weft_deferred *a, *b;

    begin();
    log_capture();
    a = add(queue, "room", 1, "a");
    b = add(queue, "room", 2, "b");
    weft_deferred_cancel(b);
    weft_deferred_cancel(a);
    run_all();
    cr_assert_str_eq(trace_text(), "b=!cancelled a=!cancelled");
    cr_assert_eq(log_count(""), 0, "%s", log_text());
    forget(a);
    a = add(queue, "room", 3, "a");
    settle();
    cr_assert_str_eq(trace_text(), "room(3) a=3");
    forget(a);
    forget(b);
    weft_batching_queue_free(queue);
    end();
}

Test(batching_queue, a17_one_that_is_cancelled_during_the_run_leaves_alone_and_its_value_stays_until_the_end)
{
    struct gates gates = {.count = 0};
    struct value value = {.name = "value"};
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum_at_gate, &gates);
    weft_deferred *a, *b;

    begin();
    a = noted(weft_batching_queue_add(queue, "room", value_of(&value)), "a");
    b = add(queue, "room", 2, "b");
    settle();
    (void)trace_text();
    weft_deferred_cancel(a);
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled");
    cr_assert_eq(value.drops, 0);
    weft_deferred_callback(gates.gate[0], weft_ok(NULL));
    settle();
    cr_assert_eq(value.drops, 1);
    (void)trace_text();
    cr_assert_null(weft_failed(weft_deferred_peek(b)));
    forget(a);
    forget(b);
    weft_batching_queue_free(queue);
    end();
    gates_free(&gates);
}

static weft_error *client_gone(void)
{
    return weft_error_new(&WEFT_CLIENT_GONE, "the client has left");
}

Test(batching_queue, a17_when_the_last_of_a_batch_is_cancelled_so_is_the_run_and_the_next_batch_begins_then)
{
    struct gates gates = {.count = 0};
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum_at_gate, &gates);
    weft_deferred *a, *b, *c;

    begin();
    a = add(queue, "room", 1, "a");
    b = add(queue, "room", 0, "left");
    weft_deferred_cancel(b);
    forget(b);
    b = add(queue, "room", 2, "b");
    settle();
    c = add(queue, "room", 3, "c");
    log_capture();
    weft_deferred_cancel(b);
    settle();
    cr_assert_str_eq(trace_text(), "left=!cancelled room(1,2) b=!cancelled");
    weft_deferred_cancel_with(a, client_gone());
    settle();
    cr_assert_str_eq(trace_text(), "canceller a=!client_gone gate=!client_gone room(3)");
    cr_assert_eq(log_count("INFO storing-1 the background process storing was cancelled: client_gone: "), 1, "%s", log_text());
    cr_assert_eq(log_count(""), 1);
    open_gate(&gates, 1);
    cr_assert_str_eq(trace_text(), "gate=nil c=3");
    forget(a);
    forget(b);
    forget(c);
    weft_batching_queue_free(queue);
    end();
    gates_free(&gates);
}

static weft_result shielded(void *gate)
{
    return noted_await(gate, "shielded");
}

static weft_result sum_shielded(const char *key, void *const *values, size_t count, void *gate)
{
    trace_batch(key, values, count);
    return weft_shield(shielded, weft_deferred_ref(gate));
}

Test(batching_queue, a17_a_run_that_shields_itself_goes_on_to_its_end_when_nobody_waits)
{
    weft_deferred *gate = pending(), *a, *b;
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum_shielded, gate);

    begin();
    a = add(queue, "room", 1, "a");
    settle();
    weft_deferred_cancel(a);
    b = add(queue, "room", 2, "b");
    settle();
    cr_assert_str_eq(trace_text(), "room(1) a=!cancelled", "and the next one waits for it");
    weft_deferred_callback(gate, weft_int(1));
    settle();
    cr_assert_str_eq(trace_text(), "shielded=1 room(2) shielded=!misuse b=!misuse", "this gate opens once");
    forget(a);
    forget(b);
    weft_batching_queue_free(queue);
    end();
    weft_deferred_unref(gate);
}

static weft_result fail_when_cancelled(const char *key, void *const *values, size_t count, void *arg)
{
    weft_result result = sum_at_gate(key, values, count, arg);

    weft_result_drop(result);
    return broken();
}

Test(batching_queue, a17_a_failure_for_which_nobody_waits_is_logged)
{
    struct gates gates = {.count = 0};
    weft_batching_queue *queue = weft_batching_queue_new(&storing, fail_when_cancelled, &gates);
    weft_deferred *a;

    begin();
    a = add(queue, "room", 1, "a");
    settle();
    log_capture();
    weft_deferred_cancel(a);
    settle();
    cr_assert_eq(log_count("ERROR storing-1 the background process storing failed: broken: it broke"), 1, "%s", log_text());
    cr_assert_eq(log_count(""), 1);
    forget(a);
    weft_batching_queue_free(queue);
    end();
    gates_free(&gates);
}

static weft_result cancel_other(weft_result result, void *other)
{
    weft_deferred_cancel(other);
    return result;
}

/* The run has ended: a cancel has nothing to stop there. */
Test(batching_queue, a17_a_callback_may_cancel_the_last_one_that_is_still_to_get_its_result)
{
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum, NULL);
    weft_deferred *a, *b;

    begin();
    log_capture();
    a = add(queue, "room", 1, "a");
    b = add(queue, "room", 2, "b");
    weft_deferred_add_both(a, cancel_other, b);
    run_all();
    cr_assert_str_eq(trace_text(), "room(1,2) a=3 b=!cancelled");
    cr_assert_eq(log_count(""), 0, "%s", log_text());
    forget(a);
    forget(b);
    weft_batching_queue_free(queue);
    end();
}

/* ---- contexts ---- */

static weft_result charge(const char *key, void *const *values, size_t count, void *arg)
{
    trace("batch@%s", here());
    weft_context_charge(weft_context_current(), &(weft_usage){.db_rows = 3});
    return sum_at_gate(key, values, count, arg);
}

static weft_result wait_in_context(void *queue)
{
    weft_result result = weft_await(weft_batching_queue_add(queue, "room", weft_int(1)));

    trace("waiter@%s:%ld", here(), (long)weft_context_get_usage(weft_context_current()).db_rows);
    return result;
}

Test(batching_queue, a17_each_batch_is_a_process_and_those_who_wait_keep_their_contexts)
{
    struct gates gates = {.count = 0};
    weft_batching_queue *queue = weft_batching_queue_new(&storing, charge, &gates);
    weft_context *previous;
    weft_deferred *a;

    begin();
    weft_deferred_unref(spawn_in("GET-1", wait_in_context, queue));
    previous = enter("GET-2");
    a = context_noted(weft_batching_queue_add(queue, "room", weft_int(1)), "callback");
    leave(previous);
    settle();
    weft_deferred_unref(spawn_in("GET-3", wait_in_context, queue));
    open_gate(&gates, 0);
    open_gate(&gates, 1);
    cr_assert_str_eq(trace_text(), "batch@storing-1 room(1,1) gate=nil callback@GET-2 waiter@GET-1:0 "
                                   "batch@storing-2 room(1) gate=nil waiter@GET-3:0");
    cr_assert_eq(weft_description_get_counts(&storing).started, 2);
    cr_assert_eq(weft_description_get_counts(&storing).in_flight, 0);
    forget(a);
    weft_batching_queue_free(queue);
    end();
    cr_assert_eq(weft_live_counts_get().contexts, 0);
    gates_free(&gates);
}

Test(batching_queue, a17_an_error_that_nobody_takes_is_logged_in_the_context_of_who_added)
{
    weft_batching_queue *queue = weft_batching_queue_new(&storing, fail_all, NULL);
    weft_context *previous;

    begin();
    log_capture();
    previous = enter("GET-1");
    weft_deferred_unref(weft_batching_queue_add(queue, "room", weft_int(1)));
    leave(previous);
    settle();
    cr_assert_eq(log_count("ERROR GET-1 unhandled error"), 1, "%s", log_text());
    cr_assert_eq(log_count(""), 1);
    weft_batching_queue_free(queue);
    end();
}

static weft_result sum_astray(const char *key, void *const *values, size_t count, void *unused)
{
    weft_context_unref(weft_context_set(weft_context_new("astray")));
    return sum(key, values, count, unused);
}

Test(batching_queue, a17_a_context_that_a_batch_leaves_behind_is_logged)
{
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum_astray, NULL);
    weft_deferred *a;

    begin();
    log_capture();
    a = add(queue, "room", 1, "a");
    settle();
    cr_assert_str_eq(trace_text(), "room(1) a=1");
    cr_assert_eq(log_count("astray"), 1, "%s", log_text());
    forget(a);
    weft_batching_queue_free(queue);
    end();
}

/* ---- metrics ---- */

static void expect_metric(const char *text, const char *metric, int value)
{
    char line[100];

    snprintf(line, sizeof line, "\nweft_batching_queue_%s{name=\"storing\"} %d\n", metric, value);
    cr_assert(strstr(text, line), "not %d %s in %s", value, metric, text);
}

static void expect_metrics(int queued, int keys, int in_flight, int batches)
{
    char *text = weft_metrics_write(NULL);

    expect_metric(text, "queued", queued);
    expect_metric(text, "keys", keys);
    expect_metric(text, "in_flight", in_flight);
    expect_metric(text, "batches_total", batches);
    weft_free(text);
}

Test(batching_queue, a17_metrics_match)
{
    struct gates gates = {.count = 0};
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum_at_gate, &gates);
    weft_deferred *d[6];

    log_capture();
    begin();
    expect_metrics(0, 0, 0, 0);
    d[0] = weft_batching_queue_add(queue, "one", weft_int(1));
    d[1] = weft_batching_queue_add(queue, "one", weft_int(2));
    d[2] = weft_batching_queue_add(queue, "two", weft_int(3));
    expect_metrics(3, 2, 3, 0);
    settle();
    expect_metrics(0, 0, 3, 2);
    d[3] = weft_batching_queue_add(queue, "one", weft_int(4));
    d[4] = weft_batching_queue_add(queue, "one", weft_int(5));
    d[5] = weft_batching_queue_add(queue, "two", weft_int(6));
    expect_metrics(3, 2, 6, 2);
    weft_deferred_cancel(d[0]);
    weft_deferred_cancel(d[4]);
    expect_metrics(2, 2, 4, 2);
    weft_deferred_cancel(d[5]);
    expect_metrics(1, 1, 3, 2);
    open_gate(&gates, 0);
    expect_metrics(0, 0, 2, 3);
    open_gate(&gates, 1);
    expect_metrics(0, 0, 1, 3);
    weft_batching_queue_free(queue);
    expect_metrics(0, 0, 0, 3);
    for (int i = 0; i < 6; i++)
        forget(d[i]);
    end();
    gates_free(&gates);
}

/* ---- ends ---- */

Test(batching_queue, a17_a_queue_that_was_never_used_is_freed)
{
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum, NULL);

    cr_assert_null(weft_batching_queue_free(queue));
    cr_assert_null(weft_batching_queue_free(NULL));
    conclude(weft_batching_queue_close(weft_batching_queue_new(&storing, sum, NULL)), "closed");
    cr_assert_str_eq(trace_text(), "closed=nil");
}

static weft_result add_late(weft_result result, void *queue)
{
    conclude(weft_batching_queue_add(queue, "late", weft_int(1)), "late");
    return result;
}

/* One key with a batch and a value behind that, one whose batch has not begun. */
Test(batching_queue, a17_closing_fails_all_who_wait_cancels_what_runs_and_tells_when_that_has_ended)
{
    struct gates gates = {.count = 0};
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum_at_gate, &gates);
    struct value running = {.name = "running"}, queued = {.name = "queued"};
    weft_deferred *a, *b, *c, *closed;

    begin();
    a = weft_batching_queue_add(queue, "one", value_of(&running));
    settle();
    (void)trace_text();
    b = noted(weft_batching_queue_add(queue, "one", value_of(&queued)), "b");
    c = add(queue, "two", 3, "c");
    weft_deferred_add_both(b, add_late, queue);
    noted(a, "a");
    closed = noted(weft_batching_queue_close(queue), "closed");
    cr_assert_str_eq(trace_text(), "b=!shutdown late=!shutdown a=!shutdown canceller c=!shutdown");
    cr_assert_eq(queued.drops, 1);
    cr_assert_eq(running.drops, 0, "its function has not ended");
    run_all();
    cr_assert_str_eq(trace_text(), "gate=!shutdown closed=nil");
    cr_assert_eq(running.drops, 1);
    forget(a);
    forget(b);
    forget(c);
    weft_deferred_unref(closed);
    end();
    gates_free(&gates);
}

static weft_result free_queue(weft_result result, void *queue)
{
    weft_batching_queue_free(queue);
    trace("freed");
    return result;
}

Test(batching_queue, a17_a_callback_may_free_the_queue_and_its_batch_still_gets_the_result)
{
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum, NULL);
    weft_deferred *a, *b, *c;

    begin();
    a = add(queue, "room", 1, "a");
    b = add(queue, "room", 2, "b");
    c = add(queue, "other", 3, "c");
    weft_deferred_add_both(a, add_another, queue);
    weft_deferred_add_both(a, free_queue, queue);
    settle();
    cr_assert_str_eq(trace_text(), "room(1,2) a=3 added another=!shutdown c=!shutdown freed b=3");
    forget(a);
    forget(b);
    forget(c);
    end();
}

struct owner {
    weft_batching_queue *queue;
};

static weft_result free_own_queue(const char *key, void *const *values, size_t count, void *arg)
{
    struct owner *owner = arg;

    weft_batching_queue_free(owner->queue);
    return sum(key, values, count, NULL);
}

Test(batching_queue, a17_the_function_may_free_its_queue)
{
    struct owner owner;
    weft_deferred *a;

    begin();
    owner.queue = weft_batching_queue_new(&storing, free_own_queue, &owner);
    a = add(owner.queue, "room", 1, "a");
    run_all();
    cr_assert_str_eq(trace_text(), "a=!shutdown room(1)");
    forget(a);
    end();
}

Test(batching_queue, a17_a_reactor_that_is_freed_fails_all_who_wait)
{
    struct gates gates = {.count = 0};
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum_at_gate, &gates);
    weft_deferred *a, *b;

    begin();
    a = add(queue, "one", 1, "a");
    settle();
    b = add(queue, "two", 2, "b");
    end();
    cr_assert_eq(weft_batching_queue_get_keys(queue), 0);
    forget(a);
    forget(b);
    weft_batching_queue_free(queue);
    gates_free(&gates);
    cr_assert_not_null(strstr(trace_text(), "a=!shutdown"));
}

Test(batching_queue, a17_errors_and_deferreds_are_no_values_and_without_a_reactor_there_is_no_batch)
{
    struct value value = {.name = "value"};
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum, NULL);

    conclude(weft_batching_queue_add(queue, "room", value_of(&value)), "a");
    cr_assert_eq(value.drops, 1);
    begin();
    conclude(weft_batching_queue_add(queue, "room", broken()), "b");
    conclude(weft_batching_queue_add(queue, "room", weft_later(done(weft_ok(NULL)))), "c");
    cr_assert_str_eq(trace_text(), "a=!misuse b=!misuse c=!misuse");
    cr_assert_eq(weft_batching_queue_get_keys(queue), 0);
    end();
    weft_batching_queue_free(queue);
}

#ifndef WEFT_TEST_SANITIZED /* which reserve terabytes of addresses for themselves */
/* False: qemu-user takes a limit and keeps none. */
static bool limit_memory(rlim_t bytes)
{
    struct rlimit limit;

    cr_assert_eq(getrlimit(RLIMIT_AS, &limit), 0);
    limit.rlim_cur = bytes;
    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
    cr_assert_eq(getrlimit(RLIMIT_AS, &limit), 0);
    return limit.rlim_cur == bytes;
}

Test(batching_queue, a17_a_batch_for_which_there_is_no_fiber_fails_and_the_next_add_tries_again)
{
    weft_batching_queue *queue = weft_batching_queue_new(&storing, sum, NULL);
    struct value value = {.name = "value"};
    weft_deferred *a;

    if (!limit_memory((rlim_t)1 << 46))
        return;
    begin();
    log_capture();
    limit_memory(1);
    a = weft_batching_queue_add(queue, "room", value_of(&value));
    limit_memory(RLIM_INFINITY);
    noted(a, "a");
    cr_assert_str_eq(trace_text(), "a=!busy");
    cr_assert_eq(value.drops, 1);
    cr_assert_eq(weft_batching_queue_get_keys(queue), 0);
    cr_assert_eq(log_count("ERROR storing-1 the background process storing failed: os_error"), 1, "%s", log_text());
    forget(a);
    a = add(queue, "room", 1, "a");
    settle();
    cr_assert_str_eq(trace_text(), "room(1) a=1");
    forget(a);
    weft_batching_queue_free(queue);
    end();
}

/* Two are queued behind the batch whose process then finds no fiber for the next one. */
struct shortage {
    weft_batching_queue *queue;
    weft_deferred *b, *c;
};

static weft_result end_shortage(weft_result result, void *unused)
{
    (void)unused;
    limit_memory(RLIM_INFINITY);
    return result;
}

static weft_result cancel_and_add(weft_result result, void *arg)
{
    struct shortage *shortage = arg;

    weft_deferred_cancel(shortage->c);
    weft_deferred_unref(weft_deferred_add_both(add(shortage->queue, "room", 4, "d"), end_shortage, NULL));
    trace("added");
    return result;
}

static weft_result sleep_long(void *unused)
{
    (void)unused;
    return weft_sleep(1000);
}

static void use_up_stacks(void)
{
    bool failed = false;

    limit_memory(1);
    for (int i = 0; i < 1000 && !failed; i++) {
        weft_deferred *fiber = weft_spawn(sleep_long, NULL);

        failed = weft_deferred_get_state(fiber) == WEFT_DONE;
        if (failed)
            weft_result_drop(weft_deferred_take_result(fiber));
        weft_deferred_unref(fiber);
    }
    cr_assert(failed);
}

static weft_result begin_shortage(const char *key, void *const *values, size_t count, void *arg)
{
    struct shortage *shortage = arg;

    trace_batch(key, values, count);
    shortage->b = weft_deferred_add_both(add(shortage->queue, "room", 2, "b"), cancel_and_add, shortage);
    shortage->c = add(shortage->queue, "room", 3, "c");
    weft_preserve_context(NULL) {
        use_up_stacks();
    }
    return weft_int(1);
}

Test(batching_queue, a17_without_a_fiber_for_the_next_batch_callbacks_may_cancel_and_add)
{
    struct shortage shortage = {.queue = weft_batching_queue_new(&storing, begin_shortage, &shortage)};
    weft_deferred *a;

    if (!limit_memory((rlim_t)1 << 46))
        return;
    begin();
    log_capture();
    a = add(shortage.queue, "room", 1, "a");
    settle();
    cr_assert_str_eq(trace_text(), "room(1) a=1 b=!busy c=!cancelled added d=!busy");
    cr_assert_eq(weft_batching_queue_get_keys(shortage.queue), 0);
    forget(a);
    forget(shortage.b);
    forget(shortage.c);
    weft_batching_queue_free(shortage.queue);
    end();
}
#endif

/* ---- anything in any order ---- */

enum { KEYS = 3, ITEMS = 60, STEPS = 200 };

static const char *const keys[KEYS] = {"a", "b", "c"};

struct item {
    int number;
    int key;
    int drops;
    int results;
    bool cancelled;
    weft_deferred *deferred;
};

struct model {
    uint64_t random;
    weft_batching_queue *queue;
    struct item items[ITEMS];
    int added;
    int processed[KEYS];           /* the last number of each that a batch had, -1: none */
    weft_deferred *running[KEYS];  /* the gate of the batch; NULL: none runs */
};

static int draw(struct model *model, int below)
{
    model->random = model->random * 6364136223846793005u + 1442695040888963407u;
    return (int)((model->random >> 33) % (uint64_t)below);
}

static void item_unref(void *item)
{
    ((struct item *)item)->drops++;
}

static const weft_type item_type = {"item", NULL, item_unref};

/* Checks that it is called for one key at a time, with the values in their order, none twice, and each as it is still there. */
static weft_result process_items(const char *key, void *const *values, size_t count, void *arg)
{
    struct model *model = arg;
    int number = key[0] - 'a';
    weft_result result;

    cr_assert_null(model->running[number]);
    cr_assert(count > 0);
    for (size_t i = 0; i < count; i++) {
        const struct item *item = values[i];

        cr_assert_eq(item->key, number);
        cr_assert(item->number > model->processed[number]);
        cr_assert(!item->cancelled && !item->drops);
        model->processed[number] = item->number;
    }
    model->running[number] = weft_deferred_new(NULL, NULL);
    result = weft_await(weft_deferred_ref(model->running[number]));
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(((const struct item *)values[i])->drops, 0);
    model->running[number] = weft_deferred_unref(model->running[number]);
    return result;
}

static weft_result count_result(weft_result result, void *arg)
{
    struct item *item = arg;

    item->results++;
    weft_result_drop(result);
    return weft_ok(NULL);
}

static void add_item(struct model *model)
{
    struct item *item = &model->items[model->added];

    if (model->added == ITEMS)
        return;
    *item = (struct item){.number = model->added++, .key = draw(model, KEYS)};
    item->deferred = weft_batching_queue_add(model->queue, keys[item->key], weft_own(item, &item_type));
    weft_deferred_add_both(item->deferred, count_result, item);
}

static void cancel_item(struct model *model)
{
    struct item *item = &model->items[model->added ? draw(model, model->added) : 0];

    if (!model->added || item->results)
        return;
    item->cancelled = true;
    weft_deferred_cancel(item->deferred);
    cr_assert_eq(item->results, 1);
}

static void open_some_gate(struct model *model)
{
    weft_deferred *gate = model->running[draw(model, KEYS)];

    if (gate && weft_deferred_get_state(gate) == WEFT_PENDING)
        weft_deferred_callback(gate, weft_int(1));
}

static void step(struct model *model)
{
    switch (draw(model, 5)) {
    case 0:
    case 1:
        add_item(model);
        break;
    case 2:
        cancel_item(model);
        break;
    case 3:
        open_some_gate(model);
        break;
    default:
        run_for(0);
    }
}

static void expect_all_concluded(struct model *model)
{
    for (int i = 0; i < model->added; i++) {
        cr_assert_eq(model->items[i].results, 1);
        cr_assert_eq(model->items[i].drops, 1);
        weft_deferred_unref(model->items[i].deferred);
    }
}

Test(batching_queue, a17_in_any_order_of_adds_cancels_and_ends_each_value_has_one_result_and_is_dropped_once)
{
    log_capture();
    begin();
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct model model = {.random = seed, .processed = {-1, -1, -1}};

        model.queue = weft_batching_queue_new(&storing, process_items, &model);
        for (int i = 0; i < STEPS; i++)
            step(&model);
        while (seed % 2 && weft_batching_queue_get_keys(model.queue)) {
            open_some_gate(&model);
            run_for(0);
        }
        weft_batching_queue_free(model.queue);
        run_all();
        expect_all_concluded(&model);
    }
    end();
}

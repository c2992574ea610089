/* Background queues: A17 of Synapse's rules, and what weft decides where Synapse leaves it open: what becomes of items that a
 * cancel leaves, bounds, and ends. */
#include "tests/support/fibers.h"
#include "tests/support/test.h"

#include <string.h>
#include <sys/resource.h>

static weft_description sending = WEFT_DESCRIPTION("sending");

static const weft_background_queue_options usual = {0};

static const char *here(void)
{
    return weft_context_get_name(weft_context_current());
}

static void add(weft_background_queue *queue, intptr_t item)
{
    cr_assert_null(weft_background_queue_add(queue, weft_int(item)));
}

/* What it says, as a word. */
static void expect_refused(weft_error *error, const weft_error_kind *kind)
{
    cr_assert(weft_error_is(error, kind));
    weft_error_unref(error);
}

/* ---- functions ---- */

static weft_result send(void *item, void *unused)
{
    (void)unused;
    trace("%ld@%s", (long)(intptr_t)item, here());
    return weft_int(7);
}

/* Each item waits for the gate of its number. */
struct gates {
    weft_deferred *gate[4];
};

static struct gates gates_new(void)
{
    struct gates gates;

    for (int i = 0; i < 4; i++)
        gates.gate[i] = stoppable(cancel_done, "canceller");
    return gates;
}

static void gates_free(struct gates *gates)
{
    for (int i = 0; i < 4; i++)
        weft_deferred_unref(gates->gate[i]);
}

static void open_gate(struct gates *gates, int number)
{
    weft_deferred_callback(gates->gate[number], weft_ok(NULL));
    settle();
}

static weft_result send_at_gate(void *item, void *arg)
{
    const struct gates *gates = arg;
    intptr_t number = (intptr_t)item;
    weft_result result;

    trace("begin%ld", (long)number);
    result = weft_await(weft_deferred_ref(gates->gate[number]));
    trace("end%ld", (long)number);
    return result;
}

/* ---- order ---- */

Test(background_queue, a17_items_are_processed_one_at_a_time_in_the_order_in_which_they_were_added)
{
    struct gates gates = gates_new();
    weft_background_queue *queue = weft_background_queue_new(&sending, send_at_gate, &gates, usual);

    begin();
    for (int i = 0; i < 3; i++)
        add(queue, i);
    open_gate(&gates, 1);
    cr_assert_str_eq(trace_text(), "begin0", "the second waits for the first, though nothing holds it up");
    cr_assert_eq(weft_background_queue_get_waiting(queue), 2);
    open_gate(&gates, 0);
    cr_assert_str_eq(trace_text(), "end0 begin1 end1 begin2");
    add(queue, 3);
    open_gate(&gates, 2);
    open_gate(&gates, 3);
    cr_assert_str_eq(trace_text(), "end2 begin3 end3");
    weft_background_queue_free(queue);
    end();
    gates_free(&gates);
}

Test(background_queue, a17_no_item_is_processed_before_its_add_returns)
{
    weft_background_queue *queue = weft_background_queue_new(&sending, send, NULL, usual);

    begin();
    cr_assert(!weft_background_queue_is_consumed(queue));
    add(queue, 1);
    cr_assert_str_eq(trace_text(), "");
    cr_assert(weft_background_queue_is_consumed(queue));
    settle();
    cr_assert_str_eq(trace_text(), "1@sending-1");
    add(queue, 2);
    cr_assert_str_eq(trace_text(), "", "nor by a consumer that is idle");
    settle();
    cr_assert_str_eq(trace_text(), "2@sending-1");
    weft_background_queue_free(queue);
    end();
}

static weft_result send_later(void *item, void *arg)
{
    struct gates *gates = arg;

    trace("begin%ld", (long)(intptr_t)item);
    return weft_later(noted(weft_deferred_ref(gates->gate[(intptr_t)item]), "later"));
}

Test(background_queue, a17_a_deferred_that_the_function_returns_is_waited_for)
{
    struct gates gates = gates_new();
    weft_background_queue *queue = weft_background_queue_new(&sending, send_later, &gates, usual);

    begin();
    add(queue, 0);
    add(queue, 1);
    settle();
    cr_assert_str_eq(trace_text(), "begin0");
    open_gate(&gates, 0);
    cr_assert_str_eq(trace_text(), "later=nil begin1");
    open_gate(&gates, 1);
    weft_background_queue_free(queue);
    end();
    gates_free(&gates);
}

static weft_result count_item(void *item, void *arg)
{
    (void)item;
    ++*(int *)arg;
    return weft_ok(NULL);
}

/* In each turn of the loop: how many were processed since the one before. */
static weft_result watch(void *arg)
{
    const int *processed = arg;
    int most = 0;

    for (int seen = 0; seen < 1700;) {
        weft_result_drop(weft_sleep(0));
        if (*processed - seen > most)
            most = *processed - seen;
        seen = *processed;
    }
    return weft_int(most);
}

Test(background_queue, a17_after_each_500_items_the_loop_turns)
{
    int processed = 0;
    weft_background_queue *queue = weft_background_queue_new(&sending, count_item, &processed, usual);

    begin();
    for (int i = 0; i < 1700; i++)
        add(queue, i);
    trace("%s", told(run_until(weft_spawn(watch, &processed))));
    cr_assert_str_eq(trace_text(), "500");
    weft_background_queue_free(queue);
    end();
}

/* ---- contexts ---- */

Test(background_queue, a17_items_are_the_processes_own_affair_and_not_charged_to_who_added_them)
{
    weft_background_queue *queue = weft_background_queue_new(&sending, send, NULL, usual);
    weft_context *previous;

    begin();
    previous = enter("GET-1");
    add(queue, 1);
    cr_assert_str_eq(here(), "GET-1");
    leave(previous);
    cr_assert_eq(weft_live_counts_get().contexts, 1, "that of the consumer: an item holds no context");
    settle();
    cr_assert_str_eq(trace_text(), "1@sending-1");
    cr_assert_eq(weft_description_get_counts(&sending).started, 1);
    cr_assert_eq(weft_description_get_counts(&sending).in_flight, 1);
    weft_background_queue_free(queue);
    end();
    cr_assert_eq(weft_description_get_counts(&sending).in_flight, 0);
}

static weft_result send_and_go_astray(void *item, void *unused)
{
    weft_result result = send(item, unused);

    weft_context_unref(weft_context_set(weft_context_new("astray")));
    return result;
}

Test(background_queue, a17_a_context_that_an_item_leaves_behind_is_not_the_next_ones)
{
    weft_background_queue *queue = weft_background_queue_new(&sending, send_and_go_astray, NULL, usual);

    begin();
    log_capture();
    add(queue, 1);
    add(queue, 2);
    settle();
    cr_assert_str_eq(trace_text(), "1@sending-1 2@sending-1");
    cr_assert_eq(log_count("astray"), 2, "%s", log_text());
    weft_background_queue_free(queue);
    end();
}

/* ---- failures ---- */

static weft_result fail_or_send(void *item, void *unused)
{
    return (intptr_t)item < 0 ? broken() : send(item, unused);
}

Test(background_queue, a17_an_items_error_is_logged_in_the_processes_context_and_the_next_goes_on)
{
    weft_background_queue *queue = weft_background_queue_new(&sending, fail_or_send, NULL, usual);

    begin();
    log_capture();
    add(queue, -1);
    add(queue, 2);
    add(queue, -3);
    add(queue, 4);
    settle();
    cr_assert_str_eq(trace_text(), "2@sending-1 4@sending-1");
    cr_assert_eq(log_count("ERROR sending-1 an item of the background queue sending failed: broken: it broke"), 2, "%s",
                 log_text());
    cr_assert_eq(log_count(""), 2);
    weft_background_queue_free(queue);
    end();
}

/* ---- cancels ---- */

Test(background_queue, a17_a_cancel_ends_the_consumer_and_the_next_add_goes_on_with_the_items_that_are_left)
{
    struct gates gates = gates_new();
    weft_background_queue *queue = weft_background_queue_new(&sending, send_at_gate, &gates, usual);

    begin();
    for (int i = 0; i < 3; i++)
        add(queue, i);
    settle();
    log_capture();
    weft_background_queue_cancel(queue);
    weft_background_queue_cancel(queue);
    run_all();
    cr_assert_str_eq(trace_text(), "begin0 canceller end0");
    cr_assert(!weft_background_queue_is_consumed(queue));
    cr_assert_eq(weft_background_queue_get_waiting(queue), 2);
    cr_assert_eq(log_count("WARN sending-1 the consumer of the background queue sending was cancelled: 2 items wait"), 1,
                 "%s", log_text());
    cr_assert_eq(log_count("INFO sending-1 the background process sending was cancelled: cancelled: "), 1, "%s", log_text());
    cr_assert_eq(log_count(""), 2, "an item that is cancelled has not failed: %s", log_text());
    for (int i = 1; i < 4; i++)
        weft_deferred_callback(gates.gate[i], weft_ok(NULL));
    add(queue, 3);
    settle();
    cr_assert_str_eq(trace_text(), "begin1 end1 begin2 end2 begin3 end3");
    weft_background_queue_free(queue);
    end();
    gates_free(&gates);
}

Test(background_queue, a17_cancelling_a_queue_without_a_consumer_is_nothing_for_the_next_one)
{
    weft_background_queue *queue = weft_background_queue_new(&sending, send, NULL, usual);

    begin();
    weft_background_queue_cancel(queue);
    add(queue, 1);
    settle();
    cr_assert_str_eq(trace_text(), "1@sending-1");
    weft_background_queue_cancel(queue);
    run_all();
    weft_background_queue_cancel(queue);
    add(queue, 2);
    settle();
    cr_assert_str_eq(trace_text(), "2@sending-2");
    weft_background_queue_free(queue);
    end();
}

/* The item is still in the queue when the consumer has been woken for it. */
Test(background_queue, a17_a_cancel_of_a_consumer_that_an_item_has_just_woken_costs_no_item)
{
    weft_background_queue *queue = weft_background_queue_new(&sending, send, NULL, usual);

    begin();
    add(queue, 1);
    settle();
    add(queue, 2);
    weft_background_queue_cancel(queue);
    run_all();
    cr_assert_str_eq(trace_text(), "1@sending-1");
    cr_assert_eq(weft_background_queue_get_waiting(queue), 1);
    add(queue, 3);
    settle();
    cr_assert_str_eq(trace_text(), "2@sending-2 3@sending-2");
    weft_background_queue_free(queue);
    end();
}

static weft_result handle_cancel(void *item, void *arg)
{
    weft_result_drop(send_at_gate(item, arg));
    return weft_ok(NULL);
}

Test(background_queue, a17_a_cancel_that_an_item_handles_ends_the_consumer_all_the_same)
{
    struct gates gates = gates_new();
    weft_background_queue *queue = weft_background_queue_new(&sending, handle_cancel, &gates, usual);

    begin();
    add(queue, 0);
    add(queue, 1);
    settle();
    weft_background_queue_cancel(queue);
    run_all();
    cr_assert_str_eq(trace_text(), "begin0 canceller end0");
    cr_assert_eq(weft_background_queue_get_waiting(queue), 1);
    cr_assert_eq(weft_cancellation_stats_get().swallowed, 0);
    weft_background_queue_free(queue);
    end();
    gates_free(&gates);
}

Test(background_queue, a17_a_cancellation_that_an_item_brings_ends_the_consumer)
{
    struct gates gates = gates_new();
    weft_background_queue *queue = weft_background_queue_new(&sending, send_at_gate, &gates, usual);

    begin();
    add(queue, 0);
    add(queue, 1);
    settle();
    weft_deferred_cancel(gates.gate[0]);
    run_all();
    cr_assert_str_eq(trace_text(), "begin0 canceller end0");
    cr_assert(!weft_background_queue_is_consumed(queue));
    cr_assert_eq(weft_background_queue_get_waiting(queue), 1);
    weft_background_queue_free(queue);
    end();
    gates_free(&gates);
}

/* ---- idling ---- */

static weft_test_clock *manual;
static weft_clock *real;

static void begin_by_hand(void)
{
    begin();
    manual = weft_test_clock_new();
    real = weft_clock_set(weft_test_clock_get_clock(manual));
}

static void end_by_hand(void)
{
    weft_clock_set(real);
    end();
    weft_test_clock_free(manual);
}

static void pass(double seconds)
{
    weft_test_clock_advance(manual, seconds);
    settle();
}

Test(background_queue, a17_the_consumer_ends_when_it_has_been_idle_for_a_second_and_the_next_add_starts_another)
{
    weft_background_queue *queue = weft_background_queue_new(&sending, send, NULL, usual);

    begin_by_hand();
    log_capture();
    add(queue, 1);
    settle();
    pass(0.9);
    add(queue, 2);
    settle();
    pass(0.999);
    cr_assert(weft_background_queue_is_consumed(queue), "an item is a new beginning");
    pass(0.001);
    cr_assert(!weft_background_queue_is_consumed(queue));
    cr_assert_eq(weft_live_counts_get().fibers, 0);
    cr_assert_eq(weft_live_counts_get().contexts, 0);
    cr_assert_eq(weft_live_counts_get().timers, 0);
    add(queue, 3);
    settle();
    cr_assert_str_eq(trace_text(), "1@sending-1 2@sending-1 3@sending-2");
    weft_background_queue_cancel(queue);
    run_all();
    cr_assert_eq(log_count("sending-1"), 0, "to end so is no event: %s", log_text());
    weft_background_queue_free(queue);
    end_by_hand();
}

Test(background_queue, a17_how_long_the_consumer_idles_is_an_option)
{
    weft_background_queue *patient =
        weft_background_queue_new(&sending, send, NULL, (weft_background_queue_options){.idle_seconds = 60});
    weft_background_queue *hasty =
        weft_background_queue_new(&sending, send, NULL, (weft_background_queue_options){.idle_seconds = -1});

    begin_by_hand();
    add(patient, 1);
    add(hasty, 2);
    settle();
    cr_assert_str_eq(trace_text(), "1@sending-1 2@sending-2");
    pass(0);
    cr_assert(!weft_background_queue_is_consumed(hasty));
    pass(59.9);
    cr_assert(weft_background_queue_is_consumed(patient));
    pass(0.1);
    cr_assert(!weft_background_queue_is_consumed(patient));
    weft_background_queue_free(patient);
    weft_background_queue_free(hasty);
    end_by_hand();
}

Test(background_queue, a17_an_item_that_comes_when_the_time_has_just_run_out_is_processed_by_the_same_consumer)
{
    weft_background_queue *queue = weft_background_queue_new(&sending, send, NULL, usual);

    begin_by_hand();
    add(queue, 1);
    settle();
    weft_test_clock_advance(manual, 1); /* the consumer is to go on, and has not yet */
    add(queue, 2);
    settle();
    cr_assert_str_eq(trace_text(), "1@sending-1 2@sending-1");
    cr_assert(weft_background_queue_is_consumed(queue), "and it waits anew");
    weft_background_queue_free(queue);
    end_by_hand();
}

/* ---- items ---- */

Test(background_queue, a17_a_full_queue_is_busy_and_drops_what_it_does_not_take)
{
    struct gates gates = gates_new();
    struct value late = {.name = "late"};
    weft_background_queue *queue =
        weft_background_queue_new(&sending, send_at_gate, &gates, (weft_background_queue_options){.limit = 2});

    begin();
    add(queue, 0);
    settle();
    add(queue, 1);
    add(queue, 2);
    expect_refused(weft_background_queue_add(queue, value_of(&late)), &WEFT_BUSY);
    cr_assert_eq(late.drops, 1);
    open_gate(&gates, 0);
    add(queue, 3);
    expect_refused(weft_background_queue_add(queue, weft_int(4)), &WEFT_BUSY);
    for (int i = 1; i < 4; i++)
        open_gate(&gates, i);
    cr_assert_str_eq(trace_text(), "begin0 end0 begin1 end1 begin2 end2 begin3 end3");
    weft_background_queue_free(queue);
    end();
    gates_free(&gates);
}

static weft_result say_drops(void *item, void *deferred)
{
    const struct value *value = item;

    trace("%s:%d", value->name, value->drops);
    return weft_later(weft_deferred_ref(deferred));
}

Test(background_queue, a17_an_item_is_dropped_when_it_has_been_processed)
{
    struct value value = {.name = "a"};
    weft_deferred *gate = pending();
    weft_background_queue *queue = weft_background_queue_new(&sending, say_drops, gate, usual);

    begin();
    cr_assert_null(weft_background_queue_add(queue, value_of(&value)));
    settle();
    cr_assert_str_eq(trace_text(), "a:0");
    cr_assert_eq(value.drops, 0, "what the function returned may still use it");
    weft_deferred_callback(gate, weft_ok(NULL));
    settle();
    cr_assert_eq(value.drops, 1);
    weft_background_queue_free(queue);
    end();
    cr_assert_eq(value.drops, 1);
    weft_deferred_unref(gate);
}

Test(background_queue, a17_errors_and_deferreds_are_no_items_and_without_a_reactor_there_is_no_consumer)
{
    struct value value = {.name = "a"};
    weft_background_queue *queue = weft_background_queue_new(&sending, send, NULL, usual);

    expect_refused(weft_background_queue_add(queue, value_of(&value)), &WEFT_MISUSE);
    cr_assert_eq(value.drops, 1);
    begin();
    expect_refused(weft_background_queue_add(queue, broken()), &WEFT_MISUSE);
    expect_refused(weft_background_queue_add(queue, weft_later(done(weft_ok(NULL)))), &WEFT_MISUSE);
    cr_assert(!weft_background_queue_is_consumed(queue));
    end();
    weft_background_queue_free(queue);
}

Test(background_queue, a17_an_item_that_is_cancelled_or_fails_is_dropped_too)
{
    struct value first = {.name = "first"}, second = {.name = "second"};
    weft_deferred *gate = stoppable(cancel_done, "canceller"), *failed = done(broken());
    weft_background_queue *cancelled = weft_background_queue_new(&sending, say_drops, gate, usual);
    weft_background_queue *failing = weft_background_queue_new(&sending, say_drops, failed, usual);

    begin();
    log_capture();
    cr_assert_null(weft_background_queue_add(cancelled, value_of(&first)));
    cr_assert_null(weft_background_queue_add(failing, value_of(&second)));
    settle();
    cr_assert_eq(second.drops, 1);
    weft_background_queue_cancel(cancelled);
    settle();
    cr_assert_eq(first.drops, 1);
    weft_background_queue_free(cancelled);
    weft_background_queue_free(failing);
    end();
    weft_deferred_unref(gate);
    weft_deferred_unref(failed);
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

Test(background_queue, a17_an_item_for_which_there_was_no_fiber_is_processed_with_the_next)
{
    weft_background_queue *queue = weft_background_queue_new(&sending, send, NULL, usual);
    weft_error *error;

    if (!limit_memory((rlim_t)1 << 46))
        return;
    begin();
    log_capture();
    limit_memory(1);
    error = weft_background_queue_add(queue, weft_int(1));
    limit_memory(RLIM_INFINITY);
    cr_assert_null(error);
    cr_assert(!weft_background_queue_is_consumed(queue));
    cr_assert_eq(log_count("ERROR sending-1 the background process sending failed: os_error"), 1, "%s", log_text());
    add(queue, 2);
    settle();
    cr_assert_str_eq(trace_text(), "1@sending-2 2@sending-2");
    weft_background_queue_free(queue);
    end();
}
#endif

/* ---- ends ---- */

Test(background_queue, a17_a_queue_that_was_never_used_is_freed)
{
    weft_background_queue *queue = weft_background_queue_new(&sending, send, NULL, usual);

    cr_assert_null(weft_background_queue_free(queue));
    cr_assert_null(weft_background_queue_free(NULL));
    conclude(weft_background_queue_close(weft_background_queue_new(&sending, send, NULL, usual)), "closed");
    cr_assert_str_eq(trace_text(), "closed=nil");
}

Test(background_queue, a17_closing_drops_what_waits_cancels_the_item_under_way_and_tells_when_that_has_ended)
{
    struct gates gates = gates_new();
    struct value waiting = {.name = "waiting"}, late = {.name = "late"};
    weft_background_queue *queue = weft_background_queue_new(&sending, send_at_gate, &gates, usual);
    weft_deferred *closed;

    begin();
    add(queue, 0);
    cr_assert_null(weft_background_queue_add(queue, value_of(&waiting)));
    settle();
    cr_assert_str_eq(trace_text(), "begin0");
    closed = noted(weft_background_queue_close(queue), "closed");
    cr_assert_eq(waiting.drops, 1);
    expect_refused(weft_background_queue_add(queue, value_of(&late)), &WEFT_SHUTDOWN);
    cr_assert_eq(late.drops, 1);
    cr_assert_str_eq(trace_text(), "canceller");
    run_all();
    cr_assert_str_eq(trace_text(), "end0 closed=nil");
    weft_deferred_unref(closed);
    end();
    gates_free(&gates);
}

Test(background_queue, a17_freeing_wakes_an_idle_consumer_and_one_that_has_not_begun)
{
    weft_background_queue *idle = weft_background_queue_new(&sending, send, NULL, usual);
    weft_background_queue *fresh = weft_background_queue_new(&sending, send, NULL, usual);

    begin();
    add(idle, 1);
    settle();
    add(fresh, 2);
    add(idle, 3);
    weft_background_queue_free(fresh);
    weft_background_queue_free(idle);
    run_all();
    cr_assert_str_eq(trace_text(), "1@sending-1", "what waited was dropped, also that for which it was woken");
    end();
}

struct suicide {
    weft_background_queue *queue;
    struct value value;
};

static weft_result free_queue(void *item, void *arg)
{
    struct suicide *suicide = arg;

    (void)item;
    trace("freeing");
    weft_background_queue_free(suicide->queue);
    trace("drops=%d", suicide->value.drops);
    return weft_ok(NULL);
}

Test(background_queue, a17_the_function_may_free_its_queue)
{
    struct suicide suicide = {.value = {.name = "second"}};

    begin();
    suicide.queue = weft_background_queue_new(&sending, free_queue, &suicide, usual);
    add(suicide.queue, 1);
    cr_assert_null(weft_background_queue_add(suicide.queue, value_of(&suicide.value)));
    run_all();
    cr_assert_str_eq(trace_text(), "freeing drops=1");
    end();
}

static weft_result add_again(void *item, void *arg)
{
    struct suicide *suicide = arg;
    intptr_t left = (intptr_t)item;

    trace("%ld", (long)left);
    if (left)
        add(suicide->queue, left - 1);
    return weft_ok(NULL);
}

Test(background_queue, a17_the_function_may_add_to_its_queue)
{
    struct suicide suicide;

    begin();
    suicide.queue = weft_background_queue_new(&sending, add_again, &suicide, usual);
    add(suicide.queue, 3);
    settle();
    cr_assert_str_eq(trace_text(), "3 2 1 0");
    weft_background_queue_free(suicide.queue);
    end();
}

/* An idle consumer, one with an item, and what waits behind that. */
Test(background_queue, a17_a_reactor_that_is_freed_ends_consumers_and_what_is_left_goes_with_the_queue)
{
    struct gates gates = gates_new();
    struct value waiting = {.name = "waiting"};
    weft_background_queue *idle = weft_background_queue_new(&sending, send, NULL, usual);
    weft_background_queue *busy = weft_background_queue_new(&sending, send_at_gate, &gates, usual);

    begin();
    add(idle, 1);
    add(busy, 0);
    cr_assert_null(weft_background_queue_add(busy, value_of(&waiting)));
    settle();
    log_capture();
    end();
    cr_assert_str_eq(trace_text(), "1@sending-1 begin0 canceller end0");
    cr_assert_eq(log_count("was cancelled: shutdown"), 2, "%s", log_text());
    cr_assert_eq(log_count("was cancelled: 1 items wait"), 1, "%s", log_text());
    cr_assert(!weft_background_queue_is_consumed(idle) && !weft_background_queue_is_consumed(busy));
    cr_assert_eq(waiting.drops, 0);
    weft_background_queue_free(idle);
    weft_background_queue_free(busy);
    cr_assert_eq(waiting.drops, 1);
    gates_free(&gates);
}

static weft_result add_at_the_end(void *queue)
{
    weft_result result = weft_sleep(1000);

    cr_assert_null(weft_background_queue_add(queue, weft_int(2)));
    return result;
}

/* Whichever of the three goes on first. What comes while the program ends may be processed, but by a new consumer. */
Test(background_queue, a17_an_item_that_comes_when_the_consumer_was_cancelled_is_not_for_that_one)
{
    weft_background_queue *queue = weft_background_queue_new(&sending, send, NULL, usual);

    begin();
    weft_deferred_unref(weft_spawn(add_at_the_end, queue));
    add(queue, 1);
    settle();
    weft_deferred_unref(weft_spawn(add_at_the_end, queue));
    cr_assert_str_eq(trace_text(), "1@sending-1");
    log_capture();
    end();
    cr_assert_eq(log_count("WARN sending-1 the consumer"), 1, "%s", log_text());
    cr_assert(!strstr(trace_text(), "@sending-1"));
    weft_background_queue_free(queue);
}

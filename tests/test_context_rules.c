/* The rules of Synapse's log contexts, as weft keeps them: L1 to L4, L7, L13, L15, L16, L19 and L22. L17 and L18 are in
 * test_background.c. Where weft does otherwise the comment says so. */
#include "tests/support/fibers.h"
#include "tests/support/test.h"

#include <string.h>

#include "lib/context.h"

static const char *here(void)
{
    return weft_context_get_name(weft_context_current());
}

/* ---- L1: the slot ---- */

static void look_in_thread(void *unused)
{
    weft_context *previous;

    (void)unused;
    cr_assert_null(weft_context_current());
    previous = enter("worker");
    cr_assert_null(previous);
    cr_assert_str_eq(here(), "worker");
    leave(previous);
}

/* None is NULL, which may be set, and not an object of its own. */
Test(context_rules, l01_a_thread_has_one_current_context_and_begins_in_none)
{
    weft_context *previous = enter("main"), *mains;

    cr_assert_null(previous);
    in_thread(look_in_thread, NULL);
    cr_assert_str_eq(here(), "main");
    mains = weft_context_set(NULL);
    cr_assert_null(weft_context_current());
    cr_assert_null(weft_context_set(mains));
    leave(previous);
}

/* ---- L2: setting ---- */

Test(context_rules, l02_setting_the_current_one_reads_no_clock_and_changes_nothing)
{
    weft_context *context = weft_context_new("GET-1");
    uint64_t mark;

    cr_assert_null(weft_context_set(weft_context_ref(context)));
    mark = weft__thread.books.mark;
    cr_assert_eq(weft_context_set(weft_context_ref(context)), context);
    cr_assert_eq(weft__thread.books.mark, mark, "the stretch goes on");
    weft_context_unref(context);
    cr_assert_eq(weft_context_current(), context);
    cr_assert_eq(weft_context_faults_get().left_behind, 0);
    weft_context_unref(weft_context_set(NULL));
    cr_assert_eq(weft_live_counts_get().contexts, 1, "one reference is left: ours");
    weft_context_unref(context);
}

static volatile unsigned sink;

static void work(void)
{
    for (unsigned i = 0; i < 2000; i++)
        sink += i;
}

/* One reading ends the old one's stretch and begins the new one's. */
Test(context_rules, l02_between_two_contexts_no_time_is_lost_and_none_counted_twice)
{
    weft_context *contexts[2] = {weft_context_new("a"), weft_context_new("b")};
    weft_accounts before = weft_accounts_get(), after;
    weft_usage usage = {0};

    for (int i = 0; i < 1000; i++) {
        weft_context_unref(weft_context_set(weft_context_ref(contexts[i % 2])));
        work();
    }
    weft_context_unref(weft_context_set(NULL));
    after = weft_accounts_get();
    cr_assert_eq(after.contexts_ns + after.none_ns, after.thread_ns);
    for (int i = 0; i < 2; i++) {
        usage = weft_context_get_usage(contexts[i]);
        before.contexts_ns += usage.user_ns + usage.system_ns;
        cr_assert_gt(usage.user_ns + usage.system_ns, 0);
        weft_context_unref(contexts[i]);
    }
    cr_assert_eq(before.contexts_ns, after.contexts_ns, "what the two have used is what all contexts have");
}

/* ---- L3: none ---- */

static void note_record(const weft_log_record *record, void *unused)
{
    (void)unused;
    trace("%s:%s", record->context, record->message);
}

Test(context_rules, l03_none_has_a_name_in_the_log_and_no_fields)
{
    weft_field field;

    weft_log_set_sink(note_record, NULL);
    weft_log_info("x");
    cr_assert_str_eq(trace_text(), "-:x");
    cr_assert_null(weft_context_get_field(NULL, "request"));
    cr_assert_null(weft_context_get_field(NULL, "requester"));
    cr_assert_eq(weft_context_get_fields(NULL, &field, 1), 0);
}

Test(context_rules, l03_what_is_done_in_none_is_charged_to_nobody)
{
    weft_context *context = weft_context_new("GET-1");
    weft_usage more = {.db_transactions = 1, .bytes_out = 5}, usage;
    int64_t none_before = weft_accounts_get().none_ns;

    work();
    weft_context_charge(NULL, &more);
    usage = weft_context_get_usage(context);
    cr_assert_eq(usage.user_ns + usage.system_ns + usage.db_transactions + usage.bytes_out, 0);
    cr_assert_gt(weft_accounts_get().none_ns, none_before);
    usage = weft_context_get_usage(NULL);
    cr_assert_eq(usage.db_transactions, 1, "it is not lost, but nobody's");
    weft_context_unref(context);
}

/* ---- L4: making one ---- */

static bool is_zero(weft_usage usage)
{
    static const weft_usage zero;

    return !memcmp(&usage, &zero, sizeof usage);
}

Test(context_rules, l04_a_new_context_has_used_nothing_has_not_ended_and_is_not_current)
{
    weft_context *context = weft_context_new("GET-1");

    cr_assert(is_zero(weft_context_get_usage(context)));
    cr_assert_not(weft_context_has_ended(context));
    cr_assert_null(weft_context_current());
    weft_context_unref(context);
}

Test(context_rules, l04_a_child_has_its_parents_request_and_fields_unless_it_is_given_its_own)
{
    weft_context *parent = weft_context_new("GET-1"), *child = weft_context_new_child(parent, NULL);

    weft_context_set_field(parent, "requester", "@ann");
    cr_assert_str_eq(weft_context_get_name(child), "GET-1");
    cr_assert_str_eq(weft_context_get_field(child, "requester"), "@ann");
    weft_context_set_field(child, "request", "batch-1");
    weft_context_set_field(child, "requester", "@bob");
    cr_assert_str_eq(weft_context_get_name(child), "batch-1");
    cr_assert_str_eq(weft_context_get_field(child, "requester"), "@bob");
    cr_assert_str_eq(weft_context_get_name(parent), "GET-1");
    cr_assert_str_eq(weft_context_get_field(parent, "requester"), "@ann");
    weft_context_unref(parent);
    cr_assert_str_eq(weft_context_get_name(child), "batch-1");
    weft_context_unref(child);
}

/* Synapse notes what is current when a context is made, and goes back to that, wherever it is entered. */
Test(context_rules, l04_what_is_put_back_is_what_was_current_at_the_entrance_and_not_at_the_making)
{
    weft_context *first = enter("maker"), *made = weft_context_new("GET-1"), *second;

    leave(first);
    second = enter("enterer");
    log_capture();
    weft_preserve_context(made)
        trace("%s", here());
    trace("%s", here());
    leave(second);
    weft_context_unref(made);
    cr_assert_str_eq(trace_text(), "GET-1 enterer");
    cr_assert_eq(log_count(""), 0, "and nothing is wrong with that");
}

/* ---- L7: entering what should not be entered ---- */

static void enter_foreign(void *context)
{
    weft_context *own = weft_context_set(weft_context_new("own"));

    own = weft_context_set(context);
    cr_assert_str_eq(weft_context_get_name(own), "own");
    weft_context_unref(own);
    trace("%s", here());
    cr_assert_eq(weft_context_faults_get().foreign, 1);
}

Test(context_rules, l07_a_context_of_another_thread_is_refused_with_an_error)
{
    weft_context *context = weft_context_new("GET-1");

    log_capture();
    in_thread(enter_foreign, context);
    cr_assert_str_eq(trace_text(), "-");
    cr_assert_eq(log_count("misuse: a context of thread"), 1, "%s", log_text());
    cr_assert_eq(weft_context_faults_get().foreign, 0, "each thread counts its own");
    weft_context_unref(context);
}

Test(context_rules, l07_one_that_has_ended_is_entered_all_the_same_and_warned_of_once)
{
    weft_context *context = weft_context_new("GET-1");

    begin();
    weft_context_end(context);
    log_capture();
    for (int i = 0; i < 10000; i++) {
        weft_accounts_get(); /* it is seen where a window of the books begins, which this is */
        weft_preserve_context(context)
            cr_assert_str_eq(here(), "GET-1");
        if (weft_context_faults_get().used_after_end && i > 100)
            break;
    }
    settle();
    cr_assert_eq(log_count("WARN GET-1 the context GET-1 is used after its end"), 1, "%s", log_text());
    cr_assert_eq(weft_context_faults_get().used_after_end, 1);
    weft_context_unref(context);
    end();
}

/* Synapse warns of the second: there a context runs once at a time. */
Test(context_rules, l07_several_fibers_may_be_in_one_context_at_a_time)
{
    weft_deferred *gates[2] = {pending(), pending()}, *fibers[2];
    weft_context *previous;

    begin();
    log_capture();
    previous = enter("GET-1");
    for (int i = 0; i < 2; i++)
        fibers[i] = weft_spawn(wait_for, weft_deferred_ref(gates[i]));
    leave(previous);
    for (int i = 0; i < 2; i++) {
        weft_deferred_callback(gates[i], weft_int(i));
        weft_deferred_unref(gates[i]);
        weft_result_drop(run_until(fibers[i]));
    }
    cr_assert_str_eq(trace_text(), "wait=0 wait=1");
    cr_assert_eq(log_count(""), 0, "%s", log_text());
    end();
}

/* ---- L13: nested ones ---- */

Test(context_rules, l13_a_nested_context_has_its_parents_name_with_a_suffix_and_is_charged_with_it)
{
    weft_context *parent = weft_context_new("GET-1"), *child = weft_context_new_child(parent, "fetch");
    weft_context *grandchild = weft_context_new_child(child, "1");
    weft_usage more = {.db_transactions = 2};

    cr_assert_str_eq(weft_context_get_name(child), "GET-1-fetch");
    cr_assert_str_eq(weft_context_get_name(grandchild), "GET-1-fetch-1");
    weft_context_charge(grandchild, &more);
    cr_assert_eq(weft_context_get_usage(grandchild).db_transactions, 2);
    cr_assert_eq(weft_context_get_usage(child).db_transactions, 2);
    cr_assert_eq(weft_context_get_usage(parent).db_transactions, 2);
    weft_context_unref(parent);
    weft_context_unref(child);
    cr_assert_eq(weft_live_counts_get().contexts, 3, "a child holds its parents");
    weft_context_unref(grandchild);
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

Test(context_rules, l13_below_none_it_is_a_context_by_itself)
{
    weft_context *child = weft_context_new_child(NULL, "fetch"), *unnamed = weft_context_new_child(NULL, NULL);
    weft_usage more = {.db_transactions = 2};

    cr_assert_str_eq(weft_context_get_name(child), "fetch");
    cr_assert_str_eq(weft_context_get_name(unnamed), "-");
    weft_context_charge(child, &more);
    cr_assert_eq(weft_context_get_usage(NULL).db_transactions, 0);
    weft_context_unref(child);
    weft_context_unref(unnamed);
}

/* ---- L15: one way for all that is wrong ---- */

static void leave_in_timer(weft_timer *timer, void *unused)
{
    (void)timer, (void)unused;
    weft_context_unref(weft_context_set(weft_context_new("astray")));
}

static int lines_of_level[WEFT_LOG_ERROR + 1];

static void count_levels(const weft_log_record *record, void *unused)
{
    (void)unused;
    __atomic_add_fetch(&lines_of_level[record->level], 1, __ATOMIC_RELAXED);
}

static void set_foreign(void *context)
{
    weft_context_unref(weft_context_set(context));
    cr_assert_eq(weft_context_faults_get().foreign, 1);
}

/* Tests may replace the sink to fail, or look at the counts. */
Test(context_rules, l15_every_fault_is_a_line_in_the_log_and_is_counted)
{
    weft_context *context = weft_context_new("GET-1");
    weft_timer timer;

    begin();
    weft_log_set_sink(count_levels, NULL);
    weft_preserve_context(context)
        weft_context_unref(weft_context_set(NULL));
    cr_assert_eq(weft_context_faults_get().left_behind, 1, "in a block");
    cr_assert_eq(lines_of_level[WEFT_LOG_ERROR], 1);
    weft_timer_init(&timer, leave_in_timer, NULL);
    weft_timer_start(&timer, weft_clock_current(), 0);
    settle();
    cr_assert_eq(weft_context_faults_get().left_behind, 2, "by a callback");
    cr_assert_eq(lines_of_level[WEFT_LOG_ERROR], 2);
    in_thread(set_foreign, context);
    cr_assert_eq(lines_of_level[WEFT_LOG_ERROR], 3);
    weft_context_end(context);
    settle();
    for (int i = 0; i < 10000 && !weft_context_faults_get().used_after_end; i++) {
        weft_accounts_get(); /* it is seen where a window of the books begins, which this is */
        weft_preserve_context(context)
            work();
    }
    settle();
    cr_assert_eq(weft_context_faults_get().used_after_end, 1);
    cr_assert_eq(lines_of_level[WEFT_LOG_WARN], 1);
    cr_assert_eq(lines_of_level[WEFT_LOG_ERROR], 3);
    weft_context_unref(context);
    end();
}

/* ---- L16: functions that return deferreds ---- */

/* In Synapse the second clears its caller's context. */
Test(context_rules, l16_a_function_keeps_its_callers_context_whether_its_deferred_is_complete_or_not)
{
    weft_deferred *gate = pending(), *complete, *to_come;
    weft_context *previous;

    begin();
    previous = enter("GET-1");
    complete = weft_spawn(wait_for, done(weft_int(1)));
    trace("%s", here());
    to_come = weft_spawn(wait_for, weft_deferred_ref(gate));
    trace("%s", here());
    context_noted(to_come, "callback");
    leave(previous);
    previous = enter("firer");
    weft_deferred_callback(gate, weft_int(2));
    weft_deferred_unref(gate);
    leave(previous);
    weft_result_drop(run_until(to_come));
    conclude(complete, "complete");
    cr_assert_str_eq(trace_text(), "wait=1 GET-1 GET-1 wait=2 callback@GET-1 complete=1");
    end();
}

/* ---- L19: firing and cancelling ---- */

static weft_result wait_noted(void *deferred)
{
    weft_result result = weft_await(deferred);

    trace("fiber@%s", here());
    return result;
}

/* In Synapse they run in the firer's context, and may leave it in another. */
Test(context_rules, l19_what_is_fired_or_cancelled_runs_in_its_own_context_and_the_firers_stays)
{
    begin();
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        weft_deferred *d = stoppable(cancel_done, "canceller"), *fiber = spawn_in("GET-1", wait_noted, weft_deferred_ref(d));
        weft_deferred *chained = context_noted(waiting_for(fiber), "chained");
        weft_context *previous = enter("firer");

        if (cancelled)
            weft_deferred_cancel(chained);
        else
            weft_deferred_callback(d, weft_int(1));
        trace("firer@%s", here());
        settle();
        trace("firer@%s", here());
        leave(previous);
        weft_deferred_unref(d);
        weft_deferred_unref(fiber);
        conclude(chained, "result");
    }
    cr_assert_str_eq(trace_text(), "firer@firer fiber@GET-1 chained@- firer@firer result=1 "
                                   "canceller firer@firer fiber@GET-1 chained@- firer@firer result=!cancelled");
    end();
}

/* ---- L22: orphans ---- */

static weft_result wait_preserved(void *deferred)
{
    weft_context *request = weft_context_current();
    weft_result result = weft_ok(NULL);

    weft_preserve_context(NULL) {
        result = weft_await(deferred);
        trace("inside@%s", here());
    }
    cr_assert_eq(weft_context_current(), request);
    trace("clean-up@%s", here());
    weft_result_drop(result);
    return weft_ok(NULL);
}

/* In Synapse its clean-up makes a dead request's context current in whatever runs when it is collected. */
Test(context_rules, l22_an_orphaned_fiber_cleans_up_in_its_own_context_and_touches_no_other)
{
    weft_deferred *d = pending();
    weft_context *previous;

    begin();
    weft_deferred_unref(spawn_in("GET-1", wait_preserved, weft_deferred_ref(d)));
    previous = enter("other");
    weft_deferred_unref(d);
    trace("other@%s", here());
    settle();
    trace("other@%s", here());
    leave(previous);
    cr_assert_null(weft_context_current());
    cr_assert_str_eq(trace_text(), "other@other inside@- clean-up@GET-1 other@other");
    cr_assert_eq(weft_live_counts_get().contexts, 0);
    end();
}

/* Cancelling: cancellers and what they answer, the way down a chain and back up, the one late result. */
#include "tests/support/test.h"
#include "tests/support/values.h"

/* ---- without a canceller ---- */

Test(deferred_cancel, r27_without_a_canceller_fires_it_with_the_cancellation)
{
    weft_deferred *d = noted(pending(), "a");

    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "a=!cancelled");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_DONE);
    weft_deferred_unref(d);
}

Test(deferred_cancel, names_where_it_was_asked)
{
    weft_deferred *d = pending();
    int line = __LINE__ + 1;
    weft_deferred_cancel(d);
    weft_result result = weft_deferred_take_result(d);

    cr_assert_eq(weft_error_get_place(weft_failed(result))->line, line);
    weft_result_drop(result);
    weft_deferred_unref(d);
}

Test(deferred_cancel, says_why_when_asked_with_a_reason)
{
    weft_deferred *d = pending();
    weft_error *reason = weft_error_new(&WEFT_CLIENT_GONE, "it hung up");
    weft_result result;

    weft_deferred_cancel_with(d, reason);
    result = weft_deferred_take_result(d);
    cr_assert(weft_error_same(weft_failed(result), reason));
    cr_assert(weft_error_is(weft_failed(result), &WEFT_CLIENT_GONE));
    weft_result_drop(result);
    weft_deferred_unref(d);
}

Test(deferred_cancel, r27_without_a_canceller_swallows_exactly_one_late_result)
{
    weft_deferred *value = pending(), *error = pending();

    weft_deferred_cancel(value);
    weft_deferred_cancel(error);
    cr_assert_null(weft_deferred_try_callback(value, weft_int(1)));
    cr_assert_null(weft_deferred_try_callback(error, broken()));
    log_capture();
    weft_deferred_callback(value, weft_int(1));
    weft_deferred_callback(error, broken());
    cr_assert_eq(log_count("already_called"), 2);
    conclude(value, "v");
    conclude(error, "e");
    cr_assert_str_eq(trace_text(), "v=!cancelled e=!cancelled");
}

Test(deferred_cancel, r27_drops_the_late_value_once_and_reports_no_late_error)
{
    struct value late = {.name = "late"};
    weft_deferred *value = pending(), *error = pending();

    log_capture();
    weft_deferred_cancel(value);
    weft_deferred_cancel(error);
    weft_deferred_callback(value, value_of(&late));
    weft_deferred_callback(error, broken());
    cr_assert_eq(late.drops, 1);
    cr_assert_eq(log_count("ERROR"), 0);
    weft_deferred_unref(value);
    weft_deferred_unref(error);
    cr_assert_eq(log_count("ERROR"), 0);
}

Test(deferred_cancel, r27_swallows_the_late_result_also_while_an_errback_waits)
{
    weft_deferred *inner = pending(), *d = weft_deferred_add_errback(pending(), return_later, weft_deferred_ref(inner));

    log_capture();
    weft_deferred_cancel(d);
    cr_assert_eq(weft_deferred_get_state(d), WEFT_WAITING);
    weft_deferred_callback(d, weft_int(1));
    cr_assert_eq(log_count("already_called"), 0);
    weft_deferred_callback(d, weft_int(1));
    cr_assert_eq(log_count("already_called"), 1);
    weft_deferred_callback(inner, weft_int(2));
    weft_deferred_unref(inner);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=2");
}

static weft_result fire_own_late(weft_result result, void *own)
{
    cr_assert_null(weft_deferred_try_callback(own, weft_int(1)));
    return result;
}

Test(deferred_cancel, r27_lets_an_errback_use_up_the_late_result)
{
    weft_deferred *d = pending();
    weft_error *error;

    weft_deferred_add_errback(d, fire_own_late, d);
    weft_deferred_cancel(d);
    error = weft_deferred_try_callback(d, weft_int(1));
    cr_assert(weft_error_is(error, &WEFT_ALREADY_CALLED));
    weft_error_unref(error);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=!cancelled");
}

Test(deferred_cancel, r27_late_result_is_noted_at_debug_level)
{
    weft_deferred *d = pending();

    log_capture();
    weft_deferred_cancel(d);
    weft_deferred_callback(d, weft_int(1));
    cr_assert_eq(log_count("DEBUG - a result came after the cancel"), 1);
    weft_deferred_unref(d);
}

/* ---- with a canceller ---- */

Test(deferred_cancel, r23_again_and_again_changes_nothing)
{
    weft_deferred *plain = noted(pending(), "plain"), *with = noted(stoppable(cancel_done, "canceller"), "with");

    for (int i = 0; i < 3; i++) {
        weft_deferred_cancel(plain);
        weft_deferred_cancel(with);
    }
    cr_assert_str_eq(trace_text(), "plain=!cancelled canceller with=!cancelled");
    cr_assert_null(weft_deferred_try_callback(plain, weft_int(1)), "one is still swallowed, and only one");
    log_capture();
    weft_deferred_callback(plain, weft_int(1));
    cr_assert_eq(log_count("already_called"), 1);
    weft_deferred_unref(plain);
    weft_deferred_unref(with);
}

Test(deferred_cancel, r24_runs_the_canceller_once_then_the_errbacks)
{
    weft_deferred *d = noted(stoppable(cancel_done, "canceller"), "a");

    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "canceller a=!cancelled");
    weft_deferred_unref(d);
}

Test(deferred_cancel, r24_with_a_canceller_swallows_no_late_result)
{
    weft_deferred *d = stoppable(cancel_done, "canceller");

    weft_deferred_cancel(d);
    log_capture();
    weft_deferred_callback(d, weft_int(1));
    cr_assert_eq(log_count("already_called"), 1);
    weft_deferred_unref(d);
    trace_text();
}

static weft_cancel_outcome look_around(weft_deferred *d, void *arg)
{
    weft_error *why = weft_deferred_get_cancellation(d);

    cr_assert_eq(*(weft_deferred **)arg, d);
    trace("state=%d why=%s", weft_deferred_get_state(d), weft_error_get_message(why));
    return WEFT_CANCEL_DONE;
}

Test(deferred_cancel, r24_tells_the_canceller_which_deferred_and_why)
{
    weft_deferred *d = weft_deferred_new(look_around, &d);

    weft_deferred_cancel_with(d, weft_error_new(&WEFT_SHUTDOWN, "closing"));
    cr_assert_str_eq(trace_text(), "state=0 why=closing");
    cr_assert_null(weft_deferred_get_cancellation(d));
    weft_deferred_unref(d);
}

static weft_cancel_outcome fire_value_and_say_later(weft_deferred *d, void *unused)
{
    fire_value(d, unused);
    return WEFT_CANCEL_LATER;
}

Test(deferred_cancel, r25_lets_the_canceller_fire_it_with_what_it_likes)
{
    weft_deferred *value = noted(weft_deferred_new(fire_value, NULL), "v");
    weft_deferred *error = noted(weft_deferred_new(fire_error, NULL), "e");
    weft_deferred *later = noted(weft_deferred_new(fire_value_and_say_later, NULL), "l");

    weft_deferred_cancel(value);
    weft_deferred_cancel(error);
    weft_deferred_cancel(later);
    cr_assert_str_eq(trace_text(), "v=9 e=!broken l=9");
    weft_deferred_unref(value);
    weft_deferred_unref(later);
    conclude(error, "e");
    trace_text();
}

static weft_cancel_outcome fire_value_and_say_failed(weft_deferred *d, void *unused)
{
    fire_value(d, unused);
    return WEFT_CANCEL_FAILED;
}

Test(deferred_cancel, r25_ignores_what_a_canceller_that_has_fired_it_answers)
{
    weft_cancel_fn *const cancellers[] = {fire_value, fire_value_and_say_later, fire_value_and_say_failed};

    log_capture();
    for (int i = 0; i < 3; i++) {
        weft_deferred *d = weft_deferred_new(cancellers[i], NULL);

        weft_deferred_cancel(d);
        cr_assert_null(weft_deferred_get_cancellation(d));
        weft_deferred_callback(d, weft_int(1));
        cr_assert_eq(log_count("already_called"), i + 1, "nothing is swallowed");
        conclude(d, "d");
    }
    cr_assert_str_eq(trace_text(), "d=9 d=9 d=9");
}

static weft_cancel_outcome cancel_again(weft_deferred *d, void *label)
{
    trace("%s", (const char *)label);
    weft_deferred_cancel(d);
    trace("%s_ends", (const char *)label);
    return WEFT_CANCEL_DONE;
}

Test(deferred_cancel, r26_inside_its_own_canceller_does_not_run_it_again)
{
    weft_deferred *d = noted(stoppable(cancel_again, "canceller"), "a");

    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "canceller canceller_ends a=!cancelled");
    weft_deferred_unref(d);
}

static weft_cancel_outcome cancel_outer(weft_deferred *d, void *outer)
{
    (void)d;
    trace("canceller");
    weft_deferred_cancel(*(weft_deferred **)outer);
    return WEFT_CANCEL_DONE;
}

Test(deferred_cancel, r26_of_the_one_that_waits_inside_the_canceller_does_not_run_it_again)
{
    weft_deferred *outer, *inner = weft_deferred_new(cancel_outer, &outer);

    outer = noted(waiting_for(inner), "outer");
    weft_deferred_cancel(outer);
    cr_assert_str_eq(trace_text(), "canceller outer=!cancelled");
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

Test(deferred_cancel, r03_forgets_the_canceller_when_it_fires)
{
    weft_deferred *inner = pending(), *d = stoppable(cancel_done, "canceller");

    weft_deferred_add_both(d, return_later, weft_deferred_ref(inner));
    weft_deferred_callback(d, weft_ok(NULL));
    weft_deferred_cancel(d);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=!cancelled");
    weft_deferred_unref(inner);
}

static weft_cancel_outcome let_go_and_be_done(weft_deferred *d, void *also)
{
    weft_deferred_unref(d);
    weft_deferred_unref(also);
    return WEFT_CANCEL_DONE;
}

static weft_cancel_outcome let_go_and_say_later(weft_deferred *d, void *also)
{
    let_go_and_be_done(d, also);
    return WEFT_CANCEL_LATER;
}

Test(deferred_cancel, survives_a_canceller_that_lets_go_of_every_reference)
{
    weft_deferred *d = weft_deferred_new(let_go_and_be_done, NULL), *e = weft_deferred_new(let_go_and_say_later, NULL);

    noted(d, "d");
    noted(e, "e");
    weft_deferred_cancel(d);
    weft_deferred_cancel(e);
    cr_assert_str_eq(trace_text(), "d=!cancelled e=!cancelled", "nobody can bring the result later");
    cr_assert_eq(weft_live_counts_get().deferreds, 0);
}

static weft_cancel_outcome let_go_of_outer(weft_deferred *d, void *outer)
{
    (void)d;
    trace("canceller");
    weft_deferred_unref(*(weft_deferred **)outer);
    return WEFT_CANCEL_DONE;
}

Test(deferred_cancel, survives_a_canceller_that_lets_go_of_the_one_that_was_cancelled)
{
    weft_deferred *outer, *inner = weft_deferred_new(let_go_of_outer, &outer);

    outer = noted(waiting_for(inner), "outer");
    weft_deferred_cancel(outer);
    cr_assert_str_eq(trace_text(), "canceller outer=!cancelled");
    cr_assert_eq(weft_live_counts_get().deferreds, 1);
    weft_deferred_unref(inner);
}

/* ---- a canceller that cannot stop the work ---- */

static weft_cancel_outcome cancel_failed(weft_deferred *d, void *label)
{
    (void)d;
    trace("%s", (const char *)label);
    return WEFT_CANCEL_FAILED;
}

Test(deferred_cancel, r26_that_fails_is_logged_and_ends_with_the_cancellation)
{
    struct value late = {.name = "late"};
    weft_deferred *d = noted(stoppable(cancel_failed, "fails"), "d");

    log_capture();
    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "fails d=!cancelled");
    cr_assert_eq(log_count("WARN"), 1);
    cr_assert_eq(log_count("could not be cancelled"), 1);
    weft_deferred_callback(d, value_of(&late));
    cr_assert_eq(late.drops, 1, "the work's result comes too late, and is dropped");
    cr_assert_eq(log_count("ERROR"), 0);
    weft_deferred_callback(d, weft_ok(NULL));
    cr_assert_eq(log_count("already_called"), 1);
    weft_deferred_unref(d);
}

static weft_cancel_outcome fire_and_fail(weft_deferred *d, void *unused)
{
    (void)unused;
    weft_deferred_callback(d, broken());
    return WEFT_CANCEL_FAILED;
}

Test(deferred_cancel, r26_that_fails_with_an_error_of_its_own_ends_with_that)
{
    weft_deferred *d = noted(weft_deferred_new(fire_and_fail, NULL), "d");

    log_capture();
    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "d=!broken");
    weft_deferred_callback(d, weft_ok(NULL));
    cr_assert_eq(log_count("already_called"), 1, "it has fired it: nothing is to come");
    weft_deferred_add_errback(d, return_nothing, NULL);
    weft_deferred_unref(d);
}

Test(deferred_cancel, r24_runs_the_canceller_once_in_its_life_whatever_it_answers)
{
    weft_deferred *done = stoppable(cancel_done, "done"), *later = stoppable(cancel_later, "later");
    weft_deferred *failed = stoppable(cancel_failed, "failed");

    log_capture();
    for (int i = 0; i < 3; i++) {
        weft_deferred_cancel(done);
        weft_deferred_cancel(later);
        weft_deferred_cancel(failed);
    }
    cr_assert_str_eq(trace_text(), "done later failed");
    weft_deferred_callback(later, weft_int(1));
    weft_deferred_cancel(later);
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unref(done);
    weft_deferred_unref(later);
    weft_deferred_unref(failed);
}

/* ---- a canceller whose work ends later ---- */

Test(deferred_cancel, r33_that_ends_later_leaves_it_pending_until_the_work_has_stopped)
{
    weft_deferred *d = noted(stoppable(cancel_later, "canceller"), "a");

    weft_deferred_cancel(d);
    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "canceller");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    cr_assert_not_null(weft_deferred_get_cancellation(d));
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "a=1", "work that had the result already may still bring it");
    cr_assert_null(weft_deferred_get_cancellation(d));
    log_capture();
    weft_deferred_callback(d, weft_int(2));
    cr_assert_eq(log_count("already_called"), 1, "nothing is swallowed");
    weft_deferred_unref(d);
}

Test(deferred_cancel, r33_that_ends_later_may_give_its_reason_back_as_the_result)
{
    weft_deferred *d = noted(stoppable(cancel_later, "canceller"), "a");

    weft_deferred_cancel_with(d, weft_error_new(&WEFT_CLIENT_GONE, "x"));
    weft_deferred_errback(d, weft_error_ref(weft_deferred_get_cancellation(d)));
    cr_assert_str_eq(trace_text(), "canceller a=!client_gone");
    weft_deferred_unref(d);
}

/* ---- when there is nothing to cancel ---- */

Test(deferred_cancel, r29_of_one_that_is_done_does_nothing)
{
    weft_deferred *value = done(weft_int(1)), *error = done(broken()), *with = stoppable(cancel_done, "canceller");

    weft_deferred_callback(with, weft_int(2));
    weft_deferred_cancel(value);
    weft_deferred_cancel_with(error, weft_error_new(&WEFT_CANCELLED, "x"));
    weft_deferred_cancel(with);
    conclude(value, "v");
    conclude(error, "e");
    conclude(with, "w");
    cr_assert_str_eq(trace_text(), "v=1 e=!broken w=2");
}

static weft_result cancel_own(weft_result result, void *own)
{
    weft_deferred_cancel(own);
    return result;
}

Test(deferred_cancel, r29_inside_its_own_callback_does_nothing_and_is_forgotten)
{
    weft_deferred *d = stoppable(cancel_done, "canceller"), *inner = stoppable(cancel_done, "inner");

    weft_deferred_add_both(d, cancel_own, d);
    weft_deferred_add_both(noted(d, "a"), return_later, weft_deferred_ref(inner));
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "a=1");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_WAITING);
    weft_deferred_callback(inner, weft_int(2));
    weft_deferred_unref(inner);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=2");
}

static weft_result cancel_own_and_wait(weft_result result, void *arg)
{
    weft_deferred **own_and_inner = arg;

    weft_deferred_cancel(own_and_inner[0]);
    return return_later(result, weft_deferred_ref(own_and_inner[1]));
}

Test(deferred_cancel, r29_inside_its_own_callback_is_forgotten_also_when_that_returns_a_pending_one)
{
    weft_deferred *d = pending(), *inner = stoppable(cancel_done, "inner"), *both[] = {d, inner};

    weft_deferred_add_callback(d, cancel_own_and_wait, both);
    weft_deferred_callback(d, weft_int(1));
    cr_assert_null(weft_deferred_get_cancellation(inner));
    weft_deferred_callback(inner, weft_int(2));
    weft_deferred_unref(inner);
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=2");
}

Test(deferred_cancel, r29_of_the_one_that_waits_inside_a_callback_of_the_inner_is_forgotten)
{
    weft_deferred *inner = stoppable(cancel_done, "inner"), *outer = pending();

    weft_deferred_add_both(inner, cancel_own, outer);
    weft_deferred_forward(weft_deferred_ref(inner), outer);
    weft_deferred_callback(inner, weft_int(1));
    weft_deferred_unref(inner);
    conclude(outer, "o");
    cr_assert_str_eq(trace_text(), "o=1");
}

/* ---- in a chain ---- */

Test(deferred_cancel, r28_gap_goes_down_to_the_innermost_and_comes_back_up)
{
    weft_deferred *inner = stoppable(cancel_done, "inner"), *middle = stoppable(cancel_done, "middle"), *outer;

    noted(inner, "i");
    weft_deferred_callback(middle, weft_ok(NULL));
    weft_deferred_add_both(middle, return_later, weft_deferred_ref(inner));
    noted(middle, "m");
    outer = noted(waiting_for(middle), "o");
    weft_deferred_cancel(outer);
    cr_assert_str_eq(trace_text(), "inner i=!cancelled m=!cancelled o=!cancelled");
    weft_deferred_unref(inner);
    weft_deferred_unref(middle);
    weft_deferred_unref(outer);
}

Test(deferred_cancel, r23_may_be_asked_on_any_level_and_at_any_time_in_silence)
{
    weft_deferred *inner = stoppable(cancel_done, "inner"), *middle = noted(waiting_for(inner), "m");
    weft_deferred *outer = noted(waiting_for(middle), "o"), *levels[] = {inner, middle, outer};

    log_capture();
    weft_deferred_cancel(middle);
    for (int i = 0; i < 6; i++)
        weft_deferred_cancel(levels[i % 3]);
    cr_assert_str_eq(trace_text(), "inner m=!cancelled o=!cancelled");
    cr_assert_eq(log_count(""), 0);
    weft_deferred_unref(inner);
    weft_deferred_unref(middle);
    weft_deferred_unref(outer);
}

Test(deferred_cancel, r28_without_a_canceller_there_swallows_the_innermosts_late_result)
{
    weft_deferred *inner = pending(), *middle = waiting_for(inner), *outer = waiting_for(middle);

    log_capture();
    weft_deferred_cancel(outer);
    weft_deferred_callback(inner, weft_int(1));
    cr_assert_eq(log_count("already_called"), 0);
    weft_deferred_callback(inner, weft_int(1));
    weft_deferred_callback(outer, weft_int(1));
    cr_assert_eq(log_count("already_called"), 2, "one, and only the innermost's");
    conclude(outer, "o");
    cr_assert_str_eq(trace_text(), "o=!cancelled");
    weft_deferred_unref(inner);
    weft_deferred_unref(middle);
}

Test(deferred_cancel, r28_takes_the_value_with_which_the_innermosts_canceller_answers)
{
    weft_deferred *inner = weft_deferred_new(fire_value, NULL), *middle = waiting_for(inner), *outer = waiting_for(middle);

    weft_deferred_cancel(outer);
    conclude(outer, "o");
    cr_assert_str_eq(trace_text(), "o=9");
    weft_deferred_unref(inner);
    weft_deferred_unref(middle);
}

Test(deferred_cancel, r28_leaves_all_waiting_while_the_innermosts_work_stops)
{
    weft_deferred *inner = stoppable(cancel_later, "inner"), *middle = waiting_for(inner), *outer = waiting_for(middle);

    weft_deferred_cancel(outer);
    weft_deferred_cancel(outer);
    cr_assert_str_eq(trace_text(), "inner");
    cr_assert_eq(weft_deferred_get_state(outer), WEFT_WAITING);
    weft_deferred_callback(inner, broken());
    conclude(outer, "o");
    cr_assert_str_eq(trace_text(), "o=!broken");
    weft_deferred_unref(inner);
    weft_deferred_unref(middle);
}

Test(deferred_cancel, r28_does_nothing_when_the_innermost_is_fired_and_only_paused)
{
    weft_deferred *inner = noted(paused(done(weft_int(1))), "i"), *middle = waiting_for(inner), *outer = waiting_for(middle);

    weft_deferred_cancel(outer);
    cr_assert_eq(weft_deferred_get_state(outer), WEFT_WAITING);
    weft_deferred_unpause(inner);
    conclude(outer, "o");
    cr_assert_str_eq(trace_text(), "i=1 o=1");
    weft_deferred_unref(inner);
    weft_deferred_unref(middle);
}

Test(deferred_cancel, r28_leaves_no_trace_in_those_that_wait)
{
    weft_deferred *first = weft_deferred_new(fire_value, NULL), *second = stoppable(cancel_done, "second");
    weft_deferred *outer = waiting_for(first);

    weft_deferred_add_callback(outer, return_later, weft_deferred_ref(second));
    weft_deferred_cancel(outer);
    cr_assert_eq(weft_deferred_get_state(outer), WEFT_WAITING, "the next is not asked");
    cr_assert_null(weft_deferred_get_cancellation(outer));
    weft_deferred_callback(second, weft_int(2));
    conclude(outer, "o");
    cr_assert_str_eq(trace_text(), "o=2");
    weft_deferred_unref(first);
    weft_deferred_unref(second);
}

Test(deferred_cancel, r28_may_become_another_error_on_any_level)
{
    weft_deferred *inner = pending(), *middle = waiting_for(inner), *outer;

    weft_deferred_add_errback(middle, return_broken, NULL);
    outer = waiting_for(middle);
    weft_deferred_cancel(outer);
    conclude(outer, "o");
    cr_assert_str_eq(trace_text(), "o=!broken");
    weft_deferred_unref(inner);
    weft_deferred_unref(middle);
}

Test(deferred_cancel, r28_may_be_handled_on_any_level)
{
    weft_deferred *inner = pending(), *middle = waiting_for(inner), *outer;

    weft_deferred_add_errback(middle, return_int, (void *)3);
    outer = noted_sides(waiting_for(middle), "o");
    weft_deferred_cancel(outer);
    cr_assert_str_eq(trace_text(), "o:value=3");
    weft_deferred_unref(inner);
    weft_deferred_unref(middle);
    weft_deferred_unref(outer);
}

Test(deferred_cancel, r28_may_be_delayed_by_an_errback_that_waits)
{
    weft_deferred *inner = pending(), *clean_up = stoppable(cancel_done, "clean_up"), *outer = waiting_for(inner);

    weft_deferred_add_errback(outer, return_later, weft_deferred_ref(clean_up));
    noted(outer, "o");
    weft_deferred_cancel(outer);
    cr_assert_str_eq(trace_text(), "");
    cr_assert_eq(weft_deferred_get_state(outer), WEFT_WAITING);
    weft_deferred_cancel(outer);
    cr_assert_str_eq(trace_text(), "clean_up o=!cancelled", "a second cancel is for what it waits for then");
    weft_deferred_unref(clean_up);
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

Test(deferred_cancel, r28_an_errback_that_waits_delays_everybody_above)
{
    weft_deferred *inner = pending(), *clean_up = pending(), *middle = waiting_for(inner), *outer;

    weft_deferred_add_errback(middle, return_later, weft_deferred_ref(clean_up));
    outer = waiting_for(middle);
    weft_deferred_cancel(outer);
    cr_assert_eq(weft_deferred_get_state(middle), WEFT_WAITING);
    cr_assert_eq(weft_deferred_get_state(outer), WEFT_WAITING);
    weft_deferred_callback(clean_up, weft_int(4));
    conclude(outer, "o");
    cr_assert_str_eq(trace_text(), "o=4");
    weft_deferred_unref(inner);
    weft_deferred_unref(clean_up);
    weft_deferred_unref(middle);
}

Test(deferred_cancel, r31_of_the_inner_is_just_its_result_to_the_outer)
{
    weft_deferred *inner = pending(), *outer = noted(waiting_for(inner), "o");

    log_capture();
    weft_deferred_cancel(inner);
    cr_assert_str_eq(trace_text(), "o=!cancelled");
    cr_assert_null(weft_deferred_try_callback(inner, weft_int(1)), "the inner swallows its late result");
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

Test(deferred_cancel, r31_of_the_inner_runs_no_canceller_above)
{
    weft_deferred *inner = stoppable(cancel_done, "inner"), *outer = stoppable(cancel_done, "outer"), *forwarded;

    weft_deferred_add_callback(outer, return_later, weft_deferred_ref(inner));
    weft_deferred_callback(outer, weft_ok(NULL));
    forwarded = stoppable(cancel_done, "forwarded");
    weft_deferred_forward(weft_deferred_ref(outer), forwarded);
    weft_deferred_cancel(inner);
    conclude(forwarded, "f");
    cr_assert_str_eq(trace_text(), "inner f=!cancelled");
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

/* Arguments that belong to a callback or a canceller: let go of once, as soon as they are no longer needed. */
#include "tests/support/test.h"
#include "tests/support/values.h"

static void say_released(void *name)
{
    trace("~%s", (const char *)name);
}

static weft_deferred *owning(weft_deferred *d, const char *name)
{
    return weft_deferred_add_callbacks_owning(d, note, note, (void *)name, say_released);
}

static weft_deferred *owning_canceller(weft_cancel_fn *canceller, const char *name)
{
    return weft_deferred_new_owning(canceller, (void *)name, say_released);
}

/* ---- callbacks ---- */

Test(deferred_release, of_a_callback_comes_right_after_its_turn)
{
    weft_deferred *d = owning(owning(pending(), "a"), "b");

    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "a=1 ~a b=1 ~b");
    owning(d, "late");
    cr_assert_str_eq(trace_text(), "late=1 ~late");
    weft_deferred_unref(d);
}

Test(deferred_release, of_a_side_that_is_not_taken_comes_too)
{
    weft_deferred *d = pending();

    weft_deferred_add_callbacks_owning(d, NULL, note, (void *)"a", say_released);
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "~a");
    weft_deferred_unref(d);
}

static weft_result owned_later(weft_result result, void *deferred)
{
    weft_result_drop(result);
    return weft_later(weft_deferred_ref(deferred));
}

static void unref_inner(void *deferred)
{
    trace("~inner");
    weft_deferred_unref(deferred);
}

Test(deferred_release, of_a_callback_that_waits_comes_before_the_wait)
{
    weft_deferred *inner = pending(), *d = pending();

    weft_deferred_add_callbacks_owning(d, owned_later, NULL, weft_deferred_ref(inner), unref_inner);
    noted(d, "d");
    weft_deferred_callback(d, weft_ok(NULL));
    cr_assert_str_eq(trace_text(), "~inner");
    cr_assert_eq(weft_deferred_get_state(d), WEFT_WAITING);
    weft_deferred_callback(inner, weft_int(3));
    cr_assert_str_eq(trace_text(), "d=3");
    weft_deferred_unref(inner);
    weft_deferred_unref(d);
}

static void fire_inner(void *deferred)
{
    weft_deferred_callback(deferred, weft_int(8));
}

Test(deferred_release, may_fire_the_very_deferred_that_is_to_be_waited_for)
{
    weft_deferred *inner = pending(), *d = pending();

    weft_deferred_add_callbacks_owning(d, owned_later, NULL, inner, fire_inner);
    noted(d, "d");
    weft_deferred_callback(d, weft_ok(NULL));
    cr_assert_str_eq(trace_text(), "d=8");
    weft_deferred_unref(inner);
    weft_deferred_unref(d);
}

static weft_result pause_it(weft_result result, void *deferred)
{
    weft_deferred_pause(deferred);
    return result;
}

static void say_paused(void *unused)
{
    (void)unused;
    trace("~pausing");
}

Test(deferred_release, of_a_callback_that_pauses_does_not_wait_for_the_unpause)
{
    weft_deferred *d = pending();

    weft_deferred_add_callbacks_owning(d, pause_it, NULL, d, say_paused);
    owning(d, "next");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "~pausing");
    weft_deferred_unpause(d);
    cr_assert_str_eq(trace_text(), "next=1 ~next");
    weft_deferred_unref(d);
}

Test(deferred_release, of_an_orphans_callback_comes_after_it_was_told)
{
    weft_deferred *d = owning(pending(), "a");

    log_capture();
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "a=!orphaned ~a");
}

Test(deferred_release, may_let_go_of_the_last_reference_to_its_own_deferred)
{
    weft_deferred *d = pending();

    weft_deferred_add_callbacks_owning(d, note, note, (void *)"a", say_released);
    weft_deferred_add_callbacks_owning(d, NULL, NULL, d, unref_inner);
    noted(d, "b");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "a=1 ~a ~inner b=1");
}

/* ---- cancellers ---- */

Test(deferred_release, r03_of_a_canceller_comes_when_it_fires_before_the_callbacks)
{
    weft_deferred *d = noted(owning_canceller(cancel_done, "canceller"), "d");

    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "~canceller d=1");
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "");
    d = noted(owning_canceller(cancel_done, "canceller"), "d");
    weft_deferred_callback(d, broken());
    cr_assert_str_eq(trace_text(), "~canceller d=!broken");
    weft_deferred_add_errback(d, return_nothing, NULL);
    weft_deferred_unref(d);
}

Test(deferred_release, r03_of_a_canceller_does_not_wait_for_an_inner)
{
    weft_deferred *inner = pending(), *d = owning_canceller(cancel_done, "canceller");

    weft_deferred_add_callback(d, return_later, weft_deferred_ref(inner));
    weft_deferred_callback(d, weft_ok(NULL));
    cr_assert_str_eq(trace_text(), "~canceller");
    weft_deferred_unref(d);
    weft_deferred_callback(inner, weft_ok(NULL));
    weft_deferred_unref(inner);
}

Test(deferred_release, of_a_canceller_comes_with_the_last_reference)
{
    weft_deferred_unref(owning_canceller(cancel_done, "a"));
    cr_assert_str_eq(trace_text(), "~a");
    weft_deferred_unref(owning_canceller(NULL, "without"));
    cr_assert_str_eq(trace_text(), "~without");
}

Test(deferred_release, of_a_canceller_comes_after_it_has_run)
{
    weft_deferred *d = noted(owning_canceller(cancel_done, "canceller"), "d");

    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "canceller ~canceller d=!cancelled");
    weft_deferred_unref(d);
}

Test(deferred_release, of_a_canceller_whose_work_stops_later_comes_then)
{
    weft_deferred *d = noted(owning_canceller(cancel_later, "canceller"), "d"), *dropped;

    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "canceller");
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "~canceller d=1");
    weft_deferred_unref(d);
    dropped = owning_canceller(cancel_later, "canceller");
    weft_deferred_cancel(dropped);
    weft_deferred_unref(dropped);
    cr_assert_str_eq(trace_text(), "canceller ~canceller");
}

static weft_cancel_outcome fire_then_use(weft_deferred *d, void *name)
{
    weft_deferred_callback(d, weft_int(2));
    trace("%s", (const char *)name);
    return WEFT_CANCEL_DONE;
}

Test(deferred_release, of_a_canceller_that_fires_waits_until_it_has_returned)
{
    weft_deferred *d = noted(owning_canceller(fire_then_use, "canceller"), "d");

    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "d=2 canceller ~canceller");
    weft_deferred_unref(d);
}

Test(deferred_release, of_a_canceller_comes_when_it_is_forwarded_to)
{
    weft_deferred *d = noted(owning_canceller(cancel_done, "canceller"), "d"), *from = pending();

    weft_deferred_forward(weft_deferred_ref(from), d);
    cr_assert_str_eq(trace_text(), "~canceller");
    weft_deferred_callback(from, weft_int(1));
    cr_assert_str_eq(trace_text(), "d=1");
    weft_deferred_unref(from);
    weft_deferred_unref(d);
}

static void unref_it(void *deferred)
{
    weft_deferred_unref(*(weft_deferred **)deferred);
}

Test(deferred_release, of_a_canceller_may_let_go_of_the_last_reference)
{
    weft_deferred *d, *fired = weft_deferred_new_owning(NULL, &fired, unref_it);

    noted(fired, "fired");
    weft_deferred_callback(fired, weft_int(1));
    cr_assert_str_eq(trace_text(), "fired=1");
    d = weft_deferred_new_owning(cancel_done, &d, unref_it);
    noted(d, "d");
    log_capture();
    weft_deferred_cancel(d);
}

static void add_noted(void *deferred)
{
    noted(*(weft_deferred **)deferred, "added");
}

Test(deferred_release, of_a_canceller_may_add_callbacks_which_see_the_result_in_their_turn)
{
    weft_deferred *fired = weft_deferred_new_owning(NULL, &fired, add_noted), *to, *from = pending();

    noted(fired, "first");
    weft_deferred_callback(fired, weft_int(1));
    cr_assert_str_eq(trace_text(), "first=1 added=1");
    to = noted(weft_deferred_new_owning(NULL, &to, add_noted), "first");
    weft_deferred_forward(weft_deferred_ref(from), to);
    weft_deferred_callback(from, weft_int(2));
    cr_assert_str_eq(trace_text(), "first=2 added=2");
    weft_deferred_unref(to);
    to = noted(weft_deferred_new_owning(NULL, &to, add_noted), "first");
    weft_deferred_forward(done(weft_int(3)), to);
    cr_assert_str_eq(trace_text(), "first=3 added=3");
    weft_deferred_unref(fired);
    weft_deferred_unref(from);
    weft_deferred_unref(to);
}

/* ---- what is let go of before the callbacks run may do anything but take their result ---- */

static void take_from(void *slot)
{
    trace("taken=%s", told(weft_deferred_take_result(*(weft_deferred **)slot)));
}

static weft_deferred *release_target;

static void forward_it(void *slot)
{
    weft_deferred_forward(weft_deferred_ref(*(weft_deferred **)slot), release_target);
}

Test(deferred_release, of_a_canceller_cannot_take_the_result_from_the_callbacks)
{
    weft_deferred *d = weft_deferred_new_owning(NULL, &d, take_from);

    noted(d, "d");
    weft_deferred_callback(d, weft_int(4));
    cr_assert_str_eq(trace_text(), "taken=!misuse d=4");
    weft_deferred_unref(d);
    release_target = noted(pending(), "target");
    d = weft_deferred_new_owning(NULL, &d, forward_it);
    weft_deferred_add_both(noted(d, "d"), return_int, (void *)5);
    weft_deferred_callback(d, weft_int(4));
    cr_assert_str_eq(trace_text(), "d=4 target=5");
    weft_deferred_unref(d);
    weft_deferred_unref(release_target);
}

static void pause_slot(void *slot)
{
    weft_deferred_pause(*(weft_deferred **)slot);
}

static weft_deferred *kept_inner;

static void keep_and_pause(void *slot)
{
    kept_inner = weft_deferred_ref(*(weft_deferred **)slot);
    weft_deferred_pause(kept_inner);
}

Test(deferred_release, of_an_orphaned_inners_canceller_may_pause_it)
{
    weft_deferred *inner = weft_deferred_new_owning(NULL, &inner, pause_slot), *d = pending();

    log_capture();
    noted(weft_deferred_add_callback(d, return_later, inner), "d");
    weft_deferred_callback(d, weft_ok(NULL));
    cr_assert_str_eq(trace_text(), "d=!orphaned", "nobody is left who could unpause it");
    weft_deferred_unref(d);
    inner = weft_deferred_new_owning(NULL, &inner, keep_and_pause);
    d = noted(weft_deferred_add_callback(pending(), return_later, inner), "d");
    weft_deferred_callback(d, weft_ok(NULL));
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unpause(kept_inner);
    cr_assert_str_eq(trace_text(), "d=!orphaned");
    weft_deferred_unref(kept_inner);
    weft_deferred_unref(d);
}

static void unref_payload(void *slot)
{
    weft_deferred_unref(*(weft_deferred **)slot);
}

static const weft_type payload_type = {"payload", NULL, unref_payload};

Test(deferred_release, of_a_reason_may_let_go_of_the_last_reference)
{
    weft_deferred *d = noted(stoppable(cancel_later, "asked"), "d");

    weft_deferred_cancel_with(d, weft_error_with_payload(weft_error_new(&WEFT_CANCELLED, "x"),
                                                         weft_own(&d, &payload_type)));
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "asked d=1");
}

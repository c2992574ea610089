/* What gather, list, race and map have in common: code of others that comes back while they are at work, contexts, and a
 * million members. */
#include "tests/support/members.h"
#include "tests/support/test.h"

#include <stdlib.h>

/* The kinds of wholes, by what makes them. */
static weft_deferred *gather(weft_deferred *const *array, size_t count)
{
    return weft_gather_results(array, count, 0);
}

static weft_deferred *gather_early(weft_deferred *const *array, size_t count)
{
    return weft_gather_results(array, count, WEFT_GATHER_LET_RUN | WEFT_GATHER_CONSUME);
}

static weft_deferred *list(weft_deferred *const *array, size_t count)
{
    return weft_deferred_list(array, count, WEFT_LIST_CONSUME_ERRORS);
}

static weft_deferred *list_early(weft_deferred *const *array, size_t count)
{
    return weft_deferred_list(array, count, WEFT_LIST_FIRE_ON_ONE_CALLBACK | WEFT_LIST_FIRE_ON_ONE_ERRBACK |
                                                WEFT_LIST_CONSUME_ERRORS);
}

static weft_deferred *race(weft_deferred *const *array, size_t count)
{
    return weft_race(array, count);
}

typedef weft_deferred *whole_fn(weft_deferred *const *array, size_t count);

static whole_fn *const wholes[] = {gather, gather_early, list, list_early, race};
enum { WHOLES = sizeof wholes / sizeof *wholes };

/* ---- code that comes back ---- */

/* A member whose canceller does something to the others, or to the whole. */
struct scene {
    struct members members;
    weft_deferred *whole; /* a reference */
};
static struct scene scene;

static void set(whole_fn *make, weft_cancel_fn *canceller, size_t count)
{
    scene.members = members(count, canceller);
    scene.whole = noted_last(make(given(&scene.members), count), "whole");
}

static void clear(void)
{
    let_go_of(&scene.members);
    scene.whole = weft_deferred_unref(scene.whole);
}

static weft_cancel_outcome fire_the_others(weft_deferred *deferred, void *label)
{
    trace("%s", (const char *)label);
    for (size_t i = 0; i < scene.members.count; i++) {
        weft_deferred *other = scene.members.of[i];

        if (other != deferred && weft_deferred_get_state(other) == WEFT_PENDING)
            weft_deferred_callback(other, i % 2 ? weft_int(1) : broken());
    }
    return WEFT_CANCEL_DONE;
}

Test(many, a_canceller_may_fire_the_other_members)
{
    static const char *const expected[] = {"a whole=!broken", "a whole=!broken", "a whole=[!cancelled 1 !broken]",
                                           "a whole=#1:1", "a whole=#1:1"};

    for (size_t i = 0; i < WHOLES; i++) {
        set(wholes[i], fire_the_others, 3);
        weft_deferred_cancel(scene.whole);
        cr_assert_str_eq(trace_text(), expected[i]);
        clear();
    }
}

static weft_cancel_outcome cancel_the_whole(weft_deferred *deferred, void *label)
{
    (void)deferred;
    trace("%s", (const char *)label);
    weft_deferred_cancel(scene.whole);
    return WEFT_CANCEL_DONE;
}

Test(many, a_canceller_may_cancel_the_whole_once_more)
{
    for (size_t i = 0; i < WHOLES; i++) {
        set(wholes[i], cancel_the_whole, 2);
        weft_deferred_cancel(scene.whole);
        cr_assert_str_eq(trace_text(), i == 2 ? "a b whole=[!cancelled !cancelled]"
                                       : i == 3 ? "a b whole=!first_error"
                                                : "a b whole=!cancelled");
        clear();
    }
}

Test(many, a_canceller_may_cancel_the_whole_that_cancels_it_for_an_error)
{
    set(gather, cancel_the_whole, 3);
    weft_deferred_callback(scene.members.of[1], broken());
    cr_assert_str_eq(trace_text(), "a c whole=!broken");
    clear();
}

static weft_cancel_outcome drop_everything(weft_deferred *deferred, void *label)
{
    (void)deferred;
    trace("%s", (const char *)label);
    clear();
    return WEFT_CANCEL_DONE;
}

Test(many, a_canceller_may_let_go_of_everything)
{
    log_capture(); /* members are orphaned, with nobody to take their errors */
    for (size_t i = 0; i < WHOLES; i++) {
        set(wholes[i], drop_everything, 3);
        weft_deferred_cancel(scene.whole);
        cr_assert_eq(weft_live_counts_get().deferreds, 0);
        trace_text();
    }
}

Test(many, a_canceller_may_let_go_of_everything_at_the_first_error_and_at_the_first_value)
{
    weft_deferred *member;

    log_capture(); /* a member is orphaned, with nobody to take its error */
    set(gather, drop_everything, 3);
    member = weft_deferred_ref(scene.members.of[1]);
    weft_deferred_callback(member, broken());
    weft_deferred_unref(member);
    set(race, drop_everything, 3);
    member = weft_deferred_ref(scene.members.of[1]);
    weft_deferred_callback(member, weft_int(1));
    weft_deferred_unref(member);
    cr_assert_str_eq(trace_text(), "a whole=!broken a whole=#1:1");
}

/* Callbacks of the whole. */
static weft_result fire_the_rest(weft_result result, void *unused)
{
    (void)unused;
    for (size_t i = 0; i < scene.members.count; i++) {
        if (weft_deferred_get_state(scene.members.of[i]) == WEFT_PENDING)
            weft_deferred_callback(scene.members.of[i], weft_int(1));
    }
    return result;
}

static weft_result cancel_and_drop_the_rest(weft_result result, void *unused)
{
    (void)unused;
    for (size_t i = 0; i < scene.members.count; i++)
        weft_deferred_cancel(scene.members.of[i]);
    clear();
    return result;
}

Test(many, a_callback_of_one_that_fires_early_may_fire_cancel_or_drop_the_members_that_run_on)
{
    static weft_callback_fn *const callbacks[] = {fire_the_rest, cancel_and_drop_the_rest};

    for (size_t i = 0; i < WHOLES; i++) {
        for (size_t j = 0; j < 2; j++) {
            weft_deferred *first;

            set(wholes[i], cancel_later, 3);
            weft_deferred_add_both(scene.whole, callbacks[j], NULL);
            first = weft_deferred_ref(scene.members.of[0]);
            weft_deferred_callback(first, wholes[i] == gather_early ? broken() : weft_int(1));
            if (scene.whole && weft_deferred_get_state(scene.whole) == WEFT_PENDING)
                fire_the_rest(weft_ok(NULL), NULL);
            clear();
            weft_deferred_unref(first);
            cr_assert_eq(weft_live_counts_get().deferreds, 0, "%zu %zu", i, j);
            trace_text();
        }
    }
}

/* A value whose end does something. */
static void cancel_all_of_it(void *value)
{
    (void)value;
    trace("dropped");
    weft_deferred_cancel(scene.whole);
    for (size_t i = 0; i < scene.members.count; i++)
        weft_deferred_cancel(scene.members.of[i]);
}

static const weft_type cancelling_type = {"cancelling", NULL, cancel_all_of_it};

Test(many, a_value_that_is_dropped_may_cancel_the_whole_and_its_members)
{
    for (size_t i = 0; i < WHOLES; i++) {
        if (wholes[i] == list_early || wholes[i] == race)
            continue; /* they fire with it */
        set(wholes[i], cancel_done, 3);
        weft_deferred_callback(scene.members.of[0], weft_own(&scene, &cancelling_type));
        weft_deferred_callback(scene.members.of[1], broken());
        weft_deferred_cancel(scene.members.of[2]);
        clear();
        cr_assert_eq(weft_live_counts_get().deferreds, 0);
    }
    cr_assert_str_eq(trace_text(), "c dropped whole=!broken dropped c whole=!broken "
                                   "c dropped whole=[borrowed !broken !cancelled]");
}

Test(many, a_late_value_that_is_dropped_may_cancel_the_whole)
{
    set(gather, cancel_later, 2);
    weft_deferred_callback(scene.members.of[0], broken());
    weft_deferred_callback(scene.members.of[1], weft_own(&scene, &cancelling_type));
    cr_assert_str_eq(trace_text(), "b dropped whole=!broken");
    clear();
}

/* The callback of a member, which runs while the members are taken in, when nobody else holds that member. */
static weft_result spoil_the_array(weft_result result, void *array)
{
    weft_deferred **members = array;

    weft_result_drop(result);
    members[0] = members[1] = NULL;
    return weft_int(1);
}

Test(many, the_array_may_go_while_members_are_taken_in)
{
    for (size_t i = 0; i < WHOLES; i++) {
        weft_deferred *second = pending(), *array[] = {pending(), weft_deferred_ref(second)}, *whole;

        weft_deferred_add_both(array[0], spoil_the_array, array);
        whole = noted_last(wholes[i](array, 2), "whole");
        weft_deferred_callback(second, weft_int(2));
        weft_deferred_unref(second);
        weft_deferred_unref(whole);
    }
    cr_assert_str_eq(trace_text(), "whole=[1 2] whole=[1 2] whole=[1 2] whole=#0:1 whole=#0:1");
}

Test(many, firing_the_whole_by_hand_is_a_misuse_that_harms_nobody)
{
    for (size_t i = 0; i < WHOLES; i++) {
        log_capture();
        set(wholes[i], NULL, 2);
        weft_deferred_callback(scene.whole, weft_int(5));
        for (size_t j = 0; j < 2; j++)
            weft_deferred_callback(scene.members.of[j], weft_int(1));
        cr_assert_str_eq(trace_text(), "whole=5");
        cr_assert_eq(log_count("already_called"), 1);
        log_forget();
        clear();
    }
}

/* ---- contexts ---- */

Test(many, callbacks_run_in_the_context_in_which_they_were_added)
{
    for (size_t i = 0; i < WHOLES; i++) {
        struct members m = members(2, cancel_done);
        weft_context *none = enter("adding");
        weft_deferred *whole = noted_last(context_noted(wholes[i](given(&m), 2), "whole"), "result");

        leave(none);
        none = enter("firing");
        weft_deferred_callback(m.of[0], weft_int(1));
        if (weft_deferred_get_state(m.of[1]) == WEFT_PENDING)
            weft_deferred_callback(m.of[1], weft_int(2));
        trace("%s", weft_context_get_name(weft_context_current()));
        leave(none);
        let_go_of(&m);
        weft_deferred_unref(whole);
    }
    cr_assert_str_eq(trace_text(), "whole@adding result=[1 2] firing whole@adding result=[1 2] firing "
                                   "whole@adding result=[1 2] firing whole@adding result=#0:1 firing "
                                   "b whole@adding result=#0:1 firing");
}

/* ---- a million ---- */

static weft_deferred **make_many(void)
{
    weft_deferred **array = malloc(MANY * sizeof(weft_deferred *));

    for (size_t i = 0; i < MANY; i++)
        array[i] = pending();
    return array;
}

/* Of wholes[i], the test's references to the members in `array`. */
static weft_deferred *whole_of_many(size_t i, weft_deferred **array)
{
    for (size_t k = 0; k < MANY; k++)
        weft_deferred_ref(array[k]);
    return wholes[i](array, MANY);
}

static void drop_many(weft_deferred **array, weft_deferred *whole)
{
    for (size_t k = 0; k < MANY; k++)
        weft_deferred_unref(array[k]);
    free(array);
    weft_result_drop(weft_deferred_take_result(whole));
    weft_deferred_unref(whole);
}

static void fire_many(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < WHOLES; i++) {
        weft_deferred **array = make_many(), *whole = whole_of_many(i, array);

        for (size_t k = MANY; k-- && weft_deferred_get_state(array[k]) == WEFT_PENDING;)
            weft_deferred_callback(array[k], weft_int(1));
        cr_assert_eq(weft_deferred_get_state(whole), WEFT_DONE);
        drop_many(array, whole);
    }
}

Test(many, a_million_members_need_no_stack)
{
    with_small_stack(fire_many, NULL);
}

static void cancel_many(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < WHOLES; i++) {
        weft_deferred **array = make_many(), *whole = whole_of_many(i, array);

        weft_deferred_cancel(whole);
        cr_assert_eq(weft_deferred_get_state(whole), WEFT_DONE);
        drop_many(array, whole);
    }
}

Test(many, a_million_members_are_cancelled_without_stack)
{
    with_small_stack(cancel_many, NULL);
}

static void fail_many(void *arg)
{
    weft_deferred **array = make_many(), *whole = whole_of_many(0, array);

    (void)arg;
    weft_deferred_callback(array[MANY / 2], broken());
    cr_assert_eq(weft_deferred_get_state(whole), WEFT_DONE);
    drop_many(array, whole);
}

Test(many, a_million_siblings_of_an_error_are_cancelled_without_stack)
{
    with_small_stack(fail_many, NULL);
}

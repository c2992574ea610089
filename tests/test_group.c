/* Groups: spawning into one, its end, who fails, who is cancelled, who waits for whom; the map in fibers. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <sys/resource.h>

static weft_reactor *reactor;

static void begin(void)
{
    cr_assert_null(weft_reactor_new(&reactor));
    log_capture();
}

static void end(void)
{
    reactor = weft_reactor_free(reactor);
    cr_assert_eq(weft_live_counts_get().fibers, 0);
}

static weft_result traced(weft_result result, const char *label)
{
    return note(result, (void *)label);
}

static void traced_last(weft_result result, const char *label)
{
    weft_result_drop(traced(result, label));
}

/* Lets everything that is ready run, and what that makes ready. */
static void settle(void)
{
    for (int i = 0; i < 6; i++)
        weft_run_ready();
}

/* ---- fibers that wait until a test says what for ---- */

struct gate {
    const char *name;
    weft_deferred *deferred;
    int waits;              /* how many cancels its fiber handles before it ends with one */
    weft_deferred *clean;   /* what its fiber waits for in a shield when it was cancelled; NULL */
    weft_result after;      /* of its fiber, after that clean-up; weft_ok(NULL): the cancel */
};

/* A new one, named "a" and so on. */
static struct gate gate(const char *name)
{
    return (struct gate){.name = name, .deferred = pending()};
}

static void open_gate(struct gate *gate, weft_result result)
{
    weft_deferred_callback(gate->deferred, result);
    settle();
}

static void gates_free(struct gate *gates, size_t count)
{
    for (size_t i = 0; i < count; i++)
        weft_deferred_unref(gates[i].deferred);
}

/* The result of `deferred`, which it takes, and keeps until then. */
static weft_result await_held(weft_deferred *deferred)
{
    weft_result result = weft_await(weft_deferred_ref(deferred));

    weft_deferred_unref(deferred);
    return result;
}

static weft_result await_clean(void *gate)
{
    return weft_await(weft_deferred_ref(((struct gate *)gate)->clean));
}

/* Waits for its gate, traces what comes of it, and cleans up when that is a cancel. */
static weft_result pass(void *arg)
{
    struct gate *gate = arg;
    weft_result result = traced(weft_await(weft_deferred_ref(gate->deferred)), gate->name);

    if (!gate->clean || !weft_error_is(weft_failed(result), &WEFT_CANCELLED))
        return result;
    trace("%s:clean=%s", gate->name, told(weft_shield(await_clean, gate)));
    if (gate->after.type || gate->after.value) {
        weft_result_drop(result);
        return gate->after;
    }
    return result;
}

/* Waits for its gate again and again, however often it is cancelled, `waits` times. */
static weft_result resist(void *arg)
{
    struct gate *gate = arg;
    weft_result result;

    for (;;) {
        result = await_held(pending());
        trace("%s", gate->name);
        if (!gate->waits--)
            return result;
        weft_result_drop(result);
    }
}

/* What the body of a group does: spawns a fiber for each gate, waits for one itself, or returns at once. */
struct plan {
    struct gate *gates;
    size_t count;
    weft_deferred *await; /* a reference it takes; NULL */
    weft_result result;   /* when it does not wait, or was brought nothing */
    weft_group *group;    /* a reference, for the test; see forget_group */
};

static weft_result follow(weft_group *group, void *arg)
{
    struct plan *plan = arg;
    weft_result result;

    plan->group = weft_group_ref(group);
    for (size_t i = 0; i < plan->count; i++)
        WEFT_CHECK(weft_group_spawn(group, pass, &plan->gates[i]));
    if (!plan->await)
        return plan->result;
    result = traced(await_held(plan->await), "body");
    return result.type || result.value ? result : plan->result;
}

static void forget_group(struct plan *plan)
{
    plan->group = weft_group_unref(plan->group);
}

/* A fiber that opens a group and traces what that comes to. */
static weft_result open_group(void *plan)
{
    return traced(weft_with_group(follow, plan), "group");
}

/* Lets go of the deferred of a fiber that has ended, and of what the test holds. */
static void over(weft_deferred *fiber, struct plan *plan)
{
    cr_assert_eq(weft_deferred_get_state(fiber), WEFT_DONE);
    weft_result_drop(weft_deferred_take_result(fiber));
    weft_deferred_unref(fiber);
    gates_free(plan->gates, plan->count);
    forget_group(plan);
}

#define GATES(...) struct gate gates[] = {__VA_ARGS__}
#define PLAN(...) struct plan plan = {.gates = gates, .count = sizeof gates / sizeof *gates, __VA_ARGS__}

/* ---- coming to an end ---- */

Test(group, is_left_when_all_of_its_fibers_have_ended)
{
    GATES(gate("a"), gate("b"));
    PLAN(.result = weft_int(5));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_group, &plan);
    settle();
    cr_assert_eq(weft_group_count(plan.group), 2);
    open_gate(&gates[1], weft_int(2));
    cr_assert_eq(weft_group_count(plan.group), 1);
    cr_assert_str_eq(trace_text(), "b=2");
    open_gate(&gates[0], weft_int(1));
    cr_assert_str_eq(trace_text(), "a=1 group=5");
    cr_assert_eq(weft_group_count(plan.group), 0);
    cr_assert_eq(log_count(""), 0);
    over(d, &plan);
    end();
}

static weft_result open_empty(void *plan)
{
    return weft_with_group(follow, plan);
}

Test(group, that_is_empty_is_left_at_once)
{
    struct plan plan = {.result = weft_int(5)};

    begin();
    conclude(weft_spawn(open_empty, &plan), "d");
    cr_assert_str_eq(trace_text(), "d=5");
    forget_group(&plan);
    end();
}

static weft_result say(void *word)
{
    trace("%s", (char *)word);
    return weft_ok(NULL);
}

static weft_result spawn_and_say(weft_group *group, void *unused)
{
    (void)unused;
    trace("before");
    WEFT_CHECK(weft_group_spawn(group, say, (void *)"fiber"));
    trace("after");
    return weft_ok(NULL);
}

static weft_result open_and_say(void *unused)
{
    return weft_with_group(spawn_and_say, unused);
}

Test(group, starts_a_fiber_at_once)
{
    begin();
    conclude(weft_spawn(open_and_say, NULL), "d");
    cr_assert_str_eq(trace_text(), "before fiber after d=nil");
    end();
}

static weft_result own_a_value(void *value)
{
    weft_result_drop(weft_yield());
    return value_of(value);
}

static weft_result spawn_owner(weft_group *group, void *value)
{
    WEFT_CHECK(weft_group_spawn(group, own_a_value, value));
    return weft_int(1);
}

static weft_result open_owner(void *value)
{
    return weft_with_group(spawn_owner, value);
}

Test(group, drops_what_its_fibers_bring)
{
    struct value value = {.name = "v"};

    begin();
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, weft_spawn(open_owner, &value))), "1");
    cr_assert_eq(value.drops, 1);
    end();
}

static weft_result return_gates_deferred(weft_group *group, void *arg)
{
    struct gate *gates = arg;

    WEFT_CHECK(weft_group_spawn(group, pass, &gates[0]));
    return weft_later(weft_deferred_ref(gates[1].deferred));
}

static weft_result open_later(void *gates)
{
    return traced(weft_with_group(return_gates_deferred, gates), "group");
}

Test(group, waits_for_a_deferred_that_its_body_has_returned)
{
    GATES(gate("a"), gate("b"));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_later, gates);
    settle();
    open_gate(&gates[1], broken());
    cr_assert_str_eq(trace_text(), "a=!sibling_failed group=!broken");
    weft_result_drop(weft_deferred_take_result(d));
    weft_deferred_unref(d);
    gates_free(gates, 2);
    end();
}

/* ---- who may spawn, and where that runs ---- */

static weft_group *shared;
static weft_scope *scope_of_group;

/* Traces where it runs. */
static weft_result where(void *unused)
{
    (void)unused;
    trace("%s@%s", weft_scope_current() == scope_of_group ? "in" : "elsewhere",
          weft_context_get_name(weft_context_current()));
    return weft_ok(NULL);
}

static weft_result spawn_where(weft_result result, void *unused)
{
    weft_context *previous = enter("callback");

    cr_assert_null(weft_group_spawn(shared, where, unused));
    leave(previous);
    return result;
}

static weft_result spawn_where_from_a_fiber(void *unused)
{
    weft_context *previous = enter("other");
    weft_scope *scope = weft_scope_enter((weft_scope_options){0});
    weft_error *error = weft_group_spawn(shared, where, unused);

    leave(previous);
    cr_assert_null(error);
    return weft_scope_leave(&scope, weft_ok(NULL));
}

static weft_result spawn_from_everywhere(weft_group *group, void *gates)
{
    struct gate *a = gates;
    weft_scope *inner;

    shared = group;
    scope_of_group = weft_scope_current();
    cr_assert_null(weft_group_spawn(group, spawn_where_from_a_fiber, NULL));
    inner = weft_shield_enter((weft_shield_options){0});
    cr_assert_null(weft_group_spawn(group, where, NULL));
    weft_deferred_add_both(weft_deferred_ref(a->deferred), spawn_where, NULL);
    weft_deferred_unref(a->deferred);
    traced_last(weft_await(weft_deferred_ref(a->deferred)), "body");
    return weft_scope_leave(&inner, weft_ok(NULL));
}

static weft_result open_everywhere(void *gates)
{
    return weft_with_group(spawn_from_everywhere, gates);
}

Test(group, has_its_fibers_in_its_scope_and_in_the_context_of_who_spawns_them)
{
    GATES(gate("a"));
    weft_context *previous;
    weft_deferred *d;

    begin();
    previous = enter("opener");
    d = weft_spawn(open_everywhere, gates);
    leave(previous);
    settle();
    cr_assert_str_eq(trace_text(), "in@other in@opener");
    weft_deferred_unref(weft_spawn(spawn_where_from_a_fiber, NULL));
    cr_assert_str_eq(trace_text(), "in@other");
    open_gate(&gates[0], weft_ok(NULL));
    cr_assert_str_eq(trace_text(), "in@callback body=nil");
    conclude(d, "d");
    gates_free(gates, 1);
    end();
}

/* Spawns its like into the group, `count` times in a row. */
static weft_result spawn_the_next(void *count)
{
    WEFT_TRY(weft_yield());
    trace("%d", (int)(intptr_t)count);
    if (count)
        WEFT_CHECK(weft_group_spawn(shared, spawn_the_next, (char *)count - 1));
    return weft_ok(NULL);
}

static weft_result spawn_a_row(weft_group *group, void *count)
{
    shared = group;
    WEFT_CHECK(weft_group_spawn(group, spawn_the_next, count));
    return weft_int(7);
}

static weft_result open_row(void *count)
{
    return traced(weft_with_group(spawn_a_row, count), "group");
}

Test(group, may_be_spawned_into_by_its_fibers_while_it_is_being_left)
{
    begin();
    weft_result_drop(weft_reactor_run_until(reactor, weft_spawn(open_row, (void *)3)));
    cr_assert_str_eq(trace_text(), "3 2 1 0 group=7");
    end();
}

Test(group, is_opened_by_fibers_only)
{
    struct plan plan = {0};

    begin();
    cr_assert_str_eq(told(weft_with_group(follow, &plan)), "!misuse");
    cr_assert_null(plan.group);
    cr_assert_null(weft_group_enter());
    cr_assert_eq(log_count("misuse: a group is entered outside a fiber"), 1);
    end();
}

static weft_result enter_in_a_step(weft_result sent, void *unused)
{
    (void)unused;
    weft_result_drop(sent);
    cr_assert_null(weft_group_enter());
    return weft_ok(NULL);
}

Test(group, is_not_opened_by_a_driven_computation_which_could_not_wait_for_it)
{
    begin();
    conclude(weft_drive(enter_in_a_step, NULL), "d");
    cr_assert_eq(log_count("misuse"), 1);
    end();
}

/* ---- those whose result is wanted ---- */

static weft_result ask_for_two(weft_group *group, void *arg)
{
    struct gate *gates = arg;
    weft_deferred *a, *b;

    WEFT_CHECK(weft_group_spawn_deferred(&a, group, pass, &gates[0]));
    WEFT_CHECK(weft_group_spawn_deferred(&b, group, pass, &gates[1]));
    traced_last(weft_await(b), "b brings");
    return weft_await(a);
}

static weft_result open_asking(void *gates)
{
    return traced(weft_with_group(ask_for_two, gates), "group");
}

Test(group, brings_the_result_of_a_fiber_to_who_asks_for_it)
{
    GATES(gate("a"), gate("b"));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_asking, gates);
    open_gate(&gates[0], weft_int(1));
    open_gate(&gates[1], weft_int(2));
    cr_assert_str_eq(trace_text(), "a=1 b=2 b brings=2 group=1");
    conclude(d, "d");
    gates_free(gates, 2);
    end();
}

Test(group, comes_to_a_failure_once_that_its_body_was_brought_too)
{
    GATES(gate("a"), gate("b"));
    weft_deferred *d;
    weft_error *error = weft_error_new(&BROKEN, "it broke");

    begin();
    d = weft_spawn(open_asking, gates);
    open_gate(&gates[1], weft_ok(NULL));
    trace_text();
    open_gate(&gates[0], weft_fail(weft_error_ref(error)));
    cr_assert_str_eq(trace_text(), "a=!broken group=!broken");
    cr_assert(weft_error_same(weft_failed(weft_deferred_peek(d)), error));
    cr_assert_eq(log_count(""), 0);
    weft_result_drop(weft_deferred_take_result(d));
    weft_deferred_unref(d);
    weft_error_unref(error);
    gates_free(gates, 2);
    end();
}

static weft_deferred *kept[2];

static weft_result keep_both(weft_group *group, void *arg)
{
    struct gate *gates = arg;

    WEFT_CHECK(weft_group_spawn_deferred(&kept[0], group, pass, &gates[0]));
    WEFT_CHECK(weft_group_spawn_deferred(&kept[1], group, pass, &gates[1]));
    return weft_int(4);
}

static weft_result open_keeping(void *gates)
{
    return traced(weft_with_group(keep_both, gates), "group");
}

Test(group, reports_no_failure_as_unhandled_that_stayed_in_a_deferred)
{
    GATES(gate("a"), gate("b"));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_keeping, gates);
    open_gate(&gates[0], broken());
    cr_assert_str_eq(trace_text(), "a=!broken b=!sibling_failed group=!broken");
    cr_assert(weft_error_is(weft_failed(weft_deferred_peek(kept[0])), &BROKEN));
    cr_assert(weft_error_is(weft_failed(weft_deferred_peek(kept[1])), &WEFT_SIBLING_FAILED));
    weft_deferred_unref(kept[0]);
    weft_deferred_unref(kept[1]);
    cr_assert_eq(log_count("unhandled"), 0);
    weft_result_drop(weft_deferred_take_result(d));
    weft_deferred_unref(d);
    gates_free(gates, 2);
    end();
}

Test(group, has_not_failed_when_a_fiber_was_cancelled_alone)
{
    GATES(gate("a"), gate("b"));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_keeping, gates);
    weft_deferred_cancel(kept[0]);
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled");
    open_gate(&gates[1], weft_int(2));
    cr_assert_str_eq(trace_text(), "b=2 group=4");
    weft_deferred_unref(kept[0]);
    weft_deferred_unref(kept[1]);
    cr_assert_eq(log_count(""), 0);
    conclude(d, "d");
    gates_free(gates, 2);
    end();
}

/* ---- waiting for the opener ---- */

static weft_deferred *opener; /* the deferred of the fiber that opens the outermost group */

static weft_result await_opener(void *unused)
{
    weft_result result = weft_await(weft_deferred_ref(opener));

    (void)unused;
    trace("%s", told(result));
    return weft_ok(NULL);
}

static weft_result await_opener_in_a_scope(void *unused)
{
    weft_scope *scope = weft_scope_enter((weft_scope_options){0});

    return weft_scope_leave(&scope, await_opener(unused));
}

static weft_result spawn_those_who_wait(weft_group *group, void *unused)
{
    (void)unused;
    WEFT_CHECK(weft_group_spawn(group, await_opener, NULL));
    WEFT_CHECK(weft_group_spawn(group, await_opener_in_a_scope, NULL));
    return weft_ok(NULL);
}

static weft_result open_for_those_who_wait(void *unused)
{
    return weft_with_group(spawn_those_who_wait, unused);
}

static weft_result spawn_inner_opener(weft_group *group, void *unused)
{
    (void)unused;
    WEFT_CHECK(weft_group_spawn(group, open_for_those_who_wait, NULL));
    return weft_ok(NULL);
}

static weft_result open_when_told_of(void *body)
{
    WEFT_TRY(weft_yield());
    return weft_with_group(*(weft_group_fn **)body, NULL);
}

static void expect_misuse_when_in(weft_group_fn *body)
{
    begin();
    opener = weft_spawn(open_when_told_of, &body);
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, opener)), "nil");
    cr_assert_str_eq(trace_text(), "!misuse !misuse");
    end();
}

Test(group, is_no_place_to_wait_for_who_has_opened_it)
{
    expect_misuse_when_in(spawn_those_who_wait);
}

Test(group, in_a_group_is_no_place_to_wait_for_who_has_opened_the_outer)
{
    expect_misuse_when_in(spawn_inner_opener);
}

/* ---- failures ---- */

Test(group_failure, of_a_fiber_cancels_the_others_and_is_what_comes_out)
{
    GATES(gate("a"), gate("b"), gate("c"));
    PLAN(.result = weft_int(5));
    weft_error *error = weft_error_new(&BROKEN, "it broke");
    weft_deferred *d;

    begin();
    d = weft_spawn(open_group, &plan);
    open_gate(&gates[1], weft_fail(weft_error_ref(error)));
    cr_assert_str_eq(trace_text(), "b=!broken c=!sibling_failed a=!sibling_failed group=!broken");
    cr_assert(weft_error_same(weft_failed(weft_deferred_peek(d)), error));
    cr_assert_eq(log_count(""), 0);
    weft_error_unref(error);
    over(d, &plan);
    end();
}

/* A fiber that keeps the error that came out of its wait. */
static weft_error *seen;

static weft_result see(void *unused)
{
    weft_result result = await_held(pending());

    (void)unused;
    seen = weft_error_ref(weft_failed(result));
    return result;
}

static weft_result spawn_seeing(weft_group *group, void *plan)
{
    WEFT_CHECK(weft_group_spawn(group, see, NULL));
    return follow(group, plan);
}

static weft_result open_seeing(void *plan)
{
    return traced(weft_with_group(spawn_seeing, plan), "group");
}

Test(group_failure, is_the_cause_of_what_the_others_are_cancelled_with)
{
    GATES(gate("a"));
    PLAN(.result = weft_ok(NULL));
    weft_error *error = weft_error_new(&BROKEN, "it broke");
    weft_deferred *d;

    begin();
    d = weft_spawn(open_seeing, &plan);
    open_gate(&gates[0], weft_fail(weft_error_ref(error)));
    cr_assert(weft_error_is(seen, &WEFT_SIBLING_FAILED));
    cr_assert(weft_error_same(weft_error_get_cause(seen), error));
    weft_error_unref(seen);
    weft_error_unref(error);
    over(d, &plan);
    end();
}

Test(group_failure, of_its_body_cancels_its_fibers)
{
    GATES(gate("a"));
    PLAN(.result = broken());
    weft_deferred *d;

    begin();
    d = weft_spawn(open_group, &plan);
    settle();
    cr_assert_str_eq(trace_text(), "a=!sibling_failed group=!broken");
    over(d, &plan);
    end();
}

Test(group_failure, interrupts_the_body_which_comes_to_the_failure_and_not_to_the_cancel)
{
    GATES(gate("a"));
    PLAN(.await = pending());
    weft_deferred *d;

    begin();
    d = weft_spawn(open_group, &plan);
    open_gate(&gates[0], broken());
    cr_assert_str_eq(trace_text(), "a=!broken body=!sibling_failed group=!broken");
    over(d, &plan);
    end();
}

static const weft_place *opened_at;

static weft_result open_at_a_place(void *plan)
{
    opened_at = WEFT_HERE;
    return weft_with_group_at(follow, plan, opened_at);
}

Test(group_failure, passes_the_place_of_the_group)
{
    GATES(gate("a"));
    PLAN(.result = weft_ok(NULL));
    const weft_place *const *places;
    weft_deferred *d;
    size_t count;

    begin();
    d = weft_spawn(open_at_a_place, &plan);
    open_gate(&gates[0], broken());
    count = weft_error_get_trace(weft_failed(weft_deferred_peek(d)), &places);
    cr_assert(count > 0 && places[count - 1] == opened_at);
    over(d, &plan);
    end();
}

Test(group_failure, that_is_not_the_first_is_logged_with_its_place)
{
    GATES(gate("a"), gate("b"));
    PLAN(.result = weft_ok(NULL));
    weft_deferred *d;

    begin();
    gates[1].clean = pending();
    gates[1].after = weft_fail(weft_error_new(&BROKEN, "in clean-up"));
    d = weft_spawn(open_group, &plan);
    open_gate(&gates[0], broken());
    cr_assert_str_eq(trace_text(), "a=!broken b=!sibling_failed");
    weft_deferred_callback(gates[1].clean, weft_int(3));
    settle();
    cr_assert_str_eq(trace_text(), "b:clean=3 group=!broken");
    cr_assert_eq(log_count("DEBUG"), 1);
    cr_assert_eq(log_count(""), 1);
    cr_assert_eq(log_count("broken: in clean-up (tests/test_group.c:"), 1);
    weft_deferred_unref(gates[1].clean);
    over(d, &plan);
    end();
}

static weft_result fail_at_once(void *unused)
{
    (void)unused;
    return broken();
}

static weft_result spawn_after_a_failure(weft_group *group, void *unused)
{
    weft_error *error;

    (void)unused;
    cr_assert_null(weft_group_spawn(group, fail_at_once, NULL));
    cr_assert(weft_group_is_ending(group));
    error = weft_group_spawn(group, say, (void *)"never");
    cr_assert(weft_error_is(error, &WEFT_SIBLING_FAILED));
    return weft_fail(error);
}

static weft_result open_after_a_failure(void *unused)
{
    return traced(weft_with_group(spawn_after_a_failure, unused), "group");
}

Test(group_failure, before_the_first_wait_is_no_failure_to_spawn_but_the_next_spawn_fails)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(open_after_a_failure, NULL);
    cr_assert_str_eq(trace_text(), "group=!broken");
    weft_result_drop(weft_deferred_take_result(d));
    weft_deferred_unref(d);
    end();
}

static weft_result spawn_resisting(weft_group *group, void *arg)
{
    struct gate *gates = arg;

    WEFT_CHECK(weft_group_spawn(group, resist, &gates[0]));
    WEFT_CHECK(weft_group_spawn(group, pass, &gates[1]));
    return weft_ok(NULL);
}

static weft_result open_resisting(void *gates)
{
    return traced(weft_with_group(spawn_resisting, gates), "group");
}

Test(group_failure, interrupts_each_wait_of_a_fiber_that_resists)
{
    GATES(gate("a"), gate("b"));
    weft_deferred *d;

    begin();
    gates[0].waits = 3;
    d = weft_spawn(open_resisting, gates);
    open_gate(&gates[1], broken());
    cr_assert_str_eq(trace_text(), "b=!broken a a a a group=!broken");
    weft_result_drop(weft_deferred_take_result(d));
    weft_deferred_unref(d);
    gates_free(gates, 2);
    end();
}

Test(group_failure, does_not_interrupt_clean_up_in_a_shield_and_waits_for_it)
{
    GATES(gate("a"), gate("b"));
    PLAN(.result = weft_ok(NULL));
    weft_deferred *d;

    begin();
    gates[0].clean = pending();
    d = weft_spawn(open_group, &plan);
    weft_group_cancel(plan.group, NULL);
    open_gate(&gates[1], weft_ok(NULL));
    cr_assert_str_eq(trace_text(), "b=!cancelled a=!cancelled");
    cr_assert_eq(weft_group_count(plan.group), 1);
    weft_deferred_callback(gates[0].clean, weft_int(1));
    settle();
    cr_assert_str_eq(trace_text(), "a:clean=1 group=nil");
    weft_deferred_unref(gates[0].clean);
    over(d, &plan);
    end();
}

Test(group_failure, in_the_clean_up_of_a_cancelled_fiber_leaves_that_of_another_in_its_shield)
{
    GATES(gate("a"), gate("b"));
    PLAN(.result = weft_ok(NULL));
    weft_deferred *d;

    begin();
    for (int i = 0; i < 2; i++)
        gates[i].clean = pending();
    gates[1].after = broken();
    d = weft_spawn(open_group, &plan);
    weft_group_cancel(plan.group, NULL);
    settle();
    cr_assert_str_eq(trace_text(), "b=!cancelled a=!cancelled");
    weft_deferred_callback(gates[1].clean, weft_int(2));
    settle();
    cr_assert_str_eq(trace_text(), "b:clean=2");
    weft_deferred_callback(gates[0].clean, weft_int(1));
    settle();
    cr_assert_str_eq(trace_text(), "a:clean=1 group=!broken");
    for (int i = 0; i < 2; i++)
        weft_deferred_unref(gates[i].clean);
    over(d, &plan);
    end();
}

static weft_result swallow(void *unused)
{
    (void)unused;
    weft_result_drop(await_held(pending()));
    return weft_int(1);
}

static weft_result spawn_swallowing(weft_group *group, void *unused)
{
    WEFT_CHECK(weft_group_spawn(group, swallow, unused));
    WEFT_CHECK(weft_group_spawn(group, fail_at_once, unused));
    return weft_ok(NULL);
}

static weft_result open_swallowing(void *unused)
{
    return traced(weft_with_group(spawn_swallowing, unused), "group");
}

Test(group_failure, that_a_fiber_swallows_is_told_in_the_log)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(open_swallowing, NULL);
    settle();
    cr_assert_str_eq(trace_text(), "group=!broken");
    cr_assert_eq(log_count("the fiber swallow was cancelled"), 1);
    cr_assert_eq(log_count(""), 1);
    weft_result_drop(weft_deferred_take_result(d));
    weft_deferred_unref(d);
    end();
}

/* ---- spawning into a group that is ending ---- */

/* What a fiber outside of the group is told that spawns into `group`; traces it. */
static weft_error *refusal(weft_group *group)
{
    weft_error *error = weft_group_spawn(group, say, (void *)"never");

    cr_assert_not_null(error);
    trace("%s", weft_error_get_kind(error)->name);
    return error;
}

Test(group_ending, refuses_fibers_with_the_cause_when_one_has_failed)
{
    GATES(gate("a"), gate("b"));
    PLAN(.result = weft_ok(NULL));
    weft_deferred *d, *unset = NULL;
    weft_error *error;

    begin();
    gates[0].clean = pending();
    d = weft_spawn(open_group, &plan);
    cr_assert_not(weft_group_is_ending(plan.group));
    open_gate(&gates[1], broken());
    cr_assert(weft_group_is_ending(plan.group));
    trace_text();
    error = refusal(plan.group);
    cr_assert_str_eq(trace_text(), "group_ended");
    cr_assert(weft_error_is(weft_error_get_cause(error), &WEFT_SIBLING_FAILED));
    weft_error_unref(error);
    error = weft_group_spawn_deferred(&unset, plan.group, say, (void *)"never");
    cr_assert(weft_error_is(error, &WEFT_GROUP_ENDED));
    cr_assert_null(unset);
    weft_error_unref(error);
    cr_assert_eq(weft_group_count(plan.group), 1);
    weft_deferred_callback(gates[0].clean, weft_ok(NULL));
    settle();
    cr_assert_str_eq(trace_text(), "a:clean=nil group=!broken");
    weft_deferred_unref(gates[0].clean);
    over(d, &plan);
    end();
}

Test(group_ending, refuses_fibers_when_it_was_left)
{
    struct plan plan = {.result = weft_ok(NULL)};
    weft_error *error;

    begin();
    conclude(weft_spawn(open_group, &plan), "d");
    trace_text();
    cr_assert(weft_group_is_ending(plan.group));
    error = refusal(plan.group);
    cr_assert_str_eq(trace_text(), "group_ended");
    cr_assert_null(weft_error_get_cause(error));
    weft_error_unref(error);
    weft_group_cancel(plan.group, weft_error_new(&WEFT_CANCELLED, "too late"));
    weft_group_cancel(plan.group, NULL);
    cr_assert_eq(weft_group_count(plan.group), 0);
    forget_group(&plan);
    end();
}

static weft_result spawn_too_late(weft_result result, void *unused)
{
    (void)unused;
    cr_assert(weft_group_is_ending(shared));
    weft_error_unref(refusal(shared));
    return result;
}

static weft_result keep_one(weft_group *group, void *arg)
{
    struct gate *gates = arg;

    shared = group;
    WEFT_CHECK(weft_group_spawn_deferred(&kept[0], group, pass, &gates[0]));
    weft_deferred_add_both(kept[0], spawn_too_late, NULL);
    return weft_int(4);
}

static weft_result open_keeping_one(void *gates)
{
    return traced(weft_with_group(keep_one, gates), "group");
}

/* The callback runs when the fiber has ended, and the one that leaves the group has not had its turn. */
Test(group_ending, refuses_fibers_as_soon_as_the_last_has_ended_while_it_is_being_left)
{
    GATES(gate("a"));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_keeping_one, gates);
    open_gate(&gates[0], weft_int(1));
    cr_assert_str_eq(trace_text(), "a=1 group_ended group=4");
    weft_deferred_unref(kept[0]);
    conclude(d, "d");
    gates_free(gates, 1);
    end();
}

static weft_result spawn_into(void *group)
{
    WEFT_CHECK(weft_group_spawn(group, say, (void *)"never"));
    return weft_ok(NULL);
}

static weft_result cancel_and_spawn(void *group)
{
    weft_error *cancellation = weft_error_new(&WEFT_CANCELLED, "enough"), *error;

    weft_group_cancel(group, weft_error_ref(cancellation));
    error = weft_group_spawn(group, say, (void *)"never");
    cr_assert(weft_error_same(error, cancellation));
    weft_error_unref(cancellation);
    return weft_fail(error);
}

static weft_result spawn_one_that_cancels(weft_group *group, void *unused)
{
    (void)unused;
    WEFT_CHECK(weft_group_spawn(group, cancel_and_spawn, group));
    WEFT_CHECK(weft_group_spawn(group, say, (void *)"never"));
    trace("not here");
    return weft_int(1);
}

static weft_result open_one_that_cancels(void *unused)
{
    return weft_with_group(spawn_one_that_cancels, unused);
}

Test(group_ending, gives_those_inside_its_cancellation_which_ends_with_it)
{
    begin();
    conclude(weft_spawn(open_one_that_cancels, NULL), "d");
    cr_assert_str_eq(trace_text(), "d=nil");
    cr_assert_eq(log_count(""), 0);
    end();
}

Test(group_ending, does_not_cancel_a_stranger_that_spawns)
{
    GATES(gate("a"));
    PLAN(.result = weft_ok(NULL));
    weft_deferred *d;

    begin();
    gates[0].clean = pending();
    d = weft_spawn(open_group, &plan);
    weft_group_cancel(plan.group, NULL);
    settle();
    trace_text();
    conclude(weft_spawn(spawn_into, plan.group), "stranger");
    cr_assert_str_eq(trace_text(), "stranger=!group_ended");
    weft_deferred_callback(gates[0].clean, weft_ok(NULL));
    settle();
    trace_text();
    weft_deferred_unref(gates[0].clean);
    over(d, &plan);
    end();
}

Test(group_ending, is_a_misuse_for_no_group)
{
    begin();
    conclude(weft_spawn(spawn_into, NULL), "d");
    cr_assert_str_eq(trace_text(), "d=!misuse");
    end();
}

#ifndef WEFT_TEST_SANITIZED /* which reserve terabytes of addresses for themselves */
static weft_result wait_for_nothing(void *unused)
{
    (void)unused;
    return await_held(pending());
}

static weft_result spawn_until_there_is_no_stack(weft_group *group, void *unused)
{
    struct rlimit before, none;
    weft_error *error = NULL;

    cr_assert_eq(getrlimit(RLIMIT_AS, &before), 0);
    none = (struct rlimit){1, before.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_AS, &none), 0);
    for (int i = 0; i < 1000 && !error; i++)
        error = weft_group_spawn(group, wait_for_nothing, unused);
    cr_assert_eq(setrlimit(RLIMIT_AS, &before), 0);
    cr_assert(weft_error_is(error, &WEFT_OS_ERROR));
    return weft_fail(error);
}

static weft_result open_until_there_is_no_stack(void *unused)
{
    return traced(weft_with_group(spawn_until_there_is_no_stack, unused), "group");
}

/* qemu-user takes a limit and keeps none. */
static bool has_memory_limits(void)
{
    struct rlimit before, asked, given;

    cr_assert_eq(getrlimit(RLIMIT_AS, &before), 0);
    asked = (struct rlimit){(rlim_t)1 << 46, before.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_AS, &asked), 0);
    cr_assert_eq(getrlimit(RLIMIT_AS, &given), 0);
    cr_assert_eq(setrlimit(RLIMIT_AS, &before), 0);
    return given.rlim_cur == asked.rlim_cur;
}

Test(group_ending, is_not_counting_fibers_for_which_there_was_no_stack)
{
    weft_deferred *d;

    if (!has_memory_limits())
        return;
    begin();
    d = weft_spawn(open_until_there_is_no_stack, NULL);
    settle();
    cr_assert_str_eq(trace_text(), "group=!os_error");
    weft_result_drop(weft_deferred_take_result(d));
    weft_deferred_unref(d);
    end();
}
#endif

/* ---- cancelling ---- */

Test(group_cancel, ends_its_fibers_and_leaves_what_the_body_has_brought)
{
    GATES(gate("a"), gate("b"));
    PLAN(.result = weft_int(5));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_group, &plan);
    weft_group_cancel(plan.group, NULL);
    weft_group_cancel(plan.group, weft_error_new(&WEFT_CANCELLED, "again"));
    settle();
    cr_assert_str_eq(trace_text(), "b=!cancelled a=!cancelled group=5");
    cr_assert_eq(log_count(""), 0);
    over(d, &plan);
    end();
}

Test(group_cancel, interrupts_the_body_and_vanishes)
{
    GATES(gate("a"));
    PLAN(.await = pending());
    weft_deferred *d;

    begin();
    d = weft_spawn(open_group, &plan);
    weft_group_cancel(plan.group, weft_error_new(&WEFT_CLIENT_GONE, "it left"));
    settle();
    cr_assert_str_eq(trace_text(), "a=!client_gone body=!client_gone group=nil");
    over(d, &plan);
    end();
}

static weft_result cancel_group(void *group)
{
    weft_result_drop(weft_yield());
    weft_group_cancel(group, NULL);
    return traced(weft_yield(), "canceller");
}

static weft_result spawn_canceller(weft_group *group, void *plan)
{
    WEFT_CHECK(weft_group_spawn(group, cancel_group, group));
    return follow(group, plan);
}

static weft_result open_canceller(void *plan)
{
    return traced(weft_with_group(spawn_canceller, plan), "group");
}

Test(group_cancel, may_come_from_one_of_its_fibers)
{
    GATES(gate("a"));
    PLAN(.result = weft_int(2));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_canceller, &plan);
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled canceller=!cancelled group=2");
    over(d, &plan);
    end();
}

Test(group_cancel, of_the_fiber_in_its_body_goes_to_the_others_and_comes_out)
{
    GATES(gate("a"));
    PLAN(.await = pending());
    weft_error *cancellation = weft_error_new(&WEFT_CLIENT_GONE, "it left");
    weft_deferred *d;

    begin();
    d = weft_spawn(open_group, &plan);
    weft_deferred_cancel_with(d, weft_error_ref(cancellation));
    settle();
    cr_assert_str_eq(trace_text(), "body=!client_gone a=!client_gone group=!client_gone");
    cr_assert(weft_error_same(weft_failed(weft_deferred_peek(d)), cancellation));
    weft_error_unref(cancellation);
    over(d, &plan);
    end();
}

Test(group_cancel, of_the_fiber_that_leaves_is_passed_on_and_comes_out_in_the_end)
{
    GATES(gate("a"), gate("b"));
    PLAN(.result = weft_int(5));
    weft_error *cancellation = weft_error_new(&WEFT_CLIENT_GONE, "it left");
    weft_deferred *d;

    begin();
    gates[0].clean = pending();
    d = weft_spawn(open_group, &plan);
    weft_deferred_cancel_with(d, weft_error_ref(cancellation));
    settle();
    cr_assert_str_eq(trace_text(), "b=!client_gone a=!client_gone");
    weft_deferred_callback(gates[0].clean, weft_ok(NULL));
    settle();
    cr_assert_str_eq(trace_text(), "a:clean=nil group=!client_gone");
    cr_assert(weft_error_same(weft_failed(weft_deferred_peek(d)), cancellation));
    cr_assert_eq(log_count(""), 0);
    weft_error_unref(cancellation);
    weft_deferred_unref(gates[0].clean);
    over(d, &plan);
    end();
}

/* Opens a group and waits once more afterwards. */
static weft_result open_group_and_wait(void *plan)
{
    weft_result result = open_group(plan);

    traced_last(weft_yield(), "next wait");
    return result;
}

Test(group_cancel, of_the_fiber_that_leaves_does_not_let_it_go_before_its_fibers_also_when_it_comes_twice)
{
    GATES(gate("a"));
    PLAN(.result = weft_int(5));
    weft_deferred *d;

    begin();
    gates[0].clean = pending();
    d = weft_spawn(open_group_and_wait, &plan);
    weft_deferred_cancel_with(d, weft_error_new(&WEFT_CLIENT_GONE, "it left"));
    settle();
    weft_deferred_cancel_with(d, weft_error_new(&WEFT_SHUTDOWN, "the end"));
    weft_deferred_cancel_with(d, weft_error_new(&WEFT_CANCELLED, "once more"));
    settle();
    cr_assert_str_eq(trace_text(), "a=!client_gone");
    cr_assert_eq(weft_group_count(plan.group), 1);
    weft_deferred_callback(gates[0].clean, weft_ok(NULL));
    settle();
    cr_assert_str_eq(trace_text(), "a:clean=nil group=!client_gone next wait=!shutdown");
    weft_deferred_unref(gates[0].clean);
    over(d, &plan);
    end();
}

Test(group_cancel, of_the_fiber_that_leaves_a_group_that_has_failed_is_kept_for_its_next_wait)
{
    GATES(gate("a"), gate("b"));
    PLAN(.result = weft_int(5));
    weft_deferred *d;

    begin();
    gates[0].clean = pending();
    d = weft_spawn(open_group_and_wait, &plan);
    open_gate(&gates[1], broken());
    weft_deferred_cancel_with(d, weft_error_new(&WEFT_CLIENT_GONE, "it left"));
    settle();
    cr_assert_str_eq(trace_text(), "b=!broken a=!sibling_failed");
    weft_deferred_callback(gates[0].clean, weft_ok(NULL));
    settle();
    cr_assert_str_eq(trace_text(), "a:clean=nil group=!broken next wait=!client_gone");
    weft_deferred_unref(gates[0].clean);
    over(d, &plan);
    end();
}

/* The body of a group that fails although its fiber was asked to stop before. */
static weft_deferred *self;

static weft_result fail_when_cancelled(weft_group *group, void *plan)
{
    weft_result result;

    WEFT_TRY(weft_yield());
    weft_deferred_cancel_with(self, weft_error_new(&WEFT_CLIENT_GONE, "it left"));
    result = follow(group, plan);
    weft_result_drop(result);
    return broken();
}

static weft_result open_failing_when_cancelled(void *plan)
{
    weft_result result = traced(weft_with_group(fail_when_cancelled, plan), "group");

    traced_last(weft_yield(), "next wait");
    return result;
}

Test(group_cancel, that_came_before_the_body_failed_is_kept_for_the_next_wait)
{
    GATES(gate("a"));
    PLAN(.result = weft_ok(NULL));

    begin();
    self = weft_spawn(open_failing_when_cancelled, &plan);
    settle();
    cr_assert_str_eq(trace_text(), "a=!sibling_failed group=!broken next wait=!client_gone");
    over(self, &plan);
    end();
}

Test(group_cancel, gives_way_to_a_failure_that_comes_of_it)
{
    GATES(gate("a"), gate("b"));
    PLAN(.result = weft_int(5));
    weft_deferred *d;

    begin();
    gates[0].clean = weft_succeed(weft_ok(NULL));
    gates[0].after = broken();
    d = weft_spawn(open_group, &plan);
    weft_deferred_cancel(d);
    settle();
    cr_assert_str_eq(trace_text(), "b=!cancelled a=!cancelled a:clean=nil group=!broken");
    weft_deferred_unref(gates[0].clean);
    over(d, &plan);
    end();
}

static weft_result open_group_and_succeed(void *plan)
{
    weft_result_drop(open_group(plan));
    return weft_int(1);
}

Test(group_cancel, that_came_out_of_leaving_is_swallowed_by_who_succeeds_then)
{
    GATES(gate("a"));
    PLAN(.result = weft_int(5));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_group_and_succeed, &plan);
    weft_deferred_cancel(d);
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled group=!cancelled");
    cr_assert_eq(log_count("the fiber open_group_and_succeed was cancelled"), 1);
    over(d, &plan);
    end();
}

Test(group_cancel, is_not_swallowed_by_who_handles_a_failure_that_came_of_it)
{
    GATES(gate("a"));
    PLAN(.result = weft_int(5));
    weft_deferred *d;

    begin();
    gates[0].clean = weft_succeed(weft_ok(NULL));
    gates[0].after = broken();
    d = weft_spawn(open_group_and_succeed, &plan);
    weft_deferred_cancel(d);
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled a:clean=nil group=!broken");
    cr_assert_eq(log_count(""), 0);
    weft_deferred_unref(gates[0].clean);
    over(d, &plan);
    end();
}

/* ---- scopes around it, and inside ---- */

static weft_scope *around;

static weft_result open_group_in_a_scope(void *plan)
{
    weft_scope *scope = weft_scope_enter((weft_scope_options){0});
    weft_result result;

    around = scope;
    result = open_group(plan);
    return traced(weft_scope_leave(&scope, result), "scope");
}

Test(group_cancel, of_a_scope_further_out_reaches_its_fibers_and_is_not_its_own)
{
    GATES(gate("a"));
    PLAN(.await = pending());
    weft_deferred *d;

    begin();
    d = weft_spawn(open_group_in_a_scope, &plan);
    weft_scope_cancel(around, NULL);
    cr_assert(weft_group_is_ending(plan.group));
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled body=!cancelled group=!cancelled scope=nil");
    cr_assert_eq(log_count(""), 0);
    over(d, &plan);
    end();
}

Test(group_cancel, of_a_scope_further_out_comes_out_of_leaving_as_itself)
{
    GATES(gate("a"));
    PLAN(.result = weft_int(5));
    weft_deferred *d;

    begin();
    gates[0].clean = pending();
    d = weft_spawn(open_group_in_a_scope, &plan);
    weft_scope_cancel(around, weft_error_new(&WEFT_CLIENT_GONE, "it left"));
    settle();
    cr_assert_str_eq(trace_text(), "a=!client_gone");
    weft_deferred_callback(gates[0].clean, weft_ok(NULL));
    settle();
    cr_assert_str_eq(trace_text(), "a:clean=nil group=!client_gone scope=nil");
    cr_assert_eq(log_count(""), 0);
    weft_deferred_unref(gates[0].clean);
    over(d, &plan);
    end();
}

/* The scope around it is cancelled, which only a fiber of the group notices, before the body returns its value. */
static weft_result cancel_around(weft_group *group, void *plan)
{
    weft_result result = follow(group, plan);

    weft_scope *shield = weft_shield_enter((weft_shield_options){0});

    weft_scope_cancel(around, NULL);
    while (weft_group_count(group))
        weft_result_drop(weft_yield());
    return weft_scope_leave(&shield, result);
}

static weft_result open_and_cancel_around(void *plan)
{
    weft_scope *scope = weft_scope_enter((weft_scope_options){0});

    around = scope;
    return traced(weft_scope_leave(&scope, traced(weft_with_group(cancel_around, plan), "group")), "scope");
}

Test(group_cancel, of_a_scope_further_out_that_only_a_fiber_has_seen_comes_out_too)
{
    GATES(gate("a"));
    PLAN(.result = weft_int(5));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_and_cancel_around, &plan);
    settle();
    over(d, &plan);
    cr_assert_str_eq(trace_text(), "a=!cancelled group=!cancelled scope=nil");
    end();
}

Test(group_cancel, of_a_scope_further_out_leaves_a_group_alone_in_which_nobody_waits)
{
    struct plan plan = {.result = weft_int(5)};

    begin();
    over(weft_spawn(open_and_cancel_around, &plan), &plan);
    cr_assert_str_eq(trace_text(), "group=5 scope=5");
    end();
}

/* A group in a group: the inner one has the gates. */
static weft_group *outer;

static weft_result spawn_inner(weft_group *group, void *plan)
{
    outer = group;
    WEFT_CHECK(weft_group_spawn(group, open_group, plan));
    return weft_int(8);
}

static weft_result open_outer(void *plan)
{
    return traced(weft_with_group(spawn_inner, plan), "outer");
}

Test(group_cancel, of_the_outer_group_is_not_absorbed_by_the_inner)
{
    GATES(gate("a"));
    PLAN(.result = weft_int(5));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_outer, &plan);
    weft_group_cancel(outer, NULL);
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled group=!cancelled outer=8");
    over(d, &plan);
    end();
}

Test(group_cancel, of_the_inner_group_is_no_affair_of_the_outer)
{
    GATES(gate("a"));
    PLAN(.result = weft_int(5));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_outer, &plan);
    weft_group_cancel(plan.group, NULL);
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled group=5 outer=8");
    over(d, &plan);
    end();
}

Test(group_failure, of_an_inner_group_is_one_of_the_outer)
{
    GATES(gate("a"), gate("b"));
    PLAN(.result = weft_int(5));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_outer, &plan);
    open_gate(&gates[0], broken());
    cr_assert_str_eq(trace_text(), "a=!broken b=!sibling_failed group=!broken outer=!broken");
    over(d, &plan);
    end();
}

static weft_result shield_group(void *plan)
{
    return traced(weft_shield(open_group, plan), "shield");
}

static weft_result open_group_in_a_shield(void *plan)
{
    weft_scope *scope = weft_scope_enter((weft_scope_options){0});
    weft_result result;

    around = scope;
    result = shield_group(plan);
    traced_last(weft_yield(), "next wait");
    return traced(weft_scope_leave(&scope, result), "scope");
}

Test(group_cancel, does_not_reach_a_group_in_a_shield)
{
    GATES(gate("a"));
    PLAN(.result = weft_int(5));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_group_in_a_shield, &plan);
    weft_scope_cancel(around, weft_error_new(&WEFT_CLIENT_GONE, "it left"));
    weft_deferred_cancel(d);
    settle();
    cr_assert_str_eq(trace_text(), "");
    cr_assert_not(weft_group_is_ending(plan.group));
    open_gate(&gates[0], weft_int(1));
    cr_assert_str_eq(trace_text(), "a=1 group=5 shield=5 next wait=!cancelled scope=5");
    over(d, &plan);
    end();
}

static weft_result open_group_for_a_second(void *plan)
{
    return traced(weft_fail_after(1, open_group, plan), "scope");
}

Test(group_cancel, comes_from_a_deadline_around_it_which_makes_it_a_timeout)
{
    GATES(gate("a"));
    PLAN(.result = weft_int(5));
    weft_test_clock *clock;
    weft_clock *reactors;
    weft_deferred *d;

    begin();
    reactors = weft_clock_current();
    clock = weft_test_clock_new();
    weft_clock_set(weft_test_clock_get_clock(clock));
    d = weft_spawn(open_group_for_a_second, &plan);
    weft_test_clock_advance(clock, 1);
    settle();
    cr_assert_str_eq(trace_text(), "a=!deadline group=!deadline scope=!timed_out");
    over(d, &plan);
    weft_clock_set(reactors);
    weft_test_clock_free(clock);
    end();
}

Test(group_cancel, ends_a_group_whose_reactor_is_freed)
{
    GATES(gate("a"), gate("b"));
    PLAN(.result = weft_int(5));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_group, &plan);
    settle();
    end();
    cr_assert_str_eq(trace_text(), "b=!shutdown a=!shutdown group=!shutdown");
    over(d, &plan);
}

/* ---- entering and leaving ---- */

static weft_result enter_and_leave(void *gate)
{
    weft_group *group = weft_group_enter();

    cr_assert_null(weft_group_spawn(group, pass, gate));
    traced_last(weft_group_leave(&group, weft_int(3)), "left");
    cr_assert_null(group);
    cr_assert_null(weft_scope_current());
    return weft_group_leave(&group, weft_int(4));
}

Test(group_leave, waits_and_sets_the_group_to_null)
{
    struct gate a = gate("a");
    weft_deferred *d;

    begin();
    d = weft_spawn(enter_and_leave, &a);
    settle();
    cr_assert_str_eq(trace_text(), "");
    open_gate(&a, weft_ok(NULL));
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "a=nil left=3 d=4");
    gates_free(&a, 1);
    end();
}

static weft_result leave_shared(void *unused)
{
    (void)unused;
    weft_group_close(shared);
    return weft_group_leave(&shared, weft_int(6));
}

static weft_result leave_elsewhere(weft_group *group, void *unused)
{
    shared = group;
    conclude(weft_spawn(leave_shared, unused), "stranger");
    cr_assert_eq(shared, group);
    cr_assert_null(weft_group_spawn(group, say, (void *)"still open"));
    return weft_int(1);
}

static weft_result open_to_be_left_elsewhere(void *unused)
{
    return weft_with_group(leave_elsewhere, unused);
}

Test(group_leave, by_another_fiber_is_a_misuse)
{
    begin();
    conclude(weft_spawn(open_to_be_left_elsewhere, NULL), "d");
    cr_assert_str_eq(trace_text(), "stranger=6 still open d=1");
    cr_assert_eq(log_count("is left by another than the fiber that entered it"), 2);
    end();
}

static weft_result leave_its_scope(weft_group *group, void *unused)
{
    weft_scope *scope = weft_scope_current();
    weft_result result = weft_scope_leave(&scope, weft_int(1));

    (void)unused;
    weft_scope_close(weft_scope_current());
    cr_assert_not_null(weft_scope_current());
    cr_assert_null(weft_group_spawn(group, say, (void *)"still open"));
    return result;
}

static weft_result open_to_leave_its_scope(void *unused)
{
    return weft_with_group(leave_its_scope, unused);
}

Test(group_leave, as_a_mere_scope_is_a_misuse)
{
    begin();
    conclude(weft_spawn(open_to_leave_its_scope, NULL), "d");
    cr_assert_str_eq(trace_text(), "still open d=1");
    cr_assert_eq(log_count("misuse: the scope entered at"), 2);
    cr_assert_eq(log_count("by another than the group that entered it"), 2);
    end();
}

static weft_result forget(void *gate)
{
    weft_group *group = weft_group_enter();

    cr_assert_null(weft_group_spawn(group, pass, gate));
    return weft_int(3);
}

Test(group_leave, that_a_fiber_forgets_happens_before_it_ends)
{
    struct gate a = gate("a");
    weft_deferred *d;

    begin();
    a.clean = pending();
    d = weft_spawn(forget, &a);
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled");
    cr_assert_eq(log_count("misuse: the group entered at"), 1);
    cr_assert_eq(log_count("was not left by the fiber forget"), 1);
    weft_deferred_cancel(d);
    settle();
    cr_assert_eq(weft_deferred_get_state(d), WEFT_PENDING);
    weft_deferred_callback(a.clean, weft_ok(NULL));
    settle();
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "a:clean=nil d=3");
    weft_deferred_unref(a.clean);
    gates_free(&a, 1);
    end();
}

Test(group_leave, that_a_fiber_forgets_reports_a_failure_that_nobody_else_would)
{
    struct gate a = gate("a");

    begin();
    a.clean = weft_succeed(weft_ok(NULL));
    a.after = broken();
    conclude(noted(weft_spawn(forget, &a), "d"), "end");
    cr_assert_eq(log_count("unhandled"), 0);
    settle();
    cr_assert_eq(log_count("unhandled"), 1);
    cr_assert_eq(log_count("broken: it broke"), 1);
    weft_deferred_unref(a.clean);
    gates_free(&a, 1);
    trace_text();
    end();
}

static weft_result forget_in_a_scope(void *gate)
{
    weft_scope *scope = weft_scope_enter((weft_scope_options){0});
    weft_result result = forget(gate);

    result = traced(weft_scope_leave(&scope, result), "scope");
    cr_assert_null(weft_scope_current());
    return result;
}

Test(group_leave, happens_with_that_of_a_scope_around_it)
{
    struct gate a = gate("a");
    weft_deferred *d;

    begin();
    a.clean = pending();
    d = weft_spawn(forget_in_a_scope, &a);
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled");
    weft_deferred_callback(a.clean, weft_ok(NULL));
    settle();
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "a:clean=nil scope=3 d=3");
    cr_assert_eq(log_count("misuse: the group entered at"), 1);
    weft_deferred_unref(a.clean);
    gates_free(&a, 1);
    end();
}

static weft_result forget_inside(weft_group *group, void *arg)
{
    struct gate *gates = arg;

    (void)!weft_scope_enter((weft_scope_options){0});
    cr_assert_null(weft_group_spawn(group, pass, &gates[1]));
    return forget(&gates[0]);
}

static weft_result open_to_forget_inside(void *gates)
{
    return traced(weft_with_group(forget_inside, gates), "group");
}

Test(group_leave, leaves_first_what_was_forgotten_inside)
{
    GATES(gate("a"), gate("b"));
    weft_deferred *d;

    begin();
    d = weft_spawn(open_to_forget_inside, gates);
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled");
    cr_assert_eq(log_count("misuse: the group entered at"), 1);
    cr_assert_eq(log_count("misuse: the scope entered at"), 1);
    open_gate(&gates[1], weft_ok(NULL));
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "b=nil group=3 d=3");
    gates_free(gates, 2);
    end();
}

/* A group with the gate in it that is left by the clean-up attribute when `await` fails, which it takes. */
static weft_result leave_by_the_way(void *arg)
{
    struct plan *plan = arg;
    weft_auto(weft_group_close) weft_group *group = weft_group_enter();

    WEFT_CHECK(weft_group_spawn(group, pass, &plan->gates[0]));
    WEFT_TRY(traced(await_held(plan->await), "body"));
    return weft_group_leave(&group, weft_int(1));
}

Test(group_leave, may_be_left_to_the_clean_up_of_its_variable)
{
    GATES(gate("a"));
    PLAN(.await = weft_deferred_fail(weft_error_new(&BROKEN, "it broke")));
    weft_deferred *d;

    begin();
    d = noted(weft_spawn(leave_by_the_way, &plan), "d");
    settle();
    cr_assert_str_eq(trace_text(), "body=!broken a=!cancelled d=!broken");
    over(d, &plan);
    plan.gates[0] = gate("a");
    plan.await = weft_succeed(weft_int(9));
    d = noted(weft_spawn(leave_by_the_way, &plan), "d");
    open_gate(&gates[0], weft_int(2));
    cr_assert_str_eq(trace_text(), "body=9 a=2 d=1");
    cr_assert_eq(log_count(""), 0);
    over(d, &plan);
    end();
}

Test(group_leave, by_clean_up_lets_the_cancellation_pass_that_tells_of_the_failure)
{
    GATES(gate("a"));
    PLAN(.await = pending());
    weft_error *error = weft_error_new(&BROKEN, "it broke");
    weft_deferred *d;

    begin();
    d = noted(weft_spawn(leave_by_the_way, &plan), "d");
    open_gate(&gates[0], weft_fail(weft_error_ref(error)));
    cr_assert_str_eq(trace_text(), "a=!broken body=!sibling_failed d=!sibling_failed");
    cr_assert(weft_error_same(weft_error_get_cause(weft_failed(weft_deferred_peek(d))), error));
    cr_assert_eq(log_count("unhandled"), 0);
    cr_assert_eq(log_count("DEBUG"), 1);
    weft_error_unref(error);
    over(d, &plan);
    end();
}

static weft_result enter_to_close_and_wait(void *gate)
{
    weft_group *group = weft_group_enter();

    cr_assert_null(weft_group_spawn(group, pass, gate));
    cr_assert_null(weft_group_close(group));
    return traced(weft_yield(), "next wait");
}

Test(group_leave, by_closing_keeps_a_cancel_of_the_fiber_for_its_next_wait)
{
    struct gate a = gate("a");
    weft_deferred *d;

    begin();
    a.clean = pending();
    d = weft_spawn(enter_to_close_and_wait, &a);
    settle();
    weft_deferred_cancel_with(d, weft_error_new(&WEFT_CLIENT_GONE, "it left"));
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled");
    weft_deferred_callback(a.clean, weft_ok(NULL));
    settle();
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "a:clean=nil next wait=!client_gone d=!client_gone");
    weft_deferred_unref(a.clean);
    gates_free(&a, 1);
    end();
}

/* ---- many ---- */

#ifdef WEFT_TEST_SANITIZED
enum { CROWD = 1000 };
#else
enum { CROWD = 100 * 1000 };
#endif

static size_t ended_in_crowd;
static weft_deferred *crowd_gate; /* the first of the crowd waits for it, the others for nothing that comes */

static weft_result be_one_of_many(void *first)
{
    weft_result result = await_held(first ? weft_deferred_ref(crowd_gate) : pending());

    ended_in_crowd++;
    return result;
}

static weft_result yield_as_one_of_many(void *unused)
{
    (void)unused;
    WEFT_TRY(weft_yield());
    ended_in_crowd++;
    return weft_ok(NULL);
}

static weft_result spawn_crowd(weft_group *group, void *fn)
{
    shared = group;
    for (int i = 0; i < CROWD; i++)
        WEFT_CHECK(weft_group_spawn(group, *(weft_fiber_fn **)fn, i ? NULL : &crowd_gate));
    return weft_int(1);
}

static weft_result open_crowd(void *fn)
{
    return weft_with_group(spawn_crowd, fn);
}

static void crowd(weft_fiber_fn *fn, void (*then)(void), const char *result)
{
    weft_deferred *d;

    reactor = NULL;
    cr_assert_null(weft_reactor_new(&reactor));
    log_capture();
    crowd_gate = pending();
    d = weft_spawn(open_crowd, &fn);
    cr_assert_eq(weft_group_count(shared), CROWD);
    cr_assert_eq(weft_live_counts_get().fibers, CROWD + 1);
    if (then)
        then();
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, d)), result);
    cr_assert_eq(ended_in_crowd, CROWD);
    weft_deferred_unref(crowd_gate);
    end();
}

static void crowd_ends(void)
{
    crowd(yield_as_one_of_many, NULL, "1");
}

static void fail_one(void)
{
    weft_deferred_callback(crowd_gate, broken());
}

static void crowd_fails(void)
{
    crowd(be_one_of_many, fail_one, "!broken");
}

static void cancel_shared(void)
{
    weft_group_cancel(shared, NULL);
}

static void crowd_is_cancelled(void)
{
    crowd(be_one_of_many, cancel_shared, "1");
}

static void run_crowd(void *fn)
{
    (*(void (**)(void))fn)();
}

/* A quadratic walk over 100,000 would take minutes: the tests' time limit is what notices. */
Test(group, of_100000_fibers_ends_on_a_small_stack, .timeout = 60)
{
    void (*fn)(void) = crowd_ends;

    with_small_stack(run_crowd, &fn);
}

Test(group_failure, ends_100000_fibers_on_a_small_stack, .timeout = 60)
{
    void (*fn)(void) = crowd_fails;

    with_small_stack(run_crowd, &fn);
}

Test(group_cancel, ends_100000_fibers_on_a_small_stack, .timeout = 60)
{
    void (*fn)(void) = crowd_is_cancelled;

    with_small_stack(run_crowd, &fn);
}

/* ---- the map in fibers ---- */

struct map_plan {
    struct gate *gates;
    size_t count;
    size_t limit;
};

static weft_result pass_numbered(size_t index, void *gates)
{
    return pass(&((struct gate *)gates)[index]);
}

static weft_result map_gates(void *arg)
{
    const struct map_plan *plan = arg;

    return traced(weft_parallel_map_in_fibers(plan->count, plan->limit, pass_numbered, plan->gates), "map");
}

#define MAP(...) struct map_plan plan = {.gates = gates, .count = sizeof gates / sizeof *gates, __VA_ARGS__}

static void map_over(weft_deferred *d, struct map_plan *plan)
{
    cr_assert_eq(weft_deferred_get_state(d), WEFT_DONE);
    weft_result_drop(weft_deferred_take_result(d));
    weft_deferred_unref(d);
    gates_free(plan->gates, plan->count);
}

Test(group_map, runs_at_most_so_many_at_a_time_and_brings_their_values_in_order)
{
    GATES(gate("a"), gate("b"), gate("c"), gate("d"));
    MAP(.limit = 2);
    weft_deferred *d;

    begin();
    d = weft_spawn(map_gates, &plan);
    cr_assert_eq(weft_live_counts_get().fibers, 3);
    open_gate(&gates[1], weft_int(2));
    cr_assert_eq(weft_live_counts_get().fibers, 3);
    open_gate(&gates[3], weft_int(4));
    cr_assert_str_eq(trace_text(), "b=2");
    open_gate(&gates[2], weft_int(3));
    cr_assert_str_eq(trace_text(), "c=3 d=4");
    open_gate(&gates[0], weft_int(1));
    cr_assert_str_eq(trace_text(), "a=1 map=[1 2 3 4]");
    map_over(d, &plan);
    end();
}

Test(group_map, fails_with_the_first_error_and_its_index_when_all_have_ended)
{
    GATES(gate("a"), gate("b"), gate("c"), gate("d"));
    MAP(.limit = 3);
    weft_error *error = weft_error_new(&BROKEN, "it broke");
    weft_deferred *d;
    size_t index = 9;

    begin();
    gates[0].clean = pending();
    d = weft_spawn(map_gates, &plan);
    open_gate(&gates[1], weft_fail(weft_error_ref(error)));
    cr_assert_str_eq(trace_text(), "b=!broken c=!sibling_failed a=!sibling_failed");
    cr_assert_eq(weft_live_counts_get().fibers, 2);
    weft_deferred_callback(gates[0].clean, weft_ok(NULL));
    settle();
    cr_assert_str_eq(trace_text(), "a:clean=nil map=!broken");
    cr_assert(weft_error_same(weft_failed(weft_deferred_peek(d)), error));
    cr_assert(weft_error_get_index(weft_failed(weft_deferred_peek(d)), &index));
    cr_assert_eq(index, 1);
    cr_assert_eq(log_count(""), 0);
    weft_error_unref(error);
    weft_deferred_unref(gates[0].clean);
    map_over(d, &plan);
    end();
}

static weft_result fail_second(size_t index, void *unused)
{
    (void)unused;
    trace("%zu", index);
    return index == 1 ? broken() : weft_int((intptr_t)index);
}

static weft_result map_to_failure(void *unused)
{
    return traced(weft_parallel_map_in_fibers(4, 1, fail_second, unused), "map");
}

Test(group_map, begins_nothing_after_an_error)
{
    weft_deferred *d;
    size_t index = 9;

    begin();
    d = weft_spawn(map_to_failure, NULL);
    cr_assert_str_eq(trace_text(), "0 1 map=!broken");
    cr_assert(weft_error_get_index(weft_failed(weft_deferred_peek(d)), &index));
    cr_assert_eq(index, 1);
    weft_result_drop(weft_deferred_take_result(d));
    weft_deferred_unref(d);
    end();
}

Test(group_map, is_cancelled_with_its_fiber_and_begins_no_more)
{
    GATES(gate("a"), gate("b"), gate("c"));
    MAP(.limit = 2);
    weft_deferred *d;

    begin();
    d = weft_spawn(map_gates, &plan);
    weft_deferred_cancel_with(d, weft_error_new(&WEFT_CLIENT_GONE, "it left"));
    settle();
    cr_assert_str_eq(trace_text(), "a=!client_gone b=!client_gone map=!client_gone");
    cr_assert_eq(log_count(""), 0);
    map_over(d, &plan);
    end();
}

static weft_result map_in_a_scope(void *plan)
{
    weft_scope *scope = weft_scope_enter((weft_scope_options){0});
    weft_result result;

    around = scope;
    result = map_gates(plan);
    return traced(weft_scope_leave(&scope, result), "scope");
}

Test(group_map, is_in_the_scope_of_its_fiber)
{
    GATES(gate("a"), gate("b"), gate("c"));
    MAP(.limit = 2);
    weft_deferred *d;

    begin();
    d = weft_spawn(map_in_a_scope, &plan);
    open_gate(&gates[0], weft_int(1)); /* so that one was begun by the end of another */
    weft_scope_cancel(around, NULL);
    settle();
    cr_assert_str_eq(trace_text(), "a=1 c=!cancelled b=!cancelled map=!cancelled scope=nil");
    cr_assert_eq(log_count(""), 0);
    map_over(d, &plan);
    end();
}

static weft_result map_none(void *unused)
{
    traced_last(weft_parallel_map_in_fibers(0, 2, fail_second, unused), "none");
    return weft_parallel_map_in_fibers(2, 0, fail_second, unused);
}

Test(group_map, of_none_is_empty_and_with_a_limit_of_none_a_misuse)
{
    begin();
    conclude(weft_spawn(map_none, NULL), "d");
    cr_assert_str_eq(trace_text(), "none=[] d=!misuse");
    end();
}

Test(group_map, outside_a_fiber_is_a_misuse)
{
    begin();
    cr_assert_str_eq(told(weft_parallel_map_in_fibers(2, 2, fail_second, NULL)), "!misuse");
    cr_assert_str_eq(trace_text(), "");
    end();
}

static weft_result yield_and_count(size_t index, void *counter)
{
    WEFT_TRY(weft_yield());
    ++*(size_t *)counter;
    return weft_int((intptr_t)index);
}

static weft_result map_many(void *counter)
{
    weft_results *results = WEFT_TRY(weft_parallel_map_in_fibers(CROWD, CROWD / 10, yield_and_count, counter));

    cr_assert_eq(results->count, CROWD);
    weft_results_free(results);
    return weft_ok(NULL);
}

static void map_crowd(void *counter)
{
    cr_assert_null(weft_reactor_new(&reactor));
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, weft_spawn(map_many, counter))), "nil");
    end();
}

Test(group_map, of_100000_takes_no_more_c_stack_than_one_of_few, .timeout = 60)
{
    size_t counter = 0;

    with_small_stack(map_crowd, &counter);
    cr_assert_eq(counter, CROWD);
}

/* Fibers in and behind one another: how far down a cancel goes and what comes up, and the order of entering and leaving. */
#include "tests/support/fibers.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

/* ---- a cancel in five nestings ----
 *
 * In each, the body of the innermost fiber waits for `work`, and every level above it traces what comes up. */

struct nest {
    weft_fiber_fn *body;
    weft_deferred *work; /* a reference of the test's */
};

static weft_result wait_for_work(const struct nest *nest)
{
    return weft_await(weft_deferred_ref(nest->work));
}

static weft_deferred *alone(struct nest *nest)
{
    return weft_spawn(nest->body, nest);
}

static weft_result await_fiber(void *nest)
{
    return noted_await(alone(nest), "outer");
}

static weft_deferred *in_a_fiber(struct nest *nest)
{
    return weft_spawn(await_fiber, nest);
}

static weft_result call_body(struct nest *nest)
{
    return note(nest->body(nest), (char[]){"middle"});
}

static weft_result call_function(void *nest)
{
    return note(call_body(nest), (char[]){"outer"});
}

static weft_deferred *in_functions(struct nest *nest)
{
    return weft_spawn(call_function, nest);
}

static weft_deferred *behind_a_callback(struct nest *nest)
{
    return noted(weft_deferred_add_both(done(weft_ok(NULL)), return_later, alone(nest)), "chain");
}

static weft_result await_chain(void *nest)
{
    return noted_await(behind_a_callback(nest), "outer");
}

static weft_deferred *behind_a_callback_in_a_fiber(struct nest *nest)
{
    return weft_spawn(await_chain, nest);
}

/* The levels of each, innermost first. */
static const struct shape {
    weft_deferred *(*start)(struct nest *nest);
    const char *levels[3];
} ALONE = {alone, {NULL}}, IN_A_FIBER = {in_a_fiber, {"outer"}}, IN_FUNCTIONS = {in_functions, {"middle", "outer"}},
  BEHIND_A_CALLBACK = {behind_a_callback, {"chain"}},
  BEHIND_A_CALLBACK_IN_A_FIBER = {behind_a_callback_in_a_fiber, {"chain", "outer"}};

/* What all levels trace, and `d` at last, when `result` comes up. */
static const char *all_the_way_up(const struct shape *shape, const char *result)
{
    static char text[200];
    int length = 0;

    for (const char *const *level = shape->levels; *level; level++)
        length += sprintf(text + length, "%s=%s ", *level, result);
    sprintf(text + length, "d=%s", result);
    return text;
}

static void expect(const struct shape *shape, weft_deferred *d, const char *result)
{
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), all_the_way_up(shape, result));
}

static weft_result pass(void *nest)
{
    WEFT_TRY(wait_for_work(nest));
    trace("not_reached");
    return weft_ok(NULL);
}

static void cancel_goes_down(const struct shape *shape)
{
    struct nest nest = {pass, stoppable(cancel_done, "canceller")};
    weft_deferred *d;

    begin();
    d = shape->start(&nest);
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "canceller", "at once, and nothing else happens inside the call");
    cr_assert_neq(weft_deferred_get_state(d), WEFT_DONE);
    expect(shape, d, "!cancelled");
    weft_deferred_unref(nest.work);
    end();
}

static void cancellation_comes_up(const struct shape *shape)
{
    struct nest nest = {pass, pending()};
    weft_error *reason = weft_error_new(&WEFT_CLIENT_GONE, "it left");
    weft_result result;
    weft_deferred *d;

    begin();
    d = shape->start(&nest);
    settle();
    weft_deferred_cancel_with(d, weft_error_ref(reason));
    result = run_until(d);
    cr_assert(weft_error_same(weft_failed(result), reason), "the very one that was asked with");
    trace("d=%s", told(result));
    cr_assert_str_eq(trace_text(), all_the_way_up(shape, "!client_gone"));
    weft_error_unref(reason);
    weft_deferred_unref(nest.work);
    end();
}

static weft_result answer_with_an_error(void *nest)
{
    weft_result result = wait_for_work(nest);

    cr_assert(weft_error_is(weft_failed(result), &WEFT_CANCELLED));
    return weft_fail(weft_error_caused_by(weft_error_new(&BROKEN, "half done"), weft_failed(result)));
}

static void an_error_comes_up(const struct shape *shape)
{
    struct nest nest = {answer_with_an_error, pending()};
    weft_deferred *d;

    begin();
    d = shape->start(&nest);
    weft_deferred_cancel(d);
    expect(shape, d, "!broken");
    weft_deferred_unref(nest.work);
    end();
}

static weft_result answer_with_a_value(void *nest)
{
    weft_result result = wait_for_work(nest);

    cr_assert(weft_error_is(weft_failed(result), &WEFT_CANCELLED));
    weft_result_drop(result);
    return weft_int(5);
}

static void a_value_comes_up(const struct shape *shape)
{
    struct nest nest = {answer_with_a_value, pending()};
    weft_deferred *d;

    begin();
    d = shape->start(&nest);
    weft_deferred_cancel(d);
    expect(shape, d, "5");
    weft_deferred_unref(nest.work);
    end();
}

/* The work takes its time to stop, and then its chain does. */
static void work_that_stops_later_is_waited_for(const struct shape *shape)
{
    struct nest nest = {pass, stoppable(cancel_later, "canceller")};
    weft_deferred *slow = pending(), *d;

    begin();
    weft_deferred_add_both(nest.work, return_later, weft_deferred_ref(slow));
    d = shape->start(&nest);
    weft_deferred_cancel(d);
    settle();
    cr_assert_str_eq(trace_text(), "canceller");
    weft_deferred_callback(nest.work, weft_ok(NULL));
    settle();
    cr_assert_str_eq(trace_text(), "");
    cr_assert_neq(weft_deferred_get_state(d), WEFT_DONE);
    weft_deferred_errback(slow, weft_error_new(&WEFT_CANCELLED, "stopped at last"));
    expect(shape, d, "!cancelled");
    weft_deferred_unref(nest.work);
    weft_deferred_unref(slow);
    end();
}

#define IN_EACH_WAY(Name, Shape)                                                                                    \
    Test(fiber_nesting, Name##_a_cancel_goes_down_to_the_work)                                                      \
    {                                                                                                               \
        cancel_goes_down(&Shape);                                                                                   \
    }                                                                                                               \
    Test(fiber_nesting, Name##_the_cancellation_comes_up)                                                           \
    {                                                                                                               \
        cancellation_comes_up(&Shape);                                                                              \
    }                                                                                                               \
    Test(fiber_nesting, Name##_an_error_that_the_body_makes_of_it_comes_up)                                         \
    {                                                                                                               \
        an_error_comes_up(&Shape);                                                                                  \
    }                                                                                                               \
    Test(fiber_nesting, Name##_a_value_that_the_body_makes_of_it_comes_up)                                          \
    {                                                                                                               \
        a_value_comes_up(&Shape);                                                                                   \
    }                                                                                                               \
    Test(fiber_nesting, Name##_work_that_stops_later_is_waited_for)                                                 \
    {                                                                                                               \
        work_that_stops_later_is_waited_for(&Shape);                                                                \
    }

IN_EACH_WAY(alone, ALONE)
IN_EACH_WAY(in_a_fiber, IN_A_FIBER)
IN_EACH_WAY(in_functions, IN_FUNCTIONS)
IN_EACH_WAY(behind_a_callback, BEHIND_A_CALLBACK)
IN_EACH_WAY(behind_a_callback_in_a_fiber, BEHIND_A_CALLBACK_IN_A_FIBER)

static weft_deferred *second_work;

static weft_result go_on_to_second_work(void *nest)
{
    trace("first=%s", told(wait_for_work(nest)));
    return noted_await(weft_deferred_ref(second_work), "second");
}

static void goes_on_and_is_cancelled_again(const struct shape *shape)
{
    struct nest nest = {go_on_to_second_work, stoppable(cancel_done, "c1")};
    weft_deferred *d;

    second_work = stoppable(cancel_done, "c2");
    d = shape->start(&nest);
    weft_deferred_cancel(d);
    settle();
    cr_assert_str_eq(trace_text(), "c1 first=!cancelled");
    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "c2");
    settle();
    cr_assert_eq(strncmp(trace_text(), "second=!cancelled", 17), 0);
    weft_deferred_unref(d);
    weft_deferred_unref(nest.work);
    weft_deferred_unref(second_work);
}

Test(fiber_nesting, a_body_that_goes_on_is_reached_by_the_next_cancel_in_all_of_them)
{
    begin();
    goes_on_and_is_cancelled_again(&ALONE);
    goes_on_and_is_cancelled_again(&IN_A_FIBER);
    goes_on_and_is_cancelled_again(&IN_FUNCTIONS);
    goes_on_and_is_cancelled_again(&BEHIND_A_CALLBACK);
    goes_on_and_is_cancelled_again(&BEHIND_A_CALLBACK_IN_A_FIBER);
    end();
}

/* ---- the order in which three storeys are entered and left ----
 *
 * "<x" enters the storey x, "x=result" leaves it. The lowest waits for two deferreds, "first=" and "second=". */

struct storey {
    const char *name;
    struct storey *below;
    bool calls;              /* the one below is a function, not a fiber */
    bool handles;            /* what comes up from below, if it is an error */
    weft_callback_fn *between; /* runs on what the fiber below ends with */
    weft_deferred *first, *second;
};

static weft_result wait_below(const struct storey *storey)
{
    weft_result result = noted_await(weft_deferred_ref(storey->first), "first");

    WEFT_TRY(result);
    result = noted_await(weft_deferred_ref(storey->second), "second");
    WEFT_TRY(result);
    return weft_int(9);
}

static weft_result visit(void *storey);

static weft_result go_below(const struct storey *storey)
{
    weft_deferred *fiber;

    if (!storey->below)
        return wait_below(storey);
    if (storey->calls)
        return visit(storey->below);
    fiber = weft_spawn(visit, storey->below);
    if (storey->between)
        weft_deferred_add_both(fiber, storey->between, (void *)"between");
    return weft_await(fiber);
}

static weft_result visit(void *arg)
{
    const struct storey *storey = arg;
    weft_result result;

    trace("<%s", storey->name);
    result = go_below(storey);
    if (storey->handles && weft_failed(result))
        result = return_int(result, (void *)7);
    return note(result, (void *)storey->name);
}

struct house {
    struct storey top, middle, low;
    weft_deferred *d;
};

static void build(struct house *house)
{
    *house = (struct house){{.name = "top", .below = &house->middle}, {.name = "middle", .below = &house->low},
                            {.name = "low", .first = pending(), .second = pending()}, NULL};
    begin();
}

static void visit_house(struct house *house)
{
    house->d = noted(weft_spawn(visit, &house->top), "d");
}

static void fire(weft_deferred *deferred, weft_result result)
{
    weft_deferred_callback(deferred, result);
    settle();
}

static void leave_house(struct house *house)
{
    weft_deferred_unref(house->low.first);
    weft_deferred_unref(house->low.second);
    weft_result_drop(run_until(house->d));
    end();
}

Test(fiber_stacked, all_is_entered_and_left_at_once_when_everything_is_ready)
{
    struct house house;

    build(&house);
    weft_deferred_callback(house.low.first, weft_int(1));
    weft_deferred_callback(house.low.second, weft_int(2));
    visit_house(&house);
    cr_assert_str_eq(trace_text(), "<top <middle <low first=1 second=2 low=9 middle=9 top=9 d=9");
    leave_house(&house);
}

Test(fiber_stacked, fibers_are_entered_from_the_top_and_left_from_below)
{
    struct house house;

    build(&house);
    visit_house(&house);
    cr_assert_str_eq(trace_text(), "<top <middle <low");
    fire(house.low.first, weft_int(1));
    cr_assert_str_eq(trace_text(), "first=1");
    fire(house.low.second, weft_int(2));
    cr_assert_str_eq(trace_text(), "second=2 low=9 middle=9 top=9 d=9");
    leave_house(&house);
}

Test(fiber_stacked, functions_keep_the_same_order)
{
    struct house house;

    build(&house);
    house.top.calls = house.middle.calls = true;
    visit_house(&house);
    cr_assert_eq(weft_live_counts_get().fibers, 1);
    fire(house.low.first, weft_int(1));
    cr_assert_str_eq(trace_text(), "<top <middle <low first=1");
    fire(house.low.second, weft_int(2));
    cr_assert_str_eq(trace_text(), "second=2 low=9 middle=9 top=9 d=9");
    leave_house(&house);
}

Test(fiber_stacked, so_do_a_fiber_a_function_and_a_fiber)
{
    struct house house;

    build(&house);
    house.top.calls = true;
    visit_house(&house);
    cr_assert_eq(weft_live_counts_get().fibers, 2);
    fire(house.low.first, weft_int(1));
    cr_assert_str_eq(trace_text(), "<top <middle <low first=1");
    fire(house.low.second, weft_int(2));
    cr_assert_str_eq(trace_text(), "second=2 low=9 middle=9 top=9 d=9");
    leave_house(&house);
}

Test(fiber_stacked, a_callback_in_between_runs_between_the_two)
{
    struct house house;

    build(&house);
    house.top.between = note;
    house.middle.between = note;
    visit_house(&house);
    fire(house.low.first, weft_int(1));
    cr_assert_str_eq(trace_text(), "<top <middle <low first=1");
    fire(house.low.second, weft_int(2));
    cr_assert_str_eq(trace_text(), "second=2 low=9 between=9 middle=9 between=9 top=9 d=9");
    leave_house(&house);
}

Test(fiber_stacked, an_error_at_the_first_wait_leaves_all_and_the_second_is_never_waited_for)
{
    struct house house;

    build(&house);
    visit_house(&house);
    fire(house.low.first, broken());
    cr_assert_str_eq(trace_text(), "<top <middle <low first=!broken low=!broken middle=!broken top=!broken d=!broken");
    fire(house.low.second, weft_int(2));
    cr_assert_str_eq(trace_text(), "");
    leave_house(&house);
}

Test(fiber_stacked, an_error_at_the_second_wait_leaves_all)
{
    struct house house;

    build(&house);
    visit_house(&house);
    fire(house.low.first, weft_int(1));
    cr_assert_str_eq(trace_text(), "<top <middle <low first=1");
    fire(house.low.second, broken());
    cr_assert_str_eq(trace_text(), "second=!broken low=!broken middle=!broken top=!broken d=!broken");
    leave_house(&house);
}

Test(fiber_stacked, an_error_that_the_middle_handles_comes_no_further)
{
    struct house house;

    build(&house);
    house.middle.handles = true;
    visit_house(&house);
    fire(house.low.first, broken());
    cr_assert_str_eq(trace_text(), "<top <middle <low first=!broken low=!broken middle=7 top=7 d=7");
    leave_house(&house);
}

Test(fiber_stacked, a_callback_in_between_may_make_an_error_of_a_value)
{
    struct house house;

    build(&house);
    house.middle.between = return_broken;
    visit_house(&house);
    fire(house.low.first, weft_int(1));
    fire(house.low.second, weft_int(2));
    cr_assert_str_eq(trace_text(), "<top <middle <low first=1 second=2 low=9 middle=!broken top=!broken d=!broken");
    leave_house(&house);
}

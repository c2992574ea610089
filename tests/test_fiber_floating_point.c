/* How floating point rounds and which of its exceptions trap: the thread's, but for fibers that keep their own. What is
 * looked at is what divisions give, by both units where a processor has two, and not what <fenv.h> says it would be. */
#include "tests/support/test.h"

#ifndef WEFT_TEST_SAN_valgrind /* which rounds to nearest and does not trap, whatever it is asked for */
#include <fenv.h>

#include "tests/support/fibers.h"

static const weft_spawn_options OWN = {.own_floating_point = true};

/* Rounded up and rounded down, a third differs. */
static double divide(void)
{
    volatile double one = 1, three = 3;

    return one / three;
}

static long double divide_long(void)
{
    volatile long double one = 1, three = 3;

    return one / three;
}

static double by_mode[2];
static long double by_mode_long[2];

static const char *rounds(void)
{
    double third = divide();
    long double third_long = divide_long();

    if (third == by_mode[0] && third_long == by_mode_long[0])
        return "up";
    if (third == by_mode[1] && third_long == by_mode_long[1])
        return "down";
    return "otherwise";
}

static void round_to(int mode)
{
    cr_assert_eq(fesetround(mode), 0);
}

static void learn(void)
{
    const int modes[] = {FE_UPWARD, FE_DOWNWARD};

    for (int i = 0; i < 2; i++) {
        round_to(modes[i]);
        by_mode[i] = divide();
        by_mode_long[i] = divide_long();
    }
    cr_assert_neq(by_mode[0], by_mode[1]);
    cr_assert_neq(by_mode_long[0], by_mode_long[1]);
    begin();
}

/* Yields twice, says before and after how it rounds, and goes over to `mode` in between. */
struct rounder {
    const char *name;
    int mode;
};

static weft_result change_and_say(void *arg)
{
    const struct rounder *rounder = arg;

    trace("%s:%s", rounder->name, rounds());
    round_to(rounder->mode);
    WEFT_TRY(weft_yield());
    trace("%s:%s", rounder->name, rounds());
    WEFT_TRY(weft_yield());
    trace("%s:%s", rounder->name, rounds());
    return weft_ok(NULL);
}

Test(fiber_floating_point, is_the_threads)
{
    struct rounder a = {"a", FE_UPWARD}, b = {"b", FE_DOWNWARD};
    weft_deferred *first, *second;

    learn();
    first = weft_spawn(change_and_say, &a);
    trace("%s", rounds());
    second = weft_spawn(change_and_say, &b);
    trace("%s", rounds());
    cr_assert_str_eq(told(run_until(first)), "nil");
    cr_assert_str_eq(told(run_until(second)), "nil");
    trace("%s", rounds());
    cr_assert_str_eq(trace_text(), "a:down up b:up down a:down b:down a:down b:down down");
    end();
}

Test(fiber_floating_point, of_ones_own_is_kept_over_waits_and_seen_by_nobody_else)
{
    struct rounder a = {"a", FE_UPWARD}, b = {"b", FE_DOWNWARD}, thread = {"t", FE_UPWARD};
    weft_deferred *all[3];

    learn();
    all[0] = weft_spawn_with(change_and_say, &a, OWN);
    all[1] = weft_spawn(change_and_say, &thread);
    all[2] = weft_spawn_with(change_and_say, &b, OWN);
    round_to(FE_DOWNWARD);
    for (int i = 0; i < 3; i++)
        cr_assert_str_eq(told(run_until(all[i])), "nil");
    trace("%s", rounds());
    cr_assert_str_eq(trace_text(), "a:down t:down b:up a:up t:down b:down a:up t:down b:down down");
    end();
}

Test(fiber_floating_point, of_ones_own_passes_directly_to_another_that_has_its_own)
{
    struct rounder a = {"a", FE_UPWARD}, b = {"b", FE_DOWNWARD};
    weft_deferred *first, *second;

    learn();
    first = weft_spawn_with(change_and_say, &a, OWN);
    second = weft_spawn_with(change_and_say, &b, OWN);
    cr_assert_str_eq(told(run_until(first)), "nil");
    cr_assert_str_eq(told(run_until(second)), "nil");
    trace("%s", rounds());
    cr_assert_str_eq(trace_text(), "a:down b:down a:up b:down a:up b:down down");
    end();
}

static weft_result round_up(void *unused)
{
    (void)unused;
    round_to(FE_UPWARD);
    return weft_ok(NULL);
}

Test(fiber_floating_point, of_ones_own_ends_with_the_fiber)
{
    learn();
    cr_assert_str_eq(told(run_until(weft_spawn_with(round_up, NULL, OWN))), "nil");
    cr_assert_str_eq(rounds(), "down");
    end();
}

static weft_result start_others(void *unused)
{
    struct rounder own = {"own", FE_UPWARD}, thread = {"thread", FE_DOWNWARD};
    weft_deferred *first, *second;

    (void)unused;
    round_to(FE_UPWARD);
    first = weft_spawn_with(change_and_say, &own, OWN);
    second = weft_spawn(change_and_say, &thread);
    trace("%s", rounds());
    WEFT_TRY(weft_await(first));
    return weft_await(second);
}

Test(fiber_floating_point, of_ones_own_begins_as_the_starters)
{
    learn();
    cr_assert_str_eq(told(run_until(weft_spawn_with(start_others, NULL, OWN))), "nil");
    cr_assert_str_eq(trace_text(), "own:up thread:down up own:up thread:down own:up thread:down");
    end();
}

static weft_result say_later(weft_result result, void *unused)
{
    (void)unused;
    trace("callback:%s", rounds());
    return result;
}

Test(fiber_floating_point, of_ones_own_is_not_that_of_callbacks_on_its_end)
{
    struct rounder a = {"a", FE_UPWARD};
    weft_deferred *d;

    learn();
    d = weft_spawn_with(change_and_say, &a, OWN);
    weft_deferred_add_both(d, say_later, NULL);
    cr_assert_str_eq(told(run_until(d)), "nil");
    cr_assert_str_eq(trace_text(), "a:down a:up a:up callback:down");
    end();
}

/* ---- exceptions that trap ---- */

static weft_result trap_divisions(void *unused)
{
    (void)unused;
    feclearexcept(FE_ALL_EXCEPT);
    if (feenableexcept(FE_DIVBYZERO) < 0 || fegetexcept() != FE_DIVBYZERO)
        return weft_int(0); /* many AArch64 processors cannot trap, and ignore being asked to */
    WEFT_TRY(weft_yield());
    cr_assert_eq(fegetexcept(), FE_DIVBYZERO);
    WEFT_TRY(weft_yield());
    cr_assert_eq(fegetexcept(), FE_DIVBYZERO);
    cr_assert_neq(divide(), 0, "nothing traps that did not happen here");
    cr_assert_neq(divide_long(), 0);
    return weft_int(1);
}

/* Divisions by zero that do not trap leave flags behind, which must not trap where divisions by zero do. */
static weft_result divide_by_zero(void *unused)
{
    volatile double zero = 0, quotient;
    volatile long double zero_long = 0, quotient_long;

    (void)unused;
    for (int i = 0; i < 3; i++) {
        quotient = 1 / zero;
        quotient_long = 1 / zero_long;
        cr_assert_eq(fegetexcept(), 0);
        WEFT_TRY(weft_yield());
    }
    (void)quotient, (void)quotient_long;
    return weft_ok(NULL);
}

Test(fiber_floating_point, of_ones_own_traps_nowhere_else)
{
    weft_deferred *traps, *does_not;
    const char *trapped;

    begin();
    traps = weft_spawn_with(trap_divisions, NULL, OWN);
    does_not = weft_spawn(divide_by_zero, NULL);
    trapped = told(run_until(traps));
#ifdef __x86_64__
    cr_assert_str_eq(trapped, "1");
#else
    if (trapped[0] == '0')
        cr_log_warn("nothing to see: this processor cannot trap floating-point exceptions");
#endif
    cr_assert_str_eq(told(run_until(does_not)), "nil");
    cr_assert_eq(fegetexcept(), 0);
    end();
}
#endif

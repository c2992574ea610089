/* Linearizers. a8 is Synapse's, which sleeps with the lock held so that releases do not nest; ours need not. */
#include "tests/support/test.h"
#include "tests/support/values.h"

static weft_linearizer *linearizer;

static void begin(size_t max_count)
{
    cr_assert_null(weft_linearizer_new(&linearizer, "rooms", max_count));
}

/* No key is left. */
static void end(void)
{
    cr_assert_eq(weft_linearizer_get_keys(linearizer), 0);
    linearizer = weft_linearizer_unref(linearizer);
}

/* Somebody who wants a key, keeps it, and traces the name. */
struct visitor {
    const char *name;
    weft_linearizer_grant *held;
};

static weft_result come_in(weft_result result, void *arg)
{
    struct visitor *self = arg;

    if (weft_failed(result)) {
        trace("%s=%s", self->name, told(result));
        return weft_ok(NULL);
    }
    cr_assert_eq(result.type, &weft_linearizer_type);
    self->held = result.value;
    trace("%s", self->name);
    return weft_ok(NULL);
}

/* The deferred is borrowed until it has its result. */
static weft_deferred *visit(struct visitor *visitor, const char *key)
{
    weft_deferred *d = weft_deferred_add_both(weft_linearizer_acquire(linearizer, key), come_in, visitor);

    weft_deferred_unref(d);
    return d;
}

static void go(struct visitor *visitor, const char *expected)
{
    weft_linearizer_release(visitor->held);
    cr_assert_str_eq(trace_text(), expected);
}

static struct visitor named(const char *name)
{
    return (struct visitor){.name = name};
}

Test(linearizer, a8_lets_one_after_the_other_to_a_key)
{
    struct visitor a = named("a"), b = named("b"), c = named("c");

    begin(1);
    visit(&a, "x"), visit(&b, "x"), visit(&c, "x");
    cr_assert_str_eq(trace_text(), "a");
    go(&a, "b"), go(&b, "c"), go(&c, "");
    end();
}

Test(linearizer, a8_keeps_keys_apart)
{
    char key[] = "x";
    struct visitor a = named("a"), b = named("b"), c = named("c");

    begin(1);
    visit(&a, key);
    key[0] = 'y';
    visit(&b, key);
    visit(&c, "x");
    cr_assert_str_eq(trace_text(), "a b");
    cr_assert_eq(weft_linearizer_get_keys(linearizer), 2);
    go(&b, "");
    cr_assert_eq(weft_linearizer_get_keys(linearizer), 1);
    go(&a, "c"), go(&c, "");
    end();
}

Test(linearizer, a8_takes_an_empty_key)
{
    struct visitor a = named("a"), b = named("b");

    begin(1);
    visit(&a, ""), visit(&b, "");
    go(&a, "a b"), go(&b, "");
    end();
}

Test(linearizer, a8_lets_so_many_in_at_once)
{
    struct visitor v[] = {named("1"), named("2"), named("3"), named("4"), named("5"), named("6")};

    begin(3);
    for (int i = 0; i < 5; i++)
        visit(&v[i], "x");
    cr_assert_str_eq(trace_text(), "1 2 3");
    go(&v[0], "4"), go(&v[1], "5"), go(&v[2], "");
    visit(&v[5], "x");
    cr_assert_str_eq(trace_text(), "6");
    go(&v[3], ""), go(&v[4], ""), go(&v[5], "");
    end();
}

Test(linearizer, a8_says_whether_somebody_is_in_line)
{
    struct visitor a = named("a"), b = named("b");

    begin(1);
    cr_assert(!weft_linearizer_is_queued(linearizer, "x"));
    visit(&a, "x");
    cr_assert(!weft_linearizer_is_queued(linearizer, "x"));
    visit(&b, "x");
    cr_assert(weft_linearizer_is_queued(linearizer, "x"));
    cr_assert(!weft_linearizer_is_queued(linearizer, "y"));
    go(&a, "a b");
    cr_assert(!weft_linearizer_is_queued(linearizer, "x"));
    go(&b, "");
    end();
}

Test(linearizer, a8_a_cancelled_waiter_leaves_the_line)
{
    struct visitor a = named("a"), b = named("b"), c = named("c");
    weft_deferred *waits;

    begin(1);
    visit(&a, "x"), waits = visit(&b, "x"), visit(&c, "x");
    weft_deferred_cancel(waits);
    cr_assert_str_eq(trace_text(), "a b=!cancelled");
    go(&a, "c"), go(&c, "");
    end();
}

Test(linearizer, a8_c_cancelling_a_granted_acquire_keeps_the_key)
{
    weft_deferred *d;

    begin(1);
    d = weft_linearizer_acquire(linearizer, "x");
    weft_deferred_cancel(d);
    cr_assert_eq(weft_linearizer_get_keys(linearizer), 1);
    weft_deferred_unref(d);
    end();
}

Test(linearizer, that_would_let_nobody_in_is_a_misuse)
{
    weft_error *error = weft_linearizer_new(&linearizer, "rooms", 0);

    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    cr_assert_null(linearizer);
    weft_error_unref(error);
}

Test(linearizer, has_a_name)
{
    begin(1);
    cr_assert_str_eq(weft_linearizer_get_name(linearizer), "rooms");
    end();
}

/* ---- ownership and life ---- */

Test(linearizer, c_a_grant_dropped_anywhere_goes_to_the_next)
{
    struct visitor a = named("a");
    weft_deferred *taken, *dropped;

    begin(1);
    taken = weft_linearizer_acquire(linearizer, "x");
    weft_deferred_unref(weft_linearizer_acquire(linearizer, "x"));
    dropped = weft_deferred_add_callback(weft_linearizer_acquire(linearizer, "x"), return_nothing, NULL);
    visit(&a, "x");
    weft_result_drop(weft_deferred_take_result(taken));
    weft_deferred_unref(taken);
    weft_deferred_unref(dropped);
    go(&a, "a");
    end();
}

static weft_result hold_for_a_scope(void *unused)
{
    weft_deferred *d = weft_linearizer_acquire(linearizer, "x");
    weft_result grant = weft_deferred_take_result(d);
    weft_auto(weft_linearizer_release) weft_linearizer_grant *held = grant.value;

    (void)unused, (void)held;
    weft_deferred_unref(d);
    trace("%zu", weft_linearizer_get_keys(linearizer));
    return broken();
}

Test(linearizer, c_weft_auto_releases_a_key_however_the_function_is_left)
{
    begin(1);
    trace("%s", told(hold_for_a_scope(NULL)));
    cr_assert_str_eq(trace_text(), "1 !broken");
    end();
}

Test(linearizer, lives_while_a_key_is_held)
{
    struct visitor a = named("a"), b = named("b"), c = named("c");

    begin(1);
    cr_assert_eq(weft_linearizer_ref(linearizer), linearizer);
    weft_linearizer_unref(linearizer);
    visit(&a, "x"), visit(&b, "x"), visit(&c, "y");
    weft_linearizer_unref(linearizer);
    go(&a, "a c b"), go(&b, ""), go(&c, "");
    cr_assert_null(weft_linearizer_unref(NULL));
}

static weft_result release_and_let_go(weft_result grant, void *unused)
{
    (void)unused;
    weft_linearizer_release(grant.value);
    weft_linearizer_unref(linearizer);
    return weft_ok(NULL);
}

Test(linearizer, may_be_let_go_of_in_a_callback)
{
    struct visitor a = named("a");

    begin(1);
    visit(&a, "x");
    weft_deferred_unref(
        weft_deferred_add_callback(weft_linearizer_acquire(linearizer, "x"), release_and_let_go, NULL));
    weft_deferred_unref(weft_linearizer_acquire(linearizer, "x"));
    go(&a, "a");
}

static weft_result release_and_come_back(weft_result grant, void *arg)
{
    weft_linearizer_release(grant.value);
    cr_assert_eq(weft_linearizer_get_keys(linearizer), 1);
    visit(arg, "x");
    return weft_ok(NULL);
}

Test(linearizer, a_key_may_be_acquired_again_in_a_callback_that_released_it)
{
    struct visitor a = named("a"), again = named("again");

    begin(1);
    visit(&a, "x");
    weft_deferred_unref(
        weft_deferred_add_callback(weft_linearizer_acquire(linearizer, "x"), release_and_come_back, &again));
    go(&a, "a again");
    go(&again, "");
    end();
}

/* ---- a million ---- */

static weft_result drop_and_count(weft_result grant, void *count)
{
    ++*(int *)count;
    weft_result_drop(grant);
    return weft_ok(NULL);
}

static void release_in_turn(void *unused)
{
    weft_deferred *first;
    int count = 0;

    (void)unused;
    begin(1);
    first = weft_linearizer_acquire(linearizer, "x");
    for (int i = 0; i < MANY; i++)
        weft_deferred_unref(
            weft_deferred_add_callback(weft_linearizer_acquire(linearizer, "x"), drop_and_count, &count));
    weft_deferred_unref(first);
    cr_assert_eq(count, MANY);
    end();
}

Test(linearizer_flat, a8_a_million_waiters_that_release_at_once, .timeout = 30)
{
    with_small_stack(release_in_turn, NULL);
}

static void many_keys(void *unused)
{
    weft_deferred **ds = weft_alloc(MANY * sizeof(weft_deferred *));
    char key[] = "00000000";

    (void)unused;
    begin(1);
    for (int i = 0; i < MANY; i++) {
        for (int j = 0, rest = i; j < 8; j++, rest /= 10)
            key[j] = (char)('0' + rest % 10);
        ds[i] = weft_linearizer_acquire(linearizer, key);
        cr_assert_eq(weft_deferred_get_state(ds[i]), WEFT_DONE);
    }
    cr_assert_eq(weft_linearizer_get_keys(linearizer), MANY);
    for (int i = 0; i < MANY; i++)
        weft_deferred_unref(ds[i]);
    weft_free(ds);
    end();
}

Test(linearizer_flat, a8_a_million_keys, .timeout = 30)
{
    with_small_stack(many_keys, NULL);
}

/* ---- fibers ---- */

static weft_reactor *reactor;

static weft_result hold_and_yield(void *label)
{
    weft_auto(weft_linearizer_release) weft_linearizer_grant *held =
        WEFT_TRY(weft_await(weft_linearizer_acquire(linearizer, "x")));

    (void)held;
    trace("%s:in", (const char *)label);
    WEFT_TRY(weft_yield());
    trace("%s:out", (const char *)label);
    return weft_ok(NULL);
}

static weft_deferred *start(const char *label)
{
    return weft_spawn(hold_and_yield, (void *)label);
}

/* b gets the key from a and is cancelled before it runs: it passes the key on to c. */
Test(linearizer, a8_a_fiber_cancelled_between_its_grant_and_its_turn_passes_the_key_on)
{
    struct visitor a = named("a");
    weft_deferred *b, *c;

    cr_assert_null(weft_reactor_new(&reactor));
    begin(1);
    visit(&a, "x");
    b = start("b"), c = start("c");
    go(&a, "a");
    weft_deferred_cancel(b);
    trace("c=%s", told(weft_reactor_run_until(reactor, c)));
    trace("b=%s", told(weft_reactor_run_until(reactor, b)));
    cr_assert_str_eq(trace_text(), "b:in c:in c:out c=nil b=!cancelled");
    end();
    weft_reactor_free(reactor);
}

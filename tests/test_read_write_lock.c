/* Read-write locks. a9 is Synapse's ReadWriteLock, in which a cancelled writer stays in line until its turn, and which keeps
 * something for every key it ever saw: ours does neither. */
#include "tests/support/test.h"
#include "tests/support/values.h"

static weft_read_write_lock *lock;

static void begin(void)
{
    lock = weft_read_write_lock_new();
}

/* No key is left. */
static void end(void)
{
    cr_assert_eq(weft_read_write_lock_get_keys(lock), 0);
    lock = weft_read_write_lock_unref(lock);
}

/* Somebody who wants a key, for writing if the name begins with w, keeps it, and traces the name. */
struct visitor {
    const char *name;
    weft_read_write_grant *held;
};

static const weft_type *type_of(const struct visitor *visitor)
{
    return visitor->name[0] == 'w' ? &weft_write_lock_type : &weft_read_lock_type;
}

static weft_result come_in(weft_result result, void *arg)
{
    struct visitor *self = arg;

    if (weft_failed(result)) {
        trace("%s=%s", self->name, told(result));
        return weft_ok(NULL);
    }
    cr_assert_eq(result.type, type_of(self));
    self->held = result.value;
    trace("%s", self->name);
    return weft_ok(NULL);
}

static weft_deferred *acquire(const char *name, const char *key)
{
    return name[0] == 'w' ? weft_read_write_lock_write(lock, key) : weft_read_write_lock_read(lock, key);
}

static weft_deferred *visit_key(struct visitor *visitor, const char *key)
{
    weft_deferred *d = weft_deferred_add_both(acquire(visitor->name, key), come_in, visitor);

    weft_deferred_unref(d);
    return d;
}

/* The deferred is borrowed until it has its result. */
static weft_deferred *visit(struct visitor *visitor)
{
    return visit_key(visitor, "x");
}

static void go(struct visitor *visitor, const char *expected)
{
    weft_read_write_lock_release(visitor->held);
    cr_assert_str_eq(trace_text(), expected);
}

/* The same with another callback, which is given `arg`. */
static void visit_and(weft_callback_fn *fn, const char *name, void *arg)
{
    weft_deferred_unref(weft_deferred_add_callback(acquire(name, "x"), fn, arg));
}

static struct visitor named(const char *name)
{
    return (struct visitor){.name = name};
}

Test(read_write_lock, a9_admits_in_batches_in_the_order_in_which_they_came)
{
    struct visitor r1 = named("r1"), r2 = named("r2"), r3 = named("r3"), r4 = named("r4");
    struct visitor w1 = named("w1"), w2 = named("w2"), w3 = named("w3");

    begin();
    visit(&r1), visit(&r2), visit(&w1), visit(&w2), visit(&r3), visit(&r4), visit(&w3);
    cr_assert_str_eq(trace_text(), "r1 r2");
    go(&r1, ""), go(&r2, "w1"), go(&w1, "w2"), go(&w2, "r3 r4"), go(&r3, ""), go(&r4, "w3"), go(&w3, "");
    end();
}

Test(read_write_lock, a9_readers_share_and_may_leave_in_any_order)
{
    struct visitor r1 = named("r1"), r2 = named("r2"), r3 = named("r3"), w = named("w");

    begin();
    visit(&r1), visit(&r2);
    go(&r1, "r1 r2");
    visit(&r3), visit(&w);
    go(&r3, "r3"), go(&r2, "w"), go(&w, "");
    end();
}

Test(read_write_lock, a9_a_reader_waits_for_a_writer_who_came_before)
{
    struct visitor r1 = named("r1"), w = named("w"), r2 = named("r2");

    begin();
    visit(&r1), visit(&w), visit(&r2);
    cr_assert_str_eq(trace_text(), "r1", "or writers would starve");
    go(&r1, "w"), go(&w, "r2"), go(&r2, "");
    end();
}

Test(read_write_lock, a9_a_writer_waits_for_a_writer)
{
    struct visitor w1 = named("w1"), w2 = named("w2");

    begin();
    visit(&w1), visit(&w2);
    go(&w1, "w1 w2"), go(&w2, "");
    end();
}

Test(read_write_lock, a9_keeps_keys_apart_and_keeps_none_that_is_idle)
{
    struct visitor w1 = named("w1"), w2 = named("w2"), r = named("r");

    begin();
    visit_key(&w1, "x"), visit_key(&w2, "y"), visit_key(&r, "z");
    cr_assert_str_eq(trace_text(), "w1 w2 r");
    cr_assert_eq(weft_read_write_lock_get_keys(lock), 3);
    go(&w1, "");
    cr_assert_eq(weft_read_write_lock_get_keys(lock), 2);
    go(&w2, ""), go(&r, "");
    end();
}

/* ---- cancelling ---- */

Test(read_write_lock, a9_a_cancelled_reader_leaves_at_once)
{
    struct visitor w1 = named("w1"), r = named("r"), w2 = named("w2");
    weft_deferred *waits;

    begin();
    visit(&w1), waits = visit(&r), visit(&w2);
    weft_deferred_cancel(waits);
    cr_assert_str_eq(trace_text(), "w1 r=!cancelled");
    go(&w1, "w2"), go(&w2, "");
    end();
}

Test(read_write_lock, a9_c_a_cancelled_writer_leaves_at_once_and_those_behind_it_go)
{
    struct visitor r1 = named("r1"), w = named("w"), r2 = named("r2"), r3 = named("r3"), w2 = named("w2");
    weft_deferred *waits;

    begin();
    visit(&r1), waits = visit(&w), visit(&r2), visit(&r3), visit(&w2);
    cr_assert_str_eq(trace_text(), "r1");
    weft_deferred_cancel_with(waits, weft_error_new(&WEFT_CLIENT_GONE, "x"));
    cr_assert_str_eq(trace_text(), "r2 r3 w=!client_gone");
    go(&r1, ""), go(&r3, ""), go(&r2, "w2"), go(&w2, "");
    end();
}

Test(read_write_lock, a9_c_a_cancelled_writer_does_not_let_those_behind_it_past_another)
{
    struct visitor w1 = named("w1"), w2 = named("w2"), r = named("r"), w3 = named("w3"), r1 = named("r1");
    weft_deferred *waits;

    begin();
    visit(&w1), waits = visit(&w2), visit(&r);
    weft_deferred_cancel(waits);
    cr_assert_str_eq(trace_text(), "w1 w2=!cancelled");
    go(&w1, "r");
    visit(&w2), waits = visit(&w3), visit(&r1);
    weft_deferred_cancel(waits);
    cr_assert_str_eq(trace_text(), "w3=!cancelled");
    go(&r, "w2"), go(&w2, "r1"), go(&r1, "");
    end();
}

Test(read_write_lock, a9_cancelling_a_granted_acquire_keeps_the_key)
{
    weft_deferred *d;

    begin();
    d = weft_read_write_lock_write(lock, "x");
    weft_deferred_cancel(d);
    cr_assert_eq(weft_read_write_lock_get_keys(lock), 1);
    weft_deferred_unref(d);
    end();
}

/* ---- ownership and life ---- */

Test(read_write_lock, a9_c_a_grant_dropped_anywhere_lets_the_next_in)
{
    struct visitor w = named("w");
    weft_deferred *reader, *writer, *dropped;

    begin();
    reader = weft_read_write_lock_read(lock, "x");
    writer = weft_read_write_lock_write(lock, "x");
    weft_deferred_unref(weft_read_write_lock_read(lock, "x"));
    dropped = weft_deferred_add_callback(weft_read_write_lock_read(lock, "x"), return_nothing, NULL);
    visit(&w);
    weft_result_drop(weft_deferred_take_result(reader));
    cr_assert_str_eq(trace_text(), "");
    weft_deferred_unref(writer);
    weft_deferred_unref(reader);
    weft_deferred_unref(dropped);
    go(&w, "w");
    end();
}

static weft_result hold_for_a_scope(void *unused)
{
    weft_deferred *d = weft_read_write_lock_read(lock, "x");
    weft_result grant = weft_deferred_take_result(d);
    weft_auto(weft_read_write_lock_release) weft_read_write_grant *held = grant.value;

    (void)unused, (void)held;
    weft_deferred_unref(d);
    trace("%zu", weft_read_write_lock_get_keys(lock));
    return broken();
}

Test(read_write_lock, a9_c_weft_auto_releases_a_key_however_the_function_is_left)
{
    begin();
    trace("%s", told(hold_for_a_scope(NULL)));
    cr_assert_str_eq(trace_text(), "1 !broken");
    end();
}

Test(read_write_lock, lives_while_a_key_is_held)
{
    struct visitor r = named("r"), w = named("w"), other = named("other");

    begin();
    cr_assert_eq(weft_read_write_lock_ref(lock), lock);
    weft_read_write_lock_unref(lock);
    visit(&r), visit(&w), visit_key(&other, "y");
    weft_read_write_lock_unref(lock);
    go(&r, "r other w"), go(&w, ""), go(&other, "");
    cr_assert_null(weft_read_write_lock_unref(NULL));
}

/* ---- callbacks may do anything ---- */

static weft_result release_and_let_go(weft_result grant, void *unused)
{
    (void)unused;
    weft_read_write_lock_release(grant.value);
    weft_read_write_lock_unref(lock);
    return weft_ok(NULL);
}

Test(read_write_lock, may_be_let_go_of_in_a_callback)
{
    struct visitor w = named("w");

    begin();
    visit(&w);
    visit_and(release_and_let_go, "r", NULL);
    weft_deferred_unref(weft_read_write_lock_write(lock, "x"));
    go(&w, "w");
}

static weft_result release_and_come_back(weft_result grant, void *arg)
{
    weft_read_write_lock_release(grant.value);
    visit(arg);
    trace("asked");
    return weft_ok(NULL);
}

/* The new reader could go beside the one in line, but stands behind it. */
Test(read_write_lock, nobody_overtakes_while_others_are_let_in)
{
    struct visitor w = named("w"), r = named("r"), late = named("r-late");

    begin();
    visit(&w);
    visit_and(release_and_come_back, "w", &late);
    visit(&r);
    go(&w, "w asked r r-late");
    go(&r, ""), go(&late, "");
    end();
}

Test(read_write_lock, a_key_may_be_acquired_again_in_a_callback_that_released_it)
{
    struct visitor w = named("w"), again = named("w-again");

    begin();
    visit(&w);
    visit_and(release_and_come_back, "r", &again);
    go(&w, "w w-again asked");
    go(&again, "");
    end();
}

struct canceller {
    weft_deferred *first, *second;
    struct visitor *holder;
};

static weft_result release_and_cancel(weft_result result, void *arg)
{
    struct canceller *self = arg;

    weft_read_write_lock_release(self->holder->held);
    weft_deferred_cancel(self->first);
    weft_deferred_cancel(self->second);
    return result;
}

/* Everybody leaves while the first writer's callback runs. */
Test(read_write_lock, those_about_to_be_let_in_may_be_cancelled)
{
    struct visitor r = named("r"), w1 = named("w1"), w2 = named("w2"), r2 = named("r2");
    struct canceller canceller = {.holder = &w1};

    begin();
    visit(&r);
    weft_deferred_add_callback(visit(&w1), release_and_cancel, &canceller);
    canceller.first = visit(&w2);
    canceller.second = visit(&r2);
    weft_read_write_lock_unref(lock);
    go(&r, "r w1 w2=!cancelled r2=!cancelled");
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
    begin();
    first = weft_read_write_lock_write(lock, "x");
    for (int i = 0; i < MANY; i++)
        visit_and(drop_and_count, i % 3 ? "r" : "w", &count);
    weft_deferred_unref(first);
    cr_assert_eq(count, MANY);
    end();
}

Test(read_write_lock_flat, a9_a_million_readers_and_writers_that_release_at_once, .timeout = 30)
{
    with_small_stack(release_in_turn, NULL);
}

static void cancel_many(void *unused)
{
    weft_deferred **ds = weft_alloc(MANY * sizeof(weft_deferred *)), *first;

    (void)unused;
    begin();
    first = weft_read_write_lock_read(lock, "x");
    for (int i = 0; i < MANY; i++)
        ds[i] = weft_deferred_add_errback(acquire(i % 2 ? "r" : "w", "x"), return_nothing, NULL);
    for (int i = 0; i < MANY; i += 2)
        weft_deferred_cancel(ds[i]);
    for (int i = 0; i < MANY; i++) {
        cr_assert_eq(weft_deferred_get_state(ds[i]), WEFT_DONE);
        weft_deferred_unref(ds[i]);
    }
    weft_free(ds);
    weft_deferred_unref(first);
    end();
}

Test(read_write_lock_flat, a9_a_million_waiters_of_whom_the_writers_are_cancelled, .timeout = 30)
{
    with_small_stack(cancel_many, NULL);
}

/* ---- fibers ---- */

static weft_reactor *reactor;

static weft_result hold_and_yield(void *label)
{
    weft_auto(weft_read_write_lock_release) weft_read_write_grant *held = WEFT_TRY(weft_await(acquire(label, "x")));

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

Test(read_write_lock, a9_c_a_writer_cancelled_between_its_grant_and_its_turn_lets_the_next_in)
{
    struct visitor r = named("r");
    weft_deferred *w, *r1, *r2;

    cr_assert_null(weft_reactor_new(&reactor));
    begin();
    visit(&r);
    w = start("w"), r1 = start("r1"), r2 = start("r2");
    go(&r, "r");
    weft_deferred_cancel(w);
    trace("r2=%s", told(weft_reactor_run_until(reactor, r2)));
    trace("r1=%s", told(weft_reactor_run_until(reactor, r1)));
    trace("w=%s", told(weft_reactor_run_until(reactor, w)));
    cr_assert_str_eq(trace_text(), "w:in r1:in r2:in r1:out r2:out r2=nil r1=nil w=!cancelled");
    end();
    weft_reactor_free(reactor);
}

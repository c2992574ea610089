/* Locks. The numbers are those of the rules of Twisted's DeferredLock as weft keeps them. */
#include "tests/support/test.h"
#include "tests/support/values.h"

/* Somebody who wants the lock. Gets it, traces the name, keeps it and calls `then`, if there is one. */
struct visitor {
    const char *name;
    void (*then)(struct visitor *self);
    weft_lock *held;
    struct visitor *other; /* for `then` */
    weft_deferred *turn;   /* for `then` of another */
};
static weft_lock *lock;

static struct visitor doing(const char *name, void (*then)(struct visitor *self), struct visitor *other)
{
    return (struct visitor){.name = name, .then = then, .other = other};
}

static struct visitor named(const char *name)
{
    return doing(name, NULL, NULL);
}

static weft_result come_in(weft_result result, void *arg)
{
    struct visitor *self = arg;

    if (weft_failed(result)) {
        trace("%s=%s", self->name, told(result));
        return weft_ok(NULL);
    }
    cr_assert_eq(result.type, &weft_lock_type);
    cr_assert_eq(result.value, lock);
    self->held = result.value;
    trace("%s", self->name);
    if (self->then)
        self->then(self);
    return weft_ok(NULL);
}

/* Asks for the lock; returns the deferred, borrowed until it has its result. */
static weft_deferred *visit(struct visitor *visitor)
{
    weft_deferred *d = weft_lock_acquire(lock);

    visitor->turn = d;
    weft_deferred_add_both(d, come_in, visitor);
    weft_deferred_unref(d);
    return d;
}

static void go(struct visitor *visitor)
{
    weft_lock *held = visitor->held;

    visitor->held = NULL;
    weft_lock_release(held);
}

static void go_at_once(struct visitor *self)
{
    go(self);
    trace("%s-", self->name);
}

/* The lock is free, lives, and nobody is in line. */
static void end(void)
{
    cr_assert(!weft_lock_is_locked(lock));
    cr_assert_eq(weft_lock_get_waiting(lock), 0);
    lock = weft_lock_unref(lock);
}

/* ---- 63: acquiring and releasing ---- */

Test(lock, r63_is_granted_at_once_when_it_is_free)
{
    weft_deferred *d;
    weft_result held;

    lock = weft_lock_new();
    cr_assert(!weft_lock_is_locked(lock));
    d = weft_lock_acquire(lock);
    cr_assert_eq(weft_deferred_get_state(d), WEFT_DONE);
    cr_assert(weft_lock_is_locked(lock));
    held = weft_deferred_take_result(d);
    weft_deferred_unref(d);
    cr_assert_eq(held.value, lock);
    cr_assert_eq(held.type, &weft_lock_type);
    cr_assert(weft_lock_is_locked(lock));
    weft_lock_release(held.value);
    end();
}

Test(lock, r63_grants_in_the_order_in_which_they_came)
{
    struct visitor a = named("a"), b = named("b"), c = named("c");

    lock = weft_lock_new();
    visit(&a), visit(&b), visit(&c);
    cr_assert_str_eq(trace_text(), "a");
    cr_assert_eq(weft_lock_get_waiting(lock), 2);
    go(&a);
    cr_assert_str_eq(trace_text(), "b", "before the release returns");
    go(&b);
    cr_assert_str_eq(trace_text(), "c");
    go(&c);
    end();
}

static weft_result note_locked(weft_result result, void *label)
{
    trace("%s:%s", (const char *)label, weft_lock_is_locked(lock) ? "locked" : "free");
    return result;
}

static void note_whether_locked(weft_deferred *d, const char *label)
{
    weft_deferred_add_both(d, note_locked, (void *)label);
}

Test(lock, r63_is_not_free_while_it_is_handed_over)
{
    struct visitor a = doing("a", go_at_once, NULL), b = doing("b", go_at_once, NULL);
    weft_deferred *first, *next;

    lock = weft_lock_new();
    first = weft_lock_acquire(lock);
    next = weft_lock_acquire(lock);
    note_whether_locked(next, "next");
    visit(&a);
    note_whether_locked(visit(&b), "after b");
    weft_deferred_unref(next);
    weft_deferred_unref(first);
    cr_assert_str_eq(trace_text(), "next:locked a a- b b- after b:free");
    end();
}

static void go_and_bring_another(struct visitor *self)
{
    go(self);
    trace("%s", weft_lock_is_locked(lock) ? "locked" : "free");
    visit(self->other);
}

Test(lock, r63_c_nobody_overtakes_during_a_hand_over)
{
    struct visitor first = named("first"), late = doing("late", go_at_once, NULL);
    struct visitor a = doing("a", go_and_bring_another, &late), b = doing("b", go_at_once, NULL);

    lock = weft_lock_new();
    visit(&first), visit(&a), visit(&b);
    go(&first);
    cr_assert_str_eq(trace_text(), "first a locked b b- late late-");
    end();
}

Test(lock, r63_c_is_free_again_inside_a_callback_that_releases_it_with_nobody_in_line)
{
    struct visitor first = named("first");
    struct visitor late = doing("late", go_at_once, NULL), a = doing("a", go_and_bring_another, &late);

    lock = weft_lock_new();
    visit(&first), visit(&a);
    go(&first);
    cr_assert_str_eq(trace_text(), "first a free late late-");
    end();
}

Test(lock, r63_c_release_of_one_that_nobody_holds_is_logged_and_changes_nothing)
{
    struct visitor a = named("a"), b = named("b");

    log_capture();
    lock = weft_lock_new();
    weft_lock_release(lock);
    cr_assert_eq(log_count("misuse: a lock that nobody holds is released at tests/test_lock.c:"), 1);
    visit(&a), visit(&b);
    cr_assert_str_eq(trace_text(), "a", "no second token was made");
    go(&a), go(&b);
    weft_lock_release(lock);
    cr_assert_eq(log_count("misuse: "), 2);
    cr_assert_eq(log_count(""), 2);
    end();
}

static void go_twice(struct visitor *self)
{
    go(self);
    weft_lock_release(lock);
}

Test(lock, r63_c_release_twice_in_a_callback_is_logged_and_changes_nothing)
{
    struct visitor first = named("first"), a = doing("a", go_twice, NULL);
    struct visitor b = named("b"), c = doing("c", go_at_once, NULL);

    log_capture();
    lock = weft_lock_new();
    visit(&first), visit(&a), visit(&b), visit(&c);
    go(&first);
    cr_assert_eq(log_count("misuse: "), 1);
    cr_assert_str_eq(trace_text(), "first a b");
    go(&b);
    cr_assert_str_eq(trace_text(), "c c-");
    end();
}

/* ---- 64: run ---- */

static weft_result work(void *label)
{
    trace("%s:%s", (const char *)label, weft_lock_is_locked(lock) ? "locked" : "free");
    return weft_int(7);
}

static weft_deferred *run_work(const char *label)
{
    return weft_lock_run(lock, work, (void *)label);
}

static weft_result fail_at_work(void *unused)
{
    (void)unused;
    return broken();
}

static weft_result work_until(void *deferred)
{
    trace("works");
    return weft_later(weft_deferred_ref(deferred));
}

static void finish(weft_deferred *d, const char *label)
{
    trace("%s=%s", label, told(weft_deferred_take_result(d)));
    weft_deferred_unref(d);
}

Test(lock, r64_run_holds_the_lock_and_passes_the_result_on)
{
    weft_deferred *d;

    lock = weft_lock_new();
    d = run_work("work");
    cr_assert(!weft_lock_is_locked(lock));
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "work:locked d=7");
    end();
}

Test(lock, r64_run_releases_when_it_fails)
{
    lock = weft_lock_new();
    finish(weft_lock_run(lock, fail_at_work, NULL), "d");
    cr_assert_str_eq(trace_text(), "d=!broken");
    end();
}

Test(lock, r64_run_holds_the_lock_until_a_later_result)
{
    struct value value = {"v", 0};
    weft_deferred *inner = pending(), *d;

    lock = weft_lock_new();
    d = weft_lock_run(lock, work_until, inner);
    cr_assert(weft_lock_is_locked(lock));
    noted(d, "d");
    weft_deferred_callback(inner, value_of(&value));
    cr_assert_str_eq(trace_text(), "works d=v");
    weft_deferred_unref(inner);
    cr_assert_eq(value.drops, 0);
    weft_deferred_unref(d);
    cr_assert_eq(value.drops, 1);
    end();
}

Test(lock, r64_run_releases_before_later_callbacks_see_the_result)
{
    weft_deferred *inner = pending(), *d;

    lock = weft_lock_new();
    d = weft_lock_run(lock, work_until, inner);
    note_whether_locked(d, "d");
    weft_deferred_errback(inner, weft_error_new(&BROKEN, "x"));
    weft_deferred_unref(inner);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "works d:free d=!broken");
    end();
}

Test(lock, r64_run_waits_for_its_turn)
{
    struct visitor a = named("a"), b = named("b");
    weft_deferred *d;

    lock = weft_lock_new();
    visit(&a);
    d = run_work("work");
    visit(&b);
    go(&a);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "a work:locked b d=7");
    go(&b);
    end();
}

Test(lock, r64_run_goes_on_when_nobody_wants_its_result)
{
    struct visitor a = named("a");
    weft_deferred *inner = pending();

    lock = weft_lock_new();
    visit(&a);
    weft_deferred_unref(weft_lock_run(lock, work_until, inner));
    go(&a);
    cr_assert_str_eq(trace_text(), "a works");
    cr_assert(weft_lock_is_locked(lock));
    weft_deferred_callback(inner, weft_int(1));
    weft_deferred_unref(inner);
    end();
}

static weft_result orphan(void *unused)
{
    (void)unused;
    return weft_later(pending());
}

Test(lock, r64_run_releases_when_nobody_can_fire_what_it_waits_for)
{
    lock = weft_lock_new();
    finish(weft_lock_run(lock, orphan, NULL), "d");
    cr_assert_str_eq(trace_text(), "d=!orphaned");
    end();
}

static weft_result work_in_context(void *unused)
{
    (void)unused;
    trace("@%s", weft_context_get_name(weft_context_current()));
    return weft_ok(NULL);
}

Test(lock, r64_run_works_in_the_context_of_its_caller)
{
    struct visitor a = named("a");
    weft_context *previous;
    weft_deferred *d;

    lock = weft_lock_new();
    visit(&a);
    previous = enter("caller");
    d = weft_lock_run(lock, work_in_context, NULL);
    leave(previous);
    previous = enter("releaser");
    go(&a);
    cr_assert_str_eq(weft_context_get_name(weft_context_current()), "releaser");
    leave(previous);
    weft_deferred_unref(d);
    cr_assert_str_eq(trace_text(), "a @caller");
    end();
}

Test(lock, r64_run_keeps_a_lock_alive_that_is_let_go_of_meanwhile)
{
    weft_deferred *inner = pending(), *d, *next;

    lock = weft_lock_new();
    d = weft_lock_run(lock, work_until, inner);
    next = weft_lock_run(lock, fail_at_work, NULL);
    weft_lock_unref(lock);
    weft_deferred_callback(inner, weft_int(1));
    weft_deferred_unref(inner);
    finish(d, "d");
    finish(next, "next");
    cr_assert_str_eq(trace_text(), "works d=1 next=!broken");
}

/* ---- 65: cancelling ---- */

Test(lock, r65_a_cancelled_waiter_leaves_the_line)
{
    struct visitor a = named("a"), b = named("b"), c = named("c");

    lock = weft_lock_new();
    visit(&a);
    weft_deferred_cancel(visit(&b));
    cr_assert_str_eq(trace_text(), "a b=!cancelled");
    cr_assert_eq(weft_lock_get_waiting(lock), 0);
    visit(&c);
    go(&a);
    go(&c);
    cr_assert_str_eq(trace_text(), "c");
    end();
}

Test(lock, r65_a_cancelled_waiter_fails_with_what_it_was_cancelled_with)
{
    struct visitor a = named("a"), b = named("b");

    lock = weft_lock_new();
    visit(&a);
    weft_deferred_cancel_with(visit(&b), weft_error_new(&WEFT_CLIENT_GONE, "x"));
    cr_assert_str_eq(trace_text(), "a b=!client_gone");
    go(&a);
    end();
}

Test(lock, r65_waiters_may_leave_from_anywhere_in_the_line)
{
    enum { VISITORS = 6 };
    struct visitor visitors[] = {named("0"), named("1"), named("2"), named("3"), named("4"), named("5")};
    weft_deferred *turns[VISITORS];

    lock = weft_lock_new();
    for (int i = 0; i < VISITORS; i++)
        turns[i] = visit(&visitors[i]);
    weft_deferred_cancel(turns[1]);
    weft_deferred_cancel(turns[3]);
    weft_deferred_cancel(turns[5]);
    cr_assert_eq(weft_lock_get_waiting(lock), 2);
    cr_assert_str_eq(trace_text(), "0 1=!cancelled 3=!cancelled 5=!cancelled");
    go(&visitors[0]);
    go(&visitors[2]);
    go(&visitors[4]);
    cr_assert_str_eq(trace_text(), "2 4");
    end();
}

Test(lock, r65_cancelling_a_granted_acquire_leaves_the_lock_held)
{
    weft_deferred *at_once, *waited;

    lock = weft_lock_new();
    at_once = weft_lock_acquire(lock);
    waited = weft_lock_acquire(lock);
    weft_deferred_cancel(at_once);
    cr_assert(weft_lock_is_locked(lock));
    cr_assert_eq(weft_lock_get_waiting(lock), 1);
    weft_deferred_unref(at_once);
    cr_assert_eq(weft_deferred_get_state(waited), WEFT_DONE);
    weft_deferred_cancel(waited);
    cr_assert(weft_lock_is_locked(lock));
    weft_result_drop(weft_deferred_take_result(waited));
    weft_deferred_unref(waited);
    end();
}

Test(lock, r65_a_run_cancelled_in_line_never_works)
{
    struct visitor a = named("a");
    weft_deferred *d;

    lock = weft_lock_new();
    visit(&a);
    d = run_work("work");
    weft_deferred_cancel(d);
    go(&a);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "a d=!cancelled");
    end();
}

Test(lock, r65_a_run_cancelled_at_work_is_released_when_the_work_has_stopped)
{
    weft_deferred *inner = stoppable(cancel_later, "inner"), *d;

    lock = weft_lock_new();
    d = weft_lock_run(lock, work_until, inner);
    weft_deferred_cancel(d);
    cr_assert_str_eq(trace_text(), "works inner");
    cr_assert(weft_lock_is_locked(lock));
    weft_deferred_errback(inner, weft_error_ref(weft_deferred_get_cancellation(inner)));
    cr_assert(!weft_lock_is_locked(lock));
    weft_deferred_unref(inner);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "d=!cancelled");
    end();
}

Test(lock, r65_an_acquire_may_time_out)
{
    weft_test_clock *manual = weft_test_clock_new();
    struct visitor a = named("a");
    weft_deferred *d;

    lock = weft_lock_new();
    visit(&a);
    d = weft_deferred_add_timeout(weft_lock_acquire(lock), weft_test_clock_get_clock(manual), 5);
    weft_test_clock_advance(manual, 5);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "a d=!timed_out");
    cr_assert_eq(weft_lock_get_waiting(lock), 0);
    go(&a);
    end();
    weft_test_clock_free(manual);
}

/* ---- ownership: a grant dropped anywhere releases ---- */

Test(lock, c_a_grant_that_nobody_took_is_released_with_its_deferred)
{
    weft_deferred *d;

    lock = weft_lock_new();
    d = weft_lock_acquire(lock);
    weft_deferred_unref(d);
    end();
}

Test(lock, c_a_waiter_that_nobody_holds_passes_the_lock_on)
{
    struct visitor a = named("a"), c = named("c");

    lock = weft_lock_new();
    visit(&a);
    weft_deferred_unref(weft_lock_acquire(lock));
    visit(&c);
    go(&a);
    cr_assert_str_eq(trace_text(), "a c");
    go(&c);
    end();
}

Test(lock, c_a_grant_that_a_callback_drops_is_released)
{
    struct visitor a = named("a"), c = named("c");
    weft_deferred *d;

    lock = weft_lock_new();
    visit(&a);
    d = weft_deferred_add_callback(weft_lock_acquire(lock), return_nothing, NULL);
    visit(&c);
    go(&a);
    cr_assert_str_eq(trace_text(), "a c");
    weft_deferred_unref(d);
    go(&c);
    end();
}

static weft_result drop_the_waiter(weft_result result, void *deferred)
{
    weft_deferred_unref(deferred);
    return result;
}

Test(lock, c_a_grant_whose_deferred_is_let_go_of_in_its_callback_is_released)
{
    struct visitor a = named("a");
    weft_deferred *d;

    lock = weft_lock_new();
    visit(&a);
    d = weft_lock_acquire(lock);
    weft_deferred_add_callback(d, drop_the_waiter, d);
    go(&a);
    end();
}

Test(lock, c_a_grant_that_comes_too_late_for_whom_it_is_passed_to_is_released)
{
    struct visitor a = named("a");
    weft_deferred *d = pending();

    lock = weft_lock_new();
    visit(&a);
    weft_deferred_cancel(d);
    weft_deferred_callback(d, weft_own(a.held, &weft_lock_type));
    weft_deferred_unref(d);
    end();
}

static weft_result hold_for_a_scope(void *unused)
{
    weft_deferred *d = weft_lock_acquire(lock);
    weft_result grant = weft_deferred_take_result(d);
    weft_auto(weft_lock_release) weft_lock *held = grant.value;

    (void)unused;
    weft_deferred_unref(d);
    trace("%s", weft_lock_is_locked(held) ? "locked" : "free");
    return broken();
}

Test(lock, c_weft_auto_releases_it_however_the_function_is_left)
{
    lock = weft_lock_new();
    trace("%s", told(hold_for_a_scope(NULL)));
    cr_assert_str_eq(trace_text(), "locked !broken");
    end();
}

/* ---- life ---- */

Test(lock, lives_while_it_is_held)
{
    struct visitor a = named("a"), b = named("b"), c = named("c");

    lock = weft_lock_new();
    visit(&a), visit(&b), visit(&c);
    weft_lock_unref(lock);
    go(&a), go(&b);
    cr_assert(weft_lock_is_locked(lock));
    go(&c);
    cr_assert_str_eq(trace_text(), "a b c");
}

Test(lock, is_counted)
{
    lock = weft_lock_new();
    cr_assert_eq(weft_lock_ref(lock), lock);
    cr_assert_null(weft_lock_unref(lock));
    cr_assert_null(weft_lock_unref(NULL));
    end();
}

static void go_and_let_go(struct visitor *self)
{
    go(self);
    weft_lock_unref(lock);
}

Test(lock, may_be_let_go_of_in_a_callback)
{
    struct visitor a = named("a"), b = doing("b", go_and_let_go, NULL);
    struct visitor c = doing("c", go_at_once, NULL), alone = doing("alone", go_and_let_go, NULL);

    lock = weft_lock_new();
    visit(&a), visit(&b), visit(&c);
    go(&a);
    lock = weft_lock_new();
    visit(&a), visit(&alone);
    go(&a);
    lock = weft_lock_new();
    visit(&alone);
    cr_assert_str_eq(trace_text(), "a b c c- a alone alone");
}

static void let_go_and_go(struct visitor *self)
{
    weft_lock_unref(lock);
    go(self);
}

Test(lock, may_be_let_go_of_in_a_callback_that_still_holds_it)
{
    struct visitor a = named("a"), b = doing("b", let_go_and_go, NULL);

    lock = weft_lock_new();
    visit(&a), visit(&b);
    go(&a);
    cr_assert_str_eq(trace_text(), "a b");
}

/* ---- callbacks may do anything ---- */

static void go_and_come_back(struct visitor *self)
{
    self->then = NULL;
    go(self);
    visit(self);
}

Test(lock, may_be_acquired_again_in_a_callback_that_released_it)
{
    struct visitor a = named("a"), b = doing("b", go_and_come_back, NULL), c = named("c");

    lock = weft_lock_new();
    visit(&a), visit(&b), visit(&c);
    go(&a);
    cr_assert_str_eq(trace_text(), "a b c");
    go(&c);
    cr_assert_str_eq(trace_text(), "b");
    go(&b);
    end();
}

static void go_and_cancel_the_other(struct visitor *self)
{
    go(self);
    weft_deferred_cancel(self->other->turn);
}

Test(lock, r65_one_to_whom_it_is_on_its_way_may_still_be_cancelled)
{
    struct visitor a = named("a"), c = named("c"), b = doing("b", go_and_cancel_the_other, &c), d = named("d");

    lock = weft_lock_new();
    visit(&a), visit(&b), visit(&c), visit(&d);
    go(&a);
    cr_assert_str_eq(trace_text(), "a b c=!cancelled d");
    go(&d);
    end();
}

Test(lock, is_free_when_the_last_one_to_whom_it_was_on_its_way_is_cancelled)
{
    struct visitor a = named("a"), c = named("c"), b = doing("b", go_and_cancel_the_other, &c);

    lock = weft_lock_new();
    visit(&a), visit(&b), visit(&c);
    weft_lock_unref(lock);
    go(&a);
    cr_assert_str_eq(trace_text(), "a b c=!cancelled");
}

static weft_result release_on_cancel(weft_result result, void *visitor)
{
    go(visitor);
    return result;
}

Test(lock, may_be_released_while_a_waiter_is_being_cancelled)
{
    struct visitor a = named("a"), c = named("c");
    weft_deferred *d;

    lock = weft_lock_new();
    visit(&a);
    d = weft_deferred_add_both(weft_lock_acquire(lock), release_on_cancel, &a);
    visit(&c);
    weft_deferred_cancel(d);
    finish(d, "d");
    cr_assert_str_eq(trace_text(), "a c d=!cancelled");
    go(&c);
    end();
}

/* ---- a million ---- */

static weft_result release_and_count(weft_result grant, void *count)
{
    ++*(int *)count;
    weft_lock_release(grant.value);
    return weft_ok(NULL);
}

static weft_result drop_and_count(weft_result grant, void *count)
{
    ++*(int *)count;
    weft_result_drop(grant);
    return weft_ok(NULL);
}

static void release_in_turn(void *fn)
{
    weft_lock *own = weft_lock_new();
    weft_deferred *first = weft_lock_acquire(own);
    int count = 0;

    for (int i = 0; i < MANY; i++)
        weft_deferred_unref(weft_deferred_add_callback(weft_lock_acquire(own), *(weft_callback_fn **)fn, &count));
    weft_deferred_unref(first);
    cr_assert_eq(count, MANY);
    cr_assert(!weft_lock_is_locked(own));
    weft_lock_unref(own);
}

Test(lock_flat, r63_gap_a_million_waiters_that_release_at_once, .timeout = 30)
{
    weft_callback_fn *fn = release_and_count;

    with_small_stack(release_in_turn, &fn);
}

Test(lock_flat, r63_gap_a_million_waiters_that_drop_their_grants, .timeout = 30)
{
    weft_callback_fn *fn = drop_and_count;

    with_small_stack(release_in_turn, &fn);
}

static void forget_them(void *unused)
{
    weft_lock *own = weft_lock_new();
    weft_deferred *first = weft_lock_acquire(own);

    (void)unused;
    for (int i = 0; i < MANY; i++)
        weft_deferred_unref(weft_lock_acquire(own));
    weft_lock_unref(own);
    weft_deferred_unref(first);
}

Test(lock_flat, r63_gap_a_million_waiters_that_nobody_holds, .timeout = 30)
{
    with_small_stack(forget_them, NULL);
}

static weft_result count_run(void *count)
{
    ++*(int *)count;
    return weft_ok(NULL);
}

static void run_in_turn(void *unused)
{
    weft_lock *own = weft_lock_new();
    weft_deferred *first = weft_lock_acquire(own);
    int count = 0;

    (void)unused;
    for (int i = 0; i < MANY; i++)
        weft_deferred_unref(weft_lock_run(own, count_run, &count));
    weft_deferred_unref(first);
    cr_assert_eq(count, MANY);
    weft_lock_unref(own);
}

Test(lock_flat, r64_gap_a_million_runs_in_line, .timeout = 30)
{
    with_small_stack(run_in_turn, NULL);
}

static weft_deferred **turns;

static weft_result cancel_the_next(weft_result result, void *index)
{
    intptr_t next = (intptr_t)index + 1;

    weft_result_drop(result);
    if (next < MANY)
        weft_deferred_cancel(turns[next]);
    return weft_ok(NULL);
}

static void cancel_backwards(void *unused)
{
    weft_lock *own = weft_lock_new();
    weft_deferred *first = weft_lock_acquire(own);

    (void)unused;
    turns = weft_alloc(MANY * sizeof(weft_deferred *));
    for (intptr_t i = 0; i < MANY; i++)
        turns[i] = weft_deferred_add_both(weft_lock_acquire(own), cancel_the_next, (void *)i);
    for (int i = MANY - 1; i >= 0; i--)
        weft_deferred_cancel(turns[i]);
    cr_assert_eq(weft_lock_get_waiting(own), 0);
    for (int i = 0; i < MANY; i++)
        weft_deferred_unref(turns[i]);
    weft_free(turns);
    weft_deferred_unref(first);
    weft_lock_unref(own);
}

Test(lock_flat, r65_gap_a_million_waiters_that_are_cancelled, .timeout = 30)
{
    with_small_stack(cancel_backwards, NULL);
}

/* ---- fibers: woken later, when everything may have changed ---- */

static weft_reactor *reactor;

static void stop(weft_timer *timer, void *unused)
{
    (void)timer, (void)unused;
    weft_reactor_stop(reactor);
}

/* Until no fiber is left that can run. */
static void settle(void)
{
    for (int i = 0; i < 3; i++) {
        weft_timer timer;

        weft_timer_init(&timer, stop, NULL);
        weft_timer_start(&timer, weft_reactor_get_clock(reactor), 0);
        weft_reactor_run(reactor);
    }
}

static weft_result hold_and_wait(void *label)
{
    weft_auto(weft_lock_release) weft_lock *held = WEFT_TRY(weft_await(weft_lock_acquire(lock)));

    trace("%s:%s", (const char *)label, weft_lock_is_locked(held) ? "in" : "free");
    WEFT_TRY(weft_yield());
    trace("%s:out", (const char *)label);
    return weft_ok(NULL);
}

static weft_result never_wait(void *label)
{
    weft_auto(weft_lock_release) weft_lock *held = WEFT_TRY(weft_await(weft_lock_acquire(lock)));

    trace("%s", (const char *)label);
    (void)held;
    return weft_ok(NULL);
}

static weft_deferred *start(weft_fiber_fn *fn, const char *label)
{
    return weft_spawn(fn, (void *)label);
}

static void let_run(weft_fiber_fn *fn, const char *label)
{
    weft_deferred_unref(start(fn, label));
}

Test(lock, lets_fibers_in_one_by_one)
{
    cr_assert_null(weft_reactor_new(&reactor));
    lock = weft_lock_new();
    let_run(hold_and_wait, "a");
    let_run(hold_and_wait, "b");
    let_run(never_wait, "c");
    settle();
    cr_assert_str_eq(trace_text(), "a:in a:out b:in b:out c");
    end();
    weft_reactor_free(reactor);
}

Test(lock, r65_c_a_fiber_cancelled_between_its_grant_and_its_turn_holds_the_lock_until_its_next_wait)
{
    struct visitor a = named("a"), next = named("next");
    weft_deferred *fiber;

    cr_assert_null(weft_reactor_new(&reactor));
    lock = weft_lock_new();
    visit(&a);
    fiber = start(hold_and_wait, "fiber");
    visit(&next);
    go(&a);
    weft_deferred_cancel(fiber);
    cr_assert_str_eq(trace_text(), "a", "the fiber has the lock, and did not run yet");
    settle();
    finish(fiber, "fiber");
    cr_assert_str_eq(trace_text(), "fiber:in next fiber=!cancelled");
    go(&next);
    end();
    weft_reactor_free(reactor);
}

Test(lock, r65_a_fiber_cancelled_in_line_leaves_it)
{
    struct visitor a = named("a"), next = named("next");
    weft_deferred *fiber;

    cr_assert_null(weft_reactor_new(&reactor));
    lock = weft_lock_new();
    visit(&a);
    fiber = start(hold_and_wait, "fiber");
    visit(&next);
    weft_deferred_cancel(fiber);
    cr_assert_eq(weft_lock_get_waiting(lock), 1);
    go(&a);
    settle();
    finish(fiber, "fiber");
    cr_assert_str_eq(trace_text(), "a next fiber=!cancelled");
    go(&next);
    end();
    weft_reactor_free(reactor);
}

Test(lock, c_fibers_of_a_reactor_that_is_freed_pass_the_lock_on)
{
    struct visitor a = named("a"), next = named("next");

    cr_assert_null(weft_reactor_new(&reactor));
    lock = weft_lock_new();
    visit(&a);
    let_run(hold_and_wait, "granted");
    let_run(hold_and_wait, "in line");
    visit(&next);
    go(&a);
    weft_reactor_free(reactor);
    cr_assert_str_eq(trace_text(), "a granted:in next");
    go(&next);
    end();
}

/* Conditions: whatever ends a wait, the lock is held then. */
#include "tests/support/test.h"
#include "tests/support/values.h"

static weft_lock *lock;
static weft_condition *condition;

static void begin(void)
{
    lock = weft_lock_new();
    condition = weft_condition_new(lock);
}

/* The lock is free, and nobody waits. */
static void end(void)
{
    cr_assert(!weft_lock_is_locked(lock));
    cr_assert_eq(weft_condition_get_waiting(condition), 0);
    condition = weft_condition_free(condition);
    lock = weft_lock_unref(lock);
}

/* Takes the lock, which is free, and keeps it. */
static void take(void)
{
    weft_deferred *d = weft_lock_acquire(lock);

    cr_assert_eq(weft_deferred_take_result(d).value, lock);
    weft_deferred_unref(d);
}

static weft_result note_held(weft_result result, void *label)
{
    cr_assert(weft_lock_is_locked(lock));
    note(result, label);
    weft_result_drop(result);
    return weft_ok(NULL);
}

/* Waits, holding the lock, and traces what comes of it; the deferred is borrowed until it has its result. */
static weft_deferred *wait_holding(const char *label)
{
    weft_deferred *d = weft_deferred_add_both(weft_condition_wait(condition), note_held, (void *)label);

    weft_deferred_unref(d);
    return d;
}

static weft_deferred *take_and_wait(const char *label)
{
    take();
    return wait_holding(label);
}

static void then(weft_deferred *d, weft_callback_fn *fn, const char *label)
{
    weft_deferred_add_both(d, fn, (void *)label);
}

static void release(const char *expected)
{
    weft_lock_release(lock);
    cr_assert_str_eq(trace_text(), expected);
}

Test(condition, releases_the_lock_while_it_waits_and_takes_it_again)
{
    begin();
    take_and_wait("a");
    cr_assert(!weft_lock_is_locked(lock));
    cr_assert_eq(weft_condition_get_waiting(condition), 1);
    take();
    weft_condition_notify(condition, 1);
    cr_assert_eq(weft_condition_get_waiting(condition), 0);
    cr_assert_str_eq(trace_text(), "", "the notifier has the lock");
    release("a=nil");
    cr_assert(weft_lock_is_locked(lock));
    release("");
    end();
}

Test(condition, gives_the_lock_to_who_is_in_line_for_it)
{
    weft_deferred *d;

    begin();
    take();
    d = noted(weft_deferred_add_callback(weft_lock_acquire(lock), return_int, (void *)1), "next");
    wait_holding("a");
    cr_assert_str_eq(trace_text(), "next=1");
    weft_deferred_unref(d);
    weft_condition_notify(condition, 1);
    cr_assert_str_eq(trace_text(), "a=nil", "nobody held it, so it is taken at once");
    release("");
    end();
}

Test(condition, notifies_so_many_in_the_order_in_which_they_came)
{
    begin();
    take_and_wait("a"), take_and_wait("b"), take_and_wait("c"), take_and_wait("d");
    take();
    weft_condition_notify(condition, 0);
    cr_assert_eq(weft_condition_get_waiting(condition), 4);
    weft_condition_notify(condition, 2);
    cr_assert_eq(weft_condition_get_waiting(condition), 2);
    release("a=nil"), release("b=nil"), release("");
    take();
    weft_condition_notify_all(condition);
    weft_condition_notify(condition, 5);
    release("c=nil"), release("d=nil"), release("");
    end();
}

Test(condition, queues_fairly_for_the_lock)
{
    weft_deferred *before, *after;

    begin();
    take_and_wait("a");
    take();
    before = noted(weft_deferred_add_callback(weft_lock_acquire(lock), return_int, (void *)1), "before");
    weft_condition_notify(condition, 1);
    after = noted(weft_lock_acquire(lock), "after");
    cr_assert_str_eq(trace_text(), "");
    release("before=1 a=nil");
    release("after=borrowed");
    weft_deferred_unref(before);
    weft_deferred_unref(after);
    end();
}

Test(condition, waited_for_while_nobody_holds_the_lock_is_a_misuse)
{
    weft_deferred *d;

    begin();
    d = weft_condition_wait(condition);
    cr_assert_str_eq(told(weft_deferred_take_result(d)), "!misuse");
    weft_deferred_unref(d);
    end();
}

Test(condition, keeps_the_lock_held_when_nobody_takes_the_result)
{
    begin();
    take();
    weft_deferred_unref(weft_condition_wait(condition));
    weft_condition_notify(condition, 1);
    cr_assert(weft_lock_is_locked(lock));
    release("");
    end();
}

/* ---- cancelling ---- */

Test(condition, cancelled_takes_the_lock_again_at_once_when_it_is_free)
{
    weft_deferred *a;

    begin();
    a = take_and_wait("a");
    weft_deferred_cancel_with(a, weft_error_new(&WEFT_CLIENT_GONE, "x"));
    cr_assert_str_eq(trace_text(), "a=!client_gone");
    cr_assert(weft_lock_is_locked(lock));
    release("");
    end();
}

Test(condition, cancelled_before_a_notify_leaves_the_line_and_fails_when_it_has_the_lock)
{
    weft_deferred *a;

    begin();
    a = take_and_wait("a"), take_and_wait("b");
    take();
    weft_deferred_cancel(a);
    weft_deferred_cancel(a);
    cr_assert_eq(weft_condition_get_waiting(condition), 1);
    cr_assert_str_eq(trace_text(), "");
    weft_condition_notify(condition, 1);
    release("a=!cancelled");
    release("b=nil");
    release("");
    end();
}

Test(condition, cancelled_after_a_notify_passes_it_on)
{
    weft_deferred *a;

    begin();
    a = take_and_wait("a"), take_and_wait("b"), take_and_wait("c");
    take();
    weft_condition_notify(condition, 1);
    weft_deferred_cancel(a);
    cr_assert_str_eq(trace_text(), "", "it fails when it has the lock");
    cr_assert_eq(weft_condition_get_waiting(condition), 2);
    release("a=!cancelled");
    cr_assert_eq(weft_condition_get_waiting(condition), 1);
    release("b=nil");
    release("");
    weft_condition_notify(condition, 1);
    release("c=nil");
    end();
}

Test(condition, cancelled_before_a_notify_passes_nothing_on)
{
    weft_deferred *a;

    begin();
    a = take_and_wait("a"), take_and_wait("b");
    weft_deferred_cancel(a);
    release("a=!cancelled");
    cr_assert_eq(weft_condition_get_waiting(condition), 1);
    weft_condition_notify(condition, 1);
    release("b=nil");
    end();
}

Test(condition, cancelled_when_it_has_its_result_changes_nothing)
{
    weft_deferred *d;

    begin();
    take();
    d = weft_condition_wait(condition);
    weft_condition_notify(condition, 1);
    weft_deferred_cancel(d);
    cr_assert_str_eq(told(weft_deferred_take_result(d)), "nil");
    weft_deferred_unref(d);
    release("");
    end();
}

Test(condition, a_wait_that_times_out_holds_the_lock)
{
    weft_test_clock *manual = weft_test_clock_new();
    weft_deferred *d;

    begin();
    take();
    d = weft_deferred_add_timeout(weft_condition_wait(condition), weft_test_clock_get_clock(manual), 1);
    weft_deferred_add_both(d, note_held, (void *)"d");
    take();
    weft_test_clock_advance(manual, 1);
    cr_assert_str_eq(trace_text(), "");
    release("d=!timed_out");
    weft_deferred_unref(d);
    release("");
    end();
    weft_test_clock_free(manual);
}

/* ---- callbacks may do anything ---- */

static weft_result wait_again(weft_result result, void *label)
{
    wait_holding(label);
    return result;
}

Test(condition, notify_all_means_those_who_wait_at_that_moment)
{
    begin();
    then(take_and_wait("a"), wait_again, "again");
    take_and_wait("b");
    weft_condition_notify_all(condition);
    cr_assert_str_eq(trace_text(), "a=nil b=nil");
    cr_assert_eq(weft_condition_get_waiting(condition), 1);
    release("");
    weft_condition_notify_all(condition);
    release("again=nil");
    end();
}

static weft_result cancel_another(weft_result result, void *deferred)
{
    weft_deferred_cancel(deferred);
    trace("asked");
    return result;
}

Test(condition, one_that_is_cancelled_while_notify_all_wakes_another_passes_it_on)
{
    weft_deferred *a, *b;

    begin();
    a = take_and_wait("a"), b = take_and_wait("b"), take_and_wait("c");
    weft_deferred_add_both(a, cancel_another, b);
    weft_condition_notify(condition, 2);
    cr_assert_str_eq(trace_text(), "a=nil asked");
    release("b=!cancelled");
    release("c=nil");
    release("");
    end();
}

static weft_result free_it(weft_result result, void *unused)
{
    (void)unused;
    weft_condition_free(condition);
    return result;
}

Test(condition, freed_fails_those_who_wait_once_they_have_the_lock)
{
    weft_deferred *c;

    begin();
    take_and_wait("a"), take_and_wait("b"), c = take_and_wait("c");
    take();
    weft_condition_notify(condition, 1);
    weft_condition_free(condition);
    weft_deferred_cancel(c);
    cr_assert_str_eq(trace_text(), "");
    release("a=nil"), release("b=!orphaned"), release("c=!cancelled"), release("");
    cr_assert(!weft_lock_is_locked(lock));
    weft_lock_unref(lock);
    cr_assert_null(weft_condition_free(NULL));
}

Test(condition, may_be_freed_in_a_callback_that_it_runs)
{
    begin();
    weft_deferred_add_both(take_and_wait("a"), free_it, NULL);
    take_and_wait("b");
    weft_condition_notify(condition, 1);
    cr_assert_str_eq(trace_text(), "a=nil");
    release("b=!orphaned");
    release("");
    weft_lock_unref(lock);
}

Test(condition, freed_fails_those_who_come_back)
{
    begin();
    then(take_and_wait("a"), wait_again, "again");
    weft_condition_free(condition);
    cr_assert_str_eq(trace_text(), "a=!orphaned again=!orphaned");
    release("");
    weft_lock_unref(lock);
}

static weft_result notify_from_the_lock(weft_result grant, void *label)
{
    trace("%s", (const char *)label);
    weft_condition_notify(condition, 1);
    return grant;
}

Test(condition, may_be_notified_inside_the_release_of_its_own_wait)
{
    weft_deferred *next;

    begin();
    take();
    next = weft_deferred_add_callback(weft_lock_acquire(lock), notify_from_the_lock, (void *)"next");
    wait_holding("a");
    cr_assert_str_eq(trace_text(), "next");
    weft_deferred_unref(next);
    cr_assert_str_eq(trace_text(), "a=nil");
    release("");
    end();
}

Test(condition, keeps_its_lock)
{
    begin();
    take_and_wait("a");
    weft_lock_unref(lock);
    weft_condition_free(condition);
    cr_assert_str_eq(trace_text(), "a=!orphaned");
    weft_lock_release(lock);
}

/* ---- a million ---- */

static weft_result release_lock(weft_result result, void *count)
{
    ++*(int *)count;
    weft_lock_release(lock);
    return weft_result_drop(result), weft_ok(NULL);
}

static weft_result release_and_notify(weft_result result, void *count)
{
    result = release_lock(result, count);
    weft_condition_notify(condition, 1);
    return result;
}

static void wait_many(weft_callback_fn *fn, int *count)
{
    begin();
    for (int i = 0; i < MANY; i++) {
        take();
        weft_deferred_unref(weft_deferred_add_both(weft_condition_wait(condition), fn, count));
    }
}

static void notify_many_holding(void *unused)
{
    int count = 0;

    (void)unused;
    wait_many(release_lock, &count);
    take();
    weft_condition_notify_all(condition);
    cr_assert_eq(count, 0);
    weft_lock_release(lock);
    cr_assert_eq(count, MANY);
    end();
}

Test(condition_flat, a_million_waiters_notified_under_the_lock, .timeout = 30)
{
    with_small_stack(notify_many_holding, NULL);
}

static void notify_in_turn(void *unused)
{
    int count = 0;

    (void)unused;
    wait_many(release_and_notify, &count);
    weft_condition_notify(condition, 1);
    cr_assert_eq(count, MANY);
    end();
}

Test(condition_flat, a_million_waiters_of_whom_each_notifies_the_next, .timeout = 30)
{
    with_small_stack(notify_in_turn, NULL);
}

static void free_under_many(void *unused)
{
    int count = 0;

    (void)unused;
    wait_many(release_lock, &count);
    weft_condition_free(condition);
    cr_assert_eq(count, MANY);
    weft_lock_unref(lock);
}

Test(condition_flat, a_million_waiters_whose_condition_is_freed, .timeout = 30)
{
    with_small_stack(free_under_many, NULL);
}

static void cancel_many(void *unused)
{
    weft_deferred **waits = weft_alloc(MANY * sizeof(weft_deferred *));
    int count = 0;

    (void)unused;
    begin();
    for (int i = 0; i < MANY; i++) {
        take();
        waits[i] = weft_deferred_add_both(weft_condition_wait(condition), release_lock, &count);
    }
    take();
    weft_condition_notify(condition, MANY / 2);
    for (int i = 0; i < MANY; i++)
        weft_deferred_cancel(waits[i]);
    weft_lock_release(lock);
    cr_assert_eq(count, MANY);
    for (int i = 0; i < MANY; i++)
        weft_deferred_unref(waits[i]);
    weft_free(waits);
    end();
}

Test(condition_flat, a_million_waiters_that_are_cancelled, .timeout = 30)
{
    with_small_stack(cancel_many, NULL);
}

/* ---- fibers: a room with few places ---- */

static weft_reactor *reactor;
static int places;

static weft_result enter_room(void *label)
{
    weft_auto(weft_lock_release) weft_lock *held = WEFT_TRY(weft_await(weft_lock_acquire(lock)));

    while (!places)
        WEFT_TRY(weft_await(weft_condition_wait(condition)));
    places--;
    trace("%s", (const char *)label);
    (void)held;
    return weft_ok(NULL);
}

static weft_result make_place(void *unused)
{
    weft_auto(weft_lock_release) weft_lock *held = WEFT_TRY(weft_await(weft_lock_acquire(lock)));

    (void)unused, (void)held;
    places++;
    weft_condition_notify(condition, 1);
    return weft_ok(NULL);
}

static weft_deferred *enter_as(const char *label)
{
    return weft_spawn(enter_room, (void *)label);
}

/* a is notified, and cancelled before it runs: its wait fails, and the place goes to b. */
Test(condition, serves_fibers_that_are_cancelled)
{
    weft_deferred *a, *b, *c;

    cr_assert_null(weft_reactor_new(&reactor));
    begin();
    a = enter_as("a"), b = enter_as("b"), c = enter_as("c");
    take();
    places = 1;
    weft_condition_notify(condition, 1);
    weft_deferred_cancel(a);
    weft_lock_release(lock);
    trace("a=%s", told(weft_reactor_run_until(reactor, a)));
    trace("b=%s", told(weft_reactor_run_until(reactor, b)));
    cr_assert_str_eq(trace_text(), "b a=!cancelled b=nil");
    weft_deferred_unref(weft_spawn(make_place, NULL));
    trace("c=%s", told(weft_reactor_run_until(reactor, c)));
    cr_assert_str_eq(trace_text(), "c c=nil");
    end();
    weft_reactor_free(reactor);
}

Test(condition, lets_fibers_go_when_their_reactor_is_freed)
{
    cr_assert_null(weft_reactor_new(&reactor));
    begin();
    weft_deferred_unref(enter_as("a"));
    weft_deferred_unref(enter_as("b"));
    weft_reactor_free(reactor);
    cr_assert_str_eq(trace_text(), "");
    end();
}

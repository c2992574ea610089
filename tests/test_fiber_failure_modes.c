/* What goes wrong with cancellation elsewhere: cancels that get lost, or that hit the wrong one; values, clean-up and shared
 * work that they take along; work that outlives the stack it uses; what starts while everything ends. A test for each,
 * which would fail if it went wrong here. */
#include "tests/support/fibers.h"
#include "tests/support/test.h"

#include <string.h>
#include <unistd.h>

static weft_error *client_gone(void)
{
    return weft_error_new(&WEFT_CLIENT_GONE, "it left");
}

/* ---- a cancel that is lost ---- */

static weft_result cancel_slot(weft_result result, void *slot)
{
    weft_deferred_cancel_with(*(weft_deferred **)slot, client_gone());
    return result;
}

static weft_result wait_for_first_and_sleep(void *deferred)
{
    trace("first=%s", told(weft_await(deferred)));
    trace("sleep=%s", told(weft_sleep(60)));
    trace("next=%s", told(weft_sleep(0)));
    return weft_ok(NULL);
}

/* Starts wait_for_first_and_sleep, calls `act` with its work and its deferred, and says what it traced until it ended. */
static const char *what_comes_of(void (*act)(weft_deferred *work, weft_deferred *fiber))
{
    weft_deferred *work = pending(), *fiber;

    begin();
    fiber = weft_spawn(wait_for_first_and_sleep, weft_deferred_ref(work));
    act(work, fiber);
    weft_result_drop(run_until(fiber));
    weft_deferred_unref(work);
    end();
    return trace_text();
}

static void fire_then_cancel(weft_deferred *work, weft_deferred *fiber)
{
    weft_deferred_callback(work, weft_int(1));
    weft_deferred_cancel_with(fiber, client_gone());
}

Test(failure_modes, a_cancel_of_a_fiber_that_is_ready_is_not_lost)
{
    cr_assert_str_eq(what_comes_of(fire_then_cancel), "first=1 sleep=!client_gone next=nil");
}

static void cancel_then_fire(weft_deferred *work, weft_deferred *fiber)
{
    weft_deferred_cancel_with(fiber, client_gone());
    weft_deferred_callback(work, weft_int(1));
    cr_assert_eq(weft_live_counts_get().fibers, 1);
    weft_deferred_cancel_with(fiber, weft_error_new(&WEFT_SHUTDOWN, "and again"));
}

Test(failure_modes, a_value_that_comes_after_the_cancel_in_the_same_turn_does_not_undo_it)
{
    cr_assert_str_eq(what_comes_of(cancel_then_fire), "first=!client_gone sleep=!shutdown next=nil");
}

static void cancel_inside_the_firing(weft_deferred *work, weft_deferred *fiber)
{
    weft_deferred *trigger = weft_deferred_add_both(pending(), cancel_slot, &fiber);

    weft_deferred_add_both(trigger, return_int, (void *)1);
    weft_deferred_forward(weft_deferred_ref(trigger), work);
    weft_deferred_callback(trigger, weft_ok(NULL));
    weft_deferred_unref(trigger);
}

Test(failure_modes, a_cancel_while_the_awaited_chain_runs_is_not_lost)
{
    cr_assert_str_eq(what_comes_of(cancel_inside_the_firing), "first=1 sleep=!client_gone next=nil");
}

static weft_result fire_between_waits(void *trigger)
{
    weft_result_drop(weft_yield());
    weft_deferred_callback(trigger, weft_ok(NULL));
    return wait_for_first_and_sleep(done(weft_int(1)));
}

Test(failure_modes, a_cancel_between_two_waits_is_not_lost)
{
    weft_deferred *fiber, *trigger = weft_deferred_add_both(pending(), cancel_slot, &fiber);

    begin();
    fiber = weft_spawn(fire_between_waits, trigger);
    weft_result_drop(run_until(weft_deferred_ref(fiber)));
    cr_assert_str_eq(trace_text(), "first=1 sleep=!client_gone next=nil");
    weft_deferred_unref(fiber);
    weft_deferred_unref(trigger);
    end();
}

static weft_result trigger_then_wait(void *trigger)
{
    weft_deferred_callback(trigger, weft_ok(NULL));
    return wait_for_first_and_sleep(done(weft_int(1)));
}

struct starting {
    weft_deferred *trigger;
    weft_deferred *fiber;
};

static weft_result start_one_that_triggers(void *arg)
{
    struct starting *starting = arg;

    weft_result_drop(weft_yield());
    return weft_await(weft_spawn(trigger_then_wait, starting->trigger));
}

/* Before its first wait nobody holds the inner one's deferred; whoever starts it is asked instead. */
Test(failure_modes, a_cancel_of_the_starter_before_the_first_wait_comes_out_of_it)
{
    struct starting starting;

    begin();
    starting.trigger = weft_deferred_add_both(pending(), cancel_slot, &starting.fiber);
    starting.fiber = weft_spawn(start_one_that_triggers, &starting);
    weft_result_drop(run_until(weft_deferred_ref(starting.fiber)));
    cr_assert_str_eq(trace_text(), "first=1 sleep=!client_gone next=nil");
    weft_deferred_unref(starting.fiber);
    weft_deferred_unref(starting.trigger);
    end();
}

static weft_result pass_wait(void *deferred)
{
    return weft_await(deferred);
}

static weft_result wait_for_fiber_and_sleep(void *deferred)
{
    return wait_for_first_and_sleep(weft_spawn(pass_wait, deferred));
}

/* The inner one has its value already and waits no more: the cancel is its waiter's then. */
Test(failure_modes, a_cancel_that_goes_to_a_fiber_about_to_end_comes_out_of_its_waiters_next_wait)
{
    weft_deferred *work = pending(), *outer;

    begin();
    outer = weft_spawn(wait_for_fiber_and_sleep, weft_deferred_ref(work));
    fire_then_cancel(work, outer);
    weft_result_drop(run_until(outer));
    cr_assert_str_eq(trace_text(), "first=1 sleep=!client_gone next=nil");
    weft_deferred_unref(work);
    end();
}

static weft_result wait_for_chain_and_sleep(void *deferred)
{
    weft_deferred *chain = weft_deferred_add_both(done(weft_ok(NULL)), return_later, weft_spawn(pass_wait, deferred));

    return wait_for_first_and_sleep(noted(chain, "chain"));
}

Test(failure_modes, so_does_one_that_goes_to_it_through_a_chain)
{
    weft_deferred *work = pending(), *outer;

    begin();
    outer = weft_spawn(wait_for_chain_and_sleep, weft_deferred_ref(work));
    fire_then_cancel(work, outer);
    weft_result_drop(run_until(outer));
    cr_assert_str_eq(trace_text(), "chain=1 first=1 sleep=!client_gone next=nil");
    weft_deferred_unref(work);
    end();
}

static weft_result wait_for_two_fibers_and_sleep(void *deferred)
{
    return wait_for_first_and_sleep(weft_spawn(pass_wait, weft_spawn(pass_wait, deferred)));
}

Test(failure_modes, so_does_one_that_goes_to_it_through_another_fiber_about_to_end)
{
    weft_deferred *work = pending(), *outer;

    begin();
    outer = weft_spawn(wait_for_two_fibers_and_sleep, weft_deferred_ref(work));
    fire_then_cancel(work, outer);
    weft_result_drop(run_until(outer));
    cr_assert_str_eq(trace_text(), "first=1 sleep=!client_gone next=nil");
    weft_deferred_unref(work);
    end();
}

static weft_result pass_two_waits(void *arg)
{
    weft_deferred **two = arg;

    WEFT_TRY(weft_await(two[0]));
    return weft_await(two[1]);
}

static weft_result wait_for_both_and_sleep(void *two)
{
    return wait_for_first_and_sleep(weft_spawn(pass_two_waits, two));
}

/* Too late for the inner one's first wait, and for its second, since that is for a fiber which is about to end as well. */
Test(failure_modes, so_does_one_that_comes_too_late_for_two_waits_of_an_awaited_fiber)
{
    weft_deferred *work[] = {pending(), pending()}, *two[2], *outer;

    begin();
    two[0] = weft_deferred_ref(work[0]);
    two[1] = weft_spawn(pass_wait, weft_deferred_ref(work[1]));
    outer = weft_spawn(wait_for_both_and_sleep, two);
    weft_deferred_callback(work[0], weft_int(0));
    weft_deferred_callback(work[1], weft_int(1));
    weft_deferred_cancel_with(outer, client_gone());
    weft_result_drop(run_until(outer));
    cr_assert_str_eq(trace_text(), "first=1 sleep=!client_gone next=nil");
    weft_deferred_unref(work[0]);
    weft_deferred_unref(work[1]);
    end();
}

/* After the inner fiber the chain goes on to other work, which the waiter waits for as well. */
Test(failure_modes, or_goes_to_what_its_chain_waits_for_after_it, .timeout = 10)
{
    weft_deferred *work = pending(), *after = stoppable(cancel_done, "asked"), *chain, *outer;

    begin();
    chain = weft_deferred_add_both(weft_spawn(pass_wait, weft_deferred_ref(work)), return_later, weft_deferred_ref(after));
    outer = weft_spawn(wait_for, chain);
    fire_then_cancel(work, outer);
    trace("d=%s", told(run_until(outer)));
    cr_assert_str_eq(trace_text(), "asked wait=!client_gone d=!client_gone");
    weft_deferred_unref(work);
    weft_deferred_unref(after);
    end();
}

/* ---- a cancel that the wrong one gets ---- */

struct pair {
    weft_deferred *inner, *outer; /* fibers, the outer one waiting for the inner */
    weft_deferred *work;          /* what the inner one waits for */
};

static weft_result sleep_on(void *unused)
{
    (void)unused;
    trace("outer=%s", told(weft_sleep(60)));
    return weft_int(1);
}

static weft_result wait_for_inner(void *pair)
{
    trace("inner=%s", told(weft_await(weft_deferred_ref(((struct pair *)pair)->inner))));
    return sleep_on(NULL);
}

static void begin_pair(struct pair *pair)
{
    begin();
    pair->work = pending();
    pair->inner = weft_spawn(pass_wait, weft_deferred_ref(pair->work));
    pair->outer = weft_spawn(wait_for_inner, pair);
}

static void end_pair(struct pair *pair)
{
    trace("d=%s", told(run_until(pair->outer)));
    weft_deferred_unref(pair->inner);
    weft_deferred_unref(pair->work);
    end();
}

/* The outer one sees a cancellation, but it was not cancelled: its own waits go on, until it is. */
Test(failure_modes, a_cancel_of_the_awaited_fiber_by_a_third_one_is_not_the_waiters)
{
    struct pair pair;

    begin_pair(&pair);
    weft_deferred_cancel_with(pair.inner, client_gone());
    settle();
    cr_assert_str_eq(trace_text(), "inner=!client_gone", "and it sleeps");
    weft_deferred_cancel_with(pair.outer, weft_error_new(&WEFT_SHUTDOWN, "its own"));
    settle();
    cr_assert_str_eq(trace_text(), "outer=!shutdown");
    end_pair(&pair);
}

/* A third one cancels the inner, somebody else the outer, before either runs: each is to get its own. */
Test(failure_modes, a_cancel_of_the_waiter_is_not_taken_for_that_of_the_awaited_fiber)
{
    struct pair pair;

    begin_pair(&pair);
    weft_deferred_cancel_with(pair.inner, client_gone());
    weft_deferred_cancel_with(pair.outer, weft_error_new(&WEFT_SHUTDOWN, "its own"));
    settle();
    cr_assert_str_eq(trace_text(), "inner=!client_gone outer=!shutdown");
    end_pair(&pair);
}

/* Nobody asked the outer one, whatever comes of the cancel that the inner one had no wait for. */
Test(failure_modes, a_cancel_of_an_awaited_fiber_about_to_end_is_not_handed_to_its_waiter)
{
    struct pair pair;

    begin_pair(&pair);
    weft_deferred_callback(pair.work, weft_int(3));
    weft_deferred_cancel_with(pair.inner, client_gone());
    settle();
    cr_assert_str_eq(trace_text(), "inner=3", "and the outer one sleeps");
    weft_deferred_cancel(pair.outer);
    settle();
    cr_assert_str_eq(trace_text(), "outer=!cancelled");
    end_pair(&pair);
}

/* Nor when the waiter had been cancelled once before. */
Test(failure_modes, a_cancel_of_an_awaited_fiber_is_not_mistaken_for_an_earlier_one_of_its_waiter)
{
    struct waits waits = {{pending(), pending()}};
    weft_deferred *work[] = {weft_deferred_ref(waits.awaited[0]), weft_deferred_ref(waits.awaited[1])};
    weft_deferred *inner, *outer;

    begin();
    inner = weft_spawn(wait_in_turn, &waits);
    outer = weft_spawn(wait_for_first_and_sleep, weft_deferred_ref(inner));
    weft_deferred_cancel(outer);
    settle();
    weft_deferred_callback(work[1], weft_int(2));
    weft_deferred_cancel_with(inner, client_gone());
    settle();
    cr_assert_str_eq(trace_text(), "a=!cancelled b=2 first=1", "and it sleeps");
    weft_deferred_cancel(outer);
    weft_result_drop(run_until(outer));
    cr_assert_str_eq(trace_text(), "sleep=!cancelled next=nil");
    weft_deferred_unref(inner);
    weft_deferred_unref(work[0]);
    weft_deferred_unref(work[1]);
    end();
}

/* Two are asked before the inner one runs: the first cancel is its own, whatever the second one finds. */
Test(failure_modes, a_cancel_that_an_awaited_fiber_keeps_is_not_handed_over_for_another)
{
    struct pair pair;

    begin_pair(&pair);
    weft_deferred_callback(pair.work, weft_int(3));
    weft_deferred_cancel_with(pair.inner, client_gone());
    weft_deferred_cancel_with(pair.outer, weft_error_new(&WEFT_SHUTDOWN, "its own"));
    settle();
    cr_assert_str_eq(trace_text(), "inner=3 outer=!shutdown");
    end_pair(&pair);
}

static weft_result handle_and_sleep(void *deferred)
{
    trace("handled=%s", told(weft_await(deferred)));
    return noted_await(pending(), "orphan");
}

/* A cancel that the inner one handled is spent: it does not come out once more above. */
Test(failure_modes, a_cancel_that_was_handled_where_it_came_out_is_not_seen_above)
{
    weft_deferred *work = pending(), *d;

    begin();
    d = weft_spawn(wait_for_first_and_sleep, weft_spawn(handle_and_sleep, weft_deferred_ref(work)));
    weft_deferred_cancel(d);
    settle();
    cr_assert_str_eq(trace_text(), "handled=!cancelled orphan=!orphaned first=!orphaned", "and it sleeps");
    weft_deferred_cancel(d);
    weft_result_drop(run_until(d));
    cr_assert_str_eq(trace_text(), "sleep=!cancelled next=nil");
    weft_deferred_unref(work);
    end();
}

Test(failure_modes, a_time_out_of_an_awaited_fiber_is_not_the_waiters_cancel)
{
    weft_deferred *work = pending(), *inner, *outer;

    begin();
    inner = weft_spawn(pass_wait, weft_deferred_ref(work));
    outer = weft_spawn(wait_for_first_and_sleep, weft_deferred_add_timeout(inner, weft_clock_current(), 0));
    settle();
    cr_assert_str_eq(trace_text(), "first=!timed_out");
    weft_deferred_cancel(outer);
    weft_result_drop(run_until(outer));
    cr_assert_str_eq(trace_text(), "sleep=!cancelled next=nil");
    weft_deferred_unref(work);
    end();
}

/* ---- a value that is lost when it races with a cancel ----
 *
 * A fiber does both in one turn, in either order; another waits. */

struct race {
    void (*give)(void *from);
    void *from;
    weft_deferred *victim;
    bool cancel_first;
};

static weft_result give_and_cancel(void *arg)
{
    const struct race *race = arg;

    WEFT_TRY(weft_yield());
    if (race->cancel_first)
        weft_deferred_cancel(race->victim);
    race->give(race->from);
    if (!race->cancel_first)
        weft_deferred_cancel(race->victim);
    return weft_ok(NULL);
}

/* Takes `victim`; returns what it ended with. */
static const char *race(weft_deferred *victim, bool cancel_first, void (*give)(void *from), void *from)
{
    struct race racing = {give, from, victim, cancel_first};

    cr_assert_str_eq(told(run_until(weft_spawn(give_and_cancel, &racing))), "nil");
    return told(run_until(victim));
}

static void put_item(void *queue)
{
    cr_assert_null(weft_queue_put(queue, weft_int(5)));
}

static weft_result get_from(void *queue)
{
    return weft_await(weft_queue_get(queue));
}

Test(failure_modes, an_item_put_before_the_cancel_is_got)
{
    weft_queue *queue = weft_queue_new(10, 10);

    begin();
    cr_assert_str_eq(race(weft_spawn(get_from, queue), false, put_item, queue), "5");
    cr_assert_eq(weft_queue_get_stored(queue), 0);
    end();
    weft_queue_free(queue);
}

Test(failure_modes, an_item_put_after_the_cancel_stays_in_the_queue)
{
    weft_queue *queue = weft_queue_new(10, 10);

    begin();
    cr_assert_str_eq(race(weft_spawn(get_from, queue), true, put_item, queue), "!cancelled");
    cr_assert_eq(weft_queue_get_stored(queue), 1);
    conclude(weft_queue_get(queue), "item");
    cr_assert_str_eq(trace_text(), "item=5");
    end();
    weft_queue_free(queue);
}

Test(failure_modes, an_item_put_after_the_cancel_goes_to_the_next_who_waits)
{
    weft_queue *queue = weft_queue_new(10, 10);
    weft_deferred *victim, *next;

    begin();
    victim = weft_spawn(get_from, queue);
    next = weft_spawn(get_from, queue);
    cr_assert_str_eq(race(victim, true, put_item, queue), "!cancelled");
    cr_assert_str_eq(told(run_until(next)), "5");
    end();
    weft_queue_free(queue);
}

static weft_result get_two_from(void *queue)
{
    trace("first=%s", told(get_from(queue)));
    return noted_await(weft_queue_get(queue), "second");
}

static void put_two(void *queue)
{
    put_item(queue);
    cr_assert_null(weft_queue_put(queue, weft_int(6)));
}

/* The cancel that was too late for the first item does not take the second: there it finds one that is ready. */
Test(failure_modes, items_that_are_there_are_got_although_a_cancel_is_kept)
{
    weft_queue *queue = weft_queue_new(10, 10);

    begin();
    cr_assert_str_eq(race(weft_spawn(get_two_from, queue), false, put_two, queue), "6");
    cr_assert_str_eq(trace_text(), "first=5 second=6");
    end();
    weft_queue_free(queue);
}

static weft_result put_into(void *queue)
{
    return weft_await(weft_queue_put_wait(queue, weft_int(7)));
}

static void take_item(void *queue)
{
    weft_deferred *got = weft_queue_get(queue);

    cr_assert_str_eq(told(weft_deferred_take_result(got)), "5");
    weft_deferred_unref(got);
}

/* The putter learns the truth: its item is in when it succeeds, and only then. */
Test(failure_modes, a_put_that_races_with_a_cancel_tells_whether_the_item_is_in)
{
    weft_queue *queue = weft_queue_new(1, 1);

    begin();
    put_item(queue);
    cr_assert_str_eq(race(weft_spawn(put_into, queue), true, take_item, queue), "!cancelled");
    cr_assert_eq(weft_queue_get_stored(queue), 0);
    put_item(queue);
    cr_assert_str_eq(race(weft_spawn(put_into, queue), false, take_item, queue), "nil");
    /* A getter lets the item in while it takes the other, and the queue has it. */
    cr_assert_eq(weft_queue_get_stored(queue) + weft_queue_get_putters(queue), 1);
    end();
    weft_queue_free(queue);
}

static weft_result hold_lock_and_sleep(void *lock)
{
    weft_auto(weft_lock_release) weft_lock *held = WEFT_TRY(weft_await(weft_lock_acquire(lock)));

    cr_assert_eq(held, lock);
    trace("held");
    WEFT_TRY(weft_sleep(60));
    return weft_ok(NULL);
}

static void release_lock(void *lock)
{
    weft_lock_release(lock);
}

static weft_lock *locked(void)
{
    weft_lock *lock = weft_lock_new();
    weft_deferred *held = weft_lock_acquire(lock);

    cr_assert_eq(weft_deferred_take_result(held).value, lock);
    weft_deferred_unref(held);
    return lock;
}

Test(failure_modes, a_lock_granted_before_the_cancel_is_held_and_given_up_at_the_next_wait)
{
    weft_lock *lock = locked();

    begin();
    cr_assert_str_eq(race(weft_spawn(hold_lock_and_sleep, lock), false, release_lock, lock), "!cancelled");
    cr_assert_str_eq(trace_text(), "held");
    cr_assert_not(weft_lock_is_locked(lock));
    end();
    weft_lock_unref(lock);
}

Test(failure_modes, a_lock_released_after_the_cancel_is_free)
{
    weft_lock *lock = locked();

    begin();
    cr_assert_str_eq(race(weft_spawn(hold_lock_and_sleep, lock), true, release_lock, lock), "!cancelled");
    cr_assert_str_eq(trace_text(), "");
    cr_assert_not(weft_lock_is_locked(lock));
    end();
    weft_lock_unref(lock);
}

Test(failure_modes, a_lock_released_after_the_cancel_goes_to_the_next_in_line)
{
    weft_lock *lock = locked();
    weft_deferred *victim, *next;

    begin();
    victim = weft_spawn(hold_lock_and_sleep, lock);
    next = weft_spawn(hold_lock_and_sleep, lock);
    cr_assert_str_eq(race(victim, true, release_lock, lock), "!cancelled");
    settle();
    cr_assert_str_eq(trace_text(), "held");
    weft_deferred_cancel(next);
    cr_assert_str_eq(told(run_until(next)), "!cancelled");
    cr_assert_not(weft_lock_is_locked(lock));
    end();
    weft_lock_unref(lock);
}

static weft_result acquire_and_drop(void *lock)
{
    return weft_await(weft_lock_acquire(lock));
}

/* Between the grant and the turn of a body that returns the lock, which nobody then takes. */
Test(failure_modes, a_lock_that_is_the_result_of_a_cancelled_fiber_is_released)
{
    weft_lock *lock = locked();

    begin();
    race(weft_spawn(acquire_and_drop, lock), false, release_lock, lock);
    cr_assert_not(weft_lock_is_locked(lock));
    end();
    weft_lock_unref(lock);
}

static weft_result hold_token_and_sleep(void *semaphore)
{
    weft_auto(weft_semaphore_release) weft_semaphore *held = WEFT_TRY(weft_await(weft_semaphore_acquire(semaphore)));

    cr_assert_eq(held, semaphore);
    trace("held");
    WEFT_TRY(weft_sleep(60));
    return weft_ok(NULL);
}

static void release_token(void *semaphore)
{
    weft_semaphore_release(semaphore);
}

static void race_for_a_token(bool cancel_first, const char *expected)
{
    weft_semaphore *semaphore;
    weft_deferred *held[2];

    begin();
    cr_assert_null(weft_semaphore_new(&semaphore, 2));
    for (int i = 0; i < 2; i++) {
        held[i] = weft_semaphore_acquire(semaphore);
        cr_assert_eq(weft_deferred_take_result(held[i]).value, semaphore);
        weft_deferred_unref(held[i]);
    }
    cr_assert_str_eq(race(weft_spawn(hold_token_and_sleep, semaphore), cancel_first, release_token, semaphore),
                     "!cancelled");
    cr_assert_str_eq(trace_text(), expected);
    cr_assert_eq(weft_semaphore_get_tokens(semaphore), 1);
    weft_semaphore_release(semaphore);
    weft_semaphore_unref(semaphore);
    end();
}

Test(failure_modes, a_token_granted_before_the_cancel_is_held_and_given_up_at_the_next_wait)
{
    race_for_a_token(false, "held");
}

Test(failure_modes, a_token_released_after_the_cancel_is_free)
{
    race_for_a_token(true, "");
}

/* What a read would bring: a byte of a pipe, taken out of it when the pipe is readable and not before. */
struct reading {
    int ends[2];
    weft_io io;
    weft_deferred *byte; /* a reference while it is watched for */
};

static void stop_reading(struct reading *reading)
{
    weft_io_stop(&reading->io);
    reading->byte = weft_deferred_unref(reading->byte);
}

static void read_byte(weft_io *io, int events, void *arg)
{
    struct reading *reading = arg;
    char byte;

    (void)io, (void)events;
    cr_assert_eq(read(reading->ends[0], &byte, 1), 1);
    weft_deferred_callback(reading->byte, weft_int(byte));
    stop_reading(reading);
}

static weft_cancel_outcome cancel_reading(weft_deferred *deferred, void *reading)
{
    (void)deferred;
    stop_reading(reading);
    return WEFT_CANCEL_DONE;
}

static weft_result await_byte(void *arg)
{
    struct reading *reading = arg;

    reading->byte = weft_deferred_new(cancel_reading, reading);
    weft_io_init(&reading->io, read_byte, reading);
    weft_io_start(&reading->io, reading->ends[0], WEFT_READABLE);
    return weft_await(weft_deferred_ref(reading->byte));
}

static void write_byte(void *arg)
{
    cr_assert_eq(write(((struct reading *)arg)->ends[1], "b", 1), 1);
}

/* The loop has seen the byte already. */
static void write_and_read_byte(void *arg)
{
    struct reading *reading = arg;

    write_byte(reading);
    read_byte(&reading->io, WEFT_READABLE, reading);
}

static void race_for_a_byte(bool cancel_first, void (*give)(void *reading), const char *expected)
{
    struct reading reading = {.byte = NULL};
    char byte = 0;

    begin();
    cr_assert_eq(pipe(reading.ends), 0);
    cr_assert_str_eq(race(weft_spawn(await_byte, &reading), cancel_first, give, &reading), expected);
    close(reading.ends[1]);
    cr_assert_eq(read(reading.ends[0], &byte, 1), *expected == '!', "either the fiber has it or the pipe");
    close(reading.ends[0]);
    end();
}

Test(failure_modes, a_byte_read_before_the_cancel_is_the_readers)
{
    race_for_a_byte(false, write_and_read_byte, "98");
}

Test(failure_modes, a_byte_that_is_only_there_before_the_cancel_stays_in_the_pipe)
{
    race_for_a_byte(false, write_byte, "!cancelled");
}

Test(failure_modes, a_byte_written_after_the_cancel_stays_in_the_pipe)
{
    race_for_a_byte(true, write_byte, "!cancelled");
}

static weft_result await_value(void *slot)
{
    weft_result result = weft_await(weft_deferred_ref(*(weft_deferred **)slot));

    trace("got=%s", told(result));
    return weft_ok(NULL);
}

/* Which of both comes first does not matter to what is owned: it is dropped once. */
Test(failure_modes, a_value_that_came_too_late_is_dropped_and_not_leaked)
{
    struct value early = {"early", 0}, late = {"late", 0};
    weft_deferred *work[] = {pending(), pending()}, *d[2];

    begin();
    for (int i = 0; i < 2; i++)
        d[i] = weft_spawn(await_value, &work[i]);
    weft_deferred_callback(work[0], value_of(&early));
    weft_deferred_cancel(d[0]);
    weft_deferred_cancel(d[1]);
    weft_deferred_callback(work[1], value_of(&late));
    cr_assert_eq(late.drops, 1);
    settle();
    cr_assert_str_eq(trace_text(), "got=early got=!cancelled");
    cr_assert_eq(early.drops, 1);
    cr_assert_eq(late.drops, 1);
    for (int i = 0; i < 2; i++) {
        weft_deferred_unref(d[i]);
        weft_deferred_unref(work[i]);
    }
    end();
}

/* ---- clean-up that is cancelled ---- */

static weft_result clean_up_in_three_waits(void *deferred)
{
    weft_result result = weft_await(deferred);

    trace("work=%s", told(result));
    trace("flush=%s", told(weft_sleep(0)));
    trace("close=%s", told(weft_yield()));
    trace("tell=%s", told(weft_sleep(0)));
    return weft_ok(NULL);
}

Test(failure_modes, clean_up_may_wait_as_often_as_it_has_to)
{
    weft_deferred *work = pending(), *d;

    begin();
    d = weft_spawn(clean_up_in_three_waits, weft_deferred_ref(work));
    weft_deferred_cancel(d);
    weft_result_drop(run_until(d));
    cr_assert_str_eq(trace_text(), "work=!cancelled flush=nil close=nil tell=nil");
    weft_deferred_unref(work);
    end();
}

Test(failure_modes, a_second_cancel_takes_one_wait_of_the_clean_up_and_leaves_the_others)
{
    weft_deferred *work = pending(), *d;

    begin();
    d = weft_spawn(clean_up_in_three_waits, weft_deferred_ref(work));
    weft_deferred_cancel(d);
    weft_deferred_cancel_with(d, client_gone());
    weft_deferred_cancel_with(d, client_gone());
    weft_result_drop(run_until(d));
    cr_assert_str_eq(trace_text(), "work=!cancelled flush=!client_gone close=nil tell=nil");
    weft_deferred_unref(work);
    end();
}

static weft_result wait_for_clean_up(void *deferred)
{
    return weft_await(weft_spawn(clean_up_in_three_waits, deferred));
}

Test(failure_modes, clean_up_of_an_awaited_fiber_goes_on_and_is_waited_for)
{
    weft_deferred *work = pending(), *d;

    begin();
    d = weft_spawn(wait_for_clean_up, weft_deferred_ref(work));
    weft_deferred_cancel(d);
    trace("d=%s", told(run_until(d)));
    cr_assert_str_eq(trace_text(), "work=!cancelled flush=nil close=nil tell=nil d=nil");
    cr_assert_eq(weft_live_counts_get().fibers, 0);
    weft_deferred_unref(work);
    end();
}

static weft_result clean_up_after_clean_up(void *deferred)
{
    trace("outer=%s", told(wait_for_clean_up(deferred)));
    trace("outer_cleans=%s", told(weft_sleep(0)));
    return weft_ok(NULL);
}

static weft_result wait_and_clean_up(void *deferred)
{
    trace("outer=%s", told(weft_await(weft_spawn(pass_wait, deferred))));
    trace("outer_cleans=%s", told(weft_sleep(0)));
    return weft_ok(NULL);
}

/* The end of the reactor is one cancel, also for those who wait for one another. */
Test(failure_modes, clean_up_of_fibers_in_fibers_may_wait_at_the_reactors_end)
{
    weft_deferred *work = pending(), *other = pending();

    begin();
    weft_deferred_unref(weft_spawn(clean_up_after_clean_up, weft_deferred_ref(work)));
    end();
    cr_assert_str_eq(trace_text(), "work=!shutdown flush=nil close=nil tell=nil outer=nil outer_cleans=nil");
    begin();
    weft_deferred_unref(weft_spawn(wait_and_clean_up, weft_deferred_ref(other)));
    end();
    cr_assert_str_eq(trace_text(), "outer=!shutdown outer_cleans=nil");
    weft_deferred_unref(work);
    weft_deferred_unref(other);
}

/* ---- shared work that one waiter takes along ---- */

static weft_result wait_for_event(void *event)
{
    return weft_await(weft_event_wait(event));
}

Test(failure_modes, a_waiter_of_an_event_that_is_cancelled_leaves_the_others)
{
    weft_event *event = weft_event_new();
    weft_deferred *d[3];

    begin();
    for (int i = 0; i < 3; i++)
        d[i] = weft_spawn(wait_for_event, event);
    weft_deferred_cancel(d[1]);
    cr_assert_eq(weft_event_get_waiting(event), 2);
    settle();
    weft_event_set(event);
    for (int i = 0; i < 3; i++)
        trace("%s", told(run_until(d[i])));
    cr_assert_str_eq(trace_text(), "nil !cancelled nil");
    end();
    weft_event_free(event);
}

Test(failure_modes, one_in_the_line_of_a_lock_that_is_cancelled_leaves_the_others)
{
    weft_lock *lock = locked();
    weft_deferred *d[3];

    begin();
    for (int i = 0; i < 3; i++)
        d[i] = weft_spawn(acquire_and_drop, lock);
    weft_deferred_cancel(d[1]);
    cr_assert_eq(weft_lock_get_waiting(lock), 2);
    weft_lock_release(lock);
    for (int i = 0; i < 3; i++)
        trace("%s", told(run_until(d[i])));
    cr_assert_str_eq(trace_text(), "borrowed !cancelled borrowed");
    cr_assert_not(weft_lock_is_locked(lock));
    end();
    weft_lock_unref(lock);
}

/* A fiber whose answer several want. */
struct shared {
    weft_event *answered;
    weft_deferred *work;
    weft_result answer;
};

static weft_result work_for_all(void *arg)
{
    struct shared *shared = arg;

    shared->answer = weft_await(weft_deferred_ref(shared->work));
    weft_event_set(shared->answered);
    return weft_ok(NULL);
}

static weft_result ask_shared(void *arg)
{
    struct shared *shared = arg;

    WEFT_TRY(weft_await(weft_event_wait(shared->answered)));
    return shared->answer;
}

static void begin_shared(struct shared *shared)
{
    *shared = (struct shared){weft_event_new(), stoppable(cancel_done, "killed"), weft_ok(NULL)};
    begin();
    weft_deferred_unref(weft_spawn(work_for_all, shared));
}

static void end_shared(struct shared *shared)
{
    weft_deferred_unref(shared->work);
    end();
    weft_event_free(shared->answered);
}

Test(failure_modes, a_fibers_work_for_several_goes_on_when_one_of_them_is_cancelled)
{
    struct shared shared;
    weft_deferred *d[3];

    begin_shared(&shared);
    for (int i = 0; i < 3; i++)
        d[i] = weft_spawn(ask_shared, &shared);
    weft_deferred_cancel(d[0]);
    settle();
    weft_deferred_callback(shared.work, weft_int(4));
    for (int i = 0; i < 3; i++)
        trace("%s", told(run_until(d[i])));
    cr_assert_str_eq(trace_text(), "!cancelled 4 4");
    end_shared(&shared);
}

Test(failure_modes, and_when_those_who_want_it_are_gathered_and_let_run)
{
    struct shared shared;
    weft_deferred *d[3], *all;

    begin_shared(&shared);
    for (int i = 0; i < 3; i++)
        d[i] = weft_spawn(ask_shared, &shared);
    weft_deferred_ref(d[0]);
    all = weft_gather_results(d, 3, WEFT_GATHER_LET_RUN);
    weft_deferred_cancel(d[0]);
    weft_deferred_unref(d[0]);
    trace("all=%s", told(run_until(all)));
    cr_assert_str_eq(trace_text(), "all=!cancelled");
    cr_assert_eq(weft_live_counts_get().fibers, 3, "the worker and two who wait");
    weft_deferred_callback(shared.work, weft_int(4));
    run_all();
    cr_assert_str_eq(trace_text(), "");
    end_shared(&shared);
}

Test(failure_modes, a_gather_that_is_cancelled_takes_its_members_and_not_what_they_share)
{
    struct shared shared;
    weft_deferred *d[2], *all, *other;

    begin_shared(&shared);
    other = weft_spawn(ask_shared, &shared);
    for (int i = 0; i < 2; i++)
        d[i] = weft_spawn(ask_shared, &shared);
    all = weft_gather_results(d, 2, 0);
    weft_deferred_cancel(all);
    trace("all=%s", told(run_until(all)));
    weft_deferred_callback(shared.work, weft_int(4));
    trace("other=%s", told(run_until(other)));
    cr_assert_str_eq(trace_text(), "all=!cancelled other=4");
    end_shared(&shared);
}

/* ---- work that uses the locals of a fiber that has ended ---- */

/* Writes over the stack that the one before has left. */
static weft_result write_over_stack(void *unused)
{
    volatile char block[8 * 1024];

    (void)unused;
    memset((char *)block, 0x5a, sizeof block);
    return weft_int(block[100]);
}

static void reuse_stack(void)
{
    trace("reused=%s", told(run_until(weft_spawn(write_over_stack, NULL))));
}

struct job {
    char text[32];
    int asked;
};

static weft_cancel_outcome cancel_job(weft_deferred *deferred, void *arg)
{
    struct job *job = arg;

    (void)deferred;
    job->asked++;
    trace("%s%d", job->text, job->asked);
    return WEFT_CANCEL_DONE;
}

static weft_result wait_with_local_canceller(void *slot)
{
    struct job job = {"job", 0};
    weft_deferred *work = weft_deferred_new(cancel_job, &job);

    *(weft_deferred **)slot = weft_deferred_ref(work);
    return weft_await(work);
}

Test(failure_modes, a_canceller_whose_argument_was_a_local_never_runs_again)
{
    weft_deferred *work, *d;

    begin();
    d = weft_spawn(wait_with_local_canceller, &work);
    weft_deferred_cancel(d);
    trace("d=%s", told(run_until(d)));
    reuse_stack();
    weft_deferred_cancel(work);
    cr_assert_str_eq(trace_text(), "job1 d=!cancelled reused=90");
    weft_deferred_unref(work);
    end();
}

Test(failure_modes, nor_does_it_when_the_wait_ended_with_a_value)
{
    weft_deferred *work, *d;

    begin();
    d = weft_spawn(wait_with_local_canceller, &work);
    weft_deferred_callback(work, weft_int(1));
    trace("d=%s", told(run_until(d)));
    reuse_stack();
    weft_deferred_cancel(work);
    weft_deferred_unref(work);
    cr_assert_str_eq(trace_text(), "d=1 reused=90");
    end();
}

static weft_result sleep_a_moment(void *unused)
{
    (void)unused;
    return weft_sleep(0.002);
}

/* A sleep's timer lies on the fiber's stack. */
Test(failure_modes, a_sleep_that_is_cancelled_leaves_no_timer_on_its_stack)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(sleep_a_moment, NULL);
    weft_deferred_cancel(d);
    cr_assert_str_eq(told(run_until(d)), "!cancelled");
    cr_assert_eq(weft_live_counts_get().timers, 0);
    reuse_stack();
    run_for(0.004); /* past the time at which it would have been due */
    cr_assert_str_eq(trace_text(), "reused=90");
    end();
}

static weft_result sleep_cancelled_before(void *slot)
{
    WEFT_TRY(weft_yield());
    weft_deferred_cancel(*(weft_deferred **)slot);
    return weft_sleep(0.002);
}

Test(failure_modes, nor_does_one_that_was_cancelled_before_it_began)
{
    weft_deferred *d;

    begin();
    d = weft_spawn(sleep_cancelled_before, &d);
    cr_assert_str_eq(told(run_until(weft_deferred_ref(d))), "!cancelled");
    weft_deferred_unref(d);
    cr_assert_eq(weft_live_counts_get().timers, 0);
    reuse_stack();
    run_for(0.004);
    cr_assert_str_eq(trace_text(), "reused=90");
    end();
}

static weft_result wait_with_time_out(void *deferred)
{
    return weft_await(weft_deferred_add_timeout(deferred, weft_clock_current(), 0.002));
}

Test(failure_modes, a_time_out_of_a_cancelled_wait_leaves_no_timer)
{
    weft_deferred *work = pending(), *d;

    begin();
    d = weft_spawn(wait_with_time_out, weft_deferred_ref(work));
    weft_deferred_cancel(d);
    cr_assert_str_eq(told(run_until(d)), "!cancelled");
    cr_assert_eq(weft_live_counts_get().timers, 0);
    reuse_stack();
    run_for(0.004);
    cr_assert_str_eq(trace_text(), "reused=90");
    weft_deferred_unref(work);
    end();
}

/* The waiters' nodes of a queue, lock or event must go with the wait. */
Test(failure_modes, a_cancelled_wait_leaves_nothing_behind_that_a_later_one_would_touch)
{
    weft_queue *queue = weft_queue_new(0, 10);
    weft_event *event = weft_event_new();
    weft_lock *lock = locked();
    weft_deferred *d[3];

    begin();
    d[0] = weft_spawn(get_from, queue);
    d[1] = weft_spawn(wait_for_event, event);
    d[2] = weft_spawn(acquire_and_drop, lock);
    for (int i = 0; i < 3; i++) {
        weft_deferred_cancel(d[i]);
        cr_assert_str_eq(told(run_until(d[i])), "!cancelled");
        reuse_stack();
    }
    trace_text();
    weft_event_set(event);
    weft_lock_release(lock);
    cr_assert_eq(weft_queue_get_getters(queue) + weft_event_get_waiting(event) + weft_lock_get_waiting(lock), 0);
    end();
    weft_queue_free(queue);
    weft_event_free(event);
    weft_lock_unref(lock);
}

/* ---- what starts while everything ends ---- */

static weft_result sleep_noted(void *label)
{
    return note(weft_sleep(60), label);
}

static weft_cancel_outcome spawn_in_canceller(weft_deferred *deferred, void *label)
{
    (void)deferred;
    weft_deferred_unref(weft_spawn(sleep_noted, label));
    return WEFT_CANCEL_DONE;
}

Test(failure_modes, a_fiber_started_by_a_canceller_at_the_reactors_end_is_cancelled_too)
{
    weft_deferred *work = weft_deferred_new(spawn_in_canceller, (void *)"late");

    begin();
    weft_deferred_unref(weft_spawn(wait_for, weft_deferred_ref(work)));
    end();
    cr_assert_str_eq(trace_text(), "wait=!shutdown late=!shutdown");
    weft_deferred_unref(work);
}

static weft_result spawn_in_callback(weft_result result, void *label)
{
    weft_deferred_unref(weft_spawn(sleep_noted, label));
    return result;
}

/* The last fiber has ended when the callback runs. */
Test(failure_modes, so_is_one_started_by_the_end_of_the_last_fiber)
{
    weft_deferred *work = pending();

    begin();
    weft_deferred_unref(weft_deferred_add_both(weft_spawn(wait_for, weft_deferred_ref(work)), spawn_in_callback,
                                               (void *)"late"));
    end();
    cr_assert_str_eq(trace_text(), "wait=!shutdown late=!shutdown");
    weft_deferred_unref(work);
}

static weft_result clean_up_by_fiber(void *unused)
{
    (void)unused;
    trace("sleep=%s", told(weft_sleep(60)));
    trace("helper=%s", told(weft_await(weft_spawn(sleep_a_moment, NULL))));
    return weft_ok(NULL);
}

Test(failure_modes, one_that_clean_up_starts_and_waits_for_may_end_in_its_time)
{
    begin();
    weft_deferred_unref(weft_spawn(clean_up_by_fiber, NULL));
    end();
    cr_assert_str_eq(trace_text(), "sleep=!shutdown helper=nil");
}

Test(failure_modes, one_started_after_the_end_is_refused_and_told_so)
{
    begin();
    weft_deferred_unref(weft_spawn(sleep_a_moment, NULL));
    end();
    conclude(weft_spawn(sleep_a_moment, NULL), "late");
    cr_assert_str_eq(trace_text(), "late=!misuse");
}

static void spawn_many_in_call(void *count)
{
    for (int i = 0; i < *(int *)count; i++)
        weft_deferred_unref(weft_spawn(sleep_noted, (void *)"x"));
}

Test(failure_modes, those_started_by_calls_that_were_left_are_all_cancelled)
{
    int count = 3;

    begin();
    weft_reactor_call_from_thread(weft_reactor_current(), spawn_many_in_call, &count);
    end();
    cr_assert_str_eq(trace_text(), "x=!shutdown x=!shutdown x=!shutdown");
}

Test(failure_modes, one_that_is_to_start_soon_does_not_start_after_the_end)
{
    weft_deferred *d;

    begin();
    d = weft_spawn_soon(sleep_noted, (void *)"soon");
    end();
    conclude(d, "d");
    cr_assert_str_eq(trace_text(), "d=!shutdown");
}

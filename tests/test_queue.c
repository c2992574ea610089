/* Queues. The numbers are those of the rules of Twisted's DeferredQueue as weft keeps them; waiting puts are weft's own. */
#include "tests/support/test.h"
#include "tests/support/values.h"

static weft_queue *queue;

static void begin(size_t size, size_t backlog)
{
    queue = weft_queue_new(size, backlog);
}

/* Nothing is left in it. */
static void end(void)
{
    cr_assert_eq(weft_queue_get_stored(queue), 0);
    cr_assert_eq(weft_queue_get_getters(queue), 0);
    cr_assert_eq(weft_queue_get_putters(queue), 0);
    queue = weft_queue_free(queue);
}

/* Traces the result under `label` and handles it; the deferred is borrowed until it has its result. */
static weft_deferred *watched(weft_deferred *d, const char *label)
{
    weft_deferred_add_errback(noted(d, label), return_nothing, NULL);
    weft_deferred_unref(d);
    return d;
}

static weft_deferred *get(const char *label)
{
    return watched(weft_queue_get(queue), label);
}

static weft_deferred *put_wait(int number, const char *label)
{
    return watched(weft_queue_put_wait(queue, weft_int(number)), label);
}

/* Traces why it cannot, if so. */
static void put(int number)
{
    weft_error *error = weft_queue_put(queue, weft_int(number));

    if (error)
        trace("%d=%s", number, told(weft_fail(error)));
}

static void then(weft_deferred *d, weft_callback_fn *fn, const char *label)
{
    weft_deferred_add_both(d, fn, (void *)label);
}

static void expect(size_t stored, size_t getters, size_t putters, const char *text)
{
    cr_assert_eq(weft_queue_get_stored(queue), stored);
    cr_assert_eq(weft_queue_get_getters(queue), getters);
    cr_assert_eq(weft_queue_get_putters(queue), putters);
    cr_assert_str_eq(trace_text(), text);
}

/* ---- 66: put and get ---- */

Test(queue, r66_gives_stored_items_at_once_in_their_order)
{
    begin(2, 1);
    cr_assert_eq(weft_queue_get_size(queue), 2);
    cr_assert_eq(weft_queue_get_backlog(queue), 1);
    put(1), put(2);
    expect(2, 0, 0, "");
    get("a"), get("b");
    expect(0, 0, 0, "a=1 b=2");
    end();
}

Test(queue, r66_gives_an_item_to_the_oldest_getter_before_put_returns)
{
    begin(2, 2);
    get("a"), get("b");
    expect(0, 2, 0, "");
    put(1);
    expect(0, 1, 0, "a=1");
    put(2);
    expect(0, 0, 0, "b=2");
    put(3);
    expect(1, 0, 0, "");
    get("c");
    expect(0, 0, 0, "c=3");
    end();
}

Test(queue, r66_overflows_beyond_its_size_and_drops_the_item)
{
    struct value value = {"v", 0};
    weft_error *error;

    begin(2, 1);
    put(1), put(2);
    error = weft_queue_put(queue, value_of(&value));
    cr_assert(weft_error_is(error, &WEFT_QUEUE_OVERFLOW));
    cr_assert(weft_error_is(error, &WEFT_FAILURE));
    cr_assert_eq(value.drops, 1);
    weft_error_unref(error);
    get("a"), get("b"), get("c");
    expect(0, 1, 0, "a=1 b=2");
    put(3);
    expect(0, 0, 0, "c=3");
    end();
}

Test(queue, r66_underflows_beyond_its_backlog)
{
    begin(1, 2);
    get("a"), get("b"), get("c");
    expect(0, 2, 0, "c=!queue_underflow");
    put(1), put(2);
    expect(0, 0, 0, "a=1 b=2");
    end();
}

Test(queue, r66_of_size_0_stores_nothing)
{
    begin(0, 1);
    put(1);
    expect(0, 0, 0, "1=!queue_overflow");
    get("a");
    put(2), put(3);
    expect(0, 0, 0, "a=2 3=!queue_overflow");
    end();
}

Test(queue, r66_with_backlog_0_lets_nobody_wait)
{
    begin(1, 0);
    get("a");
    expect(0, 0, 0, "a=!queue_underflow");
    put(1);
    get("b"), get("c");
    expect(0, 0, 0, "b=1 c=!queue_underflow");
    end();
}

Test(queue, r66_of_size_0_with_backlog_0_lets_only_those_meet_who_wait_to_put)
{
    begin(0, 0);
    put(1);
    get("a");
    expect(0, 0, 0, "1=!queue_overflow a=!queue_underflow");
    put_wait(2, "two");
    get("b");
    expect(0, 0, 0, "two=nil b=2");
    end();
}

Test(queue, r66_may_be_unlimited_both_ways)
{
    enum { ITEMS = 1000 };

    begin(WEFT_UNLIMITED, WEFT_UNLIMITED);
    for (int i = 0; i < ITEMS; i++)
        put(i);
    expect(ITEMS, 0, 0, "");
    for (int i = 0; i < ITEMS; i++) {
        weft_deferred *d = weft_queue_get(queue);

        cr_assert_eq((intptr_t)weft_deferred_take_result(d).value, i);
        weft_deferred_unref(d);
    }
    for (int i = 0; i < ITEMS; i++)
        weft_deferred_unref(weft_queue_get(queue));
    expect(0, ITEMS, 0, "");
    for (int i = 0; i < ITEMS; i++)
        put(i);
    end();
}

/* The ring is moved through its memory, and grown, at every offset. */
Test(queue, keeps_the_order_while_it_grows)
{
    intptr_t in = 0, out = 0;

    begin(WEFT_UNLIMITED, 0);
    for (int ahead = 1; ahead < 200; ahead++) {
        while (in - out < ahead)
            put((int)in++);
        for (int i = 0; i < ahead / 2 + 1; i++, out++) {
            weft_deferred *d = weft_queue_get(queue);

            cr_assert_eq((intptr_t)weft_deferred_take_result(d).value, out);
            weft_deferred_unref(d);
        }
    }
    while (out < in) {
        weft_deferred *d = weft_queue_get(queue);

        cr_assert_eq((intptr_t)weft_deferred_take_result(d).value, out++);
        weft_deferred_unref(d);
    }
    end();
}

Test(queue, r66_hands_a_failure_to_its_getter)
{
    begin(1, 1);
    cr_assert_null(weft_queue_put(queue, broken()));
    get("stored");
    get("waiting");
    cr_assert_null(weft_queue_put(queue, broken()));
    expect(0, 0, 0, "stored=!broken waiting=!broken");
    end();
}

Test(queue, r66_c_refuses_a_deferred_as_an_item)
{
    weft_error *error;

    begin(1, 1);
    error = weft_queue_put(queue, weft_later(done(weft_int(1))));
    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    weft_error_unref(error);
    watched(weft_queue_put_wait(queue, weft_later(done(weft_int(1)))), "wait");
    expect(0, 0, 0, "wait=!misuse");
    end();
}

/* ---- cancelled getters ---- */

Test(queue, r66_cancelling_a_get_that_has_its_item_changes_nothing)
{
    weft_deferred *d;

    begin(1, 1);
    put(1);
    d = weft_queue_get(queue);
    weft_deferred_cancel(d);
    watched(d, "d");
    expect(0, 0, 0, "d=1");
    end();
}

Test(queue, r66_a_cancelled_getter_leaves_and_takes_no_item_with_it)
{
    weft_deferred *a;

    begin(1, 3);
    a = get("a"), get("b");
    weft_deferred_cancel(a);
    expect(0, 1, 0, "a=!cancelled");
    put(1), put(2);
    expect(1, 0, 0, "b=1");
    get("c");
    expect(0, 0, 0, "c=2");
    end();
}

Test(queue, r66_a_get_may_time_out)
{
    weft_test_clock *manual = weft_test_clock_new();

    begin(1, 1);
    watched(weft_deferred_add_timeout(weft_queue_get(queue), weft_test_clock_get_clock(manual), 1), "d");
    weft_test_clock_advance(manual, 1);
    expect(0, 0, 0, "d=!timed_out");
    put(1);
    get("next");
    expect(0, 0, 0, "next=1");
    end();
    weft_test_clock_free(manual);
}

static weft_result put_two_and_cancel(weft_result result, void *deferred)
{
    put(2), put(3);
    trace("%zu,%zu", weft_queue_get_stored(queue), weft_queue_get_getters(queue));
    weft_deferred_cancel(deferred);
    return result;
}

/* Two items are promised to b and c when b is cancelled: they go on to c and d, in order. */
Test(queue, r66_c_an_item_promised_to_a_getter_that_is_cancelled_goes_to_the_next)
{
    weft_deferred *a, *b;

    begin(0, 5);
    a = get("a"), b = get("b"), get("c"), get("d");
    weft_deferred_add_callback(a, put_two_and_cancel, b);
    put(1);
    expect(0, 0, 0, "a=1 0,1 b=!cancelled c=2 d=3");
    end();
}

Test(queue, r66_c_an_item_promised_to_the_last_getter_that_is_cancelled_stays)
{
    weft_deferred *a, *b;

    begin(0, 5);
    a = get("a"), b = get("b"), get("c");
    weft_deferred_add_callback(a, put_two_and_cancel, b);
    put(1);
    expect(1, 0, 0, "a=1 0,0 b=!cancelled c=2");
    put(4);
    get("d");
    expect(0, 0, 0, "4=!queue_overflow d=3");
    end();
}

/* ---- putting with waiting ---- */

Test(queue, put_wait_fires_at_once_when_there_is_room)
{
    begin(1, 1);
    put_wait(1, "one");
    expect(1, 0, 0, "one=nil");
    get("a"), get("b");
    put_wait(2, "two");
    expect(0, 0, 0, "a=1 b=2 two=nil");
    end();
}

Test(queue, put_wait_waits_for_room_in_order)
{
    begin(1, 1);
    put(1);
    put_wait(2, "two"), put_wait(3, "three");
    expect(1, 0, 2, "");
    get("a");
    expect(1, 0, 1, "two=nil a=1");
    get("b");
    expect(1, 0, 0, "three=nil b=2");
    get("c");
    expect(0, 0, 0, "c=3");
    end();
}

Test(queue, put_wait_of_size_0_meets_its_getter)
{
    begin(0, 1);
    put_wait(1, "one"), put_wait(2, "two");
    expect(0, 0, 2, "");
    get("a");
    expect(0, 0, 1, "one=nil a=1");
    get("b");
    expect(0, 0, 0, "two=nil b=2");
    end();
}

Test(queue, put_does_not_overtake_those_who_wait_to_put)
{
    begin(1, 1);
    put(1);
    put_wait(2, "two");
    put(3);
    get("a");
    put(4);
    expect(1, 0, 0, "3=!queue_overflow two=nil a=1 4=!queue_overflow");
    get("b");
    expect(0, 0, 0, "b=2");
    end();
}

Test(queue, a_cancelled_put_wait_drops_its_item_and_leaves)
{
    struct value value = {"v", 0};
    weft_deferred *d;

    begin(1, 1);
    put(1);
    d = watched(weft_queue_put_wait(queue, value_of(&value)), "v");
    put_wait(2, "two");
    weft_deferred_cancel(d);
    cr_assert_eq(value.drops, 1);
    expect(1, 0, 1, "v=!cancelled");
    get("a"), get("b");
    expect(0, 0, 0, "two=nil a=1 b=2");
    end();
}

Test(queue, a_put_wait_that_nobody_holds_is_stored_in_its_turn)
{
    begin(1, 1);
    put(1);
    weft_deferred_unref(weft_queue_put_wait(queue, weft_int(2)));
    get("a"), get("b");
    expect(0, 0, 0, "a=1 b=2");
    end();
}

static weft_result cancel_another(weft_result result, void *deferred)
{
    weft_deferred_cancel(deferred);
    trace("asked");
    return result;
}

static weft_result get_again(weft_result result, void *label)
{
    get(label);
    return result;
}

/* Both items are in when the first putter is told. */
Test(queue, cancelling_a_put_wait_whose_item_is_in_changes_nothing)
{
    weft_deferred *two, *three;

    begin(1, 1);
    put(1);
    two = put_wait(2, "two"), three = put_wait(3, "three");
    then(two, get_again, "b");
    weft_deferred_add_callback(two, cancel_another, three);
    get("a");
    expect(1, 0, 0, "two=nil b=2 asked three=nil a=1");
    get("c");
    expect(0, 0, 0, "c=3");
    end();
}

/* ---- callbacks may do anything ---- */

static weft_result put_next(weft_result result, void *unused)
{
    (void)unused;
    put((int)(intptr_t)result.value + 1);
    trace("put");
    return result;
}

Test(queue, an_item_put_in_a_getters_callback_follows_when_that_has_returned)
{
    weft_deferred *a;

    begin(1, 3);
    a = get("a"), get("b");
    weft_deferred_add_callback(a, put_next, NULL);
    put(1);
    expect(0, 0, 0, "a=1 put b=2");
    end();
}

static weft_result put_three_and_get(weft_result result, void *label)
{
    put(2), put(3), put(4);
    trace("%zu,%zu", weft_queue_get_stored(queue), weft_queue_get_getters(queue));
    get(label);
    return result;
}

Test(queue, a_getter_who_comes_while_items_are_on_their_way_does_not_overtake)
{
    weft_deferred *a;

    begin(1, 2);
    a = get("a"), get("b");
    then(a, put_three_and_get, "late");
    put(1);
    expect(0, 0, 0, "a=1 4=!queue_overflow 1,0 b=2 late=3");
    end();
}

static weft_result fill_and_get(weft_result result, void *label)
{
    put(2);
    put_wait(3, "three");
    put_wait(4, "four");
    get(label);
    return result;
}

/* Size 0: b's item is on its way, so three waits; the late getter is room for it. */
Test(queue, a_getter_who_comes_while_items_are_on_their_way_makes_room_for_a_put_that_waits)
{
    weft_deferred *a;

    begin(0, 2);
    a = get("a"), get("b");
    then(a, fill_and_get, "late");
    put(1);
    expect(0, 0, 1, "a=1 three=nil b=2 late=3");
    get("c");
    expect(0, 0, 0, "four=nil c=4");
    end();
}

static weft_result get_beyond(weft_result result, void *label)
{
    get(label), get("beyond");
    return result;
}

Test(queue, the_backlog_does_not_count_getters_whose_item_is_on_its_way)
{
    weft_deferred *a;

    begin(0, 2);
    a = get("a"), get("b");
    weft_deferred_add_callback(a, put_next, NULL);
    then(a, get_beyond, "c");
    get("d");
    put(1);
    expect(0, 2, 0, "d=!queue_underflow a=1 put b=2");
    put(3), put(4);
    expect(0, 0, 0, "c=3 beyond=4");
    end();
}

static weft_result free_it(weft_result result, void *label)
{
    weft_queue_free(queue);
    trace("freed");
    get(label);
    put(9);
    return result;
}

Test(queue, freed_drops_items_and_fails_those_who_wait)
{
    struct value values[] = {{"stored", 0}, {"waiting", 0}};

    begin(1, 1);
    cr_assert_null(weft_queue_put(queue, value_of(&values[0])));
    watched(weft_queue_put_wait(queue, value_of(&values[1])), "putter");
    queue = weft_queue_free(queue);
    cr_assert_eq(values[0].drops, 1);
    cr_assert_eq(values[1].drops, 1);
    cr_assert_str_eq(trace_text(), "putter=!orphaned");
    begin(1, 2);
    get("a"), get("b");
    weft_queue_free(queue);
    cr_assert_str_eq(trace_text(), "a=!orphaned b=!orphaned");
    cr_assert_null(weft_queue_free(NULL));
}

static weft_result come_back(weft_result result, void *label)
{
    get(label);
    put_wait(5, "five");
    put(6);
    return result;
}

Test(queue, freed_fails_those_who_come_back)
{
    begin(1, 2);
    then(get("a"), come_back, "again");
    get("b");
    weft_queue_free(queue);
    cr_assert_str_eq(trace_text(), "a=!orphaned again=!orphaned five=!orphaned 6=!orphaned b=!orphaned");
}

Test(queue, may_be_freed_in_a_callback_that_it_runs)
{
    weft_deferred *a;

    begin(1, 3);
    a = get("a"), get("b");
    weft_deferred_add_callback(a, put_next, NULL);
    then(a, free_it, "late");
    put(1);
    cr_assert_str_eq(trace_text(), "a=1 put freed late=!orphaned 9=!orphaned b=!orphaned");
}

Test(queue, freed_tells_a_put_wait_whose_item_was_in)
{
    weft_deferred *two;

    begin(1, 1);
    put(1);
    two = put_wait(2, "two"), put_wait(3, "three"), put_wait(4, "four");
    then(two, get_again, "b");
    then(two, free_it, "late");
    get("a");
    cr_assert_str_eq(trace_text(), "two=nil b=2 freed late=!orphaned 9=!orphaned three=nil four=!orphaned a=1");
}

/* ---- ownership ---- */

Test(queue, drops_an_item_with_the_deferred_of_a_getter_that_nobody_holds)
{
    struct value values[] = {{"at once", 0}, {"later", 0}};

    begin(1, 1);
    cr_assert_null(weft_queue_put(queue, value_of(&values[0])));
    weft_deferred_unref(weft_queue_get(queue));
    cr_assert_eq(values[0].drops, 1);
    weft_deferred_unref(weft_queue_get(queue));
    cr_assert_null(weft_queue_put(queue, value_of(&values[1])));
    cr_assert_eq(values[1].drops, 1);
    end();
}

/* A lock put into a queue is released with it. */
Test(queue, owns_what_is_in_it)
{
    weft_lock *lock = weft_lock_new();
    weft_deferred *held = weft_lock_acquire(lock);

    begin(1, 1);
    cr_assert_null(weft_queue_put(queue, weft_deferred_take_result(held)));
    weft_deferred_unref(held);
    cr_assert(weft_lock_is_locked(lock));
    weft_queue_free(queue);
    cr_assert(!weft_lock_is_locked(lock));
    weft_lock_unref(lock);
}

/* ---- a million ---- */

static weft_queue *own;

static weft_result pass_on(weft_result result, void *count)
{
    ++*(int *)count;
    cr_assert_null(weft_queue_put(own, weft_int(*(int *)count)));
    return result;
}

static void pass_along(void *unused)
{
    int count = 0;

    (void)unused;
    own = weft_queue_new(1, WEFT_UNLIMITED);
    for (int i = 0; i < MANY; i++)
        weft_deferred_unref(weft_deferred_add_callback(weft_queue_get(own), pass_on, &count));
    cr_assert_null(weft_queue_put(own, weft_int(0)));
    cr_assert_eq(count, MANY);
    cr_assert_eq(weft_queue_get_stored(own), 1);
    weft_queue_free(own);
}

Test(queue_flat, an_item_passed_along_a_million_getters, .timeout = 30)
{
    with_small_stack(pass_along, NULL);
}

static weft_result get_one_more(weft_result result, void *count)
{
    if (++*(int *)count < MANY)
        weft_deferred_unref(weft_queue_get(own));
    return result;
}

static void drain_putters(void *unused)
{
    int count = 0;

    (void)unused;
    own = weft_queue_new(0, WEFT_UNLIMITED);
    for (int i = 0; i < MANY; i++) {
        weft_deferred *d = weft_queue_put_wait(own, weft_int(i));

        weft_deferred_unref(weft_deferred_add_callback(d, get_one_more, &count));
    }
    weft_deferred_unref(weft_queue_get(own));
    cr_assert_eq(count, MANY);
    cr_assert_eq(weft_queue_get_putters(own), 0);
    weft_queue_free(own);
}

Test(queue_flat, a_million_waiting_puts_each_of_which_gets, .timeout = 30)
{
    with_small_stack(drain_putters, NULL);
}

static void free_full(void *unused)
{
    struct value value = {"v", 0};

    (void)unused;
    own = weft_queue_new(MANY, 0);
    for (int i = 0; i < 2 * MANY; i++) {
        weft_deferred *d = weft_queue_put_wait(own, value_of(&value));

        weft_deferred_unref(weft_deferred_add_errback(d, return_nothing, NULL));
    }
    weft_queue_free(own);
    cr_assert_eq(value.drops, 2 * MANY);
}

Test(queue_flat, a_million_items_and_a_million_waiting_puts_that_are_freed, .timeout = 30)
{
    with_small_stack(free_full, NULL);
}

/* ---- fibers ---- */

static weft_reactor *reactor;

static weft_result produce(void *unused)
{
    (void)unused;
    for (int i = 1; i <= 5; i++) {
        WEFT_TRY(weft_await(weft_queue_put_wait(queue, weft_int(i))));
        trace("+%d", i);
    }
    WEFT_TRY(weft_await(weft_queue_put_wait(queue, broken())));
    return weft_ok(NULL);
}

static weft_result consume(void *unused)
{
    (void)unused;
    for (;;)
        trace("-%ld", (long)(intptr_t)WEFT_TRY(weft_await(weft_queue_get(queue))));
}

Test(queue, carries_items_between_fibers_and_ends_with_a_failure)
{
    weft_deferred *producer, *consumer;

    cr_assert_null(weft_reactor_new(&reactor));
    begin(2, 1);
    producer = weft_spawn(produce, NULL);
    consumer = weft_spawn(consume, NULL);
    trace("consumer=%s", told(weft_reactor_run_until(reactor, consumer)));
    trace("producer=%s", told(weft_reactor_run_until(reactor, producer)));
    cr_assert_str_eq(trace_text(), "+1 +2 -1 -2 -3 +3 +4 +5 -4 -5 consumer=!broken producer=nil");
    end();
    weft_reactor_free(reactor);
}

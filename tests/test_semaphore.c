/* Semaphores: what a number of tokens changes; the rest is a lock's, in test_lock.c. The numbers are those of the rules of
 * Twisted's DeferredSemaphore as weft keeps them. */
#include "tests/support/test.h"
#include "tests/support/values.h"

static weft_semaphore *semaphore;

static void begin(size_t limit)
{
    cr_assert_null(weft_semaphore_new(&semaphore, limit));
}

/* All tokens are back. */
static void end(void)
{
    cr_assert_eq(weft_semaphore_get_tokens(semaphore), weft_semaphore_get_limit(semaphore));
    cr_assert_eq(weft_semaphore_get_waiting(semaphore), 0);
    semaphore = weft_semaphore_unref(semaphore);
}

static weft_result keep(weft_result result, void *label)
{
    if (weft_failed(result)) {
        trace("%s=%s", (const char *)label, told(result));
        return weft_ok(NULL);
    }
    cr_assert_eq(result.type, &weft_semaphore_type);
    cr_assert_eq(result.value, semaphore);
    trace("%s", (const char *)label);
    return weft_ok(NULL);
}

/* Acquires a token and keeps it; the deferred is borrowed until it has its result. */
static weft_deferred *visit(const char *label)
{
    weft_deferred *d = weft_deferred_add_both(weft_semaphore_acquire(semaphore), keep, (void *)label);

    weft_deferred_unref(d);
    return d;
}

static void expect(size_t tokens, size_t waiting, const char *text)
{
    cr_assert_eq(weft_semaphore_get_tokens(semaphore), tokens);
    cr_assert_eq(weft_semaphore_get_waiting(semaphore), waiting);
    cr_assert_str_eq(trace_text(), text);
}

Test(semaphore, r63_without_tokens_is_a_misuse)
{
    weft_error *error = weft_semaphore_new(&semaphore, 0);

    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    cr_assert_null(semaphore);
    weft_error_unref(error);
}

Test(semaphore, r63_lets_so_many_in_and_the_others_as_tokens_come_back)
{
    begin(2);
    cr_assert_eq(weft_semaphore_get_limit(semaphore), 2);
    visit("a");
    expect(1, 0, "a");
    visit("b");
    expect(0, 0, "b");
    visit("c"), visit("d");
    expect(0, 2, "");
    weft_semaphore_release(semaphore);
    expect(0, 1, "c");
    weft_semaphore_release(semaphore);
    expect(0, 0, "d");
    weft_semaphore_release(semaphore);
    expect(1, 0, "");
    weft_semaphore_release(semaphore);
    end();
}

Test(semaphore, r63_hands_every_one_of_many_tokens_out_and_takes_it_back)
{
    enum { TOKENS = 13 };

    begin(TOKENS);
    for (size_t i = 1; i <= TOKENS; i++) {
        visit("in");
        expect(TOKENS - i, 0, "in");
    }
    visit("last");
    expect(0, 1, "");
    weft_semaphore_release(semaphore);
    expect(0, 0, "last");
    for (size_t i = 1; i <= TOKENS; i++) {
        weft_semaphore_release(semaphore);
        expect(i, 0, "");
    }
    end();
}

Test(semaphore, r63_c_release_above_the_limit_is_logged_and_changes_nothing)
{
    log_capture();
    begin(2);
    visit("a");
    weft_semaphore_release(semaphore);
    weft_semaphore_release(semaphore);
    cr_assert_eq(log_count("misuse: a semaphore of which nobody holds a token is released at tests/test_sem"), 1);
    expect(2, 0, "a");
    end();
}

static void visit_and(weft_callback_fn *fn, const char *label)
{
    weft_deferred_unref(weft_deferred_add_callback(weft_semaphore_acquire(semaphore), fn, (void *)label));
}

static weft_result release_both(weft_result result, void *label)
{
    weft_semaphore_release(semaphore);
    weft_semaphore_release(semaphore);
    trace("%s:%zu,%zu", (const char *)label, weft_semaphore_get_tokens(semaphore),
          weft_semaphore_get_waiting(semaphore));
    (void)result;
    return weft_ok(NULL);
}

/* Both tokens come back inside the first one's callback, where two more are in line, or one, or none. */
Test(semaphore, r63_c_tokens_on_their_way_to_waiters_are_not_free_and_those_do_not_wait)
{
    begin(2);
    visit("a"), visit("b");
    visit_and(release_both, "first");
    visit("c"), visit("d"), visit("e");
    weft_semaphore_release(semaphore);
    expect(0, 1, "a b first:0,1 c d");
    weft_semaphore_release(semaphore);
    weft_semaphore_release(semaphore);
    weft_semaphore_release(semaphore);
    visit("f"), visit("g");
    visit_and(release_both, "second");
    visit("h");
    weft_semaphore_release(semaphore);
    expect(1, 0, "e f g second:1,0 h");
    weft_semaphore_release(semaphore);
    end();
}

static weft_result release_both_and_visit(weft_result result, void *label)
{
    release_both(result, label);
    visit("late");
    return weft_ok(NULL);
}

Test(semaphore, r63_c_newcomers_stand_behind_those_to_whom_tokens_are_on_their_way)
{
    begin(2);
    visit("a"), visit("b");
    visit_and(release_both_and_visit, "first");
    visit("c");
    weft_semaphore_release(semaphore);
    expect(0, 0, "a b first:1,0 c late");
    weft_semaphore_release(semaphore);
    weft_semaphore_release(semaphore);
    end();
}

/* ---- 64: run ---- */

struct job {
    const char *name;
    weft_deferred *until; /* borrowed */
};

static weft_result work(void *arg)
{
    const struct job *job = arg;

    trace("%s", job->name);
    return weft_later(weft_deferred_ref(job->until));
}

Test(semaphore, r64_run_limits_how_many_work_at_once)
{
    struct job jobs[] = {{"a", pending()}, {"b", pending()}, {"c", pending()}};
    weft_deferred *ds[3];

    begin(2);
    for (int i = 0; i < 3; i++)
        ds[i] = noted(weft_semaphore_run(semaphore, work, &jobs[i]), jobs[i].name);
    expect(0, 1, "a b");
    weft_deferred_callback(jobs[1].until, weft_int(1));
    expect(0, 0, "c b=1");
    weft_deferred_errback(jobs[0].until, weft_error_new(&BROKEN, "x"));
    expect(1, 0, "a=!broken");
    weft_deferred_cancel(ds[2]);
    expect(2, 0, "c=!cancelled");
    for (int i = 0; i < 3; i++) {
        told(weft_deferred_take_result(ds[i]));
        weft_deferred_unref(ds[i]);
        weft_deferred_unref(jobs[i].until);
    }
    end();
}

Test(semaphore, r64_run_cancelled_in_line_never_works)
{
    struct job job = {"never", NULL};
    weft_deferred *d;

    begin(1);
    visit("a");
    d = noted(weft_semaphore_run(semaphore, work, &job), "d");
    weft_deferred_cancel(d);
    expect(0, 0, "a d=!cancelled");
    told(weft_deferred_take_result(d));
    weft_deferred_unref(d);
    weft_semaphore_release(semaphore);
    end();
}

/* ---- 65: cancelling ---- */

Test(semaphore, r65_a_cancelled_waiter_leaves_the_line)
{
    begin(1);
    visit("a");
    weft_deferred_cancel(visit("b"));
    visit("c");
    expect(0, 1, "a b=!cancelled");
    weft_semaphore_release(semaphore);
    expect(0, 0, "c");
    weft_semaphore_release(semaphore);
    end();
}

Test(semaphore, r65_cancelling_a_granted_acquire_keeps_the_token)
{
    weft_deferred *d;

    begin(2);
    d = weft_semaphore_acquire(semaphore);
    weft_deferred_cancel(d);
    expect(1, 0, "");
    weft_deferred_unref(d);
    end();
}

/* ---- ownership and life ---- */

Test(semaphore, c_a_token_dropped_anywhere_goes_to_the_next)
{
    weft_deferred *taken, *kept, *dropped;

    begin(2);
    taken = weft_semaphore_acquire(semaphore);
    kept = weft_semaphore_acquire(semaphore);
    dropped = weft_deferred_add_callback(weft_semaphore_acquire(semaphore), return_nothing, NULL);
    weft_deferred_unref(weft_semaphore_acquire(semaphore));
    visit("a");
    weft_result_drop(weft_deferred_take_result(taken));
    expect(0, 0, "a");
    weft_deferred_unref(kept);
    expect(1, 0, "");
    weft_semaphore_release(semaphore);
    weft_deferred_unref(taken);
    weft_deferred_unref(dropped);
    end();
}

Test(semaphore, lives_while_a_token_is_held)
{
    weft_deferred *d, *e;

    begin(2);
    cr_assert_eq(weft_semaphore_ref(semaphore), semaphore);
    weft_semaphore_unref(semaphore);
    d = weft_semaphore_acquire(semaphore);
    e = weft_semaphore_acquire(semaphore);
    visit("a");
    weft_semaphore_unref(semaphore);
    weft_deferred_unref(d);
    weft_semaphore_release(semaphore);
    cr_assert_eq(weft_semaphore_get_tokens(semaphore), 1);
    weft_deferred_unref(e);
    cr_assert_null(weft_semaphore_unref(NULL));
    cr_assert_str_eq(trace_text(), "a");
}

static weft_result hold_for_a_scope(void *unused)
{
    weft_deferred *d = weft_semaphore_acquire(semaphore);
    weft_result grant = weft_deferred_take_result(d);
    weft_auto(weft_semaphore_release) weft_semaphore *held = grant.value;

    (void)unused;
    weft_deferred_unref(d);
    trace("%zu", weft_semaphore_get_tokens(held));
    return broken();
}

Test(semaphore, c_weft_auto_releases_a_token_however_the_function_is_left)
{
    begin(1);
    trace("%s", told(hold_for_a_scope(NULL)));
    cr_assert_str_eq(trace_text(), "0 !broken");
    end();
}

/* ---- a million ---- */

static weft_result count_and_drop(weft_result grant, void *count)
{
    ++*(int *)count;
    weft_result_drop(grant);
    return weft_ok(NULL);
}

static void release_in_turn(void *unused)
{
    weft_deferred *held[3];
    int count = 0;

    (void)unused;
    begin(3);
    for (int i = 0; i < 3; i++)
        held[i] = weft_semaphore_acquire(semaphore);
    for (int i = 0; i < MANY; i++)
        weft_deferred_unref(weft_deferred_add_callback(weft_semaphore_acquire(semaphore), count_and_drop, &count));
    for (int i = 0; i < 3; i++)
        weft_deferred_unref(held[i]);
    cr_assert_eq(count, MANY);
    end();
}

Test(semaphore_flat, r63_gap_a_million_waiters_that_release_at_once, .timeout = 30)
{
    with_small_stack(release_in_turn, NULL);
}

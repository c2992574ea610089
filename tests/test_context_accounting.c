/* What contexts are charged besides their own stretches of CPU time, and how it adds up: parents, series, ends, waits in the
 * ready queue, what others charge. Times are measured by the clocks that the books are to agree with. */
#include "tests/support/fibers.h"
#include "tests/support/spin.h"
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "lib/context.h"

static int64_t wall(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static int64_t cpu_of(const weft_usage *usage)
{
    cr_assert(usage->user_ns >= 0 && usage->system_ns >= 0);
    return usage->user_ns + usage->system_ns;
}

static int64_t used(weft_context *context)
{
    weft_usage usage = weft_context_get_usage(context);

    return cpu_of(&usage);
}

static int64_t ready(weft_context *context)
{
    return weft_context_get_usage(context).ready_ns;
}

static void spin_in(weft_context *context, int64_t ns)
{
    weft_preserve_context(context)
        spin(ns);
}

static void assert_books_balance(void)
{
    weft_accounts accounts = weft_accounts_get();

    cr_assert_eq(accounts.contexts_ns + accounts.none_ns, accounts.thread_ns);
}

/* ---- parents ---- */

Test(context_accounting, l09_what_is_added_is_its_parents_at_once_and_not_at_its_end)
{
    weft_context *top = weft_context_new("top"), *middle = weft_context_new_child(top, NULL);
    weft_context *below = weft_context_new_child(middle, "below"), *beside = weft_context_new_child(top, "beside");
    int64_t before;

    spin_in(below, 3 * MS);
    cr_assert_geq(used(top), 3 * MS - 100 * US, "the child still lives");
    cr_assert_eq(used(middle), used(top));
    cr_assert_eq(used(below), used(top));
    cr_assert_eq(used(beside), 0);
    before = used(top);
    spin_in(beside, MS);
    cr_assert_eq(used(top), before + used(beside));
    weft_context_charge(below, &(weft_usage){.db_transactions = 1, .bytes_out = 7});
    weft_context_charge(middle, &(weft_usage){.db_transactions = 1});
    cr_assert_eq(weft_context_get_usage(top).db_transactions, 2);
    cr_assert_eq(weft_context_get_usage(middle).bytes_out, 7);
    cr_assert_eq(weft_context_get_usage(below).db_transactions, 1);
    weft_context_unref(below);
    weft_context_unref(middle);
    weft_context_unref(beside);
    weft_context_unref(top);
}

Test(context_accounting, l09_a_child_that_goes_in_mid_window_leaves_what_it_used_to_its_parent)
{
    weft_context *parent = weft_context_new("parent");
    int64_t before = used(parent), contexts = weft_accounts_get().contexts_ns;

    for (int i = 0; i < 200; i++) {
        weft_context *child = weft_context_new_child(parent, NULL);

        spin_in(child, 10 * US);
        weft_context_unref(child);
    }
    cr_assert_geq(used(parent) - before, 200 * 10 * US * 9 / 10);
    cr_assert_eq(used(parent) - before, weft_accounts_get().contexts_ns - contexts, "and nobody else had any");
    weft_context_unref(parent);
    assert_books_balance();
}

Test(context_accounting, l09_a_parent_may_be_let_go_of_before_its_child)
{
    weft_context *parent = weft_context_new("parent"), *child = weft_context_new_child(parent, "child");

    weft_context_unref(parent);
    spin_in(child, 200 * US);
    cr_assert_geq(used(child), 150 * US);
    cr_assert_eq(used(weft__context_parent(child)), used(child));
    weft_context_unref(child);
    assert_books_balance();
}

static void descend(void *unused)
{
    enum { DEEP = 10000 };
    weft_context *top = weft_context_new("top"), *lowest = weft_context_ref(top);

    (void)unused;
    for (int i = 0; i < DEEP; i++) {
        weft_context *child = weft_context_new_child(lowest, NULL);

        weft_context_unref(lowest);
        lowest = child;
    }
    cr_assert_str_eq(weft_context_get_name(lowest), "top");
    spin_in(lowest, 300 * US);
    weft_context_charge(lowest, &(weft_usage){.db_rows = 3});
    cr_assert_eq(used(top), used(lowest));
    cr_assert_eq(weft_context_get_usage(top).db_rows, 3);
    spin_in(lowest, 20 * US);
    weft_context_unref(lowest); /* in mid-window: all of them go but one, each leaves its part to the next */
    cr_assert_geq(used(top), 300 * US);
    weft_context_unref(top);
    assert_books_balance();
}

Test(context_accounting, l09_a_chain_of_ten_thousand_takes_no_stack)
{
    with_small_stack(descend, NULL);
}

/* ---- all kinds of ends ---- */

enum { ROOTS = 300, SERIES = 100 }; /* more than a window has room for, of both */

struct tree {
    weft_context *root[ROOTS];
    weft_context *child[ROOTS];
    weft_context *grandchild[ROOTS];
    struct weft__series series[SERIES];
    struct weft__series above;
};

static void plant(struct tree *tree, int i)
{
    tree->root[i] = weft_context_new("root");
    weft__context_join(tree->root[i], &tree->series[i % SERIES]);
    tree->child[i] = weft_context_new_child(tree->root[i], "child");
    if (rand() % 2)
        weft__context_join(tree->child[i], &tree->series[i % SERIES]); /* inside itself: counted once */
    tree->grandchild[i] = weft_context_new_child(tree->child[i], NULL);
}

static void fell(struct tree *tree, int i)
{
    weft_context **part[] = {&tree->root[i], &tree->child[i], &tree->grandchild[i]};

    for (int n = 3, first = rand(); n--; first++)
        *part[first % 3] = weft_context_unref(*part[first % 3]);
}

static void use_one(struct tree *tree, int i, int64_t ns)
{
    weft_context *of[] = {tree->root[i], tree->child[i], tree->grandchild[i]};

    spin_in(of[rand() % 3], ns);
}

/* Contexts go at any moment of a window, also at that in which room is made for what they leave: their series have all. */
Test(context_accounting, b3_whenever_contexts_go_all_that_they_used_is_their_series)
{
    struct tree *tree = weft_alloc_zeroed(sizeof *tree);
    int64_t before, sum = 0;

    srand(7);
    for (int i = 0; i < SERIES; i++)
        tree->series[i].above = &tree->above;
    for (int i = 0; i < ROOTS; i++)
        plant(tree, i);
    before = weft_accounts_get().contexts_ns;
    for (int step = 0; step < 20000; step++) {
        int i = rand() % ROOTS;

        use_one(tree, i, 0);
        if (step / 1000 % 2) { /* many that go, then none for some time */
            fell(tree, i);
            plant(tree, i);
        }
    }
    for (int i = 0; i < ROOTS; i++)
        fell(tree, i);
    assert_books_balance();
    for (int i = 0; i < SERIES; i++) {
        cr_assert(cpu_of(&tree->series[i].usage) > 0, "series %d", i);
        cr_assert_not(tree->series[i].listed);
        sum += cpu_of(&tree->series[i].usage);
    }
    before = weft_accounts_get().contexts_ns - before;
    cr_assert_float_eq((double)sum / (double)before, 1, 0.001, "%ld µs instead of %ld µs", (long)(sum / US), (long)(before / US));
    cr_assert_eq(cpu_of(&tree->above.usage), sum);
    weft_free(tree);
}

Test(context_accounting, l07_of_an_ended_one_the_usage_is_final_and_the_rest_is_apart)
{
    weft_context *parent = weft_context_new("parent"), *context = weft_context_new_child(parent, "x");
    weft_usage at_end, after;

    log_capture();
    spin_in(context, MS);
    weft_context_charge(context, &(weft_usage){.db_rows = 2});
    weft_context_end(context);
    at_end = weft_context_get_usage(context);
    spin_in(context, 2 * MS);
    weft_context_charge(context, &(weft_usage){.db_rows = 5});
    after = weft_context_get_usage(context);
    cr_assert_eq(memcmp(&at_end, &after, sizeof after), 0);
    after = weft_context_get_usage_after_end(context);
    cr_assert_eq(after.db_rows, 5);
    cr_assert_geq(cpu_of(&after), 2 * MS - 100 * US);
    cr_assert_eq(used(parent), cpu_of(&at_end) + cpu_of(&after), "its parents have both");
    weft_context_end(context);
    cr_assert_eq(weft_context_get_usage_after_end(context).db_rows, 5, "ending it again changes nothing");
    spin_in(context, 100 * US);
    cr_assert_eq(log_count("is used after its end"), 1, "%d times: %s", log_count("is used after its end"), log_text());
    cr_assert_eq(weft_context_faults_get().used_after_end, 1);
    weft_context_unref(context);
    weft_context_unref(parent);
}

Test(context_accounting, l07_what_is_used_after_the_end_of_the_only_holder_is_apart_too)
{
    weft_context *context = weft_context_new("x"), *kept;
    int64_t before;

    log_capture();
    spin_in(context, MS);
    before = used(context);
    weft__context_end_last(context);
    cr_assert(weft_context_has_ended(context));
    kept = weft_context_ref(context);
    spin_in(kept, 2 * MS);
    cr_assert_eq(used(kept), before);
    cr_assert_geq(weft_context_get_usage_after_end(kept).user_ns + weft_context_get_usage_after_end(kept).system_ns, MS);
    weft_context_unref(weft_context_set(NULL)); /* says it, if it has not been said */
    cr_assert_eq(log_count("is used after its end"), 1);
    weft_context_unref(kept);
    weft_context_unref(context);
}

/* The change that enters it closes a window, as that has been open for long. */
Test(context_accounting, l07_one_that_is_entered_after_its_end_is_said_whatever_windows_do)
{
    weft_context *context = weft_context_new("x");

    log_capture();
    weft_context_end(context);
    spin(2 * MS);
    spin_in(context, 0);
    weft_context_unref(weft_context_set(NULL));
    cr_assert_eq(log_count("is used after its end"), 1, "%s", log_text());
    weft_context_unref(context);
}

static weft_result spin_late(void *late)
{
    WEFT_TRY(weft_await(late));
    spin(100 * US);
    WEFT_TRY(weft_yield());
    spin(100 * US);
    return weft_ok(NULL);
}

/* Several contexts are used after their ends before anybody can say so: each is said once, with the place of its fiber. */
Test(context_accounting, l07_each_that_is_used_after_its_end_is_said_once_with_the_place_of_its_fiber)
{
    enum { CONTEXTS = 5 };
    weft_context *contexts[CONTEXTS];
    weft_deferred *go[CONTEXTS], *done_with[CONTEXTS];

    begin();
    log_capture();
    for (int i = 0; i < CONTEXTS; i++) {
        contexts[i] = weft_context_new_numbered("late", (uint64_t)i);
        go[i] = pending();
        weft_preserve_context(contexts[i])
            done_with[i] = weft_spawn(spin_late, weft_deferred_ref(go[i]));
        weft_context_end(contexts[i]);
    }
    for (int i = 0; i < CONTEXTS; i++) {
        weft_deferred_callback(go[i], weft_ok(NULL));
        weft_deferred_unref(go[i]);
    }
    for (int i = 0; i < CONTEXTS; i++)
        weft_result_drop(run_until(done_with[i]));
    settle();
    cr_assert_eq(log_count("by the fiber spin_late that was started at tests/test_context_accounting.c:"), CONTEXTS);
    cr_assert_eq(weft_context_faults_get().used_after_end, CONTEXTS);
    for (int i = 0; i < CONTEXTS; i++)
        weft_context_unref(contexts[i]);
    end();
}

/* ---- whom the work was for has gone ---- */

Test(context_accounting, l11_from_when_the_client_has_left_usage_is_counted_apart_too)
{
    weft_context *context = weft_context_new("x");
    weft_usage after;

    spin_in(context, MS);
    after = weft_context_get_usage_after_client_left(context);
    cr_assert_eq(cpu_of(&after), 0, "nobody has left");
    weft_context_client_left(context);
    spin_in(context, 2 * MS);
    weft_context_charge(context, &(weft_usage){.db_ns = 9});
    after = weft_context_get_usage_after_client_left(context);
    cr_assert(cpu_of(&after) >= 2 * MS - 100 * US && cpu_of(&after) <= used(context) - MS + 100 * US);
    cr_assert_eq(after.db_ns, 9);
    weft_context_client_left(context);
    cr_assert_eq(weft_context_get_usage_after_client_left(context).db_ns, 9, "only the first time counts");
    weft_context_end(context);
    weft_context_charge(context, &(weft_usage){.db_ns = 100});
    cr_assert_eq(weft_context_get_usage_after_client_left(context).db_ns, 9, "its usage is final");
    weft_context_unref(context);
}

Test(context_accounting, l11_a_client_that_leaves_after_the_end_leaves_nothing_behind)
{
    weft_context *context = weft_context_new("x");
    weft_usage after, none = {0};

    spin_in(context, MS);
    weft_context_end(context);
    weft_context_charge(context, &(weft_usage){.db_ns = 100, .bytes_out = 3});
    weft_context_client_left(context);
    after = weft_context_get_usage_after_client_left(context);
    cr_assert_eq(memcmp(&after, &none, sizeof none), 0, "not less than nothing");
    weft_context_unref(context);
}

/* ---- what others charge ---- */

static const weft_usage one_of_each = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

Test(context_accounting, l11_each_sum_is_charged_by_itself)
{
    weft_context *context = weft_context_new("x");
    weft_usage usage;

    weft_context_charge(context, &one_of_each);
    weft_context_charge(context, &one_of_each);
    usage = weft_context_get_usage(context);
    cr_assert(usage.user_ns == 2 && usage.system_ns == 4 && usage.ready_ns == 6 && usage.db_transactions == 8 && usage.db_ns == 10);
    cr_assert(usage.db_wait_ns == 12 && usage.db_rows == 14 && usage.allocated_bytes == 16);
    cr_assert(usage.bytes_in == 18 && usage.bytes_out == 20);
    weft_context_unref(context);
}

Test(context_accounting, l08_what_is_negative_is_left_out_and_logged)
{
    weft_context *context = weft_context_new("x");
    weft_usage usage, bad = {.db_ns = -1, .db_rows = 5, .user_ns = INT64_MIN};

    log_capture();
    weft_context_charge(context, &bad);
    usage = weft_context_get_usage(context);
    cr_assert(usage.db_ns == 0 && usage.db_rows == 5 && usage.user_ns == 0);
    cr_assert_eq(log_count("ERROR"), 1);
    cr_assert_eq(log_count("the context x was to be charged less than nothing"), 1);
    cr_assert_eq(weft_accounts_get().merged_ns, 0);
    weft_context_unref(context);
}

Test(context_accounting, l09_cpu_time_of_another_thread_is_merged_beside_the_books_of_this_one)
{
    weft_context *context = weft_context_new("x");
    int64_t none = used(NULL);

    weft_context_charge(context, &(weft_usage){.user_ns = 40 * MS, .system_ns = 2 * MS});
    cr_assert_geq(used(context), 42 * MS);
    cr_assert_eq(weft_accounts_get().merged_ns, 42 * MS);
    cr_assert_lt(weft_accounts_get().contexts_ns, 42 * MS, "this thread has not spent it");
    assert_books_balance();
    weft_context_charge(NULL, &(weft_usage){.user_ns = 50 * MS});
    cr_assert_geq(used(NULL) - none, 50 * MS);
    cr_assert_eq(weft_accounts_get().merged_ns, 92 * MS);
    cr_assert_lt(weft_accounts_get().none_ns, 50 * MS);
    assert_books_balance();
    weft_context_unref(context);
}

/* A fake database in virtual time: what a transaction takes, and waited for its connection, is known to the nanosecond. */
struct database {
    weft_clock *clock;
    int64_t wait;
    int64_t takes;
};

static void query(weft_context *context, struct database *database, weft_test_clock *clock)
{
    int64_t asked = weft_clock_now(database->clock), began, ended;

    weft_test_clock_advance(clock, (double)database->wait / 1e9);
    began = weft_clock_now(database->clock);
    weft_test_clock_advance(clock, (double)database->takes / 1e9);
    ended = weft_clock_now(database->clock);
    weft_context_charge(context, &(weft_usage){.db_transactions = 1, .db_wait_ns = began - asked, .db_ns = ended - began, .db_rows = 3});
}

Test(context_accounting, g03_transactions_are_counted_with_their_time_their_wait_and_their_rows)
{
    weft_test_clock *clock = weft_test_clock_new();
    struct database database = {weft_test_clock_get_clock(clock), 30 * MS, 120 * MS};
    weft_context *request = weft_context_new("GET-1"), *block = weft_context_new_child(request, NULL);
    weft_usage usage;

    query(request, &database, clock);
    query(block, &database, clock);
    usage = weft_context_get_usage(request);
    cr_assert(usage.db_transactions == 2 && usage.db_wait_ns == 60 * MS && usage.db_ns == 240 * MS && usage.db_rows == 6);
    usage = weft_context_get_usage(block);
    cr_assert(usage.db_transactions == 1 && usage.db_wait_ns == 30 * MS && usage.db_ns == 120 * MS && usage.db_rows == 3);
    weft_context_unref(block);
    weft_context_unref(request);
    weft_test_clock_free(clock);
}

struct spinner {
    weft_context *context;
    int64_t ns;
};

static weft_result spin_and_yield(void *arg)
{
    struct spinner *spinner = arg;

    for (int i = 0; i < 10; i++) {
        spin(spinner->ns / 10);
        WEFT_TRY(weft_yield());
    }
    return weft_ok(NULL);
}

static weft_deferred *spawn_within(weft_context *context, weft_fiber_fn *fn, void *arg)
{
    weft_deferred *deferred = NULL;

    weft_preserve_context(context)
        deferred = weft_spawn(fn, arg);
    return deferred;
}

Test(context_accounting, g02_of_two_requests_the_one_that_spun_for_50_ms_has_them)
{
    struct spinner busy = {weft_context_new("busy"), 50 * MS}, idle = {weft_context_new("idle"), 0};
    weft_deferred *first, *second;
    int64_t clock;

    begin();
    clock = read_clock(CLOCK_THREAD_CPUTIME_ID);
    first = spawn_within(busy.context, spin_and_yield, &busy);
    second = spawn_within(idle.context, spin_and_yield, &idle);
    weft_result_drop(run_until(first));
    weft_result_drop(run_until(second));
    clock = read_clock(CLOCK_THREAD_CPUTIME_ID) - clock;
    cr_assert(used(busy.context) >= 50 * MS * 95 / 100 && used(busy.context) <= clock);
    cr_assert_leq(used(idle.context), clock - 50 * MS + 100 * US);
#ifndef WEFT_TEST_SANITIZED /* where starting and ending them takes long as well */
    cr_assert_geq(used(busy.context) + used(idle.context), clock * 95 / 100, "what the thread has spent in both");
#endif
    weft_context_unref(busy.context);
    weft_context_unref(idle.context);
    end();
}

/* ---- waits in the ready queue ---- */

/* What clocks of two kinds and the steps around may differ by. */
#if defined WEFT_TEST_SAN_valgrind
static const int64_t SLACK = 500 * 1000 * 1000;
#elif defined WEFT_TEST_SANITIZED
static const int64_t SLACK = 20 * 1000 * 1000;
#else
static const int64_t SLACK = 500 * 1000;
#endif

static void assert_waited(weft_context *context, int64_t ns)
{
    int64_t waited = ready(context);

    cr_assert(waited >= ns - SLACK / 10 - ns / 50 && waited <= ns + SLACK + ns / 50, "%ld µs instead of %ld µs",
              (long)(waited / US), (long)(ns / US));
}

static weft_result await_it(void *deferred)
{
    return weft_await(deferred);
}

struct firing {
    weft_deferred *deferred;
    int64_t before;
    int64_t after;
    int64_t fired_at;
    int64_t left_at;
};

static weft_result fire_between_spins(void *arg)
{
    struct firing *firing = arg;

    spin(firing->before);
    firing->fired_at = wall();
    weft_deferred_callback(firing->deferred, weft_ok(NULL));
    firing->deferred = weft_deferred_unref(firing->deferred);
    spin(firing->after);
    firing->left_at = wall();
    return weft_ok(NULL);
}

/* One fiber waits for what another fires: from the firing on it could have run. */
static int64_t wait_for_turn(struct firing firing, weft_context *waits, weft_context *fires)
{
    weft_deferred *waiting, *fired;

    firing.deferred = pending();
    waiting = spawn_within(waits, await_it, weft_deferred_ref(firing.deferred));
    fired = spawn_within(fires, fire_between_spins, &firing);
    weft_result_drop(run_until(waiting));
    weft_result_drop(run_until(fired));
    return firing.left_at - firing.fired_at;
}

Test(context_accounting, l11_who_is_woken_waits_in_the_ready_queue_from_then_on)
{
    weft_context *early = weft_context_new("early"), *late = weft_context_new("late"), *fires = weft_context_new("fires");

    begin();
    assert_waited(early, wait_for_turn((struct firing){.after = 10 * MS}, early, fires));
    assert_waited(late, wait_for_turn((struct firing){.before = 10 * MS}, late, fires));
    cr_assert_lt(ready(late), 5 * MS + SLACK);
    cr_assert_lt(ready(fires), SLACK);
    weft_context_unref(early);
    weft_context_unref(late);
    weft_context_unref(fires);
    end();
}

static weft_result do_nothing(void *unused)
{
    (void)unused;
    return weft_ok(NULL);
}

Test(context_accounting, l11_who_is_to_start_soon_waits_until_it_does)
{
    weft_context *context = weft_context_new("soon");
    weft_deferred *soon = NULL;
    int64_t began;

    begin();
    weft_preserve_context(context)
        soon = weft_spawn_soon(do_nothing, NULL);
    began = wall();
    spin(5 * MS);
    assert_waited(context, wall() - began); /* up to now */
    weft_result_drop(run_until(soon));
    assert_waited(context, wall() - began);
    weft_context_unref(context);
    end();
}

/* Its wait ends with its turn, in which it is not run: it has been in no window. */
Test(context_accounting, l11_who_is_cancelled_before_it_begins_has_waited_until_then)
{
    weft_context *parent = weft_context_new("parent"), *context = weft_context_new_child(parent, "x");
    struct weft__series series = {.listed = false};
    weft_deferred *soon = NULL;
    int64_t began;

    begin();
    weft__context_join(context, &series);
    weft_preserve_context(context)
        soon = weft_spawn_soon(do_nothing, NULL);
    began = wall();
    weft_accounts_get();
    context = weft_context_unref(context);
    spin(5 * MS);
    weft_deferred_cancel(soon);
    weft_result_drop(run_until(soon));
    assert_waited(parent, wall() - began);
    cr_assert_eq(series.usage.ready_ns, ready(parent));
    weft_context_unref(parent);
    end();
}

static weft_result step_once(weft_result sent, void *arg)
{
    weft_deferred **awaited = arg, *deferred = *awaited;

    *awaited = NULL;
    return deferred ? weft_later(deferred) : sent;
}

Test(context_accounting, l11_a_driven_computation_waits_for_its_turn_like_a_fiber)
{
    weft_context *context = weft_context_new("driven");
    weft_deferred *awaited = pending(), *fired = weft_deferred_ref(awaited), *driven = NULL;
    int64_t before;

    begin();
    weft_preserve_context(context)
        driven = weft_drive(step_once, &awaited);
    spin(3 * MS);
    before = wall();
    weft_deferred_callback(fired, weft_ok(NULL));
    weft_deferred_unref(fired);
    spin(5 * MS);
    weft_result_drop(run_until(driven));
    cr_assert_geq(ready(context), 5 * MS);
    cr_assert_leq(ready(context), wall() - before);
    weft_context_unref(context);
    end();
}

/* N fibers yield to one another: while one spins, all others wait, in whatever order they run. */
static void yield_in_turn(uint64_t seed)
{
    enum { FIBERS = 5 };
    struct spinner spinners[FIBERS];
    weft_deferred *spawned[FIBERS];
    int64_t began, all, sum = 0;

    begin();
    weft_fiber_shuffle(seed);
    for (int i = 0; i < FIBERS; i++)
        spinners[i] = (struct spinner){weft_context_new("x"), 0};
    for (int i = 0; i < FIBERS; i++)
        spawned[i] = spawn_within(spinners[i].context, spin_and_yield, &spinners[i]); /* to the first yield */
    for (int i = 0; i < FIBERS; i++)
        spinners[i].ns = 10 * MS;
    sum -= FIBERS * ready(spinners[0].context);
    began = wall();
    for (int i = 0; i < FIBERS; i++)
        weft_result_drop(run_until(spawned[i]));
    all = wall() - began;
    for (int i = 0; i < FIBERS; i++)
        sum += ready(spinners[i].context);
    /* Nine rounds of 1 ms each: in the last, those behind the first wait for fewer. */
    cr_assert(sum > all * 5 / 2 && sum < all * (FIBERS - 1) + FIBERS * SLACK, "%ld µs in %ld µs", (long)(sum / US), (long)(all / US));
    for (int i = 0; i < FIBERS; i++)
        weft_context_unref(spinners[i].context);
    end();
}

Test(context_accounting, l11_who_yields_waits_while_the_others_run)
{
    yield_in_turn(0);
}

Test(context_accounting, l11_who_yields_waits_while_the_others_run_in_any_order)
{
    for (uint64_t seed = 1; seed <= 5; seed++)
        yield_in_turn(seed);
}

Test(context_accounting, l11_who_yields_alone_waits_for_nobody)
{
    struct spinner alone = {weft_context_new("alone"), 10 * MS};

    begin();
    weft_result_drop(run_until(spawn_within(alone.context, spin_and_yield, &alone)));
    cr_assert_lt(ready(alone.context), SLACK);
    weft_context_unref(alone.context);
    end();
}

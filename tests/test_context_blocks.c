/* The two blocks that enter a context: on every way out the one before is current again, whatever fibers do meanwhile. */
#include "tests/support/fibers.h"
#include "tests/support/test.h"

#include <string.h>

static const char *current(void)
{
    return weft_context_get_name(weft_context_current());
}

/* ---- ways out ---- */

Test(context_blocks, l05_a_block_runs_once_in_its_context_which_ends_with_it)
{
    weft_context *kept = NULL;
    int times = 0;

    weft_with_context(request, weft_context_new("GET-1")) {
        cr_assert_eq(request, weft_context_current());
        kept = weft_context_ref(request);
        cr_assert_not(weft_context_has_ended(request));
        times++;
    }
    cr_assert_eq(times, 1);
    cr_assert_null(weft_context_current());
    cr_assert(weft_context_has_ended(kept));
    weft_context_unref(kept);
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

Test(context_blocks, l06_break_and_continue_leave_it)
{
    for (int i = 0; i < 4; i++) {
        weft_with_context(request, weft_context_new_numbered("GET", (uint64_t)i)) {
            trace("%s", current());
            if (i % 2)
                break;
            continue;
        }
        trace("%s", current());
        weft_preserve_context(NULL) {
            if (i % 2)
                continue;
            break;
        }
    }
    cr_assert_str_eq(trace_text(), "GET-0 - GET-1 - GET-2 - GET-3 -");
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

static int return_from_the_innermost(void)
{
    weft_with_context(outer, weft_context_new("outer")) {
        weft_preserve_context(NULL) {
            weft_with_context(inner, weft_context_new_child(outer, "inner")) {
                weft_preserve_context(outer)
                    return (int)strlen(weft_context_get_name(inner));
            }
        }
    }
    return 0;
}

Test(context_blocks, l06_return_leaves_all_of_them)
{
    weft_context *previous = enter("caller");

    cr_assert_eq(return_from_the_innermost(), (int)strlen("outer-inner"));
    cr_assert_str_eq(current(), "caller");
    leave(previous);
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

static weft_result fail_inside(void)
{
    weft_with_context(request, weft_context_new("request")) {
        weft_preserve_context(NULL)
            WEFT_TRY(broken());
    }
    return weft_ok(NULL);
}

Test(context_blocks, l06_an_error_that_goes_up_leaves_them_and_is_kept)
{
    cr_assert_str_eq(told(fail_inside()), "!broken");
    cr_assert_null(weft_context_current());
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

Test(context_blocks, l06_goto_out_of_one_leaves_it)
{
    weft_preserve_context(NULL) {
        weft_with_context(request, weft_context_new("request"))
            goto out;
    }
out:
    cr_assert_null(weft_context_current());
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

Test(context_blocks, l14_a_preserved_context_is_borrowed_and_does_not_end)
{
    weft_context *context = weft_context_new("x");

    weft_preserve_context(context) {
        cr_assert_eq(weft_context_current(), context);
        weft_preserve_context(context)
            cr_assert_eq(weft_context_current(), context, "also in itself");
        cr_assert_eq(weft_context_current(), context);
        weft_preserve_context(NULL)
            cr_assert_null(weft_context_current());
        cr_assert_eq(weft_context_current(), context);
    }
    cr_assert_not(weft_context_has_ended(context));
    weft_context_unref(context);
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

Test(context_blocks, l14_its_owner_may_let_go_of_it_inside)
{
    weft_context *context = weft_context_new("x");

    weft_preserve_context(context) {
        weft_context_unref(context);
        cr_assert_str_eq(current(), "x");
    }
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

/* ---- what is left inside ---- */

static weft_context *lose_one(const char *inside)
{
    weft_context *lost = NULL;

    weft_with_context(request, weft_context_new("request")) {
        weft_context *left = weft_context_set(inside ? weft_context_new(inside) : NULL);

        lost = weft_context_ref(left);
        weft_context_unref(left); /* what set gave back */
    }
    return lost;
}

Test(context_blocks, l06_another_context_left_inside_is_named_with_the_place_and_put_right)
{
    weft_context *lost;

    log_capture();
    lost = lose_one("stranger");
    cr_assert_null(weft_context_current());
    cr_assert(weft_context_has_ended(lost));
    cr_assert_eq(weft_context_unref(lost), NULL);
    cr_assert_eq(log_count("ERROR stranger the block at tests/test_context_blocks.c:"), 1, "%s", log_text());
    weft_context_unref(lose_one(NULL));
    cr_assert_eq(log_count("lose_one was to end in the context request"), 2, "%s", log_text());
    cr_assert_eq(weft_context_faults_get().left_behind, 2);
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

struct foreign {
    weft_context *context;
    int inside;
};

static void enter_anothers(void *arg)
{
    struct foreign *foreign = arg;

    weft_preserve_context(foreign->context) {
        foreign->inside++;
        cr_assert_null(weft_context_current());
    }
    cr_assert_null(weft_context_current());
    cr_assert_eq(weft_context_faults_get().foreign, 1);
    cr_assert_eq(weft_context_faults_get().left_behind, 0, "nobody has left anything behind");
}

Test(context_blocks, l07_one_of_another_thread_is_refused_and_the_block_runs_in_none)
{
    struct foreign foreign = {weft_context_new("main's"), 0};

    log_capture();
    in_thread(enter_anothers, &foreign);
    cr_assert_eq(foreign.inside, 1);
    cr_assert_eq(log_count("misuse"), 1, "%s", log_text());
    weft_context_unref(foreign.context); /* the other thread's reference, which is not counted down there */
    weft_context_unref(foreign.context);
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

/* ---- in fibers ---- */

struct nested {
    const char *name;
    weft_deferred *first; /* awaited in the outer block */
    weft_deferred *second; /* … in the inner one */
    weft_deferred *third; /* … in the outer one again */
};

static weft_result nest(void *arg)
{
    struct nested *nested = arg;

    weft_with_context(outer, weft_context_new(nested->name)) {
        WEFT_TRY(weft_await(nested->first));
        trace("%s", current());
        weft_with_context(inner, weft_context_new_child(outer, "in")) {
            weft_preserve_context(NULL) {
                WEFT_TRY(weft_await(nested->second));
                trace("%s", current());
            }
            trace("%s", current());
        }
        WEFT_TRY(weft_await(nested->third));
        trace("%s", current());
    }
    trace("%s", current());
    return weft_ok(NULL);
}

static void fire(weft_deferred *deferred)
{
    weft_deferred_callback(deferred, weft_ok(NULL));
    weft_deferred_unref(deferred);
    settle();
    trace("|");
}

/* They go in and out of their blocks in orders that are no stack's of the thread. */
Test(context_blocks, l06_blocks_of_fibers_end_in_any_order_across_them)
{
    weft_deferred *fires[2][3], *done_with[2];
    struct nested nested[2] = {{.name = "a"}, {.name = "b"}};

    begin();
    for (int i = 0; i < 2; i++) {
        for (int n = 0; n < 3; n++)
            fires[i][n] = pending();
        nested[i].first = weft_deferred_ref(fires[i][0]);
        nested[i].second = weft_deferred_ref(fires[i][1]);
        nested[i].third = weft_deferred_ref(fires[i][2]);
        done_with[i] = spawn_in("caller", nest, &nested[i]);
        cr_assert_null(weft_context_current());
    }
    fire(fires[0][0]); /* a goes in, b goes in, a goes out, b goes out, then outer a before b */
    fire(fires[1][0]);
    fire(fires[0][1]);
    fire(fires[0][2]);
    fire(fires[1][1]);
    fire(fires[1][2]);
    cr_assert_str_eq(trace_text(), "a | b | - a-in | a caller | - b-in | b caller |");
    for (int i = 0; i < 2; i++)
        weft_result_drop(run_until(done_with[i]));
    cr_assert_eq(weft_context_faults_get().left_behind, 0);
    end();
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

Test(context_blocks, l06_a_cancelled_fiber_leaves_all_of_its_blocks)
{
    struct nested nested = {"x", done(weft_ok(NULL)), pending(), pending()};
    weft_deferred *held = weft_deferred_ref(nested.second);
    weft_deferred *fiber;

    begin();
    fiber = spawn_in("caller", nest, &nested);
    weft_deferred_cancel(fiber);
    cr_assert_str_eq(told(run_until(fiber)), "!cancelled");
    cr_assert_str_eq(trace_text(), "x");
    cr_assert_eq(weft_context_faults_get().left_behind, 0);
    weft_deferred_unref(held);
    weft_deferred_unref(nested.third);
    end();
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

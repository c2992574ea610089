/* What a deferred costs in memory: two cache lines from a slab, and no malloc for two callbacks. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <malloc.h>

#ifndef WEFT_TEST_SANITIZED
static size_t allocated(void)
{
    return mallinfo2().uordblks;
}

enum { SOME = 1000 }; /* many more than malloc keeps at hand uncounted */

static void make_some(weft_deferred **some)
{
    for (int i = 0; i < SOME; i++)
        some[i] = stoppable(cancel_done, "");
}

static void unref_some(weft_deferred **some)
{
    for (int i = 0; i < SOME; i++)
        weft_deferred_unref(some[i]);
}

static void add_to_some(weft_deferred **some)
{
    static char label[] = "";

    for (int i = 0; i < SOME; i++)
        noted(some[i], label);
}

/* glibc says how much is allocated right now; the slabs are warm. */
Test(deferred_memory, one_with_two_callbacks_needs_no_malloc)
{
    weft_deferred *some[SOME];
    size_t before;

    make_some(some);
    unref_some(some);
    before = allocated();
    make_some(some);
    add_to_some(some);
    add_to_some(some);
    cr_assert_eq(allocated(), before);
    add_to_some(some);
    cr_assert_gt(allocated(), before, "this is how a malloc looks");
    log_capture();
    unref_some(some);
    trace_text();
}

Test(deferred_memory, waiting_for_another_needs_no_malloc)
{
    weft_deferred *some[SOME], *inner[SOME];
    size_t before;

    make_some(some);
    make_some(inner);
    before = allocated();
    for (int i = 0; i < SOME; i++) {
        weft_deferred_add_both(some[i], return_later, weft_deferred_ref(inner[i]));
        weft_deferred_callback(some[i], weft_ok(NULL));
        cr_assert_eq(weft_deferred_get_state(some[i]), WEFT_WAITING);
    }
    cr_assert_eq(allocated(), before);
    for (int i = 0; i < SOME; i++)
        weft_deferred_callback(inner[i], weft_ok(NULL));
    unref_some(some);
    unref_some(inner);
}
#endif

/* tests/support/members.h: deferreds that a test gives away and fires itself, for the tests of those who wait for many. */
#ifndef WEFT_TEST_MEMBERS_H
#define WEFT_TEST_MEMBERS_H

#include "tests/support/values.h"

/* Pending deferreds, `a`, `b` and so on; the test has one reference to each. A canceller gets that name as its label. */
struct members {
    size_t count;
    weft_deferred *of[8];
};

struct members members(size_t count, weft_cancel_fn *canceller);
/* One more reference to each, in an array that lives until the next call. */
weft_deferred *const *given(const struct members *members);
void let_go_of(struct members *members);

/* Traces the result with `note_last`; returns the deferred. */
weft_deferred *noted_last(weft_deferred *deferred, const char *label);

/* Cancellers that fire at once, with 7 and with broken(). */
weft_cancel_outcome cancel_with_value(weft_deferred *deferred, void *label);
weft_cancel_outcome cancel_with_broken(weft_deferred *deferred, void *label);

/* The error of a deferred that is done, the caller's. Fails when it has none. */
weft_error *error_of(weft_deferred *deferred);
/* The index of the error; fails when it has none. */
size_t index_of(const weft_error *error);

#endif

/* Bytes that contexts allocate: as jemalloc counts them where it is the allocator, and none where it is not. */
#include "tests/support/test.h"

#ifndef WEFT_TEST_SANITIZED /* those have allocators of their own */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct line {
    char what[16];
    long asked;
    long charged;
};

enum { LINES = 6 };

static void run(struct line lines[LINES], const char *before)
{
    char command[4096 + 64];
    FILE *told;

    snprintf(command, sizeof command, "%s %s", before, weft_test_program("serve_allocations"));
    told = popen(command, "r");
    cr_assert_not_null(told);
    for (int i = 0; i < LINES; i++)
        cr_assert_eq(fscanf(told, "%15s %ld %ld", lines[i].what, &lines[i].asked, &lines[i].charged), 3, "line %d", i);
    cr_assert_eq(pclose(told), 0);
}

/* jemalloc rounds up to its classes, of which the next is never more than a fifth away; what the first fiber
 * takes besides is little. */
Test(allocations, l11_are_charged_as_jemalloc_counts_them)
{
    struct line lines[LINES];

    run(lines, "LD_PRELOAD=libjemalloc.so.2");
    for (int i = 0; i < LINES; i++)
        cr_assert(lines[i].charged >= lines[i].asked && lines[i].charged <= lines[i].asked * 6 / 5 + (32 << 10), "%s: %ld for %ld",
                  lines[i].what, lines[i].charged, lines[i].asked);
    cr_assert_str_eq(lines[0].what, "nothing");
    cr_assert_eq(lines[0].charged, 0, "what is allocated in none");
}

Test(allocations, l11_are_not_charged_with_another_allocator)
{
    struct line lines[LINES];

    run(lines, "");
    for (int i = 0; i < LINES; i++)
        cr_assert_eq(lines[i].charged, 0, "%s", lines[i].what);
}
#endif

/* tests/support/test.h: what every test includes: Criterion, and a check that the test left nothing behind.
 *
 *     Test(gate, opens_once, .timeout = 5)
 *     {
 *         cr_assert(...);
 *     }
 *
 * Each test runs in a process of its own. Where Criterion cannot run (ThreadSanitizer, Valgrind) plain_runner.h
 * stands in for it; what tests may use of Criterion is what both know. WEFT_TEST_SANITIZED says that
 * everything is slower than usual. A test that takes longer than a few seconds belongs to a suite named slow_...,
 * which `make test-slow` runs. */
#ifndef WEFT_TEST_H
#define WEFT_TEST_H

/* Called around each test's body. The test fails, naming what is left, if weft's live objects or the process's open
 * descriptors are not what they were before it. */
void weft_test_begin(void);
void weft_test_end(const char *suite, const char *name);

/* The path of a program that was built beside the tests, for them to start: "rooms" of docs/examples/rooms/, "serve_x"
 * of tests/integration/serve_x.c. Borrowed until the next call. */
const char *weft_test_program(const char *name);

#ifdef WEFT_PLAIN_RUNNER
#include "tests/support/plain_runner.h"
#define WEFT_TEST_ENTRY PLAIN_TEST
#else
#include <criterion/criterion.h>
#define WEFT_TEST_ENTRY(Suite, Name, ...) CR_EXPAND(CR_TEST_BASE(Suite, Name, ##__VA_ARGS__, .sentinel_ = 0))
#endif

#undef Test
#define Test(Suite, Name, ...)                                                                                      \
    static void weft_test_##Suite##_##Name(void);                                                                   \
    WEFT_TEST_ENTRY(Suite, Name, ##__VA_ARGS__)                                                                     \
    {                                                                                                               \
        weft_test_begin();                                                                                          \
        weft_test_##Suite##_##Name();                                                                               \
        weft_test_end(#Suite, #Name);                                                                               \
    }                                                                                                               \
    static void weft_test_##Suite##_##Name(void)

#endif

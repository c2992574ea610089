/* What Criterion's runner, which starts each test as a process, does not do by itself. */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <stdio.h>
#include <stdlib.h>

/* NULL without LeakSanitizer. */
void __lsan_disable(void) __attribute__((weak));

/* The runner sometimes loses a few bytes of its own. LeakSanitizer is told so in the runner only: the processes of the tests
 * are executed anew, and know nothing of it. */
ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    (void)tests;
    if (__lsan_disable)
        __lsan_disable();
}

/* A misspelt filter picks none of them, which for Criterion is a success. */
ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
    if (stats->nb_tests > stats->tests_skipped)
        return;
    fprintf(stderr, "FAILED: no test has a name that was asked for, such as suite/name\n");
    exit(1);
}

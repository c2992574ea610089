/* Criterion's runner, which starts each test as a process, sometimes loses a few bytes of its own. LeakSanitizer is told
 * so in the runner only: the processes of the tests are executed anew, and know nothing of it. */
#include <criterion/criterion.h>
#include <criterion/hooks.h>

/* NULL without LeakSanitizer. */
void __lsan_disable(void) __attribute__((weak));

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    (void)tests;
    if (__lsan_disable)
        __lsan_disable();
}

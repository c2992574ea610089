/* A test program with a fault planted in each test but the first. tests/test_house.c runs them one by one, to see
 * that the house notices each kind. */
#include "tests/support/test.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <weft/weft.h>

Test(planted, nothing)
{
    cr_assert(1);
}

Test(planted, failure)
{
    cr_assert_eq(1 + 1, 3, "planted");
}

Test(planted, crash)
{
    abort();
}

Test(planted, hang, .timeout = 0.2)
{
    for (;;)
        pause();
}

Test(planted, descriptor)
{
    cr_assert(open("/dev/null", O_RDONLY) >= 0);
}

Test(planted, live_object)
{
    static weft_deferred *left;

    left = weft_deferred_new(NULL, NULL);
    cr_assert_not_null(left);
}

/* Volatile, so that the compiler does not see through these and drop them. */
static void lose_memory(void)
{
    void *volatile lost = malloc(10);

    lost = NULL;
    (void)lost;
}

static void overflow(void)
{
    int volatile number = INT_MAX;

    number = number + 1;
}

/* As in a server that a test started, and whose exit status it did not look at. */
static void in_a_child(void (*fault)(void))
{
    pid_t child = fork();

    if (!child) {
        fault();
        exit(0);
    }
    waitpid(child, NULL, 0);
}

Test(planted, lost_memory)
{
    lose_memory();
}

Test(planted, lost_memory_of_a_child)
{
    in_a_child(lose_memory);
}

Test(planted, undefined_behaviour)
{
    overflow();
}

Test(planted, undefined_behaviour_of_a_child)
{
    in_a_child(overflow);
}

static int raced;

static void *race(void *arg)
{
    raced++;
    return arg;
}

Test(planted, race)
{
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, race, NULL), 0);
    raced++;
    pthread_join(thread, NULL);
}

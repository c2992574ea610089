/* The rows of the C library's ucontext, whose switch asks the kernel for the signal mask. */
#include <ucontext.h>

#include "bench/common/measure.h"

static _Alignas(64) char stack[64 * 1024];
static ucontext_t here, there;
static long visits;

static void visit_again(void)
{
    for (;;) {
        visits++;
        swapcontext(&there, &here);
    }
}

static void visit_once(void)
{
    visits++;
}

static void prepare(void (*fn)(void))
{
    getcontext(&there);
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = sizeof stack;
    there.uc_link = &here;
    makecontext(&there, fn, 0);
}

/* There and back are two. */
static void raw_switch(long operations, long size)
{
    visits = 0;
    prepare(visit_again);
    for (long i = 0; i < operations; i += size)
        swapcontext(&here, &there);
    check(visits == operations / 2, "the number of visits");
}

/* Each on the same stack, as from a pool. */
static void spawn_finish(long operations, long size)
{
    (void)size;
    visits = 0;
    for (long i = 0; i < operations; i++) {
        prepare(visit_once);
        swapcontext(&here, &there);
    }
    check(visits == operations, "the number of contexts that ended");
}

static const struct row rows[] = {
    {"raw_switch", raw_switch, 2000000, 2},
    {"spawn_finish", spawn_finish, 500000, 1},
};

int main(int argc, char **argv)
{
    return measure_rows(rows, sizeof rows / sizeof rows[0], argc, argv);
}

/* The row of weft that its shared libraries hide: the bare switch from one stack to another. */
#include "bench/common/measure.h"
#include "runtime/fiber/switch.h"

static _Alignas(64) char stack[64 * 1024];
static void *here, *there;
static long visits;

static void visit(void *arg)
{
    (void)arg;
    for (;;) {
        visits++;
        weft__switch(&there, here);
    }
}

/* There and back are two. */
static void raw_switch(long operations, long size)
{
    visits = 0;
    there = weft__switch_prepare(stack + sizeof stack, visit, NULL);
    for (long i = 0; i < operations; i += size)
        weft__switch(&here, there);
    check(visits == operations / 2, "the number of visits");
}

static const struct row rows[] = {
    {"raw_switch", raw_switch, 20000000, 2},
};

int main(int argc, char **argv)
{
    return measure_rows(rows, sizeof rows / sizeof rows[0], argc, argv);
}

/* The limit, on x86-64: what fibers must cost. A switch that saves the stack pointer and where to go on, and leaves it to
 * the compiler to save whatever else is live at that place; a queue of those that are ready; stacks from a free list; a time
 * stamp counter read for each switch where weft has one. All of it in one file, so that calls vanish. No errors, no log
 * contexts, no cancel that goes anywhere but to one waiting fiber, no checks of any kind. Not a library: a floor. */
#include <sys/mman.h>
#include <x86intrin.h>

#include "bench/common/measure.h"
#include "bench/fiber/memory.h"

enum { BATCH = 100, MANY = 1000, RING = 50000 };
enum { STACK = 128 * 1024, GUARD = 16 * 1024, CHUNK = 64, COLOURS = 16, LINE = 64, GUARD_INSTALL = 102 };

typedef void body(void *arg);

struct fiber {
    void *sp, *bp, *ip;
    struct fiber *next;
    struct fiber *starter;
    uint64_t ticks;
    body *run;
    void *arg;
    char *low; /* of its stack */
};

static struct fiber thread;
static struct fiber *current = &thread;
static struct fiber *ready, *ready_last;
static uint64_t mark;

/* ---- switching ---- */

static inline __attribute__((always_inline)) void switch_to(struct fiber *to)
{
    struct fiber *from = current;

    current = to;
    __asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
                     "movq %%rsp, (%0)\n\t"
                     "movq %%rbp, 8(%0)\n\t"
                     "movq %%rax, 16(%0)\n\t"
                     "movq (%1), %%rsp\n\t"
                     "movq 8(%1), %%rbp\n\t"
                     "jmpq *16(%1)\n"
                     "1:"
                     : "+D"(from), "+S"(to)
                     :
                     : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory",
                       "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                       "xmm12", "xmm13", "xmm14", "xmm15");
}

static inline void charge(void)
{
    uint64_t now = __rdtsc();

    current->ticks += now - mark;
    mark = now;
}

static inline void push(struct fiber *fiber)
{
    fiber->next = NULL;
    if (ready)
        ready_last->next = fiber;
    else
        ready = fiber;
    ready_last = fiber;
}

static inline struct fiber *pop(void)
{
    struct fiber *fiber = ready;

    ready = fiber->next;
    return fiber;
}

/* Whoever is next: the one that started us, or is ready, or the thread. */
static inline __attribute__((always_inline)) void leave(void)
{
    struct fiber *next = current->starter;

    if (next)
        current->starter = NULL;
    else
        next = ready ? pop() : &thread;
    switch_to(next);
}

static inline __attribute__((always_inline)) void yield(void)
{
    push(current);
    charge();
    leave();
}

static void run_all(void)
{
    while (ready)
        switch_to(pop());
}

/* ---- starting ---- */

static char *free_stacks; /* linked at their tops, which have been touched */
static size_t colour;

static char **link_of(char *low)
{
    return (char **)(low + STACK - sizeof(char *));
}

static __attribute__((noinline)) void grow(void)
{
    const size_t size = (size_t)CHUNK * STACK;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        abort();
    madvise(memory, size, MADV_NOHUGEPAGE);
    for (int i = CHUNK; i--;) {
        char *low = memory + (size_t)i * STACK;

        madvise(low, GUARD, GUARD_INSTALL); /* where the kernel can; a floor goes without */
        *link_of(low) = free_stacks;
        free_stacks = low;
    }
}

static void begin(void)
{
    current->run(current->arg);
    *link_of(current->low) = free_stacks;
    free_stacks = current->low;
    leave(); /* nobody takes the stack before we are off it */
}

static inline __attribute__((always_inline)) void spawn(body *run, void *arg)
{
    struct fiber *fiber;
    char *low;

    if (!free_stacks)
        grow();
    low = free_stacks;
    free_stacks = *link_of(low);
    colour = (colour + 1) % COLOURS;
    fiber = (struct fiber *)(low + STACK - LINE - colour * LINE) - 1;
    fiber = (struct fiber *)((uintptr_t)fiber & ~(uintptr_t)(LINE - 1));
    fiber->sp = (char *)fiber - sizeof(void *); /* as after a call */
    fiber->ip = (void *)begin;
    fiber->starter = current;
    fiber->ticks = 0;
    fiber->run = run;
    fiber->arg = arg;
    fiber->low = low;
    switch_to(fiber);
}

/* ---- waiting: a value to come, and at most one fiber that waits for it; three calls, as a library would have them ---- */

struct value {
    intptr_t value;
    bool fired;
    struct fiber *waiter;
    struct value *next; /* free: the next free one */
};

static struct value *free_values;

static __attribute__((noinline)) void grow_values(void)
{
    struct value *chunk = malloc(CHUNK * sizeof *chunk);

    if (!chunk)
        abort();
    for (int i = CHUNK; i--; free_values = &chunk[i])
        chunk[i].next = free_values;
}

static __attribute__((noinline)) struct value *value_new(void)
{
    struct value *value;

    if (!free_values)
        grow_values();
    value = free_values;
    free_values = value->next;
    value->fired = false;
    value->waiter = NULL;
    return value;
}

static __attribute__((noinline)) void value_free(struct value *value)
{
    value->next = free_values;
    free_values = value;
}

static __attribute__((noinline)) void fire(struct value *value, intptr_t with)
{
    value->value = with;
    value->fired = true;
    if (value->waiter)
        push(value->waiter);
}

static inline __attribute__((always_inline)) intptr_t await(struct value *value)
{
    if (!value->fired) {
        value->waiter = current;
        leave();
    }
    return value->value;
}

/* ---- the rows ---- */

static struct fiber *visitor;
static long visits;

static void visit(void *arg)
{
    (void)arg;
    visitor = current;
    for (;;) {
        visits++;
        switch_to(&thread);
    }
}

/* There and back are two; the first visit is the spawn. */
static void raw_switch(long operations, long size)
{
    visits = 0;
    spawn(visit, NULL);
    for (long i = size; i < operations; i += size)
        switch_to(visitor);
    check(visits == operations / size, "the number of visits");
}

static void read_counter(long operations, long size)
{
    uint64_t ticks = 0, first = __rdtsc();

    (void)size;
    for (long i = 0; i < operations; i++)
        ticks += __rdtsc() - first;
    check(ticks > 0, "the sum of ticks");
}

struct member {
    long index;
    long before;
    long laps;
};

static long had_turn, out_of_order;

static void yield_in_turn(void *arg)
{
    struct member *self = arg;

    for (long i = 0; i < self->laps; i++) {
        out_of_order += had_turn != self->before;
        had_turn = self->index;
        yield();
    }
}

static void yields(long operations, long size)
{
    struct member *members = malloc((size_t)size * sizeof *members);

    check(members != NULL, "memory");
    had_turn = size - 1;
    for (long i = 0; i < size; i++) {
        members[i] = (struct member){i, (i ? i : size) - 1, operations / size};
        spawn(yield_in_turn, &members[i]);
    }
    run_all();
    check(!out_of_order && had_turn == size - 1, "the order of turns");
    free(members);
}

static void count_up(void *count)
{
    ++*(long *)count;
}

static void spawn_finish(long operations, long size)
{
    long count = 0;

    (void)size;
    for (long i = 0; i < operations; i++)
        spawn(count_up, &count);
    check(count == operations, "the number of fibers that ended");
}

struct sum {
    long operations;
    long total;
};

static void await_each(void *arg)
{
    struct sum *sum = arg;

    for (long i = 0; i < sum->operations; i++) {
        struct value *value = value_new();

        fire(value, 2);
        sum->total += await(value);
        value_free(value);
    }
}

static void await_ready(long operations, long size)
{
    struct sum sum = {.operations = operations};

    (void)size;
    spawn(await_each, &sum);
    check(sum.total == 2 * operations, "the sum of what was awaited");
}

struct player {
    struct player *other;
    struct value *turn;
    struct sum sum;
};

static inline void wake(struct player *player)
{
    struct value *turn = player->turn;

    player->turn = NULL;
    if (turn)
        fire(turn, 2);
}

static void play(void *arg)
{
    struct player *self = arg;

    for (long i = 0; i < self->sum.operations; i++) {
        struct value *turn = self->turn = value_new();

        wake(self->other);
        self->sum.total += await(turn);
        value_free(turn);
    }
    wake(self->other);
}

static void await_pending(long operations, long size)
{
    struct player players[] = {{.sum.operations = operations / size}, {.sum.operations = operations / size}};

    players[0].other = &players[1];
    players[1].other = &players[0];
    spawn(play, &players[0]);
    spawn(play, &players[1]);
    run_all();
    check(players[0].sum.total + players[1].sum.total == 2 * operations, "the sum of what was awaited");
}

static long unwound;

static void park(void *arg)
{
    struct value **value = arg;

    *value = value_new();
    unwound += await(*value) < 0;
    value_free(*value);
}

static void park_cancel(long operations, long size)
{
    struct value *values[BATCH];

    unwound = 0;
    for (long done = 0; done < operations; done += size) {
        for (long i = 0; i < size; i++)
            spawn(park, &values[i]);
        for (long i = 0; i < size; i++)
            fire(values[i], -1);
        run_all();
    }
    check(unwound == operations, "the number of cancelled waits");
}

static struct value *values[PARKED];

static void parked_memory(void)
{
    struct memory before;

    memset(values, 1, sizeof values);
    before = memory_now();
    for (long i = 0; i < PARKED; i++)
        spawn(park, &values[i]);
    print_memory("parked", before, PARKED);
    for (long i = 0; i < PARKED; i++)
        fire(values[i], -1);
    run_all();
    check(unwound == PARKED, "the number of parked fibers");
}

static const struct row rows[] = {
    {"raw_switch", raw_switch, 20000000, 2},
    {"read_counter", read_counter, 4000000, 1},
    {"yield_accounted", yields, 4000000, 2},
    {"yield_1000", yields, 4000000, MANY},
    {"ring_50000", yields, 10000000, RING},
    {"spawn_finish", spawn_finish, 4000000, 1},
    {"await_ready", await_ready, 4000000, 1},
    {"await_pending", await_pending, 4000000, 2},
    {"park_cancel", park_cancel, 2000000, BATCH},
};

int main(int argc, char **argv)
{
    if (!wants("parked", argc, argv))
        return measure_rows(rows, sizeof rows / sizeof rows[0], argc, argv);
    parked_memory();
    return 0;
}

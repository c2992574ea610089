/* The rows of weft, through its shared libraries. weft_switch.c has the one that users cannot reach. */
#include <weft/weft.h>

#include "bench/common/measure.h"
#include "bench/fiber/memory.h"

enum { BATCH = 100, MANY = 1000, RING = 50000 };

static weft_reactor *reactor;

static void run_until(weft_deferred *deferred)
{
    weft_result_drop(weft_reactor_run_until(reactor, deferred));
}

static long count_fibers(void)
{
    return (long)weft_live_counts_get().fibers;
}

static weft_deferred *spawn_in_context(weft_fiber_fn *fn, void *arg, uint64_t number)
{
    weft_context *previous = weft_context_set(weft_context_new_numbered("bench", number));
    weft_deferred *deferred = weft_spawn(fn, arg);

    weft_context_unref(weft_context_set(previous));
    return deferred;
}

/* ---- yielding: `size` fibers, each in a log context of its own, so that each yield changes context ---- */

struct member {
    long index;
    long before; /* whose turn comes before this one's */
    long laps;
};

static long had_turn, out_of_order, out_of_context, refused;

static weft_result yield_in_turn(void *arg)
{
    struct member *self = arg;
    weft_context *context = weft_context_current();

    for (long i = 0; i < self->laps; i++) {
        out_of_order += had_turn != self->before;
        had_turn = self->index;
        if (weft_failed(weft_yield()))
            refused++;
    }
    out_of_context += !context || weft_context_current() != context;
    return weft_ok(NULL);
}

static void yield(long operations, long size)
{
    struct member *members = weft_alloc((size_t)size * sizeof *members);
    weft_deferred *last = NULL;

    had_turn = size - 1;
    for (long i = 0; i < size; i++) {
        members[i] = (struct member){i, (i ? i : size) - 1, operations / size};
        weft_deferred_unref(last);
        last = spawn_in_context(yield_in_turn, &members[i], (uint64_t)i);
    }
    check(count_fibers() == size && weft_live_counts_get().contexts == (size_t)size, "the number of fibers");
    run_until(last);
    check(!out_of_order && had_turn == size - 1, "the order of turns");
    check(!out_of_context && !refused, "contexts, and what a yield returned");
    check(!count_fibers() && !weft_live_counts_get().contexts, "the ends of fibers");
    weft_free(members);
}

/* ---- starting ---- */

static weft_result count_up(void *count)
{
    ++*(long *)count;
    return weft_ok(NULL);
}

/* Each in a log context of its own, which is made for it. */
static void spawn_own_context(long operations, long size)
{
    long count = 0;

    (void)size;
    for (long i = 0; i < operations; i++)
        weft_deferred_unref(spawn_in_context(count_up, &count, (uint64_t)i));
    check(count == operations && !count_fibers(), "the number of fibers that ended");
}

/* All in the log context of their starter. */
static void spawn_finish(long operations, long size)
{
    weft_context *previous = weft_context_set(weft_context_new("bench"));
    long count = 0;

    (void)size;
    for (long i = 0; i < operations; i++)
        weft_deferred_unref(weft_spawn(count_up, &count));
    weft_context_unref(weft_context_set(previous));
    check(count == operations && !count_fibers(), "the number of fibers that ended");
}

/* ---- waiting ---- */

struct sum {
    long operations;
    long total;
};

static weft_result await_each(void *arg)
{
    struct sum *sum = arg;

    for (long i = 0; i < sum->operations; i++)
        sum->total += (intptr_t)weft_await(weft_deferred_with(weft_int(2))).value;
    return weft_ok(NULL);
}

static void await_ready(long operations, long size)
{
    struct sum sum = {.operations = operations};

    (void)size;
    weft_deferred_unref(weft_spawn(await_each, &sum));
    check(sum.total == 2 * operations, "the sum of what was awaited");
}

/* What of await_ready is not the await. */
static void ready_made(long operations, long size)
{
    weft_deferred *first = weft_deferred_with(weft_int(2));

    (void)size;
    for (long i = 0; i < operations; i++)
        weft_deferred_unref(weft_deferred_with(weft_int(2)));
    check((intptr_t)weft_deferred_peek(first).value == 2, "what one was made with");
    check(weft_live_counts_get().deferreds == 1, "the number of those that are left");
    weft_deferred_unref(first);
}

/* Two fibers, each of which waits until the other fires what it waits for. */
struct player {
    struct player *other;
    weft_deferred *turn; /* a reference, for the other one to fire; NULL: does not wait */
    struct sum sum;
};

static void wake(struct player *player)
{
    weft_deferred *turn = player->turn;

    if (!turn)
        return;
    player->turn = NULL;
    weft_deferred_callback(turn, weft_int(2));
    weft_deferred_unref(turn);
}

static weft_result play(void *arg)
{
    struct player *self = arg;

    for (long i = 0; i < self->sum.operations; i++) {
        self->turn = weft_deferred_new(NULL, NULL);
        wake(self->other);
        self->sum.total += (intptr_t)weft_await(weft_deferred_ref(self->turn)).value;
    }
    wake(self->other);
    return weft_ok(NULL);
}

static void await_pending(long operations, long size)
{
    struct player players[] = {{.sum.operations = operations / size}, {.sum.operations = operations / size}};

    players[0].other = &players[1];
    players[1].other = &players[0];
    weft_deferred_unref(weft_spawn(play, &players[0]));
    run_until(weft_spawn(play, &players[1]));
    check(players[0].sum.total + players[1].sum.total == 2 * operations, "the sum of what was awaited");
    check(!count_fibers() && !weft_live_counts_get().deferreds, "the ends of players");
}

/* ---- cancelling ---- */

static long stopped, unwound;

static weft_cancel_outcome stop(weft_deferred *deferred, void *arg)
{
    (void)deferred, (void)arg;
    stopped++;
    return WEFT_CANCEL_DONE;
}

static weft_result park(void *arg)
{
    weft_deferred *deferred = weft_deferred_new(stop, arg);
    weft_result result = weft_await(weft_deferred_ref(deferred));

    unwound += weft_error_is(weft_failed(result), &WEFT_CANCELLED);
    weft_deferred_unref(deferred);
    return result;
}

/* Lets the reactor run until the last of them has ended, who was cancelled last. */
static void cancel_all(weft_deferred **fibers, long count)
{
    for (long i = 0; i < count; i++) {
        weft_deferred_cancel(fibers[i]);
        if (i < count - 1)
            weft_deferred_unref(fibers[i]);
    }
    run_until(fibers[count - 1]);
    check(!count_fibers() && !weft_live_counts_get().deferreds, "the ends of cancelled fibers");
}

static void park_cancel(long operations, long size)
{
    weft_deferred *fibers[BATCH];

    stopped = unwound = 0;
    for (long done = 0; done < operations; done += size) {
        for (long i = 0; i < size; i++)
            fibers[i] = weft_spawn(park, NULL);
        cancel_all(fibers, size);
    }
    check(stopped == operations && unwound == operations, "the number of cancelled waits");
}

/* ---- many ---- */

static weft_deferred *fibers[SLEEPERS];

static void parked_memory(void)
{
    struct memory before;

    for (long i = 0; i < MANY; i++)
        fibers[i] = weft_spawn(park, NULL);
    cancel_all(fibers, MANY);
    memset(fibers, 1, sizeof fibers);
    before = memory_now();
    for (long i = 0; i < MANY + PARKED; i++)
        fibers[i] = weft_spawn(park, NULL);
    check(count_fibers() == MANY + PARKED, "the number of parked fibers");
    print_memory("parked", before, PARKED);
    cancel_all(fibers, MANY + PARKED);
}

static long slept_on;

static weft_result sleep_long(void *arg)
{
    weft_result result = weft_sleep(3600);

    (void)arg;
    unwound += weft_error_is(weft_failed(result), &WEFT_CANCELLED);
    slept_on += !weft_failed(result);
    return result;
}

/* Where stacks are guarded by mprotect there are not so many: then the rest have failed, and are not counted. */
static long start_sleepers(void)
{
    for (long i = 0; i < SLEEPERS; i++) {
        fibers[i] = weft_spawn(sleep_long, NULL);
        if (weft_deferred_get_state(fibers[i]) == WEFT_PENDING)
            continue;
        weft_result_drop(weft_deferred_take_result(fibers[i]));
        weft_deferred_unref(fibers[i]);
        return i;
    }
    return SLEEPERS;
}

static void sleepers(void)
{
    struct memory before = memory_now();
    double ns = cpu_ns();
    long count = start_sleepers();

    print_value("sleepers_start", (cpu_ns() - ns) / (double)count, count);
    check(count_fibers() == count && (long)weft_live_counts_get().timers == count, "the number of sleeping fibers");
    print_value("sleepers_count", (double)count, count);
    print_value("sleepers_mappings", (double)count_mappings(), count);
    print_memory("sleepers", before, count);

    unwound = 0;
    ns = cpu_ns();
    cancel_all(fibers, count);
    print_value("sleepers_cancel", (cpu_ns() - ns) / (double)count, count);
    check(unwound == count && !slept_on && !weft_live_counts_get().timers, "the number of cancelled sleeps");
}

static const struct row rows[] = {
    {"yield_accounted", yield, 4000000, 2},
    {"yield_1000", yield, 4000000, MANY},
    {"ring_50000", yield, 10000000, RING},
    {"spawn_own_context", spawn_own_context, 1000000, 1},
    {"spawn_finish", spawn_finish, 1000000, 1},
    {"await_ready", await_ready, 4000000, 1},
    {"ready_made", ready_made, 4000000, 1},
    {"await_pending", await_pending, 2000000, 2},
    {"park_cancel", park_cancel, 500000, BATCH},
};

int main(int argc, char **argv)
{
    int status = 0;

    check(!weft_reactor_new(&reactor), "the reactor");
    if (wants("parked", argc, argv))
        parked_memory();
    else if (wants("asleep", argc, argv))
        sleepers();
    else
        status = measure_rows(rows, sizeof rows / sizeof rows[0], argc, argv);
    weft_reactor_free(reactor);
    return status;
}

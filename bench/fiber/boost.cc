// The rows of boost.context: its bare switch, jump_fcontext, and its fibers on pooled stacks, which have no scheduler.
#include <memory>
#include <utility>
#include <vector>

#include <boost/context/detail/fcontext.hpp>
#include <boost/context/fiber.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>

#include "bench/common/measure.h"
#include "bench/fiber/memory.h"

using boost::context::fiber;
using boost::context::pooled_fixedsize_stack;
using boost::context::stack_context;
using boost::context::detail::fcontext_t;
using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

enum { MANY = 1000, RING = 50000 };

static pooled_fixedsize_stack pool;

// ---- the bare switch ----

static long visits;

static void visit(transfer_t from)
{
    for (;;) {
        visits++;
        from = jump_fcontext(from.fctx, nullptr);
    }
}

// There and back are two.
static void raw_switch(long operations, long size)
{
    stack_context stack = pool.allocate();
    fcontext_t there = make_fcontext(stack.sp, stack.size, visit);

    visits = 0;
    for (long i = 0; i < operations; i += size)
        there = jump_fcontext(there, nullptr).fctx;
    check(visits == operations / 2, "the number of visits");
    pool.deallocate(stack);
}

// `size` of them, each of which goes on with the next one; the one in slot 0 is the caller.
static std::vector<fcontext_t> slots;
static std::size_t next_slot;

static transfer_t go_on(std::size_t self)
{
    std::size_t next = self + 1 < slots.size() ? self + 1 : 0;
    transfer_t from;

    next_slot = next;
    from = jump_fcontext(slots[next], &slots[self]);
    *static_cast<fcontext_t *>(from.data) = from.fctx; // who switched to us is found there from now on
    return from;
}

static void take_turns(transfer_t from)
{
    std::size_t self = next_slot;

    *static_cast<fcontext_t *>(from.data) = from.fctx;
    for (;;) {
        visits += self == next_slot;
        go_on(self);
    }
}

static void ring(long operations, long size)
{
    std::vector<stack_context> stacks;

    visits = 0;
    slots.assign(static_cast<std::size_t>(size), nullptr);
    for (long i = 1; i < size; i++) {
        stacks.push_back(pool.allocate());
        slots[static_cast<std::size_t>(i)] = make_fcontext(stacks.back().sp, stacks.back().size, take_turns);
    }
    for (long i = 0; i < operations; i += size) {
        go_on(0);
        visits += next_slot == 0;
    }
    check(visits == operations, "the number of turns");
    for (stack_context &stack : stacks)
        pool.deallocate(stack);
}

// ---- fibers ----

static void spawn_finish(long operations, long size)
{
    long count = 0;

    (void)size;
    for (long i = 0; i < operations; i++) {
        fiber one(std::allocator_arg, pool, [&count](fiber &&back) {
            count++;
            return std::move(back);
        });

        one = std::move(one).resume();
        check(!one, "an ended fiber");
    }
    check(count == operations, "the number of fibers that ended");
}

static fiber park()
{
    fiber one(std::allocator_arg, pool, [](fiber &&back) { return std::move(back).resume(); });

    return std::move(one).resume();
}

static void parked_memory()
{
    std::vector<fiber> fibers(PARKED);
    struct memory before = memory_now();

    for (fiber &one : fibers)
        one = park();
    for (fiber &one : fibers)
        check(static_cast<bool>(one), "a parked fiber");
    print_memory("parked", before, PARKED);
}

static const struct row rows[] = {
    {"raw_switch", raw_switch, 20000000, 2},
    {"yield_1000", ring, 4000000, MANY},
    {"ring_50000", ring, 10000000, RING},
    {"spawn_finish", spawn_finish, 2000000, 1},
};

int main(int argc, char **argv)
{
    if (!wants("parked", argc, argv))
        return measure_rows(rows, sizeof rows / sizeof rows[0], argc, argv);
    parked_memory();
    return 0;
}

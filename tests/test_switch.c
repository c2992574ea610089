/* The bare switch between two stacks, as runtime/fiber/switch.h and switch_* do it. */
#include "tests/support/test.h"

#ifndef WEFT_TEST_SANITIZED /* which are told of switches by fibers only */
#include <fenv.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include "runtime/fiber/switch.h"

enum { SIZE = 64 * 1024 };

/* The test and one other, each on a stack. */
static void *here, *there;
static _Alignas(64) char stack[SIZE];

static WEFT__SWITCHES void go_there(void)
{
    weft__switch(&here, there);
}

static WEFT__SWITCHES void go_back(void)
{
    weft__switch(&there, here);
}

static void begin(void (*entry)(void *), void *arg)
{
    there = weft__switch_prepare(stack + SIZE, entry, arg);
}

static int steps;

static void step(void *arg)
{
    for (;;) {
        steps += *(int *)arg;
        go_back();
    }
}

Test(switch, goes_there_with_an_argument_and_back)
{
    int by = 5;

    begin(step, &by);
    cr_assert_eq(steps, 0);
    go_there();
    cr_assert_eq(steps, 5);
    by = 2;
    go_there();
    cr_assert_eq(steps, 7);
}

/* More values than registers that a call must keep: they fill these, and change places as they go. */
static __attribute__((noinline)) uintptr_t juggle(uintptr_t seed, void (*go)(void))
{
    uintptr_t a = seed, b = a * 3, c = b + 7, d = c ^ a, e = d * 5, f = e + b, g = f ^ c, h = g + 11, i = h * 3, j = i ^ d,
              k = j + e;
    double p = (double)(seed & 0xff), q = p * 3, r = q + 7, s = r - p, t = s * 5, u = t + q, v = u - r, w = v + 11;

    for (int round = 0; round < 50; round++) {
        go();
        a += b, b ^= c, c += d, d ^= e, e += f, f ^= g, g += h, h ^= i, i += j, j ^= k, k += a;
        p = q / 2 + 1, q = r / 2 + 3, r = s / 2 + 5, s = t / 2 + 7;
        t = u / 2 + 11, u = v / 2 + 13, v = w / 2 + 17, w = p / 2 + 19;
    }
    return a + b + c + d + e + f + g + h + i + j + k + (uintptr_t)((p + q + r + s + t + u + v + w) * 1e9);
}

static void go_nowhere(void)
{
    __asm__ volatile("");
}

static uintptr_t juggled_there;

static void juggle_there(void *seed)
{
    juggled_there = juggle((uintptr_t)seed, go_back);
    for (;;)
        go_back();
}

Test(switch, keeps_what_a_call_keeps)
{
    begin(juggle_there, (void *)12345);
    cr_assert_eq(juggle(777, go_there), juggle(777, go_nowhere));
    go_there(); /* it was one behind */
    cr_assert_eq(juggled_there, juggle(12345, go_nowhere));
}

/* Whoever makes frame pointers keeps one where nothing else is kept. */
Test(switch, keeps_the_frame_pointer)
{
    int by = 1;
    void *volatile frame = __builtin_frame_address(0);

    begin(step, &by);
    go_there();
    cr_assert_eq(frame, __builtin_frame_address(0));
    go_there();
    cr_assert_eq(frame, __builtin_frame_address(0));
}

static uintptr_t frame_there;

static void note_frame(void *unused)
{
    (void)unused;
    frame_there = (uintptr_t)__builtin_frame_address(0);
    for (;;)
        go_back();
}

Test(switch, begins_a_stack_that_is_aligned_as_calls_want_it)
{
    for (int cut = 0; cut < 64; cut++) {
        there = weft__switch_prepare(stack + SIZE - cut, note_frame, NULL);
        go_there();
        cr_assert_eq(frame_there % 16, 0, "%d", cut);
        cr_assert_gt(frame_there, (uintptr_t)stack);
        cr_assert_lt(frame_there, (uintptr_t)stack + SIZE - (uintptr_t)cut);
    }
}

static void round_upward(void *mode_before)
{
    *(int *)mode_before = fegetround();
    for (;;) {
        fesetround(FE_UPWARD);
        go_back();
    }
}

Test(switch, leaves_floating_point_control_alone)
{
    int mode_there = -1;

    begin(round_upward, &mode_there);
    fesetround(FE_DOWNWARD);
    for (int i = 0; i < 2; i++) {
        go_there();
        cr_assert_eq(mode_there, FE_DOWNWARD, "the first time, too");
        cr_assert_eq(fegetround(), FE_UPWARD);
        fesetround(FE_TOWARDZERO);
    }
}

#ifndef WEFT_FIBER_UCONTEXT
/* ---- walks up the stack ---- */

enum { MOST_FRAMES = 64 };

struct walk {
    uintptr_t functions[MOST_FRAMES]; /* where each begins, from the inside to the outside */
    int count;
};

static uintptr_t address_of(void (*function)(void *))
{
    return (uintptr_t)function;
}

static _Unwind_Reason_Code note_function(struct _Unwind_Context *frame, void *arg)
{
    struct walk *walk = arg;
    int is_exact;
    uintptr_t address = _Unwind_GetIPInfo(frame, &is_exact);

    if (!address) /* told at the end: there is nothing behind the outermost */
        return _URC_NO_REASON;
    if (walk->count == MOST_FRAMES)
        return _URC_FATAL_PHASE1_ERROR;
    walk->functions[walk->count++] = (uintptr_t)_Unwind_FindEnclosingFunction((void *)(address + (is_exact ? 1 : 0)));
    return _URC_NO_REASON;
}

static void walk_from_inside(void *arg)
{
    struct walk *walk = arg;

    cr_assert_eq(_Unwind_Backtrace(note_function, walk), _URC_END_OF_STACK);
    for (;;)
        go_back();
}

Test(switch, begins_a_stack_where_walks_end)
{
    struct walk walk = {.count = 0};

    begin(walk_from_inside, &walk);
    go_there();
    cr_assert_eq(walk.count, 2, "%d", walk.count);
    cr_assert_eq(walk.functions[0], address_of(walk_from_inside));
    cr_assert_neq(walk.functions[1], 0, "an unwinder knows where the entry was called");
}

#ifdef __x86_64__
enum { TRAP_FLAG = 0x100 }; /* a signal after each instruction */

static bool passes(const struct walk *walk, uintptr_t function)
{
    for (int i = 0; i < walk->count; i++)
        if (walk->functions[i] == function)
            return true;
    return false;
}

static __attribute__((noinline)) void go_there_and_back(void *times);

static int walks_here, walks_there, walks_between;

static uintptr_t enclosing(uintptr_t instruction)
{
    return (uintptr_t)_Unwind_FindEnclosingFunction((void *)(instruction + 1));
}

/* In the switch the walk leads on to who called it: on either stack, before and after the stack pointer changes; or it ends at
 * once, where neither stack is the one that the frame belongs to. */
static void walk_up(int signal, siginfo_t *info, void *context)
{
    const greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uintptr_t pointer = (uintptr_t)registers[REG_RSP], function = enclosing((uintptr_t)registers[REG_RIP]);
    bool is_there = pointer > (uintptr_t)stack && pointer <= (uintptr_t)stack + SIZE;
    struct walk walk = {.count = 0};

    (void)signal, (void)info;
    if (function != (uintptr_t)go_there && function != (uintptr_t)go_back)
        return;
    cr_assert_eq(_Unwind_Backtrace(note_function, &walk), _URC_END_OF_STACK);
    cr_assert_lt(walk.count, MOST_FRAMES);
    cr_assert(passes(&walk, function));
    if (walk.functions[walk.count - 1] == function)
        walks_between++;
    else if (!is_there && passes(&walk, address_of(go_there_and_back)))
        walks_here++;
    else if (is_there && passes(&walk, address_of(step)))
        walks_there += walk.functions[walk.count - 1] != address_of(step);
    else
        cr_assert(false, "%d frames, the last in %p", walk.count, (void *)walk.functions[walk.count - 1]);
}

static void go_there_and_back(void *times)
{
    for (int i = 0; i < *(int *)times; i++)
        go_there();
}

Test(switch, can_be_walked_through_at_each_instruction)
{
    struct sigaction on_trap = {.sa_sigaction = walk_up, .sa_flags = SA_SIGINFO};
    int times = 3;

    cr_assert_eq(sigaction(SIGTRAP, &on_trap, NULL), 0);
    begin(step, &times);
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | TRAP_FLAG);
    go_there_and_back(&times);
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~(unsigned long long)TRAP_FLAG);
    cr_assert_eq(steps, 9);
    cr_assert_gt(walks_here, 3 * 10);
    cr_assert_gt(walks_there, 3 * 10, "and leads on to where that stack begins");
    cr_assert_eq(walks_between, 3 * 2 * 2);
}
#endif
#endif

#ifdef __ARM_FEATURE_BTI_DEFAULT
#ifndef PROT_BTI
#define PROT_BTI 0x10
#endif

/* From here on indirect branches may only go to landing pads, all over this program. Done by the linker, it would be so also
 * while the C library's own start-up code runs, which need not have them. */
static void enforce_landing_pads(void)
{
    extern const char __executable_start, etext;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)&__executable_start & ~(page - 1);
    const size_t size = (uintptr_t)&etext - first;

    if (mprotect((void *)first, size, PROT_READ | PROT_EXEC | PROT_BTI))
        _exit(2);
}

static void branch_to_no_landing_pad(void)
{
    __asm__ volatile("adr x9, 1f\n\tbr x9\n1:\tnop" : : : "x9");
}

static void switch_a_few_times(void)
{
    void *(*volatile prepare)(void *, void (*)(void *), void *) = weft__switch_prepare;
    void (*volatile go)(void **, void *) = weft__switch;
    int by = 1;

    there = prepare(stack + SIZE, step, &by);
    for (int i = 0; i < 3; i++)
        go(&here, there);
}

/* 0, or the signal by which it dies. */
static int enforced_in_a_child(void (*fn)(void))
{
    pid_t child = fork();
    int status;

    cr_assert_geq(child, 0);
    if (!child) {
        signal(SIGILL, SIG_DFL);
        enforce_landing_pads();
        fn();
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) || !WEXITSTATUS(status), "cannot enforce landing pads");
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

Test(switch, works_where_landing_pads_are_enforced)
{
    if (enforced_in_a_child(branch_to_no_landing_pad) != SIGILL) {
        cr_log_warn("nothing to see: this processor enforces no landing pads");
        return;
    }
    cr_assert_eq(enforced_in_a_child(switch_a_few_times), 0);
}
#endif
#endif

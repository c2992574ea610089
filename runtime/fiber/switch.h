/* Leaving one C stack for another. One file per way of doing it; the Makefile picks one. On x86-64 the switch itself is
 * here, to be inlined. */
#ifndef WEFT_RUNTIME_FIBER_SWITCH_H
#define WEFT_RUNTIME_FIBER_SWITCH_H

#include <stdint.h>

/* Of every function that weft__switch is inlined into: everything else may run in it. To the compiler that is an asm
 * statement, which cannot get at static variables of other functions; across a whole program (-flto) it would keep them
 * in registers. */
#ifdef __clang__
#define WEFT__SWITCHES __attribute__((noinline))
#else
#define WEFT__SWITCHES __attribute__((noipa))
#endif

/* Saves the caller's registers on its own stack, writes where to `*from`, and goes on with what was saved at `to`. Returns
 * when somebody switches back. How floating point rounds and traps is left as it is. */
#if defined __x86_64__ && !defined WEFT_FIBER_UCONTEXT
static inline __attribute__((always_inline)) void weft__switch(void **from, void *to);
#else
void weft__switch(void **from, void *to);
#endif

/* What to switch to so that entry(arg) runs on the stack that ends below `top`. `entry` never returns. */
void *weft__switch_prepare(void *top, void (*entry)(void *), void *arg);

#if defined __x86_64__ && !defined WEFT_FIBER_UCONTEXT
#ifdef __AVX512F__
#define WEFT__AVX512_REGISTERS                                                                                      \
    , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28",  \
        "xmm29", "xmm30", "xmm31", "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"
#else
#define WEFT__AVX512_REGISTERS
#endif

#ifdef __GCC_HAVE_DWARF2_CFI_ASM
#define WEFT__CFI(directives) directives
#else
#define WEFT__CFI(directives)
#endif

/* Inlined for two reasons. The compiler saves those registers that are in use, and knows where: so its own CFI holds, and
 * debuggers and backtraces see through a parked fiber; only between the two stacks, for two instructions, a walk ends at
 * once. And the processor predicts each `ret` from the calls that it has seen: a switch that is called and left by a jump
 * would put all returns after it one call out, of which each costs as much as the switch. For the same reason it ends in
 * a jump: a `ret` would be predicted to go where this stack came from.
 *
 * What is saved lies in the caller's frame, beside what the compiler saves there. */
struct weft__place_on_stack {
    void *ip;
    void *bp; /* cannot be named as clobbered */
    void *sp;
};

static inline void weft__switch(void **from, void *to)
{
    struct weft__place_on_stack here, *saved = &here;

    __asm__ volatile("movq %%rdi, (%%rdx)\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "movq %%rax, (%%rdi)\n\t"
                     "movq %%rbp, 8(%%rdi)\n\t"
                     "movq %%rsp, 16(%%rdi)\n\t"
                     "movq 16(%%rsi), %%rsp\n\t" WEFT__CFI(".cfi_remember_state\n\t.cfi_undefined %%rip\n\t")
                     "movq 8(%%rsi), %%rbp\n\t"
                     "jmpq *(%%rsi)\n\t" WEFT__CFI(".cfi_restore_state\n\t")
                     "nop\n" /* unwinders look up the byte before a return address */
                     "1:\n\t"
                     "endbr64"
                     : "+D"(saved), "+S"(to), "+d"(from)
                     :
                     : "rax", "rbx", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2",
                       "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                       "xmm15", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)",
                       "cc", "memory" WEFT__AVX512_REGISTERS);
}
#undef WEFT__AVX512_REGISTERS
#undef WEFT__CFI
#endif

/* ---- how floating point rounds, and which of its exceptions trap ---- */

#if defined WEFT_FIBER_UCONTEXT || !(defined __x86_64__ || defined __aarch64__)
#include <fenv.h>

struct weft__fp_control {
    fenv_t environment; /* with the flags of exceptions, which C does not tell apart */
};

static inline void weft__fp_control_get(struct weft__fp_control *control)
{
    fegetenv(&control->environment);
}

static inline void weft__fp_control_set(const struct weft__fp_control *control)
{
    fesetenv(&control->environment);
}
#elif defined __x86_64__
struct weft__fp_control {
    uint32_t mxcsr; /* of the vector registers, with their flags */
    uint16_t x87;   /* of long double */
};

static inline void weft__fp_control_get(struct weft__fp_control *control)
{
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(control->mxcsr), "=m"(control->x87));
}

/* The x87's flags stay as they are. One that was raised while it did not trap would do so as soon as it may: those go. */
static inline void weft__fp_control_set(const struct weft__fp_control *control)
{
    enum { EXCEPTIONS = 0x3f };
    uint16_t flags;

    __asm__ volatile("fnstsw %0" : "=a"(flags));
    if (flags & ~control->x87 & EXCEPTIONS)
        __asm__ volatile("fnclex");
    __asm__ volatile("fldcw %1\n\tldmxcsr %0" : : "m"(control->mxcsr), "m"(control->x87));
}
#else
struct weft__fp_control {
    uint64_t fpcr;
};

static inline void weft__fp_control_get(struct weft__fp_control *control)
{
    __asm__ volatile("mrs %0, fpcr" : "=r"(control->fpcr));
}

static inline void weft__fp_control_set(const struct weft__fp_control *control)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(control->fpcr));
}
#endif

#endif

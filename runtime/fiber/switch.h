/* Leaving one C stack for another. One file per way of doing it; the Makefile picks one. On x86-64 the switch itself is here,
 * to be inlined. */
#ifndef WEFT_RUNTIME_FIBER_SWITCH_H
#define WEFT_RUNTIME_FIBER_SWITCH_H

/* Saves the caller's registers on its own stack, writes where to `*from`, and goes on with what was saved at `to`. Returns
 * when somebody switches back. The floating-point control words belong to the thread and are left as they are. */
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
        "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7"
#else
#define WEFT__AVX512_REGISTERS
#endif

/* Inlined for two reasons. The compiler saves those registers that are in use, and knows where: so its own CFI holds, and
 * debuggers and backtraces see through a parked fiber. And the processor predicts each `ret` from the calls that it has seen: a
 * switch that is called and left by a jump would put all returns after it one call out, of which each costs as much as the
 * switch. For the same reason it ends in a jump: a `ret` would be predicted to go where this stack came from.
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
                     "movq 16(%%rsi), %%rsp\n\t"
                     "movq 8(%%rsi), %%rbp\n\t"
                     "jmpq *(%%rsi)\n"
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
#endif

#endif

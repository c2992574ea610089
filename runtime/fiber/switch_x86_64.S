/* Where a fiber begins on x86-64. The switch itself is in switch.h.
 *
 * Control-flow enforcement (-fcf-protection): places that are reached by an indirect branch begin with endbr64, here and
 * in switch.h. The note at the end says that this file is fit for indirect branch tracking (IBT), as a library is only when
 * all of it is. It does not say so of shadow stacks (SHSTK): a fiber has none of its own, and the first return on another
 * stack would find the wrong address. So a program with this file in it does not ask for shadow stacks, and nobody turns
 * them on for it. */

    .text

/* Where a new stack begins: on it lie the entry function and its argument, and below them what looks like its return
 * address, which lies in here, where a backtrace ends. Entered without a call, as it is left without a return: see
 * switch.h. */
    .type fiber_begins, @function
    .p2align 4
fiber_begins:
    .cfi_startproc
    .cfi_undefined %rip
    nop                             /* unwinders look up the byte before a return address: it must be in here */
fiber_returns:
    ud2
fiber_enters:
    endbr64
    popq %rax                       /* the entry function */
    popq %rdi                       /* its argument */
    leaq fiber_returns(%rip), %rcx
    pushq %rcx
    jmpq *%rax
    .cfi_endproc
    .size fiber_begins, . - fiber_begins

/* rdi: top of the stack, rsi: entry, rdx: its argument; returns a struct weft__place_on_stack. */
    .globl weft__switch_prepare
    .hidden weft__switch_prepare
    .type weft__switch_prepare, @function
    .p2align 4
weft__switch_prepare:
    .cfi_startproc
    endbr64
    andq $-16, %rdi
    movq %rdx, -8(%rdi)
    movq %rsi, -16(%rdi)            /* with both popped the stack is aligned, as the ABI wants it before a call */
    leaq -16(%rdi), %rcx
    movq %rcx, -24(%rdi)            /* sp */
    movq $0, -32(%rdi)              /* bp: no frame above */
    leaq fiber_enters(%rip), %rax
    movq %rax, -40(%rdi)            /* ip */
    leaq -40(%rdi), %rax
    ret
    .cfi_endproc
    .size weft__switch_prepare, . - weft__switch_prepare

    .section .note.gnu.property, "a", @note
    .p2align 3
    .long 4                         /* bytes of the name */
    .long 16                        /* bytes of what follows it */
    .long 5                         /* NT_GNU_PROPERTY_TYPE_0 */
    .asciz "GNU"
    .long 0xc0000002                /* GNU_PROPERTY_X86_FEATURE_1_AND */
    .long 4                         /* bytes of its value */
    .long 1                         /* GNU_PROPERTY_X86_FEATURE_1_IBT */
    .long 0

    .section .note.GNU-stack, "", @progbits

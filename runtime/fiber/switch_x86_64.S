/* The switch on x86-64: six registers that a call must keep, and the stack pointer.
 *
 * It ends in a jump, not in `ret`: the processor predicts a `ret` from the calls it has seen, and would be wrong each time.
 * The frame is the same on both stacks, so one set of CFI is true before and after the stack pointer changes: debuggers and
 * backtraces see through a parked fiber. */

    .text
    .globl weft__switch
    .hidden weft__switch
    .type weft__switch, @function
    .p2align 4
weft__switch:                       /* rdi: void **from, rsi: void *to */
    .cfi_startproc
    endbr64
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbp, 0
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    pushq %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r12, 0
    pushq %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r13, 0
    pushq %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r14, 0
    pushq %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r15, 0

    movq %rsp, (%rdi)
    movq %rsi, %rsp

    popq %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r15
    popq %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r14
    popq %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r13
    popq %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r12
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    popq %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbp
    popq %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rcx
    notrack jmpq *%rcx
    .cfi_endproc
    .size weft__switch, . - weft__switch

/* Where a new stack begins: rbx is the entry function, r12 its argument. A backtrace ends here. */
    .type fiber_begins, @function
    .p2align 4
fiber_begins:
    .cfi_startproc
    .cfi_undefined %rip
    nop                             /* unwinders look up the byte before a return address: it must be in here */
fiber_enters:
    endbr64
    movq %r12, %rdi
    callq *%rbx
    ud2
    .cfi_endproc
    .size fiber_begins, . - fiber_begins

/* rdi: top of the stack, rsi: entry, rdx: its argument; returns the frame that weft__switch pops. */
    .globl weft__switch_prepare
    .hidden weft__switch_prepare
    .type weft__switch_prepare, @function
    .p2align 4
weft__switch_prepare:
    .cfi_startproc
    endbr64
    andq $-16, %rdi
    leaq fiber_enters(%rip), %rax
    movq %rax, -8(%rdi)             /* popped last: the stack is then aligned, as the ABI wants it before a call */
    movq $0, -16(%rdi)              /* rbp: no frame above */
    movq %rsi, -24(%rdi)            /* rbx */
    movq %rdx, -32(%rdi)            /* r12 */
    leaq -56(%rdi), %rax            /* r13, r14, r15 are whatever they are */
    ret
    .cfi_endproc
    .size weft__switch_prepare, . - weft__switch_prepare

    .section .note.GNU-stack, "", @progbits

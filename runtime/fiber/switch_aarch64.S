/* The switch on AArch64: what a call must keep (x19 to x30, the low halves of v8 to v15) and the stack pointer.
 *
 * The frame is the same on both stacks, so one set of CFI is true before and after the stack pointer changes: debuggers and
 * backtraces see through a parked fiber.
 *
 * Branch protection, when the compiler is asked for it:
 *
 * - Return addresses are signed with the stack pointer of their frame. A frame is only ever left on the stack on which it
 *   was entered, ours too, and stacks do not move: so each finds the stack pointer with which it was signed, however many
 *   other fibers ran in between.
 * - It ends in a branch, not in `ret`: the processor predicts a `ret` from the calls it has seen, and would be wrong each
 *   time. But where landing pads are enforced only `ret` may go to a place that is none, such as behind the call of this
 *   function. (A compiler puts one behind a call of what is declared to return twice, and keeps nothing in registers over
 *   it, which is dearer.) */

#define FRAME 160

/* Bits of .note.gnu.property that say what this file's code honours. A library has those that all its files have. */
#if defined __ARM_FEATURE_BTI_DEFAULT
#define LEAVE ret
#define HAS_BTI 1
#else
#define LEAVE br x30
#define HAS_BTI 0
#endif
#if defined __ARM_FEATURE_PAC_DEFAULT
#define HAS_PAC 2
#else
#define HAS_PAC 0
#endif

/* These are hints, which do nothing on a processor that does not know them. */
#define LANDING_PAD hint #34        /* bti c */
#if HAS_PAC
#define SIGN_X30 hint #25; .cfi_negate_ra_state     /* paciasp */
#define CHECK_X30 hint #29; .cfi_negate_ra_state    /* autiasp */
#define SIGN_X17_FOR_X16 hint #8    /* pacia1716 */
#else
#define SIGN_X30
#define CHECK_X30
#define SIGN_X17_FOR_X16
#endif

.macro save_pair first, second, at
    stp \first, \second, [sp, #\at]
    .cfi_rel_offset \first, \at
    .cfi_rel_offset \second, \at + 8
.endm

.macro restore_pair first, second, at
    ldp \first, \second, [sp, #\at]
    .cfi_restore \first
    .cfi_restore \second
.endm

    .text
    .globl weft__switch
    .hidden weft__switch
    .type weft__switch, %function
    .p2align 4
weft__switch:                       /* x0: void **from, x1: void *to */
    .cfi_startproc
    LANDING_PAD
    SIGN_X30
    sub sp, sp, #FRAME
    .cfi_adjust_cfa_offset FRAME
    save_pair d8, d9, 0
    save_pair d10, d11, 16
    save_pair d12, d13, 32
    save_pair d14, d15, 48
    save_pair x19, x20, 64
    save_pair x21, x22, 80
    save_pair x23, x24, 96
    save_pair x25, x26, 112
    save_pair x27, x28, 128
    save_pair x29, x30, 144

    mov x9, sp
    str x9, [x0]
    mov sp, x1

    restore_pair x29, x30, 144      /* first: the branch waits for x30 */
    restore_pair d8, d9, 0
    restore_pair d10, d11, 16
    restore_pair d12, d13, 32
    restore_pair d14, d15, 48
    restore_pair x19, x20, 64
    restore_pair x21, x22, 80
    restore_pair x23, x24, 96
    restore_pair x25, x26, 112
    restore_pair x27, x28, 128
    add sp, sp, #FRAME
    .cfi_adjust_cfa_offset -FRAME
    CHECK_X30
    LEAVE
    .cfi_endproc
    .size weft__switch, . - weft__switch

/* Where a new stack begins: x19 is the entry function, x20 its argument. A backtrace ends here. */
    .type fiber_begins, %function
    .p2align 4
fiber_begins:
    .cfi_startproc
    .cfi_undefined x30
    nop                             /* unwinders look up the byte before a return address: it must be in here */
fiber_enters:
    mov x0, x20
    blr x19
    brk #1
    .cfi_endproc
    .size fiber_begins, . - fiber_begins

/* x0: top of the stack, x1: entry, x2: its argument; returns the frame that weft__switch takes down. */
    .globl weft__switch_prepare
    .hidden weft__switch_prepare
    .type weft__switch_prepare, %function
    .p2align 4
weft__switch_prepare:
    .cfi_startproc
    LANDING_PAD
    and x16, x0, #-16               /* the stack pointer when the frame is down */
    adr x17, fiber_enters
    SIGN_X17_FOR_X16
    sub x0, x16, #FRAME
    stp x1, x2, [x0, #64]           /* x19, x20 */
    stp xzr, x17, [x0, #144]        /* x29: no frame above; x30. The others are whatever they are */
    ret
    .cfi_endproc
    .size weft__switch_prepare, . - weft__switch_prepare

#if HAS_BTI | HAS_PAC
    .section .note.gnu.property, "a", %note
    .p2align 3
    .word 4                         /* bytes of the name */
    .word 16                        /* bytes of what follows it */
    .word 5                         /* NT_GNU_PROPERTY_TYPE_0 */
    .asciz "GNU"
    .word 0xc0000000                /* GNU_PROPERTY_AARCH64_FEATURE_1_AND */
    .word 4                         /* bytes of its value */
    .word HAS_BTI | HAS_PAC
    .word 0
#endif

    .section .note.GNU-stack, "", %progbits

/* The portable switch: ucontext, which every libc here has and which asks the kernel for the signal mask each time. What is
 * saved lies on the stack that is left.
 *
 * It also keeps how floating point rounds and traps, which is none of its business here: that belongs to the thread, so what
 * was so before a switch is made so again after it. */
#ifndef WEFT_FIBER_UCONTEXT /* as the Makefile does where this file is the one */
#define WEFT_FIBER_UCONTEXT
#endif
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#include "runtime/fiber/switch.h"

enum { FRAME = (sizeof(ucontext_t) + 63) & ~63 };

static __thread struct weft__fp_control carried_over;

void weft__switch(void **from, void *to)
{
    ucontext_t here;

    *from = &here;
    weft__fp_control_get(&carried_over);
    swapcontext(&here, to);
    weft__fp_control_set(&carried_over);
}

/* makecontext passes ints: a pointer travels as two. */
static void begin(unsigned entry_high, unsigned entry_low, unsigned arg_high, unsigned arg_low)
{
    void (*entry)(void *) = (void (*)(void *))(((uintptr_t)entry_high << 16 << 16) | entry_low);

    weft__fp_control_set(&carried_over);
    entry((void *)(((uintptr_t)arg_high << 16 << 16) | arg_low));
}

void *weft__switch_prepare(void *top, void (*entry)(void *), void *arg)
{
    uintptr_t end = ((uintptr_t)top & ~(uintptr_t)63) - FRAME;
    ucontext_t *context = (ucontext_t *)end;

    getcontext(context);
    /* The low end is not looked at: the guard page is below it. */
    context->uc_stack.ss_size = 16 * 1024;
    context->uc_stack.ss_sp = (void *)(end - context->uc_stack.ss_size);
    context->uc_link = NULL;
    makecontext(context, (void (*)(void))begin, 4, (unsigned)((uintptr_t)entry >> 16 >> 16), (unsigned)(uintptr_t)entry,
                (unsigned)((uintptr_t)arg >> 16 >> 16), (unsigned)(uintptr_t)arg);
    return context;
}

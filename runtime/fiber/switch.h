/* Leaving one C stack for another. One file per way of doing it; the Makefile picks one. */
#ifndef WEFT_RUNTIME_FIBER_SWITCH_H
#define WEFT_RUNTIME_FIBER_SWITCH_H

/* Saves the caller's registers on its own stack, writes where to `*from`, and goes on with what was saved at `to`. Returns
 * when somebody switches back. The floating-point control words belong to the thread and are left as they are. */
void weft__switch(void **from, void *to);

/* What to switch to so that entry(arg) runs on the stack that ends below `top`. `entry` never returns. */
void *weft__switch_prepare(void *top, void (*entry)(void *), void *arg);

#endif

/* What becomes of a fiber that runs off its stack: the process ends, and says who it was. */
#ifndef WEFT_RUNTIME_FIBER_OVERFLOW_H
#define WEFT_RUNTIME_FIBER_OVERFLOW_H

#include <stdbool.h>
#include <stddef.h>

struct weft__running {
    const char *name;
    void *entry; /* the address of its function */
    const char *low; /* the lowest byte of its guard */
    size_t guard;
    size_t usable; /* bytes above the guard */
};

/* The fiber that runs on this thread; false when none does. May be called in a signal handler. Given by fiber.c. */
bool weft__fiber_running(struct weft__running *out);

/* Sees to it that overflows on this thread are told. Returns what weft__overflow_forget is to take back: NULL when the
 * thread has a signal stack already, or can have none: then it dies without a message. */
void *weft__overflow_watch(void);
void weft__overflow_forget(void *signal_stack);

/* The running fiber was found to have overflowed: says so, and aborts. */
__attribute__((noreturn)) void weft__overflow_found(void);

#endif

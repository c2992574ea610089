/* C stacks for fibers: equal, guarded, pooled. */
#ifndef WEFT_RUNTIME_FIBER_STACK_H
#define WEFT_RUNTIME_FIBER_STACK_H

#include <weft/error.h>

enum { WEFT__STACK_SIZE = 128 * 1024 };

struct weft__stack_arena;

/* One thread's stacks: begins as zeroes. */
struct weft__stacks {
    struct weft__stack_arena *arenas;
    char *free; /* the low end of one not in use, which is kept where the next one's stands: see stack.c */
    size_t colour;
};

/* The top of a stack that nobody uses: memory below it is the caller's, down to guard pages. Stacks begin at different cache
 * lines, or the hot ends of many would compete for the same few. */
weft_error *weft__stack_take(struct weft__stacks *stacks, char **top);
/* What weft__stack_take gave. The caller may still stand on it until it switches away. */
void weft__stack_give(struct weft__stacks *stacks, char *top);
void weft__stacks_free(struct weft__stacks *stacks); /* none is in use */

/* The low end of the stack that a top belongs to, guard page included. */
static inline char *weft__stack_low(char *top)
{
    return (char *)((uintptr_t)(top - 1) & ~(uintptr_t)(WEFT__STACK_SIZE - 1));
}

#endif

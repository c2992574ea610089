/* C stacks for fibers: guarded, pooled, given back when idle. */
#ifndef WEFT_RUNTIME_FIBER_STACK_H
#define WEFT_RUNTIME_FIBER_STACK_H

#include <weft/stack.h>

/* The sizes of stacks, guard included: powers of two from 32 KiB to 2 GiB. */
enum { WEFT__STACK_LEAST = 15, WEFT__STACK_CLASSES = 17 };

struct weft__stack_arena;

/* Lies at the top of its stack, while that has memory; what lies below it, down to the guard, is the user's. */
struct weft__stack {
    char *low;   /* the lowest byte of its guard */
    size_t size; /* guard included, up to the end of its slot */
    struct weft__stack *next; /* of those idle */
    struct weft__stack_arena *arena;
};

struct weft__stack_class {
    struct weft__stack *warm;        /* idle, and backed by memory; the last that was given back is first */
    struct weft__stack_arena *roomy; /* arenas with stacks that have no memory */
    struct weft__stack_arena *full;  /* the others */
};

/* One thread's stacks: begins as zeroes. */
struct weft__stacks {
    struct weft__stack_class classes[WEFT__STACK_CLASSES + 1]; /* the last stays empty */
    struct weft__stack_class *quick; /* where stacks are taken without further ado: the empty one when there is any */
    unsigned usual;   /* the class of the default size */
    bool paint;
    bool canaries;
    size_t guard;     /* its size */
    size_t idle;      /* bytes of warm stacks, whole ones counted */
    size_t most_idle;
    size_t backed;    /* bytes of stacks that are in use or warm; counted where stacks get and lose their memory */
    size_t peak;      /* of those in use, when another one got its memory */
    void *signal_stack;
};

weft_error *weft__stack_take_slowly(struct weft__stacks *stacks, size_t usable, struct weft__stack **out);
void weft__stacks_trim(struct weft__stacks *stacks);
bool weft__stack_canary_intact(const struct weft__stacks *stacks, const struct weft__stack *stack);

/* A stack that nobody uses, with room for `usable` bytes; 0: the default. Stacks begin at different cache lines, or the hot
 * ends of many would compete for the same few. */
static inline weft_error *weft__stack_take(struct weft__stacks *stacks, size_t usable, struct weft__stack **out)
{
    struct weft__stack_class *class = stacks->quick;
    struct weft__stack *stack;

    if (__builtin_expect(usable != 0 || !class || !class->warm, 0))
        return weft__stack_take_slowly(stacks, usable, out);
    *out = stack = class->warm;
    class->warm = stack->next;
    stacks->idle -= stack->size;
    return NULL;
}

/* What weft__stack_take gave. Nobody stands on it any more. */
static inline void weft__stack_give(struct weft__stacks *stacks, struct weft__stack *stack)
{
    struct weft__stack_class *class = &stacks->classes[__builtin_ctzl(stack->size) - WEFT__STACK_LEAST];

    stack->next = class->warm;
    class->warm = stack;
    stacks->idle += stack->size;
    if (__builtin_expect(stacks->idle > stacks->most_idle, 0))
        weft__stacks_trim(stacks);
}

/* Whether nobody wrote below a stack, as far as canary words tell; true when there are none. */
static inline bool weft__stack_intact(const struct weft__stacks *stacks, const struct weft__stack *stack)
{
    return __builtin_expect(!stacks->canaries, 1) || weft__stack_canary_intact(stacks, stack);
}

/* How much of a stack was used, in bytes from its upper end, as weft_fiber_stack_peak tells. */
size_t weft__stack_peak(const struct weft__stacks *stacks, const struct weft__stack *stack);

/* What weft_stack_use_get tells. */
weft_stack_use weft__stacks_use(struct weft__stacks *stacks);

bool weft__stacks_in_use(const struct weft__stacks *stacks); /* whether any is */
void weft__stacks_free(struct weft__stacks *stacks); /* none is in use */

#endif

/* Stacks come from arenas of 64, mapped at once and backed by memory only where they were touched. Each ends in guard pages.
 * Where the kernel can mark guard pages inside a mapping (MADV_GUARD_INSTALL, Linux 6.13) an arena stays one mapping;
 * elsewhere each mprotect costs two of the 65,530 that a process may have, which caps it at some 32,000 fibers.
 *
 * Stacks are aligned to their size, so that the low end follows from any address inside. Free ones are linked through a word
 * at the top, which has been touched already; last in, first out keeps the warm ones in use. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>
#include <weft/fiber.h>

#include "runtime/fiber/sanitizer.h"
#include "runtime/fiber/stack.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

enum { ARENA_STACKS = 64, LEAST_GUARD = 16 * 1024, COLOURS = 16, COLOUR_STEP = 64 };

struct weft__stack_arena {
    struct weft__stack_arena *next;
    char *stacks; /* ARENA_STACKS of them */
    unsigned valgrind[ARENA_STACKS];
};

static const char BY_MADVISE[] = "guard pages (MADV_GUARD_INSTALL)";
static const char BY_MPROTECT[] = "guard pages (mprotect)";
static const char *_Atomic guard_way; /* found out by the first arena; the same for all threads */

/* Several pages where pages are small: a frame with a buffer must not step over the guard into the next stack. */
static size_t guard_size(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return page > LEAST_GUARD ? page : LEAST_GUARD;
}

static weft_error *guard(char *low)
{
    if (madvise(low, guard_size(), MADV_GUARD_INSTALL) == 0) {
        guard_way = BY_MADVISE;
        return NULL;
    }
    guard_way = BY_MPROTECT;
    if (mprotect(low, guard_size(), PROT_NONE) == 0)
        return NULL;
    return weft_error_os(errno, "cannot guard a fiber's stack; the limit is the sysctl vm.max_map_count");
}

const char *weft_fiber_guard(void)
{
    const char *way = guard_way;

    return way ? way : "none: no fiber has been started";
}

/* Mapped larger by one stack and cut to the alignment. */
static char *map_aligned(size_t size)
{
    size_t slack = WEFT__STACK_SIZE;
    char *mapped = mmap(NULL, size + slack, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    char *aligned;

    if (mapped == MAP_FAILED)
        return NULL;
    aligned = (char *)(((uintptr_t)mapped + slack - 1) & ~(uintptr_t)(slack - 1));
    if (aligned > mapped)
        munmap(mapped, (size_t)(aligned - mapped));
    if (aligned < mapped + slack)
        munmap(aligned + size, (size_t)(mapped + slack - aligned));
    return aligned;
}

static char **free_link(char *low)
{
    return (char **)(low + WEFT__STACK_SIZE - sizeof(char *));
}

static weft_error *arena_new(struct weft__stacks *stacks)
{
    const size_t size = (size_t)ARENA_STACKS * WEFT__STACK_SIZE;
    struct weft__stack_arena *arena;
    char *memory = map_aligned(size);
    weft_error *error;

    if (!memory)
        return weft_error_os(errno, "cannot map %zu KiB for fibers' stacks", size / 1024);
    /* A huge page would back a stack that uses 4 KiB with 2 MiB. */
    madvise(memory, size, MADV_NOHUGEPAGE);
    for (int i = 0; i < ARENA_STACKS; i++) {
        if ((error = guard(memory + (size_t)i * WEFT__STACK_SIZE))) {
            munmap(memory, size);
            return error;
        }
    }
    arena = weft_alloc(sizeof *arena);
    arena->stacks = memory;
    arena->next = stacks->arenas;
    stacks->arenas = arena;
    for (int i = ARENA_STACKS - 1; i >= 0; i--) {
        char *low = memory + (size_t)i * WEFT__STACK_SIZE;

        arena->valgrind[i] = weft__valgrind_stack(low, low + WEFT__STACK_SIZE - 1);
        *free_link(low) = stacks->free;
        stacks->free = low;
    }
    return NULL;
}

weft_error *weft__stack_take(struct weft__stacks *stacks, char **top)
{
    weft_error *error;
    char *low;

    if (!stacks->free && (error = arena_new(stacks)))
        return error;
    low = stacks->free;
    stacks->free = *free_link(low);
    weft__stack_clean(low, WEFT__STACK_SIZE);
    stacks->colour = (stacks->colour + 1) % COLOURS;
    *top = low + WEFT__STACK_SIZE - sizeof(char *) - stacks->colour * COLOUR_STEP;
    return NULL;
}

void weft__stack_give(struct weft__stacks *stacks, char *top)
{
    char *low = weft__stack_low(top);

    *free_link(low) = stacks->free;
    stacks->free = low;
}

void weft__stacks_free(struct weft__stacks *stacks)
{
    struct weft__stack_arena *arena = stacks->arenas;

    while (arena) {
        struct weft__stack_arena *next = arena->next;

        for (int i = 0; i < ARENA_STACKS; i++)
            weft__valgrind_forget(arena->valgrind[i]);
        munmap(arena->stacks, (size_t)ARENA_STACKS * WEFT__STACK_SIZE);
        weft_free(arena);
        arena = next;
    }
    *stacks = (struct weft__stacks){0};
}

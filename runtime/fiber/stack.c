/* Stacks of one size come from arenas, mapped at once and backed by memory only where they were touched. Where the kernel
 * can mark guard pages inside a mapping (MADV_GUARD_INSTALL, Linux 6.13) an arena stays one mapping; elsewhere each mprotect
 * costs two of the 65,530 that a process may have, which caps it at some 32,000 fibers.
 *
 * A stack is in use, warm or cold. A warm one is idle, and linked through its struct at its top, which has been touched
 * already; last in, first out keeps those in use that are in the cache. A cold one has no memory, neither used yet nor since
 * it was trimmed: it is a bit of its arena. Trimming makes the older half of the warm ones cold; an arena whose stacks are
 * all cold is unmapped.
 *
 * Stacks are aligned to their size, so that the low end follows from any address inside. */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/fiber/overflow.h"
#include "runtime/fiber/sanitizer.h"
#include "runtime/fiber/stack.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

enum { ARENA_STACKS = 64, LEAST_SIZE = 16 * 1024, COLOURS = 16, COLOUR_STEP = 64 };
static const size_t ARENA_SIZE = (size_t)64 << 20; /* of larger stacks there are fewer in one */
static const size_t MOST_SIZE = (size_t)1 << 30;
static const size_t USUAL_SIZE = (size_t)112 * 1024;
static const size_t USUAL_IDLE = (size_t)128 << 20;

struct weft__stack_arena {
    struct weft__stack_arena *next; /* in its class's list */
    struct weft__stack_arena **from; /* the pointer that points here */
    struct weft__stack_arena *next_trimmed;
    struct weft__stack_class *class;
    char *memory;
    size_t size; /* of each of its stacks */
    int count;   /* of them */
    uint64_t cold; /* a bit for each */
    uint64_t trimmed; /* about to be */
    unsigned valgrind[ARENA_STACKS];
};

/* ---- options ---- */

static pthread_mutex_t options_lock = PTHREAD_MUTEX_INITIALIZER;
static weft_stack_options options;
static bool options_used;

/* Several pages where pages are small: a frame with a buffer must not step over the guard into the next stack. */
static size_t guard_size(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return page > LEAST_SIZE ? page : LEAST_SIZE;
}

static unsigned class_for(size_t usable, size_t guard)
{
    size_t size = (usable > LEAST_SIZE ? usable : LEAST_SIZE) + guard;

    return 64 - (unsigned)__builtin_clzll((unsigned long long)size - 1) - WEFT__STACK_LEAST;
}

static weft_error *too_large(size_t size)
{
    return weft_error_new(&WEFT_MISUSE, "a stack of %zu bytes is asked for; the most is %zu", size, MOST_SIZE);
}

static weft_error *change_options(weft_stack_options to)
{
    if (options_used)
        return weft_error_new(&WEFT_MISUSE, "weft_stack_configure is called after a fiber was started");
    options = to;
    return NULL;
}

weft_error *weft_stack_configure(weft_stack_options to)
{
    weft_error *error;

    if (to.size > MOST_SIZE)
        return too_large(to.size);
    if ((unsigned)to.guard > WEFT_GUARD_CANARY)
        return weft_error_new(&WEFT_MISUSE, "%d is no way to guard a stack", (int)to.guard);
    pthread_mutex_lock(&options_lock);
    error = change_options(to);
    pthread_mutex_unlock(&options_lock);
    return error;
}

static weft_stack_options use_options(void)
{
    weft_stack_options now;

    pthread_mutex_lock(&options_lock);
    options_used = true;
    now = options;
    pthread_mutex_unlock(&options_lock);
    return now;
}

/* ---- guards ---- */

struct way {
    const char *name;
    const char *complaint;
    int (*set)(char *low, size_t size); /* gives an errno */
};

static int by_madvise(char *low, size_t size)
{
    return madvise(low, size, MADV_GUARD_INSTALL) ? errno : 0;
}

static int by_mprotect(char *low, size_t size)
{
    return mprotect(low, size, PROT_NONE) ? errno : 0;
}

/* The words are written when a stack gets its memory. */
static int by_canary(char *low, size_t size)
{
    (void)low, (void)size;
    return 0;
}

static const struct way ways[] = {
    [WEFT_GUARD_MADVISE] = {"guard pages (MADV_GUARD_INSTALL)", "", by_madvise},
    [WEFT_GUARD_MPROTECT] = {"guard pages (mprotect)", "; the limit is the sysctl vm.max_map_count", by_mprotect},
    [WEFT_GUARD_CANARY] = {"canary words", "", by_canary},
};
static _Atomic weft_stack_guard way_used; /* the same for all threads; auto: none yet */

static weft_error *cannot_guard(weft_stack_guard guard, int code)
{
    return weft_error_os(code, "cannot guard a fiber's stack by %s%s", ways[guard].name, ways[guard].complaint);
}

/* The first way that the machine has, tried on the first guard. An mprotect that only lacks mappings is there, though. */
static weft_error *find_way(char *low, size_t size)
{
    weft_stack_guard guard = use_options().guard;
    bool chosen = guard != WEFT_GUARD_AUTO;
    int code;

    if (!chosen)
        guard = WEFT_GUARD_MADVISE;
    while ((code = ways[guard].set(low, size))) {
        if (chosen || (guard == WEFT_GUARD_MPROTECT && code == ENOMEM))
            return cannot_guard(guard, code);
        guard++;
    }
    way_used = guard;
    return NULL;
}

static weft_error *set_guard(char *low, size_t size)
{
    weft_stack_guard way = way_used;
    int code;

    if (way == WEFT_GUARD_AUTO)
        return find_way(low, size);
    code = ways[way].set(low, size);
    return code ? cannot_guard(way, code) : NULL;
}

const char *weft_fiber_guard(void)
{
    weft_stack_guard way = way_used;

    return way == WEFT_GUARD_AUTO ? "none: no fiber has been started" : ways[way].name;
}

/* ---- words in stacks: read and written behind the back of whoever watches over memory ---- */

static const uint64_t CANARY = 0x5ad0fca9a12ed0ff, PAINT = 0xfeedc0a7ed57ac4b;
enum { CANARY_WORDS = 8 };

static uint64_t *canary_of(const struct weft__stacks *stacks, const struct weft__stack *stack)
{
    return (uint64_t *)(void *)(stack->low + stacks->guard) - CANARY_WORDS;
}

__attribute__((no_sanitize("address"))) static bool all_are(const uint64_t *words, size_t count, uint64_t value)
{
    uint64_t differ = 0;

    for (size_t i = 0; i < count; i++)
        differ |= words[i] ^ value;
    return !differ;
}

__attribute__((no_sanitize("address"))) static void fill(uint64_t *from, const uint64_t *to, uint64_t value)
{
    while (from < to)
        *from++ = value;
}

__attribute__((no_sanitize("address"))) static char *lowest_other_than(uint64_t *from, const uint64_t *to, uint64_t value)
{
    weft__valgrind_readable(from, (size_t)((const char *)to - (char *)from));
    while (from < to && *from == value)
        from++;
    return (char *)from;
}

bool weft__stack_canary_intact(const struct weft__stacks *stacks, const struct weft__stack *stack)
{
    return all_are(canary_of(stacks, stack), CANARY_WORDS, CANARY);
}

/* ---- arenas ---- */

static void arena_link(struct weft__stack_arena **list, struct weft__stack_arena *arena)
{
    arena->next = *list;
    arena->from = list;
    if (arena->next)
        arena->next->from = &arena->next;
    *list = arena;
}

static void arena_unlink(struct weft__stack_arena *arena)
{
    *arena->from = arena->next;
    if (arena->next)
        arena->next->from = arena->from;
}

static uint64_t all_of(const struct weft__stack_arena *arena)
{
    return arena->count == ARENA_STACKS ? ~(uint64_t)0 : ((uint64_t)1 << arena->count) - 1;
}

static size_t arena_bytes(const struct weft__stack_arena *arena)
{
    return (size_t)arena->count * arena->size;
}

/* Mapped larger by one stack and cut to the alignment. */
static char *map_aligned(size_t size, size_t alignment)
{
    char *mapped = mmap(NULL, size + alignment, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    char *aligned;

    if (mapped == MAP_FAILED)
        return NULL;
    aligned = (char *)(((uintptr_t)mapped + alignment - 1) & ~(uintptr_t)(alignment - 1));
    if (aligned > mapped)
        munmap(mapped, (size_t)(aligned - mapped));
    if (aligned < mapped + alignment)
        munmap(aligned + size, (size_t)(mapped + alignment - aligned));
    return aligned;
}

static weft_error *map_guarded(char **out, int count, size_t size, size_t guard)
{
    const size_t bytes = (size_t)count * size;
    char *memory = map_aligned(bytes, size);
    weft_error *error;

    if (!memory)
        return weft_error_os(errno, "cannot map %zu KiB for fibers' stacks", bytes / 1024);
    /* A huge page would back a stack that uses 4 KiB with 2 MiB. */
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    for (int i = 0; i < count; i++) {
        if ((error = set_guard(memory + (size_t)i * size, guard))) {
            munmap(memory, bytes);
            return error;
        }
    }
    *out = memory;
    return NULL;
}

static weft_error *arena_new(struct weft__stacks *stacks, unsigned class)
{
    const size_t size = (size_t)1 << (class + WEFT__STACK_LEAST);
    const int count = size * ARENA_STACKS <= ARENA_SIZE ? ARENA_STACKS : size < ARENA_SIZE ? (int)(ARENA_SIZE / size) : 1;
    struct weft__stack_arena *arena;
    weft_error *error;
    char *memory = NULL;

    error = map_guarded(&memory, count, size, stacks->guard);
    if (!memory)
        return error;
    stacks->canaries = way_used == WEFT_GUARD_CANARY;
    arena = weft_alloc_zeroed(sizeof *arena);
    arena->class = &stacks->classes[class];
    arena->memory = memory;
    arena->size = size;
    arena->count = count;
    arena->cold = all_of(arena);
    arena_link(&arena->class->roomy, arena);
    for (int i = 0; i < count; i++)
        arena->valgrind[i] = weft__valgrind_stack(memory + (size_t)i * size, memory + (size_t)(i + 1) * size - 1);
    return NULL;
}

/* Frees an arena whose stacks nobody uses. False when the kernel does not let go of its memory: at its limit of mappings it
 * makes no hole in a larger one, so the arena stays. */
static bool arena_free(struct weft__stack_arena *arena)
{
    /* Whoever gets these addresses next finds them clean. */
    weft__stack_clean(arena->memory, arena_bytes(arena));
    if (munmap(arena->memory, arena_bytes(arena)))
        return false;
    for (int i = 0; i < arena->count; i++)
        weft__valgrind_forget(arena->valgrind[i]);
    arena_unlink(arena);
    weft_free(arena);
    return true;
}

/* ---- taking ---- */

static void begin(struct weft__stacks *stacks)
{
    const weft_stack_options now = use_options();

    stacks->paint = now.paint;
    stacks->guard = guard_size();
    stacks->most_idle = now.idle ? now.idle : USUAL_IDLE;
    stacks->usual = class_for(now.size ? now.size : USUAL_SIZE, stacks->guard);
    stacks->quick = &stacks->classes[now.paint || weft__stacks_watched() ? WEFT__STACK_CLASSES : stacks->usual];
    stacks->signal_stack = now.no_handler ? NULL : weft__overflow_watch();
}

/* A stack gets its first memory: the page with its struct. */
static struct weft__stack *warm_up(struct weft__stack_arena *arena)
{
    const int index = __builtin_ctzll(arena->cold);
    char *low = arena->memory + (size_t)index * arena->size;
    const size_t colour = (uintptr_t)low / arena->size % COLOURS;
    struct weft__stack *stack = (struct weft__stack *)(low + arena->size - colour * COLOUR_STEP) - 1;

    arena->cold &= arena->cold - 1;
    if (!arena->cold) {
        arena_unlink(arena);
        arena_link(&arena->class->full, arena);
    }
    *stack = (struct weft__stack){.low = low, .size = arena->size, .arena = arena};
    return stack;
}

static void note_peak(struct weft__stacks *stacks)
{
    if (stacks->backed - stacks->idle > stacks->peak)
        stacks->peak = stacks->backed - stacks->idle;
}

static weft_error *cold_take(struct weft__stacks *stacks, unsigned class, struct weft__stack **out)
{
    struct weft__stack_arena **roomy = &stacks->classes[class].roomy;
    weft_error *error = *roomy ? NULL : arena_new(stacks, class);

    if (!*roomy)
        return error;
    *out = warm_up(*roomy);
    stacks->backed += (*out)->size;
    note_peak(stacks);
    return NULL;
}

static struct weft__stack *warm_take(struct weft__stacks *stacks, struct weft__stack_class *class)
{
    struct weft__stack *stack = class->warm;

    class->warm = stack->next;
    stacks->idle -= stack->size;
    return stack;
}

/* What some stacks need beyond being taken. */
static void prepare(const struct weft__stacks *stacks, struct weft__stack *stack, bool cold)
{
    uint64_t *low = (uint64_t *)(stack->low + stacks->guard), *top = (uint64_t *)stack;

    weft__stack_clean((char *)low, (size_t)((char *)top - (char *)low));
    if (stacks->canaries && cold)
        fill(canary_of(stacks, stack), low, CANARY);
    if (stacks->paint)
        fill(cold ? low : (uint64_t *)lowest_other_than(low, top, PAINT), top, PAINT);
}

weft_error *weft__stack_take_slowly(struct weft__stacks *stacks, size_t usable, struct weft__stack **out)
{
    weft_error *error;
    unsigned class;
    bool cold;

    if (usable > MOST_SIZE)
        return too_large(usable);
    if (!stacks->quick)
        begin(stacks);
    class = usable ? class_for(usable, stacks->guard) : stacks->usual;
    cold = !stacks->classes[class].warm;
    if (!cold)
        *out = warm_take(stacks, &stacks->classes[class]);
    else if ((error = cold_take(stacks, class, out)))
        return error;
    prepare(stacks, *out, cold);
    return NULL;
}

/* ---- trimming ---- */

/* Cuts the older half off a list, and more than half if they are odd. */
static struct weft__stack *cut_half(struct weft__stack **list)
{
    struct weft__stack **middle = list, *end = *list, *half;

    while (end && end->next) {
        middle = &(*middle)->next;
        end = end->next->next;
    }
    half = *middle;
    *middle = NULL;
    return half;
}

/* Marks stacks in their arenas, whose list it returns. Their structs go with their memory: that comes after. */
static struct weft__stack_arena *mark(struct weft__stacks *stacks, struct weft__stack *half)
{
    struct weft__stack_arena *arenas = NULL;

    for (; half; half = half->next) {
        struct weft__stack_arena *arena = half->arena;

        if (!arena->trimmed) {
            arena->next_trimmed = arenas;
            arenas = arena;
        }
        arena->trimmed |= (uint64_t)1 << ((size_t)((char *)half - arena->memory) / arena->size);
        stacks->idle -= arena->size;
        stacks->backed -= arena->size;
    }
    return arenas;
}

/* Neighbours in one call. Guard pages stay, of either kind. */
static void give_back(const struct weft__stack_arena *arena, uint64_t stacks)
{
    while (stacks) {
        const int first = __builtin_ctzll(stacks);
        const uint64_t beyond = ~(stacks >> first);
        const int run = beyond ? __builtin_ctzll(beyond) : ARENA_STACKS;

        madvise(arena->memory + (size_t)first * arena->size, (size_t)run * arena->size, MADV_DONTNEED);
        if (first + run == ARENA_STACKS)
            return;
        stacks &= ~(uint64_t)0 << (first + run);
    }
}

static void chill(struct weft__stack_arena *arena)
{
    const uint64_t trimmed = arena->trimmed;

    arena->trimmed = 0;
    if (!arena->cold) {
        arena_unlink(arena);
        arena_link(&arena->class->roomy, arena);
    }
    arena->cold |= trimmed;
    if (arena->cold != all_of(arena) || !arena_free(arena))
        give_back(arena, trimmed);
}

void weft__stacks_trim(struct weft__stacks *stacks)
{
    for (size_t i = 0; i < WEFT__STACK_CLASSES; i++) {
        struct weft__stack_arena *arena = mark(stacks, cut_half(&stacks->classes[i].warm));

        while (arena) {
            struct weft__stack_arena *next = arena->next_trimmed;

            chill(arena);
            arena = next;
        }
    }
}

/* ---- asking ---- */

/* With stacks of one size there are more in use than ever only when one gets its memory, as all others are in use then. With
 * several sizes more may be later: that is seen when somebody asks. */
weft_stack_use weft__stacks_use(struct weft__stacks *stacks)
{
    note_peak(stacks);
    return (weft_stack_use){stacks->backed - stacks->idle, stacks->idle, stacks->peak};
}

static size_t count_with_memory(const struct weft__stack_arena *arena)
{
    size_t count = 0;

    for (; arena; arena = arena->next)
        count += (size_t)(arena->count - __builtin_popcountll(arena->cold));
    return count;
}

static bool any_in_use(const struct weft__stack_class *class)
{
    size_t idle = 0;

    for (const struct weft__stack *stack = class->warm; stack; stack = stack->next)
        idle++;
    return count_with_memory(class->roomy) + count_with_memory(class->full) != idle;
}

bool weft__stacks_in_use(const struct weft__stacks *stacks)
{
    for (size_t i = 0; i < WEFT__STACK_CLASSES; i++) {
        if (any_in_use(&stacks->classes[i]))
            return true;
    }
    return false;
}

static void arenas_free(struct weft__stack_arena **list)
{
    while (*list && arena_free(*list))
        continue;
}

void weft__stacks_free(struct weft__stacks *stacks)
{
    for (size_t i = 0; i < WEFT__STACK_CLASSES; i++) {
        arenas_free(&stacks->classes[i].roomy);
        arenas_free(&stacks->classes[i].full);
    }
    weft__overflow_forget(stacks->signal_stack);
    *stacks = (struct weft__stacks){0};
}

/* ---- peaks ---- */

/* NULL when the kernel does not tell. */
static char *lowest_resident(char *from, char *to)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char resident[256];

    while (from < to) {
        const size_t rest = (size_t)(to - from) / page, count = rest < sizeof resident ? rest : sizeof resident;

        if (mincore(from, count * page, resident))
            return NULL;
        for (size_t i = 0; i < count; i++, from += page)
            if (resident[i] & 1)
                return from;
    }
    return to;
}

size_t weft__stack_peak(const struct weft__stacks *stacks, const struct weft__stack *stack)
{
    char *low = stack->low + stacks->guard, *end = stack->low + stack->size, *lowest;

    if (stacks->paint)
        lowest = lowest_other_than((uint64_t *)low, (const uint64_t *)stack, PAINT);
    else
        lowest = lowest_resident(low, end);
    return lowest ? (size_t)(end - lowest) : 0;
}

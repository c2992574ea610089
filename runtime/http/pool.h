/* A pool: memory blocks of one size that are used again and again, a bounded number kept.
 *
 * Unlike a slab it gives back what a rush has left behind. Under a sanitizer it keeps nothing, so that a use after
 * free is seen. */
#ifndef WEFT_RUNTIME_HTTP_POOL_H
#define WEFT_RUNTIME_HTTP_POOL_H

#include "lib/slab.h"

struct weft__pool {
    void *free; /* each begins with a pointer to the next */
    size_t size;
    uint32_t kept;
    uint32_t most;
};

static inline void weft__pool_init(struct weft__pool *pool, size_t size, uint32_t most)
{
    *pool = (struct weft__pool){.size = size, .most = WEFT__SLABS ? most : 0};
}

static inline void *weft__pool_take(struct weft__pool *pool)
{
    void *memory = pool->free;

    if (__builtin_expect(!memory, 0))
        return weft_alloc(pool->size);
    pool->free = *(void **)memory;
    pool->kept--;
    return memory;
}

static inline void weft__pool_give(struct weft__pool *pool, void *memory)
{
    if (__builtin_expect(pool->kept >= pool->most, 0)) {
        weft_free(memory);
        return;
    }
    *(void **)memory = pool->free;
    pool->free = memory;
    pool->kept++;
}

/* Nothing of it may be in use. */
static inline void weft__pool_clear(struct weft__pool *pool)
{
    while (pool->free) {
        void *memory = pool->free;

        pool->free = *(void **)memory;
        weft_free(memory);
    }
    pool->kept = 0;
}

#endif

/* Objects of one size from chunks, through a free list: a few instructions to take one and to give it back.
 *
 * Under a sanitizer, and under Valgrind, each object is its own malloc, so that a use after free is seen. */
#ifndef WEFT_LIB_SLAB_H
#define WEFT_LIB_SLAB_H

#include "lib/internal.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(WEFT_VALGRIND)
#define WEFT__SLABS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define WEFT__SLABS 0
#endif
#endif
#ifndef WEFT__SLABS
#define WEFT__SLABS 1
#endif

/* An object begins with its uint32_t count of references, which is 0 in one that is free: so those in use can be told.
 * The pointer to the next free one comes behind it. */
struct weft__slab {
    void *free;   /* given back, or never used */
    void *chunks; /* linked by their first words */
};

/* Memory that begins on a cache line; `size` is a multiple of one. Given back by weft_free. */
void *weft__alloc_lines(size_t size);
/* More free objects of `size` bytes; returns the first. */
WEFT_INTERNAL void *weft__slab_grow(struct weft__slab *slab, size_t size);
/* So that the calling thread's slabs go when it ends. */
void weft__thread_arrange_leaving(void);
/* Gives all memory back. No object may be in use. */
void weft__slab_clear(struct weft__slab *slab);
/* Calls `fn`, which must neither take nor give back any, for each object in use, in no particular order. */
void weft__slab_each(struct weft__slab *slab, size_t size, void (*fn)(void *object, void *arg), void *arg);

/* Without slabs: an object of its own, in a list of all. */
WEFT_INTERNAL void *weft__loner_take(struct weft__slab *slab, size_t size);
WEFT_INTERNAL void weft__loner_give(struct weft__slab *slab, void *object);

static inline void **weft__slab_link(void *object)
{
    return (void **)object + 1;
}

static inline void *weft__slab_take(struct weft__slab *slab, size_t size)
{
#if WEFT__SLABS
    void *object = slab->free;

    if (__builtin_expect(!object, 0))
        return weft__slab_grow(slab, size);
    slab->free = *weft__slab_link(object);
    return object;
#else
    return weft__loner_take(slab, size);
#endif
}

static inline void weft__slab_give(struct weft__slab *slab, void *object)
{
#if WEFT__SLABS
    *weft__slab_link(object) = slab->free;
    slab->free = object;
#else
    weft__loner_give(slab, object);
#endif
}

#endif

/* Slabs: chunks of equal objects. A chunk begins with a pointer to the next chunk and is not given back while the thread
 * lives. */
#include "lib/slab.h"

enum { CHUNK_SIZE = 16 * 1024, CHUNK_HEAD = 64 }; /* objects begin on a cache line */

static size_t chunk_objects(size_t size)
{
    return (CHUNK_SIZE - CHUNK_HEAD) / size;
}

static bool in_use(const void *object)
{
    return *(const uint32_t *)object != 0;
}

void *weft__slab_grow(struct weft__slab *slab, size_t size)
{
    size_t count = chunk_objects(size);
    char *chunk = weft__alloc_lines(CHUNK_SIZE);
    char *first = chunk + CHUNK_HEAD;

    if (!slab->chunks)
        weft__thread_arrange_leaving();
    *(void **)chunk = slab->chunks;
    slab->chunks = chunk;
    for (size_t i = 0; i < count; i++) {
        *(uint32_t *)(first + i * size) = 0;
        *weft__slab_link(first + i * size) = i + 1 < count ? first + (i + 1) * size : NULL;
    }
    slab->free = *weft__slab_link(first);
    return first;
}

void weft__slab_clear(struct weft__slab *slab)
{
    void *chunk = slab->chunks;

    while (chunk) {
        void *next = *(void **)chunk;

        weft_free(chunk);
        chunk = next;
    }
    slab->chunks = slab->free = NULL;
}

/* ---- loners: what stands in for a slab under a sanitizer; its list of them is `chunks` ---- */

struct loner {
    struct loner *next;
    struct loner *previous;
};

void *weft__loner_take(struct weft__slab *slab, size_t size)
{
    struct loner *loner = weft_alloc(sizeof *loner + size), *next = slab->chunks;

    *loner = (struct loner){.next = next};
    if (next)
        next->previous = loner;
    slab->chunks = loner;
    return loner + 1;
}

void weft__loner_give(struct weft__slab *slab, void *object)
{
    struct loner *loner = (struct loner *)object - 1;

    if (loner->next)
        loner->next->previous = loner->previous;
    if (loner->previous)
        loner->previous->next = loner->next;
    else
        slab->chunks = loner->next;
    weft_free(loner);
}

/* ---- all of them ---- */

#if WEFT__SLABS
void weft__slab_each(struct weft__slab *slab, size_t size, void (*fn)(void *object, void *arg), void *arg)
{
    for (char *chunk = slab->chunks; chunk; chunk = *(char **)chunk) {
        for (size_t i = 0; i < chunk_objects(size); i++) {
            char *object = chunk + CHUNK_HEAD + i * size;

            if (in_use(object))
                fn(object, arg);
        }
    }
}
#else
void weft__slab_each(struct weft__slab *slab, size_t size, void (*fn)(void *object, void *arg), void *arg)
{
    (void)size;
    for (struct loner *loner = slab->chunks; loner; loner = loner->next) {
        if (in_use(loner + 1))
            fn(loner + 1, arg);
    }
}
#endif

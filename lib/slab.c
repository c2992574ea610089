/* Slabs: chunks of equal objects. A chunk begins with a pointer to the next chunk and is not given back while the thread
 * lives. */
#include "lib/slab.h"

enum { CHUNK_SIZE = 16 * 1024, CHUNK_HEAD = 64 }; /* objects begin on a cache line */

void *weft__slab_grow(struct weft__slab *slab, size_t size)
{
    size_t count = (CHUNK_SIZE - CHUNK_HEAD) / size;
    char *chunk = weft_alloc(CHUNK_SIZE);
    char *first = chunk + CHUNK_HEAD;

    if (!slab->chunks)
        weft__thread_arrange_leaving();
    *(void **)chunk = slab->chunks;
    slab->chunks = chunk;
    for (size_t i = 1; i < count; i++)
        *(void **)(first + i * size) = i + 1 < count ? first + (i + 1) * size : NULL;
    slab->free = first + size;
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

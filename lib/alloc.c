/* Memory: the one place that knows what happens when there is none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/slab.h"

enum { CACHE_LINE = 64 };

static void *never_null(void *memory, size_t size)
{
    if (__builtin_expect(!memory, 0)) {
        fprintf(stderr, "weft: out of memory: cannot get %zu bytes\n", size);
        abort();
    }
    return memory;
}

void *weft_alloc(size_t size)
{
    return never_null(malloc(size ? size : 1), size);
}

void *weft__alloc_lines(size_t size)
{
    return never_null(aligned_alloc(CACHE_LINE, size), size);
}

void *weft_alloc_zeroed(size_t size)
{
    return never_null(calloc(1, size ? size : 1), size);
}

void *weft_realloc(void *memory, size_t size)
{
    return never_null(realloc(memory, size ? size : 1), size);
}

char *weft_strdup(const char *text)
{
    size_t size = strlen(text) + 1;

    return memcpy(weft_alloc(size), text, size);
}

void weft_free(void *memory)
{
    free(memory);
}

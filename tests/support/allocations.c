/* Counts what malloc is asked for, by standing before glibc's. */
#include "tests/support/allocations.h"

#ifndef WEFT_TEST_SANITIZED
#include <stddef.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *memory, size_t size);

static __thread unsigned long made;

void *malloc(size_t size)
{
    made++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    made++;
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    made++;
    return __libc_realloc(memory, size);
}

unsigned long allocations_made(void)
{
    return made;
}
#endif

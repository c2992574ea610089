/* allocations.h: how often a thread has asked for memory, where neither a sanitizer nor Valgrind has malloc to itself. */
#ifndef WEFT_TESTS_ALLOCATIONS_H
#define WEFT_TESTS_ALLOCATIONS_H

#ifndef WEFT_TEST_SANITIZED
unsigned long allocations_made(void); /* by this thread, ever: malloc, calloc, realloc */
#endif

#endif

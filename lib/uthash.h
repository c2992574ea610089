/* uthash with weft's memory: its header makes hash tables out of a handle inside each entry. */
#ifndef WEFT_LIB_UTHASH_H
#define WEFT_LIB_UTHASH_H

#include <stdlib.h>

#include <weft/base.h>

#define uthash_malloc(size) weft_alloc(size)
#define uthash_free(memory, size) weft_free(memory)
#define uthash_fatal(message) abort() /* out of memory, which weft_alloc has dealt with */

#include <uthash.h>

#endif

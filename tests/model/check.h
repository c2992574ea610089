/* tests/model/check.h: a program is run by the library and by the model, which must tell the same.
 *
 * A program that fails, or crashes, is made smaller while it still does, and printed to stderr with what both told. */
#ifndef WEFT_MODEL_CHECK_H
#define WEFT_MODEL_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The programs of the seeds [first, first + count), in child processes. False: one failed, and was printed. */
bool check_seeds(uint64_t first, uint64_t count);

/* One program, here and now: for a fuzzer, whose crash this then is. False: it failed, and was printed as it is. */
bool check_bytes(const uint8_t *bytes, size_t size);
/* The same in child processes, so that it can be made smaller. */
bool check_bytes_apart(const uint8_t *bytes, size_t size);

#endif

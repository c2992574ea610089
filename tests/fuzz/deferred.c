/* libFuzzer's way to the model of the deferred: any bytes are a program, which must tell what the model tells. */
#include "tests/model/check.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    /* WEFT_FUZZ_EXPLAIN: made smaller, as far as it fails. */
    if (!(getenv("WEFT_FUZZ_EXPLAIN") ? check_bytes_apart(bytes, size) : check_bytes(bytes, size)))
        abort();
    return 0;
}

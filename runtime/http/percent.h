/* Percent-encoding in the target of a request. */
#ifndef WEFT_RUNTIME_HTTP_PERCENT_H
#define WEFT_RUNTIME_HTTP_PERCENT_H

#include <weft/base.h>

/* Whether every `%` in the text begins an escape of a byte other than NUL. */
bool weft__percent_valid(const char *text, size_t size);
/* Writes the decoded text, and a NUL, to `out`, which has room for `size` + 1 bytes. The text is valid. In a query a
 * `+` is a blank. */
void weft__percent_decode(char *out, const char *text, size_t size, bool query);

#endif

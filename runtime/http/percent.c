/* Percent-encoding: checked once, when a request has arrived, so that decoding cannot fail. */
#include <string.h>

#include "runtime/http/percent.h"

/* The value of a hexadecimal digit; -1 for anything else. */
static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool weft__percent_valid(const char *text, size_t size)
{
    const char *end = text + size;

    for (; (text = memchr(text, '%', (size_t)(end - text))); text += 3) {
        if (end - text < 3 || digit(text[1]) < 0 || digit(text[2]) < 0 || (text[1] == '0' && text[2] == '0'))
            return false;
    }
    return true;
}

void weft__percent_decode(char *out, const char *text, size_t size, bool query)
{
    const char *end = text + size;

    while (text < end) {
        if (*text == '%') {
            *out++ = (char)(digit(text[1]) * 16 + digit(text[2]));
            text += 3;
        } else {
            *out++ = *text == '+' && query ? ' ' : *text;
            text++;
        }
    }
    *out = '\0';
}

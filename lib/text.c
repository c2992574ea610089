/* The text builder: see lib/text.h. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/text.h"

void weft__text_init(struct weft__text *text, char *bytes, size_t size)
{
    *text = (struct weft__text){bytes, size, 0};
    if (size)
        bytes[0] = '\0';
}

/* For what is still to come, and its NUL. */
static size_t room_in(const struct weft__text *text)
{
    return text->length < text->size ? text->size - text->length : 0;
}

void weft__text_add(struct weft__text *text, const char *format, ...)
{
    size_t room = room_in(text);
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(room ? text->bytes + text->length : NULL, room, format, arguments);
    va_end(arguments);
    if (length > 0)
        text->length += (size_t)length;
}

void weft__text_add_bytes(struct weft__text *text, const char *bytes, size_t count)
{
    size_t room = room_in(text);

    if (room) {
        size_t fitting = count < room ? count : room - 1;

        memcpy(text->bytes + text->length, bytes, fitting);
        text->bytes[text->length + fitting] = '\0';
    }
    text->length += count;
}

void weft__text_add_place(struct weft__text *text, const weft_place *place)
{
    weft__text_add(text, "%s:%d %s", place->file, place->line, place->function);
}

void weft__text_add_seconds(struct weft__text *text, int64_t nanoseconds)
{
    uint64_t microseconds = (nanoseconds < 0 ? -(uint64_t)nanoseconds : (uint64_t)nanoseconds) / 1000;

    weft__text_add(text, "%s%" PRIu64 ".%06" PRIu64, nanoseconds < 0 ? "-" : "", microseconds / 1000000,
                   microseconds % 1000000);
}

/* ---- strings that others wrote ---- */

static bool is_control(unsigned char c)
{
    return c < 0x20 || c == 0x7f;
}

void weft__text_add_visible(struct weft__text *text, const char *string)
{
    while (*string) {
        const char *from = string;

        while (*string && !is_control((unsigned char)*string))
            string++;
        weft__text_add_bytes(text, from, (size_t)(string - from));
        if (*string)
            weft__text_add(text, "\\x%02x", *string++);
    }
}

/* How many bytes the character at `s` has; 0 when they are no UTF-8. The second byte shuts out what has a shorter form,
 * surrogates, and what is beyond U+10FFFF. It never looks past the NUL, which continues nothing. */
static size_t character_length(const unsigned char *s)
{
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    unsigned char least = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char most = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;

    if (length == 1)
        return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4 || s[1] < least || s[1] > most)
        return 0;
    for (size_t i = 2; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    return length;
}

/* Adds the character at `s` as it stands in a JSON string; returns what follows. */
static const char *add_json_character(struct weft__text *text, const char *s)
{
    size_t length = character_length((const unsigned char *)s);

    if (!length)
        weft__text_add(text, "\\ufffd");
    else if (is_control((unsigned char)*s))
        weft__text_add(text, "\\u%04x", *s);
    else if (*s == '"' || *s == '\\')
        weft__text_add(text, "\\%c", *s);
    else
        weft__text_add_bytes(text, s, length);
    return s + (length ? length : 1);
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void weft__text_add_json_string(struct weft__text *text, const char *string)
{
    weft__text_add_bytes(text, "\"", 1);
    while (*string) {
        const char *from = string;

        while (is_plain((unsigned char)*string))
            string++;
        weft__text_add_bytes(text, from, (size_t)(string - from));
        if (*string)
            string = add_json_character(text, string);
    }
    weft__text_add_bytes(text, "\"", 1);
}

void weft__text_add_utf8(struct weft__text *text, const char *string)
{
    while (*string) {
        size_t length = character_length((const unsigned char *)string);

        weft__text_add_bytes(text, length ? string : "\xef\xbf\xbd", length ? length : 3);
        string += length ? length : 1;
    }
}

/* The text builder: it counts what it cannot write, and what others wrote comes out harmless. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text.h"

static char bytes[1000];
static struct weft__text text;

static void start(size_t size)
{
    memset(bytes, '#', sizeof bytes);
    weft__text_init(&text, bytes, size);
}

/* ---- the buffer ---- */

Test(text, is_empty_at_first)
{
    start(sizeof bytes);
    cr_assert_str_eq(bytes, "");
    cr_assert_eq(text.length, 0);
}

Test(text, without_room_is_only_counted)
{
    weft__text_init(&text, NULL, 0);
    weft__text_add(&text, "%d", 123);
    weft__text_add_visible(&text, "a\n");
    weft__text_add_json_string(&text, "b");
    cr_assert_eq(text.length, 3 + 5 + 3);
}

Test(text, is_added_piece_by_piece)
{
    start(sizeof bytes);
    weft__text_add(&text, "%s-%d", "a", 1);
    weft__text_add(&text, "%s", "");
    weft__text_add_place(&text, &(weft_place){"x.c", "f", 7});
    cr_assert_str_eq(bytes, "a-1x.c:7 f");
    cr_assert_eq(text.length, strlen(bytes));
}

Test(text, cut_at_any_size_is_the_beginning_of_the_whole)
{
    static const char whole[] = "ab12\\x0acd\"e\\\"\\ufffd\"";

    for (size_t size = 1; size <= sizeof whole + 1; size++) {
        size_t kept = size < sizeof whole ? size - 1 : sizeof whole - 1;

        start(size);
        weft__text_add(&text, "ab%d", 12);
        weft__text_add_visible(&text, "\ncd");
        weft__text_add_json_string(&text, "e\"\xff");
        cr_assert_eq(text.length, sizeof whole - 1, "size %zu", size);
        cr_assert_eq(strlen(bytes), kept, "size %zu", size);
        cr_assert_arr_eq(bytes, whole, kept);
        cr_assert_eq(bytes[size], '#', "size %zu: a byte too many is written", size);
    }
}

Test(text, that_printf_refuses_adds_nothing)
{
    start(sizeof bytes);
    weft__text_add(&text, "a");
    weft__text_add(&text, "%ls", L"\x20ac"); /* this locale has no euro */
    cr_assert_eq(text.length, 1);
}

/* ---- seconds ---- */

static const char *seconds(int64_t nanoseconds)
{
    start(sizeof bytes);
    weft__text_add_seconds(&text, nanoseconds);
    return bytes;
}

Test(text, seconds_have_six_decimals)
{
    cr_assert_str_eq(seconds(0), "0.000000");
    cr_assert_str_eq(seconds(999), "0.000000");
    cr_assert_str_eq(seconds(1000), "0.000001");
    cr_assert_str_eq(seconds(12500000000), "12.500000");
    cr_assert_str_eq(seconds(-1500000000), "-1.500000");
    cr_assert_str_eq(seconds(INT64_MAX), "9223372036.854775");
    cr_assert_str_eq(seconds(INT64_MIN), "-9223372036.854775");
}

/* ---- visible ---- */

static const char *visible(const char *string)
{
    start(sizeof bytes);
    weft__text_add_visible(&text, string);
    return bytes;
}

Test(text, control_characters_become_visible)
{
    cr_assert_str_eq(visible(""), "");
    cr_assert_str_eq(visible("a\nb\r\x1b[1m\x7f"), "a\\x0ab\\x0d\\x1b[1m\\x7f");
    cr_assert_str_eq(visible("gr\xc3\xbc\xc3\x9f \\ \xff"), "gr\xc3\xbc\xc3\x9f \\ \xff");
}

/* ---- JSON ---- */

static const char *json(const char *string)
{
    start(sizeof bytes);
    weft__text_add_json_string(&text, string);
    return bytes;
}

Test(text, json_strings_are_quoted_and_escaped)
{
    cr_assert_str_eq(json(""), "\"\"");
    cr_assert_str_eq(json("a \"b\" \\ /"), "\"a \\\"b\\\" \\\\ /\"");
    cr_assert_str_eq(json("\x01\n\x1f\x7f"), "\"\\u0001\\u000a\\u001f\\u007f\"");
    cr_assert_str_eq(json("\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80"), "\"\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80\"");
}

/* What a parser makes of the JSON string; freed by the next call. */
static const char *parsed(const char *string)
{
    static json_t *value;
    json_error_t error;

    json_decref(value);
    value = json_loads(json(string), JSON_DECODE_ANY, &error);
    cr_assert_not_null(value, "%s: %s", bytes, error.text);
    return json_string_value(value);
}

#define BAD "\xef\xbf\xbd" /* U+FFFD in UTF-8 */

Test(text, bytes_that_are_no_characters_are_replaced_in_json)
{
    static const struct {
        const char *string, *parsed;
    } cases[] = {
        {"\xff", BAD},
        {"\x80 alone", BAD " alone"},
        {"cut \xc3", "cut " BAD},
        {"cut \xe2\x82", "cut " BAD BAD},
        {"cut \xf0\x9f\x98", "cut " BAD BAD BAD},
        {"\xc3(", BAD "("},
        {"\xe2\x82(", BAD BAD "("},
        {"long \xc0\xaf", "long " BAD BAD},
        {"long \xc1\xbf", "long " BAD BAD},
        {"long \xe0\x9f\xbf", "long " BAD BAD BAD},
        {"long \xf0\x8f\xbf\xbf", "long " BAD BAD BAD BAD},
        {"shortest \xe0\xa0\x80 \xf0\x90\x80\x80", "shortest \xe0\xa0\x80 \xf0\x90\x80\x80"},
        {"surrogate \xed\xa0\x80", "surrogate " BAD BAD BAD},
        {"before them \xed\x9f\xbf after \xee\x80\x80", "before them \xed\x9f\xbf after \xee\x80\x80"},
        {"last \xf4\x8f\xbf\xbf", "last \xf4\x8f\xbf\xbf"},
        {"beyond \xf4\x90\x80\x80", "beyond " BAD BAD BAD BAD},
        {"beyond \xf5\x80\x80\x80", "beyond " BAD BAD BAD BAD},
        {"\xc3\xc3\xbc", BAD "\xc3\xbc"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert_str_eq(parsed(cases[i].string), cases[i].parsed, "case %zu", i);
}

/* jansson refuses what is not UTF-8, so it says for each pair of bytes whether they had to be replaced. */
Test(text, any_bytes_make_valid_json)
{
    for (unsigned pair = 1; pair <= 0xffff; pair++) {
        const char string[] = {(char)(pair >> 8 ? pair >> 8 : 'x'), (char)(pair & 0xff), '\0'};
        json_t *as_it_is = json_string(string);

        cr_assert_eq(as_it_is != NULL, strcmp(parsed(string), string) == 0, "%02x %02x", string[0] & 0xff,
                     string[1] & 0xff);
        json_decref(as_it_is);
    }
}

Test(text, of_random_bytes_is_valid_json)
{
    char string[50] = "";

    srandom(1);
    for (int round = 0; round < 20000; round++) {
        for (size_t i = 0; i < sizeof string - 1; i++)
            string[i] = (char)(random() % 3 ? 0x80 | random() : 1 + random() % 0x7f);
        parsed(string);
    }
}

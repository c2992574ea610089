/* Heads of responses: put together from ready-made pieces.
 *
 * Formatting the date costs as much as the rest of a short response, so it is done once per second; and with it the
 * beginnings of those heads that nearly all responses have. */
#include <assert.h>
#include <time.h>

#include "runtime/http/head.h"

const char weft__type_text[] = "text/plain; charset=utf-8";
const char weft__type_json[] = "application/json";

/* ---- pieces ---- */

static const struct {
    int status;
    const char *text;
} phrases[] = {
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {418, "I'm a teapot"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {499, "Client Closed Request"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
};

static const char *phrase_of(int status)
{
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++) {
        if (phrases[i].status == status)
            return phrases[i].text;
    }
    return "Unknown";
}

static char *put(char *out, const char *text, size_t size)
{
    memcpy(out, text, size);
    return out + size;
}

static char *put_text(char *out, const char *text)
{
    return put(out, text, strlen(text));
}

/* For literals: their size is known, so the compiler writes a move or two. */
#define PUT(out, literal) put(out, literal, sizeof literal - 1)

static char *put_number(char *out, size_t number)
{
    size_t digits = 1;

    for (size_t limit = 10; limit <= number; limit *= 10)
        digits++;
    for (size_t i = digits; i-- > 0; number /= 10)
        out[i] = (char)('0' + number % 10);
    return out + digits;
}

static char *put_status_line(char *out, int status)
{
    out = PUT(out, "HTTP/1.1 ");
    out = put_number(out, (size_t)status);
    out = PUT(out, " ");
    out = put_text(out, phrase_of(status));
    return PUT(out, "\r\n");
}

static char *put_header(char *out, const char *name, const char *value)
{
    out = put_text(out, name);
    out = PUT(out, ": ");
    out = put_text(out, value);
    return PUT(out, "\r\n");
}

/* ---- what is made once per second ---- */

/* Names in English, whatever the locale. */
static void common_make(char *text, size_t size, const struct tm *tm)
{
    static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    enum { DAY_AT = 20, MONTH_AT = 28 };

    strftime(text, size, "Server: weft\r\nDate: day, %d mon %Y %H:%M:%S GMT\r\n", tm);
    memcpy(text + DAY_AT, days + 3 * tm->tm_wday, 3);
    memcpy(text + MONTH_AT, months + 3 * tm->tm_mon, 3);
}

static void ready_make(struct weft__ready_head *ready, const char *common, const char *type)
{
    char *out = put_status_line(ready->text, 200);

    out = put_text(out, common);
    out = put_header(out, "Content-Type", type);
    out = PUT(out, "Content-Length: ");
    ready->size = (size_t)(out - ready->text);
    assert(ready->size <= sizeof ready->text);
}

static __attribute__((noinline)) void heads_make(struct weft__heads *heads, int64_t now)
{
    struct timespec time;
    struct tm tm;

    clock_gettime(CLOCK_REALTIME, &time);
    gmtime_r(&time.tv_sec, &tm);
    common_make(heads->common, sizeof heads->common, &tm);
    ready_make(&heads->text, heads->common, weft__type_text);
    ready_make(&heads->json, heads->common, weft__type_json);
    heads->until = now + 1000000000 - time.tv_nsec;
}

/* ---- a head ---- */

static void heads_refresh(struct weft__heads *heads, const weft_clock *clock)
{
    int64_t now = weft_clock_recent(clock);

    if (__builtin_expect(now >= heads->until, 0))
        heads_make(heads, now);
}

char *weft__head_put(struct weft__heads *heads, const weft_clock *clock, char *out, const struct weft__head *head)
{
    heads_refresh(heads, clock);
    out = put_status_line(out, head->status);
    out = put_text(out, heads->common);
    if (head->type)
        out = put_header(out, "Content-Type", head->type);
    if (head->allow)
        out = put_header(out, "Allow", head->allow);
    if (!weft__status_has_no_body(head->status)) {
        out = PUT(out, "Content-Length: ");
        out = put_number(out, head->length);
        out = PUT(out, "\r\n");
    }
    if (head->close)
        out = PUT(out, "Connection: close\r\n");
    else if (head->keep_alive)
        out = PUT(out, "Connection: keep-alive\r\n");
    return PUT(out, "\r\n");
}

char *weft__ready_head_put(struct weft__heads *heads, const weft_clock *clock, char *out, const char *type,
                           size_t length)
{
    const struct weft__ready_head *ready = type == weft__type_json ? &heads->json : &heads->text;

    heads_refresh(heads, clock);
    memcpy(out, ready->text, sizeof ready->text); /* more than there is, but of a size that is known */
    out = put_number(out + ready->size, length);
    return PUT(out, "\r\n\r\n");
}

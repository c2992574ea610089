/* Log lines: formatted here, written elsewhere. */
#include <stdarg.h>
#include <stdio.h>

#include <weft/context.h>
#include <weft/log.h>

#include "lib/counts.h"

enum { MAX_MESSAGE = 4096 };

static void plain_sink(const weft_log_record *record, void *arg)
{
    (void)arg;
    fprintf(stderr, "%-5s %s %s\n", weft_log_level_name(record->level), record->context, record->message);
}

/* Atomic since each reactor looks, and the first ones, on several threads at once, may all set the same. */
static weft_log_sink_fn *_Atomic sink = plain_sink;
static void *_Atomic sink_arg;
weft_log_level weft_log_threshold = WEFT_LOG_INFO;

void weft_log_set_sink(weft_log_sink_fn *fn, void *arg)
{
    sink = fn ? fn : plain_sink;
    sink_arg = arg;
}

bool weft_log_has_sink(void)
{
    return sink != plain_sink;
}

const char *weft_log_level_name(weft_log_level level)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};

    return names[level];
}

static bool is_control(unsigned char c)
{
    return c < 0x20 || c == 0x7f;
}

/* What a peer sent must not end a line, nor steer a terminal. */
static void escape_controls(char *out, size_t size, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    char *end = out + size - 1;

    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (!is_control(c)) {
            if (out == end)
                break;
            *out++ = (char)c;
            continue;
        }
        if (end - out < 4)
            break;
        *out++ = '\\';
        *out++ = 'x';
        *out++ = digits[c >> 4];
        *out++ = digits[c & 15];
    }
    *out = '\0';
}

/* Apart, so that only such a line takes the second buffer from a fiber's stack. */
static __attribute__((noinline)) void sink_escaped(weft_log_record *record)
{
    char escaped[MAX_MESSAGE];

    escape_controls(escaped, sizeof escaped, record->message);
    record->message = escaped;
    sink(record, sink_arg);
}

static bool has_controls(const char *text)
{
    for (; *text; text++) {
        if (is_control((unsigned char)*text))
            return true;
    }
    return false;
}

void weft_log_at(weft_log_level level, const weft_place *place, const char *format, ...)
{
    char message[MAX_MESSAGE];
    weft_log_record record = {level, weft_context_get_name(weft_context_current()), message, place};
    va_list arguments;

    if (level < weft_log_threshold)
        return;
    weft__count(&weft__counts.log_lines[level]);
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (has_controls(message))
        sink_escaped(&record);
    else
        sink(&record, sink_arg);
}

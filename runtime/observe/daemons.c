/* What syslog daemons and systemd's journal want to get: a datagram for each line. */
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "runtime/observe/format.h"

static int priority_of(weft_log_level level)
{
    static const int priorities[] = {LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERR};

    return priorities[level];
}

/* As libc writes it, RFC 3164: "<14>Mar  1 12:00:00 ident[42]: message". Months are not those of the locale. */
void weft__log_write_syslog(const struct weft__log_format *format, const weft_log_record *record, struct weft__text *text)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t second = (time_t)(record->time / 1000000000);
    struct tm calendar;

    localtime_r(&second, &calendar);
    weft__text_add(text, "<%d>%.3s %2d %02d:%02d:%02d %s[%d]: ", format->facility | priority_of(record->level),
                   months + (size_t)calendar.tm_mon * 3, calendar.tm_mday, calendar.tm_hour, calendar.tm_min,
                   calendar.tm_sec, format->ident, (int)getpid());
    format->body(format, record, text);
}

/* ---- the journal's native protocol ---- */

/* NAME=value; or, where that would end the line early, NAME, and the value with its length before it. */
static void add_value(struct weft__text *text, const char *value)
{
    uint64_t length = strlen(value);

    if (!strchr(value, '\n')) {
        weft__log_add(text, "=");
    } else {
        unsigned char little_endian[8];

        for (int i = 0; i < 8; i++)
            little_endian[i] = (unsigned char)(length >> (8 * i));
        weft__log_add(text, "\n");
        weft__text_add_bytes(text, (const char *)little_endian, sizeof little_endian);
    }
    weft__text_add_bytes(text, value, length);
    weft__log_add(text, "\n");
}

static void add_entry(struct weft__text *text, const char *name, const char *value)
{
    weft__log_add(text, name);
    add_value(text, value);
}

static char journal_letter(char c)
{
    if (c >= 'a' && c <= 'z')
        return (char)(c - 'a' + 'A');
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
}

/* The journal throws away an entry's field whose name has anything but capitals, digits and underscores, begins with one
 * of the latter, or is longer than 64: such a beginning gets an F in front. */
static void add_field_name(struct weft__text *text, const char *name)
{
    char first = journal_letter(*name);

    if (!(first >= 'A' && first <= 'Z'))
        weft__log_add(text, "F");
    for (size_t i = 0; name[i] && i < 63; i++)
        weft__text_add_bytes(text, &(char){journal_letter(name[i])}, 1);
}

static void add_number_entry(struct weft__text *text, const char *name, int number)
{
    weft__log_add(text, name);
    weft__log_add(text, "=");
    weft__log_add_number(text, (uint64_t)number, 1);
    weft__log_add(text, "\n");
}

void weft__log_write_journal(const struct weft__log_format *format, const weft_log_record *record, struct weft__text *text)
{
    add_entry(text, "MESSAGE", record->raw);
    add_number_entry(text, "PRIORITY", priority_of(record->level));
    add_entry(text, "SYSLOG_IDENTIFIER", format->ident);
    add_entry(text, "LOGGER", record->logger);
    add_entry(text, "CODE_FILE", record->place->file);
    add_number_entry(text, "CODE_LINE", record->place->line);
    add_entry(text, "CODE_FUNC", record->place->function);
    if (strcmp(record->context, "-") != 0)
        add_entry(text, "REQUEST", record->context);
    for (size_t i = 0; i < record->field_count; i++) {
        add_field_name(text, record->fields[i].name);
        add_value(text, record->fields[i].value);
    }
}

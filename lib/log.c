/* Log lines: records are made here, and handed to the sinks.
 *
 * Sinks are a list under a lock of readers and writers: whoever logs is a reader, so that several threads are in their
 * sinks at once, and whoever has removed a sink knows that nobody is in it any more. In a child made by fork the other
 * readers are gone: the lock begins anew there. */
#include <assert.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "lib/counts.h"
#include "lib/log.h"

enum { MAX_MESSAGE = 4096, MAX_FIELDS = 24 };

/* ---- sinks ---- */

static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER; /* of writers, and of forks: held, the list is whole */
static pthread_rwlock_t using = PTHREAD_RWLOCK_INITIALIZER;
static weft_log_sink *sinks;     /* empty: there is the default */
static weft_log_sink replaced;   /* the one of weft_log_set_sink */
static __thread unsigned inside; /* this thread is in its sinks: a sink may fork */
static weft_log_clock_fn *_Atomic clock_now;

static void plain_sink(const weft_log_record *record)
{
    fprintf(stderr, "%-5s %s %s\n", weft_log_level_name(record->level), record->context, record->message);
}

static void hand_over(const weft_log_record *record)
{
    pthread_rwlock_rdlock(&using);
    inside++;
    if (!sinks)
        plain_sink(record);
    for (const weft_log_sink *sink = sinks; sink; sink = sink->weft__next) {
        if (record->level >= sink->level)
            sink->fn(record, sink->arg);
    }
    inside--;
    pthread_rwlock_unlock(&using);
}

/* Whoever is a reader knows that nobody changes the list, and must not wait for one that wants to. */
static void before_fork(void)
{
    if (!inside)
        pthread_mutex_lock(&changing);
    weft__loggers_before_fork();
}

static void after_fork(void)
{
    weft__loggers_after_fork();
    if (!inside)
        pthread_mutex_unlock(&changing);
}

static void after_fork_in_child(void)
{
    weft__loggers_after_fork();
    pthread_mutex_init(&changing, NULL);
    pthread_rwlock_init(&using, NULL);
    for (unsigned i = 0; i < inside; i++)
        pthread_rwlock_rdlock(&using);
}

static void mind_forks(void)
{
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

static void begin_change(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, mind_forks);
    pthread_mutex_lock(&changing);
    pthread_rwlock_wrlock(&using);
}

static void end_change(void)
{
    weft_log_level least = sinks ? WEFT_LOG_OFF : WEFT_LOG_DEBUG;

    for (const weft_log_sink *sink = sinks; sink; sink = sink->weft__next) {
        if (sink->level < least)
            least = sink->level;
    }
    weft__loggers_set_wanted(least);
    pthread_rwlock_unlock(&using);
    pthread_mutex_unlock(&changing);
}

/* The link that leads to it, or the last one, which leads nowhere. */
static weft_log_sink **link_to(const weft_log_sink *sink)
{
    weft_log_sink **link = &sinks;

    while (*link && *link != sink)
        link = &(*link)->weft__next;
    return link;
}

void weft_log_add_sink(weft_log_sink *sink)
{
    weft_log_sink **end;

    begin_change();
    end = link_to(sink);
    assert(!*end && "a sink is added once");
    sink->weft__next = NULL;
    *end = sink;
    end_change();
}

void weft_log_remove_sink(weft_log_sink *sink)
{
    weft_log_sink **link;

    begin_change();
    link = link_to(sink);
    if (*link)
        *link = sink->weft__next;
    end_change();
}

void weft_log_sink_set_level(weft_log_sink *sink, weft_log_level level)
{
    begin_change();
    sink->level = level;
    end_change();
}

void weft_log_set_sink(weft_log_sink_fn *fn, void *arg)
{
    begin_change();
    replaced = (weft_log_sink){.fn = fn, .arg = arg};
    sinks = fn ? &replaced : NULL;
    end_change();
}

bool weft_log_has_sink(void)
{
    bool has;

    pthread_rwlock_rdlock(&using);
    has = sinks;
    pthread_rwlock_unlock(&using);
    return has;
}

void weft_log_set_clock(weft_log_clock_fn *clock)
{
    clock_now = clock;
}

bool weft_log_has_clock(void)
{
    return clock_now;
}

/* ---- messages ---- */

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
static __attribute__((noinline)) void hand_over_escaped(weft_log_record *record)
{
    char escaped[MAX_MESSAGE];

    escape_controls(escaped, sizeof escaped, record->message);
    record->message = escaped;
    hand_over(record);
    record->message = record->raw; /* not what ends here */
}

static bool has_controls(const char *text)
{
    for (; *text; text++) {
        if (is_control((unsigned char)*text))
            return true;
    }
    return false;
}

/* ---- records ---- */

static void hand_over_message(weft_log_record *record)
{
    if (has_controls(record->message))
        hand_over_escaped(record);
    else
        hand_over(record);
}

/* Apart, as nearly no context has so many. */
static __attribute__((noinline)) void hand_over_with_many_fields(weft_log_record *record, weft_context *context)
{
    size_t room = MAX_FIELDS;
    weft_field *fields = NULL;

    do {
        room *= 2;
        fields = weft_realloc(fields, room * sizeof *fields);
        record->field_count = weft_context_get_fields(context, fields, room);
    } while (record->field_count == room);
    record->fields = fields;
    hand_over_message(record);
    weft_free(fields);
}

static void make_record(const weft_logger *logger, weft_log_level level, const weft_place *place, const char *message)
{
    weft_log_clock_fn *clock = clock_now;
    weft_context *context = weft_context_current();
    weft_field fields[MAX_FIELDS];
    weft_log_record record = {
        .level = level,
        .context = weft_context_get_name(context),
        .message = message,
        .place = place,
        .logger = logger->name,
        .raw = message,
        .time = clock ? clock() : 0,
        .fields = fields,
    };

    if (level >= WEFT_LOG_OFF) /* no line is of that level, which all loggers let through */
        return;
    weft__count(&weft__counts.log_lines[level]);
    if (context)
        record.field_count = weft_context_get_fields(context, fields, MAX_FIELDS);
    if (record.field_count == MAX_FIELDS) /* there may be more */
        hand_over_with_many_fields(&record, context);
    else
        hand_over_message(&record);
}

void weft_logger_log_at(weft_logger *logger, weft_log_level level, const weft_place *place, const char *format, ...)
{
    char message[MAX_MESSAGE];
    va_list arguments;

    if (!weft_logger_enabled(logger, level))
        return;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    make_record(logger, level, place, message);
}

void weft_logger_log_after_at(weft_logger *logger, weft_log_level level, uint64_t suppressed, const weft_place *place,
                              const char *format, ...)
{
    char message[MAX_MESSAGE], told[80] = "";
    int length, room;
    va_list arguments;

    if (!weft_logger_enabled(logger, level))
        return;
    if (suppressed)
        snprintf(told, sizeof told, " (%llu more like it were suppressed)", (unsigned long long)suppressed);
    room = MAX_MESSAGE - (int)sizeof told;
    va_start(arguments, format);
    length = vsnprintf(message, (size_t)room, format, arguments);
    va_end(arguments);
    length = length < 0 ? 0 : length < room ? length : room - 1;
    snprintf(message + length, sizeof told, "%s", told);
    make_record(logger, level, place, message);
}

/* Formats of log lines: templates.
 *
 * A template becomes steps, each of which adds one piece; text between elements is a step as well. Nothing of it goes
 * through printf: that, and the calendar, were most of what a line cost. The calendar is asked once a second for each
 * thread. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/observe/format.h"
#include "runtime/observe/scratch.h"

struct weft__log_step {
    void (*add)(const struct weft__log_step *step, const weft_log_record *record, struct weft__text *text);
    char *argument; /* the text itself, behind a colon, or the format of a time up to the milliseconds; in the source */
    size_t length;  /* of the text; up to where a level is filled */
    char *after;    /* the format of a time behind the milliseconds; NULL: there are none */
    uint64_t serial; /* of a time, never used again: by which threads know what they have */
    bool utc;
};

/* ---- adding ---- */

void weft__log_add_number(struct weft__text *text, uint64_t number, unsigned least_digits)
{
    char digits[20];
    size_t at = sizeof digits;

    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) || sizeof digits - at < least_digits);
    weft__text_add_bytes(text, digits + at, sizeof digits - at);
}

static void add_text(const struct weft__log_step *step, const weft_log_record *record, struct weft__text *text)
{
    (void)record;
    weft__text_add_bytes(text, step->argument, step->length);
}

static void add_logger(const struct weft__log_step *step, const weft_log_record *record, struct weft__text *text)
{
    (void)step;
    weft__log_add(text, record->logger);
}

static void add_level(const struct weft__log_step *step, const weft_log_record *record, struct weft__text *text)
{
    const char *name = weft_log_level_name(record->level);

    weft__log_add(text, name);
    for (size_t length = strlen(name); length < step->length; length++)
        weft__text_add_bytes(text, " ", 1);
}

static void add_request(const struct weft__log_step *step, const weft_log_record *record, struct weft__text *text)
{
    (void)step;
    weft__log_add(text, record->context);
}

static void add_message(const struct weft__log_step *step, const weft_log_record *record, struct weft__text *text)
{
    (void)step;
    weft__log_add(text, record->message);
}

static void add_file(const struct weft__log_step *step, const weft_log_record *record, struct weft__text *text)
{
    (void)step;
    weft__log_add(text, record->place->file);
}

static void add_line(const struct weft__log_step *step, const weft_log_record *record, struct weft__text *text)
{
    (void)step;
    weft__log_add_number(text, (uint64_t)record->place->line, 1);
}

static void add_function(const struct weft__log_step *step, const weft_log_record *record, struct weft__text *text)
{
    (void)step;
    weft__log_add(text, record->place->function);
}

static void add_process(const struct weft__log_step *step, const weft_log_record *record, struct weft__text *text)
{
    (void)step, (void)record;
    weft__log_add_number(text, (uint64_t)getpid(), 1);
}

static void add_thread(const struct weft__log_step *step, const weft_log_record *record, struct weft__text *text)
{
    (void)step, (void)record;
    weft__log_add_number(text, (uint64_t)weft__scratch_get()->thread, 1);
}

static void add_field(const struct weft__log_step *step, const weft_log_record *record, struct weft__text *text)
{
    for (size_t i = 0; i < record->field_count; i++) {
        if (!strcmp(record->fields[i].name, step->argument)) {
            weft__text_add_visible(text, record->fields[i].value);
            return;
        }
    }
    weft__text_add_bytes(text, "-", 1);
}

/* ---- time ---- */

static void calendar_of(const struct weft__log_step *step, time_t second, struct tm *calendar)
{
    if (step->utc)
        gmtime_r(&second, calendar);
    else
        localtime_r(&second, calendar);
}

static void print_second(const struct weft__log_step *step, time_t second, struct weft__time_text *out)
{
    struct tm calendar;

    calendar_of(step, second, &calendar);
    out->format = step->serial;
    out->second = second;
    out->before_length = strftime(out->before, sizeof out->before, step->argument, &calendar);
    out->after_length = step->after ? strftime(out->after, sizeof out->after, step->after, &calendar) : 0;
}

static void add_time(const struct weft__log_step *step, const weft_log_record *record, struct weft__text *text)
{
    struct weft__time_text *kept = &weft__scratch_get()->times[step->serial % WEFT__TIMES];
    time_t second = (time_t)(record->time / 1000000000);

    if (kept->format != step->serial || kept->second != second)
        print_second(step, second, kept);
    weft__text_add_bytes(text, kept->before, kept->before_length);
    if (!step->after)
        return;
    weft__log_add_number(text, (uint64_t)(record->time % 1000000000) / 1000000, 3);
    weft__text_add_bytes(text, kept->after, kept->after_length);
}

/* ---- compiling ---- */

/* Cuts the format of a time at its %L. */
static char *cut_at_milliseconds(char *format)
{
    for (char *c = format; *c; c++) {
        if (c[0] == '%' && c[1] == 'L') {
            *c = '\0';
            return c + 2;
        }
        if (c[0] == '%' && c[1])
            c++;
    }
    return NULL;
}

static const char *prepare_time(struct weft__log_step *step)
{
    static uint64_t serials;
    struct weft__time_text tried;

    if (!step->argument) {
        static char usual[] = "%F %T.", nothing[] = "";

        step->argument = usual;
        step->after = nothing;
    } else {
        step->after = cut_at_milliseconds(step->argument);
    }
    step->serial = __atomic_add_fetch(&serials, 1, __ATOMIC_RELAXED);
    print_second(step, 0, &tried);
    if ((*step->argument && !tried.before_length) || (step->after && *step->after && !tried.after_length))
        return "a time may have up to 63 characters";
    return NULL;
}

static const char *prepare_utc(struct weft__log_step *step)
{
    step->utc = true;
    return prepare_time(step);
}

static const char *prepare_level(struct weft__log_step *step)
{
    size_t digits = step->argument ? strspn(step->argument, "0123456789") : 0;

    if (step->argument && (!digits || digits > 2 || step->argument[digits]))
        return "behind the colon of a level stands how wide it is";
    step->length = step->argument ? strtoul(step->argument, NULL, 10) : 0;
    return NULL;
}

static const char *prepare_field(struct weft__log_step *step)
{
    return step->argument && *step->argument ? NULL : "a field needs a name, as in %(field:user_agent)";
}

static const char *prepare_plain(struct weft__log_step *step)
{
    return step->argument ? "it takes nothing behind a colon" : NULL;
}

static const struct element {
    const char *name;
    void (*add)(const struct weft__log_step *step, const weft_log_record *record, struct weft__text *text);
    const char *(*prepare)(struct weft__log_step *step); /* what is wrong with it, or NULL */
} elements[] = {
    {"time", add_time, prepare_time},       {"utc", add_time, prepare_utc},
    {"logger", add_logger, prepare_plain},  {"level", add_level, prepare_level},
    {"request", add_request, prepare_plain}, {"message", add_message, prepare_plain},
    {"file", add_file, prepare_plain},      {"line", add_line, prepare_plain},
    {"function", add_function, prepare_plain}, {"process", add_process, prepare_plain},
    {"thread", add_thread, prepare_plain},  {"field", add_field, prepare_field},
};

static const struct element *element_named(const char *name)
{
    for (size_t i = 0; i < sizeof elements / sizeof *elements; i++) {
        if (!strcmp(elements[i].name, name))
            return &elements[i];
    }
    return NULL;
}

static struct weft__log_step *step_new(struct weft__log_format *format)
{
    format->steps = weft_realloc(format->steps, (format->step_count + 1) * sizeof *format->steps);
    format->steps[format->step_count] = (struct weft__log_step){0};
    return &format->steps[format->step_count++];
}

static void compile_text(struct weft__log_format *format, char *from, size_t length)
{
    struct weft__log_step *step;

    if (!length)
        return;
    step = step_new(format);
    step->add = add_text;
    step->argument = from;
    step->length = length;
}

/* The element whose % is at `*at`, which is moved behind it; what is wrong with it, or NULL. */
static const char *compile_element(struct weft__log_format *format, char **at)
{
    char *name = *at + 2, *end = (*at)[1] == '(' ? strchr(name, ')') : NULL, *colon;
    const struct element *element;
    struct weft__log_step *step;

    if ((*at)[1] == '%') {
        compile_text(format, *at, 1);
        *at += 2;
        return NULL;
    }
    if (!end)
        return "a percent sign begins %(an element), or %%";
    *end = '\0';
    if ((colon = strchr(name, ':')))
        *colon = '\0';
    if (!(element = element_named(name)))
        return "elements are time, utc, logger, level, request, message, file, line, function, process, thread and "
               "field:NAME";
    step = step_new(format);
    step->add = element->add;
    step->argument = colon ? colon + 1 : NULL;
    *at = end + 1;
    return element->prepare(step);
}

static weft_error *compile(struct weft__log_format *format, const char *source)
{
    char *at = format->source = weft_strdup(source);

    while (*at) {
        size_t length = strcspn(at, "%"), column;
        const char *wrong;

        compile_text(format, at, length);
        at += length;
        column = (size_t)(at - format->source);
        if (*at && (wrong = compile_element(format, &at)))
            return weft_error_new(&WEFT_MISUSE, "the log format \"%s\" makes no sense at character %zu, \"%.20s\": %s",
                                  source, column + 1, source + column, wrong);
    }
    return NULL;
}

void weft__log_write_template(const struct weft__log_format *format, const weft_log_record *record,
                              struct weft__text *text)
{
    for (size_t i = 0; i < format->step_count; i++)
        format->steps[i].add(&format->steps[i], record, text);
}

weft_error *weft__log_format_init(struct weft__log_format *format, const char *source)
{
    weft_error *error;

    *format = (struct weft__log_format){.write = weft__log_write_json};
    if (!strcmp(source, WEFT_LOG_JSON))
        return NULL;
    format->write = weft__log_write_template;
    if ((error = compile(format, source)))
        weft__log_format_deinit(format);
    return error;
}

void weft__log_format_deinit(struct weft__log_format *format)
{
    weft_free(format->steps);
    weft_free(format->source);
    weft_free(format->ident);
}

struct weft__text weft__log_format_line(const struct weft__log_format *format, const weft_log_record *record,
                                        const char *end)
{
    struct weft__scratch *scratch = weft__scratch_get();
    struct weft__text text;

    for (;;) {
        weft__text_init(&text, scratch->bytes, scratch->size);
        format->write(format, record, &text);
        weft__log_add(&text, end);
        if (text.length < text.size)
            return text;
        weft__scratch_grow(scratch, text.length * 2);
    }
}

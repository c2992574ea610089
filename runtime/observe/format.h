/* What log lines look like: a template that was compiled once, JSON, or what a daemon expects. */
#ifndef WEFT_RUNTIME_OBSERVE_FORMAT_H
#define WEFT_RUNTIME_OBSERVE_FORMAT_H

#include <weft/log_sink.h>

#include "lib/text.h"

struct weft__log_step;

struct weft__log_format {
    /* Adds the line of a record, without its end. */
    void (*write)(const struct weft__log_format *format, const weft_log_record *record, struct weft__text *text);
    /* Of syslog: what stands behind its head. */
    void (*body)(const struct weft__log_format *format, const weft_log_record *record, struct weft__text *text);
    struct weft__log_step *steps; /* of a template; NULL */
    size_t step_count;
    char *source;                 /* the template, which steps point into */
    char *ident;                  /* of daemons; NULL */
    int facility;
};

/* `source`: as in weft/log_sink.h. */
weft_error *weft__log_format_init(struct weft__log_format *format, const char *source) WEFT_MUST_USE;
void weft__log_format_deinit(struct weft__log_format *format);

/* A line with `end` behind it, in this thread's buffer: good until the next one. */
struct weft__text weft__log_format_line(const struct weft__log_format *format, const weft_log_record *record,
                                        const char *end);

/* ---- kinds ---- */

typedef void weft__log_write_fn(const struct weft__log_format *format, const weft_log_record *record,
                                struct weft__text *text);
weft__log_write_fn weft__log_write_template, weft__log_write_json, weft__log_write_syslog, weft__log_write_journal;

/* ---- for kinds ---- */

void weft__log_add_number(struct weft__text *text, uint64_t number, unsigned least_digits);
static inline void weft__log_add(struct weft__text *text, const char *string)
{
    weft__text_add_bytes(text, string, __builtin_strlen(string));
}

#endif

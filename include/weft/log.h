/* weft/log.h: log lines that know which context they belong to.
 *
 * A line is made by one of the macros below for a logger, if that is enabled for the line's level, and goes as a record to
 * the sinks of the process. Until there is one, lines go to stderr as text without a time; a reactor adds a better one
 * (weft/reactor.h). Sinks that write files, JSON, to syslog or to the journal are in weft/log_sink.h.
 *
 * Everything here may be called on any thread. A line that is not made costs one load and one compare. */
#ifndef WEFT_LOG_H
#define WEFT_LOG_H

#include <weft/base.h>
#include <weft/context.h>
#include <weft/error.h>

WEFT_BEGIN

typedef enum weft_log_level {
    WEFT_LOG_DEBUG,
    WEFT_LOG_INFO,
    WEFT_LOG_WARN,
    WEFT_LOG_ERROR,
    WEFT_LOG_OFF, /* above all others: for loggers and sinks that are to be silent; no line has it */
} weft_log_level;

WEFT_API const char *weft_log_level_name(weft_log_level level); /* "INFO" */

/* ---- loggers ------------------------------------------------------------------------------------------------------ */

/* A name in a hierarchy of dots, "myapp.rooms", with a level of its own or that of the nearest name above which has one.
 * Static, and never unloaded: the log remembers each that was used.
 *
 *     static weft_logger rooms_log = WEFT_LOGGER("myapp.rooms");
 *     …
 *     weft_logger_info(&rooms_log, "%s was made", name); */
typedef struct weft_logger {
    const char *name;   /* public, never written */
    bool explicit_only; /* public, never written: silent unless its very name was given a level */
    int weft__level;    /* the log's: from which one on it makes lines; -1: it was not used yet */
    struct weft_logger *weft__next; /* the log's */
} weft_logger;

#define WEFT_LOGGER(name) {name, false, -1, NULL}
#define WEFT_LOGGER_EXPLICIT(name) {name, true, -1, NULL}

/* The one above all, whose name in records is "root"; weft_log_info() and the like use it, unless a file or a makefile
 * defines WEFT_LOG_LOGGER, before this header, as the name of another one that is not static. */
WEFT_API extern weft_logger weft_root_logger;
#ifdef WEFT_LOG_LOGGER
extern weft_logger WEFT_LOG_LOGGER;
#else
#define WEFT_LOG_LOGGER weft_root_logger
#endif

/* From which level on `name`, and what is below it and has no level of its own, makes lines; "" or "root" for all, at
 * first WEFT_LOG_INFO. The name is copied. */
WEFT_API void weft_log_set_level(const char *name, weft_log_level level);
WEFT_API weft_log_level weft_log_get_level(const char *name); /* its own, or the nearest one's above */

/* Sets levels as in "info,myapp=warn,myapp.rooms=debug"; one without a name is the root's. Levels are debug, info, warn,
 * error and off, in any case of letters. Text that makes no sense is a WEFT_MISUSE error that says where, and changes
 * nothing. A reactor does this with the environment's WEFT_LOG when the first one of the process is made. */
WEFT_API weft_error *weft_log_set_levels(const char *text) WEFT_MUST_USE;

/* Whether a line would be made, and taken by a sink: for code that has to prepare one. */
WEFT_API bool weft_logger_enlist(weft_logger *logger, weft_log_level level); /* the same, for one that was not used yet */
static inline bool weft_logger_enabled(weft_logger *logger, weft_log_level level)
{
    int least = __atomic_load_n(&logger->weft__level, __ATOMIC_RELAXED);

    return (int)level >= least && (least >= 0 || weft_logger_enlist(logger, level));
}

/* ---- lines -------------------------------------------------------------------------------------------------------- */

/* printf-style; the arguments are computed only if the line is made. Control characters in the finished message are
 * written as \xNN, so that one call is one line whatever a peer sent; beyond 4 KiB it is cut. */
#define weft_logger_log(logger, level, ...)                                                                         \
    do {                                                                                                            \
        if (weft_logger_enabled(logger, level))                                                                     \
            weft_logger_log_at(logger, level, WEFT_HERE, __VA_ARGS__);                                              \
    } while (0)
#define weft_logger_debug(logger, ...) weft_logger_log(logger, WEFT_LOG_DEBUG, __VA_ARGS__)
#define weft_logger_info(logger, ...) weft_logger_log(logger, WEFT_LOG_INFO, __VA_ARGS__)
#define weft_logger_warn(logger, ...) weft_logger_log(logger, WEFT_LOG_WARN, __VA_ARGS__)
#define weft_logger_error(logger, ...) weft_logger_log(logger, WEFT_LOG_ERROR, __VA_ARGS__)

#define weft_log(level, ...) weft_logger_log(&WEFT_LOG_LOGGER, level, __VA_ARGS__)
#define weft_log_debug(...) weft_log(WEFT_LOG_DEBUG, __VA_ARGS__)
#define weft_log_info(...) weft_log(WEFT_LOG_INFO, __VA_ARGS__)
#define weft_log_warn(...) weft_log(WEFT_LOG_WARN, __VA_ARGS__)
#define weft_log_error(...) weft_log(WEFT_LOG_ERROR, __VA_ARGS__)

WEFT_API void weft_logger_log_at(weft_logger *logger, weft_log_level level, const weft_place *place, const char *format,
                                 ...) WEFT_PRINTF(4, 5);
#define weft_log_at(level, ...) weft_logger_log_at(&WEFT_LOG_LOGGER, level, __VA_ARGS__)

/* ---- lines that may come too often -------------------------------------------------------------------------------- */

/* At most `burst` lines at once and `per_second` (not 0, fractions are fine) on average from this place in the source,
 * all threads together; the next one that is made says how many were suppressed. */
#define weft_logger_limited(logger, level, per_second, burst, ...)                                                  \
    do {                                                                                                            \
        static weft_log_limit weft__limit;                                                                          \
        uint64_t weft__suppressed;                                                                                  \
        if (weft_logger_enabled(logger, level) &&                                                                   \
            weft_log_limit_admits(&weft__limit, per_second, burst, &weft__suppressed))                              \
            weft_logger_log_after_at(logger, level, weft__suppressed, WEFT_HERE, __VA_ARGS__);                      \
    } while (0)
#define weft_log_limited(level, per_second, burst, ...)                                                             \
    weft_logger_limited(&WEFT_LOG_LOGGER, level, per_second, burst, __VA_ARGS__)

/* What these macros keep for each place; zeroed at first. */
typedef struct weft_log_limit {
    int64_t weft__next; /* when the one after all that were admitted would be due; atomic, as the other */
    uint64_t weft__suppressed;
} weft_log_limit;
/* Whether one more may pass now; then `*suppressed` says how many were refused since the last that did. */
WEFT_API bool weft_log_limit_admits(weft_log_limit *limit, double per_second, unsigned burst, uint64_t *suppressed);
WEFT_API void weft_logger_log_after_at(weft_logger *logger, weft_log_level level, uint64_t suppressed,
                                       const weft_place *place, const char *format, ...) WEFT_PRINTF(5, 6);

/* ---- records and sinks -------------------------------------------------------------------------------------------- */

/* What is known of a line, taken when it is made: a sink that writes it later sees the same. Borrowed for the call. */
typedef struct weft_log_record {
    weft_log_level level;
    const char *context; /* its name; "-" for none */
    const char *message; /* one line, without its end */
    const weft_place *place;
    const char *logger;       /* its name */
    const char *raw;          /* the message before control characters were escaped, for formats that do so themselves */
    int64_t time;             /* nanoseconds since 1970, by the clock below */
    const weft_field *fields; /* those of the context, inherited ones too, without its name */
    size_t field_count;
} weft_log_record;

/* May be called on any thread, on several at once, in any context; must not log, wait, change a context, add sinks nor remove
 * any. */
typedef void weft_log_sink_fn(const weft_log_record *record, void *arg);

/* Lives in the memory of its user, who leaves it alone while it is added. */
typedef struct weft_log_sink {
    weft_log_sink_fn *fn;            /* public */
    void *arg;                       /* public */
    weft_log_level level;            /* public: it gets no line below */
    struct weft_log_sink *weft__next; /* the log's */
} weft_log_sink;

/* Each sink gets every line, in the order in which they were added. Adding one twice is a mistake: it aborts. */
WEFT_API void weft_log_add_sink(weft_log_sink *sink);
/* When it returns no thread is in the sink. One that was not added is fine. */
WEFT_API void weft_log_remove_sink(weft_log_sink *sink);
WEFT_API void weft_log_sink_set_level(weft_log_sink *sink, weft_log_level level); /* also while it is added */

/* Removes all sinks and adds one that calls `fn`; NULL: adds none, and there is the default again. */
WEFT_API void weft_log_set_sink(weft_log_sink_fn *fn, void *arg);
WEFT_API bool weft_log_has_sink(void); /* whether there is one other than the default */

/* Nanoseconds since 1970. Any thread may call it. */
typedef int64_t weft_log_clock_fn(void);
/* What gives records their time; for a test, say. A reactor and the sinks of weft/log_sink.h set the system's clock if
 * none is set. NULL: none, records have the time 0. */
WEFT_API void weft_log_set_clock(weft_log_clock_fn *clock);
WEFT_API bool weft_log_has_clock(void);

WEFT_END

#endif

/* weft/log.h: log lines that know which context they belong to.
 *
 * A line is made by one of the macros below and goes, with the name of the current context, to the sink of the process.
 * Until one is set, lines go to stderr as text without a time; a reactor sets a better one (weft/reactor.h). */
#ifndef WEFT_LOG_H
#define WEFT_LOG_H

#include <weft/base.h>

WEFT_BEGIN

typedef enum weft_log_level {
    WEFT_LOG_DEBUG,
    WEFT_LOG_INFO,
    WEFT_LOG_WARN,
    WEFT_LOG_ERROR,
} weft_log_level;

/* Everything in it is borrowed for the call. */
typedef struct weft_log_record {
    weft_log_level level;
    const char *context; /* its name; "-" for none */
    const char *message; /* one line, without its end */
    const weft_place *place;
} weft_log_record;

/* May be called on any thread, in any context; must not log. */
typedef void weft_log_sink_fn(const weft_log_record *record, void *arg);

/* Process-wide; set it before threads start. NULL for the default. Lines below `weft_log_threshold` are not made. */
WEFT_API void weft_log_set_sink(weft_log_sink_fn *fn, void *arg);
WEFT_API bool weft_log_has_sink(void); /* whether one other than the default is set */
WEFT_API extern weft_log_level weft_log_threshold; /* WEFT_LOG_INFO at first */

WEFT_API const char *weft_log_level_name(weft_log_level level); /* "INFO" */

/* printf-style. Control characters in the finished message are written as \xNN, so that one call is one line whatever
 * a peer sent; beyond 4 KiB it is cut. */
#define weft_log(level, ...)                                                                                        \
    do {                                                                                                            \
        if ((level) >= weft_log_threshold)                                                                          \
            weft_log_at(level, WEFT_HERE, __VA_ARGS__);                                                             \
    } while (0)
#define weft_log_debug(...) weft_log(WEFT_LOG_DEBUG, __VA_ARGS__)
#define weft_log_info(...) weft_log(WEFT_LOG_INFO, __VA_ARGS__)
#define weft_log_warn(...) weft_log(WEFT_LOG_WARN, __VA_ARGS__)
#define weft_log_error(...) weft_log(WEFT_LOG_ERROR, __VA_ARGS__)

WEFT_API void weft_log_at(weft_log_level level, const weft_place *place, const char *format, ...) WEFT_PRINTF(3, 4);

WEFT_END

#endif

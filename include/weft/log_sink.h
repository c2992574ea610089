/* weft/log_sink.h: sinks of the log that write: to a descriptor, a file, syslog or systemd's journal, as text or JSON.
 *
 *     weft_log_sink *sink;
 *     WEFT_CHECK(weft_log_sink_new_file(&sink, "/var/log/app.log", (weft_log_sink_options){.format = WEFT_LOG_JSON}));
 *     weft_log_add_sink(sink);
 *
 * Whoever logs does not wait for a sink: lines go into a buffer of it, and a thread of its own, started with its first line,
 * writes them. When that is slower for so long that the buffer is full, it sheds: all DEBUG lines first; if it is still
 * more than three quarters full, INFO; and then the middle of the rest, so that the oldest lines and the newest stay. When
 * there is room again a WARN line of the logger weft.log says how many of each level were dropped.
 *
 * What is in the buffers is written when the program exits, and before it dies of abort() (SIGABRT gets a handler when
 * a sink is made, unless it has one), unless nothing moves for a second. After a fork the child's buffers are empty:
 * the parent writes what was in them. A signal that kills the process, or _exit(), loses them. */
#ifndef WEFT_LOG_SINK_H
#define WEFT_LOG_SINK_H

#include <weft/error.h>
#include <weft/log.h>

WEFT_BEGIN

/* ---- formats ------------------------------------------------------------------------------------------------------ */

/* A format is a text with elements in it:
 *
 *     %(time)  %(utc)   when, as "2026-03-01 12:00:00.250"; %(time:FORMAT) is that of strftime(3), with %L for milliseconds
 *     %(logger)         its name
 *     %(level)          "INFO"; %(level:5) is filled with spaces up to 5
 *     %(request)        the name of the context, "-" when in none
 *     %(message)
 *     %(file) %(line) %(function)   of the place that made it
 *     %(process) %(thread)          the numbers of the kernel
 *     %(field:NAME)     of the context, "-" when it has none of that name
 *     %%                a percent sign
 *
 * Control characters of fields are written as \xNN, as those of messages are. */
#define WEFT_LOG_FORMAT_SHORT "%(time) %(level:5) %(request) %(message)" /* what a reactor writes to stderr */
#define WEFT_LOG_FORMAT_LONG "%(time) - %(logger) - %(line) - %(level) - %(request) - %(message)" /* Synapse's */

/* JSON objects, one in a line: "log" (the message as it was given), "namespace" (the logger), "level", "time" (seconds
 * since 1970, to the millisecond), "request" (the name of the context; null when in none), and each field of the
 * context, as a string. A field that is called as one of these is left out. Always valid: what is no UTF-8 becomes
 * U+FFFD. */
#define WEFT_LOG_JSON "json"

/* ---- options ------------------------------------------------------------------------------------------------------ */

/* Zeroed is fine. Strings are copied. */
typedef struct weft_log_sink_options {
    const char *format;   /* NULL: WEFT_LOG_FORMAT_SHORT; "%(message)" for syslog; not heeded by the journal */
    weft_log_level level; /* the least that it takes */
    size_t buffer;        /* bytes; 0: 1 MiB; at least 256 KiB */
    bool direct;          /* no buffer and no thread: whoever logs writes, and waits for it; nothing is shed */
    const char *ident;    /* of syslog and the journal; NULL: the program's name */
    const char *socket;   /* of syslog, NULL: /dev/log; or of the journal, NULL: /run/systemd/journal/socket */
    int facility;         /* of syslog, <syslog.h>; 0: LOG_USER */
} weft_log_sink_options;

/* ---- life --------------------------------------------------------------------------------------------------------- */

/* Each makes a sink, which takes no lines until weft_log_add_sink, and belongs to the caller. A format that makes no
 * sense is a WEFT_MISUSE error that says what and where; a file or socket that cannot be opened a WEFT_OS_ERROR. */

/* Keeps a duplicate of `fd`: a file, a terminal, a pipe or a stream socket. */
WEFT_API weft_error *weft_log_sink_new_descriptor(weft_log_sink **out, int fd, weft_log_sink_options options) WEFT_MUST_USE;
/* Appends to the file, which is made if there is none; several processes may. */
WEFT_API weft_error *weft_log_sink_new_file(weft_log_sink **out, const char *path, weft_log_sink_options options)
    WEFT_MUST_USE;
/* Sends to the daemon's datagram socket, as libc's syslog(3) does, but without ever blocking whoever logs. When the
 * daemon is started anew it connects again; what is sent meanwhile is dropped, and counted. */
WEFT_API weft_error *weft_log_sink_new_syslog(weft_log_sink **out, weft_log_sink_options options) WEFT_MUST_USE;
/* Sends to systemd's journal by its native protocol: MESSAGE, PRIORITY, SYSLOG_IDENTIFIER, CODE_FILE, CODE_LINE, CODE_FUNC,
 * LOGGER, REQUEST and each field of the context, in capitals. Needs no library; fails where no journal listens. */
WEFT_API weft_error *weft_log_sink_new_journal(weft_log_sink **out, weft_log_sink_options options) WEFT_MUST_USE;

/* Of the four above only. Removes it, writes what it holds, unless nothing moves for a second, and frees it. NULL is fine;
 * returns NULL. */
WEFT_API weft_log_sink *weft_log_sink_free(weft_log_sink *sink);

/* ---- use; for those four only ------------------------------------------------------------------------------------- */

/* Waits until all that was logged up to now is written, at most so many seconds; whether it is. Blocks the thread. */
WEFT_API bool weft_log_sink_flush(weft_log_sink *sink, double seconds);
/* How many lines of a level were dropped since it was made. */
WEFT_API uint64_t weft_log_sink_get_dropped(weft_log_sink *sink, weft_log_level level);

/* ---- files that are rotated --------------------------------------------------------------------------------------- */

/* Opens the file of that name anew: to be called after it was renamed. No line is lost: until then the old file is
 * written. If that fails, the sink goes on with the old one. A sink that is no file is left alone. */
WEFT_API weft_error *weft_log_sink_reopen(weft_log_sink *sink) WEFT_MUST_USE;
/* The same for all files; what fails is logged. */
WEFT_API void weft_log_reopen(void);
/* From now on SIGHUP does that, by this thread's reactor; weft_log_ignore_hangup, on the same thread, ends it, and must be
 * called before the reactor is freed. For one reactor of the process. */
WEFT_API void weft_log_reopen_on_hangup(void);
WEFT_API void weft_log_ignore_hangup(void);

WEFT_AUTO(weft_log_sink, weft_log_sink_free)

WEFT_END

#endif

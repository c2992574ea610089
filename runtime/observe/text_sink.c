/* Log lines as text on stderr, each written by one call, so that lines of several threads do not mix. */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
#include <weft/reactor.h>

#include "runtime/observe/format.h"
#include "runtime/observe/output.h"

static struct weft__log_format format;

static void make_format(void)
{
    if (weft__log_format_init(&format, WEFT_LOG_FORMAT_SHORT))
        abort(); /* it is ours */
}

/* To whatever stderr is by now. A log that cannot be written is nobody's error. */
static void text_sink(const weft_log_record *record, void *unused)
{
    struct weft__text line = weft__log_format_line(&format, record, "\n");

    (void)unused;
    (void)!write(STDERR_FILENO, line.bytes, line.length);
}

void weft_log_to_stderr(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_format);
    weft__log_need_clock();
    weft_log_set_sink(text_sink, NULL);
}

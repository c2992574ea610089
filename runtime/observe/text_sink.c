/* Log lines as text on stderr, each written by one call, so that lines of several threads do not mix. */
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <weft/log.h>
#include <weft/reactor.h>

static struct iovec part(const char *text)
{
    return (struct iovec){(void *)text, strlen(text)};
}

/* Not dprintf, which cuts what is longer than a page in two. A log that cannot be written is nobody's error. */
static void write_line(const char *head, const weft_log_record *record)
{
    struct iovec line[] = {part(head), part(record->context), part(" "), part(record->message), part("\n")};

    (void)!writev(STDERR_FILENO, line, sizeof line / sizeof *line);
}

static void text_sink(const weft_log_record *record, void *arg)
{
    char head[160];
    struct timeval now;
    struct tm calendar;
    size_t length;

    (void)arg;
    gettimeofday(&now, NULL);
    localtime_r(&now.tv_sec, &calendar);
    length = strftime(head, sizeof head, "%F %T", &calendar);
    snprintf(head + length, sizeof head - length, ".%03d %-5s ", (int)(now.tv_usec / 1000),
             weft_log_level_name(record->level));
    write_line(head, record);
}

void weft_log_to_stderr(void)
{
    weft_log_set_sink(text_sink, NULL);
}

/* Telling, with the same words for both sides. */
#include "tests/model/side.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WORD = 80, MAX_REPORTS = 512 };

const char *const context_names[CONTEXTS] = {"-", "one", "two"};
static char *next, *end;
static char reports[MAX_REPORTS][MAX_WORD];
static int reported = -1; /* not within a report */

const char *word_of(struct result result)
{
    static const char *const words[] = {"nil", "v%d", "!e%d", "!cancelled", "!client_gone", "!orphaned", "!misuse", "later"};
    static char texts[4][16];
    static int turn;
    char *text = texts[turn++ % 4];

    snprintf(text, sizeof texts[0], words[result.kind], result.id);
    return text;
}

void story_begin(char *story, size_t size)
{
    next = story;
    end = story + size;
    *story = '\0';
    reported = -1;
}

static void tell_list(const char *format, va_list arguments)
{
    int length = vsnprintf(next, (size_t)(end - next), format, arguments);

    next = length < end - next ? next + length : end - 1;
}

void tell(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    tell_list(format, arguments);
    va_end(arguments);
}

void tell_unhandled(struct result error, const char *failed_in, const char *told_in)
{
    if (reported < 0)
        tell("unhandled(%s in %s)@%s ", word_of(error), failed_in, told_in);
    else if (reported < MAX_REPORTS)
        snprintf(reports[reported++], MAX_WORD, "reported(%s in %s)@%s ", word_of(error), failed_in, told_in);
}

void report_begin(void)
{
    reported = 0;
}

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

void report_end(void)
{
    int count = reported;

    qsort(reports, (size_t)count, sizeof reports[0], compare);
    reported = -1;
    for (int i = 0; i < count; i++)
        tell("%s", reports[i]);
}

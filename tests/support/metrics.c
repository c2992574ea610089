/* Looking into the text of the metrics. */
#include "tests/support/metrics.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weft/metrics.h>

static bool is_comment(const char *line)
{
    return !strncmp(line, "# HELP ", 7) || !strncmp(line, "# TYPE ", 7);
}

const char *told_lines(const char *name)
{
    static char found[16384];
    char *text = weft_metrics_write(NULL), *rest = text, *line;
    size_t length = 0;

    found[0] = '\0';
    while ((line = strsep(&rest, "\n"))) {
        const char *from = is_comment(line) && name[strlen(name) - 1] != ' ' ? line + 7 : line;

        if (strncmp(from, name, strlen(name)))
            continue;
        length += (size_t)snprintf(found + length, sizeof found - length, "%s\n", line);
        cr_assert(length < sizeof found);
    }
    weft_free(text);
    return found;
}

void check_told(const char *name, const char *expected)
{
    const char *text = told_lines(name);

    cr_assert_str_eq(text, expected, "not\n%sbut\n%s", expected, text);
}

double told_value(const char *series)
{
    char *text = weft_metrics_write(NULL), *at = text;
    size_t length = strlen(series);
    double value = -1;

    while ((at = strstr(at, series))) {
        if ((at == text || at[-1] == '\n') && at[length] == ' ')
            break;
        at++;
    }
    if (at)
        value = atof(at + length);
    weft_free(text);
    return value;
}

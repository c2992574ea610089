/* docs/log-contexts.md and docs/examples/log_contexts: the C on the page is the C that is compiled, and each example logs
 * what the page says it does. Up to a number behind ".c:", a line's, so that a comment may grow. */
#include "tests/support/test.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME = 64 };

static const char *const example_mark = "<!-- example: ", *const c_fence = "```c\n", *const output_fence = "```text\n";

static char *read_stream(FILE *stream)
{
    size_t room = 1 << 20, length;
    char *text = malloc(room);

    cr_assert_not_null(stream);
    length = fread(text, 1, room - 1, stream);
    cr_assert(length < room - 1, "longer than was thought of");
    text[length] = '\0';
    return text;
}

static char *read_file(const char *format, const char *name)
{
    char path[256], *text;
    FILE *file;

    snprintf(path, sizeof path, format, name);
    file = fopen(path, "r");
    cr_assert_not_null(file, "no %s", path);
    text = read_stream(file);
    fclose(file);
    return text;
}

static char *read_page(void)
{
    return read_file("docs/%s.md", "log-contexts");
}

/* What the program of the examples prints, called with `argument`; its exit status is to be `status`. */
static char *run(const char *argument, int status)
{
    char command[4096], *text;
    FILE *pipe;

    snprintf(command, sizeof command, "%s %s", weft_test_program("log_contexts"), argument);
    pipe = popen(command, "r");
    text = read_stream(pipe);
    cr_assert_eq(pclose(pipe), status << 8, "log_contexts %s ended otherwise", argument);
    return text;
}

/* ---- the page, part by part ---- */

struct part {
    char example[NAME]; /* whose it is */
    bool is_output;     /* else it is C */
    const char *text;
    size_t length;
};

/* The next part behind `at`; false when there is none. `part` has the one before. */
static bool next_part(const char **at, struct part *part)
{
    while (**at) {
        const char *line = *at, *end = strchr(line, '\n');

        *at = end ? end + 1 : line + strlen(line);
        if (sscanf(line, "<!-- example: %63[a-z_0-9] -->", part->example) == 1)
            continue;
        part->is_output = !strncmp(line, output_fence, strlen(output_fence));
        if (!part->is_output && strncmp(line, c_fence, strlen(c_fence)) != 0)
            continue;
        part->text = *at;
        end = strstr(*at, "\n```\n");
        cr_assert_not_null(end, "a part of %s has no end", part->example);
        part->length = (size_t)(end + 1 - *at);
        *at = end + strlen("\n```\n");
        return true;
    }
    return false;
}

/* Whether `text` has the part's lines, one behind the other, from the beginning of a line on. */
static bool has_lines(const char *text, const struct part *part)
{
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += line > text;
        if (!strncmp(line, part->text, part->length))
            return true;
    }
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Takes the numbers of lines out of `text`. */
static void forget_lines(char *text)
{
    char *out = text;

    for (const char *in = text; *in;) {
        bool number = out >= text + 3 && !strncmp(out - 3, ".c:", 3);

        while (number && is_digit(*in))
            in++;
        if (*in)
            *out++ = *in++;
    }
    *out = '\0';
}

static size_t count(const char *text, const char *part)
{
    size_t found = 0;

    for (text = strstr(text, part); text; text = strstr(text + 1, part))
        found++;
    return found;
}

/* ---- the tests ---- */

Test(log_contexts_page, shows_the_c_that_is_compiled)
{
    char *page = read_page();
    struct part part = {.example = ""};
    size_t parts = 0;

    for (const char *at = page; next_part(&at, &part);) {
        char *source;

        cr_assert_neq(*part.example, '\0', "a part before the first example: %.*s", (int)part.length, part.text);
        if (part.is_output)
            continue;
        source = read_file("docs/examples/log_contexts/%s.c", part.example);
        cr_assert(has_lines(source, &part), "%s.c has no such lines:\n%.*s", part.example, (int)part.length, part.text);
        free(source);
        parts++;
    }
    cr_assert_eq(parts, count(page, c_fence));
    cr_assert_geq(parts, 17);
    free(page);
}

static void check_output(const struct part *part)
{
    char *said = strndup(part->text, part->length), *output = run(part->example, 0);

    forget_lines(said);
    forget_lines(output);
    cr_assert_str_eq(output, said, "%s prints otherwise than the page says:\n%s", part->example, output);
    free(output);
    free(said);
}

Test(log_contexts_page, says_what_each_example_logs, .timeout = 60)
{
    char *page = read_page();
    struct part part = {.example = ""};
    size_t outputs = 0;

    for (const char *at = page; next_part(&at, &part);) {
        if (!part.is_output)
            continue;
        check_output(&part);
        outputs++;
    }
    cr_assert_eq(outputs, count(page, example_mark), "each example has its output");
    free(page);
}

Test(log_contexts_page, has_every_example_once)
{
    char *page = read_page(), *names = run("", 2), *rest = NULL;
    size_t examples = 0;

    for (char *name = strtok_r(names, "\n", &rest); name; name = strtok_r(NULL, "\n", &rest)) {
        char mark[NAME + 32];

        snprintf(mark, sizeof mark, "%s%s -->", example_mark, name);
        cr_assert_eq(count(page, mark), 1, "%s", name);
        examples++;
    }
    cr_assert_eq(examples, count(page, example_mark));
    free(names);
    free(page);
}

/* The source document has nineteen. */
Test(log_contexts_page, has_the_python_of_the_document_beside_it)
{
    char *page = read_page();

    cr_assert_eq(count(page, "```python\n"), 19);
    free(page);
}

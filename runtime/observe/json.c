/* JSON lines: Synapse's keys. The head is put together by hand, as are strings: an object of a library for each line would
 * cost several allocations. */
#include <string.h>

#include "runtime/observe/format.h"

static void add_key(struct weft__text *text, const char *key)
{
    weft__log_add(text, ", ");
    weft__text_add_json_string(text, key);
    weft__log_add(text, ": ");
}

static bool is_taken(const char *name)
{
    static const char *const keys[] = {"log", "namespace", "level", "time", "request"};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (!strcmp(keys[i], name))
            return true;
    }
    return false;
}

void weft__log_write_json(const struct weft__log_format *format, const weft_log_record *record, struct weft__text *text)
{
    (void)format;
    weft__log_add(text, "{\"log\": ");
    weft__text_add_json_string(text, record->raw);
    weft__log_add(text, ", \"namespace\": ");
    weft__text_add_json_string(text, record->logger);
    weft__log_add(text, ", \"level\": \"");
    weft__log_add(text, weft_log_level_name(record->level));
    weft__log_add(text, "\", \"time\": ");
    weft__log_add_number(text, (uint64_t)(record->time / 1000000000), 1);
    weft__log_add(text, ".");
    weft__log_add_number(text, (uint64_t)(record->time % 1000000000) / 1000000, 3);
    weft__log_add(text, ", \"request\": ");
    if (strcmp(record->context, "-") != 0)
        weft__text_add_json_string(text, record->context);
    else
        weft__log_add(text, "null");
    for (size_t i = 0; i < record->field_count; i++) {
        if (is_taken(record->fields[i].name))
            continue;
        add_key(text, record->fields[i].name);
        weft__text_add_json_string(text, record->fields[i].value);
    }
    weft__log_add(text, "}");
}

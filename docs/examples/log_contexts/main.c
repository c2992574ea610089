/* The examples of docs/log-contexts.md.
 *
 * usage: log_contexts EXAMPLE
 *
 * Runs one, and prints what it logs: level, context, message. What there is, says `log_contexts` alone. */
#include <stdio.h>
#include <string.h>

#include "log_contexts.h"

static weft_reactor *reactor;

static const struct example {
    const char *name;
    void (*run)(void);
} examples[] = {
    {"set_by_hand", set_by_hand},
    {"scope", scope},
    {"waiting_in_a_scope", waiting_in_a_scope},
    {"always_wait", always_wait},
    {"sleeping", sleeping},
    {"background_dropped", background_dropped},
    {"background_without_context", background_without_context},
    {"background_in_context", background_in_context},
    {"background_process", background_process},
    {"gather_plain", gather_plain},
    {"gather_without_context", gather_without_context},
    {"gather_in_context", gather_in_context},
    {"callback_after_scope", callback_after_scope},
    {"deferred_handed_on", deferred_handed_on},
    {"bound_deferred", bound_deferred},
    {"two_waits", two_waits},
    {"orphans", orphans},
};
enum { EXAMPLES = sizeof examples / sizeof *examples };

void finish(weft_deferred *deferred)
{
    weft_result_drop(weft_reactor_run_until(reactor, deferred));
}

void finish_all(void)
{
    while (weft_live_counts_get().fibers)
        finish(some_io());
}

/* Runs in no context, as all that the loop calls. */
static void io_ready(void *deferred)
{
    weft_deferred_callback(deferred, weft_ok(NULL));
    weft_deferred_unref(deferred);
}

/* Not by a timer: calls are made in the order in which they were asked for, so that an example always logs the same. */
weft_deferred *some_io(void)
{
    weft_deferred *deferred = weft_deferred_new(NULL, NULL);

    weft_reactor_call_from_thread(reactor, io_ready, weft_deferred_ref(deferred));
    return deferred;
}

static void print_line(const weft_log_record *record, void *arg)
{
    (void)arg;
    printf("%-5s %s %s\n", weft_log_level_name(record->level), record->context, record->message);
}

static const struct example *find(const char *name)
{
    for (int i = 0; i < EXAMPLES; i++) {
        if (!strcmp(examples[i].name, name))
            return &examples[i];
    }
    return NULL;
}

static int list_examples(void)
{
    for (int i = 0; i < EXAMPLES; i++)
        printf("%s\n", examples[i].name);
    return 2;
}

int main(int argc, char **argv)
{
    const struct example *example = argc == 2 ? find(argv[1]) : NULL;
    weft_error *error;

    if (!example)
        return list_examples();
    weft_log_set_sink(print_line, NULL);
    weft_log_set_level("", WEFT_LOG_DEBUG);
    if ((error = weft_reactor_new(&reactor))) {
        fprintf(stderr, "no reactor: %s\n", weft_error_get_message(error));
        weft_error_unref(error);
        return 1;
    }
    example->run();
    weft_reactor_free(reactor);
    return 0;
}

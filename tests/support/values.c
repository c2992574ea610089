#include "tests/support/values.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

/* ---- what happened ---- */

static char words[64 * 1024], returned[sizeof words];
static size_t words_length;

void trace(const char *format, ...)
{
    va_list arguments;

    if (words_length)
        words[words_length++] = ' ';
    va_start(arguments, format);
    words_length += (size_t)vsnprintf(words + words_length, sizeof words - words_length, format, arguments);
    va_end(arguments);
    cr_assert(words_length < sizeof words - 1, "too much is traced");
}

const char *trace_text(void)
{
    memcpy(returned, words, words_length);
    returned[words_length] = '\0';
    words_length = 0;
    return returned;
}

/* ---- values ---- */

static void value_unref(void *value)
{
    ((struct value *)value)->drops++;
}

const weft_type value_type = {"value", NULL, value_unref};

weft_result value_of(struct value *value)
{
    return weft_own(value, &value_type);
}

const weft_error_kind BROKEN = {"broken", &WEFT_FAILURE};

static size_t describe(weft_result result, char *text, size_t size);

static size_t describe_all(const weft_results *results, char *text, size_t size)
{
    size_t length = (size_t)snprintf(text, size, "[");

    for (size_t i = 0; i < results->count; i++) {
        length += (size_t)snprintf(text + length, size - length, i ? " " : "");
        length += describe(results->items[i], text + length, size - length);
    }
    return length + (size_t)snprintf(text + length, size - length, "]");
}

/* Returns the length. */
static size_t describe(weft_result result, char *text, size_t size)
{
    const weft_indexed *indexed = result.value;

    if (weft_failed(result))
        return (size_t)snprintf(text, size, "!%s", weft_error_get_kind(weft_failed(result))->name);
    if (result.type == &weft_int_type)
        return (size_t)snprintf(text, size, "%ld", (long)(intptr_t)result.value);
    if (result.type == &value_type)
        return (size_t)snprintf(text, size, "%s", ((struct value *)result.value)->name);
    if (result.type == &weft_results_type)
        return describe_all(result.value, text, size);
    if (result.type == &weft_indexed_type) {
        size_t length = (size_t)snprintf(text, size, "#%zu:", indexed->index);

        return length + describe(indexed->result, text + length, size - length);
    }
    return (size_t)snprintf(text, size, "%s", result.value ? "borrowed" : "nil");
}

const char *told(weft_result result)
{
    static __thread char text[100];

    describe(result, text, sizeof text);
    weft_result_drop(result);
    return text;
}

/* ---- callbacks ---- */

weft_result note_last(weft_result result, void *label)
{
    trace("%s=%s", (const char *)label, told(result));
    return weft_ok(NULL);
}

weft_result note(weft_result result, void *label)
{
    char text[100];

    describe(result, text, sizeof text);
    trace("%s=%s", (const char *)label, text);
    return result;
}

weft_result note_context(weft_result result, void *label)
{
    trace("%s@%s", (const char *)label, weft_context_get_name(weft_context_current()));
    return result;
}

weft_result return_int(weft_result result, void *number)
{
    weft_result_drop(result);
    return weft_int((intptr_t)number);
}

weft_result return_broken(weft_result result, void *unused)
{
    (void)unused;
    weft_result_drop(result);
    return broken();
}

weft_result return_nothing(weft_result result, void *unused)
{
    (void)unused;
    weft_result_drop(result);
    return weft_ok(NULL);
}

weft_result return_later(weft_result result, void *deferred)
{
    weft_result_drop(result);
    return weft_later(deferred);
}

weft_result let_go(weft_result result, void *deferred)
{
    weft_deferred_unref(deferred);
    return result;
}

weft_cancel_outcome cancel_done(weft_deferred *deferred, void *label)
{
    (void)deferred;
    trace("%s", (const char *)label);
    return WEFT_CANCEL_DONE;
}

weft_cancel_outcome cancel_later(weft_deferred *deferred, void *label)
{
    (void)deferred;
    trace("%s", (const char *)label);
    return WEFT_CANCEL_LATER;
}

weft_cancel_outcome fire_value(weft_deferred *deferred, void *unused)
{
    (void)unused;
    weft_deferred_callback(deferred, weft_int(9));
    return WEFT_CANCEL_DONE;
}

weft_cancel_outcome fire_error(weft_deferred *deferred, void *unused)
{
    (void)unused;
    weft_deferred_callback(deferred, broken());
    return WEFT_CANCEL_DONE;
}

/* ---- shorthands ---- */

weft_deferred *pending(void)
{
    return weft_deferred_new(NULL, NULL);
}

weft_deferred *done(weft_result result)
{
    return weft_deferred_with(result);
}

weft_deferred *stoppable(weft_cancel_fn *canceller, const char *label)
{
    return weft_deferred_new(canceller, (void *)label);
}

weft_deferred *waiting_for(weft_deferred *inner)
{
    return weft_deferred_add_both(done(weft_ok(NULL)), return_later, weft_deferred_ref(inner));
}

weft_deferred *paused(weft_deferred *deferred)
{
    weft_deferred_pause(deferred);
    return deferred;
}

weft_deferred *noted(weft_deferred *deferred, const char *label)
{
    return weft_deferred_add_both(deferred, note, (void *)label);
}

static weft_result note_side(weft_result result, const char *label, const char *side)
{
    char text[100];

    describe(result, text, sizeof text);
    trace("%s:%s=%s", label, side, text);
    return result;
}

static weft_result note_value(weft_result result, void *label)
{
    return note_side(result, label, "value");
}

static weft_result note_error(weft_result result, void *label)
{
    return note_side(result, label, "error");
}

weft_deferred *noted_sides(weft_deferred *deferred, const char *label)
{
    return weft_deferred_add_callbacks(deferred, note_value, note_error, (void *)label);
}

weft_deferred *context_noted(weft_deferred *deferred, const char *label)
{
    return weft_deferred_add_both(deferred, note_context, (void *)label);
}

void conclude(weft_deferred *deferred, const char *label)
{
    trace("%s=%s", label, told(weft_deferred_take_result(deferred)));
    weft_deferred_unref(deferred);
}

weft_context *enter(const char *name)
{
    return weft_context_set(weft_context_new(name));
}

void leave(weft_context *previous)
{
    weft_context_unref(weft_context_set(previous));
}

/* ---- the log ---- */

static char *lines;
static size_t lines_length;
static pthread_mutex_t lines_lock = PTHREAD_MUTEX_INITIALIZER;

static void keep_line(const weft_log_record *record, void *arg)
{
    size_t room = strlen(record->context) + strlen(record->message) + 16;

    (void)arg;
    pthread_mutex_lock(&lines_lock);
    lines = weft_realloc(lines, lines_length + room);
    lines_length += (size_t)sprintf(lines + lines_length, "%s %s %s\n", weft_log_level_name(record->level),
                                    record->context, record->message);
    pthread_mutex_unlock(&lines_lock);
}

void log_capture(void)
{
    weft_log_set_level("", WEFT_LOG_DEBUG);
    weft_log_set_sink(keep_line, NULL);
}

const char *log_text(void)
{
    return lines_length ? lines : "";
}

int log_count(const char *part)
{
    int count = 0;

    for (const char *line = log_text(), *end; *line; line = end + 1) {
        const char *found = strstr(line, part);

        end = strchr(line, '\n');
        count += found && found <= end;
    }
    return count;
}

void log_forget(void)
{
    lines_length = 0;
}

/* ---- threads ---- */

struct job {
    void (*fn)(void *arg);
    void *arg;
};

static void *do_job(void *arg)
{
    static const weft_live_counts none;
    const struct job *job = arg;
    weft_live_counts left;

    job->fn(job->arg);
    left = weft_live_counts_get();
    cr_assert(memcmp(&left, &none, sizeof none) == 0, "the thread leaves %zu deferreds, %zu errors, %zu contexts, "
              "%zu timers, %zu fibers", left.deferreds, left.errors, left.contexts, left.timers, left.fibers);
    return NULL;
}

static void run_job(struct job job, size_t stack_size)
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    if (stack_size)
        cr_assert_eq(pthread_attr_setstacksize(&attributes, stack_size), 0);
    cr_assert_eq(pthread_create(&thread, &attributes, do_job, &job), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}

void with_small_stack(void (*fn)(void *arg), void *arg)
{
    run_job((struct job){fn, arg}, 256 * 1024);
}

void in_thread(void (*fn)(void *arg), void *arg)
{
    run_job((struct job){fn, arg}, 0);
}

/* Log contexts: names, references, and which one is current. What they cost is in test_accounting.c, how they follow
 * callbacks in test_deferred_context.c, and fibers in test_fiber.c. */
#include "tests/support/fibers.h"
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <string.h>

#include "lib/context.h"

/* ---- names ---- */

Test(context, has_the_name_it_was_given)
{
    char name[] = "request-1";
    weft_context *context = weft_context_new(name);

    strcpy(name, "gone");
    cr_assert_str_eq(weft_context_get_name(context), "request-1", "the name is copied");
    weft_context_unref(context);
}

Test(context, name_has_no_control_characters)
{
    weft_context *context = weft_context_new("a\nb\x1f\x7f c\xc3\xbc");

    cr_assert_str_eq(weft_context_get_name(context), "a?b?? c\xc3\xbc");
    weft_context_unref(context);
}

Test(context, numbered_is_named_prefix_and_number)
{
    weft_context *context = weft_context_new_numbered("GET", 42);
    weft_context *largest = weft_context_new_numbered("POST", UINT64_MAX);

    cr_assert_str_eq(weft_context_get_name(context), "GET-42");
    cr_assert_eq(weft_context_get_name(context), weft_context_get_name(context), "it is made once");
    cr_assert_str_eq(weft_context_get_name(largest), "POST-18446744073709551615");
    weft_context_unref(context);
    weft_context_unref(largest);
}

Test(context, numbered_goes_without_ever_being_named)
{
    weft_context_unref(weft_context_new_numbered("GET", 1));
}

Test(context, none_is_named_by_a_dash)
{
    cr_assert_str_eq(weft_context_get_name(NULL), "-");
}

/* ---- references ---- */

Test(context, lives_as_long_as_somebody_holds_it)
{
    weft_context *context = weft_context_new("x");

    cr_assert_eq(weft_live_counts_get().contexts, 1);
    cr_assert_eq(weft_context_ref(context), context);
    cr_assert_null(weft_context_unref(context));
    cr_assert_eq(weft_live_counts_get().contexts, 1);
    weft_context_unref(context);
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

Test(context, none_may_be_held_and_let_go_of)
{
    cr_assert_null(weft_context_ref(NULL));
    cr_assert_null(weft_context_unref(NULL));
}

/* ---- the current one ---- */

Test(context, there_is_none_at_first)
{
    cr_assert_null(weft_context_current());
}

Test(context, set_takes_the_new_one_and_gives_back_the_old)
{
    weft_context *a = weft_context_new("a"), *b = weft_context_new("b");

    cr_assert_null(weft_context_set(a));
    cr_assert_eq(weft_context_current(), a);
    cr_assert_eq(weft_context_set(b), a);
    cr_assert_eq(weft_context_current(), b);
    weft_context_unref(a);
    cr_assert_eq(weft_context_set(NULL), b);
    cr_assert_null(weft_context_current());
    weft_context_unref(b);
}

Test(context, that_is_current_is_held_by_that)
{
    weft_context *a = weft_context_new("a");

    cr_assert_null(weft_context_set(weft_context_ref(a)));
    weft_context_unref(a);
    cr_assert_str_eq(weft_context_get_name(weft_context_current()), "a");
    weft_context_unref(weft_context_set(NULL));
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

Test(context, set_to_itself_keeps_the_references_right)
{
    weft_context *a = weft_context_new("a");

    cr_assert_null(weft_context_set(weft_context_ref(a)));
    cr_assert_eq(weft_context_set(weft_context_ref(a)), a);
    weft_context_unref(a);
    weft_context_unref(weft_context_set(NULL));
    cr_assert_str_eq(weft_context_get_name(a), "a");
    weft_context_unref(a);
    cr_assert_eq(weft_live_counts_get().contexts, 0);
}

Test(context, set_nests_by_hand_as_the_header_shows)
{
    weft_context *outer = weft_context_new("outer"), *inner = weft_context_new("inner"), *first, *second;

    first = weft_context_set(weft_context_ref(outer));
    second = weft_context_set(weft_context_ref(inner));
    weft_context_unref(outer);
    weft_context_unref(inner);
    weft_context_unref(weft_context_set(second));
    cr_assert_str_eq(weft_context_get_name(weft_context_current()), "outer");
    weft_context_unref(weft_context_set(first));
    cr_assert_null(weft_context_current());
}

Test(context, may_be_let_go_of_in_any_order)
{
    enum { CONTEXTS = 200 }; /* more than a window of the books has room for */
    static const int steps[] = {1, 3, 77, 199}; /* no factor in common with 200: each order meets each one once */
    weft_context *contexts[CONTEXTS];

    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        for (int i = 0; i < CONTEXTS; i++)
            contexts[i] = weft_context_new_numbered("c", (uint64_t)i);
        for (int i = 0; i < CONTEXTS; i++)
            weft_context_unref(weft_context_set(weft_context_ref(contexts[i])));
        weft_context_unref(weft_context_set(NULL));
        for (int i = 0; i < CONTEXTS; i++)
            weft_context_unref(contexts[i * steps[s] % CONTEXTS]);
        cr_assert_eq(weft_live_counts_get().contexts, 0);
    }
}

static void uses_its_own(void *unused)
{
    weft_context *previous;

    (void)unused;
    cr_assert_null(weft_context_current());
    previous = enter("worker");
    weft_log_info("from the thread");
    leave(previous);
}

Test(context, each_thread_has_its_own_current_one)
{
    weft_context *previous = enter("main");

    log_capture();
    in_thread(uses_its_own, NULL);
    cr_assert_str_eq(log_text(), "INFO worker from the thread\n");
    cr_assert_str_eq(weft_context_get_name(weft_context_current()), "main");
    leave(previous);
}

/* ---- renaming and fields ---- */

Test(context, may_be_renamed_to_its_own_name)
{
    weft_context *context = weft_context_new("first"), *child = weft_context_new_child(context, NULL);

    weft_context_set_field(context, "request", weft_context_get_name(context));
    cr_assert_str_eq(weft_context_get_name(context), "first");
    weft_context_set_field(context, "request", weft_context_get_name(context) + 2);
    cr_assert_str_eq(weft_context_get_field(context, "request"), "rst");
    cr_assert_str_eq(weft_context_get_name(child), "rst", "which has its parent's name");
    weft_context_set_field(child, "request", weft_context_get_name(child));
    weft_context_set_field(context, "request", "other");
    cr_assert_str_eq(weft_context_get_name(child), "rst", "and now one of its own");
    weft_context_unref(child);
    weft_context_unref(context);
}

Test(context, field_may_be_set_to_its_own_value)
{
    weft_context *context = weft_context_new("x");

    weft_context_set_field(context, "a", "value");
    weft_context_set_field(context, "a", weft_context_get_field(context, "a") + 1);
    cr_assert_str_eq(weft_context_get_field(context, "a"), "alue");
    weft_context_unref(context);
}

static const char *fields_of(weft_context *context, size_t room)
{
    weft_field fields[8];
    size_t count = weft_context_get_fields(context, fields, room);

    for (size_t i = 0; i < count; i++)
        trace("%s=%s", fields[i].name, fields[i].value);
    return trace_text();
}

Test(context, fields_of_parents_are_its_own_until_it_has_others)
{
    weft_context *top = weft_context_new("top"), *middle = weft_context_new_child(top, "m");
    weft_context *below = weft_context_new_child(middle, "b");

    weft_context_set_field(top, "ip", "1");
    weft_context_set_field(top, "user", "u");
    cr_assert_str_eq(weft_context_get_field(below, "ip"), "1");
    weft_context_set_field(middle, "ip", "2");
    cr_assert_str_eq(weft_context_get_field(below, "ip"), "2");
    cr_assert_str_eq(weft_context_get_field(top, "ip"), "1");
    cr_assert_str_eq(fields_of(below, 8), "ip=2 user=u");
    cr_assert_str_eq(fields_of(below, 1), "ip=2", "no more than there is room for");
    cr_assert_str_eq(fields_of(below, 0), "");
    weft_context_set_field(middle, "ip", NULL);
    cr_assert_str_eq(weft_context_get_field(below, "ip"), "1", "what was hidden is seen again");
    weft_context_set_field(middle, "ip", NULL);
    weft_context_set_field(top, "ip", NULL);
    cr_assert_null(weft_context_get_field(below, "ip"));
    cr_assert_str_eq(fields_of(below, 8), "user=u");
    weft_context_unref(top);
    weft_context_unref(middle);
    cr_assert_str_eq(weft_context_get_field(below, "user"), "u", "parents live as long as their children");
    weft_context_unref(below);
}

struct source {
    struct weft__field_source source; /* first */
    const char *method;
};

static size_t list_method(const struct weft__field_source *source, weft_field *out, size_t room)
{
    cr_assert_geq(room, 2);
    out[0] = (weft_field){"method", ((const struct source *)source)->method};
    out[1] = (weft_field){"url", "/"};
    return 2;
}

Test(context, fields_of_a_source_are_found_when_asked_for_and_kept_when_it_goes)
{
    struct source source = {{list_method}, "GET"};
    weft_context *context = weft_context_new("x"), *child = weft_context_new_child(context, NULL);

    context->source = &source.source;
    weft_context_set_field(context, "url", "/own");
    cr_assert_str_eq(weft_context_get_field(child, "method"), "GET");
    source.method = "PUT";
    cr_assert_str_eq(fields_of(child, 8), "url=/own method=PUT");
    weft__context_forget_source(context);
    source.method = "gone";
    cr_assert_str_eq(fields_of(child, 8), "url=/own method=PUT", "the child still holds it");
    weft_context_unref(child);
    context->source = &source.source;
    weft__context_forget_source(context);
    cr_assert_str_eq(weft_context_get_field(context, "method"), "PUT", "of the first time: nobody else holds it now");
    weft_context_unref(context);
}

static int late_lines(void)
{
    return log_count("is used after its end");
}

/* Also when it was the current one at its end, and nothing closes a window in between. */
Test(context, one_that_ended_while_it_was_current_is_noticed_when_it_is_entered_again)
{
    weft_context *context = weft_context_new("GET-1");
    weft_context *previous;

    log_capture();
    for (int round = 0; round < 3; round++) {
        previous = weft_context_set(weft_context_ref(context));
        weft_context_end(context);
        weft_context_unref(weft_context_set(previous));
        cr_assert_eq(late_lines(), round ? 1 : 0);
        previous = weft_context_set(weft_context_ref(context));
        weft_context_unref(weft_context_set(previous));
        weft_context_unref(weft_context_set(NULL));
        cr_assert_eq(late_lines(), 1);
    }
    weft_context_unref(context);
}

static weft_result fail_after(void *deferred)
{
    WEFT_TRY(weft_await(deferred));
    return broken();
}

static weft_result end_it(weft_result result, void *context)
{
    weft_context_end(context);
    weft_result_drop(result);
    return weft_ok(NULL);
}

/* Whoever is told of a failure may end the context in which it came about: nobody has entered that again. */
Test(context, one_whose_fiber_fails_may_end_with_that)
{
    log_capture();
    begin();
    for (int i = 0; i < 100; i++) {
        weft_context *context = weft_context_new("GET-1"), *previous = weft_context_set(weft_context_ref(context));
        weft_deferred *gate = pending(), *fiber = weft_spawn(fail_after, weft_deferred_ref(gate));

        weft_context_unref(weft_context_set(previous));
        weft_deferred_unref(weft_deferred_add_both(fiber, end_it, context));
        weft_deferred_callback(gate, weft_ok(NULL));
        weft_deferred_unref(gate);
        settle();
        weft_context_unref(context);
    }
    end();
    cr_assert_eq(late_lines(), 0);
}

/* Errors: what kind they are, which way they came, and what they look like: in a line, in several, as JSON. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const weft_error_kind ROOM_ERROR = {"room_error", &WEFT_FAILURE};
static const weft_error_kind ROOM_FULL = {"room_full", &ROOM_ERROR};
static const weft_error_kind LOBBY_FULL = {"lobby_full", &ROOM_FULL};
static const weft_error_kind USER_LEFT = {"user_left", &WEFT_CLIENT_GONE};

static const weft_place a = {"a.c", "f", 1}, b = {"b.c", "g", 2}, c = {"c.c", "h", 3};

static bool is_kind(const weft_error_kind *of, const weft_error_kind *kind)
{
    weft_auto(weft_error_unref) weft_error *error = weft_error_new(of, "x");

    return weft_error_is(error, kind);
}

/* ---- kinds ---- */

Test(error, is_of_its_kind_and_of_those_above_it)
{
    cr_assert(is_kind(&ROOM_FULL, &ROOM_FULL));
    cr_assert(is_kind(&ROOM_FULL, &ROOM_ERROR));
    cr_assert(is_kind(&ROOM_FULL, &WEFT_FAILURE));
    cr_assert_not(is_kind(&ROOM_ERROR, &ROOM_FULL));
    cr_assert_not(is_kind(&ROOM_FULL, &WEFT_OS_ERROR));
}

Test(error, any_failure_never_matches_a_cancellation)
{
    cr_assert_not(is_kind(&WEFT_CANCELLED, &WEFT_FAILURE));
    cr_assert_not(is_kind(&WEFT_CLIENT_GONE, &WEFT_FAILURE));
    cr_assert_not(is_kind(&WEFT_SHUTDOWN, &WEFT_FAILURE));
    cr_assert_not(is_kind(&USER_LEFT, &WEFT_FAILURE));
    cr_assert(is_kind(&USER_LEFT, &WEFT_CANCELLED));
    cr_assert(is_kind(&WEFT_CLIENT_GONE, &WEFT_CANCELLED));
    cr_assert(is_kind(&WEFT_SHUTDOWN, &WEFT_CANCELLED));
    cr_assert(is_kind(&WEFT_SIBLING_FAILED, &WEFT_CANCELLED));
}

Test(error, a_failure_is_never_a_cancellation)
{
    const weft_error_kind *const failures[] = {&WEFT_FAILURE,  &WEFT_OS_ERROR, &WEFT_TIMED_OUT,
                                               &WEFT_ORPHANED, &WEFT_MISUSE,   &WEFT_ALREADY_CALLED};

    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++) {
        cr_assert(is_kind(failures[i], &WEFT_FAILURE), "%s", failures[i]->name);
        cr_assert_not(is_kind(failures[i], &WEFT_CANCELLED), "%s", failures[i]->name);
    }
    cr_assert(is_kind(&WEFT_ALREADY_CALLED, &WEFT_MISUSE));
}

Test(error, kinds_of_users_may_be_three_deep)
{
    const weft_error_kind *const above[] = {&LOBBY_FULL, &ROOM_FULL, &ROOM_ERROR, &WEFT_FAILURE};

    for (size_t i = 0; i < sizeof above / sizeof *above; i++)
        cr_assert(is_kind(&LOBBY_FULL, above[i]), "%s", above[i]->name);
    cr_assert_not(is_kind(&LOBBY_FULL, &WEFT_CANCELLED));
    cr_assert_not(is_kind(&ROOM_FULL, &LOBBY_FULL));
}

Test(error, roots_never_match_each_other)
{
    cr_assert(is_kind(&WEFT_FAILURE, &WEFT_FAILURE));
    cr_assert(is_kind(&WEFT_CANCELLED, &WEFT_CANCELLED));
    cr_assert_not(is_kind(&WEFT_FAILURE, &WEFT_CANCELLED));
    cr_assert_not(is_kind(&WEFT_CANCELLED, &WEFT_FAILURE));
    cr_assert_null(WEFT_FAILURE.parent);
    cr_assert_null(WEFT_CANCELLED.parent);
}

Test(error, kinds_are_compared_as_objects_and_not_by_name)
{
    static const weft_error_kind namesake = {"room_full", &ROOM_ERROR};

    cr_assert_not(is_kind(&namesake, &ROOM_FULL));
    cr_assert(is_kind(&namesake, &ROOM_ERROR));
}

Test(error, no_error_is_of_no_kind)
{
    cr_assert_not(weft_error_is(NULL, &WEFT_FAILURE));
    cr_assert_not(weft_error_is(NULL, &WEFT_CANCELLED));
}

/* A WEFT_FIRST_ERROR around an error of that kind. */
static bool wrapper_is(const weft_error_kind *inside, const weft_error_kind *kind)
{
    weft_auto(weft_error_unref) weft_error *error =
        weft_error_caused_by(weft_error_new(&WEFT_FIRST_ERROR, "x"), weft_error_new(inside, "y"));

    return weft_error_is(error, kind);
}

Test(error, n15_a_wrapper_around_a_cancellation_counts_as_one)
{
    cr_assert(wrapper_is(&USER_LEFT, &WEFT_FIRST_ERROR));
    cr_assert(wrapper_is(&USER_LEFT, &WEFT_CANCELLED));
    cr_assert(wrapper_is(&USER_LEFT, &WEFT_CLIENT_GONE));
    cr_assert(wrapper_is(&USER_LEFT, &USER_LEFT));
    cr_assert_not(wrapper_is(&USER_LEFT, &WEFT_SHUTDOWN));
    cr_assert_not(wrapper_is(&USER_LEFT, &WEFT_FAILURE));
}

Test(error, n15_a_wrapper_around_a_failure_is_one_of_its_own_kind)
{
    cr_assert(wrapper_is(&ROOM_FULL, &WEFT_FIRST_ERROR));
    cr_assert(wrapper_is(&ROOM_FULL, &WEFT_FAILURE));
    cr_assert_not(wrapper_is(&ROOM_FULL, &ROOM_FULL));
    cr_assert_not(wrapper_is(&ROOM_FULL, &WEFT_CANCELLED));
}

Test(error, n15_wrappers_in_wrappers_are_looked_through)
{
    weft_error *error = weft_error_new(&WEFT_SHUTDOWN, "x");

    for (int i = 0; i < 3; i++)
        error = weft_error_caused_by(weft_error_new(&WEFT_FIRST_ERROR, "y"), error);
    cr_assert(weft_error_is(error, &WEFT_SHUTDOWN));
    cr_assert_not(weft_error_is(error, &WEFT_FAILURE));
    weft_error_unref(error);
}

Test(error, n15_a_wrapper_of_nothing_is_a_failure)
{
    cr_assert(is_kind(&WEFT_FIRST_ERROR, &WEFT_FAILURE));
    cr_assert_not(is_kind(&WEFT_FIRST_ERROR, &WEFT_CANCELLED));
}

/* ---- what it says ---- */

Test(error, knows_what_was_said_and_where)
{
    int line = __LINE__ + 1;
    weft_error *error = weft_error_new(&ROOM_FULL, "room %s holds %d", "lobby", 12);

    cr_assert_eq(weft_error_get_kind(error), &ROOM_FULL);
    cr_assert_str_eq(weft_error_get_message(error), "room lobby holds 12");
    cr_assert_eq(weft_error_get_place(error)->line, line);
    cr_assert(strstr(weft_error_get_place(error)->file, "test_error.c"));
    cr_assert(strstr(weft_error_get_place(error)->function, "knows_what_was_said_and_where"));
    cr_assert_null(weft_error_get_cause(error));
    cr_assert_null(weft_error_get_payload(error, &weft_int_type));
    weft_error_unref(error);
}

Test(error, message_without_conversions_is_not_copied)
{
    static const char literal[] = "nothing to format";
    weft_error *error = weft_error_new(&BROKEN, literal);

    cr_assert_eq(weft_error_get_message(error), literal);
    weft_error_unref(error);
}

Test(error, message_with_conversions_is_its_own)
{
    char text[] = "text";
    weft_error *error = weft_error_new(&BROKEN, "%s", text), *percent = weft_error_new(&BROKEN, "100%%");

    strcpy(text, "gone");
    cr_assert_str_eq(weft_error_get_message(error), "text");
    cr_assert_str_eq(weft_error_get_message(percent), "100%");
    weft_error_unref(error);
    weft_error_unref(percent);
}

Test(error, message_may_be_of_any_length)
{
    static const size_t lengths[] = {0, 1, 254, 255, 256, 257, 1000, 100000};
    static char text[100001];

    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        weft_error *error, *os;

        memset(text, 'x', lengths[i]);
        error = weft_error_new(&BROKEN, "%s", text);
        os = weft_error_os(ENOENT, "%s", text);
        cr_assert_str_eq(weft_error_get_message(error), text, "length %zu", lengths[i]);
        cr_assert_arr_eq(weft_error_get_message(os), text, lengths[i]);
        cr_assert_str_eq(weft_error_get_message(os) + lengths[i], ": No such file or directory");
        weft_error_unref(error);
        weft_error_unref(os);
    }
}

Test(error, message_that_printf_refuses_is_its_format)
{
    weft_error *error = weft_error_new(&BROKEN, "%ls and %d", L"\x20ac", 1); /* this locale has no euro */

    cr_assert_str_eq(weft_error_get_message(error), "%ls and %d");
    weft_error_unref(error);
}

Test(error, knows_when_it_was_made)
{
    weft_test_clock *time = weft_test_clock_new();
    weft_clock *previous;
    weft_error *before = weft_error_new(&BROKEN, "no clock on this thread"), *after;

    previous = weft_clock_set(weft_test_clock_get_clock(time));
    weft_test_clock_advance(time, 3);
    after = weft_error_new(&BROKEN, "three seconds later");
    weft_clock_set(previous);
    cr_assert_eq(weft_error_get_time(before), 0);
    cr_assert_eq(weft_error_get_time(after), 3000000000);
    weft_error_unref(before);
    weft_error_unref(after);
    weft_test_clock_free(time);
}

Test(error, of_the_system_has_its_text_and_its_number)
{
    char expected[200];
    weft_error *error = weft_error_os(ENOENT, "cannot open %s", "x.conf");

    snprintf(expected, sizeof expected, "cannot open x.conf: %s", strerror(ENOENT));
    cr_assert(weft_error_is(error, &WEFT_OS_ERROR));
    cr_assert_str_eq(weft_error_get_message(error), expected);
    cr_assert_eq((intptr_t)weft_error_get_payload(error, &weft_int_type), ENOENT);
    weft_error_unref(error);
}

Test(error, payload_is_given_only_as_what_it_is_and_dropped_once)
{
    struct value v = {"v", 0};
    weft_error *error = weft_error_with_payload(weft_error_new(&ROOM_FULL, "x"), value_of(&v));

    cr_assert_eq(weft_error_get_payload(error, &value_type), &v);
    cr_assert_null(weft_error_get_payload(error, &weft_int_type));
    weft_error_ref(error);
    weft_error_unref(error);
    cr_assert_eq(v.drops, 0);
    weft_error_unref(error);
    cr_assert_eq(v.drops, 1);
}

Test(error, payload_may_be_any_result)
{
    weft_error *inner = weft_error_new(&ROOM_FULL, "full");
    weft_error *error = weft_error_with_payload(weft_error_new(&BROKEN, "x"), weft_fail(inner));
    weft_error *nothing = weft_error_with_payload(weft_error_new(&BROKEN, "x"), weft_ok(NULL));

    cr_assert_eq(weft_error_get_payload(error, &weft_error_type), inner);
    cr_assert_null(weft_error_get_cause(error), "an error as payload is no cause");
    weft_error_unref(error);
    cr_assert_null(weft_error_get_payload(nothing, NULL));
    weft_error_unref(nothing);
    cr_assert_eq(weft_live_counts_get().errors, 0);
}

Test(error, a_payload_with_a_cause_goes_with_its_error_alone)
{
    struct value v = {"v", 0}, w = {"w", 0};
    weft_error *cause = weft_error_with_payload(weft_error_new(&BROKEN, "cause"), value_of(&w));
    weft_error *error = weft_error_with_payload(weft_error_new(&BROKEN, "x"), value_of(&v));

    error = weft_error_caused_by(error, weft_error_ref(cause));
    weft_error_unref(error);
    cr_assert_eq(v.drops, 1);
    cr_assert_eq(w.drops, 0);
    weft_error_unref(cause);
    cr_assert_eq(w.drops, 1);
}

Test(error, takes_one_payload_and_drops_a_second)
{
    struct value v = {"v", 0}, w = {"w", 0};
    weft_error *error = weft_error_with_payload(weft_error_new_at(&BROKEN, &a, "x"), value_of(&v));

    log_capture();
    error = weft_error_with_payload(error, value_of(&w));
    cr_assert_eq(w.drops, 1);
    cr_assert_eq(weft_error_get_payload(error, &value_type), &v);
    cr_assert_str_eq(log_text(),
                     "ERROR - misuse: a payload is given to an error that has one; it was made at a.c:1 f\n");
    weft_error_unref(error);
    cr_assert_eq(v.drops, 1);
    cr_assert_eq(w.drops, 1);
}

Test(error, a_borrowed_payload_counts_as_one)
{
    struct value v = {"v", 0};
    int borrowed;
    weft_error *error = weft_error_with_payload(weft_error_new(&BROKEN, "x"), weft_ok(&borrowed));

    log_capture();
    error = weft_error_with_payload(error, value_of(&v));
    cr_assert_eq(v.drops, 1);
    cr_assert_eq(weft_error_get_payload(error, NULL), &borrowed);
    cr_assert_eq(log_count("misuse"), 1);
    weft_error_unref(error);
}

Test(error, takes_one_cause_and_drops_a_second)
{
    weft_error *first = weft_error_new(&BROKEN, "first"), *second = weft_error_new(&BROKEN, "second");
    weft_error *error = weft_error_caused_by(weft_error_new_at(&BROKEN, &a, "x"), first);

    log_capture();
    error = weft_error_caused_by(error, second);
    cr_assert_eq(weft_error_get_cause(error), first);
    cr_assert_eq(weft_live_counts_get().errors, 2);
    cr_assert_str_eq(log_text(),
                     "ERROR - misuse: a cause is given to an error that has one; it was made at a.c:1 f\n");
    weft_error_unref(error);
}

Test(error, that_others_hold_is_not_changed)
{
    struct value v = {"v", 0};
    weft_error *error = weft_error_new(&BROKEN, "x"), *branch = weft_error_passed(weft_error_ref(error), &a);

    log_capture();
    error = weft_error_with_payload(error, value_of(&v));
    error = weft_error_caused_by(error, weft_error_new(&BROKEN, "cause"));
    branch = weft_error_with_payload(branch, value_of(&v));
    cr_assert_eq(v.drops, 2);
    cr_assert_null(weft_error_get_cause(error));
    cr_assert_null(weft_error_get_payload(branch, &value_type));
    cr_assert_eq(log_count("misuse"), 3);
    cr_assert_eq(log_count("that others may hold"), 3);
    weft_error_unref(error);
    log_forget();
    branch = weft_error_caused_by(branch, weft_error_new(&BROKEN, "cause"));
    cr_assert_eq(log_count("misuse"), 1, "the only one left, but a branch: its origin may be held by others");
    weft_error_unref(branch);
}

Test(error, cannot_be_its_own_cause)
{
    weft_error *error = weft_error_new(&BROKEN, "x");

    log_capture();
    error = weft_error_caused_by(error, weft_error_ref(error));
    cr_assert_null(weft_error_get_cause(error));
    cr_assert_eq(log_count("misuse"), 1);
    weft_error_unref(error);
}

Test(error, no_cause_is_none)
{
    weft_error *error = weft_error_caused_by(weft_error_new(&BROKEN, "x"), NULL);

    cr_assert_null(weft_error_get_cause(error));
    weft_error_unref(error);
}

Test(error, holds_its_causes)
{
    weft_error *disk = weft_error_os(EIO, "cannot read");
    weft_error *store = weft_error_caused_by(weft_error_new(&ROOM_ERROR, "cannot load"), disk);
    weft_error *top = weft_error_caused_by(weft_error_new(&BROKEN, "cannot answer"), store);

    cr_assert_eq(weft_error_get_cause(top), store);
    cr_assert_eq(weft_error_get_cause(store), disk);
    cr_assert_null(weft_error_get_cause(disk));
    cr_assert_not(weft_error_is(top, &WEFT_OS_ERROR), "the cause's kind is not its own");
    cr_assert_eq(weft_live_counts_get().errors, 3);
    cr_assert_null(weft_error_unref(top));
    cr_assert_eq(weft_live_counts_get().errors, 0);
}

Test(error, a_cause_may_be_shared)
{
    weft_error *cause = weft_error_new(&BROKEN, "shared");
    weft_error *first = weft_error_caused_by(weft_error_new(&BROKEN, "1"), weft_error_ref(cause));
    weft_error *second = weft_error_caused_by(weft_error_new(&BROKEN, "2"), cause);

    weft_error_unref(first);
    cr_assert_str_eq(weft_error_get_message(weft_error_get_cause(second)), "shared");
    weft_error_unref(second);
}

static void free_a_long_chain_of_causes(void *unused)
{
    weft_error *error = weft_error_new(&BROKEN, "0");

    (void)unused;
    for (int i = 1; i < MANY; i++)
        error = weft_error_caused_by(weft_error_new(&BROKEN, "%d", i), error);
    weft_error_unref(error);
}

Test(error, a_million_causes_are_freed_without_recursion, .timeout = 30)
{
    with_small_stack(free_a_long_chain_of_causes, NULL);
}

static void free_a_long_chain_of_payloads(void *unused)
{
    weft_error *error = weft_error_new(&BROKEN, "0"), *middle = NULL;

    (void)unused;
    for (int i = 1; i < MANY; i++) {
        error = weft_error_with_payload(weft_error_new(&BROKEN, "x"), weft_fail(error));
        error = weft_error_passed(weft_error_caused_by(error, weft_error_new(&BROKEN, "cause")), &a);
        if (i == MANY / 2)
            middle = weft_error_passed(weft_error_ref(error), &b);
    }
    weft_error_unref(error);
    cr_assert_eq(weft_live_counts_get().errors, 2 * MANY / 2 + 2);
    weft_error_unref(middle);
}

Test(error, a_million_errors_held_as_payloads_are_freed_without_recursion, .timeout = 30)
{
    with_small_stack(free_a_long_chain_of_payloads, NULL);
}

Test(error, unref_accepts_none)
{
    cr_assert_null(weft_error_unref(NULL));
}

/* ---- the way up ---- */

static weft_error *passed(weft_error *error, const weft_place *place)
{
    return weft_error_passed(error, place);
}

Test(error_trace, lists_the_places_innermost_first)
{
    weft_error *error = weft_error_new(&BROKEN, "x"), *same = error;
    const weft_place *const *places;

    cr_assert_eq(weft_error_get_trace(error, &places), 0);
    same = passed(passed(passed(same, &a), &b), &c);
    cr_assert_eq(same, error, "nobody else holds it: it is the object it was");
    cr_assert_eq(weft_error_get_trace(error, &places), 3);
    cr_assert_eq(places[0], &a);
    cr_assert_eq(places[1], &b);
    cr_assert_eq(places[2], &c);
    weft_error_unref(error);
}

Test(error_trace, counts_a_place_named_twice_in_a_row_once)
{
    weft_error *error = passed(passed(weft_error_new(&BROKEN, "x"), &a), &a);
    const weft_place *const *places;

    cr_assert_eq(weft_error_get_trace(error, &places), 1);
    error = passed(passed(error, &b), &a);
    cr_assert_eq(weft_error_get_trace(error, &places), 3, "later it counts again");
    weft_error_unref(error);
}

Test(error_trace, counts_two_places_on_one_line_once)
{
    static const weft_place outer = {"a.c", "f", 1}, other_file = {"z.c", "f", 1}, other_line = {"a.c", "f", 2};
    weft_error *error = passed(passed(weft_error_new(&BROKEN, "x"), &a), &outer);
    const weft_place *const *places;

    cr_assert_eq(weft_error_get_trace(error, &places), 1);
    error = passed(passed(error, &other_file), &other_line);
    cr_assert_eq(weft_error_get_trace(error, &places), 3);
    weft_error_unref(error);
}

Test(error_trace, keeps_the_first_32_places)
{
    weft_error *error = weft_error_new(&BROKEN, "x");
    const weft_place *const *places;

    for (int i = 0; i < 100; i++)
        error = passed(error, i % 2 ? &a : &b);
    cr_assert_eq(weft_error_get_trace(error, &places), 32);
    cr_assert_eq(places[0], &b);
    cr_assert_eq(places[31], &a);
    weft_error_unref(error);
}

Test(error_trace, of_a_shared_error_grows_only_for_the_one_who_passes_it)
{
    weft_error *kept = passed(weft_error_new(&ROOM_FULL, "full"), &a), *branch;
    const weft_place *const *places;

    branch = passed(weft_error_ref(kept), &b);
    cr_assert_neq(branch, kept);
    cr_assert_eq(weft_error_get_trace(kept, &places), 1);
    cr_assert_eq(weft_error_get_trace(branch, &places), 2);
    cr_assert_eq(places[0], &a);
    cr_assert_eq(places[1], &b);
    weft_error_unref(kept);
    cr_assert_str_eq(weft_error_get_message(branch), "full", "it outlives the one it came from");
    weft_error_unref(branch);
}

Test(error_trace, branches_are_the_same_error_in_all_else)
{
    struct value v = {"v", 0};
    weft_error *cause = weft_error_new(&BROKEN, "cause");
    weft_error *origin = weft_error_with_payload(weft_error_caused_by(weft_error_new(&ROOM_FULL, "x"), cause),
                                                 value_of(&v));
    weft_error *branch = passed(weft_error_ref(origin), &a);
    weft_error *twig = passed(weft_error_ref(branch), &b);
    weft_error *other = weft_error_new(&ROOM_FULL, "x");

    cr_assert(weft_error_same(origin, branch) && weft_error_same(branch, twig) && weft_error_same(twig, origin));
    cr_assert_not(weft_error_same(origin, other));
    cr_assert_not(weft_error_same(origin, NULL));
    cr_assert_not(weft_error_same(NULL, NULL));
    cr_assert(weft_error_is(twig, &ROOM_ERROR));
    cr_assert_eq(weft_error_get_place(twig), weft_error_get_place(origin));
    cr_assert_eq(weft_error_get_cause(twig), cause);
    cr_assert_eq(weft_error_get_payload(twig, &value_type), &v);
    weft_error_unref(other);
    weft_error_unref(origin);
    weft_error_unref(branch);
    cr_assert_eq(v.drops, 0);
    weft_error_unref(twig);
    cr_assert_eq(v.drops, 1);
    cr_assert_eq(weft_live_counts_get().errors, 0);
}

static void branch_again_and_again(void *unused)
{
    weft_error *error = weft_error_new(&BROKEN, "x"), *first = weft_error_ref(error);

    (void)unused;
    for (int i = 0; i < MANY; i++) {
        weft_error *before = weft_error_ref(error);

        error = passed(error, i % 2 ? &a : &b);
        weft_error_unref(before);
    }
    cr_assert(weft_error_same(error, first));
    weft_error_unref(error);
    weft_error_unref(first);
}

Test(error_trace, passing_on_a_shared_error_for_ever_stays_flat)
{
    with_small_stack(branch_again_and_again, NULL);
}

/* ---- the index ---- */

Test(error, has_no_index_until_it_is_given_one)
{
    weft_error *error = weft_error_new(&BROKEN, "m");
    size_t index = 7;

    cr_assert_not(weft_error_get_index(error, &index));
    cr_assert_eq(index, 7);
    cr_assert_eq(weft_error_with_index(error, 0), error);
    cr_assert(weft_error_get_index(error, &index));
    cr_assert_eq(index, 0);
    weft_error_unref(error);
}

Test(error, with_an_index_leaves_one_that_others_hold_alone)
{
    weft_error *origin = weft_error_new(&BROKEN, "m"), *branch = weft_error_with_index(weft_error_ref(origin), 3);
    size_t index = 7;

    cr_assert_not(weft_error_get_index(origin, &index));
    cr_assert(weft_error_get_index(branch, &index));
    cr_assert_eq(index, 3);
    cr_assert(weft_error_same(origin, branch));
    weft_error_unref(origin);
    weft_error_unref(branch);
}

Test(error, keeps_its_index_when_it_is_passed_on)
{
    weft_error *error = weft_error_with_index(weft_error_new(&BROKEN, "m"), 3);
    weft_error *branch = passed(weft_error_ref(error), &a);
    size_t index = 7;

    cr_assert_neq(branch, error);
    cr_assert(weft_error_get_index(branch, &index));
    cr_assert_eq(index, 3);
    weft_error_unref(error);
    weft_error_unref(branch);
}

/* ---- printing ---- */

static weft_error *long_story(void)
{
    static const weft_place made = {"rooms.c", "wait_for_room", 41}, cause_made = {"db.c", "query", 7};
    weft_error *cause = passed(weft_error_new_at(&ROOM_FULL, &cause_made, "12 are in it"), &c);
    weft_error *error = weft_error_caused_by(weft_error_new_at(&BROKEN, &made, "no event within %d s", 5), cause);

    return passed(passed(error, &a), &b);
}

static const char story[] = "broken: no event within 5 s (rooms.c:41 wait_for_room); passed a.c:1 f, b.c:2 g; "
                            "caused by room_full: 12 are in it (db.c:7 query); passed c.c:3 h";

Test(error_print, tells_kind_message_place_trace_and_causes)
{
    weft_error *error = long_story();
    char text[1000];

    cr_assert_eq(weft_error_print(error, text, sizeof text), sizeof story - 1);
    cr_assert_str_eq(text, story);
    weft_error_unref(error);
}

typedef size_t print_fn(const weft_error *error, char *text, size_t size);

static void check_at_any_size(print_fn *print)
{
    weft_error *error = long_story();
    size_t length = print(error, NULL, 0);
    char *whole = malloc(length + 1);

    cr_assert_eq(print(error, whole, length + 1), length);
    cr_assert_eq(strlen(whole), length);
    for (size_t size = 0; size <= length + 2; size++) {
        char *text = malloc(size + 1); /* its own allocation: a byte too many is seen */
        size_t kept = size < length + 1 ? size : length + 1;

        memset(text, '#', size + 1);
        cr_assert_eq(print(error, text, size), length, "size %zu", size);
        cr_assert_eq(text[size], '#', "size %zu: a byte too many is written", size);
        if (kept) {
            cr_assert_eq(strlen(text), kept - 1, "size %zu", size);
            cr_assert_arr_eq(text, whole, kept - 1);
        }
        free(text);
    }
    free(whole);
    weft_error_unref(error);
}

Test(error_print, cuts_at_any_size_and_still_says_the_whole_length)
{
    check_at_any_size(weft_error_print);
    check_at_any_size(weft_error_print_full);
    check_at_any_size(weft_error_print_json);
}

Test(error_print, is_one_line_whatever_is_in_the_message)
{
    weft_error *error = weft_error_new_at(&BROKEN, &c, "%s", "a\nb\x1b[2J");
    char text[100];

    weft_error_print(error, text, sizeof text);
    cr_assert_str_eq(text, "broken: a\\x0ab\\x1b[2J (c.c:3 h)");
    weft_error_print_full(error, text, sizeof text);
    cr_assert_str_eq(text, "broken: a\\x0ab\\x1b[2J\n    made at c.c:3 h");
    weft_error_unref(error);
}

Test(error_print, of_a_branch_is_its_own_way_up)
{
    static const weft_place made = {"x.c", "x", 9};
    weft_error *origin = weft_error_new_at(&BROKEN, &made, "m"), *branch = passed(weft_error_ref(origin), &a);
    char text[100];

    weft_error_print(origin, text, sizeof text);
    cr_assert_str_eq(text, "broken: m (x.c:9 x)");
    weft_error_print(branch, text, sizeof text);
    cr_assert_str_eq(text, "broken: m (x.c:9 x); passed a.c:1 f");
    weft_error_unref(origin);
    weft_error_unref(branch);
}

/* ---- in several lines ---- */

/* Borrowed until the next call. */
static const char *printed(print_fn *print, const weft_error *error)
{
    static char text[4000];

    cr_assert_lt(print(error, text, sizeof text), sizeof text);
    return text;
}

Test(error_print_full, tells_kind_message_place_trace_and_causes_a_line_each)
{
    weft_error *error = long_story();

    cr_assert_str_eq(printed(weft_error_print_full, error),
                     "broken: no event within 5 s\n"
                     "    made at rooms.c:41 wait_for_room\n"
                     "    passed a.c:1 f\n"
                     "    passed b.c:2 g\n"
                     "caused by room_full: 12 are in it\n"
                     "    made at db.c:7 query\n"
                     "    passed c.c:3 h");
    weft_error_unref(error);
}

Test(error_print_full, tells_the_time_and_how_long_ago_that_is)
{
    weft_test_clock *manual = weft_test_clock_new(), *behind = weft_test_clock_new();
    weft_clock *previous;
    weft_error *error;

    previous = weft_clock_set(weft_test_clock_get_clock(manual));
    weft_test_clock_advance(manual, 12.5);
    error = weft_error_new_at(&BROKEN, &a, "x");
    cr_assert_str_eq(printed(weft_error_print_full, error),
                     "broken: x\n    made at a.c:1 f, at 12.500000 s, 0.000000 s ago");
    weft_test_clock_advance(manual, 0.25);
    cr_assert_str_eq(printed(weft_error_print_full, error),
                     "broken: x\n    made at a.c:1 f, at 12.500000 s, 0.250000 s ago");
    weft_clock_set(weft_test_clock_get_clock(behind));
    cr_assert_str_eq(printed(weft_error_print_full, error), "broken: x\n    made at a.c:1 f, at 12.500000 s",
                     "a clock that is behind has not made it");
    weft_clock_set(previous);
    cr_assert_str_eq(printed(weft_error_print_full, error), "broken: x\n    made at a.c:1 f, at 12.500000 s");
    weft_error_unref(error);
    weft_test_clock_free(manual);
    weft_test_clock_free(behind);
}

static weft_error *with_payload(weft_result payload)
{
    return weft_error_with_payload(weft_error_new_at(&BROKEN, &a, "x"), payload);
}

Test(error_print_full, names_the_payload_by_its_type)
{
    struct value v = {"v", 0};
    weft_error *number = with_payload(weft_int(-5)), *value = with_payload(value_of(&v));
    weft_error *untyped = with_payload(weft_ok(&v));
    weft_error *branch = weft_error_passed(weft_error_ref(number), &b);

    cr_assert_str_eq(printed(weft_error_print_full, number), "broken: x\n    made at a.c:1 f\n    payload: int -5");
    cr_assert_str_eq(printed(weft_error_print_full, branch),
                     "broken: x\n    made at a.c:1 f\n    payload: int -5\n    passed b.c:2 g");
    cr_assert_str_eq(printed(weft_error_print_full, value), "broken: x\n    made at a.c:1 f\n    payload: value");
    cr_assert_str_eq(printed(weft_error_print_full, untyped), "broken: x\n    made at a.c:1 f");
    weft_error_unref(branch);
    weft_error_unref(number);
    weft_error_unref(value);
    weft_error_unref(untyped);
}

/* ---- as JSON ---- */

/* The object that a parser makes of it, the caller's; it checks that the text is one line. */
static json_t *parsed(const weft_error *error)
{
    const char *text = printed(weft_error_print_json, error);
    json_error_t wrong;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &wrong);

    cr_assert_not_null(object, "%s: %s", text, wrong.text);
    cr_assert_null(strchr(text, '\n'));
    return object;
}

static void check_json(weft_error *error, const char *expected)
{
    json_t *found = parsed(error), *wanted = json_loads(expected, 0, NULL);

    cr_assert_not_null(wanted);
    cr_assert(json_equal(found, wanted), "%s", printed(weft_error_print_json, error));
    json_decref(found);
    json_decref(wanted);
    weft_error_unref(error);
}

Test(error_print_json, tells_kinds_message_place_trace_and_causes)
{
    check_json(long_story(),
               "{\"kind\": \"broken\", \"kinds\": [\"broken\", \"failure\"], \"message\": \"no event within 5 s\","
               " \"file\": \"rooms.c\", \"line\": 41, \"function\": \"wait_for_room\", \"time\": 0.0,"
               " \"trace\": [{\"file\": \"a.c\", \"line\": 1, \"function\": \"f\"},"
               "           {\"file\": \"b.c\", \"line\": 2, \"function\": \"g\"}],"
               " \"cause\": {\"kind\": \"room_full\", \"kinds\": [\"room_full\", \"room_error\", \"failure\"],"
               "           \"message\": \"12 are in it\", \"file\": \"db.c\", \"line\": 7, \"function\": \"query\","
               "           \"time\": 0.0, \"trace\": [{\"file\": \"c.c\", \"line\": 3, \"function\": \"h\"}]}}");
}

Test(error_print_json, names_the_payload_by_its_type_and_gives_an_int)
{
    struct value v = {"v", 0};

#define COMMON                                                                                                      \
    "{\"kind\": \"broken\", \"kinds\": [\"broken\", \"failure\"], \"message\": \"x\", \"file\": \"a.c\","                  \
    " \"line\": 1, \"function\": \"f\", \"time\": 0.0, \"trace\": []"
    check_json(with_payload(weft_int(-5)), COMMON ", \"payload\": {\"type\": \"int\", \"value\": -5}}");
    check_json(with_payload(value_of(&v)), COMMON ", \"payload\": {\"type\": \"value\"}}");
    check_json(with_payload(weft_ok(&v)), COMMON "}");
#undef COMMON
}

Test(error_print_json, tells_the_time_in_seconds)
{
    weft_test_clock *manual = weft_test_clock_new();
    weft_clock *previous;
    weft_error *error;
    json_t *object;

    previous = weft_clock_set(weft_test_clock_get_clock(manual));
    weft_test_clock_advance(manual, 12.5);
    error = weft_error_new(&BROKEN, "x");
    weft_clock_set(previous);
    object = parsed(error);
    cr_assert_float_eq(json_real_value(json_object_get(object, "time")), 12.500000, 1e-9);
    json_decref(object);
    weft_error_unref(error);
    weft_test_clock_free(manual);
}

Test(error_print_json, is_json_whatever_is_in_the_message)
{
    weft_error *error = weft_error_new(&BROKEN, "%s", "a \"quoted\"\n\\ line, \xff and \xe2\x82\xac");
    json_t *object = parsed(error);

    cr_assert_str_eq(json_string_value(json_object_get(object, "message")),
                     "a \"quoted\"\n\\ line, \xef\xbf\xbd and \xe2\x82\xac");
    json_decref(object);
    weft_error_unref(error);
}

static weft_error *chain_of_causes(int length)
{
    weft_error *error = NULL;

    for (int i = 0; i < length; i++)
        error = weft_error_caused_by(weft_error_new_at(&BROKEN, &a, "%d", i), error);
    return error;
}

Test(error_print_json, nests_causes_as_deep_as_they_are)
{
    enum { CAUSES = 1000 }; /* about as deep as jansson goes */
    weft_error *error = chain_of_causes(CAUSES);
    size_t size = weft_error_print_json(error, NULL, 0) + 1, depth = 0;
    char *text = malloc(size);
    json_t *object;

    weft_error_print_json(error, text, size);
    object = json_loads(text, 0, NULL);
    for (const json_t *at = object; at; at = json_object_get(at, "cause"))
        depth++;
    cr_assert_eq(depth, CAUSES);
    json_decref(object);
    free(text);
    weft_error_unref(error);
}

/* ---- long chains ---- */

/* Not by strstr, which looks at the whole string each time under AddressSanitizer. */
static size_t count(const char *text, size_t length, const char *part)
{
    size_t found = 0, part_length = strlen(part);

    for (const char *at = text; at + part_length <= text + length; at++)
        found += *at == *part && memcmp(at, part, part_length) == 0;
    return found;
}

static void print_a_long_chain(void *unused)
{
    enum { CAUSES = 100 * 1000 };
    print_fn *const prints[] = {weft_error_print, weft_error_print_full, weft_error_print_json};
    const char *const joints[] = {"; caused by ", "\ncaused by ", ",\"cause\":{"};
    weft_error *error = chain_of_causes(CAUSES);

    (void)unused;
    for (int i = 0; i < 3; i++) {
        size_t length = prints[i](error, NULL, 0);
        char *text = malloc(length + 1);

        cr_assert_eq(prints[i](error, text, length + 1), length);
        cr_assert_eq(strlen(text), length);
        cr_assert_eq(count(text, length, joints[i]), CAUSES - 1);
        free(text);
    }
    weft_error_unref(error);
}

Test(error_print, a_hundred_thousand_causes_are_printed_without_recursion, .timeout = 60)
{
    with_small_stack(print_a_long_chain, NULL);
}

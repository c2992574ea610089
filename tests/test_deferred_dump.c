/* What a deferred says of itself. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <string.h>

static const weft_place made = {"rooms.c", "room_open", 12}, made_inner = {"db.c", "query", 7}, fired = {"net.c", "read", 3};

static const char *dump(const weft_deferred *d)
{
    static char text[2048];

    cr_assert_lt(weft_deferred_dump(d, text, sizeof text), sizeof text);
    return text;
}

static weft_deferred *made_here(weft_cancel_fn *canceller)
{
    return weft_deferred_new_at(canceller, (void *)"stop", &made);
}

Test(deferred_dump, r01_names_state_and_place)
{
    weft_deferred *d = made_here(NULL);

    cr_assert_str_eq(dump(d), "deferred made at rooms.c:12 room_open: pending");
    weft_deferred_callback_at(d, weft_ok(NULL), &fired);
    cr_assert_str_eq(dump(d), "deferred made at rooms.c:12 room_open: done, fired at net.c:3 read, with no value");
    weft_deferred_unref(d);
}

Test(deferred_dump, names_the_result)
{
    struct value value = {.name = "v"};
    weft_deferred *owned = made_here(NULL), *borrowed = made_here(NULL), *failed = made_here(NULL);

    weft_deferred_callback_at(owned, value_of(&value), &fired);
    cr_assert_not_null(strstr(dump(owned), ", with a value of type value"));
    weft_deferred_callback_at(borrowed, weft_ok(&value), &fired);
    cr_assert_not_null(strstr(dump(borrowed), ", with a value"));
    weft_deferred_callback_at(failed, weft_fail(weft_error_new(&BROKEN, "it\nbroke")), &fired);
    cr_assert_not_null(strstr(dump(failed), ", with broken: it\\x0abroke"));
    weft_deferred_add_errback(failed, return_nothing, NULL);
    weft_deferred_unref(owned);
    weft_deferred_unref(borrowed);
    weft_deferred_unref(failed);
}

Test(deferred_dump, counts_what_waits_and_the_pauses)
{
    weft_deferred *d = noted(made_here(NULL), "a");

    weft_deferred_pause(d);
    weft_deferred_pause(d);
    cr_assert_str_eq(dump(d), "deferred made at rooms.c:12 room_open: pending, paused 2 times, 1 callback waiting");
    for (int i = 0; i < 4; i++)
        noted(d, "b");
    weft_deferred_add_callbacks_owning(d, note, note, weft_strdup("c"), weft_free);
    weft_deferred_callback_at(d, weft_ok(NULL), &fired);
    cr_assert_not_null(strstr(dump(d), "done, paused 2 times, fired at net.c:3 read, with no value, 6 callbacks waiting"));
    weft_deferred_unpause(d);
    weft_deferred_unpause(d);
    weft_deferred_unref(d);
}

Test(deferred_dump, says_why_it_was_asked_to_stop)
{
    static const weft_place asked = {"http.c", "closed", 40};
    weft_deferred *d = made_here(cancel_later);

    weft_deferred_cancel_with(d, weft_error_new_at(&WEFT_CLIENT_GONE, &asked, "it left"));
    cr_assert_str_eq(dump(d),
                     "deferred made at rooms.c:12 room_open: pending, asked to stop by client_gone: it left (http.c:40 closed)");
    weft_deferred_unref(d);
}

Test(deferred_dump, r15_goes_down_to_the_innermost_and_says_who_waits)
{
    weft_deferred *inner = weft_deferred_new_at(NULL, NULL, &made_inner), *outer = made_here(NULL);

    weft_deferred_add_callback(outer, return_later, weft_deferred_ref(inner));
    weft_deferred_callback_at(outer, weft_ok(NULL), &fired);
    cr_assert_str_eq(dump(outer), "deferred made at rooms.c:12 room_open: waiting, fired at net.c:3 read\n"
                                  "  waits for the one made at db.c:7 query: pending, taken over by the one made at "
                                  "rooms.c:12 room_open");
    weft_deferred_callback_at(inner, weft_ok(NULL), &fired);
    cr_assert_not_null(strstr(dump(inner), "with no value, handed over"));
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

Test(deferred_dump, r16_forgets_what_it_waited_for)
{
    weft_deferred *inner = weft_deferred_new_at(NULL, NULL, &made_inner), *outer = made_here(NULL);

    weft_deferred_add_callback(outer, return_later, weft_deferred_ref(inner));
    weft_deferred_callback_at(outer, weft_ok(NULL), &fired);
    weft_deferred_callback_at(inner, weft_ok(NULL), &fired);
    cr_assert_null(strstr(dump(outer), "waits for"));
    weft_deferred_unref(inner);
    weft_deferred_unref(outer);
}

Test(deferred_dump, r22_says_which_one_will_forward_its_result)
{
    weft_deferred *from = weft_deferred_new_at(NULL, NULL, &made_inner), *to = made_here(NULL);

    weft_deferred_forward(weft_deferred_ref(from), to);
    cr_assert_not_null(strstr(dump(to), "waits for the one made at db.c:7 query"));
    weft_deferred_callback(from, weft_ok(NULL));
    cr_assert_null(strstr(dump(to), "waits for"));
    weft_deferred_unref(from);
    weft_deferred_unref(to);
}

static weft_result dump_it(weft_result result, void *deferred)
{
    trace("%d", strstr(dump(deferred), "done, its callbacks are running, fired at") != NULL);
    return result;
}

Test(deferred_dump, may_be_asked_for_in_its_own_callback)
{
    weft_deferred *d = made_here(NULL);

    weft_deferred_add_both(d, dump_it, d);
    weft_deferred_callback(d, weft_int(1));
    cr_assert_str_eq(trace_text(), "1");
    weft_deferred_unref(d);
}

Test(deferred_dump, writes_no_more_than_there_is_room_for)
{
    char text[24] = "untouched";
    weft_deferred *d = made_here(NULL);
    size_t length = weft_deferred_dump(d, NULL, 0);

    cr_assert_eq(length, strlen("deferred made at rooms.c:12 room_open: pending"));
    cr_assert_eq(weft_deferred_dump(d, text, sizeof text), length);
    cr_assert_str_eq(text, "deferred made at rooms.");
    weft_deferred_unref(d);
}

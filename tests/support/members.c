#include "tests/support/members.h"

#include <string.h>

#include "tests/support/test.h"

struct members members(size_t count, weft_cancel_fn *canceller)
{
    static const char *const labels[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct members made = {.count = count};

    for (size_t i = 0; i < count; i++)
        made.of[i] = stoppable(canceller, labels[i]);
    return made;
}

weft_deferred *const *given(const struct members *members)
{
    static struct members copy;

    copy = *members;
    for (size_t i = 0; i < copy.count; i++)
        weft_deferred_ref(copy.of[i]);
    return copy.of;
}

void let_go_of(struct members *members)
{
    for (size_t i = 0; i < members->count; i++)
        members->of[i] = weft_deferred_unref(members->of[i]);
}

weft_deferred *noted_last(weft_deferred *deferred, const char *label)
{
    return weft_deferred_add_both(deferred, note_last, (void *)label);
}

weft_cancel_outcome cancel_with_value(weft_deferred *deferred, void *label)
{
    trace("%s", (const char *)label);
    weft_deferred_callback(deferred, weft_int(7));
    return WEFT_CANCEL_DONE;
}

weft_cancel_outcome cancel_with_broken(weft_deferred *deferred, void *label)
{
    trace("%s", (const char *)label);
    weft_deferred_callback(deferred, broken());
    return WEFT_CANCEL_DONE;
}

weft_error *error_of(weft_deferred *deferred)
{
    weft_result result = weft_deferred_take_result(deferred);

    cr_assert(weft_failed(result), "there is no error: %s", told(result));
    return weft_failed(result);
}

size_t index_of(const weft_error *error)
{
    size_t index;

    cr_assert(weft_error_get_index(error, &index));
    return index;
}

/* The first value wins. */
#include "lib/many.h"

static void win(struct weft__many *many, size_t index, weft_result value)
{
    weft__many_decide(many, weft_own(weft__indexed_new(index, value), &weft_indexed_type));
    if (many->waiting && !many->reason)
        weft__many_stop(many, weft_error_new_at(&WEFT_CANCELLED, many->place, "member %zu has won", index));
}

static weft_result race_arrived(struct weft__many *many, size_t index, weft_deferred *member, weft_result result)
{
    (void)member;
    if (many->decided)
        weft_result_drop(result);
    else if (weft_failed(result))
        many->results.items[index] = result;
    else
        win(many, index, result);
    return weft_ok(NULL);
}

static bool all_cancelled(const weft_results *failures)
{
    for (size_t i = 0; i < failures->count; i++) {
        if (!weft_error_is(weft_failed(failures->items[i]), &WEFT_CANCELLED))
            return false;
    }
    return true;
}

/* Nobody won. While nobody has, only the caller of the race can have asked to stop. */
static weft_result race_completed(struct weft__many *many)
{
    size_t count = many->results.count;
    weft_error *first = weft_failed(many->results.items[0]), *error;

    if (many->reason && all_cancelled(&many->results))
        return weft_fail(weft_error_ref(many->reason));
    error = weft_error_new_at(&WEFT_FAILURE_GROUP, many->place, "none of %zu in the race has a value", count);
    error = weft_error_caused_by(error, weft_error_ref(first));
    return weft_fail(weft_error_with_payload(error, weft__many_give_results(many)));
}

weft_deferred *weft_race_at(weft_deferred *const *deferreds, size_t count, const weft_place *place)
{
    static const struct weft__many_rules rules = {
        .first_wins = true, .arrived = race_arrived, .completed = race_completed};

    if (!count)
        return weft_deferred_with_at(
            weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "nobody can win a race of none")), place);
    return weft__many_wait(&rules, deferreds, count, 0, true, place);
}

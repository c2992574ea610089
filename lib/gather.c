/* All values, or the first error.
 *
 * Twisted fires at the first error, or at the first member that ends when it is cancelled, and leaves the others running
 * with nobody to look after them. Here the deferred of a gather is fired last: whoever goes on behind it knows that
 * nothing of it is still under way. */
#include "lib/many.h"

/* Adds what the caller of the gather wants to know about an error: whose it was, and that it came through here. */
static weft_error *labelled(const struct weft__many *many, size_t index, weft_error *error)
{
    if (many->flags & WEFT_GATHER_FIRST_ERROR)
        return weft__first_error(many, index, error);
    return weft_error_passed(weft_error_with_index(error, index), many->place);
}

/* The first error. It is kept; the other members are asked to stop, unless the caller asked them already. */
static void fail(struct weft__many *many, size_t index, weft_error *error)
{
    weft_error *outcome = labelled(many, index, error);

    weft__many_decide(many, weft_fail(outcome));
    if (many->waiting && !many->early && !many->reason)
        weft__many_stop(many, weft_error_caused_by(
            weft_error_new_at(&WEFT_SIBLING_FAILED, many->place, "member %zu has failed", index),
            weft_error_ref(outcome)));
}

weft_result weft__gather_arrived(struct weft__many *many, size_t index, weft_deferred *member, weft_result result)
{
    weft_error *error = weft_failed(result);

    (void)member;
    if (error && !many->decided)
        fail(many, index, error);
    else if (error && !(many->flags & WEFT_GATHER_CONSUME) && !weft_error_is(error, &WEFT_CANCELLED))
        return result;
    else if (many->decided)
        weft_result_drop(result);
    else
        many->results.items[index] = result;
    return weft_ok(NULL);
}

weft_deferred *weft_gather_results_at(weft_deferred *const *deferreds, size_t count, unsigned flags,
                                      const weft_place *place)
{
    static const struct weft__many_rules rules = {
        .arrived = weft__gather_arrived, .completed = weft__many_give_results};

    return weft__many_wait(&rules, deferreds, count, flags, flags & WEFT_GATHER_LET_RUN, place);
}

/* ---- the wrapper ---- */

weft_error *weft__first_error(const struct weft__many *many, size_t index, weft_error *error)
{
    weft_error *wrapper =
        weft_error_new_at(&WEFT_FIRST_ERROR, many->place, "member %zu was the first to fail", index);

    return weft_error_with_index(weft_error_caused_by(wrapper, error), index);
}

weft_result weft_unwrap_first_error(weft_result result, void *unused)
{
    weft_error *error = weft_failed(result), *cause;

    (void)unused;
    while (error && weft_error_get_kind(error) == &WEFT_FIRST_ERROR && (cause = weft_error_get_cause(error))) {
        weft_error_ref(cause);
        weft_error_unref(error);
        error = cause;
    }
    return error ? weft_fail(error) : result;
}

/* Twisted's DeferredList: what each member came to, seen from the side.
 *
 * The one way in which it cannot be Twisted's: a value has one owner. One that can be shared is shared; one that cannot moves
 * to the list, and the hole it leaves is marked, so that nobody takes it for a value. */
#include "lib/many.h"

/* Of a success with no value, in a member whose value has moved to a list. */
static const weft_type moved_type = {"moved", NULL, NULL};

static weft_result misuse(const weft_deferred *member, const char *what)
{
    return weft_fail(weft_error_new_at(&WEFT_MISUSE, member->made_at, "%s", what));
}

/* Moves the value out of a member. Somebody who waits for it already, behind the list, must not take nothing for a value. */
static weft_result move(weft_deferred *member, weft_result *value)
{
    weft_result moved = *value;

    if (member->flags & WEFT__CONSUMED) {
        *value = misuse(member, "the value of a deferred cannot be shared, and has moved to a list");
    } else {
        *value = weft_own(NULL, &moved_type);
        member->flags |= WEFT__CONSUMED;
    }
    return moved;
}

/* The list's share of a value; what is left for the member in `*value`. */
static weft_result share(weft_deferred *member, weft_result *value)
{
    const weft_type *type = value->type;

    if (type == &moved_type)
        return misuse(member, "the value of a deferred cannot be shared, and has moved to another list");
    if (!type || !type->unref)
        return *value;
    return type->ref ? weft_own(type->ref(value->value), type) : move(member, value);
}

/* The list's share of an error; what is left for the member in `*failure`. */
static weft_result share_error(const struct weft__many *many, const weft_deferred *member, weft_result *failure)
{
    weft_error *error = failure->value;

    if (member && !(many->flags & WEFT_LIST_CONSUME_ERRORS))
        return weft_fail(weft_error_ref(error));
    *failure = weft_ok(NULL);
    return weft_fail(error);
}

static weft_result not_looked_at(const struct weft__many *many, weft_result result)
{
    if (!weft_failed(result) || !(many->flags & WEFT_LIST_CONSUME_ERRORS))
        return result;
    weft_result_drop(result);
    return weft_ok(NULL);
}

static weft_result list_arrived(struct weft__many *many, size_t index, weft_deferred *member, weft_result result)
{
    weft_result shared;

    if (many->decided)
        return not_looked_at(many, result);
    shared = weft_failed(result) ? share_error(many, member, &result) : share(member, &result);
    if (weft_failed(shared) && many->flags & WEFT_LIST_FIRE_ON_ONE_ERRBACK)
        weft__many_decide(many, weft_fail(weft__first_error(many, index, shared.value)));
    else if (!weft_failed(shared) && many->flags & WEFT_LIST_FIRE_ON_ONE_CALLBACK)
        weft__many_decide(many, weft_own(weft__indexed_new(index, shared), &weft_indexed_type));
    else
        many->results.items[index] = shared;
    return result;
}

weft_deferred *weft_deferred_list_at(weft_deferred *const *deferreds, size_t count, unsigned flags,
                                     const weft_place *place)
{
    static const struct weft__many_rules rules = {
        .shares = true, .arrived = list_arrived, .completed = weft__many_give_results};

    if (!count && flags & WEFT_LIST_FIRE_ON_ONE_CALLBACK)
        return weft_deferred_with_at(
            weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "a list of none waits for its first value")), place);
    return weft__many_wait(&rules, deferreds, count, flags, true, place);
}

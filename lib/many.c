/* Members, how many of them are still waited for, and what they come to.
 *
 * Whatever runs somebody else's code (a canceller, a callback, a destructor) may come back: fire another member, cancel the
 * whole, drop it. So all that follows from an event is done in one place, settle(), and only by the outermost: while it is
 * held, events note what is to be done and leave it to whoever holds it. That is also why all members are asked to stop
 * before the first callback of the whole runs.
 *
 * Who holds whom: a member is borrowed while it is waited for, so that one that nobody can fire fails as an orphan; its
 * entry has its turn exactly once, and the pointer is good until then. The whole holds its deferred, which it will fire. */
#include <assert.h>

#include "lib/many.h"
#include "lib/waits.h"

/* ---- items that are waited for ---- */

static const weft_type *mark_of(const struct weft__many *many)
{
    return (const weft_type *)(const void *)many; /* compared, never looked into */
}

static weft_deferred *waited_for(const struct weft__many *many, size_t index)
{
    weft_result item = many->results.items[index];

    return item.type == mark_of(many) ? item.value : NULL;
}

/* ---- what there is to do ---- */

void weft__many_decide(struct weft__many *many, weft_result outcome)
{
    assert(!many->decided);
    many->outcome = outcome;
    many->decided = true;
}

void weft__many_stop(struct weft__many *many, weft_error *reason)
{
    weft_error *previous = many->reason;

    many->reason = reason;
    many->ask = true;
    weft_error_unref(previous);
}

weft_result weft__many_give_results(struct weft__many *many)
{
    many->given = true;
    return weft_own(&many->results, &weft_results_type);
}

static void ask_members(struct weft__many *many)
{
    weft_error *reason = weft_error_ref(many->reason); /* a canceller may bring another */

    many->ask = false;
    for (size_t i = 0; i < many->results.count; i++) {
        weft_deferred *member = waited_for(many, i);

        if (member)
            weft_deferred_cancel_with(member, weft_error_ref(reason));
    }
    weft_error_unref(reason);
}

static void drop_results(struct weft__many *many)
{
    many->emptied = true;
    for (size_t i = 0; i < many->results.count; i++) {
        if (!waited_for(many, i))
            weft_result_drop(weft_results_take(&many->results, i));
    }
}

/* Does one thing that is to be done; false when there is none. */
static bool work(struct weft__many *many)
{
    if (many->ask) {
        ask_members(many);
    } else if (many->decided && !many->emptied && !many->given) {
        drop_results(many);
    } else if (many->rules->more && many->rules->more(many)) {
        return true;
    } else if (!many->waiting && !many->decided) {
        weft__many_decide(many, many->rules->completed(many));
    } else {
        return false;
    }
    return true;
}

/* Wholes of wholes nest here, one C call in the other. So weft_deferred_callback_at, which keeps room on the stack for the
 * text of a misuse, is only for those that somebody else has fired. */
static void fire(weft_deferred *deferred, weft_result outcome, const weft_place *place)
{
    if (weft_deferred_get_state(deferred) == WEFT_PENDING)
        weft_error_unref(weft_deferred_try_callback_at(deferred, outcome, place));
    else
        weft_deferred_callback_at(deferred, outcome, place);
    weft_deferred_unref(deferred);
}

/* Fires, and frees, when it is time. In this order: until it is fired, its canceller leads here; afterwards `many` is the
 * members' that are still waited for, or nobody's. */
static void conclude(struct weft__many *many)
{
    weft_deferred *deferred = many->deferred;
    const weft_place *place = many->place;
    weft_result outcome = many->outcome;
    weft_error *reason = NULL;

    if (many->waiting && !(many->early && many->decided))
        return;
    many->deferred = NULL;
    if (!many->waiting) {
        reason = many->reason;
        if (!many->given)
            weft_free(many->memory);
    }
    if (deferred)
        fire(deferred, outcome, place);
    weft_error_unref(reason);
}

static void settle(struct weft__many *many)
{
    if (many->holds)
        return;
    many->holds++;
    while (work(many))
        continue;
    many->holds--;
    conclude(many);
}

void weft__many_release(struct weft__many *many)
{
    many->holds--;
    settle(many);
}

/* ---- what happens to it ---- */

static weft_cancel_outcome cancelled(weft_deferred *deferred, void *arg)
{
    struct weft__many *many = arg;

    many->holds++;
    weft__many_stop(many, weft_error_ref(weft_deferred_get_cancellation(deferred)));
    weft__many_release(many);
    return weft_deferred_get_state(deferred) == WEFT_PENDING ? WEFT_CANCEL_LATER : WEFT_CANCEL_DONE;
}

static void name_members(void *arg, struct weft__waits *waits)
{
    const struct weft__many *many = arg;

    if (many->rules->first_wins || (many->rules->shares && many->flags & WEFT_LIST_FIRE_ON_ONE_CALLBACK))
        weft__waits_any(waits);
    for (size_t i = 0; i < many->results.count; i++) {
        weft_deferred *member = waited_for(many, i);

        if (member)
            weft__waits_deferred(waits, member);
    }
}

const struct weft__wait_kind weft__many_waits = {cancelled, name_members};

static weft_result arrive(struct weft__many *many, size_t index, weft_deferred *member, weft_result result)
{
    many->results.items[index] = weft_ok(NULL);
    many->holds++;
    many->waiting--;
    result = many->rules->arrived(many, index, member, result);
    many->holds--;
    return result;
}

/* The entry of a member. */
static weft_result member_ended(weft_result result, void *arg)
{
    weft_result *item = arg;
    struct weft__many *many = (struct weft__many *)(void *)item->type;

    result = arrive(many, (size_t)(item - many->results.items), item->value, result);
    settle(many);
    return result;
}

void weft__many_add_result(struct weft__many *many, size_t index, weft_result result)
{
    assert(many->holds);
    many->waiting++;
    result = arrive(many, index, NULL, result);
    /* An error that came too late to be anybody's is reported like one that stays in a member. */
    if (weft_failed(result))
        weft_deferred_unref(weft_deferred_with_at(result, many->place));
    else
        weft_result_drop(result);
}

void weft__many_add(struct weft__many *many, size_t index, weft_deferred *member)
{
    weft_result *item = &many->results.items[index];

    assert(many->holds);
    if (member->flags & WEFT__CONSUMED) {
        weft__many_add_result(many, index, weft_fail(weft_error_new_at(
            &WEFT_MISUSE, member->made_at, "a deferred that somebody else waits for already was gathered")));
    } else {
        many->waiting++;
        *item = weft_own(member, mark_of(many));
        (many->rules->shares ? weft__deferred_attach : weft__deferred_consume)(member, member_ended, item);
    }
    weft_deferred_unref(member);
}

/* ---- life ---- */

size_t weft__many_size(size_t size, size_t count)
{
    /* So many that the size cannot be said are so many that there is no memory for them. */
    if (count > (SIZE_MAX - size) / sizeof(weft_result))
        return SIZE_MAX;
    return size + count * sizeof(weft_result);
}

weft_deferred *weft__many_init(struct weft__many *many, void *memory, const struct weft__many_rules *rules,
                               size_t count, const weft_place *place)
{
    *many = (struct weft__many){.rules = rules, .memory = memory, .place = place, .holds = 1};
    many->results.count = count;
    for (size_t i = 0; i < count; i++)
        many->results.items[i] = weft_ok(NULL);
    many->deferred = weft_deferred_new_at(cancelled, many, place);
    return weft_deferred_ref(many->deferred);
}

weft_deferred *weft__many_wait(const struct weft__many_rules *rules, weft_deferred *const *members, size_t count,
                               uint32_t flags, bool early, const weft_place *place)
{
    struct weft__many *many = weft_alloc(weft__many_size(sizeof *many, count));
    weft_deferred *deferred = weft__many_init(many, many, rules, count, place);

    many->flags = flags;
    many->early = early;
    /* The array is the caller's, and letting go of a member may run code of the caller's: first all of them are copied. */
    for (size_t i = 0; i < count; i++)
        many->results.items[i].value = members[i];
    for (size_t i = 0; i < count; i++)
        weft__many_add(many, i, many->results.items[i].value);
    weft__many_release(many);
    return deferred;
}

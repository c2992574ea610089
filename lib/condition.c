/* The condition: a line of those who wait for news, and two of those who want the lock back.
 *
 * A waiter goes from `waiting` to `leaving` when it is notified, cancelled or orphaned, which it carries with it; from there to
 * `taking` when it queues for the lock. The step between is there for the stack's sake: when the lock is free, queueing for
 * it runs the waiter's callbacks, which may notify the next; that one then waits in `leaving` for the loop. It is also why a
 * notify means those who waited at that moment, and nobody who comes back meanwhile.
 *
 * Whether a waiter was cancelled on the way is asked when it has the lock: its deferred knows. */
#include <weft/condition.h>

#include "lib/deferred.h"
#include "lib/tokens.h"
#include "lib/waits.h"

enum reason {
    NOTIFIED,
    CANCELLED,
    ORPHANED,
};

struct weft_condition {
    size_t references; /* one of its owner's, one of each waiter's, one of the loop's */
    weft_lock *lock;   /* a reference */
    struct weft__waiters waiting;
    struct weft__waiters leaving;
    struct weft__waiters taking;
    bool queueing; /* further up the C stack */
    bool freed;
};

/* ---- life ---- */

weft_condition *weft_condition_new(weft_lock *lock)
{
    weft_condition *condition = weft_alloc_zeroed(sizeof *condition);

    condition->references = 1;
    condition->lock = weft_lock_ref(lock);
    return condition;
}

static void condition_unref(weft_condition *condition)
{
    if (--condition->references)
        return;
    weft_lock_unref(condition->lock);
    weft_free(condition);
}

/* ---- the way back to the lock ---- */

static weft_result outcome_of(const struct weft__waiter *waiter, enum reason reason)
{
    weft_error *cancellation = weft_deferred_get_cancellation(waiter->deferred);

    if (cancellation)
        return weft_fail(weft_error_ref(cancellation));
    if (reason == ORPHANED)
        return weft_fail(weft__waiter_orphaned(waiter->place, "the condition"));
    return weft_ok(NULL);
}

/* The lock is the waiter's again: it keeps the grant without having it. */
static weft_result take(weft_result grant, void *arg)
{
    struct weft__waiter *waiter = arg;
    weft_condition *condition = waiter->owner;
    enum reason reason = (enum reason)(intptr_t)waiter->carried.value;
    weft_result outcome = outcome_of(waiter, reason);

    weft__holders_grant(grant.value, waiter->deferred);
    if (reason == NOTIFIED && weft_failed(outcome))
        weft_condition_notify(condition, 1);
    weft__waiter_fire(waiter, outcome);
    condition_unref(condition);
    return weft_ok(NULL);
}

static void queue_for_lock(weft_condition *condition)
{
    struct weft__waiter *waiter;

    if (condition->queueing)
        return;
    condition->queueing = true;
    condition->references++;
    while ((waiter = condition->leaving.first)) {
        weft_deferred *turn = weft_lock_acquire_at(condition->lock, waiter->place);

        weft__waiter_move(waiter, &condition->taking);
        weft__deferred_consume(turn, take, waiter);
        weft_deferred_unref(turn);
    }
    condition->queueing = false;
    condition_unref(condition);
}

static void leave(struct weft__waiter *waiter, enum reason reason)
{
    weft_condition *condition = waiter->owner;

    waiter->carried = weft_int(reason);
    weft__waiter_move(waiter, &condition->leaving);
}

weft_condition *weft_condition_free(weft_condition *condition)
{
    if (!condition)
        return NULL;
    condition->freed = true;
    while (condition->waiting.first)
        leave(condition->waiting.first, ORPHANED);
    queue_for_lock(condition);
    condition_unref(condition);
    return NULL;
}

/* ---- use ---- */

static weft_cancel_outcome cancel(weft_deferred *deferred, void *arg)
{
    struct weft__waiter *waiter = arg;
    weft_condition *condition = waiter->owner;

    (void)deferred;
    if (waiter->line == &condition->waiting) {
        leave(waiter, CANCELLED);
        queue_for_lock(condition);
    }
    return WEFT_CANCEL_LATER;
}

/* Until it is notified, somebody unknown is to do that; then it waits for the lock. */
static void name_holders(void *arg, struct weft__waits *waits)
{
    const struct weft__waiter *waiter = arg;
    const weft_condition *condition = waiter->owner;

    if (waiter->line == &condition->taking)
        weft__tokens_name_holders((const void *)condition->lock, waits);
    else
        weft__waits_what(waits, "notification");
}

const struct weft__wait_kind weft__condition_waits = {cancel, name_holders};

weft_deferred *weft_condition_wait_at(weft_condition *condition, const weft_place *place)
{
    weft_error *error = NULL;
    weft_deferred *deferred;

    if (!weft_lock_is_locked(condition->lock))
        error = weft_error_new_at(&WEFT_MISUSE, place, "a condition is waited for while nobody holds its lock");
    else if (condition->freed)
        error = weft__waiter_orphaned(place, "the condition");
    if (error)
        return weft_deferred_with_at(weft_fail(error), place);
    deferred = weft__waiters_join(&condition->waiting, cancel, condition, weft_ok(NULL), place);
    condition->references++;
    weft_lock_release_at(condition->lock, place);
    return deferred;
}

void weft_condition_notify(weft_condition *condition, size_t count)
{
    while (count-- && condition->waiting.first)
        leave(condition->waiting.first, NOTIFIED);
    queue_for_lock(condition);
}

void weft_condition_notify_all(weft_condition *condition)
{
    weft_condition_notify(condition, SIZE_MAX);
}

/* ---- looking ---- */

size_t weft_condition_get_waiting(const weft_condition *condition)
{
    return condition->waiting.count;
}

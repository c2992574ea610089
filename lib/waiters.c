/* A line of waiters: a list linked both ways. */
#include "lib/waiters.h"

static void push(struct weft__waiters *line, struct weft__waiter *waiter)
{
    waiter->line = line;
    waiter->next = NULL;
    waiter->previous = line->last;
    if (line->last)
        line->last->next = waiter;
    else
        line->first = waiter;
    line->last = waiter;
    line->count++;
}

static void take_out(struct weft__waiter *waiter)
{
    struct weft__waiters *line = waiter->line;

    if (waiter->previous)
        waiter->previous->next = waiter->next;
    else
        line->first = waiter->next;
    if (waiter->next)
        waiter->next->previous = waiter->previous;
    else
        line->last = waiter->previous;
    line->count--;
}

weft_deferred *weft__waiters_join(struct weft__waiters *line, weft_cancel_fn *canceller, void *owner,
                                  weft_result carried, const weft_place *place)
{
    struct weft__waiter *waiter = weft_alloc(sizeof *waiter);

    waiter->deferred = weft_deferred_new_at(canceller, waiter, place);
    waiter->place = place;
    waiter->owner = owner;
    waiter->carried = carried;
    push(line, waiter);
    return weft_deferred_ref(waiter->deferred);
}

void weft__waiter_move(struct weft__waiter *waiter, struct weft__waiters *line)
{
    take_out(waiter);
    push(line, waiter);
}

static weft_deferred *waiter_free(struct weft__waiter *waiter)
{
    weft_deferred *deferred = waiter->deferred;

    take_out(waiter);
    weft_free(waiter);
    return deferred;
}

void weft__waiter_leave(struct weft__waiter *waiter)
{
    weft_deferred_unref(waiter_free(waiter));
}

void weft__waiter_fire(struct weft__waiter *waiter, weft_result result)
{
    weft_deferred *deferred = waiter_free(waiter);

    weft_deferred_callback(deferred, result);
    weft_deferred_unref(deferred);
}

weft_cancel_outcome weft__waiter_cancel(weft_deferred *deferred, void *waiter)
{
    (void)deferred;
    weft__waiter_leave(waiter);
    return WEFT_CANCEL_DONE;
}

weft_error *weft__waiter_orphaned(const weft_place *place, const char *what)
{
    return weft_error_new_at(&WEFT_ORPHANED, place, "%s that this waits for was freed", what);
}

/* The event: a flag and a line.
 *
 * Each waiter carries its number, counted from the first ever. Setting says up to which number they are to be woken, and
 * wakes them one by one from the front of the one line: so those who wait again meanwhile are not meant, those who are
 * cancelled are simply gone, and a set inside a callback need only raise the number. */
#include <weft/event.h>

#include "lib/waiters.h"

struct weft_event {
    struct weft__waiters line;
    intptr_t next;        /* the number of the next waiter */
    intptr_t woken_below; /* those with smaller numbers are to be woken */
    bool set;
    bool waking; /* further up the C stack */
    bool freed;  /* goes when wake() has ended */
};

weft_event *weft_event_new(void)
{
    return weft_alloc_zeroed(sizeof(weft_event));
}

static bool wake_one(weft_event *event)
{
    struct weft__waiter *waiter = event->line.first;

    if (!waiter)
        return false;
    if ((intptr_t)waiter->carried.value < event->woken_below)
        weft__waiter_fire(waiter, weft_ok(NULL));
    else if (event->freed)
        weft__waiter_fire(waiter, weft_fail(weft__waiter_orphaned(waiter->place, "the event")));
    else
        return false;
    return true;
}

static void wake(weft_event *event)
{
    if (event->waking)
        return;
    event->waking = true;
    while (wake_one(event))
        ;
    event->waking = false;
    if (event->freed)
        weft_free(event);
}

weft_event *weft_event_free(weft_event *event)
{
    if (event) {
        event->freed = true;
        wake(event);
    }
    return NULL;
}

void weft_event_set(weft_event *event)
{
    event->set = true;
    event->woken_below = event->next;
    wake(event);
}

void weft_event_clear(weft_event *event)
{
    event->set = false;
}

weft_deferred *weft_event_wait_at(weft_event *event, const weft_place *place)
{
    if (event->set)
        return weft_deferred_with_at(weft_ok(NULL), place);
    if (event->freed)
        return weft_deferred_with_at(weft_fail(weft__waiter_orphaned(place, "the event")), place);
    return weft__waiters_join(&event->line, weft__waiter_cancel, NULL, weft_int(event->next++), place);
}

bool weft_event_is_set(const weft_event *event)
{
    return event->set;
}

size_t weft_event_get_waiting(const weft_event *event)
{
    return event->line.count;
}

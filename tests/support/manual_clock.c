#include "tests/support/manual_clock.h"


/* What it keeps in a timer. */
struct manual_timer {
    struct manual_timer *next;
    int64_t due;
    weft_timer *timer;
};
_Static_assert(sizeof(struct manual_timer) <= sizeof(((weft_timer *)0)->weft__private), "it fits");

static struct manual_timer *inside(weft_timer *timer)
{
    return (struct manual_timer *)timer->weft__private;
}

static int64_t manual_now(weft_clock *clock)
{
    return clock->recent;
}

static void manual_start(weft_clock *clock, weft_timer *timer, double seconds)
{
    struct manual_timer **at = &((struct manual_clock *)clock)->first, *entry = inside(timer);

    *entry = (struct manual_timer){.due = clock->recent + (seconds > 0 ? (int64_t)(seconds * 1e9) : 0), .timer = timer};
    while (*at && (*at)->due <= entry->due)
        at = &(*at)->next;
    entry->next = *at;
    *at = entry;
}

static void manual_stop(weft_clock *clock, weft_timer *timer)
{
    struct manual_timer **at = &((struct manual_clock *)clock)->first;

    while (*at != inside(timer))
        at = &(*at)->next;
    *at = (*at)->next;
}

void manual_clock_init(struct manual_clock *manual)
{
    *manual = (struct manual_clock){.clock = {1000, manual_now, manual_start, manual_stop}};
}

void manual_clock_advance(struct manual_clock *manual, double seconds)
{
    int64_t end = manual->clock.recent + (int64_t)(seconds * 1e9);

    while (manual->first && manual->first->due <= end) {
        struct manual_timer *due = manual->first;

        manual->first = due->next;
        manual->clock.recent = due->due;
        weft_timer_fire(due->timer);
    }
    manual->clock.recent = end;
}

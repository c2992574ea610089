/* Draining the ready queue, and the shuffled order that tests ask for. */
#include "lib/thread.h"

enum { EXTRA = 64, PART_OF_WINDOW = 4 };

static void drain_share(struct weft__ready *ready)
{
    struct weft__runnable *next;

    ready->share = ready->count + EXTRA;
    while ((next = weft__ready_next(ready))) {
        weft__ready_pop(ready);
        next->run(next);
    }
    ready->share = 0;
}

/* Some 25 µs: so long sockets and timers wait for those that yield all the time. */
static bool took_no_time(uint64_t began)
{
    return weft__ticks() - began < weft__thread.books.window_length / PART_OF_WINDOW;
}

void weft__ready_drain(struct weft__ready *ready)
{
    uint64_t began;

    if (!ready->first)
        return;
    began = weft__ticks();
    do
        drain_share(ready);
    while (ready->first && took_no_time(began));
}

/* xorshift: any state but 0 leads through all others. */
static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Takes the queue as a ring and turns it: who was before the one picked is last. For tests, so its length may be walked. */
void weft__ready_shuffle(struct weft__ready *ready)
{
    size_t skip = (size_t)(random_next(&ready->seed) % ready->count);

    while (skip--) {
        struct weft__runnable *moved = ready->first;

        ready->first = moved->next;
        moved->next = NULL;
        ready->last->next = moved;
        ready->last = moved;
    }
}

/* Draining the ready queue, and the shuffled order that tests ask for.
 *
 * Shuffled, those that are ready lie in an array, from which any one is picked: a list would have to be walked for each,
 * which is hopeless for a hundred thousand. Picking goes by rounds so that nobody is passed over for ever: who is ready
 * when a round begins is picked in it, among all that come meanwhile, and when the round has become four times as long,
 * alone.
 *
 * Pushing and popping know nothing of that. So the list of a shuffled queue always has `mark` in it: whoever stands
 * before it has been picked, and those behind it have come since. */
#include <assert.h>

#include "lib/thread.h"

enum { EXTRA = 64, PART_OF_WINDOW = 4, PATIENCE = 4 };

struct weft__shuffle {
    struct weft__runnable mark;
    struct weft__runnable **bag;
    size_t count; /* in the bag; those of this round are the first `old` of them */
    size_t old;
    size_t room;
    size_t patience; /* so many more may be picked before those of this round are alone */
    uint64_t state;
};

void weft__ready_drain_share(struct weft__ready *ready)
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

    if (!ready->count)
        return;
    began = weft__ticks();
    do
        weft__ready_drain_share(ready);
    while (ready->count && took_no_time(began));
}

/* ---- shuffled ---- */

/* splitmix64: what begins with 1 looks no less random than what begins with a large number. */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static void bag_put(struct weft__shuffle *shuffle, struct weft__runnable *runnable)
{
    if (shuffle->count == shuffle->room) {
        shuffle->room = shuffle->room ? shuffle->room * 2 : 16;
        shuffle->bag = weft_realloc(shuffle->bag, shuffle->room * sizeof(void *));
    }
    shuffle->bag[shuffle->count++] = runnable;
}

/* The last ones fill the holes, so that those of this round stay first. */
static struct weft__runnable *bag_take(struct weft__shuffle *shuffle, size_t index)
{
    struct weft__runnable *taken = shuffle->bag[index];

    if (index < shuffle->old) {
        shuffle->bag[index] = shuffle->bag[--shuffle->old];
        index = shuffle->old;
    }
    shuffle->bag[index] = shuffle->bag[--shuffle->count];
    return taken;
}

static struct weft__runnable *bag_take_any(struct weft__shuffle *shuffle)
{
    size_t among;

    if (!shuffle->old) {
        shuffle->old = shuffle->count;
        shuffle->patience = shuffle->count * PATIENCE;
    }
    among = shuffle->patience ? shuffle->count : shuffle->old;
    shuffle->patience -= shuffle->patience != 0;
    return bag_take(shuffle, random_next(&shuffle->state) % among);
}

/* Takes those that have come, all of them. */
static void bag_fill(struct weft__ready *ready, struct weft__shuffle *shuffle)
{
    struct weft__runnable *next;

    for (struct weft__runnable *runnable = ready->first; runnable; runnable = next) {
        next = runnable->next;
        if (runnable != &shuffle->mark)
            bag_put(shuffle, runnable);
    }
}

static void set_list(struct weft__ready *ready, struct weft__runnable *first, struct weft__runnable *last)
{
    ready->first = first;
    ready->last = last;
    if (last)
        last->next = NULL;
}

void weft__ready_pick(struct weft__ready *ready)
{
    struct weft__shuffle *shuffle = ready->shuffled;
    struct weft__runnable *picked;

    if (ready->first != &shuffle->mark)
        return; /* it was picked before, and could not run where that was asked */
    bag_fill(ready, shuffle);
    picked = bag_take_any(shuffle);
    picked->next = &shuffle->mark;
    set_list(ready, picked, &shuffle->mark);
}

static void shuffle_begin(struct weft__ready *ready, uint64_t seed)
{
    struct weft__shuffle *shuffle = weft_alloc_zeroed(sizeof *shuffle);

    shuffle->state = seed;
    bag_fill(ready, shuffle);
    set_list(ready, &shuffle->mark, &shuffle->mark);
    ready->shuffled = shuffle;
}

static void shuffle_end(struct weft__ready *ready)
{
    struct weft__shuffle *shuffle = ready->shuffled;
    size_t count = ready->count;

    bag_fill(ready, shuffle);
    set_list(ready, NULL, NULL);
    ready->count = 0;
    for (size_t i = 0; i < shuffle->count; i++)
        weft__ready_push(ready, shuffle->bag[i]);
    assert(ready->count == count);
    (void)count;
    weft_free(shuffle->bag);
    weft_free(shuffle);
    ready->shuffled = NULL;
}

void weft__ready_shuffle(struct weft__ready *ready, uint64_t seed)
{
    if (ready->shuffled)
        shuffle_end(ready);
    if (seed)
        shuffle_begin(ready, seed);
}

void weft__ready_clear(struct weft__ready *ready)
{
    struct weft__shuffle *shuffle = ready->shuffled;

    ready->count = 0;
    set_list(ready, NULL, NULL);
    if (shuffle) {
        shuffle->count = shuffle->old = 0;
        set_list(ready, &shuffle->mark, &shuffle->mark);
    }
}

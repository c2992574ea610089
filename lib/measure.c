/* Measured blocks: a child of the current context, whose account is in the block's totals as well. */
#include <string.h>

#include <weft/measure.h>

#include "lib/description.h"
#include "lib/totals.h"

_Static_assert(sizeof(struct weft__flight) <= sizeof(((weft_measured *)0)->weft__flight), "a block has room for its flight");

static struct weft__flight *flight_of(weft_measured *measured)
{
    return (struct weft__flight *)measured->weft__flight;
}

weft_measured *weft_measured_begin(weft_measured *measured, weft_description *description, const weft_place *place)
{
    const weft_description *counted = weft__description_counted(description);
    struct weft__totals *totals = weft__totals_get(&weft__block_family, counted, (const char *const[]){counted->name});
    weft_context *current = weft__thread.context;
    weft_context *context = current ? weft_context_new_child(current, NULL) : weft_context_new(counted->name);

    weft__context_join(context, &totals->series);
    weft__flight_begin(flight_of(measured), totals);
    measured->weft__block = weft_context_block_enter(context, true, place);
    return measured;
}

void weft_measured_end(weft_measured *measured)
{
    weft_context_block_leave(&measured->weft__block);
    weft__flight_end(flight_of(measured));
}

struct wanted {
    const char *name;
    weft_measurements found;
};

static void take_wanted(const struct weft__totals_sum *sum, void *arg)
{
    struct wanted *wanted = arg;

    if (!strcmp(sum->labels[0], wanted->name))
        wanted->found = (weft_measurements){
            .started = (uint64_t)sum->started,
            .in_flight = (uint64_t)sum->in_flight,
            .wall_ns = sum->wall_ns,
            .ages_ns = sum->ages_ns,
            .oldest_ns = sum->oldest_ns,
            .usage = sum->usage,
        };
}

weft_measurements weft_measurements_get(const weft_description *description)
{
    struct wanted wanted = {.name = description->name};

    weft__books_close_window(&weft__thread.books);
    weft__totals_each(&weft__block_family, take_wanted, &wanted);
    return wanted.found;
}

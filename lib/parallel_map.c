/* A gather whose members are begun one after the other, so many at a time.
 *
 * There are no runners that each take the next item, as in Synapse's concurrently_execute: there, one that fails leaves the
 * others taking items behind the caller's back. Here the next is begun where the end of one is looked at, in a loop: a
 * million items that end at once take no C stack. */
#include <weft/context.h>

#include "lib/context.h"
#include "lib/many.h"

struct map {
    weft_map_fn *fn;
    void *arg;
    size_t limit;
    size_t next;           /* to be begun */
    weft_context *context; /* in which they are; a reference, until all are begun */
    struct weft__many many;
};

static struct map *map_of(struct weft__many *many)
{
    return (struct map *)((char *)many - offsetof(struct map, many));
}

static weft_result call(const struct map *map, size_t index)
{
    weft_context *caller = weft__context_swap(weft__context_ref(map->context));
    weft_result result = map->fn(index, map->arg);

    weft_context_unref(weft__context_swap(caller));
    return result;
}

static void begin(struct map *map)
{
    size_t index = map->next++;
    weft_result result = call(map, index);

    if (result.type == &weft_deferred_type)
        weft__many_add(&map->many, index, result.value);
    else
        weft__many_add_result(&map->many, index, result);
}

static bool map_more(struct weft__many *many)
{
    struct map *map = map_of(many);

    if (many->decided || many->reason || map->next == many->results.count) {
        map->context = weft_context_unref(map->context);
        return false;
    }
    if (many->waiting >= map->limit)
        return false;
    begin(map);
    return true;
}

static weft_result map_completed(struct weft__many *many)
{
    if (map_of(many)->next < many->results.count)
        return weft_fail(weft_error_ref(many->reason));
    return weft__many_give_results(many);
}

weft_deferred *weft_parallel_map_at(size_t count, size_t limit, weft_map_fn *fn, void *arg, const weft_place *place)
{
    static const struct weft__many_rules rules = {
        .arrived = weft__gather_arrived, .completed = map_completed, .more = map_more};
    weft_deferred *deferred;
    struct map *map;

    if (!limit)
        return weft_deferred_with_at(
            weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "a map with a limit of 0 never ends")), place);
    map = weft_alloc(weft__many_size(sizeof *map, count));
    deferred = weft__many_init(&map->many, map, &rules, count, place);
    map->fn = fn;
    map->arg = arg;
    map->limit = limit;
    map->next = 0;
    map->context = weft__context_ref(weft__thread.context);
    weft__many_release(&map->many);
    return deferred;
}

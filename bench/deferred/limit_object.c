/* Running is one loop, also through objects that wait for one another; slots beyond two are a vector. */
#include "bench/deferred/limit_object.h"

#include <stdint.h>
#include <stdlib.h>

enum { INLINE_SLOTS = 2, CHUNK = 128 };

struct slot {
    limit_fn *fn;
    void *arg;
};

struct limit {
    void *value;
    limit *outer; /* waits for this one; free: the next free one */
    struct slot slots[INLINE_SLOTS];
    struct slot *more;
    uint32_t next, used, capacity;
};

static limit *free_objects;

static __attribute__((noinline)) void grow(void)
{
    limit *chunk = malloc(CHUNK * sizeof *chunk);

    if (!chunk)
        abort();
    for (int i = CHUNK; i--; free_objects = &chunk[i])
        chunk[i].outer = free_objects;
}

limit *limit_new(void)
{
    limit *object;

    if (!free_objects)
        grow();
    object = free_objects;
    free_objects = object->outer;
    object->outer = NULL;
    object->more = NULL;
    object->next = object->used = object->capacity = 0;
    return object;
}

static __attribute__((noinline)) void grow_slots(limit *object)
{
    object->capacity = object->capacity ? 2 * object->capacity : 4;
    object->more = realloc(object->more, object->capacity * sizeof *object->more);
    if (!object->more)
        abort();
}

void limit_add(limit *object, limit_fn *fn, void *arg)
{
    uint32_t n = object->used++;

    if (n < INLINE_SLOTS) {
        object->slots[n] = (struct slot){fn, arg};
        return;
    }
    n -= INLINE_SLOTS;
    if (n == object->capacity)
        grow_slots(object);
    object->more[n] = (struct slot){fn, arg};
}

void limit_fire(limit *object, void *value)
{
    while (object) {
        for (uint32_t n = object->next; n < object->used; n++) {
            struct slot *slot = n < INLINE_SLOTS ? &object->slots[n] : &object->more[n - INLINE_SLOTS];
            limit_result result = slot->fn(value, slot->arg);

            if (result.later) {
                object->next = n + 1;
                result.later->outer = object;
                return;
            }
            value = result.value;
        }
        object->value = value;
        object = object->outer;
    }
}

void limit_free(limit *object)
{
    if (object->more)
        free(object->more);
    object->outer = free_objects;
    free_objects = object;
}

void *limit_value(const limit *object)
{
    return object->value;
}

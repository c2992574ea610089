/* The rows of the limit: bench/deferred/limit_object.c. */
#include "bench/common/measure.h"
#include "bench/deferred/limit_object.h"

enum { BATCH = 100, MOST = 1000000 };

static limit_result sum(void *value, void *total)
{
    *(long *)total += (intptr_t)value;
    return (limit_result){value, NULL};
}

static limit_result wait_for(void *value, void *inner)
{
    (void)value;
    return (limit_result){NULL, inner};
}

static void create(long operations, long size)
{
    limit *objects[BATCH] = {0};

    for (long done = 0; done < operations; done += size) {
        for (long i = 0; i < size; i++)
            objects[i] = limit_new();
        check(objects[0] && objects[0] != objects[size - 1], "new ones");
        for (long i = 0; i < size; i++)
            limit_free(objects[i]);
    }
}

static void create_add_fire_free(long operations, long size)
{
    long total = 0;

    (void)size;
    for (long i = 0; i < operations; i++) {
        limit *object = limit_new();

        limit_add(object, sum, &total);
        limit_fire(object, (void *)2);
        limit_free(object);
    }
    check(total == 2 * operations, "the sum of what callbacks got");
}

static void two_callbacks(long operations, long size)
{
    long total = 0;

    (void)size;
    for (long i = 0; i < operations; i++) {
        limit *object = limit_new();

        limit_add(object, sum, &total);
        limit_add(object, sum, &total);
        limit_fire(object, (void *)2);
        limit_free(object);
    }
    check(total == 4 * operations, "the sum of what two callbacks got");
}

static void chain_link(long operations, long size)
{
    long total = 0;

    (void)size;
    for (long i = 0; i < operations; i++) {
        limit *outer = limit_new(), *inner = limit_new();

        limit_add(outer, wait_for, inner);
        limit_add(outer, sum, &total);
        limit_fire(outer, NULL);
        limit_fire(inner, (void *)2);
        limit_free(inner);
        limit_free(outer);
    }
    check(total == 2 * operations, "the sum of what inner ones brought");
}

static void callbacks(long operations, long size)
{
    for (long done = 0; done < operations; done += size) {
        limit *object = limit_new();
        long total = 0;

        for (long i = 0; i < size; i++)
            limit_add(object, sum, &total);
        limit_fire(object, (void *)2);
        limit_free(object);
        check(total == 2 * size, "the sum of what many callbacks got");
    }
}

static limit *chain[MOST + 1];

static void links(long operations, long size)
{
    for (long done = 0; done < operations; done += size) {
        long total = 0;

        for (long i = 0; i <= size; i++)
            chain[i] = limit_new();
        for (long i = 0; i < size; i++)
            limit_add(chain[i], wait_for, chain[i + 1]);
        limit_add(chain[0], sum, &total);
        for (long i = 0; i <= size; i++)
            limit_fire(chain[i], (void *)2);
        for (long i = 0; i <= size; i++)
            limit_free(chain[i]);
        check(total == 2, "what came out of a chain");
    }
}

static const struct row rows[] = {
    {"create", create, 4000000, BATCH},
    {"create_add_fire_free", create_add_fire_free, 4000000, 1},
    {"two_callbacks", two_callbacks, 4000000, 1},
    {"chain_link", chain_link, 2000000, 1},
    {"callbacks_1000", callbacks, 2000000, 1000},
    {"callbacks_10000", callbacks, 2000000, 10000},
    {"callbacks_100000", callbacks, 2000000, 100000},
    {"callbacks_1000000", callbacks, 2000000, MOST},
    {"links_1000", links, 2000000, 1000},
    {"links_10000", links, 2000000, 10000},
    {"links_100000", links, 2000000, 100000},
    {"links_1000000", links, 2000000, MOST},
};

int main(int argc, char **argv)
{
    return measure_rows(rows, sizeof rows / sizeof rows[0], argc, argv);
}

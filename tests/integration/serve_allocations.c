/* serve_allocations: what contexts are charged for memory by the allocator that this program runs with, a line each of what
 * was asked for and what was charged. Started by tests/integration/test_allocations.c, with jemalloc and without. */
#include <stdio.h>
#include <stdlib.h>

#include <weft/weft.h>

static void allocate(size_t size, int times)
{
    for (int i = 0; i < times; i++) {
        char *volatile memory = malloc(size);

        *memory = 'x';
        free(memory);
    }
}

static long charged(weft_context *context)
{
    return (long)weft_context_get_usage(context).allocated_bytes;
}

static void tell(const char *what, long asked, weft_context *context)
{
    printf("%s %ld %ld\n", what, asked, charged(context));
}

static weft_result allocate_in_turns(void *size)
{
    for (int i = 0; i < 10; i++) {
        allocate(*(size_t *)size, 100);
        WEFT_TRY(weft_yield());
    }
    return weft_ok(NULL);
}

static weft_deferred *spawn_in(weft_context *context, size_t *size)
{
    weft_deferred *deferred = NULL;

    weft_preserve_context(context)
        deferred = weft_spawn(allocate_in_turns, size);
    return deferred;
}

static void tell_fibers(weft_context *parent)
{
    weft_context *small = weft_context_new_child(parent, "small"), *large = weft_context_new_child(parent, "large");
    size_t of_small = 64, of_large = 4096;
    weft_reactor *reactor;
    weft_deferred *first, *second;

    if (weft_reactor_new(&reactor))
        exit(1);
    first = spawn_in(small, &of_small);
    second = spawn_in(large, &of_large);
    weft_result_drop(weft_reactor_run_until(reactor, first));
    weft_result_drop(weft_reactor_run_until(reactor, second));
    tell("small", 64L * 1000, small);
    tell("large", 4096L * 1000, large);
    weft_context_unref(small);
    weft_context_unref(large);
    weft_reactor_free(reactor);
}

int main(void)
{
    weft_context *context = weft_context_new("x"), *parent = weft_context_new("parent");

    charged(NULL);
    allocate(1 << 20, 10); /* in none */
    tell("nothing", 0, context);
    weft_preserve_context(context) {
        allocate(100000, 50);
        tell("inside", 100000L * 50, context); /* while it runs */
        allocate(1000, 1);
    }
    tell("after", 100000L * 50 + 1000, context);
    tell_fibers(parent);
    tell("parent", (64L + 4096) * 1000, parent);
    weft_context_unref(context);
    weft_context_unref(parent);
    return 0;
}

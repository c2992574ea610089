/* Bound deferreds are few, and the others should not carry a pointer for them: a table of the thread has their contexts. */
#include <assert.h>

#include "lib/bound.h"
#include "lib/context.h"
#include "lib/uthash.h"

struct bound {
    const weft_deferred *deferred;
    weft_context *context; /* a reference, or NULL */
    UT_hash_handle hh;
};

static __thread struct bound *table;

/* It is there. */
static struct bound *find(const weft_deferred *deferred)
{
    struct bound *bound;

    HASH_FIND_PTR(table, &deferred, bound);
    assert(bound);
    return bound;
}

void weft__bound_add(weft_deferred *deferred, weft_context *context)
{
    struct bound *bound = weft_alloc(sizeof *bound);

    bound->deferred = deferred;
    bound->context = weft__context_ref(context);
    HASH_ADD_PTR(table, deferred, bound);
}

weft_context *weft__bound_find(const weft_deferred *deferred)
{
    return find(deferred)->context;
}

void weft__bound_remove(const weft_deferred *deferred)
{
    struct bound *bound = find(deferred);

    HASH_DELETE(hh, table, bound);
    weft_context_unref(bound->context);
    weft_free(bound);
}

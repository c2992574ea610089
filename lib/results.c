/* Results that belong together. A weft_results is the end of what gathered it (lib/many.h), so that there is one
 * allocation for both. */
#include <weft/error.h>

#include "lib/many.h"

static void results_unref(void *value)
{
    weft_results_free(value);
}

static void indexed_unref(void *value)
{
    weft_indexed_free(value);
}

const weft_type weft_results_type = {"results", NULL, results_unref};
const weft_type weft_indexed_type = {"indexed", NULL, indexed_unref};

weft_results *weft_results_free(weft_results *results)
{
    if (!results)
        return NULL;
    for (size_t i = 0; i < results->count; i++)
        weft_result_drop(results->items[i]);
    weft_free(weft__many_of(results)->memory);
    return NULL;
}

weft_result weft_results_take_at(weft_results *results, size_t index, const weft_place *place)
{
    weft_result result;

    if (index >= results->count)
        return weft_fail(
            weft_error_new_at(&WEFT_MISUSE, place, "result %zu was taken of %zu", index, results->count));
    result = results->items[index];
    results->items[index] = weft_ok(NULL);
    return result;
}

weft_indexed *weft__indexed_new(size_t index, weft_result result)
{
    weft_indexed *indexed = weft_alloc(sizeof *indexed);

    *indexed = (weft_indexed){index, result};
    return indexed;
}

weft_indexed *weft_indexed_free(weft_indexed *indexed)
{
    if (indexed)
        weft_result_drop(indexed->result);
    weft_free(indexed);
    return NULL;
}

weft_result weft_indexed_take(weft_indexed *indexed)
{
    weft_result result = indexed->result;

    indexed->result = weft_ok(NULL);
    return result;
}

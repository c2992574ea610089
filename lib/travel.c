/* Going to another thread: who is alone may go, for who is not goes a copy. */
#include "lib/travel.h"

#include <string.h>

#include <weft/results.h>

#include "lib/error.h"

/* ---- whether it is held by nobody but its holder, and so is what it holds; and how many errors that are ---- */

static bool result_alone(weft_result result, size_t *errors);

static bool error_alone(const weft_error *error, size_t *errors)
{
    for (; error; error = error->cause) {
        if (error->references > 1)
            return false;
        ++*errors;
        if (error->origin) {
            error = error->origin;
            if (error->references > 1)
                return false;
            ++*errors;
        }
        if (!result_alone(error->payload, errors))
            return false;
    }
    return true;
}

static bool results_alone(const weft_results *results, size_t *errors)
{
    for (size_t i = 0; i < results->count; i++) {
        if (!result_alone(results->items[i], errors))
            return false;
    }
    return true;
}

static bool result_alone(weft_result result, size_t *errors)
{
    if (!result.value)
        return true;
    if (weft_failed(result))
        return error_alone(weft_failed(result), errors);
    if (result.type == &weft_results_type)
        return results_alone(result.value, errors);
    if (result.type == &weft_indexed_type)
        return result_alone(((const weft_indexed *)result.value)->result, errors);
    return true;
}

/* ---- copies ---- */

static weft_error *copy_one(const weft_error *error)
{
    const weft_error *origin = error->origin ? error->origin : error;
    bool formatted = origin->message == origin->formatted;
    size_t size = formatted ? strlen(origin->message) + 1 : 0, trace_size = error->trace_length * sizeof(const weft_place *);
    weft_error *copy = weft_alloc(sizeof *copy + size);

    *copy = *origin;
    copy->references = 1;
    copy->index_plus_one = error->index_plus_one;
    copy->trace_length = copy->trace_capacity = error->trace_length;
    copy->trace = trace_size ? memcpy(weft_alloc(trace_size), error->trace, trace_size) : NULL;
    if (formatted)
        copy->message = memcpy(copy->formatted, origin->message, size);
    if (origin->payload.type != &weft_int_type)
        copy->payload = weft_ok(NULL);
    weft__thread.live.errors++;
    return copy;
}

static weft_error *copy_all(const weft_error *error)
{
    weft_error *first = copy_one(error), *last = first;

    while (last->cause)
        last = last->cause = copy_one(last->cause);
    return first;
}

/* ---- leaving ---- */

static weft_result error_leave(weft_error *error, size_t *errors)
{
    size_t alone = 0;

    if (!error_alone(error, &alone)) {
        weft_error *copy = copy_all(error);

        weft_error_unref(error);
        error = copy;
        alone = 0;
        error_alone(error, &alone);
    }
    weft__thread.live.errors -= alone;
    *errors += alone;
    return weft_fail(error);
}

static weft_result leave(weft_result result, size_t *errors)
{
    weft_results *results = result.value;
    weft_indexed *indexed = result.value;

    if (!result.value)
        return result;
    if (weft_failed(result))
        return error_leave(weft_failed(result), errors);
    for (size_t i = 0; result.type == &weft_results_type && i < results->count; i++)
        results->items[i] = leave(results->items[i], errors);
    if (result.type == &weft_indexed_type)
        indexed->result = leave(indexed->result, errors);
    return result;
}

weft_result weft__result_leave(weft_result result, size_t *errors)
{
    *errors = 0;
    return leave(result, errors);
}

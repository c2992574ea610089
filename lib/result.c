/* The types that results of the core have. */
#include <weft/deferred.h>
#include <weft/error.h>

static void *error_ref(void *value)
{
    return weft_error_ref(value);
}

static void error_unref(void *value)
{
    weft_error_unref(value);
}

static void deferred_unref(void *value)
{
    weft_deferred_unref(value);
}

const weft_type weft_error_type = {"error", error_ref, error_unref};
const weft_type weft_deferred_type = {"deferred", NULL, deferred_unref};
const weft_type weft_int_type = {"int", NULL, NULL};

weft_result weft_result_passed(weft_result failure, const weft_place *place)
{
    return weft_fail(weft_error_passed(failure.value, place));
}

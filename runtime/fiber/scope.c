/* Running a function of a fiber's in a scope. The scopes themselves are in lib/scope.c: they need no fibers. */
#include <weft/scope.h>

static weft_result run_in(weft_scope *scope, weft_fiber_fn *fn, void *arg, const weft_place *place)
{
    weft_result result;

    if (!scope)
        return weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "a scope is entered outside a fiber"));
    result = fn(arg);
    while (result.type == &weft_deferred_type)
        result = weft_await_at(result.value, place);
    return weft_scope_leave(&scope, result);
}

static weft_result run_for(double seconds, bool move_on, weft_fiber_fn *fn, void *arg, const weft_place *place)
{
    weft_scope_options options = {.timeout = seconds > 0 ? seconds : -1, .move_on = move_on};

    return run_in(weft_scope_enter_at(options, place), fn, arg, place);
}

weft_result weft_fail_after_at(double seconds, weft_fiber_fn *fn, void *arg, const weft_place *place)
{
    return run_for(seconds, false, fn, arg, place);
}

weft_result weft_move_on_after_at(double seconds, weft_fiber_fn *fn, void *arg, const weft_place *place)
{
    return run_for(seconds, true, fn, arg, place);
}

weft_result weft_shield_at(weft_fiber_fn *fn, void *arg, const weft_place *place)
{
    return weft_shield_with_at(fn, arg, (weft_shield_options){0}, place);
}

weft_result weft_shield_with_at(weft_fiber_fn *fn, void *arg, weft_shield_options options, const weft_place *place)
{
    return run_in(weft_shield_enter_at(options, place), fn, arg, place);
}

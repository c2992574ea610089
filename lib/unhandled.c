/* Errors that nobody took: told once, to one hook.
 *
 * A deferred with such an error tells of it when its last reference goes. Those that are still alive at the end of a loop
 * are found by walking the thread's slab, so that nothing has to be kept in a list on every deferred's way. */
#include <weft/log.h>

#include "lib/context.h"
#include "lib/counts.h"
#include "lib/deferred.h"
#include "lib/unhandled.h"

static weft_unhandled_fn *hook = weft_unhandled_log;
static void *hook_arg;

void weft_deferred_set_unhandled_hook(weft_unhandled_fn *fn, void *arg)
{
    hook = fn ? fn : weft_unhandled_log;
    hook_arg = arg;
}

void weft_unhandled_log(const weft_unhandled *unhandled, void *arg)
{
    const weft_place *made = unhandled->made_at, *fired = unhandled->fired_at;
    weft_context *previous = weft__context_swap(unhandled->context);
    char text[1024];

    (void)arg;
    weft_error_print(unhandled->error, text, sizeof text);
    weft_log_error("unhandled error in the deferred made at %s:%d %s, fired at %s:%d %s: %s", made->file, made->line,
                   made->function, fired->file, fired->line, fired->function, text);
    weft__context_swap(previous);
}

void weft__unhandled_report(weft_deferred *d)
{
    weft_error *error = d->result.value;
    weft_unhandled unhandled = {error, d->made_at, d->fired.at, d->fired.failed_in};

    if (d->flags & WEFT__REPORTED || (d->flags & WEFT__UNWANTED && weft_error_is(error, &WEFT_CANCELLED)))
        return;
    d->flags |= WEFT__REPORTED;
    weft__count(&weft__counts.unhandled);
    hook(&unhandled, hook_arg);
}

/* Whether its error is final: one that waits to be handled is not unhandled yet. */
static bool holds_error(const weft_deferred *d)
{
    return (d->flags & (WEFT__DONE | WEFT__RUNNING | WEFT__USED)) == WEFT__DONE && !d->more && weft_failed(d->result);
}

struct living {
    weft_deferred **list; /* with a reference to each */
    size_t count;
};

static void note_living(void *object, void *arg)
{
    struct living *living = arg;

    if (!holds_error(object))
        return;
    living->list = weft_realloc(living->list, (living->count + 1) * sizeof(weft_deferred *));
    living->list[living->count++] = weft_deferred_ref(object);
}

/* All are found before any is told of: the hook may let go of others. */
void weft_deferred_report_unhandled(void)
{
    struct living living = {0};

    weft__slab_each(&weft__thread.deferreds, sizeof(weft_deferred), note_living, &living);
    for (size_t i = 0; i < living.count; i++) {
        weft_deferred *d = living.list[i];

        if (holds_error(d))
            weft__unhandled_report(d);
        weft_deferred_unref(d);
    }
    weft_free(living.list);
}

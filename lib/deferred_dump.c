/* A deferred as a person wants to see it who asks why something does not go on. */
#include "lib/deferred.h"
#include "lib/text.h"

static void add_state(struct weft__text *text, const weft_deferred *d)
{
    static const char *const states[] = {"pending", "waiting", "done"};

    weft__text_add(text, "%s", states[weft_deferred_get_state(d)]);
    if (d->flags & WEFT__RUNNING)
        weft__text_add(text, ", its callbacks are running");
    if (d->pauses)
        weft__text_add(text, ", paused %u times", (unsigned)d->pauses);
}

static void add_fired(struct weft__text *text, const weft_deferred *d)
{
    if (weft__deferred_pending(d))
        return;
    weft__text_add(text, ", fired at ");
    weft__text_add_place(text, d->fired.at);
}

static void add_error(struct weft__text *text, const weft_error *error)
{
    weft__text_add(text, "%s: ", weft_error_get_kind(error)->name);
    weft__text_add_visible(text, weft_error_get_message(error));
}

static void add_cancellation(struct weft__text *text, const weft_deferred *d)
{
    const weft_error *cancellation = weft_deferred_get_cancellation(d);

    if (!cancellation)
        return;
    weft__text_add(text, ", asked to stop by ");
    add_error(text, cancellation);
    weft__text_add(text, " (");
    weft__text_add_place(text, weft_error_get_place(cancellation));
    weft__text_add(text, ")");
}

static void add_result(struct weft__text *text, const weft_deferred *d)
{
    weft_result result = weft_deferred_peek(d);

    if (result.type == &weft_deferred_type)
        return;
    weft__text_add(text, ", with ");
    if (weft_failed(result))
        add_error(text, weft_failed(result));
    else if (result.type)
        weft__text_add(text, "a value of type %s", result.type->name);
    else
        weft__text_add(text, "%s", result.value ? "a value" : "no value");
}

/* Who is to have its result. */
static void add_waiters(struct weft__text *text, const weft_deferred *d)
{
    const weft_deferred *outer;
    size_t callbacks = weft__deferred_count_callbacks(d, &outer);

    if (callbacks)
        weft__text_add(text, ", %zu callback%s waiting", callbacks, callbacks == 1 ? "" : "s");
    if (outer) {
        weft__text_add(text, ", taken over by the one made at ");
        weft__text_add_place(text, outer->made_at);
    } else if (d->flags & WEFT__CONSUMED) {
        weft__text_add(text, ", handed over");
    }
}

void weft__deferred_describe(struct weft__text *text, const weft_deferred *d)
{
    add_state(text, d);
    add_fired(text, d);
    add_cancellation(text, d);
    add_result(text, d);
    add_waiters(text, d);
}

size_t weft_deferred_dump(const weft_deferred *d, char *bytes, size_t size)
{
    const char *before = "deferred made at ";
    struct weft__text text;

    weft__text_init(&text, bytes, size);
    for (; d; d = weft__deferred_waited_for(d), before = "\n  waits for the one made at ") {
        weft__text_add(&text, "%s", before);
        weft__text_add_place(&text, d->made_at);
        weft__text_add(&text, ": ");
        weft__deferred_describe(&text, d);
    }
    return text.length;
}

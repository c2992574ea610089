/* Contexts of jobs. Asking for a usage settles the books of the thread: done right before and right after the job, while its
 * context is current, what they say in between is what the CPU clock of that thread says. */
#include "runtime/loop/job_context.h"

#include "lib/context.h"

static void copy_fields(struct weft__job_context *context)
{
    size_t room = 16;
    weft_field *fields = weft_alloc(room * sizeof *fields);
    size_t count;

    while ((count = weft_context_get_fields(context->caller, fields, room)) == room) {
        room *= 2;
        fields = weft_realloc(fields, room * sizeof *fields);
    }
    for (size_t i = 0; i < count; i++)
        fields[i] = (weft_field){weft_strdup(fields[i].name), weft_strdup(fields[i].value)};
    context->fields = fields;
    context->field_count = count;
}

void weft__job_context_init(struct weft__job_context *context)
{
    *context = (struct weft__job_context){.caller = weft_context_ref(weft_context_current())};
    if (!context->caller)
        return;
    context->name = weft_strdup(weft_context_get_name(context->caller));
    copy_fields(context);
}

void weft__job_context_enter(struct weft__job_context *context)
{
    if (context->name) {
        context->own = weft_context_new(context->name);
        for (size_t i = 0; i < context->field_count; i++)
            weft_context_set_field(context->own, context->fields[i].name, context->fields[i].value);
        weft_context_unref(weft_context_set(weft_context_ref(context->own)));
    }
    context->used = weft_context_get_usage(context->own); /* to be subtracted */
}

_Static_assert(sizeof(weft_usage) % sizeof(int64_t) == 0, "a usage is sums of int64_t");

static weft_usage used_since(weft_context *own, const weft_usage *before)
{
    weft_usage usage = weft_context_get_usage(own);

    for (size_t i = 0; i < sizeof usage / sizeof(int64_t); i++)
        ((int64_t *)&usage)[i] -= ((const int64_t *)before)[i];
    return usage;
}

void weft__job_context_leave(struct weft__job_context *context, const void *fn)
{
    context->used = used_since(context->own, &context->used);
    if (context->own && weft_context_current() == context->own)
        weft_context_unref(weft_context_set(NULL));
    weft__context_leave_callback(fn);
    context->own = weft_context_unref(context->own);
}

void weft__job_context_charge(const struct weft__job_context *context)
{
    weft_context *child;

    if (!context->caller) {
        weft_context_charge(NULL, &context->used);
        return;
    }
    child = weft_context_new_child(context->caller, NULL);
    weft_context_charge(child, &context->used);
    weft__context_end_last(child);
    weft_context_unref(child);
}

void weft__job_context_forsake(struct weft__job_context *context)
{
    context->caller = weft_context_unref(context->caller);
}

void weft__job_context_deinit(struct weft__job_context *context)
{
    for (size_t i = 0; i < context->field_count; i++) {
        weft_free((char *)context->fields[i].name);
        weft_free((char *)context->fields[i].value);
    }
    weft_free(context->fields);
    weft_free(context->name);
    weft_context_unref(context->caller);
}

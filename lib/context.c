/* Log contexts: a name, a count of references, an account.
 *
 * Most names are never read (a request whose line is not logged), so "GET-42" is put together when somebody asks. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include <weft/log.h>

#include "lib/context.h"

static weft_context *context_new(void)
{
    weft_context *context = weft__slab_take(&weft__thread.contexts, sizeof *context);

    *context = (weft_context){.references = 1};
    weft__thread.live.contexts++;
    return context;
}

weft_context *weft_context_new(const char *name)
{
    weft_context *context = context_new();

    context->name = weft_strdup(name);
    for (char *c = context->name; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    return context;
}

weft_context *weft_context_new_numbered(const char *prefix, uint64_t number)
{
    weft_context *context = context_new();

    context->prefix = prefix;
    context->number = number;
    return context;
}

weft_context *weft_context_ref(weft_context *context)
{
    return weft__context_ref(context);
}

weft_context *weft_context_unref(weft_context *context)
{
    if (!context || --context->references)
        return NULL;
    assert(weft__thread.context != context);
    weft__account_end(&weft__thread.books, &context->account);
    weft_free(context->name);
    weft__slab_give(&weft__thread.contexts, context);
    weft__thread.live.contexts--;
    return NULL;
}

weft_context *weft_context_current(void)
{
    return weft__thread.context;
}

weft_context *weft_context_set(weft_context *context)
{
    return weft__context_swap(context);
}

const char *weft_context_get_name(weft_context *context)
{
    if (!context)
        return "-";
    if (!context->name) {
        size_t size = (size_t)snprintf(NULL, 0, "%s-%" PRIu64, context->prefix, context->number) + 1;
        char *name = weft_alloc(size);

        snprintf(name, size, "%s-%" PRIu64, context->prefix, context->number);
        context->name = name; /* whole: a signal may look for it meanwhile */
    }
    return context->name;
}

void weft__context_take_away(const void *fn)
{
    weft_context *left = weft__context_swap(NULL);

    weft_log_error("the callback at %p left the context %s behind", fn, weft_context_get_name(left));
    weft_context_unref(left);
}

weft_usage weft_context_get_usage(weft_context *context)
{
    struct weft__books *books = &weft__thread.books;
    struct weft__account *account = context ? &context->account : &books->none;

    weft__books_close_window(books);
    return (weft_usage){account->user_ns, account->system_ns};
}

weft_accounts weft_accounts_get(void)
{
    struct weft__books *books = &weft__thread.books;

    weft__books_close_window(books);
    return (weft_accounts){
        .contexts_ns = books->contexts_ns,
        .none_ns = books->none.user_ns + books->none.system_ns,
        .thread_ns = books->closed_at - books->opened_at,
    };
}

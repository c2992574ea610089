/* A semaphore: tokens that are counted by reference. */
#include <weft/log.h>
#include <weft/semaphore.h>

#include "lib/tokens.h"

struct weft_semaphore {
    struct weft__tokens tokens; /* first */
    size_t references; /* holders need none: it lives while a token is held */
};

/* ---- life ---- */

static void release(weft_semaphore *semaphore)
{
    if (weft__tokens_release(&semaphore->tokens) && !semaphore->references)
        weft_free(semaphore);
}

static void drop(void *semaphore)
{
    release(semaphore);
}

const weft_type weft_semaphore_type = {"semaphore", NULL, drop};

weft_error *weft_semaphore_new(weft_semaphore **out, size_t limit)
{
    weft_semaphore *semaphore;

    if (!limit)
        return weft_error_new(&WEFT_MISUSE, "a semaphore without tokens would never let anybody through");
    semaphore = weft_alloc(sizeof *semaphore);
    semaphore->references = 1;
    weft__tokens_init(&semaphore->tokens, limit, weft_own(semaphore, &weft_semaphore_type));
    *out = semaphore;
    return NULL;
}

weft_semaphore *weft_semaphore_ref(weft_semaphore *semaphore)
{
    semaphore->references++;
    return semaphore;
}

weft_semaphore *weft_semaphore_unref(weft_semaphore *semaphore)
{
    if (semaphore && !--semaphore->references && weft__tokens_idle(&semaphore->tokens))
        weft_free(semaphore);
    return NULL;
}

/* ---- use ---- */

weft_deferred *weft_semaphore_acquire_at(weft_semaphore *semaphore, const weft_place *place)
{
    return weft__tokens_acquire(&semaphore->tokens, place);
}

void weft_semaphore_release_at(weft_semaphore *semaphore, const weft_place *place)
{
    if (weft__tokens_held(&semaphore->tokens))
        release(semaphore);
    else
        weft_log_error("misuse: a semaphore of which nobody holds a token is released at %s:%d %s", place->file,
                       place->line, place->function);
}

weft_deferred *weft_semaphore_run_at(weft_semaphore *semaphore, weft_semaphore_run_fn *fn, void *arg,
                                     const weft_place *place)
{
    return weft__tokens_run(&semaphore->tokens, fn, arg, place);
}

/* ---- looking ---- */

size_t weft_semaphore_get_tokens(const weft_semaphore *semaphore)
{
    return weft__tokens_free(&semaphore->tokens);
}

size_t weft_semaphore_get_limit(const weft_semaphore *semaphore)
{
    return semaphore->tokens.limit;
}

size_t weft_semaphore_get_waiting(const weft_semaphore *semaphore)
{
    return weft__tokens_waiting(&semaphore->tokens);
}

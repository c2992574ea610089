/* A lock: one token. */
#include <weft/lock.h>
#include <weft/log.h>

#include "lib/tokens.h"

struct weft_lock {
    struct weft__tokens tokens; /* first: see lib/tokens.h */
    size_t references; /* holders need none: it lives while it is held */
};

/* ---- life ---- */

static void release(weft_lock *lock)
{
    if (weft__tokens_release(&lock->tokens) && !lock->references)
        weft_free(lock);
}

static void drop(void *lock)
{
    release(lock);
}

const weft_type weft_lock_type = {"lock", NULL, drop};

weft_lock *weft_lock_new(void)
{
    weft_lock *lock = weft_alloc(sizeof *lock);

    lock->references = 1;
    weft__tokens_init(&lock->tokens, 1, weft_own(lock, &weft_lock_type));
    return lock;
}

weft_lock *weft_lock_ref(weft_lock *lock)
{
    lock->references++;
    return lock;
}

weft_lock *weft_lock_unref(weft_lock *lock)
{
    if (lock && !--lock->references && weft__tokens_idle(&lock->tokens))
        weft_free(lock);
    return NULL;
}

/* ---- use ---- */

weft_deferred *weft_lock_acquire_at(weft_lock *lock, const weft_place *place)
{
    return weft__tokens_acquire(&lock->tokens, place);
}

void weft_lock_release_at(weft_lock *lock, const weft_place *place)
{
    if (weft__tokens_held(&lock->tokens))
        release(lock);
    else
        weft_log_error("misuse: a lock that nobody holds is released at %s:%d %s", place->file, place->line,
                       place->function);
}

weft_deferred *weft_lock_run_at(weft_lock *lock, weft_lock_run_fn *fn, void *arg, const weft_place *place)
{
    return weft__tokens_run(&lock->tokens, fn, arg, place);
}

/* ---- looking ---- */

bool weft_lock_is_locked(const weft_lock *lock)
{
    return !weft__tokens_free(&lock->tokens);
}

size_t weft_lock_get_waiting(const weft_lock *lock)
{
    return weft__tokens_waiting(&lock->tokens);
}

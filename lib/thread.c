/* The per-thread struct, and what becomes of its memory when the thread ends. */
#include <pthread.h>

#include "lib/totals.h"

__thread struct weft__thread weft__thread;

static pthread_key_t leaving;
static pthread_once_t leaving_made = PTHREAD_ONCE_INIT;

/* Something still in use may be somebody's yet: rather a leak than a wild pointer. */
static void leave(void *arg)
{
    struct weft__thread *thread = arg;

    weft__totals_leave();
    if (!thread->live.deferreds) {
        weft__slab_clear(&thread->deferreds);
        weft__slab_clear(&thread->entries);
    }
    if (!thread->live.contexts)
        weft__slab_clear(&thread->contexts);
    if (!thread->live.scopes)
        weft__slab_clear(&thread->scopes);
}

static void make_leaving(void)
{
    pthread_key_create(&leaving, leave);
}

void weft__thread_arrange_leaving(void)
{
    pthread_once(&leaving_made, make_leaving);
    pthread_setspecific(leaving, &weft__thread);
}

weft_live_counts weft_live_counts_get(void)
{
    return weft__thread.live;
}

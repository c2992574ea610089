/* Each thread's buffer for log lines: see scratch.h. */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
#include <weft/base.h>

#include "runtime/observe/scratch.h"

enum { FIRST_SIZE = 8192 };

static __thread struct weft__scratch *mine;
static pthread_key_t key; /* whose destructor frees it */

static void scratch_free(void *scratch)
{
    mine = NULL; /* a destructor that runs later may log */
    weft_free(((struct weft__scratch *)scratch)->bytes);
    weft_free(scratch);
}

static void forked(void)
{
    if (mine)
        mine->thread = gettid();
}

static void prepare(void)
{
    if (pthread_key_create(&key, scratch_free))
        abort();
    pthread_atfork(NULL, NULL, forked);
}

static __attribute__((noinline)) void make_mine(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, prepare);
    mine = weft_alloc_zeroed(sizeof *mine);
    mine->thread = gettid();
    weft__scratch_grow(mine, FIRST_SIZE);
    pthread_setspecific(key, mine);
}

struct weft__scratch *weft__scratch_get(void)
{
    if (!mine)
        make_mine();
    return mine;
}

void weft__scratch_grow(struct weft__scratch *scratch, size_t size)
{
    weft_free(scratch->bytes);
    scratch->bytes = weft_alloc(size);
    scratch->size = size;
}

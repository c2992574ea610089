/* The linearizer: a table of tokens by key.
 *
 * Invariant: a key is in the table while a token of it is held, or on its way to a waiter. A grant is the key's entry: with
 * several holders all have the same. */
#include <weft/linearizer.h>

#include <string.h>

#include "lib/tokens.h"
#include "lib/uthash.h"

struct weft_linearizer_grant {
    struct weft__tokens tokens; /* first */
    weft_linearizer *linearizer;
    UT_hash_handle hh;
    char key[];
};

struct weft_linearizer {
    size_t references; /* holders need none: it lives while a key is in its table */
    size_t max_count;
    weft_linearizer_grant *keys;
    char name[];
};

/* ---- life ---- */

weft_error *weft_linearizer_new(weft_linearizer **out, const char *name, size_t max_count)
{
    size_t size = strlen(name) + 1;
    weft_linearizer *linearizer;

    if (!max_count)
        return weft_error_new(&WEFT_MISUSE, "the linearizer %s would never let anybody through", name);
    linearizer = weft_alloc(sizeof *linearizer + size);
    *linearizer = (weft_linearizer){.references = 1, .max_count = max_count};
    memcpy(linearizer->name, name, size);
    *out = linearizer;
    return NULL;
}

weft_linearizer *weft_linearizer_ref(weft_linearizer *linearizer)
{
    linearizer->references++;
    return linearizer;
}

static void free_if_unused(weft_linearizer *linearizer)
{
    if (!linearizer->references && !linearizer->keys)
        weft_free(linearizer);
}

weft_linearizer *weft_linearizer_unref(weft_linearizer *linearizer)
{
    if (linearizer) {
        linearizer->references--;
        free_if_unused(linearizer);
    }
    return NULL;
}

/* ---- keys ---- */

static weft_linearizer_grant *find(const weft_linearizer *linearizer, const char *key)
{
    weft_linearizer_grant *grant;

    HASH_FIND_STR(linearizer->keys, key, grant);
    return grant;
}

void weft_linearizer_release(weft_linearizer_grant *grant)
{
    weft_linearizer *linearizer = grant->linearizer;

    if (!weft__tokens_release(&grant->tokens))
        return;
    HASH_DEL(linearizer->keys, grant);
    weft_free(grant);
    free_if_unused(linearizer);
}

static void drop(void *grant)
{
    weft_linearizer_release(grant);
}

const weft_type weft_linearizer_type = {"linearizer", NULL, drop};

static weft_linearizer_grant *add(weft_linearizer *linearizer, const char *key)
{
    size_t length = strlen(key);
    weft_linearizer_grant *grant = weft_alloc(sizeof *grant + length + 1);

    grant->linearizer = linearizer;
    weft__tokens_init(&grant->tokens, linearizer->max_count, weft_own(grant, &weft_linearizer_type));
    memcpy(grant->key, key, length + 1);
    HASH_ADD_KEYPTR(hh, linearizer->keys, grant->key, length, grant);
    return grant;
}

/* ---- use ---- */

weft_deferred *weft_linearizer_acquire_at(weft_linearizer *linearizer, const char *key, const weft_place *place)
{
    weft_linearizer_grant *grant = find(linearizer, key);

    if (!grant)
        grant = add(linearizer, key);
    return weft__tokens_acquire(&grant->tokens, place);
}

/* ---- looking ---- */

const char *weft_linearizer_get_name(const weft_linearizer *linearizer)
{
    return linearizer->name;
}

bool weft_linearizer_is_queued(const weft_linearizer *linearizer, const char *key)
{
    const weft_linearizer_grant *grant = find(linearizer, key);

    return grant && weft__tokens_waiting(&grant->tokens);
}

size_t weft_linearizer_get_keys(const weft_linearizer *linearizer)
{
    return HASH_COUNT(linearizer->keys);
}

/* The read-write lock: for each key who holds it, and one line of readers and writers.
 *
 * The first in line goes when it can, and never anybody before it: that alone makes batches of readers and starves nobody.
 * Each waiter carries the grant that it will be given; the grant's type says which of both it is.
 *
 * Letting in is one loop per key: a release inside a waiter's callback leaves it to the loop further up the C stack. A key is
 * in the table while it is held or that loop runs. */
#include <weft/read_write_lock.h>

#include <string.h>

#include "lib/uthash.h"
#include "lib/holders.h"
#include "lib/waiters.h"
#include "lib/waits.h"

/* A key. It is its own grant: readers all have the same, and it is never held by both kinds. */
struct weft_read_write_grant {
    struct weft__holders holders; /* first */
    weft_read_write_lock *lock;
    struct weft__waiters line;
    size_t readers; /* that hold it */
    bool writing;   /* a writer holds it */
    bool letting_in;
    UT_hash_handle hh;
    char key[];
};

struct weft_read_write_lock {
    size_t references; /* holders need none: it lives while a key is in its table */
    weft_read_write_grant *keys;
};

/* ---- life ---- */

weft_read_write_lock *weft_read_write_lock_new(void)
{
    weft_read_write_lock *lock = weft_alloc(sizeof *lock);

    *lock = (weft_read_write_lock){.references = 1};
    return lock;
}

weft_read_write_lock *weft_read_write_lock_ref(weft_read_write_lock *lock)
{
    lock->references++;
    return lock;
}

static void free_if_unused(weft_read_write_lock *lock)
{
    if (!lock->references && !lock->keys)
        weft_free(lock);
}

weft_read_write_lock *weft_read_write_lock_unref(weft_read_write_lock *lock)
{
    if (lock) {
        lock->references--;
        free_if_unused(lock);
    }
    return NULL;
}

/* ---- a key ---- */

static bool can_go(const weft_read_write_grant *key, const weft_type *type)
{
    return !key->writing && (type == &weft_read_lock_type || !key->readers);
}

static void hold(weft_read_write_grant *key, const weft_type *type)
{
    if (type == &weft_read_lock_type)
        key->readers++;
    else
        key->writing = true;
}

static void drop_if_idle(weft_read_write_grant *key)
{
    weft_read_write_lock *lock = key->lock;

    if (key->readers || key->writing)
        return;
    HASH_DEL(lock->keys, key);
    weft_free(key);
    free_if_unused(lock);
}

/* Lets in who can go; the key may be gone afterwards. */
static void let_in(weft_read_write_grant *key)
{
    struct weft__waiter *waiter;

    if (key->letting_in)
        return;
    key->letting_in = true;
    while ((waiter = key->line.first) && can_go(key, waiter->carried.type)) {
        hold(key, waiter->carried.type);
        weft__holders_grant(&key->holders, waiter->deferred);
        weft__waiter_fire(waiter, waiter->carried);
    }
    key->letting_in = false;
    drop_if_idle(key);
}

void weft_read_write_lock_release(weft_read_write_grant *grant)
{
    weft__holders_release(&grant->holders);
    if (grant->writing)
        grant->writing = false;
    else
        grant->readers--;
    let_in(grant);
}

static void drop(void *grant)
{
    weft_read_write_lock_release(grant);
}

const weft_type weft_read_lock_type = {"read lock", NULL, drop};
const weft_type weft_write_lock_type = {"write lock", NULL, drop};

/* ---- use ---- */

static weft_read_write_grant *find_or_add(weft_read_write_lock *lock, const char *name)
{
    size_t length = strlen(name);
    weft_read_write_grant *key;

    HASH_FIND(hh, lock->keys, name, length, key);
    if (key)
        return key;
    key = weft_alloc_zeroed(sizeof *key + length + 1);
    key->lock = lock;
    memcpy(key->key, name, length + 1);
    HASH_ADD_KEYPTR(hh, lock->keys, key->key, length, key);
    return key;
}

/* It may have been all that kept those behind it. */
static weft_cancel_outcome cancel(weft_deferred *deferred, void *arg)
{
    struct weft__waiter *waiter = arg;
    weft_read_write_grant *key = waiter->owner;

    (void)deferred;
    weft__waiter_leave(waiter);
    let_in(key);
    return WEFT_CANCEL_DONE;
}

/* Who stands further ahead waits for the same. */
static void name_holders(void *arg, struct weft__waits *waits)
{
    const struct weft__waiter *waiter = arg;
    const weft_read_write_grant *key = waiter->owner;

    weft__waits_what(waits, waiter->carried.type->name);
    weft__waits_holders(waits, &key->holders, key->writing ? 1 : key->readers);
}

const struct weft__wait_kind weft__read_write_waits = {cancel, name_holders};

static weft_deferred *acquire(weft_read_write_lock *lock, const char *name, const weft_type *type, const weft_place *place)
{
    weft_read_write_grant *key = find_or_add(lock, name);
    weft_result grant = weft_own(key, type);
    weft_deferred *deferred;

    if (key->line.first || !can_go(key, type))
        return weft__waiters_join(&key->line, cancel, key, grant, place);
    hold(key, type);
    deferred = weft_deferred_with_at(grant, place);
    deferred->flags |= WEFT__GRANT;
    return deferred;
}

weft_deferred *weft_read_write_lock_read_at(weft_read_write_lock *lock, const char *key, const weft_place *place)
{
    return acquire(lock, key, &weft_read_lock_type, place);
}

weft_deferred *weft_read_write_lock_write_at(weft_read_write_lock *lock, const char *key, const weft_place *place)
{
    return acquire(lock, key, &weft_write_lock_type, place);
}

/* ---- looking ---- */

size_t weft_read_write_lock_get_keys(const weft_read_write_lock *lock)
{
    return HASH_COUNT(lock->keys);
}

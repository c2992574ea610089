/* Descriptions: a list that only grows, so that it is read without a lock, and counters that all threads add to. */
#include <pthread.h>
#include <string.h>

#include <weft/log.h>

#include "lib/description.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for those who add to the list */
static weft_description *newest;

/* A child made by fork has none of the other threads, and would wait for ever for one that held it. */
static void hold(void)
{
    pthread_mutex_lock(&lock);
}

static void let_go(void)
{
    pthread_mutex_unlock(&lock);
}

static void arrange_forking(void)
{
    pthread_atfork(hold, let_go, let_go);
}

static weft_description *find(const char *name)
{
    weft_description *description = newest;

    while (description && strcmp(description->name, name) != 0)
        description = description->weft__older;
    return description;
}

/* The one that is counted for `description`. Sets `*first` to it when it was there under another object. */
static weft_description *add(weft_description *description, weft_description **first)
{
    weft_description *counted = description->weft__counted;

    if (counted)
        return counted;
    counted = *first = find(description->name);
    if (!counted) {
        counted = description;
        description->weft__older = newest;
        __atomic_store_n(&newest, description, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&description->weft__counted, counted, __ATOMIC_RELEASE);
    return counted;
}

/* Logged outside the lock: a sink may start a process of its own. */
static __attribute__((noinline)) weft_description *registered(weft_description *description)
{
    static pthread_once_t forking_arranged = PTHREAD_ONCE_INIT;
    weft_description *first = NULL, *counted;

    pthread_once(&forking_arranged, arrange_forking);
    pthread_mutex_lock(&lock);
    counted = add(description, &first);
    pthread_mutex_unlock(&lock);
    if (first)
        weft_log_error("misuse: the description %s at %s:%d is also one at %s:%d: both are counted as that",
                       description->name, description->file, description->line, first->file, first->line);
    return counted;
}

weft_description *weft__description_counted(weft_description *description)
{
    weft_description *counted = __atomic_load_n(&description->weft__counted, __ATOMIC_ACQUIRE);

    return counted ? counted : registered(description);
}

weft_description *weft__description_started(weft_description *description, uint64_t *number)
{
    weft_description *counted = weft__description_counted(description);

    *number = __atomic_add_fetch(&counted->weft__started, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&counted->weft__in_flight, 1, __ATOMIC_RELAXED);
    return counted;
}

void weft__description_ended(weft_description *counted)
{
    __atomic_sub_fetch(&counted->weft__in_flight, 1, __ATOMIC_RELAXED);
}

weft_description_counts weft_description_get_counts(const weft_description *description)
{
    const weft_description *counted = __atomic_load_n(&description->weft__counted, __ATOMIC_ACQUIRE);

    if (!counted)
        return (weft_description_counts){0};
    return (weft_description_counts){
        .started = __atomic_load_n(&counted->weft__started, __ATOMIC_RELAXED),
        .in_flight = __atomic_load_n(&counted->weft__in_flight, __ATOMIC_RELAXED),
    };
}

void weft_description_each(weft_description_fn *fn, void *arg)
{
    for (weft_description *each = __atomic_load_n(&newest, __ATOMIC_ACQUIRE); each; each = each->weft__older)
        fn(each, arg);
}

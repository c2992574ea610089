/* The Deferred: a result slot and a queue of what is to happen with the result.
 *
 * Running the queue is one loop, run(). When an entry is an outer deferred, the result moves there and the outer's queue is
 * run next, before the rest of the inner's; when a callback returns a pending deferred, its own deferred becomes an entry at
 * the end of that one's queue and the loop leaves it. Those to come back to are linked through `resume`, in space that a
 * fired deferred has no use for. So neither the length nor the depth of a chain costs C stack.
 *
 * Who holds whom: an entry for an outer deferred holds a reference to it, since the inner will fire it. The outer only
 * borrows the inner: it can neither fire nor add, and the entry goes when the inner is fired, or orphaned, or handed over. */
#include <assert.h>

#include <weft/log.h>

#include "lib/bound.h"
#include "lib/context.h"
#include "lib/deferred.h"
#include "lib/task.h"
#include "lib/unhandled.h"

_Static_assert(sizeof(weft_deferred) <= 128, "a deferred is two cache lines");

enum { BLOCK_ENTRIES = 7 };

/* A block of those entries that are not inline, in a circle of them: the deferred knows the newest, and that the oldest. */
struct weft__entries {
    uint32_t first; /* [first, used) are waiting: at least one */
    uint32_t used;
    struct weft__entries *next;
    struct weft__entry entries[BLOCK_ENTRIES];
};

/* An entry whose `arg` is the outer deferred. Never called. */
static weft_result to_outer(weft_result result, void *arg)
{
    (void)arg;
    return result;
}

/* An entry whose `arg` belongs to the pair before it, and is let go of by its `on_error`. Never called. */
static weft_result to_release(weft_result result, void *arg)
{
    return to_outer(result, arg);
}

/* The context of an entry that runs in whichever is current. */
static weft_context any_context;

/* ---- the queue ---- */

static inline unsigned inline_used(const weft_deferred *d)
{
    return d->flags & WEFT__USED;
}

static inline bool has_entries(const weft_deferred *d)
{
    return inline_used(d) || d->more;
}

static struct weft__entries *block_add(weft_deferred *d)
{
    struct weft__entries *newest = d->more, *block = weft__slab_take(&weft__thread.entries, sizeof *block);

    block->first = block->used = 0;
    block->next = newest ? newest->next : block;
    if (newest)
        newest->next = block;
    d->more = block;
    return block;
}

/* The oldest block has nothing left. */
static void block_remove(weft_deferred *d, struct weft__entries *oldest)
{
    if (d->more == oldest)
        d->more = NULL;
    else
        d->more->next = oldest->next;
    weft__slab_give(&weft__thread.entries, oldest);
}

static __attribute__((noinline)) struct weft__entry *entry_push_more(weft_deferred *d)
{
    struct weft__entries *newest = d->more;

    if (!newest || newest->used == BLOCK_ENTRIES)
        newest = block_add(d);
    return &newest->entries[newest->used++];
}

static const struct weft__entry *first_entry(const weft_deferred *d)
{
    if (inline_used(d))
        return &d->entries[0];
    return d->more ? &d->more->next->entries[d->more->next->first] : NULL;
}

static inline struct weft__entry *entry_push(weft_deferred *d)
{
    if (__builtin_expect(d->more || inline_used(d) == WEFT__INLINE_ENTRIES, 0))
        return entry_push_more(d);
    return &d->entries[d->flags++ & WEFT__USED];
}

static inline void entry_copy(struct weft__entry *to, const struct weft__entry *from)
{
    to->on_value = from->on_value;
    to->on_error = from->on_error;
    to->arg = from->arg;
    to->context = from->context;
}

static __attribute__((noinline)) bool entry_pop_more(weft_deferred *d, struct weft__entry *entry)
{
    struct weft__entries *oldest = d->more->next;

    entry_copy(entry, &oldest->entries[oldest->first++]);
    if (oldest->first == oldest->used)
        block_remove(d, oldest);
    return true;
}

static inline bool entry_pop(weft_deferred *d, struct weft__entry *entry)
{
    unsigned used = inline_used(d);

    if (!used)
        return d->more && entry_pop_more(d, entry);
    entry_copy(entry, &d->entries[0]);
    if (used > 1)
        entry_copy(&d->entries[0], &d->entries[1]);
    d->flags--;
    return true;
}

/* Results and entries are copied member by member: they are written as words, and a wide load of what was just written in
 * two parts waits for both to reach the cache. That was half the time of a firing. */
static inline void set_result(weft_deferred *d, weft_result result)
{
    d->result.value = result.value;
    d->result.type = result.type;
}

static inline weft_result get_result(const weft_deferred *d)
{
    return weft_own(d->result.value, d->result.type);
}

/* ---- life ---- */

static inline weft_deferred *deferred_new(unsigned flags, const weft_place *place)
{
    weft_deferred *d = weft__slab_take(&weft__thread.deferreds, sizeof *d);

    /* Entries are written when they are pushed. */
    d->references = 1;
    d->flags = (uint16_t)flags;
    d->pauses = 0;
    d->result = weft_ok(NULL);
    d->more = NULL;
    d->made_at = place;
    weft__thread.live.deferreds++;
    return d;
}

weft_deferred *weft_deferred_new_at(weft_cancel_fn *canceller, void *arg, const weft_place *place)
{
    weft_deferred *d = deferred_new(0, place);

    d->canceller.fn = canceller;
    d->canceller.arg = arg;
    return d;
}

weft_deferred *weft_deferred_new_owning_at(weft_cancel_fn *canceller, void *arg, weft_release_fn *release,
                                           const weft_place *place)
{
    weft_deferred *d = weft_deferred_new_at(canceller, arg, place);

    d->flags |= WEFT__OWNING;
    d->canceller.release = release;
    return d;
}

weft_deferred *weft_deferred_new_bound_at(weft_context *context, weft_cancel_fn *canceller, void *arg, const weft_place *place)
{
    weft_deferred *d = weft_deferred_new_at(canceller, arg, place);

    d->flags |= WEFT__BOUND;
    weft__bound_add(d, context);
    return d;
}

/* The result of `d` is an error; it came about in the current context. */
static void note_failure(weft_deferred *d)
{
    d->fired.failed_in = weft__context_ref(weft__thread.context);
}

/* The error of `d` has been taken, and is somebody else's now. */
static void forget_failure(weft_deferred *d)
{
    weft_context_unref(d->fired.failed_in);
    d->flags &= (uint16_t)~WEFT__REPORTED;
}

weft_deferred *weft_deferred_with_at(weft_result result, const weft_place *place)
{
    weft_deferred *d;

    if (result.type == &weft_deferred_type)
        return result.value;
    d = deferred_new(WEFT__DONE, place);
    set_result(d, result);
    d->fired.at = place;
    if (weft_failed(result))
        note_failure(d);
    return d;
}

weft_deferred *weft_deferred_ref(weft_deferred *d)
{
    d->references++;
    return d;
}

static __attribute__((noinline)) void free_slowly(weft_deferred *d)
{
    if (weft__deferred_pending(d)) {
        if (d->flags & WEFT__OWNING)
            d->canceller.release(d->canceller.arg);
    } else if (weft_failed(d->result)) {
        weft__unhandled_report(d);
        weft_context_unref(d->fired.failed_in);
    }
    weft_result_drop(d->result);
    if (weft__deferred_bound(d))
        weft__bound_remove(d);
}

/* Nobody holds it any more, and nothing waits for it. */
static inline void deferred_free(weft_deferred *d)
{
    assert(!has_entries(d) && !(d->flags & WEFT__RUNNING));
    if (d->result.type || d->flags & (WEFT__OWNING | WEFT__BOUND))
        free_slowly(d);
    weft__slab_give(&weft__thread.deferreds, d);
    weft__thread.live.deferreds--;
}

/* What a pending deferred fails with when nobody is left who could fire it. */
static weft_result broken_promise(const weft_deferred *d)
{
    weft_error *cancellation = weft_deferred_get_cancellation(d);

    if (cancellation)
        return weft_fail(weft_error_ref(cancellation));
    return weft_fail(weft_error_new_at(&WEFT_ORPHANED, d->made_at, "nobody is left who could fire this deferred"));
}

static void unpause_for_good(weft_deferred *d)
{
    d->pauses = 0;
    d->flags &= (uint16_t)~WEFT__PAUSED;
}

static void run(weft_deferred *d);

/* Nobody holds it any more, but its callbacks are still to have their turn. It is alive once more for them; they may keep it. */
static __attribute__((noinline)) void orphan(weft_deferred *d)
{
    d->references = 1;
    unpause_for_good(d);
    if (weft__deferred_pending(d))
        weft_deferred_callback_at(d, broken_promise(d), d->made_at);
    else
        run(d);
    weft_deferred_unref(d);
}

weft_deferred *weft_deferred_unref(weft_deferred *d)
{
    if (!d || --d->references)
        return NULL;
    if (__builtin_expect(has_entries(d), 0))
        orphan(d);
    else
        deferred_free(d);
    return NULL;
}

/* ---- getting a result ---- */

/* What a deferred that is no longer pending has no use for. */
struct leftovers {
    weft_release_fn *release; /* of its canceller's argument, or NULL */
    void *arg;
    weft_result reason; /* of a cancel that was asked */
};

static struct leftovers take_leftovers(weft_deferred *d)
{
    struct leftovers leftovers = {.arg = d->canceller.arg, .reason = d->result};

    if (d->flags & WEFT__OWNING)
        leftovers.release = d->canceller.release;
    d->flags &= (uint16_t)~WEFT__OWNING;
    return leftovers;
}

/* May run whatever the user releases with. When `d` is done it counts as running meanwhile: its result is not to be taken
 * away from the callbacks that wait, and those that are added wait too. */
static void drop_leftovers(weft_deferred *d, const struct leftovers *leftovers)
{
    bool done = d->flags & WEFT__DONE;

    if (done)
        d->flags |= WEFT__RUNNING;
    if (leftovers->release)
        leftovers->release(leftovers->arg);
    weft_result_drop(leftovers->reason);
    if (done)
        d->flags &= (uint16_t)~WEFT__RUNNING;
}

static __attribute__((noinline)) void settle_slowly(weft_deferred *d, weft_result result, const weft_place *place)
{
    struct leftovers leftovers = take_leftovers(d);

    d->flags |= WEFT__DONE;
    set_result(d, result);
    d->fired.at = place;
    if (weft_failed(result))
        note_failure(d);
    drop_leftovers(d, &leftovers);
}

/* The books of a pending deferred that gets its result. Runs the release of a canceller's argument, so hold `d`. */
static inline void settle(weft_deferred *d, weft_result result, const weft_place *place)
{
    if (__builtin_expect(d->flags & (WEFT__ASKED | WEFT__OWNING) || result.type == &weft_error_type, 0)) {
        settle_slowly(d, result, place);
        return;
    }
    d->flags |= WEFT__DONE;
    set_result(d, result);
    d->fired.at = place;
}

/* ---- running ---- */

static void fail_with_misuse(weft_deferred *d, const weft_place *place, const char *what)
{
    d->result = weft_fail(weft_error_new_at(&WEFT_MISUSE, place, "%s", what));
    note_failure(d);
}

weft_deferred *weft__deferred_waited_for(const weft_deferred *d)
{
    if (d->flags & WEFT__WAITING)
        return d->result.value;
    return (d->flags & (WEFT__FOLLOWS | WEFT__DONE)) == WEFT__FOLLOWS ? d->followed.task->awaited : NULL;
}

static const struct weft__entry *last_entry(const weft_deferred *d)
{
    if (d->more)
        return &d->more->entries[d->more->used - 1];
    return inline_used(d) ? &d->entries[inline_used(d) - 1] : NULL;
}

/* The outer deferred that waits for `d`, which is consumed; NULL when it is something else that does. Whoever consumes one
 * comes last. */
static const weft_deferred *outer_of(const weft_deferred *d)
{
    const struct weft__entry *last = last_entry(d);

    return last && last->on_value == to_outer ? last->arg : NULL;
}

void *weft__deferred_consumed_by(const weft_deferred *d, weft_callback_fn *fn)
{
    enum { STEPS = 8 };

    for (int i = 0; i < STEPS && d && d->flags & WEFT__CONSUMED; i++, d = outer_of(d)) {
        const struct weft__entry *last = last_entry(d);

        if (last && last->on_value == fn)
            return last->arg;
    }
    return NULL;
}

/* Goes down from `inner` and up from `d` in turn, since either way may be long: a queue in which each waits for the one before
 * builds a chain whose upper end is always near. */
bool weft__deferred_waits_for(const weft_deferred *inner, const weft_deferred *d)
{
    const weft_deferred *down = inner, *up = d;

    while (down != d) {
        if (up && !(up->flags & WEFT__CONSUMED))
            return false; /* nobody waits for that one, and `inner` was not among those who wait for `d` */
        up = up ? outer_of(up) : NULL;
        if (up == inner)
            return true;
        down = weft__deferred_waited_for(down);
        if (!down)
            return false;
    }
    return true;
}

/* `d`, done, gets what `inner`, ready or running, has. An error takes along where it came about, and that it was reported. */
static inline void move_result(weft_deferred *d, weft_deferred *inner)
{
    set_result(d, get_result(inner));
    if (__builtin_expect(d->result.type == &weft_error_type, 0)) {
        d->fired.failed_in = inner->fired.failed_in;
        d->flags |= inner->flags & WEFT__REPORTED;
        inner->flags &= (uint16_t)~WEFT__REPORTED;
    }
    inner->result = weft_ok(NULL);
}

/* `d`, done and without a result, takes over the result of `inner`, or waits for it. Takes the reference to `inner`;
 * but when `d` waits, which it says, that is left for the caller to let go of. */
static bool chain(weft_deferred *d, weft_deferred *inner)
{
    if (inner == d) {
        fail_with_misuse(d, d->made_at, "a deferred was to wait for itself");
    } else if (inner->flags & WEFT__CONSUMED) {
        fail_with_misuse(d, inner->made_at, "a deferred was to wait for one that somebody else waits for, or waited for");
    } else if (weft__deferred_ready(inner)) {
        move_result(d, inner);
        inner->flags |= WEFT__CONSUMED;
    } else if (weft__deferred_waits_for(inner, d)) {
        fail_with_misuse(d, inner->made_at, "a deferred was to wait for one that waits for it");
    } else {
        *entry_push(inner) = (struct weft__entry){.on_value = to_outer, .arg = weft_deferred_ref(d)};
        inner->flags |= WEFT__CONSUMED;
        d->flags ^= WEFT__DONE | WEFT__WAITING;
        d->result = weft_ok(inner);
        return true;
    }
    weft_deferred_unref(inner);
    return false;
}

static bool release_is_next(const weft_deferred *d)
{
    const struct weft__entry *next = first_entry(d);

    return next && next->on_value == to_release;
}

static void release(const struct weft__entry *entry)
{
    ((weft_release_fn *)(void *)entry->on_error)(entry->arg);
}

/* The pair that has had its turn may have had an argument of its own: it goes before `d` begins to wait. */
static void release_next(weft_deferred *d)
{
    struct weft__entry entry;

    if (release_is_next(d) && entry_pop(d, &entry))
        release(&entry);
}

static void returned_its_own(weft_deferred *d, weft_callback_fn *fn)
{
    d->result = weft_fail(weft_error_new_at(&WEFT_MISUSE, d->made_at,
                                            "the callback at %p returned its own deferred, to wait for itself", (void *)fn));
    note_failure(d);
    weft_deferred_unref(d);
}

/* `fn`, a callback of `d`, has returned an error or a deferred; `context` is the callback's, with its reference. */
static __attribute__((noinline)) void call_ended(weft_deferred *d, weft_result result, weft_context *context,
                                                 weft_callback_fn *fn)
{
    bool of_its_own = context != &any_context;

    if (result.type == &weft_deferred_type) {
        release_next(d);
        if (of_its_own)
            weft_context_unref(context);
        if (result.value == d)
            returned_its_own(d, fn);
        else
            chain(d, result.value);
    } else {
        set_result(d, result);
        if (of_its_own)
            d->fired.failed_in = context;
        else
            note_failure(d);
    }
}

/* Lets the next result follow the one that `entry` gets. */
static inline void call(weft_deferred *d, const struct weft__entry *entry)
{
    weft_result result = get_result(d);
    bool failed = result.type == &weft_error_type;
    weft_callback_fn *fn = failed ? entry->on_error : entry->on_value;
    weft_context *context = entry->context;

    if (fn) {
        if (__builtin_expect(failed, 0))
            forget_failure(d);
        d->result = weft_ok(NULL);
        if (context == &any_context) {
            result = fn(result, entry->arg);
        } else {
            weft_context *firer = weft__context_swap(context);

            result = fn(result, entry->arg);
            context = weft__context_swap(firer); /* or another, which the callback left behind */
        }
        if (__builtin_expect(result.type == &weft_deferred_type || result.type == &weft_error_type, 0)) {
            call_ended(d, result, context, fn);
            return;
        }
        set_result(d, result);
    }
    if (context && context != &any_context)
        weft_context_unref(context);
}

/* `d` has begun to wait: who is run next. Usually the one below on the stack; but if the reference that the callback returned
 * was the last one, nobody can fire or unpause the inner any more, which is then run here rather than in a nested run. */
static __attribute__((noinline)) weft_deferred *leave(weft_deferred *d)
{
    weft_deferred *inner = d->result.value, *resume = d->fired.resume;

    d->flags &= (uint16_t)~WEFT__RUNNING;
    weft_deferred_unref(d);
    if (inner->references > 1) {
        weft_deferred_unref(inner);
        return resume;
    }
    unpause_for_good(inner);
    if (weft__deferred_pending(inner))
        settle(inner, broken_promise(inner), inner->made_at);
    if (!weft__deferred_ready(inner)) { /* what it let go of has paused it: unless somebody holds it now, this ends that */
        weft_deferred_unref(inner);
        return resume;
    }
    inner->flags |= WEFT__RUNNING;
    inner->fired.resume = resume;
    return inner;
}

/* The result of `d` moves to `outer`, which is run next; then the rest of `d`. Takes the reference to `outer`. */
static weft_deferred *hand_over(weft_deferred *d, weft_deferred *outer)
{
    outer->flags ^= WEFT__WAITING | WEFT__DONE;
    move_result(outer, d);
    outer->flags |= WEFT__RUNNING;
    outer->fired.resume = d;
    return outer;
}

static inline weft_deferred *finish(weft_deferred *d)
{
    weft_deferred *resume = d->fired.resume;

    d->flags &= (uint16_t)~WEFT__RUNNING;
    if (!--d->references)
        deferred_free(d);
    return resume;
}

/* Whether a paused deferred rests now. What its last callback owned goes all the same; and without anybody who could
 * unpause it, it runs on. */
static __attribute__((noinline)) bool rests(weft_deferred *d)
{
    release_next(d);
    if (d->flags & WEFT__PAUSED && d->references == 1 && has_entries(d))
        unpause_for_good(d);
    return d->flags & WEFT__PAUSED;
}

/* Runs `d`, which is ready. Whoever fires it is no more than the occasion: callbacks are no part of that task, and neither wait
 * in its place nor start something in its scope. */
static __attribute__((noinline)) void run(weft_deferred *d)
{
    struct weft__task *firer = weft__thread.task;
    struct weft__entry entry;

    weft__thread.task = NULL;
    weft__thread.calls++;
    d->references++;
    d->flags |= WEFT__RUNNING;
    d->fired.resume = NULL;
    while (d) {
        if ((__builtin_expect(d->flags & WEFT__PAUSED, 0) && rests(d)) || !entry_pop(d, &entry)) {
            d = finish(d);
        } else if (entry.on_value == to_outer) {
            d = hand_over(d, entry.arg);
        } else if (entry.on_value == to_release) {
            release(&entry);
        } else {
            call(d, &entry);
            if (__builtin_expect(d->flags & WEFT__WAITING, 0))
                d = leave(d);
        }
    }
    weft__thread.calls--;
    weft__thread.task = firer;
}

static inline void run_if_ready(weft_deferred *d)
{
    if (weft__deferred_ready(d) && has_entries(d))
        run(d);
}

/* ---- adding ---- */

static void log_handed_over(const weft_deferred *d)
{
    weft_log_error("misuse: a callback is added to a deferred that was handed over; it was made at %s:%d %s", d->made_at->file,
                   d->made_at->line, d->made_at->function);
}

/* To one that is not as most are. */
static __attribute__((noinline)) void push_pair_specially(weft_deferred *d, weft_callback_fn *on_value,
                                                          weft_callback_fn *on_error, void *arg)
{
    weft_context *context = weft__deferred_bound(d) ? weft__bound_find(d) : weft__thread.context;

    if (d->flags & WEFT__CONSUMED)
        log_handed_over(d);
    *entry_push(d) = (struct weft__entry){on_value, on_error, arg, weft__context_ref(context)};
}

static inline void push_pair(weft_deferred *d, weft_callback_fn *on_value, weft_callback_fn *on_error, void *arg)
{
    if (__builtin_expect(d->flags & (WEFT__CONSUMED | WEFT__BOUND), 0))
        push_pair_specially(d, on_value, on_error, arg);
    else
        *entry_push(d) = (struct weft__entry){on_value, on_error, arg, weft__context_ref(weft__thread.context)};
}

weft_deferred *weft_deferred_add_callbacks(weft_deferred *d, weft_callback_fn *on_value, weft_callback_fn *on_error,
                                           void *arg)
{
    push_pair(d, on_value, on_error, arg);
    if (weft__deferred_ready(d))
        run(d);
    return d;
}

weft_deferred *weft_deferred_add_callbacks_owning(weft_deferred *d, weft_callback_fn *on_value, weft_callback_fn *on_error,
                                                  void *arg, weft_release_fn *release_arg)
{
    push_pair(d, on_value, on_error, arg);
    *entry_push(d) = (struct weft__entry){to_release, (weft_callback_fn *)(void *)release_arg, arg, &any_context};
    if (weft__deferred_ready(d))
        run(d);
    return d;
}

void weft__deferred_attach(weft_deferred *d, weft_callback_fn *fn, void *arg)
{
    *entry_push(d) = (struct weft__entry){fn, fn, arg, &any_context};
    if (weft__deferred_ready(d))
        run(d);
}

void weft__deferred_consume(weft_deferred *d, weft_callback_fn *fn, void *arg)
{
    assert(!(d->flags & WEFT__CONSUMED));
    d->flags |= WEFT__CONSUMED;
    weft__deferred_attach(d, fn, arg);
}

/* ---- firing ---- */

/* A failure came about in `context`, which is taken; &any_context: in the current one. */
static __attribute__((noinline)) void fire_slowly(weft_deferred *d, weft_result result, weft_context *context,
                                                  const weft_place *place)
{
    weft_deferred *asker = d->flags & WEFT__FOLLOWS ? d->followed.asker : NULL;
    weft_error *unheard = asker ? weft_deferred_get_cancellation(d) : NULL;

    if (unheard)
        weft_error_ref(unheard);
    weft_deferred_ref(d); /* what is let go of, a canceller's argument or a reason, may let go of it */
    settle(d, result, place);
    if (context != &any_context) {
        weft_context_unref(d->fired.failed_in);
        d->fired.failed_in = context;
    }
    run_if_ready(d);
    weft_deferred_unref(d);
    /* A task has ended before a wait that its waiter's cancel could have come out of. The waiter is ready now, or still parked,
     * if what `d` has fired goes on. */
    if (unheard)
        weft__deferred_cancel_again(asker, unheard);
}

/* `d` is pending; somebody holds it, if only the firer. */
static inline void fire(weft_deferred *d, weft_result result, const weft_place *place)
{
    if (__builtin_expect(d->flags & (WEFT__OWNING | WEFT__ASKED), 0)) {
        fire_slowly(d, result, &any_context, place);
        return;
    }
    settle(d, result, place);
    run_if_ready(d);
}

void weft__deferred_fail_in(weft_deferred *d, weft_result failure, weft_context *context, const weft_place *place)
{
    fire_slowly(d, failure, context, place);
}

static weft_error *already_called(const weft_deferred *d, const weft_place *place)
{
    return weft_error_new_at(&WEFT_ALREADY_CALLED, place, "this deferred, made at %s:%d %s, was already fired at %s:%d %s",
                             d->made_at->file, d->made_at->line, d->made_at->function, d->fired.at->file, d->fired.at->line,
                             d->fired.at->function);
}

/* Whether the result that comes for `d`, which has one, is the one that a cancel has made late. */
static bool swallow(weft_deferred *d, const weft_place *place)
{
    if (!(d->flags & WEFT__SWALLOW))
        return false;
    d->flags &= (uint16_t)~WEFT__SWALLOW;
    weft_log_debug("a result came after the cancel and is dropped: for the deferred made at %s:%d %s, from %s:%d %s",
                   d->made_at->file, d->made_at->line, d->made_at->function, place->file, place->line, place->function);
    return true;
}

static __attribute__((noinline)) weft_error *refuse(weft_deferred *d, weft_result result, const weft_place *place)
{
    weft_error *error = NULL;

    if (result.type == &weft_deferred_type)
        error = weft_error_new_at(&WEFT_MISUSE, place, "a deferred was fired with a deferred: weft_deferred_forward is for that");
    else if (!swallow(d, place))
        error = already_called(d, place);
    weft_result_drop(result);
    return error;
}

weft_error *weft_deferred_try_callback_at(weft_deferred *d, weft_result result, const weft_place *place)
{
    if (!weft__deferred_pending(d) || result.type == &weft_deferred_type)
        return refuse(d, result, place);
    fire(d, result, place);
    return NULL;
}

static __attribute__((noinline)) void log_misuse(weft_error *error)
{
    char text[1024];

    if (!error)
        return;
    weft_error_print(error, text, sizeof text);
    weft_log_error("%s", text);
    weft_error_unref(error);
}

void weft_deferred_callback_at(weft_deferred *d, weft_result result, const weft_place *place)
{
    if (__builtin_expect(weft__deferred_pending(d) && result.type != &weft_deferred_type, 1))
        fire(d, result, place);
    else
        log_misuse(refuse(d, result, place));
}

void weft_deferred_forward_at(weft_deferred *from, weft_deferred *to, const weft_place *place)
{
    struct leftovers leftovers;
    bool waiting;

    if (!weft__deferred_pending(to)) {
        if (!swallow(to, place))
            log_misuse(already_called(to, place));
        weft_deferred_unref(from);
        return;
    }
    leftovers = take_leftovers(to);
    to->flags |= WEFT__DONE;
    to->result = weft_ok(NULL);
    to->fired.at = place;
    weft_deferred_ref(to);
    waiting = chain(to, from);
    drop_leftovers(to, &leftovers); /* not before: it may add callbacks */
    if (waiting)
        weft_deferred_unref(from);
    run_if_ready(to);
    weft_deferred_unref(to);
}

/* ---- pausing ---- */

void weft_deferred_pause_at(weft_deferred *d, const weft_place *place)
{
    if (d->pauses == UINT16_MAX) {
        log_misuse(weft_error_new_at(&WEFT_MISUSE, place, "the deferred made at %s:%d %s is paused %d times already",
                                     d->made_at->file, d->made_at->line, d->made_at->function, UINT16_MAX));
        return;
    }
    d->pauses++;
    d->flags |= WEFT__PAUSED;
}

void weft_deferred_unpause_at(weft_deferred *d, const weft_place *place)
{
    if (!d->pauses) {
        log_misuse(weft_error_new_at(&WEFT_MISUSE, place, "the deferred made at %s:%d %s is not paused", d->made_at->file,
                                     d->made_at->line, d->made_at->function));
        return;
    }
    if (--d->pauses)
        return;
    d->flags &= (uint16_t)~WEFT__PAUSED;
    run_if_ready(d);
}

/* ---- cancelling ---- */

/* A cancel that reaches `d` was asked of `asker`, a task's that waits for it, or of nobody above it. */
static void note_asker(weft_deferred *d, weft_deferred *asker)
{
    if (d->flags & WEFT__FOLLOWS && weft__deferred_pending(d))
        d->followed.asker = asker;
}

/* Who is asked when `d` is cancelled: what it waits for in the end, or the first task on the way that is shielded. If that
 * runs its callbacks already, or was asked before and takes its time, nothing can be done for this wait of the task nearest to
 * it: its next wait is meant. */
static weft_deferred *innermost(weft_deferred *d)
{
    weft_deferred *task = NULL, *next;

    while ((next = weft__deferred_waited_for(d))) {
        if (weft__deferred_pending(d)) {
            task = d;
            if (task->flags & WEFT__SHIELDED)
                return task;
        }
        d = next;
        note_asker(d, task);
    }
    return task && d->flags & (WEFT__DONE | WEFT__ASKED) ? task : d;
}

/* The tasks above `asked`, through which the cancel of `d` goes to it, and `asked` if that is one. */
static void note_asked(weft_deferred *d, const weft_deferred *asked)
{
    for (; d != asked; d = weft__deferred_waited_for(d)) {
        if (!weft__deferred_pending(d))
            continue;
        d->flags |= WEFT__INTERRUPTED;
        weft__task_asked(d);
    }
    if (d->flags & WEFT__FOLLOWS)
        weft__task_asked(d);
}

static bool can_be_asked(const weft_deferred *d)
{
    return weft__deferred_pending(d) && !(d->flags & WEFT__ASKED);
}

/* Fires a deferred that was asked to stop with what it was asked with. */
static void fire_cancellation(weft_deferred *d)
{
    weft_error *cancellation = d->result.value;

    fire(d, weft_fail(weft_error_ref(cancellation)), weft_error_get_place(cancellation));
}

/* The canceller runs with `arg`, which a firing inside it must not take away. Like a callback it is no part of the task that
 * happens to run. */
static weft_cancel_outcome run_canceller(weft_deferred *d)
{
    bool owning = d->flags & WEFT__OWNING;
    weft_release_fn *release_arg = d->canceller.release;
    void *arg = d->canceller.arg;
    struct weft__task *asker = weft__thread.task;
    weft_cancel_outcome outcome;

    weft__thread.task = NULL;
    weft__thread.calls++;
    d->flags &= (uint16_t)~WEFT__OWNING;
    outcome = d->canceller.fn(d, arg);
    weft__thread.calls--;
    weft__thread.task = asker;
    if (!owning)
        return outcome;
    if (weft__deferred_pending(d))
        d->flags |= WEFT__OWNING;
    else
        release_arg(arg);
    return outcome;
}

static void ask(weft_deferred *d, weft_error *cancellation)
{
    weft_cancel_outcome outcome;

    d->flags |= WEFT__ASKED;
    d->result = weft_fail(cancellation);
    if (d->flags & WEFT__FOLLOWS) {
        d->followed.task->latched = true;
        weft__task_keeps(d);
        return;
    }
    if (!d->canceller.fn) {
        d->flags |= WEFT__SWALLOW;
        fire_cancellation(d);
        return;
    }
    /* The canceller may let go of every other reference. */
    weft_deferred_ref(d);
    outcome = run_canceller(d);
    if (outcome == WEFT_CANCEL_FAILED) {
        weft_log_warn("the work behind the deferred made at %s:%d %s could not be cancelled, and goes on", d->made_at->file,
                      d->made_at->line, d->made_at->function);
        d->flags |= weft__deferred_pending(d) ? WEFT__SWALLOW : 0;
    }
    if (outcome != WEFT_CANCEL_LATER && weft__deferred_pending(d))
        fire_cancellation(d);
    weft_deferred_unref(d);
}

void weft__deferred_cancel_again(weft_deferred *d, weft_error *cancellation)
{
    weft_deferred *asked = innermost(d);

    if (!can_be_asked(asked)) {
        weft_error_unref(cancellation);
        return;
    }
    note_asked(d, asked);
    ask(asked, cancellation);
}

bool weft__deferred_can_be_stopped(weft_deferred *d)
{
    return can_be_asked(innermost(d));
}

void weft_deferred_cancel_with(weft_deferred *d, weft_error *cancellation)
{
    if (!(d->flags & WEFT__DONE))
        d->flags |= WEFT__UNWANTED;
    note_asker(d, NULL);
    weft__deferred_cancel_again(d, cancellation);
}

void weft_deferred_cancel_at(weft_deferred *d, const weft_place *place)
{
    if (!(d->flags & WEFT__DONE))
        weft_deferred_cancel_with(d, weft_error_new_at(&WEFT_CANCELLED, place, "the caller cancelled it"));
}

weft_error *weft_deferred_get_cancellation(const weft_deferred *d)
{
    return weft__deferred_pending(d) && d->flags & WEFT__ASKED ? d->result.value : NULL;
}

void weft__deferred_follow(weft_deferred *d, struct weft__task *task)
{
    d->flags |= WEFT__FOLLOWS;
    d->followed.task = task;
    d->followed.asker = NULL;
}

weft_error *weft__deferred_take_cancellation(weft_deferred *d)
{
    weft_error *cancellation = d->result.value;

    assert(d->flags & WEFT__ASKED && d->followed.task->latched);
    d->flags &= (uint16_t)~WEFT__ASKED;
    d->followed.task->latched = false;
    d->result = weft_ok(NULL);
    return cancellation;
}

/* ---- looking ---- */

static void count_entries(const struct weft__entry *entries, size_t count, size_t *callbacks, const weft_deferred **outer)
{
    for (size_t i = 0; i < count; i++) {
        if (entries[i].on_value != to_outer)
            *callbacks += entries[i].on_value != to_release;
        else if (!*outer)
            *outer = entries[i].arg;
    }
}

size_t weft__deferred_count_callbacks(const weft_deferred *d, const weft_deferred **outer)
{
    const struct weft__entries *block = d->more;
    size_t callbacks = 0;

    *outer = NULL;
    count_entries(d->entries, inline_used(d), &callbacks, outer);
    while (block) {
        block = block->next;
        count_entries(block->entries + block->first, block->used - block->first, &callbacks, outer);
        if (block == d->more)
            break;
    }
    return callbacks;
}

weft_deferred_state weft_deferred_get_state(const weft_deferred *d)
{
    if (d->flags & WEFT__WAITING)
        return WEFT_WAITING;
    return d->flags & WEFT__DONE ? WEFT_DONE : WEFT_PENDING;
}

bool weft_deferred_is_paused(const weft_deferred *d)
{
    return d->pauses != 0;
}

weft_result weft_deferred_peek(const weft_deferred *d)
{
    if ((d->flags & (WEFT__DONE | WEFT__RUNNING)) == WEFT__DONE)
        return d->result;
    return weft_later((weft_deferred *)d);
}

static __attribute__((noinline)) weft_result refuse_to_take(const weft_deferred *d)
{
    const char *why = d->flags & WEFT__PAUSED     ? "the result of a deferred was taken while it was paused"
                      : !weft__deferred_ready(d) ? "the result of a deferred was taken before it had one"
                                                 : "the result of a deferred was taken after it had been handed over";

    return weft_fail(weft_error_new_at(&WEFT_MISUSE, d->made_at, "%s", why));
}

weft_result weft_deferred_take_result(weft_deferred *d)
{
    weft_result result = get_result(d);

    if (!weft__deferred_ready(d) || d->flags & WEFT__CONSUMED)
        return refuse_to_take(d);
    if (weft_failed(result))
        forget_failure(d);
    d->result = weft_ok(NULL);
    d->flags |= WEFT__CONSUMED;
    return result;
}

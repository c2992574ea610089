/* The test clock: a pairing heap of timers, and a time that moves from one to the next.
 *
 * The heap lies inside the timers: each heads the list of its children, none of which is due before it. Equal ones
 * follow the order of starting. To start is one comparison, to stop or to fire is a logarithm of them on the whole. Nothing
 * recurses, also when a million children meet in one merge.
 *
 * A round is what was started before it began: so a timer that is started again at once belongs to the next round, and rounds
 * at one instant can be counted, however many timers there are. */
#include <weft/log.h>
#include <weft/test_clock.h>

#include "lib/clock.h"
#include "lib/context.h"

enum { MAX_ROUNDS = 10000 }; /* at one instant */

/* What it keeps in a timer. */
struct node {
    weft_timer *first;    /* of its children */
    weft_timer *next;     /* sibling */
    weft_timer *previous; /* sibling, or the parent of the first; NULL for the root */
    uint64_t order;
};
_Static_assert(sizeof(struct node) <= sizeof(((weft_timer *)0)->weft__private), "a timer has room for a node");

struct weft_test_clock {
    weft_clock clock; /* first: a clock is its test clock. `recent` is the time */
    weft_timer *root; /* due first, or NULL */
    size_t started;
    uint64_t order;   /* of the next timer to be started */
    unsigned inside;  /* calls that fire timers, further up the C stack */
    bool freed;       /* by one of them */
};

/* ---- the heap ---- */

static struct node *node_of(weft_timer *timer)
{
    return (struct node *)timer->weft__private;
}

static bool goes_first(weft_timer *a, weft_timer *b)
{
    return a->due != b->due ? a->due < b->due : node_of(a)->order < node_of(b)->order;
}

/* One heap of two; either may be NULL. */
static weft_timer *meld(weft_timer *a, weft_timer *b)
{
    weft_timer *top, *under;

    if (!a || !b)
        return a ? a : b;
    top = goes_first(a, b) ? a : b;
    under = top == a ? b : a;
    node_of(under)->next = node_of(top)->first;
    node_of(under)->previous = top;
    if (node_of(top)->first)
        node_of(node_of(top)->first)->previous = under;
    node_of(top)->first = under;
    node_of(top)->next = node_of(top)->previous = NULL;
    return top;
}

/* One heap of a list of siblings: in pairs from the left, and the pairs together from the right, which keeps the heap flat. */
static weft_timer *meld_siblings(weft_timer *timer)
{
    weft_timer *pairs = NULL, *all = NULL;

    while (timer) {
        weft_timer *second = node_of(timer)->next, *rest = second ? node_of(second)->next : NULL;
        weft_timer *pair;

        node_of(timer)->next = NULL;
        pair = meld(timer, second);
        node_of(pair)->next = pairs;
        pairs = pair;
        timer = rest;
    }
    while (pairs) {
        weft_timer *rest = node_of(pairs)->next;

        node_of(pairs)->next = node_of(pairs)->previous = NULL;
        all = meld(all, pairs);
        pairs = rest;
    }
    return all;
}

static void heap_remove(weft_test_clock *time, weft_timer *timer)
{
    struct node *node = node_of(timer);
    weft_timer *orphans = meld_siblings(node->first);

    time->started--;
    if (timer == time->root) {
        time->root = orphans;
        return;
    }
    if (node_of(node->previous)->first == timer)
        node_of(node->previous)->first = node->next;
    else
        node_of(node->previous)->next = node->next;
    if (node->next)
        node_of(node->next)->previous = node->previous;
    time->root = meld(time->root, orphans);
}

/* ---- the clock ---- */

static int64_t test_clock_now(weft_clock *clock)
{
    return clock->recent;
}

static void test_clock_start(weft_clock *clock, weft_timer *timer)
{
    weft_test_clock *time = (weft_test_clock *)clock;

    if (timer->due < clock->recent)
        timer->due = clock->recent;
    *node_of(timer) = (struct node){.order = time->order++};
    time->root = meld(time->root, timer);
    time->started++;
}

static void test_clock_stop(weft_clock *clock, weft_timer *timer)
{
    heap_remove((weft_test_clock *)clock, timer);
}

/* ---- life ---- */

weft_test_clock *weft_test_clock_new(void)
{
    weft_test_clock *time = weft_alloc(sizeof *time);

    *time = (weft_test_clock){.clock = {0, test_clock_now, test_clock_start, test_clock_stop}};
    return time;
}

static void discard(weft_test_clock *time)
{
    if (time->root)
        weft_log_error("a test clock is freed while %zu timers are started, the next one due in %g s", time->started,
                       weft_test_clock_until_next(time));
    while (time->root)
        weft_timer_stop(time->root);
    weft_free(time);
}

weft_test_clock *weft_test_clock_free(weft_test_clock *time)
{
    if (!time)
        return NULL;
    if (time->inside)
        time->freed = true;
    else
        discard(time);
    return NULL;
}

weft_clock *weft_test_clock_get_clock(weft_test_clock *time)
{
    return &time->clock;
}

/* ---- letting time pass ---- */

/* Timers are called in no context; returns whose place that took, for leave(). */
static weft_context *enter(weft_test_clock *time)
{
    time->inside++;
    return weft__context_swap(NULL);
}

static void leave(weft_test_clock *time, weft_context *callers)
{
    weft__context_swap(callers);
    if (!--time->inside && time->freed)
        discard(time);
}

static void fire_next(weft_test_clock *time)
{
    weft_timer *timer = time->root;
    const void *fn = (const void *)timer->fn;

    if (timer->due > time->clock.recent)
        time->clock.recent = timer->due;
    heap_remove(time, timer);
    weft_timer_fire(timer);
    weft__context_leave_callback(fn);
}

static void complain(const weft_test_clock *time)
{
    weft_log_error("a test clock gives up at %.9f s: %d rounds of timers were due at this one instant, each started by the "
                   "round before without a delay; the next one calls the function at %p",
                   (double)time->clock.recent / 1e9, MAX_ROUNDS, (const void *)time->root->fn);
}

/* Whether something is due by `end`, or overdue since a timer has let more time pass than that. */
static bool any_due(const weft_test_clock *time, int64_t end)
{
    if (end < time->clock.recent)
        end = time->clock.recent;
    return !time->freed && time->root && time->root->due <= end;
}

/* Fires all that is due by `end`. False: they would go on for ever. */
static bool fire_until(weft_test_clock *time, int64_t end)
{
    uint64_t next_round = time->order;
    int64_t instant = time->clock.recent;
    int rounds = 1;

    while (any_due(time, end)) {
        if (time->root->due > instant) {
            instant = time->root->due;
            next_round = time->order;
            rounds = 1;
        } else if (node_of(time->root)->order >= next_round) {
            if (rounds++ == MAX_ROUNDS) {
                complain(time);
                return false;
            }
            next_round = time->order;
        }
        fire_next(time);
    }
    return true;
}

/* The instant that is so many seconds away; false for what is no such span. */
static bool instant_in(const weft_test_clock *time, double seconds, int64_t *instant)
{
    if (seconds >= 0 && weft__nanoseconds(seconds) < INT64_MAX - time->clock.recent) {
        *instant = time->clock.recent + weft__nanoseconds(seconds);
        return true;
    }
    weft_log_error("misuse: a test clock cannot move on by %g s", seconds);
    return false;
}

static void move_to(weft_test_clock *time, int64_t instant)
{
    if (time->clock.recent < instant)
        time->clock.recent = instant;
}

bool weft_test_clock_advance(weft_test_clock *time, double seconds)
{
    weft_context *callers;
    int64_t end;
    bool done;

    if (!instant_in(time, seconds, &end))
        return false;
    callers = enter(time);
    done = fire_until(time, end);
    if (done)
        move_to(time, end);
    leave(time, callers);
    return done;
}

bool weft_test_clock_pump(weft_test_clock *time, const double *spans, size_t count)
{
    weft_context *callers = enter(time); /* a timer may free the clock before the last span */
    size_t i = 0;

    while (i < count && weft_test_clock_advance(time, spans[i]))
        i++;
    leave(time, callers);
    return i == count;
}

size_t weft_test_clock_turn(weft_test_clock *time)
{
    uint64_t next_round = time->order;
    weft_context *callers = enter(time);
    size_t fired = 0;

    while (any_due(time, time->clock.recent) && node_of(time->root)->order < next_round) {
        fire_next(time);
        fired++;
    }
    leave(time, callers);
    return fired;
}

bool weft_test_clock_stall(weft_test_clock *time, double seconds)
{
    int64_t end;

    if (!instant_in(time, seconds, &end))
        return false;
    move_to(time, end);
    return true;
}

/* ---- asking ---- */

size_t weft_test_clock_count_timers(const weft_test_clock *time)
{
    return time->started;
}

double weft_test_clock_until_next(const weft_test_clock *time)
{
    return time->root ? weft_timer_remaining(time->root) : __builtin_inf();
}

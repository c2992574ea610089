/* Limits of lines: a bucket for each place in the source, in one number.
 *
 * Each line that passes moves `next` on by the time that one line is worth, from now if that is later. It may be ahead of
 * now by as much as a burst is worth less one line. So a bucket needs no refilling, and two threads no lock: who loses the
 * race for `next` looks again. */
#include "lib/clock.h"
#include "lib/log.h"

int64_t (*weft__log_limit_now)(void) = weft__monotonic;

/* Centuries are never as well, and can be added to now. */
static const double MOST_NS = 3e18;

static int64_t at_most(double nanoseconds)
{
    return (int64_t)(nanoseconds < MOST_NS ? nanoseconds : MOST_NS);
}

bool weft_log_limit_admits(weft_log_limit *limit, double per_second, unsigned burst, uint64_t *suppressed)
{
    int64_t now = weft__log_limit_now(), worth = at_most(1e9 / per_second);
    int64_t ahead = at_most((double)worth * (burst ? burst - 1 : 0));
    int64_t next = __atomic_load_n(&limit->weft__next, __ATOMIC_RELAXED), after;

    do {
        if (next > now + ahead) {
            __atomic_fetch_add(&limit->weft__suppressed, 1, __ATOMIC_RELAXED);
            return false;
        }
        after = (next > now ? next : now) + worth;
    } while (!__atomic_compare_exchange_n(&limit->weft__next, &next, after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    *suppressed = __atomic_exchange_n(&limit->weft__suppressed, 0, __ATOMIC_RELAXED);
    return true;
}

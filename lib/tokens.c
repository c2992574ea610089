/* Tokens: a count and a line.
 *
 * Invariant: while somebody stands in line no token is left, unless one is being handed over. A waiter's callback may
 * release its token at once: that release only counts it, and the loop of the one further up the stack hands it on. So a
 * million waiters that do nothing but release take no more stack than one. Meanwhile newcomers join the line: nobody
 * overtakes. */
#include "lib/tokens.h"

#include <assert.h>

#include "lib/deferred.h"
#include "lib/waits.h"

void weft__tokens_init(struct weft__tokens *tokens, size_t limit, weft_result grant)
{
    *tokens = (struct weft__tokens){.left = limit, .limit = limit, .grant = grant};
}

/* A function of its own, as it tells what its deferred waits for. */
static weft_cancel_outcome leave(weft_deferred *deferred, void *waiter)
{
    return weft__waiter_cancel(deferred, waiter);
}

weft_deferred *weft__tokens_acquire(struct weft__tokens *tokens, const weft_place *place)
{
    weft_deferred *deferred;

    if (!tokens->left || tokens->line.first)
        return weft__waiters_join(&tokens->line, leave, tokens, weft_ok(NULL), place);
    tokens->left--;
    deferred = weft_deferred_with_at(tokens->grant, place);
    deferred->flags |= WEFT__GRANT;
    return deferred;
}

static void hand_over(struct weft__tokens *tokens)
{
    tokens->granting = true;
    while (tokens->left && tokens->line.first) {
        tokens->left--;
        weft__holders_grant(&tokens->holders, tokens->line.first->deferred);
        weft__waiter_fire(tokens->line.first, tokens->grant);
    }
    tokens->granting = false;
}

bool weft__tokens_release(struct weft__tokens *tokens)
{
    assert(weft__tokens_held(tokens));
    weft__holders_release(&tokens->holders);
    tokens->left++;
    if (tokens->granting)
        return false;
    if (tokens->line.first)
        hand_over(tokens);
    return tokens->left == tokens->limit;
}

/* ---- who is waited for ---- */

void weft__tokens_name_holders(const struct weft__tokens *tokens, struct weft__waits *waits)
{
    weft__waits_what(waits, tokens->grant.type->name);
    weft__waits_any(waits);
    weft__waits_holders(waits, &tokens->holders, tokens->limit - tokens->left);
}

static void name_holders(void *arg, struct weft__waits *waits)
{
    weft__tokens_name_holders(((const struct weft__waiter *)arg)->owner, waits);
}

const struct weft__wait_kind weft__tokens_waits = {leave, name_holders};

/* ---- running something with a token ---- */

struct run {
    weft_result (*fn)(void *arg);
    void *arg;
    weft_result grant; /* once it has one */
};

static weft_result run_begin(weft_result grant, void *arg)
{
    struct run *run = arg;

    run->grant = grant;
    return run->fn(run->arg);
}

static weft_result run_end(weft_result result, void *arg)
{
    struct run *run = arg;

    weft_result_drop(run->grant);
    weft_free(run);
    return result;
}

weft_deferred *weft__tokens_run(struct weft__tokens *tokens, weft_result (*fn)(void *arg), void *arg,
                                const weft_place *place)
{
    struct run *run = weft_alloc(sizeof *run);
    weft_deferred *deferred = weft__tokens_acquire(tokens, place);

    *run = (struct run){.fn = fn, .arg = arg};
    weft_deferred_add_callback(deferred, run_begin, run);
    weft__deferred_attach(deferred, run_end, run);
    return deferred;
}

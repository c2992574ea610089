/* Tokens: a count and a line.
 *
 * Invariant: while somebody stands in line no token is left, unless one is being handed over. A waiter's callback may release
 * its token at once: that release only counts it, and the loop of the one further up the stack hands it on. So a million
 * waiters that do nothing but release take no more stack than one. Meanwhile newcomers join the line: nobody overtakes. */
#include "lib/tokens.h"

#include <assert.h>

#include "lib/deferred.h"

void weft__tokens_init(struct weft__tokens *tokens, size_t limit, weft_result grant)
{
    *tokens = (struct weft__tokens){.left = limit, .limit = limit, .grant = grant};
}

weft_deferred *weft__tokens_acquire(struct weft__tokens *tokens, const weft_place *place)
{
    if (!tokens->left || tokens->line.first)
        return weft__waiters_join(&tokens->line, weft__waiter_cancel, NULL, weft_ok(NULL), place);
    tokens->left--;
    return weft_deferred_with_at(tokens->grant, place);
}

static void hand_over(struct weft__tokens *tokens)
{
    tokens->granting = true;
    while (tokens->left && tokens->line.first) {
        tokens->left--;
        weft__waiter_fire(tokens->line.first, tokens->grant);
    }
    tokens->granting = false;
}

bool weft__tokens_release(struct weft__tokens *tokens)
{
    assert(weft__tokens_held(tokens));
    tokens->left++;
    if (tokens->granting)
        return false;
    if (tokens->line.first)
        hand_over(tokens);
    return tokens->left == tokens->limit;
}

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

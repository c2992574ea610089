/* Tokens: what locks, semaphores and the keys of a linearizer have in common.
 *
 * So many may be held at once; those who come later stand in line. A token given back goes to the first in line and is
 * never free in between. What a holder gets is `grant`, a result that owns a token: dropping it must come to
 * weft__tokens_release, and what it points to begins with the tokens. Whoever owns them stays alive while one of them is
 * held. */
#ifndef WEFT_LIB_TOKENS_H
#define WEFT_LIB_TOKENS_H

#include "lib/holders.h"
#include "lib/waiters.h"

struct weft__tokens {
    struct weft__holders holders; /* first */
    struct weft__waiters line;
    size_t left; /* not held: those that are on their way to waiters count */
    size_t limit;
    weft_result grant;
    bool granting; /* tokens are being handed over further up the C stack */
};

WEFT_INTERNAL void weft__tokens_init(struct weft__tokens *tokens, size_t limit, weft_result grant);

WEFT_INTERNAL weft_deferred *weft__tokens_acquire(struct weft__tokens *tokens, const weft_place *place) WEFT_MUST_USE;

/* Gives one back that is held. Returns whether nobody holds or wants one any more, nor is further up the stack: then the
 * tokens may go; otherwise they may have gone already. */
WEFT_INTERNAL bool weft__tokens_release(struct weft__tokens *tokens);

/* Acquires, calls fn(arg), releases when its result is there, and passes that on. */
WEFT_INTERNAL weft_deferred *weft__tokens_run(struct weft__tokens *tokens, weft_result (*fn)(void *arg), void *arg,
                                              const weft_place *place) WEFT_MUST_USE;

struct weft__waits;
/* For who stands in line, or behind somebody who does: see lib/waits.h. */
WEFT_INTERNAL void weft__tokens_name_holders(const struct weft__tokens *tokens, struct weft__waits *waits);

static inline bool weft__tokens_held(const struct weft__tokens *tokens)
{
    return tokens->left < tokens->limit;
}

/* Whether the tokens may go when their owner is no longer referred to. */
static inline bool weft__tokens_idle(const struct weft__tokens *tokens)
{
    return tokens->left == tokens->limit && !tokens->granting;
}

/* Those on their way to a waiter are neither free, nor is that one waiting. */
static inline size_t weft__tokens_free(const struct weft__tokens *tokens)
{
    return tokens->left > tokens->line.count ? tokens->left - tokens->line.count : 0;
}

static inline size_t weft__tokens_waiting(const struct weft__tokens *tokens)
{
    return tokens->line.count > tokens->left ? tokens->line.count - tokens->left : 0;
}

#endif

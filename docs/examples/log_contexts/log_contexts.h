/* What the examples of docs/log-contexts.md share: each is a function in a file of its own, and main() runs one by name. */
#ifndef LOG_CONTEXTS_H
#define LOG_CONTEXTS_H

#include <weft/weft.h>

/* Turns the loop until `deferred`, which it takes, has its result, and drops that. */
void finish(weft_deferred *deferred);
/* Turns the loop until no fiber is left. */
void finish_all(void);

/* Something that takes a while: a deferred that brings success in a later turn of the loop. */
weft_deferred *some_io(void);

void set_by_hand(void);
void scope(void);
void waiting_in_a_scope(void);
void always_wait(void);
void sleeping(void);
void background_dropped(void);
void background_without_context(void);
void background_in_context(void);
void background_process(void);
void gather_plain(void);
void gather_without_context(void);
void gather_in_context(void);
void callback_after_scope(void);
void deferred_handed_on(void);
void bound_deferred(void);
void two_waits(void);
void orphans(void);

#endif

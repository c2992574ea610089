/* What the end of a reactor asks of the pools of its thread. */
#ifndef WEFT_RUNTIME_POOLS_H
#define WEFT_RUNTIME_POOLS_H

#include <stdbool.h>

bool weft__pools_left(void); /* not closed, or with threads that have not ended */
void weft__pools_close(void);
/* Logs the jobs that are waited for. Those that were abandoned are no longer, nor are their threads. */
void weft__pools_lose_patience(void);

/* Around a fork, and in the child, before anything else is done there. */
void weft__pools_before_fork(void);
void weft__pools_after_fork(void);
void weft__pools_heed_fork(void);

#endif

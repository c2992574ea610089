/* Results that go from one thread to another.
 *
 * Counts of references are not atomic, and each thread counts what it has alive. So an error that is to be another thread's
 * must be nobody else's any more, and is counted out here and in there. */
#ifndef WEFT_LIB_TRAVEL_H
#define WEFT_LIB_TRAVEL_H

#include <weft/result.h>

#include "lib/thread.h"

/* Takes `result` and gives it back fit for another thread: errors, also those in a weft_results or weft_indexed, that
 * somebody else holds are replaced by copies, which lack their payload unless it is an int. Says how many errors go with it,
 * and counts them out. What is in values of other types is not looked at. */
WEFT_INTERNAL weft_result weft__result_leave(weft_result result, size_t *errors);

/* On the other thread, with that number. */
static inline void weft__result_arrive(size_t errors)
{
    weft__thread.live.errors += errors;
}

#endif

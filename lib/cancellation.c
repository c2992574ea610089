/* What is asked of the counts. */
#include "lib/cancellation.h"

weft_cancellation_stats weft_cancellation_stats_get(void)
{
    return weft__thread.cancellation;
}

/* Descriptions, for what is counted under them. */
#ifndef WEFT_LIB_DESCRIPTION_H
#define WEFT_LIB_DESCRIPTION_H

#include <weft/description.h>

#include "lib/internal.h"

/* The one that is counted for `description`, which is registered if it was not. */
WEFT_INTERNAL weft_description *weft__description_counted(weft_description *description);
/* Another one starts, or ends: the one that is counted, registered by the first of these. */
WEFT_INTERNAL weft_description *weft__description_started(weft_description *description, uint64_t *number);
WEFT_INTERNAL void weft__description_ended(weft_description *counted);

#endif

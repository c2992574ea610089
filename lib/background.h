/* What those have in common that run somebody's function in the background. */
#ifndef WEFT_LIB_BACKGROUND_H
#define WEFT_LIB_BACKGROUND_H

#include "lib/context.h"

/* `fn`, called in the context `own`, has come back: makes that current again, and logs when it was not. Takes `own`. */
WEFT_INTERNAL void weft__background_returned(weft_context *own, const void *fn);

#endif

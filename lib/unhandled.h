/* Errors that nobody took, as the deferred that held one last tells of it. */
#ifndef WEFT_LIB_UNHANDLED_H
#define WEFT_LIB_UNHANDLED_H

#include <weft/deferred.h>

/* `d` holds an error: tells the hook, unless that was done or it is a cancellation that was asked for. */
void weft__unhandled_report(weft_deferred *d);

#endif

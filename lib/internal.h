/* What one of weft's libraries offers to its others, and to nobody else. */
#ifndef WEFT_LIB_INTERNAL_H
#define WEFT_LIB_INTERNAL_H

#include <weft/base.h>

#define WEFT_INTERNAL WEFT_API

#endif

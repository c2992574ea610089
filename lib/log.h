/* What the files of the log share. */
#ifndef WEFT_LIB_LOG_H
#define WEFT_LIB_LOG_H

#include <weft/log.h>

#include "lib/internal.h"

/* The least level that any sink takes has changed: loggers make nothing below it. */
void weft__loggers_set_wanted(weft_log_level level);

/* Around a fork, so that a child finds the levels whole, and their lock free. */
void weft__loggers_before_fork(void);
void weft__loggers_after_fork(void);

/* Where the limits of lines have their time from, in nanoseconds: CLOCK_MONOTONIC, or a test's. */
extern WEFT_INTERNAL int64_t (*weft__log_limit_now)(void);

#endif

/* tests/support/manual_clock.h: a clock that stands still until the test moves it. */
#ifndef WEFT_TEST_MANUAL_CLOCK_H
#define WEFT_TEST_MANUAL_CLOCK_H

#include <weft/clock.h>

struct manual_timer;

struct manual_clock {
    weft_clock clock;           /* first: a clock is its manual clock */
    struct manual_timer *first; /* started timers, those due first ahead, equal ones in the order of starting */
};

void manual_clock_init(struct manual_clock *manual);
/* Moves the time on, from one due timer to the next; each sees the time at which it was due. */
void manual_clock_advance(struct manual_clock *manual, double seconds);

#endif

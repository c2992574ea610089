/* weft/dump.h: which fibers there are, what each waits for, and which of them can never go on.
 *
 * All that is said is of the calling thread, and of this moment. A "fiber" is also a driven computation (weft/driver.h).
 * Each has a number that no other fiber of its thread ever gets. Any code may ask, at any time: a fiber, a callback, the
 * handler of a signal that the reactor watches; nothing is run, fired or changed by it, but it takes memory while it lasts.
 *
 * Who is to fire what a fiber waits for is known of other fibers, of gathers, lists, races and maps, of groups, which
 * are left when all of their fibers have ended, and of locks, semaphores, linearizers, read-write locks and conditions,
 * whose holder is the fiber that awaited the grant. Callbacks, sockets, timers, queues and events may bring something at
 * any time: who waits for one of them is in no deadlock. */
#ifndef WEFT_DUMP_H
#define WEFT_DUMP_H

#include <weft/base.h>

WEFT_BEGIN

/* A line for each fiber, oldest first: number, name, state, where it waits and for how many seconds. Below it, what applies
 * of: where it was started and its log context; its stack; what it waits for, down to the innermost deferred and whoever
 * holds what that is in line for; who asked it to stop, and where a cancel came out of a wait; the scopes that it is in.
 * Deadlocks stand above all. Writes at most `size` bytes, always ended by NUL; returns the length of the whole text, as
 * snprintf does. */
WEFT_API size_t weft_fiber_dump(char *text, size_t size);

/* Only the deadlocks: a line for each circle of fibers that wait for one another, so that none of them can go on unless one
 * is cancelled, by a deadline for one. Empty: there are none. Where circles share fibers, enough are told that each of the
 * deadlocks is in one of them. The rest as above. */
WEFT_API size_t weft_fiber_dump_deadlocks(char *text, size_t size);

WEFT_END

#endif

/* weft/weft.h: the whole core, and the reactor and fibers on top of it. HTTP is <weft/http.h>.
 *
 * The headers are for C11, and for C++11 with gcc or clang. There, functions and lambdas that capture nothing are
 * callbacks, what WEFT_TRY gives is a `void *` to be cast, and no exception may leave a callback or a fiber. Nor may a fiber
 * wait inside a catch block, or in a destructor while an exception passes: which ones are being handled is the thread's
 * affair, and a `throw;` after the wait would throw another fiber's. Catch, leave the block, then wait. */
#ifndef WEFT_WEFT_H
#define WEFT_WEFT_H

#include <weft/background.h>
#include <weft/background_queue.h>
#include <weft/base.h>
#include <weft/batching_queue.h>
#include <weft/cancellation.h>
#include <weft/clock.h>
#include <weft/condition.h>
#include <weft/context.h>
#include <weft/deferred.h>
#include <weft/description.h>
#include <weft/driver.h>
#include <weft/dump.h>
#include <weft/error.h>
#include <weft/event.h>
#include <weft/fiber.h>
#include <weft/gather.h>
#include <weft/group.h>
#include <weft/later.h>
#include <weft/linearizer.h>
#include <weft/live.h>
#include <weft/lock.h>
#include <weft/log.h>
#include <weft/log_sink.h>
#include <weft/looping_call.h>
#include <weft/measure.h>
#include <weft/metrics.h>
#include <weft/queue.h>
#include <weft/reactor.h>
#include <weft/reactor_handle.h>
#include <weft/read_write_lock.h>
#include <weft/result.h>
#include <weft/results.h>
#include <weft/scope.h>
#include <weft/semaphore.h>
#include <weft/stack.h>
#include <weft/test_clock.h>
#include <weft/thread_pool.h>

#endif

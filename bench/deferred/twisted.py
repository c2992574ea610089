"""The rows of Twisted: a line per row, NAME and the CPU time of an operation in nanoseconds."""

import contextvars
import sys
import time

from twisted.internet import defer, task
from twisted.internet.defer import CancelledError, Deferred

total = 0


def check(right, what):
    if not right:
        sys.exit("wrong: " + what)


def add_up(value):
    global total
    total += value
    return value


def handle(failure):
    global total
    failure.trap(CancelledError)
    total += 1


def create(operations):
    for _ in range(operations):
        d = Deferred()
    check(not d.called, "a new one")


def create_add_fire_free(operations):
    for _ in range(operations):
        d = Deferred()
        d.addCallback(add_up)
        d.callback(2)
    check(total == 2 * operations, "the sum of what callbacks got")


def two_callbacks(operations):
    for _ in range(operations):
        d = Deferred()
        d.addCallback(add_up)
        d.addCallback(add_up)
        d.callback(2)
    check(total == 4 * operations, "the sum of what two callbacks got")


variable = contextvars.ContextVar("variable", default=0)


def add_up_in_context(value):
    global total
    total += value * variable.get()


def other_context(operations):
    """Twisted has no contexts of its own: Python's, which the callback is bound to by hand."""
    variable.set(1)
    for _ in range(operations // 100):
        deferreds = []
        for _ in range(100):
            d = Deferred()
            run = contextvars.copy_context().run
            d.addCallback(lambda value, run=run: run(add_up_in_context, value))
            deferreds.append(d)
        variable.set(0)
        for d in deferreds:
            d.callback(2)
        variable.set(1)
    check(total == 2 * operations, "the sum of what callbacks got in their own context")


def chain_link(operations):
    for _ in range(operations):
        outer, inner = Deferred(), Deferred()
        outer.addCallback(lambda _, inner=inner: inner)
        outer.addCallback(add_up)
        outer.callback(None)
        inner.callback(2)
    check(total == 2 * operations, "the sum of what inner ones brought")


def errback_cancel(operations):
    for _ in range(operations):
        d = Deferred()
        d.addErrback(handle)
        d.cancel()
    check(total == operations, "the number of cancellations handled")


def chained_cancel(operations):
    for _ in range(operations):
        outer, inner = Deferred(), Deferred()
        outer.addCallback(lambda _, inner=inner: inner)
        outer.addErrback(handle)
        outer.callback(None)
        outer.cancel()
    check(total == operations, "the number of cancellations that came up")


def gather_10(operations):
    for _ in range(operations):
        deferreds = [Deferred() for _ in range(10)]
        defer.gatherResults(deferreds).addCallback(lambda values: add_up(sum(values)))
        for d in deferreds:
            d.callback(2)
    check(total == 20 * operations, "the sum of what was gathered")


def lock_pair(operations):
    def release(held):
        global total
        total += 1
        held.release()

    lock = defer.DeferredLock()
    for _ in range(operations):
        lock.acquire().addCallback(release)
    check(total == operations and not lock.locked, "the number of releases")


def queue_pair(operations):
    queue = defer.DeferredQueue()
    for _ in range(operations):
        queue.put(2)
        queue.get().addCallback(add_up)
    check(total == 2 * operations, "the sum of what was put")


def timeout_pair(operations):
    clock = task.Clock()
    for _ in range(operations):
        d = Deferred()
        d.addTimeout(60, clock)
        d.addCallback(add_up)
        add_up(len(clock.calls))
        d.callback(2)
    check(total == 3 * operations and not clock.calls, "the sum of what came in time")


def callbacks(size):
    def run(operations):
        for _ in range(operations // size):
            d = Deferred()
            for _ in range(size):
                d.addCallback(add_up)
            d.callback(2)
        check(total == 2 * operations, "the sum of what many callbacks got")

    return run


def links(size):
    def wait_for(inner):
        return lambda _: inner

    def run(operations):
        for _ in range(operations // size):
            chain = [Deferred() for _ in range(size + 1)]
            for i in range(size):
                chain[i].addCallback(wait_for(chain[i + 1]))
            chain[0].addCallback(add_up)
            for d in chain:
                d.callback(2)
        check(total == 2 * (operations // size), "what came out of a chain")

    return run


def measure(name, run, operations, warm_up=None):
    global total
    total = 0
    run(operations // 10 if warm_up is None else warm_up)
    total = 0
    start = time.process_time_ns()
    run(operations)
    print(name, (time.process_time_ns() - start) / operations)


ROWS = [create, create_add_fire_free, two_callbacks, other_context, chain_link, errback_cancel, chained_cancel]
ROWS += [lock_pair, queue_pair, timeout_pair]

for row in ROWS:
    measure(row.__name__, row, 20000)
measure("gather_10", gather_10, 4000)
# A million on one would take 40 seconds: the cost of each grows with their number.
for size in 1000, 10000, 100000:
    measure("callbacks_%d" % size, callbacks(size), 100000, 1000 if size == 1000 else 0)
    measure("links_%d" % size, links(size), 100000, 1000 if size == 1000 else 0)

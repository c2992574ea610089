"""The rows of Twisted's coroutines: a line per row, NAME and the CPU time of an operation in nanoseconds. With the argument
"parked" or "asleep", rows about many, as in bench/fiber/memory.h."""

import gc
import sys
import time

from twisted.internet import defer, reactor, task
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

PARKED, SLEEPERS = 100000, 20000  # 200,000 would take 20 seconds
total = 0


def check(right, what):
    if not right:
        sys.exit("wrong: " + what)


def handle(failure):
    failure.trap(CancelledError)


async def count_up():
    global total
    total += 1


def spawn_finish(operations):
    for _ in range(operations):
        ensureDeferred(count_up())
    check(total == operations, "the number of coroutines that ended")


async def await_each(operations):
    global total
    for _ in range(operations):
        total += await defer.succeed(2)


def await_ready(operations):
    ensureDeferred(await_each(operations))
    check(total == 2 * operations, "the sum of what was awaited")


turn = None


async def await_turns(operations):
    global total, turn
    for _ in range(operations):
        turn = Deferred()
        total += await turn


# Firing resumes the coroutine within the call, not through a queue.
def await_pending(operations):
    ensureDeferred(await_turns(operations))
    for _ in range(operations):
        turn.callback(2)
    check(total == 2 * operations, "the sum of what was awaited")


async def park():
    global total
    try:
        await Deferred(lambda _: None)
    except CancelledError:
        total += 1
        raise


def park_cancel(operations):
    for _ in range(operations):
        d = ensureDeferred(park())
        d.addErrback(handle)
        d.cancel()
    check(total == operations, "the number of cancelled waits")


def measure(run, operations):
    global total
    total = 0
    run(operations // 10)
    total = 0
    start = time.process_time_ns()
    run(operations)
    print(run.__name__, (time.process_time_ns() - start) / operations)


# ---- many ----


def read_memory(path, label):
    with open(path) as file:
        for line in file:
            if line.startswith(label):
                return 1024 * int(line.split()[1])
    sys.exit("no %s in %s" % (label, path))


def memory_now():
    gc.collect()
    return read_memory("/proc/self/smaps_rollup", "Rss:"), read_memory("/proc/self/status", "VmPTE:")


def print_memory(what, before, count):
    now = memory_now()
    print(what + "_bytes", (now[0] - before[0]) / count)
    print(what + "_page_tables", (now[1] - before[1]) / count)


def cancel_all(deferreds):
    for d in deferreds:
        d.addErrback(handle)
        d.cancel()
    check(total == len(deferreds), "the number of cancelled waits")


def parked_memory():
    before = memory_now()
    deferreds = [ensureDeferred(park()) for _ in range(PARKED)]
    print_memory("parked", before, PARKED)
    cancel_all(deferreds)


async def sleep():
    global total
    try:
        await task.deferLater(reactor, 3600)
    except CancelledError:
        total += 1
        raise


def asleep():
    before = memory_now()
    start = time.process_time_ns()
    deferreds = [ensureDeferred(sleep()) for _ in range(SLEEPERS)]
    print("sleepers_start", (time.process_time_ns() - start) / SLEEPERS)
    check(len(reactor.getDelayedCalls()) == SLEEPERS, "the number of timers")
    print_memory("sleepers", before, SLEEPERS)
    start = time.process_time_ns()
    cancel_all(deferreds)
    print("sleepers_cancel", (time.process_time_ns() - start) / SLEEPERS)
    check(not reactor.getDelayedCalls(), "the number of timers left")


if sys.argv[1:] == ["parked"]:
    parked_memory()
elif sys.argv[1:] == ["asleep"]:
    asleep()
else:
    measure(spawn_finish, 50000)
    measure(await_ready, 100000)
    measure(await_pending, 50000)
    measure(park_cancel, 20000)

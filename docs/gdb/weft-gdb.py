# gdb commands for programs that use weft: lists fibers, and shows the stack of one. See README.md beside this.
#
# Nothing in the program is changed or called, so it works on core files as well. A fiber that does not run has its registers
# on its own stack. Rather than write those into the thread's, an unwinder says that the frame which called the thread's
# innermost one, frame 0, is the fiber's innermost. So frame 0 stays what the thread was at, and is left out of backtraces.
#
# What fibers look like comes from the program's debug information: weft has to be built with -g, as its Makefile does.

import struct
import time

import gdb
import gdb.unwinder
from gdb.FrameDecorator import FrameDecorator

RUNNING, PARKED = 'WEFT__TASK_RUNNING', 'WEFT__TASK_PARKED'
STATES = {RUNNING: 'running', 'WEFT__TASK_NEW': 'not begun', 'WEFT__TASK_READY': 'ready',
          'WEFT__TASK_YIELDING': 'yielding', PARKED: 'waiting', 'WEFT__TASK_ENDED': 'ended',
          'WEFT__TASK_ABANDONED': 'abandoned'}


# ---- looking into weft -----------------------------------------------------------------------------------------------

def source_of(function):
    """The file that defines a global function of weft's: what is static there is found through it."""
    symbol = gdb.lookup_global_symbol(function)
    if symbol is None:
        raise gdb.GdbError('There is no %s with debug information: is weft in this program, and built with -g?' % function)
    return symbol.symtab


def type_in(name, function):
    return gdb.lookup_type(name, source_of(function).static_block())


def static_of_fibers(name):
    """A static variable or function of runtime/fiber/fiber.c; None where the program has no fibers."""
    if gdb.lookup_global_symbol('weft_spawn_at') is None:
        return None
    symbol = gdb.lookup_symbol(name, source_of('weft_spawn_at').static_block())[0]
    return symbol.value() if symbol else None


def text(pointer):
    return pointer.string(errors='replace') if int(pointer) else '-'


def place(pointer):
    if not int(pointer):
        return '-'
    return '%s:%d %s' % (text(pointer['file']), int(pointer['line']), text(pointer['function']))


def context_name(context):
    if not int(context):
        return '-'
    if int(context['name']):
        return text(context['name'])
    return '%s-%d' % (text(context['prefix']), int(context['number']))


def flag(name):
    fields = {field.name: field.enumval for field in type_in('enum weft__deferred_flag', 'weft_deferred_new_at').fields()}
    return fields[name]


def now(clock):
    """By that clock, in nanoseconds. A core file has only what it said when the loop's last turn began."""
    connection = gdb.selected_inferior().connection
    if connection is not None and connection.type == 'native' and 'reactor_now' in str(clock['now']):
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    return int(clock['recent'])


class Task:
    """A fiber, or a driven computation, which has no stack of its own."""

    def __init__(self, task, thread):
        states = {field.enumval: field.name for field in type_in('enum weft__task_state', 'weft_await_at').fields()}
        self.task = task
        self.thread = thread
        self.number = int(task['number'])
        self.name = text(task['name'])
        self.state = states[int(task['state'])]

    def state_text(self):
        clock = self.thread['clock']
        if self.state != PARKED or not int(clock):
            return STATES[self.state]
        return '%s for %.3f s' % (STATES[PARKED], (now(clock) - int(self.task['since'])) / 1e9)

    def context(self):
        """The context of one that has been left lies in the task."""
        if int(self.thread['task']) == int(self.task):
            return context_name(self.thread['context'])
        return '-' if self.state == RUNNING else context_name(self.task['context'])

    def awaited(self):
        """Where the innermost deferred was made that it waits for."""
        deferred = self.task['awaited']
        waiting = flag('WEFT__WAITING')
        if self.state != PARKED or not int(deferred):
            return None
        while int(deferred['flags']) & waiting:
            deferred = deferred['result']['value'].cast(deferred.type)
        return place(deferred['made_at'])

    def fiber(self):
        """Its struct fiber; None when it is driven."""
        run = int(self.task['runnable']['run'])
        functions = [static_of_fibers(name) for name in ('fiber_run', 'begin_fiber')]
        if run not in [int(function.address) for function in functions if function is not None]:
            return None
        return self.task.cast(type_in('struct fiber', 'weft_spawn_at').pointer())

    def has_the_processor(self):
        return int(self.thread['stack_of']) == int(self.task)


def tasks():
    """Those of the selected thread, oldest first."""
    if gdb.selected_thread() is None:
        raise gdb.GdbError('There is no thread to look at.')
    thread = gdb.lookup_global_symbol('weft__thread')
    if thread is None:
        raise gdb.GdbError('There is no weft__thread with debug information: is weft in this program, and built with -g?')
    thread = thread.value()
    found, task = [], thread['tasks']['newest']
    while int(task):
        if not int(task['name']):
            raise gdb.GdbError('The stacks of fibers are missing in this core file. gdb\'s own generate-core-file stops '
                               'at their guard pages: "weft core FILE" does not, nor does the kernel.')
        found.append(Task(task, thread))
        task = task['older']
    return found[::-1]


def task_numbered(argument):
    try:
        number = int(argument)
    except ValueError:
        raise gdb.GdbError('Which fiber? Its number is what "weft fibers" says.')
    for task in tasks():
        if task.number == number:
            return task
    raise gdb.GdbError('This thread has no fiber %d.' % number)


# ---- the registers of a fiber that was left ---------------------------------------------------------------------------

def word(address):
    return gdb.Value(address).cast(gdb.lookup_type('long').pointer()).dereference()


def saved_inline(saved):
    """runtime/fiber/switch.h: a struct weft__place_on_stack. All else the function that it is inlined into has saved."""
    return {name: word(saved + 8 * i) for i, name in enumerate(('rip', 'rbp', 'rsp'))}


def saved_by_ucontext(saved):
    """runtime/fiber/switch_ucontext.c: a ucontext_t, in which the registers begin at 40."""
    names = {'r12': 4, 'r13': 5, 'r14': 6, 'r15': 7, 'rbp': 10, 'rbx': 11, 'rsp': 15, 'rip': 16}
    return {name: word(saved + 40 + 8 * i) for name, i in names.items()}


def saved_registers(fiber):
    if gdb.selected_frame().architecture().name() != 'i386:x86-64':
        raise gdb.GdbError('How fibers are left on this machine is not known here: only x86-64 is.')
    by_ucontext = gdb.lookup_static_symbol('carried_over') is not None # of switch_ucontext.c
    return (saved_by_ucontext if by_ucontext else saved_inline)(int(fiber['task']['kept']))


class Selected:
    """The fiber whose stack is shown in the place of its thread's."""
    task = None       # a number
    ptid = None       # of the thread
    newest = None     # (pc, sp) of the thread's frame 0, by which that is known again
    registers = None


class FrameId:
    def __init__(self, sp, pc):
        self.sp = sp
        self.pc = pc


class Unwinder(gdb.unwinder.Unwinder):
    """Says who called frame 0: the fiber. gdb wants callers to lie higher, so frame 0 is said to lie below the fiber's."""

    def __init__(self):
        super().__init__('weft-fiber')

    def __call__(self, pending):
        if Selected.task is None or gdb.selected_thread() is None or gdb.selected_thread().ptid != Selected.ptid:
            return None
        if (int(pending.read_register('rip')), int(pending.read_register('rsp'))) != Selected.newest:
            return None
        sp, pc = Selected.registers['rsp'], pending.read_register('rip')
        info = pending.create_unwind_info(FrameId(gdb.Value(int(sp) - 8), pc))
        for name, value in Selected.registers.items():
            info.add_saved_register(name, value.cast(pending.read_register(name).type))
        return info


class Filter:
    """Leaves out the thread's own frame, with the functions inlined in it, which come first."""

    def __init__(self):
        self.name = 'weft-fiber'
        self.priority = 100
        self.enabled = True

    def filter(self, frames):
        inside = Selected.task is not None
        for frame in frames:
            if not inside:
                yield frame
            else:
                inside = FrameDecorator(frame).inferior_frame().type() == gdb.INLINE_FRAME


def deselect(_event=None):
    if Selected.task is not None:
        Selected.task = None
        gdb.invalidate_cached_frames()


def select(task):
    fiber = task.fiber()
    if fiber is None:
        raise gdb.GdbError('%d %s is a driven computation: it has no stack of its own.' % (task.number, task.name))
    deselect()
    if task.has_the_processor():
        return
    registers = saved_registers(fiber)
    newest = gdb.newest_frame()
    Selected.newest = (int(newest.read_register('rip')), int(newest.read_register('rsp')))
    Selected.registers = registers
    Selected.ptid = gdb.selected_thread().ptid
    Selected.task = task.number
    gdb.invalidate_cached_frames()
    frame = gdb.newest_frame()
    while frame is not None and frame.type() == gdb.INLINE_FRAME:
        frame = frame.older()
    caller = frame.older() if frame is not None else None
    if caller is None:
        deselect()
        raise gdb.GdbError('The stack of %d %s cannot be read.' % (task.number, task.name))
    caller.select()


# ---- commands -------------------------------------------------------------------------------------------------------------

class Weft(gdb.Command):
    """Commands for programs that use weft."""

    def __init__(self):
        super().__init__('weft', gdb.COMMAND_STACK, prefix=True)


class Fibers(gdb.Command):
    """Lists the fibers of the selected thread, oldest first: "weft fibers".

Number, name, state, where it waits, its log context; below, where the innermost deferred was made that it waits for. The one
that is shown is marked with *."""

    def __init__(self):
        super().__init__('weft fibers', gdb.COMMAND_STACK)

    def invoke(self, _argument, _from_tty):
        found = tasks()
        print('%d fiber%s' % (len(found), '' if len(found) == 1 else 's'))
        for task in found:
            here = Selected.task == task.number or (Selected.task is None and task.has_the_processor())
            print('%s %d %s: %s, at %s, context %s' % ('*' if here else ' ', task.number, task.name, task.state_text(),
                                                      place(task.task['place']), task.context()))
            if task.awaited():
                print('      waits for the deferred made at %s' % task.awaited())


class Fiber(gdb.Command):
    """Shows the stack of a fiber of the selected thread: "weft fiber N", with N from "weft fibers".

bt, frame, up, down and info locals then are about that fiber, until the program goes on, or "weft fiber 0", which goes
back to where the thread is. Nothing in the program changes."""

    def __init__(self):
        super().__init__('weft fiber', gdb.COMMAND_STACK)

    def invoke(self, argument, _from_tty):
        if argument.strip() == '0':
            deselect()
            gdb.newest_frame().select()
        else:
            task = task_numbered(argument)
            select(task)
            print('Fiber %d %s: %s, at %s' % (task.number, task.name, task.state_text(), place(task.task['place'])))
        gdb.execute('frame')


class Backtrace(gdb.Command):
    """Prints the backtrace of a fiber of the selected thread, or of each: "weft bt N", "weft bt all"."""

    def __init__(self):
        super().__init__('weft bt', gdb.COMMAND_STACK)

    def invoke(self, argument, _from_tty):
        shown = Selected.task
        wanted = tasks() if argument.strip() == 'all' else [task_numbered(argument)]
        try:
            for task in wanted:
                self.show(task)
        finally:
            deselect()
            if shown is not None:
                select(task_numbered(shown))

    def show(self, task):
        print('\nFiber %d %s: %s, at %s' % (task.number, task.name, task.state_text(), place(task.task['place'])))
        if task.fiber() is None:
            print('It is a driven computation, without a stack of its own.')
            return
        select(task)
        gdb.execute('bt')


class Core(gdb.Command):
    """Writes a core file in which fibers can be looked at: "weft core FILE".

That is gdb's generate-core-file, and then what that has left out: it stops at the first page of a mapping that it cannot
read, though a guard page of a stack is such a one."""

    PIECE, PAGE = 1024 * 1024, 4096

    def __init__(self):
        super().__init__('weft core', gdb.COMMAND_STACK)

    def invoke(self, argument, _from_tty):
        path = argument.strip()
        if not path:
            raise gdb.GdbError('To which file?')
        gdb.execute('generate-core-file %s' % path, to_string=True)
        with open(path, 'r+b') as core:
            for offset, address, size in self.segments(core):
                self.complete(core, offset, address, size)
        print('Saved %s, with the stacks of fibers' % path)

    @staticmethod
    def segments(core):
        """Offset in the file, address and size of those that are in memory: see elf(5)."""
        header = struct.unpack('<16sHHIQQQIHHHHHH', core.read(64))
        if header[0][:6] != b'\x7fELF\x02\x01':
            raise gdb.GdbError('This kind of core file is not known here: only 64 bits, little endian, is.')
        for i in range(header[10]):
            core.seek(header[5] + i * header[9])
            kind, _flags, offset, address, _physical, size, _memory, _align = struct.unpack('<IIQQQQQQ', core.read(56))
            if kind == 1 and size:
                yield offset, address, size

    def complete(self, core, offset, address, size):
        """From the first piece that cannot be read as a whole, as gdb has stopped there, page by page."""
        done = 0
        while done < size and self.read(address + done, min(self.PIECE, size - done)) is not None:
            done += self.PIECE
        for at in range(done, size, self.PAGE):
            page = self.read(address + at, min(self.PAGE, size - at))
            if page is not None:
                core.seek(offset + at)
                core.write(page)

    @staticmethod
    def read(address, size):
        try:
            return gdb.selected_inferior().read_memory(address, size)
        except gdb.MemoryError:
            return None


Weft()
Core()
Fibers()
Fiber()
Backtrace()
gdb.unwinder.register_unwinder(None, Unwinder(), replace=True)
gdb.frame_filters['weft-fiber'] = Filter()
gdb.events.cont.connect(deselect)
gdb.events.exited.connect(deselect)

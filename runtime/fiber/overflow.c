/* The handler of SIGSEGV and SIGBUS. Installed once for the process; it runs on a signal stack, which each thread with
 * fibers has, since there is no room on the one that overflowed.
 *
 * A fault is ours when its address is in the guard of the fiber that runs on this thread: then one line is written and the
 * signal kills. Any other goes to the handler that was there before, as if ours were not: with its mask, its SA_NODEFER and
 * its SA_RESETHAND. All of this happens inside a signal handler: no locks, no allocation, no stdio. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/fiber/overflow.h"

static const int watched[] = {SIGSEGV, SIGBUS};
static struct sigaction before[sizeof watched / sizeof *watched]; /* ours, for each of them */

/* ---- the message ---- */

struct line {
    char text[1024];
    size_t length;
};

/* A name is the caller's text: whatever would not be one line is not shown. */
static void add(struct line *line, const char *text)
{
    for (; *text && line->length < sizeof line->text; text++)
        line->text[line->length++] = (unsigned char)*text < ' ' ? '?' : *text;
}

static void add_number(struct line *line, uintptr_t number, unsigned base)
{
    char digits[24], *digit = digits + sizeof digits;

    *--digit = '\0';
    do
        *--digit = "0123456789abcdef"[number % base];
    while (number /= base);
    add(line, digit);
}

static void tell(const struct weft__running *fiber)
{
    struct line line = {.length = 0};

    add(&line, "weft: the fiber ");
    add(&line, fiber->name);
    if (line.length > sizeof line.text / 2)
        line.length = sizeof line.text / 2;
    add(&line, " overflowed its stack of ");
    add_number(&line, fiber->usable / 1024, 10);
    add(&line, " KiB; its entry function is at 0x");
    add_number(&line, (uintptr_t)fiber->entry, 16);
    add(&line, "; it needs a larger weft_spawn_options.stack_size, or weft_stack_options.size");
    line.text[line.length++] = '\n';
    if (write(STDERR_FILENO, line.text, line.length) < 0)
        return; /* there is nobody to tell */
}

/* ---- the handler ---- */

/* The same signal once more, with all that the kernel told of it, for its default action to take when the handler returns.
 * If it cannot be sent, the instruction that faulted does it again. */
static void die(int signal_number, siginfo_t *info)
{
    struct sigaction action = {.sa_handler = SIG_DFL};

    sigaction(signal_number, &action, NULL);
    syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), signal_number, info);
}

static struct sigaction *before_of(int signal_number)
{
    return signal_number == watched[0] ? &before[0] : &before[1];
}

static void call(const struct sigaction *action, int signal_number, siginfo_t *info, void *context)
{
    sigset_t own;

    sigemptyset(&own);
    sigaddset(&own, signal_number);
    pthread_sigmask(SIG_BLOCK, &action->sa_mask, NULL); /* sigreturn puts back what it was */
    if (action->sa_flags & SA_NODEFER)
        pthread_sigmask(SIG_UNBLOCK, &own, NULL);
    if (action->sa_flags & SA_SIGINFO)
        action->sa_sigaction(signal_number, info, context);
    else
        action->sa_handler(signal_number);
}

static void pass_on(int signal_number, siginfo_t *info, void *context)
{
    struct sigaction action = *before_of(signal_number);
    bool sent = info->si_code <= 0; /* by somebody, with kill(2) or the like: no instruction faulted */

    if (action.sa_handler == SIG_IGN && sent)
        return;
    if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) { /* the kernel lets no fault be ignored */
        die(signal_number, info);
        return;
    }
    if (action.sa_flags & SA_RESETHAND)
        *before_of(signal_number) = (struct sigaction){.sa_handler = SIG_DFL};
    call(&action, signal_number, info, context);
}

static bool is_overflow(const siginfo_t *info, struct weft__running *fiber)
{
    const char *address = info->si_addr;

    return info->si_code > 0 && weft__fiber_running(fiber) && address >= fiber->low && address < fiber->low + fiber->guard;
}

static void handle(int signal_number, siginfo_t *info, void *context)
{
    int saved = errno;
    struct weft__running fiber;

    if (is_overflow(info, &fiber)) {
        tell(&fiber);
        die(signal_number, info);
    } else {
        pass_on(signal_number, info, context);
    }
    errno = saved;
}

void weft__overflow_found(void)
{
    struct weft__running fiber;

    if (weft__fiber_running(&fiber))
        tell(&fiber);
    abort();
}

/* ---- being there ---- */

static void install(void)
{
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++) {
        /* Known before it may be needed. */
        sigaction(watched[i], NULL, &before[i]);
        sigaction(watched[i], &action, NULL);
    }
}

/* Room for the registers that the kernel saves, and for a handler that prints a backtrace. */
static size_t signal_stack_size(void)
{
    long least = sysconf(_SC_SIGSTKSZ);

    return (size_t)64 * 1024 + (least > 0 ? ((size_t)least + 4095) / 4096 * 4096 : 0);
}

void *weft__overflow_watch(void)
{
    static pthread_once_t installed = PTHREAD_ONCE_INIT;
    stack_t stack = {.ss_size = signal_stack_size()}, other;

    pthread_once(&installed, install);
    if (sigaltstack(NULL, &other) || !(other.ss_flags & SS_DISABLE))
        return NULL;
    stack.ss_sp = mmap(NULL, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack.ss_sp == MAP_FAILED)
        return NULL;
    if (sigaltstack(&stack, NULL)) {
        munmap(stack.ss_sp, stack.ss_size);
        return NULL;
    }
    return stack.ss_sp;
}

void weft__overflow_forget(void *signal_stack)
{
    stack_t current, none = {.ss_flags = SS_DISABLE};

    if (!signal_stack)
        return;
    /* Somebody may have put another in its place, and may keep ours to put it back: then it stays. */
    if (sigaltstack(NULL, &current) || current.ss_sp != signal_stack || sigaltstack(&none, NULL))
        return;
    munmap(signal_stack, current.ss_size);
}

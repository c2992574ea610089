/* Asking a thread what it is doing: a signal, whose handler copies names and a backtrace, and allocates and locks nothing.
 *
 * Everything that may go away once the thread runs on is copied there, so the thread need not be held while the names are
 * put together. There is one desk on which a sample is taken. Its state says whose it is, so that a signal that
 * comes late, after the one who asked has given up, finds that it is not wanted and touches nothing. */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <inttypes.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "lib/task.h"
#include "runtime/loop/sample.h"

enum { SAMPLE_SIGNAL = SIGURG, PATIENCE_NS = 500 * 1000 * 1000 };

enum desk_state {
    FREE,
    ASKED, /* by whoever calls weft__sample_take; the desk is the handler's as soon as it makes this TAKING */
    TAKING,
    TAKEN,
};

struct raw_sample {
    struct weft__sample sample;
    uint64_t context_number;
    bool context_numbered; /* the name is "context-number" */
    int frames_to_skip;    /* those of the handler */
};

static struct {
    int state; /* enum desk_state, atomic */
    const struct weft__thread *thread;
    sem_t taken; /* posted with every TAKEN */
    struct raw_sample raw;
} desk;

static struct sigaction previous;

/* ---- on the thread that is asked ---- */

static void copy_text(char *out, const char *text)
{
    size_t length = 0;

    for (; length < WEFT__SAMPLE_TEXT - 1 && text[length]; length++)
        out[length] = text[length];
    out[length] = '\0';
}

static void take_task(struct raw_sample *raw, const struct weft__task *task)
{
    raw->sample.fiber[0] = '\0';
    raw->sample.place = NULL;
    raw->sample.waited = false;
    if (!task)
        return;
    copy_text(raw->sample.fiber, task->name);
    raw->sample.place = task->place;
    raw->sample.waited = task->place != task->started_at;
}

static void take_context(struct raw_sample *raw, const weft_context *context)
{
    raw->sample.context[0] = '\0';
    raw->context_numbered = false;
    while (context && !context->name && !context->prefix) /* named as its parent is */
        context = weft__context_parent(context);
    if (!context)
        return;
    raw->context_numbered = !context->name;
    raw->context_number = context->number;
    copy_text(raw->sample.context, context->name ? context->name : context->prefix);
}

static void *interrupted_at(const ucontext_t *machine)
{
#if defined(__x86_64__)
    return (void *)machine->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (void *)machine->uc_mcontext.pc;
#else
    (void)machine;
    return NULL;
#endif
}

static void take_frames(struct raw_sample *raw, const ucontext_t *machine)
{
    const void *interrupted = interrupted_at(machine);
    int count = backtrace(raw->sample.frames, WEFT__SAMPLE_FRAMES), skip = 0;

    while (skip < count && raw->sample.frames[skip] != interrupted)
        skip++;
    raw->frames_to_skip = skip < count ? skip : 0;
    raw->sample.frame_count = count;
}

static void answer(const ucontext_t *machine)
{
    int asked = ASKED;

    if (__atomic_load_n(&desk.thread, __ATOMIC_RELAXED) != &weft__thread)
        return;
    if (!__atomic_compare_exchange_n(&desk.state, &asked, TAKING, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return;
    take_task(&desk.raw, weft__thread.task);
    take_context(&desk.raw, weft__thread.context);
    take_frames(&desk.raw, machine);
    __atomic_store_n(&desk.state, TAKEN, __ATOMIC_RELEASE);
    sem_post(&desk.taken);
}

static void pass_on(int number, siginfo_t *info, void *machine)
{
    if (previous.sa_flags & SA_SIGINFO)
        previous.sa_sigaction(number, info, machine);
    else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
        previous.sa_handler(number);
}

static void on_signal(int number, siginfo_t *info, void *machine)
{
    int saved = errno;

    if (info->si_code == SI_QUEUE && info->si_value.sival_ptr == &desk)
        answer(machine);
    else
        pass_on(number, info, machine);
    errno = saved;
}

/* ---- who may ask ---- */

void weft__samples_begin(void)
{
    /* On the stack for signals where a thread has one: the rest of a fiber's may be short. */
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    void *frame;

    sem_init(&desk.taken, 0, 0);
    (void)backtrace(&frame, 1); /* loads what it needs, which the handler must not */
    sigemptyset(&action.sa_mask);
    sigaction(SAMPLE_SIGNAL, NULL, &previous);
    sigaction(SAMPLE_SIGNAL, &action, NULL);
}

void weft__samples_end(void)
{
    struct sigaction now;

    sigaction(SAMPLE_SIGNAL, NULL, &now);
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_signal)
        sigaction(SAMPLE_SIGNAL, &previous, NULL);
}

void weft__samples_forked(void)
{
    __atomic_store_n(&desk.state, FREE, __ATOMIC_RELAXED);
    weft__samples_end();
}

/* ---- asking ---- */

static bool send_signal(pid_t tid)
{
    siginfo_t info = {.si_signo = SAMPLE_SIGNAL, .si_code = SI_QUEUE};

    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_ptr = &desk;
    return syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, SAMPLE_SIGNAL, &info) == 0;
}

/* By the time of day, as sem_timedwait has it: setting that while we wait makes us give up early, or late. */
static bool wait_for_answer(void)
{
    struct timespec until;
    int status;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += PATIENCE_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while ((status = sem_timedwait(&desk.taken, &until)) && errno == EINTR)
        ;
    return status == 0;
}

/* Takes the desk back from the thread that has not answered, unless that has begun just now. */
static bool give_up(void)
{
    int asked = ASKED;

    return __atomic_compare_exchange_n(&desk.state, &asked, FREE, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static bool ask(const struct weft__thread *thread, pid_t tid)
{
    int state = __atomic_load_n(&desk.state, __ATOMIC_ACQUIRE);

    if (state == TAKING)
        return false; /* the one asked before has been stopped in the middle of its answer */
    while (!sem_trywait(&desk.taken))
        ; /* an answer that came too late */
    __atomic_store_n(&desk.thread, thread, __ATOMIC_RELAXED);
    __atomic_store_n(&desk.state, ASKED, __ATOMIC_RELEASE);
    if (send_signal(tid) && wait_for_answer())
        return true;
    return !give_up() && wait_for_answer();
}

static void finish_names(struct raw_sample *raw)
{
    struct weft__sample *sample = &raw->sample;
    size_t length = strlen(sample->context);

    if (raw->context_numbered)
        snprintf(sample->context + length, WEFT__SAMPLE_TEXT - length, "-%" PRIu64, raw->context_number);
    sample->frame_count -= raw->frames_to_skip;
    memmove(sample->frames, sample->frames + raw->frames_to_skip, (size_t)sample->frame_count * sizeof *sample->frames);
}

bool weft__sample_take(struct weft__sample *sample, const struct weft__thread *thread, pid_t tid)
{
    if (!ask(thread, tid))
        return false;
    finish_names(&desk.raw);
    *sample = desk.raw.sample;
    __atomic_store_n(&desk.state, FREE, __ATOMIC_RELAXED);
    return true;
}

/* ---- printing ---- */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* Only exported names are known here; the offset in its module leads addr2line to all others. */
static int print_address(char *out, size_t size, uintptr_t address)
{
    Dl_info info;
    uintptr_t in_module;

    if (!dladdr((void *)address, &info) || !info.dli_fname)
        return snprintf(out, size, "%#" PRIxPTR, address);
    in_module = address - (uintptr_t)info.dli_fbase;
    if (!info.dli_sname)
        return snprintf(out, size, "(%s+%#" PRIxPTR ")", last_part(info.dli_fname), in_module);
    return snprintf(out, size, "%s+%#" PRIxPTR " (%s+%#" PRIxPTR ")", info.dli_sname, address - (uintptr_t)info.dli_saddr,
                    last_part(info.dli_fname), in_module);
}

void weft__sample_print_frames(const struct weft__sample *sample, char *out, size_t size)
{
    size_t length = 0;

    *out = '\0';
    for (int i = 0; i < sample->frame_count && length < size; i++) {
        /* All but the innermost are where a call returns to: the line, or even the function, after it. */
        uintptr_t address = (uintptr_t)sample->frames[i] - (i > 0);

        if (i)
            length += (size_t)snprintf(out + length, size - length, " < ");
        if (length < size)
            length += (size_t)print_address(out + length, size - length, address);
    }
}

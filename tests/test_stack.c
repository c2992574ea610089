/* Stacks: their sizes, their guards, what an overflow says, whose faults are passed on, peaks, and what idle ones cost. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/fiber/stack.h"

enum { KIB = 1024, GUARD = 16 * KIB, USUAL = 128 * KIB };

static weft_reactor *reactor;

static void begin(void)
{
    cr_assert_null(weft_reactor_new(&reactor));
}

static void end(void)
{
    reactor = weft_reactor_free(reactor);
    cr_assert_eq(weft_live_counts_get().fibers, 0);
}

static void configure(weft_stack_options options)
{
    cr_assert_null(weft_stack_configure(options));
}

static void finish(weft_deferred *d, const char *label)
{
    trace("%s=%s", label, told(weft_reactor_run_until(reactor, d)));
}

static weft_result return_nil(void *unused)
{
    (void)unused;
    return weft_ok(NULL);
}

static void spawn_and_forget(weft_fiber_fn *fn, void *arg)
{
    weft_deferred_unref(weft_spawn(fn, arg));
}

/* Frames that are used, of 1 KiB and a little more each. */
static __attribute__((noinline)) int use_stack(int kib)
{
    volatile char block[1024];

    memset((char *)block, kib + 1, sizeof block);
    return kib ? use_stack(kib - 1) + block[kib % 1024] : 0;
}

static weft_result use_much_stack(void *kib)
{
    volatile int result = use_stack((int)(intptr_t)kib);

    (void)result;
    WEFT_TRY(weft_yield());
    result = use_stack((int)(intptr_t)kib);
    return weft_ok(NULL);
}

#ifdef WEFT_TEST_SANITIZED
enum { OF_112 = 40, OF_400 = 150, OF_1000 = 400 }; /* their frames are larger */
#else
enum { OF_112 = 85, OF_400 = 340, OF_1000 = 850 }; /* and as many frames around them */
#endif

/* ---- sizes ---- */

Test(stack_size, is_112_KiB_unless_something_else_is_asked_for)
{
    weft_deferred *first, *second;

    begin();
    first = weft_spawn(use_much_stack, (void *)(intptr_t)OF_112);
    second = weft_spawn(use_much_stack, (void *)(intptr_t)OF_112);
    finish(first, "first");
    finish(second, "second");
    cr_assert_str_eq(trace_text(), "first=nil second=nil");
    end();
}

Test(stack_size, may_be_asked_for_by_a_spawn)
{
    begin();
    finish(weft_spawn_with(use_much_stack, (void *)(intptr_t)OF_1000, (weft_spawn_options){.stack_size = 1000 * KIB}),
           "large");
    finish(weft_spawn_with(return_nil, NULL, (weft_spawn_options){.stack_size = 1}), "small");
    finish(weft_spawn_with(use_much_stack, (void *)(intptr_t)OF_112, (weft_spawn_options){0}), "usual");
    cr_assert_str_eq(trace_text(), "large=nil small=nil usual=nil");
    end();
}

Test(stack_size, may_have_another_default)
{
    configure((weft_stack_options){.size = 400 * KIB});
    begin();
    finish(weft_spawn(use_much_stack, (void *)(intptr_t)OF_400), "d");
    cr_assert_str_eq(trace_text(), "d=nil");
    end();
}

Test(stack_size, is_rounded_up_so_that_stack_and_guard_are_a_power_of_two)
{
    static const size_t asked[][2] = {
        {0, 128}, {1, 32}, {16 * KIB, 32}, {16 * KIB + 1, 64}, {48 * KIB, 64}, {48 * KIB + 1, 128}, {112 * KIB, 128},
        {112 * KIB + 1, 256}, {1008 * KIB, 1024}, {1024 * KIB, 2048}, {(size_t)1 << 30, 2048 * KIB},
    };
    struct weft__stacks stacks = {0};
    struct weft__stack *stack;

    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        cr_assert_null(weft__stack_take(&stacks, asked[i][0], &stack));
        cr_assert_eq(stack->size, asked[i][1] * KIB, "%zu bytes are %zu", asked[i][0], stack->size);
        cr_assert_eq((uintptr_t)stack->low % stack->size, 0);
        cr_assert((char *)stack > stack->low + stack->size - 1100 && (char *)(stack + 1) <= stack->low + stack->size);
        weft__stack_give(&stacks, stack);
    }
    weft__stacks_free(&stacks);
}

Test(stack_size, of_more_than_a_GiB_is_a_misuse)
{
    weft_error *error = weft_stack_configure((weft_stack_options){.size = ((size_t)1 << 30) + 1});

    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    weft_error_unref(error);
    begin();
    finish(weft_spawn_with(return_nil, NULL, (weft_spawn_options){.stack_size = ((size_t)1 << 30) + 1}), "above");
    finish(weft_spawn_with(return_nil, NULL, (weft_spawn_options){.stack_size = SIZE_MAX}), "most");
    finish(weft_spawn(return_nil, NULL), "usual");
    cr_assert_str_eq(trace_text(), "above=!misuse most=!misuse usual=nil");
    end();
}

Test(stack_size, is_set_before_the_first_fiber_or_not_at_all)
{
    struct weft__stacks stacks = {0};
    struct weft__stack *stack;
    weft_error *error;

    configure((weft_stack_options){.size = 400 * KIB});
    configure((weft_stack_options){.size = 200 * KIB});
    begin();
    spawn_and_forget(return_nil, NULL);
    error = weft_stack_configure((weft_stack_options){.size = 800 * KIB});
    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    weft_error_unref(error);
    cr_assert_null(weft__stack_take(&stacks, 0, &stack));
    cr_assert_eq(stack->size, 256 * KIB);
    weft__stack_give(&stacks, stack);
    weft__stacks_free(&stacks);
    end();
}

#ifndef WEFT_TEST_SANITIZED /* which reserve terabytes of addresses for themselves */
Test(stack_size, that_cannot_be_had_is_an_ordinary_error)
{
    struct rlimit before, none;

    begin();
    cr_assert_eq(getrlimit(RLIMIT_AS, &before), 0);
    none = (struct rlimit){1024 * 1024, before.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_AS, &none), 0);
    conclude(weft_spawn(return_nil, NULL), "d");
    cr_assert_eq(setrlimit(RLIMIT_AS, &before), 0);
    cr_assert_eq(weft_live_counts_get().fibers, 0);
    finish(weft_spawn(return_nil, NULL), "next");
    cr_assert_str_eq(trace_text(), "d=!os_error next=nil", "and the next one has one");
    end();
}
#endif

/* ---- children, which die, and system calls that fail ---- */

#ifndef WEFT_TEST_SAN_valgrind /* which reports what they die of, rightly */
struct outcome {
    int status;     /* as of waitpid */
    char text[2048]; /* what it wrote to stderr */
};

static void die_quietly(void)
{
    struct rlimit none = {0, 0};

    setrlimit(RLIMIT_CORE, &none);
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    signal(SIGABRT, SIG_DFL);
}

static struct outcome outcome_of(void (*fn)(void))
{
    struct outcome outcome = {0};
    size_t length = 0;
    int ends[2];
    ssize_t got;
    pid_t child;

    cr_assert_eq(pipe(ends), 0);
    child = fork();
    cr_assert_geq(child, 0);
    if (!child) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        die_quietly();
        fn();
        _exit(0);
    }
    close(ends[1]);
    while ((got = read(ends[0], outcome.text + length, sizeof outcome.text - 1 - length)) > 0)
        length += (size_t)got;
    close(ends[0]);
    cr_assert_eq(waitpid(child, &outcome.status, 0), child);
    return outcome;
}

static int signal_of(struct outcome outcome)
{
    return WIFSIGNALED(outcome.status) ? WTERMSIG(outcome.status) : 0;
}

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        _exit(9);
}

static void child_begins(void)
{
    if (weft_reactor_new(&reactor))
        _exit(8);
}
#endif

#ifndef WEFT_TEST_SANITIZED
/* From now on `call` does as `action` says (SECCOMP_RET_...), if its argument number `argument` is `value`; -1: always. */
static void intercept(int call, int argument, unsigned value, unsigned action)
{
    const size_t looked_at = argument < 0 ? offsetof(struct seccomp_data, nr)
                                          : offsetof(struct seccomp_data, args) + 8 * (size_t)argument;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)looked_at),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, argument < 0 ? (unsigned)call : value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(7);
}

static void madvise_knows_no_guards(void)
{
    intercept(SYS_madvise, 2, 102, SECCOMP_RET_ERRNO | EINVAL);
}

static void mprotect_fails(int code)
{
    intercept(SYS_mprotect, 2, PROT_NONE, SECCOMP_RET_ERRNO | (unsigned)code);
}

static void map_nothing_more(void)
{
    static const int calls[] = {SYS_mmap, SYS_munmap, SYS_madvise, SYS_mprotect, SYS_mremap};

    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        intercept(calls[i], -1, 0, SECCOMP_RET_KILL_PROCESS);
}
#endif

/* ---- guards ---- */

Test(stack_guard, is_told)
{
    cr_assert_str_eq(weft_fiber_guard(), "none: no fiber has been started");
    begin();
    spawn_and_forget(return_nil, NULL);
    cr_assert(strncmp(weft_fiber_guard(), "guard pages (", 13) == 0, "%s", weft_fiber_guard());
    end();
}

Test(stack_guard, of_a_kind_that_there_is_not_is_a_misuse)
{
    weft_error *error = weft_stack_configure((weft_stack_options){.guard = (weft_stack_guard)(WEFT_GUARD_CANARY + 1)});

    cr_assert(weft_error_is(error, &WEFT_MISUSE));
    weft_error_unref(error);
}

#ifndef WEFT_TEST_SAN_valgrind /* which does not want this to be tried */
/* Whether the kernel can read it. */
static bool readable(const char *address)
{
    int ends[2];
    ssize_t wrote;

    cr_assert_eq(pipe(ends), 0);
    wrote = write(ends[1], address, 1);
    close(ends[0]);
    close(ends[1]);
    return wrote == 1;
}

static void check_guard(const struct weft__stack *stack)
{
    for (const char *page = stack->low; page < stack->low + GUARD; page += 4 * KIB)
        cr_assert_not(readable(page));
    cr_assert(readable(stack->low + GUARD));
    cr_assert(readable(stack->low + stack->size - 1));
}

enum { ROW = 1500 }; /* more than are kept when idle */

/* Each of so many that several arenas are needed, and that giving them back trims them: their guards must still be there. */
static void check_guards_of_many(void)
{
    static struct weft__stack *row[ROW];
    struct weft__stacks stacks = {0};

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < ROW; i++)
            cr_assert_null(weft__stack_take(&stacks, 0, &row[i]));
        for (int i = 0; i < ROW; i++)
            check_guard(row[i]);
        for (int i = 0; i < ROW; i++)
            weft__stack_give(&stacks, row[i]);
        cr_assert_lt(stacks.idle, (size_t)ROW * USUAL, "some were trimmed");
    }
    weft__stacks_free(&stacks);
}

Test(stack_guard, is_below_each_stack_also_when_that_was_trimmed, .timeout = 30)
{
    check_guards_of_many();
}

Test(stack_guard, made_by_mprotect_is_below_each_stack_also_when_that_was_trimmed, .timeout = 30)
{
    configure((weft_stack_options){.guard = WEFT_GUARD_MPROTECT});
    check_guards_of_many();
    cr_assert_str_eq(weft_fiber_guard(), "guard pages (mprotect)");
}
#endif

#ifndef WEFT_TEST_SANITIZED
static void spawn_and_say_guard(void)
{
    child_begins();
    trace("%s", told(weft_reactor_run_until(reactor, weft_spawn(return_nil, NULL))));
    say(trace_text());
    say(" ");
    say(weft_fiber_guard());
}

static void spawn_without_guard_pages_by_madvise(void)
{
    madvise_knows_no_guards();
    spawn_and_say_guard();
}

static void spawn_without_guard_pages(void)
{
    mprotect_fails(EACCES);
    spawn_without_guard_pages_by_madvise();
}

Test(stack_guard, is_the_best_that_the_machine_has)
{
    cr_assert_str_eq(outcome_of(spawn_without_guard_pages_by_madvise).text, "nil guard pages (mprotect)");
    cr_assert_str_eq(outcome_of(spawn_without_guard_pages).text, "nil canary words");
}

static void say_error_of_spawn(void)
{
    weft_deferred *d;
    weft_result result;

    child_begins();
    d = weft_spawn(return_nil, NULL);
    result = weft_deferred_take_result(d);
    say(weft_failed(result) ? weft_error_get_message(weft_failed(result)) : "none");
}

static void spawn_at_the_limit_of_mappings(void)
{
    madvise_knows_no_guards();
    mprotect_fails(ENOMEM);
    say_error_of_spawn();
}

Test(stack_guard, that_cannot_be_had_for_lack_of_mappings_is_an_error_that_names_the_limit)
{
    cr_assert_str_eq(outcome_of(spawn_at_the_limit_of_mappings).text,
                     "cannot guard a fiber's stack by guard pages (mprotect); the limit is the sysctl vm.max_map_count: "
                     "Cannot allocate memory");
}

static void insist_on_madvise(void)
{
    configure((weft_stack_options){.guard = WEFT_GUARD_MADVISE});
    madvise_knows_no_guards();
    say_error_of_spawn();
}

Test(stack_guard, that_was_chosen_is_not_replaced_by_another)
{
    cr_assert_str_eq(outcome_of(insist_on_madvise).text,
                     "cannot guard a fiber's stack by guard pages (MADV_GUARD_INSTALL): Invalid argument");
}
#endif

/* ---- overflow ---- */

#ifndef WEFT_TEST_SAN_valgrind
static weft_result use_too_much_stack(void *unused)
{
    volatile int result = use_stack(10000);

    (void)unused, (void)result;
    return weft_ok(NULL);
}

static weft_result yield_once(void *unused)
{
    (void)unused;
    return weft_yield();
}

static const char *message_of_overflow(const char *name, void *entry, int kib)
{
    static char text[512];

    snprintf(text, sizeof text,
             "weft: the fiber %s overflowed its stack of %d KiB; its entry function is at %p; it needs a larger "
             "weft_spawn_options.stack_size, or weft_stack_options.size\n",
             name, kib, entry);
    return text;
}

static void check_overflow(void (*fn)(void), int signal_number, int kib)
{
    const struct outcome outcome = outcome_of(fn);

    cr_assert_eq(signal_of(outcome), signal_number, "status %x: %s", (unsigned)outcome.status, outcome.text);
    cr_assert_str_eq(outcome.text, message_of_overflow("use_too_much_stack", (void *)use_too_much_stack, kib));
}

/* Each of a row of stacks, so that all have their guard; what lies below each is another fiber's. */
static int overflowing;

static void overflow(void)
{
    child_begins();
    for (int i = 0; i < overflowing; i++)
        spawn_and_forget(yield_once, NULL);
    weft_deferred_unref(weft_spawn(use_too_much_stack, NULL));
}

Test(stack_overflow, names_the_fiber_and_dies_of_the_fault)
{
    for (overflowing = 0; overflowing < 130; overflowing += 13)
        check_overflow(overflow, SIGSEGV, 112);
}

static void overflow_of_a_size(void)
{
    child_begins();
    weft_deferred_unref(weft_spawn_with(use_too_much_stack, NULL, (weft_spawn_options){.stack_size = 200 * KIB}));
}

Test(stack_overflow, tells_the_size_of_the_stack)
{
    check_overflow(overflow_of_a_size, SIGSEGV, 240);
}

static void overflow_by_mprotect(void)
{
    configure((weft_stack_options){.guard = WEFT_GUARD_MPROTECT});
    overflow();
}

Test(stack_overflow, is_told_also_where_mprotect_guards)
{
    overflowing = 70;
    check_overflow(overflow_by_mprotect, SIGSEGV, 112);
}

static void *overflow_in_thread(void *unused)
{
    overflow();
    return unused;
}

static void overflow_in_a_second_thread(void)
{
    pthread_t thread;

    child_begins();
    spawn_and_forget(yield_once, NULL);
    pthread_create(&thread, NULL, overflow_in_thread, NULL);
    pthread_join(thread, NULL);
}

Test(stack_overflow, is_told_on_each_thread)
{
    check_overflow(overflow_in_a_second_thread, SIGSEGV, 112);
}

static weft_result overflow_after_a_wait(void *unused)
{
    WEFT_TRY(weft_yield());
    return use_too_much_stack(unused);
}

static void overflow_later(void)
{
    child_begins();
    spawn_and_forget(yield_once, NULL);
    weft_result_drop(weft_reactor_run_until(reactor, weft_spawn(overflow_after_a_wait, NULL)));
}

Test(stack_overflow, names_whoever_runs_and_not_whoever_ran_first)
{
    const struct outcome outcome = outcome_of(overflow_later);

    cr_assert_eq(signal_of(outcome), SIGSEGV);
    cr_assert_str_eq(outcome.text, message_of_overflow("overflow_after_a_wait", (void *)overflow_after_a_wait, 112));
}

static void overflow_with_a_name(void)
{
    static char name[3000];

    memset(name, 'x', sizeof name - 1);
    memcpy(name, "two\nlines ", 10);
    child_begins();
    weft_deferred_unref(weft_spawn_at(use_too_much_stack, NULL, name, WEFT_HERE));
}

Test(stack_overflow, is_told_in_one_line_whatever_the_fiber_is_called)
{
    const struct outcome outcome = outcome_of(overflow_with_a_name);

    cr_assert_eq(signal_of(outcome), SIGSEGV);
    cr_assert_eq(strncmp(outcome.text, "weft: the fiber two?lines xxx", 29), 0, "%s", outcome.text);
    cr_assert_eq(strchr(outcome.text, '\n'), outcome.text + strlen(outcome.text) - 1);
    cr_assert_not_null(strstr(outcome.text, "xx overflowed its stack of 112 KiB; "));
    cr_assert_lt(strlen(outcome.text), 1000);
}

#ifndef WEFT_TEST_SANITIZED /* whose frames are others */
/* A frame whose lowest byte lies three pages below the one of its caller, and which touches no other. */
static __attribute__((noinline)) int step_down(int steps)
{
    volatile char block[12 * 1024];

    int below;

    block[0] = (char)steps;
    below = steps ? step_down(steps - 1) : 0;
    __asm__ volatile("" : : "r"(block) : "memory"); /* no loop instead */
    return below + block[0];
}

static weft_result use_too_much_stack_in_steps(void *unused)
{
    volatile int result = step_down(1000);

    (void)unused, (void)result;
    return weft_ok(NULL);
}

static void overflow_in_steps(void)
{
    child_begins();
    spawn_and_forget(yield_once, NULL);
    weft_deferred_unref(weft_spawn(use_too_much_stack_in_steps, NULL));
}

Test(stack_overflow, by_frames_that_step_over_pages_is_seen)
{
    const struct outcome outcome = outcome_of(overflow_in_steps);

    cr_assert_eq(signal_of(outcome), SIGSEGV);
    cr_assert_not_null(strstr(outcome.text, "the fiber use_too_much_stack_in_steps overflowed"), "%s", outcome.text);
}
#endif

/* ---- overflow, seen by canary words ---- */

/* Steps on what lies right below the stack, and nothing else. */
static weft_result step_on_canary(void *waits)
{
    char *here = __builtin_frame_address(0);
    volatile uint64_t *below = (uint64_t *)(((uintptr_t)here & ~(uintptr_t)(USUAL - 1)) + GUARD) - 1;

    *below = 0;
    if (waits)
        WEFT_TRY(weft_yield());
    say("it went on\n");
    return weft_ok(NULL);
}

static void *waits;

static void overflow_by_a_word(void)
{
    configure((weft_stack_options){.guard = WEFT_GUARD_CANARY});
    child_begins();
    finish(weft_spawn(return_nil, NULL), "another");
    finish(weft_spawn(step_on_canary, waits), "d");
}

Test(stack_overflow, is_seen_by_canary_words_when_the_fiber_is_left)
{
    const char *message = message_of_overflow("step_on_canary", (void *)step_on_canary, 112);
    struct outcome outcome;

    waits = &waits;
    outcome = outcome_of(overflow_by_a_word);
    cr_assert_eq(signal_of(outcome), SIGABRT);
    cr_assert_str_eq(outcome.text, message);

    waits = NULL;
    outcome = outcome_of(overflow_by_a_word);
    cr_assert_eq(signal_of(outcome), SIGABRT);
    cr_assert_eq(strncmp(outcome.text, "it went on\n", 11), 0);
    cr_assert_str_eq(outcome.text + 11, message);
}
#endif

Test(stack_guard, of_canary_words_lets_fibers_be)
{
    configure((weft_stack_options){.guard = WEFT_GUARD_CANARY, .idle = 3 * USUAL});
    begin();
    for (int round = 0; round < 3; round++) { /* also on stacks that were trimmed, and have new words */
        weft_deferred *all[20];

        for (int i = 0; i < 20; i++)
            all[i] = weft_spawn(use_much_stack, (void *)(intptr_t)OF_112);
        for (int i = 0; i < 20; i++)
            finish(all[i], "d");
    }
    trace_text();
    cr_assert_str_eq(weft_fiber_guard(), "canary words");
    end();
}

/* ---- faults that are not ours ---- */

#ifndef WEFT_TEST_SAN_valgrind
static char *nowhere; /* no memory is there */

static weft_result touch(void *address)
{
    *(volatile char *)address = 1;
    return weft_ok(NULL);
}

/* In a fiber and outside: neither is an overflow. */
static void fault_in_fiber(void)
{
    spawn_and_forget(touch, nowhere);
}

static void fault_outside(void)
{
    *(volatile char *)nowhere = 1;
}

static void send(void)
{
    raise(SIGSEGV);
}

static struct sigaction installed; /* before the first fiber */
static void (*fault)(void);

static void fault_with_handler(void)
{
    nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGSEGV, &installed, NULL);
    child_begins();
    spawn_and_forget(return_nil, NULL);
    fault();
    say("and on ");
    fault();
    say("and on ");
}

static struct outcome fault_outcome(struct sigaction action, void (*fn)(void))
{
    installed = action;
    fault = fn;
    return outcome_of(fault_with_handler);
}

/* Makes the memory be there, so that what faulted goes on. */
static void mend(const char *address)
{
    say(address == nowhere ? "seen " : "wrong address ");
    mprotect(nowhere, 4096, PROT_READ | PROT_WRITE);
}

static void mend_by_info(int signal_number, siginfo_t *info, void *context)
{
    if (signal_number != SIGSEGV || !context)
        say("wrong signal ");
    mend(info->si_addr);
}

static void mend_plainly(int signal_number)
{
    if (signal_number != SIGSEGV)
        say("wrong signal ");
    mend(nowhere);
}

static void check_passed_on(void (*fn)(void))
{
    cr_assert_str_eq(fault_outcome((struct sigaction){.sa_sigaction = mend_by_info, .sa_flags = SA_SIGINFO}, fn).text,
                     "seen and on and on ");
    cr_assert_str_eq(fault_outcome((struct sigaction){.sa_handler = mend_plainly}, fn).text, "seen and on and on ");
}

Test(stack_fault, that_is_no_overflow_goes_to_the_handler_before)
{
    check_passed_on(fault_in_fiber);
    check_passed_on(fault_outside);
}

static void check_kills(void (*handler)(int), void (*fn)(void))
{
    const struct outcome outcome = fault_outcome((struct sigaction){.sa_handler = handler}, fn);

    cr_assert_eq(signal_of(outcome), SIGSEGV);
    cr_assert_str_eq(outcome.text, "");
}

Test(stack_fault, that_nobody_handles_kills)
{
    check_kills(SIG_DFL, fault_in_fiber);
    check_kills(SIG_DFL, fault_outside);
    check_kills(SIG_DFL, send);
}

Test(stack_fault, cannot_be_ignored_unless_somebody_sent_it)
{
    struct outcome outcome;

    check_kills(SIG_IGN, fault_in_fiber);
    outcome = fault_outcome((struct sigaction){.sa_handler = SIG_IGN}, send);
    cr_assert_eq(outcome.status, 0);
    cr_assert_str_eq(outcome.text, "and on and on ");
}

#ifndef WEFT_TEST_SAN_thread /* which calls handlers with everything blocked */
static void say_that_it_came(int signal_number)
{
    sigset_t blocked;

    (void)signal_number;
    say("came");
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    if (sigismember(&blocked, SIGSEGV))
        say(",segv blocked");
    if (sigismember(&blocked, SIGUSR1))
        say(",usr1 blocked");
    say(" ");
}

Test(stack_fault, is_passed_on_once_to_a_handler_that_wants_only_one)
{
    const struct outcome outcome =
        fault_outcome((struct sigaction){.sa_handler = say_that_it_came, .sa_flags = (int)SA_RESETHAND}, send);

    cr_assert_str_eq(outcome.text, "came,segv blocked and on ");
    cr_assert_eq(signal_of(outcome), SIGSEGV);
}

Test(stack_fault, is_passed_on_with_the_signals_blocked_that_the_handler_wants)
{
    struct sigaction action = {.sa_handler = say_that_it_came, .sa_flags = SA_NODEFER};

    cr_assert_str_eq(fault_outcome(action, send).text, "came and on came and on ");
    action.sa_flags = 0;
    sigaddset(&action.sa_mask, SIGUSR1);
    cr_assert_str_eq(fault_outcome(action, send).text,
                     "came,segv blocked,usr1 blocked and on came,segv blocked,usr1 blocked and on ");
}
#endif

static weft_result touch_guard_of_another(void *unused)
{
    char *here = (char *)((uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)(USUAL - 1));

    (void)unused;
    *(volatile char *)(here + USUAL + GUARD / 2) = 1;
    return weft_ok(NULL);
}

static void fault_in_guard_of_another(void)
{
    child_begins();
    spawn_and_forget(touch_guard_of_another, NULL);
}

Test(stack_fault, in_the_guard_of_another_fiber_is_no_overflow)
{
    const struct outcome outcome = outcome_of(fault_in_guard_of_another);

    cr_assert_eq(signal_of(outcome), SIGSEGV);
    cr_assert_str_eq(outcome.text, "");
}

static void say_bus_error(int signal_number, siginfo_t *info, void *context)
{
    (void)context;
    say(signal_number == SIGBUS && info->si_addr == nowhere ? "bus error" : "wrong");
    _exit(0);
}

static void touch_beyond_a_file(void)
{
    const struct sigaction action = {.sa_sigaction = say_bus_error, .sa_flags = SA_SIGINFO};
    int file = memfd_create("empty", 0);

    nowhere = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    sigaction(SIGBUS, &action, NULL);
    child_begins();
    spawn_and_forget(touch, nowhere);
}

Test(stack_fault, may_be_a_bus_error)
{
    cr_assert_str_eq(outcome_of(touch_beyond_a_file).text, "bus error");
}

static void leave_handlers_alone(void)
{
    configure((weft_stack_options){.no_handler = true});
    overflow();
}

Test(stack_fault, is_left_alone_when_asked_for)
{
    struct outcome outcome;

    overflowing = 0;
    outcome = outcome_of(leave_handlers_alone);
    cr_assert_eq(signal_of(outcome), SIGSEGV);
    cr_assert_str_eq(outcome.text, "");
}
#endif

/* ---- signal stacks ---- */

static void *signal_stack_now(void)
{
    stack_t now;

    cr_assert_eq(sigaltstack(NULL, &now), 0);
    return now.ss_flags & SS_DISABLE ? NULL : now.ss_sp;
}

static void lend_signal_stack(void *unused)
{
    weft_reactor *own;
    stack_t none = {.ss_flags = SS_DISABLE};

    (void)unused;
    sigaltstack(&none, NULL); /* a sanitizer's */
    cr_assert_null(weft_reactor_new(&own));
    cr_assert_null(signal_stack_now());
    spawn_and_forget(return_nil, NULL);
    cr_assert_not_null(signal_stack_now());
    weft_reactor_free(own);
    cr_assert_null(signal_stack_now());
}

Test(stack_signal_stack, comes_with_a_threads_first_fiber_and_goes_with_its_reactor)
{
    stack_t before;

    sigaltstack(NULL, &before);
    in_thread(lend_signal_stack, NULL);
    lend_signal_stack(NULL);
    sigaltstack(&before, NULL);
}

static void *bring_own_signal_stack(void *unused)
{
    stack_t own = {.ss_sp = malloc(64 * KIB), .ss_size = 64 * KIB}, before;
    weft_reactor *reactor_of_thread;

    cr_assert_eq(sigaltstack(&own, &before), 0);
    cr_assert_null(weft_reactor_new(&reactor_of_thread));
    spawn_and_forget(return_nil, NULL);
    cr_assert_eq(signal_stack_now(), own.ss_sp);
    weft_reactor_free(reactor_of_thread);
    cr_assert_eq(signal_stack_now(), own.ss_sp);
    sigaltstack(&before, NULL);
    free(own.ss_sp);
    return unused;
}

Test(stack_signal_stack, of_the_threads_own_is_kept)
{
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, bring_own_signal_stack, NULL), 0);
    pthread_join(thread, NULL);
}

/* ---- idle stacks ---- */

Test(stack_pool, hands_out_first_what_came_back_last)
{
    struct weft__stacks stacks = {0};
    struct weft__stack *a, *b, *again;

    cr_assert_null(weft__stack_take(&stacks, 0, &a));
    cr_assert_null(weft__stack_take(&stacks, 0, &b));
    cr_assert_neq(a, b);
    weft__stack_give(&stacks, a);
    weft__stack_give(&stacks, b);
    cr_assert_null(weft__stack_take(&stacks, 0, &again));
    cr_assert_eq(again, b);
    cr_assert_null(weft__stack_take(&stacks, 112 * KIB, &again));
    cr_assert_eq(again, a, "also when its size is asked for");
    weft__stack_give(&stacks, a);
    weft__stack_give(&stacks, b);
    weft__stacks_free(&stacks);
}

Test(stack_pool, begins_stacks_at_different_cache_lines)
{
    struct weft__stacks stacks = {0};
    struct weft__stack *stack;
    unsigned seen = 0;

    for (int i = 0; i < 16; i++) {
        cr_assert_null(weft__stack_take(&stacks, 0, &stack));
        seen |= 1U << ((uintptr_t)stack / 64 % 16);
    }
    cr_assert_eq(seen, 0xffff);
    weft__stacks_free(&stacks);
}

static struct weft__stack *taken[4000];

static void take(struct weft__stacks *stacks, int count, size_t usable)
{
    for (int i = 0; i < count; i++)
        cr_assert_null(weft__stack_take(stacks, usable, &taken[i]));
}

static void give(struct weft__stacks *stacks, int count)
{
    for (int i = 0; i < count; i++)
        weft__stack_give(stacks, taken[i]);
}

Test(stack_pool, keeps_1024_idle_stacks_and_half_as_many_when_there_are_more)
{
    struct weft__stacks stacks = {0};

    take(&stacks, 1025, 0);
    cr_assert_eq(stacks.idle, 0);
    give(&stacks, 1024);
    cr_assert_eq(stacks.idle, (size_t)1024 * USUAL);
    weft__stack_give(&stacks, taken[1024]);
    cr_assert_eq(stacks.idle, (size_t)512 * USUAL);
    take(&stacks, 512, 0);
    cr_assert_eq(stacks.idle, 0);
    weft__stacks_free(&stacks);
}

/* The last one given is the first to be handed out, so those that go are the others. */
Test(stack_pool, keeps_those_that_were_used_last)
{
    struct weft__stacks stacks = {0};
    struct weft__stack *last;

    take(&stacks, 1025, 0);
    last = taken[1024];
    give(&stacks, 1025);
    take(&stacks, 1, 0);
    cr_assert_eq(taken[0], last);
    weft__stacks_free(&stacks);
}

Test(stack_pool, lets_go_of_idle_stacks_of_every_size)
{
    struct weft__stacks stacks = {0};
    struct weft__stack *large;

    cr_assert_null(weft__stack_take(&stacks, (size_t)100 << 20, &large));
    weft__stack_give(&stacks, large);
    cr_assert_eq(stacks.idle, (size_t)128 << 20);
    take(&stacks, 10, 0);
    give(&stacks, 10);
    cr_assert_leq(stacks.idle, (size_t)10 * USUAL, "the large one went, for a small one came");
    take(&stacks, 1, 20 * KIB);
    give(&stacks, 1);
    take(&stacks, 5, 0);
    weft__stacks_free(&stacks);
}

Test(stack_pool, may_keep_nothing)
{
    struct weft__stacks stacks = {0};

    configure((weft_stack_options){.idle = 1});
    take(&stacks, 100, 0);
    give(&stacks, 100);
    cr_assert_eq(stacks.idle, 0);
    for (size_t i = 0; i < WEFT__STACK_CLASSES; i++)
        cr_assert(!stacks.classes[i].roomy && !stacks.classes[i].full, "every arena was unmapped");
    take(&stacks, 1, 0);
    weft__stacks_free(&stacks);
}

/* Every second one goes, each by itself between two that are in use. */
Test(stack_pool, takes_all_memory_of_those_that_go_and_none_of_their_neighbours)
{
    static struct weft__stack copies[64];
    struct weft__stacks stacks = {0};

    configure((weft_stack_options){.idle = 1});
    take(&stacks, 64, 0);
    for (int i = 0; i < 64; i++) {
        copies[i] = *taken[i];
        copies[i].low[GUARD] = 1;
    }
    for (int i = 0; i < 64; i += 2)
        weft__stack_give(&stacks, taken[i]);
    for (int i = 0; i < 64; i++)
        cr_assert_eq(weft__stack_peak(&stacks, &copies[i]), (size_t)(i % 2 ? 112 * KIB : 0));
    for (int i = 1; i < 64; i += 2)
        weft__stack_give(&stacks, taken[i]);
    weft__stacks_free(&stacks);
}

/* Every stack of a mixture is in use once, whatever was trimmed meanwhile; each is written to from end to end. */
Test(stack_pool, never_hands_out_a_stack_twice)
{
    struct weft__stacks stacks = {0};
    unsigned seed = 1;
    int count = 0;

    configure((weft_stack_options){.idle = 40 * USUAL});
    for (int step = 0; step < 20000; step++) {
        seed = seed * 1103515245 + 12345;
        if (count < 300 && (seed >> 16) % 300 >= (unsigned)(step / 500 % 2 ? 200 : 100)) {
            cr_assert_null(weft__stack_take(&stacks, (seed >> 8) % 3 ? 0 : 40 * KIB, &taken[count]));
            *(struct weft__stack **)(taken[count]->low + GUARD) = taken[count];
            count++;
        } else if (count) {
            const int i = (int)((seed >> 16) % (unsigned)count);

            cr_assert_eq(*(struct weft__stack **)(taken[i]->low + GUARD), taken[i]);
            weft__stack_give(&stacks, taken[i]);
            taken[i] = taken[--count];
        }
    }
    for (int i = 0; i < count; i++)
        cr_assert_eq(*(struct weft__stack **)(taken[i]->low + GUARD), taken[i]);
    give(&stacks, count);
    cr_assert_leq(stacks.idle, (size_t)40 * USUAL);
    weft__stacks_free(&stacks);
}

#ifndef WEFT_TEST_SANITIZED
static int mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    int lines = 0, c;

    cr_assert_not_null(maps);
    while ((c = getc(maps)) != EOF)
        lines += c == '\n';
    fclose(maps);
    return lines;
}

static long resident(void)
{
    long size = 0, pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    cr_assert_eq(fscanf(file, "%ld %ld", &size, &pages), 2);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static weft_result await_door(void *arg)
{
    return weft_await(weft_event_wait(arg));
}

/* So many that wait, and then all end. */
static weft_event *door;

static void park_many(int count)
{
    for (int i = 0; i < count; i++)
        spawn_and_forget(await_door, door);
    cr_assert_eq(weft_live_counts_get().fibers, (size_t)count);
}

static weft_result open_door(void *unused)
{
    (void)unused;
    weft_event_set(door);
    WEFT_TRY(weft_yield());
    weft_event_clear(door);
    return weft_ok(NULL);
}

static void end_all(void)
{
    weft_deferred *d = weft_spawn(open_door, NULL);

    weft_result_drop(weft_reactor_run_until(reactor, d));
    while (weft_live_counts_get().fibers)
        weft_result_drop(weft_reactor_run_until(reactor, weft_spawn(yield_once, NULL)));
}

/* Waves of fibers that are all idle in between: the pages, mappings and descriptors are there after the first two. */
static void waves_without_mapping(void)
{
    child_begins();
    door = weft_event_new();
    for (int i = 0; i < 50; i++) {
        if (i == 3)
            map_nothing_more();
        for (int j = 0; j < 1000; j++)
            spawn_and_forget(return_nil, NULL);
        park_many(1000);
        end_all();
    }
    say("steady");
}

Test(stack_pool, makes_no_system_calls_under_a_steady_load)
{
    const struct outcome outcome = outcome_of(waves_without_mapping);

    cr_assert_str_eq(outcome.text, "steady", "signal %d", signal_of(outcome));
}

Test(stack_pool, gives_memory_back_when_many_have_ended, .timeout = 30)
{
    enum { COUNT = 20000 };
    long before, parked;
    int mappings_before;

    begin();
    door = weft_event_new();
    park_many(COUNT);
    end_all(); /* what deferreds keep is kept from here on */
    before = resident();
    mappings_before = mappings();
    park_many(COUNT);
    parked = resident();
    cr_assert_gt(parked - before, (COUNT - 1024) * 4096L);
    end_all();
    cr_assert_lt(resident() - before, 1024L * 1024, "after %ld", parked - before);
    cr_assert_lt(mappings(), mappings_before + 10);
    weft_event_free(door);
    end();
}

/* ---- many ---- */

static void check_cost_of(int count)
{
    long before, each;

    begin();
    door = weft_event_new();
    spawn_and_forget(return_nil, NULL);
    before = resident();
    park_many(count);
    each = (resident() - before) / count;
    cr_assert_leq(each, 6 * 1024, "%ld bytes each", each);
    cr_assert_lt(mappings(), 65530);
    end_all();
    weft_event_free(door);
    end();
}

Test(stack_many, twenty_thousand_that_wait_cost_at_most_6_KiB_each, .timeout = 30)
{
    check_cost_of(20000);
}

static bool guards_take_mappings(void)
{
    bool they_do;

    begin();
    spawn_and_forget(return_nil, NULL);
    they_do = strstr(weft_fiber_guard(), "mprotect") != NULL;
    end();
    return they_do;
}

Test(slow_stack, two_hundred_thousand_that_wait_cost_at_most_6_KiB_each_and_few_mappings, .timeout = 60)
{
    if (guards_take_mappings())
        fprintf(stderr, "NOT TESTED: this kernel has no MADV_GUARD_INSTALL (Linux 6.13), so 200,000 stacks cannot be guarded\n");
    else
        check_cost_of(200 * 1000);
}
#endif

/* ---- peaks ---- */

Test(stack_peak, is_none_outside_a_fiber)
{
    cr_assert_eq(weft_fiber_stack_peak(), 0);
    begin();
    spawn_and_forget(return_nil, NULL);
    cr_assert_eq(weft_fiber_stack_peak(), 0);
    end();
}

/* Trials on the stack itself: a fiber's frames are not known to the word. */
Test(stack_peak, is_whole_pages_since_the_stack_got_its_memory)
{
    struct weft__stacks stacks = {0};
    struct weft__stack *stack;

    cr_assert_null(weft__stack_take(&stacks, 0, &stack));
    cr_assert_eq(weft__stack_peak(&stacks, stack), 4 * KIB);
    stack->low[USUAL - 50 * KIB] = 1;
    cr_assert_eq(weft__stack_peak(&stacks, stack), 52 * KIB);
    weft__stack_give(&stacks, stack);
    cr_assert_null(weft__stack_take(&stacks, 0, &stack));
    cr_assert_eq(weft__stack_peak(&stacks, stack), 52 * KIB, "it counts those who had it before");
    stack->low[GUARD] = 1;
    cr_assert_eq(weft__stack_peak(&stacks, stack), 112 * KIB);
    weft__stack_give(&stacks, stack);
    cr_assert_null(weft__stack_take(&stacks, (size_t)64 << 20, &stack));
    stack->low[stack->size - (50 << 20)] = 1;
    cr_assert_eq(weft__stack_peak(&stacks, stack), 50 << 20);
    weft__stack_give(&stacks, stack);
    weft__stacks_free(&stacks);
}

Test(stack_peak, with_paint_is_exact_to_the_word_and_the_fibers_own)
{
    struct weft__stacks stacks = {0};
    struct weft__stack *stack;

    configure((weft_stack_options){.paint = true});
    for (int i = 0; i < 3; i++) {
        cr_assert_null(weft__stack_take(&stacks, 0, &stack));
        cr_assert_eq(weft__stack_peak(&stacks, stack), (size_t)(stack->low + USUAL - (char *)stack));
        ((uint64_t *)(stack->low + USUAL))[-5000] = 0;
        cr_assert_eq(weft__stack_peak(&stacks, stack), 5000 * 8);
        ((uint64_t *)(stack->low + USUAL))[-5001] = 7;
        cr_assert_eq(weft__stack_peak(&stacks, stack), 5001 * 8);
        if (i)
            *(uint64_t *)(stack->low + GUARD) = 1;
        cr_assert_eq(weft__stack_peak(&stacks, stack), (size_t)(i ? 112 * KIB : 5001 * 8));
        weft__stack_give(&stacks, stack);
    }
    weft__stacks_free(&stacks);
}

#ifndef WEFT_TEST_SANITIZED
static weft_result note_peaks(void *kib)
{
    size_t first = weft_fiber_stack_peak(), second;
    volatile int result = use_stack((int)(intptr_t)kib);

    (void)result;
    second = weft_fiber_stack_peak();
    trace("%zu %zu", first / 4096, second / 4096);
    return weft_ok(NULL);
}

Test(stack_peak, of_the_running_fiber_is_told)
{
    int before, after;

    begin();
    finish(weft_spawn_with(note_peaks, (void *)(intptr_t)60, (weft_spawn_options){.stack_size = 200 * KIB}), "d");
    cr_assert_eq(sscanf(trace_text(), "%d %d", &before, &after), 2);
    cr_assert(before >= 1 && before <= 2, "%d pages", before);
    cr_assert(after >= 16 && after <= 24, "%d pages", after);
    end();
}
#endif

static weft_result note_exact_peak(void *kib)
{
    volatile int result = use_stack((int)(intptr_t)kib);
    size_t peak = weft_fiber_stack_peak();

    (void)result;
    cr_assert_geq(peak, (size_t)(intptr_t)kib * 1024);
    return weft_int((intptr_t)peak);
}

Test(stack_peak, with_paint_is_each_fibers_own)
{
    weft_result deep, shallow, again;

    configure((weft_stack_options){.paint = true});
    begin();
    deep = weft_reactor_run_until(reactor, weft_spawn(note_exact_peak, (void *)(intptr_t)30));
    shallow = weft_reactor_run_until(reactor, weft_spawn(note_exact_peak, (void *)(intptr_t)3));
    again = weft_reactor_run_until(reactor, weft_spawn(note_exact_peak, (void *)(intptr_t)30));
    cr_assert_gt((intptr_t)deep.value, (intptr_t)shallow.value + 27 * 1024);
    cr_assert_eq(deep.value, again.value);
    end();
}

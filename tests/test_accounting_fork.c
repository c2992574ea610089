/* The books in a child made by fork: the thread's CPU clock begins anew there, and they go on from what they were. What a
 * child finds wrong is the number of the line, with which it exits. */
#include "tests/support/fibers.h"
#include "tests/support/spin.h"
#include "tests/support/test.h"

#include <sys/wait.h>
#include <unistd.h>

#include "lib/context.h"

static int64_t used(weft_context *context)
{
    weft_usage usage = weft_context_get_usage(context);

    return usage.user_ns < 0 || usage.system_ns < 0 ? INT64_MIN : usage.user_ns + usage.system_ns;
}

static void spin_in(weft_context *context, int64_t ns)
{
    weft_preserve_context(context)
        spin(ns);
}

/* In a child: exits with the line's number, which is never 0. */
#define check(condition) ((condition) ? (void)0 : _exit(__LINE__ % 255 + 1))

static void assert_ended_well(pid_t child)
{
    int status;

    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status));
    cr_assert_eq(WEXITSTATUS(status), 0, "line %d, or 255 more, was not true in the child", WEXITSTATUS(status) - 1);
}

#if defined WEFT_TEST_SAN_valgrind
static const int64_t SLACK = 500 * 1000 * 1000;
#elif defined WEFT_TEST_SANITIZED
static const int64_t SLACK = 20 * 1000 * 1000;
#else
static const int64_t SLACK = 1000 * 1000;
#endif

static void check_books(void)
{
    weft_accounts accounts = weft_accounts_get();

    check(accounts.contexts_ns + accounts.none_ns == accounts.thread_ns);
}

/* Of each context what it used before, once, and what it used since; the same for none. */
static void go_on(weft_context *context, weft_context *parent, const weft_accounts *before, int64_t used_before)
{
    weft_accounts accounts;
    int64_t none = used(NULL), now;

    check_books();
    now = used(context);
    check(now >= used_before && now <= used_before + SLACK);
    spin_in(context, 10 * MS);
    check(used(context) - now >= 10 * MS - 100 * US && used(context) - now <= 10 * MS + SLACK);
    check(used(parent) == used(context));
    check(used(NULL) - none <= SLACK);
    spin(5 * MS);
    check(used(NULL) - none >= 5 * MS && used(NULL) - none <= 5 * MS + SLACK);
    accounts = weft_accounts_get();
    check(accounts.thread_ns - before->thread_ns >= 15 * MS);
    check(accounts.thread_ns - before->thread_ns <= cpu_clock() + 100 * US); /* which began with the fork */
    check_books();
}

Test(accounting_fork, l08_a_child_goes_on_from_what_the_books_were_and_counts_nothing_twice)
{
    weft_context *parent = weft_context_new("parent"), *context = weft_context_new_child(parent, "x");
    weft_accounts before;
    int64_t used_before;
    pid_t child;

    spin_in(context, 30 * MS);
    before = weft_accounts_get();
    used_before = used(context);
    if (!(child = fork())) {
        go_on(context, parent, &before, used_before);
        _exit(0);
    }
    spin_in(context, 20 * MS); /* the parent's alone */
    assert_ended_well(child);
    cr_assert(used(context) >= used_before + 20 * MS - 100 * US && used(context) <= used_before + 20 * MS + SLACK);
    weft_context_unref(context);
    weft_context_unref(parent);
}

/* The window is open, with ticks of several in it. */
Test(accounting_fork, l08_what_was_spent_in_the_open_window_is_the_parents)
{
    weft_context *contexts[3], *previous;
    struct weft__series series = {.listed = false};
    pid_t child;

    for (int i = 0; i < 3; i++)
        contexts[i] = weft_context_new("x");
    weft__context_join(contexts[2], &series);
    weft_accounts_get();
    for (int i = 0; i < 3; i++)
        spin_in(contexts[i], 20 * US);
    contexts[2] = weft_context_unref(contexts[2]);
    previous = weft_context_set(weft_context_ref(contexts[0]));
    if (!(child = fork())) {
        check(used(contexts[1]) <= SLACK);
        spin(10 * MS);
        check(used(contexts[0]) >= 10 * MS && used(contexts[0]) <= 10 * MS + SLACK);
        spin_in(contexts[1], MS);
        check(used(contexts[1]) >= MS - 50 * US);
        check_books();
        _exit(0);
    }
    assert_ended_well(child);
    weft_context_unref(weft_context_set(previous));
    weft_context_unref(contexts[0]);
    weft_context_unref(contexts[1]);
    weft_accounts_get();
}

struct forker {
    weft_context *context;
    pid_t child;
};

static weft_result fork_in_a_fiber(void *arg)
{
    struct forker *forker = arg;
    int64_t before;

    spin(MS);
    WEFT_TRY(weft_yield());
    before = used(forker->context);
    if (!(forker->child = fork())) {
        check(weft_context_current() == forker->context);
        spin(10 * MS);
        check(used(forker->context) - before >= 10 * MS - 100 * US && used(forker->context) - before <= 10 * MS + SLACK);
        check(!weft_failed(weft_yield())); /* fibers go on too */
        spin(MS);
        check(used(forker->context) - before >= 11 * MS - 200 * US);
        check_books();
        _exit(0);
    }
    return weft_ok(NULL);
}

Test(accounting_fork, l08_a_fiber_may_fork)
{
    struct forker forker = {weft_context_new("forks"), 0};
    weft_deferred *forks = NULL;

    begin();
    weft_preserve_context(forker.context)
        forks = weft_spawn(fork_in_a_fiber, &forker);
    weft_result_drop(run_until(forks));
    assert_ended_well(forker.child);
    weft_context_unref(forker.context);
    end();
}

static weft_result serve_once(void *context)
{
    for (int i = 0; i < 5; i++) {
        spin(2 * MS);
        WEFT_TRY(weft_sleep(0.001));
    }
    return weft_int(used(context) >= 10 * MS - 500 * US);
}

/* Twice, as programs do that become daemons: what serves is a grandchild, whose reactor was made after all that, while the
 * books were opened before. */
static void become_a_daemon(void)
{
    weft_context *context;
    weft_deferred *served = NULL;
    pid_t child = fork();

    if (child)
        _exit(0);
    begin();
    context = weft_context_new("served");
    weft_preserve_context(context)
        served = weft_spawn(serve_once, context);
    check((intptr_t)run_until(served).value == 1);
    check(used(context) <= 10 * MS + 5 * SLACK);
    check_books();
    check(weft_accounts_get().thread_ns >= 30 * MS); /* before and since */
    weft_context_unref(context);
    end();
}

Test(accounting_fork, l08_a_daemon_serves_with_books_opened_before_it_was_one)
{
    weft_context *context = weft_context_new("starts");
    int told[2], line = 'x';
    pid_t child;

    spin_in(context, 20 * MS);
    used(context);
    cr_assert_eq(pipe(told), 0);
    if (!(child = fork())) {
        become_a_daemon();
        (void)!write(told[1], "k", 1);
        _exit(0);
    }
    close(told[1]);
    assert_ended_well(child);
    (void)!read(told[0], &line, 1); /* the end of the file, if the daemon was not content */
    cr_assert_eq(line, 'k');
    close(told[0]);
    weft_context_unref(context);
}

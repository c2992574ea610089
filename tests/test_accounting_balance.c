/* The books over a whole run: thousands of requests at once, with all that tears at a measurement: waits, timers, children,
 * another thread that calls in, and two processes on the same processor, one that never sleeps and one that takes it for
 * some tens of microseconds, often.
 *
 * What each request has used is measured by the test itself, with the thread's CPU clock, around each stretch of work. What
 * passes from the end of one to the beginning of the next is one's or the other's, and that may be a preemption: so the test
 * knows how much it was at least and at most.
 *
 * What nobody can attribute is the time for which a hypervisor stops the processor without that the kernel switches: the books
 * spread it over their window. The test finds those moments, and asks nothing of who worked around them but the sum; it does
 * not find one in which the kernel switched too, so that one of them, and one in a thousand, may be off. */
#include "tests/support/fibers.h"
#include "tests/support/spin.h"
#include "tests/support/test.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/context.h"

static void spin_until(int64_t end)
{
    while (cpu_clock() < end)
        ;
}

static double uniform(void)
{
    return (double)rand() / ((double)RAND_MAX + 1);
}

/* ---- who else wants the processor ---- */

static void share_a_processor(void)
{
    cpu_set_t all, one;

    CPU_ZERO(&one);
    cr_assert_eq(sched_getaffinity(0, sizeof all, &all), 0);
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
        if (CPU_COUNT(&one))
            break;
    }
    cr_assert_eq(sched_setaffinity(0, sizeof one, &one), 0);
}

static pid_t fork_other(void (*body)(void))
{
    pid_t child = fork();

    if (child)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody spinning */
    for (;;)
        body();
}

static void spin_on(void)
{
    spin_until(cpu_clock() + 1000000 * US);
}

static void wake_for_a_moment(void)
{
    nanosleep(&(struct timespec){0, 300 * US}, NULL);
    spin_until(cpu_clock() + 30 * US);
}

static void end_other(pid_t child)
{
    kill(child, SIGKILL);
    cr_assert_eq(waitpid(child, NULL, 0), child);
}

static void called(void *calls)
{
    ++*(unsigned *)calls;
    spin_until(cpu_clock() + 20 * US);
}

struct other_thread {
    pthread_t thread;
    weft_reactor *reactor;
    bool over;
    unsigned calls; /* the reactor's thread's */
    int64_t clock;  /* CPU time, by the clock, */
    int64_t booked; /* and by the thread's own books */
};

static void *work_and_call(void *arg)
{
    struct other_thread *other = arg;
    weft_context *context = weft_context_new("another thread's");
    weft_accounts before = weft_accounts_get(), after;
    int64_t clock = cpu_clock();

    while (!__atomic_load_n(&other->over, __ATOMIC_RELAXED)) {
        weft_preserve_context(context)
            spin_until(cpu_clock() + 100 * US);
        weft_reactor_call_from_thread(other->reactor, called, &other->calls);
        nanosleep(&(struct timespec){0, 1000 * US}, NULL);
    }
    after = weft_accounts_get();
    other->clock = cpu_clock() - clock;
    other->booked = after.contexts_ns - before.contexts_ns + after.none_ns - before.none_ns;
    weft_context_unref(context);
    return NULL;
}

/* ---- requests ---- */

struct work {
    int64_t known;  /* CPU time in its stretches */
    int64_t beside; /* … from the one before to each of them, and from there to the next */
    bool stopped;   /* the hypervisor took the processor away, or did so from another soon before or after */
};

struct request {
    weft_context *context;
    weft_context *child;
    int64_t size;
    struct work work; /* the child's too */
    struct work childs;
    int64_t used;
    int64_t used_by_child;
};

struct run {
    struct request *requests;
    int count;
    int begun;
    struct weft__series series;
};

/* Logarithmically uniform, the larger the exponent the more at the lower end. */
static struct request request_of_size(double exponent)
{
    return (struct request){.size = (int64_t)(50e3 * pow(1000, pow(uniform(), exponent)))};
}

static struct work nobodys, *last = &nobodys; /* who worked last, */
static int64_t mark, mark_by_wall;            /* and since or until when */

enum { NEIGHBOURS = 16 };
static struct work *lately[NEIGHBOURS]; /* who worked */
static unsigned works;
static int64_t stopped_at;
static long switches;

/* Whether the thread was switched from since this was asked. */
static bool was_switched(void)
{
    struct rusage usage;
    long before = switches;

    getrusage(RUSAGE_THREAD, &usage);
    switches = usage.ru_nvcsw + usage.ru_nivcsw;
    return switches != before;
}

/* `lost`, of the time up to `now`, was no CPU time. */
static void look_for_stop(int64_t lost, int64_t now)
{
    if (was_switched() || lost < 2 * US)
        return;
    stopped_at = now;
    for (size_t i = 0; i < NEIGHBOURS; i++) {
        if (lately[i])
            lately[i]->stopped = true;
    }
}

/* CPU time since the mark, which it moves. `work` has had a part of it. */
static int64_t pass(struct work *work)
{
    int64_t wall = read_clock(CLOCK_MONOTONIC), now = cpu_clock(), passed = now - mark;

    lately[works++ % NEIGHBOURS] = work;
    look_for_stop(wall - mark_by_wall - passed, now);
    if (now - stopped_at < 300 * US)
        work->stopped = true;
    mark_by_wall = wall;
    mark = now;
    return passed;
}

static void begins(struct work *work)
{
    int64_t passed = pass(work);

    last->beside += passed;
    work->beside += passed;
}

static void ends(struct work *work)
{
    work->known += pass(work);
    last = work;
}

static void spin_as(struct work *work, int64_t ns)
{
    begins(work);
    spin_until(mark + ns);
    ends(work);
}

static weft_result wait_somehow(void)
{
    switch (rand() % 3) {
    case 0:
        return weft_sleep(uniform() * 0.002);
    case 1:
        return weft_yield();
    default:
        return weft_ok(NULL);
    }
}

static weft_result answer(void *arg)
{
    struct request *request = arg;
    int pieces = 1 + (int)fmin(4, (double)(request->size / (100 * US)));
    int childs = pieces > 1 ? rand() % pieces : -1;

    for (int i = 0; i < pieces; i++) {
        if (i)
            WEFT_TRY(wait_somehow());
        weft_preserve_context(i == childs ? request->child : request->context)
            spin_as(i == childs ? &request->childs : &request->work, request->size / pieces);
    }
    return weft_ok(NULL);
}

static int64_t used(weft_context *context)
{
    weft_usage usage = weft_context_get_usage(context);

    cr_assert(usage.user_ns >= 0 && usage.system_ns >= 0);
    return usage.user_ns + usage.system_ns;
}

static weft_deferred *begin_request(struct run *run, struct request *request)
{
    weft_deferred *deferred = NULL;

    request->context = weft_context_new("request");
    weft__context_join(request->context, &run->series);
    request->child = weft_context_new_child(request->context, "child");
    ends(&nobodys);
    weft_preserve_context(request->context)
        deferred = weft_spawn(answer, request);
    begins(&nobodys);
    return deferred;
}

static void end_request(struct request *request)
{
    request->work.known += request->childs.known;
    request->work.beside += request->childs.beside;
    request->work.stopped |= request->childs.stopped;
    request->used = used(request->context);
    request->used_by_child = used(request->child);
    request->child = weft_context_unref(request->child);
    request->context = weft_context_unref(request->context);
}

static weft_result serve(void *arg)
{
    struct run *run = arg;

    while (run->begun < run->count) {
        struct request *request = &run->requests[run->begun++];
        weft_deferred *deferred = begin_request(run, request);
        weft_result result;

        ends(&nobodys);
        result = weft_await(deferred);
        begins(&nobodys);
        WEFT_TRY(result);
        end_request(request);
    }
    return weft_ok(NULL);
}

/* ---- what comes out ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* How far `used` is from what it can have been. */
static double error_of(int64_t used, const struct work *work)
{
    int64_t most = work->known + work->beside;

    if (used < work->known)
        return (double)(work->known - used) / (double)work->known;
    return used > most ? (double)(used - most) / (double)most : 0;
}

static void assert_errors(double *errors, int count, const char *of, double most)
{
    qsort(errors, (size_t)count, sizeof *errors, by_size);
    cr_assert_leq(errors[count - 2 - count / 1000], most, "%d %s: off by %.2f %% in the middle, 1 in 100 by %.2f %%, at most by %.2f %%", count,
                  of, 100 * errors[count / 2], 100 * errors[count * 99 / 100], 100 * errors[count - 1]);
}

static int add_error(double *errors, int count, int64_t used, const struct work *work)
{
    if (work->known < 50 * US || work->stopped)
        return count;
    errors[count] = error_of(used, work);
    return count + 1;
}

static void assert_each_near(const struct run *run, double most)
{
    double *errors = weft_alloc((size_t)run->count * sizeof *errors);
    int requests = 0, children = 0;

    for (int i = 0; i < run->count; i++)
        requests = add_error(errors, requests, run->requests[i].used, &run->requests[i].work);
    cr_assert_gt(requests, run->count / 10);
    assert_errors(errors, requests, "requests", most);
    for (int i = 0; i < run->count; i++)
        children = add_error(errors, children, run->requests[i].used_by_child, &run->requests[i].childs);
    cr_assert_gt(children, 0);
    assert_errors(errors, children, "children", most);
    weft_free(errors);
}

static int64_t sum_used(const struct run *run)
{
    int64_t sum = 0;

    for (int i = 0; i < run->count; i++)
        sum += run->requests[i].used;
    return sum;
}

enum { AT_ONCE = 20 };

static void serve_all(struct run *run)
{
    weft_deferred *servers[AT_ONCE];

    for (int i = 0; i < AT_ONCE; i++)
        servers[i] = weft_spawn(serve, run);
    for (int i = 0; i < AT_ONCE; i++)
        cr_assert_not(weft_failed(run_until(servers[i])));
}

static void assert_balance(struct run *run)
{
    weft_accounts before = weft_accounts_get(), after;
    int64_t clock = cpu_clock(), booked, contexts;

    serve_all(run);
    after = weft_accounts_get();
    clock = cpu_clock() - clock;
    contexts = after.contexts_ns - before.contexts_ns;
    booked = contexts + after.none_ns - before.none_ns;
    cr_assert_float_eq((double)booked / (double)clock, 1, 0.01, "%ld µs on the books, %ld µs by the clock", (long)(booked / US),
                  (long)(clock / US));
    cr_assert_eq(contexts, sum_used(run));
    cr_assert_eq(run->series.usage.user_ns + run->series.usage.system_ns, contexts);
    cr_assert_eq(after.contexts_ns + after.none_ns, after.thread_ns);
}

static void assert_books_balance(int count, double exponent, double most)
{
    struct run run = {.count = count};
    struct other_thread other = {.over = false};
    pid_t spinner, waker;

    share_a_processor();
    spinner = fork_other(spin_on); /* before there is memory of ours to be copied when it is written */
    waker = fork_other(wake_for_a_moment);
    srand(1);
    run.requests = weft_alloc((size_t)count * sizeof *run.requests);
    for (int i = 0; i < count; i++)
        run.requests[i] = request_of_size(exponent);
    begin();
    other.reactor = weft_reactor_current();
    pthread_create(&other.thread, NULL, work_and_call, &other);
    assert_balance(&run);
    end_other(spinner);
    end_other(waker);
    __atomic_store_n(&other.over, true, __ATOMIC_RELAXED);
    pthread_join(other.thread, NULL);
    end();
    cr_assert_gt(other.calls, 0);
    cr_assert_float_eq((double)other.booked / (double)other.clock, 1, 0.01,
                       "%ld µs on the other thread's books, %ld µs by its clock", (long)(other.booked / US),
                       (long)(other.clock / US));
    if (most < 1 && weft__thread.books.preemption.mark != &weft__thread.books.preemption.unmarked)
        assert_each_near(&run, most);
    weft_free(run.requests);
}

#ifdef WEFT_TEST_SANITIZED /* where each step takes longer, the test's own are a large part of 50 µs */
Test(accounting, balances_over_a_mixed_run, .timeout = 120)
{
    assert_books_balance(300, 24, 1);
}
#else
Test(accounting, balances_over_ten_thousand_requests_and_each_is_right, .timeout = 300)
{
    assert_books_balance(10000, 24, 0.05);
}

Test(slow_accounting, balances_over_ten_thousand_requests_and_each_is_right, .timeout = 1800)
{
    assert_books_balance(10000, 1, 0.05);
}
#endif

/* ---- short work ---- */

/* In a window of its own or with others, on a processor that others want too. */
static void spin_thousand_times(void)
{
    weft_context *beside = weft_context_new("beside");

    for (int i = 0; i < 1000; i++) {
        weft_context *context = weft_context_new("x");

        weft_preserve_context(beside)
            spin_until(cpu_clock() + i % 20 * US);
        weft_preserve_context(context)
            spin_until(cpu_clock() + 300 * US);
        weft_preserve_context(beside)
            spin_until(cpu_clock() + i % 7 * US);
        cr_assert_geq(used(context), 200 * US, "%ld µs instead of 300, the %dth time", (long)(used(context) / US), i);
        weft_context_unref(context);
    }
    weft_context_unref(beside);
}

Test(accounting, l12_spinning_for_300_microseconds_is_never_read_as_nothing, .timeout = 120)
{
    pid_t spinner, waker;

    share_a_processor();
    spinner = fork_other(spin_on);
    waker = fork_other(wake_for_a_moment);
    spin_thousand_times();
    end_other(spinner);
    end_other(waker);
}

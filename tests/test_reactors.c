/* Several reactors in one process, each on its thread, with nothing shared: fibers, timers, contexts, deferreds and pools of
 * their own, and calls to one another. Run under ThreadSanitizer this is the proof of "nothing shared". */
#include "tests/support/test.h"
#include "tests/support/threads.h"
#include "tests/support/values.h"

#include <stdio.h>
#include <string.h>

enum { REACTORS = 4, FIBERS = 20, ROUNDS = MANY / 5000, GREETINGS = MANY / 1000 };

struct side {
    int number;
    pthread_t thread;
    weft_reactor *reactor;
    weft_reactor_handle *handle; /* set before `ready` */
    weft_thread_pool *pool;
    weft_deferred *all_greeted; /* it has been, as often as it should */
    weft_deferred *all_done;    /* all sides have, and none needs this one any more */
    int greeted, done, rounds, jobs;
    weft_accounts accounts;
    weft_live_counts left;
    const char *wrong; /* what was not as it should be; NULL */
};

static struct side sides[REACTORS];
static pthread_barrier_t ready, over;

static void expect(struct side *side, bool condition, const char *what)
{
    if (!condition && !side->wrong)
        side->wrong = what;
}

/* ---- fibers with contexts, timers, locks and jobs ---- */

struct body {
    struct side *side;
    weft_lock *lock;
    int number;
};

static weft_result square(void *number)
{
    weft_log_info("squared");
    return weft_int((intptr_t)number * (intptr_t)number);
}

static weft_result one_round(struct body *body)
{
    struct side *side = body->side;
    weft_auto(weft_lock_release) weft_lock *held = WEFT_TRY(weft_await(weft_lock_acquire(body->lock)));
    weft_result squared;

    WEFT_TRY(body->number % 2 ? weft_sleep(0) : weft_yield());
    expect(side, held == body->lock, "a lock of its own");
    squared = weft_await(weft_defer_to_thread(side->pool, "cpu", square, (void *)(intptr_t)body->number));
    expect(side, squared.value == (void *)(intptr_t)(body->number * body->number), "its job's result");
    weft_result_drop(squared);
    side->rounds++;
    return weft_ok(NULL);
}

static weft_result run_body(void *arg)
{
    struct body *body = arg;
    char name[32];

    snprintf(name, sizeof name, "side-%d-%d", body->side->number, body->number);
    weft_with_context(context, weft_context_new(name)) {
        for (int i = 0; i < ROUNDS; i++) {
            WEFT_TRY(one_round(body));
            expect(body->side, weft_context_current() == context, "its context after waits");
        }
    }
    return weft_ok(NULL);
}

/* ---- greetings from the other reactors ---- */

struct greeting {
    struct side *to;
    struct side *from;
    bool answered;
};

static void greet(void *arg);

static void answer(void *arg)
{
    struct greeting *greeting = arg;
    struct side *side = greeting->from;

    expect(side, weft_reactor_current() == side->reactor, "an answer on its own thread");
    if (++side->greeted == GREETINGS)
        weft_deferred_callback(side->all_greeted, weft_ok(NULL));
    else if (!weft_reactor_handle_call(greeting->to->handle, greet, greeting))
        expect(side, false, "others that are there");
}

static void greet(void *arg)
{
    struct greeting *greeting = arg;

    expect(greeting->to, weft_reactor_current() == greeting->to->reactor, "a greeting on its own thread");
    if (!weft_reactor_handle_call(greeting->from->handle, answer, greeting))
        expect(greeting->to, false, "others that are there");
}

/* Who has been greeted enough goes on answering until all have. */
static void note_done(void *arg)
{
    struct side *side = arg;

    if (++side->done == REACTORS)
        weft_deferred_callback(side->all_done, weft_ok(NULL));
}

static void tell_all(struct side *side)
{
    for (int i = 0; i < REACTORS; i++) {
        if (!weft_reactor_handle_call(sides[i].handle, note_done, &sides[i]))
            expect(side, false, "others that are there");
    }
}

/* ---- a side ---- */

static weft_result live_on(void *arg)
{
    struct side *side = arg;
    struct greeting greeting = {.to = &sides[(side->number + 1) % REACTORS], .from = side};
    weft_lock *lock = weft_lock_new();
    weft_deferred *fibers[FIBERS];
    struct body bodies[FIBERS];
    weft_result result;

    side->all_greeted = weft_deferred_new(NULL, NULL);
    side->all_done = weft_deferred_new(NULL, NULL);
    if (!weft_reactor_handle_call(greeting.to->handle, greet, &greeting))
        expect(side, false, "others that are there");
    for (int i = 0; i < FIBERS; i++) {
        bodies[i] = (struct body){side, lock, i};
        fibers[i] = weft_spawn(run_body, &bodies[i]);
    }
    result = weft_await(weft_gather_results(fibers, FIBERS, 0));
    expect(side, !weft_failed(result), "fibers that succeed");
    weft_result_drop(result);
    weft_result_drop(weft_await(weft_deferred_ref(side->all_greeted)));
    weft_deferred_unref(side->all_greeted);
    tell_all(side);
    weft_result_drop(weft_await(weft_deferred_ref(side->all_done)));
    weft_deferred_unref(side->all_done);
    weft_lock_unref(lock);
    return weft_ok(NULL);
}

static void *have_reactor(void *arg)
{
    struct side *side = arg;
    weft_error *error = weft_reactor_new(&side->reactor);

    if (!error)
        error = weft_thread_pool_new(&side->pool, &(weft_thread_pool_options){.lanes = {{"cpu", 2, 1000}}});
    expect(side, !error, "a reactor and a pool");
    side->handle = weft_reactor_handle_ref(weft_reactor_get_handle(side->reactor));
    pthread_barrier_wait(&ready);
    weft_result_drop(weft_reactor_run_until(side->reactor, weft_spawn(live_on, side)));
    side->accounts = weft_accounts_get();
    pthread_barrier_wait(&over); /* nobody's calls are under way any more */
    weft_reactor_free(side->reactor);
    side->left = weft_live_counts_get();
    return NULL;
}

Test(reactors, four_on_threads_of_their_own_share_nothing, .timeout = 120)
{
    static const weft_live_counts none;

    lines_capture();
    pthread_barrier_init(&ready, NULL, REACTORS);
    pthread_barrier_init(&over, NULL, REACTORS);
    for (int i = 0; i < REACTORS; i++) {
        sides[i].number = i;
        sides[i].thread = start_thread(have_reactor, &sides[i]);
    }
    for (struct side *side = sides; side < sides + REACTORS; side++)
        pthread_join(side->thread, NULL);
    for (struct side *side = sides; side < sides + REACTORS; side++) {
        weft_reactor_handle_unref(side->handle);
        cr_assert_null(side->wrong, "side %d lacks %s", side->number, side->wrong);
        cr_assert_eq(side->rounds, FIBERS * ROUNDS);
        cr_assert_eq(side->greeted, GREETINGS);
        cr_assert_eq(side->accounts.contexts_ns + side->accounts.none_ns, side->accounts.thread_ns);
        cr_assert_gt(side->accounts.merged_ns, 0, "that of its jobs");
        cr_assert_eq(memcmp(&side->left, &none, sizeof none), 0, "side %d leaves objects", side->number);
    }
    pthread_barrier_destroy(&ready);
    pthread_barrier_destroy(&over);
}

/* ---- cancelling and freeing while others go on ---- */

static weft_result wait_for_ever(void *unused)
{
    (void)unused;
    return weft_sleep(3600);
}

static weft_result ask_third(void *handle)
{
    return weft_reactor_handle_blocking_call(handle, wait_for_ever, NULL);
}

struct answering {
    pthread_t thread;
    struct gate gate;
    weft_reactor_handle *handle;
};

static void *run_and_stop(void *arg)
{
    struct answering *answering = arg;
    weft_reactor *reactor;
    weft_error *error = weft_reactor_new(&reactor);

    weft_error_unref(error);
    answering->handle = weft_reactor_handle_ref(weft_reactor_get_handle(reactor));
    gate_pass(&answering->gate);
    weft_reactor_run(reactor);
    weft_reactor_free(reactor);
    return NULL;
}

static void stop_reactor(void *unused)
{
    (void)unused;
    weft_reactor_stop(weft_reactor_current());
}

Test(reactors, a_job_of_one_that_waits_for_another_goes_on_when_that_stops)
{
    struct answering other = {0};
    weft_thread_pool *pool;
    weft_reactor *reactor;
    weft_deferred *job;

    gate_init(&other.gate);
    other.thread = start_thread(run_and_stop, &other);
    gate_await(&other.gate);
    cr_assert_null(weft_reactor_new(&reactor));
    cr_assert_null(weft_thread_pool_new(&pool, &(weft_thread_pool_options){.lanes = {{.name = "lane"}}}));
    job = weft_defer_to_thread(pool, "lane", ask_third, other.handle);
    await_calls(other.handle);
    gate_open(&other.gate);
    cr_assert(weft_reactor_handle_call(other.handle, stop_reactor, NULL));
    cr_assert_str_eq(told(weft_reactor_run_until(reactor, job)), "!shutdown");
    pthread_join(other.thread, NULL);
    weft_reactor_free(reactor);
    weft_reactor_handle_unref(other.handle);
    gate_deinit(&other.gate);
}

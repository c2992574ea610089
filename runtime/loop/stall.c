/* The stall detector: one thread that watches those of all reactors that have a limit.
 *
 * A thread counts its steps: switches between fibers and turns of its loop. That is all it does for being watched, so that a
 * switch costs one instruction more and no clock is read. The watchdog wakes up twice per limit and looks at the counts: a
 * thread is stalled that is at work and has counted nothing for as long as the limit. When it began is therefore known to
 * half a limit only; "more than" is meant as it is said.
 *
 * The lock is held while a thread is asked for its sample, so that its reactor cannot be freed meanwhile, and not while
 * something is logged: a sink may be slow, and may fork. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <weft/log.h>

#include "lib/clock.h"
#include "lib/context.h"
#include "runtime/loop/stall.h"

static const int64_t MIN_LIMIT = 1000000, MAX_LIMIT = (int64_t)1000000 * 1000000000;
enum { MAX_FRAMES_TEXT = 3500 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct weft__watch *first; /* those with a limit */
    bool runs;
    unsigned generation; /* of the thread that is to watch: another one ends */
    pthread_t thread;
} dog = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* What is to be logged about one watch. */
struct report {
    bool ended;
    bool known; /* the thread has answered */
    int64_t lasted;
    pid_t tid;
    struct weft__sample sample;
};

/* ---- logging ---- */

static double seconds_of(int64_t nanoseconds)
{
    return (double)nanoseconds / 1e9;
}

static void print_who(char *out, size_t size, const struct report *report)
{
    if (report->sample.fiber[0])
        snprintf(out, size, "the fiber %s", report->sample.fiber);
    else if (report->known)
        snprintf(out, size, "a callback");
    else
        snprintf(out, size, "something on thread %d", (int)report->tid);
}

static void log_begun(const char *who, const struct report *report)
{
    char frames[MAX_FRAMES_TEXT];
    const weft_place *place = report->sample.place;
    double seconds = seconds_of(report->lasted);

    if (!report->known) {
        weft_log_warn("%s has been running for more than %.3f s, and does not answer to SIGURG", who, seconds);
        return;
    }
    weft__sample_print_frames(&report->sample, frames, sizeof frames);
    if (place)
        weft_log_warn("%s has been running for more than %.3f s without a wait; it %s at %s:%d %s; it is in %s", who, seconds,
                      report->sample.waited ? "waited last" : "was started", place->file, place->line, place->function, frames);
    else
        weft_log_warn("%s has been running for more than %.3f s; it is in %s", who, seconds, frames);
}

static void log_ended(const char *who, const struct report *report)
{
    weft_log_warn("%s has gone on after about %.3f s", who, seconds_of(report->lasted));
}

/* In a context of the name that was seen, as that one belongs to the other thread. */
static void log_report(const struct report *report)
{
    weft_context *context = report->sample.context[0] ? weft_context_new(report->sample.context) : NULL;
    weft_context *previous = weft__context_swap(context);
    char who[WEFT__SAMPLE_TEXT + 32];

    print_who(who, sizeof who, report);
    (report->ended ? log_ended : log_begun)(who, report);
    weft__context_swap(previous);
    weft_context_unref(context);
}

/* ---- looking ---- */

static void begin_anew(struct weft__watch *watch, uint64_t steps, int64_t now)
{
    watch->steps = steps;
    watch->since = now;
    watch->report_after = watch->limit;
    watch->reported = false;
}

static void fill_ended(struct report *report, const struct weft__watch *watch, int64_t now)
{
    report->ended = true;
    report->known = watch->known;
    report->lasted = now - watch->since;
    report->tid = watch->tid;
    memcpy(report->sample.fiber, watch->fiber, sizeof watch->fiber);
    memcpy(report->sample.context, watch->context, sizeof watch->context);
}

static void fill_begun(struct report *report, struct weft__watch *watch, int64_t now)
{
    *report = (struct report){.lasted = now - watch->since, .tid = watch->tid};
    report->known = weft__sample_take(&report->sample, watch->thread, watch->tid);
    watch->report_after *= 2;
    watch->reported = true;
    watch->known = report->known;
    memcpy(watch->fiber, report->sample.fiber, sizeof watch->fiber);
    memcpy(watch->context, report->sample.context, sizeof watch->context);
}

/* Returns whether there is something to report. */
static bool look_at(struct weft__watch *watch, int64_t now, struct report *report)
{
    bool at_work = __atomic_load_n(&watch->at_work, __ATOMIC_ACQUIRE), ended;
    uint64_t steps = __atomic_load_n(&watch->thread->steps, __ATOMIC_RELAXED);

    if (!at_work || steps != watch->steps) {
        if ((ended = watch->reported))
            fill_ended(report, watch, now);
        begin_anew(watch, steps, now);
        return ended;
    }
    if (now - watch->since < watch->report_after)
        return false;
    fill_begun(report, watch, now);
    return true;
}

static bool look_at_all(struct report *report)
{
    for (struct weft__watch *watch = dog.first; watch; watch = watch->next) {
        if (look_at(watch, weft__monotonic(), report))
            return true;
    }
    return false;
}

/* Until the next look: twice per limit, and more often in a stall, so that its end is seen. */
static void sleep_for_a_while(void)
{
    int64_t pause = MAX_LIMIT, until;
    struct timespec when;

    for (const struct weft__watch *watch = dog.first; watch; watch = watch->next) {
        int64_t wanted = watch->limit / (watch->reported ? 8 : 2);

        if (wanted < pause)
            pause = wanted;
    }
    until = weft__monotonic() + pause;
    when = (struct timespec){until / 1000000000, until % 1000000000};
    pthread_cond_timedwait(&dog.changed, &dog.lock, &when);
}

static void *watch_over_all(void *generation)
{
    struct report report;

    pthread_mutex_lock(&dog.lock);
    while (dog.generation == (unsigned)(uintptr_t)generation) {
        if (!look_at_all(&report)) {
            sleep_for_a_while();
            continue;
        }
        pthread_mutex_unlock(&dog.lock);
        log_report(&report);
        pthread_mutex_lock(&dog.lock);
    }
    pthread_mutex_unlock(&dog.lock);
    return NULL;
}

/* ---- the thread that looks ---- */

static void make_condition(void)
{
    pthread_condattr_t monotonically;

    pthread_condattr_init(&monotonically);
    pthread_condattr_setclock(&monotonically, CLOCK_MONOTONIC);
    pthread_cond_init(&dog.changed, &monotonically);
    pthread_condattr_destroy(&monotonically);
}

static void before_fork(void)
{
    pthread_mutex_lock(&dog.lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&dog.lock);
}

/* The thread is not there: nobody will ever leave its condition. */
static void after_fork_in_child(void)
{
    dog.runs = false;
    make_condition();
    weft__samples_forked();
    pthread_mutex_unlock(&dog.lock);
}

static void prepare(void)
{
    make_condition();
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

/* It takes no signal that is meant for the program. */
static int start_thread(void)
{
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&dog.thread, NULL, watch_over_all, (void *)(uintptr_t)++dog.generation);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error)
        pthread_setname_np(dog.thread, "weft-stall");
    return error;
}

/* Under the lock. */
static weft_error *start(void)
{
    static pthread_once_t prepared = PTHREAD_ONCE_INIT;
    int error;

    pthread_once(&prepared, prepare);
    if (dog.runs)
        return NULL;
    weft__samples_begin();
    if ((error = start_thread())) {
        weft__samples_end();
        return weft_error_os(error, "cannot start the thread that watches for stalls");
    }
    dog.runs = true;
    return NULL;
}

/* Under the lock, which it lets go of. The thread may be about to log what it has seen. */
static void stop_and_unlock(void)
{
    pthread_t thread = dog.thread;

    weft__samples_end();
    dog.runs = false;
    dog.generation++;
    pthread_cond_signal(&dog.changed);
    pthread_mutex_unlock(&dog.lock);
    pthread_join(thread, NULL);
}

/* ---- limits ---- */

static int64_t limit_of(double seconds)
{
    double nanoseconds = seconds * 1e9;

    if (!(nanoseconds > 0))
        return 0;
    return nanoseconds < (double)MIN_LIMIT ? MIN_LIMIT : nanoseconds > (double)MAX_LIMIT ? MAX_LIMIT : (int64_t)nanoseconds;
}

static void enlist(struct weft__watch *watch)
{
    watch->next = dog.first;
    dog.first = watch;
}

static void remove_from_list(struct weft__watch *watch)
{
    struct weft__watch **link = &dog.first;

    while (*link != watch)
        link = &(*link)->next;
    *link = watch->next;
}

/* Under the lock. */
static weft_error *watch_from_now_on(struct weft__watch *watch, int64_t limit)
{
    weft_error *error;

    if ((error = start()))
        return error;
    if (!watch->limit)
        enlist(watch);
    watch->limit = limit;
    watch->thread = &weft__thread;
    watch->tid = gettid();
    begin_anew(watch, weft__thread.steps, weft__monotonic());
    pthread_cond_signal(&dog.changed);
    return NULL;
}

/* Under the lock, which it lets go of. */
static void unwatch_and_unlock(struct weft__watch *watch)
{
    if (watch->limit)
        remove_from_list(watch);
    watch->limit = 0;
    watch->reported = false;
    if (!dog.first && dog.runs)
        stop_and_unlock();
    else
        pthread_mutex_unlock(&dog.lock);
}

weft_error *weft__watch_set_limit(struct weft__watch *watch, double seconds)
{
    int64_t limit = limit_of(seconds);
    struct report report;
    bool ended;
    weft_error *error = NULL;

    pthread_mutex_lock(&dog.lock);
    /* Who has been reported and gets here is no longer stuck. */
    if ((ended = watch->reported))
        fill_ended(&report, watch, weft__monotonic());
    if (limit)
        error = watch_from_now_on(watch, limit);
    if (limit)
        pthread_mutex_unlock(&dog.lock);
    else
        unwatch_and_unlock(watch);
    if (ended)
        log_report(&report);
    return error;
}

void weft__watch_resume(struct weft__watch *watch)
{
    weft_error *error = NULL;

    pthread_mutex_lock(&dog.lock);
    if (watch->limit && !dog.runs)
        error = watch_from_now_on(watch, watch->limit);
    pthread_mutex_unlock(&dog.lock);
    if (error)
        weft_log_warn("nobody watches for stalls: %s", weft_error_get_message(error));
    weft_error_unref(error);
}

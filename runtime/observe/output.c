/* Sinks that write.
 *
 * Whoever logs puts the finished line into the sink's queue; a thread of the sink writes it. Why a thread, and not the
 * loop: a loop that has stalled or spins must still get its lines out, other threads log too, and a disk makes its
 * writers wait whatever mode its descriptor has. The thread copies whole lines out, up to 64 KiB, and writes them
 * without the lock: so a slow device holds up nobody, and a fast one is written in large pieces when there is much.
 *
 * A thread is started with the first line after the sink was made, or after a fork: the child of a program that
 * became a daemon has its own. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>
#include <weft/log_sink.h>
#include <weft/reactor.h>

#include "runtime/observe/device.h"
#include "runtime/observe/format.h"
#include "runtime/observe/line_queue.h"
#include "runtime/observe/output.h"

weft_logger weft__logger_observe = WEFT_LOGGER("weft.log");

enum { USUAL_BUFFER = 1024 * 1024, LEAST_BUFFER = 256 * 1024, CHUNK = 64 * 1024 };

struct output {
    weft_log_sink sink; /* first: the public one is this one */
    struct weft__log_format format;
    const char *end;    /* of a line */
    bool direct;
    pthread_mutex_t writing; /* direct: held while it is written */

    pthread_mutex_t lock;   /* of what follows; held for moments only */
    pthread_cond_t work;    /* the thread has something to do */
    pthread_cond_t written; /* it has done a piece */
    struct weft__line_queue queue;
    bool started, stopping;
    int next_fd;            /* the device's from the next piece on; -1 */
    uint64_t failed[WEFT__LINE_LEVELS]; /* lines that could not be written */
    uint64_t told[WEFT__LINE_LEVELS];   /* of those dropped and failed, what a line has said */
    pthread_t thread;

    struct weft__device device; /* the thread's, or of whoever has `writing` */
    char *chunk;                /* the thread's */
    bool abandoned;             /* atomic: it is to stop waiting for the device */
    bool pending;               /* atomic: something is not written yet */
    uint64_t progress;          /* atomic */
    struct output *next;
};

static struct output *outputs; /* all of them */
static pthread_mutex_t outputs_lock = PTHREAD_MUTEX_INITIALIZER;
static __thread bool is_writer;

static struct output *output_of(weft_log_sink *sink)
{
    return (struct output *)sink;
}

/* ---- time ---- */

static int64_t clock_in_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t system_time(void)
{
    return clock_in_ns(CLOCK_REALTIME);
}

void weft__log_need_clock(void)
{
    if (!weft_log_has_clock())
        weft_log_set_clock(system_time);
}

/* ---- the thread ---- */

static void swap_descriptor(struct output *output)
{
    if (output->next_fd < 0)
        return;
    close(output->device.fd);
    output->device.fd = output->next_fd;
    output->device.torn = false;
    output->next_fd = -1;
}

static void note_failure(struct output *output, const uint32_t counts[WEFT__LINE_LEVELS])
{
    for (int level = 0; level < WEFT__LINE_LEVELS; level++)
        output->failed[level] += counts[level];
}

static uint64_t lost(const struct output *output, int level)
{
    return output->queue.dropped[level] + output->failed[level];
}

/* With the lock, which it lets go of to write. Whether the device takes lines. */
static bool write_piece(struct output *output)
{
    uint32_t counts[WEFT__LINE_LEVELS] = {0};
    size_t most = output->device.datagrams ? 1 : SIZE_MAX;
    size_t size = weft__line_queue_take(&output->queue, output->chunk, CHUNK, most, counts);
    bool whole;

    pthread_mutex_unlock(&output->lock);
    whole = weft__device_write(&output->device, output->chunk, size);
    pthread_mutex_lock(&output->lock);
    if (!whole)
        note_failure(output, counts);
    __atomic_fetch_add(&output->progress, 1, __ATOMIC_RELAXED);
    return whole;
}

/* With the lock. How many lines of each level are gone of which nobody was told: false when there are none. */
static bool count_untold(const struct output *output, uint64_t untold[WEFT__LINE_LEVELS])
{
    uint64_t all = 0;

    for (int level = 0; level < WEFT__LINE_LEVELS; level++)
        all += untold[level] = lost(output, level) - output->told[level];
    return all;
}

/* The line that says how many were dropped. Not through the log: the other sinks have dropped nothing. */
static void tell_dropped(struct output *output)
{
    static const weft_place here = {__FILE__, "weft_log_sink", __LINE__};
    uint64_t untold[WEFT__LINE_LEVELS];
    char message[200];
    struct weft__text text;
    weft_log_record record = {.level = WEFT_LOG_WARN, .context = "-", .place = &here, .logger = "weft.log"};

    if (!count_untold(output, untold))
        return;
    pthread_mutex_unlock(&output->lock);
    weft__text_init(&text, message, sizeof message);
    weft__text_add(&text, "this log was too slow, and has dropped lines:");
    for (int level = 0; level < WEFT__LINE_LEVELS; level++)
        weft__text_add(&text, "%s %llu %s", level ? "," : "", (unsigned long long)untold[level],
                       weft_log_level_name((weft_log_level)level));
    record.message = record.raw = message;
    record.time = system_time();
    text = weft__log_format_line(&output->format, &record, output->end);
    if (!weft__device_write(&output->device, text.bytes, text.length))
        memset(untold, 0, sizeof untold);
    pthread_mutex_lock(&output->lock);
    for (int level = 0; level < WEFT__LINE_LEVELS; level++)
        output->told[level] += untold[level];
}

static void write_pieces(struct output *output)
{
    while (output->queue.count && !__atomic_load_n(&output->abandoned, __ATOMIC_RELAXED)) {
        swap_descriptor(output);
        if (write_piece(output) && output->queue.used <= output->queue.size / 2)
            tell_dropped(output);
        pthread_cond_broadcast(&output->written);
    }
}

static void *run(void *arg)
{
    struct output *output = arg;

    is_writer = true;
    pthread_setname_np(pthread_self(), "weft-log");
    pthread_mutex_lock(&output->lock);
    for (;;) {
        write_pieces(output);
        swap_descriptor(output);
        __atomic_store_n(&output->pending, false, __ATOMIC_RELEASE);
        pthread_cond_broadcast(&output->written);
        if (output->stopping)
            break;
        pthread_cond_wait(&output->work, &output->lock);
    }
    pthread_mutex_unlock(&output->lock);
    return NULL;
}

/* Signals are for the program's own threads; SIGPIPE then is an error of the write. */
static bool start(struct output *output)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    output->started = !pthread_create(&output->thread, NULL, run, output);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return output->started;
}

/* ---- lines ---- */

/* False when there is no thread for it. */
static bool enqueue(struct output *output, weft_log_level level, const struct weft__text *line)
{
    bool can;

    pthread_mutex_lock(&output->lock);
    can = output->started || start(output);
    if (can) {
        if (line->length > CHUNK)
            output->failed[level]++;
        else
            weft__line_queue_put(&output->queue, level, line->bytes, line->length);
        if (!output->pending) {
            __atomic_store_n(&output->pending, true, __ATOMIC_RELEASE);
            pthread_cond_signal(&output->work);
        }
    }
    pthread_mutex_unlock(&output->lock);
    return can;
}

static void write_now(struct output *output, weft_log_level level, const struct weft__text *line)
{
    pthread_mutex_lock(&output->writing);
    if (!weft__device_write(&output->device, line->bytes, line->length)) {
        pthread_mutex_lock(&output->lock);
        output->failed[level]++;
        pthread_mutex_unlock(&output->lock);
    }
    pthread_mutex_unlock(&output->writing);
}

static void take_record(const weft_log_record *record, void *arg)
{
    struct output *output = arg;
    struct weft__text line = weft__log_format_line(&output->format, record, output->end);

    if (output->direct || !enqueue(output, record->level, &line))
        write_now(output, record->level, &line);
}

/* ---- flushing ---- */

static struct timespec in_a_moment(int64_t nanoseconds)
{
    int64_t then = clock_in_ns(CLOCK_MONOTONIC) + nanoseconds;

    return (struct timespec){(time_t)(then / 1000000000), (long)(then % 1000000000)};
}

/* Waits for at most so long; with `patient` as long again whenever something moves. Whether all is written. */
static bool flush(struct output *output, int64_t nanoseconds, bool patient)
{
    uint64_t progress = __atomic_load_n(&output->progress, __ATOMIC_RELAXED), now;
    struct timespec end = in_a_moment(nanoseconds);
    bool done;

    pthread_mutex_lock(&output->lock);
    while (output->pending && output->started) {
        if (!pthread_cond_clockwait(&output->written, &output->lock, CLOCK_MONOTONIC, &end))
            continue;
        now = __atomic_load_n(&output->progress, __ATOMIC_RELAXED);
        if (!patient || now == progress)
            break;
        progress = now;
        end = in_a_moment(nanoseconds);
    }
    done = !output->pending;
    pthread_mutex_unlock(&output->lock);
    return done;
}

enum { PATIENCE_NS = 1000000000 };

static void flush_all(void)
{
    if (is_writer)
        return;
    pthread_mutex_lock(&outputs_lock);
    for (struct output *output = outputs; output; output = output->next)
        flush(output, PATIENCE_NS, true);
    pthread_mutex_unlock(&outputs_lock);
}

/* Before abort() ends the process its writers still run, and only looking at what is atomic is safe here. Whoever
 * aborts may have a sink's lock, so nothing may move ever again: a tenth of a second without any is enough. */
static void before_abort(int number)
{
    static const struct timespec a_moment = {.tv_nsec = 1000000};
    struct sigaction usual = {.sa_handler = SIG_DFL};

    for (struct output *output = is_writer ? NULL : outputs; output; output = output->next) {
        uint64_t progress = 0;

        for (int idle = 0; idle < 100 && __atomic_load_n(&output->pending, __ATOMIC_ACQUIRE); idle++) {
            uint64_t now = __atomic_load_n(&output->progress, __ATOMIC_RELAXED);

            idle = now == progress ? idle : 0;
            progress = now;
            nanosleep(&a_moment, NULL);
        }
    }
    sigaction(number, &usual, NULL);
    raise(number);
}

static void mind_abort(void)
{
    struct sigaction action = {.sa_handler = before_abort, .sa_flags = SA_ONSTACK}, present;

    if (!sigaction(SIGABRT, NULL, &present) && !(present.sa_flags & SA_SIGINFO) && present.sa_handler == SIG_DFL)
        sigaction(SIGABRT, &action, NULL);
}

/* ---- forks ---- */

static void before_fork(void)
{
    pthread_mutex_lock(&outputs_lock);
    for (struct output *output = outputs; output; output = output->next)
        pthread_mutex_lock(&output->lock);
}

static void after_fork(void)
{
    for (struct output *output = outputs; output; output = output->next)
        pthread_mutex_unlock(&output->lock);
    pthread_mutex_unlock(&outputs_lock);
}

/* The threads are the parent's, and so is what waits to be written. */
static void begin_in_child(struct output *output)
{
    pthread_mutex_init(&output->writing, NULL);
    pthread_cond_init(&output->work, NULL);
    pthread_cond_init(&output->written, NULL);
    weft__line_queue_forget(&output->queue);
    output->started = false;
    output->pending = false;
    output->device.torn = false;
    swap_descriptor(output);
}

static void after_fork_in_child(void)
{
    is_writer = false;
    for (struct output *output = outputs; output; output = output->next)
        begin_in_child(output);
    after_fork();
}

static void mind_process(void)
{
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
    atexit(flush_all);
}

/* ---- life ---- */

static void enlist(struct output *output)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, mind_process);
    if (!output->direct)
        mind_abort();
    weft__log_need_clock();
    pthread_mutex_lock(&outputs_lock);
    output->next = outputs;
    outputs = output;
    pthread_mutex_unlock(&outputs_lock);
}

static void delist(const struct output *output)
{
    struct output **link = &outputs;

    pthread_mutex_lock(&outputs_lock);
    while (*link != output)
        link = &(*link)->next;
    *link = output->next;
    pthread_mutex_unlock(&outputs_lock);
}

static weft_error *output_new(struct output **out, const char *format, weft_log_sink_options options)
{
    struct output *output = weft_alloc_zeroed(sizeof *output);
    weft_error *error = weft__log_format_init(&output->format, format);

    if (error) {
        weft_free(output);
        return error;
    }
    output->format.ident = weft_strdup(options.ident ? options.ident : program_invocation_short_name);
    output->format.facility = options.facility ? options.facility : LOG_USER;
    output->sink = (weft_log_sink){.fn = take_record, .arg = output, .level = options.level};
    output->end = "\n";
    output->direct = options.direct;
    output->next_fd = -1;
    pthread_mutex_init(&output->writing, NULL);
    pthread_mutex_init(&output->lock, NULL);
    pthread_cond_init(&output->work, NULL);
    pthread_cond_init(&output->written, NULL);
    *out = output;
    return NULL;
}

static void output_free(struct output *output)
{
    weft__log_format_deinit(&output->format);
    pthread_mutex_destroy(&output->writing);
    pthread_mutex_destroy(&output->lock);
    pthread_cond_destroy(&output->work);
    pthread_cond_destroy(&output->written);
    weft_free(output);
}

/* The device was opened, or `error` says why not. */
static weft_error *finish(struct output *output, weft_error *error, size_t buffer, weft_log_sink **out)
{
    if (error) {
        output_free(output);
        return error;
    }
    output->device.abandoned = &output->abandoned;
    output->device.progress = &output->progress;
    if (!output->direct) {
        weft__line_queue_init(&output->queue, !buffer ? USUAL_BUFFER : buffer < LEAST_BUFFER ? LEAST_BUFFER : buffer);
        output->chunk = weft_alloc(CHUNK);
    }
    enlist(output);
    *out = &output->sink;
    return NULL;
}

weft_error *weft_log_sink_new_descriptor(weft_log_sink **out, int fd, weft_log_sink_options options)
{
    struct output *output;
    weft_error *error = output_new(&output, options.format ? options.format : WEFT_LOG_FORMAT_SHORT, options);

    if (error)
        return error;
    return finish(output, weft__device_init_descriptor(&output->device, fd, options.direct), options.buffer, out);
}

weft_error *weft_log_sink_new_file(weft_log_sink **out, const char *path, weft_log_sink_options options)
{
    struct output *output;
    weft_error *error = output_new(&output, options.format ? options.format : WEFT_LOG_FORMAT_SHORT, options);

    if (error)
        return error;
    return finish(output, weft__device_init_file(&output->device, path), options.buffer, out);
}

weft_error *weft_log_sink_new_syslog(weft_log_sink **out, weft_log_sink_options options)
{
    const char *path = options.socket ? options.socket : "/dev/log";
    struct output *output;
    weft_error *error = output_new(&output, options.format ? options.format : "%(message)", options);

    if (error)
        return error;
    output->end = "";
    output->format.body = output->format.write;
    output->format.write = weft__log_write_syslog;
    return finish(output, weft__device_init_daemon(&output->device, path, "send the log to syslog at"), options.buffer, out);
}

weft_error *weft_log_sink_new_journal(weft_log_sink **out, weft_log_sink_options options)
{
    const char *path = options.socket ? options.socket : "/run/systemd/journal/socket";
    struct output *output;
    weft_error *error = output_new(&output, "", options);

    if (error)
        return error;
    output->end = "";
    output->format.write = weft__log_write_journal;
    return finish(output, weft__device_init_daemon(&output->device, path, "send the log to the journal at"), options.buffer,
                  out);
}

/* Waits for the thread, which may have to give up what it holds. */
static void stop(struct output *output)
{
    if (!flush(output, PATIENCE_NS, true))
        __atomic_store_n(&output->abandoned, true, __ATOMIC_RELAXED);
    pthread_mutex_lock(&output->lock);
    output->stopping = true;
    pthread_cond_signal(&output->work);
    pthread_mutex_unlock(&output->lock);
    if (output->started)
        pthread_join(output->thread, NULL);
}

weft_log_sink *weft_log_sink_free(weft_log_sink *sink)
{
    struct output *output = output_of(sink);

    if (!sink)
        return NULL;
    weft_log_remove_sink(sink);
    stop(output);
    delist(output);
    if (output->next_fd >= 0)
        close(output->next_fd);
    weft__device_deinit(&output->device);
    weft__line_queue_deinit(&output->queue);
    weft_free(output->chunk);
    output_free(output);
    return NULL;
}

/* ---- use ---- */

bool weft_log_sink_flush(weft_log_sink *sink, double seconds)
{
    static const double for_ever = 3e9; /* a century */

    seconds = seconds > 0 ? seconds : 0;
    return flush(output_of(sink), (int64_t)((seconds < for_ever ? seconds : for_ever) * 1e9), false);
}

uint64_t weft_log_sink_get_dropped(weft_log_sink *sink, weft_log_level level)
{
    struct output *output = output_of(sink);
    uint64_t dropped;

    pthread_mutex_lock(&output->lock);
    dropped = lost(output, (int)level);
    pthread_mutex_unlock(&output->lock);
    return dropped;
}

/* ---- reopening ---- */

/* The thread takes the new descriptor before its next piece; where there is none, nobody writes meanwhile. */
static void hand_descriptor(struct output *output, int fd)
{
    pthread_mutex_lock(&output->writing);
    pthread_mutex_lock(&output->lock);
    if (output->next_fd >= 0)
        close(output->next_fd);
    output->next_fd = fd;
    if (!output->started)
        swap_descriptor(output);
    pthread_cond_signal(&output->work);
    pthread_mutex_unlock(&output->lock);
    pthread_mutex_unlock(&output->writing);
}

static weft_error *reopen(struct output *output)
{
    weft_error *error;
    int fd;

    if (!output->device.path || output->device.datagrams)
        return NULL;
    if ((error = weft__device_open_again(&output->device, &fd)))
        return error;
    hand_descriptor(output, fd);
    return NULL;
}

weft_error *weft_log_sink_reopen(weft_log_sink *sink)
{
    return reopen(output_of(sink));
}

static weft_error *reopen_all(void)
{
    weft_error *first = NULL, *error;

    pthread_mutex_lock(&outputs_lock);
    for (struct output *output = outputs; output; output = output->next) {
        error = reopen(output);
        if (first)
            weft_error_unref(error);
        else
            first = error;
    }
    pthread_mutex_unlock(&outputs_lock);
    return first;
}

void weft_log_reopen(void)
{
    weft_error *error = reopen_all();

    if (error)
        weft_log_error("%s; lines still go to the old file", weft_error_get_message(error));
    weft_error_unref(error);
}

/* ---- SIGHUP ---- */

static weft_signal hangup;

static void hangup_came(weft_signal *watcher, int number, void *unused)
{
    (void)watcher, (void)number, (void)unused;
    weft_log_reopen();
}

void weft_log_reopen_on_hangup(void)
{
    weft_log_ignore_hangup();
    weft_signal_init(&hangup, hangup_came, NULL);
    weft_signal_start(&hangup, SIGHUP);
}

void weft_log_ignore_hangup(void)
{
    if (hangup.fn)
        weft_signal_stop(&hangup);
}

/* A program that logs all the time, for the tests of its log: numbered lines into a file, which SIGHUP reopens. usage:
 * serve_log FILE. On stderr it says when that is another file than before. SIGTERM ends it; then it says how many lines
 * there should be. */
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#include <weft/weft.h>

static weft_logger numbers = WEFT_LOGGER("numbers");
static bool ended;
static int lines;

static void asked_to_end(weft_signal *watcher, int number, void *unused)
{
    (void)watcher, (void)number, (void)unused;
    ended = true;
}

/* Whether it is there, and not the one of the last time. */
static bool is_another(const char *path)
{
    static ino_t last;
    struct stat status;
    bool another = !stat(path, &status) && status.st_ino != last;

    if (another)
        last = status.st_ino;
    return another;
}

/* A turn of the loop, in which signals come, after each few lines. */
static weft_result log_numbers(void *path)
{
    while (!ended) {
        for (int i = 0; i < 10; i++)
            weft_logger_info(&numbers, "%d", ++lines);
        if (is_another(path))
            weft_log_warn("another file");
        WEFT_TRY(weft_sleep(0.0005));
    }
    return weft_ok(NULL);
}

static void serve(weft_reactor *reactor, void *path)
{
    weft_signal ending;

    weft_log_reopen_on_hangup();
    weft_signal_init(&ending, asked_to_end, NULL);
    weft_signal_start(&ending, SIGTERM);
    weft_result_drop(weft_reactor_run_until(reactor, weft_spawn(log_numbers, path)));
    weft_signal_stop(&ending);
    weft_log_ignore_hangup();
    weft_log_warn("%d lines", lines);
}

int main(int count, char **arguments)
{
    weft_auto(weft_log_sink_free) weft_log_sink *file = NULL, *errors = NULL;
    weft_auto(weft_reactor_free) weft_reactor *reactor = NULL;

    if (count != 2 ||
        weft_log_sink_new_file(&file, arguments[1], (weft_log_sink_options){.format = "%(logger) %(message)"}) ||
        weft_log_sink_new_descriptor(&errors, STDERR_FILENO, (weft_log_sink_options){.level = WEFT_LOG_WARN}))
        return 1;
    weft_log_add_sink(file);
    weft_log_add_sink(errors);
    if (weft_reactor_new(&reactor))
        return 1;
    serve(reactor, arguments[1]);
    return 0;
}

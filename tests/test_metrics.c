/* Metrics: what may be declared, what is counted, and the text that Prometheus is given, byte by byte. That a parser which
 * is not ours agrees is seen in tests/integration/test_metrics.c. */
#include "tests/support/metrics.h"
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const int64_t milliseconds[] = {1000000, 5000000, 10000000};

static weft_metric *declared(weft_metric_options options)
{
    weft_metric *metric = NULL;
    weft_error *error = weft_metric_declare(&metric, options);

    cr_assert_null(error, "%s", error ? weft_error_get_message(error) : "");
    return metric;
}

static weft_metric *declared_counter(const char *name, const char *label)
{
    return declared((weft_metric_options){.kind = WEFT_COUNTER, .name = name, .help = "Something.", .labels = {label}});
}

static weft_metric *declared_gauge(const char *name, const char *label)
{
    return declared((weft_metric_options){.kind = WEFT_GAUGE, .name = name, .help = "Something.", .labels = {label}});
}

/* ---- telling ---- */

Test(metrics, a_counter_is_told_with_its_help_and_type_and_a_line_for_each_label_value)
{
    weft_metric *posts = declared((weft_metric_options){
        .kind = WEFT_COUNTER, .name = "t_posts_total", .help = "Messages.", .labels = {"room", "kind"}});

    weft_counter_add(weft_counter_get(posts, "lobby", "text"), 2);
    weft_counter_add(weft_counter_get(posts, "attic", "image"), 40);
    weft_counter_add(weft_counter_get(posts, "lobby", "text"), 1);
    check_told("t_posts", "# HELP t_posts_total Messages.\n"
                          "# TYPE t_posts_total counter\n"
                          "t_posts_total{room=\"lobby\",kind=\"text\"} 3\n"
                          "t_posts_total{room=\"attic\",kind=\"image\"} 40\n");
}

Test(metrics, one_without_labels_is_told_before_anything_was_counted_and_one_with_labels_is_not)
{
    declared_counter("t_plain_total", NULL);
    declared_counter("t_labelled_total", "x");
    check_told("t_plain", "# HELP t_plain_total Something.\n# TYPE t_plain_total counter\nt_plain_total 0\n");
    check_told("t_labelled", "");
}

Test(metrics, a_gauge_goes_up_and_down_and_below_zero)
{
    weft_gauge *gauge = weft_gauge_get(declared_gauge("t_depth", NULL));

    weft_gauge_set(gauge, 5);
    weft_gauge_add(gauge, -7);
    cr_assert_eq(weft_gauge_value(gauge), -2);
    check_told("t_depth", "# HELP t_depth Something.\n# TYPE t_depth gauge\nt_depth -2\n");
}

Test(metrics, durations_are_told_in_seconds_to_the_nanosecond)
{
    weft_metric *metric = declared((weft_metric_options){.kind = WEFT_GAUGE, .unit = WEFT_NANOSECONDS, .help = "Ages.",
                                                         .name = "t_age_seconds", .labels = {"of"}});

    weft_gauge_set(weft_gauge_get(metric, "a"), 1500000000);
    weft_gauge_set(weft_gauge_get(metric, "b"), 1);
    weft_gauge_set(weft_gauge_get(metric, "c"), -20000000000);
    weft_gauge_set(weft_gauge_get(metric, "d"), 0);
    check_told("t_age_seconds{", "t_age_seconds{of=\"a\"} 1.5\n"
                                 "t_age_seconds{of=\"b\"} 0.000000001\n"
                                 "t_age_seconds{of=\"c\"} -20\n"
                                 "t_age_seconds{of=\"d\"} 0\n");
}

Test(metrics, a_histogram_is_cumulative_and_a_value_on_a_bound_is_within_it)
{
    weft_metric *metric = declared((weft_metric_options){.kind = WEFT_HISTOGRAM, .unit = WEFT_NANOSECONDS, .help = "Times.",
                                                         .name = "t_time_seconds", .labels = {"of"},
                                                         .bounds = milliseconds, .bound_count = 3});
    weft_histogram *histogram = weft_histogram_get(metric, "a");

    weft_histogram_observe(histogram, 0);
    weft_histogram_observe(histogram, 1000000);
    weft_histogram_observe(histogram, 1000001);
    weft_histogram_observe(histogram, 10000000);
    weft_histogram_observe(histogram, 3000000000);
    check_told("t_time", "# HELP t_time_seconds Times.\n"
                         "# TYPE t_time_seconds histogram\n"
                         "t_time_seconds_bucket{of=\"a\",le=\"0.001\"} 2\n"
                         "t_time_seconds_bucket{of=\"a\",le=\"0.005\"} 3\n"
                         "t_time_seconds_bucket{of=\"a\",le=\"0.01\"} 4\n"
                         "t_time_seconds_bucket{of=\"a\",le=\"+Inf\"} 5\n"
                         "t_time_seconds_sum{of=\"a\"} 3.012000001\n"
                         "t_time_seconds_count{of=\"a\"} 5\n");
}

Test(metrics, a_histogram_without_labels_has_no_label_but_that_of_its_buckets)
{
    static const int64_t bounds[] = {-1, 10};
    weft_histogram *histogram = weft_histogram_get(declared((weft_metric_options){
        .kind = WEFT_HISTOGRAM, .help = "Sizes.", .name = "t_size", .bounds = bounds, .bound_count = 2}));

    weft_histogram_observe(histogram, -5);
    weft_histogram_observe(histogram, 3);
    check_told("t_size", "# HELP t_size Sizes.\n"
                         "# TYPE t_size histogram\n"
                         "t_size_bucket{le=\"-1\"} 1\n"
                         "t_size_bucket{le=\"10\"} 2\n"
                         "t_size_bucket{le=\"+Inf\"} 2\n"
                         "t_size_sum -2\n"
                         "t_size_count 2\n");
}

Test(metrics, quotes_backslashes_and_line_ends_are_escaped_as_the_format_says)
{
    weft_metric *metric = declared((weft_metric_options){
        .kind = WEFT_GAUGE, .name = "t_odd", .help = "A \"quote\", a \\ and\nan end.", .labels = {"x"}});

    weft_gauge_set(weft_gauge_get(metric, "a \"quote\", a \\ and\nan end"), 1);
    check_told("t_odd", "# HELP t_odd A \"quote\", a \\\\ and\\nan end.\n"
                        "# TYPE t_odd gauge\n"
                        "t_odd{x=\"a \\\"quote\\\", a \\\\ and\\nan end\"} 1\n");
}

Test(metrics, what_is_not_utf8_in_a_label_value_is_replaced_before_it_is_looked_up)
{
    weft_metric *metric = declared_counter("t_bytes_total", "x");
    weft_counter *counter = weft_counter_get(metric, "a\xff" "b");

    cr_assert_eq(weft_counter_get(metric, "a\xfe" "b"), counter, "both would be told alike");
    cr_assert_neq(weft_counter_get(metric, "gr\xc3\xbc\xc3\x9f"), counter);
    check_told("t_bytes_total{", "t_bytes_total{x=\"a\xef\xbf\xbd" "b\"} 0\nt_bytes_total{x=\"gr\xc3\xbc\xc3\x9f\"} 0\n");
}

Test(metrics, values_that_run_together_alike_are_different_series)
{
    weft_metric *metric = declared((weft_metric_options){
        .kind = WEFT_COUNTER, .name = "t_pairs_total", .help = "Pairs.", .labels = {"a", "b"}});

    cr_assert_neq(weft_counter_get(metric, "ab", "c"), weft_counter_get(metric, "a", "bc"));
    cr_assert_neq(weft_counter_get(metric, "", "x"), weft_counter_get(metric, "x", ""));
}

static int compare_names(const char *a, const char *b)
{
    return strncmp(a + 7, b + 7, strcspn(a + 7, " ") + 1);
}

Test(metrics, the_text_is_sorted_by_names_and_ends_with_its_size)
{
    const char *last = NULL;
    size_t size;
    char *text;

    declared_gauge("t_m", NULL);
    declared_gauge("t_a", NULL);
    declared_gauge("t_z", NULL);
    declared_gauge("t_b", NULL);
    text = weft_metrics_write(&size);
    cr_assert_eq(size, strlen(text));
    cr_assert_eq(text[size - 1], '\n');
    for (const char *help = strstr(text, "# HELP "); help; help = strstr(help + 1, "# HELP ")) {
        cr_assert(!last || compare_names(last, help) < 0, "%.40s does not come before %.40s", last, help);
        last = help;
    }
    cr_assert_not_null(last);
    weft_free(text);
}

/* ---- declaring ---- */

static void check_refused(weft_metric_options options, const char *part)
{
    weft_metric *metric = (weft_metric *)&options;
    weft_error *error = weft_metric_declare(&metric, options);

    cr_assert(weft_error_is(error, &WEFT_MISUSE), "%s is not refused: %s", options.name, part);
    cr_assert(strstr(weft_error_get_message(error), part), "not \"%s\" but: %s", part, weft_error_get_message(error));
    cr_assert(strstr(weft_error_get_place(error)->file, "test_metrics.c"));
    cr_assert_eq(metric, (weft_metric *)&options, "it was set all the same");
    weft_error_unref(error);
}

Test(metrics, names_that_prometheus_would_not_have_are_refused)
{
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .help = "x"}, "\"\" is no name");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .help = "x", .name = ""}, "\"\" is no name");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .help = "x", .name = "1st"}, "\"1st\" is no name");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .help = "x", .name = "my-gauge"}, "use letters, digits and _");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .help = "x", .name = "a:b"}, "\"a:b\" is no name");
    check_refused((weft_metric_options){.kind = WEFT_COUNTER, .help = "x", .name = "posts"}, "ends in _total: add that");
    check_refused((weft_metric_options){.kind = WEFT_COUNTER, .help = "x", .name = "_total"}, "ends in _total: add that");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .help = "x", .name = "a_total"}, "_total is for counters");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .help = "x", .name = "a_count"}, "give it another end");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .help = "x", .name = "a_sum"}, "give it another end");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .help = "x", .name = "a_bucket"}, "give it another end");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .help = "x", .name = "a", .unit = WEFT_NANOSECONDS},
                  "say _seconds in its name");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .name = "a"}, "it has no help");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .name = "a", .help = ""}, "it has no help");
    check_told("a", "");
}

Test(metrics, labels_that_prometheus_would_not_have_are_refused)
{
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .name = "a", .help = "x", .labels = {"ok", "not-ok"}},
                  "the label \"not-ok\" of the metric a: use letters");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .name = "a", .help = "x", .labels = {""}}, "use letters");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .name = "a", .help = "x", .labels = {"__name__"}},
                  "take the underscores away");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .name = "a", .help = "x", .labels = {"b", "c", "b"}},
                  "it is there twice");
    check_refused((weft_metric_options){.kind = WEFT_HISTOGRAM, .name = "a", .help = "x", .labels = {"le"},
                                        .bounds = milliseconds, .bound_count = 3}, "call it something else");
}

Test(metrics, bounds_are_for_histograms_and_rise)
{
    static const int64_t level[] = {1, 2, 2};

    check_refused((weft_metric_options){.kind = WEFT_HISTOGRAM, .name = "a", .help = "x"}, "a histogram needs bounds");
    check_refused((weft_metric_options){.kind = WEFT_HISTOGRAM, .name = "a", .help = "x", .bounds = level, .bound_count = 3},
                  "do not rise");
    check_refused((weft_metric_options){.kind = WEFT_GAUGE, .name = "a", .help = "x", .bounds = level, .bound_count = 2},
                  "leave them out");
}

Test(metrics, declared_again_in_the_same_words_it_is_the_same_metric)
{
    weft_metric *first = declared_counter("t_twice_total", "x");

    cr_assert_eq(declared_counter("t_twice_total", "x"), first);
    cr_assert_neq(declared_counter("t_twice_more_total", "x"), first);
}

Test(metrics, declared_in_other_words_it_is_refused_and_told_where_it_was_before)
{
    static const int64_t other_bounds[] = {1000000, 5000000, 20000000};
    weft_metric_options options = {.kind = WEFT_HISTOGRAM, .name = "t_h_seconds", .help = "Times.", .labels = {"a"},
                                   .bounds = milliseconds, .bound_count = 3}, other = options;
    char place[100];
    int line = __LINE__ + 2;

    cr_assert_null(weft_metric_declare(&(weft_metric *){NULL}, options));
    snprintf(place, sizeof place, "with other bounds than at tests/test_metrics.c:%d", line);
    other.bounds = other_bounds;
    check_refused(other, place);
    other.bound_count = 2;
    check_refused(other, "with other bounds");
    other = options;
    other.unit = WEFT_NANOSECONDS;
    check_refused(other, "in another unit");
    other = options;
    other.labels[0] = "b";
    check_refused(other, "with other labels");
    other.labels[0] = "a";
    other.labels[1] = "b";
    check_refused(other, "with other labels");
    other = options;
    other.help = "Other times.";
    check_refused(other, "with another help");
    other = options;
    other.most_series = 3;
    check_refused(other, "with another most_series");
    other = (weft_metric_options){.kind = WEFT_GAUGE, .name = "t_h_seconds", .help = "Times.", .labels = {"a"}};
    check_refused(other, "as another kind");
}

Test(metrics, nothing_of_a_declaration_is_borrowed)
{
    char name[] = "t_own", help[] = "Mine.", label[] = "x", value[] = "v";
    weft_metric *metric = declared((weft_metric_options){.kind = WEFT_GAUGE, .name = name, .help = help, .labels = {label}});

    weft_gauge_set(weft_gauge_get(metric, value), 1);
    name[2] = help[0] = label[0] = value[0] = '?';
    check_told("t_own", "# HELP t_own Mine.\n# TYPE t_own gauge\nt_own{x=\"v\"} 1\n");
}

/* ---- how many series there may be ---- */

static weft_counter *numbered(weft_metric *metric, int number)
{
    char value[32];

    snprintf(value, sizeof value, "%d", number);
    return weft_counter_get(metric, value, "x");
}

Test(metrics, more_series_than_it_may_have_are_counted_as_other_and_warned_of_once)
{
    weft_metric *metric = declared((weft_metric_options){
        .kind = WEFT_COUNTER, .name = "t_many_total", .help = "Many.", .labels = {"n", "m"}, .most_series = 3});

    log_capture();
    for (int i = 0; i < 3; i++)
        weft_counter_add(numbered(metric, i), 1);
    cr_assert_eq(log_count(""), 0, "%s", log_text());
    for (int i = 3; i < 10; i++)
        weft_counter_add(numbered(metric, i), 1);
    weft_counter_add(numbered(metric, 2), 1);
    weft_counter_add(weft_counter_get(metric, "other", "other"), 1);
    check_told("t_many_total{", "t_many_total{n=\"0\",m=\"x\"} 1\n"
                                "t_many_total{n=\"1\",m=\"x\"} 1\n"
                                "t_many_total{n=\"2\",m=\"x\"} 2\n"
                                "t_many_total{n=\"other\",m=\"other\"} 8\n");
    cr_assert_eq(log_count("the metric t_many_total has 3 series"), 1, "%s", log_text());
    cr_assert_eq(log_count(""), 1, "%s", log_text());
}

Test(metrics, a_thousand_series_are_the_most_unless_more_are_asked_for)
{
    weft_metric *usual = declared((weft_metric_options){
        .kind = WEFT_COUNTER, .name = "t_usual_total", .help = "x", .labels = {"n", "m"}});
    weft_metric *large = declared((weft_metric_options){
        .kind = WEFT_COUNTER, .name = "t_large_total", .help = "x", .labels = {"n", "m"}, .most_series = 1500});

    log_capture();
    cr_assert_neq(numbered(large, 1), numbered(large, 2));
    for (int i = 0; i < 1500; i++)
        numbered(usual, i), numbered(large, i);
    cr_assert_eq(numbered(usual, 1000), numbered(usual, 1499));
    cr_assert_neq(numbered(usual, 999), numbered(usual, 1499));
    cr_assert_neq(numbered(large, 1000), numbered(large, 1499));
}

/* ---- mistakes that no program could run with ---- */

/* What a child wrote to stderr before it died of SIGABRT. */
static const char *abort_message(void (*fn)(void))
{
    static char message[1024];
    int pipes[2], status;
    ssize_t size;
    pid_t child;

    cr_assert_eq(pipe(pipes), 0);
    child = fork();
    if (!child) {
        dup2(pipes[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        fn();
        _exit(0);
    }
    close(pipes[1]);
    size = read(pipes[0], message, sizeof message - 1);
    close(pipes[0]);
    message[size > 0 ? size : 0] = '\0';
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s", message);
    return message;
}

static void look_up_as_gauge(void)
{
    weft_gauge_get(declared_counter("t_wrong_total", "x"), "v");
}

static void look_up_with_two_values(void)
{
    weft_counter_get(declared_counter("t_wrong_total", "x"), "v", "w");
}

static void look_up_without_values(void)
{
    weft_counter_get(declared_counter("t_wrong_total", "x"));
}

Test(metrics, the_wrong_kind_or_number_of_values_aborts_and_says_so)
{
    cr_assert_str_eq(abort_message(look_up_as_gauge), "weft: the metric t_wrong_total: it is no gauge\n");
    cr_assert(strstr(abort_message(look_up_with_two_values), "with more values than it has labels"));
    cr_assert(strstr(abort_message(look_up_without_values), "with fewer values than it has labels"));
}

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 20000 };

static weft_metric *shared_counter, *shared_histogram, *shared_gauge;

static void *count_up(void *arg)
{
    weft_counter *counter = weft_counter_get(shared_counter, "x");
    weft_histogram *histogram = weft_histogram_get(shared_histogram);
    weft_gauge *gauge = weft_gauge_get(shared_gauge, "x");

    for (int i = 0; i < ROUNDS; i++) {
        weft_counter_add(counter, 1);
        weft_gauge_add(gauge, i % 2 ? 3 : -1);
        weft_histogram_observe(histogram, i % 2 ? 1000000 : 2000000);
    }
    return arg;
}

/* Of a histogram that is being counted: what +Inf says is what _count says. */
static void check_histogram_agrees(void)
{
    const char *text = told_lines("t_shared_seconds_");
    const char *all = strstr(text, "le=\"+Inf\"} "), *count = strstr(text, "_count ");

    cr_assert(all && count, "%s", text);
    cr_assert_eq(atoll(all + strlen("le=\"+Inf\"} ")), atoll(count + strlen("_count ")), "%s", text);
}

Test(metrics, nothing_is_lost_when_several_threads_count_and_another_one_tells, .timeout = 60)
{
    pthread_t threads[THREADS];

    shared_counter = declared_counter("t_shared_total", "x");
    shared_gauge = declared_gauge("t_shared_gauge", "x");
    shared_histogram = declared((weft_metric_options){.kind = WEFT_HISTOGRAM, .unit = WEFT_NANOSECONDS, .help = "Times.",
                                                      .name = "t_shared_seconds", .bounds = milliseconds, .bound_count = 3});
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, count_up, NULL), 0);
    for (int i = 0; i < 20; i++)
        check_histogram_agrees();
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(weft_counter_value(weft_counter_get(shared_counter, "x")), THREADS * ROUNDS);
    cr_assert_eq(weft_gauge_value(weft_gauge_get(shared_gauge, "x")), THREADS * ROUNDS);
    check_told("t_shared_seconds_", "t_shared_seconds_bucket{le=\"0.001\"} 40000\n"
                                    "t_shared_seconds_bucket{le=\"0.005\"} 80000\n"
                                    "t_shared_seconds_bucket{le=\"0.01\"} 80000\n"
                                    "t_shared_seconds_bucket{le=\"+Inf\"} 80000\n"
                                    "t_shared_seconds_sum 120\n"
                                    "t_shared_seconds_count 80000\n");
}

/* ---- what is published at a scrape ---- */

static weft_error *publish(void *gauge)
{
    weft_gauge_add(gauge, 1);
    return NULL;
}

static weft_error *fail(void *arg)
{
    return *(bool *)arg ? weft_error_new(&BROKEN, "no numbers today") : NULL;
}

static weft_error *leave_a_context(void *arg)
{
    (void)arg;
    enter("left");
    return NULL;
}

static weft_error *wait_for_something(void *arg)
{
    weft_result result = weft_await(done(weft_int(1)));

    (void)arg;
    trace("%s", weft_failed(result) ? "refused" : "waited");
    weft_result_drop(result);
    return NULL;
}

static weft_error *forget_itself(void *gauge)
{
    weft_metrics_forget_collect(forget_itself, gauge);
    weft_gauge_add(gauge, 1);
    return NULL;
}

static weft_error *forget_the_next(void *gauge)
{
    weft_metrics_forget_collect(publish, gauge);
    return NULL;
}

static weft_error *write_inside(void *gauge)
{
    weft_free(weft_metrics_write(NULL));
    weft_gauge_add(gauge, 1);
    return NULL;
}

Test(metrics, what_is_published_is_called_before_each_text_until_it_is_forgotten)
{
    weft_gauge *gauge = weft_gauge_get(declared_gauge("t_seen", NULL));

    weft_metrics_on_collect(publish, gauge);
    check_told("t_seen ", "t_seen 1\n");
    check_told("t_seen ", "t_seen 2\n");
    weft_metrics_forget_collect(publish, NULL); /* another arg */
    check_told("t_seen ", "t_seen 3\n");
    weft_metrics_forget_collect(publish, gauge);
    check_told("t_seen ", "t_seen 3\n");
}

Test(metrics, one_that_fails_is_logged_once_and_counted_and_hides_no_other)
{
    weft_gauge *gauge = weft_gauge_get(declared_gauge("t_seen", NULL));
    bool failing = true;

    log_capture();
    weft_metrics_on_collect(fail, &failing);
    weft_metrics_on_collect(publish, gauge);
    check_told("t_seen ", "t_seen 1\n");
    check_told("t_seen ", "t_seen 2\n");
    check_told("weft_metrics_collect_failures_total ", "weft_metrics_collect_failures_total 3\n");
    cr_assert_eq(log_count("fails: no numbers today"), 1, "%s", log_text());
    failing = false;
    check_told("t_seen ", "t_seen 4\n");
    failing = true;
    check_told("t_seen ", "t_seen 5\n");
    cr_assert_eq(log_count("no numbers today"), 2, "it has begun anew:\n%s", log_text());
}

Test(metrics, one_that_leaves_a_context_behind_is_named_and_hides_no_other)
{
    weft_gauge *gauge = weft_gauge_get(declared_gauge("t_seen", NULL));
    weft_context *previous = enter("scrape");

    log_capture();
    weft_metrics_on_collect(leave_a_context, NULL);
    weft_metrics_on_collect(publish, gauge);
    check_told("t_seen ", "t_seen 1\n");
    cr_assert_eq(log_count("left the context left behind"), 1, "%s", log_text());
    cr_assert_str_eq(weft_context_get_name(weft_context_current()), "scrape");
    leave(previous);
}

static weft_result scrape(void *arg)
{
    weft_free(weft_metrics_write(NULL));
    return weft_ok(arg);
}

Test(metrics, one_that_would_wait_in_place_of_the_fiber_that_asks_is_refused)
{
    weft_auto(weft_reactor_free) weft_reactor *reactor = NULL;

    cr_assert_null(weft_reactor_new(&reactor));
    weft_metrics_on_collect(wait_for_something, NULL);
    weft_result_drop(weft_reactor_run_until(reactor, weft_spawn(scrape, NULL)));
    cr_assert_str_eq(trace_text(), "refused");
    weft_metrics_forget_collect(wait_for_something, NULL);
}

Test(metrics, one_may_forget_itself_and_others)
{
    weft_gauge *gauge = weft_gauge_get(declared_gauge("t_seen", NULL));

    weft_metrics_on_collect(forget_itself, gauge);
    weft_metrics_on_collect(forget_the_next, gauge);
    weft_metrics_on_collect(publish, gauge);
    check_told("t_seen ", "t_seen 1\n");
    check_told("t_seen ", "t_seen 1\n");
}

Test(metrics, one_that_asks_for_the_text_gets_what_is_known_by_then)
{
    weft_gauge *gauge = weft_gauge_get(declared_gauge("t_seen", NULL));

    weft_metrics_on_collect(write_inside, gauge);
    check_told("t_seen ", "t_seen 1\n");
    weft_metrics_forget_collect(write_inside, gauge);
}

static weft_counter *published;

static weft_error *publish_total(void *arg)
{
    weft_counter_set_total(published, *(uint64_t *)arg);
    return NULL;
}

Test(metrics, a_total_that_is_counted_elsewhere_is_published_as_it_is)
{
    uint64_t total = 7;

    published = weft_counter_get(declared_counter("t_elsewhere_total", NULL));
    weft_metrics_on_collect(publish_total, &total);
    check_told("t_elsewhere_total ", "t_elsewhere_total 7\n");
    total = 18446744073709551615u;
    check_told("t_elsewhere_total ", "t_elsewhere_total 18446744073709551615\n");
    weft_metrics_forget_collect(publish_total, &total);
}

/* ---- the core's own ---- */

Test(metrics, log_lines_are_counted_by_level_when_they_are_made)
{
    weft_log_level before = weft_log_get_level("");

    log_capture();
    weft_log_set_level("", WEFT_LOG_INFO);
    weft_log_debug("not made");
    weft_log_info("x");
    weft_log_error("x");
    weft_log_error("x");
    check_told("weft_log_lines_total{", "weft_log_lines_total{level=\"DEBUG\"} 0\n"
                                        "weft_log_lines_total{level=\"INFO\"} 1\n"
                                        "weft_log_lines_total{level=\"WARN\"} 0\n"
                                        "weft_log_lines_total{level=\"ERROR\"} 2\n");
    weft_log_set_level("", before);
}

Test(metrics, errors_that_nobody_took_are_counted_once_each)
{
    log_capture();
    weft_deferred_unref(done(broken()));
    weft_deferred_unref(done(broken()));
    check_told("weft_unhandled_errors_total ", "weft_unhandled_errors_total 2\n");
}

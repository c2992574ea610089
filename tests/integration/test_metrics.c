/* /metrics of the example service, asked for by curl and read by the parser of Prometheus' own client. */
#include "tests/support/client.h"
#include "tests/support/server.h"
#include "tests/support/test.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct server *rooms_start(void)
{
    return server_start("rooms", "127.0.0.1:0");
}

/* What the parser made of it: a line for each sample, its labels sorted. The caller frees it. */
static char *scrape(struct server *rooms)
{
    char command[256], *samples = NULL;
    int status;

    snprintf(command, sizeof command,
             "set -o pipefail; curl -sS --fail http://127.0.0.1:%d/metrics | tests/support/prometheus", server_port(rooms));
    status = tool_finish(tool_run("bash", "-c", command), &samples);
    cr_assert_eq(status, 0, "%s", samples);
    return samples;
}

/* The value of the sample; -1 when it is not there. */
static double value_in(const char *samples, const char *series)
{
    const char *at = samples;
    size_t length = strlen(series);

    while ((at = strstr(at, series))) {
        if ((at == samples || at[-1] == '\n') && at[length] == ' ')
            return atof(at + length);
        at++;
    }
    return -1;
}

static double value(struct server *rooms, const char *series)
{
    char *samples = scrape(rooms);
    double found = value_in(samples, series);

    free(samples);
    return found;
}

static void wait_for_value(struct server *rooms, const char *series, double expected)
{
    double deadline = deadline_new();

    while (value(rooms, series) != expected)
        cr_assert(deadline_left_ms(deadline), "%s is not %g but %g", series, expected, value(rooms, series));
}

static void check_value(const char *samples, const char *series, double expected)
{
    double found = value_in(samples, series);

    cr_assert_float_eq(found, expected, 1e-9, "%s is not %g but %g in\n%s", series, expected, found, samples);
}

/* ---- the text ---- */

Test(metrics_of_rooms, are_what_the_parser_of_prometheus_takes, .timeout = 120)
{
    static const char *const series[] = {
        "weft_live_objects{kind=\"fiber\",reactor=\"0\"}",      "weft_reactor_turn_seconds_count{reactor=\"0\"}",
        "weft_reactor_timer_lag_seconds_sum{reactor=\"0\"}",    "weft_fibers_started_total{reactor=\"0\"}",
        "weft_fiber_stack_peak_bytes{reactor=\"0\"}",           "weft_cancellation_seconds_count{reactor=\"0\"}",
        "weft_log_lines_total{level=\"INFO\"}",                 "weft_unhandled_errors_total",
        "weft_metrics_collect_failures_total",                  "process_cpu_seconds_total",
        "process_resident_memory_bytes",                        "process_open_fds",
        "process_start_time_seconds",
    };
    struct server *rooms = rooms_start();
    char *samples;

    curl(server_port(rooms), "/health");
    samples = scrape(rooms);
    for (size_t i = 0; i < sizeof series / sizeof *series; i++)
        cr_assert_geq(value_in(samples, series[i]), 0, "%s is not in\n%s", series[i], samples);
    check_value(samples, "weft_metrics_collect_failures_total", 0);
    free(samples);
    server_stop(rooms);
}

Test(metrics_of_rooms, say_what_they_are, .timeout = 120)
{
    struct server *rooms = rooms_start();
    struct curl_answer answer = curl(server_port(rooms), "/metrics", "-o", "/dev/null", "-w", "%{content_type}");

    cr_assert(strstr(answer.body, "text/plain; version=0.0.4; charset=utf-8"), "%s", answer.body);
    server_stop(rooms);
}

/* ---- requests ---- */

#define OF_REQUESTS(What, Code, Method, Route)                                                                      \
    "weft_http_server_" What "{code=\"" Code "\",method=\"" Method "\",route=\"" Route "\"}"
static const char messages_in_flight[] =
    "weft_http_server_requests_in_flight{method=\"POST\",route=\"/rooms/{room_id}/messages\"}";

Test(metrics_of_rooms, b5_requests_are_counted_by_method_route_and_status_never_by_path, .timeout = 120)
{
    struct server *rooms = rooms_start();
    int port = server_port(rooms);
    char *samples;

    curl(port, "/rooms/lobby/messages");
    curl(port, "/rooms/attic/messages");
    curl(port, "/rooms/attic/messages", "-d", "{\"sender\": \"ann\", \"body\": \"hello\"}");
    curl(port, "/rooms/attic/messages", "-d", "{");
    curl(port, "/nowhere");
    curl(port, "/health", "-X", "DELETE");
    curl(port, "/health", "--head");
    samples = scrape(rooms);
    check_value(samples, OF_REQUESTS("requests_total", "200", "GET", "/rooms/{room_id}/messages"), 2);
    check_value(samples, OF_REQUESTS("requests_total", "201", "POST", "/rooms/{room_id}/messages"), 1);
    check_value(samples, OF_REQUESTS("requests_total", "400", "POST", "/rooms/{room_id}/messages"), 1);
    check_value(samples, OF_REQUESTS("requests_total", "404", "GET", "none"), 1);
    check_value(samples, OF_REQUESTS("requests_total", "405", "DELETE", "none"), 1);
    check_value(samples, OF_REQUESTS("requests_total", "200", "HEAD", "/health"), 1);
    check_value(samples, OF_REQUESTS("requests_total", "200", "GET", "/health"), -1);
    check_value(samples, OF_REQUESTS("response_seconds_count", "200", "GET", "/rooms/{room_id}/messages"), 2);
    cr_assert(!strstr(samples, "lobby") && !strstr(samples, "nowhere"), "%s", samples);
    free(samples);
    server_stop(rooms);
}

/* What requests cost: as they go on, and by what became of them. */
Test(metrics_of_rooms, b5_what_requests_use_is_counted_by_method_route_and_status, .timeout = 120)
{
    struct server *rooms = rooms_start();
    char *samples;
    double in, out;

    for (int i = 0; i < 20; i++)
        curl(server_port(rooms), "/rooms/attic/messages", "-d", "{\"sender\": \"ann\", \"body\": \"hello\"}");
    curl(server_port(rooms), "/rooms/attic/messages", "-d", "{");
    samples = scrape(rooms);
    in = value_in(samples, OF_REQUESTS("response_received_bytes_total", "201", "POST", "/rooms/{room_id}/messages"));
    out = value_in(samples, OF_REQUESTS("response_sent_bytes_total", "201", "POST", "/rooms/{room_id}/messages"));
    cr_assert(in > 20 * 100 && in < 20 * 1000, "%g bytes", in);
    cr_assert(out > 20 * 50 && out < 20 * 1000, "%g bytes", out);
    in += value_in(samples, OF_REQUESTS("response_received_bytes_total", "400", "POST", "/rooms/{room_id}/messages"));
    check_value(samples, "weft_http_server_received_bytes_total{method=\"POST\",route=\"/rooms/{room_id}/messages\"}", in);
    cr_assert(value_in(samples, OF_REQUESTS("response_cpu_user_seconds_total", "201", "POST", "/rooms/{room_id}/messages")) +
              value_in(samples, OF_REQUESTS("response_cpu_system_seconds_total", "201", "POST", "/rooms/{room_id}/messages")) > 0);
    free(samples);
    server_stop(rooms);
}

Test(metrics_of_rooms, b5_the_bytes_of_bodies_are_counted_as_they_were_sent, .timeout = 120)
{
    struct server *rooms = rooms_start();
    struct curl_answer answer = curl(server_port(rooms), "/health");
    char *samples;

    curl(server_port(rooms), "/health", "--head");
    samples = scrape(rooms);
    check_value(samples, OF_REQUESTS("response_bytes_total", "200", "GET", "/health"),
                (double)strlen(answer.body));
    check_value(samples, OF_REQUESTS("response_bytes_total", "200", "HEAD", "/health"), 0);
    free(samples);
    server_stop(rooms);
}

Test(metrics_of_rooms, b5_a_request_takes_as_long_as_until_its_answer_has_left, .timeout = 120)
{
    struct server *rooms = rooms_start();
    char *samples;

    curl(server_port(rooms), "/sleep/0.06");
    curl(server_port(rooms), "/health");
    samples = scrape(rooms);
    check_value(samples, "weft_http_server_response_seconds_bucket{code=\"200\",le=\"0.05\",method=\"GET\","
                         "route=\"/sleep/{seconds}\"}", 0);
    check_value(samples, OF_REQUESTS("response_seconds_count", "200", "GET", "/sleep/{seconds}"), 1);
    cr_assert_geq(value_in(samples, OF_REQUESTS("response_seconds_sum", "200", "GET", "/sleep/{seconds}")), 0.06);
    cr_assert_gt(value_in(samples, OF_REQUESTS("response_seconds_sum", "200", "GET", "/health")), 0);
    free(samples);
    server_stop(rooms);
}

Test(metrics_of_rooms, b5_a_request_is_in_flight_until_its_client_has_left, .timeout = 120)
{
    static const char in_flight[] = "weft_http_server_requests_in_flight{method=\"GET\",route=\"/rooms/{room_id}/wait\"}";
    static const char counted[] = OF_REQUESTS("requests_total", "499", "GET", "/rooms/{room_id}/wait");
    struct server *rooms = rooms_start();
    struct tool *first = curl_run(server_port(rooms), "/rooms/lobby/wait");
    struct tool *second = curl_run(server_port(rooms), "/rooms/attic/wait");
    char *samples;

    wait_for_value(rooms, in_flight, 2);
    cr_assert_eq(value(rooms, counted), -1);
    tool_signal(first, 9);
    tool_finish(first, NULL);
    wait_for_value(rooms, in_flight, 1);
    tool_signal(second, 9);
    tool_finish(second, NULL);
    wait_for_value(rooms, in_flight, 0);
    samples = scrape(rooms);
    check_value(samples, counted, 2);
    check_value(samples, "weft_cancellations_total{event=\"ended\",reactor=\"0\"}", 2);
    check_value(samples, "weft_http_server_requests_in_flight{method=\"GET\",route=\"/metrics\"}", 1);
    free(samples);
    server_stop(rooms);
}

Test(metrics_of_rooms, what_is_no_request_is_counted_without_a_method, .timeout = 120)
{
    struct server *rooms = rooms_start();
    struct client *client = client_connect(server_port(rooms));
    char *samples;

    send_text(client, "nonsense\r\n\r\n");
    expect_status(client, 400);
    client_close(client);
    samples = scrape(rooms);
    check_value(samples, OF_REQUESTS("requests_total", "400", "none", "none"), 1);
    check_value(samples, "weft_http_server_requests_in_flight{method=\"none\",route=\"none\"}", 0);
    free(samples);
    server_stop(rooms);
}

Test(metrics_of_rooms, a_request_that_is_left_in_its_body_is_counted_as_499, .timeout = 120)
{
    struct server *rooms = rooms_start();
    struct client *client = client_connect(server_port(rooms));

    send_text(client, "POST /rooms/lobby/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{");
    client_close(client);
    wait_for_value(rooms, OF_REQUESTS("requests_total", "499", "POST", "/rooms/{room_id}/messages"), 1);
    cr_assert_eq(value(rooms, messages_in_flight), 0);
    server_stop(rooms);
}

/* ---- several servers ---- */

static int second_port(struct server *both)
{
    const char *line = wait_for_log_line(both, "the second one listens on [0-9]+");

    return atoi(strstr(line, "listens on ") + strlen("listens on "));
}

Test(metrics_of_two_servers, requests_of_both_are_counted_together_and_their_reactors_apart, .timeout = 120)
{
    static const char waiting[] = "weft_http_server_requests_in_flight{method=\"GET\",route=\"/wait\"}";
    struct server *both = server_start("serve_twice");
    int ports[2] = {server_port(both), second_port(both)};
    struct tool *waits[2] = {curl_run(ports[0], "/wait"), curl_run(ports[1], "/wait")};
    char *samples;

    curl(ports[0], "/hello");
    curl(ports[1], "/hello");
    curl(ports[1], "/hello");
    wait_for_value(both, waiting, 2);
    samples = scrape(both);
    check_value(samples, OF_REQUESTS("requests_total", "200", "GET", "/hello"), 3);
    check_value(samples, OF_REQUESTS("response_bytes_total", "200", "GET", "/hello"), 3 * strlen("hello\n"));
    check_value(samples, "weft_live_objects{kind=\"fiber\",reactor=\"0\"}", 2); /* one of them scrapes */
    free(samples);
    wait_for_value(both, "weft_live_objects{kind=\"fiber\",reactor=\"1\"}", 1);
    for (int i = 0; i < 2; i++) {
        tool_signal(waits[i], 9);
        tool_finish(waits[i], NULL);
    }
    wait_for_value(both, waiting, 0);
    cr_assert_eq(value(both, OF_REQUESTS("requests_total", "499", "GET", "/wait")), 2);
    server_stop(both);
}

/* A scrape looks at what other threads count meanwhile. */
Test(metrics_of_two_servers, one_may_be_scraped_while_the_other_one_works, .timeout = 120)
{
    struct server *both = server_start("serve_twice");
    char url[64];
    struct tool *load;

    snprintf(url, sizeof url, "http://127.0.0.1:%d/hello", second_port(both));
    load = tool_run("ab", "-q", "-n", "2000", "-c", "4", url);
    for (int i = 0; i < 5; i++)
        free(scrape(both));
    cr_assert_eq(tool_finish(load, NULL), 0);
    wait_for_value(both, OF_REQUESTS("requests_total", "200", "GET", "/hello"), 2000);
    wait_for_value(both, OF_REQUESTS("response_seconds_count", "200", "GET", "/hello"), 2000);
    server_stop(both);
}

/* ---- jemalloc ---- */

#ifndef WEFT_TEST_SANITIZED
/* Its statistics stand still unless they are asked to move on. */
static void check_that_posting_allocates(struct server *rooms, double allocated)
{
    char message[3200];

    snprintf(message, sizeof message, "{\"sender\": \"ann\", \"body\": \"%03000d\"}", 0);
    for (int i = 0; i < 50; i++)
        cr_assert_eq(curl(server_port(rooms), "/rooms/lobby/messages", "-d", message).status, 201);
    cr_assert_gt(value(rooms, "weft_jemalloc_bytes{kind=\"allocated\"}"), allocated + 50 * 3000);
}

Test(metrics_of_rooms, tell_what_jemalloc_says_when_that_is_the_allocator, .timeout = 120)
{
    struct server *rooms = rooms_start();
    char *samples = scrape(rooms);

    cr_assert_null(strstr(samples, "weft_jemalloc_bytes"));
    free(samples);
    server_stop(rooms);

    setenv("LD_PRELOAD", "libjemalloc.so.2", 1);
    rooms = rooms_start();
    unsetenv("LD_PRELOAD");
    samples = scrape(rooms);
    cr_assert_gt(value_in(samples, "weft_jemalloc_bytes{kind=\"allocated\"}"), 10000, "%s", samples);
    cr_assert_geq(value_in(samples, "weft_jemalloc_bytes{kind=\"active\"}"),
                  value_in(samples, "weft_jemalloc_bytes{kind=\"allocated\"}"));
    cr_assert_gt(value_in(samples, "weft_jemalloc_bytes{kind=\"resident\"}"), 0);
    cr_assert_gt(value_in(samples, "weft_jemalloc_bytes{kind=\"mapped\"}"), 0);
    cr_assert_geq(value_in(samples, "weft_jemalloc_bytes{kind=\"retained\"}"), 0);
    check_value(samples, "weft_metrics_collect_failures_total", 0);
    check_that_posting_allocates(rooms, value_in(samples, "weft_jemalloc_bytes{kind=\"allocated\"}"));
    free(samples);
    server_stop(rooms);
}
#endif

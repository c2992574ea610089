/* The example service, docs/examples/rooms/, used as its readers will use it: by curl, by load generators, and by people
 * who press Ctrl-C. */
#include "tests/support/client.h"
#include "tests/support/server.h"
#include "tests/support/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct server *rooms_start(void)
{
    return server_start("rooms", "127.0.0.1:0");
}

static void check_body(struct curl_answer answer, int status, const char *body)
{
    cr_assert_eq(answer.exit, 0, "curl: %s", answer.body);
    cr_assert_eq(answer.status, status, "not %d but %d: %s", status, answer.status, answer.body);
    cr_assert_str_eq(answer.body, body);
}

static void check_error(struct curl_answer answer, int status, const char *errcode)
{
    json_t *json = json_loads(answer.body, 0, NULL);
    const char *said = json_string_value(json_object_get(json, "errcode"));

    cr_assert_eq(answer.status, status, "not %d but %d: %s", status, answer.status, answer.body);
    cr_assert(said && !strcmp(said, errcode), "not %s but: %s", errcode, answer.body);
    cr_assert(json_is_string(json_object_get(json, "error")));
    json_decref(json);
}

static struct curl_answer post(struct server *rooms, const char *room, const char *sender, const char *body)
{
    char path[256], message[512];

    snprintf(path, sizeof path, "/rooms/%s/messages", room);
    snprintf(message, sizeof message, "{\"sender\": \"%s\", \"body\": \"%s\"}", sender, body);
    return curl(server_port(rooms), path, "-d", message);
}

static long long live(struct server *rooms, const char *what)
{
    struct curl_answer answer = curl(server_port(rooms), "/health");
    json_t *json = json_loads(answer.body, 0, NULL);
    long long count;

    cr_assert_eq(answer.status, 200, "%s", answer.body);
    cr_assert_str_eq(json_string_value(json_object_get(json, "status")), "ok");
    count = json_integer_value(json_object_get(json_object_get(json, "live"), what));
    json_decref(json);
    return count;
}

/* Until so many requests are in hand beside the one that asks. */
static void wait_for_requests(struct server *rooms, long long count)
{
    double deadline = deadline_new();

    while (live(rooms, "requests") != count + 1)
        cr_assert(deadline_left_ms(deadline), "there are not %lld requests", count);
}

/* Nothing but what the asking itself takes. The counts may be behind for as long as it takes to hang up. */
static void rooms_stop(struct server *rooms)
{
    wait_for_requests(rooms, 0);
    server_stop(rooms);
}

/* ---- its endpoints ---- */

Test(rooms, takes_messages_and_gives_them_back, .timeout = 120)
{
    struct server *rooms = rooms_start();
    int port = server_port(rooms);

    check_body(post(rooms, "lobby", "ann", "hello"), 201, "{\"event_id\":\"$1\"}");
    check_body(post(rooms, "lobby", "bob", "hello, ann"), 201, "{\"event_id\":\"$2\"}");
    check_body(post(rooms, "attic", "ann", "alone"), 201, "{\"event_id\":\"$3\"}");

    check_body(curl(port, "/rooms/lobby/messages"), 200,
               "{\"messages\":[{\"event_id\":\"$1\",\"sender\":\"ann\",\"body\":\"hello\"},"
               "{\"event_id\":\"$2\",\"sender\":\"bob\",\"body\":\"hello, ann\"}],\"next\":2}");
    check_body(curl(port, "/rooms/attic/messages"), 200,
               "{\"messages\":[{\"event_id\":\"$3\",\"sender\":\"ann\",\"body\":\"alone\"}],\"next\":3}");
    check_body(curl(port, "/rooms/cellar/messages"), 200, "{\"messages\":[],\"next\":0}");
    rooms_stop(rooms);
}

Test(rooms, gives_only_what_came_since, .timeout = 120)
{
    struct server *rooms = rooms_start();
    int port = server_port(rooms);

    post(rooms, "lobby", "ann", "one");
    post(rooms, "lobby", "ann", "two");
    check_body(curl(port, "/rooms/lobby/messages?since=1"), 200,
               "{\"messages\":[{\"event_id\":\"$2\",\"sender\":\"ann\",\"body\":\"two\"}],\"next\":2}");
    check_body(curl(port, "/rooms/lobby/messages?since=2"), 200, "{\"messages\":[],\"next\":2}");
    check_body(curl(port, "/rooms/lobby/wait?since=1"), 200,
               "{\"messages\":[{\"event_id\":\"$2\",\"sender\":\"ann\",\"body\":\"two\"}],\"next\":2}");
    rooms_stop(rooms);
}

Test(rooms, keeps_rooms_apart_whatever_their_names, .timeout = 120)
{
    struct server *rooms = rooms_start();
    int port = server_port(rooms);

    check_body(post(rooms, "a%2Fb", "ann", "one"), 201, "{\"event_id\":\"$1\"}");
    check_body(curl(port, "/rooms/a%2fb/messages?since=1"), 200, "{\"messages\":[],\"next\":1}");
    check_error(curl(port, "/rooms/a/b/messages"), 404, "M_UNRECOGNIZED");
    check_error(curl(port, "/rooms//messages"), 404, "M_UNRECOGNIZED");
    check_error(curl(port, "/rooms/%00/messages"), 400, "M_INVALID_PARAM");
    check_body(curl(port, "/rooms/%ff%fe/messages"), 200, "{\"messages\":[],\"next\":0}");
    rooms_stop(rooms);
}

Test(rooms, says_what_is_wrong_with_a_message, .timeout = 120)
{
    struct server *rooms = rooms_start();
    int port = server_port(rooms);
    const char *path = "/rooms/lobby/messages";

    check_error(curl(port, path, "-d", ""), 400, "M_NOT_JSON");
    check_error(curl(port, path, "-d", "hello"), 400, "M_NOT_JSON");
    check_error(curl(port, path, "-d", "{}"), 400, "M_MISSING_PARAM");
    check_error(curl(port, path, "-d", "[]"), 400, "M_MISSING_PARAM");
    check_error(curl(port, path, "-d", "{\"sender\": \"ann\"}"), 400, "M_MISSING_PARAM");
    check_error(curl(port, path, "-d", "{\"sender\": 1, \"body\": \"b\"}"), 400, "M_BAD_JSON");
    check_error(curl(port, path, "-d", "{\"sender\": \"\", \"body\": \"b\"}"), 400, "M_BAD_JSON");
    check_error(curl(port, "/rooms/lobby/messages?since=x"), 400, "M_INVALID_PARAM");
    check_error(curl(port, "/rooms/lobby/messages?since=-1"), 400, "M_INVALID_PARAM");
    check_error(curl(port, "/rooms/lobby/wait?timeout=x"), 400, "M_INVALID_PARAM");
    check_error(curl(port, "/rooms/lobby/wait?timeout=-1"), 400, "M_INVALID_PARAM");
    check_error(curl(port, path, "-X", "DELETE"), 405, "M_UNRECOGNIZED");
    check_body(curl(port, path), 200, "{\"messages\":[],\"next\":0}");
    rooms_stop(rooms);
}

Test(rooms, forgets_the_oldest_messages_and_takes_no_more_rooms_than_it_can_keep, .timeout = 120)
{
    static const char message[] = "{\"sender\": \"ann\", \"body\": \"hello\"}";
    struct server *rooms = rooms_start();
    struct client *client = client_connect(server_port(rooms));
    json_t *json;
    int i;

    for (i = 0; i < 150; i++) {
        send_text(client, "POST /rooms/0/messages HTTP/1.1\r\nHost: weft\r\nContent-Length: %zu\r\n\r\n%s",
                  strlen(message), message);
        expect_status(client, 201);
    }
    send_get(client, "/rooms/0/messages");
    json = response_json(read_response(client));
    cr_assert_eq(json_array_size(json_object_get(json, "messages")), 100u);
    json_decref(json);
    for (i = 1; i <= 1000; i++) {
        send_text(client, "POST /rooms/%d/messages HTTP/1.1\r\nHost: weft\r\nContent-Length: %zu\r\n\r\n%s", i,
                  strlen(message), message);
        expect_status(client, i < 1000 ? 201 : 403);
    }
    client_close(client);
    rooms_stop(rooms);
}

Test(rooms, says_that_it_is_well, .timeout = 120)
{
    struct server *rooms = rooms_start();

    cr_assert_eq(live(rooms, "requests"), 1);
    cr_assert_eq(live(rooms, "connections"), 1);
    rooms_stop(rooms);
}

/* ---- waiting for news ---- */

Test(rooms, wakes_all_who_wait_when_a_message_comes, .timeout = 120)
{
    struct server *rooms = rooms_start();
    struct tool *waiting[3];
    size_t i;

    for (i = 0; i < 3; i++)
        waiting[i] = curl_run(server_port(rooms), "/rooms/lobby/wait", "-N");
    wait_for_requests(rooms, 3);
    check_body(post(rooms, "attic", "bob", "not for them"), 201, "{\"event_id\":\"$1\"}");
    wait_for_requests(rooms, 3);
    check_body(post(rooms, "lobby", "ann", "hello"), 201, "{\"event_id\":\"$2\"}");

    for (i = 0; i < 3; i++)
        check_body(curl_finish(waiting[i]), 200,
                   "{\"messages\":[{\"event_id\":\"$2\",\"sender\":\"ann\",\"body\":\"hello\"}],\"next\":2}");
    wait_for_log_lines(rooms, 3, " 200 \"GET /rooms/lobby/wait HTTP/1[.]1\" \"curl/");
    rooms_stop(rooms);
}

Test(rooms, answers_with_nothing_when_no_message_comes_in_time, .timeout = 120)
{
    struct server *rooms = rooms_start();

    check_body(curl(server_port(rooms), "/rooms/lobby/wait?timeout=0.05"), 200, "{\"messages\":[],\"next\":0}");
    check_body(curl(server_port(rooms), "/rooms/lobby/wait?timeout=0"), 200, "{\"messages\":[],\"next\":0}");
    rooms_stop(rooms);
}

/* ---- clients that leave ---- */

/* Starts curl, waits until its request is being handled, and presses Ctrl-C. */
static void ask_and_interrupt(struct server *rooms, const char *path)
{
    struct tool *curl = curl_run(server_port(rooms), path, "-N");

    wait_for_requests(rooms, 1);
    tool_signal(curl, SIGINT);
    cr_assert_eq(tool_finish(curl, NULL), 128 + SIGINT);
}

/* What the README promises a newcomer. */
Test(rooms, stops_a_waiting_request_when_curl_is_interrupted_and_says_so, .timeout = 120)
{
    struct server *rooms = rooms_start();
    const char *line;
    char context[32];

    ask_and_interrupt(rooms, "/rooms/lobby/wait");

    line = wait_for_log_line(rooms,
                             "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3} INFO  GET-[0-9]+ 127[.]0[.]0[.]1 - %d - "
                             "[{]None[}] Processed request: [0-9.]+sec/[0-9.]+sec ru=[(][0-9.]+sec, [0-9.]+sec[)] db=[(]0[.]000sec/0[.]000sec/0[)] 0B 499! "
                             "\"GET /rooms/lobby/wait HTTP/1[.]1\" \"curl/[^\"]*\" \\[0 dbevts\\]$", server_port(rooms));
    cr_assert_eq(sscanf(strstr(line, "GET-"), "%31s", context), 1);
    wait_for_log_line(rooms, " INFO  %s .*unwound from .*rooms/main[.]c:[0-9]+ wait_for_room", context);
    rooms_stop(rooms);
}

Test(rooms, lets_an_interrupted_sleep_run_to_its_end, .timeout = 120)
{
    struct server *rooms = rooms_start();

    ask_and_interrupt(rooms, "/sleep/1");
    wait_for_log_line(rooms, " GET-[0-9]+ .* 200! \"GET /sleep/1 HTTP/1[.]1\" \"curl/");
    cr_assert_eq(count_log_lines(rooms, "unwound"), 0u);
    rooms_stop(rooms);
}

Test(rooms, stops_an_interrupted_cancellable_sleep, .timeout = 120)
{
    struct server *rooms = rooms_start();

    ask_and_interrupt(rooms, "/cancellable-sleep/3600");
    wait_for_log_line(rooms, " GET-[0-9]+ .* 499! \"GET /cancellable-sleep/3600 HTTP/1[.]1\" \"curl/");
    wait_for_log_line(rooms, " GET-[0-9]+ .*unwound from .*rooms/main[.]c:[0-9]+ sleep_a_while");
    rooms_stop(rooms);
}

Test(rooms, sleeps_as_long_as_it_is_told, .timeout = 120)
{
    struct server *rooms = rooms_start();
    int port = server_port(rooms);

    check_body(curl(port, "/sleep/0"), 200, "slept\n");
    check_body(curl(port, "/sleep/0.05"), 200, "slept\n");
    check_body(curl(port, "/cancellable-sleep/0.05"), 200, "slept\n");
    check_error(curl(port, "/sleep/soon"), 400, "M_INVALID_PARAM");
    check_error(curl(port, "/sleep/-1"), 400, "M_INVALID_PARAM");
    check_error(curl(port, "/sleep/nan"), 400, "M_INVALID_PARAM");
    check_error(curl(port, "/sleep/1e10"), 400, "M_INVALID_PARAM");
    rooms_stop(rooms);
}

/* ---- load generators ---- */

static const char *url(struct server *rooms, const char *path)
{
    static char text[256];

    snprintf(text, sizeof text, "http://127.0.0.1:%d%s", server_port(rooms), path);
    return text;
}

static void check_ab(struct server *rooms, const char *keep_alive, const char *path)
{
    char *output;
    int status = tool_finish(tool_run("ab", "-q", keep_alive, "-n", "2000", "-c", "20", url(rooms, path)), &output);

    cr_assert_eq(status, 0, "ab: %s", output);
    cr_assert_not_null(strstr(output, "Complete requests:      2000\n"), "ab: %s", output);
    cr_assert_not_null(strstr(output, "Failed requests:        0\n"), "ab: %s", output);
    cr_assert_null(strstr(output, "Non-2xx"), "ab: %s", output);
    free(output);
}

Test(rooms, serves_ab_without_a_failed_request, .timeout = 120)
{
    struct server *rooms = rooms_start();

    check_ab(rooms, "-k", "/rooms/lobby/messages");
    check_ab(rooms, "-q", "/rooms/lobby/messages"); /* without keep-alive: -q is there anyway */
    check_ab(rooms, "-k", "/sleep/0");
    rooms_stop(rooms);
}

Test(rooms, serves_wrk_without_a_failed_request, .timeout = 120)
{
    struct server *rooms = rooms_start();
    char *output;
    int status;

    status = tool_finish(
        tool_run("wrk", "-t", "1", "-c", "50", "-d", "1", "--timeout", "60", url(rooms, "/rooms/lobby/messages")),
        &output);
    cr_assert_eq(status, 0, "wrk: %s", output);
    cr_assert_not_null(strstr(output, "Requests/sec:"), "wrk: %s", output);
    cr_assert_null(strstr(output, "Non-2xx"), "wrk: %s", output);
    cr_assert_null(strstr(output, "Socket errors"), "wrk: %s", output);
    free(output);
    rooms_stop(rooms);
}

/* ---- its end ---- */

static const int signals[] = {SIGINT, SIGTERM};

Test(rooms, ends_with_0_and_tells_those_who_wait, .timeout = 120)
{
    size_t i;

    for (i = 0; i < 2; i++) {
        struct server *rooms = rooms_start();
        struct client *idle = client_connect(server_port(rooms));
        struct tool *waiting = curl_run(server_port(rooms), "/rooms/lobby/wait", "-N");
        struct tool *sleeping = curl_run(server_port(rooms), "/sleep/1", "-N");
        struct tool *cancellable = curl_run(server_port(rooms), "/cancellable-sleep/3600", "-N");

        wait_for_requests(rooms, 3);
        server_signal(rooms, signals[i]);

        expect_closed(idle);
        check_error(curl_finish(waiting), 503, "M_UNKNOWN");
        check_error(curl_finish(cancellable), 503, "M_UNKNOWN");
        check_body(curl_finish(sleeping), 200, "slept\n");
        server_expect_exit(rooms, 0);
    }
}

Test(rooms, ends_at_once_when_asked_twice, .timeout = 120)
{
    struct server *rooms = rooms_start();
    struct tool *sleeping = curl_run(server_port(rooms), "/sleep/3600", "-N");

    wait_for_requests(rooms, 1);
    server_signal(rooms, SIGINT);
    wait_for_log_line(rooms, "shutting down");
    server_signal(rooms, SIGINT);

    check_error(curl_finish(sleeping), 503, "M_UNKNOWN");
    server_expect_exit(rooms, 0);
}

Test(rooms, says_why_it_cannot_start, .timeout = 120)
{
    struct server *rooms = rooms_start();
    struct server *none = server_run("rooms", "nonsense");
    struct server *second;
    char address[64];

    wait_for_log_line(none, "^rooms: .*nonsense");
    server_expect_exit(none, 1);
    snprintf(address, sizeof address, "127.0.0.1:%d", server_port(rooms));
    second = server_run("rooms", address);
    wait_for_log_line(second, "^rooms: .*%s.*: Address already in use", address);
    server_expect_exit(second, 1);
    rooms_stop(rooms);
}

Test(rooms, listens_on_IPv6_as_well, .timeout = 120)
{
    struct server *rooms;
    char path[64];
    char *output;

    if (access("/proc/net/if_inet6", F_OK)) {
        fprintf(stderr, "not tested: this machine has no IPv6\n");
        return;
    }
    rooms = server_start("rooms", "[::1]:0");
    snprintf(path, sizeof path, "http://[::1]:%d/health", server_port(rooms));
    cr_assert_eq(tool_finish(tool_run("curl", "-q", "-sS", "--noproxy", "*", "-g", path), &output), 0, "curl: %s",
                 output);
    free(output);
    wait_for_log_line(rooms, " ::1 - %d - .* 200 \"GET /health", server_port(rooms));
    server_stop(rooms);
}

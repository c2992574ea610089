/* How a server ends: on SIGINT or SIGTERM it takes nobody new, lets those finish who may, stops the others politely, and
 * exits with 0. What it does not get so far for it says, and exits with 1. */
#include "tests/support/probe.h"
#include "tests/support/test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static void ask_to_stop(struct server *server, int number)
{
    server_signal(server, number);
    wait_for_log_line(server, "%s: shutting down", number == SIGINT ? "SIGINT" : "SIGTERM");
}

static const int signals[] = {SIGINT, SIGTERM};

Test(shutdown, of_an_idle_server_exits_with_0, .timeout = 120)
{
    size_t i;

    for (i = 0; i < 2; i++) {
        struct server *server = server_start("serve_probe");

        server_signal(server, signals[i]);
        wait_for_log_line(server, "stopped");
        server_expect_exit(server, 0);
    }
}

Test(shutdown, closes_idle_connections, .timeout = 120)
{
    size_t i;

    for (i = 0; i < 2; i++) {
        struct server *server = server_start("serve_probe");
        struct client *fresh = client_connect(server_port(server));
        struct client *served = client_connect(server_port(server));

        send_get(served, "/text");
        expect_answer(served, 200, "hello\n");
        server_signal(server, signals[i]);

        expect_closed(fresh);
        expect_closed(served);
        server_expect_exit(server, 0);
    }
}

Test(shutdown, answers_503_for_a_waiting_handler_that_is_cancellable, .timeout = 120)
{
    size_t i;

    for (i = 0; i < 2; i++) {
        struct probe *probe = probe_start();
        struct client *client = probe_connect(probe);
        struct server *server;

        send_get(client, "/wait");
        wait_until_parked(probe, 1);
        ask_to_stop(probe_server(probe), signals[i]);

        check_is_json_error(client, read_response(client), 503);
        expect_closed(client);
        expect_request_line(probe, "GET", "/wait", "503");
        wait_for_log_line(probe_server(probe), "unwound from .*serve_probe[.]c:[0-9]+ wait_for_opening");
        server = probe_leave(probe);
        cr_assert_eq(count_log_lines(server, "the canceller ran"), 1u);
        server_expect_exit(server, 0);
    }
}

Test(shutdown, waits_for_a_handler_that_is_not_cancellable, .timeout = 120)
{
    size_t i;

    for (i = 0; i < 2; i++) {
        struct probe *probe = probe_start();
        struct client *client = probe_connect(probe);
        struct server *server;

        send_get(client, "/gated");
        wait_until_parked(probe, 1);
        ask_to_stop(probe_server(probe), signals[i]);
        server_signal(probe_server(probe), SIGUSR1);

        expect_answer(client, 200, "open\n");
        expect_closed(client);
        expect_request_line(probe, "GET", "/gated", "200");
        server = probe_leave(probe);
        cr_assert_eq(count_log_lines(server, "the canceller ran"), 0u);
        server_expect_exit(server, 0);
    }
}

Test(shutdown, refuses_new_connections_while_it_waits, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    int port = probe_port(probe);
    struct server *server;

    send_get(client, "/gated");
    wait_until_parked(probe, 1);
    ask_to_stop(probe_server(probe), SIGTERM);
    server = probe_leave(probe);
    /* The port is free again, and may be another test's by now: it must not be ours. */
    curl(port, "/newcomer");
    server_signal(server, SIGUSR1);
    expect_answer(client, 200, "open\n");
    expect_closed(client);
    cr_assert_eq(count_log_lines(server, "/newcomer"), 0u);
    server_expect_exit(server, 0);
}

Test(shutdown, waits_for_nobody_when_asked_a_second_time, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    struct server *server;

    send_get(client, "/gated");
    wait_until_parked(probe, 1);
    ask_to_stop(probe_server(probe), SIGINT);
    server_signal(probe_server(probe), SIGINT);

    check_is_json_error(client, read_response(client), 503);
    expect_closed(client);
    server = probe_leave(probe);
    wait_for_log_line(server, "unwound from .*serve_probe[.]c:[0-9]+ wait_for_opening");
    server_expect_exit(server, 0);
}

Test(shutdown, waits_no_longer_than_it_was_told_to, .timeout = 120)
{
    struct probe *probe = probe_start_with_drain("0.1");
    struct client *client = probe_connect(probe);
    struct server *server;

    send_get(client, "/gated");
    wait_until_parked(probe, 1);
    ask_to_stop(probe_server(probe), SIGTERM);

    check_is_json_error(client, read_response(client), 503);
    expect_closed(client);
    server = probe_leave(probe);
    server_expect_exit(server, 0);
}

Test(shutdown, waits_for_a_canceller_that_needs_time, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    struct server *server;

    send_get(client, "/stops-later");
    wait_until_parked(probe, 1);
    ask_to_stop(probe_server(probe), SIGTERM);
    wait_for_log_line(probe_server(probe), "the canceller asked for an end");
    server_signal(probe_server(probe), SIGUSR1);

    expect_answer(client, 200, "open\n"); /* the work was done before it could be stopped */
    expect_closed(client);
    server = probe_leave(probe);
    server_expect_exit(server, 0);
}

Test(shutdown, lets_a_cancelled_handler_clean_up, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    struct server *server;

    send_get(client, "/cleans-up");
    wait_until_parked(probe, 1);
    ask_to_stop(probe_server(probe), SIGTERM);

    check_is_json_error(client, read_response(client), 503);
    expect_closed(client);
    server = probe_leave(probe);
    wait_for_log_line(server, "the clean-up is done");
    server_expect_exit(server, 0);
}

Test(shutdown, answers_503_in_the_middle_of_a_body, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    struct server *server;

    send_text(client, "POST /echo HTTP/1.1\r\nHost: weft\r\nContent-Length: 10\r\n\r\nhello");
    expect_served(probe);
    server = probe_leave(probe);
    ask_to_stop(server, SIGTERM);

    check_is_json_error(client, read_response(client), 503);
    expect_closed(client);
    server_expect_exit(server, 0);
}

Test(shutdown, does_not_wait_for_the_rest_of_a_head, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    struct server *server;

    send_text(client, "GET /text HTTP/1.1\r\nHost");
    expect_served(probe);
    server = probe_leave(probe);
    ask_to_stop(server, SIGTERM);

    check_is_json_error(client, read_response(client), 503);
    expect_closed(client);
    server_expect_exit(server, 0);
}

Test(shutdown, sends_a_large_answer_to_its_end, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *slow = client_connect_with_small_window(probe_port(probe));
    struct server *server;
    const struct response *response;

    send_get(slow, "/big/5000000");
    cr_assert(client_hears_within(slow, PATIENCE * 1000));
    server = probe_leave(probe);
    ask_to_stop(server, SIGTERM);

    response = read_response(slow);
    cr_assert_eq(response->status, 200);
    cr_assert_eq(response->size, 5000000u);
    expect_closed(slow);
    server_expect_exit(server, 0);
}

Test(shutdown, does_not_begin_with_what_was_pipelined_behind_a_waiting_request, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    struct server *server;

    send_get(client, "/gated?first");
    send_get(client, "/gated?second");
    wait_until_parked(probe, 1);
    ask_to_stop(probe_server(probe), SIGTERM);
    server_signal(probe_server(probe), SIGUSR1);

    expect_answer(client, 200, "open\n");
    expect_closed(client);
    server = probe_leave(probe);
    cr_assert_eq(count_log_lines(server, "GET /gated[?]second"), 0u);
    server_expect_exit(server, 0);
}

Test(shutdown, ends_with_every_kind_of_client_at_once, .timeout = 120)
{
    static const char *const starts[] = {"",
                                         "GET /te",
                                         "GET /wait HTTP/1.1\r\nHost: weft\r\n\r\n",
                                         "GET /gated HTTP/1.1\r\nHost: weft\r\n\r\n",
                                         "GET /cleans-up HTTP/1.1\r\nHost: weft\r\n\r\n",
                                         "GET /stops-later HTTP/1.1\r\nHost: weft\r\n\r\n",
                                         "GET /big/5000000 HTTP/1.1\r\nHost: weft\r\n\r\n",
                                         "POST /echo HTTP/1.1\r\nHost: weft\r\nContent-Length: 9\r\n\r\n",
                                         "nonsense\r\n\r\n"};
    enum { KINDS = sizeof starts / sizeof *starts, OF_EACH = 5, WAITING = 4 };
    struct probe *probe = probe_start();
    struct client *clients[KINDS * OF_EACH];
    struct server *server;
    size_t i;

    for (i = 0; i < KINDS * OF_EACH; i++) {
        clients[i] = client_connect_with_small_window(probe_port(probe));
        send_text(clients[i], "%s", starts[i % KINDS]);
    }
    wait_until_parked(probe, WAITING * OF_EACH);
    server = probe_leave(probe);
    ask_to_stop(server, SIGTERM);
    server_signal(server, SIGINT);
    for (i = 0; i < KINDS * OF_EACH; i++)
        if (i % 2)
            client_close(clients[i]);
        else
            close_with_reset(clients[i]);
    server_signal(server, SIGUSR1); /* the work of /stops-later has stopped */
    server_expect_exit(server, 0);
}

/* ---- servers that do not come so far ---- */

Test(shutdown, comes_at_once_when_the_address_is_none, .timeout = 120)
{
    static const char *const addresses[] = {
        "",         "nonsense",     "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", ":8008x",      "127.0.0.1:65536",
        "1.2.3:80", "127.0.0.1:-1", "[::1:80",   "[nope]:80",  "127.0.0.1:80 x", "300.0.0.1:80"};
    size_t i;

    for (i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        struct server *server = server_run("serve_probe", addresses[i]);

        wait_for_log_line(server, "^serve_probe: .*address");
        server_expect_exit(server, 1);
    }
}

Test(shutdown, comes_at_once_when_the_port_is_in_use, .timeout = 120)
{
    struct server *first = server_start("serve_probe");
    struct server *second;
    char address[64];

    snprintf(address, sizeof address, "127.0.0.1:%d", server_port(first));
    second = server_run("serve_probe", address);
    wait_for_log_line(second, "^serve_probe: .*%s.*: %s", address, strerror(EADDRINUSE));
    server_expect_exit(second, 1);
    server_stop(first);
}

Test(shutdown, frees_the_port_for_the_next_server, .timeout = 120)
{
    struct server *server = server_start("serve_probe");
    char address[64];
    int i;

    snprintf(address, sizeof address, "127.0.0.1:%d", server_port(server));
    for (i = 0; i < 3; i++) { /* the server hangs up first, which leaves its port in TIME_WAIT */
        struct client *client = client_connect(server_port(server));

        send_text(client, "GET /text HTTP/1.0\r\n\r\n");
        expect_answer(client, 200, "hello\n");
        expect_closed(client);
        server_stop(server);
        server = server_start("serve_probe", address);
    }
    server_stop(server);
}

/* Once it was waited for as long as it kept the connection, whatever it had been told. */
Test(shutdown, does_not_wait_for_a_client_that_does_not_read, .timeout = 120)
{
    struct probe *probe = probe_start_with_drain("0.1");
    struct client *idle = client_connect_with_small_window(probe_port(probe));
    struct server *server;

    send_get(idle, "/big/20000000");
    cr_assert(client_hears_within(idle, PATIENCE * 1000));
    cr_assert_eq(count_log_lines(probe_server(probe), "\"GET /big/"), 0u, "it has read all");
    server = probe_leave(probe);
    ask_to_stop(server, SIGTERM);
    server_expect_exit(server, 0);
    client_close(idle);
}

/* Its answer only comes when nobody is waited for any more. */
Test(shutdown, does_not_wait_for_a_client_that_does_not_read_an_answer_made_late, .timeout = 120)
{
    struct probe *probe = probe_start_with_drain("0.1");
    struct client *idle = client_connect_with_small_window(probe_port(probe));
    struct server *server;

    send_get(idle, "/swallow-big");
    wait_until_parked(probe, 1);
    server = probe_leave(probe);
    ask_to_stop(server, SIGTERM);
    wait_for_log_line(server, "the canceller ran");
    server_expect_exit(server, 0);
    client_close(idle);
}

/* What becomes of a request whose client leaves: N1, N2, N3, N4, N10 of the source documents, and H7 of Synapse's.
 *
 * Clients leave in every way that TCP knows, at every point of a request. Each time: the handler was cancelled once, or
 * not at all where its route does not allow it; the request line says so; and nothing is left, which probe_stop checks. */
#include "tests/support/probe.h"
#include "tests/support/test.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void leave_by_half_close(struct client *client)
{
    shut_sending_side(client);
    expect_closed(client);
}

struct way {
    const char *name;
    void (*leave)(struct client *client);
};

/* A client whose end of stream was seen is gone; whether it will ever read the answer cannot be known. */
static const struct way ways[] = {
    {"closing", client_close},
    {"resetting", close_with_reset},
    {"half-closing", leave_by_half_close},
};
enum { WAYS = sizeof ways / sizeof *ways };

/* target("/wait?%s", "closing"): the query tells the requests of a test apart, in its log. Good until the next call. */
static __attribute__((format(printf, 1, 2))) const char *target(const char *format, ...)
{
    static char text[128];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return text;
}

/* ---- while the handler waits ---- */

Test(clients_that_leave, have_the_waiting_handler_of_a_cancellable_route_cancelled, .timeout = 120)
{
    struct probe *probe = probe_start();
    size_t i;

    for (i = 0; i < WAYS; i++) {
        struct client *client = probe_connect(probe);

        send_get(client, target("/wait?%s", ways[i].name));
        wait_until_parked(probe, i + 1);
        ways[i].leave(client);

        expect_cancelled(probe, target("/wait?%s", ways[i].name), "wait_for_opening");
        expect_handlers_ended(probe, i + 1);
        expect_canceller_runs(probe, i + 1);
        expect_nothing_left(probe);
    }
    probe_stop(probe);
}

Test(clients_that_leave, are_missed_only_by_the_log_when_the_route_is_not_cancellable, .timeout = 120)
{
    struct probe *probe = probe_start();
    size_t i;

    for (i = 0; i < WAYS; i++) {
        struct client *client = probe_connect(probe);

        send_get(client, target("/gated?%s", ways[i].name));
        wait_until_parked(probe, i + 1);
        if (ways[i].leave == leave_by_half_close)
            shut_sending_side(client);
        else
            ways[i].leave(client);
        open_the_gate(probe);

        expect_request_line(probe, "GET", target("/gated?%s", ways[i].name), "200!");
        if (ways[i].leave == leave_by_half_close)
            expect_closed(client);
        expect_handlers_ended(probe, i + 1);
        expect_canceller_runs(probe, 0);
        expect_nothing_left(probe);
    }
    probe_stop(probe);
}

Test(clients_that_leave, are_still_there_after_a_half_close_where_the_route_says_so, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/wait-half-close");
    wait_until_parked(probe, 1);
    shut_sending_side(client);
    expect_served(probe); /* the server has had time to see the end of the stream */
    open_the_gate(probe);

    expect_answer(client, 200, "open\n");
    expect_closed(client);
    expect_request_line(probe, "GET", "/wait-half-close", "200");
    expect_canceller_runs(probe, 0);
    probe_stop(probe);
}

Test(clients_that_leave, are_gone_by_a_reset_also_after_an_allowed_half_close, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/wait-half-close");
    wait_until_parked(probe, 1);
    shut_sending_side(client);
    expect_served(probe);
    expect_canceller_runs(probe, 0);
    close_with_reset(client);

    expect_cancelled(probe, "/wait-half-close", "wait_for_opening");
    expect_canceller_runs(probe, 1);
    probe_stop(probe);
}

Test(clients_that_leave, are_gone_by_a_reset_where_a_half_close_would_be_allowed, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/wait-half-close");
    wait_until_parked(probe, 1);
    close_with_reset(client);

    expect_cancelled(probe, "/wait-half-close", "wait_for_opening");
    expect_canceller_runs(probe, 1);
    probe_stop(probe);
}

/* More than the server reads ahead, so it is not by reading that it sees them go; but no more than fits into the socket,
 * where an end of stream would be stuck behind it. */
Test(clients_that_leave, are_noticed_also_behind_more_than_the_server_reads, .timeout = 120)
{
    static const char flood[100 * 1024];
    struct probe *probe = probe_start();
    size_t i;

    for (i = 0; i < 2; i++) {
        struct client *client = probe_connect(probe);

        send_get(client, target("/wait?%s", ways[i].name));
        wait_until_parked(probe, i + 1);
        send_bytes(client, flood, sizeof flood);
        expect_served(probe);
        ways[i].leave(client);

        expect_cancelled(probe, target("/wait?%s", ways[i].name), "wait_for_opening");
        expect_canceller_runs(probe, i + 1);
        expect_nothing_left(probe);
    }
    probe_stop(probe);
}

Test(clients_that_leave, do_not_disturb_the_others, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *leaves = probe_connect(probe);
    struct client *stays = probe_connect(probe);

    send_get(leaves, "/wait?leaves");
    send_get(stays, "/wait?stays");
    wait_until_parked(probe, 2);
    close_with_reset(leaves);
    expect_cancelled(probe, "/wait?leaves", "wait_for_opening");
    open_the_gate(probe);

    expect_answer(stays, 200, "open\n");
    client_close(stays);
    expect_request_line(probe, "GET", "/wait?stays", "200");
    expect_canceller_runs(probe, 1);
    probe_stop(probe);
}

Test(clients_that_leave, are_noticed_on_a_route_of_any_method_and_the_route_is_warned_of, .timeout = 120) /* N3 */
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_text(client, "POST /wait HTTP/1.1\r\nHost: weft\r\nContent-Length: 4\r\n\r\nbody");
    wait_until_parked(probe, 1);
    client_close(client);

    expect_request_line(probe, "POST", "/wait", "499!");
    expect_canceller_runs(probe, 1);
    cr_assert_eq(count_log_lines(probe_server(probe), " WARN .*POST.*/wait"), 1u);
    probe_stop(probe);
}

/* ---- how the handler learns of it ---- */

Test(clients_that_leave, have_the_cancel_go_down_and_the_error_come_up, .timeout = 120) /* N4 */
{
    static const char *const steps[] = {"the canceller ran",     "GET-[0-9]+ wait_innermost unwinds",
                                        "wait_in_the_middle unwinds", "handle_nested unwinds",
                                        "unwound from .* wait_for_opening$", "Processed request.* 499! ", NULL};
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/nested");
    wait_until_parked(probe, 1);
    client_close(client);

    wait_for_log_lines_in_order(probe_server(probe), steps);
    expect_cancelled(probe, "/nested", "wait_for_opening");
    expect_canceller_runs(probe, 1);
    probe_stop(probe);
}

Test(clients_that_leave, let_the_handler_wait_again_while_it_cleans_up, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/cleans-up");
    wait_until_parked(probe, 1);
    client_close(client);

    expect_cancelled(probe, "/cleans-up", "wait_for_opening");
    wait_for_log_line(probe_server(probe), "the clean-up is done");
    expect_canceller_runs(probe, 1);
    probe_stop(probe);
}

Test(clients_that_leave, leave_a_handler_waiting_whose_canceller_needs_time, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/stops-later");
    wait_until_parked(probe, 1);
    close_with_reset(client);
    expect_canceller_runs(probe, 1);
    expect_served(probe);
    cr_assert_eq(count_log_lines(probe_server(probe), "GET /stops-later"), 0u, "the handler did not wait");
    open_the_gate(probe);

    expect_request_line(probe, "GET", "/stops-later", "200!"); /* the value that came in the end has won */
    expect_canceller_runs(probe, 1);
    probe_stop(probe);
}

Test(clients_that_leave, are_answered_in_vain_when_the_handler_swallows_its_cancellation, .timeout = 120) /* N10 */
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/swallow");
    wait_until_parked(probe, 1);
    client_close(client);

    expect_request_line(probe, "GET", "/swallow", "200!");
    expect_canceller_runs(probe, 1);
    probe_stop(probe);
}

/* ---- before the handler starts ---- */

/* Requests that stop short, before their head is complete, and after. */
static const char *const unfinished_heads[] = {
    "G",
    "GET",
    "GET /wa",
    "GET /wait HTTP/1.1",
    "GET /wait HTTP/1.1\r",
    "GET /wait HTTP/1.1\r\n",
    "GET /wait HTTP/1.1\r\nHos",
    "GET /wait HTTP/1.1\r\nHost: weft",
    "GET /wait HTTP/1.1\r\nHost: weft\r\n",
    "GET /wait HTTP/1.1\r\nHost: weft\r\n\r",
};
static const char *const unfinished_bodies[] = {
    "Content-Length: 10\r\n\r\n",
    "Content-Length: 10\r\n\r\n123456789",
    "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n5",
    "Transfer-Encoding: chunked\r\n\r\n5\r\n12345",
    "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
    "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n",
    "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\nTrailer: x\r\n",
};
enum {
    UNFINISHED_HEADS = sizeof unfinished_heads / sizeof *unfinished_heads,
    UNFINISHED_BODIES = sizeof unfinished_bodies / sizeof *unfinished_bodies,
};

/* It may be told what is wrong before the connection ends. */
static void half_close_and_hear_the_end(struct client *client)
{
    const struct response *response;

    shut_sending_side(client);
    while ((response = try_read_response(client)))
        cr_assert(response->status == 100 || response->status == 400, "%s", response->head);
    client_close(client);
}

static void leave_before_the_handler_starts(void (*leave)(struct client *client))
{
    struct probe *probe = probe_start();
    struct client *client;
    size_t i;

    client = probe_connect(probe); /* says nothing at all */
    expect_served(probe);
    leave(client);
    for (i = 0; i < UNFINISHED_HEADS; i++) {
        client = probe_connect(probe);
        send_text(client, "%s", unfinished_heads[i]);
        expect_served(probe); /* the server has read what was sent */
        leave(client);
        expect_nothing_left(probe);
    }
    for (i = 0; i < UNFINISHED_BODIES; i++) {
        client = probe_connect(probe);
        send_text(client, "POST /wait HTTP/1.1\r\nHost: weft\r\n%s", unfinished_bodies[i]);
        expect_served(probe);
        leave(client);
        expect_nothing_left(probe);
    }

    expect_handlers_ended(probe, 0);
    cr_assert_eq(count_log_lines(probe_server(probe), " 127[.]0[.]0[.]1:[0-9]+ left in the middle of the head"),
                 (size_t)UNFINISHED_HEADS);
    expect_request_line(probe, "POST", "/wait", "499!");
    cr_assert_eq(count_log_lines(probe_server(probe), "[0-9]! \"POST /wait "), (size_t)UNFINISHED_BODIES);
    cr_assert_eq(count_log_lines(probe_server(probe), "[0-9]! "), (size_t)UNFINISHED_BODIES);
    cr_assert_eq(count_log_lines(probe_server(probe), " ERROR "), 0u);
    probe_stop(probe);
}

Test(clients_that_leave, by_closing_within_a_request_start_no_handler, .timeout = 120)
{
    leave_before_the_handler_starts(client_close);
}

Test(clients_that_leave, by_resetting_within_a_request_start_no_handler, .timeout = 120)
{
    leave_before_the_handler_starts(close_with_reset);
}

Test(clients_that_leave, by_half_closing_within_a_request_start_no_handler, .timeout = 120)
{
    leave_before_the_handler_starts(half_close_and_hear_the_end);
}

/* ---- between pipelined requests ---- */

Test(clients_that_leave, take_the_requests_behind_the_waiting_one_with_them, .timeout = 120)
{
    struct probe *probe = probe_start();
    size_t i;

    for (i = 0; i < WAYS; i++) {
        struct client *client = probe_connect(probe);

        send_text(client,
                  "GET /wait?first-%s HTTP/1.1\r\nHost: weft\r\n\r\n"
                  "GET /wait?second-%s HTTP/1.1\r\nHost: weft\r\n\r\n"
                  "GET /wait?third-%s HTTP/1.1\r\nHost: w",
                  ways[i].name, ways[i].name, ways[i].name);
        wait_until_parked(probe, i + 1);
        ways[i].leave(client);

        expect_cancelled(probe, target("/wait?first-%s", ways[i].name), "wait_for_opening");
        expect_nothing_left(probe);
        expect_handlers_ended(probe, i + 1); /* the second's never started */
        expect_canceller_runs(probe, i + 1);
    }
    cr_assert_eq(count_log_lines(probe_server(probe), "Processed request.*[?](second|third)"), 0u);
    probe_stop(probe);
}

Test(clients_that_leave, after_a_half_close_still_get_what_was_pipelined_where_it_is_allowed, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/wait-half-close?first");
    send_get(client, "/wait-half-close?second");
    wait_until_parked(probe, 1);
    shut_sending_side(client);
    expect_served(probe);

    open_the_gate(probe);
    expect_answer(client, 200, "open\n");
    wait_until_parked(probe, 2);
    open_the_gate(probe);
    expect_answer(client, 200, "open\n");
    expect_closed(client);
    expect_canceller_runs(probe, 0);
    probe_stop(probe);
}

Test(clients_that_leave, after_a_half_close_lose_what_was_pipelined_where_it_is_not_allowed, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/wait-half-close");
    send_get(client, "/gated");
    wait_until_parked(probe, 1);
    shut_sending_side(client);
    expect_served(probe);
    open_the_gate(probe);

    expect_answer(client, 200, "open\n");
    expect_closed(client);
    expect_request_line(probe, "GET", "/gated", "499!");
    expect_handlers_ended(probe, 1);
    probe_stop(probe);
}

Test(clients_that_leave, between_two_requests_of_a_connection_leave_nothing, .timeout = 120)
{
    struct probe *probe = probe_start();
    size_t i;

    for (i = 0; i < WAYS; i++) {
        struct client *client = probe_connect(probe);

        send_get(client, target("/text?%s", ways[i].name));
        expect_answer(client, 200, "hello\n");
        ways[i].leave(client);
        expect_request_line(probe, "GET", target("/text?%s", ways[i].name), "200");
        expect_nothing_left(probe);
    }
    probe_stop(probe);
}

Test(clients_that_leave, in_the_second_of_two_requests_have_had_the_first_answered, .timeout = 120)
{
    struct probe *probe = probe_start();
    size_t i;

    for (i = 0; i < WAYS; i++) {
        struct client *client = probe_connect(probe);

        send_text(client, "GET /text?%s HTTP/1.1\r\nHost: weft\r\n\r\nGET /wait HTTP/1.1\r\nHost: w", ways[i].name);
        expect_answer(client, 200, "hello\n");
        if (ways[i].leave == leave_by_half_close)
            half_close_and_hear_the_end(client);
        else
            ways[i].leave(client);
        expect_request_line(probe, "GET", target("/text?%s", ways[i].name), "200");
        expect_nothing_left(probe);
    }
    expect_handlers_ended(probe, 0);
    probe_stop(probe);
}

/* ---- during the response ---- */

Test(clients_that_leave, during_a_large_response_are_logged_as_not_served, .timeout = 120)
{
    struct probe *probe = probe_start();
    size_t i;

    for (i = 0; i < 2; i++) { /* closing with unread data is a reset too, but one that the kernel makes */
        struct client *client = client_connect_with_small_window(probe_port(probe));

        send_get(client, target("/big/50000000?%s", ways[i].name));
        read_a_bit(client);
        ways[i].leave(client);

        expect_request_line(probe, "GET", target("/big/50000000?%s", ways[i].name), "200!");
        expect_nothing_left(probe);
    }
    probe_stop(probe);
}

Test(clients_that_leave, without_reading_anything_of_a_large_response_are_logged_as_not_served, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = client_connect_with_small_window(probe_port(probe));

    send_get(client, "/big/50000000");
    expect_served(probe);
    close_with_reset(client);

    expect_request_line(probe, "GET", "/big/50000000", "200!");
    probe_stop(probe);
}

Test(clients_that_leave, during_a_large_response_take_the_next_request_with_them, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = client_connect_with_small_window(probe_port(probe));

    send_get(client, "/big/50000000");
    send_get(client, "/wait");
    read_a_bit(client);
    close_with_reset(client);

    expect_request_line(probe, "GET", "/big/50000000", "200!");
    expect_nothing_left(probe);
    probe_stop(probe);
}

/* ---- many of them ---- */

#if defined WEFT_TEST_SAN_thread || defined WEFT_TEST_SAN_valgrind
enum { CROWD = 1000 };
#else
enum { CROWD = 10000 };
#endif

static void crowd_leaves(void (*leave)(struct client *client))
{
    static struct client *crowd[CROWD];
    struct probe *probe;
    size_t i;

    if (!descriptors_suffice_for(CROWD)) {
        fprintf(stderr, "not tested: this machine's limit of descriptors is too low for %d clients\n", CROWD);
        return;
    }
    probe = probe_start();
    for (i = 0; i < CROWD; i++) {
        crowd[i] = probe_connect(probe);
        send_get(crowd[i], "/wait");
    }
    wait_until_parked(probe, CROWD);
    for (i = 0; i < CROWD; i++)
        leave(crowd[i]);

    expect_handlers_ended(probe, CROWD);
    expect_canceller_runs(probe, CROWD);
    expect_nothing_left(probe);
    expect_served(probe);
    wait_for_log_lines(probe_server(probe), CROWD, " 499! \"GET /wait ");
    cr_assert_eq(count_log_lines(probe_server(probe), " 499! "), (size_t)CROWD);
    probe_stop(probe);
}

Test(clients_that_leave, may_be_ten_thousand_that_close_at_once, .timeout = 300)
{
    crowd_leaves(client_close);
}

Test(clients_that_leave, may_be_ten_thousand_that_reset_at_once, .timeout = 300)
{
    crowd_leaves(close_with_reset);
}

Test(clients_that_leave, may_come_and_go_without_end, .timeout = 120)
{
    struct probe *probe = probe_start();
    size_t i;

    for (i = 0; i < 500; i++) {
        struct client *client = probe_connect(probe);

        send_get(client, i % 2 ? "/wait" : "/text");
        if (i % 3 == 0)
            client_close(client);
        else
            close_with_reset(client);
    }
    expect_nothing_left(probe);
    cr_assert_eq(count_log_lines(probe_server(probe), " ERROR "), 0u);
    probe_stop(probe);
}

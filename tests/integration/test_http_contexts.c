/* What the context of a request tells, and what it is charged: fields, bytes, the database, work for a client that has
 * left, and work that outlives the request. */
#include "tests/support/probe.h"
#include "tests/support/test.h"

#include <jansson.h>
#include <string.h>

static void expect_field(const json_t *fields, const char *name, const char *value)
{
    const char *found = json_string_value(json_object_get(fields, name));

    cr_assert(found && !strcmp(found, value), "%s is %s, not %s", name, found ? found : "missing", value);
}

Test(http_contexts, l21_a_context_below_a_request_has_its_fields, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    json_t *fields;

    send_text(client, "GET /fields?requester=%%40alice&access_token=secret HTTP/1.1\r\nHost: probe\r\nUser-Agent: tester/1\r\n\r\n");
    fields = response_json(read_response(client));
    expect_field(fields, "ip_address", "127.0.0.1");
    expect_field(fields, "method", "GET");
    expect_field(fields, "url", "/fields?requester=%40alice&access_token=<redacted>");
    expect_field(fields, "protocol", "HTTP/1.1");
    expect_field(fields, "user_agent", "tester/1");
    expect_field(fields, "requester", "@alice");
    cr_assert(!strncmp(json_string_value(json_object_get(fields, "request")), "GET-", 4));
    json_decref(fields);
    wait_for_log_line(probe_server(probe), "[{]@alice[}] Processed request: .* 200 \"GET /fields[?]requester=%%40alice");
    client_close(client);
    probe_stop(probe);
}

Test(http_contexts, l21_what_a_request_does_not_have_is_no_field, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    json_t *fields;

    send_text(client, "GET /fields HTTP/1.0\r\n\r\n");
    fields = response_json(read_response(client));
    expect_field(fields, "protocol", "HTTP/1.0");
    cr_assert_null(json_object_get(fields, "user_agent"));
    cr_assert_null(json_object_get(fields, "requester"));
    json_decref(fields);
    client_close(client);
    probe_stop(probe);
}

Test(http_contexts, b5_the_request_line_has_what_was_charged, .timeout = 120)
{
    static const char request[] = "POST /usage HTTP/1.1\r\nHost: probe\r\nContent-Length: 5\r\n\r\nhello";
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    json_t *usage;

    for (int round = 0; round < 2; round++) {
        send_text(client, request);
        usage = response_json(read_response(client));
        cr_assert_eq(json_integer_value(json_object_get(usage, "bytes_in")), (json_int_t)(sizeof request - 1));
        cr_assert_gt(json_integer_value(json_object_get(usage, "cpu_ns")), 0);
        json_decref(usage);
    }
    wait_for_log_line(probe_server(probe), "db=[(]0[.]250sec/1[.]500sec/2[)] .* 200 \"POST /usage HTTP/1[.]1\" \"-\" "
                                           "\\[7 dbevts\\]$");
    client_close(client);
    probe_stop(probe);
}

Test(http_contexts, l11_what_is_spent_after_the_client_left_is_told_apart, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    const char *line;
    long all, useless;

    send_get(client, "/works-on");
    wait_until_parked(probe, 1);
    client_close(client);
    expect_served(probe); /* after a turn in which it has seen that */
    open_the_gate(probe);
    line = wait_for_log_line(probe_server(probe), "GET-[0-9]+ of [0-9]+ ms, [0-9]+ were for nobody$");
    cr_assert_eq(sscanf(strstr(line, " of "), " of %ld ms, %ld were", &all, &useless), 2);
    cr_assert(useless >= 15 && useless <= 30, "%ld ms instead of 20", useless);
    cr_assert(all - useless >= 15, "%ld ms of 40", all);
    probe_stop(probe);
}

/* The fiber that was started by the request is named; the fields are still to be had, though the request is gone. */
Test(http_contexts, l14_the_context_of_a_request_ends_with_it_and_what_outlives_it_is_charged_apart, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    const char *line;
    long after;

    send_get(client, "/outlived");
    expect_answer(client, 200, "done\n");
    client_close(client);
    wait_until_parked(probe, 1);
    wait_for_log_line(probe_server(probe), "[{]@alice[}] Processed request: .* 200 \"GET /outlived ");
    open_the_gate(probe);
    wait_for_log_line(probe_server(probe), "WARN .*GET-[0-9]+ the context GET-[0-9]+ is used after its end, by the fiber outlive "
                                           "that was started at .*serve_probe[.]c:[0-9]+ handle_outlived");
    line = wait_for_log_line(probe_server(probe), "/outlived worked for [0-9]+ ms after its end, requested by @alice$");
    cr_assert_eq(sscanf(strstr(line, " worked for "), " worked for %ld", &after), 1);
    cr_assert(after >= 15 && after <= 30, "%ld ms instead of 20", after);
    cr_assert_eq(count_log_lines(probe_server(probe), "is used after its end"), 1u);
    probe_stop(probe);
}

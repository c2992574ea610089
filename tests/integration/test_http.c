/* HTTP/1.1 as its readers expect it: what is said of requests that are in order. H1, H3, H8 of Synapse's behaviour. */
#define _GNU_SOURCE /* prlimit */
#include "tests/support/probe.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MIB = 1024 * 1024 };

/* ---- connections ---- */

Test(http, keeps_a_connection_open_from_request_to_request, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    int i;

    for (i = 0; i < 3; i++) {
        const struct response *response;

        send_get(client, "/text");
        response = read_response(client);
        cr_assert_eq(response->status, 200);
        cr_assert_str_eq(response->body, "hello\n");
        cr_assert(response->keeps_alive);
    }
    client_close(client);
    probe_stop(probe);
}

Test(http, closes_a_connection_when_its_client_asks_for_it, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_text(client, "GET /text HTTP/1.1\r\nHost: weft\r\nConnection: close\r\n\r\n");
    cr_assert_not(read_response(client)->keeps_alive);
    expect_closed(client);
    probe_stop(probe);
}

Test(http, answers_nothing_behind_a_request_that_asked_to_close, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_text(client, "GET /text HTTP/1.1\r\nHost: weft\r\nConnection: close\r\n\r\n");
    send_get(client, "/text");
    expect_answer(client, 200, "hello\n");
    expect_closed(client);
    probe_stop(probe);
}

Test(http, closes_a_connection_after_an_answer_in_HTTP_1_0, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_text(client, "GET /text HTTP/1.0\r\n\r\n");
    expect_answer(client, 200, "hello\n");
    expect_closed(client);
    probe_stop(probe);
}

Test(http, keeps_a_connection_open_in_HTTP_1_0_when_asked_and_says_so, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_text(client, "GET /text HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    expect_answer(client, 200, "hello\n");
    cr_assert_str_eq(response_header(client, "Connection"), "keep-alive");
    send_text(client, "GET /text HTTP/1.0\r\n\r\n");
    expect_answer(client, 200, "hello\n");
    expect_closed(client);
    probe_stop(probe);
}

static void expect_grown(const json_t *before, const json_t *after, const char *name, int by)
{
    json_int_t old = json_integer_value(json_object_get(before, name));
    json_int_t new = json_integer_value(json_object_get(after, name));

    cr_assert_eq(new - old, by, "%s: %d before, %d after", name, (int)old, (int)new);
}

Test(http, keeps_only_a_connection_and_its_descriptor_for_an_idle_client, .timeout = 120)
{
    enum { IDLE = 200 };
    struct probe *probe = probe_start();
    struct client *clients[IDLE], *asking = probe_connect(probe);
    json_t *before, *after;

    send_get(asking, "/counts");
    before = response_json(read_response(asking));
    for (int i = 0; i < IDLE; i++) {
        clients[i] = probe_connect(probe);
        send_get(clients[i], "/text");
        expect_answer(clients[i], 200, "hello\n");
    }
    send_get(asking, "/counts");
    after = response_json(read_response(asking));
    expect_grown(before, after, "fibers", 0);
    expect_grown(before, after, "requests", 0);
    expect_grown(before, after, "contexts", 0);
    expect_grown(before, after, "deferreds", 0);
    expect_grown(before, after, "timers", 0);
    expect_grown(before, after, "connections", IDLE);
    expect_grown(before, after, "descriptors", IDLE);
    json_decref(before);
    json_decref(after);
    for (int i = 0; i < IDLE; i++)
        client_close(clients[i]);
    client_close(asking);
    probe_stop(probe);
}

Test(http, leaves_nothing_after_thousands_of_requests_on_one_connection, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    int i;

    for (i = 0; i < 5000; i++) {
        send_get(client, i % 2 ? "/text" : "/nothing-here");
        expect_status(client, i % 2 ? 200 : 404);
    }
    client_close(client);
    probe_stop(probe);
}

Test(http, passes_over_a_blank_line_before_a_request, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_text(client, "\r\nGET /text HTTP/1.1\r\nHost: weft\r\n\r\n\r\n");
    expect_answer(client, 200, "hello\n");
    send_get(client, "/text");
    expect_answer(client, 200, "hello\n");
    client_close(client);
    probe_stop(probe);
}

Test(http, passes_over_an_offer_to_upgrade, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_text(client, "GET /text HTTP/1.1\r\nHost: weft\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                      "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
                      "POST /echo HTTP/1.1\r\nHost: weft\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                      "Content-Length: 5\r\n\r\nhello");
    send_get(client, "/text");
    expect_answer(client, 200, "hello\n");
    expect_answer(client, 200, "hello");
    expect_answer(client, 200, "hello\n");
    client_close(client);
    probe_stop(probe);
}

Test(http, serves_on_after_it_ran_out_of_descriptors, .timeout = 120)
{
    enum { CLIENTS = 64, LIMIT = 40 };
    struct probe *probe = probe_start();
    struct client *clients[CLIENTS];
    const struct rlimit limit = {LIMIT, LIMIT};
    int i;

    cr_assert_eq(prlimit(server_pid(probe_server(probe)), RLIMIT_NOFILE, &limit, NULL), 0);
    for (i = 0; i < CLIENTS; i++) {
        clients[i] = probe_connect(probe);
        send_get(clients[i], "/text");
    }
    wait_for_log_line(probe_server(probe), "cannot accept connections: Too many open files");
    for (i = 0; i < CLIENTS; i++) { /* each that leaves makes room for one that waits */
        expect_answer(clients[i], 200, "hello\n");
        client_close(clients[i]);
    }
    probe_stop(probe);
}

/* ---- pipelining ---- */

static const char several[] = "GET /param/first HTTP/1.1\r\nHost: weft\r\n\r\n"
                              "POST /echo HTTP/1.1\r\nHost: weft\r\nContent-Length: 6\r\n\r\nsecond"
                              "POST /echo HTTP/1.1\r\nHost: weft\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "3\r\nthi\r\n2\r\nrd\r\n0\r\n\r\n"
                              "GET /nothing-here HTTP/1.1\r\nHost: weft\r\n\r\n"
                              "GET /param/fifth HTTP/1.1\r\nHost: weft\r\nConnection: close\r\n\r\n";

static void expect_answers_to_several(struct client *client)
{
    expect_answer(client, 200, "first");
    expect_answer(client, 200, "second");
    expect_answer(client, 200, "third");
    expect_status(client, 404);
    expect_answer(client, 200, "fifth");
    expect_closed(client);
}

Test(http, answers_requests_that_come_in_one_write_in_their_order, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_text(client, "%s", several);
    expect_answers_to_several(client);
    probe_stop(probe);
}

Test(http, answers_requests_that_come_byte_by_byte_in_their_order, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    cr_assert(try_send_byte_by_byte(probe, client, several, sizeof several - 1));
    expect_answers_to_several(client);
    probe_stop(probe);
}

Test(http, answers_requests_that_come_in_two_pieces_wherever_they_are_cut, .timeout = 120)
{
    struct probe *probe = probe_start();
    size_t cut;

    for (cut = 1; cut < sizeof several - 1; cut++) {
        struct client *client = probe_connect(probe);

        send_bytes(client, several, cut);
        expect_served(probe);
        send_bytes(client, several + cut, sizeof several - 1 - cut);
        expect_answers_to_several(client);
    }
    probe_stop(probe);
}

Test(http, answers_a_request_behind_a_waiting_one_only_after_it, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/gated");
    send_get(client, "/text");
    wait_until_parked(probe, 1);
    expect_served(probe);
    cr_assert_not(client_hears_within(client, 0));
    open_the_gate(probe);

    expect_answer(client, 200, "open\n");
    expect_answer(client, 200, "hello\n");
    client_close(client);
    probe_stop(probe);
}

/* ---- bodies ---- */

static char *alphabet(size_t size)
{
    char *text = malloc(size + 1);
    size_t i;

    for (i = 0; i < size; i++)
        text[i] = (char)('a' + i % 26);
    text[size] = '\0';
    return text;
}

static void expect_body(struct client *client, const char *body, size_t size)
{
    const struct response *response = read_response(client);

    cr_assert_eq(response->status, 200, "%s%s", response->head, response->body);
    cr_assert_eq(response->size, size);
    cr_assert(!memcmp(response->body, body, size), "another body of %zu bytes came back", size);
}

static const size_t sizes[] = {0,    1,     100,   767,   768,    769,     4095, 4096,
                               4097, 65535, 65536, 65537, 300000, MIB - 1, MIB};
enum { SIZES = sizeof sizes / sizeof *sizes };

Test(http, takes_bodies_of_any_length_up_to_the_limit, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    char *body = alphabet(MIB);
    size_t i;

    for (i = 0; i < SIZES; i++) {
        send_text(client, "POST /echo HTTP/1.1\r\nHost: weft\r\nContent-Length: %zu\r\n\r\n", sizes[i]);
        send_bytes(client, body, sizes[i]);
        expect_body(client, body, sizes[i]);
    }
    client_close(client);
    free(body);
    probe_stop(probe);
}

static void send_chunk(struct client *client, const char *bytes, size_t size)
{
    send_text(client, "%zx\r\n", size);
    send_bytes(client, bytes, size);
    send_text(client, "\r\n");
}

Test(http, takes_chunked_bodies_of_any_length_up_to_the_limit, .timeout = 120)
{
    static const size_t pieces[] = {1, 7, 4096, MIB};
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    char *body = alphabet(MIB);
    size_t i, sent;

    for (i = 0; i < SIZES; i++) {
        size_t piece = pieces[sizes[i] < 5000 ? i % 4 : 2 + i % 2];

        send_text(client, "POST /echo HTTP/1.1\r\nHost: weft\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (sent = 0; sent < sizes[i]; sent += piece)
            send_chunk(client, body + sent, sizes[i] - sent < piece ? sizes[i] - sent : piece);
        send_text(client, "0\r\n\r\n");
        expect_body(client, body, sizes[i]);
    }
    client_close(client);
    free(body);
    probe_stop(probe);
}

Test(http, passes_over_chunk_extensions_and_trailers, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_text(client, "POST /echo HTTP/1.1\r\nHost: weft\r\nTransfer-Encoding: chunked\r\nTrailer: Digest\r\n\r\n"
                      "5;name\r\nhello\r\n0006;name=\"in quotes\";other=value\r\n world\r\n0;last\r\n"
                      "Digest: x\r\nContent-Length: 3\r\nHost: other\r\n\r\n");
    expect_answer(client, 200, "hello world");
    send_get(client, "/text");
    expect_answer(client, 200, "hello\n");
    client_close(client);
    probe_stop(probe);
}

Test(http, reads_a_body_that_nobody_wanted, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_text(client, "GET /text HTTP/1.1\r\nHost: weft\r\nContent-Length: 37\r\n\r\n"
                      "GET /not-a-request HTTP/1.1\r\nHost: w\r\n");
    expect_answer(client, 200, "hello\n");
    send_text(client, "POST /nothing-here HTTP/1.1\r\nHost: weft\r\nContent-Length: 5\r\n\r\nhello");
    expect_status(client, 404);
    send_get(client, "/text");
    expect_answer(client, 200, "hello\n");
    client_close(client);
    probe_stop(probe);
}

/* To a client that waits for nothing, and reads only when it has sent all: more than fits into the socket's buffers, so
 * that a server that hung up at once would cut it off. */
Test(http, answers_413_to_a_body_that_is_announced_too_large, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    char *body = alphabet(MIB + 1);

    send_text(client, "POST /echo HTTP/1.1\r\nHost: weft\r\nContent-Length: %d\r\n\r\n", MIB + 1);
    send_bytes(client, body, MIB + 1);
    check_is_json_error(client, read_response(client), 413);
    expect_closed(client);
    free(body);
    probe_stop(probe);
}

Test(http, answers_413_before_the_body_has_been_sent, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_text(client, "POST /echo HTTP/1.1\r\nHost: weft\r\nContent-Length: %d\r\n\r\n", MIB + 1);
    check_is_json_error(client, read_response(client), 413);
    expect_closed(client);
    probe_stop(probe);
}

Test(http, answers_413_to_a_chunked_body_as_soon_as_it_is_too_large, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    char *body = alphabet(MIB);

    send_text(client, "POST /echo HTTP/1.1\r\nHost: weft\r\nTransfer-Encoding: chunked\r\n\r\n");
    send_chunk(client, body, MIB);
    send_text(client, "1\r\nx\r\n");
    check_is_json_error(client, read_response(client), 413);
    expect_closed(client);
    free(body);
    probe_stop(probe);
}

Test(http, says_100_to_a_client_that_waits_for_it, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_text(client, "POST /echo HTTP/1.1\r\nHost: weft\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    cr_assert_eq(read_response(client)->status, 100);
    send_text(client, "hello");
    expect_answer(client, 200, "hello");
    client_close(client);
    probe_stop(probe);
}

Test(http, does_not_say_100_to_a_client_whose_body_is_there, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_text(client,
              "POST /echo HTTP/1.1\r\nHost: weft\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    expect_answer(client, 200, "hello");
    client_close(client);
    probe_stop(probe);
}

Test(http, does_not_ask_for_a_body_that_it_would_refuse, .timeout = 120)
{
    static const char *const refused[][2] = {
        {"POST /echo HTTP/1.1\r\nContent-Length: 9999999", "413"},
        {"POST /nothing-here HTTP/1.1\r\nContent-Length: 5", "404"},
        {"POST /text HTTP/1.1\r\nContent-Length: 5", "405"},
    };
    struct probe *probe = probe_start();
    size_t i;

    for (i = 0; i < 3; i++) {
        struct client *client = probe_connect(probe);

        send_text(client, "%s\r\nHost: weft\r\nExpect: 100-continue\r\n\r\n", refused[i][0]);
        check_is_json_error(client, read_response(client), atoi(refused[i][1]));
        expect_closed(client);
    }
    probe_stop(probe);
}

Test(http, takes_a_large_body_from_curl_which_expects_100, .timeout = 120)
{
    struct probe *probe = probe_start();
    char path[] = "/tmp/weft-body-XXXXXX", option[64];
    char *body = alphabet(MIB);
    int file = mkstemp(path);
    struct curl_answer answer;

    cr_assert_eq(write(file, body, MIB), MIB);
    snprintf(option, sizeof option, "@%s", path);
    answer = curl(probe_port(probe), "/echo", "-H", "Expect: 100-continue", "--data-binary", option, "-o",
                  "/dev/null", "-v");
    unlink(path);
    close(file);
    free(body);
    cr_assert_eq(answer.exit, 0, "curl: %s", answer.body);
    cr_assert_not_null(strstr(answer.body, "< HTTP/1.1 100 Continue"), "curl: %s", answer.body);
    cr_assert_not_null(strstr(answer.body, "< HTTP/1.1 200 OK"), "curl: %s", answer.body);
    probe_stop(probe);
}

/* ---- methods and paths ---- */

/* Line by line the same; a second may have passed. */
static void check_same_but_date(const char *one, const char *other)
{
    while (*one && *other) {
        size_t length = strcspn(one, "\n") + 1;

        cr_assert(!strncmp(one, other, length) || !strncmp(one, "Date: ", 6), "not the same: %s%s", one, other);
        one += length;
        other += strcspn(other, "\n") + 1;
    }
    cr_assert_str_eq(one, other, "one has more lines");
}

Test(http, answers_HEAD_as_GET_without_the_body, .timeout = 120)
{
    static const char *const targets[] = {"/text", "/big/100000", "/nothing-here", "/fail", "/param/%zz"};
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    size_t i;

    for (i = 0; i < sizeof targets / sizeof *targets; i++) {
        char *head;

        send_get(client, targets[i]);
        head = strdup(read_response(client)->head);
        send_text(client, "HEAD %s HTTP/1.1\r\nHost: weft\r\n\r\n", targets[i]);
        check_same_but_date(head, read_response_to_head(client)->head);
        free(head);
    }
    send_get(client, "/text"); /* no body came that nobody would have read */
    expect_answer(client, 200, "hello\n");
    expect_request_line(probe, "HEAD", "/text", "200");
    client_close(client);
    probe_stop(probe);
}

Test(http, answers_404_and_405_in_JSON, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/nothing-here");
    check_is_json_error(client, read_response(client), 404);
    send_text(client, "DELETE /text HTTP/1.1\r\nHost: weft\r\n\r\n");
    check_is_json_error(client, read_response(client), 405);
    cr_assert_str_eq(response_header(client, "Allow"), "GET, HEAD");
    send_text(client, "PUT /wait HTTP/1.1\r\nHost: weft\r\nContent-Length: 1\r\n\r\nx");
    check_is_json_error(client, read_response(client), 405);
    cr_assert_str_eq(response_header(client, "Allow"), "GET, POST, HEAD");
    send_get(client, "/echo");
    check_is_json_error(client, read_response(client), 405);
    cr_assert_str_eq(response_header(client, "Allow"), "POST");
    send_text(client, "HEAD /echo HTTP/1.1\r\nHost: weft\r\n\r\n");
    cr_assert_eq(read_response_to_head(client)->status, 405);
    client_close(client);
    probe_stop(probe);
}

Test(http, tells_curl_the_same, .timeout = 120)
{
    struct probe *probe = probe_start();
    int port = probe_port(probe);
    char *much = alphabet(20000);
    char *header, *target;

    cr_assert_gt(asprintf(&header, "Long: %s", much), 0);
    cr_assert_gt(asprintf(&target, "/text?%s", much), 0);
    cr_assert_eq(curl(port, "/text").status, 200);
    cr_assert_str_eq(curl(port, "/text").body, "hello\n");
    cr_assert_eq(curl(port, "/text", "-I").status, 200);
    cr_assert_eq(curl(port, "/text", "-0").status, 200);
    cr_assert_eq(curl(port, "/nothing-here").status, 404);
    cr_assert_eq(curl(port, "/text", "-X", "DELETE").status, 405);
    cr_assert_eq(curl(port, "/param/%zz").status, 400);
    cr_assert_eq(curl(port, "/text", "-H", "Host;", "-H", "Header : value").status, 400);
    cr_assert_eq(curl(port, "/echo", "-d", "hello").status, 200);
    cr_assert_str_eq(curl(port, "/echo", "-d", "hello").body, "hello");
    cr_assert_str_eq(curl(port, "/echo", "-H", "Transfer-Encoding: chunked", "-d", "hello").body, "hello");
    cr_assert_eq(curl(port, "/echo", "-H", "Content-Length: 2000000", "-d", "hello").status, 413);
    cr_assert_eq(curl(port, "/text", "-H", header).status, 431);
    cr_assert_eq(curl(port, target).status, 414);
    free(header);
    free(target);
    free(much);
    probe_stop(probe);
}

Test(http, decodes_parameters, .timeout = 120)
{
    static const char *const values[][2] = {
        {"/param/plain", "plain"},         {"/param/a%20b", "a b"},           {"/param/a+b", "a+b"},
        {"/param/%2Froot%2f", "/root/"},   {"/param/%25", "%"},               {"/param/%41%6a", "Aj"},
        {"/param/%C3%A4", "\xc3\xa4"},     {"/param/!room:weft", "!room:weft"}, {"/param/a%3Fb?c", "a?b"},
        {"/param/..", ".."},               {"/param/%2e%2e", ".."},           {"/param/Literal", "Literal"},
        {"/param/literal", "hello\n"},     {"/param/{value}", "{value}"},     {"/param/%7Bvalue%7D", "{value}"},
    };
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    size_t i;

    for (i = 0; i < sizeof values / sizeof *values; i++) {
        send_get(client, values[i][0]);
        expect_answer(client, 200, values[i][1]);
    }
    client_close(client);
    probe_stop(probe);
}

Test(http, finds_no_route_for_paths_that_only_look_like_one, .timeout = 120)
{
    static const char *const paths[] = {
        "/", "//", "/param", "/param/", "/param//", "/param/a/b", "/param/a/", "//text", "/text/", "/Text", "/text/more",
        "/tex", "/texts", "/%74ext", "/param%2Fa", "/..", "/./text",
    };
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    size_t i;

    for (i = 0; i < sizeof paths / sizeof *paths; i++) {
        send_get(client, paths[i]);
        expect_status(client, 404);
    }
    client_close(client);
    probe_stop(probe);
}

Test(http, decodes_the_query, .timeout = 120)
{
    static const char *const values[][2] = {
        {"/query?value=plain", "plain"},       {"/query?value=a+b%20c", "a b c"},   {"/query?value=%2B", "+"},
        {"/query?value=1&value=2", "1"},       {"/query?other=1&value=2", "2"},     {"/query?value=a=b", "a=b"},
        {"/query?value=", ""},                 {"/query?value", ""},                {"/query?&&value=x&", "x"},
        {"/query?v%61lue=x", "x"},             {"/query?value=%26%3d%3F", "&=?"},   {"/query?value=/?:@", "/?:@"},
    };
    static const char *const none[] = {"/query",          "/query?",       "/query?Value=x",
                                       "/query?values=x", "/query?=value", "/query?&"};
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    size_t i;

    for (i = 0; i < sizeof values / sizeof *values; i++) {
        send_get(client, values[i][0]);
        expect_answer(client, 200, values[i][1]);
    }
    for (i = 0; i < sizeof none / sizeof *none; i++) {
        send_get(client, none[i]);
        expect_status(client, 404);
    }
    client_close(client);
    probe_stop(probe);
}

Test(http, takes_numbers_from_the_query_within_their_bounds, .timeout = 120)
{
    static const char *const numbers[][2] = {
        {"", "5"},
        {"?value=0", "0"},
        {"?value=10", "10"},
        {"?value=2.5", "2.5"},
        {"?value=1e1", "10"},
        {"?value=.5", "0.5"},
    };
    static const char *const bad[] = {"?value=",      "?value=-1",   "?value=10.1", "?value=x",
                                      "?value=1x",    "?value=0x1",  "?value=nan",  "?value=inf",
                                      "?value=1e999", "?value=%201", "?value=1%20", "?value"};
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    size_t i;

    for (i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        json_t *json;

        send_text(client, "GET /number%s HTTP/1.1\r\nHost: weft\r\n\r\n", numbers[i][0]);
        json = response_json(read_response(client));
        cr_assert_eq(json_number_value(json_object_get(json, "number")), atof(numbers[i][1]), "%s", numbers[i][0]);
        json_decref(json);
    }
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        send_text(client, "GET /number%s HTTP/1.1\r\nHost: weft\r\n\r\n", bad[i]);
        check_is_json_error(client, read_response(client), 400);
    }
    client_close(client);
    probe_stop(probe);
}

Test(http, finds_headers_whatever_their_case, .timeout = 120)
{
    static const char *const values[][2] = {
        {"Plain: value", "value"},       {"PLAIN: value", "value"},      {"plain:value", "value"},
        {"Plain: \t value \t ", "value"}, {"Plain:", ""},                 {"Plain: a: b", "a: b"},
        {"Plain: first\r\nPlain: second", "first"},
    };
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    size_t i;

    for (i = 0; i < sizeof values / sizeof *values; i++) {
        send_text(client, "GET /header?name=pLaIn HTTP/1.1\r\nHost: weft\r\n%s\r\n\r\n", values[i][0]);
        expect_answer(client, 200, values[i][1]);
    }
    send_get(client, "/header?name=plain");
    expect_status(client, 404);
    client_close(client);
    probe_stop(probe);
}

/* ---- JSON ---- */

static void post_json(struct client *client, const char *json)
{
    send_text(client, "POST /json HTTP/1.1\r\nHost: weft\r\nContent-Length: %zu\r\n\r\n%s", strlen(json), json);
}

Test(http, understands_JSON, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    json_t *json;

    post_json(client, " {\"key\": [1, 2.5, null, \"\\u00e4\"]} ");
    json = response_json(read_response(client));
    cr_assert_eq(json_array_size(json_object_get(json, "key")), 4u);
    cr_assert_str_eq(response_header(client, "Content-Type"), "application/json");
    json_decref(json);
    client_close(client);
    probe_stop(probe);
}

Test(http, says_where_JSON_is_wrong, .timeout = 120)
{
    static const char *const bad[] = {
        "",        "{",           "{\"a\": 1,}",       "{\"a\" 1}", "[1 2]",
        "nope",    "\"\\ud800\"", "{\"a\": \"\xff\"}", "[1] 2",     "{\"a\": 1, \"a\": 2}",
        "[1e999]", "\"a\nb\""};
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    char *deep = malloc(200002);
    size_t i;

    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        post_json(client, bad[i]);
        check_is_json_error(client, read_response(client), 400);
    }
    post_json(client, "{\"key\":\n  oops}");
    check_is_json_error(client, read_response(client), 400);
    post_json(client, "{\"key\":\n  oops}");
    cr_assert_not_null(strstr(read_response(client)->body, "line 2"));

    memset(deep, '[', 100000); /* deeper than a fiber's stack could follow */
    memset(deep + 100000, ']', 100000);
    deep[200000] = '\0';
    post_json(client, deep);
    check_is_json_error(client, read_response(client), 400);
    free(deep);
    client_close(client);
    probe_stop(probe);
}

/* ---- what handlers return ---- */

Test(http, answers_a_failure_with_500_and_tells_only_the_log_why, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/fail");
    check_is_json_error(client, read_response(client), 500);
    send_get(client, "/fail");
    cr_assert_null(strstr(read_response(client)->body, "fire"), "the client was told");
    wait_for_log_line(probe_server(probe),
                      " ERROR GET-[0-9]+ .*the disk is on fire.*serve_probe[.]c:[0-9]+ handle_fail");
    expect_request_line(probe, "GET", "/fail", "500");
    client_close(client);
    probe_stop(probe);
}

Test(http, answers_an_error_that_has_a_status_as_it_says, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/refuse");
    expect_answer(client, 418, "{\"errcode\":\"M_TEAPOT\",\"error\":\"this is a teapot, not a coffee machine\"}");
    expect_request_line(probe, "GET", "/refuse", "418");
    client_close(client);
    probe_stop(probe);
}

Test(http, answers_a_cancellation_that_no_client_caused_with_499_and_an_error_in_the_log, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/gives-up");
    check_is_json_error(client, read_response(client), 499);
    wait_for_log_line(probe_server(probe), " ERROR GET-[0-9]+ .*cancelled.*not left");
    expect_request_line(probe, "GET", "/gives-up", "499");
    client_close(client);
    probe_stop(probe);
}

Test(http, sends_the_first_of_two_answers_and_calls_the_second_a_misuse, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/twice");
    expect_answer(client, 200, "first\n");
    wait_for_log_line(probe_server(probe), "the second answer was called a misuse");
    send_get(client, "/twice-careless");
    expect_answer(client, 200, "first\n");
    wait_for_log_line(probe_server(probe), " ERROR GET-[0-9]+ .*after it had answered: misuse: .*serve_probe[.]c:");
    expect_request_line(probe, "GET", "/twice", "200");
    expect_request_line(probe, "GET", "/twice-careless", "200");
    client_close(client);
    probe_stop(probe);
}

Test(http, answers_500_for_a_handler_that_does_not_answer, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/silent");
    check_is_json_error(client, read_response(client), 500);
    wait_for_log_line(probe_server(probe), " ERROR GET-[0-9]+ .*/silent");
    client_close(client);
    probe_stop(probe);
}

Test(http, sends_an_answer_without_a_body, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/empty");
    expect_answer(client, 204, "");
    cr_assert_null(response_header(client, "Content-Type"));
    send_get(client, "/text");
    expect_answer(client, 200, "hello\n");
    client_close(client);
    probe_stop(probe);
}

/* ---- large answers ---- */

Test(http, sends_answers_of_any_length_whole, .timeout = 120)
{
    static const size_t lengths[] = {0, 1, 4095, 4096, 4097, 65536, 1000000, 20000000};
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    char *body = alphabet(20000000);
    size_t i;

    for (i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        send_text(client, "GET /big/%zu HTTP/1.1\r\nHost: weft\r\n\r\n", lengths[i]);
        expect_body(client, body, lengths[i]);
    }
    client_close(client);
    free(body);
    probe_stop(probe);
}

Test(http, serves_others_while_one_reads_slowly, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *slow = client_connect_with_small_window(probe_port(probe));
    char *body = alphabet(5000000);
    int i;

    send_get(slow, "/big/5000000");
    cr_assert(client_hears_within(slow, PATIENCE * 1000));
    for (i = 0; i < 100; i++)
        expect_served(probe);
    cr_assert_eq(count_log_lines(probe_server(probe), "\"GET /big/"), 0u, "it was not slow");

    expect_body(slow, body, 5000000);
    expect_request_line(probe, "GET", "/big/5000000", "200");
    client_close(slow);
    free(body);
    probe_stop(probe);
}

Test(http, does_not_work_ahead_of_a_client_that_does_not_read, .timeout = 120)
{
    enum { REQUESTS = 200, SIZE = 1000000 };
    struct probe *probe = probe_start();
    struct client *client = client_connect_with_small_window(probe_port(probe));
    size_t before = server_resident_kib(probe_server(probe));
    char *body = alphabet(SIZE);
    int i;

    for (i = 0; i < REQUESTS; i++)
        send_get(client, "/big/1000000");
    cr_assert(client_hears_within(client, PATIENCE * 1000));
    expect_served(probe);
    cr_assert_lt(server_resident_kib(probe_server(probe)), before + 32 * 1024, "the answers gather in the server");

    for (i = 0; i < REQUESTS; i++)
        expect_body(client, body, SIZE);
    client_close(client);
    free(body);
    probe_stop(probe);
}

/* ---- the log ---- */

Test(http, names_each_request_by_its_method_and_a_number_of_its_own, .timeout = 120) /* H1 */
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    int first, second;

    send_get(client, "/text?first");
    expect_status(client, 200);
    send_text(client,
              "POST /echo HTTP/1.1\r\nHost: weft\r\nUser-Agent: tests \"in quotes\"\r\nContent-Length: 0\r\n\r\n");
    expect_status(client, 200);
    cr_assert_eq(sscanf(expect_request_line(probe, "GET", "/text?first", "200"), "GET-%d", &first), 1);
    cr_assert_eq(sscanf(expect_request_line(probe, "POST", "/echo", "200"), "POST-%d", &second), 1);
    cr_assert_eq(second, first + 1);
    client_close(client);
    probe_stop(probe);
}

Test(http, counts_the_bytes_of_the_body_in_the_request_line, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/big/12345");
    expect_status(client, 200);
    wait_for_log_line(probe_server(probe), " 12345B 200 \"GET /big/12345 HTTP/1[.]1\"");
    client_close(client);
    probe_stop(probe);
}

Test(http, shows_no_secret_of_a_query_in_the_log, .timeout = 120) /* H12 */
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "/text?a=b&access_token=hunter2&client_secret=hunter3&access%5Ftoken=hunter4&c=d");
    expect_status(client, 200);
    expect_request_line(probe, "GET",
                        "/text?a=b&access_token=<redacted>&client_secret=<redacted>&access%5Ftoken=<redacted>&c=d",
                        "200");
    cr_assert_eq(count_log_lines(probe_server(probe), "hunter"), 0u);
    client_close(client);
    probe_stop(probe);
}

/* Whatever a client sends, a line of the log is a line, and begins as the server began it. */
Test(http, writes_no_line_that_a_client_made, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_text(client, "GET /text HTTP/1.1\r\nHost: weft\r\nUser-Agent: \x80\xff \t \" 499! \r\n\r\n");
    expect_status(client, 200);
    send_get(client, "/param/%0A2026-01-01%2000:00:00.000%20ERROR%20-%20forged");
    expect_status(client, 200);
    send_get(client, "/query?value=%0d%0aforged%1b[31m");
    expect_status(client, 200);
    cr_assert_eq(count_log_lines(probe_server(probe), "^[0-9-]{10} [0-9:.]{12} (DEBUG|INFO|WARN|ERROR) +[^ ]+ "),
                 count_log_lines(probe_server(probe), ""));
    cr_assert_eq(count_log_lines(probe_server(probe), "\x1b"), 0u);
    client_close(client);
    probe_stop(probe);
}

/* Also of a request that was refused before its target was looked at. */
Test(http, shows_no_secret_of_a_refused_request_in_the_log, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *without_host = probe_connect(probe), *newer = probe_connect(probe);

    send_text(without_host, "GET /text?a=b&access_token=hunter2&client_secret=hunter3 HTTP/1.1\r\n\r\n");
    check_is_json_error(without_host, read_response(without_host), 400);
    expect_closed(without_host);
    send_text(newer, "GET /text?a=b&access_token=hunter2&client_secret=hunter3 HTTP/2.0\r\nHost: weft\r\n\r\n");
    check_is_json_error(newer, read_response(newer), 505);
    expect_closed(newer);
    wait_for_log_line(probe_server(probe),
                      " 400 \"GET /text[?]a=b&access_token=<redacted>&client_secret=<redacted> HTTP/1[.]1\"");
    wait_for_log_line(probe_server(probe),
                      " 505 \"GET /text[?]a=b&access_token=<redacted>&client_secret=<redacted> HTTP/2[.]0\"");
    cr_assert_eq(count_log_lines(probe_server(probe), "hunter"), 0u);
    probe_stop(probe);
}

/* ---- what once went wrong ---- */

Test(http, answers_an_error_that_has_a_status_also_when_its_errcode_is_none, .timeout = 120)
{
    static const char *const targets[] = {"/refuse-without-errcode", "/refuse-with-bad-errcode"};
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    size_t i;

    for (i = 0; i < sizeof targets / sizeof *targets; i++) {
        send_get(client, targets[i]);
        check_is_json_error(client, read_response(client), 404);
        expect_request_line(probe, "GET", targets[i], "404");
    }
    send_get(client, "/text");
    expect_answer(client, 200, "hello\n");
    client_close(client);
    probe_stop(probe);
}

/* The path of an absolute target begins behind its authority, and no slash of a query begins one. */
Test(http, finds_the_path_of_an_absolute_target, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);

    send_get(client, "http://h/text");
    expect_answer(client, 200, "hello\n");
    send_get(client, "http://h/query?value=/a");
    expect_answer(client, 200, "/a");
    send_get(client, "http://h?x=/text");
    check_is_json_error(client, read_response(client), 404);
    send_get(client, "http://h?/text");
    check_is_json_error(client, read_response(client), 404);
    client_close(client);
    probe_stop(probe);
}

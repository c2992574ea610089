/* What no well-behaved client sends. Each time: a 4xx (or 505) in JSON that says what is wrong, then the end of the
 * connection; nothing of what follows is taken for another request; the next client is served, and nothing is left. */
#include "tests/support/probe.h"
#include "tests/support/test.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bad_request {
    int status;
    const char *what;
    const char *bytes;
    size_t size;
};

#define BAD(status, what, text) {status, what, text, sizeof text - 1}
#define HEAD "Host: weft\r\n"
#define GET "GET /text HTTP/1.1\r\n" HEAD
#define POST "POST /echo HTTP/1.1\r\n" HEAD
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

/* ---- requests that are malformed ---- */

static const struct bad_request request_lines[] = {
    BAD(400, "an unknown method", "BREW /text HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "a method in small letters", "get /text HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "a method with something behind it", "GETT /text HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "half a method", "GE /text HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "no method", " /text HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "a NUL before the method", "\0GET /text HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "a NUL in the method", "G\0ET /text HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "a blank before the method", " GET /text HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "a method of another protocol", "EHLO example.org\r\n"),
    BAD(400, "no target", "GET HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "an empty target", "GET  HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "a target without a slash", "GET text HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "a blank in the target", "GET /te xt HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "a tab in the target", "GET /te\txt HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "a NUL in the target", "GET /te\0xt HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "a control character in the target", "GET /te\x01xt HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "a DEL in the target", "GET /te\x7fxt HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "a bare CR in the target", "GET /te\rxt HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "no version", "GET /text\r\n" HEAD "\r\n"),
    BAD(400, "half a version", "GET /text HTTP/1\r\n" HEAD "\r\n"),
    BAD(400, "a version without a number", "GET /text HTTP/\r\n" HEAD "\r\n"),
    BAD(400, "a version in small letters", "GET /text http/1.1\r\n" HEAD "\r\n"),
    BAD(400, "a version of another protocol", "GET /text RTSP/1.0\r\n" HEAD "\r\n"),
    BAD(400, "a version with something behind it", "GET /text HTTP/1.1x\r\n" HEAD "\r\n"),
    BAD(400, "a version with a blank behind it", "GET /text HTTP/1.1 \r\n" HEAD "\r\n"),
    BAD(400, "a version with a NUL in it", "GET /text HTTP/1\0.1\r\n" HEAD "\r\n"),
    BAD(400, "version 1.12", "GET /text HTTP/1.12\r\n" HEAD "\r\n"),
    BAD(400, "version 1.9", "GET /text HTTP/1.9\r\n" HEAD "\r\n"),
    BAD(400, "version 0.9", "GET /text HTTP/0.9\r\n" HEAD "\r\n"),
    BAD(505, "version 2.0", "GET /text HTTP/2.0\r\n" HEAD "\r\n"),
    BAD(400, "version 3.0", "GET /text HTTP/3.0\r\n" HEAD "\r\n"),
    BAD(400, "a bare CR behind the version", "GET /text HTTP/1.1\r" HEAD "\r\n"),
    BAD(405, "a request for a tunnel", "CONNECT weft:443 HTTP/1.1\r\n" HEAD "\r\n"),
    BAD(400, "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    BAD(400, "a greeting of SSH", "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
    BAD(400, "a greeting of TLS",
        "\x16\x03\x01\x00\x6c\x01\x00\x00\x68\x03\x03\xb8\x5c\x2e\x14\x9f\x9f\x1a\x00\x00\x00\x00\xc0\x2f\x00\x35\x01\x00"),
    BAD(400, "a greeting of SOCKS", "\x05\x01\x00"),
    BAD(400, "a line of Redis", "*1\r\n$4\r\nPING\r\n"),
    BAD(400, "high bytes", "\xff\xfe\xfd\xfc\r\n\r\n"),
};

static const struct bad_request headers[] = {
    BAD(400, "no Host", "GET /text HTTP/1.1\r\n\r\n"),
    BAD(400, "two Hosts", GET "Host: other\r\n\r\n"),
    BAD(400, "two Hosts that agree", GET "HOST: weft\r\n\r\n"),
    BAD(400, "a header without a colon", GET "Header\r\n\r\n"),
    BAD(400, "a header without a name", GET ": value\r\n\r\n"),
    BAD(400, "a header that is a colon", GET ":\r\n\r\n"),
    BAD(400, "a blank before the colon", GET "Header : value\r\n\r\n"),
    BAD(400, "a tab before the colon", GET "Header\t: value\r\n\r\n"),
    BAD(400, "a blank in a name", GET "Head er: value\r\n\r\n"),
    BAD(400, "a blank before the first header", "GET /text HTTP/1.1\r\n Host: weft\r\n\r\n"),
    BAD(400, "a NUL in a name", GET "Hea\0der: value\r\n\r\n"),
    BAD(400, "a NUL in a value", GET "Header: val\0ue\r\n\r\n"),
    BAD(400, "a NUL for a header", GET "\0\r\n\r\n"),
    BAD(400, "a control character in a name", GET "Hea\x01""der: value\r\n\r\n"),
    BAD(400, "a control character in a value", GET "Header: val\x01ue\r\n\r\n"),
    BAD(400, "a DEL in a value", GET "Header: val\x7fue\r\n\r\n"),
    BAD(400, "a high byte in a name", GET "Hea\xc3\xa4" "der: value\r\n\r\n"),
    BAD(400, "a quote in a name", GET "\"Header\": value\r\n\r\n"),
    BAD(400, "brackets in a name", GET "Header[]: value\r\n\r\n"),
    BAD(400, "a bare CR in a value", GET "Header: val\rue\r\n\r\n"),
    BAD(400, "a bare CR in a name", GET "Hea\rder: value\r\n\r\n"),
    BAD(400, "a bare CR for an end", GET "Header: value\r\r\n\r\n"),
    BAD(400, "a bare CR for the last end", GET "Header: value\r\n\rX"),
    BAD(400, "a folded header", GET "Header: one\r\n two\r\n\r\n"),
    BAD(400, "a header folded with a tab", GET "Header: one\r\n\ttwo\r\n\r\n"),
    BAD(400, "a header folded over a blank line", GET "Header: one\r\n \r\n two\r\n\r\n"),
    BAD(400, "a folded Content-Length", POST "Content-Length:\r\n 5\r\n\r\nhello"),
    BAD(417, "an unknown expectation", POST "Expect: tea\r\nContent-Length: 1\r\n\r\nx"),
};

static const struct bad_request lengths[] = {
    BAD(400, "two Content-Lengths", POST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
    BAD(400, "two Content-Lengths that agree", POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
    BAD(400, "a list of Content-Lengths", POST "Content-Length: 1, 1\r\n\r\nx"),
    BAD(400, "an empty Content-Length", POST "Content-Length:\r\n\r\n"),
    BAD(400, "a blank Content-Length", POST "Content-Length:  \r\n\r\n"),
    BAD(400, "a negative Content-Length", POST "Content-Length: -1\r\n\r\nx"),
    BAD(400, "a Content-Length with a plus", POST "Content-Length: +1\r\n\r\nx"),
    BAD(400, "a hexadecimal Content-Length", POST "Content-Length: 0x1\r\n\r\nx"),
    BAD(400, "a fractional Content-Length", POST "Content-Length: 1.0\r\n\r\nx"),
    BAD(400, "a Content-Length with an exponent", POST "Content-Length: 1e0\r\n\r\nx"),
    BAD(400, "a Content-Length of two numbers", POST "Content-Length: 1 1\r\n\r\nx"),
    BAD(400, "a Content-Length of letters", POST "Content-Length: many\r\n\r\nx"),
    BAD(400, "a Content-Length with a letter", POST "Content-Length: 1x\r\n\r\nx"),
    BAD(400, "a quoted Content-Length", POST "Content-Length: \"1\"\r\n\r\nx"),
    BAD(400, "a Content-Length with a NUL", POST "Content-Length: 1\0\r\n\r\nx"),
    BAD(400, "a Content-Length of 2^64", POST "Content-Length: 18446744073709551616\r\n\r\nx"),
    BAD(400, "a Content-Length of 2^64 + 1", POST "Content-Length: 18446744073709551617\r\n\r\nx"),
    BAD(400, "a Content-Length of 10^30", POST "Content-Length: 1000000000000000000000000000000\r\n\r\nx"),
    BAD(413, "a Content-Length of 2^64 - 1", POST "Content-Length: 18446744073709551615\r\n\r\nx"),
    BAD(413, "a Content-Length of 2^63", POST "Content-Length: 9223372036854775808\r\n\r\nx"),
    BAD(413, "a Content-Length of 2^32", POST "Content-Length: 4294967296\r\n\r\nx"),
    BAD(413, "a Content-Length of one too many", POST "Content-Length: 1048577\r\n\r\nx"),
    BAD(400, "Content-Length and Transfer-Encoding",
        POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    BAD(400, "Transfer-Encoding and Content-Length",
        POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    BAD(400, "an unknown Transfer-Encoding and Content-Length",
        POST "Transfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"),
    BAD(400, "an unknown Transfer-Encoding", POST "Transfer-Encoding: gzip\r\n\r\nhello"),
    BAD(400, "Transfer-Encoding identity", POST "Transfer-Encoding: identity\r\n\r\nhello"),
    BAD(400, "a misspelt Transfer-Encoding", POST "Transfer-Encoding: chunkedd\r\n\r\n0\r\n\r\n"),
    BAD(400, "a Transfer-Encoding with a vertical tab", POST "Transfer-Encoding: \x0b" "chunked\r\n\r\n0\r\n\r\n"),
    BAD(400, "chunked, but not last", POST "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    BAD(400, "a misspelt second Transfer-Encoding",
        POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n"),
    BAD(400, "a Transfer-Encoding with a blank before the colon", POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    BAD(400, "Transfer-Encoding in HTTP/1.0",
        "POST /echo HTTP/1.0\r\n" HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    BAD(400, "Transfer-Encoding in HTTP/1.0 that is to be kept open",
        "POST /echo HTTP/1.0\r\n" HEAD "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5\r\nhello\r\n0\r\n\r\n"),
};

static const struct bad_request chunks[] = {
    BAD(400, "a chunk size of letters", CHUNKED "size\r\nhello\r\n0\r\n\r\n"),
    BAD(400, "a chunk size that is empty", CHUNKED "\r\nhello\r\n0\r\n\r\n"),
    BAD(400, "a negative chunk size", CHUNKED "-5\r\nhello\r\n0\r\n\r\n"),
    BAD(400, "a chunk size with a plus", CHUNKED "+5\r\nhello\r\n0\r\n\r\n"),
    BAD(400, "a chunk size with 0x", CHUNKED "0x5\r\nhello\r\n0\r\n\r\n"),
    BAD(400, "a chunk size with a blank before it", CHUNKED " 5\r\nhello\r\n0\r\n\r\n"),
    BAD(400, "a chunk size with a NUL", CHUNKED "5\0\r\nhello\r\n0\r\n\r\n"),
    BAD(400, "a chunk size that ends with a bare LF", CHUNKED "5\nhello\r\n0\r\n\r\n"),
    BAD(400, "a chunk size that ends with a bare CR", CHUNKED "5\rhello\r\n0\r\n\r\n"),
    BAD(400, "a chunk size of 2^64", CHUNKED "10000000000000000\r\nhello\r\n0\r\n\r\n"),
    BAD(400, "a chunk size of 2^68 - 1", CHUNKED "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    BAD(400, "a chunk longer than its size", CHUNKED "3\r\nhello\r\n0\r\n\r\n"),
    BAD(400, "a chunk shorter than its size", CHUNKED "6\r\nhello\r\n0\r\n\r\n"),
    BAD(400, "a chunk without CRLF behind it", CHUNKED "5\r\nhello0\r\n\r\n"),
    BAD(400, "a chunk with a bare LF behind it", CHUNKED "5\r\nhello\n0\r\n\r\n"),
    BAD(400, "a chunk with a bare CR behind it", CHUNKED "5\r\nhello\r0\r\n\r\n"),
    BAD(400, "a NUL in a chunk extension", CHUNKED "5;a\0b\r\nhello\r\n0\r\n\r\n"),
    BAD(400, "a bare CR in a chunk extension", CHUNKED "5;a\rb\r\nhello\r\n0\r\n\r\n"),
    BAD(400, "a bare LF in a chunk extension", CHUNKED "5;a\nhello\r\n0\r\n\r\n"),
    BAD(400, "a trailer without a colon", CHUNKED "0\r\nTrailer\r\n\r\n"),
    BAD(400, "a trailer with a blank before the colon", CHUNKED "0\r\nTrailer : x\r\n\r\n"),
    BAD(400, "a NUL in a trailer", CHUNKED "0\r\nTrailer: \0\r\n\r\n"),
};

static const struct bad_request escapes[] = {
    BAD(400, "an escaped NUL in a parameter", "GET /param/a%00b HTTP/1.1\r\n" HEAD "Connection: close\r\n\r\n"),
    BAD(400, "an escape that ends too soon", "GET /param/a%2 HTTP/1.1\r\n" HEAD "Connection: close\r\n\r\n"),
    BAD(400, "an escape without a number", "GET /param/a% HTTP/1.1\r\n" HEAD "Connection: close\r\n\r\n"),
    BAD(400, "an escape that is no number", "GET /param/%zz HTTP/1.1\r\n" HEAD "Connection: close\r\n\r\n"),
    BAD(400, "an escape with a sign", "GET /param/%+1 HTTP/1.1\r\n" HEAD "Connection: close\r\n\r\n"),
    BAD(400, "an escaped NUL in the query", "GET /query?value=%00 HTTP/1.1\r\n" HEAD "Connection: close\r\n\r\n"),
    BAD(400, "a bad escape in the query", "GET /query?value=%4 HTTP/1.1\r\n" HEAD "Connection: close\r\n\r\n"),
};

/* The request, and behind it one that would be answered if it were taken for a request. */
static void send_with_another_behind(struct client *client, const struct bad_request *bad)
{
    static const char another[] = "\r\n\r\n" GET "\r\n";
    char *both = malloc(bad->size + sizeof another - 1);

    memcpy(both, bad->bytes, bad->size);
    memcpy(both + bad->size, another, sizeof another - 1);
    try_send(client, both, bad->size + sizeof another - 1);
    free(both);
}

static void expect_refusal(struct client *client, const struct bad_request *bad)
{
    const struct response *response = try_read_response(client);

    cr_assert_not_null(response, "%s: no answer", bad->what);
    cr_assert_eq(response->status, bad->status, "%s: not %d but: %s%s", bad->what, bad->status, response->head,
                 response->body);
    check_is_json_error(client, response, bad->status);
    cr_assert_not(response->keeps_alive, "%s: the connection is to go on", bad->what);
    expect_closed(client);
}

static void expect_refusals(const struct bad_request *bad, size_t count)
{
    struct probe *probe = probe_start();
    const struct bad_request *end = bad + count;

    for (; bad < end; bad++) {
        struct client *client = probe_connect(probe);

        send_with_another_behind(client, bad);
        expect_refusal(client, bad);

        client = probe_connect(probe);
        try_send_byte_by_byte(probe, client, bad->bytes, bad->size);
        expect_refusal(client, bad);
    }
    cr_assert_eq(count_log_lines(probe_server(probe), " ERROR "), 0u);
    probe_stop(probe);
}

#define EXPECT_REFUSALS(table) expect_refusals(table, sizeof table / sizeof *table)

Test(bad_input, in_the_request_line_is_refused_whole_and_byte_by_byte, .timeout = 120)
{
    EXPECT_REFUSALS(request_lines);
}

Test(bad_input, in_the_headers_is_refused_whole_and_byte_by_byte, .timeout = 120)
{
    EXPECT_REFUSALS(headers);
}

Test(bad_input, in_the_length_of_the_body_is_refused_whole_and_byte_by_byte, .timeout = 120)
{
    EXPECT_REFUSALS(lengths);
}

Test(bad_input, in_chunks_is_refused_whole_and_byte_by_byte, .timeout = 120)
{
    EXPECT_REFUSALS(chunks);
}

Test(bad_input, in_percent_escapes_is_refused_whole_and_byte_by_byte, .timeout = 120)
{
    EXPECT_REFUSALS(escapes);
}

/* ---- what may be taken in good part, or refused ---- */

/* Parsers differ in these, and may. What they may not do is hang, crash, or see two requests in one. */
static const struct bad_request doubtful[] = {
    BAD(200, "bare LFs for line ends", "GET /text HTTP/1.1\nHost: weft\nConnection: close\n\n"),
    BAD(200, "a bare LF behind the request line", "GET /text HTTP/1.1\nHost: weft\r\nConnection: close\r\n\r\n"),
    BAD(200, "a bare LF behind a header", GET "Connection: close\n\r\n"),
    BAD(200, "a bare LF for the last end", GET "Connection: close\r\n\n"),
    BAD(200, "two blanks before the target", "GET  /text HTTP/1.1\r\n" HEAD "Connection: close\r\n\r\n"),
    BAD(200, "two blanks before the version", "GET /text  HTTP/1.1\r\n" HEAD "Connection: close\r\n\r\n"),
    BAD(200, "a target with a fragment", "GET /text#part HTTP/1.1\r\n" HEAD "Connection: close\r\n\r\n"),
    BAD(200, "a target with high bytes", "GET /text?\xc3\xa4 HTTP/1.1\r\n" HEAD "Connection: close\r\n\r\n"),
    BAD(200, "an empty Host", "GET /text HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n"),
    BAD(200, "a header without a value", GET "Connection: close\r\nHeader:\r\n\r\n"),
    BAD(200, "an empty Transfer-Encoding", POST "Connection: close\r\nTransfer-Encoding:\r\n\r\n"),
    BAD(200, "a chunk size with a blank behind it", CHUNKED "5 \r\nhello\r\n0\r\n\r\n"),
    BAD(200, "gzip, then chunked",
        POST "Connection: close\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    BAD(200, "chunked twice",
        POST "Connection: close\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
};

Test(bad_input, that_is_doubtful_is_answered_once_one_way_or_the_other, .timeout = 120)
{
    struct probe *probe = probe_start();
    size_t i;
    int split;

    for (i = 0; i < sizeof doubtful / sizeof *doubtful; i++)
        for (split = 0; split < 2; split++) {
            struct client *client = probe_connect(probe);
            const struct response *response;

            if (split)
                try_send_byte_by_byte(probe, client, doubtful[i].bytes, doubtful[i].size);
            else
                try_send(client, doubtful[i].bytes, doubtful[i].size);
            shut_sending_side(client);
            response = try_read_response(client);
            if (response && response->status != 200)
                check_is_json_error(client, response, 0);
            while (response)
                cr_assert_null(response = try_read_response(client), "%s: a second answer", doubtful[i].what);
            client_close(client);
        }
    cr_assert_eq(count_log_lines(probe_server(probe), " ERROR "), 0u);
    probe_stop(probe);
}

/* ---- requests that are too long ---- */

/* Sends `start`, then `more` so often that it exceeds every limit, as long as the server listens. */
static struct client *send_too_much(struct probe *probe, const char *start, const char *more)
{
    struct client *client = probe_connect(probe);
    size_t sent;

    send_text(client, "%s", start);
    for (sent = 0; sent < 3000000; sent += strlen(more))
        if (!try_send(client, more, strlen(more)))
            break;
    return client;
}

static void expect_too_much(const char *start, const char *more, int status)
{
    const struct bad_request bad = {.status = status, .what = "a request without end"};
    struct probe *probe = probe_start();
    struct client *client = send_too_much(probe, start, more);

    expect_refusal(client, &bad);
    probe_stop(probe);
}

Test(bad_input, is_a_method_without_end, .timeout = 120)
{
    expect_too_much("GET", "GETGETGETGET", 400);
}

Test(bad_input, is_a_target_without_end_and_answered_with_414, .timeout = 120)
{
    expect_too_much("GET /", "abcdefghijklmnopqrstuvwxyz", 414);
}

Test(bad_input, is_a_query_without_end_and_answered_with_414, .timeout = 120)
{
    expect_too_much("GET /text?", "a=b&", 414);
}

Test(bad_input, is_a_header_name_without_end_and_answered_with_431, .timeout = 120)
{
    expect_too_much(GET "H", "abcdefghijklmnopqrstuvwxyz", 431);
}

Test(bad_input, is_a_header_value_without_end_and_answered_with_431, .timeout = 120)
{
    expect_too_much(GET "Header: ", "abcdefghijklmnopqrstuvwxyz", 431);
}

Test(bad_input, is_blanks_without_end_before_a_header_value, .timeout = 120)
{
    expect_too_much(GET "Header:", "                          ", 431);
}

Test(bad_input, is_headers_without_end_and_answered_with_431, .timeout = 120)
{
    expect_too_much(GET, "Header: value\r\n", 431);
}

Test(bad_input, is_the_shortest_headers_without_end_and_answered_with_431, .timeout = 120)
{
    expect_too_much(GET, "a:\r\n", 431);
}

Test(bad_input, is_trailers_without_end_and_answered_with_431, .timeout = 120)
{
    expect_too_much(CHUNKED "0\r\n", "Trailer: value\r\n", 431);
}

Test(bad_input, is_a_body_without_end_and_answered_with_413, .timeout = 120)
{
    expect_too_much(CHUNKED, "10\r\n0123456789abcdef\r\n", 413);
}

Test(bad_input, is_the_smallest_chunks_without_end_and_answered_with_413, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    const struct bad_request bad = {.status = 413, .what = "a million chunks of one byte"};
    size_t i;

    send_text(client, CHUNKED);
    for (i = 0; i < 1100000; i += 10)
        if (!try_send(client, "1\r\nx\r\n1\r\nx\r\n1\r\nx\r\n1\r\nx\r\n1\r\nx\r\n"
                              "1\r\nx\r\n1\r\nx\r\n1\r\nx\r\n1\r\nx\r\n1\r\nx\r\n", 60))
            break;
    expect_refusal(client, &bad);
    probe_stop(probe);
}

/* Nothing of a chunk's extension reaches a handler, so only what it costs the server can end it. */
Test(bad_input, is_a_chunk_extension_without_end, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = send_too_much(probe, CHUNKED "5;", "abcdefghijklmnopqrstuvwxyz");
    const struct response *response = try_read_response(client);

    cr_assert_not_null(response);
    check_is_json_error(client, response, 0);
    expect_closed(client);
    probe_stop(probe);
}

Test(bad_input, is_empty_lines_without_end_before_a_request, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = send_too_much(probe, "\r\n", "\r\n\r\n\r\n\r\n\r\n\r\n");

    expect_served(probe);
    close_with_reset(client);
    probe_stop(probe);
}

Test(bad_input, is_not_a_head_of_just_under_16_KiB, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    char filling[16200];

    memset(filling, 'x', sizeof filling);
    send_text(client, GET "Long: %.*s\r\n\r\n", (int)sizeof filling, filling);
    expect_status(client, 200);
    send_text(client, "GET /text?%.*s HTTP/1.1\r\n" HEAD "\r\n", (int)sizeof filling, filling);
    expect_status(client, 200);
    client_close(client);
    probe_stop(probe);
}

Test(bad_input, is_not_five_hundred_headers, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    int i;

    send_text(client, "GET /header?name=n499 HTTP/1.1\r\n" HEAD);
    for (i = 0; i < 500; i++)
        send_text(client, "n%d: value %d\r\n", i, i);
    send_text(client, "\r\n");
    expect_answer(client, 200, "value 499");
    client_close(client);
    probe_stop(probe);
}

/* ---- requests that are many ---- */

Test(bad_input, is_not_a_hundred_and_one_pipelined_requests, .timeout = 120)
{
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    char all[101 * 64] = "";
    size_t size = 0;
    int i;

    for (i = 0; i < 101; i++)
        size += (size_t)sprintf(all + size, "GET /param/%d HTTP/1.1\r\n" HEAD "\r\n", i);
    send_bytes(client, all, size);
    for (i = 0; i < 101; i++) {
        char number[16];

        snprintf(number, sizeof number, "%d", i);
        expect_answer(client, 200, number);
    }
    client_close(client);
    probe_stop(probe);
}

Test(bad_input, behind_good_requests_leaves_their_answers_whole, .timeout = 120)
{
    struct probe *probe = probe_start();
    const struct bad_request bad = {.status = 400, .what = "nonsense behind two good requests"};
    struct client *client = probe_connect(probe);

    send_text(client, GET "\r\n" GET "\r\n" "nonsense\r\n\r\n");
    expect_answer(client, 200, "hello\n");
    expect_answer(client, 200, "hello\n");
    expect_refusal(client, &bad);
    probe_stop(probe);
}

Test(bad_input, behind_a_waiting_request_is_refused_when_its_turn_comes, .timeout = 120)
{
    struct probe *probe = probe_start();
    const struct bad_request bad = {.status = 400, .what = "nonsense behind a waiting request"};
    struct client *client = probe_connect(probe);

    send_text(client, "GET /gated HTTP/1.1\r\n" HEAD "\r\n" "nonsense\r\n\r\n");
    wait_until_parked(probe, 1);
    expect_served(probe);
    open_the_gate(probe);
    expect_answer(client, 200, "open\n");
    expect_refusal(client, &bad);
    probe_stop(probe);
}

Test(bad_input, without_end_behind_a_waiting_request_is_not_read_without_end, .timeout = 120)
{
    static char flood[1 << 20];
    struct probe *probe = probe_start();
    struct client *client = probe_connect(probe);
    size_t before = server_resident_kib(probe_server(probe));
    size_t sent = 0;
    size_t piece;

    send_get(client, "/wait-half-close");
    wait_until_parked(probe, 1);
    /* As much as the kernel takes, many times what the server may keep. */
    while (sent < 256 * sizeof flood && (piece = send_within(client, flood, sizeof flood, 100)))
        sent += piece;

    expect_served(probe);
    cr_assert_lt(server_resident_kib(probe_server(probe)), before + 32 * 1024,
                 "the server keeps what it cannot use");
    close_with_reset(client);
    open_the_gate(probe);
    expect_handlers_ended(probe, 1);
    probe_stop(probe);
}

/* ---- requests that are noise ---- */

#if defined WEFT_TEST_SANITIZED
enum { NOISES = 300, IN_ONE = 10 };
#else
enum { NOISES = 1000, IN_ONE = 10 };
#endif

static uint64_t noise_state;

static uint64_t noise(uint64_t below)
{
    noise_state ^= noise_state << 13;
    noise_state ^= noise_state >> 7;
    noise_state ^= noise_state << 17;
    return noise_state % below;
}

static size_t random_bytes(char *bytes)
{
    size_t size = 1 + noise(200);
    size_t i;

    for (i = 0; i < size; i++)
        bytes[i] = (char)noise(256);
    return size;
}

/* A good request with a few of its bytes changed, doubled or lost. */
static size_t mutated_request(char *bytes)
{
    static const char *const good[] = {
        GET "\r\n",
        GET "Connection: keep-alive\r\nUser-Agent: noise/1.0 (like noise)\r\nAccept: */*\r\n\r\n",
        "GET /param/some%20value?key=value&other=%41 HTTP/1.1\r\n" HEAD "\r\n",
        "GET /text HTTP/1.0\r\n\r\n",
        POST "Content-Length: 5\r\n\r\nhello",
        "POST /json HTTP/1.1\r\n" HEAD "Content-Length: 14\r\n\r\n{\"key\": [1,2]}",
        CHUNKED "5;ext=\"x\"\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n",
        POST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    };
    static const char special[] = "\r\n\0 \t:;,%/?&=+-0189afAFxX\"\x7f\x80\xff";
    const char *from = good[noise(sizeof good / sizeof *good)];
    size_t size = strlen(from);
    uint64_t changes = noise(4);

    memcpy(bytes, from, size);
    for (; changes; changes--) {
        size_t at = noise(size);

        switch (noise(4)) {
        case 0:
            bytes[at] = (char)noise(256);
            break;
        case 1:
            bytes[at] = special[noise(sizeof special - 1)];
            break;
        case 2:
            memmove(bytes + at + 1, bytes + at, size - at);
            size++;
            break;
        default:
            memmove(bytes + at, bytes + at + 1, size - at - 1);
            size--;
            break;
        }
    }
    return size;
}

/* Hears the server out, and checks that all it says is HTTP. */
static void expect_only_answers(struct client *client)
{
    const struct response *response;

    while ((response = try_read_response(client)))
        if (response->status >= 400 && response->size)
            check_is_json_error(client, response, 0);
    client_close(client);
}

static void make_noise(size_t (*one)(char *bytes), uint64_t seed)
{
    struct probe *probe = probe_start();
    char bytes[IN_ONE * 256];
    size_t i, j, size;

    noise_state = seed;
    for (i = 0; i < NOISES; i++) {
        struct client *client = probe_connect(probe);

        for (size = 0, j = 0; j < IN_ONE; j++)
            size += one(bytes + size);
        try_send(client, bytes, size);
        shut_sending_side(client);
        expect_only_answers(client);
    }
    expect_nothing_left(probe);
    cr_assert_eq(count_log_lines(probe_server(probe), " ERROR "), 0u);
    probe_stop(probe);
}

Test(bad_input, of_random_bytes_harms_nobody, .timeout = 120)
{
    make_noise(random_bytes, 88172645463325252ULL);
}

Test(bad_input, of_requests_with_random_faults_harms_nobody, .timeout = 120)
{
    make_noise(mutated_request, 2463534242ULL);
}

/* ---- bodies of requests that are refused anyway ---- */

static const struct bad_request unwanted[] = {
    BAD(404, "a bad chunk for nobody", "POST /nosuch HTTP/1.1\r\n" HEAD "Transfer-Encoding: chunked\r\n\r\nZZZ\r\n"),
    BAD(404, "a bad second chunk for nobody",
        "POST /nosuch HTTP/1.1\r\n" HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZZ\r\n"),
    BAD(405, "a bad chunk for a method that is not allowed",
        "PUT /text HTTP/1.1\r\n" HEAD "Transfer-Encoding: chunked\r\n\r\nZZZ\r\n"),
};

/* With the status of the head, or of the body: but the connection ends, as nobody can tell where the next one begins. */
static void expect_refusal_of_either(struct client *client, const struct bad_request *bad)
{
    const struct response *response = try_read_response(client);

    cr_assert_not_null(response, "%s: no answer", bad->what);
    cr_assert(response->status == bad->status || response->status == 400, "%s: %s", bad->what, response->head);
    check_is_json_error(client, response, 0);
    cr_assert_not(response->keeps_alive, "%s: the connection is to go on", bad->what);
    expect_closed(client);
}

Test(bad_input, in_the_body_of_a_request_for_nobody_ends_the_connection, .timeout = 120)
{
    struct probe *probe = probe_start();
    size_t i;

    for (i = 0; i < sizeof unwanted / sizeof *unwanted; i++) {
        struct client *client = probe_connect(probe);

        send_with_another_behind(client, &unwanted[i]);
        expect_refusal_of_either(client, &unwanted[i]);

        client = probe_connect(probe);
        try_send_byte_by_byte(probe, client, unwanted[i].bytes, unwanted[i].size);
        expect_refusal_of_either(client, &unwanted[i]);
    }
    probe_stop(probe);
}

/* ---- Transfer-Encodings that say nothing ---- */

static const struct bad_request empty_encodings[] = {
    BAD(400, "Content-Length and an empty Transfer-Encoding",
        POST "Content-Length: 5\r\nTransfer-Encoding:\r\n\r\nhello"),
    BAD(400, "an empty Transfer-Encoding and Content-Length",
        POST "Transfer-Encoding:\r\nContent-Length: 5\r\n\r\nhello"),
    BAD(400, "a blank Transfer-Encoding and Content-Length",
        POST "Transfer-Encoding: \t\r\nContent-Length: 5\r\n\r\nhello"),
};

/* Others take the body to be chunked. */
Test(bad_input, in_an_empty_encoding_beside_a_length_is_refused_whole_and_byte_by_byte, .timeout = 120)
{
    EXPECT_REFUSALS(empty_encodings);
}

/* ---- what only begins like something known ---- */

static const struct bad_request expectations[] = {
    BAD(417, "an expectation with something behind it", POST "Expect: 100-continuexyz\r\nContent-Length: 1\r\n\r\nx"),
    BAD(417, "half an expectation", POST "Expect: 100-cont\r\nContent-Length: 1\r\n\r\nx"),
};

Test(bad_input, in_an_expectation_is_refused_whole_and_byte_by_byte, .timeout = 120)
{
    EXPECT_REFUSALS(expectations);
}

/* The probe is asked for its counts over one connection that is open from before the baseline is taken until the end, so
 * that asking changes nothing. */
#include "tests/support/probe.h"

#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const live[] = {"deferreds", "errors",      "contexts",    "timers",
                                   "fibers",    "descriptors", "connections", "requests"};
enum { LIVE = sizeof live / sizeof *live };

struct counts {
    long long live[LIVE];
    size_t starts;
    size_t ends;
    size_t cancels;
    size_t descriptors; /* that the process has open, weft's or not */
};

struct probe {
    struct server *server;
    struct client *control;
    struct counts baseline;
    char context[64]; /* what expect_request_line last gave */
};

static struct counts probe_counts(struct probe *probe)
{
    struct counts counts;
    json_t *json;
    size_t i;

    send_text(probe->control, "GET /counts HTTP/1.1\r\nHost: probe\r\n\r\n");
    json = response_json(read_response(probe->control));
    for (i = 0; i < LIVE; i++)
        counts.live[i] = json_integer_value(json_object_get(json, live[i]));
    counts.starts = (size_t)json_integer_value(json_object_get(json, "starts"));
    counts.ends = (size_t)json_integer_value(json_object_get(json, "ends"));
    counts.cancels = (size_t)json_integer_value(json_object_get(json, "cancels"));
    counts.descriptors = server_descriptors(probe->server);
    json_decref(json);
    return counts;
}

/* ---- life ---- */

static struct probe *probe_start_on(struct server *server)
{
    struct probe *probe = calloc(1, sizeof *probe);

    probe->server = server;
    probe->control = client_connect(server_port(server));
    probe_counts(probe); /* what is made once and kept, stacks and buffers, is made now */
    probe->baseline = probe_counts(probe);
    return probe;
}

struct probe *probe_start(void)
{
    return probe_start_on(server_start("serve_probe"));
}

struct probe *probe_start_with_drain(const char *seconds)
{
    return probe_start_on(server_start("serve_probe", "127.0.0.1:0", seconds));
}

struct server *probe_leave(struct probe *probe)
{
    struct server *server = probe->server;

    client_close(probe->control);
    free(probe);
    return server;
}

void probe_stop(struct probe *probe)
{
    expect_nothing_left(probe);
    expect_served(probe);
    expect_nothing_left(probe);
    server_stop(probe_leave(probe));
}

struct server *probe_server(struct probe *probe)
{
    return probe->server;
}

int probe_port(struct probe *probe)
{
    return server_port(probe->server);
}

struct client *probe_connect(struct probe *probe)
{
    return client_connect(probe_port(probe));
}

bool try_send_byte_by_byte(struct probe *probe, struct client *client, const void *bytes, size_t size)
{
    const char *next = bytes;

    for (; size; size--, next++) {
        if (!try_send(client, next, 1))
            return false;
        probe_counts(probe); /* the byte came before this request, so it is not seen after it */
    }
    return true;
}

/* ---- what its handlers did ---- */

void wait_until_parked(struct probe *probe, size_t handlers)
{
    double deadline = deadline_new();
    struct counts counts;

    while ((counts = probe_counts(probe)).starts < handlers)
        cr_assert(deadline_left_ms(deadline), "only %zu handlers, not %zu, have started", counts.starts, handlers);
    cr_assert_eq(counts.starts, handlers, "%zu handlers have started, not %zu", counts.starts, handlers);
}

void expect_handlers_ended(struct probe *probe, size_t handlers)
{
    double deadline = deadline_new();
    struct counts counts;

    while ((counts = probe_counts(probe)).ends < handlers)
        cr_assert(deadline_left_ms(deadline), "only %zu handlers, not %zu, have ended", counts.ends, handlers);
    cr_assert_eq(counts.ends, handlers, "%zu handlers have ended, not %zu", counts.ends, handlers);
    cr_assert_eq(counts.starts, handlers, "%zu handlers have started, not %zu", counts.starts, handlers);
}

void expect_canceller_runs(struct probe *probe, size_t runs)
{
    double deadline = deadline_new();
    struct counts counts;

    while ((counts = probe_counts(probe)).cancels < runs)
        cr_assert(deadline_left_ms(deadline), "cancellers ran only %zu times, not %zu", counts.cancels, runs);
    cr_assert_eq(counts.cancels, runs, "cancellers ran %zu times, not %zu", counts.cancels, runs);
}

static bool is_left(const struct probe *probe, const struct counts *counts, char *what, size_t size)
{
    size_t i;

    for (i = 0; i < LIVE; i++)
        if (counts->live[i] != probe->baseline.live[i]) {
            snprintf(what, size, "%lld %s, not %lld", counts->live[i], live[i], probe->baseline.live[i]);
            return true;
        }
    snprintf(what, size, "%zu open descriptors, not %zu", counts->descriptors, probe->baseline.descriptors);
    return counts->descriptors != probe->baseline.descriptors;
}

void expect_nothing_left(struct probe *probe)
{
    double deadline = deadline_new();
    struct counts counts = probe_counts(probe);
    char what[128];

    while (is_left(probe, &counts, what, sizeof what)) {
        if (!deadline_left_ms(deadline))
            cr_assert_fail("there are %s", what);
        counts = probe_counts(probe);
    }
    cr_assert_eq(counts.starts, counts.ends, "%zu handlers started and %zu ended", counts.starts, counts.ends);
}

static void post(struct probe *probe, const char *path)
{
    struct client *client = probe_connect(probe);

    send_text(client, "POST %s HTTP/1.1\r\nHost: probe\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", path);
    expect_status(client, 200);
    expect_closed(client);
}

void open_the_gate(struct probe *probe)
{
    post(probe, "/open");
}

void expect_served(struct probe *probe)
{
    struct client *client = probe_connect(probe);

    send_text(client, "GET /text HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n");
    expect_answer(client, 200, "hello\n");
    expect_closed(client);
}

/* ---- what it logged ---- */

/* `text` with what means something in a pattern made to mean itself. */
static void quote(char *pattern, size_t size, const char *text)
{
    size_t length = 0;

    for (; *text && length + 4 < size; text++) {
        if (strchr("[]().*+?{}|^$\\", *text)) {
            pattern[length++] = '[';
            if (*text == '^' || *text == '\\')
                pattern[length - 1] = '\\';
            pattern[length++] = *text;
            if (*text != '^' && *text != '\\')
                pattern[length++] = ']';
        } else {
            pattern[length++] = *text;
        }
    }
    pattern[length] = '\0';
}

const char *expect_request_line(struct probe *probe, const char *method, const char *target, const char *code)
{
    char quoted[512];
    const char *line;
    const char *name;

    quote(quoted, sizeof quoted, target);
    line = wait_for_log_line(probe->server,
                             "[0-9-]+ [0-9:.]+ INFO +%s-[0-9]+ 127[.]0[.]0[.]1 - %d - [{]None[}] Processed request: "
                             "[0-9]+[.][0-9]{3}sec/[0-9]+[.][0-9]{3}sec ru=[(][0-9]+[.][0-9]{6}sec, "
                             "[0-9]+[.][0-9]{6}sec[)] db=[(]0[.]000sec/0[.]000sec/0[)] [0-9]+B %s \"%s %s HTTP/1[.][01]\" \".*\" \\[0 dbevts\\]$",
                             method, probe_port(probe), code, method, quoted);
    name = strstr(line, method);
    snprintf(probe->context, sizeof probe->context, "%.*s", (int)strcspn(name, " "), name);
    return probe->context;
}

void expect_cancelled(struct probe *probe, const char *target, const char *function)
{
    const char *context = expect_request_line(probe, "GET", target, "499!");

    wait_for_log_line(probe->server, " %s .*unwound from.*serve_probe[.]c:[0-9]+ .*%s", context, function);
}

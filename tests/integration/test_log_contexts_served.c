/* Log contexts of requests over real sockets: G1, G9, G16 and G18 of the source documents' features, and N24.
 *
 * Clients give their requests names, which handlers put into their lines. So one that has another's label shows. */
#include "tests/support/client.h"
#include "tests/support/server.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

enum { LABEL = 32 };

static struct client *get(struct server *server, const char *path, const char *name)
{
    struct client *client = client_connect(server_port(server));
    char target[128];

    snprintf(target, sizeof target, "/%s/%s", path, name);
    send_get(client, target);
    return client;
}

static void finish(struct client *client)
{
    expect_answer(client, 200, "done\n");
    client_close(client);
}

/* Whoever of that name has waited longest has a turn. */
static void turn(struct server *server, const char *name)
{
    struct client *client = client_connect(server_port(server));

    send_text(client, "POST /turn/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", name);
    expect_answer(client, 200, "turned\n");
    client_close(client);
}

/* The label of the line in which `name` says `what`. */
static void label_of(struct server *server, const char *name, const char *what, char label[LABEL])
{
    const char *line = wait_for_log_line(server, " INFO  [^ ]+ %s %s$", name, what);

    cr_assert_eq(sscanf(strstr(line, " INFO "), " INFO %31s", label), 1, "%s", line);
}

static void expect_label(struct server *server, const char *name, const char *what, const char *label)
{
    char found[LABEL];

    label_of(server, name, what, found);
    cr_assert_str_eq(found, label, "%s %s", name, what);
}

static void expect_request_line(struct server *server, const char *label, const char *path, const char *name)
{
    wait_for_log_line(server, " INFO  %s 127\\.0\\.0\\.1 .* 200 \"GET /%s/%s HTTP", label, path, name);
}

Test(log_contexts_served, g01_no_line_of_interleaved_requests_over_sockets_has_another_ones_label, .timeout = 120)
{
    static const char *const names[] = {"ann", "bob", "cat", "dan"};
    enum { CLIENTS = sizeof names / sizeof *names };
    struct server *server = server_start("serve_contexts", "127.0.0.1:0");
    struct client *clients[CLIENTS];
    char labels[CLIENTS][LABEL];

    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = get(server, "turns", names[i]);
        label_of(server, names[i], "begins", labels[i]);
        for (int j = 0; j < i; j++)
            cr_assert_str_neq(labels[i], labels[j]);
    }
    for (int i = CLIENTS - 1; i >= 0; i--)
        turn(server, names[i]);
    for (int i = 0; i < CLIENTS; i++)
        expect_label(server, names[i], "goes on", labels[i]);
    for (int i = 0; i < CLIENTS; i++)
        turn(server, names[(i + 2) % CLIENTS]);
    for (int i = 0; i < CLIENTS; i++) {
        finish(clients[i]);
        expect_label(server, names[i], "has finished", labels[i]);
        expect_request_line(server, labels[i], "turns", names[i]);
    }
    cr_assert_eq(count_log_lines(server, " (begins|goes on|has finished)$"), 3 * CLIENTS);
    server_stop(server);
}

Test(log_contexts_served, g09_a_request_has_finished_under_its_own_label_whether_it_had_to_wait_or_not, .timeout = 120)
{
    struct server *server = server_start("serve_contexts", "127.0.0.1:0");
    struct client *slow = get(server, "turns", "slow");
    char label[LABEL], quick[LABEL];

    label_of(server, "slow", "begins", label);
    finish(get(server, "at-once", "quick"));
    label_of(server, "quick", "begins", quick);
    cr_assert_str_neq(quick, label);
    expect_label(server, "quick", "has finished", quick);
    turn(server, "slow");
    expect_label(server, "slow", "goes on", label);
    turn(server, "slow");
    finish(slow);
    expect_label(server, "slow", "has finished", label);
    server_stop(server);
}

/* The request has been answered, and its connection is closed, before the first step. */
Test(log_contexts_served, g16_work_in_the_background_of_a_request_keeps_its_label_when_that_has_been_answered, .timeout = 120)
{
    struct server *server = server_start("serve_contexts", "127.0.0.1:0");
    char label[LABEL];

    finish(get(server, "background", "ann"));
    label_of(server, "ann", "answers", label);
    expect_request_line(server, label, "background", "ann");
    turn(server, "ann");
    expect_label(server, "ann", "takes step 1", label);
    finish(get(server, "at-once", "bob"));
    turn(server, "ann");
    expect_label(server, "ann", "takes step 2", label);
    label_of(server, "bob", "begins", label);
    expect_label(server, "bob", "has finished", label);
    server_stop(server);
}

Test(log_contexts_served, n24_a_background_process_of_a_request_has_a_label_of_its_own, .timeout = 120)
{
    struct server *server = server_start("serve_contexts", "127.0.0.1:0");
    char label[LABEL];

    finish(get(server, "process", "ann"));
    label_of(server, "ann", "answers", label);
    cr_assert(!strncmp(label, "GET-", 4), "who starts it keeps his: %s", label);
    expect_request_line(server, label, "process", "ann");
    turn(server, "ann");
    expect_label(server, "ann", "takes step 1", "worker-1");
    finish(get(server, "process", "bob"));
    turn(server, "bob");
    expect_label(server, "bob", "takes step 1", "worker-2");
    turn(server, "ann");
    expect_label(server, "ann", "takes step 2", "worker-1");
    server_stop(server); /* with one that is left: it is cancelled */
}

Test(log_contexts_served, g18_a_request_that_gathers_what_runs_in_its_background_has_one_label_all_through, .timeout = 120)
{
    struct server *server = server_start("serve_contexts", "127.0.0.1:0");
    struct client *client = get(server, "gathers", "ann");
    char label[LABEL];

    label_of(server, "ann", "begins", label);
    for (int i = 0; i < 4; i++)
        turn(server, "ann");
    finish(client);
    expect_label(server, "ann", "has finished", label);
    cr_assert_eq(count_log_lines(server, " ann takes step [12]$"), 4);
    for (int step = 1; step <= 2; step++) {
        char pattern[128];

        snprintf(pattern, sizeof pattern, " INFO  %s ann takes step %d$", label, step);
        cr_assert_eq(count_log_lines(server, pattern), 2);
    }
    server_stop(server);
}

/* serve_probe [ADDRESS [DRAIN]]: the server that the integration tests talk to. Its handlers wait, fail, misbehave and
 * count, so that a test can see from outside what became of each request.
 *
 *     GET  /text               200 at once
 *     GET  /wait               cancellable: parks until POST /open
 *     GET  /wait-half-close    the same, and a client may shut its sending side
 *     POST /wait               the same with a body: cancellable, which the server warns of
 *     GET  /gated              not cancellable: parks until POST /open
 *     GET  /nested             cancellable, parks three functions deep, each of which logs that it unwinds
 *     GET  /cleans-up          cancellable; waits again while it cleans up after the cancellation
 *     GET  /stops-later        cancellable; its canceller needs until POST /open to stop the work
 *     GET  /swallow            cancellable; treats its cancellation as if nothing had happened
 *     GET  /swallow-big        not cancellable; the same with an answer of 20 MB
 *     POST /open               wakes all that park; so does SIGUSR1
 *     GET  /counts             what is alive, and what the handlers and cancellers have counted
 *     GET  /big/{bytes}        a long answer: the alphabet, over and over
 *     POST /echo               the body, as it came
 *     GET  /param/{value}, /query, /header    what the library made of {value}, ?value=, and the header named by ?name=
 *     GET  /number             ?value= as a number from 0 to 10, 5 when there is none
 *     POST /json               the body, as the library understood it
 *     GET  /empty              204, no body
 *     GET  /fail, /refuse, /gives-up          failures: an ordinary one, one with a status, a cancellation nobody asked for
 *     GET  /refuse-without-errcode, /refuse-with-bad-errcode   404, and an errcode that is NULL or not UTF-8
 *     GET  /twice, /twice-careless, /silent   two answers, also returned the second's failure; none
 *     GET  /fields             the log fields that a context below the request's has; ?requester= becomes one
 *     POST /usage              what the request has used
 *     GET  /works-on           not cancellable: parks until POST /open, then spins for 20 ms and logs what that was for
 *     GET  /outlived           starts a fiber, which parks until POST /open, and answers */
#include "tests/support/spin.h"

#include <weft/http.h>
#include <weft/live.h>
#include <weft/log.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

struct waiter {
    LIST_ENTRY(waiter) link;
    weft_deferred *opened;
};

struct probe {
    LIST_HEAD(, waiter) waiters;
    size_t starts;  /* of handlers that park */
    size_t ends;    /* of the same, however they were left */
    size_t cancels; /* runs of their cancellers */
};

/* ---- waiting ---- */

static weft_cancel_outcome stop_waiting(weft_deferred *deferred, void *arg)
{
    struct probe *probe = arg;

    (void)deferred;
    probe->cancels++;
    weft_log_info("the canceller ran");
    return WEFT_CANCEL_DONE;
}

static weft_cancel_outcome stop_waiting_later(weft_deferred *deferred, void *arg)
{
    struct probe *probe = arg;

    (void)deferred;
    probe->cancels++;
    weft_log_info("the canceller asked for an end");
    return WEFT_CANCEL_LATER;
}

static weft_result wait_for_opening(struct probe *probe, weft_cancel_fn *canceller)
{
    struct waiter waiter = {.opened = weft_deferred_new(canceller, probe)};
    weft_result opened;

    LIST_INSERT_HEAD(&probe->waiters, &waiter, link);
    opened = weft_await(weft_deferred_ref(waiter.opened));
    LIST_REMOVE(&waiter, link);
    weft_deferred_unref(waiter.opened);
    return opened;
}

static weft_result park(struct probe *probe, weft_cancel_fn *canceller)
{
    weft_result opened;

    probe->starts++;
    opened = wait_for_opening(probe, canceller);
    probe->ends++;
    return opened;
}

static weft_result answer_when_open(struct probe *probe, weft_request *request, weft_cancel_fn *canceller)
{
    WEFT_TRY(park(probe, canceller));
    return weft_respond_text(request, 200, "open\n");
}

static weft_result handle_wait(weft_request *request, void *arg)
{
    return answer_when_open(arg, request, stop_waiting);
}

static weft_result handle_stops_later(weft_request *request, void *arg)
{
    return answer_when_open(arg, request, stop_waiting_later);
}

static void open_the_gate(struct probe *probe)
{
    struct waiter *waiter;

    /* Firing wakes fibers through the ready queue: the list stays as it is, and those that were fired are still in
     * it. */
    LIST_FOREACH(waiter, &probe->waiters, link)
        if (weft_deferred_get_state(waiter->opened) == WEFT_PENDING)
            weft_deferred_callback(waiter->opened, weft_ok(NULL));
}

static weft_result handle_open(weft_request *request, void *arg)
{
    open_the_gate(arg);
    return weft_respond_text(request, 200, "opened\n");
}

static void on_signal(weft_signal *watcher, int number, void *arg)
{
    (void)watcher;
    (void)number;
    weft_log_info("SIGUSR1: opening");
    open_the_gate(arg);
}

/* ---- unwinding ---- */

static weft_result unwinds(weft_result result, const char *function)
{
    if (weft_failed(result))
        weft_log_info("%s unwinds", function);
    return result;
}

static weft_result wait_innermost(struct probe *probe)
{
    return unwinds(wait_for_opening(probe, stop_waiting), __func__);
}

static weft_result wait_in_the_middle(struct probe *probe)
{
    return unwinds(wait_innermost(probe), __func__);
}

static weft_result handle_nested(weft_request *request, void *arg)
{
    struct probe *probe = arg;
    weft_result opened;

    probe->starts++;
    opened = unwinds(wait_in_the_middle(probe), __func__);
    probe->ends++;
    WEFT_TRY(opened);
    return weft_respond_text(request, 200, "open\n");
}

static weft_result handle_cleans_up(weft_request *request, void *arg)
{
    struct probe *probe = arg;
    weft_result opened;
    weft_result slept;

    probe->starts++;
    opened = wait_for_opening(probe, stop_waiting);
    slept = weft_sleep(0.01);
    weft_log_info("the clean-up %s", weft_failed(slept) ? "was interrupted" : "is done");
    weft_result_drop(slept);
    probe->ends++;
    WEFT_TRY(opened);
    return weft_respond_text(request, 200, "open\n");
}

static weft_result handle_swallow(weft_request *request, void *arg)
{
    struct probe *probe = arg;

    probe->starts++;
    weft_result_drop(wait_for_opening(probe, stop_waiting));
    probe->ends++;
    return weft_respond_text(request, 200, "as if nothing had happened\n");
}

/* ---- answering ---- */

static weft_result handle_text(weft_request *request, void *arg)
{
    (void)arg;
    return weft_respond_text(request, 200, "hello\n");
}

static weft_result handle_counts(weft_request *request, void *arg)
{
    struct probe *probe = arg;
    weft_live_counts live = weft_live_counts_get();

    return weft_respond_json(request, 200,
                             json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "deferreds",
                                       (json_int_t)live.deferreds, "errors", (json_int_t)live.errors, "contexts",
                                       (json_int_t)live.contexts, "timers", (json_int_t)live.timers, "fibers",
                                       (json_int_t)live.fibers, "descriptors", (json_int_t)live.descriptors,
                                       "connections", (json_int_t)live.connections, "requests",
                                       (json_int_t)live.requests, "starts", (json_int_t)probe->starts, "ends",
                                       (json_int_t)probe->ends, "cancels", (json_int_t)probe->cancels));
}

static weft_result handle_big(weft_request *request, void *arg)
{
    size_t size = strtoul(weft_request_param(request, "bytes"), NULL, 10);
    char *body = weft_alloc(size + 1);
    weft_result response;
    size_t i;

    (void)arg;
    for (i = 0; i < size; i++)
        body[i] = (char)('a' + i % 26);
    response = weft_respond(request, 200, "text/plain", body, size);
    weft_free(body);
    return response;
}

static weft_result handle_swallow_big(weft_request *request, void *arg)
{
    struct probe *probe = arg;
    size_t size = 20000000;
    char *body = weft_alloc_zeroed(size);
    weft_result response;

    probe->starts++;
    weft_result_drop(wait_for_opening(probe, stop_waiting));
    probe->ends++;
    response = weft_respond(request, 200, "application/octet-stream", body, size);
    weft_free(body);
    return response;
}

static weft_result handle_echo(weft_request *request, void *arg)
{
    size_t size;
    const void *body = weft_request_body(request, &size);

    (void)arg;
    return weft_respond(request, 200, "application/octet-stream", body, size);
}

static weft_result answer_value(weft_request *request, const char *value)
{
    if (!value)
        return weft_fail(weft_http_error(404, "M_NOT_FOUND", "there is no such value"));
    return weft_respond_text(request, 200, value);
}

static weft_result handle_param(weft_request *request, void *arg)
{
    (void)arg;
    return answer_value(request, weft_request_param(request, "value"));
}

static weft_result handle_query(weft_request *request, void *arg)
{
    (void)arg;
    return answer_value(request, weft_request_query(request, "value"));
}

static weft_result handle_header(weft_request *request, void *arg)
{
    const char *name = weft_request_query(request, "name");

    (void)arg;
    return answer_value(request, name ? weft_request_header(request, name) : NULL);
}

static weft_result handle_number(weft_request *request, void *arg)
{
    double number;
    weft_error *error = weft_request_query_number(request, "value", 5, 0, 10, &number);

    (void)arg;
    if (error)
        return weft_fail(error);
    return weft_respond_json(request, 200, json_pack("{s:f}", "number", number));
}

static weft_result handle_json(weft_request *request, void *arg)
{
    (void)arg;
    return weft_respond_json(request, 200, WEFT_TRY(weft_request_json(request)));
}

static weft_result handle_empty(weft_request *request, void *arg)
{
    (void)arg;
    return weft_respond(request, 204, NULL, NULL, 0);
}

/* ---- failing ---- */

static weft_result handle_fail(weft_request *request, void *arg)
{
    (void)request;
    (void)arg;
    return weft_fail(weft_error_new(&WEFT_FAILURE, "the disk is on fire"));
}

static weft_result handle_refuse(weft_request *request, void *arg)
{
    (void)request;
    (void)arg;
    return weft_fail(weft_http_error(418, "M_TEAPOT", "this is a teapot, not a %s", "coffee machine"));
}

static weft_result handle_refuse_without_errcode(weft_request *request, void *arg)
{
    (void)request;
    (void)arg;
    return weft_fail(weft_http_error(404, NULL, "there is nothing here"));
}

static weft_result handle_refuse_with_bad_errcode(weft_request *request, void *arg)
{
    (void)request;
    (void)arg;
    return weft_fail(weft_http_error(404, "M_\xff\xfe", "there is nothing here"));
}

static weft_result handle_gives_up(weft_request *request, void *arg)
{
    (void)request;
    (void)arg;
    return weft_fail(weft_error_new(&WEFT_CANCELLED, "somebody lost interest"));
}

static weft_result handle_twice(weft_request *request, void *arg)
{
    weft_result first = weft_respond_text(request, 200, "first\n");
    weft_result second = weft_respond_text(request, 201, "second\n");

    (void)arg;
    weft_log_info("the second answer was %s",
                  weft_error_is(weft_failed(second), &WEFT_MISUSE) ? "called a misuse" : "let through");
    weft_result_drop(second);
    return first;
}

static weft_result handle_twice_careless(weft_request *request, void *arg)
{
    (void)arg;
    weft_result_drop(weft_respond_text(request, 200, "first\n"));
    return weft_respond_text(request, 201, "second\n");
}

static weft_result handle_silent(weft_request *request, void *arg)
{
    (void)request;
    (void)arg;
    return weft_ok(NULL);
}

/* ---- what contexts tell and count ---- */

static json_t *fields_to_json(weft_context *context)
{
    weft_field fields[16];
    size_t count = weft_context_get_fields(context, fields, 16);
    json_t *json = json_object();

    for (size_t i = 0; i < count; i++)
        json_object_set_new(json, fields[i].name, json_string(fields[i].value));
    json_object_set_new(json, "request", json_string(weft_context_get_field(context, "request")));
    return json;
}

static weft_result handle_fields(weft_request *request, void *arg)
{
    json_t *json = NULL;

    (void)arg;
    weft_context_set_field(weft_context_current(), "requester", weft_request_query(request, "requester"));
    weft_with_context(below, weft_context_new_child(weft_context_current(), NULL))
        json = fields_to_json(below);
    return weft_respond_json(request, 200, json);
}

static weft_result handle_usage(weft_request *request, void *arg)
{
    weft_usage usage;

    (void)arg;
    weft_context_charge(weft_context_current(),
                        &(weft_usage){.db_transactions = 2, .db_ns = 1500000000, .db_wait_ns = 250000000, .db_rows = 7});
    usage = weft_context_get_usage(weft_context_current());
    return weft_respond_json(request, 200, json_pack("{s:I, s:I}", "bytes_in", (json_int_t)usage.bytes_in, "cpu_ns",
                                                     (json_int_t)(usage.user_ns + usage.system_ns)));
}

static weft_result handle_works_on(weft_request *request, void *arg)
{
    weft_usage all, useless;

    spin(20 * MS);
    WEFT_TRY(park(arg, stop_waiting));
    spin(20 * MS);
    all = weft_context_get_usage(weft_context_current());
    useless = weft_context_get_usage_after_client_left(weft_context_current());
    weft_log_info("of %ld ms, %ld were for nobody", (long)((all.user_ns + all.system_ns) / 1000000),
                  (long)((useless.user_ns + useless.system_ns) / 1000000));
    return weft_respond_text(request, 200, "done\n");
}

static weft_result outlive(void *probe)
{
    weft_usage after;

    WEFT_TRY(park(probe, stop_waiting));
    spin(20 * MS);
    after = weft_context_get_usage_after_end(weft_context_current());
    weft_log_info("%s worked for %ld ms after its end, requested by %s", weft_context_get_field(weft_context_current(), "url"),
                  (long)((after.user_ns + after.system_ns) / 1000000),
                  weft_context_get_field(weft_context_current(), "requester"));
    return weft_ok(NULL);
}

static weft_result handle_outlived(weft_request *request, void *arg)
{
    weft_context_set_field(weft_context_current(), "requester", "@alice");
    weft_deferred_unref(weft_spawn(outlive, arg));
    return weft_respond_text(request, 200, "done\n");
}

/* ---- the program ---- */

static void add_routes(weft_http_server *server, struct probe *probe)
{
    const weft_route_options plain = {.arg = probe};
    const weft_route_options cancellable = {.arg = probe, .cancellable = true};
    const weft_route_options half_close = {.arg = probe, .cancellable = true, .half_close = true};

    weft_route(server, "GET", "/wait", handle_wait, cancellable);
    weft_route(server, "POST", "/wait", handle_wait, cancellable);
    weft_route(server, "GET", "/wait-half-close", handle_wait, half_close);
    weft_route(server, "GET", "/gated", handle_wait, plain);
    weft_route(server, "GET", "/nested", handle_nested, cancellable);
    weft_route(server, "GET", "/cleans-up", handle_cleans_up, cancellable);
    weft_route(server, "GET", "/stops-later", handle_stops_later, cancellable);
    weft_route(server, "GET", "/swallow", handle_swallow, cancellable);
    weft_route(server, "GET", "/swallow-big", handle_swallow_big, plain);
    weft_route(server, "POST", "/open", handle_open, plain);
    weft_route(server, "GET", "/counts", handle_counts, plain);
    weft_route(server, "GET", "/text", handle_text, plain);
    weft_route(server, "GET", "/big/{bytes}", handle_big, plain);
    weft_route(server, "POST", "/echo", handle_echo, plain);
    weft_route(server, "GET", "/param/{value}", handle_param, plain);
    weft_route(server, "GET", "/param/literal", handle_text, plain);
    weft_route(server, "GET", "/query", handle_query, plain);
    weft_route(server, "GET", "/header", handle_header, plain);
    weft_route(server, "GET", "/number", handle_number, plain);
    weft_route(server, "POST", "/json", handle_json, plain);
    weft_route(server, "GET", "/empty", handle_empty, plain);
    weft_route(server, "GET", "/fail", handle_fail, plain);
    weft_route(server, "GET", "/refuse", handle_refuse, plain);
    weft_route(server, "GET", "/refuse-without-errcode", handle_refuse_without_errcode, plain);
    weft_route(server, "GET", "/refuse-with-bad-errcode", handle_refuse_with_bad_errcode, plain);
    weft_route(server, "GET", "/gives-up", handle_gives_up, plain);
    weft_route(server, "GET", "/twice", handle_twice, plain);
    weft_route(server, "GET", "/twice-careless", handle_twice_careless, plain);
    weft_route(server, "GET", "/silent", handle_silent, plain);
    weft_route(server, "GET", "/fields", handle_fields, plain);
    weft_route(server, "POST", "/usage", handle_usage, plain);
    weft_route(server, "GET", "/works-on", handle_works_on, plain);
    weft_route(server, "GET", "/outlived", handle_outlived, plain);
}

static int complain(weft_error *error)
{
    char text[512];

    weft_error_print(error, text, sizeof text);
    weft_error_unref(error);
    fprintf(stderr, "serve_probe: %s\n", text);
    return 1;
}

int main(int argc, char **argv)
{
    const char *address = argc > 1 ? argv[1] : "127.0.0.1:0";
    const weft_http_server_options options = {.drain = argc > 2 ? strtod(argv[2], NULL) : 0};
    struct probe probe = {.waiters = LIST_HEAD_INITIALIZER(probe.waiters)};
    weft_auto(weft_reactor_free) weft_reactor *reactor = NULL;
    weft_auto(weft_http_server_free) weft_http_server *server = NULL;
    weft_signal open_signal;
    weft_error *error;

    weft_log_set_level("", WEFT_LOG_DEBUG);
    if ((error = weft_reactor_new(&reactor)))
        return complain(error);
    server = weft_http_server_new(reactor, options);
    add_routes(server, &probe);
    if ((error = weft_http_server_listen(server, address)))
        return complain(error);
    weft_signal_init(&open_signal, on_signal, &probe);
    weft_signal_start(&open_signal, SIGUSR1);
    weft_http_serve(server);
    weft_signal_stop(&open_signal);
    return 0;
}

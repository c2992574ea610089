/* A chat-room service: weft's example.
 *
 *     POST /rooms/{room_id}/messages   {"sender": "ann", "body": "hello"} → 201 {"event_id": "$1"}
 *     GET  /rooms/{room_id}/messages?since=N           {"messages": […], "next": N}
 *     GET  /rooms/{room_id}/wait?since=N&timeout=S     the same, once there is something newer than N (by default: than
 *                                                      what is there now), or with no messages after S seconds (300)
 *     GET  /sleep/{seconds}                            runs to its end, whether or not its client waits
 *     GET  /cancellable-sleep/{seconds}                stops when its client leaves
 *     GET  /health
 *     GET  /metrics                                    for Prometheus
 *
 * usage: rooms [ADDRESS], by default 127.0.0.1:8008. Everything is kept in memory; how much, says rooms.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weft/weft.h>

#include "rooms.h"

static const double MAX_NUMBER = 9007199254740992.0; /* up to there a double counts */
static const double MAX_SECONDS = 3600;

/* ---- messages ---- */

/* The text of a field, borrowed from `object`. */
static weft_result text_field(const json_t *object, const char *name, size_t max_size)
{
    const json_t *field = json_object_get(object, name);

    if (!field)
        return weft_fail(weft_http_error(400, "M_MISSING_PARAM", "%s is missing", name));
    if (!json_string_length(field))
        return weft_fail(weft_http_error(400, "M_BAD_JSON", "%s is not a text, or empty", name));
    if (json_string_length(field) > max_size)
        return weft_fail(weft_http_error(413, "M_TOO_LARGE", "%s is longer than %zu bytes", name, max_size));
    return weft_ok((char *)json_string_value(field));
}

static weft_result post_message(weft_request *request, void *arg)
{
    weft_auto(room_unref) struct room *room = rooms_open(arg, weft_request_param(request, "room_id"));
    weft_auto(json_decref) json_t *message = WEFT_TRY(weft_request_json(request));
    const char *sender = WEFT_TRY(text_field(message, "sender", MAX_SENDER));
    const char *body = WEFT_TRY(text_field(message, "body", MAX_BODY));
    uint64_t number;
    char id[32];

    WEFT_CHECK(room_post(room, sender, body, &number));
    snprintf(id, sizeof id, "$%llu", (unsigned long long)number);
    return weft_respond_json(request, 201, json_pack("{s:s}", "event_id", id));
}

static weft_result get_messages(weft_request *request, void *arg)
{
    weft_auto(room_unref) struct room *room = rooms_open(arg, weft_request_param(request, "room_id"));
    double since;

    WEFT_CHECK(weft_request_query_number(request, "since", 0, 0, MAX_NUMBER, &since));
    return weft_respond_json(request, 200, room_to_json(room, (uint64_t)since));
}

static weft_result wait_for_room(weft_request *request, void *arg)
{
    weft_auto(room_unref) struct room *room = rooms_open(arg, weft_request_param(request, "room_id"));
    double since, timeout;
    weft_result news;

    WEFT_CHECK(weft_request_query_number(request, "since", (double)room_newest(room), 0, MAX_NUMBER, &since));
    WEFT_CHECK(weft_request_query_number(request, "timeout", 300, 0, MAX_SECONDS, &timeout));
    news = weft_await(weft_deferred_add_timeout(room_beyond(room, (uint64_t)since), weft_clock_current(), timeout));
    if (weft_error_is(weft_failed(news), &WEFT_TIMED_OUT))
        weft_result_drop(news);
    else
        WEFT_TRY(news);
    return weft_respond_json(request, 200, room_to_json(room, (uint64_t)since));
}

/* ---- sleeping ---- */

/* Two routes, one of them cancellable: a client that leaves early is logged with `200!` by one, `499!` by the other. */
static weft_result sleep_a_while(weft_request *request, void *arg)
{
    const char *text = weft_request_param(request, "seconds");
    char *end;
    double seconds = strtod(text, &end);

    (void)arg;
    if (*end || end == text || !(seconds >= 0 && seconds <= MAX_SECONDS))
        return weft_fail(weft_http_error(400, "M_INVALID_PARAM", "seconds is not a number from 0 to %g", MAX_SECONDS));
    WEFT_TRY(weft_sleep(seconds));
    return weft_respond_text(request, 200, "slept\n");
}

/* ---- health ---- */

static weft_result get_health(weft_request *request, void *arg)
{
    weft_live_counts live = weft_live_counts_get();
    json_t *counts = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "deferreds", (json_int_t)live.deferreds,
                               "errors", (json_int_t)live.errors, "contexts", (json_int_t)live.contexts, "timers",
                               (json_int_t)live.timers, "fibers", (json_int_t)live.fibers, "descriptors",
                               (json_int_t)live.descriptors, "connections", (json_int_t)live.connections, "requests",
                               (json_int_t)live.requests);

    (void)arg;
    return weft_respond_json(request, 200, json_pack("{s:s, s:o}", "status", "ok", "live", counts));
}

/* ---- the service ---- */

static void add_routes(weft_http_server *server, struct rooms *rooms)
{
    const weft_route_options with_rooms = {.arg = rooms};

    weft_route(server, "POST", "/rooms/{room_id}/messages", post_message, with_rooms);
    weft_route(server, "GET", "/rooms/{room_id}/messages", get_messages, with_rooms);
    weft_route(server, "GET", "/rooms/{room_id}/wait", wait_for_room,
               (weft_route_options){.cancellable = true, .arg = rooms});
    weft_route(server, "GET", "/sleep/{seconds}", sleep_a_while, (weft_route_options){0});
    weft_route(server, "GET", "/cancellable-sleep/{seconds}", sleep_a_while, (weft_route_options){.cancellable = true});
    weft_route(server, "GET", "/health", get_health, (weft_route_options){0});
    weft_route(server, "GET", "/metrics", weft_http_metrics, (weft_route_options){0});
}

static weft_error *run(const char *address)
{
    weft_auto(rooms_free) struct rooms *rooms = rooms_new();
    weft_auto(weft_reactor_free) weft_reactor *reactor = NULL;
    weft_auto(weft_http_server_free) weft_http_server *server = NULL;
    weft_error *error;

    if ((error = weft_reactor_new(&reactor)))
        return error;
    server = weft_http_server_new(reactor, (weft_http_server_options){0});
    add_routes(server, rooms);
    if ((error = weft_http_server_listen(server, address)))
        return error;
    weft_http_serve(server);
    return NULL;
}

int main(int argc, char **argv)
{
    weft_auto(weft_error_unref) weft_error *error = run(argc > 1 ? argv[1] : "127.0.0.1:8008");

    if (!error)
        return EXIT_SUCCESS;
    fprintf(stderr, "rooms: %s\n", weft_error_get_message(error));
    return EXIT_FAILURE;
}

/* serve_contexts [ADDRESS]: a server whose handlers say what they do, each line with the name that its client gave it: so a
 * test can tell from the log whether lines have the label of the request whose they are.
 *
 *     GET  /at-once/{name}     begins, and has finished
 *     GET  /turns/{name}       begins, goes on at the first turn, and has finished at the second
 *     GET  /background/{name}  answers, and works on in the background: a step at each of two turns
 *     GET  /process/{name}     the same as a process of its own
 *     GET  /gathers/{name}     gathers two workers, each of which takes two turns
 *     POST /turn/{name}        a turn for whoever of that name has waited longest */
#include <weft/http.h>
#include <weft/weft.h>

#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

enum { MAX_NAME = 32 };

struct waiter {
    TAILQ_ENTRY(waiter) link;
    const char *name;
    weft_deferred *turn;
};

static TAILQ_HEAD(, waiter) waiters = TAILQ_HEAD_INITIALIZER(waiters);

static weft_result wait_for_turn(const char *name)
{
    struct waiter waiter = {.name = name, .turn = weft_deferred_new(NULL, NULL)};
    weft_result turn;

    TAILQ_INSERT_TAIL(&waiters, &waiter, link);
    turn = weft_await(weft_deferred_ref(waiter.turn));
    TAILQ_REMOVE(&waiters, &waiter, link);
    weft_deferred_unref(waiter.turn);
    return turn;
}

static weft_result handle_turn(weft_request *request, void *unused)
{
    const char *name = weft_request_param(request, "name");
    struct waiter *waiter;

    (void)unused;
    TAILQ_FOREACH(waiter, &waiters, link) {
        if (!strcmp(waiter->name, name) && weft_deferred_get_state(waiter->turn) == WEFT_PENDING) {
            weft_deferred_callback(waiter->turn, weft_ok(NULL)); /* the list stays as it is until the waiter runs */
            return weft_respond_text(request, 200, "turned\n");
        }
    }
    return weft_fail(weft_http_error(404, "M_NOT_FOUND", "nobody waits as %s", name));
}

static weft_result handle_at_once(weft_request *request, void *unused)
{
    const char *name = weft_request_param(request, "name");

    (void)unused;
    weft_log_info("%s begins", name);
    weft_log_info("%s has finished", name);
    return weft_respond_text(request, 200, "done\n");
}

static weft_result handle_turns(weft_request *request, void *unused)
{
    const char *name = weft_request_param(request, "name");

    (void)unused;
    weft_log_info("%s begins", name);
    WEFT_TRY(wait_for_turn(name));
    weft_log_info("%s goes on", name);
    WEFT_TRY(wait_for_turn(name));
    weft_log_info("%s has finished", name);
    return weft_respond_text(request, 200, "done\n");
}

/* ---- in the background: the request's memory may be gone ---- */

static weft_result work_on(void *arg)
{
    char name[MAX_NAME];

    snprintf(name, sizeof name, "%s", (const char *)arg);
    for (int step = 1; step <= 2; step++) {
        WEFT_TRY(wait_for_turn(name));
        weft_log_info("%s takes step %d", name, step);
    }
    return weft_ok(NULL);
}

static weft_result handle_background(weft_request *request, void *unused)
{
    const char *name = weft_request_param(request, "name");

    (void)unused;
    weft_deferred_unref(weft_run_in_background(work_on, (void *)name));
    weft_log_info("%s answers", name);
    return weft_respond_text(request, 200, "done\n");
}

static weft_description worker = WEFT_DESCRIPTION("worker");

static weft_result handle_process(weft_request *request, void *unused)
{
    const char *name = weft_request_param(request, "name");

    (void)unused;
    weft_deferred_unref(weft_run_as_background_process(&worker, work_on, (void *)name));
    weft_log_info("%s answers", name);
    return weft_respond_text(request, 200, "done\n");
}

static weft_result handle_gathers(weft_request *request, void *unused)
{
    const char *name = weft_request_param(request, "name");
    weft_deferred *workers[2];
    weft_result all;

    (void)unused;
    for (int i = 0; i < 2; i++)
        workers[i] = weft_run_in_background(work_on, (void *)name);
    weft_log_info("%s begins", name);
    all = weft_await(weft_gather_results(workers, 2, 0));
    WEFT_TRY(all);
    weft_result_drop(all);
    weft_log_info("%s has finished", name);
    return weft_respond_text(request, 200, "done\n");
}

static int complain(weft_error *error)
{
    char text[512];

    weft_error_print(error, text, sizeof text);
    weft_error_unref(error);
    fprintf(stderr, "serve_contexts: %s\n", text);
    return 1;
}

int main(int argc, char **argv)
{
    weft_auto(weft_reactor_free) weft_reactor *reactor = NULL;
    weft_auto(weft_http_server_free) weft_http_server *server = NULL;
    weft_route_options plain = {.cancellable = false};
    weft_error *error;

    if ((error = weft_reactor_new(&reactor)))
        return complain(error);
    server = weft_http_server_new(reactor, (weft_http_server_options){0});
    weft_route(server, "GET", "/at-once/{name}", handle_at_once, plain);
    weft_route(server, "GET", "/turns/{name}", handle_turns, plain);
    weft_route(server, "GET", "/background/{name}", handle_background, plain);
    weft_route(server, "GET", "/process/{name}", handle_process, plain);
    weft_route(server, "GET", "/gathers/{name}", handle_gathers, plain);
    weft_route(server, "POST", "/turn/{name}", handle_turn, plain);
    if ((error = weft_http_server_listen(server, argc > 1 ? argv[1] : "127.0.0.1:0")))
        return complain(error);
    weft_http_serve(server);
    return 0;
}

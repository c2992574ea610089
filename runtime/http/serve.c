/* weft_http_serve: a server as a program. */
#include <signal.h>
#include <sys/resource.h>
#include <weft/log.h>

#include "runtime/http/server.h"

weft_logger weft__logger_http = WEFT_LOGGER("weft.http");

struct service {
    weft_http_server *server;
    weft_deferred *asked_to_stop;
    weft_signal interrupt;
    weft_signal terminate;
};

/* The first asks, the second insists. */
static void on_signal(weft_signal *watcher, int number, void *arg)
{
    struct service *service = arg;
    weft_deferred *asked = service->asked_to_stop;

    (void)watcher;
    service->asked_to_stop = NULL;
    if (asked) {
        weft_log_info("%s: shutting down", number == SIGINT ? "SIGINT" : "SIGTERM");
        weft_deferred_callback(asked, weft_ok(NULL));
        weft_deferred_unref(asked);
        return;
    }
    weft_log_info("asked again: waiting for nobody");
    weft__server_hurry(service->server);
}

/* A server has one descriptor per client, and the usual soft limit is for programs that use select(). */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void watch_signal(weft_signal *watcher, int number, struct service *service)
{
    weft_signal_init(watcher, on_signal, service);
    weft_signal_start(watcher, number);
}

static void announce(const weft_http_server *server)
{
    struct weft__listener *listener = NULL;

    while ((listener = weft__listener_next(server, listener)))
        weft_log_info("listening on http://%s", weft__listener_get_address(listener));
}

void weft_http_serve(weft_http_server *server)
{
    struct service service = {.server = server, .asked_to_stop = weft_deferred_new(NULL, NULL)};
    weft_deferred *asked = weft_deferred_ref(service.asked_to_stop);

    raise_descriptor_limit();
    watch_signal(&service.interrupt, SIGINT, &service);
    watch_signal(&service.terminate, SIGTERM, &service);
    announce(server);
    weft_result_drop(weft_reactor_run_until(server->reactor, asked));
    weft_result_drop(weft_reactor_run_until(server->reactor, weft_http_server_drain(server)));
    weft_signal_stop(&service.interrupt);
    weft_signal_stop(&service.terminate);
    weft_log_info("stopped");
}

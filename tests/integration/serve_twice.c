/* Two servers with the same routes in one process, each with a reactor and a thread of its own, for the tests of metrics.
 *
 * usage: serve_twice, on free ports: the first is announced as by any server, the second as "the second one listens on 4711" */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <weft/weft.h>
#include <weft/http.h>

static weft_result hello(weft_request *request, void *arg)
{
    (void)arg;
    return weft_respond_text(request, 200, "hello\n");
}

static weft_result wait_for_ever(weft_request *request, void *arg)
{
    (void)arg;
    WEFT_TRY(weft_sleep(1e6));
    return weft_respond_text(request, 200, "slept\n");
}

static void must(weft_error *error)
{
    if (!error)
        return;
    fprintf(stderr, "serve_twice: %s\n", weft_error_get_message(error));
    exit(EXIT_FAILURE);
}

static weft_http_server *server_new(weft_reactor *reactor)
{
    weft_http_server *server = weft_http_server_new(reactor, (weft_http_server_options){0});

    weft_route(server, "GET", "/hello", hello, (weft_route_options){0});
    weft_route(server, "GET", "/wait", wait_for_ever, (weft_route_options){.cancellable = true});
    weft_route(server, "GET", "/metrics", weft_http_metrics, (weft_route_options){0});
    must(weft_http_server_listen(server, "127.0.0.1:0"));
    return server;
}

struct second {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    weft_reactor *reactor;
};

static void *run_second(void *arg)
{
    struct second *second = arg;
    weft_reactor *reactor;
    weft_http_server *server;

    must(weft_reactor_new(&reactor));
    server = server_new(reactor);
    weft_log_info("the second one listens on %d", weft_http_server_get_port(server));
    pthread_mutex_lock(&second->lock);
    second->reactor = reactor;
    pthread_cond_signal(&second->changed);
    pthread_mutex_unlock(&second->lock);
    weft_reactor_run(reactor);
    weft_result_drop(weft_reactor_run_until(reactor, weft_http_server_drain(server)));
    weft_http_server_free(server);
    weft_reactor_free(reactor);
    return NULL;
}

static void stop(void *reactor)
{
    weft_reactor_stop(reactor);
}

int main(void)
{
    struct second second = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL};
    weft_reactor *reactor;
    weft_http_server *server;
    pthread_t thread;

    must(weft_reactor_new(&reactor));
    server = server_new(reactor);
    pthread_create(&thread, NULL, run_second, &second);
    pthread_mutex_lock(&second.lock);
    while (!second.reactor)
        pthread_cond_wait(&second.changed, &second.lock);
    pthread_mutex_unlock(&second.lock);
    weft_http_serve(server);
    weft_reactor_call_from_thread(second.reactor, stop, second.reactor);
    pthread_join(thread, NULL);
    weft_http_server_free(server);
    weft_reactor_free(reactor);
    return EXIT_SUCCESS;
}

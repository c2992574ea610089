/* The plaintext handler on weft: in a fiber, in a log context, accounting on, without request lines. */
#include <stdio.h>
#include <weft/http.h>

static weft_result hello(weft_request *request, void *arg)
{
    (void)arg;
    return weft_respond_text(request, 200, "Hello, World!\n");
}

static weft_error *serve(const char *address)
{
    weft_auto(weft_reactor_free) weft_reactor *reactor = NULL;
    weft_auto(weft_http_server_free) weft_http_server *server = NULL;
    weft_error *error;

    if ((error = weft_reactor_new(&reactor)))
        return error;
    server = weft_http_server_new(reactor, (weft_http_server_options){.no_request_line = true});
    weft_route(server, "GET", "/", hello, (weft_route_options){.cancellable = true});
    if ((error = weft_http_server_listen(server, address)))
        return error;
    weft_http_serve(server);
    return NULL;
}

int main(int argc, char **argv)
{
    char text[512];
    weft_error *error;

    if (argc != 2) {
        fprintf(stderr, "usage: weft PORT\n");
        return 2;
    }
    snprintf(text, sizeof text, "127.0.0.1:%s", argv[1]);
    error = serve(text);
    if (!error)
        return 0;
    weft_error_print(error, text, sizeof text);
    fprintf(stderr, "weft: %s\n", text);
    weft_error_unref(error);
    return 1;
}

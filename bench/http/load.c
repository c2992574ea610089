/* Sends so many requests and checks every response: the status, and each byte of the body. Prints the requests
 * answered and the size of a response. For counting instructions, where it matters how many requests there were and
 * not how fast; and for knowing that a server answers at all.
 *
 * Requests go out on all connections before the responses are read, so the server always finds work on all of them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODY "Hello, World!\n"

enum { MOST_CONNECTIONS = 512, MOST_DEPTH = 64, MOST_RESPONSE = 512 };

struct connection {
    int fd;
    size_t size; /* of what is in `text` */
    char text[MOST_DEPTH * MOST_RESPONSE + 1];
};

static struct connection connections[MOST_CONNECTIONS];

__attribute__((noreturn, format(printf, 1, 2))) static void give_up(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    exit(1);
}

static int connect_to(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval patience = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address))
        give_up("cannot connect to port %d", port);
    return fd;
}

/* The size of the response at the start of `text`, 0 when it has not arrived whole. */
static size_t response_size(const char *text)
{
    const char *end = strstr(text, "\r\n\r\n");
    const char *length;
    size_t body;

    if (!end)
        return 0;
    length = strcasestr(text, "\r\nContent-Length:");
    if (strncmp(text, "HTTP/1.1 200 ", 13) || !length || length > end)
        give_up("not the response that was asked for: %.*s", (int)(end - text), text);
    body = strtoul(length + 17, NULL, 10);
    if (body != sizeof BODY - 1)
        give_up("a body of %zu bytes", body);
    if (strlen(end + 4) < body)
        return 0;
    if (memcmp(end + 4, BODY, body))
        give_up("not the body that was asked for: %.*s", (int)body, end + 4);
    return (size_t)(end - text) + 4 + body;
}

/* Returns the size of one response. */
static size_t read_responses(struct connection *connection, int depth)
{
    size_t first = 0;

    for (int i = 0; i < depth;) {
        size_t size = response_size(connection->text);
        ssize_t got;

        if (size) {
            first = size;
            connection->size -= size;
            memmove(connection->text, connection->text + size, connection->size + 1);
            i++;
            continue;
        }
        got = read(connection->fd, connection->text + connection->size,
                   sizeof connection->text - 1 - connection->size);
        if (got <= 0)
            give_up("the connection ended, or stood still");
        connection->size += (size_t)got;
        connection->text[connection->size] = '\0';
    }
    if (connection->size)
        give_up("a response too many");
    return first;
}

int main(int argc, char **argv)
{
    int port = argc == 5 ? atoi(argv[1]) : 0;
    int count = argc == 5 ? atoi(argv[2]) : 0;
    int depth = argc == 5 ? atoi(argv[3]) : 0;
    int requests = argc == 5 ? atoi(argv[4]) : 0;
    char batch[MOST_DEPTH * 64] = "";
    size_t response = 0;

    if (count < 1 || count > MOST_CONNECTIONS || depth < 1 || depth > MOST_DEPTH || requests % (count * depth)) {
        fprintf(stderr, "usage: load PORT CONNECTIONS DEPTH REQUESTS, a multiple of CONNECTIONS times DEPTH\n");
        return 2;
    }
    for (int i = 0; i < depth; i++)
        sprintf(strchr(batch, '\0'), "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", port);
    for (int i = 0; i < count; i++)
        connections[i].fd = connect_to(port);
    for (int done = 0; done < requests; done += count * depth) {
        for (int i = 0; i < count; i++)
            if (write(connections[i].fd, batch, strlen(batch)) != (ssize_t)strlen(batch))
                give_up("cannot write");
        for (int i = 0; i < count; i++)
            response = read_responses(&connections[i], depth);
    }
    printf("%d %zu\n", requests, response);
    return 0;
}

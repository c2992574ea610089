/* Addresses: numbers only, as asking for names would have to wait. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/http/address.h"

static bool is_v6(const union weft__address *address)
{
    return address->any.sa_family == AF_INET6;
}

/* ---- reading ---- */

static bool parse_port(const char *text, in_port_t *port)
{
    char *end;
    long number;

    if (*text < '0' || *text > '9')
        return false;
    number = strtol(text, &end, 10);
    *port = htons((uint16_t)number);
    return !*end && number <= UINT16_MAX;
}

static bool parse_v4(const char *host, const char *port, struct sockaddr_in *out)
{
    out->sin_family = AF_INET;
    return inet_pton(AF_INET, host, &out->sin_addr) == 1 && parse_port(port, &out->sin_port);
}

static bool parse_v6(const char *host, const char *port, struct sockaddr_in6 *out)
{
    out->sin6_family = AF_INET6;
    return inet_pton(AF_INET6, host, &out->sin6_addr) == 1 && parse_port(port, &out->sin6_port);
}

/* `host` is a copy, to be cut. */
static bool parse(char *host, size_t size, const char *port, union weft__address *out)
{
    memset(out, 0, sizeof *out);
    if (size < 2 || host[0] != '[' || host[size - 1] != ']')
        return parse_v4(host, port, &out->v4);
    host[size - 1] = '\0';
    return parse_v6(host + 1, port, &out->v6);
}

weft_error *weft__address_parse(const char *text, union weft__address *out)
{
    const char *colon = strrchr(text, ':');
    size_t size = colon ? (size_t)(colon - text) : 0;
    char host[INET6_ADDRSTRLEN + 2];

    if (size && size < sizeof host) {
        memcpy(host, text, size);
        host[size] = '\0';
        if (parse(host, size, colon + 1, out))
            return NULL;
    }
    return weft_error_new(&WEFT_FAILURE,
                          "cannot listen on \"%s\": an address is written like 127.0.0.1:8008 or [::1]:8008", text);
}

/* ---- writing ---- */

const char *weft__address_print_host(const union weft__address *address, char text[WEFT__ADDRESS_SIZE])
{
    const void *host = is_v6(address) ? (const void *)&address->v6.sin6_addr : &address->v4.sin_addr;

    return inet_ntop(is_v6(address) ? AF_INET6 : AF_INET, host, text, WEFT__ADDRESS_SIZE);
}

const char *weft__address_print(const union weft__address *address, char text[WEFT__ADDRESS_SIZE])
{
    char host[WEFT__ADDRESS_SIZE];

    weft__address_print_host(address, host);
    snprintf(text, WEFT__ADDRESS_SIZE, is_v6(address) ? "[%.45s]:%d" : "%.45s:%d", host,
             weft__address_get_port(address));
    return text;
}

uint16_t weft__address_get_port(const union weft__address *address)
{
    return ntohs(is_v6(address) ? address->v6.sin6_port : address->v4.sin_port);
}

socklen_t weft__address_get_size(const union weft__address *address)
{
    return is_v6(address) ? sizeof address->v6 : sizeof address->v4;
}

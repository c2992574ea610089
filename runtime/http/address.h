/* Addresses of sockets, and how they are written. */
#ifndef WEFT_RUNTIME_HTTP_ADDRESS_H
#define WEFT_RUNTIME_HTTP_ADDRESS_H

#include <netinet/in.h>
#include <weft/error.h>

union weft__address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

enum { WEFT__ADDRESS_SIZE = INET6_ADDRSTRLEN + 8 }; /* of one as text */

/* Reads "127.0.0.1:8008" or "[::1]:8008"; the error is about listening there. */
weft_error *weft__address_parse(const char *text, union weft__address *out);

/* "127.0.0.1", and "127.0.0.1:8008". Both return `text`. */
const char *weft__address_print_host(const union weft__address *address, char text[WEFT__ADDRESS_SIZE]);
const char *weft__address_print(const union weft__address *address, char text[WEFT__ADDRESS_SIZE]);

uint16_t weft__address_get_port(const union weft__address *address);
socklen_t weft__address_get_size(const union weft__address *address);

#endif

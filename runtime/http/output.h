/* What waits to be written to a connection. */
#ifndef WEFT_RUNTIME_HTTP_OUTPUT_H
#define WEFT_RUNTIME_HTTP_OUTPUT_H

#include "runtime/http/pool.h"

enum { WEFT__BLOCK_SIZE = 16 * 1024 }; /* of a block of output, its segment included */

struct weft__segment {
    struct weft__segment *next;
    const char *bytes;
    size_t size;
    size_t room;           /* a block: bytes that can be added; else 0 */
    void (*drop)(void *);  /* of the owner of bytes that are elsewhere; a block has none */
    void *owner;
};

struct weft__output {
    struct weft__segment *first; /* NULL: nothing waits, and nothing is allocated */
    struct weft__segment *last;
    uint64_t queued; /* bytes, since the connection began */
    uint64_t sent;
};

static inline uint64_t weft__output_waiting(const struct weft__output *output)
{
    return output->queued - output->sent;
}

/* A new block, with at least that much room, behind the others. */
void weft__output_extend(struct weft__output *output, struct weft__pool *blocks, size_t size);

/* Room for `size` bytes in a row, to be filled and then committed. `blocks` is a pool of WEFT__BLOCK_SIZE. */
static inline char *weft__output_reserve(struct weft__output *output, struct weft__pool *blocks, size_t size)
{
    if (!output->first || output->last->room < size)
        weft__output_extend(output, blocks, size);
    return (char *)output->last->bytes + output->last->size;
}

/* Those of the bytes last reserved that lie before `end` were filled. */
static inline void weft__output_commit(struct weft__output *output, const char *end)
{
    struct weft__segment *block = output->last;
    size_t size = (size_t)(end - (block->bytes + block->size));

    block->size += size;
    block->room -= size;
    output->queued += size;
}

/* Queues bytes that stay where they are until they are sent; then `drop(owner)` is called. */
void weft__output_lend(struct weft__output *output, const void *bytes, size_t size, void (*drop)(void *), void *owner);

/* Writes what the socket takes. Returns 0, or the errno of a socket that will take no more. */
int weft__output_send(struct weft__output *output, struct weft__pool *blocks, int fd);
/* Drops what waits; it counts neither as sent nor as still to be sent. */
void weft__output_clear(struct weft__output *output, struct weft__pool *blocks);

#endif

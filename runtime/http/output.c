/* Output: a line of segments, gathered while a batch of requests is answered, that leaves with one writev.
 *
 * Heads and small bodies are copied one behind the other into blocks from a pool; a large body is a segment of its
 * own and stays where it is. A connection that has nothing to write has no block. */
#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runtime/http/output.h"

enum { MAX_PARTS = 64 };

static void append(struct weft__output *output, struct weft__segment *segment)
{
    segment->next = NULL;
    if (output->first)
        output->last->next = segment;
    else
        output->first = segment;
    output->last = segment;
}

/* A block of the pool's size; or, for something longer, of that length, which the pool will not see. */
static struct weft__segment *block_new(struct weft__pool *blocks, size_t size)
{
    bool ordinary = size <= blocks->size - sizeof(struct weft__segment);
    struct weft__segment *block = ordinary ? weft__pool_take(blocks) : weft_alloc(sizeof *block + size);

    block->bytes = (char *)(block + 1);
    block->size = 0;
    block->room = ordinary ? blocks->size - sizeof *block : size;
    block->drop = ordinary ? NULL : weft_free;
    block->owner = NULL;
    return block;
}

static void segment_free(struct weft__segment *segment, struct weft__pool *blocks)
{
    if (!segment->drop) {
        weft__pool_give(blocks, segment);
        return;
    }
    if (segment->owner)
        segment->drop(segment->owner);
    weft_free(segment);
}

void weft__output_extend(struct weft__output *output, struct weft__pool *blocks, size_t size)
{
    append(output, block_new(blocks, size));
}

void weft__output_lend(struct weft__output *output, const void *bytes, size_t size, void (*drop)(void *), void *owner)
{
    struct weft__segment *segment = weft_alloc(sizeof *segment);

    *segment = (struct weft__segment){.bytes = bytes, .size = size, .drop = drop, .owner = owner};
    append(output, segment);
    output->queued += size;
}

/* The socket took `size` bytes. */
static void advance(struct weft__output *output, struct weft__pool *blocks, size_t size)
{
    struct weft__segment *segment;

    output->sent += size;
    while ((segment = output->first) && size >= segment->size) {
        size -= segment->size;
        output->first = segment->next;
        segment_free(segment, blocks);
    }
    if (segment) {
        segment->bytes += size;
        segment->size -= size;
    }
}

static int gather(const struct weft__output *output, struct iovec *parts, size_t *total)
{
    int count = 0;

    *total = 0;
    for (struct weft__segment *segment = output->first; segment && count < MAX_PARTS; segment = segment->next) {
        parts[count].iov_base = (void *)segment->bytes;
        parts[count].iov_len = segment->size;
        *total += segment->size;
        count++;
    }
    return count;
}

/* What writev would do, without its preparations. */
static ssize_t send_one(const struct weft__output *output, int fd, size_t *total)
{
    *total = output->first->size;
    return write(fd, output->first->bytes, *total);
}

static ssize_t send_many(const struct weft__output *output, int fd, size_t *total)
{
    struct iovec parts[MAX_PARTS];
    int count = gather(output, parts, total);

    return writev(fd, parts, count);
}

int weft__output_send(struct weft__output *output, struct weft__pool *blocks, int fd)
{
    size_t total;

    while (output->first) {
        ssize_t sent = output->first->next ? send_many(output, fd, &total) : send_one(output, fd, &total);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : errno;
        advance(output, blocks, (size_t)sent);
        if ((size_t)sent < total)
            break;
    }
    return 0;
}

void weft__output_clear(struct weft__output *output, struct weft__pool *blocks)
{
    while (output->first) {
        struct weft__segment *segment = output->first;

        output->first = segment->next;
        segment_free(segment, blocks);
    }
}

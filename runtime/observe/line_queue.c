/* Lines that wait to be written.
 *
 * They stand in one piece, and their levels and lengths in another, which both only grow at the end. When the end is
 * reached they are moved to the beginning if at least a quarter is free, and else some are dropped until it is: so each
 * byte is moved a few times at most, and a line that comes to a full queue costs no more than its share.
 *
 * What is dropped follows Synapse's remote handler: DEBUG, then INFO, then the middle, as the oldest lines tell how it
 * began, and the newest how it is. */
#include <assert.h>
#include <string.h>

#include "runtime/observe/line_queue.h"

/* As lines of text have a hundred bytes, this is no limit; shorter ones run out of it first. */
enum { BYTES_PER_LINE = 32 };

void weft__line_queue_init(struct weft__line_queue *queue, size_t size)
{
    *queue = (struct weft__line_queue){.size = size, .room = size / BYTES_PER_LINE};
    queue->bytes = weft_alloc(queue->size);
    queue->lines = weft_alloc(queue->room * sizeof *queue->lines);
}

void weft__line_queue_deinit(struct weft__line_queue *queue)
{
    weft_free(queue->bytes);
    weft_free(queue->lines);
}

void weft__line_queue_forget(struct weft__line_queue *queue)
{
    queue->start = queue->used = queue->first = queue->count = 0;
}

/* ---- dropping ---- */

static bool is_tight(const struct weft__line_queue *queue)
{
    return queue->used > queue->size / 4 * 3 || queue->count > queue->room / 4 * 3;
}

static bool is_of_level(const struct weft__line *line, size_t before, size_t index, const void *level)
{
    (void)before, (void)index;
    return line->level == *(const uint32_t *)level;
}

struct middle {
    size_t bytes_from, bytes_to;
    size_t lines_from, lines_to;
};

/* Behind the first so many bytes, or lines, and before the last so many bytes, or lines: what stays has room by either. */
static bool is_in_middle(const struct weft__line *line, size_t before, size_t index, const void *arg)
{
    const struct middle *middle = arg;

    return (before + line->length > middle->bytes_from || index >= middle->lines_from) &&
           (before < middle->bytes_to || index < middle->lines_to);
}

/* Drops the lines for which `unwanted`, asked with how many bytes and lines there are before it, is true, and moves the
 * others to the beginning. */
static void sift(struct weft__line_queue *queue,
                 bool (*unwanted)(const struct weft__line *line, size_t before, size_t index, const void *arg),
                 const void *arg)
{
    size_t kept = 0, kept_bytes = 0, before = 0;

    for (size_t i = 0; i < queue->count; i++) {
        struct weft__line line = queue->lines[queue->first + i];

        if (unwanted(&line, before, i, arg)) {
            queue->dropped[line.level]++;
        } else {
            memmove(queue->bytes + kept_bytes, queue->bytes + queue->start + before, line.length);
            kept_bytes += line.length;
            queue->lines[kept++] = line;
        }
        before += line.length;
    }
    queue->start = queue->first = 0;
    queue->used = kept_bytes;
    queue->count = kept;
}

/* Keeps the first three eighths, and the last. */
static void drop_middle(struct weft__line_queue *queue)
{
    size_t bytes = queue->size / 8 * 3, lines = queue->room / 8 * 3;
    struct middle middle = {
        .bytes_from = bytes,
        .bytes_to = queue->used > bytes ? queue->used - bytes : 0,
        .lines_from = lines,
        .lines_to = queue->count > lines ? queue->count - lines : 0,
    };

    /* What is short of one kind of room only has its middle by that kind. */
    if (queue->used <= queue->size / 4 * 3)
        middle.bytes_from = queue->used, middle.bytes_to = 0;
    else if (queue->count <= queue->room / 4 * 3)
        middle.lines_from = queue->count, middle.lines_to = 0;
    sift(queue, is_in_middle, &middle);
}

static void shed(struct weft__line_queue *queue)
{
    static const uint32_t least_first[] = {WEFT_LOG_DEBUG, WEFT_LOG_INFO};

    for (size_t i = 0; i < sizeof least_first / sizeof *least_first && is_tight(queue); i++)
        sift(queue, is_of_level, &least_first[i]);
    if (is_tight(queue))
        drop_middle(queue);
}

static void move_to_beginning(struct weft__line_queue *queue)
{
    memmove(queue->bytes, queue->bytes + queue->start, queue->used);
    memmove(queue->lines, queue->lines + queue->first, queue->count * sizeof *queue->lines);
    queue->start = queue->first = 0;
}

/* ---- use ---- */

void weft__line_queue_put(struct weft__line_queue *queue, weft_log_level level, const char *bytes, size_t length)
{
    if (length > queue->size / 4) {
        queue->dropped[level]++;
        return;
    }
    if (queue->start + queue->used + length > queue->size || queue->first + queue->count == queue->room) {
        if (is_tight(queue))
            shed(queue);
        else
            move_to_beginning(queue);
    }
    memcpy(queue->bytes + queue->start + queue->used, bytes, length);
    queue->lines[queue->first + queue->count++] = (struct weft__line){(uint32_t)length, level};
    queue->used += length;
}

size_t weft__line_queue_take(struct weft__line_queue *queue, char *out, size_t room, size_t most,
                             uint32_t counts[WEFT__LINE_LEVELS])
{
    size_t taken = 0;

    while (queue->count && most--) {
        const struct weft__line *line = &queue->lines[queue->first];

        if (taken + line->length > room)
            break;
        taken += line->length;
        counts[line->level]++;
        queue->first++;
        queue->count--;
    }
    memcpy(out, queue->bytes + queue->start, taken);
    queue->start += taken;
    queue->used -= taken;
    if (!queue->count)
        queue->start = queue->first = 0;
    return taken;
}

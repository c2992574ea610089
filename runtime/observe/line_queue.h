/* Lines that wait to be written, in memory that does not grow: when it is full the least important go.
 *
 * Belongs to whoever holds its user's lock. */
#ifndef WEFT_RUNTIME_OBSERVE_LINE_QUEUE_H
#define WEFT_RUNTIME_OBSERVE_LINE_QUEUE_H

#include <weft/log.h>

enum { WEFT__LINE_LEVELS = WEFT_LOG_OFF };

struct weft__line {
    uint32_t length;
    uint32_t level;
};

struct weft__line_queue {
    char *bytes;               /* of the lines, one behind the other, from `start` on */
    size_t size, start, used;
    struct weft__line *lines;  /* the same, from `first` on */
    size_t room, first, count;
    uint64_t dropped[WEFT__LINE_LEVELS]; /* ever */
};

void weft__line_queue_init(struct weft__line_queue *queue, size_t size);
void weft__line_queue_deinit(struct weft__line_queue *queue);

/* Copies a line. One that is longer than a quarter of the queue is dropped. */
void weft__line_queue_put(struct weft__line_queue *queue, weft_log_level level, const char *bytes, size_t length);

/* Moves the oldest lines out, whole ones, as many as fit into `room` bytes but at most `most`, which must hold the
 * first. How many bytes that are; adds how many lines of each level to `counts`. */
size_t weft__line_queue_take(struct weft__line_queue *queue, char *out, size_t room, size_t most,
                             uint32_t counts[WEFT__LINE_LEVELS]);

void weft__line_queue_forget(struct weft__line_queue *queue); /* all lines; they do not count as dropped */

#endif

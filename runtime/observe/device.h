/* Where lines are written to: a descriptor of any kind, and how it is written without blocking for ever.
 *
 * Used by one thread at a time. */
#ifndef WEFT_RUNTIME_OBSERVE_DEVICE_H
#define WEFT_RUNTIME_OBSERVE_DEVICE_H

#include <weft/error.h>

struct weft__device {
    int fd;
    char *path;        /* of a file, or of a daemon's socket; NULL */
    bool datagrams;    /* each line is one */
    bool socket;       /* is sent to, which never blocks */
    bool polls;        /* it is waited for before each write, which is short then, as it may block */
    bool pieces;       /* it is a pipe: lines of several writers mix in what it does not take at once */
    bool torn;         /* the last line that was written is not whole */
    const bool *abandoned; /* atomic: no use in waiting any longer; NULL */
    uint64_t *progress;    /* atomic: grows with each write; NULL */
};

/* `blocks`: whoever writes may be kept waiting; `abandoned` is not heeded then. */
weft_error *weft__device_init_descriptor(struct weft__device *device, int fd, bool blocks) WEFT_MUST_USE;
weft_error *weft__device_init_file(struct weft__device *device, const char *path) WEFT_MUST_USE;
/* `doing`: "send the log to syslog at", for the error. */
weft_error *weft__device_init_daemon(struct weft__device *device, const char *path, const char *doing) WEFT_MUST_USE;
void weft__device_deinit(struct weft__device *device);

/* A new descriptor of the file. */
weft_error *weft__device_open_again(const struct weft__device *device, int *out) WEFT_MUST_USE;

/* Whether all of it was written. */
bool weft__device_write(struct weft__device *device, const char *bytes, size_t size);

#endif

/* Writing to descriptors of all kinds.
 *
 * A thread of its own writes, but it must be possible to end it while nobody reads: so it waits in poll, and looks up
 * ten times a second. The descriptor's own mode is left alone, as other processes share it. Pipes and terminals are
 * opened anew through /proc, which gives a description of our own; sockets can be told not to block by the call; and
 * where there is no /proc, no more is written at once than a pipe has room for where poll found some. Files do not keep
 * anybody waiting for ever. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/observe/device.h"

enum { LOOK_UP_MS = 100 };

static weft_error *os_error(const char *what, const char *path)
{
    return weft_error_os(errno, "cannot %s %s", what, path);
}

/* ---- opening ---- */

static int one_of_our_own(int fd)
{
    char path[40];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

weft_error *weft__device_init_descriptor(struct weft__device *device, int fd, bool blocks)
{
    struct stat status;

    *device = (struct weft__device){.fd = -1};
    if (fstat(fd, &status))
        return os_error("log to", "the descriptor");
    if (!blocks && (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)))
        device->fd = one_of_our_own(fd);
    device->socket = !blocks && S_ISSOCK(status.st_mode);
    device->pieces = S_ISFIFO(status.st_mode);
    device->polls = !blocks && device->fd < 0 && !device->socket && !S_ISREG(status.st_mode);
    if (device->fd < 0)
        device->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return device->fd < 0 ? os_error("log to", "the descriptor") : NULL;
}

/* O_NONBLOCK is for a named pipe, whose reader may not be there. */
weft_error *weft__device_open_again(const struct weft__device *device, int *out)
{
    *out = open(device->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    return *out < 0 ? os_error("open the log", device->path) : NULL;
}

weft_error *weft__device_init_file(struct weft__device *device, const char *path)
{
    weft_error *error;

    *device = (struct weft__device){.path = weft_strdup(path)};
    if ((error = weft__device_open_again(device, &device->fd)))
        weft_free(device->path);
    return error;
}

/* A descriptor, or -1 with errno. */
static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, error;

    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || !connect(fd, (struct sockaddr *)&address, sizeof address))
        return fd;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

weft_error *weft__device_init_daemon(struct weft__device *device, const char *path, const char *doing)
{
    *device = (struct weft__device){.fd = connect_to(path), .socket = true, .datagrams = true};
    if (device->fd < 0)
        return os_error(doing, path);
    device->path = weft_strdup(path);
    return NULL;
}

void weft__device_deinit(struct weft__device *device)
{
    if (device->fd >= 0)
        close(device->fd);
    weft_free(device->path);
}

/* ---- writing ---- */

static bool is_abandoned(const struct weft__device *device)
{
    return device->abandoned && __atomic_load_n(device->abandoned, __ATOMIC_RELAXED);
}

/* False when it was abandoned. */
static bool wait_until_writable(const struct weft__device *device)
{
    struct pollfd waited = {.fd = device->fd, .events = POLLOUT};

    while (!is_abandoned(device)) {
        if (poll(&waited, 1, LOOK_UP_MS) > 0)
            return true;
    }
    return false;
}

/* What a pipe takes in one piece, or not at all: so lines of several processes do not mix, unless they are longer. */
static size_t whole_lines(const char *bytes, size_t size)
{
    const char *end;

    if (size <= PIPE_BUF)
        return size;
    end = memrchr(bytes, '\n', PIPE_BUF);
    return end ? (size_t)(end + 1 - bytes) : PIPE_BUF;
}

static ssize_t write_some(const struct weft__device *device, const char *bytes, size_t size)
{
    if (device->socket)
        return send(device->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (device->polls && !wait_until_writable(device))
        return 0;
    return write(device->fd, bytes, device->polls || device->pieces ? whole_lines(bytes, size) : size);
}

/* The daemon that was there has gone: another may have come. */
static bool connect_again(struct weft__device *device)
{
    int fd = connect_to(device->path);

    if (fd < 0)
        return false;
    if (device->fd >= 0)
        close(device->fd);
    device->fd = fd;
    return true;
}

/* How much of it was written. */
static size_t write_all(struct weft__device *device, const char *bytes, size_t size)
{
    bool connected_again = false;
    size_t done = 0;

    while (done < size) {
        ssize_t written = write_some(device, bytes + done, size - done);

        if (written > 0) {
            done += (size_t)written;
            if (device->progress)
                __atomic_fetch_add(device->progress, 1, __ATOMIC_RELAXED);
        } else if (written == 0) {
            break;
        } else if (errno == EAGAIN) {
            if (!wait_until_writable(device))
                break;
        } else if (errno != EINTR) {
            if (!device->datagrams || connected_again || errno == EMSGSIZE || !connect_again(device))
                break;
            connected_again = true;
        }
    }
    return done;
}

bool weft__device_write(struct weft__device *device, const char *bytes, size_t size)
{
    size_t done;

    /* What comes behind half a line must not look like its end. */
    if (device->torn && write_all(device, "\n", 1) < 1)
        return false;
    device->torn = false;
    done = write_all(device, bytes, size);
    device->torn = done && done < size && bytes[done - 1] != '\n';
    return done == size;
}

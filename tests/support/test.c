/* What a test may not leave behind: weft's own counts, and the descriptors of the process as the kernel lists them, so
 * that one weft forgot to count is seen too. Both are compared with what they were before the test, as the runner has
 * descriptors of its own. */
#include "tests/support/test.h"

#include <dirent.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <weft/live.h>

static const char *const count_names[] = {
    "deferreds", "errors", "contexts", "timers", "fibers", "scopes", "descriptors", "connections", "requests",
};
typedef union counts {
    weft_live_counts named;
    size_t each[sizeof(weft_live_counts) / sizeof(size_t)];
} counts;
_Static_assert(sizeof count_names / sizeof *count_names == sizeof(weft_live_counts) / sizeof(size_t),
               "count_names follows weft_live_counts, field by field");

enum { DESCRIPTORS = 65536 };
static counts counts_before;
static unsigned char open_before[DESCRIPTORS];

/* Calls `fn` for each open descriptor but the one that reads the list. */
static void each_descriptor(void (*fn)(int fd, void *arg), void *arg)
{
    DIR *list = opendir("/proc/self/fd");
    struct dirent *entry;

    cr_assert_not_null(list, "cannot read /proc/self/fd");
    while ((entry = readdir(list))) {
        int fd = atoi(entry->d_name);

        if (entry->d_name[0] != '.' && fd != dirfd(list) && fd < DESCRIPTORS)
            fn(fd, arg);
    }
    closedir(list);
}

static void note_open(int fd, void *arg)
{
    (void)arg;
    open_before[fd] = 1;
}

static void report_new(int fd, void *arg)
{
    char path[64], target[PATH_MAX] = "?";

    if (open_before[fd])
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (readlink(path, target, sizeof target - 1) < 0)
        strcpy(target, "?");
    fprintf(stderr, "left open: descriptor %d, %s\n", fd, target);
    ++*(int *)arg;
}

/* Without any network the loopback interface may be down, as it is in a fresh network namespace. When root runs the tests
 * this brings it up; otherwise the first test that connects says what is wrong. */
static void bring_up_loopback(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo"};

    if (fd < 0)
        return;
    if (ioctl(fd, SIOCGIFFLAGS, &request) == 0 && !(request.ifr_flags & IFF_UP)) {
        request.ifr_flags |= IFF_UP | IFF_RUNNING;
        ioctl(fd, SIOCSIFFLAGS, &request);
    }
    close(fd);
}

void weft_test_begin(void)
{
    bring_up_loopback();
    counts_before.named = weft_live_counts_get();
    memset(open_before, 0, sizeof open_before);
    each_descriptor(note_open, NULL);
}

void weft_test_end(const char *suite, const char *name)
{
    counts now = {.named = weft_live_counts_get()};
    int left_open = 0;

    for (size_t i = 0; i < sizeof count_names / sizeof *count_names; i++)
        cr_assert_eq(now.each[i], counts_before.each[i], "%s/%s leaves %s behind: %zu before, %zu after", suite, name,
                     count_names[i], counts_before.each[i], now.each[i]);
    each_descriptor(report_new, &left_open);
    cr_assert_eq(left_open, 0, "%s/%s leaves %d descriptors open", suite, name, left_open);
}

const char *weft_test_program(const char *name)
{
    static char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    char *file;
    size_t room;

    cr_assert(length > 0, "cannot read /proc/self/exe");
    path[length] = '\0';
    file = strrchr(path, '/') + 1;
    room = sizeof path - (size_t)(file - path);
    cr_assert((size_t)snprintf(file, room, "%s", name) < room, "%s: the path is too long", name);
    return path;
}

/* Asking a thread what it is doing, while it does it. */
#ifndef WEFT_RUNTIME_LOOP_SAMPLE_H
#define WEFT_RUNTIME_LOOP_SAMPLE_H

#include <sys/types.h>

#include "lib/thread.h"

enum { WEFT__SAMPLE_TEXT = 96, WEFT__SAMPLE_FRAMES = 64 };

struct weft__sample {
    char fiber[WEFT__SAMPLE_TEXT];   /* its name; empty: no fiber runs, but a callback */
    const weft_place *place;         /* where the fiber waited last, or was started */
    bool waited;                     /* it has */
    char context[WEFT__SAMPLE_TEXT]; /* its name; empty: none */
    void *frames[WEFT__SAMPLE_FRAMES];
    int frame_count;
};

/* Makes asking possible: takes over SIGURG, which is ignored by default. Others' use of it goes on: what does not come
 * from here is passed on to the handler that was there before. */
WEFT_INTERNAL void weft__samples_begin(void);
WEFT_INTERNAL void weft__samples_end(void);
/* In a child made by fork: whoever was asking is gone. Ends it as well. */
WEFT_INTERNAL void weft__samples_forked(void);

/* Stops the thread for some microseconds, by a signal, and looks at it. False when it has not answered for half a second:
 * it may block the signal, or the program has taken the signal for itself. One at a time. */
WEFT_INTERNAL bool weft__sample_take(struct weft__sample *sample, const struct weft__thread *thread, pid_t tid);
/* Its frames in one line, innermost first: "name+0x1f (module+0x1234) < ...". What stands in parentheses is for
 * addr2line. */
WEFT_INTERNAL void weft__sample_print_frames(const struct weft__sample *sample, char *out, size_t size);

#endif

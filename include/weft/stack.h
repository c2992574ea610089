/* weft/stack.h: the stacks of fibers: how large they are, how guarded, how many are kept, and how much of one was used.
 *
 * Sizes are in bytes, and count what a fiber may use, of which the uppermost 1.5 KiB are weft's own. They are rounded up so
 * that stack and guard together are a power of two: 16, 48, 112 (the default), 240 KiB and so on up to 1 GiB, where pages
 * are 4 KiB. Only memory that a fiber touched is backed by any, so a large stack that is hardly used costs no more than a
 * small one.
 *
 * Below each stack is a guard of at least 16 KiB. A fiber that runs into it ends the process: one line on stderr names the
 * fiber and its entry function, then the process dies of the fault's own signal, core file and exit status included. For
 * this a handler of SIGSEGV and SIGBUS is installed when the first stack is made, which hands every fault that is not such
 * an overflow to the handler that was there before; it runs on a signal stack (sigaltstack) that a thread gets with its
 * first fiber, unless it has one. A handler that the program installs later takes its place, and may call it in turn.
 *
 * A function whose buffers are larger than the guard could step over it: large ones belong in weft_alloc, and
 * -fstack-clash-protection makes sure. */
#ifndef WEFT_STACK_H
#define WEFT_STACK_H

#include <weft/error.h>

WEFT_BEGIN

/* ---- options ------------------------------------------------------------------------------------------------------ */

typedef enum weft_stack_guard {
    WEFT_GUARD_AUTO,     /* the first of these that the machine has */
    WEFT_GUARD_MADVISE,  /* MADV_GUARD_INSTALL, Linux 6.13 */
    WEFT_GUARD_MPROTECT, /* two mappings a stack: 32,000 fibers with the kernel's default of vm.max_map_count */
    /* Words below the stack, looked at when the fiber is left: an overflow is seen late, after it may have done harm, and
     * not at all when it left them as they were. The process then dies of SIGABRT. Costs 4 KiB more a fiber. */
    WEFT_GUARD_CANARY,
} weft_stack_guard;

/* Zeroed is fine. */
typedef struct weft_stack_options {
    size_t size; /* of a fiber that was started without a size; 0: 112 KiB; more than 1 GiB is WEFT_MISUSE */
    weft_stack_guard guard;
    /* How many bytes of idle stacks each thread keeps, counted as if each were used to its guard; 0: 128 MiB, or 1024 stacks
     * of the default size. When there are more, those that were idle longest give their memory back, until there are half as
     * many. A load whose idle stacks come and go within half of it thus makes no system calls for them. 1 keeps none. */
    size_t idle;
    /* Fills each stack with a pattern, so that peaks are exact to the word. For measuring: the whole of each stack is then
     * backed by memory, and starting a fiber takes microseconds. */
    bool paint;
    bool no_handler; /* leaves SIGSEGV, SIGBUS and signal stacks alone: an overflow dies without a message */
} weft_stack_options;

/* For the whole process, before its first fiber; later it is a WEFT_MISUSE error, as are values that make no sense: then
 * nothing changes. May be called again until then. A guard that the machine does not have is an error of the first spawn. */
WEFT_API weft_error *weft_stack_configure(weft_stack_options options) WEFT_MUST_USE;

/* ---- asking ------------------------------------------------------------------------------------------------------- */

/* Which way stacks are guarded in this process: "guard pages (MADV_GUARD_INSTALL)", "guard pages (mprotect)" or "canary
 * words"; "none: …" before the first fiber. Static text. */
WEFT_API const char *weft_fiber_guard(void);

/* Bytes of whole stacks, guards included, of which only those pages are in memory that were touched. */
typedef struct weft_stack_use {
    size_t in_use;
    size_t idle; /* kept for the next fibers */
    size_t peak; /* the most that were in use at a time; with stacks of several sizes, what was seen of that */
} weft_stack_use;

/* Of this thread's reactor; zeroes before its first fiber. */
WEFT_API weft_stack_use weft_stack_use_get(void);

/* How much of its stack the running fiber has used at most, in bytes from the upper end: a stack_size that would have been
 * enough. In whole pages, and for all fibers that had this stack since it got its memory (those pages that are in memory, so
 * not what was swapped out); with `paint`, of this fiber alone and to the word, apart from words that it never wrote. 0
 * outside a fiber, and where the kernel does not tell (mincore). Takes some microseconds; a system call without `paint`. */
WEFT_API size_t weft_fiber_stack_peak(void);

WEFT_END

#endif

/* What AddressSanitizer, ThreadSanitizer and Valgrind have to be told about stacks. Nothing, in an ordinary build. */
#ifndef WEFT_RUNTIME_FIBER_SANITIZER_H
#define WEFT_RUNTIME_FIBER_SANITIZER_H

#include <stddef.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#if __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__)
#define __SANITIZE_THREAD__ 1
#endif
#endif

/* ---- Valgrind: must know stacks, or takes a switch for a huge allocation ---- */

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>

static inline unsigned weft__valgrind_stack(char *low, char *high)
{
    return VALGRIND_STACK_REGISTER(low, high);
}

static inline void weft__valgrind_forget(unsigned id)
{
    VALGRIND_STACK_DEREGISTER(id);
    (void)id;
}

static inline void weft__valgrind_clean(char *low, size_t size)
{
    VALGRIND_MAKE_MEM_UNDEFINED(low, size);
    (void)low, (void)size;
}

static inline int weft__valgrind_runs(void)
{
    return RUNNING_ON_VALGRIND != 0;
}

/* Memory may be read that nobody wrote, or that lies below a stack pointer. */
static inline void weft__valgrind_readable(void *low, size_t size)
{
    VALGRIND_MAKE_MEM_DEFINED(low, size);
    (void)low, (void)size;
}
#else
static inline unsigned weft__valgrind_stack(char *low, char *high)
{
    (void)low, (void)high;
    return 0;
}

static inline void weft__valgrind_forget(unsigned id)
{
    (void)id;
}

static inline void weft__valgrind_clean(char *low, size_t size)
{
    (void)low, (void)size;
}

static inline int weft__valgrind_runs(void)
{
    return 0;
}

static inline void weft__valgrind_readable(void *low, size_t size)
{
    (void)low, (void)size;
}
#endif

/* ---- AddressSanitizer: keeps red zones, and may keep frames elsewhere ---- */

struct weft__sanitizer {
    void *fake_stack; /* AddressSanitizer's, of the one who switched away */
    const void *low;  /* of a thread's own stack: learnt by the first switch away from it */
    size_t size;
    void *thread; /* ThreadSanitizer's idea of this fiber */
};

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

/* A stack begins anew. It was left by a switch, without its frames being closed; Valgrind thinks that what lies below the
 * last stack pointer may not be touched. */
static inline void weft__stack_clean(char *low, size_t size)
{
#ifdef __SANITIZE_ADDRESS__
    ASAN_UNPOISON_MEMORY_REGION(low, size);
#endif
    weft__valgrind_clean(low, size);
}

/* Whether a stack must be cleaned so before it is used again. */
static inline int weft__stacks_watched(void)
{
#ifdef __SANITIZE_ADDRESS__
    return 1;
#endif
    return weft__valgrind_runs();
}

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

/* A fiber begins: its stack is [low, low + size). */
static inline void weft__sanitizer_begin(struct weft__sanitizer *fiber, const void *low, size_t size)
{
    fiber->fake_stack = NULL;
    fiber->low = low;
    fiber->size = size;
#ifdef __SANITIZE_THREAD__
    fiber->thread = __tsan_create_fiber(0);
#endif
}

/* A fiber has ended and been left. */
static inline void weft__sanitizer_end(struct weft__sanitizer *fiber)
{
#ifdef __SANITIZE_THREAD__
    __tsan_destroy_fiber(fiber->thread);
#endif
    (void)fiber;
}

/* Right before the switch from one to the other; the one that `ends` never comes back. */
static inline void weft__sanitizer_leave(struct weft__sanitizer *from, struct weft__sanitizer *to, int ends)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(ends ? NULL : &from->fake_stack, to->low, to->size);
#endif
#ifdef __SANITIZE_THREAD__
    if (!from->thread) /* the thread's own stack */
        from->thread = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to->thread, 0);
#endif
    (void)from, (void)to, (void)ends;
}

/* First thing on the other side: `self` has been switched to, for the first time or back, from `from`. */
static inline void weft__sanitizer_arrive(struct weft__sanitizer *self, struct weft__sanitizer *from)
{
#ifdef __SANITIZE_ADDRESS__
    const void *low;
    size_t size;

    __sanitizer_finish_switch_fiber(self->fake_stack, &low, &size);
    if (!from->low) { /* a thread's own stack, of which we did not know where it lies */
        from->low = low;
        from->size = size;
    }
#endif
    (void)self, (void)from;
}

#endif

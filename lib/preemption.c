/* The sequence that nobody is ever inside. */
#include <pthread.h>
#include <stddef.h>

#include "lib/preemption.h"
#include "lib/slab.h"

#if defined(__GLIBC__) && __has_include(<sys/rseq.h>) && (defined(__x86_64__) || defined(__aarch64__))
#include <sys/rseq.h>

/* Where the program finds an older glibc than its header was of, there are neither. */
#pragma weak __rseq_offset
#pragma weak __rseq_size

/* The kernel's struct rseq_cs, and the signature that it wants to see before the place to go to. It is of no length. */
struct sequence {
    uint32_t version;
    uint32_t flags;
    uint64_t begins;
    uint64_t length;
    uint64_t aborts_to;
    uint32_t signature;
    uint32_t end;
} __attribute__((aligned(64)));

static struct sequence *nobodys;

/* Never freed: the kernel may look at it when this library has been unloaded. */
static void make_nobodys(void)
{
    struct sequence *sequence = weft__alloc_lines(sizeof *sequence);

    *sequence = (struct sequence){
        .begins = (uintptr_t)&sequence->signature, .aborts_to = (uintptr_t)&sequence->end, .signature = RSEQ_SIG};
    nobodys = sequence;
}

static char *thread_pointer(void)
{
    char *pointer;

#if defined(__x86_64__)
    __asm__("movq %%fs:0, %0" : "=r"(pointer));
#else
    __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
#endif
    return pointer;
}

/* NULL when the kernel does not know this thread's. */
static struct rseq *shared_with_kernel(void)
{
    struct rseq *shared;

    if (!&__rseq_size || !__rseq_size)
        return NULL;
    shared = (struct rseq *)(thread_pointer() + __rseq_offset);
    return (int32_t)shared->cpu_id < 0 ? NULL : shared;
}

static bool marks(struct weft__preemption *preemption)
{
    static pthread_once_t made = PTHREAD_ONCE_INIT;
    struct rseq *shared = shared_with_kernel();

    if (!shared)
        return false;
    pthread_once(&made, make_nobodys);
    preemption->mark = (uint64_t *)(void *)&shared->rseq_cs;
    preemption->sequence = (uintptr_t)nobodys;
    return true;
}
#else
static bool marks(struct weft__preemption *preemption)
{
    (void)preemption;
    return false;
}
#endif

void weft__preemption_open(struct weft__preemption *preemption)
{
    if (!marks(preemption)) {
        preemption->mark = &preemption->unmarked;
        preemption->sequence = 1;
    }
    weft__preemption_await(preemption);
}

/* Who holds a lock: a few numbers of tasks. A number is never used again, so one that has ended is not taken for another. */
#include "lib/holders.h"

#include <weft/linearizer.h>
#include <weft/lock.h>
#include <weft/read_write_lock.h>
#include <weft/semaphore.h>

#include "lib/task.h"

static void add(struct weft__holders *holders, uint64_t number)
{
    if (holders->known < WEFT__HOLDERS)
        holders->tasks[holders->known++] = number;
}

void weft__holders_grant(struct weft__holders *holders, weft_deferred *deferred)
{
    uint64_t number = weft__task_awaiting(deferred);

    if (number)
        add(holders, number);
    else
        deferred->flags |= WEFT__GRANT;
}

static bool is_grant(weft_result result)
{
    const weft_type *type = result.type;

    return type == &weft_lock_type || type == &weft_semaphore_type || type == &weft_linearizer_type ||
           type == &weft_read_lock_type || type == &weft_write_lock_type;
}

void weft__holders_took(weft_result result, uint64_t number)
{
    if (is_grant(result))
        add(result.value, number);
}

void weft__holders_forget(struct weft__holders *holders)
{
    uint64_t number = weft__thread.task ? weft__thread.task->number : 0;
    uint32_t i = 0;

    while (i < holders->known && holders->tasks[i] != number)
        i++;
    if (i < holders->known)
        holders->tasks[i] = holders->tasks[--holders->known];
    else
        holders->known = 0;
}

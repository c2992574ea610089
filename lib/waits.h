/* Who waits for whom: the tasks of a thread, the deferreds that they wait for, and who is to fire those.
 *
 * A deferred that waits for another, or is a task's, says so itself. What other pending ones wait for, a lock say, those
 * know who made them: they are recognized by their canceller. One that is not is for somebody unknown to fire: a socket, a
 * timer. */
#ifndef WEFT_LIB_WAITS_H
#define WEFT_LIB_WAITS_H

#include "lib/deferred.h"
#include "lib/holders.h"
#include "lib/task.h"

struct weft__wait_node {
    const struct weft__task *task;   /* one of these two */
    const weft_deferred *deferred;
    const char *what;                /* of a deferred, what it is in line for: "lock"; NULL */
    uint32_t first, count;           /* of the edges: whom it waits for */
    bool any;                        /* one of them is enough */
    bool others;                     /* there are some that are not known */
    uint8_t state;                   /* of the search */
    uint32_t left;
    uint32_t depth;
    uint32_t said;
};

/* The tasks are the first nodes, oldest first. */
struct weft__waits {
    struct weft__wait_node *nodes;
    uint32_t *edges; /* to nodes, by their index */
    uint32_t *table; /* of the deferreds: index + 1, or 0 */
    uint32_t tasks, count, room, edge_count, edge_room, table_size;
    uint32_t current; /* the node whose edges are being named */
};

/* ---- kinds of waiting ---- */

struct weft__wait_kind {
    weft_cancel_fn *canceller;
    void (*name)(void *arg, struct weft__waits *waits); /* with the functions below; `arg` is the canceller's */
};

/* Those of lib/. That of groups comes with fibers: struct weft__stackful. */
extern const struct weft__wait_kind weft__many_waits, weft__tokens_waits, weft__read_write_waits, weft__condition_waits;

void weft__waits_what(struct weft__waits *waits, const char *what);
/* All of those that are named have to come first, unless one is enough. */
void weft__waits_any(struct weft__waits *waits);
void weft__waits_deferred(struct weft__waits *waits, const weft_deferred *deferred);
/* The ends of the tasks that were spawned into a group with that scope and are counted by it: so many, or some are not
 * known. */
WEFT_INTERNAL void weft__waits_counted(struct weft__waits *waits, const weft_scope *scope, size_t count);
/* The holders that are known, out of so many. */
void weft__waits_holders(struct weft__waits *waits, const struct weft__holders *holders, size_t held);

/* ---- the whole ---- */

/* Of this thread, as it is now. Takes time and memory in proportion to what waits. */
void weft__waits_init(struct weft__waits *waits);
void weft__waits_deinit(struct weft__waits *waits);
/* Calls `found` for circles in which nobody can go on: at least one for each knot of them, none twice. `path` are the nodes,
 * each waiting for the next and the last for the first. */
void weft__waits_find_circles(struct weft__waits *waits,
                              void (*found)(const struct weft__waits *waits, const uint32_t *path, size_t length, void *arg),
                              void *arg);

#endif

/* The graph of who waits for whom, and its circles.
 *
 * Not each circle is a deadlock: who waits for the first of two may go on if the other does. So first those are found who
 * can go on, from those who wait for nothing that is known: along the edges backwards, each edge once. Who is left over
 * waits for others that are left over. Among these a search in depth finds the circles, each edge once again: one that
 * leads back into the path closes one. Both keep their books in arrays, so neither takes more C stack for more waiters. */
#include "lib/waits.h"

enum { CAN_GO, STUCK, ON_PATH, SEARCHED };

static const struct weft__wait_kind *const kinds[] = {&weft__many_waits, &weft__tokens_waits, &weft__read_write_waits,
                                                      &weft__condition_waits};

/* ---- nodes and edges ---- */

static uint32_t add_node(struct weft__waits *waits, struct weft__wait_node node)
{
    if (waits->count == waits->room) {
        waits->room = waits->room ? waits->room * 2 : 64;
        waits->nodes = weft_realloc(waits->nodes, waits->room * sizeof *waits->nodes);
    }
    waits->nodes[waits->count] = node;
    return waits->count++;
}

static void add_edge(struct weft__waits *waits, uint32_t to)
{
    if (waits->edge_count == waits->edge_room) {
        waits->edge_room = waits->edge_room ? waits->edge_room * 2 : 64;
        waits->edges = weft_realloc(waits->edges, waits->edge_room * sizeof *waits->edges);
    }
    waits->edges[waits->edge_count++] = to;
    waits->nodes[waits->current].count++;
}

/* Where `deferred` stands in the table, or is to stand. */
static uint32_t *slot_of(const struct weft__waits *waits, const weft_deferred *deferred)
{
    uint32_t i = (uint32_t)(((uint64_t)(uintptr_t)deferred * 0x9e3779b97f4a7c15u) >> 32);

    while (waits->table[i &= waits->table_size - 1] && waits->nodes[waits->table[i] - 1].deferred != deferred)
        i++;
    return &waits->table[i];
}

static void grow_table(struct weft__waits *waits)
{
    weft_free(waits->table);
    waits->table_size *= 2;
    waits->table = weft_alloc_zeroed(waits->table_size * sizeof *waits->table);
    for (uint32_t i = waits->tasks; i < waits->count; i++)
        *slot_of(waits, waits->nodes[i].deferred) = i + 1;
}

static uint32_t node_of(struct weft__waits *waits, const weft_deferred *deferred)
{
    uint32_t *slot = slot_of(waits, deferred);

    if (*slot)
        return *slot - 1;
    *slot = add_node(waits, (struct weft__wait_node){.deferred = deferred}) + 1;
    if ((waits->count - waits->tasks) * 2 > waits->table_size)
        grow_table(waits);
    return waits->count - 1;
}

/* ---- naming who is waited for ---- */

void weft__waits_what(struct weft__waits *waits, const char *what)
{
    waits->nodes[waits->current].what = what;
}

void weft__waits_any(struct weft__waits *waits)
{
    waits->nodes[waits->current].any = true;
}

void weft__waits_deferred(struct weft__waits *waits, const weft_deferred *deferred)
{
    add_edge(waits, node_of(waits, deferred));
}

/* The nodes of tasks stand in the order of their numbers. */
static void add_task(struct weft__waits *waits, uint64_t number)
{
    uint32_t low = 0, high = waits->tasks;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (waits->nodes[middle].task->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < waits->tasks && waits->nodes[low].task->number == number)
        add_edge(waits, low);
    else
        waits->nodes[waits->current].others = true;
}

static bool is_among(const struct weft__holders *holders, uint32_t end, uint64_t number)
{
    for (uint32_t i = 0; i < end; i++) {
        if (holders->tasks[i] == number)
            return true;
    }
    return false;
}

void weft__waits_holders(struct weft__waits *waits, const struct weft__holders *holders, size_t held)
{
    for (uint32_t i = 0; i < holders->known; i++) {
        if (!is_among(holders, i, holders->tasks[i]))
            add_task(waits, holders->tasks[i]);
    }
    if (held > holders->known)
        waits->nodes[waits->current].others = true;
}

/* Each began with the group's scope as its innermost. So it is right in that still, or owns a scope that is: and in no
 * other group's, so that all of them together take a look at each task, and at each scope, once. */
void weft__waits_counted(struct weft__waits *waits, const weft_scope *scope, size_t count)
{
    uint32_t before = waits->nodes[waits->current].count;

    for (const struct weft__task *task = scope->tasks; task; task = task->scope_older) {
        if (task->counted && task != scope->owner)
            add_task(waits, task->number);
    }
    for (const weft_scope *child = scope->child; child; child = child->older) {
        if (child->owner && child->owner->counted && child->owner != scope->owner)
            add_task(waits, child->owner->number);
    }
    if (waits->nodes[waits->current].count - before < count)
        waits->nodes[waits->current].others = true;
}

static const struct weft__wait_kind *kind_of(weft_cancel_fn *canceller)
{
    const struct weft__stackful *stackful = weft__thread.tasks.stackful;

    if (stackful && stackful->leave->canceller == canceller)
        return stackful->leave;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (kinds[i]->canceller == canceller)
            return kinds[i];
    }
    return NULL;
}

static void name_firers(struct weft__waits *waits, const weft_deferred *deferred)
{
    const struct weft__wait_kind *kind = kind_of(deferred->canceller.fn);

    if (kind)
        kind->name(deferred->canceller.arg, waits);
    else
        waits->nodes[waits->current].others = true;
}

static void name_awaited(struct weft__waits *waits, const struct weft__wait_node *node)
{
    const weft_deferred *deferred = node->deferred;
    const struct weft__task *task;

    if (node->task) {
        if (node->task->state == WEFT__TASK_PARKED && node->task->awaited)
            weft__waits_deferred(waits, node->task->awaited);
    } else if ((task = weft__task_of(deferred))) {
        add_task(waits, task->number);
    } else if (deferred->flags & WEFT__WAITING) {
        weft__waits_deferred(waits, weft__deferred_waited_for(deferred));
    } else if (weft__deferred_pending(deferred)) {
        name_firers(waits, deferred);
    }
}

/* ---- life ---- */

static void add_tasks(struct weft__waits *waits)
{
    const struct weft__task *task = weft__thread.tasks.newest;

    while (task && task->older)
        task = task->older;
    for (; task; task = task->newer)
        add_node(waits, (struct weft__wait_node){.task = task});
    waits->tasks = waits->count;
}

void weft__waits_init(struct weft__waits *waits)
{
    *waits = (struct weft__waits){.table_size = 64};
    waits->table = weft_alloc_zeroed(waits->table_size * sizeof *waits->table);
    add_tasks(waits);
    for (; waits->current < waits->count; waits->current++) {
        struct weft__wait_node node = waits->nodes[waits->current];

        waits->nodes[waits->current].first = waits->edge_count;
        name_awaited(waits, &node);
    }
}

void weft__waits_deinit(struct weft__waits *waits)
{
    weft_free(waits->nodes);
    weft_free(waits->edges);
    weft_free(waits->table);
}

/* ---- who can go on ---- */

/* The edges the other way round: the waiters of node i are waiters[firsts[i]] up to waiters[firsts[i + 1]]. */
struct backwards {
    uint32_t *firsts;
    uint32_t *waiters;
};

static void backwards_init(struct backwards *backwards, const struct weft__waits *waits)
{
    uint32_t *firsts = weft_alloc_zeroed((waits->count + 2) * sizeof *firsts);

    backwards->waiters = weft_alloc((waits->edge_count + 1) * sizeof *backwards->waiters);
    for (uint32_t i = 0; i < waits->edge_count; i++)
        firsts[waits->edges[i] + 2]++;
    for (uint32_t i = 2; i < waits->count + 2; i++)
        firsts[i] += firsts[i - 1];
    /* One ahead: each moves on to where the next begins while its waiters are put down. */
    for (uint32_t i = 0; i < waits->count; i++) {
        const struct weft__wait_node *node = &waits->nodes[i];

        for (uint32_t edge = node->first; edge < node->first + node->count; edge++)
            backwards->waiters[firsts[waits->edges[edge] + 1]++] = i;
    }
    backwards->firsts = firsts;
}

static void begin_search(struct weft__wait_node *node)
{
    bool free = !node->count || (node->any && node->others);

    node->state = free ? CAN_GO : STUCK;
    node->left = node->any ? 1 : node->count;
}

static void find_stuck(struct weft__waits *waits)
{
    uint32_t *going = weft_alloc((waits->count + 1) * sizeof *going), count = 0;
    struct backwards backwards;

    backwards_init(&backwards, waits);
    for (uint32_t i = 0; i < waits->count; i++) {
        begin_search(&waits->nodes[i]);
        if (waits->nodes[i].state == CAN_GO)
            going[count++] = i;
    }
    while (count) {
        uint32_t end, node = going[--count];

        end = backwards.firsts[node + 1];
        for (uint32_t i = backwards.firsts[node]; i < end; i++) {
            struct weft__wait_node *waiter = &waits->nodes[backwards.waiters[i]];

            if (waiter->state == STUCK && !--waiter->left) {
                waiter->state = CAN_GO;
                going[count++] = backwards.waiters[i];
            }
        }
    }
    weft_free(backwards.firsts);
    weft_free(backwards.waiters);
    weft_free(going);
}

/* ---- circles ---- */

struct search {
    struct weft__waits *waits;
    uint32_t *path;
    uint32_t length;
    void (*found)(const struct weft__waits *waits, const uint32_t *path, size_t length, void *arg);
    void *arg;
};

static void step_into(struct search *search, uint32_t index)
{
    struct weft__wait_node *node = &search->waits->nodes[index];

    node->state = ON_PATH;
    node->left = node->count;
    node->depth = search->length;
    search->path[search->length++] = index;
}

/* A task that waits for the same other in two ways closes one circle. */
static bool is_new(const struct search *search, uint32_t back_to)
{
    struct weft__wait_node *nodes = search->waits->nodes;
    uint32_t from = search->length - 1;

    while (from && !nodes[search->path[from]].task)
        from--;
    if (nodes[search->path[from]].said == back_to + 1)
        return false;
    nodes[search->path[from]].said = back_to + 1;
    return true;
}

static void look_at(struct search *search, uint32_t next)
{
    const struct weft__wait_node *node = &search->waits->nodes[next];

    if (node->state == STUCK)
        step_into(search, next);
    else if (node->state == ON_PATH && is_new(search, next))
        search->found(search->waits, search->path + node->depth, search->length - node->depth, search->arg);
}

static void search_from(struct search *search, uint32_t start)
{
    step_into(search, start);
    while (search->length) {
        struct weft__wait_node *node = &search->waits->nodes[search->path[search->length - 1]];

        if (node->left) {
            look_at(search, search->waits->edges[node->first + node->count - node->left--]);
        } else {
            node->state = SEARCHED;
            search->length--;
        }
    }
}

void weft__waits_find_circles(struct weft__waits *waits,
                              void (*found)(const struct weft__waits *waits, const uint32_t *path, size_t length, void *arg),
                              void *arg)
{
    struct search search = {.waits = waits, .found = found, .arg = arg};

    find_stuck(waits);
    search.path = weft_alloc((waits->count + 1) * sizeof *search.path);
    for (uint32_t i = 0; i < waits->tasks; i++) {
        if (waits->nodes[i].state == STUCK)
            search_from(&search, i);
    }
    weft_free(search.path);
}

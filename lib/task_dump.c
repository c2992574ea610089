/* All tasks of a thread, as a person wants to see them who asks why nothing goes on. */
#include <inttypes.h>
#include <weft/dump.h>

#include "lib/text.h"
#include "lib/waits.h"

/* Of the many that one waits for, so many are told, and in the end so many of all below a task. */
enum { MEMBERS = 8, BRANCHES = 32 };

static void add_task(struct weft__text *text, const struct weft__task *task)
{
    weft__text_add(text, "%" PRIu64 " ", task->number);
    weft__text_add_visible(text, task->name);
}

static void add_error(struct weft__text *text, const weft_error *error)
{
    weft__text_add(text, "%s: ", weft_error_get_kind(error)->name);
    weft__text_add_visible(text, weft_error_get_message(error));
    weft__text_add(text, " (");
    weft__text_add_place(text, weft_error_get_place(error));
    weft__text_add(text, ")");
}

/* ---- deadlocks ---- */

static void add_node(struct weft__text *text, const struct weft__wait_node *node)
{
    if (node->task) {
        add_task(text, node->task);
    } else {
        weft__text_add(text, "the deferred made at ");
        weft__text_add_place(text, node->deferred->made_at);
    }
}

static void add_step(struct weft__text *text, const struct weft__wait_node *node)
{
    add_node(text, node);
    if (node->task) {
        weft__text_add(text, " (");
        weft__text_add_place(text, node->task->place);
        weft__text_add(text, ")");
    }
    weft__text_add(text, " waits for ");
}

/* Deferreds are left out, unless there is nothing else in the circle: one that waits for a list with itself in it. */
static void add_circle(const struct weft__waits *waits, const uint32_t *path, size_t length, void *arg)
{
    struct weft__text *text = arg;
    size_t first = 0;
    bool of_tasks;

    while (first < length && !waits->nodes[path[first]].task)
        first++;
    of_tasks = first < length;
    if (!of_tasks)
        first = 0;
    weft__text_add(text, "deadlock: ");
    for (size_t i = 0; i < length; i++) {
        const struct weft__wait_node *node = &waits->nodes[path[(first + i) % length]];

        if (!of_tasks || node->task)
            add_step(text, node);
    }
    add_node(text, &waits->nodes[path[first]]);
    weft__text_add(text, "\n");
}

size_t weft_fiber_dump_deadlocks(char *bytes, size_t size)
{
    struct weft__waits waits;
    struct weft__text text;

    weft__text_init(&text, bytes, size);
    weft__waits_init(&waits);
    weft__waits_find_circles(&waits, add_circle, &text);
    weft__waits_deinit(&waits);
    return text.length;
}

/* ---- the line of a task ---- */

static int64_t now(void)
{
    return weft__thread.clock ? weft_clock_now(weft__thread.clock) : 0;
}

static bool sleeps(const struct weft__task *task)
{
    const struct weft__stackful *stackful = weft__thread.tasks.stackful;

    return stackful && task->awaited && weft__deferred_pending(task->awaited) && !(task->awaited->flags & WEFT__FOLLOWS) &&
           task->awaited->canceller.fn == stackful->sleep;
}

static void add_state(struct weft__text *text, const struct weft__task *task)
{
    static const char *const states[] = {
        [WEFT__TASK_RUNNING] = "running", [WEFT__TASK_NEW] = "not begun", [WEFT__TASK_READY] = "ready",
        [WEFT__TASK_YIELDING] = "yielding", [WEFT__TASK_PARKED] = "waiting",
        [WEFT__TASK_ENDED] = "ended", [WEFT__TASK_ABANDONED] = "abandoned"};
    bool parked = task->state == WEFT__TASK_PARKED;

    weft__text_add(text, "%s", parked && sleeps(task) ? "sleeping" : states[task->state]);
    if (parked && weft__thread.clock) {
        weft__text_add(text, " for ");
        weft__text_add_seconds(text, now() - task->since);
        weft__text_add(text, " s");
    }
}

/* The context of one that has been left lies in the task; one that runs below a callback may have taken it along. */
static const char *context_of(const struct weft__task *task)
{
    weft_context *context = NULL;

    if (task == weft__thread.task)
        context = weft__thread.context;
    else if (task->state != WEFT__TASK_RUNNING)
        context = task->context;
    return context ? weft_context_get_name(context) : NULL;
}

static void add_origin(struct weft__text *text, const struct weft__task *task)
{
    const char *context = context_of(task);

    weft__text_add(text, "    started at ");
    weft__text_add_place(text, task->started_at);
    if (context) {
        weft__text_add(text, ", in the context ");
        weft__text_add_visible(text, context);
    }
    weft__text_add(text, "\n");
}

static void add_stack(struct weft__text *text, const struct weft__task *task)
{
    const struct weft__stackful *stackful = weft__thread.tasks.stackful;
    size_t peak = 0, size = stackful ? stackful->stack(task, &peak) : 0;

    if (!size)
        return;
    weft__text_add(text, "    stack of %zu KiB", size / 1024);
    if (peak)
        weft__text_add(text, ", %zu bytes used at most", peak);
    weft__text_add(text, "\n");
}

/* ---- what it waits for ---- */

/* What is still to be told, the next on top, and how far each is to be indented. */
struct branches {
    struct {
        uint32_t node;
        unsigned depth;
    } items[BRANCHES];
    size_t count;
    size_t told;
};

static void add_indent(struct weft__text *text, unsigned depth)
{
    weft__text_add(text, "    %*s", (int)(depth * 2), "");
}

static void add_waited_for_task(struct weft__text *text, const struct weft__task *task)
{
    add_task(text, task);
    weft__text_add(text, ", at ");
    weft__text_add_place(text, task->place);
    weft__text_add(text, "\n");
}

/* How its deferred comes to be fired, where that is no deferred in its turn. */
static void add_line(struct weft__text *text, const struct weft__waits *waits, const struct weft__wait_node *node,
                     unsigned depth)
{
    const struct weft__task *of = weft__task_of(node->deferred);

    if (of) {
        add_indent(text, depth);
        weft__text_add(text, "which is the end of ");
        add_waited_for_task(text, of);
        return;
    }
    if (!node->what)
        return;
    add_indent(text, depth);
    weft__text_add(text, "in line for a %s", node->what);
    for (uint32_t i = 0; i < node->count; i++) {
        weft__text_add(text, i ? ", and by " : " held by ");
        add_task(text, waits->nodes[waits->edges[node->first + i]].task);
    }
    weft__text_add(text, "%s\n", node->others && node->count ? ", and by others" : "");
}

/* Members are told below a line that says how many there are. */
static void add_members(struct weft__text *text, const struct weft__waits *waits, const struct weft__wait_node *node,
                        unsigned depth, struct branches *branches)
{
    uint32_t told = node->count < MEMBERS ? node->count : MEMBERS;

    if (told > BRANCHES - branches->count)
        told = (uint32_t)(BRANCHES - branches->count);
    if (branches->told + told > BRANCHES)
        told = (uint32_t)(BRANCHES - branches->told);
    add_indent(text, depth);
    weft__text_add(text, "for %s%" PRIu32 " member%s", node->any ? "the first of " : "", node->count,
                   node->count == 1 ? "" : "s");
    weft__text_add(text, told < node->count ? ", of which the first %" PRIu32 ":\n" : ":\n", told);
    branches->told += told;
    for (uint32_t i = told; i--;) {
        branches->items[branches->count].node = waits->edges[node->first + i];
        branches->items[branches->count++].depth = depth + 1;
    }
}

/* Those that a group waits for: each stands in the list by itself. */
static void add_fibers(struct weft__text *text, const struct weft__waits *waits, const struct weft__wait_node *node,
                       unsigned depth)
{
    uint32_t told = node->count < MEMBERS ? node->count : MEMBERS;

    add_indent(text, depth);
    weft__text_add(text, "which is the end of %" PRIu32 " fiber%s", node->count, node->count == 1 ? "" : "s");
    weft__text_add(text, node->others ? " and of others" : "");
    weft__text_add(text, told < node->count ? ", of which the first %" PRIu32 ":\n" : ":\n", told);
    for (uint32_t i = 0; i < told; i++) {
        add_indent(text, depth + 1);
        add_waited_for_task(text, waits->nodes[waits->edges[node->first + i]].task);
    }
}

/* From a deferred down to the innermost that it waits for. */
static void add_chain(struct weft__text *text, const struct weft__waits *waits, uint32_t index, unsigned depth,
                      struct branches *branches)
{
    const struct weft__wait_node *node = &waits->nodes[index];
    const char *for_whom = "waits for the deferred made at ";

    for (;; node = &waits->nodes[waits->edges[node->first]], for_whom = "waits for the one made at ") {
        add_indent(text, depth);
        weft__text_add(text, "%s", for_whom);
        weft__text_add_place(text, node->deferred->made_at);
        weft__text_add(text, ": ");
        weft__deferred_describe(text, node->deferred);
        weft__text_add(text, "\n");
        if (!(node->deferred->flags & WEFT__WAITING))
            break;
    }
    add_line(text, waits, node, depth);
    if (!node->count || node->what || weft__task_of(node->deferred))
        return;
    if (waits->nodes[waits->edges[node->first]].task)
        add_fibers(text, waits, node, depth);
    else
        add_members(text, waits, node, depth, branches);
}

static void add_waits(struct weft__text *text, const struct weft__waits *waits, const struct weft__wait_node *task)
{
    struct branches branches = {.count = 1};

    if (!task->count)
        return;
    branches.items[0].node = waits->edges[task->first];
    branches.items[0].depth = 0;
    while (branches.count) {
        branches.count--;
        add_chain(text, waits, branches.items[branches.count].node, branches.items[branches.count].depth, &branches);
    }
}

/* ---- cancels and scopes ---- */

static void add_cancels(struct weft__text *text, const struct weft__task *task)
{
    const weft_error *latched = task->deferred ? weft_deferred_get_cancellation(task->deferred) : NULL;

    if (latched) {
        weft__text_add(text, "    asked to stop at its next wait%s by ", task->shields ? " outside its shield" : "");
        add_error(text, latched);
        weft__text_add(text, "\n");
    }
    if (task->cancelled_at) {
        weft__text_add(text, "    a cancel%s came out of its wait at ", task->cancelled_by ? " of a scope" : "");
        weft__text_add_place(text, task->cancelled_at);
        weft__text_add(text, "\n");
    }
}

static void add_scope(struct weft__text *text, const weft_scope *scope)
{
    weft__text_add(text, "    in the %s entered at ", scope->shield ? "shield" : "scope");
    weft__text_add_place(text, scope->place);
    if (scope->deadline != INT64_MAX && weft__thread.clock) {
        weft__text_add(text, ", ");
        weft__text_add_seconds(text, scope->deadline - now());
        weft__text_add(text, " s before its deadline");
    }
    if (scope->cancellation) {
        weft__text_add(text, ", cancelled by ");
        add_error(text, scope->cancellation);
    }
    weft__text_add(text, "\n");
}

/* ---- the whole ---- */

static void add_entry(struct weft__text *text, const struct weft__waits *waits, const struct weft__wait_node *node)
{
    const struct weft__task *task = node->task;

    add_task(text, task);
    weft__text_add(text, ": ");
    add_state(text, task);
    weft__text_add(text, ", at ");
    weft__text_add_place(text, task->place);
    weft__text_add(text, "\n");
    add_origin(text, task);
    add_stack(text, task);
    add_waits(text, waits, node);
    add_cancels(text, task);
    for (const weft_scope *scope = task->scope; scope; scope = scope->parent)
        add_scope(text, scope);
}

size_t weft_fiber_dump(char *bytes, size_t size)
{
    struct weft__waits waits;
    struct weft__text text;

    weft__text_init(&text, bytes, size);
    weft__waits_init(&waits);
    weft__text_add(&text, "%" PRIu32 " fiber%s\n", waits.tasks, waits.tasks == 1 ? "" : "s");
    weft__waits_find_circles(&waits, add_circle, &text);
    for (uint32_t i = 0; i < waits.tasks; i++)
        add_entry(&text, &waits, &waits.nodes[i]);
    weft__waits_deinit(&waits);
    return text.length;
}

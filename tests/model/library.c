/* The library's side: takes a program's steps with weft's deferreds. Values are owned and errors counted, so that one
 * dropped twice, late or never is seen. */
#include "tests/model/side.h"

#include <stdlib.h>
#include <string.h>

static weft_deferred *variables[VARIABLES], *self;
static weft_context *contexts[CONTEXTS];
static int boxes;
static weft_live_counts before;

static void take_step(struct step *step);

/* ---- results ---- */

static void box_unref(void *box)
{
    boxes--;
    free(box);
}

static const weft_type box_type = {"box", NULL, box_unref};
static const weft_error_kind NUMBERED = {"numbered", &WEFT_FAILURE};

static weft_result box(int id)
{
    int *memory = malloc(sizeof *memory);

    *memory = id;
    boxes++;
    return weft_own(memory, &box_type);
}

static weft_result numbered(int id)
{
    return weft_fail(weft_error_new(&NUMBERED, "%d", id));
}

static weft_result box_or_error(const struct step *step)
{
    return step->fails ? numbered(step->id) : box(step->id);
}

static struct result result_of_error(const weft_error *error)
{
    const weft_error_kind *kind = weft_error_get_kind(error);

    if (kind == &NUMBERED)
        return (struct result){.kind = FAILED, .id = atoi(weft_error_get_message(error))};
    return (struct result){.kind = kind == &WEFT_CANCELLED     ? CANCELLED
                                   : kind == &WEFT_CLIENT_GONE ? REASON
                                   : kind == &WEFT_ORPHANED    ? ORPHANED
                                                               : MISUSE};
}

static struct result result_of(weft_result result)
{
    if (weft_failed(result))
        return result_of_error(weft_failed(result));
    if (result.type == &weft_deferred_type)
        return (struct result){.kind = NOT_YET};
    return result.value ? (struct result){.kind = NUMBER, .id = *(int *)result.value} : (struct result){0};
}

static const char *current_name(void)
{
    return weft_context_get_name(weft_context_current());
}

/* ---- what the library calls ---- */

static void take_step_as(weft_deferred *d, struct step *step)
{
    weft_deferred *previous = self;

    self = d;
    if (step)
        take_step(step);
    self = previous;
}

/* A reference that somebody else is to take over; NULL for none. */
static weft_deferred *returned(const struct step *step, enum answer answer)
{
    weft_deferred *later = step->other == SELF ? self : variables[step->other];

    if (!later || (answer != LATER && answer != LATER_LAST))
        return NULL;
    if (answer == LATER || step->other == SELF)
        return weft_deferred_ref(later);
    variables[step->other] = NULL;
    return later;
}

static weft_deferred *returned_as(weft_deferred *d, const struct step *step, enum answer answer)
{
    weft_deferred *previous = self, *later;

    self = d;
    later = returned(step, answer);
    self = previous;
    return later;
}

static weft_result answer(weft_result result, void *arg)
{
    struct step *pair = arg;
    bool side = weft_failed(result);
    weft_deferred *later;

    tell("%d(%s)@%s ", pair->id, word_of(result_of(result)), current_name());
    take_step_as(pair->owner, pair->inside[side]);
    later = returned_as(pair->owner, pair, pair->answer[side]);
    if (!later && pair->answer[side] != VALUE && pair->answer[side] != ERROR)
        return result;
    weft_result_drop(result);
    if (later)
        return weft_later(later);
    return pair->answer[side] == VALUE ? box(pair->id) : numbered(pair->id);
}

static weft_cancel_outcome canceller(weft_deferred *d, void *arg)
{
    struct step *step = arg;
    weft_deferred *later;

    tell("cancel%d@%s ", step->id, current_name());
    take_step_as(d, step->inside[ON_CANCEL]);
    later = returned_as(d, step, step->answer[0]);
    if (later)
        weft_deferred_forward(later, d);
    if (step->answer[0] == VALUE)
        weft_deferred_callback(d, box(step->id));
    if (step->answer[0] == ERROR)
        weft_deferred_callback(d, numbered(step->id));
    return step->outcome;
}

static void release(void *arg)
{
    struct step *step = arg;

    tell("~%d@%s ", step->id, current_name());
    take_step_as(NULL, step->inside[ON_RELEASE]);
}

static void hear_unhandled(const weft_unhandled *unhandled, void *unused)
{
    (void)unused;
    tell_unhandled(result_of_error(unhandled->error), weft_context_get_name(unhandled->context), current_name());
}

static void hear_log(const weft_log_record *record, void *unused)
{
    static const struct {
        const char *part, *word;
    } known[] = {
        {"already_called: ", "already_called"},
        {"misuse: a callback is added to a deferred that was handed over", "handed_over"},
        {"misuse: a deferred was fired with a deferred", "fired_with_deferred"},
        {"is not paused", "not_paused"},
        {"could not be cancelled", "not_stopped"},
        {"a result came after the cancel and is dropped", "swallowed"},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strstr(record->message, known[i].part)) {
            tell("%s@%s ", known[i].word, record->context);
            return;
        }
    }
    tell("unexpected(%s) ", record->message);
}

/* ---- steps ---- */

static void assign(int variable, weft_deferred *d)
{
    weft_deferred *previous = variables[variable];

    variables[variable] = d;
    weft_deferred_unref(previous);
}

static weft_deferred *create(struct step *step)
{
    weft_cancel_fn *fn = step->has[0] ? canceller : NULL;

    return step->owned ? weft_deferred_new_owning(fn, step, release) : weft_deferred_new(fn, step);
}

static void add(weft_deferred *d, struct step *step)
{
    weft_callback_fn *on_value = step->has[0] ? answer : NULL, *on_error = step->has[1] ? answer : NULL;

    step->owner = d;
    if (step->owned)
        weft_deferred_add_callbacks_owning(d, on_value, on_error, step, release);
    else
        weft_deferred_add_callbacks(d, on_value, on_error, step);
}

static void try_to_fire(weft_deferred *d, const struct step *step)
{
    weft_error *misuse = weft_deferred_try_callback(d, box_or_error(step));

    if (misuse)
        tell("%s_returned@%s ", weft_error_get_kind(misuse)->name, current_name());
    weft_error_unref(misuse);
}

static void take(weft_deferred *d)
{
    weft_result result = weft_deferred_take_result(d);

    tell("take=%s ", word_of(result_of(result)));
    weft_result_drop(result);
}

static void look(const weft_deferred *d)
{
    static const char *const states[] = {[WEFT_PENDING] = "pending", [WEFT_WAITING] = "waiting", [WEFT_DONE] = "done"};
    const weft_error *reason = weft_deferred_get_cancellation(d);

    tell("look=%s,%s%s%s%s ", states[weft_deferred_get_state(d)], word_of(result_of(weft_deferred_peek(d))),
         weft_deferred_is_paused(d) ? ",paused" : "", reason ? "," : "", reason ? weft_error_get_kind(reason)->name : "");
}

static void work_on(weft_deferred *d, struct step *step)
{
    weft_deferred *other;

    switch (step->action) {
    case FIRE:
        weft_deferred_callback(d, box_or_error(step));
        break;
    case TRY:
        try_to_fire(d, step);
        break;
    case FIRE_LATER:
        if ((other = returned(step, LATER)))
            weft_deferred_callback(d, weft_later(other));
        break;
    case ADD:
        add(d, step);
        break;
    case CANCEL:
        weft_deferred_cancel(d);
        break;
    case CANCEL_WITH:
        weft_deferred_cancel_with(d, weft_error_new(&WEFT_CLIENT_GONE, "the client has gone"));
        break;
    case DROP:
        assign(step->variable, NULL);
        break;
    case COPY:
        assign(step->other, weft_deferred_ref(d));
        break;
    case TAKE:
        take(d);
        break;
    case LOOK:
        look(d);
        break;
    case PAUSE:
        weft_deferred_pause(d);
        break;
    case UNPAUSE:
        weft_deferred_unpause(d);
        break;
    default: /* FORWARD */
        if ((other = returned(step, step->fails ? LATER_LAST : LATER)))
            weft_deferred_forward(other, d);
    }
}

static void report_living(void)
{
    report_begin();
    weft_deferred_report_unhandled();
    report_end();
}

static void take_step(struct step *step)
{
    weft_deferred *d = step->variable == SELF ? self : variables[step->variable];
    weft_context *previous;

    if (step->dropped)
        return;
    previous = weft_context_set(weft_context_ref(contexts[step->context]));
    if (step->action == NEW)
        assign(step->variable, create(step));
    else if (step->action == READY)
        assign(step->variable, weft_deferred_with(box_or_error(step)));
    else if (step->action == REPORT)
        report_living();
    else if (d && step->holds) {
        weft_deferred_ref(d);
        work_on(d, step);
        weft_deferred_unref(d);
    } else if (d)
        work_on(d, step);
    weft_context_unref(weft_context_set(previous));
}

static void begin(void)
{
    if (!contexts[1]) {
        contexts[1] = weft_context_new(context_names[1]);
        contexts[2] = weft_context_new(context_names[2]);
        weft_log_set_sink(hear_log, NULL);
        weft_log_set_level("", WEFT_LOG_DEBUG);
        weft_deferred_set_unhandled_hook(hear_unhandled, NULL);
    }
    before = weft_live_counts_get();
    boxes = 0;
}

static void drop_variable(int variable)
{
    assign(variable, NULL);
}

static struct alive count(void)
{
    weft_live_counts now = weft_live_counts_get();

    if (now.contexts != 2 && now.deferreds == before.deferreds)
        tell("contexts_left ");
    return (struct alive){(int)(now.deferreds - before.deferreds), boxes, (int)(now.errors - before.errors)};
}

void library_end(void)
{
    for (int i = 1; i < CONTEXTS; i++)
        contexts[i] = weft_context_unref(contexts[i]);
    weft_log_set_sink(NULL, NULL);
    weft_log_set_level("", WEFT_LOG_INFO);
    weft_deferred_set_unhandled_hook(NULL, NULL);
}

const struct side library_side = {begin, take_step, drop_variable, count};

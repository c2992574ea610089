/* The deferred against a model of it: random programs run on both, and both must tell the same story.
 *
 * The model keeps to the rules in the plainest way: lists, recursion, a walk for every question. A program is a tree of
 * steps on a few variables that hold deferreds; a callback or a canceller may have one step of its own, which it takes
 * before it answers. What is told: each callback and canceller with what it was given and its context, each result
 * taken, each misuse, each unhandled error. Values are owned, so that one dropped twice or never is seen. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VARIABLES = 5, MAX_STEPS = 60, MAX_DEPTH = 3, STORY = 16 * 1024 };

/* ---- programs ---- */

enum action { NEW, READY, FIRE_VALUE, FIRE_ERROR, ADD, CANCEL, DROP, TAKE, COPY, ACTIONS };
enum answer { PASS, VALUE, ERROR, LATER, LATER_LAST, ANSWERS }; /* LATER_LAST gives the variable's own reference away */

struct step {
    enum action action;
    int variable, other;
    int id;                  /* of a value, an error, a callback, a canceller */
    int context;             /* the one the step is taken in */
    bool has_value, has_error; /* ADD: the sides of the pair. NEW: is there a canceller, does it say later */
    enum answer answer[2];     /* ADD: to a value, to an error. NEW: what the canceller fires it with, if at all */
    struct step *inside[2];    /* what a callback or a canceller does before it answers; may be NULL */
};

static struct step steps[4096];
static int steps_used;
static uint64_t random_state;

static int roll(int sides)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (int)((random_state >> 33) % (uint64_t)sides);
}

static struct step *make_step(int depth)
{
    static const enum action often[] = {NEW, NEW, READY, FIRE_VALUE, FIRE_VALUE, FIRE_ERROR, ADD, ADD, ADD, ADD,
                                        ADD, ADD, CANCEL, CANCEL, DROP, TAKE, COPY};
    struct step *step = &steps[steps_used++];

    *step = (struct step){
        .action = often[roll(sizeof often / sizeof *often)],
        .variable = roll(VARIABLES),
        .other = roll(VARIABLES),
        .id = steps_used,
        .context = roll(3),
        .has_value = roll(4) > 0,
        .has_error = roll(4) > 0,
        .answer = {roll(ANSWERS), roll(ANSWERS)},
    };
    for (int i = 0; i < 2 && depth < MAX_DEPTH; i++) {
        if ((step->action == ADD || step->action == NEW) && roll(3) == 0)
            step->inside[i] = make_step(depth + 1);
    }
    return step;
}

/* ---- what is told ---- */

static char *story, library_story[STORY], model_story[STORY];
static size_t story_length;

static void tell(const char *format, ...) WEFT_PRINTF(1, 2);

static void tell(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    story_length += (size_t)vsnprintf(story + story_length, STORY - story_length, format, arguments);
    va_end(arguments);
    cr_assert(story_length < STORY - 1);
}

static const char *const context_names[] = {"-", "one", "two"};

/* ---- the model ---- */

/* Results are words: "nil", "v12", "!e12", "!cancelled", "!orphaned", "!misuse". */
struct result {
    char word[16];
};

struct model;

struct entry {
    const struct step *pair; /* NULL: an outer deferred */
    int context;
    struct model *outer;
    struct entry *next;
};

struct model {
    int references;
    enum { PENDING, WAITING, DONE } state;
    bool running, asked, swallow, consumed, unwanted;
    struct result result, reason;
    struct model *inner;
    struct entry *entries;
    const struct step *canceller;
};

static struct model *model_variables[VARIABLES];
static int model_context, models_alive;

static void model_take_step(const struct step *step);
static void model_run(struct model *d);

static struct result word(const char *format, int id)
{
    struct result result;

    snprintf(result.word, sizeof result.word, format, id);
    return result;
}

static bool failed(struct result result)
{
    return result.word[0] == '!';
}

static void model_fire(struct model *d, struct result result)
{
    d->state = DONE;
    d->result = result;
    model_run(d);
}

static void model_unref(struct model *d)
{
    if (--d->references)
        return;
    if (d->state == PENDING && d->entries) {
        d->references = 1;
        model_fire(d, d->asked ? d->reason : word("!orphaned", 0));
        model_unref(d);
        return;
    }
    if (d->state == DONE && failed(d->result) && !(d->unwanted && strcmp(d->result.word, "!cancelled") == 0))
        tell("unhandled ");
    models_alive--;
    free(d);
}

static bool model_waits_for(struct model *d, struct model *other)
{
    while (d->state == WAITING)
        d = d->inner;
    return d == other;
}

static void model_append(struct model *d, struct entry entry)
{
    struct entry **end = &d->entries;

    while (*end)
        end = &(*end)->next;
    *end = malloc(sizeof entry);
    **end = entry;
}

static void model_chain(struct model *d, struct model *inner)
{
    if (inner == d || inner->consumed || model_waits_for(inner, d)) {
        d->result = word("!misuse", 0);
    } else if (inner->state == DONE && !inner->running) {
        d->result = inner->result;
        inner->result = word("nil", 0);
        inner->consumed = true;
    } else {
        d->references++;
        model_append(inner, (struct entry){.outer = d});
        inner->consumed = true;
        d->state = WAITING;
        d->inner = inner;
    }
}

static void model_call(struct model *d, const struct step *pair, int context)
{
    bool side = failed(d->result);
    int firer = model_context;
    struct result given = d->result;
    struct model *later;

    if (!(side ? pair->has_error : pair->has_value))
        return;
    d->result = word("nil", 0);
    model_context = context;
    tell("%d(%s)@%s ", pair->id, given.word, context_names[context]);
    if (pair->inside[side])
        model_take_step(pair->inside[side]);
    later = model_variables[pair->other];
    switch (pair->answer[side]) {
    case LATER_LAST:
    case LATER:
        if (later) {
            if (pair->answer[side] == LATER)
                later->references++;
            else
                model_variables[pair->other] = NULL;
            model_context = firer;
            model_chain(d, later);
            d->running = false; /* whatever the reference's going sets off, it finds `d` waiting, or done */
            if (d->state == DONE)
                d->running = true;
            model_unref(later);
            return;
        }
        /* fall through */
    case PASS:
        d->result = given;
        break;
    case VALUE:
        d->result = word("v%d", pair->id);
        break;
    default:
        d->result = word("!e%d", pair->id);
    }
    model_context = firer;
}

static void model_run(struct model *d)
{
    d->references++;
    d->running = true;
    while (d->state == DONE && d->entries) {
        struct entry entry = *d->entries;

        free(d->entries);
        d->entries = entry.next;
        if (entry.outer) {
            entry.outer->state = DONE;
            entry.outer->result = d->result;
            d->result = word("nil", 0);
            model_run(entry.outer);
            model_unref(entry.outer);
        } else {
            model_call(d, entry.pair, entry.context);
            if (!d->running) /* it waited; by now it may even be done again: then it was run elsewhere */
                break;
        }
    }
    d->running = false;
    model_unref(d);
}

static void model_try_to_fire(struct model *d, struct result result)
{
    if (d->state == PENDING)
        model_fire(d, result);
    else if (d->swallow)
        d->swallow = false;
    else
        tell("already_called ");
}

static void model_cancel(struct model *d)
{
    const struct step *canceller;

    if (d->state != DONE)
        d->unwanted = true;
    while (d->state == WAITING)
        d = d->inner;
    if (d->state == DONE || d->asked)
        return;
    canceller = d->canceller;
    d->asked = true;
    d->reason = word("!cancelled", 0);
    d->references++;
    if (!canceller) {
        d->swallow = true;
    } else {
        tell("cancel%d@%s ", canceller->id, context_names[model_context]);
        if (canceller->inside[0])
            model_take_step(canceller->inside[0]);
        if (canceller->answer[0] == VALUE)
            model_try_to_fire(d, word("v%d", canceller->id));
        if (canceller->answer[0] == ERROR)
            model_try_to_fire(d, word("!e%d", canceller->id));
    }
    if (d->state == PENDING && !(canceller && canceller->has_error))
        model_fire(d, d->reason);
    model_unref(d);
}

static void model_add(struct model *d, const struct step *step)
{
    if (d->consumed)
        tell("handed_over ");
    model_append(d, (struct entry){.pair = step, .context = model_context});
    if (d->state == DONE && !d->running)
        model_run(d);
}

static void model_set(int variable, struct model *d)
{
    struct model *previous = model_variables[variable];

    model_variables[variable] = d;
    if (previous)
        model_unref(previous);
}

static struct model *model_new(const struct step *step)
{
    struct model *d = calloc(1, sizeof *d);

    d->references = 1;
    d->canceller = step->has_value ? step : NULL;
    d->result = word("nil", 0);
    models_alive++;
    return d;
}

static void model_take(struct model *d)
{
    if (d->state != DONE || d->running || d->consumed) {
        tell("take=!misuse ");
        return;
    }
    tell("take=%s ", d->result.word);
    d->result = word("nil", 0);
    d->consumed = true;
}

static void model_take_step(const struct step *step)
{
    struct model *d = model_variables[step->variable];
    int previous = model_context;

    model_context = step->context;
    if (step->action == NEW) {
        model_set(step->variable, model_new(step));
    } else if (step->action == READY) {
        struct model *ready = model_new(step);

        ready->state = DONE;
        ready->result = word(step->has_error ? "v%d" : "!e%d", step->id);
        model_set(step->variable, ready);
    } else if (d) {
        d->references++; /* each step holds what it works on */
        switch (step->action) {
        case FIRE_VALUE:
            model_try_to_fire(d, word("v%d", step->id));
            break;
        case FIRE_ERROR:
            model_try_to_fire(d, word("!e%d", step->id));
            break;
        case ADD:
            model_add(d, step);
            break;
        case CANCEL:
            model_cancel(d);
            break;
        case DROP:
            model_set(step->variable, NULL);
            break;
        case TAKE:
            model_take(d);
            break;
        default: /* COPY */
            d->references++;
            model_set(step->other, d);
        }
        model_unref(d);
    }
    model_context = previous;
}

/* ---- the library ---- */

static weft_deferred *variables[VARIABLES];
static weft_context *contexts[3];
static int boxes;

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

static struct result word_of(weft_result result)
{
    weft_error *error = weft_failed(result);

    if (error && weft_error_get_kind(error) == &NUMBERED)
        return word("!e%d", atoi(weft_error_get_message(error)));
    if (error) {
        struct result named;

        snprintf(named.word, sizeof named.word, "!%s", weft_error_get_kind(error)->name);
        return named;
    }
    return result.value ? word("v%d", *(int *)result.value) : word("nil", 0);
}

static void take_step(const struct step *step);

static void take_step_inside(const struct step *step)
{
    if (step)
        take_step(step);
}

static weft_result answer(weft_result result, void *arg)
{
    const struct step *pair = arg;
    bool side = weft_failed(result);
    weft_deferred *later;

    tell("%d(%s)@%s ", pair->id, word_of(result).word, weft_context_get_name(weft_context_current()));
    take_step_inside(pair->inside[side]);
    later = variables[pair->other];
    switch (pair->answer[side]) {
    case LATER_LAST:
    case LATER:
        if (!later)
            return result;
        weft_result_drop(result);
        if (pair->answer[side] == LATER)
            weft_deferred_ref(later);
        else
            variables[pair->other] = NULL;
        return weft_later(later);
    case PASS:
        return result;
    case VALUE:
        weft_result_drop(result);
        return box(pair->id);
    default:
        weft_result_drop(result);
        return numbered(pair->id);
    }
}

static weft_cancel_outcome canceller(weft_deferred *d, void *arg)
{
    const struct step *step = arg;

    tell("cancel%d@%s ", step->id, weft_context_get_name(weft_context_current()));
    take_step_inside(step->inside[0]);
    if (step->answer[0] == VALUE)
        weft_deferred_callback(d, box(step->id));
    if (step->answer[0] == ERROR)
        weft_deferred_callback(d, numbered(step->id));
    return step->has_error ? WEFT_CANCEL_LATER : WEFT_CANCEL_DONE;
}

static void set(int variable, weft_deferred *d)
{
    weft_deferred *previous = variables[variable];

    variables[variable] = d;
    weft_deferred_unref(previous);
}

static void take(weft_deferred *d)
{
    weft_result result = weft_deferred_take_result(d);

    tell("take=%s ", word_of(result).word);
    weft_result_drop(result);
}

static void work_on(weft_deferred *d, const struct step *step)
{
    switch (step->action) {
    case FIRE_VALUE:
        weft_deferred_callback(d, box(step->id));
        break;
    case FIRE_ERROR:
        weft_deferred_callback(d, numbered(step->id));
        break;
    case ADD:
        weft_deferred_add_callbacks(d, step->has_value ? answer : NULL, step->has_error ? answer : NULL, (void *)step);
        break;
    case CANCEL:
        weft_deferred_cancel(d);
        break;
    case DROP:
        set(step->variable, NULL);
        break;
    case TAKE:
        take(d);
        break;
    default: /* COPY */
        set(step->other, weft_deferred_ref(d));
    }
}

static void take_step(const struct step *step)
{
    weft_deferred *d = variables[step->variable];
    weft_context *previous = weft_context_set(weft_context_ref(contexts[step->context]));

    if (step->action == NEW) {
        set(step->variable, weft_deferred_new(step->has_value ? canceller : NULL, (void *)step));
    } else if (step->action == READY) {
        set(step->variable, weft_deferred_with(step->has_error ? box(step->id) : numbered(step->id)));
    } else if (d) {
        weft_deferred_ref(d);
        work_on(d, step);
        weft_deferred_unref(d);
    }
    weft_context_unref(weft_context_set(previous));
}

static void tell_logged(const weft_log_record *record, void *unused)
{
    static const struct {
        const char *begin, *word;
    } known[] = {
        {"unhandled error", "unhandled"},
        {"misuse: a callback is added", "handed_over"},
        {"already_called", "already_called"},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strncmp(record->message, known[i].begin, strlen(known[i].begin)) == 0) {
            tell("%s ", known[i].word);
            return;
        }
    }
    cr_assert(false, "unexpected: %s", record->message);
}

/* ---- both ---- */

static void begin_story(char *text)
{
    story = text;
    story_length = 0;
    text[0] = '\0';
}

static void run_program(uint64_t seed)
{
    struct step *program[MAX_STEPS];
    int length, alive;
    weft_live_counts before = weft_live_counts_get(), after;

    random_state = seed * 2654435761u + 1;
    steps_used = 0;
    length = 5 + roll(MAX_STEPS - 5);
    for (int i = 0; i < length; i++)
        program[i] = make_step(0);

    begin_story(library_story);
    for (int i = 0; i < length; i++)
        take_step(program[i]);
    for (int i = 0; i < 10 * VARIABLES; i++) /* what goes may run callbacks that bring others */
        set(i % VARIABLES, NULL);
    begin_story(model_story);
    for (int i = 0; i < length; i++)
        model_take_step(program[i]);
    for (int i = 0; i < 10 * VARIABLES; i++)
        model_set(i % VARIABLES, NULL);

    after = weft_live_counts_get();
    alive = (int)(after.deferreds - before.deferreds);
    cr_assert(strcmp(library_story, model_story) == 0, "seed %lu\nlibrary: %s\nmodel:   %s", (unsigned long)seed,
              library_story, model_story);
    cr_assert(alive == models_alive && alive == 0, "seed %lu: %d deferreds, %d models are left", (unsigned long)seed,
              alive, models_alive);
    cr_assert_eq(after.errors, before.errors, "seed %lu", (unsigned long)seed);
    cr_assert_eq(after.contexts, before.contexts, "seed %lu", (unsigned long)seed);
    cr_assert_eq(boxes, 0, "seed %lu: %d values are left", (unsigned long)seed, boxes);
}

/* The programs are the same in each run: a failure names its seed, and run_program(seed) shows it again. */
Test(deferred_model, tells_the_same_story_as_the_library, .timeout = 60)
{
#ifdef WEFT_TEST_SANITIZED
    enum { PROGRAMS = 2000 };
#else
    enum { PROGRAMS = 40000 };
#endif

    weft_log_set_sink(tell_logged, NULL);
    contexts[1] = weft_context_new("one");
    contexts[2] = weft_context_new("two");
    for (uint64_t seed = 0; seed < PROGRAMS; seed++)
        run_program(seed);
    weft_context_unref(contexts[1]);
    weft_context_unref(contexts[2]);
}

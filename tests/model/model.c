/* The model of the deferred: its rules in the plainest way, as lists, recursion, and a walk for every question.
 *
 * It is written from the rules (include/weft/deferred.h, and Twisted's), not from lib/deferred.c, and knows nothing of
 * speed, of depth, or of what a reference count includes: `users` counts those who can fire and add, and nobody else. */
#include "tests/model/side.h"

#include <stdlib.h>

struct entry {
    const struct step *pair;
    int context;         /* of the pair */
    struct model *outer; /* or this one waits */
    struct entry *next;
};

struct model {
    int users;
    enum { PENDING, WAITING, DONE } state;
    bool running; /* its callbacks are being run, by a call that has not returned yet */
    int pauses;
    struct result result;
    struct model *inner; /* WAITING */
    struct entry *entries;
    bool consumed, unwanted;

    const struct step *canceller; /* its step, also of one that is owned and has no canceller */
    bool owns;                    /* the canceller's argument */
    bool asked, swallow;
    struct result reason; /* asked and PENDING */

    struct model *next_living;
};

static struct model *variables[VARIABLES], *self, *living;
static int context;

static void take_step(struct step *step);
static void run(struct model *d);
static void nobody_uses(struct model *d);

static struct result made(int kind, int id)
{
    return (struct result){.kind = kind, .id = id, .context = context};
}

static bool failed(struct result result)
{
    return result.kind >= FAILED && result.kind <= MISUSE;
}

/* ---- life ---- */

static struct model *create(const struct step *step)
{
    struct model *d = calloc(1, sizeof *d);

    d->users = 1;
    d->canceller = step;
    d->next_living = living;
    living = d;
    return d;
}

static void destroy(struct model *d)
{
    struct model **link = &living;

    while (*link != d)
        link = &(*link)->next_living;
    *link = d->next_living;
    free(d);
}

static struct model *use(struct model *d)
{
    d->users++;
    return d;
}

static void let_go(struct model *d)
{
    if (!--d->users)
        nobody_uses(d);
}

static void release(const struct step *owner)
{
    struct model *previous = self;

    if (!owner->owned)
        return;
    self = NULL;
    tell("~%d@%s ", owner->id, context_names[context]);
    if (owner->inside[ON_RELEASE])
        take_step(owner->inside[ON_RELEASE]);
    self = previous;
}

static void release_canceller(struct model *d)
{
    if (d->owns) {
        d->owns = false;
        release(d->canceller);
    }
}

/* Before its callbacks: they must find the result that is theirs, so meanwhile it counts as running. */
static void release_before_running(struct model *d)
{
    bool done = d->state == DONE;

    if (done)
        d->running = true;
    release_canceller(d);
    if (done)
        d->running = false;
}

/* Whether its error is one that nobody asked for and nobody was told of. */
static bool is_news(const struct model *d)
{
    bool asked_for = d->unwanted && (d->result.kind == CANCELLED || d->result.kind == REASON);

    return d->state == DONE && failed(d->result) && !d->result.told && !asked_for;
}

static void report(struct model *d)
{
    d->result.told = true;
    tell_unhandled(d->result, context_names[d->result.context], context_names[context]);
}

/* ---- getting a result ---- */

/* Who fires needs no reference; but what is called before the callbacks are may let go of the last, so that is held off. */
static void fire(struct model *d, struct result result)
{
    d->state = DONE;
    d->result = result;
    if (d->owns || d->asked) { /* a reason has an owner too, who may be told that it goes */
        use(d);
        release_before_running(d);
        run(d);
        let_go(d);
    } else {
        run(d);
    }
}

/* Nobody is left who could fire, add or unpause. One that runs, or waits, is looked at again when that has ended. */
static void nobody_uses(struct model *d)
{
    if (d->running || d->state == WAITING)
        return;
    if (d->entries) {
        use(d);
        d->pauses = 0;
        if (d->state == DONE)
            run(d);
        else
            fire(d, made(d->asked ? (int)d->reason.kind : ORPHANED, 0));
        let_go(d);
        return;
    }
    if (d->state == PENDING)
        release_canceller(d);
    if (is_news(d))
        report(d);
    destroy(d);
}

/* ---- waiting ---- */

static bool waits_for(const struct model *d, const struct model *other)
{
    while (d->state == WAITING)
        d = d->inner;
    return d == other;
}

static void append(struct model *d, struct entry entry)
{
    struct entry **end = &d->entries;

    while (*end)
        end = &(*end)->next;
    *end = malloc(sizeof entry);
    **end = entry;
}

static bool ready(const struct model *d)
{
    return d->state == DONE && !d->running && !d->pauses;
}

/* `d` gets the result of `inner`, or waits for it, which it says. */
static bool follow(struct model *d, struct model *inner)
{
    if (inner == d || inner->consumed || waits_for(inner, d)) {
        d->result = made(MISUSE, 0);
        return false;
    }
    inner->consumed = true;
    if (ready(inner)) {
        d->result = inner->result;
        inner->result = made(NIL, 0);
        return false;
    }
    append(inner, (struct entry){.outer = d});
    d->state = WAITING;
    d->inner = inner;
    return true;
}

/* ---- running ---- */

static struct model *returned(const struct step *step, enum answer answer)
{
    struct model *later = step->other == SELF ? self : variables[step->other];

    if (!later || (answer != LATER && answer != LATER_LAST))
        return NULL;
    if (answer == LATER || step->other == SELF)
        return use(later);
    variables[step->other] = NULL;
    return later;
}

/* The pair takes the result of `d` and gives the next. False: `d` waits for that, and may be gone by now. */
static bool call(struct model *d, const struct step *pair, int side, int pairs_context)
{
    struct result given = d->result;
    struct model *previous = self, *later;
    int firers_context = context;

    self = d;
    context = pairs_context;
    d->result = made(NIL, 0);
    tell("%d(%s)@%s ", pair->id, word_of(given), context_names[context]);
    if (pair->inside[side])
        take_step(pair->inside[side]);
    later = returned(pair, pair->answer[side]);
    if (pair->answer[side] == VALUE)
        d->result = made(NUMBER, pair->id);
    else if (pair->answer[side] == ERROR)
        d->result = made(FAILED, pair->id);
    else if (!later)
        d->result = made(given.kind, given.id);
    self = previous;
    context = firers_context;

    release(pair);
    if (later && follow(d, later)) {
        d->running = false;
        let_go(later);
        return false;
    }
    if (later)
        let_go(later);
    return true;
}

static bool take_turn(struct model *d, struct entry entry)
{
    bool side = failed(d->result);

    if (entry.outer) {
        entry.outer->state = DONE;
        entry.outer->result = d->result;
        d->result = made(NIL, 0);
        run(entry.outer);
        return true;
    }
    if (entry.pair->has[side])
        return call(d, entry.pair, side, entry.context);
    release(entry.pair);
    return true;
}

static void run(struct model *d)
{
    if (d->state != DONE || d->running)
        return;
    d->running = true;
    while (d->entries && !(d->pauses && d->users)) {
        struct entry entry = *d->entries;

        d->pauses = 0; /* nobody could unpause it */
        free(d->entries);
        d->entries = entry.next;
        if (!take_turn(d, entry))
            return;
    }
    d->running = false;
    if (!d->users)
        nobody_uses(d);
}

/* ---- what a user may do ---- */

/* Whether a result that comes too late is dropped without a word to the one who brings it. */
static bool swallows(struct model *d)
{
    if (!d->swallow)
        return false;
    d->swallow = false;
    tell("swallowed@%s ", context_names[context]);
    return true;
}

static void try_to_fire(struct model *d, struct result result, bool looks)
{
    if (d->state == PENDING)
        fire(d, result);
    else if (!swallows(d))
        tell("already_called%s@%s ", looks ? "_returned" : "", context_names[context]);
}

static void forward(struct model *from, struct model *to)
{
    bool waits;

    if (to->state != PENDING) {
        if (!swallows(to))
            tell("already_called@%s ", context_names[context]);
        let_go(from);
        return;
    }
    use(to);
    to->state = DONE;
    to->result = made(NIL, 0);
    waits = follow(to, from);
    if (!waits)
        let_go(from);
    release_before_running(to);
    if (waits)
        let_go(from);
    if (ready(to))
        run(to);
    let_go(to);
}

static void fire_with_later(struct model *later)
{
    let_go(later);
    tell("fired_with_deferred@%s ", context_names[context]);
}

static void run_canceller(struct model *d)
{
    const struct step *step = d->canceller;
    bool owned = d->owns;
    struct model *previous = self, *later;

    d->owns = false; /* it has its argument until it returns */
    self = d;
    tell("cancel%d@%s ", step->id, context_names[context]);
    if (step->inside[ON_CANCEL])
        take_step(step->inside[ON_CANCEL]);
    later = returned(step, step->answer[0]);
    if (later)
        forward(later, d);
    if (step->answer[0] == VALUE)
        try_to_fire(d, made(NUMBER, step->id), false);
    if (step->answer[0] == ERROR)
        try_to_fire(d, made(FAILED, step->id), false);
    self = previous;
    d->owns = owned;
    if (d->state != PENDING)
        release_canceller(d);
}

static void cancel(struct model *d, struct result reason)
{
    weft_cancel_outcome outcome;

    if (d->state != DONE)
        d->unwanted = true;
    while (d->state == WAITING)
        d = d->inner;
    if (d->state == DONE || d->asked)
        return;
    d->asked = true;
    d->reason = reason;
    if (!d->canceller->has[0]) {
        d->swallow = true;
        fire(d, reason);
        return;
    }
    use(d);
    run_canceller(d);
    outcome = d->canceller->outcome;
    if (outcome == WEFT_CANCEL_FAILED)
        tell("not_stopped@%s ", context_names[context]);
    if (d->state == PENDING && outcome != WEFT_CANCEL_LATER) {
        d->swallow = outcome == WEFT_CANCEL_FAILED;
        fire(d, reason);
    }
    let_go(d);
}

static void add(struct model *d, const struct step *step)
{
    if (d->consumed)
        tell("handed_over@%s ", context_names[context]);
    append(d, (struct entry){.pair = step, .context = context});
    if (ready(d))
        run(d);
}

static void unpause(struct model *d)
{
    if (!d->pauses)
        tell("not_paused@%s ", context_names[context]);
    else if (!--d->pauses)
        run(d);
}

static void take(struct model *d)
{
    if (!ready(d) || d->consumed) {
        tell("take=!misuse ");
        return;
    }
    tell("take=%s ", word_of(d->result));
    d->result = made(NIL, 0);
    d->consumed = true;
}

static void look(const struct model *d)
{
    static const char *const states[] = {"pending", "waiting", "done"};
    bool has_result = d->state == DONE && !d->running;

    tell("look=%s,%s%s%s ", states[d->state], word_of(has_result ? d->result : made(NOT_YET, 0)), d->pauses ? ",paused" : "",
         d->state != PENDING || !d->asked ? "" : d->reason.kind == REASON ? ",client_gone" : ",cancelled");
}

static void report_living(void)
{
    report_begin();
    for (struct model *d = living; d; d = d->next_living) {
        if (is_news(d) && !d->running && !d->entries)
            report(d);
    }
    report_end();
}

/* ---- steps ---- */

static void assign(int variable, struct model *d)
{
    struct model *previous = variables[variable];

    variables[variable] = d;
    if (previous)
        let_go(previous);
}

static struct model *create_ready(const struct step *step)
{
    struct model *d = create(step);

    d->state = DONE;
    d->result = made(step->fails ? FAILED : NUMBER, step->id);
    return d;
}

static struct model *create_pending(const struct step *step)
{
    struct model *d = create(step);

    d->owns = step->owned;
    return d;
}

static void work_on(struct model *d, const struct step *step)
{
    struct result result = made(step->fails ? FAILED : NUMBER, step->id);
    struct model *other;

    switch (step->action) {
    case FIRE:
    case TRY:
        try_to_fire(d, result, step->action == TRY);
        break;
    case FIRE_LATER:
        if ((other = returned(step, LATER)))
            fire_with_later(other);
        break;
    case ADD:
        add(d, step);
        break;
    case CANCEL:
        cancel(d, made(CANCELLED, 0));
        break;
    case CANCEL_WITH:
        cancel(d, made(REASON, 0));
        break;
    case DROP:
        assign(step->variable, NULL);
        break;
    case COPY:
        assign(step->other, use(d));
        break;
    case TAKE:
        take(d);
        break;
    case LOOK:
        look(d);
        break;
    case PAUSE:
        d->pauses++;
        break;
    case UNPAUSE:
        unpause(d);
        break;
    default: /* FORWARD */
        if ((other = returned(step, step->fails ? LATER_LAST : LATER)))
            forward(other, d);
    }
}

static void take_step(struct step *step)
{
    struct model *d = step->variable == SELF ? self : variables[step->variable];
    int previous = context;

    if (step->dropped)
        return;
    context = step->context;
    if (step->action == NEW)
        assign(step->variable, create_pending(step));
    else if (step->action == READY)
        assign(step->variable, create_ready(step));
    else if (step->action == REPORT)
        report_living();
    else if (d && step->holds) {
        use(d);
        work_on(d, step);
        let_go(d);
    } else if (d)
        work_on(d, step);
    context = previous;
}

static void begin(void)
{
    for (int i = 0; i < VARIABLES; i++)
        variables[i] = NULL;
    self = living = NULL;
    context = 0;
}

static void drop_variable(int variable)
{
    assign(variable, NULL);
}

/* Each result is held once, and the reason of a cancel while the deferred is pending. */
static struct alive count(void)
{
    struct alive alive = {0};

    for (struct model *d = living; d; d = d->next_living) {
        alive.deferreds++;
        alive.values += d->state == DONE && d->result.kind == NUMBER;
        alive.errors += d->state == DONE && failed(d->result);
        alive.errors += d->state == PENDING && d->asked;
    }
    return alive;
}

const struct side model_side = {begin, take_step, drop_variable, count};

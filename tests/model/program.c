/* Programs: out of bytes, and as text. */
#include "tests/model/program.h"

#include <string.h>

struct bytes {
    const uint8_t *next;
    size_t left;
};

/* One of `sides`; 0 when there are no bytes any more, which always is the dullest choice. */
static int choose(struct bytes *bytes, int sides)
{
    if (!bytes->left)
        return 0;
    bytes->left--;
    return *bytes->next++ % sides;
}

static struct step *make_step(struct program *program, struct bytes *bytes, int depth);

static void choose_pair_or_canceller(struct program *program, struct step *step, struct bytes *bytes, int depth)
{
    int sides = choose(bytes, 8);

    step->has[0] = sides % 4 != 3;
    step->has[1] = sides != 4 && sides != 5;
    step->answer[0] = choose(bytes, ANSWERS);
    step->answer[1] = choose(bytes, ANSWERS);
    step->outcome = choose(bytes, 3);
    step->owned = choose(bytes, 3) == 2;
    for (int i = 0; i < INSIDES && depth < MAX_DEPTH; i++) {
        bool runs = i == ON_RELEASE ? step->owned : step->action == ADD ? step->has[i] : i == ON_CANCEL && step->has[0];

        if (runs && choose(bytes, 3) == 2)
            step->inside[i] = make_step(program, bytes, depth + 1);
    }
}

static struct step *make_step_to(enum action action, struct program *program, struct bytes *bytes, int depth)
{
    struct step *step = &program->steps[program->used++];

    *step = (struct step){.id = program->used, .action = action};
    step->variable = choose(bytes, depth ? VARIABLES + 1 : VARIABLES);
    step->other = choose(bytes, depth ? VARIABLES + 1 : VARIABLES);
    step->context = choose(bytes, CONTEXTS);
    step->holds = choose(bytes, 2);
    step->fails = choose(bytes, 2);
    /* `self` is borrowed: nothing is assigned to it. */
    if (step->action == NEW || step->action == READY || step->action == DROP)
        step->variable %= VARIABLES;
    if (step->action == COPY)
        step->other %= VARIABLES;
    if (step->action == ADD || step->action == NEW)
        choose_pair_or_canceller(program, step, bytes, depth);
    return step;
}

static struct step *make_step(struct program *program, struct bytes *bytes, int depth)
{
    static const uint8_t often[] = {
        LOOK, NEW, NEW, NEW, READY, READY, FIRE, FIRE, FIRE, FIRE, TRY, FIRE_LATER, ADD, ADD, ADD, ADD, ADD, ADD, ADD,
        ADD, ADD, ADD, CANCEL, CANCEL, CANCEL, CANCEL_WITH, DROP, DROP, COPY, COPY, TAKE, PAUSE, PAUSE, UNPAUSE,
        UNPAUSE, UNPAUSE, FORWARD, FORWARD, FORWARD, REPORT,
    };

    return make_step_to(often[choose(bytes, sizeof often)], program, bytes, depth);
}

void program_from_bytes(struct program *program, const uint8_t *bytes, size_t size)
{
    struct bytes rest = {bytes, size};

    program->used = program->length = 0;
    for (int i = 0; i < VARIABLES; i++) { /* so that the first steps have something to work on */
        program->top[program->length++] = make_step_to(NEW, program, &rest, 0);
        program->top[i]->variable = i;
    }
    while (rest.left && program->length < MAX_TOP_STEPS)
        program->top[program->length++] = make_step(program, &rest, 0);
}

/* splitmix64: neighbouring seeds have nothing in common. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

void program_from_seed(struct program *program, uint64_t seed)
{
    uint64_t words[64], state = seed;
    size_t count = 8 + next_random(&state) % 56;

    for (size_t i = 0; i < count; i++)
        words[i] = next_random(&state);
    program_from_bytes(program, (const uint8_t *)words, count * sizeof words[0]);
}

/* ---- as text ---- */

static const char names[] = "abcds"; /* the variables, and self */

static void print_answers(const struct step *step, FILE *out)
{
    static const char *const returns[] = {"what it got", "v%d", "!e%d", "later %c", "later %c, giving it away"};

    for (int side = 0; side < 2; side++) {
        if (!step->has[side])
            continue;
        fprintf(out, side ? ", on error " : ", on value ");
        fprintf(out, returns[step->answer[side]], step->answer[side] >= LATER ? names[step->other] : step->id);
    }
}

static void print_canceller(const struct step *step, FILE *out)
{
    static const char *const fires[] = {"", " fires v%d,", " fires !e%d,", " forwards %c to it,",
                                        " forwards %c to it, giving it away,"};
    static const char *const outcomes[] = {"done", "later", "failed"};
    enum answer answer = step->answer[0];

    if (!step->has[0])
        return;
    fprintf(out, ", canceller");
    fprintf(out, fires[answer], answer >= LATER ? names[step->other] : step->id);
    fprintf(out, " says %s", outcomes[step->outcome]);
}

static void print_step(const struct step *step, int depth, const char *when, FILE *out)
{
    static const char *const verbs[] = {
        "%c = new", "%c = ready", "%c fire", "%c try to fire", "%c fire with later", "%c add", "%c cancel",
        "%c cancel with a reason", "%c drop", "%c copy to", "%c take the result", "%c look", "%c pause", "%c unpause", "%c gets forwarded", "report",
    };
    static const char *const whens[2][INSIDES] = {{"canceller: ", "", "release: "}, {"on value: ", "on error: ", "release: "}};

    if (step->dropped)
        return;
    fprintf(out, "%*s%s", 4 + 4 * depth, "", when);
    fprintf(out, verbs[step->action], names[step->variable]);
    if (step->action == READY || step->action == FIRE || step->action == TRY)
        fprintf(out, step->fails ? " !e%d" : " v%d", step->id);
    if (step->action == COPY || step->action == FIRE_LATER || step->action == FORWARD)
        fprintf(out, " %c", names[step->other]);
    if (step->action == FORWARD && step->fails)
        fprintf(out, ", giving it away");
    if (step->action == ADD || step->action == NEW)
        fprintf(out, " #%d", step->id);
    if (step->action == ADD)
        print_answers(step, out);
    if (step->action == NEW)
        print_canceller(step, out);
    if ((step->action == ADD || step->action == NEW) && step->owned)
        fprintf(out, ", owned");
    if (step->context)
        fprintf(out, "   [in context %s]", step->context == 1 ? "one" : "two");
    if (step->holds && step->action >= FIRE && step->action < REPORT)
        fprintf(out, "   [holding it]");
    fputc('\n', out);
    for (int i = 0; i < INSIDES; i++) {
        if (step->inside[i])
            print_step(step->inside[i], depth + 1, whens[step->action == ADD][i], out);
    }
}

void program_print(const struct program *program, FILE *out)
{
    for (int i = 0; i < program->length; i++)
        print_step(program->top[i], 0, "", out);
}

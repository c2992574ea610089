/* Running programs on both sides, and making a failing one smaller.
 *
 * Programs run in child processes, many to each, since a deferred that is broken may crash, hang, or leave a mess for the
 * next. The one that a child has begun stands in memory that it shares with its parent. */
#include "tests/model/check.h"
#include "tests/model/side.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STORY = 64 * 1024, BATCH = 5000, BATCH_SECONDS = 120, ATTEMPT_SECONDS = 10, HERE = 200, MOST_ROUNDS = 1000 };

static struct program program;
static char stories[2][STORY];

/* With a sanitizer only. */
void __sanitizer_set_report_path(const char *path) __attribute__((weak));

/* ---- one program ---- */

static struct alive tell_alive(const struct side *side)
{
    struct alive alive = side->count();

    tell("| %d.%d.%d ", alive.deferreds, alive.values, alive.errors);
    return alive;
}

/* What goes may run callbacks and releases that bring others, one after the other: until no variable has any. */
static void drop_all(const struct side *side)
{
    for (int round = 0; round < MOST_ROUNDS && side->count().deferreds; round++) {
        for (int i = 0; i < VARIABLES; i++)
            side->drop_variable(i);
    }
}

static void run(const struct side *side, char *story)
{
    story_begin(story, STORY);
    side->begin();
    for (int i = 0; i < program.length; i++) {
        side->take_step(program.top[i]);
        if (!program.top[i]->dropped)
            tell_alive(side);
    }
    tell("end: ");
    drop_all(side);
    if (tell_alive(side).deferreds)
        tell("left");
}

/* The library goes first: it is the one that may crash, and then the model's memory is not lost. */
static bool same_stories(void)
{
    run(&library_side, stories[0]);
    run(&model_side, stories[1]);
    return strcmp(stories[0], stories[1]) == 0 && !strstr(stories[0], "left");
}

static void print_stories(void)
{
    size_t same = 0;

    while (stories[0][same] && stories[0][same] == stories[1][same])
        same++;
    while (same && stories[0][same - 1] != ' ')
        same--;
    fprintf(stderr, "both tell: %.*s\nthe library then: %s\nthe model then:   %s\n", (int)same, stories[0], stories[0] + same,
            stories[1] + same);
}

bool check_bytes(const uint8_t *bytes, size_t size)
{
    program_from_bytes(&program, bytes, size);
    if (same_stories())
        return true;
    fprintf(stderr, "the model and the library disagree on this program:\n");
    program_print(&program, stderr);
    print_stories();
    return false;
}

/* ---- in child processes ---- */

static bool ended_well(pid_t child)
{
    int status;

    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* In a child of its own, and quietly. */
static bool attempt_succeeds(void)
{
    pid_t child;

    fflush(NULL);
    if ((child = fork()))
        return ended_well(child);
    alarm(ATTEMPT_SECONDS);
    if (__sanitizer_set_report_path)
        __sanitizer_set_report_path("stderr");
    if (!freopen("/dev/null", "w", stderr) || !same_stories())
        _exit(1);
    _exit(0);
}

/* The same with its report, for whoever reads it. */
static void show_failure(void)
{
    pid_t child;

    program_print(&program, stderr);
    fflush(NULL);
    if ((child = fork())) {
        if (!ended_well(child))
            fprintf(stderr, "(there it ended)\n");
        return;
    }
    alarm(ATTEMPT_SECONDS);
    if (!same_stories())
        print_stories();
    _exit(0);
}

enum { SIMPLIFICATIONS = 9 };

/* Makes a step simpler in one of these ways. False: it was as simple before. */
static bool simplify(struct step *step, int way)
{
    struct step before = *step;

    switch (way) {
    case 0:
        step->dropped = true;
        break;
    case 1:
        step->owned = false;
        break;
    case 2:
        step->context = 0;
        break;
    case 3:
        step->holds = false;
        break;
    case 4:
    case 5:
        step->answer[way - 4] = PASS;
        break;
    case 6:
    case 7:
        step->has[way - 6] = false;
        break;
    default:
        step->fails = false;
    }
    return memcmp(step, &before, sizeof before) != 0;
}

static bool make_smaller_once(void)
{
    bool smaller = false;

    for (int way = 0; way < SIMPLIFICATIONS; way++) {
        for (int i = program.used - 1; i >= 0; i--) {
            struct step before = program.steps[i];

            if (before.dropped || !simplify(&program.steps[i], way))
                continue;
            if (attempt_succeeds())
                program.steps[i] = before;
            else
                smaller = true;
        }
    }
    return smaller;
}

static void explain(const char *name)
{
    if (attempt_succeeds()) {
        fprintf(stderr, "%s fails only after others:\n", name);
    } else {
        while (make_smaller_once())
            ;
        fprintf(stderr, "%s fails; this is left of it:\n", name);
    }
    show_failure();
}

bool check_bytes_apart(const uint8_t *bytes, size_t size)
{
    program_from_bytes(&program, bytes, size);
    if (attempt_succeeds())
        return true;
    explain("the program");
    return false;
}

static bool check_batch(uint64_t *seed, uint64_t end)
{
    pid_t child;

    fflush(NULL);
    if ((child = fork()))
        return ended_well(child);
    alarm(BATCH_SECONDS);
    for (; *seed < end; ++*seed) {
        program_from_seed(&program, *seed);
        if (!same_stories())
            _exit(1);
    }
    _exit(0);
}

/* Some programs once more in this process, at whose end LeakSanitizer looks for what nobody counts. */
static void run_here(uint64_t first, uint64_t end)
{
    for (uint64_t seed = first; seed < end; seed++) {
        program_from_seed(&program, seed);
        same_stories();
    }
    library_end();
}

bool check_seeds(uint64_t first, uint64_t count)
{
    uint64_t *seed = mmap(NULL, sizeof *seed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), end = first + count;
    bool good = seed != MAP_FAILED;
    char name[64];

    for (*seed = first; good && *seed < end;)
        good = check_batch(seed, *seed + BATCH < end ? *seed + BATCH : end);
    if (!good && *seed < end) {
        snprintf(name, sizeof name, "seed %" PRIu64, *seed);
        program_from_seed(&program, *seed);
        explain(name);
    }
    if (good)
        run_here(first, count < HERE ? end : first + HERE);
    munmap(seed, sizeof *seed);
    return good;
}

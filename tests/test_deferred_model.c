/* The deferred against a model of it: random programs run on both, and both must tell the same story (tests/model/).
 *
 * A failing program is printed as short as it still fails, with its seed. To run that, or others:
 *     WEFT_MODEL_SEED=123 make test T='deferred_model/tells*'               the programs from this seed on
 *     WEFT_MODEL_SECONDS=60 make test-slow T='slow_deferred_model/fresh*'   new ones, for so long
 *     make fuzz SECONDS=60                                                  libFuzzer's, under sanitizers
 *     make fuzz INPUT=build/clang-address-undefined-fuzz/crash-1f3a         the one that it has left in a file */
#include "tests/model/check.h"
#include "tests/support/test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef WEFT_TEST_SANITIZED
enum { PROGRAMS = 2000, MILLION = 50 * 1000, ROUND = 1000 };
#else
enum { PROGRAMS = 40 * 1000, MILLION = 1000 * 1000, ROUND = 10 * 1000 };
#endif

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);

    return text ? strtoull(text, NULL, 10) : otherwise;
}

Test(deferred_model, tells_the_same_story_as_the_library, .timeout = 120)
{
    cr_assert(check_seeds(number_from("WEFT_MODEL_SEED", 0), PROGRAMS));
}

Test(slow_deferred_model, tells_the_same_story_of_a_million_programs, .timeout = 900)
{
    cr_assert(check_seeds(1000 * 1000 * 1000, MILLION));
}

Test(slow_deferred_model, fresh_programs_tell_the_same_story, .timeout = 900)
{
    time_t end = time(NULL) + (time_t)number_from("WEFT_MODEL_SECONDS", 5);
    uint64_t first = (uint64_t)time(NULL) * 1000 * 1000, seed = first;

    fprintf(stderr, "the programs of seed %" PRIu64 " and those after it\n", first);
    for (; time(NULL) < end; seed += ROUND)
        cr_assert(check_seeds(seed, ROUND));
    fprintf(stderr, "%" PRIu64 " programs, the last of seed %" PRIu64 "\n", seed - first, seed - 1);
}

/* What whoever starts a program may ask of its reactors, without changing it: variables of the environment.
 *
 *     WEFT_READY_SEED=n     those that are ready run in the order that this seed brings (weft_fiber_shuffle)
 *     WEFT_LOG=levels       which lines are made, "info,weft.http=debug" (weft_log_set_levels); by the process's first one
 *     WEFT_STALL_SECONDS=x  warns of what keeps a thread for longer (weft_reactor_set_stall_limit)
 *
 * What makes no sense is said, and not heeded. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <weft/fiber.h>
#include <weft/log.h>

#include "runtime/loop/loop.h"

weft_logger weft__logger_loop = WEFT_LOGGER("weft.loop");

static const char *const LOG = "WEFT_LOG";
static const char *const SEED = "WEFT_READY_SEED";
static const char *const STALL = "WEFT_STALL_SECONDS";

/* NULL also when it is empty. */
static const char *variable(const char *name)
{
    const char *text = getenv(name);

    return text && *text ? text : NULL;
}

static void heed_log(const char *text)
{
    static bool heeded;
    weft_error *error;

    if (__atomic_exchange_n(&heeded, true, __ATOMIC_RELAXED)) /* what the program has set since then stays */
        return;
    if ((error = weft_log_set_levels(text)))
        weft_log_warn("%s is not heeded: %s", LOG, weft_error_get_message(error));
    weft_error_unref(error);
}

static void heed_seed(const char *text)
{
    char *end;
    uint64_t seed;

    errno = 0;
    seed = strtoull(text, &end, 10);
    if (*end || errno || *text < '0' || *text > '9') {
        weft_log_warn("%s=%s is not heeded: it should be a number", SEED, text);
        return;
    }
    if (!seed)
        return;
    weft_fiber_shuffle(seed);
    weft_log_info("%s=%" PRIu64 ": the order in which fibers run is shuffled", SEED, seed);
}

static void heed_stall(weft_reactor *reactor, const char *text)
{
    weft_error *error;
    char *end;
    double seconds = strtod(text, &end);

    if (*end || !isfinite(seconds) || seconds < 0) {
        weft_log_warn("%s=%s is not heeded: it should be a number of seconds", STALL, text);
        return;
    }
    if ((error = weft_reactor_set_stall_limit(reactor, seconds)))
        weft_log_warn("%s is not heeded: %s", STALL, weft_error_get_message(error));
    weft_error_unref(error);
}

void weft__environment_heed(weft_reactor *reactor)
{
    const char *text;

    if ((text = variable(LOG)))
        heed_log(text);
    if ((text = variable(SEED)))
        heed_seed(text);
    if ((text = variable(STALL)))
        heed_stall(reactor, text);
}

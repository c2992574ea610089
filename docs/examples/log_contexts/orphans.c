/* Listeners that both sides lose sight of. */
#include "log_contexts.h"

enum { MAX_LISTENERS = 10 };

static weft_deferred *listener_queue[MAX_LISTENERS];
static size_t listeners;

static void on_something_interesting(void)
{
    for (size_t i = 0; i < listeners; i++)
        weft_deferred_callback(listener_queue[i], weft_ok((void *)"foo"));
}

static weft_result await_something_interesting(void *unused)
{
    weft_deferred *new_deferred = weft_deferred_new(NULL, NULL);
    weft_result result = weft_ok(NULL);

    (void)unused;
    if (listeners == MAX_LISTENERS)
        return weft_fail(weft_error_new(&WEFT_FAILURE, "%d listen already", MAX_LISTENERS));
    listener_queue[listeners++] = weft_deferred_ref(new_deferred);
    weft_preserve_context(NULL)
        result = weft_await(new_deferred);
    weft_log_debug("%s", weft_failed(result) ? "nothing will come" : (const char *)result.value);
    return result;
}

static void reset_listener_queue(void)
{
    while (listeners)
        weft_deferred_unref(listener_queue[--listeners]);
}

static void await_in(const char *request_id)
{
    weft_auto(weft_context_unref) weft_context *request_context = weft_context_new(request_id);

    weft_preserve_context(request_context)
        weft_deferred_unref(weft_spawn(await_something_interesting, NULL)); /* whoever waited has gone away */
}

void orphans(void)
{
    await_in("request-1");
    on_something_interesting();
    finish_all();
    reset_listener_queue();

    await_in("request-2");
    reset_listener_queue();
    weft_log_info("nobody is left on either side");
    finish_all();
    weft_log_info("and no context has come back to life");
}

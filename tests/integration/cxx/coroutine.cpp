// Coroutines of C++20 driven by weft: what weft/driver.h is for. No fiber, no reactor, and of weft's libraries only the core.
// tests/test_house.c compiles it against the installed headers and runs it; it should say what is in coroutine.txt.
#include <coroutine>
#include <cstdio>
#include <exception>

#include <weft/driver.h>
#include <weft/live.h>
#include <weft/scope.h>
#include <weft/test_clock.h>

namespace {

// What a coroutine that waits for deferreds returns. Its frame goes when it has ended.
struct computation {
    struct promise_type;
    using handle_type = std::coroutine_handle<promise_type>;

    struct wait {
        promise_type &promise;
        weft_deferred *deferred;

        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<>) const noexcept { promise.awaited = deferred; }
        weft_result await_resume() const noexcept { return promise.sent; }
    };

    struct promise_type {
        weft_deferred *awaited = nullptr;
        weft_result sent{}, result{};

        computation get_return_object() { return {handle_type::from_promise(*this)}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_value(weft_result value) { result = value; }
        void unhandled_exception() { std::terminate(); }
        wait await_transform(weft_deferred *deferred) { return {*this, deferred}; } // takes the reference
    };

    handle_type handle;
};

weft_result step(weft_result sent, void *arg)
{
    auto handle = computation::handle_type::from_address(arg);

    handle.promise().sent = sent;
    handle.resume();
    if (!handle.done())
        return weft_later(handle.promise().awaited);
    weft_result result = handle.promise().result;
    handle.destroy();
    return result;
}

weft_deferred *drive(computation computation)
{
    return weft_drive(step, computation.handle.address());
}

int number(weft_result result)
{
    return static_cast<int>(reinterpret_cast<intptr_t>(result.value));
}

computation add(weft_deferred *a, weft_deferred *b)
{
    weft_result first = co_await a, second = co_await b;

    co_return weft_int(number(first) + number(second));
}

computation wait_within(double seconds, weft_deferred *deferred)
{
    weft_scope_options options{};

    options.timeout = seconds;
    weft_scope *scope = weft_scope_enter(options);
    weft_result result = co_await deferred;
    std::printf("came out: %s\n", weft_failed(result) ? weft_error_get_kind(weft_failed(result))->name : "a value");
    co_return weft_scope_leave(&scope, result);
}

computation wait_for(weft_deferred *deferred)
{
    co_return co_await deferred;
}

void end(weft_deferred *driven, const char *what)
{
    while (weft_run_ready())
        ;
    weft_result result = weft_deferred_take_result(driven);
    if (weft_failed(result))
        std::printf("%s: %s\n", what, weft_error_get_kind(weft_failed(result))->name);
    else
        std::printf("%s: %d\n", what, number(result));
    weft_result_drop(result);
    weft_deferred_unref(driven);
}

} // namespace

int main()
{
    weft_auto(weft_test_clock_free) weft_test_clock *time = weft_test_clock_new();
    weft_deferred *a = weft_deferred_new(nullptr, nullptr), *b = weft_deferred_new(nullptr, nullptr);
    weft_deferred *sum = drive(add(weft_deferred_ref(a), weft_deferred_with(weft_int(2))));

    weft_clock_set(weft_test_clock_get_clock(time));
    weft_deferred_callback(a, weft_int(40));
    end(sum, "sum");

    weft_deferred *late = drive(wait_within(2, weft_deferred_ref(b)));
    weft_test_clock_advance(time, 2);
    end(late, "late");
    weft_deferred_unref(a);
    weft_deferred_unref(b);

    // One coroutine waits for another that waits, and is cancelled from outside.
    b = weft_deferred_new(nullptr, nullptr);
    weft_deferred *outer = drive(wait_for(drive(wait_for(weft_deferred_ref(b)))));
    weft_deferred_cancel(outer);
    end(outer, "outer");
    weft_deferred_unref(b);

    weft_live_counts counts = weft_live_counts_get();
    std::printf("left: %zu\n", counts.deferreds + counts.errors + counts.fibers + counts.scopes + counts.timers);
    return 0;
}

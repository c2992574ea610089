// A program in C++ on top of weft, which tests/test_house.c compiles against the installed headers, links and runs. It says
// what it sees, and should say what is in output.txt.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <weft/http.h>
#include <weft/weft.h>

namespace {

struct room {
    const char *name;
    int people;
};

int rooms_let_go_of;

void room_unref(void *room)
{
    delete static_cast<struct room *>(room);
    rooms_let_go_of++;
}

const weft_type room_type = {"room", nullptr, room_unref};
const weft_error_kind ROOM_ERROR = {"room_error", &WEFT_FAILURE};
const weft_error_kind ROOM_FULL = {"room_full", &ROOM_ERROR};

// Keeps the order in which objects of C++ and of weft are let go of visible.
struct leaves {
    const char *what;
    ~leaves() { std::printf("left %s\n", what); }
};

void print_line(const weft_log_record *record, void *)
{
    std::printf("%s %s %s\n", weft_log_level_name(record->level), record->context, record->message);
}

// ---- deferreds

weft_result plus(weft_result result, void *number)
{
    intptr_t sum = reinterpret_cast<intptr_t>(result.value) + reinterpret_cast<intptr_t>(number);

    return weft_int(sum);
}

weft_cancel_outcome stop(weft_deferred *deferred, void *)
{
    std::printf("stopped for %s\n", weft_error_get_kind(weft_deferred_get_cancellation(deferred))->name);
    return WEFT_CANCEL_DONE;
}

void use_deferreds()
{
    weft_deferred *number = weft_deferred_new(nullptr, nullptr), *work = weft_deferred_new(stop, nullptr);
    // Functions and lambdas that capture nothing are callbacks.
    weft_callback_fn *print = [](weft_result result, void *) {
        std::printf("number %d\n", static_cast<int>(reinterpret_cast<intptr_t>(result.value)));
        return weft_ok(nullptr);
    };

    weft_deferred_add_callback(number, plus, reinterpret_cast<void *>(40));
    weft_deferred_add_callback(number, print, nullptr);
    weft_deferred_callback(number, weft_int(2));
    weft_deferred_unref(number);

    weft_deferred_cancel(work);
    weft_deferred_add_errback(work, [](weft_result result, void *) {
        std::printf("cancelled: %d\n", weft_error_is(weft_failed(result), &WEFT_CANCELLED));
        weft_result_drop(result);
        return weft_ok(nullptr);
    }, nullptr);
    weft_deferred_unref(work);
}

// ---- many into one, locks, queues and time

weft_result count(uint64_t round, void *rounds)
{
    *static_cast<uint64_t *>(rounds) += round;
    return weft_ok(nullptr);
}

void use_the_rest_of_the_core()
{
    weft_auto(weft_test_clock_free) weft_test_clock *time = weft_test_clock_new();
    weft_clock *clock = weft_test_clock_get_clock(time);
    weft_auto(weft_lock_unref) weft_lock *lock = weft_lock_new();
    weft_auto(weft_queue_free) weft_queue *queue = weft_queue_new(1, WEFT_UNLIMITED);
    weft_deferred *members[] = {weft_succeed(weft_int(3)), weft_defer_later(clock, 2, nullptr, nullptr),
                                weft_lock_acquire(lock), weft_queue_get(queue)};
    weft_deferred *all = weft_gather_results(members, 4, 0);
    weft_looping_call_options every_second{};
    uint64_t rounds = 0;
    weft_looping_call *looping = weft_looping_call_new(clock, count, &rounds);

    every_second.interval = 1;
    weft_deferred_unref(weft_looping_call_start(looping, every_second));
    weft_error_unref(weft_queue_put(queue, weft_int(4)));
    weft_test_clock_advance(time, 2);
    weft_looping_call_free(looping);

    weft_result result = weft_deferred_take_result(all);
    const weft_results *results = static_cast<weft_results *>(result.value);

    std::printf("gathered %zu, the lock is held: %d, rounds: %d\n", results->count, weft_lock_is_locked(lock),
                static_cast<int>(rounds));
    weft_result_drop(result);
    std::printf("and let go of with them: %d\n", !weft_lock_is_locked(lock));
    weft_deferred_unref(all);
}

// ---- errors

weft_error *enter(const room *room)
{
    if (room->people > 10)
        return weft_error_with_payload(
            weft_error_caused_by(weft_error_new(&ROOM_FULL, "room %s holds %d", room->name, room->people),
                                 weft_error_os(EAGAIN, "cannot count")),
            weft_int(room->people));
    return nullptr;
}

weft_result check(const room *room)
{
    leaves checked{"check"};

    WEFT_CHECK(enter(room));
    return weft_ok(nullptr);
}

void use_errors()
{
    room full = {"lobby", 12}, empty = {"attic", 0};
    weft_result result = check(&full);
    weft_error *error = weft_failed(result);
    const weft_place *const *trace;
    char text[1000];

    std::printf("%s is a failure: %d, a cancellation: %d, passed %zu\n", weft_error_get_message(error),
                weft_error_is(error, &WEFT_FAILURE), weft_error_is(error, &WEFT_CANCELLED),
                weft_error_get_trace(error, &trace));
    std::printf("holds %d, passed %s\n",
                static_cast<int>(reinterpret_cast<intptr_t>(weft_error_get_payload(error, &weft_int_type))),
                trace[0]->function);
    weft_error_print_json(error, text, sizeof text);
    std::printf("caused by the system: %d\n", std::strstr(text, "\"cause\":{\"kind\":\"os_error\"") != nullptr);
    weft_result_drop(result);
    std::printf("attic: %d\n", weft_failed(check(&empty)) != nullptr);
}

// ---- contexts

void print_current(const char *when)
{
    weft_usage usage = weft_context_get_usage(weft_context_current());

    std::printf("%s: in %s, rows %d\n", when, weft_context_get_name(weft_context_current()), static_cast<int>(usage.db_rows));
}

weft_description throwing = WEFT_DESCRIPTION("throwing");

void throw_inside()
{
    weft_with_context(request, weft_context_new("GET-1")) {
        weft_usage rows{};

        weft_context_set_field(request, "requester", "@a:b");
        rows.db_rows = 2;
        weft_with_context(block, weft_context_new_child(request, "block"))
            weft_context_charge(block, &rows);
        print_current("in a block");
        weft_preserve_context(nullptr)
            weft_measure(&throwing)
                throw 1;
    }
}

void use_contexts()
{
    for (int i = 0; i < 2; i++) {
        weft_with_context(context, weft_context_new_numbered("round", static_cast<uint64_t>(i))) {
            if (i)
                break;
            continue;
        }
        print_current("left");
    }
    try {
        throw_inside();
    } catch (int) {
        print_current("thrown out");
    }
}

// ---- fibers

weft_result make_room(void *name)
{
    WEFT_TRY(weft_sleep(0.001));
    return weft_own(new room{static_cast<const char *>(name), 3}, &room_type);
}

weft_result look_into_rooms(void *)
{
    weft_auto(weft_context_unref) weft_context *context = weft_context_new("look");
    leaves last{"the fiber"};
    char cellar[] = "cellar";
    weft_result result = weft_await(weft_spawn(make_room, cellar));
    room *made = static_cast<room *>(WEFT_TRY(result));

    std::printf("%s holds %d in %s\n", made->name, made->people, weft_context_get_name(context));
    weft_result_drop(result);
    // A deferred that nobody can fire any more.
    WEFT_TRY(weft_await(weft_deferred_new(nullptr, nullptr)));
    return weft_ok(nullptr);
}

void use_fibers(weft_reactor *reactor)
{
    weft_result result = weft_reactor_run_until(reactor, weft_spawn(look_into_rooms, nullptr));

    std::printf("orphaned: %d\n", weft_error_is(weft_failed(result), &WEFT_ORPHANED));
    weft_result_drop(result);
    weft_log_info("rooms let go of: %d", rooms_let_go_of);
}

// ---- HTTP

weft_result greet(weft_request *request, void *greeting)
{
    return weft_respond_text(request, 200, static_cast<const char *>(greeting));
}

weft_error *use_http(weft_reactor *reactor)
{
    weft_auto(weft_http_server_free) weft_http_server *server =
        weft_http_server_new(reactor, weft_http_server_options{});
    weft_route_options options{};
    char hello[] = "hello";

    options.cancellable = true;
    options.arg = hello;
    weft_route(server, "GET", "/hello", greet, options);
    if (weft_error *error = weft_http_server_listen(server, "127.0.0.1:0"))
        return error;
    std::printf("listens: %d\n", weft_http_server_get_port(server) > 0);
    weft_result_drop(weft_reactor_run_until(reactor, weft_http_server_drain(server)));
    return nullptr;
}

} // namespace

int main()
{
    weft_reactor *reactor = nullptr;
    weft_error *error;

    weft_log_set_sink(print_line, nullptr);
    use_deferreds();
    use_the_rest_of_the_core();
    use_errors();
    use_contexts();
    if ((error = weft_reactor_new(&reactor)))
        return EXIT_FAILURE;
    use_fibers(reactor);
    if ((error = use_http(reactor)))
        return EXIT_FAILURE;
    weft_reactor_free(reactor);
    std::printf("alive: %zu\n", weft_live_counts_get().deferreds + weft_live_counts_get().errors +
                                    weft_live_counts_get().contexts + weft_live_counts_get().fibers);
}

/* weft/scope.h: scopes: a piece of a fiber's work that can be stopped as a whole, by a deadline or by anybody.
 *
 * Cancelling a deferred interrupts one wait. Cancelling a scope interrupts every wait inside it until it is left, so code
 * that handles the first interruption does not get stuck in the next wait. What comes out of an interrupted wait is the
 * scope's cancellation, and only that scope, when it is left, turns it into an end of its own: WEFT_TIMED_OUT for a
 * deadline, success with no value ("done") otherwise. Any other error, also the cancellation of a scope further out, passes.
 * (Trio's rules.) When several around a wait were cancelled, what comes out is the cancellation of the outermost.
 *
 *     static weft_result ask_both(void *arg) { … WEFT_TRY(weft_await(…)); … }
 *
 *     weft_result answer = weft_fail_after(2.5, ask_both, arg);
 *
 * Scopes nest. A fiber that is started in a scope is in it too until it ends, also when whoever entered it has left it: its
 * deadline and its cancel hold for both. What is called "fiber" here is also a driven computation (weft/driver.h); callbacks
 * and cancellers are no part of the fiber that happens to run when they are called.
 *
 * A shield is a scope that keeps cancels out: those of scopes further out, and those of the fiber's own deferred, which wait
 * until it is left, and then come out of the next wait: for clean-up that has to wait. */
#ifndef WEFT_SCOPE_H
#define WEFT_SCOPE_H

#include <weft/deferred.h>
#include <weft/fiber.h>

WEFT_BEGIN

typedef struct weft_scope weft_scope;

/* ---- running a function in a scope: each waits if the function does; with libweft, for fibers ------------------------ */

/* The result of fn(arg), which may be weft_later(d): that is waited for inside. A WEFT_TIMED_OUT failure when it had not
 * ended `seconds` from now and was therefore cancelled: at its first wait when they are not positive, or not a number. What
 * it returned although its time had passed, a value or another error, is kept. Outside a fiber, WEFT_MISUSE, and `fn` is not
 * called. */
#define weft_fail_after(seconds, fn, arg) weft_fail_after_at(seconds, fn, arg, WEFT_HERE)
WEFT_API weft_result weft_fail_after_at(double seconds, weft_fiber_fn *fn, void *arg, const weft_place *place) WEFT_MUST_USE;
/* The same, but success with no value when it had not ended. */
#define weft_move_on_after(seconds, fn, arg) weft_move_on_after_at(seconds, fn, arg, WEFT_HERE)
WEFT_API weft_result weft_move_on_after_at(double seconds, weft_fiber_fn *fn, void *arg, const weft_place *place)
    WEFT_MUST_USE;

/* ---- entering and leaving --------------------------------------------------------------------------------------------- */

typedef struct weft_scope_options {
    double timeout;   /* seconds from now after which it is cancelled with WEFT_DEADLINE; 0: none; negative, NaN: at once */
    int64_t deadline; /* the same as an instant of this thread's clock, nanoseconds; 0: none. The earlier of both counts */
    bool move_on;     /* a deadline ends the scope as done, rather than with WEFT_TIMED_OUT */
} weft_scope_options;

/* The running fiber enters a new scope inside the one that it is in. What is returned is borrowed until it is left. Outside
 * a fiber it is a misuse: logged, NULL. A deadline needs a clock on this thread: without one, that is logged, and there is
 * none. */
#define weft_scope_enter(...) weft_scope_enter_at((__VA_ARGS__), WEFT_HERE) /* options, whose braces may hold commas */
WEFT_API weft_scope *weft_scope_enter_at(weft_scope_options options, const weft_place *place) WEFT_MUST_USE;

/* Leaves the scope, with the result of what was done in it, which it takes: returns that, or, when it is the scope's own
 * cancellation, what becomes of it. Sets `*scope` to NULL; if it was before, returns `result`. The fiber that entered it
 * leaves it, the innermost first: anything else is a misuse, logged; those inside that were forgotten are left with it.
 * Those that a fiber has entered and not left are left when it ends. */
WEFT_API weft_result weft_scope_leave(weft_scope **scope, weft_result result) WEFT_MUST_USE;
/* For who returns early:
 *
 *     weft_auto(weft_scope_close) weft_scope *scope = weft_scope_enter((weft_scope_options){.timeout = 2.5});
 *     struct event *event = WEFT_TRY(weft_await(…));
 *     …
 *     return weft_scope_leave(&scope, weft_ok(NULL));
 *
 * Leaves it, if that was not done; a result that passes by is not looked at, so the scope's own cancellation goes on as it
 * is. NULL is fine; returns NULL. */
WEFT_API weft_scope *weft_scope_close(weft_scope *scope);

/* One more reference, and one less: for those who want to cancel it later, whether it was left or not. */
WEFT_API weft_scope *weft_scope_ref(weft_scope *scope);
WEFT_API weft_scope *weft_scope_unref(weft_scope *scope); /* NULL is fine; returns NULL */

/* ---- cancelling ----------------------------------------------------------------------------------------------------- */

/* Interrupts the wait of every fiber in the scope, and each wait that one of them begins there from now on. `cancellation`,
 * which it takes, is what comes out: of a kind at or below WEFT_CANCELLED; NULL for a WEFT_CANCELLED. Runs cancellers and
 * callbacks, no fiber. A scope that was cancelled, or that nobody is in any more, is left alone. */
#define weft_scope_cancel(scope, cancellation) weft_scope_cancel_at(scope, cancellation, WEFT_HERE)
WEFT_API void weft_scope_cancel_at(weft_scope *scope, weft_error *cancellation, const weft_place *place);

/* ---- shields --------------------------------------------------------------------------------------------------------
 *
 * A shield may have a budget, which runs from the moment when it first holds a cancel back: that may be when it is entered.
 * Then clean-up has `soft` seconds undisturbed; after that what is held back comes through once, to one wait of the fiber
 * that entered the shield, so that clean-up may shorten itself; and `hard` seconds after the beginning the shield is open:
 * what came to it interrupts every wait inside, until it is left, and so do cancels that come later. What comes through is
 * the cancellation itself, which a shield never takes: it passes on when that is left. A cancel of the fiber's own deferred
 * that came out inside is used up by that; one that did not comes out of the next wait after the shield.
 *
 * Of shields in one another the outer holds first, and an inner begins to count when the outer has let the cancel through:
 * each has its whole budget. A fiber that was started inside is shielded from scopes further out, also when the shield was
 * left, but not from a cancel of its own deferred. */
typedef struct weft_shield_options {
    double soft; /* seconds; 0: never; negative, NaN: at once */
    double hard;
} weft_shield_options;

/* The result of fn(arg), run in a shield, without or with a budget; like weft_fail_after. */
#define weft_shield(fn, arg) weft_shield_at(fn, arg, WEFT_HERE)
WEFT_API weft_result weft_shield_at(weft_fiber_fn *fn, void *arg, const weft_place *place) WEFT_MUST_USE;
#define weft_shield_with(fn, arg, ...) weft_shield_with_at(fn, arg, (__VA_ARGS__), WEFT_HERE)
WEFT_API weft_result weft_shield_with_at(weft_fiber_fn *fn, void *arg, weft_shield_options options, const weft_place *place)
    WEFT_MUST_USE;

/* Like weft_scope_enter; left by weft_scope_leave or weft_scope_close. It can be cancelled itself. */
#define weft_shield_enter(...) weft_shield_enter_at((__VA_ARGS__), WEFT_HERE)
WEFT_API weft_scope *weft_shield_enter_at(weft_shield_options options, const weft_place *place) WEFT_MUST_USE;

/* A shield that holds a cancel back for longer than that is told of once, at warn level, in the context of its fiber: where
 * it was entered, who waits where, and what for. Seconds, 1 at first; 0: never. Process-wide; set it before threads
 * start. */
WEFT_API void weft_shield_set_limit(double seconds);

/* ---- asking --------------------------------------------------------------------------------------------------------- */

WEFT_API weft_scope *weft_scope_current(void); /* the innermost that the running fiber is in, borrowed; NULL */
/* The earliest deadline that holds for the running fiber, of a scope up to the next shield: an instant of its thread's
 * clock; INT64_MAX when there is none. */
WEFT_API int64_t weft_scope_deadline(void);
/* Why the waits in `scope` are interrupted, by its own cancel or that of one further out; borrowed from it. NULL: they are
 * not. */
WEFT_API weft_error *weft_scope_get_cancellation(const weft_scope *scope);

WEFT_AUTO(weft_scope, weft_scope_close)

WEFT_END

#endif

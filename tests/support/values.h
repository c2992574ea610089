/* tests/support/values.h: what the tests of the core pass around and write down.
 *
 * A test is a process, so what happened in it is one line of text, which every helper below adds to: one word per
 * event, "a=5 b=!cancelled". A result is written as its number, its value's name, "nil" for success with no value,
 * "!" and its error's kind, "[1 2]" for a weft_results, "#1:5" for a weft_indexed. */
#ifndef WEFT_TEST_VALUES_H
#define WEFT_TEST_VALUES_H

#include <weft/weft.h>

/* ---- what happened ---- */

void trace(const char *format, ...) WEFT_PRINTF(1, 2); /* adds a word */
const char *trace_text(void);                          /* the words since the last call */

/* ---- values that count how often they were dropped ---- */

struct value {
    const char *name;
    int drops;
};
extern const weft_type value_type;
weft_result value_of(struct value *value);

extern const weft_error_kind BROKEN; /* an ordinary error of the tests' own: "!broken" */
#define broken() weft_fail(weft_error_new(&BROKEN, "it broke"))

/* Drops a result and says what it was. */
const char *told(weft_result result);

/* ---- callbacks; `arg` is what the comment says ---- */

weft_result note(weft_result result, void *label);         /* traces "label=result", passes the result on */
weft_result note_last(weft_result result, void *label);    /* traces "label=result", drops it, returns nothing */
weft_result note_context(weft_result result, void *label); /* traces "label@context", passes the result on */
weft_result return_int(weft_result result, void *number);
weft_result return_broken(weft_result result, void *unused);
weft_result return_nothing(weft_result result, void *unused);
weft_result return_later(weft_result result, void *deferred); /* takes the reference to it */
weft_result let_go(weft_result result, void *deferred); /* of a reference to it; passes the result on */

weft_cancel_outcome cancel_done(weft_deferred *deferred, void *label);  /* traces the label; WEFT_CANCEL_DONE */
weft_cancel_outcome cancel_later(weft_deferred *deferred, void *label); /* traces the label; WEFT_CANCEL_LATER */
weft_cancel_outcome fire_value(weft_deferred *deferred, void *unused);  /* fires it with 9; WEFT_CANCEL_DONE */
weft_cancel_outcome fire_error(weft_deferred *deferred, void *unused);  /* fires it with broken(); WEFT_CANCEL_DONE */

/* ---- shorthands ---- */

weft_deferred *pending(void);          /* without a canceller */
weft_deferred *done(weft_result result);
weft_deferred *stoppable(weft_cancel_fn *canceller, const char *label);
weft_deferred *waiting_for(weft_deferred *inner); /* a new one, whose callback has returned `inner` */
weft_deferred *paused(weft_deferred *deferred);   /* once more; returns it */
weft_deferred *noted(weft_deferred *deferred, const char *label);         /* adds `note` for both kinds; returns it */
weft_deferred *noted_sides(weft_deferred *deferred, const char *label); /* … tracing "label:value=…" or "label:error=…" */
weft_deferred *context_noted(weft_deferred *deferred, const char *label); /* … `note_context` … */
void conclude(weft_deferred *deferred, const char *label); /* traces "label=result", which it takes, and lets go of it */
weft_context *enter(const char *name); /* a new context is current; returns the previous one, for leave() */
void leave(weft_context *previous);    /* makes `previous` current again and lets go of the one that was */

/* ---- what was logged, at all levels, instead of being printed ---- */

void log_capture(void);
const char *log_text(void);         /* a line each: "ERROR context message\n"; since the last log_forget */
int log_count(const char *part);    /* lines that have `part` in them; "" for all */
void log_forget(void);

/* ---- threads ---- */

/* Runs fn(arg) in a thread whose stack is 256 KiB, and fails if that thread leaves an object of weft's behind. */
void with_small_stack(void (*fn)(void *arg), void *arg);
/* The same with an ordinary stack. */
void in_thread(void (*fn)(void *arg), void *arg);

/* How many of what there should be a million of: fewer where each step is slow. */
#ifdef WEFT_TEST_SANITIZED
enum { MANY = 20 * 1000 };
#else
enum { MANY = 1000 * 1000 };
#endif

#endif

/* tests/model/program.h: a random program on a few variables that hold deferreds.
 *
 * A program is a list of steps. Callbacks, cancellers and releases may have a step of their own, which they take before
 * they answer, so that a step is a tree. Each step is taken once at most. Programs come from bytes, of a seed or of a
 * fuzzer: any bytes are a program. */
#ifndef WEFT_MODEL_PROGRAM_H
#define WEFT_MODEL_PROGRAM_H

#include <weft/weft.h>

#include <stdint.h>
#include <stdio.h>

enum { VARIABLES = 4, SELF = VARIABLES }; /* SELF: the deferred whose callback or canceller takes the step */
enum { CONTEXTS = 3 };                    /* the first is none */
enum { MAX_TOP_STEPS = 60, MAX_DEPTH = 3, MAX_STEPS = 4096 };

enum action {
    NEW,        /* variable = a pending one */
    READY,      /* variable = one with a result */
    FIRE,
    TRY,        /* fire, and look at the misuse that is returned */
    FIRE_LATER, /* fire with a deferred, which is a misuse */
    ADD,
    CANCEL,
    CANCEL_WITH, /* a reason */
    DROP,
    COPY, /* other = variable */
    TAKE,
    LOOK,
    PAUSE,
    UNPAUSE,
    FORWARD, /* from other to variable */
    REPORT,  /* the errors of the living */
    ACTIONS
};

/* What a callback returns. A canceller: how it fires its deferred first, if at all; LATER forwards. */
enum answer { PASS, VALUE, ERROR, LATER, LATER_LAST, ANSWERS }; /* LATER_LAST gives the variable's own reference away */

enum inside { ON_VALUE, ON_ERROR, ON_RELEASE, INSIDES, ON_CANCEL = ON_VALUE };

struct step {
    enum action action;
    int id; /* of a value, an error, a callback, a canceller, a release */
    int variable, other;
    int context;         /* the one the step is taken in */
    bool holds;          /* whoever takes the step holds a reference to the deferred for as long */
    bool fails;          /* READY, FIRE, TRY: with an error. FORWARD: gives the variable's own reference away */
    bool owned;          /* ADD, NEW: the argument is released */
    bool has[2];         /* ADD: the sides of the pair. NEW: the first: a canceller */
    enum answer answer[2];
    weft_cancel_outcome outcome;
    struct step *inside[INSIDES]; /* NULL: nothing */
    bool dropped;                 /* left out while a failing program is made smaller */
    weft_deferred *owner;         /* ADD: whose callback it is; the library's side notes it */
};

struct program {
    struct step steps[MAX_STEPS];
    struct step *top[MAX_TOP_STEPS];
    int used, length;
};

void program_from_bytes(struct program *program, const uint8_t *bytes, size_t size);
void program_from_seed(struct program *program, uint64_t seed);

/* A line for each step that is not dropped. */
void program_print(const struct program *program, FILE *out);

#endif

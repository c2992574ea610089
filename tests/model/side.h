/* tests/model/side.h: what tells a story of a program: the library and the model of it, alike.
 *
 * A story is a line of words: each callback, canceller and release with what it was given and the current context, each
 * result taken or looked at, each misuse, each unhandled error. Two sides that tell the same are the same. */
#ifndef WEFT_MODEL_SIDE_H
#define WEFT_MODEL_SIDE_H

#include "tests/model/program.h"

/* What a side has alive between two steps. */
struct alive {
    int deferreds, values, errors;
};

struct side {
    void (*begin)(void);
    void (*take_step)(struct step *step);
    void (*drop_variable)(int variable);
    struct alive (*count)(void);
};

extern const struct side library_side, model_side;
void library_end(void); /* when no program follows in this process */

/* A result, as it is told. */
struct result {
    enum { NIL, NUMBER, FAILED, CANCELLED, REASON, ORPHANED, MISUSE, NOT_YET } kind;
    int id;      /* NUMBER, FAILED */
    int context; /* the model: in which the error came about */
    bool told;   /* the model: the error was reported */
};

const char *word_of(struct result result); /* borrowed until the fourth call after it */
extern const char *const context_names[CONTEXTS];

/* Ends when the story has `size` bytes: what comes then is lost. */
void story_begin(char *story, size_t size);
void tell(const char *format, ...) WEFT_PRINTF(1, 2);
void tell_unhandled(struct result error, const char *failed_in, const char *told_in);

/* Between these two, unhandled errors are told in an order of their own: nothing promises one. */
void report_begin(void);
void report_end(void);

#endif

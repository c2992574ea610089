/* The limit: what a result to come with a line of callbacks must cost, behind a shared library: four calls through
 * the procedure linkage table, an object of two inline slots from a free list, and nothing else. No errors, no
 * cancel, no context, no types, no checks of any kind; one thread. Not a library: a floor. */
#ifndef LIMIT_OBJECT_H
#define LIMIT_OBJECT_H

#define LIMIT_API __attribute__((visibility("default")))

typedef struct limit limit;

/* A value; or `later`, whose value is to be waited for. */
typedef struct limit_result {
    void *value;
    limit *later;
} limit_result;

typedef limit_result limit_fn(void *value, void *arg);

LIMIT_API limit *limit_new(void);
LIMIT_API void limit_add(limit *object, limit_fn *fn, void *arg); /* before it fires */
LIMIT_API void limit_fire(limit *object, void *value);
LIMIT_API void limit_free(limit *object);
LIMIT_API void *limit_value(const limit *object);

#endif

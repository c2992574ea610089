/* tests/support/plain_runner.h: as much of Criterion's interface as the tests use, for runs that Criterion does not
 * survive. Include test.h, not this. */
#ifndef WEFT_TEST_PLAIN_RUNNER_H
#define WEFT_TEST_PLAIN_RUNNER_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct plain_test plain_test;
struct plain_test {
    const char *suite;
    const char *name;
    void (*run)(void);
    plain_test *next;

    /* Options, named as in Criterion. */
    double timeout;   /* seconds */
    int signal;       /* the test passes by dying of it */
    int exit_code;    /* or by exiting with it */
    void (*init)(void);
    void (*fini)(void);
    bool disabled;
    const char *description;
};

void plain_register(plain_test *test);
void plain_log(const char *kind, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Ends the test, from whatever stack or thread it is called on. */
void plain_fail(const char *file, int line, const char *what, const char *format, ...)
    __attribute__((noreturn, format(printf, 4, 5)));

#define PLAIN_TEST(Suite, Name, ...)                                                                                \
    static void plain_##Suite##_##Name(void);                                                                       \
    __attribute__((constructor)) static void plain_register_##Suite##_##Name(void)                                  \
    {                                                                                                               \
        static plain_test test = {                                                                                  \
            .suite = #Suite, .name = #Name, .run = plain_##Suite##_##Name, ##__VA_ARGS__};                           \
        plain_register(&test);                                                                                      \
    }                                                                                                               \
    static void plain_##Suite##_##Name(void)

/* The " " keeps an absent message from being an empty format, which gcc warns of. */
#define cr_fail(...) plain_fail(__FILE__, __LINE__, "failed", " " __VA_ARGS__)
#define cr_assert_fail cr_fail
#define cr_assert(Condition, ...) plain_check(Condition, #Condition, __VA_ARGS__)
#define plain_check(Condition, Text, ...)                                                                           \
    ((Condition) ? (void)0 : plain_fail(__FILE__, __LINE__, "not true: " Text, " " __VA_ARGS__))
#define cr_assert_not(Condition, ...) plain_check(!(Condition), "!(" #Condition ")", __VA_ARGS__)
#define plain_compare(A, Op, B, ...) plain_check((A) Op (B), #A " " #Op " " #B, __VA_ARGS__)
#define cr_assert_eq(A, B, ...) plain_compare(A, ==, B, __VA_ARGS__)
#define cr_assert_neq(A, B, ...) plain_compare(A, !=, B, __VA_ARGS__)
#define cr_assert_lt(A, B, ...) plain_compare(A, <, B, __VA_ARGS__)
#define cr_assert_leq(A, B, ...) plain_compare(A, <=, B, __VA_ARGS__)
#define cr_assert_gt(A, B, ...) plain_compare(A, >, B, __VA_ARGS__)
#define cr_assert_geq(A, B, ...) plain_compare(A, >=, B, __VA_ARGS__)
#define cr_assert_null(A, ...) plain_compare(A, ==, NULL, __VA_ARGS__)
#define cr_assert_not_null(A, ...) plain_compare(A, !=, NULL, __VA_ARGS__)
#define cr_assert_str_eq(A, B, ...) plain_check(!strcmp(A, B), #A " is " #B, __VA_ARGS__)
#define cr_assert_str_neq(A, B, ...) plain_check(strcmp(A, B), #A " is not " #B, __VA_ARGS__)
#define cr_assert_str_empty(A, ...) plain_check(!*(A), #A " is empty", __VA_ARGS__)
#define cr_assert_str_not_empty(A, ...) plain_check(*(A), #A " is not empty", __VA_ARGS__)
#define cr_assert_arr_eq(A, B, Size, ...) plain_check(!memcmp(A, B, Size), #A " is " #B, __VA_ARGS__)
#define cr_assert_float_eq(A, B, E, ...)                                                                            \
    plain_check((A) - (B) <= (E) && (B) - (A) <= (E), #A " is " #B " within " #E, __VA_ARGS__)
#define cr_log_info(...) plain_log("info", __FILE__, __LINE__, " " __VA_ARGS__)
#define cr_log_warn(...) plain_log("warning", __FILE__, __LINE__, " " __VA_ARGS__)
#define cr_log_error(...) plain_log("error", __FILE__, __LINE__, " " __VA_ARGS__)

#endif

/* Memory: it is never NULL, and running out of it ends the program, saying so. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

Test(alloc, of_nothing_is_something)
{
    void *a = weft_alloc(0), *b = weft_alloc_zeroed(0), *c = weft_realloc(NULL, 0);

    cr_assert(a && b && c && a != b && b != c && a != c);
    weft_free(a);
    weft_free(b);
    weft_free(c);
}

Test(alloc, zeroed_is_all_zeroes)
{
    static const char zeroes[4096];
    char *memory = weft_alloc(sizeof zeroes);

    memset(memory, 1, sizeof zeroes); /* malloc gives it out again */
    weft_free(memory);
    memory = weft_alloc_zeroed(sizeof zeroes);
    cr_assert_arr_eq(memory, zeroes, sizeof zeroes);
    weft_free(memory);
}

Test(alloc, realloc_keeps_what_was_there)
{
    char *memory = weft_strdup("kept");

    memory = weft_realloc(memory, 100000);
    cr_assert_str_eq(memory, "kept");
    memory = weft_realloc(memory, 5);
    cr_assert_str_eq(memory, "kept");
    weft_free(memory);
}

Test(alloc, strdup_copies)
{
    char original[] = "original", *copy = weft_strdup(original), *empty = weft_strdup("");

    strcpy(original, "gone");
    cr_assert_str_eq(copy, "original");
    cr_assert_str_eq(empty, "");
    weft_free(copy);
    weft_free(empty);
}

Test(alloc, nothing_may_be_freed)
{
    weft_free(NULL);
}

#ifndef WEFT_TEST_SANITIZED /* these end the program themselves, for asking so much */
static sigjmp_buf aborted;

static void jump_back(int number)
{
    siglongjmp(aborted, number);
}

enum way { ALLOC, ZEROED, REALLOC };

static void run_out(enum way way)
{
    size_t too_much = SIZE_MAX / 2 - (size_t)way;

    if (way == ALLOC)
        weft_alloc(too_much);
    else if (way == ZEROED)
        weft_alloc_zeroed(too_much);
    else
        weft_realloc(NULL, too_much);
}

/* What stands on stderr when that asks for more than there is; and it did abort. */
static const char *last_words(enum way way)
{
    static char words[200];
    int saved = dup(STDERR_FILENO), pipes[2];
    volatile bool survived = false;
    ssize_t length;

    cr_assert_eq(pipe(pipes), 0);
    dup2(pipes[1], STDERR_FILENO);
    signal(SIGABRT, jump_back);
    if (!sigsetjmp(aborted, 1)) {
        run_out(way);
        survived = true;
    }
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(pipes[1]);
    length = read(pipes[0], words, sizeof words - 1);
    words[length > 0 ? length : 0] = '\0';
    close(pipes[0]);
    cr_assert_not(survived);
    return words;
}

Test(alloc, running_out_says_so_and_aborts)
{
    cr_assert_str_eq(last_words(ALLOC), "weft: out of memory: cannot get 9223372036854775807 bytes\n");
    cr_assert_str_eq(last_words(ZEROED), "weft: out of memory: cannot get 9223372036854775806 bytes\n");
    cr_assert_str_eq(last_words(REALLOC), "weft: out of memory: cannot get 9223372036854775805 bytes\n");
}
#endif

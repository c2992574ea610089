/* Memory: the one place that may run out of it, and the slabs that most objects come from. */
#include "tests/support/test.h"
#include "tests/support/values.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/slab.h"

/* ---- alloc ---- */

Test(alloc, gives_memory_of_any_size_also_none)
{
    char *none = weft_alloc(0), *zeroed = weft_alloc_zeroed(1000), *grown = weft_alloc(3);

    cr_assert_not_null(none);
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(zeroed[i], 0);
    memcpy(grown, "ab", 3);
    grown = weft_realloc(grown, 100000);
    cr_assert_str_eq(grown, "ab");
    weft_free(none);
    weft_free(zeroed);
    weft_free(grown);
    weft_free(NULL);
}

Test(alloc, copies_text)
{
    char text[] = "abc", *copy = weft_strdup(text);

    text[0] = 'x';
    cr_assert_str_eq(copy, "abc");
    weft_free(copy);
}

#ifndef WEFT_TEST_SANITIZED /* which have an opinion of their own */
Test(alloc, says_so_and_aborts_when_there_is_none)
{
    int ends[2], status;
    char text[200] = "";
    pid_t child;

    cr_assert_eq(pipe(ends), 0);
    child = fork();
    if (!child) {
        volatile size_t size = SIZE_MAX / 4;

        dup2(ends[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        weft_free(weft_alloc(size));
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    cr_assert_gt(read(ends[0], text, sizeof text - 1), 0);
    cr_assert_eq(strncmp(text, "weft: out of memory", 19), 0, "%s", text);
    close(ends[0]);
    close(ends[1]);
}
#endif

/* ---- slabs ---- */

enum { SIZE = 128, OBJECTS = 1000 }; /* of several chunks */

Test(slab, gives_objects_that_do_not_overlap)
{
    struct weft__slab slab = {0};
    unsigned char *objects[OBJECTS];

    for (int i = 0; i < OBJECTS; i++) {
        objects[i] = weft__slab_take(&slab, SIZE);
        cr_assert_eq((uintptr_t)objects[i] % _Alignof(max_align_t), 0);
        memset(objects[i], i % 256, SIZE);
    }
    for (int i = 0; i < OBJECTS; i++) {
        for (int j = 0; j < SIZE; j++)
            cr_assert_eq(objects[i][j], i % 256);
        weft__slab_give(&slab, objects[i]);
    }
    weft__slab_clear(&slab);
}

Test(slab, cleared_is_empty_and_can_be_used_again)
{
    struct weft__slab slab = {0};

    weft__slab_give(&slab, weft__slab_take(&slab, SIZE));
    weft__slab_clear(&slab);
    cr_assert_null(slab.chunks);
    weft__slab_give(&slab, weft__slab_take(&slab, SIZE));
    weft__slab_clear(&slab);
}

#if WEFT__SLABS
Test(slab, gives_again_what_came_back)
{
    struct weft__slab slab = {0};
    void *objects[OBJECTS], *first_chunks;

    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < OBJECTS; i++)
            objects[i] = weft__slab_take(&slab, SIZE);
        if (round == 0)
            first_chunks = slab.chunks;
        cr_assert_eq(slab.chunks, first_chunks, "no more are needed");
        for (int i = 0; i < OBJECTS; i++)
            weft__slab_give(&slab, objects[i * 77 % OBJECTS]);
    }
    weft__slab_clear(&slab);
}

Test(slab, gives_first_what_came_back_last)
{
    struct weft__slab slab = {0};
    void *first = weft__slab_take(&slab, SIZE), *second = weft__slab_take(&slab, SIZE);

    weft__slab_give(&slab, first);
    weft__slab_give(&slab, second);
    cr_assert_eq(weft__slab_take(&slab, SIZE), second, "it is the warm one");
    cr_assert_eq(weft__slab_take(&slab, SIZE), first);
    weft__slab_clear(&slab);
}
#endif

static void count_up(void *object, void *arg)
{
    ++*(int *)object;
    ++*(int *)arg;
}

/* An object begins with its count of references: here it also counts the visits. */
Test(slab, visits_each_object_in_use_once)
{
    struct weft__slab slab = {0};
    int *objects[OBJECTS], visits = 0;

    for (int i = 0; i < OBJECTS; i++) {
        objects[i] = weft__slab_take(&slab, SIZE);
        *objects[i] = 1;
    }
    for (int i = 0; i < OBJECTS; i += 3) {
        *objects[i] = 0;
        weft__slab_give(&slab, objects[i]);
    }
    weft__slab_each(&slab, SIZE, count_up, &visits);
    cr_assert_eq(visits, OBJECTS - (OBJECTS + 2) / 3);
    for (int i = 0; i < OBJECTS; i++) {
        if (i % 3) {
            cr_assert_eq(*objects[i], 2);
            *objects[i] = 0;
            weft__slab_give(&slab, objects[i]);
        }
    }
    visits = 0;
    weft__slab_each(&slab, SIZE, count_up, &visits);
    cr_assert_eq(visits, 0);
    weft__slab_clear(&slab);
}

static void use_some(void *unused)
{
    weft_deferred *some[OBJECTS];

    (void)unused;
    for (int i = 0; i < OBJECTS; i++)
        some[i] = pending();
    for (int i = 0; i < OBJECTS; i++)
        weft_deferred_unref(some[i]);
    weft_context_unref(weft_context_new("x"));
}

/* LeakSanitizer and Valgrind say whether they are, in their runs; here at least, that it works time and again. */
Test(slab, of_a_thread_are_freed_with_it)
{
    for (int i = 0; i < 20; i++)
        in_thread(use_some, NULL);
}

/* ---- loners, which only a sanitizer's build uses for slabs ---- */

/* The list is `chunks`; each begins with a pointer to the next. */
static int listed(const struct weft__slab *loners)
{
    int count = 0;

    for (void *loner = loners->chunks; loner; loner = *(void **)loner)
        count++;
    return count;
}

Test(slab, loners_can_leave_their_list_from_every_place)
{
    static const int orders[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}};

    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        struct weft__slab loners = {0};
        char *objects[3];

        for (int n = 0; n < 3; n++)
            memset(objects[n] = weft__loner_take(&loners, 24), 'a' + n, 24);
        for (int n = 0; n < 3; n++) {
            cr_assert_eq(listed(&loners), 3 - n);
            for (int kept = n; kept < 3; kept++)
                cr_assert_eq(objects[orders[i][kept]][23], 'a' + orders[i][kept]);
            weft__loner_give(&loners, objects[orders[i][n]]);
        }
        cr_assert_null(loners.chunks);
    }
}

/* The queue of lines behind a slow sink: which lines it keeps when it is full. */
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/observe/line_queue.h"

enum { SIZE = 64 * 1024, LINE = 64 };

static struct weft__line_queue queue;

/* "12 WARN    …\n", of LINE bytes. */
static void put(int number, weft_log_level level)
{
    char line[LINE];
    int length = snprintf(line, sizeof line, "%d %s", number, weft_log_level_name(level));

    memset(line + length, ' ', (size_t)(LINE - length));
    line[LINE - 1] = '\n';
    weft__line_queue_put(&queue, level, line, LINE);
}

static char *taken;
static size_t taken_length;

/* Everything that is in it, as one text. */
static void take_all(void)
{
    uint32_t counts[WEFT__LINE_LEVELS] = {0};
    size_t length;

    free(taken);
    taken = malloc(SIZE + 1);
    taken_length = 0;
    while ((length = weft__line_queue_take(&queue, taken + taken_length, 1000, SIZE, counts)))
        taken_length += length;
    taken[taken_length] = '\0';
}

static int lines_of(weft_log_level level)
{
    const char *name = weft_log_level_name(level);
    int count = 0;

    for (size_t i = 0; i < taken_length; i += LINE) {
        const char *space = strchr(taken + i, ' ');

        count += !strncmp(space + 1, name, strlen(name));
    }
    return count;
}

static int number_at(int line)
{
    return atoi(taken + (size_t)line * LINE);
}

static int lines_taken(void)
{
    return (int)(taken_length / LINE);
}

static void begin(void)
{
    weft__line_queue_init(&queue, SIZE);
}

static void end(void)
{
    weft__line_queue_deinit(&queue);
    free(taken);
    taken = NULL;
}

Test(line_queue, gives_lines_back_in_their_order)
{
    begin();
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 100; i++)
            put(round * 100 + i, WEFT_LOG_INFO);
        take_all();
        cr_assert_eq(lines_taken(), 100);
        for (int i = 0; i < 100; i++)
            cr_assert_eq(number_at(i), round * 100 + i);
    }
    cr_assert_eq(queue.dropped[WEFT_LOG_INFO], 0);
    end();
}

Test(line_queue, takes_whole_lines_that_fit_and_counts_them)
{
    uint32_t counts[WEFT__LINE_LEVELS] = {0};
    char out[1000];

    begin();
    put(1, WEFT_LOG_INFO);
    put(2, WEFT_LOG_WARN);
    put(3, WEFT_LOG_WARN);
    cr_assert_eq(weft__line_queue_take(&queue, out, 3 * LINE - 1, SIZE, counts), 2 * LINE);
    cr_assert_eq(counts[WEFT_LOG_INFO], 1);
    cr_assert_eq(counts[WEFT_LOG_WARN], 1);
    put(4, WEFT_LOG_ERROR);
    cr_assert_eq(weft__line_queue_take(&queue, out, sizeof out, 1, counts), LINE);
    cr_assert_eq(atoi(out), 3);
    cr_assert_eq(weft__line_queue_take(&queue, out, sizeof out, SIZE, counts), LINE);
    cr_assert_eq(atoi(out), 4);
    cr_assert_eq(weft__line_queue_take(&queue, out, sizeof out, SIZE, counts), 0);
    end();
}

Test(line_queue, that_is_full_drops_debug_first_and_nothing_else)
{
    begin();
    for (int i = 0; i < 3 * SIZE / LINE; i++)
        put(i, i % 8 == 0 ? WEFT_LOG_INFO : i % 8 == 1 ? WEFT_LOG_ERROR : WEFT_LOG_DEBUG);
    take_all();
    cr_assert_eq(lines_of(WEFT_LOG_INFO), 3 * SIZE / LINE / 8);
    cr_assert_eq(lines_of(WEFT_LOG_ERROR), 3 * SIZE / LINE / 8);
    cr_assert_eq(queue.dropped[WEFT_LOG_INFO], 0);
    cr_assert_eq(queue.dropped[WEFT_LOG_DEBUG] + (uint64_t)lines_taken(), 3 * SIZE / LINE);
    cr_assert_gt(queue.dropped[WEFT_LOG_DEBUG], 0);
    end();
}

Test(line_queue, then_info_and_no_warning)
{
    begin();
    for (int i = 0; i < 4 * SIZE / LINE; i++)
        put(i, i % 8 == 0 ? WEFT_LOG_WARN : i % 8 < 5 ? WEFT_LOG_INFO : WEFT_LOG_DEBUG);
    take_all();
    cr_assert_eq(lines_of(WEFT_LOG_WARN), 4 * SIZE / LINE / 8);
    cr_assert_eq(queue.dropped[WEFT_LOG_WARN], 0);
    cr_assert_gt(queue.dropped[WEFT_LOG_INFO], 0);
    cr_assert_gt(queue.dropped[WEFT_LOG_DEBUG], 0);
    end();
}

/* Of warnings alone the oldest and the newest stay, and those in between go. */
Test(line_queue, then_the_middle_of_the_rest)
{
    int lines = SIZE / LINE + 1, gap = 0;

    begin();
    for (int i = 0; i < lines; i++)
        put(i, WEFT_LOG_WARN);
    take_all();
    for (int i = 1; i < lines_taken(); i++) {
        cr_assert_gt(number_at(i), number_at(i - 1));
        gap += number_at(i) != number_at(i - 1) + 1;
    }
    cr_assert_eq(gap, 1);
    cr_assert_eq(number_at(0), 0);
    cr_assert_eq(number_at(SIZE / LINE / 8 * 3 - 1), SIZE / LINE / 8 * 3 - 1, "three eighths of it are the oldest");
    cr_assert_eq(number_at(lines_taken() - 1), lines - 1);
    cr_assert_eq(queue.dropped[WEFT_LOG_WARN], (uint64_t)(lines - lines_taken()));
    cr_assert_eq(queue.dropped[WEFT_LOG_WARN], SIZE / LINE / 4);
    end();
}

Test(line_queue, the_oldest_and_the_newest_stay_however_many_come)
{
    begin();
    for (int i = 0; i < 20 * SIZE / LINE; i++)
        put(i, i % 2 ? WEFT_LOG_ERROR : WEFT_LOG_WARN);
    take_all();
    for (int i = 0; i < SIZE / LINE / 8 * 3; i++)
        cr_assert_eq(number_at(i), i);
    for (int i = 1; i <= SIZE / LINE / 4; i++)
        cr_assert_eq(number_at(lines_taken() - i), 20 * SIZE / LINE - i);
    end();
}

Test(line_queue, short_lines_that_run_out_of_entries_are_shed_too)
{
    int lines = SIZE / 2;

    begin();
    for (int i = 0; i < lines; i++)
        weft__line_queue_put(&queue, WEFT_LOG_WARN, "x\n", 2);
    take_all();
    cr_assert_leq(taken_length / 2, SIZE / 32);
    cr_assert_geq(taken_length / 2, SIZE / 32 / 2);
    cr_assert_eq(queue.dropped[WEFT_LOG_WARN] + taken_length / 2, (size_t)lines);
    end();
}

/* The last three eighths of the entries have nearly all of the bytes. */
Test(line_queue, that_is_short_of_both_kinds_of_room_has_room_again_for_any_line)
{
    static char text[SIZE / 4];
    size_t room = SIZE / 32, newest = room / 8 * 3;
    uint64_t put_in = room / 2 + newest + 1;

    begin();
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < room / 2; i++)
        weft__line_queue_put(&queue, WEFT_LOG_WARN, "x\n", 2);
    for (size_t i = 0; i < newest; i++)
        weft__line_queue_put(&queue, WEFT_LOG_WARN, text, 72);
    cr_assert_eq(queue.dropped[WEFT_LOG_WARN], 0);
    weft__line_queue_put(&queue, WEFT_LOG_WARN, text, sizeof text);
    cr_assert_leq(queue.used, SIZE);
    cr_assert_eq(queue.dropped[WEFT_LOG_WARN] + queue.count, put_in);
    end();
}

Test(line_queue, a_line_that_is_too_long_is_dropped_and_counted)
{
    static char text[SIZE];

    begin();
    memset(text, 'x', sizeof text);
    weft__line_queue_put(&queue, WEFT_LOG_ERROR, text, SIZE / 4 + 1);
    cr_assert_eq(queue.dropped[WEFT_LOG_ERROR], 1);
    cr_assert_eq(queue.count, 0);
    for (int i = 0; i < 20; i++)
        weft__line_queue_put(&queue, WEFT_LOG_ERROR, text, SIZE / 4);
    cr_assert_geq(queue.count, 2);
    cr_assert_leq(queue.used, SIZE);
    end();
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The checker of histories: against histories known to be good or bad, and against trying all
 * orders.
 */
#include "tests/lib/linear.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define OPS_MAX 6u

static bool is_good(const struct linear_op *ops, size_t count)
{
    struct linear_op copy[OPS_MAX + 1];
    char why[200] = "";
    bool good = false;

    memcpy(copy, ops, count * sizeof(ops[0]));
    good = linear_check(copy, count, why, sizeof(why));
    assert_int_equal(good, why[0] == '\0');
    return good;
}

#define GOOD(...)                                                \
    do {                                                         \
        const struct linear_op ops[] = {__VA_ARGS__};            \
        assert_true(is_good(ops, sizeof(ops) / sizeof(ops[0]))); \
    } while (0)
#define BAD(...)                                                  \
    do {                                                          \
        const struct linear_op ops[] = {__VA_ARGS__};             \
        assert_false(is_good(ops, sizeof(ops) / sizeof(ops[0]))); \
    } while (0)
#define WRITE(value, begin, end) \
    {                            \
        true, value, begin, end  \
    }
#define READ(value, begin, end)  \
    {                            \
        false, value, begin, end \
    }

static void a_read_returns_the_last_write_or_one_that_overlaps(void **state)
{
    (void)state;
    GOOD(WRITE(1, 1, 2), READ(1, 3, 4));
    GOOD(READ(0, 1, 2), WRITE(1, 3, 4));
    GOOD(WRITE(1, 1, 10), READ(0, 2, 3), READ(1, 4, 5));
    BAD(WRITE(1, 1, 2), READ(0, 3, 4));
    BAD(WRITE(1, 1, 2), WRITE(2, 3, 4), READ(1, 5, 6));
}

static void reads_never_go_back(void **state)
{
    (void)state;
    BAD(WRITE(1, 1, 10), READ(1, 2, 3), READ(0, 4, 5));
    BAD(WRITE(1, 1, 2), WRITE(2, 3, 20), READ(2, 4, 5), READ(1, 6, 7));
    GOOD(WRITE(1, 1, 2), WRITE(2, 3, 20), READ(2, 4, 7), READ(1, 5, 6));
}

static void nothing_is_read_before_it_is_written_or_that_nobody_wrote(void **state)
{
    (void)state;
    BAD(READ(1, 1, 2), WRITE(1, 3, 4));
    BAD(READ(7, 1, 2));
}

static void a_write_of_unknown_outcome_may_have_taken_place_at_any_time(void **state)
{
    (void)state;
    GOOD(WRITE(1, 1, LINEAR_NEVER), READ(0, 5, 6));
    GOOD(WRITE(1, 1, LINEAR_NEVER), READ(0, 5, 6), READ(1, 7, 8));
    BAD(WRITE(1, 1, LINEAR_NEVER), READ(1, 5, 6), READ(0, 7, 8));
}

/* Whether some order of the operations that keeps real time explains all reads: tries them all. */
static bool explain(const struct linear_op *ops, size_t count, unsigned done, uint64_t current)
{
    bool all_certain = true;

    for (size_t i = 0; i < count; i++) {
        if ((done & 1u << i) != 0) {
            continue;
        }
        all_certain = all_certain && ops[i].end == LINEAR_NEVER;
        bool may_be_next = true;
        for (size_t j = 0; j < count; j++) {
            if ((done & 1u << j) == 0 && j != i && ops[j].end < ops[i].begin) {
                may_be_next = false;
            }
        }
        if (!may_be_next || (!ops[i].is_write && ops[i].value != current)) {
            continue;
        }
        if (explain(ops, count, done | 1u << i, ops[i].value)) {
            return true;
        }
    }
    return all_certain; /* what is left need not have taken place */
}

static void it_agrees_with_trying_all_orders_on_random_histories(void **state)
{
    unsigned seed = (unsigned)time(NULL);
    size_t good = 0;
    size_t bad = 0;

    (void)state;
    print_message("SEED=%u\n", seed);
    srandom(seed);
    for (int round = 0; round < 200000; round++) {
        struct linear_op ops[OPS_MAX];
        size_t count = 2 + (size_t)random() % (OPS_MAX - 1);
        uint64_t writes = 0;
        for (size_t i = 0; i < count; i++) {
            /* No two times are equal: what happens then is nobody's business. */
            uint64_t begin = (uint64_t)(1 + random() % 20) * 2 * OPS_MAX + 2 * i;
            uint64_t end = begin + (uint64_t)(random() % 12) * 2 * OPS_MAX + 1;
            ops[i] = (struct linear_op){.begin = begin, .end = end};
            if (random() % 2 == 0) {
                ops[i].is_write = true;
                ops[i].value = ++writes;
                ops[i].end = random() % 8 == 0 ? LINEAR_NEVER : end;
            }
        }
        for (size_t i = 0; i < count; i++) {
            if (!ops[i].is_write) {
                ops[i].value = (uint64_t)random() % (writes + 1);
            }
        }
        bool expected = explain(ops, count, 0, 0);
        assert_int_equal(is_good(ops, count), expected);
        good += expected ? 1 : 0;
        bad += expected ? 0 : 1;
    }
    assert_true(good > 1000 && bad > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_returns_the_last_write_or_one_that_overlaps),
        cmocka_unit_test(reads_never_go_back),
        cmocka_unit_test(nothing_is_read_before_it_is_written_or_that_nobody_wrote),
        cmocka_unit_test(a_write_of_unknown_outcome_may_have_taken_place_at_any_time),
        cmocka_unit_test(it_agrees_with_trying_all_orders_on_random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of fs/mount/publish_when: which FLUSH publishes.
 */
#include "fs/mount/publish_when.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define SHELL 10
#define CAT   20

static void the_opener_publishes_what_it_wrote(void **state)
{
    (void)state;
    const struct publish_question question = {
        .written = true, .flusher = CAT, .opener = CAT, .flusher_wrote = true};
    assert_true(publish_at_flush(&question));
}

static void a_flush_before_the_first_write_publishes_nothing(void **state)
{
    (void)state;
    /* A shell opens, makes the descriptor 1 and closes the first one: O_TRUNC is all there is. */
    const struct publish_question question = {.written = false, .flusher = SHELL, .opener = SHELL};
    assert_false(publish_at_flush(&question));
}

static void a_writer_that_did_not_open_it_does_not_publish(void **state)
{
    (void)state;
    /* { cat a; cat b; } > f, behind the first cat. */
    const struct publish_question question = {
        .written = true, .flusher = CAT, .opener = SHELL, .flusher_wrote = true};
    assert_false(publish_at_flush(&question));
}

static void the_opener_waits_for_writers_that_still_run(void **state)
{
    (void)state;
    struct publish_question question = {
        .written = true, .flusher = SHELL, .opener = SHELL, .writers_alive = 1};
    assert_false(publish_at_flush(&question));
    question.writers_alive = 0;
    assert_true(publish_at_flush(&question));
}

static void any_writer_stands_in_for_an_opener_that_is_gone(void **state)
{
    (void)state;
    struct publish_question question = {.written = true,
                                        .flusher = CAT,
                                        .opener = SHELL,
                                        .opener_gone = true,
                                        .flusher_wrote = true};
    assert_true(publish_at_flush(&question));
    question.writers_alive = 1;
    assert_false(publish_at_flush(&question));
    question.writers_alive = 0;
    question.flusher_wrote = false;
    assert_false(publish_at_flush(&question));
}

static void an_unknown_process_never_publishes_at_flush(void **state)
{
    (void)state;
    /* Of a foreign pid namespace: flusher and opener are both 0, and not the same. */
    struct publish_question question = {.written = true, .flusher = 0, .opener = 0};
    assert_false(publish_at_flush(&question));
    question.opener_gone = true;
    question.flusher_wrote = true;
    assert_false(publish_at_flush(&question));
}

static void an_unknown_opener_leaves_it_to_the_release(void **state)
{
    (void)state;
    const struct publish_question question = {
        .written = true, .flusher = CAT, .opener = 0, .flusher_wrote = true};
    assert_false(publish_at_flush(&question));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_opener_publishes_what_it_wrote),
        cmocka_unit_test(a_flush_before_the_first_write_publishes_nothing),
        cmocka_unit_test(a_writer_that_did_not_open_it_does_not_publish),
        cmocka_unit_test(the_opener_waits_for_writers_that_still_run),
        cmocka_unit_test(any_writer_stands_in_for_an_opener_that_is_gone),
        cmocka_unit_test(an_unknown_process_never_publishes_at_flush),
        cmocka_unit_test(an_unknown_opener_leaves_it_to_the_release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of fs/mount/order: no answer reaches the kernel before the changes that it stands behind.
 */
#include "fs/mount/order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/mount/task.h"
#include "tests/lib/mount_fixture.h"

static struct mount_fixture fixture;
static struct task tasks[3];
static const struct task *replied[3];
static size_t replied_count;

static void reply(struct task *task)
{
    replied[replied_count++] = task;
}

static int setup(void **state)
{
    (void)state;
    mount_fixture_open(&fixture);
    memset(tasks, 0, sizeof tasks);
    for (size_t i = 0; i < 3; i++) {
        tasks[i].mount = &fixture.mount;
    }
    replied_count = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mount_fixture_close(&fixture);
    return 0;
}

static void an_answer_goes_at_once_when_nothing_is_pending(void **state)
{
    (void)state;
    order_reply(&tasks[0], reply);
    assert_int_equal(replied_count, 1);
    assert_int_equal(fixture.epochs, 0);
}

static void an_answer_waits_for_the_inodes_pushed_before_it(void **state)
{
    (void)state;
    order_inode(&fixture.mount, 4, false);
    order_reply(&tasks[0], reply);
    order_inode(&fixture.mount, 6, false);
    order_progress(&fixture.mount);
    assert_int_equal(replied_count, 0);
    fixture.inodes_done = 1; /* The second one is none of its business. */
    order_progress(&fixture.mount);
    assert_int_equal(replied_count, 1);
}

static void held_answers_keep_their_order(void **state)
{
    (void)state;
    order_inode(&fixture.mount, 4, false);
    order_reply(&tasks[0], reply);
    order_inode(&fixture.mount, 6, false);
    order_reply(&tasks[1], reply);
    order_reply(&tasks[2], reply);
    fixture.inodes_done = 1;
    order_progress(&fixture.mount);
    assert_int_equal(replied_count, 1);
    fixture.inodes_done = 2;
    order_progress(&fixture.mount);
    assert_int_equal(replied_count, 3);
    assert_ptr_equal(replied[0], &tasks[0]);
    assert_ptr_equal(replied[1], &tasks[1]);
    assert_ptr_equal(replied[2], &tasks[2]);
}

static void no_answer_waits_for_a_name_the_epoch_overtakes_it(void **state)
{
    (void)state;
    order_name(&fixture.mount, 1, "a", 1);
    order_reply(&tasks[0], reply);
    assert_int_equal(replied_count, 1);
    assert_int_equal(fixture.epochs, 1);
    /* It stays in the queue: a listing under way may bring the old name with the new epoch. */
    assert_int_equal(fixture.names_dropped, 0);
    order_reply(&tasks[1], reply);
    assert_int_equal(fixture.epochs, 1);
    order_name(&fixture.mount, 1, "b", 1);
    order_reply(&tasks[2], reply);
    assert_int_equal(fixture.epochs, 2);
}

static void names_that_have_taken_effect_need_no_epoch(void **state)
{
    (void)state;
    order_name(&fixture.mount, 1, "a", 1);
    fixture.names_done = 1;
    order_reply(&tasks[0], reply);
    assert_int_equal(replied_count, 1);
    assert_int_equal(fixture.epochs, 0);
}

static void names_that_come_while_an_answer_is_held_are_overtaken_before_it_goes(void **state)
{
    (void)state;
    order_inode(&fixture.mount, 4, false);
    order_reply(&tasks[0], reply);
    order_name(&fixture.mount, 1, "a", 1);
    fixture.inodes_done = 1;
    order_progress(&fixture.mount);
    assert_int_equal(replied_count, 1);
    assert_int_equal(fixture.epochs, 1);
}

static void too_many_names_are_replaced_by_one_epoch(void **state)
{
    (void)state;
    fixture.names_are_full = true;
    order_name(&fixture.mount, 1, "a", 1);
    assert_int_equal(fixture.epochs, 1);
    assert_int_equal(fixture.names_dropped, 1);
}

static void answers_are_held_while_promises_are_reclaimed(void **state)
{
    (void)state;
    fixture.mount.reclaiming = true;
    order_reply(&tasks[0], reply);
    order_progress(&fixture.mount);
    assert_int_equal(replied_count, 0);
    fixture.mount.reclaiming = false;
    order_progress(&fixture.mount);
    assert_int_equal(replied_count, 1);
}

static void a_task_that_is_taken_away_gets_no_reply(void **state)
{
    (void)state;
    order_inode(&fixture.mount, 4, false);
    order_reply(&tasks[0], reply);
    order_reply(&tasks[1], reply);
    order_cancel(&tasks[0]);
    order_cancel(&tasks[0]);
    fixture.inodes_done = 1;
    order_progress(&fixture.mount);
    assert_int_equal(replied_count, 1);
    assert_ptr_equal(replied[0], &tasks[1]);
}

static void a_kernel_without_epochs_caches_no_names_and_gets_none(void **state)
{
    (void)state;
    fixture.mount.names_promised = false;
    order_name(&fixture.mount, 1, "a", 1);
    order_epoch(&fixture.mount);
    assert_int_equal(fixture.pushed_count, 0);
    assert_int_equal(fixture.epochs, 0);
}

static void progress_before_the_mount_does_nothing(void **state)
{
    (void)state;
    struct inval *inval = fixture.mount.inval;
    fixture.mount.inval = NULL;
    order_progress(&fixture.mount);
    order_inode(&fixture.mount, 4, false);
    order_name(&fixture.mount, 1, "a", 1);
    fixture.mount.inval = inval;
    assert_int_equal(fixture.pushed_count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_goes_at_once_when_nothing_is_pending),
        TEST(an_answer_waits_for_the_inodes_pushed_before_it),
        TEST(held_answers_keep_their_order),
        TEST(no_answer_waits_for_a_name_the_epoch_overtakes_it),
        TEST(names_that_have_taken_effect_need_no_epoch),
        TEST(names_that_come_while_an_answer_is_held_are_overtaken_before_it_goes),
        TEST(too_many_names_are_replaced_by_one_epoch),
        TEST(answers_are_held_while_promises_are_reclaimed),
        TEST(a_task_that_is_taken_away_gets_no_reply),
        TEST(a_kernel_without_epochs_caches_no_names_and_gets_none),
        TEST(progress_before_the_mount_does_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of fs/mount/content: whole versions, shared, fetched once, bounded.
 */
#include "fs/mount/content.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/mount/handle.h"
#include "tests/lib/mount_fixture.h"

#define FILE_INO 9u

static struct mount_fixture fixture;
static struct inode *file;

/* A waiter that writes down how it ended. */
struct waiting {
    struct fetch_waiter waiter;
    size_t count;
    enum err err;
};

static void on_done(struct fetch_waiter *waiter, enum err err)
{
    struct waiting *waiting = (struct waiting *)(void *)waiter;
    waiting->count++;
    waiting->err = err;
}

static enum err fetch(struct waiting *waiting)
{
    *waiting = (struct waiting){.waiter.done = on_done};
    return content_fetch(&fixture.mount, file, &waiting->waiter);
}

static void answer(size_t index, const char *text, uint64_t zxid)
{
    Wire__Answer message = WIRE__ANSWER__INIT;
    Wire__Attr attr = fixture_attr(FILE_INO, WIRE__KIND__KIND_FILE, zxid);
    attr.data_bytes = strlen(text);
    message.attr = &attr;
    message.data = wire_bytes(text, strlen(text));
    message.grant = 2;
    fixture_answer(&fixture, index, ERR_OK, &message);
}

static int setup(void **state)
{
    (void)state;
    mount_fixture_open(&fixture);
    file = fixture_held(&fixture, FILE_INO, WIRE__KIND__KIND_FILE, 3);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mount_fixture_close(&fixture);
    return 0;
}

static void a_fetch_brings_the_whole_file_and_its_attributes(void **state)
{
    (void)state;
    struct waiting waiting;
    assert_int_equal(fetch(&waiting), ERR_OK);
    assert_int_equal(fixture.call[0].body, WIRE__REQUEST__BODY_DATA);
    assert_int_equal(fixture.call[0].ino, FILE_INO);
    assert_int_equal(fixture.call[0].options.timeout_ms, fixture.options.timeo_ms);
    answer(0, "text", 5);
    assert_int_equal(waiting.count, 1);
    assert_int_equal(waiting.err, ERR_OK);
    const struct content *content = content_current(file);
    assert_non_null(content);
    assert_int_equal(content->len, 4);
    assert_memory_equal(content->data, "text", 4);
    assert_int_equal(file->attr.mzxid, 5);
}

static void all_that_wait_for_one_file_share_one_read(void **state)
{
    (void)state;
    struct waiting first;
    struct waiting second;
    struct waiting third;
    assert_int_equal(fetch(&first), ERR_OK);
    assert_int_equal(fetch(&second), ERR_OK);
    assert_int_equal(fetch(&third), ERR_OK);
    content_fetch_cancel(&second.waiter);
    content_fetch_cancel(&second.waiter);
    assert_int_equal(fixture.call_count, 1);
    answer(0, "text", 5);
    assert_int_equal(first.count, 1);
    assert_int_equal(second.count, 0);
    assert_int_equal(third.count, 1);
    assert_int_equal(fetch(&first), ERR_OK);
    assert_int_equal(fixture.call_count, 2);
    answer(1, "text", 5);
}

static void a_refused_call_is_told_at_once(void **state)
{
    (void)state;
    struct waiting waiting;
    fixture.call_err = ERR_LIMIT;
    assert_int_equal(fetch(&waiting), ERR_LIMIT);
    assert_int_equal(waiting.count, 0);
    assert_null(file->fetch);
}

static void a_node_that_is_gone_is_stale(void **state)
{
    (void)state;
    struct waiting waiting;
    assert_int_equal(fetch(&waiting), ERR_OK);
    fixture_answer(&fixture, 0, ERR_NO_NODE, NULL);
    assert_int_equal(waiting.err, ERR_STALE);
    assert_true(file->gone);
}

static void an_answer_that_does_not_fit_the_file_is_refused(void **state)
{
    (void)state;
    struct waiting waiting;
    Wire__Answer message = WIRE__ANSWER__INIT;
    Wire__Attr attr = fixture_attr(FILE_INO, WIRE__KIND__KIND_FILE, 5);
    attr.data_bytes = 3;
    message.attr = &attr;
    message.data = wire_bytes("text", 4);
    assert_int_equal(fetch(&waiting), ERR_OK);
    fixture_answer(&fixture, 0, ERR_OK, &message);
    assert_int_equal(waiting.err, ERR_MALFORMED);
    attr = fixture_attr(FILE_INO + 1, WIRE__KIND__KIND_FILE, 5);
    attr.data_bytes = 4;
    assert_int_equal(fetch(&waiting), ERR_OK);
    fixture_answer(&fixture, 1, ERR_OK, &message);
    assert_int_equal(waiting.err, ERR_MALFORMED);
    assert_int_equal(fetch(&waiting), ERR_OK);
    fixture_answer(&fixture, 2, ERR_OK, NULL);
    assert_int_equal(waiting.err, ERR_MALFORMED);
    assert_null(file->content);
}

static void a_read_that_waited_in_vain_is_an_outage(void **state)
{
    (void)state;
    struct waiting waiting;
    assert_int_equal(fetch(&waiting), ERR_OK);
    fixture_answer(&fixture, 0, ERR_TIMEOUT, NULL);
    assert_int_equal(waiting.err, ERR_TIMEOUT);
    /* A replica is there: only slow. */
    assert_false(mount_is_without_replica(&fixture.mount));
    assert_int_equal(fetch(&waiting), ERR_OK);
    fixture.status = (struct client_status){.replica = 0};
    fixture_answer(&fixture, 1, ERR_TIMEOUT, NULL);
    assert_true(mount_is_without_replica(&fixture.mount));
    assert_true(mount_is_without_leader(&fixture.mount));
    fixture.status = (struct client_status){.replica = 2, .leader = 2};
    assert_false(mount_is_without_replica(&fixture.mount));
    assert_false(mount_is_without_leader(&fixture.mount));
}

static void content_is_current_only_while_changes_of_it_are_promised(void **state)
{
    (void)state;
    content_set(&fixture.mount, file, content_new("data", 4, 3));
    assert_non_null(content_current(file));
    file->promised = false;
    assert_null(content_current(file));
    file->promised = true;
    const Wire__Attr newer = fixture_attr(FILE_INO, WIRE__KIND__KIND_FILE, 7);
    (void)inode_take(&fixture.mount, &newer, 0, false);
    assert_null(content_current(file));
    file->gone = true; /* Nothing newer will ever be. */
    assert_non_null(content_current(file));
}

static void a_pinned_version_outlives_the_newest(void **state)
{
    (void)state;
    content_set(&fixture.mount, file, content_new("old", 3, 3));
    struct handle *handle = handle_open(&fixture.mount, file, 0, 0);
    assert_non_null(handle);
    handle_pin(handle, content_ref(file->content));
    content_set(&fixture.mount, file, content_new("newer", 5, 4));
    assert_int_equal(handle->pin->len, 3);
    assert_memory_equal(handle->pin->data, "old", 3);
    assert_int_equal(fixture.mount.contents_bytes, 5);
    handle_close(&fixture.mount, handle);
}

static void the_cache_is_bounded_and_keeps_what_is_open(void **state)
{
    (void)state;
    const size_t bytes = CONTENT_CACHE_BYTES_MAX / 2;
    char *data = calloc(1, bytes);
    assert_non_null(data);
    struct inode *second = fixture_held(&fixture, 20, WIRE__KIND__KIND_FILE, 3);
    struct inode *third = fixture_held(&fixture, 21, WIRE__KIND__KIND_FILE, 3);
    struct handle *handle = handle_open(&fixture.mount, file, 0, 0);
    assert_non_null(handle);
    content_set(&fixture.mount, file, content_new(data, bytes, 3));
    content_set(&fixture.mount, second, content_new(data, bytes, 3));
    assert_int_equal(fixture.mount.contents_bytes, 2 * bytes);
    content_set(&fixture.mount, third, content_new(data, bytes, 3));
    assert_non_null(file->content);
    assert_null(second->content);
    assert_non_null(third->content);
    assert_true(fixture.mount.contents_bytes <= CONTENT_CACHE_BYTES_MAX);
    handle_close(&fixture.mount, handle);
    free(data);
}

/* Some bytes at the cursor of the file as of `zxid`, which is "abcdef" then. */
static void answer_part(size_t index, const char *text, uint64_t zxid)
{
    Wire__Answer message = WIRE__ANSWER__INIT;
    Wire__Attr attr = fixture_attr(FILE_INO, WIRE__KIND__KIND_FILE, zxid);
    attr.data_bytes = 6;
    message.attr = &attr;
    message.data = wire_bytes(text, strlen(text));
    message.grant = 2;
    fixture_answer(&fixture, index, ERR_OK, &message);
}

static void a_large_file_comes_in_parts(void **state)
{
    (void)state;
    struct waiting waiting;
    assert_int_equal(fetch(&waiting), ERR_OK);
    answer_part(0, "abcd", 5);
    assert_int_equal(waiting.count, 0);
    assert_int_equal(fixture.call[1].offset, 4);
    answer_part(1, "ef", 5);
    assert_int_equal(waiting.err, ERR_OK);
    assert_memory_equal(content_current(file)->data, "abcdef", 6);
}

static void a_file_that_changes_between_two_parts_is_read_anew(void **state)
{
    (void)state;
    struct waiting waiting;
    assert_int_equal(fetch(&waiting), ERR_OK);
    answer_part(0, "abcd", 5);
    answer_part(1, "EF", 6);
    assert_int_equal(waiting.count, 0);
    assert_int_equal(fixture.call[2].offset, 0);
    answer_part(2, "ABCDE", 6);
    answer_part(3, "F", 6);
    assert_int_equal(waiting.err, ERR_OK);
    assert_memory_equal(content_current(file)->data, "ABCDEF", 6);
}

static void a_part_without_bytes_is_refused(void **state)
{
    (void)state;
    struct waiting waiting;
    assert_int_equal(fetch(&waiting), ERR_OK);
    answer_part(0, "", 5);
    assert_int_equal(waiting.err, ERR_MALFORMED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_fetch_brings_the_whole_file_and_its_attributes),
        TEST(all_that_wait_for_one_file_share_one_read),
        TEST(a_refused_call_is_told_at_once),
        TEST(a_node_that_is_gone_is_stale),
        TEST(an_answer_that_does_not_fit_the_file_is_refused),
        TEST(a_read_that_waited_in_vain_is_an_outage),
        TEST(content_is_current_only_while_changes_of_it_are_promised),
        TEST(a_pinned_version_outlives_the_newest),
        TEST(the_cache_is_bounded_and_keeps_what_is_open),
        TEST(a_large_file_comes_in_parts),
        TEST(a_file_that_changes_between_two_parts_is_read_anew),
        TEST(a_part_without_bytes_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

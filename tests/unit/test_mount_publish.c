/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of fs/mount/publish: what programs wrote becomes one entry, in order, and somebody hears of
 * every failure.
 */
#include "fs/mount/publish.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/mount/handle.h"
#include "tests/lib/mount_fixture.h"

#define FILE_INO    9u
#define FILE_NODEID (FILE_INO << 1)

static struct mount_fixture fixture;
static struct inode *file;

struct waiting {
    struct publish_waiter waiter;
    size_t count;
    enum err err;
};

static void on_done(struct publish_waiter *waiter, enum err err)
{
    struct waiting *waiting = (struct waiting *)(void *)waiter;
    waiting->count++;
    waiting->err = err;
}

static bool publish(struct waiting *waiting)
{
    *waiting = (struct waiting){.waiter.done = on_done};
    return publish_now(&fixture.mount, file, &waiting->waiter);
}

static void write_text(uint64_t offset, const char *text)
{
    assert_int_equal(publish_write(&fixture.mount, file, offset, text, strlen(text)), ERR_OK);
}

static void rewrite(const char *text)
{
    assert_int_equal(publish_truncate(&fixture.mount, file, 0), ERR_OK);
    write_text(0, text);
}

/* The entry is committed as `zxid`; the file has this version and length then. */
static void commit(size_t index, uint64_t zxid, uint32_t version, size_t len)
{
    Wire__Answer answer = WIRE__ANSWER__INIT;
    Wire__Attr attr = fixture_attr(FILE_INO, WIRE__KIND__KIND_FILE, zxid);
    attr.version = version;
    attr.data_bytes = len;
    answer.zxid = zxid;
    answer.attr = &attr;
    answer.grant = 2;
    fixture_answer(&fixture, index, ERR_OK, &answer);
}

static void expect_view(const char *text)
{
    struct content *content = publish_content(file);
    assert_non_null(content);
    assert_int_equal(content->len, strlen(text));
    assert_memory_equal(content->data, text, strlen(text));
    assert_int_equal(publish_length(file), strlen(text));
    content_unref(content);
}

static int setup(void **state)
{
    (void)state;
    mount_fixture_open(&fixture);
    file = fixture_held(&fixture, FILE_INO, WIRE__KIND__KIND_FILE, 3);
    file->attr.data_bytes = 3;
    content_set(&fixture.mount, file, content_new("old", 3, 3));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mount_fixture_close(&fixture);
    return 0;
}

static void a_rewrite_in_pieces_is_one_entry(void **state)
{
    (void)state;
    struct waiting waiting;
    rewrite("new ");
    write_text(4, "text");
    expect_view("new text");
    assert_int_equal(fixture.call_count, 0);
    assert_true(publish(&waiting));
    assert_int_equal(fixture.call_count, 1);
    const struct fixture_call *call = &fixture.call[0];
    assert_int_equal(call->op, WIRE__OP__BODY_WRITE);
    assert_int_equal(call->ino, FILE_INO);
    assert_true(call->truncate);
    assert_int_equal(call->ranges, 1);
    assert_int_equal(call->range.len, 8);
    assert_memory_equal(call->range.data, "new text", 8);
    commit(0, 5, 1, 8);
    assert_int_equal(waiting.count, 1);
    assert_int_equal(waiting.err, ERR_OK);
    assert_null(file->publish);
    expect_view("new text"); /* known without a read */
    assert_int_equal(file->content->mzxid, 5);
}

static void nothing_to_publish_is_nothing_to_wait_for(void **state)
{
    (void)state;
    struct waiting waiting;
    assert_false(publish(&waiting));
    assert_int_equal(waiting.count, 0);
}

static void what_is_written_meanwhile_follows_in_an_entry_of_its_own(void **state)
{
    (void)state;
    struct waiting first;
    struct waiting second;
    rewrite("one");
    assert_true(publish(&first));
    write_text(3, "two");
    expect_view("onetwo");
    assert_true(publish(&second));
    assert_int_equal(fixture.call_count, 1); /* in order, one at a time */
    commit(0, 5, 1, 3);
    assert_int_equal(first.count, 1);
    assert_int_equal(second.count, 0);
    assert_int_equal(fixture.call_count, 2);
    assert_false(fixture.call[1].truncate);
    assert_memory_equal(fixture.call[1].range.data, "two", 3);
    expect_view("onetwo");
    commit(1, 6, 2, 6);
    assert_int_equal(second.count, 1);
    assert_null(file->publish);
}

static void a_change_of_somebody_else_in_between_is_read_anew(void **state)
{
    (void)state;
    struct waiting waiting;
    write_text(0, "O");
    assert_true(publish(&waiting));
    commit(0, 6, 2 /* one more than ours */, 3);
    assert_int_equal(waiting.err, ERR_OK);
    assert_null(content_current(file));
}

static void a_failure_is_told_to_those_who_wait_and_the_changes_are_dropped(void **state)
{
    (void)state;
    struct waiting waiting;
    rewrite("lost");
    assert_true(publish(&waiting));
    fixture_answer(&fixture, 0, ERR_NO_LEADER, NULL);
    assert_int_equal(waiting.err, ERR_NO_LEADER);
    assert_null(file->publish);
    assert_int_equal(publish_take_error(file), ERR_OK); /* It has been told. */
    assert_int_equal(fixture_count(&fixture, FILE_NODEID, NULL), 1);
    expect_view("old");
    fixture.status.leader = 0;
    assert_true(mount_is_without_leader(&fixture.mount));
}

static void without_a_listener_it_is_tried_for_ever_and_a_failure_is_told_once_later(void **state)
{
    (void)state;
    struct handle *handle = handle_open(&fixture.mount, file, O_WRONLY, 0);
    assert_non_null(handle);
    rewrite("lost");
    assert_true(publish_now(&fixture.mount, file, NULL));
    assert_int_equal(fixture.call[0].options.timeout_ms, 0);
    fixture_answer(&fixture, 0, ERR_SESSION_EXPIRED, NULL);
    assert_int_equal(publish_take_error(file), ERR_SESSION_EXPIRED);
    assert_int_equal(publish_take_error(file), ERR_OK);
    assert_int_equal(fixture.mount.lost_closes, 0);
    handle_close(&fixture.mount, handle);
    rewrite("lost");
    assert_true(publish_now(&fixture.mount, file, NULL));
    fixture_answer(&fixture, 1, ERR_SESSION_EXPIRED, NULL);
    assert_int_equal(fixture.mount.lost_closes, 1);
}

static void a_removed_file_lives_on_for_those_who_have_it_open(void **state)
{
    (void)state;
    struct waiting waiting;
    rewrite("more than before");
    assert_true(publish(&waiting));
    fixture_answer(&fixture, 0, ERR_STALE, NULL);
    assert_int_equal(waiting.err, ERR_OK);
    assert_true(file->gone);
    expect_view("more than before");
}

static void a_wait_that_is_given_up_is_not_called(void **state)
{
    (void)state;
    struct waiting first;
    struct waiting second;
    rewrite("one");
    assert_true(publish(&first));
    write_text(0, "two");
    assert_true(publish(&second));
    publish_cancel(&second.waiter);
    publish_cancel(&first.waiter);
    commit(0, 5, 1, 3);
    commit(1, 6, 2, 3);
    assert_int_equal(first.count, 0);
    assert_int_equal(second.count, 0);
    assert_null(file->publish);
}

static void an_append_is_only_its_bytes(void **state)
{
    (void)state;
    struct waiting waiting;
    assert_int_equal(publish_append(&fixture.mount, file, "line\n", 5), ERR_OK);
    expect_view("oldline\n");
    assert_true(publish(&waiting));
    assert_false(fixture.call[0].truncate);
    assert_int_equal(fixture.call[0].ranges, 0);
    assert_memory_equal(fixture.call[0].append.data, "line\n", 5);
    commit(0, 5, 1, 8);
    expect_view("oldline\n");
}

static void times_set_after_the_last_write_win(void **state)
{
    (void)state;
    struct publish_view view = {0};
    struct waiting waiting;
    write_text(0, "x");
    assert_true(publish_is_pending(file));
    publish_set_mtime(file, 1234);
    publish_view(file, &view);
    assert_int_equal(view.mtime_ns, 1234);
    write_text(1, "y");
    publish_view(file, &view);
    assert_int_not_equal(view.mtime_ns, 1234);
    assert_true(publish(&waiting));
    assert_true(publish_is_under_way(file));
    commit(0, 5, 1, 3);
}

static void more_than_the_limit_is_refused_and_what_was_there_stays(void **state)
{
    (void)state;
    fixture.status.file_bytes_max = 8;
    write_text(0, "12345678");
    assert_int_equal(publish_write(&fixture.mount, file, 8, "9", 1), ERR_FILE_TOO_BIG);
    assert_int_equal(publish_append(&fixture.mount, file, "9", 1), ERR_FILE_TOO_BIG);
    assert_int_equal(publish_truncate(&fixture.mount, file, 9), ERR_FILE_TOO_BIG);
    expect_view("12345678");
}

static void a_refused_first_write_leaves_no_publish_behind(void **state)
{
    (void)state;
    fixture.status.file_bytes_max = 3;
    assert_int_equal(publish_write(&fixture.mount, file, 3, "9", 1), ERR_FILE_TOO_BIG);
    assert_null(file->publish);
}

/* ---- more than one entry holds ---- */

#define LARGE (3u * MIB)

static void write_large(void)
{
    uint8_t *bytes = calloc(1, LARGE);
    assert_non_null(bytes);
    fixture.status.file_bytes_max = FILE_BYTES_LIMIT;
    assert_int_equal(publish_truncate(&fixture.mount, file, 0), ERR_OK);
    assert_int_equal(publish_write(&fixture.mount, file, 0, bytes, LARGE), ERR_OK);
    free(bytes);
}

static void a_large_patch_goes_as_parts_and_then_as_one_entry(void **state)
{
    (void)state;
    struct waiting waiting;
    write_large();
    assert_true(publish(&waiting));
    size_t answered = 0;
    while (answered < fixture.call_count && fixture.call[answered].op == WIRE__OP__BODY_STAGE) {
        assert_int_equal(fixture.call[answered].parts, answered);
        assert_true(fixture.call_count - answered <= 4);
        fixture_answer(&fixture, answered++, ERR_OK, NULL);
    }
    assert_int_equal(answered, 6);
    assert_int_equal(fixture.call_count, 7);
    assert_int_equal(fixture.call[6].op, WIRE__OP__BODY_WRITE);
    assert_int_equal(fixture.call[6].parts, 6);
    assert_int_equal(fixture.call[6].stage, fixture.call[0].stage);
    assert_int_equal(fixture.call[6].ranges, 0);
    assert_true(fixture.call[6].truncate);
    assert_int_equal(waiting.count, 0);
    commit(6, 30, 1, LARGE);
    assert_int_equal(waiting.count, 1);
    assert_int_equal(waiting.err, ERR_OK);
    assert_int_equal(file->content->len, LARGE);
}

static void a_part_that_fails_ends_the_publish_and_drops_the_stage(void **state)
{
    (void)state;
    struct waiting waiting;
    write_large();
    assert_true(publish(&waiting));
    assert_int_equal(fixture.call_count, 4);
    fixture_answer(&fixture, 0, ERR_OK, NULL);
    fixture_answer(&fixture, 1, ERR_LIMIT, NULL);
    for (size_t i = 2; i < 5; i++) {
        assert_int_equal(waiting.count, 0);
        fixture_answer(&fixture, i, ERR_OK, NULL);
    }
    assert_int_equal(waiting.count, 1);
    assert_int_equal(waiting.err, ERR_LIMIT);
    assert_int_equal(fixture.call_count, 6); /* five parts, and the drop */
    assert_int_equal(fixture.call[5].op, WIRE__OP__BODY_STAGE);
    assert_int_equal(fixture.call[5].ranges, 0);
    fixture_answer(&fixture, 5, ERR_OK, NULL);
}

static void a_condition_is_used_up_by_the_next_publish(void **state)
{
    (void)state;
    struct waiting waiting;
    file->if_version = true;
    file->version_wanted = 7;
    rewrite("one");
    assert_true(publish(&waiting));
    assert_true(fixture.call[0].if_version);
    fixture_answer(&fixture, 0, ERR_BAD_VERSION, NULL);
    assert_int_equal(waiting.err, ERR_BAD_VERSION);
    rewrite("two");
    assert_true(publish(&waiting));
    assert_false(fixture.call[1].if_version);
    commit(1, 30, 1, 3);
    assert_int_equal(waiting.err, ERR_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_rewrite_in_pieces_is_one_entry),
        TEST(nothing_to_publish_is_nothing_to_wait_for),
        TEST(what_is_written_meanwhile_follows_in_an_entry_of_its_own),
        TEST(a_change_of_somebody_else_in_between_is_read_anew),
        TEST(a_failure_is_told_to_those_who_wait_and_the_changes_are_dropped),
        TEST(without_a_listener_it_is_tried_for_ever_and_a_failure_is_told_once_later),
        TEST(a_removed_file_lives_on_for_those_who_have_it_open),
        TEST(a_wait_that_is_given_up_is_not_called),
        TEST(an_append_is_only_its_bytes),
        TEST(times_set_after_the_last_write_win),
        TEST(more_than_the_limit_is_refused_and_what_was_there_stays),
        TEST(a_refused_first_write_leaves_no_publish_behind),
        TEST(a_large_patch_goes_as_parts_and_then_as_one_entry),
        TEST(a_part_that_fails_ends_the_publish_and_drops_the_stage),
        TEST(a_condition_is_used_up_by_the_next_publish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

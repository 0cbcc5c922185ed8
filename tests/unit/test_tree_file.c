/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the tree: patches of data, reads, attributes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"
#include "tests/lib/tree_fixture.h"

static struct tree_identity trusted = {.trusted = true};

static struct tree_fixture *with_file(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_create(fixture, "/f", NODE_FILE, "0123456789"), ERR_OK);
    return fixture;
}

static void patch_is_applied_in_the_order_of_its_fields(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    Wire__Range ranges[2] = {WIRE__RANGE__INIT, WIRE__RANGE__INIT};
    Wire__Range *pointers[2] = {&ranges[0], &ranges[1]};

    write.truncate = true;
    write.truncate_bytes = 4;
    ranges[0].offset = 2;
    ranges[0].data = wire_bytes("abcd", 4);
    ranges[1].offset = 3;
    ranges[1].data = wire_bytes("XY", 2);
    write.ranges = pointers;
    write.n_ranges = 2;
    write.append = wire_bytes("end", 3);
    assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_OK);
    fixture_expect_data(fixture, "/f", "01aXYdend");
}

static void truncate_shortens_and_lengthens(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    struct tree_address at = {.path = (const uint8_t *)"/f", .path_len = 2};
    struct buffer data = {0};
    struct node_attr attr;

    write.truncate = true;
    write.truncate_bytes = 3;
    assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_OK);
    fixture_expect_data(fixture, "/f", "012");
    write.truncate_bytes = 5;
    assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_OK);
    assert_int_equal(tree_read(fixture->tree, &at, &trusted, 0, 100, &attr, &data), ERR_OK);
    assert_int_equal(data.len, 5);
    assert_memory_equal(data.data, "012\0\0", 5);
    buffer_done(&data);
}

static void hole_is_filled_with_zeros(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    Wire__Range range = WIRE__RANGE__INIT;
    Wire__Range *ranges[] = {&range};
    struct tree_address at = {.path = (const uint8_t *)"/f", .path_len = 2};
    struct buffer data = {0};
    struct node_attr attr;

    /* What was there before a truncate must not come back in the hole. */
    write.truncate = true;
    range.offset = 8;
    range.data = wire_bytes("z", 1);
    write.ranges = ranges;
    write.n_ranges = 1;
    assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_OK);
    assert_int_equal(tree_read(fixture->tree, &at, &trusted, 0, 100, &attr, &data), ERR_OK);
    assert_int_equal(data.len, 9);
    assert_memory_equal(data.data, "\0\0\0\0\0\0\0\0z", 9);
    buffer_done(&data);
}

static void each_patch_is_one_version(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    struct node_attr before = fixture_attr(fixture, "/f");
    struct node_attr after;

    fixture->now_ns = 7777;
    assert_int_equal(fixture_write(fixture, "/f", "new"), ERR_OK);
    after = fixture_attr(fixture, "/f");
    assert_int_equal(after.version, before.version + 1);
    assert_int_equal(after.mzxid, fixture->result.zxid);
    assert_int_equal(after.azxid, fixture->result.zxid);
    assert_int_equal(after.czxid, before.czxid);
    assert_int_equal(after.mtime_ns, 7777);
    assert_int_equal(after.ctime_ns, 7777);
    assert_int_equal(after.atime_ns, before.atime_ns);
    assert_int_equal(fixture->result.change_count, 1);
    assert_int_equal(fixture->result.changes[0].kind, CHANGE_DATA);
    assert_int_equal(fixture->result.changes[0].attr.data_bytes, 3);
}

static void times_in_a_patch_win_over_the_clock(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;

    write.append = wire_bytes("x", 1);
    write.set_mtime = true;
    write.mtime_ns = 123;
    write.set_atime = true;
    write.atime_ns = -5;
    assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/f").mtime_ns, 123);
    assert_int_equal(fixture_attr(fixture, "/f").atime_ns, -5);
}

static void patch_for_another_version_is_refused(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;

    write.if_version = true;
    write.version = 1;
    write.truncate = true;
    assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_BAD_VERSION);
    fixture_expect_data(fixture, "/f", "0123456789");
    write.version = 0;
    assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_OK);
    fixture_expect_data(fixture, "/f", "");
}

static void patch_beyond_the_limit_changes_nothing(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    Wire__Range range = WIRE__RANGE__INIT;
    Wire__Range *ranges[] = {&range};

    range.data = wire_bytes("z", 1);
    write.ranges = ranges;
    write.n_ranges = 1;
    range.offset = FILE_BYTES_MAX;
    assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_FILE_TOO_BIG);
    range.offset = UINT64_MAX;
    assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_FILE_TOO_BIG);
    write.n_ranges = 0;
    write.truncate = true;
    write.truncate_bytes = (uint64_t)FILE_BYTES_MAX + 1;
    assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_FILE_TOO_BIG);
    write.truncate_bytes = FILE_BYTES_MAX;
    write.append = wire_bytes("z", 1);
    assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_FILE_TOO_BIG);
    fixture_expect_data(fixture, "/f", "0123456789");
    assert_int_equal(fixture_attr(fixture, "/f").version, 0);
    write.append = wire_bytes(NULL, 0);
    assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/f").data_bytes, FILE_BYTES_MAX);
}

static void data_moves_between_the_row_and_a_row_of_its_own(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    static const size_t sizes[] = {DATA_INLINE_BYTES_MAX,     DATA_INLINE_BYTES_MAX + 1, 70000, 1,
                                   DATA_INLINE_BYTES_MAX + 2, DATA_INLINE_BYTES_MAX + 1, 0};
    char *text = malloc(70001);

    assert_non_null(text);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        memset(text, 'a' + (int)i, sizes[i]);
        text[sizes[i]] = '\0';
        assert_int_equal(fixture_write(fixture, "/f", text), ERR_OK);
        fixture_expect_data(fixture, "/f", text);
        fixture_recount(fixture);
    }
    free(text);
}

static void append_goes_on_from_large_data(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    char text[3001];

    memset(text, 'q', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (size_t i = 0; i < 3; i++) {
        write.append = wire_bytes(text, 1000);
        write.truncate = i == 0;
        assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_OK);
    }
    fixture_expect_data(fixture, "/f", text);
}

static void only_nodes_with_data_are_written(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/l", NODE_SYMLINK, "target"), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/p", NODE_FIFO, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/plain", NODE_PLAIN, NULL), ERR_OK);
    assert_int_equal(fixture_write(fixture, "/d", "data"), ERR_OK);
    fixture_expect_data(fixture, "/d", "data");
    assert_int_equal(fixture_write(fixture, "/plain", "data"), ERR_OK);
    assert_int_equal(fixture_write(fixture, "/l", "data"), ERR_INVALID);
    assert_int_equal(fixture_write(fixture, "/p", "data"), ERR_INVALID);
    assert_int_equal(fixture_write(fixture, "/no", "data"), ERR_NO_NODE);
}

static void read_gives_the_asked_part(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    struct tree_address at = {.path = (const uint8_t *)"/f", .path_len = 2};
    struct buffer data = {0};
    struct node_attr attr;

    assert_int_equal(tree_read(fixture->tree, &at, &trusted, 3, 4, &attr, &data), ERR_OK);
    assert_int_equal(data.len, 4);
    assert_memory_equal(data.data, "3456", 4);
    assert_int_equal(attr.data_bytes, 10);
    assert_int_equal(tree_read(fixture->tree, &at, &trusted, 8, UINT64_MAX, &attr, &data), ERR_OK);
    assert_int_equal(data.len, 2);
    assert_int_equal(tree_read(fixture->tree, &at, &trusted, 10, 1, &attr, &data), ERR_OK);
    assert_int_equal(data.len, 0);
    assert_int_equal(tree_read(fixture->tree, &at, &trusted, UINT64_MAX, 1, &attr, &data), ERR_OK);
    assert_int_equal(data.len, 0);
    buffer_done(&data);
}

/* ---- attributes ---- */

static void setattr_sets_what_is_named_and_nothing_else(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    Wire__SetattrOp set = WIRE__SETATTR_OP__INIT;
    struct node_attr before = fixture_attr(fixture, "/f");
    struct node_attr after;

    set.set_mode = true;
    set.mode = 0600;
    set.uid = 99;
    fixture->now_ns = 4242;
    assert_int_equal(fixture_setattr(fixture, "/f", &set), ERR_OK);
    after = fixture_attr(fixture, "/f");
    assert_int_equal(after.mode, 0600);
    assert_int_equal(after.uid, 0);
    assert_int_equal(after.mtime_ns, before.mtime_ns);
    assert_int_equal(after.ctime_ns, 4242);
    assert_int_equal(after.aversion, before.aversion + 1);
    assert_int_equal(after.version, before.version);
    assert_int_equal(after.azxid, fixture->result.zxid);
    assert_int_equal(after.mzxid, before.mzxid);
    assert_int_equal(fixture->result.change_count, 1);
    assert_int_equal(fixture->result.changes[0].kind, CHANGE_ATTR);
}

static void setattr_of_nothing_changes_nothing(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    Wire__SetattrOp set = WIRE__SETATTR_OP__INIT;
    struct node_attr before = fixture_attr(fixture, "/f");

    assert_int_equal(fixture_setattr(fixture, "/f", &set), ERR_OK);
    assert_true(fixture->result.has_attr);
    assert_int_equal(fixture->result.change_count, 0);
    assert_int_equal(fixture_attr(fixture, "/f").azxid, before.azxid);
}

static void times_are_set_to_a_value_or_to_now(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    Wire__SetattrOp set = WIRE__SETATTR_OP__INIT;
    struct node_attr attr;

    set.set_atime = true;
    set.atime_ns = 11;
    set.set_mtime = true;
    set.mtime_now = true;
    fixture->now_ns = 4242;
    assert_int_equal(fixture_setattr(fixture, "/f", &set), ERR_OK);
    attr = fixture_attr(fixture, "/f");
    assert_int_equal(attr.atime_ns, 11);
    assert_int_equal(attr.mtime_ns, 4242);
    assert_int_equal(attr.aversion, 0);
}

static void mtime_of_a_directory_is_that_of_its_children(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__SetattrOp set = WIRE__SETATTR_OP__INIT;

    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, "data"), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/p", NODE_PLAIN, "data"), ERR_OK);
    set.set_mtime = true;
    set.mtime_ns = 55;
    assert_int_equal(fixture_setattr(fixture, "/d", &set), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/d").children_mtime_ns, 55);
    assert_true(fixture_attr(fixture, "/d").mtime_ns != 55);
    assert_int_equal(fixture_setattr(fixture, "/p", &set), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/p").mtime_ns, 55);
    assert_true(fixture_attr(fixture, "/p").children_mtime_ns != 55);
}

static void writing_clears_set_id_bits_when_asked(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    Wire__SetattrOp set = WIRE__SETATTR_OP__INIT;
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;

    set.set_mode = true;
    set.mode = 06755;
    assert_int_equal(fixture_setattr(fixture, "/f", &set), ERR_OK);
    assert_int_equal(fixture_write(fixture, "/f", "by root"), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/f").mode, 06755);
    write.kill_suid_sgid = true;
    assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/f").mode, 0755);
    set.mode = 06745;
    assert_int_equal(fixture_setattr(fixture, "/f", &set), ERR_OK);
    assert_int_equal(fixture_write_with(fixture, "/f", &write), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/f").mode, 02745);
}

static void chown_clears_set_id_bits_of_files(void **state)
{
    struct tree_fixture *fixture = with_file(state);
    Wire__SetattrOp mode = WIRE__SETATTR_OP__INIT;
    Wire__SetattrOp owner = WIRE__SETATTR_OP__INIT;

    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, NULL), ERR_OK);
    mode.set_mode = true;
    mode.mode = 06755;
    owner.set_uid = true;
    owner.uid = 3;
    assert_int_equal(fixture_setattr(fixture, "/f", &mode), ERR_OK);
    assert_int_equal(fixture_setattr(fixture, "/d", &mode), ERR_OK);
    assert_int_equal(fixture_setattr(fixture, "/f", &owner), ERR_OK);
    assert_int_equal(fixture_setattr(fixture, "/d", &owner), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/f").mode, 0755);
    assert_int_equal(fixture_attr(fixture, "/f").uid, 3);
    assert_int_equal(fixture_attr(fixture, "/d").mode, 06755);
}

#define test_of(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_of(patch_is_applied_in_the_order_of_its_fields),
        test_of(truncate_shortens_and_lengthens),
        test_of(hole_is_filled_with_zeros),
        test_of(each_patch_is_one_version),
        test_of(times_in_a_patch_win_over_the_clock),
        test_of(patch_for_another_version_is_refused),
        test_of(patch_beyond_the_limit_changes_nothing),
        test_of(data_moves_between_the_row_and_a_row_of_its_own),
        test_of(append_goes_on_from_large_data),
        test_of(only_nodes_with_data_are_written),
        test_of(read_gives_the_asked_part),
        test_of(setattr_sets_what_is_named_and_nothing_else),
        test_of(setattr_of_nothing_changes_nothing),
        test_of(times_are_set_to_a_value_or_to_now),
        test_of(mtime_of_a_directory_is_that_of_its_children),
        test_of(writing_clears_set_id_bits_when_asked),
        test_of(chown_clears_set_id_bits_of_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

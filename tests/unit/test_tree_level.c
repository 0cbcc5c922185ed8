/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the tree: the level of features that all replicas of it know (CONSENSUS 33).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/version.h"
#include "server/tree/tree_node.h"
#include "tests/lib/kv_memory.h"
#include "tests/lib/tree_fixture.h"

static enum err raise_in_session(struct tree_fixture *fixture, uint32_t level)
{
    Wire__Op op = WIRE__OP__INIT;
    Wire__FeatureLevelOp raise = WIRE__FEATURE_LEVEL_OP__INIT;

    raise.level = level;
    op.body_case = WIRE__OP__BODY_FEATURE_LEVEL;
    op.feature_level = &raise;
    return fixture_apply(fixture, &op);
}

static size_t state_row_len(struct tree_fixture *fixture)
{
    struct row_key key = key_of_state();
    struct kv kv = kv_memory(fixture->rows);
    struct buffer row = {0};
    size_t len = 0;

    assert_true(kv.get(kv.context, key.bytes, key.len, &row));
    len = row.len;
    buffer_done(&row);
    return len;
}

static void an_empty_tree_has_the_first_level(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(tree_feature_level(fixture->tree), FEATURE_BASE);
}

static void an_entry_raises_the_level_and_it_stays(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_raise(fixture, FEATURE_DIGESTS), ERR_OK);
    assert_int_equal(tree_feature_level(fixture->tree), FEATURE_DIGESTS);
    fixture_reopen(fixture);
    assert_int_equal(tree_feature_level(fixture->tree), FEATURE_DIGESTS);
    assert_int_equal(fixture_create(fixture, "/a", NODE_PLAIN, "x"), ERR_OK);
    fixture_reopen(fixture);
    assert_int_equal(tree_feature_level(fixture->tree), FEATURE_DIGESTS);
}

static void the_level_never_falls(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_raise(fixture, 5), ERR_OK);
    assert_int_equal(fixture_raise(fixture, 2), ERR_OK);
    assert_int_equal(fixture_raise(fixture, 5), ERR_OK);
    assert_int_equal(tree_feature_level(fixture->tree), 5);
}

/* Two trees that differ in the level only must not look the same. */
static void the_digest_covers_the_level(void **state)
{
    struct tree_fixture *fixture = *state;
    struct tree_fixture *other = fixture_new();

    fixture_open(other, 1);
    assert_true(tree_digest(other->tree) == tree_digest(fixture->tree));
    assert_int_equal(fixture_raise(fixture, 2), ERR_OK);
    assert_int_equal(fixture_raise(other, 3), ERR_OK);
    assert_true(tree_digest(other->tree) != tree_digest(fixture->tree));
    fixture_free(other);
}

static void a_raise_to_no_level_is_malformed(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_raise(fixture, 0), ERR_MALFORMED);
    assert_int_equal(tree_feature_level(fixture->tree), FEATURE_BASE);
}

/* It comes from the leader; no client can write one into the log. */
static void a_raise_in_the_name_of_a_session_is_malformed(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(raise_in_session(fixture, FEATURE_DIGESTS), ERR_MALFORMED);
    assert_int_equal(tree_feature_level(fixture->tree), FEATURE_BASE);
}

/* Below the second level the row is that of programs that know no levels: they can come back. */
static void the_level_lies_in_the_row_only_from_the_second_on(void **state)
{
    struct tree_fixture *fixture = *state;
    size_t len = state_row_len(fixture);

    assert_int_equal(len, 65);
    assert_int_equal(fixture_raise(fixture, FEATURE_BASE), ERR_OK);
    assert_int_equal(state_row_len(fixture), len);
    assert_int_equal(fixture_raise(fixture, FEATURE_DIGESTS), ERR_OK);
    assert_int_equal(state_row_len(fixture), len + 4);
}

static void a_row_without_a_level_has_the_first(void **state)
{
    struct tree_fixture *fixture = *state;
    uint64_t digest = tree_digest(fixture->tree);
    uint64_t index = tree_applied_index(fixture->tree);

    assert_int_equal(state_row_len(fixture), 65);
    fixture_reopen(fixture);
    assert_int_equal(tree_feature_level(fixture->tree), FEATURE_BASE);
    assert_true(tree_digest(fixture->tree) == digest);
    assert_int_equal(tree_applied_index(fixture->tree), index);
}

static void the_durable_index_is_found_in_both_formats(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(tree_durable_index(fixture->tree), tree_applied_index(fixture->tree));
    assert_int_equal(fixture_raise(fixture, FEATURE_DIGESTS), ERR_OK);
    assert_int_equal(tree_durable_index(fixture->tree), tree_applied_index(fixture->tree));
}

/* Programs before this rule wrote the level always. */
static void a_row_with_the_first_level_in_it_is_read(void **state)
{
    struct tree_fixture *fixture = *state;
    struct row_key key = key_of_state();
    struct kv kv = kv_memory(fixture->rows);
    struct buffer row = {0};
    uint8_t *bytes = NULL;

    assert_true(kv.get(kv.context, key.bytes, key.len, &row));
    assert_int_equal(buffer_append(&row, "\0\0\0\1", 4), ERR_OK);
    bytes = row.data;
    bytes[0] = 2; /* the format */
    kv.put(kv.context, key.bytes, key.len, row.data, row.len);
    buffer_done(&row);
    fixture_reopen(fixture);
    assert_int_equal(tree_feature_level(fixture->tree), FEATURE_BASE);
    assert_int_equal(fixture_create(fixture, "/a", NODE_PLAIN, "x"), ERR_OK);
    assert_int_equal(state_row_len(fixture), 65);
}

/* ---- what is new with FEATURE_FILES ---- */

/* Applies the operation below the level: nothing but the applied index may change. Then above. */
static void expect_only_above(struct tree_fixture *fixture, Wire__Op *op)
{
    size_t rows = omap_count(fixture->rows);

    assert_int_equal(fixture_raise(fixture, FEATURE_FILES - 1), ERR_OK);
    assert_int_equal(fixture_apply(fixture, op), ERR_MALFORMED);
    assert_int_equal(omap_count(fixture->rows), rows);
    /* The same number again: no answer was kept. */
    assert_int_equal(fixture_raise(fixture, FEATURE_FILES), ERR_OK);
    assert_int_equal(fixture_apply_as(fixture, fixture->sequence, op), ERR_OK);
    assert_false(fixture->result.replayed);
}

static void a_stage_needs_its_level(void **state)
{
    Wire__Op op = WIRE__OP__INIT;
    Wire__StageOp stage = WIRE__STAGE_OP__INIT;

    stage.stage = 1;
    stage.append = wire_bytes("x", 1);
    op.body_case = WIRE__OP__BODY_STAGE;
    op.stage = &stage;
    expect_only_above(*state, &op);
}

static void an_attribute_needs_its_level(void **state)
{
    Wire__Op op = WIRE__OP__INIT;
    Wire__XattrOp xattr = WIRE__XATTR_OP__INIT;
    Wire__Address root = WIRE__ADDRESS__INIT;

    xattr.at = &root;
    xattr.name = wire_bytes("user.a", 6);
    op.body_case = WIRE__OP__BODY_XATTR;
    op.xattr = &xattr;
    expect_only_above(*state, &op);
}

static void the_time_of_data_needs_its_level(void **state)
{
    Wire__Op op = WIRE__OP__INIT;
    Wire__SetattrOp setattr = WIRE__SETATTR_OP__INIT;
    Wire__Address root = WIRE__ADDRESS__INIT;

    setattr.at = &root;
    setattr.set_mtime = true;
    setattr.of_data = true;
    op.body_case = WIRE__OP__BODY_SETATTR;
    op.setattr = &setattr;
    expect_only_above(*state, &op);
}

static void a_longer_file_needs_its_level(void **state)
{
    Wire__Op op = WIRE__OP__INIT;
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    Wire__Address root = WIRE__ADDRESS__INIT;

    write.at = &root;
    write.append = wire_bytes("x", 1);
    write.bytes_max = FILE_BYTES_LIMIT;
    op.body_case = WIRE__OP__BODY_WRITE;
    op.write = &write;
    expect_only_above(*state, &op);
}

/* To an older replica a field is unknown whatever its value is; unpacked, it cannot be seen. */
static void a_new_field_with_the_value_of_none_needs_the_level_too(void **state)
{
    struct tree_fixture *fixture = *state;
    /* session, epoch and sequence 1, a trusted identity, and a write of nothing to the root with
     * its field `stage` written as 0. */
    const uint8_t bytes[] = {0x08, 0,    0x10, 1,    0x18, 1,    0x2a, 2,    0x08,
                             1,    0x32, 6,    0x12, 4,    0x0a, 0,    0x68, 0};
    uint8_t command[sizeof(bytes)];

    memcpy(command, bytes, sizeof(bytes));
    assert_true(fixture->session < 128);
    command[1] = (uint8_t)fixture->session;
    assert_int_equal(fixture_apply_bytes(fixture, command, sizeof(command)), ERR_MALFORMED);
    assert_int_equal(fixture_raise(fixture, FEATURE_FILES), ERR_OK);
    assert_int_equal(fixture_apply_bytes(fixture, command, sizeof(command)), ERR_OK);
}

/* A length that is too great must be refused as an older replica does it, with a kept answer. */
static void without_the_level_the_old_limit_of_data_stands(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;

    write.truncate = true;
    write.truncate_bytes = (uint64_t)FILE_BYTES_MAX + 1;
    assert_int_equal(fixture_write_with(fixture, "/", &write), ERR_FILE_TOO_BIG);
    fixture->sequence--;
    assert_int_equal(fixture_write_with(fixture, "/", &write), ERR_FILE_TOO_BIG);
    assert_true(fixture->result.replayed);
}

#define test(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(an_empty_tree_has_the_first_level),
        test(an_entry_raises_the_level_and_it_stays),
        test(the_level_never_falls),
        test(the_digest_covers_the_level),
        test(a_raise_to_no_level_is_malformed),
        test(a_raise_in_the_name_of_a_session_is_malformed),
        test(the_level_lies_in_the_row_only_from_the_second_on),
        test(a_row_without_a_level_has_the_first),
        test(the_durable_index_is_found_in_both_formats),
        test(a_row_with_the_first_level_in_it_is_read),
        test(a_stage_needs_its_level),
        test(an_attribute_needs_its_level),
        test(the_time_of_data_needs_its_level),
        test(a_longer_file_needs_its_level),
        test(a_new_field_with_the_value_of_none_needs_the_level_too),
        test(without_the_level_the_old_limit_of_data_stands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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

static enum err raise_as(struct tree_fixture *fixture, uint64_t session, uint32_t level)
{
    Wire__Command command = WIRE__COMMAND__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__FeatureLevelOp raise = WIRE__FEATURE_LEVEL_OP__INIT;

    raise.level = level;
    op.body_case = WIRE__OP__BODY_FEATURE_LEVEL;
    op.feature_level = &raise;
    command.op = &op;
    if (session != 0) {
        command.session = session;
        command.epoch = fixture->epoch;
        command.sequence = ++fixture->sequence;
        command.identity = &fixture->identity;
    }
    return fixture_apply_command(fixture, &command);
}

static enum err raise_to(struct tree_fixture *fixture, uint32_t level)
{
    return raise_as(fixture, 0, level);
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

    assert_int_equal(raise_to(fixture, FEATURE_DIGESTS), ERR_OK);
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

    assert_int_equal(raise_to(fixture, 5), ERR_OK);
    assert_int_equal(raise_to(fixture, 2), ERR_OK);
    assert_int_equal(raise_to(fixture, 5), ERR_OK);
    assert_int_equal(tree_feature_level(fixture->tree), 5);
}

/* Two trees that differ in the level only must not look the same. */
static void the_digest_covers_the_level(void **state)
{
    struct tree_fixture *fixture = *state;
    struct tree_fixture *other = fixture_new();

    fixture_open(other, 1);
    assert_true(tree_digest(other->tree) == tree_digest(fixture->tree));
    assert_int_equal(raise_to(fixture, 2), ERR_OK);
    assert_int_equal(raise_to(other, 3), ERR_OK);
    assert_true(tree_digest(other->tree) != tree_digest(fixture->tree));
    fixture_free(other);
}

static void a_raise_to_no_level_is_malformed(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(raise_to(fixture, 0), ERR_MALFORMED);
    assert_int_equal(tree_feature_level(fixture->tree), FEATURE_BASE);
}

/* It comes from the leader; no client can write one into the log. */
static void a_raise_in_the_name_of_a_session_is_malformed(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(raise_as(fixture, fixture->session, FEATURE_DIGESTS), ERR_MALFORMED);
    assert_int_equal(tree_feature_level(fixture->tree), FEATURE_BASE);
}

/* Below the second level the row is that of programs that know no levels: they can come back. */
static void the_level_lies_in_the_row_only_from_the_second_on(void **state)
{
    struct tree_fixture *fixture = *state;
    size_t len = state_row_len(fixture);

    assert_int_equal(len, 65);
    assert_int_equal(raise_to(fixture, FEATURE_BASE), ERR_OK);
    assert_int_equal(state_row_len(fixture), len);
    assert_int_equal(raise_to(fixture, FEATURE_DIGESTS), ERR_OK);
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
    assert_int_equal(raise_to(fixture, FEATURE_DIGESTS), ERR_OK);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

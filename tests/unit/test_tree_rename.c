/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the tree: rename, replace, exchange.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/tree_fixture.h"

/* /d/f "f", /e, /x "x" */
static struct tree_fixture *with_nodes(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/d/f", NODE_FILE, "f"), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/e", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/x", NODE_FILE, "x"), ERR_OK);
    return fixture;
}

static void rename_moves_a_node_with_ino_and_data(void **state)
{
    struct tree_fixture *fixture = with_nodes(state);
    struct node_attr before = fixture_attr(fixture, "/d/f");
    struct node_attr after;

    assert_int_equal(fixture_rename(fixture, "/d/f", "/e/g", FIXTURE_RENAME), ERR_OK);
    assert_int_equal(fixture_lookup(fixture, "/d/f", &after), ERR_NO_NODE);
    after = fixture_attr(fixture, "/e/g");
    assert_int_equal(after.ino, before.ino);
    assert_int_equal(after.czxid, before.czxid);
    assert_int_equal(after.version, before.version);
    assert_int_equal(after.mtime_ns, before.mtime_ns);
    assert_int_equal(after.azxid, fixture->result.zxid);
    assert_true(after.ctime_ns > before.ctime_ns);
    fixture_expect_data(fixture, "/e/g", "f");
    fixture_expect_path(fixture, before.ino, "/e/g");
}

static void rename_changes_both_parents(void **state)
{
    struct tree_fixture *fixture = with_nodes(state);
    struct node_attr d = fixture_attr(fixture, "/d");
    struct node_attr e = fixture_attr(fixture, "/e");

    assert_int_equal(fixture_rename(fixture, "/d/f", "/e/g", FIXTURE_RENAME), ERR_OK);
    assert_true(fixture_attr(fixture, "/d").children_mtime_ns > d.children_mtime_ns);
    assert_true(fixture_attr(fixture, "/e").children_mtime_ns > e.children_mtime_ns);
    assert_int_equal(fixture_attr(fixture, "/d").pzxid, fixture->result.zxid);
    assert_int_equal(fixture_attr(fixture, "/e").pzxid, fixture->result.zxid);
    assert_int_equal(fixture_attr(fixture, "/d").cversion, d.cversion + 1);
    assert_int_equal(fixture_attr(fixture, "/e").cversion, e.cversion + 1);
    assert_true(fixture->result.has_parent_attr);
    assert_true(fixture->result.has_to_parent_attr);
    assert_int_equal(fixture->result.parent_attr.ino, d.ino);
    assert_int_equal(fixture->result.to_parent_attr.ino, e.ino);
}

static void rename_within_a_directory_tells_one_parent(void **state)
{
    struct tree_fixture *fixture = with_nodes(state);
    const struct tree_change *change = NULL;

    assert_int_equal(fixture_rename(fixture, "/d/f", "/d/longer name", FIXTURE_RENAME), ERR_OK);
    assert_true(fixture->result.has_parent_attr);
    assert_false(fixture->result.has_to_parent_attr);
    assert_int_equal(fixture->result.change_count, 1);
    change = &fixture->result.changes[0];
    assert_int_equal(change->kind, CHANGE_RENAMED);
    assert_int_equal(change->parent, change->to_parent);
    assert_int_equal(change->name.len, 1);
    assert_int_equal(change->to_name.len, 11);
    assert_false(change->replaced);
    assert_int_equal(change->parent_attr.children, 1);
    assert_int_equal(fixture_attr(fixture, "/d").children, 1);
}

static void directory_moves_with_all_below_it(void **state)
{
    struct tree_fixture *fixture = with_nodes(state);

    assert_int_equal(fixture_rename(fixture, "/d", "/e/sub", FIXTURE_RENAME), ERR_OK);
    fixture_expect_data(fixture, "/e/sub/f", "f");
    assert_int_equal(fixture_attr(fixture, "/").subdirs, 1);
    assert_int_equal(fixture_attr(fixture, "/e").subdirs, 1);
}

static void rename_over_a_file_replaces_it(void **state)
{
    struct tree_fixture *fixture = with_nodes(state);
    struct node_attr old = fixture_attr(fixture, "/x");
    const struct tree_change *change = NULL;

    assert_int_equal(fixture_rename(fixture, "/d/f", "/x", FIXTURE_RENAME), ERR_OK);
    fixture_expect_data(fixture, "/x", "f");
    assert_int_equal(fixture->result.change_count, 1);
    change = &fixture->result.changes[0];
    assert_true(change->replaced);
    assert_false(change->exchanged);
    assert_int_equal(change->replaced_attr.ino, old.ino);
    assert_int_equal(tree_node_count(fixture->tree), 4);
    assert_int_equal(tree_data_bytes(fixture->tree), 1);
}

static void rename_over_the_other_kind_is_refused(void **state)
{
    struct tree_fixture *fixture = with_nodes(state);

    assert_int_equal(fixture_rename(fixture, "/x", "/e", FIXTURE_RENAME), ERR_IS_DIR);
    assert_int_equal(fixture_rename(fixture, "/e", "/x", FIXTURE_RENAME), ERR_NOT_DIR);
    assert_int_equal(fixture_rename(fixture, "/e", "/d", FIXTURE_RENAME), ERR_NOT_EMPTY);
    assert_int_equal(fixture_rename(fixture, "/d", "/e", FIXTURE_RENAME), ERR_OK);
    fixture_expect_data(fixture, "/e/f", "f");
}

static void rename_over_a_directory_with_data_is_not_empty(void **state)
{
    struct tree_fixture *fixture = with_nodes(state);

    assert_int_equal(fixture_write(fixture, "/e", "data"), ERR_OK);
    assert_int_equal(fixture_rename(fixture, "/d", "/e", FIXTURE_RENAME), ERR_NOT_EMPTY);
}

static void no_replace_keeps_what_is_there(void **state)
{
    struct tree_fixture *fixture = with_nodes(state);

    assert_int_equal(fixture_rename(fixture, "/d/f", "/x", FIXTURE_NO_REPLACE), ERR_EXISTS);
    fixture_expect_data(fixture, "/x", "x");
    assert_int_equal(fixture_rename(fixture, "/d/f", "/y", FIXTURE_NO_REPLACE), ERR_OK);
}

static void rename_to_itself_changes_nothing(void **state)
{
    struct tree_fixture *fixture = with_nodes(state);
    struct node_attr before = fixture_attr(fixture, "/x");

    assert_int_equal(fixture_rename(fixture, "/x", "/x", FIXTURE_RENAME), ERR_OK);
    assert_int_equal(fixture->result.change_count, 0);
    assert_int_equal(fixture_attr(fixture, "/x").azxid, before.azxid);
}

static void directory_does_not_move_into_itself(void **state)
{
    struct tree_fixture *fixture = with_nodes(state);

    assert_int_equal(fixture_create(fixture, "/d/sub", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(fixture_rename(fixture, "/d", "/d/new", FIXTURE_RENAME), ERR_LOOP);
    assert_int_equal(fixture_rename(fixture, "/d", "/d/sub", FIXTURE_RENAME), ERR_LOOP);
    assert_int_equal(fixture_rename(fixture, "/d", "/d/sub/new", FIXTURE_RENAME), ERR_LOOP);
    assert_int_equal(fixture_rename(fixture, "/d/sub", "/d", FIXTURE_EXCHANGE), ERR_LOOP);
    assert_int_equal(fixture_rename(fixture, "/d", "/d/sub", FIXTURE_EXCHANGE), ERR_LOOP);
    assert_int_equal(fixture_rename(fixture, "/d/sub", "/d", FIXTURE_RENAME), ERR_NOT_EMPTY);
    assert_int_equal(fixture_rename(fixture, "/d/f", "/d", FIXTURE_RENAME), ERR_IS_DIR);
    assert_int_equal(fixture_rename(fixture, "/", "/d/root", FIXTURE_RENAME), ERR_INVALID);
    assert_int_equal(fixture_rename(fixture, "/d", "/", FIXTURE_RENAME), ERR_INVALID);
}

static void exchange_swaps_two_nodes_of_any_kind(void **state)
{
    struct tree_fixture *fixture = with_nodes(state);
    struct node_attr d = fixture_attr(fixture, "/d");
    struct node_attr x = fixture_attr(fixture, "/x");
    const struct tree_change *change = NULL;

    assert_int_equal(fixture_create(fixture, "/e/file", NODE_FILE, "file"), ERR_OK);
    assert_int_equal(fixture_rename(fixture, "/d", "/e/file", FIXTURE_EXCHANGE), ERR_OK);
    fixture_expect_data(fixture, "/e/file/f", "f");
    fixture_expect_data(fixture, "/d", "file");
    change = &fixture->result.changes[0];
    assert_int_equal(fixture->result.change_count, 1);
    assert_true(change->exchanged);
    assert_false(change->replaced);
    assert_int_equal(change->ino, d.ino);
    assert_int_equal(change->attr.parent, change->to_parent);
    assert_int_equal(change->replaced_attr.parent, ROOT_INO);
    assert_int_equal(fixture_attr(fixture, "/").subdirs, 1);
    assert_int_equal(fixture_attr(fixture, "/e").subdirs, 1);
    /* Within one directory. */
    assert_int_equal(fixture_rename(fixture, "/d", "/x", FIXTURE_EXCHANGE), ERR_OK);
    fixture_expect_data(fixture, "/x", "file");
    fixture_expect_path(fixture, x.ino, "/d");
}

static void exchange_needs_both(void **state)
{
    struct tree_fixture *fixture = with_nodes(state);

    assert_int_equal(fixture_rename(fixture, "/x", "/no", FIXTURE_EXCHANGE), ERR_NO_NODE);
    assert_int_equal(fixture_rename(fixture, "/no", "/x", FIXTURE_EXCHANGE), ERR_NO_NODE);
    assert_int_equal(fixture_rename(fixture, "/x", "/e", FIXTURE_EXCHANGE | FIXTURE_NO_REPLACE),
                     ERR_MALFORMED);
}

static void refused_rename_changes_nothing_but_index_and_answer(void **state)
{
    struct tree_fixture *fixture = with_nodes(state);
    size_t rows = omap_count(fixture->rows);
    struct node_attr root = fixture_attr(fixture, "/");

    assert_int_equal(fixture_rename(fixture, "/x", "/e", FIXTURE_RENAME), ERR_IS_DIR);
    assert_int_equal(omap_count(fixture->rows), rows + 1);
    assert_int_equal(fixture_attr(fixture, "/").azxid, root.azxid);
    assert_int_equal(tree_applied_index(fixture->tree), fixture->result.zxid);
}

#define test_of(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_of(rename_moves_a_node_with_ino_and_data),
        test_of(rename_changes_both_parents),
        test_of(rename_within_a_directory_tells_one_parent),
        test_of(directory_moves_with_all_below_it),
        test_of(rename_over_a_file_replaces_it),
        test_of(rename_over_the_other_kind_is_refused),
        test_of(rename_over_a_directory_with_data_is_not_empty),
        test_of(no_replace_keeps_what_is_there),
        test_of(rename_to_itself_changes_nothing),
        test_of(directory_does_not_move_into_itself),
        test_of(exchange_swaps_two_nodes_of_any_kind),
        test_of(exchange_needs_both),
        test_of(refused_rename_changes_nothing_but_index_and_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the tree: how nodes are found, made, removed and listed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/tree_fixture.h"

static struct tree_identity trusted = {.trusted = true};

static void empty_tree_has_a_root_directory(void **state)
{
    struct tree_fixture *fixture = *state;
    struct node_attr root = fixture_attr(fixture, "/");

    assert_int_equal(root.ino, ROOT_INO);
    assert_int_equal(root.kind, NODE_DIR);
    assert_int_equal(root.mode, 0755);
    assert_int_equal(root.children, 0);
    fixture_expect_path(fixture, ROOT_INO, "/");
}

static void create_sets_all_attributes(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;
    struct node_attr attr;

    create.kind = WIRE__KIND__KIND_FILE;
    create.mode = 0640;
    create.uid = 7;
    create.gid = 8;
    create.data = wire_bytes("abc", 3);
    create.holder = wire_bytes("host 1 sh", 9);
    fixture->now_ns = 5000;
    assert_int_equal(fixture_create_with(fixture, "/f", &create), ERR_OK);
    attr = fixture_attr(fixture, "/f");
    assert_int_equal(attr.kind, NODE_FILE);
    assert_int_equal(attr.mode, 0640);
    assert_int_equal(attr.uid, 7);
    assert_int_equal(attr.gid, 8);
    assert_int_equal(attr.data_bytes, 3);
    assert_int_equal(attr.parent, ROOT_INO);
    assert_int_equal(attr.version, 0);
    assert_int_equal(attr.atime_ns, 5000);
    assert_int_equal(attr.mtime_ns, 5000);
    assert_int_equal(attr.ctime_ns, 5000);
    assert_int_equal(attr.birth_ns, 5000);
    assert_int_equal(attr.children_mtime_ns, 5000);
    assert_int_equal(attr.czxid, fixture->result.zxid);
    assert_int_equal(attr.mzxid, fixture->result.zxid);
    assert_int_equal(attr.pzxid, fixture->result.zxid);
    assert_int_equal(attr.azxid, fixture->result.zxid);
    assert_int_equal(attr.owner, 0);
    fixture_expect_data(fixture, "/f", "abc");
}

static void create_tells_its_node_its_parent_and_its_change(void **state)
{
    struct tree_fixture *fixture = *state;
    const struct tree_result *result = &fixture->result;

    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(result->err, ERR_OK);
    assert_int_equal(result->session, fixture->session);
    assert_int_equal(result->sequence, fixture->sequence);
    assert_false(result->replayed);
    assert_true(result->has_attr);
    assert_int_equal(result->attr.ino, result->ino);
    assert_true(result->has_parent_attr);
    assert_int_equal(result->parent_attr.children, 1);
    assert_int_equal(result->parent_attr.subdirs, 1);
    assert_int_equal(result->name.len, 1);
    assert_int_equal(result->name.bytes[0], 'd');
    assert_int_equal(result->change_count, 1);
    assert_int_equal(result->changes[0].kind, CHANGE_CREATED);
    assert_int_equal(result->changes[0].zxid, result->zxid);
    assert_int_equal(result->changes[0].parent, ROOT_INO);
    assert_int_equal(result->changes[0].ino, result->ino);
    assert_int_equal(result->changes[0].attr.kind, NODE_DIR);
    assert_int_equal(result->changes[0].parent_attr.children, 1);
}

static void inos_are_never_used_again(void **state)
{
    struct tree_fixture *fixture = *state;
    uint64_t first = 0;

    assert_int_equal(fixture_create(fixture, "/a", NODE_FILE, NULL), ERR_OK);
    first = fixture->result.ino;
    assert_int_equal(fixture_remove(fixture, "/a", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_OK);
    fixture_reopen(fixture);
    assert_int_equal(fixture_create(fixture, "/a", NODE_FILE, NULL), ERR_OK);
    assert_true(fixture->result.ino > first);
}

static void create_of_a_name_that_is_there_exists(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_create(fixture, "/a", NODE_FILE, "old"), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/a", NODE_FILE, "new"), ERR_EXISTS);
    assert_int_equal(fixture_create(fixture, "/a", NODE_DIR, NULL), ERR_EXISTS);
    assert_int_equal(fixture_create(fixture, "/", NODE_DIR, NULL), ERR_EXISTS);
    fixture_expect_data(fixture, "/a", "old");
}

static void create_needs_a_parent_that_may_have_children(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_create(fixture, "/no/a", NODE_FILE, NULL), ERR_NO_NODE);
    assert_int_equal(fixture_create(fixture, "/file", NODE_FILE, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/file/a", NODE_FILE, NULL), ERR_NOT_DIR);
    assert_int_equal(fixture_create(fixture, "/link", NODE_SYMLINK, "/file"), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/link/a", NODE_FILE, NULL), ERR_NOT_DIR);
    assert_int_equal(fixture_create(fixture, "/link/a/b", NODE_FILE, NULL), ERR_NOT_DIR);
    assert_int_equal(fixture_create(fixture, "/plain", NODE_PLAIN, "data"), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/plain/a", NODE_FILE, NULL), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/plain").children, 1);
}

static void bad_names_are_refused(void **state)
{
    struct tree_fixture *fixture = *state;
    char name[NAME_BYTES_MAX + 3];
    char path[PATH_BYTES_MAX + 2];

    assert_int_equal(fixture_create(fixture, "a", NODE_FILE, NULL), ERR_BAD_NAME);
    assert_int_equal(fixture_create(fixture, "/a/", NODE_FILE, NULL), ERR_NO_NODE);
    assert_int_equal(fixture_create(fixture, "//a", NODE_FILE, NULL), ERR_BAD_NAME);
    assert_int_equal(fixture_create(fixture, "/.", NODE_FILE, NULL), ERR_BAD_NAME);
    assert_int_equal(fixture_create(fixture, "/..", NODE_DIR, NULL), ERR_BAD_NAME);
    memset(name, 'n', sizeof(name));
    name[0] = '/';
    name[NAME_BYTES_MAX + 1] = '\0';
    assert_int_equal(fixture_create(fixture, name, NODE_FILE, NULL), ERR_OK);
    name[NAME_BYTES_MAX + 1] = 'n';
    name[NAME_BYTES_MAX + 2] = '\0';
    assert_int_equal(fixture_create(fixture, name, NODE_FILE, NULL), ERR_NAME_TOO_LONG);
    for (size_t i = 0; i + 1 < sizeof(path); i++) {
        path[i] = i % 2 == 0 ? '/' : 'x';
    }
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(fixture_remove(fixture, path, WIRE__REMOVE_WHAT__REMOVE_ANY),
                     ERR_NAME_TOO_LONG);
}

static void symlinks_need_a_target_and_devices_take_no_data(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_create(fixture, "/l", NODE_SYMLINK, NULL), ERR_INVALID);
    assert_int_equal(fixture_create(fixture, "/p", NODE_FIFO, "data"), ERR_INVALID);
    assert_int_equal(fixture_create(fixture, "/p", NODE_FIFO, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/l", NODE_SYMLINK, "target"), ERR_OK);
    fixture_expect_data(fixture, "/l", "target");
}

static void sequential_names_count_the_creates_of_the_parent(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;

    create.kind = WIRE__KIND__KIND_PLAIN;
    create.sequential = true;
    assert_int_equal(fixture_create(fixture, "/q", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(fixture_create_with(fixture, "/q/job-", &create), ERR_OK);
    assert_int_equal(fixture->result.name.len, 14);
    assert_memory_equal(fixture->result.name.bytes, "job-0000000000", 14);
    assert_int_equal(fixture_remove(fixture, "/q/job-0000000000", WIRE__REMOVE_WHAT__REMOVE_ANY),
                     ERR_OK);
    assert_int_equal(fixture_create_with(fixture, "/q/job-", &create), ERR_OK);
    assert_memory_equal(fixture->result.name.bytes, "job-0000000001", 14);
    assert_int_equal(fixture_create_with(fixture, "/q/", &create), ERR_OK);
    assert_int_equal(fixture->result.name.len, 10);
    assert_memory_equal(fixture->result.name.bytes, "0000000002", 10);
    fixture_expect_path(fixture, fixture->result.ino, "/q/0000000002");
    assert_int_equal(fixture_create_with(fixture, "/", &create), ERR_OK);
    fixture_expect_path(fixture, fixture->result.ino, "/0000000001");
}

static void cversion_counts_creates_and_removals(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/d").cversion, 0);
    assert_int_equal(fixture_create(fixture, "/d/a", NODE_FILE, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/d/b", NODE_FILE, NULL), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/d").cversion, 2);
    assert_int_equal(fixture_remove(fixture, "/d/a", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/d").cversion, 3);
}

static void new_names_change_the_times_of_their_directory(void **state)
{
    struct tree_fixture *fixture = *state;
    struct node_attr before;
    struct node_attr after;

    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, NULL), ERR_OK);
    before = fixture_attr(fixture, "/d");
    fixture->now_ns = 9000;
    assert_int_equal(fixture_create(fixture, "/d/a", NODE_FILE, NULL), ERR_OK);
    after = fixture_attr(fixture, "/d");
    assert_int_equal(after.children_mtime_ns, 9000);
    assert_int_equal(after.ctime_ns, 9000);
    assert_int_equal(after.pzxid, fixture->result.zxid);
    assert_int_equal(after.azxid, fixture->result.zxid);
    assert_int_equal(after.mtime_ns, before.mtime_ns);
    assert_int_equal(after.mzxid, before.mzxid);
}

static void mtime_of_a_directory_strictly_grows(void **state)
{
    struct tree_fixture *fixture = *state;
    int64_t before = 0;

    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, NULL), ERR_OK);
    fixture->now_ns = 9000;
    assert_int_equal(fixture_create(fixture, "/d/a", NODE_FILE, NULL), ERR_OK);
    before = fixture_attr(fixture, "/d").children_mtime_ns;
    fixture->now_ns = 9000;
    assert_int_equal(fixture_create(fixture, "/d/b", NODE_FILE, NULL), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/d").children_mtime_ns, before + 1);
    fixture->now_ns = 8000; /* the clock of a new leader */
    assert_int_equal(fixture_remove(fixture, "/d/b", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/d").children_mtime_ns, before + 2);
}

static void setgid_directory_gives_its_group_to_what_is_made_in_it(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;

    create.kind = WIRE__KIND__KIND_DIR;
    create.mode = 02775;
    create.gid = 50;
    assert_int_equal(fixture_create_with(fixture, "/d", &create), ERR_OK);
    create.mode = 0755;
    create.gid = 60;
    assert_int_equal(fixture_create_with(fixture, "/d/sub", &create), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/d/sub").gid, 50);
    assert_int_equal(fixture_attr(fixture, "/d/sub").mode, 02755);
    create.kind = WIRE__KIND__KIND_FILE;
    assert_int_equal(fixture_create_with(fixture, "/d/file", &create), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/d/file").gid, 50);
    assert_int_equal(fixture_attr(fixture, "/d/file").mode, 0755);
}

static void address_may_be_an_ino_with_or_without_a_name(void **state)
{
    struct tree_fixture *fixture = *state;
    struct tree_address at = {.ino = 0};
    struct node_attr attr;
    struct node_attr parent;
    uint64_t dir = 0;
    uint64_t file = 0;

    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, NULL), ERR_OK);
    dir = fixture->result.ino;
    assert_int_equal(fixture_create(fixture, "/d/f", NODE_FILE, NULL), ERR_OK);
    file = fixture->result.ino;
    at.ino = file;
    assert_int_equal(tree_lookup(fixture->tree, &at, &trusted, &attr, &parent), ERR_OK);
    assert_int_equal(attr.ino, file);
    assert_int_equal(parent.ino, dir);
    at = (struct tree_address){.ino = dir, .name = (const uint8_t *)"f", .name_len = 1};
    assert_int_equal(tree_lookup(fixture->tree, &at, &trusted, &attr, &parent), ERR_OK);
    assert_int_equal(attr.ino, file);
    assert_int_equal(parent.ino, dir);
    at.ino = file;
    assert_int_equal(tree_lookup(fixture->tree, &at, &trusted, &attr, &parent), ERR_NOT_DIR);
    at.ino = 999;
    assert_int_equal(tree_lookup(fixture->tree, &at, &trusted, &attr, &parent), ERR_STALE);
    at = (struct tree_address){.ino = 999};
    assert_int_equal(tree_lookup(fixture->tree, &at, &trusted, &attr, &parent), ERR_STALE);
    assert_true(parent.ino == UINT64_MAX);
}

static void lookup_of_a_missing_name_tells_the_parent(void **state)
{
    struct tree_fixture *fixture = *state;
    struct tree_address at = {.path = (const uint8_t *)"/d/no", .path_len = 5};
    struct node_attr attr;
    struct node_attr parent;
    uint64_t dir = 0;

    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, NULL), ERR_OK);
    dir = fixture->result.ino;
    assert_int_equal(tree_lookup(fixture->tree, &at, &trusted, &attr, &parent), ERR_NO_NODE);
    assert_int_equal(parent.ino, dir);
    at = (struct tree_address){.path = (const uint8_t *)"/d/no/no", .path_len = 8};
    assert_int_equal(tree_lookup(fixture->tree, &at, &trusted, &attr, &parent), ERR_NO_NODE);
    assert_true(parent.ino == UINT64_MAX);
}

static void remove_takes_a_node_and_all_its_rows(void **state)
{
    struct tree_fixture *fixture = *state;
    struct node_attr attr;
    char large[DATA_INLINE_BYTES_MAX + 2];

    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    assert_int_equal(fixture_create(fixture, "/f", NODE_FILE, large), ERR_OK);
    assert_int_equal(tree_data_bytes(fixture->tree), sizeof(large) - 1);
    assert_int_equal(fixture_remove(fixture, "/f", WIRE__REMOVE_WHAT__REMOVE_NOT_DIR), ERR_OK);
    assert_int_equal(fixture->result.changes[0].kind, CHANGE_REMOVED);
    assert_int_equal(fixture->result.changes[0].attr.data_bytes, sizeof(large) - 1);
    assert_int_equal(fixture->result.changes[0].parent_attr.children, 0);
    assert_int_equal(fixture_lookup(fixture, "/f", &attr), ERR_NO_NODE);
    assert_int_equal(tree_node_count(fixture->tree), 1);
    assert_int_equal(tree_data_bytes(fixture->tree), 0);
}

static void remove_keeps_to_the_kind_that_was_asked_for(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_create(fixture, "/f", NODE_FILE, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/plain", NODE_PLAIN, "data"), ERR_OK);
    assert_int_equal(fixture_remove(fixture, "/f", WIRE__REMOVE_WHAT__REMOVE_DIR), ERR_NOT_DIR);
    assert_int_equal(fixture_remove(fixture, "/d", WIRE__REMOVE_WHAT__REMOVE_NOT_DIR), ERR_IS_DIR);
    assert_int_equal(fixture_remove(fixture, "/plain", WIRE__REMOVE_WHAT__REMOVE_DIR), ERR_NOT_DIR);
    assert_int_equal(fixture_remove(fixture, "/no", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_NO_NODE);
    assert_int_equal(fixture_remove(fixture, "/", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_INVALID);
    assert_int_equal(fixture_remove(fixture, "/plain", WIRE__REMOVE_WHAT__REMOVE_NOT_DIR), ERR_OK);
    assert_int_equal(fixture_remove(fixture, "/d", WIRE__REMOVE_WHAT__REMOVE_DIR), ERR_OK);
}

static void nodes_with_children_are_not_removed(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/d/a", NODE_FILE, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/p", NODE_PLAIN, "data"), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/p/a", NODE_PLAIN, NULL), ERR_OK);
    assert_int_equal(fixture_remove(fixture, "/d", WIRE__REMOVE_WHAT__REMOVE_DIR), ERR_NOT_EMPTY);
    assert_int_equal(fixture_remove(fixture, "/d", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_NOT_EMPTY);
    assert_int_equal(fixture_remove(fixture, "/p", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_NOT_EMPTY);
    assert_int_equal(fixture_remove(fixture, "/p", WIRE__REMOVE_WHAT__REMOVE_NOT_DIR), ERR_IS_DIR);
}

static void rmdir_of_a_directory_with_data_is_not_empty(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, "data"), ERR_OK);
    assert_int_equal(fixture_remove(fixture, "/d", WIRE__REMOVE_WHAT__REMOVE_DIR), ERR_NOT_EMPTY);
    assert_int_equal(fixture_write(fixture, "/d", ""), ERR_OK);
    assert_int_equal(fixture_remove(fixture, "/d", WIRE__REMOVE_WHAT__REMOVE_DIR), ERR_OK);
}

static void remove_of_another_version_is_refused(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__Op any = WIRE__OP__INIT;
    Wire__RemoveOp op = WIRE__REMOVE_OP__INIT;
    Wire__Address at = WIRE__ADDRESS__INIT;

    assert_int_equal(fixture_create(fixture, "/f", NODE_FILE, NULL), ERR_OK);
    assert_int_equal(fixture_write(fixture, "/f", "x"), ERR_OK);
    at.path = wire_bytes("/f", 2);
    op.at = &at;
    op.if_version = true;
    any.body_case = WIRE__OP__BODY_REMOVE;
    any.remove = &op;
    assert_int_equal(fixture_apply(fixture, &any), ERR_BAD_VERSION);
    op.version = 1;
    assert_int_equal(fixture_apply(fixture, &any), ERR_OK);
}

/* ---- listing ---- */

struct page {
    size_t room; /* entries that are taken, but for equal cookies */
    size_t count;
    size_t total;
    uint64_t cookie;
    char seen[512];
    uint64_t before;
};

static bool take(void *arg, const uint8_t *name, size_t name_len, uint64_t cookie, bool same,
                 const struct node_attr *attr)
{
    struct page *page = arg;
    unsigned number = 0;
    char text[16];

    if (page->count >= page->room && !same) {
        return false;
    }
    assert_true(cookie > page->before || same);
    assert_true(name_len < sizeof(text));
    memcpy(text, name, name_len);
    text[name_len] = '\0';
    assert_int_equal(sscanf(text, "n%u", &number), 1); // NOLINT(cert-err34-c): our own names
    assert_true(number < sizeof(page->seen));
    page->seen[number]++;
    assert_int_equal(attr->kind, NODE_FILE);
    page->before = cookie;
    page->cookie = cookie;
    page->count++;
    page->total++;
    return true;
}

static void listing_in_pages_shows_each_child_once(void **state)
{
    struct tree_fixture *fixture = *state;
    struct tree_address at = {.path = (const uint8_t *)"/d", .path_len = 2};
    struct page page = {.room = 7};
    struct node_attr attr;
    bool end = false;
    char path[32];

    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/dd", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/dd/other", NODE_FILE, NULL), ERR_OK);
    for (unsigned i = 0; i < 500; i++) {
        (void)snprintf(path, sizeof(path), "/d/n%u", i);
        assert_int_equal(fixture_create(fixture, path, NODE_FILE, "x"), ERR_OK);
    }
    for (unsigned i = 0; i < 200 && !end; i++) {
        page.count = 0;
        assert_int_equal(
            tree_children(fixture->tree, &at, &trusted, page.cookie, take, &page, &attr, &end),
            ERR_OK);
    }
    assert_true(end);
    assert_int_equal(page.total, 500);
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(page.seen[i], 1);
    }
}

static void cookie_of_an_entry_outlives_its_neighbours(void **state)
{
    struct tree_fixture *fixture = *state;
    struct tree_address at = {.path = (const uint8_t *)"/", .path_len = 1};
    struct page page = {.room = 1};
    struct node_attr attr;
    bool end = true;

    assert_int_equal(fixture_create(fixture, "/n1", NODE_FILE, NULL), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/n2", NODE_FILE, NULL), ERR_OK);
    assert_int_equal(tree_children(fixture->tree, &at, &trusted, 0, take, &page, &attr, &end),
                     ERR_OK);
    assert_false(end);
    assert_int_equal(
        fixture_remove(fixture, page.seen[1] ? "/n1" : "/n2", WIRE__REMOVE_WHAT__REMOVE_ANY),
        ERR_OK);
    page.count = 0;
    assert_int_equal(
        tree_children(fixture->tree, &at, &trusted, page.cookie, take, &page, &attr, &end), ERR_OK);
    assert_true(end);
    assert_int_equal(page.seen[1], 1);
    assert_int_equal(page.seen[2], 1);
}

static void listing_of_a_file_is_not_a_directory(void **state)
{
    struct tree_fixture *fixture = *state;
    struct tree_address at = {.path = (const uint8_t *)"/f", .path_len = 2};
    struct page page = {.room = 1};
    struct node_attr attr;
    bool end = true;

    assert_int_equal(fixture_create(fixture, "/f", NODE_FILE, NULL), ERR_OK);
    assert_int_equal(tree_children(fixture->tree, &at, &trusted, 0, take, &page, &attr, &end),
                     ERR_NOT_DIR);
}

#define test_of(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_of(empty_tree_has_a_root_directory),
        test_of(create_sets_all_attributes),
        test_of(create_tells_its_node_its_parent_and_its_change),
        test_of(inos_are_never_used_again),
        test_of(create_of_a_name_that_is_there_exists),
        test_of(create_needs_a_parent_that_may_have_children),
        test_of(bad_names_are_refused),
        test_of(symlinks_need_a_target_and_devices_take_no_data),
        test_of(sequential_names_count_the_creates_of_the_parent),
        test_of(cversion_counts_creates_and_removals),
        test_of(new_names_change_the_times_of_their_directory),
        test_of(mtime_of_a_directory_strictly_grows),
        test_of(setgid_directory_gives_its_group_to_what_is_made_in_it),
        test_of(address_may_be_an_ino_with_or_without_a_name),
        test_of(lookup_of_a_missing_name_tells_the_parent),
        test_of(remove_takes_a_node_and_all_its_rows),
        test_of(remove_keeps_to_the_kind_that_was_asked_for),
        test_of(nodes_with_children_are_not_removed),
        test_of(rmdir_of_a_directory_with_data_is_not_empty),
        test_of(remove_of_another_version_is_refused),
        test_of(listing_in_pages_shows_each_child_once),
        test_of(cookie_of_an_entry_outlives_its_neighbours),
        test_of(listing_of_a_file_is_not_a_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

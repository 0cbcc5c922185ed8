/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the tree: stored attributes, and the times of data.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/version.h"
#include "server/tree/tree_node.h"
#include "tests/lib/tree_fixture.h"

static int setup(void **state)
{
    assert_int_equal(fixture_setup(state), 0);
    struct tree_fixture *fixture = *state;
    assert_int_equal(fixture_raise(fixture, FEATURE_FILES), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/f", NODE_FILE, "small data"), ERR_OK);
    return 0;
}

static enum err set_bytes(struct tree_fixture *fixture, const char *path, const char *name,
                          const void *value, size_t len)
{
    Wire__XattrOp op = WIRE__XATTR_OP__INIT;

    op.name = wire_bytes(name, strlen(name));
    op.value = wire_bytes(value, len);
    return fixture_xattr(fixture, path, &op);
}

static enum err set(struct tree_fixture *fixture, const char *path, const char *name,
                    const char *value)
{
    return set_bytes(fixture, path, name, value, strlen(value));
}

static enum err unset(struct tree_fixture *fixture, const char *path, const char *name)
{
    Wire__XattrOp op = WIRE__XATTR_OP__INIT;

    op.name = wire_bytes(name, strlen(name));
    op.remove = true;
    return fixture_xattr(fixture, path, &op);
}

static void list_one(void *arg, const uint8_t *name, size_t name_len, const uint8_t *value,
                     size_t value_len)
{
    assert_int_equal(buffer_printf(arg, "%.*s=%.*s;", (int)name_len, (const char *)name,
                                   (int)value_len, (const char *)value),
                     ERR_OK);
}

/* The attributes and the holder of a node, as text. */
static void expect(struct tree_fixture *fixture, const char *path, const char *text,
                   const char *holder)
{
    struct tree_address at = {.path = (const uint8_t *)path, .path_len = strlen(path)};
    struct tree_identity trusted = {.trusted = true};
    struct node_attr attr;
    struct buffer list = {0};
    struct buffer found = {0};

    assert_int_equal(tree_xattrs(fixture->tree, &at, &trusted, list_one, &list, &attr, &found),
                     ERR_OK);
    assert_int_equal(attr.has_xattrs, text[0] != '\0');
    assert_int_equal(list.len, strlen(text));
    assert_true(list.len == 0 || memcmp(list.data, text, list.len) == 0);
    assert_int_equal(found.len, strlen(holder));
    assert_true(found.len == 0 || memcmp(found.data, holder, found.len) == 0);
    buffer_done(&found);
    buffer_done(&list);
}

static void attributes_are_set_changed_and_removed_in_order_of_their_names(void **state)
{
    struct tree_fixture *fixture = *state;

    expect(fixture, "/f", "", "");
    assert_int_equal(set(fixture, "/f", "user.b", "2"), ERR_OK);
    assert_int_equal(set(fixture, "/f", "user.bb", "3"), ERR_OK);
    assert_int_equal(set(fixture, "/f", "user.a", "1"), ERR_OK);
    assert_int_equal(set(fixture, "/f", "user.c", ""), ERR_OK);
    expect(fixture, "/f", "user.a=1;user.b=2;user.bb=3;user.c=;", "");
    fixture_reopen(fixture);
    assert_int_equal(set(fixture, "/f", "user.b", "two"), ERR_OK);
    assert_int_equal(unset(fixture, "/f", "user.bb"), ERR_OK);
    expect(fixture, "/f", "user.a=1;user.b=two;user.c=;", "");
    assert_int_equal(unset(fixture, "/f", "user.a"), ERR_OK);
    assert_int_equal(unset(fixture, "/f", "user.b"), ERR_OK);
    assert_int_equal(unset(fixture, "/f", "user.c"), ERR_OK);
    expect(fixture, "/f", "", "");
    assert_int_equal(unset(fixture, "/f", "user.c"), ERR_XATTR_NONE);
    fixture_expect_data(fixture, "/f", "small data");
}

/* A row without attributes is as it was before there were any. */
static void the_row_of_a_node_has_flags_only_while_it_has_attributes(void **state)
{
    struct tree_fixture *fixture = *state;
    struct row_key key = key_of_child(ROOT_INO, (const uint8_t *)"h", 1);
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;
    size_t len = 0;

    create.kind = WIRE__KIND__KIND_FILE;
    create.holder = wire_bytes("host 1 cat", 10);
    create.data = wire_bytes("data", 4);
    assert_int_equal(fixture_create_with(fixture, "/h", &create), ERR_OK);
    len = omap_get(fixture->rows, key.bytes, key.len)->value_len;
    assert_int_equal(omap_get(fixture->rows, key.bytes, key.len)->value[0], 1);
    assert_int_equal(set(fixture, "/h", "user.a", "1"), ERR_OK);
    assert_int_equal(omap_get(fixture->rows, key.bytes, key.len)->value_len, len + 1);
    assert_int_equal(omap_get(fixture->rows, key.bytes, key.len)->value[0], 2);
    expect(fixture, "/h", "user.a=1;", "host 1 cat");
    fixture_expect_data(fixture, "/h", "data");
    assert_int_equal(fixture_write(fixture, "/h", "other data"), ERR_OK);
    expect(fixture, "/h", "user.a=1;", "host 1 cat");
    assert_int_equal(unset(fixture, "/h", "user.a"), ERR_OK);
    assert_int_equal(omap_get(fixture->rows, key.bytes, key.len)->value_len, len + 6);
    assert_int_equal(omap_get(fixture->rows, key.bytes, key.len)->value[0], 1);
    expect(fixture, "/h", "", "host 1 cat");
    fixture_expect_data(fixture, "/h", "other data");
}

static void create_and_replace_look_whether_it_is_there(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__XattrOp op = WIRE__XATTR_OP__INIT;

    op.name = wire_bytes("user.a", 6);
    op.replace = true;
    assert_int_equal(fixture_xattr(fixture, "/f", &op), ERR_XATTR_NONE);
    op.create = true;
    assert_int_equal(fixture_xattr(fixture, "/f", &op), ERR_MALFORMED);
    op.replace = false;
    assert_int_equal(fixture_xattr(fixture, "/f", &op), ERR_OK);
    assert_int_equal(fixture_xattr(fixture, "/f", &op), ERR_EXISTS);
    op.create = false;
    op.replace = true;
    op.value = wire_bytes("new", 3);
    assert_int_equal(fixture_xattr(fixture, "/f", &op), ERR_OK);
    expect(fixture, "/f", "user.a=new;", "");
    op.replace = false;
    op.remove = true;
    assert_int_equal(fixture_xattr(fixture, "/f", &op), ERR_MALFORMED);
}

static void only_names_of_users_are_stored(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__XattrOp op = WIRE__XATTR_OP__INIT;
    char name[5 + NAME_BYTES_MAX + 2];

    memset(name, 'n', sizeof(name));
    memcpy(name, "user.", 5);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(set(fixture, "/f", name, "x"), ERR_INVALID);
    name[sizeof(name) - 2] = '\0';
    assert_int_equal(set(fixture, "/f", name, "x"), ERR_OK);
    assert_int_equal(unset(fixture, "/f", name), ERR_OK);
    assert_int_equal(set(fixture, "/f", "", "x"), ERR_INVALID);
    assert_int_equal(set(fixture, "/f", "user.", "x"), ERR_INVALID);
    assert_int_equal(set(fixture, "/f", "security.a", "x"), ERR_INVALID);
    assert_int_equal(set(fixture, "/f", "user.znode", "x"), ERR_INVALID);
    assert_int_equal(set(fixture, "/f", "user.znode.ino", "x"), ERR_INVALID);
    assert_int_equal(set(fixture, "/f", "user.znod", "x"), ERR_OK);
    op.name = wire_bytes("user.a\0b", 8);
    assert_int_equal(fixture_xattr(fixture, "/f", &op), ERR_INVALID);
    expect(fixture, "/f", "user.znod=x;", "");
}

static void the_attributes_of_a_node_have_a_limit(void **state)
{
    struct tree_fixture *fixture = *state;
    uint8_t *value = calloc(1, XATTRS_BYTES_MAX);

    assert_non_null(value);
    assert_int_equal(set_bytes(fixture, "/f", "user.a", value, XATTRS_BYTES_MAX - 5),
                     ERR_XATTRS_FULL);
    assert_int_equal(set_bytes(fixture, "/f", "user.a", value, XATTRS_BYTES_MAX - 6), ERR_OK);
    assert_int_equal(set(fixture, "/f", "user.b", ""), ERR_XATTRS_FULL);
    assert_int_equal(set_bytes(fixture, "/f", "user.a", value, XATTRS_BYTES_MAX - 12), ERR_OK);
    assert_int_equal(set(fixture, "/f", "user.b", ""), ERR_OK);
    free(value);
}

static void who_may_write_may_set_and_who_may_read_may_see(void **state)
{
    struct tree_fixture *fixture = *state;
    struct tree_address at = {.path = (const uint8_t *)"/f", .path_len = 2};
    struct buffer list = {0};
    struct buffer holder = {0};
    struct node_attr attr;

    fixture_become(fixture, 77, 77);
    struct tree_identity reader = fixture_reader(fixture);
    assert_int_equal(set(fixture, "/f", "user.a", "1"), ERR_ACCESS);
    assert_int_equal(tree_xattrs(fixture->tree, &at, &reader, list_one, &list, &attr, &holder),
                     ERR_OK);
    fixture_become_trusted(fixture);
    Wire__SetattrOp mode = WIRE__SETATTR_OP__INIT;
    mode.set_mode = true;
    mode.mode = 0602;
    assert_int_equal(fixture_setattr(fixture, "/f", &mode), ERR_OK);
    fixture_become(fixture, 77, 77);
    assert_int_equal(set(fixture, "/f", "user.a", "1"), ERR_OK);
    assert_int_equal(tree_xattrs(fixture->tree, &at, &reader, list_one, &list, &attr, &holder),
                     ERR_ACCESS);
    buffer_done(&holder);
    buffer_done(&list);
}

static void only_files_and_directories_have_attributes(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_create(fixture, "/link", NODE_SYMLINK, "f"), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/pipe", NODE_FIFO, ""), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/plain", NODE_PLAIN, ""), ERR_OK);
    assert_int_equal(set(fixture, "/link", "user.a", "1"), ERR_PERM);
    assert_int_equal(set(fixture, "/pipe", "user.a", "1"), ERR_PERM);
    assert_int_equal(set(fixture, "/plain", "user.a", "1"), ERR_OK);
    assert_int_equal(set(fixture, "/", "user.a", "root"), ERR_OK);
    assert_int_equal(set(fixture, "/none", "user.a", "1"), ERR_NO_NODE);
    expect(fixture, "/", "user.a=root;", "");
}

static void a_change_shows_in_ctime_and_as_an_event(void **state)
{
    struct tree_fixture *fixture = *state;
    struct node_attr before = fixture_attr(fixture, "/f");

    fixture->now_ns = 5555;
    assert_int_equal(set(fixture, "/f", "user.a", "1"), ERR_OK);
    assert_int_equal(fixture->result.change_count, 1);
    assert_int_equal(fixture->result.changes[0].kind, CHANGE_ATTR);
    assert_true(fixture->result.has_attr && fixture->result.attr.has_xattrs);
    assert_int_equal(fixture->result.attr.ctime_ns, 5555);
    assert_int_equal(fixture->result.attr.azxid, fixture->result.zxid);
    assert_int_equal(fixture->result.attr.mtime_ns, before.mtime_ns);
    assert_int_equal(fixture->result.attr.version, before.version);
    assert_int_equal(fixture->result.attr.aversion, before.aversion);
}

/* fixture_recount counts the rows. */
static void attributes_move_and_go_with_their_node(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(fixture_create(fixture, "/g", NODE_FILE, ""), ERR_OK);
    assert_int_equal(set(fixture, "/f", "user.a", "f"), ERR_OK);
    assert_int_equal(set(fixture, "/g", "user.a", "g"), ERR_OK);
    assert_int_equal(fixture_rename(fixture, "/f", "/g", FIXTURE_RENAME), ERR_OK);
    fixture_recount(fixture);
    expect(fixture, "/g", "user.a=f;", "");
    assert_int_equal(fixture_remove(fixture, "/g", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_OK);
    fixture_recount(fixture);
}

/* ---- of_data ---- */

static void the_time_of_the_data_of_a_directory_can_be_set(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__SetattrOp op = WIRE__SETATTR_OP__INIT;
    struct node_attr attr;

    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, ""), ERR_OK);
    op.set_mtime = true;
    op.mtime_ns = 11;
    assert_int_equal(fixture_setattr(fixture, "/d", &op), ERR_OK);
    op.of_data = true;
    op.mtime_ns = 22;
    assert_int_equal(fixture_setattr(fixture, "/d", &op), ERR_OK);
    attr = fixture_attr(fixture, "/d");
    assert_int_equal(attr.children_mtime_ns, 11);
    assert_int_equal(attr.mtime_ns, 22);
    op.set_uid = true;
    assert_int_equal(fixture_setattr(fixture, "/d", &op), ERR_MALFORMED);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(attributes_are_set_changed_and_removed_in_order_of_their_names),
        test(the_row_of_a_node_has_flags_only_while_it_has_attributes),
        test(create_and_replace_look_whether_it_is_there),
        test(only_names_of_users_are_stored),
        test(the_attributes_of_a_node_have_a_limit),
        test(who_may_write_may_set_and_who_may_read_may_see),
        test(only_files_and_directories_have_attributes),
        test(a_change_shows_in_ctime_and_as_an_event),
        test(attributes_move_and_go_with_their_node),
        test(the_time_of_the_data_of_a_directory_can_be_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

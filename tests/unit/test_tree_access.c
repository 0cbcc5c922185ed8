/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the tree: what the mode bits allow to identities that are not trusted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/tree_fixture.h"

enum {
    ALICE = 1001,
    BOB = 1002,
    STAFF = 50
};

static void make(struct tree_fixture *fixture, const char *path, enum node_kind kind, uint32_t mode,
                 uint32_t uid)
{
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;

    create.kind = (Wire__Kind)kind;
    create.mode = mode;
    create.uid = uid;
    create.gid = uid;
    fixture_become_trusted(fixture);
    assert_int_equal(fixture_create_with(fixture, path, &create), ERR_OK);
}

static void alice(struct tree_fixture *fixture)
{
    fixture_become(fixture, ALICE, ALICE);
}

static void bob(struct tree_fixture *fixture)
{
    fixture_become(fixture, BOB, BOB);
}

static enum err read_data(struct tree_fixture *fixture, const char *path)
{
    struct tree_address at = {.path = (const uint8_t *)path, .path_len = strlen(path)};
    struct tree_identity who = fixture_reader(fixture);
    struct buffer data = {0};
    struct node_attr attr;
    enum err err = tree_read(fixture->tree, &at, &who, 0, 100, &attr, &data);

    buffer_done(&data);
    return err;
}

static bool take_none(void *arg, const uint8_t *name, size_t name_len, uint64_t cookie, bool same,
                      const struct node_attr *attr)
{
    (void)arg;
    (void)name;
    (void)name_len;
    (void)cookie;
    (void)same;
    (void)attr;
    return true;
}

static enum err list(struct tree_fixture *fixture, const char *path)
{
    struct tree_address at = {.path = (const uint8_t *)path, .path_len = strlen(path)};
    struct tree_identity who = fixture_reader(fixture);
    struct node_attr attr;
    bool end = false;

    return tree_children(fixture->tree, &at, &who, 0, take_none, NULL, &attr, &end);
}

static void new_node_belongs_to_its_maker_whatever_he_says(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;

    make(fixture, "/pub", NODE_DIR, 0777, 0);
    alice(fixture);
    create.kind = WIRE__KIND__KIND_FILE;
    create.mode = 0644;
    create.uid = 0;
    create.gid = 0;
    assert_int_equal(fixture_create_with(fixture, "/pub/f", &create), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/pub/f").uid, ALICE);
    assert_int_equal(fixture_attr(fixture, "/pub/f").gid, ALICE);
}

static void search_permission_is_needed_on_the_way(void **state)
{
    struct tree_fixture *fixture = *state;
    struct tree_address at;
    struct tree_identity who;
    struct node_attr attr;

    make(fixture, "/priv", NODE_DIR, 0700, ALICE);
    make(fixture, "/priv/sub", NODE_DIR, 0777, ALICE);
    make(fixture, "/priv/sub/f", NODE_FILE, 0666, ALICE);
    alice(fixture);
    assert_int_equal(fixture_lookup(fixture, "/priv/sub/f", &attr), ERR_OK);
    bob(fixture);
    assert_int_equal(fixture_lookup(fixture, "/priv", &attr), ERR_OK);
    assert_int_equal(fixture_lookup(fixture, "/priv/sub/f", &attr), ERR_ACCESS);
    assert_int_equal(fixture_write(fixture, "/priv/sub/f", "x"), ERR_ACCESS);
    assert_int_equal(fixture_create(fixture, "/priv/sub/g", NODE_FILE, NULL), ERR_ACCESS);
    /* Numbers are guessed easily: they must not lead around the closed door. */
    who = fixture_reader(fixture);
    at = (struct tree_address){.ino = fixture_attr(fixture, "/priv/sub/f").ino};
    assert_int_equal(tree_lookup(fixture->tree, &at, &who, &attr, NULL), ERR_ACCESS);
    at = (struct tree_address){
        .ino = fixture_attr(fixture, "/priv/sub").ino, .name = (const uint8_t *)"f", .name_len = 1};
    assert_int_equal(tree_lookup(fixture->tree, &at, &who, &attr, NULL), ERR_ACCESS);
}

static void names_change_with_write_permission_on_the_directory(void **state)
{
    struct tree_fixture *fixture = *state;

    make(fixture, "/d", NODE_DIR, 0755, ALICE);
    make(fixture, "/d/f", NODE_FILE, 0666, BOB);
    bob(fixture);
    assert_int_equal(fixture_create(fixture, "/d/g", NODE_FILE, NULL), ERR_ACCESS);
    assert_int_equal(fixture_create(fixture, "/d/f", NODE_FILE, NULL), ERR_EXISTS);
    assert_int_equal(fixture_remove(fixture, "/d/f", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_ACCESS);
    assert_int_equal(fixture_rename(fixture, "/d/f", "/d/g", FIXTURE_RENAME), ERR_ACCESS);
    alice(fixture);
    assert_int_equal(fixture_create(fixture, "/d/g", NODE_FILE, NULL), ERR_OK);
    assert_int_equal(fixture_rename(fixture, "/d/f", "/d/h", FIXTURE_RENAME), ERR_OK);
    assert_int_equal(fixture_remove(fixture, "/d/h", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_OK);
}

static void sticky_directory_protects_the_nodes_of_others(void **state)
{
    struct tree_fixture *fixture = *state;

    make(fixture, "/tmp", NODE_DIR, 01777, 0);
    make(fixture, "/tmp/a", NODE_FILE, 0666, ALICE);
    make(fixture, "/tmp/b", NODE_FILE, 0666, BOB);
    bob(fixture);
    assert_int_equal(fixture_remove(fixture, "/tmp/a", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_PERM);
    assert_int_equal(fixture_rename(fixture, "/tmp/a", "/tmp/c", FIXTURE_RENAME), ERR_PERM);
    assert_int_equal(fixture_rename(fixture, "/tmp/b", "/tmp/a", FIXTURE_RENAME), ERR_PERM);
    assert_int_equal(fixture_rename(fixture, "/tmp/b", "/tmp/a", FIXTURE_EXCHANGE), ERR_PERM);
    assert_int_equal(fixture_rename(fixture, "/tmp/b", "/tmp/c", FIXTURE_RENAME), ERR_OK);
    assert_int_equal(fixture_remove(fixture, "/tmp/c", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_OK);
}

static void directory_of_another_does_not_leave_its_parent(void **state)
{
    struct tree_fixture *fixture = *state;

    make(fixture, "/x", NODE_DIR, 0777, 0);
    make(fixture, "/y", NODE_DIR, 0777, 0);
    make(fixture, "/x/d", NODE_DIR, 0755, ALICE);
    bob(fixture);
    assert_int_equal(fixture_rename(fixture, "/x/d", "/y/d", FIXTURE_RENAME), ERR_ACCESS);
    assert_int_equal(fixture_rename(fixture, "/x/d", "/x/e", FIXTURE_RENAME), ERR_OK);
}

static void data_needs_read_and_write_permission(void **state)
{
    struct tree_fixture *fixture = *state;

    make(fixture, "/f", NODE_FILE, 0640, ALICE);
    bob(fixture);
    assert_int_equal(read_data(fixture, "/f"), ERR_ACCESS);
    assert_int_equal(fixture_write(fixture, "/f", "x"), ERR_ACCESS);
    fixture_become(fixture, BOB, ALICE); /* in the group: may read */
    assert_int_equal(read_data(fixture, "/f"), ERR_OK);
    assert_int_equal(fixture_write(fixture, "/f", "x"), ERR_ACCESS);
    alice(fixture);
    assert_int_equal(fixture_write(fixture, "/f", "x"), ERR_OK);
}

static void owner_is_judged_by_the_bits_of_the_owner_only(void **state)
{
    struct tree_fixture *fixture = *state;

    make(fixture, "/f", NODE_FILE, 0066, ALICE);
    alice(fixture);
    assert_int_equal(read_data(fixture, "/f"), ERR_ACCESS);
    bob(fixture);
    assert_int_equal(read_data(fixture, "/f"), ERR_OK);
}

static void uid_zero_is_no_root_unless_trusted(void **state)
{
    struct tree_fixture *fixture = *state;

    make(fixture, "/f", NODE_FILE, 0600, ALICE);
    fixture_become(fixture, 0, 0);
    assert_int_equal(read_data(fixture, "/f"), ERR_ACCESS);
    assert_int_equal(fixture_write(fixture, "/f", "x"), ERR_ACCESS);
    assert_int_equal(fixture_create(fixture, "/dev", NODE_BLOCK_DEVICE, NULL), ERR_PERM);
}

static void listing_needs_read_permission(void **state)
{
    struct tree_fixture *fixture = *state;

    make(fixture, "/d", NODE_DIR, 0711, ALICE);
    bob(fixture);
    assert_int_equal(list(fixture, "/d"), ERR_ACCESS);
    alice(fixture);
    assert_int_equal(list(fixture, "/d"), ERR_OK);
}

static void target_of_a_symlink_may_be_read_by_all(void **state)
{
    struct tree_fixture *fixture = *state;

    fixture_become_trusted(fixture);
    assert_int_equal(fixture_create(fixture, "/l", NODE_SYMLINK, "target"), ERR_OK);
    bob(fixture);
    assert_int_equal(read_data(fixture, "/l"), ERR_OK);
}

static void chmod_and_chown_are_for_the_owner(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__SetattrOp mode = WIRE__SETATTR_OP__INIT;
    Wire__SetattrOp uid = WIRE__SETATTR_OP__INIT;
    Wire__SetattrOp gid = WIRE__SETATTR_OP__INIT;
    uint32_t groups[] = {STAFF};

    make(fixture, "/f", NODE_FILE, 0666, ALICE);
    mode.set_mode = true;
    mode.mode = 0600;
    uid.set_uid = true;
    uid.uid = BOB;
    gid.set_gid = true;
    gid.gid = STAFF;
    bob(fixture);
    assert_int_equal(fixture_setattr(fixture, "/f", &mode), ERR_PERM);
    alice(fixture);
    assert_int_equal(fixture_setattr(fixture, "/f", &mode), ERR_OK);
    assert_int_equal(fixture_setattr(fixture, "/f", &uid), ERR_PERM);
    assert_int_equal(fixture_setattr(fixture, "/f", &gid), ERR_PERM);
    fixture->identity.groups = groups;
    fixture->identity.n_groups = 1;
    assert_int_equal(fixture_setattr(fixture, "/f", &gid), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/f").gid, STAFF);
    fixture->identity.groups = NULL;
    fixture->identity.n_groups = 0;
}

static void setgid_is_only_set_by_members_of_the_group(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__SetattrOp mode = WIRE__SETATTR_OP__INIT;

    make(fixture, "/f", NODE_FILE, 0644, ALICE);
    mode.set_mode = true;
    mode.mode = 06755;
    fixture_become(fixture, ALICE, BOB);
    assert_int_equal(fixture_setattr(fixture, "/f", &mode), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/f").mode, 04755);
    alice(fixture);
    assert_int_equal(fixture_setattr(fixture, "/f", &mode), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/f").mode, 06755);
    /* Writing takes both away, asked or not. */
    assert_int_equal(fixture_write(fixture, "/f", "x"), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/f").mode, 0755);
}

static void writers_may_touch_but_not_set_times(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__SetattrOp now = WIRE__SETATTR_OP__INIT;
    Wire__SetattrOp then = WIRE__SETATTR_OP__INIT;

    make(fixture, "/w", NODE_FILE, 0666, ALICE);
    make(fixture, "/r", NODE_FILE, 0644, ALICE);
    now.set_mtime = true;
    now.mtime_now = true;
    then.set_mtime = true;
    then.mtime_ns = 1;
    bob(fixture);
    assert_int_equal(fixture_setattr(fixture, "/w", &now), ERR_OK);
    assert_int_equal(fixture_setattr(fixture, "/w", &then), ERR_PERM);
    assert_int_equal(fixture_setattr(fixture, "/r", &now), ERR_ACCESS);
    alice(fixture);
    assert_int_equal(fixture_setattr(fixture, "/r", &then), ERR_OK);
}

#define test_of(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_of(new_node_belongs_to_its_maker_whatever_he_says),
        test_of(search_permission_is_needed_on_the_way),
        test_of(names_change_with_write_permission_on_the_directory),
        test_of(sticky_directory_protects_the_nodes_of_others),
        test_of(directory_of_another_does_not_leave_its_parent),
        test_of(data_needs_read_and_write_permission),
        test_of(owner_is_judged_by_the_bits_of_the_owner_only),
        test_of(uid_zero_is_no_root_unless_trusted),
        test_of(listing_needs_read_permission),
        test_of(target_of_a_symlink_may_be_read_by_all),
        test_of(chmod_and_chown_are_for_the_owner),
        test_of(setgid_is_only_set_by_members_of_the_group),
        test_of(writers_may_touch_but_not_set_times),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of fs/mount/changes and inode: what each event makes the kernel forget, and what a
 * reconnect asks for.
 */
#include "fs/mount/changes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/mount/content.h"
#include "fs/mount/listing.h"
#include "fs/mount/task.h"
#include "tests/lib/mount_fixture.h"

#define ROOT_NODEID 1u
#define DIR_INO     8u
#define DIR_NODEID  (DIR_INO << 1 | 1u)
#define FILE_INO    9u
#define FILE_NODEID (FILE_INO << 1)

static struct mount_fixture fixture;
static struct inode *root;
static struct inode *dir;
static struct inode *file;

static int setup(void **state)
{
    (void)state;
    mount_fixture_open(&fixture);
    root = fixture_held(&fixture, 1, WIRE__KIND__KIND_DIR, 1);
    dir = fixture_held(&fixture, DIR_INO, WIRE__KIND__KIND_DIR, 2);
    file = fixture_held(&fixture, FILE_INO, WIRE__KIND__KIND_FILE, 3);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mount_fixture_close(&fixture);
    return 0;
}

static Wire__Event event_of(Wire__EventKind kind, uint64_t ino, const char *name, uint64_t zxid)
{
    Wire__Event event = WIRE__EVENT__INIT;
    event.kind = kind;
    event.zxid = zxid;
    event.parent = 1;
    event.ino = ino;
    event.name = wire_bytes(name, strlen(name));
    return event;
}

/* An empty page, only to see whether it is dropped. */
static void keep_listing(struct inode *inode)
{
    Wire__Answer answer = WIRE__ANSWER__INIT;
    answer.end = true;
    assert_int_equal(listing_keep(&fixture.mount, inode, 0, &answer), ERR_OK);
}

static void give_content(struct inode *inode, const char *text)
{
    struct content *content = content_new(text, strlen(text), inode->attr.mzxid);
    assert_non_null(content);
    content_set(&fixture.mount, inode, content);
}

static void a_new_name_makes_the_kernel_forget_it_and_the_listing(void **state)
{
    (void)state;
    Wire__Event event = event_of(WIRE__EVENT_KIND__EVENT_CREATED, 50, "new", 10);
    Wire__Attr parent = fixture_attr(1, WIRE__KIND__KIND_DIR, 10);
    event.parent_attr = &parent;
    keep_listing(root);
    changes_event(&fixture.mount, &event);
    assert_int_equal(fixture_count(&fixture, ROOT_NODEID, "new"), 1);
    assert_int_equal(fixture_count(&fixture, ROOT_NODEID, NULL), 1);
    assert_false(fixture.pushed[1].attr_only);
    assert_null(root->listing);
    assert_int_equal(root->attr.pzxid, 10);
    assert_int_equal(root->names_mark, fixture.mount.change_count);
}

static void a_change_in_a_directory_that_nobody_knows_is_nothing(void **state)
{
    (void)state;
    Wire__Event event = event_of(WIRE__EVENT_KIND__EVENT_CREATED, 50, "new", 10);
    event.parent = 77;
    changes_event(&fixture.mount, &event);
    assert_int_equal(fixture.pushed_count, 0);
}

static void changed_data_is_dropped_here_and_in_the_kernel(void **state)
{
    (void)state;
    Wire__Event event = event_of(WIRE__EVENT_KIND__EVENT_DATA, FILE_INO, "f", 10);
    Wire__Attr attr = fixture_attr(FILE_INO, WIRE__KIND__KIND_FILE, 10);
    attr.data_bytes = 5;
    event.attr = &attr;
    give_content(file, "old");
    keep_listing(root);
    changes_event(&fixture.mount, &event);
    assert_null(file->content);
    assert_int_equal(file->attr.data_bytes, 5);
    assert_int_equal(fixture_count(&fixture, FILE_NODEID, NULL), 1);
    assert_false(fixture.pushed[0].attr_only);
    assert_null(root->listing); /* It shows the old length. */
}

static void changed_attributes_leave_the_data_alone(void **state)
{
    (void)state;
    Wire__Event event = event_of(WIRE__EVENT_KIND__EVENT_ATTR, FILE_INO, "f", 10);
    Wire__Attr attr = file->attr;
    attr.azxid = 10;
    attr.mode = 0600;
    event.attr = &attr;
    give_content(file, "data");
    changes_event(&fixture.mount, &event);
    assert_non_null(content_current(file));
    assert_int_equal(file->attr.mode, 0600);
    assert_int_equal(fixture.pushed_count, 1);
    assert_true(fixture.pushed[0].attr_only);
}

static void attributes_never_go_back(void **state)
{
    (void)state;
    Wire__Event event = event_of(WIRE__EVENT_KIND__EVENT_ATTR, FILE_INO, "f", 2);
    Wire__Attr attr = fixture_attr(FILE_INO, WIRE__KIND__KIND_FILE, 2);
    attr.mode = 0600;
    event.attr = &attr;
    changes_event(&fixture.mount, &event);
    assert_int_equal(file->attr.azxid, 3);
    assert_int_equal(file->attr.mode, 0644);
}

static void a_removed_node_is_gone_and_has_no_links(void **state)
{
    (void)state;
    Wire__Event event = event_of(WIRE__EVENT_KIND__EVENT_REMOVED, FILE_INO, "f", 10);
    struct stat stat;
    changes_event(&fixture.mount, &event);
    assert_true(file->gone);
    assert_int_equal(fixture_count(&fixture, ROOT_NODEID, "f"), 1);
    assert_int_equal(fixture_count(&fixture, FILE_NODEID, NULL), 1);
    inode_stat(&fixture.mount, file, FACE_FILE, &stat);
    assert_int_equal(stat.st_nlink, 0);
}

static void a_rename_changes_both_names_and_removes_what_it_replaced(void **state)
{
    (void)state;
    Wire__Event event = event_of(WIRE__EVENT_KIND__EVENT_RENAMED, FILE_INO, "f", 10);
    Wire__Attr attr = fixture_attr(FILE_INO, WIRE__KIND__KIND_FILE, 10);
    const struct inode *replaced = fixture_held(&fixture, 30, WIRE__KIND__KIND_FILE, 4);
    attr.parent = DIR_INO;
    event.attr = &attr;
    event.to_parent = DIR_INO;
    event.to_name = wire_bytes("g", 1);
    event.replaced_ino = 30;
    keep_listing(root);
    keep_listing(dir);
    changes_event(&fixture.mount, &event);
    assert_int_equal(fixture_count(&fixture, ROOT_NODEID, "f"), 1);
    assert_int_equal(fixture_count(&fixture, DIR_NODEID, "g"), 1);
    assert_null(root->listing);
    assert_true(replaced->gone);
    assert_false(file->gone);
    assert_int_equal(file->attr.parent, DIR_INO);
    assert_string_equal(file->name, "g");
}

static void an_exchange_keeps_both_nodes(void **state)
{
    (void)state;
    Wire__Event event = event_of(WIRE__EVENT_KIND__EVENT_RENAMED, FILE_INO, "f", 10);
    Wire__Attr attr = fixture_attr(FILE_INO, WIRE__KIND__KIND_FILE, 10);
    Wire__Attr other = fixture_attr(DIR_INO, WIRE__KIND__KIND_DIR, 10);
    event.attr = &attr;
    event.to_parent = 1;
    event.to_name = wire_bytes("d", 1);
    event.exchanged = true;
    event.replaced_ino = DIR_INO;
    event.replaced_attr = &other;
    changes_event(&fixture.mount, &event);
    assert_false(dir->gone);
    assert_string_equal(file->name, "d");
    assert_string_equal(dir->name, "f");
}

static void after_a_resync_nothing_that_the_kernel_knows_of_it_is_believed(void **state)
{
    (void)state;
    Wire__Event event = event_of(WIRE__EVENT_KIND__EVENT_RESYNC, DIR_INO, "", 10);
    Wire__Attr attr = fixture_attr(DIR_INO, WIRE__KIND__KIND_DIR, 10);
    event.attr = &attr;
    keep_listing(dir);
    changes_event(&fixture.mount, &event);
    assert_int_equal(fixture_count(&fixture, DIR_NODEID, NULL), 1);
    assert_int_equal(fixture.epochs, 1); /* which names have changed is not known */
    assert_null(dir->listing);
    assert_int_equal(dir->names_mark, fixture.mount.change_count);
}

static void a_resync_without_attributes_means_that_it_is_gone(void **state)
{
    (void)state;
    const Wire__Event event = event_of(WIRE__EVENT_KIND__EVENT_RESYNC, FILE_INO, "", 10);
    changes_event(&fixture.mount, &event);
    assert_true(file->gone);
    assert_int_equal(fixture.epochs, 1);
}

static void a_revoked_promise_is_no_promise(void **state)
{
    (void)state;
    const Wire__Event event = event_of(WIRE__EVENT_KIND__EVENT_REVOKED, FILE_INO, "", 10);
    give_content(file, "data");
    changes_event(&fixture.mount, &event);
    assert_false(file->promised);
    assert_null(content_current(file));
    assert_true(inode_attr_timeout(&fixture.mount, file) <= 0.0);
}

static void an_attach_reclaims_every_promise_with_what_is_known(void **state)
{
    (void)state;
    changes_detached(&fixture.mount);
    file->gone = true;
    fixture.mount.grant_seen = 99;
    changes_attached(&fixture.mount);
    assert_int_equal(fixture.reclaims, 1);
    assert_int_equal(fixture.reclaimed_count, 2); /* not what is gone */
    for (size_t i = 0; i < 2; i++) {
        const struct client_promise *promise = &fixture.reclaimed[i];
        assert_true(promise->ino == 1 || promise->ino == DIR_INO);
        assert_int_equal(promise->zxid, promise->ino == 1 ? 1 : 2);
    }
    assert_int_equal(fixture.mount.grant_seen, 0);
    assert_true(fixture.mount.reclaiming);
    assert_true(fixture.mount.events_missing);
    fixture.reclaim_done(fixture.reclaim_arg, ERR_OK);
    assert_false(fixture.mount.reclaiming);
    assert_false(fixture.mount.events_missing);
}

static void a_reclaim_that_breaks_off_lets_answers_go_but_events_stay_missing(void **state)
{
    (void)state;
    changes_attached(&fixture.mount);
    fixture.reclaim_done(fixture.reclaim_arg, ERR_CLOSED);
    assert_false(fixture.mount.reclaiming);
    assert_true(fixture.mount.events_missing);
}

static void without_a_leader_nothing_is_reclaimed_and_nothing_held_back(void **state)
{
    (void)state;
    fixture.reclaim_err = ERR_CLOSED;
    changes_attached(&fixture.mount);
    assert_false(fixture.mount.reclaiming);
    assert_true(fixture.mount.events_missing);
}

static void an_answer_that_shows_a_missed_change_makes_the_kernel_forget(void **state)
{
    (void)state;
    changes_detached(&fixture.mount);
    const Wire__Attr attr = fixture_attr(DIR_INO, WIRE__KIND__KIND_DIR, 10);
    (void)inode_take(&fixture.mount, &attr, 0, false);
    assert_int_equal(fixture_count(&fixture, DIR_NODEID, NULL), 1);
    assert_int_equal(fixture.epochs, 1);
}

static void what_the_kernel_forgets_gives_its_promise_back(void **state)
{
    (void)state;
    fixture.mount.grant_seen = 5;
    inode_hold(file, FACE_FILE);
    inode_forget(&fixture.mount, FILE_NODEID, 1);
    assert_int_equal(fixture.forgotten_count, 0);
    inode_forget(&fixture.mount, FILE_NODEID, 1);
    assert_int_equal(fixture.forgotten_count, 1);
    assert_int_equal(fixture.forgotten[0].ino, FILE_INO);
    assert_int_equal(fixture.forgotten[0].zxid, 5);
    assert_null(inode_find(&fixture.mount, FILE_INO));
}

static void a_promise_for_a_node_that_is_not_kept_is_given_back(void **state)
{
    (void)state;
    const Wire__Attr attr = fixture_attr(60, WIRE__KIND__KIND_FILE, 4);
    assert_null(inode_take(&fixture.mount, &attr, 7, false));
    assert_int_equal(fixture.forgotten_count, 1);
    assert_int_equal(fixture.forgotten[0].ino, 60);
}

static void the_root_of_the_mount_is_nodeid_1_whatever_its_ino(void **state)
{
    (void)state;
    enum face face = FACE_FILE;
    assert_ptr_equal(inode_of_nodeid(&fixture.mount, ROOT_NODEID, &face), root);
    assert_int_equal(face, FACE_DIR);
    fixture.mount.root_ino = DIR_INO;
    assert_int_equal(inode_nodeid(&fixture.mount, DIR_INO, FACE_DIR), ROOT_NODEID);
    assert_ptr_equal(inode_of_nodeid(&fixture.mount, ROOT_NODEID, &face), dir);
    assert_int_equal(inode_nodeid(&fixture.mount, FILE_INO, FACE_FILE), FILE_NODEID);
}

static void a_plain_node_is_a_directory_with_children_or_without_data(void **state)
{
    (void)state;
    Wire__Attr attr = fixture_attr(60, WIRE__KIND__KIND_PLAIN, 4);
    assert_int_equal(inode_face(&attr), FACE_DIR);
    attr.data_bytes = 3;
    assert_int_equal(inode_face(&attr), FACE_FILE);
    attr.children = 1;
    assert_int_equal(inode_face(&attr), FACE_DIR);
    attr.kind = WIRE__KIND__KIND_FILE;
    assert_int_equal(inode_face(&attr), FACE_FILE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_name_makes_the_kernel_forget_it_and_the_listing),
        TEST(a_change_in_a_directory_that_nobody_knows_is_nothing),
        TEST(changed_data_is_dropped_here_and_in_the_kernel),
        TEST(changed_attributes_leave_the_data_alone),
        TEST(attributes_never_go_back),
        TEST(a_removed_node_is_gone_and_has_no_links),
        TEST(a_rename_changes_both_names_and_removes_what_it_replaced),
        TEST(an_exchange_keeps_both_nodes),
        TEST(after_a_resync_nothing_that_the_kernel_knows_of_it_is_believed),
        TEST(a_resync_without_attributes_means_that_it_is_gone),
        TEST(a_revoked_promise_is_no_promise),
        TEST(an_attach_reclaims_every_promise_with_what_is_known),
        TEST(a_reclaim_that_breaks_off_lets_answers_go_but_events_stay_missing),
        TEST(without_a_leader_nothing_is_reclaimed_and_nothing_held_back),
        TEST(an_answer_that_shows_a_missed_change_makes_the_kernel_forget),
        TEST(what_the_kernel_forgets_gives_its_promise_back),
        TEST(a_promise_for_a_node_that_is_not_kept_is_given_back),
        TEST(the_root_of_the_mount_is_nodeid_1_whatever_its_ino),
        TEST(a_plain_node_is_a_directory_with_children_or_without_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

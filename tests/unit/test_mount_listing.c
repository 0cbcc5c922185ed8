/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of fs/mount/listing: pages of a directory and the promises that come with them.
 */
#include "fs/mount/listing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/mount_fixture.h"

#define ENTRIES 3u

static struct mount_fixture fixture;
static struct inode *root;

/* An answer with children 10, 11, 12 behind the cookies 16, 17, 18. */
struct page {
    Wire__Answer answer;
    Wire__Entry entries[ENTRIES];
    Wire__Entry *list[ENTRIES];
    Wire__Attr attrs[ENTRIES];
    char names[ENTRIES][8];
};

static void page_init(struct page *page, uint64_t grant, bool end)
{
    wire__answer__init(&page->answer);
    for (size_t i = 0; i < ENTRIES; i++) {
        Wire__Entry *entry = &page->entries[i];
        wire__entry__init(entry);
        page->attrs[i] = fixture_attr(10 + i, WIRE__KIND__KIND_FILE, 5);
        (void)snprintf(page->names[i], sizeof page->names[i], "n%zu", i);
        entry->name = wire_bytes(page->names[i], strlen(page->names[i]));
        entry->cookie = 16 + i;
        entry->attr = &page->attrs[i];
        page->list[i] = entry;
    }
    page->answer.entries = page->list;
    page->answer.n_entries = ENTRIES;
    page->answer.grant = grant;
    page->answer.end = end;
}

static void keep(uint64_t from, uint64_t grant, bool end)
{
    struct page page;
    page_init(&page, grant, end);
    assert_int_equal(listing_keep(&fixture.mount, root, from, &page.answer), ERR_OK);
}

static bool was_forgotten(uint64_t ino, uint64_t grant)
{
    for (size_t i = 0; i < fixture.forgotten_count; i++) {
        if (fixture.forgotten[i].ino == ino && fixture.forgotten[i].zxid == grant) {
            return true;
        }
    }
    return false;
}

static int setup(void **state)
{
    (void)state;
    mount_fixture_open(&fixture);
    root = fixture_held(&fixture, 1, WIRE__KIND__KIND_DIR, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mount_fixture_close(&fixture);
    return 0;
}

static void a_page_is_found_at_its_beginning_and_behind_each_entry(void **state)
{
    (void)state;
    size_t index = 99;
    keep(0, 7, false);
    assert_true(listing_find(root->listing, 0, &index));
    assert_int_equal(index, 0);
    assert_true(listing_find(root->listing, 16, &index));
    assert_int_equal(index, 1);
    assert_true(listing_find(root->listing, 17, &index));
    assert_int_equal(index, 2);
    assert_false(listing_find(root->listing, 5, &index));
    assert_false(listing_find(root->listing, 99, &index));
}

static void behind_the_last_entry_there_is_more_to_ask_for_unless_it_was_the_end(void **state)
{
    (void)state;
    size_t index = 99;
    keep(0, 7, false);
    assert_false(listing_find(root->listing, 18, &index));
    keep(0, 7, true);
    assert_true(listing_find(root->listing, 18, &index));
    assert_int_equal(index, ENTRIES);
}

static void an_empty_directory_is_a_page_too(void **state)
{
    (void)state;
    size_t index = 99;
    Wire__Answer answer = WIRE__ANSWER__INIT;
    answer.end = true;
    assert_int_equal(listing_keep(&fixture.mount, root, 0, &answer), ERR_OK);
    assert_true(listing_find(root->listing, 0, &index));
    assert_int_equal(index, 0);
}

static void a_dropped_page_gives_back_promises_that_nobody_else_needs(void **state)
{
    (void)state;
    (void)fixture_held(&fixture, 11, WIRE__KIND__KIND_FILE, 5);
    keep(0, 7, true);
    listing_drop(&fixture.mount, root);
    assert_null(root->listing);
    assert_true(was_forgotten(10, 7));
    assert_false(was_forgotten(11, 7)); /* The kernel holds it. */
    assert_true(was_forgotten(12, 7));
    listing_drop(&fixture.mount, root);
    assert_int_equal(fixture.forgotten_count, 2);
}

static void a_page_without_a_promise_gives_none_back(void **state)
{
    (void)state;
    keep(0, 0, true);
    listing_drop(&fixture.mount, root);
    assert_int_equal(fixture.forgotten_count, 0);
}

static void the_next_page_takes_the_place_of_the_one_before(void **state)
{
    (void)state;
    size_t index = 99;
    keep(0, 7, false);
    keep(18, 8, true);
    assert_true(was_forgotten(10, 7));
    assert_int_equal(root->listing->from, 18);
    assert_false(listing_find(root->listing, 0, &index));
}

static void a_child_that_gives_its_promise_back_takes_the_page_along(void **state)
{
    (void)state;
    const struct inode *child = fixture_held(&fixture, 11, WIRE__KIND__KIND_FILE, 5);
    keep(0, 7, true);
    inode_forget(&fixture.mount, inode_nodeid(&fixture.mount, child->ino, FACE_FILE), 1);
    assert_null(root->listing); /* It would be shown again, and no change of it be pushed. */
    assert_true(was_forgotten(11, 7));
}

static void another_node_of_the_directory_leaves_the_page_alone(void **state)
{
    (void)state;
    const struct inode *child = fixture_held(&fixture, 50, WIRE__KIND__KIND_FILE, 5);
    keep(0, 7, true);
    inode_forget(&fixture.mount, inode_nodeid(&fixture.mount, child->ino, FACE_FILE), 1);
    assert_non_null(root->listing);
}

static void an_entry_brings_a_known_node_up_to_date(void **state)
{
    (void)state;
    const struct inode *child = fixture_held(&fixture, 11, WIRE__KIND__KIND_FILE, 3);
    const struct inode *newer = fixture_held(&fixture, 12, WIRE__KIND__KIND_FILE, 9);
    keep(0, 7, true);
    assert_int_equal(child->attr.azxid, 5);
    assert_int_equal(newer->attr.azxid, 9);
}

static void an_entry_without_attributes_or_name_is_refused(void **state)
{
    (void)state;
    struct page page;
    page_init(&page, 7, true);
    page.entries[1].attr = NULL;
    assert_int_equal(listing_keep(&fixture.mount, root, 0, &page.answer), ERR_MALFORMED);
    page_init(&page, 7, true);
    page.entries[1].name.len = 0;
    assert_int_equal(listing_keep(&fixture.mount, root, 0, &page.answer), ERR_MALFORMED);
    assert_null(root->listing);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_page_is_found_at_its_beginning_and_behind_each_entry),
        TEST(behind_the_last_entry_there_is_more_to_ask_for_unless_it_was_the_end),
        TEST(an_empty_directory_is_a_page_too),
        TEST(a_dropped_page_gives_back_promises_that_nobody_else_needs),
        TEST(a_page_without_a_promise_gives_none_back),
        TEST(the_next_page_takes_the_place_of_the_one_before),
        TEST(a_child_that_gives_its_promise_back_takes_the_page_along),
        TEST(another_node_of_the_directory_leaves_the_page_alone),
        TEST(an_entry_brings_a_known_node_up_to_date),
        TEST(an_entry_without_attributes_or_name_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

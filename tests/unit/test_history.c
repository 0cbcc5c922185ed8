/* SPDX-License-Identifier: Apache-2.0
 *
 * server/history: which changes are remembered, under which paths, and what is lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/history.h"
#include "tests/lib/tree_fixture.h"

#define BYTES_PLENTY (1u << 20)

static struct history *new_history(struct tree_fixture *fixture, size_t changes_max)
{
    struct history *history =
        history_new(tree_applied_index(fixture->tree), changes_max, BYTES_PLENTY);
    assert_non_null(history);
    return history;
}

/* Takes what the newest command changed. */
static void take(struct history *history, struct tree_fixture *fixture)
{
    history_add(history, fixture->tree, fixture->result.changes, fixture->result.change_count);
}

/* The newest record, `back` before the last one. */
static const struct history_record *newest(const struct history *history, uint64_t back)
{
    struct history_position begin = history_begin(history);
    uint64_t first = history_seek(history, &begin);
    assert_true(history_count(history) > back);
    return history_at(history, first + history_count(history) - 1 - back);
}

static void expect(const struct history_record *record, enum change_kind kind, const char *path,
                   const char *to_path)
{
    assert_non_null(record);
    assert_int_equal(kind, record->kind);
    assert_int_equal(strlen(path), record->path_len);
    assert_memory_equal(path, record->bytes, record->path_len);
    assert_int_equal(strlen(to_path), record->to_path_len);
    assert_memory_equal(to_path, record->bytes + record->path_len, record->to_path_len);
}

static void every_kind_of_change_stands_under_its_path(void **state)
{
    struct tree_fixture *fixture = *state;
    struct history *history = new_history(fixture, 100);
    Wire__SetattrOp chmod = WIRE__SETATTR_OP__INIT;
    chmod.set_mode = true;
    chmod.mode = 0700;

    assert_int_equal(ERR_OK, fixture_create(fixture, "/d", NODE_DIR, ""));
    take(history, fixture);
    expect(newest(history, 0), CHANGE_CREATED, "/d", "");
    assert_int_equal(NODE_DIR, newest(history, 0)->node_kind);
    assert_int_equal(ERR_OK, fixture_create(fixture, "/d/f", NODE_FILE, "1"));
    take(history, fixture);
    expect(newest(history, 0), CHANGE_CREATED, "/d/f", "");
    assert_int_equal(ERR_OK, fixture_write(fixture, "/d/f", "22"));
    take(history, fixture);
    expect(newest(history, 0), CHANGE_DATA, "/d/f", "");
    assert_int_equal(1, newest(history, 0)->version);
    assert_int_equal(tree_applied_index(fixture->tree), newest(history, 0)->zxid);
    assert_int_equal(1, newest(history, 0)->number);
    assert_int_equal(ERR_OK, fixture_setattr(fixture, "/d/f", &chmod));
    take(history, fixture);
    expect(newest(history, 0), CHANGE_ATTR, "/d/f", "");
    assert_int_equal(ERR_OK, fixture_setattr(fixture, "/", &chmod));
    take(history, fixture);
    expect(newest(history, 0), CHANGE_ATTR, "/", "");
    assert_int_equal(ERR_OK, fixture_rename(fixture, "/d/f", "/g", FIXTURE_RENAME));
    take(history, fixture);
    expect(newest(history, 0), CHANGE_RENAMED, "/d/f", "/g");
    assert_int_equal(ERR_OK, fixture_rename(fixture, "/d", "/g", FIXTURE_EXCHANGE));
    take(history, fixture);
    expect(newest(history, 0), CHANGE_RENAMED, "/d", "/g");
    assert_true(newest(history, 0)->exchanged);
    assert_int_equal(ERR_OK, fixture_remove(fixture, "/g", WIRE__REMOVE_WHAT__REMOVE_ANY));
    take(history, fixture);
    expect(newest(history, 0), CHANGE_REMOVED, "/g", "");
    assert_int_equal(8, history_count(history));
    history_free(history);
}

static void names_below_a_moved_directory_stand_under_their_new_path(void **state)
{
    struct tree_fixture *fixture = *state;
    struct history *history = new_history(fixture, 100);

    assert_int_equal(ERR_OK, fixture_create(fixture, "/a", NODE_DIR, ""));
    assert_int_equal(ERR_OK, fixture_create(fixture, "/a/b", NODE_DIR, ""));
    assert_int_equal(ERR_OK, fixture_create(fixture, "/a/b/f", NODE_FILE, ""));
    take(history, fixture);
    assert_int_equal(ERR_OK, fixture_rename(fixture, "/a", "/z", FIXTURE_RENAME));
    take(history, fixture);
    assert_int_equal(ERR_OK, fixture_write(fixture, "/z/b/f", "1"));
    take(history, fixture);
    expect(newest(history, 0), CHANGE_DATA, "/z/b/f", "");
    assert_int_equal(ERR_OK, fixture_create(fixture, "/other", NODE_DIR, ""));
    take(history, fixture);
    assert_int_equal(ERR_OK, fixture_rename(fixture, "/z", "/other", FIXTURE_EXCHANGE));
    take(history, fixture);
    assert_int_equal(ERR_OK, fixture_write(fixture, "/other/b/f", "2"));
    take(history, fixture);
    expect(newest(history, 0), CHANGE_DATA, "/other/b/f", "");
    history_free(history);
}

/* The end of a session removes many nodes in one entry. */
static void nodes_of_an_ended_session_are_told_in_one_order(void **state)
{
    struct tree_fixture *fixture = *state;
    struct history *history = new_history(fixture, 100);
    uint64_t first = fixture->session;
    uint64_t epoch = fixture->epoch;
    Wire__CreateOp op = WIRE__CREATE_OP__INIT;

    assert_int_equal(ERR_OK, fixture_create(fixture, "/e", NODE_DIR, ""));
    op.kind = WIRE__KIND__KIND_FILE;
    op.ephemeral = true;
    assert_int_equal(ERR_OK, fixture_create_with(fixture, "/e/1", &op));
    assert_int_equal(ERR_OK, fixture_create_with(fixture, "/e/2", &op));
    fixture_open(fixture, 9);
    assert_int_equal(ERR_OK, fixture_close(fixture, first, epoch));
    take(history, fixture);
    assert_int_equal(2, history_count(history));
    expect(newest(history, 1), CHANGE_REMOVED, "/e/1", "");
    expect(newest(history, 0), CHANGE_REMOVED, "/e/2", "");
    assert_int_equal(1, newest(history, 1)->number);
    assert_int_equal(2, newest(history, 0)->number);
    assert_int_equal(newest(history, 0)->zxid, newest(history, 1)->zxid);
    /* A position in the middle of the entry finds the second one. */
    struct history_position middle = {.zxid = newest(history, 0)->zxid - 1, .skip = 1};
    expect(history_at(history, history_seek(history, &middle)), CHANGE_REMOVED, "/e/2", "");
    history_free(history);
}

/* As an entry would be that takes away a directory together with what is in it. */
static void a_directory_that_went_in_the_same_entry_has_its_path_from_the_changes(void **state)
{
    struct tree_fixture *fixture = *state;
    struct history *history = new_history(fixture, 100);
    assert_int_equal(ERR_OK, fixture_create(fixture, "/top", NODE_DIR, ""));
    uint64_t top = fixture->result.ino;
    struct tree_change changes[3] = {
        {.kind = CHANGE_REMOVED, .zxid = 50, .ino = 902, .parent = 901, .name = {1, "c"}},
        {.kind = CHANGE_REMOVED, .zxid = 50, .ino = 901, .parent = 900, .name = {1, "b"}},
        {.kind = CHANGE_REMOVED, .zxid = 50, .ino = 900, .parent = top, .name = {1, "a"}},
    };
    history_add(history, fixture->tree, changes, 3);
    expect(newest(history, 2), CHANGE_REMOVED, "/top/a/b/c", "");
    expect(newest(history, 1), CHANGE_REMOVED, "/top/a/b", "");
    expect(newest(history, 0), CHANGE_REMOVED, "/top/a", "");
    history_free(history);
}

static void the_oldest_go_when_there_are_too_many(void **state)
{
    struct tree_fixture *fixture = *state;
    struct history *history = new_history(fixture, 3);
    struct history_position start = history_begin(history);

    assert_int_equal(ERR_OK, fixture_create(fixture, "/f", NODE_FILE, ""));
    take(history, fixture);
    uint64_t first = fixture->result.zxid;
    for (size_t i = 0; i < 3; i++) {
        struct history_position begin = history_begin(history);
        assert_false(history_before(&start, &begin));
        assert_int_equal(ERR_OK, fixture_write(fixture, "/f", "x"));
        take(history, fixture);
    }
    assert_int_equal(3, history_count(history));
    struct history_position begin = history_begin(history);
    assert_true(history_before(&start, &begin));
    assert_int_equal(first - 1, begin.zxid);
    assert_int_equal(1, begin.skip);
    struct history_position behind_first = {.zxid = first};
    assert_false(history_before(&behind_first, &begin));
    assert_int_equal(first + 1, history_at(history, history_seek(history, &behind_first))->zxid);
    struct history_position far = {.zxid = UINT64_MAX, .skip = UINT32_MAX};
    assert_null(history_at(history, history_seek(history, &far)));
    history_free(history);
}

static void the_oldest_go_when_their_bytes_are_too_many(void **state)
{
    struct tree_fixture *fixture = *state;
    struct history *history = history_new(tree_applied_index(fixture->tree), 1000, 2000);
    char path[256];

    memset(path, 'n', sizeof path);
    path[0] = '/';
    path[200] = '\0';
    assert_int_equal(ERR_OK, fixture_create(fixture, path, NODE_FILE, ""));
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(ERR_OK, fixture_write(fixture, path, "x"));
        take(history, fixture);
        assert_true(history_bytes(history) <= 2000);
    }
    assert_in_range(history_count(history), 2, 10);
    history_free(history);
}

static void a_path_that_is_too_long_is_cut(void **state)
{
    struct tree_fixture *fixture = *state;
    struct history *history = new_history(fixture, 100);
    uint64_t ino = ROOT_INO;
    char name[NAME_BYTES_MAX + 1];

    memset(name, 'n', sizeof name);
    for (size_t i = 0; i < 20; i++) { /* 20 * 256 bytes, made by number: no path names them. */
        Wire__Address at = WIRE__ADDRESS__INIT;
        Wire__CreateOp create = WIRE__CREATE_OP__INIT;
        Wire__Op op = WIRE__OP__INIT;
        at.ino = ino;
        at.name = wire_bytes(name, NAME_BYTES_MAX);
        create.at = &at;
        create.kind = WIRE__KIND__KIND_DIR;
        create.mode = 0755;
        op.body_case = WIRE__OP__BODY_CREATE;
        op.create = &create;
        assert_int_equal(ERR_OK, fixture_apply(fixture, &op));
        take(history, fixture);
        ino = fixture->result.ino;
        size_t whole = (i + 1) * (NAME_BYTES_MAX + 1);
        assert_int_equal(whole < PATH_BYTES_MAX ? whole : PATH_BYTES_MAX,
                         newest(history, 0)->path_len);
        assert_int_equal(whole > PATH_BYTES_MAX, newest(history, 0)->truncated);
    }
    history_free(history);
}

/* Random moves of directories: each record has the path that the tree gives the node. */
static void paths_are_those_of_the_tree_after_random_moves(void **state)
{
    struct tree_fixture *fixture = *state;
    struct history *history = new_history(fixture, 1000);
    uint64_t seed = 7;
    struct buffer path = {0};
    uint64_t inos[40];
    char from[64];
    char to[64];

    for (size_t i = 0; i < 40; i++) {
        (void)snprintf(from, sizeof from, "/n%zu", i);
        assert_int_equal(ERR_OK, fixture_create(fixture, from, NODE_DIR, ""));
        inos[i] = fixture->result.ino;
    }
    for (size_t i = 0; i < 2000; i++) {
        uint64_t one = inos[fixture_random(&seed) % 40];
        uint64_t other = inos[fixture_random(&seed) % 40];
        Wire__Address at = WIRE__ADDRESS__INIT;
        Wire__Address to_at = WIRE__ADDRESS__INIT;
        Wire__RenameOp rename = WIRE__RENAME_OP__INIT;
        Wire__SetattrOp chmod = WIRE__SETATTR_OP__INIT;
        Wire__Op op = WIRE__OP__INIT;
        if (fixture_random(&seed) % 2 == 0) {
            assert_int_equal(ERR_OK, tree_path(fixture->tree, one, &path));
            at.path = wire_bytes(path.data, path.len);
            to_at.ino = other;
            (void)snprintf(to, sizeof to, "r%zu", i);
            to_at.name = wire_bytes(to, strlen(to));
            rename.from = &at;
            rename.to = &to_at;
            op.body_case = WIRE__OP__BODY_RENAME;
            op.rename = &rename;
        } else {
            at.ino = one;
            chmod.at = &at;
            chmod.set_mode = true;
            chmod.mode = (uint32_t)i & 0777u;
            op.body_case = WIRE__OP__BODY_SETATTR;
            op.setattr = &chmod;
        }
        bool done = fixture_apply(fixture, &op) == ERR_OK; /* LOOP is fine. */
        take(history, fixture);
        if (!done || fixture->result.change_count == 0) {
            continue;
        }
        const struct history_record *record = newest(history, 0);
        assert_int_equal(ERR_OK, tree_path(fixture->tree, one, &path));
        bool renamed = record->kind == CHANGE_RENAMED;
        assert_int_equal(path.len, renamed ? record->to_path_len : record->path_len);
        assert_memory_equal(path.data, record->bytes + (renamed ? record->path_len : 0), path.len);
    }
    assert_true(history_count(history) > 500);
    buffer_done(&path);
    history_free(history);
}

/* Without counting again, which goes by paths. */
static int give_up(void **state)
{
    fixture_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
        TEST(every_kind_of_change_stands_under_its_path),
        TEST(names_below_a_moved_directory_stand_under_their_new_path),
        TEST(nodes_of_an_ended_session_are_told_in_one_order),
        TEST(a_directory_that_went_in_the_same_entry_has_its_path_from_the_changes),
        TEST(the_oldest_go_when_there_are_too_many),
        TEST(the_oldest_go_when_their_bytes_are_too_many),
        cmocka_unit_test_setup_teardown(a_path_that_is_too_long_is_cut, fixture_setup, give_up),
        TEST(paths_are_those_of_the_tree_after_random_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

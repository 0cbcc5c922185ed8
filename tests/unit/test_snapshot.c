/* SPDX-License-Identifier: Apache-2.0
 *
 * Snapshots as files: a snapshot takes the place of the store wholly or not at all, wherever the
 * process ended in between.
 */
#include "server/snapshot.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char data[64];
};

static void path_of(const struct fixture *fixture, const char *name, char to[200])
{
    (void)snprintf(to, 200, "%s/%s", fixture->data, name);
}

static void write_file(const struct fixture *fixture, const char *name, const char *text)
{
    char path[200];
    FILE *file = NULL;

    path_of(fixture, name, path);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* The content of a file, or "" if it is not there. */
static const char *content(const struct fixture *fixture, const char *name)
{
    static char text[100];
    char path[200];
    FILE *file = NULL;

    memset(text, 0, sizeof(text));
    path_of(fixture, name, path);
    file = fopen(path, "r");
    if (file != NULL) {
        size_t len = fread(text, 1, sizeof(text) - 1, file);
        text[len] = '\0';
        (void)fclose(file);
    }
    return text;
}

static bool exists(const struct fixture *fixture, const char *name)
{
    char path[200];
    struct stat attr;

    path_of(fixture, name, path);
    return lstat(path, &attr) == 0;
}

static void make_folder(const struct fixture *fixture, const char *name)
{
    char path[200];

    path_of(fixture, name, path);
    assert_int_equal(mkdir(path, 0700), 0);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    assert_non_null(fixture);
    (void)snprintf(fixture->data, sizeof(fixture->data), "/tmp/quorumfs-snapshot-XXXXXX");
    assert_non_null(mkdtemp(fixture->data));
    make_folder(fixture, "store");
    write_file(fixture, "store/CURRENT", "old");
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    static const char *const folders[] = {"store", "store.old", "incoming", "checkpoint"};
    char path[200];

    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        path_of(fixture, folders[i], path);
        assert_int_equal(snapshot_remove_folder(path), ERR_OK);
    }
    path_of(fixture, "incoming.complete", path);
    (void)unlink(path);
    assert_int_equal(rmdir(fixture->data), 0);
    free(fixture);
    return 0;
}

/* A snapshot of two files, all taken. */
static void take(const struct fixture *fixture)
{
    struct snapshot_file files[] = {{"CURRENT", 3}, {"000007.sst", 5}};
    const struct snapshot snapshot = {
        .id = 9, .index = 100, .term = 3, .file_count = 2, .files = files};

    assert_int_equal(snapshot_take_begin(fixture->data), ERR_OK);
    write_file(fixture, "incoming/CURRENT", "new");
    write_file(fixture, "incoming/000007.sst", "bytes");
    assert_int_equal(snapshot_take_end(fixture->data, &snapshot), ERR_OK);
}

static void install(const struct fixture *fixture)
{
    struct buffer error = {0};
    bool installing = false;

    assert_int_equal(snapshot_install(fixture->data, &installing, &error), ERR_OK);
    buffer_done(&error);
}

static void a_complete_snapshot_takes_the_place_of_the_store(void **state)
{
    const struct fixture *fixture = *state;

    take(fixture);
    install(fixture);
    assert_string_equal(content(fixture, "store/CURRENT"), "new");
    assert_string_equal(content(fixture, "store.old/CURRENT"), "old");
    assert_int_equal(snapshot_install_end(fixture->data), ERR_OK);
    assert_false(exists(fixture, "store.old"));
    assert_false(exists(fixture, "incoming.complete"));
    assert_string_equal(content(fixture, "store/000007.sst"), "bytes");
}

static void one_that_was_cut_off_is_dropped(void **state)
{
    const struct fixture *fixture = *state;

    assert_int_equal(snapshot_take_begin(fixture->data), ERR_OK);
    write_file(fixture, "incoming/CURRENT", "ne");
    install(fixture);
    assert_string_equal(content(fixture, "store/CURRENT"), "old");
    assert_false(exists(fixture, "incoming"));
}

static void a_crash_between_the_two_renames_is_mended(void **state)
{
    const struct fixture *fixture = *state;
    char from[200];
    char to[200];

    take(fixture);
    path_of(fixture, "store", from);
    path_of(fixture, "store.old", to);
    assert_int_equal(rename(from, to), 0);
    install(fixture);
    assert_string_equal(content(fixture, "store/CURRENT"), "new");
    assert_string_equal(content(fixture, "store.old/CURRENT"), "old");
}

static void installing_again_after_a_crash_behind_the_renames_changes_nothing(void **state)
{
    const struct fixture *fixture = *state;

    take(fixture);
    install(fixture);
    install(fixture);
    assert_string_equal(content(fixture, "store/CURRENT"), "new");
    assert_string_equal(content(fixture, "store.old/CURRENT"), "old");
}

static void a_store_left_by_an_earlier_install_is_no_obstacle(void **state)
{
    const struct fixture *fixture = *state;

    make_folder(fixture, "store.old");
    write_file(fixture, "store.old/CURRENT", "older");
    take(fixture);
    install(fixture);
    assert_string_equal(content(fixture, "store/CURRENT"), "new");
    assert_string_equal(content(fixture, "store.old/CURRENT"), "old");
}

static void a_file_of_another_size_is_not_complete(void **state)
{
    const struct fixture *fixture = *state;
    struct snapshot_file files[] = {{"CURRENT", 4}};
    const struct snapshot snapshot = {.file_count = 1, .files = files};

    assert_int_equal(snapshot_take_begin(fixture->data), ERR_OK);
    write_file(fixture, "incoming/CURRENT", "new");
    assert_int_equal(snapshot_take_end(fixture->data, &snapshot), ERR_CORRUPT);
    assert_false(exists(fixture, "incoming.complete"));
}

static void beginning_anew_takes_back_the_mark_of_the_one_before(void **state)
{
    const struct fixture *fixture = *state;

    take(fixture);
    assert_int_equal(snapshot_take_begin(fixture->data), ERR_OK);
    assert_false(exists(fixture, "incoming.complete"));
    install(fixture);
    assert_string_equal(content(fixture, "store/CURRENT"), "old");
}

static void a_list_names_all_files_with_their_sizes(void **state)
{
    const struct fixture *fixture = *state;
    struct snapshot snapshot = {.id = 1};
    char path[200];

    write_file(fixture, "store/000001.sst", "12345");
    path_of(fixture, "store", path);
    assert_int_equal(snapshot_list(path, &snapshot), ERR_OK);
    assert_int_equal(snapshot.file_count, 2);
    for (size_t i = 0; i < snapshot.file_count; i++) {
        bool is_table = strcmp(snapshot.files[i].name, "000001.sst") == 0;
        assert_int_equal(snapshot.files[i].bytes, is_table ? 5 : 3);
    }
    snapshot_done(&snapshot);
    path_of(fixture, "nothing", path);
    assert_int_not_equal(snapshot_list(path, &snapshot), ERR_OK);
}

static void names_that_could_leave_the_folder_are_refused(void **state)
{
    static const char *const bad[] = {"",        ".",   "..", "../x", "a/b", "/etc/passwd",
                                      ".hidden", "a b", "a\n"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(snapshot_name_is_good(bad[i], strlen(bad[i])));
    }
    assert_false(snapshot_name_is_good("a\0b", 3));
    assert_true(snapshot_name_is_good("OPTIONS-000007", 14));
    assert_true(snapshot_name_is_good("000012.sst", 10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define SNAPSHOT_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        SNAPSHOT_TEST(a_complete_snapshot_takes_the_place_of_the_store),
        SNAPSHOT_TEST(one_that_was_cut_off_is_dropped),
        SNAPSHOT_TEST(a_crash_between_the_two_renames_is_mended),
        SNAPSHOT_TEST(installing_again_after_a_crash_behind_the_renames_changes_nothing),
        SNAPSHOT_TEST(a_store_left_by_an_earlier_install_is_no_obstacle),
        SNAPSHOT_TEST(a_file_of_another_size_is_not_complete),
        SNAPSHOT_TEST(beginning_anew_takes_back_the_mark_of_the_one_before),
        SNAPSHOT_TEST(a_list_names_all_files_with_their_sizes),
        SNAPSHOT_TEST(names_that_could_leave_the_folder_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

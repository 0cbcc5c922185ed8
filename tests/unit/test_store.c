/* SPDX-License-Identifier: Apache-2.0
 *
 * The store on a real folder: the three layers together, freezing, wakes, errors of opening.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/limits.h"
#include "tests/lib/store_fixture.h"

static int setup(void **state)
{
    struct store_fixture *fixture = malloc(sizeof(*fixture));
    if (fixture == NULL) {
        return -1;
    }
    store_fixture_init(fixture);
    store_fixture_open(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct store_fixture *fixture = *state;
    store_fixture_done(fixture);
    free(fixture);
    return 0;
}

struct names {
    char text[256];
    size_t left; /* how many more are taken */
};

static bool note(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                 size_t value_len)
{
    struct names *names = arg;
    size_t used = strlen(names->text);
    (void)snprintf(names->text + used, sizeof(names->text) - used, "%.*s=%.*s ", (int)key_len,
                   (const char *)key, (int)value_len, (const char *)value);
    names->left--;
    return names->left > 0;
}

static void expect_scan(struct store_fixture *fixture, const char *from, size_t prefix_len,
                        size_t count_max, const char *expected)
{
    struct names names = {.left = count_max};
    fixture->kv.scan(fixture->kv.context, from, strlen(from), prefix_len, note, &names);
    assert_string_equal(names.text, expected);
}

/* One row in each layer and in each pair of layers. */
static void fill_layers(struct store_fixture *fixture, uint64_t *now_ms)
{
    store_fixture_put(fixture, "a1", "disk");
    store_fixture_put(fixture, "a2", "disk");
    store_fixture_put(fixture, "a3", "disk");
    store_fixture_put(fixture, "a4", "disk");
    store_fixture_put(fixture, "b1", "disk");
    store_fixture_drain(fixture, now_ms);
    store_fixture_put(fixture, "a2", "frozen");
    store_fixture_remove(fixture, "a3");
    store_fixture_put(fixture, "a5", "frozen");
    store_fixture_put(fixture, "a6", "frozen");
    store_poll(fixture->store, *now_ms, 0);
    *now_ms += OVERLAY_FREEZE_MS;
    store_poll(fixture->store, *now_ms, 0); /* and it is not taken back */
    store_fixture_remove(fixture, "a4");
    store_fixture_put(fixture, "a5", "active");
    store_fixture_remove(fixture, "a6");
    store_fixture_put(fixture, "a7", "active");
}

static void expect_layers(struct store_fixture *fixture)
{
    assert_string_equal(store_fixture_get(fixture, "a1"), "disk");
    assert_string_equal(store_fixture_get(fixture, "a2"), "frozen");
    assert_null(store_fixture_get(fixture, "a3"));
    assert_null(store_fixture_get(fixture, "a4"));
    assert_string_equal(store_fixture_get(fixture, "a5"), "active");
    assert_null(store_fixture_get(fixture, "a6"));
    assert_string_equal(store_fixture_get(fixture, "a7"), "active");
    assert_string_equal(store_fixture_get(fixture, "b1"), "disk");
    assert_null(store_fixture_get(fixture, "a"));
    expect_scan(fixture, "a", 1, 99, "a1=disk a2=frozen a5=active a7=active ");
    expect_scan(fixture, "a2", 1, 2, "a2=frozen a5=active ");
    expect_scan(fixture, "a3", 0, 99, "a5=active a7=active b1=disk ");
    expect_scan(fixture, "", 0, 1, "a1=disk ");
    expect_scan(fixture, "c", 1, 99, "");
    expect_scan(fixture, "\xff\xff", 2, 99, "");
}

static void newer_layers_hide_the_rows_below(void **state)
{
    struct store_fixture *fixture = *state;
    uint64_t now_ms = 1000;
    fill_layers(fixture, &now_ms);
    expect_layers(fixture);
    store_fixture_wait(fixture); /* the frozen rows are in RocksDB too now */
    expect_layers(fixture);
    store_poll(fixture->store, now_ms, 0);
    expect_layers(fixture);
    store_fixture_drain(fixture, &now_ms);
    expect_layers(fixture);
}

static void rows_survive_close_and_open(void **state)
{
    struct store_fixture *fixture = *state;
    uint64_t now_ms = 1000;
    fill_layers(fixture, &now_ms);
    store_fixture_close(fixture);
    store_fixture_open(fixture);
    expect_layers(fixture);
    store_fixture_close(fixture);
    store_fixture_open(fixture);
    expect_layers(fixture);
}

static void large_and_empty_values_come_back_as_they_were(void **state)
{
    struct store_fixture *fixture = *state;
    uint8_t *large = malloc(FILE_BYTES_MAX);
    assert_non_null(large);
    for (size_t i = 0; i < FILE_BYTES_MAX; i++) {
        large[i] = (uint8_t)(i * 31 + i / 4096);
    }
    fixture->kv.put(fixture->kv.context, "large", 5, large, FILE_BYTES_MAX);
    fixture->kv.put(fixture->kv.context, "empty", 5, NULL, 0);
    for (unsigned round = 0; round < 2; round++) {
        assert_true(fixture->kv.get(fixture->kv.context, "large", 5, &fixture->value));
        assert_int_equal(fixture->value.len, FILE_BYTES_MAX);
        assert_memory_equal(fixture->value.data, large, FILE_BYTES_MAX);
        assert_true(fixture->kv.get(fixture->kv.context, "empty", 5, &fixture->value));
        assert_int_equal(fixture->value.len, 0);
        store_fixture_close(fixture);
        store_fixture_open(fixture);
    }
    free(large);
}

static void the_overlay_is_frozen_at_its_age_and_not_before(void **state)
{
    struct store_fixture *fixture = *state;
    struct store *store = fixture->store;
    assert_true(store_deadline_ms(store) == UINT64_MAX);
    store_poll(store, 5000, 0);
    assert_true(store_deadline_ms(store) == UINT64_MAX);
    store_fixture_put(fixture, "k", "v");
    store_poll(store, 7000, 0);
    assert_int_equal(store_deadline_ms(store), 7000 + OVERLAY_FREEZE_MS);
    store_fixture_put(fixture, "k", "w");
    store_poll(store, 7000 + OVERLAY_FREEZE_MS - 1, 0);
    assert_int_equal(store_deadline_ms(store), 7000 + OVERLAY_FREEZE_MS);
    store_poll(store, 7000 + OVERLAY_FREEZE_MS, 0);
    assert_true(store_deadline_ms(store) == UINT64_MAX); /* on its way */
    store_fixture_wait(fixture);
    store_poll(store, 7000 + OVERLAY_FREEZE_MS, 0);
    assert_true(store_deadline_ms(store) == UINT64_MAX); /* all is written */
    assert_string_equal(store_fixture_get(fixture, "k"), "w");
}

static void put_half(struct store_fixture *fixture, char first)
{
    char key[2] = {first, 'a'};
    uint8_t *value = calloc(1, FILE_BYTES_MAX);
    assert_non_null(value);
    for (unsigned i = 0; i < OVERLAY_BYTES_MAX / 2 / FILE_BYTES_MAX; i++) {
        fixture->kv.put(fixture->kv.context, key, sizeof(key), value, FILE_BYTES_MAX);
        key[1]++;
    }
    free(value);
}

static void a_full_store_says_so_until_it_is_written(void **state)
{
    struct store_fixture *fixture = *state;
    assert_false(store_is_full(fixture->store));
    put_half(fixture, 'a');
    assert_false(store_is_full(fixture->store)); /* it can be frozen */
    store_poll(fixture->store, 1, 0);            /* long before its age */
    assert_false(store_is_full(fixture->store));
    put_half(fixture, 'b');
    assert_true(store_is_full(fixture->store));
    store_fixture_wait(fixture);
    store_poll(fixture->store, 2, 0);
    assert_false(store_is_full(fixture->store));
    store_fixture_wait(fixture);
    assert_true(fixture->kv.get(fixture->kv.context, "aa", 2, &fixture->value));
    assert_true(fixture->kv.get(fixture->kv.context, "bb", 2, &fixture->value));
}

/* A large write that was staged puts all of a file within one entry. */
static void an_entry_larger_than_the_overlay_is_written_as_one(void **state)
{
    struct store_fixture *fixture = *state;
    for (int first = 'a'; first < 'i'; first++) {
        put_half(fixture, (char)first); /* of OVERLAY_BYTES_MAX: 128 MiB in all */
    }
    assert_false(store_is_full(fixture->store)); /* it can be frozen */
    store_poll(fixture->store, 1, 0);
    store_fixture_wait(fixture);
    store_poll(fixture->store, 2, 0);
    assert_false(store_is_full(fixture->store));
    assert_true(fixture->kv.get(fixture->kv.context, "aa", 2, &fixture->value));
    assert_true(fixture->kv.get(fixture->kv.context, "hb", 2, &fixture->value));
    assert_int_equal(fixture->value.len, FILE_BYTES_MAX);
}

/* Counts the files whose name ends so. */
static unsigned count_files(const struct store_fixture *fixture, const char *end)
{
    unsigned count = 0;
    const struct dirent *file = NULL;
    DIR *folder = opendir(fixture->folder);
    assert_non_null(folder);
    while ((file = readdir(folder)) != NULL) {
        size_t len = strlen(file->d_name);
        count += len > strlen(end) && strcmp(file->d_name + len - strlen(end), end) == 0;
    }
    (void)closedir(folder);
    return count;
}

static void a_growing_log_asks_for_a_flush(void **state)
{
    struct store_fixture *fixture = *state;
    uint64_t base = 123456789;
    store_fixture_put(fixture, "k", "v");
    store_poll(fixture->store, 1, base);
    store_poll(fixture->store, 2, base + STORE_FLUSH_LOG_BYTES - 1);
    assert_int_not_equal(store_deadline_ms(fixture->store), UINT64_MAX);
    store_poll(fixture->store, 3, base + STORE_FLUSH_LOG_BYTES);
    assert_true(store_deadline_ms(fixture->store) == UINT64_MAX);
    store_fixture_wait(fixture);
    store_poll(fixture->store, 4, base + 2 * STORE_FLUSH_LOG_BYTES); /* rows: none, flush all */
    store_fixture_wait(fixture);
    store_poll(fixture->store, 5, 0); /* a log that began anew asks for nothing */
    store_fixture_put(fixture, "l", "w");
    store_poll(fixture->store, 6, 1);
    assert_int_not_equal(store_deadline_ms(fixture->store), UINT64_MAX);
}

static void close_flushes_what_was_never_frozen(void **state)
{
    struct store_fixture *fixture = *state;
    assert_int_equal(count_files(fixture, ".sst"), 0);
    store_fixture_put(fixture, "k", "v");
    store_fixture_close(fixture);
    assert_int_equal(count_files(fixture, ".sst"), 1);
    store_fixture_open(fixture);
    assert_string_equal(store_fixture_get(fixture, "k"), "v");
}

static void the_disk_has_space(void **state)
{
    struct store_fixture *fixture = *state;
    uint64_t total = 0;
    uint64_t available = 0;
    store_disk_space(fixture->store, &total, &available);
    assert_true(total > 0);
    assert_true(available <= total);
}

/* ---- Errors of opening ---- */

static void expect_open_error(const char *folder, enum err expected, const char *sentence)
{
    struct buffer error = {.data = NULL};
    struct store *store = NULL;
    struct store_options options = {.folder = folder};
    assert_int_equal(store_open(&options, &store, &error), expected);
    assert_null(store);
    assert_non_null(error.data);
    assert_non_null(strstr((const char *)error.data, sentence));
    buffer_done(&error);
}

static void a_folder_in_use_is_refused(void **state)
{
    struct store_fixture *fixture = *state;
    char sentence[128];
    (void)snprintf(sentence, sizeof(sentence), "data folder %s is in use by another quorumd",
                   fixture->folder);
    expect_open_error(fixture->folder, ERR_BUSY, sentence);
    store_fixture_close(fixture);

    /* Another process has it: this program with the folder as its argument. */
    int ready[2];
    int leave[2];
    char byte = 0;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(leave), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(leave[1]);
        (void)dup2(leave[0], STDIN_FILENO);
        (void)dup2(ready[1], STDOUT_FILENO);
        (void)execl("/proc/self/exe", "test_store", fixture->folder, NULL);
        _exit(1);
    }
    (void)close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    expect_open_error(fixture->folder, ERR_BUSY, sentence);
    (void)close(leave[1]);
    (void)close(leave[0]);
    (void)close(ready[0]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    store_fixture_open(fixture);
}

/* The other process: has the folder open until its stdin ends. */
static int hold(const char *folder)
{
    struct store_fixture fixture;
    char byte = 0;
    store_fixture_init_at(&fixture, folder);
    store_fixture_open(&fixture);
    if (write(STDOUT_FILENO, "x", 1) != 1 || read(STDIN_FILENO, &byte, 1) != 0) {
        return 1;
    }
    store_fixture_close(&fixture);
    return 0;
}

static void a_folder_that_cannot_be_written_is_refused(void **state)
{
    struct store_fixture *fixture = *state;
    store_fixture_close(fixture);
    expect_open_error("/dev/null", ERR_IO, "cannot open the data folder /dev/null");
    expect_open_error("/dev/null/x", ERR_IO, "cannot make the data folder /dev/null/x");

    /* Root may write everywhere, so it tries as nobody; that may fail above the folder already. */
    struct buffer error = {.data = NULL};
    struct store *store = NULL;
    struct store_options options = {.folder = fixture->folder};
    bool is_root = geteuid() == 0;
    assert_int_equal(chmod(fixture->folder, 0555), 0);
    assert_int_equal(seteuid(is_root ? 65534 : geteuid()), 0);
    enum err err = store_open(&options, &store, &error);
    assert_int_equal(seteuid(is_root ? 0 : geteuid()), 0);
    assert_int_equal(err, ERR_IO);
    assert_null(store);
    assert_non_null(error.data);
    assert_non_null(strstr((const char *)error.data, "the data folder"));
    assert_non_null(strstr((const char *)error.data, strerror(EACCES)));
    buffer_done(&error);
    assert_int_equal(chmod(fixture->folder, 0700), 0);
    store_fixture_open(fixture);
}

static void a_missing_folder_is_made(void **state)
{
    struct store_fixture *fixture = *state;
    struct buffer error = {.data = NULL};
    struct store *store = NULL;
    char folder[96];
    struct store_options options = {.folder = folder};
    (void)snprintf(folder, sizeof(folder), "%s/deeper", fixture->folder);
    assert_int_equal(store_open(&options, &store, &error), ERR_OK);
    store_close(store);
    struct stat folder_stat;
    assert_int_equal(stat(folder, &folder_stat), 0);
    assert_int_equal(folder_stat.st_mode & 0777, 0700);
    store_fixture_remove_folder(folder);
}

static void damaged_folders_are_refused(void **state)
{
    struct store_fixture *fixture = *state;
    char path[96];
    char kept[96];
    store_fixture_put(fixture, "k", "v");
    store_fixture_close(fixture);
    (void)snprintf(path, sizeof(path), "%s/CURRENT", fixture->folder);
    (void)snprintf(kept, sizeof(kept), "%s/kept", fixture->folder);
    assert_int_equal(rename(path, kept), 0);
    expect_open_error(fixture->folder, ERR_CORRUPT, "it has tables but no CURRENT");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs("nonsense\n", file) >= 0);
    assert_int_equal(fclose(file), 0);
    expect_open_error(fixture->folder, ERR_CORRUPT, "cannot open the data folder");
    assert_int_equal(rename(kept, path), 0);
    store_fixture_open(fixture);
    assert_string_equal(store_fixture_get(fixture, "k"), "v");
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        return hold(argv[1]);
    }
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(newer_layers_hide_the_rows_below),
        STORE_TEST(rows_survive_close_and_open),
        STORE_TEST(large_and_empty_values_come_back_as_they_were),
        STORE_TEST(the_overlay_is_frozen_at_its_age_and_not_before),
        STORE_TEST(a_full_store_says_so_until_it_is_written),
        STORE_TEST(an_entry_larger_than_the_overlay_is_written_as_one),
        STORE_TEST(a_growing_log_asks_for_a_flush),
        STORE_TEST(close_flushes_what_was_never_frozen),
        STORE_TEST(the_disk_has_space),
        STORE_TEST(a_folder_in_use_is_refused),
        STORE_TEST(a_folder_that_cannot_be_written_is_refused),
        STORE_TEST(a_missing_folder_is_made),
        STORE_TEST(damaged_folders_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

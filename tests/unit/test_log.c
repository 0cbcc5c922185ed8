/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of server/log: appending, reading, truncating, segments, and the {term, vote} record,
 * without damage. Damage is in test_log_recover.c, faults at random in test_log_random.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/limits.h"
#include "tests/lib/log_fixture.h"

#define SEGMENT_BYTES (64u * KIB)

static struct log_fixture fixture;

static int setup(void **state)
{
    (void)state;
    log_fixture_init(&fixture, /* seed */ 1, SEGMENT_BYTES);
    log_fixture_open(&fixture);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_fixture_done(&fixture);
    return 0;
}

static void reopen(void)
{
    log_fixture_close(&fixture);
    sim_disk_lose_unsynced(fixture.disk);
    log_fixture_open(&fixture);
}

static size_t segment_count_of_disk(void)
{
    size_t count = 0;

    for (uint64_t index = 1; index < 10000; index++) {
        char path[64];
        uint64_t len = 0;
        (void)snprintf(path, sizeof(path), "%s/%020zu.log", LOG_FIXTURE_FOLDER, (size_t)index);
        count += sim_disk_bytes(fixture.disk, path, &len) != NULL;
    }
    return count;
}

static void new_log_is_empty(void **state)
{
    struct raft_entry *entry = NULL;
    size_t count = 7;
    uint64_t term = 0;

    (void)state;
    assert_int_equal(fixture.state.term, 0);
    assert_int_equal(fixture.state.vote, 0);
    assert_int_equal(fixture.state.first_index, 1);
    assert_int_equal(fixture.state.last_index, 0);
    assert_int_equal(log_read(fixture.log, 1, 100, 1, &entry, &count), ERR_NO_NODE);
    assert_int_equal(count, 0);
    assert_int_equal(log_term(fixture.log, 0, &term), ERR_OK);
    assert_int_equal(term, 0);
    assert_int_equal(log_term(fixture.log, 1, &term), ERR_NO_NODE);
    reopen();
    assert_int_equal(fixture.state.first_index, 1);
    assert_int_equal(fixture.state.last_index, 0);
}

static void appended_entries_survive_power_loss(void **state)
{
    (void)state;
    log_fixture_append(&fixture, 1, 3, 1, 100);
    log_fixture_append(&fixture, 4, 1, 2, 0);
    log_fixture_append(&fixture, 5, 2, 2, 5000);
    reopen();
    assert_int_equal(fixture.state.first_index, 1);
    assert_int_equal(fixture.state.last_index, 6);
    assert_int_equal(fixture.state.last_term, 2);
    assert_int_equal(fixture.state.last_time_ns, 6000000000);
    assert_int_equal(fixture.state.torn_bytes, 0);
    for (uint64_t i = 1; i <= 3; i++) {
        log_fixture_check(&fixture, i, 1, 100);
    }
    log_fixture_check(&fixture, 4, 2, 0);
    log_fixture_check(&fixture, 5, 2, 5000);
    log_fixture_check(&fixture, 6, 2, 5000);
}

static void entries_that_fit_one_group_cost_one_sync(void **state)
{
    uint64_t syncs = sim_disk_sync_count(fixture.disk);

    (void)state;
    log_fixture_append(&fixture, 1, 100, 1, 100);
    assert_int_equal(sim_disk_sync_count(fixture.disk), syncs + 1);
}

static void entries_beyond_a_group_are_written_as_several(void **state)
{
    uint64_t syncs = sim_disk_sync_count(fixture.disk);

    (void)state;
    /* Three of them fill a group, four do not fit. */
    log_fixture_append(&fixture, 1, 7, 1, FILE_BYTES_MAX);
    assert_true(sim_disk_sync_count(fixture.disk) >= syncs + 3);
    reopen();
    assert_int_equal(fixture.state.last_index, 7);
    for (uint64_t i = 1; i <= 7; i++) {
        log_fixture_check(&fixture, i, 1, FILE_BYTES_MAX);
    }
}

static void read_stops_at_each_of_its_limits(void **state)
{
    struct raft_entry *out[64];
    size_t count = 0;

    (void)state;
    log_fixture_append(&fixture, 1, 10, 1, 100);
    log_fixture_append(&fixture, 11, 10, 1, 100);
    assert_int_equal(log_read(fixture.log, 8, 1000000, 64, out, &count), ERR_OK);
    assert_int_equal(count, 13);
    for (size_t i = 0; i < count; i++) {
        log_fixture_check_entry(out[i], 8 + i, 1, 100);
        raft_entry_unref(out[i]);
    }
    assert_int_equal(log_read(fixture.log, 8, 1000000, 5, out, &count), ERR_OK);
    assert_int_equal(count, 5);
    for (size_t i = 0; i < count; i++) {
        raft_entry_unref(out[i]);
    }
    assert_int_equal(log_read(fixture.log, 8, 350, 64, out, &count), ERR_OK);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < count; i++) {
        raft_entry_unref(out[i]);
    }
    assert_int_equal(log_read(fixture.log, 21, 350, 64, out, &count), ERR_NO_NODE);
    assert_int_equal(log_read(fixture.log, 0, 350, 64, out, &count), ERR_NO_NODE);
}

static void entries_lie_in_many_segments_and_are_found(void **state)
{
    struct raft_entry *out[512];
    size_t count = 0;

    (void)state;
    for (uint64_t i = 1; i <= 500; i++) {
        log_fixture_append(&fixture, i, 1, 1 + i / 100, 1000);
    }
    assert_true(segment_count_of_disk() >= 8);
    reopen();
    assert_int_equal(fixture.state.last_index, 500);
    for (uint64_t i = 500; i >= 1; i--) {
        log_fixture_check(&fixture, i, 1 + i / 100, 1000);
    }
    assert_int_equal(log_read(fixture.log, 1, SIZE_MAX, 512, out, &count), ERR_OK);
    assert_int_equal(count, 500);
    for (size_t i = 0; i < count; i++) {
        log_fixture_check_entry(out[i], i + 1, 1 + (i + 1) / 100, 1000);
        raft_entry_unref(out[i]);
    }
}

static void truncated_entries_are_gone_and_can_be_rewritten(void **state)
{
    uint64_t term = 0;

    (void)state;
    log_fixture_append(&fixture, 1, 10, 1, 50);
    assert_int_equal(log_truncate(fixture.log, 6), ERR_OK);
    assert_int_equal(log_term(fixture.log, 6, &term), ERR_NO_NODE);
    log_fixture_check(&fixture, 5, 1, 50);
    reopen();
    assert_int_equal(fixture.state.last_index, 5);
    assert_int_equal(fixture.state.last_term, 1);
    assert_int_equal(fixture.state.last_time_ns, 5000000000);
    log_fixture_append(&fixture, 6, 3, 2, 70);
    reopen();
    assert_int_equal(fixture.state.last_index, 8);
    log_fixture_check(&fixture, 5, 1, 50);
    log_fixture_check(&fixture, 6, 2, 70);
    log_fixture_check(&fixture, 8, 2, 70);
}

static void truncation_behind_the_end_does_nothing(void **state)
{
    uint64_t syncs = 0;

    (void)state;
    log_fixture_append(&fixture, 1, 3, 1, 50);
    syncs = sim_disk_sync_count(fixture.disk);
    assert_int_equal(log_truncate(fixture.log, 4), ERR_OK);
    assert_int_equal(sim_disk_sync_count(fixture.disk), syncs);
    log_fixture_append(&fixture, 4, 1, 1, 50);
}

static void truncation_of_everything_leaves_an_empty_log(void **state)
{
    (void)state;
    log_fixture_append(&fixture, 1, 3, 1, 50);
    assert_int_equal(log_truncate(fixture.log, 1), ERR_OK);
    reopen();
    assert_int_equal(fixture.state.first_index, 1);
    assert_int_equal(fixture.state.last_index, 0);
    assert_int_equal(fixture.state.last_term, 0);
    log_fixture_append(&fixture, 1, 2, 4, 60);
    log_fixture_check(&fixture, 1, 4, 60);
    log_fixture_check(&fixture, 2, 4, 60);
}

static void truncation_removes_whole_segments(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 300; i++) {
        log_fixture_append(&fixture, i, 1, 1, 1000);
    }
    assert_true(segment_count_of_disk() >= 4);
    /* A reader that stands in a segment which is about to go. */
    log_fixture_check(&fixture, 300, 1, 1000);
    assert_int_equal(log_truncate(fixture.log, 20), ERR_OK);
    assert_int_equal(segment_count_of_disk(), 1);
    log_fixture_check(&fixture, 19, 1, 1000);
    for (uint64_t i = 20; i <= 200; i++) {
        log_fixture_append(&fixture, i, 1, 3, 900);
    }
    log_fixture_check(&fixture, 200, 3, 900);
    reopen();
    assert_int_equal(fixture.state.last_index, 200);
    for (uint64_t i = 1; i <= 200; i++) {
        log_fixture_check(&fixture, i, i < 20 ? 1 : 3, i < 20 ? 1000 : 900);
    }
}

static void truncations_on_top_of_each_other_show_the_newest_entries(void **state)
{
    uint64_t term_of[21] = {0};
    uint64_t last = 0;

    (void)state;
    for (uint64_t term = 1; term <= 40; term++) {
        uint64_t from = 1 + term * 7 % 11;
        from = from > last + 1 ? last + 1 : from;
        assert_int_equal(log_truncate(fixture.log, from), ERR_OK);
        log_fixture_append(&fixture, from, 1 + term % 5, term, 40);
        log_fixture_append(&fixture, from + 1 + term % 5, 2, term, 40);
        last = from + 2 + term % 5;
        for (uint64_t i = from; i <= last; i++) {
            term_of[i] = term;
        }
        for (uint64_t i = 1; i <= last; i++) {
            log_fixture_check(&fixture, i, term_of[i], 40);
        }
    }
    reopen();
    assert_int_equal(fixture.state.last_index, last);
    for (uint64_t i = 1; i <= last; i++) {
        log_fixture_check(&fixture, i, term_of[i], 40);
    }
}

static void term_and_vote_survive_power_loss(void **state)
{
    (void)state;
    for (uint64_t term = 1; term <= 5; term++) {
        assert_int_equal(log_save_term(fixture.log, term, term % 3), ERR_OK);
        if (term != 3) {
            reopen();
            assert_int_equal(fixture.state.term, term);
            assert_int_equal(fixture.state.vote, term % 3);
        }
    }
}

static void failed_log_writes_nothing_more(void **state)
{
    (void)state;
    log_fixture_append(&fixture, 1, 1, 1, 10);
    sim_disk_fail_at(fixture.disk, 2, /* EIO */ 5);
    assert_int_equal(log_fixture_try_append(fixture.log, 2, 1, 1, 10), ERR_IO);
    assert_int_equal(log_save_term(fixture.log, 9, 9), ERR_IO);
    assert_int_equal(log_truncate(fixture.log, 1), ERR_IO);
    reopen();
    assert_int_equal(fixture.state.term, 0);
    assert_true(fixture.state.last_index == 1 || fixture.state.last_index == 2);
}

static void full_disk_is_told_as_such(void **state)
{
    uint64_t index = 1;
    enum err err = ERR_OK;

    (void)state;
    sim_disk_set_space(fixture.disk, 4ul * SEGMENT_BYTES);
    while (err == ERR_OK && index < 1000) {
        err = log_fixture_try_append(fixture.log, index, 1, 1, 1000);
        index += err == ERR_OK;
    }
    assert_int_equal(err, ERR_NO_SPACE);
    assert_true(index > 2 * SEGMENT_BYTES / 1536);
    sim_disk_set_space(fixture.disk, 0);
    reopen();
    assert_int_equal(fixture.state.last_index, index - 1);
}

static void system_calls_of_linux_serve_the_log(void **state)
{
    char folder[] = "/tmp/test_log.XXXXXX";
    struct log_options options = {.io = &log_io_system, .segment_bytes = SEGMENT_BYTES};
    struct log *log = NULL;
    struct log_state found;
    static const char *const names[] = {"reserve", "vote", "00000000000000000001.log",
                                        "00000000000000000030.log"};
    char path[64];

    (void)state;
    assert_non_null(mkdtemp(folder));
    options.folder = folder;
    assert_int_equal(log_open(&options, &log, &found, NULL), ERR_OK);
    for (uint64_t i = 1; i <= 200; i++) {
        assert_int_equal(log_fixture_try_append(log, i, 1, 1, 1000), ERR_OK);
    }
    assert_int_equal(log_save_term(log, 3, 2), ERR_OK);
    /* The first segment is full, so that index 30 begins another. */
    assert_int_equal(log_truncate(log, 30), ERR_OK);
    assert_int_equal(log_fixture_try_append(log, 30, 2, 3, 1000), ERR_OK);
    log_close(log);
    assert_int_equal(log_open(&options, &log, &found, NULL), ERR_OK);
    assert_int_equal(found.term, 3);
    assert_int_equal(found.vote, 2);
    assert_int_equal(found.last_index, 31);
    assert_int_equal(found.last_term, 3);
    log_close(log);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        assert_int_equal(unlink(path), 0);
    }
    /* Nothing else was left there. */
    assert_int_equal(rmdir(folder), 0);
}

static void missing_folder_is_an_error_with_its_name(void **state)
{
    struct log_options options = {.io = &log_io_system, .folder = "/nonexistent/log"};
    struct log *log = NULL;
    struct log_state found;
    struct buffer error = {0};

    (void)state;
    assert_int_equal(log_open(&options, &log, &found, &error), ERR_IO);
    assert_null(log);
    assert_non_null(strstr((const char *)error.data, "/nonexistent/log"));
    assert_non_null(strstr((const char *)error.data, "No such file"));
    buffer_done(&error);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(new_log_is_empty),
        TEST(appended_entries_survive_power_loss),
        TEST(entries_that_fit_one_group_cost_one_sync),
        TEST(entries_beyond_a_group_are_written_as_several),
        TEST(read_stops_at_each_of_its_limits),
        TEST(entries_lie_in_many_segments_and_are_found),
        TEST(truncated_entries_are_gone_and_can_be_rewritten),
        TEST(truncation_behind_the_end_does_nothing),
        TEST(truncation_of_everything_leaves_an_empty_log),
        TEST(truncation_removes_whole_segments),
        TEST(truncations_on_top_of_each_other_show_the_newest_entries),
        TEST(term_and_vote_survive_power_loss),
        TEST(failed_log_writes_nothing_more),
        TEST(full_disk_is_told_as_such),
        cmocka_unit_test(system_calls_of_linux_serve_the_log),
        cmocka_unit_test(missing_folder_is_an_error_with_its_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

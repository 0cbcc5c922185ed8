/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of what a start makes of damaged files: what may be torn is dropped, what was durable once
 * is never dropped in silence (CONSENSUS 6, 9).
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"
#include "tests/lib/log_fixture.h"

#define SEGMENT_BYTES (32u * KIB)
#define LEN           600u                      /* of an entry, so that each takes */
#define GROUP_BYTES   (2u * LOG_FIXTURE_SECTOR) /* this in the file */

static struct log_fixture fixture;

static int setup(void **state)
{
    (void)state;
    log_fixture_init(&fixture, /* seed */ 2, SEGMENT_BYTES);
    log_fixture_open(&fixture);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_fixture_done(&fixture);
    return 0;
}

/* Groups of one entry each, from index 1, all of one term. */
static void append_groups(size_t count)
{
    for (uint64_t i = 1; i <= count; i++) {
        log_fixture_append(&fixture, i, 1, 1, LEN);
    }
}

static uint64_t offset_of(uint64_t index)
{
    return LOG_FIXTURE_FIRST_OFFSET + (index - 1) * GROUP_BYTES;
}

/* The error must be one sentence with a file. */
static void check_refused(struct log_fixture *at)
{
    assert_int_equal(log_fixture_try_open(at), ERR_CORRUPT);
    assert_true(at->error.len > 0);
    assert_non_null(strstr((const char *)at->error.data, LOG_FIXTURE_FOLDER "/"));
}

/* The log must hold the entries 1..last, and go on behind them. */
static void check_recovered(struct log_fixture *at, uint64_t last)
{
    log_fixture_open(at);
    assert_int_equal(at->state.last_index, last);
    for (uint64_t i = 1; i <= last; i++) {
        log_fixture_check(at, i, 1, LEN);
    }
    log_fixture_append(at, last + 1, 1, 1, LEN);
    log_fixture_close(at);
    sim_disk_lose_unsynced(at->disk);
    log_fixture_open(at);
    assert_int_equal(at->state.last_index, last + 1);
    assert_int_equal(at->state.torn_bytes, 0);
    log_fixture_check(at, last + 1, 1, LEN);
}

static void cut_at_every_byte_of_the_last_group_leaves_the_groups_before(void **state)
{
    (void)state;
    append_groups(4);
    log_fixture_close(&fixture);
    for (uint64_t len = offset_of(4); len < offset_of(5); len++) {
        struct log_fixture copy;
        log_fixture_copy(&copy, &fixture);
        sim_disk_cut(copy.disk, LOG_FIXTURE_SEGMENT, len);
        check_recovered(&copy, 3);
        log_fixture_done(&copy);
    }
}

static void zeros_from_every_byte_of_the_last_group_leave_the_groups_before(void **state)
{
    (void)state;
    append_groups(4);
    log_fixture_close(&fixture);
    /* The last byte of the data; behind it is padding. */
    for (uint64_t from = offset_of(4); from < offset_of(4) + 48 + 32 + LEN; from++) {
        struct log_fixture copy;
        uint64_t len = 0;
        log_fixture_copy(&copy, &fixture);
        const uint8_t *bytes = sim_disk_bytes(copy.disk, LOG_FIXTURE_SEGMENT, &len);
        for (uint64_t at = from; at < offset_of(5); at++) {
            for (unsigned bit = 0; bit < 8; bit++) {
                if ((bytes[at] >> bit & 1u) != 0) {
                    sim_disk_flip(copy.disk, LOG_FIXTURE_SEGMENT, at, bit);
                }
            }
        }
        check_recovered(&copy, 3);
        log_fixture_done(&copy);
    }
}

static void changed_bit_in_the_last_group_is_taken_for_a_torn_write(void **state)
{
    (void)state;
    append_groups(4);
    log_fixture_close(&fixture);
    for (uint64_t at = offset_of(4); at < offset_of(5); at++) {
        struct log_fixture copy;
        log_fixture_copy(&copy, &fixture);
        sim_disk_flip(copy.disk, LOG_FIXTURE_SEGMENT, at, (unsigned)(at % 8));
        log_fixture_open(&copy);
        assert_in_range(copy.state.torn_bytes, LOG_FIXTURE_SECTOR, GROUP_BYTES);
        log_fixture_close(&copy);
        check_recovered(&copy, 3);
        log_fixture_done(&copy);
    }
}

static void changed_bit_at_any_byte_before_the_last_group_is_refused(void **state)
{
    (void)state;
    append_groups(4);
    log_fixture_close(&fixture);
    for (uint64_t at = 0; at < offset_of(4); at++) {
        struct log_fixture copy;
        log_fixture_copy(&copy, &fixture);
        sim_disk_flip(copy.disk, LOG_FIXTURE_SEGMENT, at, (unsigned)(at % 8));
        check_refused(&copy);
        /* And again: a refused start changes nothing. */
        check_refused(&copy);
        log_fixture_done(&copy);
    }
}

static void changed_bit_in_the_last_group_of_an_older_segment_is_refused(void **state)
{
    uint64_t len = 0;
    uint64_t last = (SEGMENT_BYTES - LOG_FIXTURE_FIRST_OFFSET) / GROUP_BYTES;
    char second[64];

    (void)state;
    append_groups(last + 3);
    log_fixture_close(&fixture);
    (void)snprintf(second, sizeof(second), "%s/%020" PRIu64 ".log", LOG_FIXTURE_FOLDER, last + 1);
    assert_non_null(sim_disk_bytes(fixture.disk, second, &len));
    for (uint64_t at = offset_of(last); at < offset_of(last + 1); at += 11) {
        struct log_fixture copy;
        log_fixture_copy(&copy, &fixture);
        sim_disk_flip(copy.disk, LOG_FIXTURE_SEGMENT, at, (unsigned)(at % 8));
        check_refused(&copy);
        log_fixture_done(&copy);
    }
}

/* Makes three segments and returns the first index of the second and third. */
static void three_segments(uint64_t *second, uint64_t *third)
{
    uint64_t per_segment = (SEGMENT_BYTES - LOG_FIXTURE_FIRST_OFFSET) / GROUP_BYTES;

    append_groups(2 * per_segment + 2);
    *second = per_segment + 1;
    *third = 2 * per_segment + 1;
}

static void missing_segment_between_others_is_refused(void **state)
{
    const struct log_io *io = sim_disk_io(fixture.disk);
    uint64_t second = 0;
    uint64_t third = 0;
    char path[64];

    (void)state;
    three_segments(&second, &third);
    log_fixture_close(&fixture);
    (void)snprintf(path, sizeof(path), "%s/%020" PRIu64 ".log", LOG_FIXTURE_FOLDER, second);
    assert_int_equal(io->unlink(io->context, path), 0);
    check_refused(&fixture);
    assert_non_null(strstr((const char *)fixture.error.data, "hole"));
}

static void segment_under_the_name_of_another_is_refused(void **state)
{
    const struct log_io *io = sim_disk_io(fixture.disk);

    (void)state;
    append_groups(2);
    log_fixture_close(&fixture);
    assert_int_equal(io->rename(io->context, LOG_FIXTURE_SEGMENT, "/log/00000000000000000007.log"),
                     0);
    check_refused(&fixture);
}

static void copy_of_a_group_within_a_torn_group_is_no_group(void **state)
{
    uint8_t data[4 * LOG_FIXTURE_SECTOR];
    struct raft_entry *entry = NULL;
    const uint8_t *bytes = NULL;
    uint64_t len = 0;

    (void)state;
    append_groups(2);
    /* So that the copy begins on a sector: behind the heads of group and entry. */
    memset(data, 1, sizeof(data));
    bytes = sim_disk_bytes(fixture.disk, LOG_FIXTURE_SEGMENT, &len);
    memcpy(data + LOG_FIXTURE_SECTOR - 48 - 32, bytes + offset_of(2), GROUP_BYTES);
    entry = raft_entry_new(RAFT_ENTRY_COMMAND, data, sizeof(data));
    assert_non_null(entry);
    entry->index = 3;
    entry->term = 1;
    assert_int_equal(log_append(fixture.log, &entry, 1), ERR_OK);
    raft_entry_unref(entry);
    log_fixture_close(&fixture);
    sim_disk_flip(fixture.disk, LOG_FIXTURE_SEGMENT, offset_of(3) + 8, 0);
    check_recovered(&fixture, 2);
}

static void torn_truncation_leaves_the_entries(void **state)
{
    (void)state;
    append_groups(4);
    assert_int_equal(log_truncate(fixture.log, 3), ERR_OK);
    log_fixture_close(&fixture);
    sim_disk_flip(fixture.disk, LOG_FIXTURE_SEGMENT, offset_of(5) + 30, 0);
    check_recovered(&fixture, 4);
}

static void changed_truncation_with_a_group_behind_it_is_refused(void **state)
{
    (void)state;
    append_groups(4);
    assert_int_equal(log_truncate(fixture.log, 3), ERR_OK);
    log_fixture_append(&fixture, 3, 1, 1, LEN);
    log_fixture_close(&fixture);
    sim_disk_flip(fixture.disk, LOG_FIXTURE_SEGMENT, offset_of(5) + 30, 0);
    check_refused(&fixture);
}

/* What a failed sync loses is drawn at random: by the seed of the disk. */
#define SEEDS 32u

static void entries_shown_after_a_failed_sync_survive_power_loss(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        log_fixture_done(&fixture);
        log_fixture_init(&fixture, seed, SEGMENT_BYTES);
        log_fixture_open(&fixture);
        append_groups(2);
        /* The sync of the group fails: its pages stay readable and are never written. */
        sim_disk_fail_at(fixture.disk, 2, /* EIO */ 5);
        assert_int_equal(log_fixture_try_append(fixture.log, 3, 1, 1, LEN), ERR_IO);
        log_fixture_close(&fixture);
        log_fixture_open(&fixture);
        /* The restarted process sees it, and may vote and acknowledge by it. */
        assert_int_equal(fixture.state.last_index, 3);
        log_fixture_close(&fixture);
        sim_disk_lose_unsynced(fixture.disk);
        check_recovered(&fixture, 3);
    }
}

static void vote_shown_after_a_failed_sync_survives_power_loss(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        log_fixture_done(&fixture);
        log_fixture_init(&fixture, seed, SEGMENT_BYTES);
        log_fixture_open(&fixture);
        assert_int_equal(log_save_term(fixture.log, 4, 1), ERR_OK);
        sim_disk_fail_at(fixture.disk, 2, /* EIO */ 5);
        assert_int_equal(log_save_term(fixture.log, 4, 2), ERR_IO);
        log_fixture_close(&fixture);
        log_fixture_open(&fixture);
        assert_int_equal(fixture.state.vote, 2);
        log_fixture_close(&fixture);
        sim_disk_lose_unsynced(fixture.disk);
        log_fixture_open(&fixture);
        assert_int_equal(fixture.state.vote, 2);
    }
}

static void vote_record_torn_at_any_byte_is_the_old_or_the_new_one(void **state)
{
    uint8_t before[2 * LOG_FIXTURE_SECTOR];
    uint8_t after[2 * LOG_FIXTURE_SECTOR];
    uint64_t len = 0;

    (void)state;
    assert_int_equal(log_save_term(fixture.log, 7, 1), ERR_OK);
    memcpy(before, sim_disk_bytes(fixture.disk, "/log/vote", &len), sizeof(before));
    assert_int_equal(len, sizeof(before));
    assert_int_equal(log_save_term(fixture.log, 8, 2), ERR_OK);
    memcpy(after, sim_disk_bytes(fixture.disk, "/log/vote", &len), sizeof(after));
    log_fixture_close(&fixture);
    for (size_t cut = 0; cut <= sizeof(before); cut++) {
        for (int reversed = 0; reversed < 2; reversed++) {
            struct log_fixture copy;
            log_fixture_copy(&copy, &fixture);
            const struct log_io *io = sim_disk_io(copy.disk);
            int fd = io->open(io->context, "/log/vote", /* O_RDWR */ 2, 0);
            uint8_t *front = reversed != 0 ? before : after;
            uint8_t *back = reversed != 0 ? after : before;
            assert_int_equal(io->pwrite(io->context, fd, front, cut, 0), cut);
            assert_int_equal(
                io->pwrite(io->context, fd, back + cut, sizeof(before) - cut, (off_t)cut),
                sizeof(before) - cut);
            assert_int_equal(io->close(io->context, fd), 0);
            log_fixture_open(&copy);
            assert_in_range(copy.state.term, 7, 8);
            assert_int_equal(copy.state.vote, copy.state.term - 6);
            log_fixture_done(&copy);
        }
    }
}

static void lost_vote_record_is_refused(void **state)
{
    const struct log_io *io = sim_disk_io(fixture.disk);

    (void)state;
    assert_int_equal(log_save_term(fixture.log, 7, 1), ERR_OK);
    log_fixture_close(&fixture);
    for (uint64_t slot = 0; slot < 2; slot++) {
        sim_disk_flip(fixture.disk, "/log/vote", slot * LOG_FIXTURE_SECTOR + 20, 1);
    }
    check_refused(&fixture);
    assert_int_equal(io->unlink(io->context, "/log/vote"), 0);
    check_refused(&fixture);
    check_refused(&fixture);
}

static void damage_that_appears_while_running_is_told_by_the_reader(void **state)
{
    struct raft_entry *entry = NULL;
    size_t count = 0;

    (void)state;
    append_groups(3);
    sim_disk_flip(fixture.disk, LOG_FIXTURE_SEGMENT, offset_of(2) + 100, 0);
    assert_int_equal(log_read(fixture.log, 2, 1000, 1, &entry, &count), ERR_CORRUPT);
    assert_int_equal(count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(cut_at_every_byte_of_the_last_group_leaves_the_groups_before),
        TEST(zeros_from_every_byte_of_the_last_group_leave_the_groups_before),
        TEST(changed_bit_in_the_last_group_is_taken_for_a_torn_write),
        TEST(changed_bit_at_any_byte_before_the_last_group_is_refused),
        TEST(changed_bit_in_the_last_group_of_an_older_segment_is_refused),
        TEST(missing_segment_between_others_is_refused),
        TEST(segment_under_the_name_of_another_is_refused),
        TEST(copy_of_a_group_within_a_torn_group_is_no_group),
        TEST(torn_truncation_leaves_the_entries),
        TEST(changed_truncation_with_a_group_behind_it_is_refused),
        TEST(entries_shown_after_a_failed_sync_survive_power_loss),
        TEST(vote_shown_after_a_failed_sync_survives_power_loss),
        TEST(vote_record_torn_at_any_byte_is_the_old_or_the_new_one),
        TEST(lost_vote_record_is_refused),
        TEST(damage_that_appears_while_running_is_told_by_the_reader),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of server/log on a disk that is full or nearly so: the reserve, work that is done again,
 * the start, and what is told to the conductor (CONSENSUS 31).
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"
#include "tests/lib/log_fixture.h"

#define SEGMENT_BYTES (16u * KIB)
#define RESERVE_BYTES (SEGMENT_BYTES / 4)
#define RESERVE       LOG_FIXTURE_FOLDER "/reserve"
#define VOTE_BYTES    1024u
#define LEN           900u
#define GROUP_BYTES   (2u * LOG_FIXTURE_SECTOR)

static struct log_fixture fixture;

static int setup(void **state)
{
    (void)state;
    log_fixture_init(&fixture, /* seed */ 4, SEGMENT_BYTES);
    log_fixture_open(&fixture);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_fixture_done(&fixture);
    return 0;
}

static void reopen(struct log_fixture *at)
{
    log_fixture_close(at);
    sim_disk_lose_unsynced(at->disk);
    log_fixture_open(at);
}

static uint64_t reserve_bytes(struct log_fixture *at)
{
    uint64_t len = 0;

    (void)sim_disk_bytes(at->disk, RESERVE, &len);
    return len;
}

static bool is_low(struct log_fixture *at)
{
    bool low = false;

    assert_int_equal(log_check_space(at->log, &low), ERR_OK);
    return low;
}

/* Appends entries of one group each until there is no space; returns the next index. */
static uint64_t fill(struct log_fixture *at, uint64_t index)
{
    enum err err = ERR_OK;

    while (err == ERR_OK) {
        assert_true(index < 1000);
        err = log_fixture_try_append(at->log, index, 1, 1, LEN);
        index += err == ERR_OK;
    }
    assert_int_equal(err, ERR_NO_SPACE);
    return index;
}

static void check_entries(struct log_fixture *at, uint64_t last)
{
    assert_int_equal(log_last_index(at->log), last);
    for (uint64_t i = 1; i <= last; i++) {
        log_fixture_check(at, i, 1, LEN);
    }
}

static void new_log_has_a_reserve(void **state)
{
    (void)state;
    assert_int_equal(reserve_bytes(&fixture), RESERVE_BYTES);
    assert_false(is_low(&fixture));
    reopen(&fixture);
    assert_int_equal(reserve_bytes(&fixture), RESERVE_BYTES);
    assert_false(is_low(&fixture));
}

static void reserve_takes_entries_when_the_disk_is_full(void **state)
{
    uint64_t index = 1;

    (void)state;
    sim_disk_set_space(fixture.disk, 4ul * SEGMENT_BYTES);
    while (reserve_bytes(&fixture) > 0) {
        assert_true(index < 1000);
        log_fixture_append(&fixture, index, 1, 1, LEN);
        index++;
    }
    assert_true(is_low(&fixture));
    uint64_t end = fill(&fixture, index);
    assert_true(end + 1 - index >= RESERVE_BYTES / GROUP_BYTES);
    check_entries(&fixture, end - 1);
    assert_true(is_low(&fixture));
    reopen(&fixture);
    check_entries(&fixture, end - 1);
}

static void entries_that_found_no_space_are_appended_when_there_is_some(void **state)
{
    uint64_t index = 0;

    (void)state;
    sim_disk_set_space(fixture.disk, 4ul * SEGMENT_BYTES);
    index = fill(&fixture, 1);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(log_fixture_try_append(fixture.log, index, 5, 1, LEN), ERR_NO_SPACE);
    }
    check_entries(&fixture, index - 1);
    sim_disk_set_space(fixture.disk, 0);
    log_fixture_append(&fixture, index, 1, 1, LEN);
    log_fixture_append(&fixture, index + 1, 7, 1, LEN);
    assert_false(is_low(&fixture));
    assert_int_equal(reserve_bytes(&fixture), RESERVE_BYTES);
    reopen(&fixture);
    check_entries(&fixture, index + 7);
}

static void compaction_brings_the_reserve_back(void **state)
{
    uint64_t index = 0;

    (void)state;
    sim_disk_set_space(fixture.disk, 6ul * SEGMENT_BYTES);
    index = fill(&fixture, 1);
    assert_int_equal(log_compact(fixture.log, index / 2), ERR_OK);
    assert_false(is_low(&fixture));
    assert_true(reserve_bytes(&fixture) > 0);
    log_fixture_append(&fixture, index, 2, 1, LEN);
    reopen(&fixture);
    assert_int_equal(fixture.state.last_index, index + 1);
    assert_int_equal(log_compact(fixture.log, index + 2), ERR_OK);
    assert_int_equal(log_last_index(fixture.log), index + 1);
}

static void truncation_on_a_full_disk_is_done_when_there_is_space(void **state)
{
    uint64_t index = 0;
    uint64_t term = 0;

    (void)state;
    /* Its group finds no space, and its segment ends where the disk does. */
    sim_disk_set_space(fixture.disk, 2ul * SEGMENT_BYTES + VOTE_BYTES);
    index = fill(&fixture, 1);
    uint64_t cut = index - 1;
    uint64_t used = 0;
    sim_disk_set_space(fixture.disk, 1);
    assert_int_equal(log_truncate(fixture.log, cut), ERR_NO_SPACE);
    assert_int_equal(log_term(fixture.log, cut, &term), ERR_NO_NODE);
    assert_int_equal(log_truncate(fixture.log, cut), ERR_NO_SPACE);
    (void)sim_disk_bytes(fixture.disk, LOG_FIXTURE_SEGMENT, &used);
    assert_true(used > 0);
    /* Until then it may come back. */
    struct log_fixture copy;
    log_fixture_copy(&copy, &fixture);
    sim_disk_set_space(copy.disk, 0);
    log_fixture_open(&copy);
    check_entries(&copy, cut);
    log_fixture_done(&copy);
    sim_disk_set_space(fixture.disk, 0);
    assert_int_equal(log_truncate(fixture.log, cut), ERR_OK);
    log_fixture_append(&fixture, cut, 1, 9, LEN);
    reopen(&fixture);
    assert_int_equal(fixture.state.last_index, cut);
    log_fixture_check(&fixture, cut, 9, LEN);
}

/* ---- each call ---- */

/* Does a step again as long as there is no space. */
#define AGAIN(err, step) \
    do {                 \
        (err) = (step);  \
    } while ((err) == ERR_NO_SPACE)

static enum err append_again(struct log_fixture *at, uint64_t first, uint64_t last, uint64_t term)
{
    enum err err = ERR_OK;

    for (uint64_t i = first; i <= last && err == ERR_OK; i++) {
        AGAIN(err, log_fixture_try_append(at->log, i, 1, term, LEN));
    }
    return err;
}

static enum err some_work(struct log_fixture *at)
{
    enum err err = append_again(at, 1, 40, 1);

    if (err == ERR_OK) {
        AGAIN(err, log_save_term(at->log, 5, 3));
    }
    if (err == ERR_OK) {
        AGAIN(err, log_truncate(at->log, 20));
    }
    if (err == ERR_OK) {
        err = append_again(at, 20, 40, 2);
    }
    if (err == ERR_OK) {
        AGAIN(err, log_compact(at->log, 41));
    }
    if (err == ERR_OK) {
        err = append_again(at, 41, 42, 2);
    }
    if (err == ERR_OK) {
        AGAIN(err, log_reset(at->log, 90, 3));
    }
    return err == ERR_OK ? append_again(at, 91, 92, 4) : err;
}

static void each_call_that_finds_no_space_is_survived_or_ends_the_log(void **state)
{
    unsigned survived = 0;
    unsigned ended = 0;
    bool is_met = true;

    (void)state;
    for (uint64_t nth = 1; is_met; nth++) {
        struct log_fixture at;
        log_fixture_init(&at, nth, SEGMENT_BYTES);
        log_fixture_open(&at);
        /* Without its reserve the error comes up to the caller. */
        bool low = false;
        if (nth % 2 == 0) {
            sim_disk_set_space(at.disk, 1);
            assert_int_equal(log_fixture_try_append(at.log, 1, 18, 1, LEN), ERR_NO_SPACE);
            sim_disk_set_space(at.disk, 0);
            assert_int_equal(reserve_bytes(&at), 0);
        } else {
            assert_int_equal(log_check_space(at.log, &low), ERR_OK);
        }
        uint64_t calls = sim_disk_calls(at.disk);
        sim_disk_fail_at(at.disk, nth, ENOSPC);
        enum err err = some_work(&at);
        is_met = sim_disk_calls(at.disk) - calls >= nth;
        sim_disk_fail_at(at.disk, 0, 0);
        /* A sync that fails loses what it had, whatever its reason. */
        assert_true(err == ERR_OK || err == ERR_IO);
        survived += is_met && err == ERR_OK;
        ended += is_met && err != ERR_OK;
        reopen(&at);
        if (err == ERR_OK) {
            assert_int_equal(at.state.first_index, 91);
            assert_int_equal(at.state.before_term, 3);
            log_fixture_check(&at, 92, 4, LEN);
            assert_int_equal(at.state.vote, 3);
        }
        log_fixture_done(&at);
    }
    assert_true(survived > 60);
    assert_true(ended > 60);
}

/* ---- the start ---- */

static void full_disk_does_not_keep_the_log_from_opening(void **state)
{
    uint64_t last = 0;

    (void)state;
    sim_disk_set_space(fixture.disk, 4ul * SEGMENT_BYTES);
    last = fill(&fixture, 1) - 1;
    assert_int_equal(reserve_bytes(&fixture), 0);
    assert_int_equal(log_save_term(fixture.log, 8, 2), ERR_OK);
    /* The vote record needs its space twice, the tail none: it is written in place. */
    sim_disk_set_space(fixture.disk, 4ul * SEGMENT_BYTES + VOTE_BYTES);
    for (unsigned i = 0; i < 3; i++) {
        reopen(&fixture);
        assert_int_equal(fixture.state.term, 8);
        check_entries(&fixture, last);
        assert_true(is_low(&fixture));
    }
    sim_disk_set_space(fixture.disk, 0);
    log_fixture_append(&fixture, last + 1, 1, 1, LEN);
    reopen(&fixture);
    check_entries(&fixture, last + 1);
}

static void start_on_a_full_disk_uses_the_reserve(void **state)
{
    uint64_t used = 0;

    (void)state;
    log_fixture_append(&fixture, 1, 3, 1, LEN);
    used = VOTE_BYTES + SEGMENT_BYTES + RESERVE_BYTES;
    sim_disk_set_space(fixture.disk, used);
    reopen(&fixture);
    check_entries(&fixture, 3);
    /* It was released, and made again of what was left. */
    assert_in_range(reserve_bytes(&fixture), 1, RESERVE_BYTES - 1);
}

/* The last sync failed, so the group is only seen; then the start has no space for a new tail. */
static void start_in_place_makes_durable_what_it_shows(void **state)
{
    unsigned failures = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 16; seed++) {
        enum err err = ERR_IO;
        for (uint64_t nth = 1; err != ERR_OK; nth++) {
            struct log_fixture at;
            log_fixture_init(&at, seed * 1000 + nth, SEGMENT_BYTES);
            log_fixture_open(&at);
            log_fixture_append(&at, 1, 1, 1, LEN);
            log_fixture_append(&at, 2, 1, 1, LEN);
            sim_disk_fail_at(at.disk, 2, EIO);
            assert_int_equal(log_fixture_try_append(at.log, 3, 1, 1, LEN), ERR_IO);
            log_fixture_close(&at);
            sim_disk_set_space(at.disk, 1);
            log_fixture_close(&at);
            /* No space but for the vote. */
            sim_disk_set_space(at.disk, SEGMENT_BYTES + 2 * VOTE_BYTES);
            sim_disk_fail_at(at.disk, nth, EIO);
            err = log_fixture_try_open(&at);
            failures += err != ERR_OK;
            if (err == ERR_OK) {
                assert_int_equal(at.state.last_index, 3);
            }
            log_fixture_close(&at);
            sim_disk_crash(at.disk);
            sim_disk_set_space(at.disk, 0);
            log_fixture_open(&at);
            assert_in_range(at.state.last_index, err == ERR_OK ? 3 : 2, 3);
            check_entries(&at, at.state.last_index);
            log_fixture_append(&at, at.state.last_index + 1, 1, 1, LEN);
            log_fixture_done(&at);
        }
    }
    assert_true(failures > 100);
}

static void torn_group_is_dropped_in_place_too(void **state)
{
    (void)state;
    log_fixture_append(&fixture, 1, 1, 1, LEN);
    log_fixture_append(&fixture, 2, 1, 1, LEN);
    log_fixture_close(&fixture);
    sim_disk_flip(fixture.disk, LOG_FIXTURE_SEGMENT, LOG_FIXTURE_FIRST_OFFSET + GROUP_BYTES + 9, 1);
    sim_disk_set_space(fixture.disk, SEGMENT_BYTES + 2 * VOTE_BYTES);
    log_fixture_open(&fixture);
    assert_int_equal(fixture.state.torn_bytes, GROUP_BYTES);
    check_entries(&fixture, 1);
    reopen(&fixture);
    assert_int_equal(fixture.state.torn_bytes, 0);
    check_entries(&fixture, 1);
    sim_disk_set_space(fixture.disk, 0);
    log_fixture_append(&fixture, 2, 1, 1, LEN);
    reopen(&fixture);
    check_entries(&fixture, 2);
}

/* ---- figures ---- */

static uint64_t told_total;
static uint64_t told_free;
static int told_result;

static int tell_space(void *context, const char *folder, uint64_t *out_total, uint64_t *out_free)
{
    (void)context;
    assert_string_equal(folder, LOG_FIXTURE_FOLDER);
    *out_total = told_total;
    *out_free = told_free;
    errno = EIO;
    return told_result;
}

static int reserve_nothing(void *context, int fd, off_t offset, off_t len)
{
    (void)context;
    (void)fd;
    (void)offset;
    (void)len;
    errno = EOPNOTSUPP;
    return -1;
}

static void space_is_low_below_its_bound_and_enough_a_quarter_above(void **state)
{
    static struct log_io io;

    (void)state;
    log_fixture_close(&fixture);
    io = *sim_disk_io(fixture.disk);
    io.space = tell_space;
    fixture.io = &io;
    told_result = 0;
    told_total = 100 * LOG_LOW_SPACE_BYTES;
    told_free = LOG_LOW_SPACE_BYTES;
    log_fixture_open(&fixture);
    assert_false(is_low(&fixture));
    told_free = LOG_LOW_SPACE_BYTES - 1;
    assert_true(is_low(&fixture));
    assert_int_equal(reserve_bytes(&fixture), RESERVE_BYTES); /* for those who find none */
    told_free = LOG_LOW_SPACE_BYTES;
    assert_true(is_low(&fixture));
    told_free = LOG_LOW_SPACE_BYTES / 4 * 5;
    assert_false(is_low(&fixture));
    told_free = LOG_LOW_SPACE_BYTES;
    assert_false(is_low(&fixture));
    /* A small file system has a bound of its own. */
    told_total = 1600 * KIB;
    told_free = 100 * KIB;
    assert_false(is_low(&fixture));
    told_free = 100 * KIB - 1;
    assert_true(is_low(&fixture));
    told_result = -1;
    bool low = false;
    assert_int_equal(log_check_space(fixture.log, &low), ERR_IO);
    told_result = 0;
}

static void file_system_that_cannot_reserve_is_not_low_for_that(void **state)
{
    static struct log_io io;

    (void)state;
    log_fixture_done(&fixture);
    log_fixture_init(&fixture, 1, SEGMENT_BYTES);
    io = *sim_disk_io(fixture.disk);
    io.fallocate = reserve_nothing;
    fixture.io = &io;
    log_fixture_open(&fixture);
    assert_false(is_low(&fixture));
    for (uint64_t i = 1; i <= 30; i++) {
        log_fixture_append(&fixture, i, 1, 1, LEN);
    }
    reopen(&fixture);
    check_entries(&fixture, 30);
    assert_false(is_low(&fixture));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(new_log_has_a_reserve),
        TEST(reserve_takes_entries_when_the_disk_is_full),
        TEST(entries_that_found_no_space_are_appended_when_there_is_some),
        TEST(compaction_brings_the_reserve_back),
        TEST(truncation_on_a_full_disk_is_done_when_there_is_space),
        TEST(each_call_that_finds_no_space_is_survived_or_ends_the_log),
        TEST(full_disk_does_not_keep_the_log_from_opening),
        TEST(start_on_a_full_disk_uses_the_reserve),
        TEST(start_in_place_makes_durable_what_it_shows),
        TEST(torn_group_is_dropped_in_place_too),
        TEST(space_is_low_below_its_bound_and_enough_a_quarter_above),
        TEST(file_system_that_cannot_reserve_is_not_low_for_that),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of server/log: taking away old entries (compact) and all entries (reset), with a crash at
 * every file call of either.
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
#define LEN           900u                      /* of an entry, so that each takes */
#define GROUP_BYTES   (2u * LOG_FIXTURE_SECTOR) /* this in the file */
#define PER_SEGMENT   ((SEGMENT_BYTES - LOG_FIXTURE_FIRST_OFFSET) / GROUP_BYTES)
#define LAST          (3 * PER_SEGMENT + 4) /* in the fourth segment */

static struct log_fixture fixture;

static uint64_t term_of(uint64_t index)
{
    return 1 + index / 10;
}

static uint64_t first_of_segment(uint64_t number)
{
    return number * PER_SEGMENT + 1;
}

/* Four segments of groups of one entry each. */
static int setup(void **state)
{
    (void)state;
    log_fixture_init(&fixture, /* seed */ 3, SEGMENT_BYTES);
    log_fixture_open(&fixture);
    for (uint64_t i = 1; i <= LAST; i++) {
        log_fixture_append(&fixture, i, 1, term_of(i), LEN);
    }
    assert_int_equal(log_save_term(fixture.log, 77, 2), ERR_OK);
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

static bool has_segment(struct log_fixture *at, uint64_t first_index)
{
    char path[64];
    uint64_t len = 0;

    (void)snprintf(path, sizeof(path), "%s/%020" PRIu64 ".log", LOG_FIXTURE_FOLDER, first_index);
    return sim_disk_bytes(at->disk, path, &len) != NULL;
}

/* The log must hold exactly the entries [first, LAST] of setup, as its reader and its next start
 * say, and go on behind them. */
static void check_entries(struct log_fixture *at, uint64_t first)
{
    uint64_t term = 0;
    struct raft_entry *entry = NULL;
    size_t count = 0;

    for (uint64_t i = first; i <= LAST; i++) {
        log_fixture_check(at, i, term_of(i), LEN);
    }
    assert_int_equal(log_last_index(at->log), LAST);
    assert_int_equal(log_term(at->log, first - 1, &term), ERR_OK);
    assert_int_equal(term, first > 1 ? term_of(first - 1) : 0);
    assert_int_equal(log_read(at->log, first - 1, 1000, 1, &entry, &count), ERR_NO_NODE);
    if (first > 2) {
        assert_int_equal(log_term(at->log, first - 2, &term), ERR_NO_NODE);
    }
}

static void check_state(const struct log_state *state, uint64_t first, uint64_t last,
                        uint64_t before_term, uint64_t last_term)
{
    assert_int_equal(state->first_index, first);
    assert_int_equal(state->last_index, last);
    assert_int_equal(state->before_term, before_term);
    assert_int_equal(state->last_term, last_term);
    assert_int_equal(state->term, 77);
    assert_int_equal(state->vote, 2);
}

/* ---- compact ---- */

static void compaction_removes_whole_segments_of_older_entries(void **state)
{
    (void)state;
    check_entries(&fixture, 1);
    assert_int_equal(log_compact(fixture.log, first_of_segment(1) - 1), ERR_OK);
    check_entries(&fixture, 1);
    assert_int_equal(log_compact(fixture.log, first_of_segment(1)), ERR_OK);
    check_entries(&fixture, first_of_segment(1));
    assert_false(has_segment(&fixture, 1));
    assert_int_equal(log_compact(fixture.log, first_of_segment(3) - 1), ERR_OK);
    check_entries(&fixture, first_of_segment(2));
    assert_int_equal(log_compact(fixture.log, 1), ERR_OK);
    reopen(&fixture);
    check_state(&fixture.state, first_of_segment(2), LAST, term_of(first_of_segment(2) - 1),
                term_of(LAST));
    check_entries(&fixture, first_of_segment(2));
    assert_int_equal(log_compact(fixture.log, LAST), ERR_OK);
    check_entries(&fixture, first_of_segment(3));
    log_fixture_append(&fixture, LAST + 1, 1, 99, LEN);
    reopen(&fixture);
    log_fixture_check(&fixture, LAST + 1, 99, LEN);
}

static void compaction_of_everything_leaves_an_empty_log_that_goes_on(void **state)
{
    uint64_t term = 0;

    (void)state;
    assert_int_equal(log_compact(fixture.log, LAST + 1), ERR_OK);
    assert_int_equal(log_term(fixture.log, LAST, &term), ERR_OK);
    assert_int_equal(term, term_of(LAST));
    assert_int_equal(log_compact(fixture.log, LAST + 5), ERR_OK);
    reopen(&fixture);
    check_state(&fixture.state, LAST + 1, LAST, term_of(LAST), term_of(LAST));
    assert_int_equal(fixture.state.last_time_ns, (int64_t)LAST * 1000000000);
    log_fixture_append(&fixture, LAST + 1, 2, 50, LEN);
    reopen(&fixture);
    check_state(&fixture.state, LAST + 1, LAST + 2, term_of(LAST), 50);
    log_fixture_check(&fixture, LAST + 1, 50, LEN);
}

static void entries_behind_a_compaction_can_be_truncated(void **state)
{
    uint64_t first = first_of_segment(2);

    (void)state;
    assert_int_equal(log_compact(fixture.log, first), ERR_OK);
    assert_int_equal(log_truncate(fixture.log, first), ERR_OK);
    reopen(&fixture);
    check_state(&fixture.state, first, first - 1, term_of(first - 1), term_of(first - 1));
    log_fixture_append(&fixture, first, 3, 60, LEN);
    reopen(&fixture);
    check_state(&fixture.state, first, first + 2, term_of(first - 1), 60);
}

static void bytes_tell_how_much_to_keep(void **state)
{
    uint64_t full = LOG_FIXTURE_FIRST_OFFSET + PER_SEGMENT * GROUP_BYTES;
    uint64_t tail = LOG_FIXTURE_FIRST_OFFSET + 4 * GROUP_BYTES;

    (void)state;
    assert_int_equal(log_bytes(fixture.log), 3 * full + tail);
    assert_int_equal(log_index_of_bytes(fixture.log, 0), first_of_segment(3));
    assert_int_equal(log_index_of_bytes(fixture.log, tail), first_of_segment(3));
    assert_int_equal(log_index_of_bytes(fixture.log, tail + 1), first_of_segment(2));
    assert_int_equal(log_index_of_bytes(fixture.log, tail + full), first_of_segment(2));
    assert_int_equal(log_index_of_bytes(fixture.log, 100 * full), 1);
    assert_int_equal(log_compact(fixture.log, log_index_of_bytes(fixture.log, full)), ERR_OK);
    assert_int_equal(log_bytes(fixture.log), full + tail);
    check_entries(&fixture, first_of_segment(2));
}

/* ---- crashes ---- */

/* Power loss in one of several ways. */
static void crash(struct log_fixture *at, unsigned way)
{
    log_fixture_close(at);
    if (way == 0) {
        sim_disk_lose_unsynced(at->disk);
    } else {
        sim_disk_crash(at->disk);
    }
}

#define CRASH_WAYS 5u

/* A copy of the closed fixture whose nth file call fails after the opening. The copy of a disk draws
 * what the disk would; crashes while all is synced change but that. */
static void open_copy(struct log_fixture *copy, uint64_t nth, unsigned draws)
{
    log_fixture_copy(copy, &fixture);
    for (unsigned i = 0; i < draws; i++) {
        sim_disk_crash(copy->disk);
    }
    log_fixture_open(copy);
    sim_disk_fail_at(copy->disk, nth, EIO);
}

static void crash_at_every_file_call_of_a_compaction_loses_no_later_entry(void **state)
{
    static const uint64_t upto[] = {2 * PER_SEGMENT + 3, LAST + 1};
    unsigned failures = 0;

    (void)state;
    log_fixture_close(&fixture);
    for (size_t i = 0; i < sizeof(upto) / sizeof(upto[0]); i++) {
        enum err err = ERR_IO;
        for (uint64_t nth = 1; err != ERR_OK; nth++) {
            for (unsigned way = 0; way < CRASH_WAYS; way++) {
                struct log_fixture copy;
                open_copy(&copy, nth, way);
                err = log_compact(copy.log, upto[i]);
                failures += err != ERR_OK;
                crash(&copy, way);
                log_fixture_open(&copy);
                uint64_t first = copy.state.first_index;
                check_state(&copy.state, first, LAST, first > 1 ? term_of(first - 1) : 0,
                            term_of(LAST));
                assert_true(first == LAST + 1 || first % PER_SEGMENT == 1);
                assert_true(first <= upto[i]);
                assert_true(err != ERR_OK || first + PER_SEGMENT > upto[i]);
                check_entries(&copy, first);
                log_fixture_append(&copy, LAST + 1, 1, 99, LEN);
                reopen(&copy);
                assert_int_equal(copy.state.last_index, LAST + 1);
                log_fixture_done(&copy);
            }
        }
    }
    assert_true(failures > 40);
}

/* ---- reset ---- */

#define RESET_TERM 55u

static void check_reset(struct log_fixture *at, uint64_t index)
{
    uint64_t term = 0;

    check_state(&at->state, index + 1, index, RESET_TERM, RESET_TERM);
    assert_int_equal(log_term(at->log, index, &term), ERR_OK);
    assert_int_equal(term, RESET_TERM);
    assert_int_equal(log_term(at->log, index + 1, &term), ERR_NO_NODE);
    for (uint64_t i = 0; i < 4; i++) {
        assert_int_equal(has_segment(at, first_of_segment(i)), first_of_segment(i) == index + 1);
    }
    for (uint64_t i = 1; i <= 2 * PER_SEGMENT; i++) {
        log_fixture_append(at, index + i, 1, 56, LEN);
    }
    reopen(at);
    check_state(&at->state, index + 1, index + 2 * PER_SEGMENT, RESET_TERM, 56);
    log_fixture_check(at, index + 1, 56, LEN);
    log_fixture_check(at, index + 2 * PER_SEGMENT, 56, LEN);
}

/* Behind the log, at its end, in it, where a segment begins, and before all of it. */
static const uint64_t reset_indexes[] = {10000,       LAST, LAST - 1,       3 * PER_SEGMENT,
                                         PER_SEGMENT, 1,    PER_SEGMENT + 3};
#define RESET_COUNT (sizeof(reset_indexes) / sizeof(reset_indexes[0]))

static void reset_log_begins_behind_any_index(void **state)
{
    (void)state;
    log_fixture_close(&fixture);
    for (size_t i = 0; i < RESET_COUNT; i++) {
        struct log_fixture copy;
        log_fixture_copy(&copy, &fixture);
        log_fixture_open(&copy);
        log_fixture_check(&copy, LAST, term_of(LAST), LEN); /* a reader stands there */
        assert_int_equal(log_reset(copy.log, reset_indexes[i], RESET_TERM), ERR_OK);
        assert_int_equal(log_last_index(copy.log), reset_indexes[i]);
        reopen(&copy);
        check_reset(&copy, reset_indexes[i]);
        log_fixture_done(&copy);
    }
}

static void reset_log_can_be_used_at_once_and_reset_again(void **state)
{
    (void)state;
    assert_int_equal(log_reset(fixture.log, 500, 20), ERR_OK);
    log_fixture_append(&fixture, 501, 3, 21, LEN);
    log_fixture_check(&fixture, 503, 21, LEN);
    assert_int_equal(log_truncate(fixture.log, 501), ERR_OK);
    log_fixture_append(&fixture, 501, 1, 22, LEN);
    assert_int_equal(log_reset(fixture.log, 400, 23), ERR_OK);
    assert_int_equal(log_reset(fixture.log, 400, 24), ERR_OK);
    log_fixture_append(&fixture, 401, 3, 25, LEN);
    reopen(&fixture);
    check_state(&fixture.state, 401, 403, 24, 25);
    assert_int_equal(log_reset(fixture.log, 0, 0), ERR_OK);
    reopen(&fixture);
    check_state(&fixture.state, 1, 0, 0, 0);
}

/* Whether the log is the old one; else it must be the new one. */
static bool is_old(struct log_fixture *at, uint64_t index)
{
    if (at->state.before_term == RESET_TERM) {
        check_state(&at->state, index + 1, index, RESET_TERM, RESET_TERM);
        return false;
    }
    check_state(&at->state, 1, LAST, 0, term_of(LAST));
    check_entries(at, 1);
    return true;
}

static void crash_at_every_file_call_of_a_reset_leaves_the_old_log_or_the_new(void **state)
{
    unsigned seen[2] = {0};

    (void)state;
    log_fixture_close(&fixture);
    for (size_t i = 0; i < RESET_COUNT; i++) {
        enum err err = ERR_IO;
        for (uint64_t nth = 1; err != ERR_OK; nth++) {
            for (unsigned way = 0; way < CRASH_WAYS; way++) {
                struct log_fixture copy;
                open_copy(&copy, nth, way);
                err = log_reset(copy.log, reset_indexes[i], RESET_TERM);
                crash(&copy, way);
                log_fixture_open(&copy);
                bool old = is_old(&copy, reset_indexes[i]);
                assert_false(old && err == ERR_OK);
                seen[old]++;
                if (!old) {
                    check_reset(&copy, reset_indexes[i]);
                }
                log_fixture_done(&copy);
            }
        }
    }
    assert_true(seen[0] > 50 && seen[1] > 50);
}

static void
crash_at_every_file_call_of_the_start_after_a_cut_off_reset_changes_nothing(void **state)
{
    unsigned failures = 0;

    (void)state;
    log_fixture_close(&fixture);
    for (uint64_t nth = 1; nth <= 12; nth++) {
        enum err err = ERR_IO;
        for (uint64_t second = 1; err != ERR_OK; second++) {
            struct log_fixture copy;
            open_copy(&copy, nth, (unsigned)second);
            (void)log_reset(copy.log, PER_SEGMENT, RESET_TERM);
            crash(&copy, (unsigned)second % CRASH_WAYS);
            struct log_fixture twin;
            log_fixture_copy(&twin, &copy);
            log_fixture_open(&twin);
            bool old = is_old(&twin, PER_SEGMENT);
            log_fixture_done(&twin);
            sim_disk_fail_at(copy.disk, second, EIO);
            err = log_fixture_try_open(&copy);
            assert_true(err == ERR_OK || err == ERR_IO);
            failures += err != ERR_OK;
            crash(&copy, (unsigned)second / CRASH_WAYS % CRASH_WAYS);
            log_fixture_open(&copy);
            assert_int_equal(is_old(&copy, PER_SEGMENT), old);
            log_fixture_done(&copy);
        }
    }
    assert_true(failures > 200);
}

static void damaged_header_is_refused_also_beside_a_newer_generation(void **state)
{
    struct log_fixture copy;

    (void)state;
    log_fixture_close(&fixture);
    /* The new segment is published, the removal of the old ones fails. */
    for (uint64_t nth = 1;; nth++) {
        open_copy(&copy, nth, 0);
        (void)log_reset(copy.log, 1000, RESET_TERM);
        if (has_segment(&copy, 1001) && has_segment(&copy, 1)) {
            break;
        }
        log_fixture_done(&copy);
        assert_true(nth < 50);
    }
    log_fixture_close(&copy);
    sim_disk_flip(copy.disk, LOG_FIXTURE_SEGMENT, 15, 0); /* in its generation */
    assert_int_equal(log_fixture_try_open(&copy), ERR_CORRUPT);
    assert_non_null(strstr((const char *)copy.error.data, "a bad segment header"));
    log_fixture_done(&copy);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(compaction_removes_whole_segments_of_older_entries),
        TEST(compaction_of_everything_leaves_an_empty_log_that_goes_on),
        TEST(entries_behind_a_compaction_can_be_truncated),
        TEST(bytes_tell_how_much_to_keep),
        TEST(crash_at_every_file_call_of_a_compaction_loses_no_later_entry),
        TEST(reset_log_begins_behind_any_index),
        TEST(reset_log_can_be_used_at_once_and_reset_again),
        TEST(crash_at_every_file_call_of_a_reset_leaves_the_old_log_or_the_new),
        TEST(crash_at_every_file_call_of_the_start_after_a_cut_off_reset_changes_nothing),
        TEST(damaged_header_is_refused_also_beside_a_newer_generation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

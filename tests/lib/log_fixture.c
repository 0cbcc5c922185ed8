/* SPDX-License-Identifier: Apache-2.0
 *
 * See log_fixture.h.
 */
#include "tests/lib/log_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void log_fixture_init(struct log_fixture *fixture, uint64_t seed, size_t segment_bytes)
{
    *fixture = (struct log_fixture){.disk = sim_disk_new(seed), .segment_bytes = segment_bytes};
    assert_non_null(fixture->disk);
}

void log_fixture_close(struct log_fixture *fixture)
{
    log_close(fixture->log);
    fixture->log = NULL;
    assert_int_equal(sim_disk_open_count(fixture->disk), 0);
}

void log_fixture_done(struct log_fixture *fixture)
{
    log_fixture_close(fixture);
    buffer_done(&fixture->error);
    sim_disk_free(fixture->disk);
}

enum err log_fixture_try_open(struct log_fixture *fixture)
{
    struct log_options options = {.folder = LOG_FIXTURE_FOLDER,
                                  .io = fixture->io != NULL ? fixture->io
                                                            : sim_disk_io(fixture->disk),
                                  .segment_bytes = fixture->segment_bytes};
    enum err err = ERR_OK;

    assert_null(fixture->log);
    buffer_clear(&fixture->error);
    err = log_open(&options, &fixture->log, &fixture->state, &fixture->error);
    if (err != ERR_OK) {
        assert_null(fixture->log);
        assert_int_equal(sim_disk_open_count(fixture->disk), 0);
    }
    return err;
}

void log_fixture_open(struct log_fixture *fixture)
{
    enum err err = log_fixture_try_open(fixture);

    if (err != ERR_OK) {
        fail_msg("log_open: %s: %s", err_name(err),
                 fixture->error.data != NULL ? (const char *)fixture->error.data : "");
    }
}

void log_fixture_copy(struct log_fixture *copy, const struct log_fixture *fixture)
{
    *copy = (struct log_fixture){.disk = sim_disk_copy(fixture->disk),
                                 .segment_bytes = fixture->segment_bytes};
}

static uint8_t byte_of(uint64_t index, uint64_t term, size_t len, size_t i)
{
    return (uint8_t)(index * 31 + term * 17 + len * 7 + i * 13 + (i >> 8) + 1);
}

struct raft_entry *log_fixture_entry(uint64_t index, uint64_t term, size_t len)
{
    uint8_t *data = malloc(len + 1);
    struct raft_entry *entry = NULL;

    assert_non_null(data);
    for (size_t i = 0; i < len; i++) {
        data[i] = byte_of(index, term, len, i);
    }
    entry = raft_entry_new(RAFT_ENTRY_COMMAND, data, len);
    assert_non_null(entry);
    entry->index = index;
    entry->term = term;
    entry->time_ns = (int64_t)index * 1000000000;
    free(data);
    return entry;
}

void log_fixture_check_entry(const struct raft_entry *entry, uint64_t index, uint64_t term,
                             size_t len)
{
    assert_int_equal(entry->index, index);
    assert_int_equal(entry->term, term);
    assert_int_equal(entry->len, len);
    assert_int_equal(entry->type, RAFT_ENTRY_COMMAND);
    assert_int_equal(entry->time_ns, (int64_t)index * 1000000000);
    for (size_t i = 0; i < len; i++) {
        if (entry->data[i] != byte_of(index, term, len, i)) {
            fail_msg("entry %zu: byte %zu is another", (size_t)index, i);
        }
    }
}

enum err log_fixture_try_append(struct log *log, uint64_t index, size_t count, uint64_t term,
                                size_t len)
{
    struct raft_entry *entries[LOG_FIXTURE_ENTRIES_MAX];
    enum err err = ERR_OK;

    assert_in_range(count, 1, LOG_FIXTURE_ENTRIES_MAX);
    for (size_t i = 0; i < count; i++) {
        entries[i] = log_fixture_entry(index + i, term, len);
    }
    err = log_append(log, entries, count);
    for (size_t i = 0; i < count; i++) {
        raft_entry_unref(entries[i]);
    }
    return err;
}

void log_fixture_append(struct log_fixture *fixture, uint64_t index, size_t count, uint64_t term,
                        size_t len)
{
    assert_int_equal(log_fixture_try_append(fixture->log, index, count, term, len), ERR_OK);
}

void log_fixture_check(struct log_fixture *fixture, uint64_t index, uint64_t term, size_t len)
{
    struct raft_entry *entry = NULL;
    size_t count = 0;
    uint64_t found_term = 0;

    assert_int_equal(
        log_read(fixture->log, index, /* bytes_max */ 0, /* count_max */ 1, &entry, &count),
        ERR_OK);
    assert_int_equal(count, 1);
    log_fixture_check_entry(entry, index, term, len);
    raft_entry_unref(entry);
    assert_int_equal(log_term(fixture->log, index, &found_term), ERR_OK);
    assert_int_equal(found_term, term);
}

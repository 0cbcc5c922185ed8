/* SPDX-License-Identifier: Apache-2.0
 *
 * A log on a simulated disk for tests/unit/test_log*.c, with entries whose bytes follow from index,
 * term and length, so that any of them can be checked without having been kept. Failures are those
 * of cmocka.
 */
#ifndef QUORUMFS_TESTS_LOG_FIXTURE_H
#define QUORUMFS_TESTS_LOG_FIXTURE_H

#include "server/log/log.h"
#include "tests/lib/sim_disk.h"

#define LOG_FIXTURE_FOLDER       "/log"
#define LOG_FIXTURE_SEGMENT      "/log/00000000000000000001.log"
#define LOG_FIXTURE_SECTOR       512u
#define LOG_FIXTURE_ENTRIES_MAX  4096u
#define LOG_FIXTURE_FIRST_OFFSET LOG_FIXTURE_SECTOR /* of the first group */

struct log_fixture {
    struct sim_disk *disk;
    const struct log_io *io; /* used in place of the disk's, if set after log_fixture_init */
    size_t segment_bytes;
    struct log *log; /* NULL: not open */
    struct log_state state;
    struct buffer error; /* of the last log_fixture_try_open */
};

void log_fixture_init(struct log_fixture *fixture, uint64_t seed, size_t segment_bytes);
/* Also fails if the log left a descriptor open. */
void log_fixture_done(struct log_fixture *fixture);

enum err log_fixture_try_open(struct log_fixture *fixture);
void log_fixture_open(struct log_fixture *fixture);
void log_fixture_close(struct log_fixture *fixture);
/* Another one, not open, with a copy of the disk. */
void log_fixture_copy(struct log_fixture *copy, const struct log_fixture *fixture);

/* One reference; time_ns is the index in seconds. */
struct raft_entry *log_fixture_entry(uint64_t index, uint64_t term, size_t len);
void log_fixture_check_entry(const struct raft_entry *entry, uint64_t index, uint64_t term,
                             size_t len);

/* One call of log_append with entries of the same term and length. */
enum err log_fixture_try_append(struct log *log, uint64_t index, size_t count, uint64_t term,
                                size_t len);
void log_fixture_append(struct log_fixture *fixture, uint64_t index, size_t count, uint64_t term,
                        size_t len);

/* Reads the entry alone and checks it; log_term must say the same. */
void log_fixture_check(struct log_fixture *fixture, uint64_t index, uint64_t term, size_t len);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The log of a replica: segment files of opaque entries, written in groups with one fdatasync
 * each, and the {term, vote} record. This is the durability: an entry that log_sync said is
 * durable survives kill -9, power loss and torn writes.
 *
 * Layout of `folder`: `vote` (two 512-byte slots, written alternately, each with counter and
 * checksum), `%020u.log` segments named by their first index, `reserve` (space that is given up
 * when the disk is full). A group is one checksummed run of entries (CONSENSUS 9).
 *
 * struct log is the synchronous part: one thread at a time (the log thread, or the simulator).
 * struct log_thread runs it on a thread of its own.
 */
#ifndef QUORUMFS_LOG_H
#define QUORUMFS_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buffer.h"
#include "common/err.h"
#include "server/raft/raft.h"

/* The file calls of the log; each returns like its system call (>= 0, or -1 with errno set). The
 * simulator puts its own disk here. `context` is the first argument of each. */
struct log_io {
    void *context;
    int (*open)(void *context, const char *path, int flags, mode_t mode);
    int (*close)(void *context, int fd);
    ssize_t (*pread)(void *context, int fd, void *to, size_t len, off_t offset);
    ssize_t (*pwrite)(void *context, int fd, const void *from, size_t len, off_t offset);
    int (*fdatasync)(void *context, int fd);
    int (*ftruncate)(void *context, int fd, off_t len);
    int (*fallocate)(void *context, int fd, off_t offset, off_t len); /* keeps zeros readable */
    off_t (*size)(void *context, int fd);
    int (*rename)(void *context, const char *from, const char *to);
    int (*unlink)(void *context, const char *path);
    int (*sync_folder)(void *context, const char *folder);
    /* Calls each() for every plain file name in the folder, in no order. */
    int (*list)(void *context, const char *folder, void (*each)(void *arg, const char *name),
                void *arg);
    /* Bytes of the file system of the folder, all and those that we may still use. */
    int (*space)(void *context, const char *folder, uint64_t *out_total, uint64_t *out_free);
};

/* The system calls of Linux. */
extern const struct log_io log_io_system;

struct log_options {
    const char *folder;      /* exists; owned by this process (the caller holds the lock) */
    const struct log_io *io; /* outlives the log */
    size_t segment_bytes;    /* 0: LOG_SEGMENT_BYTES */
};

/* Below this much free space (or a sixteenth of a smaller file system) space is low: the next
 * segment would not fit. It is enough again with a quarter more. */
#define LOG_LOW_SPACE_BYTES ((uint64_t)LOG_SEGMENT_BYTES)
/* The reserve is a quarter of a segment (or a sixteenth of a smaller file system): it lasts for as
 * many entries as deletes and closes need until segments can go. */
#define LOG_RESERVE_PART 4u
#define LOG_SPACE_PART   16u

/* What recovery found. */
struct log_state {
    uint64_t term; /* {0, 0} in a new folder */
    uint64_t vote;
    uint64_t first_index; /* 1 in a new folder; the first entry that is there, or would be */
    uint64_t last_index;  /* first_index - 1 when empty */
    uint64_t last_term;   /* before_term when empty */
    int64_t last_time_ns; /* of the last entry, also one that was removed; 0 after a reset */
    uint64_t before_term; /* of the entry first_index - 1; 0 if first_index is 1 */
    uint64_t torn_bytes;  /* of a last group that was dropped; for the log line */
};

struct log;

/* Opens or makes the log and recovers: a torn last group is dropped; the unsealed tail is copied
 * to a new segment and synced before it is trusted (CONSENSUS 6). ERR_CORRUPT: a bad group with a
 * good one behind it, a hole, a bad vote record: the replica must not vote; `error` (if not NULL)
 * gets one sentence with file, offset and values. ERR_IO, ERR_NO_SPACE, ERR_MEMORY likewise. A
 * full disk is no error if the reserve, or writing in place, is enough. */
enum err log_open(const struct log_options *options, struct log **out, struct log_state *state,
                  struct buffer *error);
void log_close(struct log *log);

/* ERR_NO_SPACE of the writing functions: the disk is full, the reserve is used up, and no sync has
 * failed; the same call may be made again, and must be before any other that writes (but
 * log_compact). Any other failure: end the process, never retry (CONSENSUS 6). */

/* Makes {term, vote} durable. */
enum err log_save_term(struct log *log, uint64_t term, uint64_t vote);

/* Removes all entries >= index, durably (CONSENSUS 8). */
enum err log_truncate(struct log *log, uint64_t index);

/* Appends entries as groups of at most LOG_GROUP_BYTES_MAX and makes them durable: one fdatasync
 * for a call whose entries fit one group. The first index is last_index + 1, CHECKed. After
 * ERR_NO_SPACE some groups may be durable: call again for the entries behind log_last_index. */
enum err log_append(struct log *log, struct raft_entry *const *entries, size_t count);

/* Removes whole segments of entries < index only, oldest first, durably; the newest one only if all
 * entries go: then an empty one follows. The caller keeps what members or a snapshot need.
 * ERR_NO_SPACE: some may be removed; the log goes on. */
enum err log_compact(struct log *log, uint64_t index);

/* Drops all entries: the log begins anew behind entry `index` of `term`, as a snapshot wants it;
 * {term, vote} stay. A crash at any point leaves the old log or the new one. No log_thread runs. */
enum err log_reset(struct log *log, uint64_t index, uint64_t term);

/* Whether space is low: the reserve is used, or less than LOG_LOW_SPACE_BYTES are free. Makes the
 * reserve again when it fits. */
enum err log_check_space(struct log *log, bool *out_low);

/* Reads entries from `index` on, at least one if it exists, until `bytes_max` of data. The caller
 * unrefs each. May be called from another thread than the writer for entries that are durable
 * (internal lock). ERR_NO_NODE: outside [first, last]. */
enum err log_read(struct log *log, uint64_t index, size_t bytes_max, size_t count_max,
                  struct raft_entry **out, size_t *out_count);

/* The term of an entry, also of the one before the first; else ERR_NO_NODE. Threads as log_read. */
enum err log_term(struct log *log, uint64_t index, uint64_t *out_term);

/* The last durable index, first index - 1 if there is none. Any thread. */
uint64_t log_last_index(struct log *log);

/* Bytes of all segments up to their last groups. Any thread. */
uint64_t log_bytes(struct log *log);

/* The first index of a segment so that the segments from it on have at least `bytes`; the first
 * index of the log if all have less: log_compact keeps that much. Any thread. */
uint64_t log_index_of_bytes(struct log *log, uint64_t bytes);

/* ---- the log on a thread of its own ---- */

struct log_thread;

/* One piece of work, as raft_effects gives it; done in the order of submission. */
struct log_save {
    bool save_term;
    uint64_t term;
    uint64_t vote;
    bool truncate;
    uint64_t truncate_index;
    struct raft_entry **entries; /* references are taken by log_thread_submit */
    size_t entry_count;
};

/* What became durable. */
struct log_saved {
    bool term_saved;
    uint64_t term; /* of the record */
    bool log_saved;
    uint64_t index; /* and term of the last entry */
    uint64_t entry_term;
    bool compacted;
    uint64_t first_index; /* of the log since then, and term of the entry before it */
    uint64_t before_term;
    bool low_space;       /* as of now (log_check_space); each change wakes */
    uint64_t sync_us_max; /* the slowest group since the last poll, or the one that still takes */
};

/* `wake` is called on the log thread when log_thread_poll has news (uv_async_send). A full disk
 * holds up the work: it is tried again every 200 ms. Any other failed write or sync logs an error
 * line and aborts the process with exit status 1 (`_exit`). */
enum err log_thread_start(struct log *log, void (*wake)(void *arg), void *arg,
                          struct log_thread **out);

/* From the loop. Submissions that wait are merged into one group with one fdatasync. ERR_MEMORY. */
enum err log_thread_submit(struct log_thread *thread, const struct log_save *save);

/* From the loop: log_compact soon, between two groups. The highest index asked for counts. */
void log_thread_compact(struct log_thread *thread, uint64_t index);

/* From the loop: what has become durable since the last poll (merged: the newest term, the last
 * index); releases the references. False: nothing new, but low_space and sync_us_max are set. */
bool log_thread_poll(struct log_thread *thread, struct log_saved *out);

/* Finishes all submitted work (not what a full disk holds up), ends the thread. The log stays
 * open. */
void log_thread_stop(struct log_thread *thread);

#endif

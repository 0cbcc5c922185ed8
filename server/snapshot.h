/* SPDX-License-Identifier: Apache-2.0
 *
 * Snapshots as files in the data folder: what a checkpoint consists of, where one from another
 * replica is gathered, and how it takes the place of the store (CONSENSUS, Decisions).
 *
 *     DATA/checkpoint/         a checkpoint of the own store that others read; gone after a start
 *     DATA/incoming/           files of a snapshot that is on its way
 *     DATA/incoming.complete   exists: all of them are there and synced
 *     DATA/store.old/          the store before an install
 *
 * A snapshot is installed at the start only, so that there is one way, whatever was cut off:
 *     1. incoming.complete is durable             (before: the old store counts)
 *     2. store -> store.old, incoming -> store    (each a rename; done again after a crash)
 *     3. the log is made to begin behind it, if it does not hold the snapshot's last entry
 *     4. incoming.complete and store.old are removed
 *
 * Thread: any, one at a time.
 */
#ifndef QUORUMFS_SERVER_SNAPSHOT_H
#define QUORUMFS_SERVER_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"

#define SNAPSHOT_NAME_BYTES 64u /* of a file of RocksDB, with the NUL */

struct snapshot_file {
    char name[SNAPSHOT_NAME_BYTES];
    uint64_t bytes;
};

struct snapshot {
    uint64_t id;
    uint64_t index; /* of the last entry in it, and its term */
    uint64_t term;
    size_t file_count;
    struct snapshot_file *files; /* owned */
};

void snapshot_done(struct snapshot *snapshot);

/* The files of a checkpoint; id, index and term are left as they are. ERR_IO, ERR_LIMIT,
 * ERR_MEMORY. */
enum err snapshot_list(const char *folder, struct snapshot *out);

/* Whether a name from another replica may be a file of ours: letters, digits, `-`, `_`, `.`, not
 * beginning with a dot. */
bool snapshot_name_is_good(const char *name, size_t len);

/* Removes the folder with the files in it; one that is not there is fine. */
enum err snapshot_remove_folder(const char *folder);

/* An empty DATA/incoming, and no mark of a complete one. */
enum err snapshot_take_begin(const char *data);

/* All files of `snapshot` are written: checks their sizes, syncs them and sets the mark.
 * ERR_CORRUPT: a size is wrong. */
enum err snapshot_take_end(const char *data, const struct snapshot *snapshot);

/* At the start, before the store is opened: step 2. *out_installing: steps 3 and 4 are to follow.
 * Also removes what was cut off before step 1. `error` gets one sentence. */
enum err snapshot_install(const char *data, bool *out_installing, struct buffer *error);

/* At the start, when the log fits the store: step 4. */
enum err snapshot_install_end(const char *data);

#endif

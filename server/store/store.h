/* SPDX-License-Identifier: Apache-2.0
 *
 * The rows of the tree on disk: RocksDB with its WAL off, one column family, and before it an
 * overlay in memory that takes the results of entries (CONSENSUS, Decisions). Reads go overlay,
 * frozen overlays, RocksDB. The overlay is frozen when it is old (OVERLAY_FREEZE_MS) or full and
 * written by the store thread as ONE batch; the tree keeps its applied index in a row of the same
 * overlay, so data and applied index are always of one moment.
 *
 * All functions from the loop, unless said. The only room that includes <rocksdb/c.h>.
 */
#ifndef QUORUMFS_STORE_H
#define QUORUMFS_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"
#include "server/tree/kv.h"

struct store;

struct store_options {
    const char *folder;        /* made if missing */
    size_t block_cache_bytes;  /* 0: 16 MiB */
    size_t write_buffer_bytes; /* 0: 8 MiB */
    void (*wake)(void *arg);   /* called on the store thread when store_poll has work */
    void *wake_arg;
};

/* Opens or makes the database and starts the store thread. Start time does not depend on the size
 * of the tree. ERR_IO, ERR_CORRUPT, ERR_BUSY, ERR_NO_SPACE, ERR_MEMORY; `error` gets one sentence. */
enum err store_open(const struct store_options *options, struct store **out, struct buffer *error);

/* Freezes, writes and flushes everything, ends the thread, closes; on a full disk without what does
 * not fit, which the log has. A checkpoint under way may be left half done. NULL is fine. */
void store_close(struct store *store);

/* The rows, for the tree. Valid while the store is open. A failing read of RocksDB logs an error
 * line and ends the process with status 1. */
struct kv store_kv(struct store *store);

/* To be called between two entries, never within one: takes back a written overlay, freezes the
 * active one if it is due (`now_ms` monotonic) and none is on its way, asks for a flush when
 * `log_bytes` (bytes of log appended so far, any base) has grown by STORE_FLUSH_LOG_BYTES
 * since the last flush. */
void store_poll(struct store *store, uint64_t now_ms, uint64_t log_bytes);

/* The active overlay is full and a frozen one is still being written: do not apply further entries
 * now; `wake` will come. While the disk is full this stays so: the same batch is tried again every
 * 500 ms. Other errors of the disk log an error line and end the process with status 1. */
bool store_is_full(const struct store *store);

/* The row as it would be after a crash now: as of the last flush. Appends the value to *out; false
 * if there is no such row. Cheap. Of the row of the applied index it says how far the log may go. */
bool store_get_persisted(const struct store *store, const void *key, size_t key_len,
                         struct buffer *out);

/* Between two entries: begins a checkpoint of the state as of now (all rows of this moment, and
 * with them the applied index) in `folder`, which must not exist, in a folder that does, on the same
 * file system: files are linked. Entries may go on being applied; `wake` comes when it has ended.
 * ERR_BUSY: one is under way, or its end was not taken by a poll. ERR_MEMORY. */
enum err store_checkpoint_start(struct store *store, const char *folder);

/* Between two entries. True once: it has ended with *out_err. ERR_OK: the folder is complete, and
 * synced; it is a store of its own for store_open. Else it is removed: ERR_NO_SPACE, ERR_IO,
 * ERR_EXISTS (nothing was touched), ERR_NAME_TOO_LONG. */
bool store_checkpoint_poll(struct store *store, enum err *out_err);

/* When store_poll is due for the age of the overlay; UINT64_MAX: not. */
uint64_t store_deadline_ms(const struct store *store);

/* Bytes total and free of the file system that holds the folder; from memory, renewed by the store
 * thread after each write and once a second. */
void store_disk_space(const struct store *store, uint64_t *out_total, uint64_t *out_free);

#endif

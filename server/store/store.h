/* SPDX-License-Identifier: Apache-2.0
 *
 * The rows of the tree on disk: RocksDB with its WAL off, one column family, and before it an
 * overlay in memory that takes the results of entries (CONSENSUS, Decisions). Reads go overlay,
 * frozen overlay, RocksDB. The overlay is frozen when it is old (OVERLAY_FREEZE_MS) or full and
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

/* Freezes, writes and flushes everything, ends the thread, closes. NULL is fine. */
void store_close(struct store *store);

/* The rows, for the tree. Valid while the store is open. A failing read of RocksDB logs an error
 * line and ends the process with status 1. */
struct kv store_kv(struct store *store);

/* To be called between two entries, never within one: takes back a written overlay, freezes the
 * active one if it is due (`now_ms` monotonic) and none is on its way, asks for a flush when
 * `log_bytes` (bytes of log appended so far, any base) has grown by STORE_FLUSH_LOG_BYTES
 * since the last flush. */
void store_poll(struct store *store, uint64_t now_ms, uint64_t log_bytes);

/* The active overlay is full and the frozen one is still being written: do not apply further
 * entries now; `wake` will come. */
bool store_is_full(const struct store *store);

/* When store_poll is due for the age of the overlay; UINT64_MAX: not. */
uint64_t store_deadline_ms(const struct store *store);

/* Bytes total and free of the file system that holds the folder; from memory, renewed by the store
 * thread after each write and once a second. */
void store_disk_space(const struct store *store, uint64_t *out_total, uint64_t *out_free);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread that writes frozen overlays to RocksDB, so that no stall of RocksDB stands before
 * votes and heartbeats. One job at a time. Functions from the loop, unless said.
 */
#ifndef QUORUMFS_STORE_THREAD_H
#define QUORUMFS_STORE_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/omap.h"
#include "server/store/database.h"
#include "server/store/store.h"

struct store_thread;

/* What is to be done, in this order. */
struct store_job {
    const struct omap *map; /* NULL: none; written as one batch; not to change until taken back */
    bool flush;             /* begin a flush */
    const char *checkpoint; /* NULL: none; flush all and make a checkpoint in this folder */
};

struct store_result {
    bool is_written; /* false: nothing was, as the disk was full when the close began */
    enum err checkpoint_err;
};

/* Starts the thread on an open database, which must outlive it. ERR_MEMORY, ERR_IO. */
enum err store_thread_open(const struct store_options *options, struct database *database,
                           struct store_thread **out);

/* It does not wake any more, and does not wait for a full disk any more. */
void store_thread_begin_close(struct store_thread *thread);

/* Ends the thread after the job that it has. Includes store_thread_begin_close. NULL is fine. */
void store_thread_close(struct store_thread *thread);

/* Gives a job; there must be none on its way. */
void store_thread_give(struct store_thread *thread, const struct store_job *job);

/* Whether a job was given and not yet taken back. */
bool store_thread_is_busy(const struct store_thread *thread);

/* True once for each job that is done. */
bool store_thread_take_back(struct store_thread *thread, struct store_result *out);

/* Waits until the job on its way is done. */
void store_thread_wait(struct store_thread *thread);

/* Lets the thread free the map: that of many small rows takes milliseconds. */
void store_thread_dispose(struct store_thread *thread, struct omap *map);

/* Any thread: the newest figures of the file system. */
void store_thread_disk_space(const struct store_thread *thread, uint64_t *out_total,
                             uint64_t *out_free);

#endif

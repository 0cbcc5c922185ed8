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

/* Starts the thread on an open database, which must outlive it. ERR_MEMORY, ERR_IO. */
enum err store_thread_open(const struct store_options *options, struct database *database,
                           struct store_thread **out);

/* Ends the thread after the job that it has. It does not wake any more. NULL is fine. */
void store_thread_close(struct store_thread *thread);

/* Gives a job; there must be none on its way. `map` (NULL: none) is written as one batch and must
 * not change until the job is taken back; then a flush begins if `flush`. */
void store_thread_give(struct store_thread *thread, const struct omap *map, bool flush);

/* Whether a job was given and not yet taken back. */
bool store_thread_is_busy(const struct store_thread *thread);

/* True once for each job that is done. */
bool store_thread_take_back(struct store_thread *thread);

/* Waits until the job on its way is done. */
void store_thread_wait(struct store_thread *thread);

/* Lets the thread free the map: that of many small rows takes milliseconds. */
void store_thread_dispose(struct store_thread *thread, struct omap *map);

/* Any thread: the newest figures of the file system. */
void store_thread_disk_space(const struct store_thread *thread, uint64_t *out_total,
                             uint64_t *out_free);

#endif

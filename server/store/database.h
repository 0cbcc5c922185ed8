/* SPDX-License-Identifier: Apache-2.0
 *
 * RocksDB as the store uses it: opened with our options, rows read one by one or in order, a map
 * written as one batch, checkpoints. What fails after the opening ends the process: the log has what
 * the store lacks, and a replica that cannot trust its disk must not go on (CONSENSUS 6, 31). Only a
 * full disk is waited for.
 */
#ifndef QUORUMFS_STORE_DATABASE_H
#define QUORUMFS_STORE_DATABASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"
#include "common/omap.h"
#include "server/store/store.h"

struct database;
struct database_cursor;

/* Opens or makes the database in options->folder. `error` gets a sentence. Errors as store_open. */
enum err database_open(const struct store_options *options, struct database **out,
                       struct buffer *error);

/* Closes. What was not flushed may be lost. NULL is fine. */
void database_close(struct database *database);

/* Any thread. Appends the value to *out; false if there is no such key. */
bool database_get(const struct database *database, const void *key, size_t key_len,
                  struct buffer *out);

/* Any thread. The same of what is durable: as of the last flush. */
bool database_get_persisted(const struct database *database, const void *key, size_t key_len,
                            struct buffer *out);

/* Any thread. Writes the whole map as one batch, tombstones as deletes. Not durable before a flush:
 * the WAL is off. ERR_NO_SPACE: nothing was changed, nothing of before is lost; RocksDB looks for
 * space every 5 s and then takes writes again. Never close it for that: its memory has what no file
 * has. */
enum err database_write(struct database *database, const struct omap *map);

/* Any thread. Makes durable what was written. Without `wait` only begins it, in the background.
 * ERR_NO_SPACE as above. */
enum err database_flush(struct database *database, bool wait);

/* Any thread, while no other writes. What was written up to now as a database in the new folder,
 * synced with its parent. An error leaves no folder (one that was there before stays, ERR_EXISTS):
 * ERR_NO_SPACE, ERR_IO. */
enum err database_checkpoint(struct database *database, const char *folder);

/* Rows with a key >= from that begin with the first prefix_len bytes of from. `from` must stay
 * until the cursor is closed. */
struct database_cursor *database_cursor_open(const struct database *database, const void *from,
                                             size_t from_len, size_t prefix_len);
void database_cursor_close(struct database_cursor *cursor);

/* The row at the cursor, valid until the next step; false at the end. Beyond the end it may show
 * rows that do not begin with the prefix. */
bool database_cursor_get(const struct database_cursor *cursor, struct omap_entry *out_row);
void database_cursor_next(struct database_cursor *cursor);

/* Logs an error line and ends the process with status 1. */
_Noreturn void store_die(const char *event, const char *error);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the database share.
 */
#ifndef QUORUMFS_STORE_DATABASE_INTERNAL_H
#define QUORUMFS_STORE_DATABASE_INTERNAL_H

#include <rocksdb/c.h>

#include "server/store/database.h"

struct database {
    char *folder;                             /* owned */
    rocksdb_t *db;                            /* owned */
    rocksdb_readoptions_t *read_options;      /* owned; of single rows */
    rocksdb_readoptions_t *persisted_options; /* owned; of single rows in files */
    rocksdb_writeoptions_t *write_options;    /* owned */
};

/* The error for a text of RocksDB, of which there are no numbers in C: ERR_NO_SPACE or ERR_IO. */
enum err database_error(const char *text);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * What database.c and database_open.c share.
 */
#ifndef QUORUMFS_STORE_DATABASE_INTERNAL_H
#define QUORUMFS_STORE_DATABASE_INTERNAL_H

#include <rocksdb/c.h>

#include "server/store/database.h"

struct database {
    rocksdb_t *db;                         /* owned */
    rocksdb_readoptions_t *read_options;   /* owned; of single rows */
    rocksdb_writeoptions_t *write_options; /* owned */
};

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Hash tables: uthash with XXH3 as its hash and with failed allocations reported, not fatal.
 * Include this, never <uthash.h>. After HASH_ADD the table was out of memory exactly if the added
 * element's `hh.tbl` is NULL.
 */
#ifndef QUORUMFS_COMMON_TABLE_H
#define QUORUMFS_COMMON_TABLE_H

#include <xxhash.h>

#define HASH_NONFATAL_OOM                 1
#define HASH_FUNCTION(key, key_len, hash) ((hash) = (unsigned)XXH3_64bits((key), (key_len)))

#include <uthash.h>

#endif

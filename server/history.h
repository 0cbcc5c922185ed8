/* SPDX-License-Identifier: Apache-2.0
 *
 * The last changes that this replica has applied, each with its paths, in memory: what the streams
 * of changes (feed.h) are read from. Bounded by number and bytes; the oldest go first. Empty after a
 * start. Thread of the loop.
 *
 * The records of an entry have the same order and numbers on all replicas.
 */
#ifndef QUORUMFS_SERVER_HISTORY_H
#define QUORUMFS_SERVER_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/tree/tree.h"

/* Between two changes: behind all of the entries up to `zxid` and the first `skip` of the next. */
struct history_position {
    uint64_t zxid;
    uint32_t skip;
};

/* One change. Paths are absolute, not NUL-terminated, at most PATH_BYTES_MAX. */
struct history_record {
    uint64_t zxid;
    uint64_t parent; /* the directory it is a change of (of the root: the root) */
    uint64_t to_parent;
    uint32_t number; /* among the changes of the entry, from 1 */
    uint32_t version;
    enum change_kind kind;
    enum node_kind node_kind;
    uint16_t path_len;
    uint16_t to_path_len; /* renamed, else 0 */
    bool exchanged;
    bool truncated;  /* a path was longer than PATH_BYTES_MAX and was cut */
    uint8_t bytes[]; /* path, then to_path */
};

struct history;

/* Knows nothing of the entries up to `zxid`, and all that is added. NULL: no memory. */
struct history *history_new(uint64_t zxid, size_t changes_max, size_t bytes_max);
void history_free(struct history *history);

/* The changes of the entry that `tree` has just applied. Without memory the history is empty
 * afterwards and this entry is not known. */
void history_add(struct history *history, struct tree *tree, const struct tree_change *changes,
                 size_t count);

/* Where the history begins: what is before is not known. */
struct history_position history_begin(const struct history *history);

/* True if a stands before b. */
bool history_before(const struct history_position *a, const struct history_position *b);

/* The first record behind a position that is not before history_begin: to be used with
 * history_at, which gives NULL behind the last one. */
uint64_t history_seek(const struct history *history, const struct history_position *position);
const struct history_record *history_at(const struct history *history, uint64_t at);

size_t history_count(const struct history *history);
size_t history_bytes(const struct history *history);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The kv of the tree over an ordered map in memory, for tests and the simulator.
 */
#ifndef QUORUMFS_TESTS_KV_MEMORY_H
#define QUORUMFS_TESTS_KV_MEMORY_H

#include "common/omap.h"
#include "server/tree/kv.h"

/* A kv whose rows lie in `map`, which the caller owns and which outlives it. Running out of memory
 * ends the process. */
struct kv kv_memory(struct omap *map);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The store of a simulated replica, in memory: all rows as the tree sees them, and those that a
 * crash leaves, which are an older state of all rows together, as RocksDB without its own log.
 */
#include "common/check.h"
#include "tests/lib/kv_memory.h"
#include "tests/sim/sim.h"

struct kv sim_store_kv(struct sim_node *node)
{
    return kv_memory(node->rows);
}

bool sim_store_is_full(void *context)
{
    const struct sim_node *node = context;
    return node->sim->now_us < node->full_until_us;
}

void sim_store_poll(void *context, uint64_t now_ms, uint64_t log_bytes)
{
    (void)context;
    (void)now_ms;
    (void)log_bytes;
}

/* Makes *to a copy of `from`. */
static void copy_rows(struct omap **to, const struct omap *from)
{
    omap_free(*to);
    *to = omap_new();
    CHECK(*to != NULL);
    const struct omap_entry *entry = omap_seek(from, NULL, 0);
    for (; entry != NULL; entry = omap_next(from, entry)) {
        CHECK(omap_put(*to, entry->key, entry->key_len, entry->value, entry->value_len) == ERR_OK);
    }
}

void sim_store_flush(struct sim_node *node)
{
    copy_rows(&node->flushed, node->rows);
}

void sim_store_crash(struct sim_node *node)
{
    copy_rows(&node->rows, node->flushed);
}

void sim_store_wipe(struct sim_node *node)
{
    omap_free(node->flushed);
    node->flushed = omap_new();
    CHECK(node->flushed != NULL);
    copy_rows(&node->rows, node->flushed);
}

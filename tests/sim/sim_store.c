/* SPDX-License-Identifier: Apache-2.0
 *
 * The store of a simulated replica, in memory: all rows as the tree sees them, and those that a
 * crash leaves, which are an older state of all rows together, as RocksDB without its own log.
 */
#include "common/check.h"
#include "tests/lib/kv_memory.h"
#include "tests/sim/sim.h"

static bool get(void *context, const void *key, size_t key_len, struct buffer *out)
{
    const struct sim_node *node = context;
    return node->kv.get(node->kv.context, key, key_len, out);
}

static bool get_durable(void *context, const void *key, size_t key_len, struct buffer *out)
{
    const struct sim_node *node = context;
    struct kv flushed = kv_memory(node->flushed);
    return flushed.get(flushed.context, key, key_len, out);
}

static void put(void *context, const void *key, size_t key_len, const void *value, size_t value_len)
{
    const struct sim_node *node = context;
    node->kv.put(node->kv.context, key, key_len, value, value_len);
}

static void remove_row(void *context, const void *key, size_t key_len)
{
    const struct sim_node *node = context;
    node->kv.remove(node->kv.context, key, key_len);
}

static void scan(void *context, const void *from, size_t from_len, size_t prefix_len,
                 bool (*each)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                              size_t value_len),
                 void *arg)
{
    const struct sim_node *node = context;
    node->kv.scan(node->kv.context, from, from_len, prefix_len, each, arg);
}

struct kv sim_store_kv(struct sim_node *node)
{
    node->kv = kv_memory(node->rows);
    return (struct kv){.context = node,
                       .get = get,
                       .get_durable = get_durable,
                       .put = put,
                       .remove = remove_row,
                       .scan = scan};
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

void sim_store_copy(struct omap **to, const struct omap *from)
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
    sim_store_copy(&node->flushed, node->rows);
}

void sim_store_crash(struct sim_node *node)
{
    sim_store_copy(&node->rows, node->flushed);
}

void sim_store_wipe(struct sim_node *node)
{
    omap_free(node->flushed);
    node->flushed = omap_new();
    CHECK(node->flushed != NULL);
    sim_store_copy(&node->rows, node->flushed);
}

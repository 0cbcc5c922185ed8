/* SPDX-License-Identifier: Apache-2.0
 *
 * The store of a simulated replica, in memory: all rows as the tree sees them, and those that a
 * crash leaves, which are an older state of all rows together, as RocksDB without its own log.
 */
#include <string.h>

#include "common/check.h"
#include "tests/sim/sim.h"

static bool kv_get(void *context, const void *key, size_t key_len, struct buffer *out)
{
    struct sim_node *node = context;
    buffer_clear(out);
    const struct omap_entry *entry = omap_get(node->rows, key, key_len);
    if (entry == NULL) {
        return false;
    }
    CHECK(buffer_append(out, entry->value, entry->value_len) == ERR_OK);
    return true;
}

static void kv_put(void *context, const void *key, size_t key_len, const void *value,
                   size_t value_len)
{
    struct sim_node *node = context;
    CHECK(omap_put(node->rows, key, key_len, value_len > 0 ? value : "", value_len) == ERR_OK);
}

static void kv_remove(void *context, const void *key, size_t key_len)
{
    struct sim_node *node = context;
    omap_remove(node->rows, key, key_len);
}

static void kv_scan(void *context, const void *from, size_t from_len, size_t prefix_len,
                    bool (*each)(void *arg, const uint8_t *key, size_t key_len,
                                 const uint8_t *value, size_t value_len),
                    void *arg)
{
    struct sim_node *node = context;
    const struct omap_entry *entry = omap_seek(node->rows, from, from_len);
    for (; entry != NULL; entry = omap_next(node->rows, entry)) {
        if (entry->key_len < prefix_len || memcmp(entry->key, from, prefix_len) != 0 ||
            !each(arg, entry->key, entry->key_len, entry->value, entry->value_len)) {
            return;
        }
    }
}

struct kv sim_store_kv(struct sim_node *node)
{
    return (struct kv){
        .context = node, .get = kv_get, .put = kv_put, .remove = kv_remove, .scan = kv_scan};
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

/* SPDX-License-Identifier: Apache-2.0
 *
 * The store of a simulated replica, in memory: all rows as the tree sees them, and those that a
 * crash leaves, which are an older state of all rows together, as RocksDB without its own log.
 */
#include <string.h>

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

/* ---- planted bugs ---- */

static const uint8_t state_key[] = {'M', 's'};
#define STATE_TERM 9u /* where the term stands in the state row (server/tree/tree.c) */

/* PLANT_DEDUP_DROPPED: an entry of a new term forgets all answers that are kept. */
static void drop_answers(struct sim_node *node)
{
    const struct omap_entry *entry = omap_seek(node->rows, "W", 1);
    while (entry != NULL && entry->key[0] == 'W') {
        const struct omap_entry *next = omap_next(node->rows, entry);
        omap_remove(node->rows, entry->key, entry->key_len);
        entry = next;
    }
}

/* The state row is about to be put: every entry does it last. */
static void state_changes(struct sim_node *node, const uint8_t *row)
{
    const struct omap_entry *before = omap_get(node->rows, state_key, sizeof state_key);
    if (before == NULL) {
        return;
    }
    buffer_clear(&node->state_before);
    CHECK(buffer_append(&node->state_before, before->value, before->value_len) == ERR_OK);
    if (node->sim->plant == PLANT_DEDUP_DROPPED &&
        get_be64(before->value + STATE_TERM) != get_be64(row + STATE_TERM)) {
        drop_answers(node);
    }
}

/* PLANT_INDEX_APART: the rows are flushed, the applied index in them stays as it was. */
static void flush_apart(struct sim_node *node)
{
    struct buffer state = {0};
    const struct omap_entry *entry = omap_get(node->flushed, state_key, sizeof state_key);
    if (entry == NULL) {
        sim_store_copy(&node->flushed, node->rows);
        return;
    }
    CHECK(buffer_append(&state, entry->value, entry->value_len) == ERR_OK);
    sim_store_copy(&node->flushed, node->rows);
    CHECK(omap_put(node->flushed, state_key, sizeof state_key, state.data, state.len) == ERR_OK);
    buffer_done(&state);
}

uint64_t sim_store_tear(struct sim_node *node, struct omap *rows)
{
    const struct buffer *state = &node->state_before;
    if (node->sim->plant != PLANT_SNAPSHOT_TWICE || state->len == 0) {
        return 0;
    }
    CHECK(omap_put(rows, state_key, sizeof state_key, state->data, state->len) == ERR_OK);
    return 1;
}

/* ---- rows ---- */

static void put(void *context, const void *key, size_t key_len, const void *value, size_t value_len)
{
    struct sim_node *node = context;
    if (key_len == sizeof state_key && memcmp(key, state_key, key_len) == 0) {
        state_changes(node, value);
    }
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
    if (node->sim->plant == PLANT_INDEX_APART) {
        flush_apart(node);
    } else {
        sim_store_copy(&node->flushed, node->rows);
    }
}

void sim_store_crash(struct sim_node *node)
{
    buffer_clear(&node->state_before);
    sim_store_copy(&node->rows, node->flushed);
}

void sim_store_wipe(struct sim_node *node)
{
    omap_free(node->flushed);
    node->flushed = omap_new();
    CHECK(node->flushed != NULL);
    sim_store_copy(&node->rows, node->flushed);
}

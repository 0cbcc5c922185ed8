/* SPDX-License-Identifier: Apache-2.0
 *
 * The kv of the tree over common/omap. The tests make one each and look at the rows in the map.
 */
#include "tests/lib/kv_memory.h"

#include <string.h>

#include "common/check.h"

static bool get(void *context, const void *key, size_t key_len, struct buffer *out)
{
    const struct omap_entry *entry = omap_get(context, key, key_len);

    buffer_clear(out);
    if (entry == NULL) {
        return false;
    }
    CHECK(buffer_append(out, entry->value, entry->value_len) == ERR_OK);
    return true;
}

static void put(void *context, const void *key, size_t key_len, const void *value, size_t value_len)
{
    CHECK(omap_put(context, key, key_len, value != NULL ? value : "", value_len) == ERR_OK);
}

static void remove_row(void *context, const void *key, size_t key_len)
{
    omap_remove(context, key, key_len);
}

static void scan(void *context, const void *from, size_t from_len, size_t prefix_len,
                 bool (*each)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                              size_t value_len),
                 void *arg)
{
    const struct omap_entry *entry = omap_seek(context, from, from_len);

    CHECK_OP(prefix_len, <=, from_len);
    while (entry != NULL && entry->key_len >= prefix_len &&
           memcmp(entry->key, from, prefix_len) == 0) {
        if (!each(arg, entry->key, entry->key_len, entry->value, entry->value_len)) {
            return;
        }
        entry = omap_next(context, entry);
    }
}

struct kv kv_memory(struct omap *map)
{
    return (struct kv){.context = map,
                       .get = get,
                       .get_durable = get,
                       .put = put,
                       .remove = remove_row,
                       .scan = scan};
}

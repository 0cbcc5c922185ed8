/* SPDX-License-Identifier: Apache-2.0
 *
 * An ordered map from byte strings to byte strings, in memory (red-black tree of libbsd's
 * sys/tree.h). Order is memcmp order, a prefix before what it begins. Not thread safe, but
 * concurrent readers are fine while nobody writes.
 */
#ifndef QUORUMFS_COMMON_OMAP_H
#define QUORUMFS_COMMON_OMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/err.h"

struct omap;

/* One entry; lives until it is overwritten, removed or the map is freed. */
struct omap_entry {
    const uint8_t *key;
    size_t key_len;
    const uint8_t *value; /* NULL with deleted */
    size_t value_len;
    bool deleted; /* a tombstone: hides the key in the layers below */
};

/* The order of the map, for those who merge it with another: below 0, 0 or above 0. */
static inline int omap_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
    size_t len = a_len < b_len ? a_len : b_len;
    int order = len != 0 ? memcmp(a, b, len) : 0;

    if (order != 0) {
        return order;
    }
    return a_len < b_len ? -1 : a_len > b_len;
}

struct omap *omap_new(void); /* NULL: no memory */
void omap_free(struct omap *map);

/* Copies key and value; value NULL stores a tombstone. ERR_MEMORY changes nothing. */
enum err omap_put(struct omap *map, const void *key, size_t key_len, const void *value,
                  size_t value_len);

/* Removes an entry for good; nothing if there is none. */
void omap_remove(struct omap *map, const void *key, size_t key_len);

/* The entry of this key, or NULL. */
const struct omap_entry *omap_get(const struct omap *map, const void *key, size_t key_len);

/* The first entry with a key >= key (key_len 0: the very first), or NULL. */
const struct omap_entry *omap_seek(const struct omap *map, const void *key, size_t key_len);

/* The entry behind `entry`, or NULL. */
const struct omap_entry *omap_next(const struct omap *map, const struct omap_entry *entry);

size_t omap_count(const struct omap *map);

/* Keys, values and bookkeeping, for limits. */
size_t omap_bytes(const struct omap *map);

#endif

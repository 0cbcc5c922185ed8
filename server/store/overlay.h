/* SPDX-License-Identifier: Apache-2.0
 *
 * The results of entries that are not yet in RocksDB: an active map that takes writes and a frozen
 * one that is being written to disk. Only the loop changes it; while a map is frozen the store
 * thread reads it too.
 */
#ifndef QUORUMFS_STORE_OVERLAY_H
#define QUORUMFS_STORE_OVERLAY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/limits.h"
#include "common/omap.h"

/* One of the two maps is full at this size, so that both together keep to OVERLAY_BYTES_MAX. */
#define OVERLAY_HALF_BYTES (OVERLAY_BYTES_MAX / 2)

struct overlay {
    struct omap *active; /* owned */
    struct omap *frozen; /* owned; NULL: none. Nobody changes it until it is taken back */
};

/* A place in both maps together: where a key is in both, the active one counts. */
struct overlay_cursor {
    const struct overlay *overlay;
    const struct omap_entry *active;
    const struct omap_entry *frozen;
};

/* ERR_MEMORY. */
enum err overlay_init(struct overlay *overlay);

/* Frees both maps. Fine for a zeroed struct. */
void overlay_done(struct overlay *overlay);

/* The newest entry of this key, perhaps a tombstone, or NULL: then the layer below knows. */
const struct omap_entry *overlay_get(const struct overlay *overlay, const void *key,
                                     size_t key_len);

/* The active map becomes the frozen one (there must be none) and a new one takes its place.
 * ERR_MEMORY changes nothing. */
enum err overlay_freeze(struct overlay *overlay);

/* Hands over the frozen map, which is in RocksDB now, to be freed by the caller. */
struct omap *overlay_take_frozen(struct overlay *overlay);

bool overlay_is_empty(const struct overlay *overlay);

/* The first place with a key >= key. Valid until the next write. */
void overlay_seek(const struct overlay *overlay, const void *key, size_t key_len,
                  struct overlay_cursor *out);

/* The entry at the cursor, perhaps a tombstone; NULL at the end. */
const struct omap_entry *overlay_cursor_get(const struct overlay_cursor *cursor);

void overlay_cursor_next(struct overlay_cursor *cursor);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The results of entries that are not yet in RocksDB: an active map that takes writes and up to two
 * frozen ones that are on their way to disk. Only the loop changes it; while a map is frozen the
 * store thread reads it too.
 */
#ifndef QUORUMFS_STORE_OVERLAY_H
#define QUORUMFS_STORE_OVERLAY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/limits.h"
#include "common/omap.h"

/* The active map is full at this size, so that it keeps with one frozen map to OVERLAY_BYTES_MAX. */
#define OVERLAY_HALF_BYTES (OVERLAY_BYTES_MAX / 2)

/* One that is being written, and one behind it for a checkpoint, which must not take in later
 * entries. */
#define OVERLAY_FROZEN_MAX 2u

struct overlay {
    struct omap *active; /* owned */
    /* Owned; the older one first, NULL behind the last. Nobody changes them until taken back. */
    struct omap *frozen[OVERLAY_FROZEN_MAX];
};

/* A place in all maps together: where a key is in several, the newest one counts. */
struct overlay_cursor {
    const struct overlay *overlay;
    const struct omap_entry *place[1 + OVERLAY_FROZEN_MAX]; /* the newest map first */
};

/* ERR_MEMORY. */
enum err overlay_init(struct overlay *overlay);

/* Frees all maps. Fine for a zeroed struct. */
void overlay_done(struct overlay *overlay);

/* The newest entry of this key, perhaps a tombstone, or NULL: then the layer below knows. */
const struct omap_entry *overlay_get(const struct overlay *overlay, const void *key,
                                     size_t key_len);

/* The active map becomes the newest frozen one (there must be room) and a new one takes its place.
 * ERR_MEMORY changes nothing. */
enum err overlay_freeze(struct overlay *overlay);

/* Hands over the oldest frozen map, which is in RocksDB now, to be freed by the caller. */
struct omap *overlay_take_frozen(struct overlay *overlay);

bool overlay_is_empty(const struct overlay *overlay);

/* Keys, values and bookkeeping of all maps. */
size_t overlay_bytes(const struct overlay *overlay);

/* The first place with a key >= key. Valid until the next write. */
void overlay_seek(const struct overlay *overlay, const void *key, size_t key_len,
                  struct overlay_cursor *out);

/* The entry at the cursor, perhaps a tombstone; NULL at the end. */
const struct omap_entry *overlay_cursor_get(const struct overlay_cursor *cursor);

void overlay_cursor_next(struct overlay_cursor *cursor);

#endif

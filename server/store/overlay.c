/* SPDX-License-Identifier: Apache-2.0
 *
 * The maps before RocksDB. store.c puts the results of entries here, reads here first, and hands
 * the frozen maps to store_thread.c, the oldest first.
 *
 * Invariants:
 *   1. A key in a newer map is newer than the same key in an older one, and that one is newer than
 *      the same key in RocksDB: a reader takes the first that it finds.
 *   2. A frozen map does not change while it is frozen, so that two threads may read it.
 */
#include "server/store/overlay.h"

#include "common/check.h"

#define MAPS (1u + OVERLAY_FROZEN_MAX)

/* The maps from the newest on; NULL: there is none in this place. */
static const struct omap *map_at(const struct overlay *overlay, size_t i)
{
    return i == 0 ? overlay->active : overlay->frozen[OVERLAY_FROZEN_MAX - i];
}

enum err overlay_init(struct overlay *overlay)
{
    *overlay = (struct overlay){.active = omap_new()};
    return overlay->active != NULL ? ERR_OK : ERR_MEMORY;
}

void overlay_done(struct overlay *overlay)
{
    omap_free(overlay->active);
    for (size_t i = 0; i < OVERLAY_FROZEN_MAX; i++) {
        omap_free(overlay->frozen[i]);
    }
    *overlay = (struct overlay){.active = NULL};
}

const struct omap_entry *overlay_get(const struct overlay *overlay, const void *key, size_t key_len)
{
    const struct omap_entry *entry = NULL;

    for (size_t i = 0; i < MAPS && entry == NULL; i++) {
        const struct omap *map = map_at(overlay, i);
        entry = map != NULL ? omap_get(map, key, key_len) : NULL;
    }
    return entry;
}

enum err overlay_freeze(struct overlay *overlay)
{
    struct omap *fresh = omap_new();
    size_t i = 0;

    while (i < OVERLAY_FROZEN_MAX && overlay->frozen[i] != NULL) {
        i++;
    }
    CHECK_OP(i, <, OVERLAY_FROZEN_MAX);
    if (fresh == NULL) {
        return ERR_MEMORY;
    }
    overlay->frozen[i] = overlay->active;
    overlay->active = fresh;
    return ERR_OK;
}

struct omap *overlay_take_frozen(struct overlay *overlay)
{
    struct omap *frozen = overlay->frozen[0];

    for (size_t i = 1; i < OVERLAY_FROZEN_MAX; i++) {
        overlay->frozen[i - 1] = overlay->frozen[i];
    }
    overlay->frozen[OVERLAY_FROZEN_MAX - 1] = NULL;
    return frozen;
}

bool overlay_is_empty(const struct overlay *overlay)
{
    return overlay->frozen[0] == NULL && omap_count(overlay->active) == 0;
}

size_t overlay_bytes(const struct overlay *overlay)
{
    size_t bytes = 0;

    for (size_t i = 0; i < MAPS; i++) {
        const struct omap *map = map_at(overlay, i);
        bytes += map != NULL ? omap_bytes(map) : 0;
    }
    return bytes;
}

void overlay_seek(const struct overlay *overlay, const void *key, size_t key_len,
                  struct overlay_cursor *out)
{
    *out = (struct overlay_cursor){.overlay = overlay};
    for (size_t i = 0; i < MAPS; i++) {
        const struct omap *map = map_at(overlay, i);
        out->place[i] = map != NULL ? omap_seek(map, key, key_len) : NULL;
    }
}

/* The order of two places; behind the last entry of a map is behind all keys. */
static int compare(const struct omap_entry *a, const struct omap_entry *b)
{
    if (a == NULL || b == NULL) {
        return (a == NULL) - (b == NULL);
    }
    return omap_compare(a->key, a->key_len, b->key, b->key_len);
}

const struct omap_entry *overlay_cursor_get(const struct overlay_cursor *cursor)
{
    const struct omap_entry *first = cursor->place[0];

    for (size_t i = 1; i < MAPS; i++) {
        first = compare(cursor->place[i], first) < 0 ? cursor->place[i] : first;
    }
    return first;
}

void overlay_cursor_next(struct overlay_cursor *cursor)
{
    /* It stays where it is while the places move: the maps do not change. */
    const struct omap_entry *first = overlay_cursor_get(cursor);

    for (size_t i = 0; i < MAPS && first != NULL; i++) {
        if (cursor->place[i] != NULL && compare(cursor->place[i], first) == 0) {
            cursor->place[i] = omap_next(map_at(cursor->overlay, i), cursor->place[i]);
        }
    }
}

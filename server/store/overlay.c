/* SPDX-License-Identifier: Apache-2.0
 *
 * The two maps before RocksDB. store.c puts the results of entries here, reads here first, and
 * hands the frozen map to store_thread.c.
 *
 * Invariants:
 *   1. A key in the active map is newer than the same key in the frozen one, and that one is newer
 *      than the same key in RocksDB: a reader takes the first that it finds.
 *   2. The frozen map does not change while it is frozen, so that two threads may read it.
 */
#include "server/store/overlay.h"

#include "common/check.h"

enum err overlay_init(struct overlay *overlay)
{
    *overlay = (struct overlay){.active = omap_new()};
    return overlay->active != NULL ? ERR_OK : ERR_MEMORY;
}

void overlay_done(struct overlay *overlay)
{
    omap_free(overlay->active);
    omap_free(overlay->frozen);
    *overlay = (struct overlay){.active = NULL};
}

const struct omap_entry *overlay_get(const struct overlay *overlay, const void *key, size_t key_len)
{
    const struct omap_entry *entry = omap_get(overlay->active, key, key_len);

    if (entry == NULL && overlay->frozen != NULL) {
        entry = omap_get(overlay->frozen, key, key_len);
    }
    return entry;
}

enum err overlay_freeze(struct overlay *overlay)
{
    struct omap *fresh = omap_new();

    CHECK(overlay->frozen == NULL);
    if (fresh == NULL) {
        return ERR_MEMORY;
    }
    overlay->frozen = overlay->active;
    overlay->active = fresh;
    return ERR_OK;
}

struct omap *overlay_take_frozen(struct overlay *overlay)
{
    struct omap *frozen = overlay->frozen;

    overlay->frozen = NULL;
    return frozen;
}

bool overlay_is_empty(const struct overlay *overlay)
{
    return overlay->frozen == NULL && omap_count(overlay->active) == 0;
}

void overlay_seek(const struct overlay *overlay, const void *key, size_t key_len,
                  struct overlay_cursor *out)
{
    *out = (struct overlay_cursor){
        .overlay = overlay,
        .active = omap_seek(overlay->active, key, key_len),
    };
    if (overlay->frozen != NULL) {
        out->frozen = omap_seek(overlay->frozen, key, key_len);
    }
}

/* Which of the two maps stands at the smaller key: below 0 the active one, above 0 the frozen one,
 * 0 both. */
static int compare_places(const struct overlay_cursor *cursor)
{
    if (cursor->active == NULL) {
        return cursor->frozen == NULL ? 0 : 1;
    }
    if (cursor->frozen == NULL) {
        return -1;
    }
    return omap_compare(cursor->active->key, cursor->active->key_len, cursor->frozen->key,
                        cursor->frozen->key_len);
}

const struct omap_entry *overlay_cursor_get(const struct overlay_cursor *cursor)
{
    return compare_places(cursor) <= 0 ? cursor->active : cursor->frozen;
}

void overlay_cursor_next(struct overlay_cursor *cursor)
{
    int order = compare_places(cursor);

    if (order <= 0 && cursor->active != NULL) {
        cursor->active = omap_next(cursor->overlay->active, cursor->active);
    }
    if (order >= 0 && cursor->frozen != NULL) {
        cursor->frozen = omap_next(cursor->overlay->frozen, cursor->frozen);
    }
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The rows of the tree: the tree reads and writes through the struct kv, replica.c calls
 * store_poll between entries, frozen overlays go to store_thread.c.
 *
 * Invariants:
 *   1. A frozen map holds the results of whole entries only, as it is frozen between two entries;
 *      so RocksDB always stands at the end of an entry, and its row of the applied index says of
 *      which.
 *   2. The frozen map is dropped only after its batch is in RocksDB: a reader never misses it.
 *   3. A job is on its way exactly while store_thread_is_busy(); a frozen map implies that.
 */
#include "server/store/store.h"

#include <signal.h>
#include <stdlib.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/logging.h"
#include "server/store/database.h"
#include "server/store/overlay.h"
#include "server/store/store_thread.h"

struct store {
    struct overlay overlay;
    struct database *database;   /* owned */
    struct store_thread *thread; /* owned */
    uint64_t now_ms;             /* of the last store_poll */
    uint64_t since_ms;           /* when store_poll first saw rows in the active overlay */
    bool has_since;
    uint64_t flushed_log_bytes; /* log_bytes when the last flush was asked for */
    bool has_log_bytes;         /* store_poll was called */
};

/* ---- The rows ---- */

static bool row_get(void *context, const void *key, size_t key_len, struct buffer *out)
{
    const struct store *store = context;
    const struct omap_entry *entry = overlay_get(&store->overlay, key, key_len);

    buffer_clear(out);
    if (entry == NULL) {
        return database_get(store->database, key, key_len, out);
    }
    if (entry->deleted) {
        return false;
    }
    enum err err = buffer_append(out, entry->value, entry->value_len);
    if (err != ERR_OK) {
        store_die("read_failed", err_text(err));
    }
    return true;
}

static void row_put(void *context, const void *key, size_t key_len, const void *value,
                    size_t value_len)
{
    struct store *store = context;

    /* For the map NULL is a tombstone, for the tree an empty value. */
    enum err err =
        omap_put(store->overlay.active, key, key_len, value != NULL ? value : "", value_len);
    if (err != ERR_OK) {
        /* The entry is half applied; the log has it whole. */
        store_die("apply_failed", err_text(err));
    }
}

static void row_remove(void *context, const void *key, size_t key_len)
{
    struct store *store = context;
    enum err err = omap_put(store->overlay.active, key, key_len, NULL, 0);

    if (err != ERR_OK) {
        store_die("apply_failed", err_text(err));
    }
}

/* The merge of overlay and RocksDB at one step. */
struct merge {
    struct overlay_cursor upper;
    struct database_cursor *lower;
    int order; /* below 0: the row is in the overlay only, above 0: in RocksDB only, 0: in both */
    struct omap_entry row;
};

/* Finds the next row of either side; false at the end of both. */
static bool merge_look(struct merge *merge)
{
    const struct omap_entry *upper = overlay_cursor_get(&merge->upper);
    struct omap_entry lower;
    bool has_lower = database_cursor_get(merge->lower, &lower);

    if (upper == NULL && !has_lower) {
        return false;
    }
    if (upper == NULL) {
        merge->order = 1;
    } else if (!has_lower) {
        merge->order = -1;
    } else {
        merge->order = omap_compare(upper->key, upper->key_len, lower.key, lower.key_len);
    }
    merge->row = merge->order > 0 ? lower : *upper;
    return true;
}

static void merge_next(struct merge *merge)
{
    if (merge->order <= 0) {
        overlay_cursor_next(&merge->upper);
    }
    if (merge->order >= 0) {
        database_cursor_next(merge->lower);
    }
}

static void row_scan(void *context, const void *from, size_t from_len, size_t prefix_len,
                     bool (*each)(void *arg, const uint8_t *key, size_t key_len,
                                  const uint8_t *value, size_t value_len),
                     void *arg)
{
    const struct store *store = context;
    struct merge merge = {.order = 0};

    CHECK_OP(prefix_len, <=, from_len);
    overlay_seek(&store->overlay, from, from_len, &merge.upper);
    merge.lower = database_cursor_open(store->database, from, from_len, prefix_len);
    while (merge_look(&merge)) {
        const struct omap_entry *row = &merge.row;
        if (row->key_len < prefix_len ||
            omap_compare(row->key, prefix_len, from, prefix_len) != 0) {
            break;
        }
        if (!row->deleted && !each(arg, row->key, row->key_len, row->value, row->value_len)) {
            break;
        }
        merge_next(&merge);
    }
    database_cursor_close(merge.lower);
}

struct kv store_kv(struct store *store)
{
    return (struct kv){
        .context = store,
        .get = row_get,
        .put = row_put,
        .remove = row_remove,
        .scan = row_scan,
    };
}

/* ---- Freezing ---- */

static bool is_half_full(const struct store *store)
{
    return omap_bytes(store->overlay.active) >= OVERLAY_HALF_BYTES;
}

/* Takes back what the thread has written. */
static void take_back(struct store *store)
{
    if (store_thread_take_back(store->thread)) {
        store_thread_dispose(store->thread, overlay_take_frozen(&store->overlay));
    }
    CHECK(store->overlay.frozen == NULL || store_thread_is_busy(store->thread));
}

/* Gives the active overlay to the thread. */
static void freeze(struct store *store, bool flush)
{
    const struct omap *map = NULL;

    CHECK(!store_thread_is_busy(store->thread));
    if (omap_count(store->overlay.active) > 0) {
        enum err err = overlay_freeze(&store->overlay);
        if (err != ERR_OK) {
            store_die("freeze_failed", err_text(err));
        }
        map = store->overlay.frozen;
    }
    store->has_since = false;
    store_thread_give(store->thread, map, flush);
}

void store_poll(struct store *store, uint64_t now_ms, uint64_t log_bytes)
{
    bool is_empty = omap_count(store->overlay.active) == 0;

    take_back(store);
    store->now_ms = now_ms;
    if (!is_empty && !store->has_since) {
        store->has_since = true;
        store->since_ms = now_ms;
    }
    /* The log was reset, or this is the first call. */
    if (!store->has_log_bytes || log_bytes < store->flushed_log_bytes) {
        store->has_log_bytes = true;
        store->flushed_log_bytes = log_bytes;
    }
    if (store_thread_is_busy(store->thread)) {
        return;
    }
    bool flush = log_bytes - store->flushed_log_bytes >= STORE_FLUSH_LOG_BYTES;
    bool is_old = store->has_since && now_ms >= store->since_ms + OVERLAY_FREEZE_MS;
    if (flush) {
        store->flushed_log_bytes = log_bytes;
    }
    if (flush || is_old || is_half_full(store)) {
        freeze(store, flush);
    }
}

bool store_is_full(const struct store *store)
{
    return store->overlay.frozen != NULL && is_half_full(store);
}

uint64_t store_deadline_ms(const struct store *store)
{
    if (omap_count(store->overlay.active) == 0 || store_thread_is_busy(store->thread)) {
        return UINT64_MAX; /* nothing to write, or `wake` will come */
    }
    /* Rows that no store_poll has seen yet are at least not older than the last one. */
    return (store->has_since ? store->since_ms : store->now_ms) + OVERLAY_FREEZE_MS;
}

void store_disk_space(const struct store *store, uint64_t *out_total, uint64_t *out_free)
{
    store_thread_disk_space(store->thread, out_total, out_free);
}

/* ---- Open and close ---- */

enum err store_open(const struct store_options *options, struct store **out, struct buffer *error)
{
    struct store *store = calloc(1, sizeof(*store));
    sigset_t all;
    sigset_t before;
    enum err err = ERR_OK;

    *out = NULL;
    /* The threads made here inherit the mask: signals belong to the main thread. */
    (void)sigfillset(&all);
    CHECK_OP(pthread_sigmask(SIG_SETMASK, &all, &before), ==, 0);
    if (store == NULL || overlay_init(&store->overlay) != ERR_OK) {
        err = ERR_MEMORY;
        (void)buffer_printf(error, "cannot open the store: %s", err_text(err));
        goto out;
    }
    err = database_open(options, &store->database, error);
    if (err != ERR_OK) {
        goto out;
    }
    err = store_thread_open(options, store->database, &store->thread);
    if (err != ERR_OK) {
        (void)buffer_printf(error, "cannot start the store thread: %s", err_text(err));
        goto out;
    }
    *out = store;
    store = NULL;
out:
    if (store != NULL) {
        database_close(store->database);
        overlay_done(&store->overlay);
        free(store);
    }
    CHECK_OP(pthread_sigmask(SIG_SETMASK, &before, NULL), ==, 0);
    return err;
}

void store_close(struct store *store)
{
    if (store == NULL) {
        return;
    }
    store_thread_wait(store->thread);
    take_back(store);
    if (!overlay_is_empty(&store->overlay)) {
        freeze(store, /* flush */ false);
    }
    /* The thread ends behind its last job; nobody else writes then. */
    store_thread_close(store->thread);
    database_flush(store->database, /* wait */ true);
    database_close(store->database);
    overlay_done(&store->overlay);
    free(store);
}

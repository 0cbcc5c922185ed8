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
 *   4. Maps come to RocksDB in their order, without one left out: later results stand on earlier
 *      ones. If one cannot be written, none behind it is.
 *
 * A checkpoint, for which a map is frozen at once, behind one that may be on its way:
 *
 *     NONE --start--> WAITS --the job before is done--> RUNS --taken back--> ENDED --poll--> NONE
 */
#include "server/store/store.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/logging.h"
#include "server/store/database.h"
#include "server/store/overlay.h"
#include "server/store/store_thread.h"

enum checkpoint_state {
    CHECKPOINT_NONE,
    CHECKPOINT_WAITS, /* its map is frozen and not yet given to the thread */
    CHECKPOINT_RUNS,  /* the thread has it */
    CHECKPOINT_ENDED, /* and nobody was told */
};

struct store {
    struct overlay overlay;
    struct database *database;   /* owned */
    struct store_thread *thread; /* owned */
    uint64_t now_ms;             /* of the last store_poll */
    uint64_t since_ms;           /* when store_poll first saw rows in the active overlay */
    bool has_since;
    uint64_t flushed_log_bytes; /* log_bytes when the last flush was asked for */
    bool has_log_bytes;         /* store_poll was called */
    bool job_has_map;           /* the thread writes the oldest frozen map */
    enum checkpoint_state checkpoint;
    char *checkpoint_folder; /* owned; NULL when there is none */
    enum err checkpoint_err;
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

static bool row_get_durable(void *context, const void *key, size_t key_len, struct buffer *out)
{
    buffer_clear(out);
    return store_get_persisted(context, key, key_len, out);
}

struct kv store_kv(struct store *store)
{
    return (struct kv){
        .context = store,
        .get = row_get,
        .get_durable = row_get_durable,
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

/* The active overlay, if it has rows, is frozen behind those that are. */
static void freeze(struct store *store)
{
    if (omap_count(store->overlay.active) > 0) {
        enum err err = overlay_freeze(&store->overlay);
        if (err != ERR_OK) {
            store_die("freeze_failed", err_text(err));
        }
    }
    store->has_since = false;
}

/* Gives the oldest frozen overlay, if there is one, to the thread. */
static void give(struct store *store, bool flush, const char *checkpoint)
{
    struct store_job job = {
        .map = store->overlay.frozen[0], .flush = flush, .checkpoint = checkpoint};

    CHECK(!store_thread_is_busy(store->thread));
    store->job_has_map = job.map != NULL;
    store_thread_give(store->thread, &job);
}

static void begin_checkpoint(struct store *store)
{
    CHECK(store->overlay.frozen[1] == NULL);
    store->checkpoint = CHECKPOINT_RUNS;
    give(store, /* flush */ false, store->checkpoint_folder);
}

/* Takes back what the thread has done. False: it gave up, as we close. */
static bool take_back(struct store *store)
{
    struct store_result result = {.is_written = true};

    if (!store_thread_take_back(store->thread, &result)) {
        return true;
    }
    if (store->checkpoint == CHECKPOINT_RUNS) {
        store->checkpoint = CHECKPOINT_ENDED;
        store->checkpoint_err = result.checkpoint_err;
    }
    if (store->job_has_map && result.is_written) {
        store_thread_dispose(store->thread, overlay_take_frozen(&store->overlay));
        store->job_has_map = false;
    }
    return result.is_written;
}

/* Takes back what is done, and begins what waited for that. */
static void go_on(struct store *store)
{
    bool is_written = take_back(store);

    CHECK(is_written);
    if (store->checkpoint == CHECKPOINT_WAITS && !store_thread_is_busy(store->thread)) {
        begin_checkpoint(store);
    }
    CHECK(store->overlay.frozen[0] == NULL || store_thread_is_busy(store->thread));
}

void store_poll(struct store *store, uint64_t now_ms, uint64_t log_bytes)
{
    bool is_empty = omap_count(store->overlay.active) == 0;

    go_on(store);
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
        freeze(store);
        give(store, flush, /* checkpoint */ NULL);
    }
}

bool store_is_full(const struct store *store)
{
    return store->overlay.frozen[0] != NULL &&
           (is_half_full(store) || overlay_bytes(&store->overlay) >= OVERLAY_BYTES_MAX);
}

bool store_get_persisted(const struct store *store, const void *key, size_t key_len,
                         struct buffer *out)
{
    return database_get_persisted(store->database, key, key_len, out);
}

/* ---- Checkpoints ---- */

enum err store_checkpoint_start(struct store *store, const char *folder)
{
    if (store->checkpoint != CHECKPOINT_NONE) {
        return ERR_BUSY;
    }
    store->checkpoint_folder = strdup(folder);
    if (store->checkpoint_folder == NULL) {
        return ERR_MEMORY;
    }
    go_on(store);
    /* Now, so that nothing later is in it; perhaps behind one that is on its way. */
    freeze(store);
    store->checkpoint = CHECKPOINT_WAITS;
    if (!store_thread_is_busy(store->thread)) {
        begin_checkpoint(store);
    }
    return ERR_OK;
}

bool store_checkpoint_poll(struct store *store, enum err *out_err)
{
    go_on(store);
    if (store->checkpoint != CHECKPOINT_ENDED) {
        return false;
    }
    *out_err = store->checkpoint_err;
    store->checkpoint = CHECKPOINT_NONE;
    free(store->checkpoint_folder);
    store->checkpoint_folder = NULL;
    return true;
}

/* ---- Figures ---- */

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
    bool is_written = false;
    store_thread_begin_close(store->thread);
    store_thread_wait(store->thread);
    is_written = take_back(store);
    while (is_written && !overlay_is_empty(&store->overlay)) {
        if (store->overlay.frozen[0] == NULL) {
            freeze(store);
        }
        give(store, /* flush */ false, /* checkpoint */ NULL);
        store_thread_wait(store->thread);
        is_written = take_back(store);
    }
    store_thread_close(store->thread);
    /* Nobody else writes now. */
    if (!is_written || database_flush(store->database, /* wait */ true) != ERR_OK) {
        log_warn("store", "closed_on_full_disk", "action=\"the log has what is missing\"");
    }
    database_close(store->database);
    overlay_done(&store->overlay);
    free(store->checkpoint_folder);
    free(store);
}

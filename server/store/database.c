/* SPDX-License-Identifier: Apache-2.0
 *
 * RocksDB behind few functions: store.c reads through it on the loop, store_thread.c writes through
 * it. Opening and the options are in database_open.c.
 *
 * Invariants:
 *   1. The WAL is off. What a crash leaves is the state after some batch, as RocksDB keeps a batch
 *      whole in one memtable and flushes memtables in order; the log has all later entries.
 *   2. One column family: several tear at a crash without WAL (CONSENSUS, Decisions).
 */
#include "server/store/database_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/logging.h"

/* An upper bound longer than this is not given to RocksDB; the prefix is compared anyway. */
#define BOUND_BYTES_MAX 512u

struct database_cursor {
    rocksdb_readoptions_t *options;
    rocksdb_iterator_t *iterator;
    char bound[BOUND_BYTES_MAX]; /* RocksDB keeps a pointer to it while the iterator lives */
};

_Noreturn void store_die(const char *event, const char *error)
{
    log_error("store", event, "error=\"%s\"", error);
    /* Not exit(): other threads of RocksDB run on, and nothing has to be saved that the log lacks. */
    _exit(1);
}

enum err database_error(const char *text)
{
    return strstr(text, strerror(ENOSPC)) != NULL ? ERR_NO_SPACE : ERR_IO;
}

static bool get(const struct database *database, const rocksdb_readoptions_t *options,
                const void *key, size_t key_len, struct buffer *out)
{
    char *error = NULL;
    size_t len = 0;
    const char *value = NULL;
    enum err err = ERR_OK;
    /* Pinned: the bytes are copied once, from the block cache into the caller's buffer. */
    rocksdb_pinnableslice_t *slice =
        rocksdb_get_pinned(database->db, options, key, key_len, &error);

    if (error != NULL) {
        store_die("read_failed", error);
    }
    if (slice == NULL) {
        return false;
    }
    value = rocksdb_pinnableslice_value(slice, &len);
    err = buffer_append(out, value, len);
    rocksdb_pinnableslice_destroy(slice);
    if (err != ERR_OK) {
        store_die("read_failed", err_text(err));
    }
    return true;
}

bool database_get(const struct database *database, const void *key, size_t key_len,
                  struct buffer *out)
{
    return get(database, database->read_options, key, key_len, out);
}

bool database_get_persisted(const struct database *database, const void *key, size_t key_len,
                            struct buffer *out)
{
    return get(database, database->persisted_options, key, key_len, out);
}

/* What is to be done about the error of a write, which is freed: wait for space, or end. */
static enum err judge(const char *event, char *error)
{
    if (error == NULL) {
        return ERR_OK;
    }
    if (database_error(error) != ERR_NO_SPACE) {
        store_die(event, error);
    }
    rocksdb_free(error);
    return ERR_NO_SPACE;
}

enum err database_write(struct database *database, const struct omap *map)
{
    char *error = NULL;
    int count = 0;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();

    for (const struct omap_entry *entry = omap_seek(map, NULL, 0); entry != NULL;
         entry = omap_next(map, entry)) {
        const char *key = (const char *)entry->key;
        if (entry->deleted) {
            rocksdb_writebatch_delete(batch, key, entry->key_len);
        } else {
            rocksdb_writebatch_put(batch, key, entry->key_len, (const char *)entry->value,
                                   entry->value_len);
        }
        count++;
    }
    CHECK_OP((size_t)count, ==, omap_count(map));
    CHECK_OP(rocksdb_writebatch_count(batch), ==, count);
    rocksdb_write(database->db, database->write_options, batch, &error);
    rocksdb_writebatch_destroy(batch);
    return judge("write_failed", error);
}

/* Whether anything is in memory only. */
static bool has_unflushed(const struct database *database)
{
    uint64_t active = 0;
    uint64_t immutable = 0;

    if (rocksdb_property_int(database->db, "rocksdb.num-entries-active-mem-table", &active) != 0 ||
        rocksdb_property_int(database->db, "rocksdb.num-immutable-mem-table", &immutable) != 0) {
        store_die("flush_failed", "a property of RocksDB is missing");
    }
    return active + immutable > 0;
}

enum err database_flush(struct database *database, bool wait)
{
    char *error = NULL;
    enum err err = ERR_OK;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();

    rocksdb_flushoptions_set_wait(options, wait);
    rocksdb_flush(database->db, options, &error);
    rocksdb_flushoptions_destroy(options);
    err = judge("flush_failed", error);
    /* A flush that found the disk full while RocksDB was recovering from another is told as done
     * (facebook/rocksdb#8046). */
    return err == ERR_OK && wait && has_unflushed(database) ? ERR_NO_SPACE : err;
}

/* The smallest byte string above all that begin with the prefix: the prefix without its trailing
 * 0xff bytes, its last byte one higher. 0: there is none, or it is too long for us. */
static size_t bound_of_prefix(const void *prefix, size_t prefix_len, char *bound)
{
    const unsigned char *bytes = prefix;

    while (prefix_len > 0 && bytes[prefix_len - 1] == 0xff) {
        prefix_len--;
    }
    if (prefix_len == 0 || prefix_len > BOUND_BYTES_MAX) {
        return 0;
    }
    memcpy(bound, prefix, prefix_len);
    bound[prefix_len - 1] = (char)(bytes[prefix_len - 1] + 1);
    return prefix_len;
}

struct database_cursor *database_cursor_open(const struct database *database, const void *from,
                                             size_t from_len, size_t prefix_len)
{
    struct database_cursor *cursor = malloc(sizeof(*cursor));
    size_t bound_len = 0;

    CHECK_OP(prefix_len, <=, from_len);
    if (cursor == NULL) {
        store_die("read_failed", err_text(ERR_MEMORY));
    }
    cursor->options = rocksdb_readoptions_create();
    /* With the bound RocksDB does not walk over deleted rows behind the last one that we want. */
    bound_len = bound_of_prefix(from, prefix_len, cursor->bound);
    if (bound_len != 0) {
        rocksdb_readoptions_set_iterate_upper_bound(cursor->options, cursor->bound, bound_len);
    }
    cursor->iterator = rocksdb_create_iterator(database->db, cursor->options);
    rocksdb_iter_seek(cursor->iterator, from_len != 0 ? from : "", from_len);
    return cursor;
}

void database_cursor_close(struct database_cursor *cursor)
{
    rocksdb_iter_destroy(cursor->iterator);
    rocksdb_readoptions_destroy(cursor->options);
    free(cursor);
}

bool database_cursor_get(const struct database_cursor *cursor, struct omap_entry *out_row)
{
    char *error = NULL;

    if (!rocksdb_iter_valid(cursor->iterator)) {
        rocksdb_iter_get_error(cursor->iterator, &error);
        if (error != NULL) {
            store_die("read_failed", error);
        }
        return false;
    }
    *out_row = (struct omap_entry){.deleted = false};
    out_row->key = (const uint8_t *)rocksdb_iter_key(cursor->iterator, &out_row->key_len);
    out_row->value = (const uint8_t *)rocksdb_iter_value(cursor->iterator, &out_row->value_len);
    return true;
}

void database_cursor_next(struct database_cursor *cursor)
{
    rocksdb_iter_next(cursor->iterator);
}

void database_close(struct database *database)
{
    if (database == NULL) {
        return;
    }
    if (database->db != NULL) {
        rocksdb_close(database->db);
    }
    if (database->read_options != NULL) {
        rocksdb_readoptions_destroy(database->read_options);
    }
    if (database->persisted_options != NULL) {
        rocksdb_readoptions_destroy(database->persisted_options);
    }
    if (database->write_options != NULL) {
        rocksdb_writeoptions_destroy(database->write_options);
    }
    free(database->folder);
    free(database);
}

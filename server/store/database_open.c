/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening RocksDB: the folder, the options, and sentences for what can go wrong. store.c calls it
 * once; afterwards database.c works on what this file made.
 *
 * The options keep an idle replica small (64 MiB in all) and the start independent of the size of
 * the tree: few threads, bounded caches, no file opened or measured before it is needed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/check.h"
#include "common/limits.h"
#include "server/store/database_internal.h"

#define BLOCK_CACHE_BYTES_DEFAULT  (16u * MIB)
#define WRITE_BUFFER_BYTES_DEFAULT (8u * MIB)
#define WRITE_BUFFER_BYTES_MIN     (64u * KIB) /* what RocksDB itself raises it to */
#define WRITE_BUFFERS_MAX          3 /* one takes writes, one is flushed, one for bursts */
#define ARENA_BLOCK_BYTES_MAX      (256u * KIB) /* RocksDB would take an eighth of the buffer */
#define OPEN_FILES_MAX             256
#define BLOOM_BITS_PER_KEY         10.0
#define BLOB_BYTES_MIN             (4u * KIB) /* larger values leave the sorted files */
#define BLOB_FILE_BYTES            (64u * MIB)
#define BLOB_GARBAGE_PART          0.5        /* a blob file with more garbage is rewritten */
#define BACKGROUND_JOBS_MAX        2          /* one flush, one compaction */
#define SYNC_STEP_BYTES            (1u * MIB) /* no long stall of other fsyncs at a flush */
#define INFO_LOG_LEVEL_FATAL       4          /* InfoLogLevel of RocksDB */
#define INFO_LOG_BYTES_MAX         (1u * MIB)
#define INFO_LOG_FILES_MAX         2

#define READ_TIER_PERSISTED 2 /* kPersistedTier: not the memtables */

static void set_table_options(rocksdb_options_t *options, size_t cache_bytes)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_cache_t *cache = rocksdb_cache_create_lru(cache_bytes);

    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_cache_destroy(cache); /* the table options keep a reference */
    rocksdb_block_based_options_set_format_version(table, 5);
    rocksdb_block_based_options_set_filter_policy(
        table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS_PER_KEY));
    /* Indexes and filters live in the cache too, in small parts: else they would grow in memory
     * with the tree. */
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
    rocksdb_block_based_options_set_pin_top_level_index_and_filter(table, 1);
    rocksdb_block_based_options_set_index_type(
        table, rocksdb_block_based_table_index_type_two_level_index_search);
    rocksdb_block_based_options_set_partition_filters(table, 1);
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
}

static void set_memory_options(rocksdb_options_t *options, size_t buffer_bytes)
{
    size_t arena_bytes = buffer_bytes / 8;

    if (arena_bytes > ARENA_BLOCK_BYTES_MAX) {
        arena_bytes = ARENA_BLOCK_BYTES_MAX;
    }
    rocksdb_options_set_write_buffer_size(options, buffer_bytes);
    rocksdb_options_set_max_write_buffer_number(options, WRITE_BUFFERS_MAX);
    rocksdb_options_set_arena_block_size(options, arena_bytes);
    rocksdb_options_set_allow_concurrent_memtable_write(options, 0); /* one thread writes */
    rocksdb_options_set_enable_write_thread_adaptive_yield(options, 0);
    rocksdb_options_set_max_open_files(options, OPEN_FILES_MAX);
    rocksdb_options_set_max_background_jobs(options, BACKGROUND_JOBS_MAX);
    rocksdb_options_set_stats_dump_period_sec(options, 0); /* else one thread more */
    rocksdb_options_set_stats_persist_period_sec(options, 0);
}

static void set_file_options(rocksdb_options_t *options)
{
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1);
    rocksdb_options_set_enable_blob_files(options, 1);
    rocksdb_options_set_min_blob_size(options, BLOB_BYTES_MIN);
    rocksdb_options_set_blob_file_size(options, BLOB_FILE_BYTES);
    rocksdb_options_set_blob_compression_type(options, rocksdb_no_compression);
    rocksdb_options_set_enable_blob_gc(options, 1);
    rocksdb_options_set_blob_gc_age_cutoff(options, BLOB_GARBAGE_PART);
    rocksdb_options_set_blob_gc_force_threshold(options, BLOB_GARBAGE_PART);
    rocksdb_options_set_bytes_per_sync(options, SYNC_STEP_BYTES);
    /* Both would make the start depend on the number of files. */
    rocksdb_options_set_skip_stats_update_on_db_open(options, 1);
    rocksdb_options_set_skip_checking_sst_file_sizes_on_db_open(options, 1);
    /* No more than a head. Debian's library has its assertions on, and one of them aborts the
     * process when a line is to be written behind one that found the disk full; errors reach our
     * own log anyway. */
    rocksdb_options_set_info_log_level(options, INFO_LOG_LEVEL_FATAL);
    rocksdb_options_set_max_log_file_size(options, INFO_LOG_BYTES_MAX);
    rocksdb_options_set_keep_log_file_num(options, INFO_LOG_FILES_MAX);
}

static rocksdb_options_t *make_options(const struct store_options *from)
{
    rocksdb_options_t *options = rocksdb_options_create();
    size_t cache_bytes = from->block_cache_bytes;
    size_t buffer_bytes = from->write_buffer_bytes;

    if (cache_bytes == 0) {
        cache_bytes = BLOCK_CACHE_BYTES_DEFAULT;
    }
    if (buffer_bytes == 0) {
        buffer_bytes = WRITE_BUFFER_BYTES_DEFAULT;
    }
    if (buffer_bytes < WRITE_BUFFER_BYTES_MIN) {
        buffer_bytes = WRITE_BUFFER_BYTES_MIN;
    }
    rocksdb_options_set_create_if_missing(options, 1);
    set_table_options(options, cache_bytes);
    set_memory_options(options, buffer_bytes);
    set_file_options(options);
    return options;
}

/* Whether the folder has table files but not the file that names the current state. RocksDB would
 * take it for new, make an empty database and delete the tables. */
static bool has_lost_current(int folder_fd)
{
    bool has_tables = false;
    const struct dirent *file = NULL;
    int fd = -1;
    DIR *folder = NULL;

    if (faccessat(folder_fd, "CURRENT", F_OK, 0) == 0) {
        return false;
    }
    fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    folder = fd >= 0 ? fdopendir(fd) : NULL;
    if (folder == NULL) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return false;
    }
    while (!has_tables && (file = readdir(folder)) != NULL) {
        const char *dot = strrchr(file->d_name, '.');
        has_tables = dot != NULL && strcmp(dot, ".sst") == 0;
    }
    (void)closedir(folder);
    return has_tables;
}

/* Only what the callers of store_open know; another errno is told in the sentence. */
static enum err folder_error(int code)
{
    return code == ENOSPC || code == EDQUOT ? ERR_NO_SPACE : code == ENOMEM ? ERR_MEMORY : ERR_IO;
}

/* The folder must not vanish at a power loss: its name is written in its parent. */
static enum err sync_parent(int folder_fd)
{
    int fd = openat(folder_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = ERR_OK;

    if (fd < 0 || fsync(fd) != 0) {
        err = folder_error(errno);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

/* Makes the folder if it is missing and looks whether we may work in it. */
static enum err prepare_folder(const char *path, struct buffer *error)
{
    enum err err = ERR_OK;
    bool is_new = mkdir(path, 0700) == 0;
    int fd = -1;

    if (!is_new && errno != EEXIST) {
        err = folder_error(errno);
        (void)buffer_printf(error, "cannot make the data folder %s: %s", path, strerror(errno));
        goto out;
    }
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        err = folder_error(errno);
        (void)buffer_printf(error, "cannot open the data folder %s: %s", path, strerror(errno));
        goto out;
    }
    if (faccessat(fd, ".", R_OK | W_OK | X_OK, AT_EACCESS) != 0) {
        err = ERR_IO;
        (void)buffer_printf(error, "cannot write to the data folder %s: %s", path, strerror(errno));
        goto out;
    }
    if (is_new) {
        err = sync_parent(fd);
        if (err != ERR_OK) {
            (void)buffer_printf(error, "cannot sync the folder above %s: %s", path, err_text(err));
        }
    } else if (has_lost_current(fd)) {
        err = ERR_CORRUPT;
        (void)buffer_printf(error, "data folder %s is damaged: it has tables but no CURRENT", path);
    }
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

/* RocksDB has no error numbers in C, only texts of its Status. */
static enum err explain(const char *folder, const char *text, struct buffer *error)
{
    bool is_lock = strstr(text, "/LOCK: ") != NULL;

    if ((is_lock && strstr(text, strerror(EAGAIN)) != NULL) ||
        strstr(text, "lock hold by current process") != NULL) {
        (void)buffer_printf(error, "data folder %s is in use by another quorumd", folder);
        return ERR_BUSY;
    }
    (void)buffer_printf(error, "cannot open the data folder %s: %s", folder, text);
    if (strstr(text, strerror(ENOSPC)) != NULL) {
        return ERR_NO_SPACE;
    }
    return strncmp(text, "Corruption", strlen("Corruption")) == 0 ? ERR_CORRUPT : ERR_IO;
}

enum err database_open(const struct store_options *options, struct database **out,
                       struct buffer *error)
{
    struct database *database = NULL;
    rocksdb_options_t *db_options = NULL;
    char *text = NULL;
    enum err err = prepare_folder(options->folder, error);

    *out = NULL;
    if (err != ERR_OK) {
        goto out;
    }
    database = calloc(1, sizeof(*database));
    if (database == NULL || (database->folder = strdup(options->folder)) == NULL) {
        err = ERR_MEMORY;
        (void)buffer_printf(error, "cannot open the store: %s", err_text(err));
        goto out;
    }
    db_options = make_options(options);
    database->read_options = rocksdb_readoptions_create();
    database->persisted_options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(database->persisted_options, READ_TIER_PERSISTED);
    database->write_options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(database->write_options, 1);
    database->db = rocksdb_open(db_options, options->folder, &text);
    if (text != NULL) {
        CHECK(database->db == NULL);
        err = explain(options->folder, text, error);
        goto out;
    }
    *out = database;
    database = NULL;
out:
    database_close(database);
    rocksdb_free(text);
    if (db_options != NULL) {
        rocksdb_options_destroy(db_options);
    }
    return err;
}

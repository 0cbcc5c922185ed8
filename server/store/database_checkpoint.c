/* SPDX-License-Identifier: Apache-2.0
 *
 * A checkpoint of RocksDB: a folder with links to its table files and a copy of what names them, a
 * database of its own. store_thread.c asks for it; snapshots are read from it (CONSENSUS,
 * Decisions).
 *
 * RocksDB flushes, makes the files under another name, and renames the folder last. It syncs its
 * tables when it makes them; here all files, the folder and its parent are synced, so that a
 * checkpoint that was reported survives power loss whole.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "common/logging.h"
#include "server/store/database_internal.h"

/* Calls each() for every file in the folder, which is open, until one fails. */
static enum err for_each_file(int folder_fd, enum err (*each)(int folder_fd, const char *name))
{
    int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *file = NULL;
    enum err err = ERR_OK;

    if (folder == NULL) {
        err = err_from_errno(errno);
        if (fd >= 0) {
            (void)close(fd);
        }
        return err;
    }
    while (err == ERR_OK && (errno = 0, file = readdir(folder)) != NULL) {
        if (file->d_name[0] != '.') {
            err = each(folder_fd, file->d_name);
        }
    }
    if (err == ERR_OK && errno != 0) {
        err = err_from_errno(errno);
    }
    (void)closedir(folder);
    return err;
}

static enum err remove_file(int folder_fd, const char *name)
{
    return unlinkat(folder_fd, name, 0) == 0 ? ERR_OK : err_from_errno(errno);
}

static enum err sync_file(int folder_fd, const char *name)
{
    int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC);
    enum err err = ERR_OK;

    if (fd < 0 || fsync(fd) != 0) {
        err = err_from_errno(errno);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

/* Removes the folder, if it is there, with the files in it. */
static void remove_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) {
        return;
    }
    /* What cannot be removed stays; the caller has an error to report anyway. */
    (void)for_each_file(fd, remove_file);
    (void)close(fd);
    (void)rmdir(path);
}

static enum err sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = fd >= 0 ? ERR_OK : err_from_errno(errno);

    if (err == ERR_OK) {
        err = for_each_file(fd, sync_file);
    }
    if (err == ERR_OK) {
        err = sync_file(fd, ".");
    }
    if (err == ERR_OK) {
        err = sync_file(fd, "..");
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

static enum err create(struct database *database, const char *folder)
{
    char *error = NULL;
    enum err err = ERR_OK;
    rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(database->db, &error);

    if (error == NULL) {
        /* 0: whatever the size of its WAL, which we do not have, it flushes. */
        rocksdb_checkpoint_create(checkpoint, folder, 0, &error);
    }
    if (error != NULL) {
        /* Here, as the text goes no further. */
        log_warn("store", "checkpoint_failed", "folder=\"%s\" error=\"%s\"", folder, error);
        err = database_error(error);
        rocksdb_free(error);
    }
    if (checkpoint != NULL) {
        rocksdb_checkpoint_object_destroy(checkpoint);
    }
    return err;
}

enum err database_checkpoint(struct database *database, const char *folder)
{
    char unfinished[PATH_MAX];
    int len = snprintf(unfinished, sizeof(unfinished), "%s.tmp", folder);
    enum err err = ERR_OK;

    if (len < 0 || (size_t)len >= sizeof(unfinished)) {
        return ERR_NAME_TOO_LONG;
    }
    if (access(folder, F_OK) == 0) {
        return ERR_EXISTS;
    }
    err = create(database, folder);
    if (err == ERR_OK) {
        err = sync_folder(folder);
    }
    if (err != ERR_OK) {
        remove_folder(unfinished);
        remove_folder(folder);
    }
    return err;
}

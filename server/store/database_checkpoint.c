/* SPDX-License-Identifier: Apache-2.0
 *
 * A checkpoint of RocksDB: a folder with links to its table files and a copy of what names them, a
 * database of its own. store_thread.c asks for it; snapshots are read from it (CONSENSUS,
 * Decisions).
 *
 * Made here and not by RocksDB: its own function waits for the end of purges under way, and misses
 * the signal of it if it comes at the wrong moment (version 7.8; the thread stands still for ever). It
 * takes no more than this: flush, as there is no WAL; keep all files from being deleted; copy the
 * MANIFEST, which only grows, so that what was copied names files that are whole; link all files.
 * What the copy does not name is removed by RocksDB when it opens the checkpoint.
 *
 * The folder gets its name last, when all files and the folder are synced, so that a checkpoint that
 * was reported survives power loss whole.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/limits.h"
#include "common/logging.h"
#include "server/store/database_internal.h"

/* Calls each() for every file in the folder, which is open, until one fails. to_fd is handed on. */
static enum err for_each_file(int folder_fd, int to_fd,
                              enum err (*each)(int folder_fd, int to_fd, const char *name))
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
            err = each(folder_fd, to_fd, file->d_name);
        }
    }
    if (err == ERR_OK && errno != 0) {
        err = err_from_errno(errno);
    }
    (void)closedir(folder);
    return err;
}

static enum err remove_file(int folder_fd, int to_fd, const char *name)
{
    (void)to_fd;
    return unlinkat(folder_fd, name, 0) == 0 ? ERR_OK : err_from_errno(errno);
}

static enum err sync_file(int folder_fd, int to_fd, const char *name)
{
    (void)to_fd;
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
    (void)for_each_file(fd, -1, remove_file);
    (void)close(fd);
    (void)rmdir(path);
}

static enum err sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = fd >= 0 ? ERR_OK : err_from_errno(errno);

    if (err == ERR_OK) {
        err = for_each_file(fd, -1, sync_file);
    }
    if (err == ERR_OK) {
        err = sync_file(fd, -1, ".");
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

/* So that the name of the folder is not lost. */
static enum err sync_parent(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = fd >= 0 ? sync_file(fd, -1, "..") : err_from_errno(errno);

    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

/* The error for what RocksDB said, which is freed. Logged, as the text goes no further. */
static enum err take_error(char *error, const char *what, const char *folder)
{
    enum err err = ERR_OK;

    if (error != NULL) {
        log_warn("store", "checkpoint_failed", "folder=\"%s\" step=%s error=\"%s\"", folder, what,
                 error);
        err = database_error(error);
        rocksdb_free(error);
    }
    return err;
}

static enum err write_all(int fd, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t done = write(fd, bytes, len);
        if (done < 0) {
            return err_from_errno(errno);
        }
        bytes += done;
        len -= (size_t)done;
    }
    return ERR_OK;
}

/* Copies what a file holds now. */
static enum err copy_file(int from_folder, int to_folder, const char *name)
{
    uint8_t bytes[64 * KIB];
    int from = openat(from_folder, name, O_RDONLY | O_CLOEXEC);
    int to = openat(to_folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    enum err err = from >= 0 && to >= 0 ? ERR_OK : err_from_errno(errno);
    ssize_t len = 1;

    while (err == ERR_OK && len > 0) {
        len = read(from, bytes, sizeof(bytes));
        err = len < 0 ? err_from_errno(errno) : write_all(to, bytes, (size_t)len);
    }
    if (from >= 0) {
        (void)close(from);
    }
    if (to >= 0 && close(to) != 0 && err == ERR_OK) {
        err = err_from_errno(errno);
    }
    return err;
}

/* CURRENT, and the MANIFEST that it names. */
static enum err copy_manifest(int from, int to)
{
    char name[NAME_MAX + 2];
    int fd = -1;
    ssize_t len = 0;
    enum err err = copy_file(from, to, "CURRENT");

    if (err != ERR_OK) {
        return err;
    }
    /* The copy: the other one may name another by now. */
    fd = openat(to, "CURRENT", O_RDONLY | O_CLOEXEC);
    len = fd >= 0 ? read(fd, name, sizeof(name) - 1) : -1;
    err = len >= 0 ? ERR_OK : err_from_errno(errno);
    if (fd >= 0) {
        (void)close(fd);
    }
    if (err != ERR_OK) {
        return err;
    }
    name[len] = '\0';
    name[strcspn(name, "\n")] = '\0';
    return copy_file(from, to, name);
}

static bool is_table(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot != NULL && (strcmp(dot, ".sst") == 0 || strcmp(dot, ".blob") == 0);
}

/* A file that is gone was on its way out before deletions were stopped: the copy does not name it. */
static enum err link_table(int folder_fd, int to_fd, const char *name)
{
    bool is_done =
        !is_table(name) || linkat(folder_fd, name, to_fd, name, 0) == 0 || errno == ENOENT;

    return is_done ? ERR_OK : err_from_errno(errno);
}

/* Makes the files, while none is deleted. */
static enum err fill(const struct database *database, const char *folder)
{
    int from = open(database->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int to = from >= 0 && mkdir(folder, 0700) == 0
                 ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                 : -1;
    enum err err = to >= 0 ? copy_manifest(from, to) : err_from_errno(errno);

    if (err == ERR_OK) {
        err = for_each_file(from, to, link_table);
    }
    if (from >= 0) {
        (void)close(from);
    }
    if (to >= 0) {
        (void)close(to);
    }
    return err;
}

static enum err create(struct database *database, const char *folder)
{
    char *error = NULL;
    enum err err = database_flush(database, true /* wait */);
    enum err enabled = ERR_OK;

    if (err != ERR_OK) {
        return err;
    }
    rocksdb_disable_file_deletions(database->db, &error);
    err = take_error(error, "keep", folder);
    if (err != ERR_OK) {
        return err;
    }
    err = fill(database, folder);
    error = NULL;
    rocksdb_enable_file_deletions(database->db, 0, &error);
    enabled = take_error(error, "release", folder);
    return err == ERR_OK ? enabled : err;
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
    remove_folder(unfinished); /* of a process that ended in the middle */
    err = create(database, unfinished);
    if (err == ERR_OK) {
        err = sync_folder(unfinished);
    }
    if (err == ERR_OK && rename(unfinished, folder) != 0) {
        err = err_from_errno(errno);
    }
    if (err == ERR_OK) {
        err = sync_parent(folder);
    }
    if (err != ERR_OK) {
        log_warn("store", "checkpoint_failed", "folder=\"%s\" error=\"%s\"", folder, err_text(err));
        remove_folder(unfinished);
        remove_folder(folder);
        err = err == ERR_NO_SPACE ? err : ERR_IO; /* of a file: not what the caller may know */
    }
    return err;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Files and renames of snapshots. Called by daemon.c at the start and by net/snapshot_*.c, which
 * move the bytes.
 */
#include "server/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/limits.h"

#define PATH_BYTES 700u

static void path_of(char to[PATH_BYTES], const char *folder, const char *name)
{
    /* Shortened only for a data folder beyond what the configuration takes: then nothing is found. */
    (void)snprintf(to, PATH_BYTES, "%.600s/%.90s", folder, name);
}

static enum err sync_path(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    enum err err = ERR_OK;

    if (fd < 0 || fsync(fd) != 0) {
        err = err_from_errno(errno);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

static enum err sync_folder(const char *folder)
{
    return sync_path(folder, O_RDONLY | O_DIRECTORY);
}

static bool exists(const char *path)
{
    struct stat attr;

    return lstat(path, &attr) == 0;
}

/* ---- lists ---- */

void snapshot_done(struct snapshot *snapshot)
{
    free(snapshot->files);
    *snapshot = (struct snapshot){.id = 0};
}

bool snapshot_name_is_good(const char *name, size_t len)
{
    if (len == 0 || len >= SNAPSHOT_NAME_BYTES || name[0] == '.') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        char letter = name[i];
        bool good = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
                    (letter >= '0' && letter <= '9') || letter == '-' || letter == '_' ||
                    letter == '.';
        if (!good) {
            return false;
        }
    }
    return true;
}

static enum err add_file(struct snapshot *snapshot, size_t *capacity, const char *folder,
                         const char *name)
{
    char path[PATH_BYTES];
    struct stat attr = {0};
    struct snapshot_file *file = NULL;

    path_of(path, folder, name);
    if (lstat(path, &attr) != 0) {
        return err_from_errno(errno);
    }
    if (!S_ISREG(attr.st_mode) || !snapshot_name_is_good(name, strlen(name))) {
        return ERR_CORRUPT;
    }
    if (snapshot->file_count == SNAPSHOT_FILES_MAX) {
        return ERR_LIMIT;
    }
    if (snapshot->file_count == *capacity) {
        size_t wanted = *capacity == 0 ? 64 : *capacity * 2;
        file = reallocarray(snapshot->files, wanted, sizeof(*file));
        if (file == NULL) {
            return ERR_MEMORY;
        }
        snapshot->files = file;
        *capacity = wanted;
    }
    file = &snapshot->files[snapshot->file_count++];
    (void)snprintf(file->name, sizeof(file->name), "%s", name);
    file->bytes = (uint64_t)attr.st_size;
    return ERR_OK;
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

enum err snapshot_list(const char *folder, struct snapshot *out)
{
    DIR *handle = opendir(folder);
    const struct dirent *entry = NULL;
    size_t capacity = 0;
    enum err err = ERR_OK;

    if (handle == NULL) {
        return err_from_errno(errno);
    }
    out->file_count = 0;
    out->files = NULL;
    while (err == ERR_OK && (entry = readdir(handle)) != NULL) {
        if (!is_dots(entry->d_name)) {
            err = add_file(out, &capacity, folder, entry->d_name);
        }
    }
    (void)closedir(handle);
    if (err != ERR_OK) {
        free(out->files);
        out->files = NULL;
        out->file_count = 0;
    }
    return err;
}

enum err snapshot_remove_folder(const char *folder)
{
    DIR *handle = opendir(folder);
    const struct dirent *entry = NULL;
    char path[PATH_BYTES];

    if (handle == NULL) {
        return errno == ENOENT ? ERR_OK : err_from_errno(errno);
    }
    while ((entry = readdir(handle)) != NULL) {
        path_of(path, folder, entry->d_name);
        if (!is_dots(entry->d_name) && unlink(path) != 0 && errno != ENOENT) {
            enum err err = err_from_errno(errno);
            (void)closedir(handle);
            return err;
        }
    }
    (void)closedir(handle);
    return rmdir(folder) == 0 || errno == ENOENT ? ERR_OK : err_from_errno(errno);
}

/* ---- taking ---- */

static enum err remove_mark(const char *data)
{
    char mark[PATH_BYTES];

    path_of(mark, data, "incoming.complete");
    if (unlink(mark) != 0) {
        return errno == ENOENT ? ERR_OK : err_from_errno(errno);
    }
    return sync_folder(data);
}

enum err snapshot_take_begin(const char *data)
{
    char incoming[PATH_BYTES];
    enum err err = remove_mark(data);

    path_of(incoming, data, "incoming");
    err = err == ERR_OK ? snapshot_remove_folder(incoming) : err;
    if (err == ERR_OK && mkdir(incoming, 0700) != 0) {
        err = err_from_errno(errno);
    }
    return err;
}

static enum err check_and_sync(const char *folder, const struct snapshot_file *file)
{
    char path[PATH_BYTES];
    struct stat attr = {0};

    path_of(path, folder, file->name);
    if (lstat(path, &attr) != 0) {
        return err_from_errno(errno);
    }
    return (uint64_t)attr.st_size == file->bytes ? sync_path(path, O_RDONLY) : ERR_CORRUPT;
}

enum err snapshot_take_end(const char *data, const struct snapshot *snapshot)
{
    char incoming[PATH_BYTES];
    char mark[PATH_BYTES];
    enum err err = ERR_OK;
    int fd = -1;

    path_of(incoming, data, "incoming");
    path_of(mark, data, "incoming.complete");
    for (size_t i = 0; i < snapshot->file_count && err == ERR_OK; i++) {
        err = check_and_sync(incoming, &snapshot->files[i]);
    }
    err = err == ERR_OK ? sync_folder(incoming) : err;
    err = err == ERR_OK ? sync_folder(data) : err;
    if (err != ERR_OK) {
        return err;
    }
    fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    (void)close(fd);
    return sync_folder(data);
}

/* ---- installing ---- */

static enum err swap(const char *data)
{
    char store[PATH_BYTES];
    char old[PATH_BYTES];
    char incoming[PATH_BYTES];
    enum err err = ERR_OK;

    path_of(store, data, "store");
    path_of(old, data, "store.old");
    path_of(incoming, data, "incoming");
    if (!exists(incoming)) {
        return ERR_OK; /* it was done before a crash */
    }
    if (exists(store)) {
        err = snapshot_remove_folder(old);
        if (err == ERR_OK && rename(store, old) != 0) {
            err = err_from_errno(errno);
        }
    }
    if (err == ERR_OK && rename(incoming, store) != 0) {
        err = err_from_errno(errno);
    }
    return err == ERR_OK ? sync_folder(data) : err;
}

enum err snapshot_install(const char *data, bool *out_installing, struct buffer *error)
{
    char path[PATH_BYTES];
    enum err err = ERR_OK;

    path_of(path, data, "checkpoint");
    err = snapshot_remove_folder(path);
    path_of(path, data, "incoming.complete");
    *out_installing = err == ERR_OK && exists(path);
    if (*out_installing) {
        err = swap(data);
    } else if (err == ERR_OK) {
        path_of(path, data, "incoming");
        err = snapshot_remove_folder(path);
    }
    if (err != ERR_OK) {
        (void)buffer_printf(error, "cannot install the snapshot in %s: %s", data, err_text(err));
    }
    return err;
}

enum err snapshot_install_end(const char *data)
{
    char old[PATH_BYTES];
    enum err err = remove_mark(data);

    path_of(old, data, "store.old");
    return err == ERR_OK ? snapshot_remove_folder(old) : err;
}

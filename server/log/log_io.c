/* SPDX-License-Identifier: Apache-2.0
 *
 * The file calls of the log as system calls of Linux. The simulator has a disk of its own in their
 * place; log_disk.c is the only caller of either.
 */
#include "server/log/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int system_open(void *context, const char *path, int flags, mode_t mode)
{
    (void)context;
    return open(path, flags | O_CLOEXEC, mode);
}

static int system_close(void *context, int fd)
{
    (void)context;
    return close(fd);
}

static ssize_t system_pread(void *context, int fd, void *to, size_t len, off_t offset)
{
    (void)context;
    return pread(fd, to, len, offset);
}

static ssize_t system_pwrite(void *context, int fd, const void *from, size_t len, off_t offset)
{
    (void)context;
    return pwrite(fd, from, len, offset);
}

static int system_fdatasync(void *context, int fd)
{
    (void)context;
    return fdatasync(fd);
}

static int system_ftruncate(void *context, int fd, off_t len)
{
    (void)context;
    return ftruncate(fd, len);
}

static int system_fallocate(void *context, int fd, off_t offset, off_t len)
{
    (void)context;
    return fallocate(fd, /* mode: also extend the size */ 0, offset, len);
}

static off_t system_size(void *context, int fd)
{
    struct stat stat;

    (void)context;
    return fstat(fd, &stat) == 0 ? stat.st_size : -1;
}

static int system_rename(void *context, const char *from, const char *to)
{
    (void)context;
    return rename(from, to);
}

static int system_unlink(void *context, const char *path)
{
    (void)context;
    return unlink(path);
}

static int system_sync_folder(void *context, const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = -1;
    int errno_value = 0;

    (void)context;
    if (fd < 0) {
        return -1;
    }
    result = fsync(fd);
    errno_value = errno;
    (void)close(fd);
    errno = errno_value;
    return result;
}

static int system_list(void *context, const char *folder, void (*each)(void *arg, const char *name),
                       void *arg)
{
    DIR *directory = opendir(folder);
    const struct dirent *entry = NULL;
    int errno_value = 0;

    (void)context;
    if (directory == NULL) {
        return -1;
    }
    for (;;) {
        errno = 0;
        entry = readdir(directory);
        if (entry == NULL) {
            break;
        }
        if (entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN) {
            each(arg, entry->d_name);
        }
    }
    errno_value = errno;
    (void)closedir(directory);
    errno = errno_value;
    return errno_value == 0 ? 0 : -1;
}

static int system_space(void *context, const char *folder, uint64_t *out_total, uint64_t *out_free)
{
    struct statvfs figures;

    (void)context;
    if (statvfs(folder, &figures) != 0) {
        return -1;
    }
    *out_total = (uint64_t)figures.f_blocks * figures.f_frsize;
    *out_free = (uint64_t)figures.f_bavail * figures.f_frsize;
    return 0;
}

const struct log_io log_io_system = {
    .open = system_open,
    .close = system_close,
    .pread = system_pread,
    .pwrite = system_pwrite,
    .fdatasync = system_fdatasync,
    .ftruncate = system_ftruncate,
    .fallocate = system_fallocate,
    .size = system_size,
    .rename = system_rename,
    .unlink = system_unlink,
    .sync_folder = system_sync_folder,
    .list = system_list,
    .space = system_space,
};

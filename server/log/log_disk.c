/* SPDX-License-Identifier: Apache-2.0
 *
 * The file calls of the log, checked: names become paths, short and interrupted calls are
 * continued, and a failure is kept with file, offset and errno for the line that reports it.
 * Called by all of server/log; hands on to struct log_io.
 *
 * No call is ever repeated after an error: a second fdatasync would report success for pages that
 * the first one lost (Rebello et al., ATC'20).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "server/log/log_internal.h"

/* Interruptions in a row that one call survives; beyond that something is badly wrong. */
#define INTERRUPTS_MAX 1000

static enum err failed(struct log_disk *disk, const char *call, const char *name, uint64_t offset,
                       int errno_value)
{
    disk->failure =
        (struct log_failure){.call = call, .errno_value = errno_value, .offset = offset};
    (void)snprintf(disk->failure.name, sizeof(disk->failure.name), "%s", name);
    if (errno_value == ENOSPC || errno_value == EDQUOT) {
        return ERR_NO_SPACE;
    }
    return errno_value == ENOMEM ? ERR_MEMORY : ERR_IO;
}

/* The kernel has told that data is lost, and tells it once only: there is no trying again. */
static enum err sync_failed(struct log_disk *disk, const char *call, const char *name)
{
    (void)failed(disk, call, name, 0, errno);
    return ERR_IO;
}

static bool make_path(const struct log_disk *disk, const char *name, char path[static PATH_MAX])
{
    int len = snprintf(path, PATH_MAX, "%s/%s", disk->folder, name);

    return len > 0 && len < PATH_MAX;
}

enum err log_disk_open(struct log_disk *disk, const char *name, int flags, int *out_fd)
{
    char path[PATH_MAX];
    int fd = -1;

    CHECK(*out_fd == -1);
    if (!make_path(disk, name, path)) {
        return failed(disk, "open", name, 0, ENAMETOOLONG);
    }
    fd = disk->io->open(disk->io->context, path, flags, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        return failed(disk, "open", name, 0, errno);
    }
    *out_fd = fd;
    return ERR_OK;
}

void log_disk_close(struct log_disk *disk, int *fd)
{
    if (*fd >= 0) {
        /* What counts was synced before; what was not synced nobody was told of. */
        (void)disk->io->close(disk->io->context, *fd);
        *fd = -1;
    }
}

enum err log_disk_size(struct log_disk *disk, int fd, const char *name, uint64_t *out_size)
{
    off_t size = disk->io->size(disk->io->context, fd);

    if (size < 0) {
        return failed(disk, "fstat", name, 0, errno);
    }
    *out_size = (uint64_t)size;
    return ERR_OK;
}

enum err log_disk_read(struct log_disk *disk, int fd, const char *name, void *to, size_t len,
                       uint64_t offset)
{
    uint8_t *bytes = to;
    size_t done = 0;
    int interrupts = 0;

    while (done < len) {
        ssize_t got = disk->io->pread(disk->io->context, fd, bytes + done, len - done,
                                      (off_t)(offset + done));
        if (got > 0) {
            done += (size_t)got;
        } else if (got == 0) {
            return failed(disk, "pread", name, offset + done, 0);
        } else if (errno != EINTR || ++interrupts > INTERRUPTS_MAX) {
            return failed(disk, "pread", name, offset + done, errno);
        }
    }
    return ERR_OK;
}

enum err log_disk_write(struct log_disk *disk, int fd, const char *name, const void *from,
                        size_t len, uint64_t offset)
{
    const uint8_t *bytes = from;
    size_t done = 0;
    int interrupts = 0;

    while (done < len) {
        ssize_t put = disk->io->pwrite(disk->io->context, fd, bytes + done, len - done,
                                       (off_t)(offset + done));
        if (put > 0) {
            done += (size_t)put;
        } else if (put == 0) {
            return failed(disk, "pwrite", name, offset + done, ENOSPC);
        } else if (errno != EINTR || ++interrupts > INTERRUPTS_MAX) {
            return failed(disk, "pwrite", name, offset + done, errno);
        }
    }
    return ERR_OK;
}

enum err log_disk_sync(struct log_disk *disk, int fd, const char *name)
{
    if (disk->io->fdatasync(disk->io->context, fd) != 0) {
        return sync_failed(disk, "fdatasync", name);
    }
    return ERR_OK;
}

enum err log_disk_cut(struct log_disk *disk, int fd, const char *name, uint64_t len)
{
    if (disk->io->ftruncate(disk->io->context, fd, (off_t)len) != 0) {
        return failed(disk, "ftruncate", name, len, errno);
    }
    return ERR_OK;
}

enum err log_disk_reserve(struct log_disk *disk, int fd, const char *name, uint64_t len)
{
    const struct log_io *io = disk->io;
    enum err err = ERR_UNSUPPORTED;

    if (io->fallocate(io->context, fd, 0, (off_t)len) == 0) {
        return ERR_OK;
    }
    if (errno != EOPNOTSUPP) {
        err = failed(disk, "fallocate", name, 0, errno);
    }
    /* What was reserved before the space ended is given back: small groups may still fit. */
    if (err == ERR_NO_SPACE && log_disk_cut(disk, fd, name, 0) != ERR_OK) {
        err = ERR_IO;
    }
    return err;
}

static enum err sync_folder(struct log_disk *disk)
{
    if (disk->io->sync_folder(disk->io->context, disk->folder) != 0) {
        return sync_failed(disk, "fsync", ".");
    }
    return ERR_OK;
}

enum err log_disk_rename(struct log_disk *disk, const char *from, const char *to)
{
    char from_path[PATH_MAX];
    char to_path[PATH_MAX];

    if (!make_path(disk, from, from_path) || !make_path(disk, to, to_path)) {
        return failed(disk, "rename", to, 0, ENAMETOOLONG);
    }
    if (disk->io->rename(disk->io->context, from_path, to_path) != 0) {
        return failed(disk, "rename", to, 0, errno);
    }
    return sync_folder(disk);
}

enum err log_disk_unlink(struct log_disk *disk, const char *name)
{
    char path[PATH_MAX];

    if (!make_path(disk, name, path)) {
        return failed(disk, "unlink", name, 0, ENAMETOOLONG);
    }
    if (disk->io->unlink(disk->io->context, path) != 0) {
        return failed(disk, "unlink", name, 0, errno);
    }
    return sync_folder(disk);
}

enum err log_disk_list(struct log_disk *disk, void (*each)(void *arg, const char *name), void *arg)
{
    if (disk->io->list(disk->io->context, disk->folder, each, arg) != 0) {
        return failed(disk, "readdir", ".", 0, errno);
    }
    return ERR_OK;
}

enum err log_disk_space(struct log_disk *disk, uint64_t *out_total, uint64_t *out_free)
{
    if (disk->io->space(disk->io->context, disk->folder, out_total, out_free) != 0) {
        return failed(disk, "statvfs", ".", 0, errno);
    }
    return ERR_OK;
}

void log_failure_text(const struct log_failure *failure, char text[static LOG_TEXT_BYTES])
{
    char buffer[64];
    const char *reason = "the file is too short";

    if (failure->call == NULL) {
        (void)snprintf(text, LOG_TEXT_BYTES, "no file call failed");
        return;
    }
    if (failure->errno_value != 0) {
        reason = strerror_r(failure->errno_value, buffer, sizeof(buffer));
    }
    (void)snprintf(text, LOG_TEXT_BYTES, "%s of %s at %" PRIu64 ": %s", failure->call,
                   failure->name, failure->offset, reason);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The FUSE device, non-blocking, polled by the loop. Hands requests to libfuse, which calls the ops.
 *
 * libfuse 3.14 is older than some of what we need of the kernel. Its custom I/O lets us see each
 * message: we add flags to the answer of INIT, read flags of requests that libfuse does not hand
 * on, and write one notification of our own (ARCHITECTURE.md, "Decisions").
 */
#include "fs/mount/device.h"

#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/check.h"
#include "common/logging.h"
#include "fs/mount/mountpoint.h"
#include "fs/mount/ops.h"
#include "fs/mount/replay.h"

/* Requests handled in one turn, so that answers and events of the replica have theirs. */
#define REQUESTS_PER_TURN 64

/* Newer than the header of Debian 12. */
#define FUSE_2_DIRECT_IO_ALLOW_MMAP (1u << 4) /* in flags2 */
#define NOTIFY_INC_EPOCH            8
#define MINOR_WITH_EPOCH            44u
#define SETATTR_KILL_SUIDGID        (1u << 11) /* FATTR_KILL_SUIDGID */

struct device {
    struct mount *mount;
    struct fuse_session *session;
    int fd;
    bool polled;
    bool ready;     /* INIT has just been answered */
    unsigned minor; /* of the mount's device number */
    uv_poll_t poll;
    struct fuse_buf buffer;
    /* INIT, as the kernel offers it. */
    uint64_t init_unique;
    uint32_t init_flags;
    uint32_t init_flags2;
    atomic_bool init_answered;
    bool kill_privilege;
    uint64_t unique;        /* of the request that is handled */
    uint64_t stream_unique; /* of an OPEN whose answer is to say FOPEN_STREAM */
    void (*closed)(void *arg);
    void *closed_arg;
};

/* ---- what passes by ---- */

static void see_init(struct device *device, const struct fuse_in_header *header, const void *body,
                     size_t len)
{
    const struct fuse_init_in *init = body;
    if (len < offsetof(struct fuse_init_in, flags2)) {
        return;
    }
    device->init_unique = header->unique;
    device->init_flags = init->flags;
    if ((init->flags & FUSE_INIT_EXT) != 0 && len >= sizeof *init) {
        device->init_flags2 = init->flags2;
    }
    device->mount->names_promised = init->minor >= MINOR_WITH_EPOCH;
}

/* Flags that libfuse keeps to itself. */
static bool see_kill_privilege(uint32_t opcode, const void *body, size_t len)
{
    if (opcode == FUSE_WRITE && len >= sizeof(struct fuse_write_in)) {
        const struct fuse_write_in *in = body;
        return (in->write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
    }
    if (opcode == FUSE_SETATTR && len >= sizeof(struct fuse_setattr_in)) {
        const struct fuse_setattr_in *in = body;
        return (in->valid & SETATTR_KILL_SUIDGID) != 0;
    }
    if (opcode == FUSE_OPEN && len >= sizeof(struct fuse_open_in)) {
        const struct fuse_open_in *in = body;
        return (in->open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
    }
    return false;
}

static ssize_t device_read(int fd, void *bytes, size_t len, void *userdata)
{
    struct device *device = ((struct mount *)userdata)->device;
    ssize_t got = read(fd, bytes, len);
    if (got >= (ssize_t)sizeof(struct fuse_in_header)) {
        const struct fuse_in_header *header = bytes;
        const void *body = header + 1;
        size_t body_len = (size_t)got - sizeof *header;
        if (header->opcode == FUSE_INIT) {
            see_init(device, header, body, body_len);
        }
        device->unique = header->unique;
        device->kill_privilege = see_kill_privilege(header->opcode, body, body_len);
        device->mount->requests += header->opcode != FUSE_FORGET &&
                                   header->opcode != FUSE_BATCH_FORGET &&
                                   header->opcode != FUSE_INTERRUPT;
    }
    return got;
}

/* The answer of INIT with our flags, each only if the kernel offered it. */
static ssize_t write_init(struct device *device, int fd, const struct iovec *iov)
{
    struct fuse_init_out out;
    struct iovec patched[2] = {iov[0], {.iov_base = &out, .iov_len = iov[1].iov_len}};
    memcpy(&out, iov[1].iov_base, iov[1].iov_len);
    out.flags |= device->init_flags & (FUSE_INIT_EXT | FUSE_HANDLE_KILLPRIV_V2);
    out.flags2 |= device->init_flags2 & FUSE_2_DIRECT_IO_ALLOW_MMAP;
    return writev(fd, patched, 2);
}

/* The answer of an OPEN with a flag that libfuse 3.14 does not know. */
static ssize_t write_stream(int fd, const struct iovec *iov)
{
    struct fuse_open_out out;
    struct iovec patched[2] = {iov[0], {.iov_base = &out, .iov_len = sizeof out}};
    memcpy(&out, iov[1].iov_base, sizeof out);
    out.open_flags |= FOPEN_STREAM;
    return writev(fd, patched, 2);
}

/* Any thread: notifications pass here too. */
static ssize_t device_writev(int fd, struct iovec *iov, int count, void *userdata)
{
    struct device *device = ((struct mount *)userdata)->device;
    const struct fuse_out_header *first = iov[0].iov_base;
    if (first->unique != 0 && first->unique == device->stream_unique && count == 2 &&
        iov[1].iov_len == sizeof(struct fuse_open_out)) {
        device->stream_unique = 0;
        return write_stream(fd, iov);
    }
    if (!atomic_load_explicit(&device->init_answered, memory_order_relaxed)) {
        const struct fuse_out_header *header = iov[0].iov_base;
        if (header->unique == device->init_unique && header->error == 0 && count == 2 &&
            iov[1].iov_len == sizeof(struct fuse_init_out)) {
            atomic_store_explicit(&device->init_answered, true, memory_order_relaxed);
            device->ready = true;
            return write_init(device, fd, iov);
        }
    }
    return writev(fd, iov, count);
}

/* ---- the loop ---- */

static void device_end(struct device *device)
{
    if (device->polled) {
        device->polled = false;
        CHECK(uv_poll_stop(&device->poll) == 0);
        device->mount->ended(device->mount);
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct device *device = poll->data;
    (void)events;
    for (int i = 0; i < REQUESTS_PER_TURN && device->polled; i++) {
        int result = fuse_session_receive_buf(device->session, &device->buffer);
        if (result == -EINTR) {
            continue;
        }
        if (result == -EAGAIN && status == 0) {
            return;
        }
        if (result <= 0 || fuse_session_exited(device->session)) {
            device_end(device);
            return;
        }
        fuse_session_process_buf(device->session, &device->buffer);
        if (device->ready) {
            device->ready = false;
            device->mount->serving(device->mount);
        }
    }
}

/* ---- open, close ---- */

/* The arguments for libfuse. With replay the kernel must let the workers write: then `ro` is kept by
 * us (ops_may_change). */
static enum err make_arguments(const struct mount *mount, struct fuse_args *args)
{
    const struct mount_options *options = mount->options;
    char *list = NULL;
    struct buffer text = {0};
    enum err err = ERR_MEMORY;
    if (fuse_opt_add_arg(args, "quorumfs") != 0 ||
        fuse_opt_add_opt(&list, "subtype=quorumfs") != 0) {
        goto out;
    }
    err = buffer_printf(&text, "fsname=%s", options->fsname);
    if (err != ERR_OK) {
        goto out;
    }
    err = ERR_MEMORY;
    if (fuse_opt_add_opt_escaped(&list, (const char *)text.data) != 0) {
        goto out;
    }
    buffer_clear(&text);
    err = buffer_printf(&text, "%s%s%s%s%s", list,
                        options->read_only && mount->replay == NULL ? ",ro" : "",
                        options->allow_other ? ",allow_other" : "",
                        options->default_permissions ? ",default_permissions" : "",
                        options->kernel.len > 0 ? (const char *)options->kernel.data : "");
    if (err != ERR_OK) {
        goto out;
    }
    err = fuse_opt_add_arg(args, "-o") == 0 && fuse_opt_add_arg(args, (const char *)text.data) == 0
              ? ERR_OK
              : ERR_MEMORY;
out:
    free(list);
    buffer_done(&text);
    return err;
}

static enum err start_polling(struct device *device)
{
    struct fuse_custom_io io = {.read = device_read, .writev = device_writev};
    device->fd = fuse_session_fd(device->session);
    int flags = fcntl(device->fd, F_GETFL);
    if (flags < 0 || fcntl(device->fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(device->fd, F_SETFD, FD_CLOEXEC) != 0) {
        return ERR_IO;
    }
    if (fuse_session_custom_io(device->session, &io, device->fd) != 0 ||
        uv_poll_init(device->mount->loop, &device->poll, device->fd) != 0) {
        return ERR_IO;
    }
    device->poll.data = device;
    device->polled = true;
    return uv_poll_start(&device->poll, UV_READABLE, on_readable) == 0 ? ERR_OK : ERR_IO;
}

enum err device_open(struct mount *mount, struct device **out, struct buffer *error)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    struct device *device = calloc(1, sizeof *device);
    enum err err = ERR_MEMORY;
    if (device == NULL) {
        goto out;
    }
    device->mount = mount;
    mount->device = device;
    err = make_arguments(mount, &args);
    if (err != ERR_OK) {
        goto out;
    }
    err = ERR_IO;
    device->session = fuse_session_new(&args, ops_table(), sizeof *ops_table(), mount);
    if (device->session == NULL ||
        fuse_session_mount(device->session, mount->options->mountpoint)) {
        (void)buffer_printf(error, "cannot mount on '%s'", mount->options->mountpoint);
        goto out;
    }
    err = start_polling(device);
    if (err != ERR_OK) {
        fuse_session_unmount(device->session);
        goto out;
    }
    device->minor = mountpoint_minor(mount->options->mountpoint);
    replay_begin(mount, makedev(0, device->minor));
    *out = device;
out:
    fuse_opt_free_args(&args);
    if (err != ERR_OK && device != NULL) {
        if (device->session != NULL) {
            fuse_session_destroy(device->session);
        }
        mount->device = NULL;
        free(device);
    }
    return err;
}

/* One attempt to unmount. */
struct detaching {
    uv_work_t work;
    bool force;
    unsigned minor;
    char *mountpoint;
};

/* In a thread of the pool: unmounting may wait for us. */
static void detach_work(uv_work_t *work)
{
    const struct detaching *detaching = work->data;
    mountpoint_detach(detaching->mountpoint, detaching->force);
    if (detaching->force) {
        mountpoint_abort(detaching->minor);
    }
}

static void detach_done(uv_work_t *work, int status)
{
    struct detaching *detaching = work->data;
    (void)status;
    free(detaching->mountpoint);
    free(detaching);
}

void device_detach(struct device *device, bool force)
{
    struct detaching *detaching = calloc(1, sizeof *detaching);
    char *mountpoint = strdup(device->mount->options->mountpoint);
    if (detaching == NULL || mountpoint == NULL) {
        free(detaching);
        free(mountpoint);
        return;
    }
    detaching->mountpoint = mountpoint;
    detaching->force = force;
    detaching->minor = device->minor;
    detaching->work.data = detaching;
    CHECK(uv_queue_work(device->mount->loop, &detaching->work, detach_work, detach_done) == 0);
}

void device_cut(struct device *device)
{
    device_end(device);
}

static void on_closed(uv_handle_t *handle)
{
    struct device *device = handle->data;
    void (*closed)(void *arg) = device->closed;
    void *arg = device->closed_arg;
    fuse_session_unmount(device->session);
    fuse_session_destroy(device->session);
    free(device->buffer.mem);
    free(device);
    closed(arg);
}

void device_close(struct device *device, void (*closed)(void *arg), void *arg)
{
    device->closed = closed;
    device->closed_arg = arg;
    device->polled = false;
    uv_close((uv_handle_t *)&device->poll, on_closed);
}

struct fuse_session *device_session(struct device *device)
{
    return device->session;
}

void device_epoch(struct device *device)
{
    const struct fuse_out_header header = {
        .len = sizeof header, .error = NOTIFY_INC_EPOCH, .unique = 0};
    ssize_t written = write(device->fd, &header, sizeof header);
    if (written != (ssize_t)sizeof header && errno != ENOENT && errno != ENODEV) {
        log_warn("device", "epoch_failed", "error=%d", errno);
    }
}

bool device_kills_privilege(const struct device *device)
{
    return device->kill_privilege;
}

void device_mark_stream(struct device *device)
{
    device->stream_unique = device->unique;
}

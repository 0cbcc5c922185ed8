/* SPDX-License-Identifier: Apache-2.0
 *
 * READ, WRITE, FLUSH, RELEASE, FSYNC. What is written goes into the inode's patch
 * (publish.c), what is read comes from a whole version (content.c) or from the local view.
 */
#include "fs/mount/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "fs/mount/device.h"
#include "fs/mount/lock.h"
#include "fs/mount/order.h"
#include "fs/mount/special.h"

static struct handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

/* Answered with EIO: a lock that was taken through it is lost. */
static bool is_dead(fuse_req_t req, struct handle *handle)
{
    if (lock_is_dead(ops_mount(req), handle)) {
        (void)fuse_reply_err(req, EIO);
        return true;
    }
    return false;
}

/* ---- read ---- */

static void reply_bytes(fuse_req_t req, const struct content *content, uint64_t offset, size_t size)
{
    if (offset >= content->len) {
        (void)fuse_reply_buf(req, NULL, 0);
        return;
    }
    size_t rest = content->len - (size_t)offset;
    (void)fuse_reply_buf(req, (const char *)content->data + offset, rest < size ? rest : size);
}

/* The newest that this host knows must be fetched first. */
static bool needs_fetch(struct inode *inode)
{
    return publish_needs_base(inode) && content_current(inode) == NULL;
}

/* The newest that this host knows, with a reference; NULL: it has to be fetched, or no memory. */
static struct content *newest(struct inode *inode)
{
    return needs_fetch(inode) ? NULL : publish_content(inode);
}

/* Answers from local changes, of which the whole is not made for each read. */
static void read_local(fuse_req_t req, struct inode *inode, uint64_t offset, size_t size)
{
    struct buffer bytes = {0};
    if (publish_read(inode, offset, size, &bytes) == ERR_OK) {
        (void)fuse_reply_buf(req, (const char *)bytes.data, bytes.len);
    } else {
        (void)fuse_reply_err(req, ENOMEM);
    }
    buffer_done(&bytes);
}

/* Reads that see one version from start to end: not those through the page cache, which are
 * told by having no lock owner, and not those of a descriptor that also writes. */
static bool is_pinned_read(const struct handle *handle, const struct fuse_file_info *fi)
{
    return fi->lock_owner != 0 && !handle_is_writer(handle);
}

/* Answers from the pin, which is there. */
static void read_pinned(fuse_req_t req, struct handle *handle, uint64_t offset, size_t size)
{
    bool at_end = offset >= handle->pin->len;
    reply_bytes(req, handle->pin, offset, size);
    if (at_end && !handle->inode->gone) {
        handle_pin(handle, NULL); /* `tail -f` goes on with the newest. */
    }
}

/* What the inode holds has been fetched. */
static void read_fetched(struct task *task, enum err err)
{
    struct handle *handle = task->handle;
    struct content *content = NULL;
    if (err == ERR_OK) {
        content = publish_content(task->inode);
        err = content == NULL ? ERR_MEMORY : ERR_OK;
    }
    if (err == ERR_STALE && task->offset >= task->inode->attr.data_bytes) {
        (void)fuse_reply_buf(task->req, NULL, 0); /* the end, at which the reader was before */
        task_end(task);
        return;
    }
    if (err != ERR_OK) {
        task_fail(task, err);
        return;
    }
    if (is_pinned_read(handle, &task->fi)) {
        handle_pin(handle, content);
        read_pinned(task->req, handle, task->offset, task->size);
    } else {
        reply_bytes(task->req, content, task->offset, task->size);
        content_unref(content);
    }
    task_end(task);
}

static void read_fetch(fuse_req_t req, struct handle *handle, size_t size, uint64_t offset,
                       const struct fuse_file_info *fi)
{
    struct task *task = task_new(ops_mount(req), req, handle->inode);
    if (task != NULL) {
        task->handle = handle;
        task->fi = *fi;
        task->size = size;
        task->offset = offset;
        task_fetch(task, read_fetched);
    }
}

void ops_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
              struct fuse_file_info *fi)
{
    if (special_is(nodeid)) {
        special_read(req, nodeid, size, offset, fi);
        return;
    }
    struct handle *handle = handle_of(fi);
    struct inode *inode = handle->inode;
    if (is_dead(req, handle)) {
        return;
    }
    bool pinned = is_pinned_read(handle, fi);
    if (pinned && handle->pin != NULL && offset != 0) {
        read_pinned(req, handle, (uint64_t)offset, size);
        return;
    }
    if (!pinned && inode->publish != NULL && !needs_fetch(inode)) {
        inode->pages = inode->pages || fi->lock_owner == 0;
        read_local(req, inode, (uint64_t)offset, size);
        return;
    }
    struct content *content = newest(inode);
    if (content == NULL && inode->gone && handle->pin != NULL) {
        content = content_ref(handle->pin); /* Nothing newer will ever be. */
    }
    if (content == NULL) {
        read_fetch(req, handle, size, (uint64_t)offset, fi);
        return;
    }
    if (pinned) {
        handle_pin(handle, content);
        read_pinned(req, handle, (uint64_t)offset, size);
        return;
    }
    inode->pages = inode->pages || fi->lock_owner == 0;
    reply_bytes(req, content, (uint64_t)offset, size);
    content_unref(content);
}

/* ---- write ---- */

static bool is_synchronous(const struct mount *mount, const struct fuse_file_info *fi)
{
    return mount->options->sync || (fi->flags & (O_SYNC | O_DSYNC)) != 0;
}

static void write_published(struct task *task, enum err err)
{
    if (err != ERR_OK) {
        task_fail(task, err);
        return;
    }
    (void)fuse_reply_write(task->req, task->size);
    task_end(task);
}

static enum err write_to_patch(struct mount *mount, struct inode *inode, const char *bytes,
                               size_t size, uint64_t offset, const struct fuse_file_info *fi)
{
    /* The kernel takes the offset of an append from its own idea of the length. A page that comes
     * from a mapping is where it is. */
    if ((fi->flags & O_APPEND) != 0 && !fi->writepage) {
        return publish_append(mount, inode, bytes, size);
    }
    return publish_write(mount, inode, offset, bytes, size);
}

/* Behind a change by a write. */
static void note_write(fuse_req_t req, struct handle *handle, bool writepage, bool kill_privilege)
{
    handle_note_write(handle, writepage ? 0 : fuse_req_ctx(req)->pid);
    if (kill_privilege) {
        publish_kill_suid_sgid(handle->inode);
    }
}

/* The base, without which a patch of too many pieces cannot be made whole, is there now. */
static void write_again(struct task *task, enum err err)
{
    if (err == ERR_OK) {
        err = write_to_patch(task->mount, task->inode, task->bytes, task->size, task->offset,
                             &task->fi);
    }
    if (err != ERR_OK) {
        task_fail(task, err);
        return;
    }
    note_write(task->req, task->handle, task->fi.writepage, task->kill_privilege);
    if (is_synchronous(task->mount, &task->fi)) {
        task_publish(task, write_published);
    } else {
        write_published(task, ERR_OK);
    }
}

static struct task *write_task(fuse_req_t req, struct handle *handle, size_t size,
                               const struct fuse_file_info *fi)
{
    struct task *task = task_new(ops_mount(req), req, handle->inode);
    if (task != NULL) {
        task->handle = handle;
        task->fi = *fi;
        task->size = size;
    }
    return task;
}

static void write_later(fuse_req_t req, struct handle *handle, const char *bytes, size_t size,
                        uint64_t offset, const struct fuse_file_info *fi)
{
    struct task *task = write_task(req, handle, size, fi);
    if (task == NULL) {
        return;
    }
    task->offset = offset;
    task->kill_privilege = device_kills_privilege(task->mount->device);
    task->bytes = malloc(size);
    if (task->bytes == NULL) {
        task_fail(task, ERR_MEMORY);
        return;
    }
    memcpy(task->bytes, bytes, size);
    task_fetch(task, write_again);
}

void ops_write(fuse_req_t req, fuse_ino_t nodeid, const char *bytes, size_t size, off_t offset,
               struct fuse_file_info *fi)
{
    if (special_is(nodeid)) {
        special_write(req, nodeid, bytes, size, fi);
        return;
    }
    struct mount *mount = ops_mount(req);
    struct handle *handle = handle_of(fi);
    if (is_dead(req, handle)) {
        return;
    }
    if (mount_is_without_leader(mount)) {
        (void)fuse_reply_err(req, EROFS);
        return;
    }
    enum err err = write_to_patch(mount, handle->inode, bytes, size, (uint64_t)offset, fi);
    if (err == ERR_LIMIT) {
        write_later(req, handle, bytes, size, (uint64_t)offset, fi);
        return;
    }
    if (err != ERR_OK) {
        (void)fuse_reply_err(req, task_errno(err));
        return;
    }
    note_write(req, handle, fi->writepage, device_kills_privilege(mount->device));
    if (is_synchronous(mount, fi)) {
        struct task *task = write_task(req, handle, size, fi);
        if (task != NULL) {
            task_publish(task, write_published);
        }
        return;
    }
    (void)fuse_reply_write(req, size);
}

/* ---- close and sync ---- */

static void barrier_passed(struct task *task)
{
    order_reply(task, ops_reply_ok);
}

static void published(struct task *task, enum err err)
{
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    order_reply(task, ops_reply_ok);
}

/* The locks of the process that closes go when what it wrote is in the tree. */
static void flushed(struct task *task, enum err err)
{
    lock_release_owner(task->mount, task->inode, task->fi.lock_owner);
    published(task, err);
}

void ops_flush(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    if (special_is(nodeid)) {
        (void)fuse_reply_err(req, 0);
        return;
    }
    struct handle *handle = handle_of(fi);
    struct inode *inode = handle->inode;
    if (is_dead(req, handle)) {
        return;
    }
    enum err err = handle_is_writer(handle) ? publish_take_error(inode) : ERR_OK;
    if (err != ERR_OK) {
        (void)fuse_reply_err(req, task_errno(err));
        return;
    }
    struct publish_question question = handle_question(handle, fuse_req_ctx(req)->pid);
    /* What was sent before, at a timer or by another program, may be this program's too. */
    bool sent =
        handle_is_writer(handle) && publish_is_under_way(inode) && !publish_is_pending(inode);
    if (!publish_at_flush(&question) && !sent) {
        lock_release_owner(ops_mount(req), inode, fi->lock_owner);
        (void)fuse_reply_err(req, 0);
        return;
    }
    struct task *task = task_new(ops_mount(req), req, inode);
    if (task != NULL) {
        /* A killed process must not lose what it has written. */
        task->uninterruptible = true;
        task->fi = *fi;
        task_publish(task, flushed);
    }
}

void ops_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    if (special_is(nodeid)) {
        special_release(req, nodeid, fi);
        return;
    }
    struct mount *mount = ops_mount(req);
    struct handle *handle = handle_of(fi);
    (void)lock_is_dead(mount, handle);
    if (handle->written || handle->truncated) {
        (void)publish_now(mount, handle->inode, NULL);
    }
    lock_release_handle(mount, handle);
    handle_close(mount, handle);
    (void)fuse_reply_err(req, 0);
}

void ops_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
    if (special_is(nodeid)) {
        (void)fuse_reply_err(req, 0);
        return;
    }
    struct inode *inode = handle_of(fi)->inode;
    (void)datasync;
    if (is_dead(req, handle_of(fi))) {
        return;
    }
    enum err err = publish_take_error(inode);
    if (err != ERR_OK) {
        (void)fuse_reply_err(req, task_errno(err));
        return;
    }
    struct task *task = task_new(ops_mount(req), req, inode);
    if (task == NULL) {
        return;
    }
    if (inode->publish != NULL) {
        task_publish(task, published);
    } else {
        task_barrier(task, barrier_passed);
    }
}

void ops_fsyncdir(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
    struct inode *inode = ops_inode(req, nodeid, NULL);
    struct task *task = inode != NULL ? task_new(ops_mount(req), req, inode) : NULL;
    (void)datasync;
    (void)fi;
    if (task != NULL) {
        task_barrier(task, barrier_passed);
    }
}

/* Files of the tree are always ready. */
void ops_poll(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi,
              struct fuse_pollhandle *handle)
{
    if (special_is(nodeid)) {
        special_poll(req, nodeid, fi, handle);
        return;
    }
    if (handle != NULL) {
        fuse_pollhandle_destroy(handle);
    }
    (void)fuse_reply_poll(req, POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM);
}

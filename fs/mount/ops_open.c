/* SPDX-License-Identifier: Apache-2.0
 *
 * OPEN: which content a descriptor begins with, and whether it is read through the page cache. A file
 * that was replaced by a rename meanwhile is opened as what has its name now.
 */
#include "fs/mount/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/clock.h"
#include "fs/mount/device.h"
#include "fs/mount/order.h"
#include "fs/mount/special.h"

/* Files up to one page that nobody has changed for a while are read through the page cache: one
 * read(2) sees all of them, and so one version. */
#define CACHED_BYTES_MAX 4096u
#define QUIET_MS         60000u

static bool is_quiet(const struct inode *inode)
{
    int64_t ctime_age_ns = clock_realtime_ns() - inode->attr.ctime_ns;
    return ctime_age_ns > (int64_t)QUIET_MS * 1000000 &&
           (inode->changed_ms == 0 || clock_monotonic_ms() - inode->changed_ms > QUIET_MS);
}

static bool is_read_cached(const struct mount *mount, const struct inode *inode, int flags)
{
    return (flags & O_ACCMODE) == O_RDONLY && !mount->options->read_pinned &&
           !mount->options->linearizable && inode->promised && inode->publish == NULL &&
           inode->attr.data_bytes <= CACHED_BYTES_MAX && is_quiet(inode);
}

enum err ops_file_open(struct task *task, bool created)
{
    struct mount *mount = task->mount;
    struct inode *inode = task->inode;
    int flags = task->fi.flags;
    struct handle *handle = handle_open(mount, inode, flags, fuse_req_ctx(task->req)->pid);
    if (handle == NULL) {
        return ERR_MEMORY;
    }
    if ((flags & O_TRUNC) != 0 && !created) {
        enum err err = publish_truncate(mount, inode, 0);
        if (err != ERR_OK) {
            handle_close(mount, handle);
            return err;
        }
        handle->truncated = true;
        if (task->kill_privilege) {
            publish_kill_suid_sgid(inode);
        }
    } else if (!handle_is_writer(handle) &&
               (!publish_needs_base(inode) || inode->content != NULL)) {
        handle_pin(handle, publish_content(inode));
    }
    task->handle = handle;
    task->fi.fh = (uint64_t)(uintptr_t)handle;
    task->fi.keep_cache = 1; /* What is old is pushed out, here and in changes.c. */
    task->fi.direct_io = !is_read_cached(mount, inode, flags);
    task->fi.noflush = !handle_is_writer(handle);
    return ERR_OK;
}

static void open_reply(struct task *task)
{
    if (fuse_reply_open(task->req, &task->fi) != 0) {
        struct handle *handle = task->handle;
        if (handle->truncated) {
            (void)publish_now(task->mount, task->inode, NULL);
        }
        handle_close(task->mount, handle);
    }
    task_end(task);
}

/* ---- a file that another host replaces by rename while it is opened here ----
 *
 * The kernel has found the old node, whose data nobody has any more. A reader gets what has its name
 * now, as if it had come a moment later: the handle is the old node's, the content the new one's. */

#define INSTEAD_MAX 20 /* times that it is replaced again meanwhile */

static void instead_look(struct task *task);

static void instead_fetched(struct fetch_waiter *waiter, enum err err)
{
    struct task *task = task_of_fetch(waiter);
    struct inode *inode = task->inode;
    if (err == ERR_STALE && ++task->tries < INSTEAD_MAX) {
        instead_look(task);
        return;
    }
    struct content *content = err == ERR_OK ? publish_content(task->to_parent) : NULL;
    if (err == ERR_OK && content == NULL) {
        err = ERR_MEMORY;
    }
    if (err == ERR_OK) {
        err = ops_file_open(task, false /* created */);
    }
    if (err != ERR_OK) {
        content_unref(content);
        task_fail_in_order(task, err);
        return;
    }
    inode->attr.data_bytes = content->len;
    handle_pin(task->handle, content);
    order_reply(task, open_reply);
}

static void instead_found(struct task *task, enum err err, const Wire__Answer *answer)
{
    struct mount *mount = task->mount;
    struct inode *found = NULL;
    if (err == ERR_OK && answer->attr != NULL && answer->attr->ino != task->inode->ino &&
        inode_type(answer->attr, inode_face(answer->attr)) == S_IFREG) {
        found = task_take_answer(mount, answer, true /* make */);
    }
    if (found == NULL) {
        task_fail_in_order(task, ERR_STALE);
        return;
    }
    inode_ref(found);
    inode_unref(mount, task->to_parent);
    task->to_parent = found;
    task->fetch.done = instead_fetched;
    err = content_fetch(mount, found, &task->fetch);
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
    }
}

static void instead_look(struct task *task)
{
    struct inode *inode = task->inode;
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__LookupRead lookup = WIRE__LOOKUP_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    if (inode->name == NULL) {
        task_fail_in_order(task, ERR_STALE);
        return;
    }
    at.ino = inode->attr.parent;
    at.name = wire_bytes(inode->name, strlen(inode->name));
    lookup.at = &at;
    request.body_case = WIRE__REQUEST__BODY_LOOKUP;
    request.lookup = &lookup;
    task_call(task, &request, instead_found);
}

static void open_ready(struct task *task, enum err err)
{
    if (err == ERR_STALE && (task->fi.flags & O_ACCMODE) == O_RDONLY) {
        instead_look(task);
        return;
    }
    if (err == ERR_OK) {
        err = ops_file_open(task, false /* created */);
    }
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    order_reply(task, open_reply);
}

static void open_start(struct task *task)
{
    int flags = task->fi.flags;
    const struct inode *inode = task->inode;
    if (inode->gone && inode->content == NULL && inode->publish == NULL) {
        open_ready(task, ERR_STALE);
        return;
    }
    bool blind =
        (flags & O_TRUNC) != 0 || ((flags & O_APPEND) != 0 && (flags & O_ACCMODE) == O_WRONLY);
    if (!blind && publish_needs_base(task->inode) && content_current(task->inode) == NULL) {
        task_fetch(task, open_ready);
    } else {
        open_ready(task, ERR_OK);
    }
}

void ops_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct mount *mount = ops_mount(req);
    enum face face = FACE_FILE;
    if (special_is(nodeid)) {
        special_open(req, nodeid, fi);
        return;
    }
    if (ops_is_replay(req)) {
        ops_replay_open(req, nodeid, fi);
        return;
    }
    if ((fi->flags & O_ACCMODE) != O_RDONLY && !ops_may_change(req)) {
        return;
    }
    struct inode *inode = ops_inode(req, nodeid, &face);
    if (inode == NULL) {
        return;
    }
    if (face == FACE_DIR) {
        (void)fuse_reply_err(req, ESTALE);
        return;
    }
    if ((fi->flags & O_ACCMODE) != O_RDONLY && mount_is_without_leader(mount)) {
        (void)fuse_reply_err(req, EROFS);
        return;
    }
    struct task *task = task_new(mount, req, inode);
    if (task == NULL) {
        return;
    }
    task->fi = *fi;
    task->kill_privilege = device_kills_privilege(mount->device);
    if (mount->options->linearizable) {
        task_barrier(task, open_start);
    } else {
        open_start(task);
    }
}

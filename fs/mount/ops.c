/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of operations for libfuse, INIT, and what the operations share.
 */
#include "fs/mount/ops.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/limits.h"
#include "common/logging.h"
#include "fs/mount/replay.h"
#include "fs/mount/special.h"

/* Background requests (RELEASE, read-ahead) that the kernel keeps in flight. */
#define BACKGROUND_MAX 64u

static void ops_init(void *userdata, struct fuse_conn_info *conn)
{
    const unsigned wanted = FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_PARALLEL_DIROPS |
                            FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_AUTO_INVAL_DATA |
                            FUSE_CAP_NO_OPENDIR_SUPPORT | FUSE_CAP_READDIRPLUS |
                            FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_POSIX_LOCKS |
                            FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_READ;
    struct mount *mount = userdata;
    /* Not HANDLE_KILLPRIV: device.c asks for its second version. No writeback cache: what is
     * written must be seen here at once. */
    conn->want = wanted & conn->capable;
    conn->max_write = MIB;
    conn->max_background = BACKGROUND_MAX;
    conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
    conn->time_gran = 1;
    log_info("ops", "init", "proto=%u.%u names_cached=%s", conn->proto_major, conn->proto_minor,
             mount->names_promised ? "yes" : "no");
}

const struct fuse_lowlevel_ops *ops_table(void)
{
    static const struct fuse_lowlevel_ops table = {
        .init = ops_init,
        .lookup = ops_lookup,
        .forget = ops_forget,
        .forget_multi = ops_forget_multi,
        .getattr = ops_getattr,
        .setattr = ops_setattr,
        .readlink = ops_readlink,
        .mknod = ops_mknod,
        .mkdir = ops_mkdir,
        .unlink = ops_unlink,
        .rmdir = ops_rmdir,
        .symlink = ops_symlink,
        .rename = ops_rename,
        .link = ops_link,
        .open = ops_open,
        .read = ops_read,
        .write = ops_write,
        .flush = ops_flush,
        .release = ops_release,
        .fsync = ops_fsync,
        .flock = ops_flock,
        .setlk = ops_setlk,
        .getlk = ops_getlk,
        .poll = ops_poll,
        .opendir = ops_opendir,
        .readdir = ops_readdir,
        .readdirplus = ops_readdirplus,
        .fsyncdir = ops_fsyncdir,
        .statfs = ops_statfs,
        .getxattr = ops_getxattr,
        .listxattr = ops_listxattr,
        .setxattr = ops_setxattr,
        .removexattr = ops_removexattr,
        .create = ops_create,
    };
    return &table;
}

struct inode *ops_inode(fuse_req_t req, fuse_ino_t nodeid, enum face *out_face)
{
    enum face face = FACE_FILE;
    struct inode *inode = inode_of_nodeid(ops_mount(req), nodeid, &face);
    if (inode == NULL) {
        (void)fuse_reply_err(req, special_is(nodeid) ? EPERM : ESTALE);
    }
    if (out_face != NULL) {
        *out_face = face;
    }
    return inode;
}

bool ops_name_fits(fuse_req_t req, const char *name)
{
    if (strlen(name) > NAME_BYTES_MAX) {
        (void)fuse_reply_err(req, ENAMETOOLONG);
        return false;
    }
    return true;
}

bool ops_name_is_free(fuse_req_t req, const char *name)
{
    if (ops_data_is_name(name) || strcmp(name, SPECIAL_NAME) == 0) {
        (void)fuse_reply_err(req, EINVAL);
        return false;
    }
    return true;
}

bool ops_may_change(fuse_req_t req)
{
    if (ops_mount(req)->options->read_only) {
        (void)fuse_reply_err(req, EROFS);
        return false;
    }
    return true;
}

struct task *ops_name_task(fuse_req_t req, fuse_ino_t parent_nodeid, const char *name)
{
    struct inode *parent = ops_name_fits(req, name) ? ops_inode(req, parent_nodeid, NULL) : NULL;
    struct task *task = parent != NULL ? task_new(ops_mount(req), req, NULL) : NULL;
    if (task != NULL) {
        task_set_parent(task, parent, name);
    }
    return task;
}

void ops_reply_ok(struct task *task)
{
    (void)fuse_reply_err(task->req, 0);
    task_end(task);
}

void ops_fill_entry(struct task *task, struct fuse_entry_param *out)
{
    const struct mount *mount = task->mount;
    const struct inode *parent = task->parent;
    /* While the answer was held back, the name may have changed again. */
    bool fresh = parent != NULL && parent->promised && parent->names_mark <= task->mark;
    /* Whether data is there may change with each write of this host. */
    bool named = fresh && mount->names_promised && !(task->is_data && parent->publish != NULL) &&
                 !replay_is_pending(mount, parent->ino, task->name, task->name_len);
    *out = (struct fuse_entry_param){0};
    out->entry_timeout = mount_timeout(mount, named);
    if (task->no_node) {
        return;
    }
    if (fresh && !task->is_data) {
        inode_set_name(task->inode, task->name, task->name_len);
    }
    enum face face = task->is_data ? FACE_FILE : inode_face(&task->inode->attr);
    out->ino = inode_nodeid(mount, task->inode->ino, face);
    out->attr_timeout = inode_attr_timeout(mount, task->inode);
    inode_stat(mount, task->inode, face, &out->attr);
    if (task->inode->gone) {
        out->entry_timeout = 0.0;
    }
    task->face = face;
}

void ops_reply_entry(struct task *task)
{
    struct fuse_entry_param entry;
    ops_fill_entry(task, &entry);
    if (task->no_node && entry.entry_timeout <= 0.0) {
        task_fail(task, ERR_NO_NODE);
        return;
    }
    if (!task->no_node) {
        inode_hold(task->inode, task->face);
    }
    if (fuse_reply_entry(task->req, &entry) != 0 && !task->no_node) {
        /* The caller has been killed: the kernel does not hold it. */
        inode_forget(task->mount, entry.ino, 1);
    }
    task_end(task);
}

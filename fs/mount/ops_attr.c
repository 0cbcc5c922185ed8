/* SPDX-License-Identifier: Apache-2.0
 *
 * GETATTR, SETATTR, STATFS. Attributes that are promised, and the figures of statfs, are answered
 * from memory: `df` and `ls` of what is known never wait for a replica.
 */
#include "fs/mount/ops.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "fs/mount/changes.h"
#include "fs/mount/device.h"
#include "fs/mount/order.h"
#include "fs/mount/special.h"

#define NS_PER_S      1000000000
#define STATFS_BLOCK  4096u
#define STATFS_AGE_MS 1000u
#define NODES_FREE    (1u << 30) /* the tree is bounded by the disk, not by a table */

/* ---- getattr ---- */

static void attr_reply(struct task *task)
{
    struct stat stat;
    inode_stat(task->mount, task->inode, task->face, &stat);
    (void)fuse_reply_attr(task->req, &stat, inode_attr_timeout(task->mount, task->inode));
    task_end(task);
}

static void getattr_done(struct task *task, enum err err, const Wire__Answer *answer)
{
    if (answer != NULL) {
        (void)task_take_answer(task->mount, answer, false /* make */);
    }
    if (err == ERR_STALE || err == ERR_NO_NODE) {
        task->inode->gone = true;
        err = task->inode->handles != NULL ? ERR_OK : ERR_STALE;
    }
    if (err != ERR_OK && task->inode->ino != task->mount->root_ino) {
        task_fail(task, err);
        return;
    }
    attr_reply(task);
}

void ops_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct mount *mount = ops_mount(req);
    enum face face = FACE_FILE;
    (void)fi;
    if (special_is(nodeid)) {
        special_getattr(req, nodeid);
        return;
    }
    if (ops_is_replay(req) && ops_replay_getattr(req, nodeid)) {
        return;
    }
    struct inode *inode = ops_inode(req, nodeid, &face);
    if (inode == NULL) {
        return;
    }
    if (inode->gone && inode->handles == NULL) {
        (void)fuse_reply_err(req, ESTALE);
        return;
    }
    /* The root from memory in any case: `df` must not wait. */
    bool root_in_outage = inode->ino == mount->root_ino && mount->events_missing;
    if (inode->promised || inode->gone || root_in_outage) {
        struct stat stat;
        inode_stat(mount, inode, face, &stat);
        (void)fuse_reply_attr(req, &stat, inode_attr_timeout(mount, inode));
        return;
    }
    struct task *task = task_new(mount, req, inode);
    if (task == NULL) {
        return;
    }
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__LookupRead lookup = WIRE__LOOKUP_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    task->face = face;
    at.ino = inode->ino;
    lookup.at = &at;
    request.body_case = WIRE__REQUEST__BODY_LOOKUP;
    request.lookup = &lookup;
    task_call(task, &request, getattr_done);
}

/* ---- setattr ---- */

static int64_t ns_of(const struct timespec *time)
{
    return (int64_t)time->tv_sec * NS_PER_S + time->tv_nsec;
}

static bool sets(const struct task *task, int flags)
{
    return (task->valid & flags) != 0;
}

static void setattr_published(struct task *task, enum err err)
{
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    order_reply(task, attr_reply);
}

/* The length: part of the patch with a descriptor, published at once without. */
static void setattr_size(struct task *task)
{
    struct mount *mount = task->mount;
    struct inode *inode = task->inode;
    enum err err = publish_truncate(mount, inode, (uint64_t)task->stat.st_size);
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    if (task->kill_privilege) {
        publish_kill_suid_sgid(inode);
    }
    if (task->handle != NULL) {
        handle_note_write(task->handle, fuse_req_ctx(task->req)->pid);
        attr_reply(task);
        return;
    }
    task->uninterruptible = true; /* EINTR would say that nothing has happened. */
    task_publish(task, setattr_published);
}

static void setattr_done(struct task *task, enum err err, const Wire__Answer *answer)
{
    if (answer != NULL) {
        (void)task_take_answer(task->mount, answer, false /* make */);
    }
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    changes_own_face(task->mount, task->inode, task->face, task->inode->attr.data_bytes > 0);
    if (sets(task, FUSE_SET_ATTR_SIZE)) {
        setattr_size(task);
        return;
    }
    order_reply(task, attr_reply);
}

/* A new owner takes set-user-ID and set-group-ID away, as everywhere; so does chown(2) to the same
 * one. Without the right to execute for the group, set-group-ID means something else (fs/attr.c of
 * Linux, setattr_should_drop_sgid), and goes only with somebody of another group. */
static void chown_mode(const struct task *task, Wire__SetattrOp *setattr)
{
    const struct fuse_ctx *caller = fuse_req_ctx(task->req);
    const Wire__Attr *attr = &task->inode->attr;
    uint32_t mode = attr->mode;
    uint32_t kept = mode & ~(uint32_t)S_ISUID;
    if ((mode & S_IXGRP) != 0 || (caller->uid != 0 && caller->gid != attr->gid)) {
        kept &= ~(uint32_t)S_ISGID;
    }
    if (task->face == FACE_FILE && kept != mode) {
        setattr->set_mode = true;
        setattr->mode = kept;
    }
}

static void setattr_call(struct task *task)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__SetattrOp setattr = WIRE__SETATTR_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    at.ino = task->inode->ino;
    setattr.at = &at;
    setattr.set_uid = sets(task, FUSE_SET_ATTR_UID);
    setattr.uid = task->stat.st_uid;
    setattr.set_gid = sets(task, FUSE_SET_ATTR_GID);
    setattr.gid = task->stat.st_gid;
    if (setattr.set_uid || setattr.set_gid || task->kill_privilege) {
        chown_mode(task, &setattr);
    }
    if (sets(task, FUSE_SET_ATTR_MODE)) {
        setattr.set_mode = true;
        setattr.mode = task->stat.st_mode & 07777u;
    }
    setattr.atime_now = sets(task, FUSE_SET_ATTR_ATIME_NOW);
    setattr.set_atime = sets(task, FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW);
    setattr.atime_ns = ns_of(&task->stat.st_atim);
    setattr.mtime_now = sets(task, FUSE_SET_ATTR_MTIME_NOW);
    setattr.set_mtime = sets(task, FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW);
    setattr.mtime_ns = ns_of(&task->stat.st_mtim);
    setattr.of_data = inode_is_data(task->inode, task->face);
    op.body_case = WIRE__OP__BODY_SETATTR;
    op.setattr = &setattr;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = &op;
    task_call(task, &request, setattr_done);
}

/* A file without a name is known to this host alone. */
static void setattr_gone(struct task *task)
{
    Wire__Attr *attr = &task->inode->attr;
    if (sets(task, FUSE_SET_ATTR_MODE)) {
        attr->mode = task->stat.st_mode & 07777u;
    }
    if (sets(task, FUSE_SET_ATTR_UID)) {
        attr->uid = task->stat.st_uid;
    }
    if (sets(task, FUSE_SET_ATTR_GID)) {
        attr->gid = task->stat.st_gid;
    }
    attr->ctime_ns = clock_realtime_ns();
    if (sets(task, FUSE_SET_ATTR_ATIME)) {
        attr->atime_ns =
            sets(task, FUSE_SET_ATTR_ATIME_NOW) ? attr->ctime_ns : ns_of(&task->stat.st_atim);
    }
    if (sets(task, FUSE_SET_ATTR_MTIME)) {
        attr->mtime_ns =
            sets(task, FUSE_SET_ATTR_MTIME_NOW) ? attr->ctime_ns : ns_of(&task->stat.st_mtim);
    }
    attr_reply(task);
}

/* Times join changes that are not published yet: set after the last write, they win. */
static void setattr_times_to_patch(struct task *task)
{
    struct inode *inode = task->inode;
    if (sets(task, FUSE_SET_ATTR_ATIME_NOW)) {
        publish_set_atime(inode, clock_realtime_ns());
    } else if (sets(task, FUSE_SET_ATTR_ATIME)) {
        publish_set_atime(inode, ns_of(&task->stat.st_atim));
    }
    if (sets(task, FUSE_SET_ATTR_MTIME_NOW)) {
        publish_set_mtime_now(inode);
    } else if (sets(task, FUSE_SET_ATTR_MTIME)) {
        publish_set_mtime(inode, ns_of(&task->stat.st_mtim));
    }
}

void ops_setattr(fuse_req_t req, fuse_ino_t nodeid, struct stat *attr, int valid,
                 struct fuse_file_info *fi)
{
    const int owner_and_mode = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
    const int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW |
                      FUSE_SET_ATTR_MTIME_NOW;
    struct mount *mount = ops_mount(req);
    enum face face = FACE_FILE;
    if (ops_is_replay(req)) {
        ops_replay_setattr(req, nodeid);
        return;
    }
    struct inode *inode = ops_may_change(req) ? ops_inode(req, nodeid, &face) : NULL;
    struct task *task = inode != NULL ? task_new(mount, req, inode) : NULL;
    if (task == NULL) {
        return;
    }
    task->face = face;
    task->stat = *attr;
    task->valid = valid;
    task->kill_privilege = device_kills_privilege(mount->device);
    task->handle = fi != NULL ? (struct handle *)(uintptr_t)fi->fh : NULL;
    if (inode_is_data(inode, face)) {
        /* Accepted, so that cp -a and tar go on, and without effect. */
        task->valid &= ~owner_and_mode;
    }
    if (sets(task, FUSE_SET_ATTR_SIZE)) {
        if (mount_is_without_leader(mount)) {
            task_fail(task, ERR_NO_LEADER);
            return;
        }
        /* A changed length sets the time of the data by itself. */
        task->valid &= ~times;
    } else if (sets(task, times) && face == FACE_FILE && publish_is_pending(inode)) {
        setattr_times_to_patch(task);
        task->valid &= ~times;
    }
    bool kills = task->kill_privilege && !sets(task, FUSE_SET_ATTR_SIZE) && face == FACE_FILE;
    if (inode->gone && sets(task, owner_and_mode | times)) {
        setattr_gone(task);
    } else if (sets(task, owner_and_mode | times) || kills) {
        setattr_call(task);
    } else if (sets(task, FUSE_SET_ATTR_SIZE)) {
        setattr_size(task);
    } else {
        attr_reply(task);
    }
}

/* ---- statfs ---- */

static void statfs_done(void *arg, enum err err, const Wire__Answer *answer)
{
    struct mount *mount = arg;
    struct statvfs *out = &mount->statfs;
    mount->statfs_asked = false;
    if (err != ERR_OK || answer == NULL) {
        return;
    }
    out->f_blocks = answer->disk_bytes_total / STATFS_BLOCK;
    out->f_bfree = answer->disk_bytes_free / STATFS_BLOCK;
    out->f_bavail = out->f_bfree;
    out->f_files = answer->total_nodes + NODES_FREE;
    out->f_ffree = NODES_FREE;
    out->f_favail = NODES_FREE;
}

void ops_attr_refresh_statfs(struct mount *mount)
{
    Wire__StatfsRead statfs = WIRE__STATFS_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    request.body_case = WIRE__REQUEST__BODY_STATFS;
    request.statfs = &statfs;
    struct call_options options = {
        .timeout_ms = mount->options->timeo_ms, .done = statfs_done, .arg = mount};
    enum err err = ERR_OK;
    mount->statfs.f_bsize = STATFS_BLOCK;
    mount->statfs.f_frsize = STATFS_BLOCK;
    mount->statfs.f_namemax = NAME_BYTES_MAX;
    if (!mount->statfs_asked) {
        mount->statfs_ms = uv_now(mount->loop);
        mount->statfs_asked = client_call(mount->client, &request, &options, &err) != NULL;
    }
}

void ops_statfs(fuse_req_t req, fuse_ino_t nodeid)
{
    struct mount *mount = ops_mount(req);
    (void)nodeid;
    (void)fuse_reply_statfs(req, &mount->statfs);
    if (uv_now(mount->loop) - mount->statfs_ms > STATFS_AGE_MS) {
        ops_attr_refresh_statfs(mount);
    }
}

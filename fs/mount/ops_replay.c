/* SPDX-License-Identifier: Apache-2.0
 *
 * What a replay worker asks. It may do exactly the operation that was announced to it (replay.h), and
 * that changes nothing: the answers are made of the state that is committed. Looking up, it sees the
 * names as they were before the oldest replay that waits. Anything else is EIO. Called by the ops
 * first of all, for callers that replay_is_worker() knows.
 */
#include "fs/mount/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fs/mount/replay.h"
#include "fs/mount/special.h"

bool ops_is_replay(fuse_req_t req)
{
    return replay_is_worker(ops_mount(req), fuse_req_ctx(req)->pid);
}

static void refuse(fuse_req_t req)
{
    (void)fuse_reply_err(req, EIO);
}

/* The ino of a directory as operations name it. */
static uint64_t dir_of(struct mount *mount, fuse_ino_t nodeid)
{
    enum face face = FACE_FILE;
    const struct inode *inode = inode_of_nodeid(mount, nodeid, &face);
    return inode != NULL ? inode->ino : REPLAY_NOWHERE;
}

static bool is_place(const struct replay_place *place, fuse_ino_t nodeid, const char *name)
{
    return place->nodeid == nodeid && strcmp(place->name, name) == 0;
}

/* The attributes of a node that may be gone, as if it were there. */
static void fill_stat(struct mount *mount, const struct inode *inode, enum face face,
                      struct stat *out)
{
    inode_stat(mount, inode, face, out);
    if (out->st_nlink == 0) {
        out->st_nlink = face == FACE_DIR ? 2 : 1;
    }
}

static void fill_entry(fuse_req_t req, struct inode *inode, enum face face,
                       struct fuse_entry_param *out)
{
    struct mount *mount = ops_mount(req);
    *out = (struct fuse_entry_param){.ino = inode_nodeid(mount, inode->ino, face)};
    fill_stat(mount, inode, face, &out->attr);
    inode_hold(inode, face);
}

static void reply_entry(fuse_req_t req, struct inode *inode, enum face face)
{
    struct fuse_entry_param entry;
    struct mount *mount = ops_mount(req);
    fill_entry(req, inode, face, &entry);
    if (fuse_reply_entry(req, &entry) != 0) {
        inode_forget(mount, entry.ino, 1);
    }
}

/* The face that this name shows of a node. */
static enum face face_of(const struct inode *inode, const char *name)
{
    return ops_data_is_name(name) ? FACE_FILE : inode_face(&inode->attr);
}

bool ops_replay_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount *mount = ops_mount(req);
    struct inode *node = NULL;
    bool stand_in = special_is(parent) && strncmp(name, "moved-", 6) == 0;
    if (special_is(parent) && !stand_in) {
        return false;
    }
    if (!replay_old_name(mount, stand_in ? REPLAY_NOWHERE : dir_of(mount, parent), name, &node)) {
        return false;
    }
    if (node == NULL) {
        (void)fuse_reply_err(req, ENOENT); /* really, so that the kernel keeps nothing */
    } else {
        reply_entry(req, node, face_of(node, name));
    }
    return true;
}

/* The operation that the caller does, if it is of this kind and at this place; else NULL, and it has
 * been refused. */
static struct replay_op *announced(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount *mount = ops_mount(req);
    struct replay_op *op = replay_op_of(mount, fuse_req_ctx(req)->pid);
    if (op == NULL || !is_place(&op->order.at, parent, name)) {
        refuse(req);
        return NULL;
    }
    return op;
}

void ops_replay_make(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct replay_op *op = announced(req, parent, name);
    if (op == NULL) {
        return;
    }
    if (op->order.kind != REPLAY_DIR && op->order.kind != REPLAY_NODE &&
        op->order.kind != REPLAY_SYMLINK && op->order.kind != REPLAY_CREATE) {
        refuse(req);
        return;
    }
    reply_entry(req, op->node, face_of(op->node, name));
}

/* A handle through which nothing is ever published. */
static struct handle *quiet_handle(fuse_req_t req, struct inode *inode, struct fuse_file_info *fi)
{
    struct handle *handle = handle_open(ops_mount(req), inode, O_RDONLY, 0);
    if (handle != NULL) {
        fi->fh = (uint64_t)(uintptr_t)handle;
        fi->keep_cache = 1;
        fi->direct_io = 1;
        fi->noflush = 1;
    }
    return handle;
}

void ops_replay_create(fuse_req_t req, fuse_ino_t parent, const char *name,
                       struct fuse_file_info *fi)
{
    struct mount *mount = ops_mount(req);
    struct fuse_entry_param entry;
    struct replay_op *op = announced(req, parent, name);
    if (op == NULL) {
        return;
    }
    struct handle *handle =
        op->order.kind == REPLAY_CREATE ? quiet_handle(req, op->node, fi) : NULL;
    if (handle == NULL) {
        refuse(req);
        return;
    }
    fill_entry(req, op->node, FACE_FILE, &entry);
    if (fuse_reply_create(req, &entry, fi) != 0) {
        handle_close(mount, handle);
        inode_forget(mount, entry.ino, 1);
    }
}

void ops_replay_remove(fuse_req_t req, fuse_ino_t parent, const char *name, bool dir)
{
    const struct replay_op *op = announced(req, parent, name);
    if (op == NULL) {
        return;
    }
    bool fits = op->order.kind == (dir ? REPLAY_RMDIR : REPLAY_UNLINK);
    (void)fuse_reply_err(req, fits ? 0 : EIO);
}

void ops_replay_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent,
                       const char *to_name)
{
    const struct replay_op *op = announced(req, parent, name);
    if (op == NULL) {
        return;
    }
    bool fits = (op->order.kind == REPLAY_RENAME || op->order.kind == REPLAY_EXCHANGE) &&
                is_place(&op->order.to, to_parent, to_name);
    (void)fuse_reply_err(req, fits ? 0 : EIO);
}

/* The operation that the caller does, if it is about this node; else NULL, and it has been refused. */
static struct replay_op *announced_node(fuse_req_t req, fuse_ino_t nodeid)
{
    struct replay_op *op = replay_op_of(ops_mount(req), fuse_req_ctx(req)->pid);
    if (op == NULL || op->order.nodeid != nodeid) {
        refuse(req);
        return NULL;
    }
    return op;
}

void ops_replay_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct replay_op *op = announced_node(req, nodeid);
    if (op == NULL) {
        return;
    }
    struct handle *handle = op->order.kind == REPLAY_WRITE ? quiet_handle(req, op->node, fi) : NULL;
    if (handle == NULL) {
        refuse(req);
    } else if (fuse_reply_open(req, fi) != 0) {
        handle_close(ops_mount(req), handle);
    }
}

void ops_replay_setattr(fuse_req_t req, fuse_ino_t nodeid)
{
    struct stat stat_buffer;
    const struct replay_op *op = announced_node(req, nodeid);
    if (op == NULL) {
        return;
    }
    if (op->order.kind != REPLAY_WRITE && op->order.kind != REPLAY_ATTR &&
        op->order.kind != REPLAY_CREATE) {
        refuse(req);
        return;
    }
    enum face face = (nodeid & 1) != 0 ? FACE_DIR : FACE_FILE;
    fill_stat(ops_mount(req), op->node, face, &stat_buffer);
    (void)fuse_reply_attr(req, &stat_buffer, 0.0);
}

bool ops_replay_getattr(fuse_req_t req, fuse_ino_t nodeid)
{
    struct stat stat_buffer;
    enum face face = FACE_FILE;
    const struct inode *inode = inode_of_nodeid(ops_mount(req), nodeid, &face);
    if (inode == NULL) {
        return false;
    }
    fill_stat(ops_mount(req), inode, face, &stat_buffer);
    (void)fuse_reply_attr(req, &stat_buffer, 0.0);
    return true;
}

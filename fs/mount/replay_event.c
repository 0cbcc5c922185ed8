/* SPDX-License-Identifier: Apache-2.0
 *
 * From events to operations of the queue. Handed events by changes.c, when the tables show the new
 * state and the kernel's caches are being told; hands operations to replay.c.
 */
#include "fs/mount/replay_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "fs/mount/inval.h"
#include "fs/mount/special.h"

bool replay_is_held_dir(struct mount *mount, uint64_t ino)
{
    const struct inode *dir = inode_find(mount, ino);
    return dir != NULL && dir->nlookup[FACE_DIR] > 0;
}

/* ---- places ---- */

/* The path of a directory below the root of the mount, as it is at this commit. False: not known, or
 * too long. */
static bool path_of(struct mount *mount, uint64_t ino, char *path, size_t bytes)
{
    size_t at = bytes - 1;
    path[at] = '\0';
    while (ino != mount->root_ino) {
        const struct inode *inode = inode_find(mount, ino);
        size_t len = inode != NULL && inode->name != NULL ? strlen(inode->name) : 0;
        size_t slash = at == bytes - 1 ? 0 : 1;
        if (len == 0 || len + slash > at) {
            return false;
        }
        at -= len + slash;
        memcpy(path + at, inode->name, len);
        if (slash != 0) {
            path[at + len] = '/';
        }
        ino = inode->attr.parent;
    }
    memmove(path, path + at, bytes - at);
    return true;
}

/* False: the kernel does not hold the directory, so that nobody watches it. */
static bool set_place(struct mount *mount, uint64_t parent, const void *name, size_t len,
                      struct replay_place *out)
{
    if (!replay_is_held_dir(mount, parent) || len > NAME_BYTES_MAX) {
        return false;
    }
    out->nodeid = inode_nodeid(mount, parent, FACE_DIR);
    memcpy(out->name, name, len);
    out->name[len] = '\0';
    return path_of(mount, parent, out->path, sizeof out->path);
}

/* One side of a rename that nobody here can watch: any place will do that nobody watches. */
static void set_nowhere(struct replay *replay, struct replay_place *out)
{
    out->nodeid = SPECIAL_FOLDER_NODEID;
    (void)snprintf(out->path, sizeof out->path, "%s", SPECIAL_NAME);
    (void)snprintf(out->name, sizeof out->name, "moved-%llu",
                   (unsigned long long)++replay->last_moved);
}

/* ---- operations ---- */

static void fill_order(const struct replay *replay, const struct inode *node, enum face face,
                       struct replay_order *order)
{
    struct stat shown;
    inode_stat(replay->mount, node, face, &shown);
    order->device = replay->device;
    order->nodeid = shown.st_ino;
    order->size = (uint64_t)shown.st_size;
    order->mode = shown.st_mode;
    order->rdev = shown.st_rdev;
    order->mtime_ns = (int64_t)shown.st_mtim.tv_sec * 1000000000 + shown.st_mtim.tv_nsec;
    order->atime_ns = (int64_t)shown.st_atim.tv_sec * 1000000000 + shown.st_atim.tv_nsec;
}

/* A new operation about this node (NULL: lost), with references. */
static struct replay_op *op_new(struct replay *replay, enum replay_kind kind, struct inode *node,
                                enum face face)
{
    struct replay_op *op = NULL;
    if (node != NULL && replay->figures.waiting < REPLAY_QUEUE_MAX) {
        op = calloc(1, sizeof *op);
    }
    if (op == NULL) {
        replay->figures.dropped++;
        return NULL;
    }
    inode_ref(node);
    op->node = node;
    op->order.kind = kind;
    fill_order(replay, node, face, &op->order);
    return op;
}

void replay_queue_one(struct replay *replay, enum replay_kind kind,
                      const struct replay_subject *subject)
{
    if (!replay_is_held_dir(replay->mount, subject->parent)) {
        return;
    }
    struct replay_op *op = op_new(replay, kind, subject->node, subject->face);
    if (op == NULL) {
        return;
    }
    op->parent = subject->parent;
    op->order.truncated = subject->truncated;
    if (set_place(replay->mount, subject->parent, subject->name, subject->name_len,
                  &op->order.at)) {
        replay_queue(replay, op);
    } else {
        replay->figures.dropped++;
        replay_op_free(replay, op);
    }
}

/* A second change of what waits already needs no second replay. */
static bool join(struct replay *replay, enum replay_kind kind, const struct replay_subject *subject)
{
    struct replay_op *op = NULL;
    DL_FOREACH(replay->queue, op)
    {
        if (op->order.kind == kind && op->node == subject->node && !op->running &&
            op->parent == subject->parent) {
            fill_order(replay, subject->node, subject->face, &op->order);
            op->order.truncated = op->order.truncated || subject->truncated;
            op->ticket = inval_inodes_given(replay->mount->inval);
            return true;
        }
    }
    return false;
}

void replay_queue_change(struct replay *replay, enum replay_kind kind,
                         const struct replay_subject *subject)
{
    if (!join(replay, kind, subject)) {
        replay_queue_one(replay, kind, subject);
    }
}

enum replay_kind replay_making_of(const struct inode *inode)
{
    switch (inode_type(&inode->attr, inode_face(&inode->attr))) {
    case S_IFREG:
        return REPLAY_CREATE;
    case S_IFDIR:
        return REPLAY_DIR;
    case S_IFLNK:
        return REPLAY_SYMLINK;
    default:
        return REPLAY_NODE;
    }
}

/* ---- events ---- */

/* The node of an event, with a reference; made if a directory that the kernel holds shows it. NULL:
 * nobody can watch. */
static struct inode *node_of(struct mount *mount, uint64_t parent, uint64_t ino,
                             const Wire__Attr *attr)
{
    struct inode *node = inode_find(mount, ino);
    if (node == NULL && attr != NULL && replay_is_held_dir(mount, parent)) {
        node = inode_take(mount, attr, 0, true /* make */);
    }
    if (node != NULL) {
        inode_ref(node);
    }
    return node;
}

static struct replay_subject subject_of(const Wire__Event *event, struct inode *node)
{
    return (struct replay_subject){.parent = event->parent,
                                   .name = event->name.data,
                                   .name_len = event->name.len,
                                   .node = node,
                                   .face = inode_face(&node->attr)};
}

static void replay_created(struct replay *replay, const Wire__Event *event, struct inode *node)
{
    inode_set_name(node, event->name.data, event->name.len);
    struct replay_subject subject = subject_of(event, node);
    replay_queue_one(replay, replay_making_of(node), &subject);
}

static void replay_removed(struct replay *replay, const Wire__Event *event, struct inode *node)
{
    node->gone = true;
    struct replay_subject subject = subject_of(event, node);
    replay_queue_one(replay, subject.face == FACE_DIR ? REPLAY_RMDIR : REPLAY_UNLINK, &subject);
}

/* The data of a directory is a file in it, which comes and goes. */
static void replay_data_of_dir(struct replay *replay, struct inode *dir, bool had_data,
                               bool truncated)
{
    const struct replay_subject subject = {.parent = dir->ino,
                                           .name = DATA_NAME,
                                           .name_len = sizeof DATA_NAME - 1,
                                           .node = dir,
                                           .face = FACE_FILE,
                                           .truncated = truncated};
    bool has_data = dir->attr.data_bytes > 0;
    if (had_data != has_data) {
        replay_queue_one(replay, has_data ? REPLAY_CREATE : REPLAY_UNLINK, &subject);
    } else {
        replay_queue_change(replay, REPLAY_WRITE, &subject);
    }
}

static void replay_data(struct replay *replay, const Wire__Event *event, struct inode *node,
                        bool had_data)
{
    struct replay_subject subject = subject_of(event, node);
    subject.truncated = event->truncated;
    if (subject.face == FACE_DIR) {
        replay_data_of_dir(replay, node, had_data, event->truncated);
    } else {
        replay_queue_change(replay, REPLAY_WRITE, &subject);
    }
}

static void replay_attr(struct replay *replay, const Wire__Event *event, struct inode *node)
{
    struct replay_subject subject = subject_of(event, node);
    if (node->ino != replay->mount->root_ino) {
        replay_queue_change(replay, REPLAY_ATTR, &subject);
    }
}

/* The node on the other side of a rename, with a reference, or NULL. */
static struct inode *other_of(struct mount *mount, const Wire__Event *event,
                              const struct replay_op *op)
{
    if (event->replaced_ino == 0 || (!event->exchanged && op->to_parent == REPLAY_NOWHERE)) {
        return NULL;
    }
    struct inode *other =
        node_of(mount, op->to_parent != REPLAY_NOWHERE ? event->to_parent : event->parent,
                event->replaced_ino, event->replaced_attr);
    if (other != NULL && !event->exchanged) {
        other->gone = true;
    }
    return other;
}

/* Sets the two places of a rename; false: nobody can watch either. */
static bool set_places(struct replay *replay, struct replay_op *op,
                       const struct replay_subject *from, const struct replay_subject *to)
{
    struct mount *mount = replay->mount;
    op->parent = from->parent;
    op->to_parent = to->parent;
    if (!set_place(mount, from->parent, from->name, from->name_len, &op->order.at)) {
        op->parent = REPLAY_NOWHERE;
        set_nowhere(replay, &op->order.at);
    }
    if (!set_place(mount, to->parent, to->name, to->name_len, &op->order.to)) {
        op->to_parent = REPLAY_NOWHERE;
        set_nowhere(replay, &op->order.to);
    }
    return op->parent != REPLAY_NOWHERE || op->to_parent != REPLAY_NOWHERE;
}

void replay_queue_move(struct replay *replay, const struct replay_subject *from,
                       const struct replay_subject *to)
{
    struct inode *node = from->node;
    struct replay_op *op = op_new(replay, REPLAY_RENAME, node, inode_face(&node->attr));
    if (op != NULL && set_places(replay, op, from, to)) {
        replay_queue(replay, op);
    } else if (op != NULL) {
        replay_op_free(replay, op);
    }
}

static void replay_renamed(struct replay *replay, const Wire__Event *event, struct inode *node)
{
    const struct replay_subject from = subject_of(event, node);
    const struct replay_subject to = {
        .parent = event->to_parent, .name = event->to_name.data, .name_len = event->to_name.len};
    struct replay_op *op = op_new(replay, event->exchanged ? REPLAY_EXCHANGE : REPLAY_RENAME, node,
                                  inode_face(&node->attr));
    if (op == NULL) {
        return;
    }
    bool watchable = set_places(replay, op, &from, &to);
    op->other = other_of(replay->mount, event, op);
    if (watchable) {
        replay_queue(replay, op);
    } else {
        replay_op_free(replay, op);
    }
}

void replay_event(struct mount *mount, const Wire__Event *event, bool had_data)
{
    struct replay *replay = mount->replay;
    if (replay == NULL || replay->device == 0) {
        return;
    }
    bool at_target =
        event->kind == WIRE__EVENT_KIND__EVENT_RENAMED && !replay_is_held_dir(mount, event->parent);
    struct inode *node =
        node_of(mount, at_target ? event->to_parent : event->parent, event->ino, event->attr);
    if (node == NULL) {
        return;
    }
    switch (event->kind) {
    case WIRE__EVENT_KIND__EVENT_CREATED:
        replay_created(replay, event, node);
        break;
    case WIRE__EVENT_KIND__EVENT_DATA:
        replay_data(replay, event, node, had_data);
        break;
    case WIRE__EVENT_KIND__EVENT_ATTR:
        replay_attr(replay, event, node);
        break;
    case WIRE__EVENT_KIND__EVENT_REMOVED:
        replay_removed(replay, event, node);
        break;
    case WIRE__EVENT_KIND__EVENT_RENAMED:
        replay_renamed(replay, event, node);
        break;
    case WIRE__EVENT_KIND__EVENT_RESYNC:
    case WIRE__EVENT_KIND__EVENT_REVOKED:
    case WIRE__EVENT_KIND__EVENT_LOCK_GRANTED:
    case WIRE__EVENT_KIND__EVENT_NONE:
    case _WIRE__EVENT_KIND_IS_INT_SIZE:
        break;
    }
    inode_unref(mount, node);
}

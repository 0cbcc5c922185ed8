/* SPDX-License-Identifier: Apache-2.0
 *
 * LOOKUP, FORGET, READDIR, READDIRPLUS, READLINK: from names to nodes.
 *
 * Cookies of a listing: 1 behind ".", 2 behind "..", 3 behind DATA_NAME, others as the replica gives
 * them (16 and up, stable as long as the entry lives).
 */
#include "fs/mount/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "fs/mount/changes.h"
#include "fs/mount/listing.h"
#include "fs/mount/order.h"
#include "fs/mount/publish.h"
#include "fs/mount/replay.h"
#include "fs/mount/special.h"

/* What one page of a listing asks of the replica, in bytes. */
#define PAGE_BYTES (64u * KIB)

#define COOKIE_SELF   1u
#define COOKIE_PARENT 2u
#define COOKIE_DATA   3u

/* ---- lookup ---- */

static void lookup_done(struct task *task, enum err err, const Wire__Answer *answer)
{
    if (answer != NULL) {
        struct inode *inode = task_take_answer(task->mount, answer, err == ERR_OK);
        if (err == ERR_OK && inode != NULL) {
            task->inode = inode;
            inode_ref(inode);
        }
    }
    if (err == ERR_NO_NODE) {
        task->no_node = true;
        order_reply(task, ops_reply_entry);
        return;
    }
    if (err == ERR_OK && task->inode == NULL) {
        err = ERR_MEMORY;
    }
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    order_reply(task, ops_reply_entry);
}

static void lookup_send(struct task *task)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__LookupRead lookup = WIRE__LOOKUP_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    at.ino = task->parent->ino;
    at.name = wire_bytes(task->name, task->name_len);
    lookup.at = &at;
    request.body_case = WIRE__REQUEST__BODY_LOOKUP;
    request.lookup = &lookup;
    task_call(task, &request, lookup_done);
}

void ops_lookup(fuse_req_t req, fuse_ino_t parent_nodeid, const char *name)
{
    if (ops_is_replay(req) && ops_replay_lookup(req, parent_nodeid, name)) {
        return;
    }
    if (special_is(parent_nodeid)) {
        special_lookup(req, parent_nodeid, name);
        return;
    }
    if (parent_nodeid == FUSE_ROOT_ID && strcmp(name, SPECIAL_NAME) == 0) {
        special_lookup_folder(req);
        return;
    }
    if (ops_data_is_name(name)) {
        ops_data_lookup(req, parent_nodeid);
        return;
    }
    struct task *task = ops_name_task(req, parent_nodeid, name);
    if (task == NULL) {
        return;
    }
    if (task->mount->options->linearizable) {
        task_barrier(task, lookup_send);
    } else {
        lookup_send(task);
    }
}

void ops_forget(fuse_req_t req, fuse_ino_t nodeid, uint64_t count)
{
    inode_forget(ops_mount(req), nodeid, count);
    fuse_reply_none(req);
}

void ops_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++) {
        inode_forget(ops_mount(req), forgets[i].ino, forgets[i].nlookup);
    }
    fuse_reply_none(req);
}

/* ---- listing ---- */

void ops_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    (void)nodeid;
    (void)fi;
    /* The kernel never asks again, and caches listings of all directories. */
    (void)fuse_reply_err(req, ENOSYS);
}

/* A reply of READDIR while it is filled. */
struct fill {
    struct task *task;
    char *bytes;
    size_t len;
    bool full;
};

/* Notes if an entry of this name does not fit any more. */
static bool fill_has_room(struct fill *fill, const char *name)
{
    struct task *task = fill->task;
    size_t need = task->plus ? fuse_add_direntry_plus(task->req, NULL, 0, name, NULL, 0)
                             : fuse_add_direntry(task->req, NULL, 0, name, NULL, 0);
    fill->full = fill->full || need > task->size - fill->len;
    return !fill->full;
}

static void fill_add(struct fill *fill, const char *name, const struct fuse_entry_param *entry,
                     uint64_t cookie)
{
    struct task *task = fill->task;
    if (!fill_has_room(fill, name)) {
        return;
    }
    size_t room = task->size - fill->len;
    size_t need = task->plus ? fuse_add_direntry_plus(task->req, fill->bytes + fill->len, room,
                                                      name, entry, (off_t)cookie)
                             : fuse_add_direntry(task->req, fill->bytes + fill->len, room, name,
                                                 &entry->attr, (off_t)cookie);
    CHECK_OP(need, <=, room);
    fill->len += need;
}

/* ".", ".." and the data, which is no child: without a nodeid, so that they count as no lookup. */
static void fill_own(struct fill *fill)
{
    struct task *task = fill->task;
    struct fuse_entry_param entry = {.ino = 0};
    entry.attr.st_mode = S_IFDIR;
    if (task->offset < COOKIE_SELF) {
        entry.attr.st_ino = inode_nodeid(task->mount, task->inode->ino, FACE_DIR);
        fill_add(fill, ".", &entry, COOKIE_SELF);
    }
    if (task->offset < COOKIE_PARENT && !fill->full) {
        uint64_t parent = task->inode->ino == task->mount->root_ino ? task->mount->root_ino
                                                                    : task->inode->attr.parent;
        entry.attr.st_ino = inode_nodeid(task->mount, parent, FACE_DIR);
        fill_add(fill, "..", &entry, COOKIE_PARENT);
    }
    if (task->offset < COOKIE_DATA && !fill->full && publish_length(task->inode) > 0) {
        entry.attr.st_mode = S_IFREG;
        entry.attr.st_ino = inode_nodeid(task->mount, task->inode->ino, FACE_FILE);
        fill_add(fill, DATA_NAME, &entry, COOKIE_DATA);
    }
}

/* One child. With attributes it counts as a lookup. */
static void fill_child(struct fill *fill, const struct listing *listing,
                       const struct listing_entry *child)
{
    struct task *task = fill->task;
    struct mount *mount = task->mount;
    struct fuse_entry_param entry = {0};
    enum face face = inode_face(&child->attr);
    if (!task->plus) {
        entry.attr.st_ino = inode_nodeid(mount, child->attr.ino, face);
        entry.attr.st_mode = inode_type(&child->attr, face);
        fill_add(fill, child->name, &entry, child->cookie);
        return;
    }
    /* Asked first: a node that is taken and not held would give its promise back. */
    struct inode *inode = fill_has_room(fill, child->name)
                              ? inode_take(mount, &child->attr, listing->grant, true /* make */)
                              : NULL;
    if (inode == NULL) {
        fill->full = true;
        return;
    }
    face = inode_face(&inode->attr);
    entry.ino = inode_nodeid(mount, inode->ino, face);
    bool pending = replay_is_pending(mount, task->inode->ino, child->name, strlen(child->name));
    entry.entry_timeout =
        mount_timeout(mount, listing->grant != 0 && mount->names_promised && !pending);
    entry.attr_timeout = inode_attr_timeout(mount, inode);
    inode_stat(mount, inode, face, &entry.attr);
    fill_add(fill, child->name, &entry, child->cookie);
    inode_hold(inode, face);
    inode_set_name(inode, child->name, strlen(child->name));
}

/* Takes back the lookups of a reply that did not reach the kernel. */
static void unhold(struct mount *mount, struct inode *parent, size_t from, size_t to)
{
    /* A child that goes would take the page with it. */
    struct listing *listing = parent->listing;
    parent->listing = NULL;
    for (size_t i = from; i < to; i++) {
        const struct inode *inode = inode_find(mount, listing->entries[i].attr.ino);
        if (inode != NULL) {
            inode_forget(mount, inode_nodeid(mount, inode->ino, inode_face(&inode->attr)), 1);
        }
    }
    parent->listing = listing;
    listing_drop(mount, parent);
}

/* Answers from the page kept on the inode, which has the place. */
static void readdir_reply(struct task *task, size_t from)
{
    struct listing *listing = task->inode->listing;
    struct fill fill = {.task = task, .bytes = malloc(task->size)};
    size_t to = from;
    if (fill.bytes == NULL) {
        task_fail(task, ERR_MEMORY);
        return;
    }
    fill_own(&fill);
    while (to < listing->count && !fill.full) {
        fill_child(&fill, listing, &listing->entries[to]);
        to += !fill.full;
    }
    if (fuse_reply_buf(task->req, fill.bytes, fill.len) != 0 && task->plus) {
        unhold(task->mount, task->inode, from, to);
    } else if (to == listing->count && (!listing->end || fill.len == 0)) {
        /* All given out, also the empty reply at the end: let the page and the promises that
         * nobody needs go. */
        listing_drop(task->mount, task->inode);
    }
    free(fill.bytes);
    task_end(task);
}

static uint64_t server_cookie(uint64_t offset)
{
    return offset <= COOKIE_DATA ? 0 : offset;
}

static void readdir_done(struct task *task, enum err err, const Wire__Answer *answer)
{
    if (err == ERR_OK && answer != NULL) {
        (void)task_take_answer(task->mount, answer, false /* make */);
        err = listing_keep(task->mount, task->inode, server_cookie(task->offset), answer);
    }
    size_t from = 0;
    if (err == ERR_OK && !listing_find(task->inode->listing, server_cookie(task->offset), &from)) {
        err = ERR_MALFORMED;
    }
    if (err != ERR_OK) {
        task_fail(task, err);
        return;
    }
    readdir_reply(task, from);
}

static void readdir_send(struct task *task)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__ChildrenRead read = WIRE__CHILDREN_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    at.ino = task->inode->ino;
    read.at = &at;
    read.cookie = server_cookie(task->offset);
    read.bytes_max = PAGE_BYTES;
    request.body_case = WIRE__REQUEST__BODY_CHILDREN;
    request.children = &read;
    task_call(task, &request, readdir_done);
}

static void list(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, bool plus)
{
    struct inode *inode = ops_inode(req, nodeid, NULL);
    struct task *task = inode != NULL ? task_new(ops_mount(req), req, inode) : NULL;
    size_t from = 0;
    if (task == NULL) {
        return;
    }
    task->offset = (uint64_t)offset;
    task->size = size;
    task->plus = plus;
    if (inode->listing != NULL && (inode->listing->grant != 0 || offset != 0) &&
        listing_find(inode->listing, server_cookie(task->offset), &from)) {
        readdir_reply(task, from);
    } else {
        readdir_send(task);
    }
}

void ops_readdir(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
                 struct fuse_file_info *fi)
{
    (void)fi;
    if (special_is(nodeid)) {
        special_readdir(req, size, offset, false /* plus */);
        return;
    }
    list(req, nodeid, size, offset, false /* plus */);
}

void ops_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
                     struct fuse_file_info *fi)
{
    (void)fi;
    if (special_is(nodeid)) {
        special_readdir(req, size, offset, true /* plus */);
        return;
    }
    list(req, nodeid, size, offset, true /* plus */);
}

/* ---- symlinks ---- */

static void readlink_done(struct task *task, enum err err, const Wire__Answer *answer)
{
    char target[PATH_BYTES_MAX];
    if (err == ERR_OK &&
        (answer == NULL || answer->data.len == 0 || answer->data.len >= sizeof target)) {
        err = ERR_MALFORMED;
    }
    if (err != ERR_OK) {
        task_fail(task, err);
        return;
    }
    (void)task_take_answer(task->mount, answer, false /* make */);
    memcpy(target, answer->data.data, answer->data.len);
    target[answer->data.len] = '\0';
    (void)fuse_reply_readlink(task->req, target);
    task_end(task);
}

void ops_readlink(fuse_req_t req, fuse_ino_t nodeid)
{
    struct inode *inode = ops_inode(req, nodeid, NULL);
    struct task *task = inode != NULL ? task_new(ops_mount(req), req, inode) : NULL;
    if (task == NULL) {
        return;
    }
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__LookupRead lookup = WIRE__LOOKUP_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    at.ino = inode->ino;
    lookup.at = &at;
    request.body_case = WIRE__REQUEST__BODY_LOOKUP;
    request.lookup = &lookup;
    task_call(task, &request, readlink_done);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of nodes. Handed answers by task.c and events by changes.c; asked by all ops.
 *
 * Invariant 1: an inode that is not held by the kernel and not in use is not in the table; its
 * promise has been given back.
 * Invariant 2: attributes never go back in time (azxid grows with every change of the row).
 */
#include "fs/mount/inode.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/limits.h"
#include "fs/mount/changes.h"
#include "fs/mount/content.h"
#include "fs/mount/handle.h"
#include "fs/mount/listing.h"
#include "fs/mount/order.h"
#include "fs/mount/publish.h"

#define ROOT_NODEID 1u
#define NS_PER_S    1000000000

bool inode_may_be_dir(const Wire__Attr *attr)
{
    return attr->kind == WIRE__KIND__KIND_DIR || attr->kind == WIRE__KIND__KIND_PLAIN;
}

enum face inode_face(const Wire__Attr *attr)
{
    if (attr->kind == WIRE__KIND__KIND_DIR) {
        return FACE_DIR;
    }
    if (attr->kind == WIRE__KIND__KIND_PLAIN) {
        return attr->children > 0 || attr->data_bytes == 0 ? FACE_DIR : FACE_FILE;
    }
    return FACE_FILE;
}

uint64_t inode_nodeid(const struct mount *mount, uint64_t ino, enum face face)
{
    if (ino == mount->root_ino && face == FACE_DIR) {
        return ROOT_NODEID;
    }
    return ino << 1 | (uint64_t)face;
}

struct inode *inode_find(struct mount *mount, uint64_t ino)
{
    struct inode *inode = NULL;
    HASH_FIND(hh, mount->inodes, &ino, sizeof ino, inode);
    return inode;
}

struct inode *inode_of_nodeid(struct mount *mount, uint64_t nodeid, enum face *out_face)
{
    *out_face = (nodeid & 1) != 0 ? FACE_DIR : FACE_FILE;
    return inode_find(mount, nodeid == ROOT_NODEID ? mount->root_ino : nodeid >> 1);
}

static struct inode *inode_new(struct mount *mount, const Wire__Attr *attr)
{
    struct inode *inode = calloc(1, sizeof *inode);
    if (inode == NULL) {
        return NULL;
    }
    inode->ino = attr->ino;
    inode->attr = *attr;
    HASH_ADD(hh, mount->inodes, ino, sizeof inode->ino, inode);
    if (inode->hh.tbl == NULL) {
        free(inode);
        return NULL;
    }
    return inode;
}

static void inode_free(struct mount *mount, struct inode *inode)
{
    CHECK(inode->handles == NULL && inode->fetch == NULL && inode->publish == NULL);
    listing_of_child_drop(mount, inode);
    if (inode->promised && mount->client != NULL) {
        client_forget(mount->client, inode->ino, mount->grant_seen);
    }
    content_drop(mount, inode);
    listing_drop(mount, inode);
    HASH_DEL(mount->inodes, inode);
    free(inode->name);
    free(inode);
}

static void free_if_unused(struct mount *mount, struct inode *inode)
{
    if (inode->refs == 0 && !inode_is_held(inode)) {
        inode_free(mount, inode);
    }
}

static bool is_newer(const Wire__Attr *known, const Wire__Attr *attr)
{
    return attr->azxid >= known->azxid && attr->mzxid >= known->mzxid &&
           attr->pzxid >= known->pzxid;
}

struct inode *inode_take(struct mount *mount, const Wire__Attr *attr, uint64_t grant, bool make)
{
    struct inode *inode = inode_find(mount, attr->ino);
    if (grant > mount->grant_seen) {
        mount->grant_seen = grant;
    }
    if (inode == NULL && make) {
        inode = inode_new(mount, attr);
    }
    if (inode == NULL) {
        if (grant != 0) {
            client_forget(mount->client, attr->ino, grant);
        }
        return NULL;
    }
    if (is_newer(&inode->attr, attr)) {
        if (inode->attr.mzxid != attr->mzxid) {
            inode->changed_ms = clock_monotonic_ms();
        }
        if (inode_face(&inode->attr) != inode_face(attr) && inode_is_held(inode)) {
            /* Its name now means another nodeid, and its directory lists another type. */
            order_epoch(mount);
            const struct inode *parent = inode_find(mount, attr->parent);
            if (parent != NULL && parent->nlookup[FACE_DIR] > 0) {
                order_inode(mount, inode_nodeid(mount, parent->ino, FACE_DIR),
                            false /* attr_only */);
            }
        }
        bool missed = mount->events_missing && inode->attr.azxid != attr->azxid;
        inode->attr = *attr;
        if (missed) {
            changes_missed(mount, inode);
        }
    }
    inode->promised = inode->promised || grant != 0;
    return inode;
}

void inode_ref(struct inode *inode)
{
    inode->refs++;
}

void inode_unref(struct mount *mount, struct inode *inode)
{
    if (inode != NULL) {
        CHECK(inode->refs > 0);
        inode->refs--;
        free_if_unused(mount, inode);
    }
}

void inode_set_name(struct inode *inode, const void *name, size_t len)
{
    if (inode->name == NULL || strlen(inode->name) != len || memcmp(inode->name, name, len) != 0) {
        free(inode->name);
        inode->name = strndup(name, len);
    }
}

void inode_hold(struct inode *inode, enum face face)
{
    inode->nlookup[face]++;
}

void inode_forget(struct mount *mount, uint64_t nodeid, uint64_t count)
{
    enum face face = FACE_FILE;
    struct inode *inode = inode_of_nodeid(mount, nodeid, &face);
    if (inode == NULL || nodeid == ROOT_NODEID) {
        return;
    }
    CHECK_OP(inode->nlookup[face], >=, count);
    inode->nlookup[face] -= count;
    if (inode->nlookup[face] == 0) {
        order_forgotten(mount, nodeid);
    }
    free_if_unused(mount, inode);
}

bool inode_is_held(const struct inode *inode)
{
    return inode->nlookup[FACE_FILE] > 0 || inode->nlookup[FACE_DIR] > 0;
}

/* ---- stat ---- */

mode_t inode_type(const Wire__Attr *attr, enum face face)
{
    switch (attr->kind) {
    case WIRE__KIND__KIND_SYMLINK:
        return S_IFLNK;
    case WIRE__KIND__KIND_FIFO:
        return S_IFIFO;
    case WIRE__KIND__KIND_SOCKET:
        return S_IFSOCK;
    case WIRE__KIND__KIND_CHAR_DEVICE:
        return S_IFCHR;
    case WIRE__KIND__KIND_BLOCK_DEVICE:
        return S_IFBLK;
    case WIRE__KIND__KIND_NONE:
    case WIRE__KIND__KIND_PLAIN:
    case WIRE__KIND__KIND_FILE:
    case WIRE__KIND__KIND_DIR:
    case _WIRE__KIND_IS_INT_SIZE:
        break;
    }
    return face == FACE_DIR ? S_IFDIR : S_IFREG;
}

static struct timespec timespec_of(int64_t ns)
{
    struct timespec time = {.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
    if (time.tv_nsec < 0) {
        time.tv_nsec += NS_PER_S;
        time.tv_sec--;
    }
    return time;
}

bool inode_is_data(const struct inode *inode, enum face face)
{
    return face == FACE_FILE && inode_face(&inode->attr) == FACE_DIR;
}

/* Permission bits. What is no directory by its kind may lack the right to enter, and the data of a
 * directory is no program. */
static mode_t mode_of(const Wire__Attr *attr, enum face face)
{
    mode_t mode = attr->mode & 07777u;
    if (face == FACE_FILE) {
        return inode_face(attr) == FACE_DIR ? mode & 0666u : mode;
    }
    return attr->kind == WIRE__KIND__KIND_PLAIN ? mode | (mode & 0444u) >> 2 : mode;
}

void inode_stat(const struct mount *mount, const struct inode *inode, enum face face,
                struct stat *out)
{
    const Wire__Attr *attr = &inode->attr;
    struct publish_view view = {.bytes = attr->data_bytes,
                                .atime_ns = attr->atime_ns,
                                .mtime_ns = attr->mtime_ns,
                                .ctime_ns = attr->ctime_ns};
    publish_view(inode, &view);
    const struct mount_options *options = mount->options;
    *out = (struct stat){0};
    out->st_ino = inode_nodeid(mount, inode->ino, face);
    out->st_mode =
        inode_type(attr, face) | (options->show_mode ? options->mode : mode_of(attr, face));
    if (view.kills_suid_sgid && face == FACE_FILE) {
        out->st_mode &= ~(mode_t)(S_ISUID | S_ISGID);
    }
    out->st_nlink = inode->gone ? 0 : 1;
    out->st_uid = options->show_uid ? options->uid : attr->uid;
    out->st_gid = options->show_gid ? options->gid : attr->gid;
    out->st_rdev = attr->rdev;
    out->st_size = (off_t)view.bytes;
    out->st_atim = timespec_of(view.atime_ns);
    out->st_mtim = timespec_of(view.mtime_ns);
    out->st_ctim = timespec_of(view.ctime_ns);
    if (face == FACE_DIR) {
        out->st_nlink = inode->gone ? 0 : 2 + attr->subdirs;
        out->st_size = 4096;
        out->st_mtim = timespec_of(attr->children_mtime_ns);
    }
    out->st_blksize = (blksize_t)MIB;
    out->st_blocks = (blkcnt_t)((uint64_t)out->st_size + 511) / 512;
}

double inode_attr_timeout(const struct mount *mount, const struct inode *inode)
{
    return mount_timeout(mount, inode->promised && inode->publish == NULL);
}

void inode_free_all(struct mount *mount)
{
    struct inode *inode = NULL;
    struct inode *next = NULL;
    HASH_ITER(hh, mount->inodes, inode, next)
    {
        inode->refs++; /* lives until its handles are closed */
        while (inode->handles != NULL) {
            handle_close(mount, inode->handles);
        }
        inode_free(mount, inode);
    }
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Handed events by the client in the one stream that also carries answers; hands on to inode.c
 * (what is known here) and order.c (what the kernel must forget). Applies what the event carries,
 * asks nothing.
 */
#include "fs/mount/changes.h"

#include <stdlib.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/logging.h"
#include "fs/mount/content.h"
#include "fs/mount/inode.h"
#include "fs/mount/listing.h"
#include "fs/mount/order.h"
#include "fs/mount/publish.h"
#include "fs/mount/replay.h"

/* Tells the kernel about each face of the inode that it holds. */
static void push_inode(struct mount *mount, struct inode *inode, bool attr_only)
{
    for (int face = FACE_FILE; face <= FACE_DIR; face++) {
        if (inode->nlookup[face] > 0) {
            order_inode(mount, inode_nodeid(mount, inode->ino, (enum face)face), attr_only);
        }
    }
    if (!attr_only) {
        inode->pages = false;
    }
}

/* A name in this directory means something else now. */
static void name_changed(struct mount *mount, uint64_t ino, const Wire__Attr *attr,
                         const ProtobufCBinaryData *name)
{
    struct inode *parent =
        attr != NULL ? inode_take(mount, attr, 0, false /* make */) : inode_find(mount, ino);
    if (parent == NULL) {
        return;
    }
    listing_drop(mount, parent);
    parent->names_mark = mount->change_count;
    if (parent->nlookup[FACE_DIR] > 0) {
        uint64_t nodeid = inode_nodeid(mount, parent->ino, FACE_DIR);
        order_name(mount, nodeid, name->data, name->len);
        order_inode(mount, nodeid, false /* attr_only: its listing is cached as pages */);
    }
}

/* The listing of its directory shows old attributes. */
static void listing_of_parent_drop(struct mount *mount, uint64_t ino)
{
    struct inode *parent = inode_find(mount, ino);
    if (parent != NULL) {
        listing_drop(mount, parent);
    }
}

void changes_data_name(struct mount *mount, struct inode *inode)
{
    if (!inode_may_be_dir(&inode->attr)) {
        return;
    }
    listing_drop(mount, inode);
    inode->names_mark = mount->change_count;
    if (inode->nlookup[FACE_DIR] > 0) {
        uint64_t nodeid = inode_nodeid(mount, inode->ino, FACE_DIR);
        order_name(mount, nodeid, DATA_NAME, sizeof DATA_NAME - 1);
        order_inode(mount, nodeid, false /* attr_only: its listing is cached as pages */);
    }
}

static void data_changed(struct mount *mount, const Wire__Attr *attr)
{
    const struct inode *known = inode_find(mount, attr->ino);
    bool had_data = known != NULL && known->attr.data_bytes > 0;
    struct inode *inode = inode_take(mount, attr, 0, false /* make */);
    if (inode == NULL) {
        return;
    }
    if (had_data != (inode->attr.data_bytes > 0)) {
        changes_data_name(mount, inode);
    }
    inode->changed_ms = clock_monotonic_ms();
    if (inode->content != NULL && inode->content->mzxid != inode->attr.mzxid) {
        content_drop(mount, inode);
    }
    push_inode(mount, inode, false /* attr_only */);
}

static void attr_changed(struct mount *mount, const Wire__Attr *attr)
{
    struct inode *inode = attr != NULL ? inode_take(mount, attr, 0, false /* make */) : NULL;
    if (inode != NULL) {
        push_inode(mount, inode, true /* attr_only */);
    }
}

static void node_removed(struct mount *mount, uint64_t ino)
{
    struct inode *inode = inode_find(mount, ino);
    if (inode != NULL) {
        inode->gone = true;
        push_inode(mount, inode, true /* attr_only */);
    }
}

static void set_name(struct mount *mount, uint64_t ino, const ProtobufCBinaryData *name)
{
    struct inode *inode = inode_find(mount, ino);
    if (inode != NULL) {
        inode_set_name(inode, name->data, name->len);
    }
}

static void node_renamed(struct mount *mount, const Wire__Event *event)
{
    name_changed(mount, event->parent, event->parent_attr, &event->name);
    name_changed(mount, event->to_parent,
                 event->to_parent_attr != NULL ? event->to_parent_attr : event->parent_attr,
                 &event->to_name);
    attr_changed(mount, event->attr);
    set_name(mount, event->ino, &event->to_name);
    if (event->exchanged) {
        attr_changed(mount, event->replaced_attr);
        set_name(mount, event->replaced_ino, &event->name);
    } else if (event->replaced_ino != 0) {
        node_removed(mount, event->replaced_ino);
    }
}

/* Something is different, and only the new state is known. */
static void node_unknown(struct mount *mount, const Wire__Event *event)
{
    struct inode *inode = inode_find(mount, event->ino);
    if (inode == NULL) {
        return;
    }
    const Wire__Attr old = inode->attr;
    if (event->kind == WIRE__EVENT_KIND__EVENT_REVOKED) {
        inode->promised = false;
    } else if (event->attr != NULL) {
        (void)inode_take(mount, event->attr, 0, false /* make */);
    } else {
        inode->gone = true;
    }
    if (inode->content != NULL && !inode->gone && inode->content->mzxid != inode->attr.mzxid) {
        content_drop(mount, inode);
    }
    inode->names_mark = mount->change_count;
    listing_drop(mount, inode);
    push_inode(mount, inode, false /* attr_only */);
    if (inode->nlookup[FACE_DIR] > 0 || inode->gone) {
        order_epoch(mount);
    }
    if (event->kind == WIRE__EVENT_KIND__EVENT_RESYNC) {
        replay_resync(mount, inode, &old);
    }
}

void changes_event(struct mount *mount, const Wire__Event *event)
{
    const struct inode *known = inode_find(mount, event->ino);
    bool had_data = known != NULL && known->attr.data_bytes > 0;
    mount->change_count++;
    switch (event->kind) {
    case WIRE__EVENT_KIND__EVENT_CREATED:
        name_changed(mount, event->parent, event->parent_attr, &event->name);
        break;
    case WIRE__EVENT_KIND__EVENT_DATA:
        listing_of_parent_drop(mount, event->parent);
        if (event->attr != NULL) {
            data_changed(mount, event->attr);
        }
        break;
    case WIRE__EVENT_KIND__EVENT_ATTR:
        listing_of_parent_drop(mount, event->parent);
        attr_changed(mount, event->attr);
        break;
    case WIRE__EVENT_KIND__EVENT_REMOVED:
        name_changed(mount, event->parent, event->parent_attr, &event->name);
        node_removed(mount, event->ino);
        break;
    case WIRE__EVENT_KIND__EVENT_RENAMED:
        node_renamed(mount, event);
        break;
    case WIRE__EVENT_KIND__EVENT_RESYNC:
    case WIRE__EVENT_KIND__EVENT_REVOKED:
        node_unknown(mount, event);
        break;
    case WIRE__EVENT_KIND__EVENT_LOCK_GRANTED: /* mount.c */
    case WIRE__EVENT_KIND__EVENT_NONE:
    case _WIRE__EVENT_KIND_IS_INT_SIZE:
        break;
    }
    replay_event(mount, event, had_data);
}

void changes_own_face(struct mount *mount, struct inode *inode, enum face face, bool had_data)
{
    enum face other = face == FACE_DIR ? FACE_FILE : FACE_DIR;
    if (inode->nlookup[other] > 0) {
        order_inode(mount, inode_nodeid(mount, inode->ino, other), true /* attr_only */);
    }
    if (had_data != (inode->attr.data_bytes > 0)) {
        changes_data_name(mount, inode);
    }
}

void changes_own_names(struct mount *mount, struct inode *parent)
{
    listing_drop(mount, parent);
}

/* ---- after a reconnect ---- */

void changes_missed(struct mount *mount, struct inode *inode)
{
    mount->change_count++;
    inode->names_mark = mount->change_count;
    listing_drop(mount, inode);
    push_inode(mount, inode, false /* attr_only */);
    if (inode->nlookup[FACE_DIR] > 0) {
        order_epoch(mount);
    }
}

void changes_detached(struct mount *mount)
{
    mount->events_missing = true;
}

static void on_reclaimed(void *arg, enum err err)
{
    struct mount *mount = arg;
    if (err == ERR_OK) {
        mount->events_missing = false;
    }
    /* Else the connection broke again, and the next attach reclaims anew. */
    mount->reclaiming = false;
    replay_reclaimed(mount);
    order_progress(mount);
}

void changes_attached(struct mount *mount)
{
    size_t count = 0;
    struct client_promise *promises = calloc(HASH_COUNT(mount->inodes) + 1, sizeof *promises);
    CHECK(promises != NULL);
    replay_reclaiming(mount);
    mount->grant_seen = 0; /* Numbers of grants begin anew with each connection. */
    for (struct inode *inode = mount->inodes; inode != NULL; inode = inode->hh.next) {
        listing_drop(mount, inode);
        if (inode->promised && !inode->gone) {
            promises[count++] =
                (struct client_promise){.ino = inode->ino, .zxid = inode->attr.azxid};
        }
    }
    /* ERR_CLOSED: only local reads, for want of a leader. What is cached goes on to be used. */
    enum err err = client_reclaim(mount->client, promises, count, on_reclaimed, mount);
    mount->reclaiming = err == ERR_OK;
    if (!mount->reclaiming) {
        replay_reclaimed(mount);
    }
    mount->events_missing = true;
    log_info("changes", "reclaim", "promises=%zu err=%s", count, err_name(err));
    free(promises);
}

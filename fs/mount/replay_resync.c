/* SPDX-License-Identifier: Apache-2.0
 *
 * Replay after a time in which no replica pushed changes: what the kernel holds is compared with what
 * it is now, and the difference is replayed. The newest state counts, not the way to it. Handed the
 * old attributes of each node that differs by changes.c.
 *
 * What has come into a directory meanwhile is found by listing it: a node that is younger than the
 * last state seen was made, another one was moved there. What has gone is told by the node itself, if
 * the kernel holds it; of names that it does not hold nobody can say anything.
 *
 * The kernel drops what nobody uses as soon as its names are declared old. So all nodes are kept from
 * the reconnect on until the comparison is done.
 */
#include "fs/mount/replay_internal.h"

#include <stdlib.h>
#include <string.h>

#include "common/limits.h"
#include "common/logging.h"

#define PAGE_BYTES (64u * KIB)

/* One directory that is listed. */
struct resync {
    struct mount *mount;
    struct inode *dir;  /* one reference */
    uint64_t zxid_seen; /* names up to here are known to the kernel */
    uint64_t cookie;
};

void replay_resync_done(struct replay *replay)
{
    for (size_t i = 0; i < replay->kept_count; i++) {
        inode_unref(replay->mount, replay->kept[i]);
    }
    free(replay->kept);
    replay->kept = NULL;
    replay->kept_count = 0;
}

static void let_go(struct replay *replay)
{
    if (!replay->reclaiming && replay->listings == 0) {
        replay_resync_done(replay);
    }
}

void replay_reclaiming(struct mount *mount)
{
    struct replay *replay = mount->replay;
    if (replay == NULL || replay->device == 0) {
        return;
    }
    replay->reclaiming = true;
    if (replay->kept != NULL) {
        return; /* of the reconnect before, which did not come to its end */
    }
    replay->kept = calloc(HASH_COUNT(mount->inodes) + 1, sizeof(struct inode *));
    for (struct inode *inode = mount->inodes; inode != NULL && replay->kept != NULL;
         inode = inode->hh.next) {
        inode_ref(inode);
        replay->kept[replay->kept_count++] = inode;
    }
}

void replay_reclaimed(struct mount *mount)
{
    if (mount->replay != NULL) {
        mount->replay->reclaiming = false;
        let_go(mount->replay);
    }
}

static void resync_free(struct resync *resync)
{
    struct mount *mount = resync->mount;
    inode_unref(mount, resync->dir);
    free(resync);
    if (mount->replay != NULL) {
        mount->replay->listings--;
        let_go(mount->replay);
    }
}

static void entry_came(struct resync *resync, const Wire__Entry *entry)
{
    struct mount *mount = resync->mount;
    struct replay *replay = mount->replay;
    struct inode *known = inode_find(mount, entry->attr->ino);
    bool here = known != NULL && known->name != NULL && strlen(known->name) == entry->name.len &&
                memcmp(known->name, entry->name.data, entry->name.len) == 0 &&
                known->moved_from == 0;
    if (here || entry->attr->azxid <= resync->zxid_seen) {
        return;
    }
    bool made = known == NULL && entry->attr->czxid > resync->zxid_seen;
    struct inode *node = inode_take(mount, entry->attr, 0, true /* make */);
    if (node == NULL) {
        return;
    }
    inode_ref(node);
    const struct replay_subject to = {.parent = resync->dir->ino,
                                      .name = entry->name.data,
                                      .name_len = entry->name.len,
                                      .node = node,
                                      .face = inode_face(&node->attr)};
    if (made) {
        replay_queue_one(replay, replay_making_of(node), &to);
    } else {
        bool named = known != NULL && known->name != NULL;
        const struct replay_subject from = {.parent = !named                  ? REPLAY_NOWHERE
                                                      : node->moved_from != 0 ? node->moved_from
                                                                              : resync->dir->ino,
                                            .name = named ? node->name : "",
                                            .name_len = named ? strlen(node->name) : 0,
                                            .node = node};
        replay_queue_move(replay, &from, &to);
    }
    node->moved_from = 0;
    inode_set_name(node, entry->name.data, entry->name.len);
    inode_unref(mount, node);
}

static void ask(struct resync *resync);

static void page_came(void *arg, enum err err, const Wire__Answer *answer)
{
    struct resync *resync = arg;
    if (err != ERR_OK || resync->mount->replay == NULL) {
        log_debug("replay", "resync_ended", "ino=%llu error=%s",
                  (unsigned long long)resync->dir->ino, err_name(err));
        resync_free(resync);
        return;
    }
    for (size_t i = 0; i < answer->n_entries; i++) {
        if (answer->entries[i]->attr != NULL && answer->entries[i]->name.len > 0 &&
            answer->entries[i]->name.len <= NAME_BYTES_MAX) {
            entry_came(resync, answer->entries[i]);
            resync->cookie = answer->entries[i]->cookie;
        }
    }
    if (answer->end || answer->n_entries == 0) {
        resync_free(resync);
    } else {
        ask(resync);
    }
}

static void ask(struct resync *resync)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__ChildrenRead read = WIRE__CHILDREN_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    struct call_options options = {
        .timeout_ms = mount_call_timeout_ms(resync->mount), .done = page_came, .arg = resync};
    enum err err = ERR_OK;
    at.ino = resync->dir->ino;
    read.at = &at;
    read.cookie = resync->cookie;
    read.bytes_max = PAGE_BYTES;
    request.body_case = WIRE__REQUEST__BODY_CHILDREN;
    request.children = &read;
    if (client_call(resync->mount->client, &request, &options, &err) == NULL) {
        resync_free(resync);
    }
}

static void list(struct mount *mount, struct inode *dir, uint64_t zxid_seen)
{
    struct resync *resync = calloc(1, sizeof *resync);
    if (resync == NULL) {
        return;
    }
    resync->mount = mount;
    resync->dir = dir;
    resync->zxid_seen = zxid_seen;
    inode_ref(dir);
    mount->replay->listings++;
    ask(resync);
}

static bool attr_differs(const Wire__Attr *old, const Wire__Attr *now)
{
    return old->aversion != now->aversion || old->mode != now->mode || old->uid != now->uid ||
           old->gid != now->gid;
}

/* The node is there, and is another than before. */
static void replay_difference(struct replay *replay, struct inode *node, const Wire__Attr *old,
                              const struct replay_subject *subject)
{
    if (subject->face == FACE_FILE && old->mzxid != node->attr.mzxid) {
        struct replay_subject written = *subject;
        written.truncated = true;
        replay_queue_change(replay, REPLAY_WRITE, &written);
    }
    if (attr_differs(old, &node->attr)) {
        replay_queue_change(replay, REPLAY_ATTR, subject);
    }
    if (old->parent != node->attr.parent) {
        node->moved_from = old->parent; /* Its new directory, if that is held, finds it. */
    }
    if (replay_is_held_dir(replay->mount, node->ino) && old->pzxid != node->attr.pzxid) {
        list(replay->mount, node, old->pzxid);
    }
}

void replay_resync(struct mount *mount, struct inode *node, const Wire__Attr *old)
{
    struct replay *replay = mount->replay;
    if (replay == NULL || replay->device == 0) {
        return;
    }
    if (node->ino == mount->root_ino) {
        if (!node->gone && old->pzxid != node->attr.pzxid) {
            list(mount, node, old->pzxid);
        }
        return;
    }
    if (node->name == NULL) {
        return;
    }
    const struct replay_subject subject = {.parent = old->parent,
                                           .name = node->name,
                                           .name_len = strlen(node->name),
                                           .node = node,
                                           .face = inode_face(old)};
    if (node->gone) {
        replay_queue_one(replay, subject.face == FACE_DIR ? REPLAY_RMDIR : REPLAY_UNLINK, &subject);
    } else {
        replay_difference(replay, node, old, &subject);
    }
}

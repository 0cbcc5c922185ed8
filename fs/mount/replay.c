/* SPDX-License-Identifier: Apache-2.0
 *
 * The queue of replays. Handed operations by replay_event.c; hands them to replay_worker.c; asked by
 * the ops what a name was and whether it may be cached.
 *
 * Invariant 1: the queue is in commit order; an operation starts when no older one that is left
 * shares a node or a directory with it.
 * Invariant 2: an operation of the queue holds its inodes, so that their numbers stay.
 * Invariant 3: a path is that of the commit point: names on it that have changed since have replays
 * that wait behind, and workers are shown the state before those (replay_old_name).
 */
#include "fs/mount/replay_internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "common/check.h"
#include "common/logging.h"
#include "fs/mount/inval.h"
#include "fs/mount/order.h"
#include "fs/mount/special.h"

#define LOOK_MAX 64u /* operations of the queue that are looked at for one that may start */

/* A name of some operations of the queue. */
struct pending {
    UT_hash_handle hh;
    size_t count;
    struct pending_key {
        uint64_t parent;
        char name[NAME_BYTES_MAX + 1];
    } key;
};

/* ---- names ---- */

static void key_set(struct pending_key *key, uint64_t parent, const char *name, size_t len)
{
    memset(key, 0, sizeof *key);
    key->parent = parent;
    memcpy(key->name, name, len);
}

static struct pending *pending_find(const struct replay *replay, uint64_t parent, const char *name,
                                    size_t len)
{
    struct pending_key key;
    struct pending *pending = NULL;
    key_set(&key, parent, name, len);
    HASH_FIND(hh, replay->pending, &key, sizeof key, pending);
    return pending;
}

/* False: no memory. */
static bool pending_add(struct replay *replay, uint64_t parent, const char *name)
{
    struct pending *pending = pending_find(replay, parent, name, strlen(name));
    if (pending == NULL) {
        pending = calloc(1, sizeof *pending);
        if (pending == NULL) {
            return false;
        }
        key_set(&pending->key, parent, name, strlen(name));
        HASH_ADD(hh, replay->pending, key, sizeof pending->key, pending);
        if (pending->hh.tbl == NULL) {
            free(pending);
            return false;
        }
    }
    pending->count++;
    return true;
}

static void pending_remove(struct replay *replay, uint64_t parent, const char *name)
{
    struct pending *pending = pending_find(replay, parent, name, strlen(name));
    CHECK(pending != NULL && pending->count > 0);
    if (--pending->count == 0) {
        HASH_DEL(replay->pending, pending);
        free(pending);
    }
}

/* Whether the operation is about the name itself, not what is behind it. */
static bool changes_names(enum replay_kind kind)
{
    return kind != REPLAY_WRITE && kind != REPLAY_ATTR;
}

static bool is_at(const struct replay_op *op, uint64_t parent, const char *name)
{
    return op->parent == parent && strcmp(op->order.at.name, name) == 0;
}

static bool is_to(const struct replay_op *op, uint64_t parent, const char *name)
{
    return replay_has_two_places(op->order.kind) && op->to_parent == parent &&
           strcmp(op->order.to.name, name) == 0;
}

/* ---- operations ---- */

void replay_op_free(struct replay *replay, struct replay_op *op)
{
    inode_unref(replay->mount, op->node);
    inode_unref(replay->mount, op->other);
    free(op);
}

/* Out of the queue; its names may be cached again. */
static void op_end(struct replay *replay, struct replay_op *op)
{
    CHECK(!op->running);
    DL_DELETE(replay->queue, op);
    replay->figures.waiting--;
    if (changes_names(op->order.kind)) {
        pending_remove(replay, op->parent, op->order.at.name);
    }
    if (replay_has_two_places(op->order.kind)) {
        pending_remove(replay, op->to_parent, op->order.to.name);
        if (op->to_parent == REPLAY_NOWHERE) {
            /* There the kernel has it now, and there it is not. */
            order_name(replay->mount, SPECIAL_FOLDER_NODEID, op->order.to.name,
                       strlen(op->order.to.name));
        }
    }
    replay_op_free(replay, op);
}

static void op_drop(struct replay *replay, struct replay_op *op)
{
    replay->figures.dropped++;
    op_end(replay, op);
}

static bool op_names(const struct replay_op *op, uint64_t ino)
{
    return op->parent == ino || op->node->ino == ino ||
           (op->other != NULL && op->other->ino == ino) ||
           (replay_has_two_places(op->order.kind) && op->to_parent == ino);
}

/* The one must wait for the other. What moves a directory changes all paths through it. */
static bool op_conflicts(const struct replay_op *op, const struct replay_op *older)
{
    bool moves = (replay_has_two_places(op->order.kind) && S_ISDIR(op->order.mode)) ||
                 (replay_has_two_places(older->order.kind) && S_ISDIR(older->order.mode));
    return moves || op_names(older, op->parent) || op_names(older, op->node->ino) ||
           (op->other != NULL && op_names(older, op->other->ino)) ||
           (replay_has_two_places(op->order.kind) && op_names(older, op->to_parent));
}

/* The first operation that may start now, or NULL. */
struct replay_op *replay_next(const struct replay *replay)
{
    uint64_t done = inval_inodes_done(replay->mount->inval);
    unsigned looked = 0;
    struct replay_op *op = NULL;
    DL_FOREACH(replay->queue, op)
    {
        if (++looked > LOOK_MAX) {
            return NULL;
        }
        bool free_to_start = !op->running && op->ticket <= done;
        const struct replay_op *older = replay->queue;
        for (; free_to_start && older != op; older = older->next) {
            free_to_start = !op_conflicts(op, older);
        }
        if (free_to_start) {
            return op;
        }
    }
    return NULL;
}

void replay_answered(struct replay *replay, struct replay_op *op, int error)
{
    op->running = false;
    if (error == 0 && !op->touched) {
        replay->figures.done++;
        op_end(replay, op);
    } else if (op->touched || op->retried) {
        log_debug("replay", "dropped", "kind=%d name_bytes=%zu error=%d", (int)op->order.kind,
                  strlen(op->order.at.name), error);
        op_drop(replay, op);
    } else {
        op->retried = true;
    }
}

/* ---- for replay_event.c and replay_worker.c ---- */

void replay_queue(struct replay *replay, struct replay_op *op)
{
    bool noted =
        !changes_names(op->order.kind) || pending_add(replay, op->parent, op->order.at.name);
    if (noted && replay_has_two_places(op->order.kind) &&
        !pending_add(replay, op->to_parent, op->order.to.name)) {
        pending_remove(replay, op->parent, op->order.at.name);
        noted = false;
    }
    if (!noted) {
        replay->figures.dropped++;
        replay_op_free(replay, op);
        return;
    }
    op->ticket = inval_inodes_given(replay->mount->inval);
    replay->figures.waiting++;
    DL_APPEND(replay->queue, op);
    replay_workers_start(replay);
}

void replay_handle_closed(struct replay *replay)
{
    CHECK(replay->handles > 0);
    if (--replay->handles == 0 && replay->is_closing) {
        void (*closed)(void *arg) = replay->closed;
        void *arg = replay->closed_arg;
        (void)close(replay->control);
        free(replay);
        closed(arg);
    }
}

/* ---- for the ops ---- */

void replay_progress(struct mount *mount)
{
    if (mount->replay != NULL) {
        replay_workers_start(mount->replay);
    }
}

void replay_touch(struct mount *mount, uint64_t parent, const char *name, size_t len)
{
    struct replay *replay = mount->replay;
    struct replay_op *op = NULL;
    struct replay_op *next = NULL;
    if (replay == NULL || pending_find(replay, parent, name, len) == NULL) {
        return;
    }
    DL_FOREACH_SAFE(replay->queue, op, next)
    {
        bool same =
            changes_names(op->order.kind) && (is_at(op, parent, name) || is_to(op, parent, name));
        if (same && op->running) {
            op->touched = true;
        } else if (same) {
            op_drop(replay, op);
        }
    }
}

bool replay_is_pending(const struct mount *mount, uint64_t parent, const char *name, size_t len)
{
    return mount->replay != NULL && pending_find(mount->replay, parent, name, len) != NULL;
}

bool replay_old_name(const struct mount *mount, uint64_t parent, const char *name,
                     struct inode **out_node)
{
    const struct replay_op *op = NULL;
    *out_node = NULL;
    if (pending_find(mount->replay, parent, name, strlen(name)) == NULL) {
        return false;
    }
    DL_FOREACH(mount->replay->queue, op)
    {
        if (!changes_names(op->order.kind)) {
            continue;
        }
        if (is_at(op, parent, name)) {
            bool was_there = op->order.kind == REPLAY_UNLINK || op->order.kind == REPLAY_RMDIR ||
                             replay_has_two_places(op->order.kind);
            *out_node = was_there ? op->node : NULL;
            return true;
        }
        if (is_to(op, parent, name)) {
            *out_node = op->other;
            return true;
        }
    }
    return false;
}

struct replay_figures replay_figures(const struct mount *mount)
{
    return mount->replay != NULL ? mount->replay->figures : (struct replay_figures){0};
}

/* ---- open, close ---- */

enum err replay_open(struct mount *mount, int control)
{
    struct replay *replay = calloc(1, sizeof *replay);
    if (replay == NULL) {
        (void)close(control);
        return ERR_MEMORY;
    }
    replay->mount = mount;
    replay->control = control;
    mount->replay = replay;
    replay_workers_open(replay);
    return ERR_OK;
}

void replay_begin(struct mount *mount, dev_t device)
{
    if (mount->replay != NULL) {
        mount->replay->device = device;
    }
}

void replay_close(struct mount *mount, void (*closed)(void *arg), void *arg)
{
    struct replay *replay = mount->replay;
    struct replay_op *op = NULL;
    struct replay_op *next = NULL;
    if (replay == NULL) {
        closed(arg);
        return;
    }
    replay->is_closing = true;
    replay->closed = closed;
    replay->closed_arg = arg;
    replay_workers_close(replay);
    DL_FOREACH_SAFE(replay->queue, op, next)
    {
        op_drop(replay, op);
    }
    replay_resync_done(replay);
    mount->replay = NULL;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Handed locks by ops_lock.c, events and states by life.c; hands on to the client.
 *
 * Invariant: an owner is noted at its handle before its lock is asked for, so that whatever comes of
 * the question, the end of the handle gives the lock back.
 */
#include "fs/mount/lock.h"

#include <errno.h>
#include <stdlib.h>

#include <utlist.h>

#include "common/check.h"
#include "common/logging.h"

static void fill_op(const struct lock_wanted *wanted, uint64_t ino, Wire__LockOp *out)
{
    out->ino = ino;
    out->space = wanted->space;
    out->owner = wanted->owner;
    out->type = wanted->type;
    out->start = wanted->start;
    out->end = wanted->end;
    out->wait = wanted->wait;
    out->pid = wanted->pid;
}

static struct lock_wanted nothing_of(Wire__LockSpace space, uint64_t owner)
{
    return (struct lock_wanted){.space = space, .owner = owner, .end = UINT64_MAX};
}

/* ---- owners ---- */

static struct lock_owner *owner_find(const struct handle *handle, Wire__LockSpace space,
                                     uint64_t owner)
{
    struct lock_owner *found = handle->lock_owners;
    while (found != NULL && (found->space != space || found->owner != owner)) {
        found = found->next;
    }
    return found;
}

static enum err owner_note(struct handle *handle, Wire__LockSpace space, uint64_t owner)
{
    if (owner_find(handle, space, owner) != NULL) {
        return ERR_OK;
    }
    struct lock_owner *noted = calloc(1, sizeof *noted);
    if (noted == NULL) {
        return ERR_MEMORY;
    }
    noted->space = space;
    noted->owner = owner;
    LL_PREPEND(handle->lock_owners, noted);
    return ERR_OK;
}

static void owner_forget(struct handle *handle, Wire__LockSpace space, uint64_t owner)
{
    struct lock_owner *found = owner_find(handle, space, owner);
    if (found != NULL) {
        LL_DELETE(handle->lock_owners, found);
        free(found);
    }
}

/* ---- giving back without being asked ---- */

static void given_back(void *arg, enum err err, const Wire__Answer *answer)
{
    (void)arg;
    (void)answer;
    /* What cannot be given back goes with the session. */
    if (err != ERR_OK && err != ERR_CLOSED && err != ERR_SESSION_EXPIRED) {
        log_warn("lock", "not_given_back", "error=%s", err_name(err));
    }
}

static void give_back(struct mount *mount, uint64_t ino, Wire__LockSpace space, uint64_t owner)
{
    struct lock_wanted wanted = nothing_of(space, owner);
    struct call_options options = {.done = given_back};
    Wire__LockOp lock = WIRE__LOCK_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    enum err err = ERR_OK;
    fill_op(&wanted, ino, &lock);
    op.body_case = WIRE__OP__BODY_LOCK;
    op.lock = &lock;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = &op;
    if (client_call(mount->client, &request, &options, &err) == NULL) {
        given_back(NULL, err, NULL);
    }
}

void lock_release_owner(struct mount *mount, struct inode *inode, uint64_t owner)
{
    bool is_noted = false;
    struct handle *handle = NULL;
    DL_FOREACH2(inode->handles, handle, next)
    {
        is_noted =
            is_noted || owner_find(handle, WIRE__LOCK_SPACE__LOCK_SPACE_RANGE, owner) != NULL;
        owner_forget(handle, WIRE__LOCK_SPACE__LOCK_SPACE_RANGE, owner);
    }
    if (is_noted) {
        give_back(mount, inode->ino, WIRE__LOCK_SPACE__LOCK_SPACE_RANGE, owner);
    }
}

void lock_release_handle(struct mount *mount, struct handle *handle)
{
    while (handle->lock_owners != NULL) {
        struct lock_owner *owner = handle->lock_owners;
        LL_DELETE(handle->lock_owners, owner);
        give_back(mount, handle->inode->ino, owner->space, owner->owner);
        free(owner);
    }
}

/* ---- the end of the lease ---- */

static void kill_handle(struct mount *mount, struct handle *handle)
{
    handle->dead = true;
    mount->lost_locks++;
    log_error("lock", "lost", "ino=%llu session=gone", (unsigned long long)handle->inode->ino);
    if (handle->written || handle->truncated) {
        publish_drop_pending(mount, handle->inode);
    }
    lock_release_handle(mount, handle);
}

bool lock_is_dead(struct mount *mount, struct handle *handle)
{
    struct client_status status;
    if (handle->dead || handle->lock_owners == NULL) {
        return handle->dead;
    }
    client_status(mount->client, &status);
    if (!status.lease_valid) {
        kill_handle(mount, handle);
    }
    return handle->dead;
}

static bool waits(const struct task *task)
{
    return task->lock_ticket != 0 && task->call == NULL;
}

void lock_session_lost(struct mount *mount)
{
    struct handle *handle = NULL;
    struct task *task = NULL;
    struct task *next = NULL;
    DL_FOREACH2(mount->handles, handle, all_next)
    {
        if (handle->lock_owners != NULL && !handle->dead) {
            kill_handle(mount, handle);
        }
    }
    DL_FOREACH_SAFE2(mount->tasks, task, next, next)
    {
        if (waits(task)) {
            task_fail(task, ERR_SESSION_EXPIRED);
        }
    }
}

/* ---- waiting ---- */

static void got_it(struct task *task)
{
    (void)fuse_reply_err(task->req, 0);
    task_end(task);
}

void lock_granted(struct mount *mount, const Wire__Event *event)
{
    struct task *task = NULL;
    DL_FOREACH2(mount->tasks, task, next)
    {
        if (task->lock_ticket == event->ticket) {
            break;
        }
    }
    if (task != NULL && waits(task)) {
        got_it(task); /* Who is giving up learns it by the answer. */
    }
}

static void looked(struct task *task, enum err err, const Wire__Answer *answer)
{
    if (err == ERR_SESSION_EXPIRED || err == ERR_CLOSED) {
        task_fail(task, err);
    } else if (err == ERR_OK && !answer->queued) {
        got_it(task);
    } else if (task->gave_up) {
        lock_give_up(task);
    }
}

void lock_attached(struct mount *mount)
{
    struct task *task = NULL;
    struct task *next = NULL;
    DL_FOREACH_SAFE2(mount->tasks, task, next, next)
    {
        if (!waits(task)) {
            continue;
        }
        Wire__LockRead read = WIRE__LOCK_READ__INIT;
        Wire__Request request = WIRE__REQUEST__INIT;
        read.ino = task->inode->ino;
        read.space = task->lock_space;
        read.ticket = task->lock_ticket;
        request.body_case = WIRE__REQUEST__BODY_LOCK;
        request.lock = &read;
        task->patient = true;
        task_call(task, &request, looked);
    }
}

static void gave_up(struct task *task, enum err err, const Wire__Answer *answer)
{
    (void)answer;
    if (err == ERR_OK) {
        got_it(task); /* It came first. */
    } else {
        task_fail(task, err);
    }
}

void lock_give_up(struct task *task)
{
    Wire__LockOp lock = WIRE__LOCK_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    lock.ino = task->inode->ino;
    lock.space = task->lock_space;
    lock.cancel = task->lock_ticket;
    op.body_case = WIRE__OP__BODY_LOCK;
    op.lock = &lock;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = &op;
    task->gave_up = true;
    task->patient = true;
    task_call(task, &request, gave_up);
}

/* ---- asking ---- */

static void changed(struct task *task, enum err err, const Wire__Answer *answer)
{
    if (err != ERR_OK) {
        task_fail(task, err);
        return;
    }
    if (!answer->queued) {
        got_it(task);
        return;
    }
    task->lock_ticket = answer->zxid;
    if (task->gave_up) {
        lock_give_up(task);
    }
}

static void ask(struct task *task, const struct lock_wanted *wanted)
{
    Wire__LockOp lock = WIRE__LOCK_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    fill_op(wanted, task->inode->ino, &lock);
    op.body_case = WIRE__OP__BODY_LOCK;
    op.lock = &lock;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = &op;
    task->lock_space = wanted->space;
    task->patient = wanted->wait; /* A wait has no deadline. */
    task_call(task, &request, changed);
}

/* What was written under the lock is in the tree: others may have it. */
static void give_back_published(struct task *task, enum err err)
{
    struct lock_wanted wanted = {
        .space = task->lock_space,
        .owner = task->fi.lock_owner,
        .start = task->offset,
        .end = task->lock_end,
    };
    if (err != ERR_OK) {
        log_warn("lock", "unpublished", "ino=%llu error=%s", (unsigned long long)task->inode->ino,
                 err_name(err));
    }
    ask(task, &wanted);
}

void lock_change(struct task *task, const struct lock_wanted *wanted)
{
    struct handle *handle = task->handle;
    if (wanted->type == WIRE__LOCK_TYPE__LOCK_TYPE_NONE) {
        task->lock_space = wanted->space;
        task->offset = wanted->start;
        task->lock_end = wanted->end;
        if (wanted->start == 0 && wanted->end == UINT64_MAX) {
            owner_forget(handle, wanted->space, wanted->owner);
        }
        task_publish(task, give_back_published);
        return;
    }
    enum err err = owner_note(handle, wanted->space, wanted->owner);
    if (err != ERR_OK) {
        task_fail(task, err);
        return;
    }
    ask(task, wanted);
}

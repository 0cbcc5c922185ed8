/* SPDX-License-Identifier: Apache-2.0
 *
 * FLOCK, SETLK, SETLKW and GETLK. Without them the kernel would grant locks of this host alone.
 * Hands on to lock.c.
 */
#include "fs/mount/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "fs/mount/lock.h"
#include "fs/mount/special.h"

/* NULL: it has been answered. */
static struct task *lock_task(fuse_req_t req, fuse_ino_t nodeid, const struct fuse_file_info *fi)
{
    struct mount *mount = ops_mount(req);
    if (mount->options->nolock || special_is(nodeid)) {
        (void)fuse_reply_err(req, ENOLCK);
        return NULL;
    }
    struct handle *handle = (struct handle *)(uintptr_t)fi->fh;
    if (lock_is_dead(mount, handle)) {
        (void)fuse_reply_err(req, EIO);
        return NULL;
    }
    struct task *task = task_new(mount, req, handle->inode);
    if (task != NULL) {
        task->handle = handle;
        task->fi = *fi;
    }
    return task;
}

void ops_flock(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, int operation)
{
    struct lock_wanted wanted = {
        .space = WIRE__LOCK_SPACE__LOCK_SPACE_FLOCK,
        .owner = fi->lock_owner,
        .end = UINT64_MAX,
        .pid = (uint32_t)fuse_req_ctx(req)->pid,
    };
    switch (operation & ~LOCK_NB) {
    case LOCK_SH:
        wanted.type = WIRE__LOCK_TYPE__LOCK_TYPE_READ;
        break;
    case LOCK_EX:
        wanted.type = WIRE__LOCK_TYPE__LOCK_TYPE_WRITE;
        break;
    case LOCK_UN:
        wanted.type = WIRE__LOCK_TYPE__LOCK_TYPE_NONE;
        break;
    default:
        (void)fuse_reply_err(req, EINVAL);
        return;
    }
    wanted.wait = (operation & LOCK_NB) == 0 && wanted.type != WIRE__LOCK_TYPE__LOCK_TYPE_NONE;
    struct task *task = lock_task(req, nodeid, fi);
    if (task != NULL) {
        lock_change(task, &wanted);
    }
}

/* The kernel has turned whence and negative lengths into a place: l_start from the beginning, l_len 0
 * to the highest number. False: answered with EINVAL. */
static bool wanted_of(fuse_req_t req, const struct fuse_file_info *fi, const struct flock *lock,
                      struct lock_wanted *out)
{
    *out = (struct lock_wanted){
        .space = WIRE__LOCK_SPACE__LOCK_SPACE_RANGE,
        .owner = fi->lock_owner,
        .start = (uint64_t)lock->l_start,
        .end = lock->l_len == 0 ? UINT64_MAX : (uint64_t)(lock->l_start + lock->l_len - 1),
        .pid = (uint32_t)lock->l_pid,
    };
    switch (lock->l_type) {
    case F_RDLCK:
        out->type = WIRE__LOCK_TYPE__LOCK_TYPE_READ;
        return true;
    case F_WRLCK:
        out->type = WIRE__LOCK_TYPE__LOCK_TYPE_WRITE;
        return true;
    case F_UNLCK:
        return true;
    default:
        (void)fuse_reply_err(req, EINVAL);
        return false;
    }
}

void ops_setlk(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, struct flock *lock,
               int sleep)
{
    struct lock_wanted wanted;
    if (!wanted_of(req, fi, lock, &wanted)) {
        return;
    }
    wanted.wait = sleep != 0 && wanted.type != WIRE__LOCK_TYPE__LOCK_TYPE_NONE;
    struct task *task = lock_task(req, nodeid, fi);
    if (task != NULL) {
        lock_change(task, &wanted);
    }
}

static void got_conflict(struct task *task, enum err err, const Wire__Answer *answer)
{
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    if (err != ERR_OK) {
        task_fail(task, err);
        return;
    }
    if (answer->lock != NULL) {
        const Wire__Lock *found = answer->lock;
        struct client_status status;
        client_status(task->mount->client, &status);
        lock.l_type = found->type == WIRE__LOCK_TYPE__LOCK_TYPE_READ ? F_RDLCK : F_WRLCK;
        lock.l_start = (off_t)found->start;
        lock.l_len = found->end >= INT64_MAX ? 0 : (off_t)(found->end - found->start + 1);
        /* A process of another host has no number here. */
        lock.l_pid = found->session == status.session ? (pid_t)found->pid : 0;
    }
    (void)fuse_reply_lock(task->req, &lock);
    task_end(task);
}

void ops_getlk(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, struct flock *lock)
{
    struct lock_wanted wanted;
    struct task *task = NULL;
    if (!wanted_of(req, fi, lock, &wanted)) {
        return;
    }
    task = lock_task(req, nodeid, fi);
    if (task == NULL) {
        return;
    }
    Wire__LockRead read = WIRE__LOCK_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    read.ino = task->inode->ino;
    read.space = wanted.space;
    read.type = wanted.type;
    read.owner = wanted.owner;
    read.start = wanted.start;
    read.end = wanted.end;
    request.body_case = WIRE__REQUEST__BODY_LOCK;
    request.lock = &read;
    task_call(task, &request, got_conflict);
}

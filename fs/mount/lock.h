/* SPDX-License-Identifier: Apache-2.0
 *
 * flock and fcntl locks of the programs of this host: locks of the whole ensemble, held by the session
 * of the mount (FILESYSTEM.md, "Locks").
 *
 * A descriptor through which a lock was taken is dead when the lease of the session has ended since:
 * others may have the lock. Whatever is asked of it then answers EIO, for good.
 */
#ifndef QUORUMFS_LOCK_H
#define QUORUMFS_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"
#include "fs/mount/handle.h"
#include "fs/mount/task.h"

/* Who has locks through a handle, as the kernel numbers owners. */
struct lock_owner {
    struct lock_owner *next;
    Wire__LockSpace space;
    uint64_t owner;
};

/* A lock as it is wanted; type NONE: given back. */
struct lock_wanted {
    Wire__LockSpace space;
    Wire__LockType type;
    uint64_t owner;
    uint64_t start;
    uint64_t end; /* last byte */
    uint32_t pid;
    bool wait;
};

/* Does it and answers task->req. */
void lock_change(struct task *task, const struct lock_wanted *wanted);

/* The task has been interrupted while it waits for a lock: it gives up. */
void lock_give_up(struct task *task);

/* A LOCK_GRANTED event. */
void lock_granted(struct mount *mount, const Wire__Event *event);

/* A replica answers again: events may have been missed. */
void lock_attached(struct mount *mount);

/* The session is gone, and with it all locks. */
void lock_session_lost(struct mount *mount);

/* Checked at each use: the handle has had a lock that may be somebody else's by now. Then what was
 * written and is not on its way is dropped. */
bool lock_is_dead(struct mount *mount, struct handle *handle);

/* Gives back what this owner has on bytes of the inode (close), or all that was taken through the
 * handle (RELEASE). */
void lock_release_owner(struct mount *mount, struct inode *inode, uint64_t owner);
void lock_release_handle(struct mount *mount, struct handle *handle);

#endif

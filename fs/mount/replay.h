/* SPDX-License-Identifier: Apache-2.0
 *
 * Replay: changes made elsewhere become the kernel's own events for the watchers of this host
 * (FILESYSTEM.md, "inotify: replay"). A change that the kernel may have watchers for is queued behind
 * its invalidation; a worker process (replayer.h) does it again on the mount, and ops_replay.c
 * answers from the state that is committed already.
 *
 * Thread of the loop. Everything is fine with a mount without replay: then nothing happens.
 */
#ifndef QUORUMFS_REPLAY_H
#define QUORUMFS_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "fs/mount/inode.h"
#include "fs/mount/mount.h"
#include "fs/mount/replayer.h"

/* What a worker is to do. The inodes are held until it is done. */
struct replay_op {
    struct replay_op *prev; /* in the queue, by commit order */
    struct replay_op *next;
    struct replay_order order;
    uint64_t parent;    /* ino of the directory of order.at; REPLAY_NOWHERE: a stand-in */
    uint64_t to_parent; /* of order.to */
    struct inode *node;
    struct inode *other; /* RENAME: what was replaced, or NULL; EXCHANGE: the other node */
    uint64_t ticket;     /* starts when these invalidations have taken effect */
    bool running;
    bool touched; /* an operation of this host has changed the name since: it will fail */
    bool retried;
};

/* A directory that the kernel does not hold, so that nobody can watch it. */
#define REPLAY_NOWHERE UINT64_MAX

/* Begins, with the control descriptor of replayer_start (owned from here on). ERR_MEMORY. */
enum err replay_open(struct mount *mount, int control);

/* The mount is there, as this device: workers may come. */
void replay_begin(struct mount *mount, dev_t device);

/* Drops what is queued, lets the processes go; `closed` comes from the loop. */
void replay_close(struct mount *mount, void (*closed)(void *arg), void *arg);

/* An event that has been applied to the tables and handed to the kernel's invalidation. `had_data`:
 * of the node, before. */
void replay_event(struct mount *mount, const Wire__Event *event, bool had_data);

/* Promises are being reclaimed: the nodes that the kernel holds now are kept until that is over
 * (replay_reclaimed) and all that came of it is queued, so that what has changed is known by name. */
void replay_reclaiming(struct mount *mount);
void replay_reclaimed(struct mount *mount);

/* A node that is another than it was when changes were last pushed (or gone): `old` are its attributes
 * of then. */
void replay_resync(struct mount *mount, struct inode *node, const Wire__Attr *old);

/* Invalidations have taken effect. */
void replay_progress(struct mount *mount);

/* An operation of this host has changed this name: what was to be replayed on it is dropped. */
void replay_touch(struct mount *mount, uint64_t parent, const char *name, size_t len);

/* The name waits for a replay: it must not be cached. */
bool replay_is_pending(const struct mount *mount, uint64_t parent, const char *name, size_t len);

/* The caller is one of the workers, or was. */
bool replay_is_worker(const struct mount *mount, pid_t pid);

/* What this worker does now, or NULL. */
struct replay_op *replay_op_of(const struct mount *mount, pid_t pid);

/* How the name was before the oldest replay that waits for it. False: none waits. *out_node: the node
 * then, NULL: there was none. */
bool replay_old_name(const struct mount *mount, uint64_t parent, const char *name,
                     struct inode **out_node);

struct replay_figures {
    uint64_t done;
    uint64_t dropped; /* events that nobody was told */
    size_t waiting;
};
struct replay_figures replay_figures(const struct mount *mount);

#endif

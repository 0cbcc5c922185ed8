/* SPDX-License-Identifier: Apache-2.0
 *
 * One mounted tree: what all files of this room share. Everything on the thread of the loop but
 * the two threads inside inval.c.
 */
#ifndef QUORUMFS_MOUNT_H
#define QUORUMFS_MOUNT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/statvfs.h>

#include <uv.h>

#include "common/err.h"
#include "fs/client/client.h"
#include "fs/mount/mount_options.h"

/* Whatever is promised may be cached this long: changes are pushed. */
#define CACHE_SECONDS 1e6

struct device;
struct handle;
struct inval;
struct order;
struct replay;
struct stream;
struct inode;
struct task;

struct mount {
    const struct mount_options *options;
    uv_loop_t *loop;
    struct client *client;
    struct device *device;
    struct inval *inval;
    struct order *order;
    struct replay *replay; /* NULL: inotify=off */

    /* inode.c */
    struct inode *inodes; /* by ino */
    uint64_t root_ino;
    uint64_t grant_seen; /* newest grant on this connection (CONSENSUS 29) */

    struct handle *handles; /* handle.c: all open files */

    /* content.c */
    struct inode *contents; /* inodes that hold a content, the least recently used first */
    uint64_t contents_bytes;

    /* publish.c */
    struct publish *publishes; /* inodes with unpublished changes */
    uint64_t patch_bytes;      /* held in all patches */
    uv_timer_t append_timer;
    uint64_t lost_closes; /* publishes at RELEASE that failed for good */
    uint64_t lost_locks;  /* lock.c: open files whose locks were lost, ever */
    uint64_t last_stage;  /* send.c: names of staged writes */

    struct stream *streams; /* stream.c: open `.quorumfs/events` */
    uint64_t ctl_number;    /* special.c: of the newest `.quorumfs/ctl` */

    /* task.c */
    struct task *tasks; /* requests of the kernel that wait */
    uv_timer_t interrupt_timer;

    /* changes.c */
    uint64_t change_count; /* changes seen; a mark in time for held answers */
    bool reclaiming;       /* promises are being reclaimed: answers are held back */
    bool events_missing;   /* no replica pushes changes at the moment */

    uint64_t requests; /* of the kernel, without FORGET and INTERRUPT, which are no questions */

    struct statvfs statfs; /* last known; answered from memory */
    bool statfs_asked;
    uint64_t statfs_ms; /* when it was last asked for */

    bool names_promised; /* the kernel knows FUSE_NOTIFY_INC_EPOCH, names may be cached */
    bool no_leader;      /* a write has failed for want of a leader; until one is seen */
    bool no_replica;     /* a call has timed out for want of a replica; until there is one */
    void (*serving)(struct mount *mount); /* the kernel has said hello: programs may come */
    void (*ended)(struct mount *mount);   /* the kernel has let go of the mount */
};

/* How long the kernel may keep what a promise covers, in seconds. */
static inline double mount_timeout(const struct mount *mount, bool promised)
{
    return promised && !mount->options->linearizable ? CACHE_SECONDS : 0.0;
}

/* Deadline of a call for client_call: 0 is for ever. */
static inline uint32_t mount_call_timeout_ms(const struct mount *mount)
{
    return mount->options->hard ? 0 : mount->options->timeo_ms;
}

/* Largest file, in bytes. */
uint64_t mount_file_bytes_max(const struct mount *mount);

/* No leader is known and a write has already failed for it: what changes the tree fails at once. */
bool mount_is_without_leader(struct mount *mount);

/* No replica answers and a call has already waited for one in vain: reads that are not cached fail
 * at once. */
bool mount_is_without_replica(struct mount *mount);

/* To be told of the outcome of each call: both states above begin with it. */
void mount_note_outage(struct mount *mount, enum err err);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * A mount without kernel and replica, for tests of fs/mount: what would go to them is written down
 * here, and the test says what comes back. Stands in for fs/client, device.c and inval.c.
 */
#ifndef QUORUMFS_TESTS_MOUNT_FIXTURE_H
#define QUORUMFS_TESTS_MOUNT_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/limits.h"
#include "common/wire.h"
#include "fs/client/client.h"
#include "fs/mount/inode.h"
#include "fs/mount/mount.h"

#define FIXTURE_CALLS_MAX  64u
#define FIXTURE_PUSHED_MAX 256u

/* What is kept of a request to the replica. */
struct fixture_call {
    struct call_options options;
    Wire__Request__BodyCase body;
    Wire__Op__BodyCase op;
    uint64_t ino;
    bool truncate;
    size_t ranges;
    struct buffer range;  /* the first one */
    struct buffer append; /* of a WriteOp */
    uint64_t stage;       /* of a WriteOp or StageOp */
    uint32_t parts;       /* of a WriteOp: all; of a StageOp: which */
    bool if_version;
    uint64_t offset; /* of a DataRead */
};

/* One invalidation handed to the kernel. */
struct fixture_pushed {
    uint64_t nodeid;
    bool attr_only;
    char name[NAME_BYTES_MAX + 1]; /* empty: an inode */
};

struct mount_fixture {
    struct mount mount;
    struct mount_options options;
    uv_loop_t loop;

    /* The kernel. */
    struct fixture_pushed pushed[FIXTURE_PUSHED_MAX];
    size_t pushed_count;
    uint64_t inodes_given;
    uint64_t inodes_done;
    uint64_t names_given;
    uint64_t names_done;
    bool names_are_full; /* inval_name refuses */
    size_t epochs;
    size_t names_dropped;

    /* The replica. */
    struct fixture_call call[FIXTURE_CALLS_MAX];
    size_t call_count;
    enum err call_err;                                   /* not ERR_OK: calls are refused */
    struct client_promise forgotten[FIXTURE_PUSHED_MAX]; /* zxid: the grant */
    size_t forgotten_count;
    struct client_status status;
    enum err reclaim_err;
    size_t reclaims;
    struct client_promise reclaimed[FIXTURE_CALLS_MAX];
    size_t reclaimed_count;
    void (*reclaim_done)(void *arg, enum err err);
    void *reclaim_arg;
};

/* One at a time. A leader and a replica are there; the root has ino 1 and is not known yet. */
void mount_fixture_open(struct mount_fixture *fixture);
void mount_fixture_close(struct mount_fixture *fixture);

/* A node in the root, last changed by `zxid`. */
Wire__Attr fixture_attr(uint64_t ino, Wire__Kind kind, uint64_t zxid);

/* A node that the kernel holds, with a promise. */
struct inode *fixture_held(struct mount_fixture *fixture, uint64_t ino, Wire__Kind kind,
                           uint64_t zxid);

/* Answers the call with this index. */
void fixture_answer(struct mount_fixture *fixture, size_t index, enum err err,
                    const Wire__Answer *answer);

/* How often this was handed to the kernel; name NULL: the inode. */
size_t fixture_count(const struct mount_fixture *fixture, uint64_t nodeid, const char *name);

#endif

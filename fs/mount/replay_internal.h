/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of replay share: replay.c the queue, replay_worker.c the processes, replay_event.c
 * from events to operations. Included by fs/mount/replay*.c only.
 */
#ifndef QUORUMFS_REPLAY_INTERNAL_H
#define QUORUMFS_REPLAY_INTERNAL_H

#include "common/table.h"
#include "fs/mount/process.h"
#include "fs/mount/replay.h"

#define REPLAY_WORKERS      2u
#define REPLAY_QUEUE_MAX    4096u /* operations that wait; above, events are lost */
#define REPLAY_GIVEN_UP_MAX 64u   /* workers that were killed and have not gone yet */

struct pending;

/* A worker process and the socket to it; freed when the poll handle is closed. */
struct worker {
    struct replay *replay;
    struct process process; /* tgid 0: the zygote has not told it yet */
    int fd;
    uv_poll_t poll;
    struct replay_op *op;
    uint64_t since_ms; /* of op */
};

struct replay {
    struct mount *mount;
    int control;
    dev_t device; /* 0: not mounted */
    uv_poll_t poll;
    uv_timer_t timer;
    struct worker *worker[REPLAY_WORKERS]; /* NULL: none */
    pid_t given_up[REPLAY_GIVEN_UP_MAX];
    size_t given_up_count;
    struct replay_op *queue;
    struct pending *pending; /* names of the queue */
    uint64_t last_moved;     /* replay_event.c: stand-in names */
    struct inode **kept;     /* replay_resync.c: with a reference each, or NULL */
    size_t kept_count;
    unsigned listings; /* under way */
    bool reclaiming;
    struct replay_figures figures;
    bool is_closing;
    unsigned handles; /* of libuv, not yet closed */
    void (*closed)(void *arg);
    void *closed_arg;
};

/* ---- replay.c ---- */

/* Takes over; starts it when its turn has come. */
void replay_queue(struct replay *replay, struct replay_op *op);
/* The first operation that may start now, or NULL. */
struct replay_op *replay_next(const struct replay *replay);
/* A worker has done it; an errno or 0. */
void replay_answered(struct replay *replay, struct replay_op *op, int error);
void replay_op_free(struct replay *replay, struct replay_op *op);
/* A handle of libuv is closed: the last one ends the closing. */
void replay_handle_closed(struct replay *replay);

static inline bool replay_has_two_places(enum replay_kind kind)
{
    return kind == REPLAY_RENAME || kind == REPLAY_EXCHANGE;
}

/* ---- replay_event.c ---- */

/* What is to be replayed about one name. */
struct replay_subject {
    uint64_t parent;
    const void *name;
    size_t name_len;
    struct inode *node;
    enum face face;
    bool truncated; /* the length was set before the change */
};

bool replay_is_held_dir(struct mount *mount, uint64_t ino);
/* Queues the operation, unless nobody can watch it; the second joins it to one that waits already. */
void replay_queue_one(struct replay *replay, enum replay_kind kind,
                      const struct replay_subject *subject);
void replay_queue_change(struct replay *replay, enum replay_kind kind,
                         const struct replay_subject *subject);
/* A rename of from->node; the name of a directory that the kernel does not hold means nothing. */
void replay_queue_move(struct replay *replay, const struct replay_subject *from,
                       const struct replay_subject *to);
/* How a node of this kind is made. */
enum replay_kind replay_making_of(const struct inode *inode);

/* ---- replay_resync.c ---- */

/* Lets go of the nodes that are kept. */
void replay_resync_done(struct replay *replay);

/* ---- replay_worker.c ---- */

void replay_workers_open(struct replay *replay);
/* Gives each free worker what may start. */
void replay_workers_start(struct replay *replay);
void replay_workers_close(struct replay *replay);

#endif

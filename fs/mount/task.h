/* SPDX-License-Identifier: Apache-2.0
 *
 * One request of the kernel that waits for something: an answer of the replica, a publish, a fetch,
 * its turn in the order of answers. Ends exactly once, by a fuse_reply_* and task_end.
 *
 * A signal to the caller (INTERRUPT) ends the wait with EINTR; but a call that was sent is first
 * cancelled, and its outcome is the answer.
 */
#ifndef QUORUMFS_TASK_H
#define QUORUMFS_TASK_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/limits.h"
#include "common/wire.h"
#include "fs/mount/content.h"
#include "fs/mount/handle.h"
#include "fs/mount/inode.h"
#include "fs/mount/mount.h"
#include "fs/mount/publish.h"

struct task {
    struct mount *mount;
    fuse_req_t req;
    struct task *previous; /* in mount->tasks */
    struct task *next;

    /* What it waits for. */
    struct call *call;
    void (*call_done)(struct task *task, enum err err, const Wire__Answer *answer);
    void (*barrier_done)(struct task *task);
    void (*known)(struct task *task); /* ops_data.c */
    void (*ended)(struct task *task); /* NULL: nobody need be told (stream.c) */
    struct fetch_waiter fetch;
    void (*fetch_done)(struct task *task, enum err err);
    struct publish_waiter publish;
    void (*publish_done)(struct task *task, enum err err);
    uint64_t deadline_ms;            /* of a wait for a publish; 0: none */
    void (*held)(struct task *task); /* order.c */
    struct task *held_previous;
    struct task *held_next;
    uint64_t ticket;
    uint64_t interrupted_ms; /* 0: no */
    bool uninterruptible;
    bool patient;         /* its calls have no deadline */
    bool gave_up;         /* interrupted while a lock is asked or waited for */
    uint64_t lock_ticket; /* lock.c: it waits for this lock; 0: no */
    uint64_t lock_end;    /* last byte */
    Wire__LockSpace lock_space;

    /* What it is about; references are dropped by task_end. */
    struct inode *inode;
    struct inode *parent;
    struct inode *to_parent; /* RENAME; OPEN: what took the place of inode */
    unsigned tries;          /* OPEN */
    struct handle *handle;
    enum face face;
    enum err err;
    uint64_t mark; /* mount->change_count when the answer came */
    struct fuse_file_info fi;
    struct stat stat;
    int valid; /* SETATTR: FUSE_SET_ATTR_*; RENAME: flags */
    bool kill_privilege;
    bool plus;    /* READDIR: with attributes */
    bool no_node; /* LOOKUP: the name is surely not there */
    bool is_data; /* the name is DATA_NAME, and inode == parent */
    uint64_t offset;
    size_t size;
    char *bytes; /* WRITE that has to wait: what is written; owned */
    size_t name_len;
    char name[NAME_BYTES_MAX + 1];
    size_t to_name_len;
    char to_name[NAME_BYTES_MAX + 1]; /* RENAME */
};

/* A task about this inode (NULL: none). Without memory: answers ENOMEM and returns NULL. */
struct task *task_new(struct mount *mount, fuse_req_t req, struct inode *inode);

/* Behind the reply. */
void task_end(struct task *task);

/* Answers with an error and ends. The second keeps the order of answers. */
void task_fail(struct task *task, enum err err);
void task_fail_in_order(struct task *task, enum err err);

/* Sets the name that it is about; at most NAME_BYTES_MAX bytes. */
void task_set_name(struct task *task, const char *name);

/* Sets the other node and the name that it is about. */
void task_set_parent(struct task *task, struct inode *parent, const char *name);
void task_set_to_parent(struct task *task, struct inode *to_parent, const char *to_name);

/* Calls the replica; `done` comes later from the loop, or the task is failed at once. Fills in
 * task->mark before `done`. */
void task_call(struct task *task, Wire__Request *request,
               void (*done)(struct task *task, enum err err, const Wire__Answer *answer));

/* A read barrier: `then` comes when this replica has applied all that was committed when it was
 * asked; on errors the task fails. */
void task_barrier(struct task *task, void (*then)(struct task *task));

/* The task that waits here. */
static inline struct task *task_of_fetch(struct fetch_waiter *waiter)
{
    return (struct task *)(void *)((char *)waiter - offsetof(struct task, fetch));
}

/* Fetches the data of task->inode / waits for the publish of what it has now. */
void task_fetch(struct task *task, void (*done)(struct task *task, enum err err));
void task_publish(struct task *task, void (*done)(struct task *task, enum err err));

/* The errno for an answer to the kernel about nodes that it holds. */
int task_errno(enum err err);

/* Takes over all attributes of an answer: nodes that are known, and the main one too if `make`.
 * Returns the main node, or NULL. */
struct inode *task_take_answer(struct mount *mount, const Wire__Answer *answer, bool make);

/* At the start; and at the end, when the calls have ended. */
void task_init(struct mount *mount);
void task_fail_all(struct mount *mount);

#endif

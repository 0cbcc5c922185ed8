/* SPDX-License-Identifier: Apache-2.0
 *
 * Open files: who opened them, who wrote through them, which version they read.
 */
#ifndef QUORUMFS_HANDLE_H
#define QUORUMFS_HANDLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/mount/content.h"
#include "fs/mount/inode.h"
#include "fs/mount/process.h"
#include "fs/mount/publish_when.h"

/* Processes that wrote through one open file; with more it is published at RELEASE only. */
#define HANDLE_WRITERS_MAX 16u

struct handle {
    struct inode *inode;     /* one reference */
    struct handle *previous; /* in inode->handles */
    struct handle *next;
    struct handle *all_previous; /* in mount->handles */
    struct handle *all_next;
    int flags; /* of open(2) */
    struct process opener;
    struct process writers[HANDLE_WRITERS_MAX];
    size_t writer_count;
    bool writers_unknown;           /* too many, or from another pid namespace */
    bool written;                   /* unpublished writes came through it */
    bool truncated;                 /* its O_TRUNC is not yet published */
    bool dead;                      /* lock.c: a lock that was taken through it may be another's */
    struct lock_owner *lock_owners; /* lock.c: who has locks through it */
    struct content *pin;            /* the version that is read through it, or NULL */
};

/* tid: the opening thread. NULL: no memory. */
struct handle *handle_open(struct mount *mount, struct inode *inode, int flags, pid_t tid);
void handle_close(struct mount *mount, struct handle *handle);

bool handle_is_writer(const struct handle *handle);

/* A write came through it, by this thread (0: unknown or none). */
void handle_note_write(struct handle *handle, pid_t tid);

/* All that is known about a FLUSH by this thread. */
struct publish_question handle_question(struct handle *handle, pid_t tid);

/* Replaces the pin (takes the reference); NULL: none. */
void handle_pin(struct handle *handle, struct content *content);

/* An operation of this host has removed the node of this name: programs that have it open go on
 * with it, though it is gone. Nodes that nobody has open need not be told. */
void handle_note_removed(struct mount *mount, uint64_t parent, const char *name, size_t name_len);

/* All changes of the inode are on their way: no handle has unpublished ones. */
void handle_all_published(struct inode *inode);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Tells the kernel to forget what it has cached, from two threads of its own: one for data and
 * attributes, one for names. fuse_lowlevel.h forbids these calls within an operation; and that of
 * names takes the lock of the directory, so that data must never stand behind it.
 *
 * All functions from the thread of the loop; none waits for the kernel.
 */
#ifndef QUORUMFS_INVAL_H
#define QUORUMFS_INVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"

struct fuse_session;
struct inval;

/* `progress` comes on the loop when some invalidations have finished. ERR_MEMORY. */
enum err inval_new(uv_loop_t *loop, struct fuse_session *session, void (*progress)(void *arg),
                   void *arg, struct inval **out);

/* Ends both threads: what is queued is dropped. The session must not answer any more or the mount
 * be gone, else this may wait for the kernel. `closed` is called from the loop afterwards. */
void inval_close(struct inval *inval, void (*closed)(void *arg), void *arg);

/* Data and attributes, or attributes only, of one nodeid. ERR_MEMORY. */
enum err inval_inode(struct inval *inval, uint64_t nodeid, bool attr_only);

/* The kernel does not hold this nodeid any more: it is looked for no longer. */
void inval_inode_forget(struct inval *inval, uint64_t nodeid);

/* A name in a directory. ERR_LIMIT: too many wait; ERR_MEMORY. */
enum err inval_name(struct inval *inval, uint64_t parent_nodeid, const void *name, size_t len);

/* Everything handed to inval_inode until now has the number inval_inodes_given(); all up to
 * inval_inodes_done() have taken effect. */
uint64_t inval_inodes_given(const struct inval *inval);
uint64_t inval_inodes_done(struct inval *inval);

/* Names handed over until now; whether some have not taken effect; drops those that are not being
 * worked on. */
uint64_t inval_names_given(const struct inval *inval);
bool inval_names_wait(struct inval *inval);
void inval_names_drop(struct inval *inval);

#endif

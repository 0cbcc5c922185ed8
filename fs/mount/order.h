/* SPDX-License-Identifier: Apache-2.0
 *
 * The order of answers: what an operation with zxid Z returns is given to the kernel only when
 * every change with a smaller zxid is invisible in the kernel's caches. Else `mkdir lock && cat
 * state` reads an old `state` (FILESYSTEM.md, "Cache and coherence").
 *
 * Only answers that hold no page may be kept back: never those of READ and WRITE of the page cache.
 */
#ifndef QUORUMFS_ORDER_H
#define QUORUMFS_ORDER_H

#include "common/err.h"
#include "fs/mount/mount.h"

struct order;

enum err order_new(struct mount *mount, struct order **out);
void order_free(struct order *order);

/* Calls `reply` now or when all invalidations handed over until now have taken effect. Not while
 * promises are being reclaimed: what they miss is not known yet. */
void order_reply(struct task *task, void (*reply)(struct task *task));

/* The task ends without its reply. */
void order_cancel(struct task *task);

/* Some invalidations have finished, or promises have been reclaimed. */
void order_progress(struct mount *mount);

/* Makes every name that the kernel has cached ask once again. Takes no lock, may be called from
 * within an operation. */
void order_epoch(struct mount *mount);

/* A change of a name, of an inode's attributes, of an inode's data, to be pushed to the kernel. */
void order_name(struct mount *mount, uint64_t parent_nodeid, const void *name, size_t len);
void order_inode(struct mount *mount, uint64_t nodeid, bool attr_only);

/* The kernel does not hold this nodeid any more. */
void order_forgotten(struct mount *mount, uint64_t nodeid);

#endif

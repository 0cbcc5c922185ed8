/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole file contents: one version each, shared by all who read it.
 *
 * The newest committed version of a file hangs on its inode; the option cache= bounds the
 * sum of these. A handle that reads pins the version it began with (FILESYSTEM.md, "Reading").
 */
#ifndef QUORUMFS_CONTENT_H
#define QUORUMFS_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "fs/mount/inode.h"

struct content {
    uint32_t refs;
    uint64_t mzxid; /* the version: zxid of the change that made it; 0: not committed */
    size_t len;
    uint8_t data[];
};

/* With one reference; data NULL: filled by the caller. NULL: no memory. */
struct content *content_new(const void *data, size_t len, uint64_t mzxid);
struct content *content_ref(struct content *content);
void content_unref(struct content *content); /* NULL is fine */

/* The inode's content, if it is what the tree holds as far as this mount can know; else NULL. */
struct content *content_current(struct inode *inode);

/* Makes it the inode's content (takes the caller's reference) / drops the inode's content. */
void content_set(struct mount *mount, struct inode *inode, struct content *content);
void content_drop(struct mount *mount, struct inode *inode);

/* Reads the data of the inode from the replica. All that wait for the same inode share one read.
 * `done` comes from the loop, never from within; without err, inode->content is set then. The
 * waiter is embedded by the caller and lives until `done` or content_fetch_cancel (which may come
 * more than once). Errors: `done` will not come. */
struct fetch_waiter {
    struct fetch_waiter *next;
    struct fetch *fetch; /* NULL: does not wait */
    void (*done)(struct fetch_waiter *waiter, enum err err);
};
enum err content_fetch(struct mount *mount, struct inode *inode, struct fetch_waiter *waiter);
void content_fetch_cancel(struct fetch_waiter *waiter);

#endif

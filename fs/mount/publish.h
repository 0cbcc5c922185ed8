/* SPDX-License-Identifier: Apache-2.0
 *
 * Publishes the local changes of inodes, each as one log entry.
 *
 * Per inode there is at most one patch under way and one that gathers what came later; both are
 * seen by all programs of this host, in that order on top of the committed data.
 */
#ifndef QUORUMFS_PUBLISH_H
#define QUORUMFS_PUBLISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "fs/mount/content.h"
#include "fs/mount/inode.h"
#include "fs/mount/patch.h"

/* Waits for a publish. Embedded by the caller; lives until `done` or publish_cancel. */
struct publish_waiter {
    struct publish_waiter *next;
    struct publish *publish; /* NULL: does not wait */
    void (*done)(struct publish_waiter *waiter, enum err err);
};

/* What stat shows of an inode with local changes; left as it is without. */
struct publish_view {
    uint64_t bytes;
    int64_t atime_ns;
    int64_t mtime_ns;
    int64_t ctime_ns;
    bool kills_suid_sgid; /* the bits go with the publish */
};
void publish_view(const struct inode *inode, struct publish_view *view);

/* The length of the file as programs of this host see it. */
uint64_t publish_length(const struct inode *inode);

/* The committed data below has changed: the view is made anew. */
void publish_base_changed(struct inode *inode);

/* Changes: part of the next publish. ERR_FILE_TOO_BIG, ERR_LIMIT, ERR_MEMORY. */
enum err publish_truncate(struct mount *mount, struct inode *inode, uint64_t bytes);
enum err publish_write(struct mount *mount, struct inode *inode, uint64_t offset, const void *bytes,
                       size_t len);
enum err publish_append(struct mount *mount, struct inode *inode, const void *bytes, size_t len);
void publish_kill_suid_sgid(struct inode *inode);

/* There are changes that are not under way yet: times may join them. */
bool publish_is_pending(const struct inode *inode);
/* A patch has been sent and is not answered yet. */
bool publish_is_under_way(const struct inode *inode);
void publish_set_mtime(struct inode *inode, int64_t mtime_ns);
void publish_set_mtime_now(struct inode *inode);
void publish_set_atime(struct inode *inode, int64_t atime_ns);

/* The local view can be made only from the committed data (content_fetch first). */
bool publish_needs_base(const struct inode *inode);

/* The local view as a content, with a reference; needs inode->content if publish_needs_base. NULL:
 * no memory. */
struct content *publish_content(struct inode *inode);

/* Some of the local view, into *out (replaced); less at the end of the file. Only while there is an
 * inode->publish; needs inode->content if publish_needs_base. ERR_MEMORY. */
enum err publish_read(const struct inode *inode, uint64_t offset, size_t size, struct buffer *out);

/* Loop time at which the publish under way was last seen to go on; 0: there is none. */
uint64_t publish_progress_ms(const struct inode *inode);

/* Publishes what is pending. The waiter (NULL: nobody listens; then it is tried as long as the
 * session lives) is told when it and all before it is done. False: there is nothing to wait for. */
bool publish_now(struct mount *mount, struct inode *inode, struct publish_waiter *waiter);
void publish_cancel(struct publish_waiter *waiter);

/* Publishes all that is pending, of all inodes; true: some are still under way. */
bool publish_all(struct mount *mount);

/* What is pending is not to be published: whoever waits for it is told ERR_SESSION_EXPIRED. */
void publish_drop_pending(struct mount *mount, struct inode *inode);

/* The error of a publish that nobody has heard of yet; it is given once. */
enum err publish_take_error(struct inode *inode);

void publish_init(struct mount *mount);
/* Drops what is not published. */
void publish_done(struct mount *mount);

#endif

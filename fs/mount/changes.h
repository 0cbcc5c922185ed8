/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes made elsewhere: from the stream of events to the tables here and the kernel's caches.
 */
#ifndef QUORUMFS_CHANGES_H
#define QUORUMFS_CHANGES_H

#include "fs/mount/inode.h"
#include "fs/mount/mount.h"

/* An event of the client, in commit order. */
void changes_event(struct mount *mount, const Wire__Event *event);

/* Attached to a replica, perhaps another: the promises are reclaimed. */
void changes_attached(struct mount *mount);

/* The connection is lost: changes come no more. */
void changes_detached(struct mount *mount);

/* An answer shows that changes of this inode have been missed: the kernel forgets all of it. */
void changes_missed(struct mount *mount, struct inode *inode);

/* A change of this host by one face of an inode: the kernel forgets what it holds of the other one,
 * and of its name if data has come or gone (`had_data`: before). */
void changes_own_face(struct mount *mount, struct inode *inode, enum face face, bool had_data);

/* The data of an inode, as this host sees it, has come or gone: of what is shown as a directory that is
 * a name in it. */
void changes_data_name(struct mount *mount, struct inode *inode);

/* An operation of this host changed the names in a directory: pages of its listing are old. */
void changes_own_names(struct mount *mount, struct inode *parent);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * A page of the children of a directory, as the replica gave it. The kernel asks for a few at a
 * time; the page is kept on the inode until it has been given out or something in it changes.
 *
 * Invariant: while a listing is kept, the promises that came with it are: a change of a child drops
 * it (changes.c). Dropping gives back the promises on children that nobody has looked up.
 */
#ifndef QUORUMFS_LISTING_H
#define QUORUMFS_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire.h"
#include "fs/mount/inode.h"

struct listing_entry {
    uint64_t cookie; /* of the place behind this entry */
    Wire__Attr attr;
    const char *name; /* NUL-terminated, owned by the listing */
};

struct listing {
    uint64_t from; /* cookie behind which the page begins */
    uint64_t grant;
    bool end; /* nothing follows */
    size_t count;
    struct listing_entry *entries;
    char *names;
};

/* Keeps the page of a ChildrenRead that asked from this cookie, instead of the one kept before.
 * ERR_MEMORY, ERR_MALFORMED (entries without attributes). */
enum err listing_keep(struct mount *mount, struct inode *inode, uint64_t from,
                      const Wire__Answer *answer);
void listing_drop(struct mount *mount, struct inode *inode);

/* The promise on this node is given back: a page that shows it is dropped. */
void listing_of_child_drop(struct mount *mount, const struct inode *child);

/* Where the entries behind `cookie` begin in the kept page: an index, at `count` only with `end`.
 * False: not in this page. */
bool listing_find(const struct listing *listing, uint64_t cookie, size_t *out_index);

#endif

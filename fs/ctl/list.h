/* SPDX-License-Identifier: Apache-2.0
 *
 * The children of a node, gathered page by page.
 */
#ifndef QUORUMFS_CTL_LIST_H
#define QUORUMFS_CTL_LIST_H

#include "fs/ctl/ctl.h"

struct list_entry {
    const uint8_t *name; /* these point into the pages of the list */
    size_t name_len;
    const Wire__Attr *attr;
};

struct list {
    struct list_entry *entries;
    size_t count;
    size_t capacity;
    Wire__Answer **pages; /* owned */
    size_t page_count;
};

/* Appends all children of the node at `path`, in the order of the replica. */
enum err list_read(struct ctl *ctl, const struct buffer *path, struct list *list);
/* Appends the node itself, as a list of one. */
enum err list_self(struct ctl *ctl, const struct buffer *path, struct list *list);
void list_done(struct list *list);

#endif

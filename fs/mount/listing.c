/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages of listings, for ops_lookup.c; dropped by changes.c and ops_name.c.
 */
#include "fs/mount/listing.h"

#include <stdlib.h>
#include <string.h>

#include "common/limits.h"

static void listing_free(struct listing *listing)
{
    free(listing->entries);
    free(listing->names);
    free(listing);
}

static bool is_whole(const Wire__Answer *answer, size_t *out_names_bytes)
{
    *out_names_bytes = 0;
    for (size_t i = 0; i < answer->n_entries; i++) {
        const Wire__Entry *entry = answer->entries[i];
        if (entry->attr == NULL || entry->name.len == 0 || entry->name.len > NAME_BYTES_MAX) {
            return false;
        }
        *out_names_bytes += entry->name.len + 1;
    }
    return true;
}

enum err listing_keep(struct mount *mount, struct inode *inode, uint64_t from,
                      const Wire__Answer *answer)
{
    size_t names_bytes = 0;
    listing_drop(mount, inode);
    if (!is_whole(answer, &names_bytes)) {
        return ERR_MALFORMED;
    }
    struct listing *listing = calloc(1, sizeof *listing);
    if (listing == NULL) {
        return ERR_MEMORY;
    }
    listing->entries = calloc(answer->n_entries + 1, sizeof *listing->entries);
    listing->names = malloc(names_bytes + 1);
    if (listing->entries == NULL || listing->names == NULL) {
        listing_free(listing);
        return ERR_MEMORY;
    }
    char *name = listing->names;
    for (size_t i = 0; i < answer->n_entries; i++) {
        const Wire__Entry *entry = answer->entries[i];
        memcpy(name, entry->name.data, entry->name.len);
        name[entry->name.len] = '\0';
        listing->entries[i] =
            (struct listing_entry){.cookie = entry->cookie, .attr = *entry->attr, .name = name};
        name += entry->name.len + 1;
        /* What is already known is as new as this now. */
        if (inode_find(mount, entry->attr->ino) != NULL) {
            (void)inode_take(mount, entry->attr, answer->grant, false /* make */);
        }
    }
    listing->from = from;
    listing->grant = answer->grant;
    listing->end = answer->end;
    listing->count = answer->n_entries;
    if (answer->grant > mount->grant_seen) {
        mount->grant_seen = answer->grant;
    }
    inode->listing = listing;
    return ERR_OK;
}

void listing_drop(struct mount *mount, struct inode *inode)
{
    struct listing *listing = inode->listing;
    if (listing == NULL) {
        return;
    }
    inode->listing = NULL;
    for (size_t i = 0; i < listing->count && listing->grant != 0 && mount->client != NULL; i++) {
        uint64_t ino = listing->entries[i].attr.ino;
        if (inode_find(mount, ino) == NULL) {
            client_forget(mount->client, ino, listing->grant);
        }
    }
    listing_free(listing);
}

void listing_of_child_drop(struct mount *mount, const struct inode *child)
{
    struct inode *parent = inode_find(mount, child->attr.parent);
    const struct listing *listing = parent != NULL ? parent->listing : NULL;
    for (size_t i = 0; listing != NULL && i < listing->count; i++) {
        if (listing->entries[i].attr.ino == child->ino) {
            listing_drop(mount, parent);
            return;
        }
    }
}

bool listing_find(const struct listing *listing, uint64_t cookie, size_t *out_index)
{
    if (cookie == listing->from) {
        *out_index = 0;
        return listing->count > 0 || listing->end;
    }
    /* Cookies ascend; of equal ones the last is meant. */
    size_t low = 0;
    size_t high = listing->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (listing->entries[middle].cookie <= cookie) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *out_index = low;
    return low > 0 && listing->entries[low - 1].cookie == cookie &&
           (low < listing->count || listing->end);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The nodes that this mount knows: those that the kernel holds, and those in use here.
 *
 * A node has two faces, and the kernel sees each as an inode of its own: nodeid = ino << 1 | face.
 * The root of the mount, whatever its ino, is nodeid 1.
 */
#ifndef QUORUMFS_INODE_H
#define QUORUMFS_INODE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/table.h"
#include "common/wire.h"
#include "fs/mount/mount.h"

enum face {
    FACE_FILE = 0, /* and symlinks, fifos, sockets, devices */
    FACE_DIR = 1,
};

struct content;
struct fetch;
struct handle;
struct listing;
struct publish;

/* Lives while a face is held by the kernel or `refs` is not zero. */
struct inode {
    uint64_t ino;
    UT_hash_handle hh;
    Wire__Attr attr; /* as committed, newest known; holds no pointers */
    char *name; /* under which it was last seen in attr.parent, NUL-terminated; NULL: unknown */
    uint64_t nlookup[2];
    uint32_t refs;       /* handles, tasks, publishes, fetches */
    bool promised;       /* changes are pushed */
    bool gone;           /* removed from the tree */
    bool pages;          /* the kernel may hold pages of the data */
    uint64_t changed_ms; /* CLOCK_MONOTONIC of the last change of the data seen; 0: none */
    uint64_t names_mark; /* mount->change_count at the last change of names in it */

    struct content *content; /* newest committed data known, or NULL (content.c) */
    struct inode *content_previous;
    struct inode *content_next;
    struct fetch *fetch;     /* the data is being read, or NULL (content.c) */
    struct handle *handles;  /* open files (handle.c) */
    struct publish *publish; /* unpublished changes, or NULL (publish.c) */
    int publish_error;       /* enum err that no program has heard of yet (publish.c) */
    uint64_t moved_from;     /* replay_resync.c: ino of the directory that it has left; 0: none */
    bool if_version;         /* the next publish is on condition of version_wanted */
    uint32_t version_wanted;
    struct listing *listing; /* a page of the children, or NULL (listing.c) */
};

/* The name of the file in a directory that is the data of the directory. */
#define DATA_NAME ".znode-data"

/* It is, or may come to be, shown as a directory. */
bool inode_may_be_dir(const Wire__Attr *attr);

/* The face under which a node is shown now. */
enum face inode_face(const Wire__Attr *attr);

uint64_t inode_nodeid(const struct mount *mount, uint64_t ino, enum face face);

/* NULL: not known. */
struct inode *inode_find(struct mount *mount, uint64_t ino);
struct inode *inode_of_nodeid(struct mount *mount, uint64_t nodeid, enum face *out_face);

/* Takes the attributes of an answer or event: the inode if it is known or `make` is set, else NULL
 * (or no memory). `grant` not 0: the answer's promise covers it; for a node that is not kept the
 * promise is given back. Older attributes than known ones change nothing. */
struct inode *inode_take(struct mount *mount, const Wire__Attr *attr, uint64_t grant, bool make);

void inode_ref(struct inode *inode);
void inode_unref(struct mount *mount, struct inode *inode); /* NULL is fine */

/* It has this name now. Without memory the name is unknown. */
void inode_set_name(struct inode *inode, const void *name, size_t len);

/* The kernel holds one more / `count` fewer of this face. */
void inode_hold(struct inode *inode, enum face face);
void inode_forget(struct mount *mount, uint64_t nodeid, uint64_t count);

bool inode_is_held(const struct inode *inode);

/* This face is the data of what is shown as a directory: the file DATA_NAME in it. Its mode and
 * owner are those of the directory, and cannot be set. */
bool inode_is_data(const struct inode *inode, enum face face);

/* S_IFDIR, S_IFREG, ... */
mode_t inode_type(const Wire__Attr *attr, enum face face);

/* What stat shows: the local view of this host. */
void inode_stat(const struct mount *mount, const struct inode *inode, enum face face,
                struct stat *out);

/* How long the kernel may keep the attributes: not while there are unpublished changes. */
double inode_attr_timeout(const struct mount *mount, const struct inode *inode);

/* Frees all, at the end of the program. */
void inode_free_all(struct mount *mount);

#endif

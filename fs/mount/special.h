/* SPDX-License-Identifier: Apache-2.0
 *
 * The mount's own files: the folder `.quorumfs` in its root, which no listing shows (FILESYSTEM.md,
 * ".quorumfs/"). Their nodeids have the highest bit set, which no node of the tree has.
 *
 * Like all operations these answer their request exactly once, now or later.
 */
#ifndef QUORUMFS_SPECIAL_H
#define QUORUMFS_SPECIAL_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <stdbool.h>

#define SPECIAL_NAME          ".quorumfs"
#define SPECIAL_FOLDER_NODEID (1ull << 63)

bool special_is(fuse_ino_t nodeid);

/* The folder, asked for in the root of the mount. */
void special_lookup_folder(fuse_req_t req);

/* Requests about a nodeid for which special_is() holds. */
void special_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void special_getattr(fuse_req_t req, fuse_ino_t nodeid);
void special_readdir(fuse_req_t req, size_t size, off_t offset, bool plus);
void special_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void special_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
                  const struct fuse_file_info *fi);
void special_write(fuse_req_t req, fuse_ino_t nodeid, const char *bytes, size_t size,
                   const struct fuse_file_info *fi);
void special_poll(fuse_req_t req, fuse_ino_t nodeid, const struct fuse_file_info *fi,
                  struct fuse_pollhandle *handle);
void special_release(fuse_req_t req, fuse_ino_t nodeid, const struct fuse_file_info *fi);

#endif

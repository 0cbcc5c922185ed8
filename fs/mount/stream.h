/* SPDX-License-Identifier: Apache-2.0
 *
 * `.quorumfs/events`: a stream of lines, one for each change below the mount (fs/client/watch_text.h),
 * with paths from the root of the mount; `-` stands for a path outside. Each open file is a stream of
 * its own that begins where it was opened, or behind the zxid that its name or its first write says.
 *
 * A reader waits for the next line as long as it takes. One that is slow holds a batch of lines in
 * memory and at last gets a line of what it has missed.
 */
#ifndef QUORUMFS_STREAM_H
#define QUORUMFS_STREAM_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <stdint.h>

#include "fs/mount/mount.h"

#define STREAM_FROM_NOW UINT64_MAX

/* Like all operations these answer their request exactly once, now or later. */
void stream_open(fuse_req_t req, uint64_t since, struct fuse_file_info *fi);
void stream_read(fuse_req_t req, size_t size, const struct fuse_file_info *fi);
void stream_write(fuse_req_t req, const char *text, size_t len, const struct fuse_file_info *fi);
void stream_poll(fuse_req_t req, const struct fuse_file_info *fi, struct fuse_pollhandle *handle);
void stream_release(fuse_req_t req, const struct fuse_file_info *fi);

/* Ends all watches; readers are left to task_fail_all. Behind client_close, before its `done`. */
void stream_end_all(struct mount *mount);

#endif

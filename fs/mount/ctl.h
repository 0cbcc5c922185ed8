/* SPDX-License-Identifier: Apache-2.0
 *
 * `.quorumfs/ctl`: what plain shells cannot do with files. A write of one line (fs/mount/ctl_line.h)
 * ends when it is done, with its errno; its answer is read from the same descriptor:
 *
 *     create -s /q/job- data      ok /q/job-0000000007
 *     set -v 3 /config text       ok 4                          (the version)
 *     delete -v 4 /config         ok
 *     check -v 4 /config          ok 4
 *     sync                        ok 1234                       (the zxid; a read barrier)
 *     multi, lines, commit        ok, ok queued, ok RESULT ...  (one for each line; - if there is none)
 *     anything that fails         error ESTALE the version is another
 *
 * Several lines in one write are done one after the other up to the first that fails. An answer that
 * was not read is dropped by the next write. Each open file has a transaction of its own; it ends with
 * `commit`, `abort` or the last close. What is done, the caller must be allowed to do.
 */
#ifndef QUORUMFS_CTL_H
#define QUORUMFS_CTL_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

/* Like all operations these answer their request exactly once, now or later. */
void ctl_open(fuse_req_t req, struct fuse_file_info *fi);
void ctl_read(fuse_req_t req, size_t size, const struct fuse_file_info *fi);
void ctl_write(fuse_req_t req, const char *text, size_t len, const struct fuse_file_info *fi);
void ctl_release(fuse_req_t req, const struct fuse_file_info *fi);

#endif

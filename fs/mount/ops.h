/* SPDX-License-Identifier: Apache-2.0
 *
 * The operations of the kernel, by file: ops.c the table and INIT; ops_lookup.c lookup, forget and
 * listing; ops_name.c what changes names; ops_file.c open files; ops_attr.c attributes and statfs;
 * ops_data.c the name `.znode-data`; ops_xattr.c extended attributes;
 * ops_lock.c locks; ops_replay.c the workers that replay changes.
 *
 * Every function here is called by libfuse on the thread of the loop and answers its request
 * exactly once, now or later. userdata is the struct mount.
 */
#ifndef QUORUMFS_OPS_H
#define QUORUMFS_OPS_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include "fs/mount/task.h"

const struct fuse_lowlevel_ops *ops_table(void);

static inline struct mount *ops_mount(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

/* The inode of a request; NULL: it has been answered with ESTALE (unknown) or EPERM (one of the
 * mount's own files, special.h). */
struct inode *ops_inode(fuse_req_t req, fuse_ino_t nodeid, enum face *out_face);

/* Answers with the entry task->inode (held once more then), in the shape of the reply of LOOKUP,
 * MKDIR, MKNOD, SYMLINK; or CREATE with `created`. Ends the task. */
void ops_reply_entry(struct task *task);
void ops_fill_entry(struct task *task, struct fuse_entry_param *out);

/* The name is not too long. Else answered with ENAMETOOLONG. */
bool ops_name_fits(fuse_req_t req, const char *name);

/* The name is not one of those that mean something of their own: `.znode-data`, `.quorumfs`. Else
 * answered with EINVAL. */
bool ops_name_is_free(fuse_req_t req, const char *name);

/* The mount may change the tree; else answered with EROFS. First of all in what changes it. */
bool ops_may_change(fuse_req_t req);

/* Begins a request about a name in a directory. NULL: it has been answered. */
struct task *ops_name_task(fuse_req_t req, fuse_ino_t parent, const char *name);

/* Answers CREATE with a handle on task->inode, which is new. */
void ops_create_open(struct task *task);

/* Answers with success. */
void ops_reply_ok(struct task *task);

/* ops_lookup.c */
void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_forget(fuse_req_t req, fuse_ino_t nodeid, uint64_t count);
void ops_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void ops_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void ops_readdir(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
                 struct fuse_file_info *fi);
void ops_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
                     struct fuse_file_info *fi);
void ops_readlink(fuse_req_t req, fuse_ino_t nodeid);

/* ops_name.c */
void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void ops_link(fuse_req_t req, fuse_ino_t nodeid, fuse_ino_t parent, const char *name);
void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent,
                const char *to_name, unsigned int flags);
void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                struct fuse_file_info *fi);

/* ops_data.c: operations on the name DATA_NAME in a directory, which is its data as a file. */
bool ops_data_is_name(const char *name);
void ops_data_lookup(fuse_req_t req, fuse_ino_t parent);
void ops_data_create(fuse_req_t req, fuse_ino_t parent, struct fuse_file_info *fi);
void ops_data_unlink(fuse_req_t req, fuse_ino_t parent);

/* ops_file.c */
void ops_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void ops_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
              struct fuse_file_info *fi);
void ops_write(fuse_req_t req, fuse_ino_t nodeid, const char *bytes, size_t size, off_t offset,
               struct fuse_file_info *fi);
void ops_flush(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void ops_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void ops_poll(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi,
              struct fuse_pollhandle *handle);
void ops_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi);
void ops_fsyncdir(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi);

/* Opens task->inode with task->fi: makes the handle. Errors: ERR_MEMORY and those of a truncate. */
enum err ops_file_open(struct task *task, bool created);

/* ops_lock.c */
void ops_flock(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, int operation);
void ops_setlk(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, struct flock *lock,
               int sleep);
void ops_getlk(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi, struct flock *lock);

/* ops_xattr.c */
void ops_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size);
void ops_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size);
void ops_setxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, const char *value,
                  size_t size, int flags);
void ops_removexattr(fuse_req_t req, fuse_ino_t nodeid, const char *name);

/* ops_replay.c: the caller is a replay worker; then one of these, never the operation itself. Those
 * that return false have answered nothing: the usual answer will do. */
bool ops_is_replay(fuse_req_t req);
bool ops_replay_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_replay_make(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_replay_create(fuse_req_t req, fuse_ino_t parent, const char *name,
                       struct fuse_file_info *fi);
void ops_replay_remove(fuse_req_t req, fuse_ino_t parent, const char *name, bool dir);
void ops_replay_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent,
                       const char *to_name);
void ops_replay_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void ops_replay_setattr(fuse_req_t req, fuse_ino_t nodeid);
bool ops_replay_getattr(fuse_req_t req, fuse_ino_t nodeid);

/* ops_attr.c */
void ops_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void ops_setattr(fuse_req_t req, fuse_ino_t nodeid, struct stat *attr, int valid,
                 struct fuse_file_info *fi);
void ops_statfs(fuse_req_t req, fuse_ino_t nodeid);
void ops_attr_refresh_statfs(struct mount *mount);

#endif

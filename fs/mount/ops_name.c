/* SPDX-License-Identifier: Apache-2.0
 *
 * What changes names: MKNOD, MKDIR, SYMLINK, CREATE, UNLINK, RMDIR, RENAME. One log entry each,
 * atomic for the ensemble; the answer keeps the order of answers.
 */
#include "fs/mount/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <utlist.h>

#include "common/check.h"
#include "common/path.h"
#include "fs/mount/changes.h"
#include "fs/mount/order.h"
#include "fs/mount/replay.h"
#include "fs/mount/special.h"

/* Of renameat2(2), in the flags of RENAME. */
#define FLAG_NOREPLACE (1u << 0)
#define FLAG_EXCHANGE  (1u << 1)

static void call_op(struct task *task, Wire__Op *op,
                    void (*done)(struct task *task, enum err err, const Wire__Answer *answer))
{
    Wire__Request request = WIRE__REQUEST__INIT;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = op;
    task_call(task, &request, done);
}

/* ---- making nodes ---- */

/* What CreateOp needs beside the name. */
struct making {
    Wire__Kind kind;
    mode_t mode;
    dev_t rdev;
    const char *target; /* of a symlink */
    void (*done)(struct task *task, enum err err, const Wire__Answer *answer);
};

static void make_node(struct task *task, const struct making *making)
{
    const struct fuse_ctx *caller = fuse_req_ctx(task->req);
    const Wire__Attr *parent = &task->parent->attr;
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    char holder[PROCESS_TEXT_BYTES];
    at.ino = task->parent->ino;
    at.name = wire_bytes(task->name, task->name_len);
    create.at = &at;
    create.kind = making->kind;
    create.mode = making->mode & 07777u;
    create.uid = caller->uid;
    create.gid = caller->gid;
    create.rdev = (uint32_t)making->rdev;
    if ((parent->mode & S_ISGID) != 0) {
        /* As everywhere: a setgid directory hands on its group, and itself to directories. */
        create.gid = parent->gid;
        create.mode |= making->kind == WIRE__KIND__KIND_DIR ? (uint32_t)S_ISGID : 0;
    }
    if (making->target != NULL) {
        create.data = wire_bytes(making->target, strlen(making->target));
    }
    if (making->kind == WIRE__KIND__KIND_DIR) {
        /* Scripts lock with mkdir: who holds it is told on request. */
        process_describe(caller->pid, task->mount->options->name, holder, sizeof holder);
        create.holder = wire_bytes(holder, strlen(holder));
    }
    op.body_case = WIRE__OP__BODY_CREATE;
    op.create = &create;
    call_op(task, &op, making->done);
}

/* Takes over the answer of a CreateOp. */
static enum err take_made(struct task *task, enum err err, const Wire__Answer *answer)
{
    struct mount *mount = task->mount;
    if (answer != NULL) {
        struct inode *inode = task_take_answer(mount, answer, err == ERR_OK);
        if (err == ERR_OK) {
            if (inode == NULL) {
                return answer->attr == NULL ? ERR_MALFORMED : ERR_MEMORY;
            }
            task->inode = inode;
            inode_ref(inode);
            changes_own_names(mount, task->parent);
            replay_touch(mount, task->parent->ino, task->name, task->name_len);
        }
    }
    return err == ERR_OK && task->inode == NULL ? ERR_MALFORMED : err;
}

static void made(struct task *task, enum err err, const Wire__Answer *answer)
{
    err = take_made(task, err, answer);
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    order_reply(task, ops_reply_entry);
}

void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    struct making making = {.mode = mode, .done = made};
    if (ops_is_replay(req)) {
        ops_replay_make(req, parent, name);
        return;
    }
    switch (mode & S_IFMT) {
    case S_IFREG:
        making.kind = WIRE__KIND__KIND_FILE;
        break;
    case S_IFIFO:
        making.kind = WIRE__KIND__KIND_FIFO;
        break;
    case S_IFSOCK:
        making.kind = WIRE__KIND__KIND_SOCKET;
        break;
    case S_IFCHR:
        making.kind = WIRE__KIND__KIND_CHAR_DEVICE;
        making.rdev = rdev;
        break;
    case S_IFBLK:
        making.kind = WIRE__KIND__KIND_BLOCK_DEVICE;
        making.rdev = rdev;
        break;
    default:
        (void)fuse_reply_err(req, EINVAL);
        return;
    }
    struct task *task = ops_may_change(req) && ops_name_is_free(req, name)
                            ? ops_name_task(req, parent, name)
                            : NULL;
    if (task != NULL) {
        make_node(task, &making);
    }
}

void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    const struct making making = {.kind = WIRE__KIND__KIND_DIR, .mode = mode, .done = made};
    if (ops_is_replay(req)) {
        ops_replay_make(req, parent, name);
        return;
    }
    struct task *task = ops_may_change(req) && ops_name_is_free(req, name)
                            ? ops_name_task(req, parent, name)
                            : NULL;
    if (task != NULL) {
        make_node(task, &making);
    }
}

void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    const struct making making = {
        .kind = WIRE__KIND__KIND_SYMLINK, .mode = 0777, .target = target, .done = made};
    if (ops_is_replay(req)) {
        ops_replay_make(req, parent, name);
        return;
    }
    struct task *task = ops_may_change(req) && ops_name_is_free(req, name)
                            ? ops_name_task(req, parent, name)
                            : NULL;
    if (task != NULL) {
        make_node(task, &making);
    }
}

void ops_link(fuse_req_t req, fuse_ino_t nodeid, fuse_ino_t parent, const char *name)
{
    (void)nodeid;
    (void)parent;
    (void)name;
    (void)fuse_reply_err(req, EPERM); /* There are no hard links. */
}

/* ---- create ---- */

static void create_reply(struct task *task)
{
    struct fuse_entry_param entry;
    ops_fill_entry(task, &entry);
    inode_hold(task->inode, task->face);
    if (fuse_reply_create(task->req, &entry, &task->fi) != 0) {
        handle_close(task->mount, task->handle);
        inode_forget(task->mount, entry.ino, 1);
    }
    task_end(task);
}

void ops_create_open(struct task *task)
{
    struct inode *inode = task->inode;
    if (inode->attr.data_bytes == 0) {
        /* Known without asking, also when the name is removed before the first read. */
        struct content *empty = content_new(NULL, 0, inode->attr.mzxid);
        if (empty != NULL) {
            content_set(task->mount, inode, empty);
        }
    }
    enum err err = ops_file_open(task, true /* created */);
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    order_reply(task, create_reply);
}

static void created(struct task *task, enum err err, const Wire__Answer *answer)
{
    err = take_made(task, err, answer);
    if (err == ERR_EXISTS && (task->fi.flags & O_EXCL) == 0) {
        /* Somebody was faster. The kernel looks up again, then checks the modes and opens it. */
        err = ERR_STALE;
    }
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    ops_create_open(task);
}

void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                struct fuse_file_info *fi)
{
    const struct making making = {.kind = WIRE__KIND__KIND_FILE, .mode = mode, .done = created};
    if (ops_is_replay(req)) {
        ops_replay_create(req, parent, name, fi);
        return;
    }
    if (!ops_may_change(req)) {
        return;
    }
    if (ops_data_is_name(name)) {
        ops_data_create(req, parent, fi);
        return;
    }
    struct task *task = ops_name_is_free(req, name) ? ops_name_task(req, parent, name) : NULL;
    if (task != NULL) {
        task->fi = *fi;
        make_node(task, &making);
    }
}

/* ---- removing ---- */

static void removed(struct task *task, enum err err, const Wire__Answer *answer)
{
    if (answer != NULL) {
        (void)task_take_answer(task->mount, answer, false /* make */);
    }
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    handle_note_removed(task->mount, task->parent->ino, task->name, task->name_len);
    changes_own_names(task->mount, task->parent);
    replay_touch(task->mount, task->parent->ino, task->name, task->name_len);
    order_reply(task, ops_reply_ok);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, Wire__RemoveWhat what)
{
    if (strcmp(name, SPECIAL_NAME) == 0) {
        (void)fuse_reply_err(req, EPERM);
        return;
    }
    struct task *task = ops_name_task(req, parent, name);
    if (task == NULL) {
        return;
    }
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__RemoveOp remove = WIRE__REMOVE_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    at.ino = task->parent->ino;
    at.name = wire_bytes(task->name, task->name_len);
    remove.at = &at;
    remove.what = what;
    op.body_case = WIRE__OP__BODY_REMOVE;
    op.remove = &remove;
    call_op(task, &op, removed);
}

void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    if (ops_is_replay(req)) {
        ops_replay_remove(req, parent, name, false /* dir */);
        return;
    }
    if (!ops_may_change(req)) {
        return;
    }
    if (ops_data_is_name(name)) {
        ops_data_unlink(req, parent);
        return;
    }
    remove_name(req, parent, name, WIRE__REMOVE_WHAT__REMOVE_NOT_DIR);
}

void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    if (ops_is_replay(req)) {
        ops_replay_remove(req, parent, name, true /* dir */);
        return;
    }
    if (!ops_may_change(req)) {
        return;
    }
    if (ops_data_is_name(name)) {
        (void)fuse_reply_err(req, ENOTDIR);
        return;
    }
    remove_name(req, parent, name, WIRE__REMOVE_WHAT__REMOVE_DIR);
}

/* ---- renaming ---- */

/* The other node of an exchange is known as it is now. */
static void exchanged(struct task *task, enum err err, const Wire__Answer *answer)
{
    if (err == ERR_OK && answer != NULL) {
        struct inode *other = task_take_answer(task->mount, answer, false /* make */);
        if (other != NULL) {
            inode_set_name(other, task->name, task->name_len);
        }
    }
    order_reply(task, ops_reply_ok);
}

/* The answer of a rename tells of one node only. */
static void look_at_other(struct task *task)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__LookupRead lookup = WIRE__LOOKUP_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    at.ino = task->parent->ino;
    at.name = wire_bytes(task->name, task->name_len);
    lookup.at = &at;
    request.body_case = WIRE__REQUEST__BODY_LOOKUP;
    request.lookup = &lookup;
    task_call(task, &request, exchanged);
}

static void renamed(struct task *task, enum err err, const Wire__Answer *answer)
{
    struct mount *mount = task->mount;
    struct inode *inode = answer != NULL ? task_take_answer(mount, answer, false /* make */) : NULL;
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    changes_own_names(mount, task->parent);
    changes_own_names(mount, task->to_parent);
    replay_touch(mount, task->parent->ino, task->name, task->name_len);
    replay_touch(mount, task->to_parent->ino, task->to_name, task->to_name_len);
    bool exchange = (task->valid & (int)FLAG_EXCHANGE) != 0;
    if (!exchange) {
        /* Names are as before the rename here: only what was replaced is called so. */
        handle_note_removed(mount, task->to_parent->ino, task->to_name, task->to_name_len);
    }
    if (inode != NULL) {
        inode_set_name(inode, task->to_name, task->to_name_len);
        inode->gone = false;
    }
    if (exchange) {
        look_at_other(task);
    } else {
        order_reply(task, ops_reply_ok);
    }
}

void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent_nodeid,
                const char *to_name, unsigned int flags)
{
    if (ops_is_replay(req)) {
        ops_replay_rename(req, parent, name, to_parent_nodeid, to_name);
        return;
    }
    if (!ops_may_change(req)) {
        return;
    }
    if (ops_data_is_name(name) || ops_data_is_name(to_name)) {
        (void)fuse_reply_err(req, EXDEV); /* mv(1) and rsync(1) copy then. */
        return;
    }
    if (strcmp(name, SPECIAL_NAME) == 0) {
        (void)fuse_reply_err(req, EPERM);
        return;
    }
    struct inode *to_parent =
        ops_name_fits(req, to_name) ? ops_inode(req, to_parent_nodeid, NULL) : NULL;
    if (to_parent == NULL || !ops_name_is_free(req, to_name)) {
        return;
    }
    if ((flags & ~(FLAG_NOREPLACE | FLAG_EXCHANGE)) != 0) {
        (void)fuse_reply_err(req, EINVAL);
        return;
    }
    struct task *task = ops_name_task(req, parent, name);
    if (task == NULL) {
        return;
    }
    task->valid = (int)flags;
    task_set_to_parent(task, to_parent, to_name);
    Wire__Address from = WIRE__ADDRESS__INIT;
    Wire__Address to = WIRE__ADDRESS__INIT;
    Wire__RenameOp rename = WIRE__RENAME_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    from.ino = task->parent->ino;
    from.name = wire_bytes(task->name, task->name_len);
    to.ino = to_parent->ino;
    to.name = wire_bytes(task->to_name, task->to_name_len);
    rename.from = &from;
    rename.to = &to;
    rename.no_replace = (flags & FLAG_NOREPLACE) != 0;
    rename.exchange = (flags & FLAG_EXCHANGE) != 0;
    op.body_case = WIRE__OP__BODY_RENAME;
    op.rename = &rename;
    call_op(task, &op, renamed);
}

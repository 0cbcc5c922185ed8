/* SPDX-License-Identifier: Apache-2.0
 *
 * The data of a node that is shown as a directory: the file DATA_NAME in it (FILESYSTEM.md, "A znode
 * has two faces"). It is the file face of the same inode, so what is done with an open file is in
 * ops_file.c. Only the name is handled here: it is there exactly when the data is not empty, as this
 * host sees it. Handed requests by the ops that know names.
 */
#include "fs/mount/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fs/mount/order.h"
#include "fs/mount/publish.h"

bool ops_data_is_name(const char *name)
{
    return strcmp(name, DATA_NAME) == 0;
}

/* ---- the attributes, which tell whether there is data ---- */

static void attr_answered(struct task *task, enum err err, const Wire__Answer *answer)
{
    if (answer != NULL) {
        (void)task_take_answer(task->mount, answer, false /* make */);
    }
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    task->known(task);
}

static void attr_ask(struct task *task)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__LookupRead lookup = WIRE__LOOKUP_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    at.ino = task->inode->ino;
    lookup.at = &at;
    request.body_case = WIRE__REQUEST__BODY_LOOKUP;
    request.lookup = &lookup;
    task_call(task, &request, attr_answered);
}

/* Begins a request about the data of a directory; `known` comes when its attributes are as new as
 * this mount promises. NULL: it has been answered. */
static struct task *data_task(fuse_req_t req, fuse_ino_t parent, void (*known)(struct task *task))
{
    struct task *task = ops_name_task(req, parent, DATA_NAME);
    if (task != NULL) {
        task->inode = task->parent;
        inode_ref(task->inode);
        task->is_data = true;
        task->known = known;
    }
    return task;
}

static void data_start(struct task *task)
{
    if (task->mount->options->linearizable) {
        task_barrier(task, attr_ask);
    } else if (task->inode->promised || task->inode->gone) {
        task->mark = task->mount->change_count;
        task->known(task);
    } else {
        attr_ask(task);
    }
}

static bool has_data(const struct task *task)
{
    return publish_length(task->inode) > 0;
}

/* ---- operations ---- */

static void lookup_known(struct task *task)
{
    task->no_node = !has_data(task);
    order_reply(task, ops_reply_entry);
}

void ops_data_lookup(fuse_req_t req, fuse_ino_t parent)
{
    struct task *task = data_task(req, parent, lookup_known);
    if (task != NULL) {
        data_start(task);
    }
}

static void create_known(struct task *task)
{
    if (has_data(task)) {
        /* Without O_EXCL the kernel looks up again and opens what it finds. */
        task_fail_in_order(task, (task->fi.flags & O_EXCL) != 0 ? ERR_EXISTS : ERR_STALE);
        return;
    }
    ops_create_open(task);
}

void ops_data_create(fuse_req_t req, fuse_ino_t parent, struct fuse_file_info *fi)
{
    struct task *task = data_task(req, parent, create_known);
    if (task == NULL) {
        return;
    }
    if (mount_is_without_leader(task->mount)) {
        task_fail(task, ERR_NO_LEADER);
        return;
    }
    task->fi = *fi;
    data_start(task);
}

static void emptied(struct task *task, enum err err)
{
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    order_reply(task, ops_reply_ok);
}

static void unlink_known(struct task *task)
{
    if (!has_data(task)) {
        task_fail_in_order(task, ERR_NO_NODE);
        return;
    }
    enum err err = publish_truncate(task->mount, task->inode, 0);
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
        return;
    }
    task->uninterruptible = true; /* EINTR would say that nothing has happened. */
    task_publish(task, emptied);
}

void ops_data_unlink(fuse_req_t req, fuse_ino_t parent)
{
    struct task *task = data_task(req, parent, unlink_known);
    if (task != NULL) {
        data_start(task);
    }
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Between changes.c, which tells what is old, inval.c, which tells the kernel, and the ops, whose
 * answers must wait for that.
 *
 * Invariant 1: held tasks are in the order of their tickets.
 * Invariant 2: no answer waits for the invalidation of a name: the kernel may hold the lock of the
 * directory for just the operation that waits. Names that have not taken effect are overtaken by
 * the epoch, which needs no lock. They stay in the queue all the same: a listing that is under way
 * in the kernel gives its names the new epoch, and only the lock of the directory waits for it.
 */
#include "fs/mount/order.h"

#include <stdlib.h>

#include <utlist.h>

#include "common/check.h"
#include "common/logging.h"
#include "fs/mount/device.h"
#include "fs/mount/inval.h"
#include "fs/mount/task.h"

struct order {
    struct mount *mount;
    struct task *held;    /* by ticket, oldest first */
    uint64_t epoch_names; /* names given when the last epoch was sent */
};

enum err order_new(struct mount *mount, struct order **out)
{
    struct order *order = calloc(1, sizeof *order);
    if (order == NULL) {
        return ERR_MEMORY;
    }
    order->mount = mount;
    *out = order;
    return ERR_OK;
}

void order_free(struct order *order)
{
    CHECK(order == NULL || order->held == NULL);
    free(order);
}

void order_epoch(struct mount *mount)
{
    if (mount->order == NULL || mount->inval == NULL || !mount->names_promised) {
        return; /* Without the epoch no name is cached at all. */
    }
    device_epoch(mount->device);
    mount->order->epoch_names = inval_names_given(mount->inval);
}

/* Names that the kernel may still believe in, though they are old. */
static bool names_are_old(struct order *order)
{
    struct inval *inval = order->mount->inval;
    return inval_names_given(inval) != order->epoch_names && inval_names_wait(inval);
}

void order_reply(struct task *task, void (*reply)(struct task *task))
{
    struct mount *mount = task->mount;
    struct order *order = mount->order;
    if (names_are_old(order)) {
        order_epoch(mount);
    }
    task->ticket = inval_inodes_given(mount->inval);
    if (!mount->reclaiming && inval_inodes_done(mount->inval) >= task->ticket) {
        reply(task);
        return;
    }
    CHECK(task->held == NULL);
    task->held = reply;
    DL_APPEND2(order->held, task, held_previous, held_next);
}

void order_cancel(struct task *task)
{
    if (task->held != NULL) {
        task->held = NULL;
        DL_DELETE2(task->mount->order->held, task, held_previous, held_next);
    }
}

void order_progress(struct mount *mount)
{
    struct order *order = mount->order;
    if (order == NULL || mount->reclaiming || mount->inval == NULL) {
        return; /* Without `inval` nothing is mounted yet, and nothing held. */
    }
    uint64_t done = inval_inodes_done(mount->inval);
    while (order->held != NULL && order->held->ticket <= done) {
        struct task *task = order->held;
        void (*reply)(struct task *) = task->held;
        order_cancel(task);
        if (names_are_old(order)) {
            order_epoch(mount);
        }
        reply(task);
    }
}

void order_name(struct mount *mount, uint64_t parent_nodeid, const void *name, size_t len)
{
    if (mount->inval != NULL && mount->names_promised &&
        inval_name(mount->inval, parent_nodeid, name, len) != ERR_OK) {
        inval_names_drop(mount->inval);
        order_epoch(mount);
    }
}

void order_forgotten(struct mount *mount, uint64_t nodeid)
{
    if (mount->inval != NULL) {
        inval_inode_forget(mount->inval, nodeid);
    }
}

void order_inode(struct mount *mount, uint64_t nodeid, bool attr_only)
{
    if (mount->inval != NULL && inval_inode(mount->inval, nodeid, attr_only) != ERR_OK) {
        /* Old data for ever would be worse than an end with a message. */
        log_error("order", "no_memory", "nodeid=%llu", (unsigned long long)nodeid);
        abort();
    }
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests of the kernel that wait. Made by the ops; ends in a fuse_reply_*.
 *
 * Invariant: a task waits for at most one thing, and whatever it waits for ends it, or the deadline
 * or the signal takes it away there.
 */
#include "fs/mount/task.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "common/check.h"
#include "fs/mount/lock.h"
#include "fs/mount/order.h"

/* Signals such as SIGCHLD and SIGURG also come as INTERRUPT, and many programs know no EINTR of
 * mkdir or open. What is done within this time is not interrupted. */
#define INTERRUPT_GRACE_MS 100u

/* A wait behind somebody else's publish, which may go on for ever, ends this much after timeo: behind
 * the time that the client needs to take a write back. */
#define DEADLINE_SLACK_MS 2500u

static void timer_wake(struct mount *mount)
{
    if (!uv_is_active((uv_handle_t *)&mount->interrupt_timer)) {
        uv_timer_again(&mount->interrupt_timer);
    }
}

/* Within a call of libfuse: only noted here. */
static void on_interrupt(fuse_req_t req, void *arg)
{
    struct task *task = arg;
    (void)req;
    if (task->interrupted_ms == 0) {
        task->interrupted_ms = uv_now(task->mount->loop) + INTERRUPT_GRACE_MS;
        timer_wake(task->mount);
    }
}

struct task *task_new(struct mount *mount, fuse_req_t req, struct inode *inode)
{
    struct task *task = calloc(1, sizeof *task);
    if (task == NULL) {
        (void)fuse_reply_err(req, ENOMEM);
        return NULL;
    }
    task->mount = mount;
    task->req = req;
    task->inode = inode;
    if (inode != NULL) {
        inode_ref(inode);
    }
    DL_APPEND2(mount->tasks, task, previous, next);
    fuse_req_interrupt_func(req, on_interrupt, task);
    return task;
}

void task_end(struct task *task)
{
    struct mount *mount = task->mount;
    CHECK(task->call == NULL && task->held == NULL);
    CHECK(task->fetch.fetch == NULL && task->publish.publish == NULL);
    DL_DELETE2(mount->tasks, task, previous, next);
    if (task->ended != NULL) {
        task->ended(task);
    }
    inode_unref(mount, task->inode);
    inode_unref(mount, task->parent);
    inode_unref(mount, task->to_parent);
    free(task->bytes);
    free(task);
}

int task_errno(enum err err)
{
    return err_errno(err);
}

static void reply_err(struct task *task)
{
    (void)fuse_reply_err(task->req, task_errno(task->err));
    task_end(task);
}

void task_fail(struct task *task, enum err err)
{
    task->err = err;
    reply_err(task);
}

void task_fail_in_order(struct task *task, enum err err)
{
    task->err = err;
    order_reply(task, reply_err);
}

static size_t copy_name(char *to, const char *name)
{
    size_t len = strlen(name);
    CHECK_OP(len, <=, NAME_BYTES_MAX); /* ops_name_fits has been asked. */
    memcpy(to, name, len + 1);
    return len;
}

void task_set_name(struct task *task, const char *name)
{
    task->name_len = copy_name(task->name, name);
}

void task_set_parent(struct task *task, struct inode *parent, const char *name)
{
    task->parent = parent;
    inode_ref(parent);
    task->name_len = copy_name(task->name, name);
}

void task_set_to_parent(struct task *task, struct inode *to_parent, const char *to_name)
{
    task->to_parent = to_parent;
    inode_ref(to_parent);
    task->to_name_len = copy_name(task->to_name, to_name);
}

/* ---- calls ---- */

struct inode *task_take_answer(struct mount *mount, const Wire__Answer *answer, bool make)
{
    struct inode *inode = NULL;
    if (answer->attr != NULL) {
        inode = inode_take(mount, answer->attr, answer->grant, make);
    }
    if (answer->parent_attr != NULL) {
        (void)inode_take(mount, answer->parent_attr, answer->grant, false /* make */);
    }
    if (answer->to_parent_attr != NULL) {
        (void)inode_take(mount, answer->to_parent_attr, answer->grant, false /* make */);
    }
    return inode;
}

static void call_answered(void *arg, enum err err, const Wire__Answer *answer)
{
    struct task *task = arg;
    task->call = NULL;
    task->mark = task->mount->change_count;
    mount_note_outage(task->mount, err);
    task->call_done(task, err, answer);
}

void task_call(struct task *task, Wire__Request *request,
               void (*done)(struct task *task, enum err err, const Wire__Answer *answer))
{
    enum err err = ERR_OK;
    struct call_options options = {.timeout_ms =
                                       task->patient ? 0 : mount_call_timeout_ms(task->mount),
                                   .done = call_answered,
                                   .arg = task};
    task->call_done = done;
    if (request->body_case != WIRE__REQUEST__BODY_OP && !task->patient &&
        mount_is_without_replica(task->mount)) {
        task_fail(task, ERR_TIMEOUT);
        return;
    }
    task->call = client_call(task->mount->client, request, &options, &err);
    if (task->call == NULL) {
        task_fail(task, err);
    }
}

static void barrier_answered(struct task *task, enum err err, const Wire__Answer *answer)
{
    (void)answer;
    if (err != ERR_OK) {
        /* It changes nothing: without a leader it is late, not refused. */
        task_fail(task, err == ERR_NO_LEADER ? ERR_TIMEOUT : err);
        return;
    }
    task->barrier_done(task);
}

void task_barrier(struct task *task, void (*then)(struct task *task))
{
    Wire__SyncRead sync = WIRE__SYNC_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    request.body_case = WIRE__REQUEST__BODY_SYNC;
    request.sync = &sync;
    task->barrier_done = then;
    task_call(task, &request, barrier_answered);
}

/* ---- fetch and publish ---- */

static void fetch_done(struct fetch_waiter *waiter, enum err err)
{
    struct task *task = task_of_fetch(waiter);
    task->mark = task->mount->change_count;
    task->fetch_done(task, err);
}

void task_fetch(struct task *task, void (*done)(struct task *task, enum err err))
{
    task->fetch_done = done;
    task->fetch.done = fetch_done;
    enum err err = mount_is_without_replica(task->mount)
                       ? ERR_TIMEOUT
                       : content_fetch(task->mount, task->inode, &task->fetch);
    if (err != ERR_OK) {
        done(task, err);
    }
}

static struct task *task_of_publish(struct publish_waiter *waiter)
{
    return (struct task *)(void *)((char *)waiter - offsetof(struct task, publish));
}

static void publish_done_for_task(struct publish_waiter *waiter, enum err err)
{
    struct task *task = task_of_publish(waiter);
    task->deadline_ms = 0;
    task->publish_done(task, err);
}

void task_publish(struct task *task, void (*done)(struct task *task, enum err err))
{
    struct mount *mount = task->mount;
    task->publish_done = done;
    task->publish.done = publish_done_for_task;
    if (!mount->options->hard) {
        task->deadline_ms = uv_now(mount->loop) + mount->options->timeo_ms + DEADLINE_SLACK_MS;
        timer_wake(mount);
    }
    if (!publish_now(mount, task->inode, &task->publish)) {
        task->deadline_ms = 0;
        done(task, ERR_OK);
    }
}

/* ---- signals and deadlines ---- */

/* Takes the task away from what it waits for. True: it goes on waiting. */
static bool task_interrupt(struct task *task)
{
    struct mount *mount = task->mount;
    if (task->lock_ticket != 0 && (task->call != NULL || task->gave_up)) {
        task->gave_up = true;
        return true;
    }
    if (task->lock_ticket != 0) {
        lock_give_up(task);
        return true;
    }
    if (task->call != NULL) {
        task->gave_up = true;
        client_cancel(mount->client, task->call);
        return true;
    }
    if (task->held != NULL) {
        return true; /* It is done already: a lock that was taken must not answer EINTR. */
    }
    if (task->uninterruptible) {
        /* Only we can end a close: not later than `soft` would. */
        uint64_t until_ms = uv_now(mount->loop) + mount->options->timeo_ms;
        task->deadline_ms = task->deadline_ms != 0 ? task->deadline_ms : until_ms;
        return true;
    }
    content_fetch_cancel(&task->fetch);
    publish_cancel(&task->publish);
    task_fail(task, ERR_CANCELED);
    return false;
}

/* A large publish may take longer than timeo, as long as it goes on. */
static bool task_goes_on(struct task *task)
{
    struct mount *mount = task->mount;
    uint64_t progress_ms = task->publish.publish != NULL ? publish_progress_ms(task->inode) : 0;
    uint64_t until_ms = progress_ms + mount->options->timeo_ms + DEADLINE_SLACK_MS;
    if (progress_ms == 0 || until_ms <= uv_now(mount->loop)) {
        return false;
    }
    task->deadline_ms = until_ms;
    return true;
}

static void task_time_out(struct task *task)
{
    publish_cancel(&task->publish);
    task_fail(task, ERR_TIMEOUT);
}

static void on_timer(uv_timer_t *timer)
{
    struct mount *mount = timer->data;
    uint64_t now_ms = uv_now(mount->loop);
    struct task *task = NULL;
    struct task *next = NULL;
    bool more = false;
    DL_FOREACH_SAFE2(mount->tasks, task, next, next)
    {
        if (task->interrupted_ms != 0 && task->interrupted_ms <= now_ms) {
            task->interrupted_ms = 0;
            more = (task_interrupt(task) && task->deadline_ms != 0) || more;
        } else if (task->deadline_ms != 0 && task->deadline_ms <= now_ms) {
            if (task_goes_on(task)) {
                more = true;
            } else {
                task_time_out(task);
            }
        } else {
            more = more || task->interrupted_ms != 0 || task->deadline_ms != 0;
        }
    }
    if (!more) {
        CHECK(uv_timer_stop(timer) == 0);
    }
}

void task_init(struct mount *mount)
{
    CHECK(uv_timer_init(mount->loop, &mount->interrupt_timer) == 0);
    mount->interrupt_timer.data = mount;
    /* Started and stopped at once: from here on uv_timer_again starts it. */
    CHECK(uv_timer_start(&mount->interrupt_timer, on_timer, INTERRUPT_GRACE_MS,
                         INTERRUPT_GRACE_MS) == 0);
    CHECK(uv_timer_stop(&mount->interrupt_timer) == 0);
}

void task_fail_all(struct mount *mount)
{
    struct task *task = NULL;
    struct task *next = NULL;
    DL_FOREACH_SAFE2(mount->tasks, task, next, next)
    {
        CHECK(task->call == NULL); /* client_close has ended them. */
        content_fetch_cancel(&task->fetch);
        publish_cancel(&task->publish);
        order_cancel(task);
        task_fail(task, ERR_CLOSED);
    }
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The worker processes: asks the zygote for them, hands them operations of the queue, gives up those
 * that hang. The zygote and the processes themselves are in replayer.c.
 */
#include "fs/mount/replay_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/check.h"
#include "common/logging.h"

#define STUCK_MS      5000u /* of one operation: then the worker is given up */
#define WATCH_TICK_MS 1000u

static void on_worker_closed(uv_handle_t *handle)
{
    struct worker *worker = handle->data;
    struct replay *replay = worker->replay;
    (void)close(worker->fd);
    process_close(&worker->process);
    free(worker);
    replay_handle_closed(replay);
}

/* No more is heard of this worker; the timer sees to another one. */
static void worker_end(struct worker *worker)
{
    struct replay *replay = worker->replay;
    struct replay_op *op = worker->op;
    for (size_t i = 0; i < REPLAY_WORKERS; i++) {
        if (replay->worker[i] == worker) {
            replay->worker[i] = NULL;
        }
    }
    worker->op = NULL;
    uv_close((uv_handle_t *)&worker->poll, on_worker_closed);
    if (op != NULL) {
        replay_answered(replay, op, EIO);
    }
}

static void on_result(uv_poll_t *poll, int status, int events)
{
    struct worker *worker = poll->data;
    struct replay *replay = worker->replay;
    struct replay_result result = {.error = EIO};
    (void)status;
    (void)events;
    ssize_t got = recv(worker->fd, &result, sizeof result, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    struct replay_op *op = worker->op;
    if (got != (ssize_t)sizeof result || op == NULL) {
        worker_end(worker);
        return;
    }
    worker->op = NULL;
    replay_answered(replay, op, result.error);
    replay_workers_start(replay);
}

/* Asks the zygote for a process. */
static void worker_want(struct replay *replay, size_t slot)
{
    int ends[2];
    struct worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        free(worker);
        return;
    }
    if (!replayer_request(replay->control, ends[1]) ||
        uv_poll_init(replay->mount->loop, &worker->poll, ends[0]) != 0) {
        (void)close(ends[0]);
        (void)close(ends[1]);
        free(worker);
        return;
    }
    (void)close(ends[1]);
    worker->replay = replay;
    worker->fd = ends[0];
    worker->process.pidfd = -1;
    worker->poll.data = worker;
    replay->handles++;
    replay->worker[slot] = worker;
    CHECK(uv_poll_start(&worker->poll, UV_READABLE, on_result) == 0);
}

/* The zygote answers in the order in which it was asked; slots are filled in order too. */
static void worker_started(struct replay *replay, pid_t pid)
{
    for (size_t i = 0; i < REPLAY_WORKERS; i++) {
        struct worker *worker = replay->worker[i];
        if (worker != NULL && worker->process.tgid == 0) {
            worker->process = process_open(pid);
            if (worker->process.pidfd < 0) {
                worker_end(worker);
            }
            return;
        }
    }
}

static void worker_exited(struct replay *replay, pid_t pid)
{
    for (size_t i = 0; i < REPLAY_WORKERS; i++) {
        struct worker *worker = replay->worker[i];
        if (worker != NULL && worker->process.tgid == pid) {
            worker_end(worker);
        }
    }
    for (size_t i = 0; i < replay->given_up_count; i++) {
        if (replay->given_up[i] == pid) {
            replay->given_up[i] = replay->given_up[--replay->given_up_count];
            return;
        }
    }
}

/* It hangs in the kernel, behind somebody's lock. Its requests are answered with EIO until it is gone
 * (replay_op_of). */
static void worker_give_up(struct worker *worker)
{
    struct replay *replay = worker->replay;
    log_warn("replay", "worker_stuck", "pid=%d kind=%d", (int)worker->process.tgid,
             (int)worker->op->order.kind);
    if (replay->given_up_count < REPLAY_GIVEN_UP_MAX) {
        replay->given_up[replay->given_up_count++] = worker->process.tgid;
    }
    worker->op->retried = true;
    (void)syscall(SYS_pidfd_send_signal, worker->process.pidfd, SIGKILL, NULL, 0);
    worker_end(worker);
}

static void on_news(uv_poll_t *poll, int status, int events)
{
    struct replay *replay = poll->data;
    struct replay_news news;
    (void)status;
    (void)events;
    ssize_t got = recv(replay->control, &news, sizeof news, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got != (ssize_t)sizeof news) {
        log_error("replay", "zygote_gone", "%s", "no more events are replayed");
        CHECK(uv_poll_stop(poll) == 0);
        return;
    }
    if (news.what == REPLAY_STARTED) {
        worker_started(replay, news.pid);
    } else {
        worker_exited(replay, news.pid);
    }
    replay_workers_start(replay);
}

static void on_timer(uv_timer_t *timer)
{
    struct replay *replay = timer->data;
    uint64_t now_ms = uv_now(replay->mount->loop);
    for (size_t i = 0; i < REPLAY_WORKERS; i++) {
        struct worker *worker = replay->worker[i];
        if (worker != NULL && worker->op != NULL && now_ms - worker->since_ms > STUCK_MS) {
            worker_give_up(worker);
        }
        if (replay->worker[i] == NULL) {
            worker_want(replay, i);
        }
    }
    replay_workers_start(replay);
}

/* Gives each free worker what may start. */
void replay_workers_start(struct replay *replay)
{
    if (replay->device == 0 || replay->is_closing) {
        return;
    }
    for (size_t i = 0; i < REPLAY_WORKERS; i++) {
        struct worker *worker = replay->worker[i];
        if (worker == NULL || worker->process.tgid == 0 || worker->op != NULL) {
            continue;
        }
        struct replay_op *op = replay_next(replay);
        if (op == NULL) {
            return;
        }
        op->running = true;
        worker->op = op;
        worker->since_ms = uv_now(replay->mount->loop);
        if (send(worker->fd, &op->order, sizeof op->order, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
            worker_end(worker);
        }
    }
}

void replay_workers_open(struct replay *replay)
{
    uv_loop_t *loop = replay->mount->loop;
    CHECK(uv_poll_init(loop, &replay->poll, replay->control) == 0);
    replay->poll.data = replay;
    CHECK(uv_poll_start(&replay->poll, UV_READABLE, on_news) == 0);
    CHECK(uv_timer_init(loop, &replay->timer) == 0);
    replay->timer.data = replay;
    CHECK(uv_timer_start(&replay->timer, on_timer, 0, WATCH_TICK_MS) == 0);
    replay->handles = 2;
}

static void on_closed(uv_handle_t *handle)
{
    replay_handle_closed(handle->data);
}

void replay_workers_close(struct replay *replay)
{
    for (size_t i = 0; i < REPLAY_WORKERS; i++) {
        if (replay->worker[i] != NULL) {
            worker_end(replay->worker[i]);
        }
    }
    uv_close((uv_handle_t *)&replay->poll, on_closed);
    uv_close((uv_handle_t *)&replay->timer, on_closed);
}

/* ---- who asks ---- */

bool replay_is_worker(const struct mount *mount, pid_t pid)
{
    const struct replay *replay = mount->replay;
    if (replay == NULL) {
        return false;
    }
    for (size_t i = 0; i < REPLAY_WORKERS; i++) {
        if (replay->worker[i] != NULL && replay->worker[i]->process.tgid == pid) {
            return true;
        }
    }
    for (size_t i = 0; i < replay->given_up_count; i++) {
        if (replay->given_up[i] == pid) {
            return true;
        }
    }
    return false;
}

struct replay_op *replay_op_of(const struct mount *mount, pid_t pid)
{
    const struct replay *replay = mount->replay;
    for (size_t i = 0; i < REPLAY_WORKERS; i++) {
        const struct worker *worker = replay->worker[i];
        if (worker != NULL && worker->process.tgid == pid) {
            return worker->op != NULL && !worker->op->touched ? worker->op : NULL;
        }
    }
    return NULL;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Leads the mount through its stages. Called by main.c in the process that stays; told by the
 * client, the device, signals and timers what happens; joins all other files of this room.
 *
 *   connect ---ready---> root ---found---> mount ---INIT---> serving
 *      |                   |                 |                  | signal: detach
 *      +------ failed -----+-----------------+                  | kernel lets go
 *                          |                                    v
 *                          +-------------> closing <------- draining (publish what is left)
 */
#include "fs/mount/life.h"

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/check.h"
#include "common/logging.h"
#include "fs/mount/changes.h"
#include "fs/mount/device.h"
#include "fs/mount/inode.h"
#include "fs/mount/inval.h"
#include "fs/mount/lock.h"
#include "fs/mount/mount.h"
#include "fs/mount/ops.h"
#include "fs/mount/order.h"
#include "fs/mount/publish.h"
#include "fs/mount/replay.h"
#include "fs/mount/stream.h"
#include "fs/mount/task.h"

#define START_DEADLINE_MS 10000u
#define DETACH_MS         3000u /* what is open after this is cut off */
#define CUT_MS            1000u /* then we go, whatever the kernel says */
#define DRAIN_TICK_MS     20u

enum stage {
    STAGE_CONNECT,
    STAGE_ROOT,
    STAGE_MOUNT,
    STAGE_SERVING,
    STAGE_DETACHING,
    STAGE_DRAINING,
    STAGE_CLOSING,
};

struct life {
    struct mount mount;
    const struct mount_options *options;
    uv_loop_t loop;
    enum stage stage;
    life_told_fn *told; /* NULL: has been told */
    void *told_arg;
    int exit_code;
    uv_timer_t timer; /* deadline of the start, then of the end */
    uint64_t drain_until_ms;
    uv_signal_t signals[2];
    struct buffer error;
};

/* ---- end ---- */

static void close_timer(void *timer)
{
    if (!uv_is_closing(timer)) {
        uv_close(timer, NULL);
    }
}

static void close_rest(void *arg)
{
    struct life *life = arg;
    struct mount *mount = &life->mount;
    inode_free_all(mount);
    order_free(mount->order);
    close_timer(&life->timer);
    close_timer(&mount->append_timer);
    close_timer(&mount->interrupt_timer);
    for (size_t i = 0; i < sizeof life->signals / sizeof life->signals[0]; i++) {
        close_timer(&life->signals[i]);
    }
}

static void close_device(void *arg)
{
    struct life *life = arg;
    if (life->mount.device != NULL) {
        device_close(life->mount.device, close_rest, life);
    } else {
        close_rest(life);
    }
}

static void close_inval(void *arg)
{
    struct life *life = arg;
    struct inval *inval = life->mount.inval;
    life->mount.inval = NULL;
    if (inval != NULL) {
        inval_close(inval, close_device, life);
    } else {
        close_device(life);
    }
}

static void on_client_closed(void *arg)
{
    struct life *life = arg;
    struct mount *mount = &life->mount;
    task_fail_all(mount);
    publish_done(mount);
    mount->client = NULL;
    replay_close(mount, close_inval, life);
}

static void begin_close(struct life *life)
{
    if (life->stage != STAGE_CLOSING) {
        life->stage = STAGE_CLOSING;
        client_close(life->mount.client, on_client_closed, life);
        stream_end_all(&life->mount);
    }
}

/* Gives what is left the chance to be published. */
static void on_drain(uv_timer_t *timer)
{
    struct life *life = timer->data;
    if (!publish_all(&life->mount) || uv_now(&life->loop) >= life->drain_until_ms) {
        CHECK(uv_timer_stop(timer) == 0);
        begin_close(life);
    }
}

static void on_ended(struct mount *mount)
{
    struct life *life = mount->loop->data;
    if (life->stage == STAGE_CLOSING) {
        return; /* The start has failed, and the kernel lets go of what there was. */
    }
    log_info("life", "unmounted", "mountpoint=%s", life->options->mountpoint);
    life->stage = STAGE_DRAINING;
    life->drain_until_ms = uv_now(&life->loop) + life->options->timeo_ms;
    CHECK(uv_timer_start(&life->timer, on_drain, 0, DRAIN_TICK_MS) == 0);
}

/* ---- start ---- */

/* How the start went: an empty text is success, else why there is no mount. */
static void tell(struct life *life, const char *text)
{
    if (life->told != NULL) {
        life->told(life->told_arg, text);
        life->told = NULL;
    }
}

static void fail_start(struct life *life)
{
    const char *text = life->error.len > 0 ? (const char *)life->error.data : "out of memory";
    tell(life, text);
    life->exit_code = 1;
    begin_close(life);
}

/* READY=1 for systemd. */
static void tell_systemd(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = path == NULL ? 0 : strlen(path);
    if (len < 2 || len >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    memcpy(address.sun_path, path, len);
    if (path[0] == '@') {
        address.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        static const char text[] = "READY=1";
        (void)sendto(fd, text, sizeof text - 1, MSG_NOSIGNAL, (struct sockaddr *)&address,
                     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
        (void)close(fd);
    }
}

/* The kernel has answered: programs may come. */
static void on_serving(struct mount *mount)
{
    struct life *life = mount->loop->data;
    if (life->stage != STAGE_MOUNT) {
        return; /* A signal or an error was faster. */
    }
    life->stage = STAGE_SERVING;
    CHECK(uv_timer_stop(&life->timer) == 0);
    log_info("life", "mounted", "mountpoint=%s servers=%s", life->options->mountpoint,
             life->options->servers);
    tell_systemd();
    tell(life, "");
}

static void on_invalidated(void *arg)
{
    order_progress(arg);
    replay_progress(arg);
}

static enum err mount_now(struct life *life)
{
    struct mount *mount = &life->mount;
    life->stage = STAGE_MOUNT;
    enum err err = device_open(mount, &mount->device, &life->error);
    if (err == ERR_OK) {
        err = inval_new(&life->loop, device_session(mount->device), on_invalidated, mount,
                        &mount->inval);
    }
    return err;
}

static void on_root(void *arg, enum err err, const Wire__Answer *answer)
{
    struct life *life = arg;
    struct mount *mount = &life->mount;
    if (life->stage != STAGE_ROOT) {
        return;
    }
    if (err == ERR_OK && (answer->attr == NULL || inode_face(answer->attr) != FACE_DIR)) {
        err = ERR_NOT_DIR;
    }
    if (err != ERR_OK) {
        (void)buffer_printf(&life->error, "cannot mount '%s' of the tree: %s",
                            life->options->subtree, err_text(err));
        fail_start(life);
        return;
    }
    mount->root_ino = answer->attr->ino;
    struct inode *root = inode_take(mount, answer->attr, answer->grant, true /* make */);
    if (root == NULL) {
        fail_start(life);
        return;
    }
    inode_hold(root, FACE_DIR);
    ops_attr_refresh_statfs(mount);
    if (mount_now(life) != ERR_OK) {
        fail_start(life);
    }
}

static void find_root(struct life *life)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__LookupRead lookup = WIRE__LOOKUP_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    struct call_options options = {.timeout_ms = START_DEADLINE_MS, .done = on_root, .arg = life};
    enum err err = ERR_OK;
    life->stage = STAGE_ROOT;
    at.path = wire_bytes(life->options->subtree, strlen(life->options->subtree));
    lookup.at = &at;
    request.body_case = WIRE__REQUEST__BODY_LOOKUP;
    request.lookup = &lookup;
    if (client_call(life->mount.client, &request, &options, &err) == NULL) {
        fail_start(life);
    }
}

static void on_state(void *arg, enum client_state state)
{
    struct life *life = arg;
    switch (state) {
    case CLIENT_READY:
        if (life->stage == STAGE_CONNECT) {
            find_root(life);
        } else if (life->stage < STAGE_CLOSING) {
            changes_attached(&life->mount);
            lock_attached(&life->mount);
        }
        return;
    case CLIENT_LOST:
        log_warn("life", "session_lost", "%s", "");
        changes_detached(&life->mount);
        lock_session_lost(&life->mount);
        return;
    case CLIENT_CONNECTING:
        changes_detached(&life->mount);
        return;
    }
}

static void on_event(void *arg, const Wire__Event *event)
{
    struct life *life = arg;
    if (event->kind == WIRE__EVENT_KIND__EVENT_LOCK_GRANTED) {
        lock_granted(&life->mount, event);
        return;
    }
    changes_event(&life->mount, event);
}

static void on_start_deadline(uv_timer_t *timer)
{
    struct life *life = timer->data;
    (void)buffer_printf(&life->error, "no replica at '%s' answers within %u s",
                        life->options->servers, START_DEADLINE_MS / 1000u);
    fail_start(life);
}

/* ---- signals ---- */

static void on_cut_deadline(uv_timer_t *timer)
{
    struct life *life = timer->data;
    device_cut(life->mount.device);
}

/* Programs still use the mount. */
static void on_detach_deadline(uv_timer_t *timer)
{
    struct life *life = timer->data;
    device_detach(life->mount.device, true /* force */);
    CHECK(uv_timer_start(timer, on_cut_deadline, CUT_MS, 0) == 0);
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct life *life = signal->data;
    log_info("life", "signal", "number=%d", number);
    switch (life->stage) {
    case STAGE_CONNECT:
    case STAGE_ROOT:
        (void)buffer_printf(&life->error, "%s", "interrupted");
        fail_start(life);
        return;
    case STAGE_MOUNT:
    case STAGE_SERVING:
        life->stage = STAGE_DETACHING;
        (void)publish_all(&life->mount);
        device_detach(life->mount.device, false /* force */);
        CHECK(uv_timer_start(&life->timer, on_detach_deadline, DETACH_MS, 0) == 0);
        return;
    case STAGE_DETACHING:
    case STAGE_DRAINING:
    case STAGE_CLOSING:
        return;
    }
}

static void start_signals(struct life *life)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        CHECK(uv_signal_init(&life->loop, &life->signals[i]) == 0);
        life->signals[i].data = life;
        CHECK(uv_signal_start(&life->signals[i], on_signal, numbers[i]) == 0);
    }
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
}

/* ---- run ---- */

/* Each open file that is written through keeps descriptors of its writers. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static enum err start(struct life *life, int replay_fd)
{
    struct mount *mount = &life->mount;
    CHECK(uv_loop_init(&life->loop) == 0);
    life->loop.data = life;
    mount->options = life->options;
    mount->loop = &life->loop;
    mount->ended = on_ended;
    mount->serving = on_serving;
    struct client_options options = {.servers = life->options->servers,
                                     .program = "quorumfs",
                                     .session = true,
                                     .promises = true,
                                     .timeout_ms = life->options->session_timeout_ms,
                                     .event = on_event,
                                     .state = on_state,
                                     .arg = life};
    enum err err = order_new(mount, &mount->order);
    if (err == ERR_OK && replay_fd >= 0) {
        err = replay_open(mount, replay_fd);
    }
    if (err == ERR_OK) {
        err = client_new(&life->loop, &options, &mount->client, &life->error);
    }
    if (err != ERR_OK) {
        return err;
    }
    publish_init(mount);
    task_init(mount);
    start_signals(life);
    CHECK(uv_timer_init(&life->loop, &life->timer) == 0);
    life->timer.data = life;
    CHECK(uv_timer_start(&life->timer, on_start_deadline, START_DEADLINE_MS, 0) == 0);
    return ERR_OK;
}

int life_run(const struct mount_options *options, int replay_fd, life_told_fn *told, void *arg)
{
    static struct life life;
    life.options = options;
    life.told = told;
    life.told_arg = arg;
    raise_descriptor_limit();
    if (start(&life, replay_fd) == ERR_OK) {
        (void)uv_run(&life.loop, UV_RUN_DEFAULT);
        CHECK(uv_loop_close(&life.loop) == 0);
    } else {
        tell(&life, life.error.len > 0 ? (const char *)life.error.data : "out of memory");
        order_free(life.mount.order);
        life.exit_code = 1;
    }
    buffer_done(&life.error);
    return life.exit_code;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumfs: mounts the tree. Reads the command line, goes into the background, and leads the mount
 * through its life:
 *
 *   connect ---ready---> root ---found---> mount ---INIT---> serving
 *      |                   |                 |                  | signal: detach
 *      +------ failed -----+-----------------+                  | kernel lets go
 *                          |                                    v
 *                          +-------------> closing <------- draining (publish what is left)
 *
 * The parent process leaves with 0 only when the mount is being served, else with 1 and a message.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/check.h"
#include "common/logging.h"
#include "fs/mount/changes.h"
#include "fs/mount/device.h"
#include "fs/mount/inode.h"
#include "fs/mount/inval.h"
#include "fs/mount/mount.h"
#include "fs/mount/mount_options.h"
#include "fs/mount/mountpoint.h"
#include "fs/mount/ops.h"
#include "fs/mount/order.h"
#include "fs/mount/publish.h"
#include "fs/mount/task.h"

#define START_DEADLINE_MS 10000u
#define DETACH_MS         3000u /* what is open after this is cut off */
#define CUT_MS            1000u /* then we go, whatever the kernel says */
#define DRAIN_TICK_MS     20u
#define VERSION           "0.1"
#define PARENT_TOLD       "=" /* first byte to the parent: this is no accident */

enum stage {
    STAGE_CONNECT,
    STAGE_ROOT,
    STAGE_MOUNT,
    STAGE_SERVING,
    STAGE_DETACHING,
    STAGE_DRAINING,
    STAGE_CLOSING,
};

struct program {
    struct mount mount;
    struct mount_options options;
    uv_loop_t loop;
    enum stage stage;
    int ready_fd; /* to the parent; -1: none waits */
    int exit_code;
    uv_timer_t timer; /* deadline of the start, then of the end */
    uint64_t drain_until_ms;
    uv_signal_t signals[2];
    struct buffer error;
};

/* ---- the shared functions of mount.h ---- */

uint64_t mount_file_bytes_max(const struct mount *mount)
{
    struct client_status status;
    client_status(mount->client, &status);
    return status.file_bytes_max > 0 ? status.file_bytes_max : FILE_BYTES_MAX;
}

bool mount_is_without_leader(struct mount *mount)
{
    if (!mount->no_leader || mount->options->hard) {
        return false;
    }
    struct client_status status;
    client_status(mount->client, &status);
    mount->no_leader = status.leader == 0;
    return mount->no_leader;
}

/* ---- end ---- */

static void close_timer(void *timer)
{
    if (!uv_is_closing(timer)) {
        uv_close(timer, NULL);
    }
}

static void close_rest(void *arg)
{
    struct program *program = arg;
    struct mount *mount = &program->mount;
    inode_free_all(mount);
    order_free(mount->order);
    close_timer(&program->timer);
    close_timer(&mount->append_timer);
    close_timer(&mount->interrupt_timer);
    for (size_t i = 0; i < sizeof program->signals / sizeof program->signals[0]; i++) {
        close_timer(&program->signals[i]);
    }
}

static void close_device(void *arg)
{
    struct program *program = arg;
    if (program->mount.device != NULL) {
        device_close(program->mount.device, close_rest, program);
    } else {
        close_rest(program);
    }
}

static void on_client_closed(void *arg)
{
    struct program *program = arg;
    struct mount *mount = &program->mount;
    task_fail_all(mount);
    publish_done(mount);
    mount->client = NULL;
    if (mount->inval != NULL) {
        struct inval *inval = mount->inval;
        mount->inval = NULL;
        inval_close(inval, close_device, program);
    } else {
        close_device(program);
    }
}

static void begin_close(struct program *program)
{
    if (program->stage != STAGE_CLOSING) {
        program->stage = STAGE_CLOSING;
        client_close(program->mount.client, on_client_closed, program);
    }
}

/* Gives what is left the chance to be published. */
static void on_drain(uv_timer_t *timer)
{
    struct program *program = timer->data;
    if (!publish_all(&program->mount) || uv_now(&program->loop) >= program->drain_until_ms) {
        CHECK(uv_timer_stop(timer) == 0);
        begin_close(program);
    }
}

static void on_ended(struct mount *mount)
{
    struct program *program = mount->loop->data;
    log_info("main", "unmounted", "mountpoint=%s", program->options.mountpoint);
    program->stage = STAGE_DRAINING;
    program->drain_until_ms = uv_now(&program->loop) + program->options.timeo_ms;
    CHECK(uv_timer_start(&program->timer, on_drain, 0, DRAIN_TICK_MS) == 0);
}

/* ---- start ---- */

/* Sends the parent its message: empty is success, else why there is no mount. */
static void tell_parent(struct program *program, const char *text)
{
    if (program->ready_fd >= 0) {
        (void)!write(program->ready_fd, PARENT_TOLD, 1);
        (void)!write(program->ready_fd, text, strlen(text));
        (void)close(program->ready_fd);
        program->ready_fd = -1;
    } else if (text[0] != '\0') {
        (void)fprintf(stderr, "quorumfs: %s\n", text);
    }
}

static void fail_start(struct program *program)
{
    const char *text = program->error.len > 0 ? (const char *)program->error.data : "out of memory";
    tell_parent(program, text);
    program->exit_code = 1;
    begin_close(program);
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
    struct program *program = mount->loop->data;
    program->stage = STAGE_SERVING;
    CHECK(uv_timer_stop(&program->timer) == 0);
    log_info("main", "mounted", "mountpoint=%s servers=%s", program->options.mountpoint,
             program->options.servers);
    tell_systemd();
    tell_parent(program, "");
}

static void on_invalidated(void *arg)
{
    order_progress(arg);
}

static enum err mount_now(struct program *program)
{
    struct mount *mount = &program->mount;
    program->stage = STAGE_MOUNT;
    enum err err = device_open(mount, &mount->device, &program->error);
    if (err == ERR_OK) {
        err = inval_new(&program->loop, device_session(mount->device), on_invalidated, mount,
                        &mount->inval);
    }
    return err;
}

static void on_root(void *arg, enum err err, const Wire__Answer *answer)
{
    struct program *program = arg;
    struct mount *mount = &program->mount;
    if (program->stage != STAGE_ROOT) {
        return;
    }
    if (err == ERR_OK && (answer->attr == NULL || inode_face(answer->attr) != FACE_DIR)) {
        err = ERR_NOT_DIR;
    }
    if (err != ERR_OK) {
        (void)buffer_printf(&program->error, "cannot mount '%s' of the tree: %s",
                            program->options.subtree, err_text(err));
        fail_start(program);
        return;
    }
    mount->root_ino = answer->attr->ino;
    struct inode *root = inode_take(mount, answer->attr, answer->grant, true /* make */);
    if (root == NULL) {
        fail_start(program);
        return;
    }
    inode_hold(root, FACE_DIR);
    ops_attr_refresh_statfs(mount);
    if (mount_now(program) != ERR_OK) {
        fail_start(program);
    }
}

static void find_root(struct program *program)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__LookupRead lookup = WIRE__LOOKUP_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    struct call_options options = {
        .timeout_ms = START_DEADLINE_MS, .done = on_root, .arg = program};
    enum err err = ERR_OK;
    program->stage = STAGE_ROOT;
    at.path = wire_bytes(program->options.subtree, strlen(program->options.subtree));
    lookup.at = &at;
    request.body_case = WIRE__REQUEST__BODY_LOOKUP;
    request.lookup = &lookup;
    if (client_call(program->mount.client, &request, &options, &err) == NULL) {
        fail_start(program);
    }
}

static void on_state(void *arg, enum client_state state)
{
    struct program *program = arg;
    switch (state) {
    case CLIENT_READY:
        if (program->stage == STAGE_CONNECT) {
            find_root(program);
        } else if (program->stage < STAGE_CLOSING) {
            changes_attached(&program->mount);
        }
        return;
    case CLIENT_LOST:
        log_warn("main", "session_lost", "%s", "");
        changes_detached(&program->mount);
        return;
    case CLIENT_CONNECTING:
        changes_detached(&program->mount);
        return;
    }
}

static void on_event(void *arg, const Wire__Event *event)
{
    struct program *program = arg;
    changes_event(&program->mount, event);
}

static void on_start_deadline(uv_timer_t *timer)
{
    struct program *program = timer->data;
    (void)buffer_printf(&program->error, "no replica at '%s' answers within %u s",
                        program->options.servers, START_DEADLINE_MS / 1000u);
    fail_start(program);
}

/* ---- signals ---- */

static void on_cut_deadline(uv_timer_t *timer)
{
    struct program *program = timer->data;
    device_cut(program->mount.device);
}

/* Programs still use the mount. */
static void on_detach_deadline(uv_timer_t *timer)
{
    struct program *program = timer->data;
    device_detach(program->mount.device, true /* force */);
    CHECK(uv_timer_start(timer, on_cut_deadline, CUT_MS, 0) == 0);
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct program *program = signal->data;
    log_info("main", "signal", "number=%d", number);
    switch (program->stage) {
    case STAGE_CONNECT:
    case STAGE_ROOT:
        (void)buffer_printf(&program->error, "%s", "interrupted");
        fail_start(program);
        return;
    case STAGE_MOUNT:
    case STAGE_SERVING:
        program->stage = STAGE_DETACHING;
        (void)publish_all(&program->mount);
        device_detach(program->mount.device, false /* force */);
        CHECK(uv_timer_start(&program->timer, on_detach_deadline, DETACH_MS, 0) == 0);
        return;
    case STAGE_DETACHING:
    case STAGE_DRAINING:
    case STAGE_CLOSING:
        return;
    }
}

static void start_signals(struct program *program)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        CHECK(uv_signal_init(&program->loop, &program->signals[i]) == 0);
        program->signals[i].data = program;
        CHECK(uv_signal_start(&program->signals[i], on_signal, numbers[i]) == 0);
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

static enum err start(struct program *program)
{
    struct mount *mount = &program->mount;
    CHECK(uv_loop_init(&program->loop) == 0);
    program->loop.data = program;
    mount->options = &program->options;
    mount->loop = &program->loop;
    mount->ended = on_ended;
    mount->serving = on_serving;
    struct client_options options = {.servers = program->options.servers,
                                     .program = "quorumfs",
                                     .session = true,
                                     .promises = true,
                                     .timeout_ms = program->options.session_timeout_ms,
                                     .event = on_event,
                                     .state = on_state,
                                     .arg = program};
    enum err err = order_new(mount, &mount->order);
    if (err == ERR_OK) {
        err = client_new(&program->loop, &options, &mount->client, &program->error);
    }
    if (err != ERR_OK) {
        return err;
    }
    publish_init(mount);
    task_init(mount);
    start_signals(program);
    CHECK(uv_timer_init(&program->loop, &program->timer) == 0);
    program->timer.data = program;
    CHECK(uv_timer_start(&program->timer, on_start_deadline, START_DEADLINE_MS, 0) == 0);
    return ERR_OK;
}

/* The whole life of the mount, in the process that stays. Returns the exit code. */
static int run(struct program *program)
{
    raise_descriptor_limit();
    if (start(program) != ERR_OK) {
        tell_parent(program,
                    program->error.len > 0 ? (const char *)program->error.data : "out of memory");
        return 1;
    }
    (void)uv_run(&program->loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&program->loop) == 0);
    return program->exit_code;
}

/* Standard descriptors of the process that stays: log lines go to the log file, or to a standard
 * error that is a file; a terminal or pipe is let go. */
static bool settle_descriptors(struct program *program)
{
    struct stat stat_buffer;
    const char *log = program->options.log;
    int log_fd = -1;
    if (log != NULL) {
        log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (log_fd < 0) {
            (void)buffer_printf(&program->error, "cannot open log file '%s': %s", log,
                                strerror(errno));
            tell_parent(program, (const char *)program->error.data);
            return false;
        }
        (void)dup2(log_fd, STDERR_FILENO);
        (void)close(log_fd);
    }
    if (program->options.foreground) {
        return true;
    }
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0) {
        return false;
    }
    (void)dup2(null_fd, STDIN_FILENO);
    (void)dup2(null_fd, STDOUT_FILENO);
    if (fstat(STDERR_FILENO, &stat_buffer) != 0 || !S_ISREG(stat_buffer.st_mode)) {
        (void)dup2(null_fd, STDERR_FILENO);
    }
    (void)close(null_fd);
    return true;
}

/* The parent: waits until the child is ready or has failed. */
static int wait_for_child(int fd)
{
    char text[1024];
    size_t len = 0;
    ssize_t got = 0;
    while (len < sizeof text - 1 && (got = read(fd, text + len, sizeof text - 1 - len)) != 0) {
        if (got < 0 && errno != EINTR) {
            break;
        }
        len += got > 0 ? (size_t)got : 0;
    }
    text[len] = '\0';
    if (len > 1) {
        (void)fprintf(stderr, "quorumfs: %s\n", text + 1);
    } else if (len == 0) {
        (void)fprintf(stderr, "quorumfs: the mount process ended unexpectedly\n");
    }
    return len == 1 ? 0 : 1;
}

/* In the child returns -1; else the exit code. */
static int go_to_background(struct program *program)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        (void)fprintf(stderr, "quorumfs: cannot make a pipe: %s\n", strerror(errno));
        return 1;
    }
    pid_t pid = fork();
    if (pid < 0) {
        (void)fprintf(stderr, "quorumfs: cannot fork: %s\n", strerror(errno));
        return 1;
    }
    if (pid > 0) {
        (void)close(ends[1]);
        return wait_for_child(ends[0]);
    }
    (void)close(ends[0]);
    program->ready_fd = ends[1];
    (void)setsid();
    return -1;
}

static int start_and_run(struct program *program)
{
    char *absolute = NULL;
    if (mountpoint_prepare(program->options.mountpoint, &absolute, &program->error) != ERR_OK) {
        (void)fprintf(stderr, "quorumfs: %s\n", (const char *)program->error.data);
        return 1;
    }
    free(program->options.mountpoint);
    program->options.mountpoint = absolute;
    if (!program->options.foreground) {
        int code = go_to_background(program);
        if (code >= 0) {
            return code;
        }
    }
    if (!settle_descriptors(program) || chdir("/") != 0) {
        return 1;
    }
    return run(program);
}

int main(int argc, char **argv)
{
    static struct program program = {.ready_fd = -1};
    int code = 0;
    if (mount_options_parse(argc, argv, geteuid() == 0, &program.options, &program.error) !=
        ERR_OK) {
        (void)fprintf(stderr, "quorumfs: %s. Try 'quorumfs --help'\n",
                      program.error.len > 0 ? (const char *)program.error.data : "out of memory");
        code = 2;
    } else if (program.options.help) {
        (void)fputs(mount_options_help, stdout);
    } else if (program.options.version) {
        (void)puts("quorumfs " VERSION);
    } else {
        if (program.options.debug) {
            logging_set_level(LOG_LEVEL_DEBUG);
        }
        code = start_and_run(&program);
    }
    mount_options_done(&program.options);
    buffer_done(&program.error);
    return code;
}

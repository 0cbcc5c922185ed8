/* SPDX-License-Identifier: Apache-2.0
 *
 * The zygote and its workers. Handed orders by replay.c over sockets; acts on the mount as any
 * program does, and the daemon answers it without changing anything.
 *
 * A replay comes later than the change: meanwhile somebody may have put a link or another file
 * system in its way, and this runs as root. So no path is followed but below the mount point, on its
 * device, without links, and the directory that is reached must be the one that was announced.
 */
#include "fs/mount/replayer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONTROL_FD 3 /* in zygote and workers: the one descriptor beside the standard ones */
#define NS_PER_S   1000000000

/* Of renameat2(2). */
#define FLAG_EXCHANGE (1u << 1)

/* ---- worker ---- */

static int open_beneath(int dir, const char *path, int flags)
{
    const struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                                            RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

/* What is open here is this node of the mount. Else closed. */
static int checked(int fd, dev_t device, uint64_t nodeid)
{
    struct stat found;
    if (fd >= 0 && (fstat(fd, &found) != 0 || found.st_dev != device ||
                    (nodeid != 0 && found.st_ino != nodeid))) {
        (void)close(fd);
        errno = ESTALE;
        return -1;
    }
    return fd;
}

/* The directory of a place, or -1. */
static int open_place(const char *mountpoint, const struct replay_order *order,
                      const struct replay_place *place)
{
    int root = checked(open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC), order->device, 0);
    if (root < 0 || place->path[0] == '\0') {
        return checked(root, order->device, place->nodeid);
    }
    int dir = open_beneath(root, place->path, O_PATH | O_DIRECTORY);
    int error = errno;
    (void)close(root);
    errno = error;
    return checked(dir, order->device, place->nodeid);
}

static struct timespec time_of(int64_t ns)
{
    int64_t rest = ns % NS_PER_S;
    rest = rest < 0 ? rest + NS_PER_S : rest;
    return (struct timespec){.tv_sec = (ns - rest) / NS_PER_S, .tv_nsec = rest};
}

/* Sets times of the node itself, whatever it is: with both it is ATTRIB, with mtime alone MODIFY. */
static int touch(int dir, const struct replay_order *order, bool both)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, time_of(order->mtime_ns)};
    if (both) {
        times[0] = time_of(order->atime_ns);
    }
    int fd = checked(open_beneath(dir, order->at.name, O_PATH | O_NOFOLLOW), order->device,
                     order->nodeid);
    if (fd < 0) {
        return -1;
    }
    int result = utimensat(fd, "", times, AT_EMPTY_PATH);
    int error = errno;
    (void)close(fd);
    errno = error;
    return result;
}

static int do_write(int dir, const struct replay_order *order)
{
    if (order->truncated && touch(dir, order, false /* both */) != 0) {
        return -1;
    }
    /* What can be executed must not be busy for those who do. */
    int fd = (order->mode & 0111u) != 0
                 ? -1
                 : checked(open_beneath(dir, order->at.name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK),
                           order->device, order->nodeid);
    if (fd < 0) {
        return order->truncated ? 0 : touch(dir, order, false /* both */);
    }
    int result = order->truncated && order->size == 0 ? 0 : ftruncate(fd, (off_t)order->size);
    int error = errno;
    (void)close(fd);
    errno = error;
    return result;
}

/* A new file is empty at first, and CLOSE_WRITE would say that it is whole: only what was made with its
 * content at once is opened and closed. */
static int do_create(int dir, const struct replay_order *order)
{
    if (order->size == 0) {
        return mknodat(dir, order->at.name, order->mode, 0);
    }
    int fd = openat(dir, order->at.name,
                    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
                    order->mode & 07777u);
    if (fd < 0) {
        return -1;
    }
    (void)!ftruncate(fd, (off_t)order->size); /* MODIFY */
    return close(fd);
}

static int do_rename(const char *mountpoint, int dir, const struct replay_order *order)
{
    struct stat found;
    int to = open_place(mountpoint, order, &order->to);
    if (to < 0) {
        return -1;
    }
    /* So that the kernel knows the node that moves. */
    (void)fstatat(dir, order->at.name, &found, AT_SYMLINK_NOFOLLOW);
    int result = renameat2(dir, order->at.name, to, order->to.name,
                           order->kind == REPLAY_EXCHANGE ? FLAG_EXCHANGE : 0);
    int error = errno;
    (void)close(to);
    errno = error;
    return result;
}

static int do_in(const char *mountpoint, int dir, const struct replay_order *order)
{
    const char *name = order->at.name;
    switch (order->kind) {
    case REPLAY_WRITE:
        return do_write(dir, order);
    case REPLAY_ATTR:
        return touch(dir, order, true /* both */);
    case REPLAY_CREATE:
        return do_create(dir, order);
    case REPLAY_NODE:
        return mknodat(dir, name, order->mode, order->rdev);
    case REPLAY_DIR:
        return mkdirat(dir, name, order->mode & 07777u);
    case REPLAY_SYMLINK:
        return symlinkat("-", dir, name); /* The daemon knows where it really leads. */
    case REPLAY_UNLINK:
        return unlinkat(dir, name, 0);
    case REPLAY_RMDIR:
        return unlinkat(dir, name, AT_REMOVEDIR);
    case REPLAY_RENAME:
    case REPLAY_EXCHANGE:
        return do_rename(mountpoint, dir, order);
    case REPLAY_NONE:
        break;
    }
    errno = EINVAL;
    return -1;
}

static int work_on(const char *mountpoint, const struct replay_order *order)
{
    int dir = open_place(mountpoint, order, &order->at);
    if (dir < 0) {
        return errno;
    }
    int error = do_in(mountpoint, dir, order) == 0 ? 0 : errno;
    (void)close(dir);
    return error;
}

/* Until the daemon closes its end. Nothing is kept open on the mount between two orders. */
static _Noreturn void worker_run(const char *mountpoint)
{
    static struct replay_order order;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_NAME, "quorumfs-replay");
    (void)umask(0);
    while (recv(CONTROL_FD, &order, sizeof order, 0) == (ssize_t)sizeof order) {
        const struct replay_result result = {.error = work_on(mountpoint, &order)};
        if (send(CONTROL_FD, &result, sizeof result, MSG_NOSIGNAL) < 0) {
            break;
        }
    }
    _exit(0);
}

/* ---- zygote ---- */

/* Receives the end of a worker's socket; -1: the daemon is gone. */
static int receive_end(void)
{
    char byte = 0;
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t got = 0;
    do {
        got = recvmsg(CONTROL_FD, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    int fd = -1;
    if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
    }
    return fd;
}

static void tell(const struct replay_news *news)
{
    (void)send(CONTROL_FD, news, sizeof *news, MSG_NOSIGNAL);
}

static void on_child(int number)
{
    int kept = errno;
    struct replay_news news = {.what = REPLAY_EXITED};
    (void)number;
    while ((news.pid = waitpid(-1, NULL, WNOHANG)) > 0) {
        tell(&news);
    }
    errno = kept;
}

/* Ends of children are told only between requests, so that a start comes before its end. */
static void hold_children(int how)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(how, &set, NULL);
}

static _Noreturn void zygote_run(const char *mountpoint)
{
    int end = -1;
    struct sigaction action = {.sa_handler = on_child};
    (void)sigaction(SIGCHLD, &action, NULL);
    while ((end = receive_end()) >= 0) {
        hold_children(SIG_BLOCK);
        pid_t pid = fork();
        if (pid == 0) {
            (void)dup2(end, CONTROL_FD);
            (void)close(end);
            (void)signal(SIGCHLD, SIG_DFL);
            worker_run(mountpoint);
        }
        (void)close(end);
        const struct replay_news news = {.what = REPLAY_STARTED, .pid = pid > 0 ? pid : 0};
        tell(&news);
        hold_children(SIG_UNBLOCK);
    }
    _exit(0);
}

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) {
        (void)close(fd);
    }
    return done;
}

/* Root of a namespace that knows only this user. */
static bool become_mapped_root(void)
{
    char uids[64];
    char gids[64];
    (void)snprintf(uids, sizeof uids, "0 %u 1", (unsigned)geteuid());
    (void)snprintf(gids, sizeof gids, "0 %u 1", (unsigned)getegid());
    (void)prctl(PR_SET_DUMPABLE, 1);
    return unshare(CLONE_NEWUSER) == 0 && write_file("/proc/self/setgroups", "deny") &&
           write_file("/proc/self/uid_map", uids) && write_file("/proc/self/gid_map", gids);
}

int replayer_start(const char *mountpoint, bool map_root)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return -1;
    }
    pid_t daemon = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        if (ends[1] != CONTROL_FD) {
            (void)dup2(ends[1], CONTROL_FD);
        }
        (void)close_range(CONTROL_FD + 1, ~0u, 0);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)prctl(PR_SET_NAME, "quorumfs-zygote");
        if (getppid() != daemon || chdir("/") != 0 || (map_root && !become_mapped_root())) {
            _exit(1);
        }
        zygote_run(mountpoint);
    }
    (void)close(ends[1]);
    if (pid < 0) {
        (void)close(ends[0]);
        return -1;
    }
    return ends[0];
}

bool replayer_request(int control, int worker_end)
{
    char byte = 0;
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } rights = {.bytes = {0}};
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = rights.bytes,
                             .msg_controllen = sizeof rights.bytes};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &worker_end, sizeof worker_end);
    return sendmsg(control, &message, MSG_NOSIGNAL) == 1;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Asked by handle.c: a FUSE request names the thread that called, a publish is decided by process.
 */
#include "fs/mount/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

static int pidfd_open(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* The beginning of /proc/TID/FILE as a C string; false: no such thread. */
static bool read_proc(pid_t tid, const char *file, char *text, size_t text_bytes)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)tid, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t len = read(fd, text, text_bytes - 1);
    (void)close(fd);
    text[len > 0 ? len : 0] = '\0';
    return len > 0;
}

/* The Tgid line of /proc/TID/status. */
static pid_t read_tgid(pid_t tid)
{
    char text[512];
    if (!read_proc(tid, "status", text, sizeof text)) {
        return 0;
    }
    const char *line = strstr(text, "\nTgid:");
    return line == NULL ? 0 : (pid_t)strtoul(line + sizeof "\nTgid:" - 1, NULL, 10);
}

pid_t process_tgid(pid_t tid)
{
    return tid == 0 ? 0 : read_tgid(tid);
}

struct process process_open(pid_t tid)
{
    struct process process = {.tgid = 0, .pidfd = -1};
    if (tid == 0) {
        return process;
    }
    /* Works only for the leader of a thread group: then no file of /proc is needed. */
    process.pidfd = pidfd_open(tid);
    process.tgid = tid;
    if (process.pidfd < 0) {
        process.tgid = read_tgid(tid);
        process.pidfd = process.tgid == 0 ? -1 : pidfd_open(process.tgid);
    }
    return process;
}

void process_close(struct process *process)
{
    if (process->pidfd >= 0) {
        (void)close(process->pidfd);
    }
    *process = (struct process){.tgid = 0, .pidfd = -1};
}

void process_describe(pid_t tid, const char *host, char *text, size_t text_bytes)
{
    struct utsname names;
    char command[32] = "";
    if (host == NULL) {
        host = uname(&names) == 0 ? names.nodename : "";
    }
    if (tid != 0 && read_proc(tid, "comm", command, sizeof command)) {
        command[strcspn(command, "\n")] = '\0';
    }
    (void)snprintf(text, text_bytes, "%.100s %d %s", host, (int)tid, command);
}

bool process_is_gone(const struct process *process)
{
    if (process->pidfd < 0) {
        return false;
    }
    struct pollfd poll_fd = {.fd = process->pidfd, .events = POLLIN};
    return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLIN) != 0;
}

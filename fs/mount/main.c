/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumfs: mounts the tree. Reads the command line and goes into the background; life.c leads the
 * mount through its life in the process that stays.
 *
 * The parent process leaves with 0 only when the mount is being served, else with 1 and a message.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/logging.h"
#include "common/version.h"
#include "fs/mount/life.h"
#include "fs/mount/mount_options.h"
#include "fs/mount/mountpoint.h"
#include "fs/mount/replayer.h"

#define PARENT_TOLD "=" /* first byte to the parent: this is no accident */

struct program {
    struct mount_options options;
    int ready_fd; /* to the parent; -1: none waits */
    struct buffer error;
};

/* Sends the parent its message: empty is success, else why there is no mount. */
static void tell_parent(void *arg, const char *text)
{
    struct program *program = arg;
    if (program->ready_fd >= 0) {
        (void)!write(program->ready_fd, PARENT_TOLD, 1);
        (void)!write(program->ready_fd, text, strlen(text));
        (void)close(program->ready_fd);
        program->ready_fd = -1;
    } else if (text[0] != '\0') {
        (void)fprintf(stderr, "quorumfs: %s\n", text);
    }
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
    const struct mount_options *options = &program->options;
    int replay_fd = -1;
    if (!options->inotify_off) {
        bool map_root = geteuid() != 0 && options->default_permissions;
        replay_fd = replayer_start(options->mountpoint, map_root);
    }
    return life_run(options, replay_fd, tell_parent, program);
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
        (void)puts("quorumfs " QUORUMFS_VERSION);
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

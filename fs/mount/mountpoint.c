/* SPDX-License-Identifier: Apache-2.0
 *
 * Asked by main.c before and device.c after mounting. Looks at /proc/self/mountinfo, never into a
 * mounted tree: that could wait for ourselves.
 */
#include "fs/mount/mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* What is mounted on a path. */
struct mounted {
    bool found;
    bool ours;
    unsigned minor;
};

/* Undoes the octal escapes of mountinfo, in place. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] != '\0' &&
            from[3] != '\0') {
            *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* One line: ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS... - TYPE SOURCE OPTIONS. */
static void look_at_line(char *line, const char *path, struct mounted *mounted)
{
    char *rest = line;
    char *fields[5] = {NULL};
    for (size_t i = 0; i < 5; i++) {
        fields[i] = strsep(&rest, " ");
        if (rest == NULL) {
            return;
        }
    }
    unescape(fields[4]);
    const char *minor = strchr(fields[2], ':');
    const char *type = strstr(rest, " - ");
    if (strcmp(fields[4], path) == 0 && minor != NULL && type != NULL) {
        mounted->found = true;
        mounted->ours = strncmp(type + 3, "fuse.quorumfs ", 14) == 0;
        mounted->minor = (unsigned)strtoul(minor + 1, NULL, 10);
    }
}

/* The topmost mount on this absolute path. */
static struct mounted look(const char *path)
{
    struct mounted mounted = {.found = false};
    FILE *file = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t capacity = 0;
    if (file == NULL) {
        return mounted;
    }
    while (getline(&line, &capacity, file) > 0) {
        look_at_line(line, path, &mounted);
    }
    free(line);
    (void)fclose(file);
    return mounted;
}

/* The absolute path, found without looking into what is mounted there. */
static char *absolute_path(const char *path)
{
    char *for_parent = strdup(path);
    char *for_name = strdup(path);
    char *result = NULL;
    if (for_parent != NULL && for_name != NULL) {
        char *parent = realpath(dirname(for_parent), NULL);
        const char *name = basename(for_name);
        if (parent != NULL &&
            asprintf(&result, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name) < 0) {
            result = NULL;
        }
        free(parent);
    }
    free(for_parent);
    free(for_name);
    return result;
}

void mountpoint_detach(const char *path, bool force)
{
    int flags = force ? MNT_FORCE | MNT_DETACH : 0;
    if (umount2(path, flags | UMOUNT_NOFOLLOW) == 0 || errno != EPERM) {
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)execlp("fusermount3", "fusermount3", "-u", "-q", force ? "-z" : "-q", "--", path,
                     (char *)NULL);
        _exit(1);
    }
    if (pid > 0) {
        (void)waitpid(pid, NULL, 0);
    }
}

static void detach_dead_mount(const char *path)
{
    struct statvfs found;
    char *absolute = absolute_path(path);
    /* Not by stat: the kernel may still know the attributes of the root. */
    if (absolute != NULL && look(absolute).ours && statvfs(absolute, &found) != 0 &&
        (errno == ENOTCONN || errno == ECONNABORTED)) {
        mountpoint_detach(absolute, true /* force */);
    }
    free(absolute);
}

static bool is_empty(const char *path)
{
    size_t count = 0;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return false;
    }
    while (count <= 2 && readdir(dir) != NULL) {
        count++;
    }
    (void)closedir(dir);
    return count <= 2; /* "." and ".." */
}

enum err mountpoint_prepare(const char *path, char **out, struct buffer *error)
{
    struct stat stat_buffer;
    detach_dead_mount(path);
    char *absolute = realpath(path, NULL);
    if (absolute == NULL || stat(absolute, &stat_buffer) != 0) {
        (void)buffer_printf(error, "cannot use mount point '%s': %s", path, strerror(errno));
    } else if (!S_ISDIR(stat_buffer.st_mode)) {
        (void)buffer_printf(error, "mount point '%s' is not a directory", path);
    } else if (look(absolute).found) {
        (void)buffer_printf(error, "something is already mounted on '%s'", path);
    } else if (!is_empty(absolute)) {
        (void)buffer_printf(error, "mount point '%s' is not an empty directory", path);
    } else {
        *out = absolute;
        return ERR_OK;
    }
    free(absolute);
    return ERR_INVALID;
}

unsigned mountpoint_minor(const char *path)
{
    return look(path).minor;
}

void mountpoint_abort(unsigned minor)
{
    char path[64];
    if (minor == 0) {
        return;
    }
    (void)snprintf(path, sizeof path, "/sys/fs/fuse/connections/%u/abort", minor);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "1", 1);
        (void)close(fd);
    }
}

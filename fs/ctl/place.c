/* SPDX-License-Identifier: Apache-2.0
 *
 * Which ensemble, and which path in its tree: from --mount and from paths of mounted files, by
 * /proc/self/mountinfo. Paths are worked on as text only: a mount whose ensemble is gone must not
 * make us hang.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/path.h"
#include "fs/ctl/ctl.h"

/* The mount that a path lies in. */
struct found {
    struct buffer mountpoint;
    struct buffer source;
};

/* mountinfo writes blanks and backslashes as \040. In place. */
static void unescape_octal(char *text)
{
    char *to = text;

    for (const char *from = text; *from != '\0';) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
            from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
            *to++ = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

static bool lies_in(const char *path, const char *folder)
{
    size_t len = strlen(folder);

    if (strcmp(folder, "/") == 0) {
        return true;
    }
    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* The fields of one line of mountinfo: ID PARENT MAJ:MIN ROOT MOUNTPOINT OPTIONS [...] - TYPE
 * SOURCE OPTIONS. False: not such a line. In place. */
static bool parse_mount(char *line, char **mountpoint, char **type, char **source)
{
    char *rest = line;
    char *word = strsep(&rest, " ");

    *mountpoint = NULL;
    for (int field = 0; word != NULL && strcmp(word, "-") != 0; field++) {
        if (field == 4) {
            *mountpoint = word;
        }
        word = strsep(&rest, " ");
    }
    *type = strsep(&rest, " ");
    *source = strsep(&rest, " ");
    if (*mountpoint == NULL || *source == NULL) {
        return false;
    }
    unescape_octal(*mountpoint);
    unescape_octal(*source);
    return true;
}

/* The mount of any type that holds the path, and whether it is ours: one of another type mounted
 * inside ours hides it. */
static bool find_mount(const char *path, struct found *out)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t size = 0;
    bool ours = false;

    if (file == NULL) {
        return false;
    }
    while (getline(&line, &size, file) > 0) {
        char *mountpoint = NULL;
        char *type = NULL;
        char *source = NULL;
        if (!parse_mount(line, &mountpoint, &type, &source) || !lies_in(path, mountpoint) ||
            strlen(mountpoint) < out->mountpoint.len) {
            continue;
        }
        buffer_clear(&out->mountpoint);
        buffer_clear(&out->source);
        ours = strcmp(type, "fuse.quorumfs") == 0 &&
               buffer_printf(&out->mountpoint, "%s", mountpoint) == ERR_OK &&
               buffer_printf(&out->source, "%s", source) == ERR_OK;
        if (!ours) {
            (void)buffer_printf(&out->mountpoint, "%s", mountpoint);
        }
    }
    free(line);
    (void)fclose(file);
    return ours;
}

/* Appends `path` without empty names, "." and ".."; "/" becomes "". Above the root there is only
 * the root. */
static enum err append_clean(const char *path, struct buffer *out)
{
    while (*path != '\0') {
        size_t len = strcspn(path, "/");
        enum err err = ERR_OK;

        if (len == 2 && strncmp(path, "..", 2) == 0) {
            while (out->len > 0 && out->data[out->len - 1] != '/') {
                out->len--;
            }
            out->len -= out->len > 0 ? 1 : 0;
        } else if (len > 0 && !(len == 1 && path[0] == '.')) {
            err = buffer_append_u8(out, '/');
            err = err == ERR_OK ? buffer_append(out, path, len) : err;
        }
        if (err != ERR_OK) {
            return err;
        }
        path += len + (path[len] == '/' ? 1 : 0);
    }
    return ERR_OK;
}

/* Ends `out` as a C string, "/" for the root. */
static enum err finish(struct buffer *out)
{
    return buffer_printf(out, "%s", out->len == 0 ? "/" : "");
}

/* The absolute path of a file of this host. */
static enum err host_path(const char *path, struct buffer *out)
{
    char folder[PATH_BYTES_MAX];
    enum err err = ERR_OK;

    if (path[0] != '/') {
        if (getcwd(folder, sizeof folder) == NULL) {
            return err_from_errno(errno);
        }
        err = append_clean(folder, out);
    }
    err = err == ERR_OK ? append_clean(path, out) : err;
    return err == ERR_OK ? finish(out) : err;
}

/* Parts the source of a mount, SERVERS[/SUBTREE], as quorumfs does. */
static enum err take_source(struct ctl *ctl, const struct found *found)
{
    const char *source = (const char *)found->source.data;
    const char *last = strrchr(source, ',');
    last = last == NULL ? source : last + 1;
    const char *slash = strncmp(last, "unix:", 5) == 0 ? NULL : strchr(last, '/');
    size_t len = slash != NULL ? (size_t)(slash - source) : strlen(source);

    enum err err = buffer_printf(&ctl->servers_found, "%.*s", (int)len, source);
    if (err == ERR_OK) {
        err = buffer_printf(&ctl->mountpoint, "%s", (const char *)found->mountpoint.data);
    }
    if (err == ERR_OK && slash != NULL) {
        err = append_clean(slash, &ctl->subtree);
    }
    if (err == ERR_OK) {
        ctl->servers = (const char *)ctl->servers_found.data;
    }
    return err;
}

/* Uses the mount that holds `path`, if one of ours does. ERR_INVALID: another one is used. */
static enum err use_mount_of(struct ctl *ctl, const char *path, bool *out_found)
{
    struct found found = {0};
    enum err err = ERR_OK;

    *out_found = find_mount(path, &found);
    if (*out_found && ctl->mountpoint.len == 0) {
        err = take_source(ctl, &found);
    } else if (*out_found && strcmp((const char *)found.mountpoint.data,
                                    (const char *)ctl->mountpoint.data) != 0) {
        err = ERR_INVALID;
    }
    buffer_done(&found.mountpoint);
    buffer_done(&found.source);
    return err;
}

bool ctl_use_mount(struct ctl *ctl, const char *path)
{
    struct buffer absolute = {0};
    bool found = false;
    enum err err = host_path(path, &absolute);

    if (err == ERR_OK) {
        CHECK(absolute.data != NULL);
        err = use_mount_of(ctl, (const char *)absolute.data, &found);
    }
    buffer_done(&absolute);
    buffer_done(&ctl->mountpoint); /* With --mount, paths are those of the tree. */
    buffer_done(&ctl->subtree);
    if (err == ERR_OK && found) {
        ctl->places_known = true;
        return true;
    }
    (void)fprintf(stderr, "quorumctl: no quorumfs is mounted at %s\n", path);
    return false;
}

enum err ctl_path(struct ctl *ctl, const char *argument, struct buffer *out)
{
    struct buffer absolute = {0};
    const char *rest = argument;
    bool found = false;
    enum err err = ERR_OK;

    buffer_clear(out);
    if (!ctl->places_known) {
        err = host_path(argument, &absolute);
        if (err == ERR_OK) {
            CHECK(absolute.data != NULL);
            err = use_mount_of(ctl, (const char *)absolute.data, &found);
        }
    }
    if (err == ERR_OK && found) {
        rest = (const char *)absolute.data + ctl->mountpoint.len;
        err = buffer_append(out, ctl->subtree.data, ctl->subtree.len);
    } else if (err == ERR_OK && argument[0] != '/') {
        err = ERR_BAD_NAME;
    }
    err = err == ERR_OK ? append_clean(rest, out) : err;
    err = err == ERR_OK ? finish(out) : err;
    err = err == ERR_OK ? path_check((const char *)out->data, out->len) : err;
    buffer_done(&absolute);
    return err;
}
